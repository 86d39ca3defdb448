# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The KV cache of MLA, of layers with a state, of chunks and of layers with heads of their own: from config.json to what
vLLM printed, and the arithmetic where no print is known."""

from __future__ import annotations

import typing as t

import model_configs as models
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.budget import kv_capacity
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.fit import fit
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.kv_cache import Cache, cache_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.memory_settings import settings_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import Architecture
from memory_rig import gpu, host, spec

FP8 = {"kv_cache_dtype": "fp8"}


def drafted(tokens: int, method: str = "mtp") -> dict[str, t.Any]:
    """Speculative decoding."""
    return {"speculative_config": {"method": method, "num_speculative_tokens": tokens}}


# Model, version, settings, "Available KV cache memory" in GiB, and what vLLM printed: tokens and concurrency, or what of
# them was published.
Point = tuple[models.Config, str, dict[str, t.Any], float, t.Optional[int], t.Optional[float]]
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
    # A public record of 2026 of a start on two H200.
    "DeepSeek-V4-Flash": (
        models.DEEPSEEK_V4_FLASH,
        "0.23.0",
        {**FP8, "tensor_parallel_size": 2, "max_model_len": 262144},
        *(32.08, 2_175_276, 8.30),
    ),
    # A public report on 0.22.1rc1, eight GPUs.
    "DeepSeek-V4-Flash, all pages as often": (
        models.DEEPSEEK_V4_FLASH,
        "0.22.1",
        {**FP8, "tensor_parallel_size": 8, "max_model_len": 256000, "block_size": 256},
        *(37.93, 2_497_693, 9.76),
    ),
    # https://github.com/vllm-project/vllm/issues/51041
    "DeepSeek-V4-Flash-0731, one token drafted": (
        models.DEEPSEEK_V4_FLASH,
        "0.26.0",
        {**FP8, **drafted(1), "tensor_parallel_size": 2, "max_model_len": 121344, "block_size": 256},
        *(7.71, 150_992, 1.24),
    ),
    # The same thread has 1.11 requests of 912128 tokens, as with one batch in flight; it does not say why.
    "DeepSeek-V4-Flash, one batch in flight": (
        models.DEEPSEEK_V4_FLASH,
        "0.26.0",
        {**FP8, **drafted(1), "tensor_parallel_size": 2, "max_model_len": 912128, "async_scheduling": False},
        *(7.01, 1_009_661, 1.11),
    ),
    # A public recipe of 2026 for eight H100, of MiMo-V2.6-Flash.
    "MiMo-V2-Flash on eight GPUs": (
        models.MIMO_V2_FLASH,
        "0.33.0",
        {"tensor_parallel_size": 8, "max_model_len": 262144, "enable_prefix_caching": False},
        *(49.18, 6_969_972, 26.59),
    ),
    # A public guide prints both, the first with the length of the second; it fits 131072.
    "Qwen3-Next-80B-A3B, a state of 16 bits": (
        models.QWEN3_NEXT_80B,
        "0.27.1",
        {"mamba_ssm_cache_dtype": "float16", "enable_prefix_caching": True, "max_model_len": 131072},
        *(16.63, 708_425, None),
    ),
    "Qwen3-Next-80B-A3B, less memory": (
        models.QWEN3_NEXT_80B,
        "0.27.1",
        {"mamba_ssm_cache_dtype": "float16", "enable_prefix_caching": True, "max_model_len": 65536},
        *(5.85, 242_534, 3.70),
    ),
    "Qwen3.8-27B in 4 bits, three tokens drafted": (
        models.qwen35(64, 4, 48),
        "0.32.0",
        {"kv_cache_dtype": "nvfp4", **drafted(3), "max_model_len": 131072},
        *(6.0, 243_117, 1.85),
    ),
    "Qwen3.8-27B without cached prefixes, one token drafted": (
        models.qwen35(64, 4, 48),
        "0.19.0",
        {**FP8, **drafted(1), "max_model_len": 65536, "enable_prefix_caching": False},
        *(44.57, 342_144, 18.06),
    ),
    "Qwen3.5-9B": (models.qwen35(32, 4, 32), "0.30.0", {"max_model_len": 65536}, *(6.75, 209_615, 3.20)),
    "Gemma-4-31B on two GPUs beside its assistant": (
        models.GEMMA4_31B,
        "0.28.0",
        {
            **FP8,
            "speculative_config": {"model": "google/gemma-4-31B-it-assistant", "num_speculative_tokens": 4},
            "tensor_parallel_size": 2,
            "max_model_len": 32768,
        },
        *(16.0, 132_784, 4.05),
    ),
    "MiniMax-M2.7 on two GPUs": (
        models.uniform(62, 8),
        "0.29.0",
        {"tensor_parallel_size": 2, "max_model_len": 196608},
        *(28.74, 240_816, None),
    ),
    "Llama-3.3-70B in 8 bits": (
        models.uniform(80, 8),
        "0.11.2",
        {**FP8, "max_model_len": 32000},
        *(5.11, 33_504, 1.05),
    ),
    "LightOnOCR-2-1B": (models.uniform(28, 8), "0.15.1", {"max_model_len": 16384}, *(77.94, None, 44.53)),
    "Qwen3-30B-A3B": (models.uniform(48, 4), "0.24.0", {"max_model_len": 8192}, *(6.5, 70_944, 8.66)),
    "Qwen2.5-1.5B": (models.uniform(28, 2), "0.24.0", {"max_model_len": 4096}, *(33.42, 1_251_440, 305.53)),
    # https://blog.huikang.dev/2025/12/28/vllm-logs.html
    "gpt-oss-120b on one GPU": (
        models.GPT_OSS_120B,
        "0.11.2",
        {"max_model_len": 98304, "max_num_batched_tokens": 2048},
        *(8.99, 130_960, None),
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
    for ours, printed in ((capacity.tokens, tokens), (capacity.concurrency, concurrency)):
        assert printed is None or ours == pytest.approx(printed, rel=0.01)


def test_the_default_batch_holds_the_largest_video_of_gemma_4() -> None:
    """A public start of the 26B on an L40S, which does not name max_num_batched_tokens: 2048 there, but for this."""
    small = {"name": "NVIDIA L40S", "memory_total_mib": 46068, "memory_free_mib": 45000, "memory_used_mib": 1068}
    wanted, known = spec("0.25.1", max_model_len=32768), architecture(models.GEMMA4_26B)
    capacity = kv_capacity(wanted, known, 12.75, small)
    assert (capacity.tokens, capacity.concurrency) == (pytest.approx(321_600, rel=0.001), pytest.approx(9.81, abs=0.01))
    before = kv_capacity(spec("0.21.0", max_model_len=32768), known, 12.75, small)
    assert before == kv_capacity(spec("0.25.1", max_model_len=32768, max_num_batched_tokens=2048), known, 12.75, small)


@pytest.mark.parametrize(
    ("engine", "batch"),
    [({"performance_mode": "throughput"}, 16384), ({"max_num_seqs": 2, "max_model_len": 1024}, 2048)],
    ids=["twice as large where throughput is all", "no larger than all requests"],
)
def test_the_default_batch_by_other_settings(engine: dict[str, t.Any], batch: int) -> None:
    said, known = {"max_model_len": 65536, **engine}, architecture(models.GEMMA3_1B)
    assert kv_capacity(spec("0.25.1", **said), known, 8) == kv_capacity(
        spec("0.25.1", **said, max_num_batched_tokens=batch), known, 8
    )


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
        # A public recipe counts 47700 bytes, of 576 for the vector, on GPUs that keep it without scales.
        pytest.param(models.GLM_52, {}, 78 * 576 * 2 + 21 * 132, id="an index for four layers"),
        pytest.param(models.GLM_52, drafted(1), 79 * 576 * 2 + 22 * 132, id="and one for what drafts"),
        pytest.param(
            {**models.GLM_51, "index_topk_pattern": "FFSSS" + "F" * 73}, {}, 78 * 576 * 2 + 75 * 132, id="by a pattern"
        ),
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


def test_before_indexes_were_shared_each_layer_kept_its_own() -> None:
    assert cache(models.GLM_52, "0.20.0") == cache(models.GLM_51, "0.20.0")


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


@pytest.mark.parametrize(
    ("config", "engine"),
    [
        pytest.param(models.uniform(16, 1), {"model": "some/small-model"}, id="a model of its own"),
        pytest.param(models.QWEN36_35B, {"method": "dflash", "model": "some/DFlash"}, id="DFlash"),
        pytest.param(models.DEEPSEEK_R1, {"method": "eagle3", "model": "some/eagle"}, id="heads beside MLA"),
        pytest.param(models.MIMO_V2_FLASH, {"method": "mtp"}, id="windows that draft"),
    ],
)
def test_layers_that_draft_and_that_nobody_told_make_the_cache_unknown(
    config: models.Config, engine: dict[str, t.Any]
) -> None:
    wanted = spec("0.26.0", max_model_len=8192, speculative_config=engine)
    assert cache_of(settings_of(wanted), architecture(config), 8192) is None
    with pytest.raises(VllmError, match="draft model: what its layers keep is not known"):
        kv_capacity(wanted, architecture(config), 8)
    judged = fit(wanted, host(gpu(143771, 143000)), architecture(config))
    assert (judged.verdict, judged.kv_tokens_max) == ("ok", None)
    assert judged.reasons[0].startswith("What the layers of the draft model keep is not known")


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


@pytest.mark.parametrize(("version", "tokens"), [("0.32.0", 784), ("0.33.0", 832)])
def test_where_states_within_a_prompt_are_kept_a_block_is_a_multiple_of_64(version: str, tokens: int) -> None:
    assert cache(models.qwen35(64, 4, 48), version).block_size == tokens


@pytest.mark.parametrize(
    ("config", "version", "engine", "states"),
    [
        pytest.param(models.QWEN3_NEXT_80B, "0.20.0", {}, 3, id="one for each group"),
        pytest.param(models.QWEN3_NEXT_80B, "0.20.0", {"enable_prefix_caching": True}, 6, id="two for prefix caching"),
        pytest.param(models.QWEN3_NEXT_80B, "0.26.0", {}, 6, id="which is on by itself from 0.26"),
        pytest.param(models.QWEN3_NEXT_80B, "0.26.0", {"enable_prefix_caching": False}, 3, id="and can be off"),
        pytest.param(models.QWEN3_NEXT_80B, "0.14.0", {"enable_prefix_caching": True}, 3, id="before states were kept"),
        pytest.param(models.GRANITE4_SMALL, "0.20.0", {}, 9, id="nine groups of Mamba 2"),
        pytest.param(models.GRANITE4_SMALL, "0.33.0", {}, 27, id="three of each, where all are no more to be had"),
        pytest.param(models.QWEN3_NEXT_80B, "0.32.0", {}, 6, id="two of DeltaNet"),
        pytest.param(models.QWEN3_NEXT_80B, "0.33.0", {}, 9, id="three, with one from within a prompt"),
        pytest.param(models.JAMBA_MINI, "0.33.0", {"enable_prefix_caching": False}, 7, id="one of Mamba 1"),
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


CHUNKS = "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE"


@pytest.mark.parametrize(("version", "env"), [("0.20.0", {CHUNKS: "1"}), ("0.10.0", {})])
def test_a_layer_that_sees_chunks_keeps_one_and_what_is_in_flight(version: str, env: dict[str, str]) -> None:
    made = cache(models.LLAMA4_SCOUT, version, env=env)
    assert made.blocks_per_request(65536) == 65536 // 16 + 3 * (8192 + 8192) // 16


def test_unless_allowed_a_layer_that_sees_chunks_keeps_all_of_a_request() -> None:
    assert bytes_of_a_token(cache(models.LLAMA4_SCOUT, "0.20.0")) == 48 * 2 * 8 * 128 * 2


@pytest.mark.parametrize(("version", "releases"), [("0.22.1", False), ("0.23.0", True)])
def test_a_connector_kept_all_of_a_request_until_it_could_be_asked(version: str, releases: bool) -> None:
    made = cache(models.GEMMA3_1B, version, kv_transfer_config={"kv_connector": "NixlConnector", "kv_role": "kv_both"})
    assert (len(made.groups) > 1) is releases


def test_deepseek_v4_takes_blocks_as_its_release_lays_them_out() -> None:
    """The bytes of a block on 0.27 and later: 21 vectors and indexes, and 20 vectors of 128 tokens. One request of 30000
    tokens with batches of 16384 takes the 6.66 GiB that https://github.com/vllm-project/vllm/issues/44376 has."""
    sizes = [cache(models.DEEPSEEK_V4_FLASH, version, **FP8).block_bytes for version in ("0.22.1", "0.26.0", "0.33.0")]
    assert sizes == [22 * (37440 + 1728 + 8640), 22 * 37440 + 20 * 1728 + 21 * 8640, 21 * (37440 + 8640) + 20 * 1728]
    wanted = settings_of(spec("0.22.0", max_model_len=30000, **FP8))
    made = cache_of(wanted, architecture(models.DEEPSEEK_V4_FLASH), 16384)
    assert made is not None and made.needed_mib(30000) / 1024 == pytest.approx(6.66, abs=0.005)
    assert made.longest(5.44 * 1024) == 13528 // 256 * 256


def test_deepseek_v4_has_no_known_size_in_16_bits() -> None:
    with pytest.raises(VllmError, match="engine.kv_cache_dtype must be fp8: "):
        kv_capacity(spec("0.26.0", max_model_len=8192), architecture(models.DEEPSEEK_V4_FLASH), 8)


@pytest.mark.parametrize(
    ("version", "size"),
    [
        # Before, values were as large as keys, and a chunk that the model does not have kept all of each request.
        pytest.param("0.20.0", 9 * 4 * 2 * 192 * 2 + 39 * 8 * 2 * 192 * 2, id="as large as keys"),
        pytest.param("0.26.0", 9 * 8 * (192 + 128) * 2, id="as they are, in pages of one size"),
    ],
)
def test_values_of_another_size_than_keys(version: str, size: int) -> None:
    made = cache(models.MIMO_V2_FLASH, version)
    assert made.block_bytes / 16 == size


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
