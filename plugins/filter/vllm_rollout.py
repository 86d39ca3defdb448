# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_rollout
short_description: Plan a rollout in waves
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - For playbook C(gpufleet.vllm.rollout). Takes the hosts of a run, each of which has looked at its server, and says
    which of them are changed in which wave, which cannot be changed, and which are right already.
positional: _input, hostvars, settings
options:
  _input:
    description:
      - The names of the hosts, in the order in which they are to be changed.
    type: list
    elements: str
    required: true
  hostvars:
    description:
      - C(hostvars), where each host has the result of role P(gpufleet.vllm.vllm_server#role) with
        C(vllm_server_state=planned) as C(__rollout_planned).
    type: dict
    required: true
  settings:
    description:
      - The variable C(vllm_rollout), as docs/fleet.md describes it.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Decide which host is changed in which wave
  ansible.builtin.set_fact:
    rollout: "{{ ansible_play_hosts_all | gpufleet.vllm.vllm_rollout(hostvars, {'waves': [1, '25%']}) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description:
    - C(ok) says whether the rollout may begin, and C(message) why. C(waves) have C(name), C(hosts) and C(canary);
      C(pattern) and C(serial) are those of the play that changes the hosts. C(unchanged) are the hosts that are right,
      C(refused) has C(reason) and C(message) for each that cannot be changed, and C(table) shows all of it.
    - C(problem) says which of the settings is not valid, and is empty otherwise.
  type: dict
"""

import os
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain, require_mapping
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout import NOBODY, plan, settings_of
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout_hosts import host


def vllm_rollout(names: t.Any, hostvars: t.Any, settings: t.Any = None) -> dict[str, t.Any]:
    """Who is changed when.

    Settings that are not valid are no error of the filter: Ansible would print three times where it stands.
    """
    require_mapping("vllm_rollout: hostvars", hostvars)
    try:
        given = plain(settings or {})
        said = settings_of(given)
        for key in ("drain_tasks", "undrain_tasks"):
            _require_file(key, given.get(key))
        return {**plan([host(str(name), hostvars[name]) for name in names], said), "problem": ""}
    except VllmError as error:
        return {
            "ok": False,
            "message": str(error),
            "problem": str(error),
            "pattern": NOBODY,
            "serial": [1],
            "waves": [],
        }


def _require_file(key: str, name: str | None) -> None:
    """Refuse a file that is not there: Ansible gives up a host where it cannot be included."""
    path = os.path.join(os.environ.get("PWD", ""), os.path.expanduser(name or "."))
    if name and not os.path.isfile(path):
        raise VllmError(
            f"vllm_rollout.{key}: {path} is not a file. A relative path is one from where the playbook is started."
        )


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_rollout": vllm_rollout}
