# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Doing what was decided; when a step fails, what served before serves again."""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import replace

from .._errors import Problem, VllmError
from .._server.spec import ServerSpec
from .backend import Action, Effect, Instance, Making
from .decide import conflicting, in_use, looked, port_problem, with_version
from .job import Decision, Job, failures
from .plan import (
    Observed,
    Plan,
    Wanted,
    plan,
    recovery,
)
from .record import named


def making(job: Job, decision: Decision) -> Making:
    """All that a new instance is made from, as things are now."""
    spec = t.cast(ServerSpec, decision.wish.spec)
    secrets, fallbacks, preflight = decision.wish.secrets, decision.wish.fallbacks, decision.preflight
    seen = looked(job)
    # A file that held the secret already is the user's own, and stays when the server goes.
    written = {secrets.files[key] for key in secrets.differing} if secrets else set()
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


EffectOf = t.Callable[[Action], Effect]


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
        **common.on_files(decision.wish.secrets),
        **common.on_memory(decision.question, job.host.gpus, stopped, job.params["memory_timeout"]),
        **common.on_measurements(decision.measurement, job.server),
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
    before = {one.identity for one in job.backend.look(job.server).instances.values()}
    for action, words in zip(decision.plan.actions, decision.plan.words(job.server)):
        try:
            _do(effect_of, action)
        except VllmError as error:
            raise VllmError(f"{error} {recover(job, decision, action, before)}", error.reason) from None
        except failures(job.host) as error:
            problem = _explained(job, decision, words, action.verb, error)
            raise VllmError(f"{problem.message} {recover(job, decision, action, before)}", problem.reason) from None


def _explained(job: Job, decision: Decision, words: str, verb: str, error: BaseException) -> Problem:
    """What failed; a start that finds its port taken names who has it."""
    sentence = job.backend.sentence(words, error)
    taken = "port is already allocated" in sentence or "address already in use" in sentence
    if verb == "start" and taken and decision.wish.spec:
        with contextlib.suppress(*failures(job.host)):
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
    except failures(job.host) as error:
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
    effect_of = effects(job, undone)
    for action in back.actions:
        _do(effect_of, action)
    made = job.backend.look(job.server).instances.get("current")
    if made and not made.running and made.identity not in before:
        _do(effect_of, Action("remove", "current"))
    if not job.backend.look(job.server).instances:
        for cache in job.backend.caches(job.server):
            _do(effect_of, Action("remove_cache", cache))
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
        sentence = job.backend.sentence(f"pull {spec.image}", error)
        raise VllmError(f"{sentence} No server was stopped by this.", "pull-failed") from None
    return [f"pull {spec.image}"] if job.backend.artifact(spec) != before else []
