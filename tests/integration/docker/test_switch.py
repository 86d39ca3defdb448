# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server takes the place of another on the same port of a real Docker Engine: host is the new one, other has it."""

from __future__ import annotations

import socket
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from engine_host import NEVER_READY, READY, STUBBORN, Host

# A module leaves its connection to the engine to the end of its process.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def failing(make: t.Callable[..., t.Any], *arguments: t.Any, **said: t.Any) -> str:
    with pytest.raises(VllmError) as caught:
        make(*arguments, **said)
    return str(caught.value)


def same_but_restarted(host: Host, before: dict[str, tuple[str, str, str]]) -> bool:
    return {name: one[:2] for name, one in host.containers().items()} == {name: one[:2] for name, one in before.items()}


def test_a_switch_there_and_back(host: Host, other: Host) -> None:
    other.run()
    for new, old in ((host, other), (other, host)):
        before = (new.containers(), old.containers())
        predicted = new.run(check=True)
        assert (new.containers(), old.containers()) == before
        done = new.run()
        for key in ("changed", "actions", "commands", "diff"):
            assert predicted[key] == done[key]
        port = host.said["port"]
        assert f"stop {old.name} (it has port {port}; it never answered: at once)" in done["actions"]
        assert new.states == {new.name: "running"} and old.states == {old.name: "exited"}
        assert done["server"]["stopped_for_it"] == [old.name]
        for check in (True, False):
            assert new.run(check)["changed"] is False
        assert new.manage("committed")["changed"] is True
        assert new.states == {new.name: "running"} and old.states == {}
        assert new.manage("committed")["changed"] is False


def test_a_switch_that_is_reverted(host: Host, other: Host) -> None:
    other.run()
    before = other.containers()
    host.run()
    predicted = host.manage("reverted", check=True)
    done = host.manage("reverted")
    assert predicted["actions"] == done["actions"]
    (restored,) = done["restored"]
    assert (
        restored["container_name"] == other.name and 0 <= restored["gap_seconds"] <= restored["away_seconds"] + 1 < 61
    )
    assert host.states == {} and same_but_restarted(other, before)
    assert host.manage("reverted")["changed"] is False and other.run()["changed"] is False
    # What it compiled goes when it does.
    host.manage("absent")
    assert host.volumes() == []


def test_a_switch_to_a_server_that_never_answers_waits_for_nobody_on_the_way_back(host: Host, other: Host) -> None:
    """It does not leave when it is asked to, and has 15 minutes for that."""
    other.run(**STUBBORN)
    other.wait_for_log(READY)
    before = other.containers()
    switched = host.run(**NEVER_READY)
    assert f"stop {other.name} (it has port {host.said['port']})" in switched["actions"]
    host.wait_for_log("called\n")
    done = host.manage("reverted")
    assert f"docker stop -t 0 {host.name}" in done["commands"]
    # The stop took four of them.
    assert done["restored"][0]["away_seconds"] >= STUBBORN["stop_timeout"]
    assert host.states == {} and same_but_restarted(other, before)
    other.wait_for_log(READY, times=2)


def test_two_servers_of_one_image_share_the_kernels_until_the_last_is_gone(host: Host, other: Host) -> None:
    """They are only made: here is no GPU to start them with."""
    made: dict[str, t.Any] = {"state": "present", "gpus": "all", "fit": "off", "vllm_version": "0.26.0"}
    kernels: set[str] = set()
    for one in (host, other):
        one.run(**made)
        assert one.run(**made)["changed"] is False
        binds = [bind.split(":") for bind in one.inspect()["HostConfig"]["Binds"]]
        kernels |= {bind[0] for bind in binds if bind[1] == "/var/cache/vllm-kernels"}
    (name,) = kernels
    assert name.startswith("gpufleet-kernels-")
    for one in (host, other):
        predicted = one.manage("absent", check=True)
        done = one.manage("absent")
        assert predicted["commands"] == done["commands"]
        assert (f"docker volume rm {name}" in done["commands"]) is (one is other)
        found = {volume["Name"] for volume in host.engine.volumes(filters={"name": name})["Volumes"] or ()}
        assert found == (set() if one is other else {name})


def test_a_change_of_the_port_makes_two_servers_give_way(host: Host, other: Host) -> None:
    port = host.said["port"]
    other.run()
    host.run(bind="127.0.0.2")
    before = (host.containers(), other.containers())
    host.run()
    assert host.states == {host.name: "running", f"{host.name}-superseded": "exited"}
    assert other.states == {other.name: "exited"}
    (published,) = host.inspect()["NetworkSettings"]["Ports"].values()
    assert published == [{"HostIp": "127.0.0.1", "HostPort": str(port)}]
    host.manage("reverted")
    assert same_but_restarted(host, before[0]) and same_but_restarted(other, before[1])


