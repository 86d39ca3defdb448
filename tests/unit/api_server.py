# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that answers as a test wants, and the parameters that ask it."""

from __future__ import annotations

import json
import threading
import time
import typing as t
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


class Handler(BaseHTTPRequestHandler):
    """What a test tells it to answer, by path; what it was asked is kept."""

    protocol_version = "HTTP/1.1"
    answers: t.ClassVar[dict[str, tuple[int, t.Any]]] = {}
    asked: t.ClassVar[list[tuple[str, str, t.Any]]] = []
    headers_seen: t.ClassVar[list[str | None]] = []

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        content = json.loads(self.rfile.read(length)) if length else None
        self.asked.append((self.command, self.path, content))
        self.headers_seen.append(self.headers.get("Authorization"))
        status, body = self.answers.get(self.path, (404, {}))
        if body == "hang":
            time.sleep(1.2)
        raw = body.encode() if isinstance(body, str) else json.dumps(body).encode() if body is not None else b""
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/health")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_GET = do_POST = _answer

    def log_message(self, *_arguments: t.Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """A client that gave up is no error of this server."""


@pytest.fixture(scope="module")
def address() -> t.Iterator[str]:
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


HEALTHY: dict[str, tuple[int, t.Any]] = {
    "/health": (200, None),
    "/v1/models": (200, {"data": [{"id": "gpt"}]}),
    "/v1/chat/completions": (200, {"choices": [{"message": {"content": None, "reasoning": "We need to"}}]}),
}


@pytest.fixture(autouse=True)
def healthy() -> None:
    Handler.answers = dict(HEALTHY)
    Handler.asked.clear()
    Handler.headers_seen.clear()


def params(url: str, **said: t.Any) -> dict[str, t.Any]:
    defaults = {
        "url": url,
        "served_model_name": None,
        "api_key": None,
        "api_key_file": None,
        "timeout": 0,
        "request_timeout": 5,
        "stable_for": 0.0,
        "checks": ["health", "models", "completion"],
        "prompt": "Hello?",
        "max_tokens": 16,
        "container": None,
        "docker_host": None,
    }
    return {**defaults, **said}
