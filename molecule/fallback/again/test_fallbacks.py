# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that start over, that find no rung that helps, and that need one before anything starts."""

from __future__ import annotations

import json
import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

FAULT = "/home/gpu/vllm/huggingface/standin.json"
BASE: dict[str, t.Any] = {"ulimits": {"memlock": 8388608}, "gpus": {"count": 1, "min_free_mib": 50000}}
# 57.2 of 79.4 GiB are free there: 0.75 asks for 59.5, 0.675 for 53.6.
BUSY_GPU = "GPU-00000006-0000-4000-8000-000000000006"

FALLBACKS = '{{index .Config.Labels "gpufleet.vllm.fallbacks"}}'


def wanting(**overrides: t.Any) -> tuple[str, str]:
    return "--extra-vars", json.dumps({"vllm_overrides": {**BASE, **overrides}})


def taken(host: t.Any) -> t.Any:
    label = host.check_output(
        "docker inspect --format '{{index .Config.Labels \"gpufleet.vllm.fallbacks\"}}' vllm-qwen"
    )
    return json.loads(label or "null")


def utilization(host: t.Any) -> str:
    command = json.loads(host.check_output("docker inspect vllm-qwen"))[0]["Config"]["Cmd"]
    return str(command[command.index("--gpu-memory-utilization") + 1])


def containers_with_gpus(host: t.Any) -> int:
    return int(host.check_output("grep -c ^prestart /run/sim-gpu.log"))


def test_a_later_run_starts_nothing(host: t.Any, deploy: t.Callable[..., Run], serving: t.Callable[[], t.Any]) -> None:
    before = serving(), containers_with_gpus(host)
    deploy()
    assert (serving(), containers_with_gpus(host)) == before


def test_a_reset_starts_over(host: t.Any, deploy: t.Callable[..., Run], serving: t.Callable[[], t.Any]) -> None:
    host.check_output(f"mv {FAULT} {FAULT}.off")
    run = deploy("--extra-vars", "vllm_server_reset_fallbacks=true")
    assert "It runs with fallback" not in run.text
    assert (taken(host), utilization(host)) == (None, "0.75")
    assert len(serving()[0]) == 1


def test_where_no_rung_helps_the_old_server_serves_again(
    host: t.Any, deploy: t.Callable[..., Run], serving: t.Callable[[], t.Any]
) -> None:
    before = serving()
    fault = json.loads(host.check_output(f"cat {FAULT}.off"))
    host.check_output("printf %s > %s", json.dumps({**fault, "only_with": "--max-model-len 16384"}), FAULT)
    run = deploy(*wanting(engine={"max_model_len": 16384}), rc=2)
    host.check_output(f"rm {FAULT}")
    assert "vllm-qwen is not healthy. The previous server qwen2.5-0.5b-instruct is serving again" in run.text
    assert "Fallbacks tried: 1 of 1, because of mem-profiling-drift." in run.text
    assert "Error in memory profiling" in run.text
    assert serving() == before
    assert (taken(host), utilization(host)) == (None, "0.75")


def test_a_rung_is_taken_before_anything_starts_where_the_memory_would_not_do(
    host: t.Any, deploy: t.Callable[..., Run], serving: t.Callable[[], t.Any]
) -> None:
    started = containers_with_gpus(host)
    run = deploy(*wanting(gpus=[BUSY_GPU]))
    assert "It runs with fallback 1 of 1" in run.text
    assert "because of mem-free-below-budget" in run.text
    assert (taken(host)["causes"], utilization(host)) == (["mem-free-below-budget"], "0.675")
    # The one that was tried with nothing in it, and the server.
    assert containers_with_gpus(host) == started + 2
    assert len(serving()[0]) == 1
