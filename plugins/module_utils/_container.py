# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Note that this module util is **PRIVATE** to the collection. It can have breaking changes at any time.
# Do not use this from other collections or standalone plugins/modules!

"""The container backend: a spec as the Docker Engine's own configuration, and the engine behind a few verbs.

C(configuration) is the body of C(POST /containers/create); C(docker_argv) says the same as a command line for people.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import typing as t
from dataclasses import replace

from . import _preflight
from ._deployment import (
    PURGEABLE,
    STATES,
    SUFFIX,
    Action,
    Instance,
    Observed,
    Plan,
    Slot,
    Wanted,
    plan,
    recovery,
)
from ._errors import VllmError
from ._ports import PortOwner, overlaps, port_owner
from ._server import (
    COLLECTION_VERSION,
    SERVER_PARAMETERS,
    Places,
    ServerSpec,
    argv,
    canonical_json,
    default_container_name,
    env,
    fingerprint,
    from_params,
)
from ._spec_check import check, judge
from ._versions import METADATA_PROGRAM, version_of_labels

try:
    import docker
    import docker.errors
    import requests.exceptions

    DOCKER_IMPORT_ERROR: str | None = None
except ImportError as import_error:
    DOCKER_IMPORT_ERROR = str(import_error)

LABEL_SPEC = "gpufleet.vllm.spec"
LABEL_FINGERPRINT = "gpufleet.vllm.fingerprint"
LABEL_VERSION = "gpufleet.vllm.version"
# JSON list of the secret files that were written for the server, so that they go when it goes.
LABEL_WROTE = "gpufleet.vllm.wrote"
# The version of vLLM in the container's image, so that it is looked up once.
LABEL_VLLM_VERSION = "gpufleet.vllm.vllm_version"
UNKNOWN_VERSION = "unknown"
# On a volume that holds caches: the container name of the server they belong to.
LABEL_CACHE = "gpufleet.vllm.cache"

HUGGINGFACE_TARGET = "/root/.cache/huggingface"
ENCODINGS_TARGET = "/etc/encodings"
CACHES_TARGET = "/var/cache/vllm"
SECRETS_TARGET = "/run/secrets"
SOCKET = "/var/run/docker.sock"

# Puts secrets from mounted files into the environment of the server alone: not in docker inspect, argv or the log.
# Lines of the env file are taken literally, as docker --env-file takes them. Without its key a server would let
# everybody in, so an empty file is an error.
SECRETS_SHELL = (
    f'if [ -e {SECRETS_TARGET}/env ]; then while IFS= read -r l || [ -n "$l" ]; do '
    f'case "$l" in ""|"#"*) ;; *=*) export "$l";; esac; done < {SECRETS_TARGET}/env; fi; '
    f"if [ -e {SECRETS_TARGET}/vllm_api_key ]; then "
    f'VLLM_API_KEY="$(cat {SECRETS_TARGET}/vllm_api_key)" && [ -n "$VLLM_API_KEY" ] || '
    f'{{ echo "{SECRETS_TARGET}/vllm_api_key holds no API key" >&2; exit 1; }}; export VLLM_API_KEY; fi; exec "$@"'
)
SECRET_TARGETS = {"hf_token_file": "hf_token", "api_key_file": "vllm_api_key", "env_file": "env"}

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


# ---------------------------------------------------------------------------------------------------------------------
# Pure: the spec as Docker's configuration
# ---------------------------------------------------------------------------------------------------------------------


def configuration(
    spec: ServerSpec,
    stamp: str,
    entrypoint: t.Sequence[str] | None = None,
    wrote: t.Iterable[str] = (),
    image_id: str | None = None,
) -> dict[str, t.Any]:
    """The body of the Engine API's container-create call. C(entrypoint) is the image's own."""
    places = Places(
        ENCODINGS_TARGET,
        f"{SECRETS_TARGET}/{SECRET_TARGETS['hf_token_file']}",
        CACHES_TARGET if spec.keep_caches else None,
    )
    host = {
        "Binds": _binds(spec, image_id),
        "DeviceRequests": _device_requests(spec),
        "IpcMode": spec.ipc_mode,
        "NetworkMode": spec.network_mode,
        "PortBindings": _port_bindings(spec),
        "RestartPolicy": _restart_policy(spec.restart_policy),
        "Ulimits": [{"Name": n, "Soft": v, "Hard": v} for n, v in sorted(spec.ulimits.items())],
    }
    body = {
        "Image": spec.image,
        "Env": [f"{key}={value}" for key, value in sorted(env(spec, places).items())],
        "Labels": {
            **spec.labels,
            LABEL_SPEC: canonical_json(spec.to_dict()),
            LABEL_FINGERPRINT: stamp,
            LABEL_VERSION: COLLECTION_VERSION,
            LABEL_VLLM_VERSION: spec.vllm_version or UNKNOWN_VERSION,
            **({LABEL_WROTE: canonical_json(sorted(wrote))} if wrote else {}),
        },
        "StopTimeout": spec.stop_timeout,
        "HostConfig": host,
        **_command(spec, list(entrypoint or [])),
    }
    if host["PortBindings"]:
        body["ExposedPorts"] = {port: {} for port in t.cast("dict[str, t.Any]", host["PortBindings"])}
    return body


def _command(spec: ServerSpec, entrypoint: list[str]) -> dict[str, list[str]]:
    """Everything after the image's entrypoint, which stays as it is (NGC's sets the host up and then runs its words).

    Some images have the server itself as the entrypoint; only there, and only to hand over secrets, it is wrapped.
    """
    before = _words_before_arguments(entrypoint)
    words = [*before, *argv(spec)]
    if not (spec.api_key_file or spec.env_file):
        return {"Cmd": words}
    shell = ["sh", "-c", SECRETS_SHELL, "vllm"]
    serves = before != ["vllm", "serve"]
    return {"Entrypoint": [*shell, *entrypoint], "Cmd": words} if serves else {"Cmd": [*shell, *words]}


def _words_before_arguments(entrypoint: list[str]) -> list[str]:
    """What an image with that entrypoint wants before the arguments of C(vllm serve), whose first is the model."""
    if entrypoint[-2:] == ["vllm", "serve"]:
        return []
    # Official images before the entrypoint became `vllm serve`; the model is an option there.
    if entrypoint[-1:] == ["vllm.entrypoints.openai.api_server"]:
        return ["--model"]
    return ["vllm", "serve"]


def _binds(spec: ServerSpec, image_id: str | None) -> list[str]:
    binds = []
    if spec.huggingface_dir:
        binds.append(f"{spec.huggingface_dir}:{HUGGINGFACE_TARGET}")
    if spec.reads_encodings:
        binds.append(f"{spec.encodings_dir}:{ENCODINGS_TARGET}:ro")
    if spec.model_dir and not _is_mounted(spec.model, spec.volumes):
        binds.append(f"{spec.model}:{spec.model}:ro")
    binds += [f"{path}:{SECRETS_TARGET}/{SECRET_TARGETS[key]}:ro" for key, path in spec.secret_files.items()]
    binds += spec.volumes
    if spec.keep_caches:
        # What one image compiled may crash another: each has a volume of its own.
        binds.append(f"{spec.container_name}-cache-{(image_id or 'IMAGE').rpartition(':')[2][:12]}:{CACHES_TARGET}")
    return binds


def _is_mounted(path: str, volumes: t.Iterable[str]) -> bool:
    targets = [volume.split(":")[1].rstrip("/") for volume in volumes]
    return any(path == target or path.startswith(target + "/") for target in targets)


def _device_requests(spec: ServerSpec) -> list[dict[str, t.Any]]:
    if spec.gpus == "none":
        return []
    ids = [] if spec.gpus == "all" else list(spec.gpus)
    return [
        {"Driver": "", "Count": 0 if ids else -1, "DeviceIDs": ids or None, "Capabilities": [["gpu"]], "Options": {}}
    ]


def _port_bindings(spec: ServerSpec) -> dict[str, list[dict[str, str]]]:
    if spec.network_mode == "host":
        return {}
    return {f"{spec.port}/tcp": [{"HostIp": spec.bind, "HostPort": str(spec.port)}]}


def _restart_policy(text: str) -> dict[str, t.Any]:
    name, _colon, retries = text.partition(":")
    return {"Name": name, "MaximumRetryCount": int(retries or 0)}


def trial(body: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The same container, except that it takes no port, runs nothing and does so once."""
    host = {**body["HostConfig"], "PortBindings": {}, "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0}}
    return {**body, "HostConfig": host, "Entrypoint": ["true"], "Cmd": [], "ExposedPorts": {}}


def docker_argv(name: str, body: t.Mapping[str, t.Any]) -> list[str]:
    """The same configuration as the C(docker create) command that would make it, for people to read and try."""
    host = body["HostConfig"]
    words = ["docker", "create", "--name", name]
    for request in host["DeviceRequests"]:
        ids = request["DeviceIDs"]
        words += ["--gpus", '"device={}"'.format(",".join(ids)) if ids else "all"]
    words += ["--ipc", host["IpcMode"], "--network", host["NetworkMode"]]
    for limit in host["Ulimits"]:
        words += ["--ulimit", f"{limit['Name']}={limit['Soft']}"]
    policy = host["RestartPolicy"]
    retries = f":{policy['MaximumRetryCount']}" if policy["MaximumRetryCount"] else ""
    words += ["--restart", policy["Name"] + retries, "--stop-timeout", str(body["StopTimeout"])]
    for port, (binding,) in host["PortBindings"].items():
        address = f"[{binding['HostIp']}]" if ":" in binding["HostIp"] else binding["HostIp"]
        words += ["--publish", f"{address}:{binding['HostPort']}:{port.split('/')[0]}"]
    for flag, values in (("--volume", host["Binds"]), ("--env", body["Env"])):
        words += [word for value in values for word in (flag, value)]
    for key, value in sorted(body["Labels"].items()):
        words += ["--label", f"{key}={value}"]
    entrypoint = list(body.get("Entrypoint") or ())
    words += ["--entrypoint", entrypoint[0]] if entrypoint else []
    return [*words, body["Image"], *entrypoint[1:], *body["Cmd"]]


def command(action: Action, name: str, body: t.Mapping[str, t.Any]) -> str:
    """An action as the command line that does the same. C(body) is the configuration of the wanted container."""
    target = name + SUFFIX[action.target] if action.target in SUFFIX else action.target
    to = name + SUFFIX[action.to] if action.to in SUFFIX else action.to
    if action.verb == "create":
        return shlex.join(docker_argv(target, body))
    if action.verb == "try":
        return shlex.join(["docker", "run", "--rm", *docker_argv(name + SUFFIX["trial"], trial(body))[2:]])
    words = {
        "create_directory": ["mkdir", "-p", target],
        "write_secret": ["install", "-m", "0600", "/dev/stdin", target],
        "delete_file": ["rm", target],
        "delete_directory": ["rm", "-r", target],
        "pull": ["docker", "pull", target],
        "start": ["docker", "start", target],
        "stop": ["docker", "stop", target],
        "remove": ["docker", "rm", "-f", target],
        "rename": ["docker", "rename", target, to],
        "remove_cache": ["docker", "volume", "rm", target],
    }
    return shlex.join(words[action.verb])


def server_name(container_name: str) -> str:
    """The server that a container of ours belongs to: its name without the suffix of the slot."""
    for suffix in filter(None, SUFFIX.values()):
        if container_name.endswith(suffix):
            return container_name[: -len(suffix)]
    return container_name


def instance(slot: Slot, inspected: t.Mapping[str, t.Any]) -> Instance:
    """What the plan needs to know of a container, from what C(docker inspect) prints."""
    labels = inspected["Config"].get("Labels") or {}
    state = inspected["State"]
    intent, wrote = _loaded(labels.get(LABEL_SPEC)), _loaded(labels.get(LABEL_WROTE))
    return Instance(
        slot=slot,
        owned=LABEL_FINGERPRINT in labels,
        running=bool(state.get("Running") or state.get("Restarting")),
        fingerprint=labels.get(LABEL_FINGERPRINT),
        image_id=inspected.get("Image"),
        intent=intent if isinstance(intent, dict) else {},
        wrote=tuple(map(str, wrote)) if isinstance(wrote, list) else (),
        caches=tuple(_caches(inspected)),
        vllm_version=labels.get(LABEL_VLLM_VERSION),
    )


def _caches(container: t.Mapping[str, t.Any]) -> list[str]:
    """The volumes that a container's configuration mounts; everything else that is mounted is a path."""
    binds = (container.get("HostConfig") or {}).get("Binds") or ()
    sources = [str(bind).partition(":")[0] for bind in binds]
    return [source for source in sources if not source.startswith("/")]


def _loaded(label: str | None) -> t.Any:
    """A label's JSON; a label that somebody else wrote may hold anything."""
    try:
        return json.loads(label or "null")
    except ValueError:
        return None


# ---------------------------------------------------------------------------------------------------------------------
# The engine
# ---------------------------------------------------------------------------------------------------------------------


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
    except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as error:
        raise VllmError(_unreachable(environment.get("DOCKER_HOST") or f"unix://{SOCKET}", str(error))) from None
    return client


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

    def container(self, slot: Slot) -> dict[str, t.Any] | None:
        try:
            return t.cast("dict[str, t.Any]", self.client.inspect_container(self.name + SUFFIX[slot]))
        except docker.errors.NotFound:
            return None

    def instances(self) -> dict[Slot, Instance]:
        found = {slot: self.container(slot) for slot in SUFFIX}
        return {slot: instance(slot, inspected) for slot, inspected in found.items() if inspected}

    def owned(self) -> list[str]:
        """Names of all containers that this collection created, whatever their state and slot."""
        found = self.client.containers(all=True, filters={"label": LABEL_FINGERPRINT})
        return sorted(str(container["Names"][0]).lstrip("/") for container in found if container.get("Names"))

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

    def create(self, slot: Slot, body: t.Mapping[str, t.Any]) -> None:
        for volume in _caches(body):
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

    def start(self, slot: Slot) -> None:
        self.client.start(self.name + SUFFIX[slot])

    def stop(self, slot: Slot) -> None:
        # The one the server was made with: whoever stops it by name alone does not know it.
        found = self.container(slot)
        timeout = (found["Config"].get("StopTimeout") if found else None) or self.stop_timeout
        # The client waits a little longer than the engine does before it kills.
        self.client.stop(self.name + SUFFIX[slot], timeout=timeout)

    def remove(self, slot: Slot) -> None:
        with contextlib.suppress(docker.errors.NotFound):
            self.client.remove_container(self.name + SUFFIX[slot], force=True)

    def rename(self, slot: Slot, to: Slot) -> None:
        self.client.rename(self.name + SUFFIX[slot], self.name + SUFFIX[to])

    def logs(self, slot: Slot = "current", lines: int = 50) -> str:
        raw = self.client.logs(self.name + SUFFIX[slot], tail=lines, stdout=True, stderr=True)
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


def sentence(attempt: str, error: BaseException) -> str:
    """Docker's error as what was attempted, what was seen and what to change."""
    seen = str(getattr(error, "explanation", None) or error).strip()
    remedy = explain(seen)
    return f"Cannot {attempt}. Docker says: {seen.rstrip('.')}. {remedy[:1].upper() + remedy[1:]}".strip()


# ---------------------------------------------------------------------------------------------------------------------
# One run: observe, plan, apply
# ---------------------------------------------------------------------------------------------------------------------

PARAMETERS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": list(STATES), "default": "started"},
    "pull": {"type": "str", "choices": ["missing", "always", "never"], "default": "missing"},
    "hf_token": {"type": "str", "no_log": True},
    "api_key": {"type": "str", "no_log": True},
    "adopt": {"type": "bool", "default": False},
    "recreate": {"type": "bool", "default": False},
    "all": {"type": "bool", "default": False},
    "purge": {"type": "list", "elements": "str", "choices": list(PURGEABLE), "default": []},
    "docker_host": {"type": "str"},
}


