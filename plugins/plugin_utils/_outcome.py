# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run of role vllm_server came to: one result with the same keys, and one sentence, for every way it can end."""

from __future__ import annotations

import datetime
import json
import typing as t
from dataclasses import dataclass, field

Result = t.Mapping[str, t.Any]

# What is true until the commit.
KEPT = " The previous server is kept until the commit."
# The reason of a failure that gave none.
UNKNOWN = "unknown"

# What every result has, whatever happened: the interface of the role.
PUBLIC: dict[str, t.Any] = {
    "changed": False,
    "failed": False,
    "server": {},
    "health": {},
    "fallback": {},
    "actions": [],
    "message": "",
    "reason": "",
}
# What the later steps of a run read of an earlier one, and a curious playbook too.
DETAILS: dict[str, t.Any] = {
    "commands": [],
    "files": {},
    "shown": [],
    "needs": [],
    "weights": [],
    "fit": None,
    "gpus": None,
    # The settings that were chosen for a model that nobody described, and why.
    "choice": None,
    "vllm_version": None,
    "measured_on": None,
    # Whose compile caches it started with, or why it did not; null where there were none.
    "caches": None,
    "restored": [],
    # For how long nobody was answered; null where nothing served before, or nobody can tell.
    "away_seconds": None,
    "spec": {},
    "probe": {},
    "pending": False,
    # Which other run is at work there, of a look.
    "busy": "",
}


def published(found: Result, host: str, is_plan: bool, **details: t.Any) -> dict[str, t.Any]:
    """What one call of the backend's module found, with every key that a result has.

    C(is_plan): it was a look, or check mode, and nothing was changed.
    """
    empty = {**PUBLIC, **DETAILS, **details}
    result = {key: default if found.get(key) is None else found[key] for key, default in empty.items()}
    if result["failed"]:
        message = str(found.get("msg") or f"The step failed on {host}; its exception says why.")
        return {**result, "message": message, "reason": result["reason"] or UNKNOWN}
    return {**result, "message": sentence(result, host, is_plan)}


def is_pending(result: Result, state: str, pull: str) -> bool:
    """Whether a run that looked has anything left to do; a server that is not known to be healthy is verified."""
    if result.get("actions") or result.get("needs"):
        return True
    is_settled = _healthy(result.get("health") or {}) and not (result.get("server") or {}).get("superseded")
    return state == "started" and (pull == "always" or not is_settled)


# ---------------------------------------------------------------------------------------------------------------------
# The sentence after success
# ---------------------------------------------------------------------------------------------------------------------


def sentence(result: Result, host: str, is_plan: bool) -> str:
    """What serves now, or what a look found to be done."""
    server, steps = result["server"], "; ".join(result["actions"])
    if is_plan and steps:
        return f"Nothing was changed on {host}. Planned: {steps}."
    if _healthy(result["health"]):
        answer = (result["health"].get("checks") or [{}])[-1].get("detail") or "it is healthy"
        name = server.get("served_model_name")
        return f"{name} answers at {server.get('url')} on {host}: {answer}{_in_use(result['fallback'])}"
    if server:
        return f"{server.get('container_name')} on {host} is {server.get('state')}."
    return f"{steps or 'Nothing was done'} on {host}."


def _in_use(fallback: Result) -> str:
    if not fallback.get("rung"):
        return ""
    causes = ", ".join(fallback.get("causes") or ())
    return (
        f" (It runs with fallback {fallback['rung']} of {fallback['rungs']}, {json.dumps(fallback.get('change'))}, "
        f"because of {causes}; -e vllm_server_reset_fallbacks=true starts over.)"
    )


def _healthy(health: Result) -> bool:
    return bool(health.get("healthy"))


# ---------------------------------------------------------------------------------------------------------------------
# The whole run
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Steps:
    """What the steps after the change came to; empty for a step that was not taken.

    C(attempt) is the fallback that was tried last, C(again) the start without the compile caches that the first one
    failed with, and C(waits) has a result for each server that was restored.
    """

    health: Result = field(default_factory=dict)
    attempt: Result = field(default_factory=dict)
    again: Result = field(default_factory=dict)
    reverted: Result = field(default_factory=dict)
    stopped: Result = field(default_factory=dict)
    committed: Result = field(default_factory=dict)
    waits: t.Sequence[Result] = ()


def outcome(applied: Result, host: str, steps: Steps, is_check: bool) -> dict[str, t.Any]:
    """The result of a whole run, from the result of its change and of what followed."""
    result = {key: applied.get(key, default) for key, default in {**PUBLIC, **DETAILS}.items()}
    health = dict(steps.health or result["health"])
    result.update(health=health, pending=False)
    later = [step for step in (steps.committed, steps.reverted, steps.stopped) if not step.get("skipped")]
    for step in later:
        result["actions"] = [*result["actions"], *(step.get("actions") or [])]
        result["changed"] = bool(result["changed"] or step.get("changed"))
        result["server"] = step.get("server") or result["server"]
        result["restored"] = step.get("restored") or result["restored"]
    result["away_seconds"] = away_seconds(applied, health, steps.waits, asked_for=not steps.health)
    if not steps.health and steps.waits:
        return {**result, **_put_back(steps.waits)}
    if not steps.health or _healthy(health):
        return _committed(result, steps.committed) or {**result, "message": _served(result, host, is_check)}
    reason = "locked" if health.get("busy") else health.get("reason") or UNKNOWN
    return {**result, "failed": True, "reason": reason, "message": failure(applied, steps, is_check)}


