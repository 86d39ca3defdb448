# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a log line of vLLM is read, of any era and through any collector, and where in a log each start begins. Pure."""

from __future__ import annotations

import bisect
import functools
import json
import os
import re
import typing as t
from dataclasses import dataclass

from .._host.printable import ESCAPES
from .phase_lines import begins

# ---------------------------------------------------------------------------------------------------------------------
# Lines, without colours, carriage returns and prefixes
# ---------------------------------------------------------------------------------------------------------------------

LEVELS = "DEBUG|INFO|WARNING|ERROR|CRITICAL"
ADDRESS = r"(?:, ip=[\d.a-f:]+)?"
TIME = r"\d\d-\d\d \d\d:\d\d:\d\d"
# How a process begins a line, each part any number of times: who it is (vLLM; Ray, which puts its own before it; the
# rank of torch), and how bad (vLLM, uvicorn, Ray, the C++ of torch).
HEAD = re.compile(
    rf"\((?P<process>[A-Za-z][\w ]*?)(?: rank=\d+)? pid=(?P<pid>\d+){ADDRESS}\) ?"
    rf"|(?P<level>{LEVELS}) (?P<time>{TIME})(?:\.\d+)? \[?[\w./<>-]+:\d+[\]\[]* ?"
    rf"|(?P<plain>{LEVELS})(?:: {{2,}}|:(?=[\w.]+:)| (?=[\w./]+:\d+ -- ))"
    r"|\[rank(?P<rank>\d+)\]: ?"
    r"|\[(?P<letter>[IWEF])(?:\d{3,4} \d\d:\d\d:\d\d[\d.]*)? (?:\d+ )?[^\]\s]+:\d+\] ?"
    rf"|\((?P<daemon>raylet|autoscaler|gcs_server){ADDRESS}\) ?"
)
LETTERS = {"I": "INFO", "W": "WARNING", "E": "ERROR", "F": "CRITICAL"}
# A head that no message holds by chance: what stands before it is somebody else's.
MARK = re.compile(rf"\([A-Za-z][\w ]*?(?: rank=\d+)? pid=\d+{ADDRESS}\)|\b(?:{LEVELS})(?: {TIME}|: {{4,}})")
LEVEL_MARK = re.compile(rf"(?:\([A-Za-z]\w*(?: rank=\d+)? pid=\d+\) )*\b(?:{LEVELS}) {TIME} ")
# How far into a line a prefix may reach.
REACH = 200
# A prefix is known by the lines that it stands before: so many of those that begin with a head.
ONE_IN = 10
# A line that is no longer may be nothing but a prefix.
LEAST = 12
# From so many lines at each end of a log its prefixes are learned.
SAMPLE = 400
# Where no line with a head shows what stands before: any date, any clock, what is around them, and who wrote it.
DATE = (
    r"(?:[A-Z][a-z]{2},? )?(?:\d{4}[-/](?:\d\d|[A-Z][a-z]{2})[-/]\d\d[T ,]{1,2}"
    r"|[A-Z][a-z]{2} [ \d]?\d,? (?:\d{4},? )?|\d{1,2}[-/.](?:\d\d?|[A-Z][a-z]{2})[-/.]\d{4},? )?"
)
CLOCK = r"\d{1,2}:\d\d:\d\d(?:[.,]\d+)?(?: ?[AP]M)?(?:Z| ?[+-]\d\d:?\d\d| [A-Z]{3,4}(?= ))?"
STAMP_AHEAD = re.compile(
    rf"(?:[\w./-]+ +\| ?|\[[\w./:-]+\] )?(?:[\[(<]? ?{DATE}{CLOCK}[\])>]?:?\s|\[? *\d{{4,10}}\.\d{{3,9}}\]? )"
    r"(?:(?:stdout|stderr) [FP] |\S+ [\w@./-]+(?:\[\d+\])?: |[\w./-]+ +\| ?|[|\u2502] )?"
    r"|[\w.-]+ +\| "
)
ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?")
# Escapes that somebody made visible, and those whose first character got lost.
SHOWN_ESCAPES = re.compile(
    r"(?:ESC|\^\[|\\x1[bB]|\\u001[bB]|\\0?33|\\e|#033|\u241b|\ufffd)\[\d{0,3}(?:;\d{1,3}){0,5}m"
    r"|\[\d{1,3}(?:;\d{1,3}){0,5}m"
)
FRAME = re.compile(r"\s*[\u2502\u2503|](.*?)\s*[\u2502\u2503|]\s*$")
QUIET = frozenset(("DEBUG", "INFO", "WARNING"))
# What users sent and got, as vLLM logs it, and how such a line ends where nobody broke it: from 0.14 on with the prompt
# in a line of its own, from 0.33 on with the body as it came. The numbers are the users' own, too (X-Request-Id).
REQUESTS = (
    (r"Received request ", r"_request: (?:None|\w+\(.*\))\.$"),
    (r"Request .{1,200}? details: ", r"shape: (?:None|[\w.]+\(.*\))\.$"),
    (r"Request .{1,200}? JSON body: ", r"\}$"),
    (r"Generated response .{1,200}? details: ", r"(?:\]|\)|None)$"),
    (r"Generated response ", r"finish_reason: \w+$"),
    (r"response_body=", r"\}$"),
    (r"(?:Added|Aborted) request(?:\(s\))? ", ""),
)
REQUEST = re.compile("|".join(f"({begin})" for begin, _end in REQUESTS))
# What a line quotes: in the marks of Python, JSON and Markdown, the last perhaps cut off.
QUOTATION = re.compile(r"(?<!\w)(?:(['\"])(?:\\.|(?!\1).)*(?:\1|$)|`[^`']*(?:[`']|$))")


