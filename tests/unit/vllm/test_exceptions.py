# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Of all exceptions of a log the one that tells, of its lines the one that tells, and of what kind it is."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import Diagnosis, diagnose
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.exceptions import ANY, SORTS, settings_in, sort_of
from vllm_logs import READY, START

GONE = ProcessState(running=False, exit_status=1)
TRACE = 'Traceback (most recent call last):\n  File "/x/site-packages/odd/a.py", line 1, in f\n    raise it\n'
DIRECT = "\nThe above exception was the direct cause of the following exception:\n\n"
DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"
ROOT = "ZorkError: the flux is missing"


def dead(text: str, head: str = "") -> Diagnosis:
    return diagnose(START + "".join(f"{head}{line}\n" for line in text.rstrip("\n").split("\n")), GONE)


ENGINE = "(EngineCore pid=2) ERROR 01-01 10:00:00 [core.py:1] "


@pytest.mark.parametrize("head", ["", ENGINE, "[rank0]: "])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(f"{TRACE}{ROOT}{DIRECT}{TRACE}RuntimeError: shallow", ROOT, id="the first of a direct chain"),
        pytest.param(f"{TRACE}KeyError: 'x'{DURING}{TRACE}{ROOT}", ROOT, id="the last of a handled one"),
        pytest.param(
            f"{TRACE}KeyError: 1{DURING}{TRACE}OSError: 2{DURING}{TRACE}{ROOT}",
            ROOT,
            id="the last of three handled ones",
        ),
        pytest.param(
            f"{TRACE}{ROOT}{DURING}{TRACE}BrokenPipeError: [Errno 32] Broken pipe", ROOT, id="not what follows from it"
        ),
        pytest.param(
            f"{TRACE}subprocess.CalledProcessError: Command 'x' returned non-zero exit status 1.{DIRECT}{TRACE}"
            f"RuntimeError: Error raised in subprocess:\n/usr/lib/x.py:1: RuntimeWarning: odd\n  "
            f"warn(x)\n{TRACE}{ROOT}",
            ROOT,
            id="what a subprocess printed",
        ),
        pytest.param(
            f"{TRACE}ray.exceptions.RayTaskError(ZorkError): ray::W.f() (pid=1, ip=10.0.0.7)\n{TRACE}{ROOT}",
            ROOT,
            id="what a task of Ray raised",
        ),
        pytest.param(
            f"{TRACE}triton.compiler.errors.CompilationError: at 1:0:\ndef kernel(\n^\n"
            'ZorkError("the flux is missing")',
            'ZorkError("the flux is missing")',
            id="Triton, whose last line tells",
        ),
        pytest.param(
            f"{TRACE}RuntimeError: Internal Triton PTX codegen error\n`ptxas` stderr:\n"
            "ptxas /tmp/t.ptx, line 99; error   : Arguments mismatch for instruction 'flux'\n"
            "ptxas fatal   : Ptx assembly aborted due to errors\n\nRepro command: ptxas -v /tmp/t.ptx",
            "Arguments mismatch for instruction 'flux'",
            id="ptxas, whose first error tells",
        ),
        pytest.param(
            f"{TRACE}RuntimeError: Ninja build failed. Ninja output:\nninja: Entering directory `/x'\n"
            + "".join(f"[{n}/90] nvcc -c {n}.cu\n" for n in range(90))
            + 'FAILED: 90.o\n/x/flux.cuh(12): error: identifier "flux" is undefined\nninja: build stopped.',
            'flux.cuh(12): error: identifier "flux" is undefined',
            id="a compiler at the end of a long output",
        ),
        pytest.param(
            f'  + Exception Group Traceback (most recent call last):\n  |   File "a.py", line 1, in f\n'
            f"  | ExceptionGroup: several (1 sub-exception)\n  +-+---------------- 1 ----------------\n"
            f'    | Traceback (most recent call last):\n    |   File "b.py", line 1, in g\n    | {ROOT}\n'
            "    +------------------------------------",
            "several (1 sub-exception)",
            id="a group",
        ),
        pytest.param(
            f"Exception ignored in: <function X.__del__ at 0x1>\n{TRACE}AttributeError: 'X' has no attribute 'y'\n"
            f"{TRACE}{ROOT}",
            ROOT,
            id="not what was ignored",
        ),
        pytest.param(
            f"{TRACE}torch._dynamo.exc.BackendCompilerFailed: backend='x' raised:\n{ROOT}\n\nSet TORCHDYNAMO_VERBOSE=1",
            ROOT,
            id="what a wrapper raised, in the line below",
        ),
        pytest.param(
            f'{TRACE}  File "/x/b.py", line 2, in g\n    assert flux == 3\n           ^^^^\nAssertionError',
            "assert flux == 3",
            id="an assertion without words, by its code",
        ),
        pytest.param(
            f"Failed: Cuda error /x/flux.cuh:12 'odd'\n{TRACE}Exception: WorkerProc initialization failed due to it",
            "Failed: Cuda error /x/flux.cuh:12 'odd'",
            id="the last words of a library, where Python saw a process go",
        ),
        pytest.param(
            f"Failed: Cuda error /x/flux.cuh:12 'odd'\n{TRACE}{ROOT}", ROOT, id="not those where Python knows more"
        ),
        pytest.param(f"{TRACE}SystemExit: 1", "SystemExit: 1", id="a wrapper, where nothing else is"),
        pytest.param(
            f"{TRACE}zmq.error.ZMQError: ipc path is odd",
            "ipc path is odd",
            id="what ZeroMQ says of a path, which follows nothing",
        ),
        pytest.param(
            f"{TRACE}zmq.error.ZMQError: Operation cannot be done\n{TRACE}{ROOT}",
            ROOT,
            id="what it says of another that is gone",
        ),
        pytest.param(
            f"[TM][FATAL] flux.cu(83): Check failed: odd\n{TRACE}Exception: WorkerProc initialization failed due to it",
            "Check failed: odd",
            id="the last words of a library that counts its lines in parentheses",
        ),
    ],
)
def test_what_tells(text: str, words: str, head: str) -> None:
    found = dead(text, head)
    assert found.id == "unknown"
    assert words in found.cause
    assert words in found.evidence


