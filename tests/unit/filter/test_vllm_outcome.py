# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The result of a deployment and its sentence: a row for each way that one can end."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.filter.vllm_outcome import vllm_outcome
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._outcome import DETAILS, PUBLIC, is_pending, published

Row = dict[str, t.Any]

SERVER: Row = {
    "container_name": "vllm-a",
    "served_model_name": "m",
    "url": "http://127.0.0.1:8000",
    "state": "running",
    "superseded": False,
}
OLD: Row = {**SERVER, "container_name": "vllm-old", "served_model_name": "old", "away_seconds": 1.6}
OLDER: Row = {**OLD, "served_model_name": "older", "url": "http://127.0.0.1:8001", "away_seconds": None}
GOOD: Row = {"healthy": True, "checks": [{"detail": "3 models"}, {"detail": '"Hi."'}], "elapsed": 2.0}
SICK: Row = {"healthy": False, "failed": True, "msg": "Out of memory.", "elapsed": 9.0}
SKIPPED: Row = {"skipped": True, "changed": False}
FALLBACK: Row = {"rung": 2, "rungs": 3, "causes": ["x", "y"], "change": {"engine": {"dtype": "half"}}}
IN_USE = (
    ' (It runs with fallback 2 of 3, {"engine": {"dtype": "half"}}, because of x, y; -e vllm_server_reset_fallbacks=true '
    "starts over.)"
)


def applied(**differs: t.Any) -> Row:
    return {**PUBLIC, **DETAILS, "changed": True, "actions": ["start vllm-a"], "server": SERVER, **differs}


