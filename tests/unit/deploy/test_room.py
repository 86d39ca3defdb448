# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who makes room on the GPUs, whether a server fits then, and how long its memory is waited for."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import room as deploy_room
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.room import (
    Question,
    Taker,
    givers,
    overlap,
    promised,
    returning,
    wait,
    without,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.selection import Wish, select
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import from_params
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import Architecture
from hypothesis import given, strategies as st

TOTAL = 80000


def holds(container: str | None, size: int | None, **known: t.Any) -> dict[str, t.Any]:
    return {"pid": 1, "user": None, "used_memory_mib": size, "container": container, **known}


def gpu(*processes: dict[str, t.Any], number: int = 0) -> dict[str, t.Any]:
    """A GPU of which only these processes hold something."""
    used = sum(one["used_memory_mib"] or 0 for one in processes)
    known = {"index": number, "uuid": f"GPU-{number}", "memory_kind": "dedicated", "memory_total_mib": TOTAL}
    return {**known, "memory_used_mib": used, "memory_free_mib": TOTAL - used, "processes": list(processes)}


def host(*gpus: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"status": "ok", "message": None, "gpus": list(gpus)}


def asking(share: float, gpus: t.Any = "all", **other: t.Any) -> Question:
    """A server that asks for that share of a GPU."""
    said = {"model": "m", "vllm_version": "0.26.0", "gpus": gpus, "engine": {"gpu_memory_utilization": share}}
    return Question(from_params(said), **other)


# --- what comes back ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stopped", "back"),
    [
        pytest.param([], {}, id="nothing stops"),
        pytest.param(["vllm-b"], {"GPU-0": 300.0, "GPU-1": 50.0}, id="on both GPUs, all processes of it"),
        pytest.param(["vllm-c"], {"GPU-0": 7.0}, id="on one"),
        pytest.param(["vllm-b", "vllm-c"], {"GPU-0": 307.0, "GPU-1": 50.0}, id="two servers"),
        pytest.param(["vllm-x"], {}, id="who holds nothing"),
        pytest.param(["vllm-unknown"], {}, id="nobody knows how much"),
        pytest.param([""], {}, id="no name"),
    ],
)
def test_what_comes_back_when_servers_stop(stopped: list[str], back: dict[str, float]) -> None:
    facts = host(
        gpu(
            holds("vllm-b", 100), holds("vllm-b", 200), holds("vllm-c", 7), holds(None, 5), holds("vllm-unknown", None)
        ),
        gpu(holds("vllm-b", 50), number=1),
    )
    assert returning(facts, stopped) == back


@pytest.mark.parametrize("facts", [{}, {"gpus": None}, {"gpus": []}, host({"uuid": "GPU-0", "processes": None})])
def test_nothing_comes_back_where_nothing_is_known(facts: dict[str, t.Any]) -> None:
    assert returning(facts, ["vllm-b"]) == {}


def test_a_name_that_only_begins_like_it_is_another_server() -> None:
    assert returning(host(gpu(holds("vllm-b2", 100))), ["vllm-b"]) == {}


@pytest.mark.parametrize(
    ("stopped", "back"),
    [(["vllm-b"], {"GPU-0": 100.0}), (["vllm-c"], {"GPU-0": 50.0}), (["vllm-x"], {}), (["None"], {})],
    ids=["a unit", "a container that is called otherwise", "none of them", "somebody's"],
)
def test_the_memory_of_a_unit_comes_back_by_the_name_of_its_server(stopped: list[str], back: dict[str, float]) -> None:
    held = (holds(None, 100, server="b"), holds("vllm-c", 50, server="x"), holds(None, 7, server=None))
    assert returning(host(gpu(*held)), stopped) == back


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("all", "all", True),
        ("all", ("GPU-1",), True),
        (("GPU-0",), ("GPU-1",), False),
        (("GPU-0", "GPU-1"), ("GPU-1",), True),
        (("1",), ("GPU-1",), True),
        (("0",), ("GPU-1",), False),
        (("0", "1"), ("1",), True),
        (("GPU-9",), ("GPU-9",), True),
        (("MIG-0",), ("2:0",), True),
        (("MIG-0",), ("MIG-1",), False),
        (("MIG-0",), ("2",), True),
        ("none", "all", False),
        ("none", "none", False),
    ],
)
def test_whether_two_servers_may_use_the_same_gpu(one: t.Any, other: t.Any, same: bool) -> None:
    split = {"enabled": True, "devices": [{"uuid": "MIG-0"}, {"uuid": "MIG-1"}]}
    facts = host(gpu(), gpu(number=1), {**gpu(number=2), "mig": split})
    for first, second in ((one, other), (other, one)):
        assert overlap(asking(0.9, first).spec, asking(0.9, second).spec, facts) == same
        if "GPU-1" in first and "GPU-1" in second:
            assert overlap(asking(0.9, first).spec, asking(0.9, second).spec, {})


