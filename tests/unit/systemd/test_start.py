# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a unit runs first: its command line, its choice of GPUs, its turn, and the one file that it is on a host."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import SYSTEMD, Ledger, entry
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState, born
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd import program as programs, start as starts
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.program import MODULES, Programs, archive
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.start import (
    LONGEST,
    PATIENCE,
    STRANGER,
    UNIT,
    Start,
    chosen,
    parsed,
    ready,
    settled,
    turn,
    turns,
    visible,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import diagnose
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.log import parse_lines
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.phase_lines import is_progress

COLLECTIONS = Path(starts.__file__).parents[6]
BANNER = "INFO 07-04 17:35:16 [api_server.py:1]   version 0.26.0"
COMMAND = ("/opt/vllm/bin/vllm", "serve", "m", "--port", "8000")
PLAIN = Start("a", COMMAND)

# --- its command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(PLAIN, id="all GPUs"),
        pytest.param(replace(PLAIN, gpus=("GPU-1", "0")), id="GPUs"),
        pytest.param(replace(PLAIN, gpus=("0",), at_start="reselect", prefer="free", min_free_mib=7), id="a wish"),
        pytest.param(replace(PLAIN, gpus=("MIG-1",), at_start="reselect", mig=True), id="a MIG device"),
        pytest.param(replace(PLAIN, share=0.675, used=4, takes_uuids=True), id="a share of four"),
        pytest.param(replace(PLAIN, turns="/run/x/turns", bind="::", port=8001), id="its turn"),
        pytest.param(replace(PLAIN, turns="/run/x/turns", uds="/run/a b.sock"), id="its turn, until a socket answers"),
        pytest.param(replace(PLAIN, command=("sh", "-c", "x", "--", "--server=b")), id="words that look like its own"),
    ],
)
def test_what_is_written_is_what_is_read(start: Start) -> None:
    python, isolated, program, *words = start.argv("/v/bin/python", "/p.pyz")
    assert (python, isolated, program) == ("/v/bin/python", "-I", "/p.pyz")
    assert parsed(words) == start


