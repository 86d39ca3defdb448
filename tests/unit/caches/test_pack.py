# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a server's caches is packed, when, and from where."""

from __future__ import annotations

import io
import os
import tarfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._caches import pack as packing
from ansible_collections.gpufleet.vllm.plugins.module_utils._caches.pack import Found, Packed, is_finished, pack
from ansible_collections.gpufleet.vllm.plugins.module_utils._caches.run import run
from ansible_collections.gpufleet.vllm.plugins.module_utils._caches.sources import of_container, of_unit
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.carried import Archive, check, proved, unpack
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from caches_rig import COMPILED, TIME, Member, directory, file, member

NOW = 1700001000.0


class Cache:
    """Members as a source. C(later) comes between one look and the next, by the number of looks before."""

    def __init__(self, *members: Member, later: t.Mapping[int, t.Sequence[Member]] | None = None) -> None:
        self.members, self.later, self.looks = list(members), later or {}, 0

    def __call__(self) -> t.Iterator[tuple[Found, t.IO[bytes] | None]]:
        self.members = list(self.later.get(self.looks, self.members))
        self.looks += 1
        for one in self.members:
            info = member(one)
            when = str(info.pax_headers.get("mtime") or int(info.mtime))
            yield Found(info.name, info.type, info.size, info.mode, when), io.BytesIO(one[1]) if info.isreg() else None


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(packing.time, "sleep", found.append)
    return found


def packed(source: t.Any, now: float = NOW) -> tuple[Packed, list[str]]:
    """What packing came to, and the names in the archive."""
    stream = io.BytesIO()
    found = pack(source, stream, "vllm-a", lambda: now)
    assert found.size == len(stream.getvalue())
    check(Archive(stream).members())
    return found, [one.name for one, _content in Archive(stream).members()]


def test_all_that_is_finished_is_packed_each_time_the_same() -> None:
    first, names = packed(Cache(*COMPILED))
    assert names == [name for name, _content, _values in COMPILED]
    assert (first.files, first.content_bytes, first.left_out) == (7, 5008, [])
    assert packed(Cache(*COMPILED))[0] == first


@pytest.mark.parametrize(
    ("name", "finished"),
    [
        ("triton/ABCD/kernel.cubin", True),
        ("triton/tmp.pid_12_ab34/kernel.cubin", False),
        ("vllm/torch_compile_cache/1/rank_0_0/inductor_cache/ab/cab.py", True),
        ("vllm/torch_compile_cache/1/rank_0_0/inductor_cache/ab/.12.34.tmp", False),
        ("vllm/torch_compile_cache/1/rank_0_0/inductor_cache/locks/cab.lock", False),
        ("vllm/torch_compile_cache/vllm_compile_cache.py", True),
        ("flashinfer/.cache/flashinfer/0.6/90a/cached_ops/sampling/sampling.so", True),
        ("flashinfer/.cache/flashinfer/0.6/90a/cached_ops/tmp/sampling.lock", False),
        ("flashinfer/.cache/flashinfer/0.6/90a/cached_ops/sampling/.ninja_log", True),
        ("flashinfer/.cache/flashinfer/0.6/90a/cached_ops/sampling/.ninja_lock", False),
        ("torchinductor/extension/lock", False),
        ("vllm/x/tmpab12cd_3", False),
        ("vllm/x/template.cubin", True),
        ("vllm/x/.nfs000012", False),
        ("vllm/x/__pycache__/a.pyc", False),
    ],
)
def test_what_is_not_finished_by_its_name(name: str, finished: bool) -> None:
    assert is_finished(name) is finished
    parents = name.split("/")
    above = [directory("/".join(parents[:count])) for count in range(1, len(parents))]
    assert (name in packed(Cache(*COMPILED[:2], *above, file(name)))[1]) is finished


YOUNG = {"pax_headers": {"mtime": str(int(NOW) - 3)}}
WRITTEN = (directory("vllm"), file("vllm/a", **YOUNG))


def test_who_still_writes_is_waited_for(naps: list[float]) -> None:
    older = (directory("vllm"), file("vllm/a"))
    assert packed(Cache(*WRITTEN, later={1: older}))[1] == ["vllm", "vllm/a"]
    assert naps == [packing.STILL]


