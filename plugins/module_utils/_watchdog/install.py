# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watchdog on a host: its program, its settings and its unit, or none of them; and whether it is to look on."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
import typing as t
from dataclasses import dataclass, field

from .._deploy.ledger import STATE_NAME, SYSTEM_STATE
from .._errors import VllmError
from .._host import files
from .._host.archive import refuse_unsafe
from .._systemd.systemctl import SUFFIX, Host as Systemd, SystemdError
from . import publish
from .decide import Settings
from .program import PATH, UNIT, archive, unit
from .watch import CONFIG

Params = t.Mapping[str, t.Any]
STATES = ("present", "absent")
# The keys of the role, with the setting that each is.
SETTINGS = {
    "restarts": "restarts",
    "window": "window",
    "stall": "stall",
    "canary_timeout": "canary_timeout",
    "warming": "warming",
    "start_timeout": "start",
}
DEFAULTS = Settings()
PARAMETERS: dict[str, dict[str, t.Any]] = {
    "state": {"type": "str", "choices": list(STATES), "default": "present"},
    **{key: {"type": "int", "default": int(getattr(DEFAULTS, name))} for key, name in SETTINGS.items()},
    "records": {"type": "list", "elements": "path", "default": []},
    "textfile_directory": {"type": "path"},
    "hook_command": {"type": "list", "elements": "str", "default": []},
    "hook_url": {"type": "str", "no_log": True},
    "paused": {"type": "bool"},
    "pause_seconds": {"type": "int", "default": int(publish.PAUSE)},
    "allow_daemon_reload": {"type": "bool", "default": False},
}


@dataclass(frozen=True)
class Machine:
    """The host as a run meets it. Tests hand in another one."""

    systemd: Systemd = field(default_factory=Systemd)
    program: str = PATH
    config: str = CONFIG
    directory: str = os.path.join(SYSTEM_STATE, STATE_NAME, publish.DIRECTORY)
    python: str = field(default_factory=lambda: os.path.realpath(sys.executable))
    cut_off: t.Callable[[], t.Sequence[str]] = tuple
    warn: t.Callable[[str], None] = lambda _text: None
    is_root: bool = field(default_factory=lambda: os.geteuid() == 0)

    @property
    def unit(self) -> str:
        return os.path.join(self.systemd.directory, UNIT + SUFFIX)

    @property
    def pause(self) -> str:
        return os.path.join(self.directory, publish.PAUSED)


def run(params: Params, check_mode: bool, machine: Machine) -> dict[str, t.Any]:
    """Bring the watchdog to the wanted state, unless this is check mode.

    Raises:
        VllmError: for a setting that cannot be, a host without systemd, or what root alone may do.
    """
    if params["state"] == "absent":
        return _absent(check_mode, machine)
    _refuse(params, machine)
    wanted = _wanted(params, machine)
    differing = [path for path, (content, _mode) in wanted.items() if _content(path) != content]
    is_stale = _needs_reload(machine) or machine.unit in differing and os.path.exists(machine.unit)
    actions = [f"write {path}" for path in differing]
    is_up = not differing and _is_running(machine)
    actions += [] if is_up else ["restart the watchdog" if _is_running(machine) else "start the watchdog"]
    actions += _pausing(params, machine)
    diff = _diff(machine, wanted)
    if not check_mode:
        _apply(params, machine, wanted, differing, is_up, is_stale)
    return _result(actions, diff, machine)


def _refuse(params: Params, machine: Machine) -> None:
    if not machine.is_root:
        raise VllmError("Only root can install the watchdog. Run with become: true.", "permission-denied")
    if not machine.systemd.version():
        raise VllmError(
            "The watchdog is a systemd service, and this host is not run by systemd.", "backend-unavailable"
        )
    for key in (*SETTINGS, "pause_seconds"):
        least = 0 if key == "restarts" else 1
        if params[key] < least:
            raise VllmError(f"{key} must be at least {least}; got {params[key]}.")
    longest = 2 * DEFAULTS.canary_timeout
    if params["stall"] < DEFAULTS.canary_timeout or params["canary_timeout"] > longest:
        raise VllmError(
            f"stall must be at least {DEFAULTS.canary_timeout:.0f} and canary_timeout at most {longest:.0f} seconds: "
            f"shorter pauses are usual, and longer waits find nothing; got {params['stall']} and "
            f"{params['canary_timeout']}."
        )
    url = params.get("hook_url")
    if url and not url.startswith(("http://", "https://")):
        raise VllmError("hook_url must begin with http:// or https://.")
    command = params.get("hook_command") or []
    if command and not os.path.isabs(command[0]):
        raise VllmError(f"hook_command must begin with the absolute path of a program; got {command[0]!r}.")
    directory = params.get("textfile_directory")
    if directory and not os.path.isdir(directory):
        raise VllmError(
            f"textfile_directory must be the directory that node exporter reads; {directory} is none.", "path-missing"
        )


def _wanted(params: Params, machine: Machine) -> dict[str, tuple[bytes, int]]:
    """What each file holds, and its mode."""
    said: dict[str, t.Any] = {setting: params[key] for key, setting in SETTINGS.items()}
    said.update(
        {key: params[key] for key in ("records", "textfile_directory", "hook_command", "hook_url") if params[key]}
    )
    said["directory"] = machine.directory
    config = json.dumps(said, indent=1, sort_keys=True) + "\n"
    return {
        machine.program: (archive(), 0o644),
        machine.config: (config.encode(), 0o600),
        machine.unit: (unit(machine.python).encode(), 0o644),
    }


def _content(path: str) -> bytes | None:
    return files.read(path, 16 << 20)


