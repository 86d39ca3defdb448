# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Will a server start on these GPUs, how many tokens does its KV cache hold, and what to change if it does not fit.

Pure. vLLM's own arithmetic where it is one (start condition, KV blocks), ranges where only a start tells (weights as
loaded, activation peak, CUDA graphs). Memory is in MiB unless a name says otherwise; docs/memory.md explains it.
"""

from __future__ import annotations

import math
import re
import typing as t
from dataclasses import dataclass, field, fields, replace

from .._errors import VllmError
from .._gpu.batches import UNKNOWN_BATCH, default_batch, has_small_batches
from .._vllm.versions import NEWEST, Release
from .spec import ServerSpec

MIB = 1 << 20
GIB_MIB = 1024

Facts = t.Mapping[str, t.Any]
# What vLLM printed at an earlier start with the same settings: weights_gib, activation_gib, non_torch_gib, graphs_gib
# (the estimate), kv_gib; any of them may be absent or None.
Measured = t.Mapping[str, t.Optional[float]]

MEASURED_KEYS = ("weights_gib", "activation_gib", "non_torch_gib", "graphs_gib", "kv_gib")
# A longest request when neither the spec nor the architecture tells it: what most models here are made for at most.
ASSUMED_MODEL_LEN = 131072
# vLLM looks at the free memory after its own CUDA context is there: 0.51 GiB on an H200.
CONTEXT_MIB = 768
# The highest utilization that is suggested: kernels and graphs need room outside of the budget.
HIGHEST_UTILIZATION = 0.95
VERDICTS = ("ok", "tight", "refuse")


class Range(t.NamedTuple):
    """What is needed or left at least and at most, in MiB."""

    low: float
    high: float


# ---------------------------------------------------------------------------------------------------------------------
# The model and the settings
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Architecture:
    """The numbers of a model that decide how much memory it takes. Without weights_gib only tokens are told."""

    layers_full: int
    layers_sliding: int
    sliding_window: int
    num_key_value_heads: int
    head_dim: int
    weights_gib: float | None = None

    @classmethod
    def from_mapping(cls, mapping: t.Any) -> Architecture:
        """Raises:
        VllmError: with the address of the number at fault.
        """
        if not isinstance(mapping, t.Mapping):
            raise VllmError(f"architecture: {mapping!r} is not a mapping with the keys {', '.join(ARCHITECTURE_KEYS)}.")
        unknown = sorted(set(map(str, mapping)) - {f.name for f in fields(cls)})
        if unknown:
            raise VllmError(
                f"architecture.{unknown[0]} is not a key here; the keys are {', '.join(ARCHITECTURE_KEYS)}."
            )
        counts = {f.name: _count(mapping, f.name) for f in fields(cls) if f.name != "weights_gib"}
        made = cls(**counts, weights_gib=_weights(mapping.get("weights_gib")))
        if not made.layers_full + made.layers_sliding or not made.num_key_value_heads or not made.head_dim:
            raise VllmError("architecture: a model has layers, and they have key-value heads of some size; none is 0.")
        if made.layers_sliding and not made.sliding_window:
            raise VllmError(f"architecture.sliding_window: it is 0, and {made.layers_sliding} layers are sliding.")
        return made


ARCHITECTURE_KEYS = tuple(f.name for f in fields(Architecture))


def _count(mapping: t.Mapping[str, t.Any], key: str) -> int:
    value = mapping.get(key)
    if value is None:
        raise VllmError(f"architecture.{key}: it is missing.")
    text = str(value)
    if isinstance(value, bool) or not text.isdigit():
        raise VllmError(f"architecture.{key}: {value!r} is not a whole number.")
    return int(text)


def _weights(value: t.Any) -> float | None:
    if value is None:
        return None
    number = _float(value)
    if number is None or number <= 0:
        raise VllmError(f"architecture.weights_gib: {value!r} is not a number of GiB.")
    return number


def _float(value: t.Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and not isinstance(value, bool) else None


_HUMAN = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT]?)")
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def human(key: str, value: t.Any) -> int:
    """A number as vLLM reads it: C(32k) is 32000, C(32K) is 32768.

    Raises:
        VllmError: with the address of the key.
    """
    found = _HUMAN.fullmatch(str(value).strip())
    if not found or isinstance(value, bool):
        raise VllmError(f"engine.{key}: {value!r} is not a number such as 32768, 32K (1024) or 32k (1000).")
    unit = found.group(2)
    return int(float(found.group(1)) * (1024 if unit.isupper() else 1000) ** _POWERS[unit.lower()])


# Bytes of one value in the KV cache. Types that keep scales beside it are not here: their size is not told.
KV_BYTES = {"bfloat16": 2, "float16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "fp8_inc": 1}
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
    local_gpus: int
    may_span_hosts: bool
    block_size: int
    max_model_len: int | None
    is_auto_length: bool
    batched_tokens: int | None
    sequences: int | None
    is_chunked: bool
    batches: int
    value_bytes: int | None
    pinned_kv: int | None
    has_graphs: bool
    counts_graphs: bool
    is_hybrid: bool
    offload_gib: float
    loaded_share: float


def settings_of(spec: ServerSpec) -> Settings:
    """Raises:
    VllmError: for a value that is no number where vLLM wants one.
    """
    said = {**spec.engine, **spec.engine_unchecked}
    release = Release(spec.vllm_version or NEWEST)
    tensor, pipeline = _size(said, "tensor_parallel_size", 1), _size(said, "pipeline_parallel_size", 1)
    data = _size(said, "data_parallel_size_local", _size(said, "data_parallel_size", 1))
    utilization = _utilization(said)
    has_graphs = not _switch(said, "enforce_eager", False)
    return Settings(
        release=release,
        utilization=utilization or (0.90 if release.behaves("utilization_090") else 0.92),
        is_default_utilization=utilization is None,
        tensor_parallel=tensor,
        pipeline_parallel=pipeline,
        local_gpus=max(1, -(-tensor * pipeline // _size(said, "nnodes", 1))) * data,
        may_span_hosts=said.get("distributed_executor_backend") in ("ray", "external_launcher"),
        block_size=_size(said, "block_size", 16),
        **_lengths(said),
        is_chunked=_switch(said, "enable_chunked_prefill", True),
        batches=_batches(said, release, pipeline),
        value_bytes=_value_bytes(said),
        pinned_kv=_human_or_none(said, "kv_cache_memory_bytes", "kv_cache_memory"),
        has_graphs=has_graphs,
        counts_graphs=has_graphs and _counts_graphs(spec.env, release),
        is_hybrid=_is_hybrid(said, release),
        offload_gib=_float(said.get("cpu_offload_gb")) or 0.0,
        loaded_share=_loaded_share(spec, said, release),
    )


Said = t.Mapping[str, t.Any]


def _lengths(said: Said) -> dict[str, t.Any]:
    length = said.get("max_model_len")
    is_auto = str(length) in ("-1", "auto")
    return {
        "max_model_len": None if is_auto else _human_or_none(said, "max_model_len"),
        "is_auto_length": is_auto,
        "batched_tokens": _human_or_none(said, "max_num_batched_tokens"),
        "sequences": _human_or_none(said, "max_num_seqs"),
    }


def _human_or_none(said: Said, *keys: str) -> int | None:
    for key in keys:
        if said.get(key) is not None:
            return human(key, said[key])
    return None


def _size(said: Said, key: str, default: int) -> int:
    if said.get(key) is None:
        return default
    number = human(key, said[key])
    if number < 1:
        raise VllmError(f"engine.{key}: it is {number}; the smallest is 1.")
    return number


def _switch(said: Said, key: str, default: bool) -> bool:
    opposite = said.get(f"no_{key}")
    value = said.get(key, default if opposite is None else not opposite)
    return value if isinstance(value, bool) else default


def _utilization(said: Said) -> float | None:
    for key in ("gpu_memory_utilization", "device_memory_utilization"):
        if said.get(key) is None:
            continue
        number = _float(said[key])
        if number is None or not 0 < number <= 1:
            raise VllmError(f"engine.{key}: {said[key]!r} is not a share of the memory between 0 and 1, such as 0.85.")
        return number
    return None


def _batches(said: Said, release: Release, pipeline: int) -> int:
    """How many batches a sliding window has to outlast: since one is scheduled ahead, that one too."""
    if not release.behaves("batches_in_flight"):
        return 1
    return max(pipeline, 2 if _switch(said, "async_scheduling", True) else 1)


def _value_bytes(said: Said) -> int | None:
    kind = str(said.get("kv_cache_dtype", "auto"))
    if said.get("kv_cache_dtype_skip_layers"):
        return None
    if kind == "auto":
        return MODEL_BYTES.get(str(said.get("dtype")), 2)
    return KV_BYTES.get(kind)


def _counts_graphs(env: t.Mapping[str, str], release: Release) -> bool:
    told = env.get("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS")
    if told is None:
        return release.behaves("graphs_in_budget")
    return told.lower() in ("1", "true") and release.knows_variable("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS") is True


def _is_hybrid(said: Said, release: Release) -> bool:
    """Whether sliding layers release what has left their window; a version without the switch never does."""
    has_manager = release.knows("disable_hybrid_kv_cache_manager") is not False
    return has_manager and not _switch(said, "disable_hybrid_kv_cache_manager", False)


def _loaded_share(spec: ServerSpec, said: Said, release: Release) -> float:
    method = str(said.get("quantization"))
    # gpt-oss is MXFP4 as it is; other models are quantized while they load, or not at all.
    if method == "mxfp4" and ("gpt-oss" in spec.model.lower() or not release.behaves("mxfp4_dense")):
        return 1.0
    return LOADED_SHARE.get(method, 1.0)


# ---------------------------------------------------------------------------------------------------------------------
# KV blocks
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Capacity:
    """What vLLM prints for it: KV cache size in tokens, requests of max_model_len at once, and its blocks."""

    tokens: int
    concurrency: float
    blocks: int


@dataclass(frozen=True)
class _Cache:
    """The KV cache of one GPU in blocks: layers share a pool in groups of equal size."""

    block_size: int
    block_bytes: int
    full_groups: int
    sliding_groups: int
    reach: int  # Tokens that a sliding layer keeps of a request.
    by_concurrency: bool

    def blocks_per_request(self, length: int) -> int:
        sliding = _ceil(min(self.reach, length), self.block_size) + 1
        return self.full_groups * _ceil(length, self.block_size) + self.sliding_groups * sliding

    def blocks(self, kv_mib: float) -> int:
        return max(0, int(kv_mib * MIB) // self.block_bytes)

    def capacity(self, kv_mib: float, length: int) -> Capacity:
        blocks = self.blocks(kv_mib)
        concurrency = blocks / self.blocks_per_request(length)
        by_groups = blocks // (self.full_groups + self.sliding_groups) * self.block_size
        return Capacity(int(concurrency * length) if self.by_concurrency else by_groups, concurrency, blocks)

    def needed_mib(self, length: int) -> float:
        return self.blocks_per_request(length) * self.block_bytes / MIB

    def longest(self, kv_mib: float) -> int:
        """The longest request that fits, in whole blocks; 0 when none does."""
        blocks, low, high = self.blocks(kv_mib), 0, self.blocks(kv_mib)
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.blocks_per_request(middle * self.block_size) <= blocks
            low, high = (middle, high) if fits else (low, middle - 1)
        return low * self.block_size


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)


def _cache(settings: Settings, architecture: Architecture, batched_tokens: int) -> _Cache | None:
    """None when the size of a value is not known."""
    if settings.value_bytes is None:
        return None
    size, full, sliding = _groups(settings, architecture)
    heads = max(1, architecture.num_key_value_heads // settings.tensor_parallel)
    page = settings.block_size * 2 * heads * architecture.head_dim * settings.value_bytes
    return _Cache(
        block_size=settings.block_size,
        block_bytes=_ceil(size, settings.pipeline_parallel) * page,
        full_groups=full,
        sliding_groups=sliding,
        reach=max(0, architecture.sliding_window - 1) + batched_tokens * settings.batches,
        by_concurrency=settings.release.behaves("tokens_by_concurrency"),
    )


def _groups(settings: Settings, architecture: Architecture) -> tuple[int, int, int]:
    """Layers in a group, groups of full layers, groups of sliding layers."""
    full, sliding = architecture.layers_full, architecture.layers_sliding
    if not sliding or not settings.is_hybrid:
        return full + sliding, 1, 0
    if not full:
        return sliding, 0, 1
    small, large = sorted((full, sliding))
    size = large if large < small * _padding(settings.release) else small
    return size, _ceil(full, size), _ceil(sliding, size)


def _padding(release: Release) -> float:
    """How many times larger the one kind of layers may be for the other to be padded up to it."""
    if release.behaves("groups_padded_150"):
        return 1.5
    return 1.25 if release.behaves("groups_padded_125") else 1.0


def kv_capacity(spec: ServerSpec, architecture: Architecture, kv_gib: float, gpu: Facts | None = None) -> Capacity:
    """What that vLLM prints for this "Available KV cache memory". The GPU (of gpu_facts) only matters for the default
    of max_num_batched_tokens; without it, it is taken for a large one.

    Raises:
        VllmError: for settings that are no numbers, and for a kv_cache_dtype whose size is not known.
    """
    settings = settings_of(spec)
    tokens, _sequences = _batch(settings, _device(gpu, None) if gpu else None)
    cache = _cache(settings, architecture, tokens)
    if cache is None:
        raise VllmError(
            f"engine.kv_cache_dtype: the size of the KV cache is only known for auto, {', '.join(sorted(KV_BYTES))}, "
            "and with the same type in all layers."
        )
    return cache.capacity(kv_gib * GIB_MIB, settings.max_model_len or ASSUMED_MODEL_LEN)


# ---------------------------------------------------------------------------------------------------------------------
# The GPUs
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Device:
    """A GPU or a MIG device as vLLM sees it. Free includes what the servers hold that are about to stop."""

    name: str
    uuid: str
    total: float | None
    free: float | None
    is_unified: bool
    is_mig: bool
    has_small_batches: bool
    holders: str
    fault: str | None = None

    @property
    def where(self) -> str:
        if self.total is None or self.free is None:
            return f"{self.name} has an unknown amount of memory free"
        if self.is_unified:
            return (
                f"{self.name} shares the host's memory, of which {_gib(self.free)} of {_gib(self.total)} GiB are free"
            )
        return f"{self.name} has {_gib(self.free)} of {_gib(self.total)} GiB free"


def _gib(mib: float) -> str:
    return f"{mib / GIB_MIB:.1f}"


def _device(gpu: Facts, returning: t.Mapping[str, float] | None) -> _Device:
    back = float((returning or {}).get(str(gpu.get("uuid"))) or 0)
    total, free, used = (_float(gpu.get(f"memory_{key}_mib")) for key in ("total", "free", "used"))
    is_unified = gpu.get("memory_kind") == "unified"
    if not is_unified and total and free is not None and used is not None:
        # What the driver keeps for itself belongs to neither: CUDA's total is without it.
        total = min(total, free + used)
    name = "?" if gpu.get("index") is None else gpu["index"]
    return _Device(
        name=f"GPU {name}",
        uuid=str(gpu.get("uuid")),
        total=total,
        free=_with(free, back, total),
        is_unified=is_unified,
        is_mig=False,
        has_small_batches=has_small_batches(gpu.get("name"), gpu.get("hardware_class")),
        holders=_holders(gpu, bool(back)),
        fault=None if gpu.get("health") in ("ok", None) else str(gpu["health"]).replace("_", " "),
    )


def _with(free: float | None, back: float, total: float | None) -> float | None:
    """What is free once that much came back: never more than there is."""
    return None if free is None else min(free + back, free + back if total is None else total)


def _mig_devices(gpu: Facts, returning: t.Mapping[str, float] | None) -> dict[str, _Device]:
    whole = _device(gpu, None)
    found = {}
    for number, device in enumerate((gpu.get("mig") or {}).get("devices") or ()):
        uuid, total = str(device.get("uuid")), _float(device.get("memory_total_mib"))
        free = _with(_float(device.get("memory_free_mib")), float((returning or {}).get(uuid) or 0), total)
        name = f"{whole.name} MIG device {device.get('index', number)}"
        found[uuid] = replace(whole, name=name, uuid=uuid, total=total, free=free, is_mig=True, holders="")
    return found


def _holders(gpu: Facts, without_own: bool) -> str:
    """Who holds its memory, the largest three."""
    others = [p for p in gpu.get("processes") or () if not (without_own and p.get("managed"))]
    known = sorted((p for p in others if p.get("used_memory_mib")), key=lambda p: -int(p["used_memory_mib"]))
    return ", ".join(f"{_whose(p)} holds {_gib(p['used_memory_mib'])} GiB" for p in known[:3])


def _whose(process: Facts) -> str:
    user = process.get("user")
    if process.get("server"):
        owner = f" (server {process['server']})"
    elif process.get("container"):
        owner = f" (container {process['container']})"
    else:
        owner = "" if user is None else f" (uid {user})" if str(user).isdigit() else f" ({user})"
    return f"PID {process.get('pid')}{owner}"


def _chosen(spec: ServerSpec, facts: Facts, returning: t.Mapping[str, float] | None) -> list[_Device]:
    """The devices of the spec, in the order of their indices.

    Raises:
        VllmError: when it names one that the host does not have, or a GPU in MIG mode without a device.
    """
    wanted = None if isinstance(spec.gpus, str) else set(spec.gpus)
    chosen: list[_Device] = []
    gpus = facts.get("gpus") or ()
    for gpu in sorted(gpus, key=lambda one: (one.get("index") is None, one.get("index") or 0)):
        uuid, is_mig = str(gpu.get("uuid")), bool((gpu.get("mig") or {}).get("enabled"))
        devices = _mig_devices(gpu, returning) if is_mig else {uuid: _device(gpu, returning)}
        if is_mig and not devices and (wanted is None or uuid in wanted):
            raise VllmError(f"GPU {gpu.get('index')}: MIG is on, and no device is configured on it.")
        chosen += [d for key, d in devices.items() if wanted is None or key in wanted or uuid in wanted]
        wanted = None if wanted is None else wanted - {uuid, *devices}
    if wanted:
        have = ", ".join(str(gpu.get("uuid")) for gpu in gpus) or "none"
        raise VllmError(f"gpus: {', '.join(sorted(wanted))} is not on this host; it has {have}.")
    return chosen


def _batch(settings: Settings, device: _Device | None) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs, said or by default."""
    default = UNKNOWN_BATCH
    if device is not None and device.total is not None:
        release = settings.release
        default = default_batch(device.total, device.has_small_batches, device.is_unified, release.behaves)
    tokens = default.tokens
    if not settings.is_chunked:
        tokens = max(tokens, settings.max_model_len or ASSUMED_MODEL_LEN)
    return settings.batched_tokens or tokens, settings.sequences or default.sequences