# --- what is still to be taken --------------------------------------------------------------------------------------


def taker(share: float = 0.5, gpus: t.Any = ("GPU-0",), instance: str = "vllm-b", **said: t.Any) -> Taker:
    spec = asking(share, gpus).spec
    known = said.pop("architecture", None)
    engine = {**spec.engine, **said.pop("engine", {})}
    return Taker(instance, replace(spec, name=instance[len("vllm-") :], engine=engine, **said), known)


def free(facts: t.Mapping[str, t.Any]) -> list[int]:
    return [one["memory_free_mib"] for one in facts["gpus"]]


WEIGHTS = Architecture.from_mapping({"weights_gib": 10})


@pytest.mark.parametrize(
    ("takers", "processes", "left"),
    [
        pytest.param([], [], [80000, 80000], id="nobody"),
        pytest.param([taker()], [], [40000, 80000], id="one that has nothing yet"),
        pytest.param([taker(gpus=("0",))], [], [40000, 80000], id="by its index"),
        pytest.param([taker(gpus="all")], [], [40000, 80000], id="on all GPUs, of which it uses one"),
        pytest.param(
            [taker(gpus="all", engine={"tensor_parallel_size": "2"})], [], [40000, 40000], id="on both, for both"
        ),
        pytest.param([taker()], [holds("vllm-b", 30000)], [40000, 80000], id="one that has a part"),
        pytest.param([taker()], [holds(None, 30000, server="b")], [40000, 80000], id="a unit that has a part"),
        pytest.param([taker()], [holds("vllm-b", 41000)], [39000, 80000], id="one that has it all, and more"),
        pytest.param([taker()], [holds("vllm-c", 30000)], [10000, 80000], id="beside somebody else"),
        pytest.param([taker(0.9)], [holds("vllm-c", 30000)], [-22000, 80000], id="more than there is"),
        pytest.param([taker(), taker(0.25, instance="vllm-c")], [], [20000, 80000], id="two servers"),
        pytest.param([taker(), taker(0.25)], [], [40000, 80000], id="two instances of one, of which one goes"),
        pytest.param([taker(gpus=("GPU-7",))], [], [80000, 80000], id="a GPU that is not there"),
        pytest.param([taker(gpus="none")], [], [80000, 80000], id="without a GPU"),
    ],
)
def test_what_a_server_is_going_to_take_is_not_free(
    takers: list[Taker], processes: list[dict[str, t.Any]], left: list[int]
) -> None:
    facts = host(gpu(*processes), gpu(number=1))
    found = promised(facts, takers)
    assert free(found) == left
    for one, before in zip(found["gpus"], facts["gpus"]):
        assert one["memory_used_mib"] - before["memory_used_mib"] >= before["memory_free_mib"] - one["memory_free_mib"]
    assert promised(found, takers) == found


@pytest.mark.parametrize(
    "there",
    [gpu(holds("vllm-b", None)), {**gpu(holds(None, 30000)), "process_memory_mib": None}],
    ids=["of its process", "of any process"],
)
def test_where_the_driver_does_not_tell_what_is_held_nothing_is_counted_twice(there: dict[str, t.Any]) -> None:
    assert promised(host(there), [taker()]) == host(there)


def test_a_pinned_cache_is_taken_with_the_weights_and_not_the_utilization() -> None:
    pinned = taker(0.9, engine={"kv_cache_memory_bytes": str(20 << 30)}, architecture=WEIGHTS)
    (left,) = free(promised(host(gpu()), [pinned]))
    assert TOTAL - 32 * 1024 < left < TOTAL - 29 * 1024


def test_an_encoder_takes_its_weights_alone() -> None:
    (left,) = free(promised(host(gpu()), [taker(architecture=replace(WEIGHTS, is_encoder=True))]))
    assert TOTAL - 20 * 1024 < left < TOTAL - 9 * 1024


def test_one_that_chooses_at_each_start_is_where_its_processes_are() -> None:
    moved = taker(gpus_at_start={"at_start": "reselect"})
    there = holds("vllm-b", 30000)
    assert free(promised(host(gpu(), gpu(there, number=1)), [moved])) == [80000, 40000]
    assert free(promised(host(gpu(), gpu(number=1)), [moved])) == [40000, 80000]


