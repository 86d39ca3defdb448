# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the image that is wanted and what an engine has: what to pull, fetch, load and name, in words too. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .._docker.reference import Reference, is_mirror, parsed
from .._errors import VllmError
from .._models.plan import size as words_of_size

IDENTITY = re.compile(r"sha256:[0-9a-f]{64}")
SHORT = len("sha256:") + 12


@dataclass(frozen=True)
class Wish:
    """An image by its name, and where it may come from."""

    name: str
    reference: Reference
    # The registry that is asked instead of the one in the name; empty for none.
    mirror: str = ""
    updates: bool = False
    offline: bool = False

    @property
    def asked(self) -> Reference:
        """What is pulled."""
        return self.reference.at(self.mirror) if self.mirror else self.reference

    @property
    def origin(self) -> str:
        return self.asked.registry or "Docker Hub"


@dataclass(frozen=True)
class Told:
    """An image that another host has, and its archive there."""

    # The id there, and those that other engines give it.
    identity: str
    identities: tuple[str, ...]
    # What it takes in an engine, and its archive, in bytes; the archive's sha256.
    size: int
    archive_size: int
    digest: str


@dataclass(frozen=True)
class Seen:
    """What an engine has: the id that the name stands for, the told image under whatever name, bytes of its archive."""

    named: str = ""
    there: str = ""
    archived: int = 0


@dataclass(frozen=True)
class Plan:
    """What to do, in the order of its doing."""

    pull: bool = False
    fetch: bool = False
    name: bool = False

    @property
    def is_empty(self) -> bool:
        return not (self.pull or self.fetch or self.name)


@dataclass(frozen=True)
class Room:
    """Bytes that something takes in a directory, those that are free on its file system, and which one that is."""

    path: str
    needed: int
    free: int
    device: int


def wish_of(params: t.Mapping[str, t.Any]) -> Wish:
    """What the parameters ask for.

    Raises:
        VllmError: when one of them cannot be meant.
    """
    reference = parsed(params["image"])
    if reference is None:
        raise VllmError(
            f"image must be the name of an image, such as vllm/vllm-openai:v0.11.0; got {params['image'][:200]!r}."
        )
    mirror = str(params["mirror"] or "").rstrip("/")
    if mirror and not is_mirror(mirror):
        raise VllmError(
            f"mirror must be a registry, or a place in one, such as registry.example.com:5000/nvcr; got {mirror!r}."
        )
    return Wish(params["image"], reference, mirror, params["update"], params["offline"])


def told_of(peer: t.Mapping[str, t.Any], image: str) -> Told | None:
    """The image that another host has, as the controller tells it; None when there is no archive of it.

    Raises:
        VllmError: when it tells something else.
    """
    told = peer.get("image") or {}
    archive = told.get("archive") or {}
    if not archive:
        return None
    identities = [str(one) for one in told.get("ids") or ()]
    sizes = [told.get("size"), archive.get("size")]
    digest = str(archive.get("digest"))
    if (
        not all(IDENTITY.fullmatch(one) for one in (str(told.get("id")), *identities))
        or not all(isinstance(one, int) and not isinstance(one, bool) and one >= 0 for one in sizes)
        or not re.fullmatch(r"[0-9a-f]{64}", digest)
    ):
        raise VllmError(
            f"Cannot use what {peer.get('head') or 'another host'} says of {image}: it has no ids, sizes and digest. "
            "Do not trust that host.",
            "download-failed",
        )
    return Told(str(told["id"]), tuple(identities), int(told["size"]), int(archive["size"]), digest)


def plan(wish: Wish, told: Told | None, sources: bool, seen: Seen) -> Plan:
    """What brings an engine from C(seen) to the wish. C(sources): other hosts have the image, or are to have it."""
    if told:
        is_named = seen.named in (told.identity, *told.identities)
        return Plan(fetch=not (is_named or seen.there), name=not is_named)
    if sources:
        return Plan(fetch=not seen.named, name=not seen.named)
    return Plan(pull=not seen.named or wish.updates)


def check(wish: Wish, plan_: Plan) -> None:
    """Refuse what may not be pulled.

    Raises:
        VllmError: says what is missing.
    """
    if plan_.pull and wish.offline:
        raise VllmError(
            f"The image {wish.name} is not on the host, and offline is set. Load it there with docker load, or have "
            "another host pass it on (peer_address).",
            "image-missing",
        )


def check_disk(rooms: t.Iterable[Room], image: str, reserve: int) -> None:
    """Refuse to begin what would fill a disk; what lies on one file system is taken together.

    Raises:
        VllmError: says what is needed, free, and kept in reserve.
    """
    found: dict[int, list[Room]] = {}
    for room in rooms:
        found.setdefault(room.device, []).append(room)
    for one in found.values():
        needed, free = sum(room.needed for room in one), one[0].free
        if needed + reserve > free:
            places = " and ".join(dict.fromkeys(room.path for room in one))
            raise VllmError(
                f"Cannot have {image}: {words_of_size(needed)} are needed in {places} while it is passed on "
                f"and unpacked, {words_of_size(free)} are free there, and disk_reserve keeps {words_of_size(reserve)} "
                "free. Free some space ('docker system df' shows what images take), or lower disk_reserve.",
                "disk-full",
            )


def actions(wish: Wish, plan_: Plan, told: Told | None, origin: str, seen: Seen) -> list[str]:
    """The plan in words. C(origin) is the host that has the image."""
    found = []
    if plan_.pull:
        found.append(f"pull {wish.name} from {wish.origin}")
    if plan_.fetch:
        here = f", of which {words_of_size(seen.archived)} are already on the host" if seen.archived else ""
        weight = f" ({words_of_size(told.archive_size)}{here})" if told else ""
        found.append(f"fetch {wish.name} from {origin}{weight} and load it")
    if plan_.name:
        whose = told.identity[:SHORT] if told else "what comes"
        found.append(f"have {wish.name} stand for {whose}")
    return found


def diff(wish: Wish, plan_: Plan, told: Told | None, seen: Seen) -> dict[str, t.Any]:
    """The id that the name stands for, as it is and as it will be; none where nobody knows it yet."""
    if plan_.is_empty:
        return {"before": {}, "after": {}}
    after = told.identity if told else None
    return {"before": {wish.name: seen.named or None}, "after": {wish.name: after}}
