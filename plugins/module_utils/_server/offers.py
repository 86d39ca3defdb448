# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What fits: over how many GPUs a model can be split, and how long its requests can be there. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._gpu.tenants import GIB_MIB
from .budget import Case, budget_of, device_of, smallest_cache
from .kv_cache import Cache
from .memory_settings import human, settings_of
from .model_task import Engine, ModelFiles, Spec, Task
from .spec import from_params

# Requests of the whole context at once; and the context that is worth another GPU, or not worth a start.
CONCURRENCY, GOOD_CONTEXT, LEAST_CONTEXT = 4, 32768, 8192
GPUS = (1, 2, 4, 8)
UTILIZATION, SEQUENCES = 0.90, 256
# A GB10 shares its memory with its host, which freezes without: no more than 102 of its 121.7 GiB were seen free, and 8
# stay with the host.
UNIFIED = {"max_num_batched_tokens": 2048}
UNIFIED_SHARES, UNIFIED_FREE_MIB, UNIFIED_SEQUENCES = tuple(n / 100 for n in range(20, 80, 5)), 102 * GIB_MIB, 8


@dataclass(frozen=True)
class Offer:
    """Settings of the engine that fit, and the context that they leave room for; 0 for none."""

    engine: Spec
    context: int
    # What is left for the KV cache of each GPU at least, in MiB, where that is known.
    kv_mib: float = 0
    # Whether it is known what the layers keep there of a request.
    is_known: bool = True


def requests_of(task: Task) -> int:
    """How many requests the server is to answer at once."""
    return task.wish.concurrency or CONCURRENCY


def gpu_counts(task: Task) -> list[int]:
    """How many GPUs it can be split over, the fewest first."""
    if task.engine.get("tensor_parallel_size"):
        wanted = human("tensor_parallel_size", task.engine["tensor_parallel_size"])
        return [] if why_not_over(task, wanted) else [wanted]
    most = 1 if task.hardware.is_integrated else task.wish.gpus or max(GPUS)
    return [n for n in GPUS if n <= most and not why_not_over(task, n)]


HEADS = ("num_attention_heads", "linear_num_value_heads", "linear_num_key_heads", "mamba_num_heads", "mamba_n_heads")


def why_not_over(task: Task, gpus: int) -> str:
    """Why so many GPUs cannot share the model; empty when they can."""
    text, numbers = task.model.text, task.architecture
    for key in HEADS:
        heads = text.get(key)
        if isinstance(heads, int) and heads % gpus:
            return f"{key} {heads} is not divisible by {gpus}"
    for kv_heads in (numbers.num_key_value_heads, numbers.full_key_value_heads):
        if kv_heads and not numbers.kv_lora_rank and kv_heads % gpus and gpus % kv_heads:
            return f"{kv_heads} key-value heads cannot be shared by {gpus}"
    step = block_of(task.model)
    dense = text.get("intermediate_size")
    if step > 1 and isinstance(dense, int) and not numbers.is_mixture and dense % gpus == 0 and dense // gpus % step:
        return f"intermediate_size {dense} over {gpus} GPUs cuts the blocks of {step} that it is quantized in"
    return ""


def block_of(model: ModelFiles) -> int:
    """How many values share a scale, along what tensor parallel divides."""
    said = model.quantization
    block, groups = said.get("weight_block_size"), said.get("config_groups")
    if isinstance(block, (list, tuple)) and block and isinstance(block[0], int):
        return int(block[0])
    if isinstance(groups, t.Mapping):
        sizes = [
            (group.get("weights") or {}).get("group_size") for group in groups.values() if isinstance(group, t.Mapping)
        ]
        return max((one for one in sizes if isinstance(one, int)), default=1)
    size = said.get("group_size")
    return size if isinstance(size, int) and size > 0 else 1


