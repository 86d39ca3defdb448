# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a look at a server shows: no secret, whatever the log makes of it, and nothing that a terminal obeys."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.report import LINE_WIDTH, examine, last_lines
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.redaction import secrets_among

CANARY = "canary8451abc"
TOKEN = "hf_abcdefghijklmnopqrstuvwx"


class Written:
    """A server that wrote a log, with a secret in its environment."""

    name = "vllm-a"

    def __init__(self, log: str) -> None:
        self.log = log

    def state(self) -> ProcessState:
        return ProcessState(running=False, exit_status=1, error=f"HF_TOKEN={CANARY}")

    def tail(self) -> str:
        return self.log

    def news(self) -> str:
        return self.log

    def root_pid(self) -> int | None:
        return None

    def about(self) -> dict[str, t.Any]:
        return {"spec": None, "secrets": secrets_among({"MY_API_KEY": CANARY})}

    def versions(self) -> dict[str, str]:
        return {}


@pytest.mark.parametrize(
    "line",
    [
        f"using {CANARY} as it is",
        f"\x1b[32m{TOKEN}\x1b[0m",
        f"--api-key first {CANARY}",
        f"\x1b[31mERROR\x1b[0m 11-21 00:00:00 x.py:1] ValueError: bad token {TOKEN}",
        f"ValueError: {'x' * 140} {TOKEN}",
        f"{'x' * (LINE_WIDTH - 6)} {TOKEN}",
        f"\rprogress {TOKEN}\rdone",
    ],
)
def test_no_secret_of_a_log_is_in_what_a_look_returns(line: str) -> None:
    told = json.dumps(examine(Written(f"INFO begin\n{line}\n"), {}, 60))
    for part in (CANARY, TOKEN, TOKEN[:12], TOKEN[-12:]):
        assert part not in told


@pytest.mark.parametrize("size", range(0, 2 * LINE_WIDTH, 97))
def test_a_cut_leaves_no_half_of_a_secret(size: int) -> None:
    text = f"{TOKEN} {'x' * (4 * LINE_WIDTH - size % len(TOKEN) - 1)}\n{'y ' * size}"
    told = "".join(last_lines(text, 1) + last_lines(text, 2))
    assert not any(TOKEN[start : start + 8] in told for start in range(len(TOKEN) - 8))


def test_the_lines_of_a_log_obey_nothing() -> None:
    shown = last_lines("\x1b]52;c;cm0gLXJm\x07one\n\x1bPx\x1b\\two\x1bc\n\x9b31mthree\b\n20%\r40%\r\n", 10)
    assert shown == ["one", "two", "three", "40%"]
