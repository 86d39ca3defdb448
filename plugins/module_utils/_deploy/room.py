# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who has to make room for a server on the GPUs of a host, whether it fits then, and whether the room is there yet."""

from __future__ import annotations

import time
import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .._gpu.facts import host_facts
from .._gpu.probe import Sampling, host_with, observe
from .._server import fit as server_fit
from .._server.spec import Gpus, ServerSpec, default_container_name
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


def overlap(one: Gpus, other: Gpus) -> bool:
    """Whether two servers may use the same GPU."""
    if "none" in (one, other):
        return False
    return "all" in (one, other) or bool({*one} & {*other})


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
