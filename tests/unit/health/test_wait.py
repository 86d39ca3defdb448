# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What answers mean, and how a wait goes: time passes in a model, so no test waits."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.wait import (
    Report,
    Response,
    Verdict,
    Wait,
    clock,
    exit_sentence,
    is_repeated,
    judge_completion,
    judge_health,
    judge_models,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState

NO_ANSWER = [
    pytest.param(Response(), (False, "no answer", False), id="no answer"),
    pytest.param(Response(error="connection refused"), (False, "connection refused", False), id="refused"),
    pytest.param(Response(error="TLS: bad", final=True), (False, "TLS: bad", True), id="a certificate"),
    pytest.param(Response(401), (False, "HTTP 401: the server rejected the API key", True), id="401"),
    pytest.param(Response(403), (False, "HTTP 403: the server rejected the API key", True), id="403"),
    pytest.param(Response(500), (False, "HTTP 500", False), id="500"),
    pytest.param(Response(503, {"error": "loading"}), (False, "HTTP 503: loading", False), id="503 with a reason"),
    pytest.param(
        Response(503, {"error": {"message": "a\n  b"}}), (False, "HTTP 503: a b", False), id="503 as OpenAI words it"
    ),
    pytest.param(Response(502, {"detail": 1}), (False, "HTTP 502", False), id="502 with something else"),
    pytest.param(Response(500, ["x"]), (False, "HTTP 500", False), id="500 with a list"),
    pytest.param(
        Response(500, {"error": "x" * 200}), (False, "HTTP 500: " + "x" * 117 + "...", False), id="a long reason is cut"
    ),
    pytest.param(Response(302), (False, "HTTP 302", False), id="a redirect"),
]


def said(verdict: Verdict) -> tuple[bool, str, bool]:
    return verdict.ok, verdict.detail, verdict.final


@pytest.mark.parametrize(("response", "verdict"), NO_ANSWER)
def test_no_check_passes_without_an_answer(response: Response, verdict: tuple[bool, str, bool]) -> None:
    assert said(judge_health(response)) == verdict
    assert said(judge_models(response, "gpt")) == verdict
    assert said(judge_completion(response)) == verdict


def test_health_is_a_status() -> None:
    assert said(judge_health(Response(200))) == (True, "HTTP 200", False)


def models(*names: t.Any) -> Response:
    return Response(200, {"object": "list", "data": [{"id": name} for name in names]})


@pytest.mark.parametrize(
    ("response", "wanted", "verdict"),
    [
        pytest.param(models("gpt"), "gpt", (True, "serves gpt", False), id="the name"),
        pytest.param(models("lora", "gpt"), "gpt", (True, "serves lora, gpt", False), id="the name and an adapter"),
        pytest.param(models("gpt", "b"), ["gpt", "b"], (True, "serves gpt, b", False), id="all names"),
        pytest.param(
            models("gpt", "c"),
            ["gpt", "b", "c", "d"],
            (False, "serves gpt, c, not b, d: another server answers on this port", True),
            id="one with fewer names",
        ),
        pytest.param(models("gpt"), None, (True, "serves gpt", False), id="any name will do"),
        pytest.param(
            models("gemma"),
            "gpt",
            (False, "serves gemma, not gpt: another server answers on this port", True),
            id="another server",
        ),
        pytest.param(models(), "gpt", (False, "the list of models is empty", False), id="an empty list"),
        pytest.param(Response(200, {}), "gpt", (False, "the list of models is empty", False), id="no list"),
        pytest.param(
            Response(200, {"data": "x"}), "gpt", (False, "the list of models is empty", False), id="no list either"
        ),
        pytest.param(
            Response(200, {"data": [1, {}]}), None, (False, "the list of models is empty", False), id="no names"
        ),
        pytest.param(Response(200), "gpt", (False, "the answer is not a list of models", False), id="a page of HTML"),
        pytest.param(Response(200, [1]), "gpt", (False, "the answer is not a list of models", False), id="other JSON"),
    ],
)
def test_the_list_of_models(response: Response, wanted: str | None, verdict: tuple[bool, str, bool]) -> None:
    assert said(judge_models(response, wanted)) == verdict


def completion(**message: t.Any) -> Response:
    return Response(200, {"choices": [{"index": 0, "message": {"role": "assistant", **message}}]})


