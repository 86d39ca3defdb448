# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A spec as the body of Docker's create call: the server, its trial, its download; and a container as an instance.

Pure. C(docker_argv) says the same as a command line, for people.
"""

from __future__ import annotations

import datetime
import typing as t
from dataclasses import replace

from .._deploy.backend import Instance, Life, Making, Slot
from .._deploy.ledger import Entry
from .._deploy.record import LABEL_FETCH, LABEL_SEAL, known_of, written
from .._host.labels import LABEL_FINGERPRINT
from .._server.arguments import SECRET_NAMES, Places, argv, env, secrets_shell, shares_kernels
from .._server.spec import ServerSpec
from .options import option_words, place_options
from .stamps import since

NAME = "container"
HUGGINGFACE_TARGET = "/root/.cache/huggingface"
ENCODINGS_TARGET = "/etc/encodings"
CACHES_TARGET = "/var/cache/vllm"
# Of all servers of one image: kernels that do not depend on the model.
KERNELS_TARGET = "/var/cache/vllm-kernels"
SECRETS_TARGET = "/run/secrets"

SECRETS_SHELL = secrets_shell(SECRETS_TARGET)
PLACES = Places(ENCODINGS_TARGET, f"{SECRETS_TARGET}/{SECRET_NAMES['hf_token_file']}", CACHES_TARGET)


def configuration(
    making: Making, entrypoint: t.Sequence[str] | None = None, image_id: str | None = None, user: int = 0
) -> dict[str, t.Any]:
    """The body of the Engine API's container-create call.

    C(entrypoint) and C(image_id) are those of the image; without it a plain entrypoint is assumed. C(user) is the uid
    of who deploys.
    """
    spec = making.spec
    places = PLACES if spec.keep_caches else replace(PLACES, caches=None)
    places = replace(places, kernels=KERNELS_TARGET) if shares_kernels(spec) else places
    body: dict[str, t.Any] = {
        "Image": spec.image,
        "Env": [f"{key}={value}" for key, value in sorted({**making.learned_env, **env(spec, places)}.items())],
        "Labels": {**spec.labels, **written(making)},
        "HostConfig": {"Binds": _binds(spec, image_id, user)},
        **_command(replace(spec, engine={**spec.engine, **making.learned_engine}), list(entrypoint or [])),
    }
    place_options(body, spec)
    ports = body["HostConfig"]["PortBindings"]
    return {**body, "ExposedPorts": {port: {} for port in ports}} if ports else body


def _command(spec: ServerSpec, entrypoint: list[str]) -> dict[str, list[str]]:
    """Everything after the image's entrypoint, which stays as it is (NGC's sets the host up and then runs its words),
    unless the spec has another one.

    Some images have the server itself as the entrypoint; only there, and only to hand over secrets, it is wrapped.
    """
    entrypoint = [*spec.entrypoint] or entrypoint
    own = {"Entrypoint": entrypoint} if spec.entrypoint else {}
    before = _words_before_arguments(entrypoint)
    words = [*before, *argv(spec)]
    if not (spec.api_key_file or spec.env_file):
        return {**own, "Cmd": words}
    shell = ["sh", "-c", SECRETS_SHELL, "vllm"]
    serves = before != ["vllm", "serve"]
    return {"Entrypoint": [*shell, *entrypoint], "Cmd": words} if serves else {**own, "Cmd": [*shell, *words]}


def _words_before_arguments(entrypoint: list[str]) -> list[str]:
    """What an image with that entrypoint wants before the arguments of C(vllm serve), whose first is the model."""
    if entrypoint[-2:] == ["vllm", "serve"]:
        return []
    # Official images before the entrypoint became `vllm serve`; the model is an option there.
    if entrypoint[-1:] == ["vllm.entrypoints.openai.api_server"]:
        return ["--model"]
    return ["vllm", "serve"]


def _binds(spec: ServerSpec, image_id: str | None, user: int) -> list[str]:
    binds = []
    if spec.huggingface_dir:
        binds.append(f"{spec.huggingface_dir}:{HUGGINGFACE_TARGET}")
    if spec.reads_encodings:
        binds.append(f"{spec.encodings_dir}:{ENCODINGS_TARGET}:ro")
    if spec.model_dir and not _is_mounted(spec.model, spec.volumes):
        binds.append(f"{spec.model}:{spec.model}:ro")
    binds += [f"{path}:{SECRETS_TARGET}/{SECRET_NAMES[key]}:ro" for key, path in spec.secret_files.items()]
    binds += spec.volumes
    if spec.keep_caches:
        # What one image compiled may crash another: each has a volume of its own.
        binds.append(f"{spec.container_name}-cache-{_short(image_id)}:{CACHES_TARGET}")
    if shares_kernels(spec):
        # Who deploys as another user is another operator, who takes away what is his.
        binds.append(f"gpufleet-kernels-{user}-{_short(image_id)}:{KERNELS_TARGET}")
    return binds


def _short(image_id: str | None) -> str:
    return (image_id or "IMAGE").rpartition(":")[2][:12]


def _is_mounted(path: str, volumes: t.Iterable[str]) -> bool:
    targets = [volume.split(":")[1].rstrip("/") for volume in volumes]
    return any(path == target or path.startswith(target + "/") for target in targets)


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
    # It reads neither the API key nor the env file, so it gets neither.
    needless = tuple(f":{SECRETS_TARGET}/{SECRET_NAMES[key]}:ro" for key in ("api_key_file", "env_file"))
    caches = (*caches_of(body),)
    binds = [
        bind for bind in once["HostConfig"]["Binds"] if bind.split(":")[0] not in caches and not bind.endswith(needless)
    ]
    return {
        **once,
        "HostConfig": {**once["HostConfig"], "DeviceRequests": [], "Binds": binds},
        "Labels": {LABEL_FETCH: model},
        "Entrypoint": ["python3", "-c", FETCH_PROGRAM],
        "Cmd": [model, revision],
    }


def docker_argv(name: str, body: t.Mapping[str, t.Any], program: str = "docker") -> list[str]:
    """The same configuration as the C(docker create) command that would make it, for people to read and try."""
    entrypoint = list(body.get("Entrypoint") or ())
    words = [program, "create", "--name", name, *option_words(body)]
    words += ["--entrypoint", entrypoint[0]] if entrypoint else []
    return [*words, body["Image"], *entrypoint[1:], *body["Cmd"]]


def stop_argv(name: str, at_once: bool, program: str = "docker") -> list[str]:
    """The C(docker stop) command that gives a server its own time, or none."""
    return [program, "stop", *(["-t", "0"] if at_once else []), name]


def instance(slot: Slot, inspected: t.Mapping[str, t.Any], proof: Entry | None = None) -> Instance:
    """What a deployment needs to know of a container: its state from what C(docker inspect) prints, and everything that
    something is decided by from the entry that proves it to be ours."""
    config, state = inspected["Config"], inspected["State"]
    known = proof if proof and proof.purpose == "server" else None
    return Instance(
        slot=slot,
        owned=known is not None,
        adopted=proof is not None and proof.purpose == "adopted",
        running=bool(state.get("Running") or state.get("Restarting")),
        identity=str(inspected.get("Id") or ""),
        artifact_id=inspected.get("Image"),
        caches=tuple(caches_of(inspected)) if known else (),
        is_pinned="--kv-cache-memory-bytes" in (config.get("Cmd") or ()),
        backend=NAME,
        status=str(state.get("Status") or ""),
        artifact=config.get("Image"),
        started_at=state.get("StartedAt"),
        restarts=int(inspected.get("RestartCount") or 0),
        away_seconds=away_seconds(state, proof),
        ended_at=ended_at(state),
        **(known_of(known) if known else {}),
    )


def name_of(listed: t.Mapping[str, t.Any]) -> str:
    """The name of a container that C(docker ps) lists; one that is removed at this moment has none.

    What others are linked to has further names, with a slash between: those of the others.
    """
    names = [str(name).lstrip("/") for name in listed.get("Names") or ()]
    return next((name for name in names if "/" not in name), "")


def seal_of(container: t.Mapping[str, t.Any]) -> str | None:
    """The seal that a container has, listed or inspected."""
    labels = container.get("Labels") or (container.get("Config") or {}).get("Labels") or {}
    seal = labels.get(LABEL_SEAL) if isinstance(labels, dict) else None
    return seal if isinstance(seal, str) and seal.isascii() else None


def claims_to_be_ours(listed: t.Mapping[str, t.Any]) -> bool:
    """Whether a container has a label of ours, which proves nothing."""
    return bool((listed.get("Labels") or {}).get(LABEL_FINGERPRINT))


def away_seconds(state: t.Mapping[str, t.Any], proof: Entry | None = None) -> float | None:
    """For how long a container served nobody before its last start, its stop included as far as that is recorded; None
    when it was not stopped, or nobody can tell."""
    try:
        stopped, started = (_time(str(state[key])) for key in ("FinishedAt", "StartedAt"))
    except (KeyError, ValueError):
        return None
    # One that never stopped has the year 1 there.
    if stopped.year == 1 or started < stopped:
        return None
    return round((started - _told_to_stop(stopped, proof)).total_seconds(), 1)


def ended_at(state: t.Mapping[str, t.Any]) -> str | None:
    """When a container that does not run has ended; one that never ran has the year 1 there."""
    ended = str(state.get("FinishedAt") or "")
    return None if state.get("Running") or ended.startswith("0001-") else ended or None


# Seconds that an engine may take longer for a stop than the server was given.
SLACK = 60


def _told_to_stop(stopped: datetime.datetime, proof: Entry | None) -> datetime.datetime:
    """When the stop began that ended then; an older one that is recorded ended another life."""
    try:
        told = _time(proof.stopping_since) if proof else stopped
    except ValueError:
        return stopped
    given = proof.intent.get("stop_timeout") if proof else 0
    longest = (given if isinstance(given, int) else 0) + SLACK
    return told if 0 <= (stopped - told).total_seconds() <= longest else stopped


def life_of(state: t.Mapping[str, t.Any], log: str, lines: int) -> Life:
    """What a container has logged since its last start, from its state and the last so many stamped lines."""
    text, begins_before = since(log, str(state.get("StartedAt") or ""))
    return Life(text, begins_before or log.count("\n") < lines)


def _time(text: str) -> datetime.datetime:
    """A time as Docker writes it, to the nanosecond, in UTC."""
    return datetime.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S") + datetime.timedelta(
        microseconds=int((text[20:26].rstrip("Z") or "0").ljust(6, "0"))
    )


def caches_of(container: t.Mapping[str, t.Any]) -> list[str]:
    """The volumes of a container's configuration that keep what was compiled, its own and those of its image, by where
    they are mounted: whatever else it mounts is somebody's."""
    return [*_mounted_at(container, CACHES_TARGET), *kernels_of(container)]


def kernels_of(container: t.Mapping[str, t.Any]) -> list[str]:
    """Those of its image alone."""
    return _mounted_at(container, KERNELS_TARGET)


def _mounted_at(container: t.Mapping[str, t.Any], target: str) -> list[str]:
    binds = (container.get("HostConfig") or {}).get("Binds") or ()
    parts = [str(bind).split(":") for bind in binds]
    return [part[0] for part in parts if len(part) > 1 and part[1] == target and not part[0].startswith("/")]
