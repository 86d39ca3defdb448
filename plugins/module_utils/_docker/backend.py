# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers as containers: everything that reads what Docker says, and every effect on it, behind the Backend."""

from __future__ import annotations

import contextlib
import functools
import time
import typing as t

from .._deploy.backend import SUFFIX, Action, Artifact, Effect, Making, Seen
from .._deploy.record import (
    FETCH_SUFFIX,
    LABEL_CACHE,
    LABEL_FETCH,
    named,
    server_name,
)
from .._errors import Problem, VllmError
from .._host.labels import LABEL_FINGERPRINT
from .._host.ports import overlaps
from .._host.redaction import redact
from .._server.spec import ServerSpec
from .._vllm.versions import METADATA_PROGRAM, version_of_labels
from . import client as docker_client
from .container import NAME, caches_of, configuration, docker_argv, fetching, instance, name_of, other, trial
from .engine import engine_of, engine_problems
from .reader import Inspected, Reader, reader

# Seconds that an engine which was restarted may take until it answers again.
RESTART = 60.0


class DockerBackend:
    """The containers of a Docker Engine. C(client) is the SDK's, made by the first effect."""

    name = NAME

    def __init__(self, looks: Reader, client: t.Callable[[], t.Any], stop_timeout: int = 30) -> None:
        self.reader = looks
        self._client = client
        self.stop_timeout = stop_timeout

    @functools.cached_property
    def client(self) -> t.Any:
        return self._client()

    # --- looking ----------------------------------------------------------------------------------------------------

    def servers(self) -> t.Iterable[str]:
        owners = [(volume.get("Labels") or {}).get(LABEL_CACHE) for volume in self.reader.volumes(LABEL_CACHE)]
        return {*(server_name(name_of(one)) for one in self._owned(self.reader.containers())), *map(str, owners)}

    def look(self, server: str) -> Seen:
        listed = self.reader.containers()
        by_name = {name_of(one): one for one in listed}
        there = {slot: name for slot, name in ((slot, named(server, slot)) for slot in SUFFIX) if name in by_name}
        found = {slot: self.reader.container(name) for slot, name in there.items()}
        others = (one for one in self._owned(listed) if server_name(name_of(one)) != server)
        download = by_name.get(server + FETCH_SUFFIX)
        is_ours = download is not None and LABEL_FETCH in (download.get("Labels") or {})
        return Seen(
            instances={slot: instance(slot, inspected) for slot, inspected in found.items() if inspected},
            others=tuple(map(other, others)),
            download=server + FETCH_SUFFIX if is_ours else None,
            download_conflict=_not_a_download(server) if download and not is_ours else None,
        )

    def _owned(self, listed: t.Iterable[Inspected]) -> list[Inspected]:
        """All containers that this collection created, whatever their state and slot."""
        # One that is removed at this moment has no name any more.
        found = [one for one in listed if LABEL_FINGERPRINT in (one.get("Labels") or {}) and name_of(one)]
        return sorted(found, key=name_of)

    def artifact(self, spec: ServerSpec) -> Artifact | None:
        image = self.reader.image(spec.image)
        if image is None:
            return None
        config = image["Config"]
        return Artifact(image["Id"], version_of_labels(config.get("Labels") or {}, config.get("Env") or ()))

    def version(self, artifact: Artifact) -> str | None:
        body = {
            "Image": artifact.identity,
            "Entrypoint": ["python3", "-c", METADATA_PROGRAM],
            "Cmd": [],
            "HostConfig": {"NetworkMode": "none"},
        }
        probe = self.client.create_container_from_config(body)["Id"]
        try:
            self.client.start(probe)
            status = self.client.wait(probe, timeout=60)["StatusCode"]
            printed = str(self.client.logs(probe, stderr=False).decode("utf-8", errors="replace"))
            return printed.split()[-1] if status == 0 and printed.strip() else None
        except docker_client.failures():
            return None  # No Python in it, or it hangs: then nothing is known.
        finally:
            self.client.remove_container(probe, force=True)

    def refusals(self, spec: ServerSpec) -> t.Sequence[Problem]:
        secrets = filter(None, (spec.hf_token_file, spec.api_key_file, spec.env_file))
        return engine_problems(engine_of(self.reader.identity()), spec.gpus != "none", secrets)

    def holders(self, port: int, bind: str) -> t.Collection[str]:
        """Running containers that publish the port on that address; with iptables alone no process listens on it."""
        return {
            str(container["Id"])
            for container in self.reader.containers()
            if container.get("State") in ("running", "restarting", "paused")
            and any(_is_published(published, port, bind) for published in container.get("Ports") or ())
        }

    def called(self, identity: str) -> str:
        found = self.reader.container(identity)
        return f"the container {str(found['Name']).lstrip('/') if found else identity[:12]}"

    def caches(self, server: str) -> tuple[str, ...]:
        return tuple(sorted(str(volume["Name"]) for volume in self.reader.volumes(f"{LABEL_CACHE}={server}")))

    def log(self, server: str) -> str:
        raw = self.client.logs(server, stdout=True, stderr=True)
        return str(raw.decode("utf-8", errors="replace"))

    # --- acting -----------------------------------------------------------------------------------------------------

    def provide(self, spec: ServerSpec) -> None:
        repository, tag = _split_reference(spec.image)
        for event in self.client.pull(repository, tag=tag, stream=True, decode=True):
            if event.get("error"):
                raise docker_client.sdk().errors.APIError(str(event["error"]))

    def effects(self, server: str, making: t.Callable[[], Making]) -> t.Mapping[str, Effect]:
        def at(action: Action) -> str:
            return named(server, action.target)

        made: list[tuple[Making, dict[str, t.Any]]] = []

        def body() -> dict[str, t.Any]:
            """Composed once from the same: what is shown as a command is what is created."""
            wanted = making()
            if not made or made[-1][0] is not wanted:
                made.append((wanted, self._body(wanted)))
            return made[-1][1]

        trial_name = named(server, "trial")
        return {
            "pull": Effect(lambda a: self.provide(making().spec), lambda a: ["docker", "pull", a.target]),
            "fetch_weights": Effect(lambda a: self._fetch(server, making()), lambda a: ["hf", "download", a.target]),
            "create": Effect(lambda a: self._create(server, at(a), body()), lambda a: docker_argv(at(a), body())),
            "try": Effect(
                lambda a: self._try(server, trial_name, body()),
                lambda a: ["docker", "run", "--rm", *docker_argv(trial_name, trial(body()))[2:]],
            ),
            **_both("start", Effect(lambda a: self.client.start(at(a)), lambda a: ["docker", "start", at(a)])),
            **_both("stop", Effect(lambda a: self._stop(at(a)), lambda a: ["docker", "stop", at(a)])),
            **_both("remove", Effect(lambda a: self._remove(at(a)), lambda a: ["docker", "rm", "-f", at(a)])),
            "rename": Effect(
                lambda a: self.client.rename(at(a), named(server, a.to)),
                lambda a: ["docker", "rename", at(a), named(server, a.to)],
            ),
            "remove_cache": Effect(
                lambda a: self._remove_cache(a.target), lambda a: ["docker", "volume", "rm", a.target]
            ),
        }

    def _body(self, making: Making) -> dict[str, t.Any]:
        """The configuration of the wanted container; before its image is there, with a plain entrypoint assumed."""
        image = self.reader.image(making.spec.image)
        return configuration(
            making, image["Config"].get("Entrypoint") if image else None, image["Id"] if image else None
        )

    def _create(self, server: str, name: str, body: t.Mapping[str, t.Any]) -> None:
        for volume in caches_of(body):
            self.client.create_volume(volume, labels={LABEL_CACHE: server})
        self.client.create_container_from_config(dict(body), name=name)

    def _try(self, server: str, name: str, body: t.Mapping[str, t.Any]) -> None:
        """Run nothing with everything else the same: shows whether the engine would start the real thing."""
        self._create(server, name, trial(body))
        try:
            self.client.start(name)
            self.client.wait(name)
        except docker_client.sdk().errors.APIError as error:
            # The image need not have a `true`; everything before it was set up, and that is what was asked.
            if "executable file not found" not in str(error):
                raise
        finally:
            self._remove(name)

    def _stop(self, name: str) -> None:
        # The time that the server was made with: whoever stops it by name alone does not know it.
        found = self.client.inspect_container(name)
        # The client waits a little longer than the engine does before it kills.
        self.client.stop(name, timeout=found["Config"].get("StopTimeout") or self.stop_timeout)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(docker_client.sdk().errors.NotFound):
            self.client.remove_container(name, force=True)

    def _remove_cache(self, name: str) -> None:
        with contextlib.suppress(docker_client.sdk().errors.NotFound):
            self.client.remove_volume(name)

    def _fetch(self, server: str, making: Making) -> None:
        """Fetch the weights of a model with the image's own Hugging Face client, with the server's mounts and token.

        Raises:
            VllmError: when that fails, with the last line of its output.
        """
        name, spec = server + FETCH_SUFFIX, making.spec
        body = fetching(self._body(making), spec.model, str(spec.engine.get("revision") or ""))
        try:
            self.client.create_container_from_config(body, name=name)
            self.client.start(name)
            # The client's own limit is for answers of the engine; a download may take hours.
            while self.client.inspect_container(name)["State"].get("Running"):
                try:
                    self.client.wait(name, timeout=60)
                except docker_client.failures():
                    time.sleep(1)
            status = self.client.inspect_container(name)["State"].get("ExitCode")
            printed = redact(self.client.logs(name, tail=20).decode("utf-8", errors="replace")).strip().splitlines()
        finally:
            if self.look(server).download:
                self._remove(name)
        if status != 0:
            raise VllmError(
                f"Cannot fetch the weights of {spec.model}: the download ended with status {status}. Its last line "
                f"says: {printed[-1].strip().rstrip('.') if printed else 'nothing'}. Check the name of the model, the "
                "token and the network of the host, or stage the weights there.",
                "download-failed",
            )

    def make_ready(self) -> None:
        docker_client.sdk()

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + RESTART
        while True:
            try:
                self.reader.containers()
                return
            except docker_client.failures():
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.5)

    def failures(self) -> tuple[type[BaseException], ...]:
        return docker_client.failures()

    def sentence(self, attempt: str, error: BaseException) -> str:
        return docker_client.sentence(attempt, error)


def docker_backend(docker_host: str | None = None, stop_timeout: int = 30) -> DockerBackend:
    """The engine of this host, or of that address."""
    return DockerBackend(reader(docker_host), lambda: docker_client.connect(docker_host), stop_timeout)


def _both(verb: str, effect: Effect) -> dict[str, Effect]:
    """The same effect on an instance of the server, and on that of another one."""
    return {verb: effect, f"{verb}_other": effect}


def _not_a_download(server: str) -> str:
    return (
        f"{server}{FETCH_SUFFIX} exists and is no download of gpufleet.vllm (it has no label {LABEL_FETCH}), so it is "
        "left alone. Remove or rename it yourself."
    )


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
