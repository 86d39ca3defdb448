# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures, and prints Markdown: a run that changes nothing, and how soon vllm_health sees what happens.

Needs the demo's server running (tests/bench/run sees to it). What is compared is run in turn, so that both see the same
machine.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
import typing as t

import docker
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv" / "bin"
BENCH = ROOT / ".cache" / "bench"
DEMO = ROOT / ".cache" / "demo"
PORT = int(os.environ.get("DEMO_PORT", "8000"))
CONTAINER = "vllm-gpt-oss"
HEALTH = """
import json, sys, time
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.session import run
from ansible_collections.gpufleet.vllm.plugins.module_utils._sources import open_source
params = json.loads(sys.argv[1])
result = run(params, open_source(params, None))
print(json.dumps({"returned": time.time(), "healthy": result["healthy"]}))
"""


# Seconds by the clock, and seconds of the processor: other work on the same cores stretches the first far more.
Spent = tuple[float, float]


def timed(*command: t.Any, changes: str = "changed=0 ", **env: str) -> Spent:
    began, before = time.monotonic(), processor()
    done = subprocess.run(
        list(map(str, command)), cwd=ROOT, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    spent = time.monotonic() - began, processor() - before
    if done.returncode or changes not in done.stdout:
        sys.exit(f"bench: {' '.join(map(str, command))} was to change nothing:\n{done.stdout}\n{done.stderr}")
    return spent


def processor() -> float:
    """What all programs that were run and ended have used so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@contextlib.contextmanager
def files(directory: pathlib.Path) -> t.Iterator[str]:
    """The encodings behind a local HTTP server, as the stock playbook fetches them."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: t.Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(directory)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def stock_command(url: str, port: int) -> list[t.Any]:
    inventory = ["-i", "inventories/demo"]
    shown = subprocess.run(
        [BIN / "ansible-inventory", *inventory, "--host", "demo"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    overrides = json.loads(shown.stdout)["vllm_overrides"]
    inspected = docker.from_env().api.inspect_container(CONTAINER)
    argv = [str(port) if word == str(PORT) else word for word in inspected["Config"]["Cmd"][2:]]
    extra = {
        "bench_url": url, "bench_dir": str(BENCH), "bench_port": port, "bench_argv": argv,
        "vllm_overrides": overrides,
    }  # fmt: skip
    return [BIN / "ansible-playbook", "tests/bench/stock.yml", *inventory, "-e", json.dumps(extra)]


def noop(rounds: int) -> None:
    client = docker.from_env().api
    environment = {"ANSIBLE_COLLECTIONS_PATH": f"{ROOT}/.ansible/collections:{BENCH}/collections"}
    with files(DEMO / "encodings-source") as url:
        command = stock_command(url, PORT + 1)
        subprocess.run(list(map(str, command)), cwd=ROOT, env={**os.environ, **environment}, check=True)
        # Both servers have to have settled: one that just started is asked twice, and still warms up.
        time.sleep(65)
        ours, stock = [], []
        try:
            for _round in range(rounds):
                ours.append(timed(BIN / "ansible-playbook", "playbooks/deploy_gptoss.yml", "-i", "inventories/demo"))
                stock.append(timed(*command, **environment))
        finally:
            client.remove_container("gpufleet-bench-stock", force=True)
    empty = [timed_empty() for _round in range(rounds)]
    for name, spent in (
        ("start-up of ansible-playbook alone", empty),
        ("stock tasks", stock),
        ("`deploy_gptoss.yml`", ours),
    ):
        row(name, [clock for clock, _processor in spent])
        row(f"{name}, of the processor", [used for _clock, used in spent])
    for kind, what in enumerate(("by the clock", "of the processor")):
        mine, theirs = (statistics.median(spent[kind] for spent in runs) for runs in (ours, stock))
        print(f"| ratio of the medians {what} | {mine / theirs:.2f} | | |")


def timed_empty() -> Spent:
    play = BENCH / "empty.yml"
    play.write_text("---\n- name: Do nothing\n  hosts: all\n  gather_facts: false\n  tasks: []\n")
    return timed(BIN / "ansible-playbook", play, "-i", "inventories/demo", changes="")


def row(name: str, seconds: t.Sequence[float]) -> None:
    middle = statistics.median(seconds)
    print(f"| {name} | {middle:.2f} s | {min(seconds):.2f} - {max(seconds):.2f} s | {len(seconds)} |")


def health(**params: t.Any) -> subprocess.Popen[str]:
    said = {
        "url": f"http://127.0.0.1:{PORT}", "served_model_name": "gpt-oss-demo", "container": CONTAINER, "timeout": 600,
        "request_timeout": 120, "stable_for": 0.25, "checks": ["health", "models", "completion"], "max_tokens": 16,
        "prompt": "Reply with one short sentence.", **dict.fromkeys(("api_key", "api_key_file", "docker_host")), **params,
    }  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}/.ansible/collections"}
    return subprocess.Popen(
        [str(BIN / "python"), "-c", HEALTH, json.dumps(said)], env=environment, stdout=subprocess.PIPE, text=True
    )


def first_completion() -> float:
    """When an impatient client (every 50 ms) first gets an answer."""
    body = {"model": "gpt-oss-demo", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    while True:
        with contextlib.suppress(requests.exceptions.RequestException):
            if requests.post(f"http://127.0.0.1:{PORT}/v1/chat/completions", json=body, timeout=60).status_code == 200:
                return time.time()
        time.sleep(0.05)


def readiness(rounds: int) -> None:
    client, lags = docker.from_env().api, []
    for _round in range(rounds):
        client.restart(CONTAINER)
        waiting = health()
        answered = first_completion()
        told = json.loads(waiting.communicate()[0])
        if not told["healthy"]:
            sys.exit("bench: the server did not become healthy")
        lags.append(told["returned"] - answered)
    row("first completion until `vllm_health` returns (real vLLM on the CPU)", lags)


def exits(rounds: int) -> None:
    """The demo's container dies while it loads: no server is needed to see that."""
    client, lags = docker.from_env().api, []
    for round_ in range(rounds):
        client.restart(CONTAINER)
        waiting = health()
        time.sleep(2 + 0.37 * round_ % 1)
        client.kill(CONTAINER)
        killed = time.time()
        told = json.loads(waiting.communicate()[0])
        if told["healthy"]:
            sys.exit("bench: a killed server was called healthy")
        lags.append(told["returned"] - killed)
    client.start(CONTAINER)
    row("exit of the container until `vllm_health` fails", lags)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    # So that whoever ends it finds its containers removed.
    signal.signal(signal.SIGTERM, lambda *_about: sys.exit("bench: interrupted"))
    print("| what | median | range | runs |\n| --- | --- | --- | --- |")
    noop(rounds)
    readiness(max(3, rounds // 2))
    exits(rounds)


if __name__ == "__main__":
    main()
