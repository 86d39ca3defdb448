# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model in a plain directory: what it consists of, and how often that is read."""

from __future__ import annotations

import hashlib
import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import download
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.directory import described
from hub_rig import MODEL, SHARDS, WANTED, repository


@pytest.fixture(name="trained")
def _trained(tmp_path: Path) -> Path:
    """What a training wrote, with what no server reads."""
    directory = tmp_path / "trained"
    for name, content in repository().items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return directory


@pytest.fixture(name="hashed")
def _hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the files that were read."""
    sizes: list[int] = []
    real = download.Expected.digest_of
    monkeypatch.setattr(
        download.Expected, "digest_of", lambda self, stream: (sizes.append(self.size), real(self, stream))[1]
    )
    return sizes


def test_the_files_that_a_server_reads_are_told_with_their_sha256(trained: Path) -> None:
    manifest, paths = described({"model": MODEL, "directory": str(trained)})
    assert {file.path: file.digest for file in manifest.files} == {
        name: hashlib.sha256(repository()[name]).hexdigest() for name in WANTED
    }
    assert {Path(path).name for path in paths.values()} == set(WANTED)
    assert manifest.left_out == sum(len(content) for name, content in repository().items() if name not in WANTED) - len(
        repository()[".gitattributes"]
    )
    told = manifest.told()
    assert (told["model"], told["directory"], len(told["commit"])) == (MODEL, str(trained), 40)


def test_a_file_is_hashed_once_and_again_when_it_has_changed(trained: Path, hashed: list[int]) -> None:
    entry: dict[str, t.Any] = {"model": MODEL, "directory": str(trained)}
    planned, _paths = described(entry, remembers=False)
    first, _paths = described(entry)
    assert (planned, len(hashed)) == (first, 2 * len(WANTED))
    hashed.clear()
    again, _paths = described(entry)
    assert (again, hashed) == (first, [])
    (trained / SHARDS[0]).write_bytes(repository()[SHARDS[1]])
    newer, _paths = described(entry)
    assert hashed == [len(repository()[SHARDS[1]])]
    assert newer.commit != first.commit


def test_a_directory_of_links_is_read_where_they_lead(trained: Path, tmp_path: Path) -> None:
    """As a snapshot of a Hugging Face cache is."""
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    for name in WANTED:
        (snapshot / name).symlink_to(trained / name)
    manifest, paths = described({"model": MODEL, "directory": str(snapshot)})
    assert {file.path for file in manifest.files} == set(WANTED)
    assert {os.path.dirname(path) for path in paths.values()} == {str(trained)}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        pytest.param({"directory": "trained"}, "must be an absolute path", id="no absolute path"),
        pytest.param({"directory": "/nowhere"}, "of a directory on the controller", id="no directory"),
        pytest.param({"model": "../x", "directory": "/"}, "model must be the id", id="no name"),
        pytest.param({"directory": "EMPTY"}, "no weights", id="no model"),
    ],
)
def test_what_is_no_model_is_told(entry: dict[str, str], words: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    given = {"model": MODEL, **entry}
    given["directory"] = given["directory"].replace("EMPTY", str(tmp_path / "empty"))
    with pytest.raises(VllmError, match=words):
        described(given)
