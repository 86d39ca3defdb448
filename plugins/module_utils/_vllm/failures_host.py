# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures of driver, GPU and host, and of what was built for another one (rows of the table in failures.py)."""

from __future__ import annotations

import re

from .signature import Found, Signature, of


def _cuda_version(found: Found) -> str:
    number = int(found.number("found") or 0)
    return (
        f"The NVIDIA driver is older than vLLM's "
        f"CUDA{f' (it supports CUDA {number // 1000}.{number % 1000 // 10})' if number else ''}"
        f"{' ' + found['want'] if 'want' in found else ''}."
    )


def _more(found: Found) -> str:
    need = found.number("need")
    return f" ({need / 2**30:.1f} GiB more were asked for)" if need else ""


# What helps where a call to the GPU failed, by its words and by what made it.
CALLS = (
    (
        r"^(?!.*MPS)[\s\S]*(?:symm_mem\.py|_symmetric_memory/)",
        "Set VLLM_ALLREDUCE_USE_SYMM_MEM: 0 in env: symmetric memory needs NVLink between all GPUs of the server.",
    ),
    (
        r"^.*MPS",
        "Start the MPS daemon (nvidia-cuda-mps-control -d) and give the server its pipe directory "
        "(CUDA_MPS_PIPE_DIRECTORY) and ipc_mode: host, or leave that variable out.",
    ),
    (
        r"^.*(?:busy or unavailable)",
        "Look at nvidia-smi: another process has this GPU for itself, or its compute mode is exclusive (nvidia-smi -c "
        "0 allows several). With MIG give the server one device by its UUID.",
    ),
    (
        r"^.*peer (?:access|mapping)",
        "Set disable_custom_all_reduce: true, and NCCL_P2P_DISABLE: 1 in env: these GPUs cannot reach each other's "
        "memory.",
    ),
    (
        r"^.*capturing",
        "Set enforce_eager: true, which captures no CUDA graphs, or another attention_backend or moe_backend, and use "
        "a newer vLLM.",
    ),
    (
        r"^.*operation not supported",
        "Virtual GPUs and WSL lack it: leave out enable_sleep_mode, and set PYTORCH_CUDA_ALLOC_CONF: "
        "expandable_segments:False in env.",
    ),
    (
        "",
        "Look at dmesg for Xid lines, at nvidia-smi for memory that others hold, and compare the driver with the CUDA "
        "of the image; CUDA_LAUNCH_BLOCKING: 1 in env shows which call it was.",
    ),
)


def _call(found: Found) -> str:
    text = f"{found['what']}\n{found.text}"
    return next(remedy for pattern, remedy in CALLS if re.match(pattern, text))


# What of a unit a step of systemd is set by.
UNIT_KEYS = {
    "CHDIR": "WorkingDirectory, which has to be there",
    "USER": "User, which the host has to know",
    "GROUP": "Group, which the host has to know",
    "NAMESPACE": "ReadWritePaths and BindPaths, whose paths have to be there",
    "STDOUT": "StandardOutput, whose directory has to be there",
    "env": "EnvironmentFile, which has to be there (a - before its path lets it be missing)",
}


