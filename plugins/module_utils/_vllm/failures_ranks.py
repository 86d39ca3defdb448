# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures of ports, of several GPUs and of several hosts (rows of the table in failures.py)."""

from __future__ import annotations

from .signature import Found, Signature


def _world_size(found: Found) -> str:
    gpus = found["gpus"] if "gpus" in found else found["n"]
    return (
        f"Set tensor_parallel_size times pipeline_parallel_size to {gpus} or less, or let the server see more GPUs "
        "(gpus, CUDA_VISIBLE_DEVICES). Across several hosts use nnodes, node_rank and master_addr (vLLM 0.11.1 or "
        "later)."
    )


def _heads(found: Found) -> str:
    heads, size = int(found.number("h") or 0), int(found.number("tp") or 0)
    fitting = [str(n) for n in range(1, size + 1) if heads and heads % n == 0]
    return f"Set tensor_parallel_size to one of {', '.join(fitting) or '1'}: it has to divide {heads}."


def _port(found: Found) -> str:
    return found.groups.get("port") or found.settings("port") or "8000"


RANKS: tuple[Signature, ...] = (
    Signature(
        "port-in-use",
        "root",
        ("[Errno 98]",),
        r"\[Errno 98\] (?:Address already in use|error while attempting to bind on address(?: \('[^']*', "
        r"(?P<port>\d+)\))?)",
        lambda f: f"Port {_port(f)} is taken by another process.",
        lambda f: (
            f"Give the server another port, or stop what holds it: 'ss -ltnp sport = :{_port(f)}' shows who. (vLLM "
            "0.7.3 to 0.24 do not even notice a second vLLM of the same user on a port; requests are split between "
            "the two.)"
        ),
    ),
    Signature(
        "dist-port-race",
        "root",
        ("The server socket has failed to listen",),
        r"(?:DistNetworkError|RuntimeError): The server socket has failed to listen on any local network "
        r"address.*EADDRINUSE",
        "Two servers that started together picked the same internal port.",
        "Start again, one server after the other, or give each its own VLLM_PORT in env (a base for internal ports).",
        retryable=True,
    ),
    # --- Several GPUs ---
    Signature(
        "world-size",
        "root",
        ("the number of available GPUs",),
        r"(?:World size \((?P<ws>\d+)\) is larger than the number of available GPUs \((?P<gpus>\d+)\)"
        r"|Tensor parallel size \((?P<tp>\d+)\) cannot be larger than the number of available GPUs \((?P<n>\d+)\))",
        lambda f: (
            f"The server is to use {f['ws'] if 'ws' in f else f['tp']} GPUs and sees "
            f"{f['gpus'] if 'gpus' in f else f['n']}."
        ),
        _world_size,
    ),
    Signature(
        "local-world-size",
        "root",
        ("local_world_size",),
        r"local_world_size \((?P<lws>\d+)\) must (?:be )?(?:be )?less than or equal to the number of visible devices "
        r"\((?P<n>\d+)\)",
        "The server is to use {lws} GPUs on this host and sees {n}.",
        _world_size,
    ),
    Signature(
        "heads-not-divisible",
        "root",
        ("Total number of attention heads",),
        r"Total number of attention heads \((?P<h>\d+)\) must be divisible by tensor parallel size \((?P<tp>\d+)\)",
        "The model's {h} attention heads cannot be split over {tp} GPUs.",
        _heads,
    ),
    Signature(
        "ray-missing",
        "root",
        ("Failed to import Ray",),
        r"Failed to import Ray",
        "Ray is asked for (distributed_executor_backend), and it is not installed.",
        "Set distributed_executor_backend to mp, which needs nothing, or install ray[cgraph] as well (it is no "
        "dependency since 0.18).",
    ),
    Signature(
        "ray-placement",
        "root",
        ("Cannot provide a placement group of",),
        r"Cannot provide a placement group of",
        "The Ray cluster has fewer free GPUs than the server asks for.",
        "Look at 'ray status', and join the missing hosts first.",
        retryable=True,
    ),
    Signature(
        "nccl-shm",
        "root",
        ("/dev/shm/nccl-",),
        r"NCCL WARN Error(?: while creating shared memory segment|: failed to extend) /dev/shm/nccl-\w+"
        r"(?: \(size (?P<size>\d+)\))?.*error: No space left on device",
        "/dev/shm is too small for NCCL, or full of leftovers.",
        "Set ipc_mode: host (the default), or at least 16 GiB of shared memory; delete /dev/shm/nccl-* after crashes.",
        narrows=("disk-full",),
    ),
    Signature(
        "nccl-error",
        "symptom",
        ("NCCL error", "ncclSystemError", "ncclUnhandledCudaError", "ncclRemoteError"),
        r"(?:DistBackendError: NCCL error|RuntimeError: NCCL error: |ncclSystemError: |ncclUnhandledCudaError: "
        r"|ncclRemoteError: )",
        "NCCL, which connects the GPUs, failed.",
        "Set NCCL_DEBUG: INFO in env and read its WARN lines. Keep ipc_mode: host; on hosts with several networks set "
        "NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME.",
        retryable=None,
    ),
    Signature(
        "nvlink-multicast",
        "root",
        ("cuMulticast", "upport multicast"),
        r"\bcuMulticast\w+|[Dd]oes not support multicast",
        "NVLink multicast is not available on this host, and a kernel that joins several GPUs asked for it.",
        "In compilation_config set fuse_allreduce_rms of pass_config to false, and in env "
        "VLLM_ALLREDUCE_USE_SYMM_MEM: 0 and NCCL_NVLS_ENABLE: 0. Many virtual machines lack multicast.",
        # Some backends look for it and go on without.
        final=False,
    ),
)
