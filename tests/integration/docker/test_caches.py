# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server has compiled, packed from its volume and unpacked into that of another one, by a real engine."""

from __future__ import annotations

import io
import tarfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._caches import pack as packing
from ansible_collections.gpufleet.vllm.plugins.module_utils._caches.run import run as packs
from engine_host import READY, Host

# Compiles where nothing is compiled, and says so.
COMPILES = (
    "cd /var/cache/vllm; [ -e vllm/graph/a.so ] || "
    f"{{ echo compiling; mkdir -p vllm/graph triton/tmp.pid_1; echo code >vllm/graph/a.so; echo >triton/tmp.pid_1/a; }}; "
    f"umask 77; echo '{READY}'"
)


@pytest.fixture(name="said")
def _said(fetching_image: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, t.Any]:
    monkeypatch.setattr(packing, "STILL", 1.5)
    return {"image": fetching_image, "env": {"first": COMPILES}}


def packed(host: Host, path: Path) -> dict[str, t.Any]:
    asked = {"container_name": host.name, "container_id": None, "backend": "container", "docker_host": None}
    found = packs({**asked, "archive": str(path)}, dict)
    return {"host": "canary", **found}


def members(host: Host) -> dict[str, tuple[int, int, int, float]]:
    """What is in the volume of a server: mode, owner and time, by name."""
    stream, _stat = host.engine.get_archive(host.name, "/var/cache/vllm")
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        return {one.name: (one.mode & 0o777, one.uid, one.gid, one.mtime) for one in archive if one.isreg()}


def test_a_server_starts_with_what_another_one_has_compiled(
    host: Host, other: Host, said: dict[str, t.Any], tmp_path: Path
) -> None:
    host.run(**said)
    assert "compiling" in host.wait_for_log(READY)
    caches, before = packed(host, tmp_path / "a"), members(host)
    assert (caches["files"], caches["content_bytes"]) == (4, 5)
    result = other.run(**said, caches=caches)
    assert result["caches"] == {"from": "canary", "note": ""}
    assert "compiling" not in other.wait_for_log(READY)
    name = "vllm/vllm/graph/a.so"
    assert members(other) == {name: before[name]}
    assert result["server"]["cold_start"] is False
    # Only the server itself is left, and with it goes all.
    assert other.states == {other.name: "running"}
    other.manage("absent")
    assert other.volumes() == []


@pytest.mark.parametrize("wrong", ["sha256", "settings"])
def test_a_server_that_may_not_have_them_compiles_by_itself(
    wrong: str, host: Host, other: Host, said: dict[str, t.Any], tmp_path: Path
) -> None:
    host.run(**said)
    host.wait_for_log(READY)
    result = other.run(**said, caches={**packed(host, tmp_path / "a"), wrong: "0" * 64})
    assert result["caches"]["from"] is None and "canary" in result["caches"]["note"]
    assert "compiling" in other.wait_for_log(READY)


def test_an_archive_that_the_engine_refuses_in_the_middle_leaves_nothing(
    host: Host, other: Host, said: dict[str, t.Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.carried import Archive

    def cut(archive: Archive, tops: t.Collection[str]) -> t.Iterator[bytes]:
        yield b"".join(stream(archive, tops))[:1700]
        raise OSError("The archive is cut short.")

    host.run(**said)
    host.wait_for_log(READY)
    caches, stream = packed(host, tmp_path / "a"), Archive.stream
    monkeypatch.setattr(Archive, "stream", cut)
    result = other.run(**said, caches=caches)
    assert "The archive is cut short" in result["caches"]["note"]
    assert "compiling" in other.wait_for_log(READY)
    assert other.states == {other.name: "running"} and len(other.volumes()) == 1
