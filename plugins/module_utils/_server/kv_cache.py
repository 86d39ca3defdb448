# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many tokens a KV cache holds: vLLM's own arithmetic of blocks and groups of layers, by version. Pure."""

from __future__ import annotations

import math
import typing as t
from dataclasses import dataclass, replace
from fractions import Fraction

from .._vllm.architecture import Architecture
from .._vllm.versions import Release
from .memory_settings import ASSUMED_MODEL_LEN, Settings

MIB = 1 << 20


@dataclass(frozen=True)
class Capacity:
    """What vLLM prints for it: KV cache size in tokens, requests of max_model_len at once, and its blocks."""

    tokens: int
    concurrency: float
    blocks: int


@dataclass(frozen=True)
class Group:
    """Groups of layers of one kind, each of which takes blocks of its own for a request."""

    count: int | Fraction
    block_size: int
    # The tokens that it keeps of a request; None for all. A window may begin within a block, so it takes one more.
    reach: int | None = None
    more: int = 0
    # The blocks of a state, however long the request is.
    states: int = 0
    # The GPUs that share the tokens of a request.
    shards: int = 1

    def blocks(self, length: int) -> int | Fraction:
        """How many blocks a request of so many tokens takes."""
        if self.states:
            return self.count * self.states
        kept = _ceil(length, self.shards) if self.reach is None else min(self.reach, length)
        return self.count * (_ceil(kept, self.block_size) + self.more)


@dataclass(frozen=True)
class Cache:
    """The KV cache of one GPU in blocks: layers share a pool in groups of equal size."""

    block_bytes: int
    groups: tuple[Group, ...]
    by_concurrency: bool
    # The groups by what they take of a block, where the log weighs them so.
    weighed: tuple[Group, ...] = ()

    @property
    def block_size(self) -> int:
        """The tokens of a block that keeps all of a request, or of the least where none does; a state has none."""
        groups = [group for group in self.groups if not group.states] or [*self.groups]
        return min(group.block_size for group in [group for group in groups if group.reach is None] or groups)

    @property
    def reach(self) -> int:
        """The tokens that a layer with a window keeps of a request."""
        return max(group.reach or 0 for group in self.groups)

    def blocks_per_request(self, length: int) -> int:
        """How many blocks a request of so many tokens takes."""
        return math.ceil(sum(group.blocks(length) for group in self.groups))

    def blocks(self, kv_mib: float) -> int:
        """How many blocks fit into so much memory."""
        return max(0, int(kv_mib * MIB) // self.block_bytes)

    def capacity(self, kv_mib: float, length: int) -> Capacity:
        """What so much memory holds, for requests of that length."""
        blocks = self.blocks(kv_mib)
        concurrency = blocks / replace(self, groups=self.weighed or self.groups).blocks_per_request(length)
        smallest = min(group.block_size for group in self.groups)
        by_groups = blocks // math.ceil(sum(group.count for group in self.groups)) * smallest * self.groups[0].shards
        return Capacity(int(concurrency * length) if self.by_concurrency else by_groups, concurrency, blocks)

    def needed_mib(self, length: int) -> float:
        """The memory that a request of so many tokens takes."""
        return self.blocks_per_request(length) * self.block_bytes / MIB

    def longest(self, kv_mib: float) -> int:
        """The longest request that fits, in whole blocks; 0 when none does."""
        blocks, low, high = self.blocks(kv_mib), 0, self.blocks(kv_mib)
        step = self.block_size * self.groups[0].shards
        while low < high:
            middle = (low + high + 1) // 2
            fits = self.blocks_per_request(middle * step) <= blocks
            low, high = (middle, high) if fits else (low, middle - 1)
        return low * step


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)


@dataclass(frozen=True)
class _Kind:
    """Layers that keep the same: how many, the bytes of a page of one, and how its groups take blocks."""

    layers: int
    page: int
    group: Group


def cache_of(settings: Settings, architecture: Architecture, batched_tokens: int) -> Cache | None:
    """The cache that this server gets on one GPU; None when the size of a value or the layers are not known."""
    value, release = settings.value_bytes, settings.release
    if not value or not architecture.has_layers or drafts_unknown(settings, architecture):
        return None
    if architecture.kv_lora_rank and (value < 1 or settings.scale_bytes):
        return None
    if architecture.is_compressed:
        return _compressed(settings, architecture, batched_tokens * settings.batches)
    kinds = _kinds(settings, architecture, batched_tokens)
    by_concurrency = release.behaves("tokens_by_concurrency")
    # MiMo-V2 once was taken at its word that it had chunks.
    has_chunks = architecture.is_chunked or (architecture.value_head_dim and release.version < (0, 22))
    is_hybrid = settings.is_hybrid and (settings.is_hybrid_with_chunks or not has_chunks)
    is_uniform = not is_hybrid or len({kind.group for kind in kinds}) == 1
    if len(kinds) == 1 or (is_uniform and not architecture.layers_state):
        size = sum(settings.on_a_stage(kind.layers) * kind.page for kind in kinds)
        return Cache(size, (kinds[0].group,), by_concurrency)
    kinds = _of_equal_pages(kinds)
    size = _layers_of_a_group([kind.layers for kind in kinds], release)
    groups = (replace(kind.group, count=_ceil(kind.layers, size)) for kind in kinds)
    return Cache(settings.on_a_stage(size) * kinds[0].page, (*groups,), by_concurrency)


