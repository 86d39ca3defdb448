# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a transfer goes about it: slices, bandwidth, one writer at a time, and what a run without changes costs."""

from __future__ import annotations

import builtins
import email.utils
import fcntl
import os
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import weights
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import download, lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._models import (
    manifest as manifests,
    progress,
    repository,
    run as run_module,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.hub import Remote
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.manifest import Manifest
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.repository import Repository
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.run import run
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.selection import Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.transfer import Pace
from hub_rig import COMMIT, MODEL, SHARDS, WANTED, Hub, blobs, digest, parameters, tree

# --- slices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", [{}, {"verify": "full"}], ids=["fetch", "and verify everything"])
def test_slices_lose_nothing_and_their_result_is_that_of_one_run(
    said: dict[str, t.Any], cache: Path, tmp_path: Path
) -> None:
    with Hub() as hub:
        whole = run(parameters(tmp_path / "at-once", endpoint=hub.url), False)
        hub.requests.clear()
        # A slice ends after the first piece: it takes many of them.
        wish = parameters(cache, endpoint=hub.url, connections=1, slice=1e-9, **said)
        seen = run(wish, False)
        slices, percents = 1, []
        while not seen["finished"]:
            assert slices < 200
            percents.append(seen["progress"]["percent"])
            seen = run({**wish, "resume": seen["resume"], "slice": 0.05}, False)
            slices += 1
        assert len(hub.asked("api")) == 1, "what it consists of is asked for once"
    assert slices > 1
    assert percents == sorted(percents)
    assert tree(cache) == {name: hub.files[name] for name in WANTED}
    assert (seen["changed"], seen["fetched_bytes"]) == (True, whole["fetched_bytes"])
    assert (seen["actions"], seen["diff"]) == (whole["actions"], whole["diff"])


def test_a_slice_that_ends_inside_a_file_is_gone_on_with_there(cache: Path) -> None:
    with Hub() as hub:
        wish = parameters(cache, endpoint=hub.url, connections=1)
        cut = run({**wish, "bandwidth_limit": 100_000, "slice": 0.02}, False)
        while not any(name.endswith(".incomplete") for name in blobs(cache)):
            cut = run({**wish, "bandwidth_limit": 100_000, "slice": 0.02, "resume": cut["resume"]}, False)
        partial = next(content for name, content in blobs(cache).items() if name.endswith(".incomplete"))
        hub.requests.clear()
        assert run({**wish, "resume": cut["resume"]}, False)["finished"]
        ranges = [one.range for one in hub.asked(where="store")]
    assert f"bytes={len(partial)}-" in ranges


def test_another_run_waits_for_the_next_slice(cache: Path) -> None:
    with Hub() as hub:
        wish = parameters(cache, endpoint=hub.url, slice=1e-9)
        cut = run(wish, False)
        with pytest.raises(VllmError, match="is working on .*models--org--small.*next step is due") as caught:
            run({**wish, "slice": 0}, False)
        assert caught.value.reason == "locked"
        assert run({**wish, "slice": 0, "resume": cut["resume"]}, False)["finished"]


# --- one writer at a time -------------------------------------------------------------------------------------------


def test_a_file_that_another_client_of_the_hub_downloads_is_waited_for(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "LOCK_PATIENCE", 0.05)
    with Hub() as hub:
        name = digest(SHARDS[0], hub.files[SHARDS[0]])
        path = cache / "hub" / ".locks" / "models--org--small" / f"{name}.lock"
        path.parent.mkdir(parents=True)
        with path.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(VllmError, match=f"has been holding {path}") as caught:
                run(parameters(cache, endpoint=hub.url), False)
            assert caught.value.reason == "locked"
            assert name not in blobs(cache)
        run(parameters(cache, endpoint=hub.url), False)
    assert weights.find(MODEL, str(cache)).complete


def test_slices_do_not_wait_for_another_program_for_ever(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "PATIENCE", 2.0)
    with Hub() as hub:
        monkeypatch.setattr(repository, "_taken", lambda _descriptor: False)
        wish = parameters(cache, endpoint=hub.url, slice=0.1)
        resume: dict[str, t.Any] = {}
        with pytest.raises(VllmError, match="Nothing of org/small came") as caught:
            for _slice in range(200):
                resume = run({**wish, "resume": resume}, False)["resume"]
    assert (caught.value.reason, 0 < resume["idle"] < 2.0) == ("locked", True)


def test_what_the_other_client_brought_is_not_fetched_again(cache: Path) -> None:
    with Hub() as hub:
        name, content = digest(SHARDS[0], hub.files[SHARDS[0]]), hub.files[SHARDS[0]]
        place = cache / "hub" / "models--org--small" / "blobs"
        path = cache / "hub" / ".locks" / "models--org--small" / f"{name}.lock"
        for directory in (place, path.parent):
            directory.mkdir(parents=True)
        held = path.open("w")
        fcntl.flock(held, fcntl.LOCK_EX)
        running = threading.Thread(target=run, args=(parameters(cache, endpoint=hub.url, connections=1), False))
        running.start()
        while not hub.asked("config.json"):
            time.sleep(0.01)
        (place / name).write_bytes(content)
        held.close()
        running.join(30)
        assert hub.asked(SHARDS[0]) == []
    assert weights.find(MODEL, str(cache)).complete


def test_one_run_at_a_time_is_at_work_on_a_model(cache: Path) -> None:
    with Hub() as hub:
        name = Repository(str(cache), MODEL).lock_name
        words = r"Another run is working on .*models--org--small \(PID"
        with lock.alone(name, patience=0), pytest.raises(VllmError, match=words):
            run(parameters(cache, endpoint=hub.url), False)
        assert run(parameters(cache, endpoint=hub.url), False)["changed"]


# --- bandwidth and progress -----------------------------------------------------------------------------------------


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_bytes_pass_at_the_rate_that_was_allowed() -> None:
    clock = Clock()
    pace = Pace(1000, clock, clock.sleep)
    for _piece in range(10):
        pace.pass_on(500)
    assert clock.now == pytest.approx(5.0)
    clock.now += 60
    pace.pass_on(500)
    assert clock.now == pytest.approx(65.5), "what was not used is not saved up"


def test_without_a_limit_nothing_waits() -> None:
    clock = Clock()
    Pace(None, clock, clock.sleep).pass_on(1 << 40)
    assert clock.now == 0


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        pytest.param({}, "[a] m: checking the files on the host, 0:05", id="before the first slice"),
        pytest.param(
            {"progress": progress.state(0, 0, 0, 1)},
            "[a] m: verifying the files on the host, 0:05",
            id="nothing to fetch",
        ),
        pytest.param(
            {"progress": progress.state(30 << 30, 60 << 30, 10 << 30, 100)},
            "[a] m: fetched 50 % (30.0 GiB of 60.0 GiB), 102.4 MiB/s, 5:00 left, 0:05",
            id="halfway",
        ),
        pytest.param(
            {"progress": progress.state(1 << 20, 2 << 20, 0, 10)},
            "[a] m: fetched 50 % (1.0 MiB of 2.0 MiB), 0:05",
            id="nothing came in this slice",
        ),
    ],
)
def test_progress_is_told_in_percent_rate_and_time_left(seen: dict[str, t.Any], words: str) -> None:
    assert progress.line("[a] m", seen, 5) == words


