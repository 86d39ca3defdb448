# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What nvidia-smi, /proc and sysfs print, in every dialect we know of, as values."""

from __future__ import annotations

import typing as t
from dataclasses import astuple

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import kernel, nvidia_smi as text
from gpu_hosts import CAPTURES
from hypothesis import given, strategies as st

NO_VALUES = [
    "[N/A]",
    "N/A",
    "[Not Supported]",
    "Not Supported",
    "ERR!",
    "[Unknown Error]",
    "Unknown Error",
    "[GPU requires reset]",
    "[GPU is lost]",
    "GPU is lost",
    "[Insufficient Permissions]",
    "[Requested functionality has been deprecated]",
    "Requested functionality has been deprecated",
    "[Not Found]",
    "[N/",
    "",
    "  ",
]


@pytest.mark.parametrize("cell", NO_VALUES)
def test_a_placeholder_is_no_value(cell: str) -> None:
    assert text.text_of(cell) is None
    assert text.number_of(cell) is None
    assert text.integer_of(cell) is None
    assert text.switch_of(cell) is None


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("143771", 143771),
        ("0", 0),
        ("80.24", 80.24),
        (" 81559 MiB ", 81559),
        ("11 %", 11),
        ("-4", None),
        ("1e9", None),
        ("0x10", None),
        ("nan", None),
        ("12 GiB", None),
        ("1,024", None),
        ("9" * 40, None),
        ("\u0664", None),
    ],
)
def test_numbers(cell: str, number: float | None) -> None:
    assert text.number_of(cell) == number


@pytest.mark.parametrize(
    ("bus_id", "key"),
    [
        ("00000000:00:06.0", "0000:00:06.0"),
        ("0000000F:01:00.0", "000f:01:00.0"),
        ("00010000:01:00.0", "10000:01:00.0"),
        ("0000:5F:00.0", "0000:5f:00.0"),
        ("[N/A]", None),
        (None, None),
    ],
)
def test_a_pci_address_as_sysfs_spells_it(bus_id: str | None, key: str | None) -> None:
    assert text.bus_key(bus_id) == key


# --- queries ---------------------------------------------------------------------------------------------------------

FIELDS = ("index", "uuid", "name", "memory.total")


@pytest.mark.parametrize(
    ("out", "rows"),
    [
        pytest.param(
            "0, GPU-00000001-1, NVIDIA H200, 143771\n", [["0", "GPU-00000001-1", "NVIDIA H200", "143771"]], id="one"
        ),
        pytest.param(
            "0,GPU-00000001-1,NVIDIA H200,143771", [["0", "GPU-00000001-1", "NVIDIA H200", "143771"]], id="tight"
        ),
        pytest.param("3, ERR!, ERR!, ERR!\n", [["3", "ERR!", "ERR!", "ERR!"]], id="a dead card keeps its index"),
        pytest.param("0, GPU-00000001-1, NVIDIA H2", [], id="cut off"),
        pytest.param(
            "WARNING: infoROM is corrupted at gpu 0000:01:00.0\n0, GPU-00000001-1, NVIDIA H200, 1\n",
            [["0", "GPU-00000001-1", "NVIDIA H200", "1"]],
            id="a warning before the rows",
        ),
        pytest.param("No devices were found\n", [], id="no devices"),
        pytest.param("a, b, c, d\n", [], id="not a row"),
        pytest.param("", [], id="nothing"),
    ],
)
def test_rows_of_a_query(out: str, rows: list[list[str]]) -> None:
    table = text.Table(FIELDS, text.Result(0, out))
    assert text.rows_of(table) == [dict(zip(FIELDS, row)) for row in rows]


def test_every_field_that_is_asked_for_exists_in_driver_580() -> None:
    known = set((CAPTURES / "help_query_gpu_580.txt").read_text("utf-8").split())
    assert {*text.CORE_FIELDS, *text.EXTRA_FIELDS, *text.SAMPLE_FIELDS} <= known


@pytest.mark.parametrize(
    ("result", "name"),
    [
        (text.Result(2, 'Field "gpu_recovery_action" is not a valid field to query.\n'), "gpu_recovery_action"),
        (text.Result(2, "", 'Field "fabric.state" is not a valid field to query.\n'), "fabric.state"),
        (text.Result(0, "0, GPU-00000001"), None),
    ],
)
def test_the_field_that_a_driver_does_not_know(result: text.Result, name: str | None) -> None:
    assert text.rejected_field(result) == name


