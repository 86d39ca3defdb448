# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wanted and observed make a plan. Pure: check mode is a plan that is not applied.

A server has up to four slots. The current one carries the server's own name. A replacement is made in the C(-next)
slot while the current one still serves, and the one it replaces is kept, stopped, in the C(-superseded) slot until
the replacement is committed. The C(-try) slot is only filled while a replacement is tried.
Another server that cannot run beside the wanted one keeps its name, and is stopped until the commit removes it.
Every step can be the last one of a killed run: the next plan starts from what it finds. What a new instance is to stop
is therefore recorded on it when it is made, before anything stops.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from .._errors import Problem, VllmError
from .backend import SUFFIX, Action, Instance, Other, Slot

State = t.Literal["present", "started", "stopped", "absent", "committed", "reverted"]
STATES: tuple[State, ...] = ("present", "started", "stopped", "absent", "committed", "reverted")
# Those that need a description of the server.
MAKING_STATES: tuple[State, ...] = ("present", "started")
# What a server leaves behind unless asked, by the key of the spec that names its directory.
PURGEABLE = {"weights": "huggingface_dir", "encodings": "encodings_dir"}
CUT_SHORT = "a run that was cut short left it"
NOT_AT_BOOT = "it would not start at boot"
# What only a run that was cut short leaves behind.
LEFTOVERS: tuple[Slot, ...] = ("trial", "next")


@dataclass(frozen=True)
class Wanted:
    """What the user asks for. Only C(present) and C(started) look at more than the name and the state."""

    state: State
    name: str
    fingerprint: str = ""
    intent: t.Mapping[str, t.Any] = field(default_factory=dict)
    image: str = ""
    replace_unmanaged: bool = False
    recreate: bool = False
    # Whether the current server was just found not to be healthy.
    failed: bool = False
    # The backend that is to run it, and whether weights have to be there before a server of it starts.
    backend: str = ""
    fetches_first: bool = False
    # With C(absent): what of PURGEABLE goes too, and whether all other servers go as well.
    purge: tuple[str, ...] = ()
    all_go: bool = False


@dataclass(frozen=True)
class Purge:
    """What of a server's weights and encodings goes, by real path, and why something that was asked for stays."""

    directories: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


