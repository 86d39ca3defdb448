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
        ("a shell", "Bus error (core dumped)"),
        ("a script", "/start.sh: line 12:   345 Killed                  vllm serve m"),
        ("a shell, of an instruction", "Illegal instruction (core dumped)"),
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
    "mem-state-blocks": [
        (
            "0.19 on",
            "ValueError: max_num_seqs (1024) exceeds available Mamba cache blocks (530). Each decode sequence "
            "requires one "
            "Mamba cache block, so CUDA graph capture cannot proceed. Please lower max_num_seqs to at most 530.",
        ),
        (
            "of a worker",
            "RuntimeError: Worker failed with error 'max_num_seqs (256) exceeds available Mamba cache blocks (30). "
            "Each "
            "decode', please check the stack trace above for the root cause",
        ),
    ],
    "mem-nvml-assert": [
        (
            "torch 2.4",
            'RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED at "../c10/cuda/CUDACachingAllocator.cpp":838, please',
        ),
        ("torch 2.11", 'RuntimeError: NVML_SUCCESS == r INTERNAL ASSERT FAILED at "/pytorch/c10/x.cpp":1165, please'),
    ],
    "hf-rate-limit": [
        (
            "0.6 on",
            "requests.exceptions.HTTPError: 429 Client Error: Too Many Requests for url: "
            "https://huggingface.co/api/models/o/m",
        ),
        (
            "0.14",
            "(APIServer pid=1) ERROR 12-11 00:53:45 [repo_utils.py:63] We had to rate limit your IP (203.0.113.7).",
        ),
        (
            "Xet",
            "HfHubHTTPError: HTTP status client error (429 Too Many Requests) for url (https://cas-server.hf.co/x)",
        ),
    ],
    "tokenizer-too-new": [
        ("0.6", "Exception: data did not match any variant of untagged enum ModelWrapper at line 1251003 column 3"),
        (
            "normalizers",
            "Exception: data did not match any variant of untagged enum PyPreTokenizerTypeWrapper at line 69",
        ),
    ],
    "compile-cache": [
        (
            "0.13",
            "torch._dynamo.exc.BackendCompilerFailed: backend='<vllm.compilation.backends.VllmBackend object>' "
            "raised:\n"
            "UnpicklingError: pickle data was truncated",
        ),
        (
            "0.10",
            '  File "/x/site-packages/torch/_inductor/standalone_compile.py", line 140, in load\n    artifact = '
            "pickle.load(f)\n               ^^^^^^^^^^^^^^\n_pickle.UnpicklingError: pickle data was truncated",
        ),
        (
            "0.20",
            '  File "/x/site-packages/vllm/compilation/decorators.py", line 435, in g\n    x = pickle.load(f)\n'
            "EOFError: Ran out of input",
        ),
        ("0.8 and 0.9", "AssertionError: failed to get the hash of the compiled graph"),
        (
            "two servers at once",
            "OSError: [Errno 39] Directory not empty: "
            "'/root/.cache/vllm/torch_compile_cache/1d/rank_0_0/inductor_cache'",
        ),
        (
            "0.9 on",
            "RuntimeError: vLLM failed to compile the model. The most likely reason for this is that a previous "
            "compilation failed, "
            "leading to a corrupted compilation artifact. We recommend trying to remove "
            "~/.cache/vllm/torch_compile_cache",
        ),
        ("0.20", "AssertionError: Expected tensors only, but got: <class 'int'>"),
    ],
    "image-platform": [
        ("Docker", "exec /usr/bin/vllm: exec format error"),
        ("crun", "exec container process `/opt/venv/bin/vllm`: Exec format error"),
        (
            "a pull",
            "docker: Error response from daemon: no matching manifest for linux/arm64/v8 in the manifest list entries.",
        ),
        (
            "a pull of Podman's",
            "Error: choosing an image from manifest list docker://quay.io/modh/vllm:rhoai: no image found in image "
            "index for "
            'architecture "arm64", variant "v8", OS "linux"',
        ),
    ],
    "hf-token": [
        (
            "of another time",
            "huggingface_hub.errors.HfHubHTTPError: 401 Client Error: Unauthorized for url: "
            "https://huggingface.co/api/models/m",
        ),
        ("its own words", "Invalid credentials in Authorization header"),
        (
            "a fine-grained one",
            "403 Forbidden: Please enable access to public gated repositories in your fine-grained token settings.",
        ),
    ],
    "port-denied": [
        (
            "uvicorn",
            "ERROR:    [Errno 13] error while attempting to bind on address ('0.0.0.0', 80): permission denied",
        ),
        (
            "0.10 on",
            "    sock.bind(addr)\nPermissionError: [Errno 13] Permission denied",
        ),
    ],
    "unit-not-set-up": [
        ("its directory", "vllm.service: Failed at step CHDIR spawning /opt/vllm/bin/vllm: No such file or directory"),
        ("its user", "vllm.service: Failed at step USER spawning /opt/vllm/bin/vllm: No such process"),
        ("its variables", "vllm.service: Failed to load environment files: No such file or directory"),
    ],
    "unit-start-timeout": [("systemd", "vllm.service: start operation timed out. Terminating.")],
    "custom-all-reduce": [
        ("0.21 on", "Failed: Cuda error /workspace/csrc/custom_all_reduce.cuh:455 'invalid argument'"),
        ("0.4 to 0.20", "Failed: /workspace/csrc/custom_all_reduce.cuh:368 'peer access is not supported'"),
    ],
    "mem-host-kv": [
        (
            "0.27 on, CPU",
            "ValueError: Available memory on node 0 (2.5/7.77 GiB) on kv cache allocation is less than requested "
            "memory for kv "
            "(12.0 GiB). Decrease it.",
        )
    ],
    "fork-after-cuda": [
        (
            "torch",
            "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, use "
            "'spawn'.",
        )
    ],
    "unit-gave-up": [("systemd", "vllm.service: Start request repeated too quickly.")],
    "job-time-limit": [
        ("Slurm", "slurmstepd: error: *** JOB 12 ON node7 CANCELLED AT 2026-01-03T10:00:00 DUE TO TIME LIMIT ***")
    ],
    "libcuda-link": [
        ("binutils", "/usr/bin/ld: cannot find -lcuda: No such file or directory"),
        ("Triton", "AssertionError: libcuda.so cannot found!"),
    ],
    "torch-without-cuda": [
        ("torch", "AssertionError: Torch not compiled with CUDA enabled"),
        (
            "torch, for vLLM's libraries",
            "OSError: libtorch_cuda.so: cannot open shared object file: No such file or directory",
        ),
    ],
    "name-hidden": [
        (
            "Python",
            "ImportError: cannot import name 'LLM' from partially initialized module 'vllm' (most likely due to a "
            "circular "
            "import) (/app/vllm.py)",
        )
    ],
    "remote-code-name": [("transformers", "ModuleNotFoundError: No module named 'transformers_modules.Odd-1'")],
    "model-part-missing": [
        (
            "transformers",
            "OSError: Can't load image processor for 'org/m'. If you were trying to load it from "
            "'https://huggingface.co/models', "
            "look. Otherwise, make sure 'org/m' is the correct path to a directory containing a "
            "preprocessor_config.json file",
        ),
        ("a tokenizer", "OSError: Can't load tokenizer for '/models/m'. If you were trying to load it, look."),
        (
            "the configuration",
            "OSError: Can't load the configuration of '/models/m'. If you were trying to load it, look.",
        ),
        (
            "0.8 on",
            "TypeError: Invalid type of HuggingFace processor. Expected type: <class 'x'>, but found type: <class 'y'>",
        ),
        (
            "a file",
            "OSError: org/m does not appear to have a file named model.safetensors. Checkout "
            "'https://huggingface.co/org/m/tree/main'",
        ),
    ],
    "quant-config-missing": [("0.2 on", "ValueError: Cannot find the config file for awq_marlin")],
    "lora-broken": [
        (
            "0.5 on",
            "ValueError: While loading /a, expected target modules in {'q_proj'} but received ['odd']. Please verify "
            "it",
        ),
        ("a weight", "ValueError: base_model.model.lm_head.weight is unsupported LoRA weight"),
        ("no directory", "ValueError: Loading lora a failed: No adapter found for /adapters/a"),
        ("its other modules", "ValueError: vLLM only supports modules_to_save being None."),
    ],
    "parser-tokens": [
        ("0.8 on", "RuntimeError: Odd reasoning parser could not locate think start/end tokens in the tokenizer!"),
        ("of tools", "RuntimeError: Odd Tool parser could not locate tool call start/end tokens in the tokenizer!"),
    ],
    "socket-path-long": [
        ("Python", "OSError: AF_UNIX path too long"),
        (
            "ZeroMQ",
            'zmq.error.ZMQError: ipc path "/odd/tmp/a2c0" is longer than 107 characters (sizeof(sockaddr_un.sun_path)).',
        ),
    ],
    "interface-missing": [
        ("Gloo", "RuntimeError: [enforce fail at /x/tcp/device.cc:84] ifa != nullptr. Unable to find address for: eth1")
    ],
    "probe-failed": [
        ("kubelet", "Normal   Killing    2m  kubelet  Container vllm failed liveness probe, will be restarted"),
        ("at its start", "Normal   Killing    2m  kubelet  Container vllm failed startup probe, will be restarted"),
    ],
    "no-node": [
        (
            "the scheduler",
            "Warning  FailedScheduling  10s  default-scheduler  0/3 nodes are available: 3 Insufficient "
            "nvidia.com/gpu. preemption: x",
        )
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
    "mem-state-blocks": f"{WARNING}Capping cudagraph capture sizes from max 512 to 352 to fit Mamba cache blocks (361)",
    "mem-nvml-assert": "RuntimeError: INTERNAL ASSERT FAILED at x.cpp:1, NVML_SUCCESS",
    "hf-rate-limit": 'INFO:     10.0.0.1:5000 - "POST /v1/chat/completions HTTP/1.1" 429 Too Many Requests',
    "tokenizer-too-new": f"{INFO}Each enum is untagged",
    "compile-cache": "_pickle.UnpicklingError: pickle data was truncated",
    "hf-token": 'INFO:     10.0.0.1:5000 - "POST /v1/chat/completions HTTP/1.1" 403 Forbidden',
    "port-denied": "OSError: [Errno 13] Permission denied: '/root/.cache'",
    "unit-not-set-up": "vllm.service: Failed at step EXEC spawning /opt/vllm/bin/vllm: No such file or directory",
    "unit-start-timeout": "vllm.service: State 'stop-sigterm' timed out. Killing.",
    "image-platform": f"{INFO}The platform of the image matches the one for architecture arm64",
    "custom-all-reduce": f"{WARNING}Custom allreduce is disabled because custom_all_reduce.cuh knows no PCIe",
    "mem-host-kv": f"{INFO}Available memory on node 0 (2.5/7.77 GiB), 1.0 GiB requested for kv",
    "fork-after-cuda": f"{WARNING}We must use the `spawn` start method: CUDA is initialized, and a forked subprocess "
    "may not",
    "unit-gave-up": "vllm.service: Scheduled restart job, restart counter is at 3.",
    "job-time-limit": "slurmstepd: error: *** JOB 12 ON node7 CANCELLED AT 2026-01-03T10:00:00 ***",
    "libcuda-link": "/usr/bin/ld: cannot find -lodd: No such file or directory",
    "torch-without-cuda": f"{WARNING}Torch was not compiled with flash attention.",
    "name-hidden": "ImportError: cannot import name 'x' from partially initialized module 'odd' (/app/odd.py)",
    "remote-code-name": "ModuleNotFoundError: No module named 'transformers_odd'",
    "model-part-missing": f"{WARNING}Can't load a faster image processor for now",
    "quant-config-missing": f"{INFO}Found the config file for awq_marlin",
    "lora-broken": '    raise ValueError(f"Loading lora {name} failed: No adapter found for {path}")',
    "parser-tokens": f"{INFO}Odd reasoning parser looks for think tokens",
    "socket-path-long": "OSError: [Errno 36] File name too long: '/odd'",
    "interface-missing": "RuntimeError: Unable to find address of the coordinator",
    "probe-failed": "Warning  Unhealthy  2m  kubelet  Liveness probe failed: connect: connection refused",
    "no-node": f"{INFO}3 of 3 nodes are available for the group",
}
