# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP to a server over TCP, TLS or a Unix socket: one request, one answer, bounded in bytes and in time.

Sockets and no more: http.client takes 11 ms to load, for it loads ssl and email, and knows no deadline for a whole
answer. A redirect is an answer like any other, and proxies from the environment are not asked.
"""

from __future__ import annotations

import json
import re
import socket
import time
import typing as t
import urllib.parse
from dataclasses import dataclass, field

if t.TYPE_CHECKING:
    import ssl

# Bytes of an answer: a list of thousand containers is less.
LIMIT = 16 * 1024 * 1024
HEAD_LIMIT = 64 * 1024
PIECE = 64 * 1024
DIGITS = 400
STATUS_LINE = re.compile(rb"HTTP/1\.\d (\d{3})(?: |$)")
BODILESS = (204, 304)
# What may stand in a path as it is; all else is quoted, so that no path ends its line.
SAFE = "%/:?[]@!$&'()*+,;=~"

Kind = t.Literal[
    "refused",  # nothing listens there
    "closed",  # the connection ended before the answer began
    "cut",  # ... or before it was whole
    "timeout",  # no whole answer within the time
    "missing",  # there is no such socket
    "permission",  # this user may not open the socket
    "unreachable",  # any other fault of the network
    "tls",
    "too-large",
    "no-http",
    "no-json",
    "invalid",  # the address is none
]
# These will be the same the next time.
LASTING = ("tls", "invalid")


class HttpError(Exception):
    """Why there is no answer: C(kind) to tell one reason from another, and what was seen, as text."""

    def __init__(self, kind: Kind, seen: str) -> None:
        super().__init__(seen)
        self.kind: Kind = kind


@dataclass(frozen=True)
class Answer:
    """What a server answered, whatever its status is."""

    status: int
    body: bytes = b""
    # What the server says of itself.
    server: str = field(default="", compare=False)

    def json(self) -> t.Any:
        """The body as a value; an empty one is None."""
        try:
            return json.loads(self.body, parse_int=_whole) if self.body else None
        except (ValueError, RecursionError):
            raise HttpError("no-json", f"HTTP {self.status} without JSON: {self.body[:80]!r}") from None


def _whole(digits: str) -> int:
    """A number of JSON. The time that Python 3.10 takes for one grows with the square of its length."""
    if len(digits) > DIGITS:
        raise ValueError("a number is too long")
    return int(digits)


@dataclass(frozen=True)
class Server:
    """Where a server answers, and how it is trusted. With C(uds), the URL only tells scheme, host name and prefix."""

    url: str = "http://localhost"
    uds: str | None = None
    ca_path: str | None = None
    validate_certs: bool = True
    headers: t.Mapping[str, str] = field(default_factory=dict)

    def request(
        self,
        method: str,
        path: str,
        body: t.Any = None,
        timeout: float = 60.0,
        connect_timeout: float | None = None,
        limit: int = LIMIT,
    ) -> Answer:
        """Ask once. C(body) is sent as JSON; C(timeout) holds from here to the last byte of the answer.

        Raises:
            HttpError: when there is no whole answer.
        """
        deadline = time.monotonic() + timeout
        try:
            place = _parsed(self.url)
            message = _message(method, place, path, body, self.headers)
            within = deadline if connect_timeout is None else min(deadline, time.monotonic() + connect_timeout)
            with self._connected(place, within) as connection:
                connection.settimeout(_left(deadline))
                connection.sendall(message)
                return _Stream(connection, deadline, limit).answer(method)
        except (OSError, ValueError) as error:
            raise _explained(error) from None

    def _connected(self, place: urllib.parse.SplitResult, deadline: float) -> socket.socket:
        unix = self.uds is not None
        connection = _connect(socket.AF_UNIX, self.uds, deadline) if unix else _connect_tcp(place, deadline)
        return self._secured(connection, str(place.hostname)) if place.scheme == "https" else connection

    def _secured(self, connection: socket.socket, host: str) -> socket.socket:
        try:
            return self._tls().wrap_socket(connection, server_hostname=host)
        except BaseException:
            connection.close()
            raise

    def _tls(self) -> ssl.SSLContext:
        import os
        import ssl

        ca = self.ca_path
        try:
            is_directory = ca is not None and os.path.isdir(ca)
            context = ssl.create_default_context(
                cafile=None if is_directory else ca, capath=ca if is_directory else None
            )
        except OSError as error:
            raise HttpError("tls", f"cannot read certificates from {ca}: {error.strerror or error}") from None
        if not self.validate_certs and not ca:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


# --- the way there ---------------------------------------------------------------------------------------------------


def _parsed(url: str) -> urllib.parse.SplitResult:
    place = urllib.parse.urlsplit(url)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise ValueError(f"{url!r} is not an address such as http://127.0.0.1:8000")
    return place


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _connect(family: int, where: t.Any, deadline: float) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.settimeout(_left(deadline))
        connection.connect(where)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_tcp(place: urllib.parse.SplitResult, deadline: float) -> socket.socket:
    """To the first address of the host that takes the connection, all of them within the one deadline."""
    port = place.port or (443 if place.scheme == "https" else 80)
    failure: OSError | None = None
    for family, _type, _protocol, _name, where in socket.getaddrinfo(place.hostname, port, type=socket.SOCK_STREAM):
        try:
            connection = _connect(family, where, deadline)
            # A handshake is bounded, too.
            connection.settimeout(_left(deadline))
            return connection
        except OSError as error:
            failure = failure or error
    raise failure or OSError(f"{place.hostname} has no address")


def _message(
    method: str, place: urllib.parse.SplitResult, path: str, body: t.Any, headers: t.Mapping[str, str]
) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    fields = {
        "Host": place.netloc.rpartition("@")[2],
        "Accept": "*/*",
        # A compressed answer may be a thousand times as large as what was received.
        "Accept-Encoding": "identity",
        "Connection": "close",
        **({} if body is None else {"Content-Type": "application/json"}),
        **({} if method in ("GET", "HEAD") and body is None else {"Content-Length": str(len(content))}),
        **_basic(place),
        **headers,
    }
    target = urllib.parse.quote(place.path.rstrip("/") + path, safe=SAFE)
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    if any("\r" in line or "\n" in line for line in lines):
        raise ValueError("a header holds the end of a line")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + content


def _basic(place: urllib.parse.SplitResult) -> dict[str, str]:
    """The user and password of an address."""
    if place.username is None:
        return {}
    import base64

    pair = f"{urllib.parse.unquote(place.username)}:{urllib.parse.unquote(place.password or '')}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


# --- the answer ------------------------------------------------------------------------------------------------------


class _Stream:
    """An answer as it comes in: never more bytes than the limit, never later than the deadline."""

    def __init__(self, connection: socket.socket, deadline: float, limit: int) -> None:
        self.connection, self.deadline, self.limit = connection, deadline, limit
        self.buffer = bytearray()
        self.received = 0

    def answer(self, method: str) -> Answer:
        status, fields = self._head()
        while 100 <= status < 200:
            status, fields = self._head()
        empty = method == "HEAD" or status in BODILESS
        return Answer(status, b"" if empty else self._body(fields), fields.get("server", ""))

    def _body(self, fields: t.Mapping[str, str]) -> bytes:
        if "chunked" in fields.get("transfer-encoding", "").lower():
            return self._chunks()
        length = fields.get("content-length")
        return self._rest() if length is None else self._exactly(_number(length, 10))

    def _head(self) -> tuple[int, dict[str, str]]:
        first = self._line()
        status = STATUS_LINE.match(first)
        if not status:
            raise HttpError("no-http", f"no HTTP: {first[:80]!r}")
        fields = {}
        for line in iter(self._line, b""):
            name, _colon, value = line.decode("latin-1").partition(":")
            fields[name.strip().lower()] = value.strip()
        return int(status.group(1)), fields

    def _more(self) -> bool:
        self.connection.settimeout(_left(self.deadline))
        try:
            piece = self.connection.recv(PIECE)
        except ConnectionError:
            raise self._ended() from None
        self.received += len(piece)
        if self.received > self.limit + HEAD_LIMIT:
            raise HttpError("too-large", f"the answer is larger than {self.limit} bytes")
        self.buffer += piece
        return bool(piece)

    def _line(self) -> bytes:
        searched = 0
        while (end := self.buffer.find(b"\n", searched)) < 0:
            searched = len(self.buffer)
            if searched > HEAD_LIMIT:
                raise HttpError("no-http", f"no HTTP: a line of over {HEAD_LIMIT} bytes")
            if not self._more():
                raise self._ended()
        return self._taken(end + 1).rstrip(b"\r\n")

    def _exactly(self, count: int) -> bytes:
        if count > self.limit:
            raise HttpError("too-large", f"the answer is larger than {self.limit} bytes")
        while len(self.buffer) < count:
            if not self._more():
                raise self._ended()
        return self._taken(count)

    def _rest(self) -> bytes:
        while self._more():
            pass
        return self._taken(len(self.buffer))

    def _chunks(self) -> bytes:
        body = bytearray()
        while count := _number(self._line().split(b";", maxsplit=1)[0].decode("latin-1"), 16):
            body += self._exactly(count)
            self._line()
        return bytes(body)

    def _taken(self, count: int) -> bytes:
        taken = bytes(self.buffer[:count])
        del self.buffer[:count]
        return taken

    def _ended(self) -> HttpError:
        if not self.received:
            return HttpError("closed", "the connection was closed without an answer")
        return HttpError("cut", f"the connection was closed within the answer, after {self.received} bytes")


def _number(text: str, base: int) -> int:
    try:
        count = int(text, base)
    except ValueError:
        count = -1
    if count < 0:
        raise HttpError("no-http", f"no HTTP: {text[:80]!r} is no length")
    return count


def _explained(error: OSError | ValueError) -> HttpError:
    """The fault of a socket as one of ours."""
    kinds: tuple[tuple[type[BaseException], Kind], ...] = (
        (socket.timeout, "timeout"),
        (ConnectionRefusedError, "refused"),
        (ConnectionError, "closed"),
        (FileNotFoundError, "missing"),
        (PermissionError, "permission"),
    )
    kind = next((kind for kinds_of, kind in kinds if isinstance(error, kinds_of)), None)
    if kind is None and isinstance(error, OSError) and type(error).__name__.startswith("SSL"):
        # A server whose proxy listens before it does hangs up; that is not for ever.
        kind = "closed" if type(error).__name__ in ("SSLEOFError", "SSLZeroReturnError") else "tls"
    if kind is None:
        kind = "unreachable" if isinstance(error, OSError) else "invalid"
    return HttpError(kind, _words(error) if kind == "tls" else str(error))


def _words(error: BaseException) -> str:
    """What OpenSSL says, without its numbers."""
    return re.sub(r"^\[SSL(?:: \w+)?\] (.*?)(?: \(_ssl.*)?$", r"\1", str(error))
