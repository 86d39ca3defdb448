# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the controller was killed in the middle of a file."""

from __future__ import annotations

import typing as t

HUB = "/home/gpu/vllm/huggingface/hub/models--Qwen--Qwen2.5-0.5B-Instruct"


def test_what_came_is_kept_and_nothing_wrong_is_at_a_final_place(host: t.Any) -> None:
    sizes = host.check_output(f"find {HUB}/blobs -name '*.incomplete' -printf '%s '").split()
    assert "100000" in sizes
    for name in host.check_output(f"ls {HUB}/blobs | grep -xE '[0-9a-f]{{64}}'").split():
        assert host.check_output(f"sha256sum < {HUB}/blobs/{name}").split()[0] == name
    assert not host.file(f"{HUB}/refs/main").exists
    assert not host.file(f"{HUB}/snapshots").exists
