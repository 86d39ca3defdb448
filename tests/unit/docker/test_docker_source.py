# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers as sources: what an engine says over its socket, and what it means."""

from __future__ import annotations

import datetime
import json
import os
import socketserver
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker import (
    client,
    reader as reader_module,
    source as source_module,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reader import (
    Identity,
    SocketReader,
    demultiplexed,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.source import (
    ContainerSource,
    container_state,
    moment,
    without_stamps,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.cgroup import container_id
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState, process_started

NOW = datetime.datetime(2026, 11, 21, 8, 0, 30, tzinfo=datetime.timezone.utc)
STARTED = "2026-11-21T08:00:00.123456789Z"


def inspected(started: str = STARTED, restarts: int = 0, **state: t.Any) -> dict[str, t.Any]:
    return {"State": {"StartedAt": started, **state}, "RestartCount": restarts}


def container(running: bool, exit_status: int | None = None, **said: t.Any) -> ProcessState:
    return ProcessState(running, exit_status, **{"name": "Container c", "started_at": STARTED, **said})


@pytest.mark.parametrize(
    ("found", "state"),
    [
        pytest.param(inspected(Status="running", Running=True, ExitCode=0), container(True, age=30.0), id="running"),
        pytest.param(
            inspected(restarts=2, Status="running", Running=True, ExitCode=0),
            container(True, restarts=2, age=30.0),
            id="running again",
        ),
        pytest.param(
            inspected("2026-11-20T08:00:30Z", Status="running", Running=True),
            container(True, started_at="2026-11-20T08:00:30Z", age=86400.0),
            id="running since yesterday",
        ),
        pytest.param(
            inspected("2026-11-21T09:00:00.5+01:00", Status="running", Running=True),
            container(True, started_at="2026-11-21T09:00:00.5+01:00", age=30.0),
            id="running, by the clock of another zone",
        ),
        pytest.param(
            inspected("2026-11-21T08:00:31Z", Running=True),
            container(True, started_at="2026-11-21T08:00:31Z"),
            id="running, by a clock that is behind",
        ),
        pytest.param(inspected(Status="exited", Running=False, ExitCode=1), container(False, 1), id="exited"),
        pytest.param(
            inspected(Status="exited", Running=False, ExitCode=137, OOMKilled=True),
            container(False, 137, oom_killed=True),
            id="killed",
        ),
        pytest.param(
            inspected(Status="restarting", Running=True, Restarting=True, ExitCode=2, restarts=3),
            container(False, 2, restarts=3),
            id="waiting for its restart",
        ),
        pytest.param(
            inspected("0001-01-01T00:00:00Z", Status="created", Running=False, ExitCode=0),
            container(False, started_at="0001-01-01T00:00:00Z"),
            id="never started",
        ),
        pytest.param(inspected(Status="paused", Running=True, Paused=True), container(True, age=30.0), id="paused"),
        pytest.param(inspected("", Running=True), container(True, started_at=""), id="running since nobody knows when"),
    ],
)
def test_a_container_as_a_process(found: dict[str, t.Any], state: ProcessState) -> None:
    assert container_state("c", found, NOW) == state


def test_what_docker_could_not_start_has_a_remedy() -> None:
    error = 'could not select device driver "" with capabilities: [[gpu]]'
    found = inspected(Status="created", Running=False, ExitCode=128, Error=error)
    state = container_state("c", found, NOW)
    assert (state.exit_status, state.error) == (128, error)
    assert "NVIDIA Container Toolkit" in state.error_remedy


class Engine:
    """What an engine answers."""

    def __init__(self, **inspected: t.Any) -> None:
        self.lines: list[str] = []
        self.inspected = {"State": {"Running": True}, "Config": {}, "HostConfig": {}, **inspected}

    def write(self, second: int, text: str) -> None:
        self.lines.append(f"2026-11-21T08:00:{second:02d}.000000001Z {text}\n")

    def container(self, name: str) -> dict[str, t.Any] | None:
        return self.inspected

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        return "".join(self.lines[-lines:]).encode()

    def version(self) -> str:
        return "20.10.24"

    def identity(self) -> Identity:
        return Identity()


@pytest.fixture
def engine() -> Engine:
    return Engine()


def test_a_container_tells_only_what_is_new(engine: Engine) -> None:
    source = ContainerSource("c", engine)
    assert source.news() == ""
    engine.write(1, "one")
    assert without_stamps(source.news()) == "one\n"
    assert source.news() == ""
    engine.write(2, "two")
    engine.write(3, "three")
    assert without_stamps(source.news()) == "two\nthree\n"
    assert source.tail() == "one\ntwo\nthree\n"
    assert source.versions() == {"docker": "20.10.24"}


def test_a_progress_bar_is_one_line_of_a_container(engine: Engine) -> None:
    source = ContainerSource("c", engine)
    engine.write(1, "\rFetching 6 files:   0%|  | 0/6\rFetching 6 files: 100%|##| 6/6")
    engine.write(2, "done")
    assert without_stamps(source.news()).count("\n") == 2
    assert source.tail() == "\rFetching 6 files:   0%|  | 0/6\rFetching 6 files: 100%|##| 6/6\ndone\n"


@pytest.mark.parametrize(
    "stamps",
    [
        ("08:00:01.000000001Z", "08:00:01.000000002Z", "08:00:02.000000001Z"),
        ("08:00:01Z", "08:00:01.5Z", "08:00:01.51Z"),
        ("08:00:01.9Z", "08:00:01.95Z", "08:00:02Z"),
        ("09:00:01.123+01:00", "09:00:01.1231+01:00", "09:00:02+01:00"),
        ("09:00:01+01:00", "08:00:02Z", "03:00:03.5-05:00"),
    ],
    ids=["nanoseconds", "as precise as needed", "shorter and later", "an offset", "offsets that change"],
)
def test_a_stamp_of_any_precision(stamps: tuple[str, str, str], engine: Engine) -> None:
    source = ContainerSource("c", engine)
    for count, stamp in enumerate(stamps):
        engine.lines.append(f"2026-11-21T{stamp} line {count}\n")
        assert without_stamps(source.news()) == f"line {count}\n"
    assert source.tail() == "line 0\nline 1\nline 2\n"
    moments = [moment(line) for line in engine.lines]
    assert moments == sorted(moments, key=str)


def test_what_a_container_is_made_of_comes_without_secrets(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "hf_token").write_text("canary8451\n")
    engine.inspected.update(
        Config={
            "Image": "vllm:1",
            "Env": ["OPENAI_API_KEY=canary99", "NCCL_DEBUG=INFO"],
            "Cmd": ["vllm", "serve", "m", "--hf-token", "canary8451"],
            "Labels": {"gpufleet.vllm.spec": '{"env":{"X":"canary8451"},"port":8000}'},
        },
        HostConfig={"Binds": [f"{tmp_path}/hf_token:/run/secrets/hf_token:ro", "/models:/models:ro"]},
    )
    about = ContainerSource("c", engine).about()
    assert set(about.pop("secrets")) == {"canary8451", "canary99"}
    assert "canary" not in str(about)
    assert about["spec"]["port"] == 8000
    assert about["environment"]["NCCL_DEBUG"] == "INFO"


def test_a_process_number_of_another_host_is_not_followed(engine: Engine) -> None:
    engine.inspected["State"] = {"Running": True, "Pid": os.getpid(), "StartedAt": "2001-01-01T00:00:00Z"}
    assert ContainerSource("c", engine).root_pid() is None
    started = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(process_started(os.getpid())))
    engine.inspected["State"]["StartedAt"] = f"{started}.123456789Z"
    assert ContainerSource("c", engine).root_pid() == os.getpid()


def test_a_process_is_known_by_its_control_group_though_the_clock_was_set(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, others = "a" * 64, "b" * 64
    engine.inspected.update(Id=mine)
    engine.inspected["State"] = {"Running": True, "Pid": os.getpid(), "StartedAt": "2001-01-01T00:00:00Z"}
    group = {"text": f"0::/system.slice/docker-{mine}.scope"}
    monkeypatch.setattr(source_module, "container_of", lambda pid: container_id(group["text"]))
    assert ContainerSource("c", engine).root_pid() == os.getpid()
    group["text"] = f"0::/system.slice/docker-{others}.scope"
    started = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(process_started(os.getpid())))
    engine.inspected["State"]["StartedAt"] = f"{started}.123456789Z"
    assert ContainerSource("c", engine).root_pid() is None


@pytest.mark.parametrize(
    ("looks", "news"),
    [
        ([["a"], ["a", "a"], ["a", "a", "b"]], ["a", "a", "b"]),
        ([["a", "b"], ["a", "b"]], ["a b", ""]),
        ([[], ["a"]], ["", "a"]),
        ([["a"], []], ["a", ""]),
        ([["a", "b", "a", "b"], ["a", "b", "a", "b", "a"]], ["a b a b", "a"]),
    ],
    ids=["twice the same", "nothing new", "the first", "a look that fails", "a pattern"],
)
def test_lines_of_one_second_are_told_apart(looks: list[list[str]], news: list[str], engine: Engine) -> None:
    """Podman stamps whole seconds."""
    source, found = ContainerSource("c", engine), []
    for lines in looks:
        engine.lines = [f"2026-11-26T22:03:25Z {line}\n" for line in lines]
        found.append(" ".join(without_stamps(source.news()).split()))
    assert found == news


def test_more_lines_than_are_read_at_once_lose_only_those(engine: Engine) -> None:
    source = ContainerSource("c", engine)
    engine.lines = [f"2026-11-26T22:03:25Z line {number}\n" for number in range(350)]
    assert source.news().count("\n") == 350
    engine.lines += [f"2026-11-26T22:03:25Z line {number}\n" for number in range(350, 700)]
    assert without_stamps(source.news()).split("\n")[0] == "line 350"
    engine.lines += [f"2026-11-26T22:03:26Z line {number}\n" for number in range(700, 1700)]
    assert source.news().count("\n") == 400


def test_a_clock_that_was_set_back_hides_no_line(engine: Engine) -> None:
    source = ContainerSource("c", engine)
    engine.write(30, "before")
    assert source.news()
    engine.write(2, "after")
    assert without_stamps(source.news()) == "after\n"


# --- over the socket ------------------------------------------------------------------------------------------------

STAMPED = "2026-11-21T08:00:01.000000001Z "


def frame(text: str, stream: int = 1) -> bytes:
    raw = text.encode()
    return bytes((stream, 0, 0, 0)) + len(raw).to_bytes(4, "big") + raw


class Handler(BaseHTTPRequestHandler):
    """A Docker Engine with one container, c."""

    protocol_version = "HTTP/1.1"
    tty: t.ClassVar[bool] = False
    # Bytes of a line, where there are as many lines as are asked for, up to a hundred.
    wide: t.ClassVar[int] = 0
    log: t.ClassVar[bytes] = b""
    refusal: t.ClassVar[tuple[int, bytes] | None] = None
    asked: t.ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body = self.answer()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def answer(self) -> tuple[int, bytes]:
        if self.refusal and self.path.startswith("/containers/c/logs"):
            return self.refusal
        if self.path == "/containers/c/json":
            return 200, json.dumps({**inspected(Running=True), "Config": {"Tty": self.tty}}).encode()
        if self.wide and self.path.startswith("/containers/c/logs?"):
            line = f"{STAMPED}{'x' * self.wide}\n"
            return 200, frame(line) * min(100, int(self.path.rpartition("=")[2]))
        if self.path.startswith("/containers/c/logs?"):
            return 200, self.log
        if self.path == "/version":
            return 200, b'{"Version": "27.1.0"}'
        return 404, b'{"message": "No such container: x y"}'

    def log_message(self, *_arguments: t.Any) -> None:
        pass


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """A client that reads no further is no error of this server."""

    def get_request(self) -> tuple[t.Any, t.Any]:
        request, _address = super().get_request()
        return request, ("unix", 0)


@pytest.fixture
def socket_path(tmp_path: Path) -> t.Iterator[str]:
    Handler.tty, Handler.wide, Handler.log, Handler.refusal = False, 0, b"", None
    Handler.asked.clear()
    path = str(tmp_path / "docker.sock")
    with UnixServer(path, Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield path
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("tty", [False, True], ids=["two streams", "a terminal"])
def test_the_log_over_the_socket(tty: bool, socket_path: str) -> None:
    Handler.tty = tty
    lines = [f"{STAMPED}one\n", f"{STAMPED}zwei \u00fc\n"]
    Handler.log = "".join(lines).encode() if tty else frame(lines[0]) + frame(lines[1], stream=2)
    source = ContainerSource("c", SocketReader(socket_path))
    assert source.state().running is True
    assert source.tail() == "one\nzwei \u00fc\n"
    assert Handler.asked[-1] == "/containers/c/logs?stdout=1&stderr=1&timestamps=1&tail=4000"


def test_the_log_first_of_all(socket_path: str) -> None:
    Handler.log = frame(f"{STAMPED}one\n")
    assert ContainerSource("c", SocketReader(socket_path)).tail() == "one\n"


def test_a_log_of_long_lines_is_read_by_fewer(socket_path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "LOG_LIMIT", 1 << 14)
    Handler.wide = 1000
    lines = ContainerSource("c", SocketReader(socket_path)).tail().splitlines()
    assert (len(lines), set(map(len, lines))) == (7, {1000})
    Handler.wide = 20000
    assert "larger than 16384 bytes" in ContainerSource("c", SocketReader(socket_path)).tail()


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b"", b""), (frame("a") + frame("", 2) + frame("b"), b"ab"), (frame("a") + b"\x01\0\0", b"a")],
    ids=["empty", "pieces", "cut short"],
)
def test_demultiplexed(raw: bytes, text: bytes) -> None:
    assert demultiplexed(raw) == text


