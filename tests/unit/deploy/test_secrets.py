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
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import files
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ServerSpec, from_params

KEY = "a-key-of-16-or-more"


def spec(**said: t.Any) -> ServerSpec:
    return from_params({"name": "a", "model": "m", "image": "i", **said})


# --- secrets --------------------------------------------------------------------------------------------------------

KEYS = ("hf_token_file", "api_key_file", "env_file")


def secrets(
    tmp_path: Path,
    contents: t.Mapping[str, str | None],
    given: t.Mapping[str, str | None] | None = None,
    keeps: t.Collection[str] = (),
) -> Secrets:
    for key, content in contents.items():
        if content is not None:
            (tmp_path / key).write_text(content)
            (tmp_path / key).chmod(0o600)
    return Secrets(spec(**{key: f"{tmp_path}/{key}" for key in contents}), given or {}, keeps)


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


@pytest.mark.parametrize("content", [f"{KEY}\r\n", f"{KEY} \n", f" {KEY}\n", f"\n{KEY}", f"{KEY}\n\n", f"{KEY}\t"])
def test_a_key_that_server_and_clients_would_read_differently_is_told(content: str, tmp_path: Path) -> None:
    (found,) = secrets(tmp_path, {"api_key_file": content}).problems
    assert found.reason == "secret-invalid"
    assert found.message.startswith(f"The API key in {tmp_path}/api_key_file has spaces, blank lines or a Windows")
    assert KEY not in found.message


@pytest.mark.parametrize(("key", "is_told"), [("8000", True), ("x" * 15, True), ("x" * 16, False)])
def test_a_key_that_is_handed_over_is_none_that_can_be_guessed(key: str, is_told: bool, tmp_path: Path) -> None:
    found = secrets(tmp_path, {"api_key_file": None}, {"api_key_file": key}).problems
    assert [problem.reason for problem in found] == ["secret-invalid"] * is_told
    assert not is_told or f"has {len(key)} characters, and must have 16 or more" in found[0].message
    # One that the host has for longer goes on to serve.
    assert secrets(tmp_path, {"api_key_file": key}).problems == []


@pytest.mark.parametrize(
    ("there", "is_written"), [(None, True), ("", True), (" \n", True), ("hf_mine", False), ("hf_given", False)]
)
def test_the_token_of_another_operator_stays(there: str | None, is_written: bool, tmp_path: Path) -> None:
    found = secrets(tmp_path, {"hf_token_file": there}, {"hf_token_file": "hf_given"}, keeps=("hf_token_file",))
    assert found.stale == (("hf_token_file",) if is_written else ())
    assert found.problems == []


def test_a_token_restarts_nothing(tmp_path: Path) -> None:
    one = secrets(tmp_path, {"hf_token_file": "hf_one", "api_key_file": KEY})
    other = secrets(tmp_path, {"hf_token_file": "hf_one", "api_key_file": KEY}, {"hf_token_file": "hf_other"})
    assert other.stale == ("hf_token_file",)
    assert one.digests == other.digests and set(one.digests) == {"api_key_file"}


def test_two_secrets_never_share_a_file_by_another_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "real" / "s").write_text(KEY)
    for one, other in (("real/s", "link/s"), ("real/s", "real/s.superseded")):
        shared = Secrets(spec(hf_token_file=f"{tmp_path}/{one}", api_key_file=f"{tmp_path}/{other}"), {})
        assert "must be different files" in shared.problems[0].message
        assert shared.problems[0].reason == "secret-invalid"


def test_a_link_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text(KEY)
    (tmp_path / "key").symlink_to("agent")
    said = {"api_key_file": f"{tmp_path}/key"}
    (found,) = Secrets(spec(**said), {"api_key_file": f"another-{KEY}"}).problems
    assert found.message.startswith(
        f"the API key cannot be written to {tmp_path}/key: it is a link to {tmp_path}/agent."
    )
    # What it leads to is what was given: then there is nothing to write.
    assert Secrets(spec(**said), {"api_key_file": KEY}).problems == []


def test_owner_and_group_of_a_secret_stay(tmp_path: Path) -> None:
    handed = secrets(tmp_path, {"api_key_file": "old"}, {"api_key_file": KEY})
    path = tmp_path / "api_key_file"
    if os.geteuid() == 0:
        os.chown(path, 12345, 12346)
    before = path.stat()
    handed.write("api_key_file")
    for written in (path, tmp_path / "api_key_file.superseded"):
        assert (written.stat().st_uid, written.stat().st_gid) == (before.st_uid, before.st_gid)
        assert written.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_run_left_of_a_secret_goes_with_the_next_one(tmp_path: Path) -> None:
    for name in (".gpufleet-api_key_file-abcdefg1", ".gpufleet-other-abcdefg1", ".gpufleet-api_key_file-2-abcdefg1"):
        (tmp_path / name).write_text("CANARY")
    secrets(tmp_path, {"api_key_file": "old"}, {"api_key_file": KEY}).write("api_key_file")
    left = {name for name in os.listdir(tmp_path) if name.startswith(".gpufleet")}
    assert left == {".gpufleet-other-abcdefg1", ".gpufleet-api_key_file-2-abcdefg1"}
    (tmp_path / ".gpufleet-api_key_file-abcdefg2").write_text("CANARY")
    files.delete_file(f"{tmp_path}/api_key_file")
    assert not (tmp_path / ".gpufleet-api_key_file-abcdefg2").exists()


@pytest.mark.parametrize("content", [KEY, f"{KEY}\n"])
def test_a_secret_that_was_handed_over_and_others_can_read_is_closed_to_them(content: str, tmp_path: Path) -> None:
    path = tmp_path / "api_key_file"
    path.write_text(content)
    path.chmod(0o644)
    handed = Secrets(spec(api_key_file=str(path)), {"api_key_file": KEY})
    assert (handed.stale, handed.differing, handed.warnings) == (("api_key_file",), (), [])
    handed.write("api_key_file")
    assert (path.read_text(), path.stat().st_mode & 0o777) == (content, 0o600)
    assert os.listdir(tmp_path) == ["api_key_file"]
    assert Secrets(spec(api_key_file=str(path)), {"api_key_file": KEY}).stale == ()


@pytest.mark.parametrize(
    ("mode", "warned"), [(0o700, False), (0o755, False), (0o757, True), (0o777, True), (0o1777, False)]
)
def test_a_directory_where_others_may_put_a_secret_is_warned_of(mode: int, warned: bool, tmp_path: Path) -> None:
    found = secrets(tmp_path, {"api_key_file": KEY})
    tmp_path.chmod(mode)
    assert [f"may replace the files in {tmp_path}; run 'chmod go-w {tmp_path}'" in text for text in found.warnings] == (
        [True] * warned
    )


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
