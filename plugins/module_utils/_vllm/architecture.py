# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The numbers of a model that decide about memory, from its config.json, the catalogue or the user. Pure."""

from __future__ import annotations

import math
import re
import typing as t
from dataclasses import dataclass, fields

from .._errors import VllmError

GIB = 1 << 30


@dataclass(frozen=True)
class Architecture:
    """The numbers of a model that decide how much memory it takes. Without weights_gib only tokens can be counted, with
    nothing else only the weights are judged. C(experts) is how many a token is routed among in each layer, 0 for none;
    None where nobody said. What comes after it is 0 for layers that keep keys and values of one size, and for which
    nobody wrote it."""

    layers_full: int
    layers_sliding: int
    sliding_window: int
    num_key_value_heads: int
    head_dim: int
    weights_gib: float | None = None
    experts: int | None = None
    # Layers that see a chunk instead of a window (Llama 4): sliding_window is the size of the chunk.
    is_chunked: int = 0
    # Layers that see everything, where they differ from the others in their heads (Gemma 4).
    full_key_value_heads: int = 0
    full_head_dim: int = 0
    # One latent vector for all heads instead of keys and values (MLA), and the key of the index that picks tokens.
    kv_lora_rank: int = 0
    qk_rope_head_dim: int = 0
    index_head_dim: int = 0
    # The layers that have an index of their own, where others share it (GLM-5.2).
    layers_index: int = 0
    # The size of a value in a head, where that of a key differs (MiMo-V2).
    value_head_dim: int = 0
    # Layers that keep one vector more for each 4 and for each 128 tokens, all beside a window (DeepSeek V4).
    layers_ratio_4: int = 0
    layers_ratio_128: int = 0
    # The tokens of the largest picture or video, where all of it has to be computed at once (Gemma 4).
    item_tokens: int = 0
    # Layers that keep a state instead of tokens (Mamba, linear attention): the values of its convolution and the others
    # in one layer, the bytes of a value of the rest (as the model's unless said), and the chunk after which it is kept.
    layers_state: int = 0
    state_conv_values: int = 0
    state_values: int = 0
    state_value_bytes: int = 0
    state_chunk: int = 0
    # An encoder: it reads a text at once and keeps nothing of it.
    is_encoder: int = 0

    @classmethod
    def from_mapping(cls, mapping: t.Any) -> Architecture:
        """The numbers that a user or the catalogue gives, or the whole config.json of the model, with weights_gib
        beside it or without.

        Raises:
            VllmError: with the address of the number at fault.
        """
        if isinstance(mapping, t.Mapping) and {"architectures", "model_type"} & {*mapping}:
            mapping = _of_whole_config(mapping)
        if not isinstance(mapping, t.Mapping):
            raise VllmError(f"architecture must be a mapping with the keys {', '.join(KEYS)}; got {mapping!r}.")
        unknown = sorted(set(map(str, mapping)) - {f.name for f in fields(cls)})
        if unknown:
            raise VllmError(f"Unknown key 'architecture.{unknown[0]}'. Valid keys: {', '.join(KEYS)}.")
        weights = _weights(mapping.get("weights_gib"))
        experts = None if mapping.get("experts") is None else _whole(mapping, "experts")
        said = {key for key in KEYS if mapping.get(key) is not None and key not in APART}
        if (weights is not None and not said) or said == {"is_encoder"}:
            return cls(0, 0, 0, 0, 0, weights, experts, is_encoder=_whole(mapping, "is_encoder", 0))
        optional = {f.name for f in fields(cls) if f.default == 0}
        keeps_latent = bool(mapping.get("kv_lora_rank"))
        optional |= {"num_key_value_heads", "head_dim"} if keeps_latent else set()
        counts = {
            f.name: _whole(mapping, f.name, 0 if f.name in optional else None)
            for f in fields(cls)
            if f.name not in APART
        }
        made = cls(**counts, weights_gib=weights, experts=experts)
        has_heads = keeps_latent or (made.num_key_value_heads and made.head_dim)
        attends = made.layers_full + made.layers_sliding
        if not attends + made.layers_state or (attends and not has_heads):
            raise VllmError(
                "architecture: the number of layers, num_key_value_heads and head_dim must be at least 1; got 0."
            )
        for key, value, layers, kind in (
            ("state_values", made.state_conv_values + made.state_values, made.layers_state, "layers that keep a state"),
            ("sliding_window", made.sliding_window, made.layers_sliding, "sliding layers"),
        ):
            if layers and not value:
                raise VllmError(f"architecture.{key} must be at least 1 with {layers} {kind}; got 0.")
        return made

    @property
    def layers(self) -> int:
        """All layers that keep something."""
        return self.layers_full + self.layers_sliding + self.layers_state

    @property
    def has_layers(self) -> bool:
        """Whether more is known than the size of the weights."""
        return self.layers > 0

    @property
    def is_compressed(self) -> bool:
        """Whether layers keep one vector for several tokens."""
        return self.layers_ratio_4 + self.layers_ratio_128 > 0

    @property
    def is_mixture(self) -> bool | None:
        """Whether it is a mixture of experts; None where nobody knows."""
        return None if self.experts is None else self.experts > 1


