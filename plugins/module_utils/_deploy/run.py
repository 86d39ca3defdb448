# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of a server: observe, check, plan, apply, and when a step fails put back what served before.

Knows no backend by name. What only matters when something changes is loaded then: compiling it takes longer than all
the rest of a run that finds everything as it should be.
"""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import replace

from .._errors import VllmError
from .._host import lock
from .._server.fallbacks import Fallbacks
from .._server.keys import default_container_name
from .._server.spec import from_params
from . import choices
from .backend import SUFFIX, Backend, EffectOf
from .decide import decide, looked
from .job import Decision, Host, Job, Params, failures, sentence, settings_of
from .ledger import CLAIM, now_text
from .plan import MAKING_STATES, PURGEABLE, STATES
from .record import server_name
from .result import described, gap_seconds, merged, result, with_health

if t.TYPE_CHECKING:
    from .carried import Carried

PARAMETERS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": list(STATES), "default": "started"},
    "pull": {"type": "str", "choices": ["missing", "always", "never"], "default": "missing"},
    "hf_token": {"type": "str", "no_log": True},
    "api_key": {"type": "str", "no_log": True},
    "keep_hf_token": {"type": "bool", "default": False},
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
    "learned": {"type": "dict", "default": {}},
    "caches": {"type": "dict", "default": {}},
    "health": {"type": "dict"},
    "alternative": {"type": "dict"},
    "choice": {"type": "dict"},
}
# Which of them a module of services does not have: an environment is not pulled, and no unit is put aside.
OF_CONTAINERS = ("pull", "replace_unmanaged")
SERVICE_ONLY: dict[str, t.Any] = {"allow_daemon_reload": {"type": "bool", "default": False}}


def run(params: Params, check_mode: bool, host: Host) -> dict[str, t.Any]:
    """Bring one server to the wanted state, or in check mode say what that would take.

    A parameter that a module does not have is at its default.

    Raises:
        VllmError: when something stands in the way; then nothing that serves was stopped.
    """
    defaults = {key: option.get("default") for key, option in PARAMETERS.items()}
    params = {**defaults, "container_name": None, **params}
    asked = _asked(params) if params["state"] in MAKING_STATES else None
    backend = next(iter(host.backends.values()))
    proceed = preview if check_mode else carry_out
    try:
        if params["all"]:
            _warn_of_lookalikes(backend, host)
        results = _each(proceed, _jobs(params, check_mode, host, asked))
    except failures(host) as error:
        raise VllmError(sentence(host, "look at the servers on this host", error), "backend-failed") from None
    return merged(results) if params["all"] else results[0]


def _jobs(params: Params, check_mode: bool, host: Host, asked: Fallbacks | None) -> list[Job]:
    """A job for each server; in check mode each knows which of the others would be gone by then."""
    backend = next(iter(host.backends.values()))
    servers = _servers(backend, params)
    removes = check_mode and params["state"] == "absent"
    return [
        Job(params, host, backend, server, asked, tuple(servers[:number]) if removes else ())
        for number, server in enumerate(servers)
    ]


def _each(proceed: t.Callable[[Job], dict[str, t.Any]], jobs: list[Job]) -> list[dict[str, t.Any]]:
    """The results; with several servers the failure of one keeps no other from its turn.

    Raises:
        VllmError: all failures, once every server had its turn.
    """
    if not (jobs and jobs[0].params["all"]):
        return [proceed(job) for job in jobs]
    results: list[dict[str, t.Any]] = []
    failed: list[tuple[str, VllmError]] = []
    for job in jobs:
        try:
            results.append(proceed(job))
        except VllmError as error:
            failed.append((job.server, error))
        except failures(job.host) as error:
            failed.append((job.server, VllmError(sentence(job.host, f"change {job.server}", error), "backend-failed")))
    if failed:
        done = ", ".join(found["server"]["container_name"] for found in results)
        rest = f"Done for the others: {done}." if done else "No other server exists."
        faults = " ".join(f"{server}: {error}" for server, error in failed)
        raise VllmError(f"{faults} {rest}", failed[0][1].reason)
    return results


def _warn_of_lookalikes(backend: Backend, host: Host) -> None:
    try:
        lookalikes = backend.lookalikes()
    except VllmError:
        # Where nothing is recorded there is nothing to do, whether or not an engine answers.
        if any(backend.servers()):
            raise
        return
    for told in lookalikes:
        host.warn(told)


def preview(job: Job) -> dict[str, t.Any]:
    """What a run would do. Another role may still provide what is lacking."""
    _refuse_overtaken(job)
    decision = decide(job, lenient=True)
    _warn(job, decision)
    planned = result(job, decision, _effects(job, decision))
    return with_health(job, {**planned, "busy": _busy(job, decision), **_restored(job, decision)})


def _busy(job: Job, decision: Decision) -> str:
    """Which other run is at work on the server, or on one that it would stop; empty where none is."""
    token, engine = job.params["container_id"] or "", job.params["docker_host"]
    names = [job.server, *_others_stopped(decision)] if job.makes else []
    return next(filter(None, (lock.busy(name, token, engine) for name in names)), "")


def _others_stopped(decision: Decision) -> list[str]:
    return [target for target in decision.plan.stops if target not in SUFFIX]


def _restored(job: Job, decision: Decision, told: str = "") -> dict[str, t.Any]:
    """The servers that a revert starts, as they are now; C(told) is when it stopped what ran in their place."""
    if job.params["state"] != "reverted":
        return {}
    started = [a.target for a in decision.plan.actions if a.verb in ("start", "start_other")]
    before = decision.observed.instances.get("current")
    found = [described(job, decision, target) for target in started]
    return {"restored": [{**one, "gap_seconds": gap_seconds(before, told, one["started_at"])} for one in found]}


def _effects(job: Job, decision: Decision) -> EffectOf | None:
    """What the actions do; loaded and looked up when there are any."""
    if not decision.plan.actions:
        return None
    from .apply import effects

    for action in decision.plan.actions:
        if action.backend:
            job.host.backends[action.backend].make_ready()
    return effects(job, decision)


def carry_out(job: Job) -> dict[str, t.Any]:
    """A run, with the server's lock held, and those of the servers that it stops."""
    from .apply import apply, pull_newer

    job, token = (replace(job, acts=True, carried=_carried(job)), job.params["container_id"] or "")
    with contextlib.ExitStack() as locks:
        locks.enter_context(lock.alone(job.server, token, docker_host=job.params["docker_host"]))
        _refuse_overtaken(job)
        _settle(job)
        locks.callback(_let_go, job)
        decision = decide(job)
        pulled = pull_newer(job, decision)
        if pulled:
            decision = decide(job)
        others = _others_stopped(decision)
        if others:
            for name in others:
                locks.enter_context(lock.alone(name, docker_host=job.params["docker_host"]))
            decision = decide(job)
        _warn(job, decision)
        effect_of = _effects(job, decision)
        planned, told = result(job, decision, effect_of, pulled), now_text()
        if effect_of:
            apply(job, decision, effect_of)
            job.backend.wait_until_it_answers()
        if effect_of or job.params["state"] in ("committed", "absent"):
            _recorded(job, decision)
        if job.makes:
            choices.keep(job.backend.ledger, job.server, job.params)
        found = {**planned, "server": described(job, decision), **_restored(job, decision, told)}
        if job.carried:
            found["caches"] = job.carried.outcome
        if token:
            lock.release(job.server)
    return with_health(job, found)


