# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server has compiled, packed into an archive: what of it is finished, and whether it stood still meanwhile.

A server writes into its caches whenever a request needs another kernel. Some parts are worth nothing without the rest,
and a start with half of them may fail: so it is all, as it was at one moment, or nothing.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tarfile
import time
import typing as t

from .._deploy.carried import BLOCK, LIMIT, MOST, fault, header, pieces
from .._errors import VllmError

# Seconds for which nothing was written before it counts as finished, and how often that is waited for.
STILL, LOOKS = 10.0, 4
# The fastest that gzip has: most of it is machine code, and networks are slow.
LEVEL = 1
# Names, of files and directories, of what is not finished or means something to its own host alone: locks, temporary
# files of Triton (tmp.pid_1_2), Inductor (.1.2.tmp), Python (tmpab12cd34) and NFS, compiled Python.
UNFINISHED = re.compile(
    r".*\.(lock|tmp|pid|incomplete|part|swp)|.*\.tmp\..*|\.?tmp([._-].*)?|tmp[a-z0-9_]{8}|\.nfs.*|locks?|\.ninja_lock"
    r"|__pycache__"
)


class Found(t.NamedTuple):
    """A thing in a cache: its name begins with the directory of COMPILED that it is in. C(when) is a time as text."""

    name: str
    kind: bytes
    size: int
    mode: int
    when: str
    uid: int = 0
    gid: int = 0


# All that there is, in the same order each time, with the content of files; it can be asked again.
Source = t.Callable[[], "t.Iterator[tuple[Found, t.IO[bytes] | None]]"]


class Packed(t.NamedTuple):
    sha256: str
    size: int
    files: int
    content_bytes: int
    # Directories of COMPILED that hold links or the like, and are not in it.
    left_out: list[str]


def pack(source: Source, stream: t.IO[bytes], who: str, now: t.Callable[[], float] = time.time) -> Packed:
    """Write the archive of what a server, C(who), has compiled.

    Raises:
        VllmError: when there is nothing, too much, or it does not stand still.
    """
    why = "it still writes into them"
    for look in range(LOOKS):
        if look:
            time.sleep(STILL)
            stream.seek(0)
            stream.truncate()
        try:
            found = _packed_now(source, _Counting(stream), who, now)
        except (FileNotFoundError, tarfile.TarError) as error:
            # A file went between two looks, or changed its size while an engine read it.
            found, why = None, f"they cannot be read as they are at one moment ({error})"
        if found:
            return found
    raise VllmError(
        f"The compile caches of {who} are not packed: {why}. Servers that start later compile by themselves.",
        "backend-failed",
    )


def _packed_now(source: Source, stream: _Counting, who: str, now: t.Callable[[], float]) -> Packed | None:
    """One attempt; None when something was written meanwhile, or a moment ago."""
    seen, left_out = survey(source)
    refuse(seen, who)
    if not (is_still(seen, now()) and _write(source, stream, seen) and survey(source)[0] == seen):
        return None
    content = sum(one.size for one in seen.values())
    return Packed(stream.hasher.hexdigest(), stream.size, len(seen), content, left_out)


def survey(source: Source) -> tuple[dict[str, Found], list[str]]:
    """What there is to pack, by name, and the directories that cannot be."""
    seen, odd = {}, set()
    for found, _content in source():
        if is_finished(found.name):
            if fault(found.name, found.kind, 0):
                odd.add(found.name.partition("/")[0])
            seen[found.name] = found
    files = {name: one for name, one in seen.items() if name.partition("/")[0] not in odd}
    return files, sorted(odd)


def is_finished(name: str) -> bool:
    """Whether a name, all of its parts, is that of something finished."""
    return not any(UNFINISHED.fullmatch(part) for part in name.split("/")[1:])


def refuse(seen: t.Mapping[str, Found], who: str) -> None:
    """Refuse what is not worth being carried.

    Raises:
        VllmError: says why.
    """
    size = sum(one.size for one in seen.values())
    if not any(one.kind == tarfile.REGTYPE for one in seen.values()):
        raise VllmError(f"{who} has compiled nothing that other hosts could start with.", "backend-failed")
    if size > LIMIT or len(seen) > MOST:
        raise VllmError(
            f"The compile caches of {who} are not packed: they are {size >> 20} MiB in {len(seen)} files, more than "
            f"{LIMIT >> 20} MiB or {MOST} files. Servers that start later compile by themselves.",
            "backend-failed",
        )


def is_still(seen: t.Mapping[str, Found], now: float) -> bool:
    """Whether nothing was written lately; what claims to be of the future says nothing about that."""
    times = (float(one.when) for one in seen.values() if one.kind == tarfile.REGTYPE)
    return not any(now - STILL < when <= now + STILL for when in times)


def _write(source: Source, stream: _Counting, seen: t.Mapping[str, Found]) -> bool:
    """Write it; whether all is as it was seen."""
    names = []
    with gzip.GzipFile(
        fileobj=t.cast("t.IO[bytes]", stream), mode="wb", compresslevel=LEVEL, mtime=0, filename=""
    ) as packed:
        for found, content in source():
            if found.name not in seen:
                continue
            if seen[found.name] != found:
                return False
            names.append(found.name)
            packed.write(header(*found))
            written = 0
            for piece in pieces(content) if content else ():
                written += packed.write(piece)
            if written != found.size:
                return False
            packed.write(b"\0" * (-found.size % BLOCK))
        packed.write(b"\0" * (2 * BLOCK))
    return len(names) == len(seen)


class _Counting:
    """Writes on, and knows how much it was and its sha256."""

    def __init__(self, stream: t.IO[bytes]) -> None:
        self._stream, self.hasher, self.size = stream, hashlib.sha256(), 0
        self.flush = stream.flush

    def write(self, piece: bytes) -> int:
        self.hasher.update(piece)
        self.size += len(piece)
        return self._stream.write(piece)
