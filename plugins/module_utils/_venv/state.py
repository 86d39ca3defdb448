# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An environment of the record as it is now: whether it is whole, who runs from it, and where its successor goes.

Looks, and changes nothing. Whether an environment is whole costs no interpreter: a look at its names, and a digest.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import typing as t
from dataclasses import dataclass

from .._host import files
from .record import OWN, Entry, is_ours
from .spec import Wish

LOCK = "lock.txt"
LOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Seen:
    """An environment of the record, and what is wrong with it; nothing when it is whole."""

    entry: Entry
    fault: str = ""
    # Whether its directory is the one that the record means; else it is gone, or somebody else's.
    is_there: bool = True


def seen(entry: Entry) -> Seen:
    """An environment of the record as it is now."""
    if not os.path.lexists(entry.path):
        return Seen(entry, "its directory is gone", is_there=False)
    if not is_ours(entry):
        return Seen(entry, "another user's directory is in its place", is_there=False)
    return Seen(entry, _fault(entry))


def _fault(entry: Entry) -> str:
    if entry.state != "built":
        return f"a run was interrupted while it was {entry.state}"
    # A link to an interpreter that an upgrade of the host took away leads nowhere.
    if not os.access(python_of(entry.path), os.X_OK):
        return "its Python is gone"
    lock = files.read(os.path.join(entry.own, LOCK), LOCK_BYTES)
    if lock is None or digest(lock) != entry.lock:
        return "its lock file is missing or was changed"
    if contents(entry.path) != entry.contents:
        return "packages in it were added, changed or removed"
    return ""


def python_of(path: str) -> str:
    """The Python of an environment."""
    return os.path.join(path, "bin", "python")


def digest(content: bytes) -> str:
    """The digest of a content (SHA-256), in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def contents(path: str) -> str:
    """A digest of what lies in an environment: the names in its directories of packages, and the size of each record.

    An installer that adds, changes or removes a package changes these, and so does whoever deletes one by hand.
    """
    found = []
    for directory in sorted(glob.glob(os.path.join(glob.escape(path), "lib*", "python3*", "site-packages"))):
        # lib64 is a link to lib.
        if os.path.realpath(directory) != os.path.join(os.path.realpath(path), os.path.relpath(directory, path)):
            continue
        for name in sorted(os.listdir(directory)):
            if name != "__pycache__":
                found.append((name, size_of(os.path.join(directory, name, "RECORD"))))
    return digest(json.dumps(found).encode())


def size_of(path: str) -> int:
    """The size of a file in bytes; -1 where there is none."""
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


def runs_from(path: str, proc: str = "/proc") -> list[int]:
    """The processes whose program, or a library of it, is in an environment."""
    needle, found = f"{path}/".encode(), []
    for name in filter(str.isdigit, os.listdir(proc)):
        words = files.read(f"{proc}/{name}/cmdline", 4096) or b""
        if words.startswith(needle) or needle in (files.read(f"{proc}/{name}/maps", 1 << 24) or b""):
            found.append(int(name))
    return sorted(found)


def own_path(path: str, name: str) -> str:
    """A file of the collection in an environment."""
    return os.path.join(path, OWN, name)


def target(root: str, wish: Wish, found: t.Iterable[Seen]) -> str:
    """Where it is built, when these were made for it before: never in the place of one that was finished."""
    return next_path(root, wish, {one.entry.path for one in found if one.is_there and one.entry.state == "built"})


def next_path(root: str, wish: Wish, taken: t.Collection[str]) -> str:
    """Where it is built: under its name, or beside what has that name already."""
    path, number = os.path.join(root, wish.name), 1
    while path in taken:
        number += 1
        path = os.path.join(root, f"{wish.name}-{number}")
    return path
