# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which packages a host's driver is: one origin, one version for all of them, modules that its kernel may load. Pure.

A host keeps the version that it has, as long as everything that belongs to it can be had in that version: only then do
driver, libraries and fabric manager stay together. Else all of them go to the newest version that all of them have.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .facts import Facts, Wish
from .packages import (
    LAST_NAMED_BRANCH,
    NAMINGS,
    NOT_OPEN,
    OPEN_ONLY,
    Naming,
    Origin,
    System,
    branch_of,
    fabric_parts,
    flavours,
    is_of_branch,
    is_of_driver,
    numbers,
    origin_of,
    upstream,
)

TITLES: dict[Origin, str] = {"ubuntu": "Ubuntu's archive", "nvidia": "NVIDIA's repository"}
# Of a driver whose kernel modules are of the other flavour, what cannot stay.
FLAVOURED = ("nvidia-dkms-", "nvidia-headless-", "nvidia-kernel-source-", "nvidia-driver-", "linux-modules-nvidia-")
HEADERS = {"apt": "linux-headers", "dnf": "kernel-devel"}
NO_HEADERS = "Install the newest kernel with its headers and reboot into it"
NO_DKMS = "Enable EPEL ('dnf install epel-release'), or name a mirror that has it"


@dataclass(frozen=True)
class Driver:
    """The driver that a host is to have, and what has to change for it."""

    naming: Naming
    # Empty while the lists of packages do not tell yet.
    version: str
    is_prebuilt: bool
    # What is missing or of another version, each with the version of the package; empty: the newest.
    install: tuple[tuple[str, str], ...]
    remove: tuple[str, ...]
    # Whether the kernel that runs gets its modules.
    serves_this_kernel: bool
    pinning: str = ""
    # All that has to stay of one branch.
    names: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Where its packages come from, for people."""
        return TITLES[self.naming.origin]


def choose(wish: Wish, facts: Facts, system: System, is_complete: bool) -> Driver:
    """The driver for a host. With C(is_complete), all repositories are known: what is missing now stays missing.

    Raises:
        VllmError: when there is none, or it would break what is there.
    """
    _check(wish, facts)
    naming = _naming(wish, facts, system, origin(wish, facts, system))
    userland = [_called(name, wish) for name in naming.userland]
    # First of all: a branch that has ended explains whatever else is missing.
    _version(wish, facts, naming, userland, is_complete)
    modules, is_prebuilt = _modules(wish, facts, system, naming, is_complete)
    parts = [_called(getattr(naming, part), wish) for part in fabric_parts(facts.gpus.hardware, facts.gpus.has_switch)]
    versioned = [*userland, *(name for name in parts if name != "nvlsm")]
    if not is_prebuilt:
        versioned.append(modules)
    version, known = _version(wish, facts, naming, versioned, is_complete)
    install = [(name, known.get(name, "")) for name in versioned if not _is_at(facts, name, version, wish.branch)]
    others, serves = _other_packages(wish, facts, naming, modules if is_prebuilt else "", is_complete)
    if "nvlsm" in parts:
        others.append("nvlsm")
    install += [(name, _newest(facts, name)) for name in others if not facts.installed(name)]
    if is_prebuilt and version and facts.gpus.module not in ("", version):
        install += [(name, _newest(facts, name)) for name in others if _has_newer(facts, name)]
    pinning = _called(naming.pinning, wish)
    if not facts.package(pinning).available and not facts.installed(pinning):
        pinning = ""
    elif not facts.installed(pinning):
        install.append((pinning, _newest(facts, pinning)))
    remove = _in_the_way(wish, facts, is_prebuilt)
    _refuse_held(facts, [name for name, _version_ in install], remove)
    return Driver(naming, version, is_prebuilt, tuple(install), tuple(remove), serves, pinning, (*versioned, *others))


def _check(wish: Wish, facts: Facts) -> None:
    hardware = facts.gpus.hardware
    if not wish.branch.isdigit():
        raise VllmError(f"branch must be the number of a driver branch, such as 580; got {wish.branch!r}.")
    if wish.version and not is_of_branch(wish.version, wish.branch):
        raise VllmError(f"version must be one of branch {wish.branch}; got {wish.version!r}. Set both.")
    if not wish.open_modules and hardware in OPEN_ONLY:
        raise VllmError(f"open_modules must be true: {hardware} runs with NVIDIA's open kernel modules alone.")
    if wish.open_modules and hardware in NOT_OPEN:
        raise VllmError(f"open_modules must be false: NVIDIA's open kernel modules do not support {hardware}.")


def _called(name: str, wish: Wish, flavour: str = "") -> str:
    return name.format(branch=wish.branch, open="-open" if wish.open_modules else "", flavour=flavour)


# --- where it comes from ----------------------------------------------------------------------------------------------


def origin(wish: Wish, facts: Facts, system: System) -> Origin:
    """Where the driver of a host comes from: where it already does, or where all that its board needs is.

    Raises:
        VllmError: when that is two places at once, or not what is wanted.
    """
    present: dict[Origin, list[str]] = {}
    for name, package in sorted(facts.packages.items()):
        # nvlsm and the keyring are in NVIDIA's repository alone, whatever the driver's origin.
        if package.installed and is_of_driver(name) and system.manager == "apt" and not name.startswith("nvlsm"):
            present.setdefault(origin_of(name, package.installed), []).append(name)
    if len(present) > 1:
        seen = " and ".join(f"from {TITLES[one]} ({_few(found)})" for one, found in sorted(present.items()))
        raise VllmError(
            f"Packages of the NVIDIA driver are installed {seen}. They do not fit together, and apt will hold them "
            "broken: remove those of one origin with 'apt-get purge', then run this again.",
            "packages-refused",
        )
    needs_nvidia = system.manager == "dnf" or "nvlsm" in fabric_parts(facts.gpus.hardware, facts.gpus.has_switch)
    wanted: Origin = (
        wish.origin if wish.origin != "auto" else next(iter(present), "nvidia" if needs_nvidia else "ubuntu")
    )
    if wanted == "ubuntu" and needs_nvidia:
        what = f"{facts.gpus.hardware} needs nvlsm, which" if system.manager == "apt" else "the driver"
        raise VllmError(
            f"{what} is in NVIDIA's repository alone. Set origin: "
            f"nvidia{', and remove the driver from Ubuntu archive first' if present else ''}.",
            "packages-refused",
        )
    if present and wanted not in present:
        other = next(iter(present))
        raise VllmError(
            f"The NVIDIA driver is installed from {TITLES[other]} ({_few(present[other])}), and origin: {wanted} asks "
            f"for {TITLES[wanted]}. One host takes it from one of them: set origin: {other}, or remove these packages "
            "first.",
            "packages-refused",
        )
    return wanted


def has_userland(wish: Wish, facts: Facts, system: System) -> bool:
    """Whether the driver of the branch is installed, or can be had from the repositories that the host has."""
    naming = _naming(wish, facts, system, origin(wish, facts, system))
    return all(_offers(facts, naming, _called(name, wish), wish.branch) for name in naming.userland)


def names(wish: Wish, system: System, kernel: str) -> list[str]:
    """Every package of a driver by every spelling: what the package manager is asked about."""
    fitting = [one for one in NAMINGS if one.manager == system.manager]
    named = {
        _called(name, wish, flavour)
        for one in fitting
        for name in (one.dkms, *one.userland, one.fabric_manager, one.imex, one.prebuilt, one.nvlsm, one.pinning)
        for flavour in (*flavours(system, kernel), kernel)
    }
    return sorted((named | {f"{HEADERS[system.manager]}-{kernel}", "dkms"}) - {""})


def _naming(wish: Wish, facts: Facts, system: System, wanted: Origin) -> Naming:
    fitting = [one for one in NAMINGS if (one.origin, one.manager) == (wanted, system.manager)]
    if int(wish.branch) > LAST_NAMED_BRANCH:
        fitting.reverse()
    return next(
        (one for one in fitting if all(_has_branch(facts, _called(n, wish), wish) for n in one.userland)), fitting[0]
    )


def _has_branch(facts: Facts, name: str, wish: Wish) -> bool:
    package = facts.package(name)
    offers = (one.version for one in package.available if not one.leads_to)
    return any(is_of_branch(one, wish.branch) for one in (package.installed, *offers))


# --- kernel modules ---------------------------------------------------------------------------------------------------


def _modules(wish: Wish, facts: Facts, system: System, naming: Naming, is_complete: bool) -> tuple[str, bool]:
    """The package of the kernel modules, and whether they are prebuilt."""
    dkms = _called(naming.dkms, wish)
    named = [_called(naming.prebuilt, wish, one) for one in flavours(system, facts.kernel)] if naming.prebuilt else []
    there = [name for name in named if facts.installed(name) or _is_real(facts, name)]
    keeps_dkms = facts.installed(dkms) and not facts.secure_boot
    if wish.kernel_modules != "dkms" and not (wish.kernel_modules == "auto" and keeps_dkms):
        if there or (named and not is_complete):
            return (there or named)[0], True
        if wish.kernel_modules == "prebuilt":
            raise VllmError(
                f"There are no prebuilt modules of branch {wish.branch} for kernel {facts.kernel} in "
                f"{TITLES[naming.origin]} ({' or '.join(named) or 'it has none at all'}). Boot a kernel of Ubuntu's "
                "generic flavour, or set kernel_modules: dkms.",
                "packages-refused",
            )
    if facts.secure_boot and not facts.is_mok_enrolled:
        way = (
            "Boot a kernel that Ubuntu has prebuilt, signed modules for (the generic flavour) and leave origin and "
            "kernel_modules alone"
            if system.manager == "apt"
            else "Enrol a key that DKMS signs with"
        )
        raise VllmError(
            f"Secure Boot is on, and kernel {facts.kernel} would not load the modules that {dkms} builds: the key "
            f"that signs them is not enrolled. {way}, or enrol the key at the console ('mokutil --import "
            "/var/lib/shim-signed/mok/MOK.der' on Ubuntu, '/var/lib/dkms/mok.pub' elsewhere, then reboot), or turn "
            "Secure Boot off.",
            "host-unsupported",
        )
    return dkms, False


def _is_real(facts: Facts, name: str) -> bool:
    return any(not one.leads_to for one in facts.package(name).available)


def _other_packages(
    wish: Wish, facts: Facts, naming: Naming, prebuilt: str, is_complete: bool
) -> tuple[list[str], bool]:
    """What else the modules need, and whether the running kernel gets its own."""
    if prebuilt:
        own = _called(naming.prebuilt, wish, facts.kernel)
        has_own = bool(facts.installed(own) or facts.package(own).available)
        return [prebuilt, *([own] if has_own else [])], has_own
    headers = f"{HEADERS[naming.manager]}-{facts.kernel}"
    for name, remedy in ((headers, NO_HEADERS), *((("dkms", NO_DKMS),) if naming.manager == "dnf" else ())):
        if is_complete and not facts.installed(name) and not facts.package(name).available:
            raise VllmError(
                f"The kernel modules have to be built for the running kernel {facts.kernel}, and no repository of "
                f"this host has {name}. {remedy}, then run this again; nothing was changed.",
                "packages-refused",
            )
    return [headers, *(["dkms"] if naming.manager == "dnf" else [])], True


def _has_newer(facts: Facts, name: str) -> bool:
    return bool(facts.installed(name)) and _newest(facts, name) not in ("", facts.installed(name))


def _newest(facts: Facts, name: str) -> str:
    if name.startswith(f"{HEADERS['dnf']}-"):
        # Its name has the version.
        return ""
    available = facts.package(name).available
    return available[0].version if available else ""


# --- which version ----------------------------------------------------------------------------------------------------


def _version(
    wish: Wish, facts: Facts, naming: Naming, packages: t.Sequence[str], is_complete: bool
) -> tuple[str, dict[str, str]]:
    """NVIDIA's version for all packages that must have the same one, and the version of each package for it."""
    offers = {name: _offers(facts, naming, name, wish.branch) for name in packages}
    current = upstream(facts.installed(packages[0]))
    common = set.intersection(*(set(found) for found in offers.values()))
    if wish.version:
        target = wish.version if wish.version in common else ""
    else:
        target = current if current in common else max(common, key=numbers, default="")
    if target:
        return target, {name: found[target] for name, found in offers.items()}
    if is_complete:
        raise VllmError(_no_version(wish, facts, naming, offers), "packages-refused")
    return "", {}


