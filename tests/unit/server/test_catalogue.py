# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The catalogue: each of its entries, the form that every model has, and how layers become a spec."""

from __future__ import annotations

import copy
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.hardware import class_names
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.arguments import argv
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import (
    COMMON_KEYS,
    merged,
    problems,
    process,
    resolve,
    version_of_packages,
    with_ray,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.check import RAY, check
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import CONTAINER, OWN_KEYS, SERVICE
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.failures import SIGNATURES

ROOT = Path(__file__).parents[3]
MODELS: dict[str, t.Any] = {
    path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "playbooks" / "models").glob("*.yml"))
}
ENTRIES = [(name, one) for name in MODELS for one in MODELS[name]["hardware"]]
# What the catalogue has been tried on or calculated for.
OF_EVERY_MODEL = {"gb10", "h100", "h200", "a100", "cpu"}


# --- the entries ----------------------------------------------------------------------------------------------------


def test_the_models_of_the_first_servers_are_there() -> None:
    assert set(MODELS) == {
        *("gpt-oss-20b", "gpt-oss-120b", "gpt-oss-20b-rollout"),
        *("gemma-3-27b", "gemma-3-27b-mxfp4"),
        *("qwen2.5-0.5b-instruct", "qwen3-8b-long-context"),
    }


@pytest.mark.parametrize("name", MODELS)
def test_an_entry_has_the_form_and_settings_for_hardware_that_there_is(name: str) -> None:
    assert problems(name, MODELS[name]) == []
    assert OF_EVERY_MODEL <= set(MODELS[name]["hardware"]) <= set(class_names())
    assert set(MODELS[name]["architecture"]) == {*COMMON_KEYS, "experts"}


@pytest.mark.parametrize(("name", "hardware_class"), ENTRIES)
def test_an_entry_starts_on_the_version_it_names(name: str, hardware_class: str) -> None:
    spec = resolve(name, MODELS[name], hardware_class)
    server = process(spec)
    assert server.vllm_version and server.huggingface_dir and spec["load_seconds"] > 0
    assert [str(finding) for finding in check(server) if finding.severity != "note"] == []


@pytest.mark.parametrize(("name", "hardware_class"), ENTRIES)
def test_what_is_tried_next_starts_too(name: str, hardware_class: str) -> None:
    for rung in resolve(name, MODELS[name], hardware_class).get("fallbacks", []):
        changed = resolve(name, MODELS[name], hardware_class, rung["change"])
        assert argv(process(changed)) != argv(process(resolve(name, MODELS[name], hardware_class)))
        assert set(rung["causes"]) <= {signature.id for signature in SIGNATURES}


@pytest.mark.parametrize("name", MODELS)
def test_a_gb10_gets_its_limits_in_so_many_words(name: str) -> None:
    """vLLM would take it for a large GPU, and its memory is the host's."""
    engine = resolve(name, MODELS[name], "gb10")["engine"]
    assert int(engine["max_num_batched_tokens"]) <= 2048 and int(engine["max_num_seqs"]) <= 16
    assert float(engine["gpu_memory_utilization"]) <= 0.9 and int(engine["max_model_len"]) <= 32768


@pytest.mark.parametrize("name", [name for name in MODELS if "gpt-oss" in name])
def test_gpt_oss_has_its_encodings(name: str) -> None:
    assert MODELS[name]["needs"]["encodings"] is True
    assert MODELS[name]["server"]["encodings_dir"] == "~/vllm/encodings"


@pytest.mark.parametrize("name", [name for name in MODELS if MODELS[name].get("needs", {}).get("token")])
def test_gated_weights_have_a_place_for_the_token(name: str) -> None:
    assert MODELS[name]["server"]["hf_token_file"]


