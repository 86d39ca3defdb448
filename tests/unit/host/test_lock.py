# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two runs at once on one host."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.lock import (
    Busy,
    alone,
    busy,
    leave,
    reader_is_gone,
    release,
)

NAME = "gpufleet-unit-lock"
ROOT = str(Path(__file__).parents[3] / ".ansible" / "collections")
HOLD = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.lock import alone
with alone(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_do_not_change_one_server_at_once() -> None:
    with alone(NAME):
        told = (
            f"^Another run is changing {NAME} on this host, or waits for it to become healthy .PID {os.getpid()}, since"
        )
        with pytest.raises(Busy, match=told), alone(NAME, patience=0):
            pytest.fail("both runs hold the lock")
        with alone(f"{NAME}-other"):
            pass
    with alone(NAME):
        pass


def test_the_lock_ends_though_a_process_that_is_being_started_has_a_copy() -> None:
    """As between fork and exec of a command that another thread starts."""
    with alone(NAME):
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
    try:
        with alone(NAME, patience=0):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_run_waits_for_a_step_of_another_that_is_about_to_end() -> None:
    command = [sys.executable, "-c", HOLD, ROOT, NAME]
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=path)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    with pytest.raises(Busy), alone(NAME, patience=0):
        pytest.fail("both runs hold the lock")
    # The lock ends with its process, however that ends.
    other.kill()
    with alone(NAME, patience=30):
        pass
    other.communicate()


def test_between_two_steps_of_a_run_the_server_is_kept_for_it() -> None:
    with alone(NAME):
        leave(NAME, "mine")
    with pytest.raises(Busy, match="its next step is due within"), alone(NAME, patience=0):
        pytest.fail("another run got in between")
    with pytest.raises(Busy), alone(NAME, "theirs", patience=0):
        pytest.fail("another run got in between")
    with alone(NAME, "mine", patience=0):
        release(NAME)
    with alone(NAME, patience=0):
        pass


def test_a_lease_counts_to_its_end(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 1000.0)
    leave(NAME, "theirs", seconds=0.3)
    with pytest.raises(Busy, match="its next step is due within 0 s"), alone(NAME, patience=0):
        pytest.fail("another run got in between")


def test_a_lease_of_a_run_that_was_killed_ends() -> None:
    leave(NAME, "theirs", seconds=0.3)
    with alone(NAME, patience=10):
        release(NAME)


def test_a_look_says_who_is_at_work_and_waits_for_the_end_of_a_lease() -> None:
    assert busy(NAME) == ""
    with alone(NAME):
        assert busy(NAME).startswith(
            f"Another run is changing {NAME} on this host, or waits for it to become healthy (PID"
        )
        assert busy(f"{NAME}-other") == ""
    leave(NAME, "theirs")
    assert busy(NAME, "theirs") == ""
    leave(NAME, "theirs", seconds=0.3)
    assert busy(NAME) == ""
    leave(NAME, "theirs")
    # The step comes that it is for.
    with alone(NAME, "theirs"):
        assert "(PID" in busy(NAME)
    release(NAME)


def test_a_process_notices_that_nobody_reads_what_it_says() -> None:
    reading, writing = os.pipe()
    assert not reader_is_gone(writing)
    os.close(reading)
    assert reader_is_gone(writing)
    os.close(writing)
    with open(os.devnull, "wb") as stream:
        assert not reader_is_gone(stream.fileno())


def test_a_lock_that_cannot_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.gpufleet.vllm.plugins.module_utils._host.lock.DIRECTORY", str(tmp_path))
    (tmp_path / "gpufleet-vllm-x.lock").symlink_to(tmp_path / "elsewhere")
    with (
        pytest.raises(VllmError, match="^Cannot open the lock .*x.lock: .*Remove it if no other run is in progress"),
        alone("x"),
    ):
        pytest.fail("a link was followed")


# --- what others put in the way ---------------------------------------------------------------------------------------


