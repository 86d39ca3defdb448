# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Units of a real systemd on a simulated GPU host, over SSH, as playbooks see them. vLLM's words are captured ones."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys
import typing as t

import pytest
from conftest import NAME, ROOT, docker

HOST = f"{NAME}-host"
UNIT = """[Unit]
Description=vLLM {name}
StartLimitIntervalSec=60
StartLimitBurst=3
[Service]
ExecStart=/bin/sh -c '{command}'
Restart={restart}
RestartSec=1
"""


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[pathlib.Path]:
    sys.path.insert(0, str(ROOT / "tests" / "unit"))
    from vllm_logs import captured

    tmp = tmp_path_factory.mktemp("host")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp / "key")], check=True)
    subprocess.run([str(ROOT / "tests/rig/hosts/build")], check=True, stdin=subprocess.DEVNULL)
    up = [str(ROOT / "tests/rig/hosts/host"), "up", HOST, "--key", str(tmp / "key.pub"), "--gpu", "a100-shared"]
    address = subprocess.run(up, check=True, capture_output=True, text=True).stdout.split()[0]
    port = address.rpartition(":")[2]
    for name in ("h200_memory_held", "h200_llama8b"):
        subprocess.run(["docker", "exec", "-i", HOST, "tee", f"/root/{name}.log"], input=captured(name).encode(),
                       check=True, stdout=subprocess.DEVNULL)  # fmt: skip
    options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o ConnectionAttempts=20"
    variables = {
        "ansible_host": "127.0.0.1",
        "ansible_port": int(port),
        "ansible_user": "gpu",
        "ansible_become": True,
        "ansible_ssh_private_key_file": str(tmp / "key"),
        "ansible_ssh_common_args": options,
    }
    path = tmp / "hosts.yml"
    path.write_text(json.dumps({"all": {"hosts": {"a100-1": variables}}}))
    yield path
    subprocess.run([str(ROOT / "tests/rig/hosts/host"), "down", HOST], check=True)


def make_unit(name: str, command: str, restart: str = "no") -> None:
    text = UNIT.format(name=name, command=command, restart=restart)
    path = f"/etc/systemd/system/vllm-{name}.service"
    subprocess.run(
        ["docker", "exec", "-i", HOST, "tee", path], input=text.encode(), check=True, stdout=subprocess.DEVNULL
    )
    docker("exec", HOST, "systemctl", "daemon-reload")
    docker("exec", HOST, "systemctl", "start", "--no-block", f"vllm-{name}")


def call(inventory: pathlib.Path, module: str, **arguments: t.Any) -> dict[str, t.Any]:
    """The result of one module."""
    words = ["all", "-i", str(inventory), "-m", f"gpufleet.vllm.{module}", "-a", json.dumps(arguments)]
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/root",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_LOAD_CALLBACK_PLUGINS": "1",
    }
    done = subprocess.run([str(ROOT / ".venv/bin/ansible"), *words], cwd=ROOT, env={**environment, "ANSIBLE_STDOUT_CALLBACK":
                          "minimal"}, capture_output=True, text=True, check=False)  # fmt: skip
    start = done.stdout.find("=> {")
    assert start >= 0, done.stdout + done.stderr
    return t.cast("dict[str, t.Any]", json.JSONDecoder().raw_decode(done.stdout[start + 3 :])[0])


def test_a_unit_that_failed(inventory: pathlib.Path) -> None:
    make_unit("held", "cat /root/h200_memory_held.log; exit 1")
    result = call(inventory, "vllm_health", unit="vllm-held", url="http://127.0.0.1:9", timeout=60)
    assert (result["healthy"], result["diagnosis"]["id"]) == (False, "mem-free-below-budget")
    found = call(inventory, "vllm_diagnose", unit="vllm-held")
    assert (found["diagnosis"]["id"], found["state"]["running"], found["state"]["exit_status"]) == (
        "mem-free-below-budget",
        False,
        1,
    )
    assert found["versions"]["vllm"] == "0.26.0"
    assert "ExecStart=/bin/sh" in found["server"]["unit"]


def test_a_unit_that_fails_again_and_again(inventory: pathlib.Path) -> None:
    make_unit("loop", "cat /root/h200_memory_held.log; exit 1", restart="on-failure")
    result = call(inventory, "vllm_health", unit="vllm-loop.service", url="http://127.0.0.1:9", timeout=60)
    assert result["diagnosis"]["id"] == "mem-free-below-budget"
    assert result["elapsed"] < 30


def test_a_unit_that_is_killed(inventory: pathlib.Path) -> None:
    make_unit("killed", "echo INFO 11-21 10:00:00 [x.py:1] vLLM API server version 0.26.0; kill -KILL $$$$")
    found = call(inventory, "vllm_diagnose", unit="vllm-killed")
    while found["state"]["running"]:
        found = call(inventory, "vllm_diagnose", unit="vllm-killed")
    assert (found["diagnosis"]["id"], found["state"]["exit_status"]) == ("unknown", 137)
    assert "SIGKILL" in found["diagnosis"]["cause"]


def test_a_unit_that_stands_still(inventory: pathlib.Path) -> None:
    make_unit("still", "head -n 20 /root/h200_llama8b.log; exec sleep 300")
    result = call(inventory, "vllm_health", unit="vllm-still", url="http://127.0.0.1:9", timeout=120, stall_timeout=4)
    assert (result["healthy"], result["diagnosis"]["id"], result["phase"]) == (False, "stalled", "init")
    assert result["elapsed"] < 20
    docker("exec", HOST, "systemctl", "kill", "--signal=STOP", "vllm-still")
    result = call(inventory, "vllm_health", unit="vllm-still", url="http://127.0.0.1:9", timeout=120)
    assert result["diagnosis"]["id"] == "shm-broadcast-stall"
    docker("exec", HOST, "systemctl", "kill", "--signal=KILL", "vllm-still")


def test_a_unit_that_is_not_there(inventory: pathlib.Path) -> None:
    result = call(inventory, "vllm_diagnose", unit="vllm-none")
    assert result["msg"].startswith("Systemd unit vllm-none.service does not exist on this host.")
