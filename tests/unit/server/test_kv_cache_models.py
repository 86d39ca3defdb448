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

FP8 = {"kv_cache_dtype": "fp8"}


def drafted(tokens: int, method: str = "mtp") -> dict[str, t.Any]:
    """Speculative decoding."""
    return {"speculative_config": {"method": method, "num_speculative_tokens": tokens}}


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
    # Public logs of 2026-05-01.
    "Qwen3.6-35B-A3B before tokens are counted by requests": (
        models.QWEN36_35B,
        "0.20.0",
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
    # What follows are logs that their authors published with the files by which they started vLLM.
    "Gemma-4-E4B": (
        models.GEMMA4_E4B,
        "0.25.1",
        {"max_model_len": 16384, "max_num_batched_tokens": 2048},
        *(22.01, 1_033_831, 63.10),
    ),
    "Gemma-3-1B": (
        models.GEMMA3_1B,
        "0.13.0",
        {"max_model_len": 2048, "max_num_batched_tokens": 8192},
        *(25.39, 950_864, 461.21),
    ),
    "Qwen3.5-0.8B": (models.qwen35(24, 2, 16), "0.25.1", {"max_model_len": 8192}, *(5.88, 407_013, 49.68)),
    "Qwen3.5-2B": (models.qwen35(24, 2, 16), "0.19.0", {"max_model_len": 262144}, *(5.95, 129_472, 1.97)),
    "Qwen3.5-122B-A10B, cached prefixes": (
        models.qwen35(48, 2, 64),
        "0.19.0",
        {"kv_cache_dtype": "fp8", "max_model_len": 131072, "enable_prefix_caching": True},
        *(21.43, 467_712, 11.79),
    ),
    "Qwen3.5-122B-A10B, one token drafted": (
        models.qwen35(48, 2, 64),
        "0.19.0",
        {**FP8, **drafted(1), "max_model_len": 262144, "enable_prefix_caching": True},
        *(24.05, 482_080, 6.42),
    ),
    "Qwen3.6-27B": (
        models.qwen35(64, 4, 48),
        "0.20.0",
        {**FP8, "max_model_len": 32768, "enable_prefix_caching": True},
        *(6.67, 53_312, 5.15),
    ),
    # https://github.com/mitchross/talos-argocd-proxmox/pull/1995
    "Qwen3.8-27B on two GPUs": (
        models.qwen35(64, 4, 48),
        "0.26.0",
        {**FP8, "tensor_parallel_size": 2, "max_model_len": 131072, "max_num_batched_tokens": 8192},
        *(4.99, 302_921, 2.31),
    ),
    "GLM-5.1, MLA with an index": (
        models.GLM_51,
        "0.19.0",
        {"tensor_parallel_size": 8, "max_model_len": 202752},
        *(34.86, 373_696, 1.84),
    ),
    "Qwen3.6-27B, one token drafted": (
        models.qwen35(64, 4, 48),
        "0.20.0",
        {**FP8, **drafted(1), "max_model_len": 65536, "enable_prefix_caching": True},
        *(4.8, 36_432, 1.82),
    ),
    "Qwen3.6-27B, two tokens drafted": (
        models.qwen35(64, 4, 48),
        "0.23.0",
        {**FP8, **drafted(2), "max_model_len": 262144, "enable_prefix_caching": True},
        *(48.6, 1_394_129, 5.32),
    ),
    "Qwen3.6-27B, three tokens drafted on four GPUs": (
        models.qwen35(64, 4, 48),
        "0.21.0",
        {**FP8, **drafted(3), "tensor_parallel_size": 4, "max_model_len": 196608, "enable_prefix_caching": True},
        *(5.61, 615_468, 3.13),
    ),
    "Qwen3.6-35B-A3B, two tokens drafted, in a release that counts by requests": (
        models.QWEN36_35B,
        "0.20.2",
        {**FP8, **drafted(2, "qwen3_next_mtp"), "max_model_len": 262144, "enable_prefix_caching": True},
        *(66.58, 5_747_892, 21.93),
    ),
    "Nemotron-3-Nano-30B-A3B": (models.NEMOTRON3_30B, "0.20.2", {"max_model_len": 262144}, *(34.32, 5_769_184, 22.01)),
    "Nemotron-3-Nano-30B-A3B, a state of 32 bits": (
        models.NEMOTRON3_30B,
        "0.20.2",
        {**FP8, "mamba_ssm_cache_dtype": "float32", "max_model_len": 256000},
        *(3.72, 1_206_303, 4.71),
    ),
    "Nemotron-3-Nano-4B, a state of 16 bits": (
        models.NEMOTRON3_4B,
        "0.13.0",
        {**FP8, "mamba_ssm_cache_dtype": "float16", "max_model_len": 8192},
        *(11.15, 208_320, 98.20),
    ),
    "Granite-4.0-H-1B": (models.GRANITE4_1B, "0.19.0", {"max_model_len": 4096}, *(4.09, 53_200, 66.95)),
    "Falcon-H1-3B, whose requests are shorter than a block": (
        models.FALCON_H1_3B,
        "0.12.0",
        {"max_model_len": 2048},
        *(5.28, 83_968, 41.50),
    ),
    "Zamba2-2.7B": (models.ZAMBA2_27B, "0.12.0", {"max_model_len": 2048}, *(6.16, 5_088, 15.27)),
    "LFM2-1.2B": (models.LFM2_12B, "0.13.0", {"max_model_len": 2048}, *(7.46, 217_264, 313.37)),
    "DeepSeek-V3 on eight GPUs": (
        models.DEEPSEEK_R1,
        "0.11.2",
        {"tensor_parallel_size": 8, "max_model_len": 8192},
        *(41.6, 635_648, 77.59),
    ),
    "GLM-4.7 on four GPUs": (
        models.uniform(92, 8),
        "0.15.1",
        {**FP8, "tensor_parallel_size": 4, "max_model_len": 202752},
        *(31.99, 729_248, 3.60),
    ),
    "Qwen3-30B-A3B on four GPUs": (
        models.uniform(48, 4),
        "0.24.0",
        {"tensor_parallel_size": 4, "max_model_len": 32768},
        *(23.74, 1_037_152, 31.65),
    ),
    "Qwen3-235B-A22B on four GPUs, one head on each": (
        models.uniform(94, 4),
        "0.10.2",
        {"tensor_parallel_size": 4, "enable_expert_parallel": True, "max_model_len": 32768},
        *(10.65, 238_208, 7.27),
    ),
    "Llama-3.1-8B beside EAGLE": (
        models.uniform(32, 8, "llama"),
        "0.9.1",
        {"max_model_len": 131072, **drafted(3, "eagle")},
        *(51.63, 410_128, 3.13),
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
        pytest.param(models.DEEPSEEK_R1, drafted(1), 62 * 576 * 2, id="with what drafts a token ahead"),
    ],
)
def test_what_a_token_takes_with_mla(config: models.Config, engine: dict[str, t.Any], size: int) -> None:
    assert bytes_of_a_token(cache(config, **engine)) == size