def drafts_unknown(settings: Settings, architecture: Architecture) -> bool:
    """Whether what drafts keeps layers that nobody told: those of another model, or heads beside a latent vector."""
    if settings.drafter == "eagle":
        return architecture.kv_lora_rank > 0 or architecture.is_compressed
    return settings.drafter == "model" or (settings.drafter == "mtp" and architecture.value_head_dim > 0)


def _compressed(settings: Settings, architecture: Architecture, in_flight: int) -> Cache | None:
    """DeepSeek V4: a window in every layer, a vector for each 4 tokens with the key of an index, or for each 128, and
    what has not become such a vector yet, in 32 bits. Pages are multiples of 576 bytes."""
    release = settings.release
    if settings.value_bytes != 1 or settings.scale_bytes or not release.behaves("tokens_by_concurrency"):
        return None
    dim, key = architecture.head_dim, architecture.index_head_dim
    sizes = (64 * (dim + 72), 2 * (dim + 72), 64 * (key + 4), 64 * dim, 64 * key)
    vector, sparse, index, state, index_state = (_ceil(size, 576) * 576 for size in sizes)
    is_dense = release.behaves("compressed_densely")
    if not is_dense:
        state, index_state = max(state, vector), max(index_state, index)
    fours, many = architecture.layers_ratio_4, architecture.layers_ratio_128
    windows = architecture.layers_sliding + (settings.drafter == "mtp")
    whole = fours * (vector + index) + many * sparse
    kinds = [
        _Kind(windows, vector, Group(1, 64, architecture.sliding_window - 1 + in_flight, 1)),
        _Kind(fours, state + index_state, Group(1, 4, 7 + in_flight, 1)),
        _Kind(many, state, Group(1, 8, 127 + in_flight, 1)),
    ]
    # As many layers in each group as leave the least of it empty.
    counts = (max(fours, many), windows, fours, many)
    of_group = min(range(counts[0], max(counts) + 1), key=lambda size: (sum(-n % size for n in counts), -size))
    numbers = [_ceil(kind.layers, of_group) for kind in kinds]
    layers = [_ceil(kind.layers, number or 1) for kind, number in zip(kinds, numbers)]
    if is_dense:
        size = max(whole, *(number * kind.page for kind, number in zip(kinds, layers)))
    elif release.behaves("compressed_in_buckets"):
        size = max(fours, *layers) * vector + many * sparse + fours * index
    else:
        size = max(fours, *layers) * (vector + sparse + index)
    groups = [replace(kind.group, count=number) for kind, number in zip(kinds, numbers)]
    weighed = [replace(kind.group, count=Fraction(kind.layers * kind.page, whole)) for kind in kinds]
    first = Group(1, 256)
    size = _ceil(size, settings.pipeline_parallel)
    return Cache(size, (first, *groups), True, () if is_dense else (first, *weighed))


def _of_equal_pages(kinds: list[_Kind]) -> list[_Kind]:
    """Smaller pages hold more tokens, as far as whole ones fit; the rest of the page is left empty."""
    largest = max(kind.page for kind in kinds)
    equal = []
    for kind in kinds:
        times = largest // kind.page if largest % kind.page == 0 and not kind.group.states else 1
        equal.append(_Kind(kind.layers, largest, replace(kind.group, block_size=kind.group.block_size * times)))
    return equal


def _layers_of_a_group(counts: t.Sequence[int], release: Release) -> int:
    """The number of the rarest kind, or of the most frequent one where the other may be padded up to it."""
    padding = 1.5 if release.behaves("groups_padded_150") else 1.25 if release.behaves("groups_padded_125") else 1.0
    return max(counts) if max(counts) < min(counts) * padding else min(counts)


# ---------------------------------------------------------------------------------------------------------------------
# What the layers keep
# ---------------------------------------------------------------------------------------------------------------------


def _kinds(settings: Settings, architecture: Architecture, batched_tokens: int) -> list[_Kind]:
    full, sliding = _token_bytes(settings, architecture)
    size = _block_size(settings, architecture, full if architecture.layers_full else sliding)
    all_tokens = Group(1, size, shards=settings.context_parallel)
    in_flight = batched_tokens * settings.batches
    window = architecture.sliding_window
    reach = window + in_flight if architecture.is_chunked else max(0, window - 1) + in_flight
    kinds = [
        _Kind(_full_layers(settings, architecture), size * full, all_tokens),
        _Kind(_index_layers(settings, architecture), size * _index_bytes(architecture), all_tokens),
        _Kind(architecture.layers_sliding, size * sliding, Group(1, size, reach, 0 if architecture.is_chunked else 1)),
        _state_kind(settings, architecture, size),
    ]
    return [kind for kind in kinds if kind.layers]


