# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks a server once, and says what its answers mean where no log is read.

Loads nothing that reads a log, so that whoever only wants to know whether a server still answers pays no more.
"""

from __future__ import annotations

import datetime
import typing as t

from .._errors import VllmError
from .._host.processes import ProcessState
from .api import OPTIONS, Api
from .wait import Report, Wait

# What to do about faults that no log tells, by the kind of the verdict.
REMEDIES = {
    "api-key-refused": "Give api_key_file (or api_key) the key that the server was started with.",
    "port-in-use": "Stop the other server, or give this one another port. 'ss -ltnp' on the host shows who listens; "
    "vLLM 0.7.3 to 0.24 do not notice a second vLLM of the same user on their port.",
    "bad-answer": "Check that the weights are complete and are this model's, then remove dtype, quantization, "
    "kv_cache_dtype and attention_backend from engine one by one.",
    "request-refused": "Correct the request: the name is served_model_name, a model without a chat template needs "
    "chat_template in engine (or leave completion out of checks), and max_tokens has to fit max_model_len.",
    "request-failed": "Read the traceback of the request in the server's log.",
    "timeout": "Look at the server's log; raise timeout if it is still loading.",
    "unknown": "Read the log lines below from the top: the first error is the cause, what follows are its "
    "consequences.",
}


def probe(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Ask a server every check once, and return what M(gpufleet.vllm.vllm_health) returns.

    C(params) are options of that module; what is missing or None has its default there. No log is read.

    Raises:
        VllmError: when nothing can be asked: no address, no readable key.
    """
    defaults = {name: option.get("default") for name, option in OPTIONS.items()}
    said = {name: typed(name, value) for name, value in params.items() if value is not None}
    asked = {**defaults, **said, "timeout": 0}
    api = Api(asked)
    report = Wait(api.checks, api.ask, ProcessState, 0, 0, once=True, interval=0).run()
    seen = without_key(outcome(report), api.key)
    result = {"changed": False, **seen, "phases": [], "percent": None, "detail": ""}
    if report.healthy:
        return result
    found = _redacted(by_answers(report, api.server.url), api.key)
    message = "\n".join(
        [f"{found['cause']} {found['remedy']}", *([f"  {found['evidence']}"] if found["evidence"] else [])]
    )
    return {**result, "diagnosis": found, "reason": found["id"], "log": [], "msg": message}


def typed(name: str, value: t.Any) -> t.Any:
    """A parameter in its type, as Ansible would read it: a value of a variable is often text.

    Raises:
        VllmError: when it cannot be that.
    """
    option = OPTIONS.get(name, {})
    kind, choices = option.get("type"), option.get("choices", ())
    if kind == "int":
        return _whole(name, value)
    if kind == "bool":
        return str(value).strip().lower() in ("true", "yes", "on", "y", "t", "1")
    if kind == "list":
        value = [part.strip() for part in value.split(",")] if isinstance(value, str) else value
        unknown = [part for part in value if part not in choices]
        if unknown:
            raise VllmError(f"{name} must be of {', '.join(choices)}; got {', '.join(map(str, unknown))}.")
    return value


def _whole(name: str, value: t.Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise VllmError(f"{name} must be a whole number; got {value!r}.") from None


def without_key(seen: dict[str, t.Any], key: str | None) -> dict[str, t.Any]:
    """What was seen, without the key: whoever answers may repeat it."""
    if not key:
        return seen
    from .._host.redaction import hide

    return t.cast("dict[str, t.Any]", hide(seen, [key]))


def _redacted(found: dict[str, t.Any], key: str | None) -> dict[str, t.Any]:
    from .._host.redaction import redact_value

    return t.cast("dict[str, t.Any]", redact_value(found, [key] if key else []))


def outcome(report: Report) -> dict[str, t.Any]:
    """What a report says by itself, as the module returns it."""
    return {
        "healthy": report.healthy,
        "finished": report.finished,
        "checks": [check.to_dict() for check in report.checks],
        "phase": report.phase,
        "elapsed": round(report.elapsed, 3),
        "healthy_at": _now() if report.healthy else None,
        "diagnosis": None,
        "tokens_per_second": tokens_per_second(report),
    }


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")


def tokens_per_second(report: Report) -> float | None:
    """How fast the last completion came, its prompt and the way there included; None where no tokens were counted."""
    rates = [check.tokens / check.seconds for check in report.checks if check.ok and check.tokens and check.seconds > 0]
    return round(rates[-1], 1) if rates else None


def by_answers(report: Report, url: str) -> dict[str, t.Any]:
    """The diagnosis of a server that is not healthy, from what it answered and how its process ended."""
    kind = "unknown" if report.exited else report.kind or "timeout"
    last = next((check for check in report.checks if not check.ok), None)
    return {
        "id": kind,
        "cause": cause_sentence(report, url),
        "remedy": REMEDIES[kind],
        "evidence": f"{last.name}: {last.detail}" if last and not report.exited else "",
        "retryable": True if kind == "timeout" else None,
        "symptoms": [],
    }


def cause_sentence(report: Report, url: str) -> str:
    """What was waited for, and what was seen last."""
    if report.exited:
        return report.failure
    waited = f"did not become healthy within {report.timeout:.0f} s" if report.timeout else "is not healthy"
    attempts = f"{report.attempts} attempt{'s' if report.attempts > 1 else ''}"
    last = next((check for check in report.checks if not check.ok), None)
    seen = f" Last check ({last.name}): {last.detail}." if last else ""
    return f"The server at {url} {waited} ({attempts}).{seen}"
