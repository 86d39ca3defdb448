# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has to make room for a server on the GPUs of a host, whether it fits then, and whether the room is there yet."""

from __future__ import annotations

import contextlib
import time
import typing as t
from dataclasses import dataclass, replace

from .._errors import VllmError
from .._gpu.facts import host_facts
from .._gpu.probe import Sampling, host_with, observe
from .._gpu.selection import RESELECT
from .._server import budget, fit as server_fit
from .._server.keys import default_container_name
from .._server.spec import ServerSpec
from .._vllm.architecture import Architecture

Facts = t.Mapping[str, t.Any]
# Between two looks at the memory of the GPUs, in seconds.
INTERVAL = 1.0
# nvidia-smi on a host under load takes seconds; a hung one is left behind.
PROBE_TIMEOUT = 30.0


def look(samples: int = 1, docker_host: str | None = None) -> Facts:
    """The facts about the GPUs of this host, as gpu_facts gives them."""
    return host_facts(observe(host_with(docker_host), timeout=PROBE_TIMEOUT, sampling=Sampling(samples)))


@dataclass(frozen=True)
class Question:
    """What is to be judged: the server, and what is known of its model and of its earlier starts."""

    spec: ServerSpec
    architecture: t.Mapping[str, t.Any] | None = None
    measured: t.Mapping[str, t.Any] | None = None
    host_reserve_mib: float = 8192

    def fit(self, facts: Facts, stopped: t.Collection[str]) -> server_fit.Fit:
        """The verdict once the containers of these names are gone."""
        known = Architecture.from_mapping(self.architecture) if self.architecture else None
        measured = {k: v for k, v in (self.measured or {}).items() if k in server_fit.MEASURED_KEYS}
        back = returning(facts, stopped)
        return server_fit.fit(self.spec, facts, known, back, measured or None, self.host_reserve_mib)


def returning(facts: Facts, containers: t.Collection[str]) -> dict[str, float]:
    """The MiB that come back on each GPU, by uuid, when these containers are gone."""
    found: dict[str, float] = {}
    for gpu in facts.get("gpus") or ():
        held = [p.get("used_memory_mib") for p in gpu.get("processes") or () if _instance_of(p) in containers]
        if any(held):
            found[str(gpu.get("uuid"))] = float(sum(filter(None, held)))
    return found


def _instance_of(process: t.Mapping[str, t.Any]) -> str | None:
    """The container or the unit of a process, by its name; a unit is called after its server."""
    container, server = process.get("container"), process.get("server")
    return container or (default_container_name(server) if server else None)


@dataclass(frozen=True)
class Taker:
    """A server that runs or is about to: its memory is spoken for before it has it."""

    # The name of its instance, as that of a process's container is.
    instance: str
    spec: ServerSpec
    architecture: Architecture | None = None


def promised(facts: Facts, takers: t.Iterable[Taker]) -> Facts:
    """The facts with the memory taken that servers are still going to take on their GPUs: what each asks for, less what
    its processes hold there already."""
    most: dict[tuple[str, str], float] = {}
    servers: dict[str, str] = {}
    for taker in takers:
        servers[taker.instance] = taker.spec.name
        there = _where(taker, facts)
        for uuid, mib in there.items():
            # Of two instances of one server, one takes the place of the other.
            key = (taker.instance, uuid)
            most[key] = max(most.get(key, 0.0), mib)
    for (instance, uuid), mib in most.items():
        facts = {**facts, "gpus": [_with_promise(gpu, uuid, instance, servers[instance], mib) for gpu in facts["gpus"]]}
    return facts


def _where(taker: Taker, facts: Facts) -> dict[str, float]:
    """What a server takes, by uuid. One that chooses again at each start is where its processes are."""
    moved = taker.spec.gpus_at_start.get("at_start") == RESELECT and [*returning(facts, {taker.instance})]
    spec = replace(taker.spec, gpus=tuple(moved)) if moved else taker.spec
    return budget.takes(spec, taker.architecture, facts)


