# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What this user's servers own on this host: the record that proves it, a file a thing in a directory of that user.

Labels prove nothing: an image brings its own, and a commit copies those of a container. An entry is written before a
container is made, with a random seal that the container gets as a label; once the engine has told its id, the id is in
the entry, and the seal counts no more. Only C(Ledger) touches the disk.
"""

from __future__ import annotations

import contextlib
import datetime
import functools
import json
import os
import re
import secrets
import stat
import typing as t
from dataclasses import asdict, dataclass, field, fields, replace

from .._errors import VllmError
from .._host import files

STATE_NAME = "gpufleet.vllm"
SYSTEM_STATE = "/var/lib"
STATE_REMEDY = "Run with become: true, or let XDG_STATE_HOME name a directory this user may write to."
OWNED = "owned"
VERSION = 1
FILE_LIMIT = 1 << 20
# Further kinds (CLAIM: GPUs that a run has chosen) share the directory; whoever does not know a kind skips it.
CONTAINER, UNIT, COMMITTED, CLAIM = "container", "unit", "committed", "gpus"
# Where units are; containers are on an engine, which has an address.
SYSTEMD = "systemd"
# What a secret's file held before the first server wrote into it: somebody's own, until that server goes.
ORIGINAL = ".before-gpufleet"
# How a directory of caches is called that is not whole yet.
PARTIAL = ".carried"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,200}")

# What is compiled is a server's C(cache), or C(kernels) of its image: these are of each server that has an entry.
Purpose = t.Literal["server", "fetch", "probe", "adopted", "files", "cache", "kernels", "user", "program"]
PURPOSES: tuple[Purpose, ...] = ("server", "fetch", "probe", "adopted", "files", "cache", "kernels", "user", "program")


def state_directory() -> str:
    """Where this user keeps what the collection remembers of a host."""
    if os.geteuid() == 0 and os.access(SYSTEM_STATE, os.W_OK):
        return os.path.join(SYSTEM_STATE, STATE_NAME)
    said = os.environ.get("XDG_STATE_HOME", "")
    home = os.path.expanduser("~")
    # A user without a home is told that it cannot be written.
    default = os.path.join(home if os.path.isabs(home) else "/", ".local", "state")
    return os.path.join(said if os.path.isabs(said) else default, STATE_NAME)


@dataclass(frozen=True)
class Entry:
    """One thing that a server owns: a container or a unit, files that were written for it, a volume, a user."""

    server: str
    seal: str
    purpose: Purpose = "server"
    # The name that it was made with; one of a server changes its slot.
    name: str = ""
    # The id that the engine gave it; empty until that is known.
    identity: str = ""
    fingerprint: str | None = None
    # What the digests of its secrets in the fingerprint are made with. The fingerprint is a label, which others may
    # read; this is nowhere but here, so nobody can try out what the secrets may be.
    salt: str = ""
    intent: t.Mapping[str, t.Any] = field(default_factory=dict)
    supersedes: tuple[str, ...] = ()
    # Secret files that were written for it; and of these the ones whose former content is kept for their owner.
    wrote: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    vllm_version: str | None = None
    fallbacks: t.Any = None
    # When it was told to stop, in UTC (ISO 8601): from then on it answers nobody, and it may take its time.
    stopping_since: str = ""
    # What its next start is called, where what runs it forgets when it stopped: for that one alone the time counts.
    started_as: str = ""
    # Seconds that a start of it may take, where whoever deployed it said so.
    start_seconds: float = 0
    # Of what is compiled: whether a start that was healthy has filled it.
    filled: bool = False
    # Whether that is what another host has compiled, and no start with it was committed yet.
    carried: bool = False
    # The engine that it is on, by its address: what another one of this host has is not gone because this one lacks it.
    place: str = ""

    def is_called(self, name: str, suffixes: t.Iterable[str]) -> bool:
        """Whether its container may have that name; one of a server changes its slot, and with it its suffix."""
        if self.purpose in ("server", "adopted"):
            return any(name == self.server + suffix for suffix in suffixes)
        return self.purpose in ("fetch", "probe") and name == self.name


def entry(server: str, purpose: Purpose, **known: t.Any) -> Entry:
    """A new entry, with a seal of its own."""
    return Entry(server, secrets.token_hex(16), purpose, **known)


def now_text() -> str:
    """The time, as C(stopping_since) has it."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="microseconds")


