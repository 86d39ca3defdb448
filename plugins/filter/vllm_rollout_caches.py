# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_rollout_caches
short_description: Collect the compile caches that hosts of a wave packed
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - For playbook C(gpufleet.vllm.rollout). Takes the results of M(gpufleet.vllm.vllm_caches), for C(vllm_server_caches)
    of the hosts that are still to be changed.
positional: _input, hostvars, rollout
options:
  _input:
    description:
      - The names of the hosts that packed them.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - C(hostvars), where each of them has the result as C(__rollout_packed).
    type: dict
    required: true
  rollout:
    description:
      - The plan, as filter P(gpufleet.vllm.vllm_rollout#filter) made it.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Keep the compile caches for the next waves
  ansible.builtin.set_fact:
    caches: "{{ verdict.pack | gpufleet.vllm.vllm_rollout_caches(hostvars, rollout) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: The caches, or why they could not be packed, by what C(compiles) of the plan has for the hosts they fit.
  type: dict
"""

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import require_mapping
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout_hosts import packed


def vllm_rollout_caches(names: t.Any, hostvars: t.Any, rollout: t.Any) -> dict[str, t.Any]:
    """What these hosts packed, by what they compile for."""
    require_mapping("vllm_rollout_caches: hostvars", hostvars)
    require_mapping("vllm_rollout_caches: rollout", rollout)
    return {rollout["compiles"][name]: packed(str(name), hostvars[name]) for name in names}


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_rollout_caches": vllm_rollout_caches}
