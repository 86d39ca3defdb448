# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When a server hangs, and what is done about it; hours of traffic in milliseconds."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.decide import (
    Canary,
    Clock,
    Decision,
    Event,
    Finding,
    Life,
    Load,
    Look,
    Pulse,
    Settings,
    State,
    answered,
    decide,
)
from watchdog_rig import EPOCH, FOREVER, PROVEN, Engine, World, hung, traffic, watch

# The promise: seconds from the last step to the action, whatever the server was doing.
FOUND_WITHIN = 150.0
SETTINGS = Settings()


# --- every hang is found ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [300.0, 301.5, 304.0, 307.5, 312.0, 319.5])
@pytest.mark.parametrize(
    "busy",
    [
        pytest.param((), id="from idle"),
        pytest.param(((0.0, FOREVER),), id="under load"),
        pytest.param(((0.0, 299.0),), id="a second after the last request"),
        pytest.param(((310.0, FOREVER),), id="from idle, and requests come"),
        pytest.param(((0.0, 200.0), (298.0, FOREVER)), id="with the first requests"),
    ],
)
def test_every_hang_is_found_in_time(at: float, busy: tuple[tuple[float, float], ...]) -> None:
    world = World([Engine(busy, ((at, FOREVER),))])
    watch(world, at + 400)
    assert [0 < when - at <= FOUND_WITHIN for when in hung(world)] == [True], world.history
    assert hung(world)[0] - at >= SETTINGS.stall - SETTINGS.idle - SETTINGS.interval


@pytest.mark.parametrize("seed", range(40))
def test_a_hang_in_traffic_is_found_in_time_and_nothing_else(seed: int) -> None:
    at = 1200.0 + 7.3 * seed
    engine = traffic(seed, at)
    world = World([replace(engine, still=(*engine.still, (at, FOREVER)))])
    watch(world, at + 400)
    assert len(hung(world)) == 1
    # A pause that had begun before counts into the time without a step.
    assert hung(world)[0] - at <= FOUND_WITHIN


@pytest.mark.parametrize("seed", range(120))
def test_legitimate_traffic_is_never_taken_for_a_hang(seed: int) -> None:
    world = World([traffic(seed, 1800.0)])
    state = watch(world, 1800.0)
    assert (hung(world), state.restarted) == ([], 0)


@pytest.mark.parametrize(
    ("engines", "routed"),
    [
        pytest.param([Engine(), Engine(still=((300.0, FOREVER),))], True, id="one of two, from idle"),
        pytest.param(
            [Engine(((0.0, FOREVER),)), Engine(((0.0, FOREVER),), ((300.0, FOREVER),))], True, id="one of two, busy"
        ),
        pytest.param(
            [Engine(((0.0, FOREVER),)), Engine(((0.0, FOREVER),), ((300.0, FOREVER),))],
            False,
            id="one of two, and the header is not heeded",
        ),
        pytest.param(
            [Engine(), Engine(((0.0, FOREVER),), ((300.0, FOREVER),)), Engine(((0.0, FOREVER),)), Engine()],
            True,
            id="one of four",
        ),
    ],
)
def test_an_engine_of_several_is_judged_by_itself(engines: list[Engine], routed: bool) -> None:
    world = World(engines, routed=routed)
    watch(world, 700.0)
    assert [0 < when - 300 <= FOUND_WITHIN + SETTINGS.interval for when in hung(world)] == [True], world.history
    assert any("engine 1 of it" in why for _at, _verb, why in world.history)


@pytest.mark.parametrize("seed", range(20))
def test_legitimate_traffic_over_several_engines_is_none_either(seed: int) -> None:
    world = World([traffic(seed * 10 + n, 1800.0) for n in range(3)], routed=seed % 2 == 0)
    watch(world, 1800.0)
    assert hung(world) == []


# --- what is no hang --------------------------------------------------------------------------------------------------


def still(since: float = 300.0, until: float = FOREVER, busy: bool = True) -> Engine:
    return Engine(((0.0, FOREVER),) if busy else (), ((since, until),))


def changed(**values: t.Any) -> t.Callable[[float, Look], Look]:
    return lambda now, look: replace(look, **values) if now >= 290 else look


