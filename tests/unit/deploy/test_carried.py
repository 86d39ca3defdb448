# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compile caches of another host: which archives are refused, and what a new server starts with."""

from __future__ import annotations

import json
import os
import re
import stat
import tarfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import carried
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.carried import Carried, processor, proved, unpack
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.preflight import settings_key, snapshot
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import from_params
from caches_rig import COMPILED, TIME, Member, archived, directory, file
from docker_model import FREE, IMAGE, KERNELS, Client, Killed, manage, run, situation
from systemd_model import CONTAINERS, UNITS, Systemd

OWN, SHARED = "vllm-a-cache-1", f"{KERNELS}-1"

# --- which archives are believed ------------------------------------------------------------------------------------------


def refusal_of(given: dict[str, t.Any]) -> str:
    with pytest.raises(VllmError) as caught, proved(given):
        pytest.fail("it was believed")
    return str(caught.value)


def test_what_was_packed_is_believed_and_kept_to_the_nanosecond(tmp_path: Path) -> None:
    with proved(archived(tmp_path / "a")) as archive:
        unpack(archive, str(tmp_path / "made" / "here"), (os.geteuid(), os.getegid()))
    made = tmp_path / "made" / "here"
    names = sorted(path.relative_to(made).as_posix() for path in made.rglob("*"))
    assert names == sorted(name for name, _content, _values in COMPILED)
    found = (made / "vllm/torch_compile_cache/graph.py").stat()
    assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode)) == (int(TIME.replace(".", "")), 0o755)
    assert stat.S_IMODE((made / "vllm").stat().st_mode) == stat.S_IMODE(made.stat().st_mode) == 0o700
    assert os.listdir(tmp_path / "made") == ["here"]


@pytest.mark.parametrize(
    ("told", "seen"),
    [
        pytest.param(
            {"sha256": "0" * 64}, r"the archive has the sha256 [0-9a-f]{64}, and 0{64} was packed", id="digest"
        ),
        pytest.param({"size": 1}, r"the archive has \d+ bytes, and 1 were packed", id="size"),
    ],
)
def test_an_archive_that_is_another_one_is_not_opened(
    told: dict[str, t.Any], seen: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carried, "check", lambda members: pytest.fail("it was opened"))
    assert re.fullmatch(seen, refusal_of(archived(tmp_path / "a", **told)))


TOP = directory("vllm")


@pytest.mark.parametrize(
    ("members", "seen"),
    [
        pytest.param([file("/etc/passwd")], "'/etc/passwd' is not below one of", id="absolute"),
        pytest.param([TOP, file("vllm/../../x")], "leads elsewhere", id="leads out"),
        pytest.param([TOP, file("vllm//x")], "leads elsewhere", id="no name in between"),
        pytest.param([TOP, file("vllm/./x")], "leads elsewhere", id="itself"),
        pytest.param([TOP, file("vllm/a\x1b[2J")], "leads elsewhere", id="a name that a terminal obeys"),
        pytest.param([directory("home")], "is not below one of", id="another directory"),
        pytest.param([file("vllm")], "is not below one of", id="a file in place of a cache"),
        pytest.param([TOP, file("vllm/a/b")], "'vllm/a/b' is in no directory of it", id="no directory"),
        pytest.param([TOP, file("vllm/a"), file("vllm/a/b")], "is in no directory", id="in a file"),
        pytest.param([TOP, file("vllm/a"), file("vllm/a")], "is in it twice", id="twice"),
        pytest.param([TOP, file("vllm/a", b"", type=tarfile.SYMTYPE, linkname="/etc")], "is neither", id="link"),
        pytest.param([TOP, file("vllm/a", b"", type=tarfile.LNKTYPE, linkname="x")], "is neither", id="hard link"),
        pytest.param([TOP, file("vllm/a", b"", type=tarfile.CHRTYPE)], "is neither", id="device"),
        pytest.param([TOP, file("vllm/a", b"", type=tarfile.FIFOTYPE)], "is neither", id="pipe"),
        pytest.param([TOP, file("vllm/a", mode=0o4755)], "has a mode that gives", id="setuid"),
        pytest.param([TOP, directory("vllm/a", mode=0o2755)], "has a mode that gives", id="setgid"),
        pytest.param([TOP, file("vllm/a", pax_headers={"mtime": "inf"})], "no time", id="no time"),
        pytest.param([TOP, file("vllm/a", pax_headers={"mtime": "-1.5"})], "no time", id="before time"),
        pytest.param([TOP, file("vllm/a", pax_headers={"x": "y" * (2 << 20)})], "has a header of", id="header"),
        pytest.param(
            [TOP, file("vllm/a", pax_headers={"GNU.sparse.size": "99999", "GNU.sparse.map": "0,4"})],
            "has holes",
            id="holes",
        ),
    ],
)
def test_what_an_archive_may_not_hold(members: list[Member], seen: str, tmp_path: Path) -> None:
    assert seen in refusal_of(archived(tmp_path / "a", members))


