# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the switch from gpt-oss-120b to Gemma 3 27B on port 8000."""

from __future__ import annotations

import json
import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

COMMIT = "gpufleet.vllm.vllm_server : Commit: remove the replaced server and record start-up measurements"
GIB_KIB = 1 << 20


def test_what_check_mode_said_is_what_was_done(runs: list[Run]) -> None:
    assert runs[1].changed
    assert runs[2].changed == [*runs[1].changed, COMMIT]


def test_the_next_run_changes_nothing(runs: list[Run]) -> None:
    assert (runs[3].check, runs[3].changed) == (False, [])


def test_only_the_new_server_answers(serving: t.Callable[[], t.Any]) -> None:
    (container,), model, _answer = serving()
    assert (container.split()[::2], model) == (["vllm-gemma3", "running"], "gemma-3-27b")


def test_what_the_old_server_compiled_stays_for_a_switch_back(host: t.Any) -> None:
    volumes = host.check_output("docker volume ls --format {{.Name}}").split()
    assert sorted(volume.rpartition("-")[0] for volume in volumes) == ["vllm-gemma3-cache", "vllm-gpt-oss-cache"]


def test_the_old_server_was_stopped_last_and_removed_once_the_new_one_was_healthy(host: t.Any) -> None:
    events = host.check_output(
        "docker events --since 30m --until 0s --filter type=container --format '{{.Action}} {{.Actor.Attributes.name}}'"
    ).splitlines()
    steps = [
        events.index("start vllm-gpt-oss"),
        events.index("die vllm-gemma3-fetch"),
        events.index("destroy vllm-gemma3-try"),
        events.index("die vllm-gpt-oss"),
        events.index("start vllm-gemma3"),
        events.index("destroy vllm-gpt-oss"),
    ]
    assert steps == sorted(steps)


def test_the_memory_is_the_new_servers_alone(host: t.Any) -> None:
    """0.80 of 121.69 of 115 GiB: what gpt-oss-120b held has come back."""
    free = int(host.check_output("awk '/^MemAvailable/ {print $2}' /proc/meminfo")) / GIB_KIB
    assert round(free, 1) == round(115 - 0.8 * 121.69, 1)


def test_the_rung_was_taken_before_anything_started(host: t.Any, runs: list[Run]) -> None:
    container = json.loads(host.check_output("docker inspect vllm-gemma3"))[0]
    command = container["Config"]["Cmd"]
    assert command[command.index("--gpu-memory-utilization") + 1] == "0.8"
    record = json.loads(container["Config"]["Labels"]["gpufleet.vllm.fallbacks"])
    assert (record["taken"], record["causes"]) == ([0], ["mem-free-below-budget"])
    assert "It runs with fallback 1 of 2" in runs[2].text
