# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_watchdog
short_description: Watch the vLLM servers of a host and restart them within a budget
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Installs a systemd service that watches every server of this collection on the host, in containers and in units, and
    restarts one that hangs. C(/health) answers 200 while an engine hangs, so the watchdog counts the steps of each
    engine and asks for one token when the count stops.
  - Before it acts it records the evidence. A cause that no restart can heal is reported and not restarted.
  -
    of the collection."
requirements:
  - systemd
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: partial
    details: Shows the unit; the settings may hold the secret of a hook.
  platform:
    support: full
    platforms: posix
options:
  state:
    description:
      - V(present) installs and starts it, V(absent) removes it with its state and its post-mortems.
    type: str
    choices: [present, absent]
    default: present
  restarts:
    description:
      - Restart one server after at most this many hangs and crashes within O(window). After the next one the watchdog
        stands down, stops a server that crashes repeatedly, and reports it. With V(0) it restarts nothing.
    type: int
    default: 3
  window:
    description:
      - The time that O(restarts) counts for, in seconds.
    type: int
    default: 3600
  stall:
    description:
      - Seconds that an engine may make no step while requests of one token fail. At least 40.
    type: int
    default: 120
  canary_timeout:
    description:
      - Seconds that a request of one token may take. At most 80.
    type: int
    default: 40
  warming:
    description:
      - Seconds from the first answer of the API to the first token, during which nothing is taken for a hang.
    type: int
    default: 300
  start_timeout:
    description:
      - Seconds from a start to the first answer of the API. A server that was deployed with a longer C(health.timeout)
        has that.
    type: int
    default: 1800
  records:
    description:
      - Directories with records of users' servers, in addition to those of root and below the homes in
        C(/etc/passwd).
    type: list
    elements: path
    default: []
  textfile_directory:
    description:
      - Directory from which node exporter reads metrics. The watchdog writes C(gpufleet_vllm_watchdog.prom) there.
    type: path
  hook_command:
    description:
      - Command that gets each notice as JSON on its standard input, as root, within 30 s. It begins with the absolute
        path of a program.
    type: list
    elements: str
    default: []
  hook_url:
    description:
      - URL that each notice is sent to as JSON, by POST.
    type: str
  paused:
    description:
      - V(true) lets the watchdog only look on, for O(pause_seconds); V(false) ends that. Unless set, nothing changes.
    type: bool
  pause_seconds:
    description:
      - How long the pause is, in seconds.
    type: int
    default: 3600
  allow_daemon_reload:
    description:
      - Run C(systemctl daemon-reload) even when that takes the GPUs away from running containers. It is needed when a
        new version of this collection has another unit.
    type: bool
    default: false
seealso:
  - module: gpufleet.vllm.vllm_health
  - module: gpufleet.vllm.vllm_diagnose
"""

EXAMPLES = r"""
- name: Have the servers of the host watched
  gpufleet.vllm.vllm_watchdog:
    restarts: 3
    hook_url: https://alerts.example.com/vllm
  become: true

- name: Keep it from acting for two hours
  gpufleet.vllm.vllm_watchdog:
    paused: true
    pause_seconds: 7200
  become: true
"""

RETURN = r"""
reason:
  description: Why the module failed, as M(gpufleet.vllm.vllm_container) lists the reasons.
  returned: on failure
  type: str
  sample: permission-denied
actions:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample: [write /etc/gpufleet.vllm/watchdog.json, restart the watchdog]
message:
  description: What it watches, in one sentence.
  returned: success
  type: str
  sample: The watchdog watches vllm-gpt-oss (serving).
watchdog:
  description:
    - Its state before this run, as C(/var/lib/gpufleet.vllm/watchdog/state.json) has it. V(null) where there is none.
  returned: success
  type: dict
  contains:
    updated:
      description: When it was written (ISO 8601).
      returned: always
      type: str
      sample: "2026-11-27T03:12:05+00:00"
    paused_until:
      description: Until when it only looks on; V(null) while it acts.
      returned: always
      type: str
      sample: null
    servers:
      description:
        - The servers by backend and name, each with C(name), C(backend), C(status), C(since), C(restarts),
          C(stood_down), C(cause), C(events) (each with C(at), C(kind), C(cause)), C(canary) and C(post_mortem).
      returned: always
      type: dict
      sample: {"container:vllm-gpt-oss": {"name": "vllm-gpt-oss", "status": "serving", "restarts": 1}}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.client import failures
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reader import reader
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reload import cut_off
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.install import PARAMETERS, Machine, run


def cut_off_here() -> list[str]:
    try:
        return cut_off(reader())
    except (VllmError, *failures()):
        # Without an engine there are no containers.
        return []


def main() -> None:
    module = AnsibleModule(argument_spec=PARAMETERS, supports_check_mode=True)
    try:
        result = run(
            module.params,
            module.check_mode,
            Machine(cut_off=cut_off_here, warn=lambda text: module.warn(printable(text))),
        )
    except VllmError as error:
        module.fail_json(msg=printable(str(error)), reason=error.reason)
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