@pytest.mark.parametrize(
    ("kv_cache_dtype", "size"),
    [("auto", 512), ("fp8", 256), ("nvfp4", 144), ("fp8_per_token_head", 264), ("int4_per_token_head", 136)],
)
def test_what_keys_and_values_of_a_head_take(kv_cache_dtype: str, size: int) -> None:
    """128 of each; nvfp4 has a byte of scale for 16 values, the others 4 bytes for all of a head."""
    made = cache(models.uniform(1, 1), kv_cache_dtype=kv_cache_dtype)
    assert bytes_of_a_token(made) == size


def test_a_latent_vector_in_four_bits_has_no_known_size() -> None:
    wanted = settings_of(spec("0.31.0", kv_cache_dtype="nvfp4"))
    assert cache_of(wanted, architecture(models.DEEPSEEK_R1), 8192) is None


@pytest.mark.parametrize(
    ("said", "layers"),
    [
        pytest.param('{"method": "mtp", "num_speculative_tokens": 1}', 17, id="as JSON"),
        pytest.param({"method": "mtp"}, 17, id="the number left out"),
        pytest.param({"method": "eagle3", "model": "some/eagle"}, 17, id="EAGLE"),
        pytest.param({"model": "yuhuili/EAGLE3-LLaMA3.1-Instruct-8B"}, 17, id="EAGLE by its name"),
        pytest.param({"method": "ngram", "num_speculative_tokens": 4}, 16, id="nothing that keeps anything"),
        pytest.param("{", 16, id="garbage"),
        pytest.param(None, 16, id="unset"),
    ],
)
def test_what_drafts_keeps_a_layer_of_its_own(said: t.Any, layers: int) -> None:
    made = cache(models.uniform(16, 1), speculative_config=said)
    assert bytes_of_a_token(made) == layers * 512


