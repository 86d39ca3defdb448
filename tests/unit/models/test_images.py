# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images from host to host: what is planned, what an archive may hold, and what is there after a fault."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import tarfile
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.images import Images, Layers
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reader import Identity
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reference import is_mirror, local_name, parsed
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._images import plan as plans, work
from ansible_collections.gpufleet.vllm.plugins.module_utils._images.archive import identities
from ansible_collections.gpufleet.vllm.plugins.module_utils._images.plan import Plan, Room, Seen, Told, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._images.run import PARAMETERS, run
from ansible_collections.gpufleet.vllm.plugins.module_utils._models import peers, serving
from hub_rig import free_ports

GIB = 1 << 30
NAME = "nvcr.io/nvidia/vllm:25.09"
D = "d" * 64
PINNED = f"nvcr.io/nvidia/vllm@sha256:{D}"


# --- names ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "pulled", "mirrored", "local"),
    [
        pytest.param("ubuntu", "ubuntu:latest", "m:5000/library/ubuntu:latest", "", id="an official one"),
        pytest.param(
            "vllm/vllm-openai:v1", "vllm/vllm-openai:v1", "m:5000/vllm/vllm-openai:v1", "", id="of Docker Hub"
        ),
        pytest.param("docker.io/ubuntu:1", "docker.io/ubuntu:1", "m:5000/library/ubuntu:1", "", id="with its registry"),
        pytest.param(NAME, NAME, "m:5000/nvidia/vllm:25.09", "", id="of another registry"),
        pytest.param("localhost:5000/vllm", "localhost:5000/vllm:latest", "m:5000/vllm:latest", "", id="with a port"),
        pytest.param("localhost/vllm:1", "localhost/vllm:1", "m:5000/vllm:1", "", id="of this machine"),
        pytest.param(
            PINNED, PINNED, f"m:5000/nvidia/vllm@sha256:{D}", f"nvcr.io/nvidia/vllm:sha256-{D}", id="by digest"
        ),
        pytest.param(
            f"{NAME}@sha256:{D}",
            PINNED,
            f"m:5000/nvidia/vllm@sha256:{D}",
            f"nvcr.io/nvidia/vllm:sha256-{D}",
            id="by tag and digest",
        ),
    ],
)
def test_an_image_has_a_name_for_each_who_is_asked(name: str, pulled: str, mirrored: str, local: str) -> None:
    found = parsed(name)
    assert found is not None
    assert (str(found), str(found.at("m:5000")), local_name(name)) == (pulled, mirrored, local)


@pytest.mark.parametrize(
    "name", ["", "Vllm", "vllm:", "vllm@sha256:ab", "sha256:" + D, D + ":x/y", "../x", "a b", "x/@sha256:" + D, "-x/y"]
)
def test_what_is_no_name_is_told_from_one(name: str) -> None:
    assert parsed(name) is None
    assert local_name(name) == ""


def test_a_mirror_is_a_registry_or_a_place_in_one() -> None:
    assert [is_mirror(one) for one in ("m", "m:5000", "m.example/nvcr", "[::1]:5000/a/b")] == [True] * 4
    assert [is_mirror(one) for one in ("https://m", "m/", "m/A", "u@m", "")] == [False] * 5


# --- what is planned ------------------------------------------------------------------------------------------------

A, B, C = (f"sha256:{letter * 64}" for letter in "abc")
TOLD = Told(A, (A, B), 4 * GIB, 5 * GIB, D)


def wish(**said: t.Any) -> Wish:
    found = parsed(NAME)
    assert found
    return Wish(NAME, found, **said)


