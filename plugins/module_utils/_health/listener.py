# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether it is the server itself that listens where it is asked: before its API key is sent there.

A server in the network of the host opens its port minutes after its start, and until then any user of the host may. A
port that an engine publishes is the engine's from the start of the container on.
"""

from __future__ import annotations

import ipaddress
import os
import typing as t
import urllib.parse

from .._host.ports import PortOwner, port_owner
from .._host.processes import look_at

if t.TYPE_CHECKING:
    from .logfile import Source


def stranger(source: Source, url: str, find: t.Callable[[int, str], PortOwner | None] = port_owner) -> str:
    """Who listens at that address instead of the server, in a sentence; empty when nobody does, or nobody knows."""
    place = _place(url)
    root = source.root_pid()
    if place is None or root is None or source.host_port() != place[0]:
        return ""
    owner, family = find(*place), look_at(root)
    if owner is None or family is None or _belongs(owner, family.names):
        return ""
    return (
        f"port {place[0]} is taken by {owner.description}, which is not a process of {source.name}, so the API key is "
        "not sent there"
    )


def _place(url: str) -> tuple[int, str] | None:
    """Port and address of this host in a URL; None for another host's, and for a name."""
    parts = urllib.parse.urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    try:
        return parts.port or (443 if parts.scheme == "https" else 80), str(ipaddress.ip_address(host))
    except ValueError:
        return None


def _belongs(owner: PortOwner, family: t.Collection[int]) -> bool:
    """Whether it is one of these processes; of one that is hidden, only its user can be compared."""
    if owner.pid is not None:
        return owner.pid in family
    users = {uid for uid in map(_user_of, family) if uid is not None}
    return not users or owner.uid in users


def _user_of(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None
