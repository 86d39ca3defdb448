# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A switch that was killed, whenever that was, is finished or undone by the next run."""

from __future__ import annotations

import contextlib
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from docker_model import NEW, Client, FailsOnce, Killed, installed, manage, run
from hypothesis import given, settings, strategies as st
from switches import FRAGILE_IN_EVERY_WAY, IN_EVERY_WAY, KILLS, STOPPED, SWITCH, found, killed, run_b, running
from systemd_model import CONTAINERS, UNITS, Systemd, installed_units

# --- when the run is killed -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "calls"), KILLS)
@IN_EVERY_WAY
def test_a_switch_that_was_killed_is_undone_by_a_revert(kind: str, calls: int, client: Client) -> None:
    before = killed(client, kind, calls)
    manage(state="reverted")
    assert client.now == before[0]
    assert manage(state="reverted")["changed"] is False


@pytest.mark.parametrize(("kind", "calls"), KILLS)
@IN_EVERY_WAY
def test_a_switch_that_was_killed_is_finished_by_the_next_run(kind: str, calls: int, client: Client) -> None:
    killed(client, kind, calls)
    run()
    assert running(client) == {"vllm-a"}
    assert run()["changed"] is False
    assert "vllm-b" in client.now
    manage(state="committed")
    assert set(client.now) == {"vllm-a"}


@pytest.mark.parametrize("calls", range(len(STOPPED) + 1))
def test_a_switch_back_that_was_killed_and_then_finished_can_still_be_undone(calls: int, client: Client) -> None:
    """To the very server that is there, stopped, and does not know the one that it replaces this time."""
    run()
    manage(state="stopped")
    run_b()
    before = found(client)
    client.dies_after = len(client.calls) + calls
    with pytest.raises(Killed):
        run()
    client.dies_after = None
    run()
    assert running(client) == {"vllm-a"}
    manage(state="reverted")
    assert found(client) == before


@pytest.mark.parametrize(("kind", "calls"), KILLS)
@FRAGILE_IN_EVERY_WAY
def test_a_switch_that_was_killed_is_still_undone_when_the_next_one_fails(
    kind: str, calls: int, fragile: FailsOnce
) -> None:
    before = killed(fragile, kind, calls)
    is_done = running(fragile) == {"vllm-a"}
    fragile.failing = ("start", "vllm-a")
    with pytest.raises(VllmError):
        run(**NEW)
    # What had taken its place already goes on serving.
    assert is_done or {**fragile.now, **{k: v for k, v in before[0].items() if "running" in v}} == fragile.now
    manage(state="reverted")
    assert fragile.now == before[0]


@pytest.mark.parametrize("calls", range(len(SWITCH) + 2))
@IN_EVERY_WAY
def test_after_a_switch_was_killed_the_other_server_can_have_its_place_back(calls: int, client: Client) -> None:
    killed(client, "switch", calls)
    run_b()
    assert running(client) == {"vllm-b"}
    manage(container_name="vllm-b", state="committed")
    assert set(client.now) == {"vllm-b"}


@pytest.mark.parametrize("calls", range(4))
@IN_EVERY_WAY
def test_a_revert_that_was_killed_is_finished_by_the_next(calls: int, client: Client) -> None:
    run_b()
    run()
    client.dies_after = len(client.calls) + calls
    try:
        manage(state="reverted")
    except Killed:
        pass
    else:
        assert calls == 3
    client.dies_after = None
    manage(state="reverted")
    assert client.now == {"vllm-b": "id1 running"}


# --- a day of two operators -----------------------------------------------------------------------------------------

# Which server, what is asked for, how many calls the engine answers before the run is killed, and which one fails before.
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(("a", "b")),
        st.sampled_from(("started", "started", "present", "stopped", "committed", "reverted", "absent")),
        st.sampled_from(({}, NEW, {"port": 8001})),
        st.none() | st.integers(0, 12),
        st.none() | st.integers(0, 12),
    ),
    max_size=6,
)


class FailsAtMixin:
    """One call fails, counted from now."""

    calls: list[tuple[str, str]]
    failing: tuple[str, str] | None
    fails_after: int | None = None

    def _call(self, verb: str, name: str) -> None:
        failing = self.fails_after is not None and len(self.calls) >= self.fails_after
        if failing:
            self.fails_after, self.failing = None, (verb, name)
        try:
            super()._call(verb, name)  # type: ignore[misc]
        finally:
            self.failing = None


class FailsAt(FailsAtMixin, Client):
    """Of an engine."""


class UnitsFailAt(FailsAtMixin, Systemd):
    """Of systemd."""


@contextlib.contextmanager
def another_host(kind: str) -> t.Iterator[tuple[FailsAt, Path]]:
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as directory:
        if kind == CONTAINERS:
            made: t.Any = installed(FailsAt(), patched, Path(directory))
        else:
            made = installed_units(UnitsFailAt(), patched, Path(directory))
        yield made, Path(directory)


def ask(client: FailsAt, directory: Path, name: str, state: str, said: t.Any, kill: t.Any = None, fail: t.Any = None) -> bool:  # fmt: skip
    """Whether it was done."""
    client.dies_after = None if kill is None else len(client.calls) + kill
    client.fails_after = None if fail is None else len(client.calls) + fail
    secret = {"api_key_file": f"{directory}/keys/key", "api_key": f"CANARY-of-16-or-more-{name}"}
    try:
        run(name=name, state=state, **secret, **said)
    except (Killed, VllmError):
        return False
    finally:
        client.dies_after = client.fails_after = None
    return True


def key_in(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in (directory / "keys").glob("*")}


@pytest.mark.parametrize("kind", [CONTAINERS, UNITS])
@settings(max_examples=40)
@given(requests=REQUESTS)
def test_whatever_was_asked_for_and_went_wrong_the_next_run_serves_and_nothing_is_left(
    kind: str, requests: list[t.Any]
) -> None:
    with another_host(kind) as (client, directory):
        for request in requests:
            ask(client, directory, *request)
        for name in ("a", "b"):
            assert ask(client, directory, name, "started", {})
            assert f"vllm-{name}" in running(client)
            assert key_in(directory)["key"] == f"CANARY-of-16-or-more-{name}"
            assert ask(client, directory, name, "committed", {})
            assert [one for one in client.now if one.startswith(f"vllm-{name}")] == [f"vllm-{name}"]
            assert (
                run(name=name, api_key_file=f"{directory}/keys/key", api_key=f"CANARY-of-16-or-more-{name}")["changed"]
                is False
            )
        for name in ("a", "b"):
            assert ask(client, directory, name, "absent", {})
        assert found(client) == ({}, [])
        assert not (directory / "keys").exists()


@pytest.mark.parametrize("kind", [CONTAINERS, UNITS])
@settings(max_examples=40)
@given(
    requests=REQUESTS,
    name=st.sampled_from(("a", "b")),
    said=st.sampled_from(({}, NEW, {"port": 8001})),
    fail=st.integers(0, 12),
)
def test_whatever_was_asked_for_a_run_that_fails_leaves_running_what_ran(
    kind: str, requests: list[t.Any], name: str, said: dict[str, t.Any], fail: int
) -> None:
    with another_host(kind) as (client, directory):
        for request in requests:
            ask(client, directory, *request)
        for one in ("a", "b"):
            ask(client, directory, one, "committed", {})
        before, key = (
            {state for state in client.now.values() if state.endswith("running")},
            key_in(directory).get("key"),
        )
        if not ask(client, directory, name, "started", said, fail=fail):
            assert before <= {*client.now.values()}
            assert not before or key_in(directory).get("key") == key