# ---------------------------------------------------------------------------------------------------------------------
# The budget
# ---------------------------------------------------------------------------------------------------------------------

# As measured, with room on both sides: docs/memory.md lists what these have to contain.
WEIGHTS_SHARE = Range(0.96, 1.03)
# Split over GPUs, some layers are padded: gpt-oss-120b on two takes 1.07 times a half.
SPLIT_WEIGHTS_SHARE = Range(0.96, 1.08)
NON_TORCH = Range(80, 600)
SPLIT_NON_TORCH = Range(200, 1500)
GRAPHS = Range(80, 2048)
# The activation peak is that of a full batch, or that of sampling for max_num_seqs requests: MiB for each.
PER_TOKEN = Range(0.004, 0.4)
PER_SEQUENCE = Range(0.03, 4.6)
# Sampling sorted all logits in several copies: 7.4 GiB for 1024 requests with 0.11.0, where 0.26.0 takes 2.9.
PER_SEQUENCE_BEFORE_019 = Range(0.03, 9.6)
ACTIVATION_BASE = Range(64, 512)


@dataclass(frozen=True)
class _Case:
    """Everything that the verdict depends on."""

    settings: Settings
    architecture: Architecture | None
    measured: t.Mapping[str, float]
    devices: tuple[_Device, ...]
    reserve: float

    @property
    def used(self) -> tuple[_Device, ...]:
        return self.devices[: self.settings.local_gpus]

    def requested(self, device: _Device) -> float:
        """What vLLM wants to be free at its start, and budgets."""
        return math.ceil((device.total or 0) * MIB * self.settings.utilization) / MIB

    def cache(self, device: _Device) -> _Cache | None:
        if self.architecture is None:
            return None
        return _cache(self.settings, self.architecture, _batch(self.settings, device)[0])

    def weights(self) -> Range | None:
        if self.measured.get("weights_gib") is not None:
            return Range(*[self.measured["weights_gib"] * GIB_MIB] * 2)
        if self.architecture is None or self.architecture.weights_gib is None:
            return None
        share = SPLIT_WEIGHTS_SHARE if self.settings.tensor_parallel > 1 else WEIGHTS_SHARE
        split = self.settings.tensor_parallel * self.settings.pipeline_parallel
        whole = self.architecture.weights_gib * GIB_MIB / split
        offload = self.settings.offload_gib * GIB_MIB
        return Range(
            max(0.0, whole * share.low * self.settings.loaded_share - offload), max(0.0, whole * share.high - offload)
        )

    def activation(self, device: _Device) -> Range:
        tokens, sequences = _batch(self.settings, device)
        is_older = self.settings.release.version < (0, 19)
        each = PER_SEQUENCE_BEFORE_019 if is_older else PER_SEQUENCE
        peaks = (ACTIVATION_BASE[end] + max(tokens * PER_TOKEN[end], sequences * each[end]) for end in (0, 1))
        return self._measured("activation_gib", Range(*peaks))

    def non_torch(self) -> Range:
        is_split = self.settings.tensor_parallel * self.settings.pipeline_parallel > 1
        return self._measured("non_torch_gib", SPLIT_NON_TORCH if is_split else NON_TORCH)

    def graphs(self) -> Range:
        return self._measured("graphs_gib", GRAPHS) if self.settings.has_graphs else Range(0, 0)

    def _measured(self, key: str, otherwise: Range) -> Range:
        value = self.measured.get(key)
        return otherwise if value is None else Range(value * GIB_MIB, value * GIB_MIB)

    def besides_kv(self, device: _Device) -> Range | None:
        """What the budget has to hold besides the KV cache."""
        weights = self.weights()
        if weights is None:
            return None
        parts = [weights, self.activation(device), self.non_torch()]
        parts += [self.graphs()] if self.settings.counts_graphs else []
        return Range(sum(part.low for part in parts), sum(part.high for part in parts))

    def kv(self, device: _Device) -> Range | None:
        """The KV cache's share, which may be negative."""
        if self.settings.pinned_kv is not None:
            return Range(self.settings.pinned_kv / MIB, self.settings.pinned_kv / MIB)
        if self.measured.get("kv_gib") is not None:
            return Range(*[self.measured["kv_gib"] * GIB_MIB] * 2)
        besides = self.besides_kv(device)
        if besides is None or device.total is None:
            return None
        requested = self.requested(device)
        return Range(requested - besides.high, requested - besides.low)

    def taken(self, device: _Device) -> Range:
        """What the server holds of the device once it runs."""
        outside = Range(0, 0) if self.settings.counts_graphs else self.graphs()
        requested, besides = self.requested(device), self.besides_kv(device)
        if self.settings.pinned_kv is None or besides is None:
            return Range(requested, requested + outside.high)
        pinned = self.settings.pinned_kv / MIB
        return Range(besides.low + pinned, besides.high + pinned + outside.high)


