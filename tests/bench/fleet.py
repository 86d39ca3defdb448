# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Times a run that changes nothing over a fleet, and prints Markdown: `playbooks/deploy.yml` against stock tasks, with
--rollout `playbooks/rollout.yml` in its place, or with --services a server that is a unit against one that is a container.
With --load SECONDS it times the waves of a rollout that changes every host instead; a server then takes so long to load.

The hosts are containers of this machine (tests/bench/light_host.py): an SSH server, Python, a Docker Engine that only keeps
books, and servers that answer at once. Both playbooks run over the same hosts, in turn, with pipelining, ControlPersist
and warm connections. What the controller costs is counted apart from what the hosts cost: the processor time of
ansible-playbook and of all that it started, the SSH clients that outlive it included. tests/bench/fleet prepares it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from dataclasses import dataclass, fields

import docker

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv" / "bin"
ENCODINGS = ROOT / ".cache" / "demo" / "encodings-source"
COMMUNITY = ROOT / ".cache" / "bench" / "collections"
LIGHT_HOST = ROOT / "tests" / "bench" / "light_host.py"
HOST = ROOT / "tests" / "rig" / "hosts" / "host"
HOST_IMAGE = "gpufleet/sim-host:1"
# One that reads gpt-oss's vocabulary files from a directory, so that both playbooks have them to check.
VLLM_IMAGE, VLLM_VERSION = "example/vllm-cpu:0.26.0", "0.26.0"
CONTAINER, SERVED, PORT, STOCK_PORT = "vllm-gpt-oss", "gpt-oss-demo", 8000, 8001
SERVICE: dict[str, t.Any] = {"name": "service", "port": 8002, "backend": "systemd", "venv": "/srv/venv", "image": None}
OURS, STOCK = "`deploy.yml`", "stock tasks"
SIZES = (1, 5, 10, 20)
FORKS = 25
# As Ansible has them where nobody says anything.
FEW_FORKS = 5
# A wave of any size may take so long for a load time of 1 s, and so much more.
AIM, AIM_MORE = 1.2, 10.0
# What ends a host by itself, should this program be killed.
LIFETIME = 4 * 3600
PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")
QUIET_SSH = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"


def say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# Processor time
# ---------------------------------------------------------------------------------------------------------------------


def adopt_orphans() -> None:
    """Have programs whose parent ends become children of this one: SSH's masters outlive ansible-playbook."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        sys.exit(f"bench: prctl(PR_SET_CHILD_SUBREAPER) failed: {os.strerror(ctypes.get_errno())}")


def below(*roots: int) -> dict[int, list[str]]:
    """The processes below these: their fields of /proc/PID/stat from the state on."""
    stats: dict[int, list[str]] = {}
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            stats[int(path.parent.name)] = path.read_text().rpartition(")")[2].split()
    family = set(roots)
    while True:
        more = {pid for pid, fields in stats.items() if int(fields[1]) in family} - family
        if not more:
            return {pid: stats[pid] for pid in family.difference(roots)}
        family |= more


def seconds_below(*roots: int) -> float:
    """The processor time of the processes below these, with that of children that they waited for."""
    return sum(int(ticks) for fields in below(*roots).values() for ticks in fields[11:15]) / TICKS


def controller_seconds() -> float:
    """What all that this program ever started has used: what ended and was waited for, and what is still there."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + seconds_below(os.getpid())


