# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that units run before they become servers: C(start) and what it imports, as one file on the host.

Its name has the digest of its content, so a unit runs what it was made with until it is made again. Each server whose
unit runs it has an entry in the record; with the last of them it goes.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import typing as t
from dataclasses import dataclass

from .._deploy.ledger import Known, Ledger, entry
from .._errors import VllmError
from .._host import files, lock
from .._host.archive import DIRECTORY, archive as packed, refuse_unsafe
from .options import TURNS

# What C(start) reaches, as the names of modules below module_utils; a unit test holds the list.
MODULES = (
    "_errors",
    *(f"_gpu.{name}" for name in ("facts", "faults", "hardware", "kernel", "nvidia_smi", "observation", "probe")),
    *(
        "_gpu.selection",
        "_gpu.tenants",
        "_gpu.watchdog",
        "_host.cgroup",
        "_host.labels",
        "_host.lock",
        "_host.processes",
    ),
    "_systemd.start",
)
# The name of the lock under which these files come and go, which no server can have.
LOCK = "@program"


@functools.lru_cache(maxsize=1)
def archive() -> bytes:
    """The program of units."""
    return packed(MODULES, "_systemd.start")


@dataclass(frozen=True)
class Programs:
    """Where the programs of units are, and the files that their starts wait for."""

    directory: str = DIRECTORY
    turns: str = TURNS

    @property
    def path(self) -> str:
        """Where the program of this version is."""
        return f"{self.directory}/start-{hashlib.sha256(archive()).hexdigest()[:16]}.pyz"

    def provide(self, server: str, ledger: Ledger) -> None:
        """Record that a server's unit runs the program, and write it where it is not there as it should be.

        Raises:
            OSError: when it cannot be written.
            VllmError: when others could change it.
        """
        path, content = self.path, archive()
        with lock.alone(LOCK, doing="is writing or removing what units run at their start"):
            if path not in {one.name for one in ledger.known().of(server, "program")}:
                ledger.write(entry(server, "program", name=path))
            os.makedirs(self.directory, 0o755, exist_ok=True)
            refuse_unsafe(self.directory)
            if files.read(path, len(content) + 1) != content:
                files.write_whole(path, content, mode=0o644, durable=True)

    def let_go(self, server: str, units: t.Collection[str], ledger: Ledger) -> None:
        """Forget the programs of a server that no unit with these texts runs any more; what no other one runs goes."""
        mine = ledger.known().of(server, "program")
        over = [one for one in mine if not any(one.name in text for text in units)]
        if not over:
            return
        with contextlib.suppress(VllmError), lock.alone(LOCK):
            for one in over:
                if one.name not in _of_others(ledger.known(), server):
                    files.delete_file(one.name)
                    if not os.path.isdir(self.directory):
                        files.delete_directory(self.turns)
                        with contextlib.suppress(OSError):
                            os.rmdir(os.path.dirname(self.turns))
                ledger.drop(one)


def _of_others(known: Known, server: str) -> set[str]:
    return {one.name for one in known.entries if one.purpose == "program" and (known.damaged or one.server != server)}
