# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

"""Wanted and observed make a plan. Pure: check mode is a plan that is not applied.

A server has up to four slots. The current one carries the server's own name. A replacement is made in the C(-next)
slot while the current one still serves, and the one it replaces is kept, stopped, in the C(-superseded) slot until
the replacement is committed. The C(-try) slot is only filled while a replacement is tried.
Every step can be the last one of a killed run: the next plan starts from what it finds.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from ._errors import VllmError

Slot = t.Literal["current", "next", "trial", "superseded"]
State = t.Literal["present", "started", "stopped", "absent", "committed", "reverted"]
STATES: tuple[State, ...] = ("present", "started", "stopped", "absent", "committed", "reverted")
# What a server leaves behind unless asked, by the key of the spec that names its directory.
PURGEABLE = {"weights": "huggingface_dir", "encodings": "encodings_dir"}
SUFFIX: dict[Slot, str] = {"current": "", "next": "-next", "trial": "-try", "superseded": "-superseded"}
# What only a run that was cut short leaves behind.
LEFTOVERS: tuple[Slot, ...] = ("trial", "next")


@dataclass(frozen=True)
class Instance:
    """One server that exists on the host, in whatever state."""

    slot: Slot
    owned: bool
    running: bool
    fingerprint: str | None = None
    image_id: str | None = None
    intent: t.Mapping[str, t.Any] = field(default_factory=dict)
    # Files that were written for it (secrets), to be deleted with it.
    wrote: tuple[str, ...] = ()
    # Where it keeps what it compiled.
    caches: tuple[str, ...] = ()
    vllm_version: str | None = None


@dataclass(frozen=True)
class Wanted:
    """What the user asks for. Only C(present) and C(started) look at more than the name and the state."""

    state: State
    name: str
    fingerprint: str = ""
    intent: t.Mapping[str, t.Any] = field(default_factory=dict)
    image: str = ""
    adopt: bool = False
    recreate: bool = False
    # With C(absent): what of PURGEABLE goes too.
    purge: tuple[str, ...] = ()


@dataclass(frozen=True)
class Observed:
    """What is there: the instances by slot, the image, what has to be made first, and what stands in the way."""

    instances: t.Mapping[Slot, Instance] = field(default_factory=dict)
    image_id: str | None = None
    missing_directories: tuple[str, ...] = ()
    stale_secrets: tuple[str, ...] = ()
    # Sentences that forbid to start anything: no model directory, no token, no encodings.
    problems: tuple[str, ...] = ()
    # A sentence when the port belongs to something that this plan does not replace.
    port_conflict: str | None = None
    # Paths that other servers of this collection use.
    in_use: frozenset[str] = frozenset()
    # Everything that this server's instances, past ones too, keep compiled.
    caches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Action:
    """One effect. C(target) is a path, an image or a slot; C(because) is for people."""

    verb: str
    target: str
    because: str = ""
    to: str = ""


@dataclass(frozen=True)
class Plan:
    actions: tuple[Action, ...] = ()
    before: t.Mapping[str, t.Any] = field(default_factory=dict)
    after: t.Mapping[str, t.Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return bool(self.actions)

    def words(self, name: str) -> list[str]:
        """The plan as people read it, a line an action."""
        return [_words(action, name) for action in self.actions]


def _words(action: Action, name: str) -> str:
    target = name + SUFFIX[action.target] if action.target in SUFFIX else action.target
    to = f" to {name + SUFFIX[action.to]}" if action.to in SUFFIX else ""
    because = f" ({action.because})" if action.because else ""
    return f"{action.verb.replace('_', ' ')} {target}{to}{because}"


def plan(wanted: Wanted, observed: Observed) -> Plan:
    """Decide what to do.

    Raises:
        VllmError: when a server of that name exists that the collection did not create, or when the only server that
            works would be given up.
    """
    _refuse_foreign(wanted, observed)
    make = {
        "present": _present,
        "started": _present,
        "stopped": _stopped,
        "absent": _absent,
        "committed": _committed,
        "reverted": _reverted,
    }[wanted.state]
    actions = make(wanted, observed)
    problems = _problems(actions, observed)
    after = _after(wanted, observed) if actions else _snapshot(wanted, observed)
    return Plan(actions, _snapshot(wanted, observed), after, problems)


def _refuse_foreign(wanted: Wanted, observed: Observed) -> None:
    for slot, instance in observed.instances.items():
        if instance.owned or (wanted.adopt and slot not in LEFTOVERS):
            continue
        adopt = "" if slot in LEFTOVERS else ", or set adopt: true to let it be replaced"
        raise VllmError(
            f"{wanted.name + SUFFIX[slot]} exists and was not created by gpufleet.vllm (it has no label "
            "gpufleet.vllm.fingerprint), so it is left alone. Remove or rename it yourself, or choose another "
            f"container_name for the server{adopt}."
        )


def _problems(actions: tuple[Action, ...], observed: Observed) -> tuple[str, ...]:
    """What stands in the way of this plan; a plan that starts nothing is in nobody's way."""
    starts = any(action.verb in ("create", "start") for action in actions)
    if not starts:
        return ()
    return observed.problems + ((observed.port_conflict,) if observed.port_conflict else ())


