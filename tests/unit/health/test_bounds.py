# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers that mean no good: answers without an end, too large, too deep; a wait is bounded in time and in size."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import select
import socketserver
import threading
import time
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._health import session as health_session
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.session import run
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.wait import (
    Response,
    Verdict,
    Wait,
    judge_completion,
    judge_health,
    judge_models,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from api_server import params

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Dripping(socketserver.BaseRequestHandler):
    """Sends a piece each tenth of a second, without an end."""

    first: t.ClassVar[bytes] = HEAD
    piece: t.ClassVar[bytes] = b"X-A: b\r\n"

    over: t.ClassVar[threading.Event] = threading.Event()

    def handle(self) -> None:
        self.request.recv(65536)
        with contextlib.suppress(OSError):
            self.request.sendall(self.first)
            while not self.over.wait(0.1) and not self.is_left():
                self.request.sendall(self.piece)

    def is_left(self) -> bool:
        """Whether nobody reads any more."""
        return bool(select.select([self.request], [], [], 0)[0])


class Once(Dripping):
    """Sends one answer, and keeps what it was asked."""

    answer: t.ClassVar[bytes] = b""
    asked: t.ClassVar[list[bytes]] = []

    def handle(self) -> None:
        self.asked.append(self.request.recv(65536))
        with contextlib.suppress(OSError):
            self.request.sendall(self.answer)


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False


@pytest.fixture(scope="module")
def servers() -> t.Iterator[dict[type, str]]:
    Dripping.over.clear()
    made = {kind: Server(("127.0.0.1", 0), kind) for kind in (Dripping, Once)}
    for server in made.values():
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield {kind: f"http://127.0.0.1:{server.server_address[1]}" for kind, server in made.items()}
    Dripping.over.set()
    for server in made.values():
        server.shutdown()
        server.server_close()


class Container:
    """A source whose process runs and writes nothing."""

    name = "c"

    def state(self) -> ProcessState:
        return ProcessState(running=True)

    def tail(self) -> str:
        return ""

    news = tail

    def root_pid(self) -> int | None:
        return None

    def about(self) -> dict[str, t.Any]:
        return {"spec": None, "secrets": []}

    def versions(self) -> dict[str, str]:
        return {}


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", [None, Container()], ids=["an address", "a container"])
@pytest.mark.parametrize(
    ("first", "piece"),
    [(HEAD, b"X-A: b\r\n"), (HEAD + b"Content-Length: 900000\r\n\r\n", b" "), (b"", b"")],
    ids=["headers", "a body", "silence"],
)
def test_the_time_is_up_during_a_request_too(
    first: bytes, piece: bytes, source: t.Any, servers: dict[type, str]
) -> None:
    Dripping.first, Dripping.piece = first, piece
    began = time.monotonic()
    result = run(params(servers[Dripping], timeout=1, request_timeout=60), source)
    assert time.monotonic() - began < 30
    assert (result["finished"], result["diagnosis"]["id"]) == (True, "timeout")
    assert result["checks"][0]["detail"] == "no answer in time"


@pytest.mark.parametrize("source", [None, Container()], ids=["an address", "a container"])
def test_a_slice_ends_during_a_request_too_and_the_next_is_longer(source: t.Any, servers: dict[type, str]) -> None:
    Dripping.first, Dripping.piece = b"", b""
    resume: dict[str, t.Any] = {}
    for longer in (1, 2, 4):
        began = time.monotonic()
        said = params(servers[Dripping], timeout=60, request_timeout=60, slice=0.3, resume=resume)
        result = run(said, source)
        took = time.monotonic() - began
        assert not result["finished"]
        assert 0.3 * longer <= took < 30
        resume = json.loads(json.dumps(result["resume"]))
    assert resume["cuts"] == 3


def test_a_request_is_given_up_when_nobody_waits_for_its_answer(
    servers: dict[type, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Dripping.first, Dripping.piece = b"", b""
    monkeypatch.setattr(health_session, "reader_is_gone", lambda: True)
    began = time.monotonic()
    assert not run(params(servers[Dripping], timeout=60, request_timeout=60), Container())["finished"]
    assert time.monotonic() - began < 30


# --- size -------------------------------------------------------------------------------------------------------------


def answer(body: bytes, *fields: str) -> bytes:
    return HEAD + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n" + body


TOO_LARGE = "the answer is larger than 1048576 bytes"
ODD_ANSWERS = [
    pytest.param(answer(b" " * 3000000), TOO_LARGE, id="a large body"),
    pytest.param(answer(b"", "Content-Length: 400000000"), TOO_LARGE, id="a large promise"),
    pytest.param(answer(b"200000\r\n" + b" " * 0x200000, "Transfer-Encoding: chunked"), TOO_LARGE, id="a large chunk"),
    pytest.param(answer(b"[" * 200000), "the answer is not a list of models", id="lists in lists"),
    pytest.param(answer(b'{"a":' * 100000), "the answer is not a list of models", id="objects in objects"),
    pytest.param(answer(b"9" * 1000000), "the answer is not a list of models", id="a long number"),
    pytest.param(
        answer(gzip.compress(b'{"data": [{"id": "gpt"}]}'), "Content-Encoding: gzip"),
        "the answer is not a list of models",
        id="compressed, unasked",
    ),
    pytest.param(
        answer(b'{"data": [{"id": ' + b"[" * 900 + b"]" * 900 + b"}]}"), "the list of models is empty", id="a deep name"
    ),
]


@pytest.mark.parametrize(("sent", "detail"), ODD_ANSWERS)
def test_an_answer_is_bounded(sent: bytes, detail: str, servers: dict[type, str]) -> None:
    Once.answer = sent
    Once.asked.clear()
    began = time.process_time()
    result = run(params(servers[Once], checks=["models"]))
    assert (result["healthy"], result["checks"][0]["detail"]) == (False, detail)
    assert time.process_time() - began < 2
    assert b"\r\nAccept-Encoding: identity\r\n" in Once.asked[0]


def test_of_many_models_some_are_named() -> None:
    many = Response(200, {"data": [{"id": f"m{number}"} for number in range(100000)]})
    assert judge_models(many, "m99999").detail == "serves m0, m1, m2 and 99997 more"
    assert judge_models(many, "gpt").detail == (
        "serves m0, m1, m2 and 99997 more, not gpt: another server answers on this port"
    )
    assert len(judge_models(Response(200, {"data": [{"id": "x" * 1000000}]}), None).detail) < 200


ESCAPES = "\x1b]52;c;aGk=\x07 \x1b[2J \x9b31m \u202e \x08"


@pytest.mark.parametrize(
    "detail",
    [
        judge_models(Response(200, {"data": [{"id": f"gpt{ESCAPES}"}]}), "gpt").detail,
        judge_health(Response(503, {"error": ESCAPES})).detail,
        judge_completion(Response(200, {"choices": [{"message": {"content": f"Hello {ESCAPES}"}}]})).detail,
    ],
    ids=["a name", "a reason", "an answer"],
)
def test_nothing_that_a_terminal_would_obey_is_shown(detail: str) -> None:
    assert detail.isprintable()


def test_a_reason_that_is_no_text_is_none() -> None:
    deep: t.Any = []
    for _level in range(100000):
        deep = [deep]
    try:
        assert judge_health(Response(503, {"error": {"message": deep}})).detail == "HTTP 503"
    finally:
        while deep:
            deep = deep.pop()


def test_an_answer_without_an_end_is_judged_by_its_beginning() -> None:
    began = time.process_time()
    long = Response(200, {"choices": [{"message": {"content": "ab" * 5000000}}]})
    assert "one token repeated" in judge_completion(long).detail
    assert time.process_time() - began < 1


# --- what a wait remembers --------------------------------------------------------------------------------------------


class World:
    """Time passes when somebody sleeps; the server answers by the second."""

    def __init__(self, answers: t.Callable[[float], Verdict]) -> None:
        self.now, self.answers = 0.0, answers
        self.process = ProcessState(running=True, started_at="a", name="Container c")

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def wait(self, **said: t.Any) -> Wait:
        return Wait(
            ["completion"],
            lambda _check: self.answers(self.now),
            lambda: self.process,
            600,
            0,
            monotonic=lambda: self.now,
            sleep=self.sleep,
            **said,
        )


BAD, SILENT, GOOD = Verdict(False, "bad", kind="request-failed"), Verdict(False, "no answer"), Verdict(True, "hello")


def test_bad_answers_count_only_in_a_row() -> None:
    world = World(lambda now: GOOD if now >= 40 else BAD if now < 0.2 or 30 <= now < 30.5 else SILENT)
    assert world.wait().run().healthy


def test_a_bad_answer_is_remembered_from_one_slice_to_the_next() -> None:
    world = World(lambda now: BAD)
    bad_since = None
    for _slice in range(4):
        ends = world.now + 5
        wait = world.wait(began=0.0, bad_since=bad_since, pause=lambda ends=ends: world.now >= ends)
        report = wait.run()
        bad_since = wait.bad_since
    assert (report.finished, report.failure) == (True, "bad")


@pytest.mark.parametrize(
    "now",
    [{"started_at": "b"}, {"restarts": 1}, {"running": False, "exit_status": 1}],
    ids=["started", "again", "gone"],
)
def test_a_process_that_changed_between_two_slices_is_noticed(now: dict[str, t.Any]) -> None:
    world = World(lambda now: GOOD)
    before = world.process
    world.process = replace(before, **now)
    report = world.wait(first=before, began=0.0).run()
    assert (report.healthy, report.exited) == (False, True)


def test_an_exit_during_a_check_is_told_before_another_verdict() -> None:
    world = World(lambda now: Verdict(False, "another server", True, "port-in-use"))
    inner = world.answers

    def asked(now: float) -> Verdict:
        world.process = replace(world.process, running=False, exit_status=7)
        return inner(now)

    world.answers = asked
    report = world.wait().run()
    assert report.exited
    assert report.failure.startswith("Container c exited with status 7")


def test_nothing_is_left_open(servers: dict[type, str]) -> None:
    """A server that hangs up in the middle of it is one more reason for no answer."""
    Once.answer = HEAD
    before = len(os.listdir("/proc/self/fd"))
    for _time in range(5):
        assert run(params(servers[Once], checks=["health"]))["checks"][0]["detail"].startswith("the connection was")
    assert len(os.listdir("/proc/self/fd")) <= before + 2
