# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filters about GPUs as playbooks call them."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.filter.gpu_status import FilterModule as GpuStatus
from ansible_collections.gpufleet.vllm.plugins.filter.gpu_table import FilterModule as GpuTable
from ansible_collections.gpufleet.vllm.plugins.filter.select_gpus import FilterModule as SelectGpus

select_gpus = SelectGpus().filters()["select_gpus"]
gpu_table = GpuTable().filters()["gpu_table"]
gpu_status = GpuStatus().filters()["gpu_status"]
GPU = {"index": 0, "uuid": "GPU-0", "health": "ok", "memory_free_mib": 1000, "memory_total_mib": 2000}
FACTS = {"status": "ok", "message": None, "gpus": [GPU]}


def test_numbers_may_come_from_templates() -> None:
    assert select_gpus(FACTS, count="1", min_free_mib="1000") == ["GPU-0"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"facts": None}, "ansible_facts.gpufleet; got NoneType"),
        ({"facts": {"gpufleet": FACTS}}, "needs the facts"),
        ({"facts": FACTS, "count": 0}, "count must be a whole number of at least 1; got 0"),
        ({"facts": FACTS, "count": "two"}, "got 'two'"),
        ({"facts": FACTS, "count": True}, "got True"),
        ({"facts": FACTS, "min_free_mib": -1}, "min_free_mib must be a whole number of at least 0"),
        ({"facts": FACTS, "prefer": "fast"}, "prefer must be one of nvlink, numa, free; got 'fast'"),
        ({"facts": FACTS, "min_free_mib": 1500}, "GPU 0: 1.0 of 2.0 GiB free, needs 1.5"),
    ],
)
def test_select_gpus_refuses_with_a_sentence(arguments: dict[str, t.Any], words: str) -> None:
    with pytest.raises(AnsibleFilterError) as refused:
        select_gpus(**arguments)
    assert words in str(refused.value)


def test_results_and_facts_are_shown_alike() -> None:
    assert gpu_table({"ansible_facts": {"gpufleet": FACTS}}, "a") == gpu_table(FACTS, "a")
    assert gpu_status({"ansible_facts": {"gpufleet": FACTS}}) == FACTS
    assert gpu_status({"unreachable": True, "msg": "down"}) == {"status": "unreachable", "message": "down", "gpus": []}


@pytest.mark.parametrize("called", [gpu_table, gpu_status])
def test_something_else_is_refused(called: t.Callable[[t.Any], t.Any]) -> None:
    with pytest.raises(AnsibleFilterError, match="got list"):
        called([])