@pytest.mark.parametrize("words", [[], ["--server=a"], ["--server=a", "--"], ["--serv=a", "--", "x"], ["--", "x"]])
def test_what_says_no_start_ends_it(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(words)
    assert caught.value.code == 2


# --- its GPUs ---------------------------------------------------------------------------------------------------------


def gpu(index: int, free: int = 81000, **more: t.Any) -> dict[str, t.Any]:
    known = {"memory_total_mib": 81920, "memory_free_mib": free, "memory_used_mib": 81303 - free, "health": "ok"}
    return {"index": index, "uuid": f"GPU-{index}", "compute_mode": "Default", "mig": None, **known, **more}


def host(*gpus: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"status": "ok", "message": None, "gpus": list(gpus), "topology": {}}


ANN = {"pid": 7, "user": "ann", "used_memory_mib": 36864, "container": None, "server": None}
TAKEN = gpu(0, 44000, processes=[ANN])
ON_0 = replace(PLAIN, gpus=("GPU-0",), share=0.75)
AGAIN = replace(ON_0, at_start="reselect", prefer="free")
SPLIT = gpu(
    0,
    mig={
        "enabled": True,
        "devices": [{"uuid": f"MIG-{n}", "memory_total_mib": 20000, "memory_free_mib": 19000} for n in (0, 1)],
    },
)


@pytest.mark.parametrize(
    ("start", "facts", "taken"),
    [
        pytest.param(ON_0, host(gpu(0)), ["GPU-0"], id="by UUID"),
        pytest.param(replace(ON_0, gpus=("1", "0")), host(gpu(0), gpu(1)), ["GPU-1", "GPU-0"], id="by index, in order"),
        pytest.param(ON_0, host(gpu(3, uuid="GPU-0")), ["GPU-0"], id="one that has another index now"),
        pytest.param(replace(ON_0, share=0.5), host(TAKEN), ["GPU-0"], id="beside somebody, with room"),
        pytest.param(replace(ON_0, share=0.997), host(gpu(0, 81303)), ["GPU-0"], id="all that CUDA sees"),
        pytest.param(replace(ON_0, share=0.0), host(gpu(0, 100)), ["GPU-0"], id="with its cache pinned, unchecked"),
        pytest.param(
            replace(PLAIN, share=0.75), host(gpu(0), gpu(1, 100)), ["GPU-0", "GPU-1"], id="all, of which one is used"
        ),
        pytest.param(
            replace(ON_0, gpus=("GPU-0", "GPU-1"), used=1), host(gpu(0), gpu(1, 100)), ["GPU-0", "GPU-1"], id="a spare"
        ),
        pytest.param(AGAIN, host(gpu(0), gpu(1, 81303)), ["GPU-0"], id="the same while that is free"),
        pytest.param(AGAIN, host(TAKEN, gpu(1), gpu(2, 70000)), ["GPU-1"], id="another one when it is taken"),
        pytest.param(AGAIN, host(gpu(1)), ["GPU-1"], id="another one when it is gone"),
        pytest.param(AGAIN, host(gpu(0, health="lost"), gpu(1)), ["GPU-1"], id="another one when it is lost"),
        pytest.param(
            replace(AGAIN, min_free_mib=65000), host(TAKEN, gpu(1, 64000), gpu(2, 66000)), ["GPU-2"], id="as wished"
        ),
        pytest.param(replace(ON_0, gpus=("MIG-1",)), host(SPLIT), ["MIG-1"], id="a MIG device"),
        pytest.param(replace(ON_0, gpus=("0:1",)), host(SPLIT), ["MIG-1"], id="a MIG device by its number"),
        pytest.param(replace(PLAIN, share=0.9), host(SPLIT), ["GPU-0"], id="all, with MIG on"),
        pytest.param(
            ON_0, host(gpu(0, memory_total_mib=None, memory_free_mib=None)), ["GPU-0"], id="memory that nobody knows"
        ),
    ],
)
def test_the_gpus_that_it_takes(start: Start, facts: dict[str, t.Any], taken: list[str]) -> None:
    assert [one.uuid for one in chosen(start, facts)[0]] == taken


@pytest.mark.parametrize(
    ("start", "facts", "message"),
    [
        pytest.param(
            ON_0,
            host(TAKEN),
            "GPU 0: 43.0 of 80.0 GiB free, needs 59.5; PID 7 (ann) holds 36.0 GiB. Put that right, or deploy the server again "
            "for other GPUs, or with gpus.at_start: reselect, which chooses again at each start.",
            id="taken",
        ),
        pytest.param(
            replace(ON_0, share=0.0, min_free_mib=45000),
            host(TAKEN),
            "GPU 0: 43.0 of 80.0 GiB free, needs 43.9; PID 7 (ann) holds 36.0 GiB. Put",
            id="with its cache pinned, by what was wished",
        ),
        pytest.param(
            replace(ON_0, gpus=("GPU-1", "GPU-0")),
            host(gpu(0, health="lost"), gpu(1, compute_mode="Exclusive_Process")),
            "GPU 1: compute mode Exclusive_Process, vLLM needs Default. GPU 0 cannot be used: it has fallen off the bus.",
            id="every one that cannot be used",
        ),
        pytest.param(
            ON_0,
            host(gpu(1)),
            "gpus: GPU-0 is not on this host; it has 1 (GPU-1). Put that right",
            id="one that is gone",
        ),
        pytest.param(
            ON_0,
            {"status": "no_driver", "message": "No driver.", "gpus": []},
            "No driver. Put that right",
            id="no driver",
        ),
        pytest.param(PLAIN, {"status": "x", "gpus": []}, "The facts list no GPU.", id="no GPU"),
        pytest.param(
            replace(PLAIN, share=0.9), host(TAKEN), "GPU 0: 43.0 of 80.0 GiB free, needs 71.5; PID 7", id="of all"
        ),
        pytest.param(
            AGAIN,
            host(TAKEN, gpu(1, 100)),
            "Cannot select 1 GPU on this host: 0 of 2 can be taken. GPU 0: 43.0 of 80.0 GiB free, needs 59.5; PID 7 (ann)",
            id="none that is free",
        ),
    ],
)
def test_why_it_does_not_start(start: Start, facts: dict[str, t.Any], message: str) -> None:
    with pytest.raises(VllmError) as caught:
        chosen(start, facts)
    assert str(caught.value).startswith(message)


def test_a_move_is_told_with_the_reason() -> None:
    said: list[str] = []
    assert settled(AGAIN, lambda: host(TAKEN, gpu(1)), said.append)[0].uuid == "GPU-1"
    assert settled(AGAIN, lambda: host(gpu(0)), said.append)[0].uuid == "GPU-0"
    assert said == [
        "a chooses its GPUs again. GPU 0: 43.0 of 80.0 GiB free, needs 59.5; PID 7 (ann) holds 36.0 GiB. "
        "So it moves to GPU 1 (GPU-1)."
    ]


@pytest.mark.parametrize(
    ("start", "facts", "devices"),
    [
        pytest.param(replace(ON_0, takes_uuids=True, gpus=("0",)), host(gpu(0)), "GPU-0", id="UUIDs"),
        pytest.param(ON_0, host(gpu(3, uuid="GPU-0")), "3", id="indices of today"),
        pytest.param(replace(ON_0, gpus=("GPU-1", "GPU-0")), host(gpu(0), gpu(1)), "1,0", id="in order"),
        pytest.param(replace(ON_0, takes_uuids=True, gpus=("MIG-1",)), host(SPLIT), "MIG-1", id="a MIG device"),
        pytest.param(PLAIN, host(gpu(0)), None, id="all"),
    ],
)
def test_how_its_vllm_is_told(start: Start, facts: dict[str, t.Any], devices: str | None) -> None:
    seen = visible(start, chosen(start, facts)[0])
    assert seen == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", **({"CUDA_VISIBLE_DEVICES": devices} if devices else {})}


def test_a_vllm_that_takes_indices_cannot_be_told_a_mig_device() -> None:
    start = replace(ON_0, gpus=("MIG-1",))
    with pytest.raises(VllmError, match=r"^MIG-1 is a MIG device, which vLLM takes from 0\.24 on\.$"):
        visible(start, chosen(start, host(SPLIT))[0])


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("late", "told"), [(0, 0), (3, 1), (1000, 1)], ids=["at once", "a moment later", "not in time"]
)
def test_memory_of_an_earlier_life_may_take_a_moment(late: int, told: int) -> None:
    clock, said = Clock(), list[str]()

    def look() -> dict[str, t.Any]:
        return host(gpu(0) if clock.now >= late else TAKEN)

    with pytest.raises(VllmError) if late > PATIENCE else contextlib.nullcontext():
        assert settled(ON_0, look, said.append, clock.monotonic, clock.sleep)[0].uuid == "GPU-0"
    assert (len(said), clock.now <= PATIENCE + 1) == (told, True)


