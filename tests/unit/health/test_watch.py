# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When waiting is pointless: causes that cannot heal, processes that are stopped, and silence. Time is a model."""

from __future__ import annotations

import itertools
import typing as t
from dataclasses import dataclass, field

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.watch import GRACE, Watch
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import Activity, ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import Diagnosis

LINE = "(EngineCore pid=1) INFO 11-21 10:00:00 [x.py:1] {}\n"
FREE = (
    "(EngineCore pid=1) ERROR 11-21 10:00:00 [x.py:1] ValueError: Free memory on device (1.53/22.05 GiB) on startup is "
    "less than desired GPU memory utilization (0.9, 19.84 GiB).\n"
)
from vllm_logs import captured

WAITS = LINE.format("No available shared memory broadcast block found in 60 seconds.")
DIED = (
    "(EngineCore pid=1) ERROR 11-21 10:00:00 [x.py:1] Worker proc VllmWorker-1 died unexpectedly, shutting down "
    "executor.\n"
)
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.18 GiB.\n"


@dataclass
class World:
    """A server that writes and works while time passes: (second, text), (second, CPU seconds so far)."""

    writes: list[tuple[float, str]] = field(default_factory=list)
    works: list[tuple[float, Activity]] = field(default_factory=list)
    gpu: list[tuple[float, str]] = field(default_factory=list)
    now: float = 100.0
    read_until: float = 0.0
    name: str = "c"

    # The source.
    def state(self) -> ProcessState:
        return ProcessState(True, name="Container c")

    def _written(self, since: float) -> str:
        return "".join(text for at, text in self.writes if since < at + 100 <= self.now)

    def tail(self) -> str:
        return self._written(-1)

    def news(self) -> str:
        since, self.read_until = self.read_until, self.now
        return self._written(since)

    def root_pid(self) -> int:
        return 1

    def about(self) -> dict[str, t.Any]:
        return {"secrets": []}

    def versions(self) -> dict[str, str]:
        return {}

    def _latest(self, series: t.Sequence[tuple[float, t.Any]]) -> t.Any:
        return next((what for at, what in reversed(series) if at + 100 <= self.now), None)

    def look(
        self, seconds: float, stall: float = 60.0, carried: t.Mapping[str, t.Any] | None = None
    ) -> Diagnosis | None:
        watch = self.watch(stall, carried)
        while self.now < 100 + seconds:
            found = watch.look()
            if found:
                return found
            self.now = round(self.now + 0.25, 2)
        return None

    def watch(self, stall: float = 60.0, carried: t.Mapping[str, t.Any] | None = None) -> Watch:
        return Watch(
            self,
            {},
            stall,
            monotonic=lambda: self.now,
            carried=carried,
            activity=lambda pid: self._latest(self.works),
            gpu_memory=lambda: self._latest(self.gpu) or "",
        )

    @property
    def gone(self) -> float:
        return self.now - 100


def busy(per_second: float, until: float, *stopped: str) -> list[tuple[float, Activity]]:
    return [(float(second), Activity(second * per_second, stopped)) for second in range(int(until))]


def test_a_cause_that_cannot_heal_ends_the_wait_after_a_moment_of_grace() -> None:
    world = World([(10.0, FREE)])
    found = world.look(60)
    assert found is not None
    assert found.id == "mem-free-below-budget"
    assert 10 + GRACE <= world.gone < 12


def test_the_death_of_an_engine_that_was_ready_needs_no_grace() -> None:
    world = World([(1.0, "INFO:     Application startup complete.\n"), (10.0, DIED)])
    found = world.look(60)
    assert found is not None
    assert (found.id, found.final) == ("worker-died", True)
    assert 10 <= world.gone < 10 + GRACE


def test_the_death_of_an_engine_that_starts_has_the_moment_of_grace_for_its_cause() -> None:
    world = World([(10.0, DIED), (10.25, OOM)])
    found = world.look(60)
    assert found is not None
    assert found.id == "cuda-oom"


@pytest.mark.parametrize(
    ("why", "text"),
    [
        ("an attempt that is caught", OOM),
        ("a warning", "(E pid=1) WARNING 11-21 10:00:00 [x.py:1] Error retrieving something, falling back\n"),
        ("an error of a request", "ERROR 11-21 10:00:00 [x.py:1] Error in preprocessing prompt inputs\n"),
        ("progress", LINE.format("Starting to load model m...")),
    ],
)
def test_trouble_that_may_pass_does_not(why: str, text: str) -> None:
    assert World([(10.0, text)], busy(0.5, 60)).look(50) is None, why


def test_trouble_is_judged_again_when_more_of_it_comes() -> None:
    world = World([(10.0, OOM), (20.0, "(E pid=1) ERROR 11-21 10:00:00 [c.py:1] EngineCore failed to start.\n")])
    found = world.look(60)
    assert found is not None
    assert found.id == "cuda-oom"
    assert 20 <= world.gone < 22


# --- silence ---------------------------------------------------------------------------------------------------------


def test_silence_without_work_is_a_stall() -> None:
    world = World([(5.0, LINE.format("Starting to load model m..."))], busy(0.01, 200))
    found = world.look(200, stall=60)
    assert found is not None
    assert (found.id, found.retryable) == ("stalled", True)
    assert "Container c has made no progress for 60 s while loading weights" in found.cause
    assert 65 <= world.gone < 66


