#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: grpo_check
short_description: Check that TRL can train against a vLLM server
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Asks a server what the client of TRL 1.11 and later will ask it, from the host that trains, and fails with one
    sentence that says what is missing. It looks at health, name and version, C(/server_info) (development endpoints,
    weight-transfer engine, log-probabilities), the endpoints that take weights, and a completion with token ids.
  - Changes nothing. The endpoints that take weights are requested with a method that they reject. That weights arrive
    only a trainer can show.
  - No answer is compared with an expected one, since the answers change with every update of the weights.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    support: full
    platforms: posix
options:
  url:
    description:
      - Address of the server, as the trainer reaches it.
    type: str
    default: http://127.0.0.1:8000
  served_model_name:
    description:
      - The name that the server has to list first, which is the one that TRL uses.
    type: str
  vllm_version:
    description:
      - The version of vLLM in the trainer's environment. The server has to run the same one.
    type: str
  weights:
    description:
      - Whether the server has to have a weight-transfer engine. One without GPUs cannot have any.
    type: bool
    default: true
  request_timeout:
    description:
      - Seconds that one request may take.
    type: int
    default: 120
seealso:
  - module: gpufleet.vllm.vllm_health
"""

EXAMPLES = r"""
- name: Check that the server takes what the trainer sends
  gpufleet.vllm.grpo_check:
    url: http://127.0.0.1:8000
    served_model_name: gpt-oss-20b
    vllm_version: 0.26.0
"""

RETURN = r"""
msg:
  description: One sentence that says what is missing first.
  returned: on failure
  type: str
  sample: >-
    TRL cannot train against http://127.0.0.1:8000: it has no weight-transfer engine: set engine.weight_transfer_config
    of the server to {backend: nccl}.
missing:
  description: Everything that is missing, a sentence each; empty when the server is ready.
  returned: always
  type: list
  elements: str
server:
  description: What the server reports about itself.
  returned: always
  type: dict
  contains:
    vllm_version:
      description: Its version of vLLM.
      type: str
      sample: 0.26.0
    served_model_name:
      description: The name that TRL will use.
      type: str
      sample: gpt-oss-20b
    world_size:
      description: Its number of workers. The group over which weights travel has one rank more, the trainer.
      type: int
      sample: 1
    weight_transfer:
      description: The backend of its weight-transfer engine, or null.
      type: str
      sample: nccl
    completion:
      description: What it generated.
      type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.check import OPTIONS, run
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable


def main() -> None:
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    try:
        result = run(module.params)
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    leave_with = module.fail_json if result["missing"] else module.exit_json
    leave_with(**printable(result))


if __name__ == "__main__":
    main()
