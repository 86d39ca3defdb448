# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An engine that can be told to fail, and a GPU whose memory its containers hold."""

from __future__ import annotations

from pathlib import Path

import pytest
from docker_model import Client, FailsOnce, Gpu, installed, situation


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    return installed(Client(), monkeypatch, tmp_path)


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FailsOnce:
    return installed(FailsOnce(), monkeypatch, tmp_path)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, client: Client) -> Gpu:
    made = Gpu(client)
    situation().gpus = made.look
    return made