@pytest.mark.parametrize(
    ("source", "seen"),
    [
        pytest.param(Cache(*WRITTEN), "it still writes into them", id="writes all the time"),
        pytest.param(Cache(directory("vllm"), directory("vllm/a")), "has compiled nothing", id="nothing"),
        pytest.param(Cache(), "has compiled nothing", id="no cache"),
    ],
)
def test_what_is_not_packed(source: Cache, seen: str) -> None:
    with pytest.raises(VllmError, match=seen):
        packed(source)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param((directory("vllm"), file("vllm/a", b"longer")), id="grew"),
        pytest.param((directory("vllm"), file("vllm/a", pax_headers={"mtime": "1700000001"})), id="was written again"),
        pytest.param((directory("vllm"),), id="went"),
    ],
)
@pytest.mark.parametrize("look", [1, 2], ids=["while it is packed", "behind its back"])
def test_what_changes_while_it_is_packed_is_packed_again(
    changed: tuple[Member, ...], look: int, naps: list[float]
) -> None:
    then = (directory("vllm"), file("vllm/a"))
    found, names = packed(Cache(*then, later={look: changed, look + 1: then}))
    assert names == ["vllm", "vllm/a"] and len(naps) == 1
    assert found == packed(Cache(*then))[0]


def test_what_comes_while_it_is_packed_is_packed_with_the_rest(naps: list[float]) -> None:
    more = (directory("vllm"), file("vllm/a"), file("vllm/b"))
    assert packed(Cache(*more[:2], later={1: more}))[1] == ["vllm", "vllm/a", "vllm/b"]
    assert len(naps) == 1


def test_what_went_between_two_looks_is_looked_at_again(naps: list[float]) -> None:
    cache = Cache(*COMPILED)

    def source() -> t.Iterator[tuple[Found, t.IO[bytes] | None]]:
        if cache.looks == 1:
            cache.looks += 1
            raise FileNotFoundError(2, "No such file or directory")
        return cache()

    assert packed(source)[1] == [name for name, _content, _values in COMPILED]
    assert len(naps) == 1


def test_too_much_is_said_and_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "LIMIT", 5000)
    with pytest.raises(VllmError, match="are 0 MiB in 7 files, more than 0 MiB"):
        packed(Cache(*COMPILED))


def test_a_cache_with_links_in_it_is_left_out_whole() -> None:
    link = file("flashinfer/link", b"", type=tarfile.SYMTYPE, linkname="/etc/shadow")
    found, names = packed(Cache(*COMPILED[:4], link, *COMPILED[4:]))
    assert found.left_out == ["flashinfer"]
    assert names == [name for name, _content, _values in COMPILED if not name.startswith("flashinfer")]


# --- from where -----------------------------------------------------------------------------------------------------------


class Engine:
    """The call of the SDK by which a directory of a container is read."""

    def __init__(self, binds: list[str], places: t.Mapping[str, t.Sequence[Member]], chunk: int = 1000) -> None:
        self.binds, self.places, self.chunk = binds, places, chunk

    def inspect_container(self, name: str) -> dict[str, t.Any]:
        return {"HostConfig": {"Binds": self.binds}}

    def get_archive(self, container: str, path: str) -> tuple[t.Iterator[bytes], t.Any]:
        import docker.errors
        from caches_rig import plain

        if path not in self.places:
            raise docker.errors.NotFound("no such file")
        whole = plain(self.places[path])
        return iter([whole[at : at + self.chunk] for at in range(0, len(whole), self.chunk)]), {}


OWN, SHARED = "own:/var/cache/vllm", "shared:/var/cache/vllm-kernels"


@pytest.mark.parametrize("chunk", [1, 1000, 1 << 20])
@pytest.mark.parametrize(("binds", "place"), [([OWN, SHARED], "vllm-kernels"), ([OWN], "vllm")])
def test_a_container_s_caches_are_read_by_the_engine(binds: list[str], place: str, chunk: int) -> None:
    places = {f"/var/cache/{place}/flashinfer": COMPILED[2:4], "/var/cache/vllm/vllm": COMPILED[4:]}
    found, names = packed(of_container(Engine(binds, places, chunk), "vllm-a"))
    assert names == [name for name, _content, _values in COMPILED[2:]]
    assert found == packed(Cache(*COMPILED[2:]))[0]


