# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a start is: its phases, read from the log, and the words for them on one line of a terminal. Pure.

The controller imports this for the words alone: no pattern is compiled, nor log.py loaded, before a log is read.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from .phase_lines import BAR, EARLY, ORDER, begins

if t.TYPE_CHECKING:
    from .log import Line

# ---------------------------------------------------------------------------------------------------------------------
# The phases of a start
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Phase:
    """One phase of a start, and how long it took or has taken so far."""

    name: str
    seconds: float | None = None
    # How far the phase is, where its progress bar tells.
    percent: int | None = None
    detail: str = ""

    def to_dict(self) -> dict[str, t.Any]:
        """As results have it."""
        seconds = None if self.seconds is None else round(self.seconds, 1)
        return {"name": self.name, "seconds": seconds, "percent": self.percent, "detail": self.detail}


@dataclass
class Timeline:
    """The phases of a start, from lines as they come."""

    names: list[str] = field(default_factory=list)
    began: list[float | None] = field(default_factory=list)
    bars: list[tuple[int | None, str]] = field(default_factory=list)
    latest: float | None = None

    def feed(self, line: Line) -> None:
        """Take in one more line of the log."""
        from .log import is_banner, seconds_of

        at = seconds_of(line.time)
        self.latest = at if at is not None else self.latest
        if self.latest is not None and self.names and self.began[-1] is None:
            self.began[-1] = self.latest
        if is_banner(line) and "init" in self.names and self.names[-1] != "init":
            self.names, self.began, self.bars = [], [], []
        name = begins(line.text)
        if name is None or self.names and ORDER.index(name) < ORDER.index(self.names[-1]) and not self._returns(name):
            return
        if not self.names or name != self.names[-1]:
            self.names.append(name)
            self.began.append(self.latest)
            self.bars.append((None, ""))
        progress = re.search(BAR, line.text)
        if progress and name in ("download", "load", "capture"):
            self.bars[-1] = (min(100, int(progress.group("percent"))), f"{progress.group('n')}/{progress.group('m')}")

    def _returns(self, name: str) -> bool:
        """Profiling compiles, once; the download has parts: the configuration, and the weights while it loads."""
        both = {name, self.names[-1]}
        return both == {"compile", "profile"} and name not in self.names or "download" in both and both <= EARLY

    def phases(self) -> list[Phase]:
        """What the start has gone through, the current phase last."""
        ends = [*self.began[1:], self.latest]
        return [
            Phase(name, None if a is None or b is None else max(0.0, b - a), *done)
            for name, a, b, done in zip(self.names, self.began, ends, self.bars)
        ]

    @property
    def current(self) -> Phase:
        """The phase that the start is in."""
        return self.phases()[-1] if self.names else Phase("start")


def timeline(text: str) -> Timeline:
    """The phases of the last start in a log."""
    from .log import lives, parse_lines

    phases = Timeline()
    for entry in lives(parse_lines(text))[-1].lines:
        phases.feed(entry)
    return phases


# ---------------------------------------------------------------------------------------------------------------------
# In words
# ---------------------------------------------------------------------------------------------------------------------

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
    """Minutes and seconds, as a clock shows them."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


def words(phase: str, percent: int | None, detail: str = "") -> str:
    """What a server does in a phase, and how much of it is done."""
    doing = WORDS.get(phase, phase)
    if percent is None:
        return doing
    return f"{doing} {percent} %{f' ({detail})' if detail else ''}"


def line(name: str, seen: t.Mapping[str, t.Any], elapsed: float, expected: float | None, is_cold: bool = False) -> str:
    """One line about one server: who, what, how long, how long it usually takes, and why that may be no measure."""
    doing = words(str(seen.get("phase") or "start"), seen.get("percent"), str(seen.get("detail") or ""))
    usual = f" of about {duration(expected)}" if expected else ""
    is_late = expected is not None and 0 < expected < elapsed
    why = " (cold start: it compiles first)" if is_cold else " (longer than usual)" if is_late else ""
    return f"{name}: {doing}, {duration(elapsed)}{usual}{why}"


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
    parts = ", ".join(f"{WORDS.get(key, key)} {seconds:.0f} s" for key, seconds in spent.items())
    return f"{name}: healthy after {duration(result.get('elapsed') or 0)}{f' ({parts})' if parts else ''}"