@pytest.mark.parametrize(
    ("told", "sources", "seen", "said", "expected"),
    [
        pytest.param(None, False, Seen(), {}, Plan(pull=True), id="nobody has it"),
        pytest.param(None, False, Seen(named=A), {}, Plan(), id="it is there"),
        pytest.param(None, False, Seen(named=A), {"updates": True}, Plan(pull=True), id="the registry is asked"),
        pytest.param(TOLD, True, Seen(), {}, Plan(fetch=True, name=True), id="another host has it"),
        pytest.param(TOLD, True, Seen(there=A), {}, Plan(name=True), id="it was loaded, and has no name"),
        pytest.param(TOLD, True, Seen(named=A), {}, Plan(), id="it is there, too"),
        pytest.param(TOLD, True, Seen(named=B), {}, Plan(), id="it is there, and the engine has another id for it"),
        pytest.param(TOLD, True, Seen(named=C), {}, Plan(fetch=True, name=True), id="an older one has its name"),
        pytest.param(None, True, Seen(), {}, Plan(fetch=True, name=True), id="another host is to have it"),
        pytest.param(None, True, Seen(named=C), {}, Plan(), id="another host is to have it, and this has one"),
    ],
)
def test_what_brings_an_engine_to_the_image(
    told: Told | None, sources: bool, seen: Seen, said: dict[str, t.Any], expected: Plan
) -> None:
    assert plans.plan(wish(**said), told, sources, seen) == expected


def test_the_plan_is_told_in_words() -> None:
    both, seen = Plan(fetch=True, name=True), Seen(archived=GIB)
    assert plans.actions(wish(mirror="m/nvcr"), Plan(pull=True), None, "", seen) == [f"pull {NAME} from m"]
    assert plans.actions(wish(), both, TOLD, "http://h", seen) == [
        f"fetch {NAME} from http://h (5.0 GiB, of which 1.0 GiB are already on the host) and load it",
        f"have {NAME} stand for {A[:19]}",
    ]
    assert plans.diff(wish(), both, TOLD, Seen(named=C)) == {"before": {NAME: C}, "after": {NAME: A}}


@pytest.mark.parametrize(
    ("rooms", "reserve", "refused"),
    [
        pytest.param([Room("/h", 5, 10, 1), Room("/d", 8, 10, 2)], 2, "", id="two disks"),
        pytest.param(
            [Room("/h", 5, 10, 1), Room("/d", 9, 10, 2)], 2, "9 bytes are needed in /d", id="one is too small"
        ),
        pytest.param(
            [Room("/h", 5, 10, 1), Room("/d", 5, 10, 1)], 2, "10 bytes are needed in /h and /d", id="one disk"
        ),
        pytest.param([Room("/d", 0, 1, 1)], 2, "0 bytes are needed in /d", id="a pull of unknown size"),
    ],
)
def test_what_would_fill_a_disk_is_not_begun(rooms: list[Room], reserve: int, refused: str) -> None:
    if not refused:
        plans.check_disk(rooms, NAME, reserve)
        return
    with pytest.raises(VllmError, match=refused) as caught:
        plans.check_disk(rooms, NAME, reserve)
    assert caught.value.reason == "disk-full"


GOOD = {"id": A, "ids": [A], "size": 1, "archive": {"size": 1, "digest": D}}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"id": "../x"}, id="no id"),
        pytest.param({"ids": [A, "latest"]}, id="no other id"),
        pytest.param({"size": -1}, id="no size"),
        pytest.param({"archive": {"size": True, "digest": D}}, id="no size of the archive"),
        pytest.param({"archive": {"size": 1, "digest": "../x"}}, id="no digest"),
    ],
)
def test_what_another_host_tells_is_not_believed_as_it_is(wrong: dict[str, t.Any]) -> None:
    with pytest.raises(VllmError, match="Do not trust that host"):
        plans.told_of({"image": {**GOOD, **wrong}}, NAME)


def test_a_layer_counts_from_its_first_byte_to_its_last() -> None:
    layers = Layers()
    down: dict[str, t.Any] = {"status": "Downloading", "id": "1", "progressDetail": {"current": 3, "total": 10}}
    assert layers.seen({"status": "Pulling from vllm", "id": "v1"}) == (0, 0)
    assert layers.seen(down) == (3, 10)
    assert layers.seen({**down, "id": "2", "progressDetail": {"current": 1, "total": 5}}) == (4, 15)
    extracting = {"status": "Extracting", "id": "1", "progressDetail": {"current": 2, "total": 30}}
    assert layers.seen(extracting) == (11, 15)
    assert layers.seen({"status": "Pull complete", "id": "2"}) == (15, 15)


