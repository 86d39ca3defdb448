# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time for each server of a host, whichever operator makes it.

The lock belongs to the process on the host, which usually outlives a controller that was killed, and ends with it.
Between two steps of one run, a wait in slices above all, no process is there to hold it: a lease of some seconds does.

Each operator locks a file in a directory that nobody else can write to, then looks whether another operator holds one
for the same server. Who announces before looking cannot be overlooked: of two that begin at once, at least one sees the
other. Only those count who can change a container at all: root, this user, and who may open the engine's socket. So
nothing that a stranger puts into a directory that all may write to keeps a server from being managed.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import json
import os
import pwd
import random
import re
import select
import stat
import tempfile
import time
import typing as t

from .._errors import VllmError

# Root's directory, where only root can make one. Others have one of their own in the first place that lets them.
DIRECTORY = "/run/gpufleet-vllm"
PLACES = ("/run/lock", "/tmp")
PREFIX = "gpufleet-vllm-"
SOCKET = "/var/run/docker.sock"
# Seconds that a lease bridges, and the most that one is believed; the next step of the same run comes sooner.
LEASE = 20.0
# By so much a clock is set back now and then without anybody noticing.
STEP = 1.0
# A lease is a line of JSON.
LEASE_BYTES = 4096
# How long to wait for another run, in seconds: longer than the lease of one that was killed.
PATIENCE = 25.0
INTERVAL = 0.2
# How what is said of a lease begins.
DUE = "its next step is due within"
# How often a list of locks is read that is longer than a page of the kernel's, less a line.
READINGS, PAGE = 3, 3900


class Busy(VllmError):
    """Another run holds the lock."""


@contextlib.contextmanager
def alone(
    name: str,
    token: str = "",
    patience: float | None = None,
    docker_host: str | None = None,
    doing: str = "",
) -> t.Iterator[None]:
    """Hold the lock of one server on this host; it ends with the process, however that ends.

    C(doing) are the words for what a run with the lock does, where it is no server.

    C(token) is what the lease of the same run bears: the id of the container that it made. C(docker_host) tells whose
    locks count: those of the users who may open that socket.

    Raises:
        Busy: when another run has it for longer than that; names the process and its user.
        VllmError: when the lock cannot be opened.
    """
    path = os.path.join(_own_directory(), _file(name))
    descriptor = _opened(path)
    try:
        _wait(
            Attempt(name, token, path, descriptor, _socket_of(docker_host), doing or _changing(name)),
            PATIENCE if patience is None else patience,
        )
        yield
    finally:
        # Closing alone would leave it to a process that another thread is starting: until that executes its program, it
        # has a copy of the descriptor.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def busy(name: str, token: str = "", docker_host: str | None = None) -> str:
    """With which sentence a run would be refused that wanted this server now; empty when it is free. Changes nothing.

    The end of a lease is waited for: either the step comes that it is for, or its run was killed.
    """
    attempt = Attempt(name, token, "", -1, _socket_of(docker_host), _changing(name))
    deadline = time.monotonic() + PATIENCE
    while True:
        who = _held_by_others(attempt)
        if not who.startswith(DUE) or time.monotonic() >= deadline:
            return _refusal(attempt, who) if who else ""
        time.sleep(INTERVAL)


def leave(name: str, token: str, seconds: float = LEASE) -> None:
    """Keep the server for the next step of the same run. What cannot be written is not kept."""
    lease = {"token": token, "until": time.time() + seconds}
    with contextlib.suppress(OSError, VllmError):
        directory = _own_directory()
        descriptor, temporary = tempfile.mkstemp(dir=directory, prefix=".gpufleet-")
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            json.dump(lease, stream)
            os.fchmod(stream.fileno(), 0o644)
        os.replace(temporary, os.path.join(directory, f"{_file(name)}.lease"))


def release(name: str) -> None:
    """The run is over: nobody has to wait for its next step."""
    with contextlib.suppress(OSError, VllmError):
        os.unlink(os.path.join(_own_directory(), f"{_file(name)}.lease"))


