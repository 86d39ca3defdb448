# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Package repositories of a simulated host that says it is RHEL 9, with the names, versions and module streams of NVIDIA.

As a program, on the host: rpms.py DIRECTORY writes DIRECTORY/base (what RHEL and EPEL have), cuda, toolkit and docker, and
lets Python see a kernel of RHEL.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

from packages import BRANCHES, CTK, KILL, RELOAD, SMI, TOOLKIT, UNIT

KERNEL, RELEASE = "5.14.0", "611.el9"
MACHINE = os.uname().machine
# For every Python of the host: its kernel is that of the machine that plays it, for which no RHEL has headers.
UNAME = f"""import os
seen = os.uname()
os.uname = lambda: os.uname_result((*seen[:2], "{KERNEL}-{RELEASE}.{MACHINE}", *seen[3:]))
"""
PACKAGES_OF_PYTHON = Path("/usr/lib/python3/dist-packages")
UNITS = "/usr/lib/systemd/system"


@dataclass(frozen=True)
class Rpm:
    """One package, of which C(post) runs when it is installed."""

    name: str
    version: str
    requires: str = ""
    files: t.Mapping[str, str] = field(default_factory=dict)
    post: str = ""
    arch: str = "noarch"
    release: str = "1.el9"
    epoch: int = 0

    @property
    def identity(self) -> str:
        return f"{self.name}-{self.epoch}:{self.version}-{self.release}.{self.arch}"


def of_branch(number: str) -> list[Rpm]:
    version, same = number, f"= 3:{number}-1.el9"
    files = {
        "nvidia-driver-cuda-libs": {"/usr/share/sim-gpu/library": f"{number}\n"},
        "nvidia-driver-cuda": {"/usr/bin/nvidia-smi": SMI},
        "nvidia-persistenced": {f"{UNITS}/nvidia-persistenced.service": UNIT},
        "kmod-nvidia-open-dkms": {"/usr/share/sim-gpu/module": f"{number}\n"},
        "nvidia-fabricmanager": {
            "/usr/bin/nv-fabricmanager": f"#!/bin/sh\necho Fabric Manager version is : {number}\n",
            f"{UNITS}/nvidia-fabricmanager.service": UNIT,
        },
    }
    requires = {
        "nvidia-driver-cuda": f"nvidia-driver-cuda-libs {same}, nvidia-persistenced {same}",
        "kmod-nvidia-open-dkms": "dkms",
    }
    post = {"nvidia-persistenced": RELOAD, "nvidia-fabricmanager": KILL + RELOAD}
    return [Rpm(name, version, requires.get(name, ""), files[name], post.get(name, ""), epoch=3) for name in files]


def of_toolkit() -> list[Rpm]:
    hook = {
        "/usr/bin/nvidia-container-runtime-hook": '#!/bin/sh\nexec /usr/local/lib/sim-gpu/hook "$@"\n',
        "/usr/bin/nvidia-container-runtime": '#!/bin/sh\nexec runc "$@"\n',
    }
    return [
        Rpm("libnvidia-container1", TOOLKIT, release="1"),
        Rpm("libnvidia-container-tools", TOOLKIT, f"libnvidia-container1 = {TOOLKIT}-1", release="1"),
        Rpm("nvidia-container-toolkit-base", TOOLKIT, files={"/usr/bin/nvidia-ctk": CTK}, release="1"),
        Rpm("nvidia-container-toolkit", TOOLKIT, f"nvidia-container-toolkit-base = {TOOLKIT}-1", hook, release="1"),
    ]


REPOSITORIES: dict[str, list[Rpm]] = {
    # rpm knows nothing of the shell that is there: scripts of packages need one.
    "base": [
        Rpm("bash", "5.1.8"),
        Rpm("dkms", "3.3.0"),
        Rpm("kernel-devel", KERNEL, arch=MACHINE, release=RELEASE),
    ],
    "cuda": [rpm for number in BRANCHES.values() for rpm in of_branch(number)],
    "toolkit": of_toolkit(),
    # The engine itself is there already.
    "docker": [Rpm("containerd.io", "2.2.1"), Rpm("docker-ce-cli", "29.2.1"), Rpm("docker-ce", "29.2.1")],
}


def spec(rpm: Rpm, place: Path) -> str:
    """The recipe of rpmbuild; the files lie below C(place)."""
    lines = [f"Name: {rpm.name}", f"Version: {rpm.version}", f"Release: {rpm.release}", f"Epoch: {rpm.epoch}"]
    lines += [
        f"Summary: stands for {rpm.name}",
        "License: GPL-3.0-or-later",
        f"BuildArch: {rpm.arch}",
        "AutoReqProv: no",
    ]
    lines += [f"Requires: {rpm.requires}"] if rpm.requires else []
    lines += ["Provides: /bin/sh"] if rpm.name == "bash" else []
    lines += ["%description", f"Stands for {rpm.name}.", "%install", f"cp -a {place}/. %{{buildroot}}/", "%files"]
    lines += [
        f"%attr({'0755' if text.startswith('#!') else '0644'}, root, root) {path}" for path, text in rpm.files.items()
    ]
    return "\n".join([*lines, *(["%post", rpm.post] if rpm.post else []), ""])


def build(rpm: Rpm, directory: Path) -> None:
    with tempfile.TemporaryDirectory() as work:
        place = Path(work, "files")
        place.mkdir()
        for name, text in rpm.files.items():
            target = place / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        recipe = Path(work, "recipe.spec")
        recipe.write_text(spec(rpm, place), encoding="utf-8")
        set_to = {"_topdir": work, "_rpmdir": str(directory), "_build_name_fmt": "%{NAME}-%{VERSION}-%{ARCH}.rpm"}
        defined = [word for key, value in set_to.items() for word in ("--define", f"{key} {value}")]
        command = ["rpmbuild", "-bb", "--quiet", "--target", rpm.arch, *defined, str(recipe)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def stream(number: str) -> str:
    """The description of a module stream: nvidia-driver:580-open."""
    branch = number.partition(".")[0]
    artifacts = "".join(f"    - {rpm.identity}\n" for rpm in of_branch(number))
    return f"""---
document: modulemd
version: 2
data:
  name: nvidia-driver
  stream: {branch}-open
  version: 20261127
  context: sim
  arch: {MACHINE}
  summary: NVIDIA driver {branch}
  description: NVIDIA driver {branch} with open kernel modules.
  license:
    module: [MIT]
  artifacts:
    rpms:
{artifacts}...
"""


def main(place: str) -> None:
    for name, rpms in REPOSITORIES.items():
        directory = Path(place, name)
        directory.mkdir(parents=True, exist_ok=True)
        for rpm in rpms:
            build(rpm, directory)
        subprocess.run(["createrepo_c", "--quiet", str(directory)], check=True)
    modules = Path(place, "modules.yaml")
    modules.write_text("".join(map(stream, BRANCHES.values())), encoding="utf-8")
    data = Path(place, "cuda", "repodata")
    subprocess.run(["modifyrepo_c", "--mdtype=modules", str(modules), str(data)], check=True, stdout=subprocess.DEVNULL)
    (PACKAGES_OF_PYTHON / "sim_uname.py").write_text(UNAME, encoding="utf-8")
    (PACKAGES_OF_PYTHON / "sim_uname.pth").write_text("import sim_uname\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
