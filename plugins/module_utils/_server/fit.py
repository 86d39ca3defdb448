# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Will a server start on these GPUs, how many tokens does its KV cache hold, and what to change if it does not fit.

Pure. vLLM's own arithmetic where it is one (start condition, KV blocks), ranges where only a start tells (weights as
loaded, activation peak, CUDA graphs). Memory is in MiB unless a name says otherwise; docs/memory.md explains it.
"""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass, field, fields, replace

from .._errors import VllmError
from .._gpu.batches import UNKNOWN_BATCH, default_batch, has_small_batches
from .._gpu.tenants import GIB_MIB, gib, holders
from .._vllm.architecture import Architecture, finite
from .kv_cache import MIB, Cache, Capacity, cache_of
from .memory_settings import ASSUMED_MODEL_LEN, KV_BYTES, Settings, settings_of
from .spec import ServerSpec

Facts = t.Mapping[str, t.Any]
# What vLLM printed at an earlier start with the same settings: weights_gib, activation_gib, non_torch_gib, graphs_gib
# (the estimate), kv_gib; any of them may be absent or None.
Measured = t.Mapping[str, t.Optional[float]]

MEASURED_KEYS = ("weights_gib", "activation_gib", "non_torch_gib", "graphs_gib", "kv_gib")
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


def _device(gpu: Facts, returning: t.Mapping[str, float] | None) -> _Device:
    back = float((returning or {}).get(str(gpu.get("uuid"))) or 0)
    total, free, used = (finite(gpu.get(f"memory_{key}_mib")) for key in ("total", "free", "used"))
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
        fault=None if gpu.get("health") in ("ok", None) else str(gpu["health"]),
    )


def _with(free: float | None, back: float, total: float | None) -> float | None:
    """What is free once that much came back: never more than there is."""
    return None if free is None else min(free + back, free + back if total is None else total)


def _mig_devices(gpu: Facts, returning: t.Mapping[str, float] | None) -> dict[str, _Device]:
    whole = _device(gpu, None)
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
            sentence = f"GPU {gpu.get('index')} cannot be used: MIG is on, and no device is configured on it."
            raise VllmError(sentence, "no-free-gpu")
        index = str(gpu.get("index"))
        names = {key: {key, uuid, index, f"{index}:{number}"} for number, key in enumerate(devices)}
        chosen += [d for key, d in devices.items() if wanted is None or names[key] & wanted]
        wanted = None if wanted is None else wanted - {uuid, index}.union(*names.values())
    if wanted:
        have = ", ".join(f"{gpu.get('index')} ({gpu.get('uuid')})" for gpu in gpus) or "none"
        raise VllmError(f"gpus: {', '.join(sorted(wanted))} is not on this host; it has {have}.", "no-free-gpu")
    return chosen


def _batch(settings: Settings, device: _Device | None) -> tuple[int, int]:
    """max_num_batched_tokens and max_num_seqs, set or by default."""
    default = UNKNOWN_BATCH
    if device is not None and device.total is not None:
        release = settings.release
        default = default_batch(device.total, device.has_small_batches, device.is_unified, release.behaves)
    tokens = default.tokens
    if not settings.is_chunked:
        tokens = max(tokens, settings.max_model_len or ASSUMED_MODEL_LEN)
    return settings.batched_tokens or tokens, settings.sequences or default.sequences


def kv_capacity(spec: ServerSpec, architecture: Architecture, kv_gib: float, gpu: Facts | None = None) -> Capacity:
    """What that vLLM prints for this "Available KV cache memory". The GPU (of gpu_facts) only matters for the default
    of max_num_batched_tokens; without it, it is taken for a large one.

    Raises:
        VllmError: for settings that are no numbers, for a kv_cache_dtype whose size is not known, and for a model of
            which only the weights are.
    """
    settings = settings_of(spec)
    tokens, _sequences = _batch(settings, _device(gpu, None) if gpu else None)
    cache = cache_of(settings, architecture, tokens)
    if not architecture.has_layers:
        raise VllmError("architecture.layers_full is missing: the size of the weights says nothing about the KV cache.")
    if cache is None:
        raise VllmError(
            f"engine.kv_cache_dtype must be auto, {', '.join(sorted(KV_BYTES))}, the same in all layers: the size of "
            "the KV cache is not known for others."
        )
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
class _Case:
    """Everything that the verdict depends on."""

    settings: Settings
    architecture: Architecture | None
    measured: t.Mapping[str, float]
    devices: tuple[_Device, ...]
    reserve: float

    @property
    def used(self) -> tuple[_Device, ...]:
        """Those of the devices that the server takes."""
        return self.devices[: self.settings.local_gpus]

    def requested(self, device: _Device) -> float:
        """What vLLM wants to be free at its start, and budgets."""
        return math.ceil((device.total or 0) * MIB * self.settings.utilization) / MIB

    def cache(self, device: _Device) -> Cache | None:
        """Its KV cache on a device; None when that is not known."""
        if self.architecture is None:
            return None
        return cache_of(self.settings, self.architecture, _batch(self.settings, device)[0])

    def weights(self) -> Range | None:
        """The weights on each GPU; None when their size is not known."""
        if self.measured.get("weights_gib") is not None:
            return Range(*[self.measured["weights_gib"] * GIB_MIB] * 2)
        if self.architecture is None or self.architecture.weights_gib is None:
            return None
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

    def activation(self, device: _Device) -> Range:
        """The peak of a full batch, or of sampling."""
        tokens, sequences = _batch(self.settings, device)
        is_older = self.settings.release.version < (0, 19)
        each = PER_SEQUENCE_BEFORE_019 if is_older else PER_SEQUENCE
        peaks = (ACTIVATION_BASE[end] + max(tokens * PER_TOKEN[end], sequences * each[end]) for end in (0, 1))
        return self._measured("activation_gib", Range(*peaks))

    def non_torch(self) -> Range:
        """What is held outside of PyTorch."""
        settings = self.settings
        spreads = self._spreads()
        is_split = settings.tensor_parallel * settings.pipeline_parallel > 1 or spreads
        low, high = (SPLIT_NON_TORCH if one else NON_TORCH for one in (is_split, is_split or spreads is None))
        usual = Range(low.low, high.high)
        hidden = SLEEP_MODE.high if settings.has_sleep_mode else 0
        return self._measured("non_torch_gib", Range(usual.low - hidden, usual.high))

    def graphs(self) -> Range:
        """The CUDA graphs."""
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
        if self.settings.has_sleep_mode:
            outside = Range(outside.low, outside.high + SLEEP_MODE.high)
        requested, besides = self.requested(device), self.besides_kv(device)
        if self.settings.pinned_kv is None or besides is None:
            return Range(requested, requested + outside.high)
        pinned = self.settings.pinned_kv / MIB
        return Range(besides.low + pinned, besides.high + pinned + outside.high)


# ---------------------------------------------------------------------------------------------------------------------
# The verdict
# ---------------------------------------------------------------------------------------------------------------------


# What vLLM would fail with, by the kind of a finding.
CAUSES = {
    "start": "mem-free-below-budget",
    "reserve": "mem-free-below-budget",
    "kv": "mem-kv-too-small",
    "too-large": "mem-no-cache-blocks",
    "weights": "mem-no-cache-blocks",
}


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
        """As results have it."""
        result = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("cause", "refusals")}
        return {**result, "reasons": list(self.reasons), "suggestions": dict(self.suggestions)}


@dataclass(frozen=True)
class _Finding:
    """One thing that was judged. With the case it holds everything that its sentence says."""

    verdict: str
    kind: str
    device: _Device | None = None
    # What has to become free for it to be fine, in MiB.
    missing: float = 0


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
    return _fit(case, findings, _suggest(case, findings))


def _known(measured: Measured | None) -> dict[str, float]:
    found = {}
    for key, value in (measured or {}).items():
        if key not in MEASURED_KEYS:
            raise VllmError(f"Unknown key 'measured.{key}'. Valid keys: {', '.join(MEASURED_KEYS)}.")
        number = finite(value)
        if value is not None and number is None:
            raise VllmError(f"measured.{key} must be a number of GiB; got {value!r}.")
        if number is not None:
            found[key] = number
    return found


def _usable(spec: ServerSpec, facts: Facts, returning: t.Mapping[str, float] | None) -> list[_Device]:
    """Raises:
    VllmError: when nothing can start on these GPUs, whatever their memory.
    """
    status, message = facts.get("status"), facts.get("message")
    if status != "ok" and not (status == "error" and facts.get("gpus")):
        raise VllmError(message or f"The GPUs of this host cannot be used (status {status}).", "no-free-gpu")
    devices = _chosen(spec, facts, returning)
    faults = [f"{device.name} cannot be used: {_in_words(device.fault)}." for device in devices if device.fault]
    if faults:
        raise VllmError(" ".join([*faults, *([message] if message else [])]), "no-free-gpu")
    if not devices:
        raise VllmError(message or "The facts list no GPU.", "no-free-gpu")
    return devices


# What is wrong with a GPU, by its health in the facts.
FAULTS = {"lost": "it has fallen off the bus", "reset_required": "it needs a reset", "error": "it reports an error"}


def _in_words(health: str) -> str:
    return FAULTS.get(health, health)


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
    wanted = case.settings.local_gpus
    splits_mig = wanted > 1 and any(device.is_mig for device in case.devices)
    if splits_mig or (wanted > len(case.devices) and not case.settings.may_span_hosts):
        yield _Finding("refuse", "count")


def _judge_start(case: _Case, device: _Device) -> t.Iterator[_Finding]:
    if device.total is None or device.free is None:
        yield _Finding("tight", "unknown", device)
        return
    requested = case.requested(device)
    missing = requested + CONTEXT_MIB - device.free
    if missing > 0:
        yield _Finding("refuse" if device.free < requested else "tight", "start", device, missing)


def _judge_unified(case: _Case, device: _Device) -> t.Iterator[_Finding]:
    """Memory that the host needs too: when it runs out, the host freezes, not only the server."""
    if not device.is_unified or device.free is None or device.free < case.requested(device):
        return
    if case.settings.release.lacks("unified_available"):
        yield _Finding("tight", "page-cache", device)
    taken = case.taken(device)
    if device.free - taken.high < case.reserve:
        is_certain = device.free - taken.low < case.reserve
        missing = taken.high + case.reserve - device.free
        yield _Finding("refuse" if is_certain else "tight", "reserve", device, missing)


def _judge_pinned(case: _Case, device: _Device) -> t.Iterator[_Finding]:
    """vLLM does not check a pinned KV cache against what is free: it runs out of memory."""
    if case.settings.pinned_kv is None or case.besides_kv(device) is None or device.free is None:
        return
    taken = case.taken(device)
    if device.free < taken.high:
        yield _Finding("refuse" if device.free < taken.low else "tight", "pinned", device, taken.high - device.free)


def _judge_kv(case: _Case) -> t.Iterator[_Finding]:
    if case.architecture is not None and case.architecture.is_encoder:
        yield from _judge_encoder(case)
        return
    budget, cache = _budget(case), _smallest_cache(case)
    if case.settings.is_pooling and cache is not None:
        # What keeps nothing may be described by its layers, and vLLM asks no encoder for room.
        yield _Finding("tight" if _is_too_long(case, budget, cache) else "ok", "pooling")
        return
    if budget is None or cache is None:
        # However little a token takes: weights that leave nothing for it are too many.
        is_short = budget is not None and budget.low <= 0
        yield (
            _Finding("ok", "kv-unknown")
            if budget is None or not is_short
            else _Finding("refuse" if budget.high <= 0 else "tight", "weights")
        )
        return
    settings = case.settings
    need = cache.blocks_per_request(1 if settings.is_auto_length else settings.max_model_len or ASSUMED_MODEL_LEN)
    low, high = cache.blocks(budget.low), cache.blocks(budget.high)
    if low >= need:
        yield _Finding("ok", "kv-enough")
    elif high >= need or (settings.max_model_len is None and high > 0):
        yield _Finding("tight", "kv")
    else:
        yield _Finding("refuse", "kv")


def _judge_encoder(case: _Case) -> t.Iterator[_Finding]:
    weights = case.weights()
    short = [d for d in case.used if weights is not None and d.free is not None and d.free < weights.low]
    yield _Finding("refuse", "too-large", short[0]) if short else _Finding("ok", "encoder")


def _is_too_long(case: _Case, budget: Range | None, cache: Cache) -> bool:
    """Whether a request of the length that the spec asks for may not fit."""
    length = case.settings.max_model_len
    return budget is not None and length is not None and cache.blocks(budget.low) < cache.blocks_per_request(length)


def _budget(case: _Case) -> Range | None:
    """The KV cache of the GPU that has the least room for it."""
    budgets = [case.kv(device) for device in case.used]
    known = [budget for budget in budgets if budget is not None]
    if len(known) < len(budgets) or not known:
        return None
    return Range(min(budget.low for budget in known), min(budget.high for budget in known))


def _smallest_cache(case: _Case) -> Cache | None:
    caches = [cache for cache in map(case.cache, case.used) if cache is not None]
    return min(caches, key=lambda cache: -cache.reach, default=None)


# ---------------------------------------------------------------------------------------------------------------------
# What to change
# ---------------------------------------------------------------------------------------------------------------------


def _suggest(case: _Case, findings: t.Sequence[_Finding]) -> dict[str, float]:
    """The fewest changes with which it fits better, all of them together; nothing when none helps."""
    verdict = _worst(findings)
    kinds = {finding.kind for finding in findings if finding.verdict == verdict}
    if verdict == "ok" or not kinds & {"start", "reserve", "kv", "count", "pinned", "weights"}:
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
    findings = [finding for finding in _judge(_changed(case, changes)) if finding.kind not in ("page-cache", "unknown")]
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
# In words
# ---------------------------------------------------------------------------------------------------------------------


def _fit(case: _Case, findings: t.Sequence[_Finding], suggestions: dict[str, float]) -> Fit:
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
    observation = OBSERVATIONS[finding.kind](case, finding)
    if finding.kind == "page-cache":
        return f"{observation}: drop it before the start (sync; echo 3 > /proc/sys/vm/drop_caches)."
    ways = [] if finding.verdict == "ok" or finding.kind == "unknown" else _ways(case, finding, suggestions)
    return f"{observation}: {', or '.join(ways)}." if ways else f"{observation}."


def _ways(case: _Case, finding: _Finding, suggestions: t.Mapping[str, float]) -> list[str]:
    """What to change, the cheapest first."""
    ways = [" and ".join(_change(case, key, value) for key, value in suggestions.items())] if suggestions else []
    if finding.kind == "start" and list(suggestions) == ["gpu_memory_utilization"]:
        ways = [f"lower it to {suggestions['gpu_memory_utilization']:g}"]
    if finding.device is not None:
        held = finding.device.holders
        return [*ways, *_elsewhere(case), f"free the GPU: {held}" if held else f"free {gib(finding.missing)} GiB more"]
    other = "name other GPUs in gpus" if finding.kind == "count" else "take larger GPUs, more of them, or less model"
    return ways or [other]


def _elsewhere(case: _Case) -> list[str]:
    """The GPU that a server of one GPU would start on, among those it may use."""
    for device in case.devices[1:] if case.settings.local_gpus == 1 else ():
        if device.free is not None and device.total and device.free >= case.requested(device) + CONTEXT_MIB:
            return [f"name {device.name} ({device.uuid}) in gpus, which has {gib(device.free)} GiB free"]
    return []


def _change(case: _Case, key: str, value: float) -> str:
    if key == "gpu_memory_utilization":
        return f"{'raise' if value > case.settings.utilization else 'lower'} {key} to {value:g}"
    return f"set {key} to {int(value)}"


def _count_in_words(case: _Case, finding: _Finding) -> str:
    settings, have = case.settings, len(case.devices)
    wanted = f"tensor_parallel_size {settings.tensor_parallel}"
    if settings.pipeline_parallel > 1:
        wanted += f" times pipeline_parallel_size {settings.pipeline_parallel}"
    if settings.data_parallel > 1:
        wanted += f" times data_parallel_size {settings.data_parallel}"
    if any(device.is_mig for device in case.devices):
        return f"{wanted} needs whole GPUs: a process uses one MIG device only"
    return f"{wanted} needs {settings.local_gpus} GPUs, and the server has {have}"


def _start_in_words(case: _Case, finding: _Finding) -> str:
    device, settings = t.cast(_Device, finding.device), case.settings
    default = " (the default)" if settings.is_default_utilization else ""
    asks = f"gpu_memory_utilization {settings.utilization:g}{default} asks for {gib(case.requested(device))}"
    context = ", and its own start takes about half a GiB" if finding.verdict == "tight" else ""
    return f"{_where(device)}, and {asks}{context}"


def _unknown_in_words(case: _Case, finding: _Finding) -> str:
    return f"{_where(t.cast(_Device, finding.device))}, so it is unknown whether vLLM can start"


def _page_cache_in_words(case: _Case, finding: _Finding) -> str:
    version = case.settings.release.text
    return f"vLLM {version} counts the page cache as used memory, and these facts count it as free"


def _reserve_in_words(case: _Case, finding: _Finding) -> str:
    device = t.cast(_Device, finding.device)
    taken = case.taken(device)
    left = max(0.0, (device.free or 0) - (taken.low if finding.verdict == "refuse" else taken.high))
    return f"{_where(device)}; the server leaves {gib(left)} of it, and the host needs {gib(case.reserve)}"


def _pinned_in_words(case: _Case, finding: _Finding) -> str:
    device = t.cast(_Device, finding.device)
    taken = case.taken(device)
    both = f"{gib(taken.low)} to {gib(taken.high)}"
    return f"{_where(device)}, and kv_cache_memory_bytes with all else takes {both}"


def _kv_in_words(case: _Case, finding: _Finding) -> str:
    settings, budget = case.settings, t.cast(Range, _budget(case))
    low, high = (gib(max(0.0, end)) for end in budget)
    left = f"{low} GiB are" if low == high else f"{low} to {high} GiB are"
    text = f"{left} left for the KV cache"
    weights = case.weights()
    if weights is not None and settings.pinned_kv is None:
        text += f" besides {gib(weights.high)} GiB of weights on each GPU" if weights.high else ""
    if settings.is_auto_length:
        return f"{text}, and max_model_len becomes what fits"
    need = gib(t.cast(Cache, _smallest_cache(case)).needed_mib(settings.max_model_len or ASSUMED_MODEL_LEN))
    if settings.max_model_len is None:
        return f"{text}; max_model_len is not set, and {ASSUMED_MODEL_LEN} would need {need}"
    return f"{text}, and one request of max_model_len {settings.max_model_len} needs {need}"


def _weights_in_words(case: _Case, finding: _Finding) -> str:
    budget, weights = t.cast(Range, _budget(case)), case.weights()
    low, high = (gib(max(0.0, end)) for end in budget)
    left = f"{low} GiB are" if low == high else f"{low} to {high} GiB are"
    return f"{left} left for the KV cache besides {gib(weights.high if weights else 0)} GiB of weights on each GPU"


def _kv_unknown_in_words(case: _Case, finding: _Finding) -> str:
    if case.architecture is None:
        return "The model's architecture is not known, so only the free memory was judged, not the KV cache"
    if case.settings.value_bytes is None:
        return "The size of a value is not known for this kv_cache_dtype, so only the free memory was judged"
    weights = case.weights()
    if not case.architecture.has_layers and weights is not None:
        known = f"only the size of its weights is known ({gib(weights.high)} GiB on each GPU)"
        return f"Of the model {known}, so the KV cache was not judged"
    return "The size of the model's weights is not known, so only the free memory was judged, not the KV cache"


def _encoder_in_words(case: _Case, finding: _Finding) -> str:
    weights = case.weights()
    held = "" if weights is None else f", and {gib(weights.high)} GiB of weights are there on each GPU"
    return f"The model is an encoder: it keeps no KV cache{held}"


def _too_large_in_words(case: _Case, finding: _Finding) -> str:
    weights = t.cast(Range, case.weights())
    return f"{_where(t.cast(_Device, finding.device))}, and the weights alone take {gib(weights.low)} GiB"


def _pooling_in_words(case: _Case, finding: _Finding) -> str:
    if finding.verdict == "ok":
        return "The server does not generate, and was judged by its start and not by the length of its requests"
    return f"{_kv_in_words(case, finding)}, unless the model is an encoder, which keeps no KV cache"


OBSERVATIONS: dict[str, t.Callable[[_Case, _Finding], str]] = {
    "count": _count_in_words,
    "encoder": _encoder_in_words,
    "kv": _kv_in_words,
    "kv-enough": _kv_in_words,
    "kv-unknown": _kv_unknown_in_words,
    "page-cache": _page_cache_in_words,
    "pinned": _pinned_in_words,
    "pooling": _pooling_in_words,
    "reserve": _reserve_in_words,
    "start": _start_in_words,
    "too-large": _too_large_in_words,
    "weights": _weights_in_words,
    "unknown": _unknown_in_words,
}


def _where(device: _Device) -> str:
    if device.total is None or device.free is None:
        return f"{device.name} has an unknown amount of memory free"
    if device.is_unified:
        shared = f"of which {gib(device.free)} of {gib(device.total)} GiB are free"
        return f"{device.name} shares the host's memory, {shared}"
    return f"{device.name} has {gib(device.free)} of {gib(device.total)} GiB free"
