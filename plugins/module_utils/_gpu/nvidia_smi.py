# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the output of nvidia-smi is read: from text to cards, MIG devices and processes, once.

Pure: no text raises, and what a text does not tell is None, never 0.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field, replace

# --- Cells ---

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
    """The number of a cell, whatever its unit; None for C([N/A]) and the like."""
    found = NUMBER.fullmatch((cell or "").strip())
    return float(found.group(1)) if found else None


def integer_of(cell: str | None) -> int | None:
    """The number of a cell, cut off after the point; None where it has none."""
    value = number_of(cell)
    return None if value is None else int(value)


def _percent_of(cell: str | None) -> int | None:
    """A share of 0 to 100; None for anything else."""
    value = integer_of(cell)
    return value if value is not None and value <= 100 else None


def switch_of(cell: str | None) -> bool | None:
    """Whether a cell says Enabled or Disabled; None for anything else."""
    return {"enabled": True, "disabled": False}.get((cell or "").strip().lower())


def version_of(pattern: str, text: str) -> str | None:
    """The first group of a pattern in a text, or None."""
    found = re.search(pattern, text)
    return found.group(1) if found else None


def bus_key(bus_id: str | None) -> str | None:
    """A PCI address as sysfs spells it: nvidia-smi writes the domain with eight digits and in capitals."""
    found = re.fullmatch(f"({BUS_ID})", (bus_id or "").strip())
    if not found:
        return None
    domain, rest = found.group(1).lower().split(":", 1)
    return f"{int(domain, 16):04x}:{rest}"


def _dotted_of(cell: str | None) -> str | None:
    """A version or a compute capability."""
    return cell if re.fullmatch(r"\d+(?:\.\d+){1,2}", cell or "") else None


# --- Queries ---

Readers = dict[str, tuple[str, t.Callable[[t.Optional[str]], t.Any]]]
# By nvidia-smi's name of a field: ours (in Card), and how its cells are read. One unknown field makes nvidia-smi refuse
# the whole query, so what every driver since 450 knows stands apart.
CORE: Readers = {
    "index": ("index", integer_of),
    "uuid": ("uuid", text_of),
    "name": ("name", text_of),
    "pci.bus_id": ("pci_bus_id", text_of),
    "driver_version": ("driver_version", _dotted_of),
    "memory.total": ("memory_total_mib", integer_of),
    "memory.free": ("memory_free_mib", integer_of),
    "memory.used": ("memory_used_mib", integer_of),
    "utilization.gpu": ("utilization_percent", _percent_of),
    "power.draw": ("power_draw_w", number_of),
    "temperature.gpu": ("temperature_c", integer_of),
    "compute_mode": ("compute_mode", text_of),
    "persistence_mode": ("persistence_mode", switch_of),
    "mig.mode.current": ("mig_enabled", switch_of),
}
EXTRA: Readers = {
    "compute_cap": ("compute_capability", _dotted_of),
    "fabric.state": ("fabric_state", text_of),
    "fabric.status": ("fabric_status", text_of),
}
CORE_FIELDS = tuple(CORE)
EXTRA_FIELDS = ("uuid", *EXTRA, "gpu_recovery_action")
SAMPLE_FIELDS = ("uuid", "utilization.gpu")
# The name stands last because it may hold commas.
APP_FIELDS = ("gpu_uuid", "pid", "used_memory", "process_name")

CSV = "--format=csv,noheader,nounits"


def gpu_query(fields: t.Sequence[str]) -> tuple[str, ...]:
    """The arguments that ask for C(fields) of every GPU."""
    return (f"--query-gpu={','.join(fields)}", CSV)


APPS_ARGS = (f"--query-compute-apps={','.join(APP_FIELDS)}", CSV)

# --- Answers ---


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
    result: Result = Result()


Row = dict[str, str]


@dataclass(frozen=True)
class MigDevice:
    """A part of a card in MIG mode."""

    index: int
    profile: str
    uuid: str
    memory_total_mib: int | None = None
    memory_free_mib: int | None = None


@dataclass(frozen=True)
class Card:
    """One GPU. C(health) is "ok", "lost", "reset_required" or "error"; C(address) is the bus id as sysfs spells it."""

    health: str = "ok"
    index: int | None = None
    uuid: str | None = None
    name: str | None = None
    pci_bus_id: str | None = None
    address: str | None = None
    driver_version: str | None = None
    compute_capability: str | None = None
    memory_total_mib: int | None = None
    memory_free_mib: int | None = None
    memory_used_mib: int | None = None
    utilization_percent: int | None = None
    power_draw_w: float | None = None
    temperature_c: int | None = None
    compute_mode: str | None = None
    persistence_mode: bool | None = None
    mig_enabled: bool | None = None
    mig_devices: tuple[MigDevice, ...] = ()
    fabric_state: str | None = None
    fabric_status: str | None = None


@dataclass(frozen=True)
class App:
    """A compute process; that of a MIG device under the UUID of the whole card."""

    gpu_uuid: str
    pid: int
    name: str | None
    used_memory_mib: int | None


