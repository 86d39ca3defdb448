# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Playbook deploy_grpo.yml, run by ansible-playbook with stand-ins for the modules: what each is asked, in which order.

Every scenario is a host. All of them run in one play, and the one in check mode in another.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from test_grpo_role import FACTS

ROOT = Path(__file__).resolve().parents[3]
MODULES = ("gpu_facts", "vllm_venv", "vllm_container", "vllm_service", "vllm_health", "grpo_check")
# A stand-in writes down what it was asked, and answers as its host has it for this module and state.
STAND_IN = """#!/usr/bin/python
# WANT_JSON
import json, os, sys

with open(sys.argv[1]) as stream:
    asked = json.load(stream)
folder = os.environ["STAND_IN_OF"]
with open(os.path.join(folder, "calls"), "a") as stream:
    stream.write(json.dumps({"module": "MODULE", **asked}) + "\\n")
with open(os.path.join(folder, "answers")) as stream:
    answers = json.load(stream)
print(json.dumps(answers.get("MODULE " + asked.get("state", ""), answers.get("MODULE", {"failed": True}))))
"""
Answer = dict[str, t.Any]
SERVER: Answer = {
    "container_name": "vllm-rollout",
    "backend": "container",
    "container_id": "c1",
    "state": "running",
    "url": "http://127.0.0.1:8000",
    "served_model_name": "gpt-oss-20b",
    "superseded": False,
}
GOOD: Answer = {"healthy": True, "checks": [{"name": "completion", "detail": '"Four."'}], "elapsed": 0.2}
SERVES: Answer = {
    "changed": False,
    "actions": [],
    "needs": [],
    "commands": [],
    "vllm_version": "0.26.0",
    "restored": [],
    "health": GOOD,
    "server": SERVER,
}
PLANNED: Answer = {**SERVES, "changed": True, "actions": ["create vllm-rollout"], "health": None}
ENVIRONMENT: Answer = {"changed": False, "actions": [], "environment": {"path": "/opt/vllm/venvs/vllm-0.26.0-1"}}
ANSWERS: dict[str, Answer] = {
    "gpu_facts": {"ansible_facts": {"gpufleet": FACTS}},
    "vllm_venv": ENVIRONMENT,
    "vllm_container": SERVES,
    "vllm_container stopped": {**SERVES, "changed": True, "actions": ["stop vllm-rollout"], "health": None},
    "vllm_health": GOOD,
    "grpo_check": {"changed": False, "missing": [], "server": {"vllm_version": "0.26.0"}},
}
UNFIT = {"failed": True, "msg": "TRL cannot train against http://127.0.0.1:8000: it has no engine.", "missing": ["x"]}
UNIT: Answer = {**SERVES, "backend": "systemd", "server": {**SERVER, "backend": "systemd"}}
HOSTS: dict[str, tuple[dict[str, Answer], Answer]] = {
    "both": ({}, {}),
    "service": (
        {"vllm_service": UNIT},
        {
            "vllm_overrides": {"backend": "systemd", "venv": "/opt/vllm/0.26", "hf_token_file": None},
            "grpo_trainer": {"vllm_version": "0.26.0"},
        },
    ),
    "refused": ({}, {"grpo_trainer": {"trl_version": "1.10.0"}}),
    "unfit": ({"grpo_check": UNFIT}, {}),
    "stopped": ({}, {"grpo_trainer_state": "stopped"}),
    "absent": ({}, {"grpo_trainer_state": "absent", "grpo_trainer": {"name": "maths"}}),
    "planned": ({"vllm_container": PLANNED, "vllm_venv": {**ENVIRONMENT, "changed": True}}, {}),
}
IN_CHECK_MODE = ("planned",)


class Seen(t.NamedTuple):
    calls: list[Answer]
    output: str
    folder: Path

    def made(self) -> list[str]:
        return [" ".join(filter(None, (call["module"], call.get("state")))) for call in self.calls]

    def of(self, module: str) -> Answer:
        return next(call for call in self.calls if call["module"] == module)


@pytest.fixture(name="seen", scope="module")
def _seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    path = tmp_path_factory.mktemp("grpo")
    copy = path / "ansible_collections" / "gpufleet" / "vllm"
    for part in ("plugins", "roles", "meta", "playbooks"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "galaxy.yml", copy)
    for module in MODULES:
        (copy / "plugins" / "modules" / f"{module}.py").write_text(STAND_IN.replace("MODULE", module))
    outputs = {check: _run(path, check) for check in (False, True)}
    seen = {}
    for name in HOSTS:
        calls = path / name / "calls"
        lines = calls.read_text("utf-8").splitlines() if calls.exists() else []
        seen[name] = Seen([json.loads(line) for line in lines], outputs[name in IN_CHECK_MODE], path / name)
    return seen


