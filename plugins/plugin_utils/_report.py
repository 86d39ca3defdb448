# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a fleet serves, as a report: a row for each host, the worst first; as lines, Markdown and JSON. Pure.

A report is C(title when message waves rows); a row has the keys of ROW.
"""

from __future__ import annotations

import json
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.tenants import gib
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._outcome import start_seconds, starts
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout import (
    Changed,
    Host,
    changes,
    displaced,
    host_count,
    one_line,
)

Result = t.Mapping[str, t.Any]
Report = dict[str, t.Any]

# What a row says, and of which type: the interface of the JSON. What is not known is empty or null. Times are seconds.
ROW: dict[str, t.Any] = {
    "host": "",
    "hardware_class": "",
    "status": "",
    "wave": "",
    "message": "",
    "reason": "",
    "before": "",
    "after": "",
    "changes": [],
    "url": "",
    "backend": "",
    "image": "",
    "vllm_version": None,
    "since": None,
    "restarts": None,
    "fallback": "",
    "measured_on": "",
    "caches": "",
    "gpus": "",
    "phases": [],
    "start_seconds": None,
    "downtime_seconds": None,
    "tokens_per_second": None,
    "diagnosis": {},
}
# In the order in which they need somebody's attention, with whether they do.
STATUSES = {
    "failed": True,
    "unhealthy": True,
    "unreachable": True,
    "refused": True,
    "stopped": True,
    "drifted": True,
    "put back": True,
    "not reached": False,
    "to be changed": False,
    "changed": False,
    "unchanged": False,
    "serving": False,
    "idle": False,
}


def is_bad(row: Result) -> bool:
    """Whether a host needs somebody's attention."""
    return STATUSES[row["status"]]


def report(title: str, when: str, message: str, rows: t.Iterable[Result], waves: t.Sequence[Result] = ()) -> Report:
    """The report, with the rows in the order in which they are read. C(when) is for people."""
    order = list(STATUSES)
    whole = [{**ROW, **row} for row in rows]
    whole.sort(key=lambda row: order.index(row["status"]))
    return {"title": title, "when": when, "message": message, "waves": list(waves), "rows": whole}


def counts(found: Report) -> dict[str, int]:
    """How many hosts there are of each status."""
    statuses = [row["status"] for row in found["rows"]]
    return {status: statuses.count(status) for status in STATUSES if status in statuses}


# ---------------------------------------------------------------------------------------------------------------------
# Of a rollout
# ---------------------------------------------------------------------------------------------------------------------


def of_rollout(
    plan: Result, verdicts: t.Sequence[Result], hosts: t.Mapping[str, tuple[Host, Changed, Result]], is_check: bool
) -> tuple[list[dict[str, t.Any]], str]:
    """The rows of a rollout and its sentence. Of each host: how it was found, what was done, and what putting it back
    came to."""
    wave_of = {name: number for number, wave in enumerate(plan["waves"]) for name in wave["hosts"]}
    rows = []
    for name, (host, changed, undone) in hosts.items():
        number = wave_of.get(name, len(verdicts))
        judged = verdicts[number] if number < len(verdicts) else {}
        put_back = any(name in verdict["put_back"] for verdict in verdicts)
        row = _row(host, changed, undone if put_back else {})
        row["status"], row["message"] = _status(host, changed, undone, judged, put_back, is_check)
        row["changes"] = plan["changes"].get(name, [])
        row["wave"] = plan["waves"][wave_of[name]]["name"] if name in wave_of else ""
        rows.append(row)
    return rows, _sentence(plan, verdicts, rows, is_check)


def _status(
    host: Host, changed: Changed, undone: Result, judged: Result, put_back: bool, is_check: bool
) -> tuple[str, str]:
    if host.refusal and not changed.done:
        reason, message = host.refusal
        return ("unreachable" if reason == "unreachable" else "refused"), message
    if host.is_right:
        return "unchanged", one_line(host.found.get("message"))
    if not judged:
        status = "to be changed" if is_check else "not reached"
        return status, one_line(host.found.get("message"))
    failure = judged["failed"].get(host.name, "")
    became = one_line(undone.get("message") or undone.get("msg")) if put_back else ""
    if failure:
        return "failed", f"{failure} {became}".strip()
    if put_back:
        is_back = undone and not (undone.get("failed") or undone.get("unreachable"))
        return ("put back" if is_back else "failed"), became or "It was not restored."
    # One that was young when it was looked at was only verified.
    return ("changed" if changed.is_to_commit else "unchanged"), one_line(changed.message)


