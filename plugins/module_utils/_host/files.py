# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of ours: written whole or not at all, read within a limit, deleted with what became empty."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile

from .._errors import Reason, VllmError

READ_LIMIT = 1 << 20


def read(path: str, limit: int = READ_LIMIT) -> bytes | None:
    """What a file holds, up to C(limit) bytes; None when it cannot be read, or is a pipe that nobody fills."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as stream:
            return stream.read(limit) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    except OSError:
        return None


def read_text(path: str, limit: int = READ_LIMIT) -> str:
    """The same as text; empty when it cannot be read."""
    return (read(path, limit) or b"").decode("utf-8", errors="replace")


def _prefix(name: str) -> str:
    """How what is written for a file is called until it takes its place."""
    return f".gpufleet-{name[:64]}-"


def sweep(path: str) -> None:
    """Remove what a killed run left of the same file: it may hold a secret, and nobody would look for it."""
    directory, name = os.path.split(path)
    left = re.compile(re.escape(_prefix(name)) + r"[a-z0-9_]{8}")
    with contextlib.suppress(OSError):
        for entry in os.listdir(directory):
            if left.fullmatch(entry):
                os.unlink(os.path.join(directory, entry))


def write_whole(
    path: str, content: bytes, mode: int = 0o600, owner: tuple[int, int] | None = None, durable: bool = False
) -> None:
    """Replace a file in one step; its directory has to exist. The owner is kept where this user may give it.

    C(durable): it is on the disk when this returns.

    Raises:
        OSError: then the file is as it was.
    """
    directory, name = os.path.split(path)
    descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=_prefix(name))
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            if owner:
                with contextlib.suppress(PermissionError):
                    os.fchown(stream.fileno(), *owner)
            os.fchmod(stream.fileno(), mode)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _is_full(error: Exception) -> bool:
    """Whether the disk is full, which more rights would not help."""
    return getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT)


def failure(attempt: str, error: Exception, remedy: str) -> VllmError:
    """What to raise after a file could not be written. C(remedy) is what to change where the disk is not full."""
    if _is_full(error):
        remedy = "Free some space on that file system ('df -h' shows it), then run it again."
    return VllmError(f"Cannot {attempt}: {getattr(error, 'strerror', None) or error}. {remedy}", reason(error))


def reason(error: Exception) -> Reason:
    """The id of a failure to write a file."""
    return "disk-full" if _is_full(error) else "permission-denied"


def make_directory(path: str) -> None:
    """Make a directory and its parents.

    Raises:
        VllmError: when that fails.
    """
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except OSError as error:
        way = "Choose another huggingface_dir, or run with become: true."
        raise failure(f"create the directory {path}", error, way) from None


def delete_file(path: str) -> None:
    """Delete a file of ours, and its directory when that is empty then; a file that is gone is fine."""
    try:
        sweep(path)
        if os.path.exists(path):
            os.unlink(path)
    except OSError as error:
        raise VllmError(
            f"Cannot delete {path}: {error.strerror}. Delete it yourself, or run with become: true.",
            "permission-denied",
        ) from None
    # It may hold something else, or be somebody else's.
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))


def delete_directory(path: str) -> None:
    """Delete a directory with everything in it, by its real path; one that is gone is fine."""
    try:
        parent = os.path.dirname(path)
        if os.path.realpath(parent) != parent:
            raise OSError(errno.ELOOP, f"{parent} leads to {os.path.realpath(parent)}", path)
        if os.path.isdir(path):
            shutil.rmtree(path)
    except OSError as error:
        raise VllmError(
            f"Cannot delete {path}: {error.strerror or error} at {error.filename or path}. Containers write as root: "
            "delete it yourself, with sudo.",
            "permission-denied",
        ) from None
