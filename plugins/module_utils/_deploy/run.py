# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of one server: observe, check, plan, apply, and when a step fails put back what served before.

Knows no backend by name. What only matters when something changes is loaded then: compiling it takes longer than all
the rest of a run that finds everything as it should be.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import typing as t
from dataclasses import dataclass, field, replace

from .._errors import Problem, VllmError
from .._host import lock, ports
from .._server.fallbacks import Fallbacks, FallbacksEnd, Steps
from .._server.spec import SERVER_PARAMETERS, ServerSpec, default_container_name, fingerprint, from_params
from .backend import SUFFIX, Action, Artifact, Backend, Effect, Instance, Making, Other, Seen
from .plan import (
    PURGEABLE,
    STATES,
    Observed,
    Plan,
    Preflight,
    Wanted,
    abandoned,
    kept as kept_servers,
    plan,
    recovery,
)
from .record import UNKNOWN_VERSION, named, paths_in, recorded_spec
from .secrets import Secrets, kept as kept_secrets, secret_paths

if t.TYPE_CHECKING:
    from .preflight import Measurement, PortView
    from .room import Question

PARAMETERS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": list(STATES), "default": "started"},
    "pull": {"type": "str", "choices": ["missing", "always", "never"], "default": "missing"},
    "hf_token": {"type": "str", "no_log": True},
    "api_key": {"type": "str", "no_log": True},
    "replace_unmanaged": {"type": "bool", "default": False},
    "recreate": {"type": "bool", "default": False},
    "all": {"type": "bool", "default": False},
    "purge": {"type": "list", "elements": "str", "choices": list(PURGEABLE), "default": []},
    "docker_host": {"type": "str"},
    "container_id": {"type": "str"},
    "replace_others": {"type": "bool", "default": True},
    "exclusive": {"type": "bool", "default": False},
    "fit": {"type": "str", "choices": ["enforce", "warn", "off"], "default": "enforce"},
    "architecture": {"type": "dict"},
    "host_reserve_gib": {"type": "float", "default": 8.0},
    "memory_timeout": {"type": "int", "default": 120},
    "fallbacks": {"type": "list", "elements": "dict", "default": []},
    "failure_id": {"type": "str"},
    "reset_fallbacks": {"type": "bool", "default": False},
    "pin_kv": {"type": "str", "choices": ["never", "learned"], "default": "never"},
    "health": {"type": "dict"},
}
# The states that need a description of the server.
MAKING_STATES = ("present", "started")
# How often the use of the GPUs is sampled before some are chosen.
SAMPLES = 3

Params = t.Mapping[str, t.Any]
Facts = t.Mapping[str, t.Any]


def look_at_gpus(samples: int = 1) -> Facts:
    """The facts about the GPUs of this host, as gpu_facts gives them."""
    from .room import look

    return look(samples)


@dataclass(frozen=True)
class Host:
    """The host as a run meets it. Tests hand in another one."""

    backends: t.Mapping[str, Backend]
    gpus: t.Callable[..., Facts] = look_at_gpus
    port_owner: t.Callable[[int, str], ports.PortOwner | None] = ports.port_owner
    # Asks a server once whether it is healthy, with the parameters of vllm_health; None where nobody can.
    probe: t.Callable[[Params], dict[str, t.Any]] | None = None
    state_directory: str | None = None
    # For warnings of the module.
    warn: t.Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Job:
    """One server on one host: what was asked for, and who runs it."""

    params: Params
    host: Host
    backend: Backend
    server: str

    @property
    def makes(self) -> bool:
        return self.params["state"] in MAKING_STATES

    def limits(self) -> dict[str, t.Any]:
        keys = ("fit", "pin_kv", "pull", "architecture", "host_reserve_gib", "replace_others", "failure_id")
        return {key: self.params[key] for key in keys}


@dataclass(frozen=True)
class Wish:
    """The server that is wanted, as this host can have it; without a spec where the state needs none."""

    wanted: Wanted
    spec: ServerSpec | None = None
    secrets: Secrets | None = None
    fallbacks: Fallbacks | None = None
    # What a wish for some GPUs became.
    gpus: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Decision:
    """What is to be done, and everything it was decided by."""

    wish: Wish
    observed: Observed
    plan: Plan = field(default_factory=Plan)
    preflight: Preflight = field(default_factory=Preflight)
    question: Question | None = None
    measurement: Measurement | None = None
    # Why settings were passed over, for which there is a fallback.
    stepped: tuple[str, ...] = ()
    # What another role provides.
    needs: tuple[str, ...] = ()
    # Where the server stands when no fallback is left for its failure.
    exhausted: Fallbacks | None = None


