# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A replacement that does not become healthy: it is seen, named, and the previous server answers again."""

from __future__ import annotations

import json
import typing as t

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

FAULT_FILE = "/home/gpu/vllm/huggingface/standin.json"
REPLACEMENT = {
    "ulimits": {"memlock": 8388608},
    "engine": {"max_num_seqs": 7},
    "health": {"timeout": 5, "request_timeout": 2},
    "stop_timeout": 3,
}


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"fault": "exit-at-once"}, "Free memory on device (31.44/119.7 GiB) on startup is less than desired"),
        ({"fault": "exit-at-once", "message": "ValueError: the cause", "status": 3}, "exited with status 3"),
        ({"fault": "hang-in-load"}, "nothing listens behind the port yet"),
        ({"fault": "health-500"}, "HTTP 500"),
        ({"fault": "hang-completion"}, "completion: no answer in time"),
        ({"fault": "repeated-token"}, "one token repeated"),
        ({"fault": "null-content"}, "the answer is empty: neither content nor reasoning"),
        ({"fault": "wrong-model-name"}, "some-other-model"),
        ({"fault": "die-on-first-completion"}, "CUDA error: an illegal memory access was encountered"),
        ({"fault": "ignore-sigterm", "load_seconds": 60}, "nothing listens behind the port yet"),
    ],
    ids=lambda value: value["fault"] if isinstance(value, dict) else "",
)
def test_the_previous_server_returns(
    host: t.Any, deploy: t.Callable[..., Run], serving: t.Callable[[], t.Any], fault: dict[str, t.Any], sentence: str
) -> None:
    before = serving()
    write_fault = f"printf %s > {FAULT_FILE}"
    host.check_output(write_fault, json.dumps({**fault, "only_with": "--max-num-seqs 7"}))
    run = deploy("--extra-vars", json.dumps({"vllm_overrides": REPLACEMENT}), rc=2)
    host.check_output(f"rm {FAULT_FILE}")
    assert sentence in run.text
    assert "The previous server gpt-oss-120b is serving again at http://127.0.0.1:8000, " in run.text
    assert serving() == before
