# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_kv_capacity
short_description: Calculate how many tokens a server's KV cache holds
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Computes what vLLM prints as "KV cache size" and "Maximum concurrency" for a given "Available KV cache memory", with
    the block arithmetic of the version that will run.
positional: _input
options:
  _input:
    description:
      - The server's spec, as role P(gpufleet.vllm.vllm_server#role) takes it and P(gpufleet.vllm.vllm_spec#filter)
        makes it. The model's numbers are O(architecture), C(architecture) of the spec, or what the catalogue has.
      - Of C(engine) these count here - C(max_model_len), C(max_num_batched_tokens), C(block_size), C(kv_cache_dtype),
        C(dtype), C(tensor_parallel_size), C(pipeline_parallel_size), C(async_scheduling), C(enable_chunked_prefill) and
        C(disable_hybrid_kv_cache_manager), and for layers that keep a state C(enable_prefix_caching),
        C(mamba_cache_mode), C(mamba_cache_dtype) and C(mamba_ssm_cache_dtype).
      - Without C(max_model_len), 131072 is taken.
    type: dict
    required: true
  kv_gib:
    description:
      - The memory of the KV cache on each GPU, in GiB.
    type: float
    required: true
  architecture:
    description:
      - The numbers of the model, or its full C(config.json), as P(gpufleet.vllm.vllm_fit#filter) takes them.
    type: dict
  gpu:
    description:
      - One of C(ansible_facts.gpufleet.gpus). vLLM's default of C(max_num_batched_tokens) depends on it; without it,
        the GPU is taken for a large one (8192).
    type: dict
seealso:
  - plugin: gpufleet.vllm.vllm_fit
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Show what 60 GiB of KV cache are good for
  ansible.builtin.debug:
    msg: "{{ 'gpt-oss-20b' | gpufleet.vllm.vllm_spec('h200') | gpufleet.vllm.vllm_kv_capacity(kv_gib=60) }}"
# => {"concurrency": 53.18, "tokens": 1742521}
"""

RETURN = r"""
_value:
  description: What vLLM would print.
  type: dict
  contains:
    tokens:
      description: The "KV cache size", in tokens.
      type: int
      sample: 1742521
    concurrency:
      description: The "Maximum concurrency", requests of C(max_model_len) tokens at the same time.
      type: float
      sample: 53.18
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.budget import kv_capacity
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import process
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import KEYS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import architecture_of
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import gibibytes, plain, require_mapping


def vllm_kv_capacity(spec: t.Any, kv_gib: t.Any, architecture: t.Any = None, gpu: t.Any = None) -> dict[str, t.Any]:
    """How many tokens so much KV cache holds for a server, and how many requests at once."""
    require_mapping("vllm_kv_capacity: the server's spec", spec)
    require_mapping("vllm_kv_capacity: architecture", architecture, optional=True)
    require_mapping("vllm_kv_capacity: gpu", gpu, optional=True)
    server = plain(spec)
    try:
        numbers = architecture_of(server, plain(architecture))
        if numbers is None:
            keys = ", ".join(KEYS)
            raise VllmError(f"the catalogue does not have {server.get('model')!r}: give its architecture ({keys}).")
        capacity = kv_capacity(process(server), numbers, gibibytes("kv_gib", kv_gib), plain(gpu))
    except VllmError as error:
        raise AnsibleFilterError(f"vllm_kv_capacity: {error}") from error
    return {"tokens": capacity.tokens, "concurrency": round(capacity.concurrency, 2)}


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_kv_capacity": vllm_kv_capacity}
