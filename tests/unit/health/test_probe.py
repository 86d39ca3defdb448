# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import json
import socket
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import docker.errors
import pytest
import requests.exceptions
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health import session, sources
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.session import Api, cause_sentence
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.sources import container_process
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.wait import CheckResult, Process, Report

NOW = datetime.datetime(2026, 11, 21, 8, 0, 30, tzinfo=datetime.timezone.utc)


def inspected(started: str = "2026-11-21T08:00:00.123456789Z", restarts: int = 0, **state: t.Any) -> dict[str, t.Any]:
    return {"State": {"StartedAt": started, **state}, "RestartCount": restarts}


STARTED = "2026-11-21T08:00:00.123456789Z"


@pytest.mark.parametrize(
    ("found", "process"),
    [
        pytest.param(
            inspected(Status="running", Running=True, ExitCode=0),
            Process(True, "Container c", None, STARTED, 0, 30.0),
            id="running",
        ),
        pytest.param(
            inspected("2026-11-20T08:00:30Z", Status="running", Running=True),
            Process(True, "Container c", None, "2026-11-20T08:00:30Z", 0, 86400.0),
            id="running since yesterday",
        ),
        pytest.param(
            inspected("2026-11-21T08:00:31Z", Running=True),
            Process(True, "Container c", None, "2026-11-21T08:00:31Z", 0, 0.0),
            id="running, by a clock that is behind",
        ),
        pytest.param(
            inspected(Status="exited", Running=False, ExitCode=1),
            Process(False, "Container c", 1, STARTED),
            id="exited",
        ),
        pytest.param(
            inspected(Status="restarting", Running=True, Restarting=True, ExitCode=2, restarts=3),
            Process(False, "Container c", 2, STARTED, 3),
            id="waiting for its restart",
        ),
        pytest.param(
            inspected("0001-01-01T00:00:00Z", Status="created", Running=False, ExitCode=0),
            Process(False, "Container c", 0, "0001-01-01T00:00:00Z"),
            id="created",
        ),
        pytest.param(
            inspected(Status="paused", Running=True, Paused=True),
            Process(True, "Container c", None, STARTED, 0, 30.0),
            id="paused",
        ),
        pytest.param(inspected("", Running=True), Process(True, "Container c"), id="running since nobody knows when"),
    ],
)
def test_a_container_as_a_process(found: dict[str, t.Any], process: Process) -> None:
    assert container_process("c", found, NOW) == process


def report(failure: str, *checks: CheckResult, attempts: int = 7, exited: bool = False) -> Report:
    return Report(False, checks, "", 1.0, attempts, failure, exited)


FINE = CheckResult("health", True, "HTTP 200", 0.1)
BAD = CheckResult("models", False, "the list of models is empty", 0.1)


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        pytest.param(
            report("no sane answer within 60 s", FINE, BAD),
            "The server at http://h is not healthy: no sane answer within 60 s. Last seen, in 7 attempts: models: the "
            "list of models is empty.",
            id="the time is up",
        ),
        pytest.param(
            report("the list of models is empty", FINE, BAD, attempts=1),
            "The server at http://h is not healthy. Last seen, in 1 attempt: models: the list of models is empty.",
            id="given up at once",
        ),
        pytest.param(
            report("no sane answer within 60 s", FINE),
            "The server at http://h is not healthy: no sane answer within 60 s.",
            id="nothing failed in the last round",
        ),
        pytest.param(
            report("Container c exited with status 1.", BAD, exited=True),
            "Container c exited with status 1.",
            id="exited",
        ),
    ],
)
def test_the_cause_is_a_sentence(seen: Report, sentence: str) -> None:
    assert cause_sentence(seen, "http://h") == sentence


