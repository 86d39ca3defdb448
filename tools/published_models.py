# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Write playbooks/models/published.json: what public models say of themselves, with where that stands and its date.

    python tools/published_models.py --configs DIR --configs-source TEXT --recipes DIR --date DAY

C(--configs) holds files ORG--NAME_config.json, copies of the config.json of models; C(--recipes) the folder models of
vllm-project/recipes, whose parameter counts the sizes are compared with. Of a config.json only numbers and names are
kept. The size of the weights is counted from the shapes that it describes: a model whose count differs from what is
published by more than 6 % is left out, and so is one of a form that is not counted here.

Needs PyYAML: run it with the Python of the development environment. Afterwards run tools/docs.py.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "plugins"))

from module_utils._vllm.architectures import ARCHITECTURES  # noqa: E402


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


TARGET = ROOT / "playbooks" / "models" / "published.json"
# The models that are listed, where a configuration of them is found; what they are called there, where that differs.
MODELS = _words("""
    Qwen/Qwen3-0.6B Qwen/Qwen3-1.7B Qwen/Qwen3-8B Qwen/Qwen3-32B Qwen/Qwen3-32B-FP8 Qwen/Qwen3-30B-A3B
    Qwen/Qwen3-30B-A3B-FP8 Qwen/Qwen3-235B-A22B Qwen/Qwen3-235B-A22B-FP8 Qwen/Qwen3-Coder-480B-A35B-Instruct
    Qwen/Qwen3-VL-2B-Instruct Qwen/Qwen3-VL-4B-Instruct Qwen/Qwen3-VL-8B-Instruct Qwen/Qwen3-VL-32B-Instruct
    Qwen/Qwen3-VL-30B-A3B-Instruct Qwen/Qwen3-VL-235B-A22B-Instruct Qwen/Qwen3.5-27B Qwen/Qwen3.5-35B-A3B
    Qwen/Qwen3.5-122B-A10B Qwen/Qwen3.5-397B-A17B meta-llama/Meta-Llama-3.1-8B meta-llama/Meta-Llama-3.1-70B
    meta-llama/Meta-Llama-3.1-405B meta-llama/Llama-4-Scout-17B-16E-Instruct
    meta-llama/Llama-4-Maverick-17B-128E-Instruct mistralai/Mixtral-8x7B-v0.1 mistralai/Mixtral-8x22B-v0.1
    openai/gpt-oss-20b openai/gpt-oss-120b deepseek-ai/DeepSeek-V3 deepseek-ai/DeepSeek-R1 deepseek-ai/DeepSeek-V3.2
    zai-org/GLM-5 zai-org/GLM-5-FP8 zai-org/GLM-5.1 zai-org/GLM-5.1-FP8 MiniMaxAI/MiniMax-M2.5
    MiniMaxAI/MiniMax-M2.7 moonshotai/Kimi-K2-Instruct nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16
""")
# Models of the shapes of another one.
SAME_SHAPES = {
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.3-70B-Instruct": "meta-llama/Meta-Llama-3.1-70B",
}
NOISE = re.compile(
    r"_\w*|rope\w*|\w*token\w*|\w*(?:act|eps|dropout|scal\w+|theta|factor|bias|coef|version|std|range|init\w*|jitter\w*)"
    r"|pretraining_tp|use_cache|output_\w+|vision_config|audio_config|ep_size|topk_\w+|scoring_func|norm_topk_prob"
    r"|initializer_\w+|layernorm_\w+|time_step_\w+|residual_\w+|n_group|num_logits_to_keep|rescale_\w+|indexer_\w+"
    r"|mlp_layer_types|index_\w*(?:pattern|offset|freq|iteration)|mlp_only_layers|deepstack\w*"
)
QUANTIZATION = ("quant_method", "weight_block_size", "group_size", "bits")
# Published counts of parameters in billions, of models that no recipe is about.
PARAMETERS = {
    "Qwen/Qwen3-0.6B": 0.6,
    "Qwen/Qwen3-235B-A22B": 235,
    "Qwen/Qwen3-VL-2B-Instruct": 2.1,
    "Qwen/Qwen3-VL-4B-Instruct": 4.4,
    "Qwen/Qwen3-VL-8B-Instruct": 8.8,
    "Qwen/Qwen3-VL-32B-Instruct": 33,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": 31,
    "meta-llama/Meta-Llama-3.1-8B": 8.03,
    "meta-llama/Meta-Llama-3.1-70B": 70.6,
    "meta-llama/Meta-Llama-3.1-405B": 406,
    "meta-llama/Llama-4-Maverick-17B-128E-Instruct": 402,
    "mistralai/Mixtral-8x7B-v0.1": 46.7,
    "mistralai/Mixtral-8x22B-v0.1": 141,
    "openai/gpt-oss-20b": 20.9,
    "openai/gpt-oss-120b": 117,
}
TOLERANCE = 0.06
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
EMBEDS = ("modules.json",)
# Its embedding model and its reranker are one network with two heads.
BGE_M3: dict[str, t.Any] = {
    "model_type": "xlm-roberta",
    "torch_dtype": "float32",
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "max_position_embeddings": 8194,
    "vocab_size": 250002,
    "pad_token_id": 1,
    "tie_word_embeddings": True,
}
# Shapes that are written here by hand, from the models' own pages: config, published parameters in billions, files.
BY_HAND: dict[str, tuple[dict[str, t.Any], float, tuple[str, ...]]] = {
    "google/gemma-3-27b-it": (
        {
            "architectures": ["Gemma3ForConditionalGeneration"],
            "model_type": "gemma3",
            "torch_dtype": "bfloat16",
            "text_config": {
                "model_type": "gemma3_text",
                "num_hidden_layers": 62,
                "num_attention_heads": 32,
                "num_key_value_heads": 16,
                "head_dim": 128,
                "hidden_size": 5376,
                "intermediate_size": 21504,
                "sliding_window": 1024,
                "max_position_embeddings": 131072,
                "vocab_size": 262208,
                "tie_word_embeddings": True,
            },
            "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27},
        },
        27.4,
        (),
    ),
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": (
        {
            "architectures": ["Mistral3ForConditionalGeneration"],
            "model_type": "mistral3",
            "torch_dtype": "bfloat16",
            "text_config": {
                "model_type": "mistral",
                "num_hidden_layers": 40,
                "num_attention_heads": 32,
                "num_key_value_heads": 8,
                "head_dim": 128,
                "hidden_size": 5120,
                "intermediate_size": 32768,
                "max_position_embeddings": 131072,
                "vocab_size": 131072,
            },
            "vision_config": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24},
        },
        24.0,
        ("params.json", "tekken.json"),
    ),
    "ibm-granite/granite-3.1-2b-instruct": (
        {
            "architectures": ["GraniteForCausalLM"],
            "model_type": "granite",
            "torch_dtype": "bfloat16",
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "max_position_embeddings": 131072,
            "vocab_size": 49152,
            "tie_word_embeddings": True,
        },
        2.53,
        (),
    ),
    "ibm-granite/granite-3.1-8b-instruct": (
        {
            "architectures": ["GraniteForCausalLM"],
            "model_type": "granite",
            "torch_dtype": "bfloat16",
            "num_hidden_layers": 40,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "hidden_size": 4096,
            "intermediate_size": 12800,
            "max_position_embeddings": 131072,
            "vocab_size": 49152,
            "tie_word_embeddings": True,
        },
        8.17,
        (),
    ),
    "Qwen/Qwen3-Embedding-0.6B": (
        {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            "torch_dtype": "bfloat16",
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "hidden_size": 1024,
            "intermediate_size": 3072,
            "max_position_embeddings": 32768,
            "vocab_size": 151669,
            "tie_word_embeddings": True,
        },
        0.6,
        EMBEDS,
    ),
    "BAAI/bge-m3": (
        {"architectures": ["XLMRobertaModel"], **BGE_M3},
        0.57,
        EMBEDS,
    ),
    "BAAI/bge-reranker-v2-m3": (
        {"architectures": ["XLMRobertaForSequenceClassification"], **BGE_M3},
        0.57,
        (),
    ),
}
# What a visit to GPUs, or a public log of a run, has confirmed the memory of.
CHECKED = _words("""
    openai/gpt-oss-20b openai/gpt-oss-120b google/gemma-3-27b-it Qwen/Qwen3-8B Qwen/Qwen3-0.6B MiniMaxAI/MiniMax-M2.5
    mistralai/Mistral-Small-3.2-24B-Instruct-2506
""")

