# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From what is wanted and what is there to a decision; leaves the host as it is."""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import replace

from .._errors import Problem, Reason, VllmError
from .._host import ports
from .._server.fallbacks import GPU_TAKEN, Fallbacks, FallbacksEnd, Steps
from .._server.spec import ServerSpec, fingerprint, from_params, of_another_home
from .._vllm.versions import is_telling
from .backend import SUFFIX, Artifact, Backend, Instance, Other, Seen, Slot
from .job import Decision, Job, Wish, failures
from .ledger import new_salt
from .plan import (
    Observed,
    Purge,
    Wanted,
    abandoned,
    has_port,
    kept as kept_servers,
    plan,
    rivals,
)
from .record import recorded_spec, server_name
from .secrets import Secrets, kept as kept_secrets, secret_paths
from .used import paths_in

if t.TYPE_CHECKING:
    from .preflight import Measurement, PortView


def decide(job: Job, lenient: bool = False) -> Decision:
    """Look at what is there and decide what to do. Lenient: what another role will provide is no problem.

    Raises:
        VllmError: when the server is not to be started as wanted.
    """
    seen = looked(job)
    if not job.makes:
        return _timed(job, _decide_kept(job, seen))
    decision = _timed(job, _decide_making(job, seen, lenient))
    problems = decision.plan.problems
    if problems:
        several = len(problems) > 1
        text = " ".join(f"({i}) {p.message}" if several else p.message for i, p in enumerate(problems, 1))
        message = f"{job.server} is not started: {text} Nothing was stopped or changed."
        raise VllmError(message, problems[0].reason)
    return decision


def _timed(job: Job, decision: Decision) -> Decision:
    """The decision with the time that each server gets to stop."""
    if not decision.plan.stops:
        return decision
    from .stopping import with_lives

    return replace(decision, plan=with_lives(job, decision.plan, decision.observed))


def looked(job: Job) -> Seen:
    """What is there, by whatever backend it runs; of somebody else's instances only those in the backend's own way."""
    seen = job.backend.look(job.server)
    further = [backend.look(job.server) for backend in job.host.backends.values() if backend is not job.backend]
    if not further:
        return seen
    mine = {slot: one for look in further for slot, one in look.instances.items() if one.owned or one.adopted}
    looks, known = [seen, *further], job.backend.ledger.known()
    places = {backend.ledger.place for backend in job.host.backends.values()}
    return replace(
        seen,
        instances={**mine, **seen.instances},
        others=tuple(other for look in looks for other in look.others),
        gone=tuple(one for look in looks for one in look.gone),
        elsewhere=tuple(one.intent for one in known.elsewhere if one.place not in places),
    )


def _decide_making(job: Job, seen: Seen, lenient: bool) -> Decision:
    """With the first fallback that can be tried, when the settings in hand cannot."""
    current = seen.instances.get("current")
    record = current.fallbacks if current and not job.params["reset_fallbacks"] else None
    fallbacks = t.cast(Fallbacks, job.asked).where(record)
    stepped: tuple[str, ...] = ()
    try:
        steps = Steps(fallbacks, job.params["failure_id"])
    except FallbacksEnd as end:
        wish = wished(job, seen, fallbacks)
        return Decision(wish, Observed(seen.instances), seen, exhausted=end.fallbacks)
    # Those that others took it has no more.
    anew = job.params["failure_id"] == GPU_TAKEN
    while True:
        decision = _decide_with(job, seen, steps.fallbacks, lenient, anew)
        settings = [p.message for p in decision.preflight.problems if p.reason not in NOT_OF_THE_SETTINGS]
        if not settings or not steps.further(decision.preflight.failure_id):
            homes = of_another_home(current.intent, decision.wish.wanted.intent) if current else ()
            return replace(decision, stepped=(*stepped, *homes))
        rung = steps.fallbacks.to_dict() or {}
        stepped += (f"{' '.join(settings)} So fallback {rung['rung']} of {rung['rungs']} is used instead.",)


# What no other settings of the server would help against.
NOT_OF_THE_SETTINGS = ("port-in-use", "conflicting-server")


