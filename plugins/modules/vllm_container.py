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
  - Everything that can be checked is checked before a running server is stopped. The replacement is created next to it
    and tried (GPU access, limits, mounts); if the replacement then fails to start, the old server is started again.
  - A replaced server is kept, stopped, as C(CONTAINER_NAME-superseded) until O(state=committed) removes it or
    O(state=reverted) puts it back. Role P(gpufleet.vllm.vllm_server#role) does either, depending on what
    M(gpufleet.vllm.vllm_health) found.
  - The module replaces another server of this collection that cannot run at the same time. It has the same port,
    or O(exclusive=true), or the GPUs have no room for both. It is stopped when everything was checked, keeps its
    name, and is removed by O(state=committed) or started again by O(state=reverted).
  - What the new server stops is recorded on its container before anything stops, so a run that was cut short at any
    step is finished by the next one, or undone by O(state=reverted).
  - An image that is on the host is not pulled again, unless O(pull=always).
requirements:
  - Docker Engine 20.10 or later
  - Python packages C(docker) 5.0 or later and C(requests) on the host
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - gpufleet.vllm.deployment
  - gpufleet.vllm.server
  - gpufleet.vllm.server.container
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
  pull:
    description:
      - V(missing) pulls the image when it is not on the host, V(always) asks the registry for a newer one first, and
        V(never) fails when it is not on the host.
    type: str
    choices: [missing, always, never]
    default: missing
  replace_unmanaged:
    description:
      - Replace a container of that name even when this user's record does not have it, whatever its labels say. It is
        kept until the commit, or restored. A container of another user at another name of the server
        (C(NAME-superseded)) is rejected in any case.
    type: bool
    default: false
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

- name: List the steps of a change without performing them
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

- name: Serve another model on the same port; the server that has it is stopped when all is checked, and kept
  gpufleet.vllm.vllm_container:
    name: gemma3
    image: nvcr.io/nvidia/vllm:25.09-py3
    model: google/gemma-3-27b-it
    hf_token_file: /etc/gpufleet/hf_token
    engine:
      gpu_memory_utilization: 0.85
      max_model_len: 8192
    fallbacks:
      - causes: [mem-free-below-budget, mem-profiling-drift]
        change:
          engine:
            gpu_memory_utilization: 0.75
  register: switch

- name: Give up what was replaced, once the new server was found healthy
  gpufleet.vllm.vllm_container:
    name: gemma3
    container_id: "{{ switch.server.container_id }}"
    state: committed

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
files:
  description: What the steps write, by path, units and their environment. No secret is in it.
  returned: for one server
  type: dict
backend:
  description: What runs the server after this, V(container) or V(systemd).
  returned: for one server
  type: str
  sample: container
needs:
  description:
    - What is missing on the host and another role of the collection provides. In check mode this is only reported;
      otherwise a server is not started without it.
    - C(weights) forbids nothing. A service, or a server that replaces another one, has them fetched first, and else the
      server fetches them.
  returned: always
  type: list
  elements: str
  sample: [encodings]
fit:
  description:
    - The verdict on the memory of the GPUs, as filter P(gpufleet.vllm.vllm_fit#filter) gives it. Null when nothing was
      started on a GPU, or with O(fit=off).
  returned: for one server
  type: dict
  sample:
    verdict: ok
    kv_tokens_min: 810000
    kv_tokens_max: 930000
    budget_mib: 31000
    free_mib: 115000
    reasons: []
    suggestions: {}
measured_on:
  description:
    - V(this host), or the name of the host in O(learned) (without a name V(another host)), where the memory check and
      O(pin_kv) rely on a start that was measured there, else null.
  returned: for one server
  type: str
caches:
  description: With O(caches), whose compile caches a new server starts with (C(from)), or why it does not (C(note)).
  returned: for one server
  type: dict
  sample: {from: gb10-1, note: ""}
learned:
  description:
    - With O(state=committed), what this start measured, for O(learned) of other hosts; empty when it is nothing new.
  returned: for one server
  type: dict
fallback:
  description: Which of its fallbacks the server runs with. Null without O(fallbacks).
  returned: for one server
  type: dict
  contains:
    rung:
      description: Which fallback is in use, counted from 1; 0 when the server runs as it was asked for.
      type: int
    rungs:
      description: How many there are.
      type: int
    causes:
      description: The diagnosis ids that led there, one for each fallback in use.
      type: list
      elements: str
    change:
      description: What the fallbacks in use change altogether.
      type: dict
    because:
      description: The explanation of the fallback in use, or null.
      type: str
    exhausted:
      description: Whether no fallback was left for O(failure_id).
      type: bool
gpus:
  description:
    - The GPUs that a mapping in O(gpus) became, by UUID; null if O(gpus) is not a mapping. Passed to a later step of
      the same run, they stay the same.
  returned: for one server
  type: list
  elements: str
health:
  description: What M(gpufleet.vllm.vllm_health) returns, for a server that was asked (O(health)), else null.
  returned: for one server
  type: dict
reason:
  description:
    - Why the module failed, for a playbook that has to distinguish failures.
    - V(invalid-parameter) - a parameter, a key of the server or a fallback is not valid; the message has its
      address.
    - V(invalid-flag) - the server's version of vLLM would reject a flag, a value or a variable.
    - V(unmanaged) - a container or an environment of that name exists that this collection did not create.
    - V(port-in-use) - another program or server holds the port.
    - V(conflicting-server) - it cannot run together with another server of this collection, and must not replace it.
    - V(does-not-fit) - it does not fit in GPU memory, even after everything that it replaces has stopped.
    - V(memory-not-released) - a stopped server did not release its GPU memory in time.
    - V(no-free-gpu) - fewer GPUs are free than requested.
    - V(image-missing) - the image is not on the host and may not be pulled.
    - V(pull-failed) - the image could not be pulled.
    - V(venv-missing) - the virtual environment is not on the host, or has no vLLM in it.
    - V(weights-incomplete) - the weights of the model are missing, cut short or not readable.
    - V(download-failed) - a download of weights, encodings or packages failed.
    - V(encodings-missing) - the encodings that gpt-oss requires are missing or damaged.
    - V(secret-missing) - a token, an API key or an env file is not on the host and was not passed in.
    - V(secret-invalid) - a token, an API key or an env file has a content that no client or shell can use.
    - V(path-missing) - a path that the server mounts or a file that it reads does not exist.
    - V(disk-full) - a disk has too little space.
    - V(permission-denied) - the user on the host lacks the permission.
    - V(backend-unavailable) - the Docker Engine, systemd or a Python package that talks to them is missing.
    - V(backend-failed) - the Docker Engine or systemd rejected a step; the message quotes it.
    - V(backend-unsupported) - the engine at docker_host cannot run this server (an older Podman, userns-remap,
      rootless).
    - V(server-missing) - no server, container or unit of that name exists.
    - V(server-not-running) - the server does not run, so what it replaced is kept.
    - V(locked) - another run is changing the same server.
    - V(overtaken) - another run has replaced the server that this run made.
    - V(log-unreadable) - a log could not be read.
    - V(record-unreadable) - the record of what this user's servers own is damaged, of a newer version, or not safe.
    - V(python-missing) - the host has no Python that this version of vLLM runs on.
    - V(driver-too-old) - the NVIDIA driver cannot run the CUDA that this version of vLLM was built with.
    - V(install-failed) - packages could not be installed; the message quotes the installer.
    - V(environment-broken) - packages were installed, and vLLM cannot be imported from them.
    - V(environment-in-use) - an environment to be removed is used by a server.
    - V(host-unsupported) - a host of this kind, or with this setup, cannot be provisioned.
    - V(packages-refused) - packages of a driver, of the toolkit or of Docker are missing, held, or do not fit together.
  returned: on failure
  type: str
  sample: port-in-use
busy:
  description:
    - In check mode, which other run is at work on the server or on one that it would stop, as the sentence with which
      this run would be refused; empty when none is.
  returned: in check mode, for one server that is to be there
  type: str
restored:
  description:
    - The servers that were started again, each like RV(server). C(gap_seconds) counts the seconds without service
      before that start from the end of the server that took their place, C(away_seconds) from their own.
  returned: with O(state=reverted)
  type: list
  elements: dict
vllm_version:
  description: The version of vLLM that O(image) holds, or null when it is not known. Null with O(all=true).
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
    backend:
      description: What runs it, V(container), or V(systemd) for one that another backend left there.
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
      description: The name that clients use, the first one where there are several, or null.
      type: str
    served_model_names:
      description: All names that clients may use.
      type: list
      elements: str
    api_key_file:
      description: File on the host that holds the API key, or null.
      type: str
    access:
      description:
        - How its own host reaches it, as further parameters of M(gpufleet.vllm.vllm_health). C(uds) of a server that
          listens on a Unix socket, C(validate_certs=false) of one with TLS, whose certificate is not for the address of
          loopback, and C(runner=pooling) of one that is known to generate nothing.
      type: dict
    fingerprint:
      description:
        - Identifies what was asked for. With an API key or an env file it has a salt of this server, so that of another
          server or host is another one.
      type: str
    started_at:
      description: When the container last started, as Docker writes it, or null.
      type: str
    restarts:
      description: How often Docker has started it again by itself.
      type: int
    away_seconds:
      description:
        - Seconds without service before its last start, counted from the stop request to itself or to the server that
          it replaced; null when nothing was stopped.
      type: float
    cold_start:
      description:
        - Whether this start still has something to compile, because no start that was committed has filled its caches,
          or V(null) when there is no server.
      type: bool
    superseded:
      description: Whether a server that it replaced is still kept.
      type: bool
    stopped_for_it:
      description: Other servers, by container name, that were stopped for it and are still kept.
      type: list
      elements: str
  sample:
    container_name: vllm-gpt-oss
    backend: container
    state: running
    container_id: 0b2f6b5f8d1e
    image: nvcr.io/nvidia/vllm:25.09-py3
    image_id: sha256:7f1c0f5a
    url: http://127.0.0.1:8000
    served_model_name: gpt-oss-120b
    served_model_names: [gpt-oss-120b]
    api_key_file: null
    access: {}
    fingerprint: v1:5bd2
    started_at: "2026-11-21T08:00:00.0Z"
    restarts: 0
    away_seconds: null
    superseded: false
    stopped_for_it: []
servers:
  description: The servers, each like RV(server).
  returned: with O(all=true)
  type: list
  elements: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.run import PARAMETERS
from ansible_collections.gpufleet.vllm.plugins.module_utils._deployment import deployed, shown
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.redaction import secrets_within
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import CONTAINER, SERVER_PARAMETERS

SHOWN = ("env", "engine", "engine_unchecked", "labels")


def main() -> None:
    described: list[t.Any] = ["name", "model", "image"]
    module = AnsibleModule(
        argument_spec={**SERVER_PARAMETERS, **PARAMETERS},
        required_if=[("state", "started", described), ("state", "present", described)],
        required_one_of=[("name", "container_name", "all")],
        mutually_exclusive=[("name", "all"), ("container_name", "all")],
        required_by={"hf_token": "hf_token_file", "api_key": "api_key_file", "failure_id": "fallbacks"},
        supports_check_mode=True,
    )
    # What the engine would show is refused; until then it shall not show here.
    module.no_log_values.update(secrets_within(shown(module.params, SHOWN)))
    try:
        result = deployed(CONTAINER, module.params, module.check_mode, lambda text: module.warn(printable(text)))
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
