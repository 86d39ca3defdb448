# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After --check --diff on a bare host."""

from __future__ import annotations


def test_check_mode_changed_nothing(written: set[str]) -> None:
    # dnf reads the lists of its repositories whenever it is asked, and whoever asks rpm opens its journal.
    asked = ("/var/cache", "/var/lib/dnf", "/var/lib/rpm/rpmdb.sqlite-")
    assert {path for path in written if not path.startswith(asked)} == set()


def test_check_mode_said_what_would_change(log: str) -> None:
    for line in (
        "add the repository /etc/yum.repos.d/gpufleet-cuda.repo (NVIDIA's CUDA repository, file:///srv/cuda)",
        "enable the module stream nvidia-driver:580-open (it holds the branch, and none is enabled)",
        "kernel-devel-5.14.0-611.el9",
        "from NVIDIA's repository",
        "error 802",
        "Not fit to serve yet",
    ):
        assert line in log
