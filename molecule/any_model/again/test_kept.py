# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After two runs: what was chosen is kept, whatever the files say by now, until what is wanted changes."""

from __future__ import annotations

import re
import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

Deploy = t.Callable[..., "Run"]


def test_the_second_run_changed_nothing_and_read_nothing(runs: list[Run]) -> None:
    assert runs[2].changed == []
    assert "knows Qwen3ForCausalLM" not in runs[2].text


def test_a_choice_is_kept_when_the_files_change(host: t.Any, deploy: Deploy) -> None:
    path = "/srv/models/Tiny-Qwen3/config.json"
    with host.sudo():
        host.check_output(f"sed -i s/40960/20480/ {path}")
    try:
        assert re.search(r"changed=0 .*failed=0", deploy("--check").text)
    finally:
        with host.sudo():
            host.check_output(f"sed -i s/20480/40960/ {path}")


def test_another_wish_is_another_choice(deploy: Deploy) -> None:
    run = deploy("--check", "-e", "vllm_context=16384")
    assert "max_model_len 16384: it is wanted, and 8 such requests fit" in run.text
    assert re.search(r"changed=1 .*failed=0", run.text)


def test_it_is_shown_without_being_changed(host: t.Any, deploy: Deploy) -> None:
    run = deploy("-e", "vllm_show=command")
    assert re.search(r"changed=0 .*failed=0", run.text)
    assert "docker run --detach --name vllm-tiny-qwen3 " in run.text
    assert "# compose.yaml" in run.text


def test_what_does_not_fit_is_refused_with_what_would(deploy: Deploy) -> None:
    run = deploy("--check", "-e", "vllm_concurrency=500", rc=2)
    assert "does not fit" in run.text and "What would fit:" in run.text