@pytest.mark.parametrize(
    ("result", "steps", "sentence"),
    [
        pytest.param(applied(), {"health": GOOD}, 'm answers at http://127.0.0.1:8000 on h: "Hi."', id="it serves"),
        pytest.param(
            applied(),
            {"health": {"healthy": True}},
            "m answers at http://127.0.0.1:8000 on h: it is healthy",
            id="no check",
        ),
        pytest.param(
            applied(fallback=FALLBACK),
            {"health": GOOD},
            f'm answers at http://127.0.0.1:8000 on h: "Hi."{IN_USE}',
            id="it serves with a fallback",
        ),
        pytest.param(applied(), {}, "vllm-a on h is running.", id="it was not verified"),
        pytest.param(applied(server={}), {}, "start vllm-a on h.", id="no server is known"),
        pytest.param(applied(server={}, actions=[]), {}, "Nothing was done on h.", id="nothing at all"),
        pytest.param(
            applied(),
            {"health": {"unreachable": True, "msg": "No route to host."}},
            "vllm-a was not verified, since its host is unreachable; the next run verifies it. No route to host.",
            id="the host went away",
        ),
        pytest.param(
            applied(changed=True),
            {"waits": {"results": [{**GOOD, "item": OLD}]}},
            "The previous server old is serving again at http://127.0.0.1:8000, after 4 s without an answer.",
            id="put back on request",
        ),
        pytest.param(
            applied(server={**SERVER, "superseded": True}),
            {"health": GOOD},
            'm answers at http://127.0.0.1:8000 on h: "Hi." The previous server is kept until the commit.',
            id="not committed",
        ),
        pytest.param(
            applied(),
            {"health": SICK, "reverted": SKIPPED, "stopped": SKIPPED},
            "vllm-a is not healthy. This run did not change it. Out of memory.",
            id="it served before this run",
        ),
        pytest.param(
            applied(),
            {"health": SICK, "reverted": SKIPPED, "stopped": {"server": SERVER}},
            "vllm-a is not healthy. It was stopped, and its container is kept for its log. Out of memory.",
            id="nothing served before",
        ),
        pytest.param(
            applied(),
            {"health": SICK, "stopped": {"msg": "Docker is gone."}},
            "vllm-a is not healthy. Stopping it failed: Docker is gone. Out of memory.",
            id="it could not be stopped",
        ),
        pytest.param(
            applied(),
            {"health": SICK, "reverted": {"server": OLD, "restored": []}, "waits": SKIPPED},
            "vllm-a is not healthy. The previous server was not running, and was restored as it was. Out of memory.",
            id="the old one did not run",
        ),
        pytest.param(
            applied(),
            {"health": SICK, "reverted": {"server": OLD, "restored": [{**OLD, "url": None}]}, "waits": {"results": []}},
            "vllm-a is not healthy. The previous server was restored and started; its address is not recorded, so it was "
            "not checked. Out of memory.",
            id="the old one has no address",
        ),
        pytest.param(
            applied(),
            {"health": SICK, "reverted": {"msg": "Docker is gone."}, "waits": {"results": []}},
            "vllm-a is not healthy. Restoring the previous server failed: Docker is gone. Out of memory.",
            id="the old one could not be restored",
        ),
        pytest.param(
            applied(),
            {"health": SICK, "reverted": {"restored": [OLD]}, "waits": {"results": [{**GOOD, "item": OLD}]}},
            "vllm-a is not healthy. The previous server old is serving again at http://127.0.0.1:8000, after 4 s without an "
            "answer. Out of memory.",
            id="the old one serves again",
        ),
        pytest.param(
            applied(),
            {
                "health": SICK,
                "reverted": {"restored": [OLD, OLDER]},
                "waits": {"results": [{**GOOD, "item": OLD}, {**GOOD, "elapsed": 5.0, "item": OLDER}]},
            },
            "vllm-a is not healthy. The previous server old and older is serving again at http://127.0.0.1:8000 and "
            "http://127.0.0.1:8001, after 7 s without an answer. Out of memory.",
            id="two serve again",
        ),
        pytest.param(
            applied(),
            {
                "health": SICK,
                "reverted": {"restored": [OLD, OLDER]},
                "waits": {"results": [{**GOOD, "item": OLD}, {"msg": "No answer.", "item": OLDER}]},
            },
            "vllm-a is not healthy. The previous server was restored, but it is not healthy either: No answer. Out of memory.",
            id="the old one is not healthy either",
        ),
        pytest.param(
            applied(fallback=FALLBACK),
            {"health": SICK, "stopped": {"server": SERVER}, "attempt": {"actions": []}},
            "vllm-a is not healthy. It was stopped, and its container is kept for its log. Out of memory. Fallbacks tried: 2 of "
            "3, because of x, y.",
            id="no fallback is left",
        ),
        pytest.param(
            applied(fallback=FALLBACK),
            {"health": SICK, "stopped": {"server": SERVER}, "attempt": {"msg": "No such flag."}},
            "vllm-a is not healthy. It was stopped, and its container is kept for its log. Out of memory. The next fallback "
            "could not be tried: No such flag.",
            id="a fallback could not be tried",
        ),
        pytest.param(
            applied(),
            {"health": {**SICK, "busy": True, "msg": "Another run."}},
            "Another run.",
            id="another run is on it",
        ),
    ],
)
def test_what_a_run_came_to(result: Row, steps: Row, sentence: str) -> None:
    assert vllm_outcome(result, "h", steps)["message"] == sentence


@pytest.mark.parametrize(
    ("result", "steps", "sentence"),
    [
        pytest.param(
            applied(actions=["create vllm-a", "start vllm-a"]),
            {},
            "Nothing was changed on h. Planned: create vllm-a; start vllm-a.",
            id="something is to be done",
        ),
        pytest.param(
            applied(changed=False, actions=[]),
            {"health": GOOD},
            'm answers at http://127.0.0.1:8000 on h: "Hi."',
            id="nothing is to be done",
        ),
        pytest.param(
            applied(changed=False, actions=[]),
            {"health": SICK},
            "vllm-a is not healthy. Check mode: nothing was changed. Out of memory.",
            id="the server is not healthy",
        ),
    ],
)
def test_what_check_mode_came_to(result: Row, steps: Row, sentence: str) -> None:
    assert vllm_outcome(result, "h", steps, True)["message"] == sentence


