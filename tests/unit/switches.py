# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Switches between two servers, for the tests of them: server b serves on port 8000; server a is wanted there."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
from docker_model import Client, Killed, manage, run
from systemd_model import EVERY_WAY


def run_b(check: bool = False, **said: t.Any) -> dict[str, t.Any]:
    return run(check, **{"name": "b", "model": "n", **said})


def labels(client: Client, name: str = "vllm-a") -> dict[str, str]:
    return t.cast("dict[str, str]", client.containers_by_name[name]["Config"]["Labels"])


def running(client: Client) -> set[str]:
    return {name for name, state in client.now.items() if state.endswith("running")}


# What there is, in words: the servers by name, and their volumes.
def found(client: Client) -> tuple[dict[str, str], list[str]]:
    return client.now, sorted(client.volumes_by_name)


# Tests that walk through a switch walk through it with containers, with units, and from one to the other.
IN_EVERY_WAY = pytest.mark.parametrize("client", EVERY_WAY, indirect=True)
FRAGILE_IN_EVERY_WAY = pytest.mark.parametrize("fragile", EVERY_WAY, indirect=True)

Steps = list[tuple[t.Callable[..., dict[str, t.Any]], dict[str, t.Any]]]
OLD_A = (run, {"port": 8001})

SWITCH = [
    ("create", "vllm-a"),
    ("create", "vllm-a-try"),
    ("start", "vllm-a-try"),
    ("stop", "vllm-b"),
    ("start", "vllm-a"),
]
# Server a itself runs elsewhere before, and gives way to its new version too.
BOTH = [
    ("create", "vllm-a-next"),
    ("create", "vllm-a-try"),
    ("start", "vllm-a-try"),
    ("stop", "vllm-b"),
    ("stop", "vllm-a"),
    ("rename", "vllm-a"),
    ("rename", "vllm-a-next"),
    ("start", "vllm-a"),
]
# It is there and stopped.
STOPPED = [call for call in BOTH if call != ("stop", "vllm-a")]

BEFORE: dict[str, Steps] = {
    "switch": [(run_b, {})],
    "two give way": [(run_b, {}), OLD_A],
    "switch to what was stopped": [OLD_A, (manage, {"state": "stopped"}), (run_b, {})],
}
CALLS = {"switch": SWITCH, "two give way": BOTH, "switch to what was stopped": STOPPED}
FAILURES = [pytest.param(kind, call, id=f"{kind}: {' '.join(call)}") for kind, calls in CALLS.items() for call in calls]


def prepared(kind: str) -> None:
    for make, said in BEFORE[kind]:
        make(**said)


KILLS = [
    pytest.param(kind, calls, id=f"{kind}: after {calls} calls")
    for kind in CALLS
    for calls in range(len(CALLS[kind]) + 2)
]


def killed(client: Client, kind: str, calls: int) -> tuple[dict[str, str], list[str]]:
    """What there was before a switch that was killed after so many calls (the last number: not at all)."""
    prepared(kind)
    before = found(client)
    client.dies_after = len(client.calls) + calls
    try:
        run()
    except Killed:
        pass
    else:
        # The trial is cleared away with a call of its own.
        assert calls == len(CALLS[kind]) + 1
    client.dies_after = None
    return before


HALF = {"engine": {"gpu_memory_utilization": 0.5}}
MOST = {"engine": {"gpu_memory_utilization": 0.7}}
SOME = {"engine": {"gpu_memory_utilization": 0.2}}


ARCHITECTURE = {
    "layers_full": 32,
    "layers_sliding": 0,
    "sliding_window": 0,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "weights_gib": 15.0,
}


def cached(tmp_path: Path, **said: t.Any) -> dict[str, t.Any]:
    return {"huggingface_dir": str(tmp_path / "hf"), **said}


FETCH = "fetch weights m (while the old server serves)"
WITH_FETCH = [("create", "vllm-a-fetch"), ("start", "vllm-a-fetch"), *SWITCH]


def keyed(key: Path, secret: str) -> dict[str, str]:
    return {"api_key_file": str(key), "api_key": secret}


def files_of(key: Path) -> dict[str, str]:
    """What the directory of the key holds, by name."""
    return {path.name: path.read_text().strip() for path in key.parent.glob("*")}


FALLBACKS: list[dict[str, t.Any]] = [
    {"causes": ["mem-kv-too-small"], "change": {"engine": {"max_model_len": 4096}}, "because": "shorter"},
    {
        "causes": ["mem-free-below-budget", "mem-kv-too-small"],
        "change": {"engine": {"gpu_memory_utilization": 0.4}},
    },
    {"causes": ["crash"], "change": {"engine": {"enforce_eager": True}}},
]
