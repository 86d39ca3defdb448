# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After two runs of the playbook, the first of which met a fault."""

from __future__ import annotations

import json
import re
import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

TOLD = (
    '(It runs with fallback 1 of 1, {"engine": {"gpu_memory_utilization": 0.675, '
    '"enforce_eager": true}}, because of mem-profiling-drift; -e vllm_server_reset_fallbacks=true starts over.)'
)

FALLBACKS = '{{index .Config.Labels "gpufleet.vllm.fallbacks"}}'


def test_the_rung_serves(host: t.Any, serving: t.Callable[[], t.Any]) -> None:
    (container,), model, _answer = serving()
    assert (container.split()[::2], model) == (["vllm-qwen", "running"], "qwen2.5-0.5b-instruct")
    command = json.loads(host.check_output("docker inspect vllm-qwen"))[0]["Config"]["Cmd"]
    assert command[command.index("--gpu-memory-utilization") + 1] == "0.675"
    assert "--enforce-eager" in command


def test_the_rung_is_recorded(host: t.Any) -> None:
    label = host.check_output(
        "docker inspect --format '{{index .Config.Labels \"gpufleet.vllm.fallbacks\"}}' vllm-qwen"
    )
    record = json.loads(label)
    assert (record["taken"], record["causes"]) == ([0], ["mem-profiling-drift"])


def test_each_run_tells_the_rung_at_its_end(runs: list[Run]) -> None:
    assert [TOLD in plain(run.text) for run in runs] == [True, True]


def plain(text: str) -> str:
    """What the log shows as JSON, without its escapes and its line breaks."""
    return re.sub(r"\s+", " ", text.replace('\\"', '"'))


def test_the_second_run_keeps_the_rung_and_changes_nothing(runs: list[Run]) -> None:
    assert runs[1].changed == []


def test_the_settings_that_failed_were_not_tried_again(host: t.Any) -> None:
    events = host.check_output(
        "docker events --since 30m --until 0s --filter event=create --filter type=container "
        "--format '{{.Actor.Attributes.name}}'"
    )
    made = [name for name in events.split() if name.startswith("vllm-qwen")]
    assert [name for name in made if not name.endswith(("-try", "-fetch"))] == ["vllm-qwen", "vllm-qwen-next"]
