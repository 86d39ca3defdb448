# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A switch back that fails is undone; one that works is done; one that cannot work stops nothing."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

import pytest

if t.TYPE_CHECKING:
    from ...conftest import Run

GPT_OSS = "gpufleet.vllm.deploy_gptoss"
CACHE = "/home/gpu/vllm/huggingface"
WEIGHTS = f"{CACHE}/hub/models--google--gemma-3-27b-it"
BASE = {"ulimits": {"memlock": 8388608}, "architecture": {"weights_gib": 0.01}}
ILLEGAL_ACCESS = "RuntimeError: CUDA error: an illegal memory access was encountered"


def fault(**said: str) -> str:
    """The command that makes the next server fail so."""
    return f"printf '%s' '{json.dumps(said)}' > {CACHE}/standin.json"


def things(host: t.Any) -> dict[str, list[str]]:
    """Everything that a server may leave on the host."""
    commands = {
        "containers": "docker ps --all --no-trunc --format '{{.Names}} {{.ID}} {{.State}}'",
        "volumes": "docker volume ls --format {{.Name}}",
        "files": "find /home/gpu/vllm /home/gpu/.local | sort",
    }
    return {what: host.check_output(command).splitlines() for what, command in commands.items()}


def test_a_switch_back_that_fails_is_undone(
    host: t.Any, deploy: t.Callable[..., Run], serving: t.Callable[[], t.Any]
) -> None:
    before, left = serving(), things(host)
    host.check_output(fault(fault="exit-at-once", message=ILLEGAL_ACCESS, only_with="openai/gpt-oss-120b"))
    run = deploy(playbook=GPT_OSS, rc=2)
    host.check_output(f"rm {CACHE}/standin.json")
    told = run.text[run.text.index("vllm-gpt-oss is not healthy. ") :]
    assert "The previous server gemma-3-27b is serving again at http://127.0.0.1:8000, " in told
    assert "an illegal memory access was encountered" in told
    assert serving() == before
    assert things(host) == left


def test_the_switch_back_then_works(deploy: t.Callable[..., Run], serving: t.Callable[[], t.Any]) -> None:
    deploy(playbook=GPT_OSS)
    (container,), model, _answer = serving()
    assert (container.split()[::2], model) == (["vllm-gpt-oss", "running"], "gpt-oss-120b")


@dataclass(frozen=True)
class Case:
    """Something wrong on the host (C(before), undone by C(after)) or in the input, and the sentences it gets."""

    name: str
    sentences: tuple[str, ...]
    overrides: dict[str, t.Any] = field(default_factory=dict)
    before: str = "true"
    after: str = "true"


UNCHANGED = "Nothing was stopped or changed."
CASES = [
    Case(
        "wrong flag",
        ("engine.max_num_seqz: vLLM 0.10.1.1 has no --max-num-seqz", "did you mean max_num_seqs?"),
        {"engine": {"max_num_seqz": 4}},
    ),
    Case(
        "port held by a foreign process",
        ("Port 8001 is taken by python3 (PID ", UNCHANGED),
        {"port": 8001},
        before="sudo systemd-run -q --uid gpu --unit squatter python3 -m http.server -b 127.0.0.1 8001 && sleep 1",
        after="sudo systemctl stop squatter",
    ),
    Case(
        "memory held by a foreign process",
        (
            "of which 104.3 of 121.7 GiB are free",
            "and the host needs 8.0",
            "(root) holds 10.7 GiB",
            UNCHANGED,
        ),
        before="sudo systemd-run -q --unit hog env SIM_GPU_MIB=11000 sleep 1000 && sleep 1",
        after="sudo systemctl stop hog && sleep 2",
    ),
    Case(
        "weights cannot be fetched",
        (
            "Cannot fetch the weights of google/gemma-3-27b-it",
            "Please check your internet connection",
            "No server was stopped by this.",
        ),
        before=f"sudo rm -rf {WEIGHTS}; {fault(fault='fetch-fails', only_with='google/gemma')}",
        after=f"rm {CACHE}/standin.json",
    ),
    Case(
        "weights that were fetched are cut short",
        (
            "google/gemma-3-27b-it cannot be loaded from ",
            "model.safetensors: it has ",
            "No server was stopped by this.",
        ),
        before=fault(fault="fetch-truncates", only_with="google/gemma"),
        after=f"rm {CACHE}/standin.json; sudo rm -rf {WEIGHTS}",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_switch_that_cannot_work_stops_nothing(host: t.Any, deploy: t.Callable[..., Run], case: Case) -> None:
    before = started(host)
    host.check_output(case.before)
    try:
        run = deploy("--extra-vars", json.dumps({"vllm_overrides": {**BASE, **case.overrides}}), rc=2)
    finally:
        host.check_output(case.after)
    for sentence in case.sentences:
        assert sentence in run.text
    assert started(host) == before


def started(host: t.Any) -> list[tuple[str, ...]]:
    """Every container of the host, and when it was started."""
    names = host.check_output("docker ps --all --format {{.Names}}").split()
    found = json.loads(host.check_output(f"docker inspect {' '.join(names)}"))
    return [(container["Name"], container["Id"], container["State"]["StartedAt"]) for container in found]
