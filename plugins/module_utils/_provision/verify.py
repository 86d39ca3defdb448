# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What makes a host unfit that keeps what its vendor installed, as sentences. Pure.

DGX OS brings driver, toolkit and Docker, and updates them together: here they are compared with what is known to work.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .facts import Facts, Wish
from .packages import FABRIC_MANAGER_UNIT, LEAST_TOOLKIT, PERSISTENCE_UNIT, SDK, fabric_parts, numbers

# Classes whose GPU and CPU share one memory: their hosts freeze when it ends.
UNIFIED = ("gb10", "thor", "orin", "n1x")
# From here on, Docker hands out GPUs by CDI.
LEAST_DOCKER = (26, 1)
# What the SSH server needs to answer while the memory is full.
SSH_BYTES = 64 << 20
UPDATE = "Update the host by its vendor's way (DGX OS: 'apt full-upgrade' or the DGX Dashboard)"


@dataclass(frozen=True)
class Known:
    """The versions of a part that hosts with a GB10 are known to work with: C(newest) as far as its digits go,
    C(oldest) where it is known. C(seen) is what a host has, empty where it cannot be compared."""

    part: str
    seen: t.Callable[[Facts], str]
    newest: str
    oldest: str = "0"


# With DGX OS and Ubuntu 24.04. Nobody says which firmware belongs to these, so it is not compared.
KNOWN = (
    Known("DGX OS", lambda facts: facts.dgx, "7.5.0", "7.3.1"),
    Known("driver", lambda facts: facts.gpus.loaded if facts.gpus.loaded[:4] == "580." else "", "580.173.02", "580.95"),
    # The oldest of these two holds for every host (_containers).
    Known("NVIDIA Container Toolkit", lambda facts: facts.installed("nvidia-container-toolkit"), "1.19"),
    Known("Docker Engine", lambda facts: facts.docker.version, "29.2.1"),
)
NVIDIAS_KERNEL = "-nvidia"


def deviations(wish: Wish, facts: Facts) -> list[str]:
    """Each way in which a host differs from what is known to work."""
    found = [*_driver(wish, facts), *fabric(facts), *_containers(wish, facts), *sdk(wish, facts)]
    return [*found, *_older(facts), *(_unified(wish, facts) if facts.gpus.hardware in UNIFIED else [])]


def warnings(facts: Facts) -> list[str]:
    """What is newer than all that is known to work; it may work as well."""
    found = [
        f"{one.part} {seen} (known: {one.newest})"
        for one, seen in _known(facts)
        if numbers(seen)[: len(numbers(one.newest))] > numbers(one.newest)
    ]
    return [f"Newer than what is known to work on hosts with a GB10: {', '.join(found)}."] if found else []


def _known(facts: Facts) -> list[tuple[Known, str]]:
    """What is known of this kind of host, with what it has."""
    rows = KNOWN if facts.gpus.hardware == "gb10" else ()
    return [(one, seen) for one in rows if numbers(seen := one.seen(facts))]


def _older(facts: Facts) -> list[str]:
    found = [
        f"The {one.part} is {seen}, and {one.oldest} to {one.newest} are known to work. {UPDATE}."
        for one, seen in _known(facts)
        if numbers(seen) < numbers(one.oldest)
    ]
    if facts.gpus.hardware == "gb10" and facts.dgx and NVIDIAS_KERNEL not in facts.kernel:
        found.append(f"The kernel is {facts.kernel}, and DGX OS brings one of NVIDIA's (6.17): boot that. {UPDATE}.")
    return found


def _driver(wish: Wish, facts: Facts) -> list[str]:
    gpus, found = facts.gpus, []
    if not gpus.loaded:
        return [gpus.message or "No NVIDIA driver is loaded. " + UPDATE + "."]
    if not gpus.loaded.startswith(f"{wish.branch}."):
        found.append(f"The driver is {gpus.loaded}, and branch {wish.branch} is what is known to work. {UPDATE}.")
    if gpus.status not in ("ok", "driver_mismatch") and gpus.message:
        found.append(gpus.message)
    if gpus.hardware not in UNIFIED or PERSISTENCE_UNIT in facts.units:
        unit = facts.units.get(PERSISTENCE_UNIT)
        if unit is None or not unit.active:
            found.append(
                "nvidia-persistenced does not run, so each first use of a GPU initializes the driver again: "
                "'systemctl enable --now nvidia-persistenced'."
            )
    return found


