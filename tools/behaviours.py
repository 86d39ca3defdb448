# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What each behaviour of vLLM is, for the documentation: hosts only need to know its versions (_vllm.versions)."""

from __future__ import annotations

TEXTS = {
    "gpt_oss": "Serves gpt-oss.",
    "encodings_built_in": "gpt-oss has its encodings built in.",
    "encodings_from_directory": (
        "gpt-oss reads o200k_base.tiktoken at start-up, from the internet unless TIKTOKEN_ENCODINGS_BASE names "
        "its directory. Once they are built in, the variable only does harm, when the directory lacks the file."
    ),
    "mxfp4_dense_fails": "MXFP4 of a dense model stops with NotImplementedError.",
    "mxfp4_dense_ignored": "MXFP4 of a dense model is accepted and ignored.",
    "mxfp4_dense": "MXFP4 of a dense model is computed from its BF16 weights while they load.",
    "v0_fatal": "VLLM_USE_V1=0 stops the start; the V0 engine is gone.",
    "v1_variable": "VLLM_USE_V1 chooses the engine; V1 is the default.",
    "unknown_variables_warn": "A VLLM_ variable that vLLM does not know is reported in the log.",
    "auto_max_model_len": "max_model_len -1 or auto takes what fits into the memory.",
    "ray_included": "Ray is installed with vLLM; later it has to be added to the image.",
    "kv_16_bit_as_model": "A 16-bit kv_cache_dtype has to be the model's own dtype.",
    "utilization_090": "gpu_memory_utilization is 0.90 unless set.",
    "utilization_092": "gpu_memory_utilization is 0.92 unless set.",
    "graphs_in_budget": (
        "The estimated memory of the CUDA graphs is taken off the KV cache (VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS)."
    ),
    "unified_as_large": (
        "A GB10 gets the batch defaults of a large GPU (8192 tokens, 1024 sequences); later those of a small one."
    ),
    "batch_of_16384": "A GPU of 160 GiB or more computes 16384 tokens at once unless set; before, 8192.",
    "unified_available": (
        "On unified memory, free is what the system can make available; before, the page cache counted as used."
    ),
    "groups_padded_125": (
        "Full and sliding layers share KV groups of the larger kind when it has less than 1.25 times as many layers."
    ),
    "groups_padded_150": (
        "Full and sliding layers share KV groups of the larger kind when it has less than 1.5 times as many layers."
    ),
    "tokens_by_concurrency": (
        "The KV cache size in the log is the maximum concurrency times max_model_len; before, whole groups of blocks."
    ),
    "batches_in_flight": (
        "Sliding layers keep their window and two batches, one without async_scheduling; before, always one."
    ),
    "connectors_asked": (
        "A KV connector says whether sliding layers may release tokens outside of their window; before, "
        "kv_transfer_config kept all."
    ),
    "items_at_once": "The default batch grows to the largest picture or video that is computed at once.",
    "values_of_their_size": "MiMo-V2's values are kept as they are; before, as large as its keys.",
    "indexes_shared": "Layers that use the index of another keep none.",
    "compressed_in_buckets": (
        "DeepSeek V4 keeps each size of page as often as one of its groups needs it; before, all as often."
    ),
    "compressed_densely": "A block of DeepSeek V4 is as large as its largest group.",
    "states_checkpointed": "Prefix caching of Mamba 2 keeps three states of a request; before, two.",
    "delta_checkpointed": (
        "Prefix caching of Gated DeltaNet keeps three states of a request, in blocks of a multiple of 64 tokens; "
        "before, two, in multiples of 16."
    ),
    "states_aligned": "Prefix caching of layers with a state keeps whole states, at the ends of blocks.",
    "prefix_caching_of_states": "Prefix caching is on for models with layers that keep a state.",
    "kernels_shared": (
        "FlashInfer builds each kernel in a directory of its own, under a lock that ends with its process, so "
        "servers share what it built. Before, builds at the same time spoiled each other's log."
    ),
    "latent_blocks_of_128": "MLA combined with layers that keep a state has blocks of 128 tokens; before, of 64.",
    "health_500": "/health answers 500 for a dead engine.",
    "health_503": "/health answers 503 for a dead engine, until it leaves seconds later.",
    "exit_status_0": (
        "When the engine or a worker dies after the start, the server leaves with exit status 0; a restart "
        "policy that only looks at failures does not restart it. Wrong arguments leave with 2, a failed start "
        "with 1."
    ),
    "port_shared": (
        "A second server of the same user on the same port starts without an error, and requests go to either."
    ),
    "requests_logged": "Every request is logged unless disable_log_requests is set.",
    "opposite_pairs": "--disable-x is the opposite of every switch --enable-x.",
    "config_json": "A mapping in a --config file becomes JSON; before, it became broken JSON.",
    "log_redacted": "The log of the start hides API keys in non-default args.",
}