class Deployment:
    """One server on one engine: what is wanted, and the observing and doing around the plan."""

    def __init__(self, params: t.Mapping[str, t.Any], engine: Engine, spec: ServerSpec | None) -> None:
        self.params = params
        self.engine = engine
        self.spec = spec
        self.secrets: _preflight.Secrets | None = None
        self.stamp = ""
        self.needs: list[str] = []
        # What is odd about the spec for its version of vLLM, and stops nothing.
        self.doubts: list[str] = []
        if spec:
            given = {"hf_token_file": params["hf_token"], "api_key_file": params["api_key"]}
            self.secrets = _preflight.Secrets(spec, given)
            self.stamp = fingerprint(spec.to_dict(), self.secrets.digests)

    @property
    def wanted(self) -> Wanted:
        return Wanted(
            state=self.params["state"],
            name=self.engine.name,
            fingerprint=self.stamp,
            intent=self.spec.to_dict() if self.spec else {},
            image=self.spec.image if self.spec else "",
            adopt=self.params["adopt"],
            purge=tuple(self.params["purge"]),
            recreate=self.params["recreate"],
        )

    def observe(self, lenient: bool = False) -> Observed:
        """Look at the host. Lenient (check mode): what another role will provide does not count as a problem."""
        instances = self.engine.instances()
        if self.spec is None or self.secrets is None:
            return Observed(instances, in_use=self._in_use(), caches=tuple(self.engine.caches()))
        image = self.engine.image(self.spec.image)
        self.spec = self._with_version(self.spec, image, instances)
        faults, self.doubts = judge(check(self.spec), self.spec.validation)
        encodings = _preflight.encodings_problems(self.spec)
        self.needs = ["encodings"] if encodings else []
        problems = [*faults, *self.secrets.problems, *_preflight.problems(self.spec), *([] if lenient else encodings)]
        if image is None and self.params["pull"] == "never":
            problems.append(
                f"The image {self.spec.image} is not on the host, and pull is 'never'. Load it there first."
            )
        return Observed(
            instances=instances,
            image_id=image["Id"] if image else None,
            missing_directories=_preflight.missing_directories(self.spec),
            stale_secrets=self.secrets.stale,
            problems=tuple(problems),
            port_conflict=self._port_conflict(self.spec),
        )

    def _with_version(
        self, spec: ServerSpec, image: t.Mapping[str, t.Any] | None, instances: t.Mapping[Slot, Instance]
    ) -> ServerSpec:
        """The spec with the version its image holds, from what costs least: what was said, what the image tells of
        itself, what an earlier run recorded, and only then a look inside."""
        if spec.vllm_version or image is None:
            return spec
        config = image["Config"]
        version = version_of_labels(config.get("Labels") or {}, config.get("Env") or ())
        recorded = {one.image_id: one.vllm_version for one in instances.values() if one.vllm_version}
        if not version and image["Id"] in recorded:
            version = recorded[image["Id"]]
        elif not version:
            version = self.engine.read_version(image["Id"])
        return replace(spec, vllm_version=version) if version not in (None, UNKNOWN_VERSION) else spec

    def _pull(self, reference: str) -> None:
        """Pull, and judge the flags by the version that came if it was not known before."""
        self.engine.pull(reference)
        if self.spec is None or self.spec.vllm_version:
            return
        self.spec = self._with_version(self.spec, self.engine.image(reference), self.engine.instances())
        faults, _doubts = judge(check(self.spec), self.spec.validation)
        if faults:
            raise VllmError(" ".join(faults))

    def _in_use(self) -> frozenset[str]:
        """Paths on the host that the other servers of this collection use."""
        others = [i for i in self.engine.owned() if server_name(i) != self.engine.name]
        intents = [instance("current", self.engine.client.inspect_container(name)).intent for name in others]
        return frozenset(path for intent in intents for path in _paths(intent))

    def _port_conflict(self, spec: ServerSpec) -> str | None:
        own = {c["Id"] for c in map(self.engine.container, SUFFIX) if c}
        publishing = {container["Id"] for container in self.engine.publishing(spec.port, spec.bind)}
        if publishing - own:
            return self._conflict(spec, PortOwner("it", container_id=min(publishing - own)))
        owner = port_owner(spec.port, spec.bind)
        if owner is None or owner.container_id in own or publishing or (owner.pid is None and self._listens(spec.port)):
            return None
        return self._conflict(spec, owner)

    def _listens(self, port: int) -> bool:
        """Whether the server that runs now was told to listen there: without root nothing more is known of a port."""
        current = self.engine.instances().get("current")
        now = _recorded_spec(current.intent) if current and current.running else None
        return now is not None and now.network_mode == "host" and now.port == port

    def _conflict(self, spec: ServerSpec, owner: PortOwner) -> str:
        who, remedy = owner.description, "Stop that first, or give this server another port."
        if owner.container_id:
            name = self.engine.container_name(owner.container_id)
            who = f"the container {name}"
            if name in self.engine.owned():
                who += ", another server of this collection"
                remedy = (
                    "Remove that one first (ansible-playbook gpufleet.vllm.teardown, or vllm_container with "
                    f"container_name: {name} and state: absent), or give this server another port."
                )
        return f"Port {spec.port} is taken by {who}, which is not part of this server. {remedy}"

    def body(self) -> dict[str, t.Any]:
        """The configuration of the wanted container; before its image is there, with a plain entrypoint assumed."""
        if self.spec is None:
            return {}
        image = self.engine.image(self.spec.image)
        # A file that held the secret already is the user's own, and stays when the server goes.
        written = {self._path(key) for key in (self.secrets.stale if self.secrets else ())}
        written |= {path for one in self.engine.instances().values() for path in one.wrote}
        entrypoint = image["Config"].get("Entrypoint") if image else None
        return configuration(self.spec, self.stamp, entrypoint, written, image["Id"] if image else None)

    def commands(self, decided: Plan) -> list[str]:
        body = self.body()
        named = [
            Action("write_secret", self._path(a.target)) if a.verb == "write_secret" else a for a in decided.actions
        ]
        return [command(action, self.engine.name, body) for action in named]

    def _path(self, key: str) -> str:
        return self.secrets.files[key] if self.secrets else key

    def do(self, action: Action) -> None:
        """The one place where a plan has an effect."""
        slot = t.cast(Slot, action.target)
        effects: dict[str, t.Callable[[], None]] = {
            "create_directory": lambda: _preflight.make_directory(action.target),
            "write_secret": lambda: self.secrets.write(action.target) if self.secrets else None,
            "delete_file": lambda: _preflight.delete_file(action.target),
            "delete_directory": lambda: _preflight.delete_directory(action.target),
            "pull": lambda: self._pull(action.target),
            "create": lambda: self.engine.create(slot, self.body()),
            "try": lambda: self.engine.try_start(self.body()),
            "start": lambda: self.engine.start(slot),
            "stop": lambda: self.engine.stop(slot),
            "remove": lambda: self.engine.remove(slot),
            "rename": lambda: self.engine.rename(slot, t.cast(Slot, action.to)),
            "remove_cache": lambda: self.engine.remove_cache(action.target),
        }
        effects[action.verb]()

    def apply(self, decided: Plan) -> None:
        """Do what was decided; when a step fails, put back what served before and say so.

        Raises:
            VllmError: names the step, what Docker said, the remedy, and what serves now.
        """
        for action, words in zip(decided.actions, decided.words(self.engine.name)):
            try:
                self.do(action)
            except VllmError as error:
                raise VllmError(f"{error} {self._recover(decided, action)}") from None
            except engine_failures() as error:
                raise VllmError(f"{sentence(words, error)} {self._recover(decided, action)}") from None

    def _recover(self, decided: Plan, failed: Action) -> str:
        """After a step failed: nothing half made stays behind, and the server that was stopped serves again."""
        if self.params["state"] not in ("present", "started"):
            return "Run it again when that is put right."
        try:
            self._undo(decided, failed)
            current = self.engine.instances().get("current")
        except VllmError as error:
            return f"Putting the previous server back failed too: {error}"
        except engine_failures() as error:
            return sentence("put the previous server back", error)
        if current and current.running:
            return "The server is running." if current.fingerprint == self.stamp else "The previous server is running."
        return "No server was stopped by this."

    def _undo(self, decided: Plan, failed: Action) -> None:
        created = next((action.target for action in decided.actions if action.verb == "create"), None)
        current = self.engine.instances().get("current")
        if created == "current" and current and not current.running:
            self.engine.remove("current")
        if not self.engine.instances():
            for cache in self.engine.caches():
                self.engine.remove_cache(cache)
        left = Observed(self.engine.instances())
        back = plan(Wanted("reverted", self.engine.name, adopt=True), recovery(left))
        if not self._serves(left.instances.get("current")):
            self._restore_secrets(decided, failed)
        kept = any(action.to == "superseded" for action in decided.actions)
        # What a run that was cut short has stopped did serve.
        done = (*_before(failed, decided), failed)
        served = any(action.verb == "stop" or (action.verb, action.target) == ("remove", "next") for action in done)
        for action in back.actions:
            # A server that did not run before is put back as it was.
            if action.verb != "start" or served or not kept:
                self.do(action)

    def _serves(self, current: Instance | None) -> bool:
        """Whether the new server runs, though the engine was too slow to say so: it has read its secrets."""
        return current is not None and current.running and current.fingerprint == self.stamp

    def _restore_secrets(self, decided: Plan, failed: Action) -> None:
        for action in _before(failed, decided):
            if action.verb == "write_secret" and self.secrets:
                self.secrets.restore(action.target)

    def server(self) -> dict[str, t.Any]:
        """The server as it is now."""
        found = self.engine.container("current")
        config = found["Config"] if found else {}
        spec = _recorded_spec(instance("current", found).intent) if found else self.spec
        return {
            "container_name": self.engine.name,
            "state": found["State"]["Status"] if found else "absent",
            "container_id": found["Id"] if found else None,
            "image": config.get("Image"),
            "image_id": found["Image"] if found else None,
            "url": spec.url if spec else None,
            "served_model_name": spec.served_model_name if spec else None,
            "api_key_file": spec.api_key_file if spec else None,
            "fingerprint": (config.get("Labels") or {}).get(LABEL_FINGERPRINT),
            "started_at": found["State"]["StartedAt"] if found else None,
            "superseded": self.engine.container("superseded") is not None,
        }