@pytest.mark.parametrize(("name", "least"), [("LIMIT", 5000), ("MOST", 6)])
def test_an_archive_has_its_limits(name: str, least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carried, name, least)
    assert "the archive holds more than" in refusal_of(archived(tmp_path / "a"))


def test_a_link_or_a_pipe_in_place_of_an_archive_is_not_followed(tmp_path: Path) -> None:
    given = archived(tmp_path / "a")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(OSError, match="symbolic"), proved({**given, "archive": str(tmp_path / "link")}):
        pytest.fail("it was followed")
    os.mkfifo(tmp_path / "pipe")
    assert "has 0 bytes" in refusal_of({**given, "archive": str(tmp_path / "pipe")})


def test_what_cannot_be_unpacked_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, mode: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(OSError, match="No space"), proved(archived(tmp_path / "a")) as archive:
        unpack(archive, str(tmp_path / "made" / "here"), (os.geteuid(), os.getegid()))
    assert os.listdir(tmp_path / "made") == []


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "here.carried" / "new").mkdir(parents=True)
    with proved(archived(tmp_path / "a")) as archive:
        unpack(archive, str(tmp_path / "here"), (os.geteuid(), os.getegid()))
    assert sorted(os.listdir(tmp_path)) == ["a", "here"]


# --- whom they fit --------------------------------------------------------------------------------------------------------

X86 = "vendor_id : GenuineIntel\ncpu family: 6\nmodel: 143\nflags: fpu sse4_2 avx2 avx512f\n\nmodel: 143\n"


@pytest.mark.parametrize(
    ("text", "same"),
    [
        pytest.param(X86 + X86, True, id="more of them"),
        pytest.param(X86.replace("sse4_2 avx2", "avx2 sse4_2 ibrs_enhanced"), True, id="another kernel names more"),
        pytest.param(X86.replace(" avx512f", ""), False, id="hidden by a hypervisor"),
        pytest.param(X86.replace("model: 143", "model: 207"), False, id="a newer one"),
        pytest.param("CPU implementer: 0x41\nFeatures: fp asimd sve2\n", False, id="ARM"),
        pytest.param("", False, id="nothing is known"),
    ],
)
def test_processors_for_which_the_same_is_compiled(text: str, same: bool) -> None:
    assert (processor(text, "x86_64") == processor(X86, "x86_64")) is same
    assert processor(text, "x86_64") != processor(text, "aarch64")


@pytest.mark.parametrize(
    ("told", "note"),
    [
        pytest.param({}, "", id="the same"),
        pytest.param({"settings": "v1:0"}, "Its image or environment, model, GPUs or settings differ", id="settings"),
        pytest.param({"processor": "0"}, "Its processor is not of the kind of that on canary", id="processor"),
    ],
)
def test_whom_they_fit(told: dict[str, t.Any], note: str) -> None:
    given = Carried({"host": "canary", "settings": "v1:1", "processor": "1", **told})
    assert given.fits("v1:1", "1") is (not note)
    assert given.note.startswith(note) and given.outcome["from"] is None


# --- a new server with them -----------------------------------------------------------------------------------------------


def caches(path: Path, **told: t.Any) -> dict[str, t.Any]:
    """Caches that fit the server of these tests."""
    server = from_params(dict(situation().server))
    artifact = next(iter(situation().backends())).artifact(server)
    known = {
        "settings": settings_key(server, artifact.identity if artifact else "sha256:1", lambda: FREE),
        "processor": carried.this_processor(),
    }
    return archived(path, **{**known, **told})


def filled() -> dict[str, bool]:
    found = [json.loads(path.read_text()) for path in (situation().record / "owned").glob("*.json")]
    return {one["name"]: one["filled"] for one in found if one.get("purpose") in ("cache", "kernels")}


def names(client: Client) -> dict[str, list[str]]:
    return {volume: sorted(found) for volume, found in client.contents.items()}


FULL = {
    SHARED: ["cuda", "cuda/index", "flashinfer", "flashinfer/sampling.so"],
    OWN: ["vllm", "vllm/torch_compile_cache", "vllm/torch_compile_cache/graph.py"],
}


