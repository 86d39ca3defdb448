# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that change something, runs that are refused, and one half without the other."""

from __future__ import annotations

import typing as t

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

Deploy = t.Callable[..., "Run"]
TRAINERS = "GPU-00000001-0000-4000-8000-000000000001"


def state(host: t.Any) -> list[str]:
    """The container, and what belongs to the trainer."""
    look = (
        "docker ps --all --no-trunc --format '{{.Names}} {{.ID}} {{.State}}'; sha256sum ~/vllm/grpo/*; ls ~/vllm/venvs"
    )
    return t.cast("list[str]", host.run(look).stdout.splitlines())


def memory(host: t.Any) -> list[str]:
    shown = host.check_output("nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits")
    return t.cast("list[str]", shown.split())


def test_a_trainer_at_work_changes_nothing(host: t.Any, deploy: Deploy) -> None:
    before = state(host)
    trainer = f"env SIM_GPU_MIB=60000 NVIDIA_VISIBLE_DEVICES={TRAINERS} sleep 1000"
    host.check_output(f"sudo systemd-run --unit trainer --uid gpu {trainer}")
    try:
        run = deploy()
    finally:
        host.check_output("sudo systemctl stop trainer")
    assert "changed=0" in run.text
    assert state(host) == before


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        pytest.param(
            {"trl_version": "1.10.0"},
            "TRL 1.10.0 trains against its own server, 'trl vllm-serve', and gets 404 from 'vllm serve', which is what "
            "runs here with vLLM 0.26.0. Set trl_version to 1.16.0",
            id="a TRL with a server of its own",
        ),
        pytest.param(
            {"vllm_image": "vllm/vllm-openai:v0.32.0"},
            "TRL 1.16.0 takes vLLM 0.22.0 to 0.31.0, and the server runs vLLM 0.32.0.",
            id="a vLLM that no TRL takes",
        ),
        pytest.param(
            {"server_size": "2"},
            "The server is to get 2 and the trainer 1 GPUs, and this host has 2.",
            id="no GPU for the trainer",
        ),
        pytest.param(
            {"server_bind": "0.0.0.0"}, "bind must be 127.0.0.1 for the server of a trainer", id="in the open"
        ),
    ],
)
def test_a_sentence_and_no_change(host: t.Any, deploy: Deploy, variables: dict[str, str], sentence: str) -> None:
    before = state(host)
    run = deploy(*(word for key, value in variables.items() for word in ("--extra-vars", f"{key}={value}")), rc=2)
    assert sentence in " ".join(run.text.split())
    assert state(host) == before


def test_another_trl_is_another_environment_and_the_old_one_goes(host: t.Any, deploy: Deploy) -> None:
    before = state(host)
    deploy("--extra-vars", "trl_version=1.12.0")
    after = state(host)
    assert len(after) == len(before)
    assert [one for one in after if one in before and one.startswith("vllm-rollout")] == before[:1]
    assert after[-1] != before[-1]
    deploy()
    assert state(host) == before


def test_a_stopped_server_gives_all_memory_back_and_starts_again(host: t.Any, deploy: Deploy) -> None:
    before = state(host)
    assert int(memory(host)[0]) > 60000
    deploy("--extra-vars", "grpo_trainer_state=stopped")
    assert memory(host) == ["4", "4"]
    assert [line.split()[-1] for line in state(host)[:1]] == ["exited"]
    assert state(host)[1:] == before[1:]
    deploy()
    assert state(host) == before


def test_without_the_trainer_the_server_stays(host: t.Any, deploy: Deploy) -> None:
    before = state(host)
    deploy("--extra-vars", "grpo_trainer_state=absent")
    assert state(host) == before[:1]
    assert "changed=0" in deploy("--extra-vars", "grpo_trainer_state=absent").text
    deploy()
    assert state(host) == before