def test_the_gb10_rules_hold_for_gpt_oss_120b() -> None:
    spec = resolve("gpt-oss-120b", MODELS["gpt-oss-120b"], "gb10")
    assert (spec["image"], spec["container_name"], spec["port"]) == (
        "nvcr.io/nvidia/vllm:25.09-py3",
        "vllm-gpt-oss",
        8000,
    )
    assert argv(process(spec)) == [
        "openai/gpt-oss-120b",
        *("--served-model-name", "gpt-oss-120b", "--port", "8000"),
        *("--gpu-memory-utilization", "0.85", "--max-model-len", "32768"),
        *("--max-num-batched-tokens", "2048", "--max-num-seqs", "8"),
        *("--quantization", "mxfp4"),
    ]


def test_the_gb10_rules_hold_for_gemma() -> None:
    spec = resolve("gemma-3-27b", MODELS["gemma-3-27b"], "gb10")
    assert (spec["image"], spec["container_name"], spec["served_model_name"]) == (
        "nvcr.io/nvidia/vllm:25.09-py3",
        "vllm-gemma3",
        "gemma-3-27b",
    )
    assert spec["engine"]["gpu_memory_utilization"] == 0.90 and spec["engine"]["max_model_len"] == 8192
    assert "encodings_dir" not in spec


def test_the_mxfp4_of_gemma_is_refused_in_the_image_of_the_rules() -> None:
    model = MODELS["gemma-3-27b-mxfp4"]
    assert resolve("g", model, "gb10")["engine"]["max_model_len"] == 32768
    with pytest.raises(VllmError) as caught:
        resolve("g", model, "gb10", {"image": "nvcr.io/nvidia/vllm:25.09-py3"})
    assert "'Mxfp4 linear layer is not implemented'" in str(caught.value)
    assert "image: g needs vLLM 0.30.0 or later, and nvcr.io/nvidia/vllm:25.09-py3 is 0.10.1.1" in str(caught.value)


# All but one for which NVIDIA's image alone is known to do.
WITH_PACKAGES = [(name, one) for name, one in ENTRIES if "venv" in MODELS[name]["hardware"][one]]


@pytest.mark.parametrize(("name", "hardware_class"), WITH_PACKAGES)
def test_an_entry_starts_as_a_service_too(name: str, hardware_class: str) -> None:
    spec = resolve(name, MODELS[name], hardware_class, backend=SERVICE)
    server = process(spec)
    assert (spec["backend"], server.vllm_version) == (SERVICE, version_of_packages(spec["venv"]["packages"]))
    assert not {*spec} & OWN_KEYS[CONTAINER]
    assert [str(finding) for finding in check(server) if finding.severity != "note"] == []


@pytest.mark.parametrize("name", MODELS)
def test_what_runs_a_new_server_is_usual_for_its_class(name: str) -> None:
    runs = {one: resolve(name, MODELS[name], one)["backend"] for one in MODELS[name]["hardware"]}
    services = dict.fromkeys(("h100", "h200", "a100"), SERVICE)
    assert runs == {**services, "gb10": CONTAINER, "cpu": CONTAINER}


def test_a_two_gpu_h100_host_serves_gpt_oss_20b_over_both() -> None:
    words = argv(process(resolve("gpt-oss-20b", MODELS["gpt-oss-20b"], "h100")))
    assert " ".join(words).endswith("--dtype bfloat16 --max-num-seqs 16 --tensor-parallel-size 2")


def test_the_long_context_profile_is_the_one_that_ran() -> None:
    words = " ".join(argv(process(resolve("l", MODELS["qwen3-8b-long-context"], "a100"))))
    for wanted in (
        *("--tensor-parallel-size 4", "--max-model-len 32768", "--gpu-memory-utilization 0.5", "--max-num-seqs 8"),
        *("--max-num-batched-tokens 4096", "--enforce-eager", "--enable-chunked-prefill"),
        "--distributed-executor-backend mp",
    ):
        assert wanted in words


