# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which exception of a log tells most, which of its lines does, and of what kind is what no table knows. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field, replace

from .log import QUIET, Line, Log
from .phase_lines import begins

MOST_LINES = 12
WIDTH = 400
# The message of a compiler is long, and what it stumbled over stands at its end.
MOST_READ = 400

EXCEPTION = re.compile(
    r"^(?P<kind>[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Failure|Fault|Warning|Group|OutOfResources))(?:: ?| "
    r"?$)"
)
TRACEBACK = re.compile(r"^(?:Exception Group )?Traceback \(most recent call last\):")
FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+), in (?P<function>.+)$')
# The thread that reports the use of vLLM, which nothing depends on.
BESIDE = "(_report_usage_worker)"
BEGINS = ("Traceback (most", "During handling", "Exception ignored", BESIDE)
# An exception group draws a tree.
TREE = re.compile(r"^\s*(?:\+-[+-]* ?|[|+] ?)")
# They say no more than that something else failed.
WRAPPERS = re.compile(
    r"Engine core initialization failed|WorkerProc initialization failed|EngineDeadError|EngineGenerateError"
    r"|^(?:SystemExit|KeyboardInterrupt|GeneratorExit|(?:asyncio\.\S*)?CancelledError)\b"
    r"|please check the stack trace above|Engine core process \S+ died|Engine process failed to start"
    r"|CalledProcessError: |Error raised in subprocess|failed to be inspected|RayTaskError|RayActorError|ActorDiedError"
    r"|ChildFailedError|Call to \w+ method failed|Background loop has errored|Engine loop is not running"
)
# What it was, in the words of one who only passes it on.
QUOTED_ERROR = re.compile(
    r"Worker failed with error '(?P<words>.+)', please check the stack|Call to \w+ method failed: (?P<words2>.+)"
    r"|Worker failed with error %s, please [^'\"]*['\"], ['\"](?P<words3>.+)['\"]\)"
)
# What the others see of the one that failed first.
FOLLOWERS = re.compile(
    r"^(?:BrokenPipeError|ConnectionResetError|ConnectionRefusedError|EOFError|zmq\.error\.(?!ZMQError: (?:ipc|No "
    r"such))\w+)\b|recvValue failed"
    # What an executor's wait for its workers ends with, once one of them has died.
    r"|^RuntimeError: cancelled$"
    r"|Connection (?:was likely )?closed by (?:remote )?peer|Broken pipe|leaked (?:semaphore|shared_memory)"
)
# Neither says what failed first.
SECONDARY = re.compile(f"{WRAPPERS.pattern}|{FOLLOWERS.pattern}")
# The line of a long message that tells: of compilers, and of Triton, which ends with the error that it caught.
DECISIVE = (
    re.compile(r"^\s*ptxas .*; error\s*:|ptxas(?:-\w+)? fatal\s*:|nvcc fatal\s*:"),
    re.compile(r"(?:\(\d+\)|:\d+(?::\d+)?): (?:fatal )?error: |\b(?:command )?not found$|: No such file or directory$"),
    re.compile(r"^[A-Za-z_][\w.]*(?:Error|Exception)\(.+\)"),
)
# The words of a library that ends its process, past Python and its tracebacks.
NATIVE = re.compile(
    r"^(?:Failed: |LLVM ERROR: |(?:CUDA|Cuda|HIP)[ _][Ee]rror\b|(?:OMP|libgomp|MKL)[: ].*(?:[Ee]rror|FATAL|failed)"
    r"|F\d{4} \d\d:|malloc(?:\(\)|_consolidate\(\)): |free\(\): |double free or|corrupted |munmap_chunk\(\)"
    r"|\[[\w.:-]*\] Caught signal |Could not load library |Invalid handle\. Cannot load )|: Assertion `.*' failed"
    r"|^(?:\[\w+\] )?\S+\.(?:cuh?|cpp|cc|h|hpp|rs):\d+.*(?:[Ee]rror|fail|panicked)|\bpanicked at |\[FATAL\]"
    r"|\bCheck failed: "
)
# What a message tells its reader to do, and what only sends him elsewhere.
ADVICE = re.compile(
    r"^(?:Please|We recommend|Adjust|Add|Change|Check(?! failed)|Disable|Enable|Pass|Remove|Specify|Switch|Try"
    r"|Consider|Set|Use"
    r"|Install|Upgrade|Increase|Decrease|Reduce|Lower|Make sure|Ensure|Either|You "
    r"(?:can|may|should|must|need)|(?:To|In order to) (?:fix|solve|resolve|avoid|use|run|enable|disable|proceed|do "
    r"so)|If you)\b|\b[Pp]lease (?!report)\w+|\b(?:try|consider) \w+ing\b|\binstead\b|\b[Mm]ake sure\b"
)
# What a message says has to hold, without an appeal to anybody.
DEMAND = re.compile(r"\b[Mm]ust be \w+")
NO_ADVICE = re.compile(
    r"report|If you were trying|`np\.|file an? (?:issue|bug)|open an? issue|stack ?trace|TORCH_LOGS|TORCHDYNAMO"
    r"|https?://\S+/issues|root cause"
)
# The values that a message says there are, and what such a list is none of.
OPTIONS = re.compile(
    r"\b(?:[Vv]alid|[Aa]vailable|[Aa]llowed|[Aa]ccepted|[Ss]upported|[Pp]ossible) (?:\w+ )?(?:options|values|choices"
    r"|types|names|methods|backends|dtypes|formats)?(?: are)?: *(?P<options>[^:\n]{2,300})"
)
# What the Hugging Face Hub puts before its message, which stands below then.
REQUEST_ID = re.compile(r":? *\(Request ID: [^)]*\)\.?$")
NEW = re.compile(
    r"Traceback \(most|The above exception|During handling|Process |usage:|Exception ignored|\[rank\d+\]:\["
)


