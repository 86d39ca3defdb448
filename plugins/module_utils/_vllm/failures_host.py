# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures of driver, GPU and host, and of what was built for another one (rows of the table in failures.py)."""

from __future__ import annotations

from .signature import Found, Signature


def _cuda_version(found: Found) -> str:
    number = int(found.number("found") or 0)
    return (
        f"The NVIDIA driver is older than vLLM's "
        f"CUDA{f' (it supports CUDA {number // 1000}.{number % 1000 // 10})' if number else ''}."
    )


HOST: tuple[Signature, ...] = (
    Signature(
        "driver-too-old",
        "root",
        ("driver on your system is too old", "CUDA driver version is insufficient"),
        r"(?:The NVIDIA driver on your system is too old \(found version (?P<found>\d+)\)"
        r"|CUDA driver version is insufficient for CUDA runtime version)",
        _cuda_version,
        "Update the driver (vLLM 0.20 and later are built for CUDA 13: R580 or newer), or use an image or wheel for "
        "CUDA 12.9, or vLLM 0.19 or older.",
        narrows=("no-gpu",),
    ),
    Signature(
        "cuda-compat-803",
        "root",
        ("Error 803",),
        r"Error 803: system has unsupported display driver / cuda driver combination",
        "The image's own CUDA compatibility libraries hide the host's newer driver.",
        "Take the compat directory out of the image's library path (LD_LIBRARY_PATH: /usr/local/nvidia/lib64), or "
        "use an image that matches the driver.",
        narrows=("no-gpu",),
    ),
    Signature(
        "no-kernel-image",
        "root",
        ("no kernel image is available",),
        r"no kernel image is available for execution on the device",
        "This build of vLLM or torch has no code for this GPU.",
        "Use a build for it (GB10: the NGC image, or a build for CUDA 13).",
    ),
    Signature(
        "ptxas-sm121",
        "root",
        ("ptxas fatal",),
        r"ptxas fatal\s*: Value '(?P<arch>sm_12\w+)' is not defined for option 'gpu-name'",
        "Triton's own ptxas does not know this GPU ({arch}).",
        "Set TRITON_PTXAS_PATH: /usr/local/cuda/bin/ptxas (CUDA 13) in env, or use a newer image.",
    ),
    Signature(
        "torch-arch-warning",
        "warn",
        ("Minimum and Maximum cuda capability",),
        r"Minimum and Maximum cuda capability supported by this version of PyTorch is",
        "PyTorch does not list this GPU; code for 12.0 runs on 12.1 (GB10) all the same.",
        "Nothing has to be done.",
        retryable=None,
        final=False,
    ),
    Signature(
        "missing-cudart",
        "root",
        ("cannot open shared object file",),
        r"ImportError: (?P<lib>lib(?:cudart|cublas|nccl|cusparseLt)[\w.-]*): cannot open shared object file",
        "{lib} is missing: torch and vLLM in this environment were built for different CUDA versions.",
        "Recreate the environment and install vLLM alone; it brings the torch it was built with.",
    ),
    Signature(
        "no-gpu",
        "root",
        (
            "Failed to infer device type",
            "No CUDA GPUs are available",
            "NVIDIA driver was not found",
            "could not select device driver",
            "no NVIDIA driver on your system",
        ),
        r"(?:Failed to infer device type|No CUDA GPUs are available|NVIDIA driver was not found"
        r"|no NVIDIA driver on your system|could not select device driver \"\" with capabilities: \[\[gpu\]\])",
        "The server sees no GPU.",
        "Check nvidia-smi on the host, then the NVIDIA Container Toolkit (docker run --gpus all), then gpus and "
        "CUDA_VISIBLE_DEVICES of this server.",
    ),
    Signature(
        "fa3-sinks",
        "root",
        ("Sinks are only supported in FlashAttention 3",),
        r"Sinks are only supported in FlashAttention 3",
        "The model was forced onto FlashAttention 2, which lacks attention sinks; FlashAttention 3 needs a Hopper GPU.",
        "Remove attention_backend and VLLM_ATTENTION_BACKEND: A100 and GB10 use Triton by themselves (vLLM 0.10.1 or "
        "later). Installing flash-attn changes nothing: vLLM brings its own.",
    ),
    Signature(
        "attn-backend-invalid",
        "root",
        ("No valid attention backend found for", "is not valid for"),
        r"(?:No valid attention backend found for|Selected backend (?P<backend>\S+) is not valid for)",
        lambda f: (
            "The attention backend that was asked for cannot run this model on this GPU"
            + (f" ({f['backend']})." if "backend" in f else ".")
        ),
        "Remove attention_backend and VLLM_ATTENTION_BACKEND, and vLLM chooses one.",
    ),
    Signature(
        "nvcc-missing",
        "root",
        ("Could not find nvcc", "nvcc: not found"),
        r"(?:Could not find nvcc and default cuda_home=|/usr/local/cuda/bin/nvcc: not found)",
        "A kernel has to be compiled on the host, and nvcc is missing.",
        "Install the CUDA toolkit's nvcc or the packages flashinfer-cubin and flashinfer-jit-cache, or set "
        "VLLM_USE_FLASHINFER_SAMPLER: 0 in env.",
        final=False,
    ),
    Signature(
        "cc-missing",
        "root",
        ("Failed to find C compiler", "Python.h: No such file", "No working C++ compiler found"),
        r"(?:Failed to find C compiler|fatal error: Python\.h: No such file|No working C\+\+ compiler found)",
        "A kernel has to be compiled on the host, and the C compiler or Python's headers are missing.",
        "Install gcc, g++ and python3-dev for the Python of this environment, or set enforce_eager.",
        final=False,
    ),
    Signature(
        "xid-unified-oom",
        "root",
        ("NV_ERR_NO_MEMORY", "NVRM: ", "oom-kill:", "Out of memory: Killed process"),
        r"(?:NV_ERR_NO_MEMORY|NVRM: .*Out of memory|oom-kill:.*|Out of memory: Killed process \d+ "
        r"\((?P<proc>[^)]*(?:VLLM|vllm|python)[^)]*)\))",
        "The memory of the host is used up, and the kernel killed the server.",
        "Lower gpu_memory_utilization; on unified memory (GB10) leave 10 to 15 % to the system and empty the page "
        "cache before the start. dmesg shows what was killed.",
        narrows=("worker-died", "engine-proc-died"),
        serving=True,
    ),
    Signature(
        "illegal-memory-access",
        "root",
        ("CUDA error: ",),
        r"CUDA error: (?P<what>an illegal memory access was encountered|device-side assert triggered"
        r"|unspecified launch failure|misaligned address)",
        "A kernel failed on the GPU: {what}.",
        "Look for Xid lines in dmesg (a fault of the card), update vLLM, and try another attention_backend or "
        "enforce_eager; CUDA_LAUNCH_BLOCKING: 1 in env shows where.",
        retryable=True,
    ),
)
