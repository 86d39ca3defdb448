# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a GPU host is made of, as tables: which package brings what, from which repository, for which board. Pure.

The names are those of Ubuntu's archive, of NVIDIA's repositories and of Docker's. A branch is what the user says it is:
nothing here makes a number of one branch from that of another.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

Origin = t.Literal["ubuntu", "nvidia"]

DEFAULT_BRANCH = "580"
# Below it, NVIDIA's toolkit does not know GB10, and its packages need not be of one version.
LEAST_TOOLKIT = (1, 17, 7)
TOOLKIT = (
    "nvidia-container-toolkit",
    "nvidia-container-toolkit-base",
    "libnvidia-container-tools",
    "libnvidia-container1",
)
DOCKER = {"distribution": ("docker.io",), "docker": ("docker-ce", "docker-ce-cli", "containerd.io")}
# The Docker SDK: in Ubuntu's component universe, and in EPEL for the Python of RHEL 9 alone.
SDK = "python3-docker"
# Where packages of Ubuntu, and of RHEL 9, put modules of Python.
PACKAGED_MODULES = ("/usr/lib/python3/dist-packages", "/usr/lib/python3.9/site-packages")

FABRIC_MANAGER_UNIT = "nvidia-fabricmanager.service"
PERSISTENCE_UNIT = "nvidia-persistenced.service"
IMEX_UNIT = "nvidia-imex.service"
DOCKER_UNIT = "docker.service"
EARLYOOM_UNIT = "earlyoom.service"
SSH_UNITS = ("ssh.service", "sshd.service")


@dataclass(frozen=True)
class System:
    """An operating system on which drivers are installed."""

    id: str
    version: str
    manager: t.Literal["apt", "dnf"]
    codename: str = ""
    # The kernel that it was released with: newer ones have prebuilt modules of another name.
    kernel: str = ""
    # Its folder in NVIDIA's repository.
    cuda: str = ""


SYSTEMS = (
    System("ubuntu", "22.04", "apt", "jammy", "5.15", "ubuntu2204"),
    System("ubuntu", "24.04", "apt", "noble", "6.8", "ubuntu2404"),
    System("rhel", "9", "dnf", cuda="rhel9"),
)
# Rebuilds of RHEL, by the ID of os-release.
REBUILDS = ("almalinux", "rocky", "ol", "centos")


def system_of(os_id: str, version: str) -> System | None:
    """The system that os-release names; None for one that nothing is known of."""
    same = "rhel" if os_id in REBUILDS else os_id
    wanted = version.partition(".")[0] if same == "rhel" else version
    return next((one for one in SYSTEMS if (one.id, one.version) == (same, wanted)), None)


@dataclass(frozen=True)
class Naming:
    """How the parts of a driver are called in one repository.

    C({branch}) is the branch, C({open}) stands for the open kernel modules, C({flavour}) for that of the kernel. Empty
    where the repository does not have the part.
    """

    origin: Origin
    manager: t.Literal["apt", "dnf"]
    dkms: str
    userland: tuple[str, ...]
    fabric_manager: str
    imex: str
    prebuilt: str = ""
    nvlsm: str = ""
    # Holds the branch, so that no upgrade leaves it.
    pinning: str = ""
    stream: str = ""


NAMINGS = (
    Naming(
        "ubuntu",
        "apt",
        "nvidia-dkms-{branch}-server{open}",
        ("nvidia-headless-no-dkms-{branch}-server{open}", "nvidia-utils-{branch}-server"),
        "nvidia-fabricmanager-{branch}",
        "nvidia-imex-{branch}",
        prebuilt="linux-modules-nvidia-{branch}-server{open}-{flavour}",
    ),
    # NVIDIA's repository names the branch up to 580, and no longer from 590.
    Naming(
        "nvidia",
        "apt",
        "nvidia-dkms-{branch}{open}",
        ("nvidia-headless-no-dkms-{branch}{open}", "nvidia-utils-{branch}"),
        "nvidia-fabricmanager-{branch}",
        "nvidia-imex-{branch}",
        nvlsm="nvlsm",
        pinning="nvidia-driver-pinning-{branch}",
    ),
    Naming(
        "nvidia",
        "apt",
        "nvidia-dkms{open}",
        ("nvidia-driver-cuda",),
        "nvidia-fabricmanager",
        "nvidia-imex",
        nvlsm="nvlsm",
        pinning="nvidia-driver-pinning-{branch}",
    ),
    Naming(
        "nvidia",
        "dnf",
        "kmod-nvidia{open}-dkms",
        ("nvidia-driver-cuda",),
        "nvidia-fabricmanager",
        "nvidia-imex",
        nvlsm="nvlsm",
        stream="{branch}{open}",
    ),
)
LAST_NAMED_BRANCH = 580

