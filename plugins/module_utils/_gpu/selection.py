# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which GPUs of a host a server should take. Pure: the facts of the host in, UUIDs or a refusal with reasons out."""

from __future__ import annotations

import itertools
import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .faults import condition
from .tenants import gib, holders

# A CUDA context alone takes more than this, a monitoring agent less.
TENANT_MIB = 256
# Utilization is a snapshot: a few per cent apart is no difference.
UTILIZATION_STEP = 10
# Links from fast to slow; whatever is not named here is as slow as the slowest.
LINKS = ("NV", "C2C", "PIX", "PXB", "PHB", "NODE", "SYS")

PREFERENCES = ("nvlink", "numa", "free")
# What a service does about its GPUs when it starts by itself: it keeps them, or chooses again.
SAME, RESELECT = "same", "reselect"
AT_START = (SAME, RESELECT)

Gpu = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Wish:
    """What a server needs. C(server) names the one that is about to be replaced: what it holds counts as free."""

    count: int = 1
    min_free_mib: int = 0
    prefer: str = "nvlink"
    mig: bool = False
    server: str | None = None
    # What it does when it starts by itself.
    at_start: str = SAME
    # The share of a GPU's memory that has to be free, as vLLM counts it.
    share: float = 0.0


def wish_of(mapping: t.Mapping[str, t.Any], server: str | None = None) -> Wish:
    """A wish as a user writes it, with C(min_free) as another word for C(min_free_mib).

    Raises:
        VllmError: for an unknown key or a value that cannot be.
    """
    known = ("count", "min_free_mib", "min_free", "prefer", "mig", "at_start")
    unknown = sorted({*map(str, mapping)} - {*known})
    if unknown:
        raise VllmError(f"gpus: unknown key {unknown[0]!r}. Valid keys: {', '.join(known)}.")
    given = {key: value for key, value in mapping.items() if value is not None}
    prefer = given.get("prefer", "nvlink")
    if prefer not in PREFERENCES:
        raise VllmError(f"gpus.prefer must be one of {', '.join(PREFERENCES)}; got {prefer!r}.")
    least = whole("gpus.min_free_mib", given.get("min_free", given.get("min_free_mib", 0)), 0)
    mig = str(given.get("mig", False)).lower() in ("true", "yes", "1", "on")
    at_start = given.get("at_start", SAME)
    if at_start not in AT_START:
        raise VllmError(f"gpus.at_start must be one of {', '.join(AT_START)}; got {at_start!r}.")
    if at_start == RESELECT and "count" not in given:
        raise VllmError(
            "gpus.at_start: reselect needs gpus.count: only GPUs requested by count can be selected again, and GPUs "
            "given by name are never exchanged for others."
        )
    return Wish(whole("gpus.count", given.get("count", 1), 1), least, prefer, mig, server, at_start)


def whole(address: str, value: t.Any, least: int) -> int:
    """A number from a template, where it may be text.

    Raises:
        VllmError: with the address of what is no whole number, or less than C(least).
    """
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if number < least or isinstance(value, bool):
        raise VllmError(f"{address} must be a whole number of at least {least}; got {value!r}.")
    return number


@dataclass(frozen=True)
class Candidate:
    """A GPU, or with MIG a device of it, with what it is judged by."""

    gpu: Gpu
    uuid: str
    free_mib: int | None
    total_mib: int | None
    is_own: bool = False


def select(facts: t.Mapping[str, t.Any], wish: Wish) -> list[str]:
    """The UUIDs of the best GPUs, in the order of their indices.

    Raises:
        VllmError: with the reason for each GPU, when too few fit.
    """
    gpus = facts.get("gpus") or []
    if not gpus:
        why = facts.get("message") or "The facts list no GPU."
        raise VllmError(
            f"Cannot select {_wanted(wish)} on this host (status {facts.get('status')}): {why}", "no-free-gpu"
        )
    if wish.mig and wish.count > 1:
        raise VllmError(
            f"Cannot select {_wanted(wish)}: a process uses one MIG device only, so count must be 1 (and "
            "tensor_parallel_size too)."
        )
    candidates = [candidate for gpu in gpus for candidate in _candidates(gpu, wish)]
    judged = [(candidate, refusal(candidate, wish)) for candidate in candidates]
    fit = [candidate for candidate, reason in judged if reason is None]
    if len(fit) < wish.count:
        reasons = [reason for _candidate, reason in judged if reason] + [_no_devices(gpu) for gpu in gpus if wish.mig]
        raise VllmError(
            _refused(wish, f"{len(fit)} of {len(candidates)}", [reason for reason in reasons if reason]), "no-free-gpu"
        )
    links = facts.get("topology") or {}
    best = min(itertools.combinations(fit, wish.count), key=lambda group: rank(group, links, wish))
    return [candidate.uuid for candidate in best]