def test_each_process_has_its_own_chain() -> None:
    """What another process handled is no part of this one's chain."""
    first = [f"{ENGINE}{line}" for line in f"{TRACE}{ROOT}".split("\n")]
    other = [f"(APIServer pid=1) {line}" for line in f"{DURING}{TRACE}OSError: another".strip().split("\n")]
    found = diagnose(START + "\n".join(first + other), GONE)
    assert ROOT in found.cause


def test_two_workers_of_one_name_are_told_apart_by_their_numbers() -> None:
    lines = [
        "(VllmWorker rank=0 pid=1) Traceback (most recent call last):",
        "(VllmWorker rank=1 pid=2) OtherError: odd",
    ]
    found = diagnose(START + "\n".join([*lines, f"(VllmWorker rank=0 pid=1) {ROOT}"]), GONE)
    assert ROOT in found.cause


OTHER = "(Worker_TP1 pid=3) ERROR 01-01 10:00:00 [w.py:1] the pump is odd"


def test_what_another_process_writes_in_between_is_none_of_a_message() -> None:
    lines = [f"{ENGINE}{line}" for line in f"{TRACE}ZorkError:".split("\n")]
    found = diagnose("\n".join([START, *lines, OTHER, f"{ENGINE}the flux is missing"]), GONE)
    assert found.evidence.split("\n") == ["ZorkError:", "the flux is missing"]


def test_a_message_of_nobody_ends_where_a_process_writes() -> None:
    found = diagnose("\n".join([START, f"{TRACE}{ROOT}", OTHER, "and so is this"]), GONE)
    assert found.evidence == ROOT


def test_where_it_was_raised_is_told() -> None:
    assert "It was raised in odd/a.py, line 1, in f." in dead(f"{TRACE}{ROOT}").remedy
    # A traceback without frames has no place, whatever stands above it.
    assert "raised" not in dead(f"{TRACE}SystemExit: 1\nTraceback (most recent call last):\n{ROOT}").remedy


