# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two runs at once on one host."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.lock import (
    Busy,
    alone,
    leave,
    reader_is_gone,
    release,
)

NAME = "gpufleet-unit-lock"
ROOT = str(Path(__file__).parents[3] / ".ansible" / "collections")
HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.lock import alone
with alone(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_do_not_change_one_server_at_once() -> None:
    with alone(NAME):
        told = (
            f"^Another run is changing {NAME} on this host, or waits for it to become healthy .PID {os.getpid()}, since"
        )
        with pytest.raises(Busy, match=told), alone(NAME, patience=0):
            pytest.fail("both runs hold the lock")
        with alone(f"{NAME}-other"):
            pass
    with alone(NAME):
        pass


def test_a_run_waits_for_a_step_of_another_that_is_about_to_end() -> None:
    command = [sys.executable, "-c", HOLD, ROOT, NAME]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=path)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(Busy), alone(NAME, patience=0):
        pytest.fail("both runs hold the lock")
    # The lock ends with its process, however that ends.
    other.kill()
    with alone(NAME, patience=30):
        pass
    other.communicate()


def test_between_two_steps_of_a_run_the_server_is_kept_for_it() -> None:
    with alone(NAME):
        leave(NAME, "mine")
    with pytest.raises(Busy, match="its next step is due within"), alone(NAME, patience=0):
        pytest.fail("another run got in between")
    with pytest.raises(Busy), alone(NAME, "theirs", patience=0):
        pytest.fail("another run got in between")
    with alone(NAME, "mine", patience=0):
        release(NAME)
    with alone(NAME, patience=0):
        pass


def test_a_lease_of_a_run_that_was_killed_ends() -> None:
    leave(NAME, "theirs", seconds=0.3)
    with alone(NAME, patience=10):
        release(NAME)


def test_a_process_notices_that_nobody_reads_what_it_says() -> None:
    reading, writing = os.pipe()
    assert not reader_is_gone(writing)
    os.close(reading)
    assert reader_is_gone(writing)
    os.close(writing)
    with open(os.devnull, "wb") as stream:
        assert not reader_is_gone(stream.fileno())


def test_a_lock_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.gpufleet.vllm.plugins.module_utils._host.lock.DIRECTORY", str(tmp_path))
    (tmp_path / "gpufleet-vllm-x.lock").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(VllmError, match="^Cannot open the lock .*x.lock: .*Remove it if no other run is going on"),
        alone("x"),
    ):
        pytest.fail("a link was followed")
