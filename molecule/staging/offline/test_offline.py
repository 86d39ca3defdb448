# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After a deploy with the Hub closed."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run


def test_a_server_serves_what_came_from_another_host(host: t.Any, serving: t.Callable[[], t.Any]) -> None:
    if host.backend.get_hostname() == "gpufleet-mol-stage-3":
        assert serving()[1] == "qwen2.5-0.5b-instruct"


def test_a_run_without_changes_asks_nobody(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    if host.backend.get_hostname() == "gpufleet-mol-stage-3":
        text = deploy().text
        assert text.count("changed=0") == 3 and "failed=1" not in text, text
