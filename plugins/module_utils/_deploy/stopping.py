# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much time a server gets to stop: all that it was given, unless it has nothing to finish.

A vLLM whose engine is dead, or is still being made, does not leave when it is asked to, so whoever waits for it only
keeps the previous server from serving. Looks at logs, and changes nothing.
"""

from __future__ import annotations

import contextlib
import typing as t
from dataclasses import replace

from .._errors import VllmError
from .._vllm.life import engine_is_dead, has_answered, tells_when_ready
from .backend import Action, Life
from .job import Job, failures
from .plan import Observed, Plan
from .record import named

STOPS = ("stop", "stop_other")
NEVER_ANSWERED, DEAD = "it never answered", "its engine is dead"


def why_at_once(life: Life | None, intent: t.Mapping[str, t.Any]) -> str:
    """Why a server with that record has nothing to finish, by what it has logged in this life; empty when it may have.

    What nobody can read, or not to its beginning, tells nothing, nor does the log of a server that keeps back the line
    by which it is known to be ready.
    """
    if life is None:
        return ""
    if engine_is_dead(life.log):
        return DEAD
    is_known = life.is_whole and tells_when_ready(intent) and not has_answered(life.log)
    return NEVER_ANSWERED if is_known else ""


def hurried(plan: Plan, reasons: t.Mapping[str, str]) -> Plan:
    """The plan with the stops at once that there is a reason for, by the target."""
    return replace(plan, actions=tuple(_hurried(action, reasons.get(action.target, "")) for action in plan.actions))


def _hurried(action: Action, why: str) -> Action:
    if action.verb not in STOPS or not why:
        return action
    because = "; ".join(filter(None, (action.because, f"{why}: at once")))
    return replace(action, because=because, at_once=True)


def with_lives(job: Job, plan: Plan, observed: Observed) -> Plan:
    """The plan once the logs of all that it stops were read."""
    stops = [action for action in plan.actions if action.verb in STOPS]
    reasons = {action.target: _reason(job, action, observed) for action in stops}
    return hurried(plan, reasons) if any(reasons.values()) else plan


def still(job: Job, action: Action, observed: Observed) -> Action:
    """The stop as it is right now: since the plan was made the server may have begun to serve."""
    if not action.at_once or _reason(job, action, observed):
        return action
    return replace(action, at_once=False)


def _reason(job: Job, action: Action, observed: Observed) -> str:
    """Of what somebody else runs there, nobody knows what its log says when it is ready."""
    intent = _intents(observed).get(action.target)
    return "" if intent is None else why_at_once(_life(job, action), intent)


def _life(job: Job, action: Action) -> Life | None:
    backend = job.host.backends.get(action.backend, job.backend)
    with contextlib.suppress(VllmError, *failures(job.host)):
        return backend.life(named(job.server, action.target))
    return None


def _intents(observed: Observed) -> dict[str, t.Mapping[str, t.Any]]:
    """What is recorded of each instance of ours, by its slot, or by the name of another server's."""
    mine = ((slot, one) for slot, one in observed.instances.items() if one.owned)
    slots: dict[str, t.Mapping[str, t.Any]] = {slot: one.intent for slot, one in mine}
    return {**slots, **{one.name: one.intent for one in observed.others}}