@dataclass(frozen=True)
class Told:
    """An exception that is in no table: its words, the lines that belong to it, and where it was raised."""

    summary: str
    lines: tuple[str, ...]
    index: int
    where: str = ""
    # The line of the exception that was being handled, when there was one.
    handled: int = -1
    # The line of code that raised it, and what its message tells the reader to do.
    code: str = ""
    advice: str = ""


def told(log: Log, ended: bool) -> Told | None:
    """The exception that tells most: the first that neither wraps another nor follows from one. In a chain that began
    with a handled one ("During handling of ...") it is the last of the chain. Where the process did not end, an
    exception that the start went past does not count."""
    every = [one for one in _exceptions(log) if ended or not log.went_on(one.index)]
    for dull in (SECONDARY, FOLLOWERS, None):
        found = [one for one in every if dull is None or not dull.search(one.summary)]
        if found:
            quoting = [one for one in found if QUOTED_ERROR.search(one.summary)]
            return _whole(log, quoting[0] if quoting and dull is not SECONDARY else _last_of_chain(found))
        words = _last_words(log, ended) if dull is not FOLLOWERS else None
        if words:
            return words
    return None


def _last_words(log: Log, ended: bool) -> Told | None:
    """What a library said of its own that took the process with it; all that Python saw is that a process is gone."""
    for i, line in enumerate(log.lines):
        if line.level not in QUIET and NATIVE.search(line.text) and (ended or not log.went_on(i)):
            return Told(clip(line.text), (clip(line.text),), i)
    return None


def _last_of_chain(found: list[Told]) -> Told:
    last, after = found[0], {one.handled: one for one in reversed(found)}
    while last.index in after:
        last = after[last.index]
    return last


@dataclass
class _Stream:
    """What one process has written of a traceback so far."""

    is_open: bool = False
    is_ignored: bool = False
    where: str = ""
    code: str = ""
    last: int = -1
    handled: int = -1


