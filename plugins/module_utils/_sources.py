# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which source of state and log the parameters of a module name: the only file that knows them all.

Apart from the backends, so that whoever looks at a server ships nothing of what makes one. Each is loaded when it is
named: whoever asks a unit loads nothing of Docker.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ._health.logfile import RunCommand, Source

Params = t.Mapping[str, t.Any]


def open_source(params: Params, run_command: RunCommand) -> Source | None:
    """The server that C(container), C(unit) or C(path) names, seen from outside; None when they name none."""
    if params.get("container"):
        from ._docker.reader import reader
        from ._docker.source import ContainerSource

        return ContainerSource(str(params["container"]), reader(params.get("docker_host")))
    if params.get("unit"):
        from ._systemd.source import UnitSource

        return UnitSource(str(params["unit"]), run_command)
    if params.get("path"):
        from ._health.logfile import FileSource

        return FileSource(str(params["path"]))
    return None
