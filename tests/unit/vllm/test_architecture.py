# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The numbers of a model: from the texts of real config.json files, and as users write them."""

from __future__ import annotations

import typing as t
from pathlib import Path

import memory_rig
import model_configs
import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import (
    GIB,
    Architecture,
    of_config,
    of_weights,
)
from hypothesis import given, strategies as st

CATALOGUE = Path(__file__).parents[3] / "playbooks" / "models"

# --- from config.json -----------------------------------------------------------------------------------------------

ALTERNATING = ["sliding_attention", "full_attention"]
GPT_OSS = {
    "architectures": ["GptOssForCausalLM"],
    "attention_bias": True,
    "head_dim": 64,
    "hidden_size": 2880,
    "initial_context_length": 4096,
    "intermediate_size": 2880,
    "max_position_embeddings": 131072,
    "model_type": "gpt_oss",
    "num_attention_heads": 64,
    "num_experts_per_tok": 4,
    "num_key_value_heads": 8,
    "quantization_config": {"quant_method": "mxfp4"},
    "sliding_window": 128,
    "vocab_size": 201088,
}
GPT_OSS_20B = {**GPT_OSS, "num_hidden_layers": 24, "num_local_experts": 32, "layer_types": ALTERNATING * 12}
GPT_OSS_120B = {**GPT_OSS, "num_hidden_layers": 36, "num_local_experts": 128, "layer_types": ALTERNATING * 18}
GEMMA3_27B = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
        "head_dim": 128,
        "hidden_size": 5376,
        "intermediate_size": 21504,
        "model_type": "gemma3_text",
        "num_attention_heads": 32,
        "num_hidden_layers": 62,
        "num_key_value_heads": 16,
        "query_pre_attn_scalar": 168,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "torch_dtype": "bfloat16",
    "vision_config": {"hidden_size": 1152, "num_attention_heads": 16, "num_hidden_layers": 27},
}
QWEN25_05B = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_size": 896,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
}
QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "head_dim": 128,
    "hidden_size": 4096,
    "max_window_layers": 36,
    "model_type": "qwen3",
    "num_attention_heads": 32,
    "num_hidden_layers": 36,
    "num_key_value_heads": 8,
    "sliding_window": None,
    "use_sliding_window": False,
}
LLAMA31_8B = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 4096,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "rope_scaling": {"factor": 8.0, "rope_type": "llama3"},
}
MISTRAL_SMALL = {
    "architectures": ["MistralForCausalLM"],
    "head_dim": 128,
    "hidden_size": 5120,
    "model_type": "mistral",
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 8,
    "sliding_window": None,
}


def numbers(full: int, sliding: int, window: int, heads: int, dim: int, experts: int = 0) -> dict[str, t.Any]:
    return {
        "layers_full": full,
        "layers_sliding": sliding,
        "sliding_window": window,
        "num_key_value_heads": heads,
        "head_dim": dim,
        "weights_gib": 1.0,
        "experts": experts,
    }


@pytest.mark.parametrize(
    ("model", "config", "weights_bytes"),
    [
        ("gpt-oss-20b", GPT_OSS_20B, 13_761_300_984),
        ("gpt-oss-120b", GPT_OSS_120B, 65_248_815_744),
        ("gemma-3-27b", GEMMA3_27B, 54_864_936_288),
        ("qwen2.5-0.5b-instruct", QWEN25_05B, 988_097_824),
        ("qwen3-8b-long-context", QWEN3_8B, 16_381_516_776),
    ],
)
def test_the_catalogue_has_the_numbers_of_the_models_themselves(
    model: str, config: dict[str, t.Any], weights_bytes: int
) -> None:
    listed = yaml.safe_load((CATALOGUE / f"{model}.yml").read_text("utf-8"))["architecture"]
    told = of_config(config, weights_bytes)
    assert told is not None
    # What vLLM holds in memory is a little more or less than what the files take.
    assert told.pop("weights_gib") == pytest.approx(listed.pop("weights_gib"), rel=0.06)
    assert told == listed


