# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The look at a host, replayed from the files and answers of one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
import venv
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.nvidia_smi import Result
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.probe import Answers, Argv, Host
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision import parse
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.facts import (
    Available,
    Facts,
    Job,
    Package,
    Python,
    Unit,
    Wish,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.look import look
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.plan import plan

UBUNTU = 'PRETTY_NAME="Ubuntu 24.04.3 LTS"\nVERSION_ID="24.04"\nID=ubuntu\n'
POLICY = """nvidia-utils-580-server:
  Installed: (none)
  Candidate: 580.178.04-0ubuntu0.24.04.1
  Version table:
     580.178.04-0ubuntu0.24.04.1 500
        500 http://mirror.example.com/ubuntu noble-updates/restricted amd64 Packages
docker.io:
  Installed: 29.1.3-0ubuntu3~24.04.2
  Candidate: 29.1.3-0ubuntu3~24.04.2
  Version table:
 *** 29.1.3-0ubuntu3~24.04.2 500
        500 http://mirror.example.com/ubuntu noble-updates/universe amd64 Packages
        100 /var/lib/dpkg/status
     24.0.7-0ubuntu4 500
        500 http://mirror.example.com/ubuntu noble/universe amd64 Packages
nvidia-utils-590:
  Installed: (none)
  Candidate: (none)
  Version table:
     590.48.01-1ubuntu1 -1
        -1 http://mirror.example.com/cuda  Packages
local-only:
  Installed: 1.0
  Candidate: 1.0
  Version table:
 *** 1.0 100
        100 /var/lib/dpkg/status
"""
DPKG = (
    "ii \tdocker.io\t29.1.3-0ubuntu3~24.04.2\n"
    "hi \tnvidia-utils-580-server\t580.126.20-0ubuntu0.24.04.1\n"
    "iU \tnvidia-headless-no-dkms-580-server-open\t580.178.04-0ubuntu0.24.04.1\n"
    "iF \tnvidia-fabricmanager-580\t580.178.04-0ubuntu0.24.04.1\n"
    "iHR\tlibnvidia-cfg1-580-server\t580.178.04-0ubuntu0.24.04.1\n"
    "rc \tnvidia-utils-535-server\t535.1-0ubuntu0.24.04.1\n"
    "un \tnvidia-smi\t\n"
)
UNITS = """Id=nvidia-persistenced.service
LoadState=loaded
ActiveState=active
UnitFileState=static
ActiveEnterTimestamp=@1795760000
MemoryMin=0

Id=nvidia-imex.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
ActiveEnterTimestamp=
MemoryMin=0

Id=ssh.service
LoadState=loaded
ActiveState=active
UnitFileState=disabled
ActiveEnterTimestamp=
MemoryMin=67108864
"""
SPEC = """cdiVersion: 0.7.0
kind: nvidia.com/gpu
devices:
- name: "0:0"
- name: "0:1"
- name: all
containerEdits:
  mounts:
  - hostPath: /usr/lib/x86_64-linux-gnu/libcuda.so.580.178.04
"""


def test_dpkg_tells_installed_held_and_half() -> None:
    assert parse.dpkg_packages(DPKG) == {
        "docker.io": Package("29.1.3-0ubuntu3~24.04.2"),
        "nvidia-utils-580-server": Package("580.126.20-0ubuntu0.24.04.1", is_held=True),
        "nvidia-headless-no-dkms-580-server-open": Package("", is_half=True),
        "nvidia-fabricmanager-580": Package("", is_half=True),
        "libnvidia-cfg1-580-server": Package("", is_half=True),
    }


def test_apt_tells_what_repositories_offer_and_no_pin_forbids() -> None:
    updates = "http://mirror.example.com/ubuntu noble-updates"
    assert parse.apt_policy(POLICY) == {
        "nvidia-utils-580-server": (Available("580.178.04-0ubuntu0.24.04.1", f"{updates}/restricted amd64 Packages"),),
        "docker.io": (
            Available("29.1.3-0ubuntu3~24.04.2", f"{updates}/universe amd64 Packages"),
            Available("24.0.7-0ubuntu4", "http://mirror.example.com/ubuntu noble/universe amd64 Packages"),
        ),
    }


def test_apt_tells_which_packages_only_lead_to_another_branch() -> None:
    text = """Package: nvidia-headless-no-dkms-570-server-open
Version: 570.211.01-0ubuntu1.24.04.1
Depends: nvidia-headless-no-dkms-580-server-open
Description: NVIDIA headless metapackage - no DKMS (open kernel module)

Package: nvidia-utils-580-server
Version: 580.178.04-0ubuntu0.24.04.1
Depends: nvidia-kernel-common-580-server-580.178.04, libc6 (>= 2.34), libnvidia-compute-580-server (>= 580.178.04)

Package: linux-modules-nvidia-570-server-open-generic
Version: 6.8.0-151.151
Depends: linux-modules-nvidia-580-server-open-generic

Package: docker.io
Version: 29.1.3-0ubuntu3~24.04.2
"""
    assert parse.transitional(text) == {
        ("nvidia-headless-no-dkms-570-server-open", "570.211.01-0ubuntu1.24.04.1"): "580",
        ("linux-modules-nvidia-570-server-open-generic", "6.8.0-151.151"): "580",
    }


def test_rpm_and_dnf_tell_the_headers_of_a_kernel_by_its_name() -> None:
    rows = "kernel-devel\t5.14.0-611.el9\tx86_64\nnvidia-driver-cuda\t580.178.04-1.el9\tx86_64\n"
    assert parse.rpm_packages(rows)["kernel-devel-5.14.0-611.el9.x86_64"].installed == "5.14.0-611.el9"
    offers = "dkms\t3.2.0-1.el9\tnoarch\tepel\ndkms\t3.3.0-1.el9\tnoarch\tepel\n"
    assert parse.dnf_available(offers)["dkms"] == (Available("3.3.0-1.el9", "epel"), Available("3.2.0-1.el9", "epel"))


def test_rpm_tells_an_upgrade_that_was_killed_by_what_is_there_in_two_versions() -> None:
    rows = [
        *("nvidia-driver-cuda\t570.211.01-1.el9\tx86_64", "nvidia-driver-cuda\t580.178.04-1.el9\tx86_64"),
        *("nvidia-driver-cuda-libs\t580.178.04-1.el9\ti686", "nvidia-driver-cuda-libs\t580.178.04-1.el9\tx86_64"),
        *("kernel-devel\t5.14.0-570.el9\tx86_64", "kernel-devel\t5.14.0-611.el9\tx86_64"),
        *("gpg-pubkey\t1-1\t(none)", "gpg-pubkey\t2-2\t(none)"),
    ]
    for lines in (rows, rows[::-1]):
        found = parse.rpm_packages("\n".join(lines))
        assert [name for name, package in found.items() if package.is_half] == ["nvidia-driver-cuda"]
        assert found["nvidia-driver-cuda-libs"].installed == "580.178.04-1.el9"


def test_systemd_tells_the_units_that_exist() -> None:
    assert parse.units(UNITS) == {
        "nvidia-persistenced.service": (Unit(True, True, 1795760000), 0),
        "ssh.service": (Unit(True, False, 0), 67108864),
    }


@pytest.mark.parametrize(
    ("text", "known"),
    [
        pytest.param("SecureBoot enabled\n", True, id="on"),
        pytest.param("SecureBoot disabled\nPlatform is in Setup Mode\n", False, id="off"),
        pytest.param("EFI variables are not supported on this system\n", None, id="no UEFI"),
    ],
)
def test_firmware_tells_secure_boot(text: str, known: bool | None) -> None:
    assert parse.secure_boot(text) is known


def test_the_stream_counts_when_it_is_enabled() -> None:
    text = "[nvidia-driver]\nname=nvidia-driver\nstream=580-open\nprofiles=\nstate={}\n"
    assert parse.dnf_stream(text.format("enabled")) == "580-open"
    assert parse.dnf_stream(text.format("disabled")) == ""


def test_dgx_os_tells_its_newest_update() -> None:
    text = 'DGX_NAME="DGX Spark"\nDGX_SWBUILD_VERSION="7.2.3"\nDGX_OTA_VERSION="7.3.1"\n'
    assert parse.dgx_version(text) == "7.3.1"
    assert parse.dgx_version("") == ""


def test_the_cdi_specification_tells_driver_and_mig_devices() -> None:
    assert parse.cdi(["kind: example.com/net", SPEC]) == ("580.178.04", 2)
    assert parse.cdi([]) == (None, 0)


def about(python: str, directory: Path) -> Python:
    """What an interpreter says of itself, asked as the look asks, in a directory."""
    command = [python, "-c", parse.ABOUT_PYTHON]
    return parse.python(
        python, subprocess.run(command, check=True, text=True, capture_output=True, cwd=directory).stdout
    )


def test_an_interpreter_tells_whether_it_finds_the_docker_sdk(tmp_path: Path) -> None:
    assert about(sys.executable, tmp_path).has_sdk is True
    venv.create(tmp_path / "venv", symlinks=True)
    (tmp_path / "docker").mkdir()
    (tmp_path / "requests").mkdir()
    # Folders of these names in the working directory are no modules.
    python = str(tmp_path / "venv/bin/python")
    assert about(python, tmp_path) == Python(python, has_sdk=False, has_packaged_modules=False)


@pytest.mark.parametrize(
    ("text", "known"),
    [
        pytest.param(
            '[false, ["/usr/local/lib/python3.12/dist-packages", "/usr/lib/python3/dist-packages"]]',
            Python("p", False, True),
            id="Ubuntu",
        ),
        pytest.param(
            '[false, ["/usr/lib64/python3.9/site-packages", "/usr/lib/python3.9/site-packages"]]',
            Python("p", False, True),
            id="RHEL 9",
        ),
        pytest.param('[false, ["/usr/lib/python3.12/site-packages"]]', Python("p", False), id="RHEL 9, a newer one"),
        pytest.param('[true, ["/opt/a/lib/python3.12/site-packages"]]', Python("p", True), id="a virtual environment"),
        pytest.param("", Python("p"), id="it did not answer"),
        pytest.param("[]", Python("p"), id="it answered something else"),
    ],
)
def test_an_interpreter_tells_whether_it_uses_packages_of_the_system(text: str, known: Python) -> None:
    assert parse.python("p", text) == known


# --- a whole host -----------------------------------------------------------------------------------------------------


def write(root: Path, files: t.Mapping[str, str]) -> None:
    for path, text in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def looked(root: Path, answers: t.Mapping[str, str], asked: list[Argv] | None = None) -> Facts:
    """A look at the files below a directory, with programs that answer by their names."""

    def start(commands: t.Mapping[str, Argv]) -> t.Callable[[float], Answers]:
        if asked is not None:
            asked.extend(commands.values())
        replies = {key: Result(0, answers.get(argv[0], "")) for key, argv in commands.items()}
        return lambda _seconds: replies

    host = Host(str(root), start, lambda name: name if name in answers else None, lambda _path: None)
    return look(host, Wish(), "6.8.0-151-generic", "x86_64")


H100, SWITCH = ("0000:18:00.0", "0x030200", "0x2330"), ("0000:05:00.0", "0x068000", "0x22a3")


def with_pci(root: Path, *devices: tuple[str, str, str]) -> None:
    for address, kind, device in devices:
        path = f"/sys/bus/pci/devices/{address}"
        write(root, {f"{path}/vendor": "0x10de\n", f"{path}/class": f"{kind}\n", f"{path}/device": f"{device}\n"})


def test_a_bare_host_is_seen_as_it_is(tmp_path: Path) -> None:
    with_pci(tmp_path, H100, SWITCH)
    daemon = json.dumps({"runtimes": {}})
    write(
        tmp_path,
        {
            "/etc/os-release": UBUNTU,
            "/etc/docker/daemon.json": daemon,
            "/etc/apt/sources.list.d/ubuntu.sources": "URIs: http://mirror.example.com/ubuntu\n",
            "/var/lib/apt/lists/noble_main_binary-amd64_Packages": "",
            "/var/lib/dpkg/updates/0001": "",
            "/usr/.keep": "",
        },
    )
    asked: list[Argv] = []
    seen = looked(
        tmp_path,
        {
            "dpkg-query": DPKG,
            "apt-cache": POLICY,
            "systemctl": UNITS,
            "mokutil": "SecureBoot enabled",
            sys.executable: '[false, ["/usr/lib/python3/dist-packages"]]',
        },
        asked,
    )
    assert seen.python == Python(sys.executable, has_sdk=False, has_packaged_modules=True)
    assert (seen.os_id, seen.os_version, seen.secure_boot, seen.interrupted) == ("ubuntu", "24.04", True, True)
    assert (seen.gpus.hardware, seen.gpus.count, seen.gpus.has_switch, seen.gpus.loaded) == ("h100", 1, True, "")
    assert seen.files == {"/etc/docker/daemon.json": daemon}
    assert "mirror.example.com" in seen.sources
    assert seen.package("nvidia-utils-580-server") == Package(
        "580.126.20-0ubuntu0.24.04.1", False, True, parse.apt_policy(POLICY)["nvidia-utils-580-server"]
    )
    assert seen.ssh_memory_min == 67108864
    assert set(seen.free_bytes) == {"/usr", "/var"}
    policy = next(argv for argv in asked if argv[0] == "apt-cache")
    assert {"linux-modules-nvidia-580-server-open-6.8.0-151-generic", "nvlsm", "docker-ce", "python3-docker"} <= set(
        policy
    )
    unread = replace(seen, free_bytes={}, lists_age=None)
    assert [step.verb for step in plan(Wish(), unread).steps[:3]] == ["repair", "refresh", "repository"]


@pytest.mark.parametrize(
    ("lists", "sources", "is_known"),
    [
        pytest.param(200, 100, True, id="read after the sources were written"),
        pytest.param(100, None, False, id="a source came later"),
        pytest.param(None, 100, False, id="never read"),
    ],
)
def test_lists_count_when_no_source_is_newer(
    tmp_path: Path, lists: int | None, sources: int | None, is_known: bool
) -> None:
    write(
        tmp_path,
        {"/etc/os-release": UBUNTU, "/etc/apt/sources.list": "deb http://mirror.example.com/ubuntu noble main\n"},
    )
    if lists is not None:
        write(tmp_path, {"/var/lib/apt/lists/main_binary-amd64_Packages": ""})
        # The source's time is when it came to the host, which nobody sets: now.
        now = (tmp_path / "etc/apt/sources.list").stat().st_ctime
        when = now + 60 if sources is not None else now - 60
        os.utime(tmp_path / "var/lib/apt/lists", (when, when))
    seen = looked(tmp_path, {"dpkg-query": "", "apt-cache": ""})
    assert (seen.lists_age is not None) == is_known


def test_a_dgx_is_recognized_and_only_compared(tmp_path: Path) -> None:
    with_pci(tmp_path, ("000f:01:00.0", "0x030200", "0x2e12"))
    write(tmp_path, {"/etc/os-release": UBUNTU, "/etc/dgx-release": 'DGX_OTA_VERSION="7.3.1"\n'})
    seen = looked(tmp_path, {"dpkg-query": "", "apt-cache": ""})
    assert (seen.dgx, seen.gpus.hardware) == ("7.3.1", "gb10")
    assert plan(Wish(), seen).steps == ()


def test_who_computes_is_found_where_nvidia_smi_cannot_tell(tmp_path: Path) -> None:
    with_pci(tmp_path, H100)
    version = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.211.01  Release Build\n"
    write(tmp_path, {"/etc/os-release": UBUNTU, "/proc/driver/nvidia/version": version, "/proc/41/comm": "python\n"})
    for path, device in (("41/fd/3", "/dev/nvidia-uvm"), ("41/fd/4", "/dev/nvidia-uvm"), ("42/fd/3", "/dev/nvidiactl")):
        link = tmp_path / "proc" / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(device)
    seen = looked(tmp_path, {"dpkg-query": "", "apt-cache": ""})
    assert (seen.gpus.loaded, seen.gpus.jobs) == ("570.211.01", (Job(41, "python"),))


def test_rhel_is_asked_in_its_own_way(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "/etc/os-release": 'ID="rocky"\nVERSION_ID="9.6"\n',
            "/etc/dnf/modules.d/nvidia-driver.module": "stream=580-open\nstate=enabled\n",
        },
    )
    asked: list[Argv] = []
    seen = looked(tmp_path, {"rpm": "dkms\t3.3.0-1.el9\tnoarch\n", "dnf": "", "dpkg-query": "", "apt-cache": ""}, asked)
    assert seen.installed("dkms") == "3.3.0-1.el9"
    assert (seen.stream, seen.lists_age) == ("580-open", 0)
    assert not [argv for argv in asked if argv[0] in ("dpkg-query", "apt-cache")]


def test_dnf_that_cannot_read_a_repository_has_no_lists(tmp_path: Path) -> None:
    write(tmp_path, {"/etc/os-release": 'ID="rhel"\nVERSION_ID="9.6"\n'})
    host = Host(
        str(tmp_path), lambda given: lambda _s: dict.fromkeys(given, Result(1)), lambda name: name, lambda _p: None
    )
    assert look(host, Wish(), "5.14.0-611.el9.x86_64", "x86_64").lists_age is None
