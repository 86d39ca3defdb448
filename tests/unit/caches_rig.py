# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives of compile caches, good and bad, and what a host is told of one."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
import typing as t
from pathlib import Path

Member = tuple[str, bytes, dict[str, t.Any]]

# With a time that a float would round.
TIME = "1700000000.123456789"


def directory(name: str, **more: t.Any) -> Member:
    return (name, b"", {"type": tarfile.DIRTYPE, "mode": 0o700, **more})


def file(name: str, content: bytes = b"code", **more: t.Any) -> Member:
    return (name, content, {"mode": 0o755, "pax_headers": {"mtime": TIME}, **more})


COMPILED: tuple[Member, ...] = (
    directory("cuda"),
    file("cuda/index"),
    directory("flashinfer"),
    file("flashinfer/sampling.so"),
    directory("vllm"),
    directory("vllm/torch_compile_cache"),
    file("vllm/torch_compile_cache/graph.py", b"graph" * 1000),
)


def member(one: Member) -> tarfile.TarInfo:
    """A member as an archive has it."""
    name, content, values = one
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in values.items():
        setattr(info, key, value)
    return info


def plain(members: t.Iterable[Member]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for one in members:
            archive.addfile(member(one), io.BytesIO(one[1]))
    return stream.getvalue()


def archived(path: Path, content: t.Iterable[Member] | bytes = COMPILED, **told: t.Any) -> dict[str, t.Any]:
    """Write an archive; what the controller tells of it. C(told) is told otherwise."""
    packed = gzip.compress(content if isinstance(content, bytes) else plain(content))
    path.write_bytes(packed)
    digest = hashlib.sha256(packed).hexdigest()
    return {"host": "canary", "archive": str(path), "sha256": digest, "size": len(packed), **told}
