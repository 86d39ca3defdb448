#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_cache_info
short_description: List the models in the Hugging Face caches of a host
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Lists the models in the Hugging Face caches of a host. Of each it returns the revisions, whether they are
    complete, since when, their size, and the servers that use them.
  - Nothing is hashed. A revision is verified when M(gpufleet.vllm.model_cache) verified every file of it and
    no file changed since; otherwise it is judged by the headers of its weights.
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
  huggingface_dirs:
    description:
      - Absolute paths of the caches to look into. By default those that the servers of this user and
        M(gpufleet.vllm.model_cache) use, and the one in the home of this user.
    type: list
    elements: path
    default: []
seealso:
  - module: gpufleet.vllm.model_cache
"""

EXAMPLES = r"""
- name: List the models of this host
  gpufleet.vllm.model_cache_info:
  register: cached

- name: Show them
  ansible.builtin.debug:
    msg: "{{ cached.lines }}"
"""

RETURN = r"""
reason:
  description: Why the module failed, as M(gpufleet.vllm.vllm_container) lists the reasons.
  returned: on failure
  type: str
  sample: record-unreadable
models:
  description: The models, one entry for each and cache.
  returned: success
  type: list
  elements: dict
  contains:
    model:
      description: Its id.
      type: str
      sample: openai/gpt-oss-20b
    huggingface_dir:
      description: The real path of the cache.
      type: str
      sample: /opt/vllm/huggingface
    revisions:
      description: Its revisions, each with C(revision), C(commit), C(whole), C(verified), C(since) and C(problems).
      type: list
      elements: dict
    whole:
      description: Whether it has a revision, and all revisions are complete.
      type: bool
    bytes:
      description: The size of everything in its folder.
      type: int
    age_days:
      description: Full days since its last file arrived.
      type: int
      sample: 13789294362
    servers:
      description: The servers of this user that load it from there.
      type: list
      elements: str
      sample: [gpt-oss]
lines:
  description: The same as readable lines.
  returned: success
  type: list
  elements: str
  sample:
    - >-
      openai/gpt-oss-20b at main: complete, verified since 2026-08-01T10:00:00Z, in /opt/vllm/huggingface, 12.8 GiB,
      used by gpt-oss
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.survey import lines, survey


def main() -> None:
    module = AnsibleModule(
        argument_spec={"huggingface_dirs": {"type": "list", "elements": "path", "default": []}},
        supports_check_mode=True,
    )
    try:
        models = survey(module.params["huggingface_dirs"])
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    module.exit_json(changed=False, models=printable(models), lines=printable(lines(models)))


if __name__ == "__main__":
    main()
