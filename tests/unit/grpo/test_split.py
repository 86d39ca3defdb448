# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who gets which GPUs: hosts with the links between their cards in, UUIDs out."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.split import Wanted, held, split, wanted_gpus

Facts = dict[str, t.Any]


def gpu(index: int, **said: t.Any) -> Facts:
    return {
        "index": index,
        "uuid": f"GPU-{index}",
        "health": "ok",
        "compute_mode": "Default",
        "compute_capability": "9.0",
        "memory_total_mib": 81559,
        "memory_free_mib": 81000,
        "foreign_used_mib": 0,
        "utilization_percent": 0,
        "numa_node": index // 4,
        "mig": {"enabled": False, "devices": []},
        "processes": [],
        **said,
    }


def host(count: int, links: t.Mapping[str, str] | None = None, **changed: Facts) -> Facts:
    """So many idle GPUs; C(changed) by "gpu1", links beside PCIe by pair."""
    gpus = [gpu(index, **changed.get(f"gpu{index}", {})) for index in range(count)]
    pairs = {f"{low}-{high}": "SYS" for low in range(count) for high in range(low + 1, count)}
    return {"status": "ok", "message": None, "gpus": gpus, "topology": {**pairs, **(links or {})}}


def server(index: int, name: str = "rollout") -> Facts:
    process = {"pid": 1, "server": name, "managed": True, "used_memory_mib": 70000, "container": f"vllm-{name}"}
    return {"memory_free_mib": 11000, "processes": [process]}


TENANT = {
    "memory_free_mib": 40000,
    "foreign_used_mib": 41000,
    "processes": [{"pid": 2, "server": None, "managed": False, "used_memory_mib": 41000, "container": None}],
}
SWITCHED = {f"{low}-{high}": "NV18" for low in range(8) for high in range(low + 1, 8)}
CROSSED = {"0-2": "NV4", "1-3": "NV4"}


@pytest.mark.parametrize(
    ("facts", "wanted", "of_server", "of_trainer"),
    [
        pytest.param(host(2, SWITCHED), Wanted(), "0", "1", id="of two each gets one"),
        pytest.param(host(2), Wanted(), "0", "1", id="without NVLink too"),
        pytest.param(host(3, SWITCHED), Wanted(), "01", "2", id="of three the server gets two"),
        pytest.param(host(3, {"1-2": "NV18"}), Wanted(), "12", "0", id="the pair with NVLink"),
        pytest.param(host(4, CROSSED), Wanted(), "02", "13", id="of two pairs each gets one"),
        pytest.param(host(8, SWITCHED), Wanted(), "01", "234567", id="the trainer gets all the others"),
        pytest.param(host(8, SWITCHED), Wanted(trainer=2), "01", "23", id="or as many as it wants"),
        pytest.param(host(8, SWITCHED), Wanted(trainer=2, kept=("GPU-6", "GPU-7")), "01", "67", id="those it had"),
        pytest.param(host(4, SWITCHED), Wanted(trainer=2, kept=("GPU-0", "GPU-1")), "23", "01", id="and keeps"),
        pytest.param(host(4, SWITCHED), Wanted(trainer=1, kept=("GPU-0", "GPU-1")), "23", "0", id="not more of them"),
        pytest.param(host(2), Wanted(kept=("GPU-0", "GPU-1")), "0", "1", id="but not what the server needs"),
        pytest.param(host(4, SWITCHED), Wanted(server=1), "0", "123", id="a small server"),
        pytest.param(host(4, SWITCHED), Wanted(trainer=3), "0", "123", id="a large trainer"),
        pytest.param(host(2, gpu1=server(1)), Wanted(name="rollout"), "1", "0", id="a server stays where it is"),
        pytest.param(host(2, gpu0=TENANT), Wanted(), "1", "0", id="the server takes the idle one"),
        pytest.param(host(2, gpu0=TENANT), Wanted(min_free_mib=70000), "1", "0", id="which has to be free"),
        pytest.param(host(3, gpu0={"health": "lost"}), Wanted(), "1", "2", id="a lost GPU counts for nobody"),
        pytest.param(host(2), Wanted(server=("GPU-1",)), "1", "0", id="a server's GPU by UUID"),
        pytest.param(host(2), Wanted(trainer=("0",)), "1", "0", id="a trainer's by index"),
        pytest.param(
            host(4), Wanted(server=("1", "0"), trainer=("3",)), "01", "3", id="both, in the order of the host"
        ),
    ],
)
def test_who_gets_what(facts: Facts, wanted: Wanted, of_server: str, of_trainer: str) -> None:
    found = split(facts, wanted)
    assert found.server == tuple(f"GPU-{index}" for index in of_server)
    assert found.trainer == tuple(f"GPU-{index}" for index in of_trainer)


