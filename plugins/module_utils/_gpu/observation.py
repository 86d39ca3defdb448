# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was observed of a host and its GPUs, before anything is concluded from it."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .kernel import HostMemory, Process
from .nvidia_smi import Card, Report


@dataclass(frozen=True)
class PciDevice:
    """One NVIDIA function on the PCI bus, as sysfs spells it."""

    address: str
    class_code: str
    device: str = ""
    driver: str | None = None
    numa_node: int | None = None

    @property
    def is_gpu(self) -> bool:
        """A display or 3D controller. GB10's own bridges have the same vendor and class 0604."""
        return self.class_code[:6] in ("0x0300", "0x0302")

    @property
    def is_nvswitch(self) -> bool:
        """Whether it is a switch that connects the GPUs of a board."""
        return self.class_code[:6] == "0x0680"


@dataclass(frozen=True)
class Observation:
    """Everything that was read from a host. The defaults are a host where nothing could be read."""

    # Its path, and the seconds it was given.
    nvidia_smi: str | None = None
    timeout: float = 60
    smi: Report = Report()
    driver_loaded: str | None = None
    driver_installed: str | None = None
    # By address, what the kernel module knows of a card that nvidia-smi cannot ask any more.
    kernel_cards: t.Mapping[str, Card] = field(default_factory=dict)
    pci: tuple[PciDevice, ...] | None = None
    numa_nodes: str = ""
    memory: HostMemory = HostMemory()
    fabric_manager_version: str | None = None
    fabric_manager_running: bool | None = None
    processes: t.Mapping[int, Process] = field(default_factory=dict)
    init_cgroup: str = ""
    units: t.Mapping[str, bool] = field(default_factory=dict)
    # What the Docker Engine answered, whatever that is.
    containers: t.Any = None
    docker_info: t.Any = None
    daemon_json: str = ""
    # What the watchdog wrote, and the seconds since then.
    watchdog: str = ""
    watchdog_age: float | None = None
    has_toolkit: bool = False
    toolkit_version: str | None = None
    has_runtime_hook: bool = False
    cdi: t.Mapping[str, str] = field(default_factory=dict)

    @property
    def gpus_on_pci(self) -> tuple[PciDevice, ...]:
        """The GPUs that the PCI bus has, with or without a driver."""
        return tuple(device for device in self.pci or () if device.is_gpu)
