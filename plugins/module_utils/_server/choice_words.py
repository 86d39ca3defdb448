# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The sentences of a choice: why each setting about GPUs and memory, and what would fit where nothing does. Pure."""

from __future__ import annotations

from dataclasses import replace

from .._gpu.hardware import class_named
from .._gpu.tenants import gib
from .._vllm.architecture import Architecture
from .kv_cache import MIB
from .memory_settings import human
from .model_task import Setting, Task
from .offers import (
    GPUS,
    LEAST_CONTEXT,
    Offer,
    best_of,
    block_of,
    gpu_counts,
    offer_on,
    offers_of,
    requests_of,
    why_not_over,
)

# A refusal offers no shorter one.
LEAST_OFFER = 2048


def reasons_of(task: Task, gpus: int, offer: Offer) -> list[Setting]:
    """The settings of an offer, each with the reason for it."""
    engine, requests = offer.engine, requests_of(task)
    card, name = gib(task.memory_mib), task.hardware.name
    weights = gib(task.model.weights_bytes / MIB)
    settings = []
    if gpus > 1:
        asked = "it is wanted" if task.engine.get("tensor_parallel_size") else ""
        cards = f"{gpus // 2} cards of {card} GiB have" if gpus > 2 else f"one card of {card} GiB has"
        smaller = f"{cards} too little room for a KV cache next to {weights} GiB of weights"
        settings.append(Setting("tensor_parallel_size", gpus, asked or smaller))
    elif not task.hardware.is_integrated:
        settings.append(Setting("tensor_parallel_size", 1, f"{weights} GiB of weights fit on one {name} of {card} GiB"))
    if engine.get("enable_expert_parallel"):
        step = block_of(task.model)
        settings.append(
            Setting("enable_expert_parallel", True, f"a piece of an expert would cut blocks of {step} values")
        )
    share = engine["gpu_memory_utilization"]
    settings.append(
        Setting("gpu_memory_utilization", share, UNIFIED_REASON if task.hardware.is_integrated else SHARE_REASON)
    )
    settings.append(Setting("max_model_len", offer.context, _context_because(task, offer, requests)))
    settings.append(
        Setting(
            "max_num_seqs",
            engine["max_num_seqs"],
            f"of shorter requests more than {requests} fit at once",
        )
    )
    if "max_num_batched_tokens" in engine:
        reason = "vLLM takes the card for a large one, and its memory is the host's"
        settings.append(Setting("max_num_batched_tokens", engine["max_num_batched_tokens"], reason))
    if "dtype" in engine:
        settings.append(Setting("dtype", engine["dtype"], f"a {name} does not compute in bfloat16"))
    return settings


SHARE_REASON = "kernels and graphs need room outside of what vLLM budgets"


UNIFIED_REASON = "GPU and host share the memory, and a host without freezes: no more than is needed"


def _context_because(task: Task, offer: Offer, requests: int) -> str:
    if task.architecture.is_encoder:
        return "an encoder reads a text at once"
    if not offer.is_known:
        return "what its layers keep of a request is not known here, so a short context is safe"
    room = f"{requests} such requests fit into {gib(offer.kv_mib)} GiB of KV cache on each GPU"
    if task.wish.context:
        return f"it is wanted, and {room}"
    return (
        f"it is all that the model reads, and {room}"
        if offer.context == task.longest
        else f"no longer ones fit: {room}"
    )


def refusal_of(task: Task, offers: list[tuple[int, Offer]]) -> str:
    """Why it is refused, and what would fit."""
    requests, weights = requests_of(task), gib(task.model.weights_bytes / MIB)
    context = task.wish.context or min(task.longest or LEAST_CONTEXT, LEAST_CONTEXT)
    wanted = f"{requests} requests of {context} tokens at once"
    most = max(gpu_counts(task), default=1)
    cards = (
        f"{most} GPUs of {gib(task.memory_mib)} GiB have" if most > 1 else f"one GPU of {gib(task.memory_mib)} GiB has"
    )
    text = f"{task.address} does not fit: {cards} no room for {weights} GiB of weights and {wanted}."
    if not gpu_counts(task):
        tried = human("tensor_parallel_size", task.engine.get("tensor_parallel_size") or 1)
        text = f"{task.address} cannot be split: {why_not_over(task, tried)}."
    ways = [way for way in (_fewer(task, offers), _more_gpus(task, most), _eight_bits(task), _elsewhere(task)) if way]
    return (
        f"{text} What would fit: {'; '.join(ways)}."
        if ways
        else f"{text} Nothing that is known here would fit; take a smaller model."
    )


def _fewer(task: Task, offers: list[tuple[int, Offer]]) -> str:
    """Fewer tokens, or fewer requests at once."""
    gpus, offer = max(offers, key=lambda one: one[1].context, default=(0, None))
    if offer is not None and offer.context >= LEAST_OFFER:
        return f"-e vllm_context={offer.context} on {gpus} of them" if gpus > 1 else f"-e vllm_context={offer.context}"
    alone = replace(task, wish=replace(task.wish, concurrency=1))
    found = [
        (one, made.context)
        for one in gpu_counts(alone)
        for made in [offer_on(alone, one)]
        if made and made.context >= 1024
    ]
    if not found or requests_of(task) == 1:
        return ""
    _gpus, context = max(found, key=lambda one: one[1])
    return f"-e vllm_concurrency=1 -e vllm_context={context}"


def _more_gpus(task: Task, most: int) -> str:
    if task.hardware.is_integrated or task.engine.get("tensor_parallel_size"):
        return ""
    more = replace(task, wish=replace(task.wish, gpus=max(GPUS)))
    best = best_of(more, [one for one in offers_of(more) if one[0] > most])
    return f"{best[0]} GPUs of this class" if best else ""


def _eight_bits(task: Task) -> str:
    """A checkpoint of half the size, where this one is not quantized."""
    if task.model.quantization or str(task.model.config.get("torch_dtype")) == "float32":
        return ""
    half = replace(task.model, weights_bytes=task.model.weights_bytes // 2)
    numbers = {**task.numbers, "weights_gib": max(0.01, task.numbers["weights_gib"] / 2)}
    small = replace(task, model=half, numbers=numbers, architecture=Architecture.from_mapping(numbers))
    best = best_of(small, offers_of(small))
    named = task.model.eight_bits or "a checkpoint of it in 8 bits (FP8)"
    return f"{named}, of about {gib(half.weights_bytes / MIB)} GiB" if best else ""


def _elsewhere(task: Task) -> str:
    """The smallest class whose card is larger, with as many GPUs as a host of it has at most."""
    known = [class_named(name) for name in ("h200", "b200")]
    larger = [one for one in known if one.memory_mib > task.hardware.memory_mib]
    for one in larger:
        other = replace(task, hardware=one, wish=replace(task.wish, gpus=None, memory_mib=None))
        best = best_of(other, offers_of(other))
        if best:
            return f"class {one.name} with {best[0]} GPU{'s' if best[0] > 1 else ''}"
    return ""