CARD = "0, GPU-00000001-1, NVIDIA H200, 00000000:00:06.0, 580.159.04, 143771, 143156, 0, 7, 102.88, 29, Default, {}, {}"
KNOWN = {
    "index": 0,
    "uuid": "GPU-00000001-1",
    "name": "NVIDIA H200",
    "pci_bus_id": "00000000:00:06.0",
    "address": "0000:00:06.0",
    "driver_version": "580.159.04",
    "memory_total_mib": 143771,
    "memory_free_mib": 143156,
    "memory_used_mib": 0,
    "utilization_percent": 7,
    "power_draw_w": 102.88,
    "temperature_c": 29,
    "compute_mode": "Default",
}


@pytest.mark.parametrize(
    ("core", "extras", "expected"),
    [
        pytest.param(
            CARD.format("Enabled", "Disabled"),
            "GPU-00000001-1, 9.0, Completed, Success, None",
            {
                **KNOWN,
                "persistence_mode": True,
                "mig_enabled": False,
                "compute_capability": "9.0",
                "fabric_state": "Completed",
                "fabric_status": "Success",
            },
            id="everything",
        ),
        pytest.param(CARD.format("[N/A]", "[N/A]"), "", KNOWN, id="no extras"),
        pytest.param(
            CARD.format("[N/A]", "[N/A]"),
            "GPU-00000001-1, [N/A], [N/A], [N/A], [N/A]",
            KNOWN,
            id="placeholders are None",
        ),
        pytest.param(
            CARD.format("[N/A]", "[N/A]"), "GPU-00000002-2, 9.0, Completed, Success, Reset", KNOWN, id="of another card"
        ),
        pytest.param("3" + ", ERR!" * 13, "", {"index": 3, "health": "error"}, id="a dead card keeps its index"),
        pytest.param("3" + ", [GPU is lost]" * 13, "", {"index": 3, "health": "lost"}, id="a lost one too"),
        pytest.param(
            CARD.format("Enabled", "Enabled").replace(", 7,", ", 255,"),
            "",
            {**KNOWN, "utilization_percent": None, "persistence_mode": True, "mig_enabled": True},
            id="more than all",
        ),
    ],
)
def test_a_card_has_numbers_or_nothing(core: str, extras: str, expected: dict[str, t.Any]) -> None:
    tables = (text.Table(text.CORE_FIELDS, text.Result(0, core)), text.Table(text.EXTRA_FIELDS, text.Result(0, extras)))
    assert text.read_cards(*tables) == (text.Card(**expected),)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("GPU-00000001-1, 830, 31332, python3", text.App("GPU-00000001-1", 830, "python3", 31332)),
        (
            "GPU-00000001-1, 831, 9523, python train.py, seed 3",
            text.App("GPU-00000001-1", 831, "python train.py, seed 3", 9523),
        ),
        ("GPU-00000001-1, 832, [N/A], [Insufficient Permissions]", text.App("GPU-00000001-1", 832, None, None)),
        ("GPU-00000001-1, 833, 0, -", text.App("GPU-00000001-1", 833, None, 0)),
        ("No running processes found", None),
        ("GPU-00000001-1, abc, 1, x", None),
        ("GPU-00000001-1, 83", None),
    ],
)
def test_compute_processes(line: str, expected: text.App | None) -> None:
    assert text.parse_apps(f"{line}\n") == ((expected,) if expected else ())


@pytest.mark.parametrize(
    ("said", "bus_id", "index"),
    [
        ("Unable to determine the device handle for GPU 0000:02:00.0: GPU is lost.  Reboot", "0000:02:00.0", None),
        ("Unable to determine the device handle for GPU0000:07:00.0: Unknown Error", "0000:07:00.0", None),
        ("Unable to determine the device handle for GPU3: 0000:5F:00.0: Unknown Error", "0000:5F:00.0", 3),
        ("Unable to determine the device handle for GPU2: Unknown Error", None, 2),
        ("Unable to determine the device handle for GPU 0000:01:00.0: Not Found", "0000:01:00.0", None),
        ("Unable to determine the device handle for gpu 0000:0B:00.0: Unknown Error", "0000:0B:00.0", None),
    ],
)
def test_a_card_that_does_not_answer(said: str, bus_id: str | None, index: int | None) -> None:
    (card,) = text.parse_unreachable(f"{said}\n1, GPU-00000001, x\n")
    assert (card.bus_id, card.index) == (bus_id, index)
    assert card.error and "\n" not in card.error


