# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the state and the log of a server come from: the questions, and a plain log file as the answer to them.

What is read is bounded, however long a server has been writing.
"""

from __future__ import annotations

import os
import stat
import typing as t

from .._errors import VllmError
from .._host.processes import ProcessState

# A log is read from its end; what a failing start writes is far less.
TAIL_BYTES = 4 * 1024 * 1024
# Lines of a log that are read for a diagnosis, and between two looks at it.
TAIL_LINES = 4000
NEWS_LINES = 400
# rc, stdout, stderr of a command: AnsibleModule.run_command.
RunCommand = t.Callable[..., tuple[int, str, str]]


class Source(t.Protocol):
    """A server, seen from outside."""

    name: str

    def state(self) -> ProcessState:
        """How its process is."""

    def tail(self) -> str:
        """The end of its log."""

    def life(self) -> str:
        """The end of what it wrote since its process started, as far as that can be told apart."""

    def news(self) -> str:
        """What it wrote since the last call; on the first, the end of its log."""

    def root_pid(self) -> int | None:
        """Its first process, where that is one of this host."""

    def host_port(self) -> int | None:
        """The port that its own process opens on this host; None where an engine publishes one, or nobody knows."""

    def about(self) -> dict[str, t.Any]:
        """What it was made from, without the C(secrets), which come beside it to be taken out of all that is shown."""

    def versions(self) -> dict[str, str]:
        """The versions of what runs it, as far as they are known."""


def port_among(words: t.Sequence[str]) -> int | None:
    """The port in the command line of a server; None where it has none."""
    following = (b for a, b in zip(words, words[1:]) if a == "--port")
    said = [*following, *(word.partition("=")[2] for word in words if word.startswith("--port="))]
    return int(said[-1]) if said and said[-1].isdecimal() else None


class FileSource:
    """A log file, as C(Source) describes its methods. Nothing is known of the process that wrote it."""

    def __init__(self, path: str) -> None:
        self.name = path
        self.position: int | None = None

    def state(self) -> ProcessState:
        return ProcessState()

    def tail(self) -> str:
        return self._read(lambda: read_tail(self.name))

    def life(self) -> str:
        return self.tail()

    def news(self) -> str:
        size = os.path.getsize(self.name) if os.path.exists(self.name) else 0
        start, self.position = self.position, size
        if start is None or start > size:
            return self.tail() if size else ""
        return self._read(lambda: _read_piece(self.name, max(start, size - TAIL_BYTES), size))

    def _read(self, read: t.Callable[[], str]) -> str:
        try:
            return read()
        except OSError as error:
            raise VllmError(
                f"Cannot read the log {self.name}: {error.strerror or error}. Check path and its owner.",
                "log-unreadable",
            ) from None

    def root_pid(self) -> int | None:
        return None

    def host_port(self) -> int | None:
        return None

    def about(self) -> dict[str, t.Any]:
        return {"spec": None, "secrets": []}

    def versions(self) -> dict[str, str]:
        return {}


def read_tail(path: str, limit: int = TAIL_BYTES) -> str:
    """The end of a file, whole lines, in bounded memory however large it is."""
    with _opened(path) as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - limit))
        raw = stream.read(limit)
    if size > limit:
        raw = raw[raw.find(b"\n") + 1 :]
    return raw.decode("utf-8", errors="replace")


def _read_piece(path: str, start: int, end: int) -> str:
    """What a file holds between two positions."""
    with _opened(path) as stream:
        stream.seek(start)
        return stream.read(end - start).decode("utf-8", errors="replace")


def _opened(path: str) -> t.BinaryIO:
    """A regular file, open for reading: a FIFO would be waited for, and a device has no end."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "FIFO" if stat.S_ISFIFO(mode) else "directory" if stat.S_ISDIR(mode) else "device"
        raise OSError(f"it is not a file but a {kind}")
    return os.fdopen(descriptor, "rb")