@pytest.mark.parametrize("executor", ["mp", "ray"])
def test_the_long_context_profile_has_ray_where_it_may_need_it(executor: str) -> None:
    model = MODELS["qwen3-8b-long-context"]
    said = {"engine": {"distributed_executor_backend": executor}}
    assert resolve("l", model, "a100", said)["venv"]["packages"] == ["vllm==0.26.0", RAY]
    alone = {**said, "fallbacks": None}
    packages = resolve("l", model, "a100", alone)["venv"]["packages"]
    assert packages == (["vllm==0.26.0", RAY] if executor == "ray" else ["vllm==0.26.0"])


@pytest.mark.parametrize(
    ("spec", "packages"),
    [
        pytest.param(
            {"venv": {"packages": ["vllm==0.26.0", "ray==2.50.0"]}}, ["vllm==0.26.0", "ray==2.50.0"], id="has it"
        ),
        pytest.param({"venv": {"packages": ["vllm==0.17.1"]}}, ["vllm==0.17.1"], id="vLLM brings it"),
        pytest.param({"venv": {"packages": ["vllm==0.18.0"]}}, ["vllm==0.18.0", RAY], id="vLLM does not"),
        pytest.param({"venv": {}}, None, id="no packages"),
    ],
)
def test_ray_is_added_where_nobody_else_brings_it(spec: dict[str, t.Any], packages: list[str] | None) -> None:
    found = with_ray({**spec, "engine": {"distributed_executor_backend": "ray"}})
    assert found["venv"].get("packages") == packages


def test_a_directory_is_the_users_to_fill() -> None:
    spec = {"venv": "/opt/vllm", "engine": {"distributed_executor_backend": "ray"}}
    assert with_ray(spec) == spec


def test_few_requests_at_once_need_few_graphs() -> None:
    """vLLM captures 83 for this model, up to 1024 requests, whatever max_num_seqs is: 74 s of a cold start."""
    engine = resolve("g", MODELS["gpt-oss-20b"], "h100")["engine"]
    assert engine["max_num_seqs"] <= engine["compilation_config"]["max_cudagraph_capture_size"] <= 128


@pytest.mark.parametrize(("group", "eager"), [("gb10", False), ("h100", True), ("h200", False), ("a100", True)])
def test_a_rollout_server_has_graphs_where_nothing_speaks_against_them(group: str, eager: bool) -> None:
    """Without them one request gets a tenth of the tokens."""
    engine = resolve("r", MODELS["gpt-oss-20b-rollout"], group)["engine"]
    assert engine.get("enforce_eager", False) is eager
    assert engine["compilation_config"]["max_cudagraph_capture_size"] == engine["max_num_seqs"]


def eager_profiles() -> list[tuple[str, str]]:
    classes = [(name, group) for name, model in MODELS.items() for group in model["hardware"] if group != "cpu"]
    return [one for one in classes if resolve(*one[:1], MODELS[one[0]], one[1])["engine"].get("enforce_eager")]


@pytest.mark.parametrize(("name", "group"), [one for one in eager_profiles() if one[1] != "gb10"])
def test_a_profile_without_graphs_says_what_that_costs(name: str, group: str) -> None:
    notes = " ".join(MODELS[name]["hardware"][group]["notes"])
    assert "enforce_eager" in notes and "tokens" in notes


def test_a_rollout_server_can_take_weights_and_is_open_to_its_host_alone() -> None:
    spec = resolve("r", MODELS["gpt-oss-20b-rollout"], "h100")
    assert (spec["bind"], process(spec).network_mode, spec["env"]["VLLM_SERVER_DEV_MODE"]) == ("127.0.0.1", "host", 1)
    assert '--weight-transfer-config {"backend":"nccl"}' in " ".join(argv(process(spec)))
    for old in ({"backend": CONTAINER, "image": "vllm/vllm-openai:v0.11.0"}, {"venv": {"packages": ["vllm==0.11.0"]}}):
        with pytest.raises(VllmError, match="r needs vLLM 0.19.0 or later"):
            resolve("r", MODELS["gpt-oss-20b-rollout"], "h100", old)


