# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Why systemd on this host cannot run a server; found out before anything stops."""

from __future__ import annotations

import os
import re
import typing as t

from .._errors import Problem
from .._server.check import RAY
from .._server.spec import ServerSpec, is_named
from .options import writable
from .systemctl import Host, Place
from .venv import holds
from .words import NAME_OF_A_VARIABLE

# Empty for a service but for what is bound below them (TemporaryFileSystem, ProtectHome).
HOMES = ("/home", "/root", "/run/user")
# logind deletes the shared memory of all other users at their last logout.
SYSTEM_UIDS = range(1, 1000)
GPU = re.compile(r"[A-Za-z0-9-]+")


def needed(spec: ServerSpec, interpreter: str | None = None) -> tuple[str, ...]:
    """The paths on the host that the server reads as its own user."""
    named = [spec.venv, interpreter, spec.huggingface_dir, spec.model_dir]
    named += [spec.encodings_dir] if spec.reads_encodings else []
    return tuple(sorted({path for path in named if path}))


def refusals(spec: ServerSpec, host: Host, reads: t.Sequence[str], cut_off: t.Sequence[str]) -> tuple[Problem, ...]:
    """Why the server cannot be a unit here. C(cut_off) are containers that a daemon-reload would cut off."""
    why = host.unavailable()
    if why:
        return (Problem("backend-unavailable", why),)
    found = [*_of_words(spec), *_of_user(spec, host), *_of_packages(spec)]
    if cut_off:
        found.append(Problem("backend-unsupported", cut_off_sentence(cut_off)))
    return tuple(found or _of_paths(spec, host, reads))


def cut_off_sentence(names: t.Sequence[str]) -> str:
    """Why no unit is made while containers of these names run."""
    return (
        f"A new unit may need 'systemctl daemon-reload', which would take the GPUs away from running containers: "
        f"{', '.join(names)}. This host's Docker Engine leaves their devices to systemd (cgroup driver systemd, GPUs "
        "without CDI). Give Docker the option native.cgroupdriver=cgroupfs or CDI devices and recreate the containers, "
        "stop them first, or set allow_daemon_reload: true if they may fail."
    )


def _of_words(spec: ServerSpec) -> t.Iterator[Problem]:
    for key in spec.env:
        if not NAME_OF_A_VARIABLE.fullmatch(key):
            sentence = f"env.{key}: systemd takes names of letters, digits and '_' alone, and drops any other variable."
            yield Problem("invalid-parameter", sentence)
    for one in spec.gpus if isinstance(spec.gpus, tuple) else ():
        if not GPU.fullmatch(one):
            yield Problem("invalid-parameter", f"gpus must hold UUIDs of GPUs, as 'nvidia-smi -L' prints; got {one!r}.")
    for one in filter(is_named, spec.volumes):
        sentence = (
            f"volumes: {one} is a volume of a container engine; a service mounts paths of the host. Write a path."
        )
        yield Problem("invalid-parameter", sentence)
    if spec.model_dir and (":" in spec.model_dir or not spec.model_dir.isprintable()):
        sentence = f"model must be a path without a colon and control characters to be bound; got {spec.model_dir!r}."
        yield Problem("invalid-parameter", sentence)
    if spec.uds and not any(spec.uds.startswith(f"{place.rstrip('/')}/") for place in writable(spec)):
        sentence = (
            f"engine.uds: a service cannot make the socket {spec.uds} where others reach it: it writes to what volumes "
            "mounts, and has a /tmp of its own. Mount the directory of the socket with volumes."
        )
        yield Problem("invalid-parameter", sentence)


def doubts(spec: ServerSpec) -> tuple[str, ...]:
    """What nobody would expect of a unit."""
    if not _asks_for_ray(spec):
        return ()
    return (
        "engine.distributed_executor_backend is ray: it listens on ports of its own at every address of the host, and "
        "a Ray that asks for no token runs whatever those who reach them send. Close these ports to others, or use mp, "
        "which does the same on one host.",
    )


def _asks_for_ray(spec: ServerSpec) -> bool:
    return spec.flag("distributed_executor_backend") == "ray"


def _of_packages(spec: ServerSpec) -> t.Iterator[Problem]:
    if _asks_for_ray(spec) and spec.venv and holds(spec.venv, "vllm") and not holds(spec.venv, "ray"):
        yield Problem(
            "invalid-flag",
            f"engine.distributed_executor_backend is ray, and {spec.venv} holds no Ray, without which vLLM stops with "
            f"'Failed to import Ray'. Run '{spec.venv}/bin/python -m pip install \"{RAY}\"', describe the environment "
            "by venv.packages, which adds it, or use mp.",
        )


def _of_user(spec: ServerSpec, host: Host) -> t.Iterator[Problem]:
    uid = host.uid(spec.user)
    if uid is None or uid in SYSTEM_UIDS:
        return
    if uid == 0:
        sentence = "user must not be root: whoever breaks into the server would be root."
    else:
        sentence = (
            f"user must be a system user (uid below 1000); {spec.user} has uid {uid}. Of others, systemd-logind "
            "deletes the shared memory that vLLM's workers speak through when they log out. Leave user out, and one is "
            "made."
        )
    yield Problem("invalid-parameter", sentence)


def _of_paths(spec: ServerSpec, host: Host, reads: t.Sequence[str]) -> t.Iterator[Problem]:
    """What is missing is told by others; what is there the user of the service has to be able to read."""
    shut = [path for path in reads if path.startswith("/root/")]
    if shut and not host.loads_credentials():
        sentence = (
            f"{', '.join(shut)} cannot be read by user {spec.user}, whom the server runs as: where systemd passes no "
            "credentials, as on this host, only root can read below /root in a service. Keep it elsewhere, as "
            "in /srv/vllm."
        )
        yield Problem("permission-denied", sentence)
    places = [place for path in reads if os.path.exists(path) for place in _places(spec, path)]
    for path in host.unreadable(spec.user, places) if places else ():
        yield Problem(
            "permission-denied",
            f"{path} cannot be read by user {spec.user}, whom the server runs as. Open it and the directories above "
            f"it to him ('namei -l {path}' shows their modes; 'chmod -R a+rX' opens), or keep it elsewhere.",
        )


def _places(spec: ServerSpec, path: str) -> t.Iterator[Place]:
    """The path itself, and of a Hugging Face cache the files of the model."""
    real = os.path.realpath(path)
    is_bound = any(path.startswith(home + "/") or real.startswith(home + "/") for home in HOMES)
    root = path if is_bound else real
    yield Place(root, is_bound=is_bound)
    if path == spec.venv:
        yield Place(root, "bin/vllm", is_bound)
    if path in (spec.huggingface_dir, spec.model_dir):
        from .._deploy.preflight import snapshot

        there = snapshot(spec).path
        if there and os.path.isdir(there) and f"{there}/".startswith(f"{path}/"):
            below = os.path.relpath(there, path)
            yield from (Place(root, os.path.join(below, name), is_bound) for name in sorted(os.listdir(there)))
