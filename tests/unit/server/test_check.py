# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said about a spec: every flag of the project's first four servers in every version, and each kind of slip."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.check import (
    Finding,
    check,
    check_packages,
    judge,
    spoken,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import from_params
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.flags import VERSIONS
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.versions import parse, within

GPT_OSS, GEMMA, QWEN = "openai/gpt-oss-20b", "google/gemma-3-27b-it", "Qwen/Qwen2.5-0.5B-Instruct"
# Every release from 0.8.5 on that was read.
SINCE_085 = [version for version in VERSIONS if parse(version) >= (0, 8, 5)]


def findings(version: str | None, model: str = QWEN, **said: t.Any) -> list[Finding]:
    return check(from_params({"model": model, "name": "a", "image": "i", "vllm_version": version, **said}))


def about(key: str, found: list[Finding]) -> list[str]:
    return [finding.severity for finding in found if finding.key == key]


# --- the flags and variables of the first four servers, in every version --------------------------------------------

# Model, engine or env, key, value, and the versions with an error, a warning and a note; silence otherwise.
Case = tuple[str, str, str, t.Any, str, str, str]
SEEDS: list[Case] = [
    # 001: gpt-oss-20b on two H100, for a trainer.
    (GPT_OSS, "engine", "tensor_parallel_size", 2, "", "", ""),
    (GPT_OSS, "engine", "dtype", "bfloat16", "", "", ""),
    (GPT_OSS, "engine", "enforce_eager", True, "", "", ""),
    (GPT_OSS, "engine", "max_num_seqs", 16, "", "", ""),
    (GPT_OSS, "engine", "trust_remote_code", True, "", "", "0.8.5.."),
    (GPT_OSS, "engine", "attn_impl", "kernels-community/vllm-flash-attn3", "0.8.5..", "", ""),
    (GPT_OSS, "engine", "kv_cache_dtype", "bf16", "0.8.5..0.32.0", "0.33.0", ""),
    (GPT_OSS, "engine", "kv_cache_dtype", "fp8", "", "", ""),
    (GPT_OSS, "env", "CUDA_VISIBLE_DEVICES", "0,1", "", "", "0.8.5.."),
    (GPT_OSS, "env", "VLLM_USE_V1", "1", "", "", "0.8.5.."),
    (GPT_OSS, "env", "VLLM_SERVER_HOST", "localhost", "", "0.8.5..", ""),
    (GPT_OSS, "env", "VLLM_SERVER_PORT", "8000", "", "0.8.5..", ""),
    (GPT_OSS, "env", "ATTN_IMPLEMENTATION", "x", "", "", ""),
    # 002: Qwen2.5-0.5B on a shared server of A100s.
    (QWEN, "engine", "gpu_memory_utilization", 0.75, "", "", ""),
    (QWEN, "engine", "gpu_memory_utilization", 0.675, "", "", ""),
    (QWEN, "engine", "enable_prefix_caching", False, "", "", ""),
    (QWEN, "engine", "enforce_eager", False, "", "", ""),
    (QWEN, "engine", "distributed_executor_backend", None, "", "", ""),
    (QWEN, "env", "VLLM_USE_V1", "0", "0.11.0", "0.11.1..", "0.8.5..0.10.2"),
    (QWEN, "env", "PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:512", "", "", "0.8.5.."),
    # 003: 32k tokens over four GPUs for hours.
    (QWEN, "engine", "distributed_executor_backend", "mp", "", "", ""),
    (QWEN, "engine", "distributed_executor_backend", "ray", "", "0.18.0..", "0.8.5..0.17.1"),
    (QWEN, "engine", "max_model_len", 32768, "", "", ""),
    (QWEN, "engine", "gpu_memory_utilization", 0.50, "", "", ""),
    (QWEN, "engine", "max_num_seqs", 8, "", "", ""),
    (QWEN, "engine", "max_num_batched_tokens", 4096, "", "", ""),
    (QWEN, "engine", "enable_chunked_prefill", True, "", "", "0.8.5.."),
    # 004: gpt-oss-120b and Gemma 3 27B on a GB10.
    (GPT_OSS, "engine", "quantization", "mxfp4", "0.8.5..0.10.0", "", "0.10.1.."),
    (GPT_OSS, "engine", "gpu_memory_utilization", 0.85, "", "", ""),
    (GPT_OSS, "env", "TIKTOKEN_ENCODINGS_BASE", "/etc/encodings", "", "0.31.0..", ""),
    (GEMMA, "engine", "quantization", "mxfp4", "0.8.5..0.11.0", "0.11.1..0.29.0", "0.30.0.."),
    (GEMMA, "engine", "gpu_memory_utilization", 0.90, "", "", ""),
    (GEMMA, "engine", "max_model_len", 8192, "", "", ""),
]