def _prepare(wanted: Wanted, observed: Observed) -> tuple[Action, ...]:
    """What can be made ready while the current server goes on serving."""
    actions = [Action("create_directory", path) for path in observed.missing_directories]
    actions += [Action("write_secret", key, "the file does not hold what was given") for key in observed.stale_secrets]
    return tuple(actions)


def _pull(wanted: Wanted, observed: Observed) -> tuple[Action, ...]:
    return (Action("pull", wanted.image, "it is not on the host"),) if observed.image_id is None else ()


def difference(wanted: Wanted, observed: Observed, current: Instance) -> str:
    """Why the current server is not the wanted one, in words; empty when it is."""
    if not current.owned:
        return "it is adopted"
    if wanted.recreate:
        return "recreate was asked for"
    if current.fingerprint != wanted.fingerprint:
        keys = sorted(k for k in {*current.intent, *wanted.intent} if current.intent.get(k) != wanted.intent.get(k))
        return f"{', '.join(keys) or 'the content of a secret'} changed"
    if observed.image_id and current.image_id != observed.image_id:
        return f"{wanted.image} is another image now"
    return ""


def _present(wanted: Wanted, observed: Observed) -> tuple[Action, ...]:
    current = observed.instances.get("current")
    prepare = _prepare(wanted, observed)
    cleared = _cleared(observed, "a run that was cut short left it")
    start = (Action("start", "current"),) if _will_run(wanted, current) else ()
    if current is None:
        return prepare + _pull(wanted, observed) + cleared + (Action("create", "current"),) + start
    why = difference(wanted, observed, current)
    if not why:
        return prepare + cleared + (() if current.running else start)
    return prepare + _pull(wanted, observed) + cleared + _replace(observed, current, why) + start


def _cleared(observed: Observed, because: str) -> tuple[Action, ...]:
    return tuple(Action("remove", slot, because) for slot in LEFTOVERS if slot in observed.instances)


def _will_run(wanted: Wanted, current: Instance | None) -> bool:
    """C(present) leaves it as it is: a server that serves is not replaced by one that does not."""
    return wanted.state == "started" or (current is not None and current.running)


def _replace(observed: Observed, current: Instance, why: str) -> tuple[Action, ...]:
    """Make the new server beside the old one and try it; only then stop the old one, and keep it.

    When a superseded server is there already, the current one was never committed: it is not worth keeping.
    """
    make: tuple[Action, ...] = (Action("create", "next", why),)
    if current.running:
        make += (
            Action("try", "next", "GPU access, limits and mounts, before anything stops"),
            Action("stop", "current"),
        )
    if "superseded" in observed.instances:
        return make + (Action("remove", "current", "it was never healthy"), Action("rename", "next", "", "current"))
    keep = Action("rename", "current", "kept until the new server is healthy", "superseded")
    return make + (keep, Action("rename", "next", "", "current"))


def _stopped(wanted: Wanted, observed: Observed) -> tuple[Action, ...]:
    current = observed.instances.get("current")
    return (Action("stop", "current"),) if current and current.running else ()


def _absent(wanted: Wanted, observed: Observed) -> tuple[Action, ...]:
    """Files first: only the containers remember that there are any."""
    slots: tuple[Slot, ...] = (*LEFTOVERS, "current", "superseded")
    instances = {slot: observed.instances[slot] for slot in slots if slot in observed.instances}
    stops = [Action("stop", slot) for slot, instance in instances.items() if instance.running]
    removals = [Action("remove", slot) for slot in instances]
    return (*stops, *_deletions(wanted, observed), *removals, *_given_up(observed.caches, "its server is gone"))


