# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Images on a real Docker Engine: pulled from a mirror, written into an archive, passed on, and found by a deploy."""

from __future__ import annotations

import contextlib
import functools
import os
import time
import typing as t
from pathlib import Path

import docker.errors
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import ledger
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._images.run import PARAMETERS, run
from ansible_collections.gpufleet.vllm.plugins.module_utils._models import peers
from engine_host import Host, Registry
from free_ports import free_ports

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

# No registry of that name answers.
NAME = "gpufleet-unit.invalid/vllm"


@pytest.fixture(autouse=True)
def _state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    monkeypatch.setattr(ledger, "SYSTEM_STATE", str(state))
    monkeypatch.setattr(lock, "DIRECTORY", str(state))
    monkeypatch.setenv("XDG_STATE_HOME", str(state))


@pytest.fixture(autouse=True)
def _gone(engine: t.Any) -> t.Iterator[None]:
    yield
    for reference in named(engine):
        with contextlib.suppress(docker.errors.ImageNotFound):
            engine.remove_image(reference, force=True)


def named(engine: t.Any) -> list[str]:
    return [tag for one in engine.images() for tag in one["RepoTags"] or () if tag.startswith(NAME)]


class Machine:
    """A host of a play, with a cache and an address of its own; the engine is that of this machine."""

    def __init__(self, path: Path) -> None:
        self.cache, self.port = path, free_ports()[0]
        self.url = f"http://127.0.0.1:{self.port}"

    def stage(self, image: str, check: bool = False, **said: t.Any) -> dict[str, t.Any]:
        defaults = {key: option.get("default") for key, option in PARAMETERS.items()}
        quick = {"disk_reserve": 0, "timeout": 5, "attempts": 1}
        wish = {**defaults, "image": image, "huggingface_dir": str(self.cache), **quick, **said}
        return run(wish, check)

    def peer(self, **told: t.Any) -> dict[str, t.Any]:
        known = {"sources": [], "image": {}, "others": [], "head": "first"}
        return {"address": "127.0.0.1", "port": self.port, "token": "t0ken", **known, **told}

    def passes(self, state: str) -> None:
        wish = {"state": state, "huggingface_dir": str(self.cache), "address": "127.0.0.1", "port": self.port}
        peers.run({**wish, "token": "t0ken"}, False)

    def archives(self) -> list[str]:
        place = self.cache / "hub" / ".images"
        return sorted(path.name for path in place.rglob("*") if path.is_file())


@pytest.fixture(name="machines")
def _machines(tmp_path: Path) -> t.Iterator[list[Machine]]:
    made = [Machine(tmp_path / name) for name in ("first", "second", "third")]
    yield made
    for one in made:
        one.passes("stopped")


def test_an_image_comes_from_a_mirror_under_its_own_name_and_once(
    machines: list[Machine], registry: Registry, engine: t.Any
) -> None:
    registry.push("vllm:1", "from the mirror")
    (machine, *_others), mirror = machines, {"mirror": registry.address}
    planned = machine.stage(f"{NAME}:1", True, **mirror)
    assert (planned["image"], registry.asked) == (None, [])
    done = machine.stage(f"{NAME}:1", **mirror)
    assert planned["actions"] == done["actions"] == [f"pull {NAME}:1 from {registry.address}"]
    assert (done["changed"], named(engine)) == (True, [f"{NAME}:1"])
    assert done["image"]["id"] == engine.inspect_image(f"{NAME}:1")["Id"]
    assert not [tag for one in engine.images() for tag in one["RepoTags"] or () if tag.startswith(registry.address)]
    registry.asked.clear()
    for check in (False, True):
        again = machine.stage(f"{NAME}:1", check, **mirror)
        assert (again["changed"], again["actions"], registry.asked) == (False, [], [])
    registry.push("vllm:1", "a newer one")
    newer = machine.stage(f"{NAME}:1", update=True, **mirror)
    assert (newer["changed"], newer["diff"]["before"]) == (True, {f"{NAME}:1": done["image"]["id"]})
    same = machine.stage(f"{NAME}:1", update=True, **mirror)
    assert (same["changed"], same["actions"]) == (False, [])


def test_a_registry_that_does_not_have_it_is_told(machines: list[Machine], registry: Registry, engine: t.Any) -> None:
    with pytest.raises(VllmError, match="does not have it") as caught:
        machines[0].stage(f"{NAME}:2", mirror=registry.address)
    assert (caught.value.reason, named(engine)) == ("pull-failed", [])


