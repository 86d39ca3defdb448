# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which containers a daemon-reload would take the GPUs from."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reader import Identity
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reload import cut_off
from docker_model import Client, ModelReader

BY_HOOK = {"DeviceRequests": [{"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}]}
SYSTEMD = {"CgroupDriver": "systemd"}


@pytest.mark.parametrize(
    ("info", "host", "running", "names"),
    [
        pytest.param(SYSTEMD, BY_HOOK, True, ["a"], id="GPUs from NVIDIA's hook"),
        pytest.param(SYSTEMD, {"Runtime": "nvidia"}, True, ["a"], id="NVIDIA's runtime"),
        pytest.param(SYSTEMD, BY_HOOK, False, [], id="stopped"),
        pytest.param({"CgroupDriver": "cgroupfs"}, BY_HOOK, True, [], id="Docker has the control groups"),
        pytest.param(None, BY_HOOK, True, [], id="an engine that does not say"),
        pytest.param(SYSTEMD, {"DeviceRequests": None, "Devices": None}, True, [], id="no GPU"),
        pytest.param(
            SYSTEMD,
            {"DeviceRequests": [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=all"], "Capabilities": [["gpu"]]}]},
            True,
            [],
            id="GPUs from CDI",
        ),
        pytest.param(
            SYSTEMD, {**BY_HOOK, "Devices": [{"PathOnHost": "/dev/nvidia0"}]}, True, [], id="devices of its own"
        ),
        pytest.param(
            SYSTEMD, {"DeviceRequests": [{"Driver": "", "Capabilities": [["tpu"]]}]}, True, [], id="another device"
        ),
    ],
)
def test_who_loses_its_gpus(info: t.Any, host: dict[str, t.Any], running: bool, names: list[str]) -> None:
    client = Client()
    client.put("a", {"Labels": {}, "HostConfig": host}, running=running)
    client.put("b", {"Labels": {}, "HostConfig": {}}, running=True)
    assert cut_off(ModelReader(client, Identity(info=info))) == names
