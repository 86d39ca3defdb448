#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_diagnose
short_description: Diagnose a vLLM server
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Reads the log of a server and how its process ended, and returns the root cause, the line that proves it and what to
    change. What only follows from the cause is listed apart, however often the server repeats it.
  - A failure that is not known is quoted in the server's own words, and not guessed at.
  - Changes nothing, and asks the server nothing. Secrets are taken out of everything that is returned.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the same.
    support: full
  diff_mode:
    description: Will return details on what has changed. There is nothing to compare.
    support: none
  platform:
    description: Target operating systems.
    support: full
    platforms: posix
options:
  path:
    description:
      - A log file on the host. Its end is read, whatever its size.
    type: path
  container:
    description:
      - The container that runs the server, or ran it.
    type: str
  unit:
    description:
      - The systemd unit that runs the server, or ran it. C(.service) may be left out.
    type: str
  docker_host:
    description:
      - The engine, by its Unix socket on the host, such as V(unix:///run/user/1000/docker.sock). Without it,
        E(DOCKER_HOST) and then V(unix:///var/run/docker.sock). Other addresses are rejected.
    type: str
  gpu_facts:
    description:
      - What M(gpufleet.vllm.gpu_facts) found (C(ansible_facts.gpufleet)), so that the remedy can name who holds the
        memory of a GPU.
    type: dict
    default: {}
  lines:
    description:
      - How many of the last lines of the log to return.
    type: int
    default: 60
seealso:
  - module: gpufleet.vllm.vllm_health
  - module: gpufleet.vllm.gpu_facts
notes:
  - A log may hold several starts of the server. The last one is looked at; while that one is loading again after a
    restart, the one before.
"""

EXAMPLES = r"""
- name: Find out why the server does not run
  gpufleet.vllm.vllm_diagnose:
    container: vllm-gpt-oss
    gpu_facts: "{{ ansible_facts.gpufleet | default({}) }}"
  register: found

- name: Show the diagnosis
  ansible.builtin.debug:
    msg: "{{ found.diagnosis.cause }} {{ found.diagnosis.remedy }}"
  when: found.diagnosis.id != 'none'

- name: Read the log that a colleague sent
  gpufleet.vllm.vllm_diagnose:
    path: /tmp/vllm.log
"""

RETURN = r"""
diagnosis:
  description: What is wrong.
  returned: always
  type: dict
  contains:
    id:
      description:
        - Name of the cause, as docs/diagnosis.md lists them. V(none) when nothing is wrong, V(unknown) for a failure
          that is in no table.
      type: str
      sample: mem-free-below-budget
    cause:
      description: The cause in one sentence, with the numbers of this case.
      type: str
    remedy:
      description: What to change. Empty when nothing is wrong.
      type: str
      sample: "62.37 of 139.8 GiB free, 118.83 wanted: lower gpu_memory_utilization to 0.44 or free the GPU"
    evidence:
      description: The line of the log that proves it; for a failure that is not known, its last error lines.
      type: str
    retryable:
      description: Whether the same start may succeed another time, or null when that is not known.
      type: bool
    symptoms:
      description: Ids of what followed from the cause, and of what is worth a note.
      type: list
      elements: str
      sample: [engine-start-failed]
phase:
  description:
    - How far the server came. V(start) (no line yet), V(pull), V(init), V(download), V(load), V(compile), V(profile),
      V(capture), V(server) or V(ready).
  returned: always
  type: str
  sample: load
phases:
  description: The phases of the last start, in order.
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
      description: The same as a count, such as V(3/15).
      type: str
state:
  description: The process, as the container or unit reports it. What is not known is null.
  returned: always
  type: dict
  contains:
    running:
      description: Whether it runs.
      type: bool
    exit_status:
      description: Its exit status; 128 and the number of the signal that ended it.
      type: int
    oom_killed:
      description: Whether the kernel killed it for lack of memory.
      type: bool
    restarts:
      description: How often it was started again.
      type: int
    error:
      description: Why it could not be started, as Docker or systemd says.
      type: str
    stopped:
      description: Its processes that are stopped (state T).
      type: list
      elements: str
log:
  description: The last lines of the log.
  returned: always
  type: list
  elements: str
versions:
  description: Versions of what is involved, as far as they are known.
  returned: always
  type: dict
  sample: {collection: 0.1.0, docker: 20.10.24, kernel: 6.8.0, os: Ubuntu 24.04.1 LTS, vllm: 0.26.0}
reason:
  description:
    - Why the server could not be looked at. V(server-missing), V(log-unreadable), V(permission-denied),
      V(backend-unavailable), V(backend-failed) or V(invalid-parameter).
  returned: failure
  type: str
  sample: server-missing
server:
  description:
    - What the server is, with V(spec) as it was recorded (null for a server that this collection did not make).
  returned: always
  type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.logfile import Source
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.report import examine
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._sources import open_source


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path"},
            "container": {"type": "str"},
            "unit": {"type": "str"},
            "docker_host": {"type": "str"},
            "gpu_facts": {"type": "dict", "default": {}},
            "lines": {"type": "int", "default": 60},
        },
        mutually_exclusive=[("path", "container", "unit")],
        required_one_of=[("path", "container", "unit")],
        supports_check_mode=True,
    )
    try:
        source = t.cast(Source, open_source(module.params, module.run_command))
        found = examine(source, module.params["gpu_facts"], module.params["lines"])
        module.exit_json(changed=False, **printable(found))
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)


if __name__ == "__main__":
    main()
