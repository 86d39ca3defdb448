# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures that people reported: what a reader is told of each kind, the numbers in it, and whether to try again."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import Diagnosis, diagnose
from vllm_logs import START

ARGS = "(APIServer pid=1) INFO 11-21 10:00:00 [u.py:1] non-default args: {'model': 'm', 'tensor_parallel_size': 8}\n"
HEAD = "(EngineCore pid=9) ERROR 11-21 10:00:00 [core.py:842] "
END = (
    "(APIServer pid=1) Traceback (most recent call last):\n"
    "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n"
    "[rank0]:[W1121 10:00:01.1 ProcessGroupNCCL.cpp:1524] Warning: WARNING: destroy_process_group() was not called\n"
)
TRACE = ["EngineCore failed to start.", "Traceback (most recent call last):", '  File "/x/core.py", line 1, in f']


def failed(error: str) -> Diagnosis:
    """A start that fails in its engine, as vLLM tells of it."""
    return diagnose(START + ARGS + "".join(f"{HEAD}{line}\n" for line in [*TRACE, *error.split("\n")]) + END)


CONFIG = "pydantic_core._pydantic_core.ValidationError: 1 validation error for "
TYPE = " [type=value_error, input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]"
BLOCK = "is not divisible by weight quantization block_n = 128."


