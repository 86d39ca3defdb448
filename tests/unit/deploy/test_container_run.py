# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run of the container backend for one server, against a model of the Docker Engine (docker_model)."""

from __future__ import annotations

import datetime
import json
import sys
import typing as t
from pathlib import Path

import pytest
import requests.exceptions
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import secrets as deploy_secrets
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import (
    LABEL_FINGERPRINT,
    LABEL_WROTE,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.result import away_seconds
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Problem, VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.ports import PortOwner
from docker_model import (
    FREE_GPU,
    IMAGE,
    KERNELS,
    NEW,
    SERVER,
    Client,
    FailsOnce,
    Killed,
    installed,
    manage,
    run,
    situation,
    warnings,
)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    return installed(Client(), monkeypatch, tmp_path)


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FailsOnce:
    return installed(FailsOnce(), monkeypatch, tmp_path)


# --- check, do, again, again in check -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([(run, {})], id="create"),
        pytest.param([(run, {"state": "present"})], id="create without starting"),
        pytest.param([(run, {}), (run, NEW)], id="replace"),
        pytest.param([(run, {}), (run, {**NEW, "state": "present"})], id="replace with present"),
        pytest.param([(run, {}), (run, NEW), (manage, {"state": "committed"})], id="commit"),
        pytest.param([(run, {}), (run, NEW), (manage, {"state": "reverted"})], id="revert"),
        pytest.param([(run, {}), (run, NEW), (run, {})], id="change one's mind before the commit"),
        pytest.param([(run, {}), (manage, {"state": "stopped"})], id="stop"),
        pytest.param([(run, {}), (manage, {"state": "stopped"}), (run, {})], id="start again"),
        pytest.param([(run, {}), (run, NEW), (manage, {"state": "absent"})], id="remove"),
        pytest.param(
            [(run, {}), (run, {"name": "b", "port": 8001}), (manage, {"state": "absent", "all": True})], id="all"
        ),
    ],
)
def test_check_mode_predicts_and_changes_nothing_and_the_second_run_neither(
    steps: list[tuple[t.Callable[..., dict[str, t.Any]], dict[str, t.Any]]], client: Client
) -> None:
    *before, (last, said) = steps
    for make, earlier in before:
        make(**earlier)
    found = client.now
    calls = len(client.calls)
    predicted = last(check=True, **said)
    assert (client.now, len(client.calls)) == (found, calls)
    done = last(**said)
    assert done["changed"] and client.now != found
    for key in ("changed", "actions", "commands", "diff", "needs"):
        assert predicted[key] == done[key]
    for check in (False, True):
        again = last(check=check, **said)
        assert (again["changed"], again["actions"], again["commands"]) == (False, [], [])


# Of a server for which nothing was stopped, and which never ended.
QUIET: dict[str, t.Any] = {"container_name": "vllm-a", "backend": "container", "access": {}, "away_seconds": None}
QUIET.update(restarts=0, superseded=False, stopped_for_it=[])


def test_the_result_of_a_new_server(client: Client) -> None:
    result = run(served_model_name="gpt", api_key_file=None)
    assert result["actions"] == ["create vllm-a", "start vllm-a"]
    assert result["commands"][0].startswith("docker create --name vllm-a ") and result["commands"][1:] == [
        "docker start vllm-a"
    ]
    assert result["diff"]["before"] == {"state": "absent"}
    assert result["diff"]["after"] == {**SERVER, "served_model_name": "gpt", "state": "started"}
    assert result["server"] == {
        **QUIET,
        "state": "running",
        "container_id": "id1",
        "image": IMAGE,
        "image_id": "sha256:1",
        "url": "http://127.0.0.1:8000",
        "served_model_name": "gpt",
        "served_model_names": ["gpt"],
        "api_key_file": None,
        "fingerprint": client.containers_by_name["vllm-a"]["Config"]["Labels"][LABEL_FINGERPRINT],
        "started_at": "2026",
        "cold_start": True,
    }


def test_what_is_told_of_a_server_that_is_not_there(client: Client) -> None:
    assert manage(state="stopped")["server"] == {
        **QUIET,
        **dict.fromkeys(("container_id", "image", "image_id", "url", "served_model_name", "api_key_file")),
        **dict.fromkeys(("fingerprint", "started_at", "cold_start")),
        "served_model_names": [],
        "state": "absent",
    }


def test_what_is_told_of_a_server_of_somebody_else_that_is_replaced(client: Client) -> None:
    client.put("vllm-a", {"Image": "theirs"}, running=True)
    with pytest.raises(VllmError, match="^vllm-a exists and was not created by gpufleet.vllm"):
        run()
    assert run(replace_unmanaged=True, check=True)["server"]["url"] is None
    assert run(replace_unmanaged=True)["server"]["superseded"] is True
    manage(state="reverted", replace_unmanaged=True)
    assert client.now == {"vllm-a": "id1 running"}