def test_a_container_that_is_not_there_is_told(socket_path: str) -> None:
    with pytest.raises(VllmError, match="Cannot look at container x y. Docker says: No such container: x y.") as caught:
        ContainerSource("x y", SocketReader(socket_path)).state()
    assert caught.value.reason == "server-missing"
    # Then which engine it is that says so.
    assert Handler.asked == ["/containers/x%20y/json", "/version", "/info"]


@pytest.mark.parametrize(
    ("refusal", "said"),
    [
        ((501, b'{"message": "configured logging driver does not support reading"}'), "configured logging driver"),
        ((500, b"null"), "HTTP 500."),
        ((500, b"oops"), "HTTP 500 without JSON"),
    ],
    ids=["with a message", "without one", "no JSON"],
)
def test_a_log_that_cannot_be_read_is_told_in_its_place(
    refusal: tuple[int, bytes], said: str, socket_path: str
) -> None:
    Handler.refusal = refusal
    text = ContainerSource("c", SocketReader(socket_path)).tail()
    assert text.startswith(f"Cannot read the log of c. Docker says: {said}")


def test_the_version_over_the_socket(socket_path: str, tmp_path: Path) -> None:
    assert ContainerSource("c", SocketReader(socket_path)).versions() == {"docker": "27.1.0"}
    assert ContainerSource("c", SocketReader(f"{tmp_path}/none")).versions() == {}


def test_an_engine_that_does_not_run_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.shutil, "which", lambda *_words, **_said: "/usr/bin/dockerd")
    with pytest.raises(VllmError) as caught:
        SocketReader(f"{tmp_path}/none").container("c")
    assert str(caught.value).startswith(
        f"Cannot talk to the Docker Engine at unix://{tmp_path}/none: it is not running"
    )
    assert caught.value.reason == "backend-unavailable"


def test_a_socket_of_others_is_told(socket_path: str) -> None:
    os.chmod(socket_path, 0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        with pytest.raises(VllmError, match="this user has no permission. Add the user to group docker") as caught:
            SocketReader(socket_path).container("c")
    finally:
        if root:
            os.seteuid(0)
    assert caught.value.reason == "permission-denied"
