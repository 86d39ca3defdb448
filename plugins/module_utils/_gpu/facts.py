# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts about the GPUs of a host, from what was observed of it.

Pure. What is not known is None, never 0.
"""

from __future__ import annotations

import json
import re
import typing as t
from dataclasses import dataclass

from .._host.processes import container_id
from .faults import explain, health_of, module_version, reboot_required, warnings
from .hardware import INTEGRATED_CAPABILITIES, Hardware, hardware_of, hardware_on_pci, host_class
from .nvidia_smi import (
    SAMPLE_FIELDS,
    UNIT,
    Facts,
    Observation,
    ProcessFiles,
    Rows,
    Table,
    Unreachable,
    bus_key,
    integer_of,
    number_of,
    parse_apps,
    parse_cuda_version,
    parse_driver_version,
    parse_meminfo,
    parse_mig_list,
    parse_mig_memory,
    parse_query,
    parse_topology,
    parse_unreachable,
    proc_gpu,
    switch_of,
    text_of,
    version_of,
)

# ---------------------------------------------------------------------------------------------------------------------
# Processes and the servers of this collection
# ---------------------------------------------------------------------------------------------------------------------

LABEL_FINGERPRINT = "gpufleet.vllm.fingerprint"
LABEL_SPEC = "gpufleet.vllm.spec"
# Memory that no process accounts for is somebody's once it is more than what drivers keep for themselves.
UNATTRIBUTED_MIB = 1024


def containers_by_id(containers: t.Any) -> dict[str, Facts]:
    """What the Docker Engine lists, by full id."""
    listed = containers if isinstance(containers, list) else []
    return {str(entry["Id"]): entry for entry in listed if isinstance(entry, dict) and entry.get("Id")}


def _labels(container: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    labels = container.get("Labels")
    return labels if isinstance(labels, dict) else {}


def _container_name(container: t.Mapping[str, t.Any]) -> str:
    names = container.get("Names")
    first = names[0] if isinstance(names, list) and names else container.get("Id")
    return str(first).lstrip("/")


def process_facts(row: t.Mapping[str, str], seen: Observation, known: t.Mapping[str, Facts]) -> Facts:
    """One compute process: whose it is, and whether a server of this collection owns it."""
    pid = int(row["pid"])
    files = seen.processes.get(pid, ProcessFiles())
    uid = version_of(r"(?m)^Uid:\s+(\d{1,10})\b", files.status)
    name = text_of(row["process_name"].strip("-"))
    container, managed, server = _owner(files.cgroup, seen, known)
    return {
        "pid": pid,
        "name": name or version_of(r"(?m)^Name:\s+(\S.*?)\s*$", files.status),
        "user": None if uid is None else seen.users.get(int(uid), uid),
        "used_memory_mib": integer_of(row["used_memory"]),
        "container": container,
        "managed": managed,
        "server": server,
    }


def _owner(cgroup: str, seen: Observation, known: t.Mapping[str, Facts]) -> tuple[str | None, bool | None, str | None]:
    """Container, whether managed, and server of the process in that cgroup. Managed is None when nobody could tell."""
    identifier = container_id(cgroup, seen.init_cgroup)
    if identifier and identifier in known:
        container = known[identifier]
        is_ours = LABEL_FINGERPRINT in _labels(container)
        return _container_name(container), is_ours, server_of_container(container)["name"] if is_ours else None
    if identifier:
        return identifier[:12], False if isinstance(seen.containers, list) else None, None
    unit = UNIT.search(cgroup)
    if unit:
        return None, True, unit.group(1)
    return None, False if cgroup else None, None


def server_of_container(container: t.Mapping[str, t.Any]) -> Facts:
    labels = _labels(container)
    try:
        spec = json.loads(str(labels.get(LABEL_SPEC)))
    except (ValueError, RecursionError):
        spec = {}
    spec = spec if isinstance(spec, dict) else {}
    name = _container_name(container)
    return {
        "name": str(spec.get("name") or (name[len("vllm-") :] if name.startswith("vllm-") else name)),
        "backend": "container",
        "container": name,
        "running": container.get("State") == "running",
        "model": spec.get("model"),
        "served_model_name": spec.get("served_model_name") or spec.get("model"),
        "port": spec.get("port", 8000) if spec else None,
        "image": container.get("Image"),
    }


def servers(seen: Observation) -> list[Facts]:
    """The servers of this collection on the host, stopped ones too."""
    known = [entry for entry in containers_by_id(seen.containers).values() if LABEL_FINGERPRINT in _labels(entry)]
    unknown = dict.fromkeys(("container", "model", "served_model_name", "port", "image"))
    units = [
        {**unknown, "name": name, "backend": "systemd", "running": running} for name, running in seen.units.items()
    ]
    return sorted([*map(server_of_container, known), *units], key=lambda server: (server["name"], server["backend"]))


def foreign_memory(used: int | None, processes: t.Sequence[Facts] | None) -> int | None:
    """The memory that others hold. What no process accounts for is counted too, for it may be an orphan's."""
    if processes is None:
        return None
    foreign = sum(process["used_memory_mib"] or 0 for process in processes if not process["managed"])
    total = sum(process["used_memory_mib"] or 0 for process in processes)
    hidden = 0 if used is None else used - total
    return foreign + hidden if hidden > UNATTRIBUTED_MIB else foreign