def end_processes() -> None:
    """End what ansible-playbook left, SSH's masters above all, and whatever an interruption left."""
    for pid in below(os.getpid()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.wait()


# ---------------------------------------------------------------------------------------------------------------------
# The hosts
# ---------------------------------------------------------------------------------------------------------------------


class Fleet:
    """So many light hosts, from the start of their containers to their end."""

    def __init__(self, size: int, key: str, load: float = 0) -> None:
        self.load = load
        self.client = docker.from_env()
        self.names = [f"gpufleet-bench-{os.getpid()}-{number:02}" for number in range(1, size + 1)]
        self.key = key

    def __enter__(self) -> Fleet:
        try:
            for name in self.names:
                self._start(name)
            found = [self.client.api.inspect_container(name) for name in self.names]
            self.pids = [int(one["State"]["Pid"]) for one in found]
            self.addresses = [str(one["NetworkSettings"]["IPAddress"]) for one in found]
            for address in self.addresses:
                wait_for_ssh(address)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_about: object) -> None:
        for name in self.names:
            with contextlib.suppress(docker.errors.APIError):
                self.client.api.remove_container(name, force=True, v=True)

    def _start(self, name: str) -> None:
        volumes = {
            str(LIGHT_HOST): {"bind": "/opt/light_host.py", "mode": "ro"},
            str(ENCODINGS): {"bind": "/srv/encodings", "mode": "ro"},
        }
        self.client.containers.run(
            HOST_IMAGE, ["timeout", str(LIFETIME), "python3", "/opt/light_host.py", VLLM_IMAGE, VLLM_VERSION],
            name=name, hostname=name, detach=True, auto_remove=True, volumes=volumes,
            environment={"LIGHT_HOST_KEY": self.key, "LIGHT_HOST_LOAD": str(self.load)}, labels={"gpufleet.bench": "fleet"},
        )  # fmt: skip

    def inspected(self, container: str) -> dict[str, t.Any]:
        """A container of the first host, as its engine has it."""
        url = f"http://docker/containers/{container}/json"
        words = ["curl", "--silent", "--show-error", "--fail", "--unix-socket", "/var/run/docker.sock", url]
        _status, said = self.client.containers.get(self.names[0]).exec_run(words)
        return t.cast("dict[str, t.Any]", json.loads(t.cast("bytes", said)))

    def seconds(self, size: int) -> float:
        """Processor time that the first hosts have used; their processes are processes of this machine, too."""
        return seconds_below(*self.pids[:size])


class SystemdFleet(Fleet):
    """The same hosts, with systemd as their first process and a virtual environment whose vLLM answers at once."""

    def _start(self, name: str) -> None:
        subprocess.run([str(HOST), "up", name], check=True, stdout=subprocess.DEVNULL)
        container = self.client.containers.get(name)
        for source, target in ((LIGHT_HOST, "/opt/light_host.py"), (ENCODINGS, "/srv/encodings")):
            subprocess.run(["docker", "cp", "--quiet", str(source), f"{name}:{target}"], check=True)
        status, said = container.exec_run(["sh", "-ec", PREPARE, "sh", self.key, VLLM_IMAGE, VLLM_VERSION])
        if status:
            sys.exit(f"bench: cannot prepare {name}: {t.cast('bytes', said).decode(errors='replace')}")


# A wheel's worth of vLLM: what is looked at of an environment, and a program that serves.
PREPARE = r"""
systemctl --quiet disable --now docker.service docker.socket containerd.service sim-gpu.service 2>/dev/null || true
printf %s "$1" >/home/gpu/.ssh/authorized_keys
chown gpu: /home/gpu/.ssh/authorized_keys && chmod 600 /home/gpu/.ssh/authorized_keys
python3 -m venv --without-pip /srv/venv
cd /srv/venv/lib/python3*/site-packages && mkdir "vllm-$3.dist-info" && echo "vllm/__init__.py,," >"vllm-$3.dist-info/RECORD"
printf '#!/bin/sh
exec %s/bin/python /opt/light_host.py "$@"
' /srv/venv >/srv/venv/bin/vllm
chmod 755 /srv/venv/bin/vllm
systemd-run --quiet --unit light-engine python3 /opt/light_host.py "$2" "$3"
"""


def wait_for_ssh(address: str, patience: float = 60) -> None:
    deadline = time.monotonic() + patience
    while True:
        try:
            with socket.create_connection((address, 22), timeout=5) as connection:
                if connection.recv(4) == b"SSH-":
                    return
        except OSError as error:
            if time.monotonic() > deadline:
                sys.exit(f"bench: the light host at {address} does not answer on port 22: {error}")
        time.sleep(0.1)


# ---------------------------------------------------------------------------------------------------------------------
# The runs
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spent:
    """What one run took: seconds by the clock, and of the processor on either side."""

    clock: float
    controller: float
    hosts: float