def _exceptions(log: Log) -> t.Iterator[Told]:
    """The ends of all tracebacks. Processes write at the same time, so each is followed by its own prefix."""
    streams: dict[tuple[str, str], _Stream] = {}
    for i, line in enumerate(log.lines):
        stream = streams.get((line.process, line.pid))
        text = line.text
        if stream is None or not stream.is_open:
            # Most lines are none of a traceback.
            if not any(words in text for words in BEGINS):
                continue
            stream = streams.setdefault((line.process, line.pid), _Stream())
        text = TREE.sub("", text) if text.lstrip()[:1] in ("|", "+") else text
        if TRACEBACK.match(text):
            stream.is_open, stream.where, stream.code = True, "", ""
        elif text.startswith("During handling of the above exception"):
            stream.handled = stream.last
        elif text.startswith("Exception ignored in") or BESIDE in text:
            stream.is_ignored = True
        elif stream.is_open:
            frame = FRAME.match(text)
            if frame:
                stream.where = f"{_short(frame['file'])}, line {frame['line']}, in {frame['function']}"
                stream.code = ""
            elif stream.where and not stream.code and text[:1].isspace():
                stream.code = text.strip()
            elif EXCEPTION.match(text) or _is_name(text):
                stream.is_open = False
                if not stream.is_ignored and line.level not in QUIET:
                    yield Told(_head(log, i), (), i, stream.where, stream.handled, stream.code)
                    stream.last = i
                stream.handled, stream.is_ignored = -1, False


def beside(log: Log) -> set[int]:
    """The lines of exceptions that nothing depends on."""
    found: set[int] = set()
    first: Line | None = None
    for i, line in enumerate(log.lines if BESIDE in log.text else ()):
        first = line if BESIDE in line.text else first
        if first and (line.process, line.pid) == (first.process, first.pid):
            found.add(i)
            first = None if EXCEPTION.match(line.text) else first
    return found


def _is_name(text: str) -> bool:
    """An exception whose name does not say that it is one."""
    return bool(re.match(r"[A-Za-z_][\w.]*(?:: |:?$)", text))


def _short(path: str) -> str:
    return re.sub(r"^.*?/(?:site|dist)-packages/", "", path)


def _head(log: Log, index: int) -> str:
    """What an exception says at once; where its first line is its name alone, what stands below that."""
    text = log.lines[index].text
    below = log.lines[index + 1 : index + 2] if text.rstrip().endswith(":") else ()
    return " ".join([text.strip(), *(line.text.strip() for line in below)])


def _whole(log: Log, one: Told) -> Told:
    """An exception with the lines of its message: those of the same process up to what begins something new."""
    first = log.lines[one.index]
    texts: list[str] = [TREE.sub("", first.text) if first.text.lstrip()[:1] in ("|", "+") else first.text]
    for line in log.lines[one.index + 1 : one.index + MOST_READ]:
        if (line.process, line.pid) != (first.process, first.pid):
            if first.process:
                continue
            break
        # "X: y raised:" has below it what was raised.
        is_next = EXCEPTION.match(line.text) and not texts[-1].rstrip().endswith(":")
        if NEW.match(line.text) or line.level in QUIET or is_next or begins(line.text):
            break
        texts.append(line.text)
    texts = [text.strip() for text in texts if text.strip()]
    decisive = decisive_of(texts)
    # "RuntimeError:" alone on its line has its message below; pydantic has the cause in the second line.
    head = REQUEST_ID.sub(":", texts[0]) if len(texts) > 1 else texts[0]
    is_below = head.endswith(":") or "validation error" in head
    summary = decisive or (" ".join([head, *texts[1:2]]) if is_below else texts[0])
    shown = texts[:MOST_LINES]
    quoted = QUOTED_ERROR.search(summary)
    if quoted:
        summary = quoted["words"] or quoted["words2"] or quoted["words3"]
    if one.code and re.fullmatch(r"[\w.]+:?", summary):
        summary, shown = f"{summary.rstrip(':')} of the line: {one.code}", [one.code, *shown]
    if decisive and decisive not in shown:
        shown = [*texts[:2], decisive]
    lines = tuple(clip(text) for text in shown)
    return replace(one, summary=clip(summary), lines=lines, advice=advice_of(" ".join(texts[:MOST_LINES])))


def advice_of(message: str) -> str:
    """The sentences of a message that tell its reader what to do; empty where none does."""
    sentences = re.split(r"(?<=[.!?;])\s+(?=[A-Z])", message.partition(": ")[2])
    told = [one for one in sentences if not NO_ADVICE.search(one)]
    advice = clip(" ".join(list(filter(ADVICE.search, told)) or filter(DEMAND.search, told)))
    listed = OPTIONS.search(message)
    return advice or (clip(f"Choose one of {listed['options'].strip()}") if listed else "")


