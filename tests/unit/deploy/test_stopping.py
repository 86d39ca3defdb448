# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How much time a server gets to stop: one that never answered, or whose engine is dead, gets none."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import Action, Instance, Life
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import Ledger, now_text
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import Plan
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.result import gap_seconds
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.stopping import (
    DEAD,
    NEVER_ANSWERED,
    hurried,
    why_at_once,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.client import EngineError
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from docker_model import NEW, Client, FailsOnce, manage, run, situation
from switches import run_b, running
from vllm_logs import READY, START

DIED = "(EngineCore pid=1) ERROR 11-21 10:00:00 [x.py:1] EngineCore failed to start.\n"
QUIET: dict[str, t.Any] = {"engine": {"uvicorn_log_level": "error"}}


@pytest.mark.parametrize(
    ("life", "intent", "why"),
    [
        pytest.param(Life(START), {}, NEVER_ANSWERED, id="it was still starting"),
        pytest.param(Life(""), {}, NEVER_ANSWERED, id="it has written nothing yet"),
        pytest.param(Life(START + DIED), {}, DEAD, id="its start failed, and its process is there"),
        pytest.param(Life(START + READY), {}, "", id="it was ready once: it may be answering"),
        pytest.param(Life(START + READY + DIED), {}, DEAD, id="it was ready, and its engine died"),
        pytest.param(Life(START + READY + DIED, False), {}, DEAD, id="the end of its log says so"),
        pytest.param(Life("a line\n", False), {}, "", id="the beginning of a long log is missing"),
        pytest.param(None, {}, "", id="the log cannot be read"),
        pytest.param(Life(START), QUIET, "", id="its log would not tell that it is ready"),
        pytest.param(Life(START + DIED), QUIET, DEAD, id="nor whether it serves, but its engine is dead"),
    ],
)
def test_who_has_nothing_to_finish(life: Life | None, intent: dict[str, t.Any], why: str) -> None:
    assert why_at_once(life, intent) == why


@pytest.mark.parametrize(
    ("action", "words", "at_once"),
    [
        pytest.param(Action("stop", "current"), "stop c (it never answered: at once)", True, id="the server"),
        pytest.param(
            Action("stop_other", "d", "it has port 1"), "stop d (it has port 1; its engine is dead: at once)", True,
            id="another one",
        ),
        pytest.param(Action("stop", "trial"), "stop c-try", False, id="one without a reason"),
        pytest.param(Action("remove", "current"), "remove c", False, id="what is no stop"),
    ],
)  # fmt: skip
def test_a_plan_says_what_is_stopped_at_once(action: Action, words: str, at_once: bool) -> None:
    found = hurried(Plan((action,)), {"current": NEVER_ANSWERED, "d": DEAD, "trial": ""})
    assert found.words("c") == [words]
    assert found.actions[0].at_once is at_once


# --- on an engine ---------------------------------------------------------------------------------------------------


UNREADABLE = EngineError("configured logging driver does not support reading")
LOGS = [
    pytest.param(START, 0, id="never ready"),
    pytest.param(START + DIED, 0, id="its engine is dead"),
    pytest.param(START + READY, 30, id="it was ready"),
    pytest.param("line\n" * 5000, 30, id="a log that is longer than what is read"),
    pytest.param(UNREADABLE, 30, id="a log that cannot be read"),
]


@pytest.mark.parametrize(("log", "patience"), LOGS)
def test_a_failed_server_that_never_answered_is_stopped_at_once(
    log: str | Exception, patience: int, client: Client
) -> None:
    run()
    run(**NEW)
    client.log = log
    planned = manage(True, state="reverted")
    done = manage(state="reverted")
    assert client.patience["vllm-a"] == patience
    assert planned["actions"] == done["actions"] and planned["commands"] == done["commands"]
    hurry = [] if patience else ["-t", "0"]
    assert done["commands"][0] == " ".join(["docker", "stop", *hurry, "vllm-a"])
    assert running(client) == {"vllm-a"}


@pytest.mark.parametrize(("log", "patience"), LOGS)
@pytest.mark.parametrize("state", ["stopped", "absent"])
def test_so_is_one_that_is_only_stopped(log: str | Exception, patience: int, state: str, client: Client) -> None:
    run()
    client.log = log
    manage(state=state)
    assert client.patience == {"vllm-a": patience}


@pytest.mark.parametrize(("log", "patience"), LOGS)
def test_so_is_another_server_that_gives_way(log: str | Exception, patience: int, client: Client) -> None:
    run_b()
    client.log = log
    run()
    assert client.patience == {"vllm-b": patience}


def test_what_somebody_else_runs_gets_its_time(client: Client) -> None:
    """It may be no vLLM at all: nobody knows what its log says when it is ready."""
    client.put("vllm-a", {"Image": "theirs"}, running=True)
    client.log = START + DIED
    run(replace_unmanaged=True)
    assert client.patience == {"vllm-a": 30}


def test_when_it_was_told_to_stop_is_recorded(client: Client) -> None:
    """The engine only knows when it had stopped."""
    run()
    before = now_text()
    manage(state="stopped")
    (told,) = (one.stopping_since for one in Ledger(str(situation().record)).known().entries if one.purpose == "server")
    assert before <= told <= now_text()
    client.containers_by_name["vllm-a"]["State"].update(FinishedAt=told[:26] + "Z", StartedAt="2100-01-01T00:00:00Z")
    assert manage(True, state="stopped")["server"]["away_seconds"] > 0


def test_a_record_that_cannot_be_written_keeps_nobody_from_stopping(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run()

    def full(*_said: t.Any) -> t.NoReturn:
        raise VllmError("The disk is full.", "disk-full")

    monkeypatch.setattr(Ledger, "write", full)
    manage(state="stopped")
    assert client.now == {"vllm-a": "id1 exited"}


def test_what_it_logged_in_an_earlier_life_does_not_count(client: Client) -> None:
    """The engine stamps each line: this one was written a year before the server was started."""
    run()
    run(**NEW)
    client.containers_by_name["vllm-a"]["State"]["StartedAt"] = "2027-11-27T00:00:00Z"
    manage(state="reverted")
    assert client.patience["vllm-a"] == 0


def test_one_that_begins_to_serve_before_it_is_stopped_gets_its_time(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the plan and the stop an image is pulled, or weights are fetched."""
    run()
    client.log = START
    client.registry["vllm:2"] = "sha256:2"
    pull = client.pull

    def slow(*said: t.Any, **named: t.Any) -> t.Any:
        client.log = START + READY
        return pull(*said, **named)

    monkeypatch.setattr(client, "pull", slow)
    done = run(image="vllm:2")
    assert "stop vllm-a (it never answered: at once)" in done["actions"]
    assert client.patience == {"vllm-a": 30}


def test_a_way_back_in_the_same_run_waits_for_nobody_either(fragile: FailsOnce) -> None:
    """The engine says that the start failed, and the container runs: it is stopped for the server of before."""
    run()
    fragile.log = START
    fragile.failing, fragile.fails_late = ("rename", "vllm-a-next"), False
    with pytest.raises(VllmError):
        run(**NEW)
    assert set(fragile.patience.values()) == {0}
    assert running(fragile) == {"vllm-a"}


@pytest.mark.parametrize(
    ("running", "ended", "gap"),
    [
        pytest.param(True, None, 10.0, id="it served until the revert stopped it"),
        pytest.param(False, "2026-11-27T10:00:00.5Z", 30.0, id="it had ended before"),
        pytest.param(False, None, None, id="nobody knows when it ended"),
        pytest.param(False, "2026-11-27T11:00:00Z", None, id="a clock that was set back"),
    ],
)
def test_nobody_was_served_from_the_end_of_what_a_revert_takes_away(
    running: bool, ended: str | None, gap: float | None
) -> None:
    before = Instance("current", True, running, ended_at=ended)
    assert gap_seconds(before, "2026-11-27T10:00:20+00:00", "2026-11-27T10:00:30Z") == gap
    assert gap_seconds(None, "2026-11-27T10:00:20+00:00", "2026-11-27T10:00:30Z") is None
