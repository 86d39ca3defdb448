# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host lacks to be fit to serve: steps in their order, what only people can mend, whether a reboot is due. Pure.

Each step is decided from what is there, never from what a run has done: after each the host is looked at again. So a
run that was killed anywhere is finished by the next one.
"""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, replace

from .._errors import VllmError
from . import driver, verify
from .driver import Driver
from .facts import Facts, Wish
from .packages import (
    DOCKER,
    DOCKER_UNIT,
    EARLYOOM_UNIT,
    FABRIC_MANAGER_UNIT,
    IMEX_UNIT,
    LEAST_TOOLKIT,
    PERSISTENCE_UNIT,
    SDK,
    SSH_UNITS,
    TOOLKIT,
    Repository,
    System,
    fabric_parts,
    is_of_driver,
    numbers,
    repositories,
    upstream,
)

Verb = t.Literal[
    "repair",
    "repository",
    "refresh",
    "stream",
    "file",
    "packages",
    "build",
    "module",
    "start",
    "reload",
    "restart",
    "cdi",
    "protect",
]
DAEMON_JSON = "/etc/docker/daemon.json"
PREFERENCES = "/etc/apt/preferences.d/gpufleet-nvidia.pref"
UNATTENDED = "/etc/apt/apt.conf.d/52gpufleet-nvidia"
NOUVEAU = "/etc/modprobe.d/gpufleet-nouveau.conf"
RUNTIME = {"args": [], "path": "nvidia-container-runtime"}
# Lists of packages older than this may name versions that are gone.
STALE_SECONDS = 86400
GIB = 1 << 30
# What has to be free before packages are installed.
NEEDED_BYTES = {"/usr": 3 * GIB, "/var": 2 * GIB, "/boot": GIB // 8}
# What unattended upgrades leave alone: the kernel too, where its modules come prebuilt and in step with it.
BLOCKED = (
    "nvidia-",
    "libnvidia-",
    "linux-modules-nvidia-",
    "linux-objects-nvidia-",
    "linux-signatures-nvidia-",
    "nvlsm",
)
BLOCKED_KERNELS = ("linux-image-", "linux-headers-", "linux-modules-", "linux-generic", "linux-virtual")


@dataclass(frozen=True)
class Step:
    """One thing to do. C(target) is what it is about: a file, a unit, a repository; C(because) is the reason."""

    verb: Verb
    target: str
    because: str
    # Packages by name and version; without a version, the newest.
    install: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()
    # What a file is to hold, and for a repository where its key comes from.
    text: str = ""
    key: str = ""

    def words(self) -> str:
        """The step for people."""
        return f"{self._what()} ({self.because})"

    def _what(self) -> str:
        if self.verb == "packages":
            names = ", ".join(f"{name} {version}".rstrip() for name, version in self.install)
            gone = f"{' and ' if names else ''}remove {', '.join(self.remove)}" if self.remove else ""
            return f"{f'install {names} from {self.target}' if names else ''}{gone}"
        return {
            "repair": "finish the installation of packages that was interrupted",
            "repository": f"add the repository {self.target}",
            "refresh": "read the lists of packages",
            "stream": f"enable the module stream nvidia-driver:{self.target}",
            "file": f"write {self.target}",
            "build": f"build the kernel modules for {self.target}",
            "module": "load the kernel module nvidia",
            "start": f"enable and start {self.target}",
            "reload": f"reload {self.target}",
            "restart": f"restart {self.target}",
            "cdi": "write the CDI specification of the GPUs",
            "protect": f"keep {verify.SSH_BYTES >> 20} MiB of memory for {self.target}",
        }[self.verb]


@dataclass(frozen=True)
class Reboot:
    """Why the host has to be rebooted, and who computes on it."""

    reasons: tuple[str, ...] = ()
    blockers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The steps that make a host fit, or what stands against them."""

    steps: tuple[Step, ...] = ()
    # What keeps the host from being fit and is not this role's to mend, as sentences.
    deviations: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    # What is due now, and what will be once the steps are done.
    reboot: Reboot = Reboot()
    reboot_after: Reboot = Reboot()

    @property
    def is_fit(self) -> bool:
        return not (self.steps or self.deviations or self.reboot.reasons)


