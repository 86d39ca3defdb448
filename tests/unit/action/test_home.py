# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(~) in the parameters of a module is the home of the user whom Ansible connects as, whatever module it is."""

from __future__ import annotations

import importlib
import types
import typing as t

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task

Result = dict[str, t.Any]
PACKAGE = "ansible_collections.gpufleet.vllm.plugins.action"
ACTIONS = (
    "grpo_environment",
    "model_cache",
    "model_cache_image",
    "model_cache_info",
    "model_cache_peer",
    "tiktoken_encodings",
    "vllm_venv",
)
SAID: Result = {"directory": "~/a", "paths": ["~/b", "/c/~/d"], "one": {"two": "~/e"}, "count": 3, "text": "a ~/f"}


def given(name: str, user: str | None, said: Result) -> Result:
    """The parameters that the module gets."""
    module = importlib.import_module(f"{PACKAGE}.{name}")
    calls: list[Result] = []

    class Plugin(t.cast("type[t.Any]", module.ActionModule)):  # type: ignore[misc]
        def _execute_module(self, **more: t.Any) -> Result:
            calls.append(more["module_args"])
            return {"changed": False, "finished": True}

        def _get_remote_user(self) -> str:
            return user or ""

        def _make_tmp_path(self, remote_user: str | None = None) -> str:
            return "/tmp/task"

        def _remove_tmp_path(self, tmp_path: str | None, force: bool = False) -> None:
            pass

        def _remote_expand_user(self, path: str, sudoable: bool = True, pathsep: str | None = None) -> str:
            assert (path, sudoable) == ("~", False)
            return "/home/of-whom-ssh-logs-in-as"

    task = Task()
    task.args = said
    shell = types.SimpleNamespace(tmpdir=None)
    become = None if user is None else True
    connection = types.SimpleNamespace(has_native_async=False, _shell=shell, become=become)
    Plugin(task, connection, None, DataLoader(), None, None).run(None, {"inventory_hostname": "h100-1"})
    (call,) = calls
    return {key: value for key, value in call.items() if key not in ("slice", "resume")}


@pytest.mark.parametrize(
    ("user", "home"),
    [(None, "~"), ("ann", "~ann"), ("", "/home/of-whom-ssh-logs-in-as")],
    ids=["the module runs as him", "it becomes another", "and nobody said who he is"],
)
@pytest.mark.parametrize("name", ACTIONS)
def test_a_home_is_that_of_the_user_who_connects(name: str, user: str | None, home: str) -> None:
    assert given(name, user, SAID) == {
        "directory": f"{home}/a",
        "paths": [f"{home}/b", "/c/~/d"],
        "one": {"two": f"{home}/e"},
        "count": 3,
        "text": "a ~/f",
    }


def test_a_directory_of_the_controller_is_in_a_home_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/operator")
    said = given("tiktoken_encodings", "ann", {"directory": "~/a", "controller_dir": "~/b"})
    assert said == {"directory": "~ann/a", "controller_dir": "/home/operator/b"}
