# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the watchdog reads, asks, concludes, writes and remembers, each by itself."""

from __future__ import annotations

import json
import os
import time
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import SYSTEMD, Ledger, entry
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.logfile import FileSource
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.http import Answer, HttpError, Server
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import from_params
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog import publish
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.ask import Asker, key_in
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.decide import (
    Clock,
    Event,
    Life,
    Settings,
    State,
    undone,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.metrics import Reading, read_metrics
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.postmortem import examine, judged, kept
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.program import MODULES, archive, unit
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.subject import subjects
from ansible_collections.gpufleet.vllm.plugins.module_utils._watchdog.watch import _available_kib, configured

# --- metrics ----------------------------------------------------------------------------------------------------------

STEPS = 'vllm:iteration_tokens_total_count{engine="0",model_name="m"} 437.0\n'
LOAD = 'vllm:num_requests_running{engine="0",model_name="m"} 8.0\nvllm:num_requests_waiting{engine="0"} 2\n'


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        pytest.param("", Reading(), id="nothing"),
        pytest.param(STEPS + LOAD, Reading({"0": 437.0}, {"0": 10.0}), id="one engine"),
        pytest.param(
            STEPS + STEPS.replace('"0"', '"1"').replace("437.0", "1e+03"),
            Reading({"0": 437.0, "1": 1000.0}),
            id="two engines",
        ),
        pytest.param(STEPS + STEPS.replace('"m"', '"n"'), Reading({"0": 874.0}), id="two models of one engine"),
        pytest.param(STEPS.replace("{", '_bucket{le="1",'), Reading(), id="a bucket is no count"),
        pytest.param("# HELP vllm:iteration_tokens_total_count x\n", Reading(), id="a comment"),
        pytest.param("vllm:iteration_tokens_total_count 3\n", Reading({"0": 3.0}), id="without labels"),
        pytest.param(
            STEPS + 'vllm:engine_sleep_state{engine="0",sleep_state="awake"} 0.0\n',
            Reading({"0": 437.0}, {}, True),
            id="asleep",
        ),
        pytest.param(
            STEPS + 'vllm:engine_sleep_state{engine="0",sleep_state="awake"} 1.0\n', Reading({"0": 437.0}), id="awake"
        ),
        pytest.param(STEPS.replace("437.0", "--"), Reading(), id="no number"),
    ],
)
def test_what_metrics_say(text: str, reading: Reading) -> None:
    assert read_metrics(text) == reading


# --- canaries ---------------------------------------------------------------------------------------------------------

SPEC = from_params({"name": "a", "model": "m", "image": "x:1", "port": 8123})


class Recorded:
    """In place of the server: what it was asked, and what it answers."""

    def __init__(self, answer: Answer | HttpError) -> None:
        self.answer, self.asked = answer, list[t.Any]()

    def __call__(self, server: Server, method: str, path: str, body: t.Any = None, *rest: t.Any) -> Answer:
        self.asked.append((server.url, dict(server.headers), method, path, body))
        if isinstance(self.answer, HttpError):
            raise self.answer
        return self.answer


