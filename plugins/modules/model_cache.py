#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_cache
short_description: Download the complete weights of a model to a host
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Fetches a model from the Hugging Face Hub, or from a mirror, into the Hugging Face cache of the host, in the layout
    of that cache (blobs, snapshots, references). vLLM and every other tool find it there.
  - Only what a server reads is fetched. That is the weights that the index of the safetensors names, configuration,
    tokenizer, chat templates and the terms. Of C(openai/gpt-oss-120b) that is 65 of 196 GB.
  - An interrupted transfer resumes inside the file, also in a later run. A file takes its place only when its
    size and its sha256 (of a small file, its digest in git) are right. What was verified is remembered with size, time
    and number of each file, so that a run without changes only looks.
  - While it fetches, a line shows percent, rate and the time that is left. In a log file, and where several hosts
    share a terminal, that is a new line for every ten percent.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - gpufleet.vllm.home
attributes:
  check_mode:
    support: full
    details:
      - In check mode the module asks the source for the list of files. Nothing is hashed, so damage that only a hash
        shows is not predicted.
  diff_mode:
    support: full
  platform:
    platforms: posix
    support: full
options:
  model:
    description:
      - The id of the model on the Hub. Of a repository with GGUF files, the quantization follows, as vLLM writes it
        (C(org/model:Q4_K_M)).
    type: str
    required: true
  state:
    description:
      - V(present) downloads the complete model to the host.
      - V(absent) removes its folder from the cache, with all its revisions. A model that the record of a server on this
        host names is not removed, and the module fails.
    type: str
    choices: [present, absent]
    default: present
  huggingface_dir:
    description:
      - Absolute path of the Hugging Face cache on the host, as in M(gpufleet.vllm.vllm_container). The models
        are in its folder C(hub).
    type: path
    required: true
  revision:
    description:
      - A branch, a tag or a commit. A branch is looked up once; see O(update).
    type: str
    default: main
  format:
    description:
      - The way the weights are stored, where a repository has several. V(auto) takes the first that there is.
      - V(safetensors) is that of transformers, V(mistral) is C(consolidated*.safetensors), V(pytorch) is
        C(pytorch_model*.bin).
    type: str
    choices: [auto, safetensors, mistral, pytorch, gguf]
    default: auto
  custom_code:
    description:
      - Whether to fetch the Python files of the repository too. A server with C(trust_remote_code) executes them.
    type: bool
    default: false
  include:
    description:
      - Patterns of paths in the repository that are fetched as well, such as C(original/*).
    type: list
    elements: str
    default: []
  endpoint:
    description:
      - URL of the Hub or of a mirror that has its API, as E(HF_ENDPOINT). Proxy settings come from the environment.
    type: str
    default: https://huggingface.co
  hf_token_file:
    description:
      - File on the host that holds a token for O(endpoint). The token is sent to that server alone, never to another
        one that it redirects to, and only over TLS.
    type: path
  offline:
    description:
      - Download nothing. The module fails unless the model is complete. A cache that was copied there is verified by
        the names of its blobs, which are their digests.
    type: bool
    default: false
  update:
    description:
      - Whether to ask the source for the current commit of branch O(revision). Otherwise a complete model stays at
        its commit, without asking.
    type: bool
    default: false
  verify:
    description:
      - V(changed) hashes what is new, or looks different from when it was verified. V(full) hashes every file again.
    type: str
    choices: [changed, full]
    default: changed
  connections:
    description:
      - How many files to fetch or to hash at once.
    type: int
    default: 4
  bandwidth_limit:
    description:
      - Bytes per second for all connections together, such as V(100M). No limit by default.
    type: bytes
  disk_reserve:
    description:
      - Space that must stay free on the file system. A transfer that would leave less is not started.
    type: bytes
    default: 10G
  timeout:
    description:
      - Seconds without a byte from the server after which an attempt has failed.
    type: int
    default: 30
  attempts:
    description:
      - How many attempts in a row may bring nothing new of a file.
    type: int
    default: 5
  retry_wait:
    description:
      - The longest pause in seconds that a server may ask for (status 429, C(Retry-After)). When it asks for more, the
        module fails and says so.
    type: int
    default: 120
  validate_certs:
    description:
      - Whether to verify the TLS certificate of O(endpoint).
    type: bool
    default: true
  ca_path:
    description:
      - File on the host with the certificates of the authority that signed the one of O(endpoint).
    type: path
  peer:
    description:
      - For role P(gpufleet.vllm.model_cache#role) with C(peer_address). Fetch from other hosts of the same run, and
        pass on to others what comes.
    type: dict
    suboptions:
      address:
        description:
          - Where this host passes on what it has, as in M(gpufleet.vllm.model_cache_peer). Without it, nowhere.
        type: str
      port:
        description: The port.
        type: int
      token:
        description: What a host sends to another one.
        type: str
        required: true
      sources:
        description:
          - URLs of hosts to fetch from. The first one is used, and while it waits for a file itself, this host waits
            as well; the next one is used if that one fails. Without any, the files come from O(endpoint).
        type: list
        elements: str
        default: []
      head:
        description: The host that had the model, or fetches it from O(endpoint). For messages.
        type: str
      commit:
        description: The commit that O(revision) stands for, when another host has found it out.
        type: str
      files:
        description: The files of the model, as RV(model.files) of that host.
        type: list
        elements: dict
        default: []
      left_out_bytes:
        description: RV(model.left_out_bytes) of that host.
        type: int
        default: 0
  slice:
    description:
      - For the action plugin. Seconds after which a transfer is interrupted, with what came so far kept.
    type: float
    default: 0
  resume:
    description:
      - For the action plugin. RV(resume) of the slice before.
    type: dict
    default: {}
seealso:
  - module: gpufleet.vllm.model_cache_info
  - module: gpufleet.vllm.model_cache_peer
  - module: gpufleet.vllm.vllm_container
"""

EXAMPLES = r"""
- name: Have a model on the host
  gpufleet.vllm.model_cache:
    model: openai/gpt-oss-20b
    huggingface_dir: /opt/vllm/huggingface

- name: Have a gated model at a commit, from a mirror, with 50 MiB per second at most
  gpufleet.vllm.model_cache:
    model: google/gemma-3-27b-it
    revision: 005ad3404e59d6023443cb575daa05336842228a
    huggingface_dir: /opt/vllm/huggingface
    endpoint: https://hub.example.com
    hf_token_file: /etc/vllm/hf_token
    bandwidth_limit: 50M

- name: Verify that a copied cache is complete, without network access
  gpufleet.vllm.model_cache:
    model: openai/gpt-oss-20b
    huggingface_dir: /opt/vllm/huggingface
    offline: true
    verify: full

- name: Remove a model that no server uses
  gpufleet.vllm.model_cache:
    model: openai/gpt-oss-20b
    huggingface_dir: /opt/vllm/huggingface
    state: absent
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
    - >-
      fetch 24 files of openai/gpt-oss-120b from https://huggingface.co (60.8 GiB, of which 12.0 GiB are already on the
      host)
    - link 24 files in snapshot b5c939de8f754692c1647ca79fbf85e8c1e70f8a of openai/gpt-oss-120b
model:
  description: The model as it is now, or would be.
  returned: success, and O(state=present)
  type: dict
  contains:
    model:
      description: Its id, and its quantization.
      type: str
      sample: openai/gpt-oss-20b
    revision:
      description: The revision that was asked for.
      type: str
      sample: main
    commit:
      description: The commit that it stands for.
      type: str
      sample: 6cee5e81ee83917806bbde320786a8fb61efebee
    path:
      description: The directory of the snapshot.
      type: str
      sample: /opt/vllm/huggingface/hub/models--openai--gpt-oss-20b/snapshots/6cee5e81ee83917806bbde320786a8fb61efebee
    huggingface_dir:
      description: The real path of the cache.
      type: str
      sample: /opt/vllm/huggingface
    source:
      description: Where its list of files came from.
      type: str
      sample: https://huggingface.co
    files:
      description: Its files, each with C(path), C(size) and C(digest).
      type: list
      elements: dict
    bytes:
      description: The size of its files altogether.
      type: int
      sample: 13789294362
    left_out_bytes:
      description: The size of what the repository has besides.
      type: int
      sample: 27532000000
    whole_since:
      description: When it was first complete; empty before that.
      type: str
      sample: "2026-08-01T10:00:00Z"
fetched_bytes:
  description: The bytes that came from the source.
  returned: success
  type: int
  sample: 13789294362
removed_bytes:
  description: The size of what was removed.
  returned: success, and O(state=absent)
  type: int
  sample: 13789294362
elapsed:
  description: Seconds that it took, in all slices.
  returned: when something was done
  type: float
  sample: 131.5
progress:
  description:
    - How far a slice came, with C(done_bytes), C(total_bytes), C(percent), C(bytes_per_second) and C(seconds_left).
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
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.parameters import PARAMETERS
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.run import run


def main() -> None:
    module = AnsibleModule(argument_spec=PARAMETERS, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
