# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that fails for a known reason is tried with other settings."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.record import (
    LABEL_FALLBACKS,
    LABEL_SPEC,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from docker_model import Client, FailsOnce, Gpu, manage, run
from switches import BOTH, FALLBACKS, MOST, SOME, found, labels, run_b, running

# --- fallbacks -----------------------------------------------------------------------------------------------------


def engine_of(client: Client, name: str = "vllm-a") -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", json.loads(labels(client, name)[LABEL_SPEC]).get("engine", {}))


def step(check: bool = False, failure_id: str | None = None, **said: t.Any) -> dict[str, t.Any]:
    """A run with the fallbacks."""
    return run(check, fallbacks=FALLBACKS, failure_id=failure_id, **said)


def test_a_server_starts_at_the_top_of_its_ladder(client: Client) -> None:
    told = {"rungs": 3, "rung": 0, "causes": [], "change": {}, "because": None, "exhausted": False}
    assert step()["fallback"] == told
    assert labels(client)[LABEL_FALLBACKS] == ""
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
    for check, pull in ((True, "missing"), (False, "missing"), (False, "always")):
        result = step(check, failure_id=cause, pull=pull)
        assert (result["changed"], result["actions"], result["fallback"]["exhausted"]) == (False, [], True)
        assert result["fallback"]["rung"] == 3
        assert result["server"]["container_id"] == client.containers_by_name["vllm-a"]["Id"]
    assert (found(client), len(client.calls)) == (there, calls)


@pytest.mark.parametrize(
    ("said", "rung"),
    [
        pytest.param({}, 1, id="the same"),
        pytest.param({"engine": {"max_num_seqs": 8}}, 0, id="other settings"),
        pytest.param({"fallbacks": FALLBACKS[:2]}, 0, id="another fallbacks"),
        pytest.param({"reset_fallbacks": True}, 0, id="reset"),
    ],
)
def test_how_long_a_rung_is_kept_to(said: dict[str, t.Any], rung: int, client: Client) -> None:
    step()
    step(failure_id="mem-kv-too-small")
    result = run(**{"fallbacks": FALLBACKS, **said})
    assert result["fallback"]["rung"] == rung
    assert result["changed"] == (rung == 0)
    assert bool(labels(client)[LABEL_FALLBACKS]) == (rung == 1)


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
    fallbacks = [REFUSED, FALLBACKS[1]]
    run(fallbacks=fallbacks)
    result = run(fallbacks=fallbacks, failure_id="mem-free-below-budget")
    assert (result["fallback"]["rung"], result["fallback"]["change"]) == (2, FALLBACKS[1]["change"])
    assert engine_of(client) == {"gpu_memory_utilization": "0.4"}
    assert run(fallbacks=fallbacks)["changed"] is False


def test_a_rung_that_this_version_refuses_is_left_out_when_the_memory_would_not_do(client: Client, gpu: Gpu) -> None:
    gpu.foreign = 40000
    result = run(fallbacks=[REFUSED, FALLBACKS[1]], **MOST)
    assert (result["fallback"]["rung"], result["fallback"]["change"]) == (2, FALLBACKS[1]["change"])


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
        run(fallbacks=[FALLBACKS[0], {"causes": ["crash"], "change": {"port": 1}}])
    assert client.calls == []
