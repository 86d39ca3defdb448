# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the GPUs of a host have, and what a server takes of each, up to what is left for the KV cache.

Pure. vLLM's own arithmetic where it is one (start condition, KV blocks), ranges where only a start tells (weights as
loaded, activation peak, CUDA graphs). Memory is in MiB unless a name says otherwise; docs/memory.md explains it.
"""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass, replace

from .._errors import VllmError
from .._gpu.batches import UNKNOWN_BATCH, default_batch, has_small_batches
from .._gpu.selection import absent
from .._gpu.tenants import GIB_MIB, holders
from .._vllm.architecture import Architecture, finite
from .kv_cache import MIB, Cache, Capacity, cache_of, drafts_unknown
from .memory_settings import ASSUMED_MODEL_LEN, KV_BYTES, Settings, settings_of
from .spec import ServerSpec

Facts = t.Mapping[str, t.Any]
# vLLM looks at the free memory after its own CUDA context is there: 0.51 GiB on an H200.
CONTEXT_MIB = 768


class Range(t.NamedTuple):
    """What is needed or left at least and at most, in MiB."""

    low: float
    high: float


# ---------------------------------------------------------------------------------------------------------------------
# The GPUs
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Device:
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


def device_of(gpu: Facts, returning: t.Mapping[str, float] | None) -> Device:
    """A GPU of the facts, with the MiB that come back to it when others stop."""
    back = float((returning or {}).get(str(gpu.get("uuid"))) or 0)
    total, free, used = (finite(gpu.get(f"memory_{key}_mib")) for key in ("total", "free", "used"))
    is_unified = gpu.get("memory_kind") == "unified"
    if not is_unified and total and free is not None and used is not None:
        # What the driver keeps for itself belongs to neither: CUDA's total is without it.
        total = min(total, free + used)
    name = "?" if gpu.get("index") is None else gpu["index"]
    return Device(
        name=f"GPU {name}",
        uuid=str(gpu.get("uuid")),
        total=total,
        free=_with(free, back, total),
        is_unified=is_unified,
        is_mig=False,
        has_small_batches=has_small_batches(gpu.get("name"), gpu.get("hardware_class")),
        holders=_holders(gpu, bool(back)),
        fault=None if gpu.get("health") in ("ok", None) else str(gpu["health"]),
    )


def _with(free: float | None, back: float, total: float | None) -> float | None:
    """What is free once that much came back: never more than there is, nor less than nothing."""
    return None if free is None else max(0.0, min(free + back, free + back if total is None else total))


def _mig_devices(gpu: Facts, returning: t.Mapping[str, float] | None) -> dict[str, Device]:
    whole = device_of(gpu, None)
    found = {}
    for number, device in enumerate((gpu.get("mig") or {}).get("devices") or ()):
        uuid, total = str(device.get("uuid")), finite(device.get("memory_total_mib"))
        free = _with(finite(device.get("memory_free_mib")), float((returning or {}).get(uuid) or 0), total)
        name = f"{whole.name} MIG device {device.get('index', number)}"
        found[uuid] = replace(whole, name=name, uuid=uuid, total=total, free=free, is_mig=True, holders="")
    return found


def _holders(gpu: Facts, without_own: bool) -> str:
    """Who holds its memory, the largest three."""
    others = [p for p in gpu.get("processes") or () if not (without_own and p.get("managed"))]
    return holders([p for p in others if p.get("used_memory_mib")], most=3)


def chosen(spec: ServerSpec, facts: Facts, returning: t.Mapping[str, float] | None) -> list[Device]:
    """The devices of the spec, in the order of their indices.

    Raises:
        VllmError: when it names one that the host does not have, or a GPU in MIG mode without a device.
    """
    wanted = None if isinstance(spec.gpus, str) else set(spec.gpus)
    chosen: list[Device] = []
    gpus = facts.get("gpus") or ()
    for gpu in sorted(gpus, key=lambda one: (one.get("index") is None, one.get("index") or 0)):
        uuid, is_mig = str(gpu.get("uuid")), bool((gpu.get("mig") or {}).get("enabled"))
        devices = _mig_devices(gpu, returning) if is_mig else {uuid: device_of(gpu, returning)}
        if is_mig and not devices and (wanted is None or uuid in wanted):
            sentence = f"GPU {gpu.get('index')} cannot be used: MIG is on, and no device is configured on it."
            raise VllmError(sentence, "no-free-gpu")
        index = str(gpu.get("index"))
        names = {key: {key, uuid, index, f"{index}:{number}"} for number, key in enumerate(devices)}
        chosen += [d for key, d in devices.items() if wanted is None or names[key] & wanted]
        wanted = None if wanted is None else wanted - {uuid, index}.union(*names.values())
    if wanted:
        raise VllmError(absent(wanted, gpus), "no-free-gpu")
    return chosen


def _batch(settings: Settings, device: Device | None, architecture: Architecture | None) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs, set or by default."""
    release, default = settings.release, UNKNOWN_BATCH
    if device is not None and device.total is not None:
        default = default_batch(device.total, device.has_small_batches, device.is_unified, release.behaves)
    times = 2 if settings.has_large_batches else 1
    sequences, tokens = settings.sequences or default.sequences * times, default.tokens * times
    if not settings.is_chunked:
        tokens = max(tokens, settings.max_model_len or ASSUMED_MODEL_LEN)
    if architecture is not None and release.behaves("items_at_once"):
        tokens = max(tokens, architecture.item_tokens)
    tokens = min(tokens, sequences * (settings.max_model_len or ASSUMED_MODEL_LEN))
    return settings.batched_tokens or tokens, sequences


