# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP over a Unix socket for requests, as C(vllm serve --uds) offers it. No package beside requests is needed."""

from __future__ import annotations

import socket
import typing as t

if t.TYPE_CHECKING:
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool
else:
    try:
        from requests.adapters import HTTPAdapter
        from urllib3.connection import HTTPConnection
        from urllib3.connectionpool import HTTPConnectionPool
    except ImportError:
        # Without requests nothing is asked at all, and _health.session says so.
        HTTPAdapter = HTTPConnection = HTTPConnectionPool = object


class UnixConnection(HTTPConnection):
    """A connection to a path instead of a host; the host only shows in the request."""

    def __init__(self, path: str, timeout: t.Any) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout if isinstance(self.timeout, (int, float)) else None)
        self.sock.connect(self.path)


class UnixPool(HTTPConnectionPool):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self.path = path

    def _new_conn(self) -> UnixConnection:
        return UnixConnection(self.path, self.timeout.connect_timeout)


class UnixAdapter(HTTPAdapter):
    """Mounted for C(http://), sends every request of a session to one socket."""

    def __init__(self, path: str) -> None:
        self.pool = UnixPool(path)
        super().__init__()

    # requests 2.32 and later asks for the first, older ones for the second.
    def get_connection_with_tls_context(self, *_args: t.Any, **_kwargs: t.Any) -> UnixPool:
        return self.pool

    def get_connection(self, *_args: t.Any, **_kwargs: t.Any) -> UnixPool:
        return self.pool

    def request_url(self, request: t.Any, _proxies: t.Any) -> str:
        return str(request.path_url)

    def close(self) -> None:
        self.pool.close()
        super().close()