def _carried(job: Job) -> Carried | None:
    if not (job.makes and job.params["caches"]):
        return None
    from .carried import Carried

    return Carried(job.params["caches"])


def _settle(job: Job) -> None:
    """What a run that was cut short could not write down is written down; what is only taken away needs no record."""
    try:
        for backend in job.host.backends.values():
            backend.settle(job.server)
    except VllmError:
        if job.makes:
            raise


def _let_go(job: Job) -> None:
    """What this run has chosen is no claim any more: it is what its server has, or nobody's."""
    with contextlib.suppress(VllmError):
        if not job.backend.ledger.others(CLAIM)[0]:
            return
        from .claims import let_go

        let_go(job.backend.ledger, job.server)


def _recorded(job: Job, decision: Decision) -> None:
    """The record after a run: what was committed, and nothing that does not exist any more."""
    state = job.params["state"]
    current = decision.observed.instances.get("current")
    if state == "committed" and current and current.running and current.owned:
        try:
            ledger = job.host.backends.get(current.backend, job.backend).ledger
            ledger.fill(job.server, current.caches)
            ledger.commit(job.server, dict(current.intent))
        except VllmError as error:
            job.host.warn(str(error))
    if state == "absent":
        from .apply import hand_over

        hand_over(job, decision)
        job.backend.ledger.drop_other(choices.KIND, job.server)
    for backend in job.host.backends.values():
        backend.tidy(job.server, gone=state == "absent")
    for action in decision.plan.actions:
        if action.verb == "remove_other":
            job.host.backends.get(action.backend, job.backend).tidy(server_name(action.target))


def _warn(job: Job, decision: Decision) -> None:
    for warning in [*decision.stepped, *decision.preflight.warnings] if decision.plan.actions else []:
        job.host.warn(warning)
    for note in decision.notes:
        job.host.warn(note)


def _asked(params: Params) -> Fallbacks:
    """The server as it is asked for; what is wrong with it or with its fallbacks is refused before anybody is asked."""
    asked = Fallbacks.of(settings_of(params), params["fallbacks"])
    from_params(_without_wishes(asked.settings))
    return asked


def _without_wishes(settings: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The settings with all GPUs in place of a wish for some, which only a look at the host can grant."""
    return {**settings, "gpus": "all"} if isinstance(settings.get("gpus"), t.Mapping) else dict(settings)


def _servers(backend: Backend, params: Params) -> list[str]:
    """The names of the servers that are meant."""
    if params["all"]:
        return sorted(backend.servers())
    if not (params["container_name"] or params["name"]):
        raise VllmError("name is missing: say which server by name or container_name, or set all: true for every one.")
    return [params["container_name"] or default_container_name(params["name"])]


def _refuse_overtaken(job: Job) -> None:
    """A later step of a run that another run has overtaken must not touch what that one made."""
    expected = job.params["container_id"]
    if not expected:
        return
    found = looked(job).instances.get("current")
    if found is None or found.identity != expected:
        now = "nothing" if found is None else found.identity[:12]
        raise VllmError(
            f"Another run has replaced {job.server} since this run made it: this run made {expected[:12]}, and now "
            f"there is {now}. So this run changes nothing. Look at what the other run does, then deploy again.",
            "overtaken",
        )
