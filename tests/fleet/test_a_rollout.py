# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What becomes of twelve hosts when a rollout over them goes wrong; what was seen is written into docs/reliability.md."""

from __future__ import annotations

import datetime
import shutil
import signal
import subprocess
import tempfile
import time
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from fleet import AT_ONCE, CANARIES, FIRST, GPT_OSS, LABELS, ROOT, SECOND, Fleet, Member, eventually, tally
from simulated import TOKEN

DOCUMENT = ROOT / "docs/reliability.md"
BEGIN, END = "<!-- Written by make rollout-fleet. -->", "<!-- Up to here. -->"
HEAD = ["| scene | what was seen | seconds | last seen |", "|---|---|---|---|"]
# A server that is started again by the engine or systemd, or by a module whose controller died, takes its time.
COMES_BACK = 60.0
ILLEGAL_ACCESS = "RuntimeError: CUDA error: an illegal memory access was encountered"
DIES = {"fault": "exit-at-once", "message": ILLEGAL_ACCESS}
WAITS = "TASK [gpufleet.vllm.vllm_server : Wait until the server answers correctly]"
WAVE = "PLAY [Change the hosts, wave by wave]"
FIRST_IS_HEALTHY = f"Wave 1 of 2: all {len(FIRST)} hosts are healthy."


# --- scenes: each returns what was seen -------------------------------------------------------------------------------


def bare_hosts(fleet: Fleet) -> str:
    """From nothing, and the same again."""
    fleet.reset()
    done = fleet.complete(GPT_OSS, LABELS)
    again = fleet.complete(GPT_OSS, ())
    return f"{tally(done)}. The same command again: {tally(again)}; no server was touched"


def canary_fails(fleet: Fleet) -> str:
    old, new = fleet.serving(), fleet.other()
    before = fleet.servers()
    with_fault(fleet, new, DIES, CANARIES[0])
    done = fleet.rollout(new)
    without_fault(fleet)
    expected = {CANARIES[0]: "failed", CANARIES[1]: "put back", **dict.fromkeys((*FIRST, *SECOND), "not reached")}
    assert (done.status, done.statuses) == (2, expected), done.run.text[-6000:]
    assert "A canary may not fail" in done.message
    assert "an illegal memory access" in done.row(CANARIES[0])["diagnosis"]["evidence"]
    fleet.untouched(before, (*FIRST, *SECOND))
    fleet.put_back(before, CANARIES)
    fleet.serves(dict.fromkeys(LABELS, old))
    return (
        f"{tally(done)}. Both canaries serve the old model in their old containers and units; no other host was touched"
    )


def wave_fails(fleet: Fleet) -> str:
    """More than may fail; then the same command again, once the cause is gone."""
    old, new = fleet.serving(), fleet.other()
    before = fleet.servers()
    failing = ("spark-3", "hgx-3")
    with_fault(fleet, new, DIES, *failing)
    done = fleet.rollout(new, max_failures=1)
    without_fault(fleet)
    expected = dict.fromkeys(CANARIES, "changed")
    expected.update({label: "failed" if label in failing else "put back" for label in FIRST})
    expected.update(dict.fromkeys(SECOND, "not reached"))
    assert (done.status, done.statuses) == (2, expected), done.run.text[-6000:]
    fleet.untouched(before, SECOND)
    fleet.put_back(before, FIRST)
    fleet.serves({**dict.fromkeys(CANARIES, new), **dict.fromkeys((*FIRST, *SECOND), old)})
    again = fleet.complete(new, (*FIRST, *SECOND))
    return f"{tally(done)}. The wave serves the old model, the next one was not touched. The same command again: {tally(again)}"


def hangs(fleet: Fleet) -> str:
    """Within what may fail: the others go on."""
    old, new = fleet.serving(), fleet.other()
    before = fleet.servers()
    hung = "spark-5"
    with_fault(fleet, new, {"fault": "hang-in-load"}, hung)
    done = fleet.rollout(new, max_failures=1)
    without_fault(fleet)
    expected = {**dict.fromkeys(LABELS, "changed"), hung: "failed"}
    assert (done.status, done.statuses) == (2, expected), done.run.text[-6000:]
    assert "did not become healthy within" in done.row(hung)["message"]
    fleet.put_back(before, [hung])
    fleet.serves({**dict.fromkeys(LABELS, new), hung: old})
    again = fleet.complete(new, [hung])
    return f"{tally(done)}. It serves the old model again. The same command again: {tally(again)}; no other host was touched"