@pytest.mark.parametrize(
    ("words", "what", "retryable"),
    [
        ("RuntimeError: nvcc fatal   : Value 'x' is odd", "A kernel could not be compiled", False),
        ("ImportError: cannot import name 'x' from 'odd'", "A package of the environment", False),
        ("RuntimeError: cuDNN error of the GPU: odd", "The GPU, its driver", None),
        ("numpy._core._exceptions._ArrayMemoryError: odd", "too little memory", None),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/x'", "not where it is looked for", False),
        ("PermissionError: [Errno 1] Operation not permitted", "may not do", False),
        ("json.decoder.JSONDecodeError: Expecting value", "does not hold what it should", False),
        ("requests.exceptions.ConnectTimeout: x timed out", "did not answer", None),
        ("ValueError: the flux is 3", "A setting", None),
        ("AttributeError: 'X' object has no attribute 'y'", "has a defect there", False),
        ("ZorkError: the flux is missing", "does not say of what kind", None),
        ("NotImplementedError: the flux is no pump", "does not do that", False),
        ("ValueError: Model X of kind Y is not supported yet.", "does not do that", False),
        ("SSLError: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed", "SSL_CERT_FILE and REQUESTS_CA_BUNDLE", False),
        ("docker: Error: manifest for x:y not found: manifest unknown", "The image could not be fetched", None),
        ("OSError: [Errno 116] Stale file handle: '/nfs/x'", "The storage below a path failed", None),
        ("OSError: [Errno 99] Cannot assign requested address", "set bind to an address that this host has", False),
        ("ssl.SSLError: [SSL: KEY_VALUES_MISMATCH] key values mismatch", "ssl_certfile and ssl_keyfile", False),
        ("RuntimeError: Version mismatch: The cluster was started with:", "give all hosts the same image", False),
        ("ValueError: Unknown method: x. Must be one of ['a', 'b'].", "what to do: Must be one of ['a', 'b'].", False),
        ("HTTPError: 503 Server Error: Service Unavailable for url: http://x", "turned a request away for now", True),
        ("BackendCompilerFailed: backend='x' raised: MemoryError: odd", "too little memory", None),
        (
            "ValueError: The CUDA flux is 3. Please lower max_flux to at most 2.",
            "The message says what to do: Please lower max_flux to at most 2.",
            False,
        ),
        ("RuntimeError: The flux is gone. You can try again later.", "what to do: You can try again later.", None),
        ("ValueError: Unknown pump: 'x'. Valid options are: FLUX, ZORK", "to do: Choose one of FLUX, ZORK.", False),
        ("docker: Error response from daemon: Conflict. The name is in use.", "could not be created or started", None),
        ("docker: Cannot connect to the Docker daemon at x.", "look at systemctl status docker", None),
        ("botocore.exceptions.NoCredentialsError: Unable to locate credentials", "AWS_ACCESS_KEY_ID", False),
        ("RuntimeError: Data processing error: CAS service error : odd", "did not answer", None),
        ("ValueError: numpy.dtype size changed, may indicate binary incompatibility.", "A package of the", False),
        ("RuntimeError: [TensorRT-LLM] Assertion failed: cutlass TMA WS grouped gemm", "A kernel failed on", None),
        ("ZorkError: odd. Please report it at https://x/issues.", "does not say of what kind", None),
        ("ValueError: Odd. Adjust num_redundant_experts.", "what to do: Adjust num_redundant_experts.", False),
        (
            "OSError: Odd. If you were trying to load it, look. Otherwise, make sure that it is there.",
            "what to do: Otherwise, make sure that it is there.",
            False,
        ),
        (
            "AttributeError: `np.flux` is gone. Use `np.pump` instead. In NumPy 2 it is.",
            "A package of the environment",
            False,
        ),
        ("RuntimeError: Failed to register the worker with raylet", "look at ray status", None),
        ("ValueError: Duplicated timeseries in Registry: {'vllm:kv_flux_total'}", "has a defect there", False),
        ("AssertionError: Only SM 10.x and 11.x are odd", "A kernel failed on this GPU", None),
        ("ImportError: cannot import name 'x' from 'triton.compiler.compiler'", "A package of the environment", False),
        ("huggingface_hub.errors.RevisionNotFoundError: 404 Client Error.", "no such revision or file", False),
        ("RuntimeError: numa_migrate_pages failed. errno: 1", "cap_add: SYS_NICE for NUMA", False),
        (
            "AttributeError: 'OddOmniConfig' object has no attribute 'heads'",
            "The model's config.json does not go",
            False,
        ),
        ("AttributeError: 'ModelConfig' object has no attribute 'heads'", "has a defect there", False),
        ("KeyError: 'layers.5.odd.weight'", "The weights do not go with", False),
        ("RuntimeError: Check failed: odd failed", "does not say of what kind", None),
        ("RuntimeError: Check failed: args->odd == 1 (1 vs. 6)", "A kernel failed on this GPU", None),
        ("ValueError: This line should not be reached", "has a defect there", False),
        ("RuntimeError: nvshmem initialization failed", "the connection of GPUs failed", None),
        ("RuntimeError: Failed: deep_ep.cpp:12 'x.size(0) <= odd'", "A kernel failed on this GPU", None),
        ("docker: Error response from daemon: Get x: net/http: odd", "The image could not be fetched", None),
        ("AttributeError: module 'cutlass.cute' has no attribute 'fmin'", "A package of the environment", False),
        ("ZorkError: odd. Please see the stack trace above for the root cause.", "does not say of what kind", None),
    ],
)
def test_of_what_kind_an_error_is(words: str, what: str, retryable: bool | None) -> None:
    found = dead(f"{TRACE}{words}")
    assert found.id == "unknown"
    assert what in found.remedy
    assert found.retryable is retryable


