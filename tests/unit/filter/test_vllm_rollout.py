# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is changed in which wave, what a verdict on a wave is, and what the settings may be: a row for each case."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_rollout import vllm_rollout
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_rollout_caches import vllm_rollout_caches
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_rollout_learned import vllm_rollout_learned
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_rollout_verdict import vllm_rollout_verdict
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout import (
    Changed,
    Host,
    Settings,
    changes,
    plan,
    share,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout_hosts import task_failure
from hypothesis import given, strategies as st

Row = dict[str, t.Any]

STEPS = ["stop vllm-x", "start vllm-x"]
LOOKS: dict[str, Row] = {
    "todo": {"pending": True, "actions": STEPS},
    "right": {"pending": False, "actions": []},
    "unfinished": {"pending": True, "actions": [], "server": {"superseded": True}},
    "refused": {"failed": True, "reason": "port-in-use", "message": "Port 8000\nis taken.", "pending": False},
    "locked": {"pending": True, "actions": STEPS, "busy": "Another run is changing vllm-x."},
    "down": {"unreachable": True, "msg": "No route to host."},
}


def variables(look: str, group: str = "gb10", **differs: t.Any) -> Row:
    return {"__rollout_planned": LOOKS[look], "group_names": [group, "lab"], **differs}


def fleet(**looks: str) -> Row:
    """Hosts by what was seen of them; those whose names begin with h are H100."""
    return {name: variables(look, "h100" if name[0] == "h" else "gb10") for name, look in looks.items()}


def many(count: int, look: str = "todo") -> Row:
    return fleet(**{f"g{number}": look for number in range(count)})


@pytest.mark.parametrize(
    ("hosts", "settings", "waves"),
    [
        pytest.param(fleet(a="todo", h="todo", b="todo"), {}, [["a", "h"], ["b"]], id="the first of each class"),
        pytest.param(
            fleet(a="right", b="todo", h="todo"), {}, [["h"], ["b"]], id="a class that is proven has no canary"
        ),
        pytest.param(fleet(a="right", b="right"), {}, [], id="nothing to do"),
        pytest.param(
            fleet(a="todo", b="todo", c="unfinished"), {}, [["c"], ["a"], ["b"]], id="what was begun is finished first"
        ),
        pytest.param(
            fleet(a="todo", b="todo", c="todo"),
            {"canaries": ["b"], "waves": 2},
            [["b"], ["a", "c"]],
            id="a host by name",
        ),
        pytest.param(
            fleet(a="todo", h="todo", b="todo"), {"canaries": "h100"}, [["h"], ["a"], ["b"]], id="the hosts of a group"
        ),
        pytest.param(fleet(a="right", b="todo"), {"canaries": ["a"]}, [["b"]], id="a canary that is right already"),
        pytest.param(
            fleet(a="todo", b="todo"), {"canaries": [], "waves": ["100%"]}, [["a", "b"]], id="no canary, one wave"
        ),
    ],
)
def test_hosts_are_changed_in_waves(hosts: Row, settings: Row, waves: list[list[str]]) -> None:
    found = vllm_rollout(list(hosts), hosts, settings)
    assert [wave["hosts"] for wave in found["waves"]] == waves
    assert found["serial"] == ([len(wave) for wave in waves] or [1])
    assert found["pattern"] == ([name for wave in waves for name in wave] or ["!all"])


@pytest.mark.parametrize(
    ("count", "settings", "sizes"),
    [
        pytest.param(21, {}, [1, 2, 6, 12], id="growing by default"),
        pytest.param(3, {}, [1, 1, 1], id="of few hosts no wave is empty"),
        pytest.param(12, {"waves": [1, "25%"]}, [1, 1, 3, 3, 3, 1], id="the last size is repeated"),
        pytest.param(300, {"waves": "50%"}, [1, 150, 149], id="one size"),
    ],
)
def test_waves_have_the_sizes_that_were_asked_for(count: int, settings: Row, sizes: list[int]) -> None:
    hosts = many(count)
    assert vllm_rollout(list(hosts), hosts, settings)["serial"] == sizes


@given(
    looks=st.lists(st.sampled_from(sorted(LOOKS)), max_size=40),
    waves=st.lists(st.one_of(st.integers(1, 9), st.sampled_from(["5%", "30%", "100%"])), min_size=1, max_size=4),
    canaries=st.one_of(st.none(), st.just(())),
)
def test_every_host_that_can_be_changed_is_in_one_wave(
    looks: list[str], waves: list[t.Any], canaries: tuple[str, ...] | None
) -> None:
    hosts = [Host(f"g{number}", "gb10", (), LOOKS[look]) for number, look in enumerate(looks)]
    found = plan(hosts, Settings(canaries=canaries, waves=tuple(waves), max_failures="100%"))
    changed = [name for wave in found["waves"] for name in wave["hosts"]]
    todo = [one.name for one, look in zip(hosts, looks) if look in ("todo", "unfinished")]
    assert sorted(changed) == sorted(todo)
    assert all(wave["hosts"] for wave in found["waves"])
    assert len(changed) + len(found["unchanged"]) + len(found["refused"]) == len(hosts)


@pytest.mark.parametrize(
    ("hosts", "settings", "ok", "message"),
    [
        pytest.param(
            fleet(a="todo", b="refused", c="down"),
            {},
            False,
            "2 of 3 hosts cannot be changed: b, c. No host may fail (vllm_rollout.max_failures). Nothing was changed on any "
            "host.",
            id="a refusal",
        ),
        pytest.param(
            fleet(a="todo", b="locked"),
            {},
            False,
            "1 of 2 hosts cannot be changed: b. No host may fail (vllm_rollout.max_failures). Nothing was changed on any host.",
            id="a second operator",
        ),
        pytest.param(
            fleet(a="todo", b="refused", c="right", d="todo"),
            {"max_failures": "25%"},
            True,
            "2 of 4 hosts are to be changed without b, which cannot be changed: wave 1 of 2 (1), wave 2 of 2 (1).",
            id="within the budget",
        ),
        pytest.param(fleet(a="right"), {}, True, "Nothing is to be changed.", id="nothing to do"),
    ],
)
def test_refusals_stop_a_rollout_before_it_begins(hosts: Row, settings: Row, ok: bool, message: str) -> None:
    found = vllm_rollout(list(hosts), hosts, settings)
    assert (found["ok"], found["message"]) == (ok, message)
    assert (found["pattern"] == ["!all"]) is (not ok or not found["waves"])


def test_the_table_shows_refusals_first_and_counts_what_is_right() -> None:
    hosts = fleet(aa="todo", b="right", h="refused")
    assert vllm_rollout(list(hosts), hosts, {})["table"] == [
        "h   h100  port-in-use  Port 8000 is taken.",
        "aa  gb10  wave 1 of 1  in place of vllm-x",
        "1 host: nothing to change",
    ]


def test_the_table_tells_the_same_refusal_of_several_hosts_once() -> None:
    hosts = fleet(a="refused", b="down", c="refused")
    assert vllm_rollout(list(hosts), hosts, {})["table"] == [
        "a  gb10  port-in-use  Port 8000 is taken.",
        "b  gb10  unreachable  No route to host.",
        "c  gb10  port-in-use  the same as a",
    ]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param(
            {"state": "started", "image": "i:1", "engine": {"dtype": "half", "seed": 1}},
            {"state": "started", "image": "i:2", "engine": {"seed": 1, "max_num_seqs": 8}, "superseded": True},
            ["image: i:1 -> i:2", "engine.dtype: half -> nothing", "engine.max_num_seqs: nothing -> 8"],
            id="settings by their addresses",
        ),
        pytest.param({"state": "absent"}, {"image": "i:2"}, ["in place of vllm-x"], id="another server"),
        pytest.param({"state": "present"}, {"state": "started"}, ["stop vllm-x"], id="no setting differs"),
    ],
)
def test_what_changes_is_told_setting_by_setting(before: Row, after: Row, lines: list[str]) -> None:
    assert changes({"actions": STEPS, "diff": {"before": before, "after": after}}) == lines


