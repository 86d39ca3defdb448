# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every way in which a host has no usable GPU: its status, and the sentence that says what to do."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.facts import host_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.nvidia_smi import Report, Result, parse_unreachable
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.observation import Observation, PciDevice

LOADED = "580.95.05"
INSTALLED = "580.95.05"
NOT_INSTALLED = None
H100 = PciDevice("0000:18:00.0", "0x030200", "0x2330")
SPARK = PciDevice("000f:01:00.0", "0x030000", "0x2e12")
SPARK_BRIDGE = PciDevice("000f:00:00.0", "0x060400", "0x22d1")
UNKNOWN = PciDevice("0000:18:00.0", "0x030000", "0x1234")


def held_by(device: PciDevice, driver: str) -> PciDevice:
    return replace(device, driver=driver)


def smi(rc: int | None, out: str = "", err: str = "", **more: t.Any) -> dict[str, t.Any]:
    """nvidia-smi answered that."""
    answer = Result(rc, out, err)
    report = Report(answer, unreachable=parse_unreachable(answer.text))
    return {"nvidia_smi": "/usr/bin/nvidia-smi", "smi": report, **more}


NO_DRIVER_TEXT = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA "
    "driver is installed and running.\n\n"
)
MISMATCH_TEXT = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.126\n"
LOADER_TEXT = "nvidia-smi: error while loading shared libraries: libnvidia-ml.so.1: cannot open shared object file\n"
NO_SUPPORTED_TEXT = "Failed to initialize NVML: No supported GPUs were found\n"
NO_LIBRARY_TEXT = "NVIDIA-SMI couldn't find libnvidia-ml.so library in your system. Please make sure\n"

CASES = [
    # --- nothing to ask
    pytest.param({"pci": ()}, "no_gpu", "the PCI bus shows none", "none", id="no GPU"),
    pytest.param({"pci": None}, "no_gpu", "No NVIDIA GPU", "none", id="no sysfs"),
    pytest.param({"pci": (SPARK_BRIDGE,)}, "no_gpu", "No NVIDIA GPU", "none", id="a bridge of NVIDIA's is no GPU"),
    pytest.param(
        {"pci": (H100, H100), "driver_installed": NOT_INSTALLED},
        "no_driver",
        "2 NVIDIA GPUs (h100)",
        "h100",
        id="no driver",
    ),
    pytest.param(
        {"pci": (H100,)}, "no_driver", "1 NVIDIA GPU (h100) but no NVIDIA driver", "h100", id="no modinfo either"
    ),
    pytest.param({"pci": (SPARK, SPARK_BRIDGE)}, "no_driver", "DGX OS", "gb10", id="GB10 without driver"),
    pytest.param({"pci": (UNKNOWN,)}, "no_driver", "(other)", "other", id="a card we do not know"),
    pytest.param(
        {"pci": (held_by(H100, "nouveau"),)}, "no_driver", "nouveau holds the GPU", "h100", id="nouveau holds the GPU"
    ),
    pytest.param({"pci": (held_by(H100, "vfio-pci"),)}, "no_gpu", "virtual machines", "h100", id="passed through"),
    pytest.param(
        {"pci": (H100,), "driver_installed": INSTALLED},
        "driver_not_loaded",
        "modprobe nvidia",
        "h100",
        id="installed, not loaded",
    ),
    pytest.param(
        {"pci": (H100,), "driver_loaded": LOADED},
        "error",
        "580.95.05 is loaded but nvidia-smi is missing",
        "h100",
        id="no nvidia-smi",
    ),
    # --- nvidia-smi fails
    pytest.param(
        smi(9, NO_DRIVER_TEXT, pci=(H100,)), "driver_not_loaded", "'modprobe nvidia'; if that", "h100", id="rc 9"
    ),
    pytest.param(
        smi(9, NO_DRIVER_TEXT, pci=()), "driver_not_loaded", "PCI bus shows no NVIDIA GPU", "none", id="rc 9, no card"
    ),
    pytest.param(
        smi(9, pci=(held_by(H100, "nouveau"),)),
        "driver_not_loaded",
        "blacklist it and reboot",
        "h100",
        id="rc 9, nouveau",
    ),
    pytest.param(
        smi(18, MISMATCH_TEXT, pci=(H100,), driver_loaded=LOADED),
        "driver_mismatch",
        "(580.95.05) have different versions, as after an upgrade: reboot the host",
        "h100",
        id="mismatch",
    ),
    pytest.param(smi(1, "", MISMATCH_TEXT), "driver_mismatch", "reboot", "none", id="mismatch on stderr"),
    pytest.param(
        smi(4, "Failed to initialize NVML: Insufficient Permissions\n"), "error", "become: true", "none", id="rc 4"
    ),
    pytest.param(smi(6, "No devices were found\n", pci=()), "no_gpu", "driver finds none", "none", id="rc 6, no card"),
    pytest.param(smi(6, "No devices were found\n", pci=(H100,)), "error", "RmInitAdapter", "h100", id="rc 6, a card"),
    pytest.param(smi(8, "power cables"), "error", "power cable", "none", id="rc 8"),
    pytest.param(smi(10), "error", "Xid", "none", id="rc 10"),
    pytest.param(smi(12, NO_LIBRARY_TEXT, driver_loaded=LOADED), "error", "(580.95.05)", "none", id="rc 12"),
    pytest.param(smi(15, "GPU is lost"), "error", "Xid 79", "none", id="rc 15"),
    pytest.param(smi(16, "GPU requires reset"), "error", "--gpu-reset", "none", id="rc 16"),
    pytest.param(smi(17), "error", "on the host itself", "none", id="rc 17"),
    pytest.param(
        smi(255, "Failed to initialize NVML: Unknown Error\n"), "error", "recreated", "none", id="NVML unknown error"
    ),
    pytest.param(
        smi(255, "Failed to initialize NVML: N/A\n"), "error", "driver of Windows", "none", id="WSL2, NVML N/A"
    ),
    pytest.param(smi(127, "", LOADER_TEXT, driver_loaded=LOADED), "error", "(580.95.05)", "none", id="the loader, too"),
    pytest.param(smi(3, NO_SUPPORTED_TEXT, pci=()), "no_gpu", "driver finds none", "none", id="no supported GPU"),
    pytest.param(smi(3, NO_SUPPORTED_TEXT, pci=(H100,)), "error", "RmInitAdapter", "h100", id="none that is supported"),
    pytest.param(smi(-11), "error", "was killed by signal 11: no output.", "none", id="a segmentation fault"),
    pytest.param(smi(255, "Unheard of.\n"), "error", "exit status 255: Unheard of.", "none", id="anything else"),
    pytest.param(smi(3), "error", "exit status 3: no output", "none", id="failed in silence"),
    pytest.param(smi(0, "hello\n"), "error", "no GPU that can be read (hello)", "none", id="garbage"),
    pytest.param(smi(0), "error", "no GPU that can be read (no output)", "none", id="nothing"),
    pytest.param(smi(0, "0, GPU-00000001-1, NVIDIA H"), "error", "no GPU that can be read", "none", id="cut off"),
    pytest.param(
        smi(None, "", "[Errno 13] Permission denied", driver_loaded=LOADED),
        "error",
        "/usr/bin/nvidia-smi could not be run: [Errno 13]",
        "none",
        id="not run",
    ),
    pytest.param(
        smi(None, "", "[Errno 2] No such file", pci=(H100,), driver_installed=NOT_INSTALLED),
        "no_driver",
        "1 NVIDIA GPU (h100) but no NVIDIA driver",
        "h100",
        id="not there, and no driver either",
    ),
    pytest.param(
        smi(15, "Unable to determine the device handle for GPU 0000:18:00.0: GPU is lost.  Reboot", pci=(H100,)),
        "error",
        "GPU 0 (0000:18:00.0) has fallen off the bus: reboot the host",
        "h100",
        id="the only card is lost",
    ),
    pytest.param(
        smi(16, "Unable to determine the device handle for GPU 0000:18:00.0: GPU requires reset", pci=(H100,)),
        "error",
        "needs a reset: drain it",
        "h100",
        id="the only card needs a reset",
    ),
]