def _run(path: Path, check: bool) -> str:
    inventory: Answer = {}
    for name, (answers, variables) in HOSTS.items():
        if (name in IN_CHECK_MODE) is not check:
            continue
        (path / name).mkdir()
        (path / name / "answers").write_text(json.dumps({**ANSWERS, **answers}))
        # Which host it is, is all that a stand-in has to know besides.
        python = path / name / "python"
        python.write_text(f'#!/bin/sh\nSTAND_IN_OF={path / name} exec {sys.executable} "$@"\n')
        python.chmod(0o755)
        trainer = {"directory": str(path / name / "trainer"), **variables.get("grpo_trainer", {})}
        inventory[name] = {
            "vllm_overrides": {"backend": "container", "engine": {"max_num_seqs": 64}},
            **variables,
            "grpo_trainer": trainer,
            "ansible_connection": "local",
            "ansible_python_interpreter": str(path / name / "python"),
        }
    (path / "hosts.yml").write_text(yaml.safe_dump({"h100": {"hosts": inventory}}))
    (path / "ansible.cfg").touch()
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(path),
        "ANSIBLE_CONFIG": str(path / "ansible.cfg"),
        "ANSIBLE_LOCAL_TEMP": str(path / "local"),
        "ANSIBLE_REMOTE_TEMP": str(path / "remote"),
        "ANSIBLE_NOCOLOR": "1",
        "COLUMNS": "120",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "hosts.yml", "gpufleet.vllm.deploy_grpo"]
    command += ["--check"] if check else []
    done = subprocess.run(command, cwd=path, env=environment, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_both_are_set_up_in_this_order(seen: dict[str, Seen]) -> None:
    both = seen["both"]
    assert both.made() == [
        "gpu_facts",
        "vllm_venv present",
        "vllm_container started",
        "grpo_check",
        "vllm_venv committed",
    ], both.output
    assert "TRL 1.16.0 and vLLM 0.26.0, server on GPU-0, trainer on GPU-1." in both.output
    assert f"To train: . {both.folder}/trainer/profile.sh && python train_grpo_vllm.py" in both.output


def test_the_server_gets_its_gpu_and_what_the_inventory_says(seen: dict[str, Seen]) -> None:
    asked = seen["both"].of("vllm_container")
    assert asked["gpus"] == ["GPU-0"]
    assert (asked["engine"]["tensor_parallel_size"], asked["engine"]["max_num_seqs"]) == (1, 64)
    assert (asked["env"]["NCCL_SOCKET_IFNAME"], asked["bind"], asked["network_mode"]) == ("lo", "127.0.0.1", "host")


def test_the_trainer_gets_its_environment_and_the_other_gpu(seen: dict[str, Seen]) -> None:
    both = seen["both"]
    assert both.of("vllm_venv")["packages"][:2] == ["vllm==0.26.0", "trl[kernels]==1.16.0"]
    assert both.of("vllm_venv")["server"] == "grpo-trainer"
    text = (both.folder / "trainer/environment").read_text("utf-8")
    assert "\nCUDA_VISIBLE_DEVICES=GPU-1\n" in text and "\nVLLM_SERVER_PORT=8000\n" in text
    assert "VIRTUAL_ENV=/opt/vllm/venvs/vllm-0.26.0-1\n" in (both.folder / "trainer/profile.sh").read_text("utf-8")


def test_a_service_is_no_different(seen: dict[str, Seen]) -> None:
    service = seen["service"]
    assert service.made() == [one.replace("container", "service") for one in seen["both"].made()], service.output
    assert (service.of("vllm_service")["gpus"], service.of("vllm_service")["venv"]) == (["GPU-0"], "/opt/vllm/0.26")
    assert (service.folder / "trainer/environment").read_bytes() == (
        seen["both"].folder / "trainer/environment"
    ).read_bytes()


def test_the_server_is_checked_as_the_trainer_will_use_it(seen: dict[str, Seen]) -> None:
    asked = seen["both"].of("grpo_check")
    assert {key: asked[key] for key in ("url", "served_model_name", "vllm_version", "weights")} == {
        "url": "http://127.0.0.1:8000",
        "served_model_name": "gpt-oss-20b",
        "vllm_version": "0.26.0",
        "weights": True,
    }


def test_a_pair_that_does_not_go_together_is_refused_before_anything_is_done(seen: dict[str, Seen]) -> None:
    assert seen["refused"].made() == ["gpu_facts"]
    assert "TRL 1.10.0 trains against its own server" in seen["refused"].output
    assert not (seen["refused"].folder / "trainer").exists()


def test_a_server_that_lacks_something_fails_the_run_and_the_old_environment_stays(seen: dict[str, Seen]) -> None:
    assert seen["unfit"].made()[-1] == "grpo_check"
    assert UNFIT["msg"] in seen["unfit"].output


def test_stopped_stops_the_server_and_looks_for_its_memory(seen: dict[str, Seen]) -> None:
    made = seen["stopped"].made()
    assert made[0].startswith("vllm_container stopped") and made[-1] == "gpu_facts", seen["stopped"].output
    assert set(made) == {"vllm_container stopped", "gpu_facts"}


def test_absent_asks_for_the_trainers_part_alone(seen: dict[str, Seen]) -> None:
    assert seen["absent"].made() == ["vllm_venv absent"]
    assert seen["absent"].of("vllm_venv")["server"] == "maths-trainer"


def test_check_mode_plans_all_of_it_and_asks_no_server_that_is_not_there(seen: dict[str, Seen]) -> None:
    planned = seen["planned"]
    assert "grpo_check" not in planned.made() and "vllm_venv committed" not in planned.made(), planned.output
    assert {call["_ansible_check_mode"] for call in planned.calls} == {True}
    assert not (planned.folder / "trainer").exists()