@pytest.mark.parametrize(
    ("config", "told"),
    [
        pytest.param(LLAMA31_8B, numbers(32, 0, 0, 8, 128), id="Llama-3.1-8B"),
        pytest.param(MISTRAL_SMALL, numbers(40, 0, 0, 8, 128), id="Mistral-Small-24B"),
        pytest.param(
            {"model_type": "mistral3", "text_config": MISTRAL_SMALL}, numbers(40, 0, 0, 8, 128), id="Mistral-Small-3.2"
        ),
        pytest.param(
            {
                "model_type": "gemma3",
                "text_config": {
                    "hidden_size": 2560,
                    "model_type": "gemma3_text",
                    "num_hidden_layers": 34,
                    "sliding_window": 1024,
                },
            },
            numbers(5, 29, 1024, 4, 256),
            id="gemma-3-4b, which leaves its heads out",
        ),
        pytest.param(
            {**GEMMA3_27B["text_config"], "sliding_window_pattern": 2},  # type: ignore[dict-item]
            numbers(31, 31, 1024, 16, 128),
            id="a pattern of its own",
        ),
        pytest.param({**MISTRAL_SMALL, "sliding_window": 4096}, numbers(0, 40, 4096, 8, 128), id="every layer slides"),
        pytest.param(
            {**QWEN25_05B, "use_sliding_window": True}, numbers(21, 3, 32768, 2, 64), id="the last layers slide"
        ),
        pytest.param({**LLAMA31_8B, "num_key_value_heads": None}, numbers(32, 0, 0, 32, 128), id="heads of one kind"),
        pytest.param({**LLAMA31_8B, "layer_types": ["full_attention"] * 32}, numbers(32, 0, 0, 8, 128), id="listed"),
        pytest.param(
            {**LLAMA31_8B, "mamba_d_state": None, "is_encoder_decoder": False}, numbers(32, 0, 0, 8, 128), id="unset"
        ),
        pytest.param({**LLAMA31_8B, "text_config": None}, numbers(32, 0, 0, 8, 128), id="nothing nested"),
        pytest.param({**LLAMA31_8B, "num_experts": 128}, numbers(32, 0, 0, 8, 128, 128), id="experts of Qwen3"),
        pytest.param({**LLAMA31_8B, "num_local_experts": 8}, numbers(32, 0, 0, 8, 128, 8), id="experts of Mixtral"),
        pytest.param(
            {**LLAMA31_8B, "ffn_config": {"moe_num_experts": 16}}, numbers(32, 0, 0, 8, 128, 16), id="experts of DBRX"
        ),
        pytest.param(
            {**LLAMA31_8B, "moe_num_experts": [64, 32]}, numbers(32, 0, 0, 8, 128, 64), id="experts by modality"
        ),
        pytest.param(
            {"text_config": {**LLAMA31_8B, "num_experts": 16}}, numbers(32, 0, 0, 8, 128, 16), id="experts, nested"
        ),
        pytest.param({**LLAMA31_8B, "num_experts": None}, numbers(32, 0, 0, 8, 128), id="no experts"),
        pytest.param({**LLAMA31_8B, "num_experts": "many"}, numbers(32, 0, 0, 8, 128), id="experts in a word"),
        pytest.param({}, None, id="no config"),
        pytest.param({"text_config": "x", "num_hidden_layers": []}, None, id="garbage"),
        pytest.param({**LLAMA31_8B, "num_attention_heads": 0}, None, id="no heads"),
        pytest.param({**LLAMA31_8B, "num_key_value_heads": [8, 4]}, None, id="heads that differ by layer"),
        pytest.param({**LLAMA31_8B, "hidden_size": "4096"}, None, id="a word for a number"),
        pytest.param({**GPT_OSS_20B, "sliding_window": None}, None, id="layers that slide over nothing"),
        pytest.param({**LLAMA31_8B, "kv_lora_rank": 512}, None, id="MLA"),
        pytest.param({**LLAMA31_8B, "mamba_d_state": 128}, None, id="Mamba"),
        pytest.param({**LLAMA31_8B, "linear_num_value_heads": 32}, None, id="linear attention"),
        pytest.param(
            {**LLAMA31_8B, "layer_types": ["linear_attention", "full_attention"]}, None, id="a hybrid, listed"
        ),
        pytest.param({**LLAMA31_8B, "hybrid_override_pattern": "M-M*"}, None, id="a hybrid, as a pattern"),
        pytest.param({**LLAMA31_8B, "is_encoder_decoder": True}, None, id="an encoder and a decoder"),
        pytest.param({"model_type": "llava", "text_config": {"model_type": "llama"}}, None, id="all of it left out"),
    ],
)
def test_the_numbers_of_a_config(config: dict[str, t.Any], told: dict[str, t.Any] | None) -> None:
    assert of_config(config, GIB) == told