@pytest.mark.parametrize(
    ("error", "health"),
    [
        ("Unknown Error", "lost"),
        ("GPU is lost.  Reboot the system to recover this GPU", "lost"),
        ("GPU is lost. Reset", "lost"),
        ("GPU requires reset", "reset_required"),
        ("", "lost"),
    ],
)
def test_the_health_of_a_card_that_does_not_answer(error: str, health: str) -> None:
    assert text.Unreachable(None, 1, error).health == health


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("CUDA Version                              : 13.0", "13.0"),
        ("CUDA Version        : 12.2", "12.2"),
        ("| NVIDIA-SMI 610.57.04              KMD Version: 610.57.04     CUDA UMD Version: 13.3     |", "13.3"),
        ("CUDA UMD Version                          : 13.2", "13.2"),
        ("CUDA Version                              : Not Found", None),
        ("CUDA Version                              : ERR!", None),
        ("", None),
    ],
)
def test_cuda_version(line: str, version: str | None) -> None:
    assert text.parse_cuda_version(line) == version


# --- topology --------------------------------------------------------------------------------------------------------

H200X4 = (
    "\t\x1b[4mGPU0\tGPU1\tGPU2\tGPU3\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\n"
    "GPU0\t X \tNV18\tNV18\tNV18\t0-63\t0\t\tN/A\nGPU1\tNV18\t X \tNV18\tNV18\t0-63\t0\t\tN/A\n"
    "GPU2\tNV18\tNV18\t X \tNV18\t0-63\t0\t\tN/A\nGPU3\tNV18\tNV18\tNV18\t X \t0-63\t0\t\tN/A\n"
    "\nLegend:\n\n  X    = Self\n"
)
A100_PCIE_BRIDGES = (
    "\tGPU0\tGPU1\tGPU2\tGPU3\tmlx5_0\tCPU Affinity\tNUMA Affinity\n"
    "GPU0\t X \tNV12\tSYS\tSYS\tPXB\t0-23\t0\nGPU1\tNV12\t X \tSYS\tSYS\tPXB\t24-47\t1\n"
    "GPU2\tSYS\tSYS\t X \tNV12\tSYS\t48-71\t2\nGPU3\tSYS\tSYS\tNV12\t X \tSYS\t72-95\t3\n"
    "mlx5_0\tPXB\tPXB\tSYS\tSYS\t X \n"
)
GB200 = (
    "        GPU0    GPU1    NIC0    CPU Affinity    NUMA Affinity   GPU NUMA ID\n"
    "GPU0     X      NV18    SYS     0-71    0,3-9,11-17             2\n"
    "GPU1    NV18     X      SYS     72-143  1,19-25,27-33           18\n"
)
GLUED = (
    "\tGPU0\tGPU1\tGPU2\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\n"
    "GPU0\t X \tNV18NV18\tNODENODE\t0-55,112-167\t0\nGPU1\tNV18\t X NV18\tNODENODE\t0-55\t0\n"
    "GPU2\tNV18NV18 X \tSYSSYS\t56\t1\n"
)
GLUED_NICS = (
    "\tGPU0\tGPU1\tNIC0\tNIC1\tNIC2\tNIC3\tNIC4\tNIC5\tNIC6\tNIC7\tNIC8NIC9\tNIC10NIC11\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
    "GPU0\t X \tNV18\tPIX\tNODE\tNODE\tNODE\tSYS\tSYS\tSYS\tSYS\tNODENODE\tSYSSYS\t0-55,112-167\t0\t\tN/A\n"
    "GPU1\tNV18\t X \tSYS\tSYS\tSYS\tSYS\tPIX\tNODE\tNODE\tNODE\tSYSSYS\tNODENODE\t56-111,168-223\t1\t\tN/A\n"
)
GLUED_MELLANOX = (
    "\tGPU0\tGPU1\tmlx5_0\tmlx5_1\tmlx5_10mlx5_11\tCPU Affinity\tNUMA Affinity\n"
    "GPU0\t X \tNV12\tPXB\tPXB\tSYSSYS\t48-63,176-191\t3\nGPU1\tNV12\t X \tPXB\tPXB\tSYSSYS\t48-63,176-191\t3\n"
)
OLD = (
    "        GPU0    GPU1    mlx4_0  CPU Affinity\n"
    "GPU0     X      PIX     PHB     0-9,20-29\nGPU1    PIX      X      PHB     0-9,20-29\n"
)
GB10 = "\tGPU0\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\nGPU0\t X \tNODE\tNODE\t0-19\t0\t\tN/A\n"
NO_NUMA = (
    "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\n"
    "GPU0\t X \tPHB\t0-63\tN/A\t\tN/A\nGPU1\tPHB\t X \t0-63\tN/A\t\tN/A\n"
)