def _is_verified_only(wish: Wish, facts: Facts) -> bool:
    """Whether the host keeps what its vendor installed: DGX OS, GB10 and its twins."""
    return wish.verify_only or bool(facts.dgx) or facts.gpus.hardware in verify.UNIFIED


def plan(wish: Wish, facts: Facts) -> Plan:
    """What a host lacks.

    Raises:
        VllmError: when it cannot become fit, or would be broken on the way.
    """
    if _is_verified_only(wish, facts):
        reboot = Reboot(tuple(_reasons_now(facts)), _blockers(facts))
        steps = _protections(facts) if wish.protect_memory and facts.gpus.hardware in verify.UNIFIED else []
        left, warnings = verify.deviations(wish, facts), verify.warnings(facts)
        return Plan(tuple(steps), tuple(left), tuple(warnings), reboot, reboot)
    system = _supported(facts)
    fetched, missing = _lists(wish, facts, system)
    chosen = driver.choose(wish, facts, system, "cuda" not in missing)
    toolkit = _toolkit(wish, facts, "toolkit" not in missing)
    engine = _docker(wish, facts, system, "docker" not in missing)
    install = [
        *_driver_packages(wish, facts, chosen),
        *_packages(toolkit, "NVIDIA's toolkit repository", "containers get GPUs through it"),
    ]
    daemon = _daemon_json(wish, facts)
    engine_install = _packages(engine, _docker_source(wish, facts, system), "servers run in containers")
    source = "EPEL" if system.manager == "dnf" else "the distribution"
    sdk = _packages(_sdk(wish, facts), source, "the Docker SDK for Python, through which servers are deployed")
    _need_space(facts, [*install, *engine_install])
    now = Reboot(tuple(_reasons_now(facts, chosen.is_prebuilt)), _blockers(facts))
    after = now if not install else Reboot(tuple(_reasons_after(facts, chosen, now.reasons)), _blockers(facts))
    if not (install or engine_install or sdk):
        fetched = [step for step in fetched if step.verb not in ("refresh", "repository")]
    elif (facts.lists_age or 0) > STALE_SECONDS:
        fetched.append(Step("refresh", "", "they are older than a day"))
    steps = [*fetched, *_pins(wish, facts, chosen), *install]
    if not after.reasons:
        steps += _modules(facts, bool(install), chosen) + _running(facts)
    steps += [*daemon, *engine_install, *_engine(wish, facts, bool(daemon))]
    if not after.reasons:
        steps += _cdi(facts)
    warnings = _warnings(facts, steps)
    # Last: what fails here keeps nothing else from being done.
    steps += sdk
    left = [] if sdk else verify.sdk(wish, facts)
    left += _left(wish, facts, is_settled=not (steps or now.reasons))
    return Plan(tuple(steps), tuple(left), tuple(warnings), now, after)


def _protections(facts: Facts) -> list[Step]:
    """What keeps a host reachable when the memory that its GPU and CPU share is full."""
    steps = []
    ssh = next((name for name in SSH_UNITS if name in facts.units), "")
    if ssh and facts.ssh_memory_min < verify.SSH_BYTES:
        steps.append(Step("protect", ssh, "the host answers when its memory is full"))
    if not facts.installed("earlyoom") and not facts.earlyoom:
        offers = facts.package("earlyoom").available
        wanted = (("earlyoom", offers[0].version if offers else ""),)
        steps.append(Step("packages", "the distribution", "it ends a process before the memory is full", wanted))
    if not facts.earlyoom:
        steps.append(Step("start", EARLYOOM_UNIT, "it does not run"))
    return steps


