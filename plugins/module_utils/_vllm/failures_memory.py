# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures for lack of GPU memory (rows of the table in failures.py)."""

from __future__ import annotations

import re
import typing as t

from .._gpu.tenants import holders
from .signature import Found, Signature, from_setting, gpus_of


def _floored(value: float, step: float = 0.01) -> str:
    """A share of memory, rounded down so that it fits."""
    return f"{int(value / step + 1e-9) * step:.2f}"


def _short_gpu(found: Found) -> t.Mapping[str, t.Any]:
    """The GPU that the log speaks of. vLLM counts what it may see, so its number is only a tie-breaker."""
    free, index = found.number("free") or 0.0, found["dev"].rpartition(":")[2]
    known = [gpu for gpu in gpus_of(found.facts) if gpu.get("memory_free_mib") is not None]

    def distance(gpu: t.Mapping[str, t.Any]) -> tuple[int, bool]:
        return round(abs(gpu["memory_free_mib"] / 1024 - free)), str(gpu.get("index")) != index

    return min(known, key=distance, default={})


def _tenants(gpu: t.Mapping[str, t.Any]) -> str:
    processes = [p for p in gpu.get("processes") or () if isinstance(p, dict) and p.get("used_memory_mib")]
    return holders(processes, most=4)


def _roomier(found: Found, than: t.Mapping[str, t.Any]) -> str:
    """Another GPU of the host that would do."""
    want = found.number("want") or 0.0
    fits = [g for g in gpus_of(found.facts) if g is not than and (g.get("memory_free_mib") or 0) / 1024 >= want]
    best = max(fits, key=lambda gpu: gpu["memory_free_mib"], default=None)
    if best is None:
        return ""
    return f" GPU {best.get('index')} ({best.get('uuid')}) has {best['memory_free_mib'] / 1024:.1f} GiB free."


def _is_unified(found: Found) -> bool:
    total = found.number("total") or 0.0
    # What vLLM sees as total on a GB10; no card has that much and shares it.
    return found.facts.get("memory_kind") == "unified" or (not found.facts and 115 <= total <= 125)


def _less_than_asked(found: Found) -> str:
    # vLLM for CPUs has that of the host, by the same setting.
    whose = "memory of the host" if found.number("node") is not None else "GPU memory"
    return (
        f"Less {whose} is free than the server asks for: gpu_memory_utilization {found['util']} of {found['total']} "
        f"GiB is {found['want']} GiB, and {found['free']} GiB are free. Other processes hold the rest."
    )


def _free_memory(found: Found) -> str:
    free, total = found.number("free") or 0.0, found.number("total") or 1.0
    if found.number("node") is not None:
        return (
            f"{found['free']} of {found['total']} GiB free, {found['want']} wanted: say in env how large the KV cache "
            "is (VLLM_CPU_KVCACHE_SPACE, in GiB), which vLLM then asks for instead of a share of the host, or lower "
            f"gpu_memory_utilization to {_floored(free / total)}."
        )
    share, gpu = free / total, _short_gpu(found)
    lower = f"lower gpu_memory_utilization to {_floored(share)} or " if share >= 0.1 else ""
    tenants = _tenants(gpu)
    whose = f": {tenants}" if tenants else " (nvidia-smi shows its processes; look for workers of an earlier start)"
    unified = ""
    if _is_unified(found):
        unified = " Memory is shared with the system here: stop the desktop and empty the page cache before the start."
    return (
        f"{found['free']} of {found['total']} GiB free, {found['want']} wanted: {lower}free the "
        f"GPU{whose}.{_roomier(found, gpu)}{unified} A shorter max_model_len does not help: this is checked before "
        "weights are read."
    )


def _drift(found: Found) -> str:
    grown = (found.number("cur") or 0.0) - (found.number("init") or 0.0)
    released = f"{grown:.2f} GiB" if grown > 0 else "some"
    return f"Another process released {released} of GPU memory while vLLM measured how much is free."


def _kv_too_small(found: Found) -> str:
    est, need, have = found.number("est"), found.number("need") or 0.0, found.number("have") or 0.0
    if est is not None:
        length = f"set max_model_len to {est:.0f} or less (vLLM's own estimate)"
    else:
        length = f"set max_model_len to about {int(found.number('len') or 0) * have / max(need, 0.01):.0f} or less"
    return (
        f"{length[:1].upper()}{length[1:]}, raise "
        f"gpu_memory_utilization{from_setting(found, 'gpu_memory_utilization')}, use "
        "kv_cache_dtype: fp8, or spread the model over more GPUs (tensor_parallel_size)."
    )