# What computes only beside the driver, by class of GPU. B200 and B300 do not show their switches on the PCI bus, and a
# GB200 rack runs its fabric manager on the switch trays.
FABRIC: dict[str, tuple[str, ...]] = {
    "b200": ("fabric_manager", "nvlsm"),
    "b300": ("fabric_manager", "nvlsm"),
    "gb200": ("imex",),
    "gb300": ("imex",),
}
# These run with the open kernel modules alone.
OPEN_ONLY = frozenset({"gh200", "gb200", "gb300", "b200", "b300", "rtx_pro_6000"})
# The open kernel modules begin with Turing.
NOT_OPEN = frozenset({"v100"})


def fabric_parts(hardware: str, has_switch: bool) -> tuple[str, ...]:
    """Which parts the fabric of a board needs: C(fabric_manager), C(nvlsm), C(imex)."""
    return FABRIC.get(hardware, ("fabric_manager",) if has_switch else ())


@dataclass(frozen=True)
class Repository:
    """A package repository, where it is unless the user names a mirror."""

    name: str
    title: str
    url: str
    key: str
    # What stands behind the URL in a list of apt.
    suite: str = "/"
    # For dnf: whether its lists are signed, and not each package.
    has_signed_lists: bool = False


def repositories(system: System, machine: str) -> dict[str, Repository]:
    """NVIDIA's and Docker's repositories for a system, by name: C(cuda), C(toolkit), C(docker)."""
    folder = {"x86_64": "x86_64", "aarch64": "sbsa"}.get(machine, machine)
    cuda = f"https://developer.download.nvidia.com/compute/cuda/repos/{system.cuda}/{folder}"
    toolkit = "https://nvidia.github.io/libnvidia-container"
    docker = f"https://download.docker.com/linux/{system.id}"
    is_apt = system.manager == "apt"
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine) if is_apt else machine
    found = (
        Repository("cuda", "NVIDIA's CUDA repository", cuda, f"{cuda}/{'3bf863cc.pub' if is_apt else 'D42D0685.pub'}"),
        Repository(
            "toolkit",
            "NVIDIA's repository of the container toolkit",
            f"{toolkit}/stable/{'deb' if is_apt else 'rpm'}/{arch}",
            f"{toolkit}/gpgkey",
            has_signed_lists=True,
        ),
        Repository(
            "docker",
            "Docker's repository",
            docker if is_apt else f"{docker}/{system.version}/{arch}/stable",
            f"{docker}/gpg",
            f"{system.codename} stable",
        ),
    )
    return {one.name: one for one in found}


# --- versions and flavours --------------------------------------------------------------------------------------------


def upstream(version: str) -> str:
    """NVIDIA's version in that of a package: C(580.178.04) of C(580.178.04-0ubuntu0.24.04.1)."""
    return version.rpartition(":")[2].partition("-")[0]


def numbers(version: str) -> tuple[int, ...]:
    """A version to compare by."""
    return tuple(map(int, re.findall(r"\d+", upstream(version))))


def is_of_branch(version: str, branch: str) -> bool:
    """Whether the version of a package is one of a branch of the driver, such as 580."""
    return upstream(version).partition(".")[0] == branch


def origin_of(package: str, version: str) -> Origin:
    """Where a package of the driver comes from. Only Ubuntu's versions end with the release that they are for."""
    is_ubuntus = "-server" in package or package.startswith("linux-") or re.search(r"ubuntu[\d.]+\.\d\d\.\d\d", version)
    return "ubuntu" if is_ubuntus else "nvidia"


# By what their names begin with: others with nvidia in their names (toolkits, tools, CUDA) have versions of their own.
DRIVER = re.compile(
    r"linux-(?:modules|objects|signatures)-nvidia-|kmod-nvidia|cuda-drivers|nvlsm|libnvsdm|xserver-xorg-video-nvidia-"
    r"|nvidia-(?:driver(?!-assistant)|headless|utils|dkms|kernel|compute-utils|firmware|fabric-?manager|imex|open"
    r"|persistenced)"
    r"|libnvidia-(?:compute|cfg1|common|decode|encode|extra|fbc1|gl|nscq|gpucomp)"
)


def is_of_driver(package: str) -> bool:
    """Whether a package is a part of the driver, kernel modules included."""
    return bool(DRIVER.match(package))


def branch_of(package: str) -> str:
    """The branch that the name of a package has; empty where it has none."""
    found = re.search(r"-(\d{3})(?:-|$)", package)
    return found.group(1) if found and is_of_driver(package) else ""


def flavours(system: System, kernel: str) -> tuple[str, ...]:
    """What the prebuilt modules for a kernel may be called, the likeliest first: C(generic-hwe-24.04), C(generic)."""
    found = re.match(r"(\d+\.\d+)\.\d+-\d+-(.+)", kernel)
    if not found:
        return ()
    release, flavour = found.groups()
    if flavour in ("generic", "lowlatency"):
        return (flavour,) if release == system.kernel else (f"{flavour}-hwe-{system.version}",)
    return (f"{flavour}-{release}", flavour)
