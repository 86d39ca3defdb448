# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters vllm_spec and vllm_spec_check, the playbooks that use them, and the pages made from the same data."""

from __future__ import annotations

import sys
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_argv import vllm_argv
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_spec import vllm_spec
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_spec_check import vllm_spec_check
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.versions import BEHAVIOURS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import _catalogue_files
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._description import described, known_class
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain

ROOT = Path(__file__).parents[3]
OWN: dict[str, t.Any] = {
    "phi": {
        "description": "A small model.",
        "server": {"model": "microsoft/Phi-4-mini-instruct"},
        "hardware": {"h100": {"image": "vllm/vllm-openai:v0.26.0", "engine": {"gpu_memory_utilization": 0.5}}},
    }
}


# --- vllm_spec ------------------------------------------------------------------------------------------------------


def test_a_name_and_a_class_make_a_spec_that_renders() -> None:
    words = vllm_argv(vllm_spec("gpt-oss-120b", "gb10"))
    assert words[:3] == ["openai/gpt-oss-120b", "--served-model-name", "gpt-oss-120b"]


def test_a_model_of_the_user_is_a_name_too() -> None:
    assert vllm_spec("phi", "h100", {"port": 8001}, OWN) == {
        "name": "phi",
        "model": "microsoft/Phi-4-mini-instruct",
        "backend": "container",
        "image": "vllm/vllm-openai:v0.26.0",
        "engine": {"gpu_memory_utilization": 0.5},
        "port": 8001,
    }