# --- layers ---------------------------------------------------------------------------------------------------------

MODEL: dict[str, t.Any] = {
    "description": "A model.",
    "server": {"model": "org/m", "port": 9000, "env": {"A": "1"}, "engine": {"dtype": "auto"}},
    "needs": {"vllm": "0.8.5"},
    "architecture": dict.fromkeys(COMMON_KEYS, 1),
    "hardware": {
        "h100": {
            "image": "vllm/vllm-openai:v0.26.0",
            "engine": {"max_num_seqs": 4},
            "architecture": {"weights_gib": 2},
            "load_seconds": 60,
            "notes": ["A note."],
            "venv": {"packages": ["vllm==0.26.0"]},
        }
    },
}


def test_the_layers_of_a_model_become_one_spec() -> None:
    assert merged(MODEL, "h100", {}, "m") == {
        "name": "m",
        "model": "org/m",
        "port": 9000,
        "env": {"A": "1"},
        "backend": "systemd",
        "venv": {"packages": ["vllm==0.26.0"]},
        "engine": {"dtype": "auto", "max_num_seqs": 4},
        "architecture": {**dict.fromkeys(COMMON_KEYS, 1), "weights_gib": 2},
        "load_seconds": 60,
    }


@pytest.mark.parametrize(
    ("hardware", "overrides", "asked", "runs"),
    [
        ({}, {}, None, SERVICE),
        ({"venv": None}, {}, None, CONTAINER),
        ({"backend": CONTAINER}, {}, None, CONTAINER),
        ({}, {"backend": CONTAINER}, None, CONTAINER),
        ({}, {}, CONTAINER, CONTAINER),
        ({}, {"backend": SERVICE}, CONTAINER, SERVICE),
        ({"backend": CONTAINER}, {}, SERVICE, SERVICE),
    ],
    ids=[
        "by its class",
        "without packages",
        "as the model says",
        "as the user says",
        "that runs it",
        "over that",
        "both",
    ],
)
def test_what_runs_a_server(
    hardware: dict[str, t.Any], overrides: dict[str, t.Any], asked: str | None, runs: str
) -> None:
    classes = {"h100": {**MODEL["hardware"]["h100"], **hardware}}
    spec = merged({**MODEL, "hardware": classes}, "h100", overrides, "m", asked)
    assert (spec["backend"], "image" in spec, "venv" in spec) == (runs, runs == CONTAINER, runs == SERVICE)


def test_what_the_user_says_of_an_environment_is_added_to_the_packages_of_the_catalogue() -> None:
    venv = resolve("m", MODEL, "h100", {"venv": {"wheelhouse": "/srv/wheels"}})["venv"]
    assert venv == {"packages": ["vllm==0.26.0"], "wheelhouse": "/srv/wheels"}
    assert resolve("m", MODEL, "h100", {"venv": "/opt/vllm"})["venv"] == "/opt/vllm"


@pytest.mark.parametrize(
    ("overrides", "key", "value"),
    [
        ({"port": 1}, "port", 1),
        ({"name": "other"}, "name", "other"),
        ({"engine": {"dtype": "float16"}}, "engine", {"dtype": "float16", "max_num_seqs": 4}),
        ({"engine": {"dtype": None}}, "engine", {"dtype": None, "max_num_seqs": 4}),
        ({"env": {"B": "2"}}, "env", {"A": "1", "B": "2"}),
        ({"env": None}, "env", None),
        (
            {"architecture": {"head_dim": 3}},
            "architecture",
            {**dict.fromkeys(COMMON_KEYS, 1), "weights_gib": 2, "head_dim": 3},
        ),
        (
            {"fallbacks": [{"causes": ["cuda-oom"], "change": {"port": 1}}]},
            "fallbacks",
            [{"causes": ["cuda-oom"], "change": {"port": 1}}],
        ),
    ],
)
def test_what_the_user_says_comes_last(overrides: dict[str, t.Any], key: str, value: t.Any) -> None:
    before = copy.deepcopy(MODEL)
    assert resolve("m", MODEL, "h100", overrides).get(key) == value
    assert before == MODEL


