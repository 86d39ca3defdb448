# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model across a fleet: which host is changed in which wave, and what became of a wave. Pure."""

from __future__ import annotations

import datetime
import hashlib
import json
import math
import re
import typing as t
from dataclasses import dataclass, field, fields, replace

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import refuse_unknown
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._outcome import KEPT, not_committed, starts

Result = t.Mapping[str, t.Any]

ADDRESS = "vllm_rollout"
# A wave of a size each; the last one is repeated. Percentages are of the hosts that are to be changed.
WAVES: tuple[t.Any, ...] = ("10%", "30%", "60%")
PUT_BACK = ("wave", "fleet", "none")
# What the playbook reads of the settings by itself, since each host has its own.
HOOKS = ("drain_tasks", "undrain_tasks", "drain_command", "undrain_command")
# In place of a list of hosts, which must not be empty.
NOBODY = ["!all"]
# No setting of the server; which of them differ says the rest of a diff already.
NO_SETTINGS = ("state", "superseded", "stopped_for_it")


@dataclass(frozen=True)
class Settings:
    """How careful the rollout is. C(canaries) is None for the first host of each hardware class, times are seconds."""

    canaries: tuple[str, ...] | None = None
    waves: tuple[t.Any, ...] = WAVES
    max_failures: t.Any = 0
    soak: float = 30.0
    soak_checks: int = 2
    min_tokens_per_second: float = 0.0
    put_back: str = "wave"
    confirm: bool = False
    pause: float = 0.0
    # Whether what the starts of a wave measured is handed to the later ones.
    learn: bool = True
    # Whether what they compiled is.
    carry_caches: bool = True


KEYS = tuple(one.name for one in fields(Settings))


def settings_of(given: t.Any) -> Settings:
    """The settings as a user wrote them, as values of their types.

    Raises:
        VllmError: with the address of a key that is not known, or of a value that is not valid.
    """
    if not isinstance(given, t.Mapping):
        raise VllmError(f"{ADDRESS} must be a mapping, such as {{'soak': 300}}; got {given!r}.")
    refuse_unknown(ADDRESS, given, (*KEYS, *HOOKS))
    said = {key: value for key, value in given.items() if value is not None}
    made = {key: CONVERT[key](f"{ADDRESS}.{key}", value) for key, value in said.items()}
    return replace(Settings(), **{key: value for key, value in made.items() if key in KEYS})


def share(address: str, value: t.Any, whole: int) -> int:
    """A count, or a percentage of the whole, rounded down.

    Raises:
        VllmError: for anything else.
    """
    found = re.fullmatch(r"(\d{1,6})\s*(%?)", str(value).strip())
    number = int(found.group(1)) if found else -1
    if not found or (found.group(2) and number > 100) or isinstance(value, bool):
        raise VllmError(f"{address} must be a count such as 3 or a percentage such as 25%; got {value!r}.")
    return whole * number // 100 if found.group(2) else number


def _words(address: str, value: t.Any) -> tuple[str, ...]:
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, (list, tuple)):
        raise VllmError(f"{address} must be a list of hosts and groups; got {value!r}.")
    return tuple(str(one).strip() for one in listed if str(one).strip())


def _canaries(address: str, value: t.Any) -> tuple[str, ...] | None:
    return None if value == "class" else _words(address, value)


def _sizes(address: str, value: t.Any) -> tuple[t.Any, ...]:
    listed = value if isinstance(value, (list, tuple)) else [value]
    if not listed:
        raise VllmError(f"{address} must have at least one size, such as 25%; got {value!r}.")
    for one in listed:
        share(address, one, 100)
        if not re.search(r"[1-9]", str(one)):
            raise VllmError(f"{address} must be sizes of 1 host or more; got {one!r}.")
    return tuple(listed)


def _failures(address: str, value: t.Any) -> t.Any:
    share(address, value, 100)
    return value


