# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Role, module and plugins.action of tiktoken_encodings together, run by ansible-playbook on small encodings."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.modules import tiktoken_encodings
from encodings_rig import CONTENT, NAMES, SHA256, Server

ROOT = Path(__file__).resolve().parents[3]
O200K, CL100K = (f"{name}.tiktoken" for name in NAMES)
PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  roles:
    - role: gpufleet.vllm.tiktoken_encodings
"""


@pytest.fixture(name="collections", scope="module")
def _collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the collection that knows the small encodings instead of the published ones."""
    path = tmp_path_factory.mktemp("collections")
    copy = path / "ansible_collections" / "gpufleet" / "vllm"
    for part in ("plugins", "roles", "meta"):
        shutil.copytree(ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "galaxy.yml", copy)
    known = ", ".join(f"{name!r}: Encoding({name!r}, {SHA256[name]!r}, {len(CONTENT[name])})" for name in NAMES)
    with (copy / "plugins" / "module_utils" / "_vllm" / "encodings.py").open("a") as file:
        file.write(f"\n\nKNOWN = {{{known}}}\n")
    return path


@pytest.fixture(name="play")
def _play(collections: Path, tmp_path: Path) -> t.Callable[..., dict[str, t.Any]]:
    """Run the role with ansible-playbook; the answer is the result of its last task."""

    def run(wish: dict[str, t.Any], *options: str) -> dict[str, t.Any]:
        (tmp_path / "ansible.cfg").touch()
        (tmp_path / "play.yml").write_text(PLAYBOOK)
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "local"),
            "ANSIBLE_REMOTE_TEMP": str(tmp_path / "remote"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        }
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "localhost,", "-v", *options]
        command += ["-e", json.dumps({"tiktoken_encodings": wish}), "play.yml"]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        lines = [line for line in done.stdout.splitlines() if " => {" in line]
        if not lines:
            raise AssertionError(done.stdout + done.stderr)
        result: dict[str, t.Any] = json.JSONDecoder().raw_decode(done.stdout, done.stdout.rindex(" => {") + 4)[0]
        result["stdout"] = done.stdout
        return result

    return run


def fill(directory: Path, **files: bytes) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (directory / f"{name}.tiktoken").write_bytes(files.get(name, CONTENT[name]))
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.glob("*")}


def test_files_of_the_controller_are_sent_when_they_are_lacking(
    play: t.Callable[..., dict[str, t.Any]], tmp_path: Path
) -> None:
    stock, directory = fill(tmp_path / "files" / "stock"), tmp_path / "host" / "encodings"
    # Relative to the playbook.
    wish = {"directory": str(directory), "controller_dir": "files/stock"}
    planned = play(wish, "--check", "--diff")
    assert not directory.exists()
    done = play(wish)
    assert planned["changed"]
    assert planned["actions"] == done["actions"]
    assert done["actions"][-1] == f"install {directory}/{CL100K} from {stock}/{CL100K}"
    assert [entry["source"] for entry in done["encodings"]] == [f"{stock}/{O200K}", f"{stock}/{CL100K}"]
    assert f'"{directory}/{O200K}": {{' in planned["stdout"]
    assert contents(directory) == contents(stock)

    again = play(wish)
    assert not again["changed"]
    # Only what is lacking has to be on the controller.
    (directory / O200K).unlink()
    (stock / CL100K).unlink()
    assert play(wish)["needed"] == ["o200k_base"]
    assert contents(directory) == {f"{name}.tiktoken": CONTENT[name] for name in NAMES}
    assert not list((tmp_path / "remote").glob("*/*.tiktoken"))


@pytest.mark.parametrize("options", [(), ("--check",)])
@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (
            {"controller_dir": "wrong"},
            "On the controller: Cannot install encodings from {tmp}/wrong. "
            "{tmp}/wrong/o200k_base.tiktoken is truncated: it has 5 of 200070 bytes. Put the published files there.",
        ),
        ({"controller_dir": "none"}, "{tmp}/none/cl100k_base.tiktoken is missing."),
        ({"controller_dir": "none", "src": "/none"}, "controller_dir and src are mutually exclusive: name one source."),
        ({"url": "http://none.invalid", "mirror": "x"}, "tiktoken_encodings.mirror. Supported parameters include: "),
        ({"encodings": ["p50k_base"]}, "must be one or more of: o200k_base, cl100k_base. Got no match for: p50k_base"),
    ],
)
def test_faults_are_told_before_the_host_is_touched(
    wish: dict[str, t.Any],
    words: str,
    options: tuple[str, ...],
    play: t.Callable[..., dict[str, t.Any]],
    tmp_path: Path,
) -> None:
    fill(tmp_path / "wrong", o200k_base=b"short")
    result = play({"directory": str(tmp_path / "host"), **wish}, *options)
    assert words.replace("{tmp}", str(tmp_path)) in result["msg"]
    assert not (tmp_path / "host").exists()


def test_a_required_key_is_named(play: t.Callable[..., dict[str, t.Any]]) -> None:
    assert "missing required arguments: directory found in tiktoken_encodings" in play({})["msg"]


def test_every_key_of_the_role_reaches_the_module(play: t.Callable[..., dict[str, t.Any]], tmp_path: Path) -> None:
    wish = {
        "directory": str(tmp_path / "host"),
        "encodings": ["cl100k_base"],
        "owner": str(os.geteuid()),
        "group": str(os.getegid()),
        "mode": "0600",
        "timeout": 5,
        "attempts": 1,
        "validate_certs": False,
    }
    with Server() as server:
        assert play({**wish, "url": server.url})["changed"]
    assert server.requests == [("cl100k_base", "")]
    assert contents(tmp_path / "host") == {CL100K: CONTENT["cl100k_base"]}
    assert oct((tmp_path / "host" / CL100K).stat().st_mode)[-4:] == "0600"


def test_role_and_module_offer_the_same() -> None:
    specs = yaml.safe_load((ROOT / "roles/tiktoken_encodings/meta/argument_specs.yml").read_text("utf-8"))
    role = specs["argument_specs"]["main"]["options"]["tiktoken_encodings"]["options"]
    module = yaml.safe_load(tiktoken_encodings.DOCUMENTATION)["options"]
    tasks = yaml.safe_load((ROOT / "roles/tiktoken_encodings/tasks/main.yml").read_text("utf-8"))
    passed = tasks[0]["gpufleet.vllm.tiktoken_encodings"]
    readme = (ROOT / "roles/tiktoken_encodings/README.md").read_text("utf-8")

    def without_words(options: dict[str, t.Any]) -> dict[str, t.Any]:
        return {name: {key: option[key] for key in option if key != "description"} for name, option in options.items()}

    assert without_words(role) == without_words(module)
    assert list(passed) == list(module)
    assert [name for name in module if f"`{name}`" not in readme] == []