@pytest.mark.parametrize(
    ("before", "after", "taken", "when"),
    [
        pytest.param(gpu(0, 26000), gpu(0), "GPU-0", 3, id="memory that no process holds comes back"),
        pytest.param(gpu(0, 26000), gpu(0, 26000), "GPU-1", PATIENCE, id="it does not"),
        pytest.param(gpu(0, 7000, processes=[ANN]), gpu(0, 44000, processes=[ANN]), "GPU-1", 0, id="not enough of it"),
        pytest.param(
            gpu(0, 26000), gpu(0, 26000, processes=[{**ANN, "used_memory_mib": 55000}]), "GPU-1", 3, id="taken"
        ),
        pytest.param(
            gpu(0, 26000, processes=[{**ANN, "used_memory_mib": None}]),
            gpu(0),
            "GPU-1",
            0,
            id="nobody knows who holds it",
        ),
        pytest.param(gpu(0, 26000, health="lost"), gpu(0), "GPU-1", 0, id="a GPU that is lost"),
    ],
)
def test_one_that_chooses_again_does_not_move_for_what_it_held_itself(
    before: dict[str, t.Any], after: dict[str, t.Any], taken: str, when: float
) -> None:
    clock, said = Clock(), list[str]()

    def look() -> dict[str, t.Any]:
        return host(before if clock.now < 3 else after, gpu(1))

    found = settled(AGAIN, look, said.append, clock.monotonic, clock.sleep)
    assert ([one.uuid for one in found], clock.now) == ([taken], when)
    assert [text.split(" (")[0].split(".")[0] for text in said] == [
        *(["a waits up to 20 s for its GPUs"] if when else []),
        *(["a chooses its GPUs again"] if taken == "GPU-1" else []),
    ]


# --- its turn ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cgroup", "server"),
    [
        ("0::/system.slice/vllm-a.service\n", "a"),
        ("0::/docker/1f/system.slice/vllm-gpt-oss.service\n", "gpt-oss"),
        ("12:pids:/x\n1:name=systemd:/system.slice/vllm-a.service/x\n", "a"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/vllm-a.service\n", None),
        ("0::/user.slice/user@1000.service/system.slice/vllm-a.service\n", None),
        ("0::/system.slice/cron.service\n", None),
        ("", None),
    ],
)
def test_who_is_a_server(cgroup: str, server: str | None) -> None:
    found = UNIT.search(cgroup)
    assert (found[1] if found else None) == server


@pytest.fixture
def path(tmp_path: Path) -> str:
    (tmp_path / "turn").touch()
    return str(tmp_path / "turn")


