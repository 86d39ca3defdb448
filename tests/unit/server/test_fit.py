# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a server fits: against what vLLM printed on real GPUs, and as tables of hosts."""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import replace
from pathlib import Path

import gpu_hosts
import model_configs
import pytest
import vllm_logs
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server import catalogue as server_catalogue
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.budget import kv_capacity
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.fit import Fit, fit
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import Architecture
from hypothesis import given, settings, strategies as st
from memory_rig import (
    A100,
    GEMMA_27B,
    GIB,
    GPT_OSS_20B,
    GPT_OSS_120B,
    H100,
    H200,
    LLAMA_8B,
    MODELS,
    TINY,
    gb10,
    gpu,
    host,
    several,
    spec,
)

ROOT = Path(__file__).parents[3]
VERDICTS = ("ok", "tight", "refuse")

# --- what vLLM printed ----------------------------------------------------------------------------------------------

# Starts on one empty H200, whose estimates were written down before: the engine of each, and what was printed.
STARTS = json.loads((Path(__file__).parents[2] / "fixtures" / "kv_estimates.json").read_text("utf-8"))


@pytest.mark.parametrize("start", STARTS, ids=lambda one: f"{one['model']}, {one['reported_tokens']} tokens")
def test_a_start_that_was_predicted_printed_what_lies_in_the_estimate(start: dict[str, t.Any]) -> None:
    known = Architecture.from_mapping(start["architecture"])
    wanted = spec(start["vllm"], **start["engine"])
    judged = fit(wanted, host(H200), known)
    assert judged.verdict == "ok"
    assert (judged.kv_tokens_min or 0) <= start["reported_tokens"] <= (judged.kv_tokens_max or 0)
    if start["kv_available_gib"]:
        capacity = kv_capacity(wanted, known, start["kv_available_gib"], host(H200)["gpus"][0])
        assert capacity.tokens == pytest.approx(start["reported_tokens"], rel=0.0005)
        assert capacity.concurrency == pytest.approx(start["reported_concurrency"], abs=0.03)


STARTED = {
    "h200_gptoss20b_cold": GPT_OSS_20B,
    "h200_gptoss20b_serving": GPT_OSS_20B,
    "h200_gemma3_27b": GEMMA_27B,
    "h200_llama8b": LLAMA_8B,
    "h200_worker_killed": TINY,
}
SETTINGS = ("max_model_len", "gpu_memory_utilization", "max_num_seqs", "enforce_eager", "kv_cache_memory_bytes")


def settings_in(log: str) -> dict[str, t.Any]:
    """What the server of a captured log was started with."""
    found = re.search(r"non-default args: (\{.*\})", log)
    assert found
    said = yaml.safe_load(found.group(1).replace("True", "true"))
    return {key: said[key] for key in SETTINGS if key in said}


def number_in(log: str, pattern: str) -> float:
    found = re.search(pattern, log)
    assert found, pattern
    return float(found.group(1).replace(",", ""))


def measured_in(log: str) -> dict[str, float]:
    graphs = re.search(r"Estimated CUDA graph memory: ([\d.]+) GiB", log)
    return {
        "weights_gib": number_in(log, r"([\d.]+) GiB for weight"),
        "activation_gib": number_in(log, r"([\d.]+) GiB for peak activation"),
        "non_torch_gib": number_in(log, r"([\d.]+) GiB for non-torch"),
        "graphs_gib": float(graphs.group(1)) if graphs else 0.0,
    }


@pytest.mark.parametrize("name", STARTED)
def test_what_a_real_start_printed_lies_in_the_estimate(name: str) -> None:
    log = vllm_logs.captured(name)
    judged = fit(spec(**settings_in(log)), host(H200), STARTED[name])
    assert judged.verdict == "ok"
    tokens = number_in(log, r"KV cache size: ([\d,]+) tokens")
    assert (judged.kv_tokens_min or 0) <= tokens <= (judged.kv_tokens_max or 0)
    assert (judged.budget_mib or 0) <= number_in(log, r"Available KV cache memory: ([\d.]+) GiB") * GIB


@pytest.mark.parametrize("name", STARTED)
def test_what_was_measured_once_makes_the_estimate_exact(name: str) -> None:
    log = vllm_logs.captured(name)
    judged = fit(spec(**settings_in(log)), host(H200), STARTED[name], measured=measured_in(log))
    assert judged.kv_tokens_min == judged.kv_tokens_max
    assert judged.kv_tokens_min == pytest.approx(number_in(log, r"KV cache size: ([\d,]+) tokens"), rel=0.001)


