# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The servers to watch: which there are by the records of this host, how each is seen, stopped and started.

Root watches the servers of all who may run some. What another user's record says is believed of containers, on an
engine whose socket that user may open: to them he could do all that root does here.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
import pwd
import time
import typing as t
import urllib.parse
from dataclasses import dataclass

from .._deploy.ledger import STATE_NAME, SYSTEMD, Entry, Ledger, state_directory
from .._docker.client import EngineError, socket_path
from .._docker.reader import Inspected, SocketReader
from .._docker.source import ContainerSource, container_state
from .._errors import VllmError
from .._gpu.probe import start_all
from .._health.logfile import Source
from .._host import files, lock
from .._host.http import HttpError
from .._server.spec import CONTAINER, ServerSpec, from_params
from .._systemd.source import UnitSource, unit_state
from .._systemd.systemctl import DIRECTORY, SUFFIX, Host, SystemdError
from .._vllm.life import engine_is_dead
from .decide import Life

# Seconds that a server which hangs is given to stop by itself; it has nothing left to do.
PATIENCE = 10
# Seconds for systemctl and journalctl, and for what is killed to be gone.
ANSWER = 30.0
GONE = 60.0
# Where users keep a record, below their homes.
BELOW_HOME = os.path.join(".local", "state", STATE_NAME)
# With these, an engine starts nothing again that ended well.
NOT_STARTED_AGAIN = ("", "no", "on-failure")


@dataclass(frozen=True)
class Seen:
    """The process of a server, as what runs it tells."""

    life: Life
    running: bool
    returns: bool = False
    died: str = ""
    age: float = 0.0


class Subject(t.Protocol):
    """A server that is watched."""

    backend: str
    name: str
    place: str
    identities: t.Mapping[str, ServerSpec]
    # Seconds that a start of one may take, where its record says so.
    starts: t.Mapping[str, float]
    # Whose record has it; what that user may not read, he is not to get out of root.
    owner: int

    def seen(self) -> Seen | None:
        """How its process is; None when nothing of that name is what the record says.

        Raises:
            VllmError: when what runs it gives no answer.
        """

    def source(self) -> Source:
        """Its log, its process and its secrets."""

    def stop(self, patience: int = PATIENCE) -> None:
        """Stop it, and kill what does not stop.

        Raises:
            VllmError: when that fails.
        """

    def start(self) -> None:
        """Start it, and return when its process runs.

        Raises:
            VllmError: when that fails.
        """


# --- which there are --------------------------------------------------------------------------------------------------


def records(extra: t.Iterable[str] = (), alone: bool = False) -> list[tuple[str, int]]:
    """The directories in which users of this host record what they run, with their owners: that of root first."""
    found = {} if alone else {state_directory(): os.geteuid()}
    for user in () if alone else pwd.getpwall():
        found.setdefault(os.path.join(user.pw_dir, BELOW_HOME), user.pw_uid)
    for path in extra:
        with contextlib.suppress(OSError):
            found[path] = os.stat(path).st_uid
    return [(path, owner) for path, owner in found.items() if os.path.isdir(path)]


def subjects(
    directories: t.Iterable[tuple[str, int]], problem: t.Callable[[str], None] = lambda _sentence: None
) -> list[Subject]:
    """The servers that these records name, those of a backend and a place once."""
    lock.may_open.cache_clear()
    known: dict[tuple[str, str, int], dict[str, ServerSpec]] = {}
    starts: dict[str, float] = {}
    for directory, owner in directories:
        try:
            record = Ledger(directory, owner=owner).known()
        except VllmError as error:
            problem(str(error))
            continue
        for one in (*record.entries, *record.elsewhere):
            spec = _spec_of(one)
            if spec and one.identity and _is_believed(one, owner):
                known.setdefault((one.place, one.server, owner), {})[one.identity] = spec
                starts[one.identity] = one.start_seconds
    found = sorted(known.items(), key=lambda one: one[0])
    return [_subject(place, name, specs, starts, owner) for (place, name, owner), specs in found]


def _is_believed(one: Entry, owner: int) -> bool:
    if one.purpose not in ("server", "adopted"):
        return False
    if one.place == SYSTEMD:
        return owner == 0
    with contextlib.suppress(VllmError):
        return owner == 0 or lock.may_open(owner, socket_path(one.place or None))
    return False


def _spec_of(one: Entry) -> ServerSpec | None:
    try:
        return from_params(one.intent)
    except (VllmError, TypeError, ValueError, AttributeError, RecursionError):
        return None


def _subject(
    place: str, name: str, specs: t.Mapping[str, ServerSpec], starts: t.Mapping[str, float], owner: int
) -> Subject:
    return Unit(name, specs, starts) if place == SYSTEMD else Container(name, place, specs, starts, owner)


# --- a container ------------------------------------------------------------------------------------------------------


