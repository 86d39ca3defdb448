# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a server fits: against what vLLM printed on real GPUs, and as tables of hosts."""

from __future__ import annotations

import json
import re
import typing as t
from pathlib import Path

import gpu_hosts
import pytest
import vllm_logs
import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server import catalogue as server_catalogue
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.fit import (
    Architecture,
    Fit,
    fit,
    human,
    kv_capacity,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ServerSpec, from_params
from hypothesis import given, settings, strategies as st

ROOT = Path(__file__).parents[3]
GIB = 1024
VERDICTS = ("ok", "tight", "refuse")

GPT_OSS_20B = Architecture(12, 12, 128, 8, 64, 13.47)
GPT_OSS_120B = Architecture(18, 18, 128, 8, 64, 64.38)
GEMMA_27B = Architecture(10, 52, 1024, 16, 128, 51.79)
LLAMA_8B = Architecture(32, 0, 0, 8, 128, 15.0)
TINY = Architecture(2, 0, 0, 8, 64, 0.04)
MODELS = {
    "openai/gpt-oss-20b": GPT_OSS_20B,
    "openai/gpt-oss-120b": GPT_OSS_120B,
    "google/gemma-3-27b-it": GEMMA_27B,
    "meta-llama/Llama-3.1-8B": LLAMA_8B,
    "meta-llama/Llama-3.3-70B-FP8": Architecture(80, 0, 0, 8, 128, 67.76),
    "mistralai/Mistral-Small-3.2-24B": Architecture(40, 0, 0, 8, 128),
    "MiniMaxAI/MiniMax-M2.5": Architecture(62, 0, 0, 8, 128),
    "Qwen/Qwen2.5-0.5B": Architecture(24, 0, 0, 2, 64, 0.95),
    "Qwen/Qwen3-0.6B": Architecture(28, 0, 0, 8, 128, 1.12),
    "Qwen/Qwen3-4B": Architecture(36, 0, 0, 8, 128),
    "Qwen/Qwen3-32B": Architecture(64, 0, 0, 8, 128, 61.03),
}


def spec(version: str | None = "0.26.0", gpus: t.Any = "all", env: t.Any = None, **engine: t.Any) -> ServerSpec:
    return from_params(
        {"model": "some/model", "vllm_version": version, "gpus": gpus, "env": env or {}, "engine": engine}
    )


def gpu(total: float, free: float, index: int = 0, reserved: float = 0, **facts: t.Any) -> dict[str, t.Any]:
    return {
        "index": index,
        "uuid": gpu_hosts.uuid(index),
        "name": "NVIDIA H200",
        "hardware_class": "h200",
        "memory_kind": "dedicated",
        "memory_total_mib": total,
        "memory_free_mib": free,
        "memory_used_mib": total - reserved - free,
        "health": "ok",
        "mig": {"enabled": False, "devices": []},
        "processes": [],
        **facts,
    }


def host(*gpus: t.Mapping[str, t.Any], **facts: t.Any) -> dict[str, t.Any]:
    return {"status": "ok", "message": None, "gpus": list(gpus), **facts}


# As nvidia-smi sees it: an idle one, for vLLM 139.8 GiB.
H200 = gpu(143771, 143155, reserved=616)
# 79.18 GiB for vLLM.
H100 = gpu(81559, 81079, reserved=476, name="NVIDIA H100 80GB HBM3", hardware_class="h100")
A100 = gpu(81920, 81152, reserved=768, name="NVIDIA A100-SXM4-80GB", hardware_class="a100")


def gb10(available: float, total: float = 124610) -> dict[str, t.Any]:
    known = {"name": "NVIDIA GB10", "hardware_class": "gb10", "memory_kind": "unified"}
    return host(gpu(total, available, **{**known, "memory_used_mib": None}))


def several(one: t.Mapping[str, t.Any], count: int) -> list[dict[str, t.Any]]:
    return [{**one, "index": number, "uuid": gpu_hosts.uuid(number)} for number in range(count)]


# --- what vLLM printed ----------------------------------------------------------------------------------------------

POINTS = json.loads((Path(__file__).parents[2] / "fixtures" / "kv_data_points.json").read_text("utf-8"))
OF_A_POINT = ("tensor_parallel_size", "max_model_len", "max_num_batched_tokens", "block_size", "kv_cache_dtype")


@pytest.mark.parametrize("point", POINTS, ids=lambda p: f"{p['model']}, {p['vllm']}, {p['kv_available_gib']} GiB")
def test_tokens_and_concurrency_are_what_vllm_printed(point: dict[str, t.Any]) -> None:
    engine = {key: point[key] for key in OF_A_POINT if key in point}
    capacity = kv_capacity(spec(point["vllm"], **engine), MODELS[point["model"]], point["kv_available_gib"])
    assert capacity.tokens == pytest.approx(point["reported_tokens"], rel=0.01)
    if "reported_concurrency" in point:
        assert capacity.concurrency == pytest.approx(point["reported_concurrency"], rel=0.01)


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
        (host({**H200, "health": "lost"}, status="error", message="Reboot."), "GPU 0 is not usable: lost. Reboot."),
        (host({**H200, "health": "reset_required"}), "GPU 0 is not usable: reset required."),
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
    assert judged.reasons == (f"gpus: GPU-x is not on this host; it has {gpu_hosts.uuid(0)}.",)


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
    assert judged.reasons == ("GPU 0: MIG is on, and no device is configured on it.",)


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
    ],
    ids=str,
)
def test_at_least_one_longest_request_has_to_fit(engine: dict[str, t.Any], verdict: str) -> None:
    wanted = spec(**{"gpu_memory_utilization": 0.5, "max_num_seqs": 8, "max_num_batched_tokens": 2048, **engine})
    assert fit(wanted, host(H200), LLAMA_8B).verdict == verdict


