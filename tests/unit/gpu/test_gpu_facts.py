# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module gpu_facts, with a real program in the place of nvidia-smi."""

from __future__ import annotations

import time
import typing as t
from pathlib import Path

import pytest

Run = t.Callable[..., t.Any]


@pytest.fixture(name="nvidia_smi")
def _nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[[str], str]:
    """Write a shell script as nvidia-smi; returns its path. The machine's Docker Engine is out of it."""
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")

    def write(body: str) -> str:
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
        path.chmod(0o755)
        return str(path)

    return write


H200 = """case "$*" in
--query-gpu=index*) echo "0, GPU-00000001-0, NVIDIA H200, 00000000:00:06.0, 580.159.04, 143771, 143153, 4, 7, 80.2, \
32, Default, Enabled, Disabled" ;;
*) exit 2 ;;
esac"""


@pytest.mark.parametrize("check", [False, True])
def test_facts_and_nothing_else(run_module: Run, nvidia_smi: t.Callable[[str], str], check: bool) -> None:
    run = run_module("gpu_facts", {"nvidia_smi": nvidia_smi(H200), "samples": 2, "sample_interval": 0}, check=check)
    assert run.status == 0
    assert run.result.get("changed", False) is False
    assert set(run.result["ansible_facts"]) == {"gpufleet"}
    facts = run.result["ansible_facts"]["gpufleet"]
    assert (facts["status"], facts["gpus"][0]["memory_free_mib"], facts["gpus"][0]["compute_capability"]) == (
        "ok",
        143153,
        "9.0",
    )


def test_a_broken_host_is_an_answer(run_module: Run, nvidia_smi: t.Callable[[str], str]) -> None:
    path = nvidia_smi("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    run = run_module("gpu_facts", {"nvidia_smi": path})
    assert run.status == 0
    assert run.result["ansible_facts"]["gpufleet"]["status"] == "driver_mismatch"


def test_the_engine_is_a_socket_of_the_host(run_module: Run, nvidia_smi: t.Callable[[str], str]) -> None:
    run = run_module("gpu_facts", {"nvidia_smi": nvidia_smi(H200), "docker_host": "tcp://gpu2:2376"})
    assert run.status == 1
    assert "docker_host must be the address of a Unix socket on the host" in run.result["msg"]
    run = run_module("gpu_facts", {"nvidia_smi": nvidia_smi(H200), "docker_host": "unix:///no/such.sock"})
    assert run.status == 0


def test_a_hung_nvidia_smi_is_left_behind(run_module: Run, nvidia_smi: t.Callable[[str], str]) -> None:
    started = time.monotonic()
    run = run_module("gpu_facts", {"nvidia_smi": nvidia_smi("sleep 60"), "timeout": 0.3})
    assert time.monotonic() - started < 10
    assert run.result["ansible_facts"]["gpufleet"]["status"] == "timeout"


def test_a_path_that_leads_nowhere(run_module: Run, nvidia_smi: t.Callable[[str], str]) -> None:
    run = run_module("gpu_facts", {"nvidia_smi": nvidia_smi("") + "-typo"})
    assert run.status == 0
    assert run.result["ansible_facts"]["gpufleet"]["status"] != "ok"


@pytest.mark.parametrize("arguments", [{"timeout": 0}, {"samples": 0}, {"sample_interval": -1}])
def test_numbers_out_of_range(run_module: Run, arguments: dict[str, t.Any]) -> None:
    run = run_module("gpu_facts", arguments)
    assert run.status == 1
    assert "'timeout' must be more than 0" in run.result["msg"]
