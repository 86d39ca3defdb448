# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of the slots that refuses what the Docker Engine would refuse: what a plan leaves, wherever it is cut short."""

from __future__ import annotations

import itertools
import typing as t
from dataclasses import dataclass, replace

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import SUFFIX, Action, Instance, Other, Slot
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import (
    LEFTOVERS,
    Observed,
    Plan,
    State,
    Wanted,
    plan,
)

OLD, NEW, NEWER = "v1:old", "v1:new", "v1:newer"
IMAGE = "sha256:image"


def instance(slot: Slot, fingerprint: str | None = OLD, running: bool = False, **other: t.Any) -> Instance:
    """One that knows what it stopped, as every run leaves it: the instance in the current slot, or what that was."""
    identity = {"current": "cur", "superseded": "old"}.get(slot, slot)
    supersedes = {"current": ("old",), "next": ("cur", "old")}.get(slot, ())
    known = {"identity": identity, "supersedes": supersedes, "salt": "s", **other}
    return Instance(slot, True, running, fingerprint, artifact_id=IMAGE, intent={"port": fingerprint}, **known)


def observed(*instances: Instance, **other: t.Any) -> Observed:
    return Observed(**{"instances": {one.slot: one for one in instances}, "artifact_id": IMAGE, **other})


def wanted(state: State = "started", fingerprint: str = NEW, **other: t.Any) -> Wanted:
    return Wanted(**{"state": state, "name": "c", "fingerprint": fingerprint, "intent": {"port": fingerprint}, **other})


@dataclass(frozen=True)
class Box:
    """A container of the model; its identity survives renaming, and what it records stays as it was made."""

    identity: str
    fingerprint: str
    running: bool = False
    supersedes: tuple[str, ...] = ()


# By container name. The server is c; others want the same port.
Model = t.Mapping[str, Box]
NUMBERS = itertools.count()


def slots(name: str) -> dict[Slot, str]:
    return {slot: name + suffix for slot, suffix in SUFFIX.items()}


def slot_of(name: str) -> Slot:
    return next(slot for slot, suffix in reversed(SUFFIX.items()) if name.endswith(suffix))


def look_at(model: Model, name: str = "c") -> Observed:
    mine = {slot: model[one] for slot, one in slots(name).items() if one in model}
    others = [one for one in model if one not in slots(name).values()]
    return observed(
        *(
            Instance(
                slot, True, box.running, box.fingerprint, box.identity, box.supersedes, IMAGE, {"port": box.fingerprint}
            )
            for slot, box in mine.items()
        ),
        others=tuple(
            Other(one, box.identity, box.running, slot_of(one), "same port", box.supersedes)
            for one, box in model.items()
            if one in others
        ),
    )


def do(model: Model, action: Action, decided: Plan, fingerprint: str, name: str) -> Model:
    """What the engine would do; KeyError and AssertionError are where it would refuse."""
    boxes, names = dict(model), t.cast("dict[str, str]", slots(name))
    target, to = names.get(action.target, action.target), names.get(action.to, action.to)
    if action.verb == "create":
        assert target not in boxes
        boxes[target] = Box(f"made as {fingerprint} ({next(NUMBERS)})", fingerprint, False, decided.supersedes)
    elif action.verb in ("start", "stop", "start_other", "stop_other"):
        boxes[target] = replace(boxes[target], running=action.verb.startswith("start"))
    elif action.verb in ("remove", "remove_other"):
        del boxes[target]
    elif action.verb == "rename":
        assert to not in boxes
        boxes[to] = boxes.pop(target)
    else:
        assert action.verb == "try" and names["trial"] not in boxes and target in boxes
    places = [one for one in boxes if not one.endswith(("-next", "-try"))]
    assert sum(boxes[one].running for one in places) <= max(1, running(model)), "the port is taken"
    return boxes


def running(model: Model) -> int:
    """How many servers run; a trial runs nothing and takes no port."""
    return sum(box.running for name, box in model.items() if not name.endswith(SUFFIX["trial"]))


def steps(model: Model, decided: Plan, fingerprint: str = NEW, name: str = "c") -> list[Model]:
    """The model before each action, and after the last one: where a run can be cut short."""
    stages, trial = [model], name + SUFFIX["trial"]
    for action in decided.actions:
        if action.verb == "try":
            tried = Box("trial", fingerprint, True, decided.supersedes)
            stages.append({**do(stages[-1], action, decided, fingerprint, name), trial: tried})
            stages.append({one: box for one, box in stages[-1].items() if one != trial})
        else:
            stages.append(do(stages[-1], action, decided, fingerprint, name))
    return stages


def run(model: Model, state: State, fingerprint: str = NEW, name: str = "c", **other: t.Any) -> Model:
    decided = plan(wanted(state, fingerprint, name=name, **other), look_at(model, name))
    return steps(model, decided, fingerprint, name)[-1]


def combinations() -> list[Model]:
    """Every slot empty, stopped or running, the current one as wanted and otherwise: also what no run leaves."""
    some: dict[str, list[Box | None]] = {
        "c": [Box("before", one, on, ("kept",)) for one in (OLD, NEW) for on in (False, True)],
        "c-next": [Box("next", one, on, ("before", "kept")) for one in (OLD, NEW) for on in (False, True)],
        "c-try": [Box("trial", NEW, True, ("before", "kept"))],
        "c-superseded": [Box("kept", OLD)],
    }
    choices = itertools.product(*([None, *boxes] for boxes in some.values()))
    return [{name: box for name, box in zip(some, boxes) if box} for boxes in choices]


ALL = combinations()


def told(model: Model) -> str:
    boxes = (f"{name}={box.fingerprint[3:]}{'*' if box.running else ''}" for name, box in model.items())
    return " ".join(boxes) or "nothing"


everything = pytest.mark.parametrize("model", ALL, ids=told)


def identities(model: Model) -> set[str]:
    return {box.identity for box in model.values()}


def serves(model: Model, fingerprint: str, name: str = "c") -> bool:
    """Exactly one server runs, in its place, as wanted, and no run left anything behind."""
    if any(name + SUFFIX[slot] in model for slot in LEFTOVERS) or name not in model:
        return False
    return model[name].fingerprint == fingerprint and model[name].running and running(model) == 1
