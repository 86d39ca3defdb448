# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many tokens a KV cache holds: vLLM's own arithmetic of blocks and groups of layers, by version. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from .._vllm.architecture import Architecture
from .._vllm.versions import Release
from .memory_settings import Settings

MIB = 1 << 20


@dataclass(frozen=True)
class Capacity:
    """What vLLM prints for it: KV cache size in tokens, requests of max_model_len at once, and its blocks."""

    tokens: int
    concurrency: float
    blocks: int


@dataclass(frozen=True)
class Cache:
    """The KV cache of one GPU in blocks: layers share a pool in groups of equal size."""

    block_size: int
    block_bytes: int
    full_groups: int
    sliding_groups: int
    reach: int  # Tokens that a sliding layer keeps of a request.
    by_concurrency: bool

    def blocks_per_request(self, length: int) -> int:
        """How many blocks a request of so many tokens takes."""
        sliding = _ceil(min(self.reach, length), self.block_size) + 1
        return self.full_groups * _ceil(length, self.block_size) + self.sliding_groups * sliding

    def blocks(self, kv_mib: float) -> int:
        """How many blocks fit into so much memory."""
        return max(0, int(kv_mib * MIB) // self.block_bytes)

    def capacity(self, kv_mib: float, length: int) -> Capacity:
        """What so much memory holds, for requests of that length."""
        blocks = self.blocks(kv_mib)
        concurrency = blocks / self.blocks_per_request(length)
        by_groups = blocks // (self.full_groups + self.sliding_groups) * self.block_size
        return Capacity(int(concurrency * length) if self.by_concurrency else by_groups, concurrency, blocks)

    def needed_mib(self, length: int) -> float:
        """The memory that a request of so many tokens takes."""
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


def cache_of(settings: Settings, architecture: Architecture, batched_tokens: int) -> Cache | None:
    """The cache that this server gets on one GPU; None when the size of a value or the layers are not known."""
    if settings.value_bytes is None or not architecture.has_layers:
        return None
    size, full, sliding = _groups(settings, architecture)
    heads = max(1, architecture.num_key_value_heads // settings.tensor_parallel)
    page = settings.block_size * 2 * heads * architecture.head_dim * settings.value_bytes
    return Cache(
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
