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
    None where nobody said."""

    layers_full: int
    layers_sliding: int
    sliding_window: int
    num_key_value_heads: int
    head_dim: int
    weights_gib: float | None = None
    experts: int | None = None

    @classmethod
    def from_mapping(cls, mapping: t.Any) -> Architecture:
        """The numbers that a user or the catalogue gives.

        Raises:
            VllmError: with the address of the number at fault.
        """
        if not isinstance(mapping, t.Mapping):
            raise VllmError(f"architecture must be a mapping with the keys {', '.join(KEYS)}; got {mapping!r}.")
        unknown = sorted(set(map(str, mapping)) - {f.name for f in fields(cls)})
        if unknown:
            raise VllmError(f"Unknown key 'architecture.{unknown[0]}'. Valid keys: {', '.join(KEYS)}.")
        weights = _weights(mapping.get("weights_gib"))
        experts = None if mapping.get("experts") is None else _whole(mapping, "experts")
        if weights is not None and all(mapping.get(key) is None for key in LAYER_KEYS):
            return cls(0, 0, 0, 0, 0, weights, experts)
        made = cls(**{key: _whole(mapping, key) for key in LAYER_KEYS}, weights_gib=weights, experts=experts)
        if not made.layers_full + made.layers_sliding or not made.num_key_value_heads or not made.head_dim:
            raise VllmError(
                "architecture: the number of layers, num_key_value_heads and head_dim must be at least 1; got 0."
            )
        if made.layers_sliding and not made.sliding_window:
            raise VllmError(
                f"architecture.sliding_window must be at least 1 with {made.layers_sliding} sliding layers; got 0."
            )
        return made

    @property
    def has_layers(self) -> bool:
        """Whether more is known than the size of the weights."""
        return self.layers_full + self.layers_sliding > 0

    @property
    def is_mixture(self) -> bool | None:
        """Whether it is a mixture of experts; None where nobody knows."""
        return None if self.experts is None else self.experts > 1


KEYS = tuple(f.name for f in fields(Architecture))
# What the KV cache follows from: all of them, or none.
LAYER_KEYS = tuple(key for key in KEYS if key not in ("weights_gib", "experts"))


def _whole(mapping: t.Mapping[str, t.Any], key: str) -> int:
    value = mapping.get(key)
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

# Models with a state of another form than keys and values of the same size in every layer.
OTHER_STATE = re.compile(
    r"kv_lora_rank|mamba_\w+|ssm_\w+|state_size|linear_(?:num_|key_|value_|conv_|attn_)\w+|hybrid_override_pattern|"
    r"layers_block_type|attn_layer_\w+|attn_type_list|full_attention_interval|conv_L_cache|num_kv_shared_layers|"
    r"attention_chunk_size|cross_attention_\w+|is_encoder_decoder|block_configs|multi_query|global_head_dim|"
    r"num_global_key_value_heads|swa_\w+|index_topk"
)
# Where a config.json says how many experts there are, in the words of one family of models or another.
EXPERTS = ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts")
# What a config.json leaves out because it is the default of the model's type.
GEMMA3 = {"num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window_pattern": 6}
TYPE_DEFAULTS: t.Mapping[str, t.Mapping[str, t.Any]] = {
    "gemma2": {"head_dim": 256, "sliding_window_pattern": 2},
    "gemma3_text": {"sliding_window": 4096, **GEMMA3},
    "cohere2": {"sliding_window_pattern": 4},
    "qwen2": {"use_sliding_window": False},
    "qwen2_moe": {"use_sliding_window": False},
    "qwen3": {"use_sliding_window": False},
    "qwen3_moe": {"use_sliding_window": False},
}


def of_config(config: t.Mapping[str, t.Any], weights_bytes: int) -> dict[str, t.Any] | None:
    """What the estimate of the KV cache needs, from a config.json of transformers.

    None when it cannot be told, and for models whose state that arithmetic does not describe (MLA, Mamba, linear or
    chunked attention, layers that differ in their heads).
    """
    nested = config.get("text_config")
    text = nested if isinstance(nested, dict) and nested else config
    if any(OTHER_STATE.fullmatch(str(key)) and value for key, value in (*config.items(), *text.items())):
        return None
    given = {key: value for key, value in text.items() if value is not None or key == "sliding_window"}
    text = {**TYPE_DEFAULTS.get(str(text.get("model_type")), {}), **given}
    heads = text.get("num_attention_heads")
    numbers = {
        "num_key_value_heads": text.get("num_key_value_heads", heads),
        "head_dim": text.get("head_dim") or _head_dim(text.get("hidden_size"), heads),
    }
    layers = _layers(text)
    if layers is None or weights_bytes <= 0 or not all(map(_is_count, numbers.values())):
        return None
    return {**layers, **numbers, **_size(config, weights_bytes)}


def of_weights(config: t.Mapping[str, t.Any], weights_bytes: int) -> dict[str, t.Any] | None:
    """What is known of a model whose layers keep a state of another form: the size of its files, and its experts."""
    return _size(config, weights_bytes) if weights_bytes > 0 else None


def _size(config: t.Mapping[str, t.Any], weights_bytes: int) -> dict[str, t.Any]:
    return {"weights_gib": max(0.01, round(weights_bytes / GIB, 2)), "experts": _experts(config)}


def _experts(config: t.Mapping[str, t.Any]) -> int:
    """How many experts the layers of a model have, the most of them where that differs; 0 for a dense model."""
    nested = (config.get("text_config"), config.get("ffn_config"))
    places = [config, *(place for place in nested if isinstance(place, dict))]
    said = [place.get(key) for place in places for key in EXPERTS]
    counts = [one for value in said for one in (value if isinstance(value, list) else [value])]
    return max((t.cast(int, one) for one in counts if _is_count(one)), default=0)


def _is_count(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _head_dim(hidden: t.Any, heads: t.Any) -> int | None:
    return hidden // heads if _is_count(hidden) and _is_count(heads) else None


def _layers(text: t.Mapping[str, t.Any]) -> dict[str, int] | None:
    """How many layers attend to everything and how many to a window of so many tokens (0 without such layers)."""
    types, total = text.get("layer_types"), text.get("num_hidden_layers")
    window = text.get("sliding_window") if text.get("use_sliding_window", True) else None
    if isinstance(types, list) and types:
        if not {str(kind) for kind in types} <= {"full_attention", "sliding_attention"}:
            return None
        sliding, total = types.count("sliding_attention"), len(types)
    elif not _is_count(total):
        return None
    else:
        sliding = _sliding(text, t.cast(int, total)) if window else 0
    if sliding and not _is_count(window):
        return None
    return {
        "layers_full": t.cast(int, total) - sliding,
        "layers_sliding": sliding,
        "sliding_window": t.cast(int, window) if sliding else 0,
    }


def _sliding(text: t.Mapping[str, t.Any], total: int) -> int:
    """How many layers have a window when they are not listed: all but every so many-th, or those from one on."""
    pattern, first = text.get("sliding_window_pattern", text.get("_sliding_window_pattern")), None
    if text.get("use_sliding_window"):
        first = text.get("max_window_layers")
    if _is_count(pattern):
        return total - total // t.cast(int, pattern)
    return max(0, total - first) if isinstance(first, int) else total