HOST: tuple[Signature, ...] = (
    Signature(
        "driver-too-old",
        "driver on your system is too old|CUDA driver version is insufficient"
        "|compiled with an unsupported toolchain|UNSUPPORTED_PTX_VERSION|unsatisfied condition: cuda"
        "|ptxas application ptx input",
        r"(?:The NVIDIA driver on your system is too old \(found version (?P<found>\d+)\)"
        r"|CUDA driver version is insufficient for CUDA runtime version"
        r"|provided PTX was compiled with an unsupported toolchain|CUDA_ERROR_UNSUPPORTED_PTX_VERSION"
        r"|unsatisfied condition: cuda>=(?P<want>[\d.]+\d)|ptxas application ptx input[^\n]*Unsupported \.version)",
        _cuda_version,
        "Update the driver (vLLM 0.20 and later are built for CUDA 13: R580 or newer), or use an image or wheel for "
        "CUDA 12.9, or vLLM 0.19 or older.",
        narrows=("no-gpu", "cuda-error"),
    ),
    Signature(
        "fabric-not-ready",
        "system not yet initialized|SYSTEM_NOT_READY|SystemNotReady",
        r"(?:Error 802: )?system not yet initialized|CUDA_ERROR_SYSTEM_NOT_READY|cudaErrorSystemNotReady",
        "CUDA error 802: the NVSwitch fabric that connects the GPUs is not ready: the fabric manager is missing, does "
        "not run, or is of another version than the driver.",
        "Install nvidia-fabricmanager in exactly the version of the driver (nvidia-smi shows it), start it (systemctl "
        "enable --now nvidia-fabricmanager) and look at systemctl status nvidia-fabricmanager; in a virtual machine "
        "the host has to run it.",
        retryable=None,
        narrows=("no-gpu", "cuda-error"),
    ),
    Signature(
        "cuda-compat-804",
        "forward compatibility was attempted",
        r"forward compatibility was attempted on non supported HW",
        "CUDA error 804: the image brings newer CUDA libraries than the driver, and this GPU may not use them (only "
        "data center GPUs may).",
        "Update the driver to one that knows the image's CUDA, use an image for the driver's CUDA, or take the image's "
        "compat directory out of its library path (LD_LIBRARY_PATH: /usr/local/nvidia/lib64).",
        narrows=("no-gpu", "cuda-error"),
    ),
    Signature(
        "cuda-compat-803",
        "system has unsupported display driver|CUDA driver is a stub library",
        r"(?:Error 803: )?system has unsupported display driver / cuda driver combination"
        r"|(?P<stub>CUDA driver is a stub library)",
        lambda f: (
            f"{'Stubs of a CUDA toolkit' if 'stub' in f else 'Libraries of the image for CUDA compatibility'} hide the "
            "host's driver."
        ),
        "Take the directory compat (or lib64/stubs) out of the library path (LD_LIBRARY_PATH: "
        "/usr/local/nvidia/lib64), or use an image that matches the driver.",
        narrows=("no-gpu", "cuda-error"),
    ),
    Signature(
        "no-kernel-image",
        "no kernel image is available",
        r"no kernel image is available for execution on the device",
        "This build of vLLM or torch has no code for this GPU.",
        "Use a build for it (GB10: the NGC image, or a build for CUDA 13).",
    ),
    Signature(
        "ptxas-sm121",
        " fatal|Unsupported .version|PTX .version",
        r"ptxas(?:-\w+)? fatal\s*: Value '(?P<arch>sm_\w+)' is not defined for option 'gpu-name'"
        r"|ptxas /[^\n]*Unsupported \.version (?P<arch2>[\d.]+\d)|PTX \.version \S+ does not support \.target "
        r"(?P<arch3>sm_\w+)",
        "The ptxas that Triton uses is too old for this GPU ({arch}).",
        "Set TRITON_PTXAS_PATH (and TRITON_PTXAS_BLACKWELL_PATH): /usr/local/cuda/bin/ptxas (CUDA 13) in env, or use a "
        "newer image.",
    ),
    Signature(
        "torch-arch-warning",
        "Minimum and Maximum cuda capability",
        r"Minimum and Maximum cuda capability supported by this version of PyTorch is",
        "PyTorch does not list this GPU; code for 12.0 runs on 12.1 (GB10) anyway.",
        "Nothing has to be done.",
        retryable=None,
        final=False,
        kind="warn",
    ),
    Signature(
        "no-gpu",
        "Failed to infer device type|No CUDA GPUs are available|NVIDIA driver was not found"
        "|could not select device driver|no NVIDIA driver on your system|no CUDA-capable device|CUDA unknown error"
        "|driver not loaded|0 active drivers|DriverNotLoaded|libcuda.so.1|NVMLError_LibraryNotFound"
        "|NVIDIA-SMI has failed|GPU vendor from CDI|invalid runtime name: nvidia|nvidia-container-cli: ",
        r"(?:Failed to infer device type|No CUDA GPUs are available|NVIDIA driver was not found|no NVIDIA driver on "
        r"your system|no CUDA-capable device is detected|CUDA unknown error - this may|nvml error: driver not loaded"
        r"|(?P<why3>unknown or invalid runtime name: nvidia)|^RuntimeError: 0 active drivers"
        r"|NVMLError_(?:DriverNotLoaded|LibraryNotFound)|libcuda\.so\.1: cannot open shared object file|could not "
        r"select device driver \"\w*\" with capabilities: \[\[gpu\]\]|NVIDIA-SMI has failed because"
        r"|(?P<why>failed to discover GPU vendor from CDI[^\n]*)"
        r"|(?P<why2>nvidia-container-cli: (?!requirement error)[^\n]+))",
        lambda f: f"The server sees no GPU{': ' + f['why'].rstrip('. ')[:250] if 'why' in f else ''}.",
        "Check nvidia-smi on the host, then the NVIDIA Container Toolkit (docker run --gpus all; since Docker 29 it "
        "takes CDI devices: nvidia-ctk cdi generate), then gpus and CUDA_VISIBLE_DEVICES of this server.",
    ),
    Signature(
        "nvml-lost",
        "Failed to initialize NVML: Unknown Error|NVMLError_Unknown",
        r"Failed to initialize NVML: Unknown Error|NVMLError_Unknown\b",
        "The container may not use its GPUs any more: its cgroup lost them, as after systemctl daemon-reload.",
        "Recreate the container. So that it lasts: make CDI devices (nvidia-ctk cdi generate) or set "
        '"exec-opts": ["native.cgroupdriver=cgroupfs"] in /etc/docker/daemon.json, and update the Container Toolkit.',
        retryable=True,
        serving=True,
        narrows=("no-gpu",),
    ),
    Signature(
        "nvml-mismatch",
        "Driver/library version mismatch|LibRmVersionMismatch",
        r"Driver/library version mismatch|NVMLError_LibRmVersionMismatch",
        "The driver was updated, and the kernel still runs the old one.",
        "Reboot the host, or unload and load the nvidia modules while nothing uses a GPU.",
        narrows=("no-gpu",),
    ),
    Signature(
        "gpu-unknown",
        "unknown device|invalid literal for int() with base 10: '|NVMLError_NotFound|NVMLError_InvalidArgument"
        "|invalid device ordinal|unresolvable CDI devices|visible device ordinal|device < num_gpus"
        "|Invalid device id|Non-integer device ID|for logical device",
        r"device error: (?P<id>\S+): unknown device|invalid literal for int\(\) with base 10: '(?P<id2>(?:GPU"
        r"|MIG)-[^']*)'|NVMLError_(?:NotFound|InvalidArgument)\b|(?:CUDA error|Error 101): invalid device ordinal"
        r"|AssertionError: (?P<id6>Invalid device id)|Non-integer device ID '(?P<id7>[^']+)'|for logical device \d+ "
        r"is not visible in (?P<id8>\S+)|unresolvable CDI devices (?P<id3>\S+)|visible device ordinal \d+ is out of "
        r"range for (?P<id4>\w+=\S*)|device < num_gpus INTERNAL ASSERT FAILED[^\n]*(?P<id5>device=\d+, num_gpus=\d+)",
        lambda f: f"A GPU that the server is to use is not there{of(f, 'id')}, or vLLM cannot find it by that name.",
        "Compare gpus and CUDA_VISIBLE_DEVICES with nvidia-smi -L: write the whole UUID as it stands there, or the "
        "index. Up to vLLM 0.24 CUDA_VISIBLE_DEVICES takes indices alone; a MIG device goes to the container by its "
        "UUID, and within it CUDA_VISIBLE_DEVICES is left out.",
        narrows=("no-gpu", "cuda-error"),
    ),
    Signature(
        "gpu-fault",
        "uncorrectable ECC|fallen off the bus|GPU is lost|NVRM: Xid|uncorrectable NVLink",
        r"uncorrectable (?:ECC|NVLink) error|fallen off the bus|GPU is lost"
        r"|NVRM: Xid \([^)]*\): (?P<xid>8|48|61|62|63|64|74|79|92|94|95|109|119|120|140|143|154)\b",
        lambda f: f"A GPU is broken or has hung{' (Xid ' + f['xid'] + ')' if 'xid' in f else ''}.",
        "Look at nvidia-smi and dmesg for which one it is, drain the host and reset the GPU or reboot. If it comes "
        "again, take the card out of gpus and have it replaced.",
        serving=True,
        narrows=("cuda-error", "illegal-memory-access"),
    ),
    Signature(
        "fa3-sinks",
        "Sinks are only supported in FlashAttention 3",
        r"Sinks are only supported in FlashAttention 3",
        "The model was forced onto FlashAttention 2, which lacks attention sinks; FlashAttention 3 needs a Hopper GPU.",
        "Remove attention_backend and VLLM_ATTENTION_BACKEND: A100 and GB10 use Triton by themselves (vLLM 0.10.1 or "
        "later). Installing flash-attn changes nothing: vLLM brings its own.",
    ),
    Signature(
        "attn-backend-invalid",
        "No valid attention backend found for|is not valid for",
        r"(?:No valid attention backend found for|Selected backend (?P<backend>\S+) is not valid for)",
        lambda f: (
            "The attention backend that was asked for cannot run this model on this GPU"
            + (f" ({f['backend']})." if "backend" in f else ".")
        ),
        "Remove attention_backend and VLLM_ATTENTION_BACKEND, and vLLM chooses one.",
    ),
    Signature(
        "xid-unified-oom",
        "NV_ERR_NO_MEMORY|NVRM: |oom-kill|ut of memory: Killed process|killed by the OOM killer|oom_kill ev",
        r"(?:killed by the OOM killer|Failed with result 'oom-kill'|NV_ERR_NO_MEMORY|NVRM: .*Out of memory|oom-kill:.*"
        r"|Detected \d+ oom_kill event|ut of memory: Killed process \d+ \((?P<proc>[^)]*(?:VLLM|vllm|python)[^)]*)\))",
        "The memory of the host is used up, and the kernel killed the server.",
        "Lower gpu_memory_utilization; on unified memory (GB10) leave 10 to 15 % to the system and empty the page "
        "cache before the start. dmesg shows what was killed.",
        narrows=("worker-died", "engine-proc-died"),
        serving=True,
    ),
    Signature(
        "illegal-memory-access",
        "CUDA error: |NVRM: Xid|with error |Memory access fault by GPU",
        r"(?:CUDA error: |failed with error )(?P<what>an illegal memory access was encountered|device-side assert "
        r"triggered|unspecified launch failure|misaligned address)|(?P<what2>Memory access fault by GPU)|NVRM: Xid "
        r"\([^)]*\): (?P<xid>13|31)\b",
        lambda f: f"A kernel failed on the GPU: {'Xid ' + f['xid'] if 'xid' in f else f['what']}.",
        "Look for Xid lines in dmesg (a fault of the card), update vLLM, and try another attention_backend or "
        "enforce_eager; CUDA_LAUNCH_BLOCKING: 1 in env shows where.",
        retryable=True,
    ),
    Signature(
        "cuda-error",
        "CUDA error: |CUDA Error: |CUDA driver error: |HIP error: ",
        r"(?:CUDA|HIP) (?:driver )?[Ee]rror: (?P<what>[^\n]+)",
        lambda f: f"A call to the GPU failed: {f['what'].strip().rstrip('.')[:200]}.",
        _call,
        retryable=None,
        general=True,
    ),
    # --- The host and the user of the server ---
    Signature(
        "command-missing",
        "executable file not found|Failed at step EXEC|: command not found|: not found"
        "|bad interpreter: No such file|Failed to spawn: |not found in path|env: |required file not found",
        r"exec: \"?(?P<cmd>[^\"\s]+)\"?: executable file not found|Failed at step EXEC spawning (?P<cmd2>\S+): |(?:\b"
        r"|\d: )(?P<cmd3>vllm|(?<=\d: )(?!-|\S*(?:nvcc|ninja|cc|\+\+|clang|ptxas): )[\w./-]+): (?:command )?not found"
        r"|(?P<cmd4>/\S+): (?:bad interpreter: No such file|cannot execute: required file not found)"
        r"|\benv: .?(?P<cmd6>[\w./-]+).?: No such file|Executable \"(?P<cmd7>[^\"\n]+)\" not found in path"
        r"|^error: Failed to spawn: `(?P<cmd5>[^`\n]+)`",
        "The command {cmd} is not there.",
        "Install what brings it. In a container: check image and its entrypoint. In a unit: write the whole path of "
        "vllm in its environment (ExecStart=VENV/bin/vllm serve MODEL), and check that it is executable and its Python "
        "exists (head -1 of that file).",
    ),
    Signature(
        "unit-not-set-up",
        "Failed at step |Failed to load environment files",
        r"Failed at step (?P<step>(?!EXEC)[A-Z_]+) spawning \S+: (?P<why>[^\n]+)"
        r"|Failed to load (?P<env>environment files): (?P<why2>[^\n]+)",
        lambda f: f"The unit asks for what is not there ({f.groups.get('env') or f['step']}): {f['why'].rstrip('. ')}.",
        lambda f: (
            f"Correct {UNIT_KEYS.get('env' if 'env' in f else f['step'], 'the setting of the unit for that step')}, as "
            "systemctl cat shows it; then systemctl daemon-reload and start it again."
        ),
    ),
    Signature(
        "unit-gave-up",
        "repeated too quickly",
        r"[Ss]tart request repeated too quickly",
        "The unit failed again and again, and systemd starts it no more (start request repeated too quickly).",
        "Look at what it said before (journalctl -u UNIT), put that right, then systemctl reset-failed and start it "
        "again.",
        general=True,
    ),
    Signature(
        "job-time-limit",
        "DUE TO TIME LIMIT",
        r"DUE TO TIME LIMIT",
        "The batch system ended the server: the time of its job was up (DUE TO TIME LIMIT).",
        "Ask for more time (sbatch --time), or start it as a service.",
        retryable=True,
        serving=True,
    ),
    Signature(
        "probe-failed",
        "failed liveness probe|failed startup probe",
        r"failed (?P<kind>liveness|startup) probe, will be restarted",
        "Kubernetes ended the server, because its {kind} probe failed.",
        "Give it a startupProbe on /health whose failureThreshold times periodSeconds is longer than a start takes "
        "(minutes), so that the liveness probe begins after that.",
        retryable=True,
        serving=True,
    ),
    Signature(
        "no-node",
        "nodes are available: ",
        r"\d+/\d+ nodes are available: (?P<why>[^\n.]+(?:\.\w+[^\n.]*)*)",
        "Kubernetes finds no node for the server: {why}.",
        "Free GPUs, ask for fewer, or add a node; kubectl describe node shows whether the NVIDIA device plugin offers "
        "nvidia.com/gpu there, and which taints it has.",
        retryable=True,
    ),
    Signature(
        "unit-start-timeout",
        "tart operation timed out",
        r"[Ss]tart operation timed out",
        "The start took longer than the unit allows (TimeoutStartSec), and systemd ended it: start operation timed "
        "out.",
        "Set TimeoutStartSec=infinity in the unit, or Type=exec, with which a start ends at once: loading a model "
        "takes minutes, and vLLM does not tell systemd when it is ready.",
    ),
    Signature(
        "image-platform",
        "xec format error|no matching manifest for |for architecture |does not match the ",
        r"[Ee]xec format error|no matching manifest for (?P<want>linux/\w+(?:/\w+)?)|no image found in (?:image index"
        r"|manifest list) for architecture \"?(?P<want2>\w+)|image(?:'s)? platform \((?P<have>[^)]+)\) does not match "
        r"the (?:expected|detected host) platform \((?P<want3>[^)]+)\)",
        lambda f: (
            "The image was built for another CPU architecture than the one of this host"
            f"{': ' + f['have'] if 'have' in f else ''}{of(f, 'want')}."
        ),
        "Set image to one for this architecture: GB10 and GH200 take linux/arm64, which vLLM's images have since "
        "0.10.2 and NVIDIA's too; docker manifest inspect IMAGE lists what a tag has.",
    ),
    Signature(
        "uid-unknown",
        "getpwuid()|No username set in the environment",
        r"getpwuid\(\): uid not found: (?P<uid>\d+)|OSError: No username set in the environment",
        lambda f: (
            f"The container runs as a user without a name{of(f, 'uid')}: it has no entry in /etc/passwd, and torch "
            "asks for it (getpwuid)."
        ),
        "Set USER to any name in env, and HOME, VLLM_CACHE_ROOT and TORCHINDUCTOR_CACHE_DIR to directories that it may "
        "write; or run the container as the image's own user.",
        narrows=("permission-denied",),
    ),
    Signature(
        "permission-denied",
        "Permission denied|Read-only file system|no locator available for file",
        r"(?:\[Errno 13\] Permission denied|\[Errno 30\] Read-only file system)(?:: '(?P<path>[^']+)')?"
        r"|(?P<path2>/[^\s:'\"]+)'?: (?:cannot open shared object file: )?(?:Permission denied|Read-only file system)"
        r"|(?:Permission denied|Read-only file system) \(os error|no locator available for file",
        lambda f: f"The server may not read or write {f.groups.get('path', 'a file that it needs')}.",
        "Make it readable and writable for the user that the server runs as (ls -ln shows the owner; a mount may be "
        "read-only, and SELinux wants :z), or let HOME, HF_HOME, VLLM_CACHE_ROOT and TRITON_CACHE_DIR name directories "
        "that it may write.",
        # A cache that cannot be written is often done without.
        final=False,
    ),
    Signature(
        "disk-quota",
        "Disk quota exceeded",
        r"Disk quota exceeded(?:: '(?P<path>[^']+)')?",
        lambda f: f"The quota of the user on a file system is used up{of(f, 'path')}.",
        "Free space there or have the quota raised (quota -s shows it), or put the Hugging Face cache "
        "(huggingface_dir) and VLLM_CACHE_ROOT on another file system.",
        final=False,
    ),
    Signature(
        "host-memory",
        "Cannot allocate memory|std::bad_alloc|DefaultCPUAllocator: |MemoryError",
        r"\[Errno 12\] Cannot allocate memory|std::bad_alloc|DefaultCPUAllocator: (?:can't allocate memory|not enough "
        r"memory)[^\n]*?(?P<need>\d+) bytes|DefaultCPUAllocator: |^MemoryError\b|: Cannot allocate memory \(12\)",
        lambda f: f"The memory of the host, not of the GPU, is used up{_more(f)}.",
        "Look at free -h and at the limits of the container or unit (memory, MemoryMax), stop what else runs, or load "
        "with fewer processes; on unified memory (GB10) lower gpu_memory_utilization.",
        retryable=None,
    ),
    Signature(
        "process-limits",
        "Too many open files|can't start new thread|Resource temporarily unavailable|Thread creation failed"
        "|pthread_create failed",
        r"^[\w.]*Error: (?:\[Errno 24\] )?Too many open files(?!`)|(?P<threads>can't start new thread|\[Errno 11\] "
        r"Resource temporarily unavailable|libgomp: Thread creation failed|pthread_create failed)",
        lambda f: (
            f"The limit of the {'processes and threads' if 'threads' in f else 'open files'} of the server is reached."
        ),
        lambda f: (
            "Raise pids_limit of the container (TasksMax of the unit), or set OMP_NUM_THREADS to a small number in env."
            if "threads" in f
            else "Raise it: ulimits nofile of the container, LimitNOFILE=65536 in the unit."
        ),
    ),
)
