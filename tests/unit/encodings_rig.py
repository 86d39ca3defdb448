# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two small encodings, a web server that misbehaves on request, and the module in a process of its own."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import random
import subprocess
import sys
import threading
import typing as t
from pathlib import Path

COLLECTIONS = Path(__file__).resolve().parents[2] / ".ansible" / "collections"
NAMES = ("o200k_base", "cl100k_base")
# Larger than what is read at once, so that a fault can hit the middle.
CONTENT = {name: random.Random(name).randbytes(200_000 + 7 * len(name)) for name in NAMES}
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in CONTENT.items()}
HTML = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"
CUT = 70_000


class Server:
    """Serves CONTENT. Each request takes the next behaviour; the last one stays. C(-> ADDRESS) sends it there."""

    def __init__(self, *behaviours: str, host: str = "127.0.0.1") -> None:
        self.behaviours = list(behaviours) or ["ok"]
        self.requests: list[tuple[str, str]] = []
        self.credentials: list[str | None] = []
        self.released = threading.Event()
        rig = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                rig._answer(self)

            def log_message(self, *_arguments: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer((host, 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self.url = f"http://{host}:{self._http.server_port}/encodings"

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.released.set()
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    def _answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        behaviour = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
        name = os.path.basename(request.path.partition("?")[0]).replace(".tiktoken", "")
        self.requests.append((name, request.headers.get("Range", "")))
        self.credentials.append(request.headers.get("Authorization"))
        if behaviour.startswith("-> "):
            _redirect(request, behaviour[3:])
        else:
            _BEHAVIOURS[behaviour](self, request, CONTENT[name])


def _redirect(request: http.server.BaseHTTPRequestHandler, target: str) -> None:
    request.send_response(302)
    request.send_header("Location", target)
    request.send_header("Content-Length", "0")
    request.end_headers()


def _offset(request: http.server.BaseHTTPRequestHandler) -> int:
    wanted = request.headers.get("Range", "")
    return int(wanted[len("bytes=") : -1]) if wanted else 0


def _send(
    request: http.server.BaseHTTPRequestHandler, body: bytes, start: int = 0, announced: int | None = None
) -> None:
    length = len(body) - start if announced is None else announced
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    request.send_header("Content-Length", str(length))
    request.end_headers()
    request.wfile.write(body[start:])
    request.wfile.flush()


def _ok(_server: Server, request: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    _send(request, content, _offset(request))


def _no_range(_server: Server, request: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    _send(request, content)


def _cut(_server: Server, request: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    start = _offset(request)
    _send(request, content[: start + CUT], start, announced=len(content) - start)


def _cut_unannounced(_server: Server, request: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    request.send_response(200)
    request.end_headers()
    request.wfile.write(content[:CUT])


def _stall(server: Server, request: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    _cut(server, request, content)
    server.released.wait(30)


def _mute(server: Server, _request: http.server.BaseHTTPRequestHandler, _content: bytes) -> None:
    server.released.wait(30)


def _truncated(_server: Server, request: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    start = _offset(request)
    if start >= CUT:
        request.send_error(416)
    else:
        _send(request, content[:CUT], start)


def _corrupt(_server: Server, request: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    _send(request, b"x" + content[1:])


def _long(_server: Server, request: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    _send(request, content + b"more")


def _html(_server: Server, request: http.server.BaseHTTPRequestHandler, _content: bytes) -> None:
    _send(request, HTML)


def _status(code: int) -> t.Callable[[Server, http.server.BaseHTTPRequestHandler, bytes], None]:
    def answer(_server: Server, request: http.server.BaseHTTPRequestHandler, _content: bytes) -> None:
        request.send_error(code)

    return answer


_BEHAVIOURS = {
    "ok": _ok,
    "no range": _no_range,
    "cut": _cut,
    "cut unannounced": _cut_unannounced,
    "stall": _stall,
    "mute": _mute,
    "truncated": _truncated,
    "corrupt": _corrupt,
    "long": _long,
    "html": _html,
    **{str(code): _status(code) for code in (401, 403, 404, 416, 500, 503)},
}


_CHILD = r"""
import json, os, resource, sys

wish = json.loads(sys.argv[1])
sys.path.insert(0, wish["collections"])
from ansible.module_utils import basic
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm import encodings as vllm_encodings
from ansible_collections.gpufleet.vllm.plugins.modules import tiktoken_encodings

vllm_encodings.KNOWN = {name: vllm_encodings.Encoding(name, *rest) for name, rest in wish["known"].items()}
if wish["believes_free"]:
    vllm_encodings.free_bytes = lambda directory: wish["believes_free"]
if wish["file_limit"]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (wish["file_limit"],) * 2)
basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": wish["arguments"]}).encode()
basic._ANSIBLE_PROFILE = "legacy"
try:
    tiktoken_encodings.main()
finally:
    print()
    print(json.dumps(sorted(os.listdir(wish["arguments"]["directory"]))))
"""


def child_command(arguments: t.Mapping[str, t.Any], believes_free: int = 0, file_limit: int = 0) -> list[str]:
    """The command that runs the module on the small encodings, under limits of its own."""
    wish = {
        "collections": str(COLLECTIONS),
        "known": {name: (SHA256[name], len(CONTENT[name])) for name in NAMES},
        "arguments": {"timeout": 5, **arguments},
        "believes_free": believes_free,
        "file_limit": file_limit,
    }
    return [sys.executable, "-c", _CHILD, json.dumps(wish)]


def run_child(command: t.Sequence[str]) -> tuple[dict[str, t.Any], list[str]]:
    """What the module printed, and what its directory holds in the end."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if len(lines) != 2:
        raise AssertionError(f"the module ended without a result: {done.stdout}{done.stderr}")
    return json.loads(lines[0]), json.loads(lines[1])


def on_small_disk(directory: Path, kib: int, command: t.Sequence[str]) -> list[str]:
    """Run a command where the directory is a file system of that size, which goes when the command ends."""
    unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
    mount = 'mount -t tmpfs -o size="$1"k tmpfs "$2" && shift 2 && exec "$@"'
    return [*unshare, "sh", "-c", mount, "sh", str(kib), str(directory), *command]


def without_privileges(command: t.Sequence[str]) -> list[str]:
    """Run a command so that modes of files bind it, as they bind everybody but root."""
    return [*(["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []), *command]
