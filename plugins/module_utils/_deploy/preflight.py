# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only matters because a server starts: its weights, the room for it, and what its earlier starts measured.

Finding it out takes time, so a run that starts nothing does not come here.
"""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import dataclass, replace

from .._errors import VllmError
from .._server.spec import ServerSpec
from .._vllm.versions import Release
from . import history, room as deploy_room, weights as deploy_weights
from .plan import Observed, Other, rivals

# How vLLM gets its weights by other ways than from files that it reads as they are.
OTHER_LOADERS = ("dummy", "runai_streamer", "runai_streamer_sharded", "tensorizer")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
GIB = 1 << 30


@dataclass(frozen=True)
class Neighbour:
    """Another server of this collection on the host, as far as room is concerned."""

    name: str
    spec: ServerSpec | None


class Start:
    """The start of one server on this host."""

    def __init__(self) -> None:
        self.fit: dict[str, t.Any] | None = None
        # The diagnosis id that the start would fail with, when it is refused.
        self.misfit: str | None = None
        # What earlier starts add to the command line and the environment; never to what was asked for.
        self.engine: dict[str, str] = {}
        self.env: dict[str, str] = {}
        self.doubts: list[str] = []
        self.missing_weights = ""
        self._question: deploy_room.Question | None = None
        self._snapshot = deploy_weights.Snapshot(None, None)
        self._measured: tuple[history.Memory, str, history.Measured] | None = None

    # --- weights ----------------------------------------------------------------------------------------------------

    def weigh(self, spec: ServerSpec, architecture: t.Mapping[str, t.Any] | None) -> list[str]:
        """Look for the weights.

        Returns:
            What is wrong with them, or with the place they would be fetched to.
        """
        # What was found out about other settings of the same run does not count.
        self.fit, self.misfit, self.missing_weights = None, None, ""
        self.doubts = []
        if spec.engine.get("load_format") in OTHER_LOADERS:
            return []
        self._snapshot = found = _snapshot(spec)
        offline = any(str(spec.env.get(key, "")).lower() in ("1", "true", "yes", "on") for key in OFFLINE)
        problems = deploy_weights.problems(found, spec.model_dir or spec.model, offline=offline)
        if problems or found.complete or spec.model_dir or not spec.huggingface_dir or spec.engine.get("download_dir"):
            return problems
        # Other addresses are streamed, and of a GGUF repository one quantization is meant: vLLM knows how.
        if not deploy_weights.HUGGING_FACE_ID.fullmatch(spec.model):
            return []
        self.missing_weights = spec.model
        size = float((architecture or {}).get("weights_gib") or 0)
        short = deploy_weights.disk_problem(spec.huggingface_dir, int(size * GIB), f"The download of {spec.model}")
        return [short] if short else []

    def fetched(self, spec: ServerSpec) -> None:
        """Raises:
        VllmError: when the weights are still not there after they were fetched.
        """
        self._snapshot = found = _snapshot(spec)
        damaged = deploy_weights.problems(found, spec.model)
        if damaged:
            raise VllmError(" ".join(damaged))
        if not found.complete:
            lacks = ", ".join(found.missing[:3]) or "everything"
            raise VllmError(
                f"The weights of {spec.model} were fetched into {spec.huggingface_dir}, and they are not whole there "
                f"(missing: {lacks}). Run it again."
            )

    # --- room -------------------------------------------------------------------------------------------------------

    def examine(
        self, params: t.Mapping[str, t.Any], spec: ServerSpec, observed: Observed, neighbours: t.Sequence[Neighbour]
    ) -> Observed:
        """Judge the memory of the GPUs, once everything is gone that this start stops; adds who has to make room."""
        facts = (
            deploy_room.look()
            if spec.gpus != "none" and (params["fit"] != "off" or params["pin_kv"] != "never")
            else {}
        )
        known = history.Memory(spec.container_name).recall(self._key(spec, observed.image_id, facts))
        self._pin(params, spec, known)
        observed = replace(observed, renew=self._renewal(observed))
        if spec.gpus == "none" or params["fit"] == "off":
            return observed
        reserve = params["host_reserve_gib"] * 1024
        self._question = deploy_room.Question(spec, self._architecture(params["architecture"]), known, reserve)
        observed = self._make_room(spec, observed, neighbours, facts)
        current = observed.instances.get("current")
        # What it holds comes back, also when it was between two starts a moment ago.
        stopped = [spec.container_name] if current else []
        stopped += [one.name for one in rivals(observed)]
        verdict = self._question.fit(facts, stopped)
        self.fit, self.misfit = verdict.to_dict(), None
        if verdict.verdict == "refuse" and params["fit"] == "enforce":
            self.misfit = verdict.cause
            how = "Set fit: warn to start it all the same."
            return replace(observed, problems=(*observed.problems, " ".join([*verdict.refusals, how])))
        if verdict.verdict != "ok":
            self.doubts += verdict.reasons
        return replace(observed, memory_of="" if verdict.verdict == "refuse" else gpus_told(spec))

    def _make_room(
        self, spec: ServerSpec, observed: Observed, neighbours: t.Sequence[Neighbour], facts: deploy_room.Facts
    ) -> Observed:
        current = observed.instances.get("current")
        stopped = {one.name for one in rivals(observed)} | ({spec.container_name} if current else set())
        shares = {one.name for one in neighbours if one.spec and deploy_room.overlap(spec.gpus, one.spec.gpus)}
        others = [one.name for one in observed.others if one.running and not one.conflict and one.name in shares]
        names = deploy_room.givers(t.cast(deploy_room.Question, self._question), facts, stopped, others)
        return replace(observed, others=tuple(_giving(one, names) for one in observed.others))

    def _architecture(self, said: t.Mapping[str, t.Any] | None) -> t.Mapping[str, t.Any] | None:
        """The numbers of the model: those that were said, else those of its own configuration."""
        return said or deploy_weights.architecture(self._snapshot.config, self._snapshot.weights_bytes)

    def wait(self, timeout: float, stopped: t.Collection[str]) -> None:
        if self._question:
            deploy_room.wait(self._question, stopped, timeout)

    # --- what earlier starts measured -------------------------------------------------------------------------------

    def _key(self, spec: ServerSpec, image_id: str | None, facts: deploy_room.Facts) -> str:
        gpus = facts.get("gpus") or ()
        names = [str(gpu.get("name")) for gpu in gpus if spec.gpus == "all" or gpu.get("uuid") in spec.gpus]
        return history.key(spec, image_id, self._snapshot.revision, names)

    def _pin(self, params: t.Mapping[str, t.Any], spec: ServerSpec, known: t.Mapping[str, t.Any] | None) -> None:
        said = {**spec.engine, **spec.engine_unchecked}
        # After a failure the measurement is what may be wrong.
        if params["pin_kv"] != "learned" or params["failure_id"] or any(k.startswith("kv_cache_memory") for k in said):
            return
        release = Release(spec.vllm_version) if spec.vllm_version else None
        size = history.pin(known or {})
        if history.supports_startup_plan(release):
            self.env = {"VLLM_ENABLE_STARTUP_PLAN": "1"}
        elif history.supports_pin(release) and size:
            self.engine = {"kv_cache_memory_bytes": str(size)}

    def _renewal(self, observed: Observed) -> str:
        """Why a stopped server is made anew rather than started as it is."""
        current = observed.instances.get("current")
        if current is None or current.running or not self.engine or current.is_pinned:
            return ""
        return "its first start told how much memory to pin"

    def to_remember(self, spec: ServerSpec, image_id: str | None, log: str) -> str | None:
        """Where to write down what a good start measured; None when it told nothing, or nothing new."""
        measured = history.measured(log)
        if not measured:
            return None
        self._snapshot = _snapshot(spec)
        facts = deploy_room.look() if spec.gpus != "none" else {}
        memory, key = history.Memory(spec.container_name), self._key(spec, image_id, facts)
        if memory.recall(key):
            return None
        self._measured = (memory, key, measured)
        return memory.path

    def remember(self) -> None:
        if self._measured:
            memory, key, measured = self._measured
            memory.remember(key, measured, datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"))


def learned_file(container_name: str) -> str:
    """Where the measurements of a server are remembered."""
    return history.Memory(container_name).path


def gpus_told(spec: ServerSpec) -> str:
    """Whose memory has to come back, in words; nothing without GPUs."""
    if spec.gpus == "none":
        return ""
    return "of all GPUs" if spec.gpus == "all" else f"of {', '.join(spec.gpus)}"


def _giving(other: Other, names: t.Collection[str]) -> Other:
    return replace(other, conflict="the GPUs have no room for both") if other.name in names else other


def _snapshot(spec: ServerSpec) -> deploy_weights.Snapshot:
    revision = spec.engine.get("revision")
    return deploy_weights.find(spec.model_dir or spec.model, spec.huggingface_dir, str(revision) if revision else None)