def managed_memory(processes: t.Sequence[Facts]) -> int:
    return sum(process["used_memory_mib"] or 0 for process in processes if process["managed"])


# ---------------------------------------------------------------------------------------------------------------------
# One GPU
# ---------------------------------------------------------------------------------------------------------------------


def memory_of(
    row: t.Mapping[str, str], kind: Hardware, capability: str | None, host: t.Mapping[str, int | None]
) -> Facts:
    """Total, free and used memory with their source."""
    total = integer_of(row.get("memory.total"))
    if kind.is_integrated or (not total and capability in INTEGRATED_CAPABILITIES):
        # MemTotal - MemAvailable is what the host uses, not the GPU: the sum over the processes stands for that.
        known = {"memory_total_mib": host["total_mib"], "memory_free_mib": host["available_mib"]}
        return {"memory_kind": "unified", "memory_source": "meminfo", **known, "memory_used_mib": None}
    if not total:
        return {
            **dict.fromkeys(("memory_kind", "memory_source", "memory_total_mib", "memory_free_mib", "memory_used_mib"))
        }
    # With MIG on, what the whole card has free is no device's to take.
    free = None if switch_of(row.get("mig.mode.current")) else integer_of(row.get("memory.free"))
    return {
        "memory_kind": "dedicated",
        "memory_source": "nvidia-smi",
        "memory_total_mib": total,
        "memory_free_mib": free,
        "memory_used_mib": integer_of(row.get("memory.used")),
    }


def mig_of(row: t.Mapping[str, str], seen: Observation) -> Facts:
    uuid = row.get("uuid", "")
    memory = parse_mig_memory(seen.mig_xml.out)
    devices = []
    for device in parse_mig_list(seen.mig_list.out).get(uuid, []):
        total, free = memory.get((uuid, device["index"]), (None, None))
        devices.append({**device, "memory_total_mib": total, "memory_free_mib": free})
    return {"enabled": switch_of(row.get("mig.mode.current")), "devices": devices}


@dataclass(frozen=True)
class _Shared:
    """What the facts of each GPU take from the host's."""

    seen: Observation
    host_memory: t.Mapping[str, int | None]
    apps: t.Mapping[str, list[Facts]] | None
    numa: t.Mapping[int, int]


def gpu_facts(row: t.Mapping[str, str], shared: _Shared) -> Facts:
    """The facts of one GPU from its row of the core query and of the extras."""
    kind = hardware_of(text_of(row.get("name")))
    capability = version_of(r"^(\d+\.\d+)$", row.get("compute_cap", "")) or kind.compute_capability
    memory = memory_of(row, kind, capability, shared.host_memory)
    processes = None if shared.apps is None else shared.apps.get(row.get("uuid", ""), [])
    return {
        "index": integer_of(row.get("index")),
        "uuid": text_of(row.get("uuid")),
        "name": text_of(row.get("name")),
        "pci_bus_id": text_of(row.get("pci.bus_id")),
        "hardware_class": kind.name,
        "compute_capability": capability,
        **memory,
        "process_memory_mib": None if processes is None else _process_memory(processes),
        "foreign_used_mib": foreign_memory(memory["memory_used_mib"], processes),
        "utilization_percent": _utilization(row, shared.seen),
        "power_draw_w": number_of(row.get("power.draw")),
        "temperature_c": integer_of(row.get("temperature.gpu")),
        "compute_mode": text_of(row.get("compute_mode")),
        "persistence_mode": switch_of(row.get("persistence_mode")),
        "numa_node": _numa_node(row, shared),
        "mig": mig_of(row, shared.seen),
        "health": health_of(row),
        "processes": processes or [],
    }