@pytest.fixture
def places(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Path]:
    """A host of its own: where root has its directory, where everybody may make one, and the socket of an engine."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    (path / "run").mkdir()
    (path / "lock").mkdir()
    (path / "lock").chmod(0o1777)
    (path / "docker.sock").touch(0o660)
    for name, value in settings(path).items():
        monkeypatch.setattr(lock, name, value)
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    lock.may_open.cache_clear()
    yield path
    shutil.rmtree(path)


def settings(path: Path) -> dict[str, t.Any]:
    return {"DIRECTORY": f"{path}/run/own", "PLACES": (f"{path}/lock",), "SOCKET": f"{path}/docker.sock"}


ME, OPERATOR, STRANGER = os.geteuid(), 65533, 65534
# A user that this one may become: only root may become another.
OTHER = OPERATOR if ME == 0 else ME


@dataclass
class Run:
    """A run in a process of its own, and what it says: that it holds the lock, or why not."""

    pid: int
    output: t.IO[str]

    def says(self) -> str:
        return self.output.readline().strip()

    def lives(self) -> bool:
        return os.waitpid(self.pid, os.WNOHANG) == (0, 0)


@contextlib.contextmanager
def another(uid: int, patience: float = 0) -> t.Iterator[Run]:
    """A run by that user, which keeps the lock until the block ends, or is refused. Forked: who is not root may not
    execute this Python."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if uid != ME:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            with lock.alone(NAME, patience=patience):
                os.write(writing, b"held\n")
                time.sleep(60)
        except BaseException as error:
            os.write(writing, f"{error}\n".encode())
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8") as output:
        try:
            yield Run(pid, output)
        finally:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)


def test_two_operators_of_different_users_exclude_each_other(places: Path) -> None:
    places.joinpath("docker.sock").chmod(0o666)
    with another(OTHER) as other:
        assert other.says() == "held"
        who = rf"PID {other.pid}( of \w[\w ]*)?, since .* holds {places}/"
        with pytest.raises(Busy, match=who), lock.alone(NAME, patience=0):
            pytest.fail("both operators hold the lock")
        with lock.alone(f"{NAME}-other", patience=0):
            pass
    with lock.alone(NAME, patience=0), another(OTHER) as other:
        assert f"PID {os.getpid()}" in other.says()