@pytest.mark.parametrize("version", SINCE_085)
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=f"{case[0].split('/')[1]} {case[2]}={case[3]}") for case in SEEDS]
)
def test_a_flag_of_the_first_servers_in_every_version(case: Case, version: str) -> None:
    model, where, key, value, errors, warnings, notes = case
    wanted = next(
        (
            severity
            for severity, ranges in (("error", errors), ("warning", warnings), ("note", notes))
            if within(parse(version), ranges)
        ),
        None,
    )
    severities = about(f"{where}.{key}", findings(version, model, **{where: {key: value}}))
    assert severities[:1] == ([wanted] if wanted else [])


@pytest.mark.parametrize("version", SINCE_085)
def test_gpt_oss_in_every_version(version: str) -> None:
    refused = parse(version) < (0, 10, 1)
    assert about("model", findings(version, GPT_OSS)) == (["error"] if refused else [])
    built_in = parse(version) >= (0, 31)
    found = about("encodings_dir", findings(version, GPT_OSS, encodings_dir="/e"))
    assert found == (["note"] if built_in else [])


@pytest.mark.parametrize("version", SINCE_085)
def test_no_version_of_python_or_a_build_changes_the_judgement(version: str) -> None:
    wrong = {"attn_impl": "x", "swap_space": 4}
    assert [str(f) for f in findings(f"{version}+cu130", engine=wrong)] == [
        str(f).replace(f"vLLM {version}", f"vLLM {version}+cu130") for f in findings(version, engine=wrong)
    ]


# --- what was wrong in the first four documents ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "said", "sentence"),
    [
        pytest.param(
            "0.10.2",
            {"model": GPT_OSS, "engine": {"attn_impl": "kernels-community/vllm-flash-attn3"}},
            "engine.attn_impl: vLLM 0.10.2 has no --attn-impl (it never had); it is a setting of transformers "
            "and was never a flag of vLLM; leave it out (FlashAttention 3 is chosen on H100).",
            id="001 attn-impl",
        ),
        pytest.param(
            "0.10.2",
            {"model": GPT_OSS, "engine": {"kv_cache_dtype": "bf16"}},
            "engine.kv_cache_dtype: 'bf16' is not a valid value; vLLM 0.11.0 and later accept 'bfloat16'; vLLM 0.10.2 accepts auto, fp8, "
            "fp8_e4m3, fp8_e5m2, fp8_inc.",
            id="001 bf16 before bfloat16",
        ),
        pytest.param(
            "0.26.0",
            {"model": GPT_OSS, "engine": {"kv_cache_dtype": "bf16"}},
            "engine.kv_cache_dtype: 'bf16' is not a valid value; write bfloat16.",
            id="001 bf16",
        ),
        pytest.param(
            "0.26.0",
            {"model": GPT_OSS, "env": {"VLLM_USE_V1": "1"}},
            "env.VLLM_USE_V1: vLLM 0.26.0 does not read it, and does what it asks for; leave it out.",
            id="001 VLLM_USE_V1",
        ),
        pytest.param(
            "0.26.0",
            {"model": GPT_OSS, "engine": {"trust_remote_code": True}},
            "engine.trust_remote_code: gpt-oss is part of vLLM and brings no code along; leave it out.",
            id="001 trust-remote-code",
        ),
        pytest.param(
            "0.5.4.post1",
            {},
            "vllm_version: vLLM 0.5.4.post1 was never released; 0.5.4 and 0.5.5 are its neighbours.",
            id="001 a release that never was",
        ),
        pytest.param(
            "0.11.0",
            {"env": {"VLLM_USE_V1": "0"}},
            "env.VLLM_USE_V1: vLLM 0.11.0 has no V0 engine and stops at this; leave it out; what helped was the "
            "second try.",
            id="002 V0",
        ),
        pytest.param(
            "0.11.0",
            {"env": {"PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:512"}},
            "env.PYTORCH_CUDA_ALLOC_CONF: it does not prevent 'Error in memory profiling': a neighbour that releases "
            "memory causes that; select GPUs that are not in use.",
            id="002 max_split_size_mb",
        ),
        pytest.param(
            "0.10.2",
            {"engine": {"distributed_executor_backend": "ray"}},
            "engine.distributed_executor_backend: workers hang and die with Ray as they do with mp; watch the server "
            "and restart it when it hangs.",
            id="003 ray as a cure",
        ),
        pytest.param(
            "0.26.0",
            {"engine": {"distributed_executor_backend": "ray"}},
            "engine.distributed_executor_backend: vLLM 0.26.0 does not bring Ray along, and stops with 'Failed to "
            "import Ray' without it; mp serves all GPUs of one host; for Ray use an image that adds it.",
            id="003 ray that is not installed",
        ),
        pytest.param(
            "0.10.1.1",
            {"model": GEMMA, "engine": {"quantization": "mxfp4"}},
            "engine.quantization: vLLM 0.10.1.1 stops at mxfp4 of google/gemma-3-27b-it: 'Mxfp4 linear layer is not "
            "implemented'; leave it out, or use vLLM 0.30.0 or later.",
            id="004 mxfp4 of Gemma in the image of the rules",
        ),
        pytest.param(
            "0.26.0",
            {"model": GEMMA, "engine": {"quantization": "mxfp4"}},
            "engine.quantization: vLLM 0.26.0 accepts mxfp4 of google/gemma-3-27b-it and serves BF16 anyway, "
            "which saves no memory; leave it out, or use vLLM 0.30.0 or later.",
            id="004 mxfp4 of Gemma, ignored",
        ),
        pytest.param(
            "0.31.0",
            {"model": GEMMA, "engine": {"quantization": "mxfp4"}},
            "engine.quantization: vLLM 0.31.0 computes mxfp4 of google/gemma-3-27b-it from the BF16 weights while they "
            "load; compare its answers with those of BF16.",
            id="004 mxfp4 of Gemma, computed",
        ),
        pytest.param(
            "0.10.1.1",
            {"model": GPT_OSS, "engine": {"quantization": "mxfp4"}},
            "engine.quantization: vLLM reads mxfp4 from the model's own config.json; it may be left out.",
            id="004 mxfp4 of gpt-oss",
        ),
        pytest.param(
            "0.31.0",
            {"model": GPT_OSS, "env": {"TIKTOKEN_ENCODINGS_BASE": "/e"}},
            "env.TIKTOKEN_ENCODINGS_BASE: vLLM 0.31.0 needs no encodings, and fails over a directory that lacks "
            "them; leave it out.",
            id="004 encodings",
        ),
    ],
)
def test_each_error_of_the_first_documents_gets_its_sentence(
    version: str, said: dict[str, t.Any], sentence: str
) -> None:
    assert sentence in [str(finding) for finding in findings(version, **said)]


