#!/usr/bin/python
# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_facts
short_description: Gather facts about the NVIDIA GPUs of a host
version_added: 0.1.0
author:
  - gpufleet contributors (@gpufleet)
description:
  - Tells what GPUs a host has, how much of their memory is free, who uses it, how they are linked, and whether driver,
    fabric manager and container toolkit are fit to serve. The answer is in C(ansible_facts.gpufleet).
  - It never fails because of a GPU. A host without one, without a driver, with a card that fell off the bus or with an
    C(nvidia-smi) that hangs gets a C(status) and one sentence with the remedy.
  - What is not known is V(null), never V(0) and never a placeholder such as C([N/A]).
  - On unified memory (GB10 and its like), where C(nvidia-smi) reports no memory, total and free memory are C(MemTotal)
    and C(MemAvailable) of the host. Swap is never counted.
  - C(CUDA_VISIBLE_DEVICES) has no influence, as it has none on C(nvidia-smi).
requirements:
  - C(nvidia-smi) on the host, of driver 450 or later. No Python package is needed.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the same facts.
    support: full
  diff_mode:
    description: Will return details on what has changed. There is nothing to compare.
    support: none
  facts:
    description: Returns C(ansible_facts) and nothing else.
    support: full
  platform:
    description: Target operating systems.
    support: full
    platforms: linux
