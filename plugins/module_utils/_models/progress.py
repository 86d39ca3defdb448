# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a transfer is: percent, rate, time left, and the words for them on one line of a terminal. Pure."""

from __future__ import annotations

import typing as t

from .._vllm.phases import duration
from .plan import size

STEP = 10


def state(done: int, total: int, came: int, seconds: float) -> dict[str, t.Any]:
    """As results have it. C(came) are the bytes of the last C(seconds), which tell the rate."""
    rate = came / seconds if seconds > 0 else 0.0
    return {
        "done_bytes": done,
        "total_bytes": total,
        "percent": 100 * done // total if total else 100,
        "bytes_per_second": round(rate),
        "seconds_left": round((total - done) / rate) if rate else None,
    }


def line(name: str, seen: t.Mapping[str, t.Any], elapsed: float, _expected: float | None = None) -> str:
    """One line about one transfer."""
    progress = seen.get("progress")
    if progress is None:
        return f"{name}: checking the files on the host, {duration(elapsed)}"
    if not progress.get("total_bytes"):
        return f"{name}: verifying the files on the host, {duration(elapsed)}"
    done, total = progress["done_bytes"], progress["total_bytes"]
    rate = f", {size(progress['bytes_per_second'])}/s" if progress["bytes_per_second"] else ""
    left = progress["seconds_left"]
    rest = f", {duration(left)} left" if left is not None and done < total else ""
    doing = progress.get("doing", "fetched")
    return f"{name}: {doing} {progress['percent']} % ({size(done)} of {size(total)}){rate}{rest}, {duration(elapsed)}"


def step(seen: t.Mapping[str, t.Any]) -> int:
    """What has to change before another line is worth reading."""
    return int((seen.get("progress") or {}).get("percent") or 0) // STEP


def summary(name: str, result: t.Mapping[str, t.Any]) -> str:
    """The last line: what came, and how long it took; empty when nothing came."""
    came, elapsed = result.get("fetched_bytes") or 0, result.get("elapsed") or 0
    rate = f", {size(came / elapsed)}/s" if elapsed >= 1 else ""
    return f"{name}: complete after {duration(elapsed)} ({size(came)} fetched{rate})" if came else ""
