# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers, units and files as sources: what Docker, systemd and /proc print, and what it means."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import docker.errors
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health import sources as health_sources
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.sources import (
    Activity,
    ContainerSource,
    FileSource,
    UnitSource,
    activity,
    container_state,
    look_at,
    open_source,
    parse_stat,
    process_started,
    unit_process,
    unit_state,
    with_activity,
    without_stamps,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.wait import Process
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import State

# --- a container ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "restarts", "expected"),
    [
        ({"Status": "running", "Running": True, "ExitCode": 0}, 2, State(True, None, restarts=2)),
        ({"Status": "exited", "Running": False, "ExitCode": 137, "OOMKilled": True}, 0, State(False, 137, True)),
        ({"Status": "restarting", "Running": True, "Restarting": True, "ExitCode": 1}, 3, State(False, 1, restarts=3)),
        ({"Status": "created", "Running": False, "ExitCode": 0}, 0, State(False)),
    ],
    ids=["running", "killed", "between two starts", "never started"],
)
def test_container_state(state: dict[str, t.Any], restarts: int, expected: State) -> None:
    found = container_state("c", {"State": state, "RestartCount": restarts})
    assert found == State(**{**vars(expected), "name": "Container c"})


def test_what_docker_could_not_start_has_a_remedy() -> None:
    error = 'could not select device driver "" with capabilities: [[gpu]]'
    state = container_state("c", {"State": {"Status": "created", "Running": False, "ExitCode": 128, "Error": error}})
    assert (state.exit_status, state.error) == (128, error)
    assert "NVIDIA Container Toolkit" in state.error_remedy


class Docker:
    """What the SDK's client answers."""

    def __init__(self, **inspected: t.Any) -> None:
        self.lines: list[str] = []
        self.inspected = {"State": {"Running": True}, "Config": {}, "HostConfig": {}, **inspected}

    def write(self, second: int, text: str) -> None:
        self.lines.append(f"2026-11-21T08:00:{second:02d}.000000001Z {text}\n")

    def inspect_container(self, name: str) -> dict[str, t.Any]:
        if name != "c":
            raise docker.errors.NotFound("x", explanation=f"No such container: {name}")
        return self.inspected

    def logs(self, name: str, tail: int, **_said: t.Any) -> bytes:
        return "".join(self.lines[-tail:]).encode()

    def version(self) -> dict[str, str]:
        return {"Version": "20.10.24"}


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Docker:
    client = Docker()
    monkeypatch.setattr(health_sources, "connect", lambda docker_host=None: client)
    return client


def test_a_container_tells_only_what_is_new(engine: Docker) -> None:
    source = ContainerSource("c")
    assert source.news() == ""
    engine.write(1, "one")
    assert without_stamps(source.news()) == "one\n"
    assert source.news() == ""
    engine.write(2, "two")
    engine.write(3, "three")
    assert without_stamps(source.news()) == "two\nthree\n"
    assert source.tail() == "one\ntwo\nthree\n"


def test_a_progress_bar_is_one_line_of_a_container(engine: Docker) -> None:
    source = ContainerSource("c")
    engine.write(1, "\rFetching 6 files:   0%|  | 0/6\rFetching 6 files: 100%|##| 6/6")
    engine.write(2, "done")
    assert without_stamps(source.news()).count("\n") == 2
    assert source.tail() == "\rFetching 6 files:   0%|  | 0/6\rFetching 6 files: 100%|##| 6/6\ndone\n"


def test_a_container_that_is_not_there_is_told(engine: Docker) -> None:
    with pytest.raises(VllmError, match="Cannot look at container x. Docker says: No such container: x."):
        ContainerSource("x").process()


def test_what_a_container_is_made_of_comes_without_secrets(engine: Docker, tmp_path: Path) -> None:
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
    about = ContainerSource("c").about()
    assert about.pop("secrets") == ["canary8451"]
    assert "canary" not in str(about)
    assert about["spec"]["port"] == 8000
    assert about["environment"]["NCCL_DEBUG"] == "INFO"


def test_a_process_number_of_another_host_is_not_followed(engine: Docker) -> None:
    engine.inspected["State"] = {"Running": True, "Pid": os.getpid(), "StartedAt": "2001-01-01T00:00:00Z"}
    assert ContainerSource("c").root_pid() is None
    started = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(process_started(os.getpid())))
    engine.inspected["State"]["StartedAt"] = f"{started}.123456789Z"
    assert ContainerSource("c").root_pid() == os.getpid()


