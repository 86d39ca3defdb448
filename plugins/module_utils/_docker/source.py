# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Process, log and secrets of a container: what an engine says of it, over its socket or through the SDK."""

from __future__ import annotations

import datetime
import json
import os
import re
import typing as t
import urllib.parse

from .._errors import Reason, VllmError
from .._health.logfile import NEWS_LINES, TAIL_BYTES, TAIL_LINES
from .._host.http import HttpError, Server
from .._host.processes import ProcessState, process_started

SOCKET = "unix:///var/run/docker.sock"
# Seconds for one answer; bytes of a log, read whole before its end is taken.
TIMEOUT = 60.0
LOG_LIMIT = 32 * 1024 * 1024

Inspected = dict[str, t.Any]


# ---------------------------------------------------------------------------------------------------------------------
# What an engine is asked
# ---------------------------------------------------------------------------------------------------------------------


class Engine(t.Protocol):
    """What is asked of an engine. What it refuses is a VllmError."""

    # Whether its containers are processes of this host.
    is_local: bool

    def inspect(self, name: str) -> Inspected:
        """One container, as C(docker inspect) prints it."""

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        """The last lines of its log, each with its time in front."""

    def version(self) -> str:
        """The version of the engine."""


def engine_at(docker_host: str | None) -> Engine:
    """The engine at that address, else at E(DOCKER_HOST), else at the local socket.

    A socket is read as it is; only addresses of other kinds need the SDK.
    """
    address = docker_host or os.environ.get("DOCKER_HOST") or SOCKET
    return SocketEngine(address[len("unix://") :]) if address.startswith("unix://") else SdkEngine(docker_host)


class SocketEngine:
    """The Engine API over a Unix socket."""

    is_local = True

    def __init__(self, path: str) -> None:
        self.path = path

    def inspect(self, name: str) -> Inspected:
        found = self._get(f"look at container {name}", f"/containers/{_quoted(name)}/json")
        return t.cast("Inspected", json.loads(found))

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        query = f"stdout=1&stderr=1&timestamps=1&tail={lines}"
        raw = self._get(f"read the log of {name}", f"/containers/{_quoted(name)}/logs?{query}", LOG_LIMIT)
        return raw if tty else demultiplexed(raw)

    def version(self) -> str:
        found = json.loads(self._get("ask the Docker Engine for its version", "/version"))
        return str(found.get("Version") or "")

    def _get(self, attempt: str, path: str, limit: int = LOG_LIMIT) -> bytes:
        try:
            answer = Server(uds=self.path).request("GET", path, timeout=TIMEOUT, limit=limit)
            if answer.status == 200:
                return answer.body
            said = answer.json()
        except HttpError as error:
            raise _unanswered(attempt, self.path, error) from None
        message = said.get("message") if isinstance(said, dict) else None
        reason: Reason = "server-missing" if answer.status == 404 else "backend-failed"
        raise VllmError(_refused(attempt, str(message or f"HTTP {answer.status}")), reason)


def _quoted(name: str) -> str:
    return urllib.parse.quote(name, safe="")


def _refused(attempt: str, said: str) -> str:
    from .client import explain

    remedy = explain(said)
    return f"Cannot {attempt}. Docker says: {said.rstrip('.')}. {remedy[:1].upper() + remedy[1:]}".strip()


def _unanswered(attempt: str, path: str, error: HttpError) -> VllmError:
    from .client import unreachable

    if error.kind in ("closed", "cut", "timeout", "too-large", "no-http", "no-json"):
        return VllmError(_refused(attempt, str(error)), "backend-failed")
    names = {"missing": "FileNotFoundError", "refused": "ConnectionRefusedError", "permission": "PermissionError"}
    reason: Reason = "permission-denied" if error.kind == "permission" else "backend-unavailable"
    return VllmError(unreachable(f"unix://{path}", f"{names.get(error.kind, '')} {error}".strip()), reason)


