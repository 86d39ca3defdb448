# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the GPUs of a host: a status and one sentence with the remedy. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass

from .hardware import hardware_on_pci, host_class
from .nvidia_smi import ANSI, BUS_ID, Card, Result
from .observation import Observation

Facts = dict[str, t.Any]


@dataclass(frozen=True)
class Failure:
    """A way in which nvidia-smi fails: by exit status or by what it prints."""

    rcs: tuple[int, ...]
    pattern: str
    sentence: str
    status: str = "error"


FAILURES = (
    Failure(
        (18,),
        r"version mismatch",
        "The NVIDIA libraries and the loaded kernel module{loaded} have different versions, as after an upgrade: "
        "reboot the host.",
        "driver_mismatch",
    ),
    Failure(
        (9,),
        r"couldn't communicate with the NVIDIA driver|Driver Not Loaded",
        "nvidia-smi is installed, but the NVIDIA kernel module is not loaded{hint}: load it with 'modprobe nvidia'; "
        "if that fails, see 'dmesg' (Secure Boot, no module for this kernel) or reboot the host.",
        "driver_not_loaded",
    ),
    Failure(
        (4,),
        r"Insufficient Permissions",
        "nvidia-smi has no permission to open the GPU devices: run with 'become: true', or give this user access to "
        "/dev/nvidia*.",
    ),
    Failure(
        (17,),
        r"blocked by the operating system",
        "The operating system or a cgroup blocks nvidia-smi from the GPUs: run on the host itself, not in a container.",
    ),
    Failure(
        (12,),
        r"couldn't find libnvidia-ml|NVML Shared Library Not Found|while loading shared libraries",
        "nvidia-smi finds no libnvidia-ml.so: install the driver's user-space package of the loaded version{loaded}.",
    ),
    Failure((8,), r"external power cables", "A GPU lacks a power cable: connect it."),
    Failure(
        (16,), r"requires reset", "A GPU needs a reset: drain the host, then run 'nvidia-smi --gpu-reset' or reboot."
    ),
    Failure(
        (15,),
        r"GPU is lost",
        "A GPU has fallen off the bus: reboot the host, and have the card checked if it happens again ('dmesg', Xid "
        "79).",
    ),
    Failure(
        (10, 11),
        r"interrupt request",
        "A GPU does not answer the driver: look for Xid messages in 'dmesg' and reboot the host.",
    ),
    Failure(
        (),
        r"Failed to initialize NVML: (?:Unknown Error|N/A)",
        "NVML cannot be initialized: a container that has lost its GPU devices must be recreated; on a host see "
        "'dmesg', in WSL2 update the driver of Windows.",
    ),
)


# What a card of that health does, and the remedy, the most drastic first.
SICK = {
    "lost": (
        "has fallen off the bus",
        "reboot the host, and have the card checked if it happens again ('dmesg', Xid 79)",
    ),
    "error": ("does not answer", "look for Xid messages in 'dmesg' and reboot the host"),
    "reset_required": ("needs a reset", "drain it, then run 'nvidia-smi --gpu-reset' for it or reboot the host"),
}


def condition(health: t.Any) -> str:
    """What is wrong with a card of that health, as it follows C(GPU 0) or C(it)."""
    return SICK[health][0] if health in SICK else f"has the unknown health {health!r}"


def explain(seen: Observation, cards: t.Sequence[Card]) -> tuple[str, str | None]:
    """Status and, unless it is ok, one sentence with the remedy."""
    if not cards:
        return _no_cards(seen)
    sick = [card for card in cards if card.health != "ok"]
    well = len(cards) - len(sick)
    if not sick:
        return "ok", None
    named = ", ".join(
        f"GPU {_join([card.index])} ({card.pci_bus_id or 'address unknown'}) {SICK[card.health][0]}" for card in sick
    )
    remedy = next(remedy for state, (_words, remedy) in SICK.items() if state in [card.health for card in sick])
    others = {0: "", 1: " (the other one works)"}.get(well, f" (the other {well} work)")
    return "error", f"{named}{others}: {remedy}."


def _no_cards(seen: Observation) -> tuple[str, str]:
    result = seen.smi.answer
    if seen.nvidia_smi is None or (_never_started(result) and not seen.driver_loaded):
        return _without_nvidia_smi(seen)
    if result.timed_out:
        return "timeout", (
            f"{seen.nvidia_smi} did not answer within {seen.timeout:g} s: look for Xid messages in 'dmesg' (a hung GPU "
            "needs a reboot); without persistence mode the first call is slow and needs a larger 'timeout'."
        )
    if _never_started(result):
        return "error", f"{seen.nvidia_smi} could not be run: {_first_line(result) or 'no reason given'}."
    for failure in FAILURES:
        if result.rc in failure.rcs or re.search(failure.pattern, result.text, re.IGNORECASE):
            return failure.status, failure.sentence.format(loaded=_loaded(seen), hint=_hint(seen))
    if result.rc == 6 or re.search(r"No (?:devices|supported GPUs) were found", result.text):
        return _no_devices(seen)
    if result.rc == 0:
        return "error", (
            f"{seen.nvidia_smi} succeeded but printed no GPU that can be read ({_first_line(result) or 'no output'}): "
            "run it by hand, and check whether a wrapper script replaces it."
        )
    rc = result.rc or 0
    end = f"was killed by signal {-rc}" if rc < 0 else f"failed with exit status {rc}"
    return "error", f"{seen.nvidia_smi} {end}: {_first_line(result) or 'no output'}."


