# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Make the checkout importable as ansible_collections.gpufleet.vllm, and modules callable."""

from __future__ import annotations

import importlib
import json
import socketserver
import sys
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COLLECTIONS = ROOT / ".ansible" / "collections"

# The oldest Python of a controller; a managed host may have an older one, on which ansible-core's plugins do not load.
if sys.version_info >= (3, 11):
    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader([str(COLLECTIONS)])
else:
    sys.path.insert(0, str(COLLECTIONS))


@pytest.fixture(autouse=True, scope="session")
def _clients_may_give_up() -> t.Iterator[None]:
    """A client that hangs up is no error of a test's server, which would print it when the test is over already."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(socketserver.BaseServer, "handle_error", lambda *_about: None)
        yield


class ModuleRun(t.NamedTuple):
    """What a module printed, and its exit status."""

    result: dict[str, t.Any]
    status: int


@pytest.fixture
def run_module(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> t.Callable[..., ModuleRun]:
    """run_module("vllm_health", {"url": ...}, check=True, diff=True): call its main() in this process."""
    basic = importlib.import_module("ansible.module_utils.basic")

    def run(name: str, arguments: t.Mapping[str, t.Any], check: bool = False, diff: bool = False) -> ModuleRun:
        internal = {"_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_remote_tmp": "/tmp"}
        document = json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, **internal}})
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", document.encode())
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        module = importlib.import_module(f"ansible_collections.gpufleet.vllm.plugins.modules.{name}")
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            module.main()
        return ModuleRun(json.loads(capsys.readouterr().out), int(exit_info.value.code or 0))

    return run
