# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After --check --diff on a bare host."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run


def test_check_mode_changed_nothing(host: t.Any, written: set[str]) -> None:
    assert written == set()
    assert host.check_output("docker ps --all --quiet") == ""


def test_check_mode_said_what_would_change(runs: list[Run]) -> None:
    run = runs[0]
    assert run.check
    for line in (
        "create directory /home/gpu/vllm/huggingface",
        "write secret hf_token_file",
        "create vllm-gpt-oss",
        "start vllm-gpt-oss",
        '"image": "nvcr.io/nvidia/vllm:25.09-py3"',
        "/home/gpu/vllm/encodings/o200k_base.tiktoken",
        "/home/gpu/vllm/encodings/cl100k_base.tiktoken",
    ):
        assert line in run.text
