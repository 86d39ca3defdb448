# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Three hosts serve gpt-oss; rolling Gemma out fails in its canary, then in its wave, is killed, and gets there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
import testinfra

if t.TYPE_CHECKING:
    from ...conftest import Run

NAMES = [f"gpufleet-mol-rollout-{number}" for number in (1, 2, 3)]
GEMMA = ("--extra-vars", "model=gemma-3-27b")
FAULT = "/home/gpu/vllm/huggingface/standin.json"
ILLEGAL_ACCESS = "RuntimeError: CUDA error: an illegal memory access was encountered"
FAILS = {"fault": "exit-at-once", "message": ILLEGAL_ACCESS, "only_with": "gemma"}
CONTAINERS = "docker ps --all --no-trunc --format '{{.Names}} {{.ID}} {{.State}}'"


@pytest.fixture(name="hosts", scope="module")
def _hosts() -> list[t.Any]:
    inventory = os.environ["MOLECULE_INVENTORY_FILE"]
    return [testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in NAMES]


def containers(hosts: list[t.Any]) -> list[list[str]]:
    """What is there on each host, running or not."""
    return [sorted(host.check_output(CONTAINERS).splitlines()) for host in hosts]


def models(hosts: list[t.Any]) -> list[str]:
    """What answers on each host."""
    answers = [json.loads(host.check_output("curl -sf http://127.0.0.1:8000/v1/models")) for host in hosts]
    return [str(answer["data"][0]["id"]) for answer in answers]


def report(path: Path) -> dict[str, t.Any]:
    found = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return {"statuses": [{row["host"]: row["status"] for row in found["rows"]}[name] for name in NAMES], **found}


def test_a_rollout_reaches_every_host_and_leaves_nothing_behind(hosts: list[t.Any]) -> None:
    assert models(hosts) == ["gpt-oss-120b"] * 3
    assert [[line.split()[::2] for line in one] for one in containers(hosts)] == [[["vllm-gpt-oss", "running"]]] * 3


def test_the_waves_started_with_what_the_canary_had_compiled(hosts: list[t.Any]) -> None:
    compiled = [host.check_output("docker exec vllm-gpt-oss cat /var/cache/vllm/vllm/graph") for host in hosts]
    assert compiled == [hosts[0].check_output("docker exec vllm-gpt-oss hostname")] * 3


def test_a_canary_that_fails_is_put_back_and_no_other_host_is_touched(
    hosts: list[t.Any], deploy: t.Callable[..., Run], tmp_path: Path
) -> None:
    before = containers(hosts)
    hosts[0].check_output("printf %s > %s", json.dumps(FAILS), FAULT)
    run = deploy(*GEMMA, "--extra-vars", f"vllm_report={tmp_path}/report", rc=2)
    hosts[0].check_output(f"rm {FAULT}")
    assert "A canary may not fail: the rollout stops, and no other host is changed." in run.text
    assert containers(hosts) == before
    assert models(hosts) == ["gpt-oss-120b"] * 3
    found = report(tmp_path / "report")
    assert found["statuses"] == ["failed", "not reached", "not reached"]
    assert "an illegal memory access" in found["rows"][0]["diagnosis"]["evidence"]
    assert "hf_canary4711" not in run.text + (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_wave_that_fails_is_put_back_as_a_whole(
    hosts: list[t.Any], deploy: t.Callable[..., Run], tmp_path: Path
) -> None:
    before = containers(hosts)
    hosts[2].check_output("printf %s > %s", json.dumps(FAILS), FAULT)
    run = deploy(*GEMMA, "--extra-vars", f"vllm_report={tmp_path}/report", rc=2)
    assert "Wave 1 of 1: 1 of 2 hosts failed (gpufleet-mol-rollout-3)." in run.text
    found = report(tmp_path / "report")
    assert found["statuses"] == ["changed", "put back", "failed"]
    # What the canary had compiled may have been to blame: it failed once more without.
    caches = {row["host"]: row["caches"] for row in found["rows"]}
    assert caches[NAMES[1]] == NAMES[0]
    again = "failed, so it was started once more without them. A kernel failed on the GPU"
    assert caches[NAMES[2]].startswith(f"none: A start with those of {NAMES[0]} {again}")
    assert models(hosts) == ["gemma-3-27b", "gpt-oss-120b", "gpt-oss-120b"]
    # The very same containers, started again.
    assert containers(hosts)[1:] == before[1:]


def test_a_rollout_whose_controller_was_killed_is_finished_by_the_next_run(
    hosts: list[t.Any], deploy: t.Callable[..., Run], tmp_path: Path
) -> None:
    canary = containers(hosts)[0]
    hosts[2].check_output(f"rm {FAULT}")
    # A server is believed to serve without being verified again once it is a minute old.
    time.sleep(60)
    scenario, inventory = os.environ["MOLECULE_SCENARIO_DIRECTORY"], os.environ["MOLECULE_INVENTORY_FILE"]
    command = ["ansible-playbook", "-i", inventory, f"{scenario}/converge.yml", *GEMMA, "--extra-vars", "soak=60"]
    with (tmp_path / "output").open("w") as output:
        killed = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        for _attempt in range(400):
            if "Soak: wait" in (tmp_path / "output").read_text(encoding="utf-8"):
                break
            time.sleep(1)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
    # Both serve already, and keep what they served before.
    assert models(hosts) == ["gemma-3-27b"] * 3
    kept = containers(hosts)
    assert [len(one) for one in kept] == [1, 2, 2]
    status = deploy(*GEMMA, "--extra-vars", f"vllm_report={tmp_path}/status", playbook="gpufleet.vllm.status")
    assert report(tmp_path / "status")["statuses"] == ["serving", "drifted", "drifted"], status.text
    run = deploy(*GEMMA, "--extra-vars", f"vllm_report={tmp_path}/report")
    assert report(tmp_path / "report")["statuses"] == ["unchanged", "changed", "changed"], run.text
    # None was started again.
    assert containers(hosts) == [[line for line in one if line.endswith(" running")] for one in kept]
    assert containers(hosts)[0] == canary
