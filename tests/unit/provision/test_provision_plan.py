# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import typing as t
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.facts import (
    Docker,
    Facts,
    Gpus,
    Job,
    Package,
    Python,
    Unit,
    Wish,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.packages import (
    SDK,
    branch_of,
    is_of_driver,
    origin_of,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.plan import (
    DAEMON_JSON,
    NEEDED_BYTES,
    UNATTENDED,
    Plan,
    plan,
)
from provision_hosts import (
    BARE,
    DOCKER_OFFERS,
    HGX,
    KERNELS,
    NEWEST,
    OLDER,
    RUNNING,
    TOOLKIT_OFFERS,
    WITHOUT_SDK,
    Offers,
    cuda_repository,
    host,
    only_leading_to,
    packages,
    provisioned,
    rebooted,
    rhel_repository,
    ubuntu_archive,
)

B200, GB200, GH200 = Gpus("b200", 8), Gpus("gb200", 4), Gpus("gh200", 1)
UBUNTU_24 = "0ubuntu0.24.04.1"
GENERIC = "linux-modules-nvidia-580-server-open-generic"
OWN = "linux-modules-nvidia-580-server-open-6.8.0-151-generic"
HEADLESS = "nvidia-headless-no-dkms-580-server-open"
UTILS = "nvidia-utils-580-server"
FABRIC = "nvidia-fabricmanager-580"


def driver_step(found: Plan) -> t.Any:
    return next(
        step
        for step in found.steps
        if step.verb == "packages" and "toolkit" not in step.target and len(step.install) > 1
    )


def refused(wish: Wish, facts: Facts) -> VllmError:
    with pytest.raises(VllmError) as caught:
        plan(wish, facts)
    return caught.value


def with_repositories(facts: Facts, offers: Offers) -> Facts:
    return replace(facts, packages={**packages(offers), **facts.packages})


# --- which packages, from where ---------------------------------------------------------------------------------------

DRIVERS = [
    pytest.param(host(), Wish(), "Ubuntu's archive", {HEADLESS, UTILS, GENERIC, OWN}, id="24.04"),
    pytest.param(host(gpus=HGX), Wish(), "Ubuntu's archive", {HEADLESS, UTILS, GENERIC, OWN, FABRIC}, id="24.04 HGX"),
    pytest.param(
        host(gpus=HGX, secure_boot=True),
        Wish(),
        "Ubuntu's archive",
        {HEADLESS, UTILS, GENERIC, OWN, FABRIC},
        id="24.04 HGX, Secure Boot",
    ),
    pytest.param(
        host(version="22.04"),
        Wish(),
        "Ubuntu's archive",
        {HEADLESS, UTILS, GENERIC, "linux-modules-nvidia-580-server-open-5.15.0-204-generic"},
        id="22.04",
    ),
    pytest.param(
        host(version="22.04", gpus=HGX, secure_boot=True),
        Wish(),
        "Ubuntu's archive",
        {HEADLESS, UTILS, GENERIC, "linux-modules-nvidia-580-server-open-5.15.0-204-generic", FABRIC},
        id="22.04 HGX, Secure Boot",
    ),
    pytest.param(
        host(),
        Wish(kernel_modules="dkms"),
        "Ubuntu's archive",
        {HEADLESS, UTILS, "nvidia-dkms-580-server-open", "linux-headers-6.8.0-151-generic"},
        id="24.04, DKMS on request",
    ),
    pytest.param(
        host(kernel="6.8.0-151-custom", offers={**ubuntu_archive("24.04"), "linux-headers-6.8.0-151-custom": ["1"]}),
        Wish(),
        "Ubuntu's archive",
        {HEADLESS, UTILS, "nvidia-dkms-580-server-open", "linux-headers-6.8.0-151-custom"},
        id="24.04, DKMS for a kernel without prebuilt modules",
    ),
    pytest.param(
        host(offers={**ubuntu_archive("24.04"), **cuda_repository(), **TOOLKIT_OFFERS}),
        Wish(origin="nvidia"),
        "NVIDIA's repository",
        {
            "nvidia-headless-no-dkms-580-open",
            "nvidia-utils-580",
            "nvidia-dkms-580-open",
            "linux-headers-6.8.0-151-generic",
            "nvidia-driver-pinning-580",
        },
        id="24.04 from NVIDIA, whose names have the branch up to 580",
    ),
    pytest.param(
        host(offers={**ubuntu_archive("24.04"), **cuda_repository("590"), **TOOLKIT_OFFERS}, gpus=HGX),
        Wish(origin="nvidia", branch="590"),
        "NVIDIA's repository",
        {
            "nvidia-driver-cuda",
            "nvidia-dkms-open",
            "nvidia-fabricmanager",
            "linux-headers-6.8.0-151-generic",
            "nvidia-driver-pinning-590",
        },
        id="24.04 HGX from NVIDIA, whose names have no branch from 590",
    ),
    pytest.param(
        host(offers={**ubuntu_archive("24.04"), **cuda_repository(), **TOOLKIT_OFFERS}, gpus=B200),
        Wish(),
        "NVIDIA's repository",
        {
            "nvidia-headless-no-dkms-580-open",
            "nvidia-utils-580",
            "nvidia-dkms-580-open",
            "nvidia-fabricmanager-580",
            "nvlsm",
            "linux-headers-6.8.0-151-generic",
            "nvidia-driver-pinning-580",
        },
        id="B200: fabric manager and nvlsm, which NVIDIA alone has",
    ),
    pytest.param(host(gpus=GH200), Wish(), "Ubuntu's archive", {HEADLESS, UTILS, GENERIC, OWN}, id="GH200"),
    pytest.param(
        host(gpus=GB200),
        Wish(),
        "Ubuntu's archive",
        {HEADLESS, UTILS, GENERIC, OWN, "nvidia-imex-580"},
        id="GB200: IMEX",
    ),
    pytest.param(
        host(
            "rhel",
            "9",
            {**rhel_repository(), **TOOLKIT_OFFERS, **DOCKER_OFFERS},
            gpus=HGX,
            stream="580-open",
        ),
        Wish(),
        "NVIDIA's repository",
        {"nvidia-driver-cuda", "kmod-nvidia-open-dkms", "nvidia-fabricmanager", "dkms", f"kernel-devel-{KERNELS['9']}"},
        id="RHEL 9 HGX, with its stream",
    ),
]


@pytest.mark.parametrize(("facts", "wish", "source", "names"), DRIVERS)
def test_the_driver_is_made_of_these_packages(facts: Facts, wish: Wish, source: str, names: set[str]) -> None:
    step = driver_step(plan(wish, facts))
    assert (step.target, {name for name, _version in step.install}) == (source, names)
    versions = {
        version.partition("-")[0] for name, version in step.install if name.startswith(("nvidia-h", "nvidia-fab"))
    }
    assert len(versions) <= 1


def test_the_host_is_told_what_comes_from_where_and_why() -> None:
    lines = [step.words() for step in plan(Wish(), host(offers=ubuntu_archive("24.04"), gpus=HGX)).steps]
    assert lines[0].startswith("add the repository /etc/apt/sources.list.d/gpufleet-toolkit.list (NVIDIA's repository")
    assert lines[3] == (
        f"install {HEADLESS} {NEWEST}-{UBUNTU_24}, {UTILS} {NEWEST}-{UBUNTU_24}, {FABRIC} {NEWEST}-{UBUNTU_24}, "
        f"{GENERIC} 6.8.0.151, {OWN} 6.8.0.151 from Ubuntu's archive (driver and all that belongs to it, in one version; "
        "prebuilt, signed modules)"
    )
    assert lines[5] == "load the kernel module nvidia (it is not loaded)"
    assert "error 802" in lines[7]


def with_ended(branch: str) -> Facts:
    """A bare host, and an archive in which a branch only leads to 580."""
    facts = host()
    return replace(facts, packages={**facts.packages, **only_leading_to("580", branch, ubuntu_archive("24.04"))})


def test_transitional_packages_of_an_ended_branch_go_and_the_driver_stays() -> None:
    fit = provisioned(with_ended("570"))[0]
    name = UTILS.replace("580", "570")
    old = replace(fit.package(name), installed=fit.package(name).available[0].version)
    found = plan(Wish(), replace(fit, packages={name: old, **{k: v for k, v in fit.packages.items() if k != name}}))
    assert found.reboot.reasons == ()
    assert [step.words() for step in found.steps] == [
        "remove nvidia-utils-570-server (driver and all that belongs to it, in one version; prebuilt, signed modules)"
    ]


@pytest.mark.parametrize(
    ("name", "version", "found"),
    [
        pytest.param("nvidia-utils-580-server", f"{NEWEST}-{UBUNTU_24}", ("ubuntu", "580"), id="Ubuntu"),
        pytest.param("nvidia-fabricmanager-570", "570.211.01-0ubuntu1.24.04.1", ("ubuntu", "570"), id="Ubuntu, ended"),
        pytest.param("nvidia-fabricmanager-570", "570.211.01-1", ("nvidia", "570"), id="NVIDIA"),
        pytest.param("nvidia-open", "590.48.01-1ubuntu1", ("nvidia", ""), id="NVIDIA, without a branch in its name"),
        pytest.param("cuda-drivers-570", "570.211.01-0ubuntu1", ("nvidia", "570"), id="NVIDIA's meta package"),
        pytest.param(OWN, "6.8.0-151.151", ("ubuntu", "580"), id="modules of a kernel"),
        pytest.param("linux-modules-6.8.0-151-generic", "6.8.0-151.151", None, id="kernel"),
        pytest.param("nvidia-container-toolkit", "1.20.0-1", None, id="toolkit"),
        pytest.param("libnvidia-container1", "1.20.0-1", None, id="toolkit's library"),
        pytest.param("nvidia-driver-assistant", "0.21.57.08-1", None, id="a tool"),
        pytest.param("nvidia-cuda-toolkit", "12.0.140~12.0.1-4build4", None, id="CUDA"),
        pytest.param("libnvidia-ml-dev", "12.0.140~12.0.1-4build4", None, id="CUDA's headers"),
        pytest.param("libnvidia-egl-wayland1", "1:1.1.13-1build1", None, id="a library with a life of its own"),
        pytest.param("nvidia-prime", "0.8.17.2", None, id="a desktop's tool"),
    ],
)
def test_a_package_tells_whether_it_is_of_a_driver(name: str, version: str, found: tuple[str, str] | None) -> None:
    assert ((origin_of(name, version), branch_of(name)) if is_of_driver(name) else None) == found


# --- refusals ---------------------------------------------------------------------------------------------------------

BOTH = packages(
    {**ubuntu_archive("24.04"), **cuda_repository()},
    {UTILS: f"{NEWEST}-{UBUNTU_24}", "nvidia-utils-580": f"{NEWEST}-1ubuntu1"},
)
REFUSALS = [
    pytest.param(host(packages=BOTH), Wish(), "packages-refused", "remove those of one origin", id="both origins"),
    pytest.param(
        host(packages=packages(ubuntu_archive("24.04"), {UTILS: f"{NEWEST}-{UBUNTU_24}"})),
        Wish(origin="nvidia"),
        "packages-refused",
        "is installed from Ubuntu's archive",
        id="the other origin",
    ),
    pytest.param(host(gpus=B200), Wish(origin="ubuntu"), "packages-refused", "needs nvlsm", id="nvlsm from Ubuntu"),
    pytest.param(
        host(offers={**ubuntu_archive("24.04"), **cuda_repository(), **TOOLKIT_OFFERS}, secure_boot=True),
        Wish(origin="nvidia"),
        "host-unsupported",
        "Secure Boot is on",
        id="Secure Boot and modules that nobody signed",
    ),
    pytest.param(
        host(
            "rhel", "9", {**rhel_repository(), **TOOLKIT_OFFERS, **DOCKER_OFFERS}, stream="580-open", secure_boot=True
        ),
        Wish(),
        "host-unsupported",
        "mokutil --import",
        id="RHEL 9 with Secure Boot",
    ),
    pytest.param(
        host(packages=packages({**ubuntu_archive("24.04"), **TOOLKIT_OFFERS}, {UTILS: "580.95.05-1"}, held=[UTILS])),
        Wish(origin="ubuntu"),
        "packages-refused",
        f"'apt-mark unhold {UTILS}'",
        id="held",
    ),
    pytest.param(
        replace(with_ended("570"), secure_boot=True),
        Wish(branch="570"),
        "packages-refused",
        "no longer has branch 570: nvidia-headless-no-dkms-570-server-open only leads to branch 580. Set branch: 580",
        id="a branch that only leads to another one",
    ),
    pytest.param(
        host(gpus=replace(BARE, loaded="570.86.10", module="570.86.10", status="ok")),
        Wish(),
        "host-unsupported",
        "NVIDIA's .run installer",
        id="a driver of no package",
    ),
    pytest.param(
        host(), Wish(version="580.1.2"), "packages-refused", "version 580.1.2", id="a version that is not there"
    ),
    pytest.param(
        host(), Wish(version="570.1"), "invalid-parameter", "must be one of branch 580", id="another branch's version"
    ),
    pytest.param(
        host(
            gpus=HGX,
            offers={key: value for key, value in ubuntu_archive("24.04").items() if key != FABRIC} | TOOLKIT_OFFERS,
        ),
        Wish(),
        "packages-refused",
        "restricted and multiverse",
        id="no fabric manager",
    ),
    pytest.param(
        host(gpus=HGX, offers={**ubuntu_archive("24.04"), **TOOLKIT_OFFERS, FABRIC: [f"{OLDER}-{UBUNTU_24}"]}),
        Wish(),
        "packages-refused",
        "only work together",
        id="no version that driver and fabric manager share",
    ),
    pytest.param(
        host(offers={**ubuntu_archive("24.04"), **TOOLKIT_OFFERS}, kernel="6.8.0-90-custom"),
        Wish(),
        "packages-refused",
        "no repository of this host has linux-headers-6.8.0-90-custom",
        id="no headers for the running kernel",
    ),
    pytest.param(host("debian", "12", {}), Wish(), "host-unsupported", "verify_only: true", id="another system"),
    pytest.param(host(gpus=Gpus()), Wish(), "host-unsupported", "no NVIDIA GPU", id="no GPU"),
    pytest.param(host(docker=replace(RUNNING, is_snap=True)), Wish(), "host-unsupported", "snap remove", id="snap"),
    pytest.param(
        host(gpus=GH200), Wish(open_modules=False), "invalid-parameter", "open kernel modules alone", id="closed"
    ),
    pytest.param(host(gpus=Gpus("v100", 8)), Wish(), "invalid-parameter", "open_modules must be false", id="V100"),
    pytest.param(
        host(packages=packages({**ubuntu_archive("24.04"), **TOOLKIT_OFFERS}, {"docker.io": "29"})),
        Wish(docker="docker"),
        "packages-refused",
        "stops all containers",
        id="the other Docker",
    ),
    pytest.param(
        host(files={DAEMON_JSON: "{"}), Wish(), "host-unsupported", "not touched", id="daemon.json is damaged"
    ),
    pytest.param(
        host(free_bytes=dict.fromkeys(NEEDED_BYTES, 1 << 20)),
        Wish(),
        "disk-full",
        "/usr has 0.0 GiB",
        id="disk full",
    ),
    pytest.param(
        host(),
        Wish(repositories={"toolkit": {"url": "http://mirror/x", "key": ""}}),
        "invalid-parameter",
        "has no key",
        id="a mirror without a key",
    ),
]


@pytest.mark.parametrize(("facts", "wish", "reason", "words"), REFUSALS)
def test_it_is_refused_with_what_to_change(facts: Facts, wish: Wish, reason: str, words: str) -> None:
    if "repositories" in words or wish.repositories:
        facts = replace(facts, packages=packages(ubuntu_archive("24.04")))
    error = refused(wish, facts)
    assert error.reason == reason
    assert words in str(error)


# --- from bare to fit -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(host(offers=ubuntu_archive("24.04")), id="24.04"),
        pytest.param(host(offers=ubuntu_archive("22.04"), version="22.04", gpus=HGX), id="22.04 HGX"),
        pytest.param(host(offers=ubuntu_archive("24.04"), gpus=B200), id="B200"),
        pytest.param(host(offers=ubuntu_archive("24.04"), lists_age=None), id="lists never read"),
        pytest.param(host("rhel", "9", {"dkms": ["3"], SDK: ["5"], **rhel_repository()}, gpus=HGX), id="RHEL 9"),
    ],
)
def test_a_bare_host_becomes_fit_and_stays_so(facts: Facts) -> None:
    fit, steps = provisioned(replace(facts, packages={k: v for k, v in facts.packages.items() if k != "nvlsm"}))
    after = plan(Wish(), fit)
    assert (after.is_fit, after.deviations, after.reboot.reasons) == (True, (), ())
    assert [step.verb for step in steps[-2:]] == ["cdi", "packages"]
    assert all(fit.installed(name) for name in TOOLKIT_OFFERS)
    # A week later there are newer versions and the lists are old: nothing is due.
    assert plan(Wish(), replace(fit, lists_age=604800)).is_fit