@pytest.mark.parametrize(
    ("found", "line"),
    [
        pytest.param(
            {"server": {"superseded": True}}, "a change that was not committed", id="a run that was cut short"
        ),
        pytest.param({"health": {}}, "nothing; its server is to be verified", id="too young to be asked"),
        pytest.param(
            {"health": {"healthy": False, "msg": "It hangs. Restart it.\n  GET /health 500"}},
            "nothing; its server is to be verified: It hangs. Restart it.",
            id="it gave no good answer",
        ),
    ],
)
def test_what_is_only_verified_says_why(found: Row, line: str) -> None:
    assert changes({"pending": True, **found}) == [line]


def test_a_host_that_is_lost_is_told_without_the_words_that_begin_every_failure() -> None:
    assert Host("a", found={"unreachable": True, "msg": "Task failed: No route."}).refusal == (
        "unreachable",
        "No route.",
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        pytest.param("soak=3", "vllm_rollout must be a mapping, such as {'soak': 300}; got 'soak=3'.", id="text"),
        pytest.param(
            {"drain_command": "drain a"}, "vllm_rollout.drain_command must be a list, of a command", id="a line"
        ),
        pytest.param({"undrain_tasks": ["a.yml"]}, "vllm_rollout.undrain_tasks must be the path of a file", id="files"),
        pytest.param({"drain_tasks": "no.yml"}, "vllm_rollout.drain_tasks: ", id="a file that is not there"),
        pytest.param({"canary": 1}, "Unknown key 'vllm_rollout.canary'. Did you mean canaries?", id="misspelt"),
        pytest.param({"canaries": "nobody"}, "vllm_rollout.canaries: 'nobody' is neither a host", id="nobody's name"),
        pytest.param(
            {"canaries": 3}, "vllm_rollout.canaries must be a list of hosts and groups; got 3.", id="a number"
        ),
        pytest.param({"waves": []}, "vllm_rollout.waves must have at least one size", id="no wave"),
        pytest.param(
            {"waves": ["0%"]}, "vllm_rollout.waves must be sizes of 1 host or more; got '0%'.", id="empty wave"
        ),
        pytest.param({"waves": ["101%"]}, "vllm_rollout.waves must be a count such as 3", id="more than all"),
        pytest.param({"max_failures": "few"}, "vllm_rollout.max_failures must be a count such as 3", id="no number"),
        pytest.param({"soak": -1}, "vllm_rollout.soak must be a number that is not negative; got -1.", id="negative"),
        pytest.param({"soak_checks": 0}, "vllm_rollout.soak_checks must be a whole number of 1 or more", id="no check"),
        pytest.param({"confirm": "maybe"}, "vllm_rollout.confirm must be true or false; got 'maybe'.", id="no switch"),
        pytest.param(
            {"put_back": "all"}, "vllm_rollout.put_back must be one of wave, fleet, none; got 'all'.", id="scope"
        ),
    ],
)
def test_a_setting_that_is_not_valid_is_refused_by_its_address(settings: t.Any, message: str) -> None:
    hosts = fleet(a="todo")
    found = vllm_rollout(list(hosts), hosts, settings)
    assert (found["ok"], found["pattern"]) == (False, ["!all"])
    assert found["problem"].startswith(message)