@dataclass(frozen=True)
class Observed:
    """What is there."""

    instances: t.Mapping[Slot, Instance] = field(default_factory=dict)
    # The image or virtual environment that the wanted server would be made from.
    artifact_id: str | None = None
    missing_directories: tuple[str, ...] = ()
    # Keys of secret files that do not hold what was handed over.
    stale_secrets: tuple[str, ...] = ()
    others: tuple[Other, ...] = ()
    # Secret files whose content from before the last change is kept beside them.
    kept_secrets: tuple[str, ...] = ()
    # A download of weights that was cut short.
    download: str | None = None
    # Where measurements of this server are remembered, when there are some.
    learned_file: str | None = None
    # Where to write down what vLLM measured at this start, when that is not known yet.
    to_remember: str | None = None
    # Paths that other servers of this user use; and whether the record of one cannot be read, so that nobody knows all.
    in_use: frozenset[str] = frozenset()
    unsure: bool = False
    # Recorded instances that somebody removed, of which files are left.
    gone: tuple[Instance, ...] = ()
    # Looks into an image that were cut short.
    probes: tuple[str, ...] = ()
    # What was asked to be purged, as far as it may be.
    purge: Purge = Purge()
    # Everything that this server's instances, past ones too, keep compiled, and whose each is.
    caches: tuple[str, ...] = ()
    keepers: t.Mapping[str, str] = field(default_factory=dict)
    # Virtual environments that nobody uses once this is done; keepers has them too.
    environments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preflight:
    """What was checked before anything stops, because a server is to start."""

    # What forbids the start: no weights, no token, a flag that this vLLM does not have, a port that is taken.
    problems: tuple[Problem, ...] = ()
    # What is odd, and forbids nothing.
    warnings: tuple[str, ...] = ()
    # Other servers that have to stop to make room, with the reason, by name.
    gives_way: t.Mapping[str, str] = field(default_factory=dict)
    # The GPUs, in words, whose memory has to come back when a server that used them stopped; empty without GPUs.
    memory_of: str = ""
    # The model whose weights have to be fetched; empty when they are there.
    missing_weights: str = ""
    # Why a stopped server is better recreated than started as it is; empty when it is not.
    renew: str = ""
    # The verdict on the memory of the GPUs, for people; and when it refuses, the id of the failure that would follow.
    fit: t.Mapping[str, t.Any] | None = None
    failure_id: str | None = None
    # Where an earlier start was measured that is relied on: "this host", the name of another one, or empty.
    measured_on: str = ""
    # What measurements of an earlier start add to the command line and the environment.
    learned_engine: t.Mapping[str, str] = field(default_factory=dict)
    learned_env: t.Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What to do, in order, and what the server is before and after."""

    actions: tuple[Action, ...] = ()
    # What a new instance has to record as what it stops.
    supersedes: tuple[str, ...] = ()
    before: t.Mapping[str, t.Any] = field(default_factory=dict)
    after: t.Mapping[str, t.Any] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def changed(self) -> bool:
        """Whether anything is to be done."""
        return bool(self.actions)

    @property
    def starts(self) -> bool:
        """Whether a server is made or started, so that problems count."""
        return any(action.verb in ("create", "start") for action in self.actions)

    @property
    def stops(self) -> tuple[str, ...]:
        """The slots and other servers that it stops."""
        return tuple(action.target for action in self.actions if action.verb in ("stop", "stop_other"))

    def words(self, name: str) -> list[str]:
        """The plan as people read it, a line an action."""
        return [_words(action, name) for action in self.actions]


def _words(action: Action, name: str) -> str:
    target = name + SUFFIX[action.target] if action.target in SUFFIX else action.target
    to = f" to {name + SUFFIX[action.to]}" if action.to in SUFFIX else ""
    because = f" ({action.because})" if action.because else ""
    return f"{action.spoken} {target}{to}{because}"


NOTHING_CHECKED = Preflight()


def plan(wanted: Wanted, observed: Observed, preflight: Preflight = NOTHING_CHECKED) -> Plan:
    """Decide what to do.

    Raises:
        VllmError: when a server of that name exists that the collection did not create, or when the only server that
            works would be given up.
    """
    observed = replace(observed, others=tuple(_giving_way(one, preflight) for one in observed.others))
    _refuse_foreign(wanted, observed)
    actions = MAKERS[wanted.state](wanted, observed, preflight)
    left = (Action("remove_other", observed.download, CUT_SHORT),) if observed.download else ()
    actions = _with_backends(wanted, observed, (*left, *actions))
    problems = preflight.problems if Plan(actions).starts else ()
    before = _snapshot(observed)
    after = _after(wanted, observed, actions) if actions else before
    return Plan(actions, superseded(observed), before, after, problems)


def _giving_way(other: Other, preflight: Preflight) -> Other:
    return replace(other, conflict=other.conflict or preflight.gives_way.get(other.name, ""))


def _with_backends(wanted: Wanted, observed: Observed, actions: t.Iterable[Action]) -> tuple[Action, ...]:
    """The actions with who does each: what exists is handled by what runs it, what is made by what is wanted."""
    by_slot: dict[str, str] = {slot: one.backend for slot, one in observed.instances.items()}
    by_name = {**observed.keepers, **{one.name: one.backend for one in observed.others}}
    seen: dict[str, str] = {slot: one.identity for slot, one in observed.instances.items()}
    seen.update((one.name, one.identity) for one in observed.others)
    assigned = []
    for action in actions:
        if action.verb in ("create", "try"):
            by_slot.setdefault(action.target, wanted.backend)
        named = by_slot if action.target in SUFFIX else by_name
        identity = "" if action.verb == "try" else seen.get(action.target, "")
        assigned.append(replace(action, backend=named.get(action.target, wanted.backend), identity=identity))
        if action.verb == "remove":
            by_slot.pop(action.target, None)
            seen.pop(action.target, None)
        elif action.verb == "rename":
            by_slot[action.to] = by_slot.pop(action.target, wanted.backend)
            seen[action.to] = seen.pop(action.target, "")
    return tuple(assigned)


def _refuse_foreign(wanted: Wanted, observed: Observed) -> None:
    for slot, instance in observed.instances.items():
        if instance.owned or _may_be_replaced(wanted, observed, slot):
            continue
        replaceable = slot == "current" and instance.can_be_adopted
        remedy = ", or set replace_unmanaged: true to let it be replaced" if replaceable else ""
        if wanted.replace_unmanaged and replaceable:
            remedy = f". It is not replaced while {wanted.name}-superseded, which served before it, exists"
        raise VllmError(
            f"{wanted.name + SUFFIX[slot]} exists and was not created by gpufleet.vllm (this user's record does not "
            "have it, whatever its labels say), so it is left alone. Remove or rename it yourself, or choose another "
            f"container_name for the server{remedy}.",
            "unmanaged",
        )


def _may_be_replaced(wanted: Wanted, observed: Observed, slot: Slot) -> bool:
    """Whether an instance of somebody else may be touched: put aside from its place because that was asked for, and
    what was put aside before given up or put back."""
    instance, old = observed.instances[slot], observed.instances.get("superseded")
    if slot == "superseded":
        return instance.adopted and wanted.state != "absent"
    if slot != "current" or not instance.can_be_adopted:
        return False
    if instance.adopted and wanted.state == "reverted":
        return True
    return wanted.replace_unmanaged and old is None


def _prepare(observed: Observed) -> tuple[Action, ...]:
    """What can be made ready while the current server goes on serving."""
    actions = [Action("create_directory", path) for path in observed.missing_directories]
    actions += [Action("write_secret", key, "the file does not hold what was given") for key in observed.stale_secrets]
    return tuple(actions)


def _pull(wanted: Wanted, observed: Observed) -> tuple[Action, ...]:
    missing = observed.artifact_id is None and wanted.image
    return (Action("pull", wanted.image, "it is not on the host"),) if missing else ()


def _fetch(
    wanted: Wanted, observed: Observed, preflight: Preflight, current: Instance | None, runs: bool
) -> tuple[Action, ...]:
    """Weights that vLLM would fetch when its predecessor is gone already are fetched before. One that has just failed
    serves nobody."""
    serves = (current is not None and current.running and not wanted.failed) or bool(rivals(observed))
    if not preflight.missing_weights or not runs or not (serves or wanted.fetches_first):
        return ()
    because = "while the old server serves" if serves else "the server only reads them"
    return (Action("fetch_weights", preflight.missing_weights, because),)


def difference(wanted: Wanted, observed: Observed, current: Instance) -> str:
    """Why the current server is not the wanted one, in words; empty when it is."""
    if not current.owned:
        return "it was not created by gpufleet.vllm"
    if wanted.recreate:
        return "recreate was requested"
    if current.fingerprint != wanted.fingerprint:
        keys = sorted(k for k in {*current.intent, *wanted.intent} if current.intent.get(k) != wanted.intent.get(k))
        return f"{', '.join(keys)} changed" if keys else _secret_difference(current)
    if observed.artifact_id and current.artifact_id != observed.artifact_id:
        return f"{wanted.image} is a different image now" if wanted.image else f"{current.artifact} has changed"
    return ""


def _secret_difference(current: Instance) -> str:
    if current.salt:
        return "the content of a secret changed"
    return "whether a secret changed is unknown, since the record has no salt for it"


def has_port(port: int) -> str:
    """Why a server on the same port cannot run beside the wanted one."""
    return f"it has port {port}"


def rivals(observed: Observed) -> tuple[Other, ...]:
    """Other servers that have to stop for the wanted one to run."""
    return tuple(one for one in observed.others if one.running and one.conflict and one.slot == "current")


def kept(observed: Observed) -> tuple[Other, ...]:
    """Other servers that were stopped for this one, which was not committed since."""
    recorded = _recorded(observed)
    return tuple(
        one for one in observed.others if one.slot == "current" and not one.running and one.identity in recorded
    )


def abandoned(observed: Observed) -> tuple[Other, ...]:
    """Other servers that were to take the place of this one, and never did: their runs were cut short."""
    mine = {instance.identity for instance in observed.instances.values()} - {""}
    known = kept(observed)
    return tuple(one for one in observed.others if not one.running and mine & {*one.supersedes} and one not in known)


def _recorded(observed: Observed) -> set[str]:
    """What the newest instance has recorded, which took over what still counted of the one before; and what one that
    serves has: a newer one beside it never came into its place."""
    slots: tuple[Slot, ...] = ("next", "trial", "current")
    found = [observed.instances[slot] for slot in slots if slot in observed.instances]
    serving = [one for one in found[1:] if one.slot == "current" and one.running]
    return {identity for one in (*found[:1], *serving) for identity in one.supersedes}


def superseded(observed: Observed) -> tuple[str, ...]:
    """The identities of all that ran before the wanted instance, by which a failed switch is undone."""
    recorded, in_the_way = _recorded(observed), {other.identity for other in rivals(observed)}
    current = observed.instances.get("current")
    now = in_the_way | ({current.identity} if current and current.running else set())
    if not in_the_way <= recorded:
        # Somebody else took over since: what was recorded before that is history.
        return tuple(sorted(now))
    mine = {i.identity for slot, i in observed.instances.items() if slot in ("current", "superseded")}
    before = recorded & (mine | {other.identity for other in kept(observed)})
    return tuple(sorted((now | before) - {""}))


def _present(wanted: Wanted, observed: Observed, preflight: Preflight) -> tuple[Action, ...]:
    current = observed.instances.get("current")
    runs = _will_run(wanted, current)
    start = (Action("start", "current"),) if runs else ()
    dropped = _dropped(observed, runs)
    current = None if dropped else current
    why = _why(wanted, observed, preflight, current)
    if current and not why:
        return _prepare(observed) + _restart(observed, preflight, current, start)
    ready = _prepare(observed) + _pull(wanted, observed) + _fetch(wanted, observed, preflight, current, runs)
    aside, cleared = _set_aside(observed)
    if current is None:
        make = (*dropped, *aside, Action("create", "current"), *cleared)
        return ready + make + _make_room(observed, preflight, "current", make=runs) + start
    return ready + aside + _replace(observed, preflight, current, why, cleared, runs) + start


def _dropped(observed: Observed, runs: bool) -> tuple[Action, ...]:
    """A server that failed with the compile caches of another host is not started with them again. It goes before it is
    made anew, as they go only once nothing uses them; nobody served before it."""
    current = observed.instances.get("current")
    stays = current is None or current.running or not current.is_unproven or not runs
    if stays or len(observed.instances) > 1 or rivals(observed) or kept(observed):
        return ()
    return (Action("remove", "current", "it was not committed with the compile caches of another host"),)


def _why(wanted: Wanted, observed: Observed, preflight: Preflight, current: Instance | None) -> str:
    """Why a new instance is needed; a stopped one that does not know what it stops cannot be the one to stop it."""
    if current is None:
        return ""
    why = difference(wanted, observed, current)
    taken = (*rivals(observed), *kept(observed))
    unknown = [one.name for one in taken if one.identity not in current.supersedes]
    if why or current.running or not _will_run(wanted, current):
        return why
    if not unknown:
        return preflight.renew
    return f"it takes the place of {', '.join(unknown)}"


def _restart(
    observed: Observed, preflight: Preflight, current: Instance, start: tuple[Action, ...]
) -> tuple[Action, ...]:
    """The instance that is there is the wanted one."""
    cleared = _cleared(observed, CUT_SHORT)
    if current.running:
        cut_short = _others_removed(observed, current, abandoned(observed), CUT_SHORT)
        # Before what has recorded that they ran is cleared away.
        return (*_others_started(_spared(observed, current)), *cleared, *cut_short, *_enabled(current))
    room = _make_room(observed, preflight, "current", make=True) if start else ()
    # What knows that this one served goes once it serves again, but for what is in the place of another trial.
    first = tuple(action for action in cleared if room and action.target == "trial")
    return (*first, *room, *start, *(action for action in cleared if action not in first))


def _spared(observed: Observed, current: Instance) -> tuple[Other, ...]:
    """Other servers that were stopped for a replacement that is not wanted any more, and can run beside this one."""
    return tuple(one for one in kept(observed) if not one.conflict and one.identity not in current.supersedes)


def _make_room(observed: Observed, preflight: Preflight, slot: Slot, make: bool) -> tuple[Action, ...]:
    """Stop the other servers that cannot run beside the one in the slot, once that one was tried."""
    stops = tuple(Action("stop_other", one.name, one.conflict) for one in rivals(observed)) if make else ()
    return (_try(slot), *stops, *_memory(preflight)) if stops else ()


def _try(slot: Slot) -> Action:
    return Action("try", slot, "GPU access, limits and mounts, before anything stops")


def _memory(preflight: Preflight) -> tuple[Action, ...]:
    return (Action("wait_for_memory", preflight.memory_of),) if preflight.memory_of else ()


def _cleared(observed: Observed, because: str) -> tuple[Action, ...]:
    return tuple(Action("remove", slot, because) for slot in LEFTOVERS if slot in observed.instances)


def _set_aside(observed: Observed) -> tuple[tuple[Action, ...], tuple[Action, ...]]:
    """Before a new instance is made: out of its way with what a run left that was cut short. It goes for good once
    the new one has taken over its record of what was stopped."""
    trial = (Action("remove", "trial", CUT_SHORT),) if "trial" in observed.instances else ()
    if "next" not in observed.instances:
        return trial, ()
    return (*trial, Action("rename", "next", CUT_SHORT, "trial")), (Action("remove", "trial", CUT_SHORT),)


def _will_run(wanted: Wanted, current: Instance | None) -> bool:
    """C(present) leaves it as it is: a server that serves is not replaced by one that does not."""
    return wanted.state == "started" or (current is not None and current.running)


def _replace(
    observed: Observed,
    preflight: Preflight,
    current: Instance,
    why: str,
    cleared: tuple[Action, ...],
    runs: bool,
) -> tuple[Action, ...]:
    """Make the new server beside the old one and try it; only then stop the old one, and keep it.

    When a superseded server is there already, the current one was never committed: it is not worth keeping.
    """
    make: tuple[Action, ...] = (Action("create", "next", why), *cleared)
    room = _make_room(observed, preflight, "next", make=runs)
    if current.running:
        stop = Action("stop", "current")
        make += (*[a for a in room if a.verb != "wait_for_memory"], stop) if room else (_try("next"), stop)
        make += _memory(preflight)
    else:
        make += room
    if "superseded" in observed.instances or _is_unfinished(current, kept(observed)):
        return make + (Action("remove", "current", "it was never healthy"), Action("rename", "next", "", "current"))
    keep = Action("rename", "current", "kept until the new server is healthy", "superseded")
    return make + (keep, Action("rename", "next", "", "current"))


def _stopped(wanted: Wanted, observed: Observed, preflight: Preflight) -> tuple[Action, ...]:
    current = observed.instances.get("current")
    if current and current.running:
        return (Action("stop", "current"),)
    return (Action("disable", "current", "it would start at boot"),) if current and current.at_boot else ()


def _enabled(current: Instance | None) -> tuple[Action, ...]:
    """What serves comes back at boot, too, though a run that was to stop it was cut short."""
    missing = current is not None and current.running and current.at_boot is False
    return (Action("enable", "current", NOT_AT_BOOT),) if missing else ()


def _others_enabled(observed: Observed) -> tuple[Action, ...]:
    """Likewise those that were about to be stopped, and serve on."""
    recorded = _recorded(observed)
    spared = (one for one in observed.others if one.running and one.at_boot is False and one.identity in recorded)
    return tuple(Action("enable_other", one.name, NOT_AT_BOOT) for one in spared)


def _absent(wanted: Wanted, observed: Observed, preflight: Preflight) -> tuple[Action, ...]:
    """Containers first, then files: the record remembers what there is to delete until all of it is gone."""
    slots: tuple[Slot, ...] = (*LEFTOVERS, "current", "superseded")
    instances = {slot: observed.instances[slot] for slot in slots if slot in observed.instances}
    stops = [Action("stop", slot) for slot, instance in instances.items() if instance.running]
    removals = [Action("remove", slot) for slot in instances]
    caches = _given_up(observed.caches, "its server is gone")
    learned = [Action("delete_file", path, "what vLLM measured") for path in (observed.learned_file,) if path]
    probes = [Action("remove_other", probe, CUT_SHORT) for probe in observed.probes]
    back = () if wanted.all_go or rivals(observed) else _others_started(kept(observed))
    secrets = _restore(observed) if back else _forgotten(observed)
    files = (*secrets, *_deletions(observed))
    return (*stops, *removals, *probes, *caches, *files, *back, *learned, *_environments(observed))


def _given_up(caches: t.Iterable[str], because: str) -> list[Action]:
    return [Action("remove_cache", cache, because) for cache in sorted(caches)]


def _environments(observed: Observed) -> tuple[Action, ...]:
    """Last, since a process of somebody else may keep one: then all else is done."""
    return tuple(Action("remove_environment", path, "no server uses it") for path in observed.environments)


def _deletions(observed: Observed) -> list[Action]:
    instances = (*observed.instances.values(), *observed.gone)
    purge, because = observed.purge, "purge was asked for"
    return [
        *_files_given_up(observed, *_files_of(instances), "it was written for this server"),
        *(Action("delete_file", path, because) for path in purge.files),
        *(Action("delete_directory", path, because) for path in purge.directories),
    ]


def _files_of(instances: t.Iterable[Instance | Other]) -> tuple[set[str], set[str]]:
    """What was written for these, and what of it is to be put back."""
    known = list(instances)
    return {path for one in known for path in one.wrote}, {path for one in known for path in one.replaced}


def _files_given_up(observed: Observed, wrote: set[str], replaced: set[str], because: str) -> list[Action]:
    """A file that was somebody's before gets its content back; nobody else uses the others."""
    free = [] if observed.unsure else sorted(wrote - observed.in_use)
    return [
        Action("restore_original", path, "it held that before this server")
        if path in replaced
        else Action("delete_file", path, because)
        for path in free
    ]


