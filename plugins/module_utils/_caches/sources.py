# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server has compiled, read from where it keeps it: the volumes of a container, the directory of a unit.

Whoever serves may write there: nothing that is read is followed anywhere else.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import typing as t

from .._deploy.carried import PIECE, mtime
from .._docker import client as docker_client
from .._docker.container import CACHES_TARGET, KERNELS_TARGET, kernels_of
from .._server.arguments import COMPILED, KERNELS
from .pack import Found, Source


def of_container(client: t.Any, container: str) -> Source:
    """What is in the volumes of a container, by the engine: no root is needed for that."""
    shared = kernels_of(client.inspect_container(container))

    def source() -> t.Iterator[tuple[Found, t.IO[bytes] | None]]:
        for top in COMPILED:
            place = KERNELS_TARGET if shared and top in KERNELS else CACHES_TARGET
            yield from _directory(client, container, f"{place}/{top}")

    return source


def _directory(client: t.Any, container: str, path: str) -> t.Iterator[tuple[Found, t.IO[bytes] | None]]:
    try:
        stream, _stat = client.get_archive(container, path)
    except docker_client.sdk().errors.NotFound:
        return
    with tarfile.open(fileobj=io.BufferedReader(_Stream(stream), PIECE), mode="r|", bufsize=PIECE) as opened:
        while one := opened.next():
            found = Found(one.name.rstrip("/"), one.type, one.size, one.mode, mtime(one), one.uid, one.gid)
            yield found, opened.extractfile(one) if one.isreg() else None


class _Stream(io.RawIOBase):
    """Pieces of bytes as a file that is read once."""

    def __init__(self, pieces: t.Iterator[bytes]) -> None:
        super().__init__()
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: t.Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def of_unit(cache: str) -> Source:
    """What is in the directory of a unit, as far as it belongs to whom the directory belongs to."""

    def source() -> t.Iterator[tuple[Found, t.IO[bytes] | None]]:
        owner = os.lstat(cache).st_uid
        for top in COMPILED:
            if os.path.lexists(os.path.join(cache, top)):
                yield from _tree(cache, top, owner)

    return source


def _tree(cache: str, top: str, owner: int) -> t.Iterator[tuple[Found, t.IO[bytes] | None]]:
    # By descriptors all the way down, and no link is followed: its owner may change what is there at any moment.
    for path, directories, names, descriptor in os.fwalk(os.path.join(cache, top), follow_symlinks=False):
        directories.sort()
        here = os.path.relpath(path, cache)
        yield _found(here, os.fstat(descriptor)), None
        for name in sorted([*names, *directories]):
            seen = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
            if stat.S_ISDIR(seen.st_mode):
                continue
            if not stat.S_ISREG(seen.st_mode) or seen.st_uid != owner or seen.st_nlink != 1:
                yield Found(f"{here}/{name}", tarfile.SYMTYPE, 0, 0, "0"), None
                continue
            opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
            with os.fdopen(opened, "rb") as content:
                yield _found(f"{here}/{name}", os.fstat(opened)), content


def _found(name: str, seen: os.stat_result) -> Found:
    kind = tarfile.DIRTYPE if stat.S_ISDIR(seen.st_mode) else tarfile.REGTYPE
    whole, rest = divmod(seen.st_mtime_ns, 1_000_000_000)
    size = 0 if kind == tarfile.DIRTYPE else seen.st_size
    return Found(name, kind, size, stat.S_IMODE(seen.st_mode) & 0o777, f"{whole}.{rest:09}" if rest else str(whole))