def new_salt() -> str:
    """A salt for the secrets of a server that has none."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Known:
    """All entries of a user, as they were read."""

    entries: tuple[Entry, ...] = ()
    # Those of other engines.
    elsewhere: tuple[Entry, ...] = ()
    # Why those of a server cannot be believed, by server.
    damaged: t.Mapping[str, str] = field(default_factory=dict)

    def entry_of(self, name: str, identity: str, seal: str | None, suffixes: t.Collection[str]) -> Entry | None:
        """The entry that proves a container to be ours, by the name that it has now and its id.

        The seal counts only as long as nobody wrote the id down, and under the name that the container was made with.
        """
        for one in self.entries:
            if not one.is_called(name, suffixes):
                continue
            if one.identity and one.identity == identity:
                return one
            if not one.identity and one.name == name and seal and secrets.compare_digest(one.seal, seal):
                return one
        return None

    def refuse_damaged(self, server: str) -> None:
        """Leave a server alone of which nobody knows what belongs to it.

        Raises:
            VllmError: says which file of the record cannot be believed, and why.
        """
        if server in self.damaged:
            raise VllmError(self.damaged[server], "record-unreadable")

    def is_cold(self, caches: t.Collection[str]) -> bool:
        """Whether a start that reads and fills these still has something to compile."""
        return not caches or not {*caches} <= {one.name for one in self.entries if one.filled}

    def is_unproven(self, caches: t.Collection[str]) -> bool:
        """Whether a server has in these what another host has compiled, and was not committed with it."""
        return any(one.carried and one.purpose == "cache" and one.name in caches for one in self.entries)

    def of(self, server: str, *purposes: Purpose) -> list[Entry]:
        """The entries of a server, by default for every purpose."""
        return [one for one in self.entries if one.server == server and (not purposes or one.purpose in purposes)]

    @property
    def servers(self) -> set[str]:
        """The names of all servers, also of those whose entries cannot be believed."""
        return {one.server for one in self.entries} | {*self.damaged}


class Ledger:
    """The record of one user, below C(directory); what is written is of the engine with the address C(place)."""

    def __init__(self, directory: str | None = None, place: str = "", owner: int | None = None) -> None:
        self.place = place
        # Root may read the record of somebody else.
        self.owner = os.geteuid() if owner is None else owner
        self.state = directory or state_directory()
        self.directory = os.path.join(self.state, OWNED)

    def known(self) -> Known:
        """What is recorded.

        Raises:
            VllmError: when others may have written it.
        """
        entries, damaged = [], {}
        for name in self._names():
            found = self._cached(name)
            if isinstance(found, str):
                damaged[name[: -len(".json")].rpartition(".")[0]] = found
            elif found:
                entries.append(found)
        here = tuple(one for one in entries if one.place == self.place)
        return Known(here, tuple(one for one in entries if one.place != self.place), damaged)

    def write(self, one: Entry) -> None:
        """Keep an entry, or a newer version of it.

        Raises:
            VllmError: when it cannot be written.
        """
        kind = UNIT if self.place == SYSTEMD else CONTAINER
        self._write(f"{one.server}.{one.seal}.json", {"kind": kind, **asdict(replace(one, place=self.place))})

    def fill(self, server: str, caches: t.Collection[str], carried: bool = False) -> None:
        """Remember that a start that was healthy has compiled what is in these, here or where they are C(carried) from.

        Raises:
            VllmError: when it cannot be written.
        """
        for one in self.known().of(server, "cache", "kernels"):
            if one.name in caches and (one.carried != carried or not one.filled):
                self.write(replace(one, filled=True, carried=carried))

    def drop(self, one: Entry) -> None:
        """Forget an entry; when that fails the next run does it."""
        self._remove(f"{one.server}.{one.seal}.json")

    def committed(self, server: str) -> dict[str, t.Any]:
        """The committed spec of a server (C(committed)) and the one before (C(previous)), as far as they are known."""
        try:
            content = load(os.path.join(self.directory, f"{server}.{COMMITTED}.json"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if content.get("kind") == COMMITTED else {}

    def commit(self, server: str, spec: t.Mapping[str, t.Any]) -> None:
        """Keep the spec that was committed, and the one before.

        Raises:
            VllmError: when it cannot be written.
        """
        before = self.committed(server)
        if before.get("committed") == dict(spec):
            return
        history = {"kind": COMMITTED, "server": server, "committed": spec, "previous": before.get("committed")}
        self._write(f"{server}.{COMMITTED}.json", history)

    def others(self, kind: str) -> tuple[dict[str, dict[str, t.Any]], dict[str, str]]:
        """What is recorded of a later kind, by name, and why the rest of it cannot be believed.

        Raises:
            VllmError: when others may have written the record.
        """
        known, damaged = {}, {}
        for file in self._names():
            if not file.startswith(f"{kind}."):
                continue
            name, path = file[len(kind) + 1 : -len(".json")], os.path.join(self.directory, file)
            try:
                content = load(path, self.owner)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, TypeError, RecursionError) as error:
                damaged[name] = f"Cannot read {path}: {_seen(error)}."
                continue
            if content.get("kind") == kind:
                known[name] = content
        return known, damaged

    def path_of_other(self, kind: str, name: str) -> str:
        """The file of a thing of a later kind."""
        return os.path.join(self.directory, f"{kind}.{name}.json")

    def write_other(self, kind: str, name: str, content: t.Mapping[str, t.Any]) -> None:
        """Keep a thing of a later kind.

        Raises:
            VllmError: when it cannot be written.
        """
        self._write(os.path.basename(self.path_of_other(kind, name)), {**content, "kind": kind})

    def drop_other(self, kind: str, name: str) -> None:
        """Forget a thing of a later kind."""
        self._remove(os.path.basename(self.path_of_other(kind, name)))

    def forget(self, server: str) -> None:
        """A server that is gone has no history."""
        self._remove(f"{server}.{COMMITTED}.json")

    def _remove(self, name: str) -> None:
        """Remove a file, and with the last one the directories: nothing of ours stays on a host."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self.directory, name))
        with contextlib.suppress(OSError):
            os.rmdir(self.directory)
            os.rmdir(self.state)

    def _names(self) -> list[str]:
        try:
            self._refuse_unsafe()
            return sorted(name for name in os.listdir(self.directory) if name.endswith(".json") and name[0] != ".")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise VllmError(
                f"Cannot read {self.directory}, the record of what this user's servers own: {error.strerror}. Let "
                "this user read it, or run as the user who deploys on this host.",
                "record-unreadable",
            ) from None

    def _refuse_unsafe(self) -> None:
        """What others can write to proves nothing."""
        for path, forbidden in ((self.state, 0o022), (self.directory, 0o077)):
            found = os.lstat(path) if path == self.directory else os.stat(path)
            if not stat.S_ISDIR(found.st_mode):
                seen, remedy = "it is not a directory", "Move it away"
            elif found.st_uid != self.owner:
                seen, remedy = f"it belongs to user {found.st_uid}", "Give it to this user, or run as that one"
            elif stat.S_IMODE(found.st_mode) & forbidden:
                mode = 0o777 & ~forbidden
                seen, remedy = f"its mode is {stat.S_IMODE(found.st_mode):04o}", f"Run: chmod {mode:o} {path}"
            else:
                continue
            raise VllmError(
                f"Cannot trust {path}, where this user's servers are recorded: {seen}, so others may have written "
                f"it. {remedy}, once you have looked at what is in it. Nothing was stopped or changed.",
                "record-unreadable",
            )

    def _cached(self, name: str) -> Entry | None | str:
        path = os.path.join(self.directory, name)
        try:
            found = os.lstat(path)
        except OSError:
            return None  # Another run has dropped it.
        return _read(
            path, name, self.owner, (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode, found.st_uid)
        )

    def _write(self, name: str, content: t.Mapping[str, t.Any]) -> None:
        try:
            os.makedirs(self.state, mode=0o755, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.directory, 0o700)
            self._refuse_unsafe()
            text = json.dumps({"version": VERSION, **content}, indent=1)
            files.write_whole(os.path.join(self.directory, name), text.encode() + b"\n", durable=True)
        except (OSError, ValueError, TypeError) as error:
            attempt = f"record in {self.directory} what the server owns"
            raise files.failure(attempt, error, STATE_REMEDY) from None