@pytest.mark.parametrize(
    ("version", "engine", "architecture", "blocks_of_16_layers"),
    [
        ("0.26.0", {}, Architecture(16, 0, 0, 1, 128), 1),
        ("0.26.0", {}, Architecture(0, 16, 128, 1, 128), 1),
        ("0.11.2", {}, Architecture(16, 18, 128, 1, 128), 1),
        ("0.12.0", {}, Architecture(16, 18, 128, 1, 128), 16 / 18),
        ("0.17.1", {}, Architecture(16, 20, 128, 1, 128), 1),
        ("0.18.0", {}, Architecture(16, 20, 128, 1, 128), 16 / 20),
        ("0.26.0", {}, Architecture(16, 24, 128, 1, 128), 1),
        ("0.9.0", {}, Architecture(16, 16, 128, 1, 128), 0.5),
        ("0.26.0", {"disable_hybrid_kv_cache_manager": True}, Architecture(16, 16, 128, 1, 128), 0.5),
        ("0.26.0", {"block_size": 32}, Architecture(16, 0, 0, 1, 128), 0.5),
        ("0.26.0", {"tensor_parallel_size": 2}, Architecture(16, 0, 0, 1, 128), 1),
        ("0.26.0", {"tensor_parallel_size": 2}, Architecture(16, 0, 0, 2, 128), 1),
        ("0.26.0", {"pipeline_parallel_size": 2}, Architecture(16, 0, 0, 1, 128), 2),
        ("0.26.0", {"kv_cache_dtype": "fp8"}, Architecture(16, 0, 0, 1, 128), 2),
        ("0.26.0", {"dtype": "float32"}, Architecture(16, 0, 0, 1, 128), 0.5),
    ],
)
def test_blocks_by_version_and_settings(
    version: str, engine: dict[str, t.Any], architecture: Architecture, blocks_of_16_layers: float
) -> None:
    """A block of 16 tokens, 16 layers and one head of 128 in 16 bits takes 128 KiB."""
    capacity = kv_capacity(spec(version, max_model_len=4096, **engine), architecture, 1)
    assert capacity.blocks == int(8192 * blocks_of_16_layers)


