# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks a vLLM API server, and watches what runs it meanwhile; what the answers mean is decided in health_wait.

What reads a log is loaded when there is one to read: compiling it takes longer than asking a server that answers.
"""

from __future__ import annotations

import dataclasses
import re
import shutil
import time
import typing as t

from .._errors import VllmError
from .._host.lock import reader_is_gone
from . import wait as health_wait
from .sources import RunCommand, Source, open_source
from .wait import Process, Report, Response, Verdict

if t.TYPE_CHECKING:
    from .._vllm.diagnosis import Diagnosis
    from .watch import Watch

try:
    import requests

    REQUESTS_IMPORT_ERROR: str | None = None
except ImportError as import_error:
    REQUESTS_IMPORT_ERROR = str(import_error)

LOG_LINES = 40
DEFAULT_TIMEOUT = 1800
# The total time-out is the last resort, so it is generous: an expected start may take so many times as long.
SLACK, SHORTEST_TIMEOUT = 3, 600
# A slice of a wait ends early when there is something new to show, but not for less than this share of it.
SLICE_SHARE = 5
# Seconds after which the log is read for the first time: a server that was healthy before has answered by then.
FIRST_LOOK = 0.75

# What to do about faults that no log tells, by the kind of the verdict.
REMEDIES = {
    "api-key-refused": "Give api_key_file (or api_key) the key that the server was started with.",
    "port-in-use": "Stop the other server, or give this one another port. 'ss -ltnp' on the host shows who listens; "
    "vLLM "
    "0.7.3 to 0.24 do not notice a second vLLM of the same user on their port.",
    "bad-answer": "Check that the weights are complete and are this model's, then remove dtype, quantization, "
    "kv_cache_dtype and attention_backend from engine one by one.",
    "request-refused": "Correct the request: the name is served_model_name, a model without a chat template needs "
    "chat_template in engine (or leave completion out of checks), and max_tokens has to fit max_model_len.",
    "request-failed": "Read the traceback of the request in the server's log.",
    "timeout": "Look at the server's log; raise timeout if it is still loading.",
    "unknown": "Read the log lines below from the top: the first error is the cause, what follows are its "
    "consequences.",
}


class Api:
    """The HTTP surface of one server."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self.params = params
        self.url = str(params["url"]).rstrip("/")
        if not re.match(r"https?://[^/]", self.url):
            raise VllmError(f"url: {self.url!r} is not an address such as http://127.0.0.1:8000.")
        # A request that outlasts the wait would only make it longer; without a wait, there is one of each.
        self.patience = min(params["request_timeout"], params["timeout"] or params["request_timeout"])
        self.model: str | None = params["served_model_name"]
        self.session = requests.Session()
        # The server is near: a proxy from the environment would answer in its place.
        self.session.trust_env = False
        self.session.verify = params.get("ca_path") or params.get("validate_certs", True)
        if params.get("uds"):
            from .._host.unix_http import UnixAdapter

            self.session.mount("http://", UnixAdapter(str(params["uds"])))
        self.key = key = params["api_key"] or _read_key(params["api_key_file"])
        if key:
            if not re.fullmatch(r"[!-~]+", key):
                raise VllmError("The API key holds a blank, a line end or a character outside ASCII: use one word.")
            self.session.headers["Authorization"] = f"Bearer {key}"

    def request(self, method: str, path: str, body: t.Any = None) -> Response:
        limit = (min(5, self.patience), self.patience)
        try:
            reply = self.session.request(method, self.url + path, json=body, timeout=limit, allow_redirects=False)
        except requests.exceptions.RequestException as error:
            return Response(error=_why(error), final=isinstance(error, (requests.exceptions.SSLError, ValueError)))
        try:
            return Response(reply.status_code, reply.json() if reply.content else None)
        except ValueError:
            return Response(reply.status_code, None)

    def ask(self, check: str) -> Verdict:
        if check == "health":
            return health_wait.judge_health(self.request("GET", "/health"))
        if check == "models":
            return health_wait.judge_models(self._models(), self.params["served_model_name"])
        return health_wait.judge_completion(self._complete(), self.params.get("expected_answer"))

    def _models(self) -> Response:
        response = self.request("GET", "/v1/models")
        self.model = self.model or next(iter(health_wait.model_ids(response.body)), None)
        return response

    def _complete(self) -> Response:
        if self.model is None:
            self._models()
        message = {"role": "user", "content": self.params["prompt"]}
        # max_tokens rather than max_completion_tokens: every version of vLLM takes it.
        body = {"model": self.model, "messages": [message], "max_tokens": self.params["max_tokens"], "temperature": 0}
        return self.request("POST", "/v1/chat/completions", body)


