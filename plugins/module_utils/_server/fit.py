# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Will a server start on these GPUs, how many tokens does its KV cache hold, and what to change if not. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, fields, replace

from .._errors import VllmError
from .._vllm.architecture import Architecture, finite
from .budget import CONTEXT_MIB, Case, Device, Facts, Range, budget_of, chosen, smallest_cache
from .fit_words import Finding, sentence
from .kv_cache import MIB, Cache
from .memory_settings import ASSUMED_MODEL_LEN, settings_of
from .spec import ServerSpec

# What vLLM printed at an earlier start with the same settings: weights_gib, activation_gib, non_torch_gib, graphs_gib
# (the estimate), kv_gib; any of them may be absent or None.
Measured = t.Mapping[str, t.Optional[float]]

MEASURED_KEYS = ("weights_gib", "activation_gib", "non_torch_gib", "graphs_gib", "kv_gib")
# The highest utilization that is suggested: kernels and graphs need room outside of the budget.
HIGHEST_UTILIZATION = 0.95
VERDICTS = ("ok", "tight", "refuse")


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
        return Fit("ok", reasons=("The server uses no GPU, so no GPU memory is checked.",))
    settings, known = settings_of(spec), _known(measured)
    try:
        devices = _usable(spec, facts, returning)
    except VllmError as error:
        return Fit("refuse", reasons=(str(error),), refusals=(str(error),))
    case = Case(settings, architecture, known, tuple(devices), float(host_reserve_mib))
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


def _usable(spec: ServerSpec, facts: Facts, returning: t.Mapping[str, float] | None) -> list[Device]:
    """Raises:
    VllmError: when nothing can start on these GPUs, whatever their memory.
    """
    status, message = facts.get("status"), facts.get("message")
    if status != "ok" and not (status == "error" and facts.get("gpus")):
        raise VllmError(message or f"The GPUs of this host cannot be used (status {status}).", "no-free-gpu")
    devices = chosen(spec, facts, returning)
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


def _worst(findings: t.Sequence[Finding]) -> str:
    return max((finding.verdict for finding in findings), key=VERDICTS.index, default="ok")


def _judge(case: Case) -> list[Finding]:
    findings = list(_judge_count(case))
    if findings:
        return findings
    for device in case.used:
        findings += [*_judge_start(case, device), *_judge_unified(case, device), *_judge_pinned(case, device)]
    return findings + [*_judge_kv(case)]


def _judge_count(case: Case) -> t.Iterator[Finding]:
    wanted = case.settings.local_gpus
    splits_mig = wanted > 1 and any(device.is_mig for device in case.devices)
    if splits_mig or (wanted > len(case.devices) and not case.settings.may_span_hosts):
        yield Finding("refuse", "count")


def _judge_start(case: Case, device: Device) -> t.Iterator[Finding]:
    if device.total is None or device.free is None:
        yield Finding("tight", "unknown", device)
        return
    requested = case.requested(device)
    missing = requested + CONTEXT_MIB - device.free
    if missing > 0:
        yield Finding("refuse" if device.free < requested else "tight", "start", device, missing)


def _judge_unified(case: Case, device: Device) -> t.Iterator[Finding]:
    """Memory that the host needs too: when it runs out, the host freezes, not only the server."""
    if not device.is_unified or device.free is None or device.free < case.requested(device):
        return
    if case.settings.release.lacks("unified_available"):
        yield Finding("tight", "page-cache", device)
    taken = case.taken(device)
    if device.free - taken.high < case.reserve:
        is_certain = device.free - taken.low < case.reserve
        missing = taken.high + case.reserve - device.free
        yield Finding("refuse" if is_certain else "tight", "reserve", device, missing)


def _judge_pinned(case: Case, device: Device) -> t.Iterator[Finding]:
    """vLLM does not check a pinned KV cache against what is free: it runs out of memory."""
    if case.settings.pinned_kv is None or case.besides_kv(device) is None or device.free is None:
        return
    taken = case.taken(device)
    if device.free < taken.high:
        yield Finding("refuse" if device.free < taken.low else "tight", "pinned", device, taken.high - device.free)


def _judge_kv(case: Case) -> t.Iterator[Finding]:
    if case.architecture is not None and case.architecture.is_encoder:
        yield from _judge_encoder(case)
        return
    budget, cache = budget_of(case), smallest_cache(case)
    if case.settings.is_pooling and cache is not None:
        # What keeps nothing may be described by its layers, and vLLM asks no encoder for room.
        yield Finding("tight" if _is_too_long(case, budget, cache) else "ok", "pooling")
        return
    if budget is None or cache is None:
        # However little a token takes: weights that leave nothing for it are too many.
        is_short = budget is not None and budget.low <= 0
        yield (
            Finding("ok", "kv-unknown")
            if budget is None or not is_short
            else Finding("refuse" if budget.high <= 0 else "tight", "weights")
        )
        return
    settings = case.settings
    need = cache.blocks_per_request(1 if settings.is_auto_length else settings.max_model_len or ASSUMED_MODEL_LEN)
    low, high = cache.blocks(budget.low), cache.blocks(budget.high)
    if low >= need:
        yield Finding("ok", "kv-enough")
    elif high >= need or (settings.max_model_len is None and high > 0):
        yield Finding("tight", "kv")
    else:
        yield Finding("refuse", "kv")