# --- archives -------------------------------------------------------------------------------------------------------


def archive(config: bytes, names: t.Any = None, oci: bool = False, **changes: bytes) -> bytes:
    """An archive as engines write it, of Docker 20 or of one that keeps images in containerd."""
    digest = hashlib.sha256(config).hexdigest()
    place = f"blobs/sha256/{digest}" if oci else f"{digest}.json"
    members = {
        place: config,
        "manifest.json": json.dumps([{"Config": place, "RepoTags": names, "Layers": ["l/layer.tar"]}]).encode(),
        "l/layer.tar": b"layer",
    }
    if oci:
        manifest = b'{"config": "..."}'
        name = hashlib.sha256(manifest).hexdigest()
        members[f"blobs/sha256/{name}"] = manifest
        members["index.json"] = json.dumps({"manifests": [{"digest": f"sha256:{name}"}]}).encode()
    members.update({name.replace("_", "."): content for name, content in changes.items()})
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_an_archive_tells_the_ids_of_its_image(tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(archive(b"{}"))
    assert identities(str(path), NAME) == (sha256(b"{}"),)
    path.write_bytes(archive(b"{}", oci=True))
    assert identities(str(path), NAME) == (sha256(b"{}"), sha256(b'{"config": "..."}'))


INDEX = {"digest": sha256(b'{"config": "..."}'), "annotations": {"io.containerd.image.name": "ubuntu:latest"}}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(archive(b"{}", ["ubuntu:latest"]), "would give an image a name", id="a name"),
        pytest.param(archive(b"{}", repositories=b"{}"), "would give an image a name", id="a name, as of old"),
        pytest.param(
            archive(b"{}", oci=True, index_json=json.dumps({"manifests": [INDEX]}).encode()),
            "would give an image a name",
            id="a name for containerd",
        ),
        pytest.param(
            archive(b"{}", oci=True, index_json=json.dumps({"manifests": [{"digest": A}]}).encode()),
            "Cannot use the archive",
            id="a manifest that is not there",
        ),
        pytest.param(archive(b"{}", manifest_json=b"[]"), "Cannot use the archive", id="no image"),
        pytest.param(archive(b"{}", manifest_json=b"[{}, {}]"), "Cannot use the archive", id="two images"),
        pytest.param(archive(b"{}", manifest_json=b'[{"Config": "/etc/x"}]'), "not what its name says", id="a way out"),
        pytest.param(
            archive(b"{}", **{f"{sha256(b'{}')[7:]}_json": b"{ }"}), "not what its name says", id="another one"
        ),
        pytest.param(b"x" * 2048, "Cannot use the archive", id="no archive"),
        pytest.param(b"", "Cannot use the archive", id="nothing"),
    ],
)
def test_an_archive_that_no_engine_is_to_read_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "archive"
    path.write_bytes(content)
    with pytest.raises(VllmError, match=words):
        identities(str(path), NAME)


# --- engines --------------------------------------------------------------------------------------------------------


