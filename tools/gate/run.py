"""Run the steps of the quality gate, each as `make STEP`, and count.

Without arguments all of them run: the stages one after the other, the lanes of a stage side by side, the steps of a
lane one after the other. Names of steps as arguments run these alone, one after the other. All steps run, also after
one failed. The last line counts test cases over all runners and one case a step.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import types
import typing as t
import uuid
from dataclasses import dataclass, field
from pathlib import Path

Lane = tuple[str, ...]
Stage = tuple[Lane, ...]

# Two cores: what has one thread of its own runs in pairs, beside what mostly waits; what keeps both busy runs alone.
PLAN: tuple[Stage, ...] = (
    (("types", "lint", "docs-lint", "unit", "artifact"), ("sanity", "integration", "unit-oldest"), ("rig",)),
    (("molecule",),),
    (("faults",),),
    (("e2e",),),
)
LOGS = Path(".cache/gate/logs")
GREEN = Path(".cache/gate/green")
LIMIT_SECONDS = {"unit": 2700, "sanity": 1200, "integration": 1800, "molecule": 1800, "e2e": 1800}
DEFAULT_LIMIT_SECONDS = 900
SHOWN_LINES = 400
# How long a step has to end after each signal. The first one lets pytest and the scripts put away what they made.
PATIENCE_SECONDS = ((signal.SIGINT, 30), (signal.SIGTERM, 20), (signal.SIGKILL, 5))
# Whatever a step starts has this variable, in whatever session or process group it is.
MARK = "GATE_STEP_ID"
# What would make a step do less than it says.
NOT_FOR_STEPS = ("MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "PYTEST_ADDOPTS")

# The closing line of pytest, with or without its frame: "== 1 failed, 3 passed in 61.02s (0:01:01) ==".
CLOSING_LINE = re.compile(r"^(?:=+ )?(\d+ [a-z]+(?:, \d+ [a-z]+)*) in [\d.]+s(?: \([\d:]+\))?(?: =+)?$", re.MULTILINE)

# A line of its short summary: "FAILED tests/unit/test_a.py::test_b[c] - AssertionError: ...".
FAILURE_LINE = re.compile(r"^((?:FAILED|ERROR) \S+\.py\b.*)$", re.MULTILINE)
NAMED_FAILURES, FAILURE_WIDTH = 20, 300


@dataclass(frozen=True)
class Count:
    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        return f"{self.passed} passed, {self.failed} failed{skipped}"


@dataclass(frozen=True)
class Result:
    step: str
    fault: str
    seconds: float = 0
    tests: Count = Count()
    # The tests that failed, as pytest's short summary tells them.
    failures: tuple[str, ...] = ()

    def counted(self) -> Count:
        return self.tests + (Count(failed=1) if self.fault else Count(passed=1))


@dataclass
class Interruption:
    """Set by the handler of a signal; no Event, whose lock a second signal would wait for."""

    seen: bool = False

    def see(self, _signal: int, _frame: types.FrameType | None) -> None:
        self.seen = True


@dataclass
class Run:
    """What the lanes of one run share."""

    interruption: Interruption
    results: list[Result] = field(default_factory=list)
    printing: threading.Lock = field(default_factory=threading.Lock)


def count_tests(log: str) -> Count:
    """Add up what pytest said of each of its runs in this log."""
    total = Count()
    for line in CLOSING_LINE.findall(log):
        words = {word.rstrip("s"): int(number) for number, word in (part.split(" ") for part in line.split(", "))}
        failed = words.get("failed", 0) + words.get("error", 0)
        skipped = words.get("skipped", 0) + words.get("xfailed", 0)
        total += Count(words.get("passed", 0) + words.get("xpassed", 0), failed, skipped)
    return total


def failed_tests(log: str) -> tuple[str, ...]:
    """The lines in which pytest's short summaries name a test that failed, and why."""
    return tuple(dict.fromkeys(FAILURE_LINE.findall(log)))


def marked(mark: str) -> list[int]:
    """The processes that have this mark in their environment."""
    found = []
    wanted = f"{MARK}={mark}".encode()
    for directory in Path("/proc").glob("[0-9]*"):
        # One that ended, or somebody else's.
        with contextlib.suppress(OSError):
            if wanted in (directory / "environ").read_bytes().split(b"\0"):
                found.append(int(directory.name))
    return found