@pytest.mark.parametrize("pinned", [False, True], ids=["by tag", "by digest"])
def test_an_image_is_passed_on_with_its_id_and_a_deploy_finds_it(
    pinned: bool, machines: list[Machine], registry: Registry, engine: t.Any, host: Host
) -> None:
    digest = registry.push("vllm:1", "passed on")
    name = f"{NAME}@{digest}" if pinned else f"{NAME}:1"
    first, second, third = machines
    for one in machines:
        one.passes("started")
    had = first.stage(name, mirror=registry.address, peer=first.peer(others=["", ""]))
    image = had["image"]
    assert (len(first.archives()), image["ids"][0]) == (1, image["id"])
    # The other hosts have another engine: here it forgets the image.
    for tag in named(engine):
        engine.remove_image(tag)
    assert not [one for one in engine.images() if one["Id"] == image["id"]]
    registry.asked.clear()
    told = {"image": image, "sources": [first.url]}
    planned = second.stage(name, True, peer=second.peer(**told))
    done = second.stage(name, peer=second.peer(**told))
    assert planned["actions"] == done["actions"]
    assert done["actions"][0].startswith(f"fetch {name} from {first.url} (")
    assert (done["image"]["id"], done["fetched_bytes"]) == (image["id"], image["archive"]["size"])
    # What the second has fetched it passes on; the third has the image under no name.
    (tag,) = named(engine)
    engine.tag(tag, "gpufleet-unit-kept")
    engine.remove_image(tag)
    try:
        last = third.stage(name, peer=third.peer(image=image, sources=[second.url, first.url]))
    finally:
        engine.remove_image("gpufleet-unit-kept")
    assert last["actions"] == [f"have {name} stand for {image['id'][:19]}"]
    again = third.stage(name, peer=third.peer(image=image, sources=[second.url, first.url]))
    assert (again["changed"], again["actions"]) == (False, [])
    for one in machines:
        one.passes("stopped")
        assert one.archives() == []
    # Nobody is asked, and the server runs what was staged.
    host.run(image=name, pull="never")
    assert host.inspect()["Image"] == image["id"]
    assert not host.run(image=name, pull="never")["changed"]
    assert registry.asked == []


def test_a_pull_goes_on_while_calls_only_look(machines: list[Machine], registry: Registry, engine: t.Any) -> None:
    registry.push("vllm:1", "in slices")
    answer, held = registry.answer, [True]

    def slow(path: str) -> tuple[int, str, bytes]:
        while "/blobs/" in path and held[0]:
            time.sleep(0.05)
        return answer(path)

    registry.answer = slow  # type: ignore[method-assign]
    stage = functools.partial(machines[0].stage, f"{NAME}:1", mirror=registry.address, slice=0.3)
    seen = stage()
    assert (seen["finished"], seen["changed"], named(engine)) == (False, True, [])
    # The controller was killed, and another run begins: it looks at the same pull.
    seen = stage()
    assert not seen["finished"]
    asked = len([path for path in registry.asked if "/manifests/" in path])
    held[0] = False
    for _turn in range(100):
        seen = stage(resume=seen["resume"])
        if seen["finished"]:
            break
    assert (seen["finished"], named(engine)) == (True, [f"{NAME}:1"])
    assert len([path for path in registry.asked if "/manifests/" in path]) == asked


def test_what_is_no_archive_of_that_image_is_not_loaded(
    machines: list[Machine], registry: Registry, engine: t.Any
) -> None:
    registry.push("vllm:1", "one")
    registry.push("vllm:2", "another")
    first, second, _third = machines
    first.passes("started")
    peer = first.peer(others=[""])
    one = first.stage(f"{NAME}:1", mirror=registry.address, peer=peer)["image"]
    other = first.stage(f"{NAME}:2", mirror=registry.address, peer=peer)["image"]
    for tag in named(engine):
        engine.remove_image(tag)
    swapped = {**one, "archive": other["archive"]}
    with pytest.raises(VllmError, match="it holds .* and that host has") as caught:
        second.stage(f"{NAME}:1", peer=second.peer(image=swapped, sources=[first.url]))
    assert (caught.value.reason, named(engine)) == ("download-failed", [])
    (path,) = (path for path in (first.cache / "hub").rglob("*") if path.name == one["archive"]["digest"])
    os.truncate(path, one["archive"]["size"] - 1)
    with pytest.raises(VllmError, match="does not have the file"):
        second.stage(f"{NAME}:1", peer=second.peer(image=one, sources=[first.url]))
    assert named(engine) == []
