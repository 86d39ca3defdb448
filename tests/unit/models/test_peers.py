# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host passes a model on to others of its run: while it comes, verified, to nobody else, and not for longer."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import born
from ansible_collections.gpufleet.vllm.plugins.module_utils._models import peers, serving
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.run import run
from hub_rig import COLLECTIONS, COMMIT, CUT, MODEL, SHARDS, WANTED, Hub, blobs, digest, free_ports, parameters, tree

TOKEN = "t0ken"
# What a host does in a process of its own, as a module would.
CHILD = r"""
import json, sys

wish = json.loads(sys.argv[1])
sys.path.insert(0, wish["collections"])
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import ledger
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._models import peers, run, serving

ledger.SYSTEM_STATE = lock.DIRECTORY = wish["state"]
for name, value in wish["patches"].items():
    setattr(serving, name, value)
do = run.run if "model" in wish["parameters"] else peers.run
try:
    print(json.dumps(do(wish["parameters"], False)))
except VllmError as error:
    print(json.dumps({"msg": str(error), "reason": error.reason}))
"""


class Host:
    """A simulated host: a cache, a state and an address."""

    def __init__(self, path: Path) -> None:
        self.cache, self.state, self.port = path / "huggingface", path / "state", free_ports()[0]
        self.state.mkdir(parents=True, mode=0o755)
        self.url = f"http://127.0.0.1:{self.port}"

    def peer(self, **told: t.Any) -> dict[str, t.Any]:
        known = {"sources": [], "commit": None, "files": [], "left_out_bytes": 0}
        return {"address": "127.0.0.1", "port": self.port, "token": TOKEN, **known, **told}

    def begin(self, wish: dict[str, t.Any], **patches: t.Any) -> subprocess.Popen[str]:
        told = {"collections": str(COLLECTIONS), "state": str(self.state), "parameters": wish, "patches": patches}
        command = [sys.executable, "-c", CHILD, json.dumps(told)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def do(self, wish: dict[str, t.Any], **patches: t.Any) -> dict[str, t.Any]:
        return ended(self.begin(wish, **patches))

    def passes(self, state: str = "started", **patches: t.Any) -> dict[str, t.Any]:
        wish = {"state": state, "huggingface_dir": str(self.cache), "address": "127.0.0.1", "port": self.port}
        return self.do({**wish, "token": TOKEN}, **patches)

    def wish(self, hub: str, peer: dict[str, t.Any], **said: t.Any) -> dict[str, t.Any]:
        return parameters(self.cache, endpoint=hub, peer=peer, **said)

    def listens(self) -> bool:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", self.port), 5):
            return True
        return False

    def record(self) -> dict[str, t.Any]:
        (found,) = self.state.glob("gpufleet.vllm/peer-*.json")
        return t.cast("dict[str, t.Any]", json.loads(found.read_text()))


def ended(child: subprocess.Popen[str]) -> dict[str, t.Any]:
    output, errors = child.communicate(timeout=60)
    assert child.returncode == 0, errors
    return t.cast("dict[str, t.Any]", json.loads(output))


def until(holds: t.Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture(name="hosts")
def _hosts(tmp_path: Path) -> t.Iterator[t.Callable[[int], list[Host]]]:
    made: list[Host] = []

    def make(count: int) -> list[Host]:
        made.extend(Host(tmp_path / f"host-{number}") for number in range(count))
        return made

    yield make
    for record in (found for host in made for found in host.state.rglob("peer-*.json")):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(json.loads(record.read_text())["process"].split()[0]), signal.SIGKILL)


@pytest.fixture(name="told")
def _told(cache: Path) -> dict[str, t.Any]:
    """What the controller says of the model."""
    with Hub() as hub:
        model = run(parameters(cache, endpoint=hub.url), True)["model"]
    return {key: model[key] for key in ("commit", "files", "left_out_bytes")}


# --- from host to host ----------------------------------------------------------------------------------------------


def test_a_model_goes_through_a_chain_while_it_comes_and_leaves_the_source_once(
    hosts: t.Callable[[int], list[Host]], told: dict[str, t.Any]
) -> None:
    chain = hosts(3)
    # The source stops in the middle of a file until the end of the chain has what came.
    with Hub(**{SHARDS[0]: ["stall", ""]}) as hub:
        for host in chain:
            assert host.passes() == {"changed": False, "url": host.url, "models": []}
        running = [chain[0].begin(chain[0].wish(hub.url, chain[0].peer(**told), timeout=30))]
        for number, host in enumerate(chain[1:], 1):
            sources = [other.url for other in reversed(chain[:number])]
            running.append(host.begin(host.wish("http://127.0.0.1:9", host.peer(sources=sources, **told))))
        partial = f"{digest(SHARDS[0], hub.files[SHARDS[0]])}.incomplete"
        until(lambda: len(blobs(chain[-1].cache).get(partial, b"")) == CUT)
        assert running[0].poll() is None
        hub.released.set()
        results = [ended(child) for child in running]
        files = dict(hub.files)
        assert [one.range for one in hub.asked(SHARDS[0], "store")] == ["", f"bytes={CUT}-"]
        assert len(hub.asked(SHARDS[1], "store")) == 1
    for host, result in zip(chain, results):
        assert result.get("finished"), "\n".join(str(one.get("msg")) for one in results)
        assert tree(host.cache) == {name: files[name] for name in WANTED}
        assert result["fetched_bytes"] == sum(len(files[name]) for name in WANTED)
    assert results[1]["actions"][0] == f"fetch 7 files of org/small from {chain[0].url} (586.2 KiB)"
    assert results[1]["model"]["left_out_bytes"] == results[0]["model"]["left_out_bytes"] > 0
    for host in chain:
        pid = int(host.record()["process"].split()[0])
        host.passes("stopped")
        assert (host.listens(), born(pid)) == (False, "")
        assert not list(host.state.rglob("peer-*"))


def test_what_an_interrupted_run_left_is_gone_on_with_from_a_peer(
    hosts: t.Callable[[int], list[Host]], told: dict[str, t.Any]
) -> None:
    first, second = hosts(2)
    with Hub(**{SHARDS[0]: ["cut", "503"]}) as hub:
        failed = second.do(second.wish(hub.url, None, connections=1, attempts=1))
        assert failed["reason"] == "download-failed"
        hub.faults.clear()
        first.do(first.wish(hub.url, first.peer(**told)))
        files = dict(hub.files)
    done = second.do(second.wish("http://127.0.0.1:9", second.peer(sources=[first.url], **told)))
    assert "of which 97.7 KiB are already on the host" in done["actions"][0]
    # Files are fetched in the order of their names, and the first shard was cut.
    assert done["fetched_bytes"] == sum(len(files[name]) for name in WANTED if name >= SHARDS[0]) - CUT
    assert tree(second.cache) == {name: files[name] for name in WANTED}
    # From now on nobody is needed.
    again = second.do(parameters(second.cache, offline=True))
    assert (again["changed"], again["actions"]) == (False, [])


def test_a_peer_that_is_gone_or_gave_up_is_passed_over(
    hosts: t.Callable[[int], list[Host]], told: dict[str, t.Any]
) -> None:
    first, second, third = hosts(3)
    with Hub() as hub:
        first.do(first.wish(hub.url, first.peer(**told)))
    second.passes()
    refused = second.do(
        second.wish("http://127.0.0.1:9", second.peer(sources=["http://127.0.0.1:9"], **told), attempts=1)
    )
    assert "nothing listens at 127.0.0.1:9" in refused["msg"]
    assert second.record()["fetches"] == serving.GIVEN_UP
    alone = third.do(third.wish("http://127.0.0.1:9", third.peer(sources=[second.url], **told), attempts=1))
    assert "that host does not have the file, and fetches it no longer" in alone["msg"]
    third.passes()
    sources = ["http://127.0.0.1:9", second.url, first.url]
    done = third.do(third.wish("http://127.0.0.1:9", third.peer(sources=sources, **told)))
    assert (done["finished"], len(tree(third.cache))) == (True, len(WANTED))


# --- how long it listens --------------------------------------------------------------------------------------------


def test_a_process_that_nobody_uses_ends_by_itself(hosts: t.Callable[[int], list[Host]]) -> None:
    (host,) = hosts(1)
    host.passes(IDLE=1.0)
    assert host.listens()
    until(lambda: not host.listens())
    assert not list(host.state.rglob("*"))


def test_a_process_of_an_earlier_run_gives_way_to_the_next_run_and_not_to_a_step_of_its_own(
    hosts: t.Callable[[int], list[Host]], told: dict[str, t.Any]
) -> None:
    (host,) = hosts(1)
    host.passes()
    first = host.record()["process"]
    host.passes()
    assert host.record()["process"] == first, "the same run goes on with it"
    os.kill(int(first.split()[0]), signal.SIGKILL)
    host.passes()
    assert (host.record()["process"] != first, host.listens()) == (True, True)
    first = host.record()["process"]
    error = host.do(host.wish("http://127.0.0.1:9", {**host.peer(**told), "token": "another"}))
    assert (error["reason"], "another run has begun to" in error["msg"]) == ("overtaken", True)
    wish = {"state": "started", "huggingface_dir": str(host.cache), "address": "127.0.0.1", "port": host.port}
    host.do({**wish, "token": "another"})
    assert host.record()["process"] != first
    assert born(int(first.split()[0])) == ""


def test_a_port_of_somebody_else_and_an_address_of_no_host_are_told(hosts: t.Callable[[int], list[Host]]) -> None:
    (host,) = hosts(1)
    wish = {"state": "started", "huggingface_dir": str(host.cache), "token": TOKEN}
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        taken = host.do({**wish, "address": "127.0.0.1", "port": port})
    assert (taken["reason"], f"at 127.0.0.1:{port}: Address already in use" in taken["msg"]) == ("port-in-use", True)
    for address, words in (("192.0.2.1", "Cannot assign"), ("0.0.0.0", "must be the address of this host"), ("::", "")):
        assert words in host.do({**wish, "address": address, "port": host.port})["msg"]
    assert "between 1 and 65535" in host.do({**wish, "address": "127.0.0.1", "port": 70000})["msg"]


# --- one process, looked at closely ---------------------------------------------------------------------------------


class Serving:
    """The server in this process."""

    def __init__(self, cache: Path) -> None:
        self.place = serving.Place(str(cache), "127.0.0.1", free_ports()[0])
        self.server = serving.Listening(self.place)
        self.server.token, self.server.process = f"Bearer {TOKEN}", born(os.getpid())
        self.note("")
        self.blobs = cache / "hub" / "models--org--small" / "blobs"
        self.blobs.mkdir(parents=True)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> Serving:
        self.thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def note(self, fetches: str) -> None:
        record = {"version": 1, "process": self.server.process, "fetches": fetches}
        Path(self.place.record).parent.mkdir(exist_ok=True)
        Path(self.place.record).write_text(json.dumps(record))

    def ask(self, path: str, token: str = TOKEN, start: int = 0) -> tuple[int, bytes | None]:
        """Status and body; None for one that was cut short."""
        connection = http.client.HTTPConnection("127.0.0.1", self.place.port, timeout=30)
        headers = {"Authorization": f"Bearer {token}", **({"Range": f"bytes={start}-"} if start else {})}
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.IncompleteRead:
            return 0, None
        finally:
            connection.close()


NAME = "a" * 64
BLOB = f"/models--org--small/blobs/{NAME}"


@pytest.mark.parametrize(
    ("path", "token", "start", "status", "body"),
    [
        pytest.param(f"{BLOB}?size=10", TOKEN, 0, 200, b"0123456789", id="a blob"),
        pytest.param(f"{BLOB}?size=10", TOKEN, 4, 206, b"456789", id="the rest of a blob"),
        pytest.param(f"{BLOB}?size=10", "other", 0, 401, b"", id="another token"),
        pytest.param(f"{BLOB}?size=10", "", 0, 401, b"", id="no token"),
        pytest.param(f"{BLOB}?size=11", TOKEN, 0, 503, b"", id="a blob of another size is none"),
        pytest.param(f"/models--org--small/blobs/{'b' * 64}?size=1", TOKEN, 0, 503, b"", id="what may still come"),
        pytest.param(f"/models--org--small/blobs/{'c' * 64}?size=1", TOKEN, 0, 503, b"", id="a link is no blob"),
        pytest.param(BLOB, TOKEN, 0, 404, b"", id="no size"),
        pytest.param("/", TOKEN, 0, 404, b"", id="no list"),
        pytest.param("/models--org--small/blobs/../refs/main?size=1", TOKEN, 0, 404, b"", id="a way out"),
        pytest.param(f"/../models--org--small/blobs/{NAME}?size=10", TOKEN, 0, 404, b"", id="another way out"),
    ],
)
def test_who_asks_for_a_digest_with_the_token_gets_it_and_nothing_else(
    path: str, token: str, start: int, status: int, body: bytes, cache: Path
) -> None:
    with Serving(cache) as served:
        (served.blobs / NAME).write_bytes(b"0123456789")
        (served.blobs / ("c" * 64)).symlink_to(served.blobs / NAME)
        assert served.ask(path, token, start) == (status, body)


@pytest.mark.parametrize(
    ("fetches", "away", "status"),
    [
        pytest.param("", 0, 503, id="no run has begun"),
        pytest.param("SELF", 0, 503, id="a run fetches"),
        pytest.param("1 1", 60, 503, id="a run is between two slices"),
        pytest.param("1 1", -1, 410, id="a run was killed"),
        pytest.param(serving.GIVEN_UP, 60, 410, id="a run has failed"),
    ],
)
def test_who_waits_learns_whether_it_is_worth_it(
    fetches: str, away: float, status: int, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "AWAY", away)
    with Serving(cache) as served:
        served.note(born(os.getpid()) if fetches == "SELF" else fetches)
        assert served.ask(f"{BLOB}?size=10")[0] == status


def test_a_file_that_comes_is_given_as_it_comes_and_one_that_begins_anew_is_cut(cache: Path) -> None:
    with Serving(cache) as served:
        partial = served.blobs / f"{NAME}.incomplete"
        partial.write_bytes(b"0123")
        assert served.ask(f"{BLOB}?size=10", start=4) == (503, b""), "nothing new"
        answers: list[tuple[int, bytes | None]] = []
        asking = threading.Thread(target=lambda: answers.append(served.ask(f"{BLOB}?size=10")))
        asking.start()
        time.sleep(0.1)
        with partial.open("ab") as stream:
            stream.write(b"456789")
        partial.rename(served.blobs / NAME)
        asking.join()
        assert answers == [(200, b"0123456789")]
        os.rename(served.blobs / NAME, partial)
        os.truncate(partial, 6)
        asking = threading.Thread(target=lambda: answers.append(served.ask(f"{BLOB}?size=10")))
        asking.start()
        time.sleep(0.1)
        os.truncate(partial, 0)
        asking.join()
        assert answers[1:] == [(0, None)]


# --- what the controller says ---------------------------------------------------------------------------------------

GOOD = {"path": "config.json", "size": 2, "digest": "d" * 40}


@pytest.mark.parametrize(
    "files",
    [
        pytest.param([], id="nothing"),
        pytest.param([{**GOOD, "path": "../../etc/passwd"}], id="a path that leads out"),
        pytest.param([{**GOOD, "path": "/etc/passwd"}], id="an absolute path"),
        pytest.param([GOOD, {**GOOD, "digest": "../x"}], id="no digest"),
        pytest.param([{**GOOD, "size": -1}], id="no size"),
        pytest.param([GOOD, "x"], id="no file"),
    ],
)
def test_a_list_of_files_that_cannot_be_meant_is_refused(files: list[t.Any]) -> None:
    with pytest.raises(VllmError, match="Do not trust that host"):
        peers.listing_of({"commit": COMMIT, "files": files}, MODEL)


def test_the_files_that_are_told_are_those_that_are_fetched(cache: Path, told: dict[str, t.Any]) -> None:
    """The Hub has moved on; who asked it has told where it was."""
    with Hub() as hub:
        hub.commits["main"] = "beef" + 36 * "1"
        peer = {"address": "127.0.0.1", "port": 1, "token": TOKEN, "sources": [], **told}
        planned = run(parameters(cache, endpoint=hub.url, peer=peer), True)
        assert hub.requests == []
    assert planned["model"]["commit"] == COMMIT
    assert {one["digest"] for one in planned["model"]["files"]} == {digest(n, hub.files[n]) for n in WANTED}
    assert blobs(cache) == {}