KEYS = tuple(f.name for f in fields(Architecture))
# Those that every model has whose layers keep keys and values of one size.
COMMON_KEYS = KEYS[:6]
# What is known whatever its layers keep.
APART = ("weights_gib", "experts")


def _of_whole_config(config: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    weights = config.get("weights_gib")
    numbers = of_config({key: value for key, value in config.items() if key != "weights_gib"}, GIB)
    if numbers is None and weights is None:
        raise VllmError(
            "architecture: this config.json does not have the layers of its model; give weights_gib as well."
        )
    return {**(numbers or {"experts": _experts(config)}), "weights_gib": weights}


def _whole(mapping: t.Mapping[str, t.Any], key: str, default: int | None = None) -> int:
    value = mapping.get(key)
    if value is None and default is not None:
        return default
    if value is None:
        raise VllmError(f"architecture.{key} is missing.")
    text = str(value)
    if isinstance(value, bool) or not text.isdigit():
        raise VllmError(f"architecture.{key} must be a whole number; got {value!r}.")
    return int(text)


def _weights(value: t.Any) -> float | None:
    if value is None:
        return None
    number = finite(value)
    if number is None or number <= 0:
        raise VllmError(f"architecture.weights_gib must be a number of GiB; got {value!r}.")
    return number


def finite(value: t.Any) -> float | None:
    """A number that can be reckoned with, or None for anything else."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None


# ---------------------------------------------------------------------------------------------------------------------
# From config.json
# ---------------------------------------------------------------------------------------------------------------------

# What says that layers keep something that is described nowhere here.
OTHER_STATE = re.compile(
    r"cross_attention_\w+|is_encoder_decoder|block_configs|multi_query|attn_type_list|"
    r"compress_ratios?|indexer_compress_ratio|o_lora_rank"
)
# What says that some layers keep a state, or see a chunk: where none is found that does, the model is not understood.
STATE_KEYS = re.compile(
    r"mamba_\w+|ssm_\w+|state_size|conv_L_cache|linear_(?:num_|key_|value_|conv_|attn_)\w+|hybrid_override_pattern|attn_layer_\w+"
)
# Where a config.json says how many experts there are, in the words of one family of models or another.
EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
# What a config.json leaves out because it is the default of the model's type.
GEMMA3 = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window_pattern": 6}
TYPE_DEFAULTS: t.Mapping[str, t.Mapping[str, t.Any]] = {
    "gemma2": {"head_dim": 256, "sliding_window_pattern": 2},
    "gemma3_text": {"sliding_window": 4096, **GEMMA3},
    "cohere2": {"sliding_window_pattern": 4},
    **dict.fromkeys(("qwen2", "qwen2_moe", "qwen3", "qwen3_moe"), {"use_sliding_window": False}),
    **dict.fromkeys(
        ("qwen3_next", "qwen3_5_text", "qwen3_5_moe_text"), {"use_sliding_window": False, "full_attention_interval": 4}
    ),
    "llama4_text": {"attention_chunk_size": 8192, "no_rope_layer_interval": 4},
    "nemotron_h": {"mamba_ssm_cache_dtype": "float32"},
}
# Encoders, as vLLM calls them: what reads a text at once, to embed, classify or score it.
ENCODERS = re.compile(
    r"(?:Bert|ModernBert|DistilBert|NomicBert|Roberta|XLMRoberta|JinaRoberta|Electra|DebertaV2|MPNet|Gte|GteNew|New|CLIP|Siglip|"
    r"BgeM3Embedding|BertSpladeSparseEmbedding|ColBERTModernBert|ColBERTJinaRoberta)"
    r"(?:Model|For(?:MaskedLM|SequenceClassification|TokenClassification))|HF_ColBERT"
)
LAYER_KINDS = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    **dict.fromkeys(("linear_attention", "mamba", "mamba2", "conv"), "state"),
    "hybrid": "full state",
}
# Types whose latent vector vLLM keeps as it is; for others (MiniCPM3) it keeps keys and values all the same.
LATENT_TYPES = (
    *("axk1", "deepseek_v2", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "kimi_k2", "kimi_linear"),
    "pangu_ultra_moe",
)
DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
# What a config.json of DeepSeek V4 may leave out.
V4_SIZES = {"head_dim": 512, "index_head_dim": 128}

Text = t.Mapping[str, t.Any]


def of_files(config: Text, weights_bytes: int) -> dict[str, t.Any] | None:
    """What the files of a model say: all that the estimate needs, else what is known of any; None without weights."""
    return of_config(config, weights_bytes) or of_weights(config, weights_bytes)


def of_config(config: Text, weights_bytes: int) -> dict[str, t.Any] | None:
    """What the estimate of the KV cache needs, from a config.json of transformers.

    None when it cannot be told, and for models whose layers keep something that no arithmetic here describes.
    """
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) and nested else config
    weights = of_weights(config, weights_bytes)
    if weights is None:
        return None
    named = config.get("architectures")
    if any(ENCODERS.fullmatch(str(name)) for name in (named if isinstance(named, list) else ())):
        return {**weights, "is_encoder": 1}
    if text.get("model_type") == "deepseek_v4":
        numbers = _compressed(text)
        return numbers and {**numbers, **weights}
    if any(_is_other_state(str(key), value) for key, value in (*config.items(), *text.items())):
        return None
    given = {key: value for key, value in text.items() if value is not None or key == "sliding_window"}
    text = _in_common_words({**TYPE_DEFAULTS.get(str(text.get("model_type")), {}), **given})
    kinds = _kinds(text)
    if kinds is None:
        return None
    has_states = any(STATE_KEYS.fullmatch(str(key)) and value for key, value in given.items())
    if (has_states and "state" not in kinds) or (text.get("attention_chunk_size") and "chunked" not in kinds):
        return None
    parts = [_windows(text, kinds), _attention(text, kinds), _state(text, kinds)]
    if any(part is None for part in parts):
        return None
    numbers = {key: value for part in parts for key, value in (part or {}).items()}
    # Up to 32 frames of 78 tokens, which see each other.
    sees_all = text.get("model_type") == "gemma4_text" and text.get("use_bidirectional_attention") == "vision"
    return {**numbers, **({"item_tokens": 32 * 78} if sees_all else {}), **weights}


def _compressed(text: Text) -> dict[str, int] | None:
    """DeepSeek V4: a window in every layer, and in most of them what is kept of 4 or of 128 tokens."""
    found, ratios = _counts(text, "num_hidden_layers", "sliding_window"), text.get("compress_ratios")
    if not found or not isinstance(ratios, list) or len(ratios) < found[0]:
        return None
    ratios = ratios[: found[0]]
    if any(ratio not in (0, 1, 4, 128) for ratio in ratios):
        return None
    sizes = {key: text[key] if _is_count(text.get(key)) else size for key, size in V4_SIZES.items()}
    kinds = {f"layers_ratio_{ratio}": ratios.count(ratio) for ratio in (4, 128)}
    window = {"layers_full": 0, "layers_sliding": found[0], "sliding_window": found[1]}
    return {**window, "num_key_value_heads": 1, **sizes, **kinds}


def _in_common_words(text: Text) -> Text:
    """MiMo-V2's layers in the words of others: 1 is a window, with heads of its own."""
    pattern, sizes = text.get("hybrid_layer_pattern"), ("head_dim", "v_head_dim")
    if not isinstance(pattern, list) or any(text.get(f"swa_{size}") != text.get(size) for size in sizes):
        return text
    own = ("swa_num_key_value_heads", "swa_head_dim", "attention_chunk_size")
    return {
        **{key: value for key, value in text.items() if key not in own},
        "layer_types": ["sliding_attention" if kind else "full_attention" for kind in pattern],
        "sliding_window": text.get("sliding_window_size") or text.get("sliding_window"),
        "num_key_value_heads": text.get("swa_num_key_value_heads"),
        "num_global_key_value_heads": text.get("num_key_value_heads"),
        "value_head_dim": text.get("v_head_dim"),
    }


def _is_other_state(key: str, value: t.Any) -> bool:
    """Whether this says that layers keep something that is described nowhere here; MiniMax lists what each is, where 1
    attends to everything."""
    is_full = key == "attn_type_list" and isinstance(value, list) and all(one == 1 for one in value)
    return bool(OTHER_STATE.fullmatch(key) and value and not is_full)


def of_weights(config: t.Mapping[str, t.Any], weights_bytes: int) -> dict[str, t.Any] | None:
    """What is known of a model whose layers keep a state of another form: the size of its files, and its experts."""
    if weights_bytes <= 0:
        return None
    return {"weights_gib": max(0.01, round(weights_bytes / GIB, 2)), "experts": _experts(config)}


def _experts(config: t.Mapping[str, t.Any]) -> int:
    """How many experts the layers of a model have, the most of them where that differs; 0 for a dense model."""
    nested = (config.get("text_config"), config.get("ffn_config"))
    places = [config, *(place for place in nested if isinstance(place, dict))]
    said = [place.get(key) for place in places for key in EXPERTS]
    counts = [one for value in said for one in (value if isinstance(value, list) else [value])]
    return max((t.cast(int, one) for one in counts if _is_count(one)), default=0)


def _is_count(*values: t.Any) -> bool:
    return all(isinstance(value, int) and not isinstance(value, bool) and value > 0 for value in values)


def _counts(place: Text, *keys: str) -> t.Any:
    """The numbers under these keys; None unless each is one."""
    found = [place.get(key) for key in keys]
    return found if _is_count(*found) else None


# --- which layer is what ----------------------------------------------------------------------------------------------


def _kinds(text: Text) -> list[str] | None:
    """What each layer that keeps something is: full, sliding, chunked or state, or two of them; None if nobody says."""
    total = text.get("num_hidden_layers")
    pattern, listed = text.get("hybrid_override_pattern"), text.get("layers_block_type") or text.get("layer_types")
    if isinstance(pattern, str) and pattern:
        found = [{"M": "state", "*": "full"}.get(letter, "") for letter in pattern]
    elif isinstance(listed, list) and listed:
        if not {str(kind) for kind in listed} <= {*LAYER_KINDS, "moe", "mlp"}:
            return None
        found = [LAYER_KINDS.get(str(kind), "") for kind in listed]
    elif not _is_count(total):
        return None
    elif text.get("model_type") == "falcon_h1":
        found = ["full state"] * t.cast(int, total)
    else:
        found = _kinds_by_rule(text, t.cast(int, total))
    shared = text.get("num_kv_shared_layers")
    found = found[: -t.cast(int, shared)] if _is_count(shared) else found
    return " ".join(found).split() or None


def _kinds_by_rule(text: Text, total: int) -> list[str]:
    """The layers of a model that says by a rule which are what."""
    full = _full_by_rule(text, total)
    if full is not None:
        return ["full" if number in full else "state" for number in range(total)]
    if _state_of_mamba(text) and not _is_count(text.get("num_attention_heads")):
        return ["state"] * total
    if _is_count(text.get("attention_chunk_size")):
        every, listed = text.get("no_rope_layer_interval"), text.get("no_rope_layers")
        step = t.cast(int, every) if _is_count(every) else 4
        uses_rope = listed if isinstance(listed, list) and listed else [(number + 1) % step for number in range(total)]
        return ["chunked" if one else "full" for one in uses_rope]
    sliding = _sliding(text, total) if _window(text) else 0
    return ["full"] * (total - sliding) + ["sliding"] * sliding


def _full_by_rule(text: Text, total: int) -> set[int] | None:
    """The numbers of the layers that see everything, where all others keep a state; None for models without such."""
    linear = text.get("linear_attn_config")
    if isinstance(linear, dict):
        return {number - 1 for number in _integers(linear.get("full_attn_layers"))}
    every, offset = text.get("full_attention_interval"), -1
    if not _is_count(every):
        every, offset = text.get("attn_layer_period"), text.get("attn_layer_offset", 0)
    if _is_count(every) and isinstance(offset, int):
        return {*range(offset % t.cast(int, every), total, t.cast(int, every))}
    return _integers(text.get("attn_layer_indices") or text.get("full_attn_idxs")) or None


def _integers(value: t.Any) -> set[int]:
    return {one for one in value if isinstance(one, int)} if isinstance(value, list) else set()


def _window(text: Text) -> t.Any:
    return text.get("sliding_window") if text.get("use_sliding_window", True) else None


def _windows(text: Text, kinds: t.Sequence[str]) -> dict[str, int] | None:
    """How many layers attend to everything and how many to a window of so many tokens (0 without such layers)."""
    chunked, sliding = kinds.count("chunked"), kinds.count("sliding")
    window = text.get("attention_chunk_size") if chunked else _window(text)
    if (chunked and sliding) or (chunked + sliding and not _is_count(window)):
        return None
    return {
        "layers_full": kinds.count("full"),
        "layers_sliding": chunked + sliding,
        "sliding_window": t.cast(int, window) if chunked + sliding else 0,
        **({"is_chunked": 1} if chunked else {}),
    }


def _sliding(text: Text, total: int) -> int:
    """How many layers have a window when they are not listed: all but every so many-th, or those from one on."""
    pattern, first = text.get("sliding_window_pattern", text.get("_sliding_window_pattern")), None
    if text.get("use_sliding_window"):
        first = text.get("max_window_layers")
    if _is_count(pattern):
        return total - total // t.cast(int, pattern)
    return max(0, total - first) if isinstance(first, int) else total


# --- what a layer keeps -----------------------------------------------------------------------------------------------


def _attention(text: Text, kinds: t.Sequence[str]) -> dict[str, int] | None:
    """Heads and their size; for MLA the latent vector instead."""
    if not {*kinds} - {"state"}:
        return {"num_key_value_heads": 0, "head_dim": 0}
    if _is_count(text.get("kv_lora_rank")):
        return _latent(text, kinds)
    heads = text.get("num_attention_heads")
    numbers = {
        "num_key_value_heads": text.get("num_key_value_heads", heads),
        "head_dim": text.get("head_dim") or text.get("attention_head_dim") or _head_dim(text.get("hidden_size"), heads),
    }
    if not _is_count(*numbers.values()) or text.get("swa_num_key_value_heads") or text.get("swa_head_dim"):
        return None
    others = {
        "full_key_value_heads": text.get("num_global_key_value_heads") or numbers["num_key_value_heads"],
        "full_head_dim": text.get("global_head_dim") or numbers["head_dim"],
    }
    differs = (*others.values(),) != (*numbers.values(),)
    value = text.get("value_head_dim")
    return {**numbers, **(others if differs else {}), **({"value_head_dim": value} if _is_count(value) else {})}


def _latent(text: Text, kinds: t.Sequence[str]) -> dict[str, int] | None:
    numbers = {"kv_lora_rank": text["kv_lora_rank"], "qk_rope_head_dim": text.get("qk_rope_head_dim")}
    if not _is_count(numbers["qk_rope_head_dim"]) or text.get("model_type") not in LATENT_TYPES:
        return None
    if text.get("index_topk"):
        numbers["index_head_dim"] = text.get("index_head_dim") or 128
        own = _layers_with_an_index(text, len(kinds))
        numbers.update({"layers_index": own} if own < len(kinds) else {})
    return {"num_key_value_heads": 1, "head_dim": 0, **numbers}


def _layers_with_an_index(text: Text, layers: int) -> int:
    """Those that do not use that of a layer before them: every so many-th, or as a pattern says (S shares)."""
    pattern, every, offset = (text.get(f"index_{key}") for key in ("topk_pattern", "topk_freq", "skip_topk_offset"))
    if isinstance(pattern, (str, list)):
        return layers - [*pattern][:layers].count("S")
    first = offset if isinstance(offset, int) else 2
    step = t.cast(int, every) if _is_count(every) else 1
    return sum(max(n - first + 1, 0) % step == 0 for n in range(layers))


def _head_dim(hidden: t.Any, heads: t.Any) -> int | None:
    return hidden // heads if _is_count(hidden, heads) else None


def _state(text: Text, kinds: t.Sequence[str]) -> dict[str, int] | None:
    """What the layers keep that keep a state; None when its form is not known."""
    if "state" not in kinds:
        return {}
    known = _state_of_delta_net(text) or _state_of_kimi(text) or _state_of_mamba(text) or _state_of_others(text)
    return known and {"layers_state": kinds.count("state"), **known}


def _state_of_delta_net(text: Text) -> dict[str, int] | None:
    sizes = ("num_key_heads", "num_value_heads", "key_head_dim", "value_head_dim", "conv_kernel_dim")
    found = _counts(text, *(f"linear_{size}" for size in sizes))
    if not found:
        return None
    keys, values, key_dim, value_dim, kernel = found
    convolution = (kernel - 1) * (2 * keys * key_dim + values * value_dim)
    return _state_numbers(convolution, values * key_dim * value_dim, text.get("mamba_ssm_dtype"))


def _state_of_kimi(text: Text) -> dict[str, int] | None:
    linear = text.get("linear_attn_config")
    found = isinstance(linear, dict) and _counts(linear, "num_heads", "head_dim", "short_conv_kernel_size")
    if not found:
        return None
    heads, dim, kernel = found
    return _state_numbers((kernel - 1) * 3 * heads * dim, heads * dim * dim, "float32")


def _state_of_mamba(text: Text) -> dict[str, int] | None:
    """Mamba 2, under the names of Nemotron-H, Granite 4, Bamba, Falcon-H1 and Zamba 2."""

    def first(*names: str) -> t.Any:
        return next((text[name] for name in names if _is_count(text.get(name))), None)

    heads = first("mamba_num_heads", "mamba_n_heads", "n_mamba_heads")
    dim = first("mamba_head_dim", "mamba_d_head", "mamba_headdim")
    groups = first("n_groups", "mamba_n_groups", "mamba_ngroups")
    state = first("ssm_state_size", "mamba_d_state", "state_size")
    kernel = first("conv_kernel", "mamba_d_conv")
    if not _is_count(heads, state, groups, kernel):
        return None
    if dim is None and _is_count(text.get("hidden_size")):
        wide = first("mamba_expand", "expand")
        dim = wide and wide * text["hidden_size"] // heads
    if not _is_count(dim):
        return None
    chunk = first("chunk_size", "mamba_chunk_size")
    numbers = _state_numbers(
        (kernel - 1) * (heads * dim + 2 * groups * state), heads * dim * state, text.get("mamba_ssm_cache_dtype")
    )
    return {**numbers, **({"state_chunk": chunk} if chunk else {})}


def _state_of_others(text: Text) -> dict[str, int] | None:
    """Mamba 1 (Jamba), and the short convolutions of LFM2."""
    found = _counts(text, "hidden_size", "conv_L_cache")
    if found:
        return _state_numbers((found[1] - 1) * found[0], 0, None)
    found = _counts(text, "hidden_size", "mamba_expand", "mamba_d_conv", "mamba_d_state")
    if not found or text.get("mamba_n_heads"):
        return None
    hidden, wide, kernel, state = found
    return _state_numbers((kernel - 1) * wide * hidden, wide * hidden * state, None)


def _state_numbers(convolution: int, rest: int, dtype: t.Any) -> dict[str, int]:
    size = DTYPE_BYTES.get(str(dtype))
    numbers = {"state_conv_values": convolution, "state_values": rest}
    return {**numbers, "state_value_bytes": size} if size else numbers
