# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which GPUs a wish for some becomes beside servers that start and runs that choose at the same time."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import claims
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import born
from docker_model import FREE_GPU, Client, manage, run, situation
from systemd_model import Systemd, installed_units

ONE = {"count": 1, "min_free_mib": 40000}


def cards(*free: int, held: t.Mapping[str, int] | None = None) -> dict[str, t.Any]:
    """GPUs with so many MiB free, on the first of which containers hold some."""
    gpus = [
        {**FREE_GPU, "index": n, "uuid": f"GPU-{n}", "memory_free_mib": size, "memory_used_mib": 81000 - size}
        for n, size in enumerate(free)
    ]
    held = held or {}
    processes = [{"pid": 5, "container": name, "used_memory_mib": size} for name, size in held.items()]
    return {"status": "ok", "gpus": [{**gpus[0], "processes": processes}, *gpus[1:]]}


def claim_of(server: str, process: str, **spec: t.Any) -> Path:
    """What another run has written down."""
    path = situation().record / "owned" / f"gpus.{server}.json"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    intent = {"name": server[len("vllm-") :], "model": "m", "gpus": ["GPU-0"], **spec}
    path.write_text(json.dumps({"version": 1, "kind": "gpus", "server": server, "process": process, "intent": intent}))
    path.chmod(0o600)
    return path


@pytest.fixture
def neighbour() -> t.Iterator[str]:
    """A run that goes on."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield born(process.pid)
        process.kill()


def test_a_server_that_starts_has_its_gpu_before_its_memory(client: Client) -> None:
    situation().gpus = lambda: cards(81000, 80000)
    assert run(name="b", port=8001, gpus=ONE)["gpus"] == ["GPU-0"]
    assert run(gpus=ONE)["gpus"] == ["GPU-1"]


def test_a_server_that_waits_for_its_weights_has_it_too(client: Client, neighbour: str) -> None:
    situation().gpus = lambda: cards(81000, 80000)
    path = claim_of("vllm-b", neighbour)
    assert run(gpus=ONE)["gpus"] == ["GPU-1"]
    assert path.exists()
    assert run(name="c", port=8001, fit="warn", gpus={"count": 1}, check=True)["gpus"] == ["GPU-0"]


def test_nobody_gets_what_two_others_are_about_to_take(client: Client, neighbour: str) -> None:
    situation().gpus = lambda: cards(81000)
    claim_of("vllm-b", neighbour)
    with pytest.raises(VllmError) as caught:
        run(gpus=ONE)
    assert "server b, which is starting, takes 72.8 GiB" in str(caught.value)
    assert caught.value.reason == "no-free-gpu"


def test_the_verdict_counts_it_for_gpus_that_are_named(client: Client, neighbour: str) -> None:
    situation().gpus = lambda: cards(81000, 80000)
    claim_of("vllm-b", neighbour)
    with pytest.raises(VllmError) as caught:
        run(gpus=["0"])
    assert "server b, which is starting, takes" in str(caught.value) and caught.value.reason == "does-not-fit"
    assert run(gpus=["1"])["changed"]


@pytest.mark.parametrize("process", ["", "4194305 1", "1 1", "none", f"{os.getpid()} 1"])
def test_a_run_that_was_killed_claims_nothing_and_leaves_nothing(client: Client, process: str) -> None:
    situation().gpus = lambda: cards(81000, 80000)
    path = claim_of("vllm-b", process)
    assert run(gpus=ONE)["gpus"] == ["GPU-0"]
    assert not path.exists()
    manage(state="absent")
    assert not situation().record.exists()


def test_check_mode_claims_nothing(client: Client) -> None:
    situation().gpus = lambda: cards(81000, 80000)
    assert run(check=True, gpus=ONE)["gpus"] == ["GPU-0"]
    assert not situation().record.exists()


def test_a_run_that_fails_claims_nothing_any_more(client: Client) -> None:
    situation().gpus = lambda: cards(81000)
    client.failing = ("start", "vllm-a")
    with pytest.raises(VllmError):
        run(gpus=ONE)
    assert not [*situation().record.rglob("gpus.*")]


def test_a_run_decides_once_which_they_are(client: Client) -> None:
    """It looks at the host more than once, and what it takes for itself is nobody else's."""
    free = [81000, 80000]

    def look() -> dict[str, t.Any]:
        found = cards(*free)
        free.reverse()
        return found

    situation().gpus = look
    run(name="b", gpus="none")
    done = run(gpus=ONE)
    assert "stop vllm-b (it has port 8000)" in done["actions"]
    assert done["gpus"] == client.containers_by_name["vllm-a"]["HostConfig"]["DeviceRequests"][0]["DeviceIDs"]


