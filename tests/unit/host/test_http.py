# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every answer and every way to have none, from real servers on this machine."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.http import Answer, HttpError, Server

Script = t.Callable[[socket.socket], None]
JSON = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n{"a": 1}'


def says(*pieces: bytes, pause: float = 0) -> Script:
    """A server that reads the head of a request and writes these pieces."""

    def script(connection: socket.socket) -> None:
        connection.recv(65536)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)

    return script


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def resets_within_the_answer(connection: socket.socket) -> None:
    says(JSON[:-3])(connection)
    # What is sent after a reset would be lost with it.
    time.sleep(0.05)
    resets(connection)


def is_silent(connection: socket.socket) -> None:
    connection.settimeout(2)
    with contextlib.suppress(OSError):
        while connection.recv(65536):
            pass


class Peer:
    """One server, which does the same with every connection and keeps what it was sent."""

    def __init__(self, listening: socket.socket, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.listening, self.script, self.tls = listening, script, tls
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self.listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), connection:
                if self.tls is None:
                    self.script(connection)
                    continue
                with self.tls.wrap_socket(connection, server_side=True) as secured:
                    self.script(secured)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.thread.join(5)


@pytest.fixture
def tcp() -> t.Iterator[t.Callable[..., str]]:
    peers: list[Peer] = []

    def serve(script: Script, tls: ssl.SSLContext | None = None) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        peers.append(Peer(listening, script, tls))
        return f"{'https' if tls else 'http'}://127.0.0.1:{listening.getsockname()[1]}"

    yield serve
    for peer in peers:
        peer.close()


@pytest.fixture
def unix(tmp_path: Path) -> t.Iterator[t.Callable[..., str]]:
    peers: list[Peer] = []

    def serve(script: Script, tls: ssl.SSLContext | None = None) -> str:
        path = str(tmp_path / "api.sock")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(path)
        listening.listen()
        peers.append(Peer(listening, script, tls))
        return path

    yield serve
    for peer in peers:
        peer.close()


def kind_of(server: Server, **said: t.Any) -> tuple[str, str]:
    with pytest.raises(HttpError) as caught:
        server.request("GET", "/x", **{"timeout": 5, **said}).json()
    return caught.value.kind, str(caught.value)


# --- answers ---------------------------------------------------------------------------------------------------------

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("script", "answer"),
    [
        pytest.param(says(JSON), Answer(200, b'{"a": 1}'), id="with a length"),
        pytest.param(says(*(bytes([byte]) for byte in JSON)), Answer(200, b'{"a": 1}'), id="byte by byte"),
        pytest.param(says(JSON + b"more"), Answer(200, b'{"a": 1}'), id="longer than it says"),
        pytest.param(
            says(CHUNKED, b'4\r\n{"a"\r\n', b"4;x=y\r\n: 1}\r\n0\r\n\r\n"), Answer(200, b'{"a": 1}'), id="in chunks"
        ),
        pytest.param(says(b"HTTP/1.0 200 OK\r\n\r\n", b'{"a"', b": 1}"), Answer(200, b'{"a": 1}'), id="until the end"),
        pytest.param(says(b"HTTP/1.1 200\n\n[]"), Answer(200, b"[]"), id="bare line ends, no phrase"),
        pytest.param(says(b"HTTP/1.1 204 No Content\r\n\r\n"), Answer(204), id="without a body"),
        pytest.param(says(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), Answer(200), id="with an empty body"),
        pytest.param(says(b"HTTP/1.1 100 Continue\r\n\r\n" + JSON), Answer(200, b'{"a": 1}'), id="after a 100"),
        pytest.param(
            says(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\n{}"), Answer(401, b"{}"), id="wants a key"
        ),
        pytest.param(says(b"HTTP/1.1 503 x\r\nContent-Length: 4\r\n\r\noops"), Answer(503, b"oops"), id="not ready"),
        pytest.param(
            says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n"),
            Answer(302),
            id="a redirect is not followed",
        ),
    ],
)
def test_answers(script: Script, answer: Answer, tcp: t.Callable[..., str]) -> None:
    assert Server(tcp(script)).request("GET", "/", timeout=5) == answer


def test_the_same_over_a_unix_socket(unix: t.Callable[..., str]) -> None:
    assert Server(uds=unix(says(JSON))).request("GET", "/", timeout=5).json() == {"a": 1}