def decisive_of(texts: t.Sequence[str]) -> str:
    """The line of a message that says what a compiler stumbled over; empty where none did."""
    for pattern in DECISIVE:
        found = next((text for text in texts[1:] if pattern.search(text)), None)
        if found:
            return found.strip()
    return ""


def clip(text: str) -> str:
    """A text without blanks around it, and no longer than evidence may be."""
    text = text.strip()
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + "..."


# ---------------------------------------------------------------------------------------------------------------------
# Of what kind an error is
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sort:
    """A kind of error: how it is known, what it means, where to look, and whether it goes away by itself."""

    pattern: re.Pattern[str] = field(default_factory=lambda: re.compile(""))
    what: str = ""
    look: str = ""
    retryable: bool | None = None


def _sort(pattern: str, what: str, look: str, retryable: bool | None = None) -> Sort:
    return Sort(re.compile(pattern), what, look, retryable)


# What the system says of a file or a socket that it does not name.
BARE = re.compile(r"Errno -?\d+\] [A-Z][\w ]+$")
ASK = "search vLLM's issues for the words of the error, try the next version, and report it with version, model, flags"
WEIGHTS = (
    "The weights do not go with the model's class",
    "check that config.json is the one of these weights and that all files exist; otherwise this vLLM does not "
    "know this form of the model (its quantization, a merged adapter): use a newer one",
)
CONFIG = (
    "The model's config.json does not go with this vLLM or with its transformers",
    "compare config.json with that of its publisher; a newer version may know it, and hf_overrides overrides a value",
)
KERNEL = (
    "A kernel failed on this GPU",
    "another one may do (attention_backend, moe_backend, linear_backend, kv_cache_dtype: auto, enforce_eager), or a "
    "newer image",
)
# The first that matches counts.
SORTS: tuple[Sort, ...] = (
    _sort(
        r"\b429\b.*Too Many Requests|\b50[0234]\b (?:Server Error|Bad Gateway|Service Unavailable|Gateway Time-?out)",
        "The other side turned a request away for now",
        "wait some minutes and start again; a token (hf_token_file) raises the limit of the Hugging Face Hub",
        True,
    ),
    _sort(
        r"Docker daemon",
        "The Docker Engine does not run on the host, or this user may not use it",
        "look at systemctl status docker; who deploys has to be root or in the group docker",
    ),
    _sort(
        r"NoCredentials|[Uu]nable to locate credentials|\b40[13]:? (?:Client Error|Unauthorized|Forbidden)",
        "The other side rejected the credentials, or got none",
        "give the server valid ones that may read what it asks for (hf_token_file for the Hugging Face Hub, env_file "
        "for others, such as AWS_ACCESS_KEY_ID)",
        False,
    ),
    _sort(
        r"Failed to pull image|failed to resolve reference|manifest unknown|manifest for \S+ not found|pull access "
        r"denied|toomanyrequests|repository does not exist|net/http: |registry-1\.docker"
        r"|unauthorized: authentication required|initializing source docker:",
        "The image could not be fetched",
        "check its name and tag, log in to the registry on the host where it wants that, look at its limit of pulls, "
        "and whether the Docker Engine reaches it (its proxy)",
    ),
    _sort(
        r"Error response from daemon|OCI runtime|container_linux\.go",
        "The container could not be created or started",
        "correct what it names: a name that another container has, a path to mount that is not there, a device, a "
        "port, a limit (ulimits)",
    ),
    _sort(
        r"(?:Revision|Entry)NotFound|not a valid git identifier",
        "The model has no such revision or file on the Hugging Face Hub",
        "check model, revision and the name of the file on the model's page",
        False,
    ),
    _sort(
        r"Stale file handle|Input/output error|Remote I/O error|Transport endpoint is not connected|I/O error",
        "The storage below a path failed",
        "look at dmesg and at the mount of that path, mount a network file system again, or keep the files on the host",
    ),
    _sort(
        r"[Cc]annot assign requested address|Address family not supported",
        "The server cannot listen on the address that it was given",
        "set bind to an address that this host has, as 'ip address' lists them; 0.0.0.0 is all of them",
        False,
    ),
    _sort(
        r"KEY_VALUES_MISMATCH|key values mismatch|\[SSL\] PEM|bad decrypt|NO_START_LINE|no start line",
        "The certificate of the server and its key cannot be read or do not go together",
        "compare ssl_certfile and ssl_keyfile in engine, as the server sees these files",
        False,
    ),
    _sort(
        r"[Vv]ersion mismatch|[Ii]ncompatible versions?\b|versions? (?:is|are) (?:incompatible|not compatible)",
        "Two parts do not have versions that go together",
        "give all hosts the same image or environment, and each package the version that its partner asks for",
        False,
    ),
    _sort(
        r"[Rr]aylet|\bGCS\b|\bRay (?:instance|cluster|workers?|head|nodes?|version)\b|RAY_ADDRESS|[Pp]lacement group",
        "The Ray cluster, which runs the workers, failed",
        "look at ray status and at /tmp/ray/session_latest/logs of every host; then start Ray again on all of them "
        "(ray stop, ray start), each with the same versions and enough free GPUs",
    ),
    _sort(
        r"^(?!ImportError|ModuleNotFound)(?=.*(?:ptxas|nvcc|LLVM ERROR|[Nn]inja|triton\.compiler|CompilationError"
        r"|InductorError|BackendCompilerFailed|PassManager|LoweringException|(?:\d\)?|\bld|collect2|cc): (?:fatal "
        r")?error: ))",
        "A kernel could not be compiled for this GPU or on this host",
        "compare GPU, driver and CUDA toolkit with what the image was built for; enforce_eager or another "
        "attention_backend may do without that kernel",
        False,
    ),
    _sort(
        r"ModuleNotFoundError|ImportError|undefined symbol|cannot open shared object|Symbol not found|No module named"
        r"|binary incompatibility|NumPy|Cannot load symbol|Could not load library|PackageNotFound|to upgrade torch"
        r"|module '[\w.]+' has no attribute",
        "A package of the environment is missing or does not go with the others",
        "run pip check in it and compare with what this vLLM requires; the official image, or a new environment with "
        "vLLM installed alone, has what goes together",
        False,
    ),
    _sort(
        r"\bCUDA(?:\b|Symm)|cuda[A-Z]\w+|CUBLAS|cublas|cudnn|CUDNN|NVML|AcceleratorError|\bnccl|\bNCCL|nvshmem|NVSHMEM|\bGPU\b",
        "The GPU, its driver or the connection of GPUs failed",
        "look at nvidia-smi and at dmesg for Xid lines, and compare the driver with the CUDA of the image; "
        "CUDA_LAUNCH_BLOCKING: 1 in env shows which kernel it was",
    ),
    _sort(
        r"[Cc]utlass|CUTLASS|\b\w*gemm\b|GEMM|[Tt]riton|[Ff]lash[Ii]nfer|[Nn]o suitable kernel|\bTMA\b|TensorRT-LLM"
        r"|trtllm|AITER|\bFA version|[Dd]eep_?[Ee][Pp]\b|Check failed: .*(?:->|\bdim|\bsize\()|\bSM ?\d"
        r"|\b[Ss][Mm]_?\d\d",
        *KERNEL,
    ),
    _sort(r"KeyError: .[\w.]+\.(?:q?weight\w*|bias|\w*scales?|g_idx|q?zeros)\b", *WEIGHTS, False),
    # Not those of vLLM itself.
    _sort(
        r"'(?!Model|Vllm|Cache|Parallel|Scheduler|Speculative|Compilation|Load|LoRA|\w*(?:Quant|FP8|Fp8))\w+Config' "
        r"object has no",
        *CONFIG,
        False,
    ),
    _sort(
        r"MemoryError|Cannot allocate memory|bad_alloc|std::bad_alloc",
        "The host has too little memory for it",
        "look at free -h and at the limits of the container or unit",
    ),
    _sort(
        r"FileNotFoundError|NotADirectoryError|IsADirectoryError|No such file",
        "A file or a program is not where it is looked for",
        "check that the path exists as the server sees it (in the container, with the PATH of the unit)",
        False,
    ),
    _sort(
        r"PermissionError|Permission denied|Operation not permitted|Read-only file system|numa_migrate_pages",
        "The server may not do what it tried",
        "check who owns the path that it names and as which user the server runs; a container may need a capability "
        "(cap_add: SYS_NICE for NUMA)",
        False,
    ),
    _sort(
        r"JSONDecodeError|UnicodeDecodeError|yaml[.:]|TomlDecode|UnpicklingError|SafetensorError|zipfile",
        "A file does not hold what it should",
        "look at the file that it names, or at those of the model: cut short, a page of a proxy, or a pointer of Git "
        "LFS",
        False,
    ),
    _sort(
        r"CERTIFICATE_VERIFY_FAILED|certificate verify failed|SSLCertVerificationError",
        "The certificate of the other side is not trusted: a proxy that opens connections, or a CA of one's own",
        "mount the CA's certificate and name it as SSL_CERT_FILE and REQUESTS_CA_BUNDLE in env, or put the weights on "
        "the host beforehand (huggingface_dir)",
        False,
    ),
    _sort(
        r"Connect\w*Error|Timeout\w*|timed out|HTTPError|HTTPStatusError|SSLError|gaierror|name resolution|ProxyError"
        r"|NetworkError|StoreError|MaxRetryError|CAS service error|[Rr]eqwest",
        "Something did not answer over the network or in time",
        "check the address that it names from this host, its proxy and firewall, and whether the other side runs",
    ),
    _sort(
        r"NotImplementedError|[Nn]ot (?:yet )?(?:supported|implemented)|not support\b|[Uu]nsupported|no vLLM "
        r"implementation",
        "This vLLM does not do that with this model, on this GPU or with these settings",
        "change or leave out what it names, or take a newer version or other weights, with which it does",
        False,
    ),
    _sort(
        r"^(?!.*(?:Duplicated? (?:timeseries|layer)|should (?:not|never) |[Uu]nreachable))"
        r".*(?:ValidationError|ValueError|ConfigError|InvalidConfig)",
        "A setting, or what the model's config.json says, is not accepted",
        "look for the setting that it names in engine, and whether this vLLM knows this model",
    ),
    _sort(
        r"(?:Value|Attribute|Type|Key|Index|Assertion|Name|UnboundLocal|Recursion|ZeroDivision|Syntax)Error"
        r"|should (?:not|never) (?:be reached|happen)|[Uu]nreachable|vLLM config is not set",
        "vLLM or a library has a defect there, or does not support this model with these settings",
        f"{ASK} and the full log",
        False,
    ),
)
# Of errors whose words are of no kind of their own, by where they were raised.
PLACES: tuple[Sort, ...] = (
    _sort(
        r"in \w*(?:load_weights?|weight_loader\w*|load_fused_expert_weights|load_merged_column_weight|load_row_\w+"
        r"|validate_shard_id)$"
        r"|torch/serialization\.py",
        *WEIGHTS,
        False,
    ),
    _sort(
        r"tokenization_|tokenizers?/|tokenizer\w*\.py|sentencepiece/",
        "The tokenizer of the model is not complete, or of another kind than the one installed",
        "check that tokenizer.json, tokenizer_config.json and the files that these name are in the model's directory, "
        "or use a newer vLLM",
        False,
    ),
    _sort(
        r"in _get_and_verify_max_len$|config\w*\[[\"']|configuration_\w+\.py|rope_utils|auto_factory|rotary_embedding"
        r"|in (?:\w+_)?rope(?:_\w+)?$|transformers_utils/config",
        *CONFIG,
        False,
    ),
    _sort(
        r"processing_\w+\.py|in \w*_processor\w*$|transformers_utils/processor",
        "The processor of the model (for images, videos or sound) is not complete, or of another version than "
        "transformers",
        "check that preprocessor_config.json and processor_config.json are in the model's directory, compare the "
        "version of transformers with what the model asks for, or set limit_mm_per_prompt to 0 for what is not used",
        False,
    ),
    _sort(
        r"create_ssl_context",
        "The certificate of the server or its key is not there",
        "compare ssl_certfile and ssl_keyfile in engine with where the server sees these files",
        False,
    ),
    _sort(
        r"in create_server_socket$",
        "The server cannot listen on the address or port that it was given",
        "set bind to an address that this host has, or to a name that it can resolve, and port to one above 1024",
        False,
    ),
)
ANY = Sort(
    what="The error itself does not say of what kind it is",
    look=f"look at the lines around it in the full log; then {ASK} and that log",
)