@contextlib.contextmanager
def held(path: str) -> t.Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def is_free(path: str) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def test_who_is_first_has_it_at_once(path: str) -> None:
    said: list[str] = []
    descriptor = turn(path, "a", said.append)
    assert descriptor is not None and said == []
    assert not is_free(path)
    os.close(descriptor)
    assert is_free(path)


@pytest.mark.parametrize(
    ("cgroup", "longest", "who"),
    [
        ("0::/system.slice/vllm-b.service\n", LONGEST, "server b, which is starting"),
        ("0::/user.slice/x\n", STRANGER, f"PID {os.getpid()}, which is not a server of gpufleet.vllm"),
    ],
    ids=["a server", "somebody"],
)
def test_who_has_it_is_told_and_waited_for_within_bounds(
    cgroup: str, longest: float, who: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, said = Clock(), list[str]()
    monkeypatch.setattr(starts, "read_proc", lambda path: cgroup)
    with held(path):
        assert turn(path, "a", said.append, clock.monotonic, clock.sleep) is None
    assert longest <= clock.now <= longest + 1
    why = "two that start on one GPU at once disturb each other"
    assert said[0] == f"a waits for {who}, since {why} (0 s so far)."
    assert said[-1] == f"a starts without its turn: {who} has held {path} for {longest:.0f} s."
    # A silence of minutes is a stall to whoever waits for health, and each of these lines ends it.
    assert len(said) >= longest / 30
    lines = parse_lines("\n".join(f"INFO gpufleet.vllm: {text}" for text in said))
    assert all(line.text and is_progress(line.text) and not line.is_error for line in lines)


def test_it_has_it_as_soon_as_that_one_lets_go(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(starts, "read_proc", lambda path: "0::/system.slice/vllm-b.service\n")
    descriptor = os.open(path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now == 5:
            os.close(descriptor)

    mine = turn(path, "a", lambda text: None, clock.monotonic, sleep)
    assert mine is not None and clock.now == 5
    os.close(mine)


@pytest.mark.parametrize("kind", ["missing", "a link"])
def test_without_the_file_it_starts_and_says_so(kind: str, tmp_path: Path) -> None:
    path, said = tmp_path / "turn", list[str]()
    if kind == "a link":
        path.symlink_to("/dev/null")
    assert turn(str(path), "a", said.append) is None
    assert said and said[0].startswith(f"a starts without waiting for other servers: cannot open {path}: ")


# --- a turn for each GPU ----------------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> str:
    (tmp_path / "turns").mkdir()
    for number in range(4):
        (tmp_path / "turns" / str(number)).touch()
    return str(tmp_path / "turns")


def locked(directory: str) -> list[int]:
    return [number for number in range(4) if not is_free(f"{directory}/{number}")]


@pytest.mark.parametrize(
    ("start", "facts", "files"),
    [
        pytest.param(ON_0, host(gpu(0), gpu(1)), [0], id="one by UUID"),
        pytest.param(replace(ON_0, gpus=("GPU-2", "1"), used=2), host(gpu(0), gpu(1), gpu(2)), [1, 2], id="two"),
        pytest.param(replace(ON_0, gpus=("GPU-1", "GPU-0")), host(gpu(0), gpu(1)), [1], id="none for a spare"),
        pytest.param(replace(PLAIN, used=2), host(gpu(0), gpu(1), gpu(2)), [0, 1], id="of all those that are used"),
        pytest.param(replace(ON_0, gpus=("GPU-6",)), host(gpu(0), gpu(6)), [2], id="more GPUs than files"),
        pytest.param(replace(ON_0, gpus=("GPU-4", "GPU-0"), used=2), host(gpu(0), gpu(4)), [0], id="two of one file"),
        pytest.param(replace(ON_0, gpus=("MIG-1",)), host(SPLIT), [0], id="the GPU of a MIG device"),
        pytest.param(AGAIN, host(TAKEN, gpu(1, 100), gpu(2)), [2], id="where it moves to"),
        pytest.param(AGAIN, host(gpu(1)), [1], id="where it moves to from one that is gone"),
    ],
)
def test_it_has_the_turn_of_the_gpus_that_it_uses(
    start: Start, facts: dict[str, t.Any], files: list[int], directory: str
) -> None:
    found, held = ready(replace(start, turns=directory), lambda: facts, lambda text: None)
    assert (locked(directory), len(held)) == (files, len(files))
    assert found == chosen(start, facts)[0]
    starts._release(held)


def test_servers_on_different_gpus_do_not_wait_for_each_other(directory: str) -> None:
    facts = host(gpu(0), gpu(1), gpu(2))
    said: list[str] = []
    starting = [replace(ON_0, gpus=names, used=len(names), turns=directory) for names in (("0",), ("1", "2"))]
    held = [one for start in starting for one in ready(start, lambda: facts, said.append)[1]]
    assert (said, locked(directory)) == ([], [0, 1, 2])
    starts._release(held)


def test_the_gpus_are_looked_at_when_nobody_starts_there_any_more(directory: str) -> None:
    """What another server takes for a moment while it starts is not there for good, and the other way round."""
    clock, said = Clock(), list[str]()
    other = turns(directory, [0], "b", said.append)

    def look() -> dict[str, t.Any]:
        return host(gpu(0, 100) if other else gpu(0), gpu(1))

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now > 3 and other:
            os.close(other.pop())

    found, held = ready(replace(AGAIN, turns=directory), look, said.append, clock.monotonic, sleep)
    assert ([one.uuid for one in found], locked(directory)) == (["GPU-0"], [0])
    assert len(said) == 1 and " waits for PID " in said[0]
    starts._release(held)


def test_one_that_moves_waits_for_its_turn_there_and_chooses_again_then(directory: str) -> None:
    clock, said = Clock(), list[str]()
    other = turns(directory, [1], "b", said.append)

    def look() -> dict[str, t.Any]:
        # Before it is up, the other one has taken nothing yet.
        return host(TAKEN, gpu(1) if other else gpu(1, 100), gpu(2, 80000))

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now > 3 and other:
            os.close(other.pop())

    found, held = ready(replace(AGAIN, turns=directory), look, said.append, clock.monotonic, sleep)
    assert ([one.uuid for one in found], locked(directory)) == (["GPU-2"], [2])
    starts._release(held)


@pytest.mark.parametrize(
    "start", [ON_0, AGAIN, replace(ON_0, gpus=("MIG-1",), share=0.5)], ids=["same", "reselect", "MIG"]
)
def test_for_gpus_that_others_hold_it_waits_as_long_as_they_do(start: Start, directory: str) -> None:
    clock, said = Clock(), list[tuple[str, ...]]()
    device = {"uuid": "MIG-1", "memory_total_mib": 20000}
    busy = gpu(0, mig={"enabled": True, "devices": [{**device, "memory_free_mib": 100}]})
    idle = gpu(0, mig={"enabled": True, "devices": [{**device, "memory_free_mib": 19000}]})
    taken, free = (busy, idle) if start.gpus == ("MIG-1",) else (TAKEN, gpu(0))

    def look() -> dict[str, t.Any]:
        return host(free if clock.now > 3000 else taken)

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        # Others may start there meanwhile.
        assert clock.now <= PATIENCE + 1 or locked(directory) == []

    found, held = ready(replace(start, turns=directory), look, lambda *text: said.append(text), clock.monotonic, sleep)
    assert ([one.gpu["index"] for one in found], locked(directory)) == ([0], [0])
    assert 3000 <= clock.now <= 3030
    starts._release(held)
    (waits,), (error, level), (over,) = said
    assert waits.startswith("a waits up to 20 s for its GPUs. ")
    assert (error.startswith("a does not start: "), error.endswith(". Until then it waits."), level) == (
        True,
        True,
        "ERROR",
    )
    assert over == "a has its GPUs now."
    lines = [f"INFO gpufleet.vllm: {waits}", f"ERROR gpufleet.vllm: {error}"]
    found_now = diagnose("\n".join(lines), ProcessState(running=True))
    assert (found_now.id, found_now.final) == ("gpu-taken", True)
    later = diagnose("\n".join([*lines, f"INFO gpufleet.vllm: {over}", BANNER]), ProcessState(running=True))
    assert not later.failed


@pytest.mark.parametrize(
    "facts",
    [
        host(gpu(0, health="lost")),
        host(gpu(1)),
        host(gpu(0, 100, compute_mode="Exclusive_Process")),
        {"status": "no_driver", "message": "No driver.", "gpus": []},
    ],
    ids=["lost", "gone", "closed to it", "no driver"],
)
def test_what_does_not_come_back_by_itself_ends_it(facts: dict[str, t.Any], directory: str) -> None:
    clock = Clock()
    with pytest.raises(VllmError):
        ready(replace(ON_0, turns=directory), lambda: facts, lambda text: None, clock.monotonic, clock.sleep)
    assert (clock.now <= PATIENCE + 1, locked(directory)) == (True, [])


def test_one_that_needs_more_than_an_idle_gpu_has_does_not_wait_for_it() -> None:
    start, facts = replace(ON_0, min_free_mib=90000), host(TAKEN)
    assert not starts.is_only_taken(start, facts)
    assert starts.is_only_taken(replace(start, min_free_mib=80000), facts)


@pytest.mark.parametrize("gpus", [("0", "1"), ("1", "0")])
def test_two_that_want_the_same_gpus_in_another_order_do_not_wait_for_each_other_for_ever(
    gpus: tuple[str, str], directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an order of its own each would have the one and wait for the other."""
    asked: list[str] = []

    def noted(path: str, *said: t.Any) -> int | None:
        asked.append(os.path.basename(path))
        return turn(path, *said)

    monkeypatch.setattr(starts, "turn", noted)
    start = replace(ON_0, gpus=gpus, used=2, turns=directory)
    starts._release(ready(start, lambda: host(gpu(0), gpu(1)), lambda text: None)[1])
    assert asked == ["0", "1"]


@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_without_the_files_it_starts_and_says_why(kind: str, tmp_path: Path) -> None:
    said: list[str] = []
    if kind == "empty":
        (tmp_path / "turns").mkdir()
    start = replace(ON_0, turns=str(tmp_path / "turns"))
    assert ready(start, lambda: host(gpu(0)), said.append)[1] == []
    assert [text.startswith("a starts without waiting for other servers: ") for text in said] == [True]


# --- the one file on the host -----------------------------------------------------------------------------------------


def test_it_is_made_of_all_that_is_reached_and_of_nothing_else() -> None:
    import test_layout

    reached = test_layout.reached(test_layout.UTILS / "_systemd" / "start.py") | {"_systemd/start.py"}
    assert sorted(reached) == sorted(f"{name.replace('.', '/')}.py" for name in MODULES)


def test_it_is_the_same_each_time() -> None:
    before = archive()
    archive.cache_clear()
    assert archive() == before


def test_a_run_that_makes_no_unit_does_not_load_it() -> None:
    name = "ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.backend"
    words = f"import sys; sys.path[:0] = {sys.path!r}; import {name}; print([m for m in sys.modules if '._gpu.' in m])"
    found = subprocess.run(
        [sys.executable, "-c", words], capture_output=True, text=True, check=True, timeout=60, cwd=COLLECTIONS
    )
    assert found.stdout == "[]\n"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Programs, Ledger, str]:
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "DIRECTORY", str(tmp_path / "locks"))
    made = Programs(str(tmp_path / "lib" / "programs"), str(tmp_path / "run" / "turns"))
    ledger = Ledger(str(tmp_path / "record"), SYSTEMD)
    made.provide("vllm-a", ledger)
    return made, ledger, made.path


def test_it_is_written_for_all_to_read(installed: tuple[Programs, Ledger, str]) -> None:
    _made, ledger, path = installed
    assert (os.stat(path).st_mode & 0o777, os.stat(os.path.dirname(path)).st_mode & 0o777) == (0o644, 0o755)
    assert Path(path).read_bytes() == archive()
    assert [(one.server, one.purpose, one.name) for one in ledger.known().entries] == [("vllm-a", "program", path)]


def test_what_was_changed_is_written_again(installed: tuple[Programs, Ledger, str]) -> None:
    made, ledger, path = installed
    Path(path).write_bytes(b"x")
    made.provide("vllm-a", ledger)
    assert Path(path).read_bytes() == archive()
    assert len(ledger.known().entries) == 1


def test_a_directory_that_others_may_write_to_is_refused(installed: tuple[Programs, Ledger, str]) -> None:
    made, ledger, path = installed
    os.chmod(os.path.dirname(path), 0o777)
    with pytest.raises(VllmError, match="others than this user may write there") as caught:
        made.provide("vllm-b", ledger)
    assert caught.value.reason == "permission-denied"


def test_it_goes_with_the_last_unit_that_runs_it(installed: tuple[Programs, Ledger, str]) -> None:
    made, ledger, path = installed
    made.provide("vllm-b", ledger)
    turn_file = Path(made.turns) / "0"
    turn_file.parent.mkdir(parents=True)
    turn_file.touch()
    made.let_go("vllm-a", [f"ExecStart=/v/bin/python -I {path} --"], ledger)
    assert len(ledger.known().entries) == 2
    made.let_go("vllm-a", [""], ledger)
    assert (os.path.exists(path), [one.server for one in ledger.known().entries]) == (True, ["vllm-b"])
    made.let_go("vllm-b", [], ledger)
    assert [os.path.exists(one) for one in (path, made.directory, made.turns, os.path.dirname(made.turns))] == [
        False
    ] * 4
    assert ledger.known().entries == ()


def test_one_of_a_record_that_cannot_be_read_stays(installed: tuple[Programs, Ledger, str]) -> None:
    made, ledger, path = installed
    other = entry("vllm-b", "program", name=path)
    ledger.write(other)
    Path(ledger.directory, f"vllm-b.{other.seal}.json").write_text("{")
    made.let_go("vllm-a", [], ledger)
    assert os.path.exists(path)


# --- the program, as a process ------------------------------------------------------------------------------------

SMI = """#!/bin/sh
case "$*" in
    *--query-gpu=*memory.used*) cat "$0.gpus" ;;
    *--query-compute-apps=*) cat "$0.apps" ;;
    *) exit 2 ;;
esac
"""


class Rig:
    """A directory with the program, an nvidia-smi that answers what it is told to, and a server's command."""

    def __init__(self, directory: Path, path: str) -> None:
        self.directory, self.path = directory, path
        (directory / "bin").mkdir()
        for name, text in (
            ("nvidia-smi", SMI),
            ("serve", '#!/bin/sh\nprintf "%s\\n" "$$" "$CUDA_VISIBLE_DEVICES"\nexec "$@"\n'),
        ):
            (directory / "bin" / name).write_text(text)
            (directory / "bin" / name).chmod(0o755)
        shutil.copy(path, directory / "start.pyz")
        self.turns = directory / "turns"
        self.turns.mkdir()
        for number in range(2):
            (self.turns / str(number)).touch()
        self.turn = self.turns / "0"
        self.free(81303)

    def free(self, *mib: int) -> None:
        fields = starts.observe.__globals__["CORE_FIELDS"]
        cells = {"memory.total": "81920", "compute_mode": "Default", "mig.mode.current": "Disabled"}
        rows = [
            {**cells, "index": n, "uuid": f"GPU-0000000{n}", "memory.free": one, "memory.used": 81303 - one}
            for n, one in enumerate(mib)
        ]
        (self.directory / "bin" / "nvidia-smi.gpus").write_text(
            "".join(", ".join(str(row.get(name, "[N/A]")) for name in fields) + "\n" for row in rows)
        )
        # What is used, a process of somebody's holds.
        (self.directory / "bin" / "nvidia-smi.apps").write_text(
            "".join(f"{row['uuid']}, 1, {row['memory.used']}, x\n" for row in rows if row["memory.used"])
        )

    def begin(self, *command: str, port: int = 1, **said: t.Any) -> subprocess.Popen[str]:
        known = {"gpus": ("GPU-00000000",), "share": 0.5, "turns": str(self.turns), "port": port, **said}
        start = replace(PLAIN, command=(str(self.directory / "bin" / "serve"), *command), **known)
        return subprocess.Popen(
            start.argv(sys.executable, str(self.directory / "start.pyz")),
            env={"PATH": f"{self.directory / 'bin'}:/usr/bin:/bin", "PYTHONPATH": "/nowhere"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def rig(tmp_path: Path, installed: tuple[Programs, Ledger, str]) -> Rig:
    return Rig(tmp_path, installed[2])


def line(process: subprocess.Popen[str]) -> str:
    stream = t.cast("t.IO[str]", process.stdout)
    return stream.readline().strip()


def until(true: t.Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.05)
    return true()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _out, err = process.communicate(timeout=20)
    return process.returncode, err


def test_it_becomes_the_server_which_has_no_child_of_its(rig: Rig) -> None:
    process = rig.begin("sleep", "30")
    try:
        assert (line(process), line(process)) == (str(process.pid), "0")
        assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == ""
        assert not is_free(str(rig.turn))
    finally:
        process.kill()
    assert ended(process) == (-signal.SIGKILL, "")
    assert until(lambda: is_free(str(rig.turn)))


@pytest.mark.parametrize("kind", ["a port", "a Unix socket", "a Unix socket that an earlier life left"])
def test_the_turn_is_over_when_the_server_answers(kind: str, rig: Rig) -> None:
    path = str(rig.directory / "a.sock")
    if kind.endswith("left"):
        with socket.socket(socket.AF_UNIX) as earlier:
            earlier.bind(path)
    with socket.socket(socket.AF_INET if kind == "a port" else socket.AF_UNIX) as server:
        server.bind(("127.0.0.1", 0) if kind == "a port" else path + ".new")
        process = rig.begin("sleep", "30", **({"port": server.getsockname()[1]} if kind == "a port" else {"uds": path}))
        try:
            assert line(process) == str(process.pid)
            time.sleep(0.7)
            assert not is_free(str(rig.turn))
            server.listen()
            if kind != "a port":
                os.rename(path + ".new", path)
            assert until(lambda: is_free(str(rig.turn)))
        finally:
            process.kill()
            process.communicate()


def test_the_turn_is_over_when_it_has_had_its_time(rig: Rig) -> None:
    child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            descriptor = turn(str(rig.turn), "a", lambda text: None)
            starts.hold([t.cast(int, descriptor)], replace(PLAIN, port=1), deadline=3.0)
            os.execvp("sleep", ["sleep", "60"])
        os._exit(1)
    try:
        assert until(lambda: Path(f"/proc/{child}/comm").read_text() == "sleep\n")
        assert not is_free(str(rig.turn))
        assert until(lambda: is_free(str(rig.turn)), 20)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_one_that_waits_is_stopped_at_once(rig: Rig) -> None:
    with held(str(rig.turn)):
        process = rig.begin("sleep", "30")
        stream = t.cast("t.IO[str]", process.stderr)
        assert stream.readline().startswith("INFO gpufleet.vllm: a waits for PID ")
        process.terminate()
        assert process.wait(2) == -signal.SIGTERM
        process.communicate()


def test_two_start_at_once_on_two_gpus(rig: Rig) -> None:
    rig.free(81303, 81303)
    first, second = rig.begin("sleep", "30"), rig.begin("sleep", "30", gpus=("GPU-00000001",))
    try:
        assert [line(one) for one in (first, second)] == [str(first.pid), str(second.pid)]
        assert not is_free(str(rig.turns / "0")) and not is_free(str(rig.turns / "1"))
    finally:
        for one in (first, second):
            one.kill()
            one.communicate()


def test_two_start_one_after_the_other_on_one_gpu(rig: Rig) -> None:
    first = rig.begin("sleep", "30")
    assert line(first) == str(first.pid)
    second = rig.begin("true")
    stream = t.cast("t.IO[str]", second.stderr)
    assert stream.readline().startswith("INFO gpufleet.vllm: a waits for PID ")
    assert second.poll() is None
    first.kill()
    first.communicate()
    assert (second.wait(10), line(second)) == (0, str(second.pid))
    second.communicate()


def test_it_moves_from_a_gpu_that_is_taken_and_one_that_is_gone_ends_it_with_the_reason(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.free(1000, 81303)
    moved = rig.begin("true", at_start="reselect", turns="")
    assert (line(moved), line(moved)) == (str(moved.pid), "1")
    assert "a chooses its GPUs again. GPU 0: 1.0 of 80.0 GiB free" in ended(moved)[1]
    monkeypatch.setattr(starts, "PATIENCE", 0.0)
    monkeypatch.setenv("PATH", f"{rig.directory / 'bin'}:/usr/bin:/bin")
    said: list[str] = []
    monkeypatch.setattr(starts, "tell", lambda text, level="INFO": said.append(f"{level} {text}"))
    words = replace(PLAIN, gpus=("GPU-00000002",), share=0.5).argv("python", "p")[3:]
    assert starts.main(words) == 1
    assert said[-1].startswith(
        "ERROR a does not start: gpus: GPU-00000002 is not on this host; it has 0 (GPU-00000000), 1 (GPU-00000001). Put"
    )


def test_a_command_that_is_not_there_is_told(rig: Rig) -> None:
    start = replace(PLAIN, gpus=("GPU-00000000",), command=("/nowhere/vllm",))
    done = subprocess.run(
        start.argv(sys.executable, str(rig.directory / "start.pyz")),
        env={"PATH": f"{rig.directory / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert (done.returncode, done.stderr) == (
        127,
        "ERROR gpufleet.vllm: a does not start: cannot run /nowhere/vllm: No such file or directory.\n",
    )


def test_the_process_that_has_the_turn_is_known_by_its_birth() -> None:
    with subprocess.Popen(["sleep", "30"]) as process:
        assert born(process.pid).startswith(f"{process.pid} ")
        process.kill()
        # Not waited for yet: it is gone all the same.
        assert until(lambda: born(process.pid) == "")
    assert born(process.pid) == ""


def test_names_are_those_that_a_lock_of_a_server_cannot_have() -> None:
    assert "@" in programs.LOCK
