# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What vLLM says when it fails, what that means and what to change: one row for each failure, all versions since 0.8.

A row is found by its pattern in the log without prefixes (see diagnosis.py). Cause and remedy are texts with the
pattern's groups in braces, or functions of what was found where a number has to be worked out.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

from .._gpu.tenants import holders
from .advice import VALUES, instead_of

# root     what has to be changed
# symptom  what follows from a root cause, or the most that can be known without one
# warn     no failure at all, worth a note
Kind = t.Literal["root", "symptom", "warn"]


@dataclass(frozen=True)
class Found:
    """A signature in a log: the groups of its pattern, the settings the server printed, and what the GPUs are."""

    groups: t.Mapping[str, str] = field(default_factory=dict)
    settings: t.Callable[[str], str | None] = lambda name: None
    facts: t.Mapping[str, t.Any] = field(default_factory=dict)
    text: str = ""

    def number(self, name: str) -> float | None:
        """A group as a number, where it is one."""
        try:
            return float(self.groups[name].replace(",", ""))
        except (KeyError, ValueError):
            return None

    def __getitem__(self, name: str) -> str:
        return self.groups.get(name, "?")

    def __contains__(self, name: str) -> bool:
        return name in self.groups


Text = t.Union[str, t.Callable[[Found], str]]


@dataclass(frozen=True)
class Signature:
    """A row: how a failure is recognized, and what it means."""

    id: str
    kind: Kind
    # One of these literals is in every text that matches; looking for them first is what makes a large log quick.
    literals: tuple[str, ...]
    pattern: str
    cause: Text
    remedy: Text
    # Whether the same start may succeed another time without a change; None when that is not known.
    retryable: bool | None = False
    # For a root: a server that still runs will not get over it. For a symptom: the server is going down.
    final: bool = True
    # Matters while the server lives and serves, too: what a request runs into otherwise is that request's business.
    serving: bool = False
    # Ids that this one tells more exactly, when both are found.
    narrows: tuple[str, ...] = ()

    def regex(self) -> re.Pattern[str]:
        """The pattern, compiled; at its first use, since a start that goes well needs none."""
        return re.compile(self.pattern, re.MULTILINE)


def say(text: Text, found: Found) -> str:
    """A cause or remedy for what was found."""
    return text(found) if callable(text) else text.format_map(_Groups(found))


class _Groups(dict[str, str]):
    def __init__(self, found: Found) -> None:
        super().__init__(found.groups)

    def __missing__(self, key: str) -> str:
        return "?"


# ---------------------------------------------------------------------------------------------------------------------
# Remedies that need arithmetic or the facts of the GPUs
# ---------------------------------------------------------------------------------------------------------------------


def _floored(value: float, step: float = 0.01) -> str:
    """A share of memory, rounded down so that it fits."""
    return f"{int(value / step + 1e-9) * step:.2f}"


def _gpus(facts: t.Mapping[str, t.Any]) -> list[t.Mapping[str, t.Any]]:
    gpus = facts.get("gpus")
    return [gpu for gpu in gpus if isinstance(gpu, dict)] if isinstance(gpus, list) else []


def _short_gpu(found: Found) -> t.Mapping[str, t.Any]:
    """The GPU that the log speaks of. vLLM counts what it may see, so its number is only a tie-breaker."""
    free, index = found.number("free") or 0.0, found["dev"].rpartition(":")[2]
    known = [gpu for gpu in _gpus(found.facts) if gpu.get("memory_free_mib") is not None]

    def distance(gpu: t.Mapping[str, t.Any]) -> tuple[int, bool]:
        return round(abs(gpu["memory_free_mib"] / 1024 - free)), str(gpu.get("index")) != index

    return min(known, key=distance, default={})


def _tenants(gpu: t.Mapping[str, t.Any]) -> str:
    processes = [p for p in gpu.get("processes") or () if isinstance(p, dict) and p.get("used_memory_mib")]
    return holders(processes, most=4)


def _roomier(found: Found, than: t.Mapping[str, t.Any]) -> str:
    """Another GPU of the host that would do."""
    want = found.number("want") or 0.0
    fits = [g for g in _gpus(found.facts) if g is not than and (g.get("memory_free_mib") or 0) / 1024 >= want]
    best = max(fits, key=lambda gpu: gpu["memory_free_mib"], default=None)
    if best is None:
        return ""
    return f" GPU {best.get('index')} ({best.get('uuid')}) has {best['memory_free_mib'] / 1024:.1f} GiB free."


