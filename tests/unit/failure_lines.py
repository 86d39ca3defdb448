# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines that fail, as the versions of vLLM in the range of each signature write them, and lines that only look like it.

They are rendered from the format strings of vLLM, torch and others, by era; real ones are in fixtures/vllm_logs.
"""

from __future__ import annotations

INFO = "INFO 11-21 10:00:00 [x.py:1] "
WARNING = "WARNING 11-21 10:00:00 [x.py:1] "
SEE = "See https://docs.vllm.ai/en/latest/configuration/conserving_memory/ for more details."

# id -> (version, line)
SAMPLES: dict[str, list[tuple[str, str]]] = {
    "mem-profiling-drift": [
        (
            "0.6 to 0.13",
            "AssertionError: Error in memory profiling. Initial free memory 41.19354248046875 GiB, current free memory "
            "41.640380859375 GiB. This happens when other processes sharing the same container release GPU memory",
        ),
        (
            "0.5, in bytes",
            "AssertionError: Error in memory profiling. Initial free memory 44231163904, current free memory "
            "44710494208.",
        ),
        (
            "0.14 on",
            "AssertionError: Error in memory profiling. Initial free memory 82.94 GiB, current free memory 90.17 GiB. "
            "This happens when other processes sharing the same container release GPU memory while vLLM is profiling",
        ),
        (
            "wrapped by a terminal",
            "AssertionError: Error in memory profiling. Initial free memory 41.19354248046875 GiB,\n"
            "current free memory 41.640380859375 GiB. This happens when other processes sharing the\nsame container",
        ),
    ],
    "mem-free-below-budget": [
        (
            "0.9 to 0.13",
            "ValueError: Free memory on device (31.44/47.38 GiB) on startup is less than desired GPU memory "
            "utilization (0.95, 45.01 GiB). Decrease GPU memory utilization or reduce GPU memory used by other "
            "processes.",
        ),
        (
            "0.32 on a CPU",
            "ValueError: Available memory on node 0 (20.28/23.54 GiB) on startup is less than desired CPU memory "
            "utilization (0.92, 21.66 GiB). On the CPU backend, the `--gpu-memory-utilization` flag controls the "
            "fraction",
        ),
        (
            "0.14 on",
            "ValueError: Free memory on device cuda:0 (1.53/22.05 GiB) on startup is less than desired GPU memory "
            "utilization (0.9, 19.84 GiB). Decrease GPU memory utilization or reduce GPU memory used by other "
            "processes.",
        ),
        (
            "0.32 on, weights held outside",
            "ValueError: Free memory on device cuda:1 (10.0/79.18 GiB) on startup is less than the engine's budget "
            "after excluding external process's weights (0.92, 42.8 GiB). Decrease GPU memory utilization or reduce",
        ),
    ],
    "mem-no-cache-blocks": [
        (
            "0.5 to 0.20",
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
            "initializing the engine.",
        ),
        (
            "0.32",
            "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
            "initializing the engine (this flag also controls CPU memory reservation on the CPU backend, despite its "
            f"name). {SEE}",
        ),
    ],
    "mem-kv-too-small": [
        (
            "0.7.3 to 0.21",
            "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (0.71 GiB). Based on the available memory, the "
            "estimated maximum model length is 5632. Try increasing `gpu_memory_utilization`",
        ),
        (
            "0.22 on",
            "ValueError: To serve at least one request with the model's max seq len (196608), (23.25 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (22.5 GiB). Based on the available memory, the "
            f"estimated maximum model length is 190272. Try increasing `gpu_memory_utilization`. {SEE}",
        ),
        (
            "without an estimate",
            "ValueError: To serve at least one request with the models's max seq len (32768), (4.00 GiB KV cache is "
            "needed, which is larger than the available KV cache memory (1.00 GiB). Try increasing",
        ),
    ],
    "mem-kv-too-small-v0": [
        (
            "up to 0.10.2",
            "ValueError: The model's max seq len (29000) is larger than the maximum number of tokens that can be "
            "stored in KV cache (23648). Try increasing `gpu_memory_utilization` or decreasing `max_model_len`",
        )
    ],
    "mem-load-oom": [
        (
            "0.13 on",
            "ERROR 11-21 10:00:00 [gpu_model_runner.py:5079] Failed to load model - not enough GPU memory. Try "
            "lowering --gpu-memory-utilization to free memory for weights, increasing --tensor-parallel-size, or "
            "using --quantization.",
        )
    ],
    "mem-sampler-warmup-oom": [
        (
            "0.8.5 on",
            "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests. Please try "
            "lowering `max_num_seqs` or `gpu_memory_utilization` when initializing the engine.",
        ),
        (
            "pooler",
            "RuntimeError: CUDA out of memory occurred when warming up pooler (tokens) with 1024 dummy requests.",
        ),
    ],
    "cuda-oom": [
        (
            "torch 2.5 on",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.18 GiB. GPU 0 has a total capacity of "
            "79.18 GiB of which 713.69 MiB is free.",
        ),
        ("torch 2.4", "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB."),
        ("asleep", "CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:62"),
        (
            "cuBLAS",
            "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        ),
        ("Triton", "RuntimeError: Triton Error [CUDA]: out of memory"),
        ("Ascend", "RuntimeError: NPU out of memory. Tried to allocate 898.00 MiB (NPU 0; 60.97 GiB total capacity)"),
        ("RCCL", "[2] [FATAL ERROR]: HIP failure: 'out of memory'"),
        ("HIP's name", "RuntimeError: hipErrorOutOfMemory"),
    ],
    "harmony-vocab-download": [
        (
            "0.10.1 to 0.30",
            "openai_harmony.HarmonyError: error downloading or loading vocab file: failed to download or load vocab "
            "file",
        ),
        (
            "tiktoken",
            "requests.exceptions.ConnectionError: HTTPSConnectionPool(host='openaipublic.blob.core.windows.net', "
            "port=443): Max "
            "retries exceeded",
        ),
    ],
    "harmony-vocab-missing-file": [
        (
            "0.10.1 on",
            "openai_harmony.HarmonyError: invalid tiktoken vocab file: No such file or directory (os error 2)",
        )
    ],
    "harmony-vocab-corrupt": [
        (
            "another file",
            "openai_harmony.HarmonyError: invalid tiktoken vocab file: hash mismatch: computed=0aa1, "
            "expected=446a9538cb6c",
        ),
        ("a web page", "openai_harmony.HarmonyError: invalid tiktoken vocab file: failed to decode base64: x"),
    ],
    "hf-gated": [
        ("403", "huggingface_hub.errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-x)"),
        (
            "401",
            "Cannot access gated repo for url https://huggingface.co/google/gemma-3-27b-it/resolve/main/config.json.",
        ),
        (
            "transformers 4",
            "OSError: You are trying to access a gated repo.\nMake sure to have access to it at "
            "https://huggingface.co/x",
        ),
        ("access", "Access to model google/gemma-3-27b-it is restricted. You must have access to it"),
    ],
    "hf-repo-not-found": [
        ("hub", "huggingface_hub.errors.RepositoryNotFoundError: 404 Client Error. (Request ID: Root=1-x)"),
        ("url", "Repository Not Found for url: https://huggingface.co/api/models/foo/bar/tree/main?recursive=True."),
        (
            "transformers 4",
            "OSError: foo/bar is not a local folder and is not a valid model identifier listed on "
            "'https://huggingface.co/models'",
        ),
        (
            "a directory that is not there, 0.32",
            "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or "
            "'namespace/repo_name': "
            "'/models/nothing'. Use `repo_type` argument if needed.",
        ),
        (
            "a name that no repository has",
            "OSError: m is not a local folder or a valid repository name on 'https://hf.co'.",
        ),
        (
            "of signs",
            "huggingface_hub.errors.HFValidationError: Repo id must use alphanumeric chars, '-' or '.': 'org/a b'.",
        ),
        ("0.8", "ValueError: No supported config format found in org/odd."),
    ],
    "hf-offline": [
        (
            "transformers",
            "OSError: We couldn't connect to 'https://huggingface.co' to load the files, and couldn't find them in "
            "the cached files.",
        ),
        (
            "hub",
            "huggingface_hub.errors.LocalEntryNotFoundError: Cannot find an appropriate cached snapshot folder for the "
            "specified revision on the local disk",
        ),
        (
            "HF_HUB_OFFLINE",
            "huggingface_hub.errors.OfflineModeIsEnabled: Cannot reach https://huggingface.co: offline mode",
        ),
        ("a proxy", "huggingface_hub.errors.FileMetadataError: Distant resource does not have a Content-Length."),
    ],
    "no-weights": [("all", "RuntimeError: Cannot find any model weights with `/models/gpt-oss-120b`")],
    "disk-full": [
        ("Python", "OSError: [Errno 28] No space left on device"),
        ("Python, with a path", "OSError: [Errno 28] No space left on device: '/root/.cache/huggingface/x.incomplete'"),
        ("safetensors, in Rust", "safetensors_rust.SafetensorError: I/O error: No space left on device (os error 28)"),
        (
            "hf_xet",
            "RuntimeError: Data processing error: File reconstruction error: IO Error: No space left on device (os "
            "error 28)",
        ),
        (
            "a pull",
            "failed to register layer: write /usr/local/lib/libtorch_cuda.so: no space left on device",
        ),
        ("a pull of containerd's", "docker: Error: failed to copy: write: no space left on device"),
    ],
    "args-unrecognized": [
        ("up to 0.11", "vllm: error: unrecognized arguments: --disable-log-requests"),
        (
            "serve",
            "vllm serve: error: unrecognized arguments: --swap-space 4 --attn-impl kernels-community/vllm-flash-attn3",
        ),
        ("module", "api_server.py: error: unrecognized arguments: --foo"),
    ],
    "args-invalid-choice": [
        (
            "Python 3.12",
            "vllm serve: error: argument --kv-cache-dtype: invalid choice: 'bf16' (choose from auto, bfloat16, fp8)",
        ),
        (
            "Python 3.14",
            "vllm serve: error: argument --dtype: invalid choice: 'hafl', maybe you meant 'half'? (choose from auto, "
            "half)",
        ),
        (
            "a value of two words",
            "vllm serve: error: argument --dtype: invalid choice: 'int 3' (choose from 'auto', 'half')",
        ),
        ("no such command", "vllm: error: argument subparser: invalid choice: 'server' (choose from 'chat', 'serve')"),
        ("Python 3.11", "vllm serve: error: argument --dtype/-d: invalid choice: 'int3' (choose from 'auto', 'half')"),
    ],
    "args-invalid": [
        ("a number", "vllm serve: error: argument --max-num-seqs: invalid int value: 'many'"),
        ("no value", "api_server.py: error: argument --tokenizer: expected one argument"),
        ("missing", "vllm serve: error: the following arguments are required: model_tag"),
        ("ambiguous", "__main__.py: error: ambiguous option: --max could match --max-model-len, --max-num-seqs"),
        (
            "in a pane",
            "\u2502 vllm api_server.py: error: argument -O/--compilation-config: 1 validation error for X     \u2502",
        ),
        (
            "JSON, 0.8 to 0.33",
            "vllm serve: error: argument --speculative-config/-sc: Value {method: mtp} cannot be converted to "
            "<function "
            "loads at 0xe67c60da6a20>.",
        ),
        ("JSON, argparse's own words", "vllm serve: error: argument --hf-overrides: invalid loads value: '{a: 1}'"),
        ("a switch with a value", "vllm: error: argument --enforce-eager: ignored explicit argument 'true'"),
        ("two of a group", "serve: error: argument --enable-x: not allowed with argument --no-enable-x"),
        ("a launcher of one's own", "launch: error: the following arguments are required: --model"),
        ("python -m", "python3 -m vllm.entrypoints.openai.api_server: error: argument --port: expected one argument"),
    ],
    "env-unknown": [("0.17 on", f"{WARNING}Unknown vLLM environment variable detected: VLLM_USE_V1")],
    "env-refused": [
        ("0.17", "ValueError: Unknown vLLM environment variable detected: VLLM_USE_V1"),
        ("0.26", "(APIServer pid=1) ValueError: Unknown vLLM environment variable detected: VLLM_ATTENTION_BACKEND"),
        ("0.33", "ValueError: Unknown vLLM environment variable detected: VLLM_ODD"),
    ],
    "v0-removed": [
        (
            "0.8.5 to 0.11.0",
            "ValueError: Using V1 AsyncLLMEngine, but envs.VLLM_USE_V1=False. This should not happen. As a "
            "workaround, try",
        )
    ],
    "model-arch-unsupported": [
        (
            "all",
            "ValueError: Model architectures ['GptOssForCausalLM'] are not supported for now. Supported architectures: "
            "dict_keys(['AquilaModel'])",
        ),
        (
            "0.8 to 0.13, without transformers",
            "ValueError: OddForCausalLM has no vLLM implementation and the Transformers implementation is not "
            "compatible.",
        ),
        ("0.10 on", "ValueError: Cannot find model module. 'OddForCausalLM' is not a registered model in the library"),
    ],
    "trust-remote-code": [
        (
            "vLLM",
            "RuntimeError: Failed to load the model config. If the model is a custom model not yet available in the "
            "HuggingFace transformers library, consider setting `trust_remote_code=True` in LLM or using the "
            "`--trust-remote-code` flag in the CLI.",
        ),
        (
            "transformers",
            "ValueError: The repository x contains custom code which must be executed to correctly load the model. "
            "Please pass the argument `trust_remote_code=True` to allow custom code to be run.",
        ),
        (
            "transformers",
            "ValueError: Loading it runs its code. Please set the option `trust_remote_code=True` to allow that.",
        ),
    ],
    "max-len-exceeds-model": [
        (
            "all",
            "ValueError: User-specified max_model_len (200000) is greater than the derived max_model_len "
            "(max_position_embeddings=131072 or model_max_length=None in model's config.json).",
        )
    ],
    "quant-mismatch": [
        (
            "all",
            "ValueError: Quantization method specified in the model config (awq) does not match the quantization "
            "method specified in the `quantization` argument (mxfp4).",
        )
    ],
    "mxfp4-dense-unsupported": [("0.10.1 to 0.11.0", "NotImplementedError: Mxfp4 linear layer is not implemented")],
    "mxfp4-silent-bf16": [
        (
            "0.11.1",
            f"{WARNING}MXFP4 linear layer is not implemented - falling back to UnquantizedLinearMethod.",
        ),
        (
            "0.12 to 0.29",
            "DEBUG 11-21 10:00:00 [m.py:1] MXFP4 attention layer is not implemented. Skipping quantization for this "
            "layer.",
        ),
    ],
    "port-in-use": [
        ("own socket", "OSError: [Errno 98] Address already in use"),
        (
            "uvicorn",
            "ERROR:    [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use",
        ),
        (
            "Docker",
            "docker: Error response from daemon: driver failed programming external connectivity on endpoint vllm "
            "(0b5a): "
            "Bind for 0.0.0.0:8000 failed: port is already allocated",
        ),
        (
            "Podman",
            "Error: cannot listen on the TCP port: listen tcp4 0.0.0.0:8000: bind: address already in use",
        ),
        (
            "a connector",
            "zmq.error.ZMQError: Address already in use (addr='tcp://localhost:5557')",
        ),
    ],
    "dist-port-race": [
        (
            "torch",
            "torch.distributed.DistNetworkError: The server socket has failed to listen on any local network address. "
            "port: 32847, useIpv6: false, code: -98, name: EADDRINUSE, message: address already in use",
        )
    ],
    "world-size": [
        (
            "0.11.1 to 0.12",
            "ValueError: Tensor parallel size (4) cannot be larger than the number of available GPUs (2).",
        ),
        (
            "0.13 on",
            "  Value error, World size (4) is larger than the number of available GPUs (2) in this node. If this is "
            "intentional and you are using:",
        ),
    ],
    "local-world-size": [
        (
            "0.11.1",
            "AssertionError: local_world_size (16) must be less than or equal to the number of visible devices (8).",
        ),
        (
            "its misspelt sister",
            "AssertionError: local_world_size (16) must be be less than or equal to the number of visible devices (8).",
        ),
        ("0.26 on", "AssertionError: local_world_size (2) exceeds assigned_physical_gpu_ids count (1)"),
        ("0.33", "AssertionError: DP adjusted local rank 1 is out of bounds for 1 devices."),
    ],
    "heads-not-divisible": [
        ("all", "ValueError: Total number of attention heads (12) must be divisible by tensor parallel size (8).")
    ],
    "ray-missing": [
        (
            "0.10 on",
            "ValueError: Failed to import Ray: No module named 'ray'.Please install Ray with `pip install ray`.",
        ),
        ("0.8", "ValueError: Failed to import Ray, please install Ray with `pip install ray`."),
        (
            "0.20, in its process",
            "(EngineCore pid=9) ERROR 11-21 10:00:00 [core.py:1] ValueError: Failed to import Ray: No module named "
            "'ray'.",
        ),
    ],
    "ray-placement": [
        (
            "0.8 to 0.13",
            "ValueError: Cannot provide a placement group of placement_group_specs=[{'GPU': 1.0}] within 1800 seconds.",
        ),
        (
            "a group of others",
            "ValueError: placement group bundle index 3 is invalid. Valid placement group indexes: 0-2",
        ),
        (
            "0.9 on, data parallel",
            "ValueError: Not enough resources to allocate 2 DP ranks on DP master node 10.0.0.5.",
        ),
        (
            "0.14 on",
            "ValueError: Cannot provide a placement group requiring 16 GPUs (placement_group_specs=[{'GPU': 1.0}]) "
            "within "
            "1800 seconds.\nTips:\n    Check available GPUs in your cluster using `ray status`.",
        ),
        (
            "0.20, in its process",
            "(EngineCore pid=9) ERROR 11-21 10:00:00 [core.py:1136] ValueError: Cannot provide a placement group "
            "requiring 2 "
            "GPUs (placement_group_specs=[{'GPU': 1.0}]) within 1800 seconds.",
        ),
        (
            "0.6 on",
            "ValueError: The number of required GPUs exceeds the total number of available GPUs in the placement "
            "group.",
        ),
    ],
    "nccl-shm": [
        (
            "NCCL 2.18 on",
            "[2025-10-13 09:06:25] host:3663:4044 [0] misc/shmutils.cc:129 NCCL WARN Error while creating shared "
            "memory segment /dev/shm/nccl-Ewjreo (size 33030528), error: No space left on device (28)",
        ),
        (
            "posix_fallocate",
            "host:1:2 [1] misc/shmutils.cc:72 NCCL WARN Error: failed to extend /dev/shm/nccl-q to 33030532 bytes, "
            "error: No space left on device (28)",
        ),
        ("torch", "RuntimeError: unable to write to file </torch_185_2867> : No space left on device (28)"),
        (
            "torch",
            "RuntimeError: unable to open shared memory object </torch_5_1> in read-write mode: No space left on "
            "device (28)",
        ),
    ],
    "shm-full": [
        (
            "0.32 on",
            "RuntimeError: Insufficient space in /dev/shm for shared-memory allocation: 160 MiB required, 64 MiB free. "
            "Increase /dev/shm (e.g. --shm-size or --ipc=host).",
        )
    ],
    "nccl-error": [
        (
            "torch",
            "torch.distributed.DistBackendError: NCCL error in: "
            "../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1970, "
            "unhandled system error (run with NCCL_DEBUG=INFO for details), NCCL version 2.20.5",
        ),
        ("pynccl", "RuntimeError: NCCL error: unhandled cuda error (run with NCCL_DEBUG=INFO for details)"),
    ],
    "nvlink-multicast": [
        ("0.26", "RuntimeError: [McastDeviceMemory] Device does not support multicasting."),
        ("Python", "    checkCudaErrors(cuda.cuMulticastCreate(properties))"),
        (
            "NCCL",
            "RuntimeError: NCCL\nFailed to bind NVLink SHARP (NVLS) Multicast memory of size 2097152 : CUDA error 999",
        ),
    ],
    "driver-too-old": [
        (
            "torch",
            "RuntimeError: The NVIDIA driver on your system is too old (found version 12080). Please update your GPU "
            "driver by downloading and installing a new version",
        ),
        ("CUDA", "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version"),
    ],
    "cuda-compat-803": [
        (
            "all",
            "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling "
            "NumCudaDevices() that might have already set an error? Error 803: system has unsupported display driver / "
            "cuda driver combination",
        ),
        ("stubs", "RuntimeError: Unexpected error. Error 34: CUDA driver is a stub library"),
    ],
    "no-kernel-image": [("all", "RuntimeError: CUDA error: no kernel image is available for execution on the device")],
    "ptxas-sm121": [
        ("up to 0.12", "ptxas fatal   : Value 'sm_121a' is not defined for option 'gpu-name'"),
        ("0.17 on", "ptxas-blackwell fatal   : Value 'sm_121a' is not defined for option 'gpu-name'"),
        (
            "Triton 3.3",
            "ptxas x.ptx, line 6; error   : PTX .version 8.4 does not support .target sm_120a\nptxas fatal   : Ptx "
            "assembly aborted due to errors",
        ),
    ],
    "torch-arch-warning": [
        (
            "0.14",
            "(EngineCore_DP0 pid=120)     Minimum and Maximum cuda capability supported by this version of PyTorch is",
        )
    ],
    "missing-cudart": [
        ("all", "ImportError: libcudart.so.13: cannot open shared object file: No such file or directory"),
        ("cublas", "ImportError: libcublas.so.12: cannot open shared object file: No such file or directory"),
    ],
    "no-gpu": [
        (
            "vLLM",
            "RuntimeError: Failed to infer device type, please set the environment variable "
            "`VLLM_LOGGING_LEVEL=DEBUG` to turn on verbose logging to help debug the issue.",
        ),
        ("torch", "RuntimeError: No CUDA GPUs are available"),
        (
            "torch, no driver",
            "RuntimeError: Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU",
        ),
        ("NGC", "WARNING: The NVIDIA Driver was not detected.\nNVIDIA driver was not found"),
        (
            "Docker",
            'docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
        ),
        (
            "Docker 29",
            "Error response from daemon: failed to discover GPU vendor from CDI: no known GPU vendor found",
        ),
        (
            "the toolkit",
            "nvidia-container-cli: mount error: failed to add device rules: operation not permitted: unknown",
        ),
        ("Triton", "RuntimeError: 0 active drivers ([]). There should only be one."),
        ("Docker without the toolkit", "docker: Error response from daemon: unknown or invalid runtime name: nvidia."),
        (
            "Docker, a driver by name",
            'Error response from daemon: could not select device driver "cdi" with capabilities: [[gpu]]',
        ),
        (
            "NGC's entrypoint",
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA",
        ),
    ],
    "fa3-sinks": [("0.10.1", "AssertionError: Sinks are only supported in FlashAttention 3")],
    "attn-backend-invalid": [
        (
            "selected",
            "ValueError: Selected backend AttentionBackendEnum.FLASHINFER is not valid for this configuration. Reason: "
            "['sink setting not supported']",
        ),
        ("none", "ValueError: No valid attention backend found for cuda with AttentionSelectorConfig(head_size=64)"),
    ],
    "nvcc-missing": [
        ("flashinfer", "RuntimeError: Could not find nvcc and default cuda_home='/usr/local/cuda' doesn't exist"),
        ("ninja", "/bin/sh: 1: /usr/local/cuda/bin/nvcc: not found"),
    ],
    "cc-missing": [
        (
            "Triton",
            "RuntimeError: Failed to find C compiler. Please specify via CC environment variable or set "
            "triton.knobs.build.impl.",
        ),
        ("headers", "/tmp/x/main.c:5:10: fatal error: Python.h: No such file or directory"),
        (
            "inductor on a CPU, 0.32",
            "torch._inductor.exc.InductorError: InvalidCxxCompiler: No working C++ compiler found in "
            "torch._inductor.config.cpp.cxx: (None, 'g++')",
        ),
        ("headers of C", "/usr/include/stdlib.h:31:10: fatal error: stddef.h: No such file or directory"),
    ],
    "xid-unified-oom": [
        ("kernel", "[ 12.3] Out of memory: Killed process 4242 (VLLM::EngineCor) total-vm:200000000kB"),
        ("cgroup", "[ 12.3] oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=x,task=python3,pid=7,uid=0"),
        ("resource manager", "NVRM: nvCheckOkFailedNoLog: Check failed: Out of memory [NV_ERR_NO_MEMORY] (0x00000051)"),
        ("systemd", "vllm-m.service: A process of this unit has been killed by the OOM killer."),
        ("systemd, at the end", "vllm-m.service: Failed with result 'oom-kill'."),
        (
            "Slurm",
            "slurmstepd: error: Detected 1 oom_kill event in StepId=1.batch. Some of the tasks have been OOM Killed.",
        ),
        ("a cgroup", "Memory cgroup out of memory: Killed process 77 (python3) total-vm:1kB"),
    ],
    "illegal-memory-access": [
        ("torch", "RuntimeError: CUDA error: an illegal memory access was encountered"),
        ("assert", "torch.AcceleratorError: CUDA error: device-side assert triggered"),
        ("the kernel", "NVRM: Xid (PCI:0000:02:00): 31, pid=421, name=VLLM::Worker_TP, Ch 00000010, MMU Fault"),
        (
            "FlashInfer",
            "RuntimeError: BatchPrefillWithPagedKVCache failed with error an illegal memory access was encountered",
        ),
        ("ROCm", "Memory access fault by GPU node-1 (Agent handle: 0x55) on address 0x7f0000000000. Reason: Unknown."),
    ],
    "worker-died": [
        (
            "0.8.5 to 0.25",
            "ERROR 07-04 17:35:16 [multiproc_executor.py:140] Worker proc VllmWorker-1 died unexpectedly, shutting "
            "down executor.",
        ),
        (
            "0.26 on",
            "ERROR 07-04 17:35:16 [multiproc_executor.py:315] Worker proc VllmWorker-1 died unexpectedly (exit code: "
            "-9), shutting down executor.",
        ),
        (
            "0.32, seen before the process was waited for",
            "ERROR 07-04 17:35:16 [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: "
            "None), shutting down executor.",
        ),
        (
            "0.22 on, Ray",
            "(EngineCore pid=9) ERROR 07-04 17:35:16 [ray_executor_v2.py:400] RayWorkerProc rank=[1, 3] died "
            "unexpectedly, "
            "shutting down executor.",
        ),
    ],
    "engine-proc-died": [
        ("0.10.1 to 0.19", "Engine core proc EngineCore_DP0 died unexpectedly, shutting down client."),
        ("0.20 on", "RuntimeError: Engine core process EngineCore died unexpectedly."),
    ],
    "rpc-timeout": [("all", "TimeoutError: RPC call to sample_tokens timed out.")],
    "shm-broadcast-stall": [
        (
            "0.11.1 on",
            f"{INFO}No available shared memory broadcast block found in 60 seconds. This typically happens when some "
            "processes are hanging or doing some time-consuming work (e.g. compilation, weight/kv cache quantization).",
        ),
        ("up to 0.10", "DEBUG 11-21 10:00:00 [s.py:1] No available shared memory broadcast block found in 60 second."),
    ],
    "engine-fatal": [
        ("0.8.5 on", "ERROR 11-21 10:00:00 [core.py:1512] EngineCore encountered a fatal error."),
        ("0.8", "ERROR 04-20 10:00:00 [core.py:387] EngineCore hit an exception: Traceback (most recent call last):"),
        (
            "0.8, the client",
            "CRITICAL 04-20 10:00:00 [core_client.py:361] Got fatal signal from worker processes, shutting down. See "
            "stack trace above for root cause issue.",
        ),
        (
            "0.8, the executor",
            "CRITICAL 04-20 10:00:00 [multiproc_executor.py:49] MulitprocExecutor got fatal signal from worker "
            "processes, shutting down. See stack trace above for root cause issue.",
        ),
    ],
    "engine-start-failed": [
        ("0.8, V0", "RuntimeError: Engine process failed to start. See stack trace for the root cause."),
        ("0.6 to 0.8", "RuntimeError: RPCServer process died before responding to readiness probe"),
        ("engine", "ERROR 11-21 10:00:00 [core.py:1330] EngineCore failed to start."),
        (
            "API server",
            "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): "
            "{'EngineCore': 1}",
        ),
    ],
    "worker-init-failed": [
        (
            "executor",
            "Exception: WorkerProc initialization failed due to an exception in a background process. See stack "
            "trace for root cause.",
        ),
        ("worker", "ERROR 11-21 10:00:00 [m.py:953] WorkerProc failed to start."),
        ("run time", "ERROR 11-21 10:00:00 [m.py:1063] WorkerProc hit an exception."),
    ],
    "engine-dead": [
        (
            "API server",
            "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for "
            "the root cause.",
        ),
        ("0.8 on, its reader", "ERROR 04-20 10:00:00 [async_llm.py:411] AsyncLLM output_handler failed."),
        (
            "0.8, V0",
            "vllm.engine.multiprocessing.MQEngineDeadError: Engine loop is not running. Inspect the stacktrace to find "
            "the original error: TimeoutError('No heartbeat received from MQLLMEngine').",
        ),
        ("before 0.8", "vllm.engine.async_llm_engine.AsyncEngineDeadError: Background loop has errored already."),
        ("0.8, its client", "ERROR 04-20 10:00:00 [client.py:305] RuntimeError('Engine process (pid 65) died.')"),
    ],
}

# id -> a line that only looks like it
LOOK_ALIKES: dict[str, str] = {
    "mem-profiling-drift": f"{INFO}Memory profiling takes 4.38 seconds. Initial free memory 82.94 GiB",
    "mem-free-below-budget": f"{INFO}Free memory on device (78.76/79.25 GiB) on startup. Desired GPU memory "
    f"utilization is "
    "(0.9, 71.33 GiB). Actual usage is 34.38 GiB for weight",
    "mem-no-cache-blocks": f"{INFO}Available KV cache memory: 102.12 GiB",
    "mem-kv-too-small": f"{INFO}Auto-fit max_model_len: reduced from 131072 to 5632 to fit in the available KV cache "
    "memory",
    "mem-kv-too-small-v0": f"{INFO}Maximum concurrency for 32,768 tokens per request: 90.51x",
    "mem-load-oom": f"{INFO}Model loading took 13.03 GiB memory and 1.056925 seconds",
    "mem-sampler-warmup-oom": f"{INFO}Warming up sampler with 1024 dummy requests.",
    "cuda-oom": f"{WARNING}[Autotuner]: OOM detected, falling back to default tactic: CUDA out of memory. Tried to "
    "allocate 2.00 GiB",
    "harmony-vocab-download": f"{WARNING}Harmony parser ended in a non-terminal state; returning the recovered raw "
    "output.",
    "harmony-vocab-missing-file": f"{WARNING}invalid tiktoken vocab file",
    "harmony-vocab-corrupt": f"{INFO}HarmonyError handled: unknown role",
    "hf-gated": f"{INFO}non-default args: {{'model': 'me/gated-linear'}}",
    "hf-repo-not-found": f"{INFO}Repository found",
    "hf-offline": f"{WARNING}Error retrieving file list: LocalEntryNotFoundError(), retrying 1 of 2",
    "no-weights": f"{INFO}Loading weights took 0.18 seconds",
    "disk-full": f"{WARNING}[Errno 28] No space left on device: the compile cache is not kept",
    "args-unrecognized": f"{WARNING}Found duplicate keys --port, unrecognized arguments are ignored",
    "args-invalid-choice": "    choose from 'auto', 'bfloat16'",
    "args-invalid": f"{WARNING}triton.py: error: argument of the tuner is left out",
    "env-refused": f"{WARNING}Unknown vLLM environment variable detected: VLLM_ODD",
    "env-unknown": f"{INFO}vLLM environment variable VLLM_PORT is set",
    "v0-removed": f"{INFO}Initializing a V1 LLM engine (v0.11.0) with config: model='m'",
    "model-arch-unsupported": f"{INFO}Resolved architecture: GptOssForCausalLM",
    "trust-remote-code": f"{INFO}non-default args: {{'trust_remote_code': True}}",
    "max-len-exceeds-model": f"{WARNING}User-specified max_model_len (200000) is greater than the derived "
    "max_model_len (max_position_embeddings=131072). This may lead to incorrect model outputs or CUDA errors.",
    "quant-mismatch": f"{INFO}Using mxfp4 as quantization method",
    "mxfp4-dense-unsupported": f"{WARNING}MXFP4 linear layer is not implemented - falling back to "
    f"UnquantizedLinearMethod.",
    "mxfp4-silent-bf16": f"{INFO}Using 'TRITON' Mxfp4 MoE backend.",
    "port-in-use": "WARNING [parallel.py:750] Address already in use. Retrying with a new port.",
    "dist-port-race": f"{WARNING}Port 32847 is already in use, trying port 32848",
    "world-size": f"{INFO}world_size=1 rank=0 local_rank=0 distributed_init_method=tcp://192.0.2.2:35979 backend=nccl",
    "local-world-size": f"{INFO}local_world_size=1, reserve_cpu_num=1",
    "heads-not-divisible": f"{INFO}Total number of attention heads (64)",
    "ray-missing": f"{INFO}Ray is not used",
    "ray-placement": f"{INFO}Waiting for creating a placement group of specs for 10 seconds.",
    "nccl-shm": "host:1:2 [0] NCCL INFO Channel 00/0 : 0[0] -> 1[1] via SHM/direct/direct /dev/shm/nccl-Ewjreo",
    "shm-full": f"{INFO}Cgroup memory preflight for shared-memory allocation: 160 MiB required, 9000 MiB current usage",
    "nccl-error": "[rank0]:[W1121 03:31:24 ProcessGroupNCCL.cpp:1575] Warning: destroy_process_group() was not called",
    "nvlink-multicast": f"{WARNING}Device does not support multicast, SymmMemCommunicator is not available.",
    "driver-too-old": f"{INFO}NVIDIA driver 580.159.04",
    "cuda-compat-803": f"{INFO}Error 80 of 803 lines",
    "no-kernel-image": f"{WARNING}no kernel image is available for execution on the device, using the fallback",
    "ptxas-sm121": "ptxas info    : Compiling entry function 'x' for 'sm_121a'",
    "torch-arch-warning": f"{INFO}cuda capability 9.0",
    "missing-cudart": f"{WARNING}ImportError: libnuma.so.1: cannot open shared object file, NUMA binding is off",
    "no-gpu": f"{INFO}Automatically detected platform cuda.",
    "fa3-sinks": f"{INFO}Using FlashAttention version 3",
    "attn-backend-invalid": f"{INFO}Using FLASH_ATTN attention backend out of potential backends: ['FLASH_ATTN']",
    "nvcc-missing": f"{INFO}cuteDSL (CUTLASS Python) not available, ll_bf16_gemm disabled",
    "cc-missing": f"{WARNING}Failed to find C compiler, Triton kernels are not compiled",
    "xid-unified-oom": "NVRM: loading NVIDIA UNIX x86_64 Kernel Module 580.159.04",
    "illegal-memory-access": f"{INFO}CUDA error checks are off",
    "worker-died": f"{INFO}[shutdown] Executor: all workers exited gracefully",
    "engine-proc-died": f"{INFO}[shutdown] Process manager: send sigterm to process EngineCore",
    "rpc-timeout": f"{INFO}RPC call to sample_tokens took 3 s",
    "shm-broadcast-stall": f"{INFO}vLLM message queue communication handle: Handle(connect_ip='127.0.0.1')",
    "engine-fatal": f"{INFO}EngineCore started",
    "engine-start-failed": f"{INFO}Waiting for 1 local, 0 remote core engine proc(s) to start.",
    "worker-init-failed": f"{INFO}WorkerProc: exiting after shutdown request",
    "engine-dead": f"{INFO}[shutdown] EngineCore: exiting busy loop",
}