def _method(asked: Recorded) -> t.Callable[..., Answer]:
    """As a method, it gets the server that it is called on."""

    def request(*arguments: t.Any) -> Answer:
        return asked(*arguments)

    return request


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        pytest.param(Answer(200, b"{}"), "answered", id="an answer"),
        pytest.param(Answer(500), "failed", id="a dead engine"),
        pytest.param(Answer(400), "unclear", id="refused"),
        pytest.param(Answer(401), "unclear", id="another key"),
        pytest.param(Answer(404), "unclear", id="another model"),
        pytest.param(Answer(429), "unclear", id="too many"),
        pytest.param(Answer(503), "unclear", id="paused"),
        pytest.param(HttpError("timeout", "x"), "failed", id="silence"),
        pytest.param(HttpError("refused", "x"), "failed", id="nobody listens"),
        pytest.param(HttpError("closed", "x"), "failed", id="hung up"),
        pytest.param(HttpError("tls", "x"), "unclear", id="not this way"),
    ],
)
def test_what_an_answer_says(answer: Answer | HttpError, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Recorded(answer)
    monkeypatch.setattr(Server, "request", _method(asked))
    assert Asker(SPEC).canary("", 40.0)[0] == outcome
    assert asked.asked[0][2:4] == ("POST", "/v1/completions")
    assert asked.asked[0][4]["max_tokens"] == 1


def test_a_canary_names_its_engine_and_has_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key").write_text("sesame\n", encoding="utf-8")
    asked = Recorded(Answer(200))
    monkeypatch.setattr(Server, "request", _method(asked))
    pooling = replace(SPEC, engine={"runner": "pooling"}, api_key_file=str(tmp_path / "key"))
    Asker(pooling).canary("3", 40.0)
    assert asked.asked == [
        (
            "http://127.0.0.1:8123",
            {"Authorization": "Bearer sesame", "X-data-parallel-rank": "3"},
            "POST",
            "/v1/embeddings",
            {"model": "m", "input": "Hi"},
        )
    ]


@pytest.mark.parametrize("is_his", [True, False])
def test_the_key_of_a_user_is_a_file_of_his(is_his: bool, tmp_path: Path) -> None:
    """Whose record says so could have root read what he may not, and send it to his own server."""
    (tmp_path / "key").write_text("sesame\n", encoding="utf-8")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    os.mkfifo(tmp_path / "pipe")
    owner = os.geteuid() if is_his else 12345
    assert key_in(str(tmp_path / "link"), owner) == ("sesame" if is_his or not owner else "")
    assert key_in(str(tmp_path / "link"), 12345) == ""
    assert key_in(str(tmp_path / "key"), 0) == "sesame"
    assert key_in(str(tmp_path / "pipe"), 0) == key_in(str(tmp_path / "none"), 0) == ""


# --- the cause --------------------------------------------------------------------------------------------------------


def gpu(index: int, **more: t.Any) -> dict[str, t.Any]:
    return {"index": index, "uuid": f"GPU-{index}", "health": "ok", "pci_bus_id": f"00000000:1{index}:00.0", **more}


GOOD = {"status": "ok", "message": None, "gpus": [gpu(0), gpu(1)]}
ON_1 = replace(SPEC, gpus=("GPU-1",))
XID = "Nov 27 host kernel: NVRM: Xid (PCI:0000:1{}:00): {}, pid=1, GPU has fallen off the bus."
RUNS = ProcessState(running=True, name="Container a")


@pytest.mark.parametrize(
    ("spec", "facts", "kernel", "full", "incurable"),
    [
        pytest.param(SPEC, GOOD, "", [], "", id="nothing is wrong"),
        pytest.param(SPEC, {**GOOD, "gpus": [gpu(0, health="lost")]}, "", [], "GPU 0 has fallen", id="a lost card"),
        pytest.param(ON_1, {**GOOD, "gpus": [gpu(0, health="lost"), gpu(1)]}, "", [], "", id="somebody else's card"),
        pytest.param(ON_1, {**GOOD, "gpus": [gpu(0)]}, "", [], "GPU-1 is not on this host", id="a card that is gone"),
        pytest.param(SPEC, GOOD, XID.format(0, 79), [], "Xid 79", id="Xid 79"),
        pytest.param(SPEC, GOOD, XID.format(0, 13), [], "", id="a fault of a program"),
        pytest.param(SPEC, GOOD, XID.format(0, 94), [], "", id="a fault that was contained"),
        pytest.param(ON_1, GOOD, XID.format(0, 79), [], "", id="Xid 79 of somebody else's card"),
        pytest.param(ON_1, GOOD, XID.format(1, 119), [], "Xid 119", id="Xid 119 of its own"),
        pytest.param(SPEC, {"status": "timeout", "message": "It hangs.", "gpus": []}, "", [], "It hangs.", id="driver"),
        pytest.param(replace(SPEC, gpus="none"), {"status": "no_gpu", "gpus": []}, "", [], "", id="without GPUs"),
        pytest.param(SPEC, GOOD, "", ["/dev/shm"], "No space is left on /dev/shm", id="a full disk"),
    ],
)
def test_what_a_restart_cannot_heal(
    spec: t.Any, facts: dict[str, t.Any], kernel: str, full: list[str], incurable: str
) -> None:
    found = judged("INFO 11-27 03:00:00 [x.py:1] hello\n", RUNS, facts, kernel, spec, full, why="it hangs")
    assert bool(found.incurable) == bool(incurable)
    assert incurable in found.incurable
    assert found.cause == (found.incurable or "it hangs")


DEAD = """\
(APIServer pid=1) INFO 11-27 03:00:00 [api_server.py:1805] vLLM API server version 0.26.0
(APIServer pid=1) INFO:     Application startup complete.
(EngineCore pid=9) ERROR 11-27 03:10:00 [core.py:710] EngineCore encountered a fatal error.
(EngineCore pid=9) ERROR 11-27 03:10:00 [core.py:710] OSError: [Errno 28] No space left on device
(APIServer pid=1) ERROR 11-27 03:10:01 [x.py:1] vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.
"""
AGAIN = "(APIServer pid=1) INFO 11-27 03:11:00 [api_server.py:1805] vLLM API server version 0.26.0\n"


READY = AGAIN + "(APIServer pid=1) INFO:     Application startup complete.\n"


@pytest.mark.parametrize("next_life", ["", AGAIN, READY], ids=["silent", "told", "ready already"])
def test_the_life_that_ended_tells_the_cause(next_life: str) -> None:
    found = judged(DEAD + next_life, replace(RUNS, restarts=1), GOOD, "", SPEC, [], why="it ended", ended=True)
    assert "full" in found.cause
    assert found.incurable.startswith(found.cause.split(".", maxsplit=1)[0])


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_post_mortems_are_bounded(tmp_path: Path) -> None:
    directory = str(tmp_path / "kept")
    for number in range(9):
        path = kept("Unit vllm-a.service", "x" * (3 << 20), directory, number)
    names = sorted(os.listdir(directory))
    assert (len(names), os.path.basename(path)) == (5, names[-1])
    assert all(os.stat(f"{directory}/{name}").st_size == (1 << 20) + 1 for name in names)
    assert kept("c", "x", "/proc/nowhere", 1.0) == ""


def test_a_post_mortem_holds_no_secret(tmp_path: Path) -> None:
    class Told(FileSource):
        def about(self) -> dict[str, t.Any]:
            return {"secrets": ["sesame4711"]}

    (tmp_path / "log").write_text("INFO the key is sesame4711\n\x1b[31mred\n", encoding="utf-8")
    spec = replace(SPEC, gpus="none", port=9)
    finding, path, unified = examine(Told(str(tmp_path / "log")), spec, "sesame4711 hangs", str(tmp_path / "kept"), 1.0)
    text = Path(path).read_text(encoding="utf-8")
    assert (finding.cause, unified) == ("sesame4711 hangs", False)
    assert "sesame4711" not in text
    assert text.endswith("== Log ==\nINFO the key is ********\nred\n")
    assert [line for line in text.splitlines() if line.startswith("== ")][:2] == ["== Summary ==", "== Process =="]


STATE = State(
    Life("c1", "then", 2),
    "serving",
    1.7e9,
    True,
    (Event(1.6e9, "hang", "why"), Event(1.65e9, "crash", "x")),
    "enough",
    7,
    True,
)


def test_what_is_remembered_is_what_was_written() -> None:
    content = json.loads(json.dumps(publish.written(STATE, {"name": "a"})))
    assert publish.read_back(content) == STATE


@pytest.mark.parametrize("content", [None, [], {}, {"life": 3}, {"life": None, "status": "x"}, "x"])
def test_what_cannot_be_read_is_forgotten(content: t.Any) -> None:
    assert publish.read_back(content) == State()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("", 3600, id="empty"),
        pytest.param("7200\n", 7200, id="seconds"),
        pytest.param("for ever", 3600, id="no number"),
        pytest.param("nan", 3600, id="not a number"),
        pytest.param("1e99", 30 * 86400, id="for ever"),
        pytest.param("-5", 0, id="over"),
    ],
)
def test_a_pause_ends(text: str, seconds: float, tmp_path: Path) -> None:
    path = tmp_path / "paused"
    assert publish.paused_until(str(path)) == 0.0
    path.write_text(text, encoding="utf-8")
    os.utime(path, (1000.0, 1000.0))
    assert publish.paused_until(str(path)) == 1000.0 + seconds