options:
  docker_host:
    description:
      - The engine that is asked whose containers the processes are, by its Unix socket on the host. Without it,
        E(DOCKER_HOST) and then V(unix:///var/run/docker.sock).
    type: str
  nvidia_smi:
    description:
      - Path of C(nvidia-smi).
      - By default it is looked for on the C(PATH) and in the directories where drivers put it.
    type: path
  timeout:
    description:
      - How many seconds C(nvidia-smi) may take altogether. After that it is killed and left behind, never waited for,
        because on a hung GPU it does not even die; C(status) becomes V(timeout).
      - Without persistence mode, each call may first have to initialize every card, which takes up to half a minute on
        a host with eight.
    type: float
    default: 60
  samples:
    description:
      - How many times utilization is read. It is a snapshot of less than a second, in which a busy GPU may look
        idle; with several samples the highest is reported.
    type: int
    default: 1
  sample_interval:
    description:
      - The seconds between two samples.
    type: float
    default: 0.5
seealso:
  - plugin: gpufleet.vllm.select_gpus
    plugin_type: filter
  - plugin: gpufleet.vllm.gpu_table
    plugin_type: filter
notes:
  - Run with C(become=true) to learn which containers the processes on the GPUs belong to. A user without access to the
    Docker Engine gets the short id of a container instead of its name, and V(null) as C(managed).
  - Run it on the host itself. In a container the process numbers that C(nvidia-smi) prints are those of the host.
"""

EXAMPLES = r"""
- name: Gather facts about the GPUs
  gpufleet.vllm.gpu_facts:

- name: Stop on a host whose GPUs cannot be used, and say why
  ansible.builtin.assert:
    that: ansible_facts.gpufleet.status == "ok"
    fail_msg: "{{ ansible_facts.gpufleet.message }}"

- name: Sample utilization for two seconds on a shared host
  gpufleet.vllm.gpu_facts:
    samples: 5
    sample_interval: 0.5

- name: Select two GPUs with 70 GiB free, linked by NVLink if there are such
  ansible.builtin.debug:
    msg: "{{ ansible_facts.gpufleet | gpufleet.vllm.select_gpus(count=2, min_free_mib=71680) }}"
"""

RETURN = r"""
ansible_facts:
  description: The facts, under the one key C(gpufleet).
  returned: always
  type: dict
  contains:
    gpufleet:
      description: The GPUs of the host.
      returned: always
      type: dict
      contains:
        status:
          description:
            - V(ok) when every GPU answers; V(no_gpu), V(no_driver), V(driver_not_loaded), V(driver_mismatch) or
              V(timeout); V(error) for everything else.
            - With V(error), C(gpus) may still list cards. Those with C(health=ok) can be used.
          returned: always
          type: str
          sample: ok
        message:
          description:
            - What is wrong and what to do about it, in one sentence. V(null) when RV(ansible_facts.gpufleet.status=ok).
          returned: always
          type: str
          sample: >-
            The NVIDIA libraries and the loaded kernel module (580.95.05) have different versions, as after an upgrade:
            reboot the host.
        warnings:
          description: Sentences about what works now and will hurt a server.
          returned: always
          type: list
          elements: str
          sample: ["Persistence mode is off on GPU 0, which makes each first use slow."]
        driver_version:
          description: Version of the loaded driver.
          returned: always
          type: str
          sample: 580.159.04
        driver_installed:
          description: Version of the kernel module that the next boot will load.
          returned: always
          type: str
          sample: 580.159.04
        reboot_required:
          description: Whether only a reboot brings the driver into the state that is installed.
          returned: always
          type: bool
          sample: false
        cuda_version:
          description: The newest CUDA that the driver supports.
          returned: always
          type: str
          sample: "13.0"
        hardware_class:
          description:
            - The class of the host's GPUs, such as V(gb10), V(a100), V(h100), V(h200) or V(b200). V(other) when it is
              not known or they differ, V(none) without a GPU. Without a driver it is read from the PCI bus.
          returned: always
          type: str
          sample: h200
        memory_kind:
          description: V(dedicated), V(unified) when CPU and GPU share one memory, or V(none) without a GPU.
          returned: always
          type: str
          sample: dedicated
        host_memory:
          description: The host's memory as C(total_mib), C(available_mib) and C(swap_total_mib).
          returned: always
          type: dict
          sample: {"total_mib": 124610, "available_mib": 115787, "swap_total_mib": 16383}
        fabric_manager:
          description:
            - Whether the host has NVSwitches that need a fabric manager (C(needed)), whether it is C(running), its
              C(version), whether that is the driver's (C(version_matches)), the C(state) that the GPUs report, and
              whether CUDA can start (C(ready)).
          returned: always
          type: dict
          sample:
            needed: true
            running: true
            version: 580.159.04
            version_matches: true
            state: Completed
            ready: true
        container_toolkit:
          description:
            - Whether it is C(installed), its C(version), whether it has C(nvidia-container-runtime-hook), which
              C(docker run --gpus) needs (C(runtime_hook)), the C(docker_version), whether the running Docker Engine
              knows the NVIDIA runtime (C(docker_runtime)) or is configured to (C(docker_runtime_configured)),
              its C(docker_default_runtime), and whether a specification of the Container Device Interface exists
              (C(cdi), C(cdi_specs)).
          returned: always
          type: dict
          sample:
            installed: true
            version: 1.19.0
            runtime_hook: true
            docker_version: 29.2.1
            docker_runtime: true
            docker_runtime_configured: true
            docker_default_runtime: runc
            cdi: true
            cdi_specs: [/var/run/cdi/nvidia.yaml]
        topology:
          description: The link between two GPUs by their indices. C(NV) with a number means NVLink.
          returned: always
          type: dict
          sample: {"0-1": "NV18"}
        servers:
          description:
            - The servers of this collection on the host, running or not, each with C(name), C(backend), C(container),
              C(running), C(model), C(served_model_name), C(port) and C(image).
          returned: always
          type: list
          elements: dict
          sample:
            - name: gptoss
              backend: container
              container: vllm-gptoss
              running: true
              model: openai/gpt-oss-120b
              served_model_name: gpt-oss-120b
              port: 8000
              image: nvcr.io/nvidia/vllm:26.05-py3
        watchdog:
          description:
            - What the watchdog of M(gpufleet.vllm.vllm_watchdog) says, V(null) where there is none. Whether it is
              C(running), when it was C(updated), until when it is paused (C(paused_until)), and its C(servers), each
              with C(name), C(backend), C(status), C(since), C(restarts), C(stood_down), C(cause) and C(post_mortem).
          returned: always
          type: dict
          sample:
            running: true
            updated: "2026-11-27T03:12:05+00:00"
            paused_until: null
            servers:
              - name: vllm-gptoss
                backend: container
                status: serving
                since: "2026-11-27T02:58:41+00:00"
                restarts: 1
                stood_down: ""
                cause: it has made no step for 125 s, and 3 requests of one token failed in a row
                post_mortem: /var/lib/gpufleet.vllm/watchdog/post-mortem/Container_vllm-gptoss-20261127T025730Z.txt
        gpus:
          description: The GPUs in the order of C(nvidia-smi).
          returned: always
          type: list
          elements: dict
          contains:
            index:
              description: The number that C(nvidia-smi) gives it. It may change at a reboot and may differ from CUDA's.
              returned: always
              type: int
              sample: 0
            uuid:
              description: The name that stays.
              returned: always
              type: str
              sample: GPU-5f8fc2f5-0ba2-3c0b-0000-000000000001
            name:
              description: The product.
              returned: always
              type: str
              sample: NVIDIA H200
            pci_bus_id:
              description: Its address on the PCI bus, as C(nvidia-smi) writes it.
              returned: always
              type: str
              sample: "00000000:18:00.0"
            hardware_class:
              description: As for the host.
              returned: always
              type: str
              sample: h200
            compute_capability:
              description: CUDA's compute capability.
              returned: always
              type: str
              sample: "9.0"
            memory_kind:
              description: V(dedicated) or V(unified).
              returned: always
              type: str
              sample: dedicated
            memory_source:
              description: Where the memory was read, V(nvidia-smi) or V(meminfo).
              returned: always
              type: str
              sample: nvidia-smi
            memory_total_mib:
              description: All of its memory.
              returned: always
              type: int
              sample: 143771
            memory_free_mib:
              description: What can be allocated now. V(null) while MIG is on, for then each device has its own.
              returned: always
              type: int
              sample: 143153
            memory_used_mib:
              description: What is in use. V(null) on unified memory, where the GPU's share is unknown.
              returned: always
              type: int
              sample: 4
            process_memory_mib:
              description: The sum over its compute processes.
              returned: always
              type: int
              sample: 0
            foreign_used_mib:
              description:
                - The memory that does not belong to servers of this collection. More than 1 GiB that no process
                  accounts for counts as foreign too.
              returned: always
              type: int
              sample: 0
            utilization_percent:
              description: The share of time in which a kernel ran, the highest of O(samples).
              returned: always
              type: int
              sample: 0
            power_draw_w:
              description: Power draw in watts.
              returned: always
              type: float
              sample: 80.24
            temperature_c:
              description: Temperature in degrees Celsius.
              returned: always
              type: int
              sample: 32
            compute_mode:
              description: V(Default) is what vLLM needs; V(Exclusive_Process) and V(Prohibited) make it fail.
              returned: always
              type: str
              sample: Default
            persistence_mode:
              description: Whether the driver keeps the card initialized while no process uses it.
              returned: always
              type: bool
              sample: true
            numa_node:
              description: The NUMA node that the card is attached to.
              returned: always
              type: int
              sample: 0
            mig:
              description:
                - Whether MIG is C(enabled) (V(null) on a card without it), and its C(devices), each with C(index),
                  C(profile), C(uuid), C(memory_total_mib) and C(memory_free_mib).
              returned: always
              type: dict
              sample: {"enabled": false, "devices": []}
            health:
              description: V(ok), V(lost) when it fell off the bus, V(reset_required), or V(error).
              returned: always
              type: str
              sample: ok
            processes:
              description:
                - The compute processes, each with C(pid), C(name), C(user) (the number where it has no name),
                  C(used_memory_mib), C(container), whether it is C(managed) by this collection, and its C(server).
                - A process is managed when its container carries the label C(gpufleet.vllm.fingerprint), or when it
                  belongs to a system unit C(vllm-NAME.service).
              returned: always
              type: list
              elements: dict
              sample:
                - pid: 4711
                  name: VLLM::EngineCore
                  user: root
                  used_memory_mib: 118034
                  container: vllm-gptoss
                  managed: true
                  server: gptoss
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.facts import host_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.probe import Sampling, host_with, observe
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "docker_host": {"type": "str"},
            "nvidia_smi": {"type": "path"},
            "timeout": {"type": "float", "default": 60},
            "samples": {"type": "int", "default": 1},
            "sample_interval": {"type": "float", "default": 0.5},
        },
        supports_check_mode=True,
    )
    params = module.params
    if params["timeout"] <= 0 or params["samples"] < 1 or params["sample_interval"] < 0:
        module.fail_json(
            msg="Cannot gather GPU facts: 'timeout' must be more than 0, 'samples' at least 1 and 'sample_interval' "
            f"not negative; got {params['timeout']}, {params['samples']} and {params['sample_interval']}.",
            reason="invalid-parameter",
        )
    if not (params["docker_host"] or "unix:///").startswith("unix:///"):
        module.fail_json(
            msg="Cannot ask the engine whose the processes are: docker_host must be the address of a Unix socket on "
            f"the host, such as unix:///var/run/docker.sock; got {params['docker_host']!r}."
        )
    sampling = Sampling(params["samples"], params["sample_interval"])
    facts = host_facts(observe(host_with(params["docker_host"]), params["nvidia_smi"], params["timeout"], sampling))
    module.exit_json(ansible_facts={"gpufleet": printable(facts)})


if __name__ == "__main__":
    main()
