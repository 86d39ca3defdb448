# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A stand-in for the Hugging Face Hub with a store behind it, both of which misbehave on request, and a small model.

As a program, hub.py PORT MODEL FILE, it serves that model on 127.0.0.1; FILE holds its faults, as JSON, and is read anew
for each request.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import random
import sys
import threading
import time
import typing as t
import urllib.parse

MODEL, COMMIT, TOKEN = "org/small", "c0ffee" + 34 * "0", "hf_CANARYCANARYCANARY"
MOVED = "beef" + 36 * "1"
LOGIN = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>"
# Larger than what is read at once, so that a fault can hit the middle.
WEIGHT, CUT = 300_000, 100_000
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def safetensors(seed: str, count: int = WEIGHT) -> bytes:
    """A file of weights that is whole."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
    return len(header).to_bytes(8, "little") + header + random.Random(seed).randbytes(count)


def repository() -> dict[str, bytes]:
    """What a repository holds: a model in two shards, what describes it, and what no server reads."""
    return {
        "config.json": b'{"model_type": "small"}',
        "generation_config.json": b"{}",
        "tokenizer.json": b'{"version": "1.0"}',
        "chat_template.jinja": b"{{ messages }}",
        INDEX: json.dumps({"weight_map": {"a": SHARDS[0], "b": SHARDS[1]}}).encode(),
        **{name: safetensors(name) for name in SHARDS},
        "README.md": b"# Small\n",
        ".gitattributes": b"*.safetensors filter=lfs\n",
        "modeling_small.py": b"pass\n",
        "original/consolidated.00.safetensors": safetensors("original", 1000),
        "metal/model.bin": b"\0" * 1000,
    }


WANTED = ("chat_template.jinja", "config.json", "generation_config.json", *SHARDS, INDEX, "tokenizer.json")


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def is_large(path: str) -> bool:
    return path.endswith((".safetensors", ".bin", ".gguf"))


def digest(path: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if is_large(path) else git_sha1(content)


class Seen(t.NamedTuple):
    """One request: C(where) is hub or store."""

    where: str
    method: str
    path: str
    range: str
    if_range: str
    authorization: str | None


class Hub:
    """Serves a repository. C(faults) are taken one a request, by file name, or by C(api)."""

    def __init__(
        self, files: t.Mapping[str, bytes] | None = None, model: str = MODEL, port: int = 0, **faults: t.Sequence[str]
    ) -> None:
        self.model = model
        self.files = dict(repository() if files is None else files)
        self.commits = {"main": COMMIT, COMMIT: COMMIT}
        self.faults = {name: list(told) for name, told in faults.items()}
        # Whether the list of files tells their digests, and whether the model is open to everybody.
        self.tells, self.gated = True, False
        self.requests: list[Seen] = []
        self.released = threading.Event()
        self._servers = [_server(self, *one) for one in (("hub", "127.0.0.1", port), ("store", "127.0.0.2", 0))]
        self.url, self.store = (f"http://{one.server_address[0]}:{one.server_port}" for one in self._servers)

    def __enter__(self) -> Hub:
        self._threads = [threading.Thread(target=one.serve_forever, args=(0.01,)) for one in self._servers]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.released.set()
        for one, thread in zip(self._servers, self._threads):
            one.shutdown()
            thread.join()
            one.server_close()

    def asked(self, name: str = "", where: str = "") -> list[Seen]:
        return [one for one in self.requests if name in one.path and where in one.where]

    def fault(self, name: str) -> str:
        told = self.faults.get(name) or [""]
        return told.pop(0) if len(told) > 1 else told[0]


def _server(hub: Hub, where: str, host: str, port: int) -> http.server.ThreadingHTTPServer:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            header = self.headers.get
            seen = Seen(
                where, self.command, self.path, header("Range", ""), header("If-Range", ""), header("Authorization")
            )
            hub.requests.append(seen)
            _Answer(hub, self).give(where)

        do_HEAD = do_GET

        def log_message(self, *_arguments: object) -> None:
            pass

    return http.server.ThreadingHTTPServer((host, port), Handler)


class _Answer:
    """One answer of the hub or its store."""

    def __init__(self, hub: Hub, request: http.server.BaseHTTPRequestHandler) -> None:
        self.hub, self.request = hub, request
        self.words = urllib.parse.unquote(request.path.partition("?")[0]).strip("/").split("/")

    def give(self, where: str) -> None:
        if where == "store":
            name = "/".join(self.words)
            self._content(name, self.hub.files[name], self.hub.fault(name.rpartition("/")[2]))
        elif self.hub.gated and self.request.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._head(401, {"X-Error-Code": "GatedRepo"})
        elif self.words[0] == "api":
            self._listing()
        else:
            self._resolve()

    def _listing(self) -> None:
        model, revision = "/".join(self.words[2:4]), self.words[-1]
        fault = self.hub.fault("api")
        if fault:
            self._fault(fault, b"{}")
        elif model != self.hub.model:
            self._head(404, {"X-Error-Code": "RepoNotFound"})
        elif revision not in self.hub.commits:
            self._head(404, {"X-Error-Code": "RevisionNotFound"})
        else:
            siblings = [self._sibling(name, content) for name, content in self.hub.files.items()]
            self._whole(
                json.dumps({"id": self.hub.model, "sha": self.hub.commits[revision], "siblings": siblings}).encode()
            )

    def _sibling(self, name: str, content: bytes) -> dict[str, t.Any]:
        if not self.hub.tells:
            return {"rfilename": name}
        large = (
            {"lfs": {"sha256": digest(name, content), "size": len(content), "pointerSize": 130}}
            if is_large(name)
            else {}
        )
        return {"rfilename": name, "size": len(content), "blobId": git_sha1(content), **large}

    def _resolve(self) -> None:
        name = "/".join(self.words[4:])
        content = self.hub.files[name]
        headers = {
            "Location": f"{self.hub.store}/{name}?signature=x",
            "X-Linked-Size": str(len(content)),
            "X-Linked-Etag": f'"{digest(name, content)}"',
        }
        if is_large(name):
            self._head(302, headers)
        else:
            self._content(name, content, self.hub.fault(name.rpartition("/")[2]))

    def _content(self, name: str, content: bytes, fault: str) -> None:
        if fault:
            self._fault(fault, content)
        else:
            self._part(content, f'"{digest(name, content)}"')

    def _part(self, content: bytes, etag: str, stop: int | None = None, announced: int | None = None) -> None:
        """What was asked for from a file with that tag; up to C(stop), though more was announced."""
        wanted, condition = self.request.headers.get("Range", ""), self.request.headers.get("If-Range", etag)
        start = int(wanted[len("bytes=") : -1]) if wanted and condition == etag else 0
        headers = {"ETag": etag, "Content-Length": str(len(content) - start if announced is None else announced)}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        self._head(206 if start else 200, headers, content[start:stop])

    def _whole(self, body: bytes) -> None:
        self._head(200, {"Content-Length": str(len(body))}, body)

    def _head(self, status: int, headers: t.Mapping[str, str], body: bytes = b"") -> None:
        # The Hub's own client wants to know it.
        commit = self.words[3] if self.words[2:3] == ["resolve"] else ""
        self.request.send_response(status)
        for name, value in {"Content-Length": "0", "X-Repo-Commit": commit, **headers}.items():
            self.request.send_header(name, value)
        self.request.end_headers()
        if self.request.command != "HEAD":
            self.request.wfile.write(body)
            self.request.wfile.flush()

    def _fault(self, fault: str, content: bytes) -> None:
        kind, _colon, number = fault.partition(":")
        name = "/".join(self.words if self.request.server.server_address[0] == "127.0.0.2" else self.words[4:])
        tag = '"another"' if kind == "changed" else f'"{digest(name, content)}"'
        if kind in ("cut", "changed"):
            begin = int(self.request.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
            self._part(content, tag, stop=begin + CUT)
        elif kind == "stall":
            self._part(content, tag, stop=CUT)
            self.hub.released.wait(30)
        elif kind == "cut-small":
            self._part(content, tag, stop=5)
        elif kind == "mute":
            self.hub.released.wait(30)
        elif kind == "corrupt":
            self._part(b"x" + content[1:], tag)
        elif kind == "short":
            self._whole(content[:-10])
        elif kind == "html":
            self._whole(LOGIN)
        elif kind == "json":
            self._whole(number.encode())
        elif kind == "code":
            status, _slash, code = number.partition("/")
            self._head(int(status), {"X-Error-Code": code})
        elif kind == "wait":
            self._head(429, {"Retry-After": number})
        else:
            assert kind.isdigit(), fault
            self._head(int(kind), {})


def main(port: str, model: str, faults: str) -> None:
    """Serve until it is killed. Each request is a line on the standard output."""
    with Hub(model=model, port=int(port)) as hub:
        seen = 0
        while True:
            with open(faults, encoding="utf-8") as stream:
                hub.faults = json.load(stream)
            for one in hub.requests[seen:]:
                print(one.method, one.where, one.path, one.range, flush=True)
                seen += 1
            time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
