# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""For how long a container served nobody: from the moment that it was told to stop."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import Entry
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.container import away_seconds, ended_at


@pytest.mark.parametrize(
    ("stopped", "started", "away"),
    [
        ("2026-11-21T12:00:00.5Z", "2026-11-21T12:00:12.75Z", 12.2),
        ("2026-11-21T12:00:00Z", "2026-11-21T12:01:00.123456789Z", 60.1),
        ("0001-01-01T00:00:00Z", "2026-11-21T12:00:00Z", None),
        ("2026-11-21T12:00:00Z", "2026-11-21T11:00:00Z", None),
        ("2026", "2026", None),
    ],
)
def test_how_long_a_server_was_away(stopped: str, started: str, away: float | None) -> None:
    assert away_seconds({"FinishedAt": stopped, "StartedAt": started}) == away
    assert away_seconds({}) is None


@pytest.mark.parametrize(
    ("told", "said", "away"),
    [
        pytest.param("2026-11-21T11:59:55.100000+00:00", {"stop_timeout": 30}, 65.0, id="it took five seconds to stop"),
        pytest.param("2026-11-21T11:58:31.100000+00:00", {"stop_timeout": 30}, 149.0, id="it took all that it may"),
        pytest.param("2026-11-21T11:40:00.000000+00:00", {"stop_timeout": 30}, 60.0, id="that was an earlier stop"),
        pytest.param("2026-11-21T12:00:09.000000+00:00", {"stop_timeout": 30}, 60.0, id="a clock that was set"),
        pytest.param("2026-11-21T11:59:55.100000+00:00", {}, 65.0, id="a record without the time that it is given"),
        pytest.param("2026-11-21T11:59:55.100000+00:00", {"stop_timeout": "x"}, 65.0, id="an odd record"),
        pytest.param("", {}, 60.0, id="nothing is recorded"),
        pytest.param("soon", {}, 60.0, id="it cannot be read"),
    ],
)
def test_the_time_that_it_took_to_stop_counts(told: str, said: dict[str, t.Any], away: float) -> None:
    state = {"FinishedAt": "2026-11-21T12:00:00.1Z", "StartedAt": "2026-11-21T12:01:00.1Z"}
    assert away_seconds(state, Entry("vllm-a", "s", intent=said, stopping_since=told)) == away
    assert away_seconds(state) == 60.0


@pytest.mark.parametrize(
    ("state", "ended"),
    [
        ({"Running": False, "FinishedAt": "2026-11-21T12:00:00Z"}, "2026-11-21T12:00:00Z"),
        ({"Running": True, "FinishedAt": "2026-11-21T12:00:00Z"}, None),
        ({"Running": False, "FinishedAt": "0001-01-01T00:00:00Z"}, None),
        ({}, None),
    ],
)
def test_when_a_container_ended(state: dict[str, t.Any], ended: str | None) -> None:
    assert ended_at(state) == ended