def test_what_drafts_for_gemma_4_uses_what_the_model_keeps() -> None:
    assert cache(models.GEMMA4_31B, **drafted(1)) == cache(models.GEMMA4_31B)


@pytest.mark.parametrize(("version", "states"), [("0.20.0", 3 * (1 + 2)), ("0.14.0", 3)])
def test_a_state_is_kept_after_each_drafted_token(version: str, states: int) -> None:
    made = cache(models.QWEN3_NEXT_80B, version, **drafted(2))
    assert made.blocks_per_request(65536) - -(-65536 // made.block_size) == states


@pytest.mark.parametrize("config", [models.DEEPSEEK_R1, models.uniform(4, 1)], ids=["MLA", "heads"])
@pytest.mark.parametrize("version", ["0.26.0", "0.20.0"])
def test_gpus_of_context_parallel_share_the_tokens_of_a_request(config: models.Config, version: str) -> None:
    alone, shared = (
        kv_capacity(spec(version, max_model_len=65536, **engine), architecture(config), 8)
        for engine in ({}, {"tensor_parallel_size": 8, "decode_context_parallel_size": 8})
    )
    assert shared.tokens == pytest.approx(8 * alone.tokens, rel=0.01)
    made = cache(config, version, tensor_parallel_size=8, decode_context_parallel_size=8)
    assert made.longest(1024) == pytest.approx(8 * cache(config, version).longest(1024), rel=0.01)


def test_mamba_1_keeps_a_state_of_16_bits() -> None:
    made = cache(models.JAMBA_MINI, "0.20.0")
    # 8192 channels, of which each keeps 3 tokens and 16 values: as much as 76 tokens of 4 KiB.
    assert made.block_size == 80
    assert [group.count for group in made.groups] == [1, 7]


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
        pytest.param(models.qwen35(32, 4, 32), {}, 528, id="Qwen3.5-9B"),
        pytest.param(models.qwen35(64, 4, 48), {}, 784, id="Qwen3.6-27B"),
        pytest.param(models.qwen35(64, 4, 48), {**FP8, **drafted(2)}, 1600, id="Qwen3.6-27B with drafted tokens"),
        pytest.param(models.NEMOTRON3_30B, FP8, 4176, id="Nemotron-3-Nano-30B in 8 bits"),
        pytest.param(models.GRANITE4_1B, {}, 400, id="Granite-4.0-H-1B"),
        pytest.param(models.FALCON_H1_3B, {}, 2080, id="Falcon-H1-3B"),
        pytest.param(models.ZAMBA2_27B, {}, 48, id="Zamba2-2.7B"),
        pytest.param(models.LFM2_12B, {}, 16, id="LFM2-1.2B, whose convolutions are smaller than a block"),
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
