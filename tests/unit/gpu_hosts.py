# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts for the tests of the GPU facts: profiles of what nvidia-smi prints there, and a host that answers from one.

A profile has the format of the simulated hosts (tests/rig/hosts/README.md), and besides a key "host": "files" with their
text by path, and "pci" with address, class, device, driver and NUMA node of each device.
"""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import facts as gpu_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.nvidia_smi import Result
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.probe import Host, Sampling, observe

HERE = Path(__file__).parent
CAPTURES = HERE.parent / "fixtures" / "nvidia_smi"
SIMULATED = HERE.parent / "rig" / "hosts" / "image" / "etc" / "sim-gpu"
PROGRAM = "/usr/bin/nvidia-smi"
Profile = dict[str, t.Any]


TABLES = {"--query-gpu=": "gpus", "--query-compute-apps=": "compute_apps"}


def replay(profile: Profile, argv: t.Sequence[str]) -> dict[str, t.Any]:
    """What nvidia-smi answers to these arguments: what is written down for them, or rows of its tables."""
    for answer in profile["answers"]:
        if answer["argv"] in (list(argv), ["*"]):
            return t.cast("dict[str, t.Any]", answer)
    for prefix, table in TABLES.items():
        columns = next((arg[len(prefix) :].split(",") for arg in argv if arg.startswith(prefix)), None)
        if columns is not None:
            return _query(profile[table], columns)
    return {"rc": 2, "stdout": "Invalid combination of input arguments. Please run 'nvidia-smi -h' for help.\n"}


def _query(rows: t.Sequence[t.Mapping[str, str]], columns: t.Sequence[str]) -> dict[str, t.Any]:
    unknown = [column for column in columns if any(column not in row for row in rows)]
    if unknown:
        return {"rc": 2, "stdout": f'Field "{unknown[0]}" is not a valid field to query.\n'}
    return {"stdout": [", ".join(row[column] for column in columns) for row in rows]}


def load(name: str) -> Profile:
    """A capture, or the profile of a simulated host."""
    for directory in (CAPTURES, SIMULATED):
        path = directory / f"{name}.json"
        if path.exists():
            return t.cast(Profile, json.loads(path.read_text("utf-8")))
    raise FileNotFoundError(name)


def uuid(index: int) -> str:
    return f"GPU-{index:08d}-0000-4000-8000-{index:012d}"


def card(index: int, name: str, total: t.Any, free: t.Any, used: t.Any, **cells: t.Any) -> dict[str, str]:
    """The cells of one GPU as nvidia-smi prints them. An underscore in a keyword stands for the dot of a field."""
    row = {
        "index": str(index),
        "uuid": uuid(index),
        "name": name,
        "pci.bus_id": f"00000000:{index + 16:02X}:00.0",
        "driver_version": "580.95.05",
        "memory.total": str(total),
        "memory.free": str(free),
        "memory.used": str(used),
        "utilization.gpu": "0",
        "power.draw": "61.00",
        "temperature.gpu": "33",
        "compute_mode": "Default",
        "persistence_mode": "Enabled",
        "mig.mode.current": "Disabled",
        "compute_cap": "[N/A]",
        "gpu_recovery_action": "None",
        "fabric.state": "[N/A]",
        "fabric.status": "[N/A]",
    }
    dotted = {key.replace("__", "."): str(value) for key, value in cells.items()}
    unknown = set(dotted) - set(row)
    assert not unknown, unknown
    return {**row, **dotted}


def app(index: int, pid: int, used: t.Any, name: str = "python3") -> dict[str, str]:
    return {"gpu_uuid": uuid(index), "pid": str(pid), "used_memory": str(used), "process_name": name}


def process_files(pid: int, uid: int, cgroup: str, name: str = "python3") -> dict[str, str]:
    """What /proc holds of a process."""
    return {
        f"/proc/{pid}/status": f"Name:\t{name}\nState:\tS (sleeping)\nPid:\t{pid}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n",
        f"/proc/{pid}/cgroup": f"0::{cgroup}\n",
    }


def header(driver: str = "580.95.05", cuda: str = "13.0", label: str = "CUDA Version") -> dict[str, t.Any]:
    lines = [
        "",
        "==============NVSMI LOG==============",
        "",
        f"{'Driver Version':<43}: {driver}",
        f"{label:<43}: {cuda}",
    ]
    return {"argv": ["-q", "-d", "COMPUTE"], "stdout": [*lines, ""]}


def topology(lines: t.Sequence[str]) -> dict[str, t.Any]:
    return {"argv": ["topo", "-m"], "stdout": list(lines)}


def meminfo(total: int, available: int, swap: int = 0) -> dict[str, str]:
    """/proc/meminfo with these numbers of kB."""
    numbers = {"MemTotal": total, "MemFree": 9123456, "MemAvailable": available, "SwapTotal": swap}
    return {"/proc/meminfo": "".join(f"{key}: {value:>14} kB\n" for key, value in numbers.items())}


def profile(
    gpus: t.Sequence[t.Mapping[str, str]] = (),
    apps: t.Sequence[t.Mapping[str, str]] = (),
    answers: t.Sequence[t.Mapping[str, t.Any]] = (),
    files: t.Mapping[str, str] | None = None,
    pci: t.Sequence[t.Sequence[t.Any]] = (),
) -> Profile:
    return {
        "gpus": list(gpus),
        "compute_apps": list(apps),
        "answers": [*answers, header()],
        "host": {"files": dict(files or {}), "pci": list(pci)},
    }


def _text(lines: t.Any) -> str:
    return "\n".join([*lines, ""]) if isinstance(lines, list) and lines else "".join(lines)


class Replayed:
    """Starts nothing: answers each command from a profile, and keeps what was asked."""

    def __init__(self, profile: Profile, others: t.Mapping[str, Result] | None = None) -> None:
        self.profile = profile
        self.others = dict(others or {})
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, commands: t.Mapping[str, tuple[str, ...]]) -> t.Callable[[float], dict[str, Result]]:
        self.asked += commands.values()
        return lambda timeout: {key: self.answer(argv) for key, argv in commands.items()}

    def answer(self, argv: t.Sequence[str]) -> Result:
        if argv[0] != PROGRAM:
            return self.others[argv[0]]
        arguments = list(argv[1:])
        said = replay(self.profile, arguments)
        if said.get("timed_out"):
            return Result(timed_out=True)
        out, err = (_text(said.get(key, "")) for key in ("stdout", "stderr"))
        return Result(said.get("rc", 0), out, err)


def write_tree(root: Path, files: t.Mapping[str, str], pci: t.Sequence[t.Sequence[t.Any]] = ()) -> None:
    """The files of a host below a directory, with its PCI devices in sysfs."""
    devices = root / "sys/bus/pci/devices"
    devices.mkdir(parents=True, exist_ok=True)
    for address, class_code, device, driver, node in pci:
        directory = devices / address
        directory.mkdir()
        texts = {"vendor": "0x10de", "class": class_code, "device": device, "numa_node": node}
        for name, text in texts.items():
            (directory / name).write_text(f"{text}\n", "utf-8")
        if driver:
            (directory / "driver").symlink_to(f"../../../../bus/pci/drivers/{driver}")
    for path, text in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")


def host(
    root: Path,
    profile: Profile,
    docker: t.Mapping[str, t.Any] | None = None,
    users: t.Mapping[int, str] | None = None,
    programs: t.Mapping[str, Result] | None = None,
    has_nvidia_smi: bool = True,
) -> Host:
    """A host that answers from a profile. `docker` is by path of the API, `programs` by name."""
    extra = profile.get("host", {})
    write_tree(root, extra.get("files", {}), extra.get("pci", ()))
    found = {**({"nvidia-smi": PROGRAM} if has_nvidia_smi else {}), **{name: name for name in programs or {}}}
    return Host(
        root=str(root),
        start=Replayed(profile, programs),
        find=found.get,
        docker=(docker or {}).get,
        user=(users or {}).get,
        sleep=lambda seconds: None,
    )


def facts(root: Path, profile: Profile, samples: int = 1, **how: t.Any) -> dict[str, t.Any]:
    """The facts of such a host, through everything but the processes themselves."""
    return gpu_facts.host_facts(observe(host(root, profile, **how), sampling=Sampling(samples, 0)))