# Where only code is asked for something, and where kernels are.
INNER = re.compile(
    r"model_executor/(?:layers|kernels|models)/|/ops/|flashinfer/|triton/|torch/|_kernels?/|^transformers/"
)
KERNELS = re.compile(r"flashinfer/|/fused_moe/|deep_gemm|deep_ep|/ops/|/kernels/|triton/|flash_attn")


# A setting or a variable by its own name, which is no property of a model.
NAMED = re.compile(
    r"--(?P<flag>[a-z][a-z0-9]+(?:-[a-z0-9]+)*)|\b(?P<variable>(?:VLLM|LMCACHE|HF|RAY)_[A-Z0-9_]+)\b"
    r"|(?<![\w./':-])(?P<name>(?:enable|disable|enforce|limit|max|num|tensor|pipeline|data|decode|prefill|expert|kv"
    r"|gpu|mm|lora|hf|attention|moe|linear|mamba|block|cudagraph|compilation|scheduling|async|cpu|rope|pooler|chat|tool"
    r"|reasoning|tokenizer|load|served|node|master|speculative|prompt)_[a-z0-9_]+)(?![\w/(-]|\.\w)"
)
NO_SETTING = re.compile(
    r"(?!served_)(?:num_(?:max_\w+|gpus|heads|experts|layers|blocks|gpu_blocks|tokens|reqs|kv_heads|\w+_heads|hidden_layers)$"
    r"|max_position|max_seq|\w+_(?:weights?|kernel|factor|idx|index|ids?|proj|name|shape|dim|indices)$|load_|VLLM_(?:USE_V1"
    r"|ALLOW_LONG_MAX_MODEL_LEN)$)"
)
# Settings by what messages, lines of code and the names of modules call them.
SETTINGS: tuple[tuple[str, str], ...] = (
    ("tensor_parallel_size", r"\btp_size\b|[Tt]ensor.(?:model.)?parallel"),
    ("pipeline_parallel_size", r"\bpp_size\b|[Pp]ipeline.parallel"),
    ("kv_cache_dtype", r"\b[Kk][Vv].?[Cc]ache.?dtype|(?:fp8\w*|FP8|quantized) [Kk][Vv]"),
    (
        "quantization",
        r"[Qq]uanti[sz]|GGUF|\bgguf|(?i:awq|gptq|modelopt|nvfp4|mxfp4|compressed.tensors|bitsandbytes|\bbnb\b)",
    ),
    (
        "speculative_config",
        r"[Ss]peculat|spec_decode|[Dd]raft|[Ee][Aa][Gg][Ll][Ee]|\bMTP\b|_mtp\b|[Mm]edusa",
    ),
    ("enable_lora", r"LoRA|DoRA|lora_|/lora/|PEFT"),
    ("enable_expert_parallel", r"[Ee]xpert.parallel|deep_?ep|DeepEP"),
    ("all2all_backend", r"all2all|nvshmem|NVSHMEM|[Dd]eep_?[Ee][Pp]\b"),
    ("disable_hybrid_kv_cache_manager", r"[Hh]ybrid KV"),
    ("enable_eplb", r"\bEPLB\b|eplb|is_mixture_of_experts|(?:physical|redundant)_experts"),
    ("cpu_offload_gb", r"CPU (?:weight )?offload"),
    ("enable_prefix_caching", r"[Pp]refix.cach"),
    ("enable_chunked_prefill", r"[Cc]hunked.prefill"),
    ("data_parallel_size", r"[Dd]ata.parallel|\bDP ranks?\b"),
    ("decode_context_parallel_size", r"[Dd]ecode.context.parallel|\bDCP\b"),
    ("async_scheduling", r"[Aa]sync(?:hronous)?.scheduling"),
    ("logits_processors", r"[Ll]ogits.?processor"),
    (
        "structured_outputs_config",
        r"[Ss]tructured.output|[Gg]uided.decoding|xgrammar|outlines_core|llguidance|\b[Gg]rammar\b",
    ),
    ("moe_backend", r"[Ff]used_?MoE|FusedMoe|/fused_moe/|\btopk_\w+|expert_indices|\bMoE (?:backend|kernel)"),
    (
        "compilation_config (enforce_eager does without)",
        r"[Cc][Uu][Dd][Aa].?[Gg]raph|FusionPass|/compilation/|_dynamo|_inductor",
    ),
    (
        "attention_backend",
        r"FlashAttention|FlashInfer|FlashMLA|flash_attn|/attention/backends/|(?:[Aa]ttention|prefill) backend",
    ),
    ("kv_transfer_config", r"kv_transfer|KVConnector|LMCache|\bNIXL\b|[Nn]ixl_|[Mm]ooncake"),
    ("limit_mm_per_prompt", r"[Mm]ulti.?[Mm]odal|mm_processor|[Ii]mage processor|[Ee]ncoder cache"),
    ("reasoning_parser", r"[Rr]easoning parser|vllm/reasoning/"),
    ("tool_call_parser", r"[Tt]ool (?:call )?parser|/tool_parsers/"),
    ("load_format", r"[Ll]oad.format|[Tt]ensorizer|runai_streamer"),
    ("distributed_executor_backend", r"executor backend|[Rr]ay backend"),
    ("pooler_config", r"[Pp]ooling|[Pp]ooler"),
    ("VLLM_ROCM_USE_AITER", r"(?i:aiter)\b|aiter_"),
    ("VLLM_ALLREDUCE_USE_SYMM_MEM", r"symm_mem|[Ss]ymmetric_?[Mm]emory|SymmMem"),
    ("disable_custom_all_reduce", r"[Cc]ustom.all.?reduce"),
    ("mamba_backend", r"Mamba SSU"),
    ("dtype", r"scalar type|FP16/BF16|dtypes? (?:mis)?match"),
    ("prefill_context_parallel_size", r"\bPCP\b|[Pp]refill.context.parallel"),
    ("VLLM_PLUGINS", r"platform plugin"),
    ("VLLM_BATCH_INVARIANT", r"batch.invarian"),
    ("numa_bind", r"\bNUMA\b|numactl"),
    ("VLLM_CPU_OMP_THREADS_BIND", r"numa_\w+ failed|ompmultiprocessing|init_cpu_threads"),
    ("block_size", r"[Bb]lock.size|page.size|KV cache (?:groups|specs)"),
    ("chat_template", r"[Cc]hat template"),
)


