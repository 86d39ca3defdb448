# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What status shows of a host's watchdog, from the file that it writes."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.table import watchdog_lines
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.watchdog import watchdog
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog import publish
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.decide import Life, State

SERVING = State(Life("c1", "x"), "serving", 1.7e9, proven=True)
ABOUT: dict[str, t.Any] = {"name": "vllm-a", "backend": "container", "cause": "", "post_mortem": None, "canary": None}


def written(*servers: tuple[State, dict[str, t.Any]], paused: str | None = None) -> str:
    found = {f"container:{about['name']}": publish.written(state, about) for state, about in servers}
    return json.dumps({"version": publish.VERSION, "updated": "then", "paused_until": paused, "servers": found})


@pytest.mark.parametrize(
    ("text", "age", "shown"),
    [
        pytest.param("", None, [], id="none"),
        pytest.param("[1]", 1.0, [], id="not its file"),
        pytest.param('{"version": 9, "servers": {}}', 1.0, [], id="of another version"),
        pytest.param(
            written((SERVING, ABOUT)),
            5.0,
            ["watchdog: vllm-a serving since 2023-11-14T22:13:20+00:00"],
            id="all is well",
        ),
        pytest.param(
            written(
                (
                    State(Life("c1", "x"), "stood_down", 1.7e9, stood_down="It was restarted 3 times.", restarted=3),
                    {**ABOUT, "cause": "GPU 0 is lost.", "post_mortem": "/p"},
                )
            ),
            5.0,
            [
                "watchdog: vllm-a stood down since 2023-11-14T22:13:20+00:00, 3 restarts, It was restarted 3 times, "
                "last cause: GPU 0 is lost, see /p"
            ],
            id="stood down",
        ),
        pytest.param(
            written((SERVING, ABOUT), paused="noon"),
            500.0,
            [
                "watchdog: vllm-a serving since 2023-11-14T22:13:20+00:00",
                "watchdog: paused until noon, so it only looks on",
                "watchdog: does not run, or has written nothing since then: see unit gpufleet-vllm-watchdog",
            ],
            id="paused, and silent",
        ),
    ],
)
def test_what_is_shown(text: str, age: float | None, shown: list[str]) -> None:
    assert watchdog_lines(watchdog(text, age)) == shown


def test_the_two_sides_agree_on_the_file() -> None:
    from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import table, watchdog as reading
    from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog import install, program

    assert install.Machine().directory + f"/{publish.STATE}" == reading.STATE
    assert (program.UNIT, publish.VERSION) == (table.UNIT, reading.VERSION)