def test_each_step_of_a_run_that_was_killed_is_followed_by_the_same_ones() -> None:
    bare = host(offers=ubuntu_archive("24.04"), gpus=HGX)
    fit, steps = provisioned(bare)
    assert [step.verb for step in plan(Wish(), bare).steps] == [step.verb for step in steps]
    half = replace(bare, packages={**bare.packages, **packages(ubuntu_archive("24.04"), half=[HEADLESS])})
    assert plan(Wish(), half).steps[0].words() == (
        f"finish the installation of packages that was interrupted ({HEADLESS} is half-installed)"
    )
    assert provisioned(half)[0].packages == fit.packages


@pytest.mark.parametrize("branch", ["535", "570"])
def test_an_upgrade_takes_the_old_branch_away_in_the_same_step_and_asks_for_a_reboot(branch: str) -> None:
    old = {"535": "535.288.01", "570": "570.211.01"}[branch]
    version = f"{old}-{UBUNTU_24}"
    have = {
        f"nvidia-headless-no-dkms-{branch}-server-open": version,
        f"nvidia-utils-{branch}-server": version,
        f"libnvidia-compute-{branch}-server": version,
        f"linux-modules-nvidia-{branch}-server-open-generic": "6.8.0.151",
        f"nvidia-fabricmanager-{branch}": version,
    }
    facts = host(
        packages=packages({**ubuntu_archive("24.04", "580", branch), **TOOLKIT_OFFERS}, have),
        gpus=replace(HGX, loaded=old, module=old, status="ok"),
    )
    found = plan(Wish(), facts)
    step = driver_step(found)
    assert set(step.remove) == set(have)
    assert {name for name, _version in step.install} == {HEADLESS, UTILS, GENERIC, OWN, FABRIC}
    assert found.reboot.reasons == ()
    assert found.reboot_after.reasons == (f"driver {old} stays loaded until the next boot",)
    upgraded, _steps = provisioned(facts)
    waiting = plan(Wish(), upgraded)
    assert not waiting.is_fit
    assert waiting.reboot.reasons == (f"driver {old} is loaded, and {NEWEST} is installed",)
    fit, steps = provisioned(rebooted(upgraded))
    assert [one.verb for one in steps] == ["start", "start", "cdi"]
    assert plan(Wish(), fit).is_fit


