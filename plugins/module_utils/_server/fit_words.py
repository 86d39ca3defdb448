# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sentence of each finding about the memory of a server: what was seen, and what to change. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._gpu.tenants import gib
from .budget import CONTEXT_MIB, Case, Device, Range, budget_of, smallest_cache
from .kv_cache import Cache, drafts_unknown
from .memory_settings import ASSUMED_MODEL_LEN


@dataclass(frozen=True)
class Finding:
    """One thing that was judged. With the case it holds everything that its sentence says."""

    verdict: str
    kind: str
    device: Device | None = None
    # What has to become free for it to be fine, in MiB.
    missing: float = 0


def sentence(case: Case, finding: Finding, suggestions: t.Mapping[str, float]) -> str:
    """What a check found, with the ways out of it."""
    observation = OBSERVATIONS[finding.kind](case, finding)
    if finding.kind == "page-cache":
        return f"{observation}: drop it before the start (sync; echo 3 > /proc/sys/vm/drop_caches)."
    ways = [] if finding.verdict == "ok" or finding.kind == "unknown" else _ways(case, finding, suggestions)
    return f"{observation}: {', or '.join(ways)}." if ways else f"{observation}."


def _ways(case: Case, finding: Finding, suggestions: t.Mapping[str, float]) -> list[str]:
    """What to change, the cheapest first."""
    ways = [" and ".join(_change(case, key, value) for key, value in suggestions.items())] if suggestions else []
    if finding.kind == "start" and list(suggestions) == ["gpu_memory_utilization"]:
        ways = [f"lower it to {suggestions['gpu_memory_utilization']:g}"]
    if finding.device is not None:
        held = finding.device.holders
        return [*ways, *_elsewhere(case), f"free the GPU: {held}" if held else f"free {gib(finding.missing)} GiB more"]
    other = "name other GPUs in gpus" if finding.kind == "count" else "take larger GPUs, more of them, or less model"
    return ways or [other]


def _elsewhere(case: Case) -> list[str]:
    """The GPU that a server of one GPU would start on, among those it may use."""
    for device in case.devices[1:] if case.settings.local_gpus == 1 else ():
        if device.free is not None and device.total and device.free >= case.requested(device) + CONTEXT_MIB:
            return [f"name {device.name} ({device.uuid}) in gpus, which has {gib(device.free)} GiB free"]
    return []


def _change(case: Case, key: str, value: float) -> str:
    if key == "gpu_memory_utilization":
        return f"{'raise' if value > case.settings.utilization else 'lower'} {key} to {value:g}"
    return f"set {key} to {int(value)}"


def _count_in_words(case: Case, finding: Finding) -> str:
    settings, have = case.settings, len(case.devices)
    wanted = f"tensor_parallel_size {settings.tensor_parallel}"
    if settings.pipeline_parallel > 1:
        wanted += f" times pipeline_parallel_size {settings.pipeline_parallel}"
    if settings.data_parallel > 1:
        wanted += f" times data_parallel_size {settings.data_parallel}"
    if any(device.is_mig for device in case.devices):
        return f"{wanted} needs whole GPUs: a process uses one MIG device only"
    return f"{wanted} needs {settings.local_gpus} GPUs, and the server has {have}"


def _start_in_words(case: Case, finding: Finding) -> str:
    device, settings = t.cast(Device, finding.device), case.settings
    default = " (the default)" if settings.is_default_utilization else ""
    asks = f"gpu_memory_utilization {settings.utilization:g}{default} asks for {gib(case.requested(device))}"
    context = ", and its own start takes about half a GiB" if finding.verdict == "tight" else ""
    return f"{_where(device)}, and {asks}{context}"


def _unknown_in_words(case: Case, finding: Finding) -> str:
    return f"{_where(t.cast(Device, finding.device))}, so it is unknown whether vLLM can start"


def _page_cache_in_words(case: Case, finding: Finding) -> str:
    version = case.settings.release.text
    return f"vLLM {version} counts the page cache as used memory, and these facts count it as free"