@pytest.mark.parametrize(
    ("response", "verdict"),
    [
        pytest.param(completion(content="Hello there."), (True, "Hello there."), id="content"),
        pytest.param(completion(content=None, reasoning="We need"), (True, "We need"), id="reasoning alone"),
        pytest.param(
            completion(content=None, reasoning_content="We need"), (True, "We need"), id="reasoning, by its old name"
        ),
        pytest.param(completion(content="Hi", reasoning="We need"), (True, "Hi We need"), id="both"),
        pytest.param(completion(content="a\n\nb"), (True, "a b"), id="several lines"),
        pytest.param(completion(content="ok"), (True, "ok"), id="a short answer"),
        pytest.param(
            completion(content=None), (False, "the answer is empty: neither content nor reasoning"), id="null"
        ),
        pytest.param(completion(content=""), (False, "the answer is empty: neither content nor reasoning"), id="empty"),
        pytest.param(
            completion(content=" \n"), (False, "the answer is empty: neither content nor reasoning"), id="blank"
        ),
        pytest.param(
            completion(), (False, "the answer is empty: neither content nor reasoning"), id="no content at all"
        ),
        pytest.param(
            completion(content="", reasoning=""),
            (False, "the answer is empty: neither content nor reasoning"),
            id="both empty",
        ),
        pytest.param(completion(content="!!!!!"), (False, "the answer is one token repeated: '!!!!!'"), id="!!!!!"),
        pytest.param(
            completion(content="multmultmultmult"),
            (False, "the answer is one token repeated: 'multmultmultmult'"),
            id="multmultmultmult",
        ),
        pytest.param(
            completion(content=None, reasoning="!!!!!!"),
            (False, "the answer is one token repeated: '!!!!!!'"),
            id="reasoning !",
        ),
        pytest.param(Response(200, {"choices": []}), (False, "the answer is not a chat completion"), id="no choices"),
        pytest.param(
            Response(200, {"choices": [None]}), (False, "the answer is not a chat completion"), id="a choice of null"
        ),
        pytest.param(
            Response(200, {"choices": [{"text": "x"}]}), (False, "the answer is not a chat completion"), id="no message"
        ),
        pytest.param(Response(200, {}), (False, "the answer is not a chat completion"), id="other JSON"),
        pytest.param(Response(200), (False, "the answer is not a chat completion"), id="a page of HTML"),
    ],
)
def test_a_chat_completion(response: Response, verdict: tuple[bool, str]) -> None:
    assert said(judge_completion(response)) == (*verdict, False)


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_request_that_the_server_will_never_take_ends_the_wait(status: int) -> None:
    reason = {"error": {"message": "no chat template"}}
    assert said(judge_completion(Response(status, reason))) == (False, f"HTTP {status}: no chat template", True)
    assert judge_health(Response(status)).final is False


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("!!!!", True),
        ("!!!", False),
        ("! ! ! !\n!", True),
        ("multmultmultmult", True),
        ("multmultmult", False),
        ("the the the the", True),
        ("abcdabcdabcdabcd", True),
        ("0000000000000000", True),
        ("\u2581\u2581\u2581\u2581", True),
        ("Hello there.", False),
        ("Ha! Ha! Ha! That is funny.", False),
        ("!!!!a", False),
        ("yes", False),
        ("x" * 24 * 4, True),
        ("", False),
    ],
)
def test_one_token_over_and_over(text: str, repeated: bool) -> None:
    assert is_repeated(text) is repeated


# --- the process ----------------------------------------------------------------------------------------------------


def state(running: bool, exit_status: int | None = None, **said: t.Any) -> ProcessState:
    return ProcessState(running, exit_status, name="Container c", **said)


UP = state(True, started_at="1")


