# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a server hangs, and what is done about it: a state, a look and the time make the next state and an action.

Pure; the clock is a parameter. C(/health) says 200 while an engine hangs, and one that hangs from idle shows nothing at
all. What cannot lie is the count of steps of each engine, and an answer: where steps stand still, requests of one token
(canaries) are sent, one at a time. A server hangs when several of them failed in a row and no step was made for long;
a step or an answer in between proves the opposite. Prefill and compilers pause for a minute, which is not long.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

Verb = t.Literal["", "canary", "hang", "crash", "down", "resume"]
Kind = t.Literal["hang", "crash"]
# What became of a canary: an answer, no answer (or an error of the engine), or one that says nothing about the engine.
Outcome = t.Literal["answered", "failed", "unclear"]


# After which of these an answer is news.
NOT_SERVING = ("new", "starting", "warming", "hung", "restarting", "stopped", "down", "blind")


@dataclass(frozen=True)
class Settings:
    """When something is wrong, and how often it is put right. Seconds, where nothing else is said."""

    interval: float = 5.0
    canary_timeout: float = 40.0
    canaries: int = 3
    stall: float = 120.0
    # How long nothing may prove an engine alive before a canary is sent: one without requests, and one with some.
    idle: float = 20.0
    quiet: float = 10.0
    # Where no canary can tell (a trainer's server, one engine of several), and where the GPU is seen to work.
    steps_only: float = 150.0
    working: float = 300.0
    # A server that has answered nobody yet: from its start to its API, and from there to its first answer.
    start: float = 1800.0
    warming: float = 300.0
    # So many lives may end or be ended within the window; the next one ends the watchdog's patience.
    restarts: int = 3
    window: float = 3600.0
    # After a longer pause between two looks, the host was asleep, or this program: it proves nothing.
    away: float = 30.0


@dataclass(frozen=True)
class Clock:
    """The time: C(now) only ever goes on, in seconds; C(wall) is that of people, as seconds since the epoch."""

    now: float
    wall: float


@dataclass(frozen=True)
class Life:
    """One life of a server's process: what it was made as, when it started, and the restarts nobody asked for."""

    identity: str
    started: str
    restarts: int = 0


@dataclass(frozen=True)
class Load:
    """An engine, as /metrics shows it: its steps so far, and the requests that it has."""

    steps: float
    requests: float = 0.0


@dataclass(frozen=True)
class Canary:
    """A request of one token that has ended."""

    engine: str
    began: float
    outcome: Outcome
    seen: str = ""


@dataclass(frozen=True)
class Look:
    """What was seen of a server."""

    life: Life
    # None: what runs it gave no answer.
    running: bool | None = True
    # Whether what runs it is about to start it again; whether the end was none that somebody asked for.
    returns: bool = False
    died: str = ""
    # Seconds since its start; and how many a start of it may take, where its record says so.
    age: float = 0.0
    start: float = 0.0
    # Another run changes it, or waits for it; somebody asked the watchdog to leave it alone until then (wall).
    busy: bool = False
    paused_until: float = 0.0
    asleep: bool = False
    # Whether its API answered at all, and the engines by label; none where no steps are counted.
    answers: bool = False
    engines: t.Mapping[str, Load] = field(default_factory=dict)
    canary: Canary | None = None
    # A trainer's server is asked nothing.
    steps_only: bool = False
    # Whether its GPU works by its power; None where that tells nothing.
    gpu_works: bool | None = None


@dataclass(frozen=True)
class Pulse:
    """When an engine last proved that it lives, and how many canaries failed since."""

    steps: float | None
    moved: float
    failures: int = 0
    loaded: bool = False
    # When a canary came back that says nothing about it: the next one has time.
    unclear: float = 0.0

    def overdue(self, clock: Clock, settings: Settings) -> float:
        """For how long a canary has been due, in seconds; negative while none is."""
        if self.failures:
            return settings.stall
        due = settings.quiet if self.loaded else settings.idle
        return clock.now - max(self.moved, self.unclear) - due


@dataclass(frozen=True)
class Event:
    """A life that ended: when (wall), how and why."""

    at: float
    kind: Kind
    cause: str


@dataclass(frozen=True)
class State:
    """What is known of a server. All but the last group outlives this program."""

    life: Life | None = None
    status: str = "new"
    since: float = 0.0
    proven: bool = False
    events: tuple[Event, ...] = ()
    stood_down: str = ""
    restarted: int = 0
    # A restart of ours has begun: what starts now is no crash, and what stands still is to be started.
    acting: bool = False
    told: str = ""
    # By the clock that only goes on.
    looked: float | None = None
    began: float = 0.0
    answered: float | None = None
    engines: t.Mapping[str, Pulse] = field(default_factory=dict)
    asking: tuple[str, float] | None = None


@dataclass(frozen=True)
class Decision:
    """The next state, what is to be done, and what is to be told."""

    state: State
    verb: Verb = ""
    # The engine that a canary is for.
    engine: str = ""
    sentences: tuple[str, ...] = ()
    why: str = ""
    # How many lives ended.
    lives: int = 1