def _committed(wanted: Wanted, observed: Observed, preflight: Preflight) -> tuple[Action, ...]:
    """Give up what was kept, but never for a server that does not even run."""
    current = observed.instances.get("current")
    remember = Action("remember", observed.to_remember or "", "what vLLM measured at this start")
    remembered = (remember,) if observed.to_remember else ()
    stale = (*kept(observed), *abandoned(observed))
    old = observed.instances.get("superseded")
    if not (old or stale or observed.kept_secrets):
        return _cleared(observed, "the new server is healthy") + remembered + _environments(observed)
    if current is None or not current.running:
        names = [f"{wanted.name}-superseded"] if old else [other.name for other in stale] or [wanted.name]
        raise VllmError(
            f"{wanted.name} {'is not running' if current else 'does not exist'}, so {', '.join(names)}, which served "
            "before it, is not removed. Deploy the server again, or restore the old one with state: reverted.",
            "server-not-running",
        )
    because = "the new server is healthy"
    superseded = (Action("remove", "superseded", because),) if old else ()
    caches = _given_up(set(observed.caches) - set(current.caches), "it belongs to an image that is not used any more")
    return (
        *_forgotten(observed),
        *_cleared(observed, because),
        *superseded,
        *_others_removed(observed, current, stale, "another server took its place"),
        *(caches if old else ()),
        *remembered,
        *_environments(observed),
    )


