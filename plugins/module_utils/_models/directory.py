# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model in a plain directory, such as one that was trained there: which files it has, each hashed once."""

from __future__ import annotations

import hashlib
import json
import os
import typing as t
from dataclasses import replace

from .._deploy.weights import INDEX_LIMIT
from .._errors import VllmError
from .._host import download, files
from . import manifest as manifests
from .hub import Remote
from .manifest import Manifest
from .parameters import Params, wish_of
from .repository import Identity, Repository, identity
from .selection import AUTO, choose

# What tells which files of a directory are those of the model, with the defaults of the module.
WISH: dict[str, t.Any] = {"revision": "main", "format": AUTO, "custom_code": False, "include": []}
SOUND = {"connections": 1, "attempts": 1, "timeout": 1, "bandwidth_limit": None}


def described(entry: Params, remembers: bool = True) -> tuple[Manifest, dict[str, str]]:
    """What a model in a directory consists of, and the real path of each file by its digest.

    A file that looks as it did when it was hashed is not hashed again. C(remembers) keeps that for the next run.

    Raises:
        VllmError: when it is no model, or cannot be read.
    """
    said = {key: entry.get(key) or default for key, default in WISH.items()}
    wish = wish_of({"model": str(entry["model"]), **said, **SOUND})
    root = _root(str(entry["directory"]), wish.name)
    there = dict(_files(root))
    index_name = wish.format_of(list(there)).index
    index = _index(there[index_name]) if index_name in there else None
    names = choose(wish, list(there), index)
    repository = Repository(root, wish.model)
    known = manifests.remembered(repository, wish)
    digests = {seen: digest for digest, seen in (known.proved if known else {}).items()}
    hashed = {name: _hashed(there[name], digests) for name in names}
    remotes = tuple(Remote(name, seen[0], digest) for name, (digest, seen) in hashed.items())
    # A commit is a name for what the files hold: the same files have the same one on each controller.
    told = json.dumps([[file.path, file.digest] for file in remotes]).encode()
    commit = hashlib.new("sha1", told, usedforsecurity=False).hexdigest()
    left_out = sum(os.path.getsize(path) for name, path in there.items() if name not in hashed)
    found = Manifest(wish, commit, remotes, root, left_out, dict(hashed.values()))
    if remembers and (known is None or replace(known, since=None) != found):
        manifests.remember(repository, found)
    return found, {digest: there[name] for name, (digest, _seen) in hashed.items()}


def _root(directory: str, name: str) -> str:
    if not os.path.isabs(directory) or not os.path.isdir(directory):
        raise VllmError(
            f"directory of {name} must be an absolute path of a directory on the controller; {directory!r} is none.",
            "path-missing",
        )
    return os.path.realpath(directory)


def _files(root: str) -> t.Iterator[tuple[str, str]]:
    """The regular files below a directory, by their paths in it, each with its real path; nothing hidden."""
    for place, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            path = os.path.realpath(os.path.join(place, name))
            if not name.startswith(".") and os.path.isfile(path):
                yield os.path.relpath(os.path.join(place, name), root), path


def _index(path: str) -> t.Mapping[str, t.Any]:
    try:
        value = json.loads(files.read(path, INDEX_LIMIT) or b"")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _hashed(path: str, known: t.Mapping[Identity, str]) -> tuple[str, Identity]:
    """The sha256 of a file, and what it looked like before it was read."""
    with download.on_disk(f"read {path}"), open(path, "rb", 0) as stream:
        seen = identity(path)
        if seen is None:
            raise FileNotFoundError(2, "it is gone", path)
        if seen in known:
            return known[seen], seen
        expected = download.Expected(seen[0], "")
        return expected.digest_of(stream), seen
