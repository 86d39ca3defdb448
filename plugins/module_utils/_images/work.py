# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Work on a host that takes longer than one call of a module: a process of its own does it while calls look at it.

An engine takes a pull back when who asked for it goes away, so no call can begin one and leave it to the next. The
process ends when nobody has looked for a while, or when another run has begun to look for something else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import typing as t

from .._deploy.ledger import STATE_REMEDY, load, state_directory
from .._errors import VllmError
from .._host import files
from .._host.processes import born
from .._models.serving import detached, is_alive

# Seconds without anybody who looks, after which the process gives up; and between two looks, and two notes.
AWAY, LOOK, NOTE = 60.0, 0.1, 0.5
# Seconds that its beginning may take.
PATIENCE = 10.0

Result = dict[str, t.Any]


class Report(t.Protocol):
    """Tells how far the work is, and raises when nobody wants it any more."""

    def __call__(self, doing: str, done: int, total: int) -> None: ...


class Work:
    """What is done for one subject on this host. C(key) tells one wish from another."""

    def __init__(self, subject: str, key: str) -> None:
        name = hashlib.sha256(subject.encode()).hexdigest()[:16]
        self.subject, self.key = subject, hashlib.sha256(key.encode()).hexdigest()
        self.record = os.path.join(state_directory(), f"image-{name}.json")
        self.wanted = os.path.join(state_directory(), f"image-{name}.wanted")

    # --- what a call does -------------------------------------------------------------------------------------------

    def begin(self, do: t.Callable[[Report], Result]) -> None:
        """Have it done, unless that very work is going on: of an earlier run, whose controller was killed.

        Raises:
            VllmError: when the process does not begin.
        """
        known = self._recorded()
        goes_on = is_alive(known) and known.get("key") == self.key and not known.get("finished")
        self._want()
        if goes_on:
            return
        files.delete_file(self.record)
        child = os.fork()
        if not child:
            detached(lambda: self._work(do))
        os.waitpid(child, 0)
        deadline = time.monotonic() + PATIENCE
        while self._recorded().get("key") != self.key:
            if time.monotonic() >= deadline:
                raise VllmError(
                    f"Cannot begin the work on {self.subject}: the process for it did not begin within {PATIENCE:.0f} "
                    f"s, or could not write to {self.record}. Look at the load of the host, and run it again.",
                    "backend-failed",
                )
            time.sleep(LOOK / 10)

    def wait(self, until: float | None) -> tuple[Result | None, Result]:
        """What it came to, or None at that time of the monotonic clock; and how far it is.

        Raises:
            VllmError: what went wrong there.
        """
        while True:
            self._want()
            record = self._recorded()
            if record.get("key") != self.key or not (record.get("finished") or is_alive(record)):
                # It may have ended between the two looks.
                record = self._recorded()
                if record.get("key") != self.key or not record.get("finished"):
                    self.forget()
                    raise VllmError(
                        f"The process that was at work on {self.subject} ended before it was done: it was killed, or "
                        "another run took its place. Run it again.",
                        "overtaken",
                    )
            if record.get("finished"):
                self.forget()
                if "msg" in record:
                    raise VllmError(record["msg"], record["reason"])
                return record["result"], {}
            if until is not None and time.monotonic() >= until:
                return None, record.get("progress") or {}
            time.sleep(LOOK)

    def forget(self) -> None:
        for path in (self.record, self.wanted):
            files.delete_file(path)

    def _want(self) -> None:
        """Say that somebody looks."""
        try:
            os.makedirs(state_directory(), mode=0o755, exist_ok=True)
            if files.read_text(self.wanted) != self.key:
                files.write_whole(self.wanted, self.key.encode())
            os.utime(self.wanted)
        except OSError as error:
            attempt = f"write down in {state_directory()} what is done for {self.subject}"
            raise files.failure(attempt, error, STATE_REMEDY) from None

    def _recorded(self) -> Result:
        try:
            return load(self.record)
        except (OSError, ValueError, TypeError, AttributeError, RecursionError):
            return {}

    # --- what the process does --------------------------------------------------------------------------------------

    def _work(self, do: t.Callable[[Report], Result]) -> None:
        process = born(os.getpid())
        noted = 0.0

        def note(**said: t.Any) -> None:
            known = {"version": 1, "kind": "image", "key": self.key, "process": process}
            files.write_whole(self.record, json.dumps({**known, **said}).encode() + b"\n")

        def report(doing: str, done: int, total: int) -> None:
            nonlocal noted
            if time.monotonic() - noted < NOTE:
                return
            noted = time.monotonic()
            if not self._is_wanted():
                raise VllmError(f"No run waits for {self.subject} any more. Run it again.", "overtaken")
            note(progress={"doing": doing, "done": done, "total": total})

        note()
        try:
            result = do(report)
        except VllmError as error:
            said: Result = {"msg": str(error), "reason": error.reason}
        except Exception as error:
            seen = f"{type(error).__name__}: {error}"
            said = {
                "msg": f"Cannot continue the work on {self.subject}: {seen}. Report this as a fault.",
                "reason": "backend-failed",
            }
        else:
            said = {"result": result}
        # Another run's record is left alone, and nothing is left where nobody looks.
        if self._is_wanted():
            note(finished=True, **said)
        elif self._recorded().get("process") == process:
            self.forget()

    def _is_wanted(self) -> bool:
        with contextlib.suppress(OSError):
            return files.read_text(self.wanted) == self.key and time.time() - os.stat(self.wanted).st_mtime < AWAY
        return False
