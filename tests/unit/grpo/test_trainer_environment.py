# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The variables of a trainer, and the two files that hold them."""

from __future__ import annotations

import os
import subprocess
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo import environment, files

VALUES = {"VLLM_SERVER_HOST": "127.0.0.1", "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2", "NOTE": "two words"}


@pytest.mark.parametrize(
    ("model", "capability", "attention"),
    [
        ("openai/gpt-oss-20b", "9.0", "kernels-community/vllm-flash-attn3"),
        ("Qwen/Qwen3-8B", "9.0", "kernels-community/vllm-flash-attn3"),
        ("openai/gpt-oss-20b", "8.0", "eager"),
        ("/models/gpt_oss", None, "eager"),
        ("Qwen/Qwen3-8B", "8.0", "sdpa"),
    ],
)
def test_the_attention_that_exists(model: str, capability: str | None, attention: str) -> None:
    assert environment.attention(model, capability) == attention


def test_what_the_trainer_finds() -> None:
    found = environment.variables("127.0.0.1", 8001, "eager", ["GPU-1", "GPU-2"], {"NCCL_DEBUG": "INFO"})
    assert found == {
        "VLLM_SERVER_HOST": "127.0.0.1",
        "VLLM_SERVER_PORT": "8001",
        "ATTN_IMPLEMENTATION": "eager",
        "VLLM_HOST_IP": "127.0.0.1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
        "NCCL_SOCKET_IFNAME": "lo",
        "NCCL_DEBUG": "INFO",
    }


def test_without_gpus_nothing_is_said_of_them() -> None:
    assert set(environment.variables("127.0.0.1", 8000, "sdpa", [])) == {
        "VLLM_SERVER_HOST",
        "VLLM_SERVER_PORT",
        "ATTN_IMPLEMENTATION",
        "VLLM_HOST_IP",
    }


@pytest.mark.parametrize(
    ("own", "sentence"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0"}, "env.CUDA_VISIBLE_DEVICES follows from the server and the GPUs: set gpus"),
        ({"VLLM_SERVER_PORT": 1}, "env.VLLM_SERVER_PORT follows from the server"),
        ({"VLLM_USE_V1": "1"}, "env.VLLM_USE_V1 has no effect: the V1 engine is the only one. Leave it out."),
        ({"TORCH_CUDA_ARCH_LIST": "9.0"}, "env.TORCH_CUDA_ARCH_LIST has no effect: nothing is compiled"),
        (
            {"HF_TOKEN": "hf_abcdefghijklmnop"},
            "env.HF_TOKEN looks like a secret, and the file is readable by everybody",
        ),
        ({"A B": "1"}, "env.A B must be the name of a variable, such as NCCL_DEBUG; got 'A B'."),
        ({"NOTE": "one\ntwo"}, "env.NOTE must be one line of text without quotes, backslashes and $; got"),
        ({"NOTE": "$HOME"}, "env.NOTE must be one line of text without quotes, backslashes and $; got '$HOME'."),
    ],
)
def test_a_variable_that_is_refused(own: dict[str, t.Any], sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        environment.variables("127.0.0.1", 8000, "sdpa", [], own)
    assert str(caught.value).startswith(sentence)


def test_a_shell_reads_from_the_profile_what_the_other_file_says(tmp_path: Path) -> None:
    profile = tmp_path / "profile.sh"
    profile.write_text(environment.profile_text(VALUES, "/opt/my venv", str(profile)))
    command = f'. {profile}; env; echo "$PATH"'
    lines = subprocess.run(["sh", "-eu", "-c", command], capture_output=True, text=True, check=True).stdout.splitlines()
    written = [line for line in environment.environment_text(VALUES).splitlines() if not line.startswith("#")]
    assert set(written) <= set(lines)
    assert "VIRTUAL_ENV=/opt/my venv" in lines
    assert lines[-1].startswith("/opt/my venv/bin:")


def test_the_gpus_are_read_back() -> None:
    assert environment.gpus_of(environment.environment_text(VALUES)) == ("GPU-1", "GPU-2")
    assert environment.gpus_of("") == ()


# --- the files --------------------------------------------------------------------------------------------------------


def params(path: Path, **said: t.Any) -> dict[str, t.Any]:
    return {"path": str(path), "environment": VALUES, "venv": "/opt/venv", "state": "present", **said}


def test_files_are_written_once_and_removed_with_their_directory(tmp_path: Path) -> None:
    path = tmp_path / "grpo"
    planned = files.run(params(path), check_mode=True)
    assert planned["changed"] and not path.exists()
    done = files.run(params(path), check_mode=False)
    assert done == planned
    assert {one.name: one.stat().st_mode & 0o777 for one in path.iterdir()} == {
        "environment": 0o644,
        "profile.sh": 0o644,
    }
    assert not files.run(params(path), check_mode=False)["changed"]
    moved = files.run(params(path, venv="/opt/other"), check_mode=False)
    assert moved["actions"] == [f"write {path}/profile.sh"]
    gone = files.run(params(path, state="absent"), check_mode=False)
    assert gone["actions"] == [f"remove {path}/environment", f"remove {path}/profile.sh"]
    assert not path.exists()
    assert not files.run(params(path, state="absent"), check_mode=False)["changed"]


@pytest.mark.parametrize("state", ["present", "absent"])
@pytest.mark.parametrize("make", ["file", "link"])
def test_what_somebody_else_wrote_is_not_touched(tmp_path: Path, state: str, make: str) -> None:
    theirs = tmp_path / "environment"
    if make == "file":
        theirs.write_text("A=1\n")
    else:
        os.symlink("elsewhere", theirs)
    with pytest.raises(VllmError, match="was not written by this collection, so it was not touched") as caught:
        files.run(params(tmp_path, state=state), check_mode=False)
    assert caught.value.reason == "unmanaged"
    assert [one.name for one in tmp_path.iterdir()] == ["environment"]


@pytest.mark.parametrize("path", ["grpo", "/", "."])
def test_a_path_that_cannot_be(path: str) -> None:
    with pytest.raises(VllmError, match="path must be an absolute path"):
        files.run(params(Path(path)), check_mode=False)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(VllmError, match="Cannot write .*: Not a directory. Choose another directory"):
        files.run(params(tmp_path / "file" / "grpo"), check_mode=False)
