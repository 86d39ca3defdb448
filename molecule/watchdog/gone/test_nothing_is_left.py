# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing of the watchdog is left."""

from __future__ import annotations

import typing as t


def test_nothing_is_left(host: t.Any) -> None:
    paths = "/etc/systemd/system /usr/local/lib /etc/gpufleet.vllm /var/lib/gpufleet.vllm"
    assert host.run(f"sudo find {paths} -name '*watchdog*'").stdout == ""
    assert host.run("systemctl is-active gpufleet-vllm-watchdog").rc != 0
    assert host.check_output("docker ps --all --quiet") == ""
