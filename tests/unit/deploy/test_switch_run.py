# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One server takes the place of another, against a model of the Docker Engine and of a GPU (docker_model).

Server b serves on port 8000; server a is wanted there.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import typing as t
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import weights as deploy_weights
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import (
    LABEL_FALLBACKS,
    LABEL_FINGERPRINT,
    LABEL_SPEC,
    LABEL_SUPERSEDES,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import lock
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.ports import PortOwner
from docker_model import IMAGE, LOCKS, NEW, Client, FailsOnce, Gpu, Killed, installed, manage, run, situation, warnings
from hypothesis import given, settings, strategies as st


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Client:
    return installed(Client(), monkeypatch, tmp_path)


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FailsOnce:
    return installed(FailsOnce(), monkeypatch, tmp_path)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, client: Client) -> Gpu:
    made = Gpu(client)
    situation().gpus = made.look
    return made


def run_b(check: bool = False, **said: t.Any) -> dict[str, t.Any]:
    return run(check, **{"name": "b", "model": "n", **said})


def labels(client: Client, name: str = "vllm-a") -> dict[str, str]:
    return t.cast("dict[str, str]", client.containers_by_name[name]["Config"]["Labels"])


def running(client: Client) -> set[str]:
    return {name for name, state in client.now.items() if state.endswith("running")}


# What there is, in words: the servers by name, and their volumes.
def found(client: Client) -> tuple[dict[str, str], list[str]]:
    return client.now, sorted(client.volumes_by_name)


# --- check, do, again, again in check -------------------------------------------------------------------------------

Steps = list[tuple[t.Callable[..., dict[str, t.Any]], dict[str, t.Any]]]
OLD_A = (run, {"port": 8001})


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
    assert found(client) == ({"vllm-a": "id2 running"}, ["vllm-a-cache-1", "vllm-b-cache-1"])


def test_a_revert_tells_what_serves_again(client: Client) -> None:
    run_b(served_model_name="gpt")
    run()
    result = manage(state="reverted")
    assert found(client)[0] == {"vllm-b": "id1 running"}
    (restored,) = result["restored"]
    assert restored["container_name"] == "vllm-b" and restored["state"] == "running"
    assert (restored["container_id"], restored["url"]) == ("id1", "http://127.0.0.1:8000")
    assert restored["served_model_name"] == "gpt"
    assert result["server"]["state"] == "absent"
    assert manage(state="reverted")["restored"] == []


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


# --- when a step fails ----------------------------------------------------------------------------------------------

SWITCH = [
    ("create", "vllm-a"),
    ("create", "vllm-a-try"),
    ("start", "vllm-a-try"),
    ("stop", "vllm-b"),
    ("start", "vllm-a"),
]
# Server a itself runs elsewhere before, and gives way to its new version too.
BOTH = [
    ("create", "vllm-a-next"),
    ("create", "vllm-a-try"),
    ("start", "vllm-a-try"),
    ("stop", "vllm-b"),
    ("stop", "vllm-a"),
    ("rename", "vllm-a"),
    ("rename", "vllm-a-next"),
    ("start", "vllm-a"),
]
# It is there and stopped.
STOPPED = [call for call in BOTH if call != ("stop", "vllm-a")]

BEFORE: dict[str, Steps] = {
    "switch": [(run_b, {})],
    "two give way": [(run_b, {}), OLD_A],
    "switch to what was stopped": [OLD_A, (manage, {"state": "stopped"}), (run_b, {})],
}
CALLS = {"switch": SWITCH, "two give way": BOTH, "switch to what was stopped": STOPPED}
FAILURES = [pytest.param(kind, call, id=f"{kind}: {' '.join(call)}") for kind, calls in CALLS.items() for call in calls]


def prepared(kind: str) -> None:
    for make, said in BEFORE[kind]:
        make(**said)


@pytest.mark.parametrize("kind", CALLS)
def test_these_are_the_calls_of_a_switch(kind: str, client: Client) -> None:
    prepared(kind)
    client.calls.clear()
    run()
    assert [call for call in client.calls if call != ("remove", "vllm-a-try")] == CALLS[kind]


@pytest.mark.parametrize(("kind", "failing"), FAILURES)
def test_the_other_server_runs_again_whatever_step_fails(
    kind: str, failing: tuple[str, str], fragile: FailsOnce
) -> None:
    prepared(kind)
    before = found(fragile)
    fragile.failing = failing
    with pytest.raises(VllmError) as caught:
        run()
    assert found(fragile) == before
    text = str(caught.value)
    assert text.startswith("Cannot ") and f"Docker says: {failing[0]} of {failing[1]} failed." in text
    stopped = failing in CALLS[kind][CALLS[kind].index(("stop", "vllm-b")) + 1 :]
    assert ("vllm-b" in text.rpartition("failed. ")[2]) == stopped


@pytest.mark.parametrize(("kind", "failing"), [one for one in FAILURES if one.values[1][0] != "rename"])
def test_a_step_that_worked_but_answered_too_late_is_undone_too(
    kind: str, failing: tuple[str, str], fragile: FailsOnce
) -> None:
    prepared(kind)
    before = found(fragile)
    fragile.failing, fragile.fails_late = failing, True
    with pytest.raises(VllmError, match="^Cannot ") as caught:
        run()
    if failing == ("start", "vllm-a"):
        # The last step: it is done, and what it stopped is kept.
        assert str(caught.value).endswith("The server is running.")
        assert running(fragile) == {"vllm-a"} and "vllm-b" in fragile.now
        assert run()["changed"] is False
    else:
        assert found(fragile) == before


def test_who_serves_after_a_failure_is_told_by_name(fragile: FailsOnce) -> None:
    run_b()
    fragile.failing = ("start", "vllm-a")
    with pytest.raises(VllmError) as caught:
        run()
    assert str(caught.value) == "Cannot start vllm-a. Docker says: start of vllm-a failed. vllm-b is running."


def test_nothing_is_said_to_be_stopped_when_nothing_was(fragile: FailsOnce) -> None:
    run_b()
    fragile.failing = ("start", "vllm-a-try")
    with pytest.raises(VllmError, match="No server was stopped by this.$"):
        run()


