# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hold a call to what runs servers, on a simulated host, at a chosen step of a switch.

Docker Engine is asked through a Unix socket in front of its own, systemd through the program systemctl.py in front of its
own, which asks here. Standard input and output speak lines of JSON. {"arm": STEP} chooses the step; as soon as a call
belongs to it, the call is held and {"step": STEP, "pid": PID of the caller, "call": "POST /containers/..."} is written.
{"then": WHAT} decides: "forward" lets it go on, "fail" answers with "message" as an error, "drop" ends the call before it
is heard, "hang" lets it be done and never tells the caller. Every step is stopped once. The end of input is the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import socket
import socketserver
import struct
import sys
import threading
import typing as t

ENGINE, SOCKET = "/run/docker.sock", "/run/fault-docker.sock"
SYSTEMCTL = "/run/fault-systemctl.sock"

# What a call means for a switch: to the engine by its method and path, to systemd by its words; the first that fits.
STEPS = (
    ("pull", r"POST /images/create\b"),
    ("fetch", r"POST /containers/[^/]+-fetch/start"),
    ("try", r"POST /containers/[^/]+-try/start"),
    ("create", r"POST /containers/create\?name=(?!.*-(try|fetch)\b)"),
    ("stop", r"POST /containers/[^/]+/stop"),
    ("set aside", r"POST /containers/[^/]+/rename\?name=.*-superseded"),
    ("rename", r"POST /containers/[^/]+-next/rename"),
    # An image that does not tell its version is asked in a container without a name.
    ("start", r"POST /containers/(?![0-9a-f]{64})[^/]+/start"),
    ("commit", r"DELETE /containers/(?!.*-(try|next|fetch)\b)[^/]+"),
    # What a unit's file is rendered from; it is written next.
    ("create", r"systemctl --version"),
    ("fetch", r"systemctl start -- \S+-fetch\.service"),
    ("try", r"systemctl start -- \S+-try\.service"),
    ("stop", r"systemctl stop "),
    # Before it is stopped; and once it was, the last before a unit's file is renamed.
    ("disable", r"systemctl disable "),
    ("reload", r"systemctl daemon-reload"),
    ("enable", r"systemctl enable "),
    ("start", r"systemctl start "),
)
# So many of them a process asks when it renders the file only to show it, before it makes one.
TO_SHOW = 2
READING = re.compile(r"GET /(containers|images)/|systemctl show ")
# What a step is once the new server was started: the first look at a unit that goes, or a step of the way back.
COMMIT, BACK = ("commit", "set aside"), ("stop", "reload", "start")


class Control:
    """What the rig wants, and what it is told."""

    def __init__(self) -> None:
        self.step = ""
        # The process that started the new server; another one then waits for it.
        self.starter = 0
        # Whether the old server was told to stop.
        self.stopped = False
        # The processes that asked for systemd's version, once for each time.
        self.rendering: list[int] = []
        self.lock = threading.Lock()
        self.decisions: queue.Queue[dict[str, str]] = queue.Queue()

    def tell(self, **said: t.Any) -> None:
        print(json.dumps(said), flush=True)

    def listen(self) -> None:
        for line in sys.stdin:
            said = json.loads(line)
            if "arm" in said:
                self.step, self.starter, self.stopped = said["arm"], 0, False
                self.rendering.clear()
                self.tell(armed=self.step)
            else:
                self.decisions.put(said)

    def decision(self, call: str, pid: int) -> dict[str, str]:
        """What becomes of a call; waits for the rig when it is the chosen one."""
        with self.lock:
            step = self._step(call, pid)
            if step == "start":
                self.starter = pid
            if not step or step != self.step:
                return {"then": "forward"}
            self.step = ""
        self.tell(step=step, pid=pid, call=call)
        return self.decisions.get()

    def _step(self, call: str, pid: int) -> str:
        if READING.match(call):
            return "preflight" if not self.starter else "read back" if pid == self.starter else "warm-up"
        step = next((step for step, pattern in STEPS if re.match(pattern, call)), "")
        self.stopped = self.stopped or step == "stop"
        step = "set aside" if step == "disable" and self.stopped else step
        if call == "systemctl --version":
            self.rendering.append(pid)
            step = step if self.rendering.count(pid) > TO_SHOW else ""
        if self.starter and step in (*COMMIT, *BACK):
            return "commit" if step in COMMIT else f"way back: {step}"
        return step


class Handler(socketserver.StreamRequestHandler):
    """One call a connection."""

    control: t.ClassVar[Control]


class Words(Handler):
    """What systemctl.py is about to run, for whom; it is told what to do."""

    def handle(self) -> None:
        said = json.loads(self.rfile.readline())
        with contextlib.suppress(OSError):
            self.wfile.write(json.dumps(self.control.decision(said["call"], said["pid"])).encode())


class Request(Handler):
    """A call to Docker Engine; the answer says that the connection ends, and clients open another."""

    def handle(self) -> None:
        head = b""
        for line in self.rfile:
            # The engine closes after its answer, which is then relayed without being read.
            if not line.lower().startswith(b"connection:"):
                head += line if line.strip() else b"Connection: close\r\n\r\n"
            if not line.strip():
                break
        if not head:
            return
        length = re.search(rb"(?i)\ncontent-length: *(\d+)", head)
        body = self.rfile.read(int(length[1])) if length else b""
        words = head.decode("latin-1").split(" ", 2)
        call = f"{words[0]} {re.sub(r'^/v[0-9.]+/', '/', words[1])}"
        with contextlib.suppress(OSError):
            self._answer(head + body, self.control.decision(call, self._caller()))

    def _caller(self) -> int:
        """The process at the other end."""
        peer = self.connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", peer)[0])

    def _answer(self, call: bytes, decision: dict[str, str]) -> None:
        if decision["then"] == "fail":
            body = json.dumps({"message": decision["message"]}).encode()
            kind = "Content-Type: application/json\r\nConnection: close"
            head = f"HTTP/1.1 500 Internal Server Error\r\n{kind}\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)
        elif decision["then"] != "drop":
            self._forward(call, hidden=decision["then"] == "hang")

    def _forward(self, call: bytes, hidden: bool) -> None:
        with socket.socket(socket.AF_UNIX) as engine:
            engine.connect(ENGINE)
            engine.sendall(call)
            while piece := engine.recv(65536):
                if not hidden:
                    self.wfile.write(piece)
        if hidden:
            # Until the caller gives up.
            self.rfile.read()


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def serve(path: str, handler: type[Handler]) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    server = Server(path, handler)
    shutil.chown(path, "root", "docker")
    os.chmod(path, 0o660)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main() -> None:
    Handler.control = Control()
    serve(SOCKET, Request)
    serve(SYSTEMCTL, Words)
    Handler.control.tell(ready=True)
    Handler.control.listen()


if __name__ == "__main__":
    main()