def unreachable_before(fleet: Fleet) -> str:
    """More than may fail: nobody is touched."""
    old, new = fleet.serving(), fleet.other()
    before = fleet.servers()
    fleet["spark-7"].freeze()
    try:
        done = fleet.rollout(new)
    finally:
        fleet["spark-7"].thaw()
    expected = {**dict.fromkeys(LABELS, "not reached"), "spark-7": "unreachable"}
    assert (done.status, done.statuses) == (2, expected), done.run.text[-6000:]
    fleet.untouched(before, LABELS)
    fleet.serves(dict.fromkeys(LABELS, old))
    return tally(done)


def lost_in_the_middle(fleet: Fleet) -> str:
    """One is away from the beginning, and one freezes while its new server loads; both may fail."""
    old, new = fleet.serving(), fleet.other()
    away, lost = "spark-6", "hgx-3"
    with_fault(fleet, new, {"fault": "slow-load", "seconds": 20}, lost)
    fleet[away].freeze()
    try:
        run = fleet.start(new, max_failures=2)
        fleet.reached(run, WAVE, WAVE, WAITS)
        fleet[lost].freeze()
        try:
            done = fleet.ended(run)
        finally:
            fleet[lost].thaw()
    finally:
        fleet[away].thaw()
    without_fault(fleet)
    expected = {**dict.fromkeys(LABELS, "changed"), away: "unreachable", lost: "failed"}
    assert (done.status, done.statuses) == (2, expected), done.run.text[-6000:]
    assert "unreachable" in done.row(lost)["message"]
    fleet.serves({**dict.fromkeys(LABELS, new), away: old}, COMES_BACK)
    kept = fleet[lost].servers()
    again = fleet.complete(new, [away, lost])
    # What it had begun was verified and committed, not started again.
    assert [one for one in kept if one in fleet[lost].servers()], kept
    return f"{tally(done)}. Back again, and the same command again: {tally(again)}; no other host was touched"


def killed_in_the_second_wave(fleet: Fleet) -> str:
    """While modules change the first five hosts of the wave; then looked at by status, and finished."""
    _old, new = fleet.serving(), fleet.other()
    with_fault(fleet, new, {"fault": "slow-load", "seconds": 8}, *SECOND)
    run = fleet.start(new)
    fleet.reached(run, FIRST_IS_HEALTHY)
    assert eventually(lambda: "" in fleet.each(Member.answers, SECOND).values(), COMES_BACK), run.text[-3000:]
    run.kill()
    without_fault(fleet)
    # What a module has begun it ends; one server serves on each host, or the old one that was not touched yet.
    assert eventually(lambda: all(fleet.answers().values()), COMES_BACK), fleet.answers()
    time.sleep(2)
    found, now = fleet.servers(), fleet.answers()
    begun = [label for label in SECOND if now[label] == new]
    seen = fleet.status(new)
    expected = {label: "serving" if label not in SECOND else "drifted" for label in LABELS}
    assert (seen.status, seen.statuses) == (0, expected), seen.run.text[-6000:]
    again = fleet.complete(new, SECOND)
    # What serves already is not started again.
    then = fleet.servers()
    assert all(one in found[label] for label in (*CANARIES, *FIRST, *begun) for one in then[label])
    return (
        f"{len(begun)} of the {len(SECOND)} hosts of wave 2 serve the new model, uncommitted; every host serves. Status: "
        f"{len(SECOND)} drifted. The same command again: {tally(again)}; what served the new model was not started again"
    )


def second_operator(fleet: Fleet) -> str:
    """The first one waits for its first wave when the second one wants the old model back."""
    old, new = fleet.serving(), fleet.other()
    with_fault(fleet, new, {"fault": "slow-load", "seconds": 30}, *FIRST)
    first = fleet.start(new)
    fleet.reached(first, WAVE, WAVE, WAITS)
    second = fleet.rollout(old)
    without_fault(fleet)
    done = fleet.ended(first)
    assert second.status == 2, second.run.text[-6000:]
    assert set(second.statuses.values()) <= {"refused", "not reached", "unchanged"}, second.run.text[-6000:]
    held = [row["message"] for row in second.report["rows"] if row["status"] == "refused"]
    assert held and all("Another run is changing" in text for text in held), held
    assert (done.status, set(done.statuses.values())) == (0, {"changed"}), done.run.text[-6000:]
    fleet.serves(dict.fromkeys(LABELS, new))
    fleet.model = new
    return f"The second: {tally(second)}. The first: {tally(done)}"


