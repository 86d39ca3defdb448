# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The classes of hardware: how a card and a host get theirs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import hardware


def test_each_class_has_a_name_of_its_own_that_can_be_a_group() -> None:
    names = hardware.class_names()
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name == name.lower() for name in names)
    assert {"gb10", "h100", "h200", "a100", "cpu", "l40s"} <= set(names)
    assert not {"other", "none", "all", "ungrouped"} & set(names)


def test_the_documentation_names_every_class() -> None:
    page = (Path(__file__).parents[3] / "docs" / "gpu_facts.md").read_text("utf-8")
    section = page.split("## Hardware classes")[1].split("##")[0]
    assert set(hardware.class_names()) <= set(re.findall(r"`([a-z0-9_]+)`", section))


def test_each_pci_device_is_of_one_class() -> None:
    ids = [device for kind in hardware.HARDWARE for device in kind.pci_devices]
    assert len(set(ids)) == len(ids)
    for kind in hardware.HARDWARE:
        assert {hardware.hardware_on_pci(f"0x{device}") for device in kind.pci_devices} <= {kind}
    assert hardware.hardware_on_pci("").name == hardware.hardware_on_pci("0x1234").name == "other"


@pytest.mark.parametrize(
    ("groups", "name"),
    [
        (["all", "a100", "berlin"], "a100"),
        (["rack_l40s", "l40s"], "l40s"),
        (["cpu", "gb10"], "gb10"),
        (["cpu"], "cpu"),
        (["all", "other", "H100"], None),
        ([], None),
    ],
)
def test_hardware_class_of_groups(groups: list[str], name: str | None) -> None:
    assert hardware.class_of_groups(groups) == name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA GB10", "gb10"),
        ("nvidia gb10", "gb10"),
        ("Nvidia H100 80gb hbm3", "h100"),
        ("NVIDIA RTX Pro 6000 Blackwell Server Edition", "rtx_pro_6000"),
        ("NVIDIA RTX Pro 6000 Blackwell DC-48Q", "rtx_pro_6000"),
        ("GRID A100D-1-10C MIG 1g.10gb", "a100"),
        ("NVIDIA H100L-94C", "h100"),
        ("NVIDIA L40S-48Q", "l40s"),
        ("GRID T4-16Q", "t4"),
        ("NVIDIA Thor", "thor"),
        ("Orin (nvgpu)", "orin"),
        ("NVIDIA RTX Spark N1X", "n1x"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA GB300", "gb300"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA GH200 144G HBM3e", "gh200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA B300 SXM6 AC", "b300"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 NVL", "h100"),
        ("NVIDIA H800", "h100"),
        ("NVIDIA H20", "h20"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA A800 80GB PCIe", "a100"),
        ("GRID A100D-80C", "a100"),
        ("NVIDIA RTX A1000", "other"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L40", "l40"),
        ("NVIDIA L4", "l4"),
        ("Tesla T4", "t4"),
        ("NVIDIA T400 4GB", "other"),
        ("Tesla V100-SXM2-32GB", "v100"),
        ("Tesla PG500-216", "v100"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx_pro_6000"),
        ("NVIDIA GeForce RTX 4090", "other"),
        (None, "other"),
    ],
)
def test_hardware_class_of_a_name(name: str | None, kind: str) -> None:
    assert hardware.hardware_of(name).name == kind


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([], "none"),
        (["a100"] * 8, "a100"),
        (["a100", "other"], "a100"),
        (["a100", "h100"], "other"),
        (["other"], "other"),
    ],
)
def test_hardware_class_of_a_host(classes: list[str], expected: str) -> None:
    assert hardware.host_class(classes) == expected