def kv_capacity(spec: ServerSpec, architecture: Architecture, kv_gib: float, gpu: Facts | None = None) -> Capacity:
    """What that vLLM prints for this "Available KV cache memory". The GPU (of gpu_facts) only matters for the default
    of max_num_batched_tokens; without it, it is taken for a large one.

    Raises:
        VllmError: for settings that are no numbers, for a kv_cache_dtype whose size is not known, and for a model of
            which only the weights are.
    """
    settings = settings_of(spec)
    tokens, _sequences = _batch(settings, device_of(gpu, None) if gpu else None, architecture)
    cache = cache_of(settings, architecture, tokens)
    if not architecture.has_layers:
        raise VllmError("architecture.layers_full is missing: the size of the weights says nothing about the KV cache.")
    if cache is None and drafts_unknown(settings, architecture):
        raise VllmError("engine.speculative_config names a draft model: what its layers keep is not known.")
    if cache is None:
        known = "fp8" if architecture.is_compressed else f"auto, {', '.join(sorted(KV_BYTES))}, the same in all layers"
        raise VllmError(f"engine.kv_cache_dtype must be {known}: the size of the KV cache is not known for others.")
    return cache.capacity(kv_gib * GIB_MIB, settings.max_model_len or ASSUMED_MODEL_LEN)


# ---------------------------------------------------------------------------------------------------------------------
# The budget
# ---------------------------------------------------------------------------------------------------------------------