def decide(before: State, look: Look, clock: Clock, settings: Settings) -> Decision:
    """What a look at a server means."""
    state, crashes = _lived(before, look, clock, settings)
    state = replace(state, looked=clock.now)
    if look.canary is not None:
        state = replace(state, asking=None)
    if look.running is None:
        return _left(state, "unknown", clock)
    if look.busy:
        # Whoever deploys decides anew. What the watchdog ended stays given up until it is started.
        stood_down = "" if look.running else state.stood_down
        return _left(replace(state, stood_down=stood_down, acting=False), "changing", clock)
    if look.paused_until > clock.wall:
        return _left(state, "paused", clock)
    if crashes and not state.stood_down:
        why = f"its process ended by itself{f' {crashes} times' if crashes > 1 else ''}"
        return Decision(_as(state, "starting", clock), "crash", why=why, lives=crashes)
    if not look.running:
        return _ended(state, look, clock)
    if state.stood_down:
        return _left(state, "stood_down", clock)
    if look.asleep:
        return _left(state, "asleep", clock)
    return _judged(_proven(state, look, clock), look, clock, settings)


def _lived(before: State, look: Look, clock: Clock, settings: Settings) -> tuple[State, int]:
    """The state in the life that was seen, and how many lives ended by themselves since the last look."""
    state, known = before, before.life
    if look.running is None:
        return state, 0
    if known is None or known.identity != look.life.identity:
        fresh = State(look.life, "starting", clock.wall, began=clock.now - look.age)
        return fresh, 0
    if known != look.life:
        crashes = max(0, look.life.restarts - known.restarts)
        ignored = look.busy or look.paused_until > clock.wall or state.acting
        # Started by hand, or with the host: the restarts begin anew, and who stood down watches again.
        stood_down = state.stood_down if look.life.restarts else ""
        state = replace(state, life=look.life, stood_down=stood_down, proven=False, told="")
        state = replace(state, began=clock.now - look.age, answered=None, engines={}, acting=False)
        if crashes and not ignored:
            return state, crashes
    elif state.looked is None:
        # This program has just started: it has seen nothing stand still.
        state = replace(state, began=clock.now - look.age, answered=None, engines={}, asking=None)
    elif clock.now - state.looked > settings.away:
        state = _rested(state, clock)
    return state, 0


def _rested(state: State, clock: Clock) -> State:
    """Nothing is held against the engines that happened before."""
    engines = {label: replace(pulse, moved=clock.now, failures=0) for label, pulse in state.engines.items()}
    return replace(state, engines=engines, answered=None if state.answered is None else clock.now)


def _as(state: State, status: str, clock: Clock) -> State:
    return state if state.status == status else replace(state, status=status, since=clock.wall)


def _left(state: State, status: str, clock: Clock) -> Decision:
    """Nothing is judged."""
    return Decision(_as(_rested(state, clock), status, clock))


def _ended(state: State, look: Look, clock: Clock) -> Decision:
    if state.acting and not look.returns:
        # The watchdog was interrupted between stop and start.
        return Decision(state, "resume", why="a restart of it was interrupted")
    if look.returns:
        return _left(state, "restarting", clock)
    down = _left(state, "stood_down" if state.stood_down else "down" if look.died else "stopped", clock)
    if look.died and state.told != look.died:
        return replace(down, state=replace(down.state, told=look.died), verb="down", why=look.died)
    return down


# --- one look at a server that runs -----------------------------------------------------------------------------------


def _proven(state: State, look: Look, clock: Clock) -> State:
    """The pulses after a look: what moved, what answered, what failed."""
    engines = dict(state.engines)
    answered, proven = state.answered, state.proven
    if look.answers and answered is None:
        answered = clock.now
    for label, load in look.engines.items():
        known = engines.get(label)
        stepped = known is not None and known.steps is not None and load.steps != known.steps
        proven = proven or stepped
        if known is None or stepped:
            engines[label] = Pulse(load.steps, clock.now, loaded=load.requests > 0)
        else:
            engines[label] = replace(known, steps=load.steps, loaded=load.requests > 0)
    canary = look.canary
    if canary and canary.engine in engines:
        pulse = engines[canary.engine]
        if canary.outcome == "answered":
            proven = True
            # Of several engines with requests, another one may have answered.
            if len(engines) == 1 or not pulse.loaded:
                engines[canary.engine] = replace(pulse, moved=clock.now, failures=0)
        elif canary.outcome == "failed" and pulse.moved <= canary.began:
            engines[canary.engine] = replace(pulse, failures=pulse.failures + 1)
        elif canary.outcome == "unclear":
            engines[canary.engine] = replace(pulse, unclear=clock.now)
    return replace(state, engines=engines, answered=answered, proven=proven)