def test_the_last_line_sums_the_transfer_up() -> None:
    done = {"fetched_bytes": 10 << 30, "elapsed": 100.0}
    assert progress.summary("[a] m", done) == "[a] m: complete after 1:40 (10.0 GiB fetched, 102.4 MiB/s)"
    assert progress.summary("[a] m", {"fetched_bytes": 0, "elapsed": 9.0}) == ""


NOW = 1_700_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, 0, id="nothing"),
        pytest.param({"Retry-After": "120"}, 120, id="seconds"),
        pytest.param({"Retry-After": email.utils.formatdate(NOW + 30, usegmt=True)}, 30, id="a date"),
        pytest.param({"Retry-After": email.utils.formatdate(NOW - 30, usegmt=True)}, 0, id="a date that is over"),
        pytest.param({"Retry-After": "soon"}, 0, id="no number"),
        pytest.param({"Retry-After": "9" * 30}, 0, id="a number without an end"),
        pytest.param({"RateLimit": '"api";r=0;t=55'}, 55, id="the Hub's own header"),
    ],
)
def test_a_server_says_how_long_to_wait(headers: dict[str, str], seconds: float) -> None:
    assert download.retry_after(headers.get, NOW) == seconds


# --- what a run without changes costs -------------------------------------------------------------------------------


def sparse(cache: Path, size: int) -> None:
    """A model of 24 files of that size that was verified, without one byte of data."""
    place = Repository(os.path.realpath(cache), MODEL)
    names = [f"model-{number:05d}-of-00024.safetensors" for number in range(1, 25)]
    files = tuple(Remote(name, size, f"{number:064x}", "sha256") for number, name in enumerate(names))
    proved = {}
    for file in files:
        path = Path(place.blob(file.digest))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            stream.truncate(size)
        place.make_link(COMMIT, file.path, file.digest)
        seen = repository.identity(str(path))
        assert seen
        proved[file.digest] = seen
    place.refer("main", COMMIT)
    manifests.remember(place, Manifest(Wish(MODEL), COMMIT, files, "https://huggingface.co", 0, proved, time.time()))


def counted(cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a run without changes asks the disk for what."""
    counts = {"stat": 0, "lstat": 0, "readlink": 0, "open": 0, "listdir": 0}
    opened: list[str] = []
    with monkeypatch.context() as patched:
        for name in counts:
            real = getattr(os, name)

            def counting(*told: t.Any, _name: str = name, _real: t.Any = real, **more: t.Any) -> t.Any:
                counts[_name] += 1
                opened.append(str(told[0])) if _name == "open" else None
                return _real(*told, **more)

            patched.setattr(os, name, counting)
        patched.setattr(builtins, "open", lambda *told, **_more: pytest.fail(f"{told[0]} was opened"))
        done = run(parameters(cache, endpoint="http://127.0.0.1:9"), False)
    assert (done["changed"], done["finished"], done["fetched_bytes"]) == (False, True, 0)
    assert [path for path in opened if "/blobs/" in path] == [], "not one byte of weights is read"
    return counts


def test_140_gb_that_are_whole_cost_what_a_megabyte_costs(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = cache / "small", cache / "large"
    sparse(small, 44_000)
    sparse(large, 6 * 10**9)
    assert sum(path.stat().st_size for path in large.rglob("blobs/*")) > 140 * 10**9
    found = counted(large, monkeypatch)
    assert found == counted(small, monkeypatch)
    assert found["stat"] <= 2 * 24
