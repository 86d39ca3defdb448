# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which GPUs of a host the server gets and which the trainer, by UUID. Pure.

They never share one: both fill its memory, and the group over which weights travel has one rank a GPU. Of two GPUs each
gets one. From three on the server gets two, a pair with NVLink where there is one, and the trainer the others.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .._gpu.facts import UNATTRIBUTED_MIB
from .._gpu.selection import Candidate, Wish, refusal, select, whole
from .._gpu.tenants import gib, holders

Facts = t.Mapping[str, t.Any]
REST = "rest"
# From so many usable GPUs on the server gets two.
ROOM_FOR_TWO = 3


@dataclass(frozen=True)
class Wanted:
    """What was asked for. A list names GPUs by UUID or index, a number says how many; None leaves it to us."""

    server: int | tuple[str, ...] | None = None
    trainer: int | tuple[str, ...] | None = None
    # What has to be free on the server's.
    min_free_mib: int = 0
    # The server, whose own memory counts as free, and what the trainer was given before.
    name: str | None = None
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Split:
    """Who gets which GPUs, as UUIDs in the order of their indices."""

    server: tuple[str, ...]
    trainer: tuple[str, ...]


def wanted_gpus(address: str, value: t.Any) -> int | tuple[str, ...] | None:
    """A number of GPUs, or which ones, as a user writes it.

    Raises:
        VllmError: for anything else.
    """
    if value in (None, "", REST):
        return None
    if isinstance(value, (list, tuple)):
        if not value:
            raise VllmError(f"{address} must name at least one GPU, or be left out; got an empty list.")
        return tuple(str(one) for one in value)
    return whole(address, value, 1)


def split(facts: Facts, wanted: Wanted) -> Split:
    """Share the GPUs of a host out.

    Raises:
        VllmError: with what each GPU is refused for, or what was counted, when there are too few for both.
    """
    usable = [gpu for gpu in facts.get("gpus") or () if _why_not(gpu) is None]
    server_fixed = _named(facts, "server_gpus", wanted.server)
    trainer_fixed = _named(facts, "gpus", wanted.trainer)
    both = sorted(set(server_fixed) & set(trainer_fixed))
    if both:
        raise VllmError(f"gpus and server_gpus both name {both[0]}: trainer and server need different GPUs.")
    _refuse_too_few(facts, usable, wanted)
    server = server_fixed or _of_the_server(facts, usable, wanted, trainer_fixed)
    left = [gpu for gpu in usable if gpu["uuid"] not in server]
    trainer = trainer_fixed or _of_the_trainer(facts, left, wanted)
    return Split(_ordered(facts, server), _ordered(facts, trainer))


def _why_not(gpu: Facts) -> str | None:
    return refusal(
        Candidate(gpu, str(gpu.get("uuid")), gpu.get("memory_free_mib"), gpu.get("memory_total_mib")), Wish()
    )


def _refuse_too_few(facts: Facts, usable: t.Sequence[Facts], wanted: Wanted) -> None:
    gpus = facts.get("gpus") or ()
    reasons = [f"{why}." for why in map(_why_not, gpus) if why]
    if not gpus and facts.get("message"):
        reasons = [str(facts["message"])]
    counted = f"{len(usable)} of {len(gpus)} GPUs can be used" if reasons else f"this host has {len(gpus)}"
    if len(usable) < 2:
        raise VllmError(
            " ".join(
                [f"A trainer and its server need one GPU each, different ones, and {counted}.", *reasons]
                + ["Use a host with two GPUs."]
            ),
            "no-free-gpu",
        )
    needed = _count(wanted.server, 1) + _count(wanted.trainer, 1)
    if needed > len(usable):
        raise VllmError(
            f"The server is to get {_count(wanted.server, 1)} and the trainer {_count(wanted.trainer, 1)} GPUs, and "
            + " ".join([f"{counted}.", *reasons, _fewer(wanted)]),
            "no-free-gpu",
        )


