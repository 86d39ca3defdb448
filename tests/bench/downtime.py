# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures how long nobody answers while one model takes the place of another on a port, and prints Markdown.

The playbook is compared with what people do by hand, `docker rm -f` and `docker run`, both with the image on the host and
with one that comes from a registry of a stated rate. A client asks for a completion every 50 ms; the longest time without an
answer is what counts. The stand-in of tests/rig/hosts serves, which takes a stated time to load: what vLLM takes is the same
for both, and would only hide the difference.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import http.server
import io
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import tarfile
import threading
import time
import typing as t

import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
STANDIN = ROOT / ".cache" / "hosts" / "standin.tar"
MODEL = ROOT / ".cache" / "demo" / "model"
PORT = int(os.environ.get("DEMO_PORT", "8000")) + 2
NAMES = ("gpufleet-bench-a", "gpufleet-bench-b")
LOAD_SECONDS = 2
LAYER_MIB, RATE_MIB = 64, 16
EVERY = 0.05
ENVIRONMENT = {"STANDIN_LOAD_SECONDS": str(LOAD_SECONDS)}
ULIMITS = {"memlock": 8388608, "stack": 67108864}

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"


class Registry:
    """A registry on this machine that is as slow as one far away."""

    def __init__(self) -> None:
        self.content: dict[str, tuple[str, bytes]] = {}
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def keep(self, kind: str, blob: bytes) -> dict[str, t.Any]:
        """What a manifest says of a blob."""
        digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
        self.content[digest] = (kind, blob)
        return {"mediaType": kind, "size": len(blob), "digest": digest}

    def push(self, name: str) -> str:
        """Publish the stand-in with a layer that no other image has, and return its reference."""
        layers = [self.keep(LAYER, STANDIN.read_bytes()), self.keep(LAYER, archived(os.urandom(LAYER_MIB << 20)))]
        config = {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
            "os": "linux",
            "config": {"Env": ["PATH=/usr/local/bin:/usr/bin", "VLLM_VERSION=0.32.0"]},
            "rootfs": {"type": "layers", "diff_ids": [layer["digest"] for layer in layers]},
        }
        described = self.keep(CONFIG, json.dumps(config).encode())
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described, "layers": layers}
        told = self.keep(MANIFEST, json.dumps(manifest).encode())
        self.content[f"{name}:1"] = self.content[told["digest"]]
        return f"127.0.0.1:{self.server.server_port}/{name}:1"

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        content = self.content

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                # /v2/, /v2/NAME/manifests/TAG, /v2/NAME/blobs/DIGEST
                _empty, _version, name, *what = self.path.split("/")
                key = what[1] if what and ":" in what[1] else f"{name}:{what[1]}" if what else ""
                kind, blob = content.get(key, ("application/json", b"{}"))
                self.send_response(200 if key in content or not what else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(blob)))
                if kind == MANIFEST:
                    self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(blob).hexdigest()}")
                self.end_headers()
                if self.command == "GET":
                    slowly(self.wfile, blob)

            do_HEAD = do_GET

            def log_message(self, *_arguments: t.Any) -> None:
                pass

        return Handler


