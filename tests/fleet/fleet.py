# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Twelve simulated hosts over SSH, rollouts over all of them, and what is there afterwards."""

from __future__ import annotations

import concurrent.futures
import json
import re
import sys
import time
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "faults"))

from simulated import (  # noqa: E402
    BIN,
    CONTAINER,
    IMAGE,
    OF_BACKEND,
    OVERRIDES,
    PLAYBOOKS,
    RESET,
    RIG,
    ROOT,
    SERVICE,
    UNITS,
    VERSION,
    Host,
    Run,
    eventually,
    output,
)

GPT_OSS, GEMMA = "gpt-oss-120b", "gemma-3-27b"
# Of both kinds in every wave: the canaries are the first two, then come waves of four and of six.
LABELS = (
    *("spark-1", "hgx-1"),
    *("spark-2", "hgx-2", "spark-3", "hgx-3"),
    *("spark-4", "hgx-4", "spark-5", "hgx-5", "spark-6", "spark-7"),
)
CANARIES, FIRST, SECOND = LABELS[:2], LABELS[2:6], LABELS[6:]
AT_ONCE: dict[str, t.Any] = {"canaries": [], "waves": ["100%"]}
SETTINGS = {"waves": [len(FIRST), len(SECOND)], "soak": 1, "soak_checks": 1}
# What a start of the stand-in may take where twelve hosts share two cores.
PATIENCE = 60
# A host that is frozen keeps its connections: without questions of SSH's own nobody would ever notice.
SSH = (
    "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no -o LogLevel=ERROR "
    "-o ServerAliveInterval=5 -o ServerAliveCountMax=3"
)
COMMON: dict[str, t.Any] = {
    "ansible_host": "127.0.0.1", "ansible_user": "gpu", "ansible_ssh_common_args": SSH,
    "ansible_python_interpreter": "/usr/bin/python3",
    "vllm_server_encodings_source": {"controller_dir": str(ROOT / ".cache/demo/encodings-source")},
}  # fmt: skip
HEALTH = {**OVERRIDES["health"], "timeout": PATIENCE}
# Two GPUs, since gpt-oss is served by two.
GPUS = {"count": 2, "min_free_mib": 70000}
SPARK: dict[str, t.Any] = {"vllm_overrides": {**OVERRIDES, "health": HEALTH}}
HGX: dict[str, t.Any] = {
    "ansible_become": True,
    "vllm_overrides": {**OVERRIDES, **OF_BACKEND[SERVICE], "health": HEALTH, "gpus": GPUS},
}


@dataclass
class Member(Host):
    """A host of the fleet: a GB10 whose server is a container, or a pair of H100 whose server is a service."""

    label: str = ""

    @property
    def backend(self) -> str:
        return CONTAINER if self.label.startswith("spark") else SERVICE

    def up(self) -> None:
        self._start()
        self.give_weights()
        if self.backend == CONTAINER:
            output([RIG, "image", self.name, IMAGE, VERSION])
        else:
            self.sh("systemctl --quiet disable --now docker.service docker.socket containerd.service sim-gpu.service")
            # As if there had never been one.
            self.sh("rm -f /run/docker.sock")

    def _start(self) -> None:
        gpu = "gb10" if self.backend == CONTAINER else "h100-pair"
        self.address = output([RIG, "up", self.name, "--key", f"{self.key}.pub", "--gpu", gpu])
        answers = "docker version >/dev/null 2>&1" if self.backend == CONTAINER else "ss -Hltn sport = 22 | grep -q ."
        assert eventually(lambda: self.sh(f"{answers} && echo up", check=False) == "up", 60)

    def reboot(self) -> None:
        output(["docker", "restart", "--timeout", "20", self.name])
        self._start()

    def down(self) -> None:
        output([RIG, "down", self.name])

    def freeze(self) -> None:
        """From now on it answers nobody, and keeps every connection."""
        output(["docker", "pause", self.name])

    def thaw(self) -> None:
        output(["docker", "unpause", self.name])

    def servers(self) -> list[list[str]]:
        """Name, identity, state and start of each server, as its backend has them."""
        form = "{{.Name}} {{.Id}} {{.State.Status}} {{.State.StartedAt}}"
        containers = f"docker ps --all --quiet | xargs --no-run-if-empty docker inspect --format '{form}'"
        listed = self.sh(containers if self.backend == CONTAINER else UNITS, check=False)
        return sorted(line.lstrip("/").split() for line in listed.splitlines() if line)

    def main_pid(self) -> int:
        """The process of the one server that is there."""
        name = self.servers()[0][0]
        asked = {
            CONTAINER: f"docker inspect --format '{{{{.State.Pid}}}}' {name}",
            SERVICE: f"systemctl show --value --property MainPID {name}",
        }
        return int(self.sh(asked[self.backend]))


@dataclass
class Outcome:
    """A run of a playbook that has ended."""

    run: Run
    report: dict[str, t.Any]

    @property
    def status(self) -> int:
        return self.run.status

    @property
    def message(self) -> str:
        return str(self.report["message"])

    @property
    def statuses(self) -> dict[str, str]:
        return {row["host"]: row["status"] for row in self.report["rows"]}

    def row(self, label: str) -> dict[str, t.Any]:
        return next(row for row in self.report["rows"] if row["host"] == label)


Servers = dict[str, list[list[str]]]


