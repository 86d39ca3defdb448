# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host passes on what its cache has, to other hosts of the same run: read-only, by a token, as long as that takes.

A process of its own listens at an address that the user named and gives blobs by their digests, also one that is still
coming. Who asks for a digest knows it already, and verifies what it gets. The process ends when its record is deleted
or another one's, and by itself when nobody has used it for a while: nothing has to survive to end it.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import hmac
import http.server
import json
import os
import re
import socket
import socketserver
import stat
import time
import typing as t
from dataclasses import dataclass

from .._deploy.ledger import STATE_REMEDY, load, state_directory
from .._errors import VllmError
from .._host import download, files
from .._host.processes import born, lives

# Seconds without a request and without a run on this host, after which the process ends.
IDLE = 600.0
# For so long a run may be away between two slices, or two models, before others stop to wait for what it fetches.
AWAY = 60.0
# Seconds for which a file that is still coming may stand still before the connection is given back, and between looks.
STALL, LOOK = 5.0, 0.02
# Seconds that an end or a beginning of the process may take, and those of a connection without a byte.
PATIENCE, SILENCE = 10.0, 60.0
CHUNK_BYTES = 1 << 20
# Where archives of images are on their way, beside the folders of models.
IMAGES = ".images"
PATH = re.compile(
    r"/(?P<folder>models--[\w.-]{1,200}|\.images)/blobs/"
    r"(?P<digest>[0-9a-f]{64}|[0-9a-f]{40})\?size=(?P<size>\d{1,18})",
    re.ASCII,
)
RANGE = re.compile(r"bytes=(\d{1,18})-")
# Of a record: nobody fetches into the cache any more. Empty: nobody has begun yet.
GIVEN_UP = "given up"

Params = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Place:
    """Where a host passes on what it has, and from which cache."""

    huggingface_dir: str
    address: str
    port: int

    @property
    def name(self) -> str:
        """As a part of an URL."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"

    @property
    def url(self) -> str:
        """Where other hosts ask."""
        return f"http://{self.name}"

    @property
    def record(self) -> str:
        """The file of the process that listens there."""
        safe = re.sub(r"[^\w.-]", "_", f"{self.address}-{self.port}", flags=re.ASCII)
        return os.path.join(state_directory(), f"peer-{safe}.json")


def digest_of(token: str) -> str:
    """The digest of a token (SHA-256), by which it is known without being told."""
    return hashlib.sha256(token.encode()).hexdigest()


def is_alive(record: Params) -> bool:
    """Whether the process of a record still runs."""
    return lives(str(record.get("process") or ""))


def recorded(place: Place) -> dict[str, t.Any]:
    """The record of the process that listens there; empty when there is none, or it cannot be believed."""
    try:
        return load(place.record)
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _write(place: Place, record: Params) -> None:
    directory = state_directory()
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        files.write_whole(place.record, json.dumps(record).encode() + b"\n")
    except OSError as error:
        attempt = f"record in {directory} that files are passed on at {place.name}"
        raise files.failure(attempt, error, STATE_REMEDY) from None


# ---------------------------------------------------------------------------------------------------------------------
# What a run does with it
# ---------------------------------------------------------------------------------------------------------------------


def start(place: Place, token: str, is_new: bool = True, outside: t.Mapping[str, str] | None = None) -> bool:
    """Pass on what the cache has, and files C(outside) of it, by digest; whether a process was started for it.

    One of an earlier run gives way, unless this is not the beginning of a run.

    Raises:
        VllmError: when nothing can listen there, or another run has taken the place.
    """
    record = recorded(place)
    if record and is_alive(record):
        if record["token"] == digest_of(token) and record["huggingface_dir"] == place.huggingface_dir:
            return False
        if not is_new:
            raise VllmError(
                f"Cannot pass files on at {place.name} any more: another run has begun to. Let one run end before the "
                "next one begins, or give each a peer_port of its own.",
                "overtaken",
            )
    # Of a process that was killed, the record is there.
    stop(place)
    server = _listening(place)
    server.outside = outside or {}
    _begin(server, place, token)
    return True


def stop(place: Place) -> bool:
    """Pass on nothing any more; whether anything did.

    Raises:
        VllmError: when the process does not end.
    """
    record = recorded(place)
    files.delete_file(place.record)
    if not record or not is_alive(record):
        return False
    deadline = time.monotonic() + PATIENCE
    while is_alive(record):
        if time.monotonic() >= deadline:
            pid = record["process"].partition(" ")[0]
            raise VllmError(
                f"Cannot end the process {pid} that passes files on at {place.name}: it still runs after "
                f"{PATIENCE:.0f} s. End it yourself: kill {pid}.",
                "locked",
            )
        time.sleep(LOOK)
    return True


@contextlib.contextmanager
def passing_on(place: Place, token: str) -> t.Iterator[None]:
    """While a run fetches into the cache: who waits for a file learns when that is over.

    Raises:
        VllmError: when nothing can listen there.
    """
    start(place, token, is_new=False)
    _note(place, born(os.getpid()))
    try:
        yield
    except VllmError:
        _note(place, GIVEN_UP)
        raise


def keep(place: Place) -> None:
    """Put off the end of the process, while a run works on what others wait for."""
    with contextlib.suppress(OSError):
        os.utime(place.record)


def _note(place: Place, who: str) -> None:
    record = recorded(place)
    if record:
        _write(place, {**record, "fetches": who})


# ---------------------------------------------------------------------------------------------------------------------
# The process
# ---------------------------------------------------------------------------------------------------------------------


class Listening(socketserver.ThreadingMixIn, socketserver.TCPServer):
    """Gives blobs to who has the token."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, place: Place) -> None:
        self.place, self.token, self.process = place, "", ""
        self.outside: t.Mapping[str, str] = {}
        self.away_since = 0.0
        self.address_family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
        super().__init__((place.address, place.port), Answer)

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """A connection that broke is the affair of who made it."""

    def service_actions(self) -> None:
        """After each request, and twice a second."""
        if not self.is_wanted():
            self.over()

    def is_wanted(self) -> bool:
        """Whether the record is there, is that of this process, and was used lately."""
        try:
            idle = time.time() - os.stat(self.place.record).st_mtime
        except OSError:
            return False
        return idle < IDLE and recorded(self.place).get("process") == self.process

    def over(self) -> None:
        """The end of the process."""
        try:
            if recorded(self.place).get("process") == self.process:
                files.delete_file(self.place.record)
        finally:
            os._exit(0)

    def used(self) -> None:
        """Put off the end."""
        keep(self.place)

    def may_come(self) -> bool:
        """Whether what is not there may still come: a run fetches, has not begun yet, or is between two steps."""
        who = str(recorded(self.place).get("fetches") or "")
        if not who or lives(who):
            self.away_since = 0.0
            return True
        if who == GIVEN_UP:
            return False
        self.away_since = self.away_since or time.monotonic()
        return time.monotonic() - self.away_since < AWAY


