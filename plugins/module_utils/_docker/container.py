# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spec of a server as the Docker Engine's own configuration, and back. Pure.

C(configuration) is the body of C(POST /containers/create); C(docker_argv) says the same as a command line for people.
"""

from __future__ import annotations

import datetime
import json
import shlex
import typing as t
from dataclasses import dataclass, field, replace

from .._deploy.plan import SUFFIX, Action, Instance, Other, Slot
from .._deploy.record import (
    COLLECTION_VERSION,
    LABEL_FALLBACKS,
    LABEL_FETCH,
    LABEL_FINGERPRINT,
    LABEL_SPEC,
    LABEL_SUPERSEDES,
    LABEL_VERSION,
    LABEL_VLLM_VERSION,
    LABEL_WROTE,
    UNKNOWN_VERSION,
)
from .._deploy.secrets import KEPT
from .._server.spec import Places, ServerSpec, argv, canonical_json, env

HUGGINGFACE_TARGET = "/root/.cache/huggingface"
ENCODINGS_TARGET = "/etc/encodings"
CACHES_TARGET = "/var/cache/vllm"
SECRETS_TARGET = "/run/secrets"

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


@dataclass(frozen=True)
class Circumstances:
    """What a container's configuration takes from its host and its history; none of it was asked for."""

    # The image's own.
    entrypoint: t.Sequence[str] | None = None
    image_id: str | None = None
    # Secret files that were written for the server.
    wrote: t.Iterable[str] = ()
    supersedes: t.Sequence[str] = ()
    fallbacks: t.Mapping[str, t.Any] | None = None
    # Flags and environment that vLLM's own measurements of an earlier start led to.
    learned_engine: t.Mapping[str, str] = field(default_factory=dict)
    learned_env: t.Mapping[str, str] = field(default_factory=dict)


def configuration(spec: ServerSpec, stamp: str, found: Circumstances | None = None) -> dict[str, t.Any]:
    """The body of the Engine API's container-create call."""
    found = found or Circumstances()
    places = Places(
        ENCODINGS_TARGET,
        f"{SECRETS_TARGET}/{SECRET_TARGETS['hf_token_file']}",
        CACHES_TARGET if spec.keep_caches else None,
    )
    host = {
        "Binds": _binds(spec, found.image_id),
        "DeviceRequests": _device_requests(spec),
        "IpcMode": spec.ipc_mode,
        "NetworkMode": spec.network_mode,
        "PortBindings": _port_bindings(spec),
        "RestartPolicy": _restart_policy(spec.restart_policy),
        "Ulimits": [{"Name": n, "Soft": v, "Hard": v} for n, v in sorted(spec.ulimits.items())],
    }
    body = {
        "Image": spec.image,
        "Env": [f"{key}={value}" for key, value in sorted({**found.learned_env, **env(spec, places)}.items())],
        "Labels": {
            **spec.labels,
            LABEL_SPEC: canonical_json(spec.to_dict()),
            LABEL_FINGERPRINT: stamp,
            LABEL_VERSION: COLLECTION_VERSION,
            LABEL_VLLM_VERSION: spec.vllm_version or UNKNOWN_VERSION,
            **_recorded(LABEL_WROTE, sorted(found.wrote)),
            **_recorded(LABEL_SUPERSEDES, list(found.supersedes)),
            **_recorded(LABEL_FALLBACKS, found.fallbacks),
        },
        "StopTimeout": spec.stop_timeout,
        "HostConfig": host,
        **_command(replace(spec, engine={**spec.engine, **found.learned_engine}), list(found.entrypoint or [])),
    }
    if host["PortBindings"]:
        body["ExposedPorts"] = {port: {} for port in t.cast("dict[str, t.Any]", host["PortBindings"])}
    return body


def _recorded(label: str, value: t.Any) -> dict[str, str]:
    return {label: canonical_json(value)} if value else {}


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


# The Hugging Face client of the image knows the token and the cache from the environment. Subfolders of a repository
# hold the same weights in other forms, which vLLM does not read.
FETCH_PROGRAM = (
    "import sys; from huggingface_hub import snapshot_download; "
    "snapshot_download(sys.argv[1], revision=sys.argv[2] or None, "
    "ignore_patterns=['original/*', 'metal/*', '*.pth', '*.onnx', 'onnx/*'])"
)


