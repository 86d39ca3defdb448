# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters vllm_fit and vllm_kv_capacity: from templates, with the numbers of the catalogue."""

from __future__ import annotations

import typing as t

import gpu_hosts
import pytest
from ansible.errors import AnsibleFilterError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_fit import vllm_fit
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_kv_capacity import vllm_kv_capacity

KEYS = {"verdict", "kv_tokens_min", "kv_tokens_max", "budget_mib", "free_mib", "reasons", "suggestions"}
SERVER: dict[str, t.Any] = {
    "model": "openai/gpt-oss-20b",
    "image": "vllm/vllm-openai:v0.26.0",
    "backend": "container",
    "health": {"timeout": 60},
    "engine": {"gpu_memory_utilization": 0.85, "max_model_len": 32768},
}
LLAMA = {"layers_full": 32, "layers_sliding": 0, "sliding_window": 0, "num_key_value_heads": 8, "head_dim": 128}
# The same free memory with and without what a neighbour holds.
FREE, HELD = 143155, 63866


@pytest.fixture
def h200(tmp_path: t.Any) -> dict[str, t.Any]:
    return gpu_hosts.facts(tmp_path, gpu_hosts.load("h200x1_idle"))


@pytest.fixture
def a100(tmp_path: t.Any) -> dict[str, t.Any]:
    return gpu_hosts.facts(tmp_path, gpu_hosts.load("a100-shared"))


def test_the_result_is_the_contracts(h200: dict[str, t.Any]) -> None:
    judged = vllm_fit(SERVER, h200)
    assert set(judged) == KEYS
    assert (judged["verdict"], judged["free_mib"], judged["suggestions"]) == ("ok", 143156, {})
    assert judged["kv_tokens_min"] < 2965722 < judged["kv_tokens_max"]


def test_a_template_gets_sentences_and_numbers(h200: dict[str, t.Any]) -> None:
    h200["gpus"][0].update(memory_free_mib=HELD, memory_used_mib=FREE - HELD)
    variables = {"server": SERVER, "ansible_facts": {"gpufleet": h200}}
    templar = Templar(loader=DataLoader(), variables=variables)
    asked = "{{ server | gpufleet.vllm.vllm_fit(ansible_facts.gpufleet, host_reserve_mib='4096') }}"
    judged = templar.template(trust_as_template(asked))
    assert judged["suggestions"] == {"gpu_memory_utilization": 0.44}
    assert judged["reasons"][0].startswith("GPU 0 has 62.4 of 139.8 GiB free, and gpu_memory_utilization 0.85 asks for")


def test_the_suggestions_are_keys_of_the_engine(h200: dict[str, t.Any]) -> None:
    h200["gpus"][0].update(memory_free_mib=HELD, memory_used_mib=FREE - HELD)
    judged = vllm_fit(SERVER, h200)
    changed = {**SERVER, "engine": {**SERVER["engine"], **judged["suggestions"]}}
    assert (judged["verdict"], vllm_fit(changed, h200)["verdict"]) == ("refuse", "ok")


def test_what_comes_back_counts_as_free(h200: dict[str, t.Any]) -> None:
    h200["gpus"][0].update(memory_free_mib=HELD, memory_used_mib=FREE - HELD)
    assert vllm_fit(SERVER, h200, returning={h200["gpus"][0]["uuid"]: 79000})["verdict"] == "ok"


def test_what_was_measured_is_used(h200: dict[str, t.Any]) -> None:
    judged = vllm_fit(SERVER, h200, measured={"kv_gib": 102.12, "weights_gib": None})
    assert judged["kv_tokens_min"] == judged["kv_tokens_max"] == pytest.approx(2965722, rel=0.001)


@pytest.mark.parametrize(
    ("server", "options", "is_known"),
    [
        ({"model": "openai/gpt-oss-20b"}, {}, True),
        ({"model": "/models/gpt-oss-20b"}, {}, False),
        ({"model": "/models/llama", "architecture": {**LLAMA, "weights_gib": 15}}, {}, True),
        ({"model": "/models/llama"}, {"architecture": {**LLAMA, "weights_gib": 15}}, True),
        ({"model": "/models/llama", "architecture": LLAMA}, {}, False),
    ],
    ids=["catalogue", "unknown", "the spec's own", "given", "without weights"],
)
def test_where_the_numbers_of_the_model_come_from(
    server: dict[str, t.Any], options: dict[str, t.Any], is_known: bool, h200: dict[str, t.Any]
) -> None:
    assert (vllm_fit(server, h200, **options)["kv_tokens_min"] is not None) is is_known