Text = t.Mapping[str, t.Any]


class Count(t.NamedTuple):
    """Values of weights: of linear layers, which are quantized where a model is, of experts, and all others."""

    linear: int = 0
    other: int = 0
    experts: int = 0

    @property
    def parameters(self) -> int:
        return self.linear + self.other + self.experts


# --- counting ---------------------------------------------------------------------------------------------------------


def count(config: Text) -> Count:
    """The values that vLLM loads, from the shapes that a config.json describes; without what only predicts further
    tokens."""
    text = config.get("text_config") or config
    hidden, vocabulary = text["hidden_size"], text["vocab_size"]
    is_tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings", False))
    kinds = _layer_kinds(text)
    linear = sum(_mixer(text, kind) for kind in kinds)
    dense = experts = 0
    for number, kind in enumerate(kinds):
        layer_dense, layer_experts = _feed_forward(text, number, kind)
        dense, experts = dense + layer_dense, experts + layer_experts
    return Count(linear + dense, vocabulary * hidden * (1 if is_tied else 2) + _vision(config), experts)


def _layer_kinds(text: Text) -> list[str]:
    pattern = text.get("hybrid_override_pattern")
    if pattern:
        return [{"M": "mamba", "*": "attention", "E": "experts", "-": "dense"}[letter] for letter in pattern]
    listed = text.get("layer_types")
    return [str(kind) for kind in listed] if listed else ["attention"] * text["num_hidden_layers"]