def _process_memory(processes: t.Sequence[Facts]) -> int | None:
    """The sum over the processes; None when there are some and the driver tells the memory of none."""
    known = [process["used_memory_mib"] for process in processes if process["used_memory_mib"] is not None]
    return sum(known) if known or not processes else None


def _utilization(row: t.Mapping[str, str], seen: Observation) -> int | None:
    """The highest of the samples: a GPU that idled for an instant is not a free one."""
    cells = [row.get("utilization.gpu")]
    for sample in seen.samples:
        rows = parse_query(Table(SAMPLE_FIELDS, sample))
        cells += [other["utilization.gpu"] for other in rows if other["uuid"] == row.get("uuid")]
    values = [value for value in map(integer_of, cells) if value is not None and value <= 100]
    return max(values) if values else None


def _numa_node(row: t.Mapping[str, str], shared: _Shared) -> int | None:
    key = bus_key(row.get("pci.bus_id"))
    on_pci = next((device.numa_node for device in shared.seen.gpus_on_pci if device.address == key), None)
    index = integer_of(row.get("index"))
    if on_pci is None and index is not None:
        on_pci = shared.numa.get(index)
    # Where there is one node only, the kernel says -1.
    return 0 if on_pci is None and shared.seen.numa_nodes.strip() == "0" else on_pci


def unreachable_row(card: Unreachable, seen: Observation) -> dict[str, str]:
    """A row for a card that does not answer, with what the kernel module still knows of it."""
    key = bus_key(card.bus_id)
    known = proc_gpu(seen.proc_gpus.get(key or "", ""))
    # nvidia-smi numbers the cards in the order of their PCI addresses.
    order = [device.address for device in seen.gpus_on_pci]
    index = order.index(key) if card.index is None and key in order else card.index
    row = {"index": "" if index is None else str(index), "uuid": known["uuid"] or "", "name": known["name"] or ""}
    return {**row, "pci.bus_id": card.bus_id or "", "memory.total": card.error or "Unknown Error"}


def gpu_rows(seen: Observation) -> Rows:
    """One row a card: those that answered, with their extras, and those that nvidia-smi could not reach."""
    extras = {row["uuid"]: row for row in parse_query(seen.extras) if row.get("uuid")}
    rows = [{**extras.get(row["uuid"], {}), **row} for row in parse_query(seen.core)]
    answered = {bus_key(row.get("pci.bus_id")) for row in rows} - {None}
    lost = {}
    for card in parse_unreachable(seen.core.result.text):
        if bus_key(card.bus_id) not in answered:
            lost[card.bus_id or card.index] = unreachable_row(card, seen)
    # "Unknown Error" where a handle was asked for means that the card fell off the bus.
    for row in lost.values():
        if "reset" not in row["memory.total"].lower():
            row["memory.total"] = f"{row['memory.total']} (GPU is lost)"
    return sorted([*rows, *lost.values()], key=lambda row: (row["index"] == "", row["index"].zfill(4)))


# ---------------------------------------------------------------------------------------------------------------------
# The host
# ---------------------------------------------------------------------------------------------------------------------


def container_toolkit(seen: Observation) -> Facts:
    """Whether containers can get GPUs here: toolkit, Docker's runtime of that name, CDI."""
    version = version_of(r"version (\d+\.\d+\.\d+\S*)", seen.toolkit.out)
    info = seen.docker_info if isinstance(seen.docker_info, dict) else {}
    configured = _daemon_runtimes(seen.daemon_json)
    runtimes = info["Runtimes"] if isinstance(info.get("Runtimes"), dict) else None
    specs = sorted(path for path, text in seen.cdi.items() if "nvidia.com/gpu" in text)
    return {
        "installed": seen.toolkit.rc is not None or seen.has_runtime_hook,
        "version": version,
        "runtime_hook": seen.has_runtime_hook,
        "docker_version": info.get("ServerVersion"),
        "docker_runtime": "nvidia" in runtimes if runtimes is not None else None,
        # The running engine knows only what stood in daemon.json when it started.
        "docker_runtime_configured": "nvidia" in configured,
        "docker_default_runtime": info.get("DefaultRuntime"),
        "cdi": bool(specs),
        "cdi_specs": specs,
    }