@pytest.mark.parametrize(
    ("requirement", "sentence"),
    [
        (
            "vllm==0.5.4.post1",
            "error packages.vllm: vLLM 0.5.4.post1 was never released; 0.5.4 and 0.5.5 are its neighbours.",
        ),
        (
            "torch --index-url https://download.example.com/whl/cu122",
            "error packages.torch: PyTorch never had an index cu122; leave torch out: vLLM brings the one it was "
            "built for.",
        ),
        ("torch==2.4.0", "warning packages.torch: vLLM pins the torch it was built for; leave it out."),
        (
            "flash-attn --no-build-isolation",
            "warning packages.flash-attn: vLLM brings its own FlashAttention 2 and 3; leave it out.",
        ),
        (
            "trl[vllm]==0.23.0",
            "warning packages.trl: TRL 0.23.0 trains against its own 'trl vllm-serve', and gets 404 from 'vllm serve'; "
            "use TRL 1.11.0 or later with this server.",
        ),
        ("gpt-oss", "warning packages.gpt-oss: it overwrites the built-in encodings of gpt-oss; leave it out."),
        ("vllm==0.26.0", None),
        ("trl>=1.11", None),
        ("transformers", None),
        ("", None),
    ],
)
def test_what_is_installed_beside_vllm(requirement: str, sentence: str | None) -> None:
    found = [f"{finding.severity} {finding}" for finding in check_packages([requirement], "0.31.0")]
    assert found == ([sentence] if sentence else [])


