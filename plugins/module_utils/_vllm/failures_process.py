# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What follows from a failure, or is the most that can be known without its cause (rows of the table)."""

from __future__ import annotations

import re

from .signature import HIGHER_ABOVE, Found, Signature


def _exit_code(found: Found) -> str:
    meaning = {
        -9: "killed with SIGKILL: by the kernel for lack of host memory, or by a user",
        -11: "segmentation fault",
        -7: "bus error: /dev/shm is too small",
        -6: "aborted",
        -15: "terminated with SIGTERM",
    }
    code = found.number("code")
    if code is None:
        return ""
    return f" (exit code {code:.0f}{': ' + meaning[int(code)] if int(code) in meaning else ''})"


# A start that got no further than to connect its GPUs.
AT_NCCL = re.compile(r"vLLM is using nccl==(?![\s\S]*(?:Starting to load model|Loading model|rank \d+ in world size))")
LOOK_BELOW = (
    "Look at what it says below that line, at dmesg for Xid lines, and at coredumpctl; update vLLM and the driver, and "
    "try another attention_backend or enforce_eager."
)
# What a crash that has one cause is known by.
CRASHES = {
    "Killed": "It was killed with SIGKILL: by the kernel for lack of memory (dmesg, free -h, the limit of the "
    "container or unit), or by a user. On unified memory (GB10) lower gpu_memory_utilization.",
    "Bus error": "Keep ipc_mode: host, or enlarge /dev/shm, which is too small; a file that was cut short while it "
    "was read ends so, too (compare the weights with those of the model's page).",
    "Illegal instruction": "The build does not suit this CPU (x86 needs AVX2, vLLM for CPUs AVX512): use vLLM's "
    "image, or build it on this host.",
}


