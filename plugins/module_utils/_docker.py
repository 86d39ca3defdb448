# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

"""The Docker Engine of a host behind a few verbs, and what its errors mean.

Every effect on the containers of a server is one method of C(Engine).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
import typing as t

from ._configuration import (
    FETCH_SUFFIX,
    LABEL_CACHE,
    LABEL_FETCH,
    LABEL_FINGERPRINT,
    caches_of,
    fetching,
    instance,
    server_name,
    trial,
)
from ._deployment import SUFFIX, Instance, Slot
from ._errors import VllmError
from ._ports import overlaps
from ._versions import METADATA_PROGRAM

try:
    import docker
    import docker.errors
    import requests.exceptions

    DOCKER_IMPORT_ERROR: str | None = None
except ImportError as import_error:
    DOCKER_IMPORT_ERROR = str(import_error)

SOCKET = "/var/run/docker.sock"
# Seconds without a word from the engine after which a call has failed. Checking a layer of 10 GB takes a minute.
SILENCE = 300

# What Docker says, and what it means: (pattern, sentence with the remedy). The first hit wins.
EXPLANATIONS: tuple[tuple[str, str], ...] = (
    (
        r"could not select device driver",
        "Docker has no NVIDIA runtime: install the NVIDIA Container Toolkit, run 'nvidia-ctk runtime configure "
        "--runtime=docker' and restart Docker (a Docker installed as a snap cannot use it).",
    ),
    (
        r"error setting rlimit type 8|setrlimit.*RLIMIT_MEMLOCK",
        "the Docker daemon may not raise the memlock limit (it lacks CAP_SYS_RESOURCE, as inside an unprivileged "
        "container): set ulimits.memlock to a limit it has, in bytes, for example 8388608.",
    ),
    (
        r"port is already allocated|address already in use",
        "another program holds the port: stop it or choose another port.",
    ),
    (r"cannot assign requested address", "bind is not an address of this host: 'ip address' lists those it has."),
    (
        r"is already in use by container",
        "another run is deploying the same server at this moment: run it again when that one has ended.",
    ),
    (
        r"no space left on device",
        "the disk of the Docker data directory is full: free space there (docker system df shows what Docker uses).",
    ),
    (
        r"no matching manifest for",
        "the image is not built for this machine's processor ('uname -m' names it): choose one that is.",
    ),
    (r"toomanyrequests|rate limit", "the registry limits downloads: wait, or run docker login on the host."),
    (
        r"no such image|manifest unknown|not found: manifest|repository does not exist|\baccess\b.*\bdenied|^denied"
        r"|unauthorized|authentication required",
        "the registry does not have it or wants a login: check the name and tag, run docker login on the host, or load "
        "the image there with docker load.",
    ),
    (
        r"HTTPConnectionPool.*read timed out",
        "the Docker Engine did not answer in time: look at its log ('journalctl -u docker') and the load of the host.",
    ),
    (
        r"no such host|connection refused|timeout|deadline exceeded|network is unreachable|\bEOF\b|\bTLS\b"
        r"|failure in name resolution|server misbehaving",
        "the registry cannot be reached from the host: check its network and proxy, or load the image there with "
        "docker load and set pull: never.",
    ),
    (r"bind source path does not exist|invalid mount config", "a mounted path is missing on the host: create it."),
    (
        r"error while creating mount source path|error while mounting|read-only file system",
        "Docker cannot reach a mounted path: check that root may, and that Docker is not a snap.",
    ),
    (r"executable file not found", "the image does not hold that program: is it an image of vLLM?"),
    (r"device error: .*unknown device", "the host has no GPU of that UUID: 'nvidia-smi -L' lists those it has."),
    (
        r"nvidia-container-cli|failed to inject CDI|unresolvable CDI|driver/library version mismatch",
        "the NVIDIA Container Toolkit could not hand over the GPU: run nvidia-smi on the host; if it works, regenerate "
        "the CDI specification (nvidia-ctk cdi generate) and restart Docker.",
    ),
)


def explain(message: str) -> str:
    """The remedy for an error message of Docker, or nothing."""
    return next((remedy for pattern, remedy in EXPLANATIONS if re.search(pattern, message, re.IGNORECASE)), "")


def connect(docker_host: str | None = None, timeout: int = 60) -> t.Any:
    """A client of the Docker Engine on this host.

    Raises:
        VllmError: when the SDK is missing, or the engine is absent, stopped or closed to this user.
    """
    if DOCKER_IMPORT_ERROR is not None:
        raise VllmError(
            f"The Docker SDK for Python cannot be imported on this host ({DOCKER_IMPORT_ERROR}). Install "
            "python3-docker (Debian, Ubuntu, DGX OS) or the Python packages docker and requests for the interpreter "
            "that Ansible uses here."
        )
    environment = {**os.environ, **({"DOCKER_HOST": docker_host} if docker_host else {})}
    try:
        # The SDK before 7 speaks API 1.41 (5.0) unless it is told to ask, and Docker Engine 29 knows none below 1.44.
        client = docker.from_env(version="auto", environment=environment, timeout=timeout).api
        client.ping()
        # Not every call takes a limit of its own.
        setattr(client, "post", _not_for_ever(client.post))  # noqa: B010
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise VllmError(_unreachable(environment.get("DOCKER_HOST") or f"unix://{SOCKET}", str(error))) from None
    return client


def _not_for_ever(post: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    """Bound the silence of calls that the SDK lets wait for ever, such as a pull from a registry that hangs."""

    def bounded(*arguments: t.Any, **options: t.Any) -> t.Any:
        if options.get("timeout", SILENCE) is None:
            options["timeout"] = SILENCE
        return post(*arguments, **options)

    return bounded


def _unreachable(address: str, error: str) -> str:
    attempt = f"Cannot talk to the Docker Engine at {address}: "
    path = address[len("unix://") :] if address.startswith("unix://") else ""
    if re.search(r"permission denied|PermissionError", error, re.IGNORECASE):
        return attempt + (
            "this user has no permission. Add the user to group docker ('sudo usermod -aG docker USER', then log in "
            "again) or run with become: true."
        )
    if "http+docker" in error:
        return attempt + (
            "the Python packages docker and requests on this host do not fit together. Upgrade docker to 7.1 or later, "
            "or use python3-docker and python3-requests of the distribution."
        )
    if path and not os.path.exists(path) and not shutil.which("dockerd", path=f"{os.defpath}:/usr/sbin:/usr/local/bin"):
        return attempt + "it is not installed. Install Docker Engine (Debian, Ubuntu: docker.io)."
    if path and re.search(r"FileNotFoundError|ConnectionRefusedError", error):
        seen = "nothing listens on that socket" if os.path.exists(path) else "there is no such socket"
        return attempt + f"it is not running ({seen}). Start it: 'sudo systemctl start docker'."
    return attempt + f"{error.rstrip('.')}. Check DOCKER_HOST, and docker_host of the server."


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


def engine_failures() -> tuple[type[BaseException], ...]:
    return (docker.errors.DockerException, requests.exceptions.RequestException, OSError)


# The id of a network's endpoint says nothing to anybody, and other ids are as good when they are short.
ENDPOINT = re.compile(r" on endpoint \S+ \([0-9a-f]{64}\)")
LONG_ID = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")


def is_lost(error: BaseException) -> bool:
    """Whether the connection to the engine broke, as it does when that ends."""
    is_timeout = isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error)
    return isinstance(error, requests.exceptions.ConnectionError) and not is_timeout


def sentence(attempt: str, error: BaseException) -> str:
    """Docker's error as what was attempted, what was seen and what to change."""
    if is_lost(error):
        return (
            f"Cannot {attempt}: the Docker Engine ended or was restarted meanwhile. Look at 'systemctl status docker' "
            "and its log ('journalctl -u docker'), then run it again."
        )
    seen = LONG_ID.sub(r"\1", ENDPOINT.sub("", str(getattr(error, "explanation", None) or error).strip()))
    remedy = explain(seen)
    return f"Cannot {attempt}. Docker says: {seen.rstrip('.')}. {remedy[:1].upper() + remedy[1:]}".strip()