def test_two_runs_at_once_choose_one_after_the_other(client: Client) -> None:
    looking, looked = threading.Event(), []

    def look() -> dict[str, t.Any]:
        looked.append(time.monotonic())
        looking.set()
        time.sleep(0.3)
        return cards(81000, 80000)

    situation().gpus = look
    other = threading.Thread(target=lambda: run(name="b", port=8001, gpus=ONE))
    other.start()
    assert looking.wait(10)
    with (
        pytest.raises(lock.Busy, match=r"Another run is choosing GPUs \("),
        lock.alone(claims.LOCK, patience=0, doing="is choosing GPUs"),
    ):
        raise AssertionError("nobody has it")
    assert run(gpus=ONE)["gpus"] == ["GPU-1"]
    other.join()
    assert looked[1] - looked[0] > 0.25
    assert {
        name: box["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] for name, box in client.containers_by_name.items()
    } == {
        "vllm-a": ["GPU-1"],
        "vllm-b": ["GPU-0"],
    }


def test_what_stops_for_it_in_any_case_is_no_neighbour(client: Client) -> None:
    """Another model on the same port, on the only GPU."""
    situation().gpus = lambda: cards(81000)
    run(name="b", gpus=ONE)
    situation().gpus = lambda: cards(8000, held={"vllm-b": 73000})
    assert run(check=True, gpus=ONE)["gpus"] == ["GPU-0"]
    with pytest.raises(VllmError, match=r"Cannot select 1 GPU with 39\.1 GiB free"):
        run(check=True, gpus=ONE, replace_others=False)
    with pytest.raises(VllmError, match="Cannot select 1 GPU"):
        run(check=True, gpus=ONE, port=8001)


# --- what a service looks at again ------------------------------------------------------------------------------------


@pytest.fixture
def systemd(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Systemd:
    made = installed_units(Systemd(), monkeypatch, tmp_path)
    situation().gpus = lambda: cards(81000, 80000)
    return made


@pytest.mark.parametrize(
    ("wish", "kept"),
    [
        ({"count": 1}, None),
        ({"count": 1, "at_start": "same"}, None),
        ({"count": 1, "min_free_mib": 40000, "prefer": "free"}, {"min_free_mib": 40000}),
        ({"count": 1, "at_start": "reselect"}, {"at_start": "reselect", "prefer": "nvlink"}),
        (
            {"count": 1, "at_start": "reselect", "min_free_mib": 7, "prefer": "free"},
            {"at_start": "reselect", "prefer": "free", "min_free_mib": 7},
        ),
    ],
)
def test_what_of_a_wish_a_service_keeps(systemd: Systemd, wish: dict[str, t.Any], kept: t.Any) -> None:
    run(gpus=wish)
    (entry,) = [one for one in map(json.loads, _entries()) if one.get("purpose") == "server"]
    assert entry["intent"].get("gpus_at_start") == kept
    assert run(gpus=wish)["changed"] is False


def _entries() -> list[str]:
    return [path.read_text() for path in situation().record.rglob("*.json")]


# --- memory that a neighbour takes between the look of a run and the start of its service -----------------------------

# Of an A100 that others use too: three quarters of the memory, and less without CUDA graphs where that cannot be had.
MUCH = {"engine": {"gpu_memory_utilization": 0.75}}
LESS = {"gpu_memory_utilization": 0.675, "enforce_eager": True}
LADDER = [{"causes": ["mem-profiling-drift", "mem-free-below-budget"], "change": {"engine": LESS}}]


@pytest.mark.parametrize(
    ("gpus", "free", "taken"),
    [
        pytest.param(ONE, (56000, 500), ["GPU-0"], id="enough is left for less"),
        pytest.param(["GPU-0"], (56000, 80000), ["GPU-0"], id="enough is left on the one that was named"),
        pytest.param(ONE, (500, 80000), ["GPU-1"], id="another one is free"),
        pytest.param({**ONE, "at_start": "reselect"}, (500, 56000), ["GPU-1"], id="another one has enough for less"),
    ],
)
def test_a_service_whose_gpu_was_taken_at_its_start_is_tried_with_less(
    gpus: t.Any, free: tuple[int, ...], taken: list[str], systemd: Systemd
) -> None:
    said = {"gpus": gpus, "fallbacks": LADDER, **MUCH}
    assert (run(**said)["gpus"] or gpus) == ["GPU-0"]
    situation().gpus = lambda: cards(*free)
    predicted = run(check=True, failure_id="gpu-taken", **said)
    done = run(failure_id="gpu-taken", **said)
    assert [predicted[key] for key in ("actions", "diff", "gpus")] == [done[key] for key in ("actions", "diff", "gpus")]
    assert (done["gpus"] or gpus) == taken
    assert (done["fallback"]["rung"], done["fallback"]["causes"]) == (1, ["gpu-taken"])
    assert "--gpu-memory-utilization 0.675" in systemd.units["vllm-a"]
    assert f"--gpu={taken[0]} " in systemd.units["vllm-a"]
    # What was taken stays, also when there would be room again.
    situation().gpus = lambda: cards(81000, 80000)
    assert run(**said)["changed"] is False


@pytest.mark.parametrize(
    ("ladder", "failure", "message"),
    [
        pytest.param(LADDER, "gpu-taken", "Cannot select 1 GPU with 39.1 GiB free on this host: 0 of 2", id="no room"),
        pytest.param([{**LADDER[0], "causes": ["cuda-oom"]}], "gpu-taken", "", id="no fallback for it"),
    ],
)
def test_a_service_whose_gpu_was_taken_goes_when_nothing_helps(
    ladder: list[t.Any], failure: str, message: str, systemd: Systemd
) -> None:
    said = {"gpus": ONE, "fallbacks": ladder}
    run(**said)
    manage(state="committed")
    run(**said, **MUCH)
    situation().gpus = lambda: cards(500, 500)
    if message:
        with pytest.raises(VllmError) as caught:
            run(failure_id=failure, **said, **MUCH)
        assert str(caught.value).startswith(message)
    else:
        assert run(failure_id=failure, **said, **MUCH)["fallback"]["exhausted"]
    assert {*systemd.now} == {"vllm-a", "vllm-a-superseded"}
    manage(state="reverted")
    assert systemd.now == {"vllm-a": "id1 running"}


def test_another_way_to_start_is_a_change_of_the_server(systemd: Systemd) -> None:
    run(gpus=ONE)
    changed = run(gpus={**ONE, "at_start": "reselect"})
    assert changed["changed"] and "start vllm-a" in changed["actions"]
    assert "--at-start=reselect" in systemd.units["vllm-a"]
    assert run(gpus={**ONE, "at_start": "reselect"})["changed"] is False
    assert run(gpus={**ONE, "at_start": "same"})["changed"]


@pytest.mark.parametrize(
    ("gpus", "message"),
    [
        ({"count": 1, "at_start": "other"}, "gpus.at_start must be one of same, reselect; got 'other'."),
        (
            {"at_start": "reselect"},
            "gpus.at_start: reselect needs gpus.count: only GPUs requested by count can be selected",
        ),
        ({"uuids": ["GPU-0"], "at_start": "reselect"}, "gpus: unknown key 'uuids'. Valid keys: count, min_free_mib,"),
    ],
)
def test_a_way_to_start_that_cannot_be_is_refused(systemd: Systemd, gpus: t.Any, message: str) -> None:
    with pytest.raises(VllmError) as caught:
        run(gpus=gpus)
    assert str(caught.value).startswith(message)


def test_a_container_cannot_choose_again(client: Client) -> None:
    situation().gpus = lambda: cards(81000)
    assert run(gpus={**ONE, "at_start": "same"})["changed"]
    with pytest.raises(VllmError) as caught:
        run(gpus={**ONE, "at_start": "reselect"})
    assert str(caught.value).startswith("gpus.at_start: reselect needs backend: systemd: a container keeps the GPUs")
    assert caught.value.reason == "backend-unsupported"


def test_a_change_of_one_that_moved_is_made_where_it_is(systemd: Systemd) -> None:
    again = {**ONE, "at_start": "reselect"}
    assert run(gpus=again)["gpus"] == ["GPU-0"]
    moved = cards(500, 7000)
    moved["gpus"][1]["processes"] = [{"pid": 5, "server": "a", "managed": True, "used_memory_mib": 73000}]
    situation().gpus = lambda: moved
    assert run(gpus=again)["changed"] is False
    changed = run(check=True, gpus=again, engine={"max_model_len": 2})
    assert (changed["changed"], changed["gpus"]) == (True, ["GPU-1"])