def load(path: str, owner: int | None = None) -> dict[str, t.Any]:
    """The JSON of a file of that user alone, by default of this one.

    Raises:
        ValueError: says what is wrong with it.
    """
    # A pipe must not keep anybody waiting, and a link leads to what others may have written.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not a regular file")
        if found.st_uid != (os.geteuid() if owner is None else owner) or stat.S_IMODE(found.st_mode) & 0o022:
            raise ValueError("others may have written it")
        content = json.loads(stream.read(FILE_LIMIT))
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON mapping")
    version = content.get("version")
    if isinstance(version, int) and version > VERSION:
        raise ValueError(f"it is of version {version}, and this gpufleet.vllm knows {VERSION}: install a newer one")
    if version != VERSION or isinstance(version, bool):
        raise ValueError("it has no version")
    return content


# Each run looks at the record several times, and for each backend by itself.
@functools.lru_cache(maxsize=1024)
def _read(path: str, name: str, owner: int, looks: tuple[int, ...]) -> Entry | None | str:
    """The entry in a file; None for another kind of thing, and a sentence for what cannot be believed."""
    try:
        content = load(path, owner)
        return _entry(content, name) if content.get("kind") in (CONTAINER, UNIT) else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return (
            f"Cannot read {path}, which records what a server of this user owns: {_seen(error)}. Without it, it is "
            "unknown what belongs to the server, so it is left alone. Restore the file from a backup, or remove it, "
            "and the server's container or unit, yourself."
        )


