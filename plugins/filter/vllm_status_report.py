# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_status_report
short_description: Summarize what a fleet serves
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - For playbook C(gpufleet.vllm.status). Says of each host what it serves and, where a model is wanted, how the host
    differs from that. Hosts that need attention come first.
positional: _input, hostvars
options:
  _input:
    description:
      - The names of the hosts.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - C(hostvars), where each host has the result of M(gpufleet.vllm.gpu_facts) as C(__status_gathered), and where a
        model is wanted that of role P(gpufleet.vllm.vllm_server#role) with C(vllm_server_state=planned) as
        C(__status_planned).
    type: dict
    required: true
seealso:
  - plugin: gpufleet.vllm.vllm_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Sum up what is served
  ansible.builtin.set_fact:
    report: "{{ ansible_play_hosts_all | gpufleet.vllm.vllm_status_report(hostvars) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - C(message) is the sentence, C(lines) are those for a terminal, C(rows) has what is known of each host, and
      C(hosts) its facts as M(gpufleet.vllm.gpu_facts) found them.
  type: dict
"""

import datetime
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.table import facts_of
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import require_mapping
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report import lines, of_status, report
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout_hosts import host, value

GATHERED = "__status_gathered"
PLANNED = "__status_planned"
FAILURE = "__status_failure"


def vllm_status_report(names: t.Any, hostvars: t.Any) -> dict[str, t.Any]:
    """What a fleet serves."""
    require_mapping("vllm_status_report: hostvars", hostvars)
    # Each is looked up once: that costs milliseconds.
    known = {str(name): hostvars[name] for name in names}
    facts = {name: dict(facts_of(value(one, GATHERED))) for name, one in known.items()}
    looks = {name: host(name, one, PLANNED, FAILURE) if PLANNED in one else None for name, one in known.items()}
    rows, message = of_status({name: (one, looks[name]) for name, one in facts.items()})
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    found = report("What the fleet serves", when, message, rows)
    return {**found, "lines": lines(found), "hosts": facts}


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_status_report": vllm_status_report}
