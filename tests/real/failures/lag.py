"""How soon vllm_health notices, as ansible-playbook sees it: lag.py [COUNT]

A server that begins to answer at a moment nobody knows, and a container that exits at one. The time is taken by the task
after the wait, so the figures hold what the action plugin and the start of a task cost.
"""

from __future__ import annotations

import http.server
import json
import pathlib
import random
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import typing as t

ROOT = pathlib.Path(__file__).resolve().parents[3]
PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  tasks:
    - block:
        - gpufleet.vllm.vllm_health: {arguments}
      rescue:
        - ansible.builtin.debug: msg="failed"
    - ansible.builtin.debug: msg="returned {{{{ now(utc=true).timestamp() }}}}"
"""


class Handler(http.server.BaseHTTPRequestHandler):
    """Refuses until its time has come."""

    good_from: t.ClassVar[float] = 0.0

    def do_GET(self) -> None:
        self.send({"data": [{"id": "m"}]})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send({"choices": [{"message": {"content": "Hello there."}}]})

    def send(self, body: t.Any) -> None:
        raw = json.dumps(body).encode()
        self.send_response(200 if time.time() >= self.good_from else 503)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_arguments: t.Any) -> None:
        pass


def returned(arguments: dict[str, t.Any]) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as play:
        play.write(PLAY.format(arguments=json.dumps(arguments)))
        play.flush()
        command = [ROOT / ".venv/bin/ansible-playbook", play.name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    match = re.search(r"returned ([\d.]+)", done.stdout)
    if not match:
        raise RuntimeError(done.stdout + done.stderr)
    return float(match.group(1))


def ready_lags(count: int) -> list[float]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    lags = []
    for _turn in range(count):
        Handler.good_from = time.time() + random.uniform(4, 14)
        lags.append(returned({"url": url, "timeout": 60}) - Handler.good_from)
    return lags


def exit_lags(count: int) -> list[float]:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    lags = []
    for _turn in range(count):
        seconds = random.uniform(4, 14)
        name, shell = "gpufleet-diag-lag", f"sleep {seconds:.2f}; exit 3"
        command = [
            "docker",
            "run",
            "--detach",
            "--name",
            name,
            "--entrypoint",
            "sh",
            "gpufleet/vllm-cpu:0.32.0",
            "-c",
            shell,
        ]
        subprocess.run(command, check=True, capture_output=True)
        ended = returned({"url": url, "container": name, "timeout": 60})
        show = ["docker", "inspect", "--format", "{{.State.FinishedAt}}", name]
        stamp = subprocess.run(show, check=True, capture_output=True, text=True).stdout.strip()
        from conftest import seconds as since_epoch

        lags.append(ended - since_epoch(stamp))
        subprocess.run(["docker", "rm", "--force", name], check=True, capture_output=True)
    return lags


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    for name, lags in (("first good answer to return", ready_lags(count)), ("exit to message", exit_lags(count))):
        print(f"{name}: median {statistics.median(lags):.2f} s, most {max(lags):.2f} s, of {count}")


if __name__ == "__main__":
    main()
