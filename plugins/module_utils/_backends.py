# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which backend the parameters of a module name: the only file that knows them all. Each is loaded when it is named."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ._deploy.backend import Backend

Params = t.Mapping[str, t.Any]


def container_backends(params: Params) -> dict[str, Backend]:
    """The backends of a host, by name, of which the first is the one that vllm_container makes servers with."""
    from ._docker.backend import docker_backend

    docker = docker_backend(params["docker_host"], params["stop_timeout"])
    return {docker.name: docker}
