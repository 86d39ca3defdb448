#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The documentation of plugins/action/vllm_server.py, which does the work on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_server
short_description: Deploy a vLLM server from its description or from the catalogue
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Resolves the description of a server on the controller, and makes one call of the module of its backend, such as
    M(gpufleet.vllm.vllm_container) or M(gpufleet.vllm.vllm_service), with it.
  - This is one step of a deployment. Role P(gpufleet.vllm.vllm_server#role) performs all steps, verifies the server,
    and rolls back if it does not become healthy.
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
    support: full
  platform:
    support: full
    platforms: linux
options:
  state:
    description:
      - What to do, as O(gpufleet.vllm.vllm_container#module:state) has it.
    type: str
    choices: [present, started, stopped, absent, committed, reverted]
    default: started
  server:
    description:
      - The server, as role P(gpufleet.vllm.vllm_server#role) takes it in C(vllm_server). Not used when O(model) is set.
    type: dict
  model:
    description:
      - The name of a model, in O(models) or in the catalogue.
      - Any other name with a slash is the id of a model on the Hugging Face Hub, or a directory on the
        host. Settings for it are chosen from its own files, for the class of the host. They are recorded with the
        server, and kept until the model, its O(revision), the class or the settings change.
      - A mapping gives a name for each hardware class; C(default) is for the classes that it does not list.
    type: raw
  hardware_class:
    description:
      - The class of the host's GPUs. Without it, the first group of the host that is a class decides, and otherwise
        what M(gpufleet.vllm.gpu_facts) found or finds.
    type: str
  image:
    description:
      - The image to use instead of the one that the catalogue has.
    type: str
  backend:
    description:
      - The backend of the server. A C(backend) in O(overrides) takes precedence.
      - If it is set neither there nor here, an existing server keeps its backend. A new one gets
        what its model says, else what is usual for the class of the host, V(systemd) for V(h100), V(h200) and V(a100)
        and V(container) for all others. For O(server), it follows from C(image) or C(venv).
    type: str
  huggingface_dir:
    description:
      - The C(huggingface_dir) of role P(gpufleet.vllm.model_cache#role) on the host. It applies to O(model), unless
        O(overrides) has another one.
    type: str
  overrides:
    description:
      - Keys of O(server) that differ from the catalogue, as filter P(gpufleet.vllm.vllm_spec#filter) takes them. An
        image in here takes precedence over O(image).
    type: dict
    default: {}
  models:
    description:
      - Models of your own, by name, in the format of the catalogue. They take precedence over the catalogue.
    type: dict
    default: {}
  context:
    description:
      - How many tokens a request may have, where O(model) is an id or a directory. Without it, as many as fit.
    type: int
  concurrency:
    description:
      - How many requests of that length are to fit at once, where O(model) is an id or a directory. Without it, 4 (2
        without a GPU).
    type: int
  revision:
    description:
      - The branch, tag or commit of O(model) to serve, where that is an id. It becomes C(engine.revision).
    type: str
  hub:
    description:
      - Where the controller reads the files that describe O(model), if the host does not have it complete.
      - The keys are C(endpoint), the Hub or a mirror that has its API (otherwise C(HF_ENDPOINT) of the controller, else
        the public Hub), C(offline), to disable access (otherwise C(HF_HUB_OFFLINE) of the controller), C(timeout) in
        seconds, C(ca_path) and C(validate_certs). The token is only sent over a connection that is encrypted, or to the
        controller itself.
    type: dict
    default: {}
  hf_token:
    description:
      - The Hugging Face token. It is written to C(hf_token_file) if the server has one.
    type: str
  api_key:
    description:
      - The API key. It is written to C(api_key_file) if the server has one.
    type: str
  keep_hf_token:
    description:
      - Hand O(hf_token) over only to a file that holds nothing. A file that holds another token stays as it is, so that
        operators whose own tokens differ do not change it in turn.
    type: bool
    default: false
  recreate:
    description:
      - Replace the server even when nothing changed.
    type: bool
    default: false
  replace_unmanaged:
    description:
      - Replace a container of that name even when this collection did not create it. Rejected for a server with
        C(backend=systemd), since a unit of another user is never replaced.
    type: bool
    default: false
  reset_fallbacks:
    description:
      - Start over with the settings as they were asked for, though a fallback is in use. Ignored with O(failure_id).
    type: bool
    default: false
  failure_id:
    description:
      - The diagnosis id that the server has just failed with. The next fallback for it is applied.
    type: str
  container_id:
    description:
      - Do nothing unless the server's container or unit has this id, as
        O(gpufleet.vllm.vllm_container#module:container_id) has it.
    type: str
  learned:
    description:
      - What starts on other hosts measured, as O(gpufleet.vllm.vllm_container#module:learned) has it.
    type: dict
    default: {}
  caches:
    description:
      - What a server on another host has compiled, the result of M(gpufleet.vllm.vllm_caches) there in this run. The
        archive is brought to the host if the server is created there. It is used as
        O(gpufleet.vllm.vllm_container#module:caches) says, and only if Ansible connects to both hosts as the same user,
        and works there as the same.
    type: dict
    default: {}
  purge:
    description:
      - With O(state=absent), what else is deleted, as O(gpufleet.vllm.vllm_container#module:purge) has it.
    type: list
    elements: str
    choices: [weights, encodings]
    default: []
  plan:
    description:
      - The result of an earlier call, with O(look=true) for example. Its RV(spec) is used, so that nothing is resolved
        twice, and so are the GPUs and the version of vLLM that it found. The server is not asked whether it is healthy.
    type: dict
  look:
    description:
      - Plan the change, change nothing, and report no change. RV(pending) shows whether a change is needed.
    type: bool
    default: false
  show:
    description:
      - Change nothing, and return in RV(shown) what would run the server on this host. V(command) is the C(docker run)
        line and the same as a compose file, or the unit of a service with its environment.
      - It describes a new server, whether one runs or not. A description that a deployment rejects fails here too.
    type: str
    choices: [command]
seealso:
  - module: gpufleet.vllm.vllm_container
  - plugin: gpufleet.vllm.vllm_spec
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Plan the change, with gpt-oss as the hardware allows
  gpufleet.vllm.vllm_server:
    model:
      gb10: gpt-oss-120b
      default: gpt-oss-20b
    overrides:
      port: 8001
    look: true
  register: planned

- name: Apply the plan
  gpufleet.vllm.vllm_server:
    plan: "{{ planned }}"
  when: planned.pending
"""

RETURN = r"""
actions:
  description: What was done, or what a look or check mode found to be done, a line for each step in order.
  returned: always
  type: list
  elements: str
server:
  description: The server, as RV(gpufleet.vllm.vllm_container#module:server) has it. Empty when nothing is known of it.
  returned: always
  type: dict
health:
  description:
    - What the server answered, as M(gpufleet.vllm.vllm_health) returns it. Empty when it was not asked, because
      something differs.
  returned: always
  type: dict
fallback:
  description:
    - The fallback in use, as RV(gpufleet.vllm.vllm_container#module:fallback) has it. Empty for a server without
      fallbacks.
  returned: always
  type: dict
message:
  description: What the step came to, in one sentence.
  returned: always
  type: str
  sample: 'gpt-oss-20b answers at http://127.0.0.1:8000 on h100-1: "Hello! How can I help you today?"'
reason:
  description:
    - Why it failed, as one of the ids that RV(gpufleet.vllm.vllm_container#module:reason) lists,
      V(unknown) when it gave none. Empty after success.
  returned: always
  type: str
  sample: port-in-use
pending:
  description: Whether anything is left to do. Only O(look=true) sets it.
  returned: always
  type: bool
commands:
  description: The steps as command lines.
  returned: always
  type: list
  elements: str
files:
  description: What the steps write, by path, units and their environment. No secret is in it.
  returned: always
  type: dict
shown:
  description: With O(show), what would run the server, in lines.
  returned: always
  type: list
  elements: str
needs:
  description: What is missing on the host and another role of the collection provides.
  returned: always
  type: list
  elements: str
weights:
  description:
    - The models that are missing in the Hugging Face cache, as entries of C(model_cache.models) of role
      P(gpufleet.vllm.model_cache#role).
  returned: always
  type: list
  elements: dict
fit:
  description: The verdict on the memory of the GPUs, or null.
  returned: always
  type: dict
gpus:
  description: The GPUs that were selected, by UUID, when the server names none itself, else null.
  returned: always
  type: list
  elements: str
choice:
  description:
    - What was chosen for a model that no catalogue describes, or null. C(reasons) has a sentence for each setting,
      C(entry) the model in the form of the catalogue, to be kept in C(vllm_models) if you like, and C(revision) and
      C(source) what was read where.
  returned: always
  type: dict
vllm_version:
  description: The version of vLLM in the image, or null.
  returned: always
  type: str
measured_on:
  description:
    - Where a start was measured that this one relies on, as RV(gpufleet.vllm.vllm_container#module:measured_on) has it,
      or null.
  returned: always
  type: str
caches:
  description:
    - Whose compile caches a new server starts with (C(from)), or why it does not (C(note)), or null. C(note) also says
      that a start with them failed, and was repeated without.
  returned: always
  type: dict
learned:
  description: What the start measured, as RV(gpufleet.vllm.vllm_container#module:learned) has it.
  returned: with O(state=committed)
  type: dict
spec:
  description: The resolved description of the server, without secrets.
  returned: always
  type: dict
probe:
  description: The parameters with which M(gpufleet.vllm.vllm_health) waits for this server.
  returned: always
  type: dict
busy:
  description: With O(look=true), which other run is at work there, as RV(gpufleet.vllm.vllm_container#module:busy).
  returned: always
  type: str
restored:
  description:
    - With O(state=reverted), the servers that were started again, each like RV(server). C(gap_seconds) counts the
      seconds without service before that start from the end of the server that took their place, C(away_seconds) from
      their own.
  returned: always
  type: list
  elements: dict
away_seconds:
  description:
    - Null. Role P(gpufleet.vllm.vllm_server#role) puts here for how many seconds nothing answered in its run, once it
      knows that.
  returned: always
  type: float
ansible_facts:
  description: The facts of M(gpufleet.vllm.gpu_facts), when the class of the host had to be found out.
  returned: when needed
  type: dict
"""