def reader_is_gone(descriptor: int = 1) -> bool:
    """Whether nobody reads the output of this process any more: its controller was killed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    try:
        return bool(poll.poll(0))
    except OSError:
        return False


class Attempt(t.NamedTuple):
    """One run that wants a server for itself."""

    name: str
    token: str
    path: str
    descriptor: int
    socket: str
    doing: str


def _wait(attempt: Attempt, patience: float) -> None:
    deadline = time.monotonic() + patience
    while True:
        who = _taken(attempt)
        if not who:
            return
        if time.monotonic() >= deadline:
            raise Busy(_refusal(attempt, who), "locked")
        # Two that announced themselves at the same moment shall not do so again.
        time.sleep(INTERVAL * random.uniform(0.5, 1.5))


def _changing(name: str) -> str:
    return f"is changing {name} on this host, or waits for it to become healthy"


def _refusal(attempt: Attempt, who: str) -> str:
    return (
        f"Another run {attempt.doing} ({who}). Nothing was changed by this one; run it again when the other has ended."
    )


def _taken(attempt: Attempt) -> str:
    """Take the lock, or say who has it."""
    try:
        fcntl.flock(attempt.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        status = os.fstat(attempt.descriptor)
        return f"{_holder(status, listed()) or 'its process'} holds {attempt.path}"
    who = _lease_of(os.path.dirname(attempt.path), attempt) or _held_by_others(attempt)
    if who:
        # Who only waits is in nobody's way: the next step of the run that is waited for above all.
        fcntl.flock(attempt.descriptor, fcntl.LOCK_UN)
    return who


# ---------------------------------------------------------------------------------------------------------------------
# Files and directories of this user
# ---------------------------------------------------------------------------------------------------------------------


def _file(name: str) -> str:
    return f"{PREFIX}{name}.lock"


def _opened(path: str) -> int:
    """The file to lock: a regular one that nobody else can open, so that nobody else can lock it."""
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(path, flags, 0o600)
    except (OSError, ValueError) as error:
        raise _cannot_open(path, getattr(error, "strerror", None) or str(error)) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
        os.close(descriptor)
        raise _cannot_open(path, f"it is not a file of user {_user(os.geteuid())}")
    os.fchmod(descriptor, 0o600)
    return descriptor


def _cannot_open(path: str, seen: str) -> VllmError:
    return VllmError(
        f"Cannot open the lock {path}: {seen}. Remove it if no other run is in progress.", "permission-denied"
    )


def _own_directory() -> str:
    """The directory of this user's locks, made where it is missing.

    Raises:
        VllmError: when there is no place for one.
    """
    if _made(DIRECTORY):
        return DIRECTORY
    found = next(filter(None, map(_own_in, PLACES)), None)
    if found is None:
        raise VllmError(
            f"Cannot make a directory for locks in {' or '.join(PLACES)} as user {_user(os.geteuid())}. Let that user "
            "write there, or run with become: true.",
            "permission-denied",
        )
    return found


def _own_in(place: str) -> str | None:
    """This user's directory in a place where everybody may make one; where its name is taken, it has an ending."""
    name = f"{PREFIX}{os.geteuid()}"
    own = [path for path in _directories(place, name) if _is_private(path, os.geteuid())]
    if own:
        return own[0]
    if _made(os.path.join(place, name)):
        return os.path.join(place, name)
    with contextlib.suppress(OSError):
        made = tempfile.mkdtemp(dir=place, prefix=f"{name}-")
        os.chmod(made, 0o755)
        return made
    return None


def _made(path: str) -> bool:
    """Make a directory that others may look into, whatever the umask is. Whether it is this user's then."""
    with contextlib.suppress(OSError):
        os.mkdir(path, 0o755)
    if not _is_private(path, os.geteuid()):
        return False
    with contextlib.suppress(OSError):
        os.chmod(path, 0o755)
    return True