# ---------------------------------------------------------------------------------------------------------------------
# The verdict
# ---------------------------------------------------------------------------------------------------------------------


# What vLLM would fail with, by the kind of a finding.
CAUSES = {"start": "mem-free-below-budget", "reserve": "mem-free-below-budget", "kv": "mem-kv-too-small"}


@dataclass(frozen=True)
class Fit:
    """The verdict: C(ok), C(tight) (it may fail) or C(refuse) (it would), with what led to it and what to change."""

    verdict: str
    kv_tokens_min: int | None = None
    kv_tokens_max: int | None = None
    budget_mib: int | None = None
    free_mib: int | None = None
    reasons: tuple[str, ...] = ()
    suggestions: t.Mapping[str, float] = field(default_factory=dict)
    # The diagnosis id that the start would fail with, when it is refused for want of memory.
    cause: str | None = None
    # Those of the reasons for which it is refused.
    refusals: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, t.Any]:
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("cause", "refusals")}
        return {**said, "reasons": list(self.reasons), "suggestions": dict(self.suggestions)}


@dataclass(frozen=True)
class _Finding:
    """One thing that was judged. The kind decides which remedy the sentence ends with."""

    verdict: str
    kind: str
    text: str
    missing: float = 0
    holders: str = ""


def fit(
    spec: ServerSpec,
    facts: Facts,
    architecture: Architecture | None = None,
    returning: t.Mapping[str, float] | None = None,
    measured: Measured | None = None,
    host_reserve_mib: float = 8192,
) -> Fit:
    """Whether the server would start on a host with these facts (gpu_facts), and with how much KV cache.

    C(returning) maps a GPU's uuid to the MiB that come back when the servers that this switch stops are gone.

    Raises:
        VllmError: for settings or measured values that are no numbers.
    """
    if spec.gpus == "none":
        return Fit("ok", reasons=("The server uses no GPU: there is no GPU memory to judge.",))
    settings, known = settings_of(spec), _known(measured)
    try:
        devices = _usable(spec, facts, returning)
    except VllmError as error:
        return Fit("refuse", reasons=(str(error),), refusals=(str(error),))
    case = _Case(settings, architecture, known, tuple(devices), float(host_reserve_mib))
    findings = _judge(case)
    return _told(case, findings, _suggest(case, findings))


