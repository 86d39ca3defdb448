# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nvidia-smi, /proc and sysfs print about GPUs, as values.

Pure: no text raises, and what a text does not say is None, never 0.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

# ---------------------------------------------------------------------------------------------------------------------
# Commands
# ---------------------------------------------------------------------------------------------------------------------

# One unknown field makes nvidia-smi refuse the whole query, so what every driver since 450 knows stands apart.
CORE_FIELDS = (
    "index",
    "uuid",
    "name",
    "pci.bus_id",
    "driver_version",
    "memory.total",
    "memory.free",
    "memory.used",
    "utilization.gpu",
    "power.draw",
    "temperature.gpu",
    "compute_mode",
    "persistence_mode",
    "mig.mode.current",
)
EXTRA_FIELDS = ("uuid", "compute_cap", "gpu_recovery_action", "fabric.state", "fabric.status")
SAMPLE_FIELDS = ("uuid", "utilization.gpu")
# The name stands last because it may hold commas.
APP_FIELDS = ("gpu_uuid", "pid", "used_memory", "process_name")

CSV = "--format=csv,noheader,nounits"
HEADER_ARGS = ("-q", "-d", "COMPUTE")
TOPOLOGY_ARGS = ("topo", "-m")
LIST_ARGS = ("-L",)
XML_ARGS = ("-q", "-x")
MODINFO = ("modinfo", "-F", "version", "nvidia")
TOOLKIT = ("nvidia-ctk", "--version")
FABRIC_MANAGER = ("nv-fabricmanager", "--version")
# Docker Engine serves `--gpus` with it, once it is on its PATH as the engine starts.
RUNTIME_HOOK = "nvidia-container-runtime-hook"


def gpu_query(fields: t.Sequence[str]) -> tuple[str, ...]:
    """The arguments that ask for C(fields) of every GPU."""
    return (f"--query-gpu={','.join(fields)}", CSV)


APPS_ARGS = (f"--query-compute-apps={','.join(APP_FIELDS)}", CSV)

# ---------------------------------------------------------------------------------------------------------------------
# What was seen
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """What became of one command. C(rc) is None when it was not run or did not end."""

    rc: int | None = None
    out: str = ""
    err: str = ""
    timed_out: bool = False

    @property
    def text(self) -> str:
        """Both streams: nvidia-smi writes its errors to either."""
        return f"{self.out}\n{self.err}"


@dataclass(frozen=True)
class Table:
    """The answer to a query, with the fields that were asked for in the end."""

    fields: tuple[str, ...]
    result: Result = field(default_factory=Result)


@dataclass(frozen=True)
class PciDevice:
    """One NVIDIA function on the PCI bus, as sysfs spells it."""

    address: str
    class_code: str
    device: str = ""
    driver: str | None = None
    numa_node: int | None = None

    @property
    def is_gpu(self) -> bool:
        """A display or 3D controller. GB10's own bridges have the same vendor and class 0604."""
        return self.class_code[:6] in ("0x0300", "0x0302")

    @property
    def is_nvswitch(self) -> bool:
        return self.class_code[:6] == "0x0680"


@dataclass(frozen=True)
class ProcessFiles:
    """What /proc/PID holds of one process."""

    status: str = ""
    cgroup: str = ""


@dataclass(frozen=True)
class Observation:
    """Everything that was read from a host, unparsed. The defaults are a host where nothing could be read."""

    nvidia_smi: str | None = None
    core: Table = field(default_factory=lambda: Table(CORE_FIELDS))
    extras: Table = field(default_factory=lambda: Table(EXTRA_FIELDS))
    apps: Result = field(default_factory=Result)
    samples: tuple[Result, ...] = ()
    header: Result = field(default_factory=Result)
    topology: Result = field(default_factory=Result)
    mig_list: Result = field(default_factory=Result)
    mig_xml: Result = field(default_factory=Result)
    modinfo: Result = field(default_factory=Result)
    toolkit: Result = field(default_factory=Result)
    has_runtime_hook: bool = False
    fabric_manager: Result = field(default_factory=Result)
    fabric_manager_running: bool | None = None
    proc_version: str = ""
    proc_gpus: t.Mapping[str, str] = field(default_factory=dict)
    meminfo: str = ""
    pci: tuple[PciDevice, ...] | None = None
    numa_nodes: str = ""
    processes: t.Mapping[int, ProcessFiles] = field(default_factory=dict)
    users: t.Mapping[int, str] = field(default_factory=dict)
    init_cgroup: str = ""
    containers: t.Any = None
    docker_info: t.Any = None
    daemon_json: str = ""
    cdi: t.Mapping[str, str] = field(default_factory=dict)
    units: t.Mapping[str, bool] = field(default_factory=dict)
    timeout: float = 60

    @property
    def gpus_on_pci(self) -> tuple[PciDevice, ...]:
        return tuple(device for device in self.pci or () if device.is_gpu)


