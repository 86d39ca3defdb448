# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the teardown."""

from __future__ import annotations

import typing as t


def test_nothing_of_ours_is_left(host: t.Any) -> None:
    assert not host.file("/opt/vllm").exists
    assert not host.file("/var/lib/gpufleet.vllm").exists
