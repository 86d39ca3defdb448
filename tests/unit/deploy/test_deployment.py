# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The plan, as a table of examples and as promises that hold for whatever is found on the host.

The promises are checked against a model of the slots. Those about several runs in a row: test_interruptions.py.
"""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import SUFFIX, Action, Instance, Other, Slot
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import (
    LEFTOVERS,
    STATES,
    Observed,
    Preflight,
    Purge,
    State,
    plan,
    recovery,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Problem, VllmError
from slots_model import (
    NEW,
    NEWER,
    OLD,
    Box,
    Model,
    everything,
    identities,
    instance,
    look_at,
    observed,
    run,
    running,
    serves,
    steps,
    wanted,
)

# What a start with the compile caches of another host left that failed.
FAILED = instance("current", NEW, is_unproven=True)

# --- examples -------------------------------------------------------------------------------------------------------

REPLACE = [
    "create c-next (port changed)",
    "try c-next (GPU access, limits and mounts, before anything stops)",
    "stop c",
    "rename c to c-superseded (kept until the new server is healthy)",
    "rename c-next to c",
]
REVERT = [
    "rename c to c-next (it did not become healthy)",
    "rename c-superseded to c",
    "start c",
    "remove c-next (it did not become healthy)",
]


@pytest.mark.parametrize(
    ("state", "there", "words"),
    [
        pytest.param("started", [], ["create c", "start c"], id="nothing is there"),
        pytest.param("present", [], ["create c"], id="nothing is there, to be present"),
        pytest.param("started", [instance("current", NEW, True)], [], id="it serves already"),
        pytest.param("started", [instance("current", NEW)], ["start c"], id="it is stopped"),
        pytest.param("present", [instance("current", NEW)], [], id="it is stopped and may be"),
        pytest.param(
            "started",
            [FAILED],
            ["remove c (it was not committed with the compile caches of another host)", "create c", "start c"],
            id="it is stopped, and was not committed with the compile caches of another host",
        ),
        pytest.param("present", [FAILED], [], id="present, the same"),
        pytest.param("started", [replace(FAILED, running=True)], [], id="it serves with those"),
        pytest.param(
            "started",
            [FAILED, instance("superseded", OLD)],
            ["start c"],
            id="it is stopped with those, and knows what served before it",
        ),
        pytest.param("started", [instance("current", OLD, True)], [*REPLACE, "start c"], id="another one serves"),
        pytest.param(
            "present", [instance("current", OLD, True)], [*REPLACE, "start c"], id="present, another one serves"
        ),
        pytest.param(
            "started",
            [instance("current", OLD)],
            [REPLACE[0], *REPLACE[3:], "start c"],
            id="another one is there, stopped: nothing to protect",
        ),
        pytest.param(
            "present", [instance("current", OLD)], [REPLACE[0], *REPLACE[3:]], id="present, another one stopped"
        ),
        pytest.param(
            "started",
            [instance("current", OLD, True), instance("superseded", OLD)],
            [*REPLACE[:3], "remove c (it was never healthy)", "rename c-next to c", "start c"],
            id="another one that was never committed serves: what it superseded stays",
        ),
        pytest.param(
            "started",
            [instance("next", NEW), instance("current", OLD, True)],
            [
                "rename c-next to c-try (a run that was cut short left it)",
                REPLACE[0],
                "remove c-try (a run that was cut short left it)",
                *REPLACE[1:],
                "start c",
            ],
            id="cut short after the create: what it recorded goes last",
        ),
        pytest.param(
            "started",
            [instance("trial", NEW, True), instance("next", NEW), instance("current", NEW, True)],
            [
                "remove c-try (a run that was cut short left it)",
                "remove c-next (a run that was cut short left it)",
            ],
            id="cut short in the trial, and now wanted as it was",
        ),
        pytest.param(
            "started",
            [instance("next", NEW), instance("superseded", OLD)],
            [
                "rename c-next to c-try (a run that was cut short left it)",
                "create c",
                "remove c-try (a run that was cut short left it)",
                "start c",
            ],
            id="cut short between the two renames",
        ),
        pytest.param("started", [instance("superseded", OLD)], ["create c", "start c"], id="only the old one is left"),
        pytest.param("stopped", [instance("current", OLD, True)], ["stop c"], id="to be stopped"),
        pytest.param("stopped", [instance("current", OLD)], [], id="is stopped"),
        pytest.param("stopped", [], [], id="nothing to stop"),
        pytest.param("absent", [], [], id="nothing to remove"),
        pytest.param("absent", [instance("current", OLD, True)], ["stop c", "remove c"], id="to be removed"),
        pytest.param(
            "absent",
            [instance("trial"), instance("next"), instance("current", OLD, True), instance("superseded")],
            ["stop c", "remove c-try", "remove c-next", "remove c", "remove c-superseded"],
            id="to be removed with all that is left of a run",
        ),
        pytest.param("committed", [instance("current", NEW, True)], [], id="nothing to commit"),
        pytest.param(
            "committed",
            [instance("current", NEW, True), instance("superseded")],
            ["remove c-superseded (the new server is healthy)"],
            id="to be committed",
        ),
        pytest.param("reverted", [], [], id="nothing to revert"),
        pytest.param("reverted", [instance("current", OLD, True)], [], id="nothing was replaced"),
        pytest.param("reverted", [instance("current", OLD)], [], id="nothing was replaced, and it is stopped"),
        pytest.param(
            "reverted",
            [instance("current", NEW, True), instance("superseded")],
            ["stop c", *REVERT],
            id="to be reverted",
        ),
        pytest.param(
            "reverted",
            [instance("current", NEW), instance("superseded")],
            REVERT,
            id="to be reverted after it crashed",
        ),
        pytest.param(
            "reverted",
            [instance("next", NEW), instance("superseded")],
            ["rename c-superseded to c", "start c", "remove c-next (it never served)"],
            id="to be reverted, cut short between the two renames",
        ),
        pytest.param(
            "reverted",
            [instance("next", NEW), instance("current", OLD)],
            ["start c (its replacement was cut short)", "remove c-next (it never served)"],
            id="to be reverted, cut short after the stop",
        ),
    ],
)
def test_what_is_done(state: State, there: list[Instance], words: list[str]) -> None:
    decided = plan(wanted(state), observed(*there))
    assert decided.words("c") == words
    assert decided.changed == bool(words)


@pytest.mark.parametrize(
    ("there", "words"),
    [
        pytest.param(
            observed(artifact_id=None),
            ["pull vllm:1 (it is not on the host)", "create c", "start c"],
            id="the image is pulled",
        ),
        pytest.param(
            observed(instance("current", NEW, True), artifact_id=None),
            [],
            id="the image of a running server is not pulled",
        ),
        pytest.param(
            observed(instance("current", OLD, True), artifact_id=None),
            ["pull vllm:1 (it is not on the host)", *REPLACE, "start c"],
            id="the image is pulled while the old server serves",
        ),
        pytest.param(
            observed(missing_directories=("/h",), stale_secrets=("api_key_file",)),
            [
                "create directory /h",
                "write secret api_key_file (the file does not hold what was given)",
                "create c",
                "start c",
            ],
            id="directories and secrets come first",
        ),
        pytest.param(
            observed(instance("current", NEW, True), missing_directories=("/h",)),
            ["create directory /h"],
            id="a directory that got lost is made, and nothing restarts",
        ),
    ],
)
def test_what_is_made_ready_before(there: Observed, words: list[str]) -> None:
    assert plan(wanted(image="vllm:1"), there).words("c") == words


@pytest.mark.parametrize(
    ("asked", "there", "because"),
    [
        pytest.param({}, (instance("current", OLD, True),), ["while the old server serves"], id="it serves"),
        pytest.param(
            {"failed": True}, (instance("current", OLD, True),), [], id="it has just failed, and serves nobody"
        ),
        pytest.param({}, (instance("current", OLD),), [], id="it is stopped"),
        pytest.param({"fetches_first": True}, (), ["the server only reads them"], id="the server cannot fetch them"),
        pytest.param({"state": "present"}, (instance("current", OLD),), [], id="nothing starts"),
    ],
)
def test_weights_are_fetched_beforehand_where_somebody_would_wait_for_them(
    asked: dict[str, t.Any], there: tuple[Instance, ...], because: list[str]
) -> None:
    actions = plan(wanted(**asked), observed(*there), Preflight(missing_weights="m")).actions
    assert [action.because for action in actions if action.verb == "fetch_weights"] == because


@pytest.mark.parametrize(
    ("change", "there", "why"),
    [
        pytest.param({}, {}, "", id="nothing"),
        pytest.param({"fingerprint": NEW, "intent": {"port": 1}}, {}, "port changed", id="a key"),
        pytest.param({"fingerprint": NEW, "intent": {"a": 1}}, {}, "a, port changed", id="a key more, a key less"),
        pytest.param({"fingerprint": NEW}, {}, "the content of a secret changed", id="a secret"),
        pytest.param({"recreate": True}, {}, "recreate was requested", id="recreate"),
        pytest.param(
            {"image": "i:1"}, {"artifact_id": "sha256:2"}, "i:1 is a different image now", id="image of the same name"
        ),
        pytest.param({}, {"artifact_id": None}, "", id="image that is no longer on the host"),
    ],
)
def test_why_a_server_is_replaced(change: dict[str, t.Any], there: dict[str, t.Any], why: str) -> None:
    same: dict[str, t.Any] = {"fingerprint": OLD, "intent": {"port": OLD}}
    decided = plan(wanted(**{**same, **change}), observed(instance("current", OLD, True), **there))
    assert [action.because for action in decided.actions if action.verb == "create"] == ([why] if why else [])


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("running", [False, True])
@pytest.mark.parametrize("slot", SUFFIX)
def test_a_server_of_somebody_else_is_left_alone(slot: Slot, running: bool, state: State) -> None:
    foreign = Instance(slot, owned=False, running=running)
    with pytest.raises(VllmError, match=f"^c{SUFFIX[slot]} exists and was not created by gpufleet.vllm"):
        plan(wanted(state), observed(foreign))


@pytest.mark.parametrize("slot", LEFTOVERS)
def test_not_even_adopt_removes_what_only_looks_like_a_leftover(slot: Slot) -> None:
    with pytest.raises(VllmError) as caught:
        plan(wanted(replace_unmanaged=True), observed(Instance(slot, owned=False, running=True)))
    assert "replace_unmanaged" not in str(caught.value)


def test_adopt_replaces_and_keeps_a_server_of_somebody_else() -> None:
    decided = plan(wanted(replace_unmanaged=True), observed(Instance("current", owned=False, running=True)))
    assert decided.words("c") == ["create c-next (it was not created by gpufleet.vllm)", *REPLACE[1:], "start c"]


def theirs(slot: Slot, running: bool = True, adopted: bool = False) -> Instance:
    return Instance(slot, owned=False, running=running, identity=f"their {slot}", adopted=adopted)


@pytest.mark.parametrize(
    ("there", "refused"),
    [
        pytest.param((theirs("superseded"),), "c-superseded", id="what was never put aside"),
        pytest.param((theirs("current"), theirs("superseded")), "c", id="theirs in both places"),
        pytest.param((instance("current"), theirs("superseded")), "c-superseded", id="theirs beside ours"),
        pytest.param((theirs("current"), instance("superseded")), "c", id="there is a server to go back to"),
        pytest.param((theirs("current"), theirs("superseded", adopted=True)), "c", id="another took its place"),
    ],
)
def test_only_what_has_the_name_of_the_server_is_given_away(there: tuple[Instance, ...], refused: str) -> None:
    with pytest.raises(VllmError, match=f"^{refused} exists and was not created by gpufleet.vllm"):
        plan(wanted(replace_unmanaged=True), observed(*there))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("committed", ["remove c-superseded (the new server is healthy)"]),
        ("reverted", ["stop c", *REVERT]),
        ("absent", None),
    ],
)
def test_what_was_put_aside_is_given_up_or_put_back(state: State, words: list[str] | None) -> None:
    current = instance("current", NEW, True, supersedes=("their superseded",))
    there = observed(current, theirs("superseded", running=False, adopted=True))
    if words is None:
        with pytest.raises(VllmError, match="^c-superseded exists and was not created"):
            plan(wanted(state), there)
    else:
        assert plan(wanted(state), there).words("c") == words


def test_what_somebody_else_has_put_there_meanwhile_is_not_touched_by_a_recovery() -> None:
    there = observed(theirs("current", running=False), instance("next"), instance("superseded"))
    assert set(recovery(there).instances) == {"next"}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({}, ["stop c", "remove c", "start d (it served before)"]),
        ({"all_go": True}, ["stop c", "remove c"]),
    ],
)
def test_removing_a_server_that_was_not_committed_starts_what_was_stopped_for_it(
    other: dict[str, t.Any], words: list[str]
) -> None:
    there = observed(instance("current", NEW, True, supersedes=("other",)), others=(STOPPED,))
    assert plan(wanted("absent", **other), there).words("c") == words


@pytest.mark.parametrize(
    ("current", "seen"),
    [((), "does not exist"), ((instance("current", NEW),), "is not running")],
    ids=["gone", "stopped"],
)
def test_the_server_that_works_is_not_given_up(current: tuple[Instance, ...], seen: str) -> None:
    with pytest.raises(VllmError, match=f"^c {seen}, so c-superseded, which served before it, is not removed"):
        plan(wanted("committed"), observed(*current, instance("superseded")))


@pytest.mark.parametrize(
    ("state", "there", "told"),
    [
        ("started", (), ["P.", "Q."]),
        ("present", (), ["P.", "Q."]),
        ("started", (instance("current", OLD, True),), ["P.", "Q."]),
        ("started", (instance("current", NEW),), ["P.", "Q."]),
        ("started", (instance("current", NEW, True),), []),
        ("started", (instance("current", NEW, True), instance("next")), []),
        ("present", (instance("current", NEW),), []),
        ("stopped", (instance("current", OLD, True),), []),
        ("absent", (instance("current", OLD, True),), []),
        ("committed", (instance("current", NEW, True), instance("superseded")), []),
    ],
)
def test_problems_count_only_where_something_would_be_started(
    state: State, there: tuple[Instance, ...], told: list[str]
) -> None:
    problems = (Problem("path-missing", "P."), Problem("port-in-use", "Q."))
    found = plan(wanted(state), observed(*there), Preflight(problems)).problems
    assert [problem.message for problem in found] == told


# --- what goes with a server ----------------------------------------------------------------------------------------

KEEPING = instance("current", wrote=("/k", "/t"), replaced=("/t",))
PURGE = Purge(("/h/hub/models--m",), ("/e/o200k_base.tiktoken",))


@pytest.mark.parametrize(
    ("there", "words"),
    [
        pytest.param({}, ["delete /k", "restore /t"], id="the secrets that were written for it"),
        pytest.param({"in_use": frozenset({"/k"})}, ["restore /t"], id="not a secret that another server uses"),
        pytest.param({"in_use": frozenset({"/t"})}, ["delete /k"], id="nor is one put back that another server uses"),
        pytest.param({"unsure": True}, [], id="nothing while nobody knows what others use"),
        pytest.param(
            {"purge": PURGE},
            ["delete /k", "restore /t", "delete /e/o200k_base.tiktoken", "delete /h/hub/models--m"],
            id="what may be purged",
        ),
        pytest.param(
            {"gone": (instance("current", wrote=("/g",)),)},
            ["delete /g", "delete /k", "restore /t"],
            id="what was written for one that somebody removed",
        ),
    ],
)
def test_what_is_deleted_with_a_server(there: dict[str, t.Any], words: list[str]) -> None:
    actions = plan(wanted("absent"), observed(KEEPING, **there)).actions
    # Containers first, then files: the record remembers what there is to delete.
    assert actions[0] == Action("remove", "current")
    assert [f"{action.verb.partition('_')[0]} {action.target}" for action in actions[1:]] == words


@pytest.mark.parametrize(
    ("there", "words"),
    [
        pytest.param((), [], id="nothing was replaced"),
        pytest.param(
            (instance("superseded"),),
            ["remove c-superseded", "remove cache older"],
            id="those of what was replaced, for this one uses other ones",
        ),
    ],
)
def test_which_caches_go_with_a_commit(there: tuple[Instance, ...], words: list[str]) -> None:
    current = instance("current", NEW, True, caches=("newer",))
    seen = observed(current, *there, caches=("newer", "older"), kept_secrets=("/k",))
    said = [line.partition(" (")[0] for line in plan(wanted("committed"), seen).words("c")]
    assert said == ["forget secret /k", *words]


# --- promises -------------------------------------------------------------------------------------------------------


@everything
def test_started_ends_in_one_running_server_and_then_changes_nothing(model: Model) -> None:
    end = run(model, "started")
    assert serves(end, NEW)
    assert not plan(wanted("started"), look_at(end)).changed


@everything
def test_a_run_that_is_cut_short_anywhere_is_finished_by_the_next(model: Model) -> None:
    for cut in steps(model, plan(wanted("started"), look_at(model))):
        assert serves(run(cut, "started"), NEW)
        assert serves(run(cut, "started", NEWER), NEWER)


@everything
def test_a_server_goes_before_it_is_made_anew_only_where_it_is_stopped_and_nothing_is_beside_it(model: Model) -> None:
    there = look_at(model)
    unproven = {slot: replace(one, is_unproven=True) for slot, one in there.instances.items()}
    decided = plan(wanted("started"), replace(there, instances=unproven))
    for cut in steps(model, decided):
        assert serves(run(cut, "started"), NEW)
    first = [(action.verb, action.target) for action in decided.actions[:1]]
    assert (first == [("remove", "current")]) == ([*model] == ["c"] and not model["c"].running)


@everything
def test_what_was_kept_stays_until_it_is_committed(model: Model) -> None:
    for state in ("present", "started", "stopped", "reverted"):
        for cut in steps(model, plan(wanted(t.cast(State, state)), look_at(model))):
            assert {"kept"} & identities(model) <= identities(cut)
            assert {"kept"} & identities(model) <= identities(run(cut, "started"))


@everything
def test_nothing_that_serves_stops_before_its_replacement_was_tried(model: Model) -> None:
    for state in ("present", "started"):
        actions = [(a.verb, a.target) for a in plan(wanted(t.cast(State, state)), look_at(model)).actions]
        if ("stop", "current") in actions:
            assert ("try", "next") in actions[: actions.index(("stop", "current"))]


@everything
def test_what_served_is_kept_when_it_is_replaced(model: Model) -> None:
    """Unless it was never committed itself: then what served before it is kept."""
    current = model.get("c")
    if current and current.fingerprint != NEW and "c-superseded" not in model:
        assert "before" in identities(run(model, "started"))


@everything
def test_a_replacement_can_be_undone_wherever_it_was_cut_short(model: Model) -> None:
    current = model.get("c")
    if not current or not current.running or "c-superseded" in model:
        return
    for cut in steps(model, plan(wanted("started"), look_at(model))):
        undone = run(cut, "reverted")
        assert undone["c"].identity == "before"
        assert serves(undone, current.fingerprint)


@everything
def test_reverting_twice_changes_nothing_the_second_time(model: Model) -> None:
    assert not plan(wanted("reverted"), look_at(run(model, "reverted"))).changed


@everything
def test_absent_leaves_nothing_wherever_it_was_cut_short(model: Model) -> None:
    for cut in [model, *steps(model, plan(wanted("started"), look_at(model)))]:
        for again in steps(cut, plan(wanted("absent"), look_at(cut))):
            assert run(again, "absent") == {}
    assert not plan(wanted("absent"), look_at({})).changed


@everything
def test_present_never_takes_a_server_down(model: Model) -> None:
    current = model.get("c")
    after = run(model, "present").get("c")
    assert after is not None and after.fingerprint == NEW
    assert after.running == (current.running if current else False)


@everything
def test_stopped_stops_the_server_and_does_nothing_else(model: Model) -> None:
    stopped = {name: replace(box, running=box.running and name != "c") for name, box in model.items()}
    assert run(model, "stopped") == stopped


@everything
def test_committed_removes_only_what_is_not_the_server(model: Model) -> None:
    current = model.get("c")
    if "c-superseded" in model and not (current and current.running):
        return
    assert run(model, "committed") == {name: box for name, box in model.items() if name == "c"}


@everything
@pytest.mark.parametrize("state", STATES)
def test_the_difference_that_is_shown_is_the_one_that_is_made(model: Model, state: State) -> None:
    try:
        decided = plan(wanted(state), look_at(model))
    except VllmError:
        return
    for stage, shown in ((model, decided.before), (steps(model, decided)[-1], decided.after)):
        current = stage.get("c")
        assert shown["state"] == ("absent" if current is None else "started" if current.running else "present")
        assert shown.get("port") == (current.fingerprint if current else None)
        assert ("superseded" in shown) == ("c-superseded" in stage)


def test_after_a_failure_a_server_that_runs_is_not_given_up_for_an_older_one() -> None:
    there = observed(instance("current", NEW, True), instance("next"), instance("superseded"))
    assert set(recovery(there).instances) == {"next"}
    stopped = observed(instance("current", NEW), instance("next"), instance("superseded"))
    assert recovery(stopped) is stopped


# --- another server on the same port ---------------------------------------------------------------------------------

OTHER = Other("d", "other", True, conflict="it has port 8000")
STOPPED = replace(OTHER, running=False)


@pytest.mark.parametrize(
    ("state", "there", "words"),
    [
        pytest.param(
            "started",
            observed(others=(OTHER,)),
            [
                "create c",
                "try c (GPU access, limits and mounts, before anything stops)",
                "stop d (it has port 8000)",
                "wait for memory of all GPUs",
                "start c",
            ],
            id="it is stopped when the new one was tried",
        ),
        pytest.param("present", observed(others=(OTHER,)), ["create c"], id="what does not start stops nobody"),
        pytest.param("started", observed(others=(replace(OTHER, conflict=""),)), ["create c", "start c"], id="room"),
        pytest.param("started", observed(others=(STOPPED,)), ["create c", "start c"], id="it is stopped anyway"),
        pytest.param(
            "started",
            observed(others=(replace(OTHER, name="d-try", slot="trial"),)),
            ["create c", "start c"],
            id="the trial of another run has no port",
        ),
        pytest.param(
            "started",
            observed(instance("current", NEW, True), others=(OTHER,)),
            [],
            id="a server that runs as wanted stops nobody",
        ),
        pytest.param(
            "started",
            observed(instance("current", NEW), others=(OTHER,)),
            [
                "create c-next (it takes the place of d)",
                REPLACE[1],
                "stop d (it has port 8000)",
                *REPLACE[3:],
                "start c",
            ],
            id="a stopped server that does not know the other is made anew",
        ),
        pytest.param(
            "started",
            observed(instance("current", NEW, supersedes=("other",)), others=(OTHER,)),
            [
                "try c (GPU access, limits and mounts, before anything stops)",
                "stop d (it has port 8000)",
                "start c",
            ],
            id="cut short after the create",
        ),
        pytest.param(
            "started",
            observed(instance("current", OLD, True), others=(OTHER,)),
            [
                *REPLACE[:2],
                "stop d (it has port 8000)",
                "stop c",
                "wait for memory of all GPUs",
                *REPLACE[3:],
                "start c",
            ],
            id="both give way to the new one",
        ),
        pytest.param(
            "committed",
            observed(instance("current", NEW, True, supersedes=("other",)), others=(replace(STOPPED, wrote=("/k",)),)),
            ["delete file /k (it was written for d)", "remove d (another server took its place)"],
            id="the commit removes it, with its secrets",
        ),
        pytest.param(
            "committed",
            observed(
                instance("current", NEW, True, supersedes=("other",), wrote=("/k",)),
                others=(replace(STOPPED, wrote=("/k",)),),
            ),
            ["remove d (another server took its place)"],
            id="the commit leaves a secret that the new server reads",
        ),
        pytest.param(
            "committed", observed(instance("current", NEW, True), others=(STOPPED,)), [], id="a stranger is left alone"
        ),
        pytest.param(
            "committed",
            observed(instance("current", NEW, True, identity="me"), others=(replace(STOPPED, supersedes=("me",)),)),
            ["remove d (another server took its place)"],
            id="one that was to take the place of this one, and never did, goes",
        ),
        pytest.param(
            "started",
            observed(
                instance("current", NEW, True, identity="me", wrote=("/k",)),
                others=(replace(STOPPED, supersedes=("me",), wrote=("/k", "/d")),),
            ),
            [
                "delete file /d (it was written for d)",
                "remove d (a run that was cut short left it)",
            ],
            id="it goes where nothing else is to be done, too",
        ),
        pytest.param(
            "started",
            observed(
                instance("current", NEW, True),
                instance("next", OLD, supersedes=("other",)),
                others=(replace(STOPPED, conflict=""),),
            ),
            ["start d (it served before)", "remove c-next (a run that was cut short left it)"],
            id="it was stopped for a replacement that is not wanted any more",
        ),
        pytest.param(
            "started",
            observed(instance("current", NEW, True), instance("next", OLD, supersedes=("other",)), others=(STOPPED,)),
            ["remove c-next (a run that was cut short left it)"],
            id="it was stopped for such a replacement, and its port has been taken since",
        ),
        pytest.param(
            "started",
            observed(
                instance("current", NEW, True, supersedes=("other",)),
                instance("next", OLD, supersedes=("other",)),
                others=(replace(STOPPED, conflict=""),),
            ),
            ["remove c-next (a run that was cut short left it)"],
            id="it was stopped for the server that runs",
        ),
        pytest.param(
            "reverted",
            observed(instance("current", NEW, True, supersedes=("other",)), others=(STOPPED,)),
            [
                "stop c",
                "wait for memory of all GPUs",
                "start d (it served before)",
                "remove c (it did not become healthy)",
            ],
            id="it is started again",
        ),
        pytest.param(
            "reverted",
            observed(instance("current", NEW, supersedes=("other",)), instance("superseded", OLD), others=(STOPPED,)),
            [
                REVERT[0],
                "start d (it served before)",
                REVERT[1],
                REVERT[3],
            ],
            id="a server that did not run before is put back stopped",
        ),
        pytest.param(
            "reverted", observed(instance("current", NEW, True), others=(STOPPED,)), [], id="nothing to revert"
        ),
    ],
)
def test_another_server_in_the_way(state: State, there: Observed, words: list[str]) -> None:
    memory = Preflight(memory_of="of all GPUs" if "wait for memory of all GPUs" in words else "")
    assert plan(wanted(state), there, memory).words("c") == words


def test_a_server_that_has_to_make_room_is_stopped_for_the_reason_that_was_found() -> None:
    preflight = Preflight(gives_way={"d": "the GPUs have no room for both"})
    decided = plan(wanted("started"), observed(others=(replace(OTHER, conflict=""),)), preflight)
    assert "stop d (the GPUs have no room for both)" in decided.words("c") and decided.supersedes == ("other",)


def test_what_exists_is_handled_by_what_runs_it_and_what_is_made_by_what_is_wanted() -> None:
    """A unit takes the place of a container of the same server, and of another server that is a container too."""
    there = observed(instance("current", OLD, True, backend="container"), others=(replace(OTHER, backend="container"),))
    decided = plan(wanted("started", backend="systemd"), there)
    assert [(action.verb, action.target, action.backend) for action in decided.actions] == [
        ("create", "next", "systemd"),
        ("try", "next", "systemd"),
        ("stop_other", "d", "container"),
        ("stop", "current", "container"),
        ("rename", "current", "container"),
        ("rename", "next", "systemd"),
        ("start", "current", "systemd"),
    ]


def test_another_server_is_not_given_up_for_one_that_does_not_run() -> None:
    with pytest.raises(VllmError, match="^c is not running, so d, which served before it, is not removed"):
        plan(wanted("committed"), observed(instance("current", NEW, supersedes=("other",)), others=(STOPPED,)))


SERVED: Model = {"d": Box("other", OLD, True)}


@pytest.mark.parametrize("cut", range(6))
def test_a_switch_can_be_undone_wherever_it_was_cut_short(cut: int) -> None:
    stages = steps(SERVED, plan(wanted("started"), look_at(SERVED)))
    undone = run(stages[cut], "reverted")
    assert undone["d"].identity == "other" and undone["d"].running and running(undone) == 1


@pytest.mark.parametrize("cut", range(6))
def test_a_switch_that_was_cut_short_is_finished_by_the_next_run_or_undone_by_that_of_the_other(cut: int) -> None:
    stages = steps(SERVED, plan(wanted("started"), look_at(SERVED)))
    finished = run(run(stages[cut], "started"), "committed")
    assert serves(finished, NEW) and set(finished) == {"c"}
    undone = run(run(stages[cut], "started", OLD, "d"), "committed", OLD, "d")
    assert serves(undone, OLD, "d")
