# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Process and journal of a unit: what systemctl and journalctl print, and what it means."""

from __future__ import annotations

import re
import shlex
import time
import typing as t

from .._errors import VllmError
from .._health.logfile import TAIL_BYTES, TAIL_LINES, RunCommand, port_among
from .._host.files import read_text
from .._host.processes import ProcessState
from .words import ENVIRONMENTS, JOURNALCTL, entries, number, read_environment

PROPERTIES = (
    "LoadState",
    "ActiveState",
    "SubState",
    "Result",
    "MainPID",
    "NRestarts",
    "ExecMainCode",
    "ExecMainStatus",
    "ExecMainStartTimestampMonotonic",
    "InvocationID",
    "FragmentPath",
)
# Results of systemd that are no exit of the server: what they mean.
RESULTS = {
    "start-limit-hit": "systemd stopped restarting it: it failed too often (systemctl reset-failed allows it again)",
    "timeout": "systemd stopped it: it took longer than TimeoutStartSec",
    "watchdog": "systemd stopped it: its watchdog got no sign of life",
    "resources": "systemd could not prepare it: a directory, a user or a limit in the unit is missing or refused",
    "exec-condition": "a condition in the unit is not met",
}
CURSOR = "-- cursor: "


class UnitSource:
    """A systemd unit, as C(Source) describes its methods."""

    def __init__(self, name: str, run_command: RunCommand) -> None:
        self.name = name if "." in name else f"{name}.service"
        self.run_command = run_command
        self.cursor = ""
        # Seconds between two looks: each costs the start of a program.
        self.interval = 0.5
        self.looked, self.read = -1e9, -1e9
        self.properties: dict[str, str] = {}

    def state(self) -> ProcessState:
        return unit_state(self.name, self.shown(), time.monotonic())

    def shown(self) -> dict[str, str]:
        """What systemctl shows of it, asked again when that is old."""
        if time.monotonic() - self.looked >= self.interval:
            self.properties, self.looked = self._show(), time.monotonic()
        return self.properties

    def _show(self) -> dict[str, str]:
        command = ["systemctl", "show", self.name, "--no-pager", f"--property={','.join(PROPERTIES)}"]
        shown = dict(line.partition("=")[::2] for line in self._run(command).splitlines() if "=" in line)
        if shown.get("LoadState", "not-found") in ("not-found", ""):
            raise VllmError(
                f"Systemd unit {self.name} does not exist on this host. Check the name with 'systemctl list-units'.",
                "server-missing",
            )
        return shown

    def _run(self, command: list[str]) -> str:
        try:
            status, out, err = self.run_command(command, handle_exceptions=False)
        except OSError as error:
            raise VllmError(
                f"Cannot run {command[0]}: {error}. Is this host run by systemd?", "backend-unavailable"
            ) from None
        if status != 0:
            said = err.strip() or out.strip()
            raise VllmError(f"{' '.join(command)} failed with status {status}: {said}.", "backend-failed")
        return str(out)

    def tail(self) -> str:
        # This start alone: an earlier one may have had other settings, and have failed. One whose program has not
        # written anything yet, or never ran, is what systemd says of it.
        return self.life() or self._journal([f"--lines={TAIL_LINES}", *self._invocation("INVOCATION_ID")])

    def life(self) -> str:
        return self._journal([f"--lines={TAIL_LINES}", *self._invocation()])

    def news(self) -> str:
        if time.monotonic() - self.read < self.interval:
            return ""
        self.read = time.monotonic()
        since = [f"--after-cursor={self.cursor}"] if self.cursor else self._invocation()
        # After a cursor the first lines are printed, without one the last: what is more comes with the next look.
        text = self._journal([f"--lines={TAIL_LINES}", *since, "--show-cursor"])
        head, mark, tail = text.rpartition(CURSOR)
        if not mark:
            return text
        self.cursor = tail.strip()
        return head

    def _invocation(self, key: str = "_SYSTEMD_INVOCATION_ID") -> list[str]:
        """What matches the lines of this start: those of its processes, or by INVOCATION_ID those about it."""
        identifier = self.shown().get("InvocationID")
        return [f"{key}={identifier}"] if identifier else []

    def _journal(self, arguments: list[str]) -> str:
        matches = [a for a in arguments if not a.startswith("-")]
        options = [a for a in arguments if a.startswith("-")]
        unit = [] if matches else [f"--unit={self.name}"]
        return entries(self._run([*JOURNALCTL, *unit, *options, *matches]))[-TAIL_BYTES:]

    def root_pid(self) -> int | None:
        return int(self.shown().get("MainPID") or 0) or None

    def host_port(self) -> int | None:
        return port_among(_written_in(self._text())[1])

    def _text(self) -> str:
        """The unit's file with its drop-ins; nothing for one that is in no file."""
        fragment = self.shown().get("FragmentPath")
        return self._run(["systemctl", "cat", self.name, "--no-pager"]) if fragment else ""

    def about(self) -> dict[str, t.Any]:
        from .._host.redaction import read_secrets, redact_value, secrets_among

        text = self._text()
        files = re.findall(r"^(?:EnvironmentFile=-?|LoadCredential=[^:\s]+:)(\S+)", text, re.MULTILINE)
        # Of what we wrote, only what its name says; of a file of somebody else, every value.
        ours = [path for path in files if path.startswith(f"{ENVIRONMENTS}/")]
        secrets = [secret for path in files if path not in ours for secret in read_secrets(path)]
        secrets += [secret for path in ours for secret in secrets_among(read_environment(read_text(path)))]
        secrets += secrets_among(*_written_in(text))
        return {"spec": None, "unit": redact_value(text, secrets), "secrets": secrets}

    def versions(self) -> dict[str, str]:
        return {}


def _written_in(unit: str) -> tuple[dict[str, str], list[str]]:
    """The environment that the text of a unit sets, and the words of its commands."""
    entries: list[str] = []
    words: list[str] = []
    for key, line in re.findall(r"^(Environment|Exec\w+)=(.*)$", unit, re.MULTILINE):
        try:
            (entries if key == "Environment" else words).extend(shlex.split(line))
        except ValueError:
            words += line.split()
    return dict(entry.partition("=")[::2] for entry in entries), words


def unit_state(name: str, shown: t.Mapping[str, str], monotonic: float) -> ProcessState:
    """The state of a unit, from what C(systemctl show) prints."""
    # With SubState auto-restart the unit counts as activating, and no process runs.
    running = shown.get("ActiveState") in ("active", "activating", "reloading") and number(shown.get("MainPID")) > 0
    result, started = shown.get("Result", ""), number(shown.get("ExecMainStartTimestampMonotonic")) / 1e6
    return ProcessState(
        running=running,
        exit_status=None if running else _exit_status(shown),
        oom_killed=result == "oom-kill",
        error="" if running else RESULTS.get(result, ""),
        restarts=number(shown.get("NRestarts")),
        name=f"Unit {name}",
        started_at=str(started),
        age=max(0.0, monotonic - started) if running and started else 0.0,
    )


def _exit_status(shown: t.Mapping[str, str]) -> int | None:
    """As a shell counts it: a process that a signal ended has 128 and the signal's number."""
    status, code = number(shown.get("ExecMainStatus")), shown.get("ExecMainCode", "0")
    if code in ("2", "3", "killed", "dumped"):
        return 128 + status
    return status if code in ("1", "exited") else None
