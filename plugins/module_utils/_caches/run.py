# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Packing the compile caches of a server that is healthy, for other hosts of the same run. Changes nothing."""

from __future__ import annotations

import os
import typing as t

from .._backends import container_backends, service_backends
from .._deploy.backend import Backend, Instance
from .._deploy.carried import this_processor
from .._deploy.preflight import settings_key
from .._deploy.record import recorded_spec
from .._errors import VllmError
from .._server.spec import SERVICE, ServerSpec
from .pack import Packed, Source, pack
from .sources import of_container, of_unit

if t.TYPE_CHECKING:
    from .._deploy.room import Facts
    from .._docker.backend import DockerBackend

PARAMETERS: dict[str, t.Any] = {
    "container_name": {"type": "str", "required": True},
    "container_id": {"type": "str"},
    "backend": {"type": "str", "choices": ["container", "systemd"], "default": "container"},
    "docker_host": {"type": "str"},
    "archive": {"type": "path"},
}


def run(params: t.Mapping[str, t.Any], gpus: t.Callable[[], Facts]) -> dict[str, t.Any]:
    """Pack what a server has compiled into a file that is not there yet, for the owner of its directory.

    Raises:
        VllmError: when that cannot be done.
    """
    if not params["archive"]:
        raise VllmError("archive is missing: name a file that is not there yet.")
    known = {**params, "stop_timeout": 0, "state": "committed"}
    backends = service_backends(known) if params["backend"] == SERVICE else container_backends(known)
    backend, server = next(iter(backends.values())), params["container_name"]
    try:
        current = _current(backend, server, params["container_id"])
        spec = _spec(current, server)
        packed = _packed(params["archive"], _source(backend, current), server)
    except backend.failures() as error:
        raise VllmError(backend.sentence(f"pack the compile caches of {server}", error), "backend-failed") from None
    return {
        "changed": False,
        "archive": params["archive"],
        **packed._asdict(),
        "settings": settings_key(spec, current.artifact_id, gpus),
        "processor": this_processor(),
    }


def _current(backend: Backend, server: str, identity: str | None) -> Instance:
    found = backend.look(server).instances.get("current")
    if found is None or not found.owned or not found.running:
        raise VllmError(f"{server} does not run here, or is not this user's: nothing is packed.", "backend-failed")
    if identity and found.identity != identity:
        raise VllmError(
            f"Another run has replaced {server} since: it was {identity[:12]}, and now it is {found.identity[:12]}. "
            "Nothing is packed.",
            "overtaken",
        )
    return found


def _spec(current: Instance, server: str) -> ServerSpec:
    spec = recorded_spec(current.intent)
    if spec is None or not spec.keep_caches:
        raise VllmError(
            f"{server} keeps nothing that it compiles (keep_caches), so nothing is packed.", "backend-failed"
        )
    return spec


def _source(backend: Backend, current: Instance) -> Source:
    if backend.name == SERVICE:
        return of_unit(current.caches[0]) if current.caches else lambda: iter(())
    backend.make_ready()
    return of_container(t.cast("DockerBackend", backend).client, current.identity)


def _packed(path: str, source: Source, server: str) -> Packed:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            packed = pack(source, stream, server)
            if os.geteuid() == 0:
                # Root's file is fetched by the user whom Ansible connects as: the one whose directory it is in.
                owner = os.stat(os.path.dirname(path))
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
        return packed
    except OSError as error:
        raise VllmError(
            f"Cannot pack the compile caches of {server} into {path}: {error.strerror}. Free space there, or name "
            "another directory with ansible_remote_tmp.",
            "disk-full",
        ) from None
