# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import re
import subprocess
import typing as t
from dataclasses import dataclass, field
from pathlib import Path

import pytest

# What Docker Engine, the system's log and Ansible itself write for their own sake.
NOISE = ("/var/lib/docker", "/var/lib/containerd", "/var/log", "/run", "/tmp", "/home/gpu/.ansible")


@dataclass
class Run:
    """What Ansible's log tells of one run of the playbook under test."""

    check: bool
    changed: list[str] = field(default_factory=list)
    text: str = ""


def read_runs(log: str) -> list[Run]:
    """The runs of the playbook in their order. Each line that begins a message carries the process id of its run."""
    runs: dict[str, Run] = {}
    pid = task = ""
    for line in log.splitlines():
        if found := re.match(r"\S+ \S+ p=(\d+) .*?\| (.*)", line):
            pid, line = found.groups()
        if line.startswith("PLAY [Serve a model]"):
            runs[pid] = Run(check="[CHECK MODE]" in line)
        if found := re.match(r"TASK \[(.*?)\]", line):
            task = found.group(1)
        if pid in runs:
            runs[pid].text += f"{line}\n"
            if line.startswith("changed:"):
                runs[pid].changed.append(task)
    return list(runs.values())


@pytest.fixture(scope="session")
def log() -> str:
    return Path(os.environ["ANSIBLE_LOG_PATH"]).read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def runs(log: str) -> list[Run]:
    return read_runs(log)


@pytest.fixture
def deploy(tmp_path: Path) -> t.Callable[..., Run]:
    """Run the scenario's playbook once more, or another one, with more arguments or another environment."""

    def run(*arguments: str, rc: int = 0, playbook: str = "", **env: str) -> Run:
        scenario, log = os.environ["MOLECULE_SCENARIO_DIRECTORY"], str(tmp_path / "log")
        playbook = playbook or f"{scenario}/converge.yml"
        command = ["ansible-playbook", "-i", os.environ["MOLECULE_INVENTORY_FILE"], playbook]
        environment = {**os.environ, "ANSIBLE_LOG_PATH": log, **env}
        done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
        text = done.stdout + done.stderr
        assert done.returncode == rc, text
        return Run(check="--check" in arguments, text=text)

    return run


@pytest.fixture(scope="module")
def container(host: t.Any) -> dict[str, t.Any]:
    """What the host's Docker Engine says about the server's container."""
    return t.cast("dict[str, t.Any]", json.loads(host.check_output("docker inspect vllm-gpt-oss"))[0])


@pytest.fixture(scope="module")
def written(host: t.Any) -> set[str]:
    """The paths that were made or changed on the host since it was prepared."""
    pruned = " -o ".join(f"-path {path}" for path in NOISE)
    found = host.check_output(f"sudo find / -xdev \\( {pruned} \\) -prune -o -newercc /var/lib/prepared -print")
    return set(found.splitlines())


@pytest.fixture
def serving(host: t.Any) -> t.Callable[[], t.Any]:
    """Every container of the host, by name and id, and what the server on port 8000 answers."""

    def look() -> t.Any:
        question = json.dumps({"messages": [{"role": "user", "content": "Say hello"}]})
        curl = "curl --silent --show-error --fail http://localhost:8000/v1/chat/completions --data %s"
        answer = json.loads(host.check_output(curl, question))
        containers = host.check_output("docker ps --all --no-trunc --format '{{.Names}} {{.ID}} {{.State}}'")
        return containers.split("\n"), answer["model"], answer["choices"][0]["message"]["content"]

    return look