@pytest.mark.parametrize(
    ("frame", "words", "named"),
    [
        ("a.py", "AssertionError", "tensor_parallel_size"),
        (
            "a.py",
            "RuntimeError: FlashAttention does not support fp8 kv-cache on it.",
            "kv_cache_dtype, attention_backend",
        ),
        ("a.py", "ValueError: GGUF model with architecture x is odd", "quantization"),
        ("models/llama_eagle3.py", "KeyError: 'embed_tokens.weight'", "speculative_config"),
        ("a.py", "RuntimeError: the LoRA adapter is odd", "enable_lora"),
        ("compilation/a.py", "RuntimeError: odd", "compilation_config (enforce_eager does without)"),
        ("a.py", "ValueError: Pipeline parallelism is odd", "pipeline_parallel_size"),
        ("a.py", "ValueError: prefix caching is odd", "enable_prefix_caching"),
        ("a.py", "RuntimeError: NIXL is odd", "kv_transfer_config"),
        ("a.py", "ValueError: the multi-modal input is odd", "limit_mm_per_prompt"),
        ("a.py", "RuntimeError: Odd reasoning parser is odd", "reasoning_parser"),
        ("tool_parsers/odd.py", "KeyError: 'x'", "tool_call_parser"),
        ("a.py", "ValueError: No common block size for 528", "block_size"),
        ("symm_mem.py", "ZorkError: odd", "VLLM_ALLREDUCE_USE_SYMM_MEM"),
        ("a.py", "RuntimeError: CUDASymmetricMemory is odd", "VLLM_ALLREDUCE_USE_SYMM_MEM"),
        ("_aiter_ops.py", "ZorkError: odd", "VLLM_ROCM_USE_AITER"),
        ("a.py", "RuntimeError: odd expert_indices", "moe_backend"),
        ("a.py", "RuntimeError: nvshmem is odd, num_max_pumps", "all2all_backend"),
        ("a.py", "KeyError: 'flux'", "tensor_parallel_size"),
    ],
)
def test_the_settings_that_an_error_speaks_of_are_named(frame: str, words: str, named: str) -> None:
    text = f'{TRACE}  File "/x/site-packages/vllm/{frame}", line 2, in g\n    assert heads % tp_size == 0\n{words}'
    assert f" It has to do with {named}. It was raised in" in dead(text).remedy


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (
            "AssertionError: block_size (2096) must be <= max_num_batched_tokens (2048).",
            ["block_size", "max_num_batched"],
        ),
        ("ValueError: VLLM_PORT 'tcp://x' appears to be a URI.", ["VLLM_PORT"]),
        ("ValueError: `--mamba-backend` is odd", ["mamba_backend"]),
        ("ValueError: num_attention_heads of kv_proj.weight and max_position_embeddings are odd", []),
        ("ValueError: Duplicated timeseries: {'vllm:kv_offload_total_bytes'}", []),
        ("ValueError: --device-ids are odd", ["device_ids"]),
        ("ValueError: x is not in served_model_name", ["served_model_name"]),
        ("ValueError: Adjust num_redundant_experts.", ["num_redundant_experts", "enable_eplb"]),
        (
            "ValueError: V1 does not do CPU offloading with experts of DeepEP",
            ["enable_expert_parallel", "cpu_offload_gb"],
        ),
        ("ValueError: the Hybrid KV cache manager is odd", ["disable_hybrid_kv_cache_manager"]),
        (
            "ValueError: Odd does not do chunked prefill or async scheduling",
            ["enable_chunked_prefill", "async_scheduling"],
        ),
        ("ValueError: Custom logits processors go with xgrammar", ["logits_processors", "structured_outputs_config"]),
        ("ValueError: data parallel with DCP in FusedMoE", ["data_parallel_size", "decode_context", "moe_backend"]),
    ],
)
def test_settings_and_variables_are_known_by_their_names(words: str, named: list[str]) -> None:
    found = settings_in(words)
    assert [name for name in named if not any(one.startswith(name) for one in found)] == [], found
    assert bool(found) is bool(named)


