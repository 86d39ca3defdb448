# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watchdog as the program that a host runs, over a container engine in miniature with a stand-in for each fault.

All at once, with a tenth of the times that are real: one program watches all of them.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import typing as t
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import Ledger, entry
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.program import archive
from little_engine import Container, LittleEngine
from test_standin import free_port

SCALE = 10.0
FOUND_WITHIN = 150.0 / SCALE
SETTINGS = {
    "interval": 5 / SCALE,
    "canary_timeout": 40 / SCALE,
    "stall": 120 / SCALE,
    "idle": 20 / SCALE,
    "quiet": 10 / SCALE,
    # Shorter still: a server that hangs in each of its lives waits for it each time.
    "warming": 30 / SCALE,
    "start": 1800 / SCALE,
    "away": 300 / SCALE,
}
# What a machine that is busy with other tests may add to a time that is a tenth of the real one.
SLACK = 4.0
CASES = (
    *("hangs-from-idle", "hangs-under-load", "freezes-metrics", "null-content", "slow", "dies", "crash-loop"),
    *("stopped-engine", "killed-engine", "stays-down", "stopped-by-hand", "hangs-again"),
)


@dataclass
class Play:
    """What became of the servers."""

    engine: LittleEngine
    directory: Path
    process: subprocess.Popen[bytes]
    # When its fault began.
    began: dict[str, float] = field(default_factory=dict)
    # When its notices came, by event.
    notices: list[tuple[float, dict[str, t.Any]]] = field(default_factory=list)

    def server(self, name: str) -> dict[str, t.Any]:
        with contextlib.suppress(OSError, ValueError):
            known = json.loads((self.directory / "watchdog/state.json").read_text(encoding="utf-8"))
            return t.cast("dict[str, t.Any]", known["servers"].get(f"container:{name}") or {})
        return {}

    def events(self, name: str) -> list[str]:
        return [one["event"] for _at, one in self.notices if one["server"] == name]

    def first(self, name: str, event: str) -> float:
        """Seconds from the fault to a notice."""
        times = [at for at, one in self.notices if (one["server"], one["event"]) == (name, event)]
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
    request = urllib.request.Request(f"http://127.0.0.1:{container.port}/v1/chat/completions", body)
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


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Play]:
    directory = tmp_path_factory.mktemp("watchdog")
    (directory / "textfile").mkdir()
    socket = directory / "engine.sock"
    engine = LittleEngine(socket)
    ledger = Ledger(str(directory / "record"), f"unix://{socket}")
    for name in CASES:
        home = directory / name
        home.mkdir()
        policy = "on-failure" if name == "stays-down" else "unless-stopped"
        made = engine.containers[name] = Container(name, free_port(), home, policy)
        made.set_fault()
        spec = {"name": name, "model": "Qwen/Qwen2.5-0.5B-Instruct", "image": "x", "port": made.port, "gpus": "none"}
        one = entry(f"{name}", "server", name=name, identity=made.identity, intent={**spec, "container_name": name})
        ledger.write(one)
        made.start()
    program, config = directory / "watchdog.pyz", directory / "watchdog.json"
    program.write_bytes(archive())
    hook = ["/bin/sh", "-c", f"cat >> '{directory}/notices'; echo >> '{directory}/notices'"]
    said = {**SETTINGS, "directory": str(directory / "watchdog"), "records": [str(directory / "record")], "alone": True}
    config.write_text(json.dumps({**said, "hook_command": hook, "textfile_directory": str(directory / "textfile")}))
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-I", str(program), f"--config={config}"], stderr=log)
    over, played = threading.Event(), Play(engine, directory, process)
    try:
        perform(played, over)
        yield played
    finally:
        over.set()
        process.terminate()
        process.wait(30)
        engine.close()


def perform(play: Play, over: threading.Event) -> None:
    """Every fault, and the time that the watchdog has for it."""
    engine = play.engine
    ready = play.until(lambda: all(play.server(name).get("status") == "serving" for name in CASES), 60)
    assert ready, {name: play.server(name) for name in CASES}
    for name in ("hangs-under-load", "slow", "freezes-metrics"):
        load(engine.containers[name], over)
    play.until(lambda: False, 1.0)
    faults: dict[str, dict[str, t.Any]] = {
        "hangs-from-idle": {"fault": "hang-from-idle"},
        "hangs-under-load": {"fault": "hang-completion"},
        "freezes-metrics": {"fault": "freeze-metrics"},
        "null-content": {"fault": "null-content"},
        "slow": {"fault": "slow-completion", "seconds": 60 / SCALE},
        "crash-loop": {"fault": "exit-after", "seconds": 0.5},
        "hangs-again": {"fault": "hang-from-idle"},
    }
    for name, fault in faults.items():
        engine.containers[name].set_fault(**fault)
        play.began[name] = time.monotonic()
    for name in ("dies", "killed-engine", "crash-loop", "stays-down", "stopped-engine"):
        kill(engine.containers[name], signal.SIGSTOP if name == "stopped-engine" else signal.SIGKILL)
        play.began[name] = time.monotonic()
    engine.containers["stopped-by-hand"].stop(5)
    mended = ("hangs-from-idle", "hangs-under-load")
    play.until(lambda: all("hung" in play.events(name) for name in mended), FOUND_WITHIN + SLACK + 5)
    for name in mended:
        engine.containers[name].set_fault()
    # What hangs in each life needs one more than its budget, and its warming each time.
    play.until(lambda: "stood_down" in play.events("hangs-again"), 5 * (FOUND_WITHIN + SLACK))
    play.until(lambda: all(play.server(name).get("status") == "serving" for name in mended), 20)


