# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the verbs of a plan do that are no backend's: files, secrets, the wait for memory, measurements."""

from __future__ import annotations

import datetime
import typing as t

from .._host import files
from . import room
from .backend import Action, Effect
from .preflight import Measurement
from .secrets import KEPT, Secrets, restore_kept


def on_files(secrets: Secrets | None) -> dict[str, Effect]:
    """Directories, files of ours, secrets."""

    def path(action: Action) -> str:
        return secrets.files[action.target] if secrets else action.target

    def write(action: Action) -> None:
        t.cast(Secrets, secrets).write(action.target)

    return {
        "create_directory": Effect(lambda a: files.make_directory(a.target), lambda a: ["mkdir", "-p", a.target]),
        "write_secret": Effect(write, lambda a: ["install", "-m", "0600", "/dev/stdin", path(a)]),
        "restore_secret": Effect(lambda a: restore_kept(a.target), lambda a: ["mv", a.target + KEPT, a.target]),
        "forget_secret": Effect(lambda a: files.delete_file(a.target + KEPT), lambda a: ["rm", a.target + KEPT]),
        "delete_file": Effect(lambda a: files.delete_file(a.target), lambda a: ["rm", a.target]),
        "delete_directory": Effect(lambda a: files.delete_directory(a.target), lambda a: ["rm", "-r", a.target]),
    }


def on_memory(
    question: room.Question | None, gpus: t.Callable[[], room.Facts], stopped: t.Collection[str], timeout: float
) -> dict[str, Effect]:
    """The wait for the memory of the GPUs."""

    def wait(action: Action) -> None:
        if question:
            room.wait(question, gpus, stopped, timeout)

    query = ["nvidia-smi", "--query-gpu=uuid,memory.free,memory.total", "--format=csv"]
    return {"wait_for_memory": Effect(wait, lambda a: query)}


def on_measurements(measurement: Measurement | None, server: str) -> dict[str, Effect]:
    """What a start measured of that memory."""

    def remember(action: Action) -> None:
        if measurement:
            measurement.remember(datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"))

    return {"remember": Effect(remember, lambda a: ["docker", "logs", server])}
