# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Doing what was decided; when a step fails, what served before serves again."""

from __future__ import annotations

import contextlib
import os
import typing as t
from dataclasses import replace

from .._errors import Problem, VllmError
from .._server.spec import ServerSpec
from .backend import Action, Effect, EffectOf, Instance, Making
from .decide import conflicting, in_use, looked, port_problem, with_version
from .effects import forget_original, keep_original
from .job import Decision, Job, failures, reason_of, sentence
from .ledger import Entry, entry, left
from .plan import (
    Observed,
    Plan,
    Wanted,
    plan,
    recovery,
)
from .record import named, server_name
from .stopping import still, with_lives
from .used import paths_in

if t.TYPE_CHECKING:
    from .carried import Carried


def making(job: Job, decision: Decision) -> Making:
    """All that a new instance is made from, as things are now."""
    spec = t.cast(ServerSpec, decision.wish.spec)
    secrets, fallbacks, preflight = decision.wish.secrets, decision.wish.fallbacks, decision.preflight
    seen = looked(job)
    # A file that held the secret already is the user's own, and stays when the server goes.
    stale = {secrets.files[key] for key in secrets.differing} if secrets else set()
    written = {*stale}
    read = {*spec.secret_files.values()}
    mine = (*seen.instances.values(), *seen.gone)
    written |= {path for one in mine for path in one.wrote}
    written |= {path for one in seen.others for path in one.wrote if path in read}
    replaced = {path for one in mine for path in one.replaced}
    replaced |= {path for one in seen.others for path in one.replaced if path in read}
    replaced |= {path for path in stale if _is_theirs(path, _writers(job, path))}
    return Making(
        spec,
        decision.wish.wanted.fingerprint,
        secrets.salt if secrets else "",
        wrote=written,
        replaced=replaced,
        supersedes=decision.plan.supersedes,
        fallbacks=fallbacks.record if fallbacks else None,
        learned_engine=preflight.learned_engine,
        learned_env=preflight.learned_env,
        start_seconds=_start_seconds(job),
        carried=_carried(job, spec),
    )


def _carried(job: Job, spec: ServerSpec) -> Carried | None:
    """The caches of another host, where they are those of this very server."""
    if not job.carried:
        return None
    if not spec.keep_caches:
        job.carried.refuse("It keeps nothing that it compiles (keep_caches is false).")
        return None
    artifact = job.backend.artifact(spec)
    if artifact is None:
        return None  # An image that is to be pulled is asked for again.
    from .carried import this_processor
    from .preflight import settings_key

    try:
        settings = settings_key(spec, artifact.identity, job.host.gpus)
    except VllmError as error:
        job.carried.refuse(str(error))
        return None
    return job.carried if job.carried.fits(settings, this_processor()) else None


def _start_seconds(job: Job) -> float:
    """What the user waits for a start, if he says so: vllm_health refuses what is no number."""
    said = (job.params["health"] or {}).get("timeout")
    try:
        seconds = float(said or 0)
    except (TypeError, ValueError):
        return 0
    return seconds if 0 < seconds < float("inf") else 0


def _writers(job: Job, path: str) -> list[Entry]:
    """Who is recorded as having written a secret's file as it is."""
    known = job.backend.ledger.known()
    return [one for one in (*known.entries, *known.elsewhere) if path in left(one)]


def _is_theirs(path: str, writers: t.Collection[Entry]) -> bool:
    """Whether a file is somebody's own."""
    return os.path.lexists(path) and not writers


def _recorded_before(job: Job) -> t.Callable[[str], None]:
    """Writes down that a secret is about to be written, and keeps what somebody's own file holds."""
    ledger = job.backend.ledger

    def record(path: str) -> None:
        ours = _writers(job, path)
        if any(one.server == job.server and one.place == ledger.place for one in ours):
            return
        is_theirs = _is_theirs(path, ours)
        if is_theirs:
            keep_original(path)
        replaced = (path,) if is_theirs or any(path in one.replaced for one in ours) else ()
        ledger.write(entry(job.server, "files", wrote=(path,), replaced=replaced))

    return record


