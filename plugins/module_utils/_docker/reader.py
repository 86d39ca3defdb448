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
from .client import EngineError, socket_path, unreachable

Inspected = dict[str, t.Any]
# Seconds for one answer, and bytes: a list of a thousand containers is less.
TIMEOUT = 60.0
LIMIT = 64 << 20
# A log is read whole before its end is taken. Of lines that are longer than that altogether, fewer are read.
LOG_LIMIT = 32 << 20
FEWER = 8


class Identity(t.NamedTuple):
    """What an engine says of itself: its answers to C(/version) and C(/info), the header C(Server), and whose it is."""

    version: t.Any = None
    info: t.Any = None
    server: str = ""
    path: str = ""
    uid: int = 0

    @property
    def is_podman(self) -> bool:
        """Whether Podman answers in the place of a Docker Engine."""
        version = self.version if isinstance(self.version, dict) else {}
        platform, components = version.get("Platform"), version.get("Components")
        said = [one.get("Name") for one in components if isinstance(one, dict)] if isinstance(components, list) else []
        said += [platform.get("Name") if isinstance(platform, dict) else "", self.server]
        words = " ".join(str(name) for name in said).lower()
        return "podman" in words or "libpod" in words


class Reader(t.Protocol):
    """The questions. A thing that does not exist is None."""

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

    def identity(self) -> Identity:
        """What the engine says of itself."""


def reader(docker_host: str | None = None) -> Reader:
    """The engine at that address, which is that of a Unix socket.

    Raises:
        VllmError: when it is another one.
    """
    return SocketReader(socket_path(docker_host))


class SocketReader:
    """The Engine API over a Unix socket, as C(Reader) describes its methods."""

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
        path = f"/containers/{urllib.parse.quote(name, safe='')}/logs?stdout=1&stderr=1&timestamps=1&tail="
        while (answer := self._answer(f"{path}{lines}", LOG_LIMIT, fewer=lines > 1)) is TOO_LARGE:
            lines = max(1, lines // FEWER)
        raw = answer.body if answer else b""
        return raw if tty else demultiplexed(raw)

    def version(self) -> str:
        return str((self._get("/version") or {}).get("Version") or "")

    def identity(self) -> Identity:
        answer = self._answer("/version", LIMIT)
        try:
            info = self._get("/info")
        except EngineError:
            # A proxy in front of the engine may keep it back; then nothing is known against it.
            info = None
        owner = os.stat(self.path).st_uid
        return Identity(self._json(answer), info, answer.server if answer else "", self.path, owner)

    def _get(self, path: str) -> t.Any:
        return self._json(self._answer(path, LIMIT))

    def _json(self, answer: Answer | None) -> t.Any:
        try:
            return answer.json() if answer else None
        except HttpError as error:
            raise EngineError(str(error)) from None

    def _answer(self, path: str, limit: int, fewer: bool = False) -> Answer | None:
        try:
            answer = self.server.request("GET", path, timeout=TIMEOUT, limit=limit)
        except HttpError as error:
            if fewer and error.kind == "too-large":
                return TOO_LARGE
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


# In place of an answer that was too large, where less can be asked for.
TOO_LARGE = Answer(0)
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