@pytest.mark.parametrize(
    ("place", "words", "what"),
    [
        ("vllm/odd/models/x.py, load_weights", "KeyError: 'layers.0.odd'", "The weights do not go with"),
        (
            "vllm/odd/linear.py, weight_loader",
            "RuntimeError: The size of tensor a (1) must match",
            "The weights do not go",
        ),
        ("vllm/odd/models/x.py, load_weights", "ImportError: cannot import name 'x' from 'y'", "A package of the"),
        ("transformers/models/x/tokenization_x.py, f", "TypeError: expected str, not NoneType", "The tokenizer of the"),
        (
            "uvicorn/config.py, create_ssl_context",
            "FileNotFoundError: [Errno 2] No such file or directory",
            "certificate",
        ),
        (
            "transformers/models/x/configuration_x.py, f",
            "ValueError: `rope_odd` must be a dictionary",
            "The model's config.json",
        ),
        ("flashinfer/gemm.py, run", "RuntimeError: odd", "A kernel failed on this GPU"),
        ("vllm/config.py, _get_and_verify_max_len", "KeyError: 'rope_type'", "The model's config.json"),
        ("torch/cuda/__init__.py, get_device_properties", "AssertionError: odd", "has a defect there"),
        ("transformers/models/x/processing_x.py, __init__", "TypeError: odd", "The processor of the model"),
        (
            "vllm/model_executor/layers/x.py, apply",
            "AssertionError: the scale must be contiguous",
            "has a defect there",
        ),
        (
            "vllm/config.py, f",
            "AssertionError: the scale must be contiguous",
            "what to do: the scale must be contiguous",
        ),
        ("uvicorn/config.py, create_ssl_context", "FileNotFoundError: [Errno 2] No such file: '/x'", "not where it is"),
        (
            "vllm/entrypoints/api_server.py, create_server_socket",
            "socket.gaierror: [Errno -2] Name or service not known",
            "listen",
        ),
    ],
)
def test_where_it_was_raised_says_of_what_kind_words_of_any_program_are(place: str, words: str, what: str) -> None:
    file, function = place.split(", ")
    text = f'{TRACE}  File "/x/site-packages/{file}", line 2, in {function}\n    odd(it)\n{words}'
    found = dead(text)
    assert found.id == "unknown"
    assert what in found.remedy


def test_what_stands_below_the_number_of_a_request_is_the_message() -> None:
    said = dead(
        f"{TRACE}huggingface_hub.errors.HfHubHTTPError: (Request ID: Root=1-6)\n\n418 Teapot: the flux is missing"
    )
    assert "HfHubHTTPError: 418 Teapot: the flux is missing" in said.cause


QUOTED = "RuntimeError: Worker failed with error '{}', please check the stack trace above for the root cause"


