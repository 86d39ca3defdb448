# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of a spec on the command line of C(vllm serve)."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.arguments import argv
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ServerSpec, from_params

MODEL = "openai/gpt-oss-120b"


def spec(**said: t.Any) -> ServerSpec:
    return from_params({"model": MODEL, "name": "gpt-oss", "image": "vllm:1", **said})


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        pytest.param({"enforce_eager": True}, ["--enforce-eager"], id="true is the flag"),
        pytest.param({"enable_prefix_caching": False}, ["--no-enable-prefix-caching"], id="false is the negated flag"),
        pytest.param(
            {"no_enable_prefix_caching": True}, ["--no-enable-prefix-caching"], id="a negated flag by its name"
        ),
        pytest.param({"disable_log_stats": True}, ["--disable-log-stats"], id="a flag without a negation, true"),
        pytest.param({"disable_log_stats": False}, [], id="a flag without a negation, false"),
        pytest.param(
            {"attention_config.flash_attn_version": 3},
            ["--attention-config.flash_attn_version", "3"],
            id="a part of a flag that takes JSON",
        ),
        pytest.param({"enforce_eager": "true"}, ["--enforce-eager"], id="a quoted true is a boolean"),
        pytest.param({"enforce_eager": "False"}, ["--no-enforce-eager"], id="a quoted False is a boolean"),
        pytest.param({"max_model_len": 32768}, ["--max-model-len", "32768"], id="an integer"),
        pytest.param({"max_model_len": -1}, ["--max-model-len", "-1"], id="a negative integer"),
        pytest.param({"gpu_memory_utilization": 0.85}, ["--gpu-memory-utilization", "0.85"], id="a fraction"),
        pytest.param({"quantization": "mxfp4"}, ["--quantization", "mxfp4"], id="a word"),
        pytest.param(
            {"chat_template": "{{ a b }}"}, ["--chat-template", "{{ a b }}"], id="a value with blanks is one word"
        ),
        pytest.param({"quantization": None}, [], id="null leaves the flag out"),
        pytest.param({"cudagraph_capture_sizes": [1, 2, 4]}, ["--cudagraph-capture-sizes", "1", "2", "4"], id="a list"),
        pytest.param({"cudagraph_capture_sizes": []}, [], id="an empty list leaves the flag out"),
        pytest.param({"x": [True, {"b": 1}]}, ["--x", "true", '{"b":1}'], id="a list of what is no word"),
        pytest.param(
            {"compilation_config": {"mode": 3, "custom_ops": ["all"]}},
            ["--compilation-config", '{"custom_ops":["all"],"mode":3}'],
            id="a mapping is JSON with sorted keys",
        ),
        pytest.param(
            {"compilation_config": '{"mode": 3}'},
            ["--compilation-config", '{"mode": 3}'],
            id="JSON as text stays as it is",
        ),
        pytest.param(
            {"hf_overrides": {"a": None, "b": True}}, ["--hf-overrides", '{"a":null,"b":true}'], id="null in JSON"
        ),
        pytest.param({"allowed_origins": ["*"]}, ["--allowed-origins", '["*"]'], id="a list that vLLM reads as JSON"),
        pytest.param({"allowed_origins": '["*"]'}, ["--allowed-origins", '["*"]'], id="such a list as text"),
        pytest.param(
            {"middleware": ["a.b", "c.d"]}, ["--middleware", "a.b", "--middleware", "c.d"], id="a repeated flag"
        ),
        pytest.param({"max-model-len": 1}, ["--max-model-len", "1"], id="a key with hyphens"),
        pytest.param({"--max-model-len": 1}, ["--max-model-len", "1"], id="a key as on the command line"),
        pytest.param({"b": 1, "a": 2}, ["--a", "2", "--b", "1"], id="flags are sorted"),
        pytest.param({"model_name": "ünïcode"}, ["--model-name", "ünïcode"], id="text outside ASCII"),
    ],
)
def test_engine_options_become_arguments(engine: dict[str, t.Any], words: list[str]) -> None:
    assert argv(spec(engine=engine)) == [MODEL, "--served-model-name", MODEL, "--port", "8000", *words]


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"served_model_name": "gpt"}, [MODEL, "--served-model-name", "gpt", "--port", "8000"]),
        (
            {"served_model_name": ["gpt", "gpt-4"]},
            [MODEL, "--served-model-name", "gpt", "gpt-4", "--port", "8000"],
        ),
        ({"served_model_name": ("gpt",)}, [MODEL, "--served-model-name", "gpt", "--port", "8000"]),
        ({"served_model_name": []}, [MODEL, "--served-model-name", MODEL, "--port", "8000"]),
        ({"served_model_name": 7}, [MODEL, "--served-model-name", "7", "--port", "8000"]),
        ({"port": 8001}, [MODEL, "--served-model-name", MODEL, "--port", "8001"]),
        ({"bind": "::1"}, [MODEL, "--served-model-name", MODEL, "--port", "8000"]),
        (
            {"network_mode": "host"},
            [MODEL, "--served-model-name", MODEL, "--port", "8000", "--host", "127.0.0.1"],
        ),
        (
            {"network_mode": "host", "bind": "0.0.0.0", "allow_unauthenticated": True},
            [MODEL, "--served-model-name", MODEL, "--port", "8000", "--host", "0.0.0.0"],
        ),
        ({"model": "/models/gemma"}, ["/models/gemma", "--served-model-name", "/models/gemma", "--port", "8000"]),
    ],
)
def test_keys_of_the_server_become_arguments(said: dict[str, t.Any], words: list[str]) -> None:
    assert argv(spec(**said)) == words


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"vllm_version": "0.10.0", "engine": {"disable_log_requests": False}}, []),
        ({"vllm_version": "0.10.1", "engine": {"disable_log_requests": False}}, ["--no-disable-log-requests"]),
        ({"vllm_version": "0.7.3", "engine": {"enable_chunked_prefill": False}}, ["--enable-chunked-prefill", "false"]),
        ({"vllm_version": "0.8.5", "engine": {"enable_chunked_prefill": False}}, ["--no-enable-chunked-prefill"]),
        ({"image": "vllm/vllm-openai:v0.9.2", "engine": {"allow_credentials": False}}, []),
        (
            {
                "image": "lmcache/vllm-openai:v0.5.4",
                "engine": {"enable_prefix_caching": False, "async_scheduling": False},
            },
            ["--no-async-scheduling", "--no-enable-prefix-caching"],
        ),
        ({"image": "team/vllm:0.5.5", "engine": {"enable_prefix_caching": False}}, ["--no-enable-prefix-caching"]),
        ({"engine_unchecked": {"mxfp4_backend": "CUTLASS"}}, ["--mxfp4-backend", "CUTLASS"]),
        ({"engine": {"b": 1}, "engine_unchecked": {"a": True, "c": [1]}}, ["--a", "--b", "1", "--c", "1"]),
    ],
)
def test_options_are_written_as_the_version_takes_them(said: dict[str, t.Any], words: list[str]) -> None:
    assert argv(spec(**said))[5:] == words
