"""Run the steps of the quality gate one after the other, each as `make STEP`, and count.

All steps run, also after one failed. The last line counts test cases over all runners and one case a step.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

LOGS = Path(".cache/gate/logs")
LIMIT_SECONDS = {"sanity": 1200, "molecule": 1800, "e2e": 1800}
DEFAULT_LIMIT_SECONDS = 600
SHOWN_LINES = 400

# The closing line of pytest, with or without its frame: "== 1 failed, 3 passed in 61.02s (0:01:01) ==".
CLOSING_LINE = re.compile(r"^(?:=+ )?(\d+ [a-z]+(?:, \d+ [a-z]+)*) in [\d.]+s(?: \([\d:]+\))?(?: =+)?$", re.MULTILINE)


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
    seconds: float
    tests: Count

    def counted(self) -> Count:
        return self.tests + (Count(failed=1) if self.fault else Count(passed=1))


def count_tests(log: str) -> Count:
    """Add up what pytest said of each of its runs in this log."""
    total = Count()
    for line in CLOSING_LINE.findall(log):
        words = {word.rstrip("s"): int(number) for number, word in (part.split(" ") for part in line.split(", "))}
        failed = words.get("failed", 0) + words.get("error", 0)
        skipped = words.get("skipped", 0) + words.get("xfailed", 0)
        total += Count(words.get("passed", 0) + words.get("xpassed", 0), failed, skipped)
    return total


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a step with all that it started in the foreground."""
    for sent in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sent)
            process.wait(20)
            return
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def execute(command: t.Sequence[str], log: Path, limit: float) -> str:
    """Run a command into a log; the answer is what went wrong, or nothing."""
    environment = {**os.environ, "NO_COLOR": "1", "ANSIBLE_NOCOLOR": "1", "PY_COLORS": "0", "COLUMNS": "120"}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            status = process.wait(limit)
        except subprocess.TimeoutExpired:
            stop(process)
            return f"not done after {limit:.0f} s"
        except KeyboardInterrupt:
            stop(process)
            raise
    return f"exit status {status}" if status else ""


def run_step(step: str) -> Result:
    print(f"== {step}", flush=True)
    log = LOGS / f"{step}.log"
    start = time.monotonic()
    fault = execute(["make", step], log, LIMIT_SECONDS.get(step, DEFAULT_LIMIT_SECONDS))
    text = log.read_text("utf-8", "replace")
    result = Result(step, fault, time.monotonic() - start, count_tests(text))
    if fault:
        show(log, text)
    print(f"   {described(result)}", flush=True)
    return result


def show(log: Path, text: str) -> None:
    lines = text.splitlines()
    if len(lines) > SHOWN_LINES:
        print(f"   (the last {SHOWN_LINES} of {len(lines)} lines of {log})")
    print("\n".join(f"   | {line}" for line in lines[-SHOWN_LINES:]))


def described(result: Result) -> str:
    outcome = f"FAILED, {result.fault}" if result.fault else "passed"
    tests = f", tests: {result.tests}" if result.tests != Count() else ""
    return f"{outcome}, {result.seconds:.0f} s{tests}"


def main(steps: t.Sequence[str]) -> int:
    LOGS.mkdir(parents=True, exist_ok=True)
    results = [run_step(step) for step in steps]
    width = max(len(step) for step in steps)
    print(f"\n== summary, {sum(result.seconds for result in results):.0f} s; logs in {LOGS}")
    for result in results:
        print(f"   {result.step:{width}}  {described(result)}")
    total = sum((result.counted() for result in results), Count())
    print(f"\n{total}", flush=True)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
