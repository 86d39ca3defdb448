# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What config.json says of the layers of models that keep more, or less, than keys and values of one size."""

from __future__ import annotations

import typing as t

Config = dict[str, t.Any]

DELTA_NET: Config = {
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
    "linear_num_key_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "num_attention_heads": 16,
    "hidden_size": 2048,
}
QWEN3_NEXT_80B: Config = {
    "architectures": ["Qwen3NextForCausalLM"],
    "model_type": "qwen3_next",
    "num_hidden_layers": 48,
    "full_attention_interval": 4,
    "linear_num_value_heads": 32,
    **DELTA_NET,
}
QWEN36_35B: Config = {
    "architectures": ["Qwen3_5MoeForConditionalGeneration"],
    "model_type": "qwen3_5_moe",
    "text_config": {
        "model_type": "qwen3_5_moe_text",
        "num_hidden_layers": 40,
        "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 10,
        "linear_num_value_heads": 32,
        "mamba_ssm_dtype": "float32",
        **DELTA_NET,
    },
}


def qwen35(layers: int, heads: int, state_heads: int) -> Config:
    """Qwen3.5 and 3.6 of a size, by what differs."""
    own = {"num_hidden_layers": layers, "num_key_value_heads": heads, "linear_num_value_heads": state_heads}
    listed = ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * (layers // 4)
    text = {**QWEN36_35B["text_config"], "model_type": "qwen3_5_text", "layer_types": listed, **own}
    return {"architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "text_config": text}


def uniform(layers: int, heads: int, kind: str = "qwen3") -> Config:
    """A model whose layers keep keys and values of one size, of 128 values a head."""
    numbers = {"num_hidden_layers": layers, "num_key_value_heads": heads, "num_attention_heads": 32, "head_dim": 128}
    return {"architectures": ["Qwen3ForCausalLM"], "model_type": kind, "hidden_size": 4096, **numbers}


KIMI_LINEAR_48B: Config = {
    "architectures": ["KimiLinearForCausalLM"],
    "model_type": "kimi_linear",
    "num_hidden_layers": 27,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 72,
    "hidden_size": 2304,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "linear_attn_config": {
        "full_attn_layers": [4, 8, 12, 16, 20, 24, 27],
        "head_dim": 128,
        "num_heads": 32,
        "short_conv_kernel_size": 4,
    },
}
DEEPSEEK_R1: Config = {
    "architectures": ["DeepseekV3ForCausalLM"],
    "model_type": "deepseek_v3",
    "num_hidden_layers": 61,
    "num_attention_heads": 128,
    "num_key_value_heads": 128,
    "hidden_size": 7168,
    "kv_lora_rank": 512,
    "qk_nope_head_dim": 128,
    "qk_rope_head_dim": 64,
    "v_head_dim": 128,
}
DEEPSEEK_V32: Config = {
    **DEEPSEEK_R1,
    "architectures": ["DeepseekV32ForCausalLM"],
    "model_type": "deepseek_v32",
    "index_head_dim": 128,
    "index_n_heads": 64,
    "index_topk": 2048,
}
GLM_51: Config = {
    **DEEPSEEK_V32,
    "architectures": ["GlmMoeDsaForCausalLM"],
    "model_type": "glm_moe_dsa",
    "num_hidden_layers": 78,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "hidden_size": 6144,
    "qk_nope_head_dim": 192,
    "v_head_dim": 256,
    "index_n_heads": 32,
}
# One index for four layers, but for the first two.
GLM_52: Config = {**GLM_51, "index_topk_freq": 4, "index_skip_topk_offset": 2}
DEEPSEEK_V4_FLASH: Config = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "model_type": "deepseek_v4",
    "num_hidden_layers": 43,
    # And that of what drafts.
    "compress_ratios": [0, 0] + [4, 128] * 20 + [4, 0],
    "num_attention_heads": 64,
    "num_key_value_heads": 1,
    "head_dim": 512,
    "hidden_size": 4096,
    "qk_rope_head_dim": 64,
    "o_lora_rank": 1024,
    "sliding_window": 128,
    "index_head_dim": 128,
    "index_topk": 512,
    "n_routed_experts": 256,
}
# Keys of another size than values, and windows with heads of their own.
MIMO_V2_FLASH: Config = {
    "architectures": ["MiMoV2FlashForCausalLM"],
    "model_type": "mimo_v2_flash",
    "num_hidden_layers": 48,
    "hybrid_layer_pattern": [0] + [1, 1, 1, 1, 0] + [1, 1, 1, 1, 1, 0] * 7,
    "num_attention_heads": 64,
    "num_key_value_heads": 4,
    "head_dim": 192,
    "v_head_dim": 128,
    "swa_num_attention_heads": 64,
    "swa_num_key_value_heads": 8,
    "swa_head_dim": 192,
    "swa_v_head_dim": 128,
    "sliding_window": 128,
    "sliding_window_size": 128,
    "attention_chunk_size": 128,
    "hidden_size": 4096,
    "n_routed_experts": 256,
}
NEMOTRON_NANO_9B: Config = {
    "architectures": ["NemotronHForCausalLM"],
    "model_type": "nemotron_h",
    "hybrid_override_pattern": "M-M-M-MM-M-M-M*-M-M-M*-M-M-M-M*-M-M-M-M*-M-MM-M-M-M-M-M-",
    "num_hidden_layers": 56,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "hidden_size": 4480,
    "mamba_num_heads": 128,
    "mamba_head_dim": 80,
    "ssm_state_size": 128,
    "n_groups": 8,
    "conv_kernel": 4,
    "chunk_size": 128,
}
NEMOTRON3_30B: Config = {
    **NEMOTRON_NANO_9B,
    "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
    "num_hidden_layers": 52,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "hidden_size": 2688,
    "mamba_num_heads": 64,
    "mamba_head_dim": 64,
}
# 21 layers with a state and 4 that attend.
NEMOTRON3_4B: Config = {
    **NEMOTRON_NANO_9B,
    "hybrid_override_pattern": "MMMMM-*" * 4 + "M",
    "num_hidden_layers": 29,
    "hidden_size": 3136,
    "mamba_num_heads": 96,
}
GRANITE4_SMALL: Config = {
    "architectures": ["GraniteMoeHybridForCausalLM"],
    "model_type": "granitemoehybrid",
    "num_hidden_layers": 40,
    "layer_types": (["mamba"] * 5 + ["attention"] + ["mamba"] * 4) * 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "mamba_n_heads": 128,
    "mamba_d_head": 64,
    "mamba_d_state": 128,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_chunk_size": 256,
}
GRANITE4_1B: Config = {
    **GRANITE4_SMALL,
    "num_attention_heads": 12,
    "num_key_value_heads": 4,
    "hidden_size": 1536,
    "mamba_n_heads": 48,
}
# Attention and a state in each layer.
FALCON_H1_3B: Config = {
    "architectures": ["FalconH1ForCausalLM"],
    "model_type": "falcon_h1",
    "num_hidden_layers": 32,
    "num_attention_heads": 10,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "hidden_size": 2560,
    "mamba_n_heads": 32,
    "mamba_d_head": 128,
    "mamba_d_state": 256,
    "mamba_n_groups": 1,
    "mamba_d_conv": 4,
    "mamba_d_ssm": 4096,
    "mamba_chunk_size": 128,
    "attn_layer_indices": None,
}
# A state in each layer, and attention in nine.
ZAMBA2_27B: Config = {
    "architectures": ["Zamba2ForCausalLM"],
    "model_type": "zamba2",
    "num_hidden_layers": 54,
    "layers_block_type": ["mamba", "mamba", "mamba", "mamba", "mamba", "hybrid"] * 9,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "attention_head_dim": 160,
    "hidden_size": 2560,
    "n_mamba_heads": 80,
    "mamba_headdim": 64,
    "mamba_d_state": 64,
    "mamba_ngroups": 1,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "chunk_size": 256,
}
# Mamba 1, with attention in every eighth layer.
JAMBA_MINI: Config = {
    "architectures": ["JambaForCausalLM"],
    "model_type": "jamba",
    "num_hidden_layers": 32,
    "attn_layer_period": 8,
    "attn_layer_offset": 4,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "mamba_d_state": 16,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_dt_rank": 256,
}
LFM2_12B: Config = {
    "architectures": ["Lfm2ForCausalLM"],
    "model_type": "lfm2",
    "num_hidden_layers": 16,
    "full_attn_idxs": [2, 5, 8, 10, 12, 14],
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 2048,
    "conv_L_cache": 3,
}
GEMMA3_1B: Config = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "num_hidden_layers": 26,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "hidden_size": 1152,
    "sliding_window": 512,
}
GEMMA4_31B: Config = {
    "architectures": ["Gemma4ForConditionalGeneration"],
    "model_type": "gemma4",
    "text_config": {
        "model_type": "gemma4_text",
        "num_hidden_layers": 60,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 10,
        "sliding_window": 1024,
        "num_attention_heads": 32,
        "num_key_value_heads": 16,
        "head_dim": 256,
        "num_global_key_value_heads": 4,
        "global_head_dim": 512,
        "hidden_size": 5376,
    },
}
GEMMA4_26B: Config = {
    **GEMMA4_31B,
    "text_config": {
        **GEMMA4_31B["text_config"],
        "num_hidden_layers": 30,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 5,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "num_global_key_value_heads": 2,
        "hidden_size": 2816,
        "use_bidirectional_attention": "vision",
    },
}
# Layers that use what others keep, and heads of two sizes but one number.
GEMMA4_E4B: Config = {
    "architectures": ["Gemma4ForConditionalGeneration"],
    "model_type": "gemma4",
    "text_config": {
        "model_type": "gemma4_text",
        "num_hidden_layers": 42,
        "layer_types": (["sliding_attention"] * 5 + ["full_attention"]) * 7,
        "num_kv_shared_layers": 18,
        "sliding_window": 512,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "num_global_key_value_heads": None,
        "head_dim": 256,
        "global_head_dim": 512,
        "hidden_size": 2560,
    },
}
LLAMA4_SCOUT: Config = {
    "architectures": ["Llama4ForConditionalGeneration"],
    "model_type": "llama4",
    "text_config": {
        "model_type": "llama4_text",
        "num_hidden_layers": 48,
        "attention_chunk_size": 8192,
        "no_rope_layers": [1, 1, 1, 0] * 12,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "hidden_size": 5120,
    },
}
GPT_OSS_120B: Config = {
    "architectures": ["GptOssForCausalLM"],
    "model_type": "gpt_oss",
    "num_hidden_layers": 36,
    "layer_types": ["sliding_attention", "full_attention"] * 18,
    "sliding_window": 128,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "hidden_size": 2880,
}
BGE_M3: Config = {
    "architectures": ["XLMRobertaModel"],
    "model_type": "xlm-roberta",
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "hidden_size": 1024,
}