def test_without_weights_nothing_is_estimated() -> None:
    assert of_config(LLAMA31_8B, 0) is None


KEYS = ["text_config", "layer_types", "num_hidden_layers", "sliding_window", "sliding_window_pattern", "head_dim"]
KEYS += [
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "model_type",
    "use_sliding_window",
    "kv_lora_rank",
    "qk_rope_head_dim",
    "index_topk",
    "linear_attn_config",
    "full_attn_layers",
    "full_attention_interval",
    "attn_layer_period",
    "attn_layer_offset",
    "attn_layer_indices",
    "attention_chunk_size",
    "no_rope_layers",
    "no_rope_layer_interval",
    "hybrid_override_pattern",
    "layers_block_type",
    "num_kv_shared_layers",
    "num_heads",
    "short_conv_kernel_size",
    "mamba_n_heads",
    "mamba_d_state",
    "mamba_n_groups",
    "mamba_d_conv",
    "mamba_expand",
    "architectures",
    "hybrid_layer_pattern",
    "swa_num_key_value_heads",
    "v_head_dim",
    "index_topk_freq",
    "index_topk_pattern",
    "index_skip_topk_offset",
    "compress_ratios",
]


@given(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.recursive(
            st.none()
            | st.integers(-2, 99)
            | st.sampled_from(
                ["gemma3_text", "qwen2", "sliding_attention", "mamba", "M*-", "llama4_text", "deepseek_v4"]
            ),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
        ),
    )
)
def test_no_config_raises_and_the_numbers_make_sense(config: dict[str, t.Any]) -> None:
    told = of_config(config, GIB)
    if told:
        assert told["layers_full"] >= 0 and told["layers_sliding"] >= 0 and told["head_dim"] > 0
        assert bool(told["layers_sliding"]) == bool(told["sliding_window"])


# --- as users write them ----------------------------------------------------------------------------------------------