@pytest.mark.parametrize(
    ("error", "id", "cause", "remedy", "retryable"),
    [
        pytest.param(
            "torch.AcceleratorError: CUDA error: MPS client failed to connect to the MPS control daemon or the MPS "
            "server",
            "cuda-error",
            "MPS control daemon",
            "nvidia-cuda-mps-control -d",
            None,
            id="no MPS daemon",
        ),
        pytest.param(
            "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'",
            "ninja-missing",
            "build tool ninja is not found",
            "on the PATH of the unit",
            False,
            id="the build tool of a unit",
        ),
        pytest.param(
            "torch._inductor.exc.InductorError: FileNotFoundError: [Errno 2] No such file or directory: '/usr/bin/gcc'",
            "cc-missing",
            "C compiler",
            "Install gcc",
            False,
            id="a compiler within another error",
        ),
        pytest.param(
            "RuntimeError: Ninja build failed. Ninja output:\n[1/3] nvcc -c x.cu\n/bin/sh: 1: nvcc: not found\n"
            "ninja: build stopped: subcommand failed.",
            "nvcc-missing",
            "nvcc",
            "CUDA_HOME",
            False,
            id="the decisive line of a build",
        ),
        pytest.param(
            "ValueError: LoRA rank 33 is greater than max_lora_rank 16.",
            "lora-rank",
            "rank 33, and max_lora_rank is 16",
            "Set max_lora_rank to 64",
            False,
            id="the least rank that is taken",
        ),
        pytest.param(
            "ValueError: LoRA rank 64 is greater than max_lora_rank 16.",
            "lora-rank",
            "rank 64, and max_lora_rank is 16",
            "Set max_lora_rank to 64",
            False,
            id="a rank that is taken as it is",
        ),
        pytest.param(
            "NotImplementedError: OddExperts does not support LoRA. For unquantized MoE, set moe_backend='triton' or "
            "x.",
            "lora-unsupported",
            "LoRA adapters with OddExperts",
            "Set moe_backend to triton or auto",
            False,
            id="experts without adapters",
        ),
        pytest.param(
            "ValueError: OddForCausalLM does not support LoRA yet.",
            "lora-unsupported",
            "LoRA adapters with OddForCausalLM",
            "merge the adapter into the weights",
            False,
            id="a model without adapters",
        ),
        pytest.param(
            "ValueError: LoRA rank 1024 is greater than max_lora_rank 16.",
            "lora-rank",
            "rank 1024",
            "rank 512 or less",
            False,
            id="a rank that none is large enough for",
        ),
        pytest.param(
            f"ValueError: The output_size of gate's and up's weight = 192 {BLOCK}",
            "quant-block-split",
            "192 rows or columns on each, no multiple of the 128",
            "from 8 to 1 or 2 or 4,",
            False,
            id="over how many GPUs blocks can be split",
        ),
        pytest.param(
            "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89. "
            "Current "
            "capability: 75.",
            "gpu-too-old",
            "compute capability 7.5) is too old for The quantization method fp8, which needs 8.9",
            "another quantization",
            False,
            id="what a GPU lacks",
        ),
        pytest.param(
            "OutOfResources: out of resource: shared memory, Required: 131072, Hardware limit: 101376.",
            "gpu-shared-memory",
            "131072 bytes of shared memory, and the GPU has 101376",
            "attention_backend",
            False,
            id="shared memory",
        ),
        pytest.param(
            "KeyError: 'invalid tool call parser: qwen25 (chose from { hermes,qwen3_coder })'",
            "parser-unknown",
            "no tool call parser qwen25",
            "Set tool_call_parser to one of: hermes, qwen3_coder.",
            False,
            id="the parsers there are",
        ),
        pytest.param(
            "KeyError: \"Reasoning parser 'odd' not found. Available parsers: deepseek_r1, qwen3\"",
            "parser-unknown",
            "no reasoning parser odd",
            "Set reasoning_parser to one of: deepseek_r1, qwen3.",
            False,
            id="the parsers there are, in a newer version",
        ),
        pytest.param(
            "TimeoutError: Timed out waiting for engine core processes to start. Waited 900s (configured by X).",
            "engine-ready-timeout",
            "after 900 s",
            "VLLM_ENGINE_READY_TIMEOUT_S in env to 2700 (it is 900 unless set)",
            True,
            id="a start that took too long",
        ),
        pytest.param(
            "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients joined.",
            "rendezvous-timeout",
            "1 of 2 were there after 601 s",
            "node_rank",
            True,
            id="a host that did not come",
        ),
        pytest.param(
            "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while trying to "
            "connect to "
            "(10.0.0.7, 29500).",
            "rendezvous-timeout",
            "10.0.0.7 port 29500 did not answer",
            "master_addr",
            True,
            id="a host that cannot be reached",
        ),
        pytest.param(
            "torch.distributed.DistNetworkError: The client socket has failed to connect to any network address of "
            "(head, 29501). The IPv6 network addresses of (head, 29501) cannot be retrieved (gai error: -2 - Name or "
            "x).",
            "rendezvous-timeout",
            "the name head is not known here",
            "master_addr",
            True,
            id="a host whose name nobody knows",
        ),
        pytest.param(
            "RuntimeError: NCCL error: invalid usage\nncclInvalidUsage: This usually reflects invalid usage of NCCL.\n"
            "Last error:\nDuplicate GPU detected : rank 1 and rank 0 both on CUDA device 41000",
            "nccl-error",
            "failed: Duplicate GPU detected : rank 1 and rank 0",
            "Give each rank a GPU of its own",
            None,
            id="one GPU for two ranks",
        ),
        pytest.param(
            "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.\nMemory on the "
            "node "
            "(IP: 10.0.0.7) where the task (pid=1) was running was 115.60GB / 119.70GB (0.965748)",
            "ray-memory",
            "115.60GB of 119.70GB were in use",
            "RAY_memory_usage_threshold",
            None,
            id="Ray's monitor",
        ),
        pytest.param(
            "RuntimeError: NCCL error: unhandled cuda error\nncclUnhandledCudaError: Call to CUDA function "
            "failed.\nLast error:\n"
            "Cuda failure 'odd'",
            "nccl-error",
            "failed: Cuda failure 'odd'.",
            "NCCL_DEBUG",
            None,
            id="what NCCL says below",
        ),
        pytest.param(
            "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized",
            "fabric-not-ready",
            "fabric manager",
            "exactly the version of the driver",
            None,
            id="the fabric of NVSwitch",
        ),
        pytest.param(
            "torch.AcceleratorError: CUDA error: the provided PTX was compiled with an unsupported toolchain.",
            "driver-too-old",
            "driver is older",
            "Update the driver",
            False,
            id="PTX that is too new for a driver",
        ),
        pytest.param(
            "torch.AcceleratorError: CUDA error: an illegal instruction was encountered",
            "gpu-kernel-arch",
            "not built for this GPU",
            "GB10",
            False,
            id="an instruction that a GPU does not have",
        ),
        pytest.param(
            "RuntimeError: CUDA error: an illegal memory access was encountered",
            "illegal-memory-access",
            "illegal memory access",
            "dmesg",
            True,
            id="an access that may go well another time",
        ),
        pytest.param(
            "ValueError: invalid literal for int() with base 10: 'MIG-377e'",
            "gpu-unknown",
            "(MIG-377e)",
            "nvidia-smi -L",
            False,
            id="a UUID that a version does not take",
        ),
        pytest.param(
            "OSError: [Errno 122] Disk quota exceeded: '/home/u/.cache/x'",
            "disk-quota",
            "(/home/u/.cache/x)",
            "quota -s",
            False,
            id="a quota",
        ),
        pytest.param(
            "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 4294967296 bytes.",
            "host-memory",
            "4.0 GiB more were asked for",
            "free -h",
            None,
            id="the memory of the host",
        ),
        pytest.param(
            "ImportError: /x/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (required by /x/vllm/_C.abi3.so)",
            "glibc-too-old",
            "GLIBCXX_3.4.32 is missing",
            "libstdcxx-ng",
            False,
            id="a library of C++",
        ),
        pytest.param(
            "FileNotFoundError: No such file or directory: /m/x/model-00003-of-00008.safetensors",
            "weights-incomplete",
            "/m/x/model-00003-of-00008.safetensors is missing",
            "all shards",
            False,
            id="a shard that is missing",
        ),
        pytest.param(
            "ValueError: max_num_batched_tokens (2048) must be greater than or equal to max_num_seqs (4096).",
            "batch-below-seqs",
            "2048 is less than max_num_seqs 4096",
            "max_num_seqs to 2048 or less",
            False,
            id="two numbers that do not go together",
        ),
        pytest.param(
            f"{CONFIG}ParallelConfig\n  Value error, enable_expert_parallel must be True to use EPLB.{TYPE}",
            "config-invalid",
            "enable_expert_parallel must be True",
            "Change or leave out enable_expert_parallel or enable_eplb in engine",
            False,
            id="the settings that a check speaks of",
        ),
        pytest.param(
            f"{CONFIG}VllmConfig\n  Value error, Must use group quantization strategy in order to apply it.{TYPE}",
            "config-invalid",
            "group quantization strategy",
            "use a newer one, or other weights",
            False,
            id="a quantization that a check does not take",
        ),
        pytest.param(
            f"{CONFIG}SpeculativeConfig\n  Value error, x is odd. Use num_speculative_tokens=5 or larger.{TYPE}",
            "config-invalid",
            "x is odd",
            "Use num_speculative_tokens=5 or larger. Change or leave out num_speculative_tokens or "
            "speculative_config in engine.",
            False,
            id="what a check says to do",
        ),
        pytest.param(
            f"{CONFIG}VllmConfig\nscale_dtype\n  Extra inputs are not permitted [type=extra_forbidden, "
            f"input_value=None]",
            "config-invalid",
            "scale_dtype",
            "The model's config.json has scale_dtype",
            False,
            id="a key of the model's own file",
        ),
        pytest.param(
            f"{CONFIG}VllmConfig\ntensor_parallel_size\n  Extra inputs are not permitted [type=extra_forbidden, "
            f"i=None]",
            "config-invalid",
            "tensor_parallel_size",
            "Remove tensor_parallel_size from the setting in engine",
            False,
            id="a key that was given",
        ),
        pytest.param(
            "ValueError: Failed to load model - not enough GPU memory. Try lowering it.\ntorch.OutOfMemoryError: "
            "CUDA out of "
            "memory. Tried to allocate 260.00 MiB. GPU 0 has a total capacity of 6.00 GiB of which 0 bytes is free.",
            "mem-load-oom",
            "260.00 MiB more were asked for, and 0 bytes of 6.00 GiB are free",
            "more GPUs",
            False,
            id="how much was missing for the weights",
        ),
        pytest.param(
            "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 80.00 MiB. GPU 0 has a total capacity of "
            "15.92 GiB "
            "of which 0 bytes is free.",
            "cuda-oom",
            "0 bytes of 15.92 GiB are free on GPU 0",
            "more GPUs",
            False,
            id="nothing is free",
        ),
        pytest.param(
            "ModuleNotFoundError: No module named 'compressed_tensors.odd'",
            "module-missing",
            "The Python package compressed_tensors has no part compressed_tensors.odd",
            "Install what provides",
            False,
            id="a part of a package",
        ),
        pytest.param(
            "ModuleNotFoundError: No module named 'vllm.odd'",
            "module-missing",
            "The Python package vllm has no part vllm.odd",
            "no other directory is called vllm",
            False,
            id="a part of vLLM",
        ),
        pytest.param(
            "zmq.error.ZMQError: Address already in use (addr='tcp://localhost:5557')",
            "port-in-use",
            "Port 5557 is taken",
            "VLLM_NIXL_SIDE_CHANNEL_PORT",
            False,
            id="the port of a connector",
        ),
        pytest.param(
            "torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable",
            "cuda-error",
            "busy or unavailable",
            "its compute mode is exclusive",
            None,
            id="a GPU that another has for itself",
        ),
        pytest.param(
            "RuntimeError: CUDA error: peer access is not supported between these two devices",
            "cuda-error",
            "peer access",
            "Set disable_custom_all_reduce: true",
            None,
            id="GPUs that do not reach each other",
        ),
        pytest.param(
            "torch.AcceleratorError: CUDA error: operation not permitted when stream is capturing",
            "cuda-error",
            "stream is capturing",
            "Set enforce_eager: true",
            None,
            id="a graph that cannot be captured",
        ),
        pytest.param(
            "RuntimeError: CUDA Error: operation not supported at /workspace/csrc/cumem_allocator.cpp:62",
            "cuda-error",
            "operation not supported",
            "leave out enable_sleep_mode",
            None,
            id="what a virtual GPU lacks",
        ),
        pytest.param(
            '  File "/x/torch/_symmetric_memory/__init__.py", line 9, in rendezvous\nRuntimeError: CUDA driver error: invalid odd',
            "cuda-error",
            "invalid odd",
            "VLLM_ALLREDUCE_USE_SYMM_MEM: 0",
            None,
            id="symmetric memory",
        ),
        pytest.param(
            f"{CONFIG}VllmConfig\n  Value error, Cannot find the config file for awq_marlin{TYPE}",
            "quant-config-missing",
            "says awq_marlin",
            "Remove quantization",
            False,
            id="weights that are not quantized",
        ),
        pytest.param(
            f"{CONFIG}SpeculativeConfig\n  Value error, Number of experts must be odd when expert parallelism is "
            f"on{TYPE}",
            "config-invalid",
            "experts must be odd",
            "Number of experts must be odd when expert parallelism is on. Change or leave out enable_expert_parallel",
            False,
            id="what a check demands, without what pydantic puts before it",
        ),
        pytest.param(
            "ModuleNotFoundError: No module named 'transformers_modules.org.Odd-1'",
            "remote-code-name",
            "transformers_modules.org.Odd-1",
            "has no dot",
            False,
            id="a directory with a dot in its name",
        ),
    ],
)
def test_what_a_reader_is_told(error: str, id: str, cause: str, remedy: str, retryable: bool | None) -> None:
    found = failed(error)
    assert found.id == id
    assert cause in found.cause
    assert remedy in found.remedy
    assert found.retryable is retryable


