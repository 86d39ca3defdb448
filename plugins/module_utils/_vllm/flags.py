# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `vllm serve` accepts, by version. Written by tools/vllm_flags.py; versions.py says how to read it."""

from __future__ import annotations


def _read(text: str) -> dict[str, str]:
    """One entry a line, its name first; an indented line goes on. One string compiles ten times faster than a dict."""
    return dict(entry.split(" ", 1) for entry in text.strip().replace("\n  ", " ").splitlines())


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Releases that were read.
VERSIONS = _words("""\
0.5.5 0.6.6 0.7.3 0.8.5 0.9.0 0.9.1 0.9.2 0.10.0 0.10.1 0.10.1.1 0.10.2 0.11.0 0.11.1 0.11.2 0.12.0 0.13.0 0.14.0
  0.14.1 0.15.1 0.16.0 0.17.0 0.17.1 0.18.0 0.18.1 0.19.0 0.19.1 0.20.0 0.20.1 0.20.2 0.21.0 0.22.0 0.22.1 0.23.0
  0.24.0 0.25.0 0.25.1 0.26.0 0.27.0 0.27.1 0.28.0 0.29.0 0.30.0 0.31.0 0.32.0 0.33.0
""")

# Releases in which --disable-x is the opposite of --enable-x, and the other way round.
INVERSE_PAIRS = "0.33.0.."