class Answer(http.server.BaseHTTPRequestHandler):
    """One request for the bytes of a blob from some position on."""

    timeout = SILENCE
    server: Listening

    def log_message(self, *_arguments: object) -> None:
        """Nobody reads it."""

    def do_GET(self) -> None:
        """The blob, also while it comes; 503 while it may still come, 410 when it will not."""
        asked = PATH.fullmatch(self.path)
        if not hmac.compare_digest((self.headers.get("Authorization") or "").encode(), self.server.token.encode()):
            self._refuse(401)
        elif not asked:
            self._refuse(404)
        else:
            self.server.used()
            start = RANGE.fullmatch(self.headers.get("Range") or "")
            self._give(asked["folder"], asked["digest"], int(asked["size"]), int(start[1]) if start else 0)

    def _give(self, folder: str, digest: str, size: int, start: int) -> None:
        path = self.server.outside.get(digest) or os.path.join(
            self.server.place.huggingface_dir, "hub", folder, "blobs", digest
        )
        descriptor = _opened(path, size, size)
        descriptor = _opened(f"{path}.incomplete", start + 1, size) if descriptor is None else descriptor
        if descriptor is None:
            self._refuse(503 if self.server.may_come() else 410)
            return
        try:
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("Content-Length", str(max(0, size - start)))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.end_headers()
            self._copy(descriptor, start, size)
        finally:
            os.close(descriptor)

    def _copy(self, descriptor: int, position: int, size: int) -> None:
        """What is there, and what comes meanwhile; who was promised more than comes sees that it was cut short."""
        grown = time.monotonic()
        while position < size and time.monotonic() - grown < STALL:
            chunk = os.pread(descriptor, min(CHUNK_BYTES, size - position), position)
            if chunk:
                self.wfile.write(chunk)
                position, grown = position + len(chunk), time.monotonic()
                self.server.used()
            elif os.fstat(descriptor).st_size < position:
                # It turned out wrong, and begins anew.
                return
            else:
                time.sleep(LOOK)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _opened(path: str, least: int, most: int) -> int | None:
    """A regular file of so many bytes, to be read; None when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    seen = os.fstat(descriptor)
    if stat.S_ISREG(seen.st_mode) and least <= seen.st_size <= most:
        return descriptor
    os.close(descriptor)
    return None


def _listening(place: Place) -> Listening:
    try:
        return Listening(place)
    except (OSError, OverflowError) as error:
        seen = download.one_line(error)
        raise VllmError(
            f"Cannot pass files on at {place.name}: {seen}. Let peer_address be an address of this host and peer_port "
            "a port that nothing uses ('ss -ltnp' shows who does).",
            "port-in-use",
        ) from None


def _begin(server: Listening, place: Place, token: str) -> None:
    """Have a process of its own serve, and wait until it says so.

    Raises:
        VllmError: when it does not.
    """
    server.token = f"Bearer {token}"
    child = os.fork()
    if not child:
        detached(functools.partial(_serve, server, place, token), keeps=server.fileno())
    os.waitpid(child, 0)
    server.server_close()
    deadline = time.monotonic() + PATIENCE
    while recorded(place).get("token") != digest_of(token):
        if time.monotonic() >= deadline:
            raise VllmError(
                f"Cannot pass files on at {place.name}: the process for it did not begin within {PATIENCE:.0f} s, or "
                f"could not write to {place.record}. Look at the load of the host, and run it again.",
                "backend-failed",
            )
        time.sleep(LOOK)


def _serve(server: Listening, place: Place, token: str) -> None:
    server.process = born(os.getpid())
    _write(
        place,
        {
            "version": 1,
            "kind": "peer",
            "process": server.process,
            "token": digest_of(token),
            "huggingface_dir": place.huggingface_dir,
            # To what lies outside the cache, nothing comes.
            "fetches": GIVEN_UP if server.outside else "",
        },
    )
    server.serve_forever()


def detached(do: t.Callable[[], None], keeps: int = -1) -> t.NoReturn:
    """Go on as a process that belongs to nobody: no terminal, no open file but C(keeps), no lock, no directory."""
    status = 1
    try:
        # What is shared with the parent is not freed here.
        gc.freeze()
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):
            os.dup2(null, descriptor)
        limit = max((int(name) for name in os.listdir("/proc/self/fd")), default=256) + 1
        for descriptor in range(3, limit):
            if descriptor != keeps:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        do()
        status = 0
    finally:
        # Nothing of the module that this began as is to be cleaned up by this process.
        os._exit(status)
