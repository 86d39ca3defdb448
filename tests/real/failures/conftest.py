# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Containers with the demo's real vLLM for CPUs, and what the collection says of them."""

from __future__ import annotations

import dataclasses
import datetime
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
CACHE = ROOT / ".cache" / "real_failures"
DEMO = ROOT / ".cache" / "demo"
IMAGE = "gpufleet/vllm-cpu:0.32.0"
NAME = "gpufleet-diag"
SERVE = ["--served-model-name", "tiny", "--max-model-len", "1024", "--max-num-seqs", "4", "--dtype", "bfloat16"]
EAGER = [*SERVE, "--enforce-eager"]
PORT = 18200

sys.path.insert(0, str(ROOT / ".ansible" / "collections"))
sys.path.insert(0, str(pathlib.Path(__file__).parent))


def docker(*words: str, check: bool = True) -> str:
    done = subprocess.run(["docker", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"docker {' '.join(words)}: {done.stdout}")
    return done.stdout


def is_free(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) != 0


def seconds(stamp: str) -> float:
    """A time as Docker prints it, since the epoch."""
    return datetime.datetime.fromisoformat(stamp[:26].rstrip("Z")).replace(tzinfo=datetime.timezone.utc).timestamp()


@dataclasses.dataclass
class Server:
    """One container, on a port of its own."""

    name: str
    port: int
    # When its log was read, or it was looked at, by what is tested.
    looks: list[float] = dataclasses.field(default_factory=list)

    def wrote_at(self, words: str) -> float:
        """When it first wrote a line with these words."""
        lines = [line for line in docker("logs", "--timestamps", self.name).splitlines() if words in line]
        return seconds(lines[0].split(" ")[0])

    def ended_at(self, words: str) -> float:
        """When it exited; while it has not, when it wrote what will end it."""
        running, finished = docker("inspect", "--format", "{{.State.Running}} {{.State.FinishedAt}}", self.name).split()
        return self.wrote_at(words) if running == "true" else seconds(finished)

    def processes(self, word: str) -> list[int]:
        """The host's numbers of the container's processes that are called so."""
        rows = docker("top", self.name, "-eo", "pid,args", check=False).splitlines()[1:]
        return [int(row.split()[0]) for row in rows if word in row]

    def signal(self, word: str, number: signal.Signals) -> float:
        pids = self.processes(word)
        if not pids:
            raise RuntimeError(f"{self.name} has no process {word}")
        os.kill(pids[0], number)
        return time.time()

    def wait(self, **said: t.Any) -> dict[str, t.Any]:
        """What vllm_health says in the end."""
        from ansible_collections.gpufleet.vllm.plugins.module_utils._health import session as health_session

        source = self._source()
        params = {
            "url": f"http://127.0.0.1:{self.port}",
            "served_model_name": "tiny",
            "api_key": None,
            "api_key_file": None,
            "timeout": 300,
            "request_timeout": 120,
            "stable_for": 0.25,
            "checks": ["health", "models", "completion"],
            "prompt": "What are you?",
            "max_tokens": 16,
            "container": self.name,
            "docker_host": None,
            "stall_timeout": 120,
        }
        return health_session.run({**params, **said}, source)

    def diagnose(self) -> dict[str, t.Any]:
        """What vllm_diagnose says now."""
        from ansible_collections.gpufleet.vllm.plugins.module_utils._health import report

        self.looks.append(time.time())
        return report.examine(self._source(), {}, 40)

    def _source(self) -> t.Any:
        from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reader import reader
        from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.source import ContainerSource

        looks = self.looks

        class Counted(ContainerSource):
            def news(self) -> str:
                looks.append(time.time())
                return super().news()

        return Counted(self.name, reader(None))


class Waiting(threading.Thread):
    """vllm_health at work, with the moment it returned."""

    def __init__(self, server: Server, **said: t.Any) -> None:
        super().__init__(daemon=True)
        self.server, self.said = server, said
        self.result: dict[str, t.Any] = {}
        self.returned = 0.0
        self.start()

    def run(self) -> None:
        self.result = self.server.wait(**self.said)
        self.returned = time.time()

    def end(self) -> dict[str, t.Any]:
        self.join(320)
        return self.result


@pytest.fixture(scope="session")
def material() -> pathlib.Path:
    """The demo's model and vocabulary, and a model that dies; copies, since the demo may be rebuilt meanwhile."""
    for part in ("docker-engine", "cpu/image", "encodings", "cpu/model"):
        subprocess.run([str(ROOT / "tests/rig" / part)], check=True, stdin=subprocess.DEVNULL)
    stamp = (DEMO / "model" / "inputs.sha256").read_text()
    if not (CACHE / "stamp").exists() or (CACHE / "stamp").read_text() != stamp:
        shutil.rmtree(CACHE, ignore_errors=True)
        shutil.copytree(DEMO / "model", CACHE / "model")
        shutil.copytree(DEMO / "encodings-source", CACHE / "encodings")
        (CACHE / "empty").mkdir()
        (CACHE / "dying").mkdir()
        scripts = [
            f"{ROOT}/tests/rig/cpu/model.py:/model.py:ro",
            f"{ROOT}/tests/real/failures/model_that_dies.py:/dying.py:ro",
        ]
        binds = [*scripts, f"{CACHE}/encodings:/encodings:ro", f"{CACHE}/dying:/model"]
        volumes = [word for bind in binds for word in ("--volume", bind)]
        command = ["python3", "/dying.py", "/encodings/o200k_base.tiktoken", "/model"]
        docker("run", "--rm", "--name", f"{NAME}-model", "--network", "none", *volumes, IMAGE, *command)
        (CACHE / "stamp").write_text(stamp)
    return CACHE


Start = t.Callable[..., Server]


@pytest.fixture(scope="session")
def start(material: pathlib.Path) -> t.Iterator[Start]:
    """start("name", "--flag", docker=[...]): run vllm serve; the containers go at the end."""
    made: list[str] = []

    def run(name: str, *arguments: str, model: str = "/models/tiny", options: t.Sequence[str] = ()) -> Server:
        server = Server(f"{NAME}-{name}", next(port for port in range(PORT, PORT + 100) if is_free(port)))
        docker("rm", "--force", server.name, check=False)
        made.append(server.name)
        binds = [
            f"{material}/model:/models/tiny:ro",
            f"{material}/dying:/models/dying:ro",
            f"{material}/encodings:/etc/encodings:ro",
            f"{material}/empty:/etc/empty:ro",
        ]
        volumes = [word for bind in binds for word in ("--volume", bind)]
        network = [] if "--network" in options else ["--publish", f"127.0.0.1:{server.port}:8000"]
        common = ["--ulimit", "memlock=8388608", "--ipc", "host", "--env", "VLLM_CPU_KVCACHE_SPACE=1", *network]
        common += ["--env", "TIKTOKEN_ENCODINGS_BASE=/etc/encodings", *volumes, *options]
        docker("run", "--detach", "--name", server.name, *common, IMAGE, "vllm", "serve", model, *arguments)
        return server

    yield run
    if made:
        docker("rm", "--force", *made, check=False)