def test_metrics_are_read_by_node_exporter() -> None:
    text = publish.exposition({'a"b': STATE}, 1.7e9, 0.0)
    assert 'gpufleet_vllm_watchdog_restarts_total{server="a\\"b"} 7\n' in text
    assert all(line[0] == "#" or len(line.rsplit(" ", 1)) == 2 for line in text.splitlines())


def test_a_hook_gets_notices_and_keeps_nobody_waiting(tmp_path: Path) -> None:
    path, said = tmp_path / "out", list[str]()
    hook = publish.Hook(["/bin/sh", "-c", f"cat >> {path}"], "", said.append)
    slow = publish.Hook(["/bin/sleep", "20"], "", said.append)
    bad = publish.Hook(["/bin/false"], "", said.append)
    began = time.monotonic()
    for one in (hook, slow, bad):
        for _number in range(publish.WAITING + 20):
            one.send({"event": "hung"})
    assert time.monotonic() - began < 15
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and not (path.exists() and path.read_text(encoding="utf-8") and said):
        time.sleep(0.05)
    assert path.read_text(encoding="utf-8").startswith('{"event": "hung"}')
    assert said[0] == "The hook did not take a notice: CalledProcessError."


# --- restarts that fail -----------------------------------------------------------------------------------------------


def test_a_restart_that_fails_is_tried_again_within_the_budget() -> None:
    state, clock, settings = State(Life("c1", "x"), acting=True), Clock(1.0, 1.7e9), Settings()
    for _number in range(settings.restarts):
        state = undone(state, "no GPU", clock, settings)
        assert (state.acting, state.stood_down) == (True, "")
    state = undone(state, "no GPU", clock, settings)
    assert (state.acting, state.stood_down) == (False, "It could not be restarted: no GPU")