class Engine:
    """An engine whose images are in a file, since who works on them is a process of its own. As reader and as client."""

    def __init__(self, path: Path, oci: bool = False) -> None:
        self.file, self.root, self.oci = path / "engine.json", path, oci
        path.mkdir()
        self.write({"images": {}, "names": {}, "registry": {}})

    def read(self) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", json.loads(self.file.read_text()))

    def write(self, state: dict[str, t.Any]) -> None:
        beside = self.file.with_suffix(f".{os.getpid()}")
        beside.write_text(json.dumps(state))
        beside.rename(self.file)

    @property
    def names(self) -> dict[str, str]:
        return t.cast("dict[str, str]", self.read()["names"])

    def publish(self, name: str, config: str) -> None:
        state = self.read()
        self.write({**state, "registry": {**state["registry"], name: config}})

    def add(self, config: str) -> str:
        state, identity = self.read(), sha256(config.encode())
        self.write({**state, "images": {**state["images"], identity: config}})
        return identity

    def image(self, reference: str) -> dict[str, t.Any] | None:
        state = self.read()
        identity = state["names"].get(reference, reference)
        return {"Id": identity, "Size": 100} if identity in state["images"] else None

    def identity(self) -> Identity:
        return Identity(info={"DockerRootDir": str(self.root)})

    def pull(self, repository: str, tag: str | None, **_how: t.Any) -> t.Iterator[dict[str, t.Any]]:
        name = f"{repository}:{tag}" if tag else repository
        while (self.root / "holds").exists():
            yield {"id": "1", "status": "Downloading", "progressDetail": {"current": 40, "total": 100}}
            time.sleep(0.01)
        if name not in self.read()["registry"]:
            yield {"error": "manifest unknown"}
            return
        self.tag(self.add(self.read()["registry"][name]), *name.rsplit(":", 1))

    def get_image(self, identity: str, chunk_size: int) -> t.Iterator[bytes]:
        content = archive(self.read()["images"][identity].encode(), oci=self.oci)
        yield from (content[at : at + 1000] for at in range(0, len(content), 1000))

    def load_image(self, stream: t.Any) -> t.Iterator[dict[str, t.Any]]:
        with tarfile.open(fileobj=io.BytesIO(stream.read())) as tar:
            (described,) = json.load(t.cast("t.IO[bytes]", tar.extractfile("manifest.json")))
            config = t.cast("t.IO[bytes]", tar.extractfile(described["Config"])).read().decode()
        if (self.root / "full").exists():
            yield {"error": "write /var/lib/docker/tmp/x: no space left on device"}
            return
        (self.root / "loads").write_text("")
        while (self.root / "hangs").exists():
            time.sleep(0.01)
        self.add(config)

    def tag(self, identity: str, repository: str, tag: str, **_how: t.Any) -> None:
        state = self.read()
        self.write({**state, "names": {**state["names"], f"{repository}:{tag}": identity}})

    def remove_image(self, reference: str, **_how: t.Any) -> None:
        state = self.read()
        self.write({**state, "names": {one: key for one, key in state["names"].items() if one != reference}})


class Host:
    """A host with its engine, its cache and its address."""

    def __init__(self, path: Path) -> None:
        self.engine, self.cache, self.port = Engine(path), path / "huggingface", free_ports()[0]
        self.url = f"http://127.0.0.1:{self.port}"

    def stage(self, name: str = NAME, check: bool = False, **said: t.Any) -> dict[str, t.Any]:
        defaults = {key: option.get("default") for key, option in PARAMETERS.items()}
        quick = {"disk_reserve": 0, "timeout": 5, "attempts": 1}
        given = {**defaults, "image": name, "huggingface_dir": str(self.cache), **quick, **said}
        looks = t.cast("t.Any", self.engine)
        return run(given, check, Images(None, looks, lambda: self.engine))

    def peer(self, **told: t.Any) -> dict[str, t.Any]:
        known = {"sources": [], "image": {}, "others": [], "head": "first"}
        return {"address": "127.0.0.1", "port": self.port, "token": "t0ken", **known, **told}

    def passes(self, state: str = "started") -> None:
        place = {"huggingface_dir": str(self.cache), "address": "127.0.0.1", "port": self.port}
        peers.run({"state": state, "token": "t0ken", **place}, False)

    def archives(self) -> list[str]:
        return sorted(path.name for path in (self.cache / "hub" / ".images" / "blobs").glob("*"))


@pytest.fixture(name="hosts")
def _hosts(tmp_path: Path) -> t.Iterator[list[Host]]:
    made = [Host(tmp_path / name) for name in ("first", "second", "third")]
    yield made
    for host in made:
        host.passes("stopped")


@pytest.fixture(name="passed_on")
def _passed_on(hosts: list[Host]) -> dict[str, t.Any]:
    """What the controller tells the second host: the first has pulled the image, and passes it on."""
    first = hosts[0]
    first.engine.publish(NAME, "{}")
    first.passes()
    image = first.stage(peer=first.peer(others=[""]))["image"]
    return {"image": image, "sources": [first.url]}