@pytest.mark.parametrize(
    ("first", "now", "sentence"),
    [
        pytest.param(UP, UP, None, id="runs"),
        pytest.param(UP, replace(UP, age=99.0), None, id="runs for longer"),
        pytest.param(
            UP,
            state(False, 1, started_at="1"),
            "Container c exited with status 1, 7 s after the wait began, before it was healthy.",
            id="exited",
        ),
        pytest.param(
            UP,
            state(False, 0, started_at="1"),
            "Container c exited with status 0, 7 s after the wait began, before it was healthy.",
            id="exited with status 0, as vLLM does",
        ),
        pytest.param(
            UP,
            state(False, None, started_at="1"),
            "Container c exited, 7 s after the wait began, before it was healthy.",
            id="exited, nobody knows how",
        ),
        pytest.param(
            UP,
            replace(UP, started_at="2"),
            "Container c exited and was started again by its restart policy, 7 s after the wait began, before it was "
            "healthy.",
            id="restarted between two looks",
        ),
        pytest.param(
            UP,
            replace(UP, restarts=1),
            "Container c exited and was started again by its restart policy, 7 s after the wait began, before it was "
            "healthy.",
            id="restarted, by the count",
        ),
        pytest.param(
            UP,
            state(False, 139, started_at="1", restarts=1),
            "Container c exited with status 139 and was started again by its restart policy, 7 s after the wait began, "
            "before it was healthy.",
            id="between two restarts",
        ),
        pytest.param(
            state(False, 2, started_at="1"),
            state(False, 2, started_at="1"),
            "Container c had exited with status 2 before the wait began.",
            id="never ran",
        ),
    ],
)
def test_a_process_that_is_gone_is_told(first: ProcessState, now: ProcessState, sentence: str | None) -> None:
    assert exit_sentence(first, now, 7.2) == sentence


def test_of_a_process_that_nobody_sees_nobody_knows_that_it_is_gone() -> None:
    assert exit_sentence(ProcessState(), ProcessState(), 7.2) is None


# --- time -----------------------------------------------------------------------------------------------------------


@dataclass
class Time:
    """A clock that only sleeping and asking moves."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 3))
        self.now += seconds


def test_the_clock_asks_at_once_then_in_growing_capped_steps_and_once_more_at_the_end() -> None:
    time = Time()
    asked = [round(elapsed, 3) for elapsed in clock(1.0, 0.1, 0.25, time.monotonic, time.sleep)]
    assert asked == [0.0, 0.1, 0.25, 0.475, 0.725, 0.975, 1.0]


def test_the_clock_asks_once_without_time() -> None:
    time = Time()
    assert list(clock(0, 0.1, 0.25, time.monotonic, time.sleep)) == [0.0]
    assert time.slept == []


@dataclass
class World:
    """A server that changes while one waits: what it answers, and when its process ends, by the second."""

    time: Time = field(default_factory=Time)
    # Name of the check to (from second, verdict), the last one that has begun counts.
    answers: dict[str, list[tuple[float, Verdict]]] = field(default_factory=dict)
    processes: list[tuple[float, ProcessState]] = field(default_factory=lambda: [(0.0, UP)])
    asking_takes: float = 0.0
    asked: list[str] = field(default_factory=list)

    def _at(self, series: t.Sequence[tuple[float, t.Any]]) -> t.Any:
        elapsed = self.time.now - 1000.0
        return [what for since, what in series if since <= elapsed + 1e-9][-1]

    def ask(self, check: str) -> Verdict:
        self.asked.append(check)
        self.time.now += self.asking_takes
        return t.cast(Verdict, self._at(self.answers.get(check, [(0.0, Verdict(True, "fine"))])))

    def wait(
        self, timeout: float = 60.0, stable_for: float = 0.25, checks: t.Sequence[str] = ("health", "models")
    ) -> Report:
        process: t.Callable[[], ProcessState] = lambda: t.cast(ProcessState, self._at(self.processes))  # noqa: E731
        return Wait(
            checks, self.ask, process, timeout, stable_for, monotonic=self.time.monotonic, sleep=self.time.sleep
        ).run()


NOT_YET = Verdict(False, "refused")
FINE = Verdict(True, "fine")


def test_a_server_that_answers_is_believed_after_it_has_answered_twice() -> None:
    world = World()
    report = world.wait()
    assert (report.healthy, report.phase, report.attempts, report.failure) == (True, "ready", 1, "")
    assert world.asked == ["health", "models", "health", "models"]
    assert world.time.slept == [0.25]


def test_a_server_can_be_asked_once() -> None:
    world = World()
    wait = Wait(("health", "models"), world.ask, ProcessState, 0, 9.0, once=True, sleep=world.time.sleep)
    assert wait.run().healthy
    assert (world.asked, world.time.slept) == (["health", "models"], [])


def test_a_server_that_has_been_up_for_long_is_believed_at_once() -> None:
    world = World(processes=[(0.0, replace(UP, age=61.0))])
    assert world.wait().healthy
    assert (world.asked, world.time.slept) == (["health", "models"], [])


def test_readiness_is_noticed_within_a_quarter_of_a_second() -> None:
    world = World(answers={"health": [(0.0, NOT_YET), (300.0, FINE)]})
    report = world.wait(timeout=600)
    assert report.healthy
    assert 300.0 <= report.elapsed <= 300.25


def test_later_checks_are_not_asked_while_an_earlier_one_fails() -> None:
    world = World(answers={"health": [(0.0, NOT_YET)]})
    report = world.wait(timeout=1)
    assert set(world.asked) == {"health"}
    assert [check.name for check in report.checks] == ["health"]


def test_the_end_of_the_time_is_told_with_what_was_seen_last() -> None:
    world = World(
        answers={"models": [(0.0, Verdict(False, "first")), (0.9, Verdict(False, "the list of models is empty"))]}
    )
    report = world.wait(timeout=1)
    assert (report.healthy, report.exited, report.phase) == (False, False, "waiting for models")
    assert report.failure == "not healthy within 1 s"
    assert [check.to_dict() for check in report.checks] == [
        {"name": "health", "ok": True, "detail": "fine", "seconds": 0.0},
        {"name": "models", "ok": False, "detail": "the list of models is empty", "seconds": 0.0},
    ]
    assert report.elapsed == pytest.approx(1.0)


def test_an_exit_is_noticed_within_one_step_of_the_clock() -> None:
    gone = state(False, 1, started_at="1")
    world = World(answers={"health": [(0.0, NOT_YET)]}, processes=[(0.0, UP), (42.0, gone)])
    report = world.wait()
    assert (report.healthy, report.exited, report.phase) == (False, True, "exited")
    assert report.failure == "Container c exited with status 1, 42 s after the wait began, before it was healthy."
    assert 42.0 <= report.elapsed <= 42.25


def test_a_process_that_is_gone_from_the_beginning_is_not_asked() -> None:
    world = World(processes=[(0.0, state(False, 1, started_at="1"))])
    report = world.wait()
    assert (report.exited, report.elapsed, report.checks) == (True, 0.0, ())
    assert world.asked == []


def test_an_answer_of_somebody_else_does_not_hide_an_exit() -> None:
    """Another program answers on the port, all checks pass, and the server's own container dies."""
    world = World(processes=[(0.0, UP), (0.1, state(False, 1, started_at="1"))])
    assert world.wait().exited


