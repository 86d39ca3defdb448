# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After --check --diff on a bare host."""

from __future__ import annotations


def test_check_mode_changed_nothing(written: set[str]) -> None:
    assert written == set()


def test_check_mode_said_what_would_change(log: str) -> None:
    for line in (
        "build /opt/vllm/venvs/vllm-0.26.0-",
        "with uv and Python 3.13 (/usr/bin/python3.13)",
        '"vllm==0.26.0"',
        '"wheelhouse": "/srv/wheels"',
    ):
        assert line in log
