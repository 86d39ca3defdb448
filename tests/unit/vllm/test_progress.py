# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import ORDER
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.phases import WORDS, duration, line, step, summary


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