def _is_unified(found: Found) -> bool:
    total = found.number("total") or 0.0
    # What vLLM sees as total on a GB10; no card has that much and shares it.
    return found.facts.get("memory_kind") == "unified" or (not found.facts and 115 <= total <= 125)


def _free_memory(found: Found) -> str:
    free, total = found.number("free") or 0.0, found.number("total") or 1.0
    share, gpu = free / total, _short_gpu(found)
    lower = f"lower gpu_memory_utilization to {_floored(share)} or " if share >= 0.1 else ""
    tenants = _tenants(gpu)
    whose = f": {tenants}" if tenants else " (nvidia-smi shows its processes; look for workers of an earlier start)"
    unified = ""
    if _is_unified(found):
        unified = " Memory is shared with the system here: stop the desktop and empty the page cache before the start."
    return (
        f"{found['free']} of {found['total']} GiB free, {found['want']} wanted: {lower}free the "
        f"GPU{whose}.{_roomier(found, gpu)}{unified} A shorter max_model_len does not help: this is checked before "
        "weights are read."
    )


def _drift(found: Found) -> str:
    grown = (found.number("cur") or 0.0) - (found.number("init") or 0.0)
    released = f"{grown:.2f} GiB" if grown > 0 else "some"
    return f"Another process released {released} of GPU memory while vLLM measured how much is free."


def _kv_too_small(found: Found) -> str:
    est, need, have = found.number("est"), found.number("need") or 0.0, found.number("have") or 0.0
    if est is not None:
        length = f"set max_model_len to {est:.0f} or less (vLLM's own estimate)"
    else:
        length = f"set max_model_len to about {int(found.number('len') or 0) * have / max(need, 0.01):.0f} or less"
    return (
        f"{length[:1].upper()}{length[1:]}, raise gpu_memory_utilization{_from(found, 'gpu_memory_utilization')}, use "
        "kv_cache_dtype: fp8, or spread the model over more GPUs (tensor_parallel_size)."
    )


def _from(found: Found, setting: str) -> str:
    value = found.settings(setting)
    return f" from {value}" if value else ""


def _no_blocks(found: Found) -> str:
    short = re.search(r"Available KV cache memory: -([\d.]+) GiB", found.text)
    missing = f" {short.group(1)} GiB are missing." if short else ""
    return (
        f"Raise gpu_memory_utilization{_from(found, 'gpu_memory_utilization')}, or lower "
        f"max_num_batched_tokens{_from(found, 'max_num_batched_tokens')} and max_num_seqs, or use more GPUs "
        f"(tensor_parallel_size) or smaller weights.{missing} gpt-oss-120b on one 80 GB card needs 0.95 and "
        "max_num_batched_tokens 1024."
    )


def _world_size(found: Found) -> str:
    gpus = found["gpus"] if "gpus" in found else found["n"]
    return (
        f"Set tensor_parallel_size times pipeline_parallel_size to {gpus} or less, or let the server see more GPUs "
        "(gpus, CUDA_VISIBLE_DEVICES). Across several hosts use nnodes, node_rank and master_addr (vLLM 0.11.1 or "
        "later)."
    )


def _heads(found: Found) -> str:
    heads, size = int(found.number("h") or 0), int(found.number("tp") or 0)
    fitting = [str(n) for n in range(1, size + 1) if heads and heads % n == 0]
    return f"Set tensor_parallel_size to one of {', '.join(fitting) or '1'}: it has to divide {heads}."


def _unrecognized(found: Found) -> str:
    flags = re.findall(r"--?[A-Za-z][\w.-]*", found["args"])
    known = [f"{flag}: {instead_of(flag)}" for flag in flags if instead_of(flag)]
    if known:
        return f"{'. '.join(known)}."
    return (
        f"Remove {found['args'].strip()} from engine, or correct its spelling: 'vllm serve --help=all' lists the flags "
        "of this version."
    )


def _invalid_choice(found: Found) -> str:
    choices = [c.strip(" '\"") for c in found["choices"].rstrip(") ").split(",")] if "choices" in found else []
    name = found["arg"].split("/")[-1].lstrip("-").replace("-", "_")
    if name == "kv_cache_dtype" and found["val"] in ("bf16", "bfloat16", "float16", "fp16"):
        exact = "bfloat16 or " if "bfloat16" in choices else ""
        since = "bfloat16 exists since 0.11.0"
        return f"Set kv_cache_dtype to {exact}auto, or leave it out: auto follows the model ({since})."
    meant = VALUES.get(found["val"])
    if meant in choices:
        return f"Set {name} to {meant}."
    return (
        f"Set {name} to one of: {', '.join(choices)}." if choices else f"Set {name} to a value that this version takes."
    )


