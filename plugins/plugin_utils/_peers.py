# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which host of a play fetches a model from which other one. Pure.

Hosts that have a model are the heads of chains, and without any the first host is one, which fetches from the source.
The others are dealt to the chains in the order of the play: with few forks, whom a host waits for works before it, or
beside it.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils._models.serving import Place

Model = t.Mapping[str, t.Any]
Wish = tuple[t.Any, ...]
# What makes two wishes the same, with the defaults of the role.
OF_A_WISH: dict[str, t.Any] = {
    "model": "",
    "revision": "main",
    "format": "auto",
    "custom_code": False,
    "include": (),
}


@dataclass(frozen=True)
class Host:
    """A host that takes part: where it passes on what it has, its wishes in order, and what was found of each.

    None is what was not found, or is to be removed.
    """

    name: str
    address: str
    port: int
    token: str
    wishes: tuple[Wish | None, ...]
    # Whole in the cache of the host, as its module describes a model.
    has: tuple[Model | None, ...]
    # What its source says that the model consists of.
    asked: tuple[Model | None, ...] = ()

    @property
    def url(self) -> str:
        return Place("", self.address, self.port).url

    def found(self, wish: Wish) -> Model | None:
        return self._of(wish, self.has)

    def told(self, wish: Wish) -> Model | None:
        return self._of(wish, self.asked)

    def _of(self, wish: Wish, models: t.Sequence[Model | None]) -> Model | None:
        return next((model for one, model in zip(self.wishes, models) if one == wish and model), None)


def wish_of(item: t.Mapping[str, t.Any]) -> Wish | None:
    """A wish that compares, of an entry of C(model_cache.models); None for one that is to be removed."""
    if item.get("state") == "absent":
        return None
    values = (item.get(key) or default for key, default in OF_A_WISH.items())
    return tuple(tuple(value) if isinstance(value, (list, tuple)) else value for value in values)


def chains(hosts: t.Sequence[Host], wish: Wish, updates: bool) -> list[list[Host]]:
    """The hosts that want a model, each after the one that it fetches from.

    With C(updates) nobody's copy counts: the source is asked where the branch is now.
    """
    wanting = [host for host in hosts if wish in host.wishes]
    heads = [host for host in wanting if host.found(wish) and not updates] or wanting[:1]
    rest = [host for host in wanting if host not in heads]
    return [[head, *rest[number :: len(heads)]] for number, head in enumerate(heads)]


def peers_of(hosts: t.Sequence[Host], name: str, updates: bool = False) -> list[dict[str, t.Any] | None]:
    """For each wish of a host, in order: whether it asks the source, and C(peer) of its module.

    C(sources) begins with the next host of the chain; the others stand in when that one fails. It is empty for a head.
    """
    me = next(host for host in hosts if host.name == name)
    return [_answer(hosts, me, wish, updates) if wish else None for wish in me.wishes]


def _answer(hosts: t.Sequence[Host], me: Host, wish: Wish, updates: bool) -> dict[str, t.Any]:
    all_chains = chains(hosts, wish, updates)
    mine = next(chain for chain in all_chains if me in chain)
    head, place = mine[0], mine.index(me)
    others = [chain[0].url for chain in all_chains if chain is not mine] if place else []
    found = None if updates else head.found(wish)
    model = found or head.told(wish) or {}
    peer = {
        "address": me.address,
        "port": me.port,
        "token": me.token,
        "head": head.name,
        "sources": [host.url for host in reversed(mine[:place])] + others,
        "commit": model.get("commit"),
        "files": model.get("files") or [],
        "left_out_bytes": model.get("left_out_bytes") or 0,
    }
    return {"asks": not place and not found, "peer": peer}
