# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gate counts what pytest said, whatever frames it, and fails when a step does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

_path = Path(__file__).resolve().parents[3] / "tools" / "gate" / "run.py"
_spec = importlib.util.spec_from_file_location("gate_run", _path)
if _spec is None or _spec.loader is None:
    raise ImportError(str(_path))
gate = importlib.util.module_from_spec(_spec)
sys.modules["gate_run"] = gate
_spec.loader.exec_module(gate)


@pytest.mark.parametrize(
    ("log", "counted"),
    [
        ("5 passed in 0.11s\n", "5 passed, 0 failed"),
        ("===== 3 failed, 5 passed, 2 warnings, 1 error in 61.02s (0:01:01) =====\n", "5 passed, 4 failed"),
        ("2 errors in 0.50s", "0 passed, 2 failed"),
        ("7 passed, 2 skipped in 1.00s", "7 passed, 0 failed, 2 skipped"),
        ("1 passed, 1 xfailed, 1 xpassed in 1.00s", "2 passed, 0 failed, 1 skipped"),
        ("4 passed in 1.00s\nsomething else\n1 failed in 2.00s\n", "4 passed, 1 failed"),
        ("no tests ran in 0.01s", "0 passed, 0 failed"),
        ("12 files in 3.2s\n3 passed the check\n", "0 passed, 0 failed"),
    ],
)
def test_what_pytest_says_is_counted(log: str, counted: str) -> None:
    assert str(gate.count_tests(log)) == counted


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ("echo fine", ""),
        ("exit 3", "exit status 3"),
        ("sleep 60", "not done after 1 s"),
        ("read -r line", "exit status 1"),
    ],
)
def test_a_step_that_fails_or_hangs_is_seen(command: str, fault: str, tmp_path: Path) -> None:
    assert gate.execute(["sh", "-c", command], tmp_path / "log", 1) == fault


def test_all_steps_run_and_the_last_line_counts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "Makefile").write_text("first:\n\t@echo '1 failed, 2 passed in 0.10s'; exit 1\nsecond:\n\t@echo fine\n")
    monkeypatch.chdir(tmp_path)
    status = gate.main(["first", "second"])
    output = capsys.readouterr().out
    assert status == 1
    assert "| 1 failed, 2 passed in 0.10s" in output
    assert output.splitlines()[-1] == "3 passed, 2 failed"
