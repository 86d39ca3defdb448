# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The look at a host before it is provisioned: files, and programs that each have a bound. Changes nothing."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import typing as t
from dataclasses import replace

from .._gpu.facts import host_facts
from .._gpu.observation import Observation
from .._gpu.probe import Argv, Host, observe
from . import driver, parse
from .facts import Docker, Facts, Gpus, Job, Package, Wish
from .packages import (
    DOCKER,
    DOCKER_UNIT,
    EARLYOOM_UNIT,
    FABRIC_MANAGER_UNIT,
    IMEX_UNIT,
    PERSISTENCE_UNIT,
    SDK,
    SSH_UNITS,
    TOOLKIT,
    System,
    system_of,
)
from .plan import DAEMON_JSON, NEEDED_BYTES, NOUVEAU, PREFERENCES, UNATTENDED

# Seconds for what asks the package manager, and for the GPUs.
SECONDS, GPU_SECONDS = 60.0, 60.0
MOK = "/var/lib/shim-signed/mok/MOK.der"
UNITS = (PERSISTENCE_UNIT, FABRIC_MANAGER_UNIT, IMEX_UNIT, DOCKER_UNIT, EARLYOOM_UNIT, *SSH_UNITS)
UNIT_PROPERTIES = "Id,LoadState,ActiveState,UnitFileState,ActiveEnterTimestamp,MemoryMin"
UVM = "/dev/nvidia-uvm"
HOOK = "/usr/bin/nvidia-container-runtime-hook"
LISTS = "/var/lib/apt/lists"
SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/*.list", "/etc/apt/sources.list.d/*.sources")
DNF_SOURCES = ("/etc/yum.repos.d/*.repo",)
# The repositories that were added by an earlier run, and their keys.
OWN = ("/etc/apt/sources.list.d/gpufleet-*", "/etc/apt/keyrings/gpufleet-*", "/etc/yum.repos.d/gpufleet-*")
STREAM = "/etc/dnf/modules.d/nvidia-driver.module"


def look(host: Host, wish: Wish, kernel: str, machine: str) -> Facts:
    """Everything that a plan is made of. C(kernel) and C(machine) are those of uname."""
    release = parse.os_release(host.read("/etc/os-release"))
    system = system_of(release.get("ID", ""), release.get("VERSION_ID", ""))
    wait = host.start(_questions(host, wish, system, kernel))
    seen = observe(host, timeout=GPU_SECONDS)
    results = wait(SECONDS)
    answers = {key: answer.out for key, answer in results.items()}
    # dnf reads its lists when it is asked, and fails where one cannot be had.
    dnf_age = 0 if "repoquery" not in results or results["repoquery"].rc == 0 else None
    units = parse.units(answers.get("units", ""))
    names = [path for pattern in (SOURCES if _is_apt(system) else DNF_SOURCES) for path in host.matching(pattern)]
    cdi_version, cdi_mig_devices = parse.cdi(host.read(path) for path in sorted(seen.cdi))
    written = [DAEMON_JSON, PREFERENCES, UNATTENDED, NOUVEAU]
    written += [path for pattern in OWN for path in host.matching(pattern)]
    return Facts(
        os_id=release.get("ID", ""),
        os_version=release.get("VERSION_ID", ""),
        os_name=release.get("PRETTY_NAME", ""),
        dgx=parse.dgx_version(host.read("/etc/dgx-release")),
        kernel=kernel,
        machine=machine,
        secure_boot=parse.secure_boot(answers.get("secure_boot", "")),
        is_mok_enrolled="is already enrolled" in answers.get("mok", ""),
        packages=_packages(answers, _is_apt(system)),
        interrupted=any(name.isdigit() for name in host.names("/var/lib/dpkg/updates") or ()),
        lists_age=_lists_age(host, names) if _is_apt(system) else dnf_age,
        stream=parse.dnf_stream(host.read(STREAM)),
        sources="\n".join(host.read(path) for path in names),
        files={path: host.read(path) for path in written if os.path.exists(host.path(path))},
        free_bytes={place: free for place in NEEDED_BYTES if (free := _free(host.path(place))) is not None},
        gpus=_gpus(host, seen),
        docker=_docker(seen),
        python=parse.python(sys.executable, answers.get("python", "")),
        units={name: unit for name, (unit, _least) in units.items()},
        hook_since=_changed(host.path(HOOK)),
        cdi_version=cdi_version,
        cdi_mig_devices=cdi_mig_devices,
        swap_mib=seen.memory.swap_total_mib or 0,
        earlyoom=units[EARLYOOM_UNIT][0].active if EARLYOOM_UNIT in units else False,
        ssh_memory_min=max((units[name][1] for name in SSH_UNITS if name in units), default=0),
    )


def _is_apt(system: System | None) -> bool:
    return system is None or system.manager == "apt"


def _questions(host: Host, wish: Wish, system: System | None, kernel: str) -> dict[str, Argv]:
    """What programs are asked; those that are absent are not run."""
    questions: dict[str, Argv] = {
        "secure_boot": ("mokutil", "--sb-state"),
        # Another process: this one may not see what has been installed since it began.
        "python": (sys.executable, "-c", parse.ABOUT_PYTHON),
        "units": ("systemctl", "show", "--timestamp=unix", f"--property={UNIT_PROPERTIES}", *UNITS),
    }
    if os.path.exists(host.path(MOK)):
        questions["mok"] = ("mokutil", "--test-key", MOK)
    if _is_apt(system):
        questions["dpkg"] = ("dpkg-query", "-W", f"-f={parse.DPKG_FORMAT}")
    else:
        questions["rpm"] = ("rpm", "-qa", "--qf", parse.RPM_FORMAT)
    if system:
        names = [*driver.names(wish, system, kernel), *TOOLKIT, *DOCKER["distribution"], *DOCKER["docker"]]
        names += [SDK, "earlyoom"]
        if system.manager == "apt":
            questions["policy"] = ("apt-cache", "policy", *names)
            questions["show"] = ("apt-cache", "show", *names)
        else:
            query = ("dnf", "-q", "repoquery", "--available", "--qf", parse.REPOQUERY_FORMAT)
            questions["repoquery"] = (*query, *names, "kernel-devel")
    return {key: argv for key, argv in questions.items() if host.find(argv[0])}


def _packages(answers: t.Mapping[str, str], is_apt: bool) -> dict[str, Package]:
    if is_apt:
        installed = parse.dpkg_packages(answers.get("dpkg", ""))
        leads = parse.transitional(answers.get("show", ""))
        available = {
            name: tuple(replace(one, leads_to=leads.get((name, one.version), "")) for one in offers)
            for name, offers in parse.apt_policy(answers.get("policy", "")).items()
        }
    else:
        installed = parse.rpm_packages(answers.get("rpm", ""))
        available = parse.dnf_available(answers.get("repoquery", ""))
    found = dict(installed)
    for name, offers in available.items():
        have = installed.get(name, Package())
        found[name] = Package(have.installed, have.is_half, have.is_held, offers)
    return found


def _gpus(host: Host, seen: Observation) -> Gpus:
    facts = host_facts(seen)
    fabric = facts["fabric_manager"]
    processes = {
        process["pid"]: Job(process["pid"], process["name"] or "a process", process["user"] or "")
        for gpu in facts["gpus"]
        for process in gpu["processes"] or ()
    }
    if facts["status"] != "ok":
        processes = {job.pid: job for job in _holders(host)}
    return Gpus(
        hardware=facts["hardware_class"] or "none",
        count=max(len(seen.gpus_on_pci), len(facts["gpus"])),
        has_switch=any(device.is_nvswitch for device in seen.pci or ()),
        nouveau=any(device.driver == "nouveau" for device in seen.gpus_on_pci),
        loaded=facts["driver_version"] or seen.driver_loaded or "",
        module=seen.driver_installed or "",
        status=facts["status"],
        message=facts["message"] or "",
        fabric_version=fabric["version"] or "",
        fabric_ready=fabric["ready"],
        jobs=tuple(processes[pid] for pid in sorted(processes)),
        mig_devices=sum(len(gpu["mig"]["devices"] or ()) for gpu in facts["gpus"] if gpu["mig"]),
    )


def _holders(host: Host) -> t.Iterator[Job]:
    """Who computes where nvidia-smi cannot tell, as with a driver of another version than its libraries.

    CUDA keeps this device open, and neither the persistence daemon nor the fabric manager does.
    """
    for pid in filter(str.isdigit, host.names("/proc") or ()):
        directory = f"/proc/{pid}/fd"
        for name in host.names(directory) or ():
            with contextlib.suppress(OSError):
                if os.readlink(host.path(f"{directory}/{name}")) == UVM:
                    yield Job(int(pid), host.read(f"/proc/{pid}/comm", 64).strip() or "a process")
                    break


def _docker(seen: Observation) -> Docker:
    info = seen.docker_info if isinstance(seen.docker_info, dict) else {}
    runtimes = info.get("Runtimes")
    return Docker(
        version=str(info.get("ServerVersion") or ""),
        runtimes=tuple(sorted(runtimes)) if isinstance(runtimes, dict) else (),
        cgroup_driver=str(info.get("CgroupDriver") or ""),
        live_restore=bool(info.get("LiveRestoreEnabled")),
        running=int(info.get("ContainersRunning") or 0),
        is_snap=str(info.get("DockerRootDir") or "").startswith("/var/snap/"),
    )


def _lists_age(host: Host, sources: t.Sequence[str]) -> float | None:
    """Seconds since the lists of packages were read; None where there are none, or a source is newer than they."""
    if not host.matching(f"{LISTS}/*_Packages*"):
        return None
    read = _changed(host.path(LISTS))
    if any(_changed(host.path(path)) > read for path in sources):
        return None
    return max(time.time() - read, 0)


def _changed(path: str) -> float:
    """When a file came to this host, by the clock; 0 where it is missing. Packages keep older times of content."""
    try:
        status = os.stat(path)
    except OSError:
        return 0
    return status.st_mtime if os.path.isdir(path) else status.st_ctime


def _free(path: str) -> int | None:
    try:
        status = os.statvfs(path)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize
