# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: select_gpus
short_description: Select GPUs of a host that are really free
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Takes the facts of M(gpufleet.vllm.gpu_facts) and returns the UUIDs of the GPUs that a server should use.
  - A GPU is taken only if it is healthy, its compute mode is C(Default), MIG is as asked, and O(min_free_mib) of its
    memory is free.
  - Of those that fit, GPUs without tenants are preferred, then less busy ones, then those with the most free memory.
    The same facts always give the same GPUs.
  - Several are taken from one NVLink group if there is one that is large enough, and from one NUMA node where no NVLink
    joins them.
  - When too few fit it fails, and the message has the reason for each GPU.
  - The facts are a snapshot. A server that starts minutes later has to check its GPUs again.
positional: _input
options:
  _input:
    description:
      - The facts, C(ansible_facts.gpufleet).
    type: dict
    required: true
  count:
    description:
      - How many GPUs.
    type: int
    default: 1
  min_free_mib:
    description:
      - How much memory must be free on each of them, in MiB.
    type: int
    default: 0
  min_free:
    description:
      - The same as O(min_free_mib), as C(vllm_server.gpus) may call it.
    type: int
  prefer:
    description:
      - What matters first when several are taken. V(nvlink) wants the fastest links, V(numa) wants one NUMA node,
        V(free) wants the freest GPUs wherever they are.
    type: str
    choices: [nvlink, numa, free]
    default: nvlink
  mig:
    description:
      - Select a MIG device instead of a whole GPU; the smallest that fits. Only one can be taken, because a process
        cannot use more.
    type: bool
    default: false
  server:
    description:
      - Name of the server that is going to be replaced. Its memory counts as free, and its GPUs are kept if they still
        fit, so that a second run selects the same ones.
    type: str
seealso:
  - module: gpufleet.vllm.gpu_facts
"""

EXAMPLES = r"""
- name: Gather facts about the GPUs
  gpufleet.vllm.gpu_facts:
    samples: 3

- name: Select one GPU with 60 GiB free on a shared host
  ansible.builtin.debug:
    msg: "{{ ansible_facts.gpufleet | gpufleet.vllm.select_gpus(min_free_mib=60 * 1024) }}"
# => ["GPU-00000004-0000-4000-8000-000000000004"]

- name: Select a pair for tensor parallelism
  ansible.builtin.debug:
    msg: "{{ ansible_facts.gpufleet | gpufleet.vllm.select_gpus(count=2, min_free_mib=70000, prefer='nvlink') }}"
"""

RETURN = r"""
_value:
  description: The UUIDs, in the order of the GPUs' indices.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.selection import PREFERENCES, Wish, select, whole


def select_gpus(
    facts: t.Any,
    count: t.Any = 1,
    min_free_mib: t.Any = 0,
    min_free: t.Any = None,
    prefer: str = "nvlink",
    mig: bool = False,
    server: str | None = None,
    **unknown: t.Any,
) -> list[str]:
    """The UUIDs of the GPUs of a host that are free for a server."""
    if unknown:
        known = "count, min_free_mib, min_free, prefer, mig, server"
        raise AnsibleFilterError(f"select_gpus: there is no {', '.join(sorted(unknown))}; there are {known}.")
    if not isinstance(facts, t.Mapping) or "gpus" not in facts:
        raise AnsibleFilterError(
            "select_gpus needs the facts that gpufleet.vllm.gpu_facts gathered, ansible_facts.gpufleet; "
            f"got {type(facts).__name__}."
        )
    if prefer not in PREFERENCES:
        raise AnsibleFilterError(f"select_gpus: prefer must be one of {', '.join(PREFERENCES)}; got {prefer!r}.")
    least_free = min_free_mib if min_free is None else min_free
    try:
        needed = whole("select_gpus: count", count, 1), whole("select_gpus: min_free_mib", least_free, 0)
        return select(facts, Wish(*needed, prefer, bool(mig), server))
    except VllmError as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"select_gpus": select_gpus}
