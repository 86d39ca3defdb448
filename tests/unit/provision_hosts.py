# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts for the tests of provisioning: what is in the repositories of each system, and hosts in the states of their way.

Names and versions are those of Ubuntu's archive in November 2026, and of NVIDIA's and Docker's repositories.
"""

from __future__ import annotations

import typing as t
from dataclasses import replace

from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.facts import (
    Available,
    Docker,
    Facts,
    Gpus,
    Package,
    Python,
    Unit,
    Wish,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.packages import SDK, TOOLKIT
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.plan import (
    Step,
    key_file,
    plan,
    userland_version,
)

Offers = dict[str, list[str]]

NEWEST, OLDER = "580.178.04", "580.126.20"
KERNELS = {"22.04": "5.15.0-204-generic", "24.04": "6.8.0-151-generic", "9": "5.14.0-611.el9.x86_64"}
TOOLKIT_OFFERS: Offers = {name: ["1.20.0-1", "1.19.1-1"] for name in TOOLKIT}
DOCKER_OFFERS: Offers = {
    "docker-ce": ["5:29.2.1-1~ubuntu.24.04~noble"],
    "docker-ce-cli": ["5:29.2.1-1~ubuntu.24.04~noble"],
    "containerd.io": ["2.2.1-1~ubuntu.24.04~noble"],
}


def ubuntu_archive(release: str, *branches: str) -> Offers:
    """The parts of drivers in Ubuntu's archive, with the modules of the kernel that it was released with."""
    offers: Offers = {"docker.io": [f"29.1.3-0ubuntu3~{release}.2"], SDK: ["5.0.3-1"]}
    version = {"580": NEWEST, "535": "535.288.01", "570": "570.211.01"}
    for branch in branches or ("580",):
        for name in (
            "nvidia-headless-no-dkms-{}-server{}",
            "nvidia-dkms-{}-server{}",
            "nvidia-utils-{}-server",
            "nvidia-fabricmanager-{}",
            "nvidia-imex-{}",
        ):
            for flavour in ("-open", ""):
                offers[name.format(branch, flavour)] = [f"{version[branch]}-0ubuntu0.{release}.1"]
        kernel = KERNELS[release]
        for flavour in ("-open", ""):
            modules = f"linux-modules-nvidia-{branch}-server{flavour}"
            number = kernel.rpartition("-")[0].replace("-", ".")
            offers[f"{modules}-generic"] = offers[f"{modules}-{kernel}"] = [number]
    offers[f"linux-headers-{KERNELS[release]}"] = [KERNELS[release].rpartition("-")[0]]
    return offers


def only_leading_to(newer: str, older: str, offers: Offers) -> dict[str, Package]:
    """What Ubuntu's archive has of a branch that has ended: versions of that branch, which bring a newer one."""
    ended = packages({name.replace(newer, older): ["570.211.01-0ubuntu1.24.04.1"] for name in offers if newer in name})
    return {
        name: replace(one, available=tuple(replace(offer, leads_to=newer) for offer in one.available))
        for name, one in ended.items()
    }


def cuda_repository(branch: str = "580") -> Offers:
    """NVIDIA's repository for Ubuntu, which also has newer branches."""
    suffix = f"-{branch}" if int(branch) <= 580 else ""
    versions = {"580": [f"{NEWEST}-1ubuntu1", f"{OLDER}-1ubuntu1"], "590": ["590.48.01-1ubuntu1"]}[branch]
    names = ["nvidia-dkms{}-open", "nvidia-dkms{}", "nvidia-fabricmanager{}", "nvidia-imex{}"]
    names += ["nvidia-headless-no-dkms{}-open", "nvidia-utils{}"] if suffix else ["nvidia-driver-cuda"]
    offers: Offers = {name.format(suffix): versions for name in names}
    return {**offers, "nvlsm": ["2025.10.11-1"], f"nvidia-driver-pinning-{branch}": [f"{branch}-1ubuntu1"]}


def rhel_repository() -> Offers:
    versions = [f"{NEWEST}-1.el9", f"{OLDER}-1.el9"]
    names = ("kmod-nvidia-open-dkms", "nvidia-driver-cuda", "nvidia-fabricmanager", "nvidia-imex")
    offers: Offers = dict.fromkeys(names, versions)
    headers = f"kernel-devel-{KERNELS['9']}"
    return {**offers, "nvlsm": ["2025.10.11-1"], "dkms": ["3.3.0-1.el9"], headers: ["5.14.0-611.el9"]}


def packages(
    offers: Offers, installed: t.Mapping[str, str] | None = None, **marks: t.Sequence[str]
) -> dict[str, Package]:
    """Packages by what can be had and what is there; C(held) and C(half) name those that are so."""
    have = dict(installed or {})
    return {
        name: Package(
            have.get(name, ""),
            name in marks.get("half", ()),
            name in marks.get("held", ()),
            tuple(Available(version, "a repository") for version in offers.get(name, [])),
        )
        for name in {*offers, *have, *marks.get("half", ())}
    }