def _wrong_argument(found: Found) -> str:
    """What argparse says of one argument, or of all of them, and what pydantic adds in the lines below."""
    if "arg" not in found:
        return "Correct the settings in engine that it names; 'vllm serve --help=all' lists the flags of this version."
    name = max(found["arg"].split("/"), key=len).lstrip("-").replace("-", "_")
    kind = re.search(r"Input should be (.{1,80}?) \[type=\w{1,40}, input_value=(.{1,200}?), input_type=", found.text)
    if not kind:
        return f"Correct {name} in engine: 'vllm serve --help={name.replace('_', '-')}' says what this version takes."
    such = f', such as {{"mode": {kind.group(2)}}}' if name == "compilation_config" else ""
    what = "a mapping" if "object" in kind.group(1) or "dict" in kind.group(1) else kind.group(1)
    return f"Set {name} to {what}{such}: this version does not take {kind.group(2)}."


def _cuda_version(found: Found) -> str:
    number = int(found.number("found") or 0)
    return (
        f"The NVIDIA driver is older than vLLM's "
        f"CUDA{f' (it supports CUDA {number // 1000}.{number % 1000 // 10})' if number else ''}."
    )


def _port(found: Found) -> str:
    return found.groups.get("port") or found.settings("port") or "8000"


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


def _disk(found: Found) -> str:
    path = found.groups.get("path") or found.groups.get("path2")
    where = f" {path} is on it." if path else ""
    return (
        f"Free space on the full file system (df -h shows which).{where} Put the Hugging Face cache (huggingface_dir) "
        "and VLLM_CACHE_ROOT on a large one; /dev/shm counts too (ipc_mode: host)."
    )


# What a pane of a terminal leaves at both ends of a line.
PANE = " \t\u2502\u2503|"
HIGHER_ABOVE = "The first error above it in the log is the cause."

# ---------------------------------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------------------------------