def _known(measured: Measured | None) -> dict[str, float]:
    found = {}
    for key, value in (measured or {}).items():
        if key not in MEASURED_KEYS:
            raise VllmError(f"measured.{key} is not a key here; the keys are {', '.join(MEASURED_KEYS)}.")
        number = _float(value)
        if value is not None and number is None:
            raise VllmError(f"measured.{key}: {value!r} is not a number of GiB.")
        if number is not None:
            found[key] = number
    return found


def _usable(spec: ServerSpec, facts: Facts, returning: t.Mapping[str, float] | None) -> list[_Device]:
    """Raises:
    VllmError: when nothing can start on these GPUs, whatever their memory.
    """
    status, message = facts.get("status"), facts.get("message")
    if status != "ok" and not (status == "error" and facts.get("gpus")):
        raise VllmError(message or f"The GPUs of this host cannot be used (status {status}).")
    devices = _chosen(spec, facts, returning)
    faults = [f"{device.name} is not usable: {device.fault}." for device in devices if device.fault]
    if faults:
        raise VllmError(" ".join([*faults, *([message] if message else [])]))
    if not devices:
        raise VllmError(message or "The facts list no GPU.")
    return devices


def _worst(findings: t.Sequence[_Finding]) -> str:
    return max((finding.verdict for finding in findings), key=VERDICTS.index, default="ok")


