# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_outcome
short_description: Sum up a deployment in one result and one sentence
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Takes what M(gpufleet.vllm.vllm_server) returned and what the steps after it came to. The result is what role
    P(gpufleet.vllm.vllm_server#role) leaves as C(vllm_server_result).
  - It has the same keys however the deployment ended.
positional: _input, host
options:
  _input:
    description:
      - The result of M(gpufleet.vllm.vllm_server) with C(state=started).
    type: dict
    required: true
  host:
    description:
      - Name of the host, for the sentence.
    type: str
    required: true
  health:
    description:
      - The result of M(gpufleet.vllm.vllm_health). Empty when the server was not verified.
    type: dict
    default: {}
  attempt:
    description:
      - The result of the last fallback that was tried.
    type: dict
    default: {}
  reverted:
    description:
      - The result of C(state=reverted).
    type: dict
    default: {}
  stopped:
    description:
      - The result of C(state=stopped).
    type: dict
    default: {}
  committed:
    description:
      - The result of C(state=committed).
    type: dict
    default: {}
  waits:
    description:
      - The result of M(gpufleet.vllm.vllm_health) in a loop over the servers that were restored.
    type: dict
    default: {}
  check_mode:
    description:
      - Whether this is check mode.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Show what a deployment came to
  ansible.builtin.debug:
    msg: "{{ (deployed | gpufleet.vllm.vllm_outcome(inventory_hostname, health=waited)).message }}"
# => gpt-oss-20b answers at http://127.0.0.1:8000 on gb10-1: "Hello! How can I help you today?"
"""

RETURN = r"""
_value:
  description:
    - What the role leaves as C(vllm_server_result). C(changed), C(failed), C(server), C(health), C(fallback),
      C(actions), C(message) and C(reason).
  type: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._outcome import Steps, outcome
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._values import plain

STEPS = ("health", "attempt", "reverted", "stopped", "committed")


def vllm_outcome(
    applied: t.Any, host: str, waits: t.Any = None, check_mode: bool = False, **steps: t.Any
) -> dict[str, t.Any]:
    unknown = sorted(set(steps) - set(STEPS))
    if unknown:
        raise AnsibleFilterError(f"vllm_outcome: Unknown option {unknown[0]!r}. Valid options: {', '.join(STEPS)}.")
    if not isinstance(applied, t.Mapping) or "server" not in applied:
        raise AnsibleFilterError("vllm_outcome: the input must be a result of gpufleet.vllm.vllm_server.")
    given = {name: plain(step or {}) for name, step in steps.items()}
    results = plain((waits or {}).get("results") or ())
    return outcome(plain(applied), str(host), Steps(**given, waits=results), bool(check_mode))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"vllm_outcome": vllm_outcome}
