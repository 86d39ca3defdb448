# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A user with a home, a record and a wheelhouse of his own, for whom the module really builds environments."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[3]
COLLECTIONS = ROOT / ".ansible" / "collections"
CALL = """
import sys
sys.path.insert(0, sys.argv[1])
from ansible.module_utils import basic
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import ledger
# Where root's record is; here it is the test's.
ledger.SYSTEM_STATE = sys.argv[3]
basic._ANSIBLE_ARGS = sys.argv[2].encode()
basic._ANSIBLE_PROFILE = "legacy"
from ansible_collections.gpufleet.vllm.plugins.modules import vllm_venv
vllm_venv.main()
"""
# What the machine that tests says about where packages come from, and by which way.
FOREIGN = ("PIP_", "UV_", "SSL_CERT_", "REQUESTS_CA_", "CURL_CA_", "http", "HTTP", "no_proxy", "NO_PROXY")


def _rig() -> t.Any:
    spec = importlib.util.spec_from_file_location("wheels_rig", ROOT / "tests" / "rig" / "wheels.py")
    if spec is None or spec.loader is None:
        raise AssertionError("tests/rig/wheels.py is gone")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


wheels = _rig()


@dataclass
class User:
    """Who calls the module, in a process of its own each time, as Ansible does."""

    home: Path
    environment: dict[str, str] = field(default_factory=dict)
    # Parameters of every call.
    always: dict[str, t.Any] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.home / "venvs"

    @property
    def wheelhouse(self) -> Path:
        return self.home / "wheels"

    @property
    def owned(self) -> Path:
        return self.home / "state" / "gpufleet.vllm" / "owned"

    def arguments(self, params: t.Mapping[str, t.Any], check: bool) -> list[str]:
        internal = {"_ansible_check_mode": check, "_ansible_remote_tmp": str(self.home)}
        wanted = {"root": str(self.root), "wheelhouse": str(self.wheelhouse), **self.always, **params}
        given = {key: value for key, value in wanted.items() if value is not None}
        document = json.dumps({"ANSIBLE_MODULE_ARGS": {**given, **internal}})
        return [sys.executable, "-c", CALL, str(COLLECTIONS), document, str(self.home / "state")]

    def start(self, **params: t.Any) -> subprocess.Popen[str]:
        """A run that is not waited for."""
        command = self.arguments(params, check=False)
        return subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, text=True)

    def run(self, check: bool = False, **params: t.Any) -> dict[str, t.Any]:
        done = subprocess.run(
            self.arguments(params, check), env=self.environment, capture_output=True, text=True, check=False
        )
        if not done.stdout:
            raise AssertionError(done.stderr)
        found: dict[str, t.Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def entries(self) -> list[dict[str, t.Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.owned.glob("environment.*.json"))]

    def directories(self) -> list[str]:
        return sorted(path.name for path in self.root.iterdir()) if self.root.exists() else []

    def python(self, result: t.Mapping[str, t.Any], program: str) -> str:
        """What a program prints in an environment."""
        command = [result["environment"]["python"], "-I", "-c", program]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
