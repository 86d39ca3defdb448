# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Several runs in a row, each cut short or refused anywhere: of one server, and of several that want the same port."""

from __future__ import annotations

import contextlib
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import State, plan, recovery
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from hypothesis import configuration, example, given, settings, strategies as st
from slots_model import (
    ALL,
    NEW,
    NEWER,
    OLD,
    Box,
    Model,
    identities,
    look_at,
    run,
    running,
    serves,
    steps,
    told,
    wanted,
)

configuration.set_hypothesis_home_dir(Path(__file__).parents[3] / ".cache" / "hypothesis")

# --- two interruptions, and the way back ----------------------------------------------------------------------------


def broken_off(model: Model, state: State, fingerprint: str = NEW, name: str = "c") -> list[Model]:
    """What a run leaves that is killed at any of its steps, that has a step refused, or that ends well; each once."""
    decided = plan(wanted(state, fingerprint, name=name), look_at(model, name))
    stages = steps(model, decided, fingerprint, name)
    left = [*stages, *(refused(model, stage, name) for stage in stages[:-1])]
    return list({alike(model, one): one for one in left}.values())


def refused(before: Model, stage: Model, name: str) -> Model:
    """After the run has put back what it can, as it does when a step fails."""
    back = plan(wanted("reverted", name=name), recovery(look_at(stage, name)))
    end = steps(stage, back, name=name)[-1]
    made = name in end and not end[name].running and end[name].identity not in identities(before)
    return {one: box for one, box in end.items() if not (made and one == name)}


def alike(before: Model, model: Model) -> t.Hashable:
    """The same for what differs by the numbers of new containers alone."""
    known = identities(before)
    return tuple(
        (name, box.fingerprint, box.running, box.identity if box.identity in known else "", len(box.supersedes))
        for name, box in sorted(model.items())
    )


@pytest.mark.parametrize(
    "model",
    [one for one in ALL if "c" in one and one["c"].running and not {"c-try", "c-superseded"} & {*one}],
    ids=told,
)
def test_a_replacement_can_be_undone_though_two_runs_were_cut_short_or_refused(model: Model) -> None:
    before = model["c"]
    for fingerprint in (NEW, NEWER):
        for first in broken_off(model, "started", fingerprint):
            for state, again in (("started", NEW), ("started", NEWER), ("reverted", "")):
                for second in broken_off(first, t.cast("State", state), again):
                    undone = run(second, "reverted")
                    assert undone["c"].identity == "before" and serves(undone, before.fingerprint)
                    assert serves(run(second, "started", NEWER), NEWER)


SERVED = Box("other", OLD, True)


@pytest.mark.parametrize(
    "model",
    [{"d": SERVED}, {"d": SERVED, "c": Box("mine", OLD)}, {"d": SERVED, "c": Box("mine", NEW)}],
    ids=told,
)
@pytest.mark.parametrize("name", ["c", "d", "e"])
def test_a_switch_can_be_undone_though_two_runs_were_cut_short_or_refused(name: str, model: Model) -> None:
    """The second one is of the same server, of that which served before, or of a third, which stays where none served."""
    for first in broken_off(model, "started"):
        for state, again in (("started", OLD), ("started", NEW), ("started", NEWER), ("reverted", "")):
            for second in broken_off(first, t.cast("State", state), again, name):
                undone = run(run(second, "reverted", name=name), "reverted")
                assert running(undone) == 1
                assert undone["d"] == SERVED or (name == "e" and not running(first))
                assert serves(run(second, "started", NEWER), NEWER)


# --- any number of runs ---------------------------------------------------------------------------------------------

NAMES = ("c", "d", "e")
# Which server, what is asked for, and after how many steps the run is cut short, or not at all. What operators ask for
# most, and the way back, is drawn most.
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(NAMES),
        st.sampled_from(("started",) * 4 + ("reverted",) * 3 + ("committed",) * 2 + ("present", "stopped", "absent")),
        st.sampled_from((OLD, NEW, NEWER)),
        st.sampled_from((None,) * 8 + tuple(range(8))),
    ),
    max_size=10,
)


def asked(*requests: str) -> list[t.Any]:
    """Runs that end well, each as "NAME STATE" of the old version or "NAME STATE new"."""
    said = [request.split() for request in requests]
    return [(name, state, NEW if version else OLD, None) for name, state, *version in said]


# A server that took the place of an uncommitted one keeps it when that is undone.
OVERTAKEN = asked("c started", "c started new", "d started", "c reverted")
OVERTAKEN_BY_A_THIRD = asked("d started", "c started", "e started", "c reverted")
# As does one that took the place of a server whose replacement was killed after the stop.
OVERTAKEN_HALFWAY = [*asked("c started"), ("c", "started", NEW, 4), *asked("d started", "c reverted")]
# One that serves again is committed though a newer version of it was begun and never came into its place.
BEGUN = [*asked("c started", "d started", "c started"), ("d", "started", OLD, 1), *asked("c reverted")]


def after(requests: t.Iterable[t.Any]) -> Model:
    model: Model = {}
    for name, state, fingerprint, cut in requests:
        try:
            decided = plan(wanted(state, fingerprint, name=name), look_at(model, name))
        except VllmError:
            assert state == "committed"
            continue
        stages = steps(model, decided, fingerprint, name)
        model = stages[-1] if cut is None else stages[min(cut, len(stages) - 1)]
    return model


def serving(model: Model) -> set[str]:
    """What runs; a trial that a cut run left is no server."""
    return {box.identity for one, box in model.items() if box.running and not one.endswith("-try")}


def of_any_requests(test: t.Callable[[list[t.Any]], None]) -> t.Callable[[], None]:
    """Try a test with any requests, and with those that were found once."""
    for requests in (BEGUN, OVERTAKEN_HALFWAY, OVERTAKEN_BY_A_THIRD, OVERTAKEN):
        test = example(requests)(test)
    return settings(max_examples=300)(given(REQUESTS)(test))


@of_any_requests
def test_whatever_was_asked_for_and_cut_short_the_next_run_serves(requests: list[t.Any]) -> None:
    model = after(requests)
    for name in NAMES:
        assert serves(run(model, "started", OLD, name), OLD, name)
        assert not [one for one in run(model, "absent", name=name) if one.startswith(name)]
        with contextlib.suppress(VllmError):
            done = run(model, "committed", name=name)
            assert not plan(wanted("committed", name=name), look_at(done, name)).changed


@of_any_requests
def test_whatever_was_asked_for_a_failed_switch_ends_with_what_ran_before(requests: list[t.Any]) -> None:
    model = after(requests)
    for name in NAMES:
        with contextlib.suppress(VllmError):
            model = run(model, "committed", name=name)
    before = serving(model)
    for name in NAMES:
        for left in broken_off(model, "started", "v1:x", name):
            undone = run(left, "reverted", name=name)
            assert before <= serving(undone)