def _daemon_runtimes(daemon_json: str) -> t.Collection[str]:
    try:
        runtimes = json.loads(daemon_json or "{}")["runtimes"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return runtimes if isinstance(runtimes, dict) else ()


def _values(rows: Rows, name: str) -> set[str]:
    return {value for value in (text_of(row.get(name)) for row in rows) if value}


def fabric_manager(seen: Observation, rows: Rows, driver: str | None) -> Facts:
    """NVSwitch machines compute only with a running fabric manager of exactly the driver's version."""
    needed = any(device.is_nvswitch for device in seen.pci or ())
    states = _values(rows, "fabric.state")
    results = _values(rows, "fabric.status")
    version = version_of(r"(\d+\.\d+(?:\.\d+)?)", seen.fabric_manager.text)
    matches = None if version is None or driver is None else version == driver
    if states:
        # Hopper and newer tell it themselves, also in a virtual machine whose fabric manager runs elsewhere.
        ready: bool | None = states == {"Completed"} and results <= {"Success"}
    elif needed:
        ready = None if seen.fabric_manager_running is None else seen.fabric_manager_running and matches is not False
    else:
        ready = None
    return {
        "needed": needed,
        "running": seen.fabric_manager_running,
        "version": version,
        "version_matches": matches,
        "state": sorted(states)[0] if len(states) == 1 else ("mixed" if states else None),
        "ready": ready,
    }


# ---------------------------------------------------------------------------------------------------------------------
# The facts
# ---------------------------------------------------------------------------------------------------------------------


def host_facts(seen: Observation) -> Facts:
    """Everything C(ansible_facts.gpufleet) holds."""
    rows = gpu_rows(seen)
    status, message = explain(seen, rows)
    host_memory = parse_meminfo(seen.meminfo)
    links, numa = parse_topology(seen.topology.out)
    shared = _Shared(seen, host_memory, _apps_by_gpu(seen), numa)
    gpus = [gpu_facts(row, shared) for row in rows]
    driver = next((row["driver_version"] for row in rows if re.match(r"\d+\.\d+", row.get("driver_version", ""))), None)
    loaded = driver or parse_driver_version(seen.proc_version)
    named = host_class([gpu["hardware_class"] for gpu in gpus])
    facts: Facts = {
        "status": status,
        "message": message,
        "driver_version": loaded,
        "driver_installed": module_version(seen),
        "reboot_required": reboot_required(seen, status, loaded),
        "cuda_version": parse_cuda_version(seen.header.out),
        "hardware_class": named if named not in ("none", "other") else _class_on_pci(seen) or named,
        "memory_kind": _host_memory_kind(gpus),
        "host_memory": host_memory,
        "fabric_manager": fabric_manager(seen, rows, loaded),
        "container_toolkit": container_toolkit(seen),
        "topology": links,
        "gpus": gpus,
        "servers": servers(seen),
    }
    return {**facts, "warnings": warnings(seen, facts)}


def _apps_by_gpu(seen: Observation) -> dict[str, list[Facts]] | None:
    """The processes by UUID of their card; None when they could not be listed."""
    if seen.apps.rc != 0:
        return None
    known = containers_by_id(seen.containers)
    apps: dict[str, list[Facts]] = {}
    for row in parse_apps(seen.apps.out):
        apps.setdefault(row["gpu_uuid"], []).append(process_facts(row, seen, known))
    return {uuid: sorted(processes, key=lambda process: int(process["pid"])) for uuid, processes in apps.items()}


def _class_on_pci(seen: Observation) -> str | None:
    """The class by device ids, for cards that have lost their names or have no driver."""
    gpus = seen.gpus_on_pci
    return host_class([hardware_on_pci(device.device).name for device in gpus]) if gpus else None


def _host_memory_kind(gpus: t.Sequence[Facts]) -> str | None:
    kinds = {gpu["memory_kind"] for gpu in gpus} - {None}
    if not gpus:
        return "none"
    return "unified" if "unified" in kinds else next(iter(kinds), None)
