# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_rollout_report
short_description: Summarize a rollout
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - For playbook C(gpufleet.vllm.rollout). Takes what the waves left in the variables of the hosts, and says of each
    host what served before, what serves now and why.
positional: _input, hostvars, check_mode
options:
  _input:
    description:
      - The names of all hosts of the run.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - C(hostvars). The plan and the verdicts are those of C(localhost).
    type: dict
    required: true
  check_mode:
    description:
      - Whether this is check mode.
    type: bool
    default: false
seealso:
  - plugin: gpufleet.vllm.vllm_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Sum up the rollout
  ansible.builtin.set_fact:
    report: "{{ ansible_play_hosts_all | gpufleet.vllm.vllm_rollout_report(hostvars) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - C(message) is the sentence, C(lines) are those for a terminal, C(rows) has what is known of each host, and
      C(failed) a sentence for each host for which the run has to fail.
  type: dict
"""

import datetime
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import require_mapping
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report import failures, lines, of_rollout, report
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout_hosts import (
    changed,
    host,
    undone,
    value,
)


def vllm_rollout_report(names: t.Any, hostvars: t.Any, check_mode: bool = False) -> dict[str, t.Any]:
    """What a rollout came to."""
    require_mapping("vllm_rollout_report: hostvars", hostvars)
    plan, verdicts = (value(hostvars["localhost"], f"__rollout_{name}") for name in ("plan", "verdicts"))
    # Each is looked up once: that costs milliseconds.
    known = {str(name): hostvars[name] for name in names}
    hosts = {name: (host(name, one), changed(one), undone(one)) for name, one in known.items()}
    rows, message = of_rollout(plan, verdicts, hosts, bool(check_mode))
    waves = [
        {**wave, **(verdicts[number] if number < len(verdicts) else {})} for number, wave in enumerate(plan["waves"])
    ]
    when = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    found = report(f"Rollout of {_model(hosts.values())}", when, message, rows, waves)
    return {**found, "lines": lines(found), "failed": failures(found)}


def _model(hosts: t.Iterable[tuple[t.Any, ...]]) -> str:
    """What is rolled out, by the names that clients use."""
    names: dict[str, None] = {}
    for one, *_rest in hosts:
        spec = one.found.get("spec") or {}
        said = spec.get("served_model_name") or spec.get("name") or ""
        names[str(said[0] if isinstance(said, list) else said)] = None
    return ", ".join(filter(None, names)) or "a model"


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_rollout_report": vllm_rollout_report}
