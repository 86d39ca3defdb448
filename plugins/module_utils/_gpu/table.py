# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The facts of a host for people: a table of its GPUs and what is served there. Pure, and in ASCII for any terminal."""

from __future__ import annotations

import typing as t

from .tenants import gib, owner

BAR_WIDTH = 20
# Tenants of one GPU that are named; the rest is counted.
NAMED_TENANTS = 3
# The unit of the watchdog.
UNIT = "gpufleet-vllm-watchdog"
HEADINGS: tuple[str, ...] = ("GPU", "name", "memory in use", "", "util", "temp", "power", "health", "tenants (GiB)")
# Numbers are read from the right, words from the left.
ALIGNMENT = "<<<>>>><<"

Facts = t.Mapping[str, t.Any]


def facts_of(result: t.Mapping[str, t.Any]) -> Facts:
    """The facts in the result of M(gpufleet.vllm.gpu_facts), or what became of a host that gave none."""
    if "gpus" in result:
        return result
    gathered = (result.get("ansible_facts") or {}).get("gpufleet")
    if gathered:
        return t.cast(Facts, gathered)
    said = " ".join(str(result.get("msg") or "Nothing was gathered.").split())
    return {"status": "unreachable" if result.get("unreachable") else "failed", "message": said, "gpus": []}


def table(host: str, facts: Facts) -> list[str]:
    """The lines to show for a host."""
    lines = [f"{host}: {_headline(facts)}"]
    if facts.get("message"):
        lines.append(f"  {facts['message']}")
    gpus = facts.get("gpus") or []
    if gpus:
        rows = [HEADINGS]
        for gpu in gpus:
            rows += [_gpu_row(gpu), *map(_mig_row, (gpu.get("mig") or {}).get("devices") or ())]
        lines += _aligned(rows)
    if any(gpu.get("memory_kind") == "unified" for gpu in gpus):
        lines.append("  (the memory is the host's: CPU and GPU share it)")
    lines += [
        f"  {'serves' if one.get('running') else 'stopped:'} {_server(one)}" for one in facts.get("servers") or ()
    ]
    lines += [f"  {line}" for line in watchdog_lines(facts.get("watchdog"))]
    return lines + [f"  ! {warning}" for warning in facts.get("warnings") or ()]


def _headline(facts: Facts) -> str:
    gpus = facts.get("gpus") or []
    reboot = " (reboot required)" if facts.get("reboot_required") else ""
    parts = [
        str(facts.get("status")),
        f"{len(gpus)} x {facts.get('hardware_class')}" if gpus else "",
        f"driver {facts['driver_version']}{reboot}" if facts.get("driver_version") else "",
        f"CUDA {facts['cuda_version']}" if facts.get("cuda_version") else "",
        _links(facts),
    ]
    return ", ".join(part for part in parts if part)


def _links(facts: Facts) -> str:
    links = list((facts.get("topology") or {}).values())
    nvlinks = sorted({link for link in links if str(link).startswith("NV")})
    if not nvlinks:
        return ""
    return f"NVLink {'/'.join(nvlinks)}{'' if all(link in nvlinks for link in links) else ' between some'}"


def _gpu_row(gpu: Facts) -> tuple[str, ...]:
    total, free = gpu.get("memory_total_mib"), gpu.get("memory_free_mib")
    used = gpu.get("memory_used_mib")
    if used is None and total is not None and free is not None:
        used = total - free
    return (
        _or_question(gpu.get("index")),
        _or_question(gpu.get("name")),
        _bar(used, total),
        _of(used, total),
        _unit(gpu.get("utilization_percent"), "%"),
        _unit(gpu.get("temperature_c"), "C"),
        _unit(gpu.get("power_draw_w"), "W"),
        str(gpu.get("health")).replace("_", " "),
        _tenants(gpu.get("processes") or []),
    )


def _mig_row(device: Facts) -> tuple[str, ...]:
    total, free = device.get("memory_total_mib"), device.get("memory_free_mib")
    used = None if total is None or free is None else total - free
    name = f"MIG {device.get('profile')} {device.get('index')}"
    return ("", name, _bar(used, total), _of(used, total), "", "", "", "", str(device.get("uuid")))


def _bar(used: int | None, total: int | None) -> str:
    if used is None or not total:
        return f"[{'?' * BAR_WIDTH}]"
    filled = min(BAR_WIDTH, round(BAR_WIDTH * used / total))
    # Something in use is never drawn as nothing, and something free never as full.
    if used * 100 > total:
        filled = max(filled, 1)
    if (total - used) * 100 > total:
        filled = min(filled, BAR_WIDTH - 1)
    return f"[{'#' * filled}{'.' * (BAR_WIDTH - filled)}]"


def _of(used: int | None, total: int | None) -> str:
    return f"{'?' if used is None else gib(used)} of {'?' if total is None else gib(total)} GiB"


def _tenants(processes: t.Sequence[Facts]) -> str:
    """Who uses the GPU: servers of the collection, containers or users, the largest first."""
    used: dict[str, int] = {}
    for process in processes:
        who = owner(process) or f"PID {process.get('pid')}"
        used[who] = used.get(who, 0) + (process.get("used_memory_mib") or 0)
    largest = sorted(used.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{who} {gib(mib)}" for who, mib in largest[:NAMED_TENANTS]]
    more = len(largest) - len(named)
    return ", ".join(named + ([f"{more} more"] if more > 0 else []))


def _server(server: Facts) -> str:
    what = server.get("served_model_name") or "a model"
    where = f" on port {server['port']}" if server.get("port") else ""
    how = f"container {server['container']}" if server.get("container") else f"{server.get('backend')} unit"
    return f"{what}{where} (server {server.get('name')}, {how}{', running' if server.get('running') else ''})"


def watchdog_lines(facts: Facts | None) -> list[str]:
    """A line for each server that is watched, and what keeps the watchdog from acting."""
    if not facts:
        return []
    found = [f"watchdog: {_watched(one)}" for one in facts.get("servers") or ()]
    if facts.get("paused_until"):
        found.append(f"watchdog: paused until {facts['paused_until']}, so it only looks on")
    if not facts.get("running"):
        found.append(f"watchdog: does not run, or has written nothing since {facts.get('updated')}: see unit {UNIT}")
    return found


def _watched(one: Facts) -> str:
    restarts = one.get("restarts") or 0
    parts = [
        f"{one.get('name')} {str(one.get('status')).replace('_', ' ')} since {one.get('since')}",
        f"{restarts} restart{'' if restarts == 1 else 's'}" if restarts else "",
        str(one.get("stood_down") or ""),
        f"last cause: {one['cause']}" if one.get("cause") else "",
        f"see {one['post_mortem']}" if one.get("post_mortem") else "",
    ]
    return ", ".join(part.rstrip(".") for part in parts if part)


def _aligned(rows: t.Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    cells = [[f"{cell:{side}{width}}" for cell, side, width in zip(row, ALIGNMENT, widths)] for row in rows]
    return [f"  {'  '.join(row)}".rstrip() for row in cells]


def _unit(value: float | None, unit: str) -> str:
    return "?" if value is None else f"{value:.0f} {unit}"


def _or_question(value: t.Any) -> str:
    return "?" if value is None else str(value)