def test_a_server_that_cannot_even_be_put_back_is_told_and_the_next_run_serves(client: Client) -> None:
    run_b()
    client.failing = ("start", "vllm-a")
    start = client.start

    def broken(name: str) -> None:
        if name == "vllm-b":
            client.failing = ("start", "vllm-b")
        start(name)

    client.start = broken  # type: ignore[method-assign]
    with pytest.raises(VllmError, match="Nothing serves now: .* start of vllm-b failed"):
        run()
    client.failing, client.start = None, start  # type: ignore[method-assign]
    run()
    assert running(client) == {"vllm-a"}
    manage(state="reverted")
    assert client.now == {"vllm-b": "id1 running"}


# --- when the run is killed -----------------------------------------------------------------------------------------

KILLS = [
    pytest.param(kind, calls, id=f"{kind}: after {calls} calls")
    for kind in CALLS
    for calls in range(len(CALLS[kind]) + 2)
]


def killed(client: Client, kind: str, calls: int) -> tuple[dict[str, str], list[str]]:
    """What there was before a switch that was killed after so many calls (the last number: not at all)."""
    prepared(kind)
    before = found(client)
    client.dies_after = len(client.calls) + calls
    try:
        run()
    except Killed:
        pass
    else:
        # The trial is cleared away with a call of its own.
        assert calls == len(CALLS[kind]) + 1
    client.dies_after = None
    return before


@pytest.mark.parametrize(("kind", "calls"), KILLS)
def test_a_switch_that_was_killed_is_undone_by_a_revert(kind: str, calls: int, client: Client) -> None:
    before = killed(client, kind, calls)
    manage(state="reverted")
    assert client.now == before[0]
    assert manage(state="reverted")["changed"] is False


@pytest.mark.parametrize(("kind", "calls"), KILLS)
def test_a_switch_that_was_killed_is_finished_by_the_next_run(kind: str, calls: int, client: Client) -> None:
    killed(client, kind, calls)
    run()
    assert running(client) == {"vllm-a"}
    assert run()["changed"] is False
    assert "vllm-b" in client.now
    manage(state="committed")
    assert set(client.now) == {"vllm-a"}


@pytest.mark.parametrize(("kind", "calls"), KILLS)
def test_a_switch_that_was_killed_is_still_undone_when_the_next_one_fails(
    kind: str, calls: int, fragile: FailsOnce
) -> None:
    before = killed(fragile, kind, calls)
    is_done = running(fragile) == {"vllm-a"}
    fragile.failing = ("start", "vllm-a")
    with pytest.raises(VllmError):
        run(**NEW)
    # What had taken its place already goes on serving.
    assert is_done or {**fragile.now, **{k: v for k, v in before[0].items() if "running" in v}} == fragile.now
    manage(state="reverted")
    assert fragile.now == before[0]


@pytest.mark.parametrize("calls", range(len(SWITCH) + 2))
def test_after_a_switch_was_killed_the_other_server_can_have_its_place_back(calls: int, client: Client) -> None:
    killed(client, "switch", calls)
    run_b()
    assert running(client) == {"vllm-b"}
    manage(container_name="vllm-b", state="committed")
    assert set(client.now) == {"vllm-b"}


@pytest.mark.parametrize("calls", range(4))
def test_a_revert_that_was_killed_is_finished_by_the_next(calls: int, client: Client) -> None:
    run_b()
    run()
    client.dies_after = len(client.calls) + calls
    try:
        manage(state="reverted")
    except Killed:
        pass
    else:
        assert calls == 3
    client.dies_after = None
    manage(state="reverted")
    assert client.now == {"vllm-b": "id1 running"}


# --- nothing stops when a problem is found --------------------------------------------------------------------------


def no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deploy_weights, "free_bytes", lambda path: 1 << 30)


def no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    situation().gpus = lambda: {"status": "no_driver", "message": "No driver here.", "gpus": []}


def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    situation().owner = PortOwner("nginx (PID 7)", 7)


def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user's process holds the GPU."""
    held = {"pid": 7, "user": "ann", "used_memory_mib": 70000, "container": None}
    facts = Gpu(Client(), foreign=70000).look()
    facts["gpus"][0]["processes"] = [held]
    situation().gpus = lambda: facts


def files_in(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.parent.name != LOCKS)


