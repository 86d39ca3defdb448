# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to write instead of a flag, a value or a variable that a version of vLLM does not take (tables).

When a flag existed, stands in flags.py: no row repeats that, and a test holds the releases that a row names to it.
"""

from __future__ import annotations

# Instead of a flag that a release does not have, or deprecates.
FLAGS = {
    "attention_backend": "before 0.13.0 the variable VLLM_ATTENTION_BACKEND chooses it; best leave it to vLLM",
    "attn_impl": (
        "it is a setting of transformers and was never a flag of vLLM; "
        "leave it out (FlashAttention 3 is chosen on H100)"
    ),
    "calculate_kv_scales": "leave it out; use a checkpoint that holds the scales",
    "cuda_graph_sizes": "cudagraph_capture_sizes and max_cudagraph_capture_size replace it, from 0.11.1",
    "cudagraph_capture_sizes": "up to 0.12.0 cuda_graph_sizes does the same",
    "device": "leave it out; vLLM detects the platform",
    "disable_cascade_attn": "leave it out; cascade attention is gone",
    "disable_frontend_multiprocessing": "leave it out; this was removed without a replacement",
    "disable_log_requests": "leave it out; requests are only logged with enable_log_requests: true",
    "disable_mm_preprocessor_cache": "mm_processor_cache_gb: 0 replaces it, from 0.10.1",
    "enable_lora_bias": "leave it out",
    "enable_prompt_adapter": "leave it out; prompt adapters are gone",
    "enable_reasoning": "leave it out; reasoning_parser alone turns it on",
    "engine_use_ray": "distributed_executor_backend: ray",
    "guided_decoding_backend": "structured_outputs_config: {backend: ...} replaces it, from 0.11.0",
    "kv_cache_memory_bytes": "before 0.10.2 only gpu_memory_utilization sets the size of the KV cache",
    "log_config_file": "logging_config replaces it, from 0.31.0",
    "lora_extra_vocab_size": "leave it out",
    "max_context_len_to_capture": "max_cudagraph_capture_size replaces it, from 0.11.1",
    "max_cudagraph_capture_size": "up to 0.12.0 cuda_graph_sizes does the same",
    "max_long_partial_prefills": "leave it out",
    "max_num_partial_prefills": "leave it out",
    "max_seq_len_to_capture": "max_cudagraph_capture_size replaces it, from 0.11.1",
    "multi_step_stream_outputs": "leave it out",
    "mxfp4_backend": "it belongs to a fork; with an image of that fork put it under engine_unchecked",
    "mxfp4_layers": "it belongs to a fork; with an image of that fork put it under engine_unchecked",
    "nnodes": "before 0.11.1 several hosts need distributed_executor_backend: ray",
    "num_lookahead_slots": "leave it out; speculative_config sets what it was for",
    "num_scheduler_steps": "leave it out; the V1 engine schedules every step",
    "num_speculative_tokens": "speculative_config: {num_speculative_tokens: ...} replaces it",
    "optimization_level": "before 0.12.0 compilation_config: {level: ...} does the same",
    "override_pooler_config": "pooler_config replaces it, from 0.11.0",
    "preemption_mode": "leave it out; the V1 engine always recomputes",
    "rope_scaling": "hf_overrides: {rope_scaling: ...} replaces it",
    "rope_theta": "hf_overrides: {rope_theta: ...} replaces it",
    "scheduler_delay_factor": "leave it out",
    "speculative_model": "speculative_config: {model: ...} replaces it",
    "structured_outputs_config": "before 0.11.0 guided_decoding_backend chooses the backend",
    "swap_space": "leave it out; the V1 engine recomputes what does not fit",
    "task": "runner and convert replace it, from 0.10.1",
    "use_v2_block_manager": "leave it out",
    "worker_use_ray": "distributed_executor_backend: ray",
}
# Names that were never flags of vLLM, with the one that is meant.
MEANT = {
    "attn_implementation": "attn_impl",
    "context_length": "max_model_len",
    "ctx_size": "max_model_len",
    "gpu_memory_fraction": "gpu_memory_utilization",
    "max_context_len": "max_model_len",
    "max_seq_len": "max_model_len",
    "mem_fraction_static": "gpu_memory_utilization",
    "n_gpus": "tensor_parallel_size",
    "num_gpus": "tensor_parallel_size",
    "tp_size": "tensor_parallel_size",
}

# Instead of a variable that a release does not read.
VARIABLES = {
    "VLLM_ALL2ALL_BACKEND": "engine.all2all_backend replaces it, from 0.11.1",
    "VLLM_ALLOW_ENGINE_USE_RAY": "leave it out; engine.distributed_executor_backend chooses Ray",
    "VLLM_ATTENTION_BACKEND": "engine.attention_backend replaces it, from 0.13.0; best leave it to vLLM",
    "VLLM_DISABLE_NCCL_FOR_DP_SYNCHRONIZATION": "engine.disable_nccl_for_dp_synchronization replaces it, from 0.11.1",
    "VLLM_ENGINE_ITERATION_TIMEOUT_S": "leave it out; no release after 0.31.0 limits a step like that",
    "VLLM_FLASHINFER_DISABLE_Q_QUANTIZATION": (
        "engine.attention_config: {disable_flashinfer_q_quantization: ...} replaces it, from 0.13.0 "
    ),
    "VLLM_GPU_MEMORY_UTILIZATION": "set engine.gpu_memory_utilization",
    "VLLM_MAX_MODEL_LEN": "set engine.max_model_len",
    "VLLM_MM_HASHER_ALGORITHM": "engine.mm_hasher_algorithm replaces it, from 0.27.0",
    "VLLM_MM_INPUT_CACHE_GIB": "engine.mm_processor_cache_gb replaces it, from 0.10.1",
    "VLLM_MM_INPUT_CACHE_SIZE": "engine.mm_processor_cache_gb replaces it, from 0.10.1",
    "VLLM_MODEL": "set model",
    "VLLM_MXFP4_USE_MARLIN": "engine.moe_backend: marlin replaces it, from 0.17.0",
    "VLLM_NVFP4_GEMM_BACKEND": "engine.linear_backend replaces it, from 0.22.0",
    "VLLM_PREFIX_CACHE_RETENTION_INTERVAL": "engine.prefix_cache_retention_interval replaces it, from 0.29.0",
    "VLLM_PROFILER_DELAY_ITERS": "engine.profiler_config: {delay_iterations: ...} replaces it, from 0.13.0",
    "VLLM_PROFILER_MAX_ITERS": "engine.profiler_config: {max_iterations: ...} replaces it, from 0.13.0",
    "VLLM_SERVER_HOST": "it is read by the trainer (TRL); set it there, and bind here",
    "VLLM_SERVER_PORT": "it is read by the trainer (TRL); set it there, and port here",
    "VLLM_SKIP_DEEP_GEMM_WARMUP": "VLLM_DEEP_GEMM_WARMUP: skip replaces it, from 0.11.1",
    "VLLM_TEST_FORCE_FP8_MARLIN": "engine.linear_backend: marlin replaces it, from 0.22.0",
    "VLLM_TORCH_CUDA_PROFILE": "engine.profiler_config: {profiler: cuda} replaces it, from 0.13.0",
    "VLLM_TORCH_PROFILER_DIR": (
        "engine.profiler_config: {profiler: torch, torch_profiler_dir: ...} replaces it, from 0.13.0 "
    ),
    "VLLM_TORCH_PROFILER_RECORD_SHAPES": (
        "engine.profiler_config: {torch_profiler_record_shapes: ...} replaces it, from 0.13.0 "
    ),
    "VLLM_TORCH_PROFILER_USE_GZIP": "engine.profiler_config: {torch_profiler_use_gzip: ...} replaces it, from 0.13.0",
    "VLLM_TORCH_PROFILER_WITH_FLOPS": (
        "engine.profiler_config: {torch_profiler_with_flops: ...} replaces it, from 0.13.0 "
    ),
    "VLLM_TORCH_PROFILER_WITH_PROFILE_MEMORY": (
        "engine.profiler_config: {torch_profiler_with_memory: ...} replaces it, from 0.13.0 "
    ),
    "VLLM_TORCH_PROFILER_WITH_STACK": (
        "engine.profiler_config: {torch_profiler_with_stack: ...} replaces it, from 0.13.0 "
    ),
    "VLLM_USE_FBGEMM": "engine.linear_backend: fbgemm replaces it, from 0.22.0",
    "VLLM_USE_FLASHINFER_MXFP4_MOE": "engine.moe_backend chooses it, from 0.17.0",
    "VLLM_USE_NVFP4_CT_EMULATIONS": "engine.linear_backend: emulation replaces it, from 0.22.0",
    "VLLM_USE_TRITON_FLASH_ATTN": "leave it out; engine.attention_backend chooses, from 0.13.0",
    "VLLM_USE_V1": "leave it out; the V1 engine is the only one",
    "VLLM_V1_USE_PREFILL_DECODE_ATTENTION": (
        "engine.attention_config: {use_prefill_decode_attention: ...} replaces it, from 0.13.0 "
    ),
}
VARIABLES.update(
    (f"VLLM_{name}", f"engine.attention_config: {{{name.lower()}: ...}} replaces it, from 0.13.0")
    for name in (
        "DISABLE_FLASHINFER_PREFILL",
        "FLASH_ATTN_MAX_NUM_SPLITS_FOR_CUDA_GRAPH",
        "FLASH_ATTN_VERSION",
        "USE_CUDNN_PREFILL",
        "USE_TRTLLM_ATTENTION",
        "USE_TRTLLM_RAGGED_DEEPSEEK_PREFILL",
    )
)
VARIABLES.update(
    (f"VLLM_{name}", "engine.moe_backend replaces it, from 0.17.0")
    for name in (
        "FLASHINFER_MOE_BACKEND",
        "USE_FLASHINFER_MOE_FP16",
        "USE_FLASHINFER_MOE_FP4",
        "USE_FLASHINFER_MOE_FP8",
        "USE_FLASHINFER_MOE_MXFP4_BF16",
        "USE_FLASHINFER_MOE_MXFP4_MXFP8",
        "USE_FLASHINFER_MOE_MXFP4_MXFP8_CUTLASS",
    )
)

# Words that mean the same to people and not to argparse.
VALUES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "half": "float16",
    "fp32": "float32",
    "e4m3": "fp8_e4m3",
    "e5m2": "fp8_e5m2",
    "GptOss": "openai_gptoss",
}


def instead_of(flag: str) -> str:
    """What to write instead of a flag, named as in C(engine) or on a command line; empty where nothing is known."""
    name = flag.lstrip("-").partition(".")[0].replace("-", "_")
    meant = MEANT.get(name, name)
    return FLAGS.get(meant, f"{meant} is meant" if meant != name else "")
