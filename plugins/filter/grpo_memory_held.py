# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: grpo_memory_held
short_description: Calculate the GPU memory that a stopped server still holds
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Takes the facts of M(gpufleet.vllm.gpu_facts) and names every process of a server that holds memory of a GPU, and
    every GPU with memory that belongs to no process that is listed, as it does while a driver takes memory back.
  - An empty list says that all of it is back.
positional: _input, server
options:
  _input:
    description:
      - The facts, C(ansible_facts.gpufleet).
    type: dict
    required: true
  server:
    description:
      - Name of the server.
    type: str
    required: true
seealso:
  - module: gpufleet.vllm.gpu_facts
"""

EXAMPLES = r"""
- name: Wait until the memory is back
  gpufleet.vllm.gpu_facts:
  register: gpus
  until: gpus.ansible_facts.gpufleet | gpufleet.vllm.grpo_memory_held('rollout') == []
"""

RETURN = r"""
_value:
  description: A sentence for each process or GPU.
  type: list
  elements: str
  sample: ["GPU 0: PID 4711 (server rollout) holds 71.2 GiB"]
"""

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.split import held
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain, require_mapping


def grpo_memory_held(facts: t.Any, server: t.Any) -> list[str]:
    """What a server that was stopped holds of the GPUs."""
    require_mapping("grpo_memory_held: the facts", facts)
    return held(plain(facts), str(server))


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"grpo_memory_held": grpo_memory_held}
