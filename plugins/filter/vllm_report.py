# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_report
short_description: Write the report on a fleet
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Renders the report of a playbook as Markdown, JSON or HTML. Hosts that need attention come first.
positional: _input, format
options:
  _input:
    description:
      - The result of filter P(gpufleet.vllm.vllm_rollout_report#filter).
    type: dict
    required: true
  format:
    description:
      - V(md) is Markdown, V(json) has everything, and V(html) is one self-contained page.
    type: str
    choices: [md, json, html]
    required: true
seealso:
  - plugin: gpufleet.vllm.vllm_rollout_report
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Write the report as a page
  ansible.builtin.copy:
    content: "{{ report | gpufleet.vllm.vllm_report('html') }}"
    dest: rollout.html
    mode: "0644"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description: The text.
  type: str
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain, require_mapping
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report import as_json, markdown
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report_page import page

FORMATS: dict[str, t.Callable[[dict[str, t.Any]], str]] = {"md": markdown, "json": as_json, "html": page}


def vllm_report(report: t.Any, kind: str) -> str:
    """A report as text."""
    require_mapping("vllm_report: the input", report)
    if kind not in FORMATS:
        raise AnsibleFilterError(f"vllm_report: format must be one of {', '.join(FORMATS)}; got {kind!r}.")
    return FORMATS[kind](plain(report))


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_report": vllm_report}
