# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the settings that decide about memory are read."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.memory_settings import human, settings_of
from memory_rig import spec


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ({"gpu_memory_utilization": 85}, "engine.gpu_memory_utilization must be a share of the memory"),
        ({"gpu_memory_utilization": "nan"}, "between 0 and 1, such as 0.85; got 'nan'."),
        ({"max_model_len": "long"}, "engine.max_model_len must be a number such as 32768, 32K (1024)"),
        ({"tensor_parallel_size": 0}, "engine.tensor_parallel_size must be at least 1; got 0."),
    ],
    ids=str,
)
def test_a_setting_that_is_no_number_is_told_with_its_address(engine: dict[str, t.Any], sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        settings_of(spec(**engine))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"), [("32k", 32000), ("32K", 32768), ("1.5k", 1500), ("60G", 60 * 2**30), (4096, 4096)]
)
def test_sizes_are_read_as_vllm_reads_them(text: t.Any, number: int) -> None:
    assert human("max_model_len", text) == number