def test_what_is_installed_is_kept_as_long_as_all_of_it_can_be_had() -> None:
    offers = ubuntu_archive("24.04")
    older = f"{OLDER}-{UBUNTU_24}"
    for name in (HEADLESS, UTILS, FABRIC):
        offers[name] = [*offers[name], older]
    have = {HEADLESS: older, UTILS: older, GENERIC: "6.8.0.151", OWN: "6.8.0.151"}
    facts = host(packages=packages({**offers, **TOOLKIT_OFFERS}, have), gpus=HGX)
    step = next(step for step in plan(Wish(), facts).steps if step.target == "Ubuntu's archive")
    assert step.install == ((FABRIC, older),)
    offers[FABRIC] = offers[FABRIC][:1]
    facts = host(packages=packages({**offers, **TOOLKIT_OFFERS}, have), gpus=HGX)
    step = driver_step(plan(Wish(), facts))
    assert dict(step.install) == dict.fromkeys((HEADLESS, UTILS, FABRIC), f"{NEWEST}-{UBUNTU_24}")


def test_dkms_and_the_other_flavour_go_where_prebuilt_modules_come() -> None:
    have = {"nvidia-dkms-580-server": f"{NEWEST}-{UBUNTU_24}", "nvidia-headless-580-server": f"{NEWEST}-{UBUNTU_24}"}
    facts = host(packages=packages({**ubuntu_archive("24.04"), **TOOLKIT_OFFERS}, have), secure_boot=True)
    assert set(driver_step(plan(Wish(), facts)).remove) == set(have)


