# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was chosen for a server: kept in its record, recalled for the same request, and forgotten with the server."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import choices
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import Ledger
from docker_model import Client, manage, run, situation
from hub_rig import INDEX, SHARDS, repository
from memory_rig import H100, host
from switches import IN_EVERY_WAY

Result = dict[str, t.Any]
KEY: Result = {"model": "org/small", "context": None}
RECORD: Result = {
    "key": KEY,
    "request": "r1",
    "entry": {"server": {}},
    "reasons": ["because"],
    "arguments": {"engine": {"max_model_len": 4096}},
}
ASKED: Result = {"key": KEY, "request": "r1", "revision": None}
PARAMS: Result = {"model": "org/small", "huggingface_dir": None, "port": 8000, "choice": ASKED}


def look() -> Result:
    return host(H100, {**H100, "memory_total_mib": 95830})


@pytest.fixture(autouse=True)
def _state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(choices, "Ledger", lambda: Ledger(str(tmp_path / "state")))


@pytest.fixture
def kept(tmp_path: Path) -> Ledger:
    ledger = Ledger(str(tmp_path / "state"))
    choices.keep(ledger, "vllm-a", {"choice": {"record": RECORD}})
    return ledger


def recalled(**asked: t.Any) -> tuple[t.Any, Result]:
    params, told = choices.recalled("vllm-a", {**PARAMS, "choice": {**ASKED, **asked}}, look)
    assert told is not None
    return params, told


def test_a_server_without_a_choice_is_left_alone() -> None:
    params = {**PARAMS, "choice": None}
    assert choices.recalled("vllm-a", params, look) == (params, None)
    settled = {**PARAMS, "choice": {**ASKED, "record": RECORD}}
    assert choices.recalled("vllm-a", settled, look) == (settled, None)


@pytest.mark.usefixtures("kept")
def test_the_same_request_gets_the_rest_of_its_parameters() -> None:
    params, told = recalled()
    assert params == {**PARAMS, "engine": {"max_model_len": 4096}, "choice": None}
    assert told == {"choice": {key: value for key, value in RECORD.items() if key != "arguments"}}


@pytest.mark.usefixtures("kept")
def test_another_request_for_the_same_wish_gets_the_choice() -> None:
    params, told = recalled(request="r2")
    assert not params
    assert (told["unchosen"]["known"]["entry"], told["unchosen"]["files"]) == ({"server": {}}, None)


@pytest.mark.usefixtures("kept")
def test_another_wish_is_chosen_for_anew() -> None:
    params, told = recalled(key={**KEY, "context": 1})
    assert not params
    assert told["unchosen"] == {"known": None, "files": None, "gpus": 2, "memory_mib": 81559}


@pytest.mark.usefixtures("kept")
def test_who_starts_over_gets_a_new_choice() -> None:
    params, told = recalled(anew=True)
    assert not params
    assert told["unchosen"]["known"] is None


def test_a_host_whose_gpus_do_not_answer_tells_nothing_of_them() -> None:
    _params, told = choices.recalled("vllm-a", PARAMS, lambda: {"status": "no_driver", "gpus": []})
    assert told and (told["unchosen"]["gpus"], told["unchosen"]["memory_mib"]) == (None, None)


def written(path: Path, files: t.Mapping[str, bytes]) -> None:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content)


def test_a_model_in_a_directory_is_read(tmp_path: Path) -> None:
    tokenizer = json.dumps({"auto_map": {"AutoTokenizer": ["a", None]}, "chat_template": "x" * 1000})
    written(tmp_path / "m", {**repository(), "tokenizer_config.json": tokenizer.encode()})
    found = choices.read(str(tmp_path / "m"), None)
    assert found
    assert found["config"] == {"model_type": "small"}
    assert found["tokenizer"] == {"auto_map": {"AutoTokenizer": ["a", None]}}
    assert found["weights_bytes"] == sum(len(repository()[name]) for name in SHARDS)
    assert INDEX in found["files"] and found["revision"] == ""


def test_a_model_in_the_cache_is_read_with_its_commit(tmp_path: Path) -> None:
    folder = tmp_path / "hub" / "models--org--small"
    written(folder / "snapshots" / "abc123", repository())
    written(folder / "refs", {"main": b"abc123"})
    found = choices.read("org/small", str(tmp_path))
    assert found and found["revision"] == "abc123"
    assert choices.read("org/small", str(tmp_path), "v9") is None


def test_what_is_not_whole_is_not_there(tmp_path: Path) -> None:
    written(tmp_path / "m", {name: content for name, content in repository().items() if name != SHARDS[0]})
    assert choices.read(str(tmp_path / "m"), None) is None


@IN_EVERY_WAY
def test_a_run_keeps_what_was_chosen_until_the_server_goes(client: Client) -> None:
    def record() -> Result:
        ledger = Ledger(str(situation().record))
        return t.cast(Result, ledger.others(choices.KIND)[0].get("vllm-a") or {})

    run(check=True, choice={"record": RECORD})
    assert record() == {}
    run(choice={"record": RECORD})
    assert record()["entry"] == RECORD["entry"]
    run()
    assert record()["entry"] == RECORD["entry"]
    manage(state="absent")
    assert record() == {}