@dataclass(frozen=True)
class Controller:
    """ansible-playbook with an inventory of the hosts, in a working tree of the collection."""

    tree: pathlib.Path
    directory: pathlib.Path
    forks: int = FORKS

    @property
    def environment(self) -> dict[str, str]:
        others = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
        return {
            **others,
            "ANSIBLE_CONFIG": str(self.tree / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": f"{self.directory / 'collections'}:{COMMUNITY}",
            "ANSIBLE_FORKS": str(self.forks),
            "ANSIBLE_PIPELINING": "true",
            # Short: the path of a socket has 108 bytes.
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.directory / "cp"),
        }

    def prepare(self, addresses: t.Sequence[str], become: bool) -> None:
        collections = self.directory / "collections" / "ansible_collections" / "gpufleet"
        collections.mkdir(parents=True)
        (collections / "vllm").symlink_to(self.tree)
        hosts = {f"host-{number:02}": {"ansible_host": address} for number, address in enumerate(addresses, 1)}
        group = {"hosts": hosts, "vars": {**self._variables(), "ansible_become": become}}
        (self.directory / "hosts.json").write_text(json.dumps({"all": {"children": {"cpu": group}}}))

    @property
    def overrides(self) -> dict[str, t.Any]:
        return {
            "model": "/srv/model", "served_model_name": SERVED, "port": PORT, "image": VLLM_IMAGE, "hf_token_file": None,
        }  # fmt: skip

    def _variables(self) -> dict[str, t.Any]:
        return {
            "ansible_user": "gpu", "ansible_ssh_private_key_file": str(self.directory / "key"),
            "ansible_ssh_common_args": QUIET_SSH, "vllm_server_encodings_source": {"src": "/srv/encodings"},
            # The second name is that of a tree from before version 0.1.
            "vllm_overrides": self.overrides, "vllm_server_overrides": self.overrides,
        }  # fmt: skip

    def run(self, program: str, *words: str, size: int) -> str:
        return "".join(self.lines(program, *words, size=size))

    def lines(
        self, program: str, *words: str, size: int, seen: t.Callable[[str], None] = lambda line: None
    ) -> list[str]:
        """What a program printed; each line is shown as it comes."""
        inventory = ["-i", str(self.directory / "hosts.json"), "--limit", f"all[0:{size - 1}]"]
        command = [str(BIN / program), *words, *inventory]
        with subprocess.Popen(
            command, cwd=self.tree, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            told = []
            try:
                for line in process.stdout or ():
                    told.append(line)
                    seen(line)
            except BaseException:
                # An interruption; what ignores that one would be waited for until it is through.
                process.terminate()
                raise
        if process.returncode:
            sys.exit(f"bench: {' '.join(command)} failed:\n{''.join(told)}")
        return told

    def warm(self, size: int) -> None:
        """Open the connections that ControlPersist then keeps."""
        self.run("ansible", "all", "-m", "ansible.builtin.raw", "-a", "true", size=size)


def measured(controller: Controller, fleet: Fleet, playbook: t.Sequence[str], size: int) -> Spent:
    hosts, used, began = fleet.seconds(size), controller_seconds(), time.monotonic()
    told = controller.run("ansible-playbook", *playbook, size=size)
    clock = time.monotonic() - began
    spent = Spent(clock, controller_seconds() - used, fleet.seconds(size) - hosts)
    unchanged = re.findall(r"^host-\d+ .* changed=0 +unreachable=0 +failed=0 ", told, re.MULTILINE)
    if len(unchanged) != size:
        sys.exit(f"bench: {playbook[0]} was to change nothing on {size} hosts:\n{told}")
    return spent


def stock_playbook(controller: Controller, fleet: Fleet) -> list[str]:
    """The stock tasks, with the arguments of the server that is there."""
    command = fleet.inspected(CONTAINER)["Config"]["Cmd"]
    extra = {
        "bench_url": "file:///srv/encodings", "bench_dir": "/home/gpu/bench", "bench_port": STOCK_PORT,
        "bench_argv": [str(STOCK_PORT) if word == str(PORT) else word for word in command[2:]],
    }  # fmt: skip
    extras = controller.directory / "stock.json"
    extras.write_text(json.dumps(extra))
    return [str(ROOT / "tests" / "bench" / "stock.yml"), "-e", f"@{extras}"]


def service_playbook(controller: Controller) -> list[str]:
    """The same deployment as a unit, beside the container."""
    extras = controller.directory / "service.json"
    extras.write_text(json.dumps({"vllm_overrides": {**controller.overrides, **SERVICE}}))
    return [*DEPLOY, "-e", f"@{extras}"]


Rounds = list[tuple[Spent, Spent]]
DEPLOY = ["playbooks/deploy.yml", "-e", "model=gpt-oss-20b"]
ROLLOUT = ["playbooks/rollout.yml", *DEPLOY[1:]]


def compare(
    controller: Controller, fleet: Fleet, playbook: list[str], sizes: t.Sequence[int], rounds: int, services: bool
) -> dict[int, Rounds]:
    """What is measured and what it is compared with, by number of hosts, in turn."""
    everybody = len(fleet.names)
    say(f"deploying to {everybody} hosts")
    controller.run("ansible-playbook", *DEPLOY, size=everybody)
    other = service_playbook(controller) if services else stock_playbook(controller, fleet)
    controller.run("ansible-playbook", *other, size=everybody)
    ours, stock = (other, DEPLOY) if services else (playbook, other)
    if services:
        # One that started within the last minute is watched for a while: what is measured is one that has settled.
        time.sleep(61)
    found: dict[int, Rounds] = {}
    for size in sizes:
        controller.warm(size)
        found[size] = []
        for number in range(1, rounds + 1):
            pair = measured(controller, fleet, ours, size), measured(controller, fleet, stock, size)
            found[size].append(pair)
            say(f"{size} hosts, round {number} of {rounds}: {pair[0].clock:.2f} s, against {pair[1].clock:.2f} s")
    return found


# As a rollout divides its hosts by itself, and all of them at once. What is measured is a wave without its soak.
DIVISIONS: tuple[dict[str, t.Any], ...] = ({}, {"canaries": [], "waves": ["100%"]})
PLAY, WAVE = "PLAY [", "PLAY [Change the hosts, wave by wave]"
# How many hosts a wave changed, and what it took.
Wave = tuple[int, Spent]


def rolled_out(controller: Controller, fleet: Fleet, rounds: int) -> list[list[Wave]]:
    """The waves of rollouts that change every host, of each round and each division one after the other."""
    hosts = len(fleet.names)
    say(f"deploying to {hosts} hosts")
    controller.run("ansible-playbook", *DEPLOY, size=hosts)
    found: list[list[Wave]] = []
    for number in range(rounds):
        for division in DIVISIONS:
            controller.warm(hosts)
            # Other settings of the server each time, or nothing would be changed.
            engine = {"max_num_seqs": 8 + len(found)}
            settings = {"soak": 0, "soak_checks": 1, **division}
            extra = {"vllm_overrides": {**controller.overrides, "engine": engine}, "vllm_rollout": settings}
            found.append(waves(controller, fleet, [*ROLLOUT, "-e", json.dumps(extra)]))
            took = ", ".join(f"{size} hosts {spent.clock:.1f} s" for size, spent in found[-1])
            say(f"round {number + 1} of {rounds}: {took}")
    return found


def waves(controller: Controller, fleet: Fleet, playbook: t.Sequence[str]) -> list[Wave]:
    """Each wave is a play, and lasts until the next play begins."""
    hosts = len(fleet.names)
    plays: list[tuple[str, list[str], Spent]] = []

    def seen(line: str) -> None:
        if line.startswith(PLAY):
            plays.append((line, [], Spent(time.monotonic(), controller_seconds(), fleet.seconds(hosts))))
        if plays:
            plays[-1][1].append(line)

    told = controller.lines("ansible-playbook", *playbook, size=hosts, seen=seen)
    found: list[Wave] = []
    for (name, lines, before), (_name, _lines, after) in zip(plays, plays[1:]):
        if name.startswith(WAVE):
            changed = {*re.findall(r"^changed: \[(host-\d+)\]", "".join(lines), re.MULTILINE)}
            spent = Spent(*(getattr(after, one.name) - getattr(before, one.name) for one in fields(Spent)))
            found.append((len(changed), spent))
    if sum(size for size, _spent in found) != hosts:
        sys.exit(f"bench: the rollout was to change {hosts} hosts:\n{''.join(told)}")
    return found


# ---------------------------------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------------------------------


def median(rounds: Rounds, side: int, what: str) -> float:
    return float(statistics.median(getattr(pair[side], what) for pair in rounds))


def slope(found: t.Mapping[int, Rounds], side: int, what: str) -> float:
    """Seconds that one more host costs: the straight line through the medians."""
    points = [(size, median(rounds, side, what)) for size, rounds in found.items()]
    mean_x, mean_y = (statistics.mean(values) for values in zip(*points))
    return float(sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _y in points))


