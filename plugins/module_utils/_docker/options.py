# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where an option of the spec stands in the body of Docker's create call, and how it reads on the command line."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._server.spec import ServerSpec

Words = t.Callable[[t.Any], list[str]]


@dataclass(frozen=True)
class Option:
    """One row: the fields of the spec that it takes in, its place in the body, its value, its words for people.

    Without C(value) the row tells only where the value stands: container.py composes it from more than the spec. A
    value of None leaves the place empty, for the engine's own default.
    """

    fields: tuple[str, ...]
    place: tuple[str, ...]
    words: Words
    value: t.Callable[[ServerSpec], t.Any] | None = None


def _device_requests(spec: ServerSpec) -> list[dict[str, t.Any]]:
    if spec.gpus == "none":
        return []
    ids = [] if spec.gpus == "all" else list(spec.gpus)
    return [
        {"Driver": "", "Count": 0 if ids else -1, "DeviceIDs": ids or None, "Capabilities": [["gpu"]], "Options": {}}
    ]


def _gpu_words(requests: t.Any) -> list[str]:
    found = []
    for request in requests:
        ids = request["DeviceIDs"]
        if request["Driver"] == "cdi":
            found += [word for name in ids for word in ("--device", name)]
            continue
        found += ["--gpus", '"device={}"'.format(",".join(ids)) if ids else "all"]
    return found


def _ulimits(spec: ServerSpec) -> list[dict[str, t.Any]]:
    return [{"Name": name, "Soft": value, "Hard": value} for name, value in sorted(spec.ulimits.items())]


def _ulimit_words(limits: t.Any) -> list[str]:
    return [word for limit in limits for word in ("--ulimit", f"{limit['Name']}={limit['Soft']}")]


def _restart_policy(spec: ServerSpec) -> dict[str, t.Any]:
    name, _colon, retries = spec.restart_policy.partition(":")
    return {"Name": name, "MaximumRetryCount": int(retries or 0)}


def _restart_words(policy: t.Any) -> list[str]:
    retries = f":{policy['MaximumRetryCount']}" if policy["MaximumRetryCount"] else ""
    return ["--restart", policy["Name"] + retries]


def _port_bindings(spec: ServerSpec) -> dict[str, list[dict[str, str]]]:
    if spec.network_mode == "host" or spec.uds:
        return {}
    return {f"{spec.port}/tcp": [{"HostIp": spec.bind, "HostPort": str(spec.port)}]}


def _publish_words(bindings: t.Any) -> list[str]:
    found = []
    for port, (binding,) in bindings.items():
        address = f"[{binding['HostIp']}]" if ":" in binding["HostIp"] else binding["HostIp"]
        found += ["--publish", f"{address}:{binding['HostPort']}:{port.split('/')[0]}"]
    return found


def _one(flag: str) -> Words:
    return lambda value: [flag, str(value)]


def _each(flag: str) -> Words:
    return lambda values: [word for value in values for word in (flag, value)]


def _listed(key: str) -> t.Callable[[ServerSpec], t.Any]:
    return lambda spec: list(getattr(spec, key)) or None


def _devices(spec: ServerSpec) -> list[dict[str, str]] | None:
    keys = ("PathOnHost", "PathInContainer", "CgroupPermissions")
    return [dict(zip(keys, one.split(":"))) for one in spec.devices] or None


def _device_words(devices: t.Any) -> list[str]:
    return [word for one in devices for word in ("--device", ":".join(one.values()))]


def _label_words(labels: t.Any) -> list[str]:
    return [word for key, value in sorted(labels.items()) for word in ("--label", f"{key}={value}")]


# In the order of the command line.
OPTIONS: tuple[Option, ...] = (
    Option(("gpus",), ("HostConfig", "DeviceRequests"), _gpu_words, _device_requests),
    Option(("devices",), ("HostConfig", "Devices"), _device_words, _devices),
    Option(
        ("privileged",),
        ("HostConfig", "Privileged"),
        lambda value: ["--privileged"],
        lambda spec: spec.privileged or None,
    ),
    Option(("cap_add",), ("HostConfig", "CapAdd"), _each("--cap-add"), _listed("cap_add")),
    Option(("group_add",), ("HostConfig", "GroupAdd"), _each("--group-add"), _listed("group_add")),
    Option(("security_opt",), ("HostConfig", "SecurityOpt"), _each("--security-opt"), _listed("security_opt")),
    Option(("ipc_mode",), ("HostConfig", "IpcMode"), _one("--ipc"), lambda spec: spec.ipc_mode),
    Option(("shm_size",), ("HostConfig", "ShmSize"), _one("--shm-size"), lambda spec: spec.shm_size),
    Option(
        ("network_mode", "network"),
        ("HostConfig", "NetworkMode"),
        _one("--network"),
        lambda spec: spec.network or spec.network_mode,
    ),
    Option(("hostname",), ("Hostname",), _one("--hostname"), lambda spec: spec.hostname),
    Option(("extra_hosts",), ("HostConfig", "ExtraHosts"), _each("--add-host"), _listed("extra_hosts")),
    Option(("ulimits",), ("HostConfig", "Ulimits"), _ulimit_words, _ulimits),
    Option(("restart_policy",), ("HostConfig", "RestartPolicy"), _restart_words, _restart_policy),
    Option(("stop_timeout",), ("StopTimeout",), _one("--stop-timeout"), lambda spec: spec.stop_timeout),
    Option(("port", "bind"), ("HostConfig", "PortBindings"), _publish_words, _port_bindings),
    Option(
        ("volumes", "huggingface_dir", "encodings_dir", "hf_token_file", "api_key_file", "env_file", "keep_caches"),
        ("HostConfig", "Binds"),
        _each("--volume"),
    ),
    Option(("env",), ("Env",), _each("--env")),
    Option(("labels",), ("Labels",), _label_words),
)
# Fields of the spec that no option of Docker's takes in: what is run, and what is known or judged about it.
NOT_OPTIONS = (
    *("name", "container_name", "image", "entrypoint", "model", "served_model_name", "engine", "engine_unchecked"),
    *("allow_unauthenticated", "vllm_version", "validation"),
)


def place_options(body: dict[str, t.Any], spec: ServerSpec) -> None:
    """Put the value of every option into the body."""
    for option in OPTIONS:
        value = option.value(spec) if option.value else None
        if value is not None:
            *parents, key = option.place
            found = body
            for parent in parents:
                found = found.setdefault(parent, {})
            found[key] = value


def option_words(body: t.Mapping[str, t.Any]) -> list[str]:
    """The options in a body as those of C(docker create)."""
    words: list[str] = []
    for option in OPTIONS:
        value: t.Any = body
        for key in option.place:
            value = value.get(key) if value is not None else None
        words += option.words(value) if value is not None else []
    return words
