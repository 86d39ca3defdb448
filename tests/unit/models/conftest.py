# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cache and a state of the test's own, and no waiting."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
from ansible.module_utils import urls
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import ledger
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from pauses import pauses_of


@pytest.fixture(name="state", autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    monkeypatch.setattr(ledger, "SYSTEM_STATE", str(state))
    monkeypatch.setattr(lock, "DIRECTORY", str(state))
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    monkeypatch.setattr(lock, "PATIENCE", 0.5)
    # Certificates of this host would be read for each request.
    monkeypatch.setattr(urls, "make_context", functools.lru_cache(urls.make_context))
    return state


@pytest.fixture(name="pauses", autouse=True)
def _pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the pauses between attempts would have been."""
    return pauses_of(monkeypatch, 0.01)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "huggingface"
