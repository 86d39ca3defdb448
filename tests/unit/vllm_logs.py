# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Captured logs of real vLLM starts and failures."""

from __future__ import annotations

from pathlib import Path

LOGS = Path(__file__).parents[1] / "fixtures" / "vllm_logs"
# Progress bars return the carriage. The files show that as a visible sign: a checkout may not hold the character.
CARRIAGE_RETURN = "\N{SYMBOL FOR CARRIAGE RETURN}"


def captured(name: str) -> str:
    """The log as it was written, to the character."""
    return (LOGS / f"{name}.log").read_text("utf-8").replace(CARRIAGE_RETURN, "\r")


# The first line of a start, and the one that ends it.
START = "(APIServer pid=1) INFO 01-01 10:00:00 [a.py:1] vLLM API server version 0.11.0\n"
READY = "INFO:     Application startup complete.\n"
# What two of the captured starts measured.
COLD = {
    "weights_gib": 13.03,
    "load_seconds": 1.056925,
    "activation_gib": 2.87,
    "non_torch_gib": 0.23,
    "graphs_gib": 1.04,
    "kv_gib": 102.12,
    "kv_tokens": 2965722,
    "concurrency": 90.51,
    "kv_cache_memory_bytes": 108998928384,
    "init_seconds": 123.66,
}
PINNED = {
    "weights_gib": 13.03,
    "load_seconds": 0.693303,
    "graphs_gib": 0.5,
    "kv_tokens": 1742521,
    "concurrency": 53.18,
    "init_seconds": 10.72,
}
