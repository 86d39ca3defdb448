# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a host is asked: real processes and a real socket where they matter, a replayed nvidia-smi elsewhere."""

from __future__ import annotations

import os
import socket
import threading
import time
import typing as t
from pathlib import Path

import gpu_hosts
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import nvidia_smi as text, probe
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.observation import PciDevice
from gpu_hosts import PROGRAM, card, load, profile, write_tree

# --- processes -------------------------------------------------------------------------------------------------------


def test_commands_run_side_by_side(tmp_path: Path) -> None:
    """Each waits for all others to have begun."""
    waits = f"cd {tmp_path}; touch $0; until [ $(ls | wc -l) = 4 ]; do sleep 0.05; done"
    answers = probe.start_all({str(number): ("sh", "-c", waits, str(number)) for number in range(4)})(60)
    assert [answer.rc for answer in answers.values()] == [0, 0, 0, 0]


def test_both_streams_and_the_status_are_kept() -> None:
    (answer,) = probe.start_all({"": ("sh", "-c", "echo out; echo err >&2; exit 18")})(10).values()
    assert answer == text.Result(18, "out\n", "err\n")


def test_a_program_that_is_not_there() -> None:
    (answer,) = probe.start_all({"": ("/no/such/nvidia-smi",)})(10).values()
    assert answer.rc is None
    assert "No such file" in answer.err


def test_bytes_that_are_no_text() -> None:
    (answer,) = probe.start_all({"": ("printf", r"\377\376GPU")})(10).values()
    assert answer.out.endswith("GPU")


def test_a_hung_command_is_left_behind_and_the_others_are_heard(tmp_path: Path) -> None:
    """Its children hold the pipes open, and it ignores what can be ignored."""
    script = tmp_path / "nvidia-smi"
    script.write_text("#!/bin/sh\ntrap '' TERM INT HUP\necho $$ >$0.pid\nsleep 60 &\nsleep 60\n", "utf-8")
    script.chmod(0o755)
    started = time.monotonic()
    answers = probe.start_all({"hung": (str(script),), "fine": ("echo", "fine")})(0.5)
    assert time.monotonic() - started < 5
    assert answers["hung"] == text.Result(timed_out=True)
    assert answers["fine"].out == "fine\n"
    pid = int((tmp_path / "nvidia-smi.pid").read_text("utf-8"))
    # Nobody waits for it any more, so this test does, for pytest's process is its parent.
    for _attempt in range(100):
        if os.waitpid(pid, os.WNOHANG)[0]:
            break
        time.sleep(0.05)
    else:
        raise AssertionError("the hung command was not killed")


def test_a_hung_nvidia_smi_is_a_status(tmp_path: Path) -> None:
    hung = profile([], answers=[{"argv": ["*"], "timed_out": True}])
    facts = gpu_hosts.facts(tmp_path, hung)
    assert facts["status"] == "timeout"


def test_on_wsl2_the_driver_of_windows_is_asked(tmp_path: Path) -> None:
    asked: list[str] = []

    def start(commands: t.Mapping[str, t.Sequence[str]]) -> t.Callable[[float], dict[str, text.Result]]:
        asked.extend(argv[0] for argv in commands.values() if argv[0].endswith("nvidia-smi"))
        return lambda _seconds: {key: text.Result(9, "", "") for key in commands}

    (tmp_path / "usr/lib/wsl/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/wsl/lib/nvidia-smi").touch()
    host = probe.Host(root=str(tmp_path), start=start, find=lambda name: f"/usr/bin/{name}", docker=lambda _path: None)
    probe.observe(host, timeout=1)
    assert {*asked} == {"/usr/lib/wsl/lib/nvidia-smi"}


# --- Docker ----------------------------------------------------------------------------------------------------------


def serve_once(path: Path, answer: bytes) -> list[bytes]:
    """An engine that answers one request and closes the connection; returns what it was asked."""
    asked: list[bytes] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen(1)

    def run() -> None:
        with server:
            connection, _address = server.accept()
            with connection:
                asked.append(connection.recv(1000))
                connection.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return asked


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n[{"Id": "a"}]', [{"Id": "a"}]),
        (b"HTTP/1.0 400 Bad Request\r\n\r\n{}", None),
        (b"HTTP/1.0 200 OK\r\n\r\n{cut", None),
        (b"nonsense", None),
        (b"", None),
    ],
)
def test_docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, expected: t.Any) -> None:
    path = tmp_path / "docker.sock"
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    asked = serve_once(path, answer)
    assert probe.docker_get("/containers/json?all=1") == expected
    assert asked[0].startswith(b"GET /containers/json?all=1 HTTP/1.0\r\n")


def test_the_engine_that_is_named_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///no/such/docker.sock")
    serve_once(tmp_path / "docker.sock", b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}')
    assert probe.host_with(f"unix://{tmp_path}/docker.sock").docker("/info") == {"a": 1}
    assert probe.host_with(None).docker("/info") is None


