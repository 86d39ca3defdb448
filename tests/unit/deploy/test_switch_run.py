# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One server takes the place of another: what is done, in which order, and what is told."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import (
    LABEL_FINGERPRINT,
    LABEL_SPEC,
    LABEL_SUPERSEDES,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.ports import PortOwner
from docker_model import IMAGE, KERNELS, NEW, Client, Killed, manage, run, situation
from switches import IN_EVERY_WAY, OLD_A, Steps, found, labels, run_b, running

# --- check, do, again, again in check -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([(run_b, {}), (run, {})], id="switch"),
        pytest.param([(run_b, {}), OLD_A, (run, {})], id="two give way"),
        pytest.param([OLD_A, (manage, {"state": "stopped"}), (run_b, {}), (run, {})], id="switch to what was stopped"),
        pytest.param([(run_b, {}), (run, {}), (run_b, {})], id="switch back before the commit"),
        pytest.param([(run_b, {}), (run, {}), (run, NEW)], id="change one's mind before the commit"),
        pytest.param([(run_b, {}), (run, {}), (manage, {"state": "committed"})], id="commit"),
        pytest.param([(run_b, {}), (run, {}), (manage, {"state": "reverted"})], id="revert"),
        pytest.param([(run_b, {}), OLD_A, (run, {}), (manage, {"state": "reverted"})], id="revert two"),
        pytest.param([(run_b, {}), (run, {}), (manage, {"state": "absent"})], id="remove"),
        pytest.param([(run_b, {}), (run, {"port": 8001, "exclusive": True})], id="one at a time"),
    ],
)
@IN_EVERY_WAY
def test_check_mode_predicts_and_changes_nothing_and_the_second_run_neither(steps: Steps, client: Client) -> None:
    *before, (last, said) = steps
    for make, earlier in before:
        make(**earlier)
    there, calls = found(client), len(client.calls)
    predicted = last(check=True, **said)
    assert (found(client), len(client.calls)) == (there, calls)
    done = last(**said)
    assert done["changed"] and found(client) != there
    for key in ("changed", "actions", "commands", "diff", "needs", "fit", "fallback"):
        assert predicted[key] == done[key]
    for check in (False, True):
        again = last(check=check, **said)
        assert (again["changed"], again["actions"], again["commands"]) == (False, [], [])


def test_what_a_switch_does_and_tells(client: Client) -> None:
    run_b()
    result = run()
    assert result["actions"] == [
        "create vllm-a",
        "try vllm-a (GPU access, limits and mounts, before anything stops)",
        "stop vllm-b (it has port 8000)",
        "wait for memory of all GPUs",
        "start vllm-a",
    ]
    assert result["commands"][2:] == [
        "docker stop vllm-b",
        "nvidia-smi --query-gpu=uuid,memory.free,memory.total --format=csv",
        "docker start vllm-a",
    ]
    assert result["diff"]["before"] == {"state": "absent"}
    assert result["diff"]["after"] == {
        "name": "a",
        "model": "m",
        "image": IMAGE,
        "state": "started",
        "stopped_for_it": ["vllm-b"],
    }
    assert (result["server"]["superseded"], result["server"]["stopped_for_it"]) == (True, ["vllm-b"])
    assert client.now == {"vllm-b": "id1 exited", "vllm-a": "id2 running"}
    assert json.loads(labels(client)[LABEL_SUPERSEDES]) == ["id1"]


def test_what_is_stopped_is_recorded_before_anything_stops(client: Client) -> None:
    run_b()
    client.dies_after = len(client.calls) + 1
    with pytest.raises(Killed):
        run()
    assert running(client) == {"vllm-b"}
    assert json.loads(labels(client)[LABEL_SUPERSEDES]) == ["id1"]