@pytest.mark.parametrize(
    ("health", "failed", "reason"),
    [
        (GOOD, False, ""),
        ({}, False, ""),
        (SICK, True, "unknown"),
        ({**SICK, "reason": "mem-free-below-budget"}, True, "mem-free-below-budget"),
        ({**SICK, "busy": True}, True, "locked"),
        ({**SICK, "reason": "backend-unavailable"}, True, "backend-unavailable"),
    ],
)
def test_a_failure_has_a_reason(health: Row, failed: bool, reason: str) -> None:
    result = vllm_outcome(applied(), "h", {"health": health})
    assert (result["failed"], result["reason"], result["health"]) == (failed, reason, health)


BACK: Row = {**OLD, "away_seconds": 60.0, "gap_seconds": 0.4}
# The wait for it began ten seconds after its start, since other servers were started in between.
STARTED: Row = {**OLD, "started_at": "2026-11-27T21:00:00.500000123Z"}
LATE: Row = {**GOOD, "healthy_at": "2026-11-27T21:00:12.500+00:00"}


@pytest.mark.parametrize(
    ("server", "steps", "away"),
    [
        pytest.param(OLD, {"health": GOOD}, 3.6, id="from the stop of the old one to an answer of the new one"),
        pytest.param(OLD, {"health": GOOD, "committed": {"server": SERVER}}, 3.6, id="the commit forgets the old one"),
        pytest.param(STARTED, {"health": LATE}, 13.6, id="it was not waited for at once"),
        pytest.param({**STARTED, "started_at": "2026-11-27T21:00:02"}, {"health": LATE}, 12.1, id="to the second"),
        pytest.param({**STARTED, "started_at": "2026"}, {"health": LATE}, 3.6, id="a start that cannot be read"),
        pytest.param(
            {**STARTED, "started_at": "2026-11-27T21:00:30Z"}, {"health": LATE}, 3.6, id="a clock that was set back"
        ),
        pytest.param(SERVER, {"waits": {"results": [{**LATE, "item": STARTED}]}}, 13.6, id="nor was a restored one"),
        pytest.param(SERVER, {"health": GOOD}, None, id="nothing served before"),
        pytest.param(OLD, {"health": SICK, "stopped": {"server": SERVER}}, None, id="nothing serves now"),
        pytest.param(
            SERVER,
            {"health": SICK, "reverted": {"restored": [BACK]}, "waits": {"results": [{**GOOD, "item": BACK}]}},
            62.0,
            id="the new one never served",
        ),
        pytest.param(SERVER, {"waits": {"results": [{**GOOD, "item": BACK}]}}, 2.4, id="the new one served in between"),
        pytest.param(SERVER, {"waits": {"results": [{**GOOD, "item": OLD}]}}, 3.6, id="nobody knows when that ended"),
        pytest.param(SERVER, {"waits": {"results": [{**SICK, "item": BACK}]}}, None, id="the old one does not serve"),
    ],
)
def test_how_long_nobody_was_answered(server: Row, steps: Row, away: float | None) -> None:
    result = vllm_outcome(applied(server=server), "h", steps)
    assert result["away_seconds"] == away
    if "waits" in steps and away:
        assert f"after {round(away)} s without an answer" in result["message"]


@pytest.mark.parametrize("step", ["committed", "reverted", "stopped"])
def test_a_later_step_adds_its_actions_and_tells_the_server_as_it_is_now(step: str) -> None:
    later = {"changed": True, "actions": ["last"], "server": OLD}
    result = vllm_outcome(applied(changed=False), "h", {"health": GOOD, step: later})
    assert (result["changed"], result["actions"], result["server"]) == (True, ["start vllm-a", "last"], OLD)
    skipped = vllm_outcome(applied(changed=False), "h", {"health": GOOD, step: SKIPPED})
    assert (skipped["changed"], skipped["actions"], skipped["server"]) == (False, ["start vllm-a"], SERVER)