def _given_up(caches: t.Iterable[str], because: str) -> list[Action]:
    return [Action("remove_cache", cache, because) for cache in sorted(caches)]


def _deletions(wanted: Wanted, observed: Observed) -> list[Action]:
    instances = observed.instances.values()
    files = {path for instance in instances for path in instance.wrote}
    keys = [PURGEABLE[what] for what in wanted.purge]
    directories = {instance.intent[key] for instance in instances for key in keys if instance.intent.get(key)}
    unused = {one for one in directories if not any(_nested(one, other) for other in observed.in_use)}
    return [
        Action("delete_file", path, "it was written for this server") for path in sorted(files - observed.in_use)
    ] + [Action("delete_directory", path, "purge was asked for") for path in sorted(unused)]


def _nested(one: str, other: str) -> bool:
    """Whether one path is the other, or lies below it."""
    one, other = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return one.startswith(other) or other.startswith(one)


def _committed(wanted: Wanted, observed: Observed) -> tuple[Action, ...]:
    """Give up what was kept, but never for a server that does not even run."""
    current = observed.instances.get("current")
    if "superseded" not in observed.instances:
        return _cleared(observed, "the new server is healthy")
    if current is None or not current.running:
        raise VllmError(
            f"{wanted.name} {'is not running' if current else 'does not exist'}, so {wanted.name}-superseded, which "
            "served before it, is not removed. Deploy the server again, or put the old one back with state: reverted."
        )
    superseded = Action("remove", "superseded", "the new server is healthy")
    old = _given_up(set(observed.caches) - set(current.caches), "it belongs to an image that is not used any more")
    return (*_cleared(observed, superseded.because), superseded, *old)


def _reverted(wanted: Wanted, observed: Observed) -> tuple[Action, ...]:
    """Put the superseded server back; without one the current server is what there is to go back to."""
    actions = _cleared(observed, "it never served")
    current = observed.instances.get("current")
    if "superseded" not in observed.instances:
        # Cut short between the stop and the renaming, a replacement leaves the old server stopped in its own place.
        stopped = current is not None and not current.running and "next" in observed.instances
        return actions + ((Action("start", "current", "its replacement was cut short"),) if stopped else ())
    if current:
        stop = (Action("stop", "current"),) if current.running else ()
        gone = sorted({*current.wrote} - {*observed.instances["superseded"].wrote} - observed.in_use)
        files = tuple(Action("delete_file", path, "it was written for this server") for path in gone)
        actions += stop + files + (Action("remove", "current", "it did not become healthy"),)
    return actions + (Action("rename", "superseded", "", "current"), Action("start", "current"))


def recovery(observed: Observed) -> Observed:
    """What to hand to a C(reverted) plan after a plan broke off: a server that runs is not given up for an older."""
    current = observed.instances.get("current")
    if current and current.running:
        return Observed({slot: i for slot, i in observed.instances.items() if slot in LEFTOVERS})
    return observed


def _snapshot(wanted: Wanted, observed: Observed) -> dict[str, t.Any]:
    current = observed.instances.get("current")
    kept = {"superseded": True} if "superseded" in observed.instances else {}
    if current is None:
        return {"state": "absent", **kept}
    return {"state": "started" if current.running else "present", **current.intent, **kept}


def _after(wanted: Wanted, observed: Observed) -> dict[str, t.Any]:
    current, superseded = observed.instances.get("current"), observed.instances.get("superseded")
    now = _snapshot(wanted, observed)
    if wanted.state == "absent":
        return {"state": "absent"}
    if wanted.state == "stopped":
        return {**now, "state": "present"}
    if wanted.state == "committed":
        return {key: value for key, value in now.items() if key != "superseded"}
    if wanted.state == "reverted":
        started = current is not None and "next" in observed.instances
        return (
            {"state": "started", **superseded.intent}
            if superseded
            else {**now, **({"state": "started"} if started else {})}
        )
    replaced = current is not None and bool(difference(wanted, observed, current))
    kept = {"superseded": True} if superseded or replaced else {}
    return {"state": "started" if _will_run(wanted, current) else "present", **wanted.intent, **kept}
