# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of a run, for people and playbooks: the same in check mode."""

from __future__ import annotations

import datetime
import shlex
import typing as t
from dataclasses import replace

from .._server.spec import asked
from .backend import SUFFIX, EffectOf, Instance, Other, Seen
from .decide import conflicting, looked
from .job import Decision, Job
from .plan import (
    Observed,
    kept as kept_servers,
)
from .record import recorded_spec


def result(job: Job, decision: Decision, effect_of: EffectOf | None, pulled: t.Sequence[str] = ()) -> dict[str, t.Any]:
    """The result of a run, from its plan: the same in check mode. Without effects nothing is to be done."""
    decided, wish, found = decision.plan, decision.wish, decision.measurement
    lines = [*pulled, *decided.words(job.server)]
    shown = [shlex.join(job.backend.provide_command(wish.spec.image))] if pulled and wish.spec else []
    return {
        "changed": decided.changed or bool(pulled),
        "actions": lines,
        "commands": shown + commands(decision, effect_of),
        "files": files(decision, effect_of),
        "diff": {
            "before": dict(decided.before),
            "after": dict(decided.after),
            "prepared": "".join(f"{line}\n" for line in lines),
        },
        # Weights are what a server or its image can fetch as well, so their lack forbids nothing.
        "needs": sorted({*decision.needs, *(["weights"] if decision.preflight.missing_weights else [])}),
        "backend": job.backend.name,
        "vllm_version": wish.spec.vllm_version if wish.spec else None,
        "gpus": list(wish.gpus) if wish.gpus else None,
        "fit": dict(decision.preflight.fit) if decision.preflight.fit else None,
        "fallback": _fallback(decision),
        "measured_on": decision.preflight.measured_on or None,
        "caches": None,
        "learned": {found.key: dict(found.measured)} if found else {},
        "server": described(job, decision, seen=decision.seen),
        "health": None,
    }


def _fallback(decision: Decision) -> dict[str, t.Any] | None:
    if decision.exhausted:
        return decision.exhausted.to_dict(exhausted=True)
    return decision.wish.fallbacks.to_dict() if decision.wish.fallbacks else None


def commands(decision: Decision, effect_of: EffectOf | None) -> list[str]:
    """The plan as command lines, for people."""
    return [shlex.join(effect_of(action).command(action)) for action in decision.plan.actions] if effect_of else []


def files(decision: Decision, effect_of: EffectOf | None) -> dict[str, str]:
    """What the plan writes, by path; nothing of it is secret."""
    found: dict[str, str] = {}
    if effect_of:
        for action in decision.plan.actions:
            found.update(effect_of(action).files(action))
    return found


def described(job: Job, decision: Decision, target: str = "current", seen: Seen | None = None) -> dict[str, t.Any]:
    """A server as it is now, or as it was seen: this one, or by the name of its instance another one."""
    server = job.server if target in SUFFIX else target
    seen = seen or looked(replace(job, server=server))
    found = seen.instances.get("current")
    spec = recorded_spec(found.intent) if found else decision.wish.spec
    others = conflicting(seen.others, spec, job.params["exclusive"])
    stopped = kept_servers(Observed(seen.instances, others=others)) if target in SUFFIX else ()
    return {
        "container_name": server,
        "backend": found.backend if found else job.backend.name,
        "state": found.status if found else "absent",
        "container_id": found.identity if found else None,
        "image": found.artifact if found else None,
        "image_id": found.artifact_id if found else None,
        "url": spec.url if spec else None,
        "served_model_name": spec.served_model_names[0] if spec else None,
        "served_model_names": list(spec.served_model_names) if spec else [],
        "api_key_file": spec.api_key_file if spec else None,
        "access": spec.access if spec else {},
        "fingerprint": found.fingerprint if found else None,
        "started_at": found.started_at if found else None,
        "restarts": found.restarts if found else 0,
        "away_seconds": away_seconds(found, (*stopped, *filter(None, (seen.instances.get("superseded"),))))
        if found
        else None,
        "cold_start": found.is_cold if found else None,
        "superseded": bool(stopped) or "superseded" in seen.instances,
        "stopped_for_it": [one.name for one in stopped],
    }


def away_seconds(found: Instance, kept: t.Iterable[Instance | Other]) -> float | None:
    """For how long nobody was served before a server started: since it was told to stop, or what it stopped was."""
    if found.away_seconds is not None:
        return found.away_seconds
    told = [_time(one.stopping_since) for one in kept if one.identity in found.supersedes]
    return _seconds(min(filter(None, told), default=None), _time(found.started_at))


def gap_seconds(before: Instance | None, told: str, started_at: str | None) -> float | None:
    """For how long nobody was served before a restored server started: since the one in its place was told to stop, or
    had ended already; None where nobody can tell."""
    ended = None if before is None else told if before.running else before.ended_at
    return _seconds(_time(ended), _time(started_at))


def _seconds(since: datetime.datetime | None, until: datetime.datetime | None) -> float | None:
    """Between two moments; None where one is not known, or a clock was set back."""
    seconds = (until - since).total_seconds() if since and until else -1.0
    return seconds if seconds >= 0 else None


# A younger server may be one that is started again and again, of which one answer proves little. In seconds.
YOUNG = 60.0


def with_health(job: Job, found: dict[str, t.Any]) -> dict[str, t.Any]:
    """The result with the answers of a server that is as wanted: then nobody has to wait for it."""
    wishes, probe, server = job.params["health"], job.host.probe, found["server"]
    if wishes is None or probe is None or found["changed"] or job.params["state"] != "started":
        return found
    if server["state"] != "running" or _is_young(server["started_at"]) or _is_anothers_port(job, server):
        return found
    known = {"url": server["url"], "served_model_name": _asked(server), "api_key_file": server["api_key_file"]}
    return {**found, "health": probe({**known, **asked(server["access"], wishes)})}


def _is_anothers_port(job: Job, server: t.Mapping[str, t.Any]) -> bool:
    """Whether a process of somebody else listens in place of a server that would open its port itself: it gets no key,
    and the wait that follows says who it is."""
    spec = job.params
    # A service is always on the host's network.
    if spec.get("network_mode", "host") != "host" or not server["api_key_file"] or server["access"].get("uds"):
        return False
    owner = job.host.port_owner(spec["port"], "127.0.0.1" if spec["bind"] == "localhost" else spec["bind"])
    if owner is None or owner.pid is None or owner.container_id == server["container_id"]:
        return False
    holders = (backend.holders(spec["port"], spec["bind"]) for backend in job.host.backends.values())
    return not any(server["container_id"] in identities for identities in holders)


def _is_young(started_at: str | None) -> bool:
    """Whether a time (ISO 8601, UTC) is less than a minute ago; one that cannot be read is old."""
    started = _time(started_at)
    if started is None:
        return False
    now = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None)
    return 0 <= (now - started).total_seconds() < YOUNG


def _time(text: str | None) -> datetime.datetime | None:
    """A time (ISO 8601, UTC) to the second; None for one that cannot be read."""
    try:
        return datetime.datetime.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S")
    except ValueError:
        return None


def _asked(server: t.Mapping[str, t.Any]) -> str | list[str] | None:
    """The names that have to be listed, as the check of the health takes them."""
    names: list[str] = server["served_model_names"]
    return names if len(names) > 1 else t.cast("str | None", server["served_model_name"])


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