def _judge(case: _Case) -> list[_Finding]:
    findings = list(_judge_count(case))
    if findings:
        return findings
    for device in case.used:
        findings += [*_judge_start(case, device), *_judge_unified(case, device), *_judge_pinned(case, device)]
    return findings + [*_judge_kv(case)]


def _judge_count(case: _Case) -> t.Iterator[_Finding]:
    settings, have = case.settings, len(case.devices)
    wanted = f"tensor_parallel_size {settings.tensor_parallel}"
    if settings.pipeline_parallel > 1:
        wanted += f" times pipeline_parallel_size {settings.pipeline_parallel}"
    if settings.local_gpus > 1 and any(device.is_mig for device in case.devices):
        yield _Finding("refuse", "count", f"{wanted} needs whole GPUs: a process uses one MIG device only")
    elif settings.local_gpus > have and not settings.may_span_hosts:
        yield _Finding("refuse", "count", f"{wanted} needs {settings.local_gpus} GPUs, and the server has {have}")


def _judge_start(case: _Case, device: _Device) -> t.Iterator[_Finding]:
    if device.total is None or device.free is None:
        yield _Finding("tight", "unknown", f"{device.where}, so nobody can tell whether vLLM starts")
        return
    requested = case.requested(device)
    missing = requested + CONTEXT_MIB - device.free
    text = f"{device.where}, and {_asks(case.settings)} asks for {_gib(requested)}"
    if device.free < requested:
        yield _Finding("refuse", "start", text, missing, device.holders)
    elif missing > 0:
        text += ", and its own start takes about half a GiB"
        yield _Finding("tight", "start", text, missing, device.holders)


