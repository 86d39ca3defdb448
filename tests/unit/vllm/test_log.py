# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of any era, behind any collector."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.log import parse_lines


@pytest.mark.parametrize(
    ("line", "text", "level", "process"),
    [
        ("INFO 07-28 23:02:27 [kv_cache_utils.py:833] msg", "msg", "INFO", ""),
        ("(VllmWorker rank=0 pid=2120280) INFO 07-28 23:02:27 [a.py:1] msg", "msg", "INFO", "VllmWorker"),
        (
            "(EngineCore_DP0 pid=7) ERROR 01-02 03:04:05 [core.py:7] ValueError: x",
            "ValueError: x",
            "ERROR",
            "EngineCore_DP0",
        ),
        ("(Worker_TP0 pid=7) WARNING 01-02 03:04:05 [v1/x/y.py:7] msg", "msg", "WARNING", "Worker_TP0"),
        (
            "\x1b[0;36m(EngineCore_DP0 pid=738)\x1b[0;0m \x1b[31mERROR\x1b[0m 01-02 03:04:05 [c.py:1] msg",
            "msg",
            "ERROR",
            "EngineCore_DP0",
        ),
        ("(APIServer pid=1) Traceback (most recent call last):", "Traceback (most recent call last):", "", "APIServer"),
        ("INFO:     Application startup complete.", "Application startup complete.", "INFO", ""),
        ("(APIServer pid=1) ERROR:    [Errno 98] x", "[Errno 98] x", "ERROR", "APIServer"),
        ("(not a prefix) msg", "(not a prefix) msg", "", ""),
        ("", "", "", ""),
    ],
)
def test_prefix(line: str, text: str, level: str, process: str) -> None:
    (parsed,) = parse_lines(line)
    assert (parsed.text, parsed.level, parsed.process) == (text, level, process)


def test_a_progress_bar_becomes_its_states() -> None:
    text = (
        "(E pid=1) Capturing CUDA graphs:   0%|  | 0/2\rCapturing CUDA graphs:  50%|  | 1/2\rCapturing CUDA graphs: "
        "100%|  | 2/2\n"
    )
    assert [line.text[-3:] for line in parse_lines(text)] == ["0/2", "1/2", "2/2", ""]
