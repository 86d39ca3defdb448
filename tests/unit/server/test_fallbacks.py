# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fallbacks: which rung comes next, what it changes, what is remembered of it, and what it may not say."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.fallbacks import (
    CHANGEABLE,
    FIXED,
    Fallbacks,
    FallbacksEnd,
    Steps,
    merge,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ALL_KEYS
from hypothesis import given, strategies as st

SAID = {"name": "a", "model": "m", "engine": {"max_model_len": 32768, "gpu_memory_utilization": 0.9}, "port": None}


def rung(causes: str, because: str | None = None, **change: t.Any) -> dict[str, t.Any]:
    told = {} if because is None else {"because": because}
    return {"causes": causes.split(), "change": change, **told}


SHORTER = rung("kv", "a shorter context", engine={"max_model_len": 8192})
SMALLER = rung("free kv", engine={"gpu_memory_utilization": 0.7})
EAGER = rung("crash", engine={"enforce_eager": True}, env={"A": "1"})
RUNGS = [SHORTER, SMALLER, EAGER]


def fallbacks(*causes: str, rungs: t.Sequence[t.Any] = tuple(RUNGS)) -> Fallbacks:
    """Gone down for these causes."""
    found = Fallbacks.of(SAID, rungs)
    for cause in causes:
        further = found.after(cause)
        assert further is not None
        found = further
    return found


# --- which rung comes next ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "cause", "taken"),
    [
        pytest.param((), "kv", (0,), id="the first that the cause leads to"),
        pytest.param((), "free", (1,), id="rungs for other causes are passed over"),
        pytest.param(("kv",), "kv", (0, 1), id="the next for the same cause"),
        pytest.param(("kv",), "crash", (0, 2), id="the next for another cause"),
        pytest.param(("free",), "kv", None, id="never upwards"),
        pytest.param(("crash",), "crash", None, id="the same rung is not taken twice"),
        pytest.param((), "unknown", None, id="a cause that no rung is for"),
    ],
)
def test_which_rung_comes_next(before: tuple[str, ...], cause: str, taken: tuple[int, ...] | None) -> None:
    further = fallbacks(*before).after(cause)
    assert (further.taken if further else None) == taken
    if further:
        assert further.causes == (*before, cause)


def test_a_rung_that_cannot_be_tried_is_passed_over() -> None:
    further = fallbacks().after("kv", unfit={0})
    assert further is not None and further.taken == (1,)
    assert fallbacks().after("kv", unfit={0, 1}) is None


@given(st.lists(st.sampled_from(("kv", "free", "crash", "other")), max_size=8))
def test_a_ladder_ends(causes: list[str]) -> None:
    found = Fallbacks.of(SAID, RUNGS)
    for cause in causes:
        further = found.after(cause)
        if further:
            assert further.taken[:-1] == found.taken and len(further.taken) == len(further.causes)
            found = further
    assert list(found.taken) == sorted(set(found.taken)) and len(found.taken) <= len(RUNGS)


# --- what a rung changes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("causes", "engine", "env"),
    [
        ((), {"max_model_len": 32768, "gpu_memory_utilization": 0.9}, None),
        (("kv",), {"max_model_len": 8192, "gpu_memory_utilization": 0.9}, None),
        (("free",), {"max_model_len": 32768, "gpu_memory_utilization": 0.7}, None),
        (("kv", "kv"), {"max_model_len": 8192, "gpu_memory_utilization": 0.7}, None),
        (
            ("kv", "kv", "crash"),
            {"max_model_len": 8192, "gpu_memory_utilization": 0.7, "enforce_eager": True},
            {"A": "1"},
        ),
    ],
    ids=["none", "one", "another", "two", "three"],
)
def test_the_changes_of_the_rungs_that_were_taken_add_up(
    causes: tuple[str, ...], engine: dict[str, t.Any], env: dict[str, str] | None
) -> None:
    settings = fallbacks(*causes).settings
    assert (settings["engine"], settings.get("env")) == (engine, env)
    assert {key: settings[key] for key in ("name", "model", "port")} == {"name": "a", "model": "m", "port": None}


def test_what_the_user_said_stays_as_it_is() -> None:
    before = json.dumps([SAID, RUNGS])
    assert fallbacks("kv", "kv", "crash").settings != SAID
    assert json.dumps([SAID, RUNGS]) == before