def fabric(facts: Facts) -> list[str]:
    """What is wrong with the fabric manager of a board with NVSwitch."""
    gpus = facts.gpus
    if "fabric_manager" not in fabric_parts(gpus.hardware, gpus.has_switch) or not gpus.loaded:
        return []
    unit = facts.units.get(FABRIC_MANAGER_UNIT)
    if gpus.fabric_version and gpus.fabric_version != gpus.loaded:
        return [
            f"The fabric manager is {gpus.fabric_version} and the driver is {gpus.loaded}: they must be the same to "
            "the last digit, or CUDA fails with error 802, system not yet initialized."
        ]
    if unit is None or not unit.active:
        return [
            "nvidia-fabricmanager does not run, so CUDA fails with error 802, system not yet initialized: 'systemctl "
            "enable --now nvidia-fabricmanager', and see 'journalctl -u nvidia-fabricmanager'."
        ]
    if gpus.fabric_ready is False:
        return [
            "The fabric manager runs, and the GPUs are not registered with the NVSwitch fabric, so CUDA fails with "
            "error 802: see 'journalctl -u nvidia-fabricmanager' and the field fabric.state of nvidia-smi."
        ]
    return []


def _containers(wish: Wish, facts: Facts) -> list[str]:
    if wish.docker == "none":
        return []
    found = []
    toolkit = facts.installed("nvidia-container-toolkit")
    if not toolkit:
        found.append(f"The NVIDIA Container Toolkit is not installed, so containers get no GPU. {UPDATE}.")
    elif numbers(toolkit) < LEAST_TOOLKIT:
        least = ".".join(map(str, LEAST_TOOLKIT))
        found.append(f"The NVIDIA Container Toolkit is {toolkit}, and at least {least} is needed. {UPDATE}.")
    docker = facts.docker
    if not docker.version:
        found.append("The Docker Engine does not answer: 'systemctl status docker' says why.")
        return found
    if numbers(docker.version) < LEAST_DOCKER:
        found.append(f"Docker is {docker.version}, and hands out GPUs by CDI from 26.1 on. {UPDATE}.")
    if "nvidia" not in docker.runtimes and facts.cdi_version is None:
        found.append(
            "Docker has no runtime nvidia and no CDI specification exists: 'nvidia-ctk runtime configure "
            "--runtime=docker', then 'systemctl reload docker'."
        )
    if facts.cdi_version and facts.gpus.loaded and facts.cdi_version != facts.gpus.loaded:
        found.append(
            f"The CDI specification is of driver {facts.cdi_version}, and {facts.gpus.loaded} is loaded: 'nvidia-ctk "
            "cdi generate --output=/var/run/cdi/nvidia.yaml'."
        )
    return found


def lacks_sdk(wish: Wish, facts: Facts) -> bool:
    """Whether servers in containers cannot be deployed for want of the Docker SDK."""
    return wish.docker != "none" and facts.python.has_sdk is False


def sdk(wish: Wish, facts: Facts) -> list[str]:
    """That the Docker SDK is missing, and what brings it to the Python that Ansible uses."""
    if not lacks_sdk(wish, facts):
        return []
    path = facts.python.path
    way = f"Install the package {SDK}: Ubuntu has it in its component universe, and EPEL has it for RHEL 9."
    if not facts.python.has_packaged_modules or facts.installed(SDK):
        way = f"No package of the distribution changes that: '{path} -m pip install docker requests' does."
    return [
        f"{path}, which Ansible uses here, lacks the Docker SDK for Python, without which no server is deployed in a "
        f"container. {way} For a host without containers set docker: none."
    ]


def _unified(wish: Wish, facts: Facts) -> list[str]:
    """What keeps a host reachable when the memory that CPU and GPU share is full."""
    found = []
    if facts.swap_mib:
        found.append(
            f"{facts.swap_mib} MiB of swap are in use as memory: a server that takes too much makes the host swap "
            "until it freezes. Turn it off: 'swapoff -a', and take it out of /etc/fstab."
        )
    if wish.protect_memory:
        return found
    if not facts.earlyoom:
        found.append("earlyoom does not run: nothing ends a process before the shared memory is full.")
    if facts.ssh_memory_min < SSH_BYTES:
        found.append(
            "The SSH server has no memory of its own, so the host cannot be reached when it is full: 'systemctl "
            f"set-property ssh.service MemoryMin={SSH_BYTES >> 20}M'."
        )
    return found
