# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory of the GPUs decides who makes room; what a start measured decides the next one."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import (
    LABEL_SPEC,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from docker_model import IMAGE, NEW, Client, Gpu, manage, run, situation, warnings
from switches import ARCHITECTURE, FALLBACKS, HALF, MOST, SOME, found, labels, run_b, running

# --- room on the GPUs -----------------------------------------------------------------------------------------------


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
    with pytest.raises(
        VllmError, match=r"together with vllm-b \(the GPUs have no room for both\), and replace_others is"
    ):
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
    assert "Set fit: warn to start it anyway. Nothing was stopped or changed." in str(caught.value)
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


def test_a_cache_that_is_too_small_for_one_request_is_refused(client: Client, gpu: Gpu) -> None:
    with pytest.raises(VllmError, match="one request of max_model_len 900000 needs"):
        run(architecture=ARCHITECTURE, engine={"max_model_len": 900000})
    assert client.calls == []
    result = run(architecture=ARCHITECTURE, engine={"max_model_len": 8192})
    assert result["fit"]["verdict"] == "ok" and result["fit"]["kv_tokens_min"] > 8192


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
    kept = json.loads((tmp_path / "state" / "vllm-a.json").read_text())
    assert result["learned"] == {key: entry["measured"] for key, entry in kept.items()}
    for check in (True, False):
        assert manage(check, state="committed")["changed"] is False


def test_a_measurement_that_cannot_be_remembered_is_a_warning(pinning: Client, tmp_path: Path) -> None:
    (tmp_path / "full").touch()
    situation().state = tmp_path / "full" / "state"
    run()
    run(**NEW)
    warnings.clear()
    result = manage(state="committed")
    # The by-product comes last.
    assert [line.split(" ")[0] for line in result["actions"]] == ["remove", "remember"]
    assert set(pinning.now) == {"vllm-a"}
    assert len(warnings) == 1 and warnings[0].startswith("Cannot remember what vLLM measured in")


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
        pytest.param({"failure_id": "crash", "fallbacks": FALLBACKS}, id="it failed"),
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