def _read_key(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read().strip()
    except (OSError, ValueError) as error:
        raise VllmError(f"Cannot read the API key from {path}: {error}. Check api_key_file and its owner.") from None


def _why(error: BaseException) -> str:
    text = str(error)
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if "refused" in text:
        return "connection refused: nothing listens there yet"
    if isinstance(error, requests.exceptions.SSLError):
        return "TLS: " + re.sub(r"^.*\[SSL: \w+\] (.*?)( \(_ssl.*|\W*)$", r"\1", text)
    if "FileNotFoundError" in text:
        return "there is no such socket yet"
    if "PermissionError" in text:
        return "this user may not open the socket: run with become: true"
    if "Connection aborted" in text:
        return "the connection was closed without an answer: nothing listens behind the port yet"
    return re.sub(r"^.*?(\[Errno -?\d+\] )", r"\1", text).rstrip(")'\" ")[:160]


def run(params: t.Mapping[str, t.Any], run_command: RunCommand | None = None) -> dict[str, t.Any]:
    """Wait for the server and tell what was seen.

    Raises:
        VllmError: when the asking itself is impossible: no requests, no Docker Engine, no readable key.
    """
    if REQUESTS_IMPORT_ERROR is not None:
        raise VllmError(
            f"The Python package requests cannot be imported on this host ({REQUESTS_IMPORT_ERROR}). Install "
            "python3-requests (Debian, Ubuntu, DGX OS) for the interpreter that Ansible uses here."
        )
    source = open_source(params, run_command or _no_command)
    return Session(params, source, run_command).run()


def _no_command(*_args: t.Any, **_kwargs: t.Any) -> tuple[int, str, str]:
    return 127, "", "commands cannot be run here"


def total_timeout(params: t.Mapping[str, t.Any]) -> float:
    """The time after which to give up: as said, or as the expected time of the start suggests."""
    if params.get("timeout") is not None:
        return float(params["timeout"])
    expected = params.get("expected_seconds")
    return float(max(SHORTEST_TIMEOUT, SLACK * expected)) if expected else DEFAULT_TIMEOUT


class Session:
    """One call: a whole wait, or a slice of one that goes on in the next call."""

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
        first = self.carried.get("first")
        wait = health_wait.Wait(
            self.params["checks"],
            self.api.ask,
            self.source.process if self.source else lambda: None,
            self.params["timeout"],
            self.params["stable_for"],
            attempts=int(self.carried.get("attempts", 0)),
            hopeless=self._hopeless,
            pause=self._is_over,
            # A host that was rebooted in between has a younger clock.
            began=min(time.monotonic(), float(self.carried.get("began", time.monotonic()))),
            first=Process(**first) if first else None,
            watchful=self.source is not None,
        )
        report = wait.run()
        result = self._told(report)
        if not report.finished:
            result["resume"] = self._carry(wait)
        return {"changed": False, **result}

    def _hopeless(self) -> str | None:
        if self._watch is None and not self.carried and time.monotonic() - self.started < FIRST_LOOK:
            return None
        self.found = self.watch.look() if self.watch else None
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

    def _carry(self, wait: health_wait.Wait) -> dict[str, t.Any]:
        return {
            "began": wait.began,
            "first": dataclasses.asdict(wait.first) if wait.first else None,
            "attempts": wait.attempts,
            "label": self._label(),
            "watch": self.watch.carry() if self.watch else {},
        }

    def _told(self, report: Report) -> dict[str, t.Any]:
        result: dict[str, t.Any] = {
            "healthy": report.healthy,
            "finished": report.finished,
            "checks": [check.to_dict() for check in report.checks],
            **self._phase(report),
            "elapsed": round(report.elapsed, 3),
            "diagnosis": None,
        }
        if report.finished and not report.healthy:
            result.update(self._failure(report, result))
        return result

    def _phase(self, report: Report) -> dict[str, t.Any]:
        """How far the server came. Where a log tells, it tells more than what was asked."""
        watch = self._watch if report.healthy else self.watch
        if watch and not report.healthy:
            watch.catch_up()
        phases = [phase.to_dict() for phase in watch.timeline.phases()] if watch else []
        name = report.phase if report.finished or not watch else watch.phase.name
        current = phases[-1] if phases and not report.healthy else {"name": name, "percent": None, "detail": ""}
        return {"phase": current["name"], "percent": current["percent"], "detail": current["detail"], "phases": phases}

    def _failure(self, report: Report, result: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        from .._vllm.phases import words
        from .report import last_lines, redacted

        secrets = [self.api.key] if self.api.key else []
        text = ""
        if self.source:
            secrets += self.source.about()["secrets"]
            text = self.source.tail()
        found = redacted(self._diagnosis(report, text), secrets)
        log = last_lines(text, LOG_LINES, secrets)
        told = [found.sentence()]
        if result["phases"]:
            far = words(result["phase"], result["percent"], result["detail"])
            told.append(f"It was {far}, {report.elapsed:.0f} s after the wait began.")
        # What nobody knows has to be read.
        told += [f"  {line}" for line in log] if found.id == "unknown" else []
        return {"diagnosis": found.to_dict(), "log": log, "msg": "\n".join(told)}

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
        kind = "unknown" if report.exited else report.kind or "timeout"
        last = next((check for check in report.checks if not check.ok), None)
        evidence = f"{last.name}: {last.detail}" if last and not report.exited else ""
        cause = cause_sentence(report, str(self.params["url"]))
        return Diagnosis(kind, cause, REMEDIES[kind], evidence, True if kind == "timeout" else None)


def _gpu_memory(run_command: RunCommand | None) -> str:
    """How much memory of the GPUs is used, as text to compare; empty when nobody can tell."""
    if run_command is None or not shutil.which("nvidia-smi"):
        return ""
    status, out, _err = run_command(["timeout", "10", "nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader"])
    return str(out) if status == 0 else ""


def cause_sentence(report: Report, url: str) -> str:
    """What was waited for, and what was seen last."""
    if report.exited:
        return report.failure
    last = next((check for check in report.checks if not check.ok), None)
    detail = "" if last and last.detail == report.failure else f": {report.failure}"
    return f"The server at {url} is not healthy{detail}.{seen_last(report)}"


def seen_last(report: Report) -> str:
    last = next((check for check in report.checks if not check.ok), None)
    attempts = f"{report.attempts} attempt{'s' if report.attempts > 1 else ''}"
    return f" Last seen, in {attempts}: {last.name}: {last.detail}." if last else ""
