# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The numbers that a good start of vLLM prints: memory, tokens, times. Pure.

Sizes are in GiB where the name says so and in bytes otherwise, times in seconds.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .log import lives, parse_lines

Measurements = dict[str, t.Union[int, float]]

_NUMBER = r"(-?[0-9]{1,15}(?:\.[0-9]{1,9})?)"
_COUNT = r"([0-9][0-9,]{0,20})"


@dataclass(frozen=True)
class Measure:
    """A number in the log. Of those that several ranks print the least or the most counts; alternatives to the first
    pattern are read only where it finds nothing."""

    key: str
    patterns: tuple[str, ...]
    choose: t.Callable[[t.Iterable[float]], float] = max
    convert: t.Callable[[float], float] = float


MEASURES = (
    Measure(
        "weights_gib",
        (rf"Model loading took {_NUMBER} Gi?B", rf"{_NUMBER} GiB for weights?\b", rf"model weights take {_NUMBER}GiB"),
    ),
    Measure(
        "load_seconds",
        (rf"Model loading took [0-9.]+ Gi?B(?: memory)? and {_NUMBER} sec", rf"Loading weights took {_NUMBER} sec"),
    ),
    Measure(
        "activation_gib",
        (rf"{_NUMBER} GiB for peak activation", rf"PyTorch activation peak memory takes {_NUMBER}GiB"),
    ),
    Measure("non_torch_gib", (rf"{_NUMBER} GiB for non-torch", rf"non_torch_memory takes {_NUMBER}GiB")),
    Measure(
        "graphs_gib",
        (rf"{_NUMBER} GiB for CUDAGraph memory", rf"Graph capturing finished in [0-9.]+ secs, took {_NUMBER} GiB"),
    ),
    Measure(
        "kv_gib",
        (
            rf"Available KV cache memory: {_NUMBER} GiB",
            rf"Current kv cache memory in use is {_NUMBER} GiB",
            rf"the rest of the memory reserved for KV Cache is {_NUMBER}GiB",
        ),
        min,
    ),
    Measure("kv_tokens", (rf"KV cache size: {_COUNT} tokens",), min, int),
    Measure("concurrency", (rf"Maximum concurrency for [0-9,]+ tokens per request: {_NUMBER}x",), min),
    # The line names two values. The second one takes all of the GPU, also what was to be left to others.
    Measure(
        "kv_cache_memory_bytes",
        (rf"--kv-cache-memory(?:-bytes)?={_NUMBER}`?(?: \(-?[0-9.]+ GiB\))? to fit into requested memory",),
        min,
        int,
    ),
    Measure("init_seconds", (rf"init engine \(.{{0,80}}?\) took {_NUMBER} s",)),
)
KEYS = tuple(measure.key for measure in MEASURES)
# Weights and what is no tensor of PyTorch, in one number since 0.27.
CONSUMED = re.compile(rf"{_NUMBER} GiB for consumed memory")
# A start with a pinned cache was told its size, and measured none.
PINNED = re.compile(r"memory for KV Cache as specified by kv_cache_memory_bytes")
OF_A_PROFILE = ("kv_gib", "kv_cache_memory_bytes")


def measured(log: str) -> Measurements:
    """What the last start in a log measured; a value that the log does not tell is absent."""
    life = lives(parse_lines(log))[-1].text
    found: Measurements = {}
    for measure in MEASURES:
        numbers = next(filter(None, (_numbers(re.compile(pattern), life) for pattern in measure.patterns)), [])
        if numbers:
            found[measure.key] = measure.convert(measure.choose(numbers))
    consumed = _numbers(CONSUMED, life)
    if consumed and "non_torch_gib" not in found and "weights_gib" in found:
        found["non_torch_gib"] = round(max(consumed) - found["weights_gib"], 2)
    pinned = PINNED.search(life)
    return {k: v for k, v in found.items() if not (k in OF_A_PROFILE and (pinned or v <= 0))}


def _numbers(pattern: re.Pattern[str], text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in pattern.findall(text)]
