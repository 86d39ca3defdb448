# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a log line of vLLM is read, of any era and through any collector, and where in a log each start begins. Pure."""

from __future__ import annotations

import bisect
import functools
import json
import re
import typing as t
from dataclasses import dataclass

from .._host.printable import ESCAPES

# ---------------------------------------------------------------------------------------------------------------------
# Lines, without colours, carriage returns and prefixes
# ---------------------------------------------------------------------------------------------------------------------

# What collectors put in front: docker logs --timestamps, journalctl, docker compose, the CRI format.
COLLECTOR = re.compile(
    r"(?:(?:(?P<iso>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d))"
    r"|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d) "
    r"(?:(?:stdout|stderr) [FP] |\S+ [\w@./-]+\[\d+\]: )?)?"
    r"(?:[\w.-]+ +\| )?"
)
PROCESS = re.compile(r"\((?P<process>[A-Za-z][\w ]*?)(?: rank=\d+)? pid=\d+(?:, ip=[\d.a-f:]+)?\) ?")
LEVEL = re.compile(
    r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) (?P<time>\d\d-\d\d \d\d:\d\d:\d\d)(?:\.\d+)? \[?[\w./<>-]+:\d+\] ?"
)
UVICORN = re.compile(r"(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL): {2,}")
QUIET = frozenset(("DEBUG", "INFO", "WARNING"))


@dataclass(frozen=True)
class Line:
    """One line as the process wrote it, apart from what stood before it."""

    text: str
    level: str = ""
    time: str = ""
    process: str = ""

    @property
    def is_error(self) -> bool:
        """Whether the process called it an error."""
        return self.level in ("ERROR", "CRITICAL")


def parse_lines(text: str) -> list[Line]:
    """The lines of a log. A progress bar that rewrites its line becomes one line for each of its states."""
    lines: list[Line] = []
    for raw in text.split("\n"):
        unwrapped = _unwrapped(raw) if raw.startswith("{") else [(raw, "")]
        for line, stamp in unwrapped:
            plain = ESCAPES.sub("", line) if "\x1b" in line else line
            lines += [_line(part, stamp) for part in plain.split("\r") if part or "\r" not in plain]
    return lines


def _unwrapped(raw: str) -> list[tuple[str, str]]:
    """A line of Docker's json-file, or of vLLM's own JSON logging, as the text in it."""
    try:
        # As text: the time that Python 3.10 takes for a number grows with the square of its length.
        entry = json.loads(raw, parse_int=str)
    except (ValueError, RecursionError):
        return [(raw, "")]
    if not isinstance(entry, dict):
        return [(raw, "")]
    # Text alone: what is nested may be too deep to print.
    entry = {key: value for key, value in entry.items() if isinstance(value, str)}
    stamp = entry.get("time") or entry.get("timestamp") or ""
    words = [entry.get(key) for key in ("log", "message", "msg", "exc_info", "exception")]
    texts = [word for word in words if word is not None]
    if not texts:
        return [(raw, "")]
    level = (entry.get("level") or entry.get("levelname") or "").upper()
    lines = [line for text in texts for line in text.rstrip("\n").split("\n")]
    return [(f"{level} 00-00 00:00:00 [json:0] {line}" if level else line, stamp) for line in lines]


def _line(text: str, stamp: str = "") -> Line:
    collector = COLLECTOR.match(text)
    start = collector.end() if collector else 0
    stamp = stamp or (collector.group("iso") or "" if collector else "")
    process = PROCESS.match(text, start)
    start = process.end() if process else start
    level = LEVEL.match(text, start) or UVICORN.match(text, start)
    start = level.end() if level else start
    own = level.groupdict().get("time") or "" if level else ""
    # From 0.31 on the process name is part of the format, and a process that adds its own prefix shows both.
    if not process and level:
        process = PROCESS.match(text, start)
        start = process.end() if process else start
    return Line(
        text[start:].rstrip(),
        level.group("level") if level else "",
        stamp or own,
        process.group("process") if process else "",
    )


# ---------------------------------------------------------------------------------------------------------------------
# The log as a whole
# ---------------------------------------------------------------------------------------------------------------------

BANNER = re.compile(r"vLLM (?:API )?server version|^[^█]*█.*\bversion \d|^args: Namespace\(|^non-default args: ")


def is_banner(line: Line) -> bool:
    """Whether a line is the first that a start writes."""
    return BANNER.search(line.text) is not None


@dataclass(frozen=True)
class Log:
    """One life of a server."""

    lines: tuple[Line, ...]

    @functools.cached_property
    def text(self) -> str:
        """All lines as one text, without their prefixes."""
        return "\n".join(line.text for line in self.lines)

    @functools.cached_property
    def starts(self) -> list[int]:
        """Where in the text each line begins."""
        starts, at = [], 0
        for line in self.lines:
            starts.append(at)
            at += len(line.text) + 1
        return starts

    def index(self, position: int) -> int:
        """The line that holds a position of the text."""
        return bisect.bisect_right(self.starts, position) - 1

    def last(self, pattern: re.Pattern[str]) -> int | None:
        """The last line that matches."""
        return next((i for i in range(len(self.lines) - 1, -1, -1) if pattern.search(self.lines[i].text)), None)

    def first(self, pattern: re.Pattern[str]) -> int | None:
        """The first line that matches."""
        return next((i for i, line in enumerate(self.lines) if pattern.search(line.text)), None)

    def after(self, index: int) -> Log:
        """What was written after a line."""
        return Log(self.lines[index + 1 :])

    def setting(self, name: str) -> str | None:
        """A setting as the server printed it at its start."""
        match = re.search(
            rf"^(?:non-default args|args): .*?['(, ]{name}'?[=:] ?'?([^,')}}\]]+)", self.text, re.MULTILINE
        )
        return match.group(1) if match else None


def lives(lines: t.Sequence[Line]) -> list[Log]:
    """The log cut at the banner of each start. What stands before the first banner belongs to the first life."""
    cuts: list[int] = []
    seen = -100
    for i, line in enumerate(lines):
        if is_banner(line):
            # A banner has several lines, and some of them match.
            if i - seen > 20:
                cuts.append(i)
            seen = i
    edges = [0, *cuts[1:], len(lines)]
    return [Log(tuple(lines[a:b])) for a, b in zip(edges, edges[1:])]


# ---------------------------------------------------------------------------------------------------------------------
# Times
# ---------------------------------------------------------------------------------------------------------------------

MONTHS = (0, 31, 60, 91, 121, 152, 182, 213, 244, 274, 305, 335)
STAMP = re.compile(r"(?:\d{4}-)?(\d\d)-(\d\d)[ T](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?")


def seconds_of(stamp: str) -> float | None:
    """A time of the log as seconds, for differences only: vLLM writes neither year nor time zone."""
    match = STAMP.match(stamp)
    if not match:
        return None
    month, day, hour, minute, second = (int(group) for group in match.groups()[:5])
    if not 1 <= month <= 12:
        return None
    fraction = float(f"0.{match.group(6)}") if match.group(6) else 0.0
    return (((MONTHS[month - 1] + day) * 24 + hour) * 60 + minute) * 60 + second + fraction