# --- each kind of slip ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "engine", "severity", "sentence"),
    [
        ("0.26.0", {"max_modle_len": 1}, "error", "has no --max-modle-len (it never had); did you mean max_model_len"),
        ("0.26.0", {"max_model": 1}, "warning", "it is short for --max-model-len until another flag begins the same"),
        ("0.26.0", {"kv_cache_memory": 1}, "warning", "it is short for --kv-cache-memory-bytes"),
        ("0.26.0", {"max_num": 1}, "error", "vLLM 0.26.0 has no --max-num (it never had)"),
        ("0.26.0", {"tp": 2}, "error", "-tp is the short form of --tensor-parallel-size; write tensor_parallel_size."),
        ("0.26.0", {"max_seq_len": 1}, "error", "(it never had); did you mean max_model_len?"),
        ("0.26.0", {"attn_implementation": "x"}, "error", "(it never had); it is a setting of transformers"),
        ("0.26.0", {"mxfp4_backend": "x"}, "error", "it belongs to a fork; with an image of that fork put it under"),
        ("0.26.0", {"zzz": 1}, "error", "leave it out; a flag of a fork goes under engine_unchecked."),
        ("0.26.0", {"swap_space": 4}, "error", "has no --swap-space (removed after 0.17.1); leave it out; the V1"),
        ("0.16.0", {"disable_log_requests": True}, "warning", "--disable-log-requests is deprecated in vLLM 0.16.0"),
        ("0.17.0", {"disable_log_requests": True}, "error", "(removed after 0.16.0); leave it out; requests are only"),
        ("0.33.0", {"disable_log_requests": True}, "note", "enable_log_requests: false says the same."),
        ("0.33.0", {"enable_uvicorn_access_log": True}, "note", "disable_uvicorn_access_log: false says the same."),
        ("0.26.0", {"no_enable_prefix_caching": True}, "note", "enable_prefix_caching: false says the same."),
        ("0.26.0", {"no_max_model_len": 1}, "error", "has no --no-max-model-len (it never had)"),
        ("0.10.1.1", {"attention_backend": "X"}, "error", "(it has it from 0.13.0 on); before 0.13.0 the variable"),
        ("0.10.1.1", {"nnodes": 2}, "error", "(it has it from 0.11.1 on); before 0.11.1 several hosts need"),
        ("0.26.0", {"guided_decoding_backend": "x"}, "error", "structured_outputs_config: {backend: ...} replaces it"),
        (
            "0.26.0",
            {"max_model_len": "abc"},
            "error",
            "--max-model-len must be a whole number, such as 32768 or 32k; got 'abc'.",
        ),
        ("0.26.0", {"max_model_len": "32k"}, None, ""),
        ("0.26.0", {"max_model_len": "1.5m"}, None, ""),
        ("0.26.0", {"max_model_len": "1.5M"}, "error", "--max-model-len must be a whole number, such as 32768 or 32k"),
        ("0.26.0", {"max_num_seqs": "1_024"}, None, ""),
        ("0.7.3", {"max_model_len": "32k"}, "error", "--max-model-len must be a whole number; got '32k'."),
        ("0.26.0", {"max_model_len": "auto"}, None, ""),
        ("0.26.0", {"max_model_len": -1}, None, ""),
        ("0.11.0", {"max_model_len": -1}, "error", "does not work out a length that fits; it does from 0.14.0 on"),
        ("0.26.0", {"max_num_seqs": 1.5}, "error", "--max-num-seqs must be a whole number; got '1.5'."),
        ("0.26.0", {"max_num_seqs": True}, "error", "--max-num-seqs must be followed by a value; got true."),
        ("0.26.0", {"max_num_seqs": [1, 2]}, "error", "--max-num-seqs must be one value; got 1, 2."),
        (
            "0.26.0",
            {"enforce_eager": "yes"},
            "error",
            "--enforce-eager must be true or false; got 'yes'.",
        ),
        (
            "0.26.0",
            {"gpu_memory_utilization": "high"},
            "error",
            "--gpu-memory-utilization must be a number; got 'high'.",
        ),
        ("0.26.0", {"gpu_memory_utilization": 1.5}, "error", "must be a share between 0 and 1; got 1.5."),
        ("0.26.0", {"gpu_memory_utilization": 0}, "error", "must be a share between 0 and 1; got 0."),
        ("0.26.0", {"compilation_config": "{x"}, "error", "--compilation-config must be a mapping or JSON; got '{x'."),
        ("0.26.0", {"compilation_config": {"mode": 3}}, None, ""),
        (
            "0.26.0",
            {"compilation_config": 3},
            "error",
            "--compilation-config must be a mapping; got '3'; write {mode: 3}",
        ),
        ("0.11.0", {"compilation_config": 3}, "error", "(0.11.0: {level: 3})."),
        ("0.10.2", {"compilation_config": 3}, None, ""),
        ("0.26.0", {"kv_transfer_config": "[1]"}, "error", "--kv-transfer-config must be a mapping; got '[1]'"),
        ("0.26.0", {"kv_transfer_config": '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'}, None, ""),
        ("0.26.0", {"hf_overrides": "module.function"}, None, ""),
        ("0.26.0", {"attention_config.flash_attn_version": 3}, None, ""),
        ("0.26.0", {"max_model_len.x": 4}, "error", "--max-model-len takes no JSON, so it has no parts"),
        ("0.26.0", {"attn_config.x": 4}, "error", "has no --attn-config (it never had); did you mean attention_config"),
        ("0.26.0", {"attention_backend": "flash_attn"}, None, ""),
        ("0.26.0", {"attention_backend": "Auto"}, None, ""),
        ("0.26.0", {"attention_backend": "flash-attn"}, "error", "'flash-attn' is not a valid value; did you mean"),
        ("0.26.0", {"moe_backend": "FlashInfer-TRTLLM"}, None, ""),
        ("0.27.1", {"mamba_backend": "flashinfer"}, None, ""),
        ("0.27.1", {"mamba_backend": "flashinfr"}, "error", "'flashinfr' is not a valid value"),
        ("0.26.0", {"quantization": "AWQ"}, None, ""),
        ("0.8.5", {"quantization": "AWQ"}, "error", "'AWQ' is not a valid value"),
        ("0.26.0", {"load_format": "Safetensors"}, None, ""),
        ("0.26.0", {"dtype": "BFloat16"}, "error", "'BFloat16' is not a valid value; did you mean bfloat16?"),
        ("0.26.0", {"kv_cache_dtype": "FP8"}, "error", "'FP8' is not a valid value"),
        ("0.26.0", {"optimization_level": 3}, None, ""),
        ("0.26.0", {"optimization_level": "O1"}, None, ""),
        ("0.26.0", {"distributed_executor_backend": "my.package.Executor"}, "warning", "is not among the values"),
        ("0.26.0", {"tool_call_parser": "mine"}, None, ""),
        (
            "0.26.0",
            {"tool_call_parser": "mine", "enable_auto_tool_choice": True},
            "error",
            "'mine' is not a valid value",
        ),
        ("0.26.0", {"attention_backend": "FLASH"}, "error", "'FLASH' is not a valid value; "),
        ("0.26.0", {"reasoning_parser": "GptOss"}, "error", "'GptOss' is not a valid value; write openai_gptoss."),
        (
            "0.10.1.1",
            {"reasoning_parser": "openai_gptoss"},
            "error",
            "vLLM 0.10.2 and later accept 'openai_gptoss'; vLLM 0.10.1.1 accepts GptOss",
        ),
        ("0.26.0", {"reasoning_parser": "mine", "reasoning_parser_plugin": "/p.py"}, None, ""),
        (
            "0.26.0",
            {"load_format": "dumy"},
            "warning",
            "'dumy' is not among the values that vLLM brings along; did you mean",
        ),
        ("0.30.0", {"quantization": "auto_round"}, None, ""),
        ("0.15.0", {"quantization": "auto-round"}, None, ""),
        ("0.14.1", {"quantization": "auto_round"}, "error", "did you mean auto-round"),
        ("0.26.0", {"quantization": "NVFP4"}, None, ""),
        ("0.26.0", {"quantization": "gptqq"}, "error", "'gptqq' is not a valid value; did you mean gptq"),
        ("0.26.0", {"quantization": "ascend"}, "warning", "'ascend' is not among the values that vLLM brings along"),
        (
            "0.26.0",
            {"quantization": "gguf"},
            "warning",
            "vLLM up to 0.23.0 accepts 'gguf'; vLLM 0.26.0 accepts 31 others",
        ),
        ("0.26.0", {"enable_auto_tool_choice": True}, "error", "vLLM takes it only together with --tool-call-parser"),
        ("0.26.0", {"enable_auto_tool_choice": True, "tool_call_parser": "openai"}, None, ""),
        ("0.26.0", {"enable_log_outputs": True}, "error", "only together with --enable-log-requests"),
        ("0.9.2", {"enable_reasoning": True}, "error", "only together with --reasoning-parser"),
        ("0.33.0", {"kv_cache_dtype": "bfloat16", "dtype": "float16"}, "error", "takes bfloat16 only for a model of"),
        ("0.33.0", {"kv_cache_dtype": "bfloat16", "dtype": "bfloat16"}, None, ""),
        ("0.32.0", {"kv_cache_dtype": "bfloat16", "dtype": "float16"}, None, ""),
        ("0.26.0", {"collect_detailed_traces": "model,worker"}, None, ""),
        (
            "0.26.0",
            {"collect_detailed_traces": ["model", "gpu"]},
            "error",
            "'gpu' is not a valid value; vLLM 0.26.0 accepts all",
        ),
        ("0.26.0", {"config": "/c.yaml"}, "warning", "the content of the file cannot be checked"),
        ("0.26.3", {"numa_bind": True}, None, ""),
        ("0.26.3", {"replayssm_buffer_len": 5}, "warning", "it is not certain that vLLM 0.26.3 has"),
    ],
)
def test_a_slip_in_a_flag(version: str, engine: dict[str, t.Any], severity: str | None, sentence: str) -> None:
    found = [f for f in findings(version, engine=engine) if f.key.startswith("engine.") and f.severity != "note"]
    if severity == "note":
        found = findings(version, engine=engine)
    assert [f.severity for f in found][:1] == ([severity] if severity else [])
    assert sentence in " ".join(map(str, found))


