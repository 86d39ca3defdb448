# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other branches, a run that is killed between two packages, and a repository that is gone."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

Deploy = t.Callable[..., "Run"]
OLD, NEW = "570.211.01", "580.178.04"
FIT = "Fit to serve: 2 GPUs (h100), driver {}"
REBOOT = ("--extra-vars", "gpu_host_reboot=auto")


def versions(host: t.Any) -> set[str]:
    names = "nvidia-driver-cuda nvidia-driver-cuda-libs kmod-nvidia-open-dkms nvidia-fabricmanager nvidia-persistenced"
    return set(host.check_output(f"rpm -q --qf '%{{VERSION}} ' {names}").split())


def test_the_branch_before_comes_back_from_its_stream_and_waits_for_a_boot(host: t.Any, deploy: Deploy) -> None:
    told = deploy("--extra-vars", "branch=570").text
    assert "enable the module stream nvidia-driver:570-open (it holds the branch, and 580-open is enabled)" in told
    assert f"Reboot needed (driver {NEW} is loaded, and {OLD} is installed)." in told
    assert versions(host) == {OLD}
    assert FIT.format(OLD) in deploy("--extra-vars", "branch=570", *REBOOT).text


def test_an_upgrade_that_is_killed_between_packages_is_finished_by_the_next_run(host: t.Any, deploy: Deploy) -> None:
    host.check_output("sudo touch /etc/sim-kill")
    deploy(rc=2)
    assert not host.file("/etc/sim-kill").exists
    assert versions(host) != {NEW}
    told = deploy(*REBOOT).text
    assert FIT.format(NEW) in told
    assert versions(host) == {NEW}
    assert "changed=0" in deploy().text


def test_a_repository_out_of_reach_is_a_sentence_and_the_next_run_goes_on(host: t.Any, deploy: Deploy) -> None:
    host.check_output("sudo dnf -q -y remove nvidia-container-toolkit && sudo mv /srv/toolkit /srv/away")
    told = deploy(rc=2).text
    assert "A repository cannot be reached. Check network, proxy and CA bundle" in told
    host.check_output("sudo mv /srv/away /srv/toolkit")
    assert FIT.format(NEW) in deploy().text