@dataclass(frozen=True)
class Line:
    """One line as the process wrote it, apart from what stood before it."""

    text: str
    level: str = ""
    time: str = ""
    process: str = ""
    pid: str = ""
    # Of the log of requests, broken by a collector: it goes on in the next line.
    goes_on: bool = False

    @property
    def is_error(self) -> bool:
        """Whether the process called it an error."""
        return self.level in ("ERROR", "CRITICAL")


def parse_lines(text: str, broken: str = "") -> list[Line]:
    """The lines of a log. A progress bar that rewrites its line becomes one line for each of its states.

    What stands before them is not known beforehand: whatever the lines that begin as vLLM's do have before that. With
    C(broken) the longest line may be one that a window of any width broke, at the last C(column) or at a C(blank).
    """
    plain = _plain(text, broken)
    prefix = _learned(plain)
    lines: list[Line] = []
    asked: Line | None = None
    for line, stamp in plain:
        found = _lines(line, stamp, prefix)
        if asked and _is_rest(found[0], asked):
            continue
        asked = found[-1] if found[-1].goes_on else None
        lines += found
    return lines


def _is_rest(line: Line, asked: Line) -> bool:
    """Whether a line may be the rest of a request's: it has no head, and begins as nothing that a process writes."""
    has_head = line.process or line.level and not asked.process
    return not (has_head or OWN.match(line.text))


def _plain(text: str, broken: str) -> list[tuple[str, str]]:
    """Lines without escapes, frames and the ends that a window put into them, each with the time that JSON gave it."""
    text = text.lstrip("\ufeff")
    if "\x1b" in text or "\x9b" in text:
        text = ESCAPES.sub("", text)
    if re.search(r"\[[\d;]*m", text):
        text = SHOWN_ESCAPES.sub("", text)
    lines: list[tuple[str, str]] = []
    for raw in text.split("\n"):
        for line, stamp in _unwrapped(raw) if raw.startswith("{") else [(raw, "")]:
            inner = ESCAPES.sub("", line) if "\x1b" in line else line
            lines += [(part, stamp) for part in inner.split("\r") if part or "\r" not in inner]
    return _rejoined(_unframed(lines), broken)


def _unframed(lines: list[tuple[str, str]]) -> list[tuple[str, str]]:
    if not any(line[:1] in "\u2502\u2503" and line for line, _stamp in lines[:SAMPLE]):
        return lines
    matches = [(FRAME.match(line), line, stamp) for line, stamp in lines]
    return [(match.group(1) if match else line, stamp) for match, line, stamp in matches]


# --- lines that a window broke ---