def test_a_new_server_starts_with_the_caches_of_another_host(client: Client, tmp_path: Path) -> None:
    result = run(caches=caches(tmp_path / "a"))
    assert result["caches"] == {"from": "canary", "note": ""}
    assert names(client) == FULL
    assert result["server"]["cold_start"] is False
    graph, content = client.contents[OWN]["vllm/torch_compile_cache/graph.py"]
    assert (graph.mode, graph.pax_headers["mtime"], content) == (0o755, TIME, b"graph" * 1000)
    # What filled them is gone, from the engine and from the record.
    assert client.now == {"vllm-a": "id2 running"}
    assert [one.purpose for one in next(iter(situation().backends())).ledger.known().entries].count("probe") == 0
    assert run(caches=caches(tmp_path / "a"))["caches"]["from"] is None


def test_an_image_that_is_pulled_first_counts_as_it_came(client: Client, tmp_path: Path) -> None:
    given = caches(tmp_path / "a")
    client.registry, client.images = dict(client.images), {}
    assert run(caches=given)["caches"] == {"from": "canary", "note": ""}
    manage(state="absent")
    assert client.volumes_by_name == {}
    client.registry, client.images = {IMAGE: "sha256:2"}, {}
    assert "differ from those on canary" in run(caches=given)["caches"]["note"]
    assert client.contents == {}


def test_without_caches_nothing_is_said_of_them(client: Client) -> None:
    assert run()["caches"] is None


@pytest.mark.parametrize(
    ("said", "told", "note"),
    [
        pytest.param({"engine": {"max_model_len": 2}}, {}, "differ from those on canary", id="other settings"),
        pytest.param({"keep_caches": False}, {}, "keep_caches is false", id="none are kept"),
        pytest.param({}, {"sha256": "0" * 64}, "were not used: the archive has the sha256", id="broken"),
        pytest.param({}, {"processor": "z80"}, "Its processor is not", id="processor"),
    ],
)
def test_a_server_starts_cold_where_they_do_not_fit(
    said: dict[str, t.Any], told: dict[str, t.Any], note: str, client: Client, tmp_path: Path
) -> None:
    result = run(caches=caches(tmp_path / "a", **told), **said)
    assert note in result["caches"]["note"] and result["caches"]["from"] is None
    assert client.contents == {} and client.now["vllm-a"].endswith("running")
    assert result["server"]["cold_start"] is True


def test_caches_that_are_there_stay_as_they_are(client: Client, tmp_path: Path) -> None:
    run()
    manage(state="committed")
    result = run(recreate=True, caches=caches(tmp_path / "a"))
    assert result["caches"] == {"from": None, "note": "It has compile caches of its own."}
    assert client.contents == {}


def test_kernels_that_other_servers_use_stay_as_they_are(client: Client, tmp_path: Path) -> None:
    run(name="b", port=8001)
    assert run(caches=caches(tmp_path / "a"))["caches"]["from"] == "canary"
    assert names(client) == {OWN: FULL[OWN]}


@pytest.mark.parametrize("volume", [OWN, SHARED])
def test_a_disk_that_gets_full_costs_only_the_caches(volume: str, client: Client, tmp_path: Path) -> None:
    client.failing = ("unpack halfway", volume)
    result = run(caches=caches(tmp_path / "a"))
    assert "were not used" in result["caches"]["note"] and "no space left" in result["caches"]["note"]
    assert client.contents == {} and sorted(client.volumes_by_name) == [SHARED, OWN]
    assert client.now == {"vllm-a": "id2 running"} and filled() == {SHARED: False, OWN: False}


@pytest.mark.parametrize("then", ["deploy", "tear down"])
def test_a_run_that_is_killed_while_it_unpacks_leaves_no_half_of_them(
    then: str, client: Client, tmp_path: Path
) -> None:
    given = caches(tmp_path / "a")
    whole = Client(images=dict(client.images))
    for step in range(1, 12):
        client.__dict__.update({**whole.__dict__, "calls": [], "contents": {}, "containers_by_name": {}})
        client.volumes_by_name.clear()
        client.dies_after = step
        try:
            run(caches=given)
        except Killed:
            pass
        else:
            assert step > 5
            break
        client.dies_after = None
        if then == "deploy":
            run()
            assert names(client) in ({}, FULL), client.calls
            assert list(client.now) == ["vllm-a"]
        manage(state="absent")
        assert client.volumes_by_name == {} and client.now == {}
    else:
        pytest.fail("no run came to its end")


