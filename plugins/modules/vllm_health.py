#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_health
short_description: Wait until a vLLM API server answers correctly
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Waits until the process runs, C(/health) is 200, C(/v1/models) lists the expected name and a chat completion holds
    text that is not one token repeated, and until all of that still holds a moment later. A server that embeds or
    scores is checked by that.
  - With O(container) or O(unit) it reads the log meanwhile, and shows how far the start is; see the notes.
  - Fails at once when the process is gone, when the log holds a cause that cannot heal, when a process of the server is
    stopped, when another server answers on the port, or when the API key is rejected. Fails after O(stall_timeout)
    without progress, and only as a last resort after O(timeout).
  - A failure names the root cause, the line that proves it and what to change, as M(gpufleet.vllm.vllm_diagnose) does.
  - Changes nothing. The completion asks for a few tokens.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  action:
    description: Has an action plugin, so that parts of it run on the controller.
    support: full
  async:
    description: Supports being used with the C(async) keyword.
    support: full
  check_mode:
    support: full
    details:
      - The module only reads, so it does the same in check mode.
  diff_mode:
    support: none
  platform:
    support: full
    platforms: posix
options:
  url:
    description:
      - Where the server answers, seen from the host the module runs on.
    type: str
    default: http://127.0.0.1:8000
  served_model_name:
    description:
      - The name that must be listed, and that the completion is requested from. Of a list of names, all must be listed,
        and the first is used. Without it, the first one listed.
    type: raw
  uds:
    description:
      - Path on the host of the Unix socket that the server listens on (C(vllm serve --uds)). O(url) then only says
        scheme and host name, C(https) for a server with a certificate, which has to be for that name.
    type: path
  validate_certs:
    description:
      - Whether the certificate of an C(https) address has to be valid.
    type: bool
    default: true
  ca_path:
    description:
      - File on the host with the certificates of a private authority that signed the server's certificate.
    type: path
  api_key:
    description:
      - The API key of the server. Prefer O(api_key_file).
    type: str
  api_key_file:
    description:
      - File on the host that holds the API key.
      - Of a O(container) in the network of the host, and of a O(unit), the key is not sent to a process that is not the
        server's.
    type: path
  timeout:
    description:
      - Seconds after which to give up, whatever the server is doing, in the middle of a request too. With V(0), each
        is checked once, within O(request_timeout).
      - Without it, three times O(expected_seconds) and at least 600, or 1800 without that either.
    type: int
  expected_seconds:
    description:
      - How long a start of this model on this hardware usually takes. Shown with the time that has passed.
    type: int
  cold_start:
    description:
      - Whether nothing is kept yet of what this server compiles when it starts, as M(gpufleet.vllm.vllm_container) says
        in C(server.cold_start). Such a start may take much longer than O(expected_seconds); the progress line says why.
    type: bool
    default: false
  stall_timeout:
    description:
      - Seconds without a line in the log, without work of the server's processes and without a change of the memory in
        use on the GPUs, after which the start is given up. V(0) never gives up for that.
      - While the server says that it waits for a worker, which may compile kernels, it has three times as long.
    type: int
    default: 300
  request_timeout:
    description:
      - Seconds that one request may take. The first completion may compile kernels.
    type: int
    default: 120
  stable_for:
    description:
      - Seconds after which all checks run once more. Skipped for a O(container) that has been up for a minute.
    type: float
    default: 0.25
  checks:
    description:
      - What to ask, in order. V(completion) is a chat completion, V(embedding) the embedding of O(prompt), and V(score)
        how two texts relate, for a reranker.
      - Without it, V(health), V(models) and a check for the type of the server. The module requests a completion, if
        the server rejects it an embedding, and if it rejects that too a score.
    type: list
    elements: str
    choices: [health, models, completion, embedding, score]
  runner:
    description:
      - What the server is known to do, as vLLM's C(--runner) says it, where O(checks) is not set. V(pooling) is not
        asked for a completion, and V(generate) for nothing else.
    type: str
    choices: [generate, pooling]
  prompt:
    description:
      - The question of the chat completion, or the text of the embedding and of the score.
    type: str
    default: Reply with one short sentence.
  expected_answer:
    description:
      - A regular expression that the answer of a completion has to match somewhere, in letters of any case. Ask
        something with a known answer in O(prompt), and leave enough O(max_tokens) for a model that reasons first.
    type: str
  max_tokens:
    description:
      - How many tokens the answer may have.
    type: int
    default: 16
  container:
    description:
      - The container that runs the server. When it exits, the module fails at once with its exit status and last log
        lines.
    type: str
  unit:
    description:
      - The systemd unit that runs the server. C(.service) may be left out.
    type: str
  docker_host:
    description:
      - The engine, by its Unix socket on the host, such as V(unix:///run/user/1000/docker.sock). Without it,
        E(DOCKER_HOST) and then V(unix:///var/run/docker.sock). Other addresses are rejected.
    type: str
  lock:
    description:
      - For the role and the action plugin. Id of O(container) or O(unit), which no other run may change during this
        wait, nor for some seconds after a failure.
    type: str
  gpu_facts:
    description:
      - What M(gpufleet.vllm.gpu_facts) found, so that a remedy can name who holds the memory of a GPU. Facts that were
        gathered in the play are taken by themselves.
    type: dict
    default: {}
  slice:
    description:
      - For the action plugin. Seconds after which to return with RV(finished) false; V(0) waits to the end.
    type: float
    default: 0
  resume:
    description:
      - For the action plugin. RV(resume) of the slice before.
    type: dict
    default: {}
notes:
  - While it waits, one line shows the phase, the percent of it, the time gone and O(expected_seconds). On a terminal
    and with one host the line is rewritten every second; otherwise there is a new line for each change. In check mode,
    with C(async), with C(ansible) and with another stdout callback than C(default) nothing is shown.
  - To wait for many hosts, start all servers first and wait in a task of its own, since a waiting host occupies a fork.
seealso:
  - module: gpufleet.vllm.vllm_diagnose
  - module: gpufleet.vllm.vllm_container
"""

EXAMPLES = r"""
- name: Wait until gpt-oss answers, or say why it does not
  gpufleet.vllm.vllm_health:
    url: http://127.0.0.1:8000
    served_model_name: gpt-oss-120b
    container: vllm-gpt-oss
    timeout: 1200

- name: Wait for a server that systemd runs, which usually takes three minutes
  gpufleet.vllm.vllm_health:
    unit: vllm-rollout
    expected_seconds: 180
    stall_timeout: 120

- name: Ask through a Unix socket, and know the answer
  gpufleet.vllm.vllm_health:
    uds: /run/vllm/api.sock
    prompt: What is the capital of France?
    expected_answer: paris
    max_tokens: 200

- name: Check an endpoint that is guarded by a key, without waiting
  gpufleet.vllm.vllm_health:
    url: https://llm.example.com
    api_key_file: /etc/gpufleet/api_key
    timeout: 0
"""

RETURN = r"""
healthy:
  description: Whether every check passed, twice.
  returned: always
  type: bool
checks:
  description: The last outcome of each check that was asked.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the check.
      type: str
    ok:
      description: Whether it passed.
      type: bool
    detail:
      description: What was seen.
      type: str
    seconds:
      description: How long the last request took.
      type: float
phase:
  description:
    - V(ready), or how far the server came. With a log, the phase of M(gpufleet.vllm.vllm_diagnose). Without one,
      V(exited), V(settling), or what was waited for last.
  returned: always
  type: str
  sample: ready
percent:
  description: How far the phase is, where it has a progress bar.
  returned: always
  type: int
detail:
  description: The same as a count, such as V(3/15).
  returned: always
  type: str
phases:
  description: The phases of the start in the log, in order. Empty when the server was healthy at once.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the phase.
      type: str
    seconds:
      description: How long it took by the log, or null.
      type: float
    percent:
      description: How far its progress bar came, or null.
      type: int
    detail:
      description: The same as a count.
      type: str
elapsed:
  description: Seconds waited.
  returned: always
  type: float
healthy_at:
  description:
    - When the server had answered every check, by the clock of the host, in UTC (ISO 8601). Null while it has not.
  returned: always
  type: str
  sample: "2026-11-27T21:04:05.678+00:00"
tokens_per_second:
  description:
    - The tokens of the last completion, divided by the seconds that it took; null where there was none, or where the
      server counts no tokens. With few O(max_tokens) most of that time is the prompt's.
  returned: always
  type: float
  sample: 84.2
diagnosis:
  description: Why the server is not healthy, or null when it is.
  returned: always
  type: dict
  contains:
    id:
      description:
        - Name of the cause, as docs/diagnosis.md lists them. V(unknown) when it is in no table.
      type: str
      sample: mem-free-below-budget
    cause:
      description: What was seen, in one sentence.
      type: str
    remedy:
      description: What to do about it.
      type: str
    evidence:
      description: The line of the log that proves it; for a failure that is not known, its last error lines.
      type: str
    retryable:
      description: Whether the same start may succeed another time, or null when that is not known.
      type: bool
    symptoms:
      description: Ids of what followed from the cause.
      type: list
      elements: str
reason:
  description:
    - RV(diagnosis.id) of a server that is not healthy. If it could not be checked, or its source not be read, one of
      V(invalid-parameter), V(secret-missing), V(secret-invalid), V(permission-denied), V(backend-unavailable),
      V(backend-failed), V(server-missing), V(log-unreadable) and V(locked).
  returned: failure
  type: str
  sample: timeout
log:
  description: The last lines of the log, without secrets.
  returned: failure
  type: list
  elements: str
busy:
  description: Whether another run holds the lock, and nothing was asked of the server.
  returned: failure
  type: bool
finished:
  description: For the action plugin. Whether the wait is over; false only with O(slice).
  returned: always
  type: bool
resume:
  description: For the action plugin. What the next slice needs to know.
  returned: when RV(finished) is false
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.api import OPTIONS
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.session import run
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.lock import (
    Busy,
    alone,
    leave,
    reader_is_gone,
    release,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._sources import open_source

# Another run knows a unit by its name without this.
UNIT = ".service"


def _run(module: AnsibleModule) -> dict[str, t.Any]:
    return run(module.params, open_source(module.params, module.run_command), module.run_command)


def _locked_run(module: AnsibleModule) -> dict[str, t.Any]:
    """Wait while no other run may change the server, and keep it for what follows, unless nobody is left to do that."""
    name, token = module.params["container"] or module.params["unit"], module.params["lock"]
    if not name:
        raise VllmError("lock needs container or unit: what no other run may change meanwhile.")
    name = name[: -len(UNIT)] if name.endswith(UNIT) else name
    with alone(name, token, docker_host=module.params["docker_host"]):
        result = _run(module)
        if result["healthy"] or reader_is_gone():
            release(name)
        else:
            leave(name, token)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **OPTIONS,
            "timeout": {"type": "int"},
            "expected_seconds": {"type": "int"},
            "cold_start": {"type": "bool", "default": False},
            "stall_timeout": {"type": "int", "default": 300},
            "stable_for": {"type": "float", "default": 0.25},
            "container": {"type": "str"},
            "unit": {"type": "str"},
            "docker_host": {"type": "str"},
            "gpu_facts": {"type": "dict", "default": {}},
            "lock": {"type": "str"},
            "slice": {"type": "float", "default": 0},
            "resume": {"type": "dict", "default": {}},
        },
        mutually_exclusive=[("api_key", "api_key_file"), ("container", "unit")],
        supports_check_mode=True,
    )
    try:
        result = _locked_run(module) if module.params["lock"] else _run(module)
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason, busy=isinstance(error, Busy))
    leave_with = module.exit_json if result["healthy"] or not result["finished"] else module.fail_json
    leave_with(**printable(result))


if __name__ == "__main__":
    main()
