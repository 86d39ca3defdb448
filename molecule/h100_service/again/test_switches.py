# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A switch that fails ends with the old service; a dead engine is restarted; a switch that works leaves one service."""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from ...conftest import Run

QWEN = ("--extra-vars", "model=qwen2.5-0.5b-instruct")
KEY = "canary4711-of-the-service"
# Seconds within which systemd has started a service again (RestartSec=10), and that has loaded.
BACK = 60


def units(host: t.Any) -> list[str]:
    """Every unit of ours, by name and state."""
    listed = host.check_output("systemctl list-units --all --plain --no-legend 'vllm-*'")
    return [" ".join(line.split()[:4]) for line in listed.splitlines()]


def identity(host: t.Any) -> list[str]:
    """What is on the disk of the services, and what users there are."""
    look = "sudo sh -c 'sha256sum /etc/systemd/system/vllm-* /etc/gpufleet.vllm/*; ls /run | grep vllm-; id vllm'"
    return t.cast("list[str]", host.check_output(look).splitlines())


def answer(host: t.Any) -> str:
    """The model that answers on the port."""
    curl = f"curl --silent --show-error --fail --header 'Authorization: Bearer {KEY}' http://127.0.0.1:8000/v1/models"
    return t.cast(str, host.check_output(curl)).split('"id": "')[1].split('"')[0]


def test_a_switch_that_fails_is_undone(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    before, running = identity(host), units(host)
    run = deploy(*QWEN, "--extra-vars", "fault=exit-at-once", playbook="gpufleet.vllm.deploy", rc=2)
    told = run.text[run.text.index("vllm-qwen is not healthy. ") :]
    assert "The previous server gpt-oss-20b is serving again at http://127.0.0.1:8000, " in told
    assert "canary4711" not in run.text
    assert (identity(host), units(host), answer(host)) == (before, running, "gpt-oss-20b")


def test_a_dead_engine_is_started_again(host: t.Any) -> None:
    shown = "systemctl show --property InvocationID --value vllm-gpt-oss"
    before = host.check_output(shown)
    host.check_output("sudo pkill -KILL -x VLLM::EngineCor")
    ready = "curl --silent --fail --output /dev/null http://127.0.0.1:8000/health"
    host.check_output(f"timeout {BACK} sh -c 'until [ $({shown}) != {before} ] && {ready}; do sleep 0.2; done'")
    assert host.check_output("systemctl show --property NRestarts --value vllm-gpt-oss") == "1"
    assert answer(host) == "gpt-oss-20b"


def test_a_run_after_that_changes_nothing(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    before = identity(host)
    assert "changed=0" in deploy().text
    assert identity(host) == before


def test_a_switch_that_works_leaves_the_new_service_alone(host: t.Any, deploy: t.Callable[..., Run]) -> None:
    run = deploy(*QWEN, playbook="gpufleet.vllm.deploy")
    assert "qwen2.5-0.5b-instruct answers at http://127.0.0.1:8000 on gpufleet-mol-service" in run.text
    assert (units(host), answer(host)) == (["vllm-qwen.service loaded active running"], "qwen2.5-0.5b-instruct")
    assert host.check_output("ls /etc/systemd/system | grep vllm-") == "vllm-qwen.service"
