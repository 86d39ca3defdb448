# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who holds the memory of a GPU, in words. Pure: processes as C(gpu_facts) lists them in, sentences out."""

from __future__ import annotations

import typing as t

Process = t.Mapping[str, t.Any]
GIB_MIB = 1024


def gib(mib: float) -> str:
    """MiB as GiB, as they are written everywhere."""
    return f"{mib / GIB_MIB:.1f}"


def owner(process: Process) -> str | None:
    """Whose process it is: a server's of this collection, a container's or a user's, whatever tells most."""
    user = process.get("user")
    if process.get("server"):
        return f"server {process['server']}"
    if process.get("container"):
        return f"container {process['container']}"
    return None if user is None else f"uid {user}" if str(user).isdigit() else str(user)


def holder(process: Process) -> str:
    """The one sentence about a process that holds memory: "PID 4711 (uid 1004) holds 36.0 GiB"; or about a server
    whose memory is still to come, which is C(promised): it has no process there yet."""
    whose, used = owner(process), process.get("used_memory_mib")
    if process.get("promised"):
        return f"{whose}, which is starting, takes {gib(used or 0)} GiB"
    amount = "an unknown amount" if used is None else f"{gib(used)} GiB"
    return f"PID {process.get('pid')}{f' ({whose})' if whose else ''} holds {amount}"


def holders(processes: t.Iterable[Process], most: int | None = None) -> str:
    """Those that hold the most memory, the largest first. Nothing when nobody does."""
    largest = sorted(processes, key=lambda process: -(process.get("used_memory_mib") or 0))
    return ", ".join(map(holder, largest[:most]))