def _reserve_in_words(case: Case, finding: Finding) -> str:
    device = t.cast(Device, finding.device)
    taken = case.taken(device)
    left = max(0.0, (device.free or 0) - (taken.low if finding.verdict == "refuse" else taken.high))
    return f"{_where(device)}; the server leaves {gib(left)} of it, and the host needs {gib(case.reserve)}"


def _pinned_in_words(case: Case, finding: Finding) -> str:
    device = t.cast(Device, finding.device)
    taken = case.taken(device)
    both = f"{gib(taken.low)} to {gib(taken.high)}"
    return f"{_where(device)}, and kv_cache_memory_bytes with all else takes {both}"


def _kv_in_words(case: Case, finding: Finding) -> str:
    settings, budget = case.settings, t.cast(Range, budget_of(case))
    low, high = (gib(max(0.0, end)) for end in budget)
    left = f"{low} GiB are" if low == high else f"{low} to {high} GiB are"
    text = f"{left} left for the KV cache"
    weights = case.weights()
    if weights is not None and settings.pinned_kv is None:
        text += f" besides {gib(weights.high)} GiB of weights on each GPU" if weights.high else ""
    if settings.is_auto_length:
        return f"{text}, and max_model_len becomes what fits"
    need = gib(t.cast(Cache, smallest_cache(case)).needed_mib(settings.max_model_len or ASSUMED_MODEL_LEN))
    if settings.max_model_len is None:
        return f"{text}; max_model_len is not set, and {ASSUMED_MODEL_LEN} would need {need}"
    return f"{text}, and one request of max_model_len {settings.max_model_len} needs {need}"


def _weights_in_words(case: Case, finding: Finding) -> str:
    budget, weights = t.cast(Range, budget_of(case)), case.weights()
    low, high = (gib(max(0.0, end)) for end in budget)
    left = f"{low} GiB are" if low == high else f"{low} to {high} GiB are"
    return f"{left} left for the KV cache besides {gib(weights.high if weights else 0)} GiB of weights on each GPU"


def _kv_unknown_in_words(case: Case, finding: Finding) -> str:
    if case.architecture is None:
        return "The model's architecture is not known, so only the free memory was judged, not the KV cache"
    if drafts_unknown(case.settings, case.architecture):
        return "What the layers of the draft model keep is not known, so only the free memory was judged"
    if case.settings.value_bytes is None or (case.architecture.has_layers and case.cache(case.used[0]) is None):
        return "The size of a value is not known for this kv_cache_dtype, so only the free memory was judged"
    weights = case.weights()
    if not case.architecture.has_layers and weights is not None:
        known = f"only the size of its weights is known ({gib(weights.high)} GiB on each GPU)"
        return f"Of the model {known}, so the KV cache was not judged"
    return "The size of the model's weights is not known, so only the free memory was judged, not the KV cache"


def _encoder_in_words(case: Case, finding: Finding) -> str:
    weights = case.weights()
    held = "" if weights is None else f", and {gib(weights.high)} GiB of weights are on each GPU"
    return f"The model is an encoder: it keeps no KV cache{held}"


def _too_large_in_words(case: Case, finding: Finding) -> str:
    weights = t.cast(Range, case.weights())
    return f"{_where(t.cast(Device, finding.device))}, and the weights alone take {gib(weights.low)} GiB"


def _pooling_in_words(case: Case, finding: Finding) -> str:
    if finding.verdict == "ok":
        return "The server does not generate, and was judged by its start and not by the length of its requests"
    return f"{_kv_in_words(case, finding)}, unless the model is an encoder, which keeps no KV cache"


OBSERVATIONS: dict[str, t.Callable[[Case, Finding], str]] = {
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


def _where(device: Device) -> str:
    if device.total is None or device.free is None:
        return f"{device.name} has an unknown amount of memory free"
    if device.is_unified:
        shared = f"of which {gib(device.free)} of {gib(device.total)} GiB are free"
        return f"{device.name} shares the host's memory, {shared}"
    return f"{device.name} has {gib(device.free)} of {gib(device.total)} GiB free"