def _offers(facts: Facts, naming: Naming, name: str, branch: str) -> dict[str, str]:
    """The versions of a package in the branch, by NVIDIA's version: what is installed, and what the origin has."""
    package = facts.package(name)
    versions = [one.version for one in package.available if not one.leads_to]
    if naming.manager == "apt":
        versions = [one for one in versions if origin_of(name, one) == naming.origin]
    leading = [one.version for one in package.available if one.leads_to]
    found = [*versions, *([package.installed] if package.installed and package.installed not in leading else [])]
    return {upstream(one): one for one in reversed(found) if is_of_branch(one, branch)}


def _no_version(wish: Wish, facts: Facts, naming: Naming, offers: t.Mapping[str, t.Mapping[str, str]]) -> str:
    title = TITLES[naming.origin]
    elsewhere = {
        name: one.leads_to or upstream(one.version).partition(".")[0]
        for name, found in offers.items()
        for one in reversed(facts.package(name).available)
        if not found and (naming.manager == "dnf" or origin_of(name, one.version) == naming.origin)
    }
    if elsewhere:
        name, branch = next(iter(elsewhere.items()))
        return (
            f"{title} no longer has branch {wish.branch}: {name} only leads to branch {branch}. Set branch: {branch}, "
            "or one that is still maintained."
        )
    missing = [name for name, found in offers.items() if not found]
    if missing:
        hint = " Enable the components restricted and multiverse." if naming.origin == "ubuntu" else ""
        return f"{title} has no {_few(missing)} for this host, of which branch {wish.branch} is made.{hint}"
    seen = "; ".join(f"{name}: {', '.join(sorted(found, key=numbers))}" for name, found in offers.items())
    wanted = f"version {wish.version}" if wish.version else f"any version of branch {wish.branch}"
    return (
        f"Not all packages of the driver are available in {wanted} from {title}, and they only work together ({seen})."
    )


