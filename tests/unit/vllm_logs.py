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