@pytest.mark.parametrize(
    ("version", "env", "severity", "sentence"),
    [
        ("0.26.0", {"VLLM_LOGGING_LEVL": "x"}, "warning", "did you mean VLLM_LOGGING_LEVEL"),
        ("0.26.0", {"VLLM_LOGGING_LEVEL": "DEBUG"}, None, ""),
        ("0.26.0", {"OTHER": "x"}, None, ""),
        ("0.26.0", {"VLLM_ATTENTION_BACKEND": "X"}, "warning", "engine.attention_backend replaces it, from 0.13.0"),
        ("0.14.0", {"VLLM_ATTENTION_BACKEND": "X"}, None, ""),
        ("0.14.0", {"VLLM_OF_MINE": "X"}, "warning", "(it never did); leave it out."),
        ("0.26.0", {"VLLM_OF_MINE": "X"}, "warning", "(it never did); leave it out; the log would warn of it."),
        ("0.10.0", {"VLLM_MXFP4_USE_MARLIN": "1"}, "warning", "(it has it from 0.10.1 on)"),
        ("0.26.0", {"VLLM_PORT": 8000}, "warning", "it is the base of vLLM's internal ports"),
        ("0.26.0", {"VLLM_PORT": 20000}, None, ""),
    ],
)
def test_a_slip_in_a_variable(version: str, env: dict[str, t.Any], severity: str | None, sentence: str) -> None:
    found = findings(version, env=env)
    assert [f.severity for f in found] == ([severity] if severity else [])
    assert sentence in " ".join(map(str, found))