@dataclass(frozen=True)
class Unreachable:
    """A card that nvidia-smi names only to say that it does not answer."""

    bus_id: str | None
    index: int | None
    error: str

    @property
    def health(self) -> str:
        """An unknown error where a handle was asked for means that the card fell off the bus."""
        error = self.error.lower()
        return "reset_required" if "reset" in error and "is lost" not in error else "lost"


@dataclass(frozen=True)
class Topology:
    """The link of each pair of indices, and the NUMA node by index where the table shows it."""

    links: t.Mapping[str, str] = field(default_factory=dict)
    numa: t.Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """All that nvidia-smi tells of a host. C(answer) is what became of the query for the cards."""

    answer: Result = Result()
    cards: tuple[Card, ...] = ()
    unreachable: tuple[Unreachable, ...] = ()
    # None when they could not be listed.
    apps: tuple[App, ...] | None = None
    cuda_version: str | None = None
    topology: Topology = Topology()


# --- Reading ---

REJECTED = re.compile(r'Field "([^"]+)" is not a valid field')
# "GPU 0000:02:00.0: GPU is lost.", "GPU0000:07:00.0: Unknown Error", "GPU3: 0000:5F:00.0: Unknown Error", "GPU2: ..."
NO_HANDLE = re.compile(
    rf"Unable to determine the device handle for [Gg][Pp][Uu] ?(?:(?P<bus>{BUS_ID})|(?P<index>\d+)"
    rf"(?:: ?(?P<bus2>{BUS_ID}))?)"
    r"\s*:\s*(?P<error>[^\n]*)"
)
ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
BROKEN_CELL = re.compile(r"ERR!|\[?Unknown Error\]?", re.IGNORECASE)
LINK = re.compile(r"X|NV\d+|SYS|NODE|PHB|PXB|PIX|PXN|SOC|C2C")
# The columns of other devices; their names are glued, too ("NIC8NIC9", "mlx5_10mlx5_11").
COLUMN = re.compile(r"GPU\d+|NIC\d+|[a-z]+\d+_\d+|[A-Za-z]\S*")
# A part of a card that a hypervisor hands over: "GRID A100D-1-10C MIG 1g.10gb", "NVIDIA A100-4-20C". Whether it is
# split again it does not always tell.
VIRTUAL = re.compile(r"-\d+(?:-\d+)?[ACQ](?:ME)?\b|\bMIG\b", re.IGNORECASE)
MIG_LINE = re.compile(r"\s+MIG\s+(\S+)\s+Device\s+(\d+)\s*:\s*\(UUID:\s*(MIG-[^)\s]+)\)")


def rejected_field(result: Result) -> str | None:
    """The field that this driver's nvidia-smi does not know."""
    return version_of(REJECTED.pattern, result.text)


def rows_of(table: Table) -> list[Row]:
    """The cells of a query. A damaged line is left out, as is a message between the rows."""
    rows = []
    for line in table.result.out.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == len(table.fields):
            row = dict(zip(table.fields, cells))
            if UUID.fullmatch(row.get("uuid", "")) or row.get("index", "").isdecimal():
                rows.append(row)
    return rows


def read_cards(core: Table, extras: Table) -> tuple[Card, ...]:
    """The cards that answered, with what their driver knows besides."""
    more = {row["uuid"]: row for row in rows_of(extras) if row.get("uuid")}
    return tuple(_card({**more.get(row["uuid"], {}), **row}) for row in rows_of(core))


def _card(row: Row) -> Card:
    known = {ours: read(row.get(name)) for name, (ours, read) in {**CORE, **EXTRA}.items()}
    return Card(health=_health(row), address=bus_key(row.get("pci.bus_id")), **known)


def _health(row: Row) -> str:
    """The state of one card: a broken one may stand between healthy ones in a listing that succeeded."""
    cells = " | ".join(row.values()).lower()
    action = row.get("gpu_recovery_action", "").lower()
    if "is lost" in cells:
        return "lost"
    if "requires reset" in cells or "reset" in action or "reboot" in action:
        return "reset_required"
    broken = [name for name, cell in row.items() if BROKEN_CELL.fullmatch(cell)]
    # Healthy cards of some hosts answer one or another query, the power draw say, with "Unknown Error".
    return "error" if "memory.total" in broken or len(broken) * 2 > len(row) else "ok"


def with_samples(cards: t.Sequence[Card], samples: t.Iterable[Result]) -> tuple[Card, ...]:
    """The cards with the highest utilization seen: a GPU that idled for an instant is not a free one."""
    rows = [row for sample in samples for row in rows_of(Table(SAMPLE_FIELDS, sample))]

    def highest(card: Card) -> int | None:
        later = [_percent_of(row["utilization.gpu"]) for row in rows if row["uuid"] == card.uuid]
        return max((value for value in (card.utilization_percent, *later) if value is not None), default=None)

    return tuple(replace(card, utilization_percent=highest(card)) for card in cards)


