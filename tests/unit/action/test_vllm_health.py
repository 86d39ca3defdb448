# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin: what is shown while a server starts, to whom, and in how many calls of the module."""

from __future__ import annotations

import time
import types
import typing as t

import pytest
from ansible import context
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible.utils.context_objects import CLIArgs
from ansible_collections.gpufleet.vllm.plugins.action import vllm_health
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import _progress

Result = dict[str, t.Any]
FIRST: Result = {
    "finished": False,
    "phase": "init",
    "percent": None,
    "detail": "",
    "elapsed": 5.0,
    "resume": {"began": 1},
}
HALF: Result = {
    **FIRST,
    "phase": "load",
    "percent": 50,
    "detail": "2/4",
    "elapsed": 9.0,
    "resume": {"began": 1, "n": 2},
}
GOOD: Result = {
    "finished": True,
    "healthy": True,
    "phase": "ready",
    "elapsed": 12.0,
    "phases": [{"name": "load", "seconds": 4.0}],
    "changed": False,
}
BAD: Result = {
    "finished": True,
    "healthy": False,
    "failed": True,
    "msg": "Out of memory.",
    "phase": "load",
    "elapsed": 12.0,
}


class Screen:
    """What Ansible's display would show: whole lines, and lines that are rewritten."""

    columns = 100

    def __init__(self) -> None:
        self.shown: list[tuple[str, bool]] = []

    def display(self, text: str, screen_only: bool = False, newline: bool = True) -> None:
        self.shown.append((text, newline))

    @property
    def lines(self) -> list[str]:
        return [text for text, newline in self.shown if newline]


class Plugin(vllm_health.ActionModule):
    """The plugin with a module that gives these results, one a call."""

    def __init__(self, results: list[Result], screen: Screen, seconds: float = 0.0, **task: t.Any) -> None:
        arguments = {"container": "vllm-a", **task.pop("args", {})}
        made = Task()
        made.args = arguments
        made.check_mode = task.get("check_mode", False)
        made.async_val = task.get("async_val", 0)
        connection = types.SimpleNamespace(has_native_async=False, _shell=types.SimpleNamespace(tmpdir=None))
        super().__init__(made, connection, None, DataLoader(), None, None)
        self._display = screen
        self.results, self.seconds = list(results), seconds
        self.calls: list[dict[str, t.Any]] = []

    def _execute_module(self, **said: t.Any) -> Result:
        self.calls.append(said)
        time.sleep(self.seconds)
        return dict(self.results.pop(0))


def hosts(*names: str) -> dict[str, t.Any]:
    return {"inventory_hostname": names[0], "ansible_play_batch": list(names)}


@pytest.fixture
def screen() -> Screen:
    return Screen()


def test_each_change_is_a_line_and_the_start_is_summed_up(screen: Screen) -> None:
    plugin = Plugin([FIRST, FIRST, HALF, GOOD], screen, args={"expected_seconds": 60})
    result = plugin.run(None, hosts("gb10-1", "gb10-2"))
    assert screen.lines == [
        "[gb10-1] vllm-a: importing and configuring, 0:05 of about 1:00",
        "[gb10-1] vllm-a: loading weights 50 % (2/4), 0:09 of about 1:00",
        "[gb10-1] vllm-a: healthy after 0:12 (loading weights 4 s)",
    ]
    assert (result["healthy"], result["changed"], "finished" in result) == (True, False, False)


@pytest.mark.parametrize("said", [True, "true"], ids=["a boolean", "a text"])
def test_a_cold_start_is_told(said: t.Any, screen: Screen) -> None:
    plugin = Plugin([FIRST, GOOD], screen, args={"expected_seconds": 4, "cold_start": said})
    plugin.run(None, hosts("gb10-1", "gb10-2"))
    assert screen.lines[0] == (
        "[gb10-1] vllm-a: importing and configuring, 0:05 of about 0:04 (cold start: it compiles first)"
    )


def test_the_wait_goes_on_where_the_slice_before_ended(screen: Screen) -> None:
    plugin = Plugin([FIRST, HALF, GOOD], screen)
    plugin.run(None, hosts("a"))
    assert [call["module_args"]["resume"] for call in plugin.calls] == [{}, {"began": 1}, {"began": 1, "n": 2}]
    assert {call["module_args"]["slice"] for call in plugin.calls} == {_progress.PLAIN_SLICE}


