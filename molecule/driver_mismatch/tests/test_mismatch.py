# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the upgrade, before the boot."""

from __future__ import annotations

import typing as t


def test_the_reboot_is_asked_for_again_by_a_run_that_changed_nothing(log: str) -> None:
    reason = "Reboot needed (driver 570.211.01 is loaded, and 580.178.04 is installed)."
    assert log.count(reason) >= 2


def test_nothing_of_the_old_branch_is_left(host: t.Any) -> None:
    shown = host.check_output("dpkg-query -W -f '${db:Status-Abbrev} ${Package}\\n' '*nvidia*'")
    assert [line for line in shown.splitlines() if "570" in line and line.startswith("ii")] == []
