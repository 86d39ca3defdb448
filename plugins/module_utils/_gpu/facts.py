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
from dataclasses import asdict, replace

from .._host.cgroup import container_id
from .._host.labels import LABEL_FINGERPRINT, LABEL_SPEC
from .faults import explain, reboot_required, warnings
from .hardware import INTEGRATED_CAPABILITIES, Hardware, hardware_of, hardware_on_pci, host_class
from .kernel import HostMemory, Process
from .nvidia_smi import App, Card, Unreachable, bus_key
from .observation import Observation
from .watchdog import watchdog

Facts = dict[str, t.Any]

# --- Processes and the servers of this collection ---

# A server's unit, as vllm_service names it.
UNIT = re.compile(r"/vllm-([^/\n]+)\.service")
# Memory that no process accounts for is somebody's once it is more than what drivers keep for themselves.
UNATTRIBUTED_MIB = 1024


def _containers_by_id(containers: t.Any) -> dict[str, Facts]:
    """What the Docker Engine lists, by full id."""
    listed = containers if isinstance(containers, list) else []
    return {str(entry["Id"]): entry for entry in listed if isinstance(entry, dict) and entry.get("Id")}


def _labels(container: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    labels = container.get("Labels")
    return labels if isinstance(labels, dict) else {}


def _container_name(container: t.Mapping[str, t.Any]) -> str:
    names = container.get("Names")
    first = (
        min(names, key=lambda name: str(name).count("/")) if isinstance(names, list) and names else container.get("Id")
    )
    return str(first).lstrip("/")


def _process_facts(app: App, seen: Observation, known: t.Mapping[str, Facts]) -> Facts:
    """One compute process: whose it is, and whether a server of this collection owns it."""
    process = seen.processes.get(app.pid, Process())
    container, managed, server = _owner(process.cgroup, seen, known)
    return {
        "pid": app.pid,
        "name": app.name or process.name,
        "user": process.user,
        "used_memory_mib": app.used_memory_mib,
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
        return _container_name(container), is_ours, _server_of_container(container)["name"] if is_ours else None
    if identifier:
        return identifier[:12], False if isinstance(seen.containers, list) else None, None
    unit = UNIT.search(cgroup)
    if unit:
        return None, True, unit.group(1)
    return None, False if cgroup else None, None


def _server_of_container(container: t.Mapping[str, t.Any]) -> Facts:
    """The server that a container of this collection says it is, as C(docker inspect) shows it."""
    labels = _labels(container)
    try:
        spec = json.loads(str(labels.get(LABEL_SPEC)))
    except (ValueError, RecursionError):
        spec = {}
    spec = spec if isinstance(spec, dict) else {}
    name = _container_name(container)
    served = spec.get("served_model_name") or spec.get("model")
    return {
        "name": str(spec.get("name") or (name[len("vllm-") :] if name.startswith("vllm-") else name)),
        "backend": "container",
        "container": name,
        "running": container.get("State") == "running",
        "model": spec.get("model"),
        "served_model_name": served[0] if isinstance(served, list) else served,
        "port": spec.get("port", 8000) if spec else None,
        "image": container.get("Image"),
    }


def servers(seen: Observation) -> list[Facts]:
    """The servers of this collection on the host, stopped ones too."""
    known = [entry for entry in _containers_by_id(seen.containers).values() if LABEL_FINGERPRINT in _labels(entry)]
    unknown = dict.fromkeys(("container", "model", "served_model_name", "port", "image"))
    units = [
        {**unknown, "name": name, "backend": "systemd", "running": running} for name, running in seen.units.items()
    ]
    return sorted([*map(_server_of_container, known), *units], key=lambda server: (server["name"], server["backend"]))


def foreign_memory(used: int | None, processes: t.Sequence[Facts] | None) -> int | None:
    """The memory that others hold. What no process accounts for is counted too, for it may be an orphan's."""
    if processes is None:
        return None
    foreign = sum(process["used_memory_mib"] or 0 for process in processes if not process["managed"])
    total = sum(process["used_memory_mib"] or 0 for process in processes)
    hidden = 0 if used is None else used - total
    return foreign + hidden if hidden > UNATTRIBUTED_MIB else foreign


# --- One GPU ---


def memory_of(card: Card, kind: Hardware, capability: str | None, host: HostMemory) -> Facts:
    """Total, free and used memory with their source."""
    total, free, used = card.memory_total_mib, card.memory_free_mib, card.memory_used_mib
    what: tuple[t.Any, ...] = (None,) * 5
    if kind.is_integrated or (not total and capability in INTEGRATED_CAPABILITIES):
        # MemTotal - MemAvailable is what the host uses, not the GPU: the sum over the processes stands for that.
        what = ("unified", "meminfo", host.total_mib, host.available_mib, None)
    elif total:
        # With MIG on, what the whole card has free is no device's to take.
        what = ("dedicated", "nvidia-smi", total, None if card.mig_enabled else free, used)
    return dict(zip(("memory_kind", "memory_source", "memory_total_mib", "memory_free_mib", "memory_used_mib"), what))


def gpu_facts(card: Card, seen: Observation, apps: t.Mapping[str, list[Facts]] | None) -> Facts:
    """The facts of one GPU."""
    kind = hardware_of(card.name)
    capability = card.compute_capability or kind.compute_capability
    memory = memory_of(card, kind, capability, seen.memory)
    processes = None if apps is None else apps.get(card.uuid or "", [])
    return {
        "index": card.index,
        "uuid": card.uuid,
        "name": card.name,
        "pci_bus_id": card.pci_bus_id,
        "hardware_class": kind.name,
        "compute_capability": capability,
        **memory,
        "process_memory_mib": None if processes is None else _process_memory(processes),
        "foreign_used_mib": foreign_memory(memory["memory_used_mib"], processes),
        "utilization_percent": card.utilization_percent,
        "power_draw_w": card.power_draw_w,
        "temperature_c": card.temperature_c,
        "compute_mode": card.compute_mode,
        "persistence_mode": card.persistence_mode,
        "numa_node": _numa_node(card, seen),
        "mig": {"enabled": card.mig_enabled, "devices": [asdict(device) for device in card.mig_devices]},
        "health": card.health,
        "processes": processes or [],
    }


def _process_memory(processes: t.Sequence[Facts]) -> int | None:
    """The sum over the processes; None when there are some and the driver tells the memory of none."""
    known = [process["used_memory_mib"] for process in processes if process["used_memory_mib"] is not None]
    return sum(known) if known or not processes else None


def _numa_node(card: Card, seen: Observation) -> int | None:
    node = next((device.numa_node for device in seen.gpus_on_pci if device.address == card.address), None)
    if node is None and card.index is not None:
        node = seen.smi.topology.numa.get(card.index)
    # Where there is one node only, the kernel says -1.
    return 0 if node is None and seen.numa_nodes.strip() == "0" else node


def _unreachable_card(lost: Unreachable, seen: Observation) -> Card:
    """A card that does not answer, with what the kernel module still knows of it."""
    address = bus_key(lost.bus_id)
    known = seen.kernel_cards.get(address or "", Card())
    # nvidia-smi numbers the cards in the order of their PCI addresses.
    order = [device.address for device in seen.gpus_on_pci]
    index = order.index(address) if lost.index is None and address in order else lost.index
    return replace(known, health=lost.health, index=index, pci_bus_id=lost.bus_id, address=address)


def _all_cards(seen: Observation) -> list[Card]:
    """Those that answered and those that nvidia-smi could not reach, by index."""
    answered = {card.address for card in seen.smi.cards} - {None}
    lost = {card.bus_id or card.index: card for card in seen.smi.unreachable if bus_key(card.bus_id) not in answered}
    cards = [*seen.smi.cards, *(_unreachable_card(card, seen) for card in lost.values())]
    return sorted(cards, key=lambda card: (card.index is None, card.index or 0))


# --- The host ---


def container_toolkit(seen: Observation) -> Facts:
    """Whether containers can get GPUs here: toolkit, Docker's runtime of that name, CDI."""
    info = seen.docker_info if isinstance(seen.docker_info, dict) else {}
    configured = _daemon_runtimes(seen.daemon_json)
    runtimes = info["Runtimes"] if isinstance(info.get("Runtimes"), dict) else None
    specs = sorted(path for path, text in seen.cdi.items() if "nvidia.com/gpu" in text)
    return {
        "installed": seen.has_toolkit or seen.has_runtime_hook,
        "version": seen.toolkit_version,
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


def fabric_manager(seen: Observation, cards: t.Sequence[Card], driver: str | None) -> Facts:
    """NVSwitch machines compute only with a running fabric manager of exactly the driver's version."""
    needed = any(device.is_nvswitch for device in seen.pci or ())
    states = {card.fabric_state for card in cards if card.fabric_state}
    results = {card.fabric_status for card in cards if card.fabric_status}
    version = seen.fabric_manager_version
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


# --- The facts ---


def host_facts(seen: Observation) -> Facts:
    """Everything C(ansible_facts.gpufleet) holds."""
    cards = _all_cards(seen)
    status, message = explain(seen, cards)
    apps = _apps_by_gpu(seen)
    gpus = [gpu_facts(card, seen, apps) for card in cards]
    loaded = next((card.driver_version for card in cards if card.driver_version), seen.driver_loaded)
    named = host_class([gpu["hardware_class"] for gpu in gpus])
    facts: Facts = {
        "status": status,
        "message": message,
        "driver_version": loaded,
        "driver_installed": seen.driver_installed,
        "reboot_required": reboot_required(seen, status, loaded),
        "cuda_version": seen.smi.cuda_version,
        "hardware_class": named if named not in ("none", "other") else _class_on_pci(seen) or named,
        "memory_kind": _host_memory_kind(gpus),
        "host_memory": asdict(seen.memory),
        "fabric_manager": fabric_manager(seen, cards, loaded),
        "container_toolkit": container_toolkit(seen),
        "topology": dict(seen.smi.topology.links),
        "gpus": gpus,
        "servers": servers(seen),
        "watchdog": watchdog(seen.watchdog, seen.watchdog_age),
    }
    return {**facts, "warnings": warnings(seen, facts)}


def _apps_by_gpu(seen: Observation) -> dict[str, list[Facts]] | None:
    """The processes by UUID of their card; None when they could not be listed."""
    if seen.smi.apps is None:
        return None
    known = _containers_by_id(seen.containers)
    apps: dict[str, list[Facts]] = {}
    for app in seen.smi.apps:
        apps.setdefault(app.gpu_uuid, []).append(_process_facts(app, seen, known))
    return {
        uuid: sorted(processes, key=lambda process: t.cast(int, process["pid"])) for uuid, processes in apps.items()
    }


def _class_on_pci(seen: Observation) -> str | None:
    """The class by device ids, for cards that have lost their names or have no driver."""
    gpus = seen.gpus_on_pci
    return host_class([hardware_on_pci(device.device).name for device in gpus]) if gpus else None


def _host_memory_kind(gpus: t.Sequence[Facts]) -> str | None:
    kinds = {gpu["memory_kind"] for gpu in gpus} - {None}
    if not gpus:
        return "none"
    return "unified" if "unified" in kinds else next(iter(kinds), None)