def test_a_name_is_needed(client: Client) -> None:
    with pytest.raises(VllmError, match="^name is missing: say which server"):
        manage(container_name=None, state="absent")


def test_the_container_is_found_by_the_name_of_the_server(client: Client) -> None:
    run()
    removed = manage(container_name=None, name="a", state="absent")
    assert removed["actions"][:2] == ["stop vllm-a", "remove vllm-a"]


def test_all_means_every_server_once_and_nobody_elses(client: Client) -> None:
    client.put("other", {}, running=True)
    run()
    run(**NEW)
    run(name="b", port=8001)
    result = manage(container_name=None, all=True, state="absent")
    assert [server["container_name"] for server in result["servers"]] == ["vllm-a", "vllm-b"]
    assert [diff["before_header"] for diff in result["diff"]] == ["vllm-a", "vllm-b"]
    assert result["actions"] == [
        *("stop vllm-a", "remove vllm-a", "remove vllm-a-superseded"),
        "remove cache vllm-a-cache-1 (its server is gone)",
        *("stop vllm-b", "remove vllm-b"),
        *(f"remove cache {name} (its server is gone)" for name in (f"{KERNELS}-1", "vllm-b-cache-1")),
    ]
    assert client.now == {"other": "id1 running"} and client.volumes_by_name == {}


# --- the version of vLLM --------------------------------------------------------------------------------------------


def test_the_version_is_read_from_the_image_once(client: Client) -> None:
    client.labels = None
    assert run()["vllm_version"] == "0.26.0"
    assert client.calls[:3] == [("create", "probe"), ("start", "probe"), ("remove", "probe")]
    calls = len(client.calls)
    assert run()["vllm_version"] == "0.26.0"
    assert run(check=True, **NEW)["vllm_version"] == "0.26.0"
    assert len(client.calls) == calls


@pytest.mark.parametrize(
    ("labels", "said", "version"),
    [
        ({"com.nvidia.vllm.version": "0.10.1.1"}, {}, "0.10.1.1"),
        ({"org.opencontainers.image.version": "24.04"}, {"vllm_version": "0.20.0"}, "0.20.0"),
        ({"vllm.version": "0.20.0"}, {"vllm_version": "0.21.0"}, "0.21.0"),
    ],
)
def test_the_version_is_told_without_a_look_inside(
    labels: dict[str, str], said: dict[str, t.Any], version: str, client: Client
) -> None:
    client.labels = labels
    assert run(**said)["vllm_version"] == version
    assert ("create", "probe") not in client.calls


@pytest.mark.parametrize("answer", ["", "unknown", "0.1.dev14+g3b3f5c1", requests.exceptions.ReadTimeout("60 s")])
def test_an_image_that_does_not_tell_is_asked_once_and_then_left_alone(answer: t.Any, client: Client) -> None:
    client.labels, client.probed = None, answer
    assert run()["vllm_version"] is None
    assert client.calls.count(("create", "probe")) == client.calls.count(("remove", "probe")) == 1
    assert run(**NEW)["vllm_version"] is None
    assert client.calls.count(("create", "probe")) == 1


WRONG = {"engine": {"attn_impl": "flash"}}


@pytest.mark.parametrize("check", [False, True])
def test_a_flag_that_the_version_lacks_stops_nothing(check: bool, client: Client) -> None:
    run()
    before, calls = client.now, len(client.calls)
    with pytest.raises(VllmError) as caught:
        run(check=check, **WRONG)
    assert str(caught.value) == (
        "vllm-a is not started: engine.attn_impl: vLLM 0.26.0 has no --attn-impl (it never had); it is a setting of "
        "transformers and was never a flag of vLLM; leave it out (FlashAttention 3 is chosen on H100). "
        "Nothing was stopped or changed."
    )
    assert (client.now, len(client.calls)) == (before, calls)


def test_a_flag_is_judged_by_the_image_that_was_pulled(client: Client) -> None:
    run()
    before = client.now
    client.registry["vllm:2"] = "sha256:2"
    with pytest.raises(
        VllmError, match="engine.attn_impl: vLLM 0.26.0 has no --attn-impl .* The previous server is running"
    ):
        run(image="vllm:2", **WRONG)
    assert client.now == before


