# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Hugging Face cache on disk: where a model's blobs, snapshots, references and locks are, and how they come there.

A blob is called like the digest of its content. A snapshot is a tree of relative links to blobs, and a reference the
name of a branch with the commit that it stood for. Everything here takes its place in one step of the file system.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import stat
import time
import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .._host import download, files

FILE_MODE, DIRECTORY_MODE = 0o644, 0o755
# Seconds between two looks at a lock that another program holds, and how long that may go on.
LOCK_INTERVAL, LOCK_PATIENCE = 0.2, 600.0

# Size in bytes, time of the last change in nanoseconds, number of the file: what tells that nobody touched it.
Identity = tuple[int, int, int]


def identity(path: str) -> Identity | None:
    """What a regular file looks like from outside, following links; None when there is none."""
    try:
        seen = os.stat(path)
    except (OSError, ValueError):
        return None
    return (seen.st_size, seen.st_mtime_ns, seen.st_ino) if stat.S_ISREG(seen.st_mode) else None


@dataclass(frozen=True)
class Repository:
    """The folder of one model below C(huggingface_dir)."""

    huggingface_dir: str
    model: str

    @property
    def hub(self) -> str:
        """The folder of all models."""
        return os.path.join(self.huggingface_dir, "hub")

    @property
    def name(self) -> str:
        """The name of the folder, which other clients of the Hub give it too."""
        return "models--" + self.model.replace("/", "--")

    @property
    def lock_name(self) -> str:
        """What one run at a time holds: the model in this place."""
        place = hashlib.sha256(self.folder.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        return f"{self.name[:120]}-{place}"

    @property
    def folder(self) -> str:
        """The path of the folder."""
        return os.path.join(self.hub, self.name)

    @property
    def locks(self) -> str:
        """Where clients of the Hub keep their locks for this model."""
        return os.path.join(self.hub, ".locks", self.name)

    def blob(self, digest: str) -> str:
        """The path of a whole file, which is named by its digest."""
        return os.path.join(self.folder, "blobs", digest)

    def partial(self, digest: str) -> str:
        """Where a blob is until it is whole, under the name that clients of the Hub give it too."""
        return self.blob(digest) + ".incomplete"

    def snapshot(self, commit: str) -> str:
        """The directory that has the files of a commit, as links."""
        return os.path.join(self.folder, "snapshots", commit)

    def link(self, commit: str, path: str) -> str:
        """The path of one file in it."""
        return os.path.join(self.snapshot(commit), *path.split("/"))

    def target(self, path: str, digest: str) -> str:
        """What the link at that path of a snapshot says."""
        return os.path.join(*[".."] * (2 + path.count("/")), "blobs", digest)

    def reference(self, revision: str) -> str:
        """The path of the file with the commit that a branch or a tag stands for."""
        return os.path.join(self.folder, "refs", *revision.split("/"))

    # --- looks ------------------------------------------------------------------------------------------------------

    def partial_bytes(self, digest: str) -> int:
        """How much of an unfinished blob is there already."""
        seen = identity(self.partial(digest))
        return seen[0] if seen else 0

    def is_linked(self, commit: str, path: str, digest: str) -> bool:
        try:
            return os.readlink(self.link(commit, path)) == self.target(path, digest)
        except OSError:
            return False

    def is_referred(self, revision: str, commit: str) -> bool:
        """Whether the revision leads to the commit; a commit leads to itself."""
        return revision == commit or files.read_text(self.reference(revision), 1000).strip() == commit

    def refuse_links(self) -> None:
        """Refuse a folder of the model that a link takes elsewhere: whoever may write there would choose where to.

        Raises:
            VllmError: names the link.
        """
        for path in (self.folder, *(os.path.join(self.folder, name) for name in ("blobs", "snapshots", "refs"))):
            if os.path.islink(path):
                raise VllmError(
                    f"Cannot put files of {self.model} into {self.huggingface_dir}: {path} is a link to "
                    f"{os.path.realpath(path)}. Only huggingface_dir and what is above it may be behind a link: move "
                    "the folder, or name another huggingface_dir.",
                    "path-missing",
                )

    def refuse_unwritable(self) -> None:
        """Refuse a place that this user may not write to.

        Raises:
            VllmError: names the directory.
        """
        for name in ("blobs", "snapshots", "refs"):
            place = os.path.join(self.folder, name)
            while not os.path.lexists(place):
                place = os.path.dirname(place)
            if not os.path.isdir(place) or not os.access(place, os.W_OK | os.X_OK):
                seen = "no permission to write to" if os.path.isdir(place) else "no directory is at"
                raise VllmError(
                    f"Cannot put files of {self.model} into {self.huggingface_dir}: {seen} {place}. Containers write "
                    "as root: run with become: true, or choose another huggingface_dir.",
                    "permission-denied" if os.path.isdir(place) else "path-missing",
                )

    # --- changes ----------------------------------------------------------------------------------------------------

    def owner(self) -> tuple[int, int] | None:
        """Whom new files belong to, where root writes into the cache of another user."""
        if os.geteuid() != 0:
            return None
        place = self.folder
        while not os.path.isdir(place):
            place = os.path.dirname(place)
        # The home of a user, not the root of the host, tells whose a cache is.
        seen = os.stat(place)
        return (seen.st_uid, seen.st_gid) if seen.st_uid and place.startswith(self.huggingface_dir) else None

    def make_directory(self, path: str) -> None:
        """Make a directory and those above it."""
        if os.path.isdir(path):
            return
        owner = self.owner()
        self.make_directory(os.path.dirname(path))
        with download.on_disk(f"create the directory {path}"), contextlib.suppress(FileExistsError):
            os.mkdir(path, DIRECTORY_MODE)
            if owner:
                os.chown(path, *owner, follow_symlinks=False)

    def finish(self, partial: str) -> None:
        """Give a file that is whole its owner and mode, before it takes its place."""
        owner = self.owner()
        with download.on_disk(f"set owner and mode of {partial}"):
            descriptor = os.open(partial, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fchmod(descriptor, FILE_MODE)
                if owner:
                    os.fchown(descriptor, *owner)
            finally:
                os.close(descriptor)

    def make_link(self, commit: str, path: str, digest: str) -> None:
        """Have the snapshot lead to the blob; what is there instead is replaced."""
        link = self.link(commit, path)
        self.make_directory(os.path.dirname(link))
        beside = f"{link}.gpufleet-link"
        owner = self.owner()
        with download.on_disk(f"link {link}"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)
            os.symlink(self.target(path, digest), beside)
            if owner:
                os.chown(beside, *owner, follow_symlinks=False)
            os.replace(beside, link)

    def refer(self, revision: str, commit: str) -> None:
        """Have a branch or a tag stand for the commit."""
        path = self.reference(revision)
        self.make_directory(os.path.dirname(path))
        with download.on_disk(f"write {path}"):
            files.write_whole(path, commit.encode(), FILE_MODE, self.owner(), durable=True)

    @contextlib.contextmanager
    def locked(self, digest: str, going_on: t.Callable[[], None]) -> t.Iterator[None]:
        """Hold the lock of a blob, which clients of the Hub heed as well. C(going_on) may raise while it waits.

        Raises:
            VllmError: when another program has it for too long.
        """
        self.make_directory(self.locks)
        path = os.path.join(self.locks, f"{digest}.lock")
        with download.on_disk(f"open the lock {path}"):
            descriptor = _opened(path, self.owner())
        try:
            _wait(descriptor, path, going_on)
            yield
        finally:
            os.close(descriptor)


def _opened(path: str, owner: tuple[int, int] | None) -> int:
    """A lock that another user made can be held without writing to it; that user's clients write to theirs."""
    flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | flags, FILE_MODE)
    except PermissionError:
        return os.open(path, os.O_RDONLY | flags)
    if owner:
        os.fchown(descriptor, *owner)
    return descriptor


def _wait(descriptor: int, path: str, going_on: t.Callable[[], None]) -> None:
    deadline = time.monotonic() + LOCK_PATIENCE
    while not _taken(descriptor):
        going_on()
        if time.monotonic() >= deadline:
            raise VllmError(
                f"Another program has been holding {path} for {LOCK_PATIENCE / 60:.0f} minutes: it downloads the same "
                "file. Wait for it, or end it.",
                "locked",
            )
        time.sleep(LOCK_INTERVAL)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Without locks two programs disturb each other, but nothing is installed that is not verified.
        if error.errno not in download.NO_LOCKS_HERE:
            raise
    return True
