# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which running containers lose their GPUs when systemd reloads its units.

Where the engine leaves control groups to systemd, that knows nothing of devices which NVIDIA's hook has added to a
container, and takes them away when it writes its own list again: "Failed to initialize NVML: Unknown Error".
"""

from __future__ import annotations

import typing as t

from .reader import Inspected, Reader


def cut_off(engine: Reader) -> list[str]:
    """The names of the containers."""
    info = engine.identity().info
    if not isinstance(info, dict) or info.get("CgroupDriver") != "systemd":
        return []
    running = (one for one in engine.containers() if one.get("State") in ("running", "paused", "restarting"))
    inspected = (engine.container(str(one["Id"])) for one in running)
    return sorted(str(one["Name"]).lstrip("/") for one in inspected if one and _is_cut_off(one))


def _is_cut_off(inspected: Inspected) -> bool:
    host: t.Mapping[str, t.Any] = inspected.get("HostConfig") or {}
    # What stands in the container's own list of devices systemd is told of.
    named = [str(device.get("PathOnHost")) for device in host.get("Devices") or ()]
    if any(path.startswith("/dev/nvidia") for path in named):
        return False
    return host.get("Runtime") == "nvidia" or any(map(_by_hook, host.get("DeviceRequests") or ()))


def _by_hook(request: t.Mapping[str, t.Any]) -> bool:
    wanted = {capability for group in request.get("Capabilities") or () for capability in group}
    return "gpu" in wanted and request.get("Driver") != "cdi"