def test_the_commit_removes_the_other_server_and_keeps_what_it_compiled(client: Client) -> None:
    run_b()
    run()
    result = manage(state="committed")
    assert result["actions"] == ["remove vllm-b (another server took its place)"]
    assert result["commands"] == ["docker rm -f vllm-b"]
    assert result["diff"]["before"]["stopped_for_it"] == ["vllm-b"]
    assert "stopped_for_it" not in result["diff"]["after"]
    assert (result["server"]["superseded"], result["server"]["stopped_for_it"]) == (False, [])
    assert found(client) == ({"vllm-a": "id2 running"}, [f"{KERNELS}-1", "vllm-a-cache-1", "vllm-b-cache-1"])


def test_a_revert_tells_what_serves_again(client: Client) -> None:
    run_b(served_model_name="gpt")
    run()
    result = manage(state="reverted")
    assert found(client)[0] == {"vllm-b": "id1 running"}
    (restored,) = result["restored"]
    assert restored["container_name"] == "vllm-b" and restored["state"] == "running"
    assert (restored["container_id"], restored["url"]) == ("id1", "http://127.0.0.1:8000")
    assert restored["served_model_name"] == "gpt" and "gap_seconds" in restored
    assert result["server"]["state"] == "absent"
    assert manage(state="reverted")["restored"] == []


@IN_EVERY_WAY
def test_a_revert_tells_of_both_that_serve_again(client: Client) -> None:
    run_b()
    run(port=8001)
    before = found(client)
    run()
    restored = manage(state="reverted")["restored"]
    assert {(one["container_name"], one["state"]) for one in restored} == {
        ("vllm-a", "running"),
        ("vllm-b", "running"),
    }
    assert found(client) == before


def test_a_server_that_was_stopped_on_purpose_is_neither_removed_nor_started(client: Client) -> None:
    run_b()
    manage(container_name="vllm-b", state="stopped")
    result = run()
    assert result["actions"] == ["create vllm-a", "start vllm-a"]
    manage(state="committed")
    manage(state="reverted")
    assert client.now == {"vllm-b": "id1 exited", "vllm-a": "id2 running"}


def test_the_commit_is_refused_while_the_new_server_does_not_run(client: Client) -> None:
    run_b()
    run()
    client.stop("vllm-a", 1)
    with pytest.raises(VllmError, match="^vllm-a is not running, so vllm-b, which served before it, is not removed."):
        manage(state="committed")
    assert set(client.now) == {"vllm-a", "vllm-b"}


def test_a_stranger_on_the_port_is_never_stopped(client: Client) -> None:
    bindings = {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]}
    client.put("grafana", {"HostConfig": {"PortBindings": bindings}}, running=True)
    with pytest.raises(VllmError, match="Port 8000 is taken by the container grafana"):
        run()
    assert found(client) == ({"grafana": "id1 running"}, [])


def test_a_look_says_that_another_run_is_at_work_on_a_server_that_would_stop(client: Client) -> None:
    run_b()
    assert run(check=True)["busy"] == ""
    for name in ("vllm-a", "vllm-b"):
        with lock.alone(name):
            assert f"Another run is changing {name} on this host" in run(check=True)["busy"]


def test_both_servers_are_locked_while_one_takes_the_place_of_the_other(client: Client) -> None:
    run_b()
    held: list[str] = []
    start = client.start

    def busy(name: str) -> None:
        for other in ("vllm-a", "vllm-b"):
            with pytest.raises(VllmError, match="Another run"), lock.alone(other, patience=0):
                pass
            held.append(other)
        start(name)

    client.start = busy  # type: ignore[method-assign]
    run()
    assert {*held} == {"vllm-a", "vllm-b"}


# --- whose turn it is -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["started", "present", "stopped", "absent", "committed", "reverted"])
@pytest.mark.parametrize("check", [False, True])
def test_a_step_of_a_run_that_was_overtaken_changes_nothing(state: str, check: bool, client: Client) -> None:
    run_b()
    run()
    mine = run(**NEW)["server"]["container_id"]
    run()
    there, calls = found(client), len(client.calls)
    with pytest.raises(VllmError) as caught:
        run(check, state=state, container_id=mine)
    assert str(caught.value) == (
        f"Another run has replaced vllm-a since this run made it: this run made {mine}, and now there is "
        f"{there[0]['vllm-a'].split()[0]}. So this run changes nothing. Look at what the other run does, then deploy again."
    )
    assert (found(client), len(client.calls)) == (there, calls)


