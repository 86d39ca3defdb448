# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in the Hugging Face caches of a host: which models, whole or not, since when, how large, who uses them."""

from __future__ import annotations

import contextlib
import os
import re
import time
import typing as t

from .._deploy import weights
from . import manifest as manifests
from .manifest import Manifest
from .plan import size
from .removal import Intent, bytes_in, recorded_servers, users
from .repository import Repository, identity

Row = dict[str, t.Any]
FOLDER = re.compile(r"models--(?P<name>[\w.-]+)")


def survey(directories: t.Sequence[str]) -> list[Row]:
    """A row for each model in these caches; without any, in those that servers and this user's runs named, and in the
    one of this user's home. Nothing is hashed.

    Raises:
        VllmError: when a server's record cannot be believed.
    """
    servers, known = recorded_servers(), manifests.everything()
    places = directories or _known_places(servers, known)
    found = sorted({os.path.realpath(place) for place in places if os.path.isabs(place)})
    return [row for place in found for row in _rows(place, servers, known)]


def _known_places(servers: t.Iterable[tuple[str, Intent]], known: t.Iterable[tuple[str, Manifest]]) -> list[str]:
    home = os.environ.get("HF_HOME") or os.path.join(os.path.expanduser("~"), ".cache", "huggingface")
    named = [str(intent.get("huggingface_dir") or "") for _server, intent in servers]
    return [home, *named, *(place for place, _manifest in known)]


def _rows(
    place: str, servers: t.Sequence[tuple[str, Intent]], known: t.Sequence[tuple[str, Manifest]]
) -> t.Iterator[Row]:
    for name in _listed(os.path.join(place, "hub")):
        folder = FOLDER.fullmatch(name)
        if folder:
            repository = Repository(place, folder["name"].replace("--", "/", 1))
            mine = [one for where, one in known if where == place and one.wish.model == repository.model]
            yield _row(repository, mine, users(repository, servers))


def _row(repository: Repository, known: t.Sequence[Manifest], servers: list[str]) -> Row:
    revisions = [_revision(repository, name, known) for name in _revisions(repository)]
    return {
        "model": repository.model,
        "huggingface_dir": repository.huggingface_dir,
        "revisions": revisions,
        "whole": bool(revisions) and all(one["whole"] for one in revisions),
        "bytes": bytes_in(repository.folder),
        "age_days": _age_days(repository, time.time()),
        "servers": servers,
    }


def _age_days(repository: Repository, now: float) -> int:
    """Whole days since a file of the model came last. When one was read is not known: looking at a cache reads it."""
    blobs = os.path.join(repository.folder, "blobs")
    newest = 0.0
    for path in (repository.folder, *(os.path.join(blobs, name) for name in _listed(blobs))):
        with contextlib.suppress(OSError):
            newest = max(newest, os.stat(path).st_mtime)
    return max(0, int((now - newest) // 86400))


def _listed(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _revisions(repository: Repository) -> list[str]:
    """The names of branches and tags, and the commits that have none."""
    root = os.path.join(repository.folder, "refs")
    named = sorted(
        os.path.relpath(os.path.join(place, name), root) for place, _below, there in os.walk(root) for name in there
    )
    commits = {weights.find(repository.model, repository.huggingface_dir, name).revision for name in named}
    snapshots = _listed(os.path.join(repository.folder, "snapshots"))
    return [*named, *(commit for commit in snapshots if commit not in commits)]


def _revision(repository: Repository, name: str, known: t.Sequence[Manifest]) -> Row:
    found = weights.find(repository.model, repository.huggingface_dir, name)
    mine = [
        one for one in known if one.wish.revision == name and one.since is not None and one.commit == found.revision
    ]
    verified = [one for one in mine if _is_verified(repository, one)]
    since = min((one.since for one in verified if one.since), default=_changed(repository, name))
    problems = [*found.damaged, *(f"{missing} is missing" for missing in found.missing)]
    return {
        "revision": name,
        "commit": found.revision,
        "whole": bool(verified) or found.complete,
        "verified": bool(verified),
        "since": since and time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since)),
        "problems": [] if verified else problems,
    }


def _is_verified(repository: Repository, manifest: Manifest) -> bool:
    def is_as_it_was(digest: str) -> bool:
        seen = identity(repository.blob(digest))
        return seen is not None and manifest.proved.get(digest) == seen

    return all(
        is_as_it_was(file.digest) and repository.is_linked(manifest.commit, file.path, file.digest)
        for file in manifest.files
    )


def _changed(repository: Repository, name: str) -> float | None:
    for path in (repository.reference(name), repository.snapshot(name)):
        try:
            return os.stat(path).st_mtime
        except (OSError, ValueError):
            continue
    return None


def lines(rows: t.Sequence[Row]) -> list[str]:
    """The rows for people, a line for each revision."""
    if not rows:
        return ["no models in the Hugging Face caches of this host"]
    return [_line(row, revision) for row in rows for revision in row["revisions"] or [None]]


def _line(row: Row, revision: Row | None) -> str:
    used = f"used by {', '.join(row['servers'])}" if row["servers"] else "used by no server"
    where = f"in {row['huggingface_dir']}, {size(row['bytes'])}, {used}"
    if revision is None:
        return f"{row['model']}: incomplete (no revision), {where}"
    state = "complete, verified" if revision["verified"] else "complete" if revision["whole"] else "incomplete"
    why = f" ({'; '.join(revision['problems'][:2])})" if revision["problems"] else ""
    since = f" since {revision['since']}" if revision["whole"] and revision["since"] else ""
    return f"{row['model']} at {revision['revision']}: {state}{why}{since}, {where}"
