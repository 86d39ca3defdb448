# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After --check --diff on a bare host."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run


def test_check_mode_changed_nothing(host: t.Any) -> None:
    assert host.check_output("sudo podman ps --all --quiet") == ""
    assert not host.file("/srv/vllm").exists


def test_check_mode_speaks_of_podman_and_of_the_reboot(runs: list[Run]) -> None:
    text = " ".join(runs[0].text.split())
    assert runs[0].check
    assert "create vllm-gpt-oss" in text
    assert "starts no container after a reboot: run 'systemctl enable podman-restart.service'" in text
