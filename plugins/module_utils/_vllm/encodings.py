# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The vocabulary files that gpt-oss reads at start-up: which there are, whether one is intact, what to do about it."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import stat
import typing as t
from dataclasses import dataclass

from .._errors import VllmError

State = t.Literal["ok", "missing", "truncated", "wrong", "unreadable"]

DEFAULT_NAMES = ("o200k_base", "cl100k_base")
DEFAULT_URL = "https://openaipublic.blob.core.windows.net/encodings"
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Encoding:
    """What was published under this name."""

    name: str
    sha256: str
    size: int

    @property
    def file_name(self) -> str:
        return f"{self.name}.tiktoken"

    def path(self, directory: str) -> str:
        """Its file in a directory, where vLLM looks for it."""
        return os.path.join(directory, self.file_name)


KNOWN: t.Mapping[str, Encoding] = {
    encoding.name: encoding
    for encoding in (
        Encoding("o200k_base", "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d", 3_613_922),
        Encoding("cl100k_base", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7", 1_681_126),
    )
}


@dataclass(frozen=True)
class Finding:
    """What was found at a path; `message` is a sentence unless all is well."""

    state: State
    message: str = ""


@dataclass(frozen=True)
class Plan:
    """What to do in a directory, each part in the order of its doing."""

    directories: tuple[str, ...]
    install: tuple[Encoding, ...]
    leftovers: tuple[str, ...]


def named(names: t.Iterable[str]) -> tuple[Encoding, ...]:
    """The encodings of these names, each once."""
    unknown = sorted(set(names) - set(KNOWN))
    if unknown:
        raise VllmError(f"Unknown encoding {', '.join(unknown)}: choose from {', '.join(KNOWN)}.")
    return tuple(KNOWN[name] for name in dict.fromkeys(names))


def judge(path: str, encoding: Encoding, size: int, sha256: str) -> Finding:
    """Compare what a file is with what was published."""
    if sha256 == encoding.sha256:
        return Finding("ok")
    if size < encoding.size:
        return Finding("truncated", f"{path} is truncated: it has {size} of {encoding.size} bytes.")
    return Finding(
        "wrong", f"{path} is not the {encoding.name} that was published: sha256 {sha256}, expected {encoding.sha256}."
    )


def digest(path: str) -> tuple[int, str]:
    """Size and sha256 of a file."""
    size, sha256 = 0, hashlib.sha256()
    with open(path, "rb") as file:
        for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""):
            size += len(chunk)
            sha256.update(chunk)
    return size, sha256.hexdigest()