def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is as it should be."""


@pytest.mark.parametrize(
    ("given", "said", "told"),
    [
        pytest.param(nothing, {"engine": {"attn_impl": "x"}}, "vLLM 0.26.0 has no --attn-impl", id="a flag"),
        pytest.param(nothing, {"image": "vllm:2", "pull": "never"}, "The image vllm:2 is not on the host", id="image"),
        pytest.param(nothing, {"hf_token_file": "{0}/t"}, "HF_TOKEN is missing", id="token"),
        pytest.param(
            nothing, {"api_key_file": "{0}/k", "api_key": "a b"}, "which no client can send", id="API key with a blank"
        ),
        pytest.param(nothing, {"volumes": ["{0}/v:/v"]}, "{0}/v does not exist on the host", id="volume"),
        pytest.param(nothing, {"model": "{0}/none"}, "directory {0}/none does not exist", id="no model directory"),
        pytest.param(nothing, {"model": "{0}/m"}, "{0}/m lacks model.safetensors", id="no weights in the directory"),
        pytest.param(
            nothing,
            {"huggingface_dir": "{0}/hf", "env": {"HF_HUB_OFFLINE": "1"}},
            "cache of the host does not hold m, and env has HF_HUB_OFFLINE",
            id="no weights and no way to fetch them",
        ),
        pytest.param(
            no_disk,
            {"huggingface_dir": "{0}/hf", "architecture": {"weights_gib": 20}},
            "The download of m needs 20.00 GiB in {0}/hf, and 1.00 GiB are free there",
            id="no space for the weights",
        ),
        pytest.param(
            stranger,
            {"port": 8003, "exclusive": True},
            "Port 8003 is taken by nginx (PID 7), which is not part of this server.",
            id="a stranger on the port",
        ),
        pytest.param(no_driver, {}, "No driver here.", id="no driver"),
        pytest.param(somebody, {}, "PID 7 (ann) holds 68.4 GiB", id="a tenant on the GPU"),
        pytest.param(nothing, {"engine": {"tensor_parallel_size": 2}}, "needs 2 GPUs, and the server has 1", id="GPUs"),
        pytest.param(
            nothing,
            {"replace_others": False},
            "It cannot run beside vllm-b (it has port 8000), and replace_others is false. Stop that server first "
            "(vllm_container with container_name: vllm-b and state: stopped), or let this one take its place.",
            id="others may not be replaced",
        ),
    ],
)
def test_nothing_stops_and_nothing_is_made_when_a_problem_is_found(
    given: t.Callable[[pytest.MonkeyPatch], None],
    said: dict[str, t.Any],
    told: str,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    run_b()
    there, calls, files = found(client), len(client.calls), files_in(tmp_path)
    given(monkeypatch)
    for check in (True, False):
        with pytest.raises(VllmError) as caught:
            run(check, **json.loads(json.dumps(said).replace("{0}", str(tmp_path))))
        text = str(caught.value)
        assert text.startswith("vllm-a is not started: ") and told.replace("{0}", str(tmp_path)) in text
        assert text.endswith("Nothing was stopped or changed.")
        assert (found(client), len(client.calls), files_in(tmp_path)) == (there, calls, files)


def test_missing_encodings_stop_nothing(client: Client, tmp_path: Path) -> None:
    run_b()
    there, calls = found(client), len(client.calls)
    with pytest.raises(VllmError, match="o200k_base.* Nothing was stopped or changed.$"):
        run(encodings_dir=str(tmp_path))
    assert (found(client), len(client.calls)) == (there, calls)


def test_a_gpu_that_the_engine_cannot_hand_over_stops_nothing(fragile: FailsOnce) -> None:
    run_b()
    there = found(fragile)
    fragile.failing = ("start", "vllm-a-try")
    with pytest.raises(VllmError, match="^Cannot try vllm-a .*No server was stopped by this.$"):
        run()
    assert ("stop", "vllm-b") not in fragile.calls and found(fragile) == there


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
        f"The container {mine} that this run made for vllm-a was replaced by another run ({there[0]['vllm-a'].split()[0]} "
        "is there now), so this one leaves it alone. Look at what the other run does, then deploy again."
    )
    assert (found(client), len(client.calls)) == (there, calls)


def test_a_step_of_a_run_whose_server_is_gone_is_told(client: Client) -> None:
    with pytest.raises(VllmError, match=r"^The container 0123456789ab that .* \(it is gone\)"):
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
        pytest.param({"bind": "127.0.0.2"}, [], id="another address"),
        pytest.param({"bind": "0.0.0.0", "allow_unauthenticated": True}, ["vllm-b"], id="every address"),
        pytest.param({"port": 8001, "exclusive": True}, ["vllm-b", "vllm-c"], id="one at a time"),
        pytest.param({"bind": "127.0.0.2", "exclusive": True}, ["vllm-b", "vllm-c"], id="one at a time, elsewhere"),
    ],
)
def test_who_gives_way(said: dict[str, t.Any], others: list[str], client: Client) -> None:
    run_b()
    run(name="c", port=9000)
    assert run(**said)["server"]["stopped_for_it"] == others
    assert running(client) == {"vllm-a", "vllm-b", "vllm-c"} - {*others}
    if others:
        with pytest.raises(VllmError, match="^vllm-b is not started: It cannot run beside vllm-a "):
            run_b(replace_others=False, **({"exclusive": True} if "exclusive" in said else {}))


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


# --- room on the GPUs -----------------------------------------------------------------------------------------------

HALF = {"engine": {"gpu_memory_utilization": 0.5}}
MOST = {"engine": {"gpu_memory_utilization": 0.7}}
SOME = {"engine": {"gpu_memory_utilization": 0.2}}


@pytest.mark.parametrize(
    ("there", "said", "stopped"),
    [
        pytest.param({"b": HALF}, SOME, [], id="there is room"),
        pytest.param({"b": HALF}, MOST, ["vllm-b"], id="there is not"),
        pytest.param({"b": SOME, "c": HALF}, MOST, ["vllm-c"], id="the one that is enough"),
        pytest.param({"b": HALF, "c": SOME}, HALF, ["vllm-b"], id="not more than have to"),
        pytest.param({"b": HALF, "c": {**SOME, "gpus": ["GPU-0"]}}, {"engine": {"gpu_memory_utilization": 0.9}}, ["vllm-b", "vllm-c"], id="all of them"),
    ],
)  # fmt: skip
def test_who_makes_room(
    there: dict[str, t.Any], said: dict[str, t.Any], stopped: list[str], client: Client, gpu: Gpu
) -> None:
    for number, (name, theirs) in enumerate(there.items(), 8001):
        run(name=name, port=number, **theirs)
    before = client.now
    predicted = run(check=True, **said)
    result = run(**said)
    assert result["actions"] == predicted["actions"] and result["fit"] == predicted["fit"]
    assert [line for line in result["actions"] if line.startswith("stop")] == [
        f"stop {name} (the GPUs have no room for both)" for name in stopped
    ]
    assert result["server"]["stopped_for_it"] == stopped
    assert run(**said)["changed"] is False
    manage(state="reverted")
    assert {**client.now, **before} == client.now


def test_who_would_have_to_make_room_is_only_told_when_others_may_not_be_replaced(client: Client, gpu: Gpu) -> None:
    run_b(port=8001, **HALF)
    there = found(client)
    with pytest.raises(VllmError, match=r"beside vllm-b \(the GPUs have no room for both\), and replace_others is"):
        run(replace_others=False, **MOST)
    assert found(client) == there
    assert run(replace_others=False, **SOME)["changed"] is True


def test_nobody_stops_when_that_would_not_make_enough_room(client: Client, gpu: Gpu) -> None:
    run_b(port=8001, **SOME)
    gpu.foreign = 40000
    there = found(client)
    with pytest.raises(VllmError) as caught:
        run(**MOST)
    assert "PID 7 (ann) holds 39.1 GiB" in str(caught.value)
    assert "Set fit: warn to start it all the same. Nothing was stopped or changed." in str(caught.value)
    assert found(client) == there


def test_servers_on_other_gpus_do_not_make_room(client: Client, gpu: Gpu) -> None:
    run_b(port=8001, gpus=["GPU-1"], fit="off", **HALF)
    with pytest.raises(VllmError, match="asks for 54.7"):
        run(gpus=["GPU-0"], **MOST)
    assert running(client) == {"vllm-b"}


def test_a_server_without_a_gpu_is_not_judged_and_waits_for_nobody(client: Client, gpu: Gpu) -> None:
    run_b(gpus="none")
    gpu.foreign = 79000
    result = run(gpus="none")
    assert result["fit"] is None
    assert [line.split()[0] for line in result["actions"]] == ["create", "try", "stop", "start"]


@pytest.mark.parametrize(
    ("fit", "outcome"), [("enforce", "refused"), ("warn", "warned"), ("off", "silent")], ids=lambda value: value
)
def test_how_strictly_the_memory_is_judged(fit: str, outcome: str, client: Client, gpu: Gpu) -> None:
    run_b(**SOME)
    gpu.foreign = 60000
    warnings.clear()
    if outcome == "refused":
        with pytest.raises(VllmError, match="^vllm-a is not started: GPU 0 has 19.5 of 78.1 GiB free"):
            run(fit=fit, **HALF)
        assert running(client) == {"vllm-b"}
        return
    result = run(fit=fit, **HALF)
    assert running(client) == {"vllm-a"}
    assert bool(warnings) == (outcome == "warned")
    assert (result["fit"] or {}).get("verdict") == ("refuse" if outcome == "warned" else None)
    # Nothing would ever be free enough: nobody waits for it.
    assert not [line for line in result["actions"] if line.startswith("wait")]


def test_the_verdict_counts_what_comes_back(client: Client, gpu: Gpu) -> None:
    run_b(**MOST)
    result = run(**MOST)
    assert result["fit"]["verdict"] == "ok" and result["fit"]["free_mib"] == 80000
    assert run(**MOST)["fit"] is None
    # Its own memory comes back too.
    assert run(engine={**MOST["engine"], "max_model_len": 2})["fit"]["verdict"] == "ok"


def test_a_verdict_that_is_tight_is_warned_of_and_starts(client: Client, gpu: Gpu) -> None:
    gpu.foreign = 40000 - 300
    warnings.clear()
    run(check=True, **HALF)
    foreseen = list(warnings)
    warnings.clear()
    result = run(**HALF)
    assert result["fit"]["verdict"] == "tight"
    assert warnings == result["fit"]["reasons"][:1] + warnings[1:] and "its own start takes" in warnings[0]
    assert foreseen == list(warnings)
    warnings.clear()
    assert run(**HALF)["changed"] is False and warnings == []


def test_memory_that_comes_back_late_is_waited_for(client: Client, gpu: Gpu) -> None:
    run_b(**MOST)
    gpu.look()
    gpu.looks_until_back = 3
    run(**MOST)
    assert gpu.looks_until_back == 0 and running(client) == {"vllm-a"}


def test_memory_that_does_not_come_back_ends_with_the_other_server(client: Client, gpu: Gpu) -> None:
    run_b(**MOST)
    there = found(client)
    gpu.look()
    gpu.looks_until_back = 10**6
    with pytest.raises(VllmError) as caught:
        run(memory_timeout=0, **MOST)
    text = str(caught.value)
    assert text.startswith(
        "GPU memory used by vllm-b was not released within 0 s of stopping it. GPU 0 has 23.4 of 78.1 GiB"
    )
    assert text.endswith("vllm-b is running.")
    assert found(client) == there


def test_memory_of_a_replacement_that_does_not_come_back_ends_with_the_old_server(client: Client, gpu: Gpu) -> None:
    run(**MOST)
    there = found(client)
    gpu.look()
    gpu.looks_until_back = 10**6
    with pytest.raises(
        VllmError, match=r"used by vllm-a was not released within 0 s .*The previous server is running.$"
    ):
        run(memory_timeout=0, engine={**MOST["engine"], "max_model_len": 2})
    assert found(client) == there


def test_what_the_host_needs_for_itself_can_be_said(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"name": "NVIDIA GB10", "memory_kind": "unified", "memory_total_mib": 124610, "memory_used_mib": None}
    facts = {"status": "ok", "gpus": [{"index": 0, "uuid": "GPU-0", **known, "memory_free_mib": 110000}]}
    situation().gpus = lambda: facts
    with pytest.raises(VllmError, match="and the host needs 30.0"):
        run(host_reserve_gib=30, **MOST)
    assert run(**MOST)["changed"] is True


ARCHITECTURE = {
    "layers_full": 32,
    "layers_sliding": 0,
    "sliding_window": 0,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "weights_gib": 15.0,
}


def test_a_cache_that_is_too_small_for_one_request_is_refused(client: Client, gpu: Gpu) -> None:
    with pytest.raises(VllmError, match="one request of max_model_len 900000 needs"):
        run(architecture=ARCHITECTURE, engine={"max_model_len": 900000})
    assert client.calls == []
    result = run(architecture=ARCHITECTURE, engine={"max_model_len": 8192})
    assert result["fit"]["verdict"] == "ok" and result["fit"]["kv_tokens_min"] > 8192


# --- weights before the stop ----------------------------------------------------------------------------------------


def cached(tmp_path: Path, **said: t.Any) -> dict[str, t.Any]:
    return {"huggingface_dir": str(tmp_path / "hf"), **said}


FETCH = "fetch weights m (while the old server serves)"
WITH_FETCH = [("create", "vllm-a-fetch"), ("start", "vllm-a-fetch"), *SWITCH]


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


# --- secrets of a switch --------------------------------------------------------------------------------------------


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return tmp_path / "s" / "key"


def keyed(key: Path, secret: str) -> dict[str, str]:
    return {"api_key_file": str(key), "api_key": secret}


def files_of(key: Path) -> dict[str, str]:
    """What the directory of the key holds, by name."""
    return {path.name: path.read_text().strip() for path in key.parent.glob("*")}


def test_the_key_of_the_other_server_is_kept_until_the_commit(client: Client, key: Path) -> None:
    run_b(**keyed(key, "CANARY-B"))
    run(**keyed(key, "CANARY-A"))
    assert files_of(key) == {"key": "CANARY-A", "key.superseded": "CANARY-B"}
    assert (key.parent / "key.superseded").stat().st_mode & 0o777 == 0o600
    result = manage(state="committed")
    assert f"forget secret {key} (nobody reads it any more)" in result["actions"]
    assert f"rm {key}.superseded" in result["commands"]
    assert files_of(key) == {"key": "CANARY-A"}
    manage(state="absent")
    assert not key.parent.exists()


def test_the_key_of_the_other_server_is_put_back_with_it(client: Client, key: Path) -> None:
    run_b(**keyed(key, "CANARY-B"))
    run(**keyed(key, "CANARY-A"))
    result = manage(state="reverted")
    assert f"restore secret {key} (the old server reads it)" in result["actions"]
    order = [line.split(" (")[0] for line in result["actions"]]
    assert order.index(f"restore secret {key}") < order.index("start vllm-b")
    assert files_of(key) == {"key": "CANARY-B"}
    assert run_b(**keyed(key, "CANARY-B"))["changed"] is False


@pytest.mark.parametrize("failing", SWITCH, ids=" ".join)
def test_the_key_of_the_other_server_is_put_back_when_a_step_fails(
    failing: tuple[str, str], fragile: FailsOnce, key: Path
) -> None:
    run_b(**keyed(key, "CANARY-B"))
    fragile.failing = failing
    with pytest.raises(VllmError) as caught:
        run(**keyed(key, "CANARY-A"))
    assert "CANARY" not in str(caught.value)
    assert files_of(key) == {"key": "CANARY-B"}
    assert run_b(**keyed(key, "CANARY-B"))["changed"] is False


@pytest.mark.parametrize("calls", range(len(SWITCH) + 2))
def test_the_key_of_the_other_server_is_put_back_when_a_run_was_killed(calls: int, client: Client, key: Path) -> None:
    run_b(**keyed(key, "CANARY-B"))
    client.dies_after = len(client.calls) + calls
    try:
        run(**keyed(key, "CANARY-A"))
    except Killed:
        pass
    else:
        assert calls == len(SWITCH) + 1
    client.dies_after = None
    run(**keyed(key, "CANARY-A"))
    assert files_of(key) == {"key": "CANARY-A", "key.superseded": "CANARY-B"}
    manage(state="reverted")
    assert files_of(key) == {"key": "CANARY-B"}


def test_an_older_key_is_not_lost_when_one_changes_ones_mind(client: Client, key: Path) -> None:
    run_b(**keyed(key, "CANARY-B"))
    run(**keyed(key, "CANARY-A"))
    run(**keyed(key, "CANARY-AA"))
    assert files_of(key) == {"key": "CANARY-AA", "key.superseded": "CANARY-B"}
    manage(state="reverted")
    assert files_of(key) == {"key": "CANARY-B"}


def test_a_kept_key_goes_with_the_server(client: Client, key: Path) -> None:
    run(**keyed(key, "CANARY-1"))
    run(**keyed(key, "CANARY-2"))
    assert files_of(key) == {"key": "CANARY-2", "key.superseded": "CANARY-1"}
    manage(state="absent")
    assert not key.parent.exists()


def test_a_rotated_key_is_forgotten_by_the_commit_though_nothing_else_is_kept(client: Client, key: Path) -> None:
    run(**keyed(key, "CANARY-1"))
    run(**keyed(key, "CANARY-2"))
    manage(state="committed")
    assert files_of(key) == {"key": "CANARY-2"}


@pytest.mark.parametrize(
    ("said", "left"),
    [
        pytest.param({}, {}, id="nobody reads it"),
        pytest.param({"api_key_file": "{0}"}, {"key": "CANARY-B"}, id="the new server does"),
    ],
)
def test_the_key_that_was_written_for_the_other_server_goes_with_it(
    said: dict[str, str], left: dict[str, str], client: Client, key: Path
) -> None:
    run_b(**keyed(key, "CANARY-B"))
    run(**{name: value.replace("{0}", str(key)) for name, value in said.items()})
    assert files_of(key) == {"key": "CANARY-B"}
    manage(state="committed")
    assert files_of(key) == left
    # It was ours, whoever it was written for.
    manage(state="absent")
    assert files_of(key) == {}


def test_a_key_that_a_third_server_reads_stays(client: Client, key: Path) -> None:
    run_b(**keyed(key, "CANARY-B"))
    run(name="c", port=9000, api_key_file=str(key))
    run()
    manage(state="committed")
    assert files_of(key) == {"key": "CANARY-B"}


def test_the_commit_leaves_a_key_that_the_server_reads_though_a_killed_run_of_another_wrote_it(
    client: Client, key: Path
) -> None:
    key.parent.mkdir()
    key.write_text("CANARY-A\n")
    key.chmod(0o600)
    run(api_key_file=str(key))
    client.dies_after = len(client.calls) + 1
    with pytest.raises(Killed):
        run_b(**keyed(key, "CANARY-B"))
    client.dies_after = None
    run(**keyed(key, "CANARY-A"))
    manage(state="committed")
    assert set(client.now) == {"vllm-a"}
    assert files_of(key) == {"key": "CANARY-A"}


def test_no_secret_is_in_any_result_of_a_switch(client: Client, key: Path, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=CANARY\n")
    (tmp_path / "env").chmod(0o600)
    said = {"hf_token_file": f"{tmp_path}/t", "hf_token": "CANARY-T", "env_file": f"{tmp_path}/env", **cached(tmp_path)}
    results = [run_b(**keyed(key, "CANARY-B"), **said)]
    for state in ("committed", "reverted"):
        for check in (True, False):
            results += [run(check, **keyed(key, "CANARY-A"), **said), manage(check, state=state)]
    results.append(manage(state="absent"))
    assert "CANARY" not in json.dumps([results, client.containers_by_name, list(warnings)])


# --- fallbacks -----------------------------------------------------------------------------------------------------

LADDER: list[dict[str, t.Any]] = [
    {"causes": ["mem-kv-too-small"], "change": {"engine": {"max_model_len": 4096}}, "because": "shorter"},
    {
        "causes": ["mem-free-below-budget", "mem-kv-too-small"],
        "change": {"engine": {"gpu_memory_utilization": 0.4}},
    },
    {"causes": ["crash"], "change": {"engine": {"enforce_eager": True}}},
]


def engine_of(client: Client, name: str = "vllm-a") -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", json.loads(labels(client, name)[LABEL_SPEC]).get("engine", {}))


def step(check: bool = False, failure_id: str | None = None, **said: t.Any) -> dict[str, t.Any]:
    """A run with the fallbacks."""
    return run(check, fallbacks=LADDER, failure_id=failure_id, **said)


def test_a_server_starts_at_the_top_of_its_ladder(client: Client) -> None:
    told = {"rungs": 3, "rung": 0, "causes": [], "change": {}, "because": None, "exhausted": False}
    assert step()["fallback"] == told
    assert LABEL_FALLBACKS not in labels(client)
    assert run()["fallback"] is None


def test_a_failure_takes_the_next_rung_and_later_runs_keep_to_it(client: Client) -> None:
    step()
    predicted = step(check=True, failure_id="mem-kv-too-small")
    result = step(failure_id="mem-kv-too-small")
    for key in ("changed", "actions", "commands", "diff", "fallback"):
        assert predicted[key] == result[key]
    assert result["actions"][0] == "create vllm-a-next (engine changed)"
    assert result["fallback"] == {
        "rungs": 3,
        "rung": 1,
        "causes": ["mem-kv-too-small"],
        "change": {"engine": {"max_model_len": 4096}},
        "because": "shorter",
        "exhausted": False,
    }
    assert engine_of(client) == {"max_model_len": "4096"}
    for check in (True, False):
        again = step(check)
        assert (again["changed"], again["fallback"]) == (False, result["fallback"])


def test_each_failure_goes_one_rung_further_down_and_the_changes_add_up(client: Client) -> None:
    step()
    for cause, engine in (
        ("mem-kv-too-small", {"max_model_len": "4096"}),
        ("mem-kv-too-small", {"max_model_len": "4096", "gpu_memory_utilization": "0.4"}),
        ("crash", {"max_model_len": "4096", "gpu_memory_utilization": "0.4", "enforce_eager": True}),
    ):
        result = step(failure_id=cause)
        assert engine_of(client) == engine
    assert result["fallback"]["rung"] == 3
    assert result["fallback"]["causes"] == ["mem-kv-too-small", "mem-kv-too-small", "crash"]
    # What was replaced on the way never served well: what is kept is the first one.
    assert set(client.now) == {"vllm-a", "vllm-a-superseded"}
    assert client.now["vllm-a-superseded"].startswith("id1 ")


@pytest.mark.parametrize("cause", ["mem-kv-too-small", "unknown"])
def test_when_no_rung_is_left_nothing_changes_and_that_is_told(cause: str, client: Client) -> None:
    step()
    step(failure_id="crash")
    there, calls = found(client), len(client.calls)
    for check in (True, False):
        result = step(check, failure_id=cause)
        assert (result["changed"], result["actions"], result["fallback"]["exhausted"]) == (False, [], True)
        assert result["fallback"]["rung"] == 3
        assert result["server"]["container_id"] == client.containers_by_name["vllm-a"]["Id"]
    assert (found(client), len(client.calls)) == (there, calls)


@pytest.mark.parametrize(
    ("said", "rung"),
    [
        pytest.param({}, 1, id="the same"),
        pytest.param({"engine": {"max_num_seqs": 8}}, 0, id="other settings"),
        pytest.param({"fallbacks": LADDER[:2]}, 0, id="another fallbacks"),
        pytest.param({"reset_fallbacks": True}, 0, id="reset"),
    ],
)
def test_how_long_a_rung_is_kept_to(said: dict[str, t.Any], rung: int, client: Client) -> None:
    step()
    step(failure_id="mem-kv-too-small")
    result = run(**{"fallbacks": LADDER, **said})
    assert result["fallback"]["rung"] == rung
    assert result["changed"] == (rung == 0)
    assert (LABEL_FALLBACKS in labels(client)) == (rung == 1)


def test_a_ladder_of_a_switch_is_gone_down_while_the_other_server_is_kept(client: Client) -> None:
    run_b()
    step()
    step(failure_id="mem-kv-too-small")
    assert running(client) == {"vllm-a"} and set(client.now) == {"vllm-a", "vllm-b"}
    manage(state="reverted")
    assert client.now == {"vllm-b": "id1 running"}


def test_the_ladder_is_gone_down_before_anything_starts_when_the_memory_would_not_do(client: Client, gpu: Gpu) -> None:
    run_b(**SOME)
    gpu.foreign = 40000
    predicted, calls = step(check=True, **MOST), len(client.calls)
    result = step(**MOST)
    assert predicted["actions"] == result["actions"] and predicted["fallback"] == result["fallback"]
    assert client.calls[calls] == ("create", "vllm-a") and client.calls.count(("create", "vllm-a")) == 1
    assert (result["fallback"]["rung"], result["fallback"]["causes"]) == (2, ["mem-free-below-budget"])
    assert result["fit"]["verdict"] == "ok"
    assert engine_of(client) == {"gpu_memory_utilization": "0.4"}
    assert step(**MOST)["changed"] is False


def test_the_memory_is_told_when_no_rung_is_low_enough(client: Client, gpu: Gpu) -> None:
    run_b(**SOME)
    gpu.foreign = 60000
    there = found(client)
    with pytest.raises(VllmError, match="gpu_memory_utilization 0.4 asks for 31.2.* Nothing was stopped or changed.$"):
        step(**MOST)
    assert found(client) == there


@pytest.mark.parametrize("fit", ["warn", "off"])
def test_only_a_gate_that_is_shut_takes_rungs(fit: str, client: Client, gpu: Gpu) -> None:
    gpu.foreign = 40000
    assert step(fit=fit, **MOST)["fallback"]["rung"] == 0


REFUSED = {"causes": ["mem-free-below-budget"], "change": {"engine": {"attn_impl": "x"}}}


def test_a_rung_that_this_version_refuses_is_left_out_after_a_failure(client: Client) -> None:
    fallbacks = [REFUSED, LADDER[1]]
    run(fallbacks=fallbacks)
    result = run(fallbacks=fallbacks, failure_id="mem-free-below-budget")
    assert (result["fallback"]["rung"], result["fallback"]["change"]) == (2, LADDER[1]["change"])
    assert engine_of(client) == {"gpu_memory_utilization": "0.4"}
    assert run(fallbacks=fallbacks)["changed"] is False


def test_a_rung_that_this_version_refuses_is_left_out_when_the_memory_would_not_do(client: Client, gpu: Gpu) -> None:
    gpu.foreign = 40000
    result = run(fallbacks=[REFUSED, LADDER[1]], **MOST)
    assert (result["fallback"]["rung"], result["fallback"]["change"]) == (2, LADDER[1]["change"])


def test_only_refused_rungs_stop_nothing_after_a_failure(client: Client) -> None:
    run(fallbacks=[REFUSED])
    there = found(client)
    with pytest.raises(VllmError, match="vLLM 0.26.0 has no --attn-impl .*Nothing was stopped or changed.$"):
        run(fallbacks=[REFUSED], failure_id="mem-free-below-budget")
    assert found(client) == there


@pytest.mark.parametrize("failing", [*BOTH[:3], *BOTH[4:]], ids=" ".join)
def test_a_rung_whose_deployment_fails_is_not_taken(failing: tuple[str, str], fragile: FailsOnce) -> None:
    step()
    there = found(fragile)
    fragile.failing = failing
    with pytest.raises(VllmError, match="The previous server is running.$"):
        step(failure_id="mem-kv-too-small")
    assert found(fragile) == there
    assert step()["fallback"]["rung"] == 0


def test_a_ladder_that_cannot_be_read_is_told_with_its_address(client: Client) -> None:
    with pytest.raises(VllmError, match=r"^fallbacks\[1\].change.port: a fallback cannot change it"):
        run(fallbacks=[LADDER[0], {"causes": ["crash"], "change": {"port": 1}}])
    assert client.calls == []


# --- what an earlier start measured ---------------------------------------------------------------------------------

LOG = "Available KV cache memory: 10.00 GiB\nGPU KV cache size: 80,000 tokens\nMaximum concurrency for 2 tokens per request: 9.00x\n"
PINNED = str((10 * 1024 - 256) << 20)


@pytest.fixture
def pinning(client: Client) -> Client:
    """A version of vLLM that can be told the size of its cache, and cannot remember a plan itself."""
    client.labels, client.log = {"vllm.version": "0.20.0"}, LOG
    return client


def pinned(client: Client, name: str = "vllm-a") -> str | None:
    words = client.containers_by_name[name]["Config"]["Cmd"]
    return words[words.index("--kv-cache-memory-bytes") + 1] if "--kv-cache-memory-bytes" in words else None


def environment(client: Client) -> list[str]:
    return t.cast("list[str]", client.containers_by_name["vllm-a"]["Config"]["Env"])


def memory(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "state").glob("*")]


def learn(**said: t.Any) -> dict[str, t.Any]:
    return run(pin_kv="learned", **said)


def test_the_commit_remembers_what_vllm_measured_once(pinning: Client, tmp_path: Path) -> None:
    run()
    predicted = manage(check=True, state="committed")
    assert predicted["actions"] == [f"remember {tmp_path}/state/vllm-a.json (what vLLM measured at this start)"]
    assert memory(tmp_path) == []
    result = manage(state="committed")
    assert (result["actions"], result["changed"]) == (predicted["actions"], True)
    assert memory(tmp_path) == ["vllm-a.json"]
    for check in (True, False):
        assert manage(check, state="committed")["changed"] is False


def test_a_log_that_tells_nothing_is_not_remembered(pinning: Client, tmp_path: Path) -> None:
    pinning.log = "INFO: hello\n"
    run()
    assert manage(state="committed")["changed"] is False
    assert memory(tmp_path) == []


def test_the_memory_of_a_server_goes_with_it(pinning: Client, tmp_path: Path) -> None:
    run()
    manage(state="committed")
    predicted = manage(check=True, state="absent")
    assert memory(tmp_path) == ["vllm-a.json"]
    result = manage(state="absent")
    assert result["actions"] == predicted["actions"]
    assert result["actions"][-1] == f"delete file {tmp_path}/state/vllm-a.json (what vLLM measured)"
    assert not (tmp_path / "state").exists()
    assert manage(state="absent")["changed"] is False


def test_the_memory_of_another_server_stays(pinning: Client, tmp_path: Path) -> None:
    run_b()
    manage(container_name="vllm-b", state="committed")
    run()
    manage(state="absent")
    assert memory(tmp_path) == ["vllm-b.json"]


def test_a_server_that_runs_is_not_replaced_for_what_it_measured(pinning: Client) -> None:
    learn()
    manage(state="committed")
    for check in (True, False):
        assert learn(check=check)["changed"] is False
    assert pinned(pinning) is None


def test_a_stopped_server_is_made_anew_with_what_it_measured_and_stays_the_same_server(pinning: Client) -> None:
    made = learn()["server"]
    manage(state="committed")
    manage(state="stopped")
    predicted = learn(check=True)
    result = learn()
    assert predicted["actions"] == result["actions"] and predicted["commands"] == result["commands"]
    assert result["actions"][0] == "create vllm-a-next (its first start showed how much memory to pin)"
    assert pinned(pinning) == PINNED
    assert result["server"]["fingerprint"] == made["fingerprint"]
    assert "kv_cache_memory_bytes" not in labels(pinning)[LABEL_SPEC]
    for said in ({"pin_kv": "learned"}, {"pin_kv": "never"}):
        assert run(**said)["changed"] is False
    manage(state="committed")
    # From now on it is started as it is.
    manage(state="stopped")
    assert learn()["actions"] == ["start vllm-a"]


def test_a_server_that_is_replaced_anyway_uses_what_the_same_one_measured(pinning: Client) -> None:
    learn()
    manage(state="committed")
    learn(recreate=True)
    assert pinned(pinning) == PINNED


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"pin_kv": "never"}, id="not asked for"),
        pytest.param({"engine": {"max_model_len": 5}}, id="other settings"),
        pytest.param({"model": "other"}, id="another model"),
        pytest.param({"failure_id": "crash", "fallbacks": LADDER}, id="it failed"),
    ],
)
def test_what_was_measured_is_only_used_for_the_same_start(said: dict[str, t.Any], pinning: Client) -> None:
    learn()
    manage(state="committed")
    run(**{"recreate": True, "pin_kv": "learned", **said})
    assert pinned(pinning) is None


def test_another_image_forgets_what_was_measured(pinning: Client) -> None:
    learn()
    manage(state="committed")
    pinning.images[IMAGE] = "sha256:2"
    learn()
    assert pinned(pinning) is None


def test_a_size_that_the_user_gave_wins(pinning: Client) -> None:
    said = {"engine": {"kv_cache_memory_bytes": 5 << 30}}
    learn(**said)
    manage(state="committed")
    learn(recreate=True, **said)
    assert pinned(pinning) == str(5 << 30)


def test_a_pinned_start_does_not_forget_what_the_first_one_measured(pinning: Client, tmp_path: Path) -> None:
    learn()
    manage(state="committed")
    manage(state="stopped")
    learn()
    pinning.log = "memory for KV Cache as specified by kv_cache_memory_bytes\nGPU KV cache size: 70,000 tokens\n"
    assert "remember" not in " ".join(manage(state="committed")["actions"])
    learn(recreate=True)
    assert pinned(pinning) == PINNED


def test_a_version_that_remembers_its_own_plan_is_told_to(client: Client) -> None:
    client.labels, client.log = {"vllm.version": "0.32.0"}, LOG
    learn()
    assert "VLLM_ENABLE_STARTUP_PLAN=1" in environment(client)
    manage(state="committed")
    learn(recreate=True)
    assert pinned(client) is None and "VLLM_ENABLE_STARTUP_PLAN=1" in environment(client)
    assert "VLLM_ENABLE_STARTUP_PLAN" not in labels(client)[LABEL_SPEC]
    assert run()["changed"] is False


def test_what_was_measured_judges_the_next_start(pinning: Client, gpu: Gpu) -> None:
    said = {"architecture": ARCHITECTURE, "engine": {"max_model_len": 8192}}
    guessed = learn(**said)["fit"]
    manage(state="committed")
    known = learn(recreate=True, **said)["fit"]
    assert guessed["kv_tokens_min"] < guessed["kv_tokens_max"]
    assert known["kv_tokens_min"] == known["kv_tokens_max"]


# --- a day of two operators -----------------------------------------------------------------------------------------

# Which server, what is asked for, how many calls the engine answers before the run is killed, and which one fails before.
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(("a", "b")),
        st.sampled_from(("started", "started", "present", "stopped", "committed", "reverted", "absent")),
        st.sampled_from(({}, NEW, {"port": 8001})),
        st.none() | st.integers(0, 12),
        st.none() | st.integers(0, 12),
    ),
    max_size=6,
)


@dataclass
class FailsAt(Client):
    """One call fails, counted from now."""

    fails_after: int | None = None

    def _call(self, verb: str, name: str) -> None:
        failing = self.fails_after is not None and len(self.calls) >= self.fails_after
        if failing:
            self.fails_after, self.failing = None, (verb, name)
        try:
            super()._call(verb, name)
        finally:
            self.failing = None


@contextlib.contextmanager
def another_host() -> t.Iterator[tuple[FailsAt, Path]]:
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as directory:
        made = installed(FailsAt(), patched, Path(directory))
        yield made, Path(directory)


def ask(client: FailsAt, directory: Path, name: str, state: str, said: t.Any, kill: t.Any = None, fail: t.Any = None) -> bool:  # fmt: skip
    """Whether it was done."""
    client.dies_after = None if kill is None else len(client.calls) + kill
    client.fails_after = None if fail is None else len(client.calls) + fail
    secret = {"api_key_file": f"{directory}/keys/key", "api_key": f"CANARY-{name}"}
    try:
        run(name=name, state=state, **secret, **said)
    except (Killed, VllmError):
        return False
    finally:
        client.dies_after = client.fails_after = None
    return True


def key_in(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text().strip() for path in (directory / "keys").glob("*")}


@settings(deadline=None, max_examples=40)
@given(REQUESTS)
def test_whatever_was_asked_for_and_went_wrong_the_next_run_serves_and_nothing_is_left(requests: list[t.Any]) -> None:
    with another_host() as (client, directory):
        for request in requests:
            ask(client, directory, *request)
        for name in ("a", "b"):
            assert ask(client, directory, name, "started", {})
            assert f"vllm-{name}" in running(client)
            assert key_in(directory)["key"] == f"CANARY-{name}"
            assert ask(client, directory, name, "committed", {})
            assert [one for one in client.now if one.startswith(f"vllm-{name}")] == [f"vllm-{name}"]
            assert run(name=name, api_key_file=f"{directory}/keys/key", api_key=f"CANARY-{name}")["changed"] is False
        for name in ("a", "b"):
            assert ask(client, directory, name, "absent", {})
        assert found(client) == ({}, [])
        assert not (directory / "keys").exists()


@settings(deadline=None, max_examples=40)
@given(REQUESTS, st.sampled_from(("a", "b")), st.sampled_from(({}, NEW, {"port": 8001})), st.integers(0, 12))
def test_whatever_was_asked_for_a_run_that_fails_leaves_running_what_ran(
    requests: list[t.Any], name: str, said: dict[str, t.Any], fail: int
) -> None:
    with another_host() as (client, directory):
        for request in requests:
            ask(client, directory, *request)
        for one in ("a", "b"):
            ask(client, directory, one, "committed", {})
        before, key = (
            {state for state in client.now.values() if state.endswith("running")},
            key_in(directory).get("key"),
        )
        if not ask(client, directory, name, "started", said, fail=fail):
            assert before <= {*client.now.values()}
            assert not before or key_in(directory).get("key") == key
