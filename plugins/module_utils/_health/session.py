# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One call of M(gpufleet.vllm.vllm_health): a whole wait or a slice of one, and its result.

What reads a log is loaded when there is one to read: compiling it takes longer than asking a server that answers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
import typing as t

from .._errors import VllmError
from .._host.lock import reader_is_gone
from .._host.processes import ProcessState
from .api import Api
from .probe import by_answers, outcome, without_key
from .wait import Report, Verdict, Wait

if t.TYPE_CHECKING:
    from .._vllm.diagnosis import Diagnosis
    from .logfile import RunCommand, Source
    from .watch import Watch

LOG_LINES = 40
DEFAULT_TIMEOUT = 1800
# The total time-out is the last resort, so it is generous: an expected start may take so many times as long.
SLACK, SHORTEST_TIMEOUT = 3, 600
# A slice of a wait ends early when there is something new to show, but not for less than this share of it.
SLICE_SHARE = 5
# A request that a slice cut short is asked again, and has twice the time in the next one.
LONGER = 2
# Seconds after which the log is read for the first time: a server that was healthy before has answered by then.
FIRST_LOOK = 0.75


def run(
    params: t.Mapping[str, t.Any], source: Source | None = None, run_command: RunCommand | None = None
) -> dict[str, t.Any]:
    """Wait for the server, watching the source meanwhile, and return what was seen.

    Raises:
        VllmError: when the asking itself is impossible: no Docker Engine, no such container, no readable key.
    """
    return Session(params, source, run_command).run()


def total_timeout(params: t.Mapping[str, t.Any]) -> float:
    """The time after which to give up: the one given, or what the expected time of the start suggests."""
    if params.get("timeout") is not None:
        return float(params["timeout"])
    expected = params.get("expected_seconds")
    return float(max(SHORTEST_TIMEOUT, SLACK * expected)) if expected else DEFAULT_TIMEOUT


