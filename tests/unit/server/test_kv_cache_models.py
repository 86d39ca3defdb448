# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The KV cache of MLA, of layers with a state, of chunks and of layers with heads of their own: from config.json to what
vLLM printed, and the arithmetic where no print is known."""

from __future__ import annotations

import typing as t

import model_configs as models
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.budget import kv_capacity
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.kv_cache import Cache, cache_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.memory_settings import settings_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import Architecture
from memory_rig import spec

# Model, version, settings, "Available KV cache memory" in GiB, and what vLLM printed: tokens and concurrency.
Point = tuple[models.Config, str, dict[str, t.Any], float, int, float]
PRINTED: dict[str, Point] = {
    # https://github.com/noonghunna/club-3090/issues/612
    "Qwen3.6-35B-A3B": (
        models.QWEN36_35B,
        "0.24.0",
        {"kv_cache_dtype": "fp8", "max_model_len": 131072, "enable_prefix_caching": True},
        *(5.98, 567_978, 4.33),
    ),
    # A public log of 2026-05-01.
    "Qwen3.6-35B-A3B before tokens are counted by requests": (
        models.QWEN36_35B,
        "0.20.1",
        {"kv_cache_dtype": "fp8", "max_model_len": 65536, "enable_prefix_caching": True},
        *(2.95, 75_456, 3.87),
    ),
    # https://github.com/vllm-project/vllm/issues/28228
    "Kimi-Linear-48B-A3B, MLA beside a state": (
        models.KIMI_LINEAR_48B,
        "0.11.1",
        {"tensor_parallel_size": 2, "max_model_len": 120000, "max_num_batched_tokens": 64000},
        *(2.30, 75_840, 2.48),
    ),
    # A public README of 2026: two GPUs, a draft model beside it.
    "Gemma-4-31B": (
        models.GEMMA4_31B,
        "0.24.0",
        {"tensor_parallel_size": 2, "max_model_len": 163840, "max_num_batched_tokens": 8192},
        *(10.12, 169_314, 1.03),
    ),
    # https://github.com/vllm-project/vllm/issues/43308, which says "~50 GB" and "~55k".
    "Gemma-4-31B before tokens are counted by requests": (
        models.GEMMA4_31B,
        "0.20.0",
        {"max_model_len": 131072, "max_num_batched_tokens": 8192},
        *(50.0, 55_000, 2.93),
    ),
}


def architecture(config: models.Config) -> Architecture:
    return Architecture.from_mapping({**config, "weights_gib": 10})


@pytest.mark.parametrize("point", [pytest.param(point, id=name) for name, point in PRINTED.items()])
def test_from_config_json_to_what_vllm_printed(point: Point) -> None:
    config, version, engine, kv_gib, tokens, concurrency = point
    capacity = kv_capacity(spec(version, **engine), architecture(config), kv_gib)
    assert capacity.tokens == pytest.approx(tokens, rel=0.01)
    assert capacity.concurrency == pytest.approx(concurrency, rel=0.01)


def cache(config: models.Config, version: str = "0.26.0", **engine: t.Any) -> Cache:
    said = {"max_model_len": 65536, **engine}
    made = cache_of(settings_of(spec(version, **said)), architecture(config), 8192)
    assert made is not None
    return made


def bytes_of_a_token(made: Cache) -> float:
    return made.block_bytes / made.block_size


@pytest.mark.parametrize(
    ("config", "engine", "size"),
    [
        pytest.param(models.DEEPSEEK_R1, {}, 61 * 576 * 2, id="a latent vector and a position"),
        pytest.param(models.DEEPSEEK_R1, {"tensor_parallel_size": 8}, 61 * 576 * 2, id="which no GPU shares"),
        pytest.param(models.DEEPSEEK_R1, {"kv_cache_dtype": "fp8"}, 61 * 576, id="in 8 bits"),
        pytest.param(models.DEEPSEEK_R1, {"pipeline_parallel_size": 2}, 31 * 576 * 2, id="of the longer half"),
        pytest.param(models.DEEPSEEK_V32, {}, 61 * (576 * 2 + 132), id="and the key of the index"),
        pytest.param(models.DEEPSEEK_V32, {"kv_cache_dtype": "fp8"}, 61 * (656 + 132), id="in 8 bits with scales"),
    ],
)
def test_what_a_token_takes_with_mla(config: models.Config, engine: dict[str, t.Any], size: int) -> None:
    assert bytes_of_a_token(cache(config, **engine)) == size


@pytest.mark.parametrize(
    ("config", "engine", "tokens"),
    [
        # "Setting attention block size to N tokens", as public logs have it.
        pytest.param(models.QWEN36_35B, {"kv_cache_dtype": "fp8"}, 2096, id="Qwen3.6-35B in 8 bits"),
        pytest.param(models.QWEN36_35B, {}, 1056, id="Qwen3.6-35B"),
        # https://github.com/vllm-project/vllm/issues/24280 has 672 for a state of 16 bits.
        pytest.param(
            models.NEMOTRON_NANO_9B, {"mamba_ssm_cache_dtype": "float16"}, 672, id="Nemotron-Nano-9B-v2 in 16 bits"
        ),
        pytest.param(models.NEMOTRON_NANO_9B, {}, 1312, id="Nemotron-Nano-9B-v2, whose state has 32"),
        pytest.param(models.QWEN36_35B, {"block_size": 4096}, 4096, id="what is asked for, where that is more"),
    ],
)
def test_a_block_is_as_large_as_a_state(config: models.Config, engine: dict[str, t.Any], tokens: int) -> None:
    assert cache(config, "0.20.0", **engine).block_size == tokens


@pytest.mark.parametrize(
    ("config", "version", "engine", "states"),
    [
        pytest.param(models.QWEN3_NEXT_80B, "0.20.0", {}, 3, id="one for each group"),
        pytest.param(models.QWEN3_NEXT_80B, "0.20.0", {"enable_prefix_caching": True}, 6, id="two for prefix caching"),
        pytest.param(models.QWEN3_NEXT_80B, "0.26.0", {}, 6, id="which is on by itself from 0.26"),
        pytest.param(models.QWEN3_NEXT_80B, "0.26.0", {"enable_prefix_caching": False}, 3, id="and can be off"),
        pytest.param(models.QWEN3_NEXT_80B, "0.14.0", {"enable_prefix_caching": True}, 3, id="before states were kept"),
        pytest.param(models.GRANITE4_SMALL, "0.20.0", {}, 9, id="nine groups of Mamba 2"),
        pytest.param(models.GRANITE4_SMALL, "0.33.0", {}, 18, id="two of each, where all are no more to be had"),
    ],
)
def test_the_blocks_of_states(config: models.Config, version: str, engine: dict[str, t.Any], states: int) -> None:
    made = cache(config, version, **engine)
    attention = -(-65536 // made.block_size)
    assert made.blocks_per_request(65536) - attention == states


def test_mamba_2_keeps_the_state_of_each_block_for_prefix_caching() -> None:
    made = cache(models.GRANITE4_SMALL, "0.20.0", enable_prefix_caching=True)
    assert made.block_size % 256 == 0
    assert made.blocks_per_request(65536) == 10 * -(-65536 // made.block_size)


def test_a_layer_that_sees_chunks_keeps_one_and_what_is_in_flight() -> None:
    made = cache(models.LLAMA4_SCOUT, "0.20.0")
    assert made.blocks_per_request(65536) == 65536 // 16 + 3 * (8192 + 8192) // 16


def test_layers_with_heads_of_their_own_share_pages_of_one_size() -> None:
    made = cache(models.GEMMA4_31B, "0.20.0")
    assert made.block_bytes == 10 * 16 * 2 * 16 * 256 * 2
    assert [group.block_size for group in made.groups] == [32, 16]


def test_without_the_hybrid_manager_every_layer_keeps_every_token() -> None:
    made = cache(models.GEMMA4_31B, "0.20.0", disable_hybrid_kv_cache_manager=True)
    assert bytes_of_a_token(made) == 50 * 2 * 16 * 256 * 2 + 10 * 2 * 4 * 512 * 2


@pytest.mark.parametrize(
    ("layers", "engine", "env", "on_a_stage"),
    [
        (62, {"pipeline_parallel_size": 4}, {}, 16),
        (62, {"pipeline_parallel_size": 2}, {"VLLM_PP_LAYER_PARTITION": "40,22"}, 40),
        (62, {"pipeline_parallel_size": 3}, {"VLLM_PP_LAYER_PARTITION": "40,22"}, 21),
        (62, {"pipeline_parallel_size": 2}, {"VLLM_PP_LAYER_PARTITION": "many"}, 31),
    ],
)
def test_stages_of_a_pipeline_that_are_not_equal(
    layers: int, engine: dict[str, t.Any], env: dict[str, str], on_a_stage: int
) -> None:
    assert settings_of(spec("0.26.0", env=env, **engine)).on_a_stage(layers) == on_a_stage
