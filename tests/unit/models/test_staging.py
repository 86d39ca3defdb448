# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model comes to a host whole: from a Hub that misbehaves, into a cache that holds anything, or not at all."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import weights
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.run import run
from hub_rig import (
    COMMIT,
    CUT,
    INDEX,
    MODEL,
    MOVED,
    SHARDS,
    TOKEN,
    WANTED,
    Hub,
    blobs,
    digest,
    parameters,
    safetensors,
    tree,
)

FIRST, SECOND = SHARDS
Told = t.Sequence[str]


def stage(cache: Path, hub: Hub, check: bool = False, **said: t.Any) -> dict[str, t.Any]:
    return run(parameters(cache, endpoint=hub.url, connections=1, **said), check)


def refused(cache: Path, hub: Hub, check: bool = False, **said: t.Any) -> VllmError:
    with pytest.raises(VllmError) as caught:
        stage(cache, hub, check, **said)
    return caught.value


def is_whole(cache: Path, hub: Hub) -> bool:
    found = weights.find(MODEL, str(cache))
    return tree(cache) == {name: hub.files[name] for name in WANTED} and found.complete


def nothing_wrong(cache: Path, hub: Hub) -> bool:
    """Whether what stands at a final place is what was published, and nothing leads anywhere else."""
    published = {digest(name, content): content for name, content in hub.files.items()}
    there = {name: content for name, content in blobs(cache).items() if not name.endswith(".incomplete")}
    return all(published[name] == content for name, content in there.items())


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


# --- the good way ---------------------------------------------------------------------------------------------------


def test_only_what_a_server_reads_is_fetched_into_the_layout_of_the_cache(cache: Path) -> None:
    with Hub() as hub:
        planned = stage(cache, hub, check=True)
        assert not cache.exists()
        done = stage(cache, hub)
    folder = cache / "hub" / "models--org--small"
    assert is_whole(cache, hub)
    assert (folder / "refs" / "main").read_text() == COMMIT
    assert os.readlink(folder / "snapshots" / COMMIT / INDEX) == f"../../blobs/{digest(INDEX, hub.files[INDEX])}"
    assert set(blobs(cache)) == {digest(name, hub.files[name]) for name in WANTED}
    assert (planned["changed"], planned["actions"], planned["diff"]) == (True, done["actions"], done["diff"])
    assert done["actions"] == [
        f"fetch 7 files of org/small from {hub.url} (586.2 KiB)",
        f"link 7 files in snapshot {COMMIT} of org/small",
        f"have revision main of org/small stand for {COMMIT}",
    ]
    assert done["diff"]["before"][FIRST] == {"state": "absent"}
    assert done["diff"]["after"][FIRST]["digest"] == digest(FIRST, hub.files[FIRST])
    assert (done["diff"]["before"]["revision"], done["diff"]["after"]["revision"]) == (None, COMMIT)
    assert done["fetched_bytes"] == sum(len(hub.files[name]) for name in WANTED)
    assert done["model"]["left_out_bytes"] == sum(len(c) for n, c in hub.files.items() if n not in WANTED)


def test_what_is_there_is_not_asked_for_again(cache: Path) -> None:
    with Hub() as hub:
        first = stage(cache, hub)
        hub.requests.clear()
        for check in (False, True):
            again = stage(cache, hub, check)
            assert (again["changed"], again["actions"], again["diff"]) == (False, [], {"before": {}, "after": {}})
        assert hub.requests == []
    assert again["model"] == first["model"]


def test_other_files_are_fetched_when_they_are_asked_for(cache: Path) -> None:
    with Hub() as hub:
        stage(cache, hub, custom_code=True, include=["original/*", "README.md"])
    assert set(tree(cache)) == {*WANTED, "modeling_small.py", "original/consolidated.00.safetensors", "README.md"}
    link = cache / "hub/models--org--small/snapshots" / COMMIT / "original/consolidated.00.safetensors"
    assert os.readlink(link).startswith("../../../blobs/")


def test_a_mirror_that_lists_no_digests_is_asked_for_each(cache: Path) -> None:
    with Hub() as hub:
        hub.tells = False
        stage(cache, hub)
    assert is_whole(cache, hub)
    assert {one.path.rpartition("/")[2] for one in hub.requests if one.method == "HEAD"} == set(WANTED)


