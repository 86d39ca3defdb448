# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Troubles as users meet and report them: each begins with the symptom and ends with the remedy that helps."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import plan
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import Instance, Observed, Wanted
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import diagnose
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.phases import timeline

START = "(APIServer pid=1) INFO 11-21 23:00:00 [a.py:1] vLLM API server version {}\n"
SERVING = (
    START.format("0.10.2") + "INFO:     Application startup complete.\nINFO 11-21 23:25:37 [loggers.py:123] Engine "
    "000: Avg prompt throughput: 100.1 tokens/s, Avg generation throughput: 68.3 tokens/s, Running: 1 reqs, Waiting: "
    "0 reqs\nINFO 11-21 23:26:17 [loggers.py:123] Engine 000: Avg prompt throughput: 0.0 tokens/s, Avg generation "
    "throughput: 0.0 tokens/s, Running: 1 reqs, Waiting: 0 reqs\n"
)


# Two H100 as a server next to a trainer.
H100_PAIR = [
    (
        "an attention kernel is named as in transformers",
        "vllm: error: unrecognized arguments: --attn-impl kernels-community/vllm-flash-attn3\n",
        ProcessState(False, 2),
        "args-unrecognized",
        "leave it out",
    ),
    (
        "the KV cache is to be bf16",
        "vllm serve: error: argument --kv-cache-dtype: invalid choice: 'bf16' (choose from 'auto', 'fp8', "
        "'fp8_e4m3')\n",
        ProcessState(False, 2),
        "args-invalid-choice",
        "Set kv_cache_dtype to auto",
    ),
    (
        "two GPUs are wanted, and one is visible",
        START.format("0.26.0") + "ValueError: World size (2) is larger than the number of available GPUs (1) in this "
        "node.\n",
        ProcessState(False, 1),
        "world-size",
        "let the server see more GPUs (gpus, CUDA_VISIBLE_DEVICES)",
    ),
    (
        "FlashAttention 3 cannot be loaded",
        START.format("0.10.1") + "AssertionError: Sinks are only supported in FlashAttention 3\n",
        ProcessState(False, 1),
        "fa3-sinks",
        "Remove attention_backend",
    ),
    (
        "the extension was built for another CUDA",
        "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory\n",
        ProcessState(False, 1),
        "missing-cudart",
        "install vLLM alone",
    ),
]

# A shared box of eight A100.
SHARED_A100 = [
    (
        "a neighbour released memory",
        START.format("0.11.0")
        + "AssertionError: Error in memory profiling. Initial free memory 41.19354248046875 GiB,\n"
        + "current free memory 41.640380859375 GiB. This happens when other processes sharing the\n"
        + "same container release GPU memory while vLLM is profiling during initialization.\n",
        ProcessState(False, 1),
        "mem-profiling-drift",
        "Start again: it usually works",
    ),
    (
        "a neighbour holds memory",
        START.format("0.11.0")
        + "ValueError: Free memory on device (43.15/79.32 GiB) on startup is less than desired GPU memory utilization "
        + "(0.75, 59.49 GiB).\n",
        ProcessState(False, 1),
        "mem-free-below-budget",
        "lower gpu_memory_utilization to 0.54 or free the GPU",
    ),
    (
        "the old engine is asked for",
        START.format("0.11.0") + "ValueError: Using V1 AsyncLLMEngine, but envs.VLLM_USE_V1=False. This should not "
        "happen.\n",
        ProcessState(False, 1),
        "v0-removed",
        "There is no fallback to V0",
    ),
]

# Four GPUs under load for hours.
LONG_RUN = [
    (
        "throughput falls to 0.0, then a worker dies",
        SERVING + "ERROR 11-21 23:27:12 [multiproc_executor.py:149] Worker proc VllmWorker-2 died unexpectedly, "
        "shutting down executor.\nvllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See "
        "stack trace (above) for the root cause.\n",
        ProcessState(False, 0),
        "worker-died",
        "Another distributed_executor_backend is no cure",
    ),
    (
        "throughput falls to 0.0 and stays there",
        SERVING + "INFO 11-21 23:27:17 [shm_broadcast.py:466] No available shared memory broadcast block found in 60 "
        "seconds.\n",
        ProcessState(True),
        "shm-broadcast-stall",
        "restart the server",
    ),
    (
        "another executor is tried",
        START.format("0.20.0") + "ValueError: Failed to import Ray: No module named 'ray'.Please install Ray with `pip "
        "install ray`.\n",
        ProcessState(False, 1),
        "ray-missing",
        "Set distributed_executor_backend to mp",
    ),
    (
        "the context does not fit any more",
        START.format("0.10.2") + "ValueError: To serve at least one request with the models's max seq len (32768), "
        "(4.00 GiB KV cache is needed, which is larger than the available KV cache memory (2.10 GiB). Based on the "
        "available memory, the estimated maximum model length is 17200.\n",
        ProcessState(False, 1),
        "mem-kv-too-small",
        "Set max_model_len to 17200 or less",
    ),
]