def run(params: Params, check_mode: bool, host: Host) -> dict[str, t.Any]:
    """Bring one server to the wanted state, or in check mode say what that would take.

    Raises:
        VllmError: when something stands in the way; then nothing that serves was stopped.
    """
    spec = from_params(_without_wishes(_settings(params))) if params["state"] in MAKING_STATES else None
    backend = next(iter(host.backends.values()))
    proceed = preview if check_mode else carry_out
    try:
        results = [proceed(Job(params, host, backend, server)) for server in _servers(backend, params, spec)]
    except _failures(host) as error:
        raise VllmError(backend.sentence("look at the servers on this host", error), "backend-failed") from None
    return merged(results) if params["all"] else results[0]


def preview(job: Job) -> dict[str, t.Any]:
    """What a run would do. Another role may still provide what is lacking."""
    _refuse_overtaken(job)
    decision = decide(job, lenient=True)
    _warn(job, decision)
    return with_health(job, decision, result(job, decision))


def _warn(job: Job, decision: Decision) -> None:
    for warning in [*decision.stepped, *decision.preflight.warnings] if decision.plan.actions else []:
        job.host.warn(warning)


def carry_out(job: Job) -> dict[str, t.Any]:
    """A run, with the server's lock held, and those of the servers that it stops."""
    token = job.params["container_id"] or ""
    with contextlib.ExitStack() as locks:
        locks.enter_context(lock.alone(job.server, token))
        _refuse_overtaken(job)
        decision = decide(job)
        pulled = pull_newer(job, decision)
        if pulled:
            decision = decide(job)
        others = [target for target in decision.plan.stops if target not in SUFFIX]
        if others:
            for name in others:
                locks.enter_context(lock.alone(name))
            decision = decide(job)
        _warn(job, decision)
        planned = result(job, decision, pulled)
        apply(job, decision)
        job.backend.wait_until_it_answers()
        found = with_health(job, decision, {**planned, "server": described(job, decision)})
        if job.params["state"] == "reverted":
            started = [a.target for a in decision.plan.actions if a.verb in ("start", "start_other")]
            found["restored"] = [described(job, decision, target) for target in started]
        if token:
            lock.release(job.server)
    return found


def _settings(params: Params) -> dict[str, t.Any]:
    return {key: params[key] for key in SERVER_PARAMETERS}