def test_what_is_asked(tcp: t.Callable[..., str]) -> None:
    asked: list[bytes] = []

    def script(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))
        connection.sendall(JSON)

    url = tcp(script)
    headers = {"Authorization": "Bearer key"}
    Server(f"{url}/prefix/", headers=headers).request("POST", "/v1/x?a=b c", {"model": "m"}, timeout=5)
    head, _blank, body = asked[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0] == b"POST /prefix/v1/x?a=b%20c HTTP/1.1"
    assert f"Host: {url[len('http://') :]}".encode() in head
    assert b"Authorization: Bearer key" in head
    assert b"Content-Length: 14" in head
    assert body == b'{"model": "m"}'
    Server(url.replace("//", "//me:p%40ss@")).request("GET", "/", timeout=5)
    assert b"Authorization: Basic bWU6cEBzcw==" in asked[1]
    assert b"me:p" not in asked[1]


def test_a_path_cannot_end_its_line(tcp: t.Callable[..., str]) -> None:
    asked: list[bytes] = []

    def script(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))
        connection.sendall(JSON)

    Server(tcp(script)).request("GET", "/a\r\nX-Evil: 1", timeout=5)
    assert b"\r\nX-Evil" not in asked[0]


def test_a_proxy_from_the_environment_is_not_asked(tcp: t.Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert Server(tcp(says(JSON))).request("GET", "/", timeout=5).status == 200


# --- no answer -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "limits", "kind", "seen"),
    [
        pytest.param(resets, {}, "closed", "", id="reset"),
        pytest.param(says(), {}, "closed", "without an answer", id="closed at once"),
        pytest.param(says(JSON[:-2]), {}, "cut", "within the answer, after", id="cut short"),
        pytest.param(resets_within_the_answer, {}, "cut", "within the answer, after", id="reset within the answer"),
        pytest.param(says(JSON[:20]), {}, "cut", "within the answer, after 20 bytes", id="cut in its head"),
        pytest.param(says(CHUNKED + b"5\r\n{"), {}, "cut", "within the answer", id="cut in a chunk"),
        pytest.param(is_silent, {"timeout": 0.2}, "timeout", "", id="silent"),
        pytest.param(
            says(*(bytes([byte]) for byte in JSON), pause=0.05), {"timeout": 0.4}, "timeout", "", id="dripping"
        ),
        pytest.param(
            says(b"HTTP/1.1 200 OK\r\n\r\n", *[b"x"] * 40, pause=0.05), {"timeout": 0.4}, "timeout", "",
            id="dripping without a length",
        ),
        pytest.param(says(JSON), {"limit": 7}, "too-large", "larger than 7 bytes", id="too large by its length"),
        pytest.param(
            says(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 200000), {"limit": 1000}, "too-large", "larger than 1000 bytes",
            id="too large without a length",
        ),
        pytest.param(
            says(CHUNKED, *[b"4000\r\n" + b"x" * 0x4000 + b"\r\n"] * 12), {"limit": 1000}, "too-large", "larger than",
            id="too large in chunks",
        ),
        pytest.param(says(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200000), {}, "no-http", "a line of over", id="endless head"),
        pytest.param(says(b"SSH-2.0-OpenSSH_9.2\r\n"), {}, "no-http", "no HTTP: b'SSH-2.0", id="another protocol"),
        pytest.param(says(b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n"), {}, "no-http", "no length", id="odd length"),
        pytest.param(says(CHUNKED + b"zz\r\n"), {}, "no-http", "'zz' is no length", id="odd chunk"),
        pytest.param(
            says(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"), {}, "no-json", "HTTP 200 without JSON: b'<html>",
            id="no JSON",
        ),
        pytest.param(
            says(b"HTTP/1.0 200 OK\r\n\r\n" + b"[" * 100000), {}, "no-json", "without JSON", id="JSON that never ends"
        ),
    ],
)  # fmt: skip
def test_no_answer(script: Script, limits: dict[str, t.Any], kind: str, seen: str, tcp: t.Callable[..., str]) -> None:
    began = time.monotonic()
    found = kind_of(Server(tcp(script)), **limits)
    assert found[0] == kind
    assert seen in found[1]
    assert time.monotonic() - began < 4


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return int(closed.getsockname()[1])


@pytest.mark.parametrize(
    ("server", "kind", "seen"),
    [
        pytest.param(lambda path: Server(f"http://127.0.0.1:{closed_port()}"), "refused", "refused", id="refused"),
        pytest.param(lambda path: Server("http://no.such.host.invalid"), "unreachable", "[Errno -", id="no such host"),
        pytest.param(lambda path: Server(uds=f"{path}/none.sock"), "missing", "No such file", id="missing socket"),
        pytest.param(lambda path: Server(uds=f"{path}/{'x' * 200}"), "unreachable", "too long", id="path too long"),
        pytest.param(lambda path: Server("http://h:port"), "invalid", "port", id="odd port"),
        pytest.param(lambda path: Server("ftp://h"), "invalid", "is not an address", id="odd scheme"),
        pytest.param(lambda path: Server("http://"), "invalid", "is not an address", id="no host"),
        pytest.param(
            lambda path: Server(f"http://127.0.0.1:{closed_port()}", headers={"X": "a\r\nY: b"}), "invalid", "header",
            id="header of two lines",
        ),
    ],
)  # fmt: skip
def test_nobody_to_ask(server: t.Callable[[Path], Server], kind: str, seen: str, tmp_path: Path) -> None:
    found = kind_of(server(tmp_path))
    assert found[0] == kind
    assert seen in found[1]


def test_a_socket_that_this_user_may_not_open(unix: t.Callable[..., str]) -> None:
    path = unix(says(JSON))
    os.chmod(path, 0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        assert kind_of(Server(uds=path))[0] == "permission"
    finally:
        if root:
            os.seteuid(0)


def test_a_socket_that_nobody_serves_any_more(tmp_path: Path) -> None:
    path = str(tmp_path / "old.sock")
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)
    assert kind_of(Server(uds=path))[0] == "refused"


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tls(certificates: Path) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificates / "server.pem", certificates / "server.key")
    return made


@pytest.fixture
def https(tls: ssl.SSLContext, tcp: t.Callable[..., str]) -> str:
    return tcp(says(JSON), tls)


def test_a_private_authority(https: str, certificates: Path) -> None:
    ca = str(certificates / "ca.pem")
    assert Server(https, ca_path=ca).request("GET", "/", timeout=5).json() == {"a": 1}
    assert Server(https, validate_certs=False).request("GET", "/", timeout=5).json() == {"a": 1}
    found = kind_of(Server(https))
    assert found[0] == "tls"
    assert found[1].startswith("certificate verify failed")
    assert "_ssl.c" not in found[1]
    # A named authority is asked for, whatever validate_certs says.
    assert kind_of(Server(https, ca_path=str(certificates / "server.pem"), validate_certs=False))[0] == "tls"


def test_a_certificate_of_another_host(https: str, certificates: Path) -> None:
    url = https.replace("127.0.0.1", "localhost")
    found = kind_of(Server(url, ca_path=str(certificates / "ca.pem")))
    assert found[0] == "tls"
    assert "ostname mismatch" in found[1]


def test_a_certificate_behind_a_unix_socket(
    unix: t.Callable[..., str], tls: ssl.SSLContext, certificates: Path
) -> None:
    path, ca = unix(says(JSON), tls), str(certificates / "ca.pem")
    assert Server("https://127.0.0.1", path, ca).request("GET", "/", timeout=5).json() == {"a": 1}
    assert Server("https://127.0.0.1:8000", path, validate_certs=False).request("GET", "/", timeout=5).json() == {
        "a": 1
    }
    assert "ostname mismatch" in kind_of(Server("https://localhost", path, ca))[1]
    assert kind_of(Server("https://127.0.0.1", path))[0] == "tls"


def test_a_handshake_over_a_unix_socket_has_the_deadline_too(unix: t.Callable[..., str]) -> None:
    began = time.monotonic()
    assert kind_of(Server("https://localhost", unix(is_silent)), timeout=0.3)[0] == "timeout"
    assert time.monotonic() - began < 4


def test_certificates_that_cannot_be_read(https: str, tmp_path: Path) -> None:
    found = kind_of(Server(https, ca_path=f"{tmp_path}/none"))
    assert found == ("tls", f"cannot read certificates from {tmp_path}/none: No such file or directory")


def test_no_tls_behind_the_port(tcp: t.Callable[..., str]) -> None:
    assert kind_of(Server(tcp(says(JSON)).replace("http:", "https:")))[0] == "tls"


def test_a_proxy_of_a_tls_server_that_is_not_there_yet(tcp: t.Callable[..., str]) -> None:
    assert kind_of(Server(tcp(says()).replace("http:", "https:")))[0] == "closed"


def test_a_handshake_has_the_deadline_too(tcp: t.Callable[..., str]) -> None:
    began = time.monotonic()
    assert kind_of(Server(tcp(is_silent).replace("http:", "https:")), timeout=0.3)[0] == "timeout"
    assert time.monotonic() - began < 4


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_loading_it_loads_neither_ssl_nor_email() -> None:
    name = Server.__module__
    code = f"import sys, {name}; print([m for m in ('ssl', 'email', 'http.client') if m in sys.modules])"
    collections = Path(__file__).resolve().parents[3] / ".ansible" / "collections"
    environment = {**os.environ, "PYTHONPATH": str(collections)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
