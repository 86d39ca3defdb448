# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gate counts what pytest said, whatever frames it, fails when a step does, ends what it started, and calls a commit
green only where all of it passed on exactly that."""

from __future__ import annotations

import importlib.util
import re
import signal
import subprocess
import sys
import threading
import time
import typing as t
import uuid
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
_path = ROOT / "tools" / "gate" / "run.py"
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
    assert gate.execute(["sh", "-c", command], tmp_path / "log", 1, gate.Interruption()) == fault


@pytest.fixture(name="nap")
def _nap() -> str:
    """A command that sleeps longer than a test, and that no other process of this machine is."""
    return f"sleep 60.{uuid.uuid4().int % 10**9:09}1"


def naps(nap: str) -> list[str]:
    return [found for found in subprocess.check_output(["ps", "-eo", "args"], text=True).splitlines() if found == nap]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param("{nap}", id="itself"),
        pytest.param("{nap} & {nap}", id="a child in the background"),
        pytest.param("setsid {nap} & {nap}", id="a child in a session of its own"),
        pytest.param("(setsid {nap} &); {nap}", id="one whose parent is gone"),
        pytest.param("trap '' INT; {nap} & wait; {nap}", id="one that ignores the first signal"),
    ],
)
@pytest.mark.parametrize(("limit", "interrupted"), [(0.5, False), (60, True)], ids=["times out", "is interrupted"])
def test_a_step_ends_with_all_that_it_started(
    command: str, limit: float, interrupted: bool, nap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "PATIENCE_SECONDS", tuple((sent, 0.5) for sent, _seconds in gate.PATIENCE_SECONDS))
    interruption = gate.Interruption()
    if interrupted:
        threading.Timer(0.5, interruption.see, (signal.SIGINT, None)).start()
    fault = gate.execute(["sh", "-c", command.format(nap=nap)], tmp_path / "log", limit, interruption)
    assert fault == ("interrupted" if interrupted else "not done after 0 s")
    assert naps(nap) == []


def test_what_lessens_a_step_does_not_reach_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in gate.NOT_FOR_STEPS:
        monkeypatch.setenv(name, "mischief")
    gate.execute(["env"], tmp_path / "log", 10, gate.Interruption())
    assert "mischief" not in (tmp_path / "log").read_text()


@pytest.fixture(name="project")
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[..., Path]:
    """A clean repository whose Makefile has these steps, and its folder the current one."""

    def make(**recipes: str) -> Path:
        makefile = "".join(f"{step}:\n\t@{recipe}\n" for step, recipe in recipes.items())
        (tmp_path / "Makefile").write_text(makefile)
        (tmp_path / ".gitignore").write_text(".cache\n")
        monkeypatch.chdir(tmp_path)
        for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
            monkeypatch.setenv(f"{name}_NAME", "a")
            monkeypatch.setenv(f"{name}_EMAIL", "a@example.org")
        git("init", "-q")
        git("add", "-A")
        git("commit", "-q", "-m", "first")
        return tmp_path

    return make


def git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def test_all_steps_run_and_the_last_line_counts_them(
    project: t.Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    failed = "FAILED tests/test_a.py::test_b[c d] - assert 1 == 2"
    project(first=f"echo '{failed}'; echo '1 failed, 2 passed in 0.10s'; exit 1", second="echo fine")
    status = gate.main(["first", "second"], gate.Interruption())
    output = capsys.readouterr().out
    assert status == 1
    assert "| 1 failed, 2 passed in 0.10s" in output
    assert failed in output[output.index("== summary") :]
    assert output.splitlines()[-1] == "3 passed, 2 failed"


def test_lanes_run_side_by_side_and_the_summary_keeps_their_order(
    project: t.Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    met = "touch .cache/$@; for n in $$(seq 100); do [ -e .cache/{} ] && exit 0; sleep 0.1; done; exit 1"
    project(first=f"sleep 0.5; {met.format('second')}", second=met.format("first"), third="echo fine")
    monkeypatch.setattr(gate, "PLAN", ((("first",), ("second",)), (("third",),)))
    assert gate.main([], gate.Interruption()) == 0
    output = capsys.readouterr().out
    assert re.findall(r"^   (\w+) +passed", output, re.MULTILINE) == ["first", "second", "third"]
    assert output.splitlines()[-1] == "3 passed, 0 failed"


def test_an_interrupted_run_ends_its_steps_and_counts_all_of_them(project: t.Callable[..., Path], nap: str) -> None:
    project(first=nap, second="echo fine")
    command = [sys.executable, str(_path), "first", "second"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while not naps(nap) and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 1
    assert "FAILED, interrupted" in output
    assert "FAILED, not run" in output
    assert output.splitlines()[-1] == "0 passed, 2 failed"
    assert naps(nap) == []


FINE = {"first": "echo fine", "second": "echo fine"}


@pytest.mark.parametrize(
    ("recipes", "steps", "before", "green"),
    [
        pytest.param(FINE, [], "", True, id="all steps of a clean tree pass"),
        pytest.param(FINE, [], "echo hello >.cache/new", True, id="what git ignores does not matter"),
        pytest.param(FINE, ["first", "second"], "", False, id="named steps, even if they are all"),
        pytest.param(FINE, ["first"], "", False, id="one step"),
        pytest.param({**FINE, "second": "exit 1"}, [], "", False, id="a step fails"),
        pytest.param(
            {**FINE, "first": "echo '1 failed in 1.00s'"}, [], "", False, id="a test fails, its step does not"
        ),
        pytest.param(FINE, [], "echo >>Makefile", False, id="a changed file"),
        pytest.param(FINE, [], "echo >new", False, id="a new file"),
        pytest.param(FINE, [], "echo >new; git add new", False, id="a staged file"),
        pytest.param(FINE, [], "rm -rf .git", False, id="no repository"),
        pytest.param({**FINE, "first": "echo >new"}, [], "", False, id="a step leaves a file"),
        pytest.param(
            {**FINE, "first": "git commit -q --allow-empty -m next"}, [], "", False, id="another commit meanwhile"
        ),
        pytest.param({**FINE, "second": "rm new"}, [], "echo >new", False, id="a file that is gone at the end"),
    ],
)
def test_only_a_complete_green_run_of_a_clean_tree_is_written_down(
    recipes: dict[str, str],
    steps: list[str],
    before: str,
    green: bool,
    project: t.Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = project(**recipes)
    (place / ".cache/gate").mkdir(parents=True)
    commit = git("rev-parse", "HEAD")
    subprocess.run(before, shell=True, check=True)
    monkeypatch.setattr(gate, "PLAN", ((("first",), ("second",)),))
    gate.main(steps, gate.Interruption())
    assert (place / gate.GREEN).exists() is green
    assert not green or (place / gate.GREEN).read_text() == f"{commit}\n"


@pytest.mark.parametrize(("steps", "kept"), [([], False), (["first"], True)], ids=["a complete run", "a partial run"])
def test_the_start_of_a_complete_run_takes_back_what_the_last_one_wrote(
    steps: list[str], kept: bool, project: t.Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = project(first="test -e .cache/gate/green", second="exit 1")
    (place / gate.GREEN).parent.mkdir(parents=True)
    (place / gate.GREEN).write_text("an earlier commit\n")
    monkeypatch.setattr(gate, "PLAN", ((("first",),), (("second",),)))
    gate.main(steps, gate.Interruption())
    assert (place / gate.GREEN).exists() is kept
    # make says it when a recipe fails, and this one looked while the run was going.
    assert ("Error 1" in (place / gate.LOGS / "first.log").read_text()) is not kept


def test_every_step_is_a_target_and_documented() -> None:
    steps = [step for stage in gate.PLAN for lane in stage for step in lane]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    assert [step for step in steps if f"\n{step}: venv ##" not in makefile] == []
    described = re.findall(r"^\| `([a-z0-9-]+)` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    assert described == steps
