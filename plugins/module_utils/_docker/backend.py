# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Docker Engine of a host behind a few verbs.

Every effect on the containers of a server is one method of C(Engine).
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from .._deploy.plan import SUFFIX, Instance, Slot
from .._deploy.record import FETCH_SUFFIX, LABEL_CACHE, LABEL_FETCH, LABEL_FINGERPRINT
from .._errors import VllmError
from .._host.ports import overlaps
from .._vllm.versions import METADATA_PROGRAM
from .client import engine_failures
from .container import caches_of, fetching, instance, server_name, trial

# Without them there is no client, and connect() says so.
with contextlib.suppress(ImportError):
    import docker.errors
    import requests.exceptions


class Engine:
    """One server's containers on one Docker Engine: every effect is a verb of the plan."""

    def __init__(self, client: t.Any, name: str, stop_timeout: int = 30) -> None:
        self.client = client
        self.name = name
        self.stop_timeout = stop_timeout

    def wait_until_it_answers(self, timeout: float = 60) -> None:
        """An engine that was restarted is back after some seconds; then its containers are, too."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.client.containers()
                return
            except engine_failures():
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.5)

    def container(self, slot: Slot) -> dict[str, t.Any] | None:
        try:
            return t.cast("dict[str, t.Any]", self.client.inspect_container(self.name + SUFFIX[slot]))
        except docker.errors.NotFound:
            return None

    def instances(self) -> dict[Slot, Instance]:
        found = {slot: self.container(slot) for slot in SUFFIX}
        return {slot: instance(slot, inspected) for slot, inspected in found.items() if inspected}

    def owned(self) -> list[dict[str, t.Any]]:
        """All containers that this collection created, whatever their state and slot, as C(docker ps) lists them."""
        found = self.client.containers(all=True, filters={"label": LABEL_FINGERPRINT})
        # One that is removed at this moment has no name any more.
        return sorted((one for one in found if one.get("Names")), key=lambda one: str(one["Names"][0]))

    def others(self) -> list[dict[str, t.Any]]:
        """Those of them that belong to other servers."""
        return [one for one in self.owned() if server_name(str(one["Names"][0]).lstrip("/")) != self.name]

    def image(self, reference: str) -> dict[str, t.Any] | None:
        try:
            return t.cast("dict[str, t.Any]", self.client.inspect_image(reference))
        except docker.errors.ImageNotFound:
            return None

    def publishing(self, port: int, bind: str) -> list[dict[str, t.Any]]:
        """Running containers that publish the port on that address; with iptables alone no process listens on it."""
        return [
            container
            for container in self.client.containers()
            if any(_is_published(published, port, bind) for published in container.get("Ports") or ())
        ]

    def container_name(self, container_id: str) -> str:
        try:
            return str(self.client.inspect_container(container_id)["Name"]).lstrip("/")
        except docker.errors.NotFound:
            return container_id[:12]

    def pull(self, reference: str) -> None:
        repository, tag = _split_reference(reference)
        for event in self.client.pull(repository, tag=tag, stream=True, decode=True):
            if event.get("error"):
                raise docker.errors.APIError(str(event["error"]))

    def caches(self) -> list[str]:
        """The volumes that keep what this server compiled."""
        found = self.client.volumes(filters={"label": f"{LABEL_CACHE}={self.name}"})
        return sorted(str(volume["Name"]) for volume in found.get("Volumes") or ())

    def cache_owners(self) -> list[str]:
        """Container names of all servers that such volumes belong to, whether or not the servers still exist."""
        found = self.client.volumes(filters={"label": LABEL_CACHE})
        return [str((volume.get("Labels") or {}).get(LABEL_CACHE)) for volume in found.get("Volumes") or ()]

    def remove_cache(self, name: str) -> None:
        with contextlib.suppress(docker.errors.NotFound):
            self.client.remove_volume(name)

    def read_version(self, image_id: str) -> str | None:
        """The version of vLLM in an image that does not tell it: read from the package's metadata inside."""
        body = {
            "Image": image_id,
            "Entrypoint": ["python3", "-c", METADATA_PROGRAM],
            "Cmd": [],
            "HostConfig": {"NetworkMode": "none"},
        }
        probe = self.client.create_container_from_config(body)["Id"]
        try:
            self.client.start(probe)
            status = self.client.wait(probe, timeout=60)["StatusCode"]
            told = str(self.client.logs(probe, stderr=False).decode("utf-8", errors="replace"))
            return told.split()[-1] if status == 0 and told.strip() else None
        except (docker.errors.APIError, requests.exceptions.RequestException):
            return None  # No Python in it, or it hangs: then nothing is known.
        finally:
            self.client.remove_container(probe, force=True)

    def fetch(self, body: t.Mapping[str, t.Any], model: str, revision: str) -> None:
        """Fetch the weights of a model with the image's own Hugging Face client, with the server's mounts and token.

        Raises:
            VllmError: when that fails, with the last line of its output.
        """
        name = self.name + FETCH_SUFFIX
        try:
            self.client.create_container_from_config(fetching(body, model, revision), name=name)
            self.client.start(name)
            # The client's own limit is for answers of the engine; a download may take hours.
            while self.client.inspect_container(name)["State"].get("Running"):
                with contextlib.suppress(requests.exceptions.RequestException):
                    self.client.wait(name, timeout=60)
            status = self.client.inspect_container(name)["State"].get("ExitCode")
            told = str(self.client.logs(name, tail=20).decode("utf-8", errors="replace")).strip().splitlines()
        finally:
            if self.left_fetching():
                self.remove(name)
        if status != 0:
            raise VllmError(
                f"Cannot fetch the weights of {model}: the download ended with status {status}. Its last line says: "
                f"{told[-1].strip().rstrip('.') if told else 'nothing'}. Check the name of the model, the token and "
                "the network of the host, or stage the weights there."
            )

    def left_fetching(self) -> str | None:
        """The container of a download, when there is one; what is only called like it does not count."""
        return self.name + FETCH_SUFFIX if LABEL_FETCH in (self._labels_of_download() or {}) else None

    def in_the_way_of_fetching(self) -> str | None:
        """A sentence when the name that a download needs belongs to somebody else."""
        labels = self._labels_of_download()
        if labels is None or LABEL_FETCH in labels:
            return None
        return (
            f"{self.name}{FETCH_SUFFIX} exists and is no download of gpufleet.vllm (it has no label {LABEL_FETCH}), so "
            "it is left alone. Remove or rename it yourself."
        )

    def _labels_of_download(self) -> dict[str, str] | None:
        try:
            return self.client.inspect_container(self.name + FETCH_SUFFIX)["Config"].get("Labels") or {}
        except docker.errors.NotFound:
            return None

    def create(self, slot: Slot, body: t.Mapping[str, t.Any]) -> None:
        for volume in caches_of(body):
            self.client.create_volume(volume, labels={LABEL_CACHE: self.name})
        self.client.create_container_from_config(dict(body), name=self.name + SUFFIX[slot])

    def try_start(self, body: t.Mapping[str, t.Any]) -> None:
        """Run nothing with everything else the same: shows whether the engine would start the real thing."""
        self.create("trial", trial(body))
        try:
            self.start("trial")
            self.client.wait(self.name + SUFFIX["trial"])
        except docker.errors.APIError as error:
            # The image need not have a `true`; everything before it was set up, and that is what was asked.
            if "executable file not found" not in str(error):
                raise
        finally:
            self.remove("trial")

    def named(self, target: str) -> str:
        """The container of a slot; anything else is the name of another server's container."""
        return self.name + SUFFIX[target] if target in SUFFIX else target

    def start(self, target: str) -> None:
        self.client.start(self.named(target))

    def stop(self, target: str) -> None:
        # The time that the server was made with: whoever stops it by name alone does not know it.
        timeout = self.client.inspect_container(self.named(target))["Config"].get("StopTimeout") or self.stop_timeout
        # The client waits a little longer than the engine does before it kills.
        self.client.stop(self.named(target), timeout=timeout)

    def remove(self, target: str) -> None:
        with contextlib.suppress(docker.errors.NotFound):
            self.client.remove_container(self.named(target), force=True)

    def rename(self, slot: str, to: str) -> None:
        self.client.rename(self.named(slot), self.named(to))

    def log(self) -> str:
        """What the server has logged since it was created."""
        raw = self.client.logs(self.name, stdout=True, stderr=True)
        return str(raw.decode("utf-8", errors="replace"))


def _is_published(published: t.Mapping[str, t.Any], port: int, bind: str) -> bool:
    if published.get("PublicPort") != port or published.get("Type") != "tcp":
        return False
    return overlaps(bind, str(published.get("IP") or "0.0.0.0"))


def _split_reference(reference: str) -> tuple[str, str | None]:
    """An image reference as repository and tag; a digest stays with the repository."""
    if "@" in reference:
        return reference, None
    repository, colon, tag = reference.rpartition(":")
    return (repository, tag) if colon and "/" not in tag else (reference, "latest")
