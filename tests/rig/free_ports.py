# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ports of the loopback interface for what a test starts a moment later."""

from __future__ import annotations

import random
import socket

# Below those that the kernel gives to whoever asks somebody: such a one may be taken again before the test listens there.
FIRST, LAST = 18000, 32000


def free_ports(count: int = 1) -> list[int]:
    """Ports at which nobody listens, all different."""
    found: list[int] = []
    for port in random.sample(range(FIRST, LAST), LAST - FIRST):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"fewer than {count} ports are free")
