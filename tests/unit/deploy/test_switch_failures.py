# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A switch in which a step fails, or that a problem forbids: the other server serves."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import weights as deploy_weights
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.ports import PortOwner
from docker_model import LOCKS, NEW, Client, FailsOnce, Gpu, manage, run, situation
from switches import CALLS, FAILURES, FRAGILE_IN_EVERY_WAY, IN_EVERY_WAY, found, prepared, run_b, running

# --- when a step fails ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", CALLS)
@IN_EVERY_WAY
def test_these_are_the_calls_of_a_switch(kind: str, client: Client) -> None:
    prepared(kind)
    client.calls.clear()
    run()
    assert [call for call in client.calls if call != ("remove", "vllm-a-try")] == CALLS[kind]


@pytest.mark.parametrize(("kind", "failing"), FAILURES)
@FRAGILE_IN_EVERY_WAY
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
    assert text.startswith("Cannot ") and f" says: {failing[0]} of {failing[1]} failed." in text
    stopped = failing in CALLS[kind][CALLS[kind].index(("stop", "vllm-b")) + 1 :]
    assert ("vllm-b" in text.rpartition("failed. ")[2]) == stopped


@pytest.mark.parametrize(("kind", "failing"), [one for one in FAILURES if one.values[1][0] != "rename"])
@FRAGILE_IN_EVERY_WAY
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


@pytest.mark.parametrize("failing", [("create", "vllm-a-next"), ("start", "vllm-a-try")], ids=" ".join)
@FRAGILE_IN_EVERY_WAY
def test_what_a_server_replaced_stays_stopped_while_that_one_serves(
    failing: tuple[str, str], fragile: FailsOnce
) -> None:
    """A second change of a server that is not committed yet, which fails before anything stops."""
    run_b()
    run()
    before = found(fragile)
    fragile.failing = failing
    with pytest.raises(VllmError, match="The previous server is running.$"):
        run(**NEW)
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


@pytest.mark.parametrize("failing", [("stop", "vllm-a"), ("remove", "vllm-a"), ("start", "vllm-b")])
@FRAGILE_IN_EVERY_WAY
def test_a_way_back_in_which_a_step_fails_is_gone_by_the_next_run(failing: tuple[str, str], fragile: FailsOnce) -> None:
    run_b()
    run()
    fragile.failing = failing
    with pytest.raises(VllmError, match=f"^Cannot .* says: {failing[0]} of {failing[1]} failed"):
        manage(state="reverted")
    run_b()
    manage(container_name="vllm-b", state="committed")
    assert set(fragile.now) == running(fragile) == {"vllm-b"}


@pytest.mark.parametrize(("after", "stays"), [(run, "vllm-a"), (run_b, "vllm-b")])
@FRAGILE_IN_EVERY_WAY
def test_a_commit_that_fails_leaves_the_choice_to_the_next_run(
    after: t.Callable[[], t.Any], stays: str, fragile: FailsOnce
) -> None:
    run_b()
    run()
    fragile.failing = ("remove", "vllm-b")
    with pytest.raises(VllmError, match="^Cannot remove vllm-b .* says: remove of vllm-b failed"):
        manage(state="committed")
    assert running(fragile) == {"vllm-a"}
    after()
    manage(container_name=stays, state="committed")
    assert set(fragile.now) == running(fragile) == {stays}


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
            "It cannot run together with vllm-b (it has port 8000), and replace_others is false. Stop vllm-b first "
            "(state: stopped), or let this server take its place.",
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