@pytest.mark.parametrize(
    ("found", "reason"),
    [({"failed": True, "reason": "port-in-use"}, "port-in-use"), ({"failed": True}, "unknown"), ({}, "")],
)
def test_a_failed_step_has_a_reason(found: Row, reason: str) -> None:
    assert published(found, "h", False)["reason"] == reason


def test_the_keys_are_always_the_same() -> None:
    expected = {*PUBLIC, *DETAILS}
    for found in ({}, {"failed": True, "msg": "x"}, {"health": None, "server": None}, applied(other=1)):
        result = published(found, "h", False)
        assert set(result) == expected == set(vllm_outcome(result, "h", {"health": SICK}))
        assert [key for key in PUBLIC if type(result[key]) is not type(PUBLIC[key])] == []


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        ({"failed": True, "msg": "Port 8000 is taken."}, "Port 8000 is taken."),
        ({"failed": True, "exception": "Traceback"}, "The step failed on h; its exception says why."),
        ({"server": SERVER, "health": GOOD}, 'm answers at http://127.0.0.1:8000 on h: "Hi."'),
        ({"server": SERVER, "actions": ["stop vllm-a"]}, "Nothing was changed on h. Planned: stop vllm-a."),
    ],
)
def test_a_look_has_a_sentence_too(result: Row, sentence: str) -> None:
    assert published(result, "h", is_plan=True)["message"] == sentence


@pytest.mark.parametrize(
    ("result", "state", "pull", "pending"),
    [
        pytest.param({"health": GOOD, "server": SERVER}, "started", "missing", False, id="it serves"),
        pytest.param({"health": GOOD, "server": SERVER}, "started", "always", True, id="a newer image may exist"),
        pytest.param({"health": SICK, "server": SERVER}, "started", "missing", True, id="it is not healthy"),
        pytest.param({"health": {}, "server": SERVER}, "started", "missing", True, id="it was not asked"),
        pytest.param(
            {"health": GOOD, "server": {**SERVER, "superseded": True}}, "started", "missing", True, id="a leftover"
        ),
        pytest.param({"health": GOOD, "needs": ["encodings"]}, "started", "missing", True, id="encodings are missing"),
        pytest.param({"actions": ["stop"]}, "stopped", "missing", True, id="it is to be stopped"),
        pytest.param({"actions": [], "health": {}}, "stopped", "missing", False, id="it is stopped"),
        pytest.param({"actions": [], "server": SERVER}, "absent", "always", False, id="it is gone"),
    ],
)
def test_whether_anything_is_left_to_do(result: Row, state: str, pull: str, pending: bool) -> None:
    assert is_pending(result, state, pull) is pending


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("x", "h"), "the input must be a result of gpufleet.vllm.vllm_server"),
        (({}, "h"), "the input must be a result of gpufleet.vllm.vllm_server"),
        ((applied(), "h", {"helth": {}}), "Unknown key 'steps.helth'. Valid keys: health, attempt"),
    ],
)
def test_a_wrong_input_is_refused(arguments: tuple[t.Any, ...], sentence: str) -> None:
    with pytest.raises(AnsibleFilterError) as caught:
        vllm_outcome(*arguments)
    assert sentence in str(caught.value)


def test_a_commit_that_fails_is_a_failure_of_a_healthy_server() -> None:
    committed = {"msg": "The disk is full.", "reason": "disk-full", "failed": False}
    result = vllm_outcome(applied(), "h", {"health": GOOD, "committed": committed})
    assert (result["failed"], result["reason"], result["health"]) == (True, "disk-full", GOOD)
    assert result["message"] == (
        "vllm-a is healthy, but committing the change failed: The disk is full. The next run commits it."
    )
