# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the watchdog of a host has written about its servers, as facts. Pure."""

from __future__ import annotations

import json
import typing as t

Facts = dict[str, t.Any]

STATE = "/var/lib/gpufleet.vllm/watchdog/state.json"
VERSION = 1
KEYS = ("name", "backend", "status", "since", "restarts", "stood_down", "cause", "post_mortem")
# Seconds after which one that runs has written again.
SILENT = 120.0


def watchdog(text: str, age: float | None) -> Facts | None:
    """The facts, from the file and the seconds since it was written; None where there is no watchdog."""
    try:
        known = json.loads(text or "null")
        servers = [{key: one.get(key) for key in KEYS} for one in known["servers"].values()]
        if known["version"] != VERSION:
            return None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return {
        "running": age is not None and age < SILENT,
        "updated": known.get("updated"),
        "paused_until": known.get("paused_until"),
        "servers": sorted(servers, key=lambda one: (str(one["name"]), str(one["backend"]))),
    }