def test_a_wish_for_a_number_of_gpus_is_passed_on() -> None:
    assert resolve("m", MODEL, "h100", {"gpus": {"count": 2}})["gpus"] == {"count": 2}


@pytest.mark.parametrize(
    ("hardware_class", "overrides", "sentence"),
    [
        ("a100", {}, "m has no settings for 'a100'. It has settings for: h100. Put the host into the group of its"),
        ("l40s", {}, "m has no settings for 'l40s'. It has settings for: h100."),
        ("", {}, "m has no settings for a host of unknown class. It has settings for: h100."),
        ("h100", {"prot": 1}, "Unknown key 'overrides.prot'. Valid keys: allow_daemon_reload, allow_unauthenticated,"),
        ("h100", {"port": "x"}, "port must be a whole number; got 'x'."),
        ("h100", {"engine": {"attn_impl": 1}}, "m on h100: engine.attn_impl: vLLM 0.26.0 has no --attn-impl"),
        (
            "h100",
            {"backend": CONTAINER, "image": "vllm/vllm-openai:v0.8.4"},
            "image: m needs vLLM 0.8.5 or later, and vllm/vllm-openai:v0.8.4",
        ),
        (
            "h100",
            {"venv": {"packages": ["vllm==0.8.4"]}},
            "venv: m needs vLLM 0.8.5 or later, and its environment is 0.8.4",
        ),
        ("h100", {"image": "i:1"}, "Unknown key 'overrides.image' for a server with backend systemd"),
        ("h100", {"validation": "strict", "env": {"VLLM_RPC_TIMEOUT": 1}}, "vLLM 0.26.0 does not read it"),
    ],
)
def test_what_cannot_be_made_is_told(hardware_class: str, overrides: dict[str, t.Any], sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        resolve("m", MODEL, hardware_class, overrides)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "overrides",
    [
        {"validation": "permissive", "engine": {"attn_impl": 1}},
        {"engine_unchecked": {"attn_impl": 1}},
        {"image": "example.com/fork:latest", "engine": {"attn_impl": 1}},
        {"image": "vllm/vllm-openai:v0.99.0", "engine": {"brand_new": 1}},
    ],
)
def test_what_the_user_insists_on_is_passed_on(overrides: dict[str, t.Any]) -> None:
    assert resolve("m", MODEL, "h100", overrides, CONTAINER)["image"]


def test_a_model_that_needs_encodings_wants_a_place_for_them() -> None:
    model = {**MODEL, "needs": {"encodings": True}}
    assert resolve("m", model, "h100")
    with pytest.raises(VllmError, match="encodings_dir: this version fetches the encodings from the internet"):
        resolve("m", model, "h100", {"validation": "strict"})
    assert resolve("m", model, "h100", {"validation": "strict", "encodings_dir": "/e"})
    assert resolve("m", model, "h100", {"validation": "strict", "venv": {"packages": ["vllm==0.31.0"]}})


# --- the form -------------------------------------------------------------------------------------------------------