def hand_over(job: Job, decision: Decision) -> None:
    """A server that goes leaves the files that others read to those: with the last of them they go too."""
    ledger, used = job.backend.ledger, decision.observed.in_use
    mine = (*decision.observed.instances.values(), *decision.observed.gone)
    wrote = {path for one in mine for path in one.wrote if path in used and os.path.exists(path)}
    replaced = {path for one in mine for path in one.replaced}
    for other in decision.seen.others:
        read = {*paths_in(other.intent)} & wrote - {*other.wrote}
        if read:
            with contextlib.suppress(VllmError):
                record = entry(server_name(other.name), "files", wrote=tuple(sorted(read)))
                ledger.write(replace(record, replaced=tuple(sorted(read & replaced))))


def effects(job: Job, decision: Decision) -> EffectOf:
    """For each action of a plan: what it does, and the command line that does the same.

    What a new instance is made from is looked up once; only a pull can change it, by the version that comes.
    """
    from . import effects as common

    now, made = decision, t.cast("Making | None", None)

    def current_making() -> Making:
        nonlocal made
        made = made or making(job, now)
        return made

    by_backend = {name: backend.effects(job.server, current_making) for name, backend in job.host.backends.items()}
    own = by_backend[job.backend.name]

    def pull(action: Action) -> None:
        nonlocal now, made
        own["pull"].do(action)
        now, made = _after_pull(job, now), None

    def fetch(action: Action) -> None:
        own["fetch_weights"].do(action)
        _check_download(now)

    stopped = [named(job.server, target) for target in decision.plan.stops]
    shared = {
        **common.on_files(decision.wish.secrets, _recorded_before(job)),
        **common.on_memory(decision.question, job.host.gpus, stopped, job.params["memory_timeout"]),
        **common.on_measurements(decision.measurement, job.backend.log_command(job.server), job.host.warn),
        "pull": Effect(pull, own["pull"].command),
        "fetch_weights": Effect(fetch, own["fetch_weights"].command),
    }
    return lambda action: shared.get(action.verb) or by_backend[action.backend or job.backend.name][action.verb]


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


def apply(job: Job, decision: Decision, effect_of: EffectOf) -> None:
    """Do what was decided; when a step fails, put back what served before and say so.

    Raises:
        VllmError: names the step, what the backend said, the remedy, and what serves now.
    """
    if not decision.plan.actions:
        return
    before = {one.identity for one in looked(job).instances.values()}
    _adopt(job, decision)
    looked_again = False
    for action, words in zip(decision.plan.actions, decision.plan.words(job.server)):
        try:
            if action.verb in ("stop", "stop_other") and not looked_again:
                _look_again(job, decision)
                looked_again = True
            _do(effect_of, still(job, action, decision.observed))
        except VllmError as error:
            raise VllmError(f"{error} {recover(job, decision, action, before)}", error.reason) from None
        except failures(job.host) as error:
            problem = _explained(job, decision, words, action.verb, error)
            raise VllmError(f"{problem.message} {recover(job, decision, action, before)}", problem.reason) from None


def _adopt(job: Job, decision: Decision) -> None:
    """Before anything stops, it is written down that somebody else's instance was given away."""
    current = decision.observed.instances.get("current")
    if current and not current.owned and any(action.to == "superseded" for action in decision.plan.actions):
        job.backend.adopt(job.server, current.identity)


def _look_again(job: Job, decision: Decision) -> None:
    """Between the look and the first stop a download may have taken hours.

    Raises:
        VllmError: when what was to be replaced is not what is there now.
    """
    now = looked(job)
    seen: dict[str, str] = {slot: one.identity for slot, one in decision.seen.instances.items()}
    there: dict[str, str] = {slot: one.identity for slot, one in now.instances.items()}
    changed = [named(job.server, slot) for slot in ("current", "superseded") if _differs(slot, seen, there, decision)]
    theirs = {one.name: one.identity for one in now.others}
    stops = [action for action in decision.plan.actions if action.verb == "stop_other"]
    changed += [action.target for action in stops if theirs.get(action.target) != action.identity]
    if changed:
        raise VllmError(
            f"{', '.join(changed)} was replaced by another run or user while the new server was prepared, so nothing "
            "is stopped. Find out which, then run it again.",
            "overtaken",
        )


