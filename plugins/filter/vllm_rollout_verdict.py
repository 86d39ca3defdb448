# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_rollout_verdict
short_description: Judge a wave of a rollout
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - For playbook C(gpufleet.vllm.rollout). Says of the wave that has just been changed which of its hosts failed, what
    is committed and what is restored, and whether the rollout continues.
positional: _input, hostvars, verdicts
options:
  _input:
    description:
      - The result of filter P(gpufleet.vllm.vllm_rollout#filter).
    type: dict
    required: true
  hostvars:
    description:
      - C(hostvars), where each host of the wave has what became of it.
    type: dict
    required: true
  verdicts:
    description:
      - The verdicts on the waves before.
    type: list
    elements: dict
    default: []
seealso:
  - plugin: gpufleet.vllm.vllm_rollout
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Judge the wave
  ansible.builtin.set_fact:
    verdicts: "{{ rollout | gpufleet.vllm.vllm_rollout_verdict(hostvars, verdicts) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - The verdicts on all waves so far, this one last.
    - C(stops) says whether the rollout ends here, and C(message) why. C(failed) has a sentence for each host that
      failed, C(commit) the hosts to commit, C(commit_later) those to commit once the rollout is over, and C(put_back)
      the state of role P(gpufleet.vllm.vllm_server#role) for each host to restore.
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain, require_mapping
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout import verdict
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout_hosts import changed


def vllm_rollout_verdict(rollout: t.Any, hostvars: t.Any, verdicts: t.Any = None) -> list[dict[str, t.Any]]:
    """What became of the waves, with the one after those that have a verdict."""
    require_mapping("vllm_rollout_verdict: the input", rollout)
    require_mapping("vllm_rollout_verdict: hostvars", hostvars)
    earlier = plain(verdicts or [])
    hosts = rollout["waves"][len(earlier)]["hosts"]
    return [*earlier, verdict(plain(rollout), earlier, {str(name): changed(hostvars[name]) for name in hosts})]


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_rollout_verdict": vllm_rollout_verdict}
