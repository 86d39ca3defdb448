# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import os
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.secrets import (
    Secrets,
    env_file_problems,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ServerSpec, from_params


def spec(**said: t.Any) -> ServerSpec:
    return from_params({"name": "a", "model": "m", "image": "i", **said})


# --- secrets --------------------------------------------------------------------------------------------------------

KEYS = ("hf_token_file", "api_key_file", "env_file")


def secrets(
    tmp_path: Path, files: t.Mapping[str, str | None], given: t.Mapping[str, str | None] | None = None
) -> Secrets:
    for key, content in files.items():
        if content is not None:
            (tmp_path / key).write_text(content)
            (tmp_path / key).chmod(0o600)
    return Secrets(spec(**{key: f"{tmp_path}/{key}" for key in files}), given or {})


@pytest.mark.parametrize(
    ("key", "content", "told"),
    [
        (
            "hf_token_file",
            None,
            "HF_TOKEN is missing: {path} does not exist on the host, is empty, or cannot be read. Export",
        ),
        (
            "hf_token_file",
            "",
            "HF_TOKEN is missing: {path} does not exist on the host, is empty, or cannot be read. Export",
        ),
        ("hf_token_file", " \n", "HF_TOKEN is missing"),
        ("hf_token_file", "hf_x\n", None),
        (
            "api_key_file",
            None,
            "the API key is missing: {path} does not exist on the host, is empty, or cannot be read.",
        ),
        ("api_key_file", "\n", "the API key is missing"),
        ("api_key_file", "sk-1", None),
        (
            "api_key_file",
            "CANARY two\n",
            "The API key for {path} contains a space, a newline or a non-ASCII character",
        ),
        ("api_key_file", "CANARY\ntwo\n", "The API key for {path} contains a space"),
        ("api_key_file", "CANÄRY", "The API key for {path} contains a space"),
        (
            "env_file",
            None,
            "the env file is missing: {path} does not exist on the host, is empty, or cannot be read. Write",
        ),
        ("env_file", "A=b\n", None),
        ("env_file", "CANARY\n", "Line 1 of {path} is not KEY=VALUE."),
    ],
)
def test_a_secret_that_is_no_good_is_told_and_not_repeated(
    key: str, content: str | None, told: str | None, tmp_path: Path
) -> None:
    found = secrets(tmp_path, {key: content}).problems
    assert len(found) == (told is not None)
    if told is not None:
        assert found[0].reason == ("secret-missing" if "is missing" in told else "secret-invalid")
        assert found[0].message.startswith(told.format(path=f"{tmp_path}/{key}"))
        assert "CAN" not in found[0].message


def test_a_secret_that_is_handed_over_need_not_be_there_yet(tmp_path: Path) -> None:
    handed = secrets(tmp_path, {"hf_token_file": None}, {"hf_token_file": " hf_x \n"})
    assert (handed.problems, handed.stale) == ([], ("hf_token_file",))
    handed.write("hf_token_file")
    assert (tmp_path / "hf_token_file").read_bytes() == b"hf_x\n"
    for there in ("hf_x\n", "hf_x"):
        assert secrets(tmp_path, {"hf_token_file": there}, {"hf_token_file": "hf_x"}).stale == ()


@pytest.mark.parametrize("given", [None, "", " \n"])
def test_an_empty_secret_is_not_handed_over(given: str | None, tmp_path: Path) -> None:
    assert secrets(tmp_path, {"hf_token_file": "hf_x"}, {"hf_token_file": given}).stale == ()
    assert secrets(tmp_path, {"api_key_file": None}, {"api_key_file": given}).problems != []


def test_a_secret_without_a_place_is_left_out(tmp_path: Path) -> None:
    assert secrets(tmp_path, {}, {"hf_token_file": "hf_x"}).given == {}


def test_digests_tell_what_will_be_read(tmp_path: Path) -> None:
    on_host = secrets(tmp_path, {"api_key_file": "one\n", "env_file": "A=b\n"})
    assert set(on_host.digests) == {"api_key_file", "env_file"}
    same = secrets(tmp_path, {"api_key_file": "one\n", "env_file": "A=b\n"}, {"api_key_file": "one"})
    other = secrets(tmp_path, {"api_key_file": "one\n", "env_file": "A=b\n"}, {"api_key_file": "two"})
    assert on_host.digests == same.digests != other.digests


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True), (0o666, True)]
)
def test_a_secret_that_others_can_read_is_warned_of(mode: int, warned: bool, tmp_path: Path) -> None:
    found = secrets(tmp_path, {"api_key_file": "k"})
    (tmp_path / "api_key_file").chmod(mode)
    assert bool(found.warnings) == warned


def test_a_secret_is_written_for_its_owner_alone_below_a_directory_for_its_owner_alone(tmp_path: Path) -> None:
    handed = Secrets(spec(api_key_file=f"{tmp_path}/d/key"), {"api_key_file": "k"})
    handed.write("api_key_file")
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "d", tmp_path / "d" / "key")] == [0o700, 0o600]


def test_a_secret_that_is_replaced_is_no_longer_readable_by_others(tmp_path: Path) -> None:
    handed = secrets(tmp_path, {"api_key_file": "old"}, {"api_key_file": "new"})
    (tmp_path / "api_key_file").chmod(0o644)
    handed.write("api_key_file")
    assert (tmp_path / "api_key_file").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("before", [None, "old\n"])
def test_what_a_file_held_can_be_put_back(before: str | None, tmp_path: Path) -> None:
    handed = secrets(tmp_path, {"api_key_file": before}, {"api_key_file": "new"})
    handed.write("api_key_file")
    handed.restore("api_key_file")
    path = tmp_path / "api_key_file"
    assert (path.read_text() if path.exists() else None) == before


def test_a_full_disk_leaves_the_old_secret_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handed = secrets(tmp_path, {"api_key_file": "old\n"}, {"api_key_file": "new"})

    def full(source: str, destination: str) -> t.NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(VllmError) as caught:
        handed.write("api_key_file")
    assert str(caught.value) == (
        f"Cannot write the API key to {tmp_path}/api_key_file.superseded: No space left on device. Free some space on that "
        "file system ('df -h' shows it), then run it again."
    )
    assert {name: (tmp_path / name).read_text() for name in os.listdir(tmp_path)} == {"api_key_file": "old\n"}


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"A=1\n_b2=\n\n  \n# comment\nC=a=b 'c' \xff\n", None),
        (b"A=1", None),
        (b"A=1\nexport B=2\n", 2),
        (b"  A=1\n", 1),
        (b"A =1\n", 1),
        (b"A.b=1\n", 1),
        (b"2A=1\n", 1),
        (b"=1\n", 1),
        (b"A=1\n\nB\n", 3),
        (b" # x\n", 1),
    ],
)
def test_an_env_file_that_the_shell_could_not_export_is_told_by_the_line(content: bytes, line: int | None) -> None:
    found = env_file_problems("/e", content)
    assert [problem.message.split(" is not ", maxsplit=1)[0] for problem in found] == (
        [f"Line {line} of /e"] if line else []
    )


def test_an_env_file_from_windows_is_told_with_a_command_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "env"
    path.write_bytes(b"A=1\r\nB=r\r\n")
    (told,) = env_file_problems(str(path), path.read_bytes())
    sentence, command = told.message.split(" Run: ")
    assert sentence == f"{path} has Windows line ends, which would get into the values."
    subprocess.run(["sh", "-c", command], check=True)
    assert path.read_bytes() == b"A=1\nB=r\n"
    assert env_file_problems(str(path), path.read_bytes()) == []
