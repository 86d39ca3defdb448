# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The time that an engine puts in front of each line of a log. Pure."""

from __future__ import annotations

import datetime
import re

# What an engine puts in front of each line: a time to the nanosecond or less precise, in UTC or with its offset.
STAMP = re.compile(r"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d) ", re.MULTILINE)
# Second and fraction; they compare as text.
Moment = tuple[str, str]


def moment(line: str) -> Moment | None:
    """When a line was written, by its stamp."""
    match = STAMP.match(line)
    if not match:
        return None
    second, fraction, zone = match.groups()
    if zone != "Z":
        second = datetime.datetime.fromisoformat(second + zone).astimezone(datetime.timezone.utc).isoformat()[:19]
    return second, (fraction or "").ljust(9, "0")


def without_stamps(text: str) -> str:
    """A log as the server wrote it."""
    return STAMP.sub("", text)


def since(log: str, started_at: str) -> tuple[str, bool]:
    """What was written since a time, as the server wrote it, and whether the log begins before that.

    From the first line of that time on everything counts, whatever a clock that is set back makes of later stamps.
    """
    start = moment(f"{started_at} ")
    if start is None:
        return without_stamps(log), False
    # Not splitlines: a progress bar has carriage returns, and is one line.
    found, begins_before = [], False
    is_after = False
    for line in log.split("\n"):
        stamp = moment(line)
        is_after = is_after or (stamp is not None and stamp >= start)
        begins_before |= stamp is not None and not is_after
        if is_after:
            found.append(line)
    return without_stamps("\n".join(found)), begins_before