def with_mig(cards: t.Sequence[Card], listing: str, xml: str) -> tuple[Card, ...]:
    """The cards with their MIG devices."""
    devices = parse_mig_list(listing, parse_mig_memory(xml))

    def split(card: Card) -> Card:
        found = tuple(devices.get(card.uuid or "", ()))
        return replace(card, mig_devices=found, mig_enabled=True if found else card.mig_enabled)

    return tuple(map(split, cards))


def may_be_split(card: Card) -> bool:
    """Whether the card may have MIG devices: the driver of a virtual one may not say whether MIG is on."""
    return card.mig_enabled is True or (card.mig_enabled is None and bool(VIRTUAL.search(card.name or "")))


def parse_apps(text: str) -> tuple[App, ...]:
    """The compute processes."""
    found = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",", len(APP_FIELDS) - 1)]
        if len(cells) == len(APP_FIELDS) and UUID.fullmatch(cells[0]) and re.fullmatch(r"[0-9]{1,10}", cells[1]):
            found.append(App(cells[0], int(cells[1]), text_of(cells[3].strip("-")), integer_of(cells[2])))
    return tuple(found)


def parse_unreachable(text: str) -> tuple[Unreachable, ...]:
    """The cards that nvidia-smi could not reach."""
    found = []
    for match in NO_HANDLE.finditer(text):
        index = match["index"]
        found.append(Unreachable(match["bus"] or match["bus2"], int(index) if index else None, match["error"].strip()))
    return tuple(found)


def parse_cuda_version(text: str) -> str | None:
    """The newest CUDA that the driver's user-mode part supports. From driver 595 on it is called "CUDA UMD Version"."""
    return version_of(r"CUDA(?: UMD)? Version\s*:\s*(\d+\.\d+)", text)


def parse_topology(text: str) -> Topology:
    """The table of C(topo -m)."""
    lines = [line.strip() for line in ANSI.sub("", text).splitlines()]
    start = next((number for number, line in enumerate(lines) if re.match(r"GPU\d+", line)), None)
    if start is None:
        return Topology()
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
    return Topology(links, numa)


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
    cells = _behind_links(row, len(COLUMN.findall(header[: heading.start()])))
    if cells is None or len(cells) != tail:
        return None
    # GB200 lists the CPU's node first and then the memory nodes of the GPUs.
    return integer_of(version_of(r"^(\d+)(?:[,-]|$)", cells[1]) or "")


def _behind_links(row: str, count: int) -> list[str] | None:
    """What follows so many links, glued or not; None when there are fewer."""
    links = re.match(rf"(?:\s*(?:{LINK.pattern})){{{count}}}(?=\s)", row)
    return row[links.end() :].split() if links else None


# Total and free, by UUID of the card and number of the MIG device.
MigMemory = dict[tuple[str, int], tuple[t.Optional[int], t.Optional[int]]]


def parse_mig_list(text: str, memory: MigMemory) -> dict[str, list[MigDevice]]:
    """The MIG devices by the UUID of their card."""
    devices: dict[str, list[MigDevice]] = {}
    card = ""
    for line in text.splitlines():
        head = re.match(r"GPU \d+:.*\(UUID:\s*(GPU-[^)\s]+)\)", line)
        card = head.group(1) if head else card
        found = MIG_LINE.match(line)
        if found and card:
            index = int(found[2])
            total, free = memory.get((card, index), (None, None))
            devices.setdefault(card, []).append(MigDevice(index, found[1], found[3], total, free))
    return devices


def parse_mig_memory(xml: str) -> MigMemory:
    """The memory of the MIG devices.

    Read with patterns, for the tags are the same in every version of the schema and a cut document must not fail.
    """
    memory: MigMemory = {}
    for gpu in re.findall(r"<gpu id=.*?(?:</gpu>|\Z)", xml, re.DOTALL):
        card = version_of(r"<uuid>(GPU-[^<]+)</uuid>", re.sub(r"(?s)<mig_devices>.*?</mig_devices>", "", gpu))
        for device in re.findall(r"<mig_device>(.*?)</mig_device>", gpu, re.DOTALL):
            index = version_of(r"<index>\s*(\d{1,4})\s*</index>", device)
            usage = version_of(r"(?s)<fb_memory_usage>(.*?)</fb_memory_usage>", device) or ""
            if card and index:
                total = integer_of(version_of(r"<total>([^<]*)</total>", usage))
                memory[card, int(index)] = (total, integer_of(version_of(r"<free>([^<]*)</free>", usage)))
    return memory


def read_report(core: Table, cards: tuple[Card, ...], answers: t.Mapping[str, Result]) -> Report:
    """All answers together, by the keys under which they were asked for; one that was not asked for is empty."""
    apps, nothing = answers["apps"], Result()
    return Report(
        answer=core.result,
        cards=cards,
        unreachable=parse_unreachable(core.result.text),
        # 14 only says that the infoROM of a card is corrupted.
        apps=parse_apps(apps.out) if apps.rc in (0, 14) else None,
        cuda_version=parse_cuda_version(answers.get("header", nothing).out),
        topology=parse_topology(answers.get("topology", nothing).out),
    )