FLAGS = _read("""\
additional_config 0.7.3.. :json@0.7.3..0.8.5 :text@0.9.0..
aggregate_engine_logging 0.11.1.. :flag
all2all_backend 0.11.1.. :str =allgather_reducescatter@0.14.0.. allgather_reducescatter deepep_high_throughput
  deepep_low_latency deepep_v2@0.24.0.. flashinfer_all2allv flashinfer_nvlink_one_sided@0.18.0..
  flashinfer_nvlink_two_sided@0.18.0.. moonep@0.31.0.. mori@0.15.1..0.22.1 mori_high_throughput@0.23.0..
  mori_low_latency@0.23.0.. naive nixl_ep@0.18.0.. pplx
allow_credentials 0.5.5.. :flag@0.5.5..0.9.2 :switch@0.10.0.. =False@0.10.0..
allow_deprecated_quantization 0.14.0.. :switch =False
allowed_headers 0.5.5.. :json
allowed_local_media_path 0.6.6.. :str
allowed_media_domains 0.11.0.. :list
allowed_methods 0.5.5.. :json
allowed_origins 0.5.5.. :json
anthropic_disabled_thinking_effort 0.31.0.. :str =auto auto high low max medium none xhigh
api_key 0.5.5.. :list@0.10.1.. :str@0.5.5..0.10.0
api_server_count 0.9.1.. :int -asc =1@0.9.1..0.14.1
async_scheduling 0.10.0.. :switch =False@0.10.0..0.13.0
attention_backend 0.13.0.. :str ? AMX_MLA@0.29.0.. B12X@0.30.0.. CPU_ATTN CPU_MLA@0.28.0.. CUSTOM CUTLASS_MLA
  CUTLASS_MSA@0.27.0.. FLASHINFER FLASHINFER_MLA FLASHINFER_MLA_SPARSE@0.17.0.. FLASHINFER_MLA_SPARSE_DSV4@0.23.0..
  FLASHINFER_MLA_SPARSE_DSV41@0.30.0.. FLASHINFER_MLA_SPARSE_SM120@0.24.0.. FLASHINFER_MLA_SPARSE_SM90@0.30.0..
  FLASHMLA FLASHMLA_MEGA_ATTN_DSV41@0.31.0.. FLASHMLA_SPARSE FLASHMLA_SPARSE_DSV4@0.23.0..
  FLASHMLA_SPARSE_DSV41@0.30.0.. FLASH_ATTN FLASH_ATTN_DIFFKV@0.14.0.. FLASH_ATTN_MLA FLASH_ATTN_MLA_SPARSE@0.25.0..
  FLASH_ATTN_MLA_SPARSE_FA4@0.33.0.. FLEX_ATTENTION HPC_ATTN@0.25.0.. IPEX@0.13.0..0.15.1 MINIMAX_M3_SPARSE@0.24.0..
  NO_ATTENTION PALLAS@0.13.0 ROCM_AITER_FA ROCM_AITER_MLA ROCM_AITER_MLA_SPARSE ROCM_AITER_TRITON_MLA
  ROCM_AITER_UNIFIED_ATTN ROCM_ATTN ROCM_FLASHMLA_SPARSE_DSV4@0.23.0.. ROCM_FLASHMLA_SPARSE_DSV41@0.33.0..
  ROCM_OCTAVE@0.33.0.. ROCM_SEGMENTED_ATTN@0.32.0.. STEP5_DSA@0.33.0.. TOKENSPEED_MLA@0.21.0.. TORCH_SDPA
  TREE_ATTN@0.13.0..0.20.2 TRITON_ATTN TRITON_ATTN_DIFFKV@0.24.0.. TRITON_FLASHINFER@0.30.0..
  TRITON_FLASH_ATTN@0.30.0.. TRITON_MLA TRITON_MSA@0.27.0.. TURBOQUANT@0.20.0.. ULTRAQUANT@0.32.0..
  XPU_MLA_SPARSE@0.18.0..
attention_config 0.13.0.. :json -ac
aux_output_config 0.31.0.. :json
block_size 0.5.5.. :int@0.5.5..0.7.3,0.18.0.. :str@0.8.5..0.17.1 ?@0.9.1..0.17.1 1@0.8.5..0.17.1 1024@0.5.5
  128@0.5.5..0.17.1 16@0.5.5..0.17.1 2048@0.5.5 256@0.5.5,0.11.1..0.17.1 32@0.5.5..0.17.1 512@0.5.5 64@0.6.6..0.17.1
  8@0.5.5..0.17.1
calculate_kv_scales 0.7.3..0.27.1 :flag@0.7.3 :switch@0.8.5..0.27.1 =False@0.8.5..0.27.1 !@0.19.0..0.27.1
chat_template 0.5.5.. :str
chat_template_content_format 0.6.6.. :str =auto auto openai string
code_revision 0.5.5.. :str
cohere_format 0.27.0.. :str =cmd4
cohere_is_reasoning_model 0.27.0.. :switch =True
collect_detailed_traces 0.5.5.. :list@0.9.0.. :str@0.5.5..0.8.5 all@0.9.0.. model@0.9.0.. worker@0.9.0..
compilation_config 0.6.6.. :json@0.9.0.. :str@0.6.6..0.8.5 -O@0.6.6..0.11.2 -cc@0.12.0..
config 0.6.6.. :str
config_format 0.6.6.. :str =auto@0.10.2.. ?@0.10.2.. auto@0.7.3..0.9.2,0.10.2.. hf@0.7.3..0.9.2,0.10.2..
  mistral@0.7.3..0.9.2,0.10.2..
convert 0.10.1.. :str =auto auto classify embed mm_encoder_only@0.14.0..0.15.1 none reward@0.10.1..0.15.1
cp_kv_cache_interleave_size 0.12.0.. :int =1@0.12.0..0.29.0
cpu_distributed_timeout_seconds 0.22.0.. :int
cpu_offload_gb 0.5.5.. :float =0
cpu_offload_params 0.17.0.. :list
cuda_graph_sizes 0.9.0..0.12.0 :list !@0.11.1..0.12.0
cudagraph_capture_sizes 0.11.1.. :list
cudagraph_metrics 0.13.0.. :switch =False
custom_histogram_buckets 0.32.0.. :json
data_parallel_address 0.9.0.. :str -dpa
data_parallel_backend 0.9.1.. :str -dpb =mp
data_parallel_external_lb 0.11.1.. :switch -dpe =False
data_parallel_hybrid_lb 0.10.0.. :switch -dph@0.11.1.. =False
data_parallel_multi_port_external_lb 0.22.0.. :flag -dpm =False
data_parallel_rank 0.9.2.. :int -dpn
data_parallel_rpc_port 0.9.0.. :int -dpp
data_parallel_size 0.8.5.. :int -dp =1
data_parallel_size_local 0.9.0.. :int -dpl
data_parallel_start_rank 0.9.0.. :int -dpr =0@0.9.0..0.9.2
data_parallel_supervisor_port 0.22.0.. :int =9256
dbo_decode_token_threshold 0.11.0.. :int =32
dbo_prefill_token_threshold 0.11.0.. :int =512
dcp_comm_backend 0.18.0.. :str =ag_rs@0.18.0..0.28.0 a2a ag_rs
dcp_kv_cache_interleave_size 0.11.1.. :int =1
dcp_q_replicate 0.29.0.. :switch
decode_context_parallel_size 0.10.2.. :int -dcp =1
default_chat_template_kwargs 0.14.0.. :json
default_mm_loras 0.10.0.. :json
device 0.5.5..0.9.2 :str =auto@0.8.5..0.9.2 ?@0.8.5..0.9.2 !@0.9.0..0.9.2 CPU@0.8.5..0.9.2 GPU@0.8.5..0.9.2
  auto@0.5.5..0.7.3 cpu@0.5.5..0.7.3 cuda@0.5.5..0.7.3 hpu@0.6.6..0.7.3 neuron@0.5.5..0.7.3 openvino@0.5.5..0.7.3
  tpu@0.5.5..0.7.3 xpu@0.5.5..0.7.3
device_ids 0.24.0.. :str
device_memory_utilization 0.31.0.. :float =0.92
diffusion_config 0.24.0.. :json -dc
disable_access_log_for_endpoints 0.16.0.. :str
disable_async_output_proc 0.6.6..0.10.2 :flag
disable_cascade_attn 0.8.5.. :flag@0.8.5 :switch@0.9.0.. =False@0.8.5..0.17.1 =True@0.18.0..0.31.0 !@0.32.0..
disable_chunked_mm_input 0.8.5.. :switch =False
disable_custom_all_reduce 0.5.5.. :flag@0.5.5..0.7.3 :switch@0.8.5.. =False@0.8.5..
disable_fastapi_docs 0.6.6.. :flag@0.6.6..0.9.2 :switch@0.10.0.. =False
disable_frontend_multiprocessing 0.5.5..0.18.1 :flag@0.5.5..0.9.2 :switch@0.10.0..0.18.1 =False@0.10.0..0.18.1
disable_hybrid_kv_cache_manager 0.9.1.. :switch =False@0.9.1..0.12.0
disable_log_requests 0.5.5..0.16.0 :flag@0.5.5..0.10.0 :switch@0.10.1..0.16.0 !@0.10.1..0.16.0
disable_log_stats 0.5.5.. :flag
disable_logprobs_during_spec_decoding 0.5.5..0.7.3 :truth
disable_mm_preprocessor_cache 0.6.6..0.12.0 :flag@0.6.6..0.8.5,0.10.1..0.12.0 :switch@0.9.0..0.10.0
  =False@0.9.0..0.10.0 !@0.10.1..0.12.0
disable_nccl_for_dp_synchronization 0.11.1.. :switch =False@0.11.1..0.13.0
disable_sliding_window 0.5.5.. :flag@0.5.5..0.8.5 :switch@0.9.0.. =False@0.9.0..
disable_uvicorn_access_log 0.8.5.. :flag@0.8.5..0.9.2 :switch@0.10.0.. =False@0.10.0..
distributed_executor_backend 0.5.5.. :str ?@0.10.2.. external_launcher@0.7.3.. mp ray uni@0.7.3..
distributed_timeout_seconds 0.18.0.. :int
download_dir 0.5.5.. :str
dp_supervisor_probe_failure_threshold 0.22.0.. :int =3
dp_supervisor_probe_interval_s 0.22.0.. :float =5.0
dp_supervisor_probe_timeout_s 0.22.0.. :float =5.0
dp_sync_interval 0.30.0.. :int =16
dtype 0.5.5.. :str =auto@0.9.0.. auto bfloat16 float float16 float32 half
ec_manager_config 0.28.0.. :json
ec_transfer_config 0.11.1.. :json
elastic_ep_max_dp_size 0.30.0.. :int
enable_auto_tool_choice 0.6.6.. :flag@0.6.6..0.9.2 :switch@0.10.0.. =False
enable_batch_sharded_sampling 0.29.0.. :switch
enable_bf16x3_router_gemm 0.26.0..0.29.0 :switch =False
enable_chunked_prefill 0.5.5.. :switch@0.8.5.. :truth@0.5.5..0.7.3
enable_cumem_allocator 0.22.0.. :switch =False
enable_dbo 0.11.0.. :switch =False
enable_elastic_ep 0.17.0.. :switch =False
enable_ep_weight_filter 0.18.0.. :switch =False
enable_eplb 0.9.2.. :switch =False
enable_expert_parallel 0.8.5.. :switch -ep@0.14.0.. =False
enable_fault_tolerance 0.27.0.. :switch =False
enable_flash_late_interaction 0.20.0.. :switch =True
enable_flashinfer_autotune 0.16.0.. :switch
enable_force_include_usage 0.9.2.. :flag@0.9.2 :switch@0.10.0.. =False
enable_hc_sp 0.32.0.. :switch =False
enable_layerwise_nvtx_tracing 0.13.0.. :switch =False
enable_log_deltas 0.14.0.. :switch =True
enable_log_outputs 0.10.1.. :switch =False
enable_log_requests 0.10.1.. :switch
enable_logging_iteration_details 0.14.0.. :switch =False
enable_lora 0.5.5.. :flag@0.5.5..0.7.3 :switch@0.8.5..
enable_lora_bias 0.6.6..0.11.0 :flag@0.6.6..0.7.3 :switch@0.8.5..0.11.0 =False@0.8.5..0.11.0 !@0.10.2..0.11.0
enable_mamba_cache_stochastic_rounding 0.20.0.. :switch =False
enable_mamba_fine_grained_prefix_cache 0.30.0 :switch =False
enable_mamba_shared_prefix_checkpoint 0.31.0.. :switch =False
enable_mfu_metrics 0.14.0.. :switch =False
enable_mixed_moe_lora_format 0.22.0.. :switch =False
enable_mm_embeds 0.11.1.. :switch =False
enable_moe_shared_loras 0.26.0.. :switch =False
enable_multimodal_encoder_data_parallel 0.9.1..0.12.0 :flag@0.10.2..0.12.0 :switch@0.9.1..0.10.1.1
  =False@0.9.1..0.10.1.1 !@0.10.2..0.12.0
enable_nccl_comm_suspend 0.30.0.. :switch =False
enable_offline_docs 0.14.0.. :switch =False
enable_per_request_metrics 0.25.0.. :switch =False
enable_prefix_caching 0.5.5.. :flag@0.5.5 :switch@0.6.6..
enable_prompt_adapter 0.5.5..0.10.1.1 :flag@0.5.5..0.7.3,0.10.0..0.10.1.1 :switch@0.8.5..0.9.2 !@0.10.0..0.10.1.1
enable_prompt_embeds 0.9.0.. :switch =False
enable_prompt_tokens_details 0.6.6.. :flag@0.6.6..0.9.2 :switch@0.10.0.. =False
enable_reasoning 0.7.3..0.9.2 :flag@0.7.3..0.8.5 :switch@0.9.0..0.9.2 =False@0.7.3..0.8.5 !@0.9.0..0.9.2
enable_request_id_headers 0.6.6.. :flag@0.6.6..0.9.2 :switch@0.10.0.. =False@0.10.0..
enable_return_routed_experts 0.14.0.. :switch =False
enable_scale_out 0.30.0.. :switch =False
enable_server_load_tracking 0.8.5.. :flag@0.8.5..0.9.2 :switch@0.10.0.. =False
enable_shm_tensor_arena 0.32.0.. :switch =False
enable_sleep_mode 0.7.3.. :flag@0.7.3..0.8.5 :switch@0.9.0.. =False
enable_ssl_refresh 0.8.5.. :flag@0.8.5..0.9.2 :switch@0.10.0.. =False
enable_tokenizer_info_endpoint 0.10.0.. :switch =False
enable_tower_connector_lora 0.14.0.. :switch =False
enable_trace_replay 0.29.0.. :switch =False
enforce_eager 0.5.5.. :flag@0.5.5..0.8.5 :switch@0.9.0.. =False@0.9.0..
engine_use_ray 0.5.5 :flag !
engram_config 0.30.0.. :json
eplb_config 0.10.2.. :json
eplb_log_balancedness 0.9.2..0.11.2 :switch =False@0.9.2..0.10.1.1 !@0.10.2..0.11.2
eplb_step_interval 0.9.2..0.11.2 :int =3000@0.9.2..0.10.1.1 !@0.10.2..0.11.2
eplb_window_size 0.9.2..0.11.2 :int =1000@0.9.2..0.10.1.1 !@0.10.2..0.11.2
exclude_tools_when_tool_choice_none 0.10.1.. :switch =False
expand_tools_even_if_tool_choice_none 0.9.2 :flag =False !
expert_placement_strategy 0.11.0.. :str =linear linear round_robin
fail_on_environ_validation 0.17.0.. :switch =False
fault_tolerance_config 0.27.0.. :json
fingerprint_mode 0.21.0.. :str =full custom full hash none
fingerprint_value 0.21.0.. :str
fully_sharded_loras 0.5.5.. :flag@0.5.5..0.7.3 :switch@0.8.5.. =False@0.8.5..
gdn_prefill_backend 0.18.0.. :str aiter_flydsl@0.32.0.. cutedsl@0.22.0.. flashinfer sycl@0.33.0.. triton
generation_config 0.6.6.. :str =auto@0.8.5..
gpu_memory_utilization 0.5.5.. :float =0.9@0.8.5..0.19.1 =0.92@0.20.0..
grpc 0.18.0.. :flag =False
grpc_port 0.32.0.. :int
guided_decoding_backend 0.5.5..0.11.2 :str =auto@0.10.1..0.10.2 =outlines@0.5.5 =xgrammar@0.6.6..0.7.3
  !@0.11.0..0.11.2 auto@0.8.5..0.10.2 guidance@0.8.5..0.10.2 lm-format-enforcer@0.5.5..0.10.0,0.10.2
  outlines@0.5.5..0.10.2 xgrammar@0.6.6..0.10.2
guided_decoding_disable_additional_properties 0.9.0..0.11.2 :str@0.11.0..0.11.2 :switch@0.9.0..0.10.2
  =False@0.9.0..0.10.2 !@0.11.0..0.11.2
guided_decoding_disable_any_whitespace 0.9.0..0.11.2 :str@0.11.0..0.11.2 :switch@0.9.0..0.10.2 =False@0.9.0..0.10.2
  !@0.11.0..0.11.2
guided_decoding_disable_fallback 0.9.0..0.11.2 :str@0.11.0..0.11.2 :switch@0.9.0..0.10.2 =False@0.9.0..0.10.2
  !@0.11.0..0.11.2
h11_max_header_count 0.10.1.1.. :int
h11_max_incomplete_event_size 0.10.1.1.. :int
headless 0.9.0.. :flag =False
hf_config_path 0.8.5.. :str
hf_overrides 0.6.6.. :json@0.6.6..0.8.5 :str@0.9.2..0.10.2 :text@0.9.0..0.9.1,0.11.0..
hf_token 0.8.5.. :str
host 0.5.5.. :str
ignore_patterns 0.5.5.. :append@0.5.5..0.8.5 :list@0.9.0..
interleave_mm_strings 0.10.0.. :switch =False
io_processor_plugin 0.10.2.. :str
ir_op_priority 0.20.0.. :json
jit_monitor_mode 0.25.0.. :str =warn error warn
jit_monitor_verbose 0.24.0.. :switch =False
kda_decode_backend 0.30.0.. :str auto flashinfer native triton
kda_prefill_backend 0.27.0.. :str auto flashinfer@0.30.0.. flashkda fused@0.30.0.. triton
kernel_config 0.16.0.. :json
kv_cache_dtype 0.5.5.. :str =auto@0.8.5.. ?@0.33.0.. auto bfloat16@0.11.0.. float16@0.18.0.. fp8 fp8_ds_mla@0.11.1..
  fp8_e4m3 fp8_e5m2 fp8_inc@0.10.0.. fp8_per_token_head@0.20.0.. int4_per_token_head@0.25.0..
  int8_per_token_head@0.20.0.. nvfp4@0.20.0.. nvfp4_4over6@0.28.0.. nvfp4_ds_mla@0.30.0.. octave_k3v3@0.33.0..
  octave_k3v3_compact@0.33.0.. octave_k3v4@0.33.0.. turboquant_3bit_nc@0.20.0.. turboquant_4bit_nc@0.20.0..
  turboquant_k3v4_nc@0.20.0.. turboquant_k8v4@0.20.0.. ultraquant_4bit@0.32.0..
kv_cache_dtype_skip_layers 0.19.0.. :list
kv_cache_memory_bytes 0.10.2.. :human
kv_cache_metrics 0.12.0.. :switch =False
kv_cache_metrics_sample 0.12.0.. :float =0.01
kv_events_config 0.9.0.. :json
kv_offloading_backend 0.11.1.. :str =native@0.14.0.. lmcache native
kv_offloading_size 0.11.1.. :float
kv_sharing_fast_prefill 0.10.1.. :switch =False
kv_transfer_config 0.6.6.. :json@0.9.0.. :str@0.6.6..0.8.5
language_model_only 0.17.0.. :switch =False
limit_mm_per_prompt 0.5.5.. :json@0.8.5.. :text@0.5.5..0.7.3
linear_backend 0.22.0.. :str =auto aiter auto b12x@0.28.0.. conch cutlass deep_gemm emulation exllama fbgemm
  flashinfer_b12x@0.24.0.. flashinfer_cudnn flashinfer_cutedsl@0.24.0.. flashinfer_cutlass flashinfer_trtllm
  humming@0.25.0.. machete marlin torch triton xpu@0.25.0.. xpu_woq@0.25.0..
load_format 0.5.5.. :str =auto@0.10.1.. ?@0.10.1..0.23.0,0.25.0.. auto@0.5.5..0.23.0,0.25.0..
  bitsandbytes@0.5.5..0.23.0,0.25.0..0.27.1 dummy@0.5.5..0.23.0,0.25.0.. fastsafetensors@0.8.5..0.23.0,0.25.0..
  gguf@0.5.5..0.23.0 hf@0.12.0..0.23.0,0.25.0.. instanttensor@0.18.0..0.23.0,0.25.0.. ipc_cache@0.30.0..
  mistral@0.6.6..0.23.0,0.25.0.. modelexpress@0.22.0..0.23.0,0.25.0.. npcache@0.5.5..0.23.0,0.25.0..
  pt@0.5.5..0.23.0,0.25.0.. runai_streamer@0.6.6..0.23.0,0.25.0.. runai_streamer_sharded@0.8.5..0.23.0,0.25.0..
  safetensors@0.5.5..0.23.0,0.25.0.. sharded_state@0.5.5..0.23.0,0.25.0.. tensorizer@0.5.5..0.23.0,0.25.0..
log_config_file 0.9.1.. :str !@0.31.0..
log_error_stack 0.10.2.. :switch
log_level 0.31.0.. :str CRITICAL DEBUG ERROR INFO NOTSET WARNING
logging_config 0.31.0.. :json
logits_processor_pattern 0.6.6..0.16.0 :str
logits_processors 0.10.1.. :list
logprobs_mode 0.10.0.. :str =raw_logprobs@0.10.0..0.10.1.1,0.11.0.. processed_logits processed_logprobs raw_logits
  raw_logprobs
long_lora_scaling_factors 0.5.5..0.9.2 :list@0.8.5..0.9.2 :str@0.5.5..0.7.3
long_prefill_token_threshold 0.7.3.. :float@0.7.3 :int@0.8.5.. =0@0.8.5..
long_prefill_token_threshold_adaptive 0.31.0.. :switch =False
lora_dtype 0.5.5.. :str =auto@0.8.5.. auto bfloat16 float16 float32@0.5.5
lora_extra_vocab_size 0.5.5..0.11.2 :int@0.5.5..0.11.0 :str@0.11.1..0.11.2 =256@0.8.5..0.11.2 256@0.11.1..0.11.2
  512@0.11.1..0.11.2
lora_modules 0.5.5.. :list
lora_target_modules 0.19.0.. :list
mamba_backend 0.20.0.. :str ? CPU@0.27.0.. FLASHINFER TRITON
mamba_block_size 0.11.1.. :int
mamba_cache_dtype 0.10.1.. :str =auto auto bfloat16@0.22.0.. float16@0.13.0.. float32
mamba_cache_mode 0.15.1.. :str =none@0.15.1..0.32.0 !@0.33.0.. align all@0.15.1..0.31.0 none
mamba_cache_philox_rounds 0.20.0.. :int =0
mamba_ssm_cache_dtype 0.10.1.. :str =auto auto bfloat16@0.22.0.. float16@0.13.0.. float32
mamba_ssu_algorithm 0.27.0.. :str auto horizontal simple vertical
master_addr 0.11.1.. :str =127.0.0.1
master_port 0.11.1.. :int =29501
max_context_len_to_capture 0.5.5 :int !
max_cpu_loras 0.5.5.. :int
max_cudagraph_capture_size 0.11.1.. :int
max_log_len 0.5.5.. :int
max_logprobs 0.5.5.. :int =20@0.9.0..
max_long_partial_prefills 0.7.3..0.26.0 :int =1@0.8.5..0.26.0
max_lora_cls_labels 0.31.0.. :int
max_lora_rank 0.5.5.. :int@0.5.5..0.11.0 :str@0.11.1.. =16@0.8.5.. 1@0.11.1.. 128@0.11.1.. 16@0.11.1.. 256@0.11.1..
  32@0.11.1.. 320@0.11.1.. 512@0.11.1.. 64@0.11.1.. 8@0.11.1..
max_loras 0.5.5.. :int =1@0.8.5..
max_model_len 0.5.5.. :human@0.8.5.. :int@0.5.5..0.7.3
max_num_active_seqs 0.31.0.. :int
max_num_batched_tokens 0.5.5.. :human@0.9.1.. :int@0.5.5..0.9.0
max_num_partial_prefills 0.7.3..0.26.0 :int =1@0.8.5..0.26.0
max_num_queued_reqs 0.29.0.. :int
max_num_queued_tokens 0.29.0.. :human
max_num_scheduled_tokens 0.26.0.. :human
max_num_seqs 0.5.5.. :int
max_parallel_loading_workers 0.5.5.. :int
max_prompt_adapter_token 0.5.5..0.9.2 :int =0@0.8.5..0.9.2
max_prompt_adapters 0.5.5..0.9.2 :int =1@0.8.5..0.9.2
max_seq_len_to_capture 0.5.5..0.10.2 :int =8192@0.9.0..0.10.2
media_io_kwargs 0.9.2.. :json
middleware 0.5.5.. :append
mm_device_do_normalize 0.28.0.. :switch
mm_encoder_attn_backend 0.11.1.. :str ? AMX_MLA@0.29.0.. B12X@0.30.0.. CPU_ATTN CPU_MLA@0.28.0.. CUSTOM CUTLASS_MLA
  CUTLASS_MSA@0.27.0.. FLASHINFER FLASHINFER_MLA FLASHINFER_MLA_SPARSE@0.17.0.. FLASHINFER_MLA_SPARSE_DSV4@0.23.0..
  FLASHINFER_MLA_SPARSE_DSV41@0.30.0.. FLASHINFER_MLA_SPARSE_SM120@0.24.0.. FLASHINFER_MLA_SPARSE_SM90@0.30.0..
  FLASHMLA FLASHMLA_MEGA_ATTN_DSV41@0.31.0.. FLASHMLA_SPARSE FLASHMLA_SPARSE_DSV4@0.23.0..
  FLASHMLA_SPARSE_DSV41@0.30.0.. FLASH_ATTN FLASH_ATTN_DIFFKV@0.14.0.. FLASH_ATTN_MLA FLASH_ATTN_MLA_SPARSE@0.25.0..
  FLASH_ATTN_MLA_SPARSE_FA4@0.33.0.. FLEX_ATTENTION HPC_ATTN@0.25.0.. IPEX@0.11.1..0.15.1 MINIMAX_M3_SPARSE@0.24.0..
  NO_ATTENTION PALLAS@0.11.1..0.13.0 ROCM_AITER_FA ROCM_AITER_MLA ROCM_AITER_MLA_SPARSE@0.12.0..
  ROCM_AITER_TRITON_MLA@0.12.0.. ROCM_AITER_UNIFIED_ATTN ROCM_ATTN ROCM_FLASHMLA_SPARSE_DSV4@0.23.0..
  ROCM_FLASHMLA_SPARSE_DSV41@0.33.0.. ROCM_OCTAVE@0.33.0.. ROCM_SEGMENTED_ATTN@0.32.0.. STEP5_DSA@0.33.0..
  TOKENSPEED_MLA@0.21.0.. TORCH_SDPA TREE_ATTN@0.11.1..0.20.2 TRITON_ATTN TRITON_ATTN_DIFFKV@0.24.0..
  TRITON_FLASHINFER@0.30.0.. TRITON_FLASH_ATTN@0.30.0.. TRITON_MLA TRITON_MSA@0.27.0.. TURBOQUANT@0.20.0..
  ULTRAQUANT@0.32.0.. XFORMERS@0.11.1..0.11.2 XPU_MLA_SPARSE@0.18.0..
mm_encoder_attn_dtype 0.21.0.. :str fp8
mm_encoder_fp8_scale_path 0.21.0.. :str
mm_encoder_fp8_scale_save_margin 0.21.0.. :float =1.5
mm_encoder_fp8_scale_save_path 0.21.0.. :str
mm_encoder_only 0.15.1.. :switch =False
mm_encoder_tp_mode 0.10.2.. :str =weights data weights
mm_hasher_algorithm 0.27.0.. :str =blake3@0.30.0.. blake3 sha256 sha512
mm_ipc_gpu_memory_gb 0.25.0.. :float =0
mm_processor_cache_gb 0.10.1.. :float@0.10.2.. :int@0.10.1..0.10.1.1 =4
mm_processor_cache_type 0.11.0.. :str =lru lru shm
mm_processor_device 0.28.0.. :str =auto ? auto cpu
mm_processor_kwargs 0.6.6.. :json
mm_shm_cache_max_object_size_mb 0.11.0.. :int =128
mm_tensor_ipc 0.19.0.. :str =direct_rpc direct_rpc torch_shm
model 0.5.5.. :str =Qwen/Qwen3-0.6B@0.10.0.. =facebook/opt-125m@0.9.0..0.9.2
model_class_overrides 0.25.0.. :json
model_impl 0.7.3.. :str =auto@0.11.0.. ?@0.11.0.. auto terratorch@0.10.2.. transformers vllm
model_loader_extra_config 0.5.5.. :json@0.8.5..0.9.0 :str@0.5.5..0.7.3 :text@0.9.1..
moe_backend 0.17.0.. :str =auto aiter aiter_mega_moe@0.32.0.. aiter_triton_mxfp4_bf16@0.30.0..
  aiter_triton_mxfp4_mxfp4@0.33.0.. auto b12x@0.29.0.. batched_triton@0.27.0.. cutlass deep_gemm
  deep_gemm_mega_moe@0.20.0.. emulation@0.20.0.. flashinfer_b12x@0.22.0.. flashinfer_cutedsl flashinfer_cutlass
  flashinfer_moe_ep_cutedsl@0.32.0.. flashinfer_moe_ep_mega_cutedsl@0.29.0..0.31.0
  flashinfer_moe_ep_mega_deep_gemm@0.29.0.. flashinfer_trtllm flydsl@0.24.0.. hpc@0.25.0.. humming@0.21.0.. marlin
  rdna3@0.30.0.. triton triton_unfused@0.21.0..
monokernel 0.33.0.. :switch =False
multi_step_stream_outputs 0.6.6..0.10.0 :switch@0.8.5..0.10.0 :truth@0.6.6..0.7.3 =True@0.8.5..0.10.0
ngram_prompt_lookup_max 0.5.5..0.7.3 :int
ngram_prompt_lookup_min 0.5.5..0.7.3 :int
nnodes 0.11.1.. :int -n =1
node_rank 0.11.1.. :int -r =0
num_gpu_blocks_override 0.5.5.. :int
num_lookahead_slots 0.5.5..0.11.2 :int =0@0.8.5..0.11.2
num_redundant_experts 0.9.2..0.11.2 :int =0@0.9.2..0.10.1.1 !@0.10.2..0.11.2
num_scheduler_steps 0.5.5..0.10.0 :int =1
num_speculative_tokens 0.5.5..0.7.3 :int
numa_bind 0.20.0.. :switch =False
numa_bind_cpus 0.20.0.. :list
numa_bind_nodes 0.20.0.. :list
offload_backend 0.17.0.. :str =auto auto prefetch uva
offload_group_size 0.17.0.. :int =0
offload_num_in_group 0.17.0.. :int =1
offload_params 0.17.0.. :list
offload_prefetch_step 0.17.0.. :int =1
optimization_level 0.12.0.. :str ? O0 O1 O2 O3
otlp_traces_endpoint 0.5.5.. :str
override_attention_dtype 0.9.2..0.27.1 :str
override_generation_config 0.7.3.. :json
override_neuron_config 0.6.6..0.10.1.1 :json
override_pooler_config 0.6.6..0.11.2 :json@0.9.0..0.11.2 :str@0.6.6..0.8.5 !@0.11.0..0.11.2
per_request_spec_decode_metrics 0.29.0.. :str =none detailed none summary
performance_mode 0.17.0.. :str =balanced balanced interactivity throughput
pipeline_parallel_size 0.5.5.. :int -pp =1@0.8.5..
pooler_config 0.11.0.. :json
port 0.5.5.. :int =8000
preemption_mode 0.5.5..0.10.2 :str recompute@0.8.5..0.10.2 swap@0.8.5..0.10.2
prefill_context_parallel_size 0.12.0.. :int -pcp =1
prefill_schedule_interval 0.24.0.. :int =1
prefix_cache_retention_interval 0.29.0.. :int =0@0.30.0..
prefix_caching_hash_algo 0.8.5.. :str =builtin@0.8.5..0.10.1.1 =sha256@0.10.2.. builtin@0.8.5..0.10.1.1 sha256
  sha256_cbor@0.10.2.. sha256_cbor_64bit@0.10.0..0.10.1.1 xxhash@0.13.0.. xxhash_cbor@0.13.0..
prefix_match_unit 0.26.0.. :int
profiler_config 0.13.0.. :json
prompt_adapters 0.5.5..0.9.2 :list
pt_load_map_location 0.9.0.. :text =cpu
qlora_adapter_name_or_path 0.5.5..0.9.2 :str !@0.9.0..0.9.2
quantization 0.5.5.. :str -q ?@0.9.1.. aqlm@0.5.5..0.10.0 auto-round@0.9.0..0.14.1 auto_awq@0.24.0..
  auto_gptq@0.22.0.. awq awq_marlin bitblas@0.8.5..0.15.1 bitsandbytes@0.5.5..0.27.1 compressed-tensors
  cpu_awq@0.12.0..0.22.1 cpu_gptq@0.12.0..0.13.0 deepseek_v4_fp8@0.20.0.. deepspeedfp@0.5.5..0.14.1 experts_int8
  fbgemm_fp8 fp8 fp8_per_block@0.20.0.. fp8_per_channel@0.24.0.. fp8_per_tensor@0.20.0.. fp_quant@0.11.1..
  gguf@0.5.5..0.23.0 gpt_oss_mxfp4@0.20.0.. gptq gptq_bitblas@0.8.5..0.15.1 gptq_marlin gptq_marlin_24@0.5.5..0.15.1
  hqq@0.6.6..0.14.1 humming@0.20.0.. inc@0.10.0.. int8_per_channel_weight_only@0.20.0.. ipex@0.6.6..0.15.1
  marlin@0.5.5..0.10.1.1 modelopt@0.6.6.. modelopt_fp4@0.9.0.. modelopt_mixed@0.17.0.. modelopt_mxfp8@0.16.0..
  moe_wna16@0.7.3.. mxfp4@0.10.1.. mxfp8@0.19.0.. neuron_quant@0.6.6..0.10.1.1 nvfp4@0.8.5 nvfp4_per_token@0.26.0..
  online@0.20.0.. petit_nvfp4@0.10.2..0.19.1 ptpc_fp8@0.7.3..0.18.1 qqq@0.5.5..0.10.1.1 quark@0.7.3..
  rtn@0.9.2..0.14.1 squeezellm@0.5.5 torchao@0.8.5.. tpu_int8@0.5.5..0.13.0
quantization_config 0.22.0.. :json
quantization_param_path 0.5.5..0.6.6 :str
ray_workers_use_nsight 0.5.5.. :flag@0.5.5..0.7.3 :switch@0.8.5.. =False@0.8.5..
reasoning_config 0.19.0.. :json
reasoning_effort_map 0.33.0.. :json
reasoning_parser 0.7.3.. :str ?@0.8.5.. GptOss@0.10.1..0.10.1.1 beam@0.33.0.. cohere_command3@0.21.0..
  cohere_command4@0.21.0.. deepseek_r1@0.8.5.. deepseek_v3@0.11.1.. deepseek_v4@0.20.0.. deepseek_v41@0.30.0..
  ernie45@0.11.1.. gemma4@0.19.0.. glm45@0.10.1.. glm47@0.24.0.. glm4_moe@0.10.0 granite@0.8.5..
  granite_thinking_parser@0.31.0.. hf@0.32.0.. holo2@0.13.0.. hunyuan_a13b@0.10.0.. hy_v3@0.20.0.. hy_v4@0.29.0..
  inkling@0.26.0.. k2_horizon@0.30.0.. kimi_k2@0.11.1.. kimi_k3@0.27.0.. ling3@0.28.0.. mimo@0.20.0..
  minicpmv@0.32.0.. minimax_m2@0.11.1.. minimax_m2_append_think@0.11.1.. minimax_m3@0.24.0.. mistral@0.10.0..
  muse@0.33.0.. muse_glimmer@0.28.0.. musespark1x@0.33.0.. nemotron_v3@0.17.1.. olmo3@0.11.1.. openai_gptoss@0.10.2..
  plamo3@0.32.0.. poolside_v1@0.21.0.. qwen3@0.9.0.. seed_oss@0.11.0.. step3@0.10.1.. step3p5@0.15.1.. step5@0.33.0..
reasoning_parser_plugin 0.11.1.. :str
renderer_num_workers 0.19.0.. :int =1
replayssm_buffer_len 0.27.0.. :int =16
response_role 0.5.5.. :str =assistant
return_sampling_mask 0.28.0.. :switch =False
return_tokens_as_token_ids 0.5.5.. :flag@0.5.5..0.9.2 :switch@0.10.0.. =False@0.10.0..
revision 0.5.5.. :str
root_path 0.5.5.. :str
rope_scaling 0.5.5..0.11.0 :json
rope_theta 0.5.5..0.11.0 :float
runner 0.10.1.. :str =auto auto draft generate pooling
safetensors_load_strategy 0.10.2.. :str =lazy@0.10.2..0.18.1 eager@0.24.0.. lazy@0.24.0.. prefetch@0.24.0..
  torchao@0.24.0..
safetensors_prefetch_block_size 0.21.0.. :human
safetensors_prefetch_num_threads 0.21.0.. :int
scheduler_cls 0.7.3.. :str =vllm.core.scheduler.Scheduler@0.8.5..0.11.0
scheduler_delay_factor 0.5.5..0.10.2 :float =0.0@0.8.5..0.10.2
scheduler_reserve_full_isl 0.19.0.. :switch =True
scheduling_policy 0.6.6.. :str =fcfs fcfs priority
seed 0.5.5.. :int =0@0.12.0..
served_model_name 0.5.5.. :list
show_hidden_metrics_for_version 0.8.5.. :str
shutdown_timeout 0.18.0.. :int =0
skip_mm_profiling 0.10.1.. :switch =False
skip_tokenizer_init 0.5.5.. :flag@0.5.5..0.8.5 :switch@0.9.0.. =False@0.9.0..
sleep_mode_backend 0.33.0.. :str =cumem
sleep_mode_offload_cudagraph 0.32.0.. :switch =False
sleep_preserve_parameter_names 0.31.0.. :list
sparse_indexer_topk_backend 0.30.0.. :str =auto aiter@0.32.0.. auto cooperative deep_select flashinfer per_row
  persistent torch
spec_decoding_acceptance_method 0.5.5..0.7.3 :str rejection_sampler typical_acceptance_sampler
spec_method 0.22.0.. :str bailing_hybrid_mtp@0.25.0.. bailing_hybrid_v3_mtp@0.28.0.. custom_class deepseek_mtp dflash
  dots3_note_mtp@0.28.0.. draft_model dspark@0.25.0.. eagle eagle3 ernie_mtp exaone4_5_mtp exaone_moe_mtp
  extract_hidden_states gemma4_mtp glm4_moe_lite_mtp glm4_moe_mtp glm5_next_mtp@0.30.0.. glm_ocr_mtp hy_v3_mtp
  hy_v4_mtp@0.29.0.. inkling_mtp@0.26.0.. kimi_k3_mtp@0.27.0.. longcat_flash_mtp medusa@0.22.0..0.32.0 mimo_mtp
  mimo_v2_mtp minimax_m3_mtp@0.24.0.. mlp_speculator@0.22.0..0.32.0 mtp nemotron_h_mtp ngram ngram_gpu
  pangu_ultra_moe_mtp qwen3_5_mtp qwen3_next_mtp qwen4_exp_mtp@0.29.0.. step3p5_mtp step5_mtp@0.33.0.. suffix
spec_model 0.22.0.. :str
spec_tokens 0.22.0.. :int
specialize_active_lora 0.16.0.. :switch =False
speculative_config 0.8.5.. :json -sc@0.19.0..
speculative_disable_by_batch_size 0.5.5..0.7.3 :int
speculative_disable_mqa_scorer 0.6.6..0.7.3 :flag
speculative_draft_tensor_parallel_size 0.5.5..0.7.3 :int -spec_draft_tp
speculative_max_model_len 0.5.5..0.7.3 :int
speculative_model 0.5.5..0.7.3 :str
speculative_model_quantization 0.5.5..0.7.3 :str aqlm awq awq_marlin bitsandbytes compressed-tensors deepspeedfp
  experts_int8 fbgemm_fp8 fp8 gguf gptq gptq_marlin gptq_marlin_24 hqq@0.6.6..0.7.3 ipex@0.6.6..0.7.3 marlin
  modelopt@0.6.6..0.7.3 moe_wna16@0.7.3 neuron_quant@0.6.6..0.7.3 ptpc_fp8@0.7.3 qqq quark@0.7.3 squeezellm@0.5.5
  tpu_int8
sse_keep_alive_interval 0.29.0.. :int =0
ssl_ca_certs 0.5.5.. :str
ssl_cert_reqs 0.5.5.. :int
ssl_certfile 0.5.5.. :str
ssl_ciphers 0.15.1.. :str
ssl_keyfile 0.5.5.. :str
stream_interval 0.11.1.. :int =1
structured_outputs_config 0.11.0.. :json
swa_bounded_replay 0.31.0.. :switch =True
swap_space 0.5.5..0.17.1 :float =4@0.8.5..0.17.1
task 0.6.6..0.12.0 :str =auto@0.9.0..0.10.0 !@0.10.1..0.12.0 auto classify draft@0.9.0..0.12.0 embed embedding
  generate reward score transcription@0.7.3..0.12.0
tensor_parallel_size 0.5.5.. :int -tp =1@0.8.5..
tokenizer 0.5.5.. :str
tokenizer_mode 0.5.5.. :str =auto@0.9.0.. ?@0.12.0.. alpamayo2_super@0.33.0.. auto cohere@0.27.0..
  custom@0.7.3..0.11.2 deepseek_v32@0.13.0.. deepseek_v4@0.20.0.. fastokens@0.21.0 hf@0.12.0.. inkling@0.26.0..
  kimi_k3@0.27.0.. mistral@0.6.6.. slow@0.5.5..0.30.0
tokenizer_pool_extra_config 0.5.5..0.9.2 :json@0.8.5..0.9.2 :str@0.5.5..0.7.3
tokenizer_pool_size 0.5.5..0.9.2 :int =0@0.8.5..0.9.2
tokenizer_pool_type 0.5.5..0.9.2 :str =ray@0.8.5..0.9.2
tokenizer_revision 0.5.5.. :str
tokens_only 0.11.1.. :switch =False
tool_call_parser 0.6.6.. :str ? apertus@0.22.0.. beam@0.33.0.. cohere_command3@0.21.0.. cohere_command4@0.21.0..
  deepseek_v3@0.9.0.. deepseek_v31@0.10.2.. deepseek_v32@0.13.0.. deepseek_v4@0.20.0.. deepseek_v41@0.30.0..
  dots@0.28.0.. ernie45@0.11.1.. functiongemma@0.14.0.. gemma4@0.19.0.. gigachat3@0.13.0.. glm45@0.10.1..
  glm47@0.14.0.. glm4_moe@0.10.0 granite granite-20b-fc granite4@0.18.0.. hermes hf@0.32.0.. hunyuan_a13b@0.10.0..
  hy_v3@0.20.0.. hy_v4@0.29.0.. inkling@0.26.0.. internlm jamba k2_horizon@0.30.0.. kimi_k2@0.10.0.. kimi_k3@0.27.0..
  lfm2@0.21.0.. ling3@0.28.0.. llama3_json llama4_json@0.8.5.. llama4_pythonic@0.9.0.. longcat@0.11.0.. mimo@0.20.0..
  minicpm5@0.23.0.. minimax@0.9.2..0.23.0 minimax_m2@0.11.1.. minimax_m3@0.24.0.. mistral muse@0.33.0..
  muse_glimmer@0.28.0.. musespark1x@0.33.0.. olmo3@0.11.1.. openai@0.10.2.. phi4_mini_json@0.8.5.. plamo3@0.32.0..
  poolside_v1@0.21.0.. pythonic qwen3_coder@0.10.0.. qwen3_json@0.32.0.. qwen3_xml@0.11.0.. seed_oss@0.10.2..
  step3@0.10.1.. step3p5@0.15.1.. step5@0.33.0.. xlam@0.9.2..
tool_parser_plugin 0.6.6.. :str
tool_server 0.10.1.. :str
tool_strict_level 0.31.0.. :str =auto@0.31.0..0.32.0 auto function parameter
trust_remote_code 0.5.5.. :flag@0.5.5..0.8.5 :switch@0.9.0.. =False@0.9.0..
trust_request_chat_template 0.11.0.. :switch =False
trust_request_mm_kwargs 0.31.0.. :switch =False
typical_acceptance_sampler_posterior_alpha 0.5.5..0.7.3 :float
typical_acceptance_sampler_posterior_threshold 0.5.5..0.7.3 :float
ubatch_size 0.14.0.. :int =0
uds 0.10.1.. :str
use_fp64_gumbel 0.22.0.. :switch =False
use_gpu_for_pooling_score 0.17.0..0.17.1 :switch =False
use_replayssm 0.27.0.. :switch =False
use_tqdm_on_load 0.8.5.. :switch =True
use_v2_block_manager 0.5.5..0.9.2 :flag =True@0.6.6..0.9.2 !@0.6.6..0.9.2
uvicorn_log_level 0.5.5.. :str =info critical debug error info trace warning
video_pruning_method 0.27.0.. :str =evs evs vidcom2
video_pruning_rate 0.11.0.. :float
watchdog_config 0.33.0.. :json
watermark 0.24.0.. :float =0.0
watermark_config 0.30.0.. :json
weight_transfer_config 0.16.0.. :json
worker_cls 0.6.6.. :str =auto
worker_extension_cls 0.8.5.. :str
worker_use_ray 0.5.5..0.6.6 :flag
""")

