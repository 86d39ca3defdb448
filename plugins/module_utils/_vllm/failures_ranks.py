# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures of ports, of several GPUs and of several hosts (rows of the table in failures.py)."""

from __future__ import annotations

import re

from .signature import HIGHER_ABOVE, Found, Signature, of


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


def _nccl(found: Found) -> str:
    """What NCCL says itself: in its warnings, or below the exception."""
    own = re.search(r"NCCL WARN (?!.*(?:NCCL_\w+ (?:is )?set|ignored))([^\n]{1,300})", found.text) or re.search(
        r"^Last error: *\n?([^\n]{1,300})", found.text, re.MULTILINE
    )
    said = own.group(1).strip().rstrip(".") if own else ""
    return f"NCCL, which connects the GPUs, failed{': ' + said if said else ''}."


def _ray_memory(found: Found) -> str:
    used = re.search(r"was running was ([\d.]+GB) / ([\d.]+GB)", found.text)
    much = f": {used.group(1)} of {used.group(2)} were in use" if used else ""
    return f"Ray's memory monitor killed a worker, because the memory of its host was nearly used up{much}."


NCCL_SETTINGS = (
    "Set NCCL_DEBUG: INFO in env and read its WARN lines. Keep ipc_mode: host; on hosts with several networks set "
    "NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME."
)


