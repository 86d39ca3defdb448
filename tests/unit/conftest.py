# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is tested on a Python older than a controller's; and, by being here, that tests import the helpers of this folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A machine that is busy makes examples slow, and says nothing about what is tested.
settings.register_profile("any_machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any_machine")

IS_CONTROLLER = sys.version_info >= (3, 11)
# What no managed host executes: folders, and what a test elsewhere imports that belongs to the controller.
CONTROLLER_FOLDERS = ("action", "filter", "lookup", "plugin_utils", "roles", "tools")
CONTROLLER_ONLY = (
    "plugins.action",
    "plugins.filter",
    "plugins.lookup",
    "plugins.plugin_utils",
    "ansible.plugins",
    "ansible.parsing",
)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    if IS_CONTROLLER:
        return None
    if collection_path.is_dir():
        return True if collection_path.name in CONTROLLER_FOLDERS else None
    text = collection_path.read_text("utf-8") if collection_path.suffix == ".py" else ""
    return True if any(name in text for name in CONTROLLER_ONLY) else None


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private authority, and a certificate of it for 127.0.0.1."""
    path = tmp_path_factory.mktemp("tls")
    (path / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    new = ["openssl", "req", "-newkey", "rsa:2048", "-nodes", "-subj"]
    commands = [
        [*new, "/CN=Private CA", "-x509", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"],
        [*new, "/CN=vllm", "-keyout", "server.key", "-out", "server.csr"],
        ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
         "-days", "2", "-extfile", "san", "-out", "server.pem"],
    ]  # fmt: skip
    for command in commands:
        subprocess.run(command, cwd=path, check=True, capture_output=True)
    return path


@pytest.fixture(autouse=True)
def _without_a_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing pulls the plug here: a test waits for no disk. What is synced is up to those that watch for it."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)