WIDTHS = range(60, 251)
# One broken line is believed where the window is as wide as windows are; another width needs two.
USUAL = frozenset(n - less for n in (80, 100, 120, 132, 160, 200) for less in (0, 1))
# Whatever begins so is a line of its own; and, where no line was broken within a word, what is indented or named.
BEGINS = (
    r"Traceback \(|The above exception|During handling|Process \S+:$|usage: (?!\d)|\S+:\d+:\d+ \[\d+\] "
    r"|(?:[a-z_]\w*\.)*(?:OS|IO|[A-Z][a-z]\w*)(?:Error|Exception|Exit): "
)
OWN = re.compile(
    r"Traceback \(|The above exception|During handling|Process \S+:$|Exception (?:ignored|in) |Fatal Python error"
    r"|\*\*\* SIG|terminate called|!!!!!!! |\[rank\d+\]:|\S+:\d+:\d+ \[\d+\] NCCL "
)
ANEW = {
    "column": re.compile(BEGINS),
    "blank": re.compile(
        rf"{BEGINS}|\s|$|[\w.-]+ +\| |[A-Z][a-z]{{2}} [ \d]\d \d\d:|\[|\{{|\d{{4}}-\d\d|\S+ NCCL |/\S+:\d+: "
    ),
}


def _rejoined(lines: list[tuple[str, str]], broken: str) -> list[tuple[str, str]]:
    """What a window of so many columns broke, whole again; where none did, the lines as they are.

    No line is longer than the window then, and one goes on in the next that has no beginning of its own: broken at the
    last column, or at the last blank before it, where the next word would have been too long. A line alone is believed
    where the window is as wide as windows are, where a prefix stands before all lines but that one, and where asked to.
    """
    width = max((len(line) for line, _stamp in lines), default=0)
    if width not in WIDTHS:
        return lines
    prefix = _learned(lines)
    joints: dict[int, str] = {}
    bare = 0
    for i in range(1, len(lines)):
        # The rest of a line has not the prefix of the line.
        is_bare = (
            prefix is not None and not prefix.match(lines[i][0]) and (i - 1 in joints or prefix.match(lines[i - 1][0]))
        )
        kind = _joint(lines[i - 1][0], lines[i][0], width, bool(is_bare or broken))
        if kind:
            joints[i] = kind
            bare += bool(is_bare)
    if not joints or len(joints) < 2 and not (width in USUAL or bare or broken):
        return lines
    is_hard = broken == "column" if broken else sum(kind == "column" for kind in joints.values()) * 2 > len(joints)
    joined: list[tuple[str, str]] = []
    for i, (line, stamp) in enumerate(lines):
        if i in joints and (joints[i] == "column" or not is_hard):
            before, at = joined[-1]
            between = "" if is_hard or before.endswith(" ") else " "
            joined[-1] = (f"{before}{between}{line}", at)
        else:
            joined.append((line, stamp))
    return joined


def _joint(before: str, line: str, width: int, is_bare: bool) -> str:
    """How a line goes on with the one before: broken at the last column, at a blank, or not at all. A bare one is known
    not to be whole: it lacks the prefix of the others."""
    if not before.strip():
        return ""
    kind = "column" if len(before) == width else "blank"
    if kind == "blank" and len(before.rstrip()) + 1 + len(line.partition(" ")[0]) <= width:
        return ""
    if HEAD.match(line) or MARK.search(line, 0, REACH) or begins(line):
        return ""
    # Not within quotation marks, or after a bracket.
    is_within = kind == "column" and (before.endswith("(") or is_quoted(f"{before} ", len(before)))
    if ANEW["column" if is_bare else kind].match(line) and not is_within:
        return ""
    # Two that begin alike have a prefix. Pydantic has the name of a field below.
    if not line[:1].isspace() and _shape(line[:12])[:8] == _shape(before[:12])[:8]:
        return ""
    return "" if before.rsplit(" ", 3)[-3:-1] in (["error", "for"], ["errors", "for"]) else kind


# --- what stands before a line ---