def test_a_token_goes_to_the_hub_and_to_nobody_that_it_redirects_to(cache: Path, token_file: Path) -> None:
    with Hub() as hub:
        hub.gated = True
        done = stage(cache, hub, hf_token_file=str(token_file))
        assert {one.authorization for one in hub.asked(where="hub")} == {f"Bearer {TOKEN}"}
        assert {one.authorization for one in hub.asked(where="store")} == {None}
    assert is_whole(cache, hub)
    assert TOKEN not in json.dumps(done)


def test_a_branch_is_followed_when_that_is_asked_for(cache: Path) -> None:
    with Hub() as hub:
        stage(cache, hub)
        hub.files["config.json"] = b'{"model_type": "moved"}'
        hub.commits.update({"main": MOVED, MOVED: MOVED})
        assert not stage(cache, hub)["changed"]
        hub.requests.clear()
        planned = stage(cache, hub, check=True, update=True)
        done = stage(cache, hub, update=True)
        assert not stage(cache, hub, update=True)["changed"]
        assert hub.asked(where="store") == []
    assert planned["actions"] == done["actions"]
    assert done["actions"][0].startswith("fetch 1 file of org/small")
    assert done["diff"]["before"]["revision"] == COMMIT
    assert weights.find(MODEL, str(cache)).config == {"model_type": "moved"}
    assert tree(cache)["config.json"] == b'{"model_type": "small"}', "the snapshot of before stays"


# --- faults that pass -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        pytest.param({"api": ["503", ""]}, [""], id="the list of files is not to be had for a moment"),
        pytest.param({INDEX: ["code:502", ""]}, [""], id="the index is not to be had for a moment"),
        pytest.param({INDEX: ["cut-small", ""]}, [""], id="the index is cut short"),
        pytest.param({FIRST: ["cut", ""]}, ["", f"bytes={CUT}-"], id="a connection breaks, and the file is resumed"),
        pytest.param(
            {FIRST: ["cut", "cut", ""]}, ["", f"bytes={CUT}-", f"bytes={2 * CUT}-"], id="a connection breaks twice"
        ),
        pytest.param({FIRST: ["stall", ""]}, ["", f"bytes={CUT}-"], id="a connection stalls, and the file is resumed"),
        pytest.param({FIRST: ["mute", ""]}, ["", ""], id="no answer comes"),
        pytest.param(
            {FIRST: ["changed", ""]}, ["", f"bytes={CUT}-"], id="another ETag in the middle starts the file anew"
        ),
        pytest.param({FIRST: ["corrupt", ""]}, ["", ""], id="what came is damaged, and is fetched anew"),
        pytest.param({FIRST: ["503", "code:500", ""]}, ["", "", ""], id="the store is not to be had for a moment"),
        pytest.param({FIRST: ["wait:7", ""]}, ["", ""], id="too many requests"),
        pytest.param({"config.json": ["corrupt", ""]}, [""], id="a small file is damaged"),
        pytest.param({"tokenizer.json": ["code:429", ""]}, [""], id="too many requests for a small file"),
    ],
)
def test_a_fault_that_passes_is_survived(faults: dict[str, Told], ranges: Told, cache: Path) -> None:
    with Hub(**faults) as hub:
        stage(cache, hub, timeout=0.3)
    assert is_whole(cache, hub)
    assert [one.range for one in hub.asked(FIRST, "store")] == list(ranges)
    assert not [name for name in blobs(cache) if name.endswith(".incomplete")]


def test_a_resumed_file_is_asked_for_only_as_long_as_it_is_the_same(cache: Path) -> None:
    with Hub(**{FIRST: ["changed", ""]}) as hub:
        stage(cache, hub)
        assert [one.if_range for one in hub.asked(FIRST, "store")] == ["", '"another"']
    assert is_whole(cache, hub)


def test_a_server_that_asks_for_a_pause_gets_it(cache: Path, pauses: list[float]) -> None:
    with Hub(**{FIRST: ["wait:7", ""], SECOND: ["503", ""]}) as hub:
        stage(cache, hub)
    assert [pause for pause in pauses if pause >= 1] == [7.0, 1]


def test_many_breaks_are_survived_as_long_as_something_comes(cache: Path) -> None:
    with Hub(**{FIRST: ["cut", "cut", "cut"]}) as hub:
        stage(cache, hub, attempts=2)
    assert is_whole(cache, hub)


# --- faults that stay -----------------------------------------------------------------------------------------------

GATED = {"gated": True}


