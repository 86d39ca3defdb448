# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Faults that are no step of a switch: of the encodings' download, of the GPU, of the host, and of people."""

from __future__ import annotations

import concurrent.futures
import json
import typing as t
from dataclasses import dataclass

import pytest
from simulated import CACHE, CONTAINER, SERVICE, Host, Wish, eventually
from switch import (
    BY_CONTAINER,
    BY_SERVICE,
    COMES_BACK,
    GEMMA,
    GPT_OSS,
    Case,
    Each,
    Line,
    Ways,
    another,
    cases,
    converges,
    neutral,
    of,
    refused,
    served,
    serving,
)

SOURCE = "/home/gpu/vllm/encodings"
ELSEWHERE = "/home/gpu/other-encodings"
OLD, CONTINUES = "the old server", "continues"


@dataclass(frozen=True)
class Promise:
    """A fault, and the function that makes it happen and looks."""

    step: str
    fault: str
    keep: t.Callable[[Host, Promise, Ways], Line]
    says: Each = ""
    what: Each = ""
    on: tuple[Ways, ...] = (BY_CONTAINER, BY_SERVICE)
    waits = False

    @property
    def name(self) -> str:
        return f"{self.step}: {self.fault}"

    def play(self, host: Host, ways: Ways) -> Line:
        return self.keep(host, self, ways)


def line(sees: str, serves: str, then: str) -> Line:
    for wish in (GPT_OSS, GEMMA):
        sees = neutral(sees, wish, wish)
    return Line(sees, serves, then)


def refuses_a_switch(host: Host, says: Each, new: Wish, before: str, after: str) -> Line:
    """The switch fails with a sentence, and what served is not even touched."""
    unchanged = host.servers()
    with host.so(before, after):
        told = refused(host.run(new, "-vvv", "--diff"), of(says, new.backend))
        assert host.servers() == unchanged
        assert host.answers()
    return line(told, OLD, CONTINUES)


def gpu_is_gone(host: Host, promise: Promise, ways: Ways) -> Line:
    """nvidia-smi answers everything with this, and what serves is not stopped for a server that could not."""
    new = another(served(host, ways))
    known = json.loads(host.sh("cat /etc/sim-gpu/gb10.json"))
    answers = [{"argv": ["*"], **GONE[of(promise.what, ways.new)]}]
    profile = {"gpus": known["gpus"], "host": known["host"], "answers": answers}
    before = (
        f"printf %s '{json.dumps(profile)}' > /etc/sim-gpu/gone.json && ln -sfn gone.json /etc/sim-gpu/current.json"
    )
    told = refuses_a_switch(host, promise.says, new, before, "ln -sfn gb10.json /etc/sim-gpu/current.json")
    converges(host, new)
    return told


def bad_download(host: Host, promise: Promise, ways: Ways) -> Line:
    """No encodings on the host yet, and a mirror that fails: no partial file is ever at the final path."""
    serving(host, GEMMA.on(ways.new))
    new = GPT_OSS.on(ways.new).with_(encodings_dir=ELSEWHERE)
    mirror = f"python3 /opt/broken_mirror.py {of(promise.what, ways.new)} {SOURCE}"
    before = f"systemd-run --quiet --unit mirror --collect {mirror}; until ss -Hltn sport = 9000 | grep -q .; do sleep 0.1; done"
    wish = new.but(vllm_server_encodings_source={"url": "http://127.0.0.1:9000"})
    told = refuses_a_switch(host, promise.says, wish, before, "systemctl stop mirror")
    assert host.sh(f"ls {ELSEWHERE}/*.tiktoken 2>/dev/null", check=False) == ""
    converges(host, new)
    converges(host, GEMMA.on(ways.new))
    host.sh(f"rm -r {ELSEWHERE}")
    return told


