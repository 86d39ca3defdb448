# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the state and the log of a server come from: a container, a systemd unit or a file.

The three answer the same questions: what the process is doing (process, state), what it wrote (tail, news) and what
it is (facts). What they read is bounded, however long a server has been writing. What a log takes to be understood and
shown is loaded by those who read one: whoever only asks whether the process runs does without.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import time
import typing as t
from dataclasses import dataclass, field, replace

from .._docker.client import connect, explain, failures, sentence
from .._errors import VllmError
from .wait import Process

if t.TYPE_CHECKING:
    from .._vllm.diagnosis import State

# A log is read from its end; what a failing start writes is far less.
TAIL_BYTES = 4 * 1024 * 1024
# Lines of a log that are read for a diagnosis, and between two looks at it.
TAIL_LINES = 4000
NEWS_LINES = 400
# rc, stdout, stderr of a command: AnsibleModule.run_command.
RunCommand = t.Callable[..., tuple[int, str, str]]


class Source(t.Protocol):
    """A server, seen from outside."""

    name: str

    def process(self) -> Process | None: ...

    def state(self) -> State: ...

    def tail(self) -> str: ...

    def news(self) -> str: ...

    def root_pid(self) -> int | None: ...

    def about(self) -> dict[str, t.Any]: ...


def open_source(params: t.Mapping[str, t.Any], run_command: RunCommand) -> Source | None:
    """The source that the parameters name; None when they name none."""
    if params.get("container"):
        return ContainerSource(str(params["container"]), params.get("docker_host"))
    if params.get("unit"):
        return UnitSource(str(params["unit"]), run_command)
    return FileSource(str(params["path"])) if params.get("path") else None


# ---------------------------------------------------------------------------------------------------------------------
# A container
# ---------------------------------------------------------------------------------------------------------------------


class ContainerSource:
    def __init__(self, name: str, docker_host: str | None = None) -> None:
        self.name = name
        self.client = connect(docker_host)
        self.is_local = not docker_host or docker_host.startswith("unix://")
        self.seen = ""

    def inspected(self) -> dict[str, t.Any]:
        try:
            return t.cast("dict[str, t.Any]", self.client.inspect_container(self.name))
        except failures() as error:
            raise VllmError(sentence(f"look at container {self.name}", error)) from None

    def process(self) -> Process:
        return container_process(self.name, self.inspected(), datetime.datetime.now(datetime.timezone.utc))

    def state(self) -> State:
        return container_state(self.name, self.inspected())

    def tail(self) -> str:
        return without_stamps(self._logs(TAIL_LINES))

    def news(self) -> str:
        """What was written since the last call. Docker stamps each line, and the stamps sort as text."""
        # Not splitlines: a progress bar has carriage returns, and is one line.
        lines = self._logs(NEWS_LINES if self.seen else TAIL_LINES).split("\n")
        fresh = [line for line in lines if DOCKER_STAMP.match(line) and line[:30] > self.seen]
        if fresh:
            self.seen = fresh[-1][:30]
        return "".join(f"{line}\n" for line in fresh)

    def _logs(self, lines: int) -> str:
        try:
            raw = self.client.logs(self.name, tail=lines, stdout=True, stderr=True, timestamps=True)
        except failures() as error:
            return f"{sentence(f'read the log of {self.name}', error)}\n"
        return str(raw[-TAIL_BYTES:].decode("utf-8", errors="replace"))

    def root_pid(self) -> int | None:
        """The container's first process, as long as it is this host's process of that number."""
        state = self.inspected()["State"]
        pid = int(state.get("Pid") or 0) if self.is_local else 0
        started, seen = _epoch(str(state.get("StartedAt") or "")), process_started(pid) if pid else None
        return pid if started is not None and seen is not None and abs(seen - started) < 5 else None

    def engine_version(self) -> str:
        try:
            return str(self.client.version().get("Version") or "")
        except failures() as error:
            raise VllmError(sentence("ask the Docker Engine for its version", error)) from None

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


# What Docker puts in front of each line with timestamps: nine digits of a second, so that stamps compare as text.
DOCKER_STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z ", re.MULTILINE)


