# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that is checked before anything stops, because a server is to start, as one value.

Finding it out takes time, so a run that starts nothing does not come here.
"""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field, replace

from .._errors import Problem, VllmError
from .._host.ports import PortOwner
from .._server.check import check, judge
from .._server.spec import ServerSpec, is_named
from .._vllm import measurements
from .._vllm.architecture import of_files
from .._vllm.versions import Release
from . import history, room, weights
from .backend import Instance, Other
from .plan import Observed, Preflight, has_port, rivals
from .record import recorded_spec
from .secrets import Secrets

# How vLLM gets its weights by other ways than from files that it reads as they are.
OTHER_LOADERS = ("dummy", "runai_streamer", "runai_streamer_sharded", "tensorizer")
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
GIB = 1 << 30


@dataclass(frozen=True)
class Limits:
    """How strictly to judge, and what is known beyond the spec, as the user has it."""

    fit: str = "enforce"
    pin_kv: str = "never"
    pull: str = "missing"
    architecture: t.Mapping[str, t.Any] | None = None
    host_reserve_gib: float = 8.0
    replace_others: bool = True
    # The diagnosis id that the server just failed with.
    failure_id: str | None = None
    # What starts on other hosts measured, with C(host) where its name is known, by the keys that this one remembers by.
    learned: t.Mapping[str, t.Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Start:
    """A start that is to be checked, and the ways to look at its host."""

    spec: ServerSpec
    secrets: Secrets
    observed: Observed
    limits: Limits
    # Whether it runs in the end: C(present) may only create it.
    runs: bool
    gpus: t.Callable[[], room.Facts]
    # Who has the port, when that is neither this server nor one whose place it takes.
    port_problem: t.Callable[[], Problem | None]
    # Other servers, whose memory is spoken for before they have it.
    takers: t.Callable[[], t.Sequence[room.Taker]] = lambda: ()
    encodings: t.Sequence[Problem] = ()
    # What the backend cannot do.
    refusals: t.Sequence[Problem] = ()
    # What is odd about it.
    doubts: t.Sequence[str] = ()
    download_conflict: str | None = None
    state_directory: str | None = None


@dataclass(frozen=True)
class Checked:
    """The value that the planner takes, and what has to fit, for the wait until memory is back."""

    preflight: Preflight = field(default_factory=Preflight)
    question: room.Question | None = None


def checked(start: Start) -> Checked:
    """Check a start: its flags, weights, secrets, mounts and port, and when all that is well the memory of the GPUs."""
    found = _without_gpus(start)
    if start.runs and not found.preflight.problems:
        found = _with_room(start, found)
    # Last, and beside all else: no other settings would help.
    in_the_way = _refused(start, start.observed) or start.port_problem()
    problems = (*found.preflight.problems, *([in_the_way] if in_the_way else ()))
    return replace(found, preflight=replace(found.preflight, problems=problems))


def flag_problems(spec: ServerSpec) -> tuple[list[Problem], list[str]]:
    """What the server's version would refuse, and what is odd."""
    faults, doubts = judge(check(spec), spec.validation)
    return [Problem("invalid-flag", fault) for fault in faults], list(doubts)


def _without_gpus(start: Start) -> Checked:
    spec, observed = start.spec, start.observed
    faults, doubts = flag_problems(spec)
    found = check_weights(spec, start.limits.architecture)
    problems = [*faults, *start.secrets.problems, *found.problems, *_mounts(spec), *start.encodings, *start.refusals]
    if found.missing and start.download_conflict:
        problems.append(Problem("unmanaged", start.download_conflict))
    if observed.artifact_id is None and start.limits.pull == "never":
        sentence = f"The image {spec.image} is not on the host, and pull is 'never'. Load it there first."
        problems.append(Problem("image-missing", sentence))
    warnings = (*doubts, *start.secrets.warnings, *start.doubts)
    return Checked(Preflight(tuple(problems), warnings, missing_weights=found.missing))


def _mounts(spec: ServerSpec) -> list[Problem]:
    paths = [one for one in spec.volumes if not is_named(one)]
    wanted = [("volumes mounts", paths, "drop the mount"), ("devices names", spec.devices, "leave it out")]
    return [
        Problem("path-missing", f"{source} does not exist on the host, and {who} it. Create it or {instead}.")
        for who, listed, instead in wanted
        for source in (one.split(":")[0] for one in listed)
        if not os.path.exists(source)
    ]