@pytest.mark.parametrize(("value", "count"), [(3, 3), ("3", 3), ("25%", 2), ("100 %", 10), (0, 0)])
def test_a_share_is_a_count_or_rounded_down(value: t.Any, count: int) -> None:
    assert share("x", value, 10) == count


# --- verdicts ---------------------------------------------------------------------------------------------------------

SERVER: Row = {"state": "running", "superseded": True, "started_at": "t1", "container_id": "c"}
DONE: Row = {"changed": True, "failed": False, "actions": STEPS, "server": SERVER, "pending": False}
GOOD: Row = {"healthy": True, "tokens_per_second": 80.0}
NOW: Row = {"server": {"started_at": "t1"}, "reason": ""}
HEALTHY: Row = {"__rollout_done": DONE, "__rollout_soak": GOOD, "__rollout_now": NOW}
SICK: Row = {"__rollout_done": {**DONE, "failed": True, "message": "No.", "server": {**SERVER, "superseded": False}}}


def judged(hosts: Row, **settings: t.Any) -> Row:
    """The verdict on a first wave of these hosts, of which none is a canary."""
    planned = {name: variables("todo") for name in hosts}
    rollout = vllm_rollout(list(hosts), planned, {"canaries": [], "waves": len(hosts), **settings})
    return vllm_rollout_verdict(rollout, hosts)[-1]


