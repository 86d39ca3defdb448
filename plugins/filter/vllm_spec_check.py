# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_spec_check
short_description: List what a server's version of vLLM rejects in its spec
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Checks flags, values and variables against what the version of vLLM accepts and does, and gives everything there is
    to say, the gravest first. Nothing is contacted.
  - The version is C(vllm_version) of the spec, or that in the name of its C(image). Without either, and for a
    version newer than the collection knows, nothing is called an error.
positional: _input
options:
  _input:
    description:
      - The server's spec, as role P(gpufleet.vllm.vllm_server#role) takes it. Only C(model) is required.
      - C(packages) may list what is installed next to vLLM into a virtual environment, as pip takes it.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Reject the spec before anything changes
  ansible.builtin.assert:
    that: found | length == 0
    fail_msg: "{{ found | map(attribute='message') | join('; ') }}"
  vars:
    found: "{{ server | gpufleet.vllm.vllm_spec_check | selectattr('severity', 'eq', 'error') }}"
    server:
      model: openai/gpt-oss-20b
      vllm_version: 0.10.2
      engine:
        kv_cache_dtype: bf16
# => 'bf16' is not a valid value
"""

RETURN = r"""
_value:
  description: What was found, the gravest first.
  type: list
  elements: dict
  contains:
    severity:
      description: V(error) ends the start, V(warning) has no effect or is deprecated, V(note) is good to know.
      type: str
    key:
      description: The address in the spec.
      type: str
      sample: engine.kv_cache_dtype
    message:
      description: What is wrong.
      type: str
      sample: "'bf16' is not a valid value"
    remedy:
      description: What to write instead.
      type: str
      sample: vLLM 0.11.0 and later accept 'bfloat16'; vLLM 0.10.2 accepts auto, fp8, fp8_e4m3, fp8_e5m2, fp8_inc
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import process
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.check import check, check_packages
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import require_mapping


def vllm_spec_check(spec: t.Any) -> list[dict[str, str]]:
    """What is wrong with a server for its version of vLLM, the gravest first."""
    require_mapping("vllm_spec_check: the server's spec", spec)
    try:
        server = process({key: value for key, value in spec.items() if key != "packages"})
        found = [*check_packages(map(str, spec.get("packages") or ()), server.vllm_version), *check(server)]
    except VllmError as error:
        raise AnsibleFilterError(f"vllm_spec_check: {error}") from error
    ranked = sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.severity))
    return [finding.to_dict() for finding in ranked]


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_spec_check": vllm_spec_check}