def without_stamps(text: str) -> str:
    return DOCKER_STAMP.sub("", text)


def container_process(name: str, inspected: t.Mapping[str, t.Any], now: datetime.datetime) -> Process:
    """The state of a container, from what C(docker inspect) prints, as the state of the process in it."""
    state = inspected["State"]
    running = bool(state.get("Running")) and not state.get("Restarting")
    return Process(
        running=running,
        name=f"Container {name}",
        exit_status=None if running else state.get("ExitCode"),
        started_at=str(state.get("StartedAt") or ""),
        restarts=int(inspected.get("RestartCount") or 0),
        age=_age(str(state.get("StartedAt") or ""), now) if running else 0.0,
    )


def container_state(name: str, inspected: t.Mapping[str, t.Any]) -> State:
    """The same for a diagnosis. A container that was never started has status 0 and no end."""
    from .._vllm.diagnosis import State

    state = inspected["State"]
    running = bool(state.get("Running")) and not state.get("Restarting")
    error = str(state.get("Error") or "")
    status = None if running or state.get("Status") == "created" and not error else state.get("ExitCode")
    return State(
        running=running,
        exit_status=status,
        oom_killed=bool(state.get("OOMKilled")),
        error=error,
        error_remedy=_capitalized(explain(error)) if error else "",
        restarts=int(inspected.get("RestartCount") or 0),
        name=f"Container {name}",
    )


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _age(started_at: str, now: datetime.datetime) -> float:
    started = _epoch(started_at)
    return 0.0 if started is None else max(0.0, now.timestamp() - started)