def _with_promise(gpu: Facts, uuid: str, instance: str, server: str, mib: float) -> Facts:
    """The GPU with that much taken on it, or on its MIG device of that uuid, if that is more than is held already."""
    device = next((one for one in (gpu.get("mig") or {}).get("devices") or () if one.get("uuid") == uuid), None)
    if device is not None:
        # Whose memory it is nobody can tell: nvidia-smi lists processes of the whole card.
        total, free = device.get("memory_total_mib"), device.get("memory_free_mib")
        held = 0.0 if total is None or free is None else total - free
        devices = [_less(one, mib - held) if one is device else one for one in gpu["mig"]["devices"]]
        return {**gpu, "mig": {**gpu["mig"], "devices": devices}}
    mine = [one for one in gpu.get("processes") or () if _instance_of(one) == instance]
    is_told = gpu.get("process_memory_mib", 0) is not None and all(
        one.get("used_memory_mib") is not None for one in mine
    )
    # Where the driver does not tell what its processes hold, that may be all of it.
    if gpu.get("uuid") != uuid or not is_told:
        return gpu
    missing = int(mib - returning({"gpus": [gpu]}, {instance}).get(uuid, 0.0))
    if missing <= 0:
        return gpu
    promise = {"container": instance, "server": server, "managed": True, "used_memory_mib": missing, "promised": True}
    return {**_less(gpu, missing), "processes": [*(gpu.get("processes") or ()), {"pid": None, "user": None, **promise}]}


def _less(gpu: Facts, mib: float) -> Facts:
    """A GPU or a device with that much less free, or more. More may be promised than there is: then less than nothing
    is free, until something comes back."""
    free, used, total = (gpu.get(f"memory_{key}_mib") for key in ("free", "used", "total"))
    least = None if free is None else int(free - mib)
    most = least if least is None or total is None else min(least, total)
    return {**gpu, "memory_free_mib": most, "memory_used_mib": None if used is None else max(0, int(used + mib))}


def without(facts: Facts, stopped: t.Collection[str]) -> Facts:
    """The facts once the instances of these names are gone."""
    back = returning(facts, stopped)
    gpus = [
        {
            **_less(gpu, -back.get(str(gpu.get("uuid")), 0.0)),
            "processes": [one for one in gpu.get("processes") or () if _instance_of(one) not in stopped],
        }
        for gpu in facts.get("gpus") or ()
    ]
    return {**facts, "gpus": gpus}


def overlap(one: ServerSpec, other: ServerSpec, facts: Facts) -> bool:
    """Whether two servers may use the same GPU, whichever of its names each has it by."""
    if "none" in (one.gpus, other.gpus):
        return False
    return "all" in (one.gpus, other.gpus) or bool(_uuids(one, facts) & _uuids(other, facts))


def _uuids(spec: ServerSpec, facts: Facts) -> set[str]:
    """The GPUs that a server names, also those that are not on the host."""
    names = {*spec.gpus}
    with contextlib.suppress(VllmError):
        names |= {device.uuid for device in budget.chosen(spec, facts, None)}
    return names


def givers(question: Question, facts: Facts, stopped: t.Collection[str], candidates: t.Sequence[str]) -> list[str]:
    """The fewest of the candidates, by container name, that have to stop for the server to fit; none if that is no use.
    Of those that would do, one that makes it fit well comes first.

    C(stopped) are those that stop anyway.
    """
    if question.fit(facts, stopped).verdict != "refuse":
        return []
    verdicts = {name: question.fit(facts, {*stopped, name}).verdict for name in candidates}
    for good in ("ok", "tight"):
        for name, verdict in verdicts.items():
            if verdict == good:
                return [name]
    together = list(candidates)
    return together if question.fit(facts, {*stopped, *together}).verdict != "refuse" else []


def wait(question: Question, gpus: t.Callable[[], Facts], stopped: t.Collection[str], timeout: float) -> None:
    """Wait until the memory of servers that stopped is back, which takes a GB10 up to a minute.

    Raises:
        VllmError: when it is not back in time; says who holds what.
    """
    deadline = time.monotonic() + timeout
    while True:
        fit = question.fit(gpus(), ())
        if fit.verdict != "refuse":
            return
        if time.monotonic() >= deadline:
            raise VllmError(
                f"GPU memory used by {', '.join(stopped)} was not released within {timeout:g} s of stopping it. "
                f"{' '.join(fit.refusals)}",
                "memory-not-released",
            )
        time.sleep(INTERVAL)