def test_on_a_mig_device_what_is_held_there_counts_whoever_holds_it() -> None:
    device = {"uuid": "MIG-0", "memory_total_mib": 20000, "memory_free_mib": 17000}
    split = {**gpu(), "mig": {"enabled": True, "devices": [device, {**device, "uuid": "MIG-1"}]}}
    (found,) = promised(host(split), [taker(gpus=("MIG-0",))])["gpus"]
    assert [one["memory_free_mib"] for one in found["mig"]["devices"]] == [10000, 17000]
    assert found["memory_free_mib"] == TOTAL


def test_a_promise_is_told_and_comes_back_with_its_server() -> None:
    facts = promised(host(gpu()), [taker(0.6)])
    refused = asking(0.7).fit(facts, [])
    assert refused.verdict == "refuse"
    assert "server b, which is starting, takes 46.9 GiB" in " ".join(refused.refusals)
    assert asking(0.7).fit(facts, ["vllm-b"]).verdict == "ok"
    assert givers(asking(0.7), facts, [], ["vllm-b"]) == ["vllm-b"]


def test_of_more_than_there_is_no_more_comes_back_than_there_is() -> None:
    facts = promised(host(gpu(holds(None, 70000))), [taker(0.9)])
    assert asking(0.7).fit(facts, ["vllm-b"]).free_mib == 10000
    assert asking(0.7).fit(facts, []).free_mib == 0
    assert select({**facts, "gpus": [{**facts["gpus"][0], "health": "ok"}]}, Wish()) == ["GPU-0"]


@pytest.mark.parametrize(
    ("stopped", "left", "who"),
    [([], 40000, ["vllm-b", None]), (["vllm-b"], 70000, [None]), (["vllm-c"], 40000, ["vllm-b", None])],
    ids=["nobody goes", "one goes", "one that is not there"],
)
def test_the_facts_without_servers_that_stop(stopped: list[str], left: int, who: list[str | None]) -> None:
    (found,) = without(host(gpu(holds("vllm-b", 30000), holds(None, 10000))), stopped)["gpus"]
    assert (found["memory_free_mib"], found["memory_used_mib"]) == (left, TOTAL - left)
    assert [one["container"] for one in found["processes"]] == who


# --- who makes room -------------------------------------------------------------------------------------------------

B, C, D = holds("vllm-b", 30000), holds("vllm-c", 20000), holds("vllm-d", 10000)
ANN = holds(None, 50000)


@pytest.mark.parametrize(
    ("processes", "share", "stopped", "candidates", "names"),
    [
        pytest.param([], 0.9, [], [], [], id="nobody is there"),
        pytest.param([B], 0.5, [], ["vllm-b"], [], id="there is room"),
        pytest.param([B], 0.8, [], ["vllm-b"], ["vllm-b"], id="one has to"),
        pytest.param([B], 0.8, ["vllm-b"], [], [], id="what stops anyway is enough"),
        pytest.param([D, B], 0.7, [], ["vllm-d", "vllm-b"], ["vllm-b"], id="the one that is enough"),
        pytest.param([B, C], 0.6, [], ["vllm-b", "vllm-c"], ["vllm-b"], id="one of two that are enough each"),
        pytest.param(
            [B, holds("vllm-c", 40000)], 0.5, [], ["vllm-b", "vllm-c"], ["vllm-c"], id="rather one that leaves no doubt"
        ),
        pytest.param([B, C], 0.9, [], ["vllm-b", "vllm-c"], ["vllm-b", "vllm-c"], id="both"),
        pytest.param([B, C], 0.9, ["vllm-b"], ["vllm-c"], ["vllm-c"], id="one more than stops anyway"),
        pytest.param([B, ANN], 0.9, [], ["vllm-b"], [], id="nobody, when that is no use"),
        pytest.param([B, ANN], 0.3, [], ["vllm-b"], ["vllm-b"], id="somebody, when that is enough"),
        pytest.param([B], 0.8, [], [], [], id="nobody may"),
    ],
)
def test_who_has_to_make_room(
    processes: list[dict[str, t.Any]], share: float, stopped: list[str], candidates: list[str], names: list[str]
) -> None:
    assert givers(asking(share), host(gpu(*processes)), stopped, candidates) == names


@given(
    st.dictionaries(st.sampled_from(("b", "c", "d", "e")), st.integers(1000, 40000), max_size=4),
    st.sampled_from((0.2, 0.4, 0.6, 0.9)),
    st.integers(0, 40000),
)
def test_whoever_makes_room_makes_enough_of_it_and_nobody_does_in_vain(
    held: dict[str, int], share: float, foreign: int
) -> None:
    used = sum(held.values()) + foreign
    if used > TOTAL:
        held = {}
    facts, question = host(gpu(holds(None, foreign), *(holds(*one) for one in held.items()))), asking(share)
    names = givers(question, facts, [], sorted(held))
    before, after = question.fit(facts, []).verdict, question.fit(facts, names).verdict
    if names:
        assert before == "refuse" != after
        assert len(names) in (1, len(held))
    else:
        assert before != "refuse" or question.fit(facts, [*held]).verdict == "refuse"


