# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which GPUs a server takes, and what is said when it cannot have them."""

from __future__ import annotations

import itertools
import typing as t
from pathlib import Path

import gpu_hosts
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.selection import Wish, select, wish_of
from hypothesis import given, strategies as st

Facts = dict[str, t.Any]
GIB = 1024


def gpu(index: int, free: float | None = 79, total: float = 80, **more: t.Any) -> Facts:
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "health": "ok",
        "compute_mode": "Default",
        "memory_total_mib": int(total * GIB),
        "memory_free_mib": None if free is None else int(free * GIB),
        "foreign_used_mib": 0,
        "utilization_percent": 0,
        "numa_node": 0,
        "mig": {"enabled": False, "devices": []},
        "processes": [],
        **more,
    }


def process(pid: int, gib: float, **more: t.Any) -> Facts:
    found = {"pid": pid, "user": None, "used_memory_mib": int(gib * GIB), "container": None, "managed": False}
    return {**found, "server": None, **more}


def host(*gpus: Facts, **topology: str) -> Facts:
    links = {pair.replace("_", "-").lstrip("p"): link for pair, link in topology.items()}
    return {"status": "ok", "message": None, "gpus": list(gpus), "topology": links}


def mesh(count: int, link: str) -> dict[str, str]:
    return {f"p{one}_{other}": link for one, other in itertools.combinations(range(count), 2)}


def chosen(facts: Facts, **wish: t.Any) -> list[int]:
    return [int(uuid.rsplit("-", 1)[1]) for uuid in select(facts, Wish(**wish))]


TENANT = {"foreign_used_mib": 3 * GIB}


def test_one_gpu_is_wanted_where_no_count_is_given() -> None:
    assert wish_of({"min_free_mib": 1}).count == 1


CASES = [
    pytest.param(host(gpu(0), gpu(1)), {}, [0], id="the first of equals"),
    pytest.param(host(gpu(0, 40), gpu(1, 79)), {}, [1], id="most free"),
    pytest.param(host(gpu(0, 79, **TENANT), gpu(1, 60)), {}, [1], id="no tenant before most free"),
    pytest.param(host(gpu(0, 79, utilization_percent=90), gpu(1, 60)), {}, [1], id="idle before most free"),
    pytest.param(host(gpu(0, 79, utilization_percent=9), gpu(1, 60)), {}, [0], id="a few per cent are no use"),
    pytest.param(host(gpu(0, 70, foreign_used_mib=100), gpu(1, 60)), {}, [0], id="a monitoring agent is no tenant"),
    pytest.param(host(gpu(0, utilization_percent=None), gpu(1, 60)), {}, [1], id="unknown use counts as busy"),
    pytest.param(host(gpu(0, None), gpu(1, 60)), {"min_free_mib": 1}, [1], id="unknown memory does not fit"),
    pytest.param(host(gpu(0, None)), {}, [0], id="unknown memory, none asked for"),
    pytest.param(host(gpu(0, health="lost"), gpu(1)), {}, [1], id="healthy ones only"),
    pytest.param({**host(gpu(0), gpu(1, health="lost")), "status": "error"}, {}, [0], id="beside a lost card"),
    pytest.param(host(gpu(0, compute_mode="Exclusive_Process"), gpu(1)), {}, [1], id="compute mode Default only"),
    pytest.param(host(gpu(0, mig={"enabled": True, "devices": []}), gpu(1)), {}, [1], id="no card with MIG on"),
    pytest.param(
        host(*map(gpu, range(4)), p0_1="NV12", p0_2="SYS", p0_3="SYS", p1_2="SYS", p1_3="SYS", p2_3="NV12"),
        {"count": 2},
        [0, 1],
        id="an NVLink pair",
    ),
    pytest.param(
        host(
            gpu(0, 79), gpu(1, 30), gpu(2, 79), gpu(3, 79), p0_1="NV12", p0_2="SYS", p0_3="SYS", p1_2="SYS", p2_3="NV12"
        ),
        {"count": 2, "min_free_mib": 40 * GIB},
        [2, 3],
        id="the pair that has room",
    ),
    pytest.param(
        host(gpu(0), gpu(1, **TENANT), gpu(2), gpu(3, **TENANT), p0_1="NV12", p2_3="NV12", p0_2="SYS"),
        {"count": 2},
        [0, 1],
        id="NVLink before tenants",
    ),
    pytest.param(
        host(gpu(0), gpu(1, **TENANT), gpu(2), gpu(3, **TENANT), p0_1="NV12", p2_3="NV12", p0_2="SYS"),
        {"count": 2, "prefer": "free"},
        [0, 2],
        id="or the freest, if preferred",
    ),
    pytest.param(
        host(gpu(0), gpu(1, numa_node=1), gpu(2, numa_node=1, **TENANT), **mesh(3, "SYS")),
        {"count": 2},
        [1, 2],
        id="one NUMA node before tenants where nothing joins them",
    ),
    pytest.param(
        host(gpu(0), gpu(1, numa_node=1), gpu(2, numa_node=1, **TENANT), **mesh(3, "NV18")),
        {"count": 2},
        [0, 1],
        id="tenants before NUMA where NVLink joins all",
    ),
    pytest.param(
        host(gpu(0), gpu(1, numa_node=1), gpu(2, numa_node=1), p0_1="NV12", p0_2="SYS", p1_2="SYS"),
        {"count": 2, "prefer": "numa"},
        [1, 2],
        id="one NUMA node before NVLink, if preferred",
    ),
    pytest.param(
        host(gpu(0), gpu(1), gpu(2), p0_1="SYS", p0_2="PIX", p1_2="NODE"), {"count": 2}, [0, 2], id="nearer on PCIe"
    ),
    pytest.param(host(gpu(0), gpu(1)), {"count": 2}, [0, 1], id="links not known"),
    pytest.param(
        host(*(gpu(index, 79 - index) for index in range(8)), **mesh(8, "NV18")), {"count": 8}, list(range(8)), id="all"
    ),
    pytest.param(
        host(gpu(0, 2, processes=[process(1, 76, managed=True, server="a")]), gpu(1, 79)),
        {"min_free_mib": 60 * GIB, "server": "a"},
        [0],
        id="a server keeps its GPU when it is replaced",
    ),
    pytest.param(
        host(gpu(0, 2, processes=[process(1, 76, managed=True, server="a")]), gpu(1, 79)),
        {"min_free_mib": 60 * GIB, "server": "b"},
        [1],
        id="and its memory is not another one's",
    ),
    pytest.param(
        host(
            gpu(0, 4, processes=[process(1, 76, managed=True, server="a")]),
            gpu(1, 10, processes=[process(2, 76, managed=True, server="a")]),
        ),
        {"server": "a"},
        [0],
        id="no more comes back than there is",
    ),
    pytest.param(
        host(
            gpu(0, 4, memory_total_mib=None, processes=[process(1, 40, managed=True, server="a")]),
            gpu(1, 40, memory_total_mib=None),
        ),
        {"server": "a", "min_free_mib": 42 * GIB},
        [0],
        id="nor less, where nobody knows how much there is",
    ),
]