def test_the_words_that_an_engine_quotes_of_a_worker_are_its_error() -> None:
    found = dead(
        f"{TRACE}{QUOTED.format('FlashInfer is odd')}\n{TRACE}RuntimeError: Engine core initialization failed. x"
    )
    assert found.cause == "The server failed: FlashInfer is odd (exit status 1)."
    assert "It has to do with attention_backend." in found.remedy
    as_tuple = "RuntimeError: ('Worker failed with error %s, please check the stack trace above', \"'x' is odd\")"
    assert dead(f"{TRACE}{as_tuple}").cause == "The server failed: 'x' is odd (exit status 1)."
    told_itself = dead(f"{TRACE}{ROOT}\n{TRACE}{QUOTED.format('odd')}")
    assert ROOT in told_itself.cause


def test_the_remedy_for_an_engine_that_died_of_an_unknown_error_is_that_of_its_kind() -> None:
    log = (
        START
        + READY
        + f"{ENGINE}EngineCore encountered a fatal error.\n"
        + "".join(f"{ENGINE}{line}\n" for line in f"{TRACE}AssertionError: the grammar is odd".split("\n"))
    )
    found = diagnose(log, GONE)
    assert found.id == "engine-dead"
    assert "vLLM or a library has a defect there" in found.remedy and "structured_outputs_config" in found.remedy
    assert "first error above" not in found.remedy and "restart_policy" in found.remedy


def test_what_a_server_served_with_is_no_wrong_setting() -> None:
    log = START + READY + f"{ENGINE}EngineCore encountered a fatal error.\n"
    for words in ("ValueError: 119 tokens for 120 places", "TypeError: the id must be an integer"):
        found = diagnose(log + "".join(f"{ENGINE}{line}\n" for line in f"{TRACE}{words}".split("\n")), GONE)
        assert (found.id, "has a defect there" in found.remedy) == ("engine-dead", True)


def test_a_name_in_a_line_of_code_is_no_setting() -> None:
    assert settings_in("AssertionError of the line: assert max_flux == num_pumps") == []
    assert settings_in("AssertionError: max_flux is odd") == ["max_flux"]


def test_what_a_thread_that_reports_the_use_fails_of_is_no_cause() -> None:
    denied = "PermissionError: [Errno 13] Permission denied: "
    head = "(EngineCore pid=2) "
    thread = f"Exception in thread Thread-2 (_report_usage_worker):\n{TRACE}{denied}'/.odd'"
    assert "/.flux" in dead(f"{thread}\n{TRACE}{denied}'/.flux'", head).cause
    assert "ZorkError" in dead(f"{thread}\n{TRACE}{ROOT}", head).cause


def test_what_a_library_said_last_is_the_cause_however_the_log_is_wrapped() -> None:
    said = "LLVM ERROR: Failed to compute parent layout for slice layout."
    log = (
        "(EngineCore pid=2) INFO 01-01 10:00:00 [core.py:77] Initializing a V1 LLM engine with config: model='org/model', "
        f"quantization=None\n{said}\nERROR 05-31 09:09:48 [client.py:305] RuntimeError('Engine process (pid 65) died.')\n"
        "Traceback (most recent call last):\nvllm.engine.multiprocessing.client.MQEngineDeadError: Engine loop is not "
        "running. Inspect the stacktrace to find the original error\n"
    )
    found = diagnose(START + log)
    assert (found.id, found.cause) == ("unknown", f"The server failed: {said}")


def test_an_error_that_speaks_of_no_setting_names_none() -> None:
    assert settings_in(ROOT, "odd/a.py, line 1, in f") == []


def test_every_kind_is_met() -> None:
    assert len({sort.what for sort in SORTS}) == len(SORTS)
    assert sort_of("odd") is ANY
    assert all(sort.what.startswith(("vLLM", *"ATS")) and not sort.look.endswith(".") for sort in (*SORTS, ANY))


def test_who_ended_without_a_word_has_a_way_on() -> None:
    found = diagnose(START, ProcessState(running=False, exit_status=139))
    assert "coredumpctl" in found.remedy and "VLLM_LOGGING_LEVEL: DEBUG" in found.remedy
    crashed = diagnose(START, ProcessState(running=False, exit_status=132))
    assert "AVX2" in crashed.remedy and "illegal instruction." in crashed.cause
    # The kernel has nothing to say of one that left by itself.
    assert "coredumpctl" not in diagnose(START, ProcessState(running=False, exit_status=3)).remedy
