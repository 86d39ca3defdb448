# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The upgrade waits for a boot."""

from __future__ import annotations

import socket
import subprocess
import time
import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

Deploy = t.Callable[..., "Run"]
NEEDED = "Reboot needed (driver 570.211.01 is loaded, and 580.178.04 is installed)"
NAME = "gpufleet-mol-mismatch"
REBOOT = ("--extra-vars", "gpu_host_reboot=auto gpu_host_require_fit=true")


def test_a_host_that_waits_for_its_boot_fails_when_asked_to(deploy: Deploy) -> None:
    assert f"{NEEDED}." in deploy("--extra-vars", "gpu_host_require_fit=true", rc=2).text


def test_it_is_not_rebooted_while_somebody_computes(host: t.Any, deploy: Deploy) -> None:
    host.check_output("sudo sh -c ': >/dev/nvidia-uvm; exec 3</dev/nvidia-uvm; sleep 600 >/dev/null 2>&1 </dev/null &'")
    assert f"{NEEDED}, once these processes have ended:  sleep (process " in deploy(*REBOOT, rc=2).text
    host.check_output("sudo pkill -f '^sleep 600'; sudo rm /dev/nvidia-uvm")


def test_after_the_reboot_the_play_goes_on_and_the_host_is_fit(host: t.Any, deploy: Deploy) -> None:
    told = deploy(*REBOOT).text
    assert "write the CDI specification of the GPUs" in told
    assert "Fit to serve: 2 GPUs (h100), driver 580.178.04" in told
    assert "580.178.04" in host.check_output("cat /proc/driver/nvidia/version")


def test_a_boot_of_the_machine_needs_no_more_than_what_was_in_its_memory(deploy: Deploy) -> None:
    """The container is started again: units start by themselves, and /run with the CDI specification is empty."""
    subprocess.run(["docker", "restart", NAME], check=True, capture_output=True)
    told = subprocess.run(["docker", "port", NAME, "22/tcp"], check=True, capture_output=True, text=True).stdout
    port = int(told.rpartition(":")[2])
    for _second in range(60):
        with socket.socket() as ssh:
            ssh.settimeout(1)
            if ssh.connect_ex(("127.0.0.1", port)) == 0 and ssh.recv(4) == b"SSH-":
                break
        time.sleep(0.5)
    run = deploy("--extra-vars", f"ansible_port={port} gpu_host_require_fit=true").text
    assert "Fit to serve: 2 GPUs (h100), driver 580.178.04" in run
    assert "write the CDI specification of the GPUs (there is none)" in run
    assert "install nvidia-" not in run
    assert "enable and start nvidia-" not in run