NUMBERS = {"layers_full": 12, "layers_sliding": 12, "sliding_window": 128, "num_key_value_heads": 8, "head_dim": 64}


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ("x", "architecture must be a mapping with the keys layers_full, "),
        ({**NUMBERS, "heads": 1}, "Unknown key 'architecture.heads'. Valid keys: layers_full"),
        ({**NUMBERS, "head_dim": "many"}, "architecture.head_dim must be a whole number; got 'many'."),
        ({**NUMBERS, "head_dim": True}, "architecture.head_dim must be a whole number; got True."),
        ({**NUMBERS, "head_dim": 0}, "head_dim must be at least 1; got 0."),
        ({"layers_full": 12}, "architecture.layers_sliding is missing."),
        (
            {**NUMBERS, "sliding_window": 0},
            "architecture.sliding_window must be at least 1 with 12 sliding layers; got 0.",
        ),
        ({**NUMBERS, "experts": "some"}, "architecture.experts must be a whole number; got 'some'."),
        ({**NUMBERS, "weights_gib": "big"}, "architecture.weights_gib must be a number of GiB; got 'big'."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_in_the_architecture_is_told_with_its_address(mapping: t.Any, sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        Architecture.from_mapping(mapping)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("more", [{}, {"layers_full": None}], ids=["alone", "with a null"])
def test_the_size_of_the_weights_may_stand_alone(more: dict[str, t.Any]) -> None:
    known = Architecture.from_mapping({"weights_gib": "641", **more})
    assert (known.weights_gib, known.has_layers) == (641, False)


def test_the_files_of_any_model_have_a_size() -> None:
    assert of_weights({"n_routed_experts": 256}, 641 * GIB) == {"weights_gib": 641.0, "experts": 256}
    assert of_weights({}, 0) is None


def test_numbers_from_a_template_may_be_text() -> None:
    said = {**NUMBERS, "head_dim": "64", "weights_gib": "13.47", "experts": "32"}
    assert Architecture.from_mapping(said) == memory_rig.GPT_OSS_20B


# --- models that keep more, or less, than keys and values of one size ----------------------------------------------------


@pytest.mark.parametrize(
    ("config", "told"),
    [
        pytest.param(
            model_configs.DEEPSEEK_R1,
            {"layers_full": 61, "kv_lora_rank": 512, "qk_rope_head_dim": 64},
            id="MLA",
        ),
        pytest.param(model_configs.DEEPSEEK_V32, {"kv_lora_rank": 512, "index_head_dim": 128}, id="MLA with an index"),
        pytest.param(
            model_configs.QWEN3_NEXT_80B,
            {"layers_full": 12, "layers_state": 36, "num_key_value_heads": 2, "state_values": 32 * 128 * 128},
            id="Gated DeltaNet by an interval",
        ),
        pytest.param(
            model_configs.QWEN36_35B,
            {"layers_full": 10, "layers_state": 30, "state_conv_values": 3 * 8192, "state_value_bytes": 4},
            id="Gated DeltaNet, listed",
        ),
        pytest.param(
            model_configs.KIMI_LINEAR_48B,
            {"layers_full": 7, "layers_state": 20, "kv_lora_rank": 512, "state_value_bytes": 4},
            id="Kimi Delta Attention beside MLA",
        ),
        pytest.param(
            model_configs.NEMOTRON_NANO_9B,
            {"layers_full": 4, "layers_state": 27, "state_chunk": 128, "state_value_bytes": 4},
            id="Mamba 2 by a pattern",
        ),
        pytest.param(
            model_configs.GRANITE4_SMALL,
            {"layers_full": 4, "layers_state": 36, "head_dim": 128, "state_values": 128 * 64 * 128},
            id="Mamba 2, listed",
        ),
        pytest.param(
            model_configs.GEMMA4_31B,
            {"layers_full": 10, "layers_sliding": 50, "full_key_value_heads": 4, "full_head_dim": 512},
            id="full layers with heads of their own",
        ),
        pytest.param(
            model_configs.LLAMA4_SCOUT,
            {"layers_full": 12, "layers_sliding": 36, "sliding_window": 8192, "is_chunked": 1},
            id="chunks",
        ),
        pytest.param(
            {**model_configs.GEMMA4_31B["text_config"], "num_kv_shared_layers": 30},
            {"layers_full": 5, "layers_sliding": 25},
            id="layers that use what others keep",
        ),
        pytest.param(
            model_configs.GLM_52, {"layers_full": 78, "index_head_dim": 128, "layers_index": 21}, id="a shared index"
        ),
        pytest.param(model_configs.GLM_51, {"index_head_dim": 128, "layers_index": None}, id="an index in each layer"),
        pytest.param(
            model_configs.DEEPSEEK_V4_FLASH,
            {"layers_full": 0, "layers_sliding": 43, "layers_ratio_4": 21, "layers_ratio_128": 20, "experts": 256},
            id="one vector for several tokens",
        ),
        pytest.param(
            model_configs.MIMO_V2_FLASH,
            {"layers_full": 9, "layers_sliding": 39, "num_key_value_heads": 8, "full_key_value_heads": 4}
            | {"head_dim": 192, "value_head_dim": 128, "is_chunked": None},
            id="values of another size than keys",
        ),
        pytest.param(model_configs.GEMMA4_26B, {"layers_full": 5, "item_tokens": 2496}, id="videos computed at once"),
        pytest.param(model_configs.GEMMA4_31B, {"item_tokens": None}, id="videos computed in parts"),
        pytest.param(model_configs.BGE_M3, {"is_encoder": 1, "weights_gib": 1.0}, id="an encoder"),
        pytest.param(
            {**model_configs.BGE_M3, "architectures": ["BertForSequenceClassification"]},
            {"is_encoder": 1},
            id="a reranker",
        ),
    ],
)
def test_the_numbers_of_a_model_of_today(config: dict[str, t.Any], told: dict[str, t.Any]) -> None:
    found = of_config(config, GIB)
    assert found is not None
    assert {key: found.get(key) for key in told} == told
    assert Architecture.from_mapping(found).weights_gib == 1


@pytest.mark.parametrize(
    "name", ["LlamaForCausalLM", "NewModelForCausalLM", "BertLMHeadModel", "Qwen3Model", "NewtonModel"]
)
def test_what_generates_is_no_encoder(name: str) -> None:
    found = of_config({**LLAMA31_8B, "architectures": [name]}, GIB)
    assert found is not None and "is_encoder" not in found


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({**model_configs.DEEPSEEK_R1, "model_type": "minicpm3"}, id="MLA that vLLM does not keep as such"),
        pytest.param({**model_configs.DEEPSEEK_V32, "compress_ratios": [4, 128]}, id="compressed MLA"),
        pytest.param(
            {**LLAMA31_8B, "mamba_n_heads": 32, "mamba_d_state": 128, "mamba_d_conv": 4, "mamba_n_groups": 1},
            id="a state, and no layer that has it",
        ),
        pytest.param(
            {**LLAMA31_8B, "layer_types": ["conv", "full_attention"]}, id="convolutions of which nobody says the length"
        ),
        pytest.param(
            {**LLAMA31_8B, "attn_layer_period": 8, "mamba_d_state": 16}, id="a state of which nobody says the width"
        ),
        pytest.param({**LLAMA31_8B, "swa_num_key_value_heads": 8}, id="windows with heads of their own"),
        pytest.param({**model_configs.MIMO_V2_FLASH, "swa_v_head_dim": 96}, id="values of two sizes"),
        pytest.param(
            {**model_configs.DEEPSEEK_V4_FLASH, "compress_ratios": [4] * 42 + [16]}, id="one vector for 16 tokens"
        ),
        pytest.param({**model_configs.DEEPSEEK_V4_FLASH, "compress_ratios": [4]}, id="layers that nobody told"),
        pytest.param({**model_configs.DEEPSEEK_V4_FLASH, "model_type": "deepseek_v41"}, id="DeepSeek V4.1"),
    ],
)
def test_what_is_not_understood_is_judged_by_its_weights(config: dict[str, t.Any]) -> None:
    assert of_config(config, GIB) is None
    assert not Architecture.from_mapping({**config, "weights_gib": 9}).has_layers


