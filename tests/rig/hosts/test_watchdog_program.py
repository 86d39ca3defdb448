# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watchdog as the program that a host runs, over a container engine in miniature with a stand-in for each fault.

All at once, with a sixth of the times that are real: one program watches all of them. WATCHDOG_SCALE=1 takes the real
ones, and the table that it writes into .cache/watchdog is the one of docs/reliability.md. Only then times are asserted: at
a sixth of them, what else a machine does counts six times.
"""

from __future__ import annotations

import json
import os
import re
import signal
import threading
import time
import typing as t
from pathlib import Path

import pytest
from little_engine import Container
from test_standin import free_ports
from watched import Watched, load

SCALE = float(os.environ.get("WATCHDOG_SCALE", "6"))
IS_REAL = SCALE == 1
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
# How much later than that a machine that is busy with other tests may be, before nothing is waited for any more.
PATIENCE = 240.0
CASES = (
    *("hangs-from-idle", "hangs-under-load", "freezes-metrics", "null-content", "slow", "killed-server", "crash-loop"),
    *("stopped-engine", "killed-engine", "stays-down", "stopped-by-hand", "hangs-again"),
)


@pytest.fixture(scope="module")
def play(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Watched]:
    made, over = Watched.over(tmp_path_factory.mktemp("watchdog")), threading.Event()
    made.ending = f"-{os.getpid()}"
    try:
        for name in CASES:
            (made.directory / name).mkdir()
            policy = "on-failure" if name == "stays-down" else "unless-stopped"
            container = Container(name + made.ending, free_ports()[0], made.directory / name, policy)
            container.set_fault()
            made.add(container)
        made.begin(SETTINGS)
        perform(made, over)
        report(made)
        yield made
    finally:
        over.set()
        made.end()


def perform(play: Watched, over: threading.Event) -> None:
    """Every fault, and the time that the watchdog has for it."""
    ready = play.until(lambda: all(play.server(name).get("status") == "serving" for name in CASES), PATIENCE)
    assert ready, {name: play.server(name) for name in CASES}
    for name in ("hangs-under-load", "slow", "freezes-metrics"):
        load(play.container(name), over)
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
        play.container(name).set_fault(**fault)
        play.began[name] = time.monotonic()
    for name in ("killed-engine", "crash-loop", "stays-down", "stopped-engine"):
        kill(play.container(name), signal.SIGSTOP if name == "stopped-engine" else signal.SIGKILL)
        play.began[name] = time.monotonic()
    play.began["killed-server"] = time.monotonic()
    server = play.container("killed-server").process
    assert server is not None
    os.killpg(server.pid, signal.SIGKILL)
    play.began["stopped-by-hand"] = time.monotonic()
    play.container("stopped-by-hand").stop(5)
    mended = ("hangs-from-idle", "hangs-under-load")

    def mend() -> bool:
        found = [name for name in mended if "hung" in play.events(name)]
        for name in found:
            play.container(name).set_fault()
        return len(found) == len(mended)

    play.until(mend, FOUND_WITHIN + PATIENCE)
    # What hangs in each life needs one more than its budget, and its warming each time.
    play.until(lambda: "stood_down" in play.events("hangs-again"), 5 * FOUND_WITHIN + PATIENCE)
    back = (*mended, "stopped-engine", "killed-server", "killed-engine")
    play.until(lambda: all(play.server(name).get("status") == "serving" for name in back), PATIENCE)


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
FAULTS = {
    "hangs-from-idle": "the engine hangs from idle; `/metrics` shows no request, `/health` 200",
    "hangs-under-load": "the engine hangs under the load of two clients",
    "stopped-engine": "the engine is stopped (SIGSTOP), idle",
    "hangs-again": "the engine hangs from idle, in each of its lives",
    "freezes-metrics": "`/metrics` stands still under load; all else works",
    "null-content": "every answer is 200 without content",
    "slow": "every answer takes 60 s, without a step in between",
    "killed-engine": "the engine is killed; the server leaves with status 0",
    "killed-server": "all processes are killed",
    "crash-loop": "the engine is killed, and dies half a second after each start",
    "stays-down": "the engine is killed, with `restart_policy: on-failure`, which takes status 0 for an end",
    "stopped-by-hand": "a user stops the container",
}


def report(play: Watched) -> None:
    """The table, as the documentation has it."""
    lines = ["| fault | seen after | what the watchdog did | in the end |", "| --- | --- | --- | --- |"]
    for name, fault in FAULTS.items():
        events = [event for event in play.events(name) if event not in ("serving", "problem", "cause")]
        found = [at for at, one in play.notices if one["server"] == name + play.ending and one["event"] in SEEN]
        seen = min((at - play.began[name] for at in found if at >= play.began[name]), default=None)
        counted = {event: events.count(event) for event in dict.fromkeys(events)}
        acts = ", ".join(f"{event.replace('_', ' ')}{f' x {n}' if n > 1 else ''}" for event, n in counted.items())
        end = play.server(name).get("status", "").replace("_", " ")
        lines.append(f"| {fault} | {'' if seen is None else f'{seen:.0f} s'} | {acts or 'nothing'} | {end} |")
    table = Path(__file__).parents[3] / ".cache/watchdog/table.md"
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


SEEN = ("hung", "crash", "down")
HANGS = ("hangs-from-idle", "hangs-under-load", "stopped-engine", "hangs-again")


@pytest.mark.parametrize("name", HANGS)
def test_a_hang_is_found_in_time(play: Watched, name: str) -> None:
    assert play.first(name, "hung") <= FOUND_WITHIN + 10 or not IS_REAL
    assert play.first(name, "restarted") >= play.first(name, "hung")


@pytest.mark.parametrize("name", HANGS[:3])
def test_what_hung_serves_again(play: Watched, name: str) -> None:
    assert (play.server(name)["status"], play.server(name)["restarts"]) == ("serving", 1)
    assert len(play.container(name).starts) == 2
    assert CAUSES[name] in play.server(name)["cause"]


@pytest.mark.parametrize("name", ["freezes-metrics", "null-content", "slow", "stopped-by-hand"])
def test_what_is_no_hang_is_left_alone(play: Watched, name: str) -> None:
    assert len(play.container(name).starts) == 1
    assert not {"hung", "restarted", "crash", "stood_down"} & {*play.events(name)}
    expected = {"stopped-by-hand": ("stopped",), "slow": ("serving", "suspect")}.get(name, ("serving",))
    assert play.server(name)["status"] in expected


@pytest.mark.parametrize("name", ["killed-server", "killed-engine"])
def test_one_that_died_is_seen_at_once_and_comes_back(play: Watched, name: str) -> None:
    assert play.first(name, "crash") <= 15 or not IS_REAL
    assert (play.server(name)["status"], play.server(name)["restarts"]) == ("serving", 0)
    assert [one["kind"] for one in play.server(name)["events"]] == ["crash"]
    if name == "killed-engine":
        assert play.server(name)["cause"] == "The engine's process EngineCore_0 was killed or crashed."


def test_a_crash_loop_is_ended(play: Watched) -> None:
    assert play.server("crash-loop")["status"] == "stood_down"
    assert play.server("crash-loop")["stood_down"] == "It ended more than 3 times within 60 minutes."
    assert not play.container("crash-loop").runs
    # One more than the budget, and those that came while the last one was looked at.
    assert len(play.container("crash-loop").starts) >= 4


def test_what_nothing_starts_again_is_reported(play: Watched) -> None:
    assert play.server("stays-down")["status"] == "down"
    assert play.events("stays-down").count("down") == 1
    assert "restart_policy on-failure does not start it again" in json.dumps(play.notices)


def test_the_budget_is_exact(play: Watched) -> None:
    assert play.server("hangs-again")["stood_down"] == "It was restarted 3 times within 60 minutes already."
    assert play.events("hangs-again").count("restarted") == 3
    assert len(play.container("hangs-again").starts) == 4


def test_a_post_mortem_is_on_disk_for_its_owner_alone(play: Watched) -> None:
    path = Path(play.server("hangs-from-idle")["post_mortem"])
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text(encoding="utf-8")
    assert re.findall(r"^== (.*) ==$", text, re.MULTILINE)[:2] == ["Summary", "Process"]
    assert "vllm:iteration_tokens_total_count" in text
    assert "Application startup complete" in text


def test_the_metrics_are_written(play: Watched) -> None:
    text = (play.directory / "textfile/gpufleet_vllm_watchdog.prom").read_text(encoding="utf-8")
    assert f'gpufleet_vllm_watchdog_restarts_total{{server="hangs-from-idle{play.ending}"}} 1\n' in text
    assert f'gpufleet_vllm_watchdog_stood_down{{server="crash-loop{play.ending}"}} 1\n' in text


def test_it_costs_next_to_nothing(play: Watched) -> None:
    """Time of the processor, not of the clock. Twelve servers, six times as often as for real: 72 times the work of one."""
    assert play.process is not None
    words = Path(f"/proc/{play.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    used = (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
    lasted = time.monotonic() - min(play.began.values())
    assert used / lasted / (len(CASES) * SCALE) < 0.01


def test_what_it_did_outlives_it(play: Watched) -> None:
    """Started again, it remembers its restarts and its patience that ended."""
    assert play.process is not None
    play.process.send_signal(signal.SIGKILL)
    play.process.wait(10)
    state = play.directory / "watchdog/state.json"
    before = state.read_bytes()
    play.begin(SETTINGS)
    assert play.until(lambda: state.read_bytes() != before, PATIENCE)
    assert play.server("hangs-from-idle")["restarts"] == 1
    assert play.server("hangs-again")["stood_down"]
    assert Path(play.server("hangs-again")["post_mortem"]).exists()
