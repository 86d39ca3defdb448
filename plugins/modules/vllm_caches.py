#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# With plugins/action/vllm_caches.py, which brings the archive to the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_caches
short_description: Pack what a vLLM server has compiled, for other hosts of the run
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Packs the compile caches of a healthy server (vLLM, Inductor, Triton, FlashInfer, CUDA) into an archive and brings
    it to the controller, for C(vllm_server_caches) of role P(gpufleet.vllm.vllm_server#role) on other hosts. A new
    server there starts with them, and has nothing to compile. Playbook C(gpufleet.vllm.rollout) uses it.
  - The archive is kept in the temporary directory of the run on the controller, and goes with it.
  - Only regular files and directories are packed, without locks and temporary files. If the server is still writing to
    its caches, the module waits, and then fails. It also fails if there is nothing to pack, or more than 2 GiB.
  - Nothing is changed on the host.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - ansible.builtin.action_common_attributes.flow
attributes:
  action:
    support: full
  async:
    support: none
  bypass_host_loop:
    support: none
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    support: full
    platforms: linux
options:
  container_name:
    description:
      - The server, by the name of its container or unit.
    type: str
    required: true
  container_id:
    description:
      - Pack nothing unless the server has this id, as RV(gpufleet.vllm.vllm_server#module:server) has it.
    type: str
  backend:
    description:
      - What runs the server.
    type: str
    choices: [container, systemd]
    default: container
  docker_host:
    description:
      - The Unix socket of the engine, such as V(unix:///run/user/1000/docker.sock). Without it, E(DOCKER_HOST) of the
        host, else the usual one.
    type: str
  archive:
    description:
      - Where the archive is written on the host. The action plugin sets it, to a file in the temporary directory of the
        task; anything else is ignored.
    type: path
seealso:
  - module: gpufleet.vllm.vllm_server
"""

EXAMPLES = r"""
- name: Pack what the server has compiled
  gpufleet.vllm.vllm_caches:
    container_name: vllm-gpt-oss
  register: packed

- name: Deploy the same server on another host, with its caches
  ansible.builtin.include_role:
    name: gpufleet.vllm.vllm_server
  vars:
    vllm_server_caches: "{{ hostvars['canary'].packed }}"
"""

RETURN = r"""
reason:
  description: Why the module failed, as M(gpufleet.vllm.vllm_container) lists the reasons.
  returned: on failure
  type: str
  sample: backend-failed
archive:
  description: The archive, on the controller.
  returned: success
  type: str
sha256:
  description: Its digest. The other host unpacks nothing that has another one.
  returned: success
  type: str
size:
  description: Its size in bytes.
  returned: success
  type: int
content_bytes:
  description: The size of what is in it, unpacked.
  returned: success
  type: int
files:
  description: How many files and directories are in it.
  returned: success
  type: int
left_out:
  description: Which of the caches are not in it, because they have links in them.
  returned: success
  type: list
  elements: str
host:
  description: The host that packed it, by its name in the inventory.
  returned: success
  type: str
owner:
  description: As whom Ansible connects and works there. They are used only where both are the same.
  returned: success
  type: list
  elements: str
settings:
  description: Identifies image or environment, model, GPUs, settings and variables of the server.
  returned: success
  type: str
processor:
  description: Identifies the kind of processor.
  returned: success
  type: str
"""

import functools

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._caches.run import PARAMETERS, run
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.job import look_at_gpus
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable


def main() -> None:
    module = AnsibleModule(argument_spec=PARAMETERS, supports_check_mode=True)
    gpus = functools.partial(look_at_gpus, docker_host=module.params["docker_host"])
    try:
        result = run(module.params, gpus)
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
