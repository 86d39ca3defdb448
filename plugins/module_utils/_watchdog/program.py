# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The watchdog as one file, and the unit that runs it. Neither holds a setting, so that a new one needs no reload."""

from __future__ import annotations

import functools

from .._host.archive import DIRECTORY, archive as packed
from . import watch
from .publish import DIRECTORY as STATE

# What C(watch) reaches, as the names of modules below module_utils; a unit test holds the list.
REACHED = {
    "_deploy": "ledger",
    "_docker": "client reader source stamps",
    "_gpu": "facts faults hardware kernel nvidia_smi observation probe tenants watchdog",
    "_health": "listener logfile report",
    "_host": "boot cgroup files http labels lock ports printable processes redaction",
    "_server": "container_keys keys secret_settings spec",
    "_systemd": "source systemctl words",
    "_vllm": "advice diagnosis exceptions failures failures_arguments failures_build failures_host failures_limits"
    " failures_memory failures_model failures_process failures_ranks flags life log phase_lines phases signature"
    " versions",
    "_watchdog": "ask decide metrics postmortem publish subject watch",
}
MODULES = (
    "_errors",
    "_version",
    *(f"{package}.{name}" for package, names in REACHED.items() for name in names.split()),
)
UNIT = "gpufleet-vllm-watchdog"
PATH = f"{DIRECTORY}/watchdog.pyz"

# What is not here, and why: PrivateTmp and ProtectHome would hide locks and records of users, PrivateDevices and
# ProtectClock the GPUs, ProtectKernelLogs what the kernel says of them, and RestrictNamespaces and SystemCallFilter are
# for what it runs (nvidia-smi, py-spy, a hook) to trip over.
TEXT = """\
# Written by gpufleet.vllm. Its settings are in {config}.
[Unit]
Description=Watchdog of the vLLM servers of this host (gpufleet.vllm)
After=docker.service network.target

[Service]
Type=exec
ExecStart={python} -I {program}
Restart=always
RestartSec=5
Nice=5
CPUQuota=50%
MemoryMax=1G
TasksMax=256
StateDirectory=gpufleet.vllm
RuntimeDirectory=gpufleet-vllm
RuntimeDirectoryPreserve=yes
UMask=0077
NoNewPrivileges=yes
ProtectSystem=full
ProtectHome=read-only
ProtectHostname=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
"""


@functools.lru_cache(maxsize=1)
def archive() -> bytes:
    """The program."""
    return packed(MODULES, "_watchdog.watch")


def unit(python: str) -> str:
    """The unit that runs it by that interpreter."""
    return TEXT.format(python=python, program=PATH, config=watch.CONFIG)


__all__ = ["MODULES", "PATH", "STATE", "UNIT", "archive", "unit"]