def _full_layers(settings: Settings, architecture: Architecture) -> int:
    """The layers that see everything, and one more for what drafts; that of Gemma 4 uses what the model keeps."""
    adds = settings.drafter == "eagle" or (settings.drafter == "mtp" and not architecture.full_head_dim)
    return architecture.layers_full and architecture.layers_full + adds


def _index_layers(settings: Settings, architecture: Architecture) -> int:
    """The layers that keep an index of their own; what drafts always does."""
    layers = _full_layers(settings, architecture) if architecture.index_head_dim else 0
    shares = architecture.layers_index and settings.release.behaves("indexes_shared")
    return layers - architecture.layers_full + architecture.layers_index if shares else layers


def _index_bytes(architecture: Architecture) -> int:
    """The key of an index for a token, in 8 bits with a scale of 4 bytes for each 128."""
    return architecture.index_head_dim + architecture.index_head_dim // 128 * 4


def _token_bytes(settings: Settings, architecture: Architecture) -> tuple[int, int]:
    """What a token takes in a layer that sees everything, and in one that sees a window."""
    value = settings.value_bytes or 0
    if architecture.kv_lora_rank:
        return _latent_bytes(settings, architecture), 0

    def of(heads: int, dim: int) -> int:
        is_own = architecture.value_head_dim and settings.release.behaves("values_of_their_size")
        sizes = (dim, architecture.value_head_dim if is_own else dim)
        return max(1, heads // settings.tensor_parallel) * sum(int(n * value) + settings.scale_bytes for n in sizes)

    plain = of(architecture.num_key_value_heads, architecture.head_dim)
    heads = architecture.full_key_value_heads or architecture.num_key_value_heads
    return of(heads, architecture.full_head_dim or architecture.head_dim), plain


def _latent_bytes(settings: Settings, architecture: Architecture) -> int:
    """One latent vector for all heads, on each GPU whole. Beside an index, a vector in 8 bits has scales, and its
    position 16 bits."""
    value, rank, rope = int(settings.value_bytes or 0), architecture.kv_lora_rank, architecture.qk_rope_head_dim
    has_scales = architecture.index_head_dim and value == 1
    return rank + rank // 128 * 4 + 2 * rope if has_scales else (rank + rope) * value


def _block_size(settings: Settings, architecture: Architecture, token_bytes: int) -> int:
    """The tokens of a block: beside layers with a state as many as make it as large as the state."""
    latent = 128 if settings.release.behaves("latent_blocks_of_128") else 64
    least = max(settings.block_size, latent if architecture.kv_lora_rank else 1)
    if not architecture.layers_state:
        return least
    if not token_bytes:
        return settings.max_model_len or ASSUMED_MODEL_LEN
    step = math.lcm(least, architecture.state_chunk or 256) if _keeps_all_states(settings, architecture) else least
    if not architecture.state_chunk and _checkpoints(settings, architecture):
        step = math.lcm(least, 64)
    return step * _ceil(_state_bytes(settings, architecture), step * token_bytes)


def _state_kind(settings: Settings, architecture: Architecture, block_size: int) -> _Kind:
    page = _state_bytes(settings, architecture)
    if _keeps_all_states(settings, architecture):
        return _Kind(architecture.layers_state, page, Group(1, block_size, more=settings.drafted))
    # One that is kept for prefix caching, the one that is computed on, and one for each token that is drafted.
    states = 2 + _checkpoints(settings, architecture) if settings.state_mode in ("align", "all") else 1
    states += 0 if settings.release.lacks("states_aligned") else settings.drafted
    # Where no states are kept at the ends of blocks, a block of them is a whole request.
    size = (settings.max_model_len or ASSUMED_MODEL_LEN) if settings.state_mode == "none" else block_size
    return _Kind(architecture.layers_state, page, Group(1, size, states=states))


def _checkpoints(settings: Settings, architecture: Architecture) -> bool:
    """Whether a state within a prompt is kept for prefix caching, too: that of Mamba 2, and of Gated DeltaNet, which
    has no chunks."""
    name = "states_checkpointed" if architecture.state_chunk else "delta_checkpointed"
    is_able = architecture.state_values > 0 and not architecture.kv_lora_rank
    return settings.state_mode in ("align", "all") and is_able and settings.release.behaves(name)


def _keeps_all_states(settings: Settings, architecture: Architecture) -> bool:
    """Whether the state after each block is kept: Mamba 2 can, linear attention cannot."""
    return settings.state_mode == "all" and architecture.state_chunk > 0


def _state_bytes(settings: Settings, architecture: Architecture) -> int:
    convolution = settings.state_conv_bytes
    rest = settings.state_bytes or architecture.state_value_bytes or convolution
    # A convolution keeps 3 tokens, and those that are drafted.
    convolution *= architecture.state_conv_values * (3 + settings.drafted) // 3
    values = convolution + architecture.state_values * rest
    return _ceil(values, settings.tensor_parallel)