def changed(path: str, value: t.Any) -> dict[str, t.Any]:
    """The model with another value at that address; a path to nowhere adds a key."""
    model = copy.deepcopy(MODEL)
    *way, last = path.split(".")
    inner = model
    for key in way:
        inner = inner[key]
    inner[last] = value
    return model


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("description", None, "m.description is missing."),
        ("description", 7, "m.description must be a text; got 7."),
        ("server", None, "m.server is missing."),
        ("server", [], "m.server must be a mapping; got []."),
        ("server.model", None, "m.server.model is missing."),
        ("server.modle", "x", "Unknown key 'm.server.modle'. Valid keys:"),
        ("hardware", {}, "m.hardware must be a mapping; got {}."),
        ("hardware.h100", "x", "m.hardware.h100 must be a mapping of what this hardware changes; got 'x'."),
        ("hardware.h100.imgae", "x", "Unknown key 'm.hardware.h100.imgae'. Valid keys:"),
        ("hardware.h100.load_seconds", "long", "m.hardware.h100.load_seconds must be a whole number; got 'long'."),
        ("hardware.h100.load_seconds", True, "m.hardware.h100.load_seconds must be a whole number; got True."),
        ("hardware.h100.notes", "x", "m.hardware.h100.notes must be a list of texts; got 'x'."),
        ("hardware.h100.venv", [], "m.hardware.h100.venv must be a mapping with the keys constraints, cuda_check, "),
        ("hardware.h100.venv", {"packages": "x"}, "m.hardware.h100.venv.packages must be a list of texts; got 'x'."),
        ("hardware.h100.venv", {"package": []}, "Unknown key 'm.hardware.h100.venv.package'. Valid keys:"),
        (
            "hardware.h100.venv",
            {"packages": ["vllm==0.5.4.post1"]},
            "m.hardware.h100.venv.packages.vllm: vLLM 0.5.4.post1 was never released",
        ),
        ("hardware.h100.architecture", {"weights_gib": "x"}, "architecture.weights_gib must be a number; got 'x'."),
        ("hardware.h100.architecture", {"layers": 1}, "Unknown key 'm.hardware.h100.architecture.layers'. Valid keys:"),
        ("hardware.h100.fallbacks", {}, "m.hardware.h100.fallbacks must be a list of what to try next; got {}."),
        (
            "hardware.h100.fallbacks",
            ["x"],
            "fallbacks[0] must be a mapping with the keys because, causes, change; got 'x'.",
        ),
        ("hardware.h100.fallbacks", [{"causes": ["a"]}], "m.hardware.h100.fallbacks[0].change is missing."),
        (
            "hardware.h100.fallbacks",
            [{"causes": ["a"], "change": {"engin": 1}}],
            "Unknown key 'm.hardware.h100.fallbacks[0].change.engin'. Valid keys:",
        ),
        ("needs", [], "m.needs must be a mapping with the keys encodings, token, vllm; got []."),
        ("needs.vllm", 0.8, 'm.needs.vllm must be a version in quotes, such as "0.10.1"; got 0.8.'),
        ("needs.token", "yes", "m.needs.token must be true or false; got 'yes'."),
        ("architecture.head_dim", -1, "m.architecture.head_dim must be a whole number; got -1."),
        ("architecture", {"head_dim": 1, "weights_gib": 2}, "m.architecture.layers_full is missing."),
        ("architecture", {"head_dim": 1}, "m.architecture.layers_full is missing."),
        ("architecture.experts", "many", "m.architecture.experts must be a whole number; got 'many'."),
        (
            "profile",
            {},
            "Unknown key 'm.profile'. Valid keys: architecture, description, hardware, needs, server.",
        ),
    ],
)
def test_a_wrong_form_is_told_with_its_address(path: str, value: t.Any, problem: str) -> None:
    found = problems("m", changed(path, value))
    assert problem in " ".join(found)
    with pytest.raises(VllmError):
        resolve("m", changed(path, value), "h100")


@pytest.mark.parametrize("model", [None, "x", [], 7])
def test_what_is_no_model(model: t.Any) -> None:
    assert problems("m", model) == [
        f"m must be a mapping with the keys architecture, description, hardware, needs, server; got {model!r}."
    ]


def test_a_model_of_the_user_may_be_short() -> None:
    short = {"description": "x", "server": {"model": "a/b"}, "hardware": {"b200": {"image": "i"}}}
    assert problems("m", short) == []
    assert resolve("m", short, "b200") == {"name": "m", "model": "a/b", "backend": "container", "image": "i"}