def _others_removed(
    observed: Observed, current: Instance, others: t.Iterable[Other], because: str
) -> t.Iterator[Action]:
    """Other servers go with the secrets that were written for them. What they compiled stays for a switch back."""
    read = {str(path) for path in current.intent.values() if isinstance(path, str)}
    for other in others:
        gone = {*other.wrote} - {*current.wrote} - read
        yield from _files_given_up(observed, gone, {*other.replaced}, f"it was written for {other.name}")
        yield Action("remove_other", other.name, because)


def _forgotten(observed: Observed) -> tuple[Action, ...]:
    return tuple(Action("forget_secret", path, "no server reads it") for path in observed.kept_secrets)


def _reverted(wanted: Wanted, observed: Observed, preflight: Preflight) -> tuple[Action, ...]:
    """Put back what was superseded; without anything the current server is what there is to go back to.

    While another server has taken over since, nothing is started.
    """
    current, old = observed.instances.get("current"), observed.instances.get("superseded")
    others = () if rivals(observed) else kept(observed)
    never = _cleared(observed, "it never served")
    if old is None and current and _is_over(current, observed):
        return (*never, *_others_enabled(observed), Action("remove", "current", "it never served"))
    if old is None and not _is_unfinished(current, others):
        back = (*_restarted(observed, current), *_others_started(others))
        return (*_restore(observed), *back, *_enabled(current), *_others_enabled(observed), *never)
    failed = _failed_stopped(observed, preflight, current, old)
    started = (*_restore(observed), *_others_started(others))
    because = "it did not become healthy"
    if old is None:
        return (*never, *failed, *started, Action("remove", "current", because))
    # What knows which servers ran is removed last: the failed instance, or the one that was to become it.
    aside = (*never, *failed, Action("rename", "current", because, "next")) if current else ()
    last = (Action("remove", "next", because),) if current else never
    ran = old.identity in _recorded(observed) and not rivals(observed)
    start = (Action("start", "current"),) if ran else ()
    return (*aside, *started, Action("rename", "superseded", "", "current"), *start, *last)