def _asks(settings: Settings) -> str:
    default = " (the default)" if settings.is_default_utilization else ""
    return f"gpu_memory_utilization {settings.utilization:g}{default}"


def _judge_unified(case: _Case, device: _Device) -> t.Iterator[_Finding]:
    """Memory that the host needs too: when it runs out, the host freezes, not only the server."""
    if not device.is_unified or device.free is None or device.free < case.requested(device):
        return
    if case.settings.release.lacks("unified_available"):
        yield _Finding(
            "tight",
            "cache",
            f"vLLM {case.settings.release.text} counts the page cache as used memory, and these facts count it as free",
        )
    taken = case.taken(device)
    if device.free - taken.high < case.reserve:
        is_certain = device.free - taken.low < case.reserve
        left = max(0.0, device.free - (taken.low if is_certain else taken.high))
        text = f"{device.where}; the server leaves {_gib(left)} of it, and the host needs {_gib(case.reserve)}"
        missing = taken.high + case.reserve - device.free
        yield _Finding("refuse" if is_certain else "tight", "reserve", text, missing, device.holders)


def _judge_pinned(case: _Case, device: _Device) -> t.Iterator[_Finding]:
    """vLLM does not check a pinned KV cache against what is free: it runs out of memory."""
    besides = case.besides_kv(device)
    if case.settings.pinned_kv is None or besides is None or device.free is None:
        return
    taken = case.taken(device)
    if device.free < taken.high:
        verdict = "refuse" if device.free < taken.low else "tight"
        text = f"{device.where}, and kv_cache_memory_bytes with all else takes {_gib(taken.low)} to {_gib(taken.high)}"
        yield _Finding(verdict, "pinned", text, taken.high - device.free, device.holders)


