# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: gpu_table
short_description: Show the GPUs of a host as a table
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Turns the facts of M(gpufleet.vllm.gpu_facts) into readable lines. Each GPU has its name, a bar of its memory, its
    use and its tenants; below them stand the servers of this collection on the host, and warnings.
  - An unreachable host gets a line that reports it.
positional: _input, name
options:
  _input:
    description:
      - The registered result of M(gpufleet.vllm.gpu_facts), or the facts C(ansible_facts.gpufleet).
    type: dict
    required: true
  name:
    description:
      - How to call the host.
    type: str
    default: localhost
seealso:
  - module: gpufleet.vllm.gpu_facts
  - plugin: gpufleet.vllm.gpu_status
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Gather facts about the GPUs
  gpufleet.vllm.gpu_facts:

- name: Show them
  ansible.builtin.debug:
    msg: "{{ ansible_facts.gpufleet | gpufleet.vllm.gpu_table(inventory_hostname) }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.table import facts_of, table


def gpu_table(result: t.Any, name: str = "localhost") -> list[str]:
    """The GPUs of many hosts as a table."""
    if not isinstance(result, t.Mapping):
        raise AnsibleFilterError(
            f"gpu_table needs the result of gpufleet.vllm.gpu_facts or its facts; got {type(result).__name__}."
        )
    return table(str(name), facts_of(result))


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"gpu_table": gpu_table}
