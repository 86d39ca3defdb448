# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compile caches on the controller: whose are brought to which host, and when."""

from __future__ import annotations

import hashlib
import types
import typing as t
from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.task import Task
from ansible_collections.gpufleet.vllm.plugins.action import vllm_server
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import _carried as carried

Result = dict[str, t.Any]

ARCHIVE: Result = {"archive": "/run/of/this/a", "sha256": "1", "size": 1, "settings": "s", "processor": "p"}
CACHES: Result = {"host": "canary", "owner": ["gpu", "root"], "files": 3, **ARCHIVE}
CREATES: Result = {"spec": {"name": "a", "model": "m", "image": "i"}, "actions": ["create vllm-a", "start vllm-a"]}
STARTS: Result = {**CREATES, "actions": ["create directory /opt/vllm", "start vllm-a"]}


class Plugin(vllm_server.ActionModule):
    """The plugin on a host with a connection, and a module that says what it was given."""

    def __init__(self, check_mode: bool = False, fails: bool = False, **said: t.Any) -> None:
        made = Task()
        made.args, made.check_mode, made.diff = said, check_mode, False
        shell = types.SimpleNamespace(tmpdir="/remote", join_path=lambda *parts: "/".join(parts))
        become = types.SimpleNamespace(get_option=lambda key: None)
        super().__init__(made, types.SimpleNamespace(_shell=shell, become=become), None, DataLoader(), None, None)
        self.fails, self.sent, self.given = fails, t.cast("list[tuple[str, str]]", []), t.cast(Result, {})

    def _execute_module(self, **said: t.Any) -> Result:
        self.given = said["module_args"]
        told = self.given.get("caches")
        return {"changed": True, "caches": {"from": told["host"], "note": ""} if told else None}

    def _get_remote_user(self) -> str:
        return "gpu"

    def _transfer_file(self, local_path: str, remote_path: str) -> None:
        if self.fails:
            raise AnsibleError("no space left on device")
        self.sent.append((local_path, remote_path))

    def _fixup_perms2(self, remote_paths: t.Any, remote_user: t.Any = None, execute: bool = True) -> None:
        assert {path for _local, path in self.sent} <= {*remote_paths}

    def _remove_tmp_path(self, tmp_path: str | None, force: bool = False) -> None:
        assert tmp_path == "/remote"


@pytest.mark.parametrize(
    ("said", "sent", "caches"),
    [
        pytest.param(
            {"caches": CACHES, "plan": CREATES}, True, {"from": "canary", "note": ""}, id="a server is created"
        ),
        pytest.param({"caches": {}, "plan": CREATES}, False, None, id="there are none"),
        pytest.param({"caches": CACHES, "plan": STARTS}, False, None, id="a server is only started"),
        pytest.param({"caches": CACHES, "plan": CREATES, "look": True}, False, None, id="a look"),
        pytest.param({"caches": CACHES, "plan": CREATES, "check_mode": True}, False, None, id="check mode"),
        pytest.param({"caches": CACHES, "plan": CREATES, "state": "committed"}, False, None, id="a commit"),
        pytest.param(
            {"caches": CACHES, "plan": CREATES, "failure_id": "cuda-oom"}, False, None, id="another try with a fallback"
        ),
        pytest.param(
            {"caches": {**CACHES, "owner": ["ann", ""]}, "plan": CREATES},
            False,
            {
                "from": None,
                "note": "canary belongs to another operator: it is deployed by ann, and this one by root as gpu.",
            },
            id="another user",
        ),
        pytest.param(
            {"caches": {"host": "canary", "msg": "It still\nwrites."}, "plan": CREATES},
            False,
            {"from": None, "note": "Those of canary could not be packed: It still\nwrites."},
            id="not packed",
        ),
        pytest.param(
            {"caches": CACHES, "plan": CREATES, "fails": True},
            False,
            {"from": None, "note": "Those of canary could not be brought to this host: no space left on device"},
            id="a disk of the host is full",
        ),
    ],
)
def test_caches_are_brought_to_a_host_that_can_start_with_them(said: Result, sent: bool, caches: Result | None) -> None:
    plugin = Plugin(**said)
    result = plugin.run(None, {"inventory_hostname": "h"})
    assert result["failed"] is False and result["caches"] == caches
    told = {**ARCHIVE, "host": "canary", "archive": "/remote/caches.tar.gz"}
    assert plugin.sent == ([(ARCHIVE["archive"], told["archive"])] if sent else [])
    assert plugin.given.get("caches", {}) == (told if sent else {})


@pytest.mark.parametrize(
    ("differs", "seen"),
    [
        pytest.param({}, "", id="it is whole"),
        pytest.param({"size": 9}, "arrived on the controller as 4 bytes", id="cut short"),
        pytest.param({"sha256": "0" * 64}, "The archive of canary, 4 bytes with sha256 000", id="torn"),
    ],
)
def test_an_archive_is_compared_on_the_controller(differs: Result, seen: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"code")
    packed = {"host": "canary", "size": 4, "sha256": hashlib.sha256(b"code").hexdigest(), **differs}
    if not seen:
        return carried.check(str(tmp_path / "a"), packed)
    with pytest.raises(VllmError, match=seen):
        carried.check(str(tmp_path / "a"), packed)
    return None


def test_an_archive_is_in_a_directory_of_this_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried.C, "DEFAULT_LOCAL_TMP", str(tmp_path), raising=False)
    directory = Path(carried.local_path()).parent
    assert (directory.parent, directory.stat().st_mode & 0o777) == (tmp_path, 0o700)
