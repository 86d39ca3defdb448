# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines of failures, like failure_lines.py: of limits, ranks, hosts, GPUs, builds and the files of a model."""

from __future__ import annotations

INFO = "INFO 11-21 10:00:00 [x.py:1] "
WARNING = "WARNING 11-21 10:00:00 [x.py:1] "

# id -> (version, line)
SAMPLES: dict[str, list[tuple[str, str]]] = {
    "command-missing": [
        (
            "Docker",
            'docker: Error response from daemon: failed to create task: exec: "vllm": executable file not found in $PATH',
        ),
        ("systemd", "vllm.service: Failed at step EXEC spawning /opt/vllm/bin/vllm: No such file or directory"),
        ("a shell", "/bin/sh: 1: vllm: not found"),
        (
            "a shell",
            "/opt/start.sh: line 4: /opt/vllm/bin/vllm: /opt/vllm/bin/python: bad interpreter: No such file or "
            "directory",
        ),
        ("uv", "error: Failed to spawn: `vllm`\n  Caused by: No such file or directory (os error 2)"),
        ("a script", "/usr/local/bin/run_cluster.sh: line 12: ray: command not found"),
        ("env", "/usr/bin/env: 'uv': No such file or directory"),
        ("systemd, no path", '/etc/systemd/system/vllm.service:5: Executable "vllm" not found in path "/usr/bin:/bin"'),
        ("bash 5.2", "/opt/start.sh: line 4: /opt/vllm/bin/vllm: cannot execute: required file not found"),
    ],
    "lora-rank": [
        ("0.4 to 0.7", "ValueError: LoRA rank 32 is greater than max_lora_rank 16."),
        (
            "0.22",
            (
                "(EngineCore pid=86) ERROR 06-01 13:18:12 [core.py:1341] ValueError: LoRA rank 64 is greate"
                "r than max_lora_rank 16."
            ),
        ),
        (
            "the API server",
            ("ValueError: Call to add_lora method failed: LoRA rank 320 is greater than max_lora_rank 64."),
        ),
    ],
    "lora-unsupported": [
        ("0.10 on", "ValueError: Qwen3NextForCausalLM does not support LoRA yet."),
        ("0.8", "AssertionError: GPTBigCode does not support LoRA"),
        ("0.10, a worker", "ValueError: <class 'vllm.worker.odd.OddWorker'> does not support LoRA"),
        (
            "0.22 to 0.33, experts",
            "NotImplementedError: FlashInferExperts does not support LoRA. For unquantized MoE, set "
            "moe_backend='triton' or "
            "moe_backend='auto' (auto selects Triton automatically when LoRA is enabled).",
        ),
        (
            "0.33, experts",
            "ValueError: LoRA is not supported with moe_backend='deep_gemm'. Disable LoRA or select another.",
        ),
        ("0.33", "ValueError: LoRA is not supported for OddForCausalLM (m). Supported models implement the interface."),
    ],
    "quant-block-split": [
        (
            "0.8 to 0.33, experts",
            (
                "ValueError: The output_size of gate's and up's weight = 192 is not divisible by weight qua"
                "ntization block_n = 128."
            ),
        ),
        (
            "dense",
            ("ValueError: Weight output_partition_size = 576 is not divisible by weight quantization block_n = 128."),
        ),
        (
            "the other side",
            ("ValueError: Weight input_size_per_partition = 64 is not divisible by weight quantization block_k = 128."),
        ),
        (
            "Marlin",
            (
                "ValueError: Weight output_size_per_partition = 1432 is not divisible by  min_thread_n = 64"
                ". Consider reducing tensor_parallel_size or running with --quantization gptq."
            ),
        ),
        ("0.11 on, Marlin", "RuntimeError: size_n = 352 is not divisible by tile_n_size = 64"),
    ],
    "quant-split": [
        (
            "AWQ, GPTQ",
            (
                "ValueError: The input size is not aligned with the quantized weight shape. This can be cau"
                "sed by too large tensor parallel size."
            ),
        ),
        ("output", "ValueError: The output size is not aligned with the quantized weight shape."),
    ],
    "not-divisible": [("all", "AssertionError: 151647 is not divisible by 2")],
    "parser-unknown": [
        (
            "0.6 to 0.33, tools",
            "KeyError: 'invalid tool call parser: qwen25 (chose from { hermes,mistral,qwen3_coder })'",
        ),
        (
            "0.8 on, reasoning",
            ("KeyError: 'invalid reasoning parser: gptoss (chose from { deepseek_r1,openai_gptoss,qwen3 })'"),
        ),
        ("0.13 on", ("KeyError: \"Reasoning parser 'telechat' not found. Available parsers: cohere_command3, qwen3\"")),
        ("0.13 on, tools", "KeyError: \"Tool parser 'qwen25' not found. Available parsers: hermes, mistral\""),
        ("0.11", "ValueError: Invalid reasoning parser: odd"),
        ("0.14 to 0.33, by name", "KeyError: \"Tool parser 'qwen25' not found.\""),
        (
            "0.8 to 0.33, automatic",
            "TypeError: Error: --enable-auto-tool-choice requires tool_parser:'qwen25' which has not been registered",
        ),
    ],
    "tool-parser-missing": [("all", "TypeError: Error: --enable-auto-tool-choice requires --tool-call-parser")],
    "chat-template-missing": [
        (
            "all",
            (
                "ValueError: The supplied chat template (/t/chat.jinja) looks like a file path, but it fail"
                "ed to be opened. Reason: [Errno 2] No such file or directory: '/t/chat.jinja'"
            ),
        )
    ],
    "batch-below-length": [
        (
            "V0",
            (
                "ValueError: max_num_batched_tokens (4096) is smaller than max_model_len (32768). This effe"
                "ctively limits the maximum sequence length to max_num_batched_tokens"
            ),
        ),
        (
            "pydantic",
            (
                "  Value error, max_num_batched_tokens (512) is smaller than max_model_len (4096). [type=va"
                "lue_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]"
            ),
        ),
    ],
    "batch-below-seqs": [
        ("all", ("ValueError: max_num_batched_tokens (128) must be greater than or equal to max_num_seqs (256)."))
    ],
    "batch-below-image": [
        (
            "all",
            (
                "ValueError: Chunked MM input disabled but max_tokens_per_mm_item (16384) is larger than ma"
                "x_num_batched_tokens (8192). Please increase max_num_batched_tokens."
            ),
        )
    ],
    "quant-dtype": [
        (
            "all",
            (
                "ValueError: torch.bfloat16 is not supported for quantization method gptq. Supported dtypes"
                ": [torch.float16]"
            ),
        )
    ],
    "gpu-no-fp8": [
        (
            "0.8",
            (
                "RuntimeError: Worker failed with error 'at 1:0:\ndef _fwd_kernel(\n^\ntype fp8e4nv not suppor"
                "ted in this architecture. The supported fp8 dtypes are ('fp8e4b15', 'fp8e5')"
            ),
        ),
        (
            "0.20",
            (
                'ValueError("type fp8e4nv not supported in this architecture. The supported fp8 dtypes are '
                "('fp8e4b15', 'fp8e5')\")\nTypeError: x"
            ),
        ),
        ("0.27", ("ERROR 11-21 10:00:00 [core.py:1] AssertionError: type fp8e4nv not supported in this architecture.")),
    ],
    "gpu-no-bf16": [
        (
            "all",
            (
                "ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Yo"
                "ur Tesla T4 GPU has compute capability 7.5. You can use float16 instead"
            ),
        ),
        (
            "Triton",
            (
                "RuntimeError: Internal Triton PTX codegen error\nptxas /tmp/t.ptx, line 9; error   : Featur"
                "e '.bf16' requires .target sm_80 or higher"
            ),
        ),
    ],
    "gpu-too-old": [
        (
            "0.6 to 0.33",
            (
                "ValueError: The quantization method awq_marlin is not supported for the current GPU. Minim"
                "um capability: 80. Current capability: 75."
            ),
        ),
        ("flash-attn", "RuntimeError: FlashAttention only supports Ampere GPUs or newer."),
        (
            "Triton",
            (
                "ptxas /tmp/t.ptx, line 9; error   : Feature 'cvt with .e4m3x2' requires .target sm_89 or h"
                "igher\nptxas fatal   : Ptx assembly aborted due to errors"
            ),
        ),
    ],
    "gpu-kernel-arch": [
        ("sm_121", "torch.AcceleratorError: CUDA error: an illegal instruction was encountered"),
        ("torch 2.6", "RuntimeError: CUDA error: invalid device function"),
        (
            "vLLM's kernels",
            (
                "NotImplementedError: No compiled cutlass_scaled_mm for a compute capability less than CUDA"
                " device capability: 121"
            ),
        ),
        (
            "grouped",
            (
                "NotImplementedError: No compiled cutlass_scaled_mm for CUDA device capability: 120. Requir"
                "ed capability: 90 or 100"
            ),
        ),
        (
            "CUTLASS",
            (
                "ERROR : Arch conditional MMA instruction used without targeting appropriate compute capabi"
                "lity. Aborting."
            ),
        ),
        ("FlashInfer", "nvcc fatal   : Unsupported gpu architecture 'compute_121a'"),
        (
            "FlashInfer, no toolkit for it",
            "RuntimeError: No supported CUDA architectures found for major versions [12].",
        ),
        ("Triton", "RuntimeError: Triton Error [CUDA]: device kernel image is invalid"),
    ],
    "gpu-shared-memory": [
        ("FlashInfer", "RuntimeError: Failed to set the allowed dynamic shared memory size to 131072"),
        (
            "Triton 3",
            (
                "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072, Ha"
                "rdware limit: 101376. Reducing block sizes or `num_stages` may help."
            ),
        ),
        (
            "0.8",
            (
                "ERROR 11-21 10:00:00 [core.py:1] OutOfResources: out of resource: shared memory, Required:"
                " 98304, Hardware limit: 65536. Reducing block sizes"
            ),
        ),
    ],
    "nccl-network": [
        (
            "socket",
            (
                "gpu-2:148:170 [2] misc/socket.cc:483 NCCL WARN socketStartConnect: Connect to 10.0.0.4<568"
                "49> failed : Software caused connection abort"
            ),
        ),
        (
            "poll",
            (
                "node5:240:240 [6] misc/socket.cc:533 NCCL WARN socketPollConnect: Connect to 10.0.0.4<5684"
                "9> returned 113(No route to host) errno 115(Operation now in progress)"
            ),
        ),
        (
            "2.27, as the last error",
            (
                "RuntimeError: A call failed\nLast error:\nsocketPollConnect: Connect to 10.0.0.4<46243> returned "
                "111(Conne"
                "ction refused)"
            ),
        ),
        ("RoCE", ("gpu-1:1:2 [0] ibvwrap.cc:94 NCCL WARN Call to ibv_modify_qp failed with 61 No data available")),
        ("no interface", "gpu-1:1:2 [0] bootstrap.cc:45 NCCL WARN Bootstrap : no socket interface found"),
    ],
    "nccl-timeout": [
        (
            "torch 2.4 on",
            (
                "[rank2]:[E1121 10:00:00.1 ProcessGroupNCCL.cpp:1414] [PG 2 Rank 2] Watchdog caught collect"
                "ive operation timeout: WorkNCCL(SeqNum=12, OpType=ALLREDUCE, NumelIn=15, Timeout(ms)=60000"
                "0) ran for 600053 milliseconds before timing out."
            ),
        ),
        (
            "torch 2.1",
            (
                "[E ProcessGroupNCCL.cpp:475] [Rank 4] Watchdog caught collective operation timeout: WorkNC"
                "CL(SeqNum=20518, OpType=ALLREDUCE, NumelIn=106496, Timeout(ms)=1800000) ran for 1800270 mi"
                "lliseconds before timing out."
            ),
        ),
    ],
    "rendezvous-timeout": [
        (
            "torch 2.2 on",
            ("torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients joined."),
        ),
        (
            "a client",
            (
                "torch.distributed.DistNetworkError: The client socket has timed out after 600000ms while t"
                "rying to connect to (10.0.0.7, 29500)."
            ),
        ),
        (
            "nobody there",
            (
                "torch.distributed.DistNetworkError: The client socket has failed to connect to any network"
                " address of (gpu-1, 29501). The IPv6 network addresses of (gpu-1, 29501) could not be retr"
                "ieved"
            ),
        ),
        (
            "gloo",
            (
                "RuntimeError: Gloo connectFullMesh failed with [/pytorch/third_party/gloo/gloo/transport/t"
                "cp/pair.cc:144] no error"
            ),
        ),
        ("the store", ("torch.distributed.DistStoreError: wait timeout after 300000ms, keys: /default_pg/0//cuda//0")),
    ],
    "engine-ready-timeout": [
        ("0.9 to 0.11", "TimeoutError: Timed out waiting for engines to sendinitial message on input socket."),
        ("0.12 to 0.16", "TimeoutError: Timed out waiting for engines to send initial message on input socket."),
        (
            "0.17 on, more of them",
            "TimeoutError: Timed out waiting for new engine core processes to start. Waited 600s (configured by "
            "VLLM_ENGINE_READY_TIMEOUT_S). To increase the timeout",
        ),
        (
            "0.17 on",
            (
                "TimeoutError: Timed out waiting for engine core processes to start. This is often caused b"
                "y slow weight loading for large models. Waited 600s (configured by VLLM_ENGINE_READY_TIMEO"
                "UT_S). To increase the timeout"
            ),
        ),
        (
            "of a host without API server",
            "RuntimeError: Did not receive response from front-end process within 5 minutes",
        ),
    ],
    "ray-memory": [
        (
            "Ray 2",
            (
                "ray.exceptions.OutOfMemoryError: Task was killed due to the node running low on memory.\nMe"
                "mory on the node (IP: 10.0.0.7, ID: 34) where the task (actor ID: 46, name=RayWorkerWrappe"
                "r.__init__, pid=13378, memory used=3.37GB) was running was 115.60GB / 119.70GB (0.965748),"
                " which exceeds the memory usage threshold of 0.95."
            ),
        ),
        (
            "raylet",
            (
                "(raylet) [2025-12-07 09:57:19,206 E 393463 393463] (raylet) node_manager.cc:3277: 2 Worker"
                "s (tasks / actors) killed due to memory pressure (OOM), 0 Workers crashed due to other rea"
                "sons"
            ),
        ),
    ],
    "fabric-not-ready": [
        (
            "0.16",
            (
                "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
                "before calling NumCudaDevices() that might have already set an error? Error 802: system no"
                "t yet initialized"
            ),
        ),
        ("torch 2.9", "torch.AcceleratorError: CUDA error: system not yet initialized"),
        ("the driver's name of it", "RuntimeError: cuInit failed: CUDA_ERROR_SYSTEM_NOT_READY"),
    ],
    "cuda-compat-804": [
        (
            "0.5",
            (
                "RuntimeError: Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions "
                "before calling NumCudaDevices() that might have already set an error? Error 804: forward c"
                "ompatibility was attempted on non supported HW"
            ),
        ),
        (
            "0.8",
            (
                "ERROR 03-26 05:25:01 engine.py:389] Unexpected error from cudaGetDeviceCount(). Error 804:"
                " forward compatibility was attempted on non supported HW"
            ),
        ),
        ("torch 2.9", ("torch.AcceleratorError: CUDA error: forward compatibility was attempted on non supported HW")),
    ],
    "nvml-lost": [
        ("nvidia-smi", "Failed to initialize NVML: Unknown Error"),
        ("pynvml", "pynvml.NVMLError_Unknown: Unknown Error"),
    ],
    "nvml-mismatch": [
        ("nvidia-smi", "Failed to initialize NVML: Driver/library version mismatch"),
        (
            "pynvml",
            ("vllm.third_party.pynvml.NVMLError_LibRmVersionMismatch: RM has detected an NVML/RM version mismatch."),
        ),
        (
            "the toolkit",
            ("nvidia-container-cli: initialization error: nvml error: Driver/library version mismatch: unknown."),
        ),
    ],
    "gpu-unknown": [
        ("NVML, of a wrong UUID", "vllm.third_party.pynvml.NVMLError_InvalidArgument: Invalid Argument"),
        ("the toolkit", "nvidia-container-cli: device error: GPU-aaaa-bbbb: unknown device: unknown."),
        (
            "up to 0.24",
            ("ValueError: invalid literal for int() with base 10: 'MIG-377e0049-554c-540b-93c6-d0976f8426cb'"),
        ),
        ("0.25 on", "vllm.third_party.pynvml.NVMLError_NotFound: Not Found"),
        ("an index", "RuntimeError: CUDA error: invalid device ordinal"),
        ("0.26 on", "IndexError: visible device ordinal 1 is out of range for CUDA_VISIBLE_DEVICES=0"),
        ("CDI", "docker: Error response from daemon: unresolvable CDI devices nvidia.com/gpu=7"),
        (
            "by its number",
            "RuntimeError: device >= 0 && device < num_gpus INTERNAL ASSERT FAILED at x.cpp:52, please report a bug to "
            "PyTorch. device=1, num_gpus=1",
        ),
        ("0.22 on", "RuntimeError: Physical device 3 for logical device 0 is not visible in CUDA_VISIBLE_DEVICES=0,1"),
    ],
    "gpu-fault": [
        ("torch", "RuntimeError: CUDA error: uncorrectable ECC error encountered"),
        ("the kernel", "NVRM: Xid (PCI:0000:1b:00): 79, pid=1, name=python3, GPU has fallen off the bus."),
        (
            "nvidia-smi",
            (
                "Unable to determine the device handle for GPU0000:1B:00.0: GPU is lost.  Reboot the system"
                " to recover this GPU"
            ),
        ),
        ("the kernel, of a watchdog", "NVRM: Xid (PCI:0000:02:00): 8, pid=421, name=VLLM::EngineCor"),
    ],
    "cuda-error": [
        ("torch 2.6", "RuntimeError: CUDA error: operation not permitted when stream is capturing"),
        ("torch 2.9", "torch.AcceleratorError: CUDA error: unknown error"),
        ("cuBLAS", ("RuntimeError: CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`")),
    ],
    "uid-unknown": [
        ("Python 3.12", "KeyError: 'getpwuid(): uid not found: 1000910000'"),
        ("Python 3.13", "OSError: No username set in the environment"),
    ],
    "permission-denied": [
        ("numba", "RuntimeError: cannot cache function 'f': no locator available for file '/x/librosa/util.py'"),
        ("Python", "PermissionError: [Errno 13] Permission denied: '/.cache'"),
        ("read-only", "OSError: [Errno 30] Read-only file system: '/root/.cache/vllm'"),
        ("Rust", "RuntimeError: Data processing error: Permission denied (os error 13)"),
        ("a shell", "/entrypoint.sh: line 3: /opt/vllm/bin/vllm: Permission denied"),
    ],
    "disk-quota": [
        ("Python", "OSError: [Errno 122] Disk quota exceeded"),
        ("with a path", "OSError: [Errno 122] Disk quota exceeded: '/home/u/.cache/huggingface/x.incomplete'"),
    ],
    "host-memory": [
        ("Python", "OSError: [Errno 12] Cannot allocate memory"),
        ("C++", "RuntimeError: std::bad_alloc"),
        (
            "torch",
            (
                "RuntimeError: [enforce fail at alloc_cpu.cpp:114] data. DefaultCPUAllocator: can't allocat"
                "e memory: you tried to allocate 4294967296 bytes. Error code 12 (Cannot allocate memory)"
            ),
        ),
        ("of Python alone", "MemoryError"),
        (
            "torch",
            "RuntimeError: unable to mmap 4932751008 bytes from file </m/x.safetensors>: Cannot allocate memory (12)",
        ),
    ],
    "process-limits": [
        ("files", "OSError: [Errno 24] Too many open files"),
        ("threads", "RuntimeError: can't start new thread"),
        ("OpenMP", "libgomp: Thread creation failed: Resource temporarily unavailable\nRuntimeError: x"),
        ("OpenBLAS", "OpenBLAS blas_thread_init: pthread_create failed for thread 63 of 64\nRuntimeError: x"),
    ],
    "ninja-missing": [
        ("0.28", "FileNotFoundError: [Errno 2] No such file or directory: 'ninja'"),
        ("torch", "RuntimeError: Ninja is required to load C++ extensions (pip install ninja to get it)"),
        ("a shell", "/bin/sh: 1: ninja: not found"),
    ],
    "abi-mismatch": [
        (
            "vLLM",
            (
                "ImportError: /usr/lib/python3/dist-packages/vllm/_C.abi3.so: undefined symbol: _ZN5torch3j"
                "it17parseSchemaOrNameERKSsb"
            ),
        ),
        (
            "flash-attn",
            ("ImportError: /x/flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so: undefined symbol: _ZN3c105ErrorC2E"),
        ),
        ("torchvision", "RuntimeError: operator torchvision::nms does not exist"),
        ("what follows from it", "AttributeError: '_OpNamespace' '_C' object has no attribute 'rms_norm'"),
        ("of its caches", "AttributeError: '_OpNamespace' '_C_cache_ops' object has no attribute 'reshape_and_cache'"),
        (
            "of older code",
            "RuntimeError: _moe_C::odd() expected at most 6 argument(s) but received 7 argument(s). Declaration: x",
        ),
    ],
    "glibc-too-old": [
        (
            "C++",
            (
                "ImportError: /lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.32' not found (req"
                "uired by /x/vllm/_C.abi3.so)"
            ),
        ),
        ("C", ("ImportError: /lib64/libc.so.6: version `GLIBC_2.32' not found (required by /x/vllm/_C.abi3.so)")),
        ("CXXABI", ("ImportError: /lib/libstdc++.so.6: version `CXXABI_1.3.15' not found (required by /x/libicu.so)")),
    ],
    "missing-library": [
        ("X", "ImportError: libGL.so.1: cannot open shared object file: No such file or directory"),
        ("MPI", "ImportError: libmpi.so.40: cannot open shared object file: No such file or directory"),
        (
            "Open MPI of another version",
            "OSError: libopen-rte.so.40: cannot open shared object file: No such file or directory",
        ),
    ],
    "transformers-clash": [
        ("0.14 and 5, a configuration", "AttributeError: 'Qwen3MoeConfig' object has no attribute 'rope_theta'"),
        ("0.9 and 4.54", "ValueError: 'aimv2' is already used by a Transformers config, pick another name."),
        (
            "0.11 and 5",
            (
                "AttributeError: Qwen2Tokenizer has no attribute all_special_tokens_extended. Did you mean:"
                " 'num_special_tokens_to_add'?"
            ),
        ),
        (
            "an import",
            (
                "ImportError: cannot import name 'ALLOWED_LAYER_TYPES' from 'transformers.configuration_uti"
                "ls' (/x/transformers/configuration_utils.py)"
            ),
        ),
        ("a module", "ModuleNotFoundError: No module named 'transformers.models.flux'"),
        ("an attribute", "AttributeError: module 'transformers.utils' has no attribute 'is_flux'"),
    ],
    "flashinfer-version": [
        (
            "cubin",
            (
                "RuntimeError: flashinfer-cubin version (0.6.4) does not match flashinfer version (0.6.3). "
                "Please install the same version of both packages."
            ),
        ),
        (
            "jit-cache",
            ("RuntimeError: flashinfer-jit-cache version (0.6.13+cu130) does not match flashinfer version (0.6.14)."),
        ),
    ],
    "module-missing": [
        ("all", "ModuleNotFoundError: No module named 'vllm'"),
        ("a part", "ModuleNotFoundError: No module named 'vllm._C'"),
        (
            "code of a model",
            "ImportError: This modeling file requires the following packages that were not found in your "
            "environment: timm. "
            "Run `pip install timm`",
        ),
    ],
    "weights-damaged": [
        (
            "transformers",
            "OSError: Unable to load weights from pytorch checkpoint file for '/models/x' at "
            "'/models/x/pytorch_model.bin'.",
        ),
        ("0.3", ("safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer")),
        (
            "0.6",
            (
                "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, f"
                "ile not fully covered"
            ),
        ),
        ("a pointer of LFS", "safetensors_rust.SafetensorError: Error while deserializing header: header too large"),
        ("torch", "_pickle.UnpicklingError: invalid load key, 'v'."),
        ("a zip", ("RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory")),
        ("transformers", "OSError: It looks like the config file at '/models/m/config.json' is not a valid JSON file."),
        ("SentencePiece", "RuntimeError: Internal: could not parse ModelProto from /models/m/tokenizer.model"),
        (
            "tiktoken",
            "ValueError: Error parsing line b'version https://git-lfs.github.com/spec/v1\\n' in /m/tiktoken.model",
        ),
        (
            "the Hub",
            "OSError: Consistency check failed: file should be of size 497 but has size 41 (model-00001.safetensors).",
        ),
        ("tokenizers", "Exception: expected value at line 1 column 1"),
    ],
    "weights-incomplete": [
        ("a shard", "FileNotFoundError: No such file or directory: /m/x/model-00003-of-00008.safetensors"),
        (
            "all",
            (
                "ValueError: Following weights were not initialized from checkpoint: {'model.layers.16.inpu"
                "t_layernorm.weight', 'model.layers.9.mlp.weight'}"
            ),
        ),
        (
            "too many",
            ("ValueError: There is no module or parameter named 'language_model.lm_head' in LlamaForCausalLM"),
        ),
        (
            "another shape, up to 0.20",
            "AssertionError: Attempted to load weight (torch.Size([3600])) into parameter (torch.Size([3584]))",
        ),
        (
            "another shape, 0.21 on",
            "AssertionError: Tried to load weights of size torch.Size([3096576, 1])to a parameter of size "
            "torch.Size([5376, 1152])",
        ),
        ("another shape, untold", "    assert param_data.shape == loaded_weight.shape\nAssertionError"),
        ("0.24 on", "FileNotFoundError: Weight files referenced in index but missing: ['model-2.safetensors']"),
    ],
    "model-type-unknown": [
        (
            "transformers 4.5",
            '  File "/x/transformers/models/auto/configuration_auto.py", line 1115, in from_pretrained\n'
            '    config_class = CONFIG_MAPPING[config_dict["model_type"]]\n'
            '  File "/x/transformers/models/auto/configuration_auto.py", line 817, in __getitem__\n'
            "    raise KeyError(key)\n"
            "KeyError: 'qwen3_next'",
        ),
        ("a tokenizer", "ValueError: Tokenizer class Qwen3Tokenizer does not exist or is not currently imported."),
        (
            "vLLM 0.12, pydantic",
            (
                "  Value error, The checkpoint you are trying to load has model type `gemma4` but Transform"
                "ers does not recognize this architecture. This could be because of an issue with the check"
                "point [type=value_error, input_value=ArgsKwargs(()), input_type=ArgsKwargs]"
            ),
        ),
        (
            "0.7",
            (
                "ERROR 03-12 18:19:00 engine.py:400] ValueError: The checkpoint you are trying to load has "
                "model type `gemma3` but Transformers does not recognize this architecture."
            ),
        ),
        ("no type", ("ValueError: Unrecognized model in /models/x. Should have a `model_type` key in its config.json")),
        ("a tokenizer", "ValueError: Tokenizer class 'Odd' specified in the tokenizer config was not found."),
    ],
}