def test_the_catalogues_weights_are_those_of_the_hosts_class(h200: dict[str, t.Any]) -> None:
    assert " 13.4 GiB of weights" in vllm_fit(SERVER, h200)["reasons"][0]
    assert " 13.9 GiB of weights" in vllm_fit(SERVER, {**h200, "hardware_class": "h100"})["reasons"][0]


@pytest.mark.parametrize(
    ("gpus", "verdict", "sentence"),
    [
        ("all", "refuse", "GPU 0 has 43.4 of 79.4 GiB free"),
        ("all", "refuse", f"or name GPU 1 ({gpu_hosts.uuid(1)}) in gpus, which has 76.6 GiB free, or free the GPU"),
        ({"count": 1, "min_free_mib": 70000}, "ok", ""),
        ({"count": 1, "min_free": "70000"}, "ok", ""),
        ({"count": 9}, "refuse", "Cannot select 9 GPUs on this host: 8 of 8 can be taken."),
    ],
    ids=["all takes the first", "there is a free one", "a wish", "a wish as text", "too many"],
)
def test_gpus_that_are_wished_for_are_selected(
    gpus: t.Any, verdict: str, sentence: str, a100: dict[str, t.Any]
) -> None:
    judged = vllm_fit({**SERVER, "gpus": gpus}, a100)
    assert judged["verdict"] == verdict, judged
    assert sentence in " ".join(judged["reasons"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("x", {}), "vllm_fit: the server's spec must be a mapping; got str."),
        ((SERVER, None), "vllm_fit: facts must be a mapping; got NoneType."),
        ((SERVER, {}, "x"), "vllm_fit: architecture must be a mapping; got str."),
        ((SERVER, {}, None, []), "vllm_fit: returning must be a mapping; got list."),
        ((SERVER, {}, None, {"GPU-1": "much"}), "vllm_fit: returning.GPU-1 must be a number of MiB; got 'much'."),
        ((SERVER, {}, None, None, None, -1), "vllm_fit: host_reserve_mib must be a number of MiB; got -1."),
        ((SERVER, {}, {"layers_full": 1}), "vllm_fit: architecture.layers_sliding is missing."),
        (({**SERVER, "prot": 1}, {}), "vllm_fit: Unknown key 'prot'."),
        (({**SERVER, "gpus": {"count": "many"}}, {}), "vllm_fit: gpus: count and min_free_mib must be whole numbers"),
        (({**SERVER, "engine": {"max_model_len": "x"}}, {}), "vllm_fit: engine.max_model_len must be a number such as"),
    ],
)
def test_a_mistake_is_told(arguments: tuple[t.Any, ...], sentence: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        vllm_fit(*arguments)
    assert sentence in str(caught.value)


# --- vllm_kv_capacity -----------------------------------------------------------------------------------------------


def test_capacity_is_what_vllm_printed() -> None:
    assert vllm_kv_capacity(SERVER, kv_gib=60) == {"tokens": 1742521, "concurrency": 53.18}
    assert vllm_kv_capacity(SERVER, kv_gib="60.0") == {"tokens": 1742521, "concurrency": 53.18}


def test_capacity_from_a_template() -> None:
    templar = Templar(loader=DataLoader(), variables={"server": SERVER})
    asked = trust_as_template("{{ (server | gpufleet.vllm.vllm_kv_capacity(kv_gib=60)).tokens }}")
    assert templar.template(asked) == 1742521


def test_the_default_batch_is_that_of_the_gpu(a100: dict[str, t.Any]) -> None:
    small = vllm_kv_capacity(SERVER, 60, gpu=a100["gpus"][0])
    said = {**SERVER, "engine": {**SERVER["engine"], "max_num_batched_tokens": 2048}}
    assert small == vllm_kv_capacity(said, 60) != vllm_kv_capacity(SERVER, 60)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("x", 1), "vllm_kv_capacity: the server's spec must be a mapping; got str."),
        ((None, 1), "vllm_kv_capacity: the server's spec must be a mapping; got NoneType."),
        ((SERVER, 1, []), "vllm_kv_capacity: architecture must be a mapping; got list."),
        ((SERVER, "much"), "vllm_kv_capacity: kv_gib must be a number of GiB; got 'much'."),
        ((SERVER, -1), "vllm_kv_capacity: kv_gib must be a number of GiB; got -1."),
        (({"model": "a/b"}, 1), "the catalogue does not have 'a/b': give its architecture (layers_full, "),
        (
            ({**SERVER, "engine": {"kv_cache_dtype": "turboquant_4bit"}}, 1),
            "engine.kv_cache_dtype must be auto, bfloat16",
        ),
    ],
)
def test_a_mistake_about_capacity_is_told(arguments: tuple[t.Any, ...], sentence: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        vllm_kv_capacity(*arguments)
    assert sentence in str(caught.value)
