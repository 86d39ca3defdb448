# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The GPU that the service took beside the jobs of others, and what it was started by."""

from __future__ import annotations

import typing as t

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

UNIT = "vllm-qwen"


def main(host: t.Any) -> str:
    return t.cast(str, host.check_output(f"systemctl show --property MainPID --value {UNIT}"))


def test_check_mode_said_what_was_done_and_the_second_run_did_nothing(runs: list[Run]) -> None:
    predicted, done, again = runs
    assert (predicted.check, done.check, again.check) == (True, False, False)
    for line in ("create vllm-qwen", "start vllm-qwen"):
        assert line in predicted.text and line in done.text
    assert again.changed == []


def test_the_fallback_was_taken_by_diagnosis(host: t.Any, runs: list[Run]) -> None:
    assert "mem-profiling-drift" in runs[1].text
    words = host.check_output(f"sudo cat /proc/{main(host)}/cmdline | tr '\\0' ' '")
    assert "--gpu-memory-utilization 0.675" in words and "--enforce-eager" in words


def test_it_has_the_gpu_that_nobody_uses_by_its_index(host: t.Any) -> None:
    lines = host.check_output(f"sudo cat /proc/{main(host)}/environ | tr '\\0' '\\n'").splitlines()
    assert {"CUDA_VISIBLE_DEVICES=4", "CUDA_DEVICE_ORDER=PCI_BUS_ID"} <= {*lines}
    held = host.check_output("nvidia-smi --query-compute-apps=gpu_uuid,used_memory,process_name --format=csv,noheader")
    assert "GPU-00000004-0000-4000-8000-000000000004, 54879, VLLM::EngineCore" in held


def test_it_is_the_services_users_process_and_no_other_is_left(host: t.Any) -> None:
    assert host.check_output(f"ps -o user= -p {main(host)}") == "vllm"
    assert host.run("pgrep --full '[/]usr/local/lib/gpufleet'").stdout == ""


@pytest.mark.parametrize(
    ("path", "mode"),
    [
        ("/usr/local/lib/gpufleet.vllm", "root 755"),
        ("/usr/local/lib/gpufleet.vllm/*", "root 644"),
        ("/run/gpufleet.vllm", "root 755"),
        ("/run/gpufleet.vllm/turns/4", "root 644"),
    ],
)
def test_who_may_change_what_it_was_started_by(host: t.Any, path: str, mode: str) -> None:
    assert host.check_output(f"sh -c \"stat --format '%U %a' {path}\"") == mode
