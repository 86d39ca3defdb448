# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures of what a configuration asks for and a version, a model or a GPU does not allow (rows of the table)."""

from __future__ import annotations

import re

from .signature import Found, Signature, from_setting

# What max_lora_rank may be.
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


def _lora_rank(found: Found) -> str:
    rank = int(found.number("rank") or 0)
    least = next((allowed for allowed in LORA_RANKS if allowed >= rank), None)
    if least is None:
        return f"Use an adapter of rank {LORA_RANKS[-1]} or less: vLLM takes no more."
    return f"Set max_lora_rank to {least}, the least value that vLLM takes and that is not below {rank}."


def _blocks(found: Found) -> str:
    """Over how many GPUs blocks of weights can be split, from the part of one GPU and how many there are."""
    size, block = int(found.number("size") or 0), int(found.number("block") or found.number("thread") or 0)
    tp = int(found.settings("tensor_parallel_size") or 0)
    fitting = [
        str(n) for n in (1, 2, 4, 8, 16, 32) if n < tp and block and size * tp % n == 0 and size * tp // n % block == 0
    ]
    lower = f"to {' or '.join(fitting)}" if fitting else "until the part of each GPU is a multiple of it"
    return (
        f"Lower tensor_parallel_size{from_setting(found, 'tensor_parallel_size')} {lower}, with "
        "pipeline_parallel_size for the rest of the GPUs; a model of experts may keep it with enable_expert_parallel. "
        "Weights that are not quantised in blocks have no such limit."
    )


def _parser(found: Found) -> str:
    flag = f"{found['kind'].lower().replace(' ', '_')}_parser".replace("tool_parser", "tool_call_parser")
    known = ", ".join(re.findall(r"[\w.-]+", found["known"].rstrip("."))) if "known" in found else ""
    return f"Set {flag} to one of: {known}." if known else f"Set {flag} to one that this version has, or leave it out."


def _capability(found: Found) -> str:
    have, least = found.number("have") or 0.0, found.number("least") or 0.0
    have, least = (n / 10 if n >= 20 else n for n in (have, least))
    return f"The GPU (compute capability {have:.1f}) is too old for {found['what'].strip()}, which needs {least:.1f}."