# GiB: weights and KV cache, as vLLM printed them on GPUs of which it saw 79.18 and 79.25 GiB.
@pytest.mark.parametrize(
    ("model", "one", "version", "engine", "weights", "kv"),
    [
        ("openai/gpt-oss-20b", H100, "0.11.0", {}, 13.47, 50.28),
        ("openai/gpt-oss-120b", H100, "0.11.0", {"gpu_memory_utilization": 0.95}, 64.38, 3.33),
        ("openai/gpt-oss-120b", H100, "0.11.0", {"gpu_memory_utilization": 0.95}, 65.97, 1.71),
        ("openai/gpt-oss-120b", H100, "0.11.0", {}, 65.97, -2.14),
        ("openai/gpt-oss-120b", A100, "0.10.2", {"tensor_parallel_size": 2}, 64.38, 35.82),
        ("openai/gpt-oss-20b", A100, "0.19.0", {"gpu_memory_utilization": 0.65}, 13.72, 36.56),
        ("meta-llama/Llama-3.1-8B", H100, "0.11.0", {}, 14.99, 51.38),
        ("Qwen/Qwen3-0.6B", H100, "0.11.0", {}, 1.12, 64.45),
        ("Qwen/Qwen3-32B", H100, "0.11.0", {}, 61.03, 4.45),
        ("Qwen/Qwen3-32B", H100, "0.11.0", {"tensor_parallel_size": 2}, 61.03, 34.49),
        ("meta-llama/Llama-3.3-70B-FP8", H100, "0.11.0", {"tensor_parallel_size": 2}, 67.76, 32.0),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_published_budgets_lie_in_the_estimate(
    model: str, one: dict[str, t.Any], version: str, engine: dict[str, t.Any], weights: float, kv: float
) -> None:
    known = Architecture(**{**MODELS[model].__dict__, "weights_gib": weights})
    wanted, facts = spec(version, max_model_len=4096, **engine), host(*several(one, 2))
    judged = fit(wanted, facts, known)
    printed = fit(wanted, facts, known, measured={"kv_gib": kv})
    assert (judged.kv_tokens_min or 0) <= (printed.kv_tokens_min or 0) <= (judged.kv_tokens_max or 0)
    assert (judged.budget_mib or 0) <= max(kv, 0) * GIB


# --- what vLLM refused ----------------------------------------------------------------------------------------------


def test_the_start_that_a_neighbour_prevented_is_refused_with_the_utilization_that_fits() -> None:
    log = vllm_logs.captured("h200_memory_held")
    free = round(number_in(log, r"Free memory on device cuda:0 \(([\d.]+)/") * GIB)
    neighbour = {"pid": 4711, "user": "1004", "used_memory_mib": 61440}
    facts = host(gpu(143771, free, reserved=616, processes=[neighbour]))
    judged = fit(spec(**settings_in(log)), facts, GPT_OSS_20B)
    assert judged.verdict == "refuse"
    assert judged.suggestions == {"gpu_memory_utilization": 0.44}
    assert judged.reasons[0] == (
        "GPU 0 has 62.4 of 139.8 GiB free, and gpu_memory_utilization 0.85 asks for 118.8: lower it to 0.44, or free "
        "the GPU: PID 4711 (uid 1004) holds 60.0 GiB."
    )


def test_the_request_that_was_too_long_is_refused_with_the_length_that_vllm_estimated() -> None:
    log = vllm_logs.captured("h200_kv_too_small")
    judged = fit(spec(**settings_in(log)), host(H200), TINY)
    assert judged.verdict == "refuse"
    assert judged.suggestions == {"max_model_len": number_in(log, r"estimated maximum model length is (\d+)")}
    assert "one request of max_model_len 131072 needs 0.5: set max_model_len to 4096." in judged.reasons[-1]


def test_more_workers_than_gpus_are_refused_with_the_number_that_fits() -> None:
    judged = fit(spec(tensor_parallel_size=4), host(*several(H200, 2)), LLAMA_8B)
    assert judged.verdict == "refuse"
    assert judged.reasons == (
        "tensor_parallel_size 4 needs 4 GPUs, and the server has 2: set tensor_parallel_size to 2.",
    )
    assert judged.suggestions == {"tensor_parallel_size": 2}


# --- the condition of the start -------------------------------------------------------------------------------------

CARD = 80 * GIB


@pytest.mark.parametrize(
    ("version", "engine", "free", "verdict"),
    [
        ("0.26.0", {"gpu_memory_utilization": 0.5}, 40 * GIB + 768, "ok"),
        ("0.26.0", {"gpu_memory_utilization": 0.5}, 40 * GIB + 767, "tight"),
        ("0.26.0", {"gpu_memory_utilization": 0.5}, 40 * GIB, "tight"),
        ("0.26.0", {"gpu_memory_utilization": 0.5}, 40 * GIB - 1, "refuse"),
        ("0.19.0", {}, 72 * GIB + 768, "ok"),
        ("0.19.0", {}, 72 * GIB - 1, "refuse"),
        ("0.20.0", {}, 72 * GIB + 768, "refuse"),
        ("0.20.0", {}, 73.6 * GIB + 769, "ok"),
        (None, {}, 73.6 * GIB + 769, "ok"),
        ("0.31.0", {"device_memory_utilization": 0.5}, 40 * GIB - 1, "refuse"),
        ("0.26.0", {"gpu_memory_utilization": 0.5, "kv_cache_memory_bytes": "1G"}, 40 * GIB - 1, "refuse"),
    ],
    ids=str,
)
def test_what_has_to_be_free_at_the_start(
    version: str | None, engine: dict[str, t.Any], free: float, verdict: str
) -> None:
    assert fit(spec(version, **engine), host(gpu(CARD, free))).verdict == verdict


def test_what_the_stopping_servers_hold_counts_as_free() -> None:
    facts = host(gpu(CARD, 10 * GIB, processes=[{"pid": 1, "managed": True, "used_memory_mib": 65 * GIB}]))
    wanted = spec(gpu_memory_utilization=0.9)
    assert fit(wanted, facts).verdict == "refuse"
    replaced = fit(wanted, facts, returning={gpu_hosts.uuid(0): 65 * GIB})
    assert (replaced.verdict, replaced.free_mib) == ("ok", 75 * GIB)


def test_never_more_comes_back_than_there_is() -> None:
    assert fit(spec(), host(gpu(CARD, 70 * GIB)), returning={gpu_hosts.uuid(0): 65 * GIB}).free_mib == CARD


def test_a_model_that_nobody_knows_is_judged_by_the_start_alone() -> None:
    judged = fit(spec(), host(H200))
    assert (judged.verdict, judged.kv_tokens_min, judged.kv_tokens_max, judged.budget_mib) == ("ok", None, None, None)
    assert judged.reasons == (
        "The model's architecture is not known, so only the free memory was judged, not the KV cache.",
    )


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        (host(status="timeout", message="nvidia-smi hangs: reboot."), "nvidia-smi hangs: reboot."),
        (host(status="no_gpu"), "The GPUs of this host cannot be used (status no_gpu)."),
        (
            host({**H200, "health": "lost"}, status="error", message="Reboot."),
            "GPU 0 cannot be used: it has fallen off the bus. Reboot.",
        ),
        (host({**H200, "health": "reset_required"}), "GPU 0 cannot be used: it needs a reset."),
        (host(), "The facts list no GPU."),
    ],
    ids=["no answer", "no GPU", "lost", "reset required", "empty"],
)
def test_a_host_that_cannot_start_a_server_is_refused_with_its_own_words(facts: t.Any, sentence: str) -> None:
    judged = fit(spec(), facts, GPT_OSS_20B)
    assert (judged.verdict, judged.reasons) == ("refuse", (sentence,))


