# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which environments of a host are this user's: an entry of the record for each, and the seal in its directory.

An entry is written before its directory is made, with a random seal that is the first thing written into the directory.
So a directory is ours when an entry names its path and the seal in it is that of the entry; whatever else has the name
of an environment is somebody else's.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import stat
import typing as t
from dataclasses import asdict, dataclass, field, fields, replace

from .._deploy.ledger import Ledger
from .._errors import VllmError
from .._host import files

KIND = "environment"
# What the collection keeps in an environment, beside what Python and the installer do.
OWN = ".gpufleet"
SEAL = "seal"
SEAL_BYTES = 64
# Every process of a build has the seal of its environment, so that what a killed run left of it is found.
MARK = "GPUFLEET_BUILD"

State = t.Literal["building", "built", "removing"]
STATES: tuple[State, ...] = ("building", "built", "removing")


@dataclass(frozen=True)
class Entry:
    """One environment that this user's runs made, or began to make."""

    path: str
    digest: str
    seal: str
    state: State = "building"
    # The servers that use it, as they told. One that nobody ever named is kept until somebody takes it away.
    users: tuple[str, ...] = ()
    # What was asked for, as Wish.to_dict() has it.
    wish: t.Mapping[str, t.Any] = field(default_factory=dict)
    # What was found in it when it was proved: vllm, torch, cuda, python; and who installed it.
    proved: t.Mapping[str, t.Any] = field(default_factory=dict)
    # The sha256 of its lock file, and of what lies in it.
    lock: str = ""
    contents: str = ""
    # The directories above it that were made for it or its neighbours, the outermost first.
    made: tuple[str, ...] = ()

    @property
    def own(self) -> str:
        """The directory in it that holds what is the collection's."""
        return os.path.join(self.path, OWN)


def entry(path: str, digest: str, **known: t.Any) -> Entry:
    """A new entry, with a seal of its own."""
    return Entry(path, digest, secrets.token_hex(SEAL_BYTES // 2), **known)


class Record:
    """The environments in the record of one user."""

    def __init__(self, state_directory: str | None = None) -> None:
        self.ledger = Ledger(state_directory)

    def entries(self, root: str | None = None) -> list[Entry]:
        """Those below one root, or all, by path.

        Raises:
            VllmError: when an entry cannot be believed.
        """
        known, damaged = self.ledger.others(KIND)
        for name, why in damaged.items():
            raise _damaged(self.ledger.path_of_other(KIND, name), why)
        found = [_entry(self.ledger.path_of_other(KIND, name), name, content) for name, content in known.items()]
        return sorted((one for one in found if root in (None, os.path.dirname(one.path))), key=lambda one: one.path)

    def of(self, digest: str, root: str) -> list[Entry]:
        """Those that were made for one wish."""
        return [one for one in self.entries(root) if one.digest == digest]

    def current(self, one: Entry) -> Entry | None:
        """An entry as it is written now; None when it is gone."""
        return next((now for now in self.entries() if now.seal == one.seal), None)

    def write(self, one: Entry) -> Entry:
        """Keep an entry, or a newer version of it.

        Raises:
            VllmError: when it cannot be written.
        """
        self.ledger.write_other(KIND, f"{one.digest}.{one.seal}", asdict(one))
        return one

    def drop(self, one: Entry) -> None:
        """Forget an entry; when that fails the next run does it."""
        self.ledger.drop_other(KIND, f"{one.digest}.{one.seal}")


def with_user(one: Entry, user: str) -> Entry:
    """The entry of an environment that a server uses from now on."""
    return replace(one, users=tuple(sorted({*one.users, user})))


def without_user(one: Entry, user: str) -> Entry:
    """The entry of an environment that a server does not use any more."""
    return replace(one, users=tuple(name for name in one.users if name != user))


# --- whose a directory is ---------------------------------------------------------------------------------------------


def is_ours(one: Entry) -> bool:
    """Whether the directory at the path of an entry is the one that it was written for."""
    try:
        if not stat.S_ISDIR(os.lstat(one.path).st_mode):
            return False
    except OSError:
        return False
    found = files.read(os.path.join(one.own, SEAL), SEAL_BYTES + 1)
    return found == one.seal.encode() or (one.state != "built" and _is_bare(one, found))


def _is_bare(one: Entry, seal: bytes | None) -> bool:
    """Whether it holds nothing but a beginning of the seal: a run was killed while it made or removed the directory."""
    try:
        within = [name for path in (one.path, one.own) if os.path.isdir(path) for name in os.listdir(path)]
    except OSError:
        return False
    return set(within) <= {OWN, SEAL} and one.seal.encode().startswith(seal or b"")


def make(one: Entry) -> None:
    """Make the directory of an entry that is written already.

    Raises:
        OSError: when it is there, or cannot be made.
    """
    os.mkdir(one.path, 0o755)
    os.mkdir(one.own, 0o755)
    descriptor = os.open(os.path.join(one.own, SEAL), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(one.seal.encode())
        stream.flush()
        os.fsync(stream.fileno())


def unmake(one: Entry) -> None:
    """Delete the directory of an entry, the seal last: what is left of it by a killed run is still known as ours.

    What is not ours is left alone. Then go the directories above it that were made for it, as far as they are empty.

    Raises:
        OSError: when something in it cannot be deleted.
    """
    if not is_ours(one):
        return
    for keeping, path in ((OWN, one.path), (SEAL, one.own)):
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(path):
                if name != keeping:
                    _delete(os.path.join(path, name))
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(one.own, SEAL))
    for path in (one.own, one.path):
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(path)
    with contextlib.suppress(OSError):
        for path in reversed(one.made):
            os.rmdir(path)


def _delete(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        os.unlink(path)


# --- reading ----------------------------------------------------------------------------------------------------------


def _entry(path: str, name: str, content: t.Mapping[str, t.Any]) -> Entry:
    known = {one.name: content[one.name] for one in fields(Entry) if one.name in content}
    lists = {key: known.get(key, []) for key in ("users", "made")}
    is_right = (
        all(isinstance(known.get(key, ""), str) for key in ("path", "digest", "seal", "lock", "contents"))
        and all(isinstance(known.get(key, {}), dict) for key in ("wish", "proved"))
        and all(isinstance(value, list) and all(isinstance(one, str) for one in value) for value in lists.values())
        and known.get("state") in STATES
        and os.path.isabs(known.get("path", ""))
        and len(known.get("seal", "")) == SEAL_BYTES
        and name == f"{known.get('digest')}.{known.get('seal')}"
    )
    if not is_right:
        raise _damaged(path, f"Cannot read {path}: it is not a complete entry of an environment.")
    return Entry(**{**known, **{key: tuple(value) for key, value in lists.items()}})


def _damaged(path: str, why: str) -> VllmError:
    return VllmError(
        f"{why} Without it, it is unknown which environments are this user's, so none is built or removed. Restore "
        f"{path} from a backup, or remove it, and the environment's directory yourself.",
        "record-unreadable",
    )
