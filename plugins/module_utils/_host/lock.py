# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time for each server of a host.

The lock belongs to the process on the host, which usually outlives a controller that was killed, and ends with it.
Between two steps of one run, a wait in slices above all, no process is there to hold it: a lease of some seconds does.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import tempfile
import time
import typing as t

from .._errors import VllmError

DIRECTORY = "/var/lock"
# Seconds that a lease bridges; the next step of the same run comes sooner.
LEASE = 20.0
# How long to wait for another run, in seconds: longer than the lease of one that was killed.
PATIENCE = 25.0
INTERVAL = 0.2


class Busy(VllmError):
    """Another run holds the lock."""


@contextlib.contextmanager
def alone(name: str, token: str = "", patience: float | None = None) -> t.Iterator[None]:
    """Hold the lock of one server on this host; it ends with the process, however that ends.

    C(token) is what the lease of the same run bears: the id of the container that it made.

    Raises:
        Busy: when another run has it for longer than that; names the process.
        VllmError: when the lock cannot be opened.
    """
    path = _path(name)
    # A file of another user in a sticky directory may be opened, but not with O_CREAT.
    create = 0 if os.path.exists(path) else os.O_CREAT
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | create, 0o644)
    except OSError as error:
        raise VllmError(
            f"Cannot open the lock {path}: {error.strerror}. Remove it if no other run is going on.",
            "permission-denied",
        ) from None
    try:
        _wait(descriptor, name, token, PATIENCE if patience is None else patience)
        yield
    finally:
        os.close(descriptor)


def leave(name: str, token: str, seconds: float = LEASE) -> None:
    """Keep the server for the next step of the same run. What cannot be written is not kept."""
    lease = {"token": token, "until": time.time() + seconds}
    with contextlib.suppress(OSError):
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(_path(name)), prefix=".gpufleet-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(lease, stream)
            os.fchmod(stream.fileno(), 0o644)
        os.replace(temporary, f"{_path(name)}.lease")


def release(name: str) -> None:
    """The run is over: nobody has to wait for its next step."""
    with contextlib.suppress(OSError):
        os.unlink(f"{_path(name)}.lease")


def reader_is_gone(descriptor: int = 1) -> bool:
    """Whether nobody reads the output of this process any more: its controller was killed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    try:
        return bool(poll.poll(0))
    except OSError:
        return False


def _path(name: str) -> str:
    directory = DIRECTORY if os.access(DIRECTORY, os.W_OK) else tempfile.gettempdir()
    return os.path.join(directory, f"gpufleet-vllm-{name}.lock")


def _wait(descriptor: int, name: str, token: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        who = _taken(descriptor, name, token)
        if not who:
            return
        if time.monotonic() >= deadline:
            raise Busy(
                f"Another run is changing {name} on this host, or waits for it to become healthy ({who}). Nothing was "
                "changed by this one; run it again when the other has ended.",
                "locked",
            )
        time.sleep(INTERVAL)


def _taken(descriptor: int, name: str, token: str) -> str:
    """Take the lock, or say who has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return f"{_holder(os.fstat(descriptor).st_ino)} holds {_path(name)}"
    left = _lease(name, token)
    if left <= 0:
        return ""
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return f"its next step is due within {left:.0f} s"


def _lease(name: str, token: str) -> float:
    """Seconds for which another run still has the server; a lease that cannot be read is none."""
    try:
        with open(f"{_path(name)}.lease", encoding="utf-8") as stream:
            lease = json.load(stream)
        mine = bool(token) and lease["token"] == token
        return 0.0 if mine else min(float(lease["until"]) - time.time(), LEASE)
    except (OSError, ValueError, TypeError, KeyError):
        return 0.0


def _holder(inode: int, locks: str = "/proc/locks") -> str:
    """The process that holds the lock, and since when it runs, as the kernel tells it."""
    with contextlib.suppress(OSError):
        with open(locks, encoding="ascii") as stream:
            found = re.search(rf"FLOCK +ADVISORY +WRITE +(\d+) \w+:\w+:{inode} ", stream.read())
        if found:
            since = time.strftime("%H:%M:%S", time.localtime(os.stat(f"/proc/{found.group(1)}").st_mtime))
            return f"PID {found.group(1)}, since {since},"
    return "its process"
