# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which engine answers at a socket, and which servers it cannot run; found out before anything stops."""

from __future__ import annotations

import ipaddress
import os
import pwd
import re
import stat
import typing as t
from dataclasses import dataclass

from .._errors import Problem
from .._server.spec import ServerSpec, is_named
from .container import CACHES_TARGET, KERNELS_TARGET
from .reader import Identity

# Whom no file belongs to: the root of containers whose users are mapped.
MAPPED = -1
# What is mounted there is taken for ours.
OUR_VOLUMES = (CACHES_TARGET, KERNELS_TARGET)
# The first Docker Engine with which a port that is published to loopback is not reached by neighbours.
LOOPBACK_HOLDS = 28


@dataclass(frozen=True)
class Engine:
    """What an engine tells of itself, and who runs it, by the owner of its socket."""

    name: str = "Docker Engine"
    version: str = ""
    path: str = ""
    is_podman: bool = False
    is_rootless: bool = False
    maps_users: bool = False
    uid: int = 0

    @property
    def major(self) -> int | None:
        """The first number of its version, as far as it tells one."""
        number = re.match(r"\d+", self.version)
        return int(number.group()) if number else None

    def __str__(self) -> str:
        return f"{' '.join(filter(None, (self.name, self.version)))} at unix://{self.path}"


def engine_of(said: Identity) -> Engine:
    """The engine, from what it says of itself."""
    version, info = (one if isinstance(one, dict) else {} for one in (said.version, said.info))
    names = [one.get("Name") for one in _list(version.get("Components")) if isinstance(one, dict)]
    platform = version.get("Platform")
    names += [platform.get("Name") if isinstance(platform, dict) else "", said.server]
    words = " ".join(str(name) for name in names).lower()
    is_podman = "podman" in words or "libpod" in words
    options = {str(option).split(",", maxsplit=1)[0] for option in _list(info.get("SecurityOptions"))}
    return Engine(
        "Podman" if is_podman else "Docker Engine",
        str(version.get("Version") or ""),
        said.path,
        is_podman,
        "name=rootless" in options,
        "name=userns" in options,
        said.uid,
    )


def _list(value: t.Any) -> list[t.Any]:
    return value if isinstance(value, list) else []


def engine_problems(engine: Engine, spec: ServerSpec) -> tuple[Problem, ...]:
    """Why an engine cannot run a server: it would start without GPUs, without its secrets, or not at all."""
    found = []
    if engine.is_podman and spec.gpus != "none":
        found.append(
            f"{engine} drops the request for GPUs, so the server would start without any. Run it with Docker Engine, "
            "and point docker_host (or DOCKER_HOST) there, or set gpus: none."
        )
    ours = [one for one in spec.volumes if is_named(one) and one.split(":")[1].rstrip("/") in OUR_VOLUMES]
    if ours:
        found.append(
            f"volumes: {ours[0]} would lie where volumes of this collection are, which go with the server. Choose "
            "another destination; keep_caches keeps what vLLM compiles."
        )
    reader = MAPPED if engine.maps_users else engine.uid if engine.is_rootless else 0
    closed = [path for path in spec.secret_files.values() if not _may_read(path, reader)]
    if closed:
        found.append(_closed(engine, ", ".join(closed)))
    if engine.maps_users and spec.network_mode == "host":
        found.append(
            f"{engine} maps the users of its containers (userns-remap), and gives none of them the host's network. Set "
            "network_mode: bridge, or use another engine with docker_host."
        )
    return tuple(Problem("backend-unsupported", sentence) for sentence in found)


def engine_doubts(engine: Engine, spec: ServerSpec) -> tuple[str, ...]:
    """What an operator would not expect of an engine that can run a server."""
    guarded = spec.api_key_file or spec.allow_unauthenticated
    is_published = spec.network_mode == "bridge" and ipaddress.ip_address(spec.bind).is_loopback
    # A rootless engine publishes from a network of its own, which has no neighbours.
    is_leaky = (
        engine.major is not None and engine.major < LOOPBACK_HOLDS and not (engine.is_podman or engine.is_rootless)
    )
    if guarded or not is_published or not is_leaky:
        return ()
    return (
        f"{engine} is older than {LOOPBACK_HOLDS}: in network_mode bridge other machines of the same network segment "
        f"can reach the server though it is bound to {spec.bind}, and it has no API key. Set api_key_file, set "
        "network_mode: host, or upgrade Docker Engine. Set allow_unauthenticated: true if that network is trusted.",
    )


def _closed(engine: Engine, paths: str) -> str:
    if engine.maps_users:
        return (
            f"{engine} maps root in its containers to another user (userns-remap), who may not read the secrets of the "
            f"server: {paths}. Remove userns-remap from /etc/docker/daemon.json and restart Docker, or use another "
            "engine with docker_host."
        )
    return (
        f"{engine} is rootless: root in its containers is user {_user(engine.uid)}, who may not read the secrets of "
        f"the server: {paths}. Deploy as that user, without become, or set docker_host to root's engine."
    )


def _may_read(path: str, uid: int) -> bool:
    """Whether a user can read a file of secrets; one that is missing will be written for this user alone."""
    if uid == 0:
        return True
    try:
        status = os.stat(path)
    except OSError:
        return uid == os.geteuid()
    return status.st_uid == uid and bool(status.st_mode & stat.S_IRUSR) or bool(status.st_mode & stat.S_IROTH)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except (KeyError, OverflowError):
        return f"of uid {uid}"