@pytest.mark.parametrize(
    ("world", "status"),
    [
        pytest.param(World([still(300, 418)]), "serving", id="slow for nearly two minutes"),
        pytest.param(World([Engine(((0.0, FOREVER),))], frozen=True), "serving", id="metrics that stand still"),
        pytest.param(World([Engine()], frozen=True), "serving", id="metrics that stand still, idle"),
        pytest.param(World([still()], changed(busy=True)), "changing", id="a deploy"),
        pytest.param(World([still()], changed(asleep=True)), "asleep", id="sleep"),
        pytest.param(World([still()], changed(paused_until=EPOCH + 9999)), "paused", id="maintenance"),
        pytest.param(World([still()], changed(running=False)), "stopped", id="stopped by somebody"),
        pytest.param(World([still()], changed(running=False, returns=True)), "restarting", id="about to come back"),
        pytest.param(World([still()], changed(running=None)), "unknown", id="an engine that does not answer"),
        pytest.param(World([still()], changed(engines={})), "blind", id="without counted steps"),
        pytest.param(World([still(busy=False)], changed(steps_only=True)), "serving", id="a trainer's, idle"),
        pytest.param(World([still(300, 440)], changed(steps_only=True)), "serving", id="a trainer's, that updates"),
        pytest.param(World([still(300, 590)], changed(gpu_works=True)), "serving", id="a GPU that works"),
        pytest.param(World([still()], outcome="unclear"), "suspect", id="answers that say nothing"),
    ],
)
def test_what_is_no_hang(world: World, status: str) -> None:
    state = watch(world, 600.0)
    assert (hung(world), state.status) == ([], status), world.history


@pytest.mark.parametrize(
    ("seen", "within"),
    [
        pytest.param({"steps_only": True}, 160, id="a trainer's, with requests"),
        pytest.param({"gpu_works": True}, 310, id="a GPU that seems to work for ever"),
        pytest.param({"gpu_works": False}, 150, id="a GPU that does not work"),
        pytest.param({"answers": False, "engines": {}}, 150, id="an API that answers nothing"),
        pytest.param({"paused_until": EPOCH + 400.0}, 100 + 150, id="after the end of a pause"),
    ],
)
def test_what_is_one_all_the_same(seen: dict[str, t.Any], within: float) -> None:
    world = World([still()], changed(**seen))
    watch(world, 900.0)
    assert [0 < when - 300 <= within for when in hung(world)] == [True], world.history


def test_who_was_away_holds_nothing_against_it() -> None:
    """The host was asleep, or this program was: what did not move in between is no hang."""
    state = replace(PROVEN, looked=100.0, began=0.0, answered=0.0, engines={"0": Pulse(5.0, 100.0, 2, loaded=True)})
    look = Look(Life("c1", "0.0"), answers=True, engines={"0": Load(5.0, 8)}, canary=Canary("0", 99.0, "failed"))
    decision = decide(state, look, Clock(1000.0, EPOCH), SETTINGS)
    assert (decision.verb, decision.state.engines["0"].moved) in [("", 1000.0), ("canary", 1000.0)]


@pytest.mark.parametrize(
    ("pulse", "overdue"),
    [
        pytest.param(Pulse(5.0, 90.0), 10.0 - SETTINGS.idle, id="idle for a moment"),
        pytest.param(Pulse(5.0, 70.0), 30.0 - SETTINGS.idle, id="idle for long"),
        pytest.param(Pulse(5.0, 85.0, loaded=True), 15.0 - SETTINGS.quiet, id="with requests it is due sooner"),
        pytest.param(Pulse(5.0, 0.0, unclear=95.0), 5.0 - SETTINGS.idle, id="one that told nothing has just come back"),
        pytest.param(Pulse(5.0, 99.0, 1), SETTINGS.stall, id="one that failed is repeated at once"),
    ],
)
def test_when_a_canary_is_due(pulse: Pulse, overdue: float) -> None:
    """An engine that has just proved that it lives is asked nothing: each canary costs its users time."""
    assert pulse.overdue(CLOCK, SETTINGS) == overdue


@pytest.mark.parametrize(("still", "is_hung"), [(SETTINGS.stall - 1, False), (SETTINGS.stall, True)])
def test_canaries_that_fail_quickly_are_no_hang_yet(still: float, is_hung: bool) -> None:
    pulse = Pulse(5.0, CLOCK.now - still, SETTINGS.canaries)
    assert (seen(replace(SERVING, engines={"0": pulse}), engines={"0": Load(5.0)}).verb == "hang") == is_hung


def test_a_pause_that_ends_begins_anew() -> None:
    world = World([still()], lambda now, look: replace(look, paused_until=EPOCH + 500.0))
    watch(world, 900.0)
    assert [500 < when <= 500 + FOUND_WITHIN for when in hung(world)] == [True]