def _spreads_experts(task: Task, gpus: int) -> bool:
    """Whether whole experts have to be spread, because a piece of one would cut the blocks that it is quantized in."""
    step, size = block_of(task.model), task.model.text.get("moe_intermediate_size")
    return gpus > 1 and step > 1 and isinstance(size, int) and bool(size % gpus or size // gpus % step)


def offers_of(task: Task) -> list[tuple[int, Offer]]:
    """What fits on so many GPUs, the fewest first."""
    return [(gpus, offer) for gpus in gpu_counts(task) for offer in [offer_on(task, gpus)] if offer is not None]


def offer_on(task: Task, gpus: int) -> Offer | None:
    """What fits on so many GPUs; None when not even the weights do."""
    engine: Spec = {"tensor_parallel_size": gpus} if gpus > 1 else {}
    if _spreads_experts(task, gpus):
        engine["enable_expert_parallel"] = True
    if float(task.hardware.compute_capability or 9) < 8:
        engine["dtype"] = "half"
    if not task.hardware.is_integrated:
        engine.update(gpu_memory_utilization=UTILIZATION, max_num_seqs=max(SEQUENCES, requests_of(task)))
        return _with_context(task, engine, gpus)
    engine.update(UNIFIED, max_num_seqs=max(UNIFIED_SEQUENCES, requests_of(task)))
    offers = [_with_context(task, {**engine, "gpu_memory_utilization": share}, gpus) for share in UNIFIED_SHARES]
    fitting = [offer for offer in offers if offer is not None]
    most = max((offer.context for offer in fitting), default=0)
    return next((offer for offer in fitting if offer.context == most), None)


def _with_context(task: Task, engine: Spec, gpus: int) -> Offer | None:
    """The engine with the longest context for the wanted requests at once; 0 when there is none."""
    most = task.wish.context or task.longest or GOOD_CONTEXT
    needed = task.family.engine if task.family and not task.pools else {}
    case = case_of(task, {**engine, "max_model_len": most, **needed, **task.engine}, gpus)
    if task.architecture.is_encoder:
        weights = case.weights()
        fits = weights is not None and weights.high < case.requested(case.used[0])
        return Offer({**engine, "max_model_len": most}, most) if fits else None
    budget, cache = budget_of(case), smallest_cache(case)
    if budget is None or budget.low <= 0:
        return None
    if cache is None:
        # What its layers keep is described by no arithmetic here: as little as is of use.
        context = min(most, task.wish.context or LEAST_CONTEXT)
        return Offer({**engine, "max_model_len": context}, context, budget.low, is_known=False)
    context = longest(cache, budget.low, requests_of(task), most)
    return Offer({**engine, "max_model_len": context}, context, budget.low)


def longest(cache: Cache, kv_mib: float, requests: int, most: int) -> int:
    """The longest context of which so many requests fit at once, at most C(most); in whole 1024 where it is long."""
    blocks = cache.blocks(kv_mib) // requests
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cache.blocks_per_request(middle) <= blocks else (low, middle - 1)
    return low if low == most or low < 1024 else low // 1024 * 1024


def case_of(task: Task, engine: Engine, gpus: int) -> Case:
    """The case to judge: the engine on so many idle GPUs of the class."""
    spec = from_params({"model": task.model.model, "vllm_version": task.version, "engine": dict(engine)})
    total = task.memory_mib
    free = min(total, UNIFIED_FREE_MIB) if task.hardware.is_integrated else total
    facts = {
        "index": 0,
        "uuid": "GPU-0",
        "name": None,
        "hardware_class": task.hardware.name,
        "memory_kind": task.hardware.memory_kind,
        "memory_total_mib": total,
        "memory_free_mib": free,
    }
    settings = settings_of(spec)
    devices = tuple(device_of(facts, None) for _gpu in range(max(gpus, settings.local_gpus)))
    return Case(settings, task.architecture, {}, devices, 0.0)


def _wanted_context(task: Task) -> int:
    """The context that another GPU is worth."""
    return task.wish.context or min(task.longest or GOOD_CONTEXT, GOOD_CONTEXT)


def best_of(task: Task, offers: list[tuple[int, Offer]]) -> tuple[int, Offer] | None:
    """The fewest GPUs with all that is wanted; where none have, those with the longest context that is of use."""
    good = next((one for one in offers if one[1].context >= _wanted_context(task)), None)
    if good or task.wish.context:
        return good
    least = min(task.longest or LEAST_CONTEXT, LEAST_CONTEXT)
    useful = [one for one in offers if one[1].context >= least]
    return max(useful, key=lambda one: (one[1].context, -one[0]), default=None)