def test_a_whole_config_json_may_be_given() -> None:
    known = Architecture.from_mapping({**model_configs.DEEPSEEK_R1, "weights_gib": 641})
    assert (known.layers_full, known.kv_lora_rank, known.weights_gib) == (61, 512, 641)


def test_a_config_json_that_says_nothing_needs_the_size_of_the_weights() -> None:
    unknown = {"model_type": "rwkv", "architectures": ["RwkvForCausalLM"]}
    assert not Architecture.from_mapping({**unknown, "weights_gib": 3}).has_layers
    with pytest.raises(VllmError, match="does not have the layers of its model; give weights_gib as well"):
        Architecture.from_mapping(unknown)


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        (
            {**NUMBERS, "layers_state": 2},
            "architecture.state_values must be at least 1 with 2 layers that keep a state",
        ),
        ({**NUMBERS, "kv_lora_rank": "x"}, "architecture.kv_lora_rank must be a whole number; got 'x'."),
    ],
)
def test_a_mistake_in_the_rarer_numbers(mapping: dict[str, t.Any], sentence: str) -> None:
    with pytest.raises(VllmError, match=sentence):
        Architecture.from_mapping(mapping)


def test_mla_needs_no_heads() -> None:
    latent = {"layers_full": 61, "layers_sliding": 0, "sliding_window": 0, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
    assert Architecture.from_mapping(latent).has_layers