@pytest.mark.parametrize(
    ("facts", "wanted", "sentence"),
    [
        pytest.param(
            host(1),
            Wanted(),
            "A trainer and its server need one GPU each, different ones, and this host has 1. Use a host with two GPUs.",
            id="one GPU",
        ),
        pytest.param(
            {"status": "no_driver", "message": "No NVIDIA driver is installed.", "gpus": []},
            Wanted(),
            "A trainer and its server need one GPU each, different ones, and 0 of 0 GPUs can be used. No NVIDIA driver "
            "is installed. Use a host with two GPUs.",
            id="no driver",
        ),
        pytest.param(
            host(2, gpu1={"mig": {"enabled": True, "devices": []}}),
            Wanted(),
            "A trainer and its server need one GPU each, different ones, and 1 of 2 GPUs can be used. GPU 1: MIG is on, "
            "and a whole GPU is wanted. Use a host with two GPUs.",
            id="MIG",
        ),
        pytest.param(
            host(2),
            Wanted(server=2),
            "The server is to get 2 and the trainer 1 GPUs, and this host has 2. Give the server fewer: leave out "
            "server_gpus and engine.tensor_parallel_size.",
            id="two for the server of two",
        ),
        pytest.param(
            host(2),
            Wanted(trainer=2),
            "The server is to get 1 and the trainer 2 GPUs, and this host has 2. Give the trainer fewer: leave out gpus.",
            id="two for the trainer of two",
        ),
        pytest.param(
            host(2, gpu0=TENANT, gpu1=TENANT),
            Wanted(min_free_mib=70000),
            "Cannot select 1 GPU with 68.4 GiB free on this host: 0 of 2 can be taken. GPU 0: 39.1 of 79.6 GiB free, "
            "needs 68.4; PID 2 holds 40.0 GiB. GPU 1: 39.1 of 79.6 GiB free, needs 68.4; PID 2 holds 40.0 GiB.",
            id="tenants everywhere",
        ),
        pytest.param(
            host(2),
            Wanted(server=("0",), trainer=("GPU-0",)),
            "gpus and server_gpus both name GPU-0: trainer and server need different GPUs.",
            id="the same one",
        ),
        pytest.param(
            host(2),
            Wanted(trainer=("GPU-7",)),
            "gpus names GPU GPU-7, which this host does not have. It has 0 (GPU-0), 1 (GPU-1).",
            id="one that is not there",
        ),
        pytest.param(
            host(3, gpu2={"health": "lost"}),
            Wanted(trainer=("2",)),
            "gpus names a GPU that cannot be used. GPU 2 cannot be used: it has fallen off the bus.",
            id="one that is lost",
        ),
        pytest.param(host(2), Wanted(server=("1", "1")), "server_gpus names a GPU twice: 1, 1.", id="one twice"),
    ],
)
def test_a_sentence_when_they_do_not_suffice(facts: Facts, wanted: Wanted, sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        split(facts, wanted)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("value", "found"),
    [(None, None), ("rest", None), (2, 2), ("2", 2), (["GPU-1"], ("GPU-1",)), ([0, 1], ("0", "1"))],
)
def test_gpus_as_a_user_writes_them(value: t.Any, found: t.Any) -> None:
    assert wanted_gpus("gpus", value) == found


@pytest.mark.parametrize("value", [[], 0, "all", True])
def test_what_is_neither_a_number_nor_a_list(value: t.Any) -> None:
    with pytest.raises(VllmError, match="^gpus must "):
        wanted_gpus("gpus", value)


def of_memory(used: int | None, **said: t.Any) -> Facts:
    return {"memory_used_mib": used, "process_memory_mib": 0, **said}


@pytest.mark.parametrize(
    ("facts", "sentences"),
    [
        pytest.param(host(2, gpu0=of_memory(4), gpu1=of_memory(4)), [], id="all is back"),
        pytest.param(
            host(2, gpu0={**of_memory(70004, process_memory_mib=70000), **server(0)}),
            ["GPU 0: PID 1 (server rollout) holds 68.4 GiB"],
            id="the process is still there",
        ),
        pytest.param(
            host(2, gpu1=of_memory(70004)),
            ["GPU 1: 68.4 GiB belong to no process that is listed"],
            id="only its memory",
        ),
        pytest.param(host(1, gpu0={**of_memory(41004, process_memory_mib=41000), **TENANT}), [], id="a neighbour's"),
        pytest.param(host(1, gpu0=of_memory(41004, process_memory_mib=None)), [], id="nobody tells"),
        pytest.param(
            host(1, gpu0={**of_memory(70004, process_memory_mib=70000), **server(0, "chat")}), [], id="another's"
        ),
    ],
)
def test_what_a_stopped_server_holds(facts: Facts, sentences: list[str]) -> None:
    assert held(facts, "rollout") == sentences
