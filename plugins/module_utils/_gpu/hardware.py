# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The classes of hardware, one row each: how their cards are recognized, and what is known of them without asking.

A row makes its name a group of the inventory, a C(vllm_hardware_class) and a key of C(hardware) in a model. Pure.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """A class. The pattern fits the names of its cards, and is tried in the order of the table."""

    name: str
    pattern: str
    compute_capability: str | None = None
    pci_devices: tuple[str, ...] = ()
    # "unified": CPU and GPU share one memory, which nvidia-smi does not report or reports wrongly.
    memory_kind: str = "dedicated"
    # What runs a server on such hosts unless somebody says otherwise, as C(backend) of a server has it.
    backend: str = "container"
    # vLLM gives cards with this in their names the batches of a small GPU, however much memory they have.
    small_batches: str = ""
    # What nvidia-smi reports of one card in MiB, the most common one where they differ; of unified memory, MemTotal. 0
    # where nobody has written it down.
    memory_mib: int = 0

    @property
    def is_integrated(self) -> bool:
        """Whether CPU and GPU share one memory."""
        return self.memory_kind == "unified"


HARDWARE = (
    Hardware("gb10", r"\bGB10(?!\d)", "12.1", ("2e12",), "unified", memory_mib=124610),
    Hardware("thor", r"\bThor\b", "11.0", (), "unified"),
    Hardware("orin", r"\bOrin\b", "8.7", (), "unified"),
    Hardware("n1x", r"\bN1X\b|\bRTX Spark\b", "12.1", (), "unified"),
    Hardware("gb300", r"\bGB300(?!\d)", "10.3", ("31c2",)),
    Hardware("gb200", r"\bGB200(?!\d)", "10.0", ("2941",)),
    Hardware("gh200", r"\bGH200(?!\d)", "9.0", ("2342", "2345", "2348")),
    Hardware("b300", r"\bB300(?!\d)", "10.3", ("3182",)),
    Hardware("b200", r"\bB200(?!\d)", "10.0", ("2901", "2909"), memory_mib=183359),
    Hardware("h200", r"\bH200(?!\d)", "9.0", ("2335", "233b"), backend="systemd", memory_mib=143771),
    Hardware(
        "h100",
        r"\bH[18]00(?!\d)",
        "9.0",
        ("2313", "2321", "2322", "2324", "2330", "2331", "2336", "2339"),
        backend="systemd",
        memory_mib=81559,
    ),
    Hardware("h20", r"\bH20(?!\d)", "9.0", ("2329",)),
    Hardware(
        "a100",
        r"\bA[18]00(?!\d)",
        "8.0",
        ("20b0", "20b1", "20b2", "20b3", "20b5", "20f1", "20f3", "20f5", "20f6"),
        backend="systemd",
        small_batches="a100",
        memory_mib=81920,
    ),
    Hardware("a40", r"\bA40(?!\d)", "8.6", ("2235",)),
    Hardware("a30", r"\bA30(?!\d)", "8.0", ("20b7",)),
    Hardware("a10g", r"\bA10G\b", "8.6", ("2237",)),
    Hardware("a10", r"\bA10(?!\d|G)", "8.6", ("2236",)),
    Hardware("l40s", r"\bL40S\b", "8.9", ("26b9",)),
    Hardware("l40", r"\bL40(?!\d|S)", "8.9", ("26b5",)),
    Hardware("l4", r"\bL4(?!\d)", "8.9", ("27b8",)),
    Hardware("t4", r"\bT4(?!\d)", "7.5", ("1eb8",)),
    Hardware("v100", r"\bV100(?!\d)|\bPG50[03]-216\b", "7.0", ("1db1", "1db4", "1db5", "1db6", "1db8", "1df6")),
    Hardware("rtx_pro_6000", r"\bRTX PRO 6000 Blackwell\b", "12.0", ("2bb1", "2bb4", "2bb5")),
)
# The class of a host that serves without a GPU: nothing is recognized as it, an inventory has to say so.
CPU = "cpu"
# A card of no class.
OTHER = Hardware("other", r"")
# The compute capabilities of integrated GPUs: they tell a future name that does not report its memory.
INTEGRATED_CAPABILITIES = frozenset(kind.compute_capability for kind in HARDWARE if kind.is_integrated)


def class_names() -> tuple[str, ...]:
    """Every class that an inventory and a model can name, in the order of the table."""
    return (*(kind.name for kind in HARDWARE), CPU)


def backend_of_class(name: str) -> str:
    """What runs a server on hosts of a class unless somebody says otherwise."""
    return class_named(name).backend


def class_named(name: str) -> Hardware:
    """The row of a class by its name; one of no known class where there is none."""
    return next((kind for kind in HARDWARE if kind.name == name), OTHER)


def class_of_groups(groups: t.Collection[str]) -> str | None:
    """The class that the groups of a host give it; the first of the table when they name several."""
    return next((name for name in class_names() if name in groups), None)


def hardware_of(name: str | None) -> Hardware:
    """The class of a card with that name, in capitals or not: drivers and hypervisors spell "RTX Pro" and "RTX PRO"."""
    return next((kind for kind in HARDWARE if re.search(kind.pattern, name or "", re.IGNORECASE)), OTHER)


def hardware_on_pci(device_id: str) -> Hardware:
    """The class of a card with that PCI device id, as sysfs spells it."""
    return next((kind for kind in HARDWARE if device_id[-4:].lower() in kind.pci_devices), OTHER)


def host_class(classes: t.Sequence[str]) -> str:
    """The one class of a host. A card of no known class, such as one for a display, does not decide."""
    known = {name for name in classes if name != OTHER.name}
    if not classes:
        return "none"
    return known.pop() if len(known) == 1 else OTHER.name