ENVIRONMENT = _read("""\
AITER_SITUV2_A8W4 0.27.0..0.27.1
CMAKE_BUILD_TYPE 0.5.5..
CUDA_HOME 0.5.5..
CUDA_VISIBLE_DEVICES 0.5.5..
FORCE_COLOR 0.31.0..
GPT_OSS_SYSTEM_TOOL_MCP_LABELS 0.11.0
K_SCALE_CONSTANT 0.7.3..0.27.1
LD_LIBRARY_PATH 0.5.5..
LOCAL_RANK 0.5.5..
MAX_JOBS 0.5.5..
MOONCAKE_PREFERRED_SEGMENT 0.22.0..
MOONCAKE_REQUESTER_LOCAL_HOSTNAME 0.22.0..
NO_COLOR 0.12.0..
NVCC_THREADS 0.5.5..
Q_SCALE_CONSTANT 0.8.5..0.27.1
S3_ACCESS_KEY_ID 0.5.5..
S3_ENDPOINT_URL 0.5.5..
S3_SECRET_ACCESS_KEY 0.5.5..
VERBOSE 0.5.5..
VLLM_ADAPTIVE_VERIFICATION_PROFILE_CONTEXT_LEN 0.28.0..
VLLM_ALL2ALL_BACKEND 0.9.0..0.15.1
VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE 0.10.1..
VLLM_ALLOW_ENGINE_USE_RAY 0.5.5
VLLM_ALLOW_INSECURE_SERIALIZATION 0.9.0..
VLLM_ALLOW_LONG_MAX_MODEL_LEN 0.5.5..
VLLM_ALLOW_RUNTIME_LORA_UPDATING 0.6.6..
VLLM_ALLREDUCE_USE_FLASHINFER 0.17.0..
VLLM_ALLREDUCE_USE_FLASHINFER_PCIE_IPC 0.30.0..
VLLM_ALLREDUCE_USE_SYMM_MEM 0.10.2..
VLLM_API_KEY 0.5.5..
VLLM_ASSETS_CACHE 0.5.5..
VLLM_ASSETS_CACHE_MODEL_CLEAN 0.11.0..
VLLM_ATTENTION_BACKEND 0.5.5..0.14.1
VLLM_AUDIO_FETCH_TIMEOUT 0.5.5..
VLLM_B12X_MOE_FP4_FORCE_A16 0.29.0..
VLLM_BATCH_INVARIANT 0.19.0..
VLLM_BEAM_ALWAYS_CONSTRAIN_OUTPUT 0.33.0..
VLLM_BLOCKSCALE_FP8_GEMM_FLASHINFER 0.14.0..
VLLM_BUILD_COMMIT 0.26.0..
VLLM_BUILD_PIPELINE 0.26.0..
VLLM_BUILD_URL 0.26.0..
VLLM_CACHE_ROOT 0.5.5..
VLLM_CHAT_TEMPLATE_FUEL 0.33.0..
VLLM_CHAT_TEMPLATE_RENDER_TIMEOUT 0.32.0..
VLLM_CI_USE_S3 0.8.5..0.25.1
VLLM_COHERE2_ATTN_MOE_DUAL_STREAM_TOKEN_THRESHOLD 0.33.0..
VLLM_COMPILE_CACHE_SAVE_FORMAT 0.11.1..
VLLM_COMPUTE_NANS_IN_LOGITS 0.9.2..
VLLM_CONFIGURE_LOGGING 0.5.5..
VLLM_CONFIG_ROOT 0.5.5..
VLLM_CPU_ATTN_SPLIT_KV 0.20.0..
VLLM_CPU_CI_ENV 0.29.0..
VLLM_CPU_INT4_W4A8 0.20.0..
VLLM_CPU_KVCACHE_SPACE 0.5.5..
VLLM_CPU_MOE_PREPACK 0.8.5..0.11.2
VLLM_CPU_NUM_OF_RESERVED_CPU 0.9.1..
VLLM_CPU_OMP_THREADS_BIND 0.5.5..
VLLM_CPU_SGL_KERNEL 0.9.2..0.27.1
VLLM_CUDART_SO_PATH 0.7.3..
VLLM_CUDA_COMPATIBILITY_PATH 0.17.0..
VLLM_CUDA_MEM_ALIGN_KV_CACHE 0.7.3
VLLM_CUSTOM_SCOPES_FOR_PROFILING 0.10.2..
VLLM_DBO_COMM_SMS 0.11.0..
VLLM_DCP_Q_REPLICATE 0.27.0..
VLLM_DEBUG_DUMP_PATH 0.11.1..
VLLM_DEBUG_LOG_API_SERVER_RESPONSE 0.8.5..
VLLM_DEBUG_MFU_METRICS 0.14.0..
VLLM_DEBUG_WORKSPACE 0.13.0..
VLLM_DEEPEPLL_NVFP4_DISPATCH 0.12.0..
VLLM_DEEPEP_BUFFER_SIZE_MB 0.11.0..
VLLM_DEEPEP_HIGH_THROUGHPUT_FORCE_INTRA_NODE 0.11.1..
VLLM_DEEPEP_LOW_LATENCY_USE_MNNVL 0.11.1..
VLLM_DEEPEP_V2_ALLOW_HYBRID_MODE 0.24.0..
VLLM_DEEPEP_V2_ALLOW_MULTIPLE_REDUCTION 0.24.0..
VLLM_DEEPEP_V2_PREFER_OVERLAP 0.24.0..
VLLM_DEEP_GEMM_WARMUP 0.11.1..
VLLM_DISABLED_KERNELS 0.6.6..
VLLM_DISABLE_COMPILE_CACHE 0.6.6..
VLLM_DISABLE_DSV4_MEGAMOE_SHARED_EXPERT_FUSION 0.29.0..
VLLM_DISABLE_FLASHINFER_PREFILL 0.11.0..0.14.1
VLLM_DISABLE_LOG_LOGO 0.15.1..
VLLM_DISABLE_NCCL_FOR_DP_SYNCHRONIZATION 0.11.0
VLLM_DISABLE_PAD_FOR_CUDAGRAPH 0.10.2..0.11.0
VLLM_DISABLE_PYNCCL 0.11.1..
VLLM_DISABLE_REQUEST_ID_RANDOMIZATION 0.17.0..
VLLM_DISABLE_SHARED_EXPERTS_STREAM 0.11.1..
VLLM_DISTRIBUTED_USE_SPLIT_GROUP 0.23.0..
VLLM_DOCKER_BUILD_CONTEXT 0.10.1..
VLLM_DO_NOT_TRACK 0.5.5..
VLLM_DP_MASTER_IP 0.8.5..
VLLM_DP_MASTER_PORT 0.8.5..
VLLM_DP_RANK 0.8.5..
VLLM_DP_RANK_LOCAL 0.8.5..
VLLM_DP_SIZE 0.8.5..
VLLM_EC_SIDE_CHANNEL_HOST 0.26.0..
VLLM_EC_SIDE_CHANNEL_PORT 0.26.0..
VLLM_ELASTIC_EP_DRAIN_REQUESTS 0.17.0..
VLLM_ELASTIC_EP_SCALE_UP_LAUNCH 0.17.0..
VLLM_ENABLE_COHERE_API 0.27.0..
VLLM_ENABLE_CUDAGRAPH_GC 0.10.0..
VLLM_ENABLE_CUDA_COMPATIBILITY 0.17.0..
VLLM_ENABLE_FLA_PACKED_RECURRENT_DECODE 0.18.0..
VLLM_ENABLE_FUSED_MOE_ACTIVATION_CHUNKING 0.9.2..0.17.1
VLLM_ENABLE_GEMM_RS 0.31.0..
VLLM_ENABLE_HPC_OPS 0.29.0..
VLLM_ENABLE_INDUCTOR_COORDINATE_DESCENT_TUNING 0.11.0..
VLLM_ENABLE_INDUCTOR_MAX_AUTOTUNE 0.11.0..
VLLM_ENABLE_MOE_ALIGN_BLOCK_SIZE_TRITON 0.7.3..0.9.1
VLLM_ENABLE_MOE_DP_CHUNK 0.13.0..0.19.1
VLLM_ENABLE_PREGRAD_PASSES 0.17.0..
VLLM_ENABLE_RESPONSES_API_STORE 0.10.1..
VLLM_ENABLE_STARTUP_PLAN 0.26.0..
VLLM_ENABLE_V1_MULTIPROCESSING 0.6.6..
VLLM_ENFORCE_STRICT_TOOL_CALLING 0.21.0..
VLLM_ENGINE_ITERATION_TIMEOUT_S 0.5.5..0.31.0
VLLM_ENGINE_READY_TIMEOUT_S 0.14.0..
VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS 0.9.2..
VLLM_FASTSAFETENSORS_QUEUE_SIZE 0.24.0..
VLLM_FLASHINFER_ALLREDUCE_BACKEND 0.17.0..
VLLM_FLASHINFER_ALLREDUCE_FUSION_THRESHOLDS_MB 0.10.2..0.25.1
VLLM_FLASHINFER_AUTOTUNE_CACHE_DIR 0.22.0..
VLLM_FLASHINFER_AUTOTUNE_SKIP_OPS 0.26.0..
VLLM_FLASHINFER_DISABLE_Q_QUANTIZATION 0.10.2..0.14.1
VLLM_FLASHINFER_FORCE_TENSOR_CORES 0.6.6..0.10.1.1
VLLM_FLASHINFER_MOE_A2A_LOW_PRECISION_COMBINE 0.32.0..
VLLM_FLASHINFER_MOE_BACKEND 0.10.1..0.23.0
VLLM_FLASHINFER_WORKSPACE_BUFFER_SIZE 0.11.1..
VLLM_FLASH_ATTN_MAX_NUM_SPLITS_FOR_CUDA_GRAPH 0.11.0..0.14.1
VLLM_FLASH_ATTN_VERSION 0.7.3..0.14.1
VLLM_FLAT_LOGPROBS 0.11.1..0.11.2
VLLM_FLOAT32_MATMUL_PRECISION 0.13.0..
VLLM_FORCE_AOT_LOAD 0.11.1..
VLLM_FUSED_MOE_CHUNK_SIZE 0.5.5..0.17.1
VLLM_GC_DEBUG 0.11.1..
VLLM_GDN_DECODE_KERNEL 0.28.0..
VLLM_GPT_OSS_HARMONY_SYSTEM_INSTRUCTIONS 0.10.2..
VLLM_GPT_OSS_SYSTEM_TOOL_MCP_LABELS 0.11.1..
VLLM_GPT_OSS_USE_CONTAINER_TOOL 0.10.2
VLLM_GPU_NIC_PCIE_MAPPING 0.23.0..
VLLM_GPU_SYNC_CHECK 0.25.0..
VLLM_HAS_FLASHINFER_CUBIN 0.10.2..
VLLM_HOST_IP 0.5.5..
VLLM_HPU_USE_DELAYED_SAMPLING 0.8.5..0.9.2
VLLM_HTTP_MAX_REQUEST_BODY_SIZE 0.33.0..
VLLM_HTTP_TIMEOUT_KEEP_ALIVE 0.9.1..
VLLM_HUMMING_INPUT_QUANT_CONFIG 0.20.0..
VLLM_HUMMING_MOE_GEMM_TYPE 0.20.0..
VLLM_HUMMING_ONLINE_QUANT_CONFIG 0.20.0..
VLLM_HUMMING_USE_F16_ACCUM 0.20.0..
VLLM_IMAGE_FETCH_TIMEOUT 0.5.5..
VLLM_IMAGE_TAG 0.26.0..
VLLM_INSTANCE_ID 0.5.5
VLLM_KEEP_ALIVE_ON_ENGINE_DEATH 0.5.5..
VLLM_KIMI_K3_AUX_ATTN_RES_STREAM 0.28.0..
VLLM_KIMI_K3_GEMM_AR 0.29.0..
VLLM_KIMI_K3_GEMM_RS 0.28.0..0.30.0
VLLM_KIMI_K3_SHARD_SP_SHARED_EXPERT 0.27.0..
VLLM_KV_CACHE_LAYOUT 0.9.2..
VLLM_KV_EVENTS_USE_INT_BLOCK_HASHES 0.10.2..
VLLM_KV_OFFLOAD_MAX_BATCH_DESCRIPTORS 0.29.0..
VLLM_LOGGING_COLOR 0.12.0..
VLLM_LOGGING_CONFIG_PATH 0.5.5..
VLLM_LOGGING_LEVEL 0.5.5..
VLLM_LOGGING_PREFIX 0.6.6..
VLLM_LOGGING_STREAM 0.10.2..
VLLM_LOGITS_PROCESSOR_THREADS 0.7.3..0.11.0
VLLM_LOG_BATCHSIZE_INTERVAL 0.6.6..
VLLM_LOG_MODEL_INSPECTION 0.14.0..
VLLM_LOG_STATS_INTERVAL 0.10.1..
VLLM_LOOPBACK_IP 0.10.0..
VLLM_LORA_DISABLE_PDL 0.15.1..
VLLM_LORA_ENABLE_DUAL_STREAM 0.20.0..
VLLM_LORA_RESOLVER_CACHE_DIR 0.9.0..
VLLM_LORA_RESOLVER_HF_REPO_LIST 0.16.0..
VLLM_MAIN_CUDA_VERSION 0.11.0..
VLLM_MARLIN_INPUT_DTYPE 0.12.0..
VLLM_MARLIN_USE_ATOMIC_ADD 0.8.5..
VLLM_MAX_AUDIO_CLIP_FILESIZE_MB 0.10.0..
VLLM_MAX_AUDIO_DECODE_BYTES 0.28.0..
VLLM_MAX_AUDIO_DECODE_DURATION_S 0.24.0..
VLLM_MAX_AUDIO_PREPROCESS_WORKERS 0.24.0..
VLLM_MAX_BAD_WORDS_TOTAL_TOKENS 0.28.0..
VLLM_MAX_COMPLETION_PROMPTS 0.26.0..
VLLM_MAX_EMBED_DECODE_BYTES 0.30.0..
VLLM_MAX_IMAGE_PIXELS 0.25.0..
VLLM_MAX_MEDIA_DOWNLOAD_SIZE_MB 0.29.0..
VLLM_MAX_MEDIA_REQUEST_DECODE_BYTES 0.33.0..
VLLM_MAX_MEDIA_REQUEST_DOWNLOAD_SIZE_MB 0.33.0..
VLLM_MAX_NUM_BAD_WORDS 0.28.0..
VLLM_MAX_N_SEQUENCES 0.19.0..
VLLM_MAX_STOP_STRINGS 0.28.0..
VLLM_MAX_TOKENS_PER_EXPERT_FP4_MOE 0.9.0..
VLLM_MEDIA_CACHE 0.20.0..
VLLM_MEDIA_CACHE_MAX_SIZE_MB 0.20.0..
VLLM_MEDIA_CACHE_TTL_HOURS 0.20.0..
VLLM_MEDIA_CONNECTOR 0.11.1..
VLLM_MEDIA_FETCH_MAX_RETRIES 0.19.0..
VLLM_MEDIA_LOADING_THREAD_COUNT 0.10.1..
VLLM_MEDIA_URL_ALLOW_REDIRECTS 0.11.0..
VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS 0.18.0..
VLLM_MLA_DISABLE 0.7.3..
VLLM_MLA_DISABLE_REQUANTIZATION 0.7.3
VLLM_MLA_PERFORM_MATRIX_ABSORPTION 0.7.3
VLLM_MM_HASHER_ALGORITHM 0.15.1..0.29.0
VLLM_MM_INPUT_CACHE_GIB 0.8.5..0.12.0
VLLM_MM_INPUT_CACHE_SIZE 0.7.3
VLLM_MODEL_REDIRECT_PATH 0.8.5..
VLLM_MOE_DP_CHUNK_SIZE 0.9.2..0.19.1
VLLM_MOE_ROUTING_SIMULATION_STRATEGY 0.10.1..
VLLM_MOE_SKIP_PADDING 0.25.0..
VLLM_MOE_USE_DEEP_GEMM 0.11.1..
VLLM_MOONCAKE_ABORT_REQUEST_TIMEOUT 0.13.0..
VLLM_MOONCAKE_BOOTSTRAP_PORT 0.13.0..
VLLM_MOONCAKE_CONNECTOR_TIMEOUT 0.31.0..
VLLM_MOONCAKE_DISK_STAGING_USABLE_RATIO 0.22.0..
VLLM_MOONCAKE_LOAD_RECV_THREADS 0.25.0..
VLLM_MOONCAKE_STORE_TIER_LOG 0.22.0..
VLLM_MORIIO_CONNECTOR_READ_MODE 0.14.0..0.22.1
VLLM_MORIIO_NUM_WORKERS 0.14.0..0.22.1
VLLM_MORIIO_POST_BATCH_SIZE 0.14.0..0.22.1
VLLM_MORIIO_QP_PER_TRANSFER 0.14.0..0.22.1
VLLM_MQ_MAX_CHUNK_BYTES_MB 0.9.1..
VLLM_MSGPACK_ZERO_COPY_THRESHOLD 0.8.5..
VLLM_MULTI_STREAM_GEMM_TOKEN_THRESHOLD 0.20.1..
VLLM_MXFP4_EMULATION_DEQUANT_AT_LOAD 0.31.0..
VLLM_MXFP4_USE_MARLIN 0.10.1..0.23.0
VLLM_MXFP8_EMULATION_DEQUANT_AT_LOAD 0.24.0..
VLLM_NCCL_INCLUDE_PATH 0.11.0..
VLLM_NCCL_SO_PATH 0.5.5..
VLLM_NIC_SELECTION_VARS 0.23.0..
VLLM_NIXL_ABORT_REQUEST_TIMEOUT 0.10.0..0.21.0
VLLM_NIXL_EP_MAX_NUM_RANKS 0.18.0..0.29.0
VLLM_NIXL_SIDE_CHANNEL_HOST 0.9.0..
VLLM_NIXL_SIDE_CHANNEL_PORT 0.9.0..
VLLM_NO_DEPRECATION_WARNING 0.5.5..0.10.0
VLLM_NO_USAGE_STATS 0.5.5..
VLLM_NVFP4_GEMM_BACKEND 0.11.1..0.23.0
VLLM_NVTX_SCOPES_FOR_PROFILING 0.11.0..
VLLM_OBJECT_STORAGE_SHM_BUFFER_NAME 0.11.0..
VLLM_OPENVINO_CPU_KV_CACHE_PRECISION 0.5.5..0.7.3
VLLM_OPENVINO_DEVICE 0.6.6..0.7.3
VLLM_OPENVINO_ENABLE_QUANTIZED_WEIGHTS 0.5.5..0.7.3
VLLM_OPENVINO_KVCACHE_SPACE 0.5.5..0.7.3
VLLM_P2P_HANDSHAKE_TIMEOUT_S 0.32.0..
VLLM_P2P_IDLE_TIMEOUT_S 0.32.0..
VLLM_P2P_MAX_PEERS 0.32.0..
VLLM_P2P_SIDE_CHANNEL_HOST 0.26.0..
VLLM_P2P_SIDE_CHANNEL_PORT 0.26.0..
VLLM_PATTERN_MATCH_DEBUG 0.11.0..
VLLM_PLE_CPU_OFFLOAD 0.30.0
VLLM_PLUGINS 0.5.5..
VLLM_PORT 0.5.5..
VLLM_PP_LAYER_PARTITION 0.5.5..
VLLM_PREFIX_CACHE_RETENTION_INTERVAL 0.23.0..0.29.0
VLLM_PROCESS_NAME_PREFIX 0.10.1..
VLLM_PROFILER_DELAY_ITERS 0.12.0..0.15.1
VLLM_PROFILER_MAX_ITERS 0.12.0..0.15.1
VLLM_QUARK_EMU_MEM_OPT 0.9.0..0.9.2
VLLM_RAISE_ON_LOGIT_NANS 0.28.0..
VLLM_RANDOMIZE_DP_DUMMY_INPUTS 0.9.1..
VLLM_RAY_BUNDLE_INDICES 0.7.3..
VLLM_RAY_DP_PACK_STRATEGY 0.11.1..
VLLM_RAY_DP_PLACEMENT_NODE_IPS 0.23.0..
VLLM_RAY_EXTRA_ENV_VARS_TO_COPY 0.17.0..
VLLM_RAY_EXTRA_ENV_VAR_PREFIXES_TO_COPY 0.17.0..
VLLM_RAY_PER_WORKER_GPUS 0.7.3..
VLLM_REGEX_COMPILATION_TIMEOUT_S 0.24.0..
VLLM_REPLICATE_EMBED 0.29.0..
VLLM_REQUEST_BODY_LOG_LEVEL 0.33.0..
VLLM_RINGBUFFER_WARNING_INTERVAL 0.5.5..
VLLM_ROCM_AITER_MEGA_MOE_FUSE_SHARED_EXPERTS 0.32.0
VLLM_ROCM_AITER_MLA_ASM_PADDING 0.28.0..
VLLM_ROCM_AITER_MLA_DCP_VERIFY 0.31.0..0.32.0
VLLM_ROCM_AITER_MOE_DISPATCH_POLICY 0.23.0..
VLLM_ROCM_CUSTOM_PAGED_ATTN 0.8.5..0.18.1
VLLM_ROCM_FP8_MFMA_PAGE_ATTN 0.11.0..
VLLM_ROCM_FP8_PADDING 0.8.5..
VLLM_ROCM_MOE_PADDING 0.8.5..
VLLM_ROCM_MONO_DECODE 0.32.0
VLLM_ROCM_MUSE_MOE_ONLINE_QUANT 0.33.0..
VLLM_ROCM_MUSE_MOE_REDUCE_DTYPE 0.33.0..
VLLM_ROCM_QUICK_REDUCE_CAST_BF16_TO_FP16 0.9.2..
VLLM_ROCM_QUICK_REDUCE_MAX_SIZE_BYTES_MB 0.9.2..
VLLM_ROCM_QUICK_REDUCE_MIN_SIZE_BYTES_MB 0.22.0..
VLLM_ROCM_QUICK_REDUCE_QUANTIZATION 0.9.2..
VLLM_ROCM_QUICK_REDUCE_QUANTIZATION_MIN_SIZE_KB 0.22.0..
VLLM_ROCM_SHUFFLE_KV_CACHE_LAYOUT 0.15.1..
VLLM_ROCM_SLEEP_MEM_CHUNK_SIZE 0.11.1..
VLLM_ROCM_USE_AITER 0.8.5..
VLLM_ROCM_USE_AITER_CUSTOM_AR 0.25.0..
VLLM_ROCM_USE_AITER_FP4BMM 0.15.1..
VLLM_ROCM_USE_AITER_FP4_ASM_GEMM 0.11.0..0.28.0,0.31.0..0.32.0
VLLM_ROCM_USE_AITER_FP8BMM 0.10.2..
VLLM_ROCM_USE_AITER_FUSION_SHARED_EXPERTS 0.11.1..
VLLM_ROCM_USE_AITER_LINEAR 0.8.5..
VLLM_ROCM_USE_AITER_LINEAR_HIPBMM 0.23.0..
VLLM_ROCM_USE_AITER_MHA 0.9.2..
VLLM_ROCM_USE_AITER_MLA 0.8.5..
VLLM_ROCM_USE_AITER_MOE 0.8.5..
VLLM_ROCM_USE_AITER_MOE_A4W4_DSV4 0.32.0..
VLLM_ROCM_USE_AITER_MOE_SITUV2 0.31.0..
VLLM_ROCM_USE_AITER_MOE_SITUV2_A8W4 0.28.0..0.30.0
VLLM_ROCM_USE_AITER_PAGED_ATTN 0.8.5..0.25.1
VLLM_ROCM_USE_AITER_RMSNORM 0.8.5..
VLLM_ROCM_USE_AITER_TRITON_GEMM 0.11.1..
VLLM_ROCM_USE_AITER_TRITON_ROPE 0.11.1..
VLLM_ROCM_USE_AITER_TRITON_SPARSE_MLA 0.32.0..
VLLM_ROCM_USE_AITER_UNIFIED_ATTENTION 0.11.1..
VLLM_ROCM_USE_SKINNY_GEMM 0.8.5..
VLLM_ROCM_USE_TRITON_ROPE 0.11.0
VLLM_RPC_BASE_PATH 0.5.5..
VLLM_RPC_GET_DATA_TIMEOUT_MS 0.5.5
VLLM_RPC_TIMEOUT 0.6.6..0.22.1
VLLM_RUST_FRONTEND_PATH 0.22.0..
VLLM_SERVER_DEV_MODE 0.7.3..
VLLM_SHARED_EXPERTS_STREAM_TOKEN_THRESHOLD 0.11.1..
VLLM_SKIP_DEEP_GEMM_WARMUP 0.10.1..0.11.0
VLLM_SKIP_MODEL_NAME_VALIDATION 0.21.0..
VLLM_SKIP_P2P_CHECK 0.6.6..
VLLM_SKIP_PRECOMPILED_VERSION_SUFFIX 0.13.0..
VLLM_SKIP_VERSION_SUFFIX 0.31.0..
VLLM_SLEEP_WHEN_IDLE 0.9.1..0.17.1
VLLM_SPARSE_INDEXER_MAX_LOGITS_MB 0.19.0..
VLLM_SSM_CONV_STATE_LAYOUT 0.20.0..
VLLM_STEP5_SHARD_SP_SHARED_EXPERT 0.33.0..
VLLM_SYSTEM_START_DATE 0.17.0..
VLLM_TARGET_DEVICE 0.5.5..
VLLM_TEST_DYNAMO_FULLGRAPH_CAPTURE 0.6.6..0.10.2
VLLM_TEST_DYNAMO_GRAPH_CAPTURE 0.5.5
VLLM_TEST_FORCE_FP8_MARLIN 0.5.5..0.28.0
VLLM_TEST_FORCE_LOAD_FORMAT 0.6.6..
VLLM_TEST_STANDALONE_COMPILE 0.9.0
VLLM_TEST_USE_PRECOMPILED_NIGHTLY_WHEEL 0.8.5..0.12.0
VLLM_TOOL_JSON_ERROR_AUTOMATIC_RETRY 0.11.1..
VLLM_TOOL_PARSE_REGEX_TIMEOUT_SECONDS 0.9.1..
VLLM_TORCH_CUDA_PROFILE 0.11.1..0.15.1
VLLM_TORCH_PROFILER_DIR 0.5.5..0.15.1
VLLM_TORCH_PROFILER_DISABLE_ASYNC_LLM 0.12.0..0.15.1
VLLM_TORCH_PROFILER_DUMP_CUDA_TIME_TOTAL 0.12.0..0.15.1
VLLM_TORCH_PROFILER_RECORD_SHAPES 0.10.1..0.15.1
VLLM_TORCH_PROFILER_USE_GZIP 0.12.0..0.15.1
VLLM_TORCH_PROFILER_WITH_FLOPS 0.10.1..0.15.1
VLLM_TORCH_PROFILER_WITH_PROFILE_MEMORY 0.10.1..0.15.1
VLLM_TORCH_PROFILER_WITH_STACK 0.10.1..0.15.1
VLLM_TPU_BUCKET_PADDING_GAP 0.8.5..0.25.1
VLLM_TPU_MOST_MODEL_LEN 0.9.2..0.25.1
VLLM_TPU_USING_PATHWAYS 0.10.1..
VLLM_TRACE_FUNCTION 0.5.5..
VLLM_TRITON_ATTN_USE_TD 0.22.0..0.28.0
VLLM_TRITON_FORCE_FIRST_CONFIG 0.24.0..
VLLM_TRITON_JIT_WARMUP_NUM_THREADS 0.31.0..
VLLM_TRITON_USE_TD 0.26.0..
VLLM_TUNED_CONFIG_FOLDER 0.10.1..
VLLM_USAGE_SOURCE 0.5.5..
VLLM_USAGE_STATS_SERVER 0.5.5..
VLLM_USE_AITER_UNIFIED_ATTENTION 0.10.1..0.11.0
VLLM_USE_AOT_COMPILE 0.11.1..
VLLM_USE_BREAKABLE_CUDAGRAPH 0.22.0..
VLLM_USE_BYTECODE_HOOK 0.11.1..
VLLM_USE_CUDNN_PREFILL 0.10.0..0.14.1
VLLM_USE_DEEP_GEMM 0.8.5..
VLLM_USE_DEEP_GEMM_E8M0 0.10.1..
VLLM_USE_DEEP_GEMM_E8M0_HOPPER 0.10.2..0.11.0
VLLM_USE_DEEP_GEMM_TMA_ALIGNED_SCALES 0.15.1..
VLLM_USE_DIRECT_DCP_A2A 0.28.0..
VLLM_USE_DIRECT_DCP_KV_GATHER 0.28.0..
VLLM_USE_DIRECT_DCP_Q_GATHER 0.28.0..
VLLM_USE_EXPERIMENTAL_PARSER_CONTEXT 0.13.0..
VLLM_USE_FASTOKENS 0.22.0..
VLLM_USE_FBGEMM 0.11.0..0.23.0
VLLM_USE_FLASHINFER_MOE_FP16 0.11.0..0.23.0
VLLM_USE_FLASHINFER_MOE_FP4 0.10.0..0.23.0
VLLM_USE_FLASHINFER_MOE_FP8 0.10.0..0.23.0
VLLM_USE_FLASHINFER_MOE_INT4 0.16.0..
VLLM_USE_FLASHINFER_MOE_MXFP4_BF16 0.10.1..0.23.0
VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8 0.10.1..0.23.0
VLLM_USE_FLASHINFER_MOE_MXFP4_MXFP8_CUTLASS 0.10.2..0.23.0
VLLM_USE_FLASHINFER_SAMPLER 0.5.5..
VLLM_USE_FUSED_MOE_GROUPED_TOPK 0.10.2..
VLLM_USE_HPU_CONTIGUOUS_CACHE_FETCH 0.7.3..0.9.2
VLLM_USE_HW_AGNOSTIC 0.28.0..
VLLM_USE_LAYERNAME 0.20.0..
VLLM_USE_MEGA_AOT_ARTIFACT 0.15.1..
VLLM_USE_MODELSCOPE 0.5.5..
VLLM_USE_NCCL_SYMM_MEM 0.11.0..
VLLM_USE_NVFP4_CT_EMULATIONS 0.9.2..0.23.0
VLLM_USE_OINK_OPS 0.17.0..
VLLM_USE_PRECOMPILED 0.5.5..
VLLM_USE_PRECOMPILED_RUST 0.22.0..
VLLM_USE_RAY_COMPILED_DAG 0.5.5..0.11.0
VLLM_USE_RAY_COMPILED_DAG_CHANNEL_TYPE 0.8.5..0.32.0
VLLM_USE_RAY_COMPILED_DAG_NCCL_CHANNEL 0.5.5..0.7.3
VLLM_USE_RAY_COMPILED_DAG_OVERLAP_COMM 0.6.6..0.32.0
VLLM_USE_RAY_SPMD_WORKER 0.5.5..0.11.0
VLLM_USE_RAY_V2_EXECUTOR_BACKEND 0.20.0..0.32.0
VLLM_USE_RAY_WRAPPED_PP_COMM 0.10.1..0.32.0
VLLM_USE_RUST_BENCH 0.27.0..
VLLM_USE_RUST_FRONTEND 0.22.0..
VLLM_USE_SIMPLE_KV_OFFLOAD 0.19.0..
VLLM_USE_SPINLOOP_EXT 0.22.0..
VLLM_USE_STANDALONE_COMPILE 0.9.1..
VLLM_USE_TRITON_AWQ 0.6.6..
VLLM_USE_TRITON_FLASH_ATTN 0.5.5..0.11.0
VLLM_USE_TRTLLM_ATTENTION 0.10.1..0.14.1
VLLM_USE_TRTLLM_DECODE_ATTENTION 0.10.0
VLLM_USE_TRTLLM_FP4_GEMM 0.10.1..0.11.0
VLLM_USE_TRTLLM_RAGGED_DEEPSEEK_PREFILL 0.11.1..0.14.1
VLLM_USE_V1 0.6.6..0.11.0
VLLM_USE_V2_MODEL_RUNNER 0.12.0..
VLLM_V0_USE_OUTLINES_CACHE 0.8.5..0.11.0
VLLM_V1_OUTPUT_PROC_CHUNK_SIZE 0.7.3..
VLLM_V1_USE_OUTLINES_CACHE 0.10.0..
VLLM_V1_USE_PREFILL_DECODE_ATTENTION 0.9.1..0.14.1
VLLM_VIDEO_FETCH_TIMEOUT 0.6.6..
VLLM_VIDEO_LOADER_BACKEND 0.9.0..
VLLM_WEIGHT_OFFLOADING_DISABLE_PIN_MEMORY 0.17.0..
VLLM_WEIGHT_OFFLOADING_DISABLE_UVA 0.17.0..
VLLM_WORKER_MULTIPROC_METHOD 0.5.5..
VLLM_WORKER_SHUTDOWN_TIMEOUT_SECONDS 0.24.0..
VLLM_WSL2_ENABLE_PIN_MEMORY 0.24.0..
VLLM_XGRAMMAR_CACHE_MB 0.8.5..
VLLM_XLA_CACHE_PATH 0.5.5..
VLLM_XLA_CHECK_RECOMPILATION 0.8.5..
VLLM_XLA_USE_SPMD 0.9.1..
VLLM_XPU_ENABLE_XPU_GRAPH 0.19.0..0.30.0
VLLM_XPU_FORCE_N_CONTIG_WEIGHT 0.29.0..
VLLM_XPU_INC_WNA16_BACKEND 0.29.0..
VLLM_XPU_PP_MICROBATCH 0.31.0..
VLLM_XPU_USE_SAMPLER_KERNEL 0.21.0..
VLLM_ZENTORCH_WEIGHT_PREPACK 0.18.0..
V_SCALE_CONSTANT 0.7.3..0.27.1
""")
