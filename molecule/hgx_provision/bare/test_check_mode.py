# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After --check --diff on a bare host."""

from __future__ import annotations


def test_check_mode_changed_nothing(written: set[str]) -> None:
    # apt's own index of the lists that are there, which every question to it may write.
    assert {path for path in written if not path.startswith("/var/cache/apt")} <= {"/var/cache"}


def test_check_mode_said_what_would_change(log: str) -> None:
    for line in (
        "add the repository /etc/apt/sources.list.d/gpufleet-toolkit.list (NVIDIA's repository of",
        "nvidia-fabricmanager-580",
        "from Ubuntu's archive",
        "write /etc/docker/daemon.json (merged: Docker's runtime nvidia, added to the existing settings)",
        "error 802",
        "install python3-docker from the distribution (the Docker SDK for Python, through which servers are deployed)",
        "Not fit to serve yet",
    ):
        assert line in log