# As measured, with room on both sides: docs/memory.md lists what these have to contain.
WEIGHTS_SHARE = Range(0.96, 1.03)
# Split over GPUs, some layers are padded: gpt-oss-120b on two takes 1.07 times a half.
SPLIT_WEIGHTS_SHARE = Range(0.96, 1.08)
# The ranks of data parallel share the experts of a mixture, each whole with expert parallel and cut up without. What is
# no expert (attention, embeddings, shared experts) is whole on each: a share of the weights, and at most so many GiB
# more. It is 3.4 of 13.5 GiB in gpt-oss-20b, 17 of 641 in DeepSeek-V3.
COMMON_SHARE, COMMON_GIB = Range(0.015, 0.06), 3
NON_TORCH = Range(80, 600)
SPLIT_NON_TORCH = Range(200, 1500)
GRAPHS = Range(80, 2048)
# The allocator of sleep mode holds memory that the profile does not see: it printed -3.51 GiB of non-torch memory, and
# the process held 4.7 GiB more than its budget.
SLEEP_MODE = Range(0, 5120)
# The activation peak is that of a full batch, or that of sampling for max_num_seqs requests: MiB for each.
PER_TOKEN = Range(0.004, 0.4)
PER_SEQUENCE = Range(0.03, 4.6)
# Sampling sorted all logits in several copies: 7.4 GiB for 1024 requests with 0.11.0, where 0.26.0 takes 2.9.
PER_SEQUENCE_BEFORE_019 = Range(0.03, 9.6)
ACTIVATION_BASE = Range(64, 512)


@dataclass(frozen=True)
class Case:
    """Everything that the verdict depends on."""

    settings: Settings
    architecture: Architecture | None
    measured: t.Mapping[str, float]
    devices: tuple[Device, ...]
    reserve: float

    @property
    def used(self) -> tuple[Device, ...]:
        """Those of the devices that the server takes."""
        return self.devices[: self.settings.local_gpus]

    def requested(self, device: Device) -> float:
        """What vLLM wants to be free at its start, and budgets."""
        return math.ceil((device.total or 0) * MIB * self.settings.utilization) / MIB

    def cache(self, device: Device) -> Cache | None:
        """Its KV cache on a device; None when that is not known."""
        if self.architecture is None:
            return None
        return cache_of(self.settings, self.architecture, _batch(self.settings, device, self.architecture)[0])

    def weights(self) -> Range | None:
        """The weights on each GPU; None when their size is not known."""
        measured = self._measured("weights_gib")
        if measured or self.architecture is None or self.architecture.weights_gib is None:
            return measured
        share = SPLIT_WEIGHTS_SHARE if self.settings.tensor_parallel > 1 else WEIGHTS_SHARE
        part = self._part(self.architecture.weights_gib)
        offload = self.settings.offload_gib * GIB_MIB
        return Range(
            max(0.0, part.low * share.low * self.settings.loaded_share - offload),
            max(0.0, part.high * share.high - offload),
        )

    def _part(self, weights_gib: float) -> Range:
        """What one GPU has of the weights: experts are spread over all ranks, all else is whole on each of data
        parallel. Where nobody knows whether there are experts, it may be the one or the other."""
        settings = self.settings
        whole = weights_gib * GIB_MIB / settings.tensor_parallel * self._largest_stage()
        spreads = self._spreads()
        if spreads is False:
            return Range(whole, whole)
        most = min(1.0, COMMON_SHARE.high + COMMON_GIB / weights_gib)
        shares = (COMMON_SHARE.low, max(COMMON_SHARE.low, most) if spreads else 1.0)
        return Range(*[whole * (share + (1 - share) / settings.data_parallel) for share in shares])

    def _spreads(self) -> bool | None:
        """Whether ranks of data parallel share experts, with expert parallel or without; None where nobody knows."""
        if self.settings.data_parallel == 1:
            return False
        is_mixture = self.architecture.is_mixture if self.architecture else None
        return True if self.settings.asks_for_experts else is_mixture

    def _largest_stage(self) -> float:
        """The share of the layers that the GPUs of the longest stage of the pipeline have."""
        layers = self.architecture.layers if self.architecture else 0
        if not layers:
            return 1 / self.settings.pipeline_parallel
        return self.settings.on_a_stage(layers) / layers

    def activation(self, device: Device) -> Range:
        """The peak of a full batch, or of sampling."""
        tokens, sequences = _batch(self.settings, device, self.architecture)
        is_older = self.settings.release.version < (0, 19)
        each = PER_SEQUENCE_BEFORE_019 if is_older else PER_SEQUENCE
        peaks = (ACTIVATION_BASE[end] + max(tokens * PER_TOKEN[end], sequences * each[end]) for end in (0, 1))
        return self._measured("activation_gib") or Range(*peaks)

    def non_torch(self) -> Range:
        """What is held outside of PyTorch."""
        settings = self.settings
        spreads = self._spreads()
        is_split = settings.tensor_parallel * settings.pipeline_parallel > 1 or spreads
        low, high = (SPLIT_NON_TORCH if one else NON_TORCH for one in (is_split, is_split or spreads is None))
        usual = Range(low.low, high.high)
        hidden = SLEEP_MODE.high if settings.has_sleep_mode else 0
        return self._measured("non_torch_gib") or Range(usual.low - hidden, usual.high)

    def graphs(self) -> Range:
        """The CUDA graphs."""
        return (self._measured("graphs_gib") or GRAPHS) if self.settings.has_graphs else Range(0, 0)

    def _measured(self, key: str) -> Range | None:
        value = self.measured.get(key)
        return None if value is None else Range(value * GIB_MIB, value * GIB_MIB)

    def besides_kv(self, device: Device) -> Range | None:
        """What the budget has to hold besides the KV cache."""
        weights = self.weights()
        if weights is None:
            return None
        parts = [weights, self.activation(device), self.non_torch()]
        parts += [self.graphs()] if self.settings.counts_graphs else []
        return Range(sum(part.low for part in parts), sum(part.high for part in parts))

    def kv(self, device: Device) -> Range | None:
        """The KV cache's share, which may be negative."""
        if self.settings.pinned_kv is not None:
            return Range(self.settings.pinned_kv / MIB, self.settings.pinned_kv / MIB)
        measured, besides = self._measured("kv_gib"), self.besides_kv(device)
        if measured or besides is None or device.total is None:
            return measured
        requested = self.requested(device)
        return Range(requested - besides.high, requested - besides.low)

    def taken(self, device: Device) -> Range:
        """What the server holds of the device once it runs."""
        outside = Range(0, 0) if self.settings.counts_graphs else self.graphs()
        if self.settings.has_sleep_mode:
            outside = Range(outside.low, outside.high + SLEEP_MODE.high)
        requested, besides = self.requested(device), self.besides_kv(device)
        if self.settings.pinned_kv is None or besides is None:
            return Range(requested, requested + outside.high)
        pinned = self.settings.pinned_kv / MIB
        return Range(besides.low + pinned, besides.high + pinned + outside.high)