@pytest.mark.parametrize(
    ("said", "severity", "sentence"),
    [
        ({"gpus": ["GPU-1"], "engine": {"tensor_parallel_size": 2}}, "error", "2 GPUs are wanted"),
        ({"gpus": ["GPU-1", "GPU-2"], "engine": {"tensor_parallel_size": 2}}, None, ""),
        ({"gpus": "all", "engine": {"tensor_parallel_size": 2}}, None, ""),
        (
            {"gpus": ["GPU-1", "GPU-2"], "engine": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}},
            "error",
            "4 GPUs are wanted (tensor x pipeline), and gpus lists 2; lower it or list more GPUs.",
        ),
        (
            {"gpus": [0, 1], "engine": {"tensor_parallel_size": 2, "data_parallel_size": 2}},
            "error",
            "4 GPUs are wanted (tensor x pipeline x data), and gpus lists 2; lower it or list more GPUs.",
        ),
        ({"gpus": [0, 1], "engine": {"data_parallel_size": 4, "data_parallel_size_local": 2}}, None, ""),
        ({"gpus": ["GPU-1"], "engine": {"tensor_parallel_size": 2, "nnodes": 2}}, None, ""),
        ({"engine": {"headless": True}}, "error", "nothing answers on this host, and a run would wait for it in vain"),
        ({"engine": {"headless": False}}, None, ""),
        ({"engine": {"api_server_count": 0}}, "error", "nothing answers on this host"),
        ({"engine": {"api_server_count": 4}}, None, ""),
        ({"engine": {"limit_mm_per_prompt": "image=10,video=2"}}, "error", "write {image: 10, video: 2}"),
        ({"engine": {"limit_mm_per_prompt": "ten images"}}, "error", "must be a mapping or JSON; got 'ten images'."),
        ({"engine": {"max_lora_rank": 48}}, "error", "accepts 1, 8, 16, 32, 64, 128, 256, 320, 512"),
        (
            {"env": {"VLLM_SERVER_DEV_MODE": 1}, "bind": "10.0.0.1", "allow_unauthenticated": True},
            "warning",
            "it opens administration to everyone who reaches 10.0.0.1",
        ),
        ({"env": {"VLLM_SERVER_DEV_MODE": 1}}, None, ""),
        (
            {
                "env": {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"},
                "engine": {"enable_sleep_mode": True},
            },
            "error",
            "expandable segments and enable_sleep_mode are mutually exclusive",
        ),
        (
            {
                "image": "nvcr.io/nvidia/vllm:26.05-py3",
                "vllm_version": None,
                "engine": {"distributed_executor_backend": "ray"},
            },
            "error",
            "Ray is not installed in nvcr.io/nvidia/vllm:26.05-py3",
        ),
        (
            {"image": "vllm/vllm-openai:v0.25.0"},
            "warning",
            "0.26.0 is not what the name of the image vllm/vllm-openai:v0.25.0 says (0.25.0)",
        ),
        ({"image": "nvcr.io/nvidia/vllm:25.09-py3", "vllm_version": "0.10.1.1+381074ae.nv25.09"}, None, ""),
        ({"engine": {"uds": "/run/a.sock"}}, "error", "the socket /run/a.sock would be inside the container"),
        ({"engine": {"uds": "/run/a.sock"}, "volumes": ["/srv/run:/run"]}, None, ""),
        ({"privileged": True}, "warning", "the container gets every device of the host"),
        ({"shm_size": "16g"}, "warning", "with ipc_mode host the container has /dev/shm of the host"),
        ({"shm_size": "16g", "ipc_mode": "private"}, None, ""),
    ],
)
def test_keys_that_do_not_go_together(said: dict[str, t.Any], severity: str | None, sentence: str) -> None:
    found = [f for f in findings(**{"version": "0.26.0", **said}) if f.severity != "note"]
    assert [f.severity for f in found] == ([severity] if severity else [])
    assert sentence in " ".join(map(str, found))