def _before(action: Action, decided: Plan) -> tuple[Action, ...]:
    return decided.actions[: decided.actions.index(action)]


def _paths(intent: t.Mapping[str, t.Any]) -> list[str]:
    """The paths on the host that a server with that record uses."""
    keys = ("huggingface_dir", "encodings_dir", "hf_token_file", "api_key_file", "env_file", "model")
    volumes = [str(volume).split(":", maxsplit=1)[0] for volume in intent.get("volumes") or ()]
    return [path for path in [*(str(intent.get(key) or "") for key in keys), *volumes] if path.startswith("/")]


def _recorded_spec(intent: t.Mapping[str, t.Any]) -> ServerSpec | None:
    """The spec that a container was made from; None for a record that this version cannot read."""
    try:
        return from_params(intent)
    except VllmError:
        return None


def run(params: t.Mapping[str, t.Any], check_mode: bool, warn: t.Callable[[str], None]) -> dict[str, t.Any]:
    """Bring one server to the wanted state, or in check mode say what that would take.

    Raises:
        VllmError: when something stands in the way; then nothing that serves was stopped.
    """
    spec = None
    if params["state"] in ("present", "started"):
        spec = from_params({key: params[key] for key in SERVER_PARAMETERS})
    client = connect(params["docker_host"])
    try:
        engines = [Engine(client, name, params["stop_timeout"]) for name in _names(client, params, spec)]
        results = []
        for engine in engines:
            with contextlib.nullcontext() if check_mode else _preflight.alone(engine.name):
                results.append(_run(Deployment(params, engine, spec), check_mode, warn))
    except engine_failures() as error:
        raise VllmError(sentence("look at the servers on this host", error)) from None
    return _merged(results) if params["all"] else results[0]


