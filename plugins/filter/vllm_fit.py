# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_fit
short_description: Check whether a server fits in the memory of a host's GPUs
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Tells before anything is started whether vLLM would start on these GPUs and how much KV cache it would have, and, if
    it does not fit, what to change and to which number.
  - The condition of the start and the blocks of the KV cache are vLLM's own arithmetic, in the version that will run.
    What only a start shows (weights as loaded, activation peak, CUDA graphs) is a range.
  - A model that is neither in the catalogue nor described is judged by its start condition alone.
  - A server that only embeds, classifies or scores is not judged by the length of its requests unless
    C(max_model_len) is set.
positional: _input, facts
options:
  _input:
    description:
      - The server's spec, as role P(gpufleet.vllm.vllm_server#role) takes it and P(gpufleet.vllm.vllm_spec#filter)
        makes it. Only C(model) is required.
      - When C(gpus) is a wish, a mapping with C(count), C(min_free_mib) and C(prefer), the GPUs are those that
        P(gpufleet.vllm.select_gpus#filter) takes for it.
    type: dict
    required: true
  facts:
    description:
      - The facts of M(gpufleet.vllm.gpu_facts), C(ansible_facts.gpufleet).
    type: dict
    required: true
  architecture:
    description:
      - The numbers of the model, or C(weights_gib) alone, with which only the weights are compared with the memory.
        Without them it is C(architecture) of the spec, then what the catalogue has for the same model.
      - You can pass the full C(config.json) of the model instead, with C(weights_gib) added to its keys.
    type: dict
    suboptions:
      layers_full:
        description: Layers with full attention.
        type: int
      layers_sliding:
        description: Layers that attend over a sliding window.
        type: int
      sliding_window:
        description: The tokens of that window; V(0) without such layers.
        type: int
      num_key_value_heads:
        description: Key-value heads of a layer.
        type: int
      head_dim:
        description: The size of a head.
        type: int
      weights_gib:
        description: The weights as vLLM loads them, in GiB. Without it the KV cache is not judged.
        type: float
      experts:
        description:
          - How many experts a layer has, V(0) for a dense model. Ranks of data parallel share the experts and have all
            else whole. Without it, the range covers both where C(data_parallel_size) is set without
            C(enable_expert_parallel).
        type: int
      is_chunked:
        description: V(1) when C(layers_sliding) see a chunk of C(sliding_window) tokens instead of a window (Llama 4).
        type: int
      full_key_value_heads:
        description: Key-value heads of the layers with full attention, where they differ from the others (Gemma 4).
        type: int
      full_head_dim:
        description: The size of a head of these layers.
        type: int
      kv_lora_rank:
        description: The size of the latent vector that MLA keeps instead of keys and values (DeepSeek, Kimi K2, GLM-5).
        type: int
      qk_rope_head_dim:
        description: The size of the position that it keeps with the vector.
        type: int
      index_head_dim:
        description: The size of the key of the index, for models that pick the tokens they attend to (DeepSeek V3.2).
        type: int
      layers_index:
        description: Layers with an index of their own, where others share it (GLM-5.2); V(0) when all have one.
        type: int
      value_head_dim:
        description: The size of a value in a head, where it differs from that of a key (MiMo-V2).
        type: int
      layers_ratio_4:
        description: Layers that keep one more vector for each 4 tokens, with the key of an index (DeepSeek V4).
        type: int
      layers_ratio_128:
        description: Layers that keep one more vector for each 128 tokens.
        type: int
      item_tokens:
        description: The tokens of the largest image or video, where it has to be computed at once (Gemma 4 26B).
        type: int
      layers_state:
        description: Layers that keep a state instead of tokens (Mamba, Gated DeltaNet).
        type: int
      state_conv_values:
        description: The values of such a layer that belong to its convolution.
        type: int
      state_values:
        description: The other values of the state of a layer.
        type: int
      state_value_bytes:
        description: The bytes of one of them, where that is not the size of the model's values.
        type: int
      state_chunk:
        description: The tokens after which Mamba 2 can keep its state for prefix caching.
        type: int
      is_encoder:
        description: V(1) for an encoder, which keeps no KV cache. C(weights_gib) can be the only other key.
        type: int
  returning:
    description:
      - What comes back when the servers that are replaced are gone, in MiB by UUID of the GPU. On unified memory it
        comes back to the host.
    type: dict
    default: {}
  measured:
    description:
      - What vLLM printed at an earlier start with the same settings, in GiB. It takes the place of the ranges.
    type: dict
    default: {}
    suboptions:
      weights_gib:
        description: From "Model loading took".
        type: float
      activation_gib:
        description: The peak activation, from the summary of the memory.
        type: float
      non_torch_gib:
        description: The non-torch memory, from the summary.
        type: float
      graphs_gib:
        description: From "Estimated CUDA graph memory".
        type: float
      kv_gib:
        description: From "Available KV cache memory".
        type: float
  host_reserve_mib:
    description:
      - What stays free for the host where GPU and CPU share the memory, in MiB. A host that runs out of it freezes.
    type: int
    default: 8192
seealso:
  - module: gpufleet.vllm.gpu_facts
  - plugin: gpufleet.vllm.vllm_kv_capacity
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Stop where the server would not start
  ansible.builtin.assert:
    that: fit.verdict != "refuse"
    fail_msg: "{{ fit.reasons | join(' ') }}"
  vars:
    fit: "{{ 'gpt-oss-20b' | gpufleet.vllm.vllm_spec('h200') | gpufleet.vllm.vllm_fit(ansible_facts.gpufleet) }}"
# => GPU 0 has 62.4 of 139.8 GiB free, and gpu_memory_utilization 0.85 asks for 118.8: lower it to 0.44, or free the
#    GPU: PID 4711 (uid 1004) holds 60.0 GiB.

- name: Serve with what fits
  ansible.builtin.include_role:
    name: gpufleet.vllm.vllm_server
  vars:
    wanted: "{{ 'gpt-oss-20b' | gpufleet.vllm.vllm_spec('a100') }}"
    fit: "{{ wanted | gpufleet.vllm.vllm_fit(ansible_facts.gpufleet) }}"
    vllm_server: "{{ wanted | combine({'engine': fit.suggestions}, recursive=true) }}"
"""

RETURN = r"""
_value:
  description: The verdict and what led to it. What is not known is V(null).
  type: dict
  contains:
    verdict:
      description:
        - V(ok) fits by the minimum estimate, V(tight) may fail, V(refuse) fails.
      type: str
      choices: [ok, tight, refuse]
      sample: refuse
    kv_tokens_min:
      description: The least that vLLM would print as "KV cache size", in tokens.
      type: int
      sample: 2838095
    kv_tokens_max:
      description: The most that it would print.
      type: int
      sample: 3080511
    budget_mib:
      description: The least that is left for the KV cache on each GPU.
      type: int
      sample: 100069
    free_mib:
      description: The memory that is free once O(returning) came back, on the GPU that has the least of it.
      type: int
      sample: 143156
    reasons:
      description: Sentences. That of a fault ends with the remedy.
      type: list
      elements: str
    suggestions:
      description:
        - Keys of C(engine) and numbers with which it fits better, all of them together. Empty when it fits, and when no
          setting helps.
      type: dict
      sample: {gpu_memory_utilization: 0.44}
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.selection import Wish, select
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import process
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.fit import Fit, fit
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import architecture_of
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import mebibytes, plain, require_mapping


def vllm_fit(
    spec: t.Any,
    facts: t.Any,
    architecture: t.Any = None,
    returning: t.Any = None,
    measured: t.Any = None,
    host_reserve_mib: t.Any = 8192,
) -> dict[str, t.Any]:
    """Whether a server would start on a host with these facts, and what to change if not."""
    require_mapping("vllm_fit: the server's spec", spec)
    require_mapping("vllm_fit: facts", facts)
    for name, value in (("architecture", architecture), ("returning", returning), ("measured", measured)):
        require_mapping(f"vllm_fit: {name}", value, optional=True)
    server, host = plain(spec), plain(facts)
    try:
        numbers = architecture_of(server, plain(architecture), host.get("hardware_class"))
        reserve = mebibytes("host_reserve_mib", host_reserve_mib)
        back = {uuid: mebibytes(f"returning.{uuid}", mib) for uuid, mib in plain(returning or {}).items()}
        bound = process(_bound(server, host))
        return fit(bound, host, numbers, back, plain(measured or {}), reserve).to_dict()
    except _Unselected as error:
        return Fit("refuse", reasons=(str(error),)).to_dict()
    except VllmError as error:
        raise AnsibleFilterError(f"vllm_fit: {error}") from error


class _Unselected(VllmError):
    """The wish for GPUs that the host cannot fulfil: a verdict, not a mistake of the user's."""


def _bound(spec: dict[str, t.Any], facts: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The spec with the GPUs that a wish for some would get."""
    wish = spec.get("gpus")
    if not isinstance(wish, t.Mapping):
        return spec
    keys = {**wish, "min_free_mib": wish.get("min_free_mib", wish.get("min_free", 0)), "server": spec.get("name")}
    try:
        counts = {key: int(keys.get(key, default)) for key, default in (("count", 1), ("min_free_mib", 0))}
    except (TypeError, ValueError):
        raise VllmError(f"gpus: count and min_free_mib must be whole numbers; got {wish!r}.") from None
    words = {key: keys[key] for key in ("prefer", "mig", "server") if keys.get(key) is not None}
    try:
        return {**spec, "gpus": select(facts, Wish(**counts, **words))}
    except VllmError as error:
        raise _Unselected(str(error), error.reason) from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_fit": vllm_fit}