Facts = dict[str, t.Any]
Rows = list[dict[str, str]]

# ---------------------------------------------------------------------------------------------------------------------
# Cells
# ---------------------------------------------------------------------------------------------------------------------

# What stands in a cell instead of a value; anything in brackets is one too.
NO_VALUE = re.compile(
    r"(\[.*\]?|N/A|ERR!|None|Not Supported|Unknown Error|GPU is lost.*|GPU requires reset.*|Insufficient Permissions"
    r"|Requested functionality has been deprecated|)",
    re.IGNORECASE,
)
NUMBER = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)(?: ?(?:MiB|%|W|C))?")
BUS_ID = r"[0-9A-Fa-f]{4,8}:[0-9A-Fa-f]{2}:[0-9A-Fa-f]{2}\.[0-9A-Fa-f]"
UUID = re.compile(r"(?:GPU|MIG)-[0-9A-Za-z/-]{8,}")


def text_of(cell: str | None) -> str | None:
    """The cell, or None where it holds one of nvidia-smi's ways to say "no value"."""
    cell = (cell or "").strip()
    return None if NO_VALUE.fullmatch(cell) else cell


def number_of(cell: str | None) -> float | None:
    found = NUMBER.fullmatch((cell or "").strip())
    return float(found.group(1)) if found else None


def integer_of(cell: str | None) -> int | None:
    value = number_of(cell)
    return None if value is None else int(value)


def switch_of(cell: str | None) -> bool | None:
    return {"enabled": True, "disabled": False}.get((cell or "").strip().lower())


def version_of(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text)
    return found.group(1) if found else None


def bus_key(bus_id: str | None) -> str | None:
    """A PCI address as sysfs spells it: nvidia-smi writes the domain with eight digits and in capitals."""
    found = re.fullmatch(f"({BUS_ID})", (bus_id or "").strip())
    if not found:
        return None
    domain, rest = found.group(1).lower().split(":", 1)
    return f"{int(domain, 16):04x}:{rest}"


# ---------------------------------------------------------------------------------------------------------------------
# nvidia-smi
# ---------------------------------------------------------------------------------------------------------------------

REJECTED = re.compile(r'Field "([^"]+)" is not a valid field')
# "GPU 0000:02:00.0: GPU is lost.", "GPU0000:07:00.0: Unknown Error", "GPU3: 0000:5F:00.0: Unknown Error", "GPU2: ..."
NO_HANDLE = re.compile(
    rf"Unable to determine the device handle for GPU ?(?:(?P<bus>{BUS_ID})|(?P<index>\d+)(?:: ?(?P<bus2>{BUS_ID}))?)"
    r"\s*:\s*(?P<error>[^\n]*)"
)
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
LINK = re.compile(r"X|NV\d+|SYS|NODE|PHB|PXB|PIX|PXN|SOC|C2C")
MIG_LINE = re.compile(r"\s+MIG\s+(\S+)\s+Device\s+(\d+)\s*:\s*\(UUID:\s*(MIG-[^)\s]+)\)")


@dataclass(frozen=True)
class Unreachable:
    """A card that nvidia-smi names only to say that it does not answer."""

    bus_id: str | None
    index: int | None
    error: str


def rejected_field(result: Result) -> str | None:
    """The field that this driver's nvidia-smi does not know."""
    return version_of(REJECTED.pattern, result.text)


def parse_query(table: Table) -> Rows:
    """The rows of a query. A damaged line is left out, as is a message between the rows."""
    rows = []
    for line in table.result.out.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(table.fields):
            row = dict(zip(table.fields, cells))
            if UUID.fullmatch(row.get("uuid", "")) or row.get("index", "").isdecimal():
                rows.append(row)
    return rows


def parse_apps(text: str) -> Rows:
    """The compute processes, those of MIG devices under the UUID of the whole card."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",", len(APP_FIELDS) - 1)]
        if len(cells) == len(APP_FIELDS) and UUID.fullmatch(cells[0]) and re.fullmatch(r"[0-9]{1,10}", cells[1]):
            rows.append(dict(zip(APP_FIELDS, cells)))
    return rows


def parse_unreachable(text: str) -> list[Unreachable]:
    found = []
    for match in NO_HANDLE.finditer(text):
        index = match["index"]
        found.append(Unreachable(match["bus"] or match["bus2"], int(index) if index else None, match["error"].strip()))
    return found


def parse_cuda_version(text: str) -> str | None:
    """The newest CUDA that the driver's user-mode part supports. From driver 595 on it is called "CUDA UMD Version"."""
    return version_of(r"CUDA(?: UMD)? Version\s*:\s*(\d+\.\d+)", text)