# What another role provides, by the reason why its lack forbids a start.
PROVIDED: dict[Reason, str] = {"encodings-missing": "encodings", "venv-missing": "venv"}


def _decide_with(job: Job, seen: Seen, fallbacks: Fallbacks, lenient: bool, anew: bool) -> Decision:
    wish = wished(job, seen, fallbacks, anew)
    spec, secrets = t.cast(ServerSpec, wish.spec), t.cast(Secrets, wish.secrets)
    artifact = job.backend.artifact(spec)
    spec = with_version(job.backend, spec, artifact, seen.instances.values())
    wish = replace(wish, spec=spec)
    lacking = [*encodings_problems(spec), *job.backend.lacking(spec)]
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
    going = {one.name for one in abandoned(observed)}
    if going:
        observed = replace(observed, in_use=in_use(seen, going), unsure=bool(seen.unknown))
    needs = tuple(sorted({PROVIDED[problem.reason] for problem in lacking}))
    first = Decision(wish, observed, seen, plan(wish.wanted, observed), needs=needs)
    if first.plan.starts and not anew and _reselects(spec):
        # It may be on other GPUs by now than those that it was deployed with.
        return _decide_with(job, seen, fallbacks, lenient, anew=True)
    return _with_preflight(job, first, seen, () if lenient else lacking) if first.plan.starts else first


def _reselects(spec: ServerSpec) -> bool:
    # A run that starts nothing has no use for it.
    from .._gpu.selection import RESELECT

    return spec.gpus_at_start.get("at_start") == RESELECT


def _with_preflight(job: Job, first: Decision, seen: Seen, lacking: t.Sequence[Problem]) -> Decision:
    """The decision once all is checked that only matters because a server will start."""
    from .claims import takers
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
            takers=lambda: takers(job, lambda: looked(job)),
            port_problem=lambda: port_problem(job, spec, observed),
            encodings=lacking,
            refusals=job.backend.refusals(spec),
            doubts=job.backend.doubts(spec),
            download_conflict=seen.download_conflict,
            state_directory=job.host.state_directory,
        )
    )
    decided = plan(first.wish.wanted, observed, found.preflight)
    return replace(first, plan=decided, preflight=found.preflight, question=found.question)


def wished(job: Job, seen: Seen, fallbacks: Fallbacks, anew: bool = False) -> Wish:
    """What is wanted, with the fallbacks that this server uses already. C(anew): whatever GPUs it was deployed with."""
    params = job.params
    settings, gpus = _with_gpus(job, fallbacks.settings, seen, anew)
    spec = from_params(settings)
    given = {"hf_token_file": params["hf_token"], "api_key_file": params["api_key"]}
    keeps = ("hf_token_file",) if params["keep_hf_token"] else ()
    secrets = Secrets(spec, given, keeps, _salt(seen.instances))
    wanted = replace(
        _wanted(job),
        fingerprint=fingerprint(spec.to_dict(), secrets.digests),
        intent=spec.to_dict(),
        image=spec.image,
    )
    return Wish(wanted, spec, secrets, fallbacks, gpus)


def _salt(instances: t.Mapping[Slot, Instance]) -> str:
    """The salt of a server as long as there is an instance of it: with another one its secrets would seem to change."""
    kept = (instances[slot].salt for slot in SUFFIX if slot in instances and instances[slot].owned)
    return next(filter(None, kept), "") or new_salt()


def _wanted(job: Job) -> Wanted:
    return Wanted(
        state=job.params["state"],
        name=job.server,
        replace_unmanaged=job.params["replace_unmanaged"],
        recreate=job.params["recreate"],
        failed=bool(job.params["failure_id"]),
        backend=job.backend.name,
        fetches_first=job.backend.fetches_first,
        purge=tuple(job.params["purge"]),
        all_go=bool(job.params["all"]),
    )