def _supported(facts: Facts) -> System:
    system = facts.system
    name = facts.os_name or f"{facts.os_id} {facts.os_version}"
    if system is None:
        raise VllmError(
            f"Cannot provision {name}: drivers are installed on Ubuntu 22.04 and 24.04 and on RHEL 9. With "
            "verify_only: true the host is only looked at.",
            "host-unsupported",
        )
    if not facts.gpus.count:
        raise VllmError(
            f"Cannot provision this host ({name}): its PCI bus shows no NVIDIA GPU, so nothing was installed. Check "
            "that the card is seated, or passed through to the virtual machine.",
            "host-unsupported",
        )
    packaged = any(is_of_driver(name) for name, one in facts.packages.items() if one.installed or one.is_half)
    if facts.gpus.module and not packaged:
        raise VllmError(
            f"Driver {facts.gpus.module} is here, and no package has installed it: NVIDIA's .run installer has. "
            "Packages next to it would break both. Remove it ('nvidia-uninstall'), then run this again; with "
            "verify_only: true the host is only looked at.",
            "host-unsupported",
        )
    if facts.docker.is_snap:
        raise VllmError(
            "Docker is installed as a snap here, and that one cannot give containers GPUs through NVIDIA's toolkit. "
            "Remove it ('snap remove docker', which stops its containers), then run this again.",
            "host-unsupported",
        )
    return system


# --- where packages come from -----------------------------------------------------------------------------------------


def _lists(wish: Wish, facts: Facts, system: System) -> tuple[list[Step], set[str]]:
    """What makes the lists of packages complete, and the repositories whose lists are not there yet."""
    steps = []
    half = [name for name, package in sorted(facts.packages.items()) if package.is_half]
    if half or facts.interrupted:
        steps.append(Step("repair", "", f"{half[0]} is half-installed" if half else "dpkg was interrupted"))
    is_unread = facts.lists_age is None
    if is_unread:
        steps.append(Step("refresh", "", "they are missing, or older than the list of repositories"))
    known = {name: _mirrored(one, wish) for name, one in repositories(system, facts.machine).items()}
    needed = [known[name] for name in _needed_repositories(wish, facts, system)]
    missing = [one for one in needed if one.url.rstrip("/") not in facts.sources]
    missing += [one for one in known.values() if one not in missing and _is_outdated(one, facts, system)]
    for one in missing:
        path, text = _source_file(one, system)
        steps.append(Step("repository", path, f"{one.title}, {one.url}", text=text, key=one.key))
    if missing:
        steps.append(Step("refresh", "", "a repository was added"))
    branch = f"{wish.branch}{'-open' if wish.open_modules else ''}"
    needs_stream = system.manager == "dnf" and facts.stream != branch
    if needs_stream:
        found = f"{facts.stream} is enabled" if facts.stream else "none is enabled"
        steps.append(Step("stream", branch, f"it holds the branch, and {found}"))
    unknown = {one.name for one in missing} | ({"cuda"} if needs_stream else set())
    return steps, {"cuda", "toolkit", "docker"} if is_unread else unknown


def _is_outdated(one: Repository, facts: Facts, system: System) -> bool:
    """Whether an earlier run added the repository, and its file says something else now, or its key is gone."""
    path, text = _source_file(one, system)
    if path not in facts.files:
        return False
    return facts.files[path] != text or bool(
        one.key and system.manager == "apt" and key_file(one.name) not in facts.files
    )


def _needed_repositories(wish: Wish, facts: Facts, system: System) -> list[str]:
    """The repositories of what neither is installed nor can be had from those that the host has."""
    needed = []

    def is_there(name: str) -> bool:
        return bool(facts.installed(name) or facts.package(name).available)

    if driver.origin(wish, facts, system) == "nvidia" and not driver.has_userland(wish, facts, system):
        needed.append("cuda")
    if not all(map(is_there, TOOLKIT)):
        needed.append("toolkit")
    if _engine_kind(wish, facts, system) == "docker" and not all(map(is_there, DOCKER["docker"])):
        needed.append("docker")
    return needed