def test_dkms_stays_where_it_is_already() -> None:
    have = {"nvidia-dkms-580-server-open": f"{NEWEST}-{UBUNTU_24}"}
    facts = host(packages=packages({**ubuntu_archive("24.04"), **TOOLKIT_OFFERS}, have))
    assert {name for name, _v in driver_step(plan(Wish(), facts)).install} == {
        HEADLESS,
        UTILS,
        "linux-headers-6.8.0-151-generic",
    }


# --- repositories -----------------------------------------------------------------------------------------------------


def test_a_mirror_takes_the_place_of_a_repository() -> None:
    wish = Wish(repositories={"toolkit": {"url": "https://mirror/toolkit", "key": "/srv/toolkit.asc"}})
    step = plan(wish, host(offers=ubuntu_archive("24.04"))).steps[0]
    assert step.text == "deb [signed-by=/etc/apt/keyrings/gpufleet-toolkit.asc] https://mirror/toolkit /\n"
    assert step.key == "/srv/toolkit.asc"


def test_a_directory_of_the_host_may_come_without_a_key() -> None:
    wish = Wish(repositories={"toolkit": {"url": "file:/srv/packages", "key": "", "suite": "./"}})
    step = plan(wish, host(offers=ubuntu_archive("24.04"))).steps[0]
    assert step.text == "deb [trusted=yes] file:/srv/packages ./\n"


