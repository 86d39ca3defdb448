# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that keeps what its vendor installed."""

from __future__ import annotations


def test_nothing_was_changed(written: set[str]) -> None:
    assert {path for path in written if not path.startswith("/var/cache/apt")} <= {"/var/cache"}


def test_each_difference_is_a_sentence(log: str) -> None:
    for line in (
        "Not fit to serve: ",
        "The NVIDIA Container Toolkit is not installed, so containers get no GPU.",
        "earlyoom does not run",
        "MemoryMin=64M",
    ):
        assert line in log