def _with_gpus(
    job: Job, settings: dict[str, t.Any], seen: Seen, anew: bool
) -> tuple[dict[str, t.Any], tuple[str, ...] | None]:
    """The settings with the GPUs that a wish for some becomes."""
    if not isinstance(settings.get("gpus"), t.Mapping):
        return settings, None
    from .claims import Looks, granted

    def leaving(now: Seen, spec: ServerSpec) -> list[str]:
        others = conflicting(now.others, spec, job.params["exclusive"]) if job.params["replace_others"] else ()
        return [one.name for one in others if one.running and one.conflict]

    current = None if anew else seen.instances.get("current")
    return granted(job, settings, current, Looks(lambda: looked(job), leaving))


def conflicting(others: t.Iterable[Other], spec: ServerSpec | None, exclusive: bool) -> tuple[Other, ...]:
    """The other servers, with why they cannot run beside one with this spec."""
    return tuple(replace(one, conflict=_conflict(one, spec, exclusive)) for one in others)


def _conflict(other: Other, spec: ServerSpec | None, exclusive: bool) -> str:
    theirs = recorded_spec(other.intent) if spec else None
    if spec is None or theirs is None:
        return ""
    socket = spec.access.get("uds")
    if socket or theirs.uds:
        return f"it has the socket {socket}" if socket == theirs.access.get("uds") else _alone(exclusive)
    if spec.port == theirs.port and ports.overlaps(spec.bind, theirs.bind):
        return has_port(spec.port)
    return _alone(exclusive)


def _alone(exclusive: bool) -> str:
    return "this host serves one model at a time" if exclusive else ""


def with_version(
    backend: Backend, spec: ServerSpec, artifact: Artifact | None, instances: t.Iterable[Instance]
) -> ServerSpec:
    """The spec with the version that it will run, from what costs least: what was said, what the artifact tells of
    itself, what an earlier run recorded, and only then a look inside."""
    if spec.vllm_version or artifact is None:
        return spec
    recorded = {one.artifact_id: one.vllm_version for one in instances if one.vllm_version}
    version = artifact.vllm_version or recorded.get(artifact.identity)
    version = version or backend.version(artifact, spec.container_name)
    return replace(spec, vllm_version=version) if version and is_telling(version) else spec


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

    if spec.uds:
        return None

    def called(identity: str) -> str:
        holding = (one for one in job.host.backends.values() if identity in one.holders(spec.port, spec.bind))
        return next(holding, job.backend).called(identity)

    return preflight.port_problem(spec, observed, _port_view(job, spec, observed), called)


def _port_view(job: Job, spec: ServerSpec, observed: Observed) -> PortView:
    from .preflight import PortView

    mine = {one.identity for one in observed.instances.values()}
    mine |= {one.identity for one in observed.others if one.conflict}
    publishing = {one for backend in job.host.backends.values() for one in backend.holders(spec.port, spec.bind)}
    owner = None if publishing - mine else job.host.port_owner(spec.port, spec.bind)
    proxies = tuple(backend.proxy for backend in job.host.backends.values() if backend.proxy)
    return PortView(publishing, owner, mine, proxies)


def _decide_kept(job: Job, seen: Seen) -> Decision:
    """What there is to keep, to give up or to go back to."""
    state, instances = job.params["state"], seen.instances
    current = instances.get("current")
    old = instances.get("superseded") or current
    reference = recorded_spec(old.intent) if old else None
    caches = {cache: name for name, one in job.host.backends.items() for cache in one.caches(job.server, job.gone)}
    observed = Observed(
        instances,
        in_use=in_use(seen),
        unsure=bool(seen.unknown),
        gone=seen.gone,
        probes=seen.probes if state == "absent" else (),
        caches=tuple(caches),
        keepers=caches,
        others=conflicting(seen.others, reference, job.params["exclusive"]),
        kept_secrets=kept_secrets(secret_paths(one.intent for one in (*instances.values(), *seen.gone))),
        download=seen.download,
    )
    found: Measurement | None = None
    if state == "committed":
        # Those that go with the commit use nothing any more.
        going = {one.name for one in (*kept_servers(observed), *abandoned(observed))}
        observed = replace(observed, in_use=in_use(seen, going))
        found = _measurement(job, current, reference)
        observed = replace(observed, to_remember=found.memory.path if found else None)
        observed = _with_environments(job, observed, seen, going) if current and current.running else observed
    if state == "absent":
        observed = replace(observed, learned_file=_learned_file(job), purge=_purge(job, seen))
        observed = _with_environments(job, observed, seen, {*job.gone})
    wish = Wish(_wanted(job))
    return Decision(wish, observed, seen, plan(wish.wanted, observed), measurement=found, notes=_notes(job, observed))


