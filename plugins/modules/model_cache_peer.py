#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_cache_peer
short_description: Share models with other hosts during a run
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Starts a process on the host that gives the files of its Hugging Face cache to other hosts, over plain HTTP, and
    ends it. Role P(gpufleet.vllm.model_cache#role) uses it; M(gpufleet.vllm.model_cache) fetches from it.
  - The process only reads. It gives a file to anyone who has O(token) and knows the digest of the file. It does not
    list what the cache holds. It also shares the received part of a file that is still being fetched, so that a model
    goes through a chain of hosts in little more than the time of one copy.
  - The host that fetches verifies size and digest as with a file of the Hub. Digests do not come this way, but from the
    controller. Token and files can be read by anyone who listens on that network.
  - The process ends with O(state=stopped), and by itself when no run and no other host has used it for ten minutes.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - gpufleet.vllm.home
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  platform:
    platforms: posix
    support: full
options:
  state:
    description:
      - V(started) has the process run. One of an earlier run is ended first.
      - V(stopped) ends it.
    type: str
    choices: [started, stopped]
    default: started
  huggingface_dir:
    description:
      - Absolute path of the Hugging Face cache on the host, as in M(gpufleet.vllm.model_cache). It may be missing yet.
        Without it, only O(directories) are shared.
    type: path
  directories:
    description:
      - Models in plain directories of the host, each with C(model), C(directory), and if need be C(format),
        C(custom_code) and C(include), as in M(gpufleet.vllm.model_cache). Their files are shared as well.
      - Each file is hashed once, and again only when its size, time or number has changed.
    type: list
    elements: dict
    default: []
  address:
    description:
      - Address of this host on a network that the other hosts are on. Nothing listens at another one.
    type: str
    required: true
  port:
    description:
      - The port.
    type: int
    required: true
  token:
    description:
      - What another host has to send. A run takes a new one.
      - Required with O(state=started).
    type: str
seealso:
  - module: gpufleet.vllm.model_cache
"""

EXAMPLES = r"""
- name: Pass models on
  gpufleet.vllm.model_cache_peer:
    huggingface_dir: /opt/vllm/huggingface
    address: 10.0.0.11
    port: 8790
    token: "{{ token_of_this_run }}"

- name: Stop sharing models
  gpufleet.vllm.model_cache_peer:
    huggingface_dir: /opt/vllm/huggingface
    address: 10.0.0.11
    port: 8790
    state: stopped
"""

RETURN = r"""
reason:
  description: Why the module failed, as M(gpufleet.vllm.vllm_container) lists the reasons.
  returned: on failure
  type: str
  sample: port-in-use
url:
  description: Where other hosts ask.
  returned: success
  type: str
  sample: http://10.0.0.11:8790
models:
  description:
    - What the models in O(directories) consist of, each with C(model), C(commit), C(files) and C(left_out_bytes).
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.peers import PARAMETERS, run


def main() -> None:
    module = AnsibleModule(
        argument_spec=PARAMETERS, required_if=[("state", "started", ["token"])], supports_check_mode=True
    )
    try:
        result = run(module.params, module.check_mode)
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