def test_a_key_that_was_removed_is_fetched_again_and_another_mirror_takes_its_place() -> None:
    facts = provisioned(host(offers=ubuntu_archive("24.04")))[0]
    key = "/etc/apt/keyrings/gpufleet-toolkit.asc"
    assert key in facts.files
    bare = {name: replace(one, installed="") for name, one in facts.packages.items()}
    facts = replace(facts, packages=bare, gpus=BARE)
    assert [step.verb for step in plan(Wish(), facts).steps[:1]] == ["packages"]
    without = replace(facts, files={path: text for path, text in facts.files.items() if path != key})
    assert [step.verb for step in plan(Wish(), without).steps[:2]] == ["repository", "refresh"]
    wish = Wish(repositories={"toolkit": {"url": "https://mirror/toolkit"}})
    assert "https://mirror/toolkit" in plan(wish, facts).steps[0].text


def test_dnf_verifies_what_each_repository_signs() -> None:
    steps = [step for step in plan(Wish(), host("rhel", "9", {})).steps if step.verb == "repository"]
    texts = {step.target.rpartition("-")[2]: step.text for step in steps}
    assert "gpgcheck=1\ngpgkey=https://" in texts["cuda.repo"]
    assert "gpgcheck=0\nrepo_gpgcheck=1\ngpgkey=https://" in texts["toolkit.repo"]
    assert "/linux/rhel/9/x86_64/stable\n" in texts["docker.repo"]
    unsigned = Wish(repositories={"cuda": {"url": "file:///srv/cuda", "key": ""}})
    assert "gpgcheck=0\n" in next(s.text for s in plan(unsigned, host("rhel", "9", {})).steps if "cuda" in s.target)


def test_what_the_host_has_from_its_own_mirror_needs_no_repository() -> None:
    facts = with_repositories(host(), DOCKER_OFFERS)
    assert [step.verb for step in plan(Wish(), facts).steps if step.verb in ("repository", "refresh")] == []


def test_old_lists_are_read_anew_before_something_is_installed() -> None:
    assert (
        plan(Wish(), host(lists_age=90000)).steps[0].words() == "read the lists of packages (they are older than a day)"
    )


def test_unattended_upgrades_leave_alone_what_belongs_together() -> None:
    text = next(step.text for step in plan(Wish(), host()).steps if step.target == UNATTENDED)
    assert '"linux-modules-nvidia-";' in text
    assert '"linux-image-";' in text
    dkms = next(step.text for step in plan(Wish(kernel_modules="dkms"), host()).steps if step.target == UNATTENDED)
    assert '"linux-image-";' not in dkms
    assert not [step for step in plan(Wish(unattended_upgrades="leave"), host()).steps if step.target == UNATTENDED]


def test_nvidias_repository_without_its_pinning_is_pinned_by_a_file() -> None:
    offers = {key: value for key, value in cuda_repository().items() if "pinning" not in key}
    facts = host(offers={**ubuntu_archive("24.04"), **offers, **TOOLKIT_OFFERS})
    text = next(step.text for step in plan(Wish(origin="nvidia"), facts).steps if step.target.endswith(".pref"))
    assert "Pin: version 580.*" in text
    assert "nvidia-utils-580" in text


# --- Docker -----------------------------------------------------------------------------------------------------------


RHEL = host("rhel", "9", {**rhel_repository(), **TOOLKIT_OFFERS, **DOCKER_OFFERS}, gpus=HGX, stream="580-open")
EPEL = packages({SDK: ["5.0.2-4.el9"]})


def fit_host(**more: t.Any) -> Facts:
    facts = provisioned(host(offers=ubuntu_archive("24.04")))[0]
    return replace(facts, docker=RUNNING, **more)


def test_daemon_json_is_merged() -> None:
    there = (
        '{"data-root": "/data", "runtimes": {"kata": {"path": "kata"}}, "exec-opts": ["native.cgroupdriver=systemd"]}'
    )
    wish = Wish(cgroup_driver="cgroupfs")
    found = plan(wish, fit_host(files={DAEMON_JSON: there}))
    written = json.loads(next(step.text for step in found.steps if step.target == DAEMON_JSON))
    assert written == {
        "data-root": "/data",
        "runtimes": {"kata": {"path": "kata"}, "nvidia": {"args": [], "path": "nvidia-container-runtime"}},
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
    }


@pytest.mark.parametrize(
    ("docker", "wish", "verbs", "left"),
    [
        pytest.param(replace(RUNNING, runtimes=("runc",)), Wish(), ["reload"], "", id="it does not know the runtime"),
        pytest.param(RUNNING, Wish(cgroup_driver="cgroupfs"), ["file", "restart"], "", id="idle"),
        pytest.param(
            replace(RUNNING, running=3),
            Wish(cgroup_driver="cgroupfs"),
            ["file"],
            "would stop 3 running",
            id="containers run",
        ),
        pytest.param(
            replace(RUNNING, running=3, live_restore=True),
            Wish(cgroup_driver="cgroupfs"),
            ["file", "restart"],
            "",
            id="live",
        ),
        pytest.param(
            replace(RUNNING, running=3),
            Wish(cgroup_driver="cgroupfs", restart_docker=True),
            ["file", "restart"],
            "",
            id="containers may be stopped",
        ),
    ],
)
def test_docker_takes_in_its_settings_without_stopping_containers(
    docker: Docker, wish: Wish, verbs: list[str], left: str
) -> None:
    found = plan(wish, replace(fit_host(), docker=docker))
    assert [step.verb for step in found.steps] == verbs
    assert left in " ".join(found.deviations)
    assert bool(left) == bool(found.deviations)