BARE = Gpus("h100", 8, has_switch=False)
WITHOUT_SDK = Python("/usr/bin/python3", has_sdk=False, has_packaged_modules=True)
HGX = replace(BARE, has_switch=True)


def host(os_id: str = "ubuntu", version: str = "24.04", offers: Offers | None = None, **more: t.Any) -> Facts:
    """A bare host whose repositories have everything but what only NVIDIA and Docker have."""
    there = offers if offers is not None else {**ubuntu_archive(version), **TOOLKIT_OFFERS} if os_id == "ubuntu" else {}
    given = {
        "gpus": BARE,
        "python": WITHOUT_SDK,
        "kernel": KERNELS.get(version, ""),
        "packages": packages(there),
        **more,
    }
    return Facts(os_id, version, f"{os_id} {version}", **given)


def done(facts: Facts, step: Step) -> Facts:
    """The host after a step, as far as the next look would see it: what a whole installation is played with."""
    if step.verb in ("repair", "refresh"):
        mended = {name: replace(one, is_half=False) for name, one in facts.packages.items()}
        return replace(facts, lists_age=0, packages=mended, interrupted=False)
    if step.verb == "repository":
        offers = {"cuda": cuda_repository(), "toolkit": TOOLKIT_OFFERS, "docker": DOCKER_OFFERS}
        if facts.os_id == "rhel":
            offers["cuda"] = rhel_repository()
        name = next(one for one in offers if f"gpufleet-{one}." in step.target)
        new = {
            key: replace(facts.package(key), available=(*one.available, *facts.package(key).available))
            for key, one in packages(offers[name]).items()
        }
        files = {**facts.files, step.target: step.text, **({key_file(name): "a key"} if step.key else {})}
        sources = facts.sources + step.text
        return replace(facts, lists_age=None, sources=sources, files=files, packages={**facts.packages, **new})
    if step.verb == "stream":
        return replace(facts, stream=step.target)
    if step.verb == "file":
        return replace(facts, files={**facts.files, step.target: step.text})
    if step.verb == "packages":
        return _installed(facts, step)
    if step.verb == "build":
        return replace(facts, gpus=replace(facts.gpus, module=userland_version(facts)))
    if step.verb == "module":
        return replace(facts, gpus=replace(facts.gpus, loaded=facts.gpus.module, status="ok"))
    if step.verb == "cdi":
        return replace(facts, cdi_version=facts.gpus.loaded, cdi_mig_devices=facts.gpus.mig_devices)
    units = {**facts.units, step.target: Unit(True, True, 100)}
    if step.target != "docker.service":
        fabric = facts.gpus.loaded if "fabric" in step.target else facts.gpus.fabric_version
        return replace(facts, units=units, gpus=replace(facts.gpus, fabric_version=fabric))
    return replace(facts, units=units, docker=replace(facts.docker, version="29.1.3", runtimes=("nvidia", "runc")))


def _installed(facts: Facts, step: Step) -> Facts:
    there = dict(facts.packages)
    for name, version in step.install:
        newest = there[name].available[0].version
        there[name] = replace(there[name], installed=version or newest, is_half=False)
    for name in step.remove:
        there[name] = replace(there[name], installed="", is_half=False)
    python = replace(facts.python, has_sdk=facts.python.has_sdk or bool(there.get(SDK) and there[SDK].installed))
    after = replace(facts, packages=there, python=python)
    driver = userland_version(after)
    has_own = any(facts.kernel in name and there[name].installed for name in there if "linux-modules" in name)
    is_dkms = any("dkms" in name and there[name].installed for name in there)
    module = driver if has_own or is_dkms else ""
    return replace(after, gpus=replace(facts.gpus, module=module))


def rebooted(facts: Facts) -> Facts:
    """The host after a boot: its newest module is loaded, and nouveau is not."""
    version = userland_version(facts)
    return replace(facts, gpus=replace(facts.gpus, loaded=version, module=version, nouveau=False, status="ok"))


DEFAULTS = Wish()


def provisioned(facts: Facts, wish: Wish = DEFAULTS) -> tuple[Facts, list[Step]]:
    """The host after a run without a reboot, and the steps that it took."""
    steps: list[Step] = []
    while left := plan(wish, facts).steps:
        assert steps[-1:] != [left[0]], left[0].words()
        assert len(steps) < 40
        steps.append(left[0])
        facts = done(facts, left[0])
    return facts, steps


RUNNING = Docker("29.1.3", ("nvidia", "runc"), "systemd")
