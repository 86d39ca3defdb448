# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A container engine in miniature: stand-ins for vLLM as processes, and the few calls of the Engine API that a watchdog
makes. Like Docker it starts again what ended by itself (unless-stopped), and counts that."""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import http.server
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
import typing as t
import urllib.parse
from dataclasses import dataclass, field
from pathlib import Path

VLLM = Path(__file__).parent / "standin/usr/local/bin/vllm"
BACKOFF = 0.2
ADDRESS = ("--host", "127.0.0.1", "--port", "{port}")


@dataclass
class Container:
    """A stand-in that is started, stopped and started again."""

    name: str
    port: int
    home: Path
    policy: str = "unless-stopped"
    # What it runs instead of the stand-in, and with which variables; {port} is its port.
    command: tuple[str, ...] = (sys.executable, str(VLLM), "serve", "Qwen/Qwen2.5-0.5B-Instruct", *ADDRESS)
    environment: t.Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    started_at: str = ""
    restarts: int = 0
    is_stopped: bool = False
    starts: list[float] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def identity(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> Path:
        return self.home / "log"

    def set_fault(self, **fault: t.Any) -> None:
        whole = self.home / "whole.json"
        whole.write_text(json.dumps({"fault": "", "load_seconds": 0.2, **fault}), encoding="utf-8")
        whole.replace(self.home / "standin.json")

    def start(self) -> None:
        with self.lock:
            if self.runs:
                return
            self.is_stopped, self.restarts = False, 0
            self._start()

    def _start(self) -> None:
        environment = {**os.environ, "HF_HOME": str(self.home), "STANDIN_WATCHDOG_SECONDS": "0.1", **self.environment}
        command = [word.format(port=self.port) for word in self.command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
        self.starts.append(time.monotonic())
        self.started_at = datetime.datetime.now(datetime.timezone.utc).isoformat().replace("+00:00", "Z")

    def stop(self, patience: float) -> None:
        with self.lock:
            self.is_stopped = True
            process = self.process
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
        # Its engine too, as with a container.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)

    def supervise(self) -> None:
        """Start again what ended by itself."""
        with self.lock:
            if self.process is None or self.runs or self.is_stopped or self.policy != "unless-stopped":
                return
            self.restarts += 1
            self._start()

    def inspect(self) -> dict[str, t.Any]:
        with self.lock:
            process = self.process
            ended = self.process is not None and not self.runs
            returns = ended and not self.is_stopped and self.policy == "unless-stopped"
            state = {
                "Status": "restarting" if returns else "exited" if ended else "running",
                "Running": self.runs or returns,
                "Restarting": returns,
                "Paused": False,
                "OOMKilled": False,
                "Pid": process.pid if process and self.runs else 0,
                "ExitCode": (process.returncode or 0) if process else 0,
                "Error": "",
                "StartedAt": self.started_at,
            }
            config = {"Tty": True, "Cmd": [], "Env": [], "Labels": {}, "Entrypoint": [], "Image": "stand-in"}
            host = {"RestartPolicy": {"Name": self.policy}, "NetworkMode": "bridge", "Binds": []}
            about = {"Id": self.identity, "Name": f"/{self.name}", "Image": "sha256:0", "RestartCount": self.restarts}
            return {**about, "State": state, "Config": config, "HostConfig": host}

    def logs(self) -> bytes:
        lines = self.log.read_bytes().splitlines() if self.log.exists() else []
        return b"".join(self.started_at.encode() + b" " + line + b"\n" for line in lines)


class LittleEngine(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """The engine, at a socket."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, path: Path) -> None:
        self.containers: dict[str, Container] = {}
        super().__init__(str(path), _Handler)
        self.is_over = threading.Event()
        self.threads = [threading.Thread(target=self.serve_forever, daemon=True)]
        self.threads.append(threading.Thread(target=self._supervise, daemon=True))
        for thread in self.threads:
            thread.start()

    def _supervise(self) -> None:
        while not self.is_over.wait(BACKOFF):
            for one in list(self.containers.values()):
                one.supervise()

    def close(self) -> None:
        self.is_over.set()
        self.threads[1].join()
        for one in self.containers.values():
            one.stop(0.0)
        self.shutdown()
        self.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: LittleEngine

    def log_message(self, *_arguments: t.Any) -> None:
        pass

    def address_string(self) -> str:
        return "socket"

    def _reply(self, status: int, body: bytes = b"") -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _named(self) -> tuple[Container | None, str, dict[str, list[str]]]:
        parts = urllib.parse.urlsplit(self.path)
        words = parts.path.strip("/").split("/")
        is_one = len(words) == 3 and words[0] == "containers"
        found = self.server.containers.get(words[1]) if is_one else None
        return found, words[2] if is_one else parts.path, urllib.parse.parse_qs(parts.query)

    def do_GET(self) -> None:
        found, verb, _query = self._named()
        if verb in ("/version", "/info"):
            self._reply(200, b'{"Version": "26.1"}')
        elif found and verb == "json":
            self._reply(200, json.dumps(found.inspect()).encode())
        elif found and verb == "logs":
            self._reply(200, found.logs())
        else:
            self._reply(404, b'{"message": "No such container"}')

    def do_POST(self) -> None:
        found, verb, query = self._named()
        if found is None or verb not in ("stop", "start"):
            self._reply(404, b'{"message": "No such container"}')
            return
        if verb == "stop":
            found.stop(float(query.get("t", ["10"])[0]))
        else:
            found.start()
        self._reply(204)