def _diff(machine: Machine, wanted: t.Mapping[str, tuple[bytes, int]]) -> list[dict[str, str]]:
    """The unit alone: the program is long, and the settings may hold the secret of a hook."""
    before, after = (_content(machine.unit) or b"").decode(), wanted[machine.unit][0].decode()
    header = {"before_header": machine.unit, "after_header": machine.unit}
    return [{**header, "before": before, "after": after}] if before != after else []


def _apply(
    params: Params,
    machine: Machine,
    wanted: t.Mapping[str, tuple[bytes, int]],
    differing: t.Sequence[str],
    is_up: bool,
    is_stale: bool,
) -> None:
    try:
        for path in differing:
            os.makedirs(os.path.dirname(path), 0o700 if path == machine.config else 0o755, exist_ok=True)
            if path == machine.program:
                refuse_unsafe(os.path.dirname(path))
            content, mode = wanted[path]
            files.write_whole(path, content, mode=mode, durable=True)
        _pause(params, machine)
    except OSError as error:
        what = error.filename or "files of the watchdog"
        raise files.failure(f"write {what}", error, "Let root write there.") from None
    if is_up:
        return
    try:
        if is_stale:
            _reload(params, machine)
        machine.systemd.enable(UNIT)
        if _is_running(machine):
            machine.systemd.stop(UNIT, 60.0)
        machine.systemd.start(UNIT, 60.0)
    except SystemdError as error:
        raise VllmError(
            f"Cannot start the watchdog: {error}. journalctl -u {UNIT} shows more.", "backend-failed"
        ) from None


def _reload(params: Params, machine: Machine) -> None:
    """Let systemd read the unit again, where that takes the GPUs from nobody."""
    names = () if params["allow_daemon_reload"] else machine.cut_off()
    if names:
        machine.warn(
            "The unit of the watchdog has changed, and 'systemctl daemon-reload' would take the GPUs away from running "
            f"containers: {', '.join(names)}. It is run as before until the host starts again, or with "
            "allow_daemon_reload: true."
        )
        return
    machine.systemd.reload()


def _shown(machine: Machine) -> t.Mapping[str, str]:
    try:
        return machine.systemd.show([UNIT]).get(UNIT, {})
    except SystemdError:
        return {}


def _is_running(machine: Machine) -> bool:
    return _shown(machine).get("ActiveState") in ("active", "activating")


def _needs_reload(machine: Machine) -> bool:
    return _shown(machine).get("NeedDaemonReload") == "yes"


# --- the pause --------------------------------------------------------------------------------------------------------


def _pausing(params: Params, machine: Machine) -> list[str]:
    if params["paused"] is None:
        return []
    is_paused = publish.paused_until(machine.pause) > time.time()
    if params["paused"]:
        known = files.read_text(machine.pause, 64).strip()
        return [] if is_paused and known == str(params["pause_seconds"]) else ["pause the watchdog"]
    return ["end the pause of the watchdog"] if os.path.exists(machine.pause) else []


def _pause(params: Params, machine: Machine) -> None:
    if not _pausing(params, machine):
        return
    if params["paused"]:
        os.makedirs(machine.directory, 0o755, exist_ok=True)
        files.write_whole(machine.pause, f"{params['pause_seconds']}\n".encode(), mode=0o644)
    else:
        os.unlink(machine.pause)


# --- gone -------------------------------------------------------------------------------------------------------------


def _absent(check_mode: bool, machine: Machine) -> dict[str, t.Any]:
    paths = [
        path for path in (machine.unit, machine.program, machine.config, machine.directory) if os.path.lexists(path)
    ]
    if paths and not machine.is_root:
        # It watches the servers of others, too.
        found = _result([], [], machine)
        return {**found, "message": "The watchdog of this host is root's; become: true removes it."}
    actions = [f"remove {path}" for path in paths]
    if not check_mode and paths:
        _remove(machine)
    return {**_result(actions, [], machine), "watchdog": None, "message": "No watchdog is installed on this host."}


def _remove(machine: Machine) -> None:
    from .watch import configured

    textfile = ""
    with contextlib.suppress(VllmError):
        textfile = configured(files.read_text(machine.config)).textfile_directory
    if os.path.lexists(machine.unit):
        try:
            if _is_running(machine):
                machine.systemd.stop(UNIT, 60.0)
            machine.systemd.disable(UNIT)
            machine.systemd.remove(UNIT)
        except SystemdError as error:
            raise VllmError(f"Cannot remove the watchdog: {error}.", "backend-failed") from None
    for path in (machine.program, machine.config, *([os.path.join(textfile, publish.METRICS)] if textfile else [])):
        if os.path.lexists(path):
            os.unlink(path)
            with contextlib.suppress(OSError):
                # Node exporter's directory holds more, and is somebody else's.
                if path in (machine.program, machine.config):
                    os.rmdir(os.path.dirname(path))
    shutil.rmtree(machine.directory, ignore_errors=True)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(machine.directory))


# --- the result -------------------------------------------------------------------------------------------------------


def _result(actions: list[str], diff: list[dict[str, str]], machine: Machine) -> dict[str, t.Any]:
    known = publish.load(os.path.join(machine.directory, publish.STATE))
    seen = {key: known.get(key) for key in ("updated", "paused_until", "servers")} if known else None
    return {"changed": bool(actions), "actions": actions, "diff": diff, "watchdog": seen, "message": _message(known)}


def _message(known: t.Mapping[str, t.Any]) -> str:
    servers = list((known.get("servers") or {}).values())
    if not servers:
        return "The watchdog watches every server of this collection on this host; it has seen none yet."
    return "The watchdog watches " + ", ".join(f"{one['name']} ({one['status']})" for one in servers) + "."
