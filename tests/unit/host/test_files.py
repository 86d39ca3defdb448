# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of ours are written whole, read within a limit, and deleted with what became empty."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.files import (
    delete_directory,
    delete_file,
    make_directory,
    read,
    read_text,
    write_whole,
)


def test_a_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    make_directory(f"{tmp_path}/a/b")
    make_directory(f"{tmp_path}/a/b")
    assert (tmp_path / "a" / "b").is_dir()


def test_a_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        VllmError, match=f"^Cannot create the directory {tmp_path}/file/x: Not a directory. Choose another"
    ):
        make_directory(f"{tmp_path}/file/x")


# --- deleting -------------------------------------------------------------------------------------------------------


def test_a_file_goes_with_its_directory_when_that_is_empty_then(tmp_path: Path) -> None:
    for name in ("d/one", "d/two"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    delete_file(f"{tmp_path}/d/one")
    assert os.listdir(tmp_path / "d") == ["two"]
    delete_file(f"{tmp_path}/d/two")
    assert not (tmp_path / "d").exists()
    delete_file(f"{tmp_path}/d/two")


def test_a_file_that_cannot_be_deleted_is_told(tmp_path: Path) -> None:
    with pytest.raises(VllmError, match=f"^Cannot delete {tmp_path}: Is a directory. Delete it yourself"):
        delete_file(str(tmp_path))


def test_a_directory_goes_with_all_it_holds(tmp_path: Path) -> None:
    (tmp_path / "d" / "e").mkdir(parents=True)
    delete_directory(f"{tmp_path}/d")
    assert os.listdir(tmp_path) == []
    delete_directory(f"{tmp_path}/d")


def test_a_link_to_a_directory_is_told_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "kept").touch()
    (tmp_path / "link").symlink_to(tmp_path / "d")
    with pytest.raises(VllmError) as caught:
        delete_directory(f"{tmp_path}/link")
    assert str(caught.value).startswith(
        f"Cannot delete {tmp_path}/link: Cannot call rmtree on a symbolic link at {tmp_path}/link."
    )
    assert (tmp_path / "d" / "kept").exists()


# --- reading and writing --------------------------------------------------------------------------------------------


def test_a_pipe_keeps_nobody_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read(f"{tmp_path}/pipe") is None


def test_a_file_is_read_within_a_limit_and_one_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345\xff")
    assert (read(f"{tmp_path}/f", 3), read_text(f"{tmp_path}/f"), read(f"{tmp_path}/g")) == (
        b"123",
        "12345\ufffd",
        None,
    )
    assert read_text(f"{tmp_path}/g") == "" and read(str(tmp_path)) is None


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_file_is_replaced_in_one_step_with_its_mode(mode: int, tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("old")
    write_whole(str(path), b"new", mode)
    assert (path.read_text(), path.stat().st_mode & 0o777, os.listdir(tmp_path)) == ("new", mode, ["f"])
