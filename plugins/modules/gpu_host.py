#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_host
short_description: Install driver, fabric manager, container toolkit and Docker on a host with NVIDIA GPUs
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Looks at a host once, plans what it lacks, and does it step by step. Each step is decided from the state of the
    host, so a run that was killed is finished by the next one, and a host that is fit costs one look.
  - Installs on Ubuntu 22.04 and 24.04 and on RHEL 9 and its rebuilds. A host with DGX OS, or with a GB10 or another GPU
    that shares its memory with the CPU, is compared with what is known to work, and never changed.
  - Driver, libraries, kernel modules and fabric manager have one version. A host keeps the version that it has as long
    as everything that belongs to it is available in that version.
  - On Ubuntu the kernel modules are prebuilt and signed where there are any for its kernel, which Secure Boot wants;
    else DKMS builds them. They are NVIDIA's open ones unless O(open_modules=false).
  - Unless O(docker=none), the Docker SDK for Python (C(python3-docker)) comes from Ubuntu's archive or EPEL, where the
    Python that Ansible uses on the host lacks it and would find it there. A host that lacks it otherwise is not fit.
  - Never reboots. RV(reboot) says whether facts ask for it, and who computes on the host; role C(gpu_host) does it when
    it may.
  - Never restarts Docker while containers run, unless O(restart_docker) allows it. C(daemon.json) is merged, never
    replaced.
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    details:
      - Repositories that are not there yet are not asked, so versions from them are left out.
  diff_mode:
    support: full
  platform:
    support: full
    platforms: linux
