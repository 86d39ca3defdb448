# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which backends the parameters of a module name: the only file that knows them all.

The first one makes servers; the other ones have what it may replace, and what shares the host with it.
"""

from __future__ import annotations

import os
import typing as t

if t.TYPE_CHECKING:
    from ._deploy.backend import Backend

Params = t.Mapping[str, t.Any]


def container_backends(params: Params) -> dict[str, Backend]:
    """The backends of a host, by name, of which the first is the one that vllm_container makes servers with."""
    from ._docker.backend import docker_backend

    docker = docker_backend(params["docker_host"], params["stop_timeout"])
    return {docker.name: docker, **(_systemd(params) if _has_units() else {})}


def service_backends(params: Params) -> dict[str, Backend]:
    """Likewise for vllm_service. A host without a Docker Engine is one without containers."""
    found = _systemd(params)
    if _has_engine(params):
        from ._docker.backend import docker_backend

        docker = docker_backend(params["docker_host"], params["stop_timeout"])
        found[docker.name] = docker
    return found


def _systemd(params: Params) -> dict[str, Backend]:
    from ._systemd.backend import systemd_backend

    def cut_off() -> t.Sequence[str]:
        from ._docker.reader import reader
        from ._docker.reload import cut_off as names

        return names(reader(params["docker_host"])) if _has_engine(params) else ()

    systemd = systemd_backend(cut_off, bool(params.get("allow_daemon_reload")))
    return {systemd.name: systemd}


def _has_units() -> bool:
    """Whether this user has services here: only root has, and only their record tells."""
    from ._deploy.ledger import SYSTEMD, Ledger

    return os.geteuid() == 0 and bool(Ledger(place=SYSTEMD).known().entries)


def _has_engine(params: Params) -> bool:
    from ._docker.client import socket_path

    return os.path.exists(socket_path(params["docker_host"]))
