# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the texts of /proc and of the driver's own programs are read. Pure: no text raises, unknown is None."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .nvidia_smi import Card, Result, version_of


@dataclass(frozen=True)
class Process:
    """What /proc/PID tells of one process. C(user) is a name, or the number of one that has none."""

    user: str | None = None
    name: str | None = None
    cgroup: str = ""


@dataclass(frozen=True)
class HostMemory:
    """The memory of the host."""

    total_mib: int | None = None
    available_mib: int | None = None
    swap_total_mib: int | None = None


def parse_driver_version(proc_version: str) -> str | None:
    """The loaded module's version, of either flavour ("Kernel Module", "Open Kernel Module for x86_64")."""
    return version_of(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)", proc_version)


def parse_module_version(modinfo: Result) -> str | None:
    """The installed module's version."""
    return version_of(r"^(\d+\.\d+(?:\.\d+)?)\s*$", modinfo.out) if modinfo.rc == 0 else None


def parse_fabric_manager(answer: Result) -> str | None:
    """Its version, from C(nv-fabricmanager --version)."""
    return version_of(r"(\d+\.\d+(?:\.\d+)?)", answer.text)


def parse_toolkit(answer: Result) -> str | None:
    """The version of the container toolkit, from C(nvidia-ctk --version)."""
    return version_of(r"version (\d+\.\d+\.\d+\S*)", answer.out)


def parse_meminfo(text: str) -> HostMemory:
    """The memory of the host, from C(/proc/meminfo), in MiB."""

    def mib(key: str) -> int | None:
        value = version_of(rf"(?m)^{key}:\s+(\d{{1,15}}) kB", text)
        return None if value is None else int(value) // 1024

    return HostMemory(mib("MemTotal"), mib("MemAvailable"), mib("SwapTotal"))


def parse_kernel_card(text: str) -> Card:
    """A card from /proc/driver/nvidia/gpus."""
    return Card(
        uuid=version_of(r"(?m)^GPU UUID:[ \t]*(GPU-[0-9A-Fa-f-]+)\s*$", text),
        name=version_of(r"(?m)^Model:[ \t]*(\S.*?)\s*$", text),
    )


def parse_process(status: str, cgroup: str, user_name: t.Callable[[int], str | None]) -> Process:
    """A process from its files in /proc."""
    uid = version_of(r"(?m)^Uid:\s+(\d{1,10})\b", status)
    user = None if uid is None else user_name(int(uid)) or uid
    return Process(user, version_of(r"(?m)^Name:\s+(\S.*?)\s*$", status), cgroup)
