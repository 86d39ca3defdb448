# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the process of a server is, whatever runs it; and what /proc tells: its work and its halts."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import dataclass, field, replace

from .cgroup import container_id


@dataclass(frozen=True)
class ProcessState:
    """What runs a server, as its container or unit tells. None is not known."""

    running: bool | None = None
    exit_status: int | None = None
    oom_killed: bool = False
    # Why it could not even be started, as Docker or systemd says it, and what to do about that where known.
    error: str = ""
    error_remedy: str = ""
    restarts: int = 0
    # Processes of the server that somebody stopped (state T); they answer nothing until they are continued.
    stopped: tuple[str, ...] = ()
    name: str = "The server"
    # With the restarts, these tell one life from the next.
    started_at: str = ""
    age: float = 0.0


# ---------------------------------------------------------------------------------------------------------------------
# Signs of life: the processes below a server's first one
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activity:
    """What the processes of a server have done so far, and which of them are stopped (state T)."""

    cpu_seconds: float = 0.0
    stopped: tuple[str, ...] = ()
    names: t.Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stat:
    """What is read of one process."""

    pid: int
    name: str
    state: str
    parent: int
    ticks: int


def printable(name: str) -> str:
    """The name of a process, which its user chose, without what a terminal would obey."""
    return name if name.isprintable() else "".join(one if one.isprintable() else "?" for one in name)


def parse_stat(text: str) -> Stat | None:
    """One C(/proc/PID/stat). The name is in parentheses and may hold any character, these included."""
    head, _close, rest = text.rpartition(")")
    pid, _open, name = head.partition("(")
    words = rest.split()
    if len(words) < 13 or not pid.strip().isdigit():
        return None
    return Stat(int(pid), printable(name), words[0], int(words[1]), int(words[11]) + int(words[12]))


def activity(stats: t.Iterable[Stat], root: int, ticks_per_second: int = 100) -> Activity:
    """The activity of a process and of everything below it."""
    by_parent: dict[int, list[Stat]] = {}
    family: list[Stat] = []
    for stat in stats:
        by_parent.setdefault(stat.parent, []).append(stat)
        if stat.pid == root:
            family.append(stat)
    for stat in family:
        family += by_parent.get(stat.pid, ())
    stopped = tuple(f"{stat.name} (PID {stat.pid})" for stat in family if stat.state == "T")
    return Activity(sum(s.ticks for s in family) / ticks_per_second, stopped, {s.pid: s.name for s in family})


def look_at(root: int | None, proc: str = "/proc") -> Activity | None:
    """The activity of a server on this host, or None when its process cannot be seen from here."""
    if root is None or not os.path.exists(f"{proc}/{root}/stat"):
        return None
    found = [parse_stat(read_proc(f"{proc}/{entry}/stat")) for entry in os.listdir(proc) if entry.isdigit()]
    return activity([stat for stat in found if stat], root, os.sysconf("SC_CLK_TCK"))


def process_started(pid: int) -> float | None:
    """When a process of this host began, as seconds since the epoch."""
    boot = re.search(r"^btime (\d+)", read_proc("/proc/stat"), re.MULTILINE)
    words = read_proc(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if not boot or len(words) < 20:
        return None
    return int(boot.group(1)) + int(words[19]) / os.sysconf("SC_CLK_TCK")


def born(pid: int) -> str:
    """What tells a process of this host from a later one with its number; empty when there is none any more."""
    words = read_proc(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return f"{pid} {words[19]}" if len(words) >= 20 and words[0] not in ("Z", "X") else ""


def lives(process: str) -> bool:
    """Whether a process of this host, as C(born) told it then, still runs."""
    pid = process.partition(" ")[0]
    return pid.isdigit() and born(int(pid)) == process


def container_of(pid: int) -> str | None:
    """The container that a process of this host is in, by its control group."""
    return container_id(read_proc(f"/proc/{pid}/cgroup"), read_proc("/proc/1/cgroup"))


def read_proc(path: str) -> str:
    """What the kernel tells there; empty when that is nothing, or closed to this user."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def with_activity(state: ProcessState, seen: Activity | None) -> ProcessState:
    """The state with what /proc adds to it."""
    return replace(state, stopped=seen.stopped) if seen and seen.stopped else state