def verify(path: str, encoding: Encoding) -> Finding:
    """Look at a file and say whether it is the encoding."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return Finding("unreadable", f"{path} is not a regular file.")
        return judge(path, encoding, *digest(path))
    except (FileNotFoundError, NotADirectoryError):
        return Finding("missing", f"{path} is missing.")
    except OSError as error:
        return Finding("unreadable", f"{path} cannot be read: {error.strerror}.")


def problems(directory: str, names: t.Iterable[str]) -> list[str]:
    """Sentences about what keeps a server from reading these encodings; none when all are intact."""
    findings = (verify(encoding.path(directory), encoding) for encoding in named(names))
    return [finding.message for finding in findings if finding.state != "ok"]


def partial_path(path: str) -> str:
    """Where a file is written before it appears at its path: beside it, so that the rename is atomic."""
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.partial")


def missing_directories(directory: str) -> tuple[str, ...]:
    """The directories that have to be made for this one to be there, outermost first."""
    missing: list[str] = []
    while not os.path.lexists(directory):
        missing.insert(0, directory)
        directory = os.path.dirname(directory)
    return tuple(missing)


def check_source(directory: str, wanted: t.Iterable[Encoding]) -> None:
    """Refuse a directory that does not hold these encodings intact."""
    wrong = problems(directory, [encoding.name for encoding in wanted])
    if wrong:
        sentence = f"Cannot install encodings from {directory}. {' '.join(wrong)} Put the published files there."
        raise VllmError(sentence, "encodings-missing")


def observe(directory: str, encodings: t.Iterable[Encoding]) -> dict[str, Finding]:
    """Look at the file of each encoding; one that can be neither read nor replaced is told at once."""
    if not os.path.isabs(directory):
        raise VllmError(f"The directory {directory} is not an absolute path: write it from / on.")
    findings = {encoding.name: verify(encoding.path(directory), encoding) for encoding in encodings}
    unreadable = [finding.message for finding in findings.values() if finding.state == "unreadable"]
    if unreadable:
        sentence = f"{' '.join(unreadable)} Run with become: true, or choose another directory."
        raise VllmError(sentence, "permission-denied")
    return findings


def plan(directory: str, encodings: t.Iterable[Encoding], findings: t.Mapping[str, Finding]) -> Plan:
    """What is not intact is installed; what an interrupted run left beside an intact file goes."""
    encodings = tuple(encodings)
    install = tuple(encoding for encoding in encodings if findings[encoding.name].state != "ok")
    intact = (encoding for encoding in encodings if encoding not in install)
    partials = (partial_path(encoding.path(directory)) for encoding in intact)
    return Plan(
        directories=missing_directories(directory),
        install=install,
        leftovers=tuple(path for path in partials if os.path.lexists(path)),
    )


def described(
    directory: str,
    encodings: t.Iterable[Encoding],
    findings: t.Mapping[str, Finding],
    plan_: Plan,
    sources: t.Mapping[str, str],
) -> dict[str, t.Any]:
    """The plan and what it leads to, in words and as a diff."""
    before: dict[str, t.Any] = {path: {"state": "absent"} for path in plan_.directories}
    after: dict[str, t.Any] = {path: {"state": "directory"} for path in plan_.directories}
    for encoding in plan_.install:
        before[encoding.path(directory)] = {"state": findings[encoding.name].state}
        after[encoding.path(directory)] = {"state": "ok", "sha256": encoding.sha256}
    for path in plan_.leftovers:
        before[path], after[path] = {"state": "left by an interrupted run"}, {"state": "absent"}
    return {
        "actions": [
            *(f"create directory {path}" for path in plan_.directories),
            *(f"install {encoding.path(directory)} from {sources[encoding.name]}" for encoding in plan_.install),
            *(f"remove {path}, left by an interrupted run" for path in plan_.leftovers),
        ],
        "needed": [encoding.name for encoding in plan_.install],
        "encodings": [
            {
                "name": encoding.name,
                "path": encoding.path(directory),
                "sha256": encoding.sha256,
                "size": encoding.size,
                "source": sources.get(encoding.name, "present"),
            }
            for encoding in encodings
        ],
        "diff": {"before": before, "after": after},
    }


def check_room(directory: str, wanted: t.Sequence[Encoding]) -> None:
    """Refuse to begin what lack of a right or of space would end halfway."""
    if not wanted:
        return
    existing = directory
    while not os.path.lexists(existing):
        existing = os.path.dirname(existing)
    names = " and ".join(encoding.file_name for encoding in wanted)
    if not os.path.isdir(existing):
        sentence = f"Cannot install {names} into {directory}: {existing} is not a directory. Choose another one."
        raise VllmError(sentence, "path-missing")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise VllmError(
            f"Cannot install {names} into {directory}: no permission to write to {existing}. "
            "Run with become: true, or choose another directory.",
            "permission-denied",
        )
    needed, free = sum(encoding.size for encoding in wanted), free_bytes(existing)
    if free < needed:
        raise VllmError(
            f"Cannot install {names} into {directory}: {needed} bytes are needed, {free} bytes are free there. "
            "Free some space, or choose a directory on another file system.",
            "disk-full",
        )


def check_owner(owner: str | None, group: str | None) -> None:
    """Refuse what chown would refuse after the download."""
    uid = _id_of("user", owner, lambda name: pwd.getpwnam(name).pw_uid)
    gid = _id_of("group", group, lambda name: grp.getgrnam(name).gr_gid)
    mine = {None, os.getegid(), *os.getgroups()}
    refused = [owner] * (uid not in (None, os.geteuid())) + [group] * (gid not in mine)
    if refused and os.geteuid() != 0:
        raise VllmError(f"Only root may give files to {refused[0]}: run with become: true.", "permission-denied")


def _id_of(kind: str, name: str | None, look_up: t.Callable[[str], int]) -> int | None:
    if name is None or name.isdigit():
        return None if name is None else int(name)
    try:
        return look_up(name)
    except KeyError:
        raise VllmError(f"There is no {kind} {name} on this host: create it, or name another {kind}.") from None


def free_bytes(directory: str) -> int:
    """What a user without privileges may still write."""
    seen = os.statvfs(directory)
    return seen.f_bavail * seen.f_frsize
