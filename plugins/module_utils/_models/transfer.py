# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The transfer of a model's files: some at a time, within a bandwidth, each verified, in slices that lose nothing."""

from __future__ import annotations

import concurrent.futures
import os
import threading
import time
import typing as t
from dataclasses import dataclass, field, replace

from .._host import download
from .hub import Remote
from .repository import Identity, Repository, identity

Proved = t.Callable[[Remote, Identity], None]


class Interrupted(Exception):
    """The slice is over, or another file failed: what came so far stays."""


class Pace:
    """Lets bytes pass at a rate that all connections share."""

    def __init__(
        self,
        bytes_per_second: int | None,
        clock: t.Callable[[], float] = time.monotonic,
        sleep: t.Callable[[float], object] = time.sleep,
    ) -> None:
        self.rate, self.clock, self.sleep = bytes_per_second, clock, sleep
        self.lock = threading.Lock()
        self.due = clock()

    def pass_on(self, count: int) -> None:
        """Wait until so many bytes were allowed to come."""
        if not self.rate:
            return
        with self.lock:
            now = self.clock()
            # What was not used is not saved up.
            self.due = max(self.due, now) + count / self.rate
            wait = self.due - now
        self.sleep(wait)


@dataclass
class Transfer:
    """What is common to all files of one run. C(until) is a time of the monotonic clock, or None for no slice."""

    repository: Repository
    source: t.Callable[[Remote], download.Source]
    proved: Proved
    manner: download.Manner = download.Manner()
    connections: int = 4
    pace: Pace = field(default_factory=lambda: Pace(None))
    until: float | None = None
    came: int = 0
    at: dict[str, int] = field(default_factory=dict)
    failed: threading.Event = field(default_factory=threading.Event)
    writing: threading.Lock = field(default_factory=threading.Lock)

    def fetch(self, files: t.Iterable[Remote]) -> None:
        """Bring each file to its place.

        Raises:
            VllmError: the first failure; the other files keep what they have.
            Interrupted: when the slice was over before.
        """
        self._each(files, self._fetch)

    def verify(self, files: t.Iterable[Remote]) -> list[Remote]:
        """The files among these that do not hold what their digest says; the others are proved.

        Raises:
            VllmError: when one cannot be read.
            Interrupted: when the slice was over before.
        """
        wrong: list[Remote] = []
        self._each(files, lambda file: None if self._is_right(file) else wrong.append(file))
        return wrong

    def _each(self, files: t.Iterable[Remote], do: t.Callable[[Remote], object]) -> None:
        with concurrent.futures.ThreadPoolExecutor(max(1, self.connections)) as pool:
            futures = [pool.submit(self._guarded, do, file) for file in files]
            concurrent.futures.wait(futures)
        errors = [error for error in (future.exception() for future in futures) if error]
        for error in sorted(errors, key=lambda error: isinstance(error, Interrupted)):
            raise error

    def _guarded(self, do: t.Callable[[Remote], object], file: Remote) -> None:
        try:
            self.go_on()
            do(file)
        except BaseException:
            self.failed.set()
            raise

    def go_on(self) -> None:
        """Raise C(Interrupted) when the slice is over or another file failed."""
        if self.failed.is_set() or (self.until is not None and time.monotonic() >= self.until):
            raise Interrupted

    def _fetch(self, file: Remote) -> None:
        path, partial = self.repository.blob(file.digest), self.repository.partial(file.digest)
        self.repository.make_directory(os.path.dirname(path))
        with self.repository.locked(file.digest, self.go_on):
            # Whoever held the lock may have brought the file.
            there = identity(path)
            if there and there[0] == file.bytes and self._is_right(file):
                return
            manner = replace(self.manner, keeps_partial=True, passing=self._passing(file))
            source = self.source(file)
            download.install(source, file.expected, path, partial, self.repository.finish, manner)
            self._prove(file, identity(path))

    def _passing(self, file: Remote) -> t.Callable[[int, int], None]:
        def passing(position: int, count: int) -> None:
            with self.writing:
                self.at[file.digest] = position
                self.came += count
            self.pace.pass_on(count)
            if position < file.bytes:
                self.go_on()

        return passing

    def _is_right(self, file: Remote) -> bool:
        path = self.repository.blob(file.digest)
        # What it looks like before it is read: whoever changes it meanwhile shows.
        seen = identity(path)
        with download.on_disk(f"read {path}"), open(path, "rb", 0) as stream:
            is_right = file.expected.digest_of(stream) == file.digest
        if is_right:
            self._prove(file, seen)
        return is_right

    def _prove(self, file: Remote, seen: Identity | None) -> None:
        if seen:
            with self.writing:
                self.at[file.digest] = file.bytes
                self.proved(file, seen)
