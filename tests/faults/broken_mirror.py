# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""broken_mirror.py cut|corrupt DIRECTORY: a mirror of its files on 127.0.0.1:9000, that breaks off halfway or errs in a byte."""

from __future__ import annotations

import http.server
import sys
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = (Path(sys.argv[2]) / Path(self.path).name).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if sys.argv[1] == "cut" else content[:-1] + b"?")


http.server.ThreadingHTTPServer(("127.0.0.1", 9000), Handler).serve_forever()
