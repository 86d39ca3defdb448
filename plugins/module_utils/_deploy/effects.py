# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the verbs of a plan do that are no backend's: files, secrets, the wait for memory, measurements."""

from __future__ import annotations

import contextlib
import datetime
import os
import typing as t

from .._errors import VllmError
from .._host import files
from . import room
from .backend import Action, Effect
from .ledger import ORIGINAL
from .preflight import Measurement
from .secrets import KEPT, Secrets, restore_kept


def on_files(secrets: Secrets | None, before_writing: t.Callable[[str], None] = lambda path: None) -> dict[str, Effect]:
    """Directories, files of ours, secrets. C(before_writing) is called with the path of each secret."""

    def path(action: Action) -> str:
        return secrets.files[action.target] if secrets else action.target

    def write(action: Action) -> None:
        before_writing(path(action))
        t.cast(Secrets, secrets).write(action.target)
        forget_original(path(action))

    return {
        "create_directory": Effect(lambda a: files.make_directory(a.target), lambda a: ["mkdir", "-p", a.target]),
        "write_secret": Effect(write, lambda a: ["install", "-m", "0600", "/dev/stdin", path(a)]),
        "restore_secret": Effect(lambda a: put_back(a.target), lambda a: ["mv", a.target + KEPT, a.target]),
        "forget_secret": Effect(lambda a: files.delete_file(a.target + KEPT), lambda a: ["rm", a.target + KEPT]),
        "restore_original": Effect(
            lambda a: restore_original(a.target), lambda a: ["mv", a.target + ORIGINAL, a.target]
        ),
        "delete_file": Effect(lambda a: files.delete_file(a.target), lambda a: ["rm", a.target]),
        "delete_directory": Effect(lambda a: files.delete_directory(a.target), lambda a: ["rm", "-r", a.target]),
    }


def keep_original(path: str) -> None:
    """Keep what somebody's own file holds, before a secret is written into it."""
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + ORIGINAL)
        try:
            # The file itself, with its owner and mode; what takes its place is a new one.
            os.link(path, path + ORIGINAL, follow_symlinks=False)
        except OSError:
            # Not every file system has hard links.
            files.write_whole(path + ORIGINAL, files.read(path) or b"", durable=True)
    except OSError as error:
        way = f"Name another file than {path}, which holds something else, or run with become: true."
        raise files.failure(f"keep what {path} holds as {path}{ORIGINAL}", error, way) from None


def forget_original(path: str) -> None:
    """A file that is to hold what it held before its first change is the one that it was."""
    kept = files.read(path + ORIGINAL)
    if kept is not None and kept == files.read(path):
        restore_original(path)


def put_back(path: str) -> None:
    """What a secret's file held before its last change, unless the file of before is back already."""
    if files.read(path + KEPT) == files.read(path):
        files.delete_file(path + KEPT)
    else:
        restore_kept(path)


def restore_original(path: str) -> None:
    """Give somebody's own file its content back; one whose content nobody kept stays as it is."""
    try:
        if os.path.lexists(path + ORIGINAL):
            os.replace(path + ORIGINAL, path)
    except OSError as error:
        raise VllmError(
            f"Cannot put {path}{ORIGINAL} back to {path}: {error.strerror}. Do it yourself, or run with become: true.",
            "permission-denied",
        ) from None


def on_memory(
    question: room.Question | None, gpus: t.Callable[[], room.Facts], stopped: t.Collection[str], timeout: float
) -> dict[str, Effect]:
    """The wait for the memory of the GPUs."""

    def wait(action: Action) -> None:
        if question:
            room.wait(question, gpus, stopped, timeout)

    query = ["nvidia-smi", "--query-gpu=uuid,memory.free,memory.total", "--format=csv"]
    return {"wait_for_memory": Effect(wait, lambda a: query)}


def on_measurements(
    measurement: Measurement | None, log_command: t.Sequence[str], warn: t.Callable[[str], None]
) -> dict[str, Effect]:
    """What a start measured of that memory: a by-product, without which everything works."""

    def remember(action: Action) -> None:
        try:
            if measurement:
                measurement.remember(datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"))
        except VllmError as error:
            warn(str(error))

    return {"remember": Effect(remember, lambda a: log_command)}