class Container:
    """A server in a container, as C(Subject) describes its methods."""

    backend = CONTAINER

    def __init__(
        self,
        name: str,
        place: str,
        identities: t.Mapping[str, ServerSpec],
        starts: t.Mapping[str, float],
        owner: int = 0,
    ) -> None:
        self.name, self.place, self.identities, self.starts, self.owner = name, place, identities, starts, owner
        self.reader = SocketReader(socket_path(place or None))
        self.judged: tuple[Life, str] | None = None

    def seen(self) -> Seen | None:
        try:
            inspected = self.reader.container(self.name)
        except EngineError as error:
            raise VllmError(f"The container engine gives no answer: {error}.", "backend-unavailable") from None
        if inspected is None or inspected.get("Id") not in self.identities:
            return None
        state = container_state(self.name, inspected, datetime.datetime.now(datetime.timezone.utc))
        life = Life(str(inspected["Id"]), state.started_at, state.restarts)
        returns = bool(inspected["State"].get("Restarting"))
        # One that somebody paused stands still like one that he stopped.
        runs = bool(state.running) and not inspected["State"].get("Paused")
        died = "" if state.running or returns else self._death(life, inspected, state.error)
        return Seen(life, runs, returns, died, state.age)

    def _death(self, life: Life, inspected: Inspected, error: str) -> str:
        """Why it does not run, where nobody stopped it; looked up once a life."""
        if self.judged is None or self.judged[0] != life:
            policy = str(((inspected.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name") or "")
            why = f"Docker could not start it: {error}" if error else ""
            if not why and policy in NOT_STARTED_AGAIN and engine_is_dead(self.source().life()):
                why = f"Its engine died, and restart_policy {policy or 'no'} does not start it again."
            self.judged = (life, why)
        return self.judged[1]

    def source(self) -> Source:
        return ContainerSource(self.name, self.reader)

    def stop(self, patience: int = PATIENCE) -> None:
        self._post(f"stop?t={patience}", patience + GONE)

    def start(self) -> None:
        self._post("start", GONE)

    def _post(self, what: str, timeout: float) -> None:
        verb = what.partition("?")[0]
        try:
            name = urllib.parse.quote(self.name, safe="")
            answer = self.reader.server.request("POST", f"/containers/{name}/{what}", timeout=timeout)
        except HttpError as error:
            raise VllmError(f"Cannot {verb} container {self.name}: {error}.", "backend-failed") from None
        if answer.status >= 400:
            said = answer.body[:500].decode("utf-8", errors="replace")
            with contextlib.suppress(ValueError, AttributeError):
                said = str(json.loads(said).get("message") or said)
            raise VllmError(f"Cannot {verb} container {self.name}. Docker says: {said}.", "backend-failed")


# --- a unit -----------------------------------------------------------------------------------------------------------


def run_command(command: t.Sequence[str], **_options: t.Any) -> tuple[int, str, str]:
    """Status, output and errors of a command, as sources ask for it.

    Raises:
        OSError: when it cannot be run, or does not end.
    """
    found = start_all({"": tuple(command)})(ANSWER)[""]
    if found.timed_out:
        raise TimeoutError(f"{command[0]} did not end within {ANSWER:.0f} s")
    if found.rc is None:
        raise OSError(found.err)
    return found.rc, found.out, found.err


class Unit:
    """A server in a systemd unit, as C(Subject) describes its methods."""

    backend = SYSTEMD
    place = SYSTEMD
    owner = 0
    directory = DIRECTORY

    def __init__(
        self,
        name: str,
        identities: t.Mapping[str, ServerSpec],
        starts: t.Mapping[str, float],
        host: Host | None = None,
    ) -> None:
        self.name, self.identities, self.starts = name, identities, starts
        self.host = host or Host()

    def seen(self) -> Seen | None:
        text = files.read(os.path.join(self.directory, self.name + SUFFIX))
        identity = hashlib.sha256(text or b"").hexdigest()
        if text is None or identity not in self.identities:
            return None
        shown = UnitSource(self.name, run_command).shown()
        state = unit_state(self.name, shown, time.monotonic())
        life = Life(identity, state.started_at, state.restarts)
        returns = shown.get("SubState") == "auto-restart" or shown.get("ActiveState") == "activating"
        has_failed = shown.get("ActiveState") == "failed"
        died = (state.error or f"systemd gave it up ({shown.get('Result')})") if has_failed else ""
        return Seen(life, bool(state.running), returns and not state.running, died, state.age)

    def source(self) -> Source:
        return UnitSource(self.name, run_command)

    def stop(self, patience: int = PATIENCE) -> None:
        try:
            self._stop(patience)
        except SystemdError as error:
            raise VllmError(f"Cannot stop {self.name}: {error}.", "backend-failed") from None

    def _stop(self, patience: int) -> None:
        """A unit may have minutes to stop; one that hangs is killed meanwhile."""
        self.host.begin_stop(self.name)
        for seconds in (patience, GONE):
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                shown = self.host.show([self.name])[self.name]
                if shown.get("ActiveState") in ("inactive", "failed"):
                    return
                time.sleep(0.5)
            self.host.kill(self.name)
        raise SystemdError(f"it did not end within {patience + GONE:.0f} s, though it was killed")

    def start(self) -> None:
        try:
            self.host.start(self.name, GONE)
        except SystemdError as error:
            raise VllmError(f"Cannot start {self.name}: {error}.", "backend-failed") from None