def _never_started(result: Result) -> bool:
    return result.rc is None and not result.timed_out


def _without_nvidia_smi(seen: Observation) -> tuple[str, str]:
    gpus = seen.gpus_on_pci
    if seen.driver_loaded:
        return "error", (
            f"The NVIDIA driver {seen.driver_loaded} is loaded but nvidia-smi is missing: install the utilities "
            "of that version, or give the path in the option 'nvidia_smi'."
        )
    if not gpus:
        return "no_gpu", "No NVIDIA GPU: the PCI bus shows none and no driver is loaded."
    found = _found(seen)
    if all(device.driver == "vfio-pci" for device in gpus):
        return "no_gpu", f"{found}, reserved for virtual machines (vfio-pci): this host itself has none."
    if seen.driver_installed:
        return "driver_not_loaded", (
            f"{found} and the driver {seen.driver_installed} is installed, but its kernel module is not loaded"
            f"{_hint(seen)}: load it with 'modprobe nvidia' or reboot the host, and install the driver's utilities."
        )
    return "no_driver", (
        f"{found} but no NVIDIA driver is installed{_hint(seen)}: install one from NVIDIA's or the "
        "distribution's packages; on DGX OS update the system, which brings its driver."
    )


def _no_devices(seen: Observation) -> tuple[str, str]:
    gpus = seen.gpus_on_pci
    if gpus:
        return "error", (
            f"{_found(seen)}, but the driver{_loaded(seen)} finds none: see 'dmesg' (RmInitAdapter), and note that "
            "Blackwell and Grace need the open kernel modules."
        )
    return "no_gpu", "No NVIDIA GPU: the driver finds none and the PCI bus shows none."


def _first_line(result: Result) -> str:
    lines = [line.strip() for line in ANSI.sub("", result.text).splitlines()]
    return next((line for line in lines if line), "")[:200].rstrip(".")


def _loaded(seen: Observation) -> str:
    return f" ({seen.driver_loaded})" if seen.driver_loaded else ""


def _hint(seen: Observation) -> str:
    """What the PCI bus adds to why no driver is loaded."""
    if seen.pci is not None and not seen.gpus_on_pci:
        return " and the PCI bus shows no NVIDIA GPU (is the card seated, or passed through?)"
    if any(device.driver == "nouveau" for device in seen.gpus_on_pci):
        return " because nouveau holds the GPU (blacklist it and reboot)"
    return ""


def _found(seen: Observation) -> str:
    gpus = seen.gpus_on_pci
    kind = host_class([hardware_on_pci(device.device).name for device in gpus])
    return f"The PCI bus shows {_count(len(gpus), 'NVIDIA GPU')} ({kind})"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def reboot_required(seen: Observation, status: str, loaded: str | None) -> bool | None:
    """Decided from what is loaded and installed, so that a run that failed halfway does not lose the answer."""
    installed = seen.driver_installed
    if status == "driver_mismatch":
        return True
    if loaded and installed:
        return loaded != installed
    if loaded and status == "ok":
        # nvidia-smi works, so the libraries fit the loaded module.
        return False
    if status in ("no_gpu", "no_driver"):
        return any(device.driver == "nouveau" for device in seen.gpus_on_pci)
    return True if status == "driver_not_loaded" and installed else None


def warnings(seen: Observation, facts: Facts) -> list[str]:
    """What works now and will hurt later, or hurts CUDA although nvidia-smi works."""
    found = []
    gpus, fabric, toolkit = facts["gpus"], facts["fabric_manager"], facts["container_toolkit"]
    if facts["reboot_required"] and facts["status"] == "ok":
        found.append(
            f"Driver {facts['driver_version']} is loaded but {facts['driver_installed']} is installed: reboot the host."
        )
    if fabric["ready"] is False:
        found.append(
            "The NVSwitch fabric is not ready, so CUDA fails with error 802: start nvidia-fabricmanager in exactly the "
            f"driver's version ({facts['driver_version']})."
        )
    for address in dict.fromkeys(re.findall(rf"infoROM is corrupted at gpu ({BUS_ID})", seen.smi.answer.text)):
        found.append(f"The infoROM of GPU {address} is corrupted: have the card checked.")
    exclusive = [gpu["index"] for gpu in gpus if gpu["compute_mode"] not in ("Default", None)]
    if exclusive:
        found.append(f"vLLM needs compute mode Default, which GPU {_join(exclusive)} does not have.")
    slow = [gpu["index"] for gpu in gpus if gpu["persistence_mode"] is False]
    if slow:
        found.append(f"Persistence mode is off on GPU {_join(slow)}, which makes each first use slow.")
    absent = len([device for device in seen.gpus_on_pci if device.driver == "nvidia"]) - len(gpus)
    if gpus and absent > 0:
        found.append(f"The driver holds {_count(absent, 'GPU')} that nvidia-smi does not list: see 'dmesg'.")
    ways = (toolkit["docker_runtime"] is not False, toolkit["runtime_hook"], toolkit["cdi"])
    if gpus and toolkit["docker_version"] and not any(ways):
        found.append(
            "Containers get no GPU, because the Docker Engine has neither the NVIDIA runtime nor its hook nor a CDI "
            "specification: install the NVIDIA Container Toolkit."
        )
    if any(process["managed"] is None and process["container"] for gpu in gpus for process in gpu["processes"]):
        found.append(
            "Cannot read the owners of the processes in containers from the Docker Engine: run with 'become: true'."
        )
    return found


def _join(indices: t.Sequence[int | None]) -> str:
    return ", ".join("?" if index is None else str(index) for index in indices)
