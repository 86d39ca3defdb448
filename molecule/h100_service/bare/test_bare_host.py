# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After --check --diff on a bare host."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run


def test_check_mode_changed_nothing(written: set[str]) -> None:
    assert written == set()


def test_check_mode_said_what_would_change(runs: list[Run]) -> None:
    run = runs[0]
    assert run.check
    for line in (
        "create directory /srv/vllm/huggingface",
        "write secret hf_token_file",
        "write secret api_key_file",
        "fetch weights openai/gpt-oss-20b",
        "create vllm-gpt-oss",
        "start vllm-gpt-oss",
        "build /opt/vllm/venvs/vllm-0.26.0-",
        '"wheelhouse": "/srv/wheels"',
        '"venv": "/opt/vllm/venvs/vllm-0.26.0-',
        "/srv/vllm/encodings/o200k_base.tiktoken",
    ):
        assert line in run.text