# --- a unit ---------------------------------------------------------------------------------------------------------

ACTIVE = {
    "LoadState": "loaded",
    "ActiveState": "active",
    "SubState": "running",
    "Result": "success",
    "MainPID": "4242",
    "NRestarts": "1",
    "ExecMainCode": "0",
    "ExecMainStatus": "0",
    "ExecMainStartTimestampMonotonic": "100000000",
    "InvocationID": "abc",
    "FragmentPath": "/etc/systemd/system/vllm-a.service",
}
FAILED = {**ACTIVE, "ActiveState": "failed", "SubState": "failed", "MainPID": "0", "Result": "exit-code"}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (ACTIVE, State(True, None, restarts=1)),
        ({**FAILED, "ExecMainCode": "1", "ExecMainStatus": "2"}, State(False, 2, restarts=1)),
        ({**FAILED, "ExecMainCode": "2", "ExecMainStatus": "9"}, State(False, 137, restarts=1)),
        ({**FAILED, "ExecMainCode": "3", "ExecMainStatus": "11"}, State(False, 139, restarts=1)),
        ({**FAILED, "ExecMainCode": "killed", "ExecMainStatus": "9", "Result": "oom-kill"}, State(False, 137, True, restarts=1)),
        ({**ACTIVE, "ActiveState": "activating", "SubState": "auto-restart", "MainPID": "0", "ExecMainCode": "1",
          "ExecMainStatus": "1"}, State(False, 1, restarts=1)),
        ({**FAILED, "ActiveState": "inactive", "ExecMainCode": "1", "Result": "success"}, State(False, 0, restarts=1)),
        ({**FAILED, "ExecMainCode": "0"}, State(False, None, restarts=1)),
    ],
    ids=["runs", "exited", "killed", "dumped", "killed by the kernel", "between two starts", "stopped", "never ran"],
)  # fmt: skip
def test_unit_state(shown: dict[str, str], expected: State) -> None:
    assert unit_state("vllm-a.service", shown) == State(**{**vars(expected), "name": "Unit vllm-a.service"})


def test_a_unit_that_failed_too_often_says_so() -> None:
    state = unit_state("u", {**FAILED, "ExecMainCode": "1", "ExecMainStatus": "1", "Result": "start-limit-hit"})
    assert "systemctl reset-failed" in state.error


def test_unit_process() -> None:
    assert unit_process("u", ACTIVE, 130.0) == Process(True, "Unit u", None, "100.0", 1, 30.0)


class Systemd:
    """systemctl and journalctl, as AnsibleModule.run_command runs them."""

    def __init__(self, shown: t.Mapping[str, str] | None = None) -> None:
        self.shown = ACTIVE if shown is None else shown
        self.journal: list[str] = []
        self.commands: list[list[str]] = []

    def __call__(self, command: list[str], **_said: t.Any) -> tuple[int, str, str]:
        self.commands.append(command)
        if command[0] == "systemctl":
            return 0, "".join(f"{key}={value}\n" for key, value in self.shown.items()), ""
        after = next((int(word.partition("=")[2]) for word in command if word.startswith("--after-cursor=")), 0)
        lines = self.journal[after:]
        if not lines:
            return 0, "-- No entries --\n", ""
        cursor = f"-- cursor: {len(self.journal)}\n" if "--show-cursor" in command else ""
        return 0, "".join(f"{line}\n" for line in lines) + cursor, ""


def test_a_unit_tells_only_what_is_new() -> None:
    systemd = Systemd()
    source = UnitSource("vllm-a", systemd)
    source.interval = 0
    systemd.journal += ["one", "two"]
    assert source.news() == "one\ntwo\n"
    assert source.news() == ""
    systemd.journal += ["three"]
    assert source.news() == "three\n"
    assert source.tail() == "one\ntwo\nthree\n"
    assert [word for word in systemd.commands[-1] if word.startswith("_SYSTEMD")] == ["_SYSTEMD_INVOCATION_ID=abc"]


def test_a_unit_is_not_asked_more_often_than_needed() -> None:
    systemd = Systemd()
    source = UnitSource("vllm-a", systemd)
    for _turn in range(5):
        source.process()
    assert len(systemd.commands) == 1


def test_a_unit_that_is_not_there_is_told() -> None:
    with pytest.raises(VllmError, match=r"There is no systemd unit x.service on this host"):
        UnitSource("x", Systemd({"LoadState": "not-found"})).process()