def _load_oom(found: Found) -> str:
    asked = re.search(
        r"Tried to allocate ([\d.]+ [KMG]iB)\. GPU \d+ has a total capacity of ([\d.]+ [KMG]iB) "
        r"of which ([\d.]+ \w+) is free",
        found.text,
    )
    much = f": {asked[1]} more were asked for, and {asked[3]} of {asked[2]} are free" if asked else ""
    return f"The weights do not fit into the memory of the GPU{much}."


def _no_blocks(found: Found) -> str:
    short = re.search(r"Available KV cache memory: -([\d.]+) GiB", found.text)
    missing = f" {short.group(1)} GiB are missing." if short else ""
    return (
        f"Raise gpu_memory_utilization{from_setting(found, 'gpu_memory_utilization')}, or lower "
        f"max_num_batched_tokens{from_setting(found, 'max_num_batched_tokens')} and max_num_seqs, or use more GPUs "
        f"(tensor_parallel_size) or smaller weights.{missing} gpt-oss-120b on one 80 GB card needs 0.95 and "
        "max_num_batched_tokens 1024."
    )


MEMORY: tuple[Signature, ...] = (
    Signature(
        "mem-profiling-drift",
        "Error in memory profiling",
        r"Error in memory profiling\. Initial free memory (?P<init>[\d.]+)(?: GiB)?,\s*current free memory "
        r"(?P<cur>[\d.]+)",
        _drift,
        "Start again: it usually works, and start servers on one GPU one after the other. On a GPU that others use, "
        "set kv_cache_memory_bytes (vLLM 0.10.2 or later), which skips the measurement. On a GB10 empty the page cache "
        "first. A lower gpu_memory_utilization or enforce_eager does not address it.",
        retryable=True,
    ),
    Signature(
        "mem-free-below-budget",
        "on startup is less than",
        r"(?:Free memory on device(?: (?P<dev>[\w:]+))?|Available memory on node (?P<node>\d+)) "
        r"\((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less than (?:desired [GC]PU memory utilization"
        r"|the engine's budget after excluding external process's weights) \((?P<util>[\d.]+), (?P<want>[\d.]+) GiB\)",
        _less_than_asked,
        _free_memory,
    ),
    Signature(
        "mem-host-kv",
        "on kv cache allocation is less than",
        r"Available memory on node (?P<node>\d+) \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on kv cache allocation is "
        r"less than requested memory for kv \((?P<want>[\d.]+) GiB\)",
        "The KV cache is to have {want} GiB, and {free} of {total} GiB of the memory of the host are free (node "
        "{node}).",
        "Lower VLLM_CPU_KVCACHE_SPACE in env (or kv_cache_memory_bytes in engine) below {free} GiB, or free memory "
        "there.",
    ),
    Signature(
        "gpu-taken",
        "gpufleet.vllm: ",
        # What a service runs before vLLM says so; one that waited and has them is past that.
        r"gpufleet\.vllm: (?P<who>\S+) does not start: (?P<why>(?!cannot run)[^\n]+?)(?: Put that right[^\n]*)?$"
        r"(?![\s\S]*gpufleet\.vllm: (?P=who) has its GPUs now)",
        "Server {who} cannot have its GPUs at this start: {why}",
        "Free those GPUs: one that waits for memory starts by itself then; start one that has ended again (systemctl "
        "reset-failed, then systemctl start). Or deploy it again, which chooses among the GPUs that are free now. With "
        "gpus.at_start: reselect it chooses by itself at each start.",
        retryable=None,
    ),
    Signature(
        "mem-no-cache-blocks",
        "No available memory for the cache blocks",
        r"No available memory for the cache blocks",
        "After weights and working memory nothing of the server's share of the GPU is left for the KV cache.",
        _no_blocks,
    ),
    Signature(
        "mem-kv-too-small",
        "is larger than the available KV cache|which is larger than the available KV",
        r"To serve at least one request with the models?'s max seq len \((?P<len>\d+)\), \(?(?P<need>[\d.]+) GiB "
        r"KV\s*cache is needed, which is larger than the available KV cache memory \((?P<have>[\d.]+) GiB\)"
        r"(?:\. Based on the available memory, the estimated maximum model length is (?P<est>\d+))?",
        "One request of max_model_len {len} needs {need} GiB of KV cache, and {have} GiB are available.",
        _kv_too_small,
    ),
    Signature(
        "mem-kv-too-small-v0",
        "that can be stored in KV cache",
        r"The model's max seq len \((?P<len>\d+)\) is larger than the maximum number of tokens that can be stored in "
        r"KV cache \((?P<have>\d+)\)",
        "One request of max_model_len {len} does not fit into the KV cache, which holds {have} tokens.",
        "Set max_model_len to {have} or less, raise gpu_memory_utilization, or use kv_cache_dtype: fp8.",
    ),
    Signature(
        "mem-state-blocks",
        "exceeds available Mamba cache blocks",
        r"max_num_seqs \((?P<seqs>\d+)\) exceeds available Mamba cache blocks \((?P<have>\d+)\)",
        "The layers of this model that keep a state have room for {have} requests at once, and max_num_seqs is {seqs}.",
        "Set max_num_seqs to {have} or less, or raise gpu_memory_utilization.",
    ),
    Signature(
        "mem-load-oom",
        "Failed to load model - not enough GPU memory",
        r"Failed to load model - not enough GPU memory",
        _load_oom,
        "Spread the model over more GPUs (tensor_parallel_size), take a smaller or quantised model, or free the GPU. A "
        "lower gpu_memory_utilization makes no room for weights.",
        narrows=("cuda-oom",),
    ),
    Signature(
        "mem-sampler-warmup-oom",
        "CUDA out of memory occurred when warming up",
        r"CUDA out of memory occurred when warming up (?:sampler|pooler)(?: with (?P<n>\d+) dummy requests)?",
        lambda f: (
            "After the KV cache was set aside, too little GPU memory is left to sample for "
            f"{f.groups.get('n', 'many')} requests at once."
        ),
        "Lower max_num_seqs (to 256, then 128) or gpu_memory_utilization.",
        narrows=("cuda-oom",),
    ),
    Signature(
        "mem-nvml-assert",
        "NVML_SUCCESS == r INTERNAL ASSERT FAILED",
        r"NVML_SUCCESS == r INTERNAL ASSERT FAILED",
        "PyTorch wanted more GPU memory than there was, or asked NVML for it within a MIG device, which may not ask.",
        "Lower gpu_memory_utilization or max_num_seqs. In a MIG device set PYTORCH_CUDA_ALLOC_CONF: "
        "expandable_segments:False in env, and give the server that device alone by its UUID.",
        retryable=None,
    ),
    Signature(
        "cuda-oom",
        "CUDA out of memory. Tried|HIP out of memory. Tried|PU out of memory. Tried|CUDA error: out of memory"
        "|CUDA driver error: out of memory|'out of memory'|CUDA Error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
        "|Triton Error [CUDA]: out of memory|hipErrorOutOfMemory",
        r"CUDA (?:driver )?[Ee]rror: (?:out of memory|CUBLAS_STATUS_ALLOC_FAILED)|Triton Error \[CUDA\]: out of memory"
        r"|hipErrorOutOfMemory"
        r"|(?:Cuda|HIP) failure:? \d* ?'out of memory'|(?:torch\.(?:cuda\.)?OutOfMemoryError: )?(?:CUDA|HIP|[NX]PU) "
        r"out of memory\. Tried to allocate (?P<want>[\d.]+ [KMG]iB)(?:\. GPU (?P<gpu>\d+) has a total capacity of "
        r"(?P<total>[\d.]+ [KMG]iB) of which (?P<left>[\d.]+ (?:[KMG]iB|bytes)) is free)?",
        lambda f: (
            f"The GPU ran out of memory{': ' + f['want'] + ' more were asked for' if 'want' in f else ''}"
            + (f", and {f['left']} of {f['total']} are free on GPU {f['gpu']}." if "left" in f else ".")
        ),
        "While loading: the model is too big for the GPU, so use more GPUs or smaller weights. While capturing graphs: "
        "lower gpu_memory_utilization or max_num_seqs, or set enforce_eager. While serving: lower "
        "gpu_memory_utilization by 0.05.",
        # Autotuners try, fail and go on.
        narrows=("cuda-error", "nccl-error"),
        final=False,
    ),
)
