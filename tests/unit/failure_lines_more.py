# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of failures, like failure_lines.py: of arguments, and of processes that died."""

from __future__ import annotations

INFO = "INFO 11-21 10:00:00 [x.py:1] "
WARNING = "WARNING 11-21 10:00:00 [x.py:1] "
PYDANTIC = "pydantic_core._pydantic_core.ValidationError: 1 validation error for "

# id -> (version, line)
SAMPLES: dict[str, list[tuple[str, str]]] = {
    "no-model": [
        (
            "0.10 on",
            "ValueError: No model specified! Please specify model either as a positional argument or in a config file.",
        )
    ],
    "config-invalid": [
        (
            "of the whole",
            f"{PYDANTIC}SchedulerConfig\n  Value error, max_num_batched_tokens (512) is smaller than the block. "
            "[type=value_error, input_value=ArgsKwargs((), {}), input_type=ArgsKwargs]",
        ),
        (
            "of a field",
            f"{PYDANTIC}CompilationConfig\nmode\n  Input should be a valid integer, unable to parse string as an "
            "integer [type=int_parsing, input_value='high', input_type=str]",
        ),
        (
            "unknown to it",
            f"{PYDANTIC}StructuredOutputsConfig\nbackendd\n  Unexpected keyword argument "
            "[type=unexpected_keyword_argument, input_value='auto', input_type=str]",
        ),
        (
            "no JSON",
            f"{PYDANTIC}KVTransferConfig\nkv_transfer_config\n  Invalid JSON: expected value at line 1 column 1 "
            "[type=json_invalid, input_value='x', input_type=str]",
        ),
        (
            "a message of two lines",
            "ValidationError: 2 validation errors for ParallelConfig\n  Value error, this does not go with\n  that. "
            "[type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]",
        ),
    ],
    "ray-actor-died": [
        ("2.9", "ray.exceptions.RayActorError: The actor died unexpectedly before finishing this task."),
        ("2.40", "ray.exceptions.ActorDiedError: The actor died because of an error raised in its creation task, "),
        (
            "a task",
            "(raylet) A worker died or was killed while executing a task by an unexpected system error. To "
            "troubleshoot "
            "the problem, check the logs for the dead worker.",
        ),
    ],
    "process-crashed": [
        ("faulthandler", "Fatal Python error: Segmentation fault"),
        ("of an instruction", "Fatal Python error: Illegal instruction"),
        ("torch", "!!!!!!! Segfault encountered !!!!!!!"),
        ("Ray's", "*** SIGSEGV received at time=1745280000 on cpu 12 ***"),
        ("C++", "terminate called after throwing an instance of 'c10::Error'"),
        ("the shell", "/entrypoint.sh: line 3:    17 Segmentation fault      (core dumped) vllm serve m"),
    ],
    "thread-died": [
        ("0.10 on, input", "Exception in thread Thread-2 (process_input_sockets):"),
        ("0.10 on, output", "(EngineCore_DP0 pid=7) Exception in thread Thread-3 (process_output_sockets):"),
        ("Python 3.9", "Exception in thread Thread-4:"),
    ],
    "gpu-taken": [
        (
            "a service that keeps its GPUs",
            "ERROR gpufleet.vllm: qwen does not start: GPU 4: 11.0 of 80.0 GiB free, needs 60.0; PID 7 (ann) holds "
            "68.4 GiB. Put that right, or deploy the server again for other GPUs.",
        ),
        (
            "one that chooses",
            "ERROR gpufleet.vllm: qwen does not start: Cannot select 1 GPU with 60.0 GiB free on this host: 0 of 1 can "
            "be taken. GPU 4: 11.0 of 80.0 GiB free, needs 60.0.",
        ),
    ],
}

# id -> a line that only looks like it
LOOK_ALIKES: dict[str, str] = {
    "gpu-taken": "INFO gpufleet.vllm: qwen waits up to 20 s for its GPUs. GPU 4: 11.0 of 80.0 GiB free, needs 60.0.",
    "no-model": f"{INFO}No model was specified for the draft; n-grams are used",
    "config-invalid": f"{WARNING}1 validation error for Odd\n  Value error, x [type=value_error]",
    "ray-actor-died": f"{INFO}The actor dies with the engine",
    "process-crashed": f"{WARNING}Segmentation fault of a helper, which is started again",
    "thread-died": "Exception in thread Thread-1 (_report_usage_worker):",
}