def _judged(state: State, look: Look, clock: Clock, settings: Settings) -> Decision:
    if state.answered is None:
        allowed = max(settings.start, look.start)
        if clock.now - state.began > allowed:
            why = f"it has not opened its API within {allowed:.0f} s of its start"
            return Decision(_as(state, "hung", clock), "hang", why=why)
        # One that had served before this program started, and answers nothing now, has a pulse all the same.
        if not state.proven:
            return Decision(_as(state, "starting", clock))
        state = replace(state, answered=clock.now)
    if look.answers and not look.engines:
        return Decision(_as(replace(state, engines={}), "blind", clock), sentences=_blind(state))
    if not state.engines:
        state = replace(state, engines={"0": Pulse(None, clock.now)})
    is_warm = state.proven or clock.now - (state.answered or 0.0) >= settings.warming
    for label, pulse in sorted(state.engines.items()):
        why = _hangs(pulse, len(state.engines), look, clock, settings)
        if why and is_warm:
            named = f"engine {label} of it" if len(state.engines) > 1 else "it"
            return Decision(_as(state, "hung", clock), "hang", engine=label, why=f"{named} {why}")
    return _asked(state, look, clock, settings)


def _blind(state: State) -> tuple[str, ...]:
    if state.status == "blind":
        return ()
    return ("It counts no steps in /metrics (disable_log_stats?), so a hang cannot be detected.",)


def _hangs(pulse: Pulse, engines: int, look: Look, clock: Clock, settings: Settings) -> str:
    still = clock.now - pulse.moved
    if look.gpu_works and still < settings.working:
        return ""
    if pulse.failures >= settings.canaries and still >= settings.stall:
        return f"has made no step for {still:.0f} s, and {pulse.failures} requests of one token failed in a row"
    is_alone = look.steps_only or (engines > 1 and not pulse.failures)
    if is_alone and pulse.loaded and still >= settings.steps_only:
        return f"has requests and has made no step for {still:.0f} s"
    return ""


def _asked(state: State, look: Look, clock: Clock, settings: Settings) -> Decision:
    """A server that is not known to hang: its status, and whether a canary is due."""
    engines = state.engines
    is_suspect = any(
        one.failures or (one.loaded and clock.now - one.moved >= settings.stall / 2) for one in engines.values()
    )
    after = "warming" if not state.proven else "suspect" if is_suspect else "serving"
    is_news = after == "serving" and state.status in NOT_SERVING
    state = _as(state, after, clock)
    told = ("It answers.",) if is_news else ()
    next_one = max(sorted(engines), key=lambda label: engines[label].overdue(clock, settings))
    if look.steps_only or state.asking is not None or engines[next_one].overdue(clock, settings) < 0:
        return Decision(state, sentences=told)
    return Decision(replace(state, asking=(next_one, clock.now)), "canary", next_one, told)


# --- what is done about it --------------------------------------------------------------------------------------------

Act = t.Literal["", "restart", "stop"]


@dataclass(frozen=True)
class Finding:
    """What the post-mortem found: the cause in a sentence, and why no restart can heal it, where that is so."""

    cause: str = ""
    incurable: str = ""


def answered(
    state: State, verb: Verb, why: str, finding: Finding, clock: Clock, settings: Settings, crashes: int = 1
) -> tuple[State, Act, str]:
    """What is done about a server that hangs or ended: restart it, stop it for good, or leave it; with a sentence."""
    cause = finding.cause or why
    if verb == "down":
        return state, "", f"It is down, and nothing starts it again: {cause}"
    kind: Kind = "hang" if verb == "hang" else "crash"
    recent = tuple(one for one in state.events if clock.wall - settings.window < one.at <= clock.wall)
    ended = Event(clock.wall, kind, cause)
    budget = f"{settings.restarts} times within {settings.window / 60:.0f} minutes"
    if kind == "hang":
        if finding.incurable:
            return _stands_down(state, recent, f"{finding.incurable} A restart does not heal that.", clock), "", cause
        if len(recent) >= settings.restarts:
            return _stands_down(state, recent, f"It was restarted {budget} already.", clock), "", cause
        after = replace(state, events=(*recent, ended), restarted=state.restarted + 1, acting=True)
        return _as(after, "restarting", clock), "restart", cause
    events = (*recent, *[ended] * min(crashes, settings.restarts + 1))
    counted = replace(state, events=events)
    if finding.incurable and len(events) > 1:
        return _stands_down(counted, events, f"{finding.incurable} A restart does not heal that.", clock), "stop", cause
    if len(events) > settings.restarts:
        return _stands_down(counted, events, f"It ended more than {budget}.", clock), "stop", cause
    return counted, "", cause


def _stands_down(state: State, events: tuple[Event, ...], why: str, clock: Clock) -> State:
    return _as(replace(state, events=events, stood_down=why), "stood_down", clock)


def undone(state: State, why: str, clock: Clock, settings: Settings) -> State:
    """After a restart that failed: it is tried again at the next look, which counts like another hang."""
    recent = tuple(one for one in state.events if clock.wall - settings.window < one.at <= clock.wall)
    if len(recent) >= settings.restarts:
        return replace(_stands_down(state, recent, f"It could not be restarted: {why}", clock), acting=False)
    return replace(state, events=(*recent, Event(clock.wall, "hang", why)))
