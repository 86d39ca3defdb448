# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of the Docker Engine that can be told to fail at any call, and of a GPU whose memory its containers hold.

tests/integration/docker asks the real engine the same; here every step can go wrong.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import tarfile
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import docker.errors
import pytest
import requests.exceptions
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import job, room, run as deploy_run
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import SUFFIX, Backend
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import Ledger
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import LABEL_SPEC
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.backend import DockerBackend
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reader import Identity, Inspected
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import SERVER_PARAMETERS

IMAGE = "vllm:1"
# The volumes of kernels that all servers of an image share, without the end of its id.
KERNELS = f"gpufleet-kernels-{os.geteuid()}"
LOCKS = "locks"
COMMIT = "0" * 40


class Killed(BaseException):
    """What the backend cannot catch."""


@dataclass
class Client:
    """The calls of the Docker SDK that the backend makes, on containers in a dictionary."""

    containers_by_name: dict[str, dict[str, t.Any]] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=lambda: {IMAGE: "sha256:1"})
    registry: dict[str, str] = field(default_factory=dict)
    # Every call that changes something, and which of them fails.
    calls: list[tuple[str, str]] = field(default_factory=list)
    failing: tuple[str, str] | None = None
    # A start that fails once the container was set up leaves it `created`; a stop may time out after it worked.
    fails_late: bool = False
    made: int = 0
    # The image's own; without them the version of vLLM is read from inside the image.
    labels: dict[str, str] | None = field(default_factory=lambda: {"vllm.version": "0.26.0"})
    probed: str | Exception = "0.26.0"
    volumes_by_name: dict[str, dict[str, str]] = field(default_factory=dict)
    # What is in volumes, as members of archives with their content, by name.
    contents: dict[str, dict[str, tuple[tarfile.TarInfo, bytes]]] = field(default_factory=dict)
    # Of every server: it became ready.
    log: str | Exception = "INFO:     Application startup complete.\n"
    # Seconds that a container was given to stop, by name.
    patience: dict[str, int] = field(default_factory=dict)
    fetch_status: int = 0
    trial_status: int = 0
    # Bytes of the one tensor that a download brings.
    downloads: int = 1
    # The process is killed when it has made so many calls; nothing is heard of it after that.
    dies_after: int | None = None

    def called(self, name: str) -> str:
        """The name of a container that is meant by its id; a look into an image has a name of its own each time."""
        by_id = {container["Id"]: one for one, container in self.containers_by_name.items()}
        name = by_id.get(name, name)
        return "probe" if "-probe-" in name else name

    def _call(self, verb: str, name: str) -> None:
        if self.dies_after is not None and len(self.calls) >= self.dies_after:
            raise Killed
        self.calls.append((verb, name))
        if self.failing == (verb, name) and not self.fails_late:
            raise docker.errors.APIError("failed", explanation=f"{verb} of {name} failed")

    def _done(self, verb: str, name: str) -> None:
        if self.failing == (verb, name) and self.fails_late:
            raise requests.exceptions.ReadTimeout(f"{verb} of {name} took too long")

    def _found(self, name: str) -> dict[str, t.Any]:
        by_id = {container["Id"]: container for container in self.containers_by_name.values()}
        if name not in self.containers_by_name and name not in by_id:
            raise docker.errors.NotFound("No such container")
        return self.containers_by_name.get(name) or by_id[name]

    def inspect_container(self, name: str) -> dict[str, t.Any]:
        return copy.deepcopy(self._found(name))

    def inspect_image(self, reference: str) -> dict[str, t.Any]:
        if reference not in self.images:
            raise docker.errors.ImageNotFound("No such image")
        return {"Id": self.images[reference], "Config": {"Entrypoint": None, "Labels": self.labels}}

    def containers(self, all: bool = False, filters: t.Any = None) -> list[dict[str, t.Any]]:  # noqa: A002
        return [
            {
                "Id": container["Id"],
                "Names": [f"/{name}"],
                "Labels": container["Config"]["Labels"] or {},
                "State": container["State"]["Status"],
                "Ports": container["Ports"] if container["State"]["Running"] else [],
                "Mounts": [
                    {"Type": "bind", "Source": source} if source.startswith("/") else {"Type": "volume", "Name": source}
                    for source in (bind.split(":")[0] for bind in container["HostConfig"].get("Binds") or ())
                ],
            }
            for name, container in self.containers_by_name.items()
            if (all or container["State"]["Running"])
            and (not filters or filters["label"] in (container["Config"]["Labels"] or {}))
        ]

    def pull(self, repository: str, tag: str | None, stream: bool, decode: bool) -> list[dict[str, str]]:
        reference = f"{repository}:{tag}"
        self._call("pull", reference)
        if reference not in self.registry:
            return [{"status": "Pulling"}, {"error": f"manifest for {reference} not found: manifest unknown"}]
        self.images[reference] = self.registry[reference]
        return [{"status": "Pulling"}, {"status": "Done"}]

    def create_container_from_config(self, config: dict[str, t.Any], name: str = "probe") -> dict[str, str]:
        self._call("create", self.called(name))
        assert name not in self.containers_by_name
        missing = [bind.split(":")[0] for bind in config["HostConfig"].get("Binds", ()) if not bind.startswith("/")]
        assert set(missing) <= {*self.volumes_by_name}
        self.put(name, config)
        self._done("create", self.called(name))
        return {"Id": str(self.containers_by_name[name]["Id"])}

    def create_volume(self, name: str, labels: dict[str, str]) -> None:
        self.volumes_by_name[name] = labels

    def volumes(self, filters: dict[str, str]) -> dict[str, t.Any]:
        key, _is, value = filters["label"].partition("=")
        found = {n: ls for n, ls in self.volumes_by_name.items() if key in ls and value in ("", ls[key])}
        return {"Volumes": [{"Name": name, "Labels": labels} for name, labels in found.items()] or None}

    def remove_volume(self, name: str) -> None:
        self._call("remove volume", name)
        binds = [bind for one in self.containers_by_name.values() for bind in one["HostConfig"].get("Binds", ())]
        assert not [bind for bind in binds if bind.startswith(f"{name}:")], "the volume is in use"
        del self.volumes_by_name[name]
        self.contents.pop(name, None)

    def inspect_volume(self, name: str) -> dict[str, str]:
        if name not in self.volumes_by_name:
            raise docker.errors.NotFound("No such volume")
        return {"Name": name}

    def _volume(self, container: str, path: str) -> tuple[str, str]:
        """The volume that is mounted there, and what is below its target."""
        binds = (bind.split(":") for bind in self._found(container)["HostConfig"]["Binds"])
        return next(
            (bind[0], path[len(bind[1]) :].strip("/")) for bind in binds if f"{path}/".startswith(f"{bind[1]}/")
        )

    def put_archive(self, container: str, path: str, data: t.Iterable[bytes]) -> bool:
        volume, _below = self._volume(container, path)
        self._call("unpack", volume)
        kept = self.contents.setdefault(volume, {})
        with tarfile.open(fileobj=io.BytesIO(b"".join(data))) as archive:
            for one in archive:
                content = archive.extractfile(one)
                kept[one.name] = (one, content.read() if content else b"")
                if self.failing == ("unpack halfway", volume):
                    raise docker.errors.APIError("failed", explanation="no space left on device")
        return True

    def get_archive(self, container: str, path: str, chunk_size: int = 1000) -> tuple[t.Iterator[bytes], t.Any]:
        volume, top = self._volume(container, path)
        found = {n: one for n, one in self.contents.get(volume, {}).items() if n.partition("/")[0] == top}
        if not found:
            raise docker.errors.NotFound("Could not find the file")
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for one, content in found.values():
                archive.addfile(one, io.BytesIO(content))
        whole = buffer.getvalue()
        return iter([whole[at : at + chunk_size] for at in range(0, len(whole), chunk_size)]), {}

    def put(self, name: str, config: dict[str, t.Any], running: bool = False) -> None:
        self.made += 1
        bindings = config.get("HostConfig", {}).get("PortBindings", {}).values()
        self.containers_by_name[name] = {
            "Id": f"id{self.made}",
            "Name": f"/{name}",
            "Image": self.images.get(config.get("Image", ""), "sha256:other"),
            "Config": {key: config.get(key) for key in ("Image", "Labels", "Cmd", "Env", "StopTimeout")},
            "HostConfig": config.get("HostConfig", {}),
            "State": {"Running": running, "Status": "running" if running else "created", "StartedAt": "2026"},
            "Ports": [{"PublicPort": int(b["HostPort"]), "Type": "tcp", "IP": b["HostIp"]} for (b,) in bindings],
        }

    def start(self, name: str) -> None:
        self._call("start", self.called(name))
        self._bind(name)
        self._found(name)["State"].update(Running=True, Status="running")
        downloads = (self._found(name)["Config"]["Labels"] or {}).get("gpufleet.vllm.fetch")
        if downloads:
            self._download(name)
        if downloads or self.called(name).endswith("-try"):
            self._found(name)["State"].update(Running=False, Status="exited", ExitCode=self.fetch_status)
        self._done("start", self.called(name))

    def _bind(self, name: str) -> None:
        wanted = {(one["PublicPort"], one["IP"]) for one in self._found(name)["Ports"]}
        for other, container in self.containers_by_name.items():
            held = {(one["PublicPort"], one["IP"]) for one in container["Ports"] if container["State"]["Running"]}
            if other != self.called(name) and wanted & held:
                raise docker.errors.APIError("failed", explanation="Bind failed: port is already allocated")

    def _download(self, name: str) -> None:
        """What the Hugging Face client of the image leaves in the cache."""
        found = self._found(name)
        model, cache = found["Config"]["Cmd"][0], found["HostConfig"]["Binds"][0].split(":")[0]
        repository = Path(cache) / "hub" / f"models--{model.replace('/', '--')}"
        snapshot = repository / "snapshots" / COMMIT
        snapshot.mkdir(parents=True)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(COMMIT)
        (snapshot / "config.json").write_text("{}")
        header = json.dumps({"w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
        (snapshot / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"1" * self.downloads)

    def wait(self, name: str, timeout: int | None = None) -> dict[str, int]:
        self._found(name)
        probes = self.called(name) == "probe"
        if probes and isinstance(self.probed, Exception):
            raise self.probed
        if self.called(name).endswith("-try"):
            return {"StatusCode": self.trial_status}
        return {"StatusCode": 0 if not probes or self.probed else 1}

    def logs(
        self,
        name: str,
        stdout: bool = True,
        stderr: bool = True,
        tail: int | None = None,
        timestamps: bool = False,
    ) -> bytes:
        if self.called(name) == "probe":
            return f"{self.probed}\n".encode()
        if isinstance(self.log, Exception):
            raise self.log
        stamp = "2026-11-27T00:00:00.123456789Z " if timestamps else ""
        lines = self.log.splitlines(keepends=True)
        return "".join(stamp + line for line in (lines[-tail:] if tail else lines)).encode()

    def stop(self, name: str, timeout: int) -> None:
        self._call("stop", self.called(name))
        self.patience[self.called(name)] = timeout
        self._found(name)["State"].update(Running=False, Status="exited")
        self._done("stop", self.called(name))

    def remove_container(self, name: str, force: bool) -> None:
        self._call("remove", self.called(name))
        found = self._found(name)
        del self.containers_by_name[found["Name"][1:]]

    def update_container(self, name: str, restart_policy: dict[str, t.Any]) -> None:
        self._call("update", self.called(name))
        self._found(name)["HostConfig"]["RestartPolicy"] = restart_policy

    def rename(self, name: str, to: str) -> None:
        self._call("rename", self.called(name))
        assert to not in self.containers_by_name
        found = self._found(name)
        self.containers_by_name[to] = self.containers_by_name.pop(found["Name"][1:])
        found["Name"] = f"/{to}"

    @property
    def now(self) -> dict[str, str]:
        """Name to identity and state."""
        return {name: f"{one['Id']} {one['State']['Status']}" for name, one in self.containers_by_name.items()}


@dataclass
class ModelReader:
    """What a reader of an engine's socket finds there, from the model."""

    client: Client
    said: Identity = Identity()

    def containers(self) -> list[Inspected]:
        return self.client.containers(all=True)

    def container(self, name: str) -> Inspected | None:
        return self._unless_missing(lambda: self.client.inspect_container(name))

    def image(self, reference: str) -> Inspected | None:
        return self._unless_missing(lambda: self.client.inspect_image(reference))

    def volumes(self, label: str) -> list[Inspected]:
        return t.cast("list[Inspected]", self.client.volumes(filters={"label": label})["Volumes"] or [])

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        return self.client.logs(name, tail=lines)

    def version(self) -> str:
        return "28.5.2"

    def identity(self) -> Identity:
        return self.said

    def _unless_missing(self, ask: t.Callable[[], Inspected]) -> Inspected | None:
        try:
            return ask()
        except docker.errors.NotFound:
            return None


class FailsOnce(Client):
    """Recovery makes some of the calls again, and they shall work."""

    def _call(self, verb: str, name: str) -> None:
        failing, late = self.failing == (verb, name), self.fails_late
        try:
            super()._call(verb, name)
        finally:
            if failing and not late:
                self.failing = None

    def _done(self, verb: str, name: str) -> None:
        failing = self.failing == (verb, name)
        try:
            super()._done(verb, name)
        finally:
            if failing:
                self.failing = None


@dataclass
class Gpu:
    """One GPU: what the running servers asked for is taken, and what was taken comes back after so many looks."""

    client: Client
    total: int = 80000
    # By a process that is nobody's server.
    foreign: int = 0
    looks_until_back: int = 0
    taken: int = 0

    def look(self) -> dict[str, t.Any]:
        """As gpu_facts tells it."""
        processes = [
            {"pid": 100, "user": None, "used_memory_mib": size, "container": name, "managed": True, "server": name}
            for name, size in self._held()
        ]
        if self.foreign:
            processes.append({"pid": 7, "user": "ann", "used_memory_mib": self.foreign, "container": None})
        now = sum(process["used_memory_mib"] for process in processes)
        if now < self.taken and self.looks_until_back:
            self.looks_until_back -= 1
        else:
            self.taken = now
        used = {"memory_used_mib": self.taken, "memory_free_mib": self.total - self.taken}
        return {"status": "ok", "gpus": [{**GPU, **used, "memory_total_mib": self.total, "processes": processes}]}

    def _held(self) -> t.Iterator[tuple[str, int]]:
        for name, container in self.client.containers_by_name.items():
            spec = json.loads((container["Config"]["Labels"] or {}).get(LABEL_SPEC, "{}"))
            if container["State"]["Running"] and spec and spec.get("gpus") != "none":
                share = float(spec.get("engine", {}).get("gpu_memory_utilization", 0.9))
                yield name, round(self.total * share)


PARAMETERS = {**SERVER_PARAMETERS, **deploy_run.PARAMETERS}
DEFAULTS = {key: parameter.get("default") for key, parameter in PARAMETERS.items()}
SERVER = {"name": "a", "model": "m", "image": IMAGE}
NEW = {"engine": {"max_model_len": 2}}

GPU = {"index": 0, "uuid": "GPU-0", "name": "NVIDIA H100", "memory_kind": "dedicated", "health": "ok"}
FREE_GPU = {**GPU, "memory_total_mib": 81559, "memory_free_mib": 81000, "memory_used_mib": 500, "processes": []}
# A host with one GPU that nobody uses.
FREE: dict[str, t.Any] = {"status": "ok", "gpus": [FREE_GPU]}


@dataclass
class Situation:
    """The host that runs are given: an engine, GPUs, and who listens on the port. Tests change it as they go."""

    client: Client
    state: Path
    engine: Identity = Identity()
    gpus: t.Callable[[], dict[str, t.Any]] = lambda: FREE
    owner: t.Any = None
    probed: list[t.Mapping[str, t.Any]] = field(default_factory=list)
    health: dict[str, t.Any] = field(default_factory=lambda: {"healthy": True})
    # Where it is recorded what this user owns, and the address of the engine.
    record: Path = Path()
    place: str = ""
    # What runs ask for unless they say otherwise.
    server: t.Mapping[str, t.Any] = field(default_factory=lambda: SERVER)

    def server_for(self, said: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
        return self.server

    def backends(self) -> list[Backend]:
        ledger = Ledger(str(self.record), self.place)
        return [DockerBackend(ModelReader(self.client, self.engine), lambda: self.client, ledger=ledger)]

    def host(self) -> job.Host:
        return job.Host(
            {backend.name: backend for backend in self.backends()},
            gpus=lambda samples=1: self._settled(self.gpus()),
            port_owner=lambda port, bind: self.owner,
            probe=self._probe,
            state_directory=str(self.state),
            warn=warnings.append,
        )

    def _settled(self, facts: dict[str, t.Any]) -> dict[str, t.Any]:
        """On the host with a free GPU every server has all the memory that it is ever going to take."""
        if facts is not FREE:
            return facts
        with contextlib.suppress(VllmError):
            known = Ledger(str(self.record), self.place).known()
            names = [one.server + suffix for one in (*known.entries, *known.elsewhere) for suffix in SUFFIX.values()]
            held = [{"pid": 1, "container": name, "used_memory_mib": 81559} for name in {*names}]
            return {**FREE, "gpus": [{**FREE_GPU, "processes": held}]}
        return facts

    def _probe(self, parameters: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        self.probed.append(parameters)
        return self.health


AnyClient = t.TypeVar("AnyClient", bound=Client)
# The host of the test that runs.
situations: list[Situation] = []


def installed(made: AnyClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AnyClient:
    """The engine that the backend talks to, on a host of its own with a free GPU."""
    situations[:] = [Situation(made, tmp_path / "state", record=tmp_path / "record")]
    monkeypatch.setattr(room, "INTERVAL", 0)
    (tmp_path / LOCKS).mkdir(exist_ok=True)
    monkeypatch.setattr(lock, "DIRECTORY", str(tmp_path / LOCKS))
    return made


def situation() -> Situation:
    return situations[0]


warnings: list[str] = []


def run(check: bool = False, **said: t.Any) -> dict[str, t.Any]:
    here = situation()
    return deploy_run.run({**DEFAULTS, **here.server_for(said), **said}, check, here.host())


def manage(check: bool = False, **said: t.Any) -> dict[str, t.Any]:
    """With a state that needs no description of the server."""
    return deploy_run.run({**DEFAULTS, "container_name": "vllm-a", **said}, check, situation().host())