def _is_unfinished(current: Instance | None, others: tuple[Other, ...]) -> bool:
    """Whether other servers were stopped for the current one, which was not committed since."""
    return current is not None and bool({*current.supersedes} & {other.identity for other in others})


def _is_over(current: Instance, observed: Observed) -> bool:
    """Whether the current one was to take the place of a server that runs: its run was cut short, or is undone."""
    return not current.running and any(
        one.running and one.identity in current.supersedes and current.identity not in one.supersedes
        for one in observed.others
    )


def _restarted(observed: Observed, current: Instance | None) -> tuple[Action, ...]:
    """Cut short between the stop and the renaming, a replacement leaves the old server stopped in its own place."""
    was_stopped = current is not None and not current.running and current.identity in _recorded(observed)
    stopped = was_stopped and not rivals(observed)
    return (Action("start", "current", "its replacement was cut short"),) if stopped else ()


def _restore(observed: Observed) -> tuple[Action, ...]:
    return tuple(Action("restore_secret", path, "the old server reads it") for path in observed.kept_secrets)


def _failed_stopped(
    observed: Observed, preflight: Preflight, current: Instance | None, old: Instance | None
) -> tuple[Action, ...]:
    if current is None:
        return ()
    stop = (Action("stop", "current"), *_memory(preflight)) if current.running else ()
    gone = {*current.wrote} - {*(old.wrote if old else ())}
    return (*stop, *_files_given_up(observed, gone, {*current.replaced}, "it was written for this server"))