# --- starting ---------------------------------------------------------------------------------------------------------

NEW = State()


def test_a_start_has_time_and_not_for_ever() -> None:
    silent = World([still(0.0)], lambda _now, look: replace(look, answers=False, engines={}))
    watch(silent, 3000.0, state=NEW)
    assert [SETTINGS.start < at <= SETTINGS.start + 10 for at in hung(silent)] == [True]


@pytest.mark.parametrize(("said", "allowed"), [(2700.0, 2700.0), (60.0, SETTINGS.start)])
def test_a_start_has_the_time_that_its_deploy_gave_it_where_that_is_more(said: float, allowed: float) -> None:
    silent = World([still(0.0)], lambda _now, look: replace(look, answers=False, engines={}, start=said))
    watch(silent, 3600.0, state=NEW)
    assert [allowed < at <= allowed + 10 for at in hung(silent)] == [True]


def test_who_has_answered_nobody_yet_is_warming() -> None:
    """The first requests may compile for minutes."""
    world = World([Engine(((0.0, FOREVER),), ((0.0, 280.0),))])
    assert watch(world, 600.0, state=NEW).status == "serving"
    assert (hung(world), [why for _at, verb, why in world.history if verb == "told"]) == ([], ["It answers."])


def test_a_start_that_never_answers_is_found_after_that() -> None:
    world = World([still(0.0)])
    watch(world, 900.0, state=NEW)
    assert [SETTINGS.warming <= at <= SETTINGS.warming + FOUND_WITHIN for at in hung(world)] == [True]


# --- lives that end ---------------------------------------------------------------------------------------------------

SERVING = replace(PROVEN, looked=95.0, answered=0.0, engines={"0": Pulse(5.0, 95.0)})
CLOCK = Clock(100.0, EPOCH + 100)


def seen(state: State = SERVING, **values: t.Any) -> Decision:
    look = Look(Life("c1", "0.0"), answers=True, engines={"0": Load(6.0)})
    return decide(state, replace(look, **values), CLOCK, SETTINGS)


DOWN = replace(SERVING, stood_down="It was restarted 3 times.", status="stood_down")
ACTING = replace(SERVING, acting=True)


@pytest.mark.parametrize(
    ("state", "values", "verb", "lives", "status"),
    [
        pytest.param(SERVING, {"life": Life("c1", "9", 1)}, "crash", 1, "starting", id="it ended and came back"),
        pytest.param(SERVING, {"life": Life("c1", "9", 4)}, "crash", 4, "starting", id="several times"),
        pytest.param(
            SERVING,
            {"life": Life("c1", "9", 1), "running": False, "returns": True},
            "crash",
            1,
            "starting",
            id="it waits for its next life",
        ),
        pytest.param(SERVING, {"life": Life("c1", "9", 0)}, "", 1, "serving", id="started by hand, or with the host"),
        pytest.param(ACTING, {"life": Life("c1", "9", 0)}, "", 1, "serving", id="started by the watchdog"),
        pytest.param(SERVING, {"life": Life("c1", "9", 1), "busy": True}, "", 1, "changing", id="under a deploy"),
        pytest.param(
            SERVING, {"life": Life("c1", "9", 1), "paused_until": EPOCH * 2}, "", 1, "paused", id="in maintenance"
        ),
        pytest.param(SERVING, {"life": Life("c2", "9", 3)}, "", 1, "warming", id="deployed anew"),
        pytest.param(SERVING, {"running": False, "died": "It died."}, "down", 1, "down", id="nothing starts it again"),
        pytest.param(ACTING, {"running": False}, "resume", 1, "serving", id="a restart that was cut short"),
        pytest.param(DOWN, {"life": Life("c1", "9", 1)}, "", 1, "stood_down", id="stood down, and it came back"),
        pytest.param(DOWN, {"running": False}, "", 1, "stood_down", id="stood down, stopped"),
        pytest.param(DOWN, {"life": Life("c1", "9", 0)}, "", 1, "warming", id="stood down, started by hand"),
        pytest.param(DOWN, {"life": Life("c2", "9", 0)}, "", 1, "warming", id="stood down, deployed anew"),
        pytest.param(DOWN, {"busy": True}, "", 1, "changing", id="stood down, and a run comes"),
        pytest.param(NEW, {"life": Life("c1", "9", 7)}, "", 1, "warming", id="seen for the first time"),
    ],
)
def test_lives_that_end(state: State, values: dict[str, t.Any], verb: str, lives: int, status: str) -> None:
    decision = seen(state, **values)
    found = decision.verb if decision.verb != "canary" else ""
    got = decision.state.status
    # A life that was started again has to answer first.
    assert (found, decision.lives) == (verb, lives)
    assert got == status or (status == "serving" and got == "warming")