class Session:
    """One call: a whole wait, or a slice of one that the next call continues."""

    def __init__(self, params: t.Mapping[str, t.Any], source: Source | None, run_command: RunCommand | None) -> None:
        self.params = {**params, "timeout": total_timeout(params)}
        self.source = source
        self.facts: dict[str, t.Any] = params.get("gpu_facts") or {}
        self.carried: dict[str, t.Any] = params.get("resume") or {}
        self.api = Api(self.params)
        self.started = time.monotonic()
        self.run_command = run_command
        self.found: Diagnosis | None = None
        self._watch: Watch | None = None

    @property
    def watch(self) -> Watch | None:
        """What watches the start, from the first check on that fails or takes long."""
        if self._watch is None and self.source:
            from .watch import Watch

            self._watch = Watch(
                self.source,
                self.facts,
                float(self.params.get("stall_timeout") or 0),
                carried=self.carried.get("watch") or {"moved": self.started},
                gpu_memory=lambda: _gpu_memory(self.run_command),
            )
        return self._watch

    def run(self) -> dict[str, t.Any]:
        """Wait until it is healthy, hopeless, out of time, or until this slice is over."""
        first, bad_since = self.carried.get("first"), self.carried.get("bad_since")
        wait = Wait(
            self.api.checks,
            self._ask,
            self.source.state if self.source else ProcessState,
            self.params["timeout"],
            self.params["stable_for"],
            attempts=int(self.carried.get("attempts", 0)),
            hopeless=self._hopeless,
            denied=self._denied,
            pause=self._is_over,
            overdue=self._is_overdue,
            # A host that was rebooted in between has a younger clock.
            began=min(time.monotonic(), float(self.carried.get("began", time.monotonic()))),
            first=ProcessState(**first) if first else None,
            watchful=True,
            bad_since=None if bad_since is None else min(time.monotonic(), float(bad_since)),
        )
        report = wait.run()
        result = self._result(report)
        if not report.finished:
            result["resume"] = self._carry(wait)
        return {"changed": False, **result}

    def _ask(self, check: str) -> Verdict:
        """The verdict of one check. A key is for the server alone, so who listens is looked up before each request."""
        if self.api.key and self.source and not self.params.get("uds"):
            from .listener import stranger

            found = stranger(self.source, str(self.params["url"]))
            if found:
                return Verdict(False, found, True, "port-in-use")
        return self.api.ask(check)

    def _hopeless(self) -> str | None:
        if self._watch is None and not self.carried and time.monotonic() - self.started < FIRST_LOOK:
            return None
        self.found = self.watch.look() if self.watch else None
        return self.found.cause if self.found else None

    def _denied(self) -> str | None:
        """Why a server that answers is lost all the same: its log says that the engine is dead, seconds before its
        answers do."""
        from .._vllm.life import engine_is_dead

        text = ""
        # Of a log that cannot be read nothing is known against the server.
        with contextlib.suppress(VllmError):
            text = self.source.life() if self.source else ""
        if not engine_is_dead(text):
            return None
        from .._vllm.diagnosis import diagnose

        found = diagnose(text, ProcessState(running=True), self.facts)
        self.found = found if found.failed and found.final else self.found
        return self.found.cause if self.found else None

    def _label(self) -> str:
        phase = self.watch.phase if self.watch else None
        return f"{phase.name}:{(phase.percent or 0) // 10}" if phase else ""

    def _is_over(self) -> bool:
        """Whether this slice is over: its time is up, there is something new to show, or nobody to show it to."""
        if reader_is_gone():
            return True
        limit, gone = float(self.params.get("slice") or 0), time.monotonic() - self.started
        news = self._label() != self.carried.get("label", "")
        return limit > 0 and (gone >= limit or news and gone >= limit / SLICE_SHARE)

    def _is_overdue(self) -> bool:
        """Whether nobody waits for an answer any more, or it has taken more than a slice may. One that is slow has more
        time in the next slice: asked again and again for as long, it would never come."""
        limit = float(self.params.get("slice") or 0) * LONGER ** int(self.carried.get("cuts", 0))
        return reader_is_gone() or 0 < limit <= time.monotonic() - self.started

    def _carry(self, wait: Wait) -> dict[str, t.Any]:
        return {
            "began": wait.began,
            "first": dataclasses.asdict(wait.first) if wait.first else None,
            "attempts": wait.attempts,
            "bad_since": wait.bad_since,
            "cuts": int(self.carried.get("cuts", 0)) + 1 if wait.cut else 0,
            "label": self._label(),
            "watch": self.watch.carry() if self.watch else {},
        }

    def _result(self, report: Report) -> dict[str, t.Any]:
        result = {**without_key(outcome(report), self.api.key), **self._phase(report)}
        if report.finished and not report.healthy:
            result.update(self._failure(report, result))
        return result

    def _phase(self, report: Report) -> dict[str, t.Any]:
        """How far the server came. Where there is a log, it says more than what was asked."""
        watch = self._watch if report.healthy else self.watch
        if watch and not report.healthy:
            watch.catch_up()
        phases = [phase.to_dict() for phase in watch.timeline.phases()] if watch else []
        name = report.phase if report.finished or not watch else watch.phase.name
        current = phases[-1] if phases and not report.healthy else {"name": name, "percent": None, "detail": ""}
        return {"phase": current["name"], "percent": current["percent"], "detail": current["detail"], "phases": phases}

    def _failure(self, report: Report, result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        from .._host.redaction import redact
        from .._vllm.phases import words
        from .report import last_lines, redacted

        secrets = [self.api.key] if self.api.key else []
        text = ""
        if self.source:
            secrets += self.source.about()["secrets"]
            # Before anything is read from it: what is quoted or cut later holds no half of a secret.
            text = redact(self.source.tail(), secrets)
        found = redacted(self._diagnosis(report, text), secrets)
        log = last_lines(text, LOG_LINES, secrets)
        sentences = [found.sentence()]
        if result["phases"]:
            far = words(result["phase"], result["percent"], result["detail"])
            sentences.append(f"It was {far} {report.elapsed:.0f} s into the wait.")
        # What nobody knows has to be read.
        sentences += [f"  {line}" for line in log] if found.id == "unknown" else []
        return {"diagnosis": found.to_dict(), "reason": found.id, "log": log, "msg": "\n".join(sentences)}

    def _diagnosis(self, report: Report, text: str) -> Diagnosis:
        """The log's own cause, else what the process and the answers showed."""
        from .._vllm.diagnosis import Diagnosis, diagnose

        if self.found:
            return self.found
        if self.source:
            state = self.source.state()
            # It may run again by now.
            state = dataclasses.replace(state, running=False) if report.exited else state
            found = diagnose(text, state, self.facts)
            if found.failed and (found.id != "unknown" or not report.exited):
                return found
            if found.failed:
                return dataclasses.replace(found, cause=f"{report.failure} {found.cause}")
        return Diagnosis(**by_answers(report, str(self.params["url"])))


def _gpu_memory(run_command: RunCommand | None) -> str:
    """How much memory of the GPUs is used, as text to compare; empty when nobody can tell."""
    if run_command is None or not shutil.which("nvidia-smi"):
        return ""
    status, out, _err = run_command(["timeout", "10", "nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader"])
    return str(out) if status == 0 else ""
