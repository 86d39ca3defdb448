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
# The first Podman that hands over CDI devices by its Docker-compatible API, of those that were tried.
HANDS_OVER = (5, 4)
# The first whose policy of a container can be changed, and the first whose service for reboots knows unless-stopped.
CHANGES_POLICY, KNOWS_STOPPED = (5, 1), (5, 8)
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
        return self.release[0] if self.release else None

    @property
    def release(self) -> tuple[int, ...]:
        """The first two numbers of its version; none when it tells none."""
        return tuple(int(number) for number in re.findall(r"\d+", self.version)[:2])

    @property
    def restarts_always(self) -> bool:
        """Whether only the policy always outlives a reboot, of what was stopped on purpose too, until it is changed."""
        return self.is_podman and CHANGES_POLICY <= self.release < KNOWS_STOPPED

    def __str__(self) -> str:
        return f"{' '.join(filter(None, (self.name, self.version)))} at unix://{self.path}"


def engine_of(said: Identity) -> Engine:
    """The engine, from what it says of itself."""
    version, info = (one if isinstance(one, dict) else {} for one in (said.version, said.info))
    options = {str(option).split(",", maxsplit=1)[0] for option in _list(info.get("SecurityOptions"))}
    return Engine(
        "Podman" if said.is_podman else "Docker Engine",
        str(version.get("Version") or ""),
        said.path,
        said.is_podman,
        "name=rootless" in options,
        "name=userns" in options,
        said.uid,
    )


def _list(value: t.Any) -> list[t.Any]:
    return value if isinstance(value, list) else []


def engine_problems(engine: Engine, spec: ServerSpec) -> tuple[Problem, ...]:
    """Why an engine cannot run a server: it would start without GPUs, without its secrets, or not at all."""
    found = []
    if engine.is_podman and spec.gpus != "none" and (engine.is_rootless or engine.release < HANDS_OVER):
        found.append(_without_gpus(engine))
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
    if engine.is_podman:
        return _after_a_reboot(engine) if spec.restart_policy == "unless-stopped" else ()
    guarded = spec.api_key_file or spec.allow_unauthenticated
    is_published = spec.network_mode == "bridge" and ipaddress.ip_address(spec.bind).is_loopback
    # A rootless engine publishes from a network of its own, which has no neighbours.
    is_leaky = engine.major is not None and engine.major < LOOPBACK_HOLDS and not engine.is_rootless
    if guarded or not is_published or not is_leaky:
        return ()
    return (
        f"{engine} is older than {LOOPBACK_HOLDS}: in network_mode bridge other machines of the same network segment "
        f"can reach the server though it is bound to {spec.bind}, and it has no API key. Set api_key_file, set "
        "network_mode: host, or upgrade Docker Engine. Set allow_unauthenticated: true if that network is trusted.",
    )


def _without_gpus(engine: Engine) -> str:
    instead = "or use a Docker Engine with docker_host (or DOCKER_HOST), or set gpus: none."
    if engine.is_rootless:
        return (
            f"{engine} is rootless, and GPUs are not handed over to servers of a rootless Podman. Deploy with become: "
            f"true and docker_host: unix:///run/podman/podman.sock, {instead}"
        )
    least = ".".join(map(str, HANDS_OVER))
    return (
        f"{engine} drops the request for GPUs, so the server would start without any. Upgrade Podman to {least} or "
        f"later, which hands them over as CDI devices, {instead}"
    )


def adapted(body: dict[str, t.Any], engine: Engine) -> dict[str, t.Any]:
    """The body of a create call as this engine reads it: what is wished for is the same for all.

    Podman knows GPUs as CDI devices alone, and before 5.8 its service for reboots starts what has the policy always.
    """
    if not engine.is_podman:
        return body
    host = {**body["HostConfig"], "DeviceRequests": [_cdi(one) for one in body["HostConfig"]["DeviceRequests"]]}
    if engine.restarts_always and host["RestartPolicy"]["Name"] == "unless-stopped":
        host["RestartPolicy"] = {**host["RestartPolicy"], "Name": "always"}
    return {**body, "HostConfig": host}


def _cdi(request: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    names = [f"nvidia.com/gpu={one}" for one in request["DeviceIDs"] or ["all"]]
    return {"Driver": "cdi", "Count": 0, "DeviceIDs": names, "Capabilities": None, "Options": {}}


# Looks for the device of a GPU, of a part of one, or of WSL2's, in a container that was given one.
SEES_GPU = 'for d in /dev/nvidia[0-9]* /dev/nvidia-caps/* /dev/dxg; do [ ! -e "$d" ] || exit 0; done; exit 3'
NO_GPU = 3


def trial_for(body: dict[str, t.Any], engine: Engine) -> dict[str, t.Any]:
    """A trial that looks whether the GPUs are there, of an engine that has dropped them without a word before."""
    looks = engine.is_podman and body["HostConfig"]["DeviceRequests"]
    return {**body, "Entrypoint": ["sh", "-c", SEES_GPU]} if looks else body


def _after_a_reboot(engine: Engine) -> tuple[str, ...]:
    """Why a server is not started after a reboot: Podman has a service for that, which is off at first."""
    if engine.release < CHANGES_POLICY:
        least = ".".join(map(str, CHANGES_POLICY))
        return (
            f"{engine} does not start the server after a reboot: upgrade Podman to {least} or later, or set "
            "restart_policy: no if it is to stay down.",
        )
    home = os.path.expanduser("~/.config/systemd/user") if engine.is_rootless else "/etc/systemd/system"
    if os.path.lexists(f"{home}/default.target.wants/podman-restart.service"):
        return ()
    scope, lingers = ("--user ", " and 'loginctl enable-linger'") if engine.is_rootless else ("", "")
    return (
        f"{engine} starts no container after a reboot: run 'systemctl {scope}enable podman-restart.service'{lingers} "
        "on the host, or set restart_policy: no if it is to stay down.",
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