def _with_environments(job: Job, observed: Observed, seen: Seen, going: t.Collection[str]) -> Observed:
    """With the virtual environments that nobody uses any more once C(going), the names of other instances, are gone."""
    staying = [one for one in seen.others if one.name not in going]
    kept = {str(one.intent.get("venv")) for one in staying}
    if job.params["state"] == "committed":
        kept |= {str(one.intent.get("venv")) for slot, one in seen.instances.items() if slot == "current"}
    servers = {job.server, *map(server_name, going)} - {server_name(one.name) for one in staying}
    found = {path: name for name, one in job.host.backends.items() for path in one.environments(servers, kept)}
    return replace(observed, environments=tuple(sorted(found)), keepers={**observed.keepers, **found})


def _purge(job: Job, seen: Seen) -> Purge:
    """What of that which was asked for may be deleted."""
    what = job.params["purge"]
    mine = [one.intent for one in (*seen.instances.values(), *seen.gone) if one.owned]
    if not what:
        return Purge()
    if not mine:
        nothing = f"Nothing is purged for {job.server}, since this user's record has no server of that name."
        return Purge(kept=() if job.params["all"] else (f"{nothing} Delete its weights and encodings yourself.",))
    if seen.unknown:
        kept = f"Nothing is purged with {job.server}, since another server may use it. {seen.unknown[0]}"
        return Purge(kept=(kept,))
    from .purge import purgeable

    others = [*(one.intent for one in seen.others), *seen.elsewhere]
    foreign = {path for backend in job.host.backends.values() for path in backend.mounted()}
    return purgeable(what, mine, others, foreign)


def _notes(job: Job, observed: Observed) -> tuple[str, ...]:
    """What the user is to know of what is not done."""
    notes = list(observed.purge.kept)
    absent, stopped = job.params["state"] == "absent", [one.name for one in kept_servers(observed)]
    in_the_way = [one.name for one in rivals(observed)]
    if absent and not job.params["all"] and stopped and in_the_way:
        notes.append(
            f"{', '.join(stopped)}, which {job.server} was to replace, stays stopped, since {', '.join(in_the_way)} "
            "runs in its place. Deploy it again if it should serve."
        )
    if observed.unsure and observed.instances:
        notes.append(f"The files that were written for {job.server} are kept, since another server may use them.")
    return tuple(notes)


def _measurement(job: Job, current: Instance | None, reference: ServerSpec | None) -> Measurement | None:
    """What the start measured; nobody's commit waits for an engine that cannot read the log."""
    if current is None or not current.running or reference is None:
        return None
    from .preflight import measurement

    mine = recorded_spec(current.intent) or reference
    with contextlib.suppress(VllmError, *failures(job.host)):
        log = job.host.backends.get(current.backend, job.backend).log(job.server)
        return measurement(mine, current.artifact_id, log, job.host.gpus, job.host.state_directory)
    return None


def _learned_file(job: Job) -> str | None:
    from .history import Memory

    path = Memory(job.server, job.host.state_directory).path
    return path if os.path.exists(path) else None


def in_use(seen: Seen, but: t.Collection[str] = ()) -> frozenset[str]:
    """Paths on the host that the other servers of this user use, but for those of these names; of files that were
    written for a server, also those that are one of these behind a link."""
    used = {path for one in seen.others if one.name not in but for path in paths_in(one.intent)}
    used |= {path for intent in seen.elsewhere for path in paths_in(intent)}
    real = {os.path.realpath(path) for path in used}
    wrote = {path for one in (*seen.instances.values(), *seen.gone) for path in one.wrote}
    wrote |= {path for other in seen.others for path in other.wrote}
    return frozenset(used | {path for path in wrote if os.path.realpath(path) in real})
