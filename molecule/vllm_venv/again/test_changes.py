# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that want something else, and what must not go through."""

from __future__ import annotations

import json
import typing as t

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

Deploy = t.Callable[..., "Run"]
WISH = {"packages": ["vllm==0.26.0"], "wheelhouse": "/srv/wheels", "server": "chat"}
OLDER = {**WISH, "packages": ["vllm==0.19.1"]}


def environments(host: t.Any) -> list[str]:
    return t.cast("list[str]", host.check_output("ls /opt/vllm/venvs").split())


def wanting(wish: t.Mapping[str, t.Any], state: str = "present") -> tuple[str, str]:
    return "--extra-vars", json.dumps({"vllm_venv": wish, "vllm_venv_state": state})


def test_other_packages_are_built_beside_and_the_commit_removes_the_old_ones(host: t.Any, deploy: Deploy) -> None:
    before = environments(host)
    deploy(*wanting(OLDER))
    assert len(environments(host)) == 2 and set(before) < set(environments(host))
    deploy(*wanting(OLDER, "committed"))
    assert [name.startswith("vllm-0.19.1-") for name in environments(host)] == [True]
    deploy(*wanting(WISH))
    deploy(*wanting(WISH, "committed"))
    assert environments(host) == before


def test_a_broken_environment_is_built_anew(host: t.Any, deploy: Deploy) -> None:
    (name,) = environments(host)
    host.check_output(f"sudo rm -r /opt/vllm/venvs/{name}/lib/python3.13/site-packages/torch")
    deploy()
    assert environments(host) == [f"{name}-2"]
    assert "changed=0" in deploy().text


def test_check_mode_changes_nothing(host: t.Any, deploy: Deploy) -> None:
    before = environments(host)
    run = deploy("--check", "--diff", *wanting(OLDER))
    assert "build /opt/vllm/venvs/vllm-0.19.1-" in run.text and '+            "vllm==0.19.1"' in run.text
    assert environments(host) == before


@pytest.mark.parametrize(
    ("change", "before", "after", "sentence"),
    [
        pytest.param(
            {"python": "3.13", "wheelhouse": None},
            "sudo ln -sfn a100-shared.json /etc/sim-gpu/current.json",
            "sudo ln -sfn h100-pair.json /etc/sim-gpu/current.json",
            "CUDA 13.0 needs NVIDIA driver 580 or newer, and this host runs 535.161.08.",
            id="an old driver",
        ),
        pytest.param({"installer": "pip"}, "true", "true", "apt install python3.13-venv", id="no ensurepip"),
        pytest.param({"python": "3.9"}, "true", "true", "This host has no Python 3.9.", id="no Python"),
        pytest.param(
            {"min_free_gib": 1e6},
            "true",
            "true",
            "needs 1000000.0 GiB in /opt/vllm/venvs",
            id="a disk that is too small",
        ),
        pytest.param(
            {"wheelhouse": None, "index_url": "https://me:canary4711@mirror/simple"},
            "true",
            "true",
            "index_url must not hold credentials",
            id="credentials",
        ),
        pytest.param(
            {"package": ["vllm"]},
            "true",
            "true",
            "vllm_venv.package. Supported parameters include",
            id="a misspelt key",
        ),
    ],
)
def test_a_sentence_and_no_change(
    host: t.Any, deploy: Deploy, change: dict[str, t.Any], before: str, after: str, sentence: str
) -> None:
    unchanged = environments(host)
    host.check_output(before)
    try:
        wish = {**WISH, "constraints": ["six>1"], **change}
        run = deploy(*wanting({key: value for key, value in wish.items() if value is not None}), rc=2)
    finally:
        host.check_output(after)
    assert sentence in run.text
    assert environments(host) == unchanged
