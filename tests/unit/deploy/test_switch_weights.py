# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Weights are fetched while the other server serves."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import (
    LABEL_FINGERPRINT,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from docker_model import NEW, Client, FailsOnce, Killed, manage, run
from switches import FETCH, WITH_FETCH, cached, found, run_b, running

# --- weights before the stop ----------------------------------------------------------------------------------------


def test_weights_are_fetched_while_the_other_server_serves(client: Client, tmp_path: Path) -> None:
    run_b()
    there, calls = found(client), len(client.calls)
    predicted = run(check=True, **cached(tmp_path))
    assert (found(client), len(client.calls)) == (there, calls)
    result = run(**cached(tmp_path))
    assert predicted["actions"] == result["actions"]
    assert result["actions"][:3] == [f"create directory {tmp_path}/hf", FETCH, "create vllm-a"]
    assert result["commands"][1] == "hf download m"
    assert [call for call in client.calls[calls:] if call[0] != "remove"] == WITH_FETCH
    assert "vllm-a-fetch" not in client.now
    assert run(**cached(tmp_path))["changed"] is False


def test_weights_that_are_there_are_not_fetched_again(client: Client, tmp_path: Path) -> None:
    run_b()
    run(**cached(tmp_path))
    run_b()
    assert FETCH not in run(engine={"max_model_len": 3}, **cached(tmp_path))["actions"]


def test_weights_are_fetched_while_the_old_version_of_the_server_serves(client: Client, tmp_path: Path) -> None:
    run()
    assert FETCH in run(**cached(tmp_path))["actions"]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"state": "present"}, id="what does not start needs none"),
        pytest.param({"port": 8001}, id="nothing stops"),
        pytest.param({"engine": {"load_format": "dummy"}}, id="it reads none"),
        pytest.param({"engine": {"download_dir": "/d"}}, id="it keeps them elsewhere"),
        pytest.param({"huggingface_dir": None}, id="it keeps none"),
    ],
)
def test_nothing_is_fetched_that_is_not_needed_before_a_stop(
    said: dict[str, t.Any], client: Client, tmp_path: Path
) -> None:
    run_b()
    assert FETCH not in run(**{**cached(tmp_path), **said})["actions"]


def test_the_download_has_the_token_and_neither_gpu_nor_port(client: Client, tmp_path: Path) -> None:
    run_b()
    kept: list[dict[str, t.Any]] = []
    create = client.create_container_from_config
    client.create_container_from_config = lambda config, name="probe": (  # type: ignore[method-assign]
        kept.append(config) or create(config, name)  # type: ignore[func-returns-value]
    )
    run(engine={"revision": "main"}, hf_token_file=f"{tmp_path}/t", hf_token="CANARY", **cached(tmp_path))
    fetch, *_servers = kept
    host = fetch["HostConfig"]
    assert (host["DeviceRequests"], host["PortBindings"], host["RestartPolicy"]["Name"]) == ([], {}, "no")
    assert fetch["Cmd"] == ["m", "main"] and fetch["Entrypoint"][0] == "python3"
    assert f"{tmp_path}/hf:/root/.cache/huggingface" in host["Binds"]
    assert f"{tmp_path}/t:/run/secrets/hf_token:ro" in host["Binds"]
    assert any(one.startswith("HF_TOKEN_PATH=") for one in fetch["Env"])
    assert LABEL_FINGERPRINT not in fetch["Labels"] and "CANARY" not in json.dumps(kept)


def test_a_download_that_fails_stops_nothing_and_tells_its_last_line(client: Client, tmp_path: Path) -> None:
    run_b()
    there = found(client)
    client.fetch_status, client.log = 1, "Fetching\nGatedRepoError: 403 Client Error.\n"
    with pytest.raises(VllmError) as caught:
        run(**cached(tmp_path))
    assert str(caught.value) == (
        "Cannot fetch the weights of m: the download ended with status 1. Its last line says: GatedRepoError: 403 "
        "Client Error. Check the name of the model, the token and the network of the host, or stage the weights there. "
        "No server was stopped by this."
    )
    assert found(client) == there


def test_a_download_that_is_not_whole_stops_nothing(client: Client, tmp_path: Path) -> None:
    run_b()
    there = found(client)
    client.downloads = 5
    with pytest.raises(VllmError) as caught:
        run(**cached(tmp_path))
    assert "m cannot be loaded from " in str(caught.value) and "Delete the file" in str(caught.value)
    assert str(caught.value).endswith("No server was stopped by this.")
    assert found(client) == there


@pytest.mark.parametrize("late", [False, True], ids=["refused", "too late"])
@pytest.mark.parametrize("failing", WITH_FETCH[:2], ids=" ".join)
def test_a_download_that_cannot_be_made_stops_nothing_and_leaves_nothing(
    failing: tuple[str, str], late: bool, fragile: FailsOnce, tmp_path: Path
) -> None:
    run_b()
    there = found(fragile)
    fragile.failing, fragile.fails_late = failing, late
    with pytest.raises(VllmError, match="No server was stopped by this.$"):
        run(**cached(tmp_path))
    assert found(fragile) == there


@pytest.mark.parametrize("calls", range(5))
def test_a_download_that_was_killed_is_finished_by_the_next_run(calls: int, client: Client, tmp_path: Path) -> None:
    run_b()
    client.dies_after = len(client.calls) + calls
    with pytest.raises(Killed):
        run(**cached(tmp_path))
    client.dies_after = None
    run(**cached(tmp_path))
    assert set(client.now) == {"vllm-a", "vllm-b"} and running(client) == {"vllm-a"}


@pytest.mark.parametrize("state", ["absent", "reverted"])
@pytest.mark.parametrize("calls", range(5))
def test_a_download_that_was_killed_is_cleared_away(calls: int, state: str, client: Client, tmp_path: Path) -> None:
    run_b()
    there = client.now
    client.dies_after = len(client.calls) + calls
    with pytest.raises(Killed):
        run(**cached(tmp_path))
    client.dies_after = None
    manage(state=state)
    assert client.now == there
    assert manage(state=state)["changed"] is False


def test_a_container_that_is_only_called_like_the_download_is_left_alone(client: Client, tmp_path: Path) -> None:
    run_b()
    client.put("vllm-a-fetch", {"Image": "theirs"}, running=True)
    identity = client.now["vllm-a-fetch"].split()[0]
    with pytest.raises(VllmError, match="vllm-a-fetch"):
        run(**cached(tmp_path))
    assert client.now["vllm-a-fetch"] == f"{identity} running"
    assert running(client) == {"vllm-a-fetch", "vllm-b"}


def test_damaged_weights_are_told_with_the_file(client: Client, tmp_path: Path) -> None:
    run_b()
    run(**cached(tmp_path))
    run_b()
    (weights,) = tmp_path.rglob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    there = found(client)
    with pytest.raises(VllmError) as caught:
        run(**NEW, **cached(tmp_path))
    assert f"m cannot be loaded from {weights}: it has" in str(caught.value)
    assert found(client) == there