SIGNATURES: tuple[Signature, ...] = (
    # --- GPU memory ---
    Signature(
        "mem-profiling-drift",
        "root",
        ("Error in memory profiling",),
        r"Error in memory profiling\. Initial free memory (?P<init>[\d.]+)(?: GiB)?,\s*current free memory "
        r"(?P<cur>[\d.]+)",
        _drift,
        "Start again: it usually works, and start servers on one host one after the other. On a GPU that others use, "
        "set kv_cache_memory_bytes (vLLM 0.10.2 or later), which skips the measurement. On a GB10 empty the page cache "
        "first. A lower gpu_memory_utilization or enforce_eager does not address it.",
        retryable=True,
    ),
    Signature(
        "mem-free-below-budget",
        "root",
        ("on startup is less than",),
        r"Free memory on device(?: (?P<dev>[\w:]+))? \((?P<free>[\d.]+)/(?P<total>[\d.]+) GiB\) on startup is less "
        r"than (?:desired GPU memory utilization|the engine's budget after excluding external process's weights) "
        r"\((?P<util>[\d.]+), (?P<want>[\d.]+) GiB\)",
        "Less GPU memory is free than the server asks for: gpu_memory_utilization {util} of {total} GiB is {want} GiB, "
        "and {free} GiB are free. Other processes hold the rest.",
        _free_memory,
    ),
    Signature(
        "mem-no-cache-blocks",
        "root",
        ("No available memory for the cache blocks",),
        r"No available memory for the cache blocks",
        "After weights and working memory nothing of the server's share of the GPU is left for the KV cache.",
        _no_blocks,
    ),
    Signature(
        "mem-kv-too-small",
        "root",
        ("is larger than the available KV cache", "which is larger than the available KV"),
        r"To serve at least one request with the models?'s max seq len \((?P<len>\d+)\), \(?(?P<need>[\d.]+) GiB "
        r"KV\s*cache is needed, which is larger than the available KV cache memory \((?P<have>[\d.]+) GiB\)"
        r"(?:\. Based on the available memory, the estimated maximum model length is (?P<est>\d+))?",
        "One request of max_model_len {len} needs {need} GiB of KV cache, and {have} GiB are available.",
        _kv_too_small,
    ),
    Signature(
        "mem-kv-too-small-v0",
        "root",
        ("that can be stored in KV cache",),
        r"The model's max seq len \((?P<len>\d+)\) is larger than the maximum number of tokens that can be stored in "
        r"KV cache \((?P<have>\d+)\)",
        "One request of max_model_len {len} does not fit into the KV cache, which holds {have} tokens.",
        "Set max_model_len to {have} or less, raise gpu_memory_utilization, or use kv_cache_dtype: fp8.",
    ),
    Signature(
        "mem-load-oom",
        "root",
        ("Failed to load model - not enough GPU memory",),
        r"Failed to load model - not enough GPU memory",
        "The weights do not fit into the memory of the GPU.",
        "Spread the model over more GPUs (tensor_parallel_size), take a smaller or quantised model, or free the GPU. A "
        "lower gpu_memory_utilization makes no room for weights.",
        narrows=("cuda-oom",),
    ),
    Signature(
        "mem-sampler-warmup-oom",
        "root",
        ("CUDA out of memory occurred when warming up",),
        r"CUDA out of memory occurred when warming up (?:sampler|pooler)(?: with (?P<n>\d+) dummy requests)?",
        lambda f: (
            f"After the KV cache was set aside, too little GPU memory is left to sample for "
            f"{f.groups.get('n', 'many')} requests at once."
        ),
        "Lower max_num_seqs (to 256, then 128) or gpu_memory_utilization.",
        narrows=("cuda-oom",),
    ),
    Signature(
        "cuda-oom",
        "root",
        ("CUDA out of memory. Tried",),
        r"(?:torch\.(?:cuda\.)?OutOfMemoryError: )?CUDA out of memory\. Tried to allocate (?P<want>[\d.]+ [KMG]iB)"
        r"(?:\. GPU (?P<gpu>\d+) has a total capacity of (?P<total>[\d.]+ [KMG]iB)"
        r" of which (?P<left>[\d.]+ [KMG]iB) is free)?",
        lambda f: (
            f"The GPU ran out of memory: {f['want']} more were asked for"
            + (f", and {f['left']} of {f['total']} are free on GPU {f['gpu']}." if "left" in f else ".")
        ),
        "While loading: the model is too big for the GPU, so use more GPUs or smaller weights. While capturing graphs: "
        "lower gpu_memory_utilization or max_num_seqs, or set enforce_eager. While serving: lower "
        "gpu_memory_utilization by 0.05.",
        # Autotuners try, fail and go on.
        final=False,
    ),
    # --- gpt-oss vocabulary ---
    Signature(
        "harmony-vocab-download",
        "root",
        ("HarmonyError",),
        r"HarmonyError: error downloading or loading vocab file",
        "The model needs o200k_base.tiktoken and could not download it (openaipublic.blob.core.windows.net).",
        "Set encodings_dir: role tiktoken_encodings puts the file there, and the server gets TIKTOKEN_ENCODINGS_BASE. "
        "If it is set already, check that the directory is mounted into the container.",
        serving=True,
    ),
    Signature(
        "harmony-vocab-missing-file",
        "root",
        ("HarmonyError",),
        r"HarmonyError: invalid tiktoken vocab file: No such file or directory",
        "TIKTOKEN_ENCODINGS_BASE names a directory without o200k_base.tiktoken.",
        "Put o200k_base.tiktoken there under exactly this name (role tiktoken_encodings does, with encodings_dir), or "
        "unset the variable with vLLM 0.31 or later, which carries the vocabulary.",
        serving=True,
    ),
    Signature(
        "harmony-vocab-corrupt",
        "root",
        ("HarmonyError",),
        r"HarmonyError: invalid tiktoken vocab file: (?:hash mismatch: computed=(?P<got>[0-9a-f]+), "
        r"expected=(?P<want>[0-9a-f]+)|failed to decode base64)",
        "The vocabulary file is not the published one: cut short, or a web page in its place.",
        "Delete o200k_base.tiktoken from encodings_dir and run the role again: it checks the sha256 before it "
        "installs.",
        serving=True,
    ),
    # --- Hugging Face, files, disk ---
    Signature(
        "hf-gated",
        "root",
        ("gated", "Gated", "is restricted"),
        r"(?:GatedRepoError|Cannot access gated repo for url|You are trying to access a gated repo"
        r"|is a gated repository\.|Access to model \S+ is restricted)",
        "The model is gated: the Hugging Face token is missing, or its account has not accepted the licence.",
        "Accept the licence on the model's page with that account and give the server the token (hf_token_file), or "
        "put the weights on the host beforehand.",
        final=False,
        narrows=("hf-repo-not-found", "hf-offline"),
    ),
    Signature(
        "hf-repo-not-found",
        "root",
        ("RepositoryNotFoundError", "Repository Not Found", "is not a valid model identifier", "Repo id must be"),
        r"(?:RepositoryNotFoundError|Repository Not Found for url: (?P<url>\S+)"
        r"|(?P<name>\S+) is not a local folder and is not a valid model identifier"
        r"|HFValidationError: Repo id must be .*?: '(?P<path>[^']+)')",
        lambda f: (
            f"There is no such model{_named(f)}: a wrong id, a private repository without a token, or a directory "
            "that is not there."
        ),
        "Check model as the server sees it: an id of the Hugging Face Hub, or a directory that exists and is mounted "
        "into the container. A private repository needs hf_token_file.",
        final=False,
    ),
    Signature(
        "hf-offline",
        "root",
        ("We couldn't connect to", "LocalEntryNotFoundError", "OfflineModeIsEnabled"),
        r"(?:We couldn't connect to '\S+' to load the files|LocalEntryNotFoundError|OfflineModeIsEnabled)",
        "The Hugging Face Hub cannot be reached, and the model is not complete in the cache on the host.",
        "Put the weights on the host beforehand (huggingface_dir, or model as a directory), or let the host reach the "
        "Hub. HF_HUB_OFFLINE=1 keeps a complete cache from being looked up again.",
        retryable=True,
        final=False,
    ),
    Signature(
        "no-weights",
        "root",
        ("Cannot find any model weights",),
        r"Cannot find any model weights with `(?P<path>[^`]+)`",
        "{path} holds no weights.",
        "Download the model again, or correct the directory: it has to hold *.safetensors where the server sees it.",
    ),
    Signature(
        "disk-full",
        "root",
        ("No space left on device",),
        r"(?:\[Errno 28\]|(?<=os error 28)\)?|OSError: .*)\W*No space left on device(?:: '(?P<path>[^']+)')?"
        r"|No space left on device \(os error 28\)(?:.*?\"(?P<path2>/[^\"]+)\")?",
        "A disk (or /dev/shm) is full.",
        _disk,
        # A cache that cannot be written is often done without.
        final=False,
    ),
    # --- Arguments, environment, model ---
    Signature(
        "args-unrecognized",
        "root",
        ("error: unrecognized arguments",),
        r"error: unrecognized arguments: (?P<args>.+)$",
        "This version of vLLM does not know {args}.",
        _unrecognized,
    ),
    Signature(
        "args-invalid-choice",
        "root",
        ("invalid choice",),
        r"error: argument (?P<arg>\S+): invalid choice: '?(?P<val>[^'\s]+)'? \(choose from (?P<choices>[^\n]*)",
        "This version of vLLM does not take {val} for {arg}.",
        _invalid_choice,
    ),
    Signature(
        "args-invalid",
        "root",
        (": error: ",),
        r"(?:vllm(?: [a-z-]{1,30}){0,3}|[\w-]{1,60}\.py|python[\d.]{0,8} -m [\w.]{1,120}): error: "
        r"(?!unrecognized arguments|argument \S+: invalid choice)(?P<why>(?:argument (?P<arg>\S+): )?[^\n]+)$",
        lambda f: f"This version of vLLM does not take the arguments: {f['why'].rstrip(PANE).rstrip('.')[:300]}.",
        _wrong_argument,
    ),
    Signature(
        "env-unknown",
        "warn",
        ("Unknown vLLM environment variable",),
        r"Unknown vLLM environment variable detected: (?P<env>\w+)",
        "vLLM does not know the variable {env}.",
        "Remove {env} from env: it is misspelt, or went with an older version.",
        retryable=None,
        final=False,
    ),
    Signature(
        "v0-removed",
        "root",
        ("VLLM_USE_V1=False",),
        r"Using V1 AsyncLLMEngine, but envs\.VLLM_USE_V1=False",
        "VLLM_USE_V1=0 asks for an engine that this version does not have any more.",
        "Remove VLLM_USE_V1 from env. There is no fallback to V0 since vLLM 0.11.0.",
    ),
    Signature(
        "model-arch-unsupported",
        "root",
        ("are not supported for now",),
        r"Model architectures (?P<arch>\[.*?\]) are not supported for now",
        "This vLLM is too old for the model ({arch}).",
        "Use a newer image or vllm_version (gpt-oss needs 0.10.1 or later).",
    ),
    Signature(
        "trust-remote-code",
        "root",
        ("trust_remote_code=True",),
        r"(?:consider setting `trust_remote_code=True` in LLM or using the `--trust-remote-code` flag"
        r"|Please pass the argument `trust_remote_code=True`)",
        "The model's configuration cannot be read without code from its repository.",
        "Read that code, then set trust_remote_code: true. gpt-oss, Gemma 3 and Qwen do not need it: for them check "
        "the model's directory and the version of vLLM.",
    ),
    Signature(
        "max-len-exceeds-model",
        "root",
        ("is greater than the derived max_model_len",),
        r"User-specified max_model_len \((?P<want>\d+)\) is greater than the derived max_model_len"
        r"(?: \(\w+=(?P<have>\d+))?",
        lambda f: f"The max_model_len {f['want']} is more than the model was made for{_of(f, 'have')}.",
        lambda f: f"Set max_model_len to {f.groups.get('have', 'what the model allows')} or less.",
    ),
    Signature(
        "quant-mismatch",
        "root",
        ("Quantization method specified in the model config",),
        r"Quantization method specified in the model config \((?P<cfg>\S+)\) does not match the quantization method "
        r"specified in the `quantization` argument \((?P<arg>\S+)\)",
        "The weights are quantised with {cfg}, and quantization says {arg}.",
        "Remove quantization: vLLM reads it from the weights.",
    ),
    Signature(
        "mxfp4-dense-unsupported",
        "root",
        ("Mxfp4 linear layer is not implemented",),
        r"NotImplementedError: Mxfp4 linear layer is not implemented",
        "This version cannot use MXFP4 for a model with dense layers (Gemma 3).",
        "Remove quantization: mxfp4; to save memory take weights that are quantised (FP8, AWQ, GPTQ or QAT).",
    ),
    Signature(
        "mxfp4-silent-bf16",
        "warn",
        ("layer is not implemented",),
        r"MXFP4 (?:linear|attention) layer is not implemented",
        "MXFP4 is not used for all layers, which stay in BF16. With gpt-oss that is as it should be.",
        "With a dense model (Gemma 3) quantization: mxfp4 saves nothing: remove it.",
        retryable=None,
        final=False,
    ),
    # --- Ports ---
    Signature(
        "port-in-use",
        "root",
        ("[Errno 98]",),
        r"\[Errno 98\] (?:Address already in use|error while attempting to bind on address(?: \('[^']*', "
        r"(?P<port>\d+)\))?)",
        lambda f: f"Port {_port(f)} is taken by another process.",
        lambda f: (
            f"Give the server another port, or stop what holds it: 'ss -ltnp sport = :{_port(f)}' shows who. (vLLM "
            "0.7.3 to 0.24 do not even notice a second vLLM of the same user on a port; requests are split between "
            "the two.)"
        ),
    ),
    Signature(
        "dist-port-race",
        "root",
        ("The server socket has failed to listen",),
        r"(?:DistNetworkError|RuntimeError): The server socket has failed to listen on any local network "
        r"address.*EADDRINUSE",
        "Two servers that started together picked the same internal port.",
        "Start again, one server after the other, or give each its own VLLM_PORT in env (a base for internal ports).",
        retryable=True,
    ),
    # --- Several GPUs ---
    Signature(
        "world-size",
        "root",
        ("the number of available GPUs",),
        r"(?:World size \((?P<ws>\d+)\) is larger than the number of available GPUs \((?P<gpus>\d+)\)"
        r"|Tensor parallel size \((?P<tp>\d+)\) cannot be larger than the number of available GPUs \((?P<n>\d+)\))",
        lambda f: (
            f"The server is to use {f['ws'] if 'ws' in f else f['tp']} GPUs and sees "
            f"{f['gpus'] if 'gpus' in f else f['n']}."
        ),
        _world_size,
    ),
    Signature(
        "local-world-size",
        "root",
        ("local_world_size",),
        r"local_world_size \((?P<lws>\d+)\) must (?:be )?(?:be )?less than or equal to the number of visible devices "
        r"\((?P<n>\d+)\)",
        "The server is to use {lws} GPUs on this host and sees {n}.",
        _world_size,
    ),
    Signature(
        "heads-not-divisible",
        "root",
        ("Total number of attention heads",),
        r"Total number of attention heads \((?P<h>\d+)\) must be divisible by tensor parallel size \((?P<tp>\d+)\)",
        "The model's {h} attention heads cannot be split over {tp} GPUs.",
        _heads,
    ),
    Signature(
        "ray-missing",
        "root",
        ("Failed to import Ray",),
        r"Failed to import Ray",
        "Ray is asked for (distributed_executor_backend), and it is not installed.",
        "Set distributed_executor_backend to mp, which needs nothing, or install ray[cgraph] as well (it is no "
        "dependency since 0.18).",
    ),
    Signature(
        "ray-placement",
        "root",
        ("Cannot provide a placement group of",),
        r"Cannot provide a placement group of",
        "The Ray cluster has fewer free GPUs than the server asks for.",
        "Look at 'ray status', and join the missing hosts first.",
        retryable=True,
    ),
    Signature(
        "nccl-shm",
        "root",
        ("/dev/shm/nccl-",),
        r"NCCL WARN Error(?: while creating shared memory segment|: failed to extend) /dev/shm/nccl-\w+"
        r"(?: \(size (?P<size>\d+)\))?.*error: No space left on device",
        "/dev/shm is too small for NCCL, or full of leftovers.",
        "Set ipc_mode: host (the default), or at least 16 GiB of shared memory; delete /dev/shm/nccl-* after crashes.",
        narrows=("disk-full",),
    ),
    Signature(
        "nccl-error",
        "symptom",
        ("NCCL error", "ncclSystemError", "ncclUnhandledCudaError", "ncclRemoteError"),
        r"(?:DistBackendError: NCCL error|RuntimeError: NCCL error: |ncclSystemError: |ncclUnhandledCudaError: "
        r"|ncclRemoteError: )",
        "NCCL, which connects the GPUs, failed.",
        "Set NCCL_DEBUG: INFO in env and read its WARN lines. Keep ipc_mode: host; on hosts with several networks set "
        "NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME.",
        retryable=None,
    ),
    Signature(
        "nvlink-multicast",
        "root",
        ("cuMulticast", "upport multicast"),
        r"\bcuMulticast\w+|[Dd]oes not support multicast",
        "NVLink multicast is not available on this host, and a kernel that joins several GPUs asked for it.",
        "In compilation_config set fuse_allreduce_rms of pass_config to false, and in env "
        "VLLM_ALLREDUCE_USE_SYMM_MEM: 0 and NCCL_NVLS_ENABLE: 0. Many virtual machines lack multicast.",
        # Some backends look for it and go on without.
        final=False,
    ),
    # --- Driver and build ---
    Signature(
        "driver-too-old",
        "root",
        ("driver on your system is too old", "CUDA driver version is insufficient"),
        r"(?:The NVIDIA driver on your system is too old \(found version (?P<found>\d+)\)"
        r"|CUDA driver version is insufficient for CUDA runtime version)",
        _cuda_version,
        "Update the driver (vLLM 0.20 and later are built for CUDA 13: R580 or newer), or use an image or wheel for "
        "CUDA 12.9, or vLLM 0.19 or older.",
        narrows=("no-gpu",),
    ),
    Signature(
        "cuda-compat-803",
        "root",
        ("Error 803",),
        r"Error 803: system has unsupported display driver / cuda driver combination",
        "The image's own CUDA compatibility libraries hide the host's newer driver.",
        "Take the compat directory out of the image's library path (LD_LIBRARY_PATH: /usr/local/nvidia/lib64), or "
        "use an image that matches the driver.",
        narrows=("no-gpu",),
    ),
    Signature(
        "no-kernel-image",
        "root",
        ("no kernel image is available",),
        r"no kernel image is available for execution on the device",
        "This build of vLLM or torch has no code for this GPU.",
        "Use a build for it (GB10: the NGC image, or a build for CUDA 13).",
    ),
    Signature(
        "ptxas-sm121",
        "root",
        ("ptxas fatal",),
        r"ptxas fatal\s*: Value '(?P<arch>sm_12\w+)' is not defined for option 'gpu-name'",
        "Triton's own ptxas does not know this GPU ({arch}).",
        "Set TRITON_PTXAS_PATH: /usr/local/cuda/bin/ptxas (CUDA 13) in env, or use a newer image.",
    ),
    Signature(
        "torch-arch-warning",
        "warn",
        ("Minimum and Maximum cuda capability",),
        r"Minimum and Maximum cuda capability supported by this version of PyTorch is",
        "PyTorch does not list this GPU; code for 12.0 runs on 12.1 (GB10) all the same.",
        "Nothing has to be done.",
        retryable=None,
        final=False,
    ),
    Signature(
        "missing-cudart",
        "root",
        ("cannot open shared object file",),
        r"ImportError: (?P<lib>lib(?:cudart|cublas|nccl|cusparseLt)[\w.-]*): cannot open shared object file",
        "{lib} is missing: torch and vLLM in this environment were built for different CUDA versions.",
        "Recreate the environment and install vLLM alone; it brings the torch it was built with.",
    ),
    Signature(
        "no-gpu",
        "root",
        (
            "Failed to infer device type",
            "No CUDA GPUs are available",
            "NVIDIA driver was not found",
            "could not select device driver",
            "no NVIDIA driver on your system",
        ),
        r"(?:Failed to infer device type|No CUDA GPUs are available|NVIDIA driver was not found"
        r"|no NVIDIA driver on your system|could not select device driver \"\" with capabilities: \[\[gpu\]\])",
        "The server sees no GPU.",
        "Check nvidia-smi on the host, then the NVIDIA Container Toolkit (docker run --gpus all), then gpus and "
        "CUDA_VISIBLE_DEVICES of this server.",
    ),
    Signature(
        "fa3-sinks",
        "root",
        ("Sinks are only supported in FlashAttention 3",),
        r"Sinks are only supported in FlashAttention 3",
        "The model was forced onto FlashAttention 2, which lacks attention sinks; FlashAttention 3 needs a Hopper GPU.",
        "Remove attention_backend and VLLM_ATTENTION_BACKEND: A100 and GB10 use Triton by themselves (vLLM 0.10.1 or "
        "later). Installing flash-attn changes nothing: vLLM brings its own.",
    ),
    Signature(
        "attn-backend-invalid",
        "root",
        ("No valid attention backend found for", "is not valid for"),
        r"(?:No valid attention backend found for|Selected backend (?P<backend>\S+) is not valid for)",
        lambda f: (
            "The attention backend that was asked for cannot run this model on this GPU"
            + (f" ({f['backend']})." if "backend" in f else ".")
        ),
        "Remove attention_backend and VLLM_ATTENTION_BACKEND, and vLLM chooses one.",
    ),
    Signature(
        "nvcc-missing",
        "root",
        ("Could not find nvcc", "nvcc: not found"),
        r"(?:Could not find nvcc and default cuda_home=|/usr/local/cuda/bin/nvcc: not found)",
        "A kernel has to be compiled on the host, and nvcc is missing.",
        "Install the CUDA toolkit's nvcc or the packages flashinfer-cubin and flashinfer-jit-cache, or set "
        "VLLM_USE_FLASHINFER_SAMPLER: 0 in env.",
        final=False,
    ),
    Signature(
        "cc-missing",
        "root",
        ("Failed to find C compiler", "Python.h: No such file", "No working C++ compiler found"),
        r"(?:Failed to find C compiler|fatal error: Python\.h: No such file|No working C\+\+ compiler found)",
        "A kernel has to be compiled on the host, and the C compiler or Python's headers are missing.",
        "Install gcc, g++ and python3-dev for the Python of this environment, or set enforce_eager.",
        final=False,
    ),
    Signature(
        "xid-unified-oom",
        "root",
        ("NV_ERR_NO_MEMORY", "NVRM: ", "oom-kill:", "Out of memory: Killed process"),
        r"(?:NV_ERR_NO_MEMORY|NVRM: .*Out of memory|oom-kill:.*|Out of memory: Killed process \d+ "
        r"\((?P<proc>[^)]*(?:VLLM|vllm|python)[^)]*)\))",
        "The memory of the host is used up, and the kernel killed the server.",
        "Lower gpu_memory_utilization; on unified memory (GB10) leave 10 to 15 % to the system and empty the page "
        "cache before the start. dmesg shows what was killed.",
        narrows=("worker-died", "engine-proc-died"),
        serving=True,
    ),
    Signature(
        "illegal-memory-access",
        "root",
        ("CUDA error: ",),
        r"CUDA error: (?P<what>an illegal memory access was encountered|device-side assert triggered"
        r"|unspecified launch failure|misaligned address)",
        "A kernel failed on the GPU: {what}.",
        "Look for Xid lines in dmesg (a fault of the card), update vLLM, and try another attention_backend or "
        "enforce_eager; CUDA_LAUNCH_BLOCKING: 1 in env shows where.",
        retryable=True,
    ),
    # --- Symptoms ---
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

BY_ID: dict[str, Signature] = {signature.id: signature for signature in SIGNATURES}
# They say that something failed and not what: an exception beside them says more. The most telling first.
GENERIC = ("engine-dead", "engine-fatal", "engine-start-failed", "worker-init-failed")


def _named(found: Found) -> str:
    name = found.groups.get("name") or found.groups.get("path") or found.groups.get("url") or found.settings("model")
    return f" ({name.partition('?')[0].rstrip('.')})" if name else ""


def _of(found: Found, name: str) -> str:
    return f" ({found[name]})" if name in found else ""
