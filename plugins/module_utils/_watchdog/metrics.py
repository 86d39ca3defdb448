# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What C(/metrics) of a vLLM server says of its engines: steps, requests, sleep. Pure.

By the label C(engine), the index of a data parallel rank. The names have been the same since 0.8.5; that of sleep is
since 0.11.1. An older server that sleeps is not known to.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

# A histogram of tokens a step: its count is that of the steps.
STEPS = "vllm:iteration_tokens_total_count"
REQUESTS = ("vllm:num_requests_running", "vllm:num_requests_waiting")
SLEEP = "vllm:engine_sleep_state"
SAMPLE = re.compile(
    rf"^({'|'.join((STEPS, *REQUESTS, SLEEP))})(?:\{{([^}}\n]*)\}})? +([0-9.eE+-]+)(?: |$)", re.MULTILINE
)
ENGINE = re.compile(r'(?:^|,)engine="([^"]*)"')


@dataclass(frozen=True)
class Reading:
    """What was read: steps and requests by engine, and whether all of it sleeps."""

    steps: t.Mapping[str, float] = field(default_factory=dict)
    requests: t.Mapping[str, float] = field(default_factory=dict)
    asleep: bool = False


def read_metrics(text: str) -> Reading:
    """The engines of a server, from the text of its metrics."""
    steps: dict[str, float] = {}
    requests: dict[str, float] = {}
    awake: list[bool] = []
    for name, labels, number in SAMPLE.findall(text):
        value = _number(number)
        if value is None:
            continue
        found = ENGINE.search(labels)
        engine = found[1] if found else "0"
        if name == STEPS:
            # Several models of one engine (LoRA) have a series each.
            steps[engine] = steps.get(engine, 0.0) + value
        elif name in REQUESTS:
            requests[engine] = requests.get(engine, 0.0) + value
        elif 'sleep_state="awake"' in labels:
            awake.append(value > 0)
    return Reading(steps, requests, bool(awake) and not any(awake))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
