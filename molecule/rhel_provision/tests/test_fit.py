# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that was bare."""

from __future__ import annotations

import typing as t

DRIVER = "580.178.04"
PARTS = "nvidia-driver-cuda nvidia-driver-cuda-libs kmod-nvidia-open-dkms nvidia-fabricmanager nvidia-persistenced"


def test_all_parts_are_of_the_stream_in_one_version(host: t.Any) -> None:
    shown = host.check_output(f"rpm -q --qf '%{{VERSION}} ' {PARTS}")
    assert shown.split() == [DRIVER] * 5
    enabled = host.check_output("cat /etc/dnf/modules.d/nvidia-driver.module")
    assert "stream=580-open" in enabled and "state=enabled" in enabled


def test_the_headers_of_the_running_kernel_and_dkms_are_there(host: t.Any) -> None:
    assert host.check_output("rpm -q --qf '%{VERSION}-%{RELEASE} ' kernel-devel dkms") == "5.14.0-611.el9 3.3.0-1.el9 "


def test_what_has_to_run_runs_and_will_after_a_boot(host: t.Any) -> None:
    for unit in ("nvidia-persistenced", "nvidia-fabricmanager", "docker"):
        assert host.check_output(f"systemctl is-active {unit}; systemctl is-enabled {unit}").split() == [
            "active",
            "enabled",
        ]


def test_the_gpus_answer_and_docker_knows_the_runtime(host: t.Any) -> None:
    assert host.check_output("nvidia-smi --query-gpu=driver_version --format=csv,noheader").split() == [DRIVER] * 2
    assert "nvidia" in host.check_output("docker info --format '{{json .Runtimes}}'")
    assert f"libcuda.so.{DRIVER}" in host.check_output("cat /run/cdi/nvidia.yaml")


def test_the_host_is_reported_as_fit(log: str) -> None:
    assert f"Fit to serve: 2 GPUs (h100), driver {DRIVER}, Docker " in log
