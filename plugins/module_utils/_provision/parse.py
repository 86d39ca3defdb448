# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the texts of package managers, systemd and firmware are read. Pure: no text raises, unknown is absent."""

from __future__ import annotations

import json
import re
import typing as t

from .facts import Available, Package, Python, Unit
from .packages import PACKAGED_MODULES, TOOLKIT, branch_of, is_of_driver

DPKG_FORMAT = "${db:Status-Abbrev}\t${Package}\t${Version}\n"
RPM_FORMAT = "%{NAME}\t%{VERSION}-%{RELEASE}\t%{ARCH}\n"
REPOQUERY_FORMAT = "%{name}\t%{version}-%{release}\t%{arch}\t%{repoid}\n"
# What an interpreter says of itself. A folder of that name, as a working directory may have one, has no origin.
ABOUT_PYTHON = (
    "import importlib.util as u, json, site; found = [u.find_spec(name) for name in ('docker', 'requests')]; "
    "print(json.dumps([all(one and one.origin for one in found), site.getsitepackages()]))"
)
# What systemd says of units that need not be enabled: others start them.
NEED_NO_ENABLING = ("enabled", "enabled-runtime", "static", "indirect", "generated", "alias")


def os_release(text: str) -> dict[str, str]:
    """The keys of C(/etc/os-release), without quotes."""
    found = re.findall(r"""(?m)^([A-Z_]+)=["']?([^"'\n]*)["']?$""", text)
    return dict(found)


def dpkg_packages(text: str) -> dict[str, Package]:
    """What dpkg has: installed, held, or half of it. What only left its settings behind is absent."""
    found = {}
    for line in text.splitlines():
        status, name, version = (*line.split("\t"), "", "")[:3]
        # Wanted (h: hold), state (i: installed, n: none, c: settings only; all else is on the way), error.
        if len(status) < 2 or status[1] in "nc":
            continue
        whole = status[1] in "iWt" and status[2:3] != "R"
        found[name] = Package(version if whole else "", not whole, status[0] == "h")
    return found


def apt_policy(text: str) -> dict[str, tuple[Available, ...]]:
    """What C(apt-cache policy) offers of each package, the newest first, without what a pin forbids."""
    found: dict[str, list[Available]] = {}
    name = version = ""
    for line in text.splitlines():
        if head := re.match(r"(\S+):$", line):
            name, version = head.group(1), ""
        elif row := re.match(r"(?: \*\*\*|    ) (\S+) (-?\d+)(?: \(phased \d+%\))?$", line):
            version = row.group(1) if int(row.group(2)) >= 0 else ""
        elif (source := re.match(r"\s{8,}\d+ (\S+.*)$", line)) and name and version:
            url = source.group(1)
            if not url.startswith("/var/lib/dpkg") and version not in [one.version for one in found.get(name, [])]:
                found.setdefault(name, []).append(Available(version, url))
    return {key: tuple(value) for key, value in found.items()}


def transitional(text: str) -> dict[tuple[str, str], str]:
    """The branch that a package of another branch depends on, by name and version, from C(apt-cache show)."""
    found = {}
    for block in text.split("\n\n"):
        values = dict(re.findall(r"(?m)^(Package|Version|Depends): (.*)$", block))
        own = branch_of(values.get("Package", ""))
        needed = (branch_of(word) for word in re.findall(r"(?:^|[,|] ?)([a-z0-9.+-]+)", values.get("Depends", "")))
        other = next((branch for branch in needed if branch and branch != own), "")
        if own and other:
            found[values["Package"], values.get("Version", "")] = other
    return found


def rpm_packages(text: str) -> dict[str, Package]:
    """What rpm has; the headers of each kernel by a name of their own, as they are installed.

    An upgrade that was killed leaves a package in two versions: it is half of either.
    """
    found: dict[str, Package] = {}
    for line in text.splitlines():
        name, version, arch = (*line.split("\t"), "", "")[:3]
        is_other = name in found and found[name].installed != version and (is_of_driver(name) or name in TOOLKIT)
        found[name] = Package(is_half=True) if is_other else Package(version)
        if name == "kernel-devel":
            found[f"kernel-devel-{version}.{arch}"] = Package(version)
    return found


def dnf_available(text: str) -> dict[str, tuple[Available, ...]]:
    """What C(dnf repoquery) offers of each package; dnf prints the oldest first."""
    found: dict[str, list[Available]] = {}
    for line in text.splitlines():
        name, version, arch, repository = (*line.split("\t"), "", "", "")[:4]
        if version:
            named = f"kernel-devel-{version}.{arch}" if name == "kernel-devel" else name
            found.setdefault(named, []).insert(0, Available(version, repository))
    return {key: tuple(value) for key, value in found.items()}


def units(text: str) -> dict[str, tuple[Unit, int]]:
    """What C(systemctl show --timestamp=unix) says of units that exist, each with its MemoryMin in bytes."""
    found = {}
    for block in text.split("\n\n"):
        values = dict(line.partition("=")[::2] for line in block.splitlines())
        if values.get("LoadState") in (None, "not-found"):
            continue
        since = values.get("ActiveEnterTimestamp", "").lstrip("@")
        unit = Unit(
            values.get("ActiveState") == "active",
            values.get("UnitFileState") in NEED_NO_ENABLING,
            float(since) if since.isdigit() else 0,
        )
        least = values.get("MemoryMin", "")
        found[values.get("Id", "")] = (unit, int(least) if least.isdigit() else 0)
    return found


def python(path: str, text: str) -> Python:
    """What the interpreter at C(path) says of itself."""
    try:
        has_sdk, places = json.loads(text)
        return Python(path, bool(has_sdk), not set(PACKAGED_MODULES).isdisjoint(places))
    except (ValueError, TypeError):
        return Python(path)


def secure_boot(text: str) -> bool | None:
    """What C(mokutil --sb-state) says; None on hosts without UEFI."""
    return True if "SecureBoot enabled" in text else False if "SecureBoot disabled" in text else None


def dnf_stream(text: str) -> str:
    """The stream that C(/etc/dnf/modules.d/nvidia-driver.module) says is enabled."""
    found = re.search(r"(?m)^stream\s*=\s*(\S+)", text)
    return found.group(1) if found and re.search(r"(?m)^state\s*=\s*enabled", text) else ""


def dgx_version(text: str) -> str:
    """The version in C(/etc/dgx-release): the newest update that it lists."""
    found = re.findall(r'(?m)^DGX_(?:SWBUILD|OTA)_VERSION="?([^"\n]+)', text)
    return found[-1] if found else ("of unknown version" if text.strip() else "")


def cdi(texts: t.Iterable[str]) -> tuple[str | None, int]:
    """The driver's version in the CDI specifications of NVIDIA's GPUs, and the number of their MIG devices."""
    for text in texts:
        if "nvidia.com/gpu" in text:
            version = re.search(r"lib(?:cuda|nvidia-ml)\.so\.(\d+\.\d+(?:\.\d+)?)", text)
            devices = re.findall(r"""(?m)^\s*(?:- )?"?name"?:\s*"?(?:\d+:\d+|MIG-[0-9a-f-]+)"?,?\s*$""", text)
            return version.group(1) if version else "", len(devices)
    return None, 0
