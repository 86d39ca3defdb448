# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model goes with its folder alone, and only when no server uses it; the list says what is there."""

from __future__ import annotations

import os
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import Ledger, entry
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._models import manifest as manifests
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.run import run
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.survey import lines, survey
from hub_rig import COMMIT, MODEL, SHARDS, Hub, digest, parameters


@pytest.fixture(autouse=True)
def staged(cache: Path) -> t.Iterator[Hub]:
    with Hub() as hub:
        run(parameters(cache, endpoint=hub.url), False)
        (cache / "hub" / "models--org--other" / "blobs").mkdir(parents=True)
        (cache / "token").write_text("hf_mine")
        yield hub


def uses(cache: Path, **intent: t.Any) -> None:
    """A server of this user that was recorded."""
    Ledger().write(entry("chat", "server", intent={"huggingface_dir": str(cache), "model": MODEL, **intent}))


def absent(cache: Path, check: bool = False) -> dict[str, t.Any]:
    return run(parameters(cache, state="absent"), check)


def test_the_folder_of_the_model_goes_and_nothing_else(cache: Path, state: Path) -> None:
    planned = absent(cache, check=True)
    assert (cache / "hub" / "models--org--small").is_dir()
    done = absent(cache)
    assert (planned["changed"], planned["actions"], planned["diff"]) == (True, done["actions"], done["diff"])
    assert done["actions"] == [f"remove org/small from {cache} (586.3 KiB)"]
    assert sorted(path.name for path in (cache / "hub").iterdir()) == [".locks", "models--org--other"]
    assert list((cache / "hub" / ".locks").iterdir()) == []
    assert (cache / "token").exists()
    assert (manifests.everything(), (state / "gpufleet.vllm").exists()) == ([], False)
    assert absent(cache)["changed"] is False


@pytest.mark.parametrize(
    ("intent", "words", "reason"),
    [
        pytest.param({}, "server chat uses it", "conflicting-server", id="its model"),
        pytest.param(
            {"model": "x/y", "engine": {"speculative_config": {"model": MODEL}}},
            "server chat uses it",
            "conflicting-server",
            id="the model that drafts for it",
        ),
        pytest.param(
            {"model": "/m", "volumes": ["{cache}/hub/models--org--small:/m:ro"]},
            "another server uses",
            "permission-denied",
            id="a mount",
        ),
    ],
)
@pytest.mark.parametrize("check", [False, True], ids=["run", "check mode"])
def test_what_a_server_uses_stays(check: bool, intent: t.Any, words: str, reason: str, cache: Path) -> None:
    volumes = [volume.format(cache=cache) for volume in intent.get("volumes", ())]
    uses(cache, **{**intent, **({"volumes": volumes} if volumes else {})})
    with pytest.raises(VllmError) as caught:
        absent(cache, check)
    assert (words in str(caught.value), caught.value.reason) == (True, reason)
    assert (cache / "hub" / "models--org--small" / "refs" / "main").exists()


def test_the_same_model_in_another_cache_is_nothing_to_this_one(cache: Path, tmp_path: Path) -> None:
    uses(tmp_path / "another")
    assert absent(cache)["changed"]


def test_a_record_that_cannot_be_read_lets_nothing_go(cache: Path, state: Path) -> None:
    uses(cache)
    next(state.rglob("owned/*.json")).write_text("{")
    with pytest.raises(VllmError, match="Cannot read") as caught:
        absent(cache)
    assert caught.value.reason == "record-unreadable"


# --- the list -------------------------------------------------------------------------------------------------------


def test_the_list_tells_what_is_whole_how_large_and_used_by_whom(cache: Path) -> None:
    uses(cache)
    other, small = survey([str(cache)])
    assert (other["model"], other["whole"], other["revisions"], other["servers"]) == ("org/other", False, [], [])
    assert (small["model"], small["whole"], small["bytes"], small["servers"]) == (MODEL, True, 600_351, ["chat"])
    (revision,) = small["revisions"]
    assert (revision["revision"], revision["commit"], revision["verified"]) == ("main", COMMIT, True)
    first, second = lines([other, small])
    assert first == f"org/other: incomplete (no revision), in {cache}, 0 bytes, used by no server"
    assert second == (
        f"org/small at main: complete, verified since {revision['since']}, in {cache}, 586.3 KiB, used by chat"
    )


def test_the_list_tells_when_a_file_came_last(cache: Path) -> None:
    assert [row["age_days"] for row in survey([str(cache)])] == [0, 0]
    folder = cache / "hub" / "models--org--small"
    long_ago = time.time() - 90.5 * 86400
    for path in (folder, *(folder / "blobs").iterdir()):
        os.utime(path, (time.time(), long_ago))
    assert [row["age_days"] for row in survey([str(cache)])] == [0, 90]


def damaged(cache: Path, staged: Hub) -> str:
    os.truncate(blob(cache, staged), 1000)
    return "incomplete (model-00001-of-00002.safetensors: it has 1000 of 300078 bytes)"


def gone(cache: Path, staged: Hub) -> str:
    blob(cache, staged).unlink()
    return "incomplete (model-00001-of-00002.safetensors is missing)"


def touched(cache: Path, staged: Hub) -> str:
    os.utime(blob(cache, staged), (1, 1))
    return "complete since"


def blob(cache: Path, hub: Hub) -> Path:
    return cache / "hub/models--org--small/blobs" / digest(SHARDS[0], hub.files[SHARDS[0]])


@pytest.mark.parametrize("harm", [damaged, gone, touched])
def test_the_list_believes_the_disk_more_than_the_memory(
    harm: t.Callable[[Path, Hub], str], cache: Path, staged: Hub
) -> None:
    words = harm(cache, staged)
    row = survey([str(cache)])[1]
    assert f"org/small at main: {words}" in lines([row])[0]
    assert row["revisions"][0]["verified"] is False


def test_the_caches_that_are_known_are_looked_into(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert [row["model"] for row in survey([])] == ["org/other", MODEL]
    assert lines(survey([str(tmp_path / "nothing")])) == ["no models in the Hugging Face caches of this host"]
