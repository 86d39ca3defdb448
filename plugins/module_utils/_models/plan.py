# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the files that a model has and what is on the disk: what to fetch, verify and link, in words too. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .hub import Remote
from .manifest import Manifest

GIB = 1 << 30

State = t.Literal["verified", "unverified", "damaged", "partial", "absent"]


@dataclass(frozen=True)
class Seen:
    """What is on the disk of one file: its blob, and whether the snapshot leads to it.

    C(partial) are the bytes of a download that was cut short.
    """

    state: State
    partial: int = 0
    is_linked: bool = False


@dataclass(frozen=True)
class Plan:
    """What to do, in the order of its doing. Files with the same content are one."""

    verify: tuple[Remote, ...] = ()
    fetch: tuple[Remote, ...] = ()
    links: tuple[Remote, ...] = ()
    refers: bool = False
    # Of what is to be fetched: what an earlier run left, in bytes.
    resumed: int = 0

    @property
    def is_empty(self) -> bool:
        return not (self.verify or self.changes)

    @property
    def changes(self) -> bool:
        """Whether anything in the cache is to be another than it is."""
        return bool(self.fetch or self.links or self.refers)

    @property
    def fetch_bytes(self) -> int:
        return sum(file.bytes for file in self.fetch)

    @property
    def needed_bytes(self) -> int:
        """What has to be free on the disk."""
        return max(0, self.fetch_bytes - self.resumed)


def plan(manifest: Manifest, seen: t.Mapping[str, Seen], is_referred: bool, verify_all: bool = False) -> Plan:
    """What brings the disk from C(seen), by path, to what the manifest says."""
    once = {file.digest: file for file in reversed(manifest.files)}
    files = tuple(sorted(once.values(), key=lambda file: file.path))
    proof: tuple[State, ...] = ("unverified", "verified") if verify_all else ("unverified",)
    fetch = tuple(file for file in files if seen[file.path].state in ("absent", "partial", "damaged"))
    return Plan(
        verify=tuple(file for file in files if seen[file.path].state in proof),
        fetch=fetch,
        links=tuple(file for file in manifest.files if not seen[file.path].is_linked),
        refers=not is_referred,
        resumed=sum(min(seen[file.path].partial, file.bytes) for file in fetch),
    )


def check_disk(plan_: Plan, manifest: Manifest, path: str, free: int, reserve: int) -> None:
    """Refuse to begin what would fill the disk.

    Raises:
        VllmError: says what is needed, free, and kept in reserve.
    """
    if not plan_.fetch or plan_.needed_bytes + reserve <= free:
        return
    here = f" ({size(plan_.resumed)} of {size(plan_.fetch_bytes)} are already on the host)" if plan_.resumed else ""
    raise VllmError(
        f"Cannot fetch {manifest.wish.name} into {path}: {size(plan_.needed_bytes)} are needed{here}, "
        f"{size(free)} are free there, and disk_reserve keeps {size(reserve)} free. Free some space, choose a "
        "huggingface_dir on another file system, or lower disk_reserve.",
        "disk-full",
    )


def actions(plan_: Plan, manifest: Manifest, origin: str) -> list[str]:
    """The plan in words, a line for each kind of step. C(origin) is where files come from."""
    name, found = manifest.wish.name, []
    if plan_.verify:
        weight = size(sum(file.bytes for file in plan_.verify))
        found.append(f"verify {_count(plan_.verify)} of {name} that are on the host ({weight})")
    if plan_.fetch:
        resumed = f", of which {size(plan_.resumed)} are already on the host" if plan_.resumed else ""
        found.append(f"fetch {_count(plan_.fetch)} of {name} from {origin} ({size(plan_.fetch_bytes)}{resumed})")
    if plan_.links:
        found.append(f"link {_count(plan_.links)} in snapshot {manifest.commit} of {name}")
    if plan_.refers:
        found.append(f"have revision {manifest.wish.revision} of {name} stand for {manifest.commit}")
    return found


def diff(plan_: Plan, manifest: Manifest, seen: t.Mapping[str, Seen], before: str | None) -> dict[str, t.Any]:
    """Each file that changes, as it is and as it will be. C(before) is the commit that the revision stood for."""
    old: dict[str, t.Any] = {}
    new: dict[str, t.Any] = {}
    digests = {file.digest for file in plan_.fetch}
    for file in manifest.files:
        here = seen[file.path]
        if file.digest in digests:
            old[file.path] = {"state": here.state, **({"bytes": here.partial} if here.partial else {})}
            new[file.path] = {"state": "verified", "bytes": file.bytes, "digest": file.digest}
        elif file in plan_.links:
            old[file.path], new[file.path] = {"state": "not linked"}, {"state": "linked"}
    if plan_.refers:
        old["revision"], new["revision"] = before, manifest.commit
    return {"before": old, "after": new}


def size(count: float) -> str:
    """A number of bytes for people."""
    if count >= GIB:
        return f"{count / GIB:.1f} GiB"
    if count >= 1 << 20:
        return f"{count / (1 << 20):.1f} MiB"
    return f"{count / 1024:.1f} KiB" if count >= 1024 else f"{count:.0f} bytes"


def listed(files: t.Sequence[Remote]) -> str:
    """Some files by name, with the verb."""
    names, more = ", ".join(file.path for file in files[:3]), len(files) - 3
    return f"{names} and {more} more are" if more > 0 else f"{names} {'is' if len(files) == 1 else 'are'}"


def _count(files: t.Sequence[Remote]) -> str:
    return f"{len(files)} file{'s' if len(files) != 1 else ''}"
