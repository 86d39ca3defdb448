# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""hostile_server.py: servers on 9001 to 9003 that are nothing to wait for, until they are killed.

9001 answers without an end, 9002 a byte at a time, 9003 with what a terminal would obey.
"""

from __future__ import annotations

import http.server
import json
import threading
import time

MODEL = "\x1b]0;pwned\x07\x1b[2J\u202eqwen{{ lookup('pipe', 'touch /root/pwned') }}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        kind = self.server.server_address[1]
        self.send_response(200)
        self.end_headers()
        if kind == 9001:
            while True:
                self.wfile.write(b"{" * 65536)
        if kind == 9002:
            while True:
                self.wfile.write(b" ")
                time.sleep(0.2)
        self.wfile.write(json.dumps({"data": [{"id": MODEL}]}).encode())

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


servers = [http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) for port in (9001, 9002, 9003)]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever, daemon=True).start()
servers[0].serve_forever()