@dataclass
class Fleet:
    """All hosts, and what was rolled out to them last."""

    members: dict[str, Member]
    scratch: Path
    env: dict[str, str]
    runs: int = 0
    model: str = ""
    _reports: dict[int, Path] = field(default_factory=dict)

    def __getitem__(self, label: str) -> Member:
        return self.members[label]

    def each(self, look: t.Callable[[Member], t.Any], labels: t.Iterable[str] = LABELS) -> dict[str, t.Any]:
        """What a look at each host brings; several at a time."""
        chosen = list(labels)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            return dict(zip(chosen, pool.map(lambda label: look(self.members[label]), chosen)))

    def servers(self) -> Servers:
        return self.each(Member.servers)

    def answers(self) -> dict[str, str]:
        """The model that gives a correct chat completion on each host."""
        return self.each(Member.answers)

    def other(self) -> str:
        return GEMMA if self.model == GPT_OSS else GPT_OSS

    # --- runs ----------------------------------------------------------------------------------------------------

    def inventory(self) -> Path:
        # In the order in which they are to be changed: groups after hosts.
        ports = {label: {"ansible_port": int(one.address.rpartition(":")[2])} for label, one in self.members.items()}
        kinds = {"gb10": ("spark", SPARK), "h100": ("hgx", HGX)}
        children = {
            group: {"hosts": {label: {} for label in LABELS if label.startswith(kind)}, "vars": variables}
            for group, (kind, variables) in kinds.items()
        }
        common = {**COMMON, "ansible_ssh_private_key_file": str(self.scratch / "key")}
        file = self.scratch / "hosts.json"
        file.write_text(json.dumps({"all": {"hosts": ports, "vars": common, "children": children}}))
        return file

    def start(self, model: str, playbook: str = "rollout.yml", **settings: t.Any) -> Run:
        """Begin a rollout with what differs from the usual settings, or another playbook."""
        self.runs += 1
        report = self.scratch / f"report-{self.runs}"
        variables = {"model": model, "vllm_report": str(report), "vllm_rollout": {**SETTINGS, **settings}}
        command = [str(BIN / "ansible-playbook"), "-i", str(self.inventory()), str(PLAYBOOKS / playbook)]
        run = Run([*command, "--extra-vars", json.dumps(variables)], self.env, self.scratch / f"run-{self.runs}.log")
        self._reports[id(run)] = report
        return run

    def ended(self, run: Run) -> Outcome:
        """The outcome of a run, which is waited for."""
        report = self._reports[id(run)].with_suffix(".json")
        assert run.wait().process.returncode is not None
        assert report.exists(), run.text[-3000:]
        return Outcome(run, json.loads(report.read_text("utf-8")))

    def rollout(self, model: str, **settings: t.Any) -> Outcome:
        return self.ended(self.start(model, **settings))

    def status(self, model: str) -> Outcome:
        return self.ended(self.start(model, "status.yml"))

    def reached(self, run: Run, *texts: str) -> None:
        """Wait until a run has printed these, one after the other; it may not end before that."""
        while True:
            said, place = run.text, 0
            for text in texts:
                place = said.find(text, place) + 1 if place >= 0 else 0
                if not place:
                    break
            else:
                return
            assert not run.ended, f"the run ended before {text!r}: {said[-3000:]}"
            time.sleep(0.2)

    # --- promises ------------------------------------------------------------------------------------------------

    def serving(self) -> str:
        """Have all hosts serve one model, from whatever a scene before this one left."""
        if not self.model or set(self.answers().values()) != {self.model}:
            self.reset()
            self.complete(GPT_OSS, LABELS, **AT_ONCE)
        return self.model

    def reset(self) -> None:
        self.each(lambda one: one.sh(RESET, check=False))

    def complete(self, model: str, changed: t.Collection[str], **settings: t.Any) -> Outcome:
        """A rollout that reaches every host, and touches those alone that it changes.

        Raises:
            AssertionError: when a host is touched or missed, serves anything else, or has more than its one server.
        """
        before = self.servers()
        done = self.rollout(model, **settings)
        expected = {label: "changed" if label in changed else "unchanged" for label in LABELS}
        assert (done.status, done.statuses) == (0, expected), done.run.text[-6000:]
        self.untouched(before, set(LABELS) - set(changed))
        self.serves(dict.fromkeys(LABELS, model))
        assert {len(found) for found in self.servers().values()} == {1}
        self.model = model
        return done

    def untouched(self, before: Servers, labels: t.Collection[str]) -> None:
        """Not even started again."""
        now = self.servers()
        assert {label: now[label] for label in labels} == {label: before[label] for label in labels}

    def put_back(self, before: Servers, labels: t.Collection[str]) -> None:
        """The very same servers serve again, and nothing else is left."""
        now = self.servers()
        identity = {label: [one[:3] for one in before[label]] for label in labels}
        assert {label: [one[:3] for one in now[label]] for label in labels} == identity

    def serves(self, expected: t.Mapping[str, str], patience: float = 0) -> None:
        def found() -> bool:
            return self.each(Member.answers, expected) == dict(expected)

        assert eventually(found, patience), self.each(Member.answers, expected)


def tally(done: Outcome) -> str:
    """What a run says in the end, without what only one run has: its message and its exit status."""
    said = re.sub(r"\s+", " ", done.message).replace("|", "/")
    return f"{said.rstrip('.')}. Exit status {done.status}"