def parse_topology(text: str) -> tuple[dict[str, str], dict[int, int]]:
    """Links by pair of indices, and the NUMA node by index where the table tells it."""
    lines = [line.strip() for line in ANSI.sub("", text).splitlines()]
    start = next((number for number, line in enumerate(lines) if re.match(r"GPU\d+", line)), None)
    if start is None:
        return {}, {}
    names = re.findall(r"GPU\d+", lines[start])
    links: dict[str, str] = {}
    numa: dict[int, int] = {}
    for line in lines[start + 1 :]:
        head, _separator, rest = line.partition("\t") if "\t" in line else line.partition(" ")
        if head not in names:
            continue
        row = int(head[3:])
        for name, link in zip(names, _links(rest, len(names))):
            if int(name[3:]) > row and link != "X":
                links[f"{row}-{int(name[3:])}"] = link
        node = _numa_affinity(lines[start], rest)
        if node is not None:
            numa[row] = node
    return links, numa


def _links(row: str, count: int) -> list[str]:
    """The first C(count) cells. nvidia-smi glues long ones ("NV18NV18"), so words alone are not enough."""
    words = row.split()[:count]
    if len(words) == count and all(LINK.fullmatch(word) for word in words):
        return words
    glued = LINK.findall(row)[:count]
    return glued if len(glued) == count else []


def _numa_affinity(header: str, row: str) -> int | None:
    """The NUMA column, read only when the row has exactly the header's columns."""
    heading = re.search(r"CPU Affinity(\s+NUMA Affinity)?(\s+GPU NUMA ID)?\s*$", header)
    if heading is None or heading.group(1) is None:
        return None
    tail = 3 if heading.group(2) else 2
    cells = row.split()
    if len(cells) != len(header[: heading.start()].split()) + tail:
        return None
    # GB200 lists the CPU's node first and then the memory nodes of the GPUs.
    return integer_of(version_of(r"^(\d+)(?:[,-]|$)", cells[1 - tail]) or "")


def parse_mig_list(text: str) -> dict[str, list[Facts]]:
    """The MIG devices by the UUID of their card."""
    devices: dict[str, list[Facts]] = {}
    card = ""
    for line in text.splitlines():
        head = re.match(r"GPU \d+:.*\(UUID:\s*(GPU-[^)\s]+)\)", line)
        card = head.group(1) if head else card
        found = MIG_LINE.match(line)
        if found and card:
            profile, index, uuid = found.groups()
            devices.setdefault(card, []).append({"index": int(index), "profile": profile, "uuid": uuid})
    return devices


def parse_mig_memory(xml: str) -> dict[tuple[str, int], tuple[int | None, int | None]]:
    """Total and free memory by UUID of the card and number of the MIG device.

    Read with patterns, for the tags are the same in every version of the schema and a cut document must not fail.
    """
    memory = {}
    for gpu in re.findall(r"<gpu id=.*?(?:</gpu>|\Z)", xml, re.DOTALL):
        card = version_of(r"<uuid>(GPU-[^<]+)</uuid>", re.sub(r"(?s)<mig_devices>.*?</mig_devices>", "", gpu))
        for device in re.findall(r"<mig_device>(.*?)</mig_device>", gpu, re.DOTALL):
            index = version_of(r"<index>\s*(\d{1,4})\s*</index>", device)
            usage = version_of(r"(?s)<fb_memory_usage>(.*?)</fb_memory_usage>", device) or ""
            if card and index:
                total = integer_of(version_of(r"<total>([^<]*)</total>", usage))
                memory[card, int(index)] = (total, integer_of(version_of(r"<free>([^<]*)</free>", usage)))
    return memory


# ---------------------------------------------------------------------------------------------------------------------
# /proc, PCI
# ---------------------------------------------------------------------------------------------------------------------

# A server's unit, as vllm_service names it.
UNIT = re.compile(r"/vllm-([^/\n]+)\.service")


def parse_driver_version(proc_version: str) -> str | None:
    """The loaded module's version, of either flavour ("Kernel Module", "Open Kernel Module for x86_64")."""
    return version_of(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)", proc_version)


def parse_meminfo(text: str) -> dict[str, int | None]:
    def mib(key: str) -> int | None:
        value = version_of(rf"(?m)^{key}:\s+(\d{{1,15}}) kB", text)
        return None if value is None else int(value) // 1024

    return {"total_mib": mib("MemTotal"), "available_mib": mib("MemAvailable"), "swap_total_mib": mib("SwapTotal")}


def proc_gpu(text: str) -> dict[str, str | None]:
    """Name and UUID of a card from /proc/driver/nvidia/gpus, for one that nvidia-smi cannot ask any more."""
    uuid = version_of(r"(?m)^GPU UUID:[ \t]*(GPU-[0-9A-Fa-f-]+)\s*$", text)
    return {"name": version_of(r"(?m)^Model:[ \t]*(\S.*?)\s*$", text), "uuid": uuid}
