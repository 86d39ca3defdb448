# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every deployment keeps to, whatever the model."""

from __future__ import annotations

import json
import typing as t

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

TOKEN = "hf_canary4711"
# What a start measured is only known after it.
COMMIT = "gpufleet.vllm.vllm_server : Commit: remove the replaced server and record start-up measurements"


def test_what_check_mode_said_is_what_was_done(runs: list[Run]) -> None:
    predicted, done = runs[:2]
    assert (predicted.check, done.check) == (True, False)
    assert predicted.changed
    assert done.changed == [*predicted.changed, COMMIT]


def test_the_second_run_changes_nothing(runs: list[Run]) -> None:
    assert (runs[2].check, runs[2].changed) == (False, [])


def test_the_spec_is_recorded_in_labels(container: dict[str, t.Any]) -> None:
    labels = container["Config"]["Labels"]
    spec = json.loads(labels["gpufleet.vllm.spec"])
    assert (spec["model"], spec["engine"]["quantization"]) == ("openai/gpt-oss-120b", "mxfp4")
    assert labels["gpufleet.vllm.fingerprint"].startswith("v1:")
    assert labels["gpufleet.vllm.version"]


@pytest.mark.parametrize(
    "command",
    [
        "docker inspect vllm-gpt-oss",
        "docker logs vllm-gpt-oss 2>&1",
        "ps -eww -o args",
        "sudo journalctl --no-pager",
        "sudo sh -c 'cat /proc/[0-9]*/environ 2>/dev/null || true'",
    ],
)
def test_the_token_shows_nowhere_on_the_host(host: t.Any, command: str) -> None:
    shown = host.check_output(command)
    assert shown
    assert TOKEN not in shown


def test_the_token_is_a_file_that_only_its_owner_may_read(host: t.Any) -> None:
    file = host.file("/home/gpu/vllm/secrets/hf_token")
    assert (file.user, file.mode) == ("gpu", 0o600)
    # On standard input, because the log of sudo has the command line.
    search = f"printf {TOKEN} | sudo grep --recursive --files-with-matches --file=- /home /etc /root /opt /srv"
    assert host.check_output(search).split() == ["/home/gpu/vllm/secrets/hf_token"]


def test_the_token_is_not_in_ansibles_output(runs: list[Run]) -> None:
    assert "write secret hf_token_file" in runs[1].text
    assert not any(TOKEN in run.text for run in runs)