def cut_short(host: Host, promise: Promise, ways: Ways) -> Line:
    """Weights that arrive cut short are noticed, and stay noticed until somebody does what the message says."""
    new = another(served(host, ways))
    weights = f"{CACHE}/hub/models--*{new.model}*"
    host.stand_in(only_with=new.model, fault="fetch-truncates")
    told = refuses_a_switch(host, promise.says, new, f"rm -rf {weights}", "true")
    host.stand_in()
    refused(host.run(new), "Delete the file")
    host.sh(f"rm -rf {weights}")
    converges(host, new)
    return Line(told.sees, told.serves, "refuses, and says which file to delete")


def full_disk(host: Host, promise: Promise, ways: Ways) -> Line:
    """Room for a part of the encodings only."""
    serving(host, GEMMA.on(ways.new))
    new = GPT_OSS.on(ways.new).with_(encodings_dir=ELSEWHERE)
    before = f"install -d {ELSEWHERE} && mount -t tmpfs -o size=1m,uid=$(id -u gpu) small {ELSEWHERE}"
    told = refuses_a_switch(host, promise.says, new, before, f"umount {ELSEWHERE}; chown gpu: {ELSEWHERE}")
    converges(host, new)
    converges(host, GEMMA.on(ways.new))
    host.sh(f"rm -r {ELSEWHERE}")
    return told


def killed_with_a_bad_server(host: Host, promise: Promise, ways: Ways) -> Line:
    """Nobody is there to see that the new server hangs: the next run does, and goes back."""
    old = served(host, ways)
    new = another(old)
    host.stand_in(only_with=new.model, fault="hang-completion")
    run = host.run(new, "-vvv", "--diff")
    assert eventually(host.is_asked, 120)
    run.kill()
    told = refused(host.run(new), of(promise.says, ways.new))
    assert host.answers() == old.model
    host.stand_in()
    converges(host, new)
    return line(neutral(told, old, new), "none until the next run", "puts the old server back, and says so")


def second_operator(host: Host, promise: Promise, ways: Ways) -> Line:
    """The first one is held in the middle of its switch while the second tries."""
    new = another(served(host, ways))
    host.calls.arm("create")
    first = host.run(new)
    host.calls.reached(first)
    told = refused(host.run(new), of(promise.says, ways.new))
    host.calls.send(then="forward")
    assert first.status == 0, first.text[-3000:]
    converges(host, new)
    return line(told, "the new server", "changes nothing")


def engine_restarts(host: Host, promise: Promise, ways: Ways) -> Line:
    old = served(host, ways)
    host.restart_engine()
    return comes_back(host, old)


def host_reboots(host: Host, promise: Promise, ways: Ways) -> Line:
    old = served(host, ways)
    host.reboot()
    return comes_back(host, old)


def server_dies(host: Host, promise: Promise, ways: Ways) -> Line:
    old = served(host, ways)
    asked = of(promise.what, ways.new).format(name=old.container)
    pid = host.sh(asked)
    host.sh(f"kill -KILL {pid}")
    assert eventually(lambda: not host.lives(int(pid)), 10)
    return comes_back(host, old)


def comes_back(host: Host, old: Wish) -> Line:
    """Without Ansible."""
    assert eventually(lambda: host.answers() == old.model, COMES_BACK)
    converges(host, old)
    return line("(it comes back by itself)", OLD, "changes nothing")


def drifts(host: Host, promise: Promise, ways: Ways) -> Line:
    """Seen by --check, and healed by a run."""
    old = served(host, ways)
    host.sh(of(promise.what, ways.new).format(name=old.container))
    predicted = host.run(old, "--check", "--diff")
    assert predicted.status == 0, predicted.text[-3000:]
    assert predicted.changed != []
    said = of(promise.says, ways.new).format(name=old.container)
    assert said in predicted.text
    converges(host, old)
    return line(f"--check says: {said}", "none until the next run", "heals it")