def test_an_engine_that_stops_in_the_middle_is_a_sentence() -> None:
    class Cut(Engine):
        def get_archive(self, container: str, path: str) -> tuple[t.Iterator[bytes], t.Any]:
            stream, known = super().get_archive(container, path)
            return iter([b"".join(stream)[:5000]]), known

    with pytest.raises(
        VllmError, match=r"vllm-a are not packed: they cannot be read as they are .*unexpected end of data"
    ):
        packed(of_container(Cut([OWN], {"/var/cache/vllm/vllm": COMPILED[4:]}), "vllm-a"))


def planted(place: Path) -> None:
    """The caches of a unit, with what else its user keeps there."""
    (place / "vllm" / "torch_compile_cache").mkdir(parents=True)
    (place / "vllm" / "torch_compile_cache" / "graph.py").write_bytes(b"graph")
    (place / ".ray").mkdir()
    (place / ".ray" / "auth_token").write_text("secret")
    for path in [*place.rglob("*"), place]:
        os.utime(path, ns=(0, int(TIME.replace(".", ""))))


def test_a_unit_s_caches_are_read_from_its_directory_and_nothing_else_of_it(tmp_path: Path) -> None:
    planted(tmp_path / "cache")
    stream = io.BytesIO()
    found = pack(of_unit(str(tmp_path / "cache")), stream, "vllm-a", lambda: NOW)
    (tmp_path / "a").write_bytes(stream.getvalue())
    with proved({**found._asdict(), "archive": str(tmp_path / "a")}) as archive:
        unpack(archive, str(tmp_path / "made"), (os.geteuid(), os.getegid()))
    made = sorted(path.relative_to(tmp_path / "made").as_posix() for path in (tmp_path / "made").rglob("*"))
    assert made == ["vllm", "vllm/torch_compile_cache", "vllm/torch_compile_cache/graph.py"]
    assert (tmp_path / "made" / made[2]).stat().st_mtime_ns == int(TIME.replace(".", ""))


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "link to a directory"])
def test_what_a_unit_plants_is_not_followed(kind: str, tmp_path: Path) -> None:
    planted(tmp_path / "cache")
    at, shadow = tmp_path / "cache" / "vllm" / "x", tmp_path / "shadow"
    shadow.write_text("secret")
    if kind == "link":
        at.symlink_to(shadow)
    elif kind == "hard link":
        os.link(shadow, at)
    elif kind == "pipe":
        os.mkfifo(at)
    else:
        at.symlink_to(tmp_path)
    with pytest.raises(VllmError, match="has compiled nothing"):
        packed(of_unit(str(tmp_path / "cache")))


def test_only_a_server_of_this_user_that_runs_is_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from docker_model import Client, installed, manage, run as deploy, situation

    client = installed(Client(), monkeypatch, tmp_path)
    from ansible_collections.gpufleet.vllm.plugins.module_utils._caches import run as module

    monkeypatch.setattr(module, "container_backends", lambda params: {"container": situation().backends()[0]})
    asked: dict[str, t.Any] = {"container_name": "vllm-a", "container_id": None, "backend": "container"}

    def packs(**said: t.Any) -> dict[str, t.Any]:
        (tmp_path / "a").unlink(missing_ok=True)
        return run({**asked, "archive": str(tmp_path / "a"), **said}, situation().gpus)

    for said, seen in (({}, "does not run here"), ({"container_id": "x"}, "does not run here")):
        with pytest.raises(VllmError, match=seen):
            packs(**said)
    identity = deploy()["server"]["container_id"]
    client.contents["vllm-a-cache-1"] = {one[0]: (member(one), one[1]) for one in COMPILED[4:]}
    found = packs(container_id=identity)
    assert found["changed"] is False and found["files"] == 3 and (tmp_path / "a").stat().st_mode & 0o777 == 0o600
    with pytest.raises(VllmError, match="Another run has replaced vllm-a"):
        packs(container_id="x" * 12)
    # Another host is given just that.
    run_again = packs(container_id=identity)
    assert run_again == found
    manage(state="absent")
    told = {key: found[key] for key in ("archive", "sha256", "size", "settings", "processor")}
    assert deploy(caches={"host": "canary", **told})["caches"] == {"from": "canary", "note": ""}
    assert sorted(client.contents["vllm-a-cache-1"]) == [one[0] for one in COMPILED[4:]]