def test_docker_is_started_where_it_neither_answers_nor_runs() -> None:
    units = {name: unit for name, unit in fit_host().units.items() if name != "docker.service"}
    verbs = {
        "it answers, by a unit of another name": (RUNNING, None, []),
        "it starts and does not answer yet": (Docker(), Unit(True, True), []),
        "it is stopped": (Docker(), Unit(False, True), ["start"]),
    }
    for docker, unit, expected in verbs.values():
        known = {**units, **({"docker.service": unit} if unit else {})}
        assert [step.verb for step in plan(Wish(), replace(fit_host(units=known), docker=docker)).steps] == expected


def test_docker_that_started_before_the_toolkit_is_restarted() -> None:
    units = {**fit_host().units, "docker.service": Unit(True, True, 50)}
    assert [step.verb for step in plan(Wish(), fit_host(units=units, hook_since=60.5)).steps] == ["restart"]
    assert plan(Wish(), fit_host(units=units, hook_since=50.9)).is_fit


OF_A_VENV = replace(WITHOUT_SDK, path="/opt/ansible/bin/python", has_packaged_modules=False)
BROUGHT = "install {} {} from {} (the Docker SDK for Python, through which servers are deployed)"
BY_APT = BROUGHT.format(SDK, "5.0.3-1", "the distribution")
WITHOUT_OFFERS = packages({key: value for key, value in ubuntu_archive("24.04").items() if key != SDK})


@pytest.mark.parametrize(
    ("facts", "wish", "steps", "left"),
    [
        pytest.param(fit_host(), Wish(), [], "", id="it is there"),
        pytest.param(fit_host(python=WITHOUT_SDK), Wish(), [BY_APT], "", id="it is missing"),
        pytest.param(
            fit_host(python=WITHOUT_SDK, lists_age=90000),
            Wish(),
            ["read the lists of packages (they are older than a day)", BY_APT],
            "",
            id="it is missing, and the lists are old",
        ),
        pytest.param(fit_host(python=WITHOUT_SDK), Wish(docker="none"), [], "", id="no containers"),
        pytest.param(fit_host(python=Python("/usr/bin/python3")), Wish(), [], "", id="the interpreter said nothing"),
        pytest.param(
            fit_host(python=OF_A_VENV),
            Wish(),
            [],
            "/opt/ansible/bin/python, which Ansible uses here, lacks the Docker SDK for Python, without which no server is "
            "deployed in a container. No package of the distribution changes that: '/opt/ansible/bin/python -m pip install "
            "docker requests' does. For a host without containers set docker: none.",
            id="Ansible uses a virtual environment",
        ),
        pytest.param(
            fit_host(python=replace(OF_A_VENV, has_sdk=True)), Wish(), [], "", id="a virtual environment that has it"
        ),
    ],
)
def test_the_docker_sdk_comes_where_ansibles_python_would_find_it(
    facts: Facts, wish: Wish, steps: list[str], left: str
) -> None:
    facts = replace(facts, packages={**facts.packages, SDK: replace(facts.package(SDK), installed="")})
    found = plan(wish, facts)
    assert [step.words() for step in found.steps] == steps
    assert found.deviations == ((left,) if left else ())
    assert found.is_fit == (not steps and not left)


@pytest.mark.parametrize(
    ("facts", "source", "words"),
    [
        pytest.param(host(), "the distribution", "", id="Ubuntu"),
        pytest.param(
            host(packages={**packages(TOOLKIT_OFFERS), **WITHOUT_OFFERS}),
            "",
            "Ubuntu has it in its component universe",
            id="Ubuntu without universe",
        ),
        pytest.param(
            host(packages={**packages(TOOLKIT_OFFERS), **WITHOUT_OFFERS}, lists_age=None),
            "the distribution",
            "",
            id="Ubuntu whose lists are not there yet",
        ),
        pytest.param(
            host(packages={**packages(TOOLKIT_OFFERS), **WITHOUT_OFFERS, SDK: Package("5.0.3-1")}),
            "",
            "No package of the distribution changes that",
            id="it is installed, and that did not help",
        ),
        pytest.param(RHEL, "", "EPEL has it for RHEL 9", id="RHEL 9 without EPEL's"),
        pytest.param(replace(RHEL, packages={**RHEL.packages, **EPEL}), "EPEL", "", id="RHEL 9 with EPEL"),
        pytest.param(
            replace(RHEL, packages={**RHEL.packages, **EPEL}, python=replace(OF_A_VENV, path="/usr/bin/python3.12")),
            "",
            "'/usr/bin/python3.12 -m pip install docker requests'",
            id="RHEL 9 whose newest Python Ansible took",
        ),
    ],
)
def test_the_docker_sdk_comes_from_where_the_system_has_it(facts: Facts, source: str, words: str) -> None:
    found = plan(Wish(), facts)
    assert [step.target for step in found.steps if SDK in step.words()] == [source][: bool(source)]
    assert [words in sentence for sentence in found.deviations] == [True][: bool(words)]


