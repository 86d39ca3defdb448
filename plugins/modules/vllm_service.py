#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_service
short_description: Run a vLLM API server as a systemd service
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Creates, replaces, starts, stops and removes the unit C(vllm-NAME.service) of one vLLM server, which runs from a
    virtual environment that is on the host.
  - It keeps every promise of M(gpufleet.vllm.vllm_container), and may replace a container as that may replace a
    service. Everything that can be checked is checked before a running server is stopped; the replacement is tried
    next to it; a replaced server is kept, stopped, as C(vllm-NAME-superseded.service) until O(state=committed) removes
    it or O(state=reverted) puts it back.
  - What was asked for is recorded in C(/var/lib/gpufleet.vllm/owned), with a digest of the unit file. A unit that is
    not identical to the recorded one belongs to another user; it is reported and left alone. To change a unit by hand,
    use C(systemctl edit), which adds a separate file.
  - The server runs as a system user without login, sees the host read-only, and reads secrets as systemd's credentials
    (where systemd has none, as copies in a directory of its own in memory). Its environment is in a file that root
    alone can read.
  - It is started at boot, and again when it ends, whatever its exit status is (vLLM leaves with status 0 when its
    engine dies), but no more than five times within two hours.
  - Stopping it waits for vLLM's own drain, and fails when a process of it is left.
notes:
  - Weights are bound read-only into the service, so what is missing in O(huggingface_dir) is fetched before it starts.
    Without O(huggingface_dir), the server fetches into its own cache.
  - A list in O(gpus) becomes C(CUDA_VISIBLE_DEVICES). Before vLLM 0.24 that has to be indices, which are looked up at
    each start. Whether the memory of the GPUs is free is checked at each start, too; the service waits until it is.
  - Packages of the virtual environment are not installed by this module. Role P(gpufleet.vllm.vllm_server#role) does
    where O(venv) says what they are.
requirements:
  - systemd 238 or later, as the init process of the host
  - root (C(become=true))
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
  - gpufleet.vllm.deployment
  - gpufleet.vllm.server
  - gpufleet.vllm.server.service
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
options:
  allow_daemon_reload:
    description:
      - Make units also where C(systemctl daemon-reload) would take the GPUs away from running containers, because
        Docker leaves control groups to systemd and hands GPUs over without CDI. Otherwise these containers are
        reported, and nothing is changed.
    type: bool
    default: false
seealso:
  - module: gpufleet.vllm.vllm_container
  - module: gpufleet.vllm.vllm_health
"""

EXAMPLES = r"""
- name: Serve gpt-oss-120b on two GPUs of an H100 host
  gpufleet.vllm.vllm_service:
    name: gpt-oss
    venv: /opt/gpufleet/venvs/vllm-0.26
    model: openai/gpt-oss-120b
    served_model_name: gpt-oss-120b
    huggingface_dir: /srv/vllm/huggingface
    encodings_dir: /srv/vllm/encodings
    gpus: {count: 2, min_free_mib: 70000}
    engine:
      tensor_parallel_size: 2
      max_model_len: 32768
      shutdown_timeout: 60
  become: true

- name: Give up what was replaced, once the new server was found healthy
  gpufleet.vllm.vllm_service:
    name: gpt-oss
    state: committed
  become: true

- name: Remove every service of this collection
  gpufleet.vllm.vllm_service:
    all: true
    state: absent
  become: true
"""

RETURN = r"""
actions:
  description: What was done, or would be done in check mode, a line for each step in order.
  returned: always
  type: list
  elements: str
  sample:
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
  sample: systemd
needs:
  description:
    - What is missing on the host and another role of the collection provides. In check mode this is only reported;
      otherwise a server is not started without it.
    - C(weights) forbids nothing. A service, or a server that replaces another one, has them fetched first, and else the
      server fetches them.
  returned: always
  type: list
  elements: str
  sample: [venv]
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
  description: The version of vLLM in O(venv). Null with O(all=true).
  returned: always
  type: str
  sample: 0.26.0
server:
  description:
    - The server as it is after the module ran. Null with O(all=true), where RV(servers) lists them.
    - The keys are those of M(gpufleet.vllm.vllm_container), so that a reader need not know the backend of the
      server.
  returned: always
  type: dict
  contains:
    container_name:
      description: Name of its unit, without C(.service).
      type: str
    backend:
      description: What runs it, V(systemd), or V(container) for one that another backend left there.
      type: str
    state:
      description:
        - V(running), V(restarting) (between two starts), V(stopping), V(stopped) (or never started), V(failed), or
          V(absent).
      type: str
    container_id:
      description: Identity of the unit, a digest of its file, or null.
      type: str
    image:
      description: The virtual environment, or null.
      type: str
    image_id:
      description: Identity of the virtual environment that the unit was made for, or null.
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
      description: Identifies what was asked for.
      type: str
    started_at:
      description: When it last started (ISO 8601, UTC), or null.
      type: str
    restarts:
      description: How often systemd has started it again by itself.
      type: int
    away_seconds:
      description:
        - Seconds without service before its last start, counted from the stop request to itself or to the server that
          it replaced; null when nothing was stopped.
      type: float
    superseded:
      description: Whether a server that it replaced is still kept.
      type: bool
    stopped_for_it:
      description: Other servers, by the name of their unit or container, that were stopped for it and are still kept.
      type: list
      elements: str
  sample:
    container_name: vllm-gpt-oss
    backend: systemd
    state: running
    container_id: 0b2f6b5f8d1e
    image: /opt/gpufleet/venvs/vllm-0.26
    image_id: 7f1c0f5a
    url: http://127.0.0.1:8000
    served_model_name: gpt-oss-120b
    served_model_names: [gpt-oss-120b]
    api_key_file: null
    access: {}
    fingerprint: v1:5bd2
    started_at: "2026-11-21T08:00:00Z"
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
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.run import (
    OF_CONTAINERS,
    PARAMETERS,
    SERVICE_ONLY,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._deployment import deployed, shown
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.redaction import secrets_within
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import SERVICE, SERVICE_PARAMETERS

SHOWN = ("env", "engine", "engine_unchecked", "venv")


def main() -> None:
    described: list[t.Any] = ["name", "model", "venv"]
    shared = {key: option for key, option in PARAMETERS.items() if key not in OF_CONTAINERS}
    module = AnsibleModule(
        argument_spec={**SERVICE_PARAMETERS, **shared, **SERVICE_ONLY},
        required_if=[("state", "started", described), ("state", "present", described)],
        required_one_of=[("name", "all")],
        mutually_exclusive=[("name", "all")],
        required_by={"hf_token": "hf_token_file", "api_key": "api_key_file", "failure_id": "fallbacks"},
        supports_check_mode=True,
    )
    # What systemctl and the list of processes would show is refused; until then it shall not show here.
    module.no_log_values.update(secrets_within(shown(module.params, SHOWN)))
    try:
        result = deployed(SERVICE, module.params, module.check_mode, lambda text: module.warn(printable(text)))
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