@pytest.mark.parametrize(("facts", "wish", "expected"), CASES)
def test_selection(facts: Facts, wish: dict[str, t.Any], expected: list[int]) -> None:
    assert chosen(facts, **wish) == expected


def test_the_shared_host_of_a_group_yields_its_free_gpu(tmp_path: Path) -> None:
    facts = gpu_hosts.facts(tmp_path, gpu_hosts.load("a100-shared"))
    assert chosen(facts, count=1, min_free_mib=60 * GIB) == [4]
    assert chosen(facts, count=1) == [4]
    assert chosen(facts, count=2, min_free_mib=60 * GIB) == [4, 7]


def test_mig_devices() -> None:
    def device(index: int, free: float) -> Facts:
        return {
            "index": index,
            "uuid": f"MIG-{index}",
            "memory_free_mib": int(free * GIB),
            "memory_total_mib": 40 * GIB,
        }

    split = gpu(0, None, mig={"enabled": True, "devices": [device(0, 39), device(1, 12), device(2, 19)]})
    facts = host(split, gpu(1))
    assert select(facts, Wish(mig=True, min_free_mib=15 * GIB)) == ["MIG-2"]
    # What the whole card has in use says nothing of a device on it.
    split["memory_used_mib"] = 100
    with pytest.raises(VllmError, match="needs 39.2"):
        select(facts, Wish(mig=True, share=0.98))
    with pytest.raises(VllmError, match="a process uses one MIG device only"):
        select(facts, Wish(count=2, mig=True))
    with pytest.raises(VllmError, match=r"GPU 0: 12.0 of 40.0 GiB free, needs 50.0\..*GPU 1: MIG is off"):
        select(facts, Wish(mig=True, min_free_mib=50 * GIB))
    with pytest.raises(VllmError, match="GPU 0: MIG is on but no device is configured"):
        select(host(gpu(0, mig={"enabled": True, "devices": []})), Wish(mig=True))


