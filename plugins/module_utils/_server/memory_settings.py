# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a spec decides about memory, in the terms of its version of vLLM. Pure."""

from __future__ import annotations

import math
import re
import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .._vllm.architecture import DTYPE_BYTES, finite
from .._vllm.versions import NEWEST, Release, choice_life, within
from .keys import parsed
from .spec import ServerSpec, pools

Engine = t.Mapping[str, t.Any]

# A longest request when the spec does not set it: what most models here are made for at most.
ASSUMED_MODEL_LEN = 131072

# Bytes of one value in the KV cache; nvfp4 has a byte of scale for 16 values. The size of other types is not known.
KV_BYTES: t.Mapping[str, float] = {
    "bfloat16": 2,
    "float16": 2,
    **dict.fromkeys(("fp8", "fp8_ds_mla", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "fp8_per_token_head"), 1),
    "int8_per_token_head": 1,
    "int4_per_token_head": 0.5,
    "nvfp4": 9 / 16,
}
ESTIMATE_GRAPHS = "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS"
PARTITION = "VLLM_PP_LAYER_PARTITION"
ALLOW_CHUNKED = "VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE"
# Ways of drafting that keep nothing.
DRAFTS_BY_TEXT = re.compile(r"ngram|suffix|medusa|mlp_speculator|prompt.?lookup")
MODEL_BYTES = {"float32": 4, "float": 4}
# What remains of the weights at least when vLLM quantizes them while it loads; before that they are whole.
LOADED_SHARE = {"fp8": 0.5, "ptpc_fp8": 0.5, "experts_int8": 0.5, "bitsandbytes": 0.27, "mxfp8": 0.5, "mxfp4": 0.27}


