# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd starts at boot, and how that is written down. Pure."""

from __future__ import annotations

import typing as t

# What a host that boots comes to.
TARGET = "multi-user.target"


def command(verb: t.Literal["enable", "disable"], unit: str) -> list[str]:
    """The command line that has systemd start a unit at boot, or not any more.

    Written to the disk without asking systemd: asked, with C(--no-reload) too, it takes all units of the host for
    outdated (C(NeedDaemonReload)) until it is told to reload, and some hosts cut containers off their GPUs at that.
    """
    return ["systemctl", verb, "--root=/", "--quiet", "--", unit]
