# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After --check --diff on a bare host."""

from __future__ import annotations


def test_check_mode_changed_nothing(written: set[str]) -> None:
    assert written == set()


def test_check_mode_said_what_would_change(log: str) -> None:
    for line in (
        "build /home/gpu/vllm/venvs/vllm-0.26.0-",
        '"trl[kernels]==1.16.0"',
        "create vllm-rollout",
        "start vllm-rollout",
        "+++ after: /home/gpu/vllm/grpo/environment",
        "+CUDA_VISIBLE_DEVICES=GPU-00000001-0000-4000-8000-000000000001",
        "+++ after: /home/gpu/vllm/grpo/profile.sh",
    ):
        assert line in log
