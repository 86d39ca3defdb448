# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_outcome
short_description: Summarize a deployment in one result and one sentence
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Takes what M(gpufleet.vllm.vllm_server) returned and what the steps after it came to. The result is what role
    P(gpufleet.vllm.vllm_server#role) leaves as C(vllm_server_result).
  - It has the same keys however the deployment ended.
positional: _input, host, steps, check_mode
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
  steps:
    description:
      - What the steps after the change came to, by name. An entry may be missing, empty, or the result of a task that
        was skipped.
      - C(health) is the result of M(gpufleet.vllm.vllm_health), C(attempt) that of the last fallback, C(again) that of
        the start without the compile caches that the first one failed with, C(reverted), C(stopped) and C(committed)
        are those of these states, and C(waits) is that of M(gpufleet.vllm.vllm_health) in a loop over the servers that
        were restored.
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
    msg: "{{ (deployed | gpufleet.vllm.vllm_outcome(inventory_hostname, {'health': waited})).message }}"
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
from dataclasses import fields

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._outcome import Steps, outcome

NAMES = tuple(field.name for field in fields(Steps))


def vllm_outcome(applied: t.Any, host: str, steps: t.Any = None, check_mode: bool = False) -> dict[str, t.Any]:
    """What became of a server, as a sentence and a public fact."""
    given = {name: step or {} for name, step in plain(steps or {}).items()}
    unknown = sorted(set(given) - set(NAMES))
    if unknown:
        raise AnsibleFilterError(
            f"vllm_outcome: Unknown key {f'steps.{unknown[0]}'!r}. Valid keys: {', '.join(NAMES)}."
        )
    if not isinstance(applied, t.Mapping) or "server" not in applied:
        raise AnsibleFilterError("vllm_outcome: the input must be a result of gpufleet.vllm.vllm_server.")
    waits = given.pop("waits", {}).get("results") or ()
    return outcome(plain(applied), str(host), Steps(**given, waits=waits), bool(check_mode))


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_outcome": vllm_outcome}
