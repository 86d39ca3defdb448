# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that hangs, dies and is stopped, with the times that are real."""

from __future__ import annotations

import json
import time
import typing as t

FAULTS = "/home/gpu/vllm/huggingface/standin.json"
FOUND_WITHIN = 150
Host = t.Any


def state(host: Host) -> dict[str, t.Any]:
    """What the watchdog knows of the server; whoever may log in may read it."""
    done = host.run("cat /var/lib/gpufleet.vllm/watchdog/state.json")
    known = json.loads(done.stdout or "{}").get("servers") or {}
    return t.cast("dict[str, t.Any]", known.get("container:vllm-gpt-oss") or {"status": "unknown", "events": []})


def until(host: Host, what: t.Callable[[dict[str, t.Any]], bool], seconds: float) -> float:
    """Seconds until something is so."""
    began = time.monotonic()
    while not what(known := state(host)):
        assert time.monotonic() - began < seconds, known
        time.sleep(1)
    return time.monotonic() - began


def serves(known: dict[str, t.Any]) -> bool:
    return bool(known["status"] == "serving")


def fault(host: Host, name: str = "") -> None:
    host.check_output(f"printf '%s' '{json.dumps({'fault': name})}' > {FAULTS}")


def test_it_runs_for_little(host: Host) -> None:
    until(host, serves, 60)
    assert host.check_output("systemctl is-active gpufleet-vllm-watchdog") == "active"
    used = int(host.check_output("systemctl show --property=CPUUsageNSec --value gpufleet-vllm-watchdog"))
    time.sleep(30)
    more = int(host.check_output("systemctl show --property=CPUUsageNSec --value gpufleet-vllm-watchdog"))
    # Of a core, on a machine where other tests run as well.
    assert (more - used) / 30e9 < 0.02


def test_a_hang_from_idle_is_found_and_put_right(host: Host) -> None:
    fault(host, "hang-from-idle")
    found = until(host, lambda known: known["status"] == "suspect", FOUND_WITHIN)
    # The engine hangs on; the next one does not.
    fault(host)
    found += until(host, lambda known: known["restarts"] == 1, FOUND_WITHIN)
    assert found <= FOUND_WITHIN + 10
    until(host, serves, 120)
    assert [one["kind"] for one in state(host)["events"]] == ["hang"]
    path = state(host)["post_mortem"]
    assert host.run(f"cat {path}").rc != 0
    text = host.check_output(f"sudo cat {path}")
    assert "== nvidia-smi ==" in text and "Application startup complete" in text


def test_a_dead_engine_is_seen_at_once(host: Host) -> None:
    host.check_output("sudo pkill -KILL -f VLLM::EngineCor || sudo pkill -KILL VLLM::EngineCor")
    found = until(host, lambda known: len(known["events"]) == 2, 60)
    until(host, serves, 120)
    assert found < 30
    assert (state(host)["events"][1]["kind"], state(host)["restarts"]) == ("crash", 1)


def test_who_stops_it_has_the_say(host: Host) -> None:
    host.check_output("docker stop vllm-gpt-oss")
    until(host, lambda known: known["status"] == "stopped", 30)
    time.sleep(15)
    assert host.check_output("docker inspect --format '{{.State.Running}}' vllm-gpt-oss") == "false"
    host.check_output("docker start vllm-gpt-oss")
    until(host, serves, 120)


def test_status_shows_it(deploy: t.Callable[..., t.Any]) -> None:
    text = deploy(playbook="gpufleet.vllm.status").text
    assert "watchdog: vllm-gpt-oss serving since" in text
    assert "1 restart" in text


def test_maintenance_is_shown_and_ends(host: Host, deploy: t.Callable[..., t.Any]) -> None:
    host.check_output("echo 20 | sudo tee /var/lib/gpufleet.vllm/watchdog/paused")
    until(host, lambda known: known["status"] == "paused", 30)
    assert "watchdog: paused until" in deploy(playbook="gpufleet.vllm.status").text
    until(host, serves, 60)


def test_no_secret_is_in_what_it_writes(host: Host) -> None:
    found = host.check_output("sudo cat /run/notices /var/lib/gpufleet.vllm/watchdog/post-mortem/* && sudo journalctl")
    assert '"event": "hung"' in found and '"event": "restarted"' in found
    assert "hf_canary4711" not in found