def test_many_runs_of_several_users_never_meet(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places.joinpath("docker.sock").chmod(0o666)
    monkeypatch.setattr(lock, "INTERVAL", 0.02)
    diary = os.open(places / "diary", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    runs = []
    for uid in (ME, ME, OTHER, OTHER, STRANGER if ME == 0 else ME):
        pid = os.fork()
        if pid == 0:
            if uid != ME:
                os.setgroups([])
                os.setgid(uid)
                os.setuid(uid)
            ends = time.monotonic() + 1
            while time.monotonic() < ends:
                with contextlib.suppress(Busy), lock.alone(NAME, patience=1):
                    os.write(diary, b"(")
                    time.sleep(0.001)
                    os.write(diary, b")")
            os._exit(0)
        runs.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in runs] == [0] * len(runs)
    os.close(diary)
    text = places.joinpath("diary").read_text()
    assert text
    assert text == "()" * (len(text) // 2)


def test_the_lease_of_another_operator_counts(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places.joinpath("docker.sock").chmod(0o666)
    lock.leave(NAME, "theirs")
    if ME == 0:
        os.chown(f"{places}/run/own", OTHER, OTHER)
        os.chown(f"{places}/run/own/gpufleet-vllm-{NAME}.lock.lease", OTHER, OTHER)
    with pytest.raises(Busy, match="its next step is due within"), lock.alone(NAME, patience=0):
        pytest.fail("another run got in between")
    with lock.alone(NAME, "theirs", patience=0):
        pass


def test_a_stranger_s_lock_keeps_nobody(places: Path) -> None:
    if ME != 0:
        return  # Only root can be two users.
    with another(STRANGER) as other:
        assert other.says() == "held"
        with lock.alone(NAME, patience=0):
            pass
    # Neither does an flock on the files of others: they cannot be opened.
    os.seteuid(STRANGER)
    try:
        with pytest.raises(PermissionError):
            (places / "run" / "own" / f"gpufleet-vllm-{NAME}.lock").open()
    finally:
        os.seteuid(0)


def test_a_name_that_a_stranger_took_is_left_to_them(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "DIRECTORY", "/proc/none")
    taken = places / "lock" / f"gpufleet-vllm-{ME}"
    taken.mkdir()
    taken.chmod(0o777)
    with lock.alone(NAME, patience=0), pytest.raises(Busy), lock.alone(NAME, patience=0):
        pytest.fail("both runs hold the lock")
    assert list(taken.iterdir()) == []


def test_without_a_place_for_locks_it_is_told(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "DIRECTORY", "/proc/none")
    monkeypatch.setattr(lock, "PLACES", ("/proc/none", "/proc/self"))
    told = "^Cannot make a directory for locks in /proc/none or /proc/self as user"
    with pytest.raises(VllmError, match=told), lock.alone(NAME):
        pytest.fail("there is no lock")


def put(kind: str, path: Path) -> None:
    """Something that is no lock and no lease."""
    path.unlink(missing_ok=True)
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a link":
        path.symlink_to("/dev/zero")
    elif kind == "a directory":
        path.mkdir()
    elif kind == "another user's":
        path.write_text('{"token": "x", "until": %f}' % (time.time() + 9))
        os.chown(path, STRANGER, STRANGER)
    else:
        path.write_text(kind)


@pytest.mark.parametrize("kind", ["a FIFO", "a link", "a directory"] + ["another user's"] * (ME == 0))
def test_what_is_no_lock_is_told_at_once(kind: str, places: Path) -> None:
    (places / "run" / "own").mkdir()
    put(kind, places / "run" / "own" / f"gpufleet-vllm-{NAME}.lock")
    began = time.monotonic()
    with pytest.raises(VllmError, match="^Cannot open the lock "), lock.alone(NAME, patience=5):
        pytest.fail("that is no lock")
    assert time.monotonic() - began < 4


LEASE = '{"token": "x", "until": %s}'


@pytest.mark.parametrize(
    "kind",
    [
        "a FIFO",
        "a link",
        "a directory",
        *["another user's"] * (ME == 0),
        LEASE % "9e99",
        LEASE % "NaN",
        LEASE % "Infinity",
        LEASE % "-Infinity",
        LEASE % ("9" * 4000),
        LEASE % (time.time() + 3600),
        LEASE % '"soon"',
        LEASE % "null",
        '{"token": "x"}',
        "[" * 4000,
        "[1]",
        "",
        "\0\xff",
        " " * 5000 + LEASE % (time.time() + 9),
    ],
    ids=lambda kind: kind[:40].strip() or "empty",
)
def test_what_is_no_lease_keeps_nobody(kind: str, places: Path) -> None:
    (places / "run" / "own").mkdir()
    put(kind, places / "run" / "own" / f"gpufleet-vllm-{NAME}.lock.lease")
    began = time.monotonic()
    with lock.alone(NAME, patience=0):
        pass
    assert time.monotonic() - began < 4


def test_who_waits_does_not_keep_the_next_step_out(places: Path) -> None:
    lock.leave(NAME, "mine")
    with another(ME, patience=30) as stranger:
        time.sleep(1)
        assert stranger.lives()
        for _step in range(20):
            with lock.alone(NAME, "mine", patience=0):
                pass


def test_a_lock_on_another_file_of_the_same_number_is_not_ours(places: Path) -> None:
    status = os.stat(places / "docker.sock")
    listed = "1: FLOCK  ADVISORY  WRITE {pid} 00:99:{inode} 0 EOF\n"
    assert f"PID {os.getpid()}" in lock._holder(status, listed.format(pid=os.getpid(), inode=status.st_ino))
    assert lock._holder(status, listed.format(pid=os.getpid(), inode=f"{status.st_ino}1")) == ""
    # A process that is hidden, or just ended, counts by the device.
    hidden = listed.format(pid=2**22 + 1, inode=status.st_ino)
    assert lock._holder(status, hidden) == ""
    assert lock._holder(status, hidden.replace("00:99", lock._device(status))).startswith("PID ")
    if ME == 0:
        # Root may hold the lock of anybody, and nobody else does.
        os.chown(places / "docker.sock", OPERATOR, -1)
        theirs = os.stat(places / "docker.sock")
        assert f"PID {os.getpid()}" in lock._holder(theirs, listed.format(pid=os.getpid(), inode=status.st_ino))


@pytest.mark.parametrize(
    ("mode", "owner", "may"),
    [(0o660, OPERATOR, True), (0o660, None, False), (0o666, None, True), (0o600, None, False)],
    ids=["its owner", "nobody", "everybody", "a stranger"],
)
def test_whose_locks_count(mode: int, owner: int | None, may: bool, places: Path) -> None:
    socket = places / "docker.sock"
    socket.chmod(mode)
    who = OPERATOR
    if owner is not None:
        if ME == 0:
            os.chown(socket, owner, -1)
        else:
            who = ME
    assert lock.may_open(who, str(socket)) is may
    assert not lock.may_open(who, f"{places}/none")


def test_a_long_list_of_locks_is_read_more_than_once(tmp_path: Path) -> None:
    """The kernel gives it by pages, between which a line can move to one that was read already."""
    line = "1: FLOCK  ADVISORY  WRITE 1 00:01:1 0 EOF\n"
    (tmp_path / "short").write_text(line)
    (tmp_path / "long").write_text(line * 1000)
    assert lock.listed(str(tmp_path / "short")) == line
    assert lock.listed(str(tmp_path / "long")).count("FLOCK") == 3000
    assert lock.listed(f"{tmp_path}/none") == ""
