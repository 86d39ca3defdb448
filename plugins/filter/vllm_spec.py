# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vllm_spec
short_description: Make the spec of a server from the catalogue
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Takes what the catalogue (or the user) says about a model, on one class of hardware, puts the user's wishes over it
    and checks the result for the version of vLLM that will run. The result is what role
    P(gpufleet.vllm.vllm_server#role) takes as C(vllm_server).
  - Fails with the address and the remedy of everything that would end the start; nothing is contacted for that.
positional: _input, hardware_class
options:
  _input:
    description:
      - Name of a model, in O(models) or in the catalogue (C(playbooks/models) of this collection).
    type: str
    required: true
  hardware_class:
    description:
      - The class of the host's GPUs, as M(gpufleet.vllm.gpu_facts) names it, or V(cpu). It must be one of those that
        the model has settings for; each model of the catalogue has V(gb10), V(h100), V(h200), V(a100) and V(cpu).
    type: str
    required: true
  overrides:
    description:
      - Keys of C(vllm_server) that differ from the catalogue. Mappings are merged, anything else is replaced, and
        V(null) takes away what the catalogue says.
    type: dict
    default: {}
  models:
    description:
      - Models of the user, by name, in the format of the catalogue. They take precedence over the catalogue.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show what would run on a GB10
  ansible.builtin.debug:
    msg: "vllm serve {{ 'gpt-oss-120b' | gpufleet.vllm.vllm_spec('gb10') | gpufleet.vllm.vllm_argv | join(' ') }}"

- name: Serve a model of one's own
  ansible.builtin.include_role:
    name: gpufleet.vllm.vllm_server
  vars:
    vllm_server: "{{ 'phi' | gpufleet.vllm.vllm_spec('h100', overrides={'port': 8001}, models=my_models) }}"
    my_models:
      phi:
        description: A small model.
        server:
          model: microsoft/Phi-4-mini-instruct
          huggingface_dir: ~/vllm/huggingface
        hardware:
          h100:
            image: vllm/vllm-openai:v0.26.0
            engine:
              gpu_memory_utilization: 0.5
"""

RETURN = r"""
_value:
  description:
    - The keys of C(vllm_server). What the catalogue knows of the model comes along as C(architecture), C(load_seconds)
      and C(fallbacks).
  type: dict
"""

import functools
import json
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import resolve
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import catalogued
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain, require_mapping


def vllm_spec(model: t.Any, hardware_class: t.Any, overrides: t.Any = None, models: t.Any = None) -> dict[str, t.Any]:
    """The spec of a model on a hardware class, with what the user wants different."""
    require_mapping("vllm_spec: overrides", overrides, optional=True)
    require_mapping("vllm_spec: models", models, optional=True)
    own = {str(model): plain(models[model])} if models and model in models else {}
    try:
        # Ansible evaluates a variable wherever it is used.
        return t.cast(
            "dict[str, t.Any]", json.loads(_resolved(str(model), str(hardware_class), _text(overrides), _text(own)))
        )
    except VllmError as error:
        raise AnsibleFilterError(f"vllm_spec: {error}") from error


@functools.lru_cache(maxsize=256)
def _resolved(name: str, hardware_class: str, overrides: str, own: str) -> str:
    model = json.loads(own).get(name) or catalogued(name)
    return json.dumps(resolve(name, model, hardware_class, json.loads(overrides)))


def _text(value: t.Any) -> str:
    return json.dumps(plain(value or {}), sort_keys=True)


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"vllm_spec": vllm_spec}
