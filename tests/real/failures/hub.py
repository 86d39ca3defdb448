"""A Hugging Face Hub of one model, for downloads without the internet: hub.py PORT DIRECTORY [BYTES_PER_SECOND]

Serves what huggingface_hub asks for: the list of files, their metadata and their content.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import pathlib
import sys
import time
import typing as t

COMMIT = "0" * 40


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    directory: t.ClassVar[pathlib.Path]
    rate: t.ClassVar[float] = 0.0

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/api/models/"):
            self.send_json(self.listing(path), body)
            return
        file = self.directory / path.rpartition("/")[2]
        if "/resolve/" not in path or not file.is_file():
            self.send_json({"error": "Entry not found"}, body, 404, {"X-Error-Code": "EntryNotFound"})
            return
        self.send_response(200)
        self.send_header("Content-Length", str(file.stat().st_size))
        self.send_header("ETag", '"' + hashlib.sha1(file.name.encode()).hexdigest() + '"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.send_file(file)

    def send_file(self, file: pathlib.Path) -> None:
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                self.wfile.write(chunk)
                if self.rate:
                    time.sleep(len(chunk) / self.rate)

    def listing(self, path: str) -> t.Any:
        files = sorted(f for f in self.directory.iterdir() if f.is_file())
        if "/tree/" in path:
            return [{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0" * 40} for f in files]
        return {"id": "demo/model", "sha": COMMIT, "siblings": [{"rfilename": f.name} for f in files], "tags": []}

    def send_json(
        self, value: t.Any, body: bool, status: int = 200, headers: t.Mapping[str, str] | None = None
    ) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        for name, text in {"Content-Type": "application/json", "X-Repo-Commit": COMMIT, **(headers or {})}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: t.Any) -> None:
        pass


def serve(port: int, directory: str, rate: float = 0.0) -> http.server.ThreadingHTTPServer:
    handler = type("ModelHandler", (Handler,), {"directory": pathlib.Path(directory), "rate": rate})
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), handler)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]) if len(sys.argv) > 3 else 0.0).serve_forever()