@pytest.mark.parametrize(
    ("differs", "failure"),
    [
        pytest.param({}, "", id="it is healthy"),
        pytest.param(SICK, "No.", id="its change failed"),
        pytest.param(
            {"__rollout_failure": {"msg": "Not\nallowed."}},
            "The undrain failed: Not allowed.",
            id="what follows failed",
        ),
        pytest.param(
            {"__rollout_done": {}, "__rollout_failure": {"reason": "No such file."}},
            "Its server was not changed, since the drain failed: No such file.",
            id="what comes before failed",
        ),
        pytest.param({"__rollout_done": {}}, "its change left no result", id="nothing is known of it"),
        pytest.param(
            {"__rollout_done": {"unreachable": True, "msg": "Task failed: Down."}},
            "unreachable: Down.",
            id="it went away",
        ),
        pytest.param(
            {"__rollout_soak": {"healthy": False, "msg": "Hangs."}}, "not healthy any more: Hangs.", id="sick later"
        ),
        pytest.param(
            {"__rollout_soak": {"unreachable": True, "msg": "Down."}},
            "unreachable when it was checked again: Down.",
            id="it went away later",
        ),
        pytest.param(
            {"__rollout_now": {"server": {"started_at": "t2"}}},
            "the server ended and was started again at t2, after this run had started it at t1",
            id="it died and came back",
        ),
        pytest.param(
            {
                "__rollout_done": {**DONE, "server": {**SERVER, "started_at": "2026-11-27T10:00:01Z"}},
                "__rollout_now": {"server": {"started_at": "2026-11-27T10:00:02Z"}},
            },
            "",
            id="the same start, told by another clock",
        ),
        pytest.param(
            {
                "__rollout_done": {**DONE, "server": {**SERVER, "started_at": "2026-11-27T10:00:01.5Z"}},
                "__rollout_now": {"server": {"started_at": "2026-11-27T10:00:09.25Z"}},
            },
            "the server ended and was started again at 2026-11-27T10:00:09.25Z, after this run had started it at "
            "2026-11-27T10:00:01.5Z",
            id="seconds later",
        ),
        pytest.param(
            {"__rollout_now": {"reason": "overtaken", "message": "Another run."}}, "Another run.", id="another operator"
        ),
        pytest.param(
            {"__rollout_soak": {"healthy": True, "tokens_per_second": 9.5}},
            "9.5 tokens/s, fewer than 40 (vllm_rollout.min_tokens_per_second)",
            id="it is slow",
        ),
        pytest.param({"__rollout_soak": {"healthy": True, "tokens_per_second": None}}, "", id="no rate is known"),
    ],
)
def test_a_host_fails_for_a_reason(differs: Row, failure: str) -> None:
    found = judged({"a": {**HEALTHY, **differs}}, min_tokens_per_second=40)
    assert found["failed"] == ({"a": failure} if failure else {})
    assert found["stops"] is bool(failure)
    assert found["commit"] == ([] if failure else ["a"])


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        pytest.param(
            {"cmd": ["drain", "a b"], "rc": 3, "msg": "non-zero return code", "stderr": "warn\nNo such backend.\n"},
            "drain 'a b' ended with exit status 3: No such backend.",
            id="a command that says why",
        ),
        pytest.param(
            {"cmd": ["false"], "rc": 1, "msg": "x"}, "false ended with exit status 1.", id="one that says nothing"
        ),
        pytest.param(
            {"cmd": "/no/such x", "rc": 2, "msg": "Error executing command."},
            "/no/such x could not be run on the controller. Check its path, and whether it may be executed.",
            id="one that is not there",
        ),
        pytest.param({}, "Its change failed.", id="nothing is said"),
    ],
)
def test_why_a_hook_failed(result: Row, sentence: str) -> None:
    assert task_failure(result) == sentence