def server_dies(fleet: Fleet) -> str:
    old = fleet.serving()
    died = ("spark-2", "hgx-2")
    pids, killed_at = fleet.each(Member.main_pid, died), datetime.datetime.now(datetime.timezone.utc).isoformat()[:19]
    for label, pid in pids.items():
        fleet[label].sh(f"kill -KILL {pid}")
    fleet.serves(dict.fromkeys(died, old), COMES_BACK)
    seen = fleet.status(old)
    assert (seen.status, set(seen.statuses.values())) == (0, {"serving"}), seen.run.text[-6000:]
    since = {row["host"]: row["since"] for row in seen.report["rows"]}
    assert {label for label, moment in since.items() if moment >= killed_at} == {*died}, since
    again = fleet.complete(old, (), **AT_ONCE)
    return f"Both come back by themselves, and status says since when they run. Rollout: {tally(again)}; no server was touched"


def hosts_reboot(fleet: Fleet) -> str:
    old = fleet.serving()
    rebooted = ("spark-3", "hgx-3")
    fleet.each(Member.reboot, rebooted)
    fleet.serves(dict.fromkeys(rebooted, old), COMES_BACK)
    again = fleet.complete(old, (), **AT_ONCE)
    return f"Both serve again without Ansible. Rollout: {tally(again)}; no server was touched"


# --- the table --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scene:
    name: str
    play: t.Callable[[Fleet], str]


SCENES = [
    Scene("bare hosts, and the same again", bare_hosts),
    Scene("the canary of a class fails (F16)", canary_fails),
    Scene("more hosts of a wave fail than may (F17)", wave_fails),
    Scene("a host hangs in warm-up (F3)", hangs),
    Scene("a host is unreachable, and none may fail (F1)", unreachable_before),
    Scene("a host is away, another is lost in wave 1, and two may fail (F1)", lost_in_the_middle),
    Scene("controller killed in wave 2 (F9)", killed_in_the_second_wave),
    Scene("a second operator (F10)", second_operator),
    Scene("servers are killed later (F6)", server_dies),
    Scene("hosts reboot (F12)", hosts_reboot),
]


def with_fault(fleet: Fleet, model: str, fault: t.Mapping[str, t.Any], *labels: str) -> None:
    for label in labels:
        fleet[label].stand_in(only_with=model, **fault)


def without_fault(fleet: Fleet) -> None:
    fleet.each(Member.stand_in)


def record(scene: Scene, seen: str, seconds: float) -> None:
    """Write a line of the table, whose other lines stay as they are: a run of some scenes is of those alone."""
    text = DOCUMENT.read_text("utf-8")
    head, rest = text.split(BEGIN)
    table, tail = rest.split(END)
    rows = {line.split("|")[1].strip(): line for line in table.splitlines()[3:] if line.startswith("| ")}
    today = datetime.date.today().isoformat()
    rows[scene.name] = f"| {scene.name} | {seen}. | {seconds:.0f} | {today} |"
    lines = [rows[one.name] for one in SCENES if one.name in rows]
    DOCUMENT.write_text("\n".join([f"{head}{BEGIN}", "", *HEAD, *lines, "", f"{END}{tail}"]), "utf-8")


@pytest.fixture(scope="module")
def fleet() -> t.Iterator[Fleet]:
    # Short: the path of a socket may have 108 characters.
    scratch = Path(tempfile.mkdtemp(prefix="gpufleet-fleet-", dir="/tmp"))
    key = scratch / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "fleet", "-f", str(key)], check=True)
    env = {
        "HF_TOKEN": TOKEN, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_HOST_KEY_CHECKING": "false",
        "ANSIBLE_HOME": str(scratch / "ansible"), "ANSIBLE_SSH_CONTROL_PATH_DIR": str(scratch / "cp"),
    }  # fmt: skip
    members = {label: Member(f"gpufleet-fleet-{label}", key, env, label=label) for label in LABELS}
    made = Fleet(members, scratch, env)
    # An interrupted run leaves no host behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        made.each(Member.up)
        yield made
    finally:
        made.each(Member.down)
        shutil.rmtree(scratch)


@pytest.mark.parametrize("scene", SCENES, ids=[scene.name for scene in SCENES])
def test_a_rollout_keeps_its_promises(scene: Scene, fleet: Fleet) -> None:
    began = time.monotonic()
    seen = scene.play(fleet)
    seconds = time.monotonic() - began
    leaked = [label for label, found in fleet.each(Member.leaks).items() if found]
    assert leaked == []
    assert all(TOKEN not in log.read_text("utf-8", "replace") for log in fleet.scratch.glob("run-*.log"))
    record(scene, seen, seconds)