def _number(address: str, value: t.Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if isinstance(value, bool) or not 0 <= number < math.inf:
        raise VllmError(f"{address} must be a number that is not negative; got {value!r}.")
    return number


def _count(address: str, value: t.Any) -> int:
    number = _number(address, value)
    if number < 1 or number != int(number):
        raise VllmError(f"{address} must be a whole number of 1 or more; got {value!r}.")
    return int(number)


def _switch(address: str, value: t.Any) -> bool:
    words = {"true": True, "yes": True, "false": False, "no": False}
    if str(value).lower() not in words:
        raise VllmError(f"{address} must be true or false; got {value!r}.")
    return words[str(value).lower()]


def _command(address: str, value: t.Any) -> None:
    if not isinstance(value, (list, tuple)) or not value:
        raise VllmError(f"{address} must be a list, of a command and its arguments; got {value!r}.")


def _file(address: str, value: t.Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise VllmError(f"{address} must be the path of a file with tasks; got {value!r}.")


def _scope(address: str, value: t.Any) -> str:
    if value not in PUT_BACK:
        raise VllmError(f"{address} must be one of {', '.join(PUT_BACK)}; got {value!r}.")
    return str(value)


CONVERT: dict[str, t.Callable[[str, t.Any], t.Any]] = {
    "canaries": _canaries,
    "waves": _sizes,
    "max_failures": _failures,
    "soak": _number,
    "soak_checks": _count,
    "min_tokens_per_second": _number,
    "put_back": _scope,
    "confirm": _switch,
    "pause": _number,
    "learn": _switch,
    "carry_caches": _switch,
    # Each host reads its own hooks.
    "drain_tasks": _file,
    "undrain_tasks": _file,
    "drain_command": _command,
    "undrain_command": _command,
}


# ---------------------------------------------------------------------------------------------------------------------
# Before the first change
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    """A host as the look before the first change found it: the result of M(gpufleet.vllm.vllm_server) with C(look)."""

    name: str
    hardware_class: str = ""
    groups: tuple[str, ...] = ()
    found: Result = field(default_factory=dict)
    # Why there is no such result.
    failure: str = ""

    @property
    def refusal(self) -> tuple[str, str] | None:
        """The id and the sentence of why it cannot be changed."""
        if self.found.get("unreachable"):
            return "unreachable", _lost(self.found) or "The host cannot be reached."
        if self.failure or self.found.get("failed") or "pending" not in self.found:
            said = self.found.get("message") or self.found.get("msg") or self.failure or "The look at it failed."
            return str(self.found.get("reason") or "unknown"), one_line(said)
        return ("locked", one_line(self.found["busy"])) if self.found.get("busy") else None

    @property
    def is_right(self) -> bool:
        """Whether it serves what is wanted, healthy and committed."""
        return self.refusal is None and not self.found.get("pending")

    @property
    def is_unfinished(self) -> bool:
        """Whether a run that was cut short has changed it already, and did not commit that."""
        return bool(self.found.get("pending")) and not self.found.get("actions") and self.refusal is None


@dataclass(frozen=True)
class Wave:
    name: str
    hosts: tuple[str, ...]
    is_canary: bool = False


def plan(fleet: t.Sequence[Host], settings: Settings) -> dict[str, t.Any]:
    """Who is changed when, or why nobody is.

    Raises:
        VllmError: when a canary is neither a host nor a group of this run.
    """
    refused = [one for one in fleet if one.refusal]
    # What a run has begun is finished first: it costs no load.
    todo = sorted((one for one in fleet if not (one.refusal or one.is_right)), key=lambda one: not one.is_unfinished)
    waves = _waves(fleet, todo, settings)
    budget = share(f"{ADDRESS}.max_failures", settings.max_failures, len(fleet))
    ok = len(refused) <= budget
    hosts = [name for wave in waves for name in wave.hosts]
    return {
        "ok": ok,
        "message": _plan_sentence(fleet, refused, waves, budget),
        "pattern": hosts if ok and hosts else NOBODY,
        "serial": [len(wave.hosts) for wave in waves] or [1],
        "waves": [{"name": wave.name, "hosts": list(wave.hosts), "canary": wave.is_canary} for wave in waves],
        "unchanged": [one.name for one in fleet if one.is_right],
        "refused": {one.name: dict(zip(("reason", "message"), one.refusal or ())) for one in refused},
        "classes": {one.name: one.hardware_class for one in fleet},
        "compiles": {one.name: _compiled_for(one) if settings.carry_caches else "" for one in fleet},
        "changes": {one.name: changes(one.found) for one in fleet},
        "budget": budget,
        "settings": {key: getattr(settings, key) for key in KEYS},
        "table": _table(fleet, waves),
    }


def _waves(fleet: t.Sequence[Host], todo: t.Sequence[Host], settings: Settings) -> list[Wave]:
    canaries = _first_of_classes(fleet, todo) if settings.canaries is None else _named(fleet, todo, settings.canaries)
    rest = [one.name for one in todo if one.name not in canaries]
    sizes: list[int] = []
    while sum(sizes) < len(rest):
        size = settings.waves[min(len(sizes), len(settings.waves) - 1)]
        sizes.append(max(1, share(f"{ADDRESS}.waves", size, len(todo))))
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    groups = [tuple(rest[start : start + size]) for start, size in zip(starts, sizes)]
    first = [Wave("canaries", tuple(canaries), True)] if canaries else []
    return first + [Wave(f"wave {number} of {len(groups)}", group) for number, group in enumerate(groups, 1)]


def _first_of_classes(fleet: t.Sequence[Host], todo: t.Sequence[Host]) -> list[str]:
    """A host of each class, but for classes of which one serves what is wanted already: that one was the canary."""
    proven = {one.hardware_class for one in fleet if one.is_right}
    first: dict[str, str] = {}
    for one in todo:
        first.setdefault(one.hardware_class, one.name)
    return [name for hardware_class, name in first.items() if hardware_class not in proven]


def _named(fleet: t.Sequence[Host], todo: t.Sequence[Host], names: t.Sequence[str]) -> list[str]:
    known = {name for one in fleet for name in (one.name, *one.groups)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise VllmError(
            f"{ADDRESS}.canaries: {unknown[0]!r} is neither a host of this run nor a group of one. Check its spelling, "
            "and --limit."
        )
    return [one.name for one in todo if {one.name, *one.groups} & {*names}]


def _plan_sentence(fleet: t.Sequence[Host], refused: t.Sequence[Host], waves: t.Sequence[Wave], budget: int) -> str:
    changing = sum(len(wave.hosts) for wave in waves)
    if len(refused) > budget:
        which = (
            f"{len(refused)} of {host_count(len(fleet))} cannot be changed: {listed([one.name for one in refused])}."
        )
        return f"{which} {_allowance(budget)} Nothing was changed on any host."
    without = f" without {listed([one.name for one in refused])}, which cannot be changed" if refused else ""
    if not changing:
        return f"Nothing is to be changed{without}."
    names = ", ".join(f"{wave.name} ({len(wave.hosts)})" for wave in waves)
    return f"{changing} of {host_count(len(fleet))} are to be changed{without}: {names}."


def _allowance(budget: int) -> str:
    return f"{host_count(budget) if budget else 'No host'} may fail ({ADDRESS}.max_failures)."


def host_count(count: int) -> str:
    """A number of hosts, in words."""
    return f"{count} host{'' if count == 1 else 's'}"


def listed(names: t.Sequence[str], most: int = 5) -> str:
    """Some names, and how many there are besides."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def one_line(value: t.Any) -> str:
    """A text without line ends; empty for what is not there."""
    return " ".join(str(value or "").split())


def _sentences(message: t.Any) -> str:
    """A message about a server without the lines of its log that follow; a diagnosis has those that matter."""
    return one_line(str(message or "").partition("\n  ")[0])


def _lost(result: Result) -> str:
    """Why a host could not be reached, without the words with which Ansible begins every failure."""
    return re.sub(r"^(Task failed: )+", "", one_line(result.get("msg")))


def changes(found: Result) -> list[str]:
    """The settings in which a host differs from what is wanted, a line each; of a host without a server only that."""
    diff = found.get("diff") or {}
    before, after = diff.get("before") or {}, diff.get("after") or {}
    if not found.get("actions"):
        if not found.get("pending"):
            return []
        if (found.get("server") or {}).get("superseded"):
            return ["a change that was not committed"]
        sick = _sentences((found.get("health") or {}).get("msg"))
        return [f"nothing; its server is to be verified{f': {sick}' if sick else ''}"]
    if before.get("state", "absent") == "absent":
        others = displaced(found)
        return [f"in place of {', '.join(others)}" if others else "no server of that name yet"]
    then, now = _flat(before), _flat(after)
    keys = [key for key in {**then, **now} if then.get(key) != now.get(key) and key not in NO_SETTINGS]
    return [f"{key}: {_shown(then.get(key))} -> {_shown(now.get(key))}" for key in keys] or [str(found["actions"][0])]


def displaced(found: Result) -> list[str]:
    """The servers of other names that a plan stops."""
    own = (found.get("server") or {}).get("container_name")
    stops = [str(action).split()[1] for action in found.get("actions") or () if str(action).startswith("stop ")]
    return [name for name in stops if name != own]


def _flat(settings: Result) -> dict[str, t.Any]:
    """With the keys of C(engine) and C(env) by their addresses."""
    flat: dict[str, t.Any] = {}
    for key, value in settings.items():
        flat.update({f"{key}.{name}": one for name, one in value.items()} if isinstance(value, dict) else {key: value})
    return flat


def _shown(value: t.Any) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)


# The keys of a server on which it depends what it compiles, and where it looks for that.
COMPILED_BY = (
    "image",
    "venv",
    "model",
    "user",
    "volumes",
    "entrypoint",
    "engine",
    "engine_unchecked",
    "env",
    "fallbacks",
)


def _compiled_for(host: Host) -> str:
    """What two hosts have in common, as far as is known before a change, that compile the same; empty where nothing of
    that is kept."""
    spec = host.found.get("spec") or {}
    if host.refusal or not spec or spec.get("keep_caches") is False:
        return ""
    # A service has them in a directory with its name, which is in some of them.
    name = spec.get("container_name") or spec.get("name") if spec.get("venv") else ""
    depends = [host.hardware_class, name, *(spec.get(key) for key in COMPILED_BY)]
    return hashlib.sha256(json.dumps(depends, sort_keys=True, default=str).encode()).hexdigest()


def _table(fleet: t.Sequence[Host], waves: t.Sequence[Wave]) -> list[str]:
    """A line for each host that is not right already, those that cannot be changed first, then by wave."""
    wave_of = {name: (number, wave.name) for number, wave in enumerate(waves) for name in wave.hosts}
    # The same sentence for a whole fleet is read once.
    firsts: dict[t.Any, str] = {}
    rows = []
    for one in fleet:
        if one.refusal:
            reason, message = one.refusal
            first = firsts.setdefault(one.refusal, one.name)
            said = message if first == one.name else f"the same as {first}"
            rows.append((-1, one.name, one.hardware_class, reason, said))
        elif not one.is_right:
            number, wave = wave_of[one.name]
            rows.append((number, one.name, one.hardware_class, wave, "; ".join(changes(one.found))))
    cells = [row[1:] for row in sorted(rows, key=lambda row: row[0])]
    widths = [max((len(row[column]) for row in cells), default=0) for column in range(3)]
    lines = [f"{a:{widths[0]}}  {b:{widths[1]}}  {c:{widths[2]}}  {d}".rstrip() for a, b, c, d in cells]
    right = sum(1 for one in fleet if one.is_right)
    return [*lines, *([f"{host_count(right)}: nothing to change"] if right else [])]


# ---------------------------------------------------------------------------------------------------------------------
# After a wave
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Changed:
    """What a wave did to a host: the role's result, and what was seen of the server afterwards.

    C(failure) is the message of a task that failed and is none of the role's, C(soak) the last check, C(now) a look at
    the server after it, C(committed) what its commit came to.
    """

    done: Result = field(default_factory=dict)
    failure: str = ""
    soak: Result = field(default_factory=dict)
    now: Result = field(default_factory=dict)
    committed: Result = field(default_factory=dict)

    @property
    def message(self) -> str:
        """What the role said, and what became of that by the commit."""
        said = str(self.done.get("message") or "")
        if self.committed.get("msg"):
            return f"{said} But {not_committed(self.committed)}"
        return said.replace(KEPT, "") if self.committed else said

    @property
    def server(self) -> Result:
        """The server after the change, as the result of the role has it."""
        return t.cast(Result, self.done.get("server") or {})

    @property
    def is_anothers(self) -> bool:
        """Whether another run has the server now; what that one made is not this run's to put back."""
        return self.now.get("reason") == "overtaken" or self.done.get("reason") in ("overtaken", "locked")

    def undo(self) -> str:
        """The state of role vllm_server that puts the host back; empty where there is nothing to put back."""
        # What only was planned is not to be undone: the server of that name is the one that served before.
        if self.is_anothers or self.done.get("pending") or self.done.get("unreachable"):
            return ""
        if self.server.get("superseded"):
            return "reverted"
        return "stopped" if starts(self.done) and not self.done.get("failed") else ""

    @property
    def is_to_commit(self) -> bool:
        return bool(self.server.get("superseded") or self.done.get("changed"))


def trouble(host: Changed, least_rate: float = 0.0) -> str:
    """Why the change of a host did not go well; empty when it did."""
    if host.done.get("unreachable"):
        return f"unreachable: {_lost(host.done)}"
    if host.done.get("failed"):
        return one_line(host.done.get("message") or host.done.get("msg"))
    if not host.done:
        # Nothing but the hook is before what has a result.
        drain = f"Its server was not changed, since the drain failed: {host.failure}"
        return drain if host.failure else "its change left no result"
    if host.failure:
        return f"The undrain failed: {host.failure}"
    return _soak_trouble(host, least_rate)


def _soak_trouble(host: Changed, least_rate: float) -> str:
    for step, what in ((host.soak, "checked again"), (host.now, "looked at again")):
        if step.get("unreachable"):
            return f"unreachable when it was {what}: {_lost(step)}"
    if host.soak and not host.soak.get("skipped") and not host.soak.get("healthy"):
        return f"not healthy any more: {_sentences(host.soak.get('msg'))}"
    if host.now.get("reason"):
        return one_line(host.now.get("message") or host.now.get("msg"))
    then, now = host.server.get("started_at"), (host.now.get("server") or {}).get("started_at")
    if then and now and _is_later(str(then), str(now)):
        return f"the server ended and was started again at {now}, after this run had started it at {then}"
    rate = host.soak.get("tokens_per_second")
    if least_rate and rate is not None and rate < least_rate:
        return f"{rate} tokens/s, fewer than {least_rate:g} ({ADDRESS}.min_tokens_per_second)"
    return ""


# Seconds by which the time of one start may differ when it is told again: systemd has it by another clock.
JITTER = 2


def _is_later(then: str, now: str) -> bool:
    """Whether these are two starts (ISO 8601, UTC) and not one."""
    try:
        first, last = (datetime.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S") for text in (then, now))
    except ValueError:
        return then != now
    return abs((last - first).total_seconds()) > JITTER


def verdict(rollout: Result, earlier: t.Sequence[Result], hosts: t.Mapping[str, Changed]) -> dict[str, t.Any]:
    """What became of the next wave that has no verdict: what of it is committed and put back, and whether to go on."""
    wave, settings = rollout["waves"][len(earlier)], rollout["settings"]
    changed = {
        name: hosts.get(name, Changed({"failed": True, "message": "nothing is known of it"})) for name in wave["hosts"]
    }
    troubles = {name: trouble(one, settings["min_tokens_per_second"]) for name, one in changed.items()}
    failed = {name: text for name, text in troubles.items() if text}
    before = len(rollout["refused"]) + sum(len(one["failed"]) for one in earlier)
    spent = before + len(failed)
    stops = bool(failed) and (wave["canary"] or spent > rollout["budget"])
    undone = _put_back(earlier, changed, failed, settings["put_back"] if stops else "")
    commits = [name for name, one in changed.items() if one.is_to_commit and name not in {*failed, *undone}]
    later = settings["put_back"] == "fleet"
    return {
        "wave": wave["name"],
        "stops": stops,
        "failed": failed,
        "put_back": undone,
        "commit": [] if stops or later else commits,
        # With put_back: fleet, the whole rollout is one change.
        "commit_later": commits if later and not stops else [],
        "pack": [] if stops or later else _packing(rollout, earlier, commits),
        "states": {name: one.undo() for name, one in changed.items() if one.undo()},
        "message": _verdict_sentence(rollout, wave, failed, before, stops),
    }


def _packing(rollout: Result, earlier: t.Sequence[Result], commits: t.Sequence[str]) -> list[str]:
    """The first host of each kind whose compile caches later waves can start with, unless an earlier one had them."""
    compiles = rollout["compiles"]
    wanted = {compiles[name] for wave in rollout["waves"][len(earlier) + 1 :] for name in wave["hosts"]}
    wanted -= {"", *(compiles[name] for one in earlier for name in one["pack"])}
    firsts: dict[str, str] = {}
    for name in commits:
        firsts.setdefault(compiles[name], name)
    return [name for kind, name in firsts.items() if kind in wanted]


def _put_back(
    earlier: t.Sequence[Result], changed: t.Mapping[str, Changed], failed: t.Collection[str], scope: str
) -> dict[str, str]:
    """The hosts to put back, with the state that does it. One that failed after its role had ended is put back alone
    when the rollout goes on; what failed in the role is back already."""
    if scope == "none":
        return {}
    whole = {name: one.undo() for name, one in changed.items() if scope or name in failed}
    before = {name: state for one in earlier for name, state in one["states"].items() if name in one["commit_later"]}
    return {name: state for name, state in {**(before if scope == "fleet" else {}), **whole}.items() if state}


def _verdict_sentence(rollout: Result, wave: Result, failed: t.Mapping[str, str], before: int, stops: bool) -> str:
    name, count = wave["name"].capitalize(), len(wave["hosts"])
    if not failed:
        return f"{name}: {'the host is' if count == 1 else f'all {count} hosts are'} healthy."
    which = f"{name}: {len(failed)} of {host_count(count)} failed ({listed(list(failed))})."
    if wave["canary"]:
        return f"{which} A canary may not fail: the rollout stops, and no other host is changed."
    so_far = f" It is {before + len(failed)} in all." if before else ""
    goes = "The rollout stops, and no further host is changed." if stops else "The rollout continues."
    return f"{which}{so_far} {_allowance(rollout['budget'])} {goes}"