@pytest.mark.parametrize(
    ("table", "links", "numa"),
    [
        pytest.param(
            H200X4,
            dict.fromkeys(["0-1", "0-2", "0-3", "1-2", "1-3", "2-3"], "NV18"),
            {0: 0, 1: 0, 2: 0, 3: 0},
            id="ANSI in the header, no NIC",
        ),
        pytest.param(
            A100_PCIE_BRIDGES,
            {"0-1": "NV12", "0-2": "SYS", "0-3": "SYS", "1-2": "SYS", "1-3": "SYS", "2-3": "NV12"},
            {0: 0, 1: 1, 2: 2, 3: 3},
            id="NVLink bridges between pairs",
        ),
        pytest.param(GB200, {"0-1": "NV18"}, {0: 0, 1: 1}, id="lists of NUMA nodes, blanks"),
        pytest.param(GLUED, {"0-1": "NV18", "0-2": "NV18", "1-2": "NV18"}, {0: 0, 1: 0, 2: 1}, id="glued cells"),
        pytest.param(GLUED_NICS, {"0-1": "NV18"}, {0: 0, 1: 1}, id="glued NICs, in the header as well"),
        pytest.param(GLUED_MELLANOX, {"0-1": "NV12"}, {0: 3, 1: 3}, id="glued NICs with names of their own"),
        pytest.param(OLD, {"0-1": "PIX"}, {}, id="no NUMA column"),
        pytest.param(GB10, {}, {0: 0}, id="one GPU beside NICs"),
        pytest.param(NO_NUMA, {"0-1": "PHB"}, {}, id="NUMA not known"),
        pytest.param("", {}, {}, id="nothing"),
        pytest.param("Nvlink queries are not supported\n", {}, {}, id="a message"),
        pytest.param("\tGPU0\tGPU1\nGPU0\t X \t?\nGPU1\t", {}, {}, id="cut and unknown cells"),
    ],
)
def test_topology(table: str, links: dict[str, str], numa: dict[int, int]) -> None:
    assert text.parse_topology(table) == text.Topology(links, numa)


# --- MIG -------------------------------------------------------------------------------------------------------------

MIG_LIST = """GPU 0: NVIDIA A100 80GB PCIe (UUID: GPU-932bfb2c-849a-2a22-1e84-9eff6bc02b39)
  MIG 3g.40gb     Device  0: (UUID: MIG-0929581a-2be6-5dec-bf34-0954c6c529a6)
  MIG 1g.10gb+me  Device  1: (UUID: MIG-3adbed3a-d03d-549f-a016-ba1fd7359f23)
GPU 1: NVIDIA A100 80GB PCIe (UUID: GPU-513536b6-7d19-9063-b049-1e69664bb298)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-20bed2f5-819b-69ad-8d42-d3e1446080c1)
  MIG 1g.5gb Device 0: (UUID: MIG-GPU-20bed2f5-819b-69ad-8d42-d3e1446080c1/7/0)
"""


def test_mig_devices_old_and_new_names() -> None:
    devices = text.parse_mig_list(MIG_LIST, {})
    assert [[device.uuid for device in found] for found in devices.values()] == [
        ["MIG-0929581a-2be6-5dec-bf34-0954c6c529a6", "MIG-3adbed3a-d03d-549f-a016-ba1fd7359f23"],
        ["MIG-GPU-20bed2f5-819b-69ad-8d42-d3e1446080c1/7/0"],
    ]
    assert devices["GPU-932bfb2c-849a-2a22-1e84-9eff6bc02b39"][1].profile == "1g.10gb+me"


