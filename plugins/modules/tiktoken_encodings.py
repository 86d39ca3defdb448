#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: tiktoken_encodings
short_description: Install the tiktoken encodings that gpt-oss needs on a host
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Puts C(o200k_base.tiktoken) and C(cl100k_base.tiktoken) into a directory, verified by sha256.
  - vLLM from 0.10.1 to 0.30 fetches them from the Internet at the end of its start-up when it serves gpt-oss, unless
    E(TIKTOKEN_ENCODINGS_BASE) names such a directory.
  - A file appears under its name only when it is complete, verified, and of the right owner and mode.
  - Files that are intact already are left alone, without any network access.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - gpufleet.vllm.home
attributes:
  check_mode:
    support: full
    details:
      - Whether a download would succeed is not tried.
  diff_mode:
    support: full
  platform:
    support: full
    platforms: posix
options:
  directory:
    description:
      - Absolute path of the directory on the host. It is created with mode V(0755) when missing; the mode of a
        directory that exists is left alone.
    type: path
    required: true
  encodings:
    description:
      - Which encodings.
    type: list
    elements: str
    choices: [o200k_base, cl100k_base]
    default: [o200k_base, cl100k_base]
  url:
    description:
      - URL of the directory that holds the files, at the publisher or on a mirror. Proxy settings come from the
        environment, credentials from C(~/.netrc).
    type: str
    default: https://openaipublic.blob.core.windows.net/encodings
  controller_dir:
    description:
      - Directory on the controller that holds the files, for hosts without Internet access. A relative path starts at
        the playbook. Files that the host lacks are verified there and then transferred.
      - Mutually exclusive with O(src).
    type: str
  src:
    description:
      - Directory on the host that holds the files, such as a network file system.
    type: path
  owner:
    description:
      - User that owns the files and the directories that are created.
    type: str
  group:
    description:
      - Group that owns the files and the directories that are created.
    type: str
  mode:
    description:
      - Mode of the files.
    type: raw
    default: "0644"
  timeout:
    description:
      - Seconds without a byte from the server after which an attempt has failed.
    type: int
    default: 30
  attempts:
    description:
      - How often to try a download that fails for a reason that may pass. A later attempt continues where the one
        before it ended, if the server can do that.
    type: int
    default: 3
  validate_certs:
    description:
      - Whether to verify the TLS certificate of O(url).
    type: bool
    default: true
seealso:
  - module: gpufleet.vllm.vllm_container
"""

EXAMPLES = r"""
- name: Put both encodings where vLLM finds them
  gpufleet.vllm.tiktoken_encodings:
    directory: /opt/vllm/encodings

- name: Take them from a mirror
  gpufleet.vllm.tiktoken_encodings:
    directory: /opt/vllm/encodings
    url: https://mirror.example.com/tiktoken

- name: Take them from the controller, for hosts without Internet access
  gpufleet.vllm.tiktoken_encodings:
    directory: /opt/vllm/encodings
    controller_dir: files/encodings
    owner: vllm
    group: vllm
"""

RETURN = r"""
reason:
  description: Why the module failed, as M(gpufleet.vllm.vllm_container) lists the reasons.
  returned: on failure
  type: str
  sample: download-failed
actions:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample:
    - create directory /opt/vllm/encodings
    - install /opt/vllm/encodings/o200k_base.tiktoken
needed:
  description: Names of the encodings that were not intact before.
  returned: success
  type: list
  elements: str
  sample: [o200k_base]
encodings:
  description: The encodings as they are now, or would be.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the encoding.
      type: str
      sample: o200k_base
    path:
      description: Path of its file.
      type: str
      sample: /opt/vllm/encodings/o200k_base.tiktoken
    sha256:
      description: Its verified sha256.
      type: str
      sample: 446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d
    size:
      description: Its size in bytes.
      type: int
      sample: 3613922
    source:
      description: Where it came from, or V(present) when it was intact already.
      type: str
      sample: https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.encodings import run
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.encodings import DEFAULT_NAMES, DEFAULT_URL, KNOWN


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "encodings": {"type": "list", "elements": "str", "choices": list(KNOWN), "default": list(DEFAULT_NAMES)},
            "url": {"type": "str", "default": DEFAULT_URL},
            "controller_dir": {"type": "str"},
            "src": {"type": "path"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "raw", "default": "0644"},
            "timeout": {"type": "int", "default": 30},
            "attempts": {"type": "int", "default": 3},
            "validate_certs": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )

    def give(path: str, now_at: str, diff: dict[str, t.Any] | None, **changes: str) -> bool:
        """Set owner, group, mode and security context of a path, at the place where it is now."""
        arguments = module.load_file_common_arguments({**module.params, **changes}, path=path)
        return bool(module.set_fs_attributes_if_different({**arguments, "path": now_at or path}, False, diff=diff))

    try:
        result = run(module.params, module.check_mode, give)
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
