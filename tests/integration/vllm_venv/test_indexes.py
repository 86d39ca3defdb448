# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packages from an index of this machine: with credentials, behind a proxy, behind a CA that nobody else knows."""

from __future__ import annotations

import base64
import contextlib
import http.server
import ssl
import subprocess
import threading
import typing as t
from pathlib import Path

import pytest
from environments import User

PACKAGES = ["vllm==0.26.0"]
LOGIN = "Basic " + base64.b64encode(b"me:secret4711").decode()
BOTH = pytest.mark.parametrize("installer", ["pip", "uv"])


class Index(http.server.ThreadingHTTPServer):
    """Serves the wheels of a directory as /simple, and as a proxy those of any host; notes what it was asked."""

    daemon_threads = True

    def __init__(self, wheelhouse: Path, login: str = "") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.wheelhouse, self.login = wheelhouse, login
        self.asked: list[str] = []

    def url(self, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.server_address[1]}/simple"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        path = self.path.partition("/simple/")[2].strip("/")
        file = self.server.wheelhouse / Path(path).name
        if self.server.login and self.headers.get("Authorization") != self.server.login:
            self._answer(401, b"", ("WWW-Authenticate", 'Basic realm="index"'))
        elif path.endswith(".whl") and file.exists():
            self._answer(200, file.read_bytes())
        elif list(self.server.wheelhouse.glob(f"{path}-*.whl")):
            names = [one.name for one in self.server.wheelhouse.glob(f"{path}-*.whl")]
            links = "".join(f'<a href="/simple/{path}/{name}">{name}</a>' for name in names)
            self._answer(200, links.encode(), ("Content-Type", "text/html"))
        else:
            self._answer(404, b"")

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_about: t.Any) -> None:
        """Nothing."""


@contextlib.contextmanager
def serving(index: Index) -> t.Iterator[Index]:
    thread = threading.Thread(target=index.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield index
    finally:
        index.shutdown()
        thread.join()
        index.server_close()


def with_tls(index: Index, directory: Path) -> Path:
    """Give it a certificate of a CA of its own; the answer is the file of that CA."""
    ca, key, request, leaf = (directory / name for name in ("ca.pem", "key.pem", "request.pem", "leaf.pem"))
    (directory / "leaf.cnf").write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-keyout"]
    sign = ["openssl", "x509", "-req", "-days", "2", "-CAcreateserial", "-extfile", str(directory / "leaf.cnf")]
    for command in (
        [*new, str(directory / "ca.key"), "-x509", "-days", "2", "-subj", "/CN=rig CA", "-out", str(ca)],
        [*new, str(key), "-subj", "/CN=rig", "-out", str(request)],
        [*sign, "-in", str(request), "-CA", str(ca), "-CAkey", str(directory / "ca.key"), "-out", str(leaf)],
    ):
        subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf, key)
    index.socket = context.wrap_socket(index.socket, server_side=True)
    return ca


def from_index(user: User, installer: str, url: str, **params: t.Any) -> dict[str, t.Any]:
    return user.run(packages=PACKAGES, wheelhouse=None, index_url=url, installer=installer, **params)


@BOTH
def test_credentials_come_from_netrc_and_show_nowhere(user: User, installer: str) -> None:
    with serving(Index(user.wheelhouse, LOGIN)) as index:
        refused = from_index(user, installer, index.url())
        # pip does not say that it was refused, only that it found nothing.
        assert refused["reason"] == ("install-failed" if installer == "pip" else "download-failed"), refused
        assert "index requires credentials: put them into ~/.netrc" in refused["msg"]
        netrc = user.home / ".netrc"
        netrc.write_text("machine 127.0.0.1 login me password secret4711\n")
        netrc.chmod(0o600)
        done = from_index(user, installer, index.url())
    assert done.get("changed"), done
    written = [path for path in user.home.rglob("*") if path.is_file() and path != netrc]
    assert "secret4711" not in str(done) and not [path for path in written if b"secret4711" in path.read_bytes()]


@BOTH
def test_the_proxy_of_the_task_reaches_every_download(user: User, installer: str) -> None:
    with serving(Index(user.wheelhouse)) as proxy:
        user.environment["http_proxy"] = f"http://127.0.0.1:{proxy.server_address[1]}"
        user.environment["PIP_TRUSTED_HOST"] = "index.invalid"
        done = from_index(user, installer, "http://index.invalid/simple")
    assert done.get("changed"), done
    assert {path.rpartition("/")[2] for path in proxy.asked} >= {
        "vllm-0.26.0-py3-none-any.whl",
        "torch-2.11.0-py3-none-any.whl",
    }
    assert all(path.startswith("http://index.invalid/simple/") for path in proxy.asked)


@BOTH
@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_the_ca_bundle_of_the_task_is_trusted(user: User, installer: str, variable: str) -> None:
    index = Index(user.wheelhouse)
    bundle = with_tls(index, user.home)
    with serving(index):
        if variable == "SSL_CERT_FILE":
            refused = from_index(user, installer, index.url("https"))
            assert refused["reason"] == "download-failed" and "Name the CA bundle of your network" in refused["msg"], (
                refused
            )
        user.environment[variable] = str(bundle)
        done = from_index(user, installer, index.url("https"))
    assert done.get("changed"), done