def test_what_a_warning_told_is_a_cause_once_the_server_failed_of_nothing_known() -> None:
    """vLLM goes on without its own kernels, until it needs one."""
    warned = "WARNING 11-21 10:00:00 [x.py:1] Failed to import from vllm._C with ImportError('/x/_C.abi3.so: undefined symbol: _Z')\n"
    error = "Traceback (most recent call last):\nZorkError: odd\n"
    assert diagnose(START + warned).id == "none"
    assert diagnose(START + warned + error, ProcessState(running=False, exit_status=1)).id == "abi-mismatch"
    optional = warned.replace("vllm._C", "vllm._qutlass_C")
    assert diagnose(START + optional + error, ProcessState(running=False, exit_status=1)).id == "unknown"
    known = "ValueError: LoRA rank 64 is greater than max_lora_rank 16.\n"
    assert diagnose(START + warned + known, ProcessState(running=False, exit_status=1)).id == "lora-rank"


def test_a_package_that_was_done_without_is_no_cause() -> None:
    handled = "Traceback (most recent call last):\nModuleNotFoundError: No module named 'odd'\n"
    error = "Traceback (most recent call last):\nZorkError: odd\n"
    gone = ProcessState(running=False, exit_status=1)
    assert diagnose(START + handled, gone).id == "module-missing"
    during = "\nDuring handling of the above exception, another exception occurred:\n\n"
    found = diagnose(START + handled + during + error, gone)
    assert (found.id, "ZorkError: odd" in found.cause) == ("unknown", True)


