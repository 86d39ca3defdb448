# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a stamped log belongs to one life of a container."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import Life
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.container import life_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.stamps import since

OLD = "2026-11-27T09:59:59.5Z before\n"
NEW = "2026-11-27T10:00:01.000000001Z after\n"
START = "2026-11-27T10:00:00.25Z"


@pytest.mark.parametrize(
    ("log", "started", "text", "begins_before"),
    [
        pytest.param(OLD + NEW, START, "after\n", True, id="two lives"),
        pytest.param(NEW, START, "after\n", False, id="one life"),
        pytest.param("", START, "", False, id="nothing"),
        pytest.param(OLD, START, "", True, id="it has written nothing yet"),
        pytest.param(OLD + NEW + OLD, START, "after\nbefore\n", True, id="a clock that was set back"),
        pytest.param("2026-11-27T12:00:01+02:00 after\n", START, "after\n", False, id="stamps with an offset"),
        pytest.param(OLD, "2026-11-27T11:59:58+02:00", "before\n", False, id="a start with an offset"),
        pytest.param(OLD + NEW, "?", "before\nafter\n", False, id="a start that cannot be read: everything counts"),
        pytest.param("Cannot read the log.\n", START, "", False, id="what is no log"),
    ],
)
def test_what_was_written_since(log: str, started: str, text: str, begins_before: bool) -> None:
    found, before = since(log, started)
    assert (found.rstrip("\n"), before) == (text.rstrip("\n"), begins_before)


@pytest.mark.parametrize(
    ("log", "lines", "life"),
    [
        pytest.param(OLD + NEW, 2, Life("after\n", True), id="the life before shows: nothing of this one is missing"),
        pytest.param(NEW, 2, Life("after\n", True), id="fewer lines than were asked for: it is all there is"),
        pytest.param(NEW + NEW, 2, Life("after\nafter\n", False), id="there may be more before these"),
    ],
)
def test_the_life_of_a_container(log: str, lines: int, life: Life) -> None:
    assert life_of({"StartedAt": START}, log, lines) == life