def _judge_kv(case: _Case) -> t.Iterator[_Finding]:
    budget, cache = _budget(case), _smallest_cache(case)
    if budget is None or cache is None:
        yield _Finding("ok", "told", _unknown(case))
        return
    settings = case.settings
    length = 1 if settings.is_auto_length else settings.max_model_len or ASSUMED_MODEL_LEN
    need = cache.blocks_per_request(length)
    low, high = cache.blocks(budget.low), cache.blocks(budget.high)
    text = _kv_text(case, budget, cache)
    if low >= need:
        yield _Finding("ok", "told", text)
    elif high >= need or (settings.max_model_len is None and high > 0):
        yield _Finding("tight", "kv", text)
    else:
        yield _Finding("refuse", "kv", text)


def _kv_text(case: _Case, budget: Range, cache: _Cache) -> str:
    settings = case.settings
    low, high = (_gib(max(0.0, end)) for end in budget)
    left = f"{low} GiB are" if low == high else f"{low} to {high} GiB are"
    text = f"{left} left for the KV cache"
    weights = case.weights()
    if weights is not None and settings.pinned_kv is None:
        text += f" besides {_gib(weights.high)} GiB of weights on each GPU" if weights.high else ""
    if settings.is_auto_length:
        return f"{text}, and max_model_len becomes what fits"
    need = _gib(cache.needed_mib(settings.max_model_len or ASSUMED_MODEL_LEN))
    if settings.max_model_len is None:
        return f"{text}; max_model_len is not set, and {ASSUMED_MODEL_LEN} would need {need}"
    return f"{text}, and one request of max_model_len {settings.max_model_len} needs {need}"


def _unknown(case: _Case) -> str:
    if case.architecture is None:
        return "The model's architecture is not known, so only the free memory was judged, not the KV cache"
    if case.settings.value_bytes is None:
        return "The size of a value is not known for this kv_cache_dtype, so only the free memory was judged"
    return "The size of the model's weights is not known, so only the free memory was judged, not the KV cache"


def _budget(case: _Case) -> Range | None:
    """The KV cache of the GPU that has the least room for it."""
    budgets = [case.kv(device) for device in case.used]
    known = [budget for budget in budgets if budget is not None]
    if len(known) < len(budgets) or not known:
        return None
    return Range(min(budget.low for budget in known), min(budget.high for budget in known))


def _smallest_cache(case: _Case) -> _Cache | None:
    caches = [cache for cache in map(case.cache, case.used) if cache is not None]
    return min(caches, key=lambda cache: -cache.reach, default=None)


# ---------------------------------------------------------------------------------------------------------------------
# What to change
# ---------------------------------------------------------------------------------------------------------------------


def _suggest(case: _Case, findings: t.Sequence[_Finding]) -> dict[str, float]:
    """The fewest changes with which it fits better, all of them together; nothing when none helps."""
    verdict = _worst(findings)
    kinds = {finding.kind for finding in findings if finding.verdict == verdict}
    if verdict == "ok" or not kinds & {"start", "reserve", "kv", "count", "pinned"}:
        return {}
    case = replace(case, measured={k: v for k, v in case.measured.items() if k != "kv_gib"})
    first = _fewer_gpus if "count" in kinds else _smaller_pin if "pinned" in kinds else _utilization_that_fits
    offers = [step(case) for step in (first, _length_that_fits, _more_gpus)]
    best = min((offer for offer in offers if offer), key=lambda offer: _rank(case, offer), default={})
    if _rank(case, best) == VERDICTS.index("refuse"):
        best = _utilization_and_length(case)
    return best if _rank(case, best) < _rank(case, {}) else {}


def _rank(case: _Case, changes: t.Mapping[str, float]) -> int:
    """How bad the verdict is with these changes, less what no setting changes."""
    findings = [finding for finding in _judge(_changed(case, changes)) if finding.kind not in ("cache", "unknown")]
    return VERDICTS.index(_worst(findings))