def test_a_server_that_is_healthy_at_once_is_not_worth_a_line(screen: Screen) -> None:
    plugin = Plugin([{**GOOD, "elapsed": 0.3}], screen)
    assert plugin.run(None, hosts("a"))["healthy"]
    assert (len(plugin.calls), screen.shown) == (1, [])


def test_a_failure_is_returned_as_the_module_told_it(screen: Screen) -> None:
    result = Plugin([FIRST, BAD], screen).run(None, hosts("a"))
    assert (result["failed"], result["msg"], result["phase"]) == (True, "Out of memory.", "load")
    assert len(screen.lines) == 1


def test_a_host_that_is_lost_ends_the_wait(screen: Screen) -> None:
    result = Plugin([FIRST, {"unreachable": True, "msg": "gone"}], screen).run(None, hosts("a"))
    assert result["unreachable"]


@pytest.mark.parametrize(
    ("why", "task", "callback", "cli"),
    [
        ("check mode", {"check_mode": True}, "default", {}),
        ("nobody waits", {"async_val": 60}, "default", {}),
        ("another callback", {}, "ansible.posix.json", {}),
        ("another callback of core", {}, "minimal", {}),
        ("a single command", {}, "default", {"module_name": "gpufleet.vllm.vllm_health"}),
        ("somebody cuts slices himself", {"args": {"slice": 5}}, "default", {}),
    ],
)
def test_it_is_quiet(
    why: str,
    task: dict[str, t.Any],
    callback: str,
    cli: dict[str, t.Any],
    screen: Screen,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_progress.C.config, "get_config_value", lambda name, *a, **k: callback)
    monkeypatch.setattr(context, "CLIARGS", CLIArgs(cli))
    plugin = Plugin([GOOD], screen, **task)
    assert plugin.run(None, hosts("a"))["healthy"], why
    assert screen.shown == []
    assert plugin.calls[0]["module_args"].get("slice", 0) == task.get("args", {}).get("slice", 0)
    assert plugin.calls[0]["wrap_async"] is (why == "nobody waits")


def test_facts_of_the_play_are_handed_over(screen: Screen) -> None:
    facts = {"status": "ok", "gpus": []}
    plugin = Plugin([GOOD, GOOD], screen)
    plugin.run(None, {**hosts("a"), "ansible_facts": {"gpufleet": facts}})
    assert plugin.calls[0]["module_args"]["gpu_facts"] == facts
    plugin._task.args["gpu_facts"] = {"status": "mine"}
    plugin.run(None, {**hosts("a"), "ansible_facts": {"gpufleet": facts}})
    assert plugin.calls[1]["module_args"]["gpu_facts"] == {"status": "mine"}


# --- a terminal ------------------------------------------------------------------------------------------------------


def test_on_a_terminal_one_line_is_rewritten_also_while_the_module_is_away(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "IS_TERMINAL", True)
    plugin = Plugin([FIRST, GOOD], screen, seconds=1.3)
    plugin.run(None, hosts("a"))
    rewritten = [text for text, newline in screen.shown if not newline]
    assert all(text.startswith("\r\x1b[K") for text in rewritten)
    assert rewritten[0] == "\r\x1b[K[a] vllm-a: starting, 0:01"
    assert rewritten[1] == "\r\x1b[K[a] vllm-a: importing and configuring, 0:01"
    assert rewritten[-1] == "\r\x1b[K"
    assert screen.lines == ["[a] vllm-a: healthy after 0:12 (loading weights 4 s)"]
    assert {call["module_args"]["slice"] for call in plugin.calls} == {_progress.LIVE_SLICE}


def test_many_hosts_do_not_rewrite_each_other_s_line(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "IS_TERMINAL", True)
    Plugin([FIRST, GOOD], screen).run(None, hosts("a", "b"))
    assert all(newline for _text, newline in screen.shown)


def test_a_line_is_not_longer_than_the_terminal_is_wide(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_progress, "IS_TERMINAL", True)
    screen.columns = 20
    Plugin([FIRST, GOOD], screen, seconds=0.6).run(None, hosts("a"))
    assert max(len(text) for text, newline in screen.shown if not newline) <= 19 + len("\r\x1b[K")


def test_the_line_is_cleared_when_the_module_fails_with_an_exception(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_progress, "IS_TERMINAL", True)
    plugin = Plugin([], screen, seconds=1.2)
    with pytest.raises(IndexError):
        plugin.run(None, hosts("a"))
    assert screen.shown[-1] == ("\r\x1b[K", False)
