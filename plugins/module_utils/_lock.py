# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

"""One run at a time for each server of a host.

The lock belongs to the process on the host, which usually outlives a controller that was killed, and ends with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
import time
import typing as t

from ._errors import VllmError

DIRECTORY = "/var/lock"
# How long a step of another run may take that is about to end, in seconds.
PATIENCE = 5.0
INTERVAL = 0.2


class Busy(VllmError):
    """Another run holds the lock."""


@contextlib.contextmanager
def alone(name: str, patience: float = PATIENCE) -> t.Iterator[None]:
    """Hold the lock of one server on this host; it ends with the process, however that ends.

    Raises:
        Busy: when another run holds it for longer than that; names the process.
        VllmError: when the lock cannot be opened.
    """
    directory = DIRECTORY if os.access(DIRECTORY, os.W_OK) else tempfile.gettempdir()
    path = os.path.join(directory, f"gpufleet-vllm-{name}.lock")
    # A file of another user in a sticky directory may be opened, but not with O_CREAT.
    create = 0 if os.path.exists(path) else os.O_CREAT
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | create, 0o644)
    except OSError as error:
        raise VllmError(
            f"Cannot open the lock {path}: {error.strerror}. Remove it if no other run is going on."
        ) from None
    try:
        _lock(descriptor, name, path, patience)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, name: str, path: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise Busy(
                    f"Another run is changing {name} on this host, or waits for it to become healthy "
                    f"({_holder(os.fstat(descriptor).st_ino)} holds {path}). Nothing was changed by this one; run it "
                    "again when the other has ended."
                ) from None
        time.sleep(INTERVAL)


def _holder(inode: int, locks: str = "/proc/locks") -> str:
    """The process that holds the lock, and since when it runs, as the kernel tells it."""
    with contextlib.suppress(OSError):
        with open(locks, encoding="ascii") as stream:
            found = re.search(rf"FLOCK +ADVISORY +WRITE +(\d+) \w+:\w+:{inode} ", stream.read())
        if found:
            since = time.strftime("%H:%M:%S", time.localtime(os.stat(f"/proc/{found.group(1)}").st_mtime))
            return f"PID {found.group(1)}, since {since},"
    return "its process"