PROCESS: tuple[Signature, ...] = (
    Signature(
        "worker-died",
        "died unexpectedly|died, exit code",
        r"Worker proc (?P<w>\S+) died unexpectedly(?: \(exit code: (?P<code>-?\d+|None)\))?, shutting down executor"
        r"|RayWorkerProc (?P<w1>rank=[^\n]{1,80}?) died unexpectedly, shutting down executor"
        r"|Worker (?P<w0>\S+ pid \d+) died, exit code: (?P<code0>-?\d+)",
        lambda f: f"The worker process {f['w']} died{_exit_code(f)}, and the engine with it.",
        "Look at dmesg for the kernel's out-of-memory killer and for Xid lines, at the host's free memory and at "
        "/dev/shm. The server leaves with status 0 then, so keep restart_policy: unless-stopped. Another "
        "distributed_executor_backend is no cure.",
        retryable=True,
        kind="symptom",
    ),
    Signature(
        "fork-after-cuda",
        "in forked subprocess",
        r"Cannot re-initialize \w+ in forked subprocess",
        "A worker was forked from a process that had used the GPU already, which CUDA does not allow (forked "
        "subprocess).",
        "Set VLLM_WORKER_MULTIPROC_METHOD: spawn in env. A plugin or a script that starts vLLM must not touch the GPU "
        "before, and guards what it does by if __name__ == '__main__'.",
    ),
    Signature(
        "engine-proc-died",
        "died unexpectedly",
        r"Engine core proc(?:ess)? (?P<p>\S+) died unexpectedly",
        "The engine's process {p} was killed or crashed.",
        "Look at dmesg for the kernel's out-of-memory killer and for Xid lines, and at coredumpctl.",
        retryable=True,
        kind="symptom",
    ),
    Signature(
        "rpc-timeout",
        "RPC call to",
        r"TimeoutError: RPC call to (?P<m>\w+) timed out",
        "A worker did not answer {m} in time: it hangs.",
        "Restart the server. If it happens again, look at dmesg for Xid lines and at NCCL (NCCL_DEBUG: INFO); raise "
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS only where the first run is known to be slow.",
        retryable=True,
        kind="symptom",
    ),
    Signature(
        "shm-broadcast-stall",
        "No available shared memory broadcast block",
        r"No available shared memory broadcast block found in (?P<s>\d+) seconds?",
        "A worker has not answered for {s} seconds and more: it hangs, or compiles.",
        lambda f: (
            "Set NCCL_P2P_DISABLE: 1 and NCCL_DEBUG: INFO in env: the GPUs wait for each other at their first "
            "exchange, as where an IOMMU, ACS or a virtual machine keeps them from reaching each other's memory; then "
            "update driver and firmware."
            if AT_NCCL.search(f.text)
            else "While serving: restart the server, and look at dmesg for Xid lines and at NCCL. While starting: "
            "wait, kernels may be compiling."
        ),
        retryable=True,
        final=False,
        kind="symptom",
    ),
    Signature(
        "ray-actor-died",
        "The actor died|The actor is dead|A worker died or was killed",
        r"The actor (?:died|is dead)|A worker died or was killed while executing",
        "A worker that Ray ran died, and the engine with it.",
        f"{HIGHER_ABOVE} If there is none: look at dmesg on the worker's host, and at its logs under /tmp/ray.",
        retryable=None,
        kind="symptom",
    ),
    Signature(
        "process-crashed",
        "Fatal Python error|Segfault encountered|received at time|terminate called|egmentation fault|Bus error"
        "|Illegal instruction|Aborted|Killed",
        r"Fatal Python error: (?P<what>[^\n]+)|!!!!!!! (?P<what2>Segfault) encountered|\*\*\* (?P<what3>SIG\w+) "
        r"received at time|(?P<what4>terminate called) (?:after|without)|\b(?P<what5>Segmentation fault)\b"
        # A shell says so: in a line of its own, or with its number and its command.
        r"|^(?P<what6>Bus error|Illegal instruction|Aborted(?= +\(core)|Killed)(?: +\(core dumped\))?$"
        r"|^\S+: line \d+: +\d+ (?P<what7>Bus error|Illegal instruction|Aborted|Killed)\b",
        "A process of the server crashed: {what}.",
        lambda f: CRASHES.get(f["what"].partition(":")[0], LOOK_BELOW),
        retryable=None,
        kind="symptom",
    ),
    Signature(
        "engine-fatal",
        "EngineCore encountered a fatal error|EngineCore hit an exception|got fatal signal|Got fatal signal",
        r"EngineCore encountered a fatal error|EngineCore hit an exception|[Gg]ot fatal signal from worker processes",
        "The engine failed.",
        HIGHER_ABOVE,
        retryable=None,
        kind="symptom",
    ),
    Signature(
        "engine-start-failed",
        "EngineCore failed to start|Engine core initialization failed|Engine process failed to start"
        "|died before responding to readiness",
        r"EngineCore failed to start|Engine core initialization failed\. See root cause above"
        r"(?:\. Failed core proc\(s\): \{'[^']+': (?P<code>-\d+))?"
        r"|Engine process failed to start|process died before responding to readiness",
        lambda f: f"The engine did not start{_exit_code(f)}.",
        f"{HIGHER_ABOVE} Where there is none, a process of it was killed: look at dmesg for the kernel's out-of-memory "
        "killer.",
        retryable=None,
        kind="symptom",
    ),
    Signature(
        "worker-init-failed",
        "WorkerProc",
        r"WorkerProc (?:initialization failed due to an exception in a background process|failed to start|hit an "
        r"exception)",
        "A worker process failed.",
        HIGHER_ABOVE,
        retryable=None,
        kind="symptom",
    ),
    Signature(
        "thread-died",
        "Exception in thread",
        # Who counts usage or draws a bar is not missed.
        r"Exception in thread (?!.*(?:usage|tqdm|TMonitor|metrics|telemetry|QueueFeeder))(?P<thread>\S[^\n]*?):?\s*$",
        "A thread of the server died ({thread}): it may still answer /health but no requests.",
        f"Restart the server, update vLLM if it happens again, and report what stands below that line. {HIGHER_ABOVE}",
        retryable=True,
        kind="symptom",
    ),
    Signature(
        "engine-dead",
        "EngineDeadError|EngineCore encountered an issue|output_handler failed|Engine loop is not running"
        "|Background loop |('Engine process (pid ",
        r"EngineDeadError|EngineCore encountered an issue\. See stack trace \(above\) for the root cause"
        r"|AsyncLLM output_handler failed|Engine loop is not running|Background loop (?:has errored|is stopped)"
        r"|RuntimeError\('Engine process \(pid \d+\) died",
        "The engine died while it served; the API server then leaves with status 0.",
        f"{HIGHER_ABOVE} Keep restart_policy: unless-stopped, which restarts a server that left with status 0 too.",
        retryable=True,
        kind="symptom",
    ),
)
