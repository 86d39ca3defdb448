# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files of a repository are fetched: what one server reads, and nothing twice."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.selection import Wish, choose, quantization_of

INDEX = "model.safetensors.index.json"
SHARDS = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
DESCRIBED = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
GPT_OSS = [
    *DESCRIBED,
    "chat_template.jinja",
    INDEX,
    *SHARDS,
    "README.md",
    "LICENSE",
    "USAGE_POLICY",
    ".gitattributes",
    "dtypes.json",
    "original/config.json",
    "original/dtypes.json",
    "original/model--00001-of-00007.safetensors",
    "metal/model.bin",
]
GGUF = ["m-Q4_K_M.gguf", "m-Q8_0.gguf", "m-BF16-00001-of-00002.gguf", "m-BF16-00002-of-00002.gguf", "mmproj-F16.gguf"]


def chosen(names: t.Sequence[str], shards: t.Sequence[str] = (), **said: t.Any) -> set[str]:
    index = {"weight_map": {str(number): name for number, name in enumerate(shards)}} if shards else None
    return set(choose(Wish("org/m", **said), names, index))


@pytest.mark.parametrize(
    ("names", "shards", "said", "expected"),
    [
        pytest.param(
            GPT_OSS,
            SHARDS,
            {},
            {*DESCRIBED, "chat_template.jinja", "dtypes.json", "LICENSE", INDEX, *SHARDS},
            id="what the index names, and no other copy",
        ),
        pytest.param(GPT_OSS, SHARDS[:2], {}, {"config.json", INDEX, *SHARDS[:2]}, id="no shard that the index omits"),
        pytest.param(["config.json", "model.safetensors"], (), {}, {"config.json", "model.safetensors"}, id="one file"),
        pytest.param(
            ["config.json", "model.safetensors", "pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5"],
            (),
            {},
            {"config.json", "model.safetensors"},
            id="safetensors before pickles, without the index of those",
        ),
        pytest.param(
            ["config.json", "pytorch_model.bin"], (), {}, {"config.json", "pytorch_model.bin"}, id="pickles alone"
        ),
        pytest.param(
            ["params.json", "consolidated.safetensors", "model.safetensors", "tekken.json"],
            (),
            {"format": "mistral"},
            {"params.json", "consolidated.safetensors", "tekken.json"},
            id="Mistral's own format when it is asked for",
        ),
        pytest.param(
            ["params.json", "config.json", "consolidated.safetensors", "model.safetensors"],
            (),
            {},
            {"params.json", "config.json", "model.safetensors"},
            id="that of transformers otherwise",
        ),
        pytest.param(
            ["config.json", "model.safetensors", "modeling_m.py", "sub/code.py"],
            (),
            {"custom_code": True},
            {"config.json", "model.safetensors", "modeling_m.py", "sub/code.py"},
            id="code when it is asked for",
        ),
        pytest.param(
            ["config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"],
            (),
            {},
            {"config.json", "model.safetensors", "modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"},
            id="the parts of a model for embeddings",
        ),
        pytest.param(
            ["config.json", "model.safetensors", "chat_templates/tool.jinja", "assets/a.jinja", "onnx/config.json"],
            (),
            {},
            {"config.json", "model.safetensors", "chat_templates/tool.jinja"},
            id="chat templates in their folder",
        ),
        pytest.param(
            ["config.json", "model.safetensors", "original/a.pth", "original/b.json"],
            (),
            {"include": ("original/*.pth",)},
            {"config.json", "model.safetensors", "original/a.pth"},
            id="what a pattern names",
        ),
        pytest.param(GGUF, (), {"quantization": "q4_k_m"}, {"m-Q4_K_M.gguf"}, id="one quantization, in any case"),
        pytest.param(GGUF, (), {"quantization": "BF16"}, set(GGUF[2:4]), id="a quantization in pieces"),
        pytest.param(["m-Q8_0.gguf", "mmproj-F16.gguf"], (), {}, {"m-Q8_0.gguf"}, id="the only quantization"),
        pytest.param(
            ["config.json", "model.safetensors", "m-Q8_0.gguf"],
            (),
            {"quantization": "Q8_0"},
            {"config.json", "m-Q8_0.gguf"},
            id="a quantization in a repository of safetensors",
        ),
    ],
)
def test_what_a_server_reads_is_chosen(
    names: t.Sequence[str], shards: t.Sequence[str], said: dict[str, t.Any], expected: set[str]
) -> None:
    found = chosen(names, shards, **said)
    assert found >= expected
    assert found <= expected | set(DESCRIBED) | {"chat_template.jinja", "dtypes.json", "LICENSE"}


@pytest.mark.parametrize(
    ("names", "said", "words"),
    [
        pytest.param(
            GGUF, {}, "it has BF16, Q4_K_M, Q8_0. Name one after the model, as vLLM does: org/m:BF16", id="many"
        ),
        pytest.param(GGUF, {"quantization": "Q2_K"}, "Cannot find quantization Q2_K of org/m: it has", id="none such"),
        pytest.param(["a.gguf"], {"quantization": "Q2_K"}, "its files name none", id="no quantization told"),
        pytest.param(["README.md"], {}, "no weights of the kind safetensors or mistral or pytorch or gguf", id="none"),
        pytest.param(["original/m.safetensors"], {}, "outside of subfolders", id="weights in a folder alone"),
        pytest.param(
            ["model.safetensors"], {"format": "mistral"}, "no weights of the kind mistral", id="another format"
        ),
        pytest.param([INDEX, SHARDS[0]], {}, "names no files in a weight_map", id="an index that cannot be read"),
    ],
)
def test_what_cannot_be_chosen_is_a_sentence(names: t.Sequence[str], said: dict[str, t.Any], words: str) -> None:
    with pytest.raises(VllmError) as caught:
        chosen(names, **said)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "quantization"),
    [
        ("Qwen3-8B-Q4_K_M.gguf", "Q4_K_M"),
        ("model-IQ2_XXS-00001-of-00003.gguf", "IQ2_XXS"),
        ("gemma-3-27b-it-q4_0.gguf", "Q4_0"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("ggml-model-f16.gguf", "F16"),
        ("model.gguf", ""),
        ("Q-model.gguf", ""),
    ],
)
def test_the_name_of_a_file_tells_its_quantization(name: str, quantization: str) -> None:
    assert quantization_of(name) == quantization
