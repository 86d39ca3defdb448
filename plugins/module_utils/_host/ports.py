# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who listens on a TCP port: asked before a server starts, because vLLM up to 0.24 shares a taken port silently."""

from __future__ import annotations

import glob
import ipaddress
import os
import re
from dataclasses import dataclass

from .cgroup import container_id
from .processes import printable, read_proc

# sl, local address, remote address, state (0A listens), queues, timer, retransmits, uid, timeout, inode
LISTENING = re.compile(
    r"\s*\d+: (?P<address>[0-9A-F]{8}|[0-9A-F]{32}):(?P<port>[0-9A-F]{4}) \S+ 0A \S+ \S+ \S+"
    r"\s+(?P<uid>\d+)\s+\d+ (?P<inode>\d+)"
)


@dataclass(frozen=True)
class Listener:
    """One listening socket as the kernel lists it."""

    address: str
    port: int
    inode: str
    uid: int


@dataclass(frozen=True)
class PortOwner:
    """Who holds the port, as a person would say it, and the container it runs in, if any."""

    description: str
    pid: int | None = None
    container_id: str | None = None
    uid: int | None = None


def parse_listeners(text: str) -> list[Listener]:
    """The listening sockets in the text of C(/proc/net/tcp) or C(/proc/net/tcp6); other lines are skipped."""
    matches = filter(None, map(LISTENING.match, text.splitlines()))
    return [Listener(_address(m["address"]), int(m["port"], 16), m["inode"], int(m["uid"])) for m in matches]


def _address(hexadecimal: str) -> str:
    """An address of /proc/net/tcp (32-bit words in host byte order, little-endian) in its usual notation."""
    raw = bytes.fromhex(hexadecimal)
    raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    address = ipaddress.ip_address(raw)
    return str(getattr(address, "ipv4_mapped", None) or address)


def overlaps(one: str, other: str) -> bool:
    """Whether two servers bound to these addresses would want the same socket."""
    first, second = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if first.version == second.version:
        return first == second or first.is_unspecified or second.is_unspecified
    # :: takes IPv4 as well.
    return first.is_unspecified if first.version == 6 else second.is_unspecified


def port_owner(port: int, bind: str) -> PortOwner | None:
    """The process on this host that listens where a server on C(bind:port) would, or None."""
    for path in ("/proc/net/tcp", "/proc/net/tcp6"):
        for listener in parse_listeners(read_proc(path)):
            if listener.port == port and overlaps(bind, listener.address):
                return _owner(listener)
    return None


def _owner(listener: Listener) -> PortOwner:
    pid = _pid_of(listener.inode)
    where = f"{listener.address}:{listener.port}"
    if pid is None:
        described = f"a process of uid {listener.uid} listening on {where} (its name is only visible to root)"
        return PortOwner(described, uid=listener.uid)
    # The command line may hold a secret; the process name does not.
    name = printable(read_proc(f"/proc/{pid}/comm").strip()) or "a process"
    container = container_id(read_proc(f"/proc/{pid}/cgroup"), read_proc("/proc/1/cgroup"))
    return PortOwner(f"{name} (PID {pid}, uid {listener.uid}) listening on {where}", pid, container, listener.uid)


def _pid_of(inode: str) -> int | None:
    wanted = f"socket:[{inode}]"
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            if os.readlink(link) == wanted:
                return int(link.split("/")[2])
        except OSError:
            continue
    return None
