# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Healthy means a correct answer: pure predicates over what a server said, and a clock that asks again.

What does the asking comes from outside, and so do time and sleep: tests take no time. All times are seconds.
"""

from __future__ import annotations

import math
import re
import threading
import time
import typing as t
from dataclasses import dataclass, field, replace

from .._host.processes import ProcessState

CHECKS = ("health", "models", "completion", "embedding", "score")
# What is asked where nobody says; in place of the last one, what the server does instead.
DEFAULT_CHECKS = ("health", "models", "completion")
# What a server that generates nothing may do instead, in the order in which it is asked for.
POOLING_CHECKS = ("embedding", "score")
# A short unit, four times or more and nothing else: "!!!!!", "multmultmultmult".
REPEATED = re.compile(r"(.{1,24}?)\1{3,}", re.DOTALL)
EXCERPT = 120
# Names of models that are shown of a longer list, and characters of an answer that are looked at.
NAMES = 3
ANSWER = 64 * 1024
# Statuses of what a server does not do: there is no such route, no such task, or the request is wrong for its model.
REFUSALS = (400, 404, 405, 422, 501)
# Kinds of faults that a server does not grow out of, once it answers at all.
LASTING = ("bad-answer", "request-failed")


@dataclass(frozen=True)
class Response:
    """What an HTTP request brought: a status and JSON, or the reason why there is none."""

    status: int | None = None
    body: t.Any = None
    error: str = ""
    # The reason will still hold the next time.
    final: bool = False


@dataclass(frozen=True)
class Verdict:
    """What one answer shows: whether the check is passed, and why."""

    ok: bool
    detail: str
    # A fault that asking again does not cure.
    final: bool = False
    # The id of the diagnosis, for a fault that no log tells.
    kind: str = ""
    # The check that was made in place of the one that was asked for.
    instead: str = ""
    # How many tokens the answer has, where the server says that.
    tokens: int | None = None


@dataclass(frozen=True)
class CheckResult:
    """The last verdict of a check, and how many seconds it took."""

    name: str
    ok: bool
    detail: str
    seconds: float
    tokens: int | None = None

    def to_dict(self) -> dict[str, t.Any]:
        """One of C(checks) in the result of M(gpufleet.vllm.vllm_health)."""
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "seconds": round(self.seconds, 3)}


@dataclass(frozen=True)
class Report:
    """What a wait, or a slice of one, came to. Seconds count from the beginning of the wait."""

    healthy: bool
    checks: tuple[CheckResult, ...]
    phase: str
    elapsed: float
    attempts: int
    # Why it is given up; empty when healthy.
    failure: str = ""
    exited: bool = False
    # False when only a slice of the wait is over.
    finished: bool = True
    # The kind of the last verdict that failed.
    kind: str = ""
    # The time that was up, in seconds.
    timeout: float | None = None


def _unanswered(response: Response) -> Verdict | None:
    if response.status is None:
        return Verdict(False, response.error or "no answer", response.final)
    if response.status in (401, 403):
        return Verdict(False, f"HTTP {response.status}: the server rejected the API key", True, "api-key-refused")
    if response.status != 200:
        return Verdict(False, f"HTTP {response.status}{_reason(response.body)}")
    return None


def _reason(body: t.Any) -> str:
    error = body.get("error") if isinstance(body, dict) else None
    message = error.get("message") if isinstance(error, dict) else error
    return f": {_excerpt(message)}" if isinstance(message, str) and message else ""


def _excerpt(text: str) -> str:
    """The beginning of a text on one line, without what a terminal would obey."""
    text = " ".join(text[: EXCERPT * 4].split())
    text = text if len(text) <= EXCERPT else text[: EXCERPT - 3] + "..."
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)


def _names(listed: t.Sequence[str]) -> str:
    more = f" and {len(listed) - NAMES} more" if len(listed) > NAMES else ""
    return ", ".join(map(_excerpt, listed[:NAMES])) + more


def judge_health(response: Response) -> Verdict:
    """C(/health) answers 200. That alone proves little: it stays 200 for a hung engine."""
    return _unanswered(response) or Verdict(True, "HTTP 200")


def names(wanted: str | t.Sequence[str] | None) -> tuple[str, ...]:
    """The names that a model is to be served under: one, several, or none that anybody said."""
    several = wanted if isinstance(wanted, (list, tuple)) else [wanted]
    return tuple(str(name) for name in several if name not in (None, ""))


def judge_models(response: Response, wanted: str | t.Sequence[str] | None) -> Verdict:
    """C(/v1/models) lists every expected name; where one is missing, someone else owns the port."""
    refused = _unanswered(response)
    if refused:
        return refused
    listed = model_ids(response.body)
    if not listed:
        what = (
            "the list of models is empty" if isinstance(response.body, dict) else "the answer is not a list of models"
        )
        return Verdict(False, what)
    missing = [name for name in names(wanted) if name not in listed]
    if missing:
        return Verdict(
            False,
            f"serves {_names(listed)}, not {', '.join(missing)}: another server answers on this port",
            True,
            "port-in-use",
        )
    return Verdict(True, f"serves {_names(listed)}")


def model_ids(body: t.Any) -> list[str]:
    """The names in an answer of C(/v1/models); none where it is something else."""
    data = body.get("data") if isinstance(body, dict) else None
    listed = [m.get("id") for m in data if isinstance(m, dict)] if isinstance(data, list) else []
    return [name for name in listed if isinstance(name, str) and name]


def judge_completion(response: Response, expected: str | None = None) -> Verdict:
    """A chat completion holds text, as content or as reasoning, that is not one token over and over.

    Where an answer is expected (a regular expression), the text has to hold it.
    """
    refused = _unanswered(response)
    if refused:
        return _refused(refused, response.status)
    text = answer(response.body)
    if text is None:
        return Verdict(False, "the answer is not a chat completion")
    if not text.strip():
        return Verdict(False, "the answer is empty: neither content nor reasoning", kind="bad-answer")
    if is_repeated(text):
        return Verdict(False, f"the answer is one token repeated: {_excerpt(text)!r}", kind="bad-answer")
    if expected and not re.search(expected, text, re.IGNORECASE):
        return Verdict(False, f"the answer does not hold {expected!r}: {_excerpt(text)!r}", kind="bad-answer")
    return Verdict(True, _excerpt(text), tokens=_tokens(response.body))


def _tokens(body: t.Any) -> int | None:
    """How many tokens were generated, as the server counts them."""
    usage = body.get("usage")
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    return count if isinstance(count, int) and count > 0 else None


def judge_embedding(response: Response) -> Verdict:
    """An embedding holds numbers, not all of them zero."""
    refused = _unanswered(response)
    if refused:
        return _refused(refused, response.status)
    found = _first(response.body, "embedding")
    if not isinstance(found, list):
        return Verdict(False, "the answer is not an embedding")
    if not (found and all(map(_is_finite, found)) and any(found)):
        return Verdict(False, f"the embedding has no direction: {_excerpt(str(found[:4]))}", kind="bad-answer")
    return Verdict(True, f"an embedding of {len(found)} numbers")


def judge_score(response: Response) -> Verdict:
    """A score of two texts is a number."""
    refused = _unanswered(response)
    if refused:
        return _refused(refused, response.status)
    found = _first(response.body, "score")
    if found is None:
        return Verdict(False, "the answer is not a score")
    if not _is_finite(found):
        return Verdict(False, f"the score is not a number: {_excerpt(str(found))}", kind="bad-answer")
    return Verdict(True, f"a score of {found:.3g}")


def _first(body: t.Any, key: str) -> t.Any:
    """The value in the first entry of an answer's data. JSON of vLLM's has NaN as null."""
    data = body.get("data") if isinstance(body, dict) else None
    first = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}
    return first[key] if first.get(key) is not None else math.nan if key in first else None


def _is_finite(value: t.Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _refused(refused: Verdict, status: int | None) -> Verdict:
    if status in REFUSALS:
        # A server that is up refuses the same request again: no chat template, no such model.
        return Verdict(False, refused.detail, True, "request-refused")
    kind = "request-failed" if status in (500, 502) else refused.kind
    return Verdict(False, refused.detail, refused.final, kind)


def answer(body: t.Any) -> str | None:
    """Content and reasoning of the first choice (C(reasoning_content) before vLLM 0.12), or None without a choice."""
    choices = body.get("choices") if isinstance(body, dict) else None
    message = (
        choices[0].get("message") if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
    )
    if not isinstance(message, dict):
        return None
    parts = (message.get("content"), message.get("reasoning"), message.get("reasoning_content"))
    return " ".join(part[:ANSWER] for part in parts if isinstance(part, str))


def is_repeated(text: str) -> bool:
    """Whether a text is a short unit over and over, blanks aside."""
    squeezed = "".join(text.split())
    return REPEATED.fullmatch(squeezed) is not None


def exit_sentence(first: ProcessState, now: ProcessState, elapsed: float) -> str | None:
    """Why the process cannot become healthy any more, or None while it lives, or where nobody knows."""
    if now.running is None:
        return None
    restarted = now.started_at != first.started_at or now.restarts > first.restarts
    if now.running and not restarted:
        return None
    status = "" if now.exit_status is None or (now.running and restarted) else f" with status {now.exit_status}"
    again = " and was started again by its restart policy" if restarted else ""
    if first.running is False and not restarted:
        return f"{now.name} had exited{status} before the wait began."
    return f"{now.name} exited{status}{again}, {elapsed:.0f} s after the wait began, before it was healthy."


def clock(
    timeout: float,
    first: float,
    cap: float,
    monotonic: t.Callable[[], float],
    sleep: t.Callable[[float], None],
    began: float | None = None,
) -> t.Iterator[float]:
    """Yield the seconds gone, at once and then after growing, capped sleeps, until the time is up."""
    start, pause = monotonic() if began is None else began, first
    while True:
        elapsed = monotonic() - start
        yield elapsed
        left = timeout - (monotonic() - start)
        if left <= 0:
            return
        sleep(min(pause, left))
        pause = min(pause * 1.5, cap)


@dataclass
class Wait:
    """One wait: which checks, asked by whom, against which clock."""

    checks: t.Sequence[str]
    ask: t.Callable[[str], Verdict]
    state: t.Callable[[], ProcessState]
    timeout: float
    # How long an answer has to stand before it is believed.
    stable_for: float
    # Whether it is believed at once.
    once: bool = False
    interval: float = 0.25
    monotonic: t.Callable[[], float] = time.monotonic
    sleep: t.Callable[[float], None] = time.sleep
    results: dict[str, CheckResult] = field(default_factory=dict)
    attempts: int = 0
    # Says why waiting is pointless, or nothing. Asked between the checks, and during one that takes long.
    hopeless: t.Callable[[], str | None] = lambda: None
    # Says why good answers are not to be believed, or nothing. Asked once, when all checks are good.
    denied: t.Callable[[], str | None] = lambda: None
    # Whether this slice of the wait is over, and whether it may not even wait for the answer to a request.
    pause: t.Callable[[], bool] = lambda: False
    overdue: t.Callable[[], bool] = lambda: False
    # What a slice before this one saw: when the wait began, and the process as it was then.
    began: float | None = None
    first: ProcessState | None = None
    # Ask in a thread, so that a request that hangs does not hide what happens meanwhile.
    watchful: bool = False
    # Whether the last request was given up because this slice was over.
    cut: bool = False
    # How long a server that is up may give a bad answer before that is final. A slow one has all the time.
    patience: float = 15.0
    kind: str = ""
    bad_since: float | None = None

    def run(self) -> Report:
        self.began = self.monotonic() if self.began is None else self.began
        first = self.first = self.first or self.state()
        elapsed = 0.0
        for elapsed in clock(self.timeout, 0.1, self.interval, self.monotonic, self.sleep, self.began):
            self.attempts += 1
            gone = self._gone(first, elapsed)
            if gone:
                return self._report(elapsed, gone, exited=True)
            verdict = self._ask_all()
            if verdict.ok and self._stands(first, elapsed):
                return self._report(self._since(elapsed), self.denied() or "")
            gone = None if verdict.ok else self._gone(first, self.monotonic() - self.began)
            if gone:
                return self._report(self.monotonic() - self.began, gone, exited=True)
            pointless = verdict.detail if verdict.final or self._stays_bad(verdict) else self.hopeless()
            if pointless:
                return self._report(elapsed, pointless)
            if self.pause():
                return self._report(elapsed, "", finished=False)
        gone = self._gone(first, elapsed)
        if gone:
            return self._report(elapsed, gone, exited=True)
        return replace(self._report(elapsed, f"not healthy within {self.timeout:.0f} s"), timeout=self.timeout)

    def _gone(self, first: ProcessState, elapsed: float) -> str | None:
        return exit_sentence(first, self.state(), elapsed)

    def _ask_all(self) -> Verdict:
        """Ask in order and stop at the first that fails: the later ones would only say the same."""
        verdict = Verdict(True, "")
        for name in self.checks:
            began = self.monotonic()
            verdict = self._asked_watchfully(name) if self.watchful else self.ask(name)
            shown = verdict.instead or name
            gone = self.monotonic() - began
            self.results[name] = CheckResult(shown, verdict.ok, verdict.detail, gone, verdict.tokens)
            if not verdict.ok:
                self.kind = verdict.kind
                return verdict
        return verdict

    def _stays_bad(self, verdict: Verdict) -> bool:
        """Whether an answer that was asked for is wrong again and again: nothing that is still to come mends it."""
        now = self.monotonic()
        if verdict.ok or verdict.kind not in LASTING:
            self.bad_since = None
            return False
        self.bad_since = now if self.bad_since is None else self.bad_since
        return now - self.bad_since > self.patience

    def _asked_watchfully(self, name: str) -> Verdict:
        """The verdict of a check, or sooner the end of all hope for one, of the time or of this slice."""
        verdicts: list[Verdict] = []
        thread = threading.Thread(target=lambda: verdicts.append(self.ask(name)), daemon=True)
        thread.start()
        thread.join(self.interval)
        while thread.is_alive():
            pointless = self._gone(self.first or self.state(), 0) or self.hopeless()
            if pointless:
                return Verdict(False, pointless, final=True)
            if self._is_late():
                return Verdict(False, "no answer in time")
            self.cut = self.overdue()
            if self.cut:
                return Verdict(False, "no answer yet")
            thread.join(self.interval)
        return verdicts[0] if verdicts else Verdict(False, "the check itself failed")

    def _is_late(self) -> bool:
        """Whether the time is up. Without any, each request has its own."""
        began = self.monotonic() if self.began is None else self.began
        return 0 < self.timeout <= self.monotonic() - began

    def _stands(self, first: ProcessState, elapsed: float) -> bool:
        """Ask once more after a moment, unless the server has been up for long: then the first answer is that proof."""
        if self.once or first.age > 60:
            return True
        self.sleep(self.stable_for)
        return self._gone(first, elapsed) is None and self._ask_all().ok

    def _since(self, elapsed: float) -> float:
        return elapsed + sum(result.seconds for result in self.results.values())

    def _report(self, elapsed: float, failure: str, exited: bool = False, finished: bool = True) -> Report:
        results = tuple(self.results[name] for name in self.checks if name in self.results)
        healthy = finished and not failure
        phase = "exited" if exited else "ready" if healthy else self._waits_for()
        return Report(healthy, results, phase, elapsed, self.attempts, failure, exited, finished, self.kind)

    def _waits_for(self) -> str:
        missing = [name for name in self.checks if not (name in self.results and self.results[name].ok)]
        return f"waiting for {missing[0]}" if missing else "settling"
