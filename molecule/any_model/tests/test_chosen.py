# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the first run: the model serves with what was chosen for it."""

from __future__ import annotations

import json
import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

NAME = "vllm-tiny-qwen3"
CHOSEN = {"--gpu-memory-utilization": "0.9", "--max-model-len": "40960", "--max-num-seqs": "256"}
REASONS = (
    "gpufleet-mol-any: image vllm/vllm-openai:v0.26.0: vLLM 0.26.0 knows Qwen3ForCausalLM.",
    "gpufleet-mol-any: tensor_parallel_size 1: 15.3 GiB of weights fit on one h100 of 78.9 GiB.",
    "gpufleet-mol-any: max_model_len 40960: it is all that the model reads, and 8 such requests fit into",
    "gpufleet-mol-any: tool_call_parser hermes: the model is one of Qwen3,",
)


def test_it_serves_with_what_was_chosen(host: t.Any, serving: t.Callable[[], t.Any]) -> None:
    (container,), model, _answer = serving()
    assert (container.split()[::2], model) == ([NAME, "running"], "Tiny-Qwen3")
    command = json.loads(host.check_output(f"docker inspect {NAME}"))[0]["Config"]["Cmd"]
    assert {flag: command[command.index(flag) + 1] for flag in CHOSEN} == CHOSEN
    assert "--tensor-parallel-size" not in command


def test_check_mode_tells_the_reasons_and_so_does_the_first_run(runs: list[Run]) -> None:
    assert [run.check for run in runs[:2]] == [True, False]
    for run in runs[:2]:
        assert [reason for reason in REASONS if reason not in run.text] == []


def test_the_choice_is_recorded_with_the_server(host: t.Any) -> None:
    with host.sudo():
        assert host.check_output(f"find / -xdev -name 'choice.{NAME}.json'")