def _judge_encoder(case: Case) -> t.Iterator[Finding]:
    weights = case.weights()
    short = [d for d in case.used if weights is not None and d.free is not None and d.free < weights.low]
    yield Finding("refuse", "too-large", short[0]) if short else Finding("ok", "encoder")


def _is_too_long(case: Case, budget: Range | None, cache: Cache) -> bool:
    """Whether a request of the length that the spec asks for may not fit."""
    length = case.settings.max_model_len
    return budget is not None and length is not None and cache.blocks(budget.low) < cache.blocks_per_request(length)


# ---------------------------------------------------------------------------------------------------------------------
# What to change
# ---------------------------------------------------------------------------------------------------------------------


def _suggest(case: Case, findings: t.Sequence[Finding]) -> dict[str, float]:
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


def _rank(case: Case, changes: t.Mapping[str, float]) -> int:
    """How bad the verdict is with these changes, less what no setting changes."""
    findings = [finding for finding in _judge(_changed(case, changes)) if finding.kind not in ("page-cache", "unknown")]
    return VERDICTS.index(_worst(findings))


def _changed(case: Case, changes: t.Mapping[str, float]) -> Case:
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


def _best(case: Case, offers: t.Iterable[dict[str, float]]) -> dict[str, float]:
    """The first of the offers with the mildest verdict; nothing when all are refused."""
    judged = [(_rank(case, offer), offer) for offer in offers]
    rank, offer = min(judged, default=(2, {}), key=lambda one: one[0])
    return offer if rank < VERDICTS.index("refuse") else {}


def _utilization_that_fits(case: Case) -> dict[str, float]:
    now = case.settings.utilization
    shares = [n / 100 for n in range(1, round(HIGHEST_UTILIZATION * 100) + 1)]
    near = sorted((share for share in shares if share != now), key=lambda share: abs(share - now))
    return _best(case, ({"gpu_memory_utilization": share} for share in near))


def _length_that_fits(case: Case) -> dict[str, float]:
    budget, cache = budget_of(case), smallest_cache(case)
    if budget is None or cache is None:
        return {}
    lengths = [cache.longest(budget.low), cache.longest(budget.high)]
    now = case.settings.max_model_len
    return _best(case, ({"max_model_len": n} for n in lengths if n and (now is None or n < now)))


def _utilization_and_length(case: Case) -> dict[str, float]:
    """The most memory that the start is given, and the length that fits into it."""
    blind = replace(case, architecture=None)
    share = _utilization_that_fits(blind)
    length = _length_that_fits(_changed(case, share)) if share else {}
    return {**share, **length} if length else {}


def _more_gpus(case: Case) -> dict[str, float]:
    now = case.settings.tensor_parallel
    return _best(case, ({"tensor_parallel_size": n} for n in _powers(case) if n > now))


def _fewer_gpus(case: Case) -> dict[str, float]:
    now = case.settings.tensor_parallel
    return _best(case, ({"tensor_parallel_size": n} for n in reversed(_powers(case)) if n < now))


def _powers(case: Case) -> list[int]:
    """What the GPUs of the server can be split into: heads are divisible by powers of two."""
    return [n for n in (1, 2, 4, 8, 16) if n <= max(1, len(case.devices))]


def _smaller_pin(case: Case) -> dict[str, float]:
    rooms = [
        device.free - case.taken(device).high - (case.reserve if device.is_unified else 0)
        for device in case.used
        if device.free is not None
    ]
    pinned = (case.settings.pinned_kv or 0) / MIB + min(rooms, default=0.0)
    return {"kv_cache_memory_bytes": int(pinned) * MIB} if pinned >= 1 else {}


def _fit(case: Case, findings: t.Sequence[Finding], suggestions: dict[str, float]) -> Fit:
    budget, cache = budget_of(case), smallest_cache(case)
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
        reasons=tuple(sentence(case, finding, suggestions) for finding in findings),
        suggestions=suggestions,
        refusals=tuple(sentence(case, one, suggestions) for one in findings if one.verdict == "refuse"),
        cause=next((CAUSES[one.kind] for one in findings if one.verdict == "refuse" and one.kind in CAUSES), None),
    )