def _mirrored(one: Repository, wish: Wish) -> Repository:
    own = wish.repositories.get(one.name, {})
    if not own:
        return one
    url = own.get("url") or one.url
    key = own.get("key", one.key)
    if not key and not url.startswith("file:"):
        raise VllmError(
            f"repositories: {one.name} has no key. Packages without a signature are accepted from a directory of the "
            f"host (file:) alone; got {url}."
        )
    return replace(one, url=url, key=key, suite=own.get("suite") or one.suite)


def key_file(name: str) -> str:
    """Where the key of a repository lies. apt reads keys in ASCII armour, too."""
    return f"/etc/apt/keyrings/gpufleet-{name}.asc"


def _source_file(one: Repository, system: System) -> tuple[str, str]:
    """The path of the file that makes a repository known, and its text."""
    if system.manager == "apt":
        options = f"signed-by={key_file(one.name)}" if one.key else "trusted=yes"
        return f"/etc/apt/sources.list.d/gpufleet-{one.name}.list", f"deb [{options}] {one.url} {one.suite}\n"
    signed = "gpgcheck=0\nrepo_gpgcheck=1" if one.has_signed_lists else "gpgcheck=1"
    check = f"{signed}\ngpgkey={one.key}" if one.key else "gpgcheck=0"
    text = f"[gpufleet-{one.name}]\nname={one.title}\nbaseurl={one.url}\nenabled=1\n{check}\n"
    return f"/etc/yum.repos.d/gpufleet-{one.name}.repo", text


# --- packages ---------------------------------------------------------------------------------------------------------


def _driver_packages(wish: Wish, facts: Facts, chosen: Driver) -> list[Step]:
    if not chosen.install and not chosen.remove:
        return []
    other = facts.gpus.loaded and not facts.gpus.loaded.startswith(f"{wish.branch}.")
    why = f"the host runs {facts.gpus.loaded}" if other else "driver and all that belongs to it, in one version"
    modules = "prebuilt, signed modules" if chosen.is_prebuilt else "modules built by DKMS"
    kept = f"{why}; {modules}{' for Secure Boot' if facts.secure_boot else ''}"
    return [Step("packages", chosen.title, kept, chosen.install, chosen.remove)]


def _packages(names: t.Sequence[tuple[str, str]], source: str, because: str) -> list[Step]:
    return [Step("packages", source, because, tuple(names))] if names else []


def _toolkit(wish: Wish, facts: Facts, is_complete: bool) -> list[tuple[str, str]]:
    """The packages of the container toolkit that are missing or not of the one version they must have."""
    offers = {
        name: {
            upstream(version): version
            for version in (
                *(one.version for one in reversed(facts.package(name).available)),
                *([facts.installed(name)] if facts.installed(name) else []),
            )
        }
        for name in TOOLKIT
    }
    common = set.intersection(*(set(found) for found in offers.values()))
    have = {upstream(facts.installed(name)) for name in TOOLKIT} - {""}
    current = next(iter(have)) if len(have) == 1 else ""
    if wish.toolkit_version:
        target = wish.toolkit_version if wish.toolkit_version in common else ""
    elif current in common and numbers(current) >= LEAST_TOOLKIT:
        target = current
    else:
        target = max(common, key=numbers, default="")
    if not target and is_complete:
        wanted = f"version {wish.toolkit_version}" if wish.toolkit_version else "one version"
        raise VllmError(
            f"No repository that this host can read has all of {', '.join(TOOLKIT)} in {wanted}. Name a mirror that "
            "has them as repositories: toolkit.",
            "packages-refused",
        )
    found = [(name, offers[name].get(target, "")) for name in TOOLKIT if upstream(facts.installed(name)) != target]
    found = found if target else [(name, "") for name in TOOLKIT if not facts.installed(name)]
    held = [name for name, _version in found if facts.package(name).is_held and facts.installed(name)]
    if held:
        raise VllmError(
            f"{', '.join(held)} {'is' if len(held) == 1 else 'are'} held, and the toolkit would have to change. "
            f"Release with 'apt-mark unhold {' '.join(held)}'.",
            "packages-refused",
        )
    return found


