# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A vLLM server as a function of time, and a watchdog that looks at it: hours in milliseconds, no clock but this one."""

from __future__ import annotations

import random
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.decide import (
    Canary,
    Clock,
    Finding,
    Life,
    Load,
    Look,
    Settings,
    State,
    answered,
    decide,
)

TICK = 0.5
EPOCH = 1.7e9
FOREVER = 1e9


@dataclass
class Engine:
    """One engine: when it has requests, and when it makes no step whatever it has; seconds."""

    busy: tuple[tuple[float, float], ...] = ()
    still: tuple[tuple[float, float], ...] = ()
    steps: float = 0.0
    # As /metrics shows it: what came with the last step.
    shown: int = 0

    def is_still(self, now: float) -> bool:
        return any(begin <= now < end for begin, end in self.still)

    def has_requests(self, now: float) -> bool:
        return any(begin <= now < end for begin, end in self.busy)

    def tick(self, now: float, asked: bool) -> bool:
        """Half a second; whether a canary in it got its token."""
        if self.is_still(now):
            return False
        if self.has_requests(now) or asked:
            self.steps += 1
        self.shown = 8 if self.has_requests(now) else 0
        return asked


@dataclass
class World:
    """A server, and the time."""

    engines: list[Engine]
    # What is else to be seen at a time.
    seen: t.Callable[[float, Look], Look] = lambda _now, look: look
    # Whether a request reaches the engine that its header names.
    routed: bool = True
    frozen: bool = False
    outcome: t.Any = None
    now: float = 0.0
    started: float = 0.0
    asked: tuple[str, float] | None = None
    got: bool = False
    history: list[tuple[float, str, str]] = field(default_factory=list)

    def advance(self, settings: Settings) -> Canary | None:
        """Half a second; the canary that ended in it."""
        self.now += TICK
        target = self._target()
        for number, engine in enumerate(self.engines):
            self.got = engine.tick(self.now, number == target) or self.got
        if self.asked is None:
            return None
        label, began = self.asked
        if self.got or self.outcome or self.now - began >= settings.canary_timeout:
            self.asked, got, self.got = None, self.got, False
            return Canary(label, began, self.outcome or ("answered" if got else "failed"))
        return None

    def _target(self) -> int | None:
        if self.asked is None:
            return None
        if self.routed:
            return int(self.asked[0])
        return next((n for n, engine in enumerate(self.engines) if not engine.is_still(self.now)), 0)

    def look(self, canary: Canary | None) -> Look:
        loads = {
            str(n): Load(0.0 if self.frozen else one.steps, 8 if self.frozen else one.shown)
            for n, one in enumerate(self.engines)
        }
        life = Life("c1", str(self.started))
        age = self.now - self.started
        return self.seen(self.now, Look(life, age=age, answers=True, engines=loads, canary=canary))


PROVEN = State(Life("c1", "0.0"), "serving", EPOCH, proven=True)


def watch(
    world: World, seconds: float, settings: Settings | None = None, state: State = PROVEN, restarts: bool = False
) -> State:
    """Watch for so long, and note in C(history) what was done: seconds, verb or act, why."""
    settings = settings or Settings()
    due, canary = 0.0, None
    while world.now < seconds:
        canary = world.advance(settings) or canary
        if canary is None and world.now < due:
            continue
        due = world.now + settings.interval
        clock = Clock(world.now, EPOCH + world.now)
        decision = decide(state, world.look(canary), clock, settings)
        state, canary = decision.state, None
        if decision.verb == "canary":
            assert world.asked is None, "two requests at a time"
            world.asked = (decision.engine, world.now)
        world.history += [(world.now, "told", one) for one in decision.sentences]
        if decision.verb not in ("", "canary"):
            world.history.append((world.now, decision.verb, decision.why))
            state, act, _cause = answered(
                state, decision.verb, decision.why, Finding(), clock, settings, decision.lives
            )
            world.history.append((world.now, act, state.stood_down))
            if act == "restart":
                if not restarts:
                    return state
                world.started = world.now
                # A new life makes its steps, until it hangs again.
                world.engines = [replace(one, steps=0.0) for one in world.engines]
    return state


def hung(world: World) -> list[float]:
    """When it was said to hang."""
    return [at for at, verb, _why in world.history if verb == "hang"]


def traffic(seed: int, seconds: float) -> Engine:
    """Legitimate traffic: busy and idle stretches of any length, prefill that stalls for up to a minute, compilers that
    pause for up to 70 s, with a step between two of them."""
    chance = random.Random(seed)
    now, busy, still = 0.0, [], []
    while now < seconds:
        length = chance.choice((5, 30, 120, 400)) * chance.uniform(0.3, 1.5)
        if chance.random() < 0.6:
            busy.append((now, now + length))
            at = now
            while at < now + length and chance.random() < 0.7:
                pause = chance.choice((chance.uniform(1, 20), chance.uniform(20, 60), chance.uniform(30, 70)))
                at += chance.uniform(0, 40)
                still.append((at, at + pause))
                at += pause + chance.uniform(1, 20)
        now += length
    return Engine(tuple(busy), tuple(still))