@pytest.mark.parametrize(
    ("version", "engine", "kept"),
    [
        ("0.25.1", {"max_num_batched_tokens": 2048}, 2048),
        ("0.26.0", {"max_num_batched_tokens": 2048}, 4096),
        ("0.26.0", {"max_num_batched_tokens": "2K"}, 4096),
        ("0.26.0", {"max_num_batched_tokens": 2048, "async_scheduling": False}, 2048),
        ("0.26.0", {"max_num_batched_tokens": 2048, "pipeline_parallel_size": 4}, 8192),
        (None, {"max_num_batched_tokens": 2048}, 4096),
        ("0.25.1", {}, 8192),
        ("0.25.1", {"enable_chunked_prefill": False}, 65536),
    ],
    ids=str,
)
def test_a_sliding_layer_keeps_its_window_and_what_is_in_flight(
    version: str | None, engine: dict[str, t.Any], kept: int
) -> None:
    pipeline = engine.get("pipeline_parallel_size", 1)
    capacity = kv_capacity(spec(version, max_model_len=65536, **engine), Architecture(0, 16, 1, 1, 128), 8 / pipeline)
    assert capacity.concurrency == pytest.approx(65536 / (kept // 16 + 1))


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
    wanted = spec(kv_cache_dtype="nvfp4")
    judged = fit(wanted, host(H200), GPT_OSS_20B)
    assert (judged.verdict, judged.kv_tokens_max) == ("ok", None)
    assert "The size of a value is not known for this kv_cache_dtype" in judged.reasons[0]
    with pytest.raises(VllmError, match="engine.kv_cache_dtype: the size of the KV cache is only known for auto"):
        kv_capacity(wanted, GPT_OSS_20B, 1)


def test_without_the_weights_a_pinned_cache_is_still_counted() -> None:
    known = Architecture(24, 0, 0, 2, 64)
    assert fit(spec(), host(H200), known).kv_tokens_min is None
    assert fit(spec(kv_cache_memory_bytes="4G", max_model_len=4096), host(H200), known).kv_tokens_min == 349520


# --- mistakes -------------------------------------------------------------------------------------------------------

NUMBERS = {"layers_full": 12, "layers_sliding": 12, "sliding_window": 128, "num_key_value_heads": 8, "head_dim": 64}


@pytest.mark.parametrize(
    ("mapping", "sentence"),
    [
        ("x", "architecture: 'x' is not a mapping with the keys layers_full, "),
        ({**NUMBERS, "heads": 1}, "architecture.heads is not a key here"),
        ({**NUMBERS, "head_dim": "many"}, "architecture.head_dim: 'many' is not a whole number."),
        ({**NUMBERS, "head_dim": True}, "architecture.head_dim: True is not a whole number."),
        ({**NUMBERS, "head_dim": 0}, "none is 0"),
        ({"layers_full": 12}, "architecture.layers_sliding: it is missing."),
        ({**NUMBERS, "sliding_window": 0}, "architecture.sliding_window: it is 0, and 12 layers are sliding."),
        ({**NUMBERS, "weights_gib": "big"}, "architecture.weights_gib: 'big' is not a number of GiB."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_in_the_architecture_is_told_with_its_address(mapping: t.Any, sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        Architecture.from_mapping(mapping)
    assert sentence in str(caught.value)


def test_numbers_from_a_template_may_be_text() -> None:
    assert Architecture.from_mapping({**NUMBERS, "head_dim": "64", "weights_gib": "13.47"}) == GPT_OSS_20B


@pytest.mark.parametrize(
    ("engine", "sentence"),
    [
        ({"gpu_memory_utilization": 85}, "engine.gpu_memory_utilization: '85' is not a share of the memory"),
        ({"gpu_memory_utilization": "nan"}, "engine.gpu_memory_utilization: 'nan' is not a share of the memory"),
        ({"max_model_len": "long"}, "engine.max_model_len: 'long' is not a number such as 32768, 32K (1024)"),
        ({"tensor_parallel_size": 0}, "engine.tensor_parallel_size: it is 0; the smallest is 1."),
    ],
    ids=str,
)
def test_a_setting_that_is_no_number_is_told_with_its_address(engine: dict[str, t.Any], sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        fit(spec(**engine), host(H200), GPT_OSS_20B)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("measured", "sentence"),
    [
        ({"kv": 1}, "measured.kv is not a key here; the keys are weights_gib"),
        ({"kv_gib": "much"}, "measured.kv_gib: 'much' is not a number of GiB."),
    ],
    ids=str,
)
def test_a_measured_value_that_is_none_is_told(measured: t.Any, sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        fit(spec(), host(H200), measured=measured)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"), [("32k", 32000), ("32K", 32768), ("1.5k", 1500), ("60G", 60 * 2**30), (4096, 4096)]
)
def test_sizes_are_read_as_vllm_reads_them(text: t.Any, number: int) -> None:
    assert human("max_model_len", text) == number


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


@settings(max_examples=150, deadline=None)
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


@settings(max_examples=150, deadline=None)
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