def _is_private(path: str, uid: int) -> bool:
    """Whether a path is a directory of that user, and no other may write into it."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == uid and not status.st_mode & 0o022


def _directories(place: str, prefix: str = PREFIX) -> list[str]:
    try:
        return sorted(os.path.join(place, name) for name in os.listdir(place) if name.startswith(prefix))
    except OSError:
        return []


# ---------------------------------------------------------------------------------------------------------------------
# The other operators
# ---------------------------------------------------------------------------------------------------------------------


def _held_by_others(attempt: Attempt) -> str:
    """Who else has the server, or nothing."""
    locks = listed()
    own = os.path.dirname(attempt.path)
    for directory in (DIRECTORY, *(path for place in PLACES for path in _directories(place))):
        if directory == own or not _is_an_operators(directory, attempt.socket):
            continue
        path = os.path.join(directory, _file(attempt.name))
        with contextlib.suppress(OSError, ValueError):
            holder = _holder(os.lstat(path), locks)
            if holder:
                return f"{holder} holds {path}"
        who = _lease_of(directory, attempt)
        if who:
            return who
    return ""


def _is_an_operators(directory: str, socket: str) -> bool:
    try:
        uid = os.lstat(directory).st_uid
    except OSError:
        return False
    return _is_private(directory, uid) and (uid in (0, os.geteuid()) or may_open(uid, socket))


@functools.cache
def may_open(uid: int, socket: str) -> bool:
    """Whether a user may open the socket of an engine, as its owner, by its group, or like everybody."""
    try:
        status = os.stat(socket)
        if status.st_uid == uid or status.st_mode & stat.S_IWOTH:
            return True
        user = pwd.getpwuid(uid)
        groups = os.getgrouplist(user.pw_name, user.pw_gid) if status.st_mode & stat.S_IWGRP else []
    except (OSError, KeyError, OverflowError):
        return False
    return status.st_gid in groups


def _socket_of(docker_host: str | None) -> str:
    address = docker_host or os.environ.get("DOCKER_HOST") or SOCKET
    return address[len("unix://") :] if address.startswith("unix://") else address


def _lease_of(directory: str, attempt: Attempt) -> str:
    """Whose lease in that directory another run still has the server by, or nothing."""
    left = _lease(directory, attempt.name, attempt.token)
    return f"{DUE} {left:.0f} s" if left > 0 else ""


def _lease(directory: str, name: str, token: str) -> float:
    """Seconds for which another run still has the server.

    A lease that cannot be read is none, nor is one that lasts longer than any that is given: the clock was set back.
    """
    try:
        lease = json.loads(_content(os.path.join(directory, f"{_file(name)}.lease"), os.lstat(directory).st_uid))
        mine = bool(token) and lease["token"] == token
        left = float(lease["until"]) - time.time()
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return 0.0
    return left if not mine and 0 < left <= LEASE + STEP else 0.0


def _content(path: str, owner: int) -> bytes:
    """A small regular file of that user; never waits, follows no link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != owner or status.st_size > LEASE_BYTES:
            raise ValueError(path)
        return os.read(descriptor, LEASE_BYTES)
    finally:
        os.close(descriptor)


def listed(path: str = "/proc/locks") -> str:
    """All locks of this host, as the kernel lists them.

    It does so a page at a time, and lines that move up in between are missed: a longer list is read more than once.
    """
    text = ""
    with contextlib.suppress(OSError):
        for _reading in range(READINGS):
            with open(path, encoding="utf-8", errors="replace") as stream:
                text += stream.read()
            if len(text) < PAGE:
                break
    return text


def _holder(status: os.stat_result, locks: str) -> str:
    """The process of that file's owner, or of root, that holds the lock on it, and since when it runs; or nothing."""
    for pid, device in _holding(status, locks):
        try:
            process = os.stat(f"/proc/{pid}")
        except OSError:
            # Hidden from this user; some file systems report another device than the kernel lists.
            if device == _device(status):
                return f"PID {pid} of {_user(status.st_uid)}"
            continue
        # The number of a file is no proof: on another file system a stranger may have one of the same number.
        if process.st_uid in (0, status.st_uid):
            who = "" if process.st_uid == os.geteuid() else f" of {_user(process.st_uid)}"
            return f"PID {pid}{who}, since {time.strftime('%H:%M:%S', time.localtime(process.st_mtime))},"
    return ""


def _holding(status: os.stat_result, locks: str) -> list[tuple[str, str]]:
    """Who holds a lock on a file of that number, and its device."""
    return re.findall(rf"FLOCK +ADVISORY +WRITE +(\d+) (\w+:\w+):{status.st_ino} ", locks)


def pids(status: os.stat_result, locks: str) -> list[int]:
    """The processes that hold the lock on a file."""
    return [int(pid) for pid, device in _holding(status, locks) if device == _device(status)]


def _device(status: os.stat_result) -> str:
    return f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"uid {uid}"