def named(facts: t.Mapping[str, t.Any], names: t.Sequence[str]) -> list[Candidate]:
    """The GPUs, or with MIG their devices, that are called so: by UUID, by index, or with MIG by C(INDEX:DEVICE).

    Raises:
        VllmError: when one is not on this host, or nobody can tell.
    """
    gpus = facts.get("gpus") or []
    if not gpus:
        raise VllmError(facts.get("message") or "The facts list no GPU.", "no-free-gpu")
    known: dict[str, Candidate] = {}
    for gpu in gpus:
        devices = _candidates(gpu, Wish(mig=True)) if _mig_enabled(gpu) else []
        known.update({name: one for n, one in enumerate(devices) for name in (one.uuid, f"{_index(gpu)}:{n}")})
        whole_gpu = _candidates(gpu, Wish())[0]
        known.update(dict.fromkeys((str(gpu.get("uuid")), _index(gpu)), whole_gpu))
    missing = [name for name in names if name not in known]
    if missing:
        raise VllmError(absent(missing, gpus), "no-free-gpu")
    return [known[name] for name in names]


def absent(missing: t.Iterable[str], gpus: t.Iterable[Gpu]) -> str:
    """The sentence about GPUs that a host does not have."""
    have = ", ".join(f"{_index(gpu)} ({gpu.get('uuid')})" for gpu in gpus) or "none"
    return f"gpus: {', '.join(sorted(missing))} is not on this host; it has {have}."


def _candidates(gpu: Gpu, wish: Wish) -> list[Candidate]:
    """The GPU itself or, when MIG devices are wanted, each of its devices."""
    if wish.mig and _mig_enabled(gpu):
        return [
            Candidate(gpu, device["uuid"], device.get("memory_free_mib"), device.get("memory_total_mib"))
            for device in gpu["mig"]["devices"]
        ]
    own = _own_mib(gpu, wish.server)
    free, total = gpu.get("memory_free_mib"), gpu.get("memory_total_mib")
    if free is not None:
        # More may be promised than there is.
        free = max(0, free + (own or 0) if total is None else min(free + (own or 0), max(free, total)))
    return [Candidate(gpu, str(gpu.get("uuid")), free, total, own is not None)]


def _mig_enabled(gpu: Gpu) -> bool:
    return bool((gpu.get("mig") or {}).get("enabled"))


def _processes(gpu: Gpu) -> t.Sequence[t.Mapping[str, t.Any]]:
    return gpu.get("processes") or []


def _own_mib(gpu: Gpu, server: str | None) -> int | None:
    """What the server that is replaced holds there; None where it does not run."""
    own = [process for process in _processes(gpu) if server and process.get("server") == server]
    return sum(process.get("used_memory_mib") or 0 for process in own) if own else None


def refusal(candidate: Candidate, wish: Wish) -> str | None:
    """Why this GPU cannot be taken, or None."""
    gpu = candidate.gpu
    name = f"GPU {_index(gpu)}"
    if gpu.get("health") != "ok":
        return f"{name} cannot be used: it {condition(gpu.get('health'))}"
    if not gpu.get("uuid"):
        return f"{name}: has no UUID"
    if gpu.get("compute_mode") not in ("Default", None):
        return f"{name}: compute mode {gpu['compute_mode']}, vLLM needs Default"
    if wish.mig and not _mig_enabled(gpu):
        return f"{name}: MIG is off, and a MIG device is wanted"
    if not wish.mig and _mig_enabled(gpu):
        return f"{name}: MIG is on, and a whole GPU is wanted"
    needed = _needed(candidate, wish)
    if needed and (candidate.free_mib is None or candidate.free_mib < needed):
        return f"{name}: {_too_small(candidate, wish, needed)}"
    return None


