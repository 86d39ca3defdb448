# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watchdog over units: how one is seen, stopped, started and put right, by the systemctl of tests/rig/units."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import time
import typing as t
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import from_params
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.decide import Settings
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.subject import Seen, Unit
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.watch import Config, Watcher
from test_standin import VLLM, free_ports

UNITS = Path(__file__).parents[1] / "units"
NAME = "vllm-watched"
TEXT = """\
[Service]
Type=exec
Environment=HF_HOME={home}
Environment=STANDIN_WATCHDOG_SECONDS=0.1
ExecStart={python} {vllm} serve Qwen/Qwen2.5-0.5B-Instruct --host 127.0.0.1 --port {port}
Restart=always
RestartSec=1
KillMode=mixed
TimeoutStopSec=60
[Unit]
StartLimitIntervalSec=60
StartLimitBurst=3
"""
# Long enough for a machine that stands still for a few seconds: what it does to a server is no hang of its.
SETTINGS = Settings(
    interval=0.3,
    canary_timeout=3.0,
    stall=9.0,
    idle=0.5,
    quiet=0.3,
    steps_only=12.0,
    start=240.0,
    warming=3.0,
    away=60.0,
)
PATIENCE = 120.0


@dataclass
class Server:
    """A unit that runs the stand-in."""

    unit: Unit
    home: Path
    watcher: Watcher
    told: list[tuple[str, str]]

    def seen(self) -> Seen:
        found = self.unit.seen()
        assert found is not None
        return found

    def set_fault(self, text: str) -> None:
        (self.home / "standin.json").write_text(text, encoding="utf-8")

    def watch(self, until: t.Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Look as often as is set, until something is so."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.watcher.turn()
            if until():
                return True
            self.watcher.wake.wait(SETTINGS.interval)
            self.watcher.wake.clear()
        return False

    @property
    def events(self) -> list[str]:
        return [event for event, _sentence in self.told]

    def serves(self) -> bool:
        return self.watcher.state.status == "serving"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Server]:
    programs, units, home = (tmp_path / one for one in ("bin", "units", "home"))
    for directory in (programs, units, home, tmp_path / "groups"):
        directory.mkdir()
    for name in ("systemctl", "journalctl"):
        (programs / name).symlink_to(UNITS / "systemctl")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("RIG_UNITS", str(units))
    monkeypatch.setenv("RIG_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("RIG_GROUPS", str(tmp_path / "groups"))
    monkeypatch.setattr(Unit, "directory", str(units))
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "DIRECTORY", str(tmp_path / "locks"))
    port = free_ports()[0]
    text = TEXT.format(home=home, python=sys.executable, vllm=VLLM, port=port)
    (units / f"{NAME}.service").write_text(text, encoding="utf-8")
    spec = from_params({"name": "watched", "model": "m", "venv": "/v", "port": port, "gpus": "none"})
    spec = replace(spec, served_model_name="Qwen/Qwen2.5-0.5B-Instruct")
    unit = Unit(NAME, {hashlib.sha256(text.encode()).hexdigest(): spec}, {})
    told: list[tuple[str, str]] = []
    config = Config(SETTINGS, str(tmp_path / "watchdog"))
    watcher = Watcher(unit, config, lambda _watcher, event, sentence: told.append((event, sentence)))
    made = Server(unit, home, watcher, told)
    made.set_fault('{"fault": "", "load_seconds": 0.1}')
    unit.start()
    yield made
    with contextlib.suppress(VllmError):
        unit.stop(5)


def test_a_unit_that_hangs_is_put_right_unless_a_run_has_it(server: Server) -> None:
    assert server.watch(server.serves)
    server.set_fault('{"fault": "hang-from-idle", "load_seconds": 0.1}')
    with lock.alone(NAME):
        assert not server.watch(lambda: "hung" in server.events, 15.0)
        assert server.watcher.state.status == "changing"
    assert server.watch(lambda: "hung" in server.events)
    server.set_fault('{"fault": "", "load_seconds": 0.1}')
    assert server.watch(server.serves), server.told
    assert (server.watcher.state.restarted, server.seen().life.restarts) == (1, 0)
    text = Path(server.watcher.post_mortem).read_text(encoding="utf-8")
    assert "Application startup complete" in text


def test_one_that_dies_comes_back_until_systemd_gives_it_up(server: Server) -> None:
    assert server.watch(server.serves)
    server.set_fault('{"fault": "exit-at-once"}')
    os.kill(server.unit.source().root_pid() or 0, signal.SIGKILL)
    assert server.watch(lambda: "crash" in server.events), server.told
    assert server.watch(lambda: "down" in server.events or "stood_down" in server.events), server.told
    assert server.watch(lambda: not server.seen().running and not server.seen().returns)
    assert server.watcher.state.restarted == 0


def test_one_that_ignores_its_end_is_killed(server: Server) -> None:
    path = Path(server.unit.directory) / f"{NAME}.service"
    text = path.read_text(encoding="utf-8")
    path.write_text(text + "# changed\n", encoding="utf-8")
    assert server.unit.seen() is None
    path.write_text(text, encoding="utf-8")
    assert server.watch(server.serves)
    server.set_fault('{"fault": "ignore-sigterm"}')
    server.unit.stop(1)
    assert (server.seen().running, server.seen().returns, server.seen().died) == (False, False, "")
    assert server.watch(lambda: server.watcher.state.status == "stopped")