def test_a_server_that_does_not_start_puts_the_other_back(host: Host, other: Host, wrong_image: str) -> None:
    other.run()
    before = other.containers()
    text = failing(host.run, image=wrong_image)
    assert text.startswith(f"Cannot start {host.name}. Docker says: ")
    assert text.endswith(f"{other.name} is running.")
    assert same_but_restarted(other, before)
    assert host.containers() == {} and host.volumes() == []
    assert other.run()["changed"] is False


def test_a_gpu_that_cannot_be_had_stops_nobody(host: Host, other: Host) -> None:
    other.run()
    before = other.containers()
    text = failing(host.run, gpus="all", fit="off")
    assert text.startswith(f"Cannot try {host.name} (GPU access") and text.endswith("No server was stopped by this.")
    assert other.containers() == before
    assert host.containers() == {} and host.volumes() == []


def test_the_other_server_comes_back_with_its_own_key(host: Host, other: Host, tmp_path: Path) -> None:
    tells = {"env": {"first": 'echo "key $VLLM_API_KEY"'}, "api_key_file": f"{tmp_path}/s/key"}
    other.run(**tells, api_key="CANARY-B-of-16-or-more")
    # Somebody has the port on an address that the other server does not use.
    with socket.create_server(("127.0.0.2", host.said["port"])):
        text = failing(host.run, **tells, api_key="CANARY-A-of-16-or-more", bind="0.0.0.0")
    assert text.startswith(f"Cannot start {host.name}. ") and text.endswith(f"{other.name} is running.")
    assert "CANARY" not in text and host.containers() == {}
    assert other.wait_for_log("key CANARY-B", times=2).count("key CANARY-B") == 2
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["key"]
    assert other.run(**tells, api_key="CANARY-B-of-16-or-more")["changed"] is False


@pytest.mark.parametrize("state", ["started", "reverted", "the other's own run"])
def test_a_run_that_was_killed_while_it_stopped_the_other_server_is_finished_or_undone(
    state: str, host: Host, other: Host
) -> None:
    other.run(**STUBBORN)
    before = other.containers()
    host.kill_run_while_it_stops(other)
    assert host.states == {host.name: "created"}
    if state == "started":
        host.run()
        assert host.states == {host.name: "running"} and other.states == {other.name: "exited"}
        host.manage("committed")
        assert other.states == {}
        return
    # The engine goes on with the stop that it was told, then nothing serves.
    other.wait_for_end()
    if state == "reverted":
        host.manage("reverted")
    else:
        other.run(**STUBBORN)
        other.manage("committed")
    assert same_but_restarted(other, before) and host.containers() == {}


# --- weights --------------------------------------------------------------------------------------------------------


def fetches(image: str, tmp_path: Path, **said: t.Any) -> dict[str, t.Any]:
    known = {"huggingface_dir": f"{tmp_path}/hf", "hf_token_file": f"{tmp_path}/token", "hf_token": "CANARY"}
    return {"image": image, **known, **said}


def test_weights_are_fetched_before_the_other_server_stops(
    host: Host, other: Host, fetching_image: str, tmp_path: Path
) -> None:
    other.run()
    result = host.run(**fetches(fetching_image, tmp_path))
    assert "fetch weights m (while the old server serves)" in result["actions"]
    assert (tmp_path / "hf" / "hub" / "models--m" / "snapshots" / "0" / "model.safetensors").stat().st_size > 8
    assert host.states == {host.name: "running"} and other.states == {other.name: "exited"}
    assert host.run(**fetches(fetching_image, tmp_path))["changed"] is False


def test_weights_that_cannot_be_fetched_stop_nobody(
    host: Host, other: Host, fetching_image: str, tmp_path: Path
) -> None:
    other.run()
    before = other.containers()
    text = failing(host.run, **fetches(fetching_image, tmp_path, model="none"))
    assert text.startswith("Cannot fetch the weights of none: the download ended with status 1. Its last line says: ")
    assert "RepositoryNotFoundError: 404 Client Error. Check the name of the model" in text
    assert text.endswith("No server was stopped by this.") and "CANARY" not in text
    assert other.containers() == before
    assert host.containers() == {} and host.volumes() == []


@pytest.mark.parametrize("state", ["started", "absent"])
def test_a_download_that_was_killed_is_finished_or_cleared_away(
    state: str, host: Host, other: Host, fetching_image: str, tmp_path: Path
) -> None:
    other.run()
    before = other.containers()
    with host.killed(**fetches(fetching_image, tmp_path, env={"seconds": "60"})):
        host.wait_until(lambda names: names.get(f"{host.name}-fetch") == "running")
    assert other.containers() == before
    if state == "started":
        host.run(**fetches(fetching_image, tmp_path))
        assert host.states == {host.name: "running"} and other.states == {other.name: "exited"}
    else:
        host.manage("absent")
        assert host.containers() == {} and host.volumes() == [] and other.containers() == before
