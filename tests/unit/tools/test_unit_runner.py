# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runner of units for machines without systemd does what the backend relies on."""

from __future__ import annotations

import os
import subprocess
import time
import typing as t
from pathlib import Path

import pytest

RUNNER = Path(__file__).parents[2] / "rig" / "units"


class Runner:
    def __init__(self, directory: Path) -> None:
        self.units = directory / "units"
        self.units.mkdir()
        self.state = directory / "state"
        names = {"RIG_UNITS": self.units, "RIG_STATE": self.state, "RIG_GROUPS": Path("/proc/none")}
        self.environment = {**os.environ, **{key: str(path) for key, path in names.items()}}

    def write(self, command: str, *lines: str) -> None:
        lines = ("[Service]", f"User={os.geteuid()}", "RestartSec=0", f"ExecStart={command}", *lines)
        (self.units / "vllm-a.service").write_text("\n".join(lines))

    def call(self, program: str, *words: str, rc: int = 0) -> str:
        done = subprocess.run(
            [RUNNER / program, *words], env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == rc, done.stderr
        return done.stdout or done.stderr

    def shown(self) -> dict[str, str]:
        keys = "ActiveState,SubState,Result,MainPID,NRestarts,ExecMainStatus,InvocationID"
        text = self.call("systemctl", "show", "vllm-a.service", "--no-pager", f"--property={keys}")
        return dict(line.partition("=")[::2] for line in text.splitlines())

    def until(self, **known: str) -> dict[str, str]:
        for _look in range(100):
            shown = self.shown()
            if known.items() <= shown.items():
                return shown
            time.sleep(0.05)
        raise AssertionError(shown)

    def log(self, *words: str) -> str:
        return self.call("journalctl", "--no-pager", "--output=cat", *(words or ("--unit=vllm-a.service",)))


@pytest.fixture
def runner(tmp_path: Path) -> t.Iterator[Runner]:
    made = Runner(tmp_path)
    yield made
    made.call("systemctl", "stop", "vllm-a.service")


def test_a_unit_runs_with_its_environment_until_it_is_told_to_stop(runner: Runner, tmp_path: Path) -> None:
    (tmp_path / "env").write_text('SAID="50 % of \\"$HOME\\""\n')
    says = '/bin/sh -c "echo \\"$$SAID\\" %% %N; trap \'echo draining; kill $$!; exit 0\' TERM; sleep 300 & wait"'
    runner.write(says, "Type=exec", f"EnvironmentFile={tmp_path}/env", "Restart=always")
    runner.call("systemctl", "start", "--", "vllm-a.service")
    shown = runner.until(ActiveState="active", SubState="running")
    assert int(shown["MainPID"]) > 0
    runner.call("systemctl", "stop", "--", "vllm-a.service")
    assert runner.shown() == {**shown, "ActiveState": "inactive", "SubState": "dead", "Result": "success", "MainPID": "0",
                              "ExecMainStatus": "0"}  # fmt: skip
    assert runner.log() == '50 % of "$HOME" % vllm-a\ndraining\n'
    assert runner.log(f"_SYSTEMD_INVOCATION_ID={shown['InvocationID']}", "--lines=1") == "draining\n"


def test_one_that_leaves_with_status_0_comes_back_until_its_limit(runner: Runner) -> None:
    runner.write("/bin/echo one", "Restart=always", "StartLimitIntervalSec=60", "StartLimitBurst=3")
    runner.call("systemctl", "start", "vllm-a.service")
    runner.until(ActiveState="failed", Result="start-limit-hit", NRestarts="2")
    assert runner.log() == "one\n" * 3
    assert runner.log("--unit=vllm-a.service", "--after-cursor=1", "--show-cursor") == "one\none\n-- cursor: 3\n"
    runner.call("systemctl", "reset-failed", "--", "vllm-a.service")
    assert runner.shown()["ActiveState"] == "inactive"


def test_what_runs_once_is_up_when_it_ended_well(runner: Runner) -> None:
    runner.write("/bin/false", "Type=oneshot")
    assert "ended with status 1" in runner.call("systemctl", "start", "vllm-a.service", rc=1)
    runner.write("/bin/true", "Type=oneshot")
    runner.call("systemctl", "start", "vllm-a.service")
    runner.until(ActiveState="inactive", Result="success")


def test_a_program_or_a_unit_that_is_not_there_is_told(runner: Runner) -> None:
    assert "not found" in runner.call("systemctl", "start", "vllm-a.service", rc=1)
    runner.write("/no/such", "Type=exec")
    assert "No such file" in runner.call("systemctl", "start", "vllm-a.service", rc=1)
