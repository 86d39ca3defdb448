# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After teardown.yml, which takes servers away."""

from __future__ import annotations

import typing as t


def test_no_server_is_left(host: t.Any) -> None:
    assert host.check_output("docker ps --all --quiet") == ""


def test_the_trainers_part_is_left(host: t.Any) -> None:
    assert host.check_output("ls ~/vllm/grpo").split() == ["environment", "profile.sh"]
    said = host.check_output(
        "sh -c '. ~/vllm/grpo/profile.sh; exec python -c \"import vllm; print(vllm.__version__)\"'"
    )
    assert said == "0.26.0"