def _names(client: t.Any, params: t.Mapping[str, t.Any], spec: ServerSpec | None) -> list[str]:
    """The container names of the servers that are meant."""
    if params["all"]:
        everything = Engine(client, "")
        return sorted({*map(server_name, everything.owned()), *everything.cache_owners()})
    if spec:
        return [spec.container_name]
    if not (params["container_name"] or params["name"]):
        raise VllmError("name is missing: say which server by name or container_name, or set all: true for every one.")
    return [params["container_name"] or default_container_name(params["name"])]


def _merged(results: list[dict[str, t.Any]]) -> dict[str, t.Any]:
    """The results of several servers as one."""
    servers = [result["server"] for result in results]
    return {
        "changed": any(result["changed"] for result in results),
        **{key: [line for result in results for line in result[key]] for key in ("actions", "commands", "needs")},
        "diff": [
            {**result["diff"], **dict.fromkeys(("before_header", "after_header"), server["container_name"])}
            for result, server in zip(results, servers)
        ],
        "vllm_version": None,
        "server": None,
        "servers": servers,
    }


def _run(deployment: Deployment, check_mode: bool, warn: t.Callable[[str], None]) -> dict[str, t.Any]:
    pulled = _pull_newer(deployment, check_mode)
    decided = plan(deployment.wanted, deployment.observe(lenient=check_mode))
    if decided.problems:
        several = len(decided.problems) > 1
        told = " ".join(f"({i}) {p}" if several else p for i, p in enumerate(decided.problems, 1))
        raise VllmError(f"{deployment.engine.name} is not started: {told} Nothing was stopped or changed.")
    doubts = deployment.doubts if decided.actions else []
    for warning in [*(deployment.secrets.warnings if deployment.secrets else ()), *doubts]:
        warn(warning)
    actions, commands = decided.words(deployment.engine.name), deployment.commands(decided)
    if not check_mode:
        deployment.apply(decided)
    return {
        "changed": decided.changed or bool(pulled),
        "actions": pulled + actions,
        "commands": [f"docker {words}" for words in pulled] + commands,
        "diff": {
            "before": dict(decided.before),
            "after": dict(decided.after),
            "prepared": "".join(f"{line}\n" for line in pulled + actions),
        },
        "needs": deployment.needs,
        "vllm_version": deployment.spec.vllm_version if deployment.spec else None,
        "server": deployment.server(),
    }


def _pull_newer(deployment: Deployment, check_mode: bool) -> list[str]:
    """With pull: always, ask the registry first, while everything still serves; tell it only when an image came."""
    spec = deployment.spec
    if spec is None or check_mode or deployment.params["pull"] != "always":
        return []
    before = deployment.engine.image(spec.image)
    if before is None:
        return []  # The plan pulls it.
    try:
        deployment.engine.pull(spec.image)
    except engine_failures() as error:
        raise VllmError(sentence(f"pull {spec.image}", error) + " No server was stopped by this.") from None
    after = deployment.engine.image(spec.image)
    return [f"pull {spec.image}"] if after is None or after["Id"] != before["Id"] else []
