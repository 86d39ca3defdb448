# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server is asked while it serves: its metrics, and a request of one token; and what the answers say of it."""

from __future__ import annotations

import os
import stat
import typing as t

from .._health.listener import stranger
from .._health.logfile import Source
from .._host.http import LASTING, HttpError, Server
from .._server.spec import ServerSpec
from .decide import Outcome
from .metrics import Reading, read_metrics

# Seconds for the metrics, which the API server has at hand; bytes of any answer.
METRICS_TIMEOUT = 5.0
CONNECT_TIMEOUT = 5.0
LIMIT = 8 << 20
KEY_LIMIT = 64 << 10
# Which of several engines is to answer; others than data parallel servers do not heed it.
RANK = "X-data-parallel-rank"
# What says nothing about the engine: this request is none that the server takes, or it has too many.
UNCLEAR = range(400, 500)
UNAVAILABLE = 503


class Asker:
    """The API of one server."""

    def __init__(self, spec: ServerSpec, owner: int = 0) -> None:
        self.spec, self.owner = spec, owner
        self.pools = spec.access.get("runner") == "pooling"

    def metrics(self) -> tuple[bool, Reading | None]:
        """Whether it answers, and its metrics where it has some."""
        try:
            answer = self._server().request("GET", "/metrics", None, METRICS_TIMEOUT, CONNECT_TIMEOUT, LIMIT)
        except HttpError:
            return False, None
        if answer.status != 200:
            return True, None
        return True, read_metrics(answer.body.decode("utf-8", errors="replace"))

    def canary(self, engine: str, timeout: float, source: Source | None = None) -> tuple[Outcome, str]:
        """Ask for one token: what became of it, and what was seen."""
        key = self._key()
        if key and source:
            somebody = stranger(source, self.spec.url)
            if somebody:
                return "failed", somebody
        path, body = self._question()
        headers = {**({"Authorization": f"Bearer {key}"} if key else {}), **({RANK: engine} if engine else {})}
        try:
            answer = self._server(headers).request("POST", path, body, timeout, CONNECT_TIMEOUT, LIMIT)
        except HttpError as error:
            return ("unclear" if error.kind in (*LASTING, "permission") else "failed"), str(error)
        if answer.status == 200:
            return "answered", ""
        if answer.status in UNCLEAR or answer.status == UNAVAILABLE:
            return "unclear", f"HTTP {answer.status}"
        return "failed", f"HTTP {answer.status}"

    def _question(self) -> tuple[str, dict[str, t.Any]]:
        model = self.spec.served_model_names[0]
        if self.pools:
            return "/v1/embeddings", {"model": model, "input": "Hi"}
        # Not a chat, for which a model may lack a template.
        return "/v1/completions", {"model": model, "prompt": "Hi", "max_tokens": 1, "temperature": 0}

    def _key(self) -> str:
        return key_in(self.spec.api_key_file, self.owner) if self.spec.api_key_file else ""

    def _server(self, headers: t.Mapping[str, str] | None = None) -> Server:
        # A certificate is for the name that clients know, which the host does not ask by.
        return Server(self.spec.url, self.spec.access.get("uds"), None, False, headers or {})


def key_in(path: str, owner: int) -> str:
    """The key in a file, which the record of a user names: he is not to have root send him what is not his."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or (owner and found.st_uid != owner):
                return ""
            return stream.read(KEY_LIMIT).decode("utf-8", errors="replace").strip()
    except OSError:
        return ""