def test_a_step_of_a_run_whose_server_is_gone_is_told(client: Client) -> None:
    with pytest.raises(VllmError, match=r"this run made 0123456789ab, and now there is nothing\."):
        manage(state="committed", container_id="0123456789abcdef")


@pytest.mark.parametrize("state", ["committed", "reverted"])
def test_the_run_that_made_the_server_goes_on(state: str, client: Client) -> None:
    run_b()
    mine = run()["server"]["container_id"]
    assert manage(state=state, container_id=mine)["changed"] is True
    assert len(client.now) == 1


@pytest.mark.parametrize(
    ("said", "others"),
    [
        pytest.param({"port": 8001}, [], id="another port"),
        pytest.param({"engine": {"uds": "/run/a.sock"}, "volumes": ["{0}:/run"]}, [], id="a socket"),
        pytest.param(
            {"engine": {"uds": "/run/a.sock"}, "volumes": ["{0}:/run"], "exclusive": True},
            ["vllm-b", "vllm-c"],
            id="a socket, one at a time",
        ),
        pytest.param({"bind": "127.0.0.2"}, [], id="another address"),
        pytest.param({"bind": "0.0.0.0", "allow_unauthenticated": True}, ["vllm-b"], id="every address"),
        pytest.param({"port": 8001, "exclusive": True}, ["vllm-b", "vllm-c"], id="one at a time"),
        pytest.param({"bind": "127.0.0.2", "exclusive": True}, ["vllm-b", "vllm-c"], id="one at a time, elsewhere"),
    ],
)
def test_who_gives_way(said: dict[str, t.Any], others: list[str], client: Client, tmp_path: Path) -> None:
    said = {**said, **({"volumes": [one.format(tmp_path) for one in said["volumes"]]} if "volumes" in said else {})}
    run_b()
    run(name="c", port=9000)
    assert run(**said)["server"]["stopped_for_it"] == others
    assert running(client) == {"vllm-a", "vllm-b", "vllm-c"} - {*others}
    if others:
        with pytest.raises(VllmError, match="^vllm-b is not started: It cannot run together with vllm-a "):
            run_b(replace_others=False, **({"exclusive": True} if "exclusive" in said else {}))


def test_a_server_on_the_same_socket_gives_way(client: Client, tmp_path: Path) -> None:
    said = {"engine": {"uds": "/run/a.sock"}, "volumes": [f"{tmp_path}:/run"]}
    run_b(port=9000, **said)
    assert f"stop vllm-b (it has the socket {tmp_path}/a.sock)" in run(port=9001, **said)["actions"]
    situation().owner = PortOwner("somebody", 1)
    assert run(port=9001, **{**said, "engine": {"uds": "/run/b.sock"}})["changed"]


def test_a_server_on_the_network_of_the_host_gives_way_though_nobody_can_see_who_listens(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_b(network_mode="host")
    situation().owner = PortOwner("a process of uid 0", None)
    assert "stop vllm-b (it has port 8000)" in run()["actions"]


def test_a_server_whose_record_cannot_be_read_is_left_alone(client: Client) -> None:
    bindings = {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]}
    record = {LABEL_FINGERPRINT: "v1:x", LABEL_SPEC: '{"unheard_of": 1}'}
    client.put("vllm-x", {"Labels": record, "HostConfig": {"PortBindings": bindings}}, running=True)
    with pytest.raises(VllmError, match="Port 8000 is taken by the container vllm-x, which is not part of this server"):
        run()
    assert client.now == {"vllm-x": "id1 running"}


@IN_EVERY_WAY
def test_what_is_put_back_is_as_warm_as_whatever_runs_it_knows(client: Client) -> None:
    run_b()
    manage(name="b", container_name="vllm-b", state="committed")
    run()
    (restored,) = manage(state="reverted")["restored"]
    assert (restored["container_name"], restored["cold_start"]) == ("vllm-b", False)
