#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: grpo_environment
short_description: Write the variables by which a GRPO trainer finds its server
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Writes two files into one directory. C(environment) has a variable a line, for C(EnvironmentFile=) of systemd and
    C(--env-file) of Docker. C(profile.sh) exports the same variables and puts a virtual environment first in E(PATH),
    for shells that read it with C(.).
  - Both can be read by everybody on the host, so no secret belongs there.
  - A file that this module did not write is never overwritten or removed.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - gpufleet.vllm.home
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: posix
options:
  path:
    description:
      - Directory for the files, absolute. It is created when missing, and removed with the files when it is empty then.
    type: path
    required: true
  environment:
    description:
      - The variables, by name, as filter P(gpufleet.vllm.grpo_setup#filter) returns them.
    type: dict
    default: {}
  venv:
    description:
      - Directory of the virtual environment to train with. Required unless O(state=absent).
    type: path
  state:
    description:
      - V(present) writes the files, V(absent) removes them.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: gpufleet.vllm.grpo_check
"""

EXAMPLES = r"""
- name: Write the environment of the trainer
  gpufleet.vllm.grpo_environment:
    path: /opt/vllm/grpo
    venv: /opt/vllm/venvs/vllm-0.26.0-1f0c5a8e7b21
    environment:
      VLLM_SERVER_HOST: 127.0.0.1
      VLLM_SERVER_PORT: "8000"
"""

RETURN = r"""
reason:
  description: Why the module failed, as M(gpufleet.vllm.vllm_container) lists the reasons.
  returned: on failure
  type: str
  sample: unmanaged
actions:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: [write /opt/vllm/grpo/environment]
environment_file:
  description: The file with a variable a line.
  returned: success
  type: str
  sample: /opt/vllm/grpo/environment
profile:
  description: The file for shells.
  returned: success
  type: str
  sample: /opt/vllm/grpo/profile.sh
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.files import PARAMETERS, REQUIRED_IF, run
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable


def main() -> None:
    module = AnsibleModule(argument_spec=PARAMETERS, required_if=REQUIRED_IF, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