def _engine_kind(wish: Wish, facts: Facts, system: System) -> str:
    """Whose Docker Engine the host has or gets: C(distribution), C(docker), C(none), or C(other) for one of neither."""
    present = "docker" if facts.installed("docker-ce") else "distribution" if facts.installed("docker.io") else ""
    if wish.docker == "none" or (wish.docker == "auto" and not present and facts.docker.version):
        return "none" if wish.docker == "none" else "other"
    wanted = (
        wish.docker if wish.docker != "auto" else present or ("docker" if system.manager == "dnf" else "distribution")
    )
    if present and wanted != present:
        raise VllmError(
            f"{DOCKER[present][0]} is installed, and docker: {wanted} asks for {DOCKER[wanted][0]}: one replaces the "
            "other and stops all containers. Set docker: auto, or remove it first.",
            "packages-refused",
        )
    if wanted == "distribution" and system.manager == "dnf":
        raise VllmError("docker: distribution is not available: RHEL has no Docker Engine. Set docker: docker.")
    return wanted


def _docker(wish: Wish, facts: Facts, system: System, is_complete: bool) -> list[tuple[str, str]]:
    names = [name for name in DOCKER.get(_engine_kind(wish, facts, system), ()) if not facts.installed(name)]
    absent = [name for name in names if not facts.package(name).available]
    if absent and is_complete:
        raise VllmError(
            f"No repository that this host can read has {', '.join(absent)}. Enable the component universe, or name a "
            "mirror as repositories: docker.",
            "packages-refused",
        )
    return [(name, next((one.version for one in facts.package(name).available), "")) for name in names]


def _docker_source(wish: Wish, facts: Facts, system: System) -> str:
    return "Docker's repository" if _engine_kind(wish, facts, system) == "docker" else "the distribution"


def _sdk(wish: Wish, facts: Facts) -> list[tuple[str, str]]:
    """The package with the Docker SDK, where Ansible's Python lacks it, would find it there, and it can be had."""
    found = facts.package(SDK)
    if not verify.lacks_sdk(wish, facts) or not facts.python.has_packaged_modules or found.installed:
        return []
    if not found.available and facts.lists_age is not None:
        return []
    return [(SDK, next((one.version for one in found.available), ""))]


def _need_space(facts: Facts, steps: t.Sequence[Step]) -> None:
    if not any(step.install for step in steps):
        return
    for place, needed in NEEDED_BYTES.items():
        free = facts.free_bytes.get(place)
        if free is not None and free < needed:
            raise VllmError(
                f"Cannot install packages: {place} has {free / GIB:.1f} GiB free, and {needed / GIB:.1f} GiB are "
                "needed. Free some space ('apt-get clean', old kernels), then run this again; nothing was changed.",
                "disk-full",
            )


def _pins(wish: Wish, facts: Facts, chosen: Driver) -> list[Step]:
    """The files that keep together what belongs together. They are written anew for another branch."""
    if chosen.naming.manager != "apt":
        return []
    steps = []
    if chosen.naming.origin == "nvidia" and not chosen.pinning:
        text = f"Package: {' '.join(sorted(chosen.names))}\nPin: version {wish.branch}.*\nPin-Priority: 900\n"
        steps += _file(facts, PREFERENCES, text, f"no upgrade leaves branch {wish.branch}")
    if wish.unattended_upgrades == "block":
        names = (*BLOCKED, *(BLOCKED_KERNELS if chosen.is_prebuilt else ()))
        lines = "".join(f'    "{name}";\n' for name in names)
        head = "// Written by gpufleet.vllm: what must change together."
        text = f"{head}\nUnattended-Upgrade::Package-Blacklist {{\n{lines}}};\n"
        steps += _file(facts, UNATTENDED, text, "unattended upgrades would split driver, libraries and kernel modules")
    return steps


def _file(facts: Facts, path: str, text: str, because: str) -> list[Step]:
    return [] if facts.files.get(path) == text else [Step("file", path, because, text=text)]


# --- Docker -----------------------------------------------------------------------------------------------------------


