# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare module gpu_facts with NVML on the GPU host this runs on, and time it. Prints Markdown for docs/benchmarks.md.

python3 tests/bench/gpu_facts.py [--load GPU:GIB[:idle]]...    needs ansible-core and nvidia-ml-py; --load needs PyTorch
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 3
NVSMI_XML = ["nvidia-smi", "-q", "-x"]
PRELUDE = "import sys; from ansible.module_utils import basic; basic._ANSIBLE_ARGS = sys.argv[1].encode(); "
PRELUDE += "basic._ANSIBLE_PROFILE = 'legacy'; "
MODULE = PRELUDE + "from ansible_collections.gpufleet.vllm.plugins.modules import gpu_facts; gpu_facts.main()"
EMPTY = PRELUDE + "basic.AnsibleModule(argument_spec={}).exit_json()"
LOAD = """
import sys, time, torch
gpu, gib, mode = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
torch.cuda.set_device(gpu)
held = torch.empty(int(gib * 2**30), dtype=torch.uint8, device="cuda")
matrix = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
print("ready", flush=True)
while True:
    if mode == "busy":
        matrix @ matrix
        torch.cuda.synchronize()
    else:
        time.sleep(1)
"""

Row = dict[str, t.Any]


def environment(collections: str) -> dict[str, str]:
    quiet = {"ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false"}
    path = ":".join(filter(None, [collections, os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, **quiet, "ANSIBLE_COLLECTIONS_PATH": collections, "PYTHONPATH": path}


def ansible(module: str) -> list[str]:
    return [sys.executable, "-m", "ansible", "adhoc", "localhost", "-m", module]


@contextlib.contextmanager
def loads(wanted: t.Sequence[str]) -> t.Iterator[None]:
    """Processes of our own on some GPUs, ended afterwards."""
    processes = []
    for text in wanted:
        gpu, gib, mode = [*text.split(":"), "busy"][:3]
        process = subprocess.Popen([sys.executable, "-c", LOAD, gpu, gib, mode], stdout=subprocess.PIPE)
        processes.append(process)
    try:
        for process in processes:
            if process.stdout is None or not process.stdout.readline():
                raise SystemExit("a load did not start")
        time.sleep(3)
        yield
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def nvml_gpus(nvml: t.Any) -> list[Row]:
    return [nvml_gpu(nvml, nvml.nvmlDeviceGetHandleByIndex(index)) for index in range(nvml.nvmlDeviceGetCount())]


def nvml_gpu(nvml: t.Any, handle: t.Any) -> Row:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
    processes = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return {
        "index": nvml.nvmlDeviceGetIndex(handle),
        "uuid": nvml.nvmlDeviceGetUUID(handle),
        "name": nvml.nvmlDeviceGetName(handle),
        "pci_bus_id": nvml.nvmlDeviceGetPciInfo(handle).busId,
        "compute_capability": "{}.{}".format(*nvml.nvmlDeviceGetCudaComputeCapability(handle)),
        "compute_mode": ("Default", "Exclusive_Thread", "Prohibited", "Exclusive_Process")[
            nvml.nvmlDeviceGetComputeMode(handle)
        ],
        "persistence_mode": bool(nvml.nvmlDeviceGetPersistenceMode(handle)),
        "mig enabled": bool(nvml.nvmlDeviceGetMigMode(handle)[0]),
        "processes: PID and memory": sorted((item.pid, item.usedGpuMemory / 2**20) for item in processes),
        "process_memory_mib": sum(item.usedGpuMemory for item in processes) / 2**20,
        "memory_total_mib": memory.total / 2**20,
        "memory_free_mib": memory.free / 2**20,
        "memory_used_mib": memory.used / 2**20,
        "utilization_percent": nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
        "power_draw_w": nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        "temperature_c": nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
    }


def nvml_links(nvml: t.Any) -> dict[str, int]:
    """The number of NVLinks between each pair of GPUs. Through an NVSwitch it is that of the card's active links."""
    handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
    active = [sum(_is_active(nvml, handle, link) for link in range(18)) for handle in handles]
    pairs = [(low, high) for high in range(len(handles)) for low in range(high)]
    return {f"{low}-{high}": min(active[low], active[high]) for low, high in pairs}


def _is_active(nvml: t.Any, handle: t.Any, link: int) -> bool:
    try:
        return bool(nvml.nvmlDeviceGetNvLinkState(handle, link))
    except nvml.NVMLError:
        return False


def as_nvml_has_it(gpu: Row) -> Row:
    """The facts of a GPU under the keys of nvml_gpu()."""
    processes = sorted((process["pid"], process["used_memory_mib"]) for process in gpu["processes"])
    return {**gpu, "mig enabled": gpu["mig"]["enabled"], "processes: PID and memory": processes}


def difference(key: str, fact: t.Any, before: t.Any, after: t.Any) -> float:
    """How far a fact lies outside what NVML said before and after it; 1 for any other difference than of numbers."""
    if isinstance(before, (int, float)) and not isinstance(before, bool):
        low, high = sorted((before, after))
        return float(max(low - fact, fact - high, 0))
    return float(fact not in (before, after))


def compare(nvml: t.Any, env: t.Mapping[str, str]) -> dict[str, list[float]]:
    """The differences by key, of each GPU in each round, and of the host's values."""
    found: dict[str, list[float]] = {}
    for _round in range(ROUNDS):
        before = nvml_gpus(nvml)
        out = subprocess.run(ansible("gpufleet.vllm.gpu_facts"), capture_output=True, text=True, env=env, check=True)
        facts = json.loads(out.stdout[out.stdout.index("{") :])["ansible_facts"]["gpufleet"]
        for gpu, one, other in zip(map(as_nvml_has_it, facts["gpus"]), before, nvml_gpus(nvml)):
            for key, value in one.items():
                found.setdefault(key, []).append(difference(key, gpu[key], value, other[key]))
        cuda = nvml.nvmlSystemGetCudaDriverVersion()
        host = {
            "driver_version": nvml.nvmlSystemGetDriverVersion() == facts["driver_version"],
            "cuda_version": f"{cuda // 1000}.{cuda % 1000 // 10}" == facts["cuda_version"],
            "number of gpus": len(before) == len(facts["gpus"]),
        }
        for pair, links in nvml_links(nvml).items():
            link = facts["topology"].get(pair, "")
            found.setdefault("topology", []).append(float(link != f"NV{links}" if links else link.startswith("NV")))
        for key, same in host.items():
            found.setdefault(key, []).append(float(not same))
    return found


def seconds(command: t.Sequence[str], env: t.Mapping[str, str], times: int = 7) -> str:
    taken = []
    for _time in range(times):
        started = time.monotonic()
        subprocess.run(command, capture_output=True, env=env, check=True)
        taken.append(time.monotonic() - started)
    return f"{statistics.median(taken):.3f} | {min(taken):.3f} | {max(taken):.3f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--load", action="append", default=[], metavar="GPU:GIB[:idle]")
    arguments = parser.parse_args()
    import pynvml

    pynvml.nvmlInit()
    with tempfile.TemporaryDirectory() as collections:
        target = Path(collections, "ansible_collections", "gpufleet")
        target.mkdir(parents=True)
        target.joinpath("vllm").symlink_to(ROOT)
        env = environment(collections)
        commands = {
            "`gpu_facts`, the module's whole process": [sys.executable, "-c", MODULE, '{"ANSIBLE_MODULE_ARGS": {}}'],
            "a module that does nothing": [sys.executable, "-c", EMPTY, '{"ANSIBLE_MODULE_ARGS": {}}'],
            "`nvidia-smi -q -x`": NVSMI_XML,
            "`ansible localhost -m gpufleet.vllm.gpu_facts`": ansible("gpufleet.vllm.gpu_facts"),
            "`ansible localhost -m ansible.builtin.ping`": ansible("ansible.builtin.ping"),
        }
        print("| seconds | median | min | max |\n|---|---|---|---|")
        for name, command in commands.items():
            print(f"| {name} | {seconds(command, env)}")
        with loads(arguments.load):
            found = compare(pynvml, env)
    print("\n| fact | compared | differ by 1 or more | largest difference |\n|---|---|---|---|")
    for key, differences in found.items():
        print(f"| {key} | {len(differences)} | {sum(value >= 1 for value in differences)} | {max(differences):g} |")


if __name__ == "__main__":
    main()