def test_a_lost_gpu_does_not_stop_a_server_on_another_one() -> None:
    facts = host({**H200, "health": "lost"}, several(H200, 2)[1], status="error", message="GPU 0 is lost.")
    assert fit(spec(gpus=[gpu_hosts.uuid(1)]), facts).verdict == "ok"


def test_gpus_that_the_host_does_not_have_are_told() -> None:
    judged = fit(spec(gpus=["GPU-x"]), host(H200))
    assert judged.reasons == (f"gpus: GPU-x is not on this host; it has 0 ({gpu_hosts.uuid(0)}).",)


def test_without_gpus_there_is_nothing_to_judge() -> None:
    assert fit(spec(gpus="none"), {}).verdict == "ok"


def test_memory_that_is_not_known_is_tight() -> None:
    judged = fit(spec(), host({**H200, "memory_free_mib": None}), GPT_OSS_20B)
    assert (judged.verdict, judged.free_mib) == ("tight", None)
    assert "GPU 0 has an unknown amount of memory free" in judged.reasons[0]


# --- tables of hosts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "available", "engine", "verdict", "suggestions", "sentence"),
    [
        ("0.26.0", 113, {"gpu_memory_utilization": 0.8}, "ok", {}, ""),
        ("0.26.0", 113, {"gpu_memory_utilization": 0.9}, "refuse", {"gpu_memory_utilization": 0.86}, "the host needs"),
        ("0.26.0", 102, {"gpu_memory_utilization": 0.9}, "refuse", {"gpu_memory_utilization": 0.77}, "asks for 109.5"),
        ("0.26.0", 102, {"gpu_memory_utilization": 0.77}, "ok", {}, ""),
        ("0.20.1", 103, {"gpu_memory_utilization": 0.77}, "tight", {"gpu_memory_utilization": 0.76}, "leaves 7.3"),
        ("0.11.0", 113, {"gpu_memory_utilization": 0.8}, "tight", {}, "vLLM 0.11.0 counts the page cache as used"),
        ("0.11.1", 113, {"gpu_memory_utilization": 0.8}, "ok", {}, ""),
        ("0.26.0", 60, {"gpu_memory_utilization": 0.8}, "refuse", {}, "asks for 97.4: free 38.1 GiB more."),
        (
            "0.26.0",
            113,
            {"gpu_memory_utilization": 0.8, "kv_cache_memory_bytes": "60G"},
            "refuse",
            {"kv_cache_memory_bytes": 35},
            "the host needs 8.0",
        ),
    ],
)
def test_a_gb10_keeps_memory_for_the_host(
    version: str, available: float, engine: dict[str, t.Any], verdict: str, suggestions: t.Any, sentence: str
) -> None:
    wanted = spec(version, max_model_len=32768, max_num_batched_tokens=2048, max_num_seqs=8, **engine)
    judged = fit(wanted, gb10(available * GIB), GPT_OSS_120B)
    assert judged.verdict == verdict, judged
    assert sentence in " ".join(judged.reasons)
    pinned = judged.suggestions.get("kv_cache_memory_bytes")
    told = {"kv_cache_memory_bytes": round(pinned / 2**30)} if pinned else judged.suggestions
    assert told == suggestions, judged


def test_swap_is_no_memory() -> None:
    facts = {**gb10(60 * GIB), "host_memory": {"available_mib": 60 * GIB, "swap_total_mib": 64 * GIB}}
    assert fit(spec(gpu_memory_utilization=0.6), facts).verdict == "refuse"


def test_memory_of_a_stopping_server_comes_back_to_the_host() -> None:
    wanted = spec(gpu_memory_utilization=0.8)
    assert fit(wanted, gb10(20 * GIB)).verdict == "refuse"
    assert fit(wanted, gb10(20 * GIB), returning={gpu_hosts.uuid(0): 90 * GIB}).verdict == "ok"


