# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run that is killed at any point leaves nothing wrong at a final place, and the next one goes on from there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import weights
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.run import run
from hub_rig import COMMIT, CUT, INDEX, MODEL, SHARDS, WANTED, Hub, blobs, child_command, digest, parameters, tree

# Where the child kills itself: a call of the operating system, and the how-manieth of it.
PATCH = r"""
import os, signal
name, number = {name!r}, {number}
real, count = getattr(os, name), [0]
def dying(*told, **more):
    count[0] += 1
    if count[0] == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*told, **more)
setattr(os, name, dying)
"""


def dies(command: list[str], patch: str = "") -> int:
    """The status of a run with that fault in it."""
    python, option, code, wish = command
    done = subprocess.run([python, option, patch + code, wish], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode


def is_right(cache: Path, hub: Hub) -> bool:
    published = {digest(name, content): content for name, content in hub.files.items()}
    whole = {name: content for name, content in blobs(cache).items() if not name.endswith(".incomplete")}
    links = [path for path in cache.rglob("snapshots/*/*") if not path.exists()]
    found = weights.find(MODEL, str(cache))
    return all(published[name] == content for name, content in whole.items()) and not links and not found.damaged


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param("mkdir", 3, id="while directories are made"),
        pytest.param("fchmod", 2, id="before a blob takes its place"),
        pytest.param("replace", 2, id="at the first blob"),
        pytest.param("replace", 8, id="between two blobs"),
        pytest.param("symlink", 1, id="before the first link"),
        pytest.param("symlink", 5, id="between two links"),
        pytest.param("replace", 22, id="while links are made"),
        pytest.param("replace", 23, id="before the reference"),
    ],
)
def test_a_run_that_is_killed_is_finished_by_the_next(name: str, number: int, cache: Path, state: Path) -> None:
    with Hub() as hub:
        wish = parameters(cache, endpoint=hub.url, connections=1)
        assert dies(child_command(state, wish), PATCH.format(name=name, number=number)) == -signal.SIGKILL
        assert is_right(cache, hub)
        assert not weights.find(MODEL, str(cache)).complete
        assert not list(cache.rglob("refs/main")), "nobody is led to a snapshot that is not whole"
        fetched = {one.path for one in hub.asked(where="store")}
        there = {name for name in SHARDS if digest(name, hub.files[name]) in blobs(cache)}
        hub.requests.clear()
        done = run(wish, False)
        again = {name for name in there if hub.asked(name, "store")}
    assert (done["finished"], again) == (True, set()), fetched
    assert tree(cache) == {name: hub.files[name] for name in WANTED}
    assert not run(wish, True)["changed"]


def test_a_run_that_is_killed_inside_a_file_goes_on_inside_it(cache: Path, state: Path) -> None:
    with Hub(**{SHARDS[0]: ["stall"]}) as hub:
        wish = parameters(cache, endpoint=hub.url, connections=1)
        with subprocess.Popen(child_command(state, wish), stdout=subprocess.DEVNULL) as child:
            partial = cache / "hub/models--org--small/blobs" / (digest(SHARDS[0], hub.files[SHARDS[0]]) + ".incomplete")
            _until(lambda: partial.exists() and partial.stat().st_size == CUT)
            child.send_signal(signal.SIGKILL)
        assert is_right(cache, hub)
        hub.faults.clear()
        hub.requests.clear()
        run(wish, False)
        assert [one.range for one in hub.asked(SHARDS[0], "store")] == [f"bytes={CUT}-"]
    assert tree(cache) == {name: hub.files[name] for name in WANTED}


def _until(holds: t.Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_what_a_killed_run_left_of_a_file_may_be_wrong(cache: Path) -> None:
    """A power cut leaves zeros."""
    with Hub() as hub:
        name = digest(SHARDS[0], hub.files[SHARDS[0]])
        partial = cache / "hub/models--org--small/blobs" / f"{name}.incomplete"
        partial.parent.mkdir(parents=True)
        partial.write_bytes(bytes(CUT))
        run(parameters(cache, endpoint=hub.url, attempts=1), False)
        assert [one.range for one in hub.asked(SHARDS[0], "store")] == [f"bytes={CUT}-", ""]
    assert tree(cache)[SHARDS[0]] == hub.files[SHARDS[0]]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"{", id="cut short"),
        pytest.param(b'{"version": 1, "kind": "model"}', id="without its keys"),
        pytest.param(b'{"version": 2, "kind": "model"}', id="of a newer version"),
    ],
)
def test_a_memory_that_cannot_be_read_is_made_anew(content: bytes, cache: Path, state: Path) -> None:
    with Hub() as hub:
        wish = parameters(cache, endpoint=hub.url)
        run(wish, False)
        memory = next(state.rglob("models--*.json"))
        assert json.loads(memory.read_bytes())["commit"] == COMMIT
        memory.write_bytes(content)
        hub.requests.clear()
        done = run(wish, False)
        assert (done["changed"], hub.asked(where="store")) == (False, [])
        assert json.loads(memory.read_bytes())["commit"] == COMMIT


def test_a_memory_that_others_can_write_proves_nothing(cache: Path, state: Path) -> None:
    with Hub() as hub:
        wish = parameters(cache, endpoint=hub.url)
        run(wish, False)
        os.chmod(next(state.rglob("models--*.json")), 0o666)
        assert run(wish, True)["actions"] == ["verify 7 files of org/small that are on the host (586.2 KiB)"]
    assert INDEX in tree(cache)