@pytest.mark.parametrize(
    ("validation", "engine", "outcome"),
    [
        ("normal", {"kv_cache_memory": 5}, "warned"),
        ("strict", {"kv_cache_memory": 5}, "warned"),
        ("strict", {"attn_impl": "x"}, "refused"),
        ("normal", {"attn_impl": "x"}, "refused"),
        ("permissive", {"attn_impl": "x"}, "warned"),
        ("strict", {"quantization": "awq"}, "silent"),
    ],
)
def test_how_strictly_it_is_judged(validation: str, engine: dict[str, t.Any], outcome: str, client: Client) -> None:
    warnings.clear()
    if outcome == "refused":
        with pytest.raises(VllmError):
            run(engine=engine, validation=validation)
    else:
        run(engine=engine, validation=validation)
    assert bool(warnings) == (outcome == "warned")
    assert (client.now == {}) == (outcome == "refused")


def test_unchecked_flags_are_not_judged(client: Client) -> None:
    warnings.clear()
    run(engine_unchecked={"mxfp4_backend": "CUTLASS"})
    assert warnings == []
    assert client.containers_by_name["vllm-a"]["Config"]["Cmd"][-2:] == ["--mxfp4-backend", "CUTLASS"]


def test_a_server_that_runs_as_wanted_is_not_judged_again(client: Client) -> None:
    run(validation="permissive", **WRONG)
    warnings.clear()
    assert run(**WRONG)["changed"] is False
    assert warnings == []


# --- images ---------------------------------------------------------------------------------------------------------


def test_a_missing_image_is_pulled_before_anything_stops(client: Client) -> None:
    run()
    client.registry["vllm:2"] = "sha256:2"
    result = run(image="vllm:2")
    assert result["actions"][:2] == ["pull vllm:2 (it is not on the host)", "create vllm-a-next (image changed)"]
    assert result["commands"][0] == "docker pull vllm:2"


@pytest.mark.parametrize("pull", ["missing", "always"])
def test_an_image_that_cannot_be_had_stops_nothing(pull: str, client: Client) -> None:
    run()
    before = client.now
    with pytest.raises(VllmError) as caught:
        run(image="vllm:2", pull=pull)
    assert str(caught.value) == (
        "Cannot pull vllm:2 (it is not on the host). Docker says: manifest for vllm:2 not found: manifest unknown. The "
        "registry does not have it or requires a login: check the name and tag, run docker login on the host, or load the "
        "image there with docker load. The previous server is running."
    )
    assert client.now == before


def test_pull_never_says_that_the_image_is_missing(client: Client) -> None:
    with pytest.raises(
        VllmError, match="^vllm-a is not started: The image vllm:2 is not on the host, and pull is 'never'"
    ):
        run(image="vllm:2", pull="never")
    assert client.calls == []


def test_pull_always_replaces_the_server_only_when_a_newer_image_came(client: Client) -> None:
    client.registry[IMAGE] = "sha256:1"
    run(pull="always")
    assert run(pull="always")["changed"] is False
    client.registry[IMAGE] = "sha256:2"
    result = run(pull="always")
    assert result["actions"][:2] == ["pull vllm:1", "create vllm-a-next (vllm:1 is a different image now)"]


def test_pull_always_fails_without_registry_and_stops_nothing(client: Client) -> None:
    run()
    with pytest.raises(VllmError, match="^Cannot pull vllm:1. Docker says: .* No server was stopped by this.$"):
        run(pull="always")
    assert client.now == {"vllm-a": "id1 running"}


def test_pull_always_asks_nobody_in_check_mode(client: Client) -> None:
    client.registry[IMAGE] = "sha256:2"
    run(check=True, pull="always")
    assert client.calls == []


def test_an_image_on_the_host_is_not_pulled(client: Client) -> None:
    run()
    assert ("pull", IMAGE) not in client.calls


# --- when a step fails ----------------------------------------------------------------------------------------------


def calls_of_a_replacement() -> list[tuple[str, str]]:
    """What the engine is asked to do when a running server is replaced, but for what clears the trial away."""
    return [
        ("create", "vllm-a-next"),
        ("create", "vllm-a-try"),
        ("start", "vllm-a-try"),
        ("stop", "vllm-a"),
        ("rename", "vllm-a"),
        ("rename", "vllm-a-next"),
        ("start", "vllm-a"),
    ]


def test_these_are_the_calls_of_a_replacement(client: Client) -> None:
    run()
    client.calls.clear()
    run(**NEW)
    assert [call for call in client.calls if call != ("remove", "vllm-a-try")] == calls_of_a_replacement()


@pytest.mark.parametrize("failing", calls_of_a_replacement(), ids=" ".join)
def test_the_old_server_runs_again_whatever_step_of_its_replacement_fails(
    failing: tuple[str, str], fragile: FailsOnce
) -> None:
    run()
    before = fragile.now
    fragile.failing = failing
    with pytest.raises(VllmError) as caught:
        run(**NEW)
    assert fragile.now == before
    assert str(caught.value).startswith("Cannot ")
    assert f"Docker says: {failing[0]} of {failing[1]} failed." in str(caught.value)
    assert str(caught.value).endswith("The previous server is running.")