def _changed(case: _Case, changes: t.Mapping[str, float]) -> _Case:
    settings = case.settings
    if "gpu_memory_utilization" in changes:
        settings = replace(settings, utilization=changes["gpu_memory_utilization"], is_default_utilization=False)
    if "max_model_len" in changes:
        settings = replace(settings, max_model_len=int(changes["max_model_len"]), is_auto_length=False)
    if "kv_cache_memory_bytes" in changes:
        settings = replace(settings, pinned_kv=int(changes["kv_cache_memory_bytes"]))
    if "tensor_parallel_size" in changes:
        tensor = int(changes["tensor_parallel_size"])
        gpus = max(1, settings.local_gpus * tensor // settings.tensor_parallel)
        settings = replace(settings, tensor_parallel=tensor, local_gpus=gpus)
    return replace(case, settings=settings)


def _best(case: _Case, offers: t.Iterable[dict[str, float]]) -> dict[str, float]:
    """The first of the offers with the mildest verdict; nothing when all are refused."""
    judged = [(_rank(case, offer), offer) for offer in offers]
    rank, offer = min(judged, default=(2, {}), key=lambda one: one[0])
    return offer if rank < VERDICTS.index("refuse") else {}


def _utilization_that_fits(case: _Case) -> dict[str, float]:
    now = case.settings.utilization
    shares = [n / 100 for n in range(1, round(HIGHEST_UTILIZATION * 100) + 1)]
    near = sorted((share for share in shares if share != now), key=lambda share: abs(share - now))
    return _best(case, ({"gpu_memory_utilization": share} for share in near))


def _length_that_fits(case: _Case) -> dict[str, float]:
    budget, cache = _budget(case), _smallest_cache(case)
    if budget is None or cache is None:
        return {}
    lengths = [cache.longest(budget.low), cache.longest(budget.high)]
    now = case.settings.max_model_len
    return _best(case, ({"max_model_len": n} for n in lengths if n and (now is None or n < now)))


def _utilization_and_length(case: _Case) -> dict[str, float]:
    """The most memory that the start is given, and the length that fits into it."""
    blind = replace(case, architecture=None)
    share = _utilization_that_fits(blind)
    length = _length_that_fits(_changed(case, share)) if share else {}
    return {**share, **length} if length else {}


def _more_gpus(case: _Case) -> dict[str, float]:
    now = case.settings.tensor_parallel
    return _best(case, ({"tensor_parallel_size": n} for n in _powers(case) if n > now))


def _fewer_gpus(case: _Case) -> dict[str, float]:
    now = case.settings.tensor_parallel
    return _best(case, ({"tensor_parallel_size": n} for n in reversed(_powers(case)) if n < now))


def _powers(case: _Case) -> list[int]:
    """What the GPUs of the server can be split into: heads are divisible by powers of two."""
    return [n for n in (1, 2, 4, 8, 16) if n <= max(1, len(case.devices))]


def _smaller_pin(case: _Case) -> dict[str, float]:
    rooms = [
        device.free - case.taken(device).high - (case.reserve if device.is_unified else 0)
        for device in case.used
        if device.free is not None
    ]
    pinned = (case.settings.pinned_kv or 0) / MIB + min(rooms, default=0.0)
    return {"kv_cache_memory_bytes": int(pinned) * MIB} if pinned >= 1 else {}


# ---------------------------------------------------------------------------------------------------------------------
# What is said
# ---------------------------------------------------------------------------------------------------------------------


def _told(case: _Case, findings: t.Sequence[_Finding], suggestions: dict[str, float]) -> Fit:
    budget, cache = _budget(case), _smallest_cache(case)
    tokens: tuple[int | None, int | None] = (None, None)
    if budget is not None and cache is not None:
        length = case.settings.max_model_len or ASSUMED_MODEL_LEN
        tokens = (cache.capacity(budget.low, length).tokens, cache.capacity(budget.high, length).tokens)
    free = [device.free for device in case.used if device.free is not None]
    return Fit(
        verdict=_worst(findings),
        kv_tokens_min=tokens[0],
        kv_tokens_max=tokens[1],
        budget_mib=None if budget is None else max(0, int(budget.low)),
        free_mib=int(min(free)) if len(free) == len(case.used) else None,
        reasons=tuple(_sentence(case, finding, suggestions) for finding in findings),
        suggestions=suggestions,
        refusals=tuple(_sentence(case, one, suggestions) for one in findings if one.verdict == "refuse"),
        cause=next((CAUSES[one.kind] for one in findings if one.verdict == "refuse" and one.kind in CAUSES), None),
    )


def _sentence(case: _Case, finding: _Finding, suggestions: t.Mapping[str, float]) -> str:
    if finding.kind == "cache":
        return f"{finding.text}: drop it before the start (sync; echo 3 > /proc/sys/vm/drop_caches)."
    if finding.kind in ("told", "unknown"):
        return f"{finding.text}."
    ways = [" and ".join(_change(case, key, value) for key, value in suggestions.items())] if suggestions else []
    if finding.kind == "start" and list(suggestions) == ["gpu_memory_utilization"]:
        ways = [f"lower it to {suggestions['gpu_memory_utilization']:g}"]
    if finding.kind in ("start", "reserve", "pinned"):
        more = f"free {_gib(finding.missing)} GiB more"
        ways += _elsewhere(case)
        ways.append(f"free the GPU: {finding.holders}" if finding.holders else more)
    elif not ways:
        ways = [
            "name other GPUs in gpus" if finding.kind == "count" else "take larger GPUs, more of them, or less model"
        ]
    return f"{finding.text}: {', or '.join(ways)}."


def _elsewhere(case: _Case) -> list[str]:
    """The GPU that a server of one GPU would start on, among those it may use."""
    for device in case.devices[1:] if case.settings.local_gpus == 1 else ():
        if device.free is not None and device.total and device.free >= case.requested(device) + CONTEXT_MIB:
            return [f"name {device.name} ({device.uuid}) in gpus, which has {_gib(device.free)} GiB free"]
    return []


def _change(case: _Case, key: str, value: float) -> str:
    if key == "gpu_memory_utilization":
        return f"{'raise' if value > case.settings.utilization else 'lower'} {key} to {value:g}"
    return f"set {key} to {int(value)}"
