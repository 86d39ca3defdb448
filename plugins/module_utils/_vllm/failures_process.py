# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What follows from a failure, or is the most that can be known without its cause (rows of the table)."""

from __future__ import annotations

from .signature import HIGHER_ABOVE, Found, Signature


def _exit_code(found: Found) -> str:
    meaning = {
        -9: "killed with SIGKILL: by the kernel for lack of host memory, or by somebody",
        -11: "segmentation fault",
        -7: "bus error: /dev/shm is too small",
        -6: "aborted",
        -15: "terminated with SIGTERM",
    }
    code = found.number("code")
    if code is None:
        return ""
    return f" (exit code {code:.0f}{': ' + meaning[int(code)] if int(code) in meaning else ''})"


PROCESS: tuple[Signature, ...] = (
    Signature(
        "worker-died",
        "symptom",
        ("died unexpectedly",),
        r"Worker proc (?P<w>\S+) died unexpectedly(?: \(exit code: (?P<code>-?\d+|None)\))?, shutting down executor",
        lambda f: f"The worker process {f['w']} died{_exit_code(f)}, and the engine with it.",
        "Look at dmesg for the kernel's out-of-memory killer and for Xid lines, at the host's free memory and at "
        "/dev/shm. The server leaves with status 0 then, so keep restart_policy: unless-stopped. Another "
        "distributed_executor_backend is no cure.",
        retryable=True,
    ),
    Signature(
        "engine-proc-died",
        "symptom",
        ("died unexpectedly",),
        r"Engine core proc(?:ess)? (?P<p>\S+) died unexpectedly",
        "The engine's process {p} was killed or crashed.",
        "Look at dmesg for the kernel's out-of-memory killer and for Xid lines, and at coredumpctl.",
        retryable=True,
    ),
    Signature(
        "rpc-timeout",
        "symptom",
        ("RPC call to",),
        r"TimeoutError: RPC call to (?P<m>\w+) timed out",
        "A worker did not answer {m} in time: it hangs.",
        "Restart the server. If it happens again, look at dmesg for Xid lines and at NCCL (NCCL_DEBUG: INFO); raise "
        "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS only where the first run is known to be slow.",
        retryable=True,
    ),
    Signature(
        "shm-broadcast-stall",
        "symptom",
        ("No available shared memory broadcast block",),
        r"No available shared memory broadcast block found in (?P<s>\d+) seconds?",
        "A worker has not answered for {s} seconds and more: it hangs, or compiles.",
        "While serving: restart the server, and look at dmesg for Xid lines and at NCCL. While starting: wait, kernels "
        "may be compiling.",
        retryable=True,
        final=False,
    ),
    Signature(
        "engine-fatal",
        "symptom",
        ("EngineCore encountered a fatal error",),
        r"EngineCore encountered a fatal error",
        "The engine failed while it served.",
        HIGHER_ABOVE,
        retryable=None,
    ),
    Signature(
        "engine-start-failed",
        "symptom",
        ("EngineCore failed to start", "Engine core initialization failed"),
        r"EngineCore failed to start|Engine core initialization failed\. See root cause above",
        "The engine did not start.",
        HIGHER_ABOVE,
        retryable=None,
    ),
    Signature(
        "worker-init-failed",
        "symptom",
        ("WorkerProc",),
        r"WorkerProc (?:initialization failed due to an exception in a background process|failed to start|hit an "
        r"exception)",
        "A worker process failed.",
        HIGHER_ABOVE,
        retryable=None,
    ),
    Signature(
        "engine-dead",
        "symptom",
        ("EngineDeadError", "EngineCore encountered an issue"),
        r"EngineDeadError|EngineCore encountered an issue\. See stack trace \(above\) for the root cause",
        "The engine died while it served; the API server then leaves with status 0.",
        f"{HIGHER_ABOVE} Keep restart_policy: unless-stopped, which restarts a server that left with status 0 too.",
        retryable=True,
    ),
)
