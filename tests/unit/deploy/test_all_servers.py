# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All servers of a host at once, where the backend does not answer."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from docker_model import Client, ModelReader, manage, run, situation


def silent(self: ModelReader) -> t.NoReturn:
    raise VllmError("No engine answers.", "backend-unavailable")


def test_a_host_without_an_engine_and_without_servers_has_nothing_to_remove(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ModelReader, "containers", silent)
    assert manage(container_name=None, all=True, state="absent")["changed"] is False


def test_servers_that_are_recorded_are_not_gone_because_no_engine_answers(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()
    monkeypatch.setattr(ModelReader, "containers", silent)
    with pytest.raises(VllmError, match="No engine answers"):
        manage(container_name=None, all=True, state="absent")
    assert situation().client.now == {"vllm-a": "id1 running"}
