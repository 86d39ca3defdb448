#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_container
short_description: Run a vLLM API server in a Docker container
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Creates, replaces, starts, stops and removes the container of one vLLM server.
  - What was asked for is recorded on the container as a label, and the next run compares with that record, never with
    the arguments of the running process. A container that was changed behind the module's back is therefore only
    noticed in its existence, image and running state; O(recreate=true) repairs the rest.
  - Everything that can be checked is checked before a running server is stopped. The replacement is created beside it
    and tried (GPU access, limits, mounts); if the replacement then fails to start, the old server is started again.
  - A replaced server is kept, stopped, as C(CONTAINER_NAME-superseded) until O(state=committed) removes it or
    O(state=reverted) puts it back. Role P(gpufleet.vllm.vllm_server#role) does either, depending on what
    M(gpufleet.vllm.vllm_health) found.
  - An image that is on the host is not pulled again, unless O(pull=always).
requirements:
  - Docker Engine 20.10 or later
  - Python packages C(docker) 5.0 or later and C(requests) on the host
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - gpufleet.vllm.server
attributes:
  check_mode:
    support: full
    details:
      - With O(pull=always) the registry is not asked, so a newer image is not predicted.
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
options:
  state:
    description:
      - V(present) has the container created as described, and V(started) also running. A server that runs goes on
        running with either.
      - V(stopped) stops it and V(absent) removes it. Neither needs more than O(name) or O(container_name), and neither
        touches weights, encodings or secrets.
      - V(committed) removes the server that was replaced, if the new one runs; V(reverted) puts it back in its place
        and starts it.
    type: str
    choices: [present, started, stopped, absent, committed, reverted]
    default: started
  pull:
    description:
      - V(missing) pulls the image when it is not on the host, V(always) asks the registry for a newer one first, and
        V(never) fails when it is not on the host.
    type: str
    choices: [missing, always, never]
    default: missing
  hf_token:
    description:
      - The Hugging Face token, to be written to O(hf_token_file). Never shown, logged or passed as an argument.
    type: str
  api_key:
    description:
      - The API key, to be written to O(api_key_file). Never shown, logged or passed as an argument.
    type: str
  adopt:
    description:
      - Replace a container of that name even when this collection did not create it.
    type: bool
    default: false
  recreate:
    description:
      - Replace the container even when nothing changed.
    type: bool
    default: false
  all:
    description:
      - With O(state=absent) or O(state=stopped), every server of this collection on the host instead of one.
    type: bool
    default: false
  purge:
    description:
      - With O(state=absent), also delete what is kept otherwise. V(weights) is O(huggingface_dir) and V(encodings) is
        O(encodings_dir), as recorded on the server. A directory that another server uses is kept.
    type: list
    elements: str
    choices: [weights, encodings]
    default: []
  docker_host:
    description:
      - Address of the Docker Engine. Without it, E(DOCKER_HOST) and then the local socket are used.
    type: str
seealso:
  - module: gpufleet.vllm.vllm_health
  - plugin: gpufleet.vllm.vllm_argv
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Serve gpt-oss-120b on a GB10 as NVIDIA's image runs it
  gpufleet.vllm.vllm_container:
    name: gpt-oss
    image: nvcr.io/nvidia/vllm:25.09-py3
    model: openai/gpt-oss-120b
    served_model_name: gpt-oss-120b
    huggingface_dir: ~/vllm/huggingface
    encodings_dir: ~/vllm/encodings
    engine:
      quantization: mxfp4
      gpu_memory_utilization: 0.85
      max_model_len: 32768

- name: See what a change would do, in words, without doing it
  gpufleet.vllm.vllm_container:
    name: gpt-oss
    image: nvcr.io/nvidia/vllm:25.10-py3
    model: openai/gpt-oss-120b
  check_mode: true
  register: change

- name: Offer it to the network, guarded by a key from the vault
  gpufleet.vllm.vllm_container:
    name: gpt-oss
    image: nvcr.io/nvidia/vllm:25.09-py3
    model: openai/gpt-oss-120b
    bind: 0.0.0.0
    api_key_file: /etc/gpufleet/api_key
    api_key: "{{ vault_api_key }}"

- name: Remove the server and the secrets that were written for it; weights and encodings stay
  gpufleet.vllm.vllm_container:
    name: gpt-oss
    state: absent

- name: Remove every server of this collection, and the weights they downloaded
  gpufleet.vllm.vllm_container:
    all: true
    state: absent
    purge: [weights]
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, a line for each step in order.
  returned: always
  type: list
  elements: str
  sample:
    - pull nvcr.io/nvidia/vllm:25.09-py3 (it is not on the host)
    - create vllm-gpt-oss
    - start vllm-gpt-oss
commands:
  description: The same steps as command lines. Secrets are only ever named by the file that holds them.
  returned: always
  type: list
  elements: str
needs:
  description:
    - What is missing on the host and another role of the collection provides. In check mode this is only reported;
      otherwise a server is not started without it.
  returned: always
  type: list
  elements: str
  sample: [encodings]
vllm_version:
  description: The version of vLLM that O(image) holds, or null when nothing tells it. Null with O(all=true).
  returned: always
  type: str
  sample: 0.10.1.1
server:
  description: The server as it is after the module ran. Null with O(all=true), where RV(servers) lists them.
  returned: always
  type: dict
  contains:
    container_name:
      description: Name of its container.
      type: str
    state:
      description: V(running), another state as Docker names it, or V(absent).
      type: str
    container_id:
      description: Id of the container, or null.
      type: str
    image:
      description: The image as it was asked for, or null.
      type: str
    image_id:
      description: Id of the image that the container uses, or null.
      type: str
    url:
      description: Where the server answers, seen from its host, or null.
      type: str
    served_model_name:
      description: The name that clients use, or null.
      type: str
    api_key_file:
      description: File on the host that holds the API key, or null.
      type: str
    fingerprint:
      description: Identifies what was asked for.
      type: str
    started_at:
      description: When the container last started, as Docker writes it, or null.
      type: str
    superseded:
      description: Whether the server it replaced is still kept.
      type: bool
  sample:
    container_name: vllm-gpt-oss
    state: running
    container_id: 0b2f6b5f8d1e
    image: nvcr.io/nvidia/vllm:25.09-py3
    image_id: sha256:7f1c0f5a
    url: http://127.0.0.1:8000
    served_model_name: gpt-oss-120b
    api_key_file: null
    fingerprint: v1:5bd2
    started_at: "2026-11-21T08:00:00.0Z"
    superseded: false
servers:
  description: The servers, each like RV(server).
  returned: with O(all=true)
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._container import PARAMETERS, run
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server import SERVER_PARAMETERS


def main() -> None:
    described: list[t.Any] = ["name", "model", "image"]
    module = AnsibleModule(
        argument_spec={**SERVER_PARAMETERS, **PARAMETERS},
        required_if=[("state", "started", described), ("state", "present", described)],
        required_one_of=[("name", "container_name", "all")],
        mutually_exclusive=[("name", "all"), ("container_name", "all")],
        required_by={"hf_token": "hf_token_file", "api_key": "api_key_file"},
        supports_check_mode=True,
    )
    try:
        result = run(module.params, check_mode=module.check_mode, warn=module.warn)
    except VllmError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
