# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an engine does with images: it pulls them, writes them into an archive, reads one, and gives them names."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import typing as t

from .._errors import Reason, VllmError
from . import client as docker_client
from .reader import Inspected, Reader, reader
from .reference import Reference

# Seconds without a byte: before an engine gives the first one of an archive, it writes all layers out, and after the
# last one of an archive it unpacks them.
SILENCE = 3600
PIECE = 1 << 20
# Where an engine that keeps its images in a containerd of the system has them.
CONTAINERD = "/var/lib/containerd"

# Bytes that have come, and those that there are as far as it is known.
Progress = t.Callable[[int, int], None]


class Images:
    """The images of one engine."""

    def __init__(self, docker_host: str | None = None, looks: Reader | None = None, client: t.Any = None) -> None:
        self.reader = looks or reader(docker_host)
        self._client = client or functools.partial(docker_client.connect, docker_host, SILENCE)

    @functools.cached_property
    def client(self) -> t.Any:
        return self._client()

    def look(self, reference: str) -> Inspected | None:
        """The image of that name or id, as C(docker inspect) prints it; None where there is none."""
        with self._telling(f"look for the image {reference}"):
            return self.reader.image(reference)

    def roots(self) -> list[str]:
        """The directories of this host that its images are in."""
        with self._telling("ask the engine where its images are"):
            info = self.reader.identity().info
        told = info if isinstance(info, dict) else {}
        found = [str(told.get("DockerRootDir") or "/")]
        is_containerd = any("io.containerd" in str(one) for one in told.get("DriverStatus") or ())
        return [*found, CONTAINERD] if is_containerd and os.path.isdir(CONTAINERD) else found

    def pull(self, reference: Reference, passing: Progress) -> None:
        """Pull an image from its registry."""
        layers = Layers()
        repository, tag = reference.asked
        with self._telling(f"pull {reference}", "pull-failed"):
            for event in self.client.pull(repository, tag=tag, stream=True, decode=True):
                if event.get("error"):
                    raise docker_client.EngineError(str(event["error"]))
                passing(*layers.seen(event))

    def save(self, identity: str, write: t.Callable[[bytes], None]) -> None:
        """Have an image written as an archive without any name."""
        with self._telling(f"save the image {identity[:19]}"):
            for piece in self.client.get_image(identity, chunk_size=PIECE):
                write(piece)

    def load(self, archive: t.BinaryIO, attempt: str) -> None:
        """Read an archive that holds an image."""
        with self._telling(attempt):
            for event in self.client.load_image(archive) or ():
                if event.get("error"):
                    raise docker_client.EngineError(str(event["error"]))

    def name(self, identity: str, repository: str, tag: str) -> None:
        """Give an image a name, which is taken from the image that had it."""
        with self._telling(f"give the image {identity[:19]} the name {repository}:{tag}"):
            self.client.tag(identity, repository, tag, force=True)

    def forget(self, reference: str) -> None:
        """Take away a name; what has another one stays."""
        with self._telling(f"forget {reference}"), contextlib.suppress(docker_client.sdk().errors.ImageNotFound):
            self.client.remove_image(reference, noprune=True)

    @contextlib.contextmanager
    def _telling(self, attempt: str, reason: Reason = "backend-failed") -> t.Iterator[None]:
        """Have what the engine says against it told as ours."""
        try:
            yield
        except docker_client.failures() as error:
            is_full = re.search(docker_client.DISK_FULL, docker_client.words(error), re.IGNORECASE)
            is_podman = docker_client.says_podman(self.reader.identity)
            said = docker_client.sentence(attempt, error, is_podman)
            raise VllmError(said, "disk-full" if is_full else reason) from None


class Layers:
    """How much of an image has come, from what an engine tells of each layer."""

    def __init__(self) -> None:
        self.layers: dict[str, tuple[int, int]] = {}

    def seen(self, event: t.Mapping[str, t.Any]) -> tuple[int, int]:
        """Bytes that have come and those of all layers that were begun, after one more event."""
        layer, status = str(event.get("id") or ""), str(event.get("status") or "")
        detail = event.get("progressDetail") or {}
        known = self.layers.get(layer)
        if status == "Downloading" and detail.get("total"):
            self.layers[layer] = (int(detail.get("current") or 0), int(detail["total"]))
        elif known and status in ("Download complete", "Verifying Checksum", "Extracting", "Pull complete"):
            self.layers[layer] = (known[1], known[1])
        return sum(done for done, _total in self.layers.values()), sum(total for _done, total in self.layers.values())