def test_an_image_goes_from_engine_to_engine_and_gets_its_name_last(
    hosts: list[Host], passed_on: dict[str, t.Any]
) -> None:
    first, second, third = hosts
    identity = sha256(b"{}")
    assert first.engine.names == {NAME: identity}
    assert first.archives() == [passed_on["image"]["archive"]["digest"]]
    assert os.stat(first.cache / "hub" / ".images" / "blobs" / first.archives()[0]).st_mode & 0o777 == 0o600
    planned = second.stage(check=True, peer=second.peer(**passed_on))
    assert (planned["image"], second.archives(), second.engine.names) == (None, [], {})
    done = second.stage(peer=second.peer(**passed_on))
    assert (done["actions"], done["diff"]) == (planned["actions"], planned["diff"])
    assert (done["changed"], done["image"]["id"], second.engine.names) == (True, identity, {NAME: identity})
    # The first is gone; the third has it from the second.
    first.passes("stopped")
    assert first.archives() == []
    told = {**passed_on, "sources": [second.url, first.url]}
    assert third.stage(peer=third.peer(**told))["image"]["id"] == identity
    again = third.stage(peer=third.peer(**told))
    assert (again["changed"], again["actions"], again["image"]["id"]) == (False, [], identity)


def test_a_pinned_image_is_found_by_a_tag_of_its_digest(hosts: list[Host]) -> None:
    first, second, _third = hosts
    first.engine.publish(PINNED, "{}")
    first.engine.tag = lambda *_name, **_how: None  # type: ignore[method-assign]
    identity = first.engine.add("{}")
    state = first.engine.read()
    first.engine.write({**state, "names": {PINNED: identity}})
    first.passes()
    image = first.stage(PINNED, peer=first.peer(others=[""]))["image"]
    told = {"image": image, "sources": [first.url]}
    assert second.stage(PINNED, peer=second.peer(**told))["changed"]
    assert second.engine.names == {f"nvcr.io/nvidia/vllm:sha256-{D}": identity}
    assert not second.stage(PINNED, peer=second.peer(**told))["changed"]


def test_what_nobody_lacks_is_not_written_into_an_archive(hosts: list[Host]) -> None:
    first = hosts[0]
    first.engine.publish(NAME, "{}")
    first.passes()
    identity = first.stage()["image"]["id"]
    again = first.stage(peer=first.peer(others=[identity]))
    assert (again["changed"], first.archives()) == (False, [])
    newer = first.stage(update=True, peer=first.peer(others=[identity]))
    assert (newer["changed"], newer["actions"], "archive" in newer["image"], first.archives()) == (False, [], False, [])


@pytest.mark.parametrize(
    ("said", "reason", "words"),
    [
        pytest.param({"offline": True}, "image-missing", "offline is set", id="offline"),
        pytest.param({"disk_reserve": 1 << 60}, "disk-full", "disk_reserve keeps", id="no space"),
        pytest.param({}, "pull-failed", "registry does not have it", id="no registry has it"),
        pytest.param({"image": "Vllm"}, "invalid-parameter", "must be the name of an image", id="no name"),
        pytest.param({"mirror": "https://m"}, "invalid-parameter", "must be a registry", id="no mirror"),
        pytest.param(
            {"sources": True}, "download-failed", "first was to get it first, and failed", id="the first has failed"
        ),
    ],
)
def test_a_failure_says_what_to_change(said: dict[str, t.Any], reason: str, words: str, hosts: list[Host]) -> None:
    said, name = dict(said), said.get("image", NAME)
    peer = hosts[0].peer(sources=["http://127.0.0.1:9"]) if said.pop("sources", None) else None
    said.pop("image", None)
    with pytest.raises(VllmError) as caught:
        hosts[0].stage(name, peer=peer, **said)
    assert (caught.value.reason, words in str(caught.value)) == (reason, True), str(caught.value)
    assert hosts[0].engine.names == {}


