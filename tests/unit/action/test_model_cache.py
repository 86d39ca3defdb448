# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin: what is shown while a model is fetched."""

from __future__ import annotations

import types
import typing as t

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible_collections.gpufleet.vllm.plugins.action import model_cache
from ansible_collections.gpufleet.vllm.plugins.module_utils._models import progress
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import _progress

Result = dict[str, t.Any]
GIB = 1 << 30


def cut(done: int, elapsed: float) -> Result:
    """A slice that brought a GiB in ten seconds."""
    state = progress.state(done * GIB, 60 * GIB, GIB, 10)
    return {"finished": False, "progress": state, "elapsed": elapsed, "resume": {"token": "t", "n": done}}


DONE: Result = {"finished": True, "changed": True, "fetched_bytes": 60 * GIB, "elapsed": 600.0}
QUICK: Result = {"finished": True, "changed": False, "fetched_bytes": 0, "elapsed": 0.2}


class Screen:
    """What Ansible's display would show."""

    columns = 100

    def __init__(self) -> None:
        self.lines: list[str] = []

    def display(self, text: str, **_how: bool) -> None:
        self.lines.append(text)


class Plugin(model_cache.ActionModule):
    """The plugin with a module that gives these results, one a call."""

    def __init__(self, results: list[Result], screen: Screen, check: bool = False) -> None:
        made = Task()
        made.args = {"model": "org/m\x1b[31m", "huggingface_dir": "/h"}
        made.check_mode = check
        connection = types.SimpleNamespace(has_native_async=False, _shell=types.SimpleNamespace(tmpdir=None))
        super().__init__(made, connection, None, DataLoader(), None, None)
        self._display = screen
        self.results, self.calls = list(results), t.cast("list[Result]", [])

    def _execute_module(self, **said: t.Any) -> Result:
        self.calls.append(said["module_args"])
        return dict(self.results.pop(0))


@pytest.fixture
def screen() -> Screen:
    return Screen()


HOSTS = {"inventory_hostname": "gb10-1", "ansible_play_batch": ["gb10-1", "gb10-2"]}


def test_every_ten_percent_is_a_line_and_the_transfer_is_summed_up(screen: Screen) -> None:
    plugin = Plugin([cut(1, 10), cut(2, 20), cut(30, 300), DONE], screen)
    result = plugin.run(None, HOSTS)
    assert screen.lines == [
        "[gb10-1] org/m: fetched 1 % (1.0 GiB of 60.0 GiB), 102.4 MiB/s, 9:50 left, 0:10",
        "[gb10-1] org/m: fetched 50 % (30.0 GiB of 60.0 GiB), 102.4 MiB/s, 5:00 left, 5:00",
        "[gb10-1] org/m: complete after 10:00 (60.0 GiB fetched, 102.4 MiB/s)",
    ]
    assert (result["changed"], result["fetched_bytes"], "finished" in result) == (True, 60 * GIB, False)
    assert [call["resume"].get("n") for call in plugin.calls] == [None, 1, 2, 30]
    assert {call["slice"] for call in plugin.calls} == {_progress.PLAIN_SLICE}


def test_what_is_there_already_is_not_worth_a_line(screen: Screen) -> None:
    assert not Plugin([QUICK], screen).run(None, HOSTS)["changed"]
    assert screen.lines == []


def test_check_mode_is_one_call_without_slices(screen: Screen) -> None:
    plugin = Plugin([QUICK], screen, check=True)
    plugin.run(None, HOSTS)
    assert [call.get("slice") for call in plugin.calls] == [None]


def test_a_failure_is_returned_as_the_module_told_it(screen: Screen) -> None:
    failure = {"failed": True, "msg": "The disk is full.", "reason": "disk-full"}
    result = Plugin([cut(1, 10), failure], screen).run(None, HOSTS)
    assert (result["failed"], result["reason"]) == (True, "disk-full")
