# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which release knows what, from registries; and the weights of models, counted from the shapes that they describe."""

from __future__ import annotations

import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architectures import ARCHITECTURES, READ, TYPES
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.families import FAMILIES, family_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.versions import choice_life, parse
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import published

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "tools"))

import published_models  # noqa: E402
import vllm_architectures  # noqa: E402

REGISTRY = """
_TEXT_GENERATION_MODELS = {"A": ("a", "A"), "B": ("b", "B")}
_EMBEDDING_MODELS: dict = {"B": ("b", "B"), **_OTHERS}
_SPECULATIVE_DECODING_MODELS = {"C": ("c", "C")}
_VLLM_MODELS = {**_TEXT_GENERATION_MODELS}
"""


def test_a_registry_tells_what_is_served_and_how() -> None:
    assert vllm_architectures.known(REGISTRY) == {"A": "g", "B": "gp"}


@pytest.mark.parametrize(
    ("having", "ranges"),
    [
        (["1.0", "1.1", "1.2"], "1.0.."),
        (["1.1", "1.2"], "1.1.."),
        (["1.0", "1.1"], "1.0..1.1"),
        (["1.0", "1.2"], "1.0..1.0,1.2.."),
    ],
)
def test_releases_are_written_as_ranges(having: list[str], ranges: str) -> None:
    assert vllm_architectures.ranges_of(having, ["1.0", "1.1", "1.2"]) == ranges


@pytest.mark.parametrize(
    ("name", "first", "kinds"),
    [
        ("GptOssForCausalLM", "0.10.1", "g"),
        ("Qwen3NextForCausalLM", "0.10.2", "g"),
        ("Gemma4ForConditionalGeneration", "0.19.0", "g"),
        ("BertModel", "0.8.5", "p"),
    ],
)
def test_the_table_says_what_is_known_of_some(name: str, first: str, kinds: str) -> None:
    assert ARCHITECTURES[name] == (f"{first}..", kinds)


def test_the_table_is_of_releases_that_exist() -> None:
    assert [*READ] == sorted(READ, key=parse)
    ends = {end for ranges, _kinds in ARCHITECTURES.values() for run in ranges.split(",") for end in run.split("..")}
    assert ends - {""} <= set(READ)
    assert {"qwen3", "kimi_k2", "deepseek_v3"} <= set(TYPES)


def test_every_parser_of_a_family_is_one_of_vllm() -> None:
    for family in FAMILIES:
        for flag in ("reasoning_parser", "tool_call_parser"):
            name = getattr(family, flag)
            assert not name or choice_life(flag, name), f"{family.name}: {name}"


def test_the_first_row_that_fits_is_the_family() -> None:
    rows = {
        "Qwen/Qwen3-Coder-30B": "Qwen3-Coder",
        "/srv/Qwen3-8B/": "Qwen3",
        "a/Qwen3-4B-Instruct-2507": "Qwen3 Instruct",
    }
    for model, family in rows.items():
        found = family_of("Qwen3ForCausalLM", model)
        assert found is not None and found.name == family
    assert family_of("NobodyForCausalLM", "a/b") is None
    assert family_of("Mistral3ForConditionalGeneration", "a/b") is None


# What the makers of the models say, in billions.
@pytest.mark.parametrize(
    ("model", "billions"),
    [
        ("Qwen/Qwen3-32B", 32.76),
        ("Qwen/Qwen3-235B-A22B", 235.09),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 480.15),
        ("meta-llama/Llama-3.1-8B-Instruct", 8.03),
        ("meta-llama/Meta-Llama-3.1-405B", 405.85),
        ("mistralai/Mixtral-8x7B-v0.1", 46.70),
        ("mistralai/Mixtral-8x22B-v0.1", 140.62),
        ("deepseek-ai/DeepSeek-R1", 671.03),
        ("moonshotai/Kimi-K2-Instruct", 1026.41),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 31.58),
        ("openai/gpt-oss-120b", 116.8),
    ],
)
def test_the_count_of_parameters_is_the_published_one(model: str, billions: float) -> None:
    assert published()[model]["parameters"] / 1e9 == pytest.approx(billions, rel=0.005)


@pytest.mark.parametrize(
    ("config", "size"),
    [
        ({}, 2 * (8 * 4 * 2 + 4 * 2 * 6 + 3 * 4 * 8)),
        ({"torch_dtype": "float32"}, 4 * (8 * 4 * 2 + 4 * 2 * 6 + 3 * 4 * 8)),
        ({"tie_word_embeddings": True}, 2 * (8 * 4 + 4 * 2 * 6 + 3 * 4 * 8)),
        ({"quantization_config": {"quant_method": "fp8"}}, 2 * 8 * 4 * 2 + 4 * 2 * 6 + 3 * 4 * 8),
    ],
)
def test_the_bytes_of_weights(config: dict[str, t.Any], size: int) -> None:
    shapes = {
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 2,
        "hidden_size": 4,
        "intermediate_size": 8,
        "vocab_size": 8,
    }
    assert published_models.weights_bytes({**shapes, **config}) == size


def test_what_is_listed_has_its_source_and_its_date() -> None:
    assert len(published()) >= 30
    assert all(row["source"] and row["date"] and row["config"]["architectures"] for row in published().values())
