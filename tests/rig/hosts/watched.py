# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watchdog as the program that a host runs, over the servers of a container engine in miniature; and what it tells."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
import typing as t
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import Ledger, entry
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.program import archive
from little_engine import Container, LittleEngine


@dataclass
class Watched:
    """Servers under a watchdog, and what became of them."""

    directory: Path
    engine: LittleEngine
    process: subprocess.Popen[bytes] | None = None
    # What ends the name of each: locks are by name, and two of these at once on one machine are not to share one.
    ending: str = ""
    # When its fault began.
    began: dict[str, float] = field(default_factory=dict)
    # When its notices came, by event.
    notices: list[tuple[float, dict[str, t.Any]]] = field(default_factory=list)

    @classmethod
    def over(cls, directory: Path) -> Watched:
        (directory / "textfile").mkdir()
        return cls(directory, LittleEngine(directory / "engine.sock"))

    def add(self, made: Container, model: str = "Qwen/Qwen2.5-0.5B-Instruct") -> None:
        """A server that is recorded, as a deploy would have it."""
        self.engine.containers[made.name] = made
        spec = {"name": made.name, "model": model, "image": "x", "port": made.port, "gpus": "none"}
        ledger = Ledger(str(self.directory / "record"), f"unix://{self.directory}/engine.sock")
        intent = {**spec, "container_name": made.name}
        ledger.write(entry(made.name, "server", name=made.name, identity=made.identity, intent=intent))
        made.start()

    def begin(self, settings: t.Mapping[str, t.Any]) -> None:
        """Start the watchdog, or start it again."""
        directory = self.directory
        program, config = directory / "watchdog.pyz", directory / "watchdog.json"
        program.write_bytes(archive())
        hook = ["/bin/sh", "-c", f"cat >> '{directory}/notices'; echo >> '{directory}/notices'"]
        said = {**settings, "directory": str(directory / "watchdog"), "records": [str(directory / "record")]}
        more = {"alone": True, "hook_command": hook, "textfile_directory": str(directory / "textfile")}
        config.write_text(json.dumps({**said, **more}), encoding="utf-8")
        with (directory / "watchdog.log").open("ab") as log:
            command = [sys.executable, "-I", str(program), f"--config={config}"]
            self.process = subprocess.Popen(command, stderr=log)

    def end(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
        self.engine.close()

    def container(self, name: str) -> Container:
        return self.engine.containers[name + self.ending]

    def server(self, name: str) -> dict[str, t.Any]:
        with contextlib.suppress(OSError, ValueError):
            known = json.loads((self.directory / "watchdog/state.json").read_text(encoding="utf-8"))
            return t.cast("dict[str, t.Any]", known["servers"].get(f"container:{name}{self.ending}") or {})
        return {}

    def events(self, name: str) -> list[str]:
        return [one["event"] for _at, one in self.notices if one["server"] == name + self.ending]

    def first(self, name: str, event: str) -> float:
        """Seconds from the fault to a notice."""
        times = [at for at, one in self.notices if (one["server"], one["event"]) == (name + self.ending, event)]
        return min(at for at in times if at >= self.began[name]) - self.began[name]

    def read_notices(self) -> None:
        path = self.directory / "notices"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        self.notices += [(time.monotonic(), json.loads(line)) for line in lines[len(self.notices) :]]

    def until(self, what: t.Callable[[], bool], seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.read_notices()
            if what():
                return True
            time.sleep(0.1)
        return False


def ask(container: Container, timeout: float = 300.0) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hello"}]}).encode()
    url, kind = f"http://127.0.0.1:{container.port}/v1/chat/completions", {"Content-Type": "application/json"}
    request = urllib.request.Request(url, body, kind)
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=timeout) as answer:
        answer.read()


def load(container: Container, over: threading.Event) -> None:
    """Two clients that ask as fast as they are answered."""

    def client() -> None:
        while not over.is_set():
            ask(container)
            time.sleep(0.02)

    for _number in range(2):
        threading.Thread(target=client, daemon=True).start()
