# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Taking an environment away, and the lock under which that is done. Nothing here decides."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t
from dataclasses import replace

from .._errors import VllmError
from .._host import files
from .._host.lock import Busy, alone
from . import state
from .record import MARK, Entry, Record, unmake


def locked(digest: str, patience: float | None = None) -> t.ContextManager[None]:
    """The lock of one environment of this host."""
    name = f"venv-{digest}"
    return alone(name, patience=patience, doing=f"is building or removing the environment {name} on this host")


def is_abandoned(one: Entry) -> bool:
    """Whether a run that was killed left it: it is unfinished, and nobody is at it."""
    if one.state == "built":
        return False
    try:
        with alone(f"venv-{one.digest}", patience=0):
            return True
    except Busy:
        return False


def take_away(entry: Entry, record: Record) -> None:
    """Remove an environment, with its entry.

    Raises:
        VllmError: when it is somebody else's by now, when a process runs from it, or when it cannot be deleted.
    """
    if not state.seen(entry).is_there:
        # It is gone, or somebody else's: the record has no business with it any more.
        record.drop(entry)
        return
    if entry.state == "built":
        _refuse_running(entry)
    else:
        _end_leftovers(entry.seal)
    # From here on it is unfinished, and nobody takes it for an environment.
    removing = record.write(replace(entry, state="removing"))
    try:
        unmake(removing)
    except OSError as error:
        raise VllmError(
            f"Cannot remove {entry.path}: {error.strerror or error} at {error.filename or entry.path}. Run with "
            "become: true; the next run continues the removal.",
            "permission-denied",
        ) from None
    record.drop(removing)


def _refuse_running(entry: Entry) -> None:
    pids = state.runs_from(entry.path)
    if pids:
        raise VllmError(
            f"Cannot remove {entry.path}: PID {', '.join(map(str, pids[:5]))} runs from it. Stop the server first.",
            "environment-in-use",
        )


def _end_leftovers(seal: str) -> None:
    """End what a killed run left behind of the build with that seal, and see it end."""
    mark = f"{MARK}={seal}".encode()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pids = map(int, filter(str.isdigit, os.listdir("/proc")))
        left = [pid for pid in pids if _has(f"/proc/{pid}/environ", mark)]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _has(path: str, mark: bytes) -> bool:
    return mark in (files.read(path, 1 << 20) or b"").split(b"\0")
