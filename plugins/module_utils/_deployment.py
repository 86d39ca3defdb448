# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One call of a module that deploys: from its parameters, with the backends of the host, to its result."""

from __future__ import annotations

import functools
import typing as t

from ._backends import backends_of, completed
from ._deploy.job import Host, Params, look_at_gpus
from ._deploy.run import run


def deployed(backend: str, params: Params, check_mode: bool, warn: t.Callable[[str], None]) -> dict[str, t.Any]:
    """The result for a server that C(backend) runs, where nothing else runs it already; or what the controller has to
    know before it can choose settings for it.

    Raises:
        VllmError: when something stands in the way.
    """
    gpus = functools.partial(look_at_gpus, docker_host=params["docker_host"])
    known, choice = completed(params, gpus)
    if not known:
        return choice or {}
    backends, known = backends_of(backend, known)
    host = Host(backends, gpus, probe=probe, warn=warn)
    return {**run(known, check_mode=check_mode, host=host), **(choice or {})}


def probe(parameters: Params) -> dict[str, t.Any]:
    """Ask a server once; what that takes is loaded by a run that changes nothing."""
    from ._health.probe import probe as ask

    return ask(parameters)


def shown(params: Params, keys: t.Iterable[str]) -> list[t.Any]:
    """The parameters that an engine or systemd would show: secrets in them are refused, and do not show until then."""
    changes = [rung.get("change") for rung in params["fallbacks"]]
    return [{key: params[key] for key in keys}, changes, params["alternative"], params["choice"]]
