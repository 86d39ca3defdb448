# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The server that root's Podman runs, as Podman itself tells of it."""

from __future__ import annotations

import json
import typing as t

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

COMMIT = "gpufleet.vllm.vllm_server : Commit: remove the replaced server and record start-up measurements"


@pytest.fixture(scope="module")
def inspected(host: t.Any) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", json.loads(host.check_output("sudo podman inspect vllm-gpt-oss"))[0])


def test_what_check_mode_said_is_what_was_done(runs: list[Run]) -> None:
    assert runs[0].changed
    assert runs[1].changed == [*runs[0].changed, COMMIT]


def test_the_second_run_changes_nothing(runs: list[Run]) -> None:
    assert (runs[2].check, runs[2].changed) == (False, [])


def test_a_phase_was_read_in_its_log(runs: list[Run]) -> None:
    assert "loading weights" in runs[1].text or "healthy after" in runs[1].text


def test_its_policy_outlives_a_reboot(inspected: dict[str, t.Any]) -> None:
    assert inspected["HostConfig"]["RestartPolicy"]["Name"] == "always"


def test_the_gpu_is_a_device_in_it(host: t.Any) -> None:
    assert host.check_output(
        "sudo podman exec vllm-gpt-oss sh -c 'ls /dev/nvidia0; echo $NVIDIA_VISIBLE_DEVICES'"
    ).split() == [
        "/dev/nvidia0",
        "all",
    ]


def test_nothing_else_is_there(host: t.Any) -> None:
    assert host.check_output("sudo podman ps --all --format '{{.Names}} {{.State}}'") == "vllm-gpt-oss running"


def test_the_token_is_in_a_file_alone(host: t.Any, inspected: dict[str, t.Any]) -> None:
    assert "hf_canary4711" not in json.dumps(inspected)
    file = host.check_output("sudo stat --format '%U %a' /srv/vllm/secrets/hf_token")
    assert file == "root 600"


def test_it_answers(host: t.Any) -> None:
    question = json.dumps({"model": "gpt-oss-120b", "messages": [{"role": "user", "content": "Say hello"}]})
    curl = "curl --silent --show-error --fail --header 'content-type: application/json' --data %s %s"
    answer = json.loads(host.check_output(curl, question, "http://localhost:8000/v1/chat/completions"))
    assert answer["choices"][0]["message"]["content"].startswith("Hello!")
