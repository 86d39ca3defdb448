# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the watchdog does on a decision: with the lock, after one more look, and when the doing fails."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.logfile import FileSource
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ServerSpec, from_params
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog import watch
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.decide import (
    Decision,
    Finding,
    Life,
    Pulse,
    State,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.metrics import Reading
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.subject import Seen
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.watch import Config, Watcher
from pauses import pauses_of

LIFE = Life("c1", "then")
SPEC = from_params({"name": "a", "model": "m", "image": "x:1"})
HANG = Decision(State(), "hang", "0", why="it stands still")


@dataclass
class Subject:
    """A server of which every call is written down."""

    backend: str = "container"
    name: str = "vllm-a"
    place: str = "unix:///nowhere"
    identities: t.Mapping[str, ServerSpec] = field(default_factory=lambda: {"c1": SPEC})
    starts: t.Mapping[str, float] = field(default_factory=dict)
    owner: int = 0
    life: Life = LIFE
    calls: list[str] = field(default_factory=list)
    fails: str = ""

    def seen(self) -> Seen | None:
        return Seen(self.life, running=True, age=100.0)

    def source(self) -> FileSource:
        return FileSource("/nowhere")

    def _call(self, verb: str) -> None:
        self.calls.append(verb)
        if verb == self.fails:
            raise VllmError(f"Cannot {verb} container vllm-a. Docker says: no.", "backend-failed")

    def stop(self, patience: int = 10) -> None:
        self._call("stop")

    def start(self) -> None:
        self._call("start")


@dataclass
class Scene:
    """A watcher, and what it told."""

    watcher: Watcher
    subject: Subject
    told: list[tuple[str, str]]
    finding: Finding = Finding("it stands still")
    unified: bool = False
    steps: float = 5.0

    @property
    def events(self) -> list[str]:
        return [event for event, _sentence in self.told]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "DIRECTORY", str(tmp_path / "locks"))
    subject, told = Subject(), list[tuple[str, str]]()
    watcher = Watcher(subject, Config(directory=str(tmp_path)), lambda _w, event, text: told.append((event, text)))
    watcher.state = State(LIFE, "hung", proven=True, engines={"0": Pulse(5.0, 1.0, 3)})
    made = Scene(watcher, subject, told)
    monkeypatch.setattr(watch, "examine", lambda *_arguments: (made.finding, "/post-mortem", made.unified))

    def metrics(_asker: t.Any) -> tuple[bool, Reading]:
        return True, Reading({"0": made.steps})

    monkeypatch.setattr(watch.Asker, "metrics", metrics)
    return made


def test_a_hang_is_told_written_down_and_put_right(scene: Scene) -> None:
    scene.watcher.put_right(HANG)
    assert scene.subject.calls == ["stop", "start"]
    assert scene.events == ["hung", "restarted"]
    assert (scene.watcher.state.restarted, scene.watcher.state.acting) == (1, True)
    assert scene.watcher.post_mortem == "/post-mortem"


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"steps": 6.0}, id="it made a step"),
        pytest.param({"life": Life("c1", "later", 1)}, id="it was started again"),
        pytest.param({"life": Life("c2", "later")}, id="it was deployed anew"),
    ],
)
def test_what_went_on_meanwhile_is_left_alone(scene: Scene, change: dict[str, t.Any]) -> None:
    scene.steps = change.get("steps", scene.steps)
    scene.subject.life = change.get("life", scene.subject.life)
    scene.watcher.put_right(HANG)
    assert (scene.subject.calls, scene.events) == ([], ["hung", "recovered"])
    assert (scene.watcher.state.restarted, scene.watcher.state.events) == (0, ())


def test_a_run_that_came_meanwhile_has_the_say(scene: Scene) -> None:
    with lock.alone("vllm-a"):
        scene.watcher.put_right(HANG)
    assert (scene.subject.calls, scene.watcher.state.events) == ([], ())


def test_what_no_restart_heals_is_not_restarted(scene: Scene) -> None:
    scene.finding = Finding("GPU 0 is lost.", "GPU 0 is lost.")
    scene.watcher.put_right(HANG)
    assert (scene.subject.calls, scene.events) == ([], ["hung", "cause", "stood_down"])
    assert scene.watcher.state.stood_down == "GPU 0 is lost. A restart does not heal that."


def test_a_crash_loop_is_stopped(scene: Scene) -> None:
    scene.watcher.put_right(replace(HANG, verb="crash", lives=4))
    assert (scene.subject.calls, scene.events) == (["stop"], ["crash", "stood_down", "stopped"])


@pytest.mark.parametrize("fails", ["stop", "start"])
def test_a_restart_that_fails_is_tried_again_and_not_for_ever(scene: Scene, fails: str) -> None:
    scene.subject.fails = fails
    scene.watcher.put_right(HANG)
    tries = 0
    while scene.watcher.state.acting and tries < 20:
        scene.watcher.resume("a restart of it was interrupted")
        tries += 1
    assert tries == 2
    assert scene.watcher.state.stood_down.startswith(f"It could not be restarted: Cannot {fails} container vllm-a.")
    assert scene.events.count("problem") == 3


def test_on_unified_memory_it_waits_until_that_is_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([10, 50, 90, 90, 90])
    read = watch.files.read_text
    told = {"/proc/meminfo": lambda: f"MemAvailable: {next(free)} kB\n"}
    monkeypatch.setattr(watch.files, "read_text", lambda path: told.get(path, lambda: read(path))())
    slept = pauses_of(monkeypatch)
    scene.unified = True
    scene.watcher.put_right(HANG)
    # Whoever looks at the host meanwhile waits for commands, too.
    assert (scene.subject.calls, slept.count(watch.MEMORY_STEP)) == (["stop", "start"], 3)


def gpu(**values: t.Any) -> dict[str, t.Any]:
    return {"memory_kind": "unified", "utilization_percent": 96, "power_draw_w": 20.0, **values}


@pytest.mark.parametrize(
    ("gpus", "works"),
    [
        pytest.param([gpu()], False, id="busy without power"),
        pytest.param([gpu(power_draw_w=60.0)], True, id="busy with power"),
        pytest.param([gpu(utilization_percent=5, power_draw_w=60.0)], False, id="not busy"),
        pytest.param([gpu(power_draw_w=None)], None, id="nobody knows"),
        pytest.param([gpu(memory_kind="dedicated", power_draw_w=300.0)], None, id="memory of its own"),
        pytest.param([], None, id="no GPU"),
    ],
)
def test_the_second_opinion(
    scene: Scene, gpus: list[dict[str, t.Any]], works: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "observe", lambda _host, timeout: None)
    monkeypatch.setattr(watch, "host_facts", lambda _seen: {"gpus": gpus})
    assert scene.watcher.gpu_works() is works
