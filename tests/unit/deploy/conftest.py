# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An engine that can be told to fail, and a GPU whose memory its containers hold."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from docker_model import Client, FailsOnce, Gpu, situation
from systemd_model import CONTAINERS, host_of


@pytest.fixture
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    """An engine, unless the test asks for another way to run servers (EVERY_WAY)."""
    return t.cast(Client, host_of(getattr(request, "param", CONTAINERS), monkeypatch, tmp_path))


@pytest.fixture
def fragile(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FailsOnce:
    """Likewise; a call that failed once works the next time."""
    return t.cast(FailsOnce, host_of(getattr(request, "param", CONTAINERS), monkeypatch, tmp_path, fails_once=True))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, client: Client) -> Gpu:
    made = Gpu(client)
    situation().gpus = made.look
    return made
