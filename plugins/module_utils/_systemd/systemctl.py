# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How systemd is asked and told: systemctl, journalctl, unit files and system users; and what its errors mean."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import subprocess
import time
import typing as t

from .._errors import VllmError
from .._host import boot, files, ports
from .words import JOURNALCTL, entries

# Where units of an administrator are, and of packages; the first one is where ours are.
DIRECTORY = "/etc/systemd/system"
ELSEWHERE = ("/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
SUFFIX = ".service"
PROPERTIES = (
    *("Id", "LoadState", "ActiveState", "SubState", "Result", "NeedDaemonReload", "ControlGroup", "InvocationID"),
    "NRestarts",
    *("ExecMainStartTimestampMonotonic", "ActiveExitTimestampMonotonic", "InactiveExitTimestampMonotonic"),
)
# From which release on it hands credentials over.
LOADS_CREDENTIALS = 247
# Seconds for an answer of systemctl that waits for nothing.
ANSWER = 60.0
# Seconds that processes may take to be gone after systemd has killed them.
KILLED = 10.0
# Where control groups are, with the unified hierarchy and before.
MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd")
UNIT_OF = re.compile(r"/([^/\n]+)\.service(?:/|$)", re.MULTILINE)


# Whoever does not exist yet.
NOBODY = 65534


class Place(t.NamedTuple):
    """What a user has to read: a path below another one that is bound into the unit, over an empty home or in place."""

    root: str
    below: str = ""
    is_bound: bool = False

    @property
    def path(self) -> str:
        return os.path.join(self.root, self.below) if self.below else self.root


class SystemdError(Exception):
    """A step that systemd refused, with what it said."""


class Host:
    """This host's systemd. Names of units are those without C(.service)."""

    directory = DIRECTORY
    elsewhere = ELSEWHERE
    shared_memory = "/dev/shm"

    # --- looking ------------------------------------------------------------------------------------------------------

    def version(self) -> int:
        """The number of the release, 0 when it cannot be read."""
        found = re.match(r"systemd (\d+)", self._run(["systemctl", "--version"]))
        return int(found[1]) if found else 0

    def loads_credentials(self) -> bool:
        """Whether it hands credentials over: it can, and its mounts reach the services, unlike those of a container."""
        return self.version() >= LOADS_CREDENTIALS and _is_shared(files.read_text("/proc/1/mountinfo"), "/run")

    def texts(self, prefix: str = "") -> dict[str, str]:
        """The unit files in the directory where ours are, by name; a link to somewhere else counts as empty."""
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for entry in os.scandir(self.directory):
                if entry.name.startswith(prefix) and entry.name.endswith(SUFFIX):
                    is_file = entry.is_file(follow_symlinks=False)
                    found[entry.name[: -len(SUFFIX)]] = files.read_text(entry.path) if is_file else ""
        return found

    def is_elsewhere(self, name: str) -> bool:
        """Whether a package or somebody at run time brought a unit of that name."""
        return any(os.path.lexists(os.path.join(place, name + SUFFIX)) for place in self.elsewhere)

    def is_enabled(self, name: str) -> bool:
        """Whether it is started at boot: what C(systemctl enable) makes of a unit of ours."""
        return os.path.lexists(os.path.join(self.directory, f"{boot.TARGET}.wants", name + SUFFIX))

    def show(self, names: t.Iterable[str]) -> dict[str, dict[str, str]]:
        """What systemd shows of units, by name."""
        units = [name + SUFFIX for name in names]
        if not units:
            return {}
        text = self._run(["systemctl", "show", "--no-pager", f"--property={','.join(PROPERTIES)}", "--", *units])
        blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in text.split("\n\n")]
        return {unit[: -len(SUFFIX)]: block for unit, block in zip(units, blocks)}

    def journal(self, name: str, invocation: str, lines: int) -> str:
        """The end of what one start of a unit has logged; of all its starts when that one is not known."""
        match = [f"_SYSTEMD_INVOCATION_ID={invocation}"] if invocation else [f"--unit={name}{SUFFIX}"]
        return entries(self._run([*JOURNALCTL, f"--lines={lines}", *match]))

    def listening(self, port: int, bind: str) -> str | None:
        """The unit whose process listens there."""
        owner = ports.port_owner(port, bind)
        found = UNIT_OF.findall(files.read_text(f"/proc/{owner.pid}/cgroup")) if owner and owner.pid else []
        return found[-1] if found else None

    # --- acting -------------------------------------------------------------------------------------------------------

    def install(self, name: str, text: str) -> None:
        """Write a unit, which systemd reads when it is first asked for it."""
        files.write_whole(self._path(name), text.encode("utf-8", errors="surrogateescape"), mode=0o644, durable=True)

    def rename(self, name: str, to: str) -> None:
        """Give the file of a unit another name."""
        os.rename(self._path(name), self._path(to))

    def remove(self, name: str) -> None:
        """Delete the file of a unit, if it is there, and what systemd remembers of it."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path(name))
        self.reset(name)

    def reset(self, name: str) -> None:
        """Have systemd forget that a unit failed: until then it remembers one that is gone, and refuses starts."""
        with contextlib.suppress(SystemdError):
            self._run(["systemctl", "reset-failed", "--", name + SUFFIX])

    def reload(self) -> None:
        """Have systemd read all units again."""
        self._run(["systemctl", "daemon-reload"])

    def start(self, name: str, timeout: float | None) -> None:
        """Start it, and return once it runs, or for a unit that runs once, when it ended well."""
        self.reset(name)
        self._run(["systemctl", "start", "--", name + SUFFIX], timeout)

    def stop(self, name: str, timeout: float) -> None:
        """Stop it, and return when it has ended. C(timeout) is in seconds."""
        self._run(["systemctl", "stop", "--", name + SUFFIX], timeout)

    def begin_stop(self, name: str) -> None:
        """Have it stop, without a wait for that."""
        self._run(["systemctl", "stop", "--no-block", "--", name + SUFFIX])

    def kill(self, name: str) -> None:
        """Kill all of its processes; whether it is started again is up to who stops it."""
        self._run(["systemctl", "kill", "--signal=SIGKILL", "--", name + SUFFIX])

    def enable(self, name: str) -> None:
        """Have it started at boot."""
        self._run(boot.command("enable", name + SUFFIX))

    def disable(self, name: str) -> None:
        """Do not have it started at boot any more."""
        self._run(boot.command("disable", name + SUFFIX))

    def left_in(self, control_group: str) -> list[int]:
        """The processes in a control group, once those that were killed had time to go."""
        deadline = time.monotonic() + KILLED
        while True:
            found = _processes(control_group)
            if not found or time.monotonic() >= deadline:
                return found
            time.sleep(0.2)

    # --- users --------------------------------------------------------------------------------------------------------

    def uid(self, user: str) -> int | None:
        """The number of a user; None where there is no such user."""
        try:
            return pwd.getpwnam(user).pw_uid
        except KeyError:
            return None

    def owner(self, user: str) -> tuple[int, int]:
        """The numbers of a user and of his group."""
        found = pwd.getpwnam(user)
        return found.pw_uid, found.pw_gid

    def add_user(self, user: str) -> None:
        """A system user without login, password and home."""
        home = ["--no-create-home", "--home-dir", "/nonexistent"]
        shell = next((one for one in ("/usr/sbin/nologin", "/sbin/nologin") if os.path.exists(one)), "/bin/false")
        self._run(["useradd", "--system", "--user-group", *home, "--shell", shell, user])

    def remove_user(self, user: str) -> None:
        uid = self.uid(user)
        self._run(["userdel", user])
        # What servers that were killed left; the next user of that number would have it.
        with contextlib.suppress(OSError), os.scandir(self.shared_memory) as entries:
            for one in entries:
                if one.stat(follow_symlinks=False).st_uid == uid:
                    os.unlink(one.path)

    def unreadable(self, user: str, wanted: t.Sequence[Place]) -> list[str]:
        """The paths among these that a user could not read; one who does not exist yet is in no group."""
        return _unreadable(user, self.uid(user), wanted)

    def unavailable(self) -> str:
        """Why nothing can be done here; empty when it can."""
        if not os.path.isdir("/run/systemd/system"):
            return "This host is not run by systemd. Run the server as a container there (vllm_container)."
        if os.geteuid():
            return "Only root can make units. Run with become: true."
        return ""

    def _path(self, name: str) -> str:
        return os.path.join(self.directory, name + SUFFIX)

    def _run(self, command: list[str], timeout: float | None = ANSWER) -> str:
        told = " ".join(word for word in command if not word.startswith("--property="))
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                check=False,
                timeout=timeout,
                env=environment,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise SystemdError(f"{told} did not end within {timeout:g} s") from None
        except OSError as error:
            raise VllmError(
                f"Cannot run {command[0]}: {error.strerror}. Is this host run by systemd?", "backend-unavailable"
            ) from None
        if done.returncode:
            said = (done.stderr or done.stdout).decode("utf-8", errors="replace")
            raise SystemdError(f"{told} ended with status {done.returncode}: {_one_line(said)}")
        return done.stdout.decode("utf-8", errors="replace")


def _one_line(text: str) -> str:
    return " ".join(text.split())[:1000] or "it said nothing"


def _is_shared(mountinfo: str, path: str) -> bool:
    """Whether what is mounted below a path is seen in the namespaces of services too."""
    fields = [line.split(" ") for line in mountinfo.splitlines() if line.count(" ") > 6]
    over = [one for one in fields if path == one[4] or path.startswith(one[4].rstrip("/") + "/")]
    innermost = max(over, key=lambda one: len(one[4]), default=None)
    return innermost is not None and any(one.startswith("shared:") for one in innermost[6 : innermost.index("-")])


def _processes(control_group: str) -> list[int]:
    """The processes in a control group and those below it, wherever the hierarchy is mounted."""
    found: set[int] = set()
    for mount in MOUNTS:
        place = mount + control_group
        if not control_group.strip("/") or not os.path.isdir(place):
            continue
        for directory, _names, names in os.walk(place):
            if "cgroup.procs" in names:
                found |= {int(one) for one in files.read_text(os.path.join(directory, "cgroup.procs")).split()}
    return sorted(found)


def _unreadable(user: str, uid: int | None, wanted: t.Sequence[Place]) -> list[str]:
    """Asked in a process that is that user: modes, groups and access lists count as they will."""
    # Opened by root: what is bound over an empty home can be reached whatever the modes above it are.
    opened = [os.open(place.root, os.O_PATH | os.O_CLOEXEC) if place.is_bound else None for place in wanted]
    receiver, sender = os.pipe()
    child = os.fork()
    if not child:
        try:
            _become(user, uid)
            bad = [i for i, (place, fd) in enumerate(zip(wanted, opened)) if not _can_read(place, fd)]
            os.write(sender, (",".join(map(str, bad)) + ".").encode())
        finally:
            os._exit(0)
    os.close(sender)
    with os.fdopen(receiver, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    for descriptor in filter(None, opened):
        os.close(descriptor)
    # A child that could not become that user says nothing.
    numbers = said[:-1].split(",") if said.endswith(".") else map(str, range(len(wanted)))
    return [wanted[int(number)].path for number in numbers if number]


def _become(user: str, uid: int | None) -> None:
    group = pwd.getpwuid(uid).pw_gid if uid is not None else NOBODY
    if uid is None:
        os.setgroups([])
    else:
        os.initgroups(user, group)
    os.setgid(group)
    os.setuid(NOBODY if uid is None else uid)


def _can_read(place: Place, opened: int | None) -> bool:
    start = place.root if opened is None else f"/proc/self/fd/{opened}"
    path = os.path.join(start, place.below) if place.below else start
    return os.access(path, os.R_OK | (os.X_OK if os.path.isdir(path) else 0))