def table(found: t.Mapping[int, Rounds], ours: str, other: str) -> list[str]:
    lines = [
        f"| hosts | {ours} | {other} | ratio | controller's CPU a host | {other} | hosts' CPU a host | {other} |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size, rounds in found.items():
        mine, theirs = (median(rounds, side, "clock") for side in (0, 1))
        cells = [f"{median(rounds, side, what) / size:.2f} s" for what in ("controller", "hosts") for side in (0, 1)]
        lines.append(f"| {size} | {mine:.2f} s | {theirs:.2f} s | {mine / theirs:.2f} | {' | '.join(cells)} |")
    if len(found) > 1:
        more = [f"{slope(found, side, what):.2f} s" for what in ("clock", "controller", "hosts") for side in (0, 1)]
        lines.append(f"| one more host | {more[0]} | {more[1]} | | {' | '.join(more[2:])} |")
    return lines


def wave_table(found: t.Sequence[t.Sequence[Wave]], load: float) -> list[str]:
    """A line for each wave of a rollout, with the medians of the rounds."""
    limit = AIM * load + AIM_MORE
    lines = [
        "| hosts of the wave | seconds | range | aim | controller's CPU | hosts' CPU |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for division in range(len(DIVISIONS)):
        for rounds in zip(*found[division :: len(DIVISIONS)]):
            spent = [one for _size, one in rounds]
            clock, *cpu = (sorted(getattr(one, field.name) for one in spent) for field in fields(Spent))
            cells = [f"{statistics.median(times):.1f} s" for times in (clock, *cpu)]
            cells[1:1] = [f"{clock[0]:.1f} - {clock[-1]:.1f} s", f"{limit:.0f} s"]
            lines.append(f"| {rounds[0][0]} | {' | '.join(cells)} |")
    return lines


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=SIZES, help="numbers of hosts, one row each")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--services", action="store_true", help="compare a unit with a container, on hosts with systemd"
    )
    parser.add_argument("--rollout", action="store_true", help="measure rollout.yml in place of deploy.yml")
    parser.add_argument(
        "--load",
        type=float,
        default=0,
        help="measure rollouts that change the largest number of hosts, with servers that take so many seconds",
    )
    parser.add_argument("--tree", type=pathlib.Path, default=ROOT, help="the working tree whose deploy.yml is measured")
    return parser.parse_args()


