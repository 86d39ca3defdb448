# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Package repositories of a simulated host, with the names and versions of Ubuntu and NVIDIA.

As a program, on the host: packages.py DIRECTORY writes DIRECTORY/archive and DIRECTORY/toolkit.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

BRANCHES = {"570": "570.211.01", "580": "580.178.04"}
RELEASE = "0ubuntu0.24.04.1"
TOOLKIT = "1.20.0"
SDK = Path("/usr/lib/python3/dist-packages/docker")
UNIT = "[Service]\nExecStart=/usr/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n"
# Packages of services make systemd read its units, as the real ones do.
RELOAD = "systemctl daemon-reload\n"
# Kills dpkg, whoever started it, and so on up to the shell or SSH session: once.
KILL = """if [ -e /etc/sim-kill ]; then
    rm /etc/sim-kill
    pid=$PPID victims=
    while [ "$(cat /proc/$pid/comm)" != sudo ] && [ "$pid" -gt 1 ]; do
        victims="$victims $pid" pid=$(cut -d ' ' -f 4 /proc/$pid/stat)
    done
    kill -KILL $victims
fi
"""
SMI = """#!/bin/sh
loaded=$(sed -n 's/.*Module  \\([0-9.]*\\) .*/\\1/p' /proc/driver/nvidia/version 2>/dev/null)
if [ -z "$loaded" ]; then
    echo "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA" \\
        "driver is installed and running."
    exit 9
fi
if [ "$loaded" != "$(cat /usr/share/sim-gpu/library)" ]; then
    echo "Failed to initialize NVML: Driver/library version mismatch"
    exit 18
fi
/usr/local/lib/sim-gpu/nvidia-smi "$@" | sed "s/580\\.95\\.05/$loaded/g"
"""
CTK = f"""#!/bin/sh
if [ "$1" = --version ]; then echo "NVIDIA Container Toolkit CLI version {TOOLKIT}"; exit; fi
loaded=$(sed -n 's/.*Module  \\([0-9.]*\\) .*/\\1/p' /proc/driver/nvidia/version)
cat >"${{3#--output=}}" <<END
cdiVersion: 0.7.0
kind: nvidia.com/gpu
devices:
- name: all
containerEdits:
  mounts:
  - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.$loaded
END
"""


@dataclass(frozen=True)
class Deb:
    """One package. C(replaces) is what it and its like of another branch provide, and none beside the other."""

    name: str
    version: str
    depends: str = ""
    replaces: str = ""
    files: t.Mapping[str, str] = field(default_factory=dict)
    postinst: str = ""


def of_branch(branch: str, number: str) -> list[Deb]:
    version = f"{number}-{RELEASE}"
    library = f"libnvidia-compute-{branch}-server"
    utils = f"nvidia-compute-utils-{branch}-server"
    fabric = {
        "/usr/bin/nv-fabricmanager": f"#!/bin/sh\necho Fabric Manager version is : {number}\n",
        "/usr/lib/systemd/system/nvidia-fabricmanager.service": UNIT,
    }
    persistence = {"/usr/lib/systemd/system/nvidia-persistenced.service": UNIT}
    module = {"/usr/share/sim-gpu/module": f"{number}\n"}
    both = f"{library} (= {version}), {utils} (= {version})"
    return [
        Deb(library, version, "", "libnvidia-compute", {"/usr/share/sim-gpu/library": f"{number}\n"}),
        Deb(utils, version, "", "nvidia-persistenced", persistence, RELOAD),
        Deb(f"nvidia-headless-no-dkms-{branch}-server-open", version, both, "nvidia-headless"),
        Deb(f"nvidia-utils-{branch}-server", version, library, "nvidia-smi", {"/usr/bin/nvidia-smi": SMI}),
        Deb(f"nvidia-dkms-{branch}-server-open", version, "", "nvidia-dkms", module),
        Deb(f"nvidia-fabricmanager-{branch}", version, library, "nvidia-fabricmanager", fabric, KILL + RELOAD),
    ]


def of_toolkit() -> list[Deb]:
    version = f"{TOOLKIT}-1"
    hook = {
        "/usr/bin/nvidia-container-runtime-hook": '#!/bin/sh\nexec /usr/local/lib/sim-gpu/hook "$@"\n',
        "/usr/bin/nvidia-container-runtime": '#!/bin/sh\nexec runc "$@"\n',
    }
    return [
        Deb("libnvidia-container1", version),
        Deb("libnvidia-container-tools", version, f"libnvidia-container1 (= {version})"),
        Deb("nvidia-container-toolkit-base", version, "", "", {"/usr/bin/nvidia-ctk": CTK}),
        Deb("nvidia-container-toolkit", version, f"nvidia-container-toolkit-base (= {version})", "", hook),
    ]


def of_python() -> Deb:
    """The Docker SDK that the host has, as a package of the archive."""
    modules = {str(path): path.read_text(encoding="utf-8") for path in SDK.rglob("*.py")}
    return Deb("python3-docker", "5.0.3-1ubuntu1.1", "python3-requests", files=modules)


def build(deb: Deb, directory: Path) -> str:
    """Write a package; returns its entry in the list of a repository."""
    control = f"Package: {deb.name}\nVersion: {deb.version}\nArchitecture: all\nMaintainer: rig <rig@example.com>\n"
    control += f"Depends: {deb.depends}\n" if deb.depends else ""
    if deb.replaces:
        control += "".join(f"{key}: {deb.replaces}\n" for key in ("Provides", "Conflicts", "Replaces"))
    control += f"Description: stands for {deb.name}\n"
    path = directory / f"{deb.name}_{deb.version}_all.deb"
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        for name, text in {"/DEBIAN/control": control, **deb.files}.items():
            target = root / name.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            target.chmod(0o755 if text.startswith("#!") else 0o644)
        if deb.postinst:
            script = root / "DEBIAN" / "postinst"
            script.write_text(f"#!/bin/sh\nset -e\n{deb.postinst}", encoding="utf-8")
            script.chmod(0o755)
        root.chmod(0o755)
        command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", place, str(path)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    return f"{control}Filename: ./{path.name}\nSize: {len(content)}\nSHA256: {digest}\n"


def write(directory: Path, debs: t.Iterable[Deb]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    entries = [build(deb, directory) for deb in debs]
    (directory / "Packages").write_text("\n".join(entries), encoding="utf-8")


def main(place: str) -> None:
    headers = Deb(f"linux-headers-{os.uname().release}".replace("_", "-").lower(), "1.0")
    drivers = [deb for row in BRANCHES.items() for deb in of_branch(*row)]
    write(Path(place) / "archive", [*drivers, headers, of_python()])
    write(Path(place) / "toolkit", of_toolkit())


if __name__ == "__main__":
    main(sys.argv[1])
