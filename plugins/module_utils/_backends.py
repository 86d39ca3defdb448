# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which backends the parameters of a module name: the only file that knows them all.

The first one makes servers; the other ones have what it may replace, and what shares the host with it.
"""

from __future__ import annotations

import os
import typing as t

from ._deploy.choices import recalled
from ._deploy.plan import MAKING_STATES
from ._errors import VllmError
from ._server.keys import default_container_name
from ._server.spec import CONTAINER, OWN_KEYS, SERVER_PARAMETERS, SERVICE_PARAMETERS

if t.TYPE_CHECKING:
    from ._deploy.backend import Backend

Params = t.Mapping[str, t.Any]
Backends = dict[str, "Backend"]


def backends_of(backend: str, params: Params) -> tuple[Backends, Params]:
    """The backends of a host, by name, and the parameters for the first one, which makes servers: C(backend), or the
    one that runs the server already when nobody said which is to.

    Raises:
        VllmError: when the server is not described for the one that runs it.
    """
    found, ready = _built(backend, params)
    alternative = params.get("alternative")
    if not alternative:
        return found, ready
    other = alternative["backend"]
    serving = _serving(found, {backend: _name(params), other: _name({**params, **alternative.get("parameters", {})})})
    default = other if alternative.get("is_default") else backend
    if (serving or default) == backend:
        return found, ready
    if "refusal" in alternative:
        raise VllmError(_refusal(alternative["refusal"], serving))
    kept = {key: value for key, value in params.items() if key not in (*OWN_KEYS[backend], "alternative")}
    return _built(other, {**_defaults(other), **kept, **alternative["parameters"]})


def _built(backend: str, params: Params) -> tuple[Backends, Params]:
    if backend == CONTAINER:
        return container_backends(params), params
    params, provided = _with_environment(params)
    return service_backends(params, provided), params


def completed(params: Params, look: t.Callable[[], Params]) -> tuple[Params, dict[str, t.Any] | None]:
    """The parameters with what was chosen for this server before, or what the controller has to know to choose."""
    return recalled(_name(params), params, look) if params.get("choice") else (params, None)


def container_backends(params: Params) -> Backends:
    """The backends of a host, by name, of which the first is the one that vllm_container makes servers with."""
    return {**_docker(params), **(_systemd(params) if _has_units() else {})}


def service_backends(params: Params, provided: str = "") -> Backends:
    """Likewise for vllm_service. A host without a Docker Engine is one without containers."""
    return {**_systemd(params, provided), **(_docker(params) if _has_engine(params) else {})}


def _defaults(backend: str) -> Params:
    """Of the parameters that a backend alone has: another module was asked."""
    options = SERVER_PARAMETERS if backend == CONTAINER else SERVICE_PARAMETERS
    return {key: option.get("default") for key, option in options.items() if key in OWN_KEYS[backend]}


def _refusal(sentence: str, serving: str) -> str:
    return f"{sentence} That backend runs the server already." if serving else sentence


def _serving(found: Backends, names: t.Mapping[str, str]) -> str:
    """Which backend runs the server, which has a name for each, by the record; empty when it is new. Of two, a switch
    was cut short."""
    there = [name for name, one in found.items() if one.ledger.known().of(names[name], "server", "adopted")]
    if len(there) > 1:
        there = [name for name in there if "current" in found[name].look(names[name]).instances]
    return there[0] if there else ""


def _name(params: Params) -> str:
    return str(params.get("container_name") or default_container_name(params["name"]))


def _with_environment(params: Params) -> tuple[Params, str]:
    """The parameters with the path of the virtual environment that a mapping describes; and that path."""
    venv = params.get("venv")
    if not isinstance(venv, t.Mapping):
        return params, ""
    if params["state"] not in MAKING_STATES:
        return {**params, "venv": None}, ""
    from ._venv.record import Record
    from ._venv.servers import meant

    found = meant(venv, Record())
    # What it will hold decides about flags before it is built.
    return {**params, "venv": found.path, "vllm_version": params.get("vllm_version") or found.version}, found.path


def _docker(params: Params) -> Backends:
    from ._docker.backend import docker_backend

    docker = docker_backend(params["docker_host"], params["stop_timeout"])
    return {docker.name: docker}


def _systemd(params: Params, provided: str = "") -> Backends:
    from ._systemd.backend import systemd_backend

    def cut_off() -> t.Sequence[str]:
        from ._docker.reader import reader
        from ._docker.reload import cut_off as names

        return names(reader(params["docker_host"])) if _has_engine(params) else ()

    systemd = systemd_backend(cut_off, bool(params.get("allow_daemon_reload")), provided)
    return {systemd.name: systemd}


def _has_units() -> bool:
    """Whether this user has services here: only root has, and only their record tells."""
    from ._deploy.ledger import SYSTEMD, Ledger

    return os.geteuid() == 0 and bool(Ledger(place=SYSTEMD).known().entries)


def _has_engine(params: Params) -> bool:
    from ._docker.client import socket_path

    return os.path.exists(socket_path(params["docker_host"]))