def _learned(lines: list[tuple[str, str]]) -> re.Pattern[str] | None:
    """What stands before the lines that begin with a head, or, where none does, before all of them."""
    shapes: dict[str, int] = {}
    sample = lines if len(lines) <= 2 * SAMPLE else [*lines[:SAMPLE], *lines[-SAMPLE:]]
    for line, _stamp in sample:
        mark = MARK.search(line, 0, REACH)
        if mark:
            shape = _shape(line[: mark.start()])
            shapes[shape] = shapes.get(shape, 0) + 1
    if not shapes:
        common = _common([line for line, _stamp in sample])
        shapes = {common: 1} if common else {}
    # What stands before one line alone is a prefix where there is none before more of them.
    least = max(sum(shapes.values()) / ONE_IN, min(2, max(shapes.values(), default=0)))
    known = sorted((shape for shape, n in shapes.items() if n >= least and _is_prefix(shape)), key=len, reverse=True)
    # What Ray or torch put before is a head.
    return re.compile("|".join(map(_pattern, known))) if known else None


def _shape(text: str) -> str:
    """A prefix with 0 for each number and one blank for many: the same for every line of one source."""
    return re.sub(r"\s+", " ", re.sub(r"\d+", "0", text))


def _is_prefix(shape: str) -> bool:
    """Whether it may stand before lines: it ends where a word does, and is no progress bar or message."""
    return (
        bool(shape.strip())
        and shape[-1] in " |:]>)="
        and not re.search(r"%|it/s|Error|Traceback|, line 0| File ", shape)
    )


def _pattern(shape: str) -> str:
    parts = [r"\d+" if part == "0" else r"\s+" if part == " " else re.escape(part) for part in re.split("(0| )", shape)]
    # The blanks of a line are its own, but for the one after the prefix; an empty line may lack that.
    return "".join(parts[:-2] if shape.endswith(" ") else parts) + (r"(?:\s|$)" if shape.endswith(" ") else "")


def _common(lines: list[str]) -> str:
    """What most lines of a log begin with, up to a word: a name, a time."""
    groups: dict[str, set[str]] = {}
    for shape in {_shape(line[:REACH]) for line in lines if len(line) > LEAST}:
        groups.setdefault(shape[:2], set()).add(shape)
    most = max(groups.values(), key=len, default=set())
    common = os.path.commonprefix(list(most)) if len(most) > 1 else ""
    common = common[: max(map(common.rfind, " |]=")) + 1]
    return common if re.search("[0|[=\u2502]", common) else ""


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


def _lines(text: str, stamp: str, prefix: re.Pattern[str] | None) -> list[Line]:
    """A line, or two where one process wrote into the line of another."""
    if HEAD.match(text):
        return [_line(text, 0, stamp)]
    found = (prefix.match(text) if prefix else None) or STAMP_AHEAD.match(text)
    start = found.end() if found else 0
    if found and not stamp:
        iso = ISO.search(text, 0, start)
        stamp = iso.group() if iso else ""
    inner = None if found and HEAD.match(text, start) else LEVEL_MARK.search(text, start, start + REACH)
    if inner and text[start : inner.start()].strip():
        return [_line(text[start : inner.start()], 0, stamp), _line(text, inner.start(), stamp)]
    return [_line(text, start, stamp)]


def _line(text: str, start: int, stamp: str) -> Line:
    level = own = process = pid = ""
    while head := HEAD.match(text, start):
        kind = head.lastgroup
        if kind == "pid":
            process, pid = head["process"], head["pid"]
        elif kind == "rank":
            process = process or f"rank{head['rank']}"
        elif kind != "daemon":
            if level:
                break
            level = head["level"] or head["plain"] or LETTERS[head["letter"]]
            own = head["time"] or ""
        start = head.end()
    message = text[start:].rstrip()
    asked = REQUEST.match(message)
    if not asked:
        return Line(message, level, stamp or own, process, pid)
    # Whatever its level is set to, it tells of no failure; and what users say is no evidence.
    end = REQUESTS[(asked.lastindex or 1) - 1][1]
    goes_on = bool(end) and not re.search(end, message)
    return Line(asked.group().split(" ")[0], "INFO" if level else "", stamp or own, process, pid, goes_on)


# ---------------------------------------------------------------------------------------------------------------------
# The log as a whole
# ---------------------------------------------------------------------------------------------------------------------

