# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures how long a model takes to several hosts that pass it on, and what leaves the source, and prints Markdown.

A host is a process of this machine with a cache of its own, and the link of each has a stated rate. The modules do what they
do in the role; Ansible's own time is not in the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTIONS = ROOT / ".ansible" / "collections"
sys.path[:0] = [str(ROOT / "tests" / "rig"), str(COLLECTIONS)]
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.parameters import PARAMETERS  # noqa: E402
from hub import INDEX, MODEL, SHARDS, Hub, safetensors  # noqa: E402

TOKEN = "t"
CHILD = r"""
import json, sys

wish = json.loads(sys.argv[1])
sys.path.insert(0, wish["collections"])
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import ledger
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._models import peers, run

ledger.SYSTEM_STATE = lock.DIRECTORY = wish["state"]
do = run.run if "model" in wish["parameters"] else peers.run
print(json.dumps(do(wish["parameters"], wish["check"])))
"""


class Host:
    """A cache, a state, and an address."""

    def __init__(self, path: Path) -> None:
        self.cache, self.state = path / "huggingface", path / "state"
        self.state.mkdir(parents=True)
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = int(one.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"

    def begin(self, wish: dict[str, t.Any], check: bool = False) -> subprocess.Popen[str]:
        told = {"collections": str(COLLECTIONS), "state": str(self.state), "parameters": wish, "check": check}
        return subprocess.Popen([sys.executable, "-c", CHILD, json.dumps(told)], stdout=subprocess.PIPE, text=True)

    def passes_on(self, state: str) -> None:
        place = {"huggingface_dir": str(self.cache), "address": "127.0.0.1", "port": self.port}
        ended(self.begin({"state": state, "token": TOKEN, **place}))

    def wish(self, hub: Hub, rate: int, peer: dict[str, t.Any] | None) -> dict[str, t.Any]:
        defaults = {key: option.get("default") for key, option in PARAMETERS.items()}
        said = {"model": MODEL, "huggingface_dir": str(self.cache), "endpoint": hub.url, "disk_reserve": 0}
        return {**defaults, **said, "bandwidth_limit": rate, "peer": peer}


def ended(child: subprocess.Popen[str]) -> dict[str, t.Any]:
    output, _errors = child.communicate()
    if child.returncode:
        raise SystemExit("A host failed.")
    return t.cast("dict[str, t.Any]", json.loads(output))


def model(size: int, shards: int) -> dict[str, bytes]:
    """A repository with so many bytes of weights."""
    if shards == 1:
        return {"config.json": b"{}", "model.safetensors": safetensors("one", size)}
    weights = {name: safetensors(name, size // shards) for name in SHARDS}
    index = json.dumps({"weight_map": {name: name for name in SHARDS}}).encode()
    return {"config.json": b"{}", INDEX: index, **weights}


def staged(count: int, files: dict[str, bytes], rate: int) -> tuple[float, float]:
    """The seconds that so many hosts take, and what left the source, in copies."""
    with tempfile.TemporaryDirectory() as directory, Hub(files) as hub:
        hosts = [Host(Path(directory) / str(number)) for number in range(count)]
        told = ended(hosts[0].begin(hosts[0].wish(hub, rate, None), check=True))["model"]
        for host in hosts:
            host.passes_on("started")
        before = len(hub.requests)
        began = time.monotonic()
        running = []
        for number, host in enumerate(hosts):
            peer = {
                "address": "127.0.0.1",
                "port": host.port,
                "token": TOKEN,
                "head": "first",
                **{key: told[key] for key in ("commit", "files", "left_out_bytes")},
                "sources": [other.url for other in reversed(hosts[:number])],
            }
            running.append(host.begin(host.wish(hub, rate, peer)))
        for child in running:
            ended(child)
        seconds = time.monotonic() - began
        # What each request asked for, a resumed one from its offset on.
        left = sum(_bytes_of(one, files) for one in hub.requests[before:])
        for host in hosts:
            host.passes_on("stopped")
    return seconds, left / sum(map(len, files.values()))


def _bytes_of(request: t.Any, files: dict[str, bytes]) -> int:
    name = request.path.partition("?")[0].rpartition("/")[2]
    is_redirect = request.where == "hub" and name.endswith(".safetensors")
    if request.method != "GET" or name not in files or is_redirect:
        return 0
    return len(files[name]) - int(request.range[len("bytes=") : -1] or 0 if request.range else 0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64, help="MiB of weights")
    parser.add_argument("--rate", type=int, default=8, help="MiB per second of each link")
    parser.add_argument("--hosts", type=int, nargs="+", default=[1, 2, 4, 8])
    options = parser.parse_args()
    print(f"{options.mib} MiB of weights, {options.mib / options.rate:.0f} s at {options.rate} MiB/s; load", end=" ")
    print(f"{os.getloadavg()[0]:.1f}\n\n| weights | hosts | time | in copies | sent by the source, in copies |")
    print("| --- | --- | --- | --- | --- |")
    for shards in (2, 1):
        files, one = model(options.mib << 20, shards), 0.0
        for count in options.hosts:
            seconds, left = staged(count, files, options.rate << 20)
            one = one or seconds
            name = f"{shards} files" if shards > 1 else "1 file"
            print(f"| {name} | {count} | {seconds:.1f} s | {seconds / one:.2f} | {left:.2f} |", flush=True)


if __name__ == "__main__":
    main()