def _daemon_json(wish: Wish, facts: Facts) -> list[Step]:
    """NVIDIA's runtime, merged into what is there."""
    if wish.docker == "none":
        return []
    there = facts.files.get(DAEMON_JSON, "")
    try:
        settings = json.loads(there) if there.strip() else {}
        runtimes = settings.get("runtimes", {})
        options = [one for one in settings.get("exec-opts", []) if not one.startswith("native.cgroupdriver=")]
        is_read = isinstance(runtimes, dict)
    except (ValueError, AttributeError, TypeError):
        is_read = False
    if not is_read:
        raise VllmError(
            f"{DAEMON_JSON} cannot be read as the settings of Docker (JSON), so it was not touched, and nothing was "
            "changed. Fix it: 'dockerd --validate' shows where it is wrong.",
            "host-unsupported",
        )
    merged = dict(settings)
    if "nvidia" not in runtimes:
        merged["runtimes"] = {**runtimes, "nvidia": RUNTIME}
    if wish.cgroup_driver != "leave":
        merged["exec-opts"] = [*options, f"native.cgroupdriver={wish.cgroup_driver}"]
    if merged == settings:
        return []
    text = json.dumps(merged, indent=4) + "\n"
    return [Step("file", DAEMON_JSON, "merged: Docker's runtime nvidia, added to the existing settings", text=text)]


def _engine(wish: Wish, facts: Facts, has_new_settings: bool) -> list[Step]:
    """What makes Docker take in what was installed and written."""
    if wish.docker == "none":
        return []
    unit = facts.units.get(DOCKER_UNIT)
    if not facts.docker.version and not (unit and unit.active):
        return [Step("start", DOCKER_UNIT, "it does not run")]
    if _needs_restart(wish, facts):
        return [Step("restart", DOCKER_UNIT, _restart_reason(wish, facts))] if _may_restart(wish, facts) else []
    if has_new_settings or (facts.docker.version and "nvidia" not in facts.docker.runtimes):
        return [Step("reload", DOCKER_UNIT, "it does not know the runtime nvidia yet; containers keep running")]
    return []


def _needs_restart(wish: Wish, facts: Facts) -> bool:
    return bool(facts.docker.version) and bool(_restart_reason(wish, facts))


def _restart_reason(wish: Wish, facts: Facts) -> str:
    unit = facts.units.get(DOCKER_UNIT)
    if unit and unit.since and int(facts.hook_since) > unit.since:
        return "it looks for the toolkit only when it starts, and runs since before that was installed"
    if wish.cgroup_driver not in ("leave", facts.docker.cgroup_driver):
        return f"its cgroup driver is {facts.docker.cgroup_driver}"
    return ""


def _may_restart(wish: Wish, facts: Facts) -> bool:
    return wish.restart_docker or facts.docker.live_restore or not facts.docker.running


# --- what runs --------------------------------------------------------------------------------------------------------


def _modules(facts: Facts, is_being_installed: bool, chosen: Driver) -> list[Step]:
    """The module of the running kernel. DKMS builds it when it is installed, but not for a kernel that came later."""
    if facts.gpus.loaded:
        return []
    load = Step("module", "nvidia", "it is not loaded")
    if is_being_installed or facts.gpus.module or chosen.is_prebuilt:
        return [load]
    return [Step("build", facts.kernel, "DKMS has not built any for this kernel"), load]


def _running(facts: Facts) -> list[Step]:
    """The units, once everything is installed and no reboot stands before them."""
    steps = []
    parts = fabric_parts(facts.gpus.hardware, facts.gpus.has_switch)
    wanted = [(PERSISTENCE_UNIT, "keeps the driver initialized")]
    if "fabric_manager" in parts:
        wanted.append((FABRIC_MANAGER_UNIT, "without it CUDA fails with error 802, system not yet initialized"))
    if "imex" in parts:
        wanted.append((IMEX_UNIT, "GPUs of other hosts of the NVLink domain are reached through it"))
    for name, because in wanted:
        unit = facts.units.get(name)
        if unit is None or not (unit.active and unit.enabled):
            steps.append(Step("start", name, because))
    return steps