# id -> a line that only looks like it
LOOK_ALIKES: dict[str, str] = {
    "command-missing": INFO + "executable: vllm",
    "lora-rank": INFO + "LoRA rank 16 of the adapter",
    "lora-unsupported": INFO + "The model supports LoRA",
    "quant-block-split": INFO + "Weight block_n = 128",
    "quant-split": INFO + "weights are aligned",
    "not-divisible": WARNING + "12 is not divisible by 8, padding it",
    "parser-unknown": INFO + "Using the tool call parser hermes",
    "tool-parser-missing": INFO + "auto tool choice is on",
    "chat-template-missing": INFO + "Using supplied chat template: /t/chat.jinja",
    "batch-below-length": WARNING + "max_num_batched_tokens (4096) exceeds max_num_seqs",
    "batch-below-seqs": INFO + "max_num_batched_tokens 8192",
    "batch-below-image": INFO + "Encoder cache will be initialized with a budget of 16384 tokens",
    "quant-dtype": WARNING + "Casting torch.bfloat16 to torch.float16.",
    "gpu-no-fp8": INFO + "Using fp8_e4m3 data type to store kv cache",
    "gpu-no-bf16": WARNING
    + ("Your device 'Tesla T4' doesn't support torch.bfloat16. Falling back to torch.float16 for compatibility."),
    "gpu-too-old": INFO + "The quantization method awq is supported",
    "gpu-kernel-arch": INFO + "CUTLASS block scaled GEMM is available for capability 121",
    "gpu-shared-memory": WARNING
    + ("out of resource: shared memory, Required: 131072, Hardware limit: 101376, the next one is tried"),
    "nccl-network": "gpu-1:1:2 [0] NCCL INFO NET/Socket : Using [0]eth0:10.0.0.4<0>",
    "nccl-timeout": INFO + "NCCL_TIMEOUT is 600",
    "rendezvous-timeout": (
        "[rank1]:[W1121 10:00:00.1 socket.cpp:759] [c10d] The client socket has failed to connect t"
        "o (gpu-1, 29501), retrying"
    ),
    "engine-ready-timeout": INFO + "Waiting for 1 local, 0 remote core engine proc(s) to start.",
    "ray-memory": INFO + "Ray's memory monitor is on",
    "fabric-not-ready": INFO + "CUDA is not yet initialized",
    "cuda-compat-804": INFO + "forward compatibility package 580",
    "nvml-lost": INFO + "NVML is available",
    "nvml-mismatch": INFO + "driver 580, library 580",
    "gpu-unknown": INFO + "CUDA_VISIBLE_DEVICES=GPU-aaaa",
    "gpu-fault": "NVRM: Xid (PCI:0000:1b:00): 13, pid=1, Graphics Exception",
    "cuda-error": WARNING + "CUDA error: peer access is not supported, the other way is used",
    "uid-unknown": INFO + "running as uid 1000910000",
    "permission-denied": WARNING + "[Errno 13] Permission denied: '/root/.config/vllm', usage is not counted",
    "disk-quota": INFO + "the disk quota is 100 GB",
    "host-memory": INFO + "free memory of the host: 12 GiB",
    "process-limits": WARNING
    + (
        "Found ulimit of 20000 and failed to automatically increase. This can cause fd limit errors"
        " like `OSError: [Errno 24] Too many open files`."
    ),
    "ninja-missing": WARNING + "ninja: not found, kernels are compiled one by one",
    "abi-mismatch": INFO + "0 undefined symbols",
    "glibc-too-old": INFO + "GLIBC_2.35",
    "missing-library": WARNING + "ImportError: libnuma.so.1: cannot open shared object file, NUMA binding is off",
    "transformers-clash": INFO + "transformers 4.57",
    "flashinfer-version": INFO + "flashinfer version 0.6.14",
    "module-missing": WARNING + "ModuleNotFoundError: No module named 'triton_kernels', the other backend is used",
    "weights-damaged": INFO + "Loading weights took 3 seconds",
    "weights-incomplete": WARNING + "Some weights were not loaded",
    "model-type-unknown": INFO + "model type gemma3",
}
