# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a model consists of and which of it was verified, remembered by this user in his state directory.

With it, a model that is there costs a look at each file, however large it is: no network, and not one byte of weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import typing as t
from dataclasses import asdict, dataclass, field, replace

from .._deploy.ledger import STATE_REMEDY, VERSION, load, state_directory
from .._host import files
from .hub import SHA1, SHA256, Remote
from .repository import Identity, Repository
from .selection import Wish

KIND, DIRECTORY = "model", "models"


@dataclass(frozen=True)
class Manifest:
    """The files of a model at a commit. C(proved) holds, by digest, how a blob looked when it had that digest."""

    wish: Wish
    commit: str
    files: tuple[Remote, ...]
    source: str
    # What the repository has besides, in bytes.
    left_out: int = 0
    proved: t.Mapping[str, Identity] = field(default_factory=dict)
    # When it was whole first, in seconds since 1970.
    since: float | None = None

    def told(self) -> dict[str, t.Any]:
        """What other hosts have to know of it."""
        files_ = [{"path": file.path, "size": file.bytes, "digest": file.digest} for file in self.files]
        wish = {**asdict(self.wish), "include": list(self.wish.include), "model": self.wish.name}
        return {
            **wish,
            "directory": self.source,
            "commit": self.commit,
            "files": files_,
            "left_out_bytes": self.left_out,
        }

    def with_proof(self, digest: str, seen: Identity) -> Manifest:
        return replace(self, proved={**self.proved, digest: seen})


def directory() -> str:
    """Where this user's manifests are."""
    return os.path.join(state_directory(), DIRECTORY)


def _path(repository: Repository, wish: Wish) -> str:
    """One file for each cache and wish, so that two revisions of a model do not forget each other."""
    place = json.dumps([os.path.realpath(repository.hub), asdict(wish)])
    return os.path.join(directory(), f"{repository.name[:150]}.{hashlib.sha256(place.encode()).hexdigest()[:16]}.json")


def remembered(repository: Repository, wish: Wish) -> Manifest | None:
    """What is remembered of this wish; what cannot be believed is as good as nothing."""
    found = _loaded(_path(repository, wish))
    return found[1] if found and found[1].wish == wish else None


def everything() -> list[tuple[str, Manifest]]:
    """All that is remembered, each with the real path of its C(huggingface_dir)."""
    try:
        names = sorted(os.listdir(directory()))
    except OSError:
        return []
    found = (_loaded(os.path.join(directory(), name)) for name in names if name.endswith(".json"))
    return [one for one in found if one]


def remember(repository: Repository, manifest: Manifest) -> None:
    """Keep it for the next run.

    Raises:
        VllmError: when it cannot be written.
    """
    content = {
        "version": VERSION,
        "kind": KIND,
        "huggingface_dir": os.path.realpath(repository.huggingface_dir),
        **asdict(manifest),
        "proved": {digest: list(seen) for digest, seen in manifest.proved.items()},
    }
    try:
        os.makedirs(state_directory(), mode=0o755, exist_ok=True)
        os.makedirs(directory(), mode=0o700, exist_ok=True)
        path = _path(repository, manifest.wish)
        # A power cut may cost this file, which is a second verification then, and never a wrong belief: the blobs
        # themselves are on the disk before they are called proved.
        files.write_whole(path, json.dumps(content, indent=1).encode() + b"\n")
    except OSError as error:
        raise files.failure(f"record in {directory()} what was verified", error, STATE_REMEDY) from None


def forget(repository: Repository) -> None:
    """A model that is gone was never verified."""
    here = os.path.realpath(repository.huggingface_dir)
    for place, manifest in everything():
        if place == here and manifest.wish.model == repository.model:
            files.delete_file(_path(repository, manifest.wish))
    # Nothing of ours stays on a host that has no server either.
    with contextlib.suppress(OSError):
        os.rmdir(state_directory())


def _loaded(path: str) -> tuple[str, Manifest] | None:
    try:
        content = load(path)
        return _read(content) if content.get("kind") == KIND else None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _read(content: t.Mapping[str, t.Any]) -> tuple[str, Manifest]:
    """The manifest in a file, and its cache.

    Raises:
        ValueError: when it is not one; TypeError, KeyError and AttributeError likewise.
    """
    wish = Wish(**{**content["wish"], "include": tuple(content["wish"]["include"])})
    remotes = tuple(Remote(**one) for one in content["files"])
    if not remotes or not all(one.is_described and _is_digest(one.digest) for one in remotes):
        raise ValueError("a file has no digest")
    manifest = Manifest(
        wish,
        str(content["commit"]),
        remotes,
        str(content["source"]),
        int(content["left_out"]),
        {str(digest): _identity(seen) for digest, seen in content["proved"].items()},
        None if content["since"] is None else float(content["since"]),
    )
    return str(content["huggingface_dir"]), manifest


def _is_digest(digest: str) -> bool:
    return bool(SHA256.fullmatch(digest) or SHA1.fullmatch(digest))


def _identity(seen: t.Any) -> Identity:
    size, changed, number = seen
    return int(size), int(changed), int(number)