def archived(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo("opt/weight")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def slowly(stream: t.Any, blob: bytes, piece: int = 1 << 18) -> None:
    began = time.monotonic()
    for start in range(0, len(blob), piece):
        stream.write(blob[start : start + piece])
        time.sleep(max(0.0, began + start / (RATE_MIB << 20) - time.monotonic()))


class Client(threading.Thread):
    """Asks whoever serves on the port for a completion, again and again, and keeps when it was answered, by whom."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.answers: list[tuple[float, str]] = []
        self.over = threading.Event()
        self.start()

    def run(self) -> None:
        while not self.over.wait(EVERY):
            with contextlib.suppress(requests.exceptions.RequestException):
                self.answers.append((time.monotonic(), ask()))

    def wait_for(self, name: str) -> None:
        while not (self.answers and self.answers[-1][1] == name):
            time.sleep(EVERY)

    @property
    def silence(self) -> float:
        """The longest time between two answers."""
        self.over.set()
        self.join()
        moments = [moment for moment, _name in self.answers]
        return max(after - before for before, after in zip(moments, moments[1:]))


def ask() -> str:
    body = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    reply = requests.post(f"http://127.0.0.1:{PORT}/v1/chat/completions", json=body, timeout=5)
    reply.raise_for_status()
    return str(reply.json()["model"])


def run(*words: str, check: bool = True) -> None:
    done = subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if check and done.returncode:
        sys.exit(f"bench: {' '.join(words)} failed:\n{done.stdout}")


def by_hand(name: str, image: str) -> None:
    """What the rules of a GB10 say: remove both, then run the other."""
    run("docker", "rm", "--force", *NAMES, check=False)
    limits = [word for key, value in ULIMITS.items() for word in ("--ulimit", f"{key}={value}")]
    variables = [word for key, value in ENVIRONMENT.items() for word in ("--env", f"{key}={value}")]
    volumes, publish = ["--volume", f"{MODEL}:{MODEL}:ro"], ["--publish", f"127.0.0.1:{PORT}:{PORT}"]
    options = ["--ipc", "host", *limits, *variables, *volumes, *publish]
    serve = ["vllm", "serve", str(MODEL), "--served-model-name", name, "--port", str(PORT)]
    run("docker", "run", "--detach", "--name", name, *options, image, *serve)


def by_playbook(name: str, image: str) -> None:
    server = {"name": name, "container_name": name, "model": str(MODEL), "served_model_name": name, "port": PORT}
    on_cpu = {"image": image, "gpus": "none", "ulimits": ULIMITS, "env": ENVIRONMENT, "keep_caches": False}
    model = {"description": "The stand-in.", "server": server, "hardware": {"cpu": on_cpu}}
    extra = {"model": name, "vllm_models": {name: model}, "vllm_overrides": {}}
    play = [str(ROOT / ".venv/bin/ansible-playbook"), "playbooks/deploy.yml", "-i", "inventories/demo"]
    run(*play, "-e", json.dumps(extra))


Way = t.Callable[[str, str], None]


def measured(way: Way, images: t.Mapping[str, str], rounds: int, absent: bool) -> list[float]:
    """The silences of so many switches, to and fro; the first server is there before."""
    way(NAMES[0], images[NAMES[0]])
    silences = []
    for number in range(rounds):
        name = NAMES[(number + 1) % 2]
        if absent:
            run("docker", "image", "rm", "--force", images[name], check=False)
        client = Client()
        client.wait_for(NAMES[number % 2])
        way(name, images[name])
        client.wait_for(name)
        silences.append(client.silence)
    run("docker", "rm", "--force", *NAMES, check=False)
    return silences


def row(name: str, seconds: t.Sequence[float]) -> None:
    middle = statistics.median(seconds)
    print(f"| {name} | {middle:.2f} s | {min(seconds):.2f} - {max(seconds):.2f} s | {len(seconds)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    rounds = parser.parse_args().rounds
    # So that whoever ends it finds its containers removed.
    signal.signal(signal.SIGTERM, lambda *_about: sys.exit("bench: interrupted"))
    run("tests/rig/hosts/build")
    registry = Registry()
    images = {name: registry.push(name) for name in NAMES}
    print("| what | median | range | switches |\n| --- | --- | --- | --- |")
    try:
        for absent, where in ((False, "image on the host"), (True, f"image of {LAYER_MIB} MiB at {RATE_MIB} MiB/s")):
            for image in images.values():
                run("docker", "pull", "--quiet", image)
            hand, play = (measured(way, images, rounds, absent) for way in (by_hand, by_playbook))
            row(f"`docker rm -f` and `docker run`, {where}", hand)
            row(f"`deploy.yml`, {where}", play)
            print(f"| ratio of the medians | {statistics.median(play) / statistics.median(hand):.2f} | | |", flush=True)
    finally:
        run("docker", "rm", "--force", *NAMES, check=False)
        run("docker", "image", "rm", "--force", *images.values(), check=False)


if __name__ == "__main__":
    main()