# --- whether it fits then -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "processes", "stopped", "verdict"),
    [
        pytest.param(asking(0.5), [], [], "ok", id="all is free"),
        pytest.param(asking(0.7), [B], [], "refuse", id="too little is free"),
        pytest.param(asking(0.7), [B], ["vllm-b"], "ok", id="what comes back counts"),
        pytest.param(asking(0.7), [B, ANN], ["vllm-b"], "refuse", id="what somebody else holds does not come back"),
        pytest.param(asking(0.9, "none"), [B, ANN], [], "ok", id="no GPU"),
        pytest.param(asking(0.7, ("GPU-9",)), [], [], "refuse", id="a GPU that is not there"),
    ],
)
def test_whether_it_fits(
    question: Question, processes: list[dict[str, t.Any]], stopped: list[str], verdict: str
) -> None:
    assert question.fit(host(gpu(*processes)), stopped).verdict == verdict


LLAMA = {"layers_full": 32, "layers_sliding": 0, "sliding_window": 0, "num_key_value_heads": 8, "head_dim": 128}


def test_the_architecture_and_what_was_measured_make_the_verdict_exact() -> None:
    facts = host(gpu())
    assert asking(0.9).fit(facts, []).kv_tokens_min is None
    guessed = asking(0.9, architecture={**LLAMA, "weights_gib": 15.0}).fit(facts, [])
    assert guessed.kv_tokens_min and guessed.kv_tokens_max and guessed.kv_tokens_min < guessed.kv_tokens_max
    # What was remembered holds more than what the verdict asks for.
    known = {"kv_gib": 40.0, "init_seconds": 30.0, "kv_cache_memory_bytes": 1, "concurrency": 2.0}
    exact = asking(0.9, architecture={**LLAMA, "weights_gib": 15.0}, measured=known).fit(facts, [])
    assert exact.kv_tokens_min == exact.kv_tokens_max


def test_the_reserve_of_the_host_counts_on_unified_memory() -> None:
    facts = host({**gpu(), "memory_kind": "unified", "memory_used_mib": None})
    assert asking(0.8, host_reserve_mib=8192).fit(facts, []).verdict == "ok"
    assert asking(0.8, host_reserve_mib=20000).fit(facts, []).verdict == "refuse"


# --- waiting --------------------------------------------------------------------------------------------------------


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(deploy_room, "time", made)
    return made


class Looks:
    """What is seen at each look; the last one goes on for ever."""

    def __init__(self, *free: t.Mapping[str, t.Any]) -> None:
        self.free, self.count = free, 0

    def __call__(self) -> t.Mapping[str, t.Any]:
        self.count += 1
        return self.free[min(self.count, len(self.free)) - 1]


FULL, EMPTY = host(gpu(holds(None, 60000))), host(gpu())


@pytest.mark.parametrize("late", [0, 1, 5])
def test_memory_is_waited_for_as_long_as_it_takes_and_no_longer(late: int, clock: Clock) -> None:
    seen = Looks(*[FULL] * late, EMPTY)
    wait(asking(0.7), seen, ["vllm-b"], 120)
    assert clock.now == 100 + late * deploy_room.INTERVAL
    assert seen.count == late + 1


def test_what_the_stopped_servers_held_does_not_count_as_free_any_more(clock: Clock) -> None:
    """The process may be there a while longer than its container."""
    seen = Looks(host(gpu(B)), EMPTY)
    wait(asking(0.7), seen, ["vllm-b"], 120)
    assert seen.count == 2


@pytest.mark.parametrize("timeout", [0, 3])
def test_memory_that_is_not_back_in_time_is_told_with_who_holds_it(timeout: int, clock: Clock) -> None:
    seen = Looks(host(gpu(holds(None, 60000, pid=7, user="ann"))))
    with pytest.raises(VllmError) as caught:
        wait(asking(0.7), seen, ["vllm-b", "vllm-c"], timeout)
    text = str(caught.value)
    assert text.startswith(
        f"GPU memory used by vllm-b, vllm-c was not released within {timeout} s of stopping it. GPU 0 has"
    )
    assert "PID 7 (ann) holds 58.6 GiB" in text
    assert clock.now == 100 + timeout


def test_a_driver_that_does_not_answer_for_a_moment_is_asked_again(clock: Clock) -> None:
    seen = Looks({"status": "timeout", "message": "nvidia-smi hangs.", "gpus": []}, EMPTY)
    wait(asking(0.7), seen, ["vllm-b"], 120)
    assert clock.now == 100 + deploy_room.INTERVAL