def _without_wishes(settings: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The settings with all GPUs in place of a wish for some, which only a look at the host can grant."""
    return {**settings, "gpus": "all"} if isinstance(settings.get("gpus"), t.Mapping) else dict(settings)


def _servers(backend: Backend, params: Params, spec: ServerSpec | None) -> list[str]:
    """The names of the servers that are meant."""
    if params["all"]:
        return sorted(backend.servers())
    if spec:
        return [spec.container_name]
    if not (params["container_name"] or params["name"]):
        raise VllmError("name is missing: say which server by name or container_name, or set all: true for every one.")
    return [params["container_name"] or default_container_name(params["name"])]


def _failures(host: Host) -> tuple[type[BaseException], ...]:
    return tuple({kind: None for backend in host.backends.values() for kind in backend.failures()})


def _refuse_overtaken(job: Job) -> None:
    """A later step of a run that another run has overtaken must not touch what that one made."""
    expected = job.params["container_id"]
    if not expected:
        return
    found = job.backend.look(job.server).instances.get("current")
    if found is None or found.identity != expected:
        now = "it is gone" if found is None else f"{found.identity[:12]} is there now"
        raise VllmError(
            f"The container {expected[:12]} that this run made for {job.server} was replaced by another run ({now}), "
            "so this one leaves it alone. Look at what the other run does, then deploy again.",
            "overtaken",
        )


# --- deciding ---------------------------------------------------------------------------------------------------------


def decide(job: Job, lenient: bool = False) -> Decision:
    """Look at what is there and decide what to do. Lenient: what another role will provide is no problem.

    Raises:
        VllmError: when the server is not to be started as wanted.
    """
    seen = looked(job)
    if not job.makes:
        return _decide_kept(job, seen)
    decision = _decide_making(job, seen, lenient)
    problems = decision.plan.problems
    if problems:
        several = len(problems) > 1
        text = " ".join(f"({i}) {p.message}" if several else p.message for i, p in enumerate(problems, 1))
        message = f"{job.server} is not started: {text} Nothing was stopped or changed."
        raise VllmError(message, problems[0].reason)
    return decision


def looked(job: Job) -> Seen:
    """What is there; of other servers, those of all backends."""
    seen = job.backend.look(job.server)
    elsewhere = (b.look(job.server).others for b in job.host.backends.values() if b is not job.backend)
    return replace(seen, others=tuple(other for others in (seen.others, *elsewhere) for other in others))


def _decide_making(job: Job, seen: Seen, lenient: bool) -> Decision:
    """With the first fallback that can be tried, when the settings in hand cannot."""
    current = seen.instances.get("current")
    record = current.fallbacks if current and not job.params["reset_fallbacks"] else None
    fallbacks = Fallbacks.of(_settings(job.params), job.params["fallbacks"], record)
    stepped: tuple[str, ...] = ()
    try:
        steps = Steps(fallbacks, job.params["failure_id"])
    except FallbacksEnd as end:
        wish = wished(job, seen, fallbacks)
        return Decision(wish, Observed(seen.instances), exhausted=end.fallbacks)
    while True:
        decision = _decide_with(job, seen, steps.fallbacks, lenient)
        settings = [p.message for p in decision.preflight.problems if p.reason not in NOT_OF_THE_SETTINGS]
        if not settings or not steps.further(decision.preflight.failure_id):
            return replace(decision, stepped=stepped)
        rung = steps.fallbacks.to_dict() or {}
        stepped += (f"{' '.join(settings)} So fallback {rung['rung']} of {rung['rungs']} is used instead.",)


# What no other settings of the server would help against.
NOT_OF_THE_SETTINGS = ("port-in-use", "conflicting-server")


def _decide_with(job: Job, seen: Seen, fallbacks: Fallbacks, lenient: bool) -> Decision:
    wish = wished(job, seen, fallbacks)
    spec, secrets = t.cast(ServerSpec, wish.spec), t.cast(Secrets, wish.secrets)
    artifact = job.backend.artifact(spec)
    spec = with_version(job.backend, spec, artifact, seen.instances.values())
    wish = replace(wish, spec=spec)
    encodings = encodings_problems(spec)
    instances = dict(seen.instances)
    if wish.wanted.failed and "current" in instances:
        # One that is started again and again runs, whatever it did at this very moment.
        instances["current"] = replace(instances["current"], running=True)
    observed = Observed(
        instances,
        artifact_id=artifact.identity if artifact else None,
        missing_directories=tuple(p for p in (spec.huggingface_dir,) if p and not os.path.isdir(p)),
        stale_secrets=secrets.stale,
        others=conflicting(seen.others, spec, job.params["exclusive"]),
        download=seen.download,
    )
    first = Decision(wish, observed, plan(wish.wanted, observed), needs=("encodings",) if encodings else ())
    return _with_preflight(job, first, seen, () if lenient else encodings) if first.plan.starts else first


def _with_preflight(job: Job, first: Decision, seen: Seen, encodings: t.Sequence[Problem]) -> Decision:
    """The decision once all is checked that only matters because a server will start."""
    from .preflight import Limits, Start, checked

    spec, observed = t.cast(ServerSpec, first.wish.spec), first.observed
    found = checked(
        Start(
            spec,
            t.cast(Secrets, first.wish.secrets),
            observed,
            Limits(**job.limits()),
            runs=any(action.verb == "start" for action in first.plan.actions),
            gpus=job.host.gpus,
            port_problem=lambda: port_problem(job, spec, observed),
            encodings=encodings,
            download_conflict=seen.download_conflict,
            state_directory=job.host.state_directory,
        )
    )
    decided = plan(first.wish.wanted, observed, found.preflight)
    return replace(first, plan=decided, preflight=found.preflight, question=found.question)


def wished(job: Job, seen: Seen, fallbacks: Fallbacks) -> Wish:
    """What is wanted, with the fallbacks that this server uses already."""
    params = job.params
    settings, gpus = with_gpus(job, fallbacks.settings, seen.instances.get("current"))
    spec = from_params(settings)
    secrets = Secrets(spec, {"hf_token_file": params["hf_token"], "api_key_file": params["api_key"]})
    wanted = replace(
        _wanted(job),
        fingerprint=fingerprint(spec.to_dict(), secrets.digests),
        intent=spec.to_dict(),
        image=spec.image,
    )
    return Wish(wanted, spec, secrets, fallbacks, gpus)


def _wanted(job: Job) -> Wanted:
    return Wanted(
        state=job.params["state"],
        name=job.server,
        replace_unmanaged=job.params["replace_unmanaged"],
        recreate=job.params["recreate"],
        failed=bool(job.params["failure_id"]),
        backend=job.backend.name,
        purge=tuple(job.params["purge"]),
    )


def with_gpus(
    job: Job, settings: dict[str, t.Any], current: Instance | None
) -> tuple[dict[str, t.Any], tuple[str, ...] | None]:
    """The settings with the GPUs that a wish for some becomes; those that the server holds stay its own."""
    if not isinstance(settings.get("gpus"), t.Mapping):
        return settings, None
    from .._gpu.selection import select, wish_of

    wish = wish_of(settings["gpus"], settings.get("name") or job.server)
    held = tuple(map(str, current.intent.get("gpus") or ())) if current and _has_list(current) else ()
    keeps = current is not None and (current.running or job.params["failure_id"]) and len(held) == wish.count
    chosen = held if keeps else tuple(select(job.host.gpus(SAMPLES), wish))
    return {**settings, "gpus": list(chosen)}, chosen


def _has_list(current: Instance) -> bool:
    return current.owned and isinstance(current.intent.get("gpus"), (list, tuple))


def conflicting(others: t.Iterable[Other], spec: ServerSpec | None, exclusive: bool) -> tuple[Other, ...]:
    """The other servers, with why they cannot run beside one with this spec."""
    return tuple(replace(one, conflict=_conflict(one, spec, exclusive)) for one in others)


def _conflict(other: Other, spec: ServerSpec | None, exclusive: bool) -> str:
    theirs = recorded_spec(other.intent) if spec else None
    if spec is None or theirs is None:
        return ""
    if spec.port == theirs.port and ports.overlaps(spec.bind, theirs.bind):
        return f"it has port {spec.port}"
    return "this host serves one model at a time" if exclusive else ""


def with_version(
    backend: Backend, spec: ServerSpec, artifact: Artifact | None, instances: t.Iterable[Instance]
) -> ServerSpec:
    """The spec with the version that it will run, from what costs least: what was said, what the artifact tells of
    itself, what an earlier run recorded, and only then a look inside."""
    if spec.vllm_version or artifact is None:
        return spec
    recorded = {one.artifact_id: one.vllm_version for one in instances if one.vllm_version}
    version = artifact.vllm_version or recorded.get(artifact.identity) or backend.version(artifact)
    return replace(spec, vllm_version=version) if version not in (None, UNKNOWN_VERSION) else spec


def encodings_problems(spec: ServerSpec) -> list[Problem]:
    """Why the encodings that gpt-oss reads at start-up are not all there, intact."""
    if not spec.encodings_dir or not spec.reads_encodings:
        return []
    from .._vllm import encodings

    sentences = encodings.problems(spec.encodings_dir, encodings.DEFAULT_NAMES)
    return [Problem("encodings-missing", sentence) for sentence in sentences]


def port_problem(job: Job, spec: ServerSpec, observed: Observed) -> Problem | None:
    """Who holds the port, when that is neither this server nor one whose place it takes."""
    from . import preflight

    return preflight.port_problem(spec, observed, _port_view(job, spec, observed), job.backend.called)


def _port_view(job: Job, spec: ServerSpec, observed: Observed) -> PortView:
    from .preflight import PortView

    mine = {one.identity for one in observed.instances.values()}
    mine |= {one.identity for one in observed.others if one.conflict}
    publishing = {one for backend in job.host.backends.values() for one in backend.holders(spec.port, spec.bind)}
    owner = None if publishing - mine else job.host.port_owner(spec.port, spec.bind)
    return PortView(publishing, owner, mine)


def _decide_kept(job: Job, seen: Seen) -> Decision:
    """What there is to keep, to give up or to go back to."""
    state, instances = job.params["state"], seen.instances
    current = instances.get("current")
    old = instances.get("superseded") or current
    reference = recorded_spec(old.intent) if old else None
    observed = Observed(
        instances,
        in_use=in_use(seen.others),
        caches=job.backend.caches(job.server),
        others=conflicting(seen.others, reference, job.params["exclusive"]),
        kept_secrets=kept_secrets(secret_paths(one.intent for one in instances.values())),
        download=seen.download,
    )
    found: Measurement | None = None
    if state == "committed":
        # Those that go with the commit use nothing any more.
        going = {one.name for one in (*kept_servers(observed), *abandoned(observed))}
        observed = replace(observed, in_use=in_use(seen.others, going))
        found = _measurement(job, current, reference)
        observed = replace(observed, to_remember=found.memory.path if found else None)
    if state == "absent":
        observed = replace(observed, learned_file=_learned_file(job))
    wish = Wish(_wanted(job))
    return Decision(wish, observed, plan(wish.wanted, observed), measurement=found)


def _measurement(job: Job, current: Instance | None, reference: ServerSpec | None) -> Measurement | None:
    if current is None or not current.running or reference is None:
        return None
    from .preflight import measurement

    mine = recorded_spec(current.intent) or reference
    log = job.backend.log(job.server)
    return measurement(mine, current.artifact_id, log, job.host.gpus, job.host.state_directory)


def _learned_file(job: Job) -> str | None:
    from .history import Memory

    path = Memory(job.server, job.host.state_directory).path
    return path if os.path.exists(path) else None


def in_use(others: t.Iterable[Other], but: t.Collection[str] = ()) -> frozenset[str]:
    """Paths on the host that the other servers of this collection use, but for those of these names."""
    return frozenset(path for one in others if one.name not in but for path in paths_in(one.intent))


# --- doing ------------------------------------------------------------------------------------------------------------


def making(job: Job, decision: Decision) -> Making:
    """All that a new instance is made from, as things are now."""
    spec = t.cast(ServerSpec, decision.wish.spec)
    secrets, fallbacks, preflight = decision.wish.secrets, decision.wish.fallbacks, decision.preflight
    seen = looked(job)
    # A file that held the secret already is the user's own, and stays when the server goes.
    written = {secrets.files[key] for key in secrets.stale} if secrets else set()
    written |= {path for one in seen.instances.values() for path in one.wrote}
    read = {*spec.secret_files.values()}
    written |= {path for one in seen.others for path in one.wrote if path in read}
    return Making(
        spec,
        decision.wish.wanted.fingerprint,
        wrote=written,
        supersedes=decision.plan.supersedes,
        fallbacks=fallbacks.record if fallbacks else None,
        learned_engine=preflight.learned_engine,
        learned_env=preflight.learned_env,
    )


def effects(job: Job, decision: Decision) -> dict[str, Effect]:
    """Every verb of a plan: what it does, and the command line that does the same."""
    from . import effects as common

    # A pull may show the version, and with it what the server is given.
    now = decision
    by_backend = dict(job.backend.effects(job.server, lambda: making(job, now)))

    def pull(action: Action) -> None:
        nonlocal now
        by_backend["pull"].do(action)
        now = _after_pull(job, now)

    def fetch(action: Action) -> None:
        by_backend["fetch_weights"].do(action)
        _check_download(now)

    stopped = [named(job.server, target) for target in decision.plan.stops]
    return {
        **by_backend,
        **common.on_files(decision.wish.secrets),
        **common.on_memory(decision.question, job.host.gpus, stopped, job.params["memory_timeout"]),
        **common.on_measurements(decision.measurement, job.server),
        "pull": Effect(pull, by_backend["pull"].command),
        "fetch_weights": Effect(fetch, by_backend["fetch_weights"].command),
    }


def _after_pull(job: Job, decision: Decision) -> Decision:
    """The decision with the version that came, if it was not known before.

    Raises:
        VllmError: when that version would refuse the flags.
    """
    from .preflight import flag_problems

    spec = decision.wish.spec
    if spec is None or spec.vllm_version:
        return decision
    spec = with_version(job.backend, spec, job.backend.artifact(spec), looked(job).instances.values())
    faults, _doubts = flag_problems(spec)
    if faults:
        raise VllmError(" ".join(fault.message for fault in faults), "invalid-flag")
    return replace(decision, wish=replace(decision.wish, spec=spec))


def _check_download(decision: Decision) -> None:
    from .preflight import check_download

    if decision.wish.spec:
        check_download(decision.wish.spec)


def apply(job: Job, decision: Decision) -> None:
    """Do what was decided; when a step fails, put back what served before and say so.

    Raises:
        VllmError: names the step, what the backend said, the remedy, and what serves now.
    """
    if not decision.plan.actions:
        return
    before = {one.identity for one in job.backend.look(job.server).instances.values()}
    table = effects(job, decision)
    for action, words in zip(decision.plan.actions, decision.plan.words(job.server)):
        try:
            table[action.verb].do(action)
        except VllmError as error:
            raise VllmError(f"{error} {recover(job, decision, action, before)}", error.reason) from None
        except _failures(job.host) as error:
            problem = _explained(job, decision, words, action.verb, error)
            raise VllmError(f"{problem.message} {recover(job, decision, action, before)}", problem.reason) from None


def _explained(job: Job, decision: Decision, words: str, verb: str, error: BaseException) -> Problem:
    """What failed; a start that finds its port taken names who has it."""
    sentence = job.backend.sentence(words, error)
    taken = "port is already allocated" in sentence or "address already in use" in sentence
    if verb == "start" and taken and decision.wish.spec:
        with contextlib.suppress(*_failures(job.host)):
            others = conflicting(looked(job).others, decision.wish.spec, job.params["exclusive"])
            observed = replace(decision.observed, instances=job.backend.look(job.server).instances, others=others)
            found = port_problem(job, decision.wish.spec, observed)
            return Problem("port-in-use", f"Cannot {words}. {found.message}" if found else sentence)
    return Problem("pull-failed" if verb == "pull" else "backend-failed", sentence)


def recover(job: Job, decision: Decision, failed: Action, before: t.Collection[str]) -> str:
    """After a step failed: nothing half made stays behind, and the servers that were stopped serve again."""
    if not job.makes:
        return "Run it again when that is put right."
    again = "The next run, or state: reverted, will fix this."
    try:
        job.backend.wait_until_it_answers()
        back = _undo(job, decision, failed, before)
        current = job.backend.look(job.server).instances.get("current")
    except VllmError as error:
        return f"Restoring the previous server failed too, so nothing serves now: {error} {again}"
    except _failures(job.host) as error:
        seen = job.backend.sentence("restore the previous server", error)
        return f"Nothing serves now: {seen} {again}"
    return _serving(decision, current, [action.target for action in back.actions if action.verb == "start_other"])


def _serving(decision: Decision, current: Instance | None, others: list[str]) -> str:
    if _serves(decision, current):
        return "The server is running."
    if current and current.running:
        return f"{', '.join(['The previous server', *others])} is running."
    return f"{', '.join(others)} is running." if others else "No server was stopped by this."


def _undo(job: Job, decision: Decision, failed: Action, before: t.Collection[str]) -> Plan:
    seen = looked(job)
    others = conflicting(seen.others, decision.wish.spec, job.params["exclusive"])
    left = Observed(seen.instances, others=others, in_use=in_use(seen.others))
    wanted = Wanted("reverted", job.server, replace_unmanaged=True, backend=job.backend.name)
    back = plan(wanted, recovery(left))
    if not _serves(decision, seen.instances.get("current")):
        _restore_secrets(decision, failed)
    undone = replace(decision, plan=back)
    table = effects(job, undone)
    for action in back.actions:
        table[action.verb].do(action)
    made = job.backend.look(job.server).instances.get("current")
    if made and not made.running and made.identity not in before:
        table["remove"].do(Action("remove", "current"))
    if not job.backend.look(job.server).instances:
        for cache in job.backend.caches(job.server):
            table["remove_cache"].do(Action("remove_cache", cache))
    return back


def _serves(decision: Decision, current: Instance | None) -> bool:
    """Whether the new server runs, though the backend was too slow to say so: it has read its secrets."""
    wanted = decision.wish.wanted.fingerprint
    return current is not None and current.running and current.fingerprint == wanted


def _restore_secrets(decision: Decision, failed: Action) -> None:
    done = decision.plan.actions[: decision.plan.actions.index(failed)]
    for action in done:
        if action.verb == "write_secret" and decision.wish.secrets:
            decision.wish.secrets.restore(action.target)


def pull_newer(job: Job, decision: Decision) -> list[str]:
    """With pull: always, ask the registry first, while everything still serves; tell it only when an image came."""
    spec = decision.wish.spec
    before = job.backend.artifact(spec) if spec and job.params["pull"] == "always" else None
    if spec is None or before is None:
        return []  # The plan pulls what is not there.
    try:
        job.backend.provide(spec)
    except _failures(job.host) as error:
        sentence = job.backend.sentence(f"pull {spec.image}", error)
        raise VllmError(f"{sentence} No server was stopped by this.", "pull-failed") from None
    return [f"pull {spec.image}"] if job.backend.artifact(spec) != before else []


# --- the result -------------------------------------------------------------------------------------------------------


def result(job: Job, decision: Decision, pulled: t.Sequence[str] = ()) -> dict[str, t.Any]:
    """The result of a run, from its plan: the same in check mode."""
    decided, wish = decision.plan, decision.wish
    lines = [*pulled, *decided.words(job.server)]
    return {
        "changed": decided.changed or bool(pulled),
        "actions": lines,
        "commands": [f"docker {words}" for words in pulled] + commands(job, decision),
        "diff": {
            "before": dict(decided.before),
            "after": dict(decided.after),
            "prepared": "".join(f"{line}\n" for line in lines),
        },
        "needs": list(decision.needs),
        "vllm_version": wish.spec.vllm_version if wish.spec else None,
        "gpus": list(wish.gpus) if wish.gpus else None,
        "fit": dict(decision.preflight.fit) if decision.preflight.fit else None,
        "fallback": _fallback(decision),
        "server": described(job, decision),
        "health": None,
    }


def _fallback(decision: Decision) -> dict[str, t.Any] | None:
    if decision.exhausted:
        return decision.exhausted.to_dict(exhausted=True)
    return decision.wish.fallbacks.to_dict() if decision.wish.fallbacks else None


def commands(job: Job, decision: Decision) -> list[str]:
    """The plan as command lines, for people."""
    if not decision.plan.actions:
        return []
    table = effects(job, decision)
    return [shlex.join(table[action.verb].command(action)) for action in decision.plan.actions]


def described(job: Job, decision: Decision, target: str = "current") -> dict[str, t.Any]:
    """A server as it is now: this one, or by the name of its instance another one."""
    server = job.server if target in SUFFIX else target
    seen = looked(replace(job, server=server))
    found = seen.instances.get("current")
    spec = recorded_spec(found.intent) if found else decision.wish.spec
    others = conflicting(seen.others, spec, job.params["exclusive"])
    stopped = kept_servers(Observed(seen.instances, others=others)) if target in SUFFIX else ()
    return {
        "container_name": server,
        "state": found.status if found else "absent",
        "container_id": found.identity if found else None,
        "image": found.artifact if found else None,
        "image_id": found.artifact_id if found else None,
        "url": spec.url if spec else None,
        "served_model_name": spec.served_model_name if spec else None,
        "api_key_file": spec.api_key_file if spec else None,
        "fingerprint": found.fingerprint if found else None,
        "started_at": found.started_at if found else None,
        "away_seconds": found.away_seconds if found else None,
        "superseded": bool(stopped) or "superseded" in seen.instances,
        "stopped_for_it": [one.name for one in stopped],
    }


def with_health(job: Job, decision: Decision, found: dict[str, t.Any]) -> dict[str, t.Any]:
    """The result with the answers of a server that is as wanted: then nobody has to wait for it."""
    wishes, server = job.params["health"], found["server"]
    asks = wishes is not None and job.host.probe is not None
    if not asks or found["changed"] or job.params["state"] != "started" or server["state"] != "running":
        return found
    known = {key: server[key] for key in ("url", "served_model_name", "api_key_file")}
    given = {key: value for key, value in wishes.items() if value is not None}
    return {**found, "health": t.cast(t.Any, job.host.probe)({**known, **given})}


def merged(results: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    """The results of several servers as one."""
    servers = [found["server"] for found in results]
    return {
        "changed": any(found["changed"] for found in results),
        **{key: [line for found in results for line in found[key]] for key in ("actions", "commands", "needs")},
        "diff": [
            {**found["diff"], **dict.fromkeys(("before_header", "after_header"), server["container_name"])}
            for found, server in zip(results, servers)
        ],
        "vllm_version": None,
        "server": None,
        "servers": servers,
    }