def kill(container: Container, number: int) -> None:
    """The engine, as a fault of the GPU would."""
    assert container.process is not None
    pid = container.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    os.kill(int(children[0]), number)


CAUSES = {
    "hangs-from-idle": "requests of one token failed in a row",
    "hangs-under-load": "requests of one token failed in a row",
    "stopped-engine": "stopped (state T)",
}
HANGS = ("hangs-from-idle", "hangs-under-load", "stopped-engine", "hangs-again")


@pytest.mark.parametrize("name", HANGS)
def test_a_hang_is_found_in_time(play: Play, name: str) -> None:
    assert play.first(name, "hung") <= FOUND_WITHIN + SLACK
    assert play.first(name, "restarted") >= play.first(name, "hung")


@pytest.mark.parametrize("name", HANGS[:3])
def test_what_hung_serves_again(play: Play, name: str) -> None:
    assert (play.server(name)["status"], play.server(name)["restarts"]) == ("serving", 1)
    assert len(play.engine.containers[name].starts) == 2
    assert CAUSES[name] in play.server(name)["cause"]


@pytest.mark.parametrize("name", ["freezes-metrics", "null-content", "slow", "stopped-by-hand"])
def test_what_is_no_hang_is_left_alone(play: Play, name: str) -> None:
    assert len(play.engine.containers[name].starts) == 1
    assert not {"hung", "restarted", "crash", "stood_down"} & {*play.events(name)}
    expected = {"stopped-by-hand": ("stopped",), "slow": ("serving", "suspect")}.get(name, ("serving",))
    assert play.server(name)["status"] in expected


@pytest.mark.parametrize("name", ["dies", "killed-engine"])
def test_one_that_died_is_seen_at_once_and_comes_back(play: Play, name: str) -> None:
    assert play.first(name, "crash") <= 5 / SCALE + SLACK
    assert (play.server(name)["status"], play.server(name)["restarts"]) == ("serving", 0)
    assert [one["kind"] for one in play.server(name)["events"]] == ["crash"]
    assert play.server(name)["cause"] == "The engine's process EngineCore_0 was killed or crashed."


def test_a_crash_loop_is_ended(play: Play) -> None:
    assert play.server("crash-loop")["status"] == "stood_down"
    assert play.server("crash-loop")["stood_down"] == "It ended more than 3 times within 60 minutes."
    assert not play.engine.containers["crash-loop"].runs
    # One more than the budget, and those that came while the last one was looked at.
    assert 4 <= len(play.engine.containers["crash-loop"].starts) <= 12


def test_what_nothing_starts_again_is_reported(play: Play) -> None:
    assert play.server("stays-down")["status"] == "down"
    assert play.events("stays-down").count("down") == 1
    assert "restart_policy on-failure does not start it again" in json.dumps(play.notices)


def test_the_budget_is_exact(play: Play) -> None:
    assert play.server("hangs-again")["stood_down"] == "It was put right 3 times within 60 minutes already."
    assert play.events("hangs-again").count("restarted") == 3
    assert len(play.engine.containers["hangs-again"].starts) == 4


def test_a_post_mortem_is_on_disk_for_its_owner_alone(play: Play) -> None:
    path = Path(play.server("hangs-from-idle")["post_mortem"])
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^== (.*) ==$", text, re.MULTILINE)[:2] == ["Summary", "Process"]
    assert "vllm:iteration_tokens_total_count" in text
    assert "Application startup complete" in text


def test_the_metrics_are_written(play: Play) -> None:
    text = (play.directory / "textfile/gpufleet_vllm_watchdog.prom").read_text(encoding="utf-8")
    assert 'gpufleet_vllm_watchdog_restarts_total{server="hangs-from-idle"} 1\n' in text
    assert 'gpufleet_vllm_watchdog_stood_down{server="crash-loop"} 1\n' in text


def test_it_costs_next_to_nothing(play: Play) -> None:
    """Twelve servers, ten times as often as for real: a hundred and twenty times the work of one."""
    words = Path(f"/proc/{play.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    used = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    lasted = time.monotonic() - min(play.began.values())
    assert used / lasted / (len(CASES) * SCALE) < 0.01


def test_what_it_did_outlives_it(play: Play) -> None:
    """Started again, it remembers its restarts and its patience that ended."""
    play.process.send_signal(signal.SIGKILL)
    play.process.wait(10)
    config = play.directory / "watchdog.json"
    command = [sys.executable, "-I", str(play.directory / "watchdog.pyz"), f"--config={config}"]
    play.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    time.sleep(3)
    assert play.server("hangs-from-idle")["restarts"] == 1
    assert play.server("hangs-again")["status"] == "stood_down"
    play.process.terminate()
    play.process.wait(10)