@dataclass(frozen=True)
class Settings:
    """What of a spec decides about memory, in the terms of its version of vLLM. None: vLLM's default, or unknown."""

    release: Release
    utilization: float
    is_default_utilization: bool
    tensor_parallel: int
    pipeline_parallel: int
    context_parallel: int
    # All ranks of data parallel, on other hosts too.
    data_parallel: int
    # Whether expert parallel is asked for, which vLLM refuses for a model without experts.
    asks_for_experts: bool
    local_gpus: int
    may_span_hosts: bool
    block_size: int
    max_model_len: int | None
    is_auto_length: bool
    batched_tokens: int | None
    sequences: int | None
    is_chunked: bool
    batches: int
    value_bytes: float | None
    # Bytes of scale for the keys of a token in each head, and for its values.
    scale_bytes: int
    pinned_kv: int | None
    has_graphs: bool
    counts_graphs: bool
    is_hybrid: bool
    # Whether layers that see chunks release what they have left, too.
    is_hybrid_with_chunks: bool
    # Twice the batches that vLLM takes by default.
    has_large_batches: bool
    offload_gib: float
    loaded_share: float
    has_sleep_mode: bool
    # What layers keep that have a state: none, align or all, and the bytes of its values (None: as the model says).
    state_mode: str
    state_conv_bytes: int
    state_bytes: int | None
    # The tokens that are drafted ahead, and what keeps a layer for that: mtp, eagle, nothing, or a model whose layers
    # nobody told (model).
    drafted: int
    drafter: str
    # A server that embeds, classifies or scores.
    is_pooling: bool
    # The layers of each stage of the pipeline, where VLLM_PP_LAYER_PARTITION lists them.
    stages: tuple[int, ...]

    def on_a_stage(self, layers: int) -> int:
        """How many of so many layers the longest stage of the pipeline has: what does not divide goes to some."""
        if len(self.stages) == self.pipeline_parallel and any(self.stages):
            return -(-layers * max(self.stages) // sum(self.stages))
        return -(-layers // self.pipeline_parallel)


def settings_of(spec: ServerSpec) -> Settings:
    """The settings of a server, those that it leaves to vLLM as its version has them.

    Raises:
        VllmError: for a value that is no number where vLLM wants one.
    """
    engine = {**spec.engine, **spec.engine_unchecked}
    release = Release(spec.vllm_version or NEWEST)
    tensor, pipeline = _size(engine, "tensor_parallel_size"), _size(engine, "pipeline_parallel_size")
    data = _size(engine, "data_parallel_size")
    local = _size(engine, "data_parallel_size_local", data)
    utilization = _utilization(engine)
    has_graphs = not _switch(engine, "enforce_eager", False)
    return Settings(
        release=release,
        utilization=utilization or (0.90 if release.behaves("utilization_090") else 0.92),
        is_default_utilization=utilization is None,
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        context_parallel=math.prod(_size(engine, f"{step}_context_parallel_size") for step in ("decode", "prefill")),
        data_parallel=max(data, local),
        asks_for_experts=_switch(engine, "enable_expert_parallel", False),
        local_gpus=max(1, -(-tensor * pipeline // _size(engine, "nnodes"))) * local,
        may_span_hosts=engine.get("distributed_executor_backend") in ("ray", "external_launcher"),
        block_size=_size(engine, "block_size", 16),
        **_lengths(engine),
        is_chunked=_switch(engine, "enable_chunked_prefill", True),
        batches=_batches(engine, release, pipeline),
        value_bytes=_value_bytes(engine),
        scale_bytes=4 if str(engine.get("kv_cache_dtype")).endswith("_per_token_head") else 0,
        pinned_kv=_human_or_none(engine, "kv_cache_memory_bytes", "kv_cache_memory"),
        has_graphs=has_graphs,
        counts_graphs=has_graphs and _counts_graphs(spec.env, release),
        is_hybrid=_is_hybrid(engine, release),
        is_hybrid_with_chunks=not release.knows_variable(ALLOW_CHUNKED) or spec.env.get(ALLOW_CHUNKED) in ("1", "true"),
        has_large_batches=engine.get("performance_mode") == "throughput",
        offload_gib=finite(engine.get("cpu_offload_gb")) or 0.0,
        loaded_share=_loaded_share(spec, engine, release),
        has_sleep_mode=_switch(engine, "enable_sleep_mode", False),
        state_mode=_state_mode(engine, release),
        state_conv_bytes=DTYPE_BYTES.get(str(engine.get("mamba_cache_dtype")), 2),
        state_bytes=DTYPE_BYTES.get(str(engine.get("mamba_ssm_cache_dtype"))),
        **_draft(engine),
        is_pooling=pools(engine),
        stages=_stages(spec.env),
    )


def _state_mode(engine: Engine, release: Release) -> str:
    """Which states are kept: those that prefix caching needs, where it is on."""
    is_on = _switch(engine, "enable_prefix_caching", release.behaves("prefix_caching_of_states"))
    if not is_on or release.lacks("states_aligned"):
        return "none"
    asked = str(engine.get("mamba_cache_mode", "none"))
    all_of_them = "all" if within(release.version, choice_life("mamba_cache_mode", "all")) else "align"
    return all_of_them if asked == "none" else asked


def _draft(engine: Engine) -> dict[str, t.Any]:
    config = parsed(engine.get("speculative_config"))
    config = config if isinstance(config, t.Mapping) else {}
    method = str(config.get("method") or config.get("model")).lower()
    # The models that draft for Gemma 4 are called assistants.
    kind = "mtp" if re.search(r"mtp$|-assistant", method) else "eagle" if "eagle" in method else "model"
    kind = "" if not config or DRAFTS_BY_TEXT.search(method) else kind
    tokens = finite(config.get("num_speculative_tokens"))
    return {"drafted": int(tokens or (kind == "mtp")), "drafter": kind}


def _stages(env: t.Mapping[str, str]) -> tuple[int, ...]:
    words = env.get(PARTITION, "").split(",")
    return tuple(map(int, words)) if all(word.strip().isdigit() for word in words) else ()


def _lengths(engine: Engine) -> dict[str, t.Any]:
    length = engine.get("max_model_len")
    is_auto = str(length) in ("-1", "auto")
    return {
        "max_model_len": None if is_auto else _human_or_none(engine, "max_model_len"),
        "is_auto_length": is_auto,
        "batched_tokens": _human_or_none(engine, "max_num_batched_tokens"),
        "sequences": _human_or_none(engine, "max_num_seqs"),
    }


def _human_or_none(engine: Engine, *keys: str) -> int | None:
    for key in keys:
        if engine.get(key) is not None:
            return human(key, engine[key])
    return None


def _size(engine: Engine, key: str, default: int = 1) -> int:
    if engine.get(key) is None:
        return default
    number = human(key, engine[key])
    if number < 1:
        raise VllmError(f"engine.{key} must be at least 1; got {number}.")
    return number


def _switch(engine: Engine, key: str, default: bool) -> bool:
    opposite = engine.get(f"no_{key}")
    value = engine.get(key, default if opposite is None else not opposite)
    return value if isinstance(value, bool) else default


def _utilization(engine: Engine) -> float | None:
    for key in ("gpu_memory_utilization", "device_memory_utilization"):
        if engine.get(key) is None:
            continue
        number = finite(engine[key])
        if number is None or not 0 < number <= 1:
            raise VllmError(
                f"engine.{key} must be a share of the memory between 0 and 1, such as 0.85; got {engine[key]!r}."
            )
        return number
    return None


def _batches(engine: Engine, release: Release, pipeline: int) -> int:
    """How many batches a sliding window has to outlast: since one is scheduled ahead, that one too."""
    if not release.behaves("batches_in_flight"):
        return 1
    return max(pipeline, 2 if _switch(engine, "async_scheduling", True) else 1)


def _value_bytes(engine: Engine) -> float | None:
    kind = str(engine.get("kv_cache_dtype", "auto"))
    if engine.get("kv_cache_dtype_skip_layers"):
        return None
    if kind == "auto":
        return MODEL_BYTES.get(str(engine.get("dtype")), 2)
    return KV_BYTES.get(kind)


def _counts_graphs(env: t.Mapping[str, str], release: Release) -> bool:
    asked = env.get(ESTIMATE_GRAPHS)
    if asked is None:
        return release.behaves("graphs_in_budget")
    return asked.lower() in ("1", "true") and release.knows_variable(ESTIMATE_GRAPHS) is True


def _is_hybrid(engine: Engine, release: Release) -> bool:
    """Whether sliding layers release what has left their window; a version without the switch never does, and one that
    passes the cache on did not until its connectors could be asked."""
    has_manager = release.knows("disable_hybrid_kv_cache_manager") is not False
    passes_on = bool(engine.get("kv_transfer_config")) and not release.behaves("connectors_asked")
    return has_manager and not _switch(engine, "disable_hybrid_kv_cache_manager", passes_on)


def _loaded_share(spec: ServerSpec, engine: Engine, release: Release) -> float:
    method = str(engine.get("quantization"))
    # gpt-oss is MXFP4 as it is; other models are quantized while they load, or not at all.
    if method == "mxfp4" and ("gpt-oss" in spec.model.lower() or not release.behaves("mxfp4_dense")):
        return 1.0
    return LOADED_SHARE.get(method, 1.0)


_HUMAN = re.compile(r"(\d+(?:\.\d+)?(?=[kmgt])|\d+)([kKmMgGtT]?)")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def human(key: str, value: t.Any) -> int:
    """A number as vLLM reads it: C(32k) is 32000, C(32K) is 32768.

    Raises:
        VllmError: with the address of the key.
    """
    found = _HUMAN.fullmatch(str(value).strip())
    if not found or isinstance(value, bool):
        raise VllmError(f"engine.{key} must be a number such as 32768, 32K (1024) or 32k (1000); got {value!r}.")
    unit = found.group(2)
    return int(float(found.group(1)) * (1024 if unit.isupper() else 1000) ** _POWERS[unit.lower()])
