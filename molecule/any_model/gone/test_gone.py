# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a teardown: the choice is gone with its server, and the model stays."""

from __future__ import annotations

import typing as t


def test_the_choice_goes_with_the_server(host: t.Any) -> None:
    with host.sudo():
        assert host.check_output("find / -xdev -name 'choice.vllm-tiny-qwen3.json'") == ""
    assert host.file("/srv/models/Tiny-Qwen3/model.safetensors").exists
