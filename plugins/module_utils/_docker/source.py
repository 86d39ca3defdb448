# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Process, log and secrets of a container, from what its engine says of it."""

from __future__ import annotations

import datetime
import json
import re
import typing as t

from .._errors import VllmError
from .._health.logfile import NEWS_LINES, TAIL_BYTES, TAIL_LINES, port_among
from .._host.processes import ProcessState, container_of, process_started
from .client import explain, failures, says_podman, sentence
from .reader import Inspected, Reader
from .stamps import moment, since, without_stamps

Answer = t.TypeVar("Answer")


class ContainerSource:
    """A container, as C(Source) describes its methods."""

    def __init__(self, name: str, engine: Reader) -> None:
        self.name, self.engine = name, engine
        # The lines of the last look, by which the next one finds what is new.
        self.seen: list[str] | None = None
        self.tty: bool | None = None

    def _ask(self, attempt: str, ask: t.Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except failures() as error:
            is_podman = says_podman(self.engine.identity)
            raise VllmError(sentence(attempt, error, is_podman), "backend-failed") from None

    def inspected(self) -> Inspected:
        """What the engine says of it now."""
        attempt = f"look at container {self.name}"
        found = self._ask(attempt, lambda: self.engine.container(self.name))
        if found is None:
            says = "Podman" if says_podman(self.engine.identity) else "Docker"
            raise VllmError(f"Cannot {attempt}. {says} says: No such container: {self.name}.", "server-missing")
        self.tty = bool((found.get("Config") or {}).get("Tty"))
        return found

    def state(self) -> ProcessState:
        return container_state(self.name, self.inspected(), datetime.datetime.now(datetime.timezone.utc))

    def tail(self) -> str:
        return without_stamps(self._logs(TAIL_LINES))

    def life(self) -> str:
        started = str(self.inspected()["State"].get("StartedAt") or "")
        return since(self._logs(TAIL_LINES), started)[0]

    def news(self) -> str:
        """What was written since the last call: the engine stamps each line."""
        # Not splitlines: a progress bar has carriage returns, and is one line.
        lines = self._logs(NEWS_LINES if self.seen else TAIL_LINES).split("\n")
        stamped = [line for line in lines if moment(line)]
        fresh = stamped[overlap(self.seen or [], stamped) :]
        # A look that fails sees nothing.
        self.seen = stamped[-NEWS_LINES:] or self.seen
        return "".join(f"{line}\n" for line in fresh)

    def _logs(self, lines: int) -> str:
        try:
            tty = bool(self.inspected() and self.tty) if self.tty is None else self.tty
            raw = self._ask(f"read the log of {self.name}", lambda: self.engine.logs(self.name, lines, tty))
        except VllmError as error:
            return f"{error}\n"
        return raw[-TAIL_BYTES:].decode("utf-8", errors="replace")

    def root_pid(self) -> int | None:
        """The container's first process, as long as it is this host's process of that number."""
        inspected = self.inspected()
        state, pid = inspected["State"], int(inspected["State"].get("Pid") or 0)
        container = container_of(pid) if pid else None
        if container and inspected.get("Id"):
            return pid if container == inspected["Id"] else None
        # Where its control group does not tell; a clock that was set in between makes two times of one.
        started, seen = _epoch(str(state.get("StartedAt") or "")), process_started(pid) if pid else None
        return pid if started is not None and seen is not None and abs(seen - started) < 5 else None

    def host_port(self) -> int | None:
        inspected = self.inspected()
        is_hosts = (inspected.get("HostConfig") or {}).get("NetworkMode") == "host"
        return port_among(inspected["Config"].get("Cmd") or ()) if is_hosts else None

    def about(self) -> dict[str, t.Any]:
        """What the container was made from, and the secrets in its files, to be taken out of all that is shown."""
        from .._host.labels import LABEL_SPEC
        from .._host.redaction import redact_value, secrets_among

        inspected = self.inspected()
        config = inspected["Config"]
        spec = _json(config["Labels"].get(LABEL_SPEC)) if config.get("Labels") else None
        environment = dict(entry.partition("=")[::2] for entry in config.get("Env") or ())
        words = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
        secrets = [*_mounted_secrets(inspected), *secrets_among(environment, words)]
        return {
            "spec": redact_value(spec, secrets),
            "image": config.get("Image"),
            "image_id": inspected.get("Image"),
            "command": redact_value(words, secrets),
            "environment": redact_value(environment, secrets),
            "secrets": secrets,
        }

    def versions(self) -> dict[str, str]:
        try:
            version = self._ask("ask the engine for its version", self.engine.version)
            return {"podman" if says_podman(self.engine.identity) else "docker": version}
        except VllmError:
            return {}


def overlap(before: list[str], now: list[str]) -> int:
    """How many lines of the end of a log were its end before.

    By the lines themselves: stamps may be of whole seconds, the same for many lines, and go back with the clock.
    """
    for start in range(len(before)):
        count = len(before) - start
        if now[:1] == before[start : start + 1] and now[:count] == before[start:]:
            return count
    return 0


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


def _mounted_secrets(inspected: t.Mapping[str, t.Any]) -> list[str]:
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
