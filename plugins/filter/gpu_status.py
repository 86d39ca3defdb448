# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_status
short_description: Extract the GPU facts from a result, also for an unreachable host
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Returns the facts in a registered result of M(gpufleet.vllm.gpu_facts).
  - For a host that could not be reached, or where the module could not run, it returns facts with the C(status)
    V(unreachable) or V(failed), the reason as C(message), and no GPUs. So a report over many hosts has an entry for
    each.
options:
  _input:
    description:
      - The registered result.
    type: dict
    required: true
seealso:
  - module: gpufleet.vllm.gpu_facts
  - plugin: gpufleet.vllm.gpu_table
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Gather facts about the GPUs of hosts that may be down
  gpufleet.vllm.gpu_facts:
  register: gathered
  ignore_unreachable: true

- name: Count what is usable
  ansible.builtin.debug:
    msg: "{{ (gathered | gpufleet.vllm.gpu_status).gpus | selectattr('health', 'eq', 'ok') | length }}"
"""

RETURN = r"""
_value:
  description: The facts as M(gpufleet.vllm.gpu_facts) documents them, or C(status), C(message) and an empty C(gpus).
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.table import facts_of


def gpu_status(result: t.Any) -> dict[str, t.Any]:
    """The facts in a result of gpu_facts."""
    if not isinstance(result, t.Mapping):
        raise AnsibleFilterError(f"gpu_status needs a result of gpufleet.vllm.gpu_facts; got {type(result).__name__}.")
    return dict(facts_of(result))


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"gpu_status": gpu_status}
