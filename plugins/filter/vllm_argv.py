# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_argv
short_description: Render a server's spec as the arguments of C(vllm serve)
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Turns the description of a server, as role P(gpufleet.vllm.vllm_server#role) takes it, into the list of arguments
    that follow C(vllm serve).
  - The container and every other backend use the same renderer, so this shows exactly what a deployment runs.
positional: _input
options:
  _input:
    description:
      - The server's spec. Only C(model) is required; C(engine) holds any flag of vLLM with underscores.
      - V(true) and V(false) become C(--flag) and C(--no-flag), a list becomes several values, a mapping becomes JSON
        and V(null) leaves the flag out.
      - Keys that say where and by whom the server is run, such as C(docker_host) and C(health), are accepted and have
        no influence. With C(backend=systemd), the server is on the host's network.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what would be run
  ansible.builtin.debug:
    msg: "vllm serve {{ server | gpufleet.vllm.vllm_argv | map('quote') | join(' ') }}"
  vars:
    server:
      model: openai/gpt-oss-120b
      served_model_name: gpt-oss-120b
      engine:
        gpu_memory_utilization: 0.85
        max_model_len: 32768
# => vllm serve openai/gpt-oss-120b --served-model-name gpt-oss-120b --port 8000
#    --gpu-memory-utilization 0.85 --max-model-len 32768
"""

RETURN = r"""
_value:
  description: The arguments, each a string.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.arguments import argv
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import process
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import require_mapping


def vllm_argv(spec: t.Any) -> list[str]:
    """The arguments after vllm serve for a server."""
    require_mapping("vllm_argv: the server's spec", spec)
    try:
        return argv(process(spec))
    except VllmError as error:
        raise AnsibleFilterError(f"vllm_argv: {error}") from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_argv": vllm_argv}
