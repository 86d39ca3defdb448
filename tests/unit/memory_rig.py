# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models, GPUs and hosts for questions of memory."""

from __future__ import annotations

import typing as t

import gpu_hosts
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ServerSpec, from_params
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import Architecture

GIB = 1024

GPT_OSS_20B = Architecture(12, 12, 128, 8, 64, 13.47, 32)
GPT_OSS_120B = Architecture(18, 18, 128, 8, 64, 64.38, 128)
GEMMA_27B = Architecture(10, 52, 1024, 16, 128, 51.79, 0)
LLAMA_8B = Architecture(32, 0, 0, 8, 128, 15.0, 0)
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