@pytest.mark.parametrize(
    ("faults", "said", "reason", "words"),
    [
        pytest.param({"api": ["code:401/RepoNotFound"]}, {}, "secret-missing", "no token was sent", id="no such model"),
        pytest.param(
            {"api": ["code:401/GatedRepo"]}, {}, "secret-missing", "Accept its terms at", id="gated, no token"
        ),
        pytest.param(
            {"api": ["code:403/GatedRepo"]}, {"hf_token_file": "TOKEN"}, "secret-invalid", "may not read", id="gated"
        ),
        pytest.param(
            {FIRST: ["code:403"]}, {"hf_token_file": "TOKEN"}, "secret-invalid", "let the token", id="a file is closed"
        ),
        pytest.param({}, {"model": "org/none"}, "download-failed", "no model org/none", id="404"),
        pytest.param({}, {"revision": "v9"}, "download-failed", "no revision v9", id="no such revision"),
        pytest.param({FIRST: ["code:404/EntryNotFound"]}, {}, "download-failed", "no such file", id="a file is gone"),
        pytest.param({"api": ["html"]}, {}, "download-failed", "not the list of files", id="a login page for a list"),
        pytest.param(
            {"api": ['json:{"sha": "a", "siblings": [{"rfilename": "../../etc/passwd"}]}']},
            {},
            "download-failed",
            "names no file below a directory",
            id="a list that leads out of the cache",
        ),
        pytest.param({FIRST: ["html"]}, {}, "download-failed", "an HTML page", id="a login page for a file"),
        pytest.param({FIRST: ["short"]}, {}, "download-failed", "is truncated", id="a file that is shorter"),
        pytest.param(
            {FIRST: ["corrupt"]}, {}, "download-failed", "not what was published", id="a file that is damaged"
        ),
        pytest.param({FIRST: ["mute"]}, {}, "download-failed", "no answer within 0.3 s", id="no answer at all"),
        pytest.param({FIRST: ["503"]}, {}, "download-failed", "Tried 3 times", id="a store that is down"),
        pytest.param(
            {"api": ["wait:7200"]},
            {},
            "download-failed",
            "It asks to wait 7200 s, longer than 120 s",
            id="429 for hours",
        ),
        pytest.param({"api": ["code:429"]}, {}, "download-failed", "Set hf_token_file", id="429 without a token"),
        pytest.param(
            {}, {"hf_token_file": "/none"}, "secret-missing", "hf_token_file /none", id="no file with a token"
        ),
        pytest.param({}, {"model": "../etc"}, "invalid-parameter", "model must be", id="a model that is a path"),
        pytest.param({}, {"revision": "../x"}, "invalid-parameter", "revision must be", id="a revision that is a path"),
        pytest.param({}, {"attempts": 0}, "invalid-parameter", "attempts must be at least 1; got 0", id="no attempt"),
        pytest.param({}, {"format": "gguf"}, "weights-incomplete", "no weights of the kind gguf", id="no such format"),
        pytest.param({}, {"offline": True}, "weights-incomplete", "offline is set", id="offline, and nothing there"),
    ],
)
def test_a_fault_that_stays_is_a_sentence_and_leaves_nothing_wrong(
    faults: dict[str, Told], said: dict[str, t.Any], reason: str, words: str, cache: Path, token_file: Path
) -> None:
    said = {key: str(token_file) if value == "TOKEN" else value for key, value in said.items()}
    with Hub(**faults) as hub:
        error = refused(cache, hub, timeout=0.3, **said)
    assert words in str(error)
    assert error.reason == reason
    assert TOKEN not in str(error)
    assert nothing_wrong(cache, hub)
    assert not weights.find(MODEL, str(cache)).complete
    with Hub() as hub:
        stage(cache, hub)
    assert is_whole(cache, hub)


def test_the_next_run_goes_on_inside_the_file(cache: Path) -> None:
    with Hub(**{FIRST: ["cut", "503"]}) as hub:
        refused(cache, hub)
        planned = None
        hub.faults.clear()
        hub.requests.clear()
        planned = stage(cache, hub, check=True)
        done = stage(cache, hub)
        assert [one.range for one in hub.asked(FIRST, "store")] == [f"bytes={CUT}-"]
        assert hub.asked("api") == [], "the commit that was begun is finished"
    assert is_whole(cache, hub)
    assert planned["actions"] == done["actions"]
    assert "of which 97.7 KiB are already on the host" in done["actions"][0]
    assert done["diff"]["before"][FIRST] == {"state": "partial", "bytes": CUT}