# What a start writes first, each once.
BANNERS = (
    ("version", re.compile(r"vLLM (?:API )?server version")),
    ("logo", re.compile(r"^[^█]{0,80}█.{0,200}\bversion \d")),
    ("args", re.compile(r"^args: Namespace\(|^non-default args: ")),
    ("unit", re.compile(r"^(?:\S+ +){0,6}systemd\[\d+\]: Started |^Started \S+\.service\b")),
)
# What a start may write before that, and what is drawn above the version.
PRELUDE = re.compile(r"^$|^[ █▄▀]+$|^[^█▄▀]{0,4}[█▄▀][ █▄▀]*$|detected platform|\bplugins? |^Started ")


def _banner(line: Line) -> str:
    text = line.text
    if "version" not in text and "args: " not in text and "Started " not in text:
        return ""
    return next((kind for kind, pattern in BANNERS if said(pattern, text)), "")


def is_banner(line: Line) -> bool:
    """Whether a line is the first that a start writes."""
    return bool(_banner(line))


@dataclass(frozen=True)
class Words:
    """What a line may say: a pattern, and literals of which each match holds one. They make a large log quick."""

    pattern: re.Pattern[str]
    literals: tuple[str, ...]

    def search(self, text: str) -> re.Match[str] | None:
        """What a line says itself: what it quotes does not count."""
        return said(self.pattern, text)


def said(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """Where a line says something itself, and does not quote it."""
    return next((match for match in pattern.finditer(text) if not is_quoted(text, match.start())), None)


def is_quoted(text: str, at: int) -> bool:
    """Whether what stands there in a line stands in quotation marks."""
    return any(match.start() < at < match.end() for match in QUOTATION.finditer(text))


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

    def last(self, words: Words) -> int | None:
        """The last line that says it."""
        return max(self._saying(words, self.text.rfind, lambda at: (0, at)), default=None)

    def first(self, words: Words) -> int | None:
        """The first line that says it."""
        return min(self._saying(words, self.text.find, lambda at: (at + 1, None)), default=None)

    def _saying(
        self, words: Words, find: t.Callable[..., int], rest: t.Callable[[int], tuple[int, int | None]]
    ) -> t.Iterator[int]:
        """For each literal the outermost line that says it."""
        for literal in words.literals:
            at = find(literal)
            while at >= 0:
                index = self.index(at)
                if words.search(self.lines[index].text):
                    yield index
                    break
                at = find(literal, *rest(at))

    def went_on(self, index: int) -> bool:
        """Whether a start went on after a line: a phase began that is none of an error's."""
        return index < self._last_phase

    @functools.cached_property
    def _last_phase(self) -> int:
        told = (i for i in range(len(self.lines) - 1, -1, -1) if not self.lines[i].is_error)
        return next((i for i in told if begins(self.lines[i].text)), -1)

    def after(self, index: int) -> Log:
        """What was written after a line."""
        return Log(self.lines[index + 1 :])

    def setting(self, name: str) -> str | None:
        """A setting as the server printed it at its start."""
        match = re.search(
            rf"^(?:non-default args|args): .*?['(, ]{name}'?[=:] ?'?([^,')}}\]]+)", self.text, re.MULTILINE
        )
        return match.group(1) if match else None


# The lines of a banner are no farther apart.
BANNER_LINES = 20


def lives(lines: t.Sequence[Line]) -> list[Log]:
    """The log cut at the banner of each start. What stands before the first banner belongs to the first life."""
    cuts: list[int] = []
    kinds: set[str] = set()
    last = 0
    for i, line in enumerate(lines):
        kind = _banner(line)
        if not kind:
            continue
        # A start writes each line of its banner once, and soon.
        if kinds and (kind in kinds or i - last > BANNER_LINES):
            cuts.append(_beginning(lines, i, last + 1))
            kinds = set()
        kinds.add(kind)
        last = i
    edges = [0, *cuts, len(lines)]
    return [Log(tuple(lines[a:b])) for a, b in zip(edges, edges[1:])]


def _beginning(lines: t.Sequence[Line], banner: int, least: int) -> int:
    """Where a start begins whose banner was found: at what it wrote before that."""
    while banner > least and PRELUDE.search(lines[banner - 1].text):
        banner -= 1
    return banner


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