@pytest.mark.parametrize(
    ("one", "other", "result"),
    [
        ({"a": 1}, {"b": 2}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}}, {"a": {"x": 1, "y": 2}}),
        ({"a": {"x": {"p": 1}}}, {"a": {"x": {"q": 2}}}, {"a": {"x": {"p": 1, "q": 2}}}),
        ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
        ({"a": {"x": 1}}, {"a": None}, {"a": None}),
        ({"a": {"x": 1}}, {"a": "all"}, {"a": "all"}),
        ({"a": None}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({"a": {"x": 1}}, {"a": {}}, {"a": {"x": 1}}),
    ],
    ids=["another", "replace", "merge", "deep", "list", "take away", "no mapping now", "no mapping before", "nothing"],
)
def test_mappings_are_merged_and_everything_else_is_replaced(
    one: dict[str, t.Any], other: dict[str, t.Any], result: dict[str, t.Any]
) -> None:
    assert merge(one, other) == result


# --- what is remembered ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("causes", [(), ("kv",), ("kv", "kv", "crash")], ids=len)
def test_a_ladder_stands_where_its_record_says(causes: tuple[str, ...]) -> None:
    gone = fallbacks(*causes)
    assert bool(gone.record) == bool(causes)
    again = Fallbacks.of(SAID, RUNGS).where(json.loads(json.dumps(gone.record)))
    assert (again.taken, again.causes, again.settings) == (gone.taken, gone.causes, gone.settings)


@pytest.mark.parametrize(
    ("said", "rungs"),
    [
        pytest.param({**SAID, "model": "n"}, RUNGS, id="another model"),
        pytest.param({**SAID, "engine": {}}, RUNGS, id="other settings"),
        pytest.param(SAID, RUNGS[:2], id="fewer rungs"),
        pytest.param(SAID, [SHORTER, {**SMALLER, "because": "said now"}, EAGER], id="another rung"),
        pytest.param(SAID, [SMALLER, SHORTER, EAGER], id="another order"),
    ],
)
def test_a_record_of_another_server_or_ladder_does_not_count(said: dict[str, t.Any], rungs: list[t.Any]) -> None:
    assert Fallbacks.of(said, rungs).where(fallbacks("kv").record).taken == ()


def test_a_parameter_that_a_later_version_adds_does_not_forget_the_record() -> None:
    assert Fallbacks.of({**SAID, "added_later": None}, RUNGS).where(fallbacks("kv").record).taken == (0,)


@pytest.mark.parametrize(
    "change",
    [
        {"taken": None},
        {"taken": "0"},
        {"taken": [7]},
        {"taken": [-1]},
        {"taken": ["0"]},
        {"taken": 0},
        {"taken": [True]},
        {"causes": None, "taken": []},
        {"causes": 5},
        {"taken": 5},
        {"taken": [0, 1], "causes": ["kv"]},
    ],
    ids=str,
)
def test_a_record_that_somebody_else_wrote_does_no_harm(change: dict[str, t.Any]) -> None:
    found = Fallbacks.of(SAID, RUNGS).where({**fallbacks("kv").record, **change})
    assert all(0 <= number < len(RUNGS) for number in found.taken)
    told = found.to_dict()
    assert told is not None and 0 <= told["rung"] <= 3 and len(told["causes"]) <= len(found.taken)


@pytest.mark.parametrize("record", [None, [], "x", 5, {}, {"of": None}])
def test_what_is_no_record_counts_as_none(record: t.Any) -> None:
    assert Fallbacks.of(SAID, RUNGS).where(record).taken == ()


# --- what is told ---------------------------------------------------------------------------------------------------


def test_where_the_server_stands_is_told() -> None:
    assert fallbacks("kv").to_dict() == {
        "rung": 1,
        "rungs": 3,
        "causes": ["kv"],
        "change": {"engine": {"max_model_len": 8192}},
        "because": "a shorter context",
        "exhausted": False,
    }
    assert fallbacks("kv", "crash").to_dict(exhausted=True) == {
        "rung": 3,
        "rungs": 3,
        "causes": ["kv", "crash"],
        "change": {"engine": {"max_model_len": 8192, "enforce_eager": True}, "env": {"A": "1"}},
        "because": None,
        "exhausted": True,
    }


def test_nothing_is_told_without_a_ladder() -> None:
    assert Fallbacks.of(SAID, []).to_dict() is None


# --- the way down within one run ------------------------------------------------------------------------------------


def test_without_a_failure_nothing_is_taken() -> None:
    assert Steps(fallbacks(), None).fallbacks.taken == ()


def test_a_failure_takes_a_rung() -> None:
    assert Steps(fallbacks("kv"), "kv").fallbacks.taken == (0, 1)


def test_the_end_of_the_ladder_is_told_with_where_it_stands() -> None:
    with pytest.raises(FallbacksEnd) as caught:
        Steps(fallbacks("kv"), "unknown")
    assert caught.value.fallbacks.taken == (0,)