LIMITS: tuple[Signature, ...] = (
    Signature(
        "lora-rank",
        "is greater than max_lora_rank",
        r"LoRA rank (?P<rank>\d+) is greater than max_lora_rank (?P<max>\d+)",
        "The LoRA adapter has rank {rank}, and max_lora_rank is {max}.",
        _lora_rank,
    ),
    Signature(
        "lora-unsupported",
        "not support LoRA|LoRA is not supported ",
        r"(?P<model>\w+)(?:'>)? does not support LoRA|LoRA is not supported (?:for (?P<model2>\w+)"
        r"|with moe_backend='?(?P<model3>\w+)'?)",
        "This version of vLLM cannot use LoRA adapters with {model}.",
        lambda f: (
            "Set moe_backend to triton or auto, which can, or remove enable_lora and lora_modules."
            if "moe_backend=" in f.text
            else "Remove enable_lora and lora_modules, use a version that can, or merge the adapter into the weights."
        ),
    ),
    Signature(
        "lora-broken",
        "expected target modules in|unsupported LoRA weight|No adapter found for|only supports modules_to_save",
        r"(?P<why>expected target modules in (?:(?!Please)[^\n])+|(?<=Error: )\S+ is unsupported LoRA weight|No "
        r"adapter found for \S+|vLLM only supports modules_to_save)",
        lambda f: f"The LoRA adapter cannot be used: {f['why'].rstrip('. ')[:250]}.",
        "Check in lora_modules that the server sees its directory, with adapter_config.json and "
        "adapter_model.safetensors. Merge an adapter that trains more than attention and MLP layers (lm_head, "
        "embeddings) into the weights.",
    ),
    Signature(
        "quant-block-split",
        "not divisible by weight quantization block|min_thread|tile_",
        r"(?:output_size|input_size|output_partition_size|\w+_size_per_partition|size_\w|[\w' ]+ weight) = "
        r"(?P<size>\d+) is not divisible by +(?:weight quantization block_\w = (?P<block>\d+)|(?:min_thread_\w"
        r"|tile_\w_size) = (?P<thread>\d+))",
        lambda f: (
            f"Split over so many GPUs, a layer has {f['size']} rows or columns on each, no multiple of the "
            f"{f.groups.get('block') or f.groups.get('thread')} that its quantization needs."
        ),
        _blocks,
        narrows=("config-invalid",),
    ),
    Signature(
        "quant-split",
        "not aligned with the quantized weight shape",
        r"not aligned with the quantized weight shape",
        "The quantised weights cannot be split over so many GPUs.",
        lambda f: (
            f"Lower tensor_parallel_size{from_setting(f, 'tensor_parallel_size')}, with pipeline_parallel_size for the "
            "rest of the GPUs."
        ),
    ),
    Signature(
        "not-divisible",
        "is not divisible by",
        r"AssertionError: (?P<what>\d+) is not divisible by (?P<by>\d+)",
        "A layer of {what} rows or columns cannot be split over {by} GPUs.",
        lambda f: (
            f"Lower tensor_parallel_size{from_setting(f, 'tensor_parallel_size')} to a number that divides {f['what']}."
        ),
    ),
    Signature(
        "parser-unknown",
        "tool call parser|easoning parser|ool parser|tool_parser:'",
        r"[Ii]nvalid (?P<kind>tool call|reasoning) parser: (?P<name>[\w.-]+)(?:\s*(?:\(chose from|Supported parsers:) "
        r"*(?P<known>[^\n)]*))?|(?P<kind2>[Tt]ool|[Rr]easoning) parser '(?P<name2>[^']+)' not found(?:\. Available "
        r"parsers: (?P<known2>[^\n\"]*))?|(?P<kind3>tool)_parser:'(?P<name3>[^']+)' which has not been registered",
        lambda f: f"This version of vLLM has no {f['kind'].lower()} parser {f['name']}.",
        _parser,
    ),
    Signature(
        "parser-tokens",
        "could not locate ",
        r"(?P<name>\w+) (?P<kind>reasoning|[Tt]ool) parser could not locate (?P<what>[^\n!]+)",
        lambda f: (
            f"The {f['kind'].lower()} parser {f['name']} does not go with the model, whose tokenizer has no "
            f"{f['what']}."
        ),
        lambda f: (
            f"Set {'reasoning_parser' if f['kind'] == 'reasoning' else 'tool_call_parser'} to the one of this model, "
            "or leave it out."
        ),
    ),
    Signature(
        "tool-parser-missing",
        "requires --tool-call-parser",
        r"--enable-auto-tool-choice requires --tool-call-parser",
        "With enable_auto_tool_choice a tool_call_parser has to be set, and there is none.",
        "Set tool_call_parser to the one of this model (hermes for most of Qwen, openai for gpt-oss), or leave out "
        "enable_auto_tool_choice.",
    ),
    Signature(
        "chat-template-missing",
        "looks like a file path",
        r"The supplied chat template \((?P<path>[^)]*)\) looks like a file path, but it failed to be opened",
        "The chat template {path} cannot be read.",
        "Correct chat_template, or mount the file where the server sees it.",
    ),
    Signature(
        "batch-below-length",
        "is smaller than max_model_len",
        r"max_num_batched_tokens \((?P<batch>\d+)\) is smaller than max_model_len \((?P<len>\d+)\)",
        "The max_num_batched_tokens {batch} is less than max_model_len {len}, and without chunked prefill a request "
        "has to fit.",
        "Set max_num_batched_tokens to {len} or more, lower max_model_len to {batch}, or set enable_chunked_prefill: "
        "true.",
    ),
    Signature(
        "batch-below-seqs",
        "than or equal to max_num_seqs|be greater than or equal to max_num_seqs",
        r"max_num_batched_tokens \((?P<batch>\d+)\) must be greater than or equal to max_num_seqs \((?P<seqs>\d+)\)",
        "The max_num_batched_tokens {batch} is less than max_num_seqs {seqs}.",
        "Set max_num_seqs to {batch} or less, or max_num_batched_tokens to {seqs} or more.",
    ),
    Signature(
        "batch-below-image",
        "is larger than max_num_batched_tokens",
        r"max_tokens_per_mm_item \((?P<item>\d+)\) is larger than max_num_batched_tokens \((?P<batch>\d+)\)",
        "One image, video or sound of the model takes up to {item} tokens, and max_num_batched_tokens is {batch}.",
        "Set max_num_batched_tokens to {item} or more, or limit_mm_per_prompt to 0 for unused modalities.",
    ),
    Signature(
        "quant-dtype",
        "is not supported for quantization method",
        r"(?:torch\.)?(?P<dtype>\w+) is not supported for quantization method (?P<quant>\S+?)\. Supported dtypes: "
        r"\[(?P<known>[^\]]*)\]",
        "Weights that are quantised with {quant} cannot be used with dtype {dtype}.",
        lambda f: f"Set dtype to one of: {f['known'].replace('torch.', '')}.",
    ),
    # --- GPUs that are too old, too new or too small for a kernel ---
    Signature(
        "gpu-no-fp8",
        "fp8e4nv not supported|fp8e4b8 not supported",
        r"type (?P<type>fp8e4\w+) not supported in this architecture",
        "The GPU has no arithmetic for this FP8 type ({type}); it takes compute capability 8.9 (Ada, Hopper) or newer.",
        lambda f: (
            f"Set kv_cache_dtype{from_setting(f, 'kv_cache_dtype')} to auto, or to fp8_e5m2 with weights that are not "
            "FP8. FP8 weights run on such a GPU as weights alone (Marlin: VLLM_TEST_FORCE_FP8_MARLIN: 1 in env); AWQ, "
            "GPTQ or INT8 weights do without."
        ),
    ),
    Signature(
        "gpu-no-bf16",
        "Bfloat16 is only supported on GPUs|'.bf16' requires",
        r"Bfloat16 is only supported on GPUs with compute capability of at least (?P<least>[\d.]+\d)(?:\. Your "
        r"(?P<gpu>.+?) GPU has compute capability (?P<have>[\d.]+\d))?|Feature '\.bf16' requires \.target sm_80",
        lambda f: (
            "The GPU has no arithmetic for bfloat16"
            + (f": {f['gpu']} has compute capability {f['have']}, and it takes {f['least']}." if "have" in f else ".")
        ),
        "Set dtype to float16.",
    ),
    Signature(
        "gpu-too-old",
        "Minimum capability: |only supports Ampere GPUs|requires .target sm_",
        r"(?P<what>The quantization method \S+|\S+) is not supported for the current GPU\. Minimum capability: "
        r"(?P<least>\d+)\. Current capability: (?P<have>\d+)|(?P<ampere>FlashAttention) only supports Ampere GPUs or "
        r"newer|Feature '(?P<feature>[^'\n]+)' requires \.target (?P<sm>sm_\w+) or higher",
        lambda f: (
            _capability(f)
            if "have" in f
            else f"The GPU is too old for {f.groups.get('ampere') or f.groups.get('feature')}"
            f"{', which takes ' + f['sm'] if 'sm' in f else ''}."
        ),
        "Use weights in another quantization (or none), leave attention_backend to vLLM, or take a newer GPU. An older "
        "vLLM may still have a kernel for it.",
        retryable=False,
    ),
    Signature(
        "gpu-kernel-arch",
        "an illegal instruction was encountered|invalid device function|No compiled cutlass_|Arch conditional MMA"
        "|Unsupported gpu architecture|No supported CUDA architectures|device kernel image is invalid",
        r"(?:CUDA error|Triton Error \[CUDA\]): (?P<what>an illegal instruction was encountered|invalid device "
        r"function|device kernel image is invalid)|(?P<what2>No compiled cutlass_\w+)[^\n]*?capability: (?P<have>\d+)"
        r"|(?P<what3>Arch conditional MMA instruction used without targeting appropriate compute capability)|nvcc "
        r"fatal *: (?P<what4>Unsupported gpu architecture '[^']+')|(?P<what5>No supported CUDA architectures)[^\n]*",
        lambda f: (
            "A kernel was not built for this GPU: "
            f"{f['what']}{', compute capability ' + f['have'] if 'have' in f else ''}."
        ),
        "Use a newer image, or one for this GPU (GB10 and other sm_12x: CUDA 13, or NVIDIA's own image); a toolkit "
        "that builds on the host has to know it too. Otherwise another kernel may do: attention_backend: TRITON_ATTN, "
        "moe_backend: marlin, VLLM_USE_FLASHINFER_SAMPLER: 0 in env, or weights in another quantization.",
        narrows=("illegal-memory-access", "cuda-error"),
    ),
    Signature(
        "gpu-shared-memory",
        "out of resource: shared memory|allowed dynamic shared memory size",
        r"out of resource: shared memory, Required: (?P<need>\d+), Hardware limit: (?P<have>\d+)"
        r"|Failed to set the allowed dynamic shared memory size to (?P<need2>\d+)",
        lambda f: (
            f"A kernel needs {f['need']} bytes of shared memory, and the GPU has {f.groups.get('have', 'less')}: it "
            "was tuned for a larger one."
        ),
        "Use a newer vLLM, another attention_backend (not TRITON_ATTN) or moe_backend, or kv_cache_dtype: auto; what "
        "asks for larger blocks (a large head size, FP8 of the cache, a large block_size) can be left out.",
        # Autotuners try, fail and go on.
        final=False,
    ),
)
