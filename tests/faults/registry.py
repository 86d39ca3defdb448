# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""registry.py IMAGE: a registry on 127.0.0.1:5000 of a simulated host, with that image of its engine under any name."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import subprocess
import sys
import tarfile
import typing as t

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar"
blobs: dict[str, bytes] = {}


def keep(kind: str, blob: bytes) -> dict[str, t.Any]:
    """What a manifest says of a blob."""
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    blobs[digest] = blob
    return {"mediaType": kind, "size": len(blob), "digest": digest}


def archived(name: str, content: bytes) -> bytes:
    """An archive with one file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


class Image:
    """An image of the engine under any tag. Each has a layer of its own, so that there is something to pull each time."""

    def __init__(self, name: str) -> None:
        saved = subprocess.run(["docker", "save", name], stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(saved)) as archive:
            (index,) = json.loads(self._read(archive, "manifest.json"))
            self.config = json.loads(self._read(archive, index["Config"]))
            self.layers = [keep(LAYER, self._read(archive, layer)) for layer in index["Layers"]]

    def _read(self, archive: tarfile.TarFile, name: str) -> bytes:
        member = archive.extractfile(name)
        return member.read() if member else b""

    def manifest(self, tag: str) -> bytes:
        """The manifest of a tag; its parts are kept, and so is itself."""
        layer = keep(LAYER, archived("etc/tag", tag.encode()))
        rootfs = {**self.config["rootfs"], "diff_ids": [*self.config["rootfs"]["diff_ids"], layer["digest"]]}
        config = keep(CONFIG, json.dumps({**self.config, "rootfs": rootfs, "history": []}).encode())
        told = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [*self.layers, layer]}
        manifest = json.dumps(told).encode()
        keep(MANIFEST, manifest)
        return manifest


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    image: t.ClassVar[Image]

    def do_GET(self) -> None:
        kind, what = self.path.split("/")[-2:]
        found = blobs.get(what, b"{}")
        if kind == "manifests" and what not in blobs:
            found = self.image.manifest(what)
        self.send_response(200)
        self.send_header("Content-Type", MANIFEST if kind == "manifests" else "application/octet-stream")
        self.send_header("Content-Length", str(len(found)))
        self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(found).hexdigest()}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(found)

    do_HEAD = do_GET


if __name__ == "__main__":
    Handler.image = Image(sys.argv[1])
    http.server.ThreadingHTTPServer(("127.0.0.1", 5000), Handler).serve_forever()