def _row(host: Host, changed: Changed, undone: Result) -> dict[str, t.Any]:
    found, done = host.found, changed.done
    health = done.get("health") or found.get("health") or {}
    sick = next((one for one in (changed.soak, health) if one.get("diagnosis")), {})
    last = next(filter(lambda one: one.get("server"), (undone, done, found)), {})
    server = _serving(last)
    phases = [
        {"name": one["name"], "seconds": one["seconds"]} for one in health.get("phases") or [] if one.get("seconds")
    ]
    return {
        "host": host.name,
        "hardware_class": host.hardware_class,
        "reason": str(done.get("reason") or (host.refusal or ("",))[0]),
        "before": _before(found),
        "after": served(server),
        "url": server.get("url") or "",
        "backend": server.get("backend") or "",
        "image": server.get("image") or "",
        "vllm_version": done.get("vllm_version") or found.get("vllm_version"),
        "since": server.get("started_at"),
        "restarts": server.get("restarts"),
        "fallback": fallback(done.get("fallback") or found.get("fallback") or {}),
        "measured_on": done.get("measured_on") or "",
        "caches": _caches(done.get("caches") or {}),
        "phases": phases,
        "start_seconds": _start_seconds(done, health) if starts(done) and health.get("healthy") else None,
        "downtime_seconds": _downtime(done, undone),
        # Of the server that serves: what was put back is not asked again.
        "tokens_per_second": None
        if undone
        else changed.soak.get("tokens_per_second") or health.get("tokens_per_second"),
        "diagnosis": sick.get("diagnosis") or {},
    }


def _serving(last: Result) -> Result:
    """The server that runs after a step: its own, else what the step has restored."""
    server: Result = last.get("server") or {}
    others = [one for one in last.get("restored") or () if one.get("state") == "running"]
    return others[0] if others and server.get("state") != "running" else server


def served(server: Result) -> str:
    """What a server serves, in words; "nothing" when it does not run."""
    if server.get("state") != "running":
        return "nothing"
    return f"{server.get('served_model_name') or 'a model'} ({server.get('image') or server.get('backend')})"


def _before(found: Result) -> str:
    return ", ".join(displaced(found)) or served(found.get("server") or {})


def _start_seconds(done: Result, health: Result) -> float | None:
    found = start_seconds(done.get("server") or {}, health)
    return None if found is None else round(found, 1)


def _downtime(done: Result, undone: Result) -> float | None:
    """For how long nobody was answered, by its change and by putting it back; null where nobody can tell of either."""
    each = [one.get("away_seconds") for one in (done, undone) if one]
    return None if not each or None in each else round(sum(each), 1)


def _caches(used: Result) -> str:
    """Whose compile caches a start had, or why it had none; empty where there were none."""
    return str(used.get("from") or (f"none: {one_line(used['note'])}" if used.get("note") else ""))


def fallback(used: Result) -> str:
    """The fallback in use, in words; empty when there is none."""
    if not used.get("rung"):
        return ""
    causes = ", ".join(used.get("causes") or ())
    return f"fallback {used['rung']} of {used['rungs']}, because of {causes}: {json.dumps(used.get('change'))}"


def _sentence(plan: Result, verdicts: t.Sequence[Result], rows: t.Sequence[Result], is_check: bool) -> str:
    number = {status: sum(1 for row in rows if row["status"] == status) for status in STATUSES}
    if not plan["ok"] or is_check:
        return str(plan["message"])
    bad = sum(number[status] for status in ("failed", "unreachable", "refused"))
    parts = [f"{count} {status}" for status, count in number.items() if count]
    tally = f"{host_count(len(rows))}: {', '.join(parts)}."
    if verdicts and verdicts[-1]["stops"]:
        return f"{verdicts[-1]['message']} {tally} Run the same command again once the cause is gone."
    done = len(verdicts) == len(plan["waves"])
    if not done:
        return f"The rollout ended before {plan['waves'][len(verdicts)]['name']}. {tally} Run the same command again."
    return f"The rollout is complete{', except for what failed' if bad else ''}. {tally}"


# ---------------------------------------------------------------------------------------------------------------------
# Of what is there
# ---------------------------------------------------------------------------------------------------------------------


def of_status(hosts: t.Mapping[str, tuple[Result, Host | None]]) -> tuple[list[dict[str, t.Any]], str]:
    """The rows of a fleet as it is, and their sentence. Of each host: the facts about its GPUs and servers, and where a
    model is wanted, what a look at it found."""
    rows = []
    for name, (facts, host) in hosts.items():
        row = _row(host, Changed(), {}) if host else {"host": name, "hardware_class": facts.get("hardware_class") or ""}
        row["after"] = ", ".join(map(_named, facts.get("servers") or ())) or (row.get("after") or "nothing")
        row.update(before="", gpus=_gpus(facts), changes=changes(host.found) if host else [])
        row["hardware_class"] = row["hardware_class"] or facts.get("hardware_class") or ""
        row["status"], row["message"] = _state(facts, host)
        if row.get("restarts"):
            row["message"] = f"{row['message']} {_restarted(row)}".strip()
        rows.append(row)
    bad = sum(1 for row in rows if is_bad(row))
    drifted = sum(1 for row in rows if row["status"] == "drifted")
    serving = sum(1 for row in rows if row["after"] != "nothing")
    return rows, (
        f"{serving} of {host_count(len(rows))} {'has' if serving == 1 else 'have'} a server; "
        f"{bad} need{'s' if bad == 1 else ''} attention"
        f"{f', {drifted} of them because of a difference from what is wanted' if drifted else ''}."
    )