@pytest.mark.parametrize(
    ("changes", "ranges"),
    [
        pytest.param(lambda hub: hub.publish(), [""], id="another version was published"),
        pytest.param(
            lambda hub: hub.publish(hub.files[FIRST][:CUT] + hub.files[FIRST][CUT:][::-1]),
            [""],
            id="another version that begins as the first one does",
        ),
        pytest.param(lambda hub: None, [f"bytes={CUT}-"], id="nothing has changed"),
    ],
)
def test_what_a_run_left_of_a_file_is_never_glued_to_another_version_of_it(
    changes: t.Callable[[t.Any], None], ranges: list[str], cache: Path
) -> None:
    """What came is kept under the digest of the whole file, and a file is asked for by the one that it has now."""

    class Publisher(Hub):
        def publish(self, content: bytes = safetensors("newer")) -> None:
            self.files[FIRST] = content
            self.commits.update({"main": MOVED, MOVED: MOVED})

    with Publisher(**{FIRST: ["cut", "503"]}) as hub:
        refused(cache, hub)
        hub.faults.clear()
        hub.requests.clear()
        changes(hub)
        stage(cache, hub, update=True)
        assert [one.range for one in hub.asked(FIRST, "store")] == ranges
    assert blobs(cache)[digest(FIRST, hub.files[FIRST])] == hub.files[FIRST]
    assert weights.find(MODEL, str(cache)).complete


def test_what_a_run_left_of_a_file_that_the_source_has_mended_since_is_thrown_away(cache: Path) -> None:
    """The list says the same, and what came before was wrong: that shows when the file is whole, and it begins anew."""
    with Hub(**{FIRST: ["cut", "503"]}) as hub:
        right = hub.files[FIRST]
        hub.files[FIRST] = b"x" + right[1:]
        told = json.dumps({"id": MODEL, "sha": COMMIT, "siblings": siblings({**hub.files, FIRST: right})})
        hub.faults["api"] = [f"json:{told}"]
        refused(cache, hub)
        hub.files[FIRST] = right
        hub.faults.clear()
        hub.requests.clear()
        stage(cache, hub)
        assert [one.range for one in hub.asked(FIRST, "store")] == [f"bytes={CUT}-", ""]
    assert is_whole(cache, hub)


def siblings(files: t.Mapping[str, bytes]) -> list[dict[str, t.Any]]:
    """The list of files as the Hub gives it."""
    return [
        {"rfilename": name, "size": len(content), "lfs": {"sha256": digest(name, content)}}
        if name.endswith(".safetensors")
        else {"rfilename": name, "size": len(content), "blobId": digest(name, content)}
        for name, content in files.items()
        if not name.endswith(".bin")
    ]


@pytest.mark.parametrize(
    ("index", "words"),
    [
        pytest.param(
            {"weight_map": {"a": "model-00009-of-00009.safetensors"}}, "names model-00009", id="a file too many"
        ),
        pytest.param({"weight_map": {"a": "../x"}}, "names no files", id="a path"),
        pytest.param({}, "names no files", id="nothing"),
    ],
)
def test_a_repository_that_is_not_whole_is_refused_before_anything_is_fetched(
    index: t.Any, words: str, cache: Path
) -> None:
    with Hub() as hub:
        hub.files[INDEX] = json.dumps(index).encode()
        error = refused(cache, hub)
    assert (words in str(error), error.reason) == (True, "weights-incomplete")
    assert not cache.exists()


def test_weights_that_were_published_cut_short_are_told(cache: Path) -> None:
    with Hub() as hub:
        hub.files[FIRST] = hub.files[FIRST][:-1]
        error = refused(cache, hub)
    assert "as it was published, and no server can load it" in str(error)
    assert f"{FIRST}: it has" in str(error)


@pytest.mark.parametrize("check", [False, True], ids=["run", "check mode"])
def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(
    check: bool, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "free_bytes", lambda _path: 10 << 20)
    with Hub() as hub:
        error = refused(cache, hub, check, disk_reserve=10 << 20)
        assert hub.asked(where="store") == []
    assert str(error) == (
        f"Cannot fetch org/small into {cache}: 586.2 KiB are needed, 10.0 MiB are free there, and disk_reserve keeps "
        "10.0 MiB free. Free some space, choose a huggingface_dir on another file system, or lower disk_reserve."
    )
    assert error.reason == "disk-full"


def test_a_store_behind_the_hub_that_cannot_be_reached_is_named(cache: Path) -> None:
    with Hub() as hub:
        hub.store = "http://127.0.0.2:9"
        error = refused(cache, hub, attempts=1)
    assert f"/{FIRST}: nothing listens at 127.0.0.2:9." in str(error)


