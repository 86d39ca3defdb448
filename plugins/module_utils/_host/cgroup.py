# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The container that a process is in."""

from __future__ import annotations

import re

CONTAINER_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


def container_id(cgroup: str, init_cgroup: str = "") -> str | None:
    """The innermost container of a process, of any engine, from the text of its C(/proc/PID/cgroup).

    A host that is a container itself does not count.
    """
    own = set(CONTAINER_ID.findall(init_cgroup))
    inner = [found for found in CONTAINER_ID.findall(cgroup) if found not in own]
    return inner[-1] if inner else None