@pytest.mark.parametrize(
    "failing", [("create", "vllm-a-next"), ("create", "vllm-a-try"), ("start", "vllm-a-try")], ids=" ".join
)
def test_a_step_that_worked_but_answered_too_late_is_undone_too(failing: tuple[str, str], fragile: FailsOnce) -> None:
    run()
    before = fragile.now
    fragile.failing, fragile.fails_late = failing, True
    with pytest.raises(VllmError, match="The previous server is running.$"):
        run(**NEW)
    assert fragile.now == before


def test_a_stop_that_worked_but_answered_too_late_is_undone(fragile: FailsOnce) -> None:
    run()
    before = fragile.now
    fragile.failing, fragile.fails_late = ("stop", "vllm-a"), True
    with pytest.raises(VllmError, match="The previous server is running.$"):
        run(**NEW)
    assert fragile.now == before


def test_a_start_that_worked_but_answered_too_late_is_not_called_the_previous_server(fragile: FailsOnce) -> None:
    run()
    fragile.failing, fragile.fails_late = ("start", "vllm-a"), True
    with pytest.raises(VllmError, match="The server is running.$"):
        run(**NEW)
    assert set(fragile.now) == {"vllm-a", "vllm-a-superseded"}
    assert run(**NEW)["changed"] is False


@pytest.mark.parametrize("failing", calls_of_a_replacement()[:4] + calls_of_a_replacement()[-2:], ids=" ".join)
def test_what_was_kept_runs_when_the_replacement_of_its_replacement_fails(
    failing: tuple[str, str], fragile: FailsOnce
) -> None:
    run()
    run(engine={"max_model_len": 3})
    fragile.failing = failing
    with pytest.raises(VllmError, match="The previous server is running.$"):
        run(**NEW)
    running = {name for name, state in fragile.now.items() if state.endswith("running")}
    assert running == {"vllm-a"}
    assert any(state.startswith("id1 ") for state in fragile.now.values())
    assert not {"vllm-a-next", "vllm-a-try"} & set(fragile.now)


@pytest.mark.parametrize("failing", [("create", "vllm-a"), ("start", "vllm-a")], ids=" ".join)
def test_a_first_deployment_that_fails_leaves_nothing(
    failing: tuple[str, str], fragile: FailsOnce, tmp_path: Path
) -> None:
    fragile.failing = failing
    secret = tmp_path / "secrets" / "token"
    with pytest.raises(VllmError, match="No server was stopped by this.$"):
        run(hf_token_file=str(secret), hf_token="CANARY")
    assert fragile.now == {} and fragile.volumes_by_name == {}
    assert not secret.exists() and not secret.parent.exists()


def test_a_server_that_was_stopped_on_purpose_is_not_started_by_a_failure(fragile: FailsOnce) -> None:
    run()
    manage(state="stopped")
    before = fragile.now
    fragile.failing = ("start", "vllm-a")
    with pytest.raises(VllmError, match="No server was stopped by this.$"):
        run(**NEW)
    assert fragile.now == before


def test_a_server_that_a_killed_run_has_stopped_runs_again_when_the_next_run_fails(fragile: FailsOnce) -> None:
    run()
    before = fragile.now
    # It is killed at the first rename.
    fragile.dies_after = len(fragile.calls) + 5
    with pytest.raises(Killed):
        run(engine={"max_model_len": 3})
    fragile.dies_after = None
    assert fragile.now == {"vllm-a": "id1 exited", "vllm-a-next": "id2 created"}
    fragile.failing = ("start", "vllm-a")
    with pytest.raises(VllmError, match="The previous server is running.$"):
        run(**NEW)
    assert fragile.now == before


def test_the_last_server_that_is_kept_is_not_lost_when_a_run_fails(fragile: FailsOnce) -> None:
    run()
    run(**NEW)
    fragile.remove_container("vllm-a", force=True)
    before = fragile.now
    fragile.failing = ("start", "vllm-a")
    with pytest.raises(VllmError):
        run()
    assert [*fragile.now.values()] == [*before.values()]


def test_a_server_that_cannot_even_be_put_back_is_told(client: Client) -> None:
    run()
    client.failing = ("start", "vllm-a")
    with pytest.raises(VllmError) as caught:
        run(**NEW)
    told = "Nothing serves now: Cannot restore the previous server. Docker says: start of vllm-a failed."
    assert told in str(caught.value)