def _state(facts: Result, host: Host | None) -> tuple[str, str]:
    """The status of a host, and why."""
    if facts.get("status") == "unreachable":
        return "unreachable", one_line(facts.get("message"))
    if host is None:
        return _unasked(facts)
    if host.refusal:
        return "refused", host.refusal[1]
    health, differs = host.found.get("health") or {}, changes(host.found)
    if health and not health.get("healthy"):
        return "unhealthy", one_line(health.get("msg")) or one_line(host.found.get("message"))
    if host.found.get("actions"):
        return "drifted", f"It differs from what is wanted: {'; '.join(differs)}."
    server = host.found.get("server") or {}
    if server.get("superseded"):
        again = "Run the same rollout or deployment again: it is verified, then committed or put back."
        return "drifted", f"It has {'; '.join(differs)}. {again}"
    if server.get("state", "running") != "running":
        # Nothing differs, and it is between two starts of a crash loop.
        why = f"ansible-playbook gpufleet.vllm.diagnose -l {host.name} says why."
        return "unhealthy", f"{server.get('container_name')} is {server['state']}; {why}"
    return "serving", one_line(host.found.get("message"))


def _restarted(row: Result) -> str:
    """What a row says of a server that was started again by itself: nobody else may have noticed."""
    times, since = row["restarts"], f"{str(row['since'] or '')[:16].replace('T', ' ')}"
    last = f", last at {since} UTC" if since else ""
    return f"It ended and was started again {times} time{'' if times == 1 else 's'}{last}."


def _unasked(facts: Result) -> tuple[str, str]:
    """The status of a host of which nobody says what it is to serve."""
    servers = facts.get("servers") or ()
    # What a change keeps is stopped, and has the name of what serves.
    up = {one.get("name") for one in servers if one.get("running")}
    down = [str(one.get("name")) for one in servers if one.get("name") not in up]
    if facts.get("status") not in ("ok", "no_gpu"):
        return "unhealthy", one_line(facts.get("message")) or f"Its GPUs are {facts.get('status')}."
    if down:
        return "stopped", f"Not running: {', '.join(down)}."
    return ("serving" if servers else "idle"), one_line(facts.get("message"))


def _named(server: Result) -> str:
    where = f" on port {server['port']}" if server.get("port") else ""
    stopped = "" if server.get("running") else ", stopped"
    return f"{server.get('served_model_name') or server.get('name')}{where}{stopped}"


def _gpus(facts: Result) -> str:
    """The GPUs of a host and how much of their memory is in use."""
    gpus = facts.get("gpus") or []
    if not gpus:
        return ""
    count = f"{len(gpus)} x {facts.get('hardware_class')}"
    total, free = (_sum(gpus, f"memory_{what}_mib") for what in ("total", "free"))
    return count if total is None or free is None else f"{count}, {gib(total - free)} of {gib(total)} GiB in use"


def _sum(gpus: t.Sequence[Result], key: str) -> int | None:
    values = [gpu.get(key) for gpu in gpus]
    return None if None in values else sum(values)  # type: ignore[arg-type]


# ---------------------------------------------------------------------------------------------------------------------
# For people and programs
# ---------------------------------------------------------------------------------------------------------------------


def lines(found: Report) -> list[str]:
    """The sentence, and a line for each trouble with the hosts that have it, for a terminal."""
    of_trouble: dict[str, list[str]] = {}
    for row in filter(is_bad, found["rows"]):
        of_trouble.setdefault(f"{row['status']}: {row['message']}", []).append(row["host"])
    named = [(", ".join(hosts), trouble) for trouble, hosts in of_trouble.items()]
    width = max((len(hosts) for hosts, _trouble in named if "," not in hosts), default=0)
    return [found["message"], *(f"{hosts:{width}}  {trouble}" for hosts, trouble in named)]


def as_json(found: Report) -> str:
    """The report for programs, with how many hosts there are of each status."""
    return json.dumps({**found, "counts": counts(found)}, indent=2, ensure_ascii=False) + "\n"