def recreated_by_hand(host: Host, promise: Promise, ways: Ways) -> Line:
    """Without the record of this collection it is somebody else's, and left alone until it is adopted."""
    old = GPT_OSS.on(ways.new)
    serving(host, old)
    host.sh(of(promise.what, ways.new).format(name=old.container))
    assert eventually(lambda: host.answers() == old.model, COMES_BACK)
    told = refused(host.run(old, "--check", "--diff"), of(promise.says, ways.new))
    assert host.answers() == old.model
    converges(host, old.but(vllm_server_replace_unmanaged=True))
    return line(told, "the container made by hand", "replaces it with vllm_server_replace_unmanaged: true")


def no_network(host: Host, promise: Promise, ways: Ways) -> Line:
    """A run that changes nothing needs nothing from outside the host."""
    old = served(host, ways)
    after = "ip route add $(cat /root/route); cp /root/resolv.conf /etc/resolv.conf"
    before = (
        "ip route show default > /root/route; ip route del default; cp /etc/resolv.conf /root; "
        "echo nameserver 192.0.2.1 > /etc/resolv.conf"
    )
    with host.so(before, after):
        converges(host, old)
    return line("(the run succeeds)", OLD, "changes nothing")


RECREATE = (
    "docker rm --force {name} && docker run --detach --name {name} --publish 127.0.0.1:8000:8000 --gpus all --volume "
    "/home/gpu/vllm/huggingface:/root/.cache/huggingface --volume /home/gpu/vllm/encodings:/etc/encodings --env "
    "TIKTOKEN_ENCODINGS_BASE=/etc/encodings nvcr.io/nvidia/vllm:25.09-py3 vllm serve openai/gpt-oss-120b "
    "--served-model-name gpt-oss-120b --max-num-seqs 3"
)

LOST = "Unable to determine the device handle for GPU0: 0000000F:01:00.0: GPU is lost.  Reboot the system to recover this GPU"
GONE = {"none": {"stdout": ["No devices were found"], "rc": 6}, "lost": {"stdout": [LOST], "rc": 15}}

ONLY_CONTAINERS = (BY_CONTAINER,)
MAIN_PID = {
    CONTAINER: "docker inspect --format '{{{{.State.Pid}}}}' {name}",
    SERVICE: "systemctl show --value --property MainPID {name}",
}
STOPPED = {CONTAINER: "docker stop {name}", SERVICE: "systemctl stop {name}"}
REMOVED = {
    CONTAINER: "docker rm --force {name}",
    SERVICE: "systemctl disable --now {name} && rm /etc/systemd/system/{name}.service",
}
PROMISES = [
    Promise("encodings (F7)", "download breaks off", bad_download, "of 3613922 bytes", "cut"),
    Promise("encodings (F7)", "download is corrupt", bad_download, "is not what was published", "corrupt"),
    Promise("fetch (F7)", "weights are cut short", cut_short, "cannot be loaded from"),
    Promise("encodings (F8)", "disk full", full_disk, "bytes are needed"),
    Promise("preflight (F13)", "no GPU", gpu_is_gone, "GPU", "none"),
    Promise("preflight (F13)", "the GPU is lost", gpu_is_gone, "GPU", "lost"),
    Promise("health", "controller killed, and the new server hangs", killed_with_a_bad_server, "completion: no answer"),
    Promise("any (F10)", "a second operator", second_operator, "Another run is changing"),
    Promise("serving (F6)", "the server is killed", server_dies, what=MAIN_PID),
    Promise("serving (F11)", "Docker Engine restarts", engine_restarts, on=ONLY_CONTAINERS),
    Promise("serving (F12)", "the host reboots", host_reboots),
    Promise("serving (F18)", "stopped by hand", drifts, "start {name}", STOPPED),
    Promise("serving (F18)", "removed by hand", drifts, "create {name}", REMOVED),
    Promise(
        "serving (F18)",
        "recreated by hand",
        recreated_by_hand,
        "was not created by gpufleet.vllm",
        RECREATE,
        ONLY_CONTAINERS,
    ),
    Promise("serving (F19)", "no way out of the host", no_network),
]
CASES = cases(PROMISES)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_a_promise_is_kept(case: Case, played: dict[str, concurrent.futures.Future[Line]]) -> None:
    played[case.name].result()
