# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that want something else of the server that serves."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

if t.TYPE_CHECKING:
    from ...conftest import Run


def test_the_token_of_another_operator_changes_nothing(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    before = state(host)
    run = deploy("-vvvv", "--diff", HF_TOKEN="hf_another4711")
    assert "write secret" not in run.text
    assert state(host) == before
    assert not any(token in run.text for token in ("hf_canary", "hf_another"))


def test_a_new_token_shows_nowhere_either_and_restarts_nothing(
    host: t.Any, deploy: t.Callable[..., Run], tmp_path: Path
) -> None:
    before = state(host)
    # Ansible itself prints extra variables that stand on the command line.
    variables = tmp_path / "token.json"
    variables.write_text(json.dumps({"vllm_server_hf_token": "hf_rotated4711"}))
    run = deploy("-vvvv", "--diff", "--extra-vars", f"@{variables}")
    assert "write secret hf_token_file" in run.text
    assert state(host) == before
    assert not any(token in run.text for token in ("hf_canary", "hf_rotated"))


def test_memlock_is_unlimited_by_default_and_where_that_is_refused_the_server_stays(
    host: t.Any, deploy: t.Callable[..., Run]
) -> None:
    before = state(host)
    run = deploy("--extra-vars", '{"vllm_overrides": {}}', rc=2)
    assert "error setting rlimit type 8" in run.text
    assert "set ulimits.memlock to a limit it has" in run.text
    assert state(host) == before


def state(host: t.Any) -> list[t.Any]:
    """Every container of the host, and when it was started."""
    names = host.check_output("docker ps --all --format {{.Names}}").split()
    found = json.loads(host.check_output(f"docker inspect {' '.join(names)}"))
    return [(container["Name"], container["Id"], container["State"]["StartedAt"]) for container in found]