def seconds(value: t.Any) -> str:
    """A time for people; empty when it is not known."""
    if value is None:
        return ""
    return f"{value:.0f} s" if value < 600 else f"{value / 60:.0f} min"


def markdown(found: Report) -> str:
    """The report as Markdown: what needs attention in full, then a table of all hosts."""
    tally = ", ".join(f"{count} {status}" for status, count in counts(found).items())
    parts = [f"# {found['title']}", f"{found['when']} · {tally}", found["message"]]
    bad = [row for row in found["rows"] if is_bad(row)]
    if bad:
        parts.append("## Needs attention")
        parts += [_attention(row) for row in bad]
    if found["waves"]:
        parts += ["## Waves", "\n".join(f"- {_cell(wave_line(wave), 0)}" for wave in found["waves"])]
    return "\n\n".join([*parts, "## Hosts", _hosts_table(found["rows"])]) + "\n"


def _attention(row: Result) -> str:
    where = f", {row['wave']}" if row["wave"] else ""
    entries = [f"**{_cell(row['host'])}**: {row['status']}{where}"]
    entries += [_cell(row["message"], 0)] if row["message"] else []
    entries += [f"{name}: {_cell(text, 0)}" for name, text in details(row)]
    return "\n".join([f"- {entries[0]}", *(f"  - {entry}" for entry in entries[1:])])


def details(row: Result) -> list[tuple[str, str]]:
    """What else is known of a host that needs attention: a name and a text each."""
    diagnosis = row["diagnosis"]

    def unsaid(text: t.Any) -> str:
        """A text of which the message does not have all already."""
        return "" if one_line(text) in row["message"] else one_line(text)

    known = [
        ("diagnosis", ": ".join(filter(None, (diagnosis.get("id"), unsaid(diagnosis.get("cause")))))),
        ("remedy", unsaid(diagnosis.get("remedy"))),
        ("evidence", unsaid(diagnosis.get("evidence"))),
        ("fallback", row["fallback"]),
        ("caches of", row["caches"]),
        ("differs", unsaid("; ".join(row["changes"]))),
        ("now", row["after"] if row["after"] != "nothing" or row["before"] not in ("", "nothing") else ""),
    ]
    return [(name, text) for name, text in known if text]


def wave_line(wave: Result) -> str:
    """What became of a wave."""
    return str(wave.get("message") or f"{wave['name'].capitalize()}: not reached.")


Column = tuple[str, t.Callable[[Result], str]]

HOST: tuple[Column, ...] = (
    ("host", lambda row: row["host"]),
    ("class", lambda row: row["hardware_class"]),
    ("status", lambda row: row["status"]),
)
MEASURED: tuple[Column, ...] = (
    ("start", lambda row: seconds(row["start_seconds"])),
    ("downtime", lambda row: seconds(row["downtime_seconds"])),
    ("tokens/s", lambda row: "" if row["tokens_per_second"] is None else f"{row['tokens_per_second']:g}"),
    ("fallback", lambda row: row["fallback"].partition(":")[0]),
    ("measured on", lambda row: row["measured_on"]),
    ("caches of", lambda row: row["caches"]),
)
COLUMNS: tuple[Column, ...] = (
    *HOST,
    ("wave", lambda row: row["wave"]),
    ("before", lambda row: row["before"]),
    ("serves", lambda row: row["after"]),
    ("vLLM", lambda row: row["vllm_version"] or ""),
    ("since", lambda row: str(row["since"] or "")[:16].replace("T", " ")),
    ("restarts", lambda row: str(row["restarts"] or "")),
    ("GPUs", lambda row: row["gpus"]),
    *MEASURED,
)


def columns(rows: t.Sequence[Result]) -> list[Column]:
    """The columns in which at least one of the hosts has anything to say."""
    return [(name, text) for name, text in COLUMNS if any(text(row) for row in rows)]


def _hosts_table(rows: t.Sequence[Result]) -> str:
    shown = columns(rows)
    heads = [f"| {' | '.join(name for name, _text in shown)} |", f"|{' --- |' * len(shown)}"]
    return "\n".join([*heads, *(f"| {' | '.join(_cell(text(row)) for _name, text in shown)} |" for row in rows)])


def _cell(text: str, most: int = 80) -> str:
    """A text that Markdown shows as it is."""
    text = one_line(text)
    text = text if not most or len(text) <= most else text[: most - 3] + "..."
    return "".join(f"\\{one}" if one in "\\`*_|<>[]#" else one for one in text)


def failures(found: Report) -> dict[str, str]:
    """A sentence for each host for which the run is to fail."""
    bad = ("failed", "unreachable", "refused")
    return {row["host"]: f"{row['status']}: {row['message']}" for row in found["rows"] if row["status"] in bad}