def test_a_token_is_not_sent_in_the_clear(cache: Path, token_file: Path) -> None:
    with pytest.raises(VllmError, match="not encrypted"):
        run(parameters(cache, endpoint="http://hub.example.com", hf_token_file=str(token_file)), False)


# --- what was there -------------------------------------------------------------------------------------------------


def forget(state: Path) -> None:
    """As if another tool had filled the cache."""
    for path in state.rglob("models--*.json"):
        path.unlink()


@pytest.mark.parametrize(
    "said", [{}, {"offline": True, "hf_token_file": "/none"}], ids=["online", "offline, where no token is read"]
)
def test_what_another_tool_fetched_is_verified_once_and_kept(said: dict[str, t.Any], cache: Path, state: Path) -> None:
    with Hub() as hub:
        stage(cache, hub)
        forget(state)
        hub.requests.clear()
        done = stage(cache, hub, **said)
        assert hub.asked(where="store") == []
        assert (done["changed"], done["actions"]) == (
            False,
            ["verify 7 files of org/small that are on the host (586.2 KiB)"],
        )
        assert stage(cache, hub, **said)["actions"] == []
        assert not hub.requests or not said


def blob_of(cache: Path, name: str, hub: Hub) -> Path:
    return cache / "hub" / "models--org--small" / "blobs" / digest(name, hub.files[name])


def flip(path: Path, hides: bool = False) -> None:
    """Change a byte; C(hides) leaves everything as it was that a look would show."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    with path.open("r+b") as stream:
        stream.write(content)
    if hides:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize(
    ("damage", "said", "changed", "whole"),
    [
        pytest.param(Path.unlink, {}, True, True, id="a blob is gone"),
        pytest.param(lambda path: os.truncate(path, 10), {}, True, True, id="a blob is cut short"),
        pytest.param(flip, {}, True, True, id="a blob was written to"),
        pytest.param(
            lambda path: flip(path, hides=True), {}, False, False, id="what no look shows is left to a full check"
        ),
        pytest.param(
            lambda path: flip(path, hides=True), {"verify": "full"}, True, True, id="a full check finds a byte"
        ),
        pytest.param(os.utime, {}, False, True, id="a blob that was touched is verified"),
        pytest.param(lambda path: None, {"verify": "full"}, False, True, id="a full check of what is right"),
    ],
)
def test_what_is_damaged_is_fetched_again_and_nothing_else(
    damage: t.Callable[[Path], None], said: dict[str, t.Any], changed: bool, whole: bool, cache: Path
) -> None:
    with Hub() as hub:
        stage(cache, hub)
        hub.requests.clear()
        damage(blob_of(cache, SECOND, hub))
        done = stage(cache, hub, **said)
        assert [one.path for one in hub.requests if SECOND not in one.path] == []
    assert done["changed"] is changed
    assert bool(done["fetched_bytes"]) is changed
    assert is_whole(cache, hub) is whole


def test_a_damaged_blob_stays_until_the_right_one_is_there(cache: Path) -> None:
    with Hub() as hub:
        stage(cache, hub)
        flip(blob_of(cache, FIRST, hub))
        hub.faults[FIRST] = ["503"]
        refused(cache, hub)
        assert blob_of(cache, FIRST, hub).exists()
        hub.faults.clear()
        assert stage(cache, hub)["changed"]
    assert is_whole(cache, hub)


def test_a_wrong_link_and_a_file_in_its_place_are_replaced(cache: Path) -> None:
    with Hub() as hub:
        stage(cache, hub)
        snapshot = cache / "hub/models--org--small/snapshots" / COMMIT
        for name, make in (
            ("config.json", lambda p: p.symlink_to("/etc/hostname")),
            (INDEX, lambda p: p.write_text("{}")),
        ):
            (snapshot / name).unlink()
            make(snapshot / name)
        done = stage(cache, hub)
    assert done["actions"] == [f"link 2 files in snapshot {COMMIT} of org/small"]
    assert is_whole(cache, hub)


@pytest.mark.parametrize("name", ["", "blobs", "snapshots", "refs"])
def test_a_folder_that_is_a_link_is_not_written_through(name: str, cache: Path, tmp_path: Path) -> None:
    place = cache / "hub" / "models--org--small" / name
    place.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere")
    with Hub() as hub:
        error = refused(cache, hub)
        assert hub.requests == []
    assert f"is a link to {tmp_path}/elsewhere" in str(error)
