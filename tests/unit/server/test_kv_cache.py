# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Blocks, tokens and requests of a KV cache: against what vLLM printed, and by version."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.budget import kv_capacity
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import Architecture
from memory_rig import MODELS, spec

POINTS = json.loads((Path(__file__).parents[2] / "fixtures" / "kv_data_points.json").read_text("utf-8"))
OF_A_POINT = ("tensor_parallel_size", "max_model_len", "max_num_batched_tokens", "block_size", "kv_cache_dtype")


@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"{p['model']}, {p['vllm']}, {p['kv_available_gib']} GiB")
def test_tokens_and_concurrency_are_what_vllm_printed(point: dict[str, t.Any]) -> None:
    engine = {key: point[key] for key in OF_A_POINT if key in point}
    capacity = kv_capacity(spec(point["vllm"], **engine), MODELS[point["model"]], point["kv_available_gib"])
    assert capacity.tokens == pytest.approx(point["reported_tokens"], rel=0.01)
    if "reported_concurrency" in point:
        assert capacity.concurrency == pytest.approx(point["reported_concurrency"], rel=0.01)


@pytest.mark.parametrize(
    ("version", "engine", "architecture", "blocks_of_16_layers"),
    [
        ("0.26.0", {}, Architecture(16, 0, 0, 1, 128), 1),
        ("0.26.0", {}, Architecture(0, 16, 128, 1, 128), 1),
        ("0.11.2", {}, Architecture(16, 18, 128, 1, 128), 1),
        ("0.12.0", {}, Architecture(16, 18, 128, 1, 128), 16 / 18),
        ("0.17.1", {}, Architecture(16, 20, 128, 1, 128), 1),
        ("0.18.0", {}, Architecture(16, 20, 128, 1, 128), 16 / 20),
        ("0.26.0", {}, Architecture(16, 24, 128, 1, 128), 1),
        ("0.9.0", {}, Architecture(16, 16, 128, 1, 128), 0.5),
        ("0.26.0", {"disable_hybrid_kv_cache_manager": True}, Architecture(16, 16, 128, 1, 128), 0.5),
        ("0.26.0", {"block_size": 32}, Architecture(16, 0, 0, 1, 128), 0.5),
        ("0.26.0", {"tensor_parallel_size": 2}, Architecture(16, 0, 0, 1, 128), 1),
        ("0.26.0", {"tensor_parallel_size": 2}, Architecture(16, 0, 0, 2, 128), 1),
        ("0.26.0", {"pipeline_parallel_size": 2}, Architecture(16, 0, 0, 1, 128), 2),
        ("0.26.0", {"kv_cache_dtype": "fp8"}, Architecture(16, 0, 0, 1, 128), 2),
        ("0.26.0", {"dtype": "float32"}, Architecture(16, 0, 0, 1, 128), 0.5),
    ],
)
def test_blocks_by_version_and_settings(
    version: str, engine: dict[str, t.Any], architecture: Architecture, blocks_of_16_layers: float
) -> None:
    """A block of 16 tokens, 16 layers and one head of 128 in 16 bits takes 128 KiB."""
    capacity = kv_capacity(spec(version, max_model_len=4096, **engine), architecture, 1)
    assert capacity.blocks == int(8192 * blocks_of_16_layers)


@pytest.mark.parametrize(
    ("version", "engine", "kept"),
    [
        ("0.25.1", {"max_num_batched_tokens": 2048}, 2048),
        ("0.26.0", {"max_num_batched_tokens": 2048}, 4096),
        ("0.26.0", {"max_num_batched_tokens": "2K"}, 4096),
        ("0.26.0", {"max_num_batched_tokens": 2048, "async_scheduling": False}, 2048),
        ("0.26.0", {"max_num_batched_tokens": 2048, "pipeline_parallel_size": 4}, 8192),
        (None, {"max_num_batched_tokens": 2048}, 4096),
        ("0.25.1", {}, 8192),
        ("0.25.1", {"enable_chunked_prefill": False}, 65536),
    ],
    ids=str,
)
def test_a_sliding_layer_keeps_its_window_and_what_is_in_flight(
    version: str | None, engine: dict[str, t.Any], kept: int
) -> None:
    pipeline = engine.get("pipeline_parallel_size", 1)
    capacity = kv_capacity(spec(version, max_model_len=65536, **engine), Architecture(0, 16, 1, 1, 128), 8 / pipeline)
    assert capacity.concurrency == pytest.approx(65536 / (kept // 16 + 1))