def _seen(error: Exception) -> str:
    """Why a file of the record cannot be believed."""
    return getattr(error, "strerror", None) or (
        "it is nested too deep" if isinstance(error, RecursionError) else str(error)
    )


TEXTS = ("server", "seal", "name", "identity", "stopping_since", "started_as", "place", "salt")
OPTIONAL = ("fingerprint", "vllm_version")
LISTS = ("supersedes", "wrote", "replaced")


def _entry(content: t.Mapping[str, t.Any], name: str) -> Entry:
    """The entry, every value of the type that it has to have."""
    known = {one.name: content[one.name] for one in fields(Entry) if one.name in content}
    for key in TEXTS:
        if not isinstance(known.get(key, ""), str):
            raise ValueError(f"{key} is not a text")
    for key in OPTIONAL:
        if not isinstance(known.get(key), (str, type(None))):
            raise ValueError(f"{key} is not a text")
    for key in LISTS:
        value = known.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ValueError(f"{key} is not a list of texts")
        known[key] = tuple(value)
    if not isinstance(known.get("intent", {}), dict):
        raise ValueError("intent is not a mapping")
    seconds = known.get("start_seconds", 0)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise ValueError("start_seconds is not a number")
    for key in ("filled", "carried"):
        if not isinstance(known.get(key, False), bool):
            raise ValueError(f"{key} is neither true nor false")
    if known.get("purpose") not in PURPOSES or not NAME.fullmatch(known.get("server", "")) or not known.get("seal"):
        raise ValueError("it lacks the purpose, the server or the seal")
    if f"{known['server']}.{known['seal']}.json" != name:
        raise ValueError("its name is not that of its server and seal")
    return Entry(**known)


def left(one: Entry) -> list[str]:
    """The files that are there as they were written for it; what somebody has his own content back in is his."""
    there = (path for path in one.wrote if os.path.exists(path))
    return [path for path in there if path not in one.replaced or os.path.lexists(path + ORIGINAL)]


def bound(one: Entry, identity: str) -> Entry:
    """The entry with the id that the engine gave."""
    return replace(one, identity=identity)
