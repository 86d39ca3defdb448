# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a start is, in words for one line of a terminal. Pure."""

from __future__ import annotations

import typing as t

WORDS = {
    "start": "starting",
    "pull": "pulling the image",
    "init": "importing and configuring",
    "download": "downloading weights",
    "load": "loading weights",
    "compile": "compiling",
    "profile": "profiling memory",
    "capture": "capturing CUDA graphs",
    "server": "starting the API server",
    "ready": "checking the answer",
}
# A new line is worth it for a new phase, and for so many more percent of one.
STEP = 25


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def words(phase: str, percent: int | None, detail: str = "") -> str:
    said = WORDS.get(phase, phase)
    if percent is None:
        return said
    return f"{said} {percent} %{f' ({detail})' if detail else ''}"


def line(name: str, seen: t.Mapping[str, t.Any], elapsed: float, expected: float | None) -> str:
    """One line about one server: who, what, how long, how long it usually takes."""
    said = words(str(seen.get("phase") or "start"), seen.get("percent"), str(seen.get("detail") or ""))
    usual = f" of about {duration(expected)}" if expected else ""
    return f"{name}: {said}, {duration(elapsed)}{usual}"


def step(seen: t.Mapping[str, t.Any]) -> tuple[str, int]:
    """What has to change before another line is worth reading."""
    percent = seen.get("percent")
    return str(seen.get("phase")), -1 if percent is None else int(percent) // STEP


def summary(name: str, result: t.Mapping[str, t.Any]) -> str:
    """The last line: how long the start took, and what took long."""
    long = [p for p in result.get("phases") or () if p.get("name") != "ready" and (p.get("seconds") or 0) >= 1]
    spent: dict[str, float] = {}
    for phase in long:
        spent[phase["name"]] = spent.get(phase["name"], 0) + phase["seconds"]
    told = ", ".join(f"{WORDS.get(key, key)} {seconds:.0f} s" for key, seconds in spent.items())
    return f"{name}: healthy after {duration(result.get('elapsed') or 0)}{f' ({told})' if told else ''}"
