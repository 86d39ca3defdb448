# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose an environment is: the entry and the seal, and nothing else; what is deleted, and what never is."""

from __future__ import annotations

import json
import shutil
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import Ledger, entry as container
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv import record as records
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.record import Entry, Record, entry, is_ours


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(str(tmp_path / "state"))


@pytest.fixture
def one(tmp_path: Path, record: Record) -> Entry:
    """An environment that is made, with a file in it."""
    found = record.write(entry(str(tmp_path / "venvs" / "x"), "d" * 12, made=(str(tmp_path / "venvs"),)))
    (tmp_path / "venvs").mkdir()
    records.make(found)
    (Path(found.path) / "bin").mkdir()
    return found


def test_what_is_written_is_read_again(record: Record, tmp_path: Path) -> None:
    written = [
        record.write(
            entry(str(tmp_path / name), digest, users=("a",), wish={"packages": ["vllm==0.26.0"]}, made=("/o",))
        )
        for name, digest in (("b", "2" * 12), ("a", "1" * 12))
    ]
    assert record.entries() == written[::-1]
    assert record.of("1" * 12, str(tmp_path)) == written[1:] and record.of("1" * 12, "/elsewhere") == []
    record.drop(written[0])
    assert record.entries() == written[1:]


def test_the_record_of_containers_and_that_of_environments_do_not_see_each_other(
    record: Record, tmp_path: Path
) -> None:
    ledger = Ledger(str(tmp_path / "state"))
    ledger.write(container("environment", "server"))
    record.write(entry("/venvs/x", "d" * 12))
    assert [found.server for found in ledger.known().entries] == ["environment"] and not ledger.known().damaged
    assert [found.path for found in record.entries()] == ["/venvs/x"]


DAMAGE: dict[str, t.Callable[[dict[str, t.Any]], t.Any]] = {
    "cut short": lambda content: json.dumps(content)[:40],
    "no path": lambda content: json.dumps({**content, "path": 1}),
    "a relative path": lambda content: json.dumps({**content, "path": "venvs/x"}),
    "users that are no list": lambda content: json.dumps({**content, "users": "a"}),
    "an unknown state": lambda content: json.dumps({**content, "state": "odd"}),
    "the entry of another": lambda content: json.dumps({**content, "digest": "e" * 12}),
    "a newer version": lambda content: json.dumps({**content, "version": 99}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_entry_is_told_and_nothing_is_done(
    record: Record, one: Entry, damage: t.Callable[[dict[str, t.Any]], str]
) -> None:
    (file,) = Path(record.ledger.directory).glob("environment.*.json")
    file.write_text(damage(json.loads(file.read_text())))
    with pytest.raises(VllmError, match="it is unknown which environments are this user's") as caught:
        record.entries()
    assert caught.value.reason == "record-unreadable" and str(file) in str(caught.value)


def test_an_entry_that_others_could_write_is_not_believed(record: Record, one: Entry) -> None:
    (file,) = Path(record.ledger.directory).glob("environment.*.json")
    file.chmod(0o666)
    with pytest.raises(VllmError, match="others may have written it"):
        record.entries()


def emptied(one: Entry) -> None:
    shutil.rmtree(Path(one.path) / "bin")
    (Path(one.own) / "seal").unlink()


def sealed_by_another(one: Entry) -> None:
    (Path(one.own) / "seal").write_text("0" * records.SEAL_BYTES)


def without_seal(one: Entry) -> None:
    (Path(one.own) / "seal").unlink()


def behind_a_link(one: Entry) -> None:
    Path(one.path).rename(f"{one.path}-moved")
    Path(one.path).symlink_to(f"{one.path}-moved")


def gone(one: Entry) -> None:
    shutil.rmtree(one.path)


def half_sealed(one: Entry) -> None:
    emptied(one)
    (Path(one.own) / "seal").write_text(one.seal[:7])


def untouched(one: Entry) -> None:
    del one


@pytest.mark.parametrize(
    ("change", "when_built", "when_building"),
    [
        (untouched, True, True),
        (sealed_by_another, False, False),
        (without_seal, False, False),
        (behind_a_link, False, False),
        (gone, False, False),
        (emptied, False, True),
        (half_sealed, False, True),
    ],
)
def test_whose_a_directory_is(
    one: Entry, change: t.Callable[[Entry], None], when_built: bool, when_building: bool
) -> None:
    change(one)
    assert is_ours(replace(one, state="built")) is when_built
    assert is_ours(one) is when_building
    before = sorted(Path(one.path).parent.rglob("*"))
    records.unmake(one)
    is_deleted = not Path(one.path).exists()
    assert is_deleted is (when_building or change is gone)
    if not is_deleted:
        assert sorted(Path(one.path).parent.rglob("*")) == before


def test_a_deletion_follows_no_link_and_leaves_the_directories_that_others_use(one: Entry, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").touch()
    (Path(one.path) / "lib64").symlink_to(theirs)
    (tmp_path / "venvs" / "of-somebody").mkdir()
    records.unmake(one)
    assert (theirs / "file").exists()
    assert [path.name for path in (tmp_path / "venvs").iterdir()] == ["of-somebody"]


def test_the_root_goes_with_the_last_environment_if_it_was_made_for_them(one: Entry, tmp_path: Path) -> None:
    records.unmake(replace(one, made=()))
    assert (tmp_path / "venvs").exists()
    records.make(one)
    records.unmake(one)
    assert not (tmp_path / "venvs").exists() and tmp_path.exists()