def test_how_often_it_ended_is_told() -> None:
    assert seen(life=Life("c1", "9", 1)).why == "its process ended by itself"
    assert seen(life=Life("c1", "9", 4)).why == "its process ended by itself 4 times"


def test_a_stand_down_ends_with_a_run_or_a_start_by_hand() -> None:
    assert seen(DOWN, busy=True).state.stood_down == ""
    assert seen(DOWN, running=False, busy=True).state.stood_down
    assert seen(DOWN, life=Life("c1", "9", 0)).state.stood_down == ""
    assert seen(DOWN, life=Life("c2", "9", 0)).state.events == ()
    assert seen(DOWN, life=Life("c1", "9", 1)).state.stood_down


def test_what_counts_no_steps_is_told_once() -> None:
    first = seen(engines={})
    assert (first.state.status, [sentence[:25] for sentence in first.sentences]) == (
        "blind",
        ["It counts no steps in /me"],
    )
    assert seen(first.state, engines={}).sentences == ()


def test_what_is_down_is_told_once() -> None:
    first = seen(SERVING, running=False, died="It died.")
    assert (first.verb, seen(first.state, running=False, died="It died.").verb) == ("down", "")


# --- what is done about it --------------------------------------------------------------------------------------------


def events(*ago: float, kind: t.Any = "hang") -> tuple[Event, ...]:
    return tuple(Event(CLOCK.wall - seconds, kind, "x") for seconds in ago)


LOST = Finding("Xid 79.", "GPU 0 has fallen off the bus.")


@pytest.mark.parametrize(
    ("past", "verb", "lives", "finding", "act", "stands_down"),
    [
        pytest.param((), "hang", 1, Finding(), "restart", False, id="the first hang"),
        pytest.param(events(100, 200), "hang", 1, Finding(), "restart", False, id="the last of the budget"),
        pytest.param(events(100, 200, 300), "hang", 1, Finding(), "", True, id="one more than the budget"),
        pytest.param(events(100, 200, 3601), "hang", 1, Finding(), "restart", False, id="one is long ago"),
        pytest.param(events(-500, 200, 300), "hang", 1, Finding(), "restart", False, id="a clock that was set back"),
        pytest.param(events(1, 2, 3, kind="crash"), "hang", 1, Finding(), "", True, id="crashes count, too"),
        pytest.param((), "hang", 1, LOST, "", True, id="a lost card"),
        pytest.param((), "crash", 1, Finding(), "", False, id="the first crash"),
        pytest.param((), "crash", 3, Finding(), "", False, id="as many crashes as are allowed"),
        pytest.param((), "crash", 4, Finding(), "stop", True, id="a crash loop"),
        pytest.param((), "crash", 400, Finding(), "stop", True, id="a long one"),
        pytest.param(events(100, 200, 300), "crash", 1, Finding(), "stop", True, id="a crash after the budget"),
        pytest.param((), "crash", 1, LOST, "", False, id="a crash by a lost card may be the last"),
        pytest.param((), "crash", 2, LOST, "stop", True, id="not the second"),
        pytest.param(events(9), "crash", 1, LOST, "stop", True, id="not a second one later either"),
        pytest.param((), "down", 1, Finding("It died."), "", False, id="down"),
    ],
)
def test_what_is_done(
    past: tuple[Event, ...], verb: t.Any, lives: int, finding: Finding, act: str, stands_down: bool
) -> None:
    state, done, said = answered(replace(SERVING, events=past), verb, "it hangs", finding, CLOCK, SETTINGS, lives)
    assert (done, bool(state.stood_down)) == (act, stands_down)
    assert said
    assert state.acting == (act == "restart")
    assert len(state.events) <= len(past) + SETTINGS.restarts + 1


def test_the_budget_is_exact() -> None:
    """A server that hangs in each of its lives: so many restarts, then no more, and it says so."""
    world = World([still(0.0)])
    state = watch(world, 3500.0, settings=replace(SETTINGS, warming=0.0), restarts=True)
    acts = [verb for _at, verb, _why in world.history if verb in ("restart", "hang")]
    assert acts == ["hang", "restart"] * SETTINGS.restarts + ["hang"]
    assert (state.status, state.restarted) == ("stood_down", SETTINGS.restarts)
    assert state.stood_down == "It was restarted 3 times within 60 minutes already."