def test_a_failure_to_remove_is_told(client: Client) -> None:
    run()
    client.failing = ("remove", "vllm-a")
    with pytest.raises(VllmError, match="^Cannot remove vllm-a. Docker says: .* Fix that, then run it again.$"):
        manage(state="absent")


def test_an_engine_that_goes_away_while_it_is_looked_at_is_told(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(name: str) -> t.NoReturn:
        raise requests.exceptions.ConnectionError("Connection aborted")

    monkeypatch.setattr(client, "inspect_container", gone)
    with pytest.raises(
        VllmError, match="^Cannot look at the servers on this host: the Docker Engine ended or was restarted meanwhile."
    ):
        run()


# --- ports ----------------------------------------------------------------------------------------------------------


def publish(address: str) -> dict[str, t.Any]:
    return {"HostConfig": {"PortBindings": {"8000/tcp": [{"HostIp": address, "HostPort": "8000"}]}}}


@pytest.mark.parametrize(
    ("address", "taken"), [("127.0.0.1", True), ("0.0.0.0", True), ("::", True), ("10.0.0.1", False)]
)
def test_a_port_that_another_container_publishes_is_told_with_its_name(
    address: str, taken: bool, client: Client
) -> None:
    client.put("grafana", publish(address), running=True)
    if not taken:
        assert run()["changed"]
        return
    with pytest.raises(VllmError) as caught:
        run()
    assert str(caught.value) == (
        "vllm-a is not started: Port 8000 is taken by the container grafana, which is not part of this server. Stop "
        "that first, or give this server another port. Nothing was stopped or changed."
    )


def test_a_udp_port_of_that_number_is_another_port(client: Client) -> None:
    client.put("dns", publish("0.0.0.0"), running=True)
    client.containers_by_name["dns"]["Ports"][0]["Type"] = "udp"
    assert run()["changed"]


def test_a_port_that_a_stopped_container_would_publish_is_free(client: Client) -> None:
    client.put("grafana", publish("127.0.0.1"))
    assert run()["changed"]


@pytest.mark.parametrize(
    ("owner", "who"),
    [
        (
            PortOwner("nginx (PID 7, uid 0) listening on 127.0.0.1:8000", 7),
            "nginx (PID 7, uid 0) listening on 127.0.0.1:8000",
        ),
        (PortOwner("vllm (PID 8, uid 0) listening on 0.0.0.0:8000", 8, "id1"), "the container other"),
        (PortOwner("x (PID 8, uid 0) listening on 0.0.0.0:8000", 8, "0123456789abcdef"), "the container 0123456789ab"),
        (PortOwner("a process of uid 0", None), "a process of uid 0"),
    ],
)
def test_a_port_that_a_process_listens_on_is_told_with_its_name(
    owner: PortOwner, who: str, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.put("other", {}, running=True)
    situation().owner = owner
    with pytest.raises(VllmError, match="which is not part of this server") as caught:
        run()
    assert f"Port 8000 is taken by {who}, which" in str(caught.value)
    assert client.calls == []


@pytest.mark.parametrize(
    ("said", "owner"),
    [
        pytest.param({}, PortOwner("docker-proxy", 9), id="the proxy of Docker, for the server itself"),
        pytest.param(
            {"network_mode": "host"}, PortOwner("vllm", 9, "id1"), id="the server itself, on the host's network"
        ),
        pytest.param({"network_mode": "host"}, PortOwner("uid 0", None), id="the server itself, seen without root"),
    ],
)
def test_the_port_of_the_server_that_is_replaced_is_no_conflict(
    said: dict[str, t.Any], owner: PortOwner, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(**said)
    situation().owner = owner
    assert run(**said, **NEW)["changed"]


def test_a_server_that_serves_is_not_bothered_by_what_would_keep_it_from_starting(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run(volumes=[f"{tmp_path}:/x"])
    situation().owner = PortOwner("nginx", 1)
    monkeypatch.setattr(deploy_secrets.Secrets, "problems", [Problem("secret-missing", "Something is missing.")])
    assert run(volumes=[f"{tmp_path}:/x"])["changed"] is False


def test_several_problems_are_told_at_once(client: Client, tmp_path: Path) -> None:
    with pytest.raises(VllmError) as caught:
        run(model=f"{tmp_path}/m", hf_token_file=f"{tmp_path}/t", image="vllm:2", pull="never")
    text = str(caught.value)
    assert text.startswith("vllm-a is not started: (1) HF_TOKEN is missing: ")
    assert f"(2) The model directory {tmp_path}/m does not exist on the host." in text
    assert "(3) The image vllm:2 is not on the host, and pull is 'never'." in text
    assert text.endswith("Nothing was stopped or changed.")


# --- encodings ------------------------------------------------------------------------------------------------------


def test_missing_encodings_are_a_need_in_check_mode_and_a_problem_otherwise(client: Client, tmp_path: Path) -> None:
    assert run(check=True, encodings_dir=str(tmp_path))["needs"] == ["encodings"]
    with pytest.raises(VllmError, match="^vllm-a is not started: .*o200k_base"):
        run(encodings_dir=str(tmp_path))
    assert run(check=True)["needs"] == []


# --- secrets --------------------------------------------------------------------------------------------------------


def secrets(tmp_path: Path) -> dict[str, t.Any]:
    return {"api_key_file": str(tmp_path / "s" / "key"), "api_key": "CANARY-of-16-or-more"}


def test_a_secret_is_written_once_and_kept_to_its_owner(client: Client, tmp_path: Path) -> None:
    result = run(**secrets(tmp_path))
    assert result["actions"][0] == "write secret api_key_file (the file does not hold what was given)"
    assert result["commands"][0] == f"install -m 0600 /dev/stdin {tmp_path}/s/key"
    written = tmp_path / "s" / "key"
    assert (written.read_text(), written.stat().st_mode & 0o777) == ("CANARY-of-16-or-more\n", 0o600)
    assert run(**secrets(tmp_path))["changed"] is False


def test_no_secret_is_in_the_result_or_on_the_container(client: Client, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=CANARY\n")
    said = {**secrets(tmp_path), "hf_token_file": str(tmp_path / "t"), "hf_token": "CANARY"}
    for check in (True, False):
        assert "CANARY" not in json.dumps(run(check=check, env_file=str(tmp_path / "env"), **said))
    assert "CANARY" not in json.dumps(client.containers_by_name)


def test_a_rotated_key_replaces_the_server(client: Client, tmp_path: Path) -> None:
    run(**secrets(tmp_path))
    result = run(**{**secrets(tmp_path), "api_key": "OTHER-of-16-or-more"})
    assert "create vllm-a-next (the content of a secret changed)" in result["actions"]
    assert "OTHER" not in json.dumps(result)


def test_a_key_that_changed_on_the_host_replaces_the_server(client: Client, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("one\n")
    run(api_key_file=str(tmp_path / "key"))
    (tmp_path / "key").write_text("two\n")
    assert "create vllm-a-next (the content of a secret changed)" in run(api_key_file=str(tmp_path / "key"))["actions"]


@pytest.mark.parametrize("failing", calls_of_a_replacement(), ids=" ".join)
def test_the_old_key_is_put_back_with_the_old_server(
    failing: tuple[str, str], fragile: FailsOnce, tmp_path: Path
) -> None:
    run(**secrets(tmp_path))
    fragile.failing = failing
    with pytest.raises(VllmError, match="The previous server is running.$"):
        run(**{**secrets(tmp_path), "api_key": "OTHER-of-16-or-more"})
    assert (tmp_path / "s" / "key").read_text() == "CANARY-of-16-or-more\n"
    assert run(**secrets(tmp_path))["changed"] is False


def test_the_new_key_stays_with_a_new_server_that_runs_after_all(fragile: FailsOnce, tmp_path: Path) -> None:
    run(**secrets(tmp_path))
    fragile.failing, fragile.fails_late = ("start", "vllm-a"), True
    with pytest.raises(VllmError, match="The server is running.$"):
        run(**{**secrets(tmp_path), "api_key": "OTHER-of-16-or-more"})
    assert (tmp_path / "s" / "key").read_text() == "OTHER-of-16-or-more\n"


def test_what_was_written_goes_with_the_server(client: Client, tmp_path: Path) -> None:
    run(**secrets(tmp_path))
    result = manage(state="absent")
    assert f"delete file {tmp_path}/s/key (it was written for this server)" in result["actions"]
    assert not (tmp_path / "s").exists()


def test_what_was_written_for_an_earlier_version_of_the_server_goes_too(client: Client, tmp_path: Path) -> None:
    run(**secrets(tmp_path))
    run(**NEW)
    manage(state="committed")
    manage(state="absent")
    assert not (tmp_path / "s").exists()


def test_a_file_of_the_users_own_stays_though_the_same_secret_was_given(client: Client, tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "key").write_text("CANARY-of-16-or-more")  # Written with printf: no newline.
    run(**secrets(tmp_path))
    assert client.containers_by_name["vllm-a"]["Config"]["Labels"][LABEL_WROTE] == ""
    manage(state="absent")
    assert (tmp_path / "s" / "key").read_text() == "CANARY-of-16-or-more"


def test_a_secret_that_another_server_uses_stays(client: Client, tmp_path: Path) -> None:
    run(**secrets(tmp_path))
    run(name="b", port=8001, **secrets(tmp_path))
    manage(state="absent")
    assert (tmp_path / "s" / "key").exists()


def test_a_secret_that_others_can_read_is_warned_of(client: Client, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k")
    (tmp_path / "key").chmod(0o644)
    warnings.clear()
    run(api_key_file=str(tmp_path / "key"))
    assert warnings == [f"{tmp_path}/key can be read by other users of the host; run 'chmod 600 {tmp_path}/key'."]


# --- what goes, and what stays --------------------------------------------------------------------------------------


def test_weights_stay_unless_they_are_purged(client: Client, tmp_path: Path) -> None:
    weights, model = tmp_path / "hf", tmp_path / "hf" / "hub" / "models--m"
    result = run(huggingface_dir=str(weights))
    assert result["actions"][0] == f"create directory {weights}"
    model.mkdir(parents=True)
    manage(state="absent")
    assert model.exists()
    run(huggingface_dir=str(weights))
    assert f"rm -r {model}" in manage(state="absent", purge=["weights"])["commands"]
    assert weights.exists() and not model.exists()


@pytest.mark.parametrize(
    "other",
    [
        {"huggingface_dir": "{0}/hf"},
        {"huggingface_dir": "{0}/hf/hub/models--m/b", "model": "n"},
        {"model": "{0}/hf/hub/models--m/m"},
        {"volumes": ["{0}/hf/hub/models--m/v:/v"], "model": "n"},
        {"huggingface_dir": "{0}/hf", "model": "n", "engine": {"tokenizer": "m"}},
    ],
)
def test_weights_that_another_server_uses_are_not_purged(
    other: dict[str, t.Any], client: Client, tmp_path: Path
) -> None:
    said = json.loads(json.dumps(other).replace("{0}", str(tmp_path)))
    model = "hf/hub/models--m"
    for name in (f"{model}/m", f"{model}/v"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / model / "m" / "config.json").write_text("{}")
    (tmp_path / model / "m" / "model.gguf").write_bytes(b"GGUF")
    run(huggingface_dir=f"{tmp_path}/hf")
    run(**{"name": "b", "port": 8001, **said})
    removed = manage(state="absent", purge=["weights"])["actions"]
    assert [line for line in removed if "cache" not in line] == ["stop vllm-a", "remove vllm-a"]


# --- a wish for some GPUs -------------------------------------------------------------------------------------------


def cards(*free: int) -> dict[str, t.Any]:
    """GPUs with so many MiB free."""
    gpus = [
        {**FREE_GPU, "index": n, "uuid": f"GPU-{n}", "memory_free_mib": size, "memory_used_mib": 81000 - size}
        for n, size in enumerate(free)
    ]
    return {"status": "ok", "gpus": gpus}


def test_a_wish_for_some_gpus_becomes_those_that_are_free(client: Client) -> None:
    situation().gpus = lambda: cards(500, 80000, 81000)
    result = run(gpus={"count": 1, "min_free_mib": 1000})
    assert result["gpus"] == ["GPU-2"]
    assert client.containers_by_name["vllm-a"]["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == ["GPU-2"]


def test_a_running_server_keeps_the_gpus_that_it_has_and_nobody_looks(client: Client) -> None:
    situation().gpus = lambda: cards(500, 80000, 81000)
    run(gpus={"count": 1})

    def look() -> t.NoReturn:
        raise AssertionError("nvidia-smi was asked")

    situation().gpus = look
    again = run(gpus={"count": 1})
    assert (again["changed"], again["gpus"]) == (False, ["GPU-2"])


def test_a_wish_for_another_number_is_a_change(client: Client) -> None:
    situation().gpus = lambda: cards(80000, 80000, 81000)
    run(gpus={"count": 1})
    assert run(gpus={"count": 2}, engine={"tensor_parallel_size": 2}, check=True)["changed"]


@pytest.mark.parametrize(
    ("wish", "message", "reason"),
    [
        ({"count": 4}, "Cannot select 4 GPUs", "no-free-gpu"),
        ({"cuont": 1}, "gpus: unknown key 'cuont'. Valid keys: count, ", "invalid-parameter"),
        ({"count": 0}, "gpus.count must be a whole number of at least 1; got 0.", "invalid-parameter"),
        ({"prefer": "x"}, "gpus.prefer must be one of nvlink, numa, free; got 'x'.", "invalid-parameter"),
    ],
)
def test_a_wish_that_cannot_be_granted_is_refused(
    wish: dict[str, t.Any], message: str, reason: str, client: Client
) -> None:
    with pytest.raises(VllmError) as caught:
        run(gpus=wish)
    assert str(caught.value).startswith(message) and caught.value.reason == reason
    assert client.calls == []


# --- a server that is as wanted is asked in the same call -----------------------------------------------------------


@pytest.mark.parametrize("check", [False, True])
def test_a_server_that_is_as_wanted_is_asked_once(check: bool, client: Client) -> None:
    run(served_model_name="gpt")
    result = run(check, served_model_name="gpt", health={"checks": ["health"], "timeout": None})
    assert result["health"] == {"healthy": True}
    assert situation().probed == [
        {"url": "http://127.0.0.1:8000", "served_model_name": "gpt", "api_key_file": None, "checks": ["health"]}
    ]


def test_a_server_of_several_names_is_asked_by_all_of_them(client: Client) -> None:
    names = ["gpt", "gpt-oss", "gpt-4"]
    server = run(served_model_name=names)["server"]
    assert (server["served_model_name"], server["served_model_names"]) == ("gpt", names)
    again = run(served_model_name=names, health={"checks": ["models"]})
    assert (again["changed"], situation().probed[0]["served_model_name"]) == (False, names)
    assert run(check=True, served_model_name=names[:2])["changed"] is True


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(NEW, id="it changes"),
        pytest.param({"health": None}, id="nobody wants to know"),
        pytest.param({"state": "present"}, id="it need not run"),
    ],
)
def test_no_other_server_is_asked(said: dict[str, t.Any], client: Client) -> None:
    run()
    assert run(**{"health": {}, **said})["health"] is None
    assert situation().probed == []


# --- reasons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ({"engine": {"attn_impl": "x"}}, "invalid-flag"),
        ({"image": "vllm:2", "pull": "never"}, "image-missing"),
        ({"image": "vllm:2"}, "pull-failed"),
        ({"api_key_file": "/nowhere/key"}, "secret-missing"),
        ({"volumes": ["/nowhere:/x"]}, "path-missing"),
        ({"model": "/nowhere"}, "weights-incomplete"),
        ({"encodings_dir": "/nowhere", "vllm_version": "0.11.0"}, "encodings-missing"),
        ({"engine": {"tensor_parallel_size": 8}}, "does-not-fit"),
        ({"port": 0}, "invalid-parameter"),
        ({"container_id": "x"}, "overtaken"),
    ],
)
def test_a_failure_has_a_reason_that_a_playbook_can_read(said: dict[str, t.Any], reason: str, client: Client) -> None:
    with pytest.raises(VllmError) as caught:
        run(**said)
    assert caught.value.reason == reason


def test_a_server_that_has_just_started_is_not_taken_for_healthy_by_one_answer(client: Client) -> None:
    run()
    now = datetime.datetime.now(datetime.timezone.utc).isoformat()
    client.containers_by_name["vllm-a"]["State"]["StartedAt"] = now
    assert run(health={})["health"] is None and situation().probed == []


@pytest.mark.parametrize("check", [False, True])
def test_a_host_that_lacks_what_acting_takes_is_refused_before_anything_is_done(
    check: bool, client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(VllmError, match="^The Docker SDK for Python cannot be imported") as caught:
        run(check, huggingface_dir=f"{tmp_path}/hf")
    assert caught.value.reason == "backend-unavailable"
    assert client.calls == [] and not (tmp_path / "hf").exists()


@pytest.mark.parametrize(
    ("own", "told", "away"),
    [
        pytest.param(None, [("old", "2026-11-27T10:00:00.5+00:00")], 12.0, id="what it stopped was told first"),
        pytest.param(
            None,
            [("old", "2026-11-27T10:00:00+00:00"), ("b", "2026-11-27T09:59:50+00:00")],
            22.0,
            id="of two the first",
        ),
        pytest.param(3.5, [("old", "2026-11-27T10:00:00+00:00")], 3.5, id="it was stopped itself"),
        pytest.param(None, [("older", "2026-11-01T10:00:00+00:00")], None, id="one that ran no more is nobody's loss"),
        pytest.param(None, [("old", "")], None, id="nobody knows when"),
        pytest.param(None, [("old", "2026-11-27T11:00:00+00:00")], None, id="a clock that was set back"),
        pytest.param(None, [], None, id="nothing was stopped"),
    ],
)
def test_nobody_was_served_from_the_stop_of_what_a_server_replaced(
    own: float | None, told: list[tuple[str, str]], away: float | None
) -> None:
    kept = [Instance("superseded", True, False, identity=name, stopping_since=since) for name, since in told]
    started: dict[str, t.Any] = {
        "started_at": "2026-11-27T10:00:12.9Z",
        "supersedes": ("old", "b"),
        "away_seconds": own,
    }
    assert away_seconds(Instance("current", True, True, **started), kept) == away
