# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is on a Docker Engine, read through its socket; loading the SDK takes longer than all the answers."""

from __future__ import annotations

import json
import os
import typing as t
import urllib.parse

from .._host.http import Answer, HttpError, Server
from .client import SOCKET, EngineError, connect, sdk, unreachable

Inspected = dict[str, t.Any]
# Seconds for one answer, and bytes: a list of a thousand containers is less.
TIMEOUT = 60.0
LIMIT = 64 << 20
# A log is read whole before its end is taken.
LOG_LIMIT = 32 << 20


class Reader(t.Protocol):
    """The questions. A thing that does not exist is None."""

    # Whether its containers are processes of this host.
    is_local: bool

    def containers(self) -> list[Inspected]:
        """All containers, as C(docker ps) lists them."""

    def container(self, name: str) -> Inspected | None:
        """One container, as C(docker inspect) prints it."""

    def image(self, reference: str) -> Inspected | None:
        """One image, likewise."""

    def volumes(self, label: str) -> list[Inspected]:
        """The volumes that have a label, C(KEY) or C(KEY=VALUE)."""

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        """The last lines of a container's log, each with its time in front. C(tty) tells whether it has a terminal."""

    def version(self) -> str:
        """The version of the engine."""


def reader(docker_host: str | None = None) -> Reader:
    """The quickest way to read from an engine: its socket, and the SDK for addresses of other kinds."""
    address = docker_host or os.environ.get("DOCKER_HOST") or f"unix://{SOCKET}"
    if not address.startswith("unix://"):
        return SdkReader(connect(docker_host))
    return SocketReader(address[len("unix://") :])


class SocketReader:
    """The Engine API over a Unix socket."""

    is_local = True

    def __init__(self, path: str) -> None:
        self.path = path
        self.server = Server(uds=path)
        # Of an engine that has answered before, silence means another thing.
        self.answered = False

    def containers(self) -> list[Inspected]:
        return t.cast("list[Inspected]", self._get("/containers/json?all=1") or [])

    def container(self, name: str) -> Inspected | None:
        return t.cast("Inspected | None", self._get(f"/containers/{urllib.parse.quote(name, safe='')}/json"))

    def image(self, reference: str) -> Inspected | None:
        return t.cast("Inspected | None", self._get(f"/images/{urllib.parse.quote(reference, safe='/:@')}/json"))

    def volumes(self, label: str) -> list[Inspected]:
        filters = urllib.parse.quote(json.dumps({"label": [label]}))
        found = self._get(f"/volumes?filters={filters}") or {}
        return t.cast("list[Inspected]", found.get("Volumes") or [])

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        query = f"stdout=1&stderr=1&timestamps=1&tail={lines}"
        answer = self._answer(f"/containers/{urllib.parse.quote(name, safe='')}/logs?{query}", LOG_LIMIT)
        raw = answer.body if answer else b""
        return raw if tty else demultiplexed(raw)

    def version(self) -> str:
        return str((self._get("/version") or {}).get("Version") or "")

    def _get(self, path: str) -> t.Any:
        answer = self._answer(path, LIMIT)
        try:
            return answer.json() if answer else None
        except HttpError as error:
            raise EngineError(str(error)) from None

    def _answer(self, path: str, limit: int) -> Answer | None:
        try:
            answer = self.server.request("GET", path, timeout=TIMEOUT, limit=limit)
        except HttpError as error:
            raise self._silence(error) from None
        self.answered = True
        if answer.status == 404:
            return None
        if answer.status >= 400:
            raise EngineError(_refusal(answer))
        return answer

    def _silence(self, error: HttpError) -> Exception:
        if self.answered or error.kind in ANSWERED:
            return EngineError(str(error), lost=error.kind in LOST)
        return unreachable(f"unix://{self.path}", error.kind, str(error))


# Kinds of failures of an engine that was reached, and of one that ended.
ANSWERED = ("closed", "cut", "timeout", "too-large", "no-http", "no-json")
LOST = ("closed", "cut", "refused", "missing")


def _refusal(answer: Answer) -> str:
    try:
        body = answer.json()
    except HttpError as error:
        return str(error)
    message = body.get("message") if isinstance(body, dict) else None
    return str(message or f"HTTP {answer.status}")


def demultiplexed(raw: bytes) -> bytes:
    """The log of a container without a terminal: each piece has its stream and its length in front, in 8 bytes."""
    pieces, at = [], 0
    while at + 8 <= len(raw):
        length = int.from_bytes(raw[at + 4 : at + 8], "big")
        pieces.append(raw[at + 8 : at + 8 + length])
        at += 8 + length
    return b"".join(pieces)


class SdkReader:
    """The same through the SDK, which knows ssh:// and TLS."""

    is_local = False

    def __init__(self, client: t.Any) -> None:
        self.client = client

    def containers(self) -> list[Inspected]:
        return t.cast("list[Inspected]", self.client.containers(all=True))

    def container(self, name: str) -> Inspected | None:
        return self._unless_missing(lambda: self.client.inspect_container(name))

    def image(self, reference: str) -> Inspected | None:
        return self._unless_missing(lambda: self.client.inspect_image(reference))

    def volumes(self, label: str) -> list[Inspected]:
        return t.cast("list[Inspected]", self.client.volumes(filters={"label": label}).get("Volumes") or [])

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        return bytes(self.client.logs(name, tail=lines, stdout=True, stderr=True, timestamps=True))

    def version(self) -> str:
        return str(self.client.version().get("Version") or "")

    def _unless_missing(self, ask: t.Callable[[], t.Any]) -> Inspected | None:
        try:
            return t.cast("Inspected", ask())
        except sdk().errors.NotFound:
            return None