HELD = gpu(0, 45, processes=[process(4711, 36, user="1004")], foreign_used_mib=36 * GIB)
OTHERS = [process(9, 2, user="alice"), process(7, 30, container="notebook", user="root"), process(8, 5, server="b")]


@pytest.mark.parametrize(
    ("facts", "wish", "reason"),
    [
        (
            host(HELD),
            {"min_free_mib": 60 * GIB},
            "Cannot select 1 GPU with 60.0 GiB free on this host: 0 of 1 can be taken. "
            "GPU 0: 45.0 of 80.0 GiB free, needs 60.0; PID 4711 (uid 1004) holds 36.0 GiB.",
        ),
        (
            host(gpu(0, 43, processes=OTHERS)),
            {"min_free_mib": 60 * GIB},
            "PID 7 (container notebook) holds 30.0 GiB, PID 8 (server b) holds 5.0 GiB, PID 9 (alice) holds 2.0 GiB.",
        ),
        (
            host(gpu(0, 2, processes=[process(5, 40, server="a"), process(6, 30, user="eve")])),
            {"min_free_mib": 60 * GIB, "server": "a"},
            "GPU 0: 42.0 of 80.0 GiB free, needs 60.0; PID 6 (eve) holds 30.0 GiB.",
        ),
        (host(gpu(0, 1, processes=[process(5, 3)])), {"min_free_mib": GIB * 2}, "needs 2.0; PID 5 holds 3.0 GiB."),
        (
            host(gpu(0, 1, processes=[process(5, 3, used_memory_mib=None)])),
            {"min_free_mib": GIB * 2},
            "needs 2.0; PID 5 holds an unknown amount.",
        ),
        (host(gpu(0, health="reset_required")), {}, "GPU 0 cannot be used: it needs a reset."),
        (host(gpu(0, uuid=None)), {}, "GPU 0: has no UUID."),
        (host(gpu(0, compute_mode="Prohibited")), {}, "GPU 0: compute mode Prohibited, vLLM needs Default."),
        (host(gpu(0, mig={"enabled": True, "devices": []})), {}, "GPU 0: MIG is on, and a whole GPU is wanted."),
        (host(gpu(0, None)), {"min_free_mib": 1024}, "GPU 0: its free memory is not known, needs 1.0."),
        (host(gpu(0)), {"count": 2}, "Cannot select 2 GPUs on this host: 1 of 1 can be taken."),
        (
            {"status": "no_driver", "message": "The PCI bus shows 1 NVIDIA GPU but no driver.", "gpus": []},
            {},
            "Cannot select 1 GPU on this host (status no_driver): The PCI bus shows 1 NVIDIA GPU but no driver.",
        ),
        ({"status": "ok", "message": None, "gpus": []}, {}, "(status ok): The facts list no GPU."),
    ],
)
def test_refusal_says_why_of_each_gpu(facts: Facts, wish: dict[str, t.Any], reason: str) -> None:
    with pytest.raises(VllmError) as refused:
        select(facts, Wish(**wish))
    assert str(refused.value).endswith(reason)


GPUS = st.lists(
    st.builds(
        lambda free, used, foreign, node: {
            "free": free,
            "utilization_percent": used,
            "foreign_used_mib": foreign,
            "numa_node": node,
        },
        st.none() | st.integers(0, 80),
        st.none() | st.integers(0, 100),
        st.none() | st.integers(0, 80000),
        st.none() | st.integers(0, 1),
    ),
    min_size=1,
    max_size=5,
)


@given(GPUS, st.integers(1, 5), st.integers(0, 60000), st.sampled_from(["nvlink", "numa", "free"]), st.randoms())
def test_selection_keeps_its_promises(cards: list[Facts], count: int, need: int, prefer: str, random: t.Any) -> None:
    gpus = [gpu(index, **cells) for index, cells in enumerate(cards)]
    links = {pair: random.choice(["NV12", "PIX", "SYS"]) for pair in mesh(len(gpus), "SYS")}
    facts = host(*gpus, **links)
    enough = [found for found in gpus if need == 0 or (found["memory_free_mib"] or -1) >= need]
    wish = Wish(count, need, prefer)
    if len(enough) < count:
        with pytest.raises(VllmError):
            select(facts, wish)
        return
    uuids = select(facts, wish)
    assert len(set(uuids)) == count
    assert set(uuids) <= {found["uuid"] for found in enough}
    assert uuids == select(facts, wish)