def fetching(body: t.Mapping[str, t.Any], model: str, revision: str) -> dict[str, t.Any]:
    """The same container, except that it fetches the weights of a model, takes no port and no GPU, and does so once."""
    once = trial(body)
    binds = [bind for bind in once["HostConfig"]["Binds"] if bind.startswith("/")]
    return {
        **once,
        "HostConfig": {**once["HostConfig"], "DeviceRequests": [], "Binds": binds},
        "Labels": {LABEL_FETCH: model},
        "Entrypoint": ["python3", "-c", FETCH_PROGRAM],
        "Cmd": [model, revision],
    }


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
        "restore_secret": ["mv", target + KEPT, target],
        "forget_secret": ["rm", target + KEPT],
        "delete_file": ["rm", target],
        "delete_directory": ["rm", "-r", target],
        "pull": ["docker", "pull", target],
        "fetch_weights": ["hf", "download", target],
        "start": ["docker", "start", target],
        "stop": ["docker", "stop", target],
        "remove": ["docker", "rm", "-f", target],
        "rename": ["docker", "rename", target, to],
        "wait_for_memory": ["nvidia-smi", "--query-gpu=uuid,memory.free,memory.total", "--format=csv"],
        "remember": ["docker", "logs", name],
        "remove_cache": ["docker", "volume", "rm", target],
    }
    return shlex.join(words[action.verb.replace("_other", "")])


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
    intent = loaded(labels.get(LABEL_SPEC))
    return Instance(
        slot=slot,
        owned=LABEL_FINGERPRINT in labels,
        running=bool(state.get("Running") or state.get("Restarting")),
        fingerprint=labels.get(LABEL_FINGERPRINT),
        image_id=inspected.get("Image"),
        intent=intent if isinstance(intent, dict) else {},
        identity=str(inspected.get("Id") or ""),
        supersedes=_texts(labels.get(LABEL_SUPERSEDES)),
        wrote=_texts(labels.get(LABEL_WROTE)),
        caches=tuple(caches_of(inspected)),
        vllm_version=labels.get(LABEL_VLLM_VERSION),
        is_pinned="--kv-cache-memory-bytes" in (inspected["Config"].get("Cmd") or ()),
    )


def slot_of(container_name: str) -> Slot:
    """The slot of a container of ours within its server, by its name."""
    return next(slot for slot, suffix in reversed(tuple(SUFFIX.items())) if container_name.endswith(suffix))


def other(listed: t.Mapping[str, t.Any]) -> Other:
    """A container of another server, from what C(docker ps) lists."""
    labels, name = listed.get("Labels") or {}, str(listed["Names"][0]).lstrip("/")
    return Other(
        name=name,
        identity=str(listed["Id"]),
        running=listed.get("State") in ("running", "restarting"),
        slot=slot_of(name),
        supersedes=_texts(labels.get(LABEL_SUPERSEDES)),
        wrote=_texts(labels.get(LABEL_WROTE)),
    )


def recorded_intent(listed: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What was asked for when the container was made, from what C(docker ps) lists."""
    intent = loaded((listed.get("Labels") or {}).get(LABEL_SPEC))
    return intent if isinstance(intent, dict) else {}


def away_seconds(state: t.Mapping[str, t.Any]) -> float | None:
    """How long a container was stopped before its last start; None when it was not, or nobody can tell."""
    try:
        stopped, started = (_time(str(state[key])) for key in ("FinishedAt", "StartedAt"))
    except (KeyError, ValueError):
        return None
    # One that never stopped has the year 1 there.
    return round((started - stopped).total_seconds(), 1) if stopped.year > 1 and started >= stopped else None


def _time(text: str) -> datetime.datetime:
    """A time as Docker writes it, to the nanosecond, in UTC."""
    return datetime.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S") + datetime.timedelta(
        microseconds=int((text[20:26].rstrip("Z") or "0").ljust(6, "0"))
    )


def caches_of(container: t.Mapping[str, t.Any]) -> list[str]:
    """The volumes that a container's configuration mounts; everything else that is mounted is a path."""
    binds = (container.get("HostConfig") or {}).get("Binds") or ()
    sources = [str(bind).partition(":")[0] for bind in binds]
    return [source for source in sources if not source.startswith("/")]


def _texts(label: str | None) -> tuple[str, ...]:
    found = loaded(label)
    return tuple(map(str, found)) if isinstance(found, list) else ()


def loaded(label: str | None) -> t.Any:
    """A label's JSON; a label that somebody else wrote may hold anything."""
    try:
        return json.loads(label or "null")
    except ValueError:
        return None
