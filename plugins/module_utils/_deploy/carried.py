# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The compile caches of another host, which a new server starts with: whether they fit, and their archive, proved.

What is in them is native code that the server will run. So an archive counts by its sha256 alone, which the controller
has from the host that packed it; and what an archive may hold at all is decided here, for both ends.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import platform
import re
import shutil
import stat
import tarfile
import typing as t

from .._errors import VllmError
from .._host import files
from .._server.arguments import COMPILED
from .ledger import PARTIAL

# What an archive may hold, unpacked: bytes, and files with directories.
LIMIT, MOST = 2 << 30, 100_000
# What is read at once. No header of ours is longer, and nothing makes this read one that is.
PIECE = 1 << 20
BLOCK = tarfile.BLOCKSIZE
# A compiler that builds for the processor at hand counts on these: SIMD and bit instructions, of x86 and of ARM.
PROCESSOR = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
FEATURES = ("flags", "Features")
SINCE_SSE = re.compile(
    r"(avx|sse|ssse|fma|bmi|amx|f16c|sha|aes|adx|vaes|vpcl|gfni|popcnt|movbe|abm|lzcnt|clwb|sve|as).*"
)
TIME = re.compile(r"\d{1,11}(\.\d{1,9})?")

Unpacks = t.Callable[["Archive"], None]


def processor(text: str, machine: str = "") -> str:
    """What tells processors apart for which different code is compiled, from the text of /proc/cpuinfo."""
    seen: set[str] = set()
    for line in text.splitlines():
        key, _colon, value = (part.strip() for part in line.partition(":"))
        if key in PROCESSOR:
            seen.add(f"{key}: {value}")
        elif key in FEATURES:
            seen |= {word for word in value.split() if key == "Features" or SINCE_SSE.fullmatch(word)}
    known = "\n".join([machine or platform.machine(), *sorted(seen)])
    return hashlib.sha256(known.encode()).hexdigest()


def this_processor() -> str:
    """The same of this host."""
    return processor(files.read_text("/proc/cpuinfo"))


class Carried:
    """Caches that a run has at hand for a server that it makes. C(given) has the keys of KEYS.

    Nothing that goes wrong with them stops anybody: the server then starts cold, and C(note) says why.
    """

    KEYS = ("host", "archive", "sha256", "size", "settings", "processor")

    def __init__(self, given: t.Mapping[str, t.Any]) -> None:
        self.given = given
        self.host = str(given.get("host") or "another host")
        # Whose caches the server starts with; and why it starts without.
        self.source, self.note = "", ""

    @property
    def outcome(self) -> dict[str, t.Any]:
        """C(caches) of a result: whose the server starts with (C(from)), else why it does not (C(note))."""
        return {"from": self.source or None, "note": "" if self.source else self.note or "No new server was made."}

    def fits(self, settings: str, machine: str) -> bool:
        """Whether they are those of a server with the same settings (C(history.key)) on the same kind of processor."""
        if self.given.get("settings") != settings:
            self.note = f"Its image or environment, model, GPUs or settings differ from those on {self.host}."
        elif self.given.get("processor") != machine:
            self.note = f"Its processor is not of the kind of that on {self.host}, for which they were compiled."
        else:
            self.note = ""
        return not self.note

    def refuse(self, why: str) -> None:
        """Say why they are not used, unless that is known already."""
        self.note = self.note or why

    def unpack(self, unpacks: Unpacks) -> None:
        """Prove the archive, and hand it to what unpacks it, which leaves nothing behind when it fails."""
        try:
            with proved(self.given) as archive:
                unpacks(archive)
        except Exception as error:  # Whatever it is, a server that compiles by itself is better than none.
            self.note = f"The compile caches of {self.host} were not used: {str(error).rstrip('.')}."
            return
        self.source = self.host


@contextlib.contextmanager
def proved(given: t.Mapping[str, t.Any]) -> t.Iterator[Archive]:
    """An archive that is what the controller knows, and holds nothing but what may be in one.

    Raises:
        VllmError: when it is another one, or holds something else.
    """
    descriptor = os.open(str(given["archive"]), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode) or seen.st_size != given["size"]:
            raise VllmError(f"the archive has {seen.st_size} bytes, and {given['size']} were packed")
        found = sha256(stream)
        if found != given["sha256"]:
            raise VllmError(f"the archive has the sha256 {found}, and {given['sha256']} was packed")
        archive = Archive(stream)
        check(archive.members())
        yield archive


class Archive:
    """A tar archive, compressed by gzip, read as often as need be."""

    def __init__(self, stream: t.IO[bytes]) -> None:
        self._stream = stream

    def members(self, tops: t.Collection[str] = COMPILED) -> t.Iterator[tuple[tarfile.TarInfo, t.IO[bytes]]]:
        """What is below these directories of it, by default all of it, each with its content, in its order."""
        self._stream.seek(0)
        with gzip.GzipFile(fileobj=self._stream, mode="rb") as plain:
            bounded = t.cast("t.IO[bytes]", _Bounded(plain))
            with tarfile.open(fileobj=bounded, mode="r:") as opened:
                while member := opened.next():
                    if tops is COMPILED or member.name.partition("/")[0] in tops:
                        content = opened.extractfile(member) if member.isreg() else None
                        yield member, t.cast("t.IO[bytes]", content)

    def stream(self, tops: t.Collection[str]) -> t.Iterator[bytes]:
        """The same as a plain tar archive."""
        for member, content in self.members(tops):
            yield header(member.name, member.type, member.size, member.mode, mtime(member), member.uid, member.gid)
            if content:
                yield from pieces(content)
                yield b"\0" * (-member.size % BLOCK)
        yield b"\0" * (2 * BLOCK)