def _cdi(facts: Facts) -> list[Step]:
    if facts.gpus.loaded and facts.cdi_version == facts.gpus.loaded and facts.cdi_mig_devices == facts.gpus.mig_devices:
        return []
    if facts.cdi_version is None:
        why = "there is none"
    elif facts.cdi_version != facts.gpus.loaded:
        why = f"it is of driver {facts.cdi_version}"
    else:
        why = f"it has {facts.cdi_mig_devices} MIG devices, and the GPUs have {facts.gpus.mig_devices}"
    return [Step("cdi", "nvidia.com/gpu", why)]


# --- reboot -----------------------------------------------------------------------------------------------------------


def _reasons_now(facts: Facts, is_prebuilt: bool = True) -> list[str]:
    gpus = facts.gpus
    installed = userland_version(facts)
    if gpus.nouveau:
        return ["nouveau holds the GPUs until the next boot"] if installed else []
    if gpus.loaded and gpus.module and gpus.loaded != gpus.module:
        return [f"driver {gpus.loaded} is loaded, and {gpus.module} is installed"]
    if gpus.loaded and installed and gpus.loaded != installed:
        return [f"driver {gpus.loaded} is loaded, and its libraries are of {installed}"]
    if gpus.status == "driver_mismatch":
        return [gpus.message or "the libraries and the loaded kernel module have different versions"]
    if installed and not gpus.loaded and not gpus.module and is_prebuilt:
        return [f"the running kernel {facts.kernel} has no module of the driver, and an installed one has"]
    return []


def userland_version(facts: Facts) -> str:
    """The version of the driver's libraries; empty where none are installed, or from no package.

    A transitional package of an older branch may be installed beside the one that it led to.
    """
    found = (
        package.installed
        for name, package in facts.packages.items()
        if name.startswith(("nvidia-utils-", "nvidia-driver-cuda")) and "libs" not in name and package.installed
    )
    return upstream(max(found, key=numbers, default=""))


def _reasons_after(facts: Facts, chosen: Driver, now: t.Sequence[str]) -> list[str]:
    if not chosen.install and not chosen.remove:
        return list(now)
    if facts.gpus.nouveau:
        return ["nouveau holds the GPUs until the next boot"]
    if facts.gpus.loaded and facts.gpus.loaded != chosen.version:
        return [f"driver {facts.gpus.loaded} stays loaded until the next boot"]
    if not chosen.serves_this_kernel:
        return [f"the prebuilt modules match the kernel that they install, not the running kernel {facts.kernel}"]
    return list(now)


def _blockers(facts: Facts) -> tuple[str, ...]:
    return tuple(job.words() for job in facts.gpus.jobs)


# --- what people have to know -----------------------------------------------------------------------------------------


def _left(wish: Wish, facts: Facts, is_settled: bool) -> list[str]:
    """What keeps the host from being fit, and no step mends."""
    found = []
    if facts.docker.version and wish.docker != "none" and _needs_restart(wish, facts) and not _may_restart(wish, facts):
        found.append(
            f"Docker must be restarted ({_restart_reason(wish, facts)}), and that would stop {facts.docker.running} "
            "running containers. Set restart_docker: true, or run 'systemctl restart docker' when they may stop."
        )
    if is_settled and facts.gpus.loaded:
        found += verify.fabric(facts)
        if facts.gpus.status not in ("ok", "driver_mismatch") and facts.gpus.message:
            found.append(facts.gpus.message)
    return found


def _warnings(facts: Facts, steps: t.Sequence[Step]) -> list[str]:
    found = []
    if facts.docker.running and any(step.verb == "packages" for step in steps) and facts.cdi_version is None:
        found.append(
            f"{facts.docker.running} containers run. Packages reload systemd, and containers that were started with "
            "--gpus and without CDI may lose their GPUs then ('Failed to initialize NVML: Unknown Error'): recreate "
            "them."
        )
    if facts.gpus.has_switch and facts.gpus.hardware in ("gb200", "gb300"):
        found.append("The fabric manager of this board runs on its switch trays and is not looked at here.")
    return found