def _is_at(facts: Facts, name: str, version: str, branch: str) -> bool:
    """Whether a package has the version; while that is not known, whether it is of the branch."""
    package = facts.package(name)
    fits = upstream(package.installed) == version if version else is_of_branch(package.installed, branch)
    return fits and not package.is_half


# --- what has to go ---------------------------------------------------------------------------------------------------


def _in_the_way(wish: Wish, facts: Facts, is_prebuilt: bool) -> list[str]:
    """Packages of other branches, and of the other flavour of kernel modules."""
    found = []
    for name, package in sorted(facts.packages.items()):
        branch = branch_of(name)
        if not branch or not (package.installed or package.is_half):
            continue
        is_other_flavour = (
            name.startswith(FLAVOURED) and "pinning" not in name and ("-open" in name) != wish.open_modules
        )
        is_built_again = is_prebuilt and name.startswith("nvidia-dkms-")
        if branch != wish.branch or is_other_flavour or is_built_again:
            found.append(name)
    return found


def _refuse_held(facts: Facts, install: t.Sequence[str], remove: t.Sequence[str]) -> None:
    held = sorted({name for name in (*install, *remove) if facts.package(name).is_held})
    if held:
        raise VllmError(
            f"{_few(held)} {'is' if len(held) == 1 else 'are'} held, and would have to change: apt would end with "
            f"held broken packages. Release with 'apt-mark unhold {' '.join(held)}'; this role keeps what belongs "
            "together by other means.",
            "packages-refused",
        )


def _few(packages: t.Sequence[str]) -> str:
    shown = ", ".join(packages[:3])
    return shown if len(packages) <= 3 else f"{shown} and {len(packages) - 3} more"