@pytest.mark.parametrize(
    ("failure_id", "misfits", "taken"),
    [
        pytest.param(None, ["kv"], (0,), id="the memory would not do"),
        pytest.param(None, ["kv", "kv"], (0, 1), id="and then would not do either"),
        pytest.param("kv", ["kv"], (0, 1), id="after a failure, the memory would not do"),
        pytest.param("kv", [None], (1,), id="after a failure, a rung is refused and left out"),
        pytest.param(None, ["kv", None], (1,), id="a rung for the memory is refused and left out"),
        pytest.param("kv", [None, None], None, id="all rungs are refused"),
        pytest.param(None, [None], None, id="what was asked for is refused"),
        pytest.param(None, ["unknown"], None, id="no rung is for it"),
        pytest.param(None, ["kv", "crash", None], None, id="what leads nowhere else"),
        pytest.param("kv", ["kv", None], None, id="of two rungs the second is refused"),
    ],
)
def test_the_way_down_in_one_run(
    failure_id: str | None, misfits: list[str | None], taken: tuple[int, ...] | None
) -> None:
    steps = Steps(fallbacks(), failure_id)
    *before, last = misfits
    assert all(steps.further(misfit) for misfit in before)
    assert steps.further(last) == (taken is not None)
    if taken is not None:
        assert steps.fallbacks.taken == taken


@given(
    st.none() | st.sampled_from(("kv", "free", "crash")),
    st.lists(st.none() | st.sampled_from(("kv", "free", "crash")), min_size=10, max_size=10),
)
def test_the_way_down_always_ends(failure_id: str | None, misfits: list[str | None]) -> None:
    steps = Steps(fallbacks(), failure_id)
    assert not all(steps.further(misfit) for misfit in misfits)


# --- what it may not say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("x", "fallbacks[1] must be a mapping with the keys because, causes, change; got 'x'."),
        ({**SHORTER, "when": 1}, "Unknown key 'fallbacks[1].when'. Valid keys: because, causes, change."),
        ({"change": {"env": {}}}, "fallbacks[1].causes must be a list of diagnosis ids (docs/diagnosis.md); got None."),
        (
            {"causes": "kv", "change": {"env": {}}},
            "fallbacks[1].causes must be a list of diagnosis ids (docs/diagnosis.md); got 'kv'.",
        ),
        (
            {"causes": [], "change": {"env": {}}},
            "fallbacks[1].causes must be a list of diagnosis ids (docs/diagnosis.md); got [].",
        ),
        ({"causes": ["kv"]}, "fallbacks[1].change must be a mapping of settings; got None."),
        ({"causes": ["kv"], "change": {}}, "fallbacks[1].change must be a mapping of settings; got {}."),
        ({"causes": ["kv"], "change": ["env"]}, "fallbacks[1].change must be a mapping of settings; got ['env']."),
        ({"causes": ["kv"], "change": {"engin": {}}}, "fallbacks[1].change.engin: a fallback cannot change it. It can"),
        ({"causes": ["kv"], "change": {1: {}}}, "fallbacks[1].change.1: a fallback cannot change it. It can"),
    ],
)
def test_a_rung_that_is_none_is_told_with_its_address(bad: t.Any, told: str) -> None:
    with pytest.raises(VllmError) as caught:
        Fallbacks.of(SAID, [SHORTER, bad])
    assert str(caught.value).startswith(told)


@pytest.mark.parametrize("key", FIXED)
def test_a_rung_does_not_change_who_the_server_is_and_where_it_answers(key: str) -> None:
    with pytest.raises(VllmError, match=rf"^fallbacks\[0\].change.{key}: a fallback cannot change it"):
        Fallbacks.of(SAID, [{"causes": ["kv"], "change": {key: "x"}}])


def test_every_other_parameter_of_a_server_can_be_changed() -> None:
    assert {*FIXED} | CHANGEABLE == {*ALL_KEYS}
    assert Fallbacks.of(SAID, [{"causes": ["kv"], "change": dict.fromkeys(CHANGEABLE)}]).rungs


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param({"gpus": {"count": 2}}, {"gpus": ["GPU-1", "GPU-2"]}, True, id="the GPUs that a wish became"),
        pytest.param({"gpus": ["GPU-1"]}, {"gpus": ["GPU-2"]}, True, id="as many others"),
        pytest.param({"gpus": {"count": 2}}, {"gpus": ["GPU-1"]}, False, id="another number of GPUs"),
        pytest.param({"gpus": "all"}, {"gpus": "none"}, False, id="all and none"),
        pytest.param({}, {"vllm_version": "0.26.0"}, True, id="the version that was found out"),
        pytest.param({}, {"port": 8001}, False, id="another key"),
    ],
)
def test_the_steps_of_a_run_speak_of_the_same_server(
    one: dict[str, t.Any], other: dict[str, t.Any], same: bool
) -> None:
    rungs = [{"causes": ["crash"], "change": {"engine": {"enforce_eager": True}}}]
    digests = {Fallbacks.of({"name": "a", **settings}, rungs).digest for settings in (one, other)}
    assert (len(digests) == 1) == same