@pytest.mark.parametrize(
    ("limits", "answer"),
    [
        ({"DOCKER_LIMIT": 1000}, b"HTTP/1.0 200 OK\r\n\r\n" + b" " * 2000 + b"1"),
        ({"DOCKER_PATIENCE": -1.0}, b"HTTP/1.0 200 OK\r\n\r\n1"),
    ],
    ids=["too large", "too late"],
)
def test_an_answer_of_docker_is_bounded(
    limits: dict[str, float], answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(probe, name, value)
    serve_once(tmp_path / "docker.sock", answer)
    assert probe.docker_get("/info", f"unix://{tmp_path}/docker.sock") is None


@pytest.mark.parametrize("address", ["unix:///no/such/docker.sock", "tcp://127.0.0.1:1"])
def test_no_docker(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    assert probe.docker_get("/info") is None


# --- files -----------------------------------------------------------------------------------------------------------


def test_pci_devices_of_nvidia_only(tmp_path: Path) -> None:
    nvidia = [
        ["000f:00:00.0", "0x060400", "0x22d1", "pcieport", 0],
        ["000f:01:00.0", "0x030000", "0x2e12", "nvidia", -1],
    ]
    write_tree(tmp_path, {"/sys/bus/pci/devices/0000:01:00.0/vendor": "0x15b3\n"}, nvidia)
    devices = probe.pci_devices(probe.Host(root=str(tmp_path)))
    assert devices == (
        PciDevice("000f:00:00.0", "0x060400", "0x22d1", "pcieport", 0),
        PciDevice("000f:01:00.0", "0x030000", "0x2e12", "nvidia", None),
    )
    assert [device.is_gpu for device in devices] == [False, True]


def test_no_sysfs_is_not_an_empty_bus(tmp_path: Path) -> None:
    assert probe.pci_devices(probe.Host(root=str(tmp_path))) is None


@pytest.mark.parametrize(
    ("files", "running"),
    [
        ({"/sys/fs/cgroup/system.slice/a.service/cgroup.procs": "12\n"}, True),
        ({"/sys/fs/cgroup/system.slice/a.service/cgroup.procs": ""}, False),
        ({"/sys/fs/cgroup/system.slice/b.service/cgroup.procs": "12\n"}, False),
        ({"/sys/fs/cgroup/systemd/system.slice/a.service/cgroup.procs": "12\n"}, True),
        ({"/etc/hostname": "x"}, None),
    ],
)
def test_whether_a_unit_runs(tmp_path: Path, files: dict[str, str], running: bool | None) -> None:
    write_tree(tmp_path, files)
    assert probe.unit_is_running(probe.Host(root=str(tmp_path)), "a.service") is running


# --- which questions -------------------------------------------------------------------------------------------------


def asked(tmp_path: Path, seen: gpu_hosts.Profile, **how: t.Any) -> list[str]:
    """What nvidia-smi was asked, in few words."""
    host = gpu_hosts.host(tmp_path, seen)
    observation = probe.observe(host, **how)
    assert observation.nvidia_smi == PROGRAM
    commands = t.cast(gpu_hosts.Replayed, host.start).asked
    return [" ".join(argv[1:]).replace(" --format=csv,noheader,nounits", "").partition("=")[0] for argv in commands]


def test_one_gpu_takes_four_questions(tmp_path: Path) -> None:
    questions = asked(tmp_path, load("h200x1_idle"))
    assert questions == ["--query-gpu", "--query-gpu", "--query-compute-apps", "-q -d COMPUTE"]


def test_several_gpus_are_asked_for_their_links_too(tmp_path: Path) -> None:
    assert asked(tmp_path, load("h200x4_busy"))[4:] == ["topo -m"]


def test_mig_takes_two_more(tmp_path: Path) -> None:
    seen = profile([card(0, "NVIDIA A100 80GB PCIe", 81920, 81216, 26, mig__mode__current="Enabled")])
    assert asked(tmp_path, seen)[5:] == ["-L", "-q -x"]


def test_samples_are_asked_for_one_after_another(tmp_path: Path) -> None:
    questions = asked(tmp_path, load("h200x1_idle"), sampling=probe.Sampling(3, 0))
    assert questions[4:] == ["--query-gpu", "--query-gpu"]


def test_a_driver_that_knows_no_extras_is_asked_field_by_field(tmp_path: Path) -> None:
    old = card(0, "NVIDIA A100 80GB PCIe", 81920, 81216, 26)
    for name in ("compute_cap", "gpu_recovery_action", "fabric.state", "fabric.status"):
        del old[name]
    host = gpu_hosts.host(tmp_path, profile([old]))
    seen = probe.observe(host)
    commands = t.cast(gpu_hosts.Replayed, host.start).asked
    assert [argv[1] for argv in commands if argv[1].startswith("--query-gpu=uuid")][-1] == "--query-gpu=uuid"
    assert [card.memory_free_mib for card in seen.smi.cards] == [81216]


def test_the_path_that_was_given_is_used(tmp_path: Path) -> None:
    host = gpu_hosts.host(tmp_path, load("h200x1_idle"), programs={"/opt/nvidia-smi": text.Result(6)})
    seen = probe.observe(host, "/opt/nvidia-smi")
    assert seen.nvidia_smi == "/opt/nvidia-smi"
    assert seen.smi.answer.rc == 6


def test_questions_share_one_deadline(tmp_path: Path) -> None:
    """What is asked later gets the time that is left, and never less than is useful."""
    now = [100.0]
    given: list[float] = []
    replayed = gpu_hosts.Replayed(profile([card(0, "NVIDIA A100", 81920, 1, 1, mig__mode__current="Enabled")]))

    def start(commands: t.Mapping[str, tuple[str, ...]]) -> t.Callable[[float], dict[str, text.Result]]:
        def collect(timeout: float) -> dict[str, text.Result]:
            given.append(timeout)
            now[0] += 40
            return replayed(commands)(timeout)

        return collect

    write_tree(tmp_path, {})
    find = {"nvidia-smi": PROGRAM}.get
    host = probe.Host(str(tmp_path), start, find, lambda path: None, lambda uid: None, clock=lambda: now[0])
    probe.observe(host, timeout=60, sampling=probe.Sampling(2, 0))
    assert given[:3] == [60, 20, probe.LEAST_TIMEOUT]