VIRTUAL_LIST = """GPU 0: GRID A100D-1-10C MIG 1g.10gb (UUID: GPU-4b8a9ac6-5c2c-11b2-8f1a-0b1c2d3e4f50)
  MIG 1g.10gb     Device  0: (UUID: MIG-5d3c8d31-7b40-5b0c-bd5a-3f6f6a1a2b3c)
GPU 1: NVIDIA A100-40C (UUID: GPU-5b8a9ac6-5c2c-11b2-8f1a-0b1c2d3e4f51)
"""


def test_a_virtual_gpu_that_does_not_say_that_it_is_split() -> None:
    names = {"GPU-4b8a9ac6-5c2c-11b2-8f1a-0b1c2d3e4f50": "GRID A100D-1-10C MIG 1g.10gb"}
    names["GPU-5b8a9ac6-5c2c-11b2-8f1a-0b1c2d3e4f51"] = "NVIDIA A100-40C"
    found = text.with_mig([text.Card(uuid=uuid, name=name) for uuid, name in names.items()], VIRTUAL_LIST, "")
    assert [(card.mig_enabled, [device.profile for device in card.mig_devices]) for card in found] == [
        (True, ["1g.10gb"]),
        (None, []),
    ]


@pytest.mark.parametrize(
    ("name", "mig_enabled", "may"),
    [
        ("GRID A100D-1-10C MIG 1g.10gb", None, True),
        ("NVIDIA A100-4-20C", None, True),
        ("NVIDIA L40S-48Q", None, True),
        ("NVIDIA H100 80GB HBM3", True, True),
        ("NVIDIA H100 80GB HBM3", False, False),
        ("NVIDIA GeForce RTX 4090", None, False),
        ("NVIDIA A100-SXM4-80GB", None, False),
        (None, None, False),
    ],
)
def test_which_cards_may_be_split(name: str | None, mig_enabled: bool | None, may: bool) -> None:
    assert text.may_be_split(text.Card(name=name, mig_enabled=mig_enabled)) is may


MIG_XML = """<?xml version="1.0" ?><nvidia_smi_log>
<gpu id="00000000:55:00.0"><product_name>NVIDIA RTX PRO 6000 Blackwell</product_name>
<mig_mode><current_mig>Enabled</current_mig></mig_mode>
<mig_devices><mig_device><index>0</index><gpu_instance_id>3</gpu_instance_id><uuid>MIG-a</uuid>
<fb_memory_usage><total>24576 MiB</total><reserved>0 MiB</reserved><used>1200 MiB</used><free>23376 MiB</free>
</fb_memory_usage>
<bar1_memory_usage><total>1 MiB</total><free>1 MiB</free></bar1_memory_usage></mig_device>
<mig_device><index>1</index>
<fb_memory_usage><total>24576 MiB</total><used>N/A</used><free>N/A</free></fb_memory_usage></mig_device></mig_devices>
<uuid>GPU-00000001-1</uuid><fb_memory_usage><total>97871 MiB</total><free>N/A</free></fb_memory_usage></gpu>
<gpu id="00000000:56:00.0"><mig_devices>None</mig_devices><uuid>GPU-00000002-2</uuid></gpu></nvidia_smi_log>"""


def test_memory_of_mig_devices() -> None:
    memory = {("GPU-00000001-1", 0): (24576, 23376), ("GPU-00000001-1", 1): (24576, None)}
    assert text.parse_mig_memory(MIG_XML) == memory


# --- /proc -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Sat Feb 24 22:55:41 UTC 2024", "535.161.08"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.159.04  Release Build", "580.159.04"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  580.142  Release Build", "580.142"),
        ("", None),
        ("NVRM version: NVIDIA", None),
    ],
)
def test_loaded_driver(line: str, version: str | None) -> None:
    assert kernel.parse_driver_version(line) == version


@pytest.mark.parametrize(
    ("meminfo", "expected"),
    [
        (
            "MemTotal:       127600748 kB\nMemFree: 7 kB\nMemAvailable:   118566368 kB\nSwapTotal:      16777212 kB\n",
            (124610, 115787, 16383),
        ),
        ("MemTotal:       1024 kB\n", (1, None, None)),
        ("MemTotal:       lots\n", (None, None, None)),
        ("", (None, None, None)),
    ],
)
def test_meminfo(meminfo: str, expected: tuple[int | None, ...]) -> None:
    assert astuple(kernel.parse_meminfo(meminfo)) == expected


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        (text.Result(0, "580.95.05\n"), "580.95.05"),
        (text.Result(1, "", "modinfo: ERROR: Module nvidia not found."), None),
        (text.Result(0, "n/a\n"), None),
        (text.Result(), None),
    ],
)
def test_installed_driver(answer: text.Result, version: str | None) -> None:
    assert kernel.parse_module_version(answer) == version