@pytest.mark.parametrize(
    ("why", "world"),
    [
        ("it writes", World([(float(n), LINE.format(f"step {n}")) for n in range(0, 200, 30)])),
        ("it works", World([], busy(0.5, 200))),
        ("its memory on the GPU grows", World(gpu=[(float(n), str(n)) for n in range(0, 200, 10)])),
    ],
)
def test_whoever_moves_does_not_stall(why: str, world: World) -> None:
    assert world.look(200, stall=60) is None, why


def test_what_a_hanging_server_writes_is_no_sign_of_life() -> None:
    alive = '(APIServer pid=1) INFO:     127.0.0.1:1 - "GET /health HTTP/1.1" 503 Service Unavailable\n'
    world = World([(float(n), alive) for n in range(0, 200, 5)])
    found = world.look(200, stall=60)
    assert found is not None
    assert found.id == "stalled"


def test_a_worker_that_is_waited_for_has_more_time_and_spinning_is_no_work() -> None:
    world = World([(1.0 + 60 * n, WAITS) for n in range(6)], busy(1.0, 400))
    found = world.look(400, stall=100)
    assert found is not None
    assert found.id == "shm-broadcast-stall"
    assert 300 <= world.gone < 302


def test_a_stall_can_be_ruled_out() -> None:
    assert World().look(1000, stall=0) is None


def test_silence_goes_on_over_slices() -> None:
    world = World()
    watch = world.watch(60)
    world.now += 40
    assert watch.look() is None
    carried = watch.carry()
    found = world.look(100, 60, carried)
    assert found is not None
    assert 60 <= world.gone < 61


def test_a_clock_that_is_younger_than_what_was_carried_is_a_host_that_was_rebooted() -> None:
    world = World()
    assert world.look(50, 60, {"moved": 1e9, "waits": False}) is None


# --- processes -------------------------------------------------------------------------------------------------------


def test_a_stopped_process_is_told_when_it_is_stopped_twice_in_a_row() -> None:
    works = [*busy(0.1, 20), *((20 + n / 2, Activity(2.0, ("VLLM::Worker (PID 7)",))) for n in range(20))]
    world = World(works=works)
    found = world.look(60)
    assert found is not None
    assert (found.id, found.evidence) == ("shm-broadcast-stall", "VLLM::Worker (PID 7): state T (stopped)")
    assert 20 <= world.gone < 22


def test_a_debugger_that_only_looks_in_is_no_failure() -> None:
    works = [*busy(0.2, 20), (20.0, Activity(4.0, ("VLLM::Worker (PID 7)",))), (20.5, Activity(4.1))]
    assert World(works=works).look(40) is None


def test_processes_that_cannot_be_seen_are_none() -> None:
    assert World([(1.0, LINE.format("x"))]).look(50) is None


def test_looks_at_processes_that_take_long_are_rare(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes a second is made every twenty: on a busy host, looking is no part of the load."""
    world, looks, seconds = World(), list[float](), itertools.count()
    watch = world.watch()
    watch.activity = lambda pid: looks.append(world.gone)
    monkeypatch.setattr("time.monotonic", lambda: float(next(seconds)))
    while world.gone < 50:
        watch.look()
        world.now += 0.25
    assert looks == [0.0, 20.0, 40.0]


# --- phase -----------------------------------------------------------------------------------------------------------


def test_the_phase_is_followed() -> None:
    world = World([(1.0, LINE.format("Starting to load model m...")),
                   (2.0, "Loading safetensors checkpoint shards:  27% Completed | 4/15 [00:10<00:27,  2.5s/it]\n")])  # fmt: skip
    watch = world.watch()
    assert watch.phase.name == "start"
    world.now += 1.5
    watch.look()
    assert (watch.phase.name, watch.phase.percent) == ("load", None)
    world.now += 1.5
    watch.look()
    assert (watch.phase.name, watch.phase.percent, watch.phase.detail) == ("load", 27, "4/15")


@pytest.mark.parametrize("name", ["h200_gptoss20b_cold", "cpu_healthy", "h200_gptoss20b_serving", "h200_gemma3_27b"])
def test_a_good_start_is_never_given_up(name: str) -> None:
    """The captured starts, a line a second."""
    lines = captured(name).splitlines(keepends=True)
    upto = next(i for i, line in enumerate(lines) if "Application startup complete" in line)
    world = World([(float(i), line) for i, line in enumerate(lines[: upto + 1])])
    assert world.look(upto + 5) is None
    assert [phase.name for phase in world.watch().timeline.phases()] == []


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("h200_memory_held", "mem-free-below-budget"),
        ("h200_tp4_of_2", "world-size"),
        ("cpu_disk_full", "disk-full"),
        ("cpu_worker_killed", "worker-died"),
        ("cpu_engine_dies", "engine-dead"),
        ("cpu_no_encodings", "harmony-vocab-missing-file"),
        ("cpu_bad_flag", "args-unrecognized"),
        ("cpu_no_weights", "no-weights"),
    ],
)
def test_a_captured_failure_is_given_up_before_the_process_ends(name: str, id: str) -> None:
    """The whole log at once, as a fast failure writes it."""
    world = World([(5.0, captured(name))])
    found = world.look(30)
    assert found is not None
    assert found.id == id
    assert world.gone < 7