def settings_in(*texts: str) -> list[str]:
    """The settings of a server that an error speaks of, in whatever words."""
    named = [_setting(match) for text in texts[:1] for match in NAMED.finditer(text.partition(" of the line: ")[0])]
    meant = [name for name, pattern in SETTINGS if any(re.search(pattern, text) for text in texts)]
    return list(dict.fromkeys([name for name in named if name] + meant))


def _setting(match: re.Match[str]) -> str:
    if match["flag"]:
        return match["flag"].replace("-", "_")
    name = match["variable"] or match["name"]
    return "" if NO_SETTING.match(name) else name


def sort_of(summary: str, advice: str = "", where: str = "", code: str = "", served: bool = False) -> Sort:
    """Of what kind an error is, from its words, and from where it was raised if these are any program's; one that says
    itself what to change is of no better known kind. What a server served with was accepted."""
    summary = summary.rpartition(" raised: ")[2]
    is_demand = advice and not ADVICE.search(advice) and not OPTIONS.search(summary)
    is_inner = INNER.search(where) and (where.startswith("transformers/") or not settings_in(summary))
    if is_demand and (served or is_inner):
        # What a kernel wants of a tensor, nobody can give it by a setting.
        advice = ""
    if advice:
        passes = SORTS[0].pattern.search(summary) or re.search(r"\b(?:again|later|retry)\b", advice)
        return Sort(what="The message says what to do", look=advice.rstrip("."), retryable=None if passes else False)
    sort = next((sort for sort in SORTS if sort.pattern.search(summary)), ANY)
    place = next((place for place in PLACES if place.pattern.search(f"{code} {where}")), sort)
    is_any = sort is ANY or sort in SORTS[-2:] or bool(BARE.search(summary))
    found = place if is_any else sort
    if found is ANY and KERNELS.search(where):
        return Sort(what=KERNEL[0], look=KERNEL[1])
    return SORTS[-1] if served and found is SORTS[-2] else found