def _needed(candidate: Candidate, wish: Wish) -> float:
    """The MiB that have to be free there. Of the whole, CUDA does not see what the driver keeps for itself."""
    total, free, used = candidate.total_mib, candidate.free_mib, candidate.gpu.get("memory_used_mib")
    if not wish.share or total is None or free is None:
        return wish.min_free_mib
    if used is not None and candidate.total_mib == candidate.gpu.get("memory_total_mib"):
        total = min(total, free + used)
    return max(wish.min_free_mib, wish.share * total)


def _too_small(candidate: Candidate, wish: Wish, needed: float) -> str:
    need = f"needs {gib(needed)}"
    if candidate.free_mib is None:
        return f"its free memory is not known, {need}"
    total = "" if candidate.total_mib is None else f" of {gib(candidate.total_mib)}"
    held = "" if wish.mig else holders(_tenants(candidate.gpu, wish))
    return f"{gib(candidate.free_mib)}{total} GiB free, {need}{f'; {held}' if held else ''}"


def _tenants(gpu: Gpu, wish: Wish) -> list[t.Mapping[str, t.Any]]:
    """Who holds memory there, without the server that is replaced."""
    return [process for process in _processes(gpu) if not wish.server or process.get("server") != wish.server]


def _no_devices(gpu: Gpu) -> str | None:
    empty = _mig_enabled(gpu) and not gpu["mig"].get("devices")
    return f"GPU {_index(gpu)}: MIG is on but no device is configured" if empty else None


def _refused(wish: Wish, fit: str, reasons: t.Sequence[str]) -> str:
    return " ".join(
        [f"Cannot select {_wanted(wish)} on this host: {fit} can be taken.", *(f"{why}." for why in reasons)]
    )


def _wanted(wish: Wish) -> str:
    noun = "MIG device" if wish.mig else "GPU"
    memory = f" with {gib(wish.min_free_mib)} GiB free" if wish.min_free_mib else ""
    return f"{wish.count} {noun}{'' if wish.count == 1 else 's'}{memory}"


def rank(group: t.Sequence[Candidate], links: t.Mapping[str, str], wish: Wish) -> tuple[t.Any, ...]:
    """The smaller the better. The indices at the end make it stable."""
    link = max((_link_rank(a.gpu, b.gpu, links) for a, b in itertools.combinations(group, 2)), default=0)
    nodes = len({candidate.gpu.get("numa_node") for candidate in group})
    moved = sum(not candidate.is_own for candidate in group) if wish.server else 0
    tenants = sum((candidate.gpu.get("foreign_used_mib") or 0) >= TENANT_MIB for candidate in group)
    busy = sum(_busy(candidate.gpu) for candidate in group)
    least_free = min(candidate.free_mib or 0 for candidate in group)
    # With MIG the smallest device that fits leaves the larger ones to others.
    free = (least_free, 0) if wish.mig else (-least_free, -sum(candidate.free_mib or 0 for candidate in group))
    order = [_order(candidate) for candidate in group]
    # GPUs that NVLink joins do not talk through their NUMA nodes: for them these count after the tenants.
    apart = 0 if link == 0 else nodes
    keys: dict[str, tuple[t.Any, ...]] = {
        "nvlink": (link, apart, moved, tenants, busy, nodes, free),
        "numa": (nodes, link, moved, tenants, busy, free),
        "free": (moved, tenants, busy, free, link, nodes),
    }
    return (*keys[wish.prefer], order)


def _busy(gpu: Gpu) -> int:
    used = gpu.get("utilization_percent")
    return 100 // UTILIZATION_STEP if used is None else int(used) // UTILIZATION_STEP


def _link_rank(one: Gpu, other: Gpu, links: t.Mapping[str, str]) -> int:
    """0 is the fastest. NVLinks are not told apart by their number: one missing lane is no reason to move."""
    if one.get("index") == other.get("index"):
        return 0
    low, high = sorted((int(one.get("index") or 0), int(other.get("index") or 0)))
    link = links.get(f"{low}-{high}", "")
    return next((number for number, name in enumerate(LINKS) if link.startswith(name)), len(LINKS))


def _order(candidate: Candidate) -> tuple[int, str]:
    index = candidate.gpu.get("index")
    return (1 << 30 if index is None else int(index), candidate.uuid)


def _index(gpu: Gpu) -> str:
    index = gpu.get("index")
    return "?" if index is None else str(index)