def sha256(stream: t.IO[bytes]) -> str:
    """The digest of all that is left to read."""
    hasher = hashlib.sha256()
    for piece in pieces(stream):
        hasher.update(piece)
    return hasher.hexdigest()


def pieces(content: t.IO[bytes]) -> t.Iterator[bytes]:
    """All that is left to read."""
    while piece := content.read(PIECE):
        yield piece


class _Bounded:
    """Reads no more at once than what any header of ours has: a length that an archive claims costs nothing."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self.tell, self.seek = stream.tell, stream.seek

    def read(self, count: int) -> bytes:
        if not 0 <= count <= PIECE:
            raise VllmError(f"the archive has a header of {count} bytes")
        return self._stream.read(count)


def check(members: t.Iterable[tuple[tarfile.TarInfo, t.Any]]) -> None:
    """Refuse an archive that holds anything but regular files and directories below those that caches have.

    Raises:
        VllmError: names the first member that is something else.
    """
    directories: set[str] = set()
    names: set[str] = set()
    total = 0
    for member, _content in members:
        wrong = fault(member.name, member.type, member.mode)
        parent = member.name.rpartition("/")[0]
        if not wrong and member.name in names:
            wrong = "is in it twice"
        elif not wrong and parent and parent not in directories:
            wrong = "is in no directory of it"
        elif not wrong and (member.issparse() or not TIME.fullmatch(mtime(member))):
            wrong = "has holes, or no time"
        if wrong:
            raise VllmError(f"in the archive, {member.name[:200]!r} {wrong}")
        names.add(member.name)
        if member.isdir():
            directories.add(member.name)
        total += member.size
        if total > LIMIT or len(names) > MOST:
            raise VllmError(f"the archive holds more than {LIMIT >> 20} MiB or {MOST} files")


def fault(name: str, kind: bytes, mode: int) -> str:
    """What is wrong with a member of an archive, in words; empty for one that may be in it."""
    parts = name.split("/")
    if kind not in (tarfile.REGTYPE, tarfile.DIRTYPE):
        return "is neither a regular file nor a directory"
    if parts[0] not in COMPILED or (len(parts) == 1 and kind != tarfile.DIRTYPE):
        return f"is not below one of {', '.join(COMPILED)}"
    if {"", ".", ".."} & {*parts} or not name.isprintable() or len(name) > 2000:
        return "has a name that leads elsewhere or cannot be read"
    return "has a mode that gives the rights of its owner to others" if mode & 0o7000 else ""


def mtime(member: tarfile.TarInfo) -> str:
    """The time of a member as text: a float would round it, and a build tool then takes what it built for outdated."""
    return str(member.pax_headers.get("mtime") or int(member.mtime))


def header(name: str, kind: bytes, size: int, mode: int, when: str, uid: int = 0, gid: int = 0) -> bytes:
    """The header of a member, without anything that says who packed it."""
    member = tarfile.TarInfo(name)
    member.type, member.size, member.mode, member.uid, member.gid = (kind, size, mode & 0o777, uid, gid)
    member.mtime = int(float(when))
    if "." in when:
        member.pax_headers = {"mtime": when}
    return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def unpack(archive: Archive, directory: str, owner: tuple[int, int]) -> None:
    """Make a new directory with what the archive holds, all of it the owner's (uid, gid); it is there whole or not at
    all.

    Raises:
        OSError: when it cannot be written.
    """
    # Until it is whole only this user can reach it: nobody may put a link in the way.
    made = directory + PARTIAL
    os.makedirs(os.path.dirname(directory), mode=0o755, exist_ok=True)
    shutil.rmtree(made, ignore_errors=True)
    os.mkdir(made, 0o700)
    try:
        inside = os.path.join(made, "new")
        os.mkdir(inside, 0o700)
        directories: list[tuple[str, int, int | None]] = [(inside, 0o700, None)]
        for member, content in archive.members():
            path = os.path.join(inside, member.name)
            if member.isdir():
                os.mkdir(path, 0o700)
                directories.append((path, member.mode, _nanoseconds(mtime(member))))
            else:
                _write(path, content, member, owner)
        # From the inside out: what is done in a directory changes its time.
        for path, mode, when in reversed(directories):
            os.chown(path, *owner)
            os.chmod(path, mode)
            if when is not None:
                os.utime(path, ns=(when, when))
        os.rename(inside, directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(path: str, content: t.IO[bytes], member: tarfile.TarInfo, owner: tuple[int, int]) -> None:
    when = _nanoseconds(mtime(member))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        shutil.copyfileobj(content, stream, PIECE)
        stream.flush()
        os.fchown(descriptor, *owner)
        os.fchmod(descriptor, member.mode)
        os.utime(descriptor, ns=(when, when))


def _nanoseconds(when: str) -> int:
    whole, _point, rest = when.partition(".")
    return int(whole) * 1_000_000_000 + int(rest[:9].ljust(9, "0") or 0)
