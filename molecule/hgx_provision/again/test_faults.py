# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a host or a repository: a sentence, nothing half-done, and the next run goes on."""

from __future__ import annotations

import json
import typing as t

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

Deploy = t.Callable[..., "Run"]
Restore = t.Callable[[str], None]
FIT = "Fit to serve: 2 GPUs (h100), driver 580.178.04"
HOLD = (
    "import fcntl, time; file = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(file, fcntl.LOCK_EX); "
    "time.sleep(600)"
)


@pytest.fixture
def restore(host: t.Any, deploy: Deploy) -> t.Iterator[Restore]:
    """Say how the host is put right. In the end it is, and the next run makes it fit, with no package unfinished."""
    lines: list[str] = []
    yield lines.append
    for line in lines:
        host.check_output(line)
    assert FIT in deploy().text
    assert host.check_output("dpkg --audit") == ""


def test_a_disk_that_is_full_is_seen_before_anything_is_installed(
    host: t.Any, deploy: Deploy, restore: Restore
) -> None:
    host.check_output("sudo apt-get -qq purge nvidia-container-toolkit-base")
    host.check_output("sudo mount -t tmpfs -o size=1m tmpfs /boot")
    restore("sudo umount /boot")
    told = deploy(rc=2).text
    assert "Cannot install packages: /boot has 0.0 GiB free, and 0.1 GiB are needed. Free some space" in told
    assert host.run("dpkg-query --status nvidia-container-toolkit-base").rc != 0


def test_a_disk_that_fills_while_packages_are_installed(host: t.Any, deploy: Deploy, restore: Restore) -> None:
    host.check_output("sudo apt-get -qq purge nvidia-container-toolkit-base")
    host.check_output(
        "sudo sh -ec 'cp -a /var/lib/dpkg /var/lib/dpkg.before; mount -t tmpfs tmpfs /var/lib/dpkg; "
        "cp -a /var/lib/dpkg.before/. /var/lib/dpkg; "
        "mount -o remount,size=$(du --summarize --block-size=1K /var/lib/dpkg | cut -f1)k /var/lib/dpkg'"
    )
    restore("sudo mount -o remount,size=1g /var/lib/dpkg")
    told = deploy(rc=2).text
    assert "The disk is full. Free some space ('df -h' shows where), then run this again" in told


def test_a_repository_whose_key_has_expired(host: t.Any, deploy: Deploy, restore: Restore) -> None:
    host.check_output("sudo apt-get -qq purge nvidia-container-toolkit-base")
    expired = "/usr/local/lib/sim-gpu/expired"
    wish = {"toolkit": {"url": f"file:{expired}", "suite": "./", "key": f"{expired}/key.asc"}}
    told = deploy("-e", json.dumps({"gpu_host": {"kernel_modules": "dkms", "repositories": wish}}), rc=2).text
    restore("true")
    assert "The signature of the repository could not be verified: its key is expired" in told, told


def test_somebody_else_installs_packages(host: t.Any, deploy: Deploy, restore: Restore) -> None:
    host.check_output("sudo apt-get -qq purge nvidia-container-toolkit-base")
    host.check_output("sudo systemd-run --quiet --unit sim-upgrades python3 -c %s", HOLD)
    restore("sudo systemctl stop sim-upgrades")
    told = deploy(rc=2).text
    assert "Another program installs packages on this host (process " in told
    assert "(python3)), and was not done within 120 s. Run this again when it is" in told


def test_headers_of_another_kernel(host: t.Any, deploy: Deploy, restore: Restore) -> None:
    host.check_output("sudo apt-get -qq purge '~nnvidia' '~nlinux-headers' && sudo rm -rf /run/cdi")
    host.check_output("sudo /usr/local/lib/sim-gpu/machine boot")
    host.check_output("sudo sed -i.kept 's/^Package: linux-headers-/&0-/' /srv/archive/Packages")
    host.check_output("sudo apt-get -qq update")
    restore("sudo mv /srv/archive/Packages.kept /srv/archive/Packages && sudo apt-get -qq update")
    told = deploy(rc=2).text
    assert "Install the newest kernel with its headers and reboot into it" in told
    assert host.run("dpkg-query --show '*nvidia*'").stdout == ""