def _mixer(text: Text, kind: str) -> int:
    hidden, heads = text["hidden_size"], text["num_attention_heads"]
    if kind == "linear_attention":
        keys = text["linear_num_key_heads"] * text["linear_key_head_dim"]
        values = text["linear_num_value_heads"] * text["linear_value_head_dim"]
        gates = 2 * text["linear_num_value_heads"]
        return hidden * (2 * keys + 2 * values + gates) + values * hidden + 4 * (2 * keys + values)
    if kind == "mamba":
        inner = text["mamba_num_heads"] * text["mamba_head_dim"]
        groups = 2 * text["n_groups"] * text["ssm_state_size"]
        return hidden * (2 * inner + groups + text["mamba_num_heads"]) + inner * hidden + 4 * (inner + groups)
    if kind in ("experts", "dense"):
        return 0
    if text.get("kv_lora_rank"):
        return _latent(text)
    dim = text.get("head_dim") or hidden // heads
    gate = 2 if text.get("attn_output_gate") else 1
    return hidden * dim * (heads * (gate + 1) + 2 * (text.get("num_key_value_heads") or heads))


def _latent(text: Text) -> int:
    hidden, heads, query, rank = (
        text[k] for k in ("hidden_size", "num_attention_heads", "q_lora_rank", "kv_lora_rank")
    )
    nope, rope, value = (text[k] for k in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
    attention = hidden * query + query * heads * (nope + rope) + hidden * (rank + rope)
    attention += rank * heads * (nope + value) + heads * value * hidden
    if text.get("index_head_dim"):
        attention += (query * text["index_n_heads"] + hidden) * text["index_head_dim"] + hidden * text["index_n_heads"]
    return int(attention)


def _feed_forward(text: Text, number: int, kind: str) -> tuple[int, int]:
    """The values of a dense layer with those that all tokens pass, and those of the experts."""
    hidden, size = text["hidden_size"], text.get("intermediate_size", 0)
    matrices = 2 if text.get("model_type") in ("nemotron_h", "xlm-roberta") else 3
    experts = next((text[key] for key in ("num_experts", "n_routed_experts", "num_local_experts") if text.get(key)), 0)
    if kind == "mamba" or (text.get("hybrid_override_pattern") and kind == "attention"):
        return 0, 0
    every, first = text.get("interleave_moe_layer_step") or 1, text.get("first_k_dense_replace") or 0
    if not experts or number < first or (number + 1) % every or kind == "dense":
        dense = (
            text.get("intermediate_size_mlp", size) if every > 1 or text.get("model_type") == "llama4_text" else size
        )
        return matrices * hidden * dense, 0
    each = text.get("moe_intermediate_size") or size
    shared = (text.get("n_shared_experts") or 0) * each
    shared = text.get("shared_expert_intermediate_size") or text.get("moe_shared_expert_intermediate_size") or shared
    shared = size if text.get("model_type") == "llama4_text" else shared
    return hidden * experts + matrices * hidden * shared, experts * matrices * hidden * each


def _vision(config: Text) -> int:
    tower = config.get("vision_config") or {}
    hidden, size = tower.get("hidden_size"), tower.get("intermediate_size")
    depth = tower.get("depth") or tower.get("num_hidden_layers")
    if not (hidden and size and depth):
        return 0
    merge = (tower.get("spatial_merge_size") or 1) ** 2 * hidden
    mergers = 1 + len(tower.get("deepstack_visual_indexes") or ())
    out = tower.get("out_hidden_size") or hidden
    return int(depth * (4 * hidden * hidden + 2 * hidden * size) + mergers * (merge * merge + merge * out))


def weights_bytes(config: Text) -> int:
    """The bytes of the weights as the checkpoint stores them."""
    found, quantization = count(config), config.get("quantization_config") or {}
    plain = 4 if config.get("torch_dtype") == "float32" else 2
    method = quantization.get("quant_method")
    if method == "mxfp4":
        return int(found.experts * (0.5 + 1 / 32) + (found.linear + found.other) * plain)
    if method == "fp8":
        return int((found.linear + found.experts) * (1 + 4 / 128**2) + found.other * plain)
    if method:
        raise KeyError(f"no count for {method}")
    return found.parameters * plain


# --- the list ---------------------------------------------------------------------------------------------------------


def kept(config: Text) -> dict[str, t.Any]:
    """What of a config.json decides about settings."""
    found: dict[str, t.Any] = {}
    for key, value in config.items():
        if key == "quantization_config" and isinstance(value, dict):
            found[key] = {name: value[name] for name in QUANTIZATION if name in value}
        elif key == "auto_map" and isinstance(value, dict):
            found[key] = {name: "" for name in value if name == "AutoConfig"}
        elif key == "text_config" and isinstance(value, dict):
            found[key] = kept(value)
        elif value is not None and not isinstance(value, dict) and (key == "pad_token_id" or not NOISE.fullmatch(key)):
            found[key] = value
    return found


def recipes(folder: Path) -> dict[str, dict[str, t.Any]]:
    """What recipes say, by the model they are about."""
    found = {}
    for path in sorted(folder.glob("*/*.yaml")):
        read = yaml.safe_load(path.read_text("utf-8"))
        found[read["model"]["model_id"]] = read
    return found


def _published_count(name: str, recipe: Text | None) -> float | None:
    said = str(recipe["model"].get("parameter_count", "")) if recipe else ""
    number = re.fullmatch(r"([\d.]+)([BMT])", said)
    if name in PARAMETERS or not number:
        return PARAMETERS.get(name)
    return float(number[1]) * {"M": 0.001, "B": 1, "T": 1000}[number[2]]


def _variant(recipe: Text | None) -> str:
    """The checkpoint in 8 bits that a recipe names."""
    for variant in (recipe or {}).get("variants", {}).values():
        if variant.get("precision") == "fp8" and variant.get("model_id"):
            return str(variant["model_id"])
    return ""


def listed(arguments: argparse.Namespace) -> dict[str, dict[str, t.Any]]:
    told = recipes(arguments.recipes)
    raw: dict[str, tuple[dict[str, t.Any], float | None, tuple[str, ...], str]] = {}
    for name in [*MODELS, *SAME_SHAPES]:
        shapes = SAME_SHAPES.get(name, name)
        path = arguments.configs / f"{shapes.replace('/', '--')}_config.json"
        published = _published_count(shapes, told.get(name)) or _published_count(
            name.removesuffix("-FP8"), told.get(name)
        )
        raw[name] = (json.loads(path.read_text("utf-8")), published, (), arguments.configs_source)
    for name, (config, parameters, files) in BY_HAND.items():
        raw[name] = (config, parameters, files, "the model's page")
    found = {}
    for name, (config, published, files, source) in sorted(raw.items()):
        counted = count(config).parameters / 1e9
        off = abs(counted / published - 1) if published else 0
        if off > TOLERANCE or config["architectures"][0] not in ARCHITECTURES:
            print(f"{name}: {counted:.2f} billion counted, {published} published. Left out.", file=sys.stderr)
            continue
        fp8 = _variant(told.get(name))
        found[name] = {
            "config": kept(config),
            "parameters": count(config).parameters,
            "weights_bytes": weights_bytes(config),
            **({"files": list(files)} if files else {}),
            **({"fp8": fp8} if fp8 and not config.get("quantization_config") else {}),
            **({"recipe": told[name]["model"]["min_vllm_version"]} if name in told else {}),
            **({"checked": True} if name in CHECKED else {}),
            "source": source,
            "date": arguments.date,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", type=Path, required=True)
    parser.add_argument("--configs-source", required=True, help="where they are from: repository and commit")
    parser.add_argument("--recipes", type=Path, required=True)
    parser.add_argument("--date", required=True, help="the day of what was read, as 2026-08-21")
    rows = listed(parser.parse_args())
    lines = ",\n".join(f" {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    TARGET.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    print(f"{len(rows)} models.", file=sys.stderr)


if __name__ == "__main__":
    main()