def interrupted(number: int, _frame: object) -> t.NoReturn:
    # Once: what follows is the clearing up.
    for one in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(one, signal.SIG_IGN)
    sys.exit(f"bench: interrupted by {signal.Signals(number).name}")


def main() -> None:
    chosen = arguments()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupted)
    adopt_orphans()
    directory = pathlib.Path(tempfile.mkdtemp(prefix="gpufleet-bench-"))
    try:
        key = directory / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        kind, names = (SystemdFleet, ("unit", "container")) if chosen.services else (Fleet, (OURS, STOCK))
        playbook, names = (ROLLOUT, ("`rollout.yml`", STOCK)) if chosen.rollout else (DEPLOY, names)
        with kind(max(chosen.hosts), key.with_suffix(".pub").read_text(), chosen.load) as fleet:
            controller = Controller(chosen.tree.resolve(), directory, FEW_FORKS if chosen.load else FORKS)
            controller.prepare(fleet.addresses, become=chosen.services)
            if chosen.load:
                lines = wave_table(rolled_out(controller, fleet, chosen.rounds), chosen.load)
            else:
                found = compare(controller, fleet, playbook, sorted(chosen.hosts), chosen.rounds, chosen.services)
                lines = table(found, *names)
            print("\n".join(lines))
    finally:
        end_processes()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
