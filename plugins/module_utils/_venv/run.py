# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way from packages that are wanted to an environment that imports: look, decide, refuse, do.

A run without changes reads the record and looks at one directory. Everything that changes an environment holds the lock
of its digest, and decides anew once it has it.
"""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, field, replace

from .._errors import VllmError
from .._host.lock import Busy
from .._vllm.encodings import missing_directories
from . import build, look, plan, spec, state
from .plan import Step, Terms
from .record import Entry, Record, entry, with_user, without_user
from .removal import is_abandoned, locked, take_away
from .spec import Wish
from .state import Seen

Params = t.Mapping[str, t.Any]

STATES = ("present", "committed", "absent")
PARAMETERS: dict[str, dict[str, t.Any]] = {
    "packages": {"type": "list", "elements": "str"},
    "python": {"type": "str"},
    "index_url": {"type": "str"},
    "extra_index_urls": {"type": "list", "elements": "str"},
    "wheelhouse": {"type": "path"},
    "constraints": {"type": "list", "elements": "str"},
    "root": {"type": "path", "default": spec.DEFAULT_ROOT},
    "server": {"type": "str"},
    "state": {"type": "str", "choices": list(STATES), "default": "present"},
    "all": {"type": "bool", "default": False},
    "installer": {"type": "str", "choices": ["auto", "uv", "pip"], "default": "auto"},
    "managed_python": {"type": "bool", "default": False},
    "cuda_check": {"type": "str", "choices": ["enforce", "warn", "off"], "default": "enforce"},
    "min_free_gib": {"type": "float"},
    "timeout": {"type": "int", "default": 3600},
}
REQUIRED_IF = [("state", "present", ["packages"]), ("state", "committed", ["packages", "server"])]


@dataclass(frozen=True)
class Host:
    """The host as a run meets it. Tests hand in another one."""

    record: Record = field(default_factory=Record)
    facts: t.Callable[[Wish, str], plan.Facts] = look.facts
    user: t.Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    warn: t.Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Job:
    """What was asked for, and who does it."""

    host: Host
    wish: Wish | None
    root: str
    server: str | None
    state: str
    everything: bool
    terms: Terms
    seconds: float

    @property
    def wanted(self) -> Wish:
        """The wish of a state that needs one."""
        if self.wish is None:
            raise VllmError("packages is missing: it says which environment is meant.")
        return self.wish

    def found(self) -> list[Seen]:
        """The environments that were made for the wish."""
        return [state.seen(one) for one in self.host.record.of(self.wanted.digest, self.root)]


def run(params: Params, check_mode: bool, host: Host) -> dict[str, t.Any]:
    """Look and decide, and do it unless this is check mode.

    Raises:
        VllmError: when it cannot be done, with what to change.
    """
    job = _job(params, host)
    before = _shown(job)
    steps = decide(job)
    if steps and not check_mode:
        steps = _carried_out(job, steps)
    return _result(job, before, steps, check_mode)


def _job(params: Params, host: Host) -> Job:
    wish = spec.asked({key: params.get(key) for key in spec.KEYS}) if params["packages"] is not None else None
    terms = Terms(**{key: params[key] for key in ("installer", "managed_python", "cuda_check", "min_free_gib")})
    root = os.path.normpath(params["root"])
    if not os.path.isabs(root) or root == "/":
        raise VllmError(f"root must be an absolute path of a directory for environments; got {params['root']!r}.")
    if params["state"] == "absent" and not (wish or params["server"] or params["all"]):
        raise VllmError("state: absent requires packages, server or all.")
    if params["all"] and (wish or params["server"] or params["state"] != "absent"):
        raise VllmError("all requires state: absent, and excludes packages and server.")
    return Job(host, wish, root, params["server"], params["state"], params["all"], terms, params["timeout"])


# ---------------------------------------------------------------------------------------------------------------------
# Deciding
# ---------------------------------------------------------------------------------------------------------------------


def decide(job: Job) -> list[Step]:
    """What is to be done. Looks at the host only as far as that takes.

    Raises:
        VllmError: when it cannot be done.
    """
    record = job.host.record
    if job.state == "present":
        steps = plan.present(job.found(), job.server, lambda because: _build_step(job, because))
        others = [one for one in record.entries(job.root) if one.digest != job.wanted.digest and is_abandoned(one)]
        return plan.cleared([state.seen(one) for one in others]) + steps
    if job.state == "committed":
        keep = next((one.entry for one in job.found() if not one.fault), None)
        if keep is None:
            raise VllmError(
                f"Cannot commit {job.wanted.name} in {job.root}: no complete environment of that name exists. Run with "
                "state: present first.",
                "path-missing",
            )
        return plan.committed([state.seen(one) for one in record.entries()], str(job.server), keep)
    if job.wish is None and job.server:
        return plan.released([state.seen(one) for one in record.entries()], job.server)
    if job.wish is None:
        return plan.absent([state.seen(one) for one in record.entries(job.root)], even_if_used=True)
    if job.server:
        return plan.released(job.found(), job.server)
    return plan.absent(job.found(), even_if_used=False)


def _build_step(job: Job, because: str) -> Step:
    wish = job.wanted
    ours = [one for one in job.found() if one.is_there]
    path = state.target(job.root, wish, ours)
    cleared = {one.entry.path for one in ours if one.entry.state != "built"}
    standing = look.in_the_way(path)
    if standing and path not in cleared:
        raise VllmError(
            f"{path} exists ({standing}) and was not created by this user's gpufleet.vllm, so it was not touched. "
            "Move it away, choose another root, or run as the user who made it.",
            "unmanaged",
        )
    recipe = plan.recipe(wish, job.terms, job.host.facts(wish, job.root), path)
    users = (job.server,) if job.server else ()
    made = next((one.made for one in job.host.record.entries(job.root) if one.made), missing_directories(job.root))
    return Step("build", entry(path, wish.digest, wish=wish.to_dict(), users=users, made=made), because, recipe)


# ---------------------------------------------------------------------------------------------------------------------
# Doing
# ---------------------------------------------------------------------------------------------------------------------


def _carried_out(job: Job, steps: list[Step]) -> list[Step]:
    if job.state != "present":
        return [step for step in steps if _one(job, step)]
    with locked(job.wanted.digest, job.seconds):
        # Another run may have built it meanwhile.
        mine = job.wanted.digest
        return [step for step in decide(job) if (_do if step.entry.digest == mine else _one)(job, step)]


def _one(job: Job, step: Step) -> bool:
    """Do a step that is about one environment, under its lock; what another run is at is left to that one."""
    try:
        with locked(step.entry.digest):
            again = _again(job, step)
            return again is not None and _do(job, again)
    except Busy as busy:
        job.host.warn(f"{step.entry.path} is kept: {busy}")
        return False


def _again(job: Job, step: Step) -> Step | None:
    """The step as it is to be done now: since it was decided, another server may have begun to use the environment."""
    now = job.host.record.current(step.entry)
    if now is None or (step.verb == "clear" and now.state == "built"):
        return None
    if step.verb not in ("remove", "forget") or job.everything:
        return replace(step, entry=now)
    left = without_user(now, job.server) if job.server else now
    if job.server and left.users:
        return Step("release", now, job.server)
    plan.refuse_used(left)
    return replace(step, entry=left)


def _do(job: Job, step: Step) -> bool:
    """Do a step; false when the environment is kept, because a process runs from it."""
    record = job.host.record
    if step.recipe:
        for text in step.recipe.warnings:
            job.host.warn(text)
        made = build.Builder(job.wanted, step.recipe, job.terms, step.entry, job.seconds, job.host.user)
        made.build(record)
    elif step.verb == "claim":
        record.write(with_user(step.entry, step.because))
    elif step.verb == "release":
        record.write(without_user(step.entry, step.because))
    else:
        return _removed(job, step)
    return True


def _removed(job: Job, step: Step) -> bool:
    try:
        take_away(step.entry, job.host.record)
    except VllmError as error:
        is_meant = job.state == "absent" and not job.everything
        if error.reason != "environment-in-use" or is_meant:
            raise
        job.host.warn(f"{step.entry.path} is kept. {error}")
        return False
    return True


# ---------------------------------------------------------------------------------------------------------------------
# Telling
# ---------------------------------------------------------------------------------------------------------------------


def _result(job: Job, before: dict[str, t.Any], steps: list[Step], check_mode: bool) -> dict[str, t.Any]:
    after = _predicted(before, steps) if check_mode else _shown(job)
    lines = [step.words() for step in steps]
    return {
        "changed": bool(steps),
        "actions": lines,
        "environment": _described(job, steps),
        "diff": {"before": before, "after": after, "prepared": "".join(f"{line}\n" for line in lines)},
    }


def _shown(job: Job) -> dict[str, t.Any]:
    """The environments that a run may change, by path: what was asked for in each, and who uses it."""
    entries = job.host.record.entries(job.root)
    return {one.path: _summary(one) for one in entries if one.state == "built"}


def _summary(one: Entry) -> dict[str, t.Any]:
    wish = {key: value for key, value in one.wish.items() if value}
    return {**wish, "users": list(one.users)}


def _predicted(before: dict[str, t.Any], steps: list[Step]) -> dict[str, t.Any]:
    after = dict(before)
    for step in steps:
        if step.verb == "build":
            after[step.entry.path] = _summary(step.entry)
        elif step.verb in ("claim", "release") and step.entry.path in after:
            change = with_user if step.verb == "claim" else without_user
            after[step.entry.path] = _summary(change(step.entry, step.because))
        else:
            after.pop(step.entry.path, None)
    return after


def _described(job: Job, steps: t.Sequence[Step]) -> dict[str, t.Any] | None:
    """The environment that was asked for, as it is or would be; None where it is absent."""
    if job.wish is None or job.state == "absent":
        return None
    built = next((one for one in job.found() if not one.fault), None)
    step = next((one for one in steps if one.recipe), None)
    one = built.entry if built else step.entry if step else None
    if one is None:
        return None
    recipe = step.recipe if step else None
    told = {"python": ".".join(map(str, recipe.python_version)), "installer": recipe.installer} if recipe else {}
    proved = {**told, **one.proved}
    return {
        "path": one.path,
        "python": state.python_of(one.path),
        "digest": one.digest,
        "packages": list(one.wish.get("packages", [])),
        "vllm_version": proved.get("vllm") or job.wish.version,
        "torch_version": proved.get("torch"),
        "cuda_version": proved.get("cuda"),
        "python_version": proved.get("python"),
        "installer": proved.get("installer"),
        "lock": state.own_path(one.path, state.LOCK),
        "lock_sha256": one.lock or None,
        "users": sorted({*one.users, *({job.server} if job.server else ())}),
    }
