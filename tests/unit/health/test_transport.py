# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways to a server: an API key, TLS with a private authority, a Unix socket; and module runs from end to end."""

from __future__ import annotations

import json
import socket
import socketserver
import ssl
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from vllm_logs import captured

KEY = "canary8451abc"


class Handler(BaseHTTPRequestHandler):
    """A server that guards /v1 with a key, as vLLM does, and answers one question."""

    protocol_version = "HTTP/1.1"
    key: t.ClassVar[str] = ""
    answer: t.ClassVar[str] = "The capital is Paris."
    asked: t.ClassVar[list[t.Any]] = []

    def do_GET(self) -> None:
        if self.path == "/health":
            self.send(200, None)
        elif self.allowed():
            self.send(200, {"data": [{"id": "served-name", "root": "/models/other-name"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        if not self.allowed():
            return
        if body["model"] != "served-name":
            self.send(404, {"error": {"message": f"The model `{body['model']}` does not exist."}})
        else:
            self.send(200, {"choices": [{"message": {"content": self.answer}}]})

    def allowed(self) -> bool:
        if self.key and self.headers.get("Authorization") != f"Bearer {self.key}":
            self.send(401, {"error": "Unauthorized"})
            return False
        return True

    def send(self, status: int, body: t.Any) -> None:
        raw = json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_arguments: t.Any) -> None:
        pass


class TlsServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """A client that does not trust the certificate hangs up."""


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        request, _address = super().get_request()
        return request, ("unix", 0)


def serving(server: socketserver.BaseServer) -> t.Iterator[None]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def _plain() -> t.Iterator[None]:
    Handler.key, Handler.answer = "", "The capital is Paris."
    Handler.asked.clear()
    yield


@pytest.fixture(scope="module")
def https(certificates: Path) -> t.Iterator[str]:
    server = TlsServer(("127.0.0.1", 0), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    for _turn in serving(server):
        yield f"https://127.0.0.1:{server.server_address[1]}"


@pytest.fixture
def uds(tmp_path: Path) -> t.Iterator[str]:
    path = str(tmp_path / "api.sock")
    for _turn in serving(UnixServer(path, Handler)):
        yield path


Run = t.Callable[..., t.Any]
NOW = {"timeout": 0, "stable_for": 0}


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_a_private_authority_is_trusted_when_it_is_named(https: str, certificates: Path, run_module: Run) -> None:
    result = run_module("vllm_health", {**NOW, "url": https, "ca_path": str(certificates / "ca.pem")}).result
    assert result["healthy"]


def test_a_private_authority_is_not_trusted_by_itself(https: str, run_module: Run) -> None:
    began = time.monotonic()
    run = run_module("vllm_health", {"url": https, "timeout": 60})
    assert run.status == 1
    assert "TLS: certificate verify failed" in run.result["msg"]
    # Asking again would not help.
    assert time.monotonic() - began < 5


def test_a_certificate_can_be_taken_as_it_is(https: str, run_module: Run, recwarn: pytest.WarningsRecorder) -> None:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert run_module("vllm_health", {**NOW, "url": https, "validate_certs": False}).result["healthy"]


# --- a Unix socket ---------------------------------------------------------------------------------------------------


def test_a_unix_socket_is_asked(uds: str, run_module: Run) -> None:
    result = run_module("vllm_health", {**NOW, "uds": uds, "served_model_name": "served-name"}).result
    assert [(check["name"], check["ok"]) for check in result["checks"]] == [
        ("health", True),
        ("models", True),
        ("completion", True),
    ]


def test_a_unix_socket_with_a_certificate(certificates: Path, tmp_path: Path, run_module: Run) -> None:
    """As a server with uds and ssl_certfile is asked, by what its record says of the way to it."""
    server = UnixServer(str(tmp_path / "tls.sock"), Handler)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    server.socket = tls.wrap_socket(server.socket, server_side=True)
    asked = {**NOW, "url": "https://127.0.0.1:8000", "uds": str(tmp_path / "tls.sock")}
    for _turn in serving(server):
        assert run_module("vllm_health", {**asked, "validate_certs": False}).result["healthy"]
        plain = run_module("vllm_health", {**asked, "url": "http://127.0.0.1:8000", "timeout": 0}).result
        assert not plain["healthy"]


def test_a_unix_socket_that_is_not_there_yet(tmp_path: Path, run_module: Run) -> None:
    run = run_module("vllm_health", {**NOW, "uds": str(tmp_path / "none.sock")})
    assert run.status == 1
    assert run.result["checks"][0]["detail"] == "there is no such socket yet"


def test_a_unix_socket_may_be_slow(tmp_path: Path, run_module: Run) -> None:
    path = str(tmp_path / "slow.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        run = run_module("vllm_health", {**NOW, "uds": path, "request_timeout": 1})
    assert run.result["checks"][0]["detail"] == "no answer in time"


def test_the_key_goes_through_the_socket_too(uds: str, run_module: Run, tmp_path: Path) -> None:
    Handler.key = KEY
    (tmp_path / "key").write_text(f"{KEY}\n")
    assert run_module("vllm_health", {**NOW, "uds": uds, "api_key_file": str(tmp_path / "key")}).result["healthy"]


# --- key, names, answers ---------------------------------------------------------------------------------------------


@pytest.fixture
def address() -> t.Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    for _turn in serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


def test_a_wrong_key_ends_the_wait_with_a_remedy_and_is_not_repeated(address: str, run_module: Run) -> None:
    Handler.key = KEY
    run = run_module("vllm_health", {"url": address, "api_key": "canary-wrong", "timeout": 60})
    diagnosis = run.result["diagnosis"]
    assert (run.status, diagnosis["id"], run.result["reason"]) == (1, "api-key-refused", "api-key-refused")
    assert "Give api_key_file" in diagnosis["remedy"]
    assert "canary-wrong" not in json.dumps({key: value for key, value in run.result.items() if key != "invocation"})


def test_a_name_that_is_not_the_model_s(address: str, run_module: Run) -> None:
    assert run_module("vllm_health", {**NOW, "url": address, "served_model_name": "served-name"}).result["healthy"]
    assert Handler.asked[-1]["model"] == "served-name"
    assert run_module("vllm_health", {**NOW, "url": address}).result["healthy"]
    assert Handler.asked[-1]["model"] == "served-name"


def test_another_server_on_the_port(address: str, run_module: Run) -> None:
    run = run_module("vllm_health", {"url": address, "served_model_name": "gpt-oss-120b", "timeout": 60})
    assert (run.status, run.result["diagnosis"]["id"]) == (1, "port-in-use")
    assert "serves served-name, not gpt-oss-120b" in run.result["msg"]
    assert "give this one another port" in run.result["msg"]


def test_a_request_that_is_refused_for_good(address: str, run_module: Run) -> None:
    arguments = {"url": address, "served_model_name": "x", "checks": ["health", "completion"], "timeout": 60}
    run = run_module("vllm_health", arguments)
    assert (run.status, run.result["diagnosis"]["id"]) == (1, "request-refused")
    assert "The model `x` does not exist." in run.result["msg"]


@pytest.mark.parametrize(("expected", "healthy"), [("paris", True), (r"\bparis\b|london", True), ("berlin", False)])
def test_a_known_answer(expected: str, healthy: bool, address: str, run_module: Run) -> None:
    arguments = {**NOW, "url": address, "prompt": "What is the capital of France?", "expected_answer": expected}
    result = run_module("vllm_health", arguments).result
    assert result["healthy"] is healthy
    assert Handler.asked[0]["messages"][0]["content"] == "What is the capital of France?"
    if not healthy:
        assert result["diagnosis"]["id"] == "bad-answer"
        assert "the answer does not hold 'berlin': 'The capital is Paris.'" in result["msg"]


def test_a_bad_answer_that_stays_is_given_up() -> None:
    """Unlike one that is slow: only nonsense and errors do not get better."""
    from ansible_collections.gpufleet.vllm.plugins.module_utils._health.wait import Verdict, Wait
    from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState

    def given_up_after(kind: str) -> float:
        now = [0.0]
        bad = Verdict(False, "bad", kind=kind)
        sleep: t.Callable[[float], None] = lambda seconds: now.__setitem__(0, now[0] + seconds)  # noqa: E731
        wait = Wait(["completion"], lambda check: bad, ProcessState, 600, 0, monotonic=lambda: now[0], sleep=sleep)
        return wait.run().elapsed

    assert given_up_after("bad-answer") == pytest.approx(15, abs=0.5)
    assert given_up_after("request-failed") == pytest.approx(15, abs=0.5)
    assert given_up_after("") == pytest.approx(600, abs=0.5)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [({}, 1800), ({"timeout": 60}, 60), ({"timeout": 0}, 0), ({"expected_seconds": 45}, 600), ({"expected_seconds": 900}, 2700),
     ({"timeout": 60, "expected_seconds": 900}, 60)],
)  # fmt: skip
def test_the_total_timeout_follows_the_expected_start(said: dict[str, int], seconds: float) -> None:
    from ansible_collections.gpufleet.vllm.plugins.module_utils._health.session import total_timeout

    assert total_timeout({"timeout": None, **said}) == seconds


def test_a_wait_in_slices_goes_on_where_it_was(address: str, run_module: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    first = run_module("vllm_health", {"url": nobody, "timeout": 30, "slice": 0.3}).result
    assert (first["finished"], first["healthy"], first["diagnosis"]) == (False, False, None)
    second = run_module("vllm_health", {"url": address, "timeout": 30, "slice": 5, "resume": first["resume"]}).result
    assert (second["finished"], second["healthy"]) == (True, True)
    assert second["elapsed"] > 0.3


def test_slices_do_not_make_the_wait_longer(run_module: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    first = run_module("vllm_health", {"url": nobody, "timeout": 1, "slice": 0.5}).result
    run = run_module("vllm_health", {"url": nobody, "timeout": 1, "slice": 5, "resume": first["resume"]})
    assert (run.status, run.result["diagnosis"]["id"]) == (1, "timeout")
    assert run.result["elapsed"] < 1.6


def test_every_failure_has_a_reason(run_module: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock

    def reason(**arguments: t.Any) -> str:
        run = run_module("vllm_health", {**NOW, "url": "http://127.0.0.1:9", **arguments})
        assert run.status == 1
        return str(run.result["reason"])

    monkeypatch.setattr(lock, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(lock, "PATIENCE", 0.1)
    assert reason() == "timeout"
    assert reason(url="gpu1:8000") == "invalid-parameter"
    assert reason(api_key="a b") == "secret-invalid"
    assert reason(api_key_file=f"{tmp_path}/none") == "secret-missing"
    assert reason(container="c", docker_host=f"unix://{tmp_path}/none.sock") == "backend-unavailable"
    with lock.alone("c"):
        assert reason(container="c", lock="id") == "locked"
        assert reason(unit="c.service", lock="id") == "locked"
    assert reason(lock="id") == "invalid-parameter"


# --- vllm_diagnose ----------------------------------------------------------------------------------------------------


def log_file(directory: Path, name: str) -> str:
    path = directory / "vllm.log"
    path.write_bytes(captured(name).encode())
    return str(path)


def test_diagnose_a_file(run_module: Run, tmp_path: Path) -> None:
    facts = {"gpus": [{"index": 0, "memory_free_mib": 63867, "processes": [
        {"pid": 4711, "user": "1004", "used_memory_mib": 61440, "container": None, "managed": False}]}]}  # fmt: skip
    run = run_module("vllm_diagnose", {"path": log_file(tmp_path, "h200_memory_held"), "gpu_facts": facts, "lines": 3})
    result = run.result
    assert (run.status, result["changed"], result["diagnosis"]["id"]) == (0, False, "mem-free-below-budget")
    assert "PID 4711 (uid 1004) holds 60.0 GiB" in result["diagnosis"]["remedy"]
    assert result["diagnosis"]["symptoms"] == ["engine-start-failed"]
    assert (result["phase"], len(result["log"]), result["versions"]["vllm"]) == ("init", 3, "0.26.0")
    assert result["log"][-1].endswith("Failed core proc(s): {}")
    assert result["state"]["running"] is None


def test_diagnose_a_healthy_file(run_module: Run, tmp_path: Path) -> None:
    result = run_module("vllm_diagnose", {"path": log_file(tmp_path, "h200_gptoss20b_serving")}).result
    assert (result["diagnosis"]["id"], result["phase"]) == ("none", "ready")


def test_diagnose_says_what_it_cannot_read(run_module: Run, tmp_path: Path) -> None:
    run = run_module("vllm_diagnose", {"path": f"{tmp_path}/none"})
    assert run.status == 1
    assert run.result["msg"].startswith(f"Cannot read the log {tmp_path}/none: No such file or directory.")
    assert run.result["reason"] == "log-unreadable"


def test_diagnose_wants_one_source(run_module: Run) -> None:
    assert "one of the following is required: path, container, unit" in run_module("vllm_diagnose", {}).result["msg"]
    run = run_module("vllm_diagnose", {"path": "/x", "unit": "y"})
    assert "mutually exclusive" in run.result["msg"]


def test_no_secret_of_a_log_leaves_the_host(run_module: Run, tmp_path: Path) -> None:
    log = tmp_path / "vllm.log"
    log.write_text(
        f"INFO 11-21 10:00:00 [u.py:1] non-default args: {{'api_key': ['{KEY}'], 'hf_token': '{KEY}'}}\n"
        f"OSError: HF_TOKEN={KEY} cannot be used with https://user:{KEY}@proxy\n"
        "ValueError: To serve at least one request with the models's max seq len (8), (4.00 GiB KV cache is needed, "
        "which "
        "is larger than the available KV cache memory (1.00 GiB).\n"
    )
    result = run_module("vllm_diagnose", {"path": str(log)}).result
    assert result["diagnosis"]["id"] == "mem-kv-too-small"
    assert KEY not in json.dumps(result)