# A GB10.
GB10 = [
    (
        "the vocabulary cannot be downloaded",
        START.format("0.10.1.1") + "openai_harmony.HarmonyError: error downloading or loading vocab file: failed to "
        "download or load vocab file\n",
        ProcessState(False, 1),
        "harmony-vocab-download",
        "Set encodings_dir",
    ),
    (
        "the vocabulary is mounted and not complete",
        START.format("0.10.1.1") + "openai_harmony.HarmonyError: invalid tiktoken vocab file: hash mismatch: "
        "computed=00, expected=446a\n",
        ProcessState(False, 1),
        "harmony-vocab-corrupt",
        "Delete o200k_base.tiktoken from encodings_dir and run the role again",
    ),
    (
        "free memory is less than desired",
        START.format("0.10.1.1") + "ValueError: Free memory on device (88.05/119.70 GiB) on startup is less than "
        "desired GPU memory utilization (0.85, 101.75 GiB).\n",
        ProcessState(False, 1),
        "mem-free-below-budget",
        "empty the page cache",
    ),
    (
        "MXFP4 for Gemma 3",
        START.format("0.10.1.1") + "NotImplementedError: Mxfp4 linear layer is not implemented\n",
        ProcessState(False, 1),
        "mxfp4-dense-unsupported",
        "Remove quantization: mxfp4",
    ),
    (
        "the container exits at once",
        "exec /usr/bin/vllm: exec format error\n",
        ProcessState(False, 126),
        "image-platform",
        "linux/arm64",
    ),
    (
        "a worker is killed while the cache is made",
        START.format("0.32.0") + "(EngineCore pid=9) ERROR 11-27 13:36:31 [multiproc_executor.py:315] Worker proc "
        "VllmWorker-0 died unexpectedly (exit code: -9), shutting down executor.\n"
        "(EngineCore pid=9) ERROR 11-27 13:36:31 [core.py:1198] EngineCore failed to start.\n"
        "(EngineCore pid=9) ERROR 11-27 13:36:31 [core.py:1198] Traceback (most recent call last):\n"
        '(EngineCore pid=9) ERROR 11-27 13:36:31 [core.py:1198]   File "/x/shm_broadcast.py", line 867, in acquire_read\n'
        '(EngineCore pid=9) ERROR 11-27 13:36:31 [core.py:1198]     raise RuntimeError("cancelled")\n'
        "(EngineCore pid=9) ERROR 11-27 13:36:31 [core.py:1198] RuntimeError: cancelled\n"
        "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s)"
        ": {}\n",
        ProcessState(False, 1),
        "worker-died",
        "out-of-memory killer",
    ),
    ("the container exits at once and says nothing", "", ProcessState(False, 127), "unknown", "evidence"),
    (
        "the kernel kills it while it loads",
        START.format("0.10.1.1") + "INFO 11-21 23:00:09 [g.py:1] Starting to load model openai/gpt-oss-120b...\n",
        ProcessState(False, 137, oom_killed=True),
        "xid-unified-oom",
        "leave 10 to 15 % to the system",
    ),
    (
        "no token for a gated model",
        START.format("0.10.1.1") + "huggingface_hub.errors.GatedRepoError: 401 Client Error.\nOSError: You are "
        "trying to access a gated repo.\n",
        ProcessState(False, 1),
        "hf-gated",
        "hf_token_file",
    ),
]


@pytest.mark.parametrize(
    ("trouble", "log", "state", "id", "remedy"),
    [*H100_PAIR, *SHARED_A100, *LONG_RUN, *GB10],
    ids=lambda value: value if isinstance(value, str) and "\n" not in value and " " in value else "",
)
def test_from_symptom_to_remedy(trouble: str, log: str, state: ProcessState, id: str, remedy: str) -> None:
    found = diagnose(log, state)
    assert found.id == id, trouble
    assert remedy in found.remedy


def test_refused_connections_while_it_warms_up_are_a_phase() -> None:
    """503 or connection refused: the server is not broken, it loads."""
    text = START.format("0.26.0") + (
        "Loading safetensors checkpoint shards:  27% Completed | 4/15 [00:10<00:27,  2.5s/it]\n"
    )
    assert diagnose(text, ProcessState(running=True)).id == "none"
    assert (timeline(text).current.name, timeline(text).current.detail) == ("load", "4/15")


def test_a_container_of_that_name_is_a_conflict_with_a_way_out() -> None:
    """Never removed with force: it may be somebody's."""
    foreign = Observed({"current": Instance("current", owned=False, running=True)}, "sha256:1")
    with pytest.raises(VllmError, match="left alone. .* or choose another container_name"):
        plan.plan(Wanted("started", "vllm-gpt-oss"), foreign)
