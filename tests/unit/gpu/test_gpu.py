# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hosts as facts: captured ones, and ones rendered from what is known of hardware and drivers."""

from __future__ import annotations

import json
import typing as t
from dataclasses import replace
from pathlib import Path

import gpu_hosts
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import record
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import facts as gpu_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.kernel import (
    parse_driver_version,
    parse_fabric_manager,
    parse_meminfo,
    parse_module_version,
    parse_toolkit,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.nvidia_smi import (
    APPS_ARGS,
    CORE_FIELDS,
    EXTRA_FIELDS,
    Report,
    Result,
    Table,
    gpu_query,
    read_cards,
    read_report,
    with_mig,
    with_samples,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.observation import Observation
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.probe import observe
from gpu_hosts import app, card, header, load, meminfo, process_files, profile, topology, uuid
from hypothesis import HealthCheck, given, settings, strategies as st

Facts = dict[str, t.Any]

HOST_KEYS = {
    "status",
    "message",
    "driver_version",
    "driver_installed",
    "reboot_required",
    "cuda_version",
    "hardware_class",
    "memory_kind",
    "host_memory",
    "fabric_manager",
    "container_toolkit",
    "topology",
    "gpus",
    "servers",
    "watchdog",
    "warnings",
}
GPU_KEYS = {
    "index",
    "uuid",
    "name",
    "pci_bus_id",
    "hardware_class",
    "compute_capability",
    "memory_kind",
    "memory_source",
    "memory_total_mib",
    "memory_free_mib",
    "memory_used_mib",
    "process_memory_mib",
    "foreign_used_mib",
    "utilization_percent",
    "power_draw_w",
    "temperature_c",
    "compute_mode",
    "persistence_mode",
    "numa_node",
    "mig",
    "health",
    "processes",
}
PROCESS_KEYS = {"pid", "name", "user", "used_memory_mib", "container", "managed", "server"}
STATUSES = {"ok", "no_gpu", "no_driver", "driver_not_loaded", "driver_mismatch", "timeout", "error"}


def only(facts: Facts, *keys: str) -> Facts:
    """Some facts of the first GPU."""
    return {key: facts["gpus"][0][key] for key in keys}


def assert_contract(facts: Facts) -> None:
    """Every key is there, and what is not known is None, never a placeholder or a made-up 0."""
    assert set(facts) == HOST_KEYS
    assert facts["status"] in STATUSES
    assert (facts["message"] is None) == (facts["status"] == "ok")
    for gpu in facts["gpus"]:
        assert set(gpu) == GPU_KEYS
        assert gpu["health"] in ("ok", "lost", "reset_required", "error")
        assert set(gpu["mig"]) == {"enabled", "devices"}
        for key in ("memory_total_mib", "memory_free_mib", "memory_used_mib", "utilization_percent", "index"):
            assert gpu[key] is None or (isinstance(gpu[key], int) and gpu[key] >= 0)
        for process in gpu["processes"]:
            assert set(process) == PROCESS_KEYS
    for word in ("[N/A]", "[Not Supported]", "ERR!", "[Unknown Error]", "deprecated"):
        assert word not in json.dumps(facts)


# --- captured hosts --------------------------------------------------------------------------------------------------


def test_an_idle_h200(tmp_path: Path) -> None:
    facts = gpu_hosts.facts(tmp_path, load("h200x1_idle"))
    assert_contract(facts)
    assert facts["gpus"] == [
        {
            "index": 0,
            "uuid": "GPU-00000001-0000-4000-8000-000000000001",
            "name": "NVIDIA H200",
            "pci_bus_id": "00000000:00:06.0",
            "hardware_class": "h200",
            "compute_capability": "9.0",
            "memory_kind": "dedicated",
            "memory_source": "nvidia-smi",
            "memory_total_mib": 143771,
            "memory_free_mib": 143156,
            "memory_used_mib": 0,
            "process_memory_mib": 0,
            "foreign_used_mib": 0,
            "utilization_percent": 0,
            "power_draw_w": 102.88,
            "temperature_c": 29,
            "compute_mode": "Default",
            "persistence_mode": True,
            "numa_node": None,
            "mig": {"enabled": False, "devices": []},
            "health": "ok",
            "processes": [],
        }
    ]
    del facts["gpus"]
    nothing = dict.fromkeys(("version", "docker_version", "docker_runtime", "docker_default_runtime"))
    assert facts == {
        "status": "ok",
        "message": None,
        "driver_version": "580.159.04",
        "driver_installed": None,
        "reboot_required": False,
        "cuda_version": "13.0",
        "hardware_class": "h200",
        "memory_kind": "dedicated",
        "host_memory": {
            "total_mib": 128887,
            "available_mib": facts["host_memory"]["available_mib"],
            "swap_total_mib": 0,
        },
        "fabric_manager": {
            "needed": False,
            "running": None,
            "version": None,
            "version_matches": None,
            "state": None,
            "ready": None,
        },
        "container_toolkit": {
            **nothing,
            "installed": False,
            "runtime_hook": False,
            "docker_runtime_configured": False,
            "cdi": False,
            "cdi_specs": [],
        },
        "topology": {},
        "servers": [],
        "watchdog": None,
        "warnings": [],
    }


def test_four_busy_h200(tmp_path: Path) -> None:
    facts = gpu_hosts.facts(tmp_path, load("h200x4_busy"), users={0: "root"})
    assert_contract(facts)
    assert facts["topology"] == dict.fromkeys(["0-1", "0-2", "0-3", "1-2", "1-3", "2-3"], "NV18")
    assert facts["fabric_manager"]["ready"] is True
    assert [gpu["process_memory_mib"] for gpu in facts["gpus"]] == [0, 32020, 8746 + 4650, 0]
    assert [gpu["foreign_used_mib"] for gpu in facts["gpus"]] == [0, 32020, 8746 + 4650, 0]
    assert [gpu["numa_node"] for gpu in facts["gpus"]] == [0, 0, 0, 0]
    assert [process["pid"] for process in facts["gpus"][2]["processes"]] == [1234, 1235]
    assert facts["gpus"][1]["processes"] == [
        {
            "pid": 1233,
            "name": "/opt/venv/bin/python3",
            "user": "root",
            "used_memory_mib": 32020,
            "container": None,
            "managed": False,
            "server": None,
        }
    ]


# --- memory ----------------------------------------------------------------------------------------------------------

SPARK = meminfo(127600748, 118566368, 16777212)
NA = "[N/A]"
UNIFIED = {"memory_kind": "unified", "memory_source": "meminfo", "memory_total_mib": 124610, "memory_free_mib": 115787}


def gb10(**cells: t.Any) -> dict[str, str]:
    return card(0, "NVIDIA GB10", NA, NA, NA, **{"pci__bus_id": "0000000F:01:00.0", "mig__mode__current": NA, **cells})


@pytest.mark.parametrize(
    ("gpu", "expected"),
    [
        pytest.param(gb10(), UNIFIED, id="GB10 reports nothing"),
        pytest.param({**gb10(), "memory.total": "Not Supported"}, UNIFIED, id="GB10, other placeholder"),
        pytest.param(
            {**gb10(), "memory.total": "0", "memory.free": "0", "memory.used": "0"}, UNIFIED, id="GB10 reports 0"
        ),
        pytest.param({**gb10(), "memory.total": "124610", "memory.free": "9000"}, UNIFIED, id="GB10 reports MemTotal"),
        pytest.param(card(0, "NVIDIA RTX Spark N1X", 8128, 8000, 128), UNIFIED, id="a wrong carve-out"),
        pytest.param(card(0, "NVIDIA Thor", NA, NA, NA), UNIFIED, id="Thor"),
        pytest.param(card(0, "Renamed", NA, NA, NA, compute_cap="12.1"), UNIFIED, id="known by its compute capability"),
        pytest.param(
            card(0, "NVIDIA GH200 480GB", 97871, 97000, 500, compute_cap="9.0"),
            {
                "memory_kind": "dedicated",
                "memory_source": "nvidia-smi",
                "memory_total_mib": 97871,
                "memory_free_mib": 97000,
            },
            id="GH200 is not unified",
        ),
        pytest.param(
            card(0, "NVIDIA GB200", 189471, 188000, 900),
            {
                "memory_kind": "dedicated",
                "memory_source": "nvidia-smi",
                "memory_total_mib": 189471,
                "memory_free_mib": 188000,
            },
            id="GB200 is not unified",
        ),
        pytest.param(
            card(0, "NVIDIA B200", 183359, 182000, 700),
            {
                "memory_kind": "dedicated",
                "memory_source": "nvidia-smi",
                "memory_total_mib": 183359,
                "memory_free_mib": 182000,
            },
            id="B200",
        ),
        pytest.param(
            card(0, "NVIDIA Something", NA, NA, NA),
            {"memory_kind": None, "memory_source": None, "memory_total_mib": None, "memory_free_mib": None},
            id="not known",
        ),
        pytest.param(
            card(0, "NVIDIA A100 80GB PCIe", 81920, 81216, 26, mig__mode__current="Enabled", utilization__gpu=NA),
            {
                "memory_kind": "dedicated",
                "memory_source": "nvidia-smi",
                "memory_total_mib": 81920,
                "memory_free_mib": None,
            },
            id="MIG: what the card has free is nobody's",
        ),
    ],
)
def test_memory(tmp_path: Path, gpu: dict[str, str], expected: Facts) -> None:
    facts = gpu_hosts.facts(tmp_path, profile([gpu], files=SPARK))
    assert_contract(facts)
    assert facts["status"] == "ok"
    assert only(facts, *expected) == expected
    assert facts["memory_kind"] == expected["memory_kind"]


def test_unified_memory_in_use_is_not_made_up(tmp_path: Path) -> None:
    """MemTotal - MemAvailable is the host's use: an idle GPU would show the host's 8.8 GiB."""
    seen = profile([gb10(utilization__gpu=61)], [app(0, 4200, 63931, "VLLM::EngineCore")], files=SPARK)
    facts = gpu_hosts.facts(tmp_path, seen)
    assert only(facts, "memory_used_mib", "process_memory_mib", "foreign_used_mib", "utilization_percent") == {
        "memory_used_mib": None,
        "process_memory_mib": 63931,
        "foreign_used_mib": 63931,
        "utilization_percent": 61,
    }
    assert facts["host_memory"] == {"total_mib": 124610, "available_mib": 115787, "swap_total_mib": 16383}


def test_mig_devices_have_their_own_memory(tmp_path: Path) -> None:
    xml = (
        f'<nvidia_smi_log><gpu id="00000000:10:00.0"><mig_devices><mig_device><index>0</index><fb_memory_usage>'
        f"<total>40448 MiB</total><free>40151 MiB</free></fb_memory_usage></mig_device></mig_devices>"
        f"<uuid>{uuid(0)}</uuid></gpu></nvidia_smi_log>"
    )
    listed = [f"GPU 0: NVIDIA A100 (UUID: {uuid(0)})", "  MIG 3g.40gb     Device  0: (UUID: MIG-0929581a-2be6)"]
    listed.append("  MIG 3g.40gb     Device  1: (UUID: MIG-3adbed3a-d03d)")
    answers = [{"argv": ["-L"], "stdout": listed}, {"argv": ["-q", "-x"], "stdout": xml}]
    cards = [
        card(0, "NVIDIA A100 80GB PCIe", 81920, 81216, 26, mig__mode__current="Enabled", utilization__gpu=NA),
        card(1, "NVIDIA A100 80GB PCIe", 81920, 81216, 26, mig__mode__current="Disabled"),
        card(2, "NVIDIA GeForce RTX 4090", 24564, 24000, 100, mig__mode__current=NA),
    ]
    facts = gpu_hosts.facts(tmp_path, profile(cards, answers=answers))
    assert_contract(facts)
    assert facts["gpus"][0]["utilization_percent"] is None
    assert [gpu["mig"] for gpu in facts["gpus"]] == [
        {
            "enabled": True,
            "devices": [
                {
                    "index": 0,
                    "profile": "3g.40gb",
                    "uuid": "MIG-0929581a-2be6",
                    "memory_total_mib": 40448,
                    "memory_free_mib": 40151,
                },
                {
                    "index": 1,
                    "profile": "3g.40gb",
                    "uuid": "MIG-3adbed3a-d03d",
                    "memory_total_mib": None,
                    "memory_free_mib": None,
                },
            ],
        },
        {"enabled": False, "devices": []},
        {"enabled": None, "devices": []},
    ]


# --- drivers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "missing", "label", "cuda"),
    [
        ("525.147.05", ["gpu_recovery_action", "fabric.state", "fabric.status"], "CUDA Version", "12.0"),
        ("535.161.08", ["gpu_recovery_action"], "CUDA Version", "12.2"),
        ("550.54.15", ["compute_cap", "gpu_recovery_action", "fabric.status"], "CUDA Version", "12.4"),
        ("570.172.08", [], "CUDA Version", "12.8"),
        ("580.159.04", [], "CUDA Version", "13.0"),
        ("595.45.04", [], "CUDA UMD Version", "13.2"),
    ],
)
def test_drivers_know_different_fields(tmp_path: Path, driver: str, missing: list[str], label: str, cuda: str) -> None:
    gpu = card(0, "NVIDIA H100 80GB HBM3", 81559, 81000, 4, driver_version=driver, compute_cap="9.0")
    seen = profile([{key: cell for key, cell in gpu.items() if key not in missing}])
    seen["answers"] = [header(driver, cuda, label)]
    facts = gpu_hosts.facts(tmp_path, seen)
    assert_contract(facts)
    assert (facts["status"], facts["driver_version"], facts["cuda_version"]) == ("ok", driver, cuda)
    assert only(facts, "compute_capability", "memory_free_mib") == {
        "compute_capability": "9.0",
        "memory_free_mib": 81000,
    }


@pytest.mark.parametrize(
    ("installed", "reboot", "warned"),
    [
        (Result(0, "580.95.05\n"), False, False),
        (Result(0, "580.159.04\n"), True, True),
        (Result(1, "", "modinfo: ERROR: Module nvidia not found."), False, False),
        (None, False, False),
    ],
)
def test_a_pending_reboot_behind_a_working_nvidia_smi(
    tmp_path: Path, installed: Result | None, reboot: bool, warned: bool
) -> None:
    programs = {"modinfo": installed} if installed else {}
    facts = gpu_hosts.facts(tmp_path, profile([card(0, "NVIDIA H200", 143771, 143000, 4)]), programs=programs)
    assert facts["status"] == "ok"
    assert facts["reboot_required"] is reboot
    assert any("reboot the host" in warning for warning in facts["warnings"]) is warned


# --- health ----------------------------------------------------------------------------------------------------------


def dead(index: int) -> dict[str, str]:
    row = card(index, "NVIDIA H100 80GB HBM3", "ERR!", "ERR!", "ERR!", driver_version="525.147.05")
    kept = ("index", "uuid", "name", "pci.bus_id", "driver_version")
    return {key: cell if key in kept else "ERR!" for key, cell in row.items()}


HEALTHY = card(0, "NVIDIA H100 80GB HBM3", 81559, 81000, 4)


@pytest.mark.parametrize(
    ("gpu", "health"),
    [
        pytest.param(dead(1), "error", id="ERR! in every cell"),
        pytest.param({**card(1, "NVIDIA H100", *["[Unknown Error]"] * 3)}, "error", id="unknown error"),
        pytest.param({**card(1, "NVIDIA H100", *["[GPU is lost]"] * 3)}, "lost", id="lost"),
        pytest.param({**card(1, "NVIDIA H100", *["[GPU requires reset]"] * 3)}, "reset_required", id="requires reset"),
        pytest.param(
            card(1, "NVIDIA H100", 81559, 81000, 4, gpu_recovery_action="Reset"), "reset_required", id="Reset"
        ),
        pytest.param(
            card(1, "NVIDIA H100", 81559, 81000, 4, gpu_recovery_action="Drain and Reset"), "reset_required", id="Drain"
        ),
        pytest.param(
            card(1, "NVIDIA H100", 81559, 81000, 4, power__draw="[Unknown Error]"), "ok", id="only its power draw"
        ),
    ],
)
def test_health_is_of_a_card_not_of_the_call(tmp_path: Path, gpu: dict[str, str], health: str) -> None:
    facts = gpu_hosts.facts(tmp_path, profile([HEALTHY, gpu]))
    assert_contract(facts)
    assert [found["health"] for found in facts["gpus"]] == ["ok", health]
    assert facts["gpus"][0]["memory_free_mib"] == 81000
    if health == "ok":
        assert facts["status"] == "ok"
    else:
        assert facts["status"] == "error"
        assert "GPU 1" in facts["message"]
        assert "GPU 0" not in facts["message"]
        assert "(the other one works)" in facts["message"]


PCI_PAIR = [["0000:10:00.0", "0x030200", "0x2330", "nvidia", 0], ["0000:11:00.0", "0x030200", "0x2330", "nvidia", 1]]
INFORMATION = "Model: \t\t NVIDIA H100 80GB HBM3\nGPU UUID: \t GPU-5a5a5a5a-0001-4000-8000-000000000001\n"
LOST = {"/proc/driver/nvidia/gpus/0000:11:00.0/information": INFORMATION}
NO_HANDLE = "Unable to determine the device handle for GPU1: 0000:11:00.0: Unknown Error\n"


def core_answer(argv: t.Sequence[str], rc: int, stdout: str, stderr: str = "") -> dict[str, t.Any]:
    return {"argv": list(argv), "rc": rc, "stdout": stdout, "stderr": stderr}


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_lost_card_between_rows(tmp_path: Path, stream: str) -> None:
    """Some versions answer for the others, and exit with 0 or not."""
    row = ", ".join(HEALTHY[name] for name in CORE_FIELDS)
    argv = [f"--query-gpu={','.join(CORE_FIELDS)}", "--format=csv,noheader,nounits"]
    texts = {"stdout": f"{row}\n", "stderr": ""}
    texts[stream] += NO_HANDLE
    seen = profile([HEALTHY], answers=[core_answer(argv, 0, **texts)], files=LOST, pci=PCI_PAIR)
    facts = gpu_hosts.facts(tmp_path, seen)
    assert_contract(facts)
    assert facts["status"] == "error"
    assert facts["message"].startswith(
        "GPU 1 (0000:11:00.0) has fallen off the bus (the other one works): reboot the host"
    )
    assert [gpu["health"] for gpu in facts["gpus"]] == ["ok", "lost"]
    assert facts["gpus"][1]["uuid"] == "GPU-5a5a5a5a-0001-4000-8000-000000000001"
    assert facts["gpus"][1]["name"] == "NVIDIA H100 80GB HBM3"
    assert facts["gpus"][1]["memory_free_mib"] is None


def test_a_card_whose_inforom_is_corrupted_goes_on_computing(tmp_path: Path) -> None:
    """nvidia-smi exits with 14 then, and says so behind its rows."""
    said = "WARNING: infoROM is corrupted at gpu 0000:10:00.0\n"
    row = ", ".join(HEALTHY[name] for name in CORE_FIELDS)
    answers = [
        core_answer(gpu_query(CORE_FIELDS), 14, f"{row}\n{said}"),
        core_answer(APPS_ARGS, 14, f"{HEALTHY['uuid']}, 77, 1234, python3\n{said}"),
    ]
    facts = gpu_hosts.facts(tmp_path, profile([HEALTHY], answers=answers))
    assert_contract(facts)
    assert (facts["status"], facts["gpus"][0]["process_memory_mib"]) == ("ok", 1234)
    assert [word for word in facts["warnings"] if word.startswith("The infoROM of GPU 0000:10:00.0 is corrupted: ")]


def test_a_lost_card_that_silences_the_others(tmp_path: Path) -> None:
    """Other versions give up on all: the others are then asked for by their addresses."""
    fields = {
        "core": f"--query-gpu={','.join(CORE_FIELDS)}",
        "extras": f"--query-gpu={','.join(EXTRA_FIELDS)}",
    }
    failing = [
        core_answer([field, "--format=csv,noheader,nounits"], 15, NO_HANDLE.replace("GPU1: ", "GPU "))
        for field in fields.values()
    ]
    seen = profile([HEALTHY], answers=failing, files=LOST, pci=PCI_PAIR)
    facts = gpu_hosts.facts(tmp_path, seen)
    assert_contract(facts)
    assert [(gpu["index"], gpu["health"]) for gpu in facts["gpus"]] == [(0, "ok"), (1, "lost")]
    assert facts["gpus"][0]["memory_free_mib"] == 81000
    assert facts["status"] == "error"


# --- processes and servers -------------------------------------------------------------------------------------------

OURS, THEIRS = "0a" * 32, "0b" * 32
SPEC = {"model": "openai/gpt-oss-120b", "name": "gptoss", "served_model_name": "gpt-oss-120b"}
CONTAINERS = [
    {
        "Id": OURS,
        # Somebody else is linked to it.
        "Names": ["/open-webui/llm", "/vllm-gptoss"],
        "Image": "nvcr.io/nvidia/vllm:26.05-py3",
        "State": "running",
        "Labels": {"gpufleet.vllm.fingerprint": "1:abc", "gpufleet.vllm.spec": json.dumps(SPEC)},
    },
    {"Id": THEIRS, "Names": ["/notebook"], "Image": "jupyter", "State": "running", "Labels": {}},
]
TENANTS = {
    **process_files(100, 0, f"/system.slice/docker-{OURS}.scope", "VLLM::EngineCor"),
    **process_files(101, 1004, f"/system.slice/docker-{THEIRS}.scope"),
    **process_files(102, 1001, "/system.slice/vllm-qwen.service"),
    **process_files(103, 1002, "/user.slice/user-1002.slice/session-3.scope"),
}
SHARED = profile(
    [card(0, "NVIDIA H200", 143771, 20771, 123000)],
    [
        app(0, 100, 80000, "VLLM::EngineCore"),
        app(0, 101, 20000, "[Insufficient Permissions]"),
        app(0, 102, 15000, "VLLM::EngineCore"),
        app(0, 103, "[N/A]", "-"),
        app(0, 104, 6000, "[Not Found]"),
    ],
    files=TENANTS,
)


def test_whose_processes_are(tmp_path: Path) -> None:
    docker = {"/containers/json?all=1": CONTAINERS}
    facts = gpu_hosts.facts(tmp_path, SHARED, docker=docker, users={0: "root", 1004: "alice"})
    assert_contract(facts)
    shown = [tuple(process.values()) for process in facts["gpus"][0]["processes"]]
    assert shown == [
        (100, "VLLM::EngineCore", "root", 80000, "vllm-gptoss", True, "gptoss"),
        (101, "python3", "alice", 20000, "notebook", False, None),
        (102, "VLLM::EngineCore", "1001", 15000, None, True, "qwen"),
        (103, "python3", "1002", None, None, False, None),
        (104, None, None, 6000, None, None, None),
    ]
    # Our own servers are no strangers on a second run; what no process accounts for is, once it is much.
    assert facts["gpus"][0]["foreign_used_mib"] == 20000 + 6000 + (123000 - 121000)
    assert facts["gpus"][0]["process_memory_mib"] == 121000


def test_without_docker_nobody_knows_who_owns_a_container(tmp_path: Path) -> None:
    facts = gpu_hosts.facts(tmp_path, SHARED)
    first = facts["gpus"][0]["processes"][0]
    assert (first["container"], first["managed"], first["server"]) == (OURS[:12], None, None)
    assert any("become: true" in warning for warning in facts["warnings"])


@pytest.mark.parametrize(
    ("used", "processes", "foreign"),
    [
        (4, [], 0),
        (700, [], 0),
        (36864, [], 36864),
        (80500, [("ours", 80000)], 0),
        (90500, [("ours", 80000), ("theirs", 10000)], 10000),
        (95000, [("ours", 80000), ("theirs", 10000)], 15000),
        (None, [("theirs", 10000)], 10000),
        (None, None, None),
    ],
)
def test_foreign_memory(used: int | None, processes: list[tuple[str, int]] | None, foreign: int | None) -> None:
    listed = None
    if processes is not None:
        listed = [{"used_memory_mib": mib, "managed": who == "ours"} for who, mib in processes]
    assert gpu_facts.foreign_memory(used, listed) == foreign


def test_what_is_not_listed_is_not_known(tmp_path: Path) -> None:
    """A failed list of processes is not an empty one."""
    argv = ["--query-compute-apps=gpu_uuid,pid,used_memory,process_name", "--format=csv,noheader,nounits"]
    seen = profile(
        [card(0, "NVIDIA H200", 143771, 1, 143000)], answers=[{"argv": argv, "rc": 3, "stdout": "Not Supported"}]
    )
    facts = gpu_hosts.facts(tmp_path, seen)
    assert only(facts, "process_memory_mib", "foreign_used_mib") == {
        "process_memory_mib": None,
        "foreign_used_mib": None,
    }


def test_the_labels_are_those_that_containers_get() -> None:
    labels = (gpu_facts.LABEL_FINGERPRINT, gpu_facts.LABEL_SPEC)
    assert labels == (record.LABEL_FINGERPRINT, record.LABEL_SPEC)


def test_servers_of_the_collection(tmp_path: Path) -> None:
    stopped = {**CONTAINERS[0], "Id": "0c" * 32, "Names": ["/vllm-old"], "State": "exited"}
    stopped["Labels"] = {"gpufleet.vllm.fingerprint": "1:x", "gpufleet.vllm.spec": "{damaged"}
    files = {
        "/etc/systemd/system/vllm-qwen.service": "[Service]\n",
        "/sys/fs/cgroup/system.slice/vllm-qwen.service/cgroup.procs": "102\n",
    }
    docker = {"/containers/json?all=1": [*CONTAINERS, stopped]}
    facts = gpu_hosts.facts(tmp_path, profile(files=files), docker=docker, has_nvidia_smi=False)
    assert [(server["name"], server["backend"], server["running"]) for server in facts["servers"]] == [
        ("gptoss", "container", True),
        ("old", "container", False),
        ("qwen", "systemd", True),
    ]
    assert facts["servers"][0] == {
        "name": "gptoss",
        "backend": "container",
        "container": "vllm-gptoss",
        "running": True,
        "model": "openai/gpt-oss-120b",
        "served_model_name": "gpt-oss-120b",
        "port": 8000,
        "image": "nvcr.io/nvidia/vllm:26.05-py3",
    }


def test_a_server_of_several_names_is_shown_by_the_first(tmp_path: Path) -> None:
    labels = {**CONTAINERS[0]["Labels"], "gpufleet.vllm.spec": json.dumps({**SPEC, "served_model_name": ["a", "b"]})}
    docker = {"/containers/json?all=1": [{**CONTAINERS[0], "Labels": labels}]}
    facts = gpu_hosts.facts(tmp_path, profile(), docker=docker, has_nvidia_smi=False)
    assert [server["served_model_name"] for server in facts["servers"]] == ["a"]


def test_the_highest_sample_of_utilization_counts(tmp_path: Path) -> None:
    """The second sample of three finds the GPU busy."""
    host = gpu_hosts.host(tmp_path, profile([card(0, "NVIDIA H200", 143771, 1, 1, utilization__gpu=3)]))
    seen = observe(host)
    samples = (Result(0, f"{uuid(0)}, 97\n"), Result(0, f"{uuid(0)}, [N/A]\n"), Result(6))
    sampled = replace(seen, smi=replace(seen.smi, cards=with_samples(seen.smi.cards, samples)))
    assert gpu_facts.host_facts(seen)["gpus"][0]["utilization_percent"] == 3
    assert gpu_facts.host_facts(sampled)["gpus"][0]["utilization_percent"] == 97


# --- the host --------------------------------------------------------------------------------------------------------

NVSWITCH = ["0000:c4:00.0", "0x068000", "0x1af1", "nvidia-nvswitch", 0]
FABRIC_UNIT = {"/sys/fs/cgroup/system.slice/nvidia-fabricmanager.service/cgroup.procs": "900\n"}
NO_FABRIC_UNIT = {"/sys/fs/cgroup/system.slice/ssh.service/cgroup.procs": "900\n"}


@pytest.mark.parametrize(
    ("cells", "pci", "files", "version", "expected"),
    [
        pytest.param({}, [], {}, None, (False, None, None, None, None, None), id="no NVSwitch"),
        pytest.param(
            {},
            [NVSWITCH],
            FABRIC_UNIT,
            "580.95.05",
            (True, True, "580.95.05", True, None, True),
            id="running and fitting",
        ),
        pytest.param(
            {},
            [NVSWITCH],
            FABRIC_UNIT,
            "580.82.07",
            (True, True, "580.82.07", False, None, False),
            id="another version",
        ),
        pytest.param(
            {}, [NVSWITCH], NO_FABRIC_UNIT, "580.95.05", (True, False, "580.95.05", True, None, False), id="not running"
        ),
        pytest.param({}, [NVSWITCH], NO_FABRIC_UNIT, None, (True, False, None, None, None, False), id="not installed"),
        pytest.param(
            {"fabric__state": "Completed", "fabric__status": "Success"},
            [],
            {},
            None,
            (False, None, None, None, "Completed", True),
            id="it runs outside this virtual machine",
        ),
        pytest.param(
            {"fabric__state": "In Progress", "fabric__status": "[N/A]"},
            [NVSWITCH],
            FABRIC_UNIT,
            "580.95.05",
            (True, True, "580.95.05", True, "In Progress", False),
            id="not ready yet",
        ),
    ],
)
def test_fabric_manager(
    tmp_path: Path,
    cells: dict[str, str],
    pci: list[list[t.Any]],
    files: dict[str, str],
    version: str | None,
    expected: tuple[t.Any, ...],
) -> None:
    programs = {"nv-fabricmanager": Result(0, f"Fabric Manager version is : {version}\n")} if version else {}
    seen = profile([card(0, "NVIDIA H100 80GB HBM3", 81559, 81000, 4, **cells)], files=files, pci=pci)
    facts = gpu_hosts.facts(tmp_path, seen, programs=programs)
    assert tuple(facts["fabric_manager"].values()) == expected
    assert any("error 802" in warning for warning in facts["warnings"]) is (expected[-1] is False)


CDI = {"/etc/cdi/nvidia.yaml": "cdiVersion: 0.5.0\nkind: nvidia.com/gpu\n", "/etc/cdi/other.json": "{}"}
DOCKER = {"ServerVersion": "28.3.3", "Runtimes": {"runc": {}, "nvidia": {}}, "DefaultRuntime": "nvidia"}
PLAIN = {"ServerVersion": "26.1.5", "Runtimes": {"runc": {}}, "DefaultRuntime": "runc"}
CONFIGURED = {"/etc/docker/daemon.json": '{"runtimes": {"nvidia": {"path": "nvidia-container-runtime"}}}'}
TOOLKIT = {"nvidia-ctk": Result(0, "NVIDIA Container Toolkit CLI version 1.17.8\ncommit: f202b80\n")}


@pytest.mark.parametrize(
    ("info", "files", "programs", "expected", "warned"),
    [
        pytest.param(None, {}, {}, (False, None, False, None, None, False, None, False, []), False, id="nothing"),
        pytest.param(
            DOCKER,
            {**CDI, **CONFIGURED},
            TOOLKIT,
            (True, "1.17.8", False, "28.3.3", True, True, "nvidia", True, ["/etc/cdi/nvidia.yaml"]),
            False,
            id="everything",
        ),
        pytest.param(
            PLAIN,
            {},
            {"nvidia-container-runtime-hook": Result(0)},
            (True, None, True, "26.1.5", False, False, "runc", False, []),
            False,
            id="the hook is enough for --gpus",
        ),
        pytest.param(
            PLAIN,
            CONFIGURED,
            TOOLKIT,
            (True, "1.17.8", False, "26.1.5", False, True, "runc", False, []),
            True,
            id="Docker was not restarted",
        ),
        pytest.param(
            PLAIN,
            {"/etc/docker/daemon.json": "{damaged"},
            {},
            (False, None, False, "26.1.5", False, False, "runc", False, []),
            True,
            id="damaged configuration",
        ),
        pytest.param(
            {"Runtimes": None},
            CDI,
            {},
            (False, None, False, None, None, False, None, True, ["/etc/cdi/nvidia.yaml"]),
            False,
            id="CDI",
        ),
    ],
)
def test_container_toolkit(
    tmp_path: Path,
    info: t.Any,
    files: dict[str, str],
    programs: dict[str, Result],
    expected: tuple[t.Any, ...],
    warned: bool,
) -> None:
    seen = profile([card(0, "NVIDIA H200", 143771, 143000, 4)], files=files)
    facts = gpu_hosts.facts(tmp_path, seen, docker={"/info": info}, programs=programs)
    assert tuple(facts["container_toolkit"].values()) == expected
    assert any("Containers get no GPU" in warning for warning in facts["warnings"]) is warned


@pytest.mark.parametrize(
    ("cells", "word"),
    [
        ({"compute_mode": "Exclusive_Process"}, "compute mode Default"),
        ({"persistence_mode": "Disabled"}, "Persistence mode is off on GPU 0"),
    ],
)
def test_warnings(tmp_path: Path, cells: dict[str, str], word: str) -> None:
    facts = gpu_hosts.facts(tmp_path, profile([card(0, "NVIDIA H200", 143771, 143000, 4, **cells)]))
    assert facts["status"] == "ok"
    assert [warning for warning in facts["warnings"] if word in warning]


@pytest.mark.parametrize(
    ("node", "online", "expected"), [(1, "0-1", 1), (-1, "0", 0), (-1, "0-1", None), (-1, "", None)]
)
def test_numa_node(tmp_path: Path, node: int, online: str, expected: int | None) -> None:
    files = {"/sys/devices/system/node/online": f"{online}\n"}
    pci = [["0000:10:00.0", "0x030200", "0x2335", "nvidia", node]]
    facts = gpu_hosts.facts(tmp_path, profile([card(0, "NVIDIA H200", 143771, 143000, 4)], files=files, pci=pci))
    assert facts["gpus"][0]["numa_node"] == expected


def test_the_simulated_hosts(tmp_path: Path) -> None:
    shared = gpu_hosts.facts(tmp_path / "a100", load("a100-shared"))
    pair = gpu_hosts.facts(tmp_path / "h100", load("h100-pair"))
    spark = gpu_hosts.facts(tmp_path / "gb10", load("gb10"))
    for facts in (shared, pair, spark):
        assert_contract(facts)
        assert facts["status"] == "ok"
    assert [gpu["numa_node"] for gpu in shared["gpus"]] == [3, 3, 1, 1, 7, 7, 5, 5]
    assert [process["name"] for process in shared["gpus"][7]["processes"]] == ["python train.py, seed 3"]
    assert (shared["driver_version"], shared["cuda_version"], shared["hardware_class"]) == (
        "535.161.08",
        "12.2",
        "a100",
    )
    assert pair["topology"] == {"0-1": "NV18"}
    assert spark["memory_kind"] == "unified"
    assert spark["gpus"][0]["pci_bus_id"] == "0000000F:01:00.0"


# --- no observation raises -------------------------------------------------------------------------------------------

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
CELLS = st.sampled_from(
    ["[N/A]", "ERR!", "0", "81559", "Enabled", "GPU-00000001-1", "NVIDIA GB10", "[GPU is lost]", "7"]
)
QUERY = st.lists(st.lists(CELLS, min_size=14, max_size=14).map(", ".join), max_size=3).map("\n".join)
TEXT = st.text(max_size=60) | QUERY
RESULTS = st.builds(Result, st.sampled_from([None, 0, 2, 4, 6, 9, 14, 15, 18, 255]), TEXT, TEXT, st.booleans())


def report(core: Result, extras: Result, samples: list[Result], apps: Result, texts: tuple[str, str, str]) -> Report:
    """What is read from such answers."""
    cards = read_cards(Table(CORE_FIELDS, core), Table(EXTRA_FIELDS, extras))
    cards = with_samples(with_mig(cards, texts[0], texts[1]), samples)
    answers = {"apps": apps, "header": Result(0, texts[2]), "topology": Result(0, texts[2])}
    return read_report(Table(CORE_FIELDS, core), cards, answers)


REPORTS = st.builds(report, RESULTS, RESULTS, st.lists(RESULTS, max_size=2), RESULTS, st.tuples(TEXT, TEXT, TEXT))
CONTAINER = st.fixed_dictionaries({"Id": st.just(OURS), "Names": ANYTHING, "Labels": ANYTHING, "State": ANYTHING})


@given(
    st.builds(
        Observation,
        nvidia_smi=st.sampled_from([None, "/usr/bin/nvidia-smi"]),
        smi=REPORTS,
        containers=ANYTHING | st.lists(CONTAINER | ANYTHING, max_size=3),
        docker_info=ANYTHING | st.fixed_dictionaries({"Runtimes": ANYTHING}),
        pci=st.none(),
        daemon_json=st.text(max_size=20) | ANYTHING.map(json.dumps),
        driver_installed=RESULTS.map(parse_module_version),
        driver_loaded=TEXT.map(parse_driver_version),
        toolkit_version=RESULTS.map(parse_toolkit),
        fabric_manager_version=RESULTS.map(parse_fabric_manager),
        memory=TEXT.map(parse_meminfo),
        **dict.fromkeys(("init_cgroup", "numa_nodes"), TEXT),
    )
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_no_observation_raises(seen: Observation) -> None:
    facts = gpu_facts.host_facts(seen)
    assert set(facts) == HOST_KEYS
    assert facts["status"] in STATUSES
    assert (facts["message"] is None) == (facts["status"] == "ok")
    json.dumps(facts)
    for gpu in facts["gpus"]:
        for key in ("index", "memory_total_mib", "memory_free_mib", "memory_used_mib", "utilization_percent"):
            assert gpu[key] is None or isinstance(gpu[key], int)
        for key in ("uuid", "name", "pci_bus_id", "compute_mode"):
            assert gpu[key] is None or not gpu[key].startswith("[")


def test_gpus_without_nvlink(tmp_path: Path) -> None:
    lines = ["\tGPU0\tGPU1\tCPU Affinity", "GPU0\t X \tPHB\t0-63", "GPU1\tPHB\t X \t0-63"]
    cards = [card(index, "NVIDIA L40S", 46068, 46000, 1) for index in (0, 1)]
    facts = gpu_hosts.facts(tmp_path, profile(cards, answers=[topology(lines)]))
    assert facts["topology"] == {"0-1": "PHB"}
