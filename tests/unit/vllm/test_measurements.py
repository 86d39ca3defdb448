# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What real and composed logs tell about a start."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.history import pin
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.measurements import KEYS, measured
from hypothesis import given, strategies as st
from vllm_logs import COLD, PINNED, captured


@pytest.mark.parametrize(
    ("name", "told"),
    [
        pytest.param("h200_gptoss20b_cold", COLD, id="a first start"),
        pytest.param("h200_gptoss20b_warm_kv_pinned", PINNED, id="a pinned start measures no KV cache"),
        pytest.param(
            "h200_llama8b",
            {
                "weights_gib": 15.0,
                "load_seconds": 2.165021,
                "activation_gib": 0.88,
                "non_torch_gib": 0.22,
                "graphs_gib": 0.0,
                "kv_gib": 53.8,
                "kv_tokens": 440688,
                "concurrency": 53.79,
                "kv_cache_memory_bytes": 57606020096,
                "init_seconds": 9.62,
            },
            id="another runner, without CUDA graphs",
        ),
        pytest.param(
            "cpu_healthy",
            {"load_seconds": 0.18, "kv_tokens": 986895, "concurrency": 963.76, "init_seconds": 2.77},
            id="no GPU",
        ),
        pytest.param("h200_memory_held", {}, id="a start that failed early"),
    ],
)
def test_a_captured_log_tells_what_was_measured(name: str, told: dict[str, t.Any]) -> None:
    assert measured(captured(name)) == told


def test_only_the_last_start_counts() -> None:
    both = captured("h200_llama8b") + captured("h200_gptoss20b_cold")
    assert measured(both) == COLD
    assert measured(captured("h200_gptoss20b_cold") + captured("h200_memory_held")) == {}
    pinned = measured(captured("h200_gptoss20b_cold") + captured("h200_gptoss20b_warm_kv_pinned"))
    assert pinned == PINNED


def test_a_log_as_docker_keeps_it_tells_the_same() -> None:
    lines = captured("h200_gptoss20b_cold").split("\n")
    wrapped = "\n".join(
        json.dumps({"log": f"{line}\n", "stream": "stdout", "time": "2026-11-21T04:40:02Z"}) for line in lines
    )
    assert measured(wrapped) == COLD


USAGE = "Free memory on device (78.66/79.19 GiB) on startup. Desired GPU memory utilization is (0.9, 71.27 GiB). Actual usage is "
PARTS = "14.08 GiB for weight, 1.97 GiB for peak activation, 0.07 GiB for non-torch memory, and 0.67 GiB for CUDAGraph memory. "
PARTS_GIB = {"weights_gib": 14.08, "activation_gib": 1.97, "non_torch_gib": 0.07, "graphs_gib": 0.67}


@pytest.mark.parametrize(
    ("log", "told"),
    [
        pytest.param(
            f"{USAGE}{PARTS}Replace gpu_memory_utilization config with `--kv-cache-memory=58333988249` to fit into "
            f"requested "
            "memory, or `--kv-cache-memory=66273897472` to fully utilize gpu memory. Current kv cache memory in use is "
            "59212694937 bytes.",
            {**PARTS_GIB, "kv_cache_memory_bytes": 58333988249},
            id="0.10.2, without the sizes in GiB",
        ),
        pytest.param(
            f"{USAGE}{PARTS}Replace gpu_memory_utilization config with `--kv-cache-memory-bytes=8538253005` (7.95 "
            f"GiB) to fit "
            "into requested memory, or `--kv-cache-memory-bytes=9820551680` (9.15 GiB) to fully utilize gpu memory. "
            "Current "
            "kv cache memory in use is 8.28 GiB.",
            {**PARTS_GIB, "kv_cache_memory_bytes": 8538253005, "kv_gib": 8.28},
            id="the flag's full name",
        ),
        pytest.param(
            f"{USAGE}{PARTS}Replace gpu_memory_utilization config with `--kv-cache-memory=38082119680` (35.47 GiB) to "
            f"fully "
            "utilize gpu memory. Current kv cache memory in use is 35.4 GiB.",
            {**PARTS_GIB, "kv_gib": 35.4},
            id="all of the GPU is never taken",
        ),
        pytest.param(
            f"{USAGE}{PARTS}Replace gpu_memory_utilization config with `--kv-cache-memory=-22366000000` (-20.83 GiB) "
            f"to fit into "
            "requested memory, or `--kv-cache-memory=-9780000000` (-9.11 GiB) to fully utilize gpu memory.",
            PARTS_GIB,
            id="less than nothing is no value",
        ),
        pytest.param(
            "Model loading took 56.5 GiB memory and 31.25 seconds\n"
            f"{USAGE}56.89 GiB for consumed memory (weights + non-torch), 0.76 GiB for peak activation, and 0.32 GiB "
            f"for "
            "CUDAGraph memory.",
            {
                "weights_gib": 56.5,
                "load_seconds": 31.25,
                "activation_gib": 0.76,
                "graphs_gib": 0.32,
                "non_torch_gib": 0.39,
            },
            id="weights and the rest in one number",
        ),
        pytest.param(
            "model weights take 14.99GiB; non_torch_memory takes 0.13GiB; PyTorch activation peak memory takes "
            "4.76GiB; the "
            "rest of the memory reserved for KV Cache is 51.38GiB.",
            {"weights_gib": 14.99, "non_torch_gib": 0.13, "activation_gib": 4.76, "kv_gib": 51.38},
            id="0.8.5 and before",
        ),
        pytest.param(
            "Model loading took 12.7513 GiB and 5.123456 seconds\ninit engine (profile, create kv cache, warmup "
            "model) took 81.50 seconds",
            {"weights_gib": 12.7513, "load_seconds": 5.123456, "init_seconds": 81.5},
            id="without the word memory, and with seconds",
        ),
        pytest.param(
            "GPU KV cache size: 1,043,264 tokens, Maximum concurrency for 131,072 tokens per request: 15.66x",
            {"kv_tokens": 1043264, "concurrency": 15.66},
            id="size and concurrency on one line",
        ),
        pytest.param(
            "Graph capturing finished in 5 secs, took 0.67 GiB", {"graphs_gib": 0.67}, id="the graphs without a summary"
        ),
        pytest.param("Available KV cache memory: -2.14 GiB", {}, id="no room for a cache"),
        pytest.param("", {}, id="nothing"),
    ],
)
def test_every_spelling_is_read(log: str, told: dict[str, t.Any]) -> None:
    assert measured(log) == told