@pytest.mark.parametrize(
    ("change", "because"),
    [
        pytest.param({"cdi_version": None}, "there is none", id="none"),
        pytest.param({"cdi_version": OLDER}, f"it is of driver {OLDER}", id="of another driver"),
        pytest.param({"cdi_mig_devices": 2}, "it has 2 MIG devices, and the GPUs have 0", id="MIG has changed"),
    ],
)
def test_the_cdi_specification_follows_driver_and_mig(change: dict[str, t.Any], because: str) -> None:
    steps = plan(Wish(), fit_host(**change)).steps
    assert [(step.verb, step.because) for step in steps] == [("cdi", because)]


# --- reboot -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "reasons"),
    [
        pytest.param(fit_host(), (), id="fit"),
        pytest.param(
            fit_host(gpus=replace(BARE, loaded=OLDER, module=NEWEST, status="driver_mismatch", message="mismatch")),
            (f"driver {OLDER} is loaded, and {NEWEST} is installed",),
            id="upgraded under a loaded driver",
        ),
        pytest.param(
            fit_host(gpus=replace(BARE, nouveau=True)), ("nouveau holds the GPUs until the next boot",), id="nouveau"
        ),
        pytest.param(
            fit_host(gpus=BARE),
            ("the running kernel 6.8.0-151-generic has no module of the driver, and an installed one has",),
            id="no module for the kernel that runs",
        ),
        pytest.param(host(), (), id="bare"),
    ],
)
def test_a_reboot_is_asked_for_by_facts(facts: Facts, reasons: tuple[str, ...]) -> None:
    found = plan(Wish(), facts)
    assert found.reboot.reasons == reasons
    assert not [step for step in found.steps if reasons and step.verb in ("module", "start", "cdi")]


def test_who_computes_is_named() -> None:
    gpus = replace(BARE, loaded=OLDER, module=NEWEST, jobs=(Job(41, "python", "ada"), Job(42, "train")))
    assert plan(Wish(), fit_host(gpus=gpus)).reboot.blockers == ("python (process 41 of ada)", "train (process 42)")


def test_prebuilt_modules_for_another_kernel_need_a_reboot() -> None:
    facts = host(kernel="6.8.0-90-generic")
    found = plan(Wish(), facts)
    assert found.reboot_after.reasons == (
        "the prebuilt modules match the kernel that they install, not the running kernel 6.8.0-90-generic",
    )
    assert OWN not in {name for name, _version in driver_step(found).install}


def test_dkms_builds_for_a_kernel_that_came_later() -> None:
    wish = Wish(kernel_modules="dkms")
    fit = provisioned(host(offers=ubuntu_archive("24.04")), wish)[0]
    found = plan(wish, replace(fit, docker=RUNNING, gpus=BARE))
    assert found.reboot.reasons == ()
    assert [step.words() for step in found.steps][:2] == [
        "build the kernel modules for 6.8.0-151-generic (DKMS has not built any for this kernel)",
        "load the kernel module nvidia (it is not loaded)",
    ]


def test_a_part_of_the_toolkit_that_is_missing_comes_in_the_version_of_the_others() -> None:
    have = dict.fromkeys(list(TOOLKIT_OFFERS)[1:], "1.19.1-1")
    facts = host(packages=packages({**ubuntu_archive("24.04"), **TOOLKIT_OFFERS}, have, held=list(have)))
    (step,) = (step for step in plan(Wish(), facts).steps if "toolkit" in step.target)
    assert step.install == (("nvidia-container-toolkit", "1.19.1-1"),)
    assert " are held, and the toolkit" in str(refused(Wish(toolkit_version="1.20.0"), facts))
    facts = host(packages=packages({**ubuntu_archive("24.04"), **TOOLKIT_OFFERS}, have, held=list(have)[:1]))
    assert " is held, and the toolkit" in str(refused(Wish(toolkit_version="1.20.0"), facts))


def test_a_fabric_that_is_not_ready_is_explained() -> None:
    facts = provisioned(host(offers=ubuntu_archive("24.04"), gpus=HGX))[0]
    facts = replace(facts, docker=RUNNING, gpus=replace(facts.gpus, fabric_ready=False))
    found = plan(Wish(), facts)
    assert not found.is_fit
    assert "error 802" in found.deviations[0]


# --- hosts that keep what their vendor installed ----------------------------------------------------------------------

