# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: grpo_setup
short_description: Divide one host between a GRPO trainer and its server
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Takes the facts of M(gpufleet.vllm.gpu_facts), a server of the catalogue and the settings of the trainer, and
    returns what roles P(gpufleet.vllm.vllm_server#role) and P(gpufleet.vllm.vllm_venv#role) need for both, with the
    variables of the trainer.
  - Of two GPUs each gets one. From three on the server gets two, a pair with NVLink where there is one, and the trainer
    the others. GPUs are named by UUID on both sides.
  - Fails with one sentence when TRL does not go with the server's vLLM, when too few GPUs can be used, or when the
    server is none that a trainer can use; nothing is contacted for that.
positional: _input, trainer, catalogue
options:
  _input:
    description:
      - The facts, C(ansible_facts.gpufleet).
    type: dict
    required: true
  trainer:
    description:
      - The settings of the trainer, as role P(gpufleet.vllm.grpo_trainer#role) takes them in C(grpo_trainer).
    type: dict
    required: true
  catalogue:
    description:
      - The server, as role P(gpufleet.vllm.vllm_server#role) takes it in C(vllm_server_catalogue).
    type: dict
    required: true
  groups:
    description:
      - The groups of the host, C(group_names). The first that is a hardware class decides, where the catalogue's
        C(hardware_class) does not.
    type: list
    elements: str
    default: []
  written:
    description:
      - The environment file that is on the host, in Base64 as M(ansible.builtin.slurp) returns it. A trainer that is
        to have some of the GPUs keeps those that it has.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Show who would get which GPUs
  ansible.builtin.debug:
    msg: "{{ (ansible_facts.gpufleet | gpufleet.vllm.grpo_setup({}, {'model': 'gpt-oss-20b-rollout'})).gpus }}"
# => {"server": ["GPU-00000000-0000-4000-8000-000000000000"], "trainer": ["GPU-00000001-0000-4000-8000-000000000001"]}
"""

RETURN = r"""
_value:
  description: What both sides come to.
  type: dict
  contains:
    catalogue:
      description: The server with the GPUs that it gets, for C(vllm_server_catalogue).
      type: dict
    venv:
      description: The environment of the trainer, for C(vllm_venv).
      type: dict
    environment:
      description: The variables of the trainer, by name.
      type: dict
    directory:
      description: The directory for the files that hold them.
      type: str
    gpus:
      description: The UUIDs of the C(server) and of the C(trainer).
      type: dict
    server:
      description: The server's C(name), C(url) and C(served_model_name), and whether C(weights) can get there.
      type: dict
    trl_version:
      description: The version of TRL.
      type: str
    vllm_version:
      description: The version of vLLM, on both sides.
      type: str
    warnings:
      description: Notes about the versions.
      type: list
      elements: str
"""

import base64
import typing as t

from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.setup import compose, described
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import catalogued
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._description import known_class, model_name
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain, require_mapping

# What else a server may be described by; role grpo_trainer deploys one of a catalogue.
OF_THE_CATALOGUE = ("model", "hardware_class", "image", "overrides", "models")


def grpo_setup(
    facts: t.Any, trainer: t.Any, catalogue: t.Any, groups: t.Sequence[str] = (), written: str = ""
) -> dict[str, t.Any]:
    """What a trainer and its server on a host with these facts come to."""
    for name, value in (("the facts", facts), ("trainer", trainer), ("catalogue", catalogue)):
        require_mapping(f"grpo_setup: {name}", value)
    try:
        server = {key: plain(catalogue.get(key)) for key in OF_THE_CATALOGUE}
        known = {"group_names": list(groups), "ansible_facts": {"gpufleet": facts}}
        server["hardware_class"] = known_class(server["hardware_class"], known)
        name = model_name(server["model"] or "", server["hardware_class"])
        own, image = server["models"] or {}, {"image": server["image"]} if server["image"] else {}
        overrides = {**image, **(server["overrides"] or {})}
        spec = described(name, own.get(name) or catalogued(name), server["hardware_class"], overrides)
        given = {key: value for key, value in plain(trainer).items() if value is not None}
        said = {key: value for key, value in server.items() if value}
        setup = compose(spec, said, plain(facts), given, base64.b64decode(written).decode("utf-8", "replace"))
    except VllmError as error:
        raise AnsibleFilterError(str(error)) from error
    for warning in setup.warnings:
        Display().warning(warning)
    return setup.to_dict()


class FilterModule:
    """Offers the filter to Ansible."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """The filter by its name."""
        return {"grpo_setup": grpo_setup}
