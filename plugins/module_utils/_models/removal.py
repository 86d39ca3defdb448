# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model goes: only its own folder, and only when no server's record names it."""

from __future__ import annotations

import os
import typing as t

from .._deploy.ledger import Ledger
from .._deploy.used import models_of, why_to_keep
from .._errors import VllmError
from .._host import files
from . import manifest as manifests
from .plan import size
from .repository import Repository

Intent = t.Mapping[str, t.Any]


def recorded_servers() -> list[tuple[str, Intent]]:
    """The servers of this user on this host, on whatever engine, each with what it was made from.

    Raises:
        VllmError: when a record cannot be believed.
    """
    known = Ledger().known()
    if known.damaged:
        raise VllmError(next(iter(known.damaged.values())), "record-unreadable")
    return [(one.server, one.intent) for one in (*known.entries, *known.elsewhere)]


def users(repository: Repository, servers: t.Iterable[tuple[str, Intent]]) -> list[str]:
    """The names of the servers that load this model from this cache."""
    here = os.path.realpath(repository.huggingface_dir)
    found = {
        server
        for server, intent in servers
        if repository.model in models_of(intent) and os.path.realpath(str(intent.get("huggingface_dir") or "/")) == here
    }
    return sorted(found)


def bytes_in(folder: str) -> int:
    """The bytes of the files below a folder; links count as nothing."""
    total = 0
    for place, _directories, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            total += 0 if os.path.islink(path) else os.stat(path).st_size
    return total


def remove(repository: Repository, check_mode: bool) -> dict[str, t.Any]:
    """Remove the folder of a model, with all its revisions.

    Raises:
        VllmError: when a server uses it, or it is not a folder of its own; nothing was removed then.
    """
    there = os.path.lexists(repository.folder)
    if there:
        _refuse(repository)
    weight = bytes_in(repository.folder) if there else 0
    if not check_mode:
        if there:
            files.delete_directory(repository.folder)
        files.delete_directory(repository.locks)
        manifests.forget(repository)
    actions = [f"remove {repository.model} from {repository.huggingface_dir} ({size(weight)})"] if there else []
    diff = {"before": {repository.folder: {"bytes": weight}}, "after": {}} if there else {"before": {}, "after": {}}
    return {"changed": there, "finished": True, "actions": actions, "diff": diff, "removed_bytes": weight}


def _refuse(repository: Repository) -> None:
    servers = recorded_servers()
    why = why_to_keep(repository.huggingface_dir, repository.model, [intent for _name, intent in servers])
    names = users(repository, servers)
    if not why and not names:
        return
    whose = f"server {', '.join(names)} uses it" if names else why
    raise VllmError(
        f"Cannot remove {repository.model} from {repository.huggingface_dir}: {whose}. Remove the server first, or "
        f"delete {repository.folder} yourself.",
        "conflicting-server" if names else "permission-denied",
    )