SPARK = Gpus("gb10", 1, loaded="580.95.05", module="580.95.05", status="ok")
GOOD = {
    "dgx": "7.3.1",
    "kernel": "6.17.0-1014-nvidia",
    "gpus": SPARK,
    "packages": packages({}, {"nvidia-container-toolkit": "1.19.0-1"}),
    "docker": RUNNING,
    "earlyoom": True,
    "ssh_memory_min": 64 << 20,
    "cdi_version": "580.95.05",
    "python": Python("/usr/bin/python3", True, True),
}
DEVIATIONS = [
    pytest.param({}, Wish(), [], id="as it should be"),
    pytest.param(
        {"gpus": replace(SPARK, loaded="590.48.01", module="590.48.01")},
        Wish(),
        ["driver is 590.48.01", "CDI"],
        id="590",
    ),
    pytest.param(
        {"packages": packages({}, {"nvidia-container-toolkit": "1.17.4-1"})}, Wish(), ["1.17.7"], id="old toolkit"
    ),
    pytest.param({"packages": {}}, Wish(), ["Container Toolkit is not installed"], id="no toolkit"),
    pytest.param({"docker": Docker()}, Wish(), ["does not answer"], id="no Docker"),
    pytest.param({"python": WITHOUT_SDK}, Wish(), ["Install the package python3-docker"], id="no Docker SDK"),
    pytest.param({"python": WITHOUT_SDK}, Wish(docker="none"), [], id="no Docker SDK and no containers"),
    pytest.param({"docker": replace(RUNNING, version="25.0.3")}, Wish(), ["26.1"], id="old Docker"),
    pytest.param({"swap_mib": 16384}, Wish(), ["16384 MiB of swap"], id="swap"),
    pytest.param({"earlyoom": False}, Wish(), ["earlyoom"], id="no earlyoom"),
    pytest.param({"ssh_memory_min": 0}, Wish(), ["MemoryMin=64M"], id="SSH without memory"),
    pytest.param({"cdi_version": "580.82.09"}, Wish(), ["CDI specification is of driver 580.82.09"], id="stale CDI"),
    pytest.param({"gpus": Gpus("gb10", 1, message="No driver.")}, Wish(), ["No driver."], id="no driver"),
    pytest.param({"dgx": "7.2.0"}, Wish(), ["DGX OS is 7.2.0, and 7.3.1 to 7.5.0 are known"], id="old DGX OS"),
    pytest.param({"dgx": "of unknown version"}, Wish(), [], id="DGX OS of unknown version"),
    pytest.param(
        {"gpus": replace(SPARK, loaded="580.82.09", module="580.82.09"), "cdi_version": "580.82.09"},
        Wish(),
        ["driver is 580.82.09, and 580.95 to 580.173.02 are known"],
        id="an old driver of the branch",
    ),
    pytest.param(
        {"kernel": "6.17.0-14-generic"}, Wish(), ["6.17.0-14-generic, and DGX OS brings"], id="Ubuntu's kernel"
    ),
    pytest.param({"dgx": "", "kernel": "6.17.0-14-generic"}, Wish(), [], id="a twin with Ubuntu's kernel"),
    pytest.param(
        {"gpus": replace(SPARK, hardware="a100"), "kernel": "6.8.0-90-generic"}, Wish(), ["persistenced"], id="DGX A100"
    ),
    pytest.param({"dgx": ""}, Wish(), [], id="a twin without /etc/dgx-release"),
    pytest.param({"dgx": "", "os_id": "debian"}, Wish(), [], id="a twin of another system"),
    pytest.param(
        {"gpus": replace(HGX, loaded="580.95.05", module="580.95.05", status="ok", fabric_version="580.82.09")},
        Wish(),
        ["nvidia-persistenced does not run", "fabric manager is 580.82.09"],
        id="DGX H100",
    ),
]


@pytest.mark.parametrize(("change", "wish", "words"), DEVIATIONS)
def test_a_dgx_is_compared_and_never_changed(change: dict[str, t.Any], wish: Wish, words: list[str]) -> None:
    given = {"os_id": "ubuntu", "version": "24.04", **GOOD, **change}
    found = plan(wish, host(given.pop("os_id"), given.pop("version"), **given))
    assert found.steps == ()
    assert len(found.deviations) == len(words), found.deviations
    assert all(word in sentence for word, sentence in zip(words, found.deviations))
    assert found.is_fit == (not words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({}, "", id="as it should be"),
        pytest.param({"dgx": "7.5.0", "docker": replace(RUNNING, version="29.2.1")}, "", id="the newest that is known"),
        pytest.param({"gpus": replace(SPARK, loaded="590.48.01")}, "", id="another branch, which is a deviation"),
        pytest.param({"gpus": replace(HGX, loaded="580.178.04"), "dgx": "9"}, "", id="DGX H100: nothing is known"),
        pytest.param(
            {"dgx": "7.6.0", "docker": replace(RUNNING, version="29.3.0")},
            "DGX OS 7.6.0 (known: 7.5.0), Docker Engine 29.3.0 (known: 29.2.1).",
            id="DGX OS and Docker",
        ),
        pytest.param(
            {
                "gpus": replace(SPARK, loaded="580.178.04"),
                "packages": packages({}, {"nvidia-container-toolkit": "1.20.0-1"}),
            },
            "driver 580.178.04 (known: 580.173.02), NVIDIA Container Toolkit 1.20.0-1 (known: 1.19).",
            id="driver and toolkit",
        ),
    ],
)
def test_what_is_newer_than_all_that_is_known_is_a_warning(change: dict[str, t.Any], words: str) -> None:
    found = plan(Wish(), host(**{**GOOD, **change})).warnings
    head = "Newer than what is known to work on hosts with a GB10: "
    assert found == ((f"{head}{words}",) if words else ())


def test_a_host_with_one_memory_is_protected_on_request_alone() -> None:
    facts = host(**{**GOOD, "earlyoom": False, "ssh_memory_min": 0, "units": {"ssh.service": Unit(True, True)}})
    assert plan(Wish(), facts).steps == ()
    found = plan(Wish(protect_memory=True), facts)
    assert [step.words() for step in found.steps] == [
        "keep 64 MiB of memory for ssh.service (the host answers when its memory is full)",
        "install earlyoom from the distribution (it ends a process before the memory is full)",
        "enable and start earlyoom.service (it does not run)",
    ]
    assert found.deviations == ()
    assert plan(Wish(protect_memory=True), host(**GOOD)).is_fit
    assert not [step for step in plan(Wish(protect_memory=True), host()).steps if "earlyoom" in step.words()]