def test_a_server_that_exits_while_its_answer_settles_is_not_healthy() -> None:
    gone = state(False, 0, started_at="1")
    report = World(processes=[(0.0, UP), (0.2, gone)]).wait()
    assert (report.healthy, report.exited) == (False, True)


def test_a_server_that_answers_once_and_then_fails_is_not_believed() -> None:
    flapping = [(0.0, FINE), (0.2, NOT_YET), (5.0, FINE)]
    world = World(answers={"models": flapping})
    report = world.wait()
    assert report.healthy
    assert report.elapsed >= 5.0


def test_a_server_that_only_ever_answers_once_is_not_healthy() -> None:
    world = World(answers={"models": [(0.0, FINE), (0.2, NOT_YET)]})
    report = world.wait(timeout=2)
    assert (report.healthy, report.phase) == (False, "waiting for models")


def test_a_fault_that_asking_again_does_not_cure_ends_the_wait() -> None:
    refused = Verdict(False, "HTTP 401: the server rejected the API key", final=True)
    world = World(answers={"models": [(0.0, NOT_YET), (3.0, refused)]})
    report = world.wait(timeout=1800)
    assert (report.healthy, report.exited, report.failure) == (False, False, refused.detail)
    assert report.elapsed < 4.0


def test_such_a_fault_counts_in_the_second_round_too() -> None:
    refused = Verdict(False, "another server", final=True)
    report = World(answers={"models": [(0.0, FINE), (0.2, refused)]}).wait(timeout=1800)
    assert (report.healthy, report.failure) == (False, "another server")
    assert report.elapsed < 1.0


def test_without_time_there_is_one_attempt() -> None:
    world = World(answers={"health": [(0.0, NOT_YET)]})
    report = world.wait(timeout=0)
    assert (report.attempts, report.failure) == (1, "not healthy within 0 s")
    assert World().wait(timeout=0).healthy


def test_a_server_that_nobody_watches_is_asked_all_the_same() -> None:
    assert World(processes=[(0.0, ProcessState())]).wait().healthy


def test_what_the_asking_took_is_told() -> None:
    report = World(asking_takes=2.0).wait()
    assert [check.seconds for check in report.checks] == [2.0, 2.0]


def test_only_the_checks_that_were_named_are_asked() -> None:
    world = World()
    world.wait(checks=("completion",))
    assert set(world.asked) == {"completion"}
