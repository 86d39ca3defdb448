# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The name of an image: its registry, its tag or digest, and the names by which it is found besides. Pure."""

from __future__ import annotations

import re
import typing as t

WORD = r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*"
REGISTRY = re.compile(r"(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\])(?::\d{1,5})?", re.ASCII)
PATH = re.compile(rf"{WORD}(?:/{WORD})*", re.ASCII)
TAG, DIGEST = re.compile(r"\w[\w.-]{0,127}", re.ASCII), re.compile(r"sha256:[0-9a-f]{64}")
DOCKER_HUB = "docker.io"


class Reference(t.NamedTuple):
    """The parts of a name. Without a registry it is one of Docker Hub; a digest is 64 hexadecimal digits."""

    registry: str
    path: str
    tag: str
    digest: str

    @property
    def repository(self) -> str:
        """The name without tag and digest, as it is shown."""
        return f"{self.registry}/{self.path}" if self.registry else self.path

    @property
    def asked(self) -> tuple[str, str | None]:
        """Repository and tag, as a registry is asked; a digest stays with the repository."""
        if self.digest:
            return f"{self.repository}@sha256:{self.digest}", None
        return self.repository, self.tag or "latest"

    @property
    def local(self) -> tuple[str, str]:
        """Repository and tag by which an image is found that no registry gave.

        An engine notes digests only of what it pulled, so an image that is pinned has a tag that tells its digest.
        """
        return self.repository, f"sha256-{self.digest}" if self.digest else self.tag or "latest"

    def at(self, mirror: str) -> Reference:
        """The same image at a mirror, which may be a registry, or a place in one."""
        registry, _slash, place = mirror.partition("/")
        is_official = self.registry in ("", DOCKER_HUB) and "/" not in self.path
        path = "/".join(filter(None, (place, "library" if is_official else "", self.path)))
        return self._replace(registry=registry, path=path)

    def __str__(self) -> str:
        repository, tag = self.asked
        return f"{repository}:{tag}" if tag else repository


def parsed(reference: str) -> Reference | None:
    """The parts of a name; None for what is none, such as the id of an image."""
    name, at, digest = reference.partition("@")
    first, slash, rest = name.partition("/")
    is_registry = slash and (set(".:") & set(first) or first == "localhost" or first != first.lower())
    registry, rest = (first, rest) if is_registry else ("", name)
    path, colon, tag = rest.partition(":")
    wrong = (
        (registry and not REGISTRY.fullmatch(registry))
        or not PATH.fullmatch(path)
        or (colon and not TAG.fullmatch(tag))
        or (at and not DIGEST.fullmatch(digest))
        or path == "sha256"
    )
    return None if wrong else Reference(registry, path, tag, digest.partition(":")[2])


def is_mirror(mirror: str) -> bool:
    """Whether that is a registry, or a place in one."""
    registry, slash, place = mirror.partition("/")
    return bool(REGISTRY.fullmatch(registry)) and (not slash or bool(PATH.fullmatch(place)))


def local_name(reference: str) -> str:
    """The name by which an image is found that no registry gave, when that is another one; else empty."""
    found = parsed(reference)
    return ":".join(found.local) if found and found.digest else ""
