# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What people see of a host."""

from __future__ import annotations

import typing as t
from pathlib import Path

import gpu_hosts
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.table import facts_of, table
from gpu_hosts import app, card, meminfo, profile

A100_SHARED = """\
lab-1: ok, 8 x a100, driver 535.161.08, CUDA 12.2, NVLink NV12
  GPU  name                   memory in use                              util  temp  power  health  tenants (GiB)
  0    NVIDIA A100-SXM4-80GB  [#########...........]  36.0 of 80.0 GiB  100 %  64 C  287 W  ok      mli 36.0
  1    NVIDIA A100-SXM4-80GB  [#...................]   2.8 of 80.0 GiB   20 %  41 C   96 W  ok      uid 1011 2.8
  2    NVIDIA A100-SXM4-80GB  [####................]  14.2 of 80.0 GiB   45 %  52 C  181 W  ok      uid 1007 14.2
  3    NVIDIA A100-SXM4-80GB  [#...................]   2.7 of 80.0 GiB  100 %  61 C  244 W  ok      uid 1011 2.7
  4    NVIDIA A100-SXM4-80GB  [....................]   0.0 of 80.0 GiB    0 %  33 C   62 W  ok
  5    NVIDIA A100-SXM4-80GB  [###############.....]  60.0 of 80.0 GiB   78 %  66 C  301 W  ok      mli 60.0
  6    NVIDIA A100-SXM4-80GB  [######..............]  22.2 of 80.0 GiB    0 %  38 C   83 W  ok      uid 1015 22.2
  7    NVIDIA A100-SXM4-80GB  [##..................]   9.3 of 80.0 GiB   12 %  40 C   90 W  ok      uid 1002 9.3
  ! The NVSwitch fabric"""


def test_a_shared_host(tmp_path: Path) -> None:
    seen = gpu_hosts.load("a100-shared")
    seen["host"]["files"]["/sys/fs/cgroup/system.slice/ssh.service/cgroup.procs"] = "1\n"
    facts = gpu_hosts.facts(tmp_path, seen, users={1004: "mli"})
    assert "\n".join(table("lab-1", facts)).startswith(A100_SHARED)


SPARK = """\
spark: ok, 1 x gb10, driver 580.95.05, CUDA 13.0
  GPU  name         memory in use                              util  temp  power  health  tenants (GiB)
  0    NVIDIA GB10  [##########..........]  60.0 of 120.0 GiB  88 %  33 C   61 W  ok      server gptoss 48.8
  (the memory is the host's: CPU and GPU share it)
  serves gpt-oss-120b on port 8000 (server gptoss, container vllm-gptoss, running)"""


def test_a_spark_that_serves(tmp_path: Path) -> None:
    identifier = "ab" * 32
    labels = {"gpufleet.vllm.fingerprint": "1:a", "gpufleet.vllm.spec": '{"name": "gptoss", "model": "gpt-oss-120b"}'}
    container = {"Id": identifier, "Names": ["/vllm-gptoss"], "State": "running", "Labels": labels}
    files = {
        **meminfo(120 * 1024 * 1024, 60 * 1024 * 1024),
        **gpu_hosts.process_files(7, 0, f"/system.slice/docker-{identifier}.scope"),
    }
    seen = profile([card(0, "NVIDIA GB10", *["[N/A]"] * 3, utilization__gpu=88)], [app(0, 7, 50000)], files=files)
    facts = gpu_hosts.facts(tmp_path, seen, docker={"/containers/json?all=1": [container]})
    assert "\n".join(table("spark", facts)) == SPARK


def test_a_server_that_is_stopped_serves_nothing() -> None:
    kept = {"name": "a", "served_model_name": "m", "port": 8000, "container": "vllm-a-superseded", "running": False}
    facts = {"status": "ok", "servers": [{**kept, "container": "vllm-a", "running": True}, kept]}
    assert table("h", facts)[1:] == [
        "  serves m on port 8000 (server a, container vllm-a, running)",
        "  stopped: m on port 8000 (server a, container vllm-a-superseded)",
    ]


def test_mig_devices_have_a_row_each() -> None:
    devices = [
        {"index": 0, "profile": "3g.40gb", "uuid": "MIG-a", "memory_total_mib": 40960, "memory_free_mib": 20480},
        {"index": 1, "profile": "3g.40gb", "uuid": "MIG-b", "memory_total_mib": None, "memory_free_mib": None},
    ]
    gpu = {"index": 0, "name": "NVIDIA A100", "mig": {"enabled": True, "devices": devices}, "health": "ok"}
    lines = table("h", {"status": "ok", "gpus": [gpu]})
    assert "MIG 3g.40gb 0  [##########..........]  20.0 of 40.0 GiB" in lines[3]
    assert "MIG 3g.40gb 1  [????????????????????]        ? of ? GiB" in lines[4]
    assert lines[3].endswith("MIG-a")


@pytest.mark.parametrize(
    ("used", "total", "drawn"),
    [
        (0, 1000, "...................."),
        (4, 143771, "...................."),
        (20, 1000, "#..................."),
        (500, 1000, "##########.........."),
        (980, 1000, "###################."),
        (1000, 1000, "####################"),
        (2000, 1000, "####################"),
    ],
)
def test_bar(used: int, total: int, drawn: str) -> None:
    gpu = {"index": 0, "memory_used_mib": used, "memory_total_mib": total, "health": "ok"}
    assert f"[{drawn}]" in table("h", {"status": "ok", "gpus": [gpu]})[2]


def test_many_tenants_are_counted() -> None:
    processes = [{"pid": number, "user": f"user{number}", "used_memory_mib": 1024 * number} for number in range(1, 6)]
    gpu = {"index": 0, "health": "lost", "processes": processes}
    assert table("h", {"status": "error", "gpus": [gpu]})[2].endswith("lost    user5 5.0, user4 4.0, user3 3.0, 2 more")


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        pytest.param(
            {"unreachable": True, "msg": "Failed to connect\n to the host via ssh"},
            ["h: unreachable", "  Failed to connect to the host via ssh"],
            id="unreachable",
        ),
        pytest.param({"failed": True, "msg": "No Python"}, ["h: failed", "  No Python"], id="module could not run"),
        pytest.param({}, ["h: failed", "  Nothing was gathered."], id="nothing"),
        pytest.param(
            {"ansible_facts": {"gpufleet": {"status": "no_gpu", "message": "No NVIDIA GPU.", "gpus": []}}},
            ["h: no_gpu", "  No NVIDIA GPU."],
            id="result",
        ),
        pytest.param(
            {"status": "ok", "gpus": [], "driver_version": "580.1", "reboot_required": True},
            ["h: ok, driver 580.1 (reboot required)"],
            id="facts",
        ),
    ],
)
def test_a_host_in_a_few_words(result: dict[str, t.Any], lines: list[str]) -> None:
    assert table("h", facts_of(result)) == lines


def test_links_of_some() -> None:
    facts = {"status": "ok", "gpus": [], "topology": {"0-1": "NV12", "0-2": "SYS", "1-2": "NV4"}}
    assert table("h", facts) == ["h: ok, NVLink NV12/NV4 between some"]
