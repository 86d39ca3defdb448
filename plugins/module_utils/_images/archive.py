# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in an archive of an image, read before any engine reads it: the digests of one image, and no name.

An engine gives an image each name that its archive has, whoever else had that name before. So whoever gets an archive
from another host makes sure that there is none, and names the image himself.
"""

from __future__ import annotations

import hashlib
import json
import re
import tarfile
import typing as t

from .._errors import VllmError

LIMIT = 8 << 20
# What engines put beside a name into the annotations of an archive.
NAMES = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
BLOB = re.compile(r"(?:blobs/sha256/)?([0-9a-f]{64})(?:\.json)?")


def identities(path: str, image: str) -> tuple[str, ...]:
    """The ids by which engines know the one image of an archive: the digest of its configuration, and, where they keep
    images in containerd, that of its manifest or its index.

    Raises:
        VllmError: when it holds something else than one image without a name.
    """
    try:
        with tarfile.open(path, "r:") as archive:
            return _read(archive)
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise VllmError(
            f"Cannot use the archive of {image} in {path}: {str(error) or type(error).__name__}. Do not trust the host "
            "that it came from, and look at what its engine has under that name.",
            "download-failed",
        ) from None


def _read(archive: tarfile.TarFile) -> tuple[str, ...]:
    (described,) = _json(archive, "manifest.json")
    if described.get("RepoTags") or _has(archive, "repositories"):
        raise ValueError("it would give an image a name")
    config = BLOB.fullmatch(described["Config"])
    if not config or _digest(archive, described["Config"]) != config[1]:
        raise ValueError("its configuration is not what its name says")
    found = [f"sha256:{config[1]}"]
    index = _json(archive, "index.json") if _has(archive, "index.json") else {}
    for one in index.get("manifests") or ():
        annotations = one.get("annotations") or {}
        if any(annotations.get(name) for name in NAMES):
            raise ValueError("it would give an image a name")
        digest = BLOB.fullmatch(str(one["digest"]).partition("sha256:")[2])
        if not digest or _digest(archive, f"blobs/sha256/{digest[1]}") != digest[1]:
            raise ValueError("its manifest is not what its name says")
        found.append(f"sha256:{digest[1]}")
    return tuple(found)


def _has(archive: tarfile.TarFile, name: str) -> bool:
    return name in archive.getnames()


def _content(archive: tarfile.TarFile, name: str) -> bytes:
    stream = archive.extractfile(name)
    content = stream.read(LIMIT + 1) if stream else b""
    if not content or len(content) > LIMIT:
        raise ValueError(f"{name} is empty, or too large")
    return content


def _json(archive: tarfile.TarFile, name: str) -> t.Any:
    return json.loads(_content(archive, name))


def _digest(archive: tarfile.TarFile, name: str) -> str:
    return hashlib.sha256(_content(archive, name)).hexdigest()
