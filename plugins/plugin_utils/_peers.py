# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which host of a play fetches a model or an image from which other one. Pure.

Hosts that have a model are the heads of chains, and without any the first host is one, which fetches from the source.
The others are dealt to the chains in the order of the play: with few forks, whom a host waits for works before it, or
beside it.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ansible_collections.gpufleet.vllm.plugins.module_utils._models.serving import Place
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain

Model = t.Mapping[str, t.Any]
# As its module describes one.
Image = t.Mapping[str, t.Any]
Wish = tuple[t.Any, ...]
# The entry of C(models) or C(images) in a result.
ITEM = "__model_cache_item"
# What makes two wishes the same, with the defaults of the role.
OF_A_WISH: dict[str, t.Any] = {
    "model": "",
    "revision": "main",
    "format": "auto",
    "custom_code": False,
    "include": (),
    "directory": "",
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
    # What the controller has in directories, and where it passes that on.
    directories: t.Mapping[Wish, Model] = field(default_factory=dict)
    controller: str = ""
    # The names of the images that it is to have, those that it has, and those that it has got or saved for others.
    images: tuple[str, ...] = ()
    has_images: tuple[Image | None, ...] = ()
    got_images: tuple[Image | None, ...] = ()

    @property
    def url(self) -> str:
        """Where it passes on what it has."""
        return Place("", self.address, self.port).url

    def found(self, wish: Wish) -> Model | None:
        """What the host has; of a model in a directory of the controller, only as it is there now."""
        model, given = _of(wish, self.wishes, self.has), self.directories.get(wish)
        return model if not given or (model and model.get("commit") == given["commit"]) else None

    def told(self, wish: Wish) -> Model | None:
        """What a model consists of, by its directory on the controller or by its source."""
        return self.directories.get(wish) or _of(wish, self.wishes, self.asked)

    def image(self, name: str) -> Image | None:
        """What the host has under that name."""
        return _of(name, self.images, self.has_images)

    def got_image(self, name: str) -> Image | None:
        return _of(name, self.images, self.got_images)


def _of(
    wish: t.Any, wishes: t.Sequence[t.Any], found: t.Sequence[t.Mapping[str, t.Any] | None]
) -> t.Mapping[str, t.Any] | None:
    """The first thing that was found for a wish; both lists are in one order."""
    return next((one for wanted, one in zip(wishes, found) if wanted == wish and one), None)


def wish_of(item: t.Mapping[str, t.Any]) -> Wish | None:
    """A wish that compares, of an entry of C(model_cache.models); None for one that is to be removed."""
    if item.get("state") == "absent":
        return None
    values = (item.get(key) or default for key, default in OF_A_WISH.items())
    return tuple(tuple(value) if isinstance(value, (list, tuple)) else value for value in values)


def host_of(name: str, told: t.Mapping[str, t.Any]) -> Host:
    """A host by its variables, as role C(model_cache) sets them."""
    here = told["__model_cache_here"]
    controller = plain(told.get("__model_cache_controller") or {})
    given = {wish_of(one): one for one in controller.get("models") or ()}
    looked, asked = _results(told.get("__model_cache_looked")), _results(told.get("__model_cache_asked"))
    seen, got = _results(told.get("__model_cache_images_looked")), _results(told.get("__model_cache_images_had"))
    return Host(
        name,
        str(here["address"]),
        int(here["port"]),
        str(told.get("__model_cache_token") or ""),
        tuple(wish_of(one.get(ITEM) or {}) for one in looked),
        tuple(one.get("model") for one in looked),
        tuple(one.get("model") for one in asked),
        {wish: model for wish, model in given.items() if wish},
        str(controller.get("url") or ""),
        tuple(str(one.get(ITEM)) for one in seen),
        tuple(one.get("image") for one in seen),
        tuple(one.get("image") for one in got),
    )


def _results(registered: t.Any) -> list[t.Mapping[str, t.Any]]:
    return list(plain((registered or {}).get("results") or ()))


def chains(hosts: t.Sequence[Host], wish: Wish, updates: bool) -> list[list[Host]]:
    """The hosts that want a model, each after the one that it fetches from.

    With C(updates) nobody's copy counts: the source is asked where the branch is now.
    """
    wanting = [host for host in hosts if wish in host.wishes and host.address]
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
    # Who passes nothing on is alone.
    mine = next((chain for chain in all_chains if me in chain), [me])
    head, place = mine[0], mine.index(me)
    others = [chain[0].url for chain in all_chains if chain is not mine] if place else []
    is_given = bool(wish[-1])
    others += [me.controller] if is_given and me.controller else []
    found = None if updates and not is_given else head.found(wish)
    model = found or head.told(wish) or {}
    peer = {
        "address": me.address,
        "port": me.port,
        "token": me.token,
        "head": "the controller" if is_given else head.name,
        "sources": [host.url for host in reversed(mine[:place])] + others,
        "commit": model.get("commit"),
        "files": model.get("files") or [],
        "left_out_bytes": model.get("left_out_bytes") or 0,
    }
    return {"asks": not place and not found and not is_given and bool(me.address), "peer": peer}


def image_peers_of(hosts: t.Sequence[Host], name: str, updates: bool = False) -> list[dict[str, t.Any]]:
    """For each image of a host, in order: whether it is the C(first) to have it or C(fetches) it, and C(peer).

    One host writes the archive that the others pass on: one that has the image, or else the first, which pulls it. With
    C(updates) that is always the first, and who has something else than it gets after that fetches it.
    """
    me = next(host for host in hosts if host.name == name)
    return [_image_answer(hosts, me, image, updates) for image in me.images]


def _image_answer(hosts: t.Sequence[Host], me: Host, image: str, updates: bool) -> dict[str, t.Any]:
    wanting = [host for host in hosts if image in host.images]
    head = next((host for host in wanting if host.image(image) and not updates), wanting[0])
    got = head.got_image(image) or {}

    def lacks(host: Host) -> bool:
        has = host.image(image)
        return host is not head and (not has or (updates and _id_of(has) != _id_of(got)))

    chain = [head, *(host for host in wanting if lacks(host))]
    place = chain.index(me) if me in chain else 0
    peer = {
        "address": me.address,
        "port": me.port,
        "token": me.token,
        "head": head.name,
        "sources": [host.url for host in reversed(chain[:place])],
        "image": got if place else {},
        "others": [_id_of(host.image(image)) for host in chain[1:]] if me is head else [],
    }
    return {"first": me is head, "fetches": place > 0, "peer": peer}


def _id_of(image: Image | None) -> str:
    return str((image or {}).get("id") or "")