options:
  branch:
    description:
      - Branch of the driver. Another branch than the installed one is an upgrade, or a downgrade, that takes the
        packages of the old one away in the same transaction.
    type: str
    default: "580"
  version:
    description:
      - Version of the driver to the last digit, such as V(580.126.20). Unless set, the installed one of O(branch), else
        the newest that all packages have.
    type: str
  origin:
    description:
      - Where the driver comes from. V(ubuntu) is Ubuntu's archive, V(nvidia) is NVIDIA's CUDA repository. V(auto) is
        where the installed one comes from, else V(ubuntu) on Ubuntu, but V(nvidia) for B200 and B300, whose C(nvlsm)
        Ubuntu does not have.
      - A host whose driver comes from both is rejected.
    type: str
    choices: [auto, ubuntu, nvidia]
    default: auto
  open_modules:
    description:
      - NVIDIA's open kernel modules, which Grace and Blackwell need. V(false) is for GPUs older than Turing.
    type: bool
    default: true
  kernel_modules:
    description:
      - V(prebuilt) are the signed modules of Ubuntu's archive, V(dkms) builds them on the host. V(auto) takes prebuilt
        ones where there are any, and leaves DKMS alone where it is in use without Secure Boot.
    type: str
    choices: [auto, prebuilt, dkms]
    default: auto
  toolkit_version:
    description:
      - Version of the NVIDIA Container Toolkit, such as V(1.19.1), for all its packages. Unless set, the installed one
        if that is 1.17.7 or newer, else the newest.
    type: str
  docker:
    description:
      - Whose Docker Engine a host gets that has none. V(distribution) is C(docker.io) of Ubuntu, V(docker) is
        C(docker-ce) of Docker's repository. V(auto) is V(distribution) on Ubuntu and V(docker) on RHEL. V(none) leaves
        Docker alone, and the Docker SDK for Python out.
    type: str
    choices: [auto, distribution, docker, none]
    default: auto
  cgroup_driver:
    description:
      - Cgroup driver of Docker. With C(systemd), which is Docker's default, a C(systemctl daemon-reload) takes the GPUs
        from containers that were started with C(--gpus) and without CDI; C(cgroupfs) does not have that.
    type: str
    choices: [leave, cgroupfs, systemd]
    default: leave
  unattended_upgrades:
    description:
      - V(block) excludes the driver, and the kernel where its modules come prebuilt, from unattended upgrades on
        Ubuntu, since they must change together.
    type: str
    choices: [block, leave]
    default: block
  restart_docker:
    description:
      - Whether Docker may be restarted while containers run, which stops them unless C(live-restore) is set. It is
        restarted only where it has to be.
    type: bool
    default: false
  verify_only:
    description:
      - Compare the host with what is known to work, and change nothing, as on DGX OS.
    type: bool
    default: false
  protect_memory:
    description:
      - On a host whose GPU and CPU share one memory, such as GB10, keep memory for the SSH server (C(MemoryMin)) and
        run C(earlyoom), so that the host can be reached when its memory is full. Nothing else is changed there.
    type: bool
    default: false
  repositories:
    description:
      - Mirrors, by the repository whose place they take. A repository is added only when the host cannot have the
        packages from those that it knows.
    type: dict
    suboptions:
      cuda:
        description:
          - NVIDIA's CUDA repository.
        type: dict
        suboptions:
          url:
            description:
              - URL of the mirror, or C(file:) and a directory of the host.
            type: str
          key:
            description:
              - Key that its packages are signed with, as URL or as absolute path on the host. Empty, for a directory of
                the host alone, accepts packages without a signature.
            type: str
          suite:
            description:
              - What stands behind the URL in a list of C(apt), such as V(./) or V(noble stable).
            type: str
      toolkit:
        description:
          - NVIDIA's repository of the container toolkit.
        type: dict
        suboptions:
          url:
            description:
              - URL of the mirror, or C(file:) and a directory of the host.
            type: str
          key:
            description:
              - Key that its packages are signed with, as URL or as absolute path on the host. Empty, for a directory of
                the host alone, accepts packages without a signature.
            type: str
          suite:
            description:
              - What stands behind the URL in a list of C(apt), such as V(./) or V(noble stable).
            type: str
      docker:
        description:
          - Docker's repository.
        type: dict
        suboptions:
          url:
            description:
              - URL of the mirror, or C(file:) and a directory of the host.
            type: str
          key:
            description:
              - Key that its packages are signed with, as URL or as absolute path on the host. Empty, for a directory of
                the host alone, accepts packages without a signature.
            type: str
          suite:
            description:
              - What stands behind the URL in a list of C(apt), such as V(./) or V(noble stable).
            type: str
  proxy:
    description:
      - Proxy for the package manager and for keys, such as V(http://proxy.example.com:3128). It must not hold
        credentials.
    type: str
  ca_bundle:
    description:
      - File on the host with the certificates that repositories are verified by.
    type: path
  proof_image:
    description:
      - Image on the host from which a container is started, after a change, to prove that containers get GPUs. It needs
        a C library; C(nvidia-smi) comes from the host. It is never pulled.
      - Without it, one of vLLM, CUDA or PyTorch that is on the host is taken, else an empty one that borrows the host's
        libraries.
    type: str
  timeout:
    description:
      - Seconds that a command may take, and that a run waits for another one on the same host.
    type: int
    default: 1800
seealso:
  - module: gpufleet.vllm.gpu_facts
"""

EXAMPLES = r"""
- name: See what a host lacks
  gpufleet.vllm.gpu_host:
  check_mode: true
  become: true
  register: plan

- name: Make it fit to serve, from mirrors
  gpufleet.vllm.gpu_host:
    branch: "580"
    docker: docker
    repositories:
      toolkit:
        url: https://mirror.example.com/libnvidia-container/stable/deb/amd64
        key: https://mirror.example.com/libnvidia-container/gpgkey
      docker:
        url: https://mirror.example.com/docker/linux/ubuntu
        key: https://mirror.example.com/docker/linux/ubuntu/gpg
  become: true
"""

RETURN = r"""
reason:
  description: Why the module failed, as M(gpufleet.vllm.vllm_container) lists the reasons.
  returned: on failure
  type: str
  sample: packages-refused
log:
  description: The last lines that the command that failed printed, without secrets.
  returned: when a command failed
  type: list
  elements: str
actions:
  description: What was done, or would be done in check mode; after a failure, what was done before it.
  returned: always
  type: list
  elements: str
  sample:
    - load the kernel module nvidia (it is not loaded)
fit:
  description: Whether the host is fit to serve as it is.
  returned: success
  type: bool
deviations:
  description: What keeps it from being fit and is not done by this module, each as a sentence.
  returned: success
  type: list
  elements: str
reboot:
  description: Whether the host has to be rebooted; in check mode, after what would be done.
  returned: success
  type: dict
  contains:
    required:
      description: Whether facts ask for it.
      type: bool
    reasons:
      description: Which.
      type: list
      elements: str
      sample: [driver 570.211.01 is loaded, and 580.178.04 is installed]
    blocked_by:
      description: The processes that compute on a GPU now.
      type: list
      elements: str
      sample: [python (process 41 of ada)]
proof:
  description: Whether a container got GPUs. Null where nothing was changed, or a reboot comes first.
  returned: success
  type: dict
  contains:
    proven:
      description: Null where it could not be tried.
      type: bool
    message:
      description: What was tried, in a sentence.
      type: str
host:
  description: The host as it is now.
  returned: success
  type: dict
  contains:
    os:
      description: Its system.
      type: str
      sample: Ubuntu 24.04.3 LTS
    kernel:
      description: The kernel that runs.
      type: str
      sample: 6.8.0-151-generic
    secure_boot:
      description: Whether Secure Boot is on; null without UEFI.
      type: bool
    hardware_class:
      description: The class of its GPUs.
      type: str
      sample: h100
    gpus:
      description: How many.
      type: int
      sample: 8
    driver_loaded:
      description: The version of the driver that is loaded.
      type: str
      sample: 580.178.04
    driver_installed:
      description: The version of its packages.
      type: str
      sample: 580.178.04
    fabric_manager_version:
      description: The version of the fabric manager.
      type: str
    toolkit_version:
      description: The version of the container toolkit's package.
      type: str
      sample: 1.20.0-1
    docker_version:
      description: The version of the Docker Engine that runs.
      type: str
      sample: 29.1.3
message:
  description: The host in one sentence.
  returned: success
  type: str
  sample: "Fit to serve: 8 GPUs (h100), driver 580.178.04, Docker 29.1.3."
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.run import PARAMETERS, run, this_machine


def main() -> None:
    module = AnsibleModule(argument_spec=PARAMETERS, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode, this_machine())
    except VllmError as error:
        log = getattr(error, "log", None)
        shown = {"log": log} if log else {}
        shown["actions"] = getattr(error, "actions", [])
        module.fail_json(msg=printable(str(error)), reason=error.reason, **printable(shown))
    for text in result.pop("warnings"):
        module.warn(printable(text))
    module.exit_json(**printable(result))


if __name__ == "__main__":
    main()