@pytest.mark.parametrize(
    ("done", "state"),
    [
        pytest.param(DONE, "reverted", id="what served before is kept"),
        pytest.param({**DONE, "server": {**SERVER, "superseded": False}}, "stopped", id="nothing served before"),
        pytest.param({**DONE, "failed": True}, "reverted", id="putting it back failed the first time"),
        pytest.param({**DONE, "pending": True, "server": {}}, "", id="it was only planned"),
        pytest.param({**DONE, "failed": True, "server": {}}, "", id="its role put it back"),
        pytest.param({**DONE, "failed": True, "reason": "locked"}, "", id="another run has it"),
        pytest.param({"unreachable": True}, "", id="nobody can reach it"),
        pytest.param({**DONE, "actions": [], "server": {}}, "", id="nothing was started"),
        pytest.param({}, "", id="its turn never came"),
    ],
)
def test_a_host_is_put_back_to_what_it_was(done: Row, state: str) -> None:
    assert Changed(done).undo() == state


def test_a_wave_is_put_back_as_a_whole_and_nothing_of_it_committed() -> None:
    found = judged({"a": HEALTHY, "b": {**HEALTHY, "__rollout_soak": {"healthy": False}}, "c": SICK})
    assert (found["stops"], found["commit"], sorted(found["failed"])) == (True, [], ["b", "c"])
    assert found["put_back"] == {"a": "reverted", "b": "reverted"}


def test_within_the_budget_only_what_fails_is_put_back() -> None:
    found = judged({"a": HEALTHY, "b": {**HEALTHY, "__rollout_soak": {"healthy": False}}}, max_failures=1)
    assert (found["stops"], found["commit"], found["put_back"]) == (False, ["a"], {"b": "reverted"})
    assert found["message"] == (
        "Wave 1 of 1: 1 of 2 hosts failed (b). 1 host may fail (vllm_rollout.max_failures). The rollout continues."
    )


def test_with_put_back_none_a_wave_that_fails_is_left_for_a_look() -> None:
    found = judged({"a": HEALTHY, "b": SICK}, put_back="none")
    assert (found["stops"], found["commit"], found["put_back"]) == (True, [], {})


def test_failures_of_earlier_waves_and_refusals_count() -> None:
    planned = {"a": variables("todo"), "b": variables("todo"), "c": variables("refused")}
    rollout = vllm_rollout(list(planned), planned, {"canaries": [], "waves": 1, "max_failures": 2})
    (first,) = vllm_rollout_verdict(rollout, {"a": SICK})
    assert (first["stops"], first["wave"]) == (False, "wave 1 of 2")
    _first, second = vllm_rollout_verdict(rollout, {"b": SICK}, [first])
    assert (second["stops"], second["wave"]) == (True, "wave 2 of 2")
    assert second["message"].startswith("Wave 2 of 2: 1 of 1 host failed (b). It is 3 in all.")


def test_a_canary_may_never_fail() -> None:
    planned = {"a": variables("todo"), "b": variables("todo")}
    rollout = vllm_rollout(list(planned), planned, {"max_failures": 2})
    assert vllm_rollout_verdict(rollout, {"a": SICK})[-1]["stops"] is True


def test_with_put_back_fleet_earlier_waves_are_put_back_too() -> None:
    planned = {"a": variables("todo"), "b": variables("todo")}
    rollout = vllm_rollout(list(planned), planned, {"put_back": "fleet"})
    (first,) = vllm_rollout_verdict(rollout, {"a": HEALTHY})
    assert (first["commit"], first["commit_later"]) == ([], ["a"])
    assert vllm_rollout_verdict(rollout, {"b": SICK}, [first])[-1]["put_back"] == {"a": "reverted"}


# --- who packs what it compiled ---------------------------------------------------------------------------------------