def test_a_full_engine_is_told_and_what_came_is_used_by_the_next_run(
    hosts: list[Host], passed_on: dict[str, t.Any]
) -> None:
    second = hosts[1]
    (second.engine.root / "full").write_text("")
    with pytest.raises(VllmError, match="disk of the Docker data directory is full") as caught:
        second.stage(peer=second.peer(**passed_on))
    assert (caught.value.reason, second.engine.names) == ("disk-full", {})
    (second.engine.root / "full").unlink()
    done = second.stage(peer=second.peer(**passed_on))
    assert (done["fetched_bytes"], second.engine.names) == (0, {NAME: sha256(b"{}")})


def until(holds: t.Callable[[], t.Any]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def worker(state: Path) -> int:
    """The process that is at work."""
    (record,) = state.glob("gpufleet.vllm/image-*.json")
    return int(json.loads(record.read_text())["process"].split()[0])


def test_a_run_that_is_killed_while_the_engine_reads_leaves_no_name(
    hosts: list[Host], passed_on: dict[str, t.Any], state: Path
) -> None:
    second = hosts[1]
    (second.engine.root / "hangs").write_text("")
    errors: list[VllmError] = []

    def stage() -> None:
        try:
            second.stage(peer=second.peer(**passed_on))
        except VllmError as error:
            errors.append(error)

    running = threading.Thread(target=stage)
    running.start()
    until((second.engine.root / "loads").exists)
    os.kill(worker(state), signal.SIGKILL)
    running.join()
    assert [error.reason for error in errors] == ["overtaken"]
    assert second.engine.names == {}
    (second.engine.root / "hangs").unlink()
    assert second.stage(peer=second.peer(**passed_on))["image"]["id"] == sha256(b"{}")


def test_an_archive_that_was_cut_short_goes_on_where_it_ended(hosts: list[Host], passed_on: dict[str, t.Any]) -> None:
    first, second, _third = hosts
    size, digest = (passed_on["image"]["archive"][key] for key in ("size", "digest"))
    content = (first.cache / "hub" / ".images" / "blobs" / digest).read_bytes()
    place = second.cache / "hub" / ".images" / "blobs"
    place.mkdir(parents=True)
    (place / f"{digest}.incomplete").write_bytes(content[:3000])
    done = second.stage(peer=second.peer(**passed_on))
    assert (done["fetched_bytes"], second.engine.names) == (size - 3000, {NAME: sha256(b"{}")})
    assert "of which 2.9 KiB are already on the host" in done["actions"][0]


def test_slices_look_at_one_pull_and_another_run_that_wants_it_too(
    hosts: list[Host], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "NOTE", 0.0)
    first = hosts[0]
    first.engine.publish(NAME, "{}")
    (first.engine.root / "holds").write_text("")
    seen = first.stage(slice=0.3)
    assert (seen["finished"], seen["progress"]["percent"], seen["progress"]["doing"]) == (False, 40, "pulled")
    at_work = worker(state)
    seen = first.stage(slice=0.1)
    assert (seen["finished"], worker(state)) == (False, at_work)
    (first.engine.root / "holds").unlink()
    until(lambda: first.engine.names)
    done = first.stage(slice=5, resume=seen["resume"])
    assert (done["finished"], done["changed"], done["image"]["id"]) == (True, True, sha256(b"{}"))
    assert not list(state.rglob("image-*"))


def test_work_that_nobody_looks_at_any_more_ends(
    hosts: list[Host], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("NOTE", 0.0), ("AWAY", 0.3)):
        monkeypatch.setattr(work, name, value)
    first = hosts[0]
    (first.engine.root / "holds").write_text("")
    assert not first.stage(slice=0.1)["finished"]
    until(lambda: not list(state.rglob("image-*")))
    assert first.engine.names == {}


def test_another_wish_takes_the_place_of_the_work(
    hosts: list[Host], state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "NOTE", 0.0)
    first = hosts[0]
    first.engine.publish("m/nvidia/vllm:25.09", "{}")
    (first.engine.root / "holds").write_text("")
    first.stage(slice=0.1)
    old = worker(state)
    (first.engine.root / "holds").unlink()
    done = first.stage(mirror="m")
    assert (done["image"]["id"], first.engine.names) == (sha256(b"{}"), {NAME: sha256(b"{}")})
    until(lambda: serving.born(old) == "")