RANKS: tuple[Signature, ...] = (
    Signature(
        "port-in-use",
        "[Errno 98]|port is already allocated|ddress already in use",
        r"Bind for \S*:(?P<port2>\d+) failed: port is already allocated|listen tcp\d? \S*:(?P<port3>\d+): bind: "
        r"address already in use|\[Errno 98\] (?:Address already in use|error while attempting to bind on address(?: "
        r"\('[^']*', (?P<port>\d+)\))?)|ZMQError: Address already in use \(addr='[^']*:(?P<port4>\d+)'\)",
        lambda f: f"Port {_port(f)} is taken by another process.",
        lambda f: (
            f"Give the server another port, or stop what holds it: 'ss -ltnp sport = :{_port(f)}' shows who. (vLLM "
            "0.7.3 to 0.24 do not even notice a second vLLM of the same user on a port; requests are split between "
            "the two.)"
            if "ZMQError" not in f.text
            else f"Stop what holds it ('ss -ltnp sport = :{_port(f)}' shows who), or set another in env: "
            "VLLM_NIXL_SIDE_CHANNEL_PORT for a NixlConnector, VLLM_PORT as the base of other internal ports."
        ),
    ),
    Signature(
        "port-denied",
        "error while attempting to bind|sock.bind(",
        r"\[Errno 13\] error while attempting to bind on address \('[^']*', (?P<port>\d+)\)"
        r"|sock\.bind\([^\n]*\n(?:[ ^~]*\n)?PermissionError: \[Errno 13\] Permission denied",
        lambda f: f"The server may not listen on port {_port(f)}: those below 1024 are for root.",
        "Set port to one above 1024; a proxy or a port of the container may pass a lower one on.",
        narrows=("permission-denied",),
    ),
    Signature(
        "dist-port-race",
        "The server socket has failed to listen",
        r"(?:DistNetworkError|RuntimeError): The server socket has failed to listen on any local network "
        r"address.*EADDRINUSE",
        "Two servers that started together picked the same internal port.",
        "Start again, one server after the other, or give each its own VLLM_PORT in env (a base for internal ports).",
        retryable=True,
    ),
    # --- Several GPUs ---
    Signature(
        "world-size",
        "the number of available GPUs",
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
        "local_world_size|is out of bounds for ",
        r"local_world_size \((?P<lws>\d+)\) must (?:be )?(?:be )?less than or equal to the number of visible devices "
        r"\((?P<n>\d+)\)|local_world_size \((?P<lws2>\d+)\) exceeds assigned_physical_gpu_ids count \((?P<n2>\d+)\)"
        r"|local[_ ]rank (?P<rank>\d+) is out of bounds for (?P<n3>\d+) devices",
        lambda f: (
            f"The server is to use {int(f.number('rank') or 0) + 1 if 'rank' in f else f['lws']} GPUs on this host and "
            f"sees {f['n']}."
        ),
        _world_size,
    ),
    Signature(
        "heads-not-divisible",
        "Total number of attention heads",
        r"Total number of attention heads \((?P<h>\d+)\) must be divisible by tensor parallel size \((?P<tp>\d+)\)",
        "The model's {h} attention heads cannot be split over {tp} GPUs.",
        _heads,
    ),
    Signature(
        "ray-missing",
        "Failed to import Ray",
        r"Failed to import Ray",
        "Ray is requested (distributed_executor_backend) and not installed.",
        "Set distributed_executor_backend to mp, which needs nothing, or install ray[cgraph] as well (it is no "
        "dependency since 0.18).",
    ),
    Signature(
        "ray-placement",
        "Cannot provide a placement group|lacement group bundle|Not enough resources to allocate|number of required ",
        r"Cannot provide a placement group (?:of\b|requiring (?P<gpus>\d+) GPUs)"
        r"|placement group bundle index \d+ is invalid|number of required \w+ exceeds the total number of available"
        r"|Not enough resources to allocate (?P<gpus2>\d+ DP ranks)",
        lambda f: f"The Ray cluster has fewer free GPUs than the server asks for{of(f, 'gpus')}.",
        "Look at 'ray status', and join the missing hosts first, or lower tensor_parallel_size, "
        "pipeline_parallel_size or data_parallel_size.",
        retryable=True,
    ),
    Signature(
        "nccl-shm",
        "/dev/shm/nccl-|unable to ",
        r"NCCL WARN Error(?: while creating shared memory segment|: failed to extend) /dev/shm/nccl-\w+"
        r"(?: \(size (?P<size>\d+)\))?.*error: No space left on device|unable to (?:open shared memory object|write "
        r"to file|resize file) <[^>]*>.*No space left",
        "/dev/shm is too small, or full of leftovers.",
        "Set ipc_mode: host (the default), or at least 16 GiB of shared memory; delete /dev/shm/nccl-* after crashes.",
        narrows=("disk-full",),
    ),
    Signature(
        "shm-full",
        "Insufficient space in /dev/shm",
        r"Insufficient space in /dev/shm for (?P<what>[^:\n]+): (?P<needed>\d+) MiB required, (?P<free>\d+) MiB free",
        "/dev/shm has {free} MiB free, and vLLM asks for {needed} MiB there.",
        "Set ipc_mode: host (the default) for a container. Where it is the host's, as for a service, delete "
        "what servers that were killed left there, or enlarge it (mount -o remount,size=16g /dev/shm).",
    ),
    Signature(
        "socket-path-long",
        "path too long|is longer than 107",
        r"AF_UNIX path too long|ipc path \"[^\"]*\" is longer than 107",
        "The path of a socket is too long: the system takes 107 characters.",
        "Set VLLM_RPC_BASE_PATH and TMPDIR in env to a short directory, such as /tmp.",
    ),
    Signature(
        "interface-missing",
        "Unable to find address for: ",
        r"Unable to find address for: (?P<name>\S+)",
        "This host has no network interface {name} with an address.",
        "Set GLOO_SOCKET_IFNAME (and NCCL_SOCKET_IFNAME) in env to one that 'ip address' lists here, or leave it out.",
    ),
    Signature(
        "nccl-network",
        "socketStartConnect|socketPollConnect|socketProgress|NET/IB : |Bootstrap : no socket|ibv_|No route to host",
        r"NCCL WARN (?P<why>[^\n]*(?:socket\w*Connect: |socketProgress: |Bootstrap : no socket|ibv_\w+|NET/(?:IB"
        r"|Socket) ?:)[^\n]*)|^(?P<why2>socket\w+: Connect to [^\n]+)",
        lambda f: f"NCCL cannot connect the hosts: {f['why'].strip().rstrip('.')[:250]}.",
        "Set NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME in env to the interface that all hosts share, open the firewall "
        "between them for all ports, and for InfiniBand or RoCE check NCCL_IB_HCA and NCCL_IB_GID_INDEX "
        "(NCCL_IB_DISABLE: 1 does without). If ibv_ calls cannot allocate memory, allow memlock: -1 (ulimits).",
        retryable=None,
        narrows=("nccl-error",),
    ),
    Signature(
        "nccl-error",
        "NCCL error|ncclSystemError|ncclUnhandledCudaError|ncclRemoteError|ncclInternalError|ncclInvalidUsage",
        r"(?:DistBackendError: NCCL error|RuntimeError: NCCL error: |nccl(?:System|UnhandledCuda|Remote"
        r"|Internal)Error: |ncclInvalidUsage: )",
        _nccl,
        lambda f: (
            "Give each rank a GPU of its own: compare gpus and CUDA_VISIBLE_DEVICES with tensor_parallel_size, and "
            "with what other servers of the host have."
            if "Duplicate GPU detected" in f.text
            else NCCL_SETTINGS
        ),
        retryable=None,
        kind="symptom",
    ),
    Signature(
        "nccl-timeout",
        "collective operation timeout",
        r"Watchdog caught collective operation timeout: \w+\([^\n]*?OpType=(?P<op>\w+)[^\n]*? ran for (?P<ms>\d+) "
        r"milliseconds",
        lambda f: (
            f"GPUs waited for each other for {(f.number('ms') or 0) / 1000:.0f} s ({f['op']}): one of them failed or "
            "hangs."
        ),
        f"{HIGHER_ABOVE} If there is none, look at dmesg of every host for Xid lines, and set NCCL_DEBUG: INFO in env.",
        retryable=None,
        kind="symptom",
    ),
    Signature(
        "rendezvous-timeout",
        "clients joined|client socket has|Gloo connectFullMesh|wait timeout after|Timed out initializing process group",
        r"Timed out after (?P<s>\d+) seconds waiting for clients\. (?P<n>\d+)/(?P<m>\d+) clients joined|The client "
        r"socket has (?:timed out after (?P<ms>\d+)ms while trying|failed) to connect to (?:any network address of "
        r")?\((?P<host>[^,)]+), (?P<port>\d+)\)(?P<why>[^\n]*)|Gloo connectFullMesh failed|wait timeout after "
        r"(?P<ms2>\d+)ms|Timed out initializing process group",
        lambda f: (
            f"The servers of the hosts did not find each other: {f['n']} of {f['m']} were there after {f['s']} s."
            if "n" in f
            else f"The servers of the hosts did not find each other: the name {f['host']} is not known here."
            if "host" in f and "gai error" in f["why"]
            else f"The servers of the hosts did not find each other: {f['host']} port {f['port']} did not answer."
            if "host" in f
            else "The servers of the hosts did not find each other in time."
        ),
        "Start all hosts at the same time, each with its own node_rank and the same nnodes and master_addr; the first "
        "has to be reached from the others at master_addr and master_port (firewall, and ipc and network of the "
        "container: host). Set VLLM_HOST_IP, NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME where a host has several "
        "networks.",
        retryable=True,
        narrows=("nccl-error",),
    ),
    Signature(
        "engine-ready-timeout",
        "Timed out waiting for |response from front-end|Did not receive response",
        # 0.10 and 0.11 leave out a blank.
        r"Timed out waiting for (?:new )?engine(?:s to send ?initial message|[ -]core processes to "
        r"start)[^\n]*?(?:Waited (?P<s>\d+) ?s|$)|Did not receive response from front-end process within (?P<min>\d+)",
        lambda f: (
            f"The engine was not ready{' after ' + f['s'] + ' s' if 's' in f else ' in time'}, and the API server "
            "gave up."
        ),
        lambda f: (
            f"Set VLLM_ENGINE_READY_TIMEOUT_S in env to {int((f.number('s') or 600) * 3)} (it is "
            f"{int(f.number('s') or 600)} unless set). What was slow stands above: reading weights, or compiling with "
            "an empty cache, which a second start finds full (VLLM_CACHE_ROOT on a disk that stays)."
        ),
        retryable=True,
    ),
    Signature(
        "ray-memory",
        "low on memory|memory pressure (OOM)",
        r"killed due to (?:the node running low on memory|memory pressure \(OOM\))",
        _ray_memory,
        "Free memory of that host, or raise the limit: RAY_memory_usage_threshold: 0.98 "
        "(RAY_memory_monitor_refresh_ms: 0 turns the monitor off) in the environment of ray start. On unified memory "
        "(GB10) lower gpu_memory_utilization: weights and cache count as memory of the host there.",
        retryable=None,
        narrows=("ray-actor-died",),
    ),
    Signature(
        "custom-all-reduce",
        "custom_all_reduce.cuh",
        r"custom_all_reduce\.cuh:\d+ '(?P<why>[^']+)'",
        "The all-reduce of vLLM, by which its GPUs add up their parts, failed: {why}.",
        "Set disable_custom_all_reduce: true, and NCCL does that. The GPUs cannot reach each other's memory as it "
        "wants: expandable_segments of PYTORCH_CUDA_ALLOC_CONF, a container without ipc_mode: host, or virtual GPUs "
        "keep them from it.",
        retryable=None,
    ),
    Signature(
        "nvlink-multicast",
        "cuMulticast|upport multicast|(NVLS) Multicast",
        r"\bcuMulticast\w+|[Dd]oes not support multicast|\(NVLS\) Multicast memory",
        "NVLink multicast is not available on this host, and a kernel that joins several GPUs asked for it.",
        "In compilation_config set fuse_allreduce_rms of pass_config to false, and in env "
        "VLLM_ALLREDUCE_USE_SYMM_MEM: 0 and NCCL_NVLS_ENABLE: 0. Many virtual machines lack multicast; elsewhere "
        "restart the fabric manager.",
        # Some backends look for it and go on without.
        final=False,
    ),
)
