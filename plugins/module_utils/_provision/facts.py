# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was seen of a host that is to serve, and what is wanted of it: frozen values, before anything is concluded. "
"Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .packages import DEFAULT_BRANCH, System, system_of


@dataclass(frozen=True)
class Wish:
    """What is wanted of a host; the options of the module."""

    branch: str = DEFAULT_BRANCH
    # The driver's version to the last digit; the newest of the branch when empty.
    version: str = ""
    origin: t.Literal["auto", "ubuntu", "nvidia"] = "auto"
    open_modules: bool = True
    kernel_modules: t.Literal["auto", "prebuilt", "dkms"] = "auto"
    toolkit_version: str = ""
    docker: t.Literal["auto", "distribution", "docker", "none"] = "auto"
    cgroup_driver: t.Literal["leave", "cgroupfs", "systemd"] = "leave"
    # Whether unattended upgrades may take what belongs together.
    unattended_upgrades: t.Literal["block", "leave"] = "block"
    # Whether containers may be stopped by a restart of Docker.
    restart_docker: bool = False
    # Look and tell, and change nothing: as on DGX OS.
    verify_only: bool = False
    # Whether a host whose GPU and CPU share one memory gets what keeps it reachable when that is full.
    protect_memory: bool = False
    # By name (cuda, toolkit, docker): url, key, suite, where they are not the default.
    repositories: t.Mapping[str, t.Mapping[str, str]] = field(default_factory=dict)
    proxy: str = ""
    ca_bundle: str = ""
    # An image of the host with nvidia-smi in it, or into which CDI brings one: with it a container proves the GPUs.
    proof_image: str = ""


@dataclass(frozen=True)
class Available:
    """A version of a package that can be installed, and the repository that has it."""

    version: str
    source: str
    # The branch that it only leads to: a transitional package has a version of the old branch, and brings the new one.
    leads_to: str = ""


@dataclass(frozen=True)
class Package:
    """What the host knows of a package."""

    # Empty where it is not installed.
    installed: str = ""
    # Neither installed nor absent: unpacked, its configuration failed, or there in two versions.
    is_half: bool = False
    is_held: bool = False
    # What can be installed, the newest first.
    available: tuple[Available, ...] = ()


ABSENT = Package()


@dataclass(frozen=True)
class Unit:
    """A unit of systemd that exists."""

    active: bool = False
    enabled: bool = False
    # When it was started, in seconds of the clock.
    since: float = 0


@dataclass(frozen=True)
class Job:
    """A process that computes on a GPU."""

    pid: int
    name: str
    user: str = ""

    def words(self) -> str:
        return f"{self.name} (process {self.pid}{f' of {self.user}' if self.user else ''})"


@dataclass(frozen=True)
class Gpus:
    """The GPUs, as far as provisioning depends on them."""

    hardware: str = "none"
    # Seen on the PCI bus or by nvidia-smi.
    count: int = 0
    has_switch: bool = False
    nouveau: bool = False
    loaded: str = ""
    # The version of the module that the running kernel would load.
    module: str = ""
    # What nvidia-smi's look ended with, and the sentence when that was not ok.
    status: str = "no_driver"
    message: str = ""
    fabric_version: str = ""
    # Whether the fabric is registered; None where nothing tells.
    fabric_ready: bool | None = None
    jobs: tuple[Job, ...] = ()
    mig_devices: int = 0


@dataclass(frozen=True)
class Docker:
    """The Docker Engine that runs."""

    version: str = ""
    runtimes: tuple[str, ...] = ()
    cgroup_driver: str = ""
    live_restore: bool = False
    running: int = 0
    is_snap: bool = False


@dataclass(frozen=True)
class Python:
    """The interpreter that Ansible uses on the host."""

    path: str = ""
    # Whether it finds the Docker SDK; None where it did not say.
    has_sdk: bool | None = None
    # Whether it uses the modules that packages of the distribution bring: one of a virtual environment does not.
    has_packaged_modules: bool = False


@dataclass(frozen=True)
class Facts:
    """A host as provisioning sees it."""

    os_id: str
    os_version: str
    os_name: str = ""
    # The version in /etc/dgx-release; empty on other systems.
    dgx: str = ""
    kernel: str = ""
    machine: str = "x86_64"
    # None on hosts without UEFI, or where nothing tells.
    secure_boot: bool | None = None
    # Whether the key that DKMS signs modules with is enrolled.
    is_mok_enrolled: bool = False
    packages: t.Mapping[str, Package] = field(default_factory=dict)
    # Whether dpkg was killed while it wrote its records.
    interrupted: bool = False
    # Seconds since the lists of packages were read; None where they never were, or not since a repository was added.
    lists_age: float | None = 0
    # The stream of module nvidia-driver that dnf has enabled.
    stream: str = ""
    # The texts of all files that name repositories.
    sources: str = ""
    # By path, the texts of the files that a plan may write; absent ones are missing.
    files: t.Mapping[str, str] = field(default_factory=dict)
    free_bytes: t.Mapping[str, int] = field(default_factory=dict)
    gpus: Gpus = Gpus()
    docker: Docker = Docker()
    python: Python = Python()
    units: t.Mapping[str, Unit] = field(default_factory=dict)
    # When the toolkit's hook for Docker was installed, in seconds of the clock; 0 without one.
    hook_since: float = 0
    # What the CDI specification of the GPUs has: its driver's version, None without one, and how many MIG devices.
    cdi_version: str | None = None
    cdi_mig_devices: int = 0
    swap_mib: int = 0
    earlyoom: bool = False
    # MemoryMin of the SSH server's unit, in bytes.
    ssh_memory_min: int = 0

    @property
    def system(self) -> System | None:
        """The distribution as the tables have it; None for one that is not supported."""
        return system_of(self.os_id, self.os_version)

    def package(self, name: str) -> Package:
        """A package as it is on the host and in its repositories."""
        return self.packages.get(name, ABSENT)

    def installed(self, name: str) -> str:
        """The version of a package that is installed; empty where none is."""
        return self.package(name).installed