def _epoch(started_at: str) -> float | None:
    match = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", started_at)
    if not match:
        return None
    started = datetime.datetime.strptime(match.group(), "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    return started.timestamp()


def mounted_secrets(inspected: t.Mapping[str, t.Any]) -> list[str]:
    """The secrets in the files that a container was given, to be looked for in what is shown."""
    binds = [str(bind).split(":") for bind in (inspected.get("HostConfig") or {}).get("Binds") or ()]
    paths = [bind[0] for bind in binds if len(bind) > 1 and bind[1].startswith("/run/secrets/")]
    return [secret for path in paths for secret in read_secrets(path)]


def read_secrets(path: str) -> list[str]:
    """What is in a secret file; a file that may not be read shows nothing that could be hidden."""
    from .._host.redaction import secrets_in

    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return secrets_in(stream.read(65536))
    except OSError:
        return []


def _json(text: str | None) -> t.Any:
    try:
        return json.loads(text or "null")
    except ValueError:
        return None


# ---------------------------------------------------------------------------------------------------------------------
# A systemd unit
# ---------------------------------------------------------------------------------------------------------------------

UNIT_PROPERTIES = (
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
UNIT_RESULTS = {
    "start-limit-hit": "systemd stopped restarting it: it failed too often (systemctl reset-failed lets it start "
    "again)",
    "timeout": "systemd stopped it: it took longer than TimeoutStartSec",
    "watchdog": "systemd stopped it: its watchdog got no sign of life",
    "resources": "systemd could not prepare it: a directory, a user or a limit in the unit is missing or refused",
    "exec-condition": "a condition in the unit is not met",
}
CURSOR = "-- cursor: "


class UnitSource:
    def __init__(self, name: str, run_command: RunCommand) -> None:
        self.name = name if "." in name else f"{name}.service"
        self.run_command = run_command
        self.cursor = ""
        # Seconds between two looks: each costs the start of a program.
        self.interval = 0.5
        self.looked, self.read = -1e9, -1e9
        self.properties: dict[str, str] = {}

    def shown(self) -> dict[str, str]:
        if time.monotonic() - self.looked >= self.interval:
            self.properties, self.looked = self._show(), time.monotonic()
        return self.properties

    def _show(self) -> dict[str, str]:
        command = ["systemctl", "show", self.name, "--no-pager", f"--property={','.join(UNIT_PROPERTIES)}"]
        shown = dict(line.partition("=")[::2] for line in self._run(command).splitlines() if "=" in line)
        if shown.get("LoadState", "not-found") in ("not-found", ""):
            raise VllmError(
                f"There is no systemd unit {self.name} on this host. Check the name with 'systemctl list-units'."
            )
        return shown

    def _run(self, command: list[str]) -> str:
        try:
            status, out, err = self.run_command(command, handle_exceptions=False)
        except OSError as error:
            raise VllmError(f"Cannot run {command[0]}: {error}. Is this host run by systemd?") from None
        if status != 0:
            raise VllmError(f"{' '.join(command)} failed with status {status}: {err.strip() or out.strip()}.")
        return str(out)

    def process(self) -> Process:
        return unit_process(self.name, self.shown(), time.monotonic())

    def state(self) -> State:
        return unit_state(self.name, self.shown())

    def tail(self) -> str:
        # This start alone: an earlier one may have had other settings.
        lines = self._journal([f"--lines={TAIL_LINES}", *self._invocation()])
        return lines if lines.strip() else self._journal([f"--lines={TAIL_LINES}"])

    def news(self) -> str:
        if time.monotonic() - self.read < self.interval:
            return ""
        self.read = time.monotonic()
        since = [f"--after-cursor={self.cursor}"] if self.cursor else [f"--lines={TAIL_LINES}", *self._invocation()]
        text = self._journal([*since, "--show-cursor"])
        head, mark, tail = text.rpartition(CURSOR)
        if not mark:
            return "" if text.startswith("-- No entries") else text
        self.cursor = tail.strip()
        return head

    def _invocation(self) -> list[str]:
        identifier = self.shown().get("InvocationID")
        return [f"_SYSTEMD_INVOCATION_ID={identifier}"] if identifier else []

    def _journal(self, arguments: list[str]) -> str:
        matches = [a for a in arguments if a.startswith("_")]
        options = [a for a in arguments if not a.startswith("_")]
        unit = [] if matches else [f"--unit={self.name}"]
        return self._run(["journalctl", "--no-pager", "--all", "--output=cat", *unit, *options, *matches])[-TAIL_BYTES:]

    def root_pid(self) -> int | None:
        return int(self.shown().get("MainPID") or 0) or None

    def about(self) -> dict[str, t.Any]:
        from .._host.redaction import redact_value

        fragment = self.shown().get("FragmentPath")
        text = self._run(["systemctl", "cat", self.name, "--no-pager"]) if fragment else ""
        files = re.findall(r"^EnvironmentFile=-?(\S+)|^LoadCredential=[^:\s]+:(\S+)", text, re.MULTILINE)
        secrets = [secret for pair in files for path in pair if path for secret in read_secrets(path)]
        return {"spec": None, "unit": redact_value(text, secrets), "secrets": secrets}


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def unit_process(name: str, shown: t.Mapping[str, str], monotonic: float) -> Process:
    """The state of a unit, from what C(systemctl show) prints."""
    state, started = unit_state(name, shown), _number(shown.get("ExecMainStartTimestampMonotonic")) / 1e6
    return Process(
        running=bool(state.running),
        name=f"Unit {name}",
        exit_status=state.exit_status,
        started_at=str(started),
        restarts=state.restarts,
        age=max(0.0, monotonic - started) if state.running and started else 0.0,
    )


def unit_state(name: str, shown: t.Mapping[str, str]) -> State:
    from .._vllm.diagnosis import State

    # With SubState auto-restart the unit counts as activating, and no process runs.
    running = shown.get("ActiveState") in ("active", "activating", "reloading") and _number(shown.get("MainPID")) > 0
    result = shown.get("Result", "")
    error = UNIT_RESULTS.get(result, "")
    return State(
        running=running,
        exit_status=None if running else unit_exit_status(shown),
        oom_killed=result == "oom-kill",
        error="" if running else error,
        restarts=_number(shown.get("NRestarts")),
        name=f"Unit {name}",
    )


def unit_exit_status(shown: t.Mapping[str, str]) -> int | None:
    """As a shell counts it: a process that a signal ended has 128 and the signal's number."""
    status, code = _number(shown.get("ExecMainStatus")), shown.get("ExecMainCode", "0")
    if code in ("2", "3", "killed", "dumped"):
        return 128 + status
    return status if code in ("1", "exited") else None


# ---------------------------------------------------------------------------------------------------------------------
# A file
# ---------------------------------------------------------------------------------------------------------------------


class FileSource:
    """A log file. Nothing is known of the process that wrote it."""

    def __init__(self, path: str) -> None:
        self.name = path
        self.position: int | None = None

    def process(self) -> Process | None:
        return None

    def state(self) -> State:
        from .._vllm.diagnosis import State

        return State()

    def tail(self) -> str:
        try:
            return read_tail(self.name)
        except OSError as error:
            raise VllmError(
                f"Cannot read the log {self.name}: {error.strerror or error}. Check path and its owner."
            ) from None

    def news(self) -> str:
        size = os.path.getsize(self.name) if os.path.exists(self.name) else 0
        start, self.position = self.position, size
        if start is None or start > size:
            return self.tail() if size else ""
        with open(self.name, "rb") as stream:
            stream.seek(max(start, size - TAIL_BYTES))
            return stream.read().decode("utf-8", errors="replace")

    def root_pid(self) -> int | None:
        return None

    def about(self) -> dict[str, t.Any]:
        return {"spec": None, "secrets": []}


def read_tail(path: str, limit: int = TAIL_BYTES) -> str:
    """The end of a file, whole lines, in bounded memory however large it is."""
    with open(path, "rb") as stream:
        size = stream.seek(0, 2)
        stream.seek(max(0, size - limit))
        raw = stream.read(limit)
    if size > limit:
        raw = raw[raw.find(b"\n") + 1 :]
    return raw.decode("utf-8", errors="replace")


# ---------------------------------------------------------------------------------------------------------------------
# Signs of life: the processes below a server's first one
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activity:
    """What the processes of a server have done so far, and which of them are stopped (state T)."""

    cpu_seconds: float = 0.0
    stopped: tuple[str, ...] = ()
    names: t.Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stat:
    pid: int
    name: str
    state: str
    parent: int
    ticks: int


def parse_stat(text: str) -> Stat | None:
    """One C(/proc/PID/stat). The name is in parentheses and may hold any character, these included."""
    head, _close, rest = text.rpartition(")")
    pid, _open, name = head.partition("(")
    words = rest.split()
    if len(words) < 13 or not pid.strip().isdigit():
        return None
    return Stat(int(pid), name, words[0], int(words[1]), int(words[11]) + int(words[12]))


def activity(stats: t.Iterable[Stat], root: int, ticks_per_second: int = 100) -> Activity:
    """The activity of a process and of everything below it."""
    by_parent: dict[int, list[Stat]] = {}
    family: list[Stat] = []
    for stat in stats:
        by_parent.setdefault(stat.parent, []).append(stat)
        if stat.pid == root:
            family.append(stat)
    for stat in family:
        family += by_parent.get(stat.pid, ())
    stopped = tuple(f"{stat.name} (PID {stat.pid})" for stat in family if stat.state == "T")
    return Activity(sum(s.ticks for s in family) / ticks_per_second, stopped, {s.pid: s.name for s in family})


def look_at(root: int | None, proc: str = "/proc") -> Activity | None:
    """The activity of a server on this host, or None when its process cannot be seen from here."""
    if root is None or not os.path.exists(f"{proc}/{root}/stat"):
        return None
    found = [parse_stat(_read(f"{proc}/{entry}/stat")) for entry in os.listdir(proc) if entry.isdigit()]
    return activity([stat for stat in found if stat], root, os.sysconf("SC_CLK_TCK"))


def process_started(pid: int, proc: str = "/proc") -> float | None:
    """When a process of this host began, as seconds since the epoch."""
    boot = re.search(r"^btime (\d+)", _read(f"{proc}/stat"), re.MULTILINE)
    words = _read(f"{proc}/{pid}/stat").rpartition(")")[2].split()
    if not boot or len(words) < 20:
        return None
    return int(boot.group(1)) + int(words[19]) / os.sysconf("SC_CLK_TCK")


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def with_activity(state: State, seen: Activity | None) -> State:
    return replace(state, stopped=seen.stopped) if seen and seen.stopped else state
