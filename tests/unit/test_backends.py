# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which backends a host has: the one that makes servers first, and only those that are there."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._backends import container_backends, service_backends
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import ledger
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import SYSTEMD, Ledger, entry


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, t.Any]:
    monkeypatch.setattr(ledger, "state_directory", lambda: str(tmp_path / "state"))
    return {"docker_host": f"unix://{tmp_path}/docker.sock", "stop_timeout": 30}


def test_a_host_without_an_engine_has_units_alone(params: dict[str, t.Any]) -> None:
    assert list(service_backends(params)) == ["systemd"]


def test_a_service_knows_the_containers_beside_it(params: dict[str, t.Any], tmp_path: Path) -> None:
    (tmp_path / "docker.sock").touch()
    assert list(service_backends(params)) == ["systemd", "container"]


def test_a_container_knows_units_only_where_there_are_some(params: dict[str, t.Any]) -> None:
    assert list(container_backends(params)) == ["container"]
    Ledger(place="unix:///x").write(entry("vllm-a", "server"))
    assert list(container_backends(params)) == ["container"]


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root has units.")
def test_a_container_of_root_knows_his_units(params: dict[str, t.Any]) -> None:
    Ledger(place=SYSTEMD).write(entry("vllm-a", "server", name="vllm-a"))
    assert list(container_backends(params)) == ["container", "systemd"]