def _others_started(others: t.Iterable[Other]) -> tuple[Action, ...]:
    return tuple(Action("start_other", other.name, "it served before") for other in others)


def recovery(observed: Observed) -> Observed:
    """What to hand to a C(reverted) plan after a plan broke off: a server that runs is not given up for an older, and
    one that somebody else has put there meanwhile is left alone."""
    current = observed.instances.get("current")
    if current and (current.running or not (current.owned or current.adopted)):
        left = {slot: one for slot, one in observed.instances.items() if slot in LEFTOVERS}
        # What was stopped for one that runs would only be in its way.
        others = tuple(one for one in observed.others if one.running or one.identity not in current.supersedes)
        return replace(observed, instances=left, others=others)
    return observed


def _snapshot(observed: Observed) -> dict[str, t.Any]:
    current = observed.instances.get("current")
    stopped = [other.name for other in kept(observed)]
    also: dict[str, t.Any] = {"superseded": True} if "superseded" in observed.instances else {}
    if stopped:
        also["stopped_for_it"] = stopped
    if current and current.at_boot not in (None, current.running):
        also["at_boot"] = current.at_boot
    if current is None:
        return {"state": "absent", **also}
    return {"state": "started" if current.running else "present", **current.intent, **also}


def _after(wanted: Wanted, observed: Observed, actions: tuple[Action, ...]) -> dict[str, t.Any]:
    current, old = observed.instances.get("current"), observed.instances.get("superseded")
    now = {key: value for key, value in _snapshot(observed).items() if key != "at_boot"}
    if wanted.state == "absent":
        return {"state": "absent"}
    if wanted.state == "stopped":
        return {**now, "state": "present"}
    settled = {key: value for key, value in now.items() if key not in ("superseded", "stopped_for_it")}
    if wanted.state == "committed":
        return settled
    if wanted.state == "reverted":
        return _after_reverting(settled, old, actions)
    replaced = current is not None and any(action.to == "superseded" for action in actions)
    also: dict[str, t.Any] = {"superseded": True} if old or replaced else {}
    started = {action.target for action in actions if action.verb == "start_other"}
    stopped = sorted({other.name for other in (*kept(observed), *rivals(observed))} - started)
    if stopped and _will_run(wanted, current):
        also["stopped_for_it"] = stopped
    return {"state": "started" if _will_run(wanted, current) else "present", **wanted.intent, **also}


def _after_reverting(settled: dict[str, t.Any], old: Instance | None, actions: tuple[Action, ...]) -> dict[str, t.Any]:
    starts = any((action.verb, action.target) == ("start", "current") for action in actions)
    if old:
        return {"state": "started" if starts else "present", **old.intent}
    if any((action.verb, action.target) == ("remove", "current") for action in actions):
        return {"state": "absent"}
    return {**settled, **({"state": "started"} if starts else {})}


MAKERS: dict[State, t.Callable[[Wanted, Observed, Preflight], tuple[Action, ...]]] = {
    "present": _present,
    "started": _present,
    "stopped": _stopped,
    "absent": _absent,
    "committed": _committed,
    "reverted": _reverted,
}