@pytest.mark.parametrize(("seen", "status", "words", "hardware_class"), CASES)
def test_status_and_sentence(seen: dict[str, t.Any], status: str, words: str, hardware_class: str) -> None:
    facts = host_facts(Observation(**seen))
    assert facts["status"] == status
    assert words in facts["message"]
    assert facts["message"].endswith(".")
    assert "\n" not in facts["message"]
    assert facts["hardware_class"] == hardware_class
    assert facts["memory_kind"] == ("none" if not facts["gpus"] else None)


def test_a_hung_nvidia_smi() -> None:
    hung = Observation(nvidia_smi="/usr/bin/nvidia-smi", smi=Report(Result(timed_out=True)), timeout=60)
    facts = host_facts(hung)
    assert facts["status"] == "timeout"
    assert "did not answer within 60 s" in facts["message"]
    assert facts["gpus"] == []


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(smi(18, MISMATCH_TEXT), True, id="mismatch"),
        pytest.param(smi(9, pci=(H100,), driver_installed=INSTALLED), True, id="installed, not loaded"),
        pytest.param(smi(9, pci=(H100,)), None, id="not loaded, nobody knows what is installed"),
        pytest.param({"pci": (H100,), "driver_installed": NOT_INSTALLED}, False, id="no driver"),
        pytest.param({"pci": (held_by(H100, "nouveau"),)}, True, id="nouveau must go first"),
        pytest.param({"pci": ()}, False, id="no GPU"),
        pytest.param(
            smi(255, driver_loaded=LOADED, driver_installed=INSTALLED), False, id="broken, but loaded what is installed"
        ),
        pytest.param(smi(255, driver_loaded=LOADED, driver_installed="580.159.04"), True, id="an upgrade waits"),
        pytest.param(smi(255, driver_loaded=LOADED), None, id="not known"),
    ],
)
def test_whether_a_reboot_is_required(seen: dict[str, t.Any], expected: bool | None) -> None:
    assert host_facts(Observation(**seen))["reboot_required"] is expected
