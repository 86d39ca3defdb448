#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_cache_image
short_description: Provide a container image on a host, from a registry, a mirror or another host
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Provides an image on the engine of a host under the name that a server uses, so that the server starts without
    a registry. An image that is already there costs one check.
  - Pulls it from its registry or from O(mirror), or fetches it from another host of the same run. That host exports the
    image to an archive, which goes from host to host as the files of a model do, and each engine imports it. See role
    P(gpufleet.vllm.model_cache#role) with C(peer_address).
  - Verifies the size and the sha256 of an archive, and its content, before the engine imports it. It must contain
    exactly one image, with the id that it has on the first host, and no name. The name is set last, when the engine has
    that id, so an interrupted run leaves no image under that name.
  - Engines record the digest only of images that they pulled themselves. A pinned image (C(repository@sha256:...)) from
    another host gets the tag C(repository:sha256-...), by which M(gpufleet.vllm.vllm_container) finds it.
  - Meanwhile, a line shows percent, rate and remaining time, as with M(gpufleet.vllm.model_cache).
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - gpufleet.vllm.home
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    platforms: posix
    support: full
requirements:
  - Docker SDK for Python (C(python3-docker)), where an image is pulled, saved or loaded
options:
  image:
    description:
      - The name of the image, with a tag or a digest, as C(image) of a server.
    type: str
    required: true
  huggingface_dir:
    description:
      - Absolute path of the Hugging Face cache on the host, as in M(gpufleet.vllm.model_cache). An archive on its way
        is in its folder C(hub/.images) until the run ends.
    type: path
    required: true
  mirror:
    description:
      - A registry to use instead of the one in the name, or a path in one, such as
        C(registry.example.com:5000/nvcr). C(nvcr.io/nvidia/vllm) is then pulled as C(MIRROR/nvidia/vllm), and gets its
        own name afterwards. Log in with C(docker login) on the host.
    type: str
  docker_host:
    description:
      - The Unix socket of the engine, as in M(gpufleet.vllm.vllm_container).
    type: str
  offline:
    description:
      - Pull nothing. The module fails unless the host has the image, or another host shares it.
    type: bool
    default: false
  update:
    description:
      - Whether to ask the registry for a newer image of that name. Otherwise an image that the host has is kept.
    type: bool
    default: false
  bandwidth_limit:
    description:
      - Bytes per second from another host, such as V(100M). It does not limit pulls, which the engine makes.
    type: bytes
  disk_reserve:
    description:
      - Space that must stay free on the file systems of O(huggingface_dir) and of the engine, in addition to an archive
        and its image. The size of an image is not known before it is pulled.
    type: bytes
    default: 10G
  timeout:
    description:
      - Seconds without a byte from another host after which an attempt has failed.
    type: int
    default: 30
  attempts:
    description:
      - How many attempts in a row may bring nothing new.
    type: int
    default: 5
  peer:
    description:
      - For role P(gpufleet.vllm.model_cache#role) with C(peer_address). Fetch from other hosts of the same run, and
        pass on to others what comes.
    type: dict
    suboptions:
      address:
        description: Where this host passes on what it has, as in M(gpufleet.vllm.model_cache_peer).
        type: str
        required: true
      port:
        description: The port.
        type: int
        required: true
      token:
        description: What a host sends to another one.
        type: str
        required: true
      sources:
        description: URLs of hosts to fetch from, the next one first. Without any, the image is pulled.
        type: list
        elements: str
        default: []
      head:
        description: The host that had the image, or pulls it. For messages.
        type: str
      image:
        description: RV(image) of that host.
        type: dict
        default: {}
      others:
        description:
          - The ids that other hosts have under this name, empty for none. When one differs, an archive is written.
        type: list
        elements: str
        default: []
  slice:
    description:
      - For the action plugin. Seconds after which the call ends, while the work continues.
    type: float
    default: 0
  resume:
    description:
      - For the action plugin. RV(resume) of the slice before.
    type: dict
    default: {}
seealso:
  - module: gpufleet.vllm.model_cache
  - module: gpufleet.vllm.model_cache_peer
  - module: gpufleet.vllm.vllm_container
"""

EXAMPLES = r"""
- name: Have the image of a server on the host
  gpufleet.vllm.model_cache_image:
    image: nvcr.io/nvidia/vllm:25.09-py3
    huggingface_dir: /opt/vllm/huggingface

- name: Have it from a mirror
  gpufleet.vllm.model_cache_image:
    image: nvcr.io/nvidia/vllm:25.09-py3
    mirror: registry.example.com:5000
    huggingface_dir: /opt/vllm/huggingface
"""

RETURN = r"""
reason:
  description: Why the module failed, as M(gpufleet.vllm.vllm_container) lists the reasons.
  returned: on failure
  type: str
  sample: pull-failed
actions:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample:
    - fetch nvcr.io/nvidia/vllm:25.09-py3 from http://10.0.0.11:8790 (21.3 GiB) and load it
    - have nvcr.io/nvidia/vllm:25.09-py3 stand for sha256:0a1b2c3d4e5f
image:
  description: The image as it is now, null if it is not there yet.
  returned: success
  type: dict
  contains:
    image:
      description: Its name.
      type: str
      sample: nvcr.io/nvidia/vllm:25.09-py3
    id:
      description: Its id on this engine.
      type: str
      sample: sha256:0a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9
    size:
      description: Its size there, in bytes.
      type: int
      sample: 22870000000
    ids:
      description: Its ids on engines of any kind.
      returned: when an archive of it was written
      type: list
      elements: str
    archive:
      description: The archive that other hosts fetch, with C(size) and C(digest).
      returned: when one was written
      type: dict
fetched_bytes:
  description: The bytes that came from the registry or from another host.
  returned: success
  type: int
  sample: 22871000000
elapsed:
  description: Seconds that it took, in all slices.
  returned: when something was done
  type: float
  sample: 131.5
progress:
  description: How far it is, as of M(gpufleet.vllm.model_cache), and what is done, C(doing).
  returned: when RV(finished) is false
  type: dict
finished:
  description: For the action plugin. Whether all is done; false only with O(slice).
  returned: success
  type: bool
resume:
  description: For the action plugin. What the next slice needs to know.
  returned: when RV(finished) is false
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._images.run import PARAMETERS, run


def main() -> None:
    module = AnsibleModule(argument_spec=PARAMETERS, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
