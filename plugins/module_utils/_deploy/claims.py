# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which GPUs a wish for some becomes, and who else is about to take memory there.

Two runs that choose at the same time must not choose the same GPU: one looks, chooses and writes down what it chose
under a lock of this host. What it wrote counts as long as its process lives, which may fetch weights for an hour before
there is an instance to be seen; a run that was killed claims nothing.
"""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import dataclass, replace

from .._errors import VllmError
from .._gpu.selection import RESELECT, SAME, Wish, select, wish_of
from .._host import lock
from .._host.processes import born, lives
from .._server.spec import ServerSpec, from_params
from .._vllm.architecture import Architecture, of_files
from .backend import Instance, Seen
from .job import Job
from .ledger import CLAIM, Ledger
from .preflight import snapshot
from .record import recorded_spec
from .room import Taker, promised, without

# The name of the lock, which no server can have.
LOCK = "@gpus"
# Seconds that another run may take for its look at the GPUs; nvidia-smi on a host under load is slow.
PATIENCE = 90.0
# How often the use of the GPUs is sampled before some are chosen.
SAMPLES = 3

Settings = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Looks:
    """How a host is looked at: what there is now, and which instances stop for a server in any case."""

    now: t.Callable[[], Seen]
    leaving: t.Callable[[Seen, ServerSpec], t.Collection[str]]


def granted(
    job: Job, settings: Settings, current: Instance | None, looks: Looks
) -> tuple[dict[str, t.Any], tuple[str, ...]]:
    """The settings with the GPUs that their wish for some becomes; those that the server holds stay its own.

    Raises:
        VllmError: when the wish cannot be granted.
    """
    wish, backend = wish_of(settings["gpus"], settings.get("name") or job.server), job.backend
    if wish.at_start == RESELECT and not backend.looks_at_start:
        raise VllmError(
            "gpus.at_start: reselect needs backend: systemd: a container keeps the GPUs that it was made with.",
            "backend-unsupported",
        )
    bound = {**settings, "gpus_at_start": _at_start(wish)} if backend.looks_at_start else dict(settings)
    chosen = _held(job, wish, current) or _chosen(job, bound, wish, looks)
    return {**bound, "gpus": list(chosen)}, chosen


def _at_start(wish: Wish) -> dict[str, t.Any]:
    """What of a wish matters whenever the server starts: for the same GPUs their memory, else all of it."""
    said = {"min_free_mib": wish.min_free_mib} if wish.min_free_mib else {}
    if wish.at_start == SAME:
        return said
    return {**said, "at_start": wish.at_start, "prefer": wish.prefer, **({"mig": True} if wish.mig else {})}


def _held(job: Job, wish: Wish, current: Instance | None) -> tuple[str, ...]:
    """The GPUs that the server has already, as many as it wants."""
    if current is None or not current.owned or not (current.running or job.params["failure_id"]):
        return ()
    listed = current.intent.get("gpus")
    held = tuple(map(str, listed)) if isinstance(listed, (list, tuple)) else ()
    return held if len(held) == wish.count else ()


def _chosen(job: Job, settings: Settings, wish: Wish, looks: Looks) -> tuple[str, ...]:
    spec, ledger = from_params({**settings, "gpus": "all"}), job.backend.ledger
    with contextlib.ExitStack() as locked:
        if job.acts:
            engine = job.params["docker_host"]
            locked.enter_context(
                lock.alone(LOCK, patience=PATIENCE, docker_host=engine, doing="is choosing GPUs on this host")
            )
        claim = {"server": job.server, "process": born(os.getpid()), "wish": _words(wish)}
        mine = ledger.others(CLAIM)[0].get(job.server, {})
        if all(mine.get(key) == value for key, value in claim.items()):
            return tuple(map(str, mine["intent"]["gpus"]))
        others = takers(job, looks.now)
        facts = without(promised(job.host.gpus(SAMPLES), others), looks.leaving(looks.now(), spec))
        chosen = tuple(select(facts, wish))
        if job.acts:
            ledger.write_other(CLAIM, job.server, {**claim, "intent": replace(spec, gpus=chosen).to_dict()})
    return chosen


def takers(job: Job, now: t.Callable[[], Seen]) -> list[Taker]:
    """The servers that other runs are about to start, and those that run."""
    servers = [
        (str(one.get("server")), one["intent"])
        for one in job.backend.ledger.others(CLAIM)[0].values()
        if one.get("server") != job.server and isinstance(one.get("intent"), dict) and _lives(one)
    ]
    # In this order: a run gives up its claim when its server runs.
    servers += [(one.name, dict(one.intent)) for one in now().others if one.running]
    return [taker for name, intent in servers for taker in _taker(name, intent)]


def _taker(name: str, intent: Settings) -> t.Iterator[Taker]:
    spec = recorded_spec(intent)
    if spec is not None and spec.gpus != "none":
        here = snapshot(spec)
        known = of_files(here.config, here.weights_bytes)
        yield Taker(name, spec, Architecture.from_mapping(known) if known else None)


def let_go(ledger: Ledger, server: str) -> None:
    """The run is over: what it made is in the record, or there is nothing. Those of runs that were killed go too."""
    with contextlib.suppress(VllmError):
        for name, one in ledger.others(CLAIM)[0].items():
            if name == server or not _lives(one):
                ledger.drop_other(CLAIM, name)


def _words(wish: Wish) -> dict[str, t.Any]:
    return {"count": wish.count, "min_free_mib": wish.min_free_mib, "prefer": wish.prefer, "mig": wish.mig}


def _lives(claim: t.Mapping[str, t.Any]) -> bool:
    """Whether the run that wrote it still goes on."""
    return lives(str(claim.get("process", "")))
