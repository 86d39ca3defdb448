# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a vLLM API server is asked over HTTP, and why there may be no answer; what the answers mean is in wait."""

from __future__ import annotations

import os
import re
import stat
import typing as t
from dataclasses import replace

from .._errors import VllmError
from .._host.http import LASTING, HttpError, Kind, Server
from . import wait
from .wait import Response, Verdict

# Seconds for a connection: the server is near.
CONNECT_TIMEOUT = 5.0
# Bytes of an answer: a completion of a few tokens and a list of some models are far less.
LIMIT = 1024 * 1024
# Bytes of a file that holds a key.
KEY_LIMIT = 64 * 1024

# What to ask, and how: the options of M(gpufleet.vllm.vllm_health) for it, and the defaults of whoever asks besides.
OPTIONS: dict[str, dict[str, t.Any]] = {
    "url": {"type": "str", "default": "http://127.0.0.1:8000"},
    "served_model_name": {"type": "raw"},
    "api_key": {"type": "str", "no_log": True},
    "api_key_file": {"type": "path", "no_log": False},
    "uds": {"type": "path"},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "request_timeout": {"type": "int", "default": 120},
    "checks": {"type": "list", "elements": "str", "choices": list(wait.CHECKS)},
    "runner": {"type": "str", "choices": ["generate", "pooling"]},
    "prompt": {"type": "str", "default": "Reply with one short sentence."},
    "expected_answer": {"type": "str"},
    "max_tokens": {"type": "int", "default": 16, "no_log": False},
}

# Why there is no answer, for people who wait for a server.
WHY: dict[Kind, str] = {
    "timeout": "no answer in time",
    "refused": "connection refused: nothing listens there yet",
    "missing": "there is no such socket yet",
    "permission": "this user may not open the socket: run with become: true",
    "closed": "the connection was closed without an answer: nothing listens behind the port yet",
}


class Api:
    """The HTTP surface of one server."""

    def __init__(self, params: t.Mapping[str, t.Any]) -> None:
        self.params = params
        url = str(params["url"]).rstrip("/")
        if not re.match(r"https?://[^/]", url):
            raise VllmError(f"url must be an address such as http://127.0.0.1:8000; got {url!r}.")
        # A request that outlasts the wait would only make it longer; without a wait, there is one of each.
        self.patience = min(params["request_timeout"], params["timeout"] or params["request_timeout"])
        self.names = wait.names(params["served_model_name"])
        self.model: str | None = next(iter(self.names), None)
        self.checks: t.Sequence[str] = params.get("checks") or wait.DEFAULT_CHECKS
        # What the last of the checks may be; once one of them was answered, that one.
        self.tasks = self._tasks()
        self.key = _key(params)
        self.server = Server(
            url,
            params.get("uds"),
            params.get("ca_path"),
            params.get("validate_certs", True),
            {"Authorization": f"Bearer {self.key}"} if self.key else {},
        )

    def request(self, method: str, path: str, body: t.Any = None) -> Response:
        """Ask once; what went wrong is part of the response."""
        try:
            answer = self.server.request(method, path, body, self.patience, CONNECT_TIMEOUT, LIMIT)
        except HttpError as error:
            return Response(error=why(error), final=error.kind in LASTING)
        try:
            return Response(answer.status, answer.json())
        except HttpError:
            return Response(answer.status, None)

    def ask(self, check: str) -> Verdict:
        """The verdict of one check."""
        if check == "health":
            return wait.judge_health(self.request("GET", "/health"))
        if check == "models":
            return wait.judge_models(self._models(), self.names)
        if self.params.get("checks"):
            return self._try(check)[1]
        return self._first_of(check)

    def _tasks(self) -> tuple[str, ...]:
        """What may be asked for where nobody says what to ask."""
        every = ("completion", *wait.POOLING_CHECKS)
        return {"generate": every[:1], "pooling": every[1:]}.get(str(self.params.get("runner")), every)

    def _first_of(self, check: str) -> Verdict:
        """The verdict of what the server does: of the first task that it does not refuse."""
        verdicts = {}
        for task in self.tasks:
            status, verdicts[task] = self._try(task)
            if status not in wait.REFUSALS:
                # Nobody answered, or this one did.
                self.tasks = (task,) if status == 200 else self.tasks
                return replace(verdicts[task], instead="" if task == check else task)
        return verdicts[self.tasks[0]]

    def _try(self, task: str) -> tuple[int | None, Verdict]:
        if task == "embedding":
            response = self._asked("/v1/embeddings", {"input": self.params["prompt"]})
            return response.status, wait.judge_embedding(response)
        if task == "score":
            # Where it is in every version; /v1/score is deprecated.
            texts = {"text_1": self.params["prompt"], "text_2": self.params["prompt"]}
            response = self._asked("/score", texts)
            return response.status, wait.judge_score(response)
        response = self._complete()
        return response.status, wait.judge_completion(response, self.params.get("expected_answer"))

    def _models(self) -> Response:
        response = self.request("GET", "/v1/models")
        self.model = self.model or next(iter(wait.model_ids(response.body)), None)
        return response

    def _complete(self) -> Response:
        message = {"role": "user", "content": self.params["prompt"]}
        # max_tokens rather than max_completion_tokens: every version of vLLM takes it.
        limits = {"max_tokens": self.params["max_tokens"], "temperature": 0}
        return self._asked("/v1/chat/completions", {"messages": [message], **limits})

    def _asked(self, path: str, body: t.Mapping[str, t.Any]) -> Response:
        if self.model is None:
            self._models()
        return self.request("POST", path, {"model": self.model, **body})


def _key(params: t.Mapping[str, t.Any]) -> str | None:
    key = params["api_key"] or _read_key(params["api_key_file"])
    if key and not re.fullmatch(r"[!-~]+", key):
        raise VllmError(
            "The API key contains a space, a newline or a non-ASCII character: use one word.", "secret-invalid"
        )
    return key


def _read_key(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return _content(path).decode("utf-8").strip()
    except (OSError, ValueError) as error:
        message = f"Cannot read the API key from {path}: {error}. Check api_key_file and its owner."
        missing = isinstance(error, FileNotFoundError)
        denied = isinstance(error, PermissionError)
        raise VllmError(
            message, "secret-missing" if missing else "permission-denied" if denied else "secret-invalid"
        ) from None


def _content(path: str) -> bytes:
    """A small regular file: a FIFO would be waited for, and a device has no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is not a file")
        return os.read(descriptor, KEY_LIMIT)
    finally:
        os.close(descriptor)


def why(error: HttpError) -> str:
    """Why there is no answer, in a few words."""
    if error.kind == "tls":
        return f"TLS: {error}"
    return WHY.get(error.kind, str(error)[:160])