def test_of_several_ranks_the_least_cache_and_the_most_of_the_rest_count() -> None:
    def rank(number: int, weights: float, seconds: float, kv: float, tokens: str, printed: int) -> str:
        prefix = f"(Worker_TP{number} pid={770 + number}) INFO 08-21 18:21:55 [gpu_worker.py:560] "
        return "\n".join(
            prefix + line
            for line in (
                f"Model loading took {weights} GiB memory and {seconds} seconds",
                f"Available KV cache memory: {kv} GiB",
                f"GPU KV cache size: {tokens} tokens",
                f"{USAGE}{weights} GiB for weight, {weights / 10} GiB for peak activation, -0.51 GiB for non-torch "
                f"memory, and "
                f"0.9 GiB for CUDAGraph memory. Replace gpu_memory_utilization config with "
                f"`--kv-cache-memory={printed}` "
                "(1.0 GiB) to fit into requested memory.",
            )
        )

    logs = [rank(0, 30.0, 9.5, 28.74, "240,816", 30_000_000_000), rank(1, 31.0, 8.5, 28.5, "238,000", 29_000_000_000)]
    for log in ("\n".join(logs), "\n".join(reversed(logs))):
        assert measured(log) == {
            "weights_gib": 31.0,
            "load_seconds": 9.5,
            "activation_gib": 3.1,
            "non_torch_gib": -0.51,
            "graphs_gib": 0.9,
            "kv_gib": 28.5,
            "kv_tokens": 238000,
            "kv_cache_memory_bytes": 29_000_000_000,
        }


def test_a_plan_of_vllms_own_is_a_pinned_start_too() -> None:
    log = (
        "Applying persisted startup plan (fingerprint 0a): kv_cache_memory_bytes=8538253005 (7.95 GiB)\n"
        "Initial free memory 93.8 GiB, reserved 7.95 GiB memory for KV Cache as specified by kv_cache_memory_bytes "
        "config and "
        "skipped memory profiling.\nCurrent kv cache memory in use is 7.95 GiB."
    )
    assert measured(log) == {}


FRAGMENTS = st.sampled_from(
    [
        "Model loading took ",
        " GiB",
        " memory and ",
        " seconds",
        "Available KV cache memory: ",
        "KV cache size: ",
        " tokens",
        "x",
    ]
    + [
        "Maximum concurrency for 1 tokens per request: ",
        "--kv-cache-memory=",
        "` to fit into requested memory",
        "1.5",
        "-3",
        "9" * 40,
    ]
    + [
        " GiB for weight",
        "init engine () took ",
        "vLLM API server version 0.26.0",
        "\n",
        "\r",
        "1.2.3",
        ",,,",
        "\N{ARABIC-INDIC DIGIT TWO}",
    ]
)


@given(st.lists(FRAGMENTS | st.text(max_size=5), max_size=30).map("".join))
def test_no_text_raises_and_only_numbers_are_told(log: str) -> None:
    told = measured(log)
    assert set(told) <= set(KEYS)
    assert all(isinstance(value, (int, float)) for value in told.values())
    pinned = pin(told)
    assert pinned is None or pinned > 0
