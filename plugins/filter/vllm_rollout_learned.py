# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_rollout_learned
short_description: Collect what the starts of a wave measured
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - For playbook C(gpufleet.vllm.rollout). Takes what the commits of a wave returned, for C(vllm_server_learned) of the
    hosts that are still to be changed.
positional: _input, hostvars
options:
  _input:
    description:
      - The names of the hosts that were committed.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - C(hostvars), where each of them has the result of its commit.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Keep what the starts measured
  ansible.builtin.set_fact:
    learned: "{{ verdict.commit | gpufleet.vllm.vllm_rollout_learned(hostvars) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - The measurements, by what they depend on, each with the name of its C(host). Where several hosts measured the
      same, the last one counts.
  type: dict
"""

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import require_mapping
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout_hosts import learned


def vllm_rollout_learned(names: t.Any, hostvars: t.Any) -> dict[str, t.Any]:
    """What the starts of these hosts measured, each with the name of its host."""
    require_mapping("vllm_rollout_learned: hostvars", hostvars)
    return {key: {**found, "host": str(name)} for name in names for key, found in learned(hostvars[name]).items()}


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_rollout_learned": vllm_rollout_learned}
