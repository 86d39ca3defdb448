# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role grpo_trainer, its filter and its modules agree; its playbook hands over what an inventory says."""

from __future__ import annotations

import base64
import importlib
import re
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.filter.grpo_memory_held import grpo_memory_held
from ansible_collections.gpufleet.vllm.plugins.filter.grpo_setup import grpo_setup
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo import check, files, setup, versions
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.environment import environment_text
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.run import PARAMETERS as VENV

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles" / "grpo_trainer"
OPTIONS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text("utf-8"))["argument_specs"]["main"]["options"]
TRAINER = OPTIONS["grpo_trainer"]["options"]
FACTS = {
    "status": "ok",
    "hardware_class": "h100",
    "topology": {"0-1": "NV18"},
    "gpus": [
        {"index": index, "uuid": f"GPU-{index}", "health": "ok", "compute_capability": "9.0", "memory_free_mib": 81000}
        for index in (0, 1)
    ],
}
ROLLOUT = {"model": "gpt-oss-20b-rollout"}
PLAIN = {"model": "gpt-oss-20b", "overrides": {"backend": "container"}}


def test_the_keys_are_those_that_are_known() -> None:
    assert set(TRAINER) == set(setup.KEYS)


def test_the_defaults_are_those_that_are_documented() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text("utf-8"))
    assert defaults == {name: option["default"] for name, option in OPTIONS.items() if name != "grpo_trainer"}
    assert (TRAINER["name"]["default"], TRAINER["directory"]["default"]) == (
        setup.DEFAULT_NAME,
        setup.DEFAULT_DIRECTORY,
    )
    assert tuple(TRAINER["version_check"]["choices"]) == versions.CHECKS
    tasks = "".join(path.read_text("utf-8") for path in (ROLE / "tasks").glob("*.yml"))
    assert set(re.findall(r"directory \| default\('(.*?)'", tasks)) == {setup.DEFAULT_DIRECTORY}
    assert set(re.findall(r"name \| default\('(.*?)'", tasks)) == {setup.DEFAULT_NAME}


def test_a_state_is_a_file_of_tasks() -> None:
    states = set(OPTIONS["grpo_trainer_state"]["choices"])
    assert {path.stem for path in (ROLE / "tasks").glob("*.yml")} == {"main", *states}


def test_the_environment_is_one_of_role_vllm_venv() -> None:
    for name, option in TRAINER["venv"]["options"].items():
        wanted = {key: VENV[name].get(key) for key in ("type", "elements", "choices")}
        assert {key: option.get(key) for key in wanted} == wanted, name
    # What the role says itself.
    assert set(VENV) - set(TRAINER["venv"]["options"]) == {"packages", "server", "state", "all"}


def test_the_readme_has_every_key() -> None:
    readme = (ROLE / "README.md").read_text("utf-8")
    assert [name for name in (*OPTIONS, *TRAINER) if f"`{name}`" not in readme] == []


@pytest.mark.parametrize(("name", "spec"), [("grpo_check", check.OPTIONS), ("grpo_environment", files.PARAMETERS)])
def test_a_module_is_documented_as_it_is(name: str, spec: dict[str, t.Any]) -> None:
    module = importlib.import_module(f"ansible_collections.gpufleet.vllm.plugins.modules.{name}")
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    keys = ("type", "default", "choices", "required")
    assert {key: [option.get(one) for one in keys] for key, option in documented.items()} == {
        key: [option.get(one) for one in keys] for key, option in spec.items()
    }


def test_the_catalogues_rollout_server_is_one_for_a_trainer() -> None:
    found = grpo_setup(FACTS, {}, ROLLOUT, ["h100", "all"])
    assert found["catalogue"] == {
        **ROLLOUT,
        "hardware_class": "h100",
        "overrides": {"gpus": ["GPU-0"], "engine": {"tensor_parallel_size": 1}, "env": {"NCCL_SOCKET_IFNAME": "lo"}},
    }
    assert (found["trl_version"], found["vllm_version"]) == ("1.16.0", "0.26.0")


@pytest.mark.parametrize(
    ("groups", "given", "hardware_class"),
    [([], {}, "h100"), (["a100"], {}, "a100"), (["a100"], {"hardware_class": "h200"}, "h200")],
)
def test_the_class_of_the_host(groups: list[str], given: dict[str, str], hardware_class: str) -> None:
    found = grpo_setup(FACTS, {}, {**ROLLOUT, **given}, groups)
    assert found["catalogue"]["hardware_class"] == hardware_class


def test_the_file_on_the_host_is_read() -> None:
    facts = {**FACTS, "gpus": [{**FACTS["gpus"][0], "index": index, "uuid": f"GPU-{index}"} for index in range(4)]}  # type: ignore[index,dict-item]
    written = base64.b64encode(environment_text({"CUDA_VISIBLE_DEVICES": "GPU-3"}).encode()).decode()
    assert grpo_setup(facts, {"gpus": 1}, ROLLOUT, written=written)["gpus"]["trainer"] == ["GPU-3"]


@pytest.mark.parametrize(
    ("facts", "trainer", "catalogue", "sentence"),
    [
        (None, {}, ROLLOUT, "grpo_setup: the facts must be a mapping; got NoneType."),
        (FACTS, [], ROLLOUT, "grpo_setup: trainer must be a mapping; got list."),
        (FACTS, {}, PLAIN, "network_mode must be host for the server of a trainer"),
        (FACTS, {"trl_version": "1.0.0"}, ROLLOUT, "TRL 1.0.0 trains against its own server"),
        (FACTS, {}, {**ROLLOUT, "overrides": {"prot": 1}}, "Unknown key 'overrides.prot'."),
        (
            FACTS,
            {},
            {**ROLLOUT, "overrides": {"bind": "0.0.0.0"}},
            "bind must be 127.0.0.1 for the server of a trainer",
        ),
    ],
)
def test_a_refusal_is_a_sentence(facts: t.Any, trainer: t.Any, catalogue: t.Any, sentence: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        grpo_setup(facts, trainer, catalogue)
    assert str(caught.value).startswith(sentence)


def test_what_is_held_is_told() -> None:
    assert grpo_memory_held(FACTS, "rollout") == []
    with pytest.raises(AnsibleFilterError, match="the facts must be a mapping"):
        grpo_memory_held(None, "rollout")


def test_every_class_of_the_rollout_server_fits_a_trainer_or_says_why() -> None:
    """On the classes with GPUs the catalogue's server needs nothing said about it."""
    for hardware_class in ("h100", "h200", "a100"):
        assert grpo_setup(FACTS, {}, {**ROLLOUT, "hardware_class": hardware_class})["trl_version"] == "1.16.0"
    with pytest.raises(AnsibleFilterError, match="No TRL up to 1.16.0 takes vLLM 0.32.0: serve with vLLM 0.31.0"):
        grpo_setup({"gpus": []}, {}, {**ROLLOUT, "hardware_class": "cpu"})