def test_the_reserve_of_the_host_is_a_choice() -> None:
    wanted = spec(gpu_memory_utilization=0.9)
    assert fit(wanted, gb10(113 * GIB), host_reserve_mib=2048).verdict == "ok"


@pytest.mark.parametrize(
    ("index", "verdict", "utilization", "holder"),
    [
        (0, "refuse", 0.53, "PID 4711 (uid 1004) holds 36.0 GiB"),
        (1, "refuse", 0.95, "PID 5230"),
        (2, "refuse", 0.81, "PID 6013"),
        (4, "ok", None, ""),
        (5, "refuse", 0.24, "PID 7107"),
    ],
)
def test_on_a_shared_server_each_gpu_is_judged_by_its_tenants(
    index: int, verdict: str, utilization: float | None, holder: str, tmp_path: Path
) -> None:
    shared = gpu_hosts.profile(**{key: gpu_hosts.load("a100-shared")[key] for key in ("gpus",)})
    apps = gpu_hosts.load("a100-shared")["compute_apps"]
    files = gpu_hosts.process_files(4711, 1004, "/user.slice/session-1.scope")
    facts = gpu_hosts.facts(tmp_path, {**shared, "compute_apps": apps, "host": {"files": files, "pci": []}})
    judged = fit(spec(gpus=[gpu_hosts.uuid(index)], gpu_memory_utilization=0.97), facts, GPT_OSS_20B)
    assert judged.verdict == verdict, judged
    assert judged.suggestions.get("gpu_memory_utilization") == utilization
    assert holder in " ".join(judged.reasons)


