# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What /proc tells of a process: the container it is in, its work and its halts."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.cgroup import container_id
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import (
    Activity,
    ProcessState,
    activity,
    look_at,
    parse_stat,
    with_activity,
)
from hypothesis import given, strategies as st

INNER, OUTER = "0123456789abcdef" * 4, "fedcba9876543210" * 4


@pytest.mark.parametrize(
    ("cgroup", "init", "expected"),
    [
        pytest.param(f"0::/system.slice/docker-{INNER}.scope", "0::/init.scope", INNER, id="cgroup 2"),
        pytest.param(f"12:pids:/docker/{INNER}\n1:name=systemd:/docker/{INNER}", "", INNER, id="cgroup 1"),
        pytest.param(f"0::/machine.slice/libpod-{INNER}.scope/container", "", INNER, id="Podman"),
        pytest.param(
            f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{INNER}.scope", "", INNER, id="Kubernetes"
        ),
        pytest.param(f"0::/../../system.slice/docker-{INNER}.scope", "", INNER, id="seen from another namespace"),
        pytest.param(
            f"0::/docker/{OUTER}/system.slice/docker-{INNER}.scope", f"0::/docker/{OUTER}", INNER, id="nested"
        ),
        pytest.param(
            f"0::/docker/{OUTER}/system.slice/vllm-a.service", f"0::/docker/{OUTER}/init.scope", None, id="host is one"
        ),
        pytest.param("0::/user.slice/user-1000.slice/session-1.scope", "0::/init.scope", None, id="a user's"),
        pytest.param("", "", None, id="gone"),
    ],
)
def test_container_of_a_process(cgroup: str, init: str, expected: str | None) -> None:
    assert container_id(cgroup, init) == expected


@given(st.text(), st.text())
def test_no_text_raises(cgroup: str, init: str) -> None:
    assert container_id(cgroup, init) is None or len(cgroup) >= 64


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
    assert with_activity(ProcessState(True), found).stopped == found.stopped
    assert with_activity(ProcessState(True), Activity()).stopped == ()
    assert with_activity(ProcessState(True), None).stopped == ()


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


def test_the_name_of_a_process_is_not_obeyed_by_a_terminal() -> None:
    stat = parse_stat("12 (\x1b[2J) x) T 1" + " 0" * 20)
    assert stat is not None and stat.name == "?[2J) x"