@pytest.mark.parametrize(
    ("status", "user", "name"),
    [
        ("Name:\tpython3\nUid:\t1004\t1004\t1004\t1004\n", "alice", "python3"),
        ("Name:\tVLLM::EngineCor\nUid:\t7\t7\t7\t7\n", "7", "VLLM::EngineCor"),
        ("Uid:\tx\n", None, None),
        ("", None, None),
    ],
)
def test_a_process(status: str, user: str | None, name: str | None) -> None:
    process = kernel.parse_process(status, "0::/a", {1004: "alice"}.get)
    assert (process.user, process.name, process.cgroup) == (user, name, "0::/a")


# --- no text raises --------------------------------------------------------------------------------------------------

SAMPLES = [
    H200X4,
    GB200,
    GLUED,
    MIG_LIST,
    MIG_XML,
    "0, GPU-00000001-1, NVIDIA H200, 143771\n",
    "Uid:\t0\t0\nMemTotal: 1 kB\n",
]


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """Real output, cut, spliced and sprinkled with anything."""
    sample = draw(st.sampled_from(SAMPLES))
    start, end = sorted((draw(st.integers(0, len(sample))), draw(st.integers(0, len(sample)))))
    return sample[start:end] + draw(st.text(max_size=20)) + draw(st.sampled_from(SAMPLES))[: draw(st.integers(0, 200))]


@given(damaged() | st.text())
def test_no_text_raises(anything: str) -> None:
    result = text.Result(0, anything, anything)
    text.rows_of(text.Table(text.CORE_FIELDS, result))
    text.parse_apps(anything)
    text.parse_unreachable(anything)
    text.parse_mig_list(anything, {})
    text.parse_mig_memory(anything)
    text.parse_cuda_version(anything)
    text.rejected_field(result)
    cards = text.read_cards(text.Table(text.CORE_FIELDS, result), text.Table(text.EXTRA_FIELDS, result))
    text.with_samples(text.with_mig(cards, anything, anything), [result])
    topology = text.parse_topology(anything)
    assert all(text.LINK.fullmatch(link) for link in topology.links.values())
    assert all(node >= 0 for node in topology.numa.values())
    kernel.parse_kernel_card(anything)
    kernel.parse_module_version(result)
    kernel.parse_toolkit(result)
    kernel.parse_fabric_manager(result)
    kernel.parse_driver_version(anything)
    kernel.parse_process(anything, anything, {}.get)
    text.bus_key(anything)
    for value in (text.number_of(anything), text.integer_of(anything), *astuple(kernel.parse_meminfo(anything))):
        assert value is None or value >= 0


# --- WSL2 ------------------------------------------------------------------------------------------------------------

WSL2_CARD = (
    "0, GPU-1f2e3d4c-5b6a-7980-91a2-b3c4d5e6f708, NVIDIA GeForce RTX 4090, 00000000:01:00.0, 566.36, 24564, 21843, 2363, 4, "
    "[N/A], 41, [N/A], [N/A], [N/A]\n"
)


def test_what_wsl2_does_not_tell_is_not_known() -> None:
    (card,) = text.read_cards(text.Table(text.CORE_FIELDS, text.Result(0, WSL2_CARD)), text.Table(text.EXTRA_FIELDS))
    assert (card.health, card.driver_version, card.memory_total_mib, card.memory_free_mib) == (
        "ok",
        "566.36",
        24564,
        21843,
    )
    assert (card.power_draw_w, card.compute_mode, card.persistence_mode, card.mig_enabled) == (None, None, None, None)


def test_a_process_of_wsl2_has_no_memory_of_its_own() -> None:
    (app,) = text.parse_apps("GPU-1f2e3d4c-5b6a-7980-91a2-b3c4d5e6f708, 31, [N/A], /Xwayland\n")
    assert (app.pid, app.name, app.used_memory_mib) == (31, "/Xwayland", None)
