# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts that nobody deploys: after a neighbour took the GPU, two at once, after a reboot; and the end."""

from __future__ import annotations

import os
import re
import subprocess
import typing as t
from pathlib import Path

if t.TYPE_CHECKING:
    from ...conftest import Run

NAME = "gpufleet-mol-shared"
TURNS = "/run/gpufleet.vllm/turns"
STANDIN = "/opt/vllm/0.11.0/standin.json"
READY = "curl --silent --fail --output /dev/null http://127.0.0.1:{}/health"
GPU = "GPU-{0:08d}-0000-4000-8000-{0:012d}"


def on(host: t.Any, command: str) -> str:
    return t.cast(str, host.check_output(f"sudo sh -c '{command}'"))


def until(host: t.Any, command: str, seconds: int = 120) -> None:
    on(host, f'timeout {seconds} sh -c "until {command}; do sleep 0.2; done"')


def serves(host: t.Any, port: int = 8000) -> None:
    until(host, READY.format(port))


def gpu_of(host: t.Any, unit: str = "vllm-qwen") -> str:
    pid = on(host, f"systemctl show --property MainPID --value {unit}")
    return on(host, f"xargs -0 -n1 echo < /proc/{pid}/environ | sed -n s/^CUDA_VISIBLE_DEVICES=//p")


def journal(host: t.Any, *units: str) -> str:
    chosen = " ".join(f"--unit={unit}" for unit in units)
    return on(host, f"journalctl --no-pager --output=short-monotonic --lines=400 {chosen}")


def neighbour(host: t.Any, gpu: int) -> None:
    on(host, f"systemd-run --quiet --unit hog env SIM_GPU_MIB=70000 NVIDIA_VISIBLE_DEVICES={GPU.format(gpu)} sleep 900")
    until(host, "nvidia-smi --query-compute-apps=used_memory --format=csv | grep -q 70000")


def test_one_that_keeps_its_gpu_says_who_has_it_and_starts_when_that_one_is_gone(
    host: t.Any, deploy: t.Callable[..., Run]
) -> None:
    on(host, "systemctl stop vllm-qwen")
    neighbour(host, 4)
    on(host, "systemctl reset-failed vllm-qwen; systemctl start vllm-qwen")
    until(host, "journalctl --unit vllm-qwen | grep -q does.not.start")
    told = re.findall(r"ERROR gpufleet\.vllm: (qwen does not start: .*)", journal(host, "vllm-qwen"))[-1]
    taken = r"GPU 4: 11\.0 of 80\.0 GiB free, needs 60\.0; PID \d+ \(root\) holds 68\.4 GiB\."
    assert re.match(f"qwen does not start: {taken} ", told)
    assert host.run(READY.format(8000)).rc
    run = deploy(rc=2)
    assert re.search(f"Server qwen cannot have its GPUs at this start: {taken}", run.text)
    assert on(host, "systemctl show --property NRestarts --value vllm-qwen") == "0"
    on(host, "systemctl stop hog")
    serves(host)
    assert gpu_of(host) == "4"


def test_one_that_chooses_again_moves_and_serves(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    again = ("--extra-vars", "at_start=reselect")
    deploy(*again)
    assert gpu_of(host) == "4"
    on(host, "systemctl stop vllm-qwen")
    neighbour(host, 4)
    on(host, "systemctl reset-failed vllm-qwen; systemctl start vllm-qwen")
    serves(host)
    moved = gpu_of(host)
    assert moved in ("1", "2", "3", "7")
    assert f"So it moves to GPU {moved} (" in journal(host, "vllm-qwen")
    assert "changed=0" in deploy(*again).text
    assert gpu_of(host) == moved


def test_servers_keep_their_gpus_when_they_are_restarted(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    """Their own memory comes back a second after their end: no reason to move."""
    deploy("--extra-vars", "server=second server_port=8001 at_start=reselect")
    before = gpu_of(host), gpu_of(host, "vllm-second")
    assert len({"4", *before}) == 3
    on(host, "systemctl restart vllm-qwen vllm-second")
    serves(host, 8000)
    serves(host, 8001)
    assert (gpu_of(host), gpu_of(host, "vllm-second")) == before


def test_two_at_once_on_two_gpus_start_side_by_side(host: t.Any) -> None:
    """The one gets up while the other loads, which has no end."""
    turn = f"{TURNS}/{gpu_of(host)}"
    fault = '{\\"fault\\": \\"hang-in-load\\", \\"only_with\\": \\"--port 8000\\"}'
    on(host, f'mv {STANDIN} {STANDIN}.before; echo "{fault}" >{STANDIN}')
    on(host, "systemctl restart vllm-qwen vllm-second")
    serves(host, 8001)
    until(host, f"! flock --nonblock {turn} true")
    assert host.run(READY.format(8000)).rc
    on(host, f"mv {STANDIN}.before {STANDIN}; systemctl restart vllm-qwen")
    serves(host, 8000)


def test_two_at_once_on_one_gpu_start_one_after_the_other(host: t.Any) -> None:
    """A process that has the turn of a GPU stands for a server that starts there."""
    turn = f"{TURNS}/{gpu_of(host, 'vllm-second')}"
    on(host, f"systemd-run --quiet --unit vllm-first flock {turn} sleep infinity")
    until(host, f"! flock --nonblock {turn} true")
    on(host, "systemctl restart vllm-second")
    why = "second.waits.for.server.first,.which.is.starting,.since.two.that.start.on.one.GPU"
    until(host, f"journalctl --unit vllm-second | grep -q {why}")
    # Not the server yet, but what it is started by.
    assert "/start-" in on(host, "xargs -0 < /proc/$(systemctl show --property MainPID --value vllm-second)/cmdline")
    on(host, "systemctl stop vllm-first")
    serves(host, 8001)


def test_after_a_reboot_both_serve_and_a_teardown_leaves_nothing(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    """The way to log in is another one then."""
    inventory = Path(os.environ["MOLECULE_INVENTORY_FILE"])
    before = docker("port", NAME, "22/tcp").rpartition(":")[2]
    docker("restart", NAME)
    after = docker("port", NAME, "22/tcp").rpartition(":")[2]
    inventory.write_text(re.sub(rf"\b{before}\b", after, inventory.read_text()))
    for port in (8000, 8001):
        docker("exec", NAME, "timeout", "120", "sh", "-c", f"until {READY.format(port)}; do sleep 0.2; done")
    deploy(playbook="gpufleet.vllm.teardown")
    left = "/usr/local/lib/gpufleet.vllm /run/gpufleet.vllm /etc/gpufleet.vllm /var/lib/gpufleet.vllm"
    assert docker("exec", NAME, "sh", "-c", f"ls -d {left} /etc/systemd/system/vllm-* 2>/dev/null; true") == ""


def docker(*words: str) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True, timeout=120)
    return done.stdout.strip()