# --- asking ---------------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """What a test tells it to answer, by path; what it was asked is kept."""

    protocol_version = "HTTP/1.1"
    answers: t.ClassVar[dict[str, tuple[int, t.Any]]] = {}
    asked: t.ClassVar[list[tuple[str, str, t.Any]]] = []
    headers_seen: t.ClassVar[list[str | None]] = []

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = json.loads(self.rfile.read(length)) if length else None
        self.asked.append((self.command, self.path, content))
        self.headers_seen.append(self.headers.get("Authorization"))
        status, body = self.answers.get(self.path, (404, {}))
        if body == "hang":
            time.sleep(1.2)
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/health")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = _answer

    def log_message(self, *_arguments: t.Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """A client that gave up is no error of this server."""


@pytest.fixture(scope="module")
def address() -> t.Iterator[str]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


SANE: dict[str, tuple[int, t.Any]] = {
    "/health": (200, None),
    "/v1/models": (200, {"data": [{"id": "gpt"}]}),
    "/v1/chat/completions": (200, {"choices": [{"message": {"content": None, "reasoning": "We need to"}}]}),
}


@pytest.fixture(autouse=True)
def sane() -> None:
    Handler.answers = dict(SANE)
    Handler.asked.clear()
    Handler.headers_seen.clear()


def params(url: str, **said: t.Any) -> dict[str, t.Any]:
    defaults = {
        "url": url,
        "served_model_name": None,
        "api_key": None,
        "api_key_file": None,
        "timeout": 0,
        "request_timeout": 5,
        "stable_for": 0.0,
        "checks": ["health", "models", "completion"],
        "prompt": "Hello?",
        "max_tokens": 16,
        "container": None,
        "docker_host": None,
    }
    return {**defaults, **said}


@pytest.fixture
def api(address: str) -> t.Iterator[t.Callable[..., Api]]:
    made: list[Api] = []

    def make(**said: t.Any) -> Api:
        made.append(Api(params(**{"url": address, **said})))
        return made[-1]

    yield make
    for one in made:
        one.session.close()


Make = t.Callable[..., Api]


def test_a_sane_server_passes_every_check(api: Make) -> None:
    asking = api(served_model_name="gpt")
    assert [asking.ask(check).ok for check in ("health", "models", "completion")] == [True, True, True]
    assert Handler.asked == [
        ("GET", "/health", None),
        ("GET", "/v1/models", None),
        (
            "POST",
            "/v1/chat/completions",
            {
                "model": "gpt",
                "messages": [{"role": "user", "content": "Hello?"}],
                "max_tokens": 16,
                "temperature": 0,
            },
        ),
    ]


def test_the_first_model_listed_is_asked_when_none_is_named(api: Make) -> None:
    assert api().ask("completion").ok
    assert Handler.asked[-1][2]["model"] == "gpt"


def test_a_slash_at_the_end_of_the_address_does_not_matter(api: Make, address: str) -> None:
    assert api(url=f"{address}/").ask("health").ok
    assert Handler.asked == [("GET", "/health", None)]


@pytest.mark.parametrize(
    ("path", "check", "answer", "detail", "final"),
    [
        ("/health", "health", (503, None), "HTTP 503", False),
        ("/health", "health", (302, None), "HTTP 302", False),
        ("/v1/models", "models", (401, {"error": "Unauthorized"}), "HTTP 401: the server wants another API key", True),
        ("/v1/models", "models", (200, "<html>"), "the answer is no list of models", False),
        ("/v1/models", "models", (200, {"data": [{"id": "x"}]}), "serves x, not gpt: another server answers", True),
        ("/v1/chat/completions", "completion", (500, "oops"), "HTTP 500", False),
        (
            "/v1/chat/completions",
            "completion",
            (400, {"error": {"message": "no chat template"}}),
            "HTTP 400: no chat template",
            True,
        ),
    ],
)
def test_other_answers_fail_a_check(
    path: str, check: str, answer: tuple[int, t.Any], detail: str, final: bool, api: Make
) -> None:
    Handler.answers[path] = answer
    verdict = api(served_model_name="gpt").ask(check)
    assert (verdict.ok, verdict.final) == (False, final)
    assert verdict.detail.startswith(detail)


@pytest.mark.parametrize("source", ["api_key", "api_key_file"])
def test_the_key_is_sent(source: str, api: Make, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("CANARY\n")
    api(**{source: "CANARY" if source == "api_key" else str(tmp_path / "key")}).ask("health")
    assert Handler.headers_seen == ["Bearer CANARY"]


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_key_is_none(content: str, api: Make, tmp_path: Path) -> None:
    (tmp_path / "key").write_text(content)
    api(api_key_file=str(tmp_path / "key")).ask("health")
    assert Handler.headers_seen == [None]


@pytest.mark.parametrize("key", ["CANARY b", "CANARY\nb", "CANÄRY"])
def test_a_key_that_no_client_can_send_is_refused_and_not_repeated(key: str, api: Make) -> None:
    with pytest.raises(VllmError) as caught:
        api(api_key=key)
    assert str(caught.value).startswith("The API key holds a blank, a line end or a character outside ASCII")
    assert "CAN" not in str(caught.value)


def test_a_key_that_cannot_be_read_is_told(api: Make, tmp_path: Path) -> None:
    with pytest.raises(VllmError) as caught:
        api(api_key_file=f"{tmp_path}/none")
    assert str(caught.value).startswith(f"Cannot read the API key from {tmp_path}/none: [Errno 2] No such file")


@pytest.mark.parametrize("url", ["localhost:8000", "127.0.0.1", "ftp://h", "http://", ""])
def test_an_address_that_is_none_is_told(url: str, api: Make) -> None:
    with pytest.raises(VllmError, match="is not an address such as http://127.0.0.1:8000.$"):
        api(url=url)


def test_nothing_listens(api: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    verdict = api(url=f"http://127.0.0.1:{port}").ask("health")
    assert verdict.detail == "connection refused: nothing listens there yet"


def test_a_hung_server_is_not_waited_for_longer_than_a_request_may_take(api: Make) -> None:
    Handler.answers["/health"] = (200, "hang")
    began = time.monotonic()
    assert api(request_timeout=0.2).ask("health").detail == "no answer in time"
    assert time.monotonic() - began < 1


def test_a_request_does_not_outlast_the_wait(api: Make) -> None:
    assert api(timeout=3, request_timeout=120).patience == 3
    assert api(timeout=300, request_timeout=120).patience == 120
    assert api(timeout=0, request_timeout=120).patience == 120


def test_a_connection_that_is_closed_at_once_is_a_server_that_is_not_there_yet(api: Make) -> None:
    """What the proxy of Docker does as long as nothing listens in the container."""

    def hang_up(server: socket.socket) -> None:
        server.accept()[0].close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=hang_up, args=(server,))
        thread.start()
        verdict = api(url=f"http://127.0.0.1:{server.getsockname()[1]}").ask("health")
        thread.join()
    assert verdict.detail == "the connection was closed without an answer: nothing listens behind the port yet"


def test_a_proxy_from_the_environment_is_not_asked(api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert api().ask("health").ok


def test_a_certificate_that_is_not_trusted_ends_the_wait(api: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "HTTPSConnectionPool(host='h', port=443): Max retries exceeded with url: /health (Caused by SSLError("
        "SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed "
        "certificate (_ssl.c:1006)')))"
    )
    asking = api()

    def fail(*_arguments: t.Any, **_said: t.Any) -> t.NoReturn:
        raise requests.exceptions.SSLError(text)

    monkeypatch.setattr(asking.session, "request", fail)
    verdict = asking.ask("health")
    assert (verdict.detail, verdict.final) == ("TLS: certificate verify failed: self-signed certificate", True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "HTTPConnectionPool(host='nope', port=80): Max retries exceeded with url: /health (Caused by "
            "NewConnectionError('<urllib3.connection.HTTPConnection object at 0x7f>: Failed to establish a new "
            "connection: [Errno -2] Name or service not known'))",
            "[Errno -2] Name or service not known",
        ),
        (
            "HTTPConnectionPool(host='10.0.0.1', port=80): Max retries exceeded with url: /health (Caused by "
            "NewConnectionError('<urllib3.connection.HTTPConnection object at 0x7f>: Failed to establish a new "
            "connection: [Errno 113] No route to host'))",
            "[Errno 113] No route to host",
        ),
        ("('Connection aborted.', ConnectionResetError(104, 'Connection reset by peer'))", "the connection was closed"),
        ("something odd", "something odd"),
    ],
)
def test_why_a_request_failed(text: str, why: str) -> None:
    assert session._why(requests.exceptions.ConnectionError(text)).startswith(why)


# --- the module as a whole, without Ansible -------------------------------------------------------------------------


class Docker:
    """A container that runs for some looks, then has exited."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def inspect_container(self, name: str) -> dict[str, t.Any]:
        if name != "vllm-a":
            raise docker.errors.NotFound("x", explanation=f"No such container: {name}")
        self.looks -= 1
        return {**inspected(Running=self.looks >= 0, ExitCode=3), "Config": {}}

    def logs(self, name: str, **_said: t.Any) -> bytes:
        stamp = b"2026-11-21T08:00:01.123456789Z "
        return stamp + b"first\n" + stamp + b"\n" + stamp + b"  RuntimeError: \xff out of memory \n"


def test_a_healthy_server_is_reported(address: str) -> None:
    result = session.run(params(address, served_model_name="gpt"))
    assert (result["changed"], result["healthy"], result["phase"], result["diagnosis"]) == (False, True, "ready", None)
    assert [(check["name"], check["ok"], check["detail"]) for check in result["checks"]] == [
        ("health", True, "HTTP 200"),
        ("models", True, "serves gpt"),
        ("completion", True, "We need to"),
    ]
    assert "msg" not in result


def test_a_container_that_exits_ends_the_wait_with_its_status_and_log(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Handler.answers["/health"] = (503, None)
    monkeypatch.setattr(sources, "connect", lambda docker_host: Docker(looks=3))
    began = time.monotonic()
    result = session.run(params(address, container="vllm-a", timeout=1800))
    assert time.monotonic() - began < 2
    assert (result["healthy"], result["phase"]) == (False, "exited")
    assert result["msg"].startswith(
        "Container vllm-a exited with status 3, 0 s after the wait began, before it was healthy."
    )
    assert result["msg"].endswith("\n  first\n    RuntimeError: \ufffd out of memory")
    diagnosis = result["diagnosis"]
    assert (diagnosis["id"], diagnosis["retryable"], diagnosis["symptoms"]) == ("unknown", None, [])
    assert diagnosis["cause"] == result["msg"].split(" Read the")[0]
    assert diagnosis["evidence"] == "RuntimeError: \ufffd out of memory"
    assert result["log"] == ["first", "  RuntimeError: \ufffd out of memory"]


def test_the_end_of_the_time_is_reported_with_the_log(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Handler.answers["/health"] = (503, None)
    monkeypatch.setattr(sources, "connect", lambda docker_host: Docker(looks=1000))
    result = session.run(params(address, container="vllm-a"))
    assert result["phase"] == "waiting for health"
    assert result["msg"].startswith(
        f"The server at {address} is not healthy: no sane answer within 0 s. Last seen, in 1 attempt: health: HTTP "
        "503. Look at the server's log"
    )


def test_a_container_that_does_not_exist_is_told(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "connect", lambda docker_host: Docker(looks=1))
    with pytest.raises(VllmError, match="^Cannot look at container vllm-b. Docker says: No such container: vllm-b."):
        session.run(params(address, container="vllm-b"))


def test_a_log_that_cannot_be_read_is_told_in_its_place(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Docker):
        def logs(self, name: str, **_said: t.Any) -> bytes:
            raise docker.errors.APIError("x", explanation="configured logging driver does not support reading")

    monkeypatch.setattr(sources, "connect", lambda docker_host: Silent(looks=0))
    result = session.run(params(address, container="vllm-a"))
    assert result["log"] == [
        "Cannot read the log of vllm-a. Docker says: configured logging driver does not support reading."
    ]


def test_without_requests_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "REQUESTS_IMPORT_ERROR", "No module named 'requests'")
    with pytest.raises(VllmError, match=r"\(No module named 'requests'\). Install python3-requests"):
        session.run(params("http://h"))