SPEC: Row = {"name": "x", "model": "a/b", "image": "i:2", "engine": {"max_model_len": 1}, "port": 8000}
SERVICE: Row = {"name": "x", "model": "a/b", "venv": "/opt/x"}


def packing(
    specs: t.Mapping[str, Row], groups: t.Mapping[str, str] | None = None, **settings: t.Any
) -> list[list[str]]:
    """Who packs after each wave of one host, when all goes well."""
    planned = {
        name: {
            "__rollout_planned": {**LOOKS["todo"], "spec": spec},
            "group_names": [(groups or {}).get(name, "gb10")],
        }
        for name, spec in specs.items()
    }
    rollout = vllm_rollout(list(planned), planned, {"canaries": [], "waves": 1, **settings})
    verdicts: list[Row] = []
    for name in planned:
        verdicts = vllm_rollout_verdict(rollout, {name: HEALTHY}, verdicts)
    return [one["pack"] for one in verdicts]


@pytest.mark.parametrize(
    ("specs", "settings", "packs"),
    [
        pytest.param({"a": SPEC, "b": SPEC, "c": SPEC}, {}, [["a"], [], []], id="the first for all"),
        pytest.param({"a": SPEC}, {}, [[]], id="nobody needs it"),
        pytest.param({"a": SPEC, "b": {**SPEC, "port": 1}}, {}, [["a"], []], id="what is not compiled in may differ"),
        pytest.param({"a": SPEC, "b": {**SPEC, "name": "y"}}, {}, [["a"], []], id="a container of another name"),
        pytest.param({"a": SERVICE, "b": SERVICE}, {}, [["a"], []], id="a service"),
        pytest.param({"a": SERVICE, "b": {**SERVICE, "name": "y"}}, {}, [[], []], id="a service of another name"),
        pytest.param({"a": SPEC, "b": {**SPEC, "engine": {}}}, {}, [[], []], id="other settings"),
        pytest.param({"a": SPEC, "b": {**SPEC, "image": "i:3"}}, {}, [[], []], id="another image"),
        pytest.param({"a": SPEC, "b": {}, "c": SPEC}, {}, [["a"], [], []], id="one of which nothing is known"),
        pytest.param(dict.fromkeys("ab", {**SPEC, "keep_caches": False}), {}, [[], []], id="nothing is kept"),
        pytest.param({"a": SPEC, "b": SPEC}, {"carry_caches": False}, [[], []], id="switched off"),
        pytest.param({"a": SPEC, "b": SPEC}, {"put_back": "fleet"}, [[], []], id="nothing is committed before the end"),
    ],
)
def test_the_first_host_of_a_kind_packs_what_others_compile_too(
    specs: dict[str, Row], settings: Row, packs: list[list[str]]
) -> None:
    assert packing(specs, **settings) == packs


def test_classes_do_not_share_what_they_compile() -> None:
    assert packing({"a": SPEC, "b": SPEC}, {"b": "h100"}) == [[], []]
    assert packing({"a": SPEC, "b": SPEC, "c": SPEC, "d": SPEC}, {"b": "h100", "d": "h100"}) == [["a"], ["b"], [], []]


def test_what_a_host_packed_is_known_by_whom_it_fits() -> None:
    rollout = {"compiles": {"a": "kind", "b": "other"}}
    hosts = {
        "a": {"__rollout_packed": {"archive": "/x", "host": "a"}},
        "b": {"__rollout_packed": {"unreachable": True}},
    }
    assert vllm_rollout_caches(["a", "b"], hosts, rollout) == {
        "kind": {"host": "a", "archive": "/x"},
        "other": {"host": "b", "unreachable": True},
    }


def test_what_a_host_measured_is_known_by_its_name() -> None:
    hosts = {
        "a": {"__rollout_committed": {"learned": {"k": {"kv_gib": 1.0}}}},
        "b": {"__rollout_committed": {}},
        "c": {},
    }
    assert vllm_rollout_learned(["a", "b", "c"], hosts) == {"k": {"kv_gib": 1.0, "host": "a"}}