def _refused(start: Start, observed: Observed) -> Problem | None:
    """Other servers would have to stop, and may not."""
    others = rivals(observed)
    if start.limits.replace_others or not others:
        return None
    reasons = ", ".join(f"{one.name} ({one.conflict})" for one in others)
    return Problem(
        "conflicting-server",
        f"It cannot run together with {reasons}, and replace_others is false. Stop {others[0].name} first "
        "(state: stopped), or let this server take its place.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# Weights
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Weights:
    """What is wrong with the weights or the place for them, and the model that has to be fetched, if any."""

    problems: tuple[Problem, ...] = ()
    missing: str = ""


def check_weights(spec: ServerSpec, architecture: t.Mapping[str, t.Any] | None = None) -> Weights:
    """Look for the weights of a server, and for space where they have to be fetched."""
    if spec.engine.get("load_format") in OTHER_LOADERS or spec.model_in_volume:
        return Weights()
    found = snapshot(spec)
    offline = any(str(spec.env.get(key, "")).lower() in ("1", "true", "yes", "on") for key in OFFLINE)
    faults = weights.problems(found, spec.model_dir or spec.model, offline=offline)
    if faults:
        return Weights(tuple(Problem("weights-incomplete", fault) for fault in faults))
    if found.complete or spec.model_dir or not spec.huggingface_dir or spec.engine.get("download_dir"):
        return Weights()
    # Other addresses are streamed, and of a GGUF repository one quantization is meant: vLLM knows how.
    if not weights.HUGGING_FACE_ID.fullmatch(spec.model):
        return Weights()
    size = float((architecture or {}).get("weights_gib") or 0)
    short = weights.disk_problem(spec.huggingface_dir, int(size * GIB), f"The download of {spec.model}")
    return Weights((Problem("disk-full", short),) if short else (), spec.model)


def check_download(spec: ServerSpec) -> None:
    """Look at weights that were just fetched.

    Raises:
        VllmError: when they are still not there.
    """
    found = snapshot(spec)
    damaged = weights.problems(found, spec.model)
    if damaged:
        raise VllmError(" ".join(damaged), "weights-incomplete")
    if not found.complete:
        lacks = ", ".join(found.missing[:3]) or "everything"
        raise VllmError(
            f"The weights of {spec.model} were fetched into {spec.huggingface_dir}, and they are still incomplete "
            f"(missing: {lacks}). Run it again.",
            "weights-incomplete",
        )


def snapshot(spec: ServerSpec) -> weights.Snapshot:
    """The files of the server's model."""
    revision = spec.engine.get("revision")
    return weights.find(spec.model_dir or spec.model, spec.huggingface_dir, str(revision) if revision else None)


# ---------------------------------------------------------------------------------------------------------------------
# The port
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PortView:
    """What is known of a port: who publishes it, who listens, and which identities are this server's or give way."""

    publishing: t.Collection[str]
    owner: PortOwner | None
    mine: t.Collection[str]
    # What programs are called that listen in place of an instance.
    proxies: tuple[str, ...] = ()


def port_problem(
    spec: ServerSpec, observed: Observed, view: PortView, called: t.Callable[[str], str]
) -> Problem | None:
    """Who holds the port, when that is neither this server nor one whose place it takes."""
    strangers = {*view.publishing} - {*view.mine}
    if strangers:
        return _taken(spec, called(min(strangers)))
    owner = view.owner
    if owner is None or owner.container_id in view.mine or view.publishing:
        return None
    is_anonymous = owner.pid is None or owner.description.startswith(view.proxies)
    if is_anonymous and _listens(spec.port, observed):
        return None
    return _taken(spec, called(owner.container_id) if owner.container_id else owner.description)


def _listens(port: int, observed: Observed) -> bool:
    """Whether a server that may be is made to listen there: without root nothing more is known of a port.

    One that is started again and again publishes its port at one moment, and at the next one it does not.
    """
    current = observed.instances.get("current")
    now = recorded_spec(current.intent) if current and current.running else None
    own = now is not None and now.port == port
    return own or any(one.running and one.conflict == has_port(port) for one in observed.others)


def _taken(spec: ServerSpec, who: str) -> Problem:
    return Problem(
        "port-in-use",
        f"Port {spec.port} is taken by {who}, which is not part of this server. Stop that first, or give this server "
        "another port.",
    )


# ---------------------------------------------------------------------------------------------------------------------
# The memory of the GPUs, and what earlier starts measured
# ---------------------------------------------------------------------------------------------------------------------


def _with_room(start: Start, found: Checked) -> Checked:
    """Judge the memory of the GPUs, once everything is gone that this start stops."""
    spec, limits, observed = start.spec, start.limits, start.observed
    wants_gpus = spec.gpus != "none"
    facts = start.gpus() if wants_gpus and (limits.fit != "off" or limits.pin_kv != "never") else {}
    facts = room.promised(facts, start.takers()) if facts else facts
    here = snapshot(spec)
    memory = history.Memory(spec.container_name, start.state_directory)
    key = _measurement_key(spec, observed.artifact_id, here, facts)
    own = memory.recall(key)
    told = limits.learned.get(key)
    known = own or history.sound(told)
    source = "this host" if own else str(told.get("host") or "another host") if told and known else ""
    preflight = _pinned(start, replace(found.preflight, measured_on=source), known)
    if not wants_gpus or limits.fit == "off":
        return Checked(preflight)
    architecture = limits.architecture or of_files(here.config, here.weights_bytes)
    question = room.Question(spec, architecture, known, limits.host_reserve_gib * 1024)
    return Checked(_judged(start, preflight, question, facts), question)


def _judged(start: Start, preflight: Preflight, question: room.Question, facts: room.Facts) -> Preflight:
    spec, limits, observed = start.spec, start.limits, start.observed
    current = observed.instances.get("current")
    stops = _stops(spec, current, rivals(observed))
    names = room.givers(question, facts, stops, _candidates(spec, observed, facts))
    gives_way = dict.fromkeys(names, "the GPUs have no room for both")
    if gives_way and not limits.replace_others:
        others = tuple(replace(one, conflict=one.conflict or gives_way.get(one.name, "")) for one in observed.others)
        refused = _refused(start, replace(observed, others=others))
        if refused:
            return replace(preflight, problems=(refused,), gives_way=gives_way)
    verdict = question.fit(facts, [*stops, *names])
    preflight = replace(preflight, gives_way=gives_way, fit=verdict.to_dict())
    if verdict.verdict == "refuse" and limits.fit == "enforce":
        sentence = " ".join([*verdict.refusals, "Set fit: warn to start it anyway."])
        return replace(preflight, problems=(Problem("does-not-fit", sentence),), failure_id=verdict.cause)
    doubts = tuple(verdict.reasons) if verdict.verdict != "ok" else ()
    memory_of = "" if verdict.verdict == "refuse" else memory_words(spec)
    return replace(preflight, warnings=(*preflight.warnings, *doubts), memory_of=memory_of)


def _stops(spec: ServerSpec, current: Instance | None, others: t.Iterable[Other]) -> list[str]:
    """Whose memory comes back in any case; also of one that was between two starts a moment ago."""
    return [*([spec.container_name] if current else []), *(one.name for one in others)]


def _candidates(spec: ServerSpec, observed: Observed, facts: room.Facts) -> list[str]:
    """Other servers on the same GPUs that could be stopped to make room."""
    running = (one for one in observed.others if one.running and not one.conflict and one.slot == "current")
    specs = ((one.name, recorded_spec(one.intent)) for one in running)
    return [name for name, theirs in specs if theirs and room.overlap(spec, theirs, facts)]


def memory_words(spec: ServerSpec) -> str:
    """Whose memory has to come back, in words; nothing without GPUs."""
    if spec.gpus == "none":
        return ""
    return "of all GPUs" if spec.gpus == "all" else f"of {', '.join(spec.gpus)}"


def _pinned(start: Start, preflight: Preflight, known: t.Mapping[str, t.Any] | None) -> Preflight:
    """With what earlier starts measured, where the user wants that and says nothing else."""
    spec, limits = start.spec, start.limits
    given = {**spec.engine, **spec.engine_unchecked}
    # After a failure the measurement is what may be wrong.
    if limits.pin_kv != "learned" or limits.failure_id or any(key.startswith("kv_cache_memory") for key in given):
        return preflight
    release = Release(spec.vllm_version) if spec.vllm_version else None
    if history.supports_startup_plan(release):
        return replace(preflight, learned_env={"VLLM_ENABLE_STARTUP_PLAN": "1"})
    size = history.pin(known or {})
    if not history.supports_pin(release) or not size:
        return preflight
    current = start.observed.instances.get("current")
    is_better_new = current is not None and not current.running and not current.is_pinned
    return replace(
        preflight,
        learned_engine={"kv_cache_memory_bytes": str(size)},
        renew="its first start showed how much memory to pin" if is_better_new else "",
    )


def _measurement_key(spec: ServerSpec, artifact_id: str | None, here: weights.Snapshot, facts: room.Facts) -> str:
    """What a measurement is remembered by."""
    return history.key(spec, artifact_id, here.revision, _gpu_names(spec, facts))


def settings_key(spec: ServerSpec, artifact_id: str | None, gpus: t.Callable[[], room.Facts]) -> str:
    """What it depends on what a server compiles. A host that has no weights yet does not know of which revision they
    will be: that is what vLLM itself tells what it compiled apart by."""
    return history.key(spec, artifact_id, None, _gpu_names(spec, gpus() if spec.gpus != "none" else {}))


def _gpu_names(spec: ServerSpec, facts: room.Facts) -> list[str]:
    wanted = {*spec.gpus}
    return [
        str(gpu.get("name"))
        for gpu in facts.get("gpus") or ()
        if spec.gpus == "all" or wanted & {str(gpu.get("uuid")), str(gpu.get("index"))}
    ]


@dataclass(frozen=True)
class Measurement:
    """What a good start measured, and where that is to be remembered."""

    memory: history.Memory
    key: str
    measured: measurements.Measurements

    def remember(self, when: str) -> None:
        """Write it down, with the time (ISO 8601)."""
        self.memory.remember(self.key, self.measured, when)


def measurement(
    spec: ServerSpec,
    artifact_id: str | None,
    log: str,
    gpus: t.Callable[[], room.Facts],
    state_directory: str | None = None,
) -> Measurement | None:
    """What a good start measured; None when its log shows nothing, or nothing better than what is remembered."""
    measured = measurements.measured(log)
    if not measured:
        return None
    facts = gpus() if spec.gpus != "none" else {}
    memory = history.Memory(spec.container_name, state_directory)
    key = _measurement_key(spec, artifact_id, snapshot(spec), facts)
    return Measurement(memory, key, measured) if history.is_better(measured, memory.recall(key)) else None
