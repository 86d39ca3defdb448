# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which phases a start has gone through, and the words for them."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.phases import (
    ORDER,
    WORDS,
    duration,
    line,
    step,
    summary,
    timeline,
)
from vllm_logs import READY, START, captured as log

# --- phases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "names", "seconds"),
    [
        ("cpu_healthy", "init load profile server ready", {"init": 31, "server": 9}),
        (
            "h200_gptoss20b_cold",
            "init load profile compile profile capture server ready",
            {"capture": 41, "compile": 8},
        ),
        ("h200_gemma3_27b", "init load profile server ready", {"load": 2}),
        ("h200_memory_held", "init", {"init": 42}),
        ("cpu_disk_full", "init download init load", {"load": 5}),
        ("h200_bad_flag", "", {}),
    ],
)
def test_phases(name: str, names: str, seconds: dict[str, float]) -> None:
    phases = timeline(log(name)).phases()
    assert " ".join(phase.name for phase in phases) == names
    assert {phase.name: phase.seconds for phase in phases if phase.name in seconds} == seconds


LINE = "(EngineCore pid=1) INFO 11-21 10:00:{:02d} [x.py:1] {}\n"


@pytest.mark.parametrize(
    ("text", "name", "percent", "detail"),
    [
        (
            "Unable to find image 'nvcr.io/nvidia/vllm:25.09-py3' locally\n25.09-py3: Pulling from nvidia/vllm\n",
            "pull",
            None,
            "",
        ),
        (LINE.format(0, "vLLM API server version 0.10.2"), "init", None, ""),
        ("Fetching 15 files:  20%|██        | 3/15 [00:10<00:40,  3.3s/it]", "download", 20, "3/15"),
        (LINE.format(1, "Starting to load model openai/gpt-oss-120b..."), "load", None, ""),
        ("Loading safetensors checkpoint shards:  27% Completed | 4/15 [00:10<00:27,  2.5s/it]\n", "load", 27, "4/15"),
        ("\rLoading safetensors using Fastsafetensor loader:  40% Completed | 6/15 [00:01<00:02]", "load", 40, "6/15"),
        (LINE.format(2, "Dynamo bytecode transform time: 4.14 s"), "compile", None, ""),
        (LINE.format(2, "torch.compile takes 12.28 s in total"), "profile", None, ""),
        (LINE.format(2, "torch.compile took 12.28 s in total"), "profile", None, ""),
        (LINE.format(3, "GPU KV cache size: 2,965,722 tokens"), "profile", None, ""),
        ("Capturing CUDA graph shapes:  40%|████      | 27/67 [00:10<00:15,  2.6it/s]", "capture", 40, "27/67"),
        ("Capturing CUDA graphs (decode, FULL):  99%|█████████▉| 82/83 [00:10<00:00]", "capture", 99, "82/83"),
        (
            LINE.format(4, "init engine (profile, create kv cache, warmup model) took 123.66 seconds"),
            "server",
            None,
            "",
        ),
        (LINE.format(4, "Starting vLLM API server 0 on http://0.0.0.0:8000"), "server", None, ""),
        (READY, "ready", None, ""),
        ("nothing of that\n", "start", None, ""),
    ],
)
def test_current_phase(text: str, name: str, percent: int | None, detail: str) -> None:
    current = timeline(text).current
    assert (current.name, current.percent, current.detail) == (name, percent, detail)


def test_a_new_start_begins_anew() -> None:
    assert timeline(log("h200_llama8b") + START).current.name == "init"


def test_the_turn_of_the_year_takes_no_time() -> None:
    text = "".join(
        [
            "INFO 12-31 23:59:59 [x.py:1] vLLM API server version 0.10.2\n",
            "INFO 01-01 00:00:09 [x.py:1] Starting to load model m...\n",
        ]
    )
    assert timeline(text).phases()[0].seconds == 0


# --- in words ---------------------------------------------------------------------------------------------------------


def test_every_phase_has_words() -> None:
    assert set(WORDS) == {"start", *ORDER}


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (9.9, "0:09"), (61, "1:01"), (3600, "60:00")])
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("seen", "expected", "text"),
    [
        ({"phase": "load", "percent": 27, "detail": "4/15"}, 450, "a: loading weights 27 % (4/15), 1:12 of about 7:30"),
        ({"phase": "load", "percent": None, "detail": ""}, None, "a: loading weights, 1:12"),
        ({"phase": "waiting for health", "percent": None}, None, "a: waiting for health, 1:12"),
        ({}, None, "a: starting, 1:12"),
    ],
)
def test_line(seen: dict[str, t.Any], expected: float | None, text: str) -> None:
    assert line("a", seen, 72.4, expected) == text


@pytest.mark.parametrize(
    ("elapsed", "expected", "is_cold", "text"),
    [
        pytest.param(92.0, 240, False, "1:32 of about 4:00", id="in time"),
        pytest.param(361.0, 240, False, "6:01 of about 4:00 (longer than usual)", id="later than expected"),
        pytest.param(361.0, 240, True, "6:01 of about 4:00 (cold start: it compiles first)", id="later, and cold"),
        pytest.param(92.0, 240, True, "1:32 of about 4:00 (cold start: it compiles first)", id="cold"),
        pytest.param(92.0, None, True, "1:32 (cold start: it compiles first)", id="cold, and nothing is expected"),
        pytest.param(92.0, 0, False, "1:32", id="nothing is expected"),
    ],
)
def test_a_line_does_not_overrun_without_a_word(
    elapsed: float, expected: float | None, is_cold: bool, text: str
) -> None:
    assert line("a", {"phase": "profile"}, elapsed, expected, is_cold) == f"a: profiling memory, {text}"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"phase": "load", "percent": 0}, {"phase": "load", "percent": 24}, True),
        ({"phase": "load", "percent": 24}, {"phase": "load", "percent": 25}, False),
        ({"phase": "load", "percent": None}, {"phase": "load", "percent": 0}, False),
        ({"phase": "load"}, {"phase": "compile"}, False),
        ({"phase": "init"}, {"phase": "init", "elapsed": 9}, True),
    ],
)
def test_step(one: dict[str, t.Any], other: dict[str, t.Any], same: bool) -> None:
    assert (step(one) == step(other)) is same


def test_summary() -> None:
    phases = [
        {"name": "init", "seconds": 37.0},
        {"name": "profile", "seconds": 5.0},
        {"name": "compile", "seconds": 0.4},
        {"name": "profile", "seconds": 69.0},
        {"name": "ready", "seconds": 12.0},
        {"name": "load", "seconds": None},
    ]
    told = summary("a", {"elapsed": 123.4, "phases": phases})
    assert told == "a: healthy after 2:03 (importing and configuring 37 s, profiling memory 74 s)"
    assert summary("a", {"elapsed": 4.0, "phases": []}) == "a: healthy after 0:04"