def becomes_true(seen: t.Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not seen() and time.monotonic() < deadline:
        time.sleep(0.1)
    return seen()


def stop(process: subprocess.Popen[bytes], mark: str) -> None:
    """End a step with all that it started: what leads first, which puts away in order what it holds, then the rest."""
    for sent, seconds in PATIENCE_SECONDS:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        if becomes_true(lambda: process.poll() is not None, seconds):
            break
    for sent in (signal.SIGTERM, signal.SIGKILL):
        for pid in marked(mark):
            with contextlib.suppress(OSError):
                os.kill(pid, sent)
        if becomes_true(lambda: not marked(mark), 5):
            break


def execute(command: t.Sequence[str], log: Path, limit: float, interruption: Interruption) -> str:
    """Run a command into a log; the answer is what went wrong, or nothing."""
    mark = uuid.uuid4().hex
    kept = {name: value for name, value in os.environ.items() if name not in NOT_FOR_STEPS}
    plain = {"NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "PY_COLORS": "0", "COLUMNS": "120", MARK: mark}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**kept, **plain},
            start_new_session=True,
        )
        deadline = time.monotonic() + limit
        while process.poll() is None:
            if interruption.seen or time.monotonic() > deadline:
                stop(process, mark)
                return "interrupted" if interruption.seen else f"not done after {limit:.0f} s"
            time.sleep(0.1)
    return f"exit status {process.returncode}" if process.returncode else ""


def run_step(step: str, run: Run) -> None:
    if run.interruption.seen:
        run.results.append(Result(step, "not run"))
        return
    log = LOGS / f"{step}.log"
    start = time.monotonic()
    fault = execute(["make", step], log, LIMIT_SECONDS.get(step, DEFAULT_LIMIT_SECONDS), run.interruption)
    text = log.read_text("utf-8", "replace")
    result = Result(step, fault, time.monotonic() - start, count_tests(text), failed_tests(text))
    run.results.append(result)
    with run.printing:
        print(f"== {step}", flush=True)
        if fault:
            show(log, text)
        print(f"   {described(result)}", flush=True)


def run_lane(lane: Lane, run: Run) -> None:
    for step in lane:
        run_step(step, run)


def run_stage(stage: Stage, run: Run) -> None:
    threads = [threading.Thread(target=run_lane, args=(lane, run)) for lane in stage]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def show(log: Path, text: str) -> None:
    lines = text.splitlines()
    if len(lines) > SHOWN_LINES:
        print(f"   (the last {SHOWN_LINES} of {len(lines)} lines of {log})")
    print("\n".join(f"   | {line}" for line in lines[-SHOWN_LINES:]))


def described(result: Result) -> str:
    outcome = f"FAILED, {result.fault}" if result.fault else "passed"
    tests = f", tests: {result.tests}" if result.tests != Count() else ""
    return f"{outcome}, {result.seconds:.0f} s{tests}"


def clean_commit() -> str:
    """The commit that the working tree is, to the letter; nothing where it is not."""

    def git(*arguments: str) -> str | None:
        done = subprocess.run(
            ["git", *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    status, head = git("status", "--porcelain", "--untracked-files=all"), git("rev-parse", "--verify", "HEAD")
    return head if head and status == "" else ""


def run_all(plan: t.Sequence[Stage], interruption: Interruption) -> Run:
    run = Run(interruption)
    for stage in plan:
        if len(stage) > 1:
            print(f"   side by side: {' | '.join(' '.join(lane) for lane in stage)}", flush=True)
        run_stage(stage, run)
    return run


def summarize(plan: t.Sequence[Stage], run: Run, seconds: float) -> Count:
    order = [step for stage in plan for lane in stage for step in lane]
    print(f"\n== summary, {seconds:.0f} s; logs in {LOGS}")
    for result in sorted(run.results, key=lambda result: order.index(result.step)):
        print(f"   {result.step:{max(map(len, order))}}  {described(result)}")
        # Here too: whoever keeps only the end of the output still learns their names.
        for failure in result.failures[:NAMED_FAILURES]:
            print(f"      {failure[:FAILURE_WIDTH]}")
    total = sum((result.counted() for result in run.results), Count())
    print(f"\n{total}", flush=True)
    return total


def main(steps: t.Sequence[str], interruption: Interruption) -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    complete = not steps
    plan = PLAN if complete else tuple(((step,),) for step in steps)
    commit = clean_commit() if complete else ""
    if complete:
        GREEN.unlink(missing_ok=True)
    start = time.monotonic()
    run = run_all(plan, interruption)
    total = summarize(plan, run, time.monotonic() - start)
    if commit and not total.failed and clean_commit() == commit:
        GREEN.write_text(f"{commit}\n")
    return 1 if total.failed else 0


if __name__ == "__main__":
    interruption = Interruption()
    # Also SIGINT: in the background of a script it is ignored, which steps inherit, and nothing could interrupt them.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interruption.see)
    sys.exit(main(sys.argv[1:], interruption))
