# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that was bare."""

from __future__ import annotations

import json
import typing as t

DRIVER = "580.178.04"


def test_driver_libraries_and_fabric_manager_have_one_version(host: t.Any) -> None:
    shown = host.check_output("dpkg-query -W -f '${Version} ' nvidia-utils-580-server nvidia-fabricmanager-580")
    assert set(shown.split()) == {f"{DRIVER}-0ubuntu0.24.04.1"}
    assert host.check_output("nvidia-smi --query-gpu=driver_version --format=csv,noheader").split() == [DRIVER] * 2


def test_what_has_to_run_runs_and_will_after_a_boot(host: t.Any) -> None:
    for unit in ("nvidia-persistenced", "nvidia-fabricmanager", "docker"):
        assert host.check_output(f"systemctl is-active {unit}; systemctl is-enabled {unit}").split() == [
            "active",
            "enabled",
        ]


def test_docker_knows_the_runtime_and_keeps_its_settings(host: t.Any) -> None:
    runtimes = json.loads(host.check_output("docker info --format '{{json .Runtimes}}'"))
    assert "nvidia" in runtimes
    settings = json.loads(host.check_output("cat /etc/docker/daemon.json"))
    assert settings.pop("runtimes") == {"nvidia": {"args": [], "path": "nvidia-container-runtime"}}
    assert settings == {"log-driver": "json-file"}


def test_the_cdi_specification_is_of_the_driver(host: t.Any) -> None:
    assert f"libcuda.so.{DRIVER}" in host.check_output("cat /run/cdi/nvidia.yaml")


def test_ansibles_python_reaches_docker_through_its_sdk(host: t.Any) -> None:
    ask = "import docker; print(docker.from_env(version='auto').ping())"
    assert host.check_output("python3 -c %s", ask) == "True"


def test_the_host_is_reported_as_fit(log: str) -> None:
    assert f"Fit to serve: 2 GPUs (h100), driver {DRIVER}, Docker " in log
