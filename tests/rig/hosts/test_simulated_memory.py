# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests rely on in the memory of simulated GPUs: who holds how much, and where it shows."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import typing as t
from importlib.machinery import SourceFileLoader
from pathlib import Path

import pytest

IMAGE = Path(__file__).parent / "image"
GB10 = "GPU-0b10a6c4-5d1e-4a37-9f60-2c7d8e1f3a10"
A100 = [f"GPU-{index:08d}-0000-4000-8000-{index:012d}" for index in range(8)]
# A process that is named as vLLM names its engine.
ENGINE = "open('/proc/self/comm', 'w').write('VLLM::EngineCor'); print(flush=True); input()"


def load(path: str) -> t.Any:
    loader = SourceFileLoader("loaded", str(IMAGE / path))
    spec = importlib.util.spec_from_loader("loaded", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for the types of their fields.
    sys.modules["loaded"] = module
    loader.exec_module(module)
    return module


@pytest.fixture(name="memory")
def _memory(monkeypatch: pytest.MonkeyPatch) -> t.Any:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return load("usr/local/lib/sim-gpu/memory.py")


@pytest.fixture(name="gpus")
def _gpus(memory: t.Any, monkeypatch: pytest.MonkeyPatch) -> t.Callable[[str], t.Any]:
    def read(profile: str) -> t.Any:
        monkeypatch.setattr(memory, "PROFILE", IMAGE / f"etc/sim-gpu/{profile}.json")
        return memory.Gpus.read()

    return read


@pytest.fixture(name="hold")
def _hold(memory: t.Any) -> t.Iterator[t.Callable[..., dict[str, int]]]:
    """What a process with this command line and environment holds."""
    running: list[subprocess.Popen[bytes]] = []

    def hold(gpus: t.Any, program: str, *words: str, **env: str) -> dict[str, int]:
        command = [sys.executable, "-c", program, *words]
        process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout
        process.stdout.readline()
        return t.cast("dict[str, int]", memory.held(gpus, str(process.pid)))

    yield hold
    for process in running:
        process.communicate(b"\n")


@pytest.mark.parametrize(
    ("profile", "words", "devices", "expected"),
    [
        ("gb10", ["--gpu-memory-utilization", "0.5"], "all", {GB10: 62304}),
        ("gb10", ["--gpu-memory-utilization", "0.5"], "", {}),
        ("a100-shared", ["--gpu-memory-utilization", "0.75"], A100[4], {A100[4]: 60977}),
        ("a100-shared", [], A100[4], {A100[4]: 73172}),
        (
            "a100-shared",
            ["--tensor-parallel-size", "2", "--gpu-memory-utilization", "0.1"],
            f"{A100[3]},{A100[4]}",
            {A100[3]: 8129, A100[4]: 8130},
        ),
    ],
    ids=["unified", "no GPU asked for", "one of eight", "vLLM's default", "two of eight"],
)
def test_an_engine_holds_what_it_asks_for(
    gpus: t.Callable[[str], t.Any],
    hold: t.Callable[..., dict[str, int]],
    profile: str,
    words: list[str],
    devices: str,
    expected: dict[str, int],
) -> None:
    assert hold(gpus(profile), ENGINE, *words, NVIDIA_VISIBLE_DEVICES=devices) == expected


@pytest.mark.parametrize(
    ("devices", "expected"),
    [(A100[4], {A100[4]: 73172}), ("4", {A100[4]: 73172}), ("", {})],
    ids=["by its UUID", "by its index", "none"],
)
def test_an_engine_of_a_service_holds_its_own_gpu(
    gpus: t.Callable[[str], t.Any], hold: t.Callable[..., dict[str, int]], devices: str, expected: dict[str, int]
) -> None:
    assert hold(gpus("a100-shared"), ENGINE, CUDA_VISIBLE_DEVICES=devices) == expected


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"SIM_GPU_MIB": "20000"}, {A100[0]: 20000}),
        ({"SIM_GPU_MIB": "20000", "NVIDIA_VISIBLE_DEVICES": A100[6]}, {A100[6]: 20000}),
        ({"NVIDIA_VISIBLE_DEVICES": "all"}, {}),
    ],
    ids=["on the first GPU", "on a GPU of its own", "nothing"],
)
def test_another_process_holds_what_its_environment_says(
    gpus: t.Callable[[str], t.Any],
    hold: t.Callable[..., dict[str, int]],
    env: dict[str, str],
    expected: dict[str, int],
) -> None:
    assert hold(gpus("a100-shared"), "print(flush=True); input()", **env) == expected


def test_memory_comes_back_a_second_after_the_process_is_gone(memory: t.Any) -> None:
    account = memory.Account()
    account.update({1: {GB10: 100}, 2: {GB10: 10}}, now=0.0)
    seen = [account.taken]
    for now in (5.0, 5.9, 6.1):
        account.update({2: {GB10: 10}}, now)
        seen.append(account.taken)
    assert seen == [{GB10: 110}, {GB10: 110}, {GB10: 110}, {GB10: 10}]


@pytest.mark.parametrize(
    ("profile", "uuid", "before", "after"),
    [
        ("a100-shared", A100[4], ("81299", "4"), ("80299", "1004")),
        ("gb10", GB10, ("[N/A]", "[N/A]"), ("[N/A]", "[N/A]")),
    ],
)
def test_nvidia_smi_shows_who_holds_it_and_what_is_left(
    profile: str, uuid: str, before: tuple[str, str], after: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    smi = load("usr/bin/nvidia-smi")
    said = smi.json.loads((IMAGE / f"etc/sim-gpu/{profile}.json").read_text(encoding="utf-8"))
    app = {"gpu_uuid": uuid, "pid": "99", "used_memory": "1000", "process_name": "VLLM::EngineCore"}
    for held, cells in (({"apps": [], "taken": {}}, before), ({"apps": [app], "taken": {uuid: 1000}}, after)):
        query = ["--query-gpu=uuid,memory.free,memory.used", "--format=csv,noheader,nounits"]
        table = smi.table_answer(smi.with_held(said, held), query)["stdout"]
        assert f"{uuid}, {', '.join(cells)}\n" in table
        apps = smi.table_answer(smi.with_held(said, held), ["--query-compute-apps=gpu_uuid,pid,used_memory"])["stdout"]
        assert (f"{uuid}, 99, 1000\n" in apps) == bool(held["apps"])
