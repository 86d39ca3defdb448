# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of systemd that can be told to fail at any call: what docker_model is for containers.

Its units are texts in a dictionary. It tells its calls and what there is in the words of docker_model, so that the same
tests walk through both.
"""

from __future__ import annotations

import os
import sys
import time
import typing as t
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import Backend
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import SYSTEMD, Ledger
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd import unit as units
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.backend import SystemdBackend
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.program import Programs
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.systemctl import (
    LOADS_CREDENTIALS,
    Host,
    Place,
    SystemdError,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.record import Entry, Record, entry, make
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.servers import wish_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.state import LOCK, contents, digest
from docker_model import SERVER, Client, FailsOnce, Killed, Situation, installed, situation, situations


@dataclass
class Systemd(Host):
    """The calls that the backend makes, on units in a dictionary."""

    units: dict[str, str] = field(default_factory=dict)
    state: dict[str, str] = field(default_factory=dict)
    # Names of units that packages brought.
    packaged: set[str] = field(default_factory=set)
    users: dict[str, int] = field(default_factory=dict)
    enabled: set[str] = field(default_factory=set)
    # What systemd remembers of units that failed or run, and how often it was told to read them again.
    remembered: dict[str, str] = field(default_factory=dict)
    # What it was to start at boot when it last read them.
    wanted: set[str] = field(default_factory=set)
    reloads: int = 0
    closed: set[str] = field(default_factory=set)
    calls: list[tuple[str, str]] = field(default_factory=list)
    failing: tuple[str, str] | None = None
    fails_late: bool = False
    fails_once: bool = False
    dies_after: int | None = None
    # Processes that are left after a stop.
    stuck: list[int] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    # What the last start of each is called, and when it was, in microseconds; of a stop nothing is remembered.
    starts: dict[str, tuple[str, str]] = field(default_factory=dict)
    release: int = 252
    # What systemd remembers of units that failed and are gone.
    failures: set[str] = field(default_factory=set)
    log: str = "Application startup complete.\n"

    def _call(self, verb: str, name: str) -> None:
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            raise Killed
        self.calls.append((verb, name))
        if not self.fails_late:
            self._fail(verb, name)

    def _done(self, verb: str, name: str) -> None:
        if self.fails_late:
            self._fail(verb, name)

    def _fail(self, verb: str, name: str) -> None:
        if self.failing == (verb, name):
            if self.fails_once:
                self.failing = None
            raise SystemdError(f"{verb} of {name} failed")

    def version(self) -> int:
        return self.release

    def loads_credentials(self) -> bool:
        return self.release >= LOADS_CREDENTIALS

    def texts(self, prefix: str = "") -> dict[str, str]:
        return {name: text for name, text in self.units.items() if name.startswith(prefix)}

    def is_elsewhere(self, name: str) -> bool:
        return name in self.packaged

    def is_enabled(self, name: str) -> bool:
        return name in self.enabled

    def show(self, names: t.Iterable[str]) -> dict[str, dict[str, str]]:
        return {name: self._shown(name) for name in names}

    def _shown(self, name: str) -> dict[str, str]:
        state = self.state.get(name, "created")
        stale = self.remembered.get(name, self.units.get(name)) != self.units.get(name)
        return {
            "LoadState": "loaded" if name in {*self.units, *self.wanted} else "not-found",
            "ActiveState": "failed"
            if name in self.failures
            else {"running": "active", "failed": "failed"}.get(state, "inactive"),
            "SubState": state,
            "ExecMainStartTimestampMonotonic": "0" if state == "created" else "1000000",
            "NeedDaemonReload": "yes" if stale else "no",
            "ControlGroup": f"/system.slice/{name}.service",
            **dict(zip(("InvocationID", "InactiveExitTimestampMonotonic"), self.starts.get(name, ()))),
        }

    def journal(self, name: str, invocation: str, lines: int) -> str:
        return self.log

    def listening(self, port: int, bind: str) -> str | None:
        running = (name for name, state in self.state.items() if state == "running")
        return next((name for name in running if f"--port {port} " in f"{self.units[name]} "), None)

    def install(self, name: str, text: str) -> None:
        self._call("create", name)
        assert name not in self.units
        self.put(name, text)
        self._done("create", name)

    def put(self, name: str, text: str, state: str = "created") -> None:
        self.units[name], self.state[name] = text, state
        self.made.append(units.identity(text))

    def rename(self, name: str, to: str) -> None:
        self._call("rename", name)
        assert to not in self.units and self.state[name] != "running"
        self.failures |= {name} if self.state[name] == "failed" else set()
        self.units[to], self.state[to] = self.units.pop(name), self.state.pop(name)

    def remove(self, name: str) -> None:
        self._call("remove", name)
        assert name not in self.enabled and self.state[name] != "running"
        del self.units[name], self.state[name]
        self.remembered.pop(name, None)
        self.reset(name)

    def reset(self, name: str) -> None:
        self.failures.discard(name)

    def reload(self) -> None:
        self.reloads += 1
        self.remembered.clear()
        self.wanted = {*self.enabled}

    def start(self, name: str, timeout: float | None) -> None:
        assert self._shown(name)["NeedDaemonReload"] == "no"
        self._call("start", name)
        self.starts[name] = (f"start {len(self.calls)} of {name}", str(int(time.monotonic() * 1e6)))
        cache = units.cache_of(self.units[name])
        if cache:
            Path(cache).mkdir(parents=True, exist_ok=True)
        self.state[name] = "exited" if "Type=oneshot" in self.units[name] else "running"
        self.remembered[name] = self.units[name]
        if "Type=oneshot" in self.units[name]:
            del self.remembered[name]
        self._done("start", name)

    def kill(self, name: str) -> None:
        self._call("kill", name)

    def stop(self, name: str, timeout: float) -> None:
        self._call("stop", name)
        self.state[name] = "exited"
        self.remembered.pop(name, None)
        self._done("stop", name)

    def enable(self, name: str) -> None:
        self.enabled.add(name)

    def disable(self, name: str) -> None:
        self.enabled.discard(name)

    def left_in(self, control_group: str) -> list[int]:
        return self.stuck

    def uid(self, user: str) -> int | None:
        return self.users.get(user)

    def owner(self, user: str) -> tuple[int, int]:
        return os.geteuid(), os.getegid()

    def add_user(self, user: str) -> None:
        self.users[user] = 990

    def remove_user(self, user: str) -> None:
        del self.users[user]

    def unreadable(self, user: str, wanted: t.Sequence[Place]) -> list[str]:
        return [place.path for place in wanted if place.path in self.closed]

    def unavailable(self) -> str:
        return ""

    @property
    def now(self) -> dict[str, str]:
        """Name to identity (in the order in which they were made) and state."""
        return {
            name: f"id{self.made.index(units.identity(text)) + 1} {self.state[name]}"
            for name, text in self.units.items()
        }

    @property
    def volumes_by_name(self) -> dict[str, str]:
        return {}


@dataclass
class Services(Situation):
    """A host whose servers are units, with containers beside them."""

    systemd: Systemd = field(default_factory=Systemd)
    environments: Path = Path()
    cut_off: list[str] = field(default_factory=list)
    allow_daemon_reload: bool = False
    # The environment that a role builds.
    provided: str = ""
    # Which backend makes servers; and the name of a server that is a container though others are not.
    makes: str = "systemd"
    container: str = ""

    def server_for(self, said: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
        is_container = said.get("name", "a") == self.container
        self.makes = "container" if is_container else "systemd"
        return SERVER if is_container else self.server

    def backends(self) -> list[Backend]:
        systemd = SystemdBackend(
            self.systemd,
            Ledger(str(self.record), SYSTEMD),
            lambda: self.cut_off,
            self.allow_daemon_reload,
            str(self.environments),
            Programs(str(self.environments.parent / "programs"), str(self.environments.parent / "run" / "turns")),
            self.provided,
        )
        both: list[Backend] = [systemd, *super().backends()]
        return sorted(both, key=lambda backend: backend.name != self.makes)


class Both:
    """A host with units and containers, seen as one: its calls, its instances, and what is to go wrong."""

    def __init__(self, systemd: Systemd, client: Client) -> None:
        self.__dict__.update(systemd=systemd, client=client, calls=systemd.calls)
        client.calls = systemd.calls

    def __setattr__(self, name: str, value: t.Any) -> None:
        setattr(self.systemd, name, value)
        setattr(self.client, name, value)

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self.client, name)

    @property
    def now(self) -> dict[str, str]:
        return {**self.client.now, **self.systemd.now}


# How servers a and b of the walks through switches run: the fixtures client and fragile take them.
CONTAINERS, UNITS = "containers", "units"
A_IS_A_CONTAINER, B_IS_A_CONTAINER = "a is a container", "b is a container"
# The oldest Python of hosts leaves out the mixtures: they differ in what is whose, and in nothing of the standard library.
MIXED = (A_IS_A_CONTAINER, B_IS_A_CONTAINER) if sys.version_info >= (3, 11) else ()
EVERY_WAY = (CONTAINERS, UNITS, *MIXED)


def host_of(kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails_once: bool = False) -> t.Any:
    """A host whose servers run in one of EVERY_WAY."""
    client = FailsOnce() if fails_once else Client()
    if kind == CONTAINERS:
        return installed(client, monkeypatch, tmp_path)
    made = installed_units(Systemd(fails_once=fails_once), monkeypatch, tmp_path, client)
    if kind == UNITS:
        return made
    services().container = kind[0]
    return Both(made, client)


def environment_in(directory: Path, version: str = "0.26.0") -> str:
    """A virtual environment, as far as it is looked at."""
    venv = directory / "venv"
    information = venv / "lib" / "python3.11" / "site-packages" / f"vllm-{version}.dist-info"
    information.mkdir(parents=True, exist_ok=True)
    (information / "RECORD").write_text("vllm/__init__.py,sha256=x,1\n")
    (venv / "bin").mkdir(exist_ok=True)
    (venv / "bin" / "vllm").write_text("#!/bin/sh\n")
    (venv / "bin" / "vllm").chmod(0o755)
    (venv / "pyvenv.cfg").write_text("home = /usr/bin\n")
    return str(venv)


def built_environment(record: Record, root: Path, version: str = "0.26.0", users: tuple[str, ...] = ()) -> Entry:
    """A whole environment of the record, as role vllm_venv leaves one for C({packages: [vllm==VERSION], root: ROOT})."""
    wish = wish_of({"packages": [f"vllm=={version}"]})
    one = record.write(entry(str(root / wish.name), wish.digest, users=users, wish=wish.to_dict()))
    root.mkdir(exist_ok=True)
    make(one)
    made = Path(environment_in(Path(one.path), version))
    for part in made.iterdir():
        part.rename(Path(one.path) / part.name)
    made.rmdir()
    (Path(one.path) / "bin" / "python").symlink_to(sys.executable)
    lock = f"vllm=={version}\n".encode()
    (Path(one.own) / LOCK).write_bytes(lock)
    return record.write(replace(one, state="built", lock=digest(lock), contents=contents(one.path)))


def installed_units(
    made: Systemd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, client: Client | None = None
) -> Systemd:
    """The systemd that the backend talks to, on a host of its own with a free GPU and an engine."""
    installed(client or Client(), monkeypatch, tmp_path)
    before = situation()
    venv = environment_in(tmp_path)
    situations[:] = [
        Services(
            before.client,
            before.state,
            record=before.record,
            server={"name": "a", "model": "m", "venv": venv},
            systemd=made,
            environments=tmp_path / "environments",
        )
    ]
    monkeypatch.setattr(units, "VAR_CACHE", str(tmp_path / "cache"))
    return made


def services() -> Services:
    found = situation()
    assert isinstance(found, Services)
    return found
