# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs against the stand-in for the Hub (tests/rig/hub.py): what a module would be given, and what a cache holds then."""

from __future__ import annotations

import json
import os
import sys
import typing as t
from pathlib import Path

from ansible_collections.gpufleet.vllm.plugins.module_utils._models.parameters import PARAMETERS

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "rig"))
from free_ports import free_ports  # noqa: E402
from hub import COMMIT, CUT, INDEX, MODEL, MOVED, SHARDS, TOKEN, WANTED, Hub, digest, repository, safetensors  # noqa: E402

__all__ = [
    "COMMIT",
    "CUT",
    "Hub",
    "INDEX",
    "MODEL",
    "MOVED",
    "SHARDS",
    "TOKEN",
    "WANTED",
    "digest",
    "free_ports",
    "repository",
    "safetensors",
]
COLLECTIONS = ROOT / ".ansible" / "collections"


def parameters(directory: Path, **said: t.Any) -> dict[str, t.Any]:
    """What AnsibleModule would hand over."""
    defaults = {key: option.get("default") for key, option in PARAMETERS.items()}
    quick = {"disk_reserve": 0, "timeout": 5, "attempts": 3}
    return {**defaults, "model": MODEL, "huggingface_dir": str(directory), **quick, **said}


CHILD = r"""
import json, os, sys

wish = json.loads(sys.argv[1])
sys.path.insert(0, wish["collections"])
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import ledger
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._models import run

ledger.SYSTEM_STATE = lock.DIRECTORY = wish["state"]
print(json.dumps(run.run(wish["parameters"], False)))
"""


def child_command(state: Path, wish: t.Mapping[str, t.Any]) -> list[str]:
    """A run in a process of its own."""
    told = {"collections": str(COLLECTIONS), "state": str(state), "parameters": wish}
    return [sys.executable, "-c", CHILD, json.dumps(told)]


def tree(directory: Path) -> dict[str, bytes]:
    """What a snapshot shows, by path."""
    snapshot = directory / "hub" / "models--org--small" / "snapshots" / COMMIT
    return {
        os.path.relpath(os.path.join(place, name), snapshot): (Path(place) / name).read_bytes()
        for place, _below, names in os.walk(snapshot)
        for name in names
    }


def blobs(directory: Path) -> dict[str, bytes]:
    """The blobs, whole and partial, by name."""
    found = directory / "hub" / "models--org--small" / "blobs"
    return {path.name: path.read_bytes() for path in found.iterdir()} if found.is_dir() else {}