def test_a_model_of_the_user_comes_before_one_of_the_catalogue() -> None:
    assert vllm_spec("gpt-oss-20b", "h100", models={"gpt-oss-20b": OWN["phi"]})["model"].startswith("microsoft/")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ("gpt-oss-21b", "gb10"),
            "'gpt-oss-21b' is neither in the catalogue nor among the models that were given (vllm_models). Did you mean gpt-oss-20b? Name any",
        ),
        (("llama", "gb10"), "The catalogue holds gemma-3-27b, gemma-3-27b-mxfp4, gpt-oss-120b"),
        (("../models/gpt-oss-20b", "gb10"), "is neither in the catalogue"),
        (("", "gb10"), "No model is given. Pass -e model=NAME; the catalogue holds"),
        (("gpt-oss-20b", "none"), "gpt-oss-20b has no settings for 'none'. It has settings for: a100, cpu"),
        (("gpt-oss-20b", "h100", {"engine": {"attn_impl": "x"}}), "engine.attn_impl: vLLM 0.26.0 has no --attn-impl"),
        (("gpt-oss-20b", "h100", "port: 1"), "vllm_spec: overrides must be a mapping; got str."),
        (("gpt-oss-20b", "h100", {}, ["phi"]), "vllm_spec: models must be a mapping; got list."),
        (("phi", "h100", {}, {"phi": {"server": {}}}), "phi.description is missing."),
    ],
)
def test_what_has_no_spec_is_told(arguments: tuple[t.Any, ...], sentence: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        vllm_spec(*arguments)
    assert sentence in str(caught.value)


def test_a_spec_is_the_callers_own() -> None:
    vllm_spec("gpt-oss-20b", "h100")["engine"]["dtype"] = "changed"
    assert vllm_spec("gpt-oss-20b", "h100")["engine"]["dtype"] == "bfloat16"


def test_the_catalogue_is_read_once_however_often_a_variable_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    load = yaml.load
    monkeypatch.setattr(
        _catalogue_files.yaml, "load", lambda stream, Loader: read.append(stream.name) or load(stream, Loader)
    )
    _catalogue_files.catalogued.cache_clear()
    for port in range(9000, 9020):
        vllm_spec("gpt-oss-120b", "gb10", {"port": port})
    assert len(read) == 1
    start = time.process_time()
    for _again in range(1000):
        vllm_spec("gpt-oss-120b", "gb10", {"port": 9000})
    assert time.process_time() - start < 10


# --- the playbooks --------------------------------------------------------------------------------------------------


def play(name: str) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", yaml.safe_load((ROOT / "playbooks" / name).read_text())[0])


def trusted(value: t.Any) -> t.Any:
    if isinstance(value, dict):
        return {key: trusted(entry) for key, entry in value.items()}
    return trust_as_template(value)


def served(playbook: str, **variables: t.Any) -> t.Any:
    """The server that a playbook describes for a host with these variables."""
    plays = [play("deploy.yml"), *([play(playbook)] if playbook != "deploy.yml" else [])]
    play_vars = {key: trusted(value) for one in plays for key, value in one["vars"].items()}
    task_vars = {"group_names": [], **play_vars, **variables}
    catalogue = Templar(loader=DataLoader(), variables=task_vars).template(play_vars["vllm_server_catalogue"])
    said = {"state": "started", "server": None, "replace_unmanaged": False, **plain(catalogue)}
    return described(said, lambda: known_class(said["hardware_class"], task_vars)).spec()


@pytest.mark.parametrize(
    ("playbook", "variables", "model", "source"),
    [
        ("deploy_gptoss.yml", {"group_names": ["gb10"]}, "openai/gpt-oss-120b", "nvcr.io/nvidia/vllm:25.09-py3"),
        ("deploy_gptoss.yml", {"group_names": ["all", "h200"]}, "openai/gpt-oss-120b", ["vllm==0.26.0"]),
        ("deploy_gptoss.yml", {"group_names": ["h100"]}, "openai/gpt-oss-20b", ["vllm==0.26.0"]),
        ("deploy_gptoss.yml", {"group_names": ["a100"]}, "openai/gpt-oss-20b", ["vllm==0.26.0"]),
        (
            "deploy_gptoss.yml",
            {"group_names": ["h100"], "vllm_backend": "container"},
            "openai/gpt-oss-20b",
            "vllm/vllm-openai:v0.26.0",
        ),
        ("deploy_gptoss.yml", {"group_names": ["cpu"]}, "openai/gpt-oss-20b", "gpufleet/vllm-cpu:0.32.0"),
        ("deploy_gptoss.yml", {"vllm_hardware_class": "gb10"}, "openai/gpt-oss-120b", "nvcr.io/nvidia/vllm:25.09-py3"),
        (
            "deploy_gptoss.yml",
            {"group_names": ["h100"], "vllm_hardware_class": "gb10"},
            "openai/gpt-oss-120b",
            "nvcr.io/nvidia/vllm:25.09-py3",
        ),
        (
            "deploy_gptoss.yml",
            {"ansible_facts": {"gpufleet": {"hardware_class": "h200"}}},
            "openai/gpt-oss-120b",
            ["vllm==0.26.0"],
        ),
        ("deploy_gptoss.yml", {"group_names": ["h100"], "model": "gpt-oss-120b"}, "openai/gpt-oss-120b", None),
        ("deploy_gemma3.yml", {"group_names": ["gb10"]}, "google/gemma-3-27b-it", "nvcr.io/nvidia/vllm:25.09-py3"),
        (
            "deploy_gemma3.yml",
            {"group_names": ["gb10"], "model": "gemma-3-27b-mxfp4"},
            "google/gemma-3-27b-it",
            "nvcr.io/nvidia/vllm:26.10-py3",
        ),
        ("deploy.yml", {"group_names": ["a100"], "model": "qwen2.5-0.5b-instruct"}, "Qwen/Qwen2.5-0.5B-Instruct", None),
        (
            "deploy.yml",
            {"group_names": ["h100"], "vllm_model": "phi", "vllm_models": OWN},
            "microsoft/Phi-4-mini-instruct",
            None,
        ),
        (
            "deploy_gptoss.yml",
            {"group_names": ["gb10"], "vllm_image": "nvcr.io/nvidia/vllm:25.10-py3"},
            "openai/gpt-oss-120b",
            "nvcr.io/nvidia/vllm:25.10-py3",
        ),
        (
            "deploy_gptoss.yml",
            {"group_names": ["gb10"], "vllm_image": "a:1", "vllm_overrides": {"image": "b:1"}},
            "openai/gpt-oss-120b",
            "b:1",
        ),
    ],
)
def test_a_playbook_serves(playbook: str, variables: dict[str, t.Any], model: str, source: t.Any) -> None:
    """C(source) is the image of a container or the packages of a service; None for either."""
    server = served(playbook, **variables)
    assert server["model"] == model
    assert source in (None, server["image"] if server["backend"] == "container" else server["venv"]["packages"])


@pytest.mark.parametrize("group", ["gb10", "h100", "a100"])
def test_the_example_inventory_has_a_spec_for_each_of_its_groups(group: str) -> None:
    variables = yaml.safe_load((ROOT / "inventories" / "example" / "group_vars" / f"{group}.yml").read_text())
    server = served("deploy_gptoss.yml", group_names=[group], **variables)
    runs = ("container", "~/vllm/huggingface") if group == "gb10" else ("systemd", "/srv/vllm/huggingface")
    assert (server["backend"], server["huggingface_dir"]) == runs


# --- vllm_spec_check ------------------------------------------------------------------------------------------------


def test_findings_are_mappings_the_gravest_first() -> None:
    spec = {
        "model": "openai/gpt-oss-20b",
        "vllm_version": "0.10.2",
        "engine": {"kv_cache_dtype": "bf16", "kv_cache_memory": 1, "trust_remote_code": True},
        "packages": ["flash-attn", "vllm==0.5.4.post1"],
        "backend": "container",
        "health": {"timeout": 1},
        "gpus": {"count": 2},
    }
    found = vllm_spec_check(spec)
    assert [(one["severity"], one["key"]) for one in found] == [
        ("error", "packages.vllm"),
        ("error", "engine.kv_cache_dtype"),
        ("warning", "packages.flash-attn"),
        ("warning", "engine.kv_cache_memory"),
        ("note", "engine.trust_remote_code"),
    ]
    assert found[1] == {
        "severity": "error",
        "key": "engine.kv_cache_dtype",
        "message": "'bf16' is not a valid value",
        "remedy": "vLLM 0.11.0 and later accept 'bfloat16'; vLLM 0.10.2 accepts auto, fp8, fp8_e4m3, fp8_e5m2, fp8_inc",
    }


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("x", "vllm_spec_check: the server's spec must be a mapping; got str."),
        ({}, "vllm_spec_check: model is missing"),
        ({"model": "m", "prot": 1}, "vllm_spec_check: Unknown key 'prot'."),
    ],
)
def test_what_is_no_spec_is_told(spec: t.Any, sentence: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        vllm_spec_check(spec)
    assert sentence in str(caught.value)


def test_a_sound_spec_has_no_findings() -> None:
    assert vllm_spec_check({"model": "m", "image": "vllm/vllm-openai:v0.26.0", "engine": {"max_model_len": 1}}) == []


# --- the pages ------------------------------------------------------------------------------------------------------


def test_every_behaviour_of_a_version_has_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    import behaviours

    assert set(behaviours.TEXTS) == set(BEHAVIOURS)


@pytest.mark.parametrize("page", ["catalogue.md", "flags_by_version.md"])
def test_the_generated_pages_are_current(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    import docs

    assert (ROOT / "docs" / page).read_text("utf-8") == docs.PAGES[page](), "run tools/docs.py"