# --- versions that nobody has read ----------------------------------------------------------------------------------

WRONG = {"engine": {"attn_impl": "x", "max_model_len": "abc"}, "env": {"VLLM_USE_V1": "0"}}


@pytest.mark.parametrize("version", ["0.34.0", "1.0.0", "0.33.1rc1.dev5+g1", "0.4.0"])
def test_a_version_that_was_not_read_is_warned_of_and_never_refused(version: str) -> None:
    found = findings(version, **WRONG)
    assert {f.severity for f in found if f.key != "vllm_version"} == {"warning"}
    assert any(f.key == "vllm_version" and "known here" in f.message for f in found)


def test_a_server_of_unknown_version_is_warned_of_and_never_refused() -> None:
    found = findings(None, **WRONG)
    assert {f.severity for f in found if f.key != "vllm_version"} == {"warning"}
    assert str(found[-1]) == (
        "vllm_version: it is not known which vLLM is in i; set vllm_version, so that flags are checked for the "
        "version that will run."
    )


@pytest.mark.parametrize(
    "image", ["lmcache/vllm-openai:v0.5.4", "rhaiis/vllm-cuda-rhel9:3.2.2", "team/vllm:0.32.0", "vllm/vllm-openai"]
)
def test_nobody_is_asked_to_leave_out_what_an_unknown_version_may_read(image: str) -> None:
    said = {"encodings_dir": "/e", "env": {"TIKTOKEN_ENCODINGS_BASE": "/e"}}
    found = findings(None, GPT_OSS, image=image, engine={"kv_transfer_config": {"a": 1}}, **said)
    assert [f.key for f in found] == ["vllm_version"]


def test_a_sound_server_of_a_known_version_is_not_talked_about() -> None:
    assert findings("0.26.0", engine={"max_model_len": 8192, "enforce_eager": True}) == []


# --- judging --------------------------------------------------------------------------------------------------------

FOUND = [
    Finding("error", "a", "is wrong", "mend it"),
    Finding("warning", "b", "is odd"),
    Finding("note", "c", "is fine"),
]


@pytest.mark.parametrize(
    ("validation", "refused", "told"),
    [
        ("normal", ["a: is wrong; mend it."], ["b: is odd."]),
        ("strict", ["a: is wrong; mend it.", "b: is odd."], []),
        ("permissive", [], ["a: is wrong; mend it.", "b: is odd."]),
    ],
)
def test_how_strictly_findings_are_taken(validation: str, refused: list[str], told: list[str]) -> None:
    assert judge(FOUND, validation) == (refused, told)


def test_the_gravest_comes_first() -> None:
    found = findings("0.26.0", GPT_OSS, engine={"quantization": "mxfp4", "kv_cache_memory": 1, "attn_impl": "x"})
    assert [f.severity for f in found] == ["error", "warning", "note"]


# --- in words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ranges", "words"),
    [
        ("0.9.0..0.12.0", "0.9.0 to 0.12.0"),
        ("0.13.0..", "0.13.0 and later"),
        ("0.11.0", "0.11.0"),
        ("0.5.5..0.7.3,0.9.0..", "0.5.5 to 0.7.3, 0.9.0 and later"),
    ],
)
def test_a_range_for_people(ranges: str, words: str) -> None:
    assert spoken(ranges) == words


@pytest.mark.parametrize("version", ["3.2.2", "0.18.2", "0.5.4.post1", "26.01.0"])
@pytest.mark.parametrize("validation", ["normal", "strict"])
def test_a_number_that_no_release_has_is_refused_as_a_version(version: str, validation: str) -> None:
    problems, _warnings = judge(findings(version), validation)
    assert [problem for problem in problems if problem.startswith(f"vllm_version: vLLM {version} was never released")]


def test_what_a_number_may_be_that_no_release_has() -> None:
    product, between = (str(findings(version)[0]) for version in ("3.2.2", "0.18.2"))
    assert product.endswith("it looks like the number of a product; write that of the vLLM in it, or leave it out.")
    assert between.endswith("was never released; 0.18.1 and 0.19.0 are its neighbours.")