@pytest.mark.parametrize(
    ("engine", "verdict", "suggestions"),
    [
        ({"tensor_parallel_size": 2, "gpu_memory_utilization": 0.9, "max_model_len": 32768}, "ok", {}),
        ({"gpu_memory_utilization": 0.9, "max_model_len": "32K"}, "tight", {"tensor_parallel_size": 2}),
        ({"gpu_memory_utilization": 0.8, "max_model_len": 32768}, "refuse", {"tensor_parallel_size": 2}),
        ({"tensor_parallel_size": 4}, "refuse", {"tensor_parallel_size": 2}),
        ({"tensor_parallel_size": 1, "data_parallel_size": 4}, "refuse", {}),
        ({"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "nnodes": 2}, "ok", {}),
        ({"tensor_parallel_size": 4, "distributed_executor_backend": "ray"}, "ok", {}),
    ],
    ids=str,
)
def test_a_pair_of_h100(engine: dict[str, t.Any], verdict: str, suggestions: t.Any, tmp_path: Path) -> None:
    facts = gpu_hosts.facts(tmp_path, gpu_hosts.load("h100-pair"))
    judged = fit(spec(**engine), facts, GPT_OSS_120B)
    assert (judged.verdict, judged.suggestions) == (verdict, suggestions), judged


def test_the_gpu_with_the_least_room_decides() -> None:
    first, second = several(H100, 2)
    facts = host(first, {**second, "memory_free_mib": 30 * GIB, "memory_used_mib": 81083 - 30 * GIB})
    judged = fit(spec(tensor_parallel_size=2, gpu_memory_utilization=0.9), facts, GPT_OSS_120B)
    assert (judged.verdict, judged.free_mib) == ("refuse", 30 * GIB)
    assert [
        reason.partition(" has")[0] for reason in judged.reasons if "free the GPU" in reason or "asks" in reason
    ] == ["GPU 1"]


MIG_DEVICE = {"uuid": "MIG-1", "index": 0, "profile": "3g.40gb", "memory_total_mib": 40448, "memory_free_mib": 40151}
MIG = gpu(81920, 81216, memory_free_mib=None, mig={"enabled": True, "devices": [MIG_DEVICE]})


@pytest.mark.parametrize(
    ("gpus", "engine", "verdict", "sentence"),
    [
        (["MIG-1"], {"gpu_memory_utilization": 0.9}, "ok", "of max_model_len 4096 needs"),
        ("all", {"gpu_memory_utilization": 0.9}, "ok", ""),
        (["MIG-1"], {"gpu_memory_utilization": 0.995}, "refuse", "GPU 0 MIG device 0 has 39.2 of 39.5 GiB free"),
        (["MIG-1"], {"tensor_parallel_size": 2}, "refuse", "a process uses one MIG device only"),
        (["MIG-2"], {}, "refuse", "gpus: MIG-2 is not on this host"),
    ],
)
def test_a_mig_device_is_judged_by_its_own_memory(
    gpus: t.Any, engine: dict[str, t.Any], verdict: str, sentence: str
) -> None:
    judged = fit(spec(gpus=gpus, max_model_len=4096, **engine), host(MIG), GPT_OSS_20B)
    assert judged.verdict == verdict, judged
    assert sentence in " ".join(judged.reasons)


def test_mig_without_a_device_is_refused() -> None:
    judged = fit(spec(), host({**MIG, "mig": {"enabled": True, "devices": []}}))
    assert judged.reasons == ("GPU 0 cannot be used: MIG is on, and no device is configured on it.",)


# --- the KV cache ---------------------------------------------------------------------------------------------------


def test_a_pinned_cache_has_its_size_whatever_the_utilization() -> None:
    wanted = spec(max_model_len=32768, gpu_memory_utilization=0.85, kv_cache_memory_bytes="60G")
    judged = fit(wanted, host(H200), GPT_OSS_20B)
    assert (judged.verdict, judged.budget_mib) == ("ok", 60 * GIB)
    assert judged.kv_tokens_min == judged.kv_tokens_max == 1742521


def test_a_pinned_cache_that_does_not_fit_is_refused() -> None:
    wanted = spec(max_model_len=32768, gpu_memory_utilization=0.5, kv_cache_memory_bytes=str(135 * 2**30))
    judged = fit(wanted, host(H200), GPT_OSS_20B)
    assert judged.verdict == "refuse"
    smaller = spec(max_model_len=32768, gpu_memory_utilization=0.5, **judged.suggestions)
    assert fit(smaller, host(H200), GPT_OSS_20B).verdict == "ok"
    assert 110 * 2**30 < judged.suggestions["kv_cache_memory_bytes"] < 126 * 2**30


@pytest.mark.parametrize(
    ("engine", "verdict"),
    [
        ({"max_model_len": 262144}, "ok"),
        ({"max_model_len": 1310720}, "refuse"),
        ({"max_model_len": "auto"}, "ok"),
        ({"max_model_len": -1}, "ok"),
        ({}, "ok"),
        ({"gpu_memory_utilization": 0.15}, "tight"),
        ({"gpu_memory_utilization": 0.1}, "refuse"),
    ],
    ids=str,
)
def test_at_least_one_longest_request_has_to_fit(engine: dict[str, t.Any], verdict: str) -> None:
    wanted = spec(**{"gpu_memory_utilization": 0.5, "max_num_seqs": 8, "max_num_batched_tokens": 2048, **engine})
    assert fit(wanted, host(H200), LLAMA_8B).verdict == verdict


@pytest.mark.parametrize(
    ("version", "one", "tokens"),
    [
        ("0.26.0", H200, 8192),
        ("0.28.0", gpu(183359, 182000, name="NVIDIA B200"), 16384),
        ("0.27.1", gpu(183359, 182000, name="NVIDIA B200"), 8192),
        ("0.26.0", A100, 2048),
        ("0.26.0", gpu(46068, 45000, name="NVIDIA L40S"), 2048),
        ("0.32.0", gb10(1)["gpus"][0], 8192),
        ("0.33.0", gb10(1)["gpus"][0], 2048),
    ],
)
def test_the_default_batch_is_that_of_the_gpu(version: str, one: dict[str, t.Any], tokens: int) -> None:
    wanted = {"max_model_len": 65536, "async_scheduling": False}
    default = kv_capacity(spec(version, **wanted), GEMMA_27B, 8, one)
    assert default == kv_capacity(spec(version, max_num_batched_tokens=tokens, **wanted), GEMMA_27B, 8)


def test_graphs_count_where_vllm_counts_them() -> None:
    def budget(version: str, **said: t.Any) -> int:
        return fit(spec(version, max_model_len=4096, **said), host(H200), LLAMA_8B).budget_mib or 0

    off = {"env": {"VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "0"}}
    on = {"env": {"VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "1"}}
    assert budget("0.20.0") == budget("0.20.0", enforce_eager=True) > budget("0.20.0", **on)
    assert budget("0.21.0") < budget("0.21.0", enforce_eager=True) == budget("0.21.0", **off)


def test_a_model_that_is_quantized_while_it_loads_may_end_up_smaller() -> None:
    whole, smaller = (
        fit(spec("0.31.0", max_model_len=8192, **engine), host(H100), GEMMA_27B)
        for engine in ({}, {"quantization": "mxfp4"})
    )
    assert whole.kv_tokens_min == smaller.kv_tokens_min
    assert (smaller.kv_tokens_max or 0) > (whole.kv_tokens_max or 0)


def test_values_whose_size_nobody_tells_are_not_counted() -> None:
    wanted = spec(kv_cache_dtype="turboquant_4bit_nc")
    judged = fit(wanted, host(H200), GPT_OSS_20B)
    assert (judged.verdict, judged.kv_tokens_max) == ("ok", None)
    assert "The size of a value is not known for this kv_cache_dtype" in judged.reasons[0]
    with pytest.raises(VllmError, match="engine.kv_cache_dtype must be auto, bfloat16"):
        kv_capacity(wanted, GPT_OSS_20B, 1)


def test_without_the_weights_a_pinned_cache_is_still_counted() -> None:
    known = Architecture(24, 0, 0, 2, 64)
    assert fit(spec(), host(H200), known).kv_tokens_min is None
    assert fit(spec(kv_cache_memory_bytes="4G", max_model_len=4096), host(H200), known).kv_tokens_min == 349520


# --- which GPUs, and what is kept elsewhere --------------------------------------------------------------------------


def test_a_server_of_one_gpu_takes_the_first_whatever_their_order_in_the_facts() -> None:
    full, free = gpu(CARD, 1 * GIB, index=1), gpu(CARD, 79 * GIB, index=0)
    assert fit(spec(), host(full, free)).verdict == "ok"
    assert fit(spec(), host({**free, "index": 1}, {**full, "index": 0})).verdict == "refuse"


def test_weights_in_the_memory_of_the_host_leave_room_on_the_gpu() -> None:
    said = {"max_model_len": 8192}
    whole, less = (fit(spec(**said, **more), host(H100), GEMMA_27B) for more in ({}, {"cpu_offload_gb": 10}))
    assert (less.budget_mib or 0) - (whole.budget_mib or 0) == pytest.approx(10 * GIB, abs=1)
    assert (less.kv_tokens_max or 0) > (whole.kv_tokens_max or 0)


def test_what_is_used_of_unified_memory_does_not_make_it_smaller() -> None:
    known = gb10(100000)["gpus"][0]
    judged = [fit(spec(), host({**known, "memory_used_mib": used}), LLAMA_8B) for used in (None, 10000)]
    assert judged[0] == judged[1]


# --- experts, and weights of which no more is known ------------------------------------------------------------------

SPREAD = {"enable_expert_parallel": True, "data_parallel_size": 8, "max_model_len": 131072}
QWEN3_CODER = Architecture(62, 0, 0, 8, 128, 449, 160)
LLAMA_70B = Architecture(80, 0, 0, 8, 128, 131.5, 0)
DEEPSEEK_R1 = Architecture.from_mapping({"weights_gib": 641, "experts": 256})
WHOLE = {**SPREAD, "enable_expert_parallel": False}


@pytest.mark.parametrize(
    ("one", "engine", "known", "verdict"),
    [
        pytest.param(H200, SPREAD, QWEN3_CODER, "ok", id="over all ranks of data parallel"),
        pytest.param(
            H200, {**SPREAD, "data_parallel_size": 4, "tensor_parallel_size": 2}, QWEN3_CODER, "ok", id="tensor x data"
        ),
        pytest.param(
            H100,
            {**SPREAD, "max_model_len": 32768},
            QWEN3_CODER,
            "tight",
            id="on smaller GPUs what is no expert decides",
        ),
        pytest.param(H200, WHOLE, QWEN3_CODER, "ok", id="a piece of each expert without expert parallel"),
        pytest.param(H200, WHOLE, DEEPSEEK_R1, "ok", id="a piece of each expert, by the weights alone"),
        pytest.param(H200, WHOLE, replace(QWEN3_CODER, experts=0), "refuse", id="a whole dense model on each rank"),
        pytest.param(H100, WHOLE, LLAMA_70B, "refuse", id="a whole Llama 70B on each rank"),
        pytest.param(H100, WHOLE, replace(LLAMA_70B, experts=None), "tight", id="experts that nobody knows of"),
        pytest.param(
            H200, SPREAD, replace(QWEN3_CODER, experts=None), "ok", id="expert parallel tells that there are experts"
        ),
        pytest.param(H100, WHOLE, replace(QWEN3_CODER, weights_gib=900), "refuse", id="too many pieces of experts"),
        pytest.param(
            H200, {"data_parallel_size": 8}, replace(LLAMA_8B, experts=None), "ok", id="a small one, whatever it is"
        ),
        pytest.param(H200, {"data_parallel_size": 8}, LLAMA_8B, "ok", id="a small one on each"),
        pytest.param(H100, SPREAD, Architecture(62, 0, 0, 8, 128, 900), "refuse", id="too many experts"),
        pytest.param(
            H200,
            {"data_parallel_size": 16, "data_parallel_size_local": 8, "enable_expert_parallel": True},
            Architecture(62, 0, 0, 8, 128, 600),
            "ok",
            id="ranks on other hosts hold experts too",
        ),
        pytest.param(
            H100,
            {"tensor_parallel_size": 8, "enable_expert_parallel": True, "max_model_len": 8192},
            QWEN3_CODER,
            "ok",
            id="tensor alone",
        ),
        pytest.param(H100, {"tensor_parallel_size": 8}, DEEPSEEK_R1, "refuse", id="weights alone are too many"),
        pytest.param(H200, {"tensor_parallel_size": 8}, DEEPSEEK_R1, "ok", id="weights that fit"),
        pytest.param(H200, {"tensor_parallel_size": 4}, DEEPSEEK_R1, "refuse", id="weights on half of the GPUs"),
        pytest.param(H200, {**SPREAD, "max_model_len": None}, DEEPSEEK_R1, "ok", id="weights over all ranks"),
        pytest.param(
            H100, {"tensor_parallel_size": 8, "max_model_len": -1}, DEEPSEEK_R1, "refuse", id="whatever the length"
        ),
        pytest.param(
            H100,
            {"tensor_parallel_size": 8, "kv_cache_dtype": "turboquant_4bit_nc"},
            Architecture(61, 0, 0, 1, 576, 641),
            "refuse",
            id="whatever the type of the cache",
        ),
    ],
)
def test_weights_on_each_of_eight_gpus(
    one: dict[str, t.Any], engine: dict[str, t.Any], known: Architecture, verdict: str
) -> None:
    judged = fit(spec(**engine), host(*several(one, 8)), known)
    assert judged.verdict == verdict, judged.reasons
    assert bool(judged.cause) == (verdict == "refuse")


def test_weights_that_are_too_many_are_told_with_their_size() -> None:
    judged = fit(spec(tensor_parallel_size=8, max_model_len=32768), host(*several(H100, 8)), DEEPSEEK_R1)
    assert "GiB of weights on each GPU" in judged.refusals[0] and "86.5" in judged.refusals[0]
    assert (judged.kv_tokens_max, judged.cause) == (None, "mem-no-cache-blocks")
    fits = fit(spec(tensor_parallel_size=8), host(*several(H200, 8)), DEEPSEEK_R1)
    assert fits.reasons == (
        "Of the model only the size of its weights is known (86.5 GiB on each GPU), so the KV cache was not judged.",
    )


def test_weights_that_fit_on_more_gpus_are_told_so() -> None:
    judged = fit(spec(), host(*several(H100, 2)), Architecture.from_mapping({"weights_gib": 100}))
    assert (judged.verdict, judged.suggestions) == ("refuse", {"tensor_parallel_size": 2})


def test_the_ranks_of_data_parallel_are_counted_in_words() -> None:
    judged = fit(spec(data_parallel_size=8), host(*several(H100, 4)), LLAMA_8B)
    assert "tensor_parallel_size 1 times data_parallel_size 8 needs 8 GPUs, and the server has 4" in judged.reasons[0]


def test_the_size_of_the_weights_says_nothing_about_tokens() -> None:
    with pytest.raises(VllmError, match="^architecture.layers_full is missing"):
        kv_capacity(spec(), DEEPSEEK_R1, 8)


def test_sleep_mode_hides_memory_from_the_profile() -> None:
    """gpt-oss-20b, eager, one H200, 0.26.0: 3,280,447 tokens printed, where 3,204,584 were the most without it."""
    said = {"gpu_memory_utilization": 0.88, "max_num_seqs": 16, "max_model_len": 32768, "enforce_eager": True}
    asleep, awake = (fit(spec(**said, **more), host(H200), GPT_OSS_20B) for more in ({"enable_sleep_mode": True}, {}))
    assert (awake.kv_tokens_max or 0) < 3280447 < (asleep.kv_tokens_max or 0)
    assert awake.kv_tokens_min == asleep.kv_tokens_min


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "sentence"),
    [
        ({"kv": 1}, "Unknown key 'measured.kv'. Valid keys: weights_gib"),
        ({"kv_gib": "much"}, "measured.kv_gib must be a number of GiB; got 'much'."),
    ],
    ids=str,
)
def test_a_measured_value_that_is_none_is_told(measured: t.Any, sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        fit(spec(), host(H200), measured=measured)
    assert sentence in str(caught.value)


# --- what always holds ----------------------------------------------------------------------------------------------

ARCHITECTURES = st.sampled_from([GPT_OSS_20B, GPT_OSS_120B, GEMMA_27B, LLAMA_8B, MODELS["Qwen/Qwen2.5-0.5B"]])
VERSIONS = st.sampled_from(["0.10.1.1", "0.11.1", "0.17.1", "0.20.1", "0.21.0", "0.26.0", "0.33.0", None])
ENGINES = st.fixed_dictionaries(
    {"max_num_batched_tokens": st.sampled_from([1024, 8192]), "max_num_seqs": st.sampled_from([8, 1024])},
    optional={
        "gpu_memory_utilization": st.floats(0.05, 1.0),
        "max_model_len": st.sampled_from([1024, 32768, 131072, "auto"]),
        "tensor_parallel_size": st.sampled_from([1, 2, 4]),
        "kv_cache_memory_bytes": st.sampled_from(["1G", "40G", "150G"]),
        "enforce_eager": st.booleans(),
    },
)
MEMORY = st.integers(1, 200 * GIB)


def box(total: float, used: float, is_unified: bool) -> dict[str, t.Any]:
    free = max(0, total - used)
    one = gpu(total, free, memory_kind="unified" if is_unified else "dedicated")
    return host(*several({**one, "memory_used_mib": None if is_unified else total - free}, 2))


def is_no_worse(more: Fit, less: Fit) -> bool:
    tokens = ((more.kv_tokens_min, less.kv_tokens_min), (more.kv_tokens_max, less.kv_tokens_max))
    return VERDICTS.index(more.verdict) <= VERDICTS.index(less.verdict) and all((a or 0) >= (b or 0) for a, b in tokens)


@settings(max_examples=150)
@given(ARCHITECTURES, VERSIONS, ENGINES, MEMORY, MEMORY, MEMORY, st.booleans())
def test_more_memory_never_makes_it_worse(
    architecture: Architecture, version: t.Any, engine: t.Any, total: int, used: int, more: int, is_unified: bool
) -> None:
    wanted = spec(version, **engine)
    now = fit(wanted, box(total, used, is_unified), architecture)
    assert is_no_worse(fit(wanted, box(total, max(0, used - more), is_unified), architecture), now)
    assert is_no_worse(fit(wanted, box(total + more, used, is_unified), architecture), now)
    back = {gpu_hosts.uuid(number): more for number in range(2)}
    assert is_no_worse(fit(wanted, box(total, used, is_unified), architecture, returning=back), now)


@settings(max_examples=150)
@given(ARCHITECTURES, VERSIONS, ENGINES, MEMORY, MEMORY, st.booleans())
def test_what_is_suggested_makes_it_better(
    architecture: Architecture, version: t.Any, engine: t.Any, total: int, used: int, is_unified: bool
) -> None:
    facts = box(total, used, is_unified)
    judged = fit(spec(version, **engine), facts, architecture)
    changed = fit(spec(version, **{**engine, **judged.suggestions}), facts, architecture)
    assert VERDICTS.index(changed.verdict) <= VERDICTS.index(judged.verdict)
    if judged.suggestions and judged.verdict == "refuse":
        assert changed.verdict != "refuse"


# --- the catalogue --------------------------------------------------------------------------------------------------

EMPTY = {
    "gb10": gb10(113 * GIB),
    "h100": host(*several(H100, 8)),
    "h200": host(*several(H200, 8)),
    "a100": host(*several(A100, 8)),
}
PROFILES = [
    (file.stem, hardware)
    for file in sorted((ROOT / "playbooks" / "models").glob("*.yml"))
    for hardware in sorted(set(yaml.safe_load(file.read_text("utf-8"))["hardware"]) & set(EMPTY))
]


def judged_profile(name: str, hardware: str, overrides: dict[str, t.Any]) -> Fit:
    model = yaml.safe_load((ROOT / "playbooks" / "models" / f"{name}.yml").read_text("utf-8"))
    resolved = server_catalogue.resolve(name, model, hardware, overrides)
    known = Architecture.from_mapping(resolved["architecture"])
    return fit(server_catalogue.process(resolved), EMPTY[hardware], known)


@pytest.mark.parametrize(("name", "hardware"), PROFILES)
def test_a_profile_of_the_catalogue_fits_an_empty_host(name: str, hardware: str) -> None:
    """A utilization of 0.90 takes from a GB10 what its host needs: there, the fallback of the profile has to fit."""
    judged = judged_profile(name, hardware, {})
    if judged.verdict == "refuse":
        assert "the host needs 8.0" in " ".join(judged.reasons)
        model = yaml.safe_load((ROOT / "playbooks" / "models" / f"{name}.yml").read_text("utf-8"))
        judged = judged_profile(name, hardware, model["hardware"][hardware]["fallbacks"][0]["change"])
    assert judged.verdict in ("ok", "tight"), judged


# --- encoders, servers that do not generate, GPUs by index, stages --------------------------------------------------------

ENCODER = Architecture(0, 0, 0, 0, 0, 1.06, is_encoder=1)
AS_LAYERS = Architecture(24, 0, 0, 16, 64, 1.06)


@pytest.mark.parametrize(
    ("architecture", "engine", "verdict"),
    [
        pytest.param(ENCODER, {"gpu_memory_utilization": 0.03}, "ok", id="an encoder keeps no KV cache"),
        pytest.param(ENCODER, {"gpu_memory_utilization": 0.03, "max_model_len": 8192}, "ok", id="whatever its length"),
        pytest.param(AS_LAYERS, {"runner": "pooling", "gpu_memory_utilization": 0.03}, "ok", id="a pooling server"),
        pytest.param(AS_LAYERS, {"task": "embed", "gpu_memory_utilization": 0.03}, "ok", id="as older releases say it"),
        pytest.param(
            AS_LAYERS,
            {"runner": "pooling", "gpu_memory_utilization": 0.03, "max_model_len": 8192},
            "tight",
            id="a pooling server that asks for a length",
        ),
        pytest.param(AS_LAYERS, {"gpu_memory_utilization": 0.005, "max_model_len": 8192}, "refuse", id="a decoder"),
        pytest.param(
            Architecture(0, 0, 0, 0, 0, 200, is_encoder=1), {}, "refuse", id="an encoder that is larger than the GPU"
        ),
    ],
)
def test_an_encoder_is_judged_by_its_weights(
    architecture: Architecture, engine: dict[str, t.Any], verdict: str
) -> None:
    judged = fit(spec("0.12.0", **engine), host(H200), architecture)
    assert judged.verdict == verdict
    if verdict == "ok":
        assert not judged.suggestions and ":" not in judged.reasons[-1].replace("encoder: it", "")


@pytest.mark.parametrize("gpus", [["1"], [1], ["1", 3], [gpu_hosts.uuid(1), 3]], ids=str)
def test_gpus_by_index(gpus: list[t.Any]) -> None:
    judged = fit(spec(gpus=gpus), host(*several(H100, 4)), LLAMA_8B)
    assert judged.verdict != "refuse"


def test_a_gpu_by_an_index_that_the_host_does_not_have_is_told_with_those_it_has() -> None:
    judged = fit(spec(gpus=[7]), host(*several(H100, 2)), LLAMA_8B)
    assert judged.reasons == (f"gpus: 7 is not on this host; it has 0 ({gpu_hosts.uuid(0)}), 1 ({gpu_hosts.uuid(1)}).",)


def test_a_stage_that_is_longer_has_more_of_the_weights() -> None:
    server = {"pipeline_parallel_size": 2, "max_model_len": 4096}
    model = Architecture(62, 0, 0, 8, 128, 140)
    even, uneven = (
        fit(spec(env=env, **server), host(*several(H100, 2)), model)
        for env in ({}, {"VLLM_PP_LAYER_PARTITION": "42,20"})
    )
    assert (even.verdict == "refuse", uneven.verdict) == (False, "refuse")


@pytest.mark.parametrize("kv_cache_dtype", ["auto", "fp8", "turboquant_4bit_nc"])
def test_weights_decide_whatever_is_known_of_the_kv_cache(kv_cache_dtype: str) -> None:
    server = spec(tensor_parallel_size=8, max_model_len=32768, kv_cache_dtype=kv_cache_dtype)
    for known in (Architecture.from_mapping({**model_configs.DEEPSEEK_R1, "weights_gib": 641}), WEIGHTS_OF_R1):
        assert fit(server, host(*several(H100, 8)), known).verdict == "refuse"
        assert fit(server, host(*several(H200, 8)), known).verdict != "refuse"


WEIGHTS_OF_R1 = Architecture.from_mapping({"weights_gib": 641})