def test_a_host_without_systemd_is_told() -> None:
    def missing(*_words: t.Any, **_said: t.Any) -> t.NoReturn:
        raise OSError(2, "No such file or directory")

    with pytest.raises(VllmError, match="Cannot run systemctl: .*Is this host run by systemd?"):
        UnitSource("x", missing).process()


def test_secrets_of_a_unit_are_hidden(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("VLLM_API_KEY=canary8451\n")
    unit = f"[Service]\nEnvironment=A_TOKEN=canary99\nEnvironmentFile={tmp_path}/env\nExecStart=/bin/vllm serve m\n"

    def run(command: list[str], **_said: t.Any) -> tuple[int, str, str]:
        return 0, unit if "cat" in command else "".join(f"{k}={v}\n" for k, v in ACTIVE.items()), ""

    about = UnitSource("x", run).about()
    assert "canary8451" in about.pop("secrets")
    assert "canary" not in str(about)
    assert "ExecStart=/bin/vllm serve m" in about["unit"]


# --- a file ---------------------------------------------------------------------------------------------------------


def test_a_file_tells_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    source = FileSource(str(path))
    assert source.news() == ""
    path.write_text("one\n")
    assert source.news() == "one\n"
    assert source.news() == ""
    path.write_text("one\ntwo\n")
    assert source.news() == "two\n"
    path.write_text("new\n")
    assert source.news() == "new\n"
    assert (source.tail(), source.process(), source.state(), source.root_pid()) == ("new\n", None, State(), None)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(VllmError, match=rf"Cannot read the log {tmp_path}/none: No such file or directory. Check path"):
        FileSource(f"{tmp_path}/none").tail()


def test_no_source_is_none() -> None:
    assert open_source({"container": None, "unit": None}, Systemd()) is None
    assert isinstance(open_source({"path": "/x"}, Systemd()), FileSource)
    assert isinstance(open_source({"unit": "x"}, Systemd()), UnitSource)


# --- signs of life --------------------------------------------------------------------------------------------------

STAT = "{pid} ({name}) {state} {parent} 1 1 0 -1 4194560 1 0 0 0 {user} {system} 0 0 20 0 1 0 500 1 1\n"


def stat(pid: int, parent: int, name: str = "python3", state: str = "S", user: int = 0, system: int = 0) -> str:
    return STAT.format(pid=pid, name=name, state=state, parent=parent, user=user, system=system)


@pytest.mark.parametrize("name", ["vllm", "VLLM::Worker_TP0", "a b", "odd) S 1 (x", ")"])
def test_stat_whatever_the_name(name: str) -> None:
    found = parse_stat(stat(7, 3, name, "R", 10, 5))
    assert found is not None
    assert (found.pid, found.name, found.state, found.parent, found.ticks) == (7, name, "R", 3, 15)


@pytest.mark.parametrize("text", ["", "7", "7 (x)", "x (y) S 1", "7 (x) S"])
def test_stat_of_a_process_that_is_gone(text: str) -> None:
    assert parse_stat(text) is None


def test_activity_is_that_of_the_whole_family() -> None:
    lines = [
        stat(10, 1, "vllm", user=100),
        stat(11, 10, "VLLM::EngineCore", user=200),
        stat(12, 11, "VLLM::Worker", "T", user=300, system=50),
        stat(13, 1, "other", "T", user=9999),
    ]
    found = activity([s for s in map(parse_stat, lines) if s], 10)
    assert found.cpu_seconds == 6.5
    assert found.stopped == ("VLLM::Worker (PID 12)",)
    assert with_activity(State(True), found).stopped == found.stopped
    assert with_activity(State(True), Activity()).stopped == ()
    assert with_activity(State(True), None).stopped == ()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, which only Linux has")
def test_a_real_process_that_is_stopped_is_seen() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as child:
        try:
            child.send_signal(19)
            until = time.monotonic() + 5
            seen = look_at(os.getpid())
            while time.monotonic() < until and not (seen and seen.stopped):
                time.sleep(0.01)
                seen = look_at(os.getpid())
            assert seen is not None
            assert [name for name in seen.stopped if str(child.pid) in name]
        finally:
            child.kill()


def test_a_process_that_is_gone_has_no_activity() -> None:
    assert look_at(None) is None
    assert look_at(2**22 + 7) is None