def test_the_encodings_are_mounted_while_the_version_is_that_of_a_product() -> None:
    spec = from_params({"model": GPT_OSS, "name": "a", "vllm_version": "3.2.2", "encodings_dir": "/e"})
    assert spec.reads_encodings


# --- strict: what works is not refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "said"),
    [
        pytest.param("0.11.0", {"engine": {"disable_log_requests": True}}, id="a deprecated flag"),
        pytest.param("0.26.0", {"engine": {"tensor_parallel": 2}}, id="the beginning of a flag"),
        pytest.param("0.26.3rc1", {"engine": {"replayssm_buffer_len": 5}}, id="a flag that may be there"),
        pytest.param("0.26.0", {"engine": {"config": "/c.yaml"}}, id="a file of flags"),
        pytest.param("0.26.0", {"engine": {"quantization": "ascend"}}, id="a method that a package registers"),
        pytest.param("0.28.0", {"engine": {"load_format": "bitsandbytes"}}, id="a loader that is a package now"),
        pytest.param("0.34.0", {"engine": {"brand_new": 1}}, id="a flag of a newer release"),
        pytest.param(None, {"engine": {"swap_space": 4}}, id="a flag of a version that is not known"),
        pytest.param("0.4.3", {}, id="an old version"),
        pytest.param("0.26.0", {"engine": {"distributed_executor_backend": "ray"}}, id="an image with Ray"),
        pytest.param("0.20.0", {"env": {"VLLM_USE_V1": "1"}}, id="a variable that asks for what is done anyway"),
        pytest.param("0.20.0", {"env": {"VLLM_OMNI_VIDEO_SYNC_TIMEOUT": "9"}}, id="a variable of another package"),
    ],
)
def test_strict_refuses_nothing_that_works(version: str | None, said: dict[str, t.Any]) -> None:
    assert judge(findings(version, **said), "strict")[0] == []


@pytest.mark.parametrize(
    ("version", "said"),
    [
        pytest.param("0.20.0", {"env": {"VLLM_ATTENTION_BACKEND": "FLASHINFER"}}, id="a variable without effect"),
        pytest.param("0.12.0", {"model": GEMMA, "engine": {"quantization": "mxfp4"}}, id="a method without effect"),
        pytest.param("0.26.0", {"engine": {"load_format": "dumy"}}, id="a slip in an open choice"),
        pytest.param(
            "0.26.0",
            {"image": "vllm/vllm-openai:v0.26.0", "engine": {"distributed_executor_backend": "ray"}},
            id="the project's image, which has no Ray",
        ),
    ],
)
def test_strict_refuses_what_does_not_do_what_it_says(version: str, said: dict[str, t.Any]) -> None:
    assert judge(findings(version, **said), "strict")[0] != []
    assert judge(findings(version, **said), "normal")[0] == []


def test_an_image_of_the_project_has_no_package_that_registers_a_method() -> None:
    found = findings("0.26.0", image="vllm/vllm-openai:v0.26.0", engine={"quantization": "ascend"})
    assert about("engine.quantization", found) == ["error"]


@pytest.mark.parametrize(
    ("version", "variable", "remedy"),
    [
        ("0.20.0", "VLLM_ATTENTION_BACKEND", "engine.attention_backend replaces it, from 0.13.0"),
        ("0.25.0", "VLLM_USE_FLASHINFER_MOE_FP4", "engine.moe_backend replaces it, from 0.17.0"),
        ("0.25.0", "VLLM_NVFP4_GEMM_BACKEND", "engine.linear_backend replaces it, from 0.22.0"),
        ("0.18.0", "VLLM_TORCH_PROFILER_DIR", "engine.profiler_config: {profiler: torch, torch_profiler_dir: ...}"),
        ("0.18.0", "VLLM_ALL2ALL_BACKEND", "engine.all2all_backend replaces it, from 0.11.1"),
        ("0.20.0", "VLLM_MM_INPUT_CACHE_GIB", "engine.mm_processor_cache_gb replaces it, from 0.10.1"),
        ("0.10.0", "VLLM_FLASHINFER_MOE_BACKEND", "leave it out, or use a release that reads it"),
        ("0.26.0", "VLLM_LOGGING_LEVL", "did you mean VLLM_LOGGING_LEVEL"),
    ],
)
def test_a_variable_gets_the_remedy_of_the_flag_that_replaced_it(version: str, variable: str, remedy: str) -> None:
    (found,) = [f for f in findings(version, env={variable: "x"}) if f.key == f"env.{variable}"]
    assert remedy in found.remedy