# --- servers by the record --------------------------------------------------------------------------------------------

INTENT = {"name": "a", "model": "m", "image": "x:1"}


def test_servers_are_those_of_the_record(tmp_path: Path) -> None:
    socket = f"unix://{tmp_path}/engine.sock"
    containers, units = Ledger(str(tmp_path / "r"), socket), Ledger(str(tmp_path / "r"), SYSTEMD)
    containers.write(entry("vllm-a", "server", name="vllm-a", identity="1" * 64, intent=INTENT, start_seconds=2700))
    containers.write(entry("vllm-a", "server", name="vllm-a-next", identity="2" * 64, intent=INTENT))
    containers.write(entry("vllm-b", "fetch", name="vllm-b-fetch", identity="3" * 64, intent=INTENT))
    containers.write(entry("vllm-c", "server", name="vllm-c", identity="", intent=INTENT))
    containers.write(entry("vllm-d", "server", name="vllm-d", identity="4" * 64, intent={"name": 3}))
    units.write(entry("vllm-u", "server", name="vllm-u", identity="5" * 64, intent={**INTENT, "venv": "/v"}))
    found = subjects([(str(tmp_path / "r"), os.geteuid())])
    assert found[0].starts["1" * 64] == 2700
    named = {(one.backend, one.name): sorted(one.identities) for one in found}
    assert named.pop(("container", "vllm-a")) == ["1" * 64, "2" * 64]
    # What another user's record says of units is nobody's business.
    assert named == ({("systemd", "vllm-u"): ["5" * 64]} if os.geteuid() == 0 else {})


def test_a_record_that_others_may_write_is_not_believed(tmp_path: Path) -> None:
    Ledger(str(tmp_path / "r")).write(entry("vllm-a", "server", name="a", identity="1", intent=INTENT))
    problems: list[str] = []
    os.chmod(tmp_path / "r" / "owned", 0o777)
    assert subjects([(str(tmp_path / "r"), os.geteuid())], problems.append) == []
    assert "Cannot trust" in problems[0]


def test_the_record_of_another_user_is_not_taken_for_ones_own(tmp_path: Path) -> None:
    Ledger(str(tmp_path / "r")).write(entry("vllm-a", "server", name="a", identity="1", intent=INTENT))
    problems: list[str] = []
    assert subjects([(str(tmp_path / "r"), os.geteuid() + 1)], problems.append) == []
    assert problems


# --- the program ------------------------------------------------------------------------------------------------------


def test_it_is_made_of_all_that_is_reached_and_of_nothing_else() -> None:
    import test_layout

    reached = test_layout.reached(test_layout.UTILS / "_watchdog" / "watch.py") | {"_watchdog/watch.py"}
    assert sorted(reached) == sorted(f"{name.replace('.', '/')}.py" for name in MODULES)


def test_it_is_the_same_each_time() -> None:
    before = archive()
    archive.cache_clear()
    assert archive() == before


def test_its_unit_has_no_setting_and_hides_no_gpu() -> None:
    text = unit("/usr/bin/python3")
    assert "ExecStart=/usr/bin/python3 -I /usr/local/lib/gpufleet.vllm/watchdog.pyz\n" in text
    assert "Restart=always\n" in text
    directives = {line.partition("=")[0] for line in text.splitlines() if line[:1].isalpha()}
    assert not directives & {"PrivateDevices", "ProtectClock", "DevicePolicy", "PrivateTmp", "DynamicUser"}


@pytest.mark.parametrize("text", ["{", "[]", '{"stall": "x"}', '{"records": 3}'])
def test_a_configuration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(VllmError, match="cannot be read"):
        configured(text)


def test_a_configuration_is_settings_and_the_rest() -> None:
    found = configured('{"restarts": 5, "stall": 60, "hook_url": "http://x", "directory": "/d"}')
    assert (found.settings.restarts, found.settings.stall, found.settings.window) == (5, 60.0, 3600.0)
    assert (found.hook_url, found.paused, found.alone) == ("http://x", "/d/paused", False)


@pytest.mark.parametrize(("text", "kib"), [("MemTotal: 9 kB\nMemAvailable:    123 kB\n", 123), ("", -1)])
def test_the_memory_that_is_back(text: str, kib: int) -> None:
    assert _available_kib(text) == kib