def away_seconds(applied: Result, health: Result, waits: t.Sequence[Result], asked_for: bool) -> float | None:
    """For how long nobody was answered by the end of a run; None where nothing served before, or nobody can tell."""
    if waits:
        return _away(waits, asked_for) if all(map(_healthy, waits)) else None
    server = applied.get("server") or {}
    away, took = server.get("away_seconds"), start_seconds(server, health)
    known = starts(applied) and _healthy(health) and away is not None and took is not None
    return round(away + took, 1) if known else None


def starts(result: Result) -> bool:
    """Whether a server was started, or would be."""
    return any(str(action).startswith("start ") for action in result.get("actions") or ())


def start_seconds(server: Result, health: Result) -> float | None:
    """From the start of a server to its good answers, by the clock of its host; where that tells nothing, what was
    waited for them, which is less where a run started other servers in between."""
    started, healthy = _moment(server.get("started_at")), _moment(health.get("healthy_at"))
    waited: float | None = health.get("elapsed")
    return max(waited or 0, (healthy - started).total_seconds()) if started and healthy else waited


def _moment(text: t.Any) -> datetime.datetime | None:
    try:
        found = datetime.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)


def _away(waits: t.Sequence[Result], asked_for: bool) -> float:
    """The same of servers that were restored: since they were stopped, or since what had taken their place ended, which
    served until then where somebody asked for them."""
    servers = [wait["item"] for wait in waits]
    gaps = [one.get("gap_seconds") if asked_for else None for one in servers]
    before = max(one.get("away_seconds") or 0 if gap is None else gap for one, gap in zip(servers, gaps))
    return round(before + max(start_seconds(wait["item"], wait) or 0 for wait in waits), 1)


def _served(result: Result, host: str, is_check: bool) -> str:
    """The sentence after success, with what is still to be decided."""
    is_kept = result["server"].get("superseded") and not is_check
    return sentence(result, host, is_check) + (KEPT if is_kept else "")


def _put_back(waits: t.Sequence[Result]) -> dict[str, t.Any]:
    """What putting back the previous server on request came to."""
    sick = next((wait for wait in waits if not _healthy(wait)), None)
    return {
        "failed": sick is not None,
        "reason": "" if sick is None else str(sick.get("reason") or UNKNOWN),
        "message": _restored(waits, asked_for=True),
    }


def _committed(result: dict[str, t.Any], committed: Result) -> dict[str, t.Any] | None:
    """The result when the server is healthy, and the commit failed."""
    if not _taken(committed) or not committed.get("msg"):
        return None
    message = f"{result['server'].get('container_name')} is healthy, but {not_committed(committed)}"
    return {**result, "failed": True, "reason": committed.get("reason") or UNKNOWN, "message": message}


def not_committed(committed: Result) -> str:
    """What to say of a commit that failed, after C(but)."""
    return f"committing the change failed: {committed['msg']} The next run commits it."


def failure(applied: Result, steps: Steps, is_check: bool) -> str:
    """Why the server is not healthy, and what serves now."""
    cause = str(steps.health.get("msg") or "")
    if steps.health.get("busy"):
        return cause
    name = applied["server"].get("container_name")
    if steps.health.get("unreachable"):
        return f"{name} was not verified, since its host is unreachable; the next run verifies it. {cause}"
    kept = "unit" if applied["server"].get("backend") == "systemd" else "container"
    became = after(steps, is_check, kept)
    tried = _tried(applied, steps.attempt, steps.again)
    return " ".join(filter(None, (f"{name} is not healthy.", became, cause, tried)))


def after(steps: Steps, is_check: bool, kept: str = "container") -> str:
    """What became of the server that is not healthy, and of the one before it. C(kept) is what runs the first."""
    if is_check:
        return "Check mode: nothing was changed."
    if steps.waits:
        return _restored(steps.waits, asked_for=False)
    if _taken(steps.reverted):
        return _reverted(steps.reverted)
    if not _taken(steps.stopped):
        return "This run did not change it."
    if steps.stopped.get("msg"):
        return f"Stopping it failed: {steps.stopped['msg']}"
    return f"It was stopped, and its {kept} is kept for its log."


def _restored(waits: t.Sequence[Result], asked_for: bool) -> str:
    sick = next((wait for wait in waits if not _healthy(wait)), None)
    if sick is not None:
        return f"The previous server was restored, but it is not healthy either: {sick.get('msg')}"
    servers = [wait["item"] for wait in waits]
    names, urls = (" and ".join(str(one[key]) for one in servers) for key in ("served_model_name", "url"))
    away = round(_away(waits, asked_for))
    return f"The previous server {names} is serving again at {urls}, after {away} s without an answer."


def _reverted(reverted: Result) -> str:
    if reverted.get("msg"):
        return f"Restoring the previous server failed: {reverted['msg']}"
    if reverted.get("restored"):
        return "The previous server was restored and started; its address is not recorded, so it was not checked."
    return "The previous server was not running, and was restored as it was."


def _tried(applied: Result, attempt: Result, again: Result) -> str:
    caches = applied.get("caches") or {}
    if again.get("msg") and caches.get("from"):
        return f"It could not be started without the compile caches of {caches['from']}: {again['msg']}"
    if attempt.get("msg"):
        return f"The next fallback could not be tried: {attempt['msg']}"
    fallback = applied.get("fallback") or {}
    causes = fallback.get("causes") or []
    return f"Fallbacks tried: {len(causes)} of {fallback['rungs']}, because of {', '.join(causes)}." if causes else ""


def _taken(step: Result) -> bool:
    return bool(step) and not step.get("skipped")