@pytest.mark.parametrize("client", [CONTAINERS, UNITS], indirect=True)
def test_what_was_carried_goes_with_the_server(client: Client, tmp_path: Path) -> None:
    assert run(caches=caches(tmp_path / "a"))["caches"]["from"] == "canary"
    manage(state="absent")
    assert client.volumes_by_name == {}
    assert [path.name for path in (tmp_path / "cache").glob("*/*")] == []


@pytest.mark.parametrize("client", [UNITS], indirect=True)
def test_a_unit_has_them_in_its_directory(client: Systemd, tmp_path: Path) -> None:
    given = caches(tmp_path / "a")
    result = run(caches=given)
    assert result["caches"] == {"from": "canary", "note": ""} and result["server"]["cold_start"] is False
    (cache,) = (tmp_path / "cache").glob("*/*")
    assert (cache / "vllm/torch_compile_cache/graph.py").read_bytes() == b"graph" * 1000
    assert (cache / "flashinfer/sampling.so").stat().st_mtime_ns == int(TIME.replace(".", ""))
    manage(state="absent")
    # What a run that was killed left goes with the server, too.
    run()
    (tmp_path / "cache" / "gpufleet.vllm" / f"{cache.name}.carried").mkdir()
    cache.rmdir()
    assert manage(state="absent")["actions"][-1].startswith(f"remove cache {cache}")
    assert list((tmp_path / "cache").glob("*/*")) == []
    # What stands there already is not touched.
    cache.mkdir(parents=True)
    assert run(caches=given)["caches"]["note"] == "It has compile caches of its own."
    assert os.listdir(cache) == []


@pytest.mark.parametrize("client", [CONTAINERS, UNITS], indirect=True)
@pytest.mark.parametrize("healthy", [True, False])
def test_caches_that_no_server_was_healthy_with_are_not_used_again(
    healthy: bool, client: Client, tmp_path: Path
) -> None:
    given = caches(tmp_path / "a")
    before = {"engine": {"max_model_len": 2}, **({"image": "vllm:0"} if client.__class__ is Client else {})}
    if client.__class__ is Client:
        client.images["vllm:0"] = "sha256:0"
    else:
        before["keep_caches"] = False
    run(**before)
    manage(state="committed")
    assert run(caches=given)["caches"]["from"] == "canary"
    manage(state="committed" if healthy else "reverted")
    assert run(recreate=True)["server"]["cold_start"] is not healthy
    kept = [*client.contents] if client.__class__ is Client else [*(tmp_path / "cache").glob("*/*/vllm")]
    assert bool(kept) is healthy


@pytest.mark.parametrize("client", [CONTAINERS, UNITS], indirect=True)
def test_a_server_that_failed_with_them_starts_without_them(client: Client, tmp_path: Path) -> None:
    assert run(caches=caches(tmp_path / "a"))["server"]["cold_start"] is False
    failed = manage(state="stopped")["server"]["container_id"]
    result = run()
    assert [line.partition(" (")[0] for line in result["actions"]] == ["remove vllm-a", "create vllm-a", "start vllm-a"]
    assert result["server"]["container_id"] != failed and result["server"]["cold_start"] is True
    assert client.contents == {} if client.__class__ is Client else [*(tmp_path / "cache").glob("*/*/vllm")] == []
    # Nothing is said against a server that was committed with them, nor against one that compiled by itself.
    manage(state="stopped")
    assert run()["actions"] == ["start vllm-a"]


@pytest.mark.parametrize("client", [CONTAINERS, UNITS], indirect=True)
def test_a_server_that_was_committed_with_them_keeps_them(client: Client, tmp_path: Path) -> None:
    run(caches=caches(tmp_path / "a"))
    manage(state="committed")
    manage(state="stopped")
    assert run()["actions"] == ["start vllm-a"]


def test_gpus_that_cannot_be_looked_at_cost_only_the_caches(client: Client, tmp_path: Path) -> None:
    def fail() -> dict[str, t.Any]:
        raise VllmError("nvidia-smi hangs.", "backend-failed")

    given = caches(tmp_path / "a")
    situation().gpus = fail
    result = run(caches=given, fit="off")
    assert result["caches"] == {"from": None, "note": "nvidia-smi hangs."} and client.now["vllm-a"].endswith("running")


def test_a_host_that_has_no_weights_yet_starts_with_them_too(client: Client, tmp_path: Path) -> None:
    repository, commit = tmp_path / "hub" / "models--m", "1" * 40
    given = caches(tmp_path / "a")
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    server = from_params({**situation().server, "huggingface_dir": str(tmp_path)})
    assert snapshot(server).revision == commit
    assert settings_key(server, "sha256:1", lambda: FREE) == given["settings"]