def demultiplexed(raw: bytes) -> bytes:
    """The log of a container without a terminal: each piece has its stream and its length in front, in 8 bytes."""
    pieces, at = [], 0
    while at + 8 <= len(raw):
        length = int.from_bytes(raw[at + 4 : at + 8], "big")
        pieces.append(raw[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(pieces)


class SdkEngine:
    """The same through the Docker SDK, which knows C(ssh://) and TLS."""

    is_local = False

    def __init__(self, docker_host: str | None) -> None:
        from .client import connect

        self.client = connect(docker_host)

    def inspect(self, name: str) -> Inspected:
        found = self._ask(f"look at container {name}", lambda: self.client.inspect_container(name))
        return t.cast("Inspected", found)

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        def read() -> bytes:
            return bytes(self.client.logs(name, tail=lines, stdout=True, stderr=True, timestamps=True))

        return t.cast(bytes, self._ask(f"read the log of {name}", read))

    def version(self) -> str:
        found = self._ask("ask the Docker Engine for its version", self.client.version)
        return str(found.get("Version") or "")

    def _ask(self, attempt: str, ask: t.Callable[[], t.Any]) -> t.Any:
        from .client import engine_failures, sentence

        try:
            return ask()
        except engine_failures() as error:
            missing = getattr(getattr(error, "response", None), "status_code", None) == 404
            raise VllmError(sentence(attempt, error), "server-missing" if missing else "backend-failed") from None


# ---------------------------------------------------------------------------------------------------------------------
# What its answers mean
# ---------------------------------------------------------------------------------------------------------------------


class ContainerSource:
    """A container."""

    def __init__(self, name: str, engine: Engine) -> None:
        self.name, self.engine = name, engine
        self.seen: Moment = ("", "")
        self.tty: bool | None = None

    def inspected(self) -> Inspected:
        """What the engine says of it now."""
        found = self.engine.inspect(self.name)
        self.tty = bool((found.get("Config") or {}).get("Tty"))
        return found

    def state(self) -> ProcessState:
        return container_state(self.name, self.inspected(), datetime.datetime.now(datetime.timezone.utc))

    def tail(self) -> str:
        return without_stamps(self._logs(TAIL_LINES))

    def news(self) -> str:
        """What was written since the last call: the engine stamps each line."""
        # Not splitlines: a progress bar has carriage returns, and is one line.
        lines = self._logs(NEWS_LINES if self.seen[0] else TAIL_LINES).split("\n")
        fresh = [(at, line) for at, line in ((moment(line), line) for line in lines) if at and at > self.seen]
        if fresh:
            self.seen = fresh[-1][0]
        return "".join(f"{line}\n" for _at, line in fresh)

    def _logs(self, lines: int) -> str:
        try:
            tty = bool(self.inspected() and self.tty) if self.tty is None else self.tty
            raw = self.engine.logs(self.name, lines, tty)
        except VllmError as error:
            return f"{error}\n"
        return raw[-TAIL_BYTES:].decode("utf-8", errors="replace")

    def root_pid(self) -> int | None:
        """The container's first process, as long as it is this host's process of that number."""
        state = self.inspected()["State"]
        pid = int(state.get("Pid") or 0) if self.engine.is_local else 0
        started, seen = _epoch(str(state.get("StartedAt") or "")), process_started(pid) if pid else None
        return pid if started is not None and seen is not None and abs(seen - started) < 5 else None

    def about(self) -> dict[str, t.Any]:
        """What the container was made from, and the secrets in its files, to be taken out of all that is shown."""
        from .._deploy.record import LABEL_SPEC
        from .._host.redaction import redact_value

        inspected = self.inspected()
        config = inspected["Config"]
        spec = _json(config["Labels"].get(LABEL_SPEC)) if config.get("Labels") else None
        secrets = mounted_secrets(inspected)
        environment = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
        return {
            "spec": redact_value(spec, secrets),
            "image": config.get("Image"),
            "image_id": inspected.get("Image"),
            "command": redact_value([*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())], secrets),
            "environment": redact_value(environment, secrets),
            "secrets": secrets,
        }

    def versions(self) -> dict[str, str]:
        try:
            return {"docker": self.engine.version()}
        except VllmError:
            return {}


# What an engine puts in front of each line: a time to the nanosecond or less precise, in UTC or with its offset.
STAMP = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ", re.MULTILINE)
# Second and fraction; they compare as text.
Moment = tuple[str, str]


def moment(line: str) -> Moment | None:
    """When a line was written, by its stamp."""
    match = STAMP.match(line)
    if not match:
        return None
    second, fraction, zone = match.groups()
    if zone != "Z":
        second = datetime.datetime.fromisoformat(second + zone).astimezone(datetime.timezone.utc).isoformat()[:19]
    return second, (fraction or "").ljust(9, "0")


def without_stamps(text: str) -> str:
    """A log as the server wrote it."""
    return STAMP.sub("", text)


def container_state(name: str, inspected: t.Mapping[str, t.Any], now: datetime.datetime) -> ProcessState:
    """The process in a container, from what C(docker inspect) prints.

    A container that was never started has status 0 and no end.
    """
    state = inspected["State"]
    running = bool(state.get("Running")) and not state.get("Restarting")
    error, started = str(state.get("Error") or ""), str(state.get("StartedAt") or "")
    ended = not running and (state.get("Status") != "created" or bool(error))
    return ProcessState(
        running=running,
        exit_status=state.get("ExitCode") if ended else None,
        oom_killed=bool(state.get("OOMKilled")),
        error=error,
        error_remedy=_remedy(error) if error else "",
        restarts=int(inspected.get("RestartCount") or 0),
        name=f"Container {name}",
        started_at=started,
        age=_age(started, now) if running else 0.0,
    )


def _remedy(error: str) -> str:
    from .client import explain

    remedy = explain(error)
    return remedy[:1].upper() + remedy[1:]


def _age(started_at: str, now: datetime.datetime) -> float:
    started = _epoch(started_at)
    return 0.0 if started is None else max(0.0, now.timestamp() - started)


def _epoch(started_at: str) -> float | None:
    match = re.match(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?([+-]\d\d:\d\d)?", started_at)
    return (
        datetime.datetime.fromisoformat(f"{match.group(1)}{match.group(2) or '+00:00'}").timestamp() if match else None
    )


def mounted_secrets(inspected: t.Mapping[str, t.Any]) -> list[str]:
    """The secrets in the files that a container was given, to be looked for in what is shown."""
    from .._host.redaction import read_secrets

    binds = [str(bind).split(":") for bind in (inspected.get("HostConfig") or {}).get("Binds") or ()]
    paths = [bind[0] for bind in binds if len(bind) > 1 and bind[1].startswith("/run/secrets/")]
    return [secret for path in paths for secret in read_secrets(path)]


def _json(text: str | None) -> t.Any:
    try:
        return json.loads(text or "null")
    except ValueError:
        return None