def test_how_a_process_of_the_engine_ended_is_said_with_its_signal() -> None:
    found = diagnose(START + END.replace("{}", "{'EngineCore': -11}"), ProcessState(running=False, exit_status=1))
    assert (found.id, "(exit code -11: segmentation fault)" in found.cause) == ("engine-start-failed", True)


def test_a_line_of_code_that_raises_is_no_message() -> None:
    code = '    raise ValueError(f"LoRA rank 64 is greater than max_lora_rank 16")\n'
    assert diagnose(f"{START}Traceback (most recent call last):\n{code}ZorkError: odd\n").id == "unknown"


def test_a_start_that_stands_where_its_gpus_first_meet_is_told_how_they_do() -> None:
    met = "INFO 11-21 10:00:00 [pynccl.py:1] vLLM is using nccl==2.27.7\n"
    stall = "INFO 11-21 10:00:00 [s.py:1] No available shared memory broadcast block found in 60 seconds.\n" * 9
    loaded = "INFO 11-21 10:00:00 [g.py:1] Starting to load model m...\n"
    for between, remedy in (("", "NCCL_P2P_DISABLE: 1"), (loaded, "kernels may be compiling")):
        found = diagnose(f"{START}{met}{between}{stall}", ProcessState(running=True))
        assert (found.id, remedy in found.remedy) == ("shm-broadcast-stall", True)