def takes(spec: ServerSpec, architecture: Architecture | None, facts: Facts) -> dict[str, float]:
    """What a server takes of each of its GPUs once it runs, in MiB by uuid; nothing of GPUs that nobody knows."""
    if spec.gpus == "none":
        return {}
    try:
        case = Case(settings_of(spec), architecture, {}, tuple(chosen(spec, facts, None)), 0.0)
    except VllmError:
        return {}
    found: dict[str, float] = {}
    for device in case.used:
        # vLLM keeps no cache for an encoder, whatever its utilization.
        is_encoder = architecture is not None and architecture.is_encoder
        besides = case.besides_kv(device) if is_encoder else None
        found[device.uuid] = besides.low if besides else case.taken(device).low
    return found


def budget_of(case: Case) -> Range | None:
    """The KV cache of the GPU that has the least room for it."""
    budgets = [case.kv(device) for device in case.used]
    known = [budget for budget in budgets if budget is not None]
    if len(known) < len(budgets) or not known:
        return None
    return Range(min(budget.low for budget in known), min(budget.high for budget in known))


def smallest_cache(case: Case) -> Cache | None:
    """Of the KV caches of all GPUs that of the shortest reach; None where none is known."""
    caches = [cache for cache in map(case.cache, case.used) if cache is not None]
    return min(caches, key=lambda cache: -cache.reach, default=None)
