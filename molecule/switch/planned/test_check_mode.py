# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After --check --diff of the switch: it was told in words, and nothing happened."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

PLAN = (
    "fetch weights google/gemma-3-27b-it (while the old server serves)",
    "create vllm-gemma3",
    "try vllm-gemma3 (GPU access, limits and mounts, before anything stops)",
    "stop vllm-gpt-oss (it has port 8000)",
    "wait for memory of all GPUs",
    "start vllm-gemma3",
)


def test_check_mode_told_the_switch_in_words_and_in_order(runs: list[Run]) -> None:
    run = runs[1]
    assert run.check
    places = [run.text.find(f"{line}\n") for line in PLAN]
    assert -1 not in places
    assert places == sorted(places)


def test_check_mode_told_the_rung_that_this_host_needs(runs: list[Run]) -> None:
    assert '"gpu_memory_utilization": "0.8"' in runs[1].text
    assert '"gpu_memory_utilization": "0.9"' not in runs[1].text
    assert "So fallback 1 of 2 is used instead." in " ".join(runs[1].text.split())


def test_check_mode_changed_nothing(host: t.Any, serving: t.Callable[[], t.Any]) -> None:
    (container,), model, _answer = serving()
    assert (container.split()[::2], model) == (["vllm-gpt-oss", "running"], "gpt-oss-120b")
    assert not host.file("/home/gpu/vllm/huggingface/hub/models--google--gemma-3-27b-it").exists