def _fewer(wanted: Wanted) -> str:
    if _count(wanted.server, 1) > 1:
        return "Give the server fewer: leave out server_gpus and engine.tensor_parallel_size."
    return "Give the trainer fewer: leave out gpus."


def _count(value: int | tuple[str, ...] | None, default: int) -> int:
    return default if value is None else value if isinstance(value, int) else len(value)


def _named(facts: Facts, address: str, value: int | tuple[str, ...] | None) -> tuple[str, ...]:
    """The UUIDs of GPUs that the user names."""
    if not isinstance(value, tuple):
        return ()
    known = {str(key): gpu for gpu in facts.get("gpus") or () for key in (gpu.get("uuid"), gpu.get("index"))}
    found = []
    for one in value:
        if one not in known:
            there = ", ".join(f"{gpu.get('index')} ({gpu.get('uuid')})" for gpu in facts.get("gpus") or ())
            raise VllmError(f"{address} names GPU {one}, which this host does not have. It has {there or 'none'}.")
        why = _why_not(known[one])
        if why:
            raise VllmError(f"{address} names a GPU that cannot be used. {why}.", "no-free-gpu")
        found.append(str(known[one]["uuid"]))
    if len(set(found)) < len(found):
        raise VllmError(f"{address} names a GPU twice: {', '.join(value)}.")
    return tuple(found)


def _of_the_server(
    facts: Facts, usable: t.Sequence[Facts], wanted: Wanted, others: t.Collection[str]
) -> tuple[str, ...]:
    count = wanted.server if isinstance(wanted.server, int) else None
    free = [gpu for gpu in usable if gpu["uuid"] not in others]
    if count is None:
        left_over = len(usable) - max(_count(wanted.trainer, 1), 1)
        count = 2 if len(usable) >= ROOM_FOR_TWO and left_over >= 2 else 1
    if count > len(free):
        raise VllmError(
            f"The server needs {count} GPUs, and {len(free)} are left next to those of the trainer. Request fewer in "
            "gpus.",
            "no-free-gpu",
        )
    # What a trainer that runs now was given stays its own, as long as there are others.
    spared = [gpu for gpu in free if gpu["uuid"] not in wanted.kept]
    pool = spared if len(spared) >= count else free
    wish = Wish(count, wanted.min_free_mib, "nvlink", False, wanted.name)
    return tuple(select({**facts, "gpus": pool}, wish))


def _of_the_trainer(facts: Facts, left: t.Sequence[Facts], wanted: Wanted) -> tuple[str, ...]:
    """All that is left, or so many of them: those that it had, else a group with fast links."""
    if not isinstance(wanted.trainer, int):
        return tuple(str(gpu["uuid"]) for gpu in left)
    uuids = [str(gpu["uuid"]) for gpu in left]
    if len(wanted.kept) == wanted.trainer and set(wanted.kept) <= set(uuids):
        return wanted.kept
    return tuple(select({**facts, "gpus": left}, Wish(wanted.trainer)))


def _ordered(facts: Facts, uuids: t.Collection[str]) -> tuple[str, ...]:
    return tuple(str(gpu["uuid"]) for gpu in facts.get("gpus") or () if gpu.get("uuid") in uuids)


def held(facts: Facts, server: str) -> list[str]:
    """What a server that was stopped holds of each GPU, and what nobody does whose process is listed; in words."""
    found = []
    for gpu in facts.get("gpus") or ():
        processes = gpu.get("processes") or ()
        own = [process for process in processes if process.get("server") == server]
        known, used = gpu.get("process_memory_mib"), gpu.get("memory_used_mib")
        # Where a process does not tell what it holds, no rest can be told either.
        hidden = 0 if known is None or used is None else used - known
        if own:
            found.append(f"GPU {gpu.get('index')}: {holders(own)}")
        elif hidden > UNATTRIBUTED_MIB:
            found.append(f"GPU {gpu.get('index')}: {gib(hidden)} GiB belong to no process that is listed")
    return found