def _differs(slot: str, seen: t.Mapping[str, str], there: t.Mapping[str, str], decision: Decision) -> bool:
    made = any(action.verb == "create" and action.target == slot for action in decision.plan.actions)
    return there.get(slot) != seen.get(slot) and not (made and slot not in seen)


def _explained(job: Job, decision: Decision, words: str, verb: str, error: BaseException) -> Problem:
    """What failed; a start that finds its port taken names who has it."""
    seen, reason = sentence(job.host, words, error), reason_of(job.host, error)
    if verb == "start" and reason == "port-in-use" and decision.wish.spec:
        with contextlib.suppress(*failures(job.host)):
            others = conflicting(looked(job).others, decision.wish.spec, job.params["exclusive"])
            observed = replace(decision.observed, instances=looked(job).instances, others=others)
            found = port_problem(job, decision.wish.spec, observed)
            return Problem(reason, f"Cannot {words}. {found.message}" if found else seen)
    return Problem("pull-failed" if verb == "pull" else reason, seen)


def recover(job: Job, decision: Decision, failed: Action, before: t.Collection[str]) -> str:
    """After a step failed: nothing half made stays behind, and the servers that were stopped serve again."""
    if not job.makes:
        return "Fix that, then run it again."
    again = "The next run, or state: reverted, will fix this."
    try:
        job.backend.wait_until_it_answers()
        back = _undo(job, decision, failed, before)
        current = looked(job).instances.get("current")
    except VllmError as error:
        return f"Restoring the previous server failed too, so nothing serves now: {error} {again}"
    except failures(job.host) as error:
        seen = sentence(job.host, "restore the previous server", error)
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
    left = Observed(seen.instances, others=others, in_use=in_use(seen), unsure=bool(seen.unknown))
    back = with_lives(job, plan(Wanted("reverted", job.server, backend=job.backend.name), recovery(left)), left)
    if not _serves(decision, seen.instances.get("current")):
        _restore_secrets(decision, failed)
    undone = replace(decision, plan=back)
    effect_of = effects(job, undone)
    for action in back.actions:
        _do(effect_of, action)
    made = looked(job).instances.get("current")
    if made and not made.running and made.identity not in before:
        _do(effect_of, Action("remove", "current", backend=made.backend))
    if not looked(job).instances:
        for cache in job.backend.caches(job.server):
            _do(effect_of, Action("remove_cache", cache))
        with contextlib.suppress(VllmError, *failures(job.host)):
            job.backend.tidy(job.server)
    return back


def _do(effect_of: EffectOf, action: Action) -> None:
    effect_of(action).do(action)


def _serves(decision: Decision, current: Instance | None) -> bool:
    """Whether the new server runs, though the backend was too slow to say so: it has read its secrets."""
    wanted = decision.wish.wanted.fingerprint
    return current is not None and current.running and current.fingerprint == wanted


def _restore_secrets(decision: Decision, failed: Action) -> None:
    done = decision.plan.actions[: decision.plan.actions.index(failed)]
    for action in done:
        if action.verb == "write_secret" and decision.wish.secrets:
            decision.wish.secrets.restore(action.target)
            forget_original(decision.wish.secrets.files[action.target])


def pull_newer(job: Job, decision: Decision) -> list[str]:
    """With pull: always, ask the registry first, while everything still serves; tell it only when an image came."""
    spec = decision.wish.spec
    asks = job.params["pull"] == "always" and not decision.exhausted
    before = job.backend.artifact(spec) if spec and asks else None
    if spec is None or before is None:
        return []  # The plan pulls what is not there.
    try:
        job.backend.provide(spec)
    except failures(job.host) as error:
        seen = sentence(job.host, f"pull {spec.image}", error)
        raise VllmError(f"{seen} No server was stopped by this.", "pull-failed") from None
    return [f"pull {spec.image}"] if job.backend.artifact(spec) != before else []
