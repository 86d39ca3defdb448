# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is checked because a server starts: its weights, the room for it, and what its earlier starts measured."""

from __future__ import annotations

import json
import os
import typing as t
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import room, weights as deploy_weights
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.backend import Instance, Other
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.decide import encodings_problems
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import Observed, Preflight
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.preflight import (
    Checked,
    Limits,
    PortView,
    Start,
    check_download,
    check_weights,
    checked,
    measurement,
    memory_words,
    port_problem,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.secrets import Secrets
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Problem, VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.ports import PortOwner
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ServerSpec, from_params

TOTAL = 80000
COMMIT = "0" * 40


def spec(version: str | None = "0.20.0", **said: t.Any) -> ServerSpec:
    return from_params({"name": "a", "model": "m", "image": "vllm:1", "vllm_version": version, **said})


def facts(number: int = 1, **held: int) -> dict[str, t.Any]:
    """GPUs of which the containers of these names hold so many MiB each."""
    processes = [{"pid": 1, "used_memory_mib": size, "container": f"vllm-{name}"} for name, size in held.items()]
    used = sum(held.values())
    known = {"memory_total_mib": TOTAL, "memory_used_mib": used, "memory_free_mib": TOTAL - used}
    gpus = [{"index": n, "uuid": f"GPU-{n}", "name": "NVIDIA H100", **known} for n in range(number)]
    return {"status": "ok", "gpus": [{**gpu, "memory_kind": "dedicated", "processes": processes} for gpu in gpus]}


@pytest.fixture
def state(tmp_path: Path) -> str:
    """Where measurements are remembered."""
    return str(tmp_path / "state")


def safetensors(size: int = 1) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"1" * size


CONFIG = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "hidden_size": 256}


def stage(cache: Path, model: str = "m", commit: str = COMMIT, config: t.Any = None) -> Path:
    """Put a model into a Hugging Face cache."""
    repository = cache / "hub" / f"models--{model}"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    (snapshot / "config.json").write_text(json.dumps(config or CONFIG))
    (snapshot / "model.safetensors").write_bytes(safetensors(1 << 20))
    return snapshot


# --- weights --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        pytest.param({"model": "m"}, "m", id="the cache lacks them"),
        pytest.param({"model": "staged"}, "", id="the cache has them"),
        pytest.param(
            {"model": "staged", "engine": {"revision": "other"}}, "staged", id="the cache has another revision"
        ),
        pytest.param({"model": "staged", "engine": {"revision": COMMIT}}, "", id="the cache has the commit"),
        pytest.param({"model": "m", "huggingface_dir": None}, "", id="no cache on the host"),
        pytest.param({"model": "m", "engine": {"load_format": "dummy"}}, "", id="no weights are read"),
        pytest.param({"model": "m", "engine": {"load_format": "runai_streamer"}}, "", id="they are streamed"),
        pytest.param({"model": "m", "engine": {"load_format": "safetensors"}}, "m", id="they are read from files"),
        pytest.param({"model": "m", "engine": {"download_dir": "/d"}}, "", id="they go elsewhere"),
        pytest.param({"model": "s3://bucket/m"}, "", id="they come from elsewhere"),
        pytest.param({"model": "o/m-GGUF:Q4_K_M"}, "", id="one quantization of a GGUF repository"),
    ],
)
def test_what_has_to_be_fetched(said: dict[str, t.Any], missing: str, tmp_path: Path) -> None:
    stage(tmp_path / "hf", "staged")
    found = check_weights(spec(**{"huggingface_dir": str(tmp_path / "hf"), **said}))
    assert (found.problems, found.missing) == ((), missing)


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_server_that_may_not_fetch_needs_its_weights(variable: str, value: str, tmp_path: Path) -> None:
    found = check_weights(spec(huggingface_dir=str(tmp_path), env={variable: value}))
    ((reason, message),) = found.problems
    assert message.startswith("The Hugging Face cache of the host does not hold m, and env has HF_HUB_OFFLINE")
    assert (reason, found.missing) == ("weights-incomplete", "")


def test_a_variable_that_is_off_forbids_nothing(tmp_path: Path) -> None:
    found = check_weights(spec(huggingface_dir=str(tmp_path), env={"HF_HUB_OFFLINE": "0"}))
    assert (found.problems, found.missing) == ((), "m")


@pytest.mark.parametrize(
    ("free_gib", "architecture", "told"),
    [
        (10, {"weights_gib": 13.5}, "The download of m needs 13.50 GiB in {0}, and 10.00 GiB are free there."),
        (20, {"weights_gib": 13.5}, None),
        (0, None, None),
        (0, {"layers_full": 2}, None),
    ],
    ids=["too little", "enough", "nobody knows how much", "the size is not said"],
)
def test_space_for_the_download(
    free_gib: int, architecture: t.Any, told: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deploy_weights, "free_bytes", lambda path: free_gib << 30)
    problems = check_weights(spec(huggingface_dir=str(tmp_path)), architecture).problems
    assert [problem.reason for problem in problems] == (["disk-full"] if told else [])
    assert not told or problems[0].message.startswith(told.replace("{0}", str(tmp_path)))


def test_weights_that_are_there_need_no_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage(tmp_path)
    monkeypatch.setattr(deploy_weights, "free_bytes", lambda path: 0)
    assert check_weights(spec(huggingface_dir=str(tmp_path)), {"weights_gib": 13.5}).problems == ()


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (None, "The model directory {0} does not exist on the host."),
        ({}, "The model directory {0} holds no config.json."),
        ({"config.json": b"{}"}, "The model directory {0} lacks model.safetensors."),
        (
            {"config.json": b"{}", "model.safetensors": safetensors()[:-1]},
            "cannot be loaded from {0}/model.safetensors",
        ),
        ({"config.json": b"{}", "model.safetensors": safetensors()}, None),
        ({"config.json": b"{}", "model.gguf": b"GGUF"}, None),
    ],
    ids=["none", "empty", "no weights", "cut short", "whole", "GGUF"],
)
def test_a_model_directory_has_to_be_whole(files: dict[str, bytes] | None, told: str | None, tmp_path: Path) -> None:
    model = tmp_path / "model"
    if files is not None:
        model.mkdir()
    for name, content in (files or {}).items():
        (model / name).write_bytes(content)
    found = check_weights(spec(model=str(model), huggingface_dir=str(tmp_path / "hf")))
    assert [problem.reason for problem in found.problems] == (["weights-incomplete"] if told else [])
    assert not told or told.replace("{0}", str(model)) in found.problems[0].message
    # A directory is never fetched.
    assert found.missing == ""


def test_what_was_fetched_is_looked_at(tmp_path: Path) -> None:
    server = spec(huggingface_dir=str(tmp_path))
    with pytest.raises(VllmError, match=rf"fetched into {tmp_path}, and they are still incomplete \(missing: e"):
        check_download(server)
    snapshot = stage(tmp_path)
    check_download(server)
    (snapshot / "model.safetensors").write_bytes(safetensors()[:-1])
    with pytest.raises(VllmError, match="model.safetensors: it has"):
        check_download(server)


# --- room -----------------------------------------------------------------------------------------------------------

HALF, MOST = {"gpu_memory_utilization": 0.5}, {"gpu_memory_utilization": 0.7}


def current(**known: t.Any) -> Observed:
    return Observed({"current": Instance(**{"slot": "current", "owned": True, "running": True, **known})}, "sha256:1")


def neighbour(name: str, running: bool = True, conflict: str = "", **said: t.Any) -> Other:
    intent = spec(**{"name": name, **said}).to_dict()
    return Other(f"vllm-{name}", name, running, conflict=conflict, intent=intent)


def examined(
    held: dict[str, int] | None = None,
    others: t.Sequence[Other] = (),
    observed: Observed | None = None,
    server: ServerSpec | None = None,
    state: str | None = "/nowhere",
    gpus: t.Callable[[], t.Any] | None = None,
    **limits: t.Any,
) -> Checked:
    server = server or spec(engine=MOST)
    found = observed or Observed(others=tuple(others), artifact_id="sha256:1")
    return checked(
        Start(
            server,
            Secrets(server, {}),
            found,
            Limits(**limits),
            runs=True,
            gpus=gpus or (lambda: facts(**(held or {}))),
            port_problem=lambda: None,
            state_directory=state,
        )
    )


def verdict(found: Checked) -> t.Mapping[str, t.Any]:
    assert found.preflight.fit is not None
    return found.preflight.fit


def test_a_server_with_room_starts() -> None:
    found = examined()
    assert replace(found.preflight, fit=None) == Preflight(memory_of="of all GPUs")
    assert verdict(found)["verdict"] == "ok"


@pytest.mark.parametrize(
    ("running", "gpus", "gives"),
    [
        pytest.param(True, "all", True, id="one on any GPU"),
        pytest.param(True, ["GPU-1", "GPU-0"], True, id="one on the same GPU"),
        pytest.param(True, ["GPU-5"], False, id="one on another GPU"),
        pytest.param(True, "none", False, id="one without a GPU"),
        pytest.param(False, "all", False, id="one that is stopped"),
    ],
)
def test_which_neighbours_may_make_room(running: bool, gpus: t.Any, gives: bool) -> None:
    other = neighbour("b", running, gpus=gpus)
    found = examined({"b": 40000}, [other], server=spec(engine=MOST, gpus=["GPU-0"])).preflight
    assert found.gives_way == ({"vllm-b": "the GPUs have no room for both"} if gives else {})
    assert bool(found.problems) == (not gives)


def test_a_neighbour_that_may_not_be_stopped_is_named_with_the_reason() -> None:
    found = examined({"b": 40000}, [neighbour("b")], replace_others=False).preflight
    ((reason, message),) = found.problems
    assert reason == "conflicting-server"
    assert message.startswith("It cannot run together with vllm-b (the GPUs have no room for both), and replace_others")


def test_a_neighbour_that_stops_anyway_is_counted_and_keeps_its_reason() -> None:
    found = examined({"b": 40000}, [neighbour("b", conflict="it has port 8000")])
    assert (found.preflight.gives_way, found.preflight.problems) == ({}, ())
    assert verdict(found)["free_mib"] == TOTAL


def test_a_neighbour_whose_record_cannot_be_read_is_not_stopped() -> None:
    found = examined({"b": 40000}, [Other("vllm-b", "b", True)]).preflight
    assert found.gives_way == {} and found.problems


def test_the_old_version_of_the_server_gives_back_what_it_holds() -> None:
    found = examined({"a": 56000}, observed=current())
    assert found.preflight.problems == () and verdict(found)["verdict"] == "ok"


def test_a_refusal_says_what_would_fail_and_how_to_start_all_the_same() -> None:
    found = examined({"x": 40000}).preflight
    ((reason, message),) = found.problems
    assert message.startswith("GPU 0 has 39.1 of 78.1 GiB free, and gpu_memory_utilization 0.7 asks for 54.7")
    assert message.endswith("Set fit: warn to start it anyway.")
    assert (reason, found.failure_id) == ("does-not-fit", "mem-free-below-budget")


def test_a_refusal_that_no_fallback_can_help_leads_to_none() -> None:
    found = examined(server=spec(engine={"tensor_parallel_size": 2})).preflight
    assert found.problems and found.failure_id is None


def test_a_cache_that_is_too_small_leads_to_its_own_fallbacks() -> None:
    known = {"layers_full": 32, "layers_sliding": 0, "sliding_window": 0, "num_key_value_heads": 8, "head_dim": 128}
    server = spec(engine={"max_model_len": 10**6})
    found = examined(server=server, architecture={**known, "weights_gib": 15}).preflight
    assert found.failure_id == "mem-kv-too-small"


def test_the_model_tells_its_architecture_itself(tmp_path: Path) -> None:
    stage(tmp_path)
    found = examined(server=spec(huggingface_dir=str(tmp_path), engine={"max_model_len": 1024}))
    assert verdict(found)["kv_tokens_min"] > 1024


@pytest.mark.parametrize(("gib", "told"), [(90, "does-not-fit"), (40, None)])
def test_the_files_of_a_model_of_another_form_are_held_against_the_memory(
    gib: int, told: str | None, tmp_path: Path
) -> None:
    snapshot = stage(tmp_path, config={**CONFIG, "kv_lora_rank": 512})
    header = safetensors(0).replace(b"[0]", b"[%d]" % (gib << 30)).replace(b"[0, 0]", b"[0, %d]" % (gib << 30))[8:]
    (snapshot / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    os.truncate(snapshot / "model.safetensors", 8 + len(header) + (gib << 30))
    found = examined(server=spec(huggingface_dir=str(tmp_path))).preflight
    assert [problem.reason for problem in found.problems] == ([told] if told else [])
    assert not told or "0.0 GiB are left for the KV cache besides 92.7 GiB of weights" in found.problems[0].message


@pytest.mark.parametrize(
    ("fit", "verdict", "doubts", "waits"),
    [("enforce", "refuse", 0, False), ("warn", "refuse", 1, False), ("off", None, 0, False)],
)
def test_what_is_done_with_a_refusal(fit: str, verdict: str | None, doubts: int, waits: bool) -> None:
    found = examined({"x": 40000}, fit=fit).preflight
    assert (found.fit or {}).get("verdict") == verdict
    assert bool(found.warnings) == bool(doubts) and bool(found.memory_of) == waits
    assert bool(found.problems) == (fit == "enforce")


def test_a_server_without_a_gpu_asks_nobody() -> None:
    def look() -> t.NoReturn:
        raise AssertionError("nvidia-smi was asked")

    found = examined(others=[neighbour("b")], server=spec(gpus="none"), gpus=look, pin_kv="learned")
    assert found == Checked(Preflight())
    # Nor does one whose memory nobody wants to judge.
    assert examined(server=spec(), gpus=look, fit="off") == Checked(Preflight())


def test_a_port_that_is_taken_is_a_problem_beside_all_others() -> None:
    found = examined({"x": 40000})
    start = Start(
        *(spec(engine=MOST), Secrets(spec(), {}), Observed(artifact_id="sha256:1"), Limits()),
        runs=True,
        gpus=lambda: facts(x=40000),
        port_problem=lambda: Problem("port-in-use", "Port 8000 is taken."),
    )
    assert [*found.preflight.problems, ("port-in-use", "Port 8000 is taken.")] == [*checked(start).preflight.problems]


def test_memory_is_waited_for_with_the_same_question() -> None:
    question = examined().question
    assert question is not None
    with pytest.raises(VllmError, match=r"^GPU memory used by vllm-b was not released within 0 s of stopping it."):
        room.wait(question, lambda: facts(x=40000), ["vllm-b"], 0)


@pytest.mark.parametrize(
    ("gpus", "told"), [("none", ""), ("all", "of all GPUs"), (["GPU-1", "GPU-0"], "of GPU-1, GPU-0")], ids=str
)
def test_the_gpus_in_words(gpus: t.Any, told: str) -> None:
    assert memory_words(spec(gpus=gpus)) == told


# --- what earlier starts measured -----------------------------------------------------------------------------------

LOG = "Available KV cache memory: 10.00 GiB\nGPU KV cache size: 80,000 tokens\n"
PIN = {"kv_cache_memory_bytes": str((10 * 1024 - 256) << 20)}
LEARN = {"pin_kv": "learned"}


def remember(state: str, server: ServerSpec, artifact_id: str = "sha256:1", log: str = LOG) -> None:
    found = measurement(server, artifact_id, log, facts, state)
    assert found is not None and found.memory.path == f"{state}/vllm-a.json"
    found.remember("2026-11-26T00:00:00+00:00")


def learned(
    state: str, server: ServerSpec, artifact_id: str = "sha256:1", gpus: t.Any = facts, **limits: t.Any
) -> Preflight:
    observed = Observed(artifact_id=artifact_id)
    return examined(observed=observed, server=server, state=state, gpus=gpus, **(limits or LEARN)).preflight


ELSEWHERE = {"kv_gib": 8.0, "kv_tokens": 64000}


@pytest.mark.parametrize(
    ("carried", "own", "source", "pinned"),
    [
        pytest.param(ELSEWHERE, False, "another host", str((8 * 1024 - 256) << 20), id="a start elsewhere counts"),
        pytest.param({**ELSEWHERE, "host": "h1"}, False, "h1", str((8 * 1024 - 256) << 20), id="one on a known host"),
        pytest.param(ELSEWHERE, True, "this host", PIN["kv_cache_memory_bytes"], id="a start here counts more"),
        pytest.param({"kv_gib": "8", "said": 1}, False, "", None, id="what is no number counts for nothing"),
        pytest.param("junk", False, "", None, id="junk"),
        pytest.param(None, True, "this host", PIN["kv_cache_memory_bytes"], id="nothing was handed over"),
    ],
)
def test_what_another_host_measured_counts_until_this_one_has(
    state: str, carried: t.Any, own: bool, source: str, pinned: str | None
) -> None:
    found = measurement(spec(), "sha256:1", LOG, facts, state)
    assert found is not None
    if own:
        remember(state, spec())
    preflight = learned(state, spec(), learned={found.key: carried}, **LEARN)
    assert (preflight.measured_on, preflight.learned_engine.get("kv_cache_memory_bytes")) == (source, pinned)
    assert learned(state, spec(), learned={"another key": ELSEWHERE}, **LEARN).measured_on == (
        "this host" if own else ""
    )


def test_a_good_start_is_remembered_once_with_its_time(state: str) -> None:
    remember(state, spec())
    (entry,) = json.loads(Path(state, "vllm-a.json").read_text()).values()
    assert entry["measured"] == {"kv_gib": 10.0, "kv_tokens": 80000}
    assert entry["when"].endswith("+00:00")
    assert measurement(spec(), "sha256:1", LOG, facts, state) is None


@pytest.mark.parametrize(
    ("log", "kv_gib"),
    [
        pytest.param("Available KV cache memory: 10.54 GiB\n", 10.54, id="a warm start"),
        pytest.param("Available KV cache memory: 9.50 GiB\n", 10.0, id="one that left less"),
        pytest.param(
            "memory for KV Cache as specified by kv_cache_memory_bytes\nModel loading took 2 GiB\n", 10.0, id="pinned"
        ),
    ],
)
def test_the_better_of_two_starts_is_remembered(log: str, kv_gib: float, state: str) -> None:
    remember(state, spec())
    again = measurement(spec(), "sha256:1", log, facts, state)
    assert (again is not None) == (kv_gib > 10)
    if again:
        again.remember("2026-11-27T00:00:00+00:00")
    (entry,) = json.loads(Path(state, "vllm-a.json").read_text()).values()
    assert entry["measured"]["kv_gib"] == kv_gib
    assert measurement(spec(), "sha256:1", log, facts, state) is None


@pytest.mark.parametrize("log", ["", "INFO: hello\n", "memory for KV Cache as specified by kv_cache_memory_bytes\n"])
def test_a_log_that_measured_nothing_is_not_remembered(log: str, state: str) -> None:
    assert measurement(spec(), "sha256:1", log, facts, state) is None


@pytest.mark.parametrize(
    ("said", "image_id", "same"),
    [
        pytest.param({}, "sha256:1", True, id="the same"),
        pytest.param({"port": 9000, "served_model_name": "x"}, "sha256:1", True, id="where it answers"),
        pytest.param({}, "sha256:2", False, id="another image"),
        pytest.param({"model": "n"}, "sha256:1", False, id="another model"),
        pytest.param({"engine": {"max_model_len": 5}}, "sha256:1", False, id="other settings"),
        pytest.param({"env": {"A": "1"}}, "sha256:1", False, id="another environment"),
        pytest.param({"engine": {"gpu_memory_utilization": 0.5}}, "sha256:1", False, id="another share"),
    ],
)
def test_only_the_same_start_is_pinned(said: dict[str, t.Any], image_id: str, same: bool, state: str) -> None:
    remember(state, spec())
    assert learned(state, spec(**said), image_id).learned_engine == (PIN if same else {})


def test_other_gpus_measure_otherwise(state: str) -> None:
    remember(state, spec())
    several = facts(2)

    def pinned(**said: t.Any) -> t.Mapping[str, str]:
        return learned(state, spec(**said), gpus=lambda: several).learned_engine

    assert pinned() == {}
    assert pinned(gpus=["GPU-1"]) == PIN
    several["gpus"][1]["name"] = "NVIDIA A100"
    assert pinned(gpus=["GPU-1"]) == {}


def test_other_weights_measure_otherwise(state: str, tmp_path: Path) -> None:
    server = spec(huggingface_dir=str(tmp_path / "hf"))
    stage(tmp_path / "hf")
    remember(state, server)
    assert learned(state, server).learned_engine == PIN
    stage(tmp_path / "hf", commit="1" * 40)
    assert learned(state, server).learned_engine == {}


@pytest.mark.parametrize(
    ("version", "said", "params", "engine", "env"),
    [
        pytest.param("0.20.0", {}, LEARN, PIN, {}, id="a version that can be told"),
        pytest.param("0.20.0", {}, {"pin_kv": "never"}, {}, {}, id="not asked for"),
        pytest.param("0.20.0", {}, {**LEARN, "failure_id": "oom"}, {}, {}, id="after a failure"),
        pytest.param("0.20.0", {}, {**LEARN, "fit": "off"}, PIN, {}, id="without the fit gate"),
        pytest.param("0.8.0", {}, LEARN, {}, {}, id="a version that cannot"),
        pytest.param(None, {}, LEARN, {}, {}, id="a version that nobody knows"),
        pytest.param("0.32.0", {}, LEARN, {}, {"VLLM_ENABLE_STARTUP_PLAN": "1"}, id="a version that remembers itself"),
        pytest.param("0.20.0", {"engine": {"kv_cache_memory_bytes": 5}}, LEARN, {}, {}, id="the user said it"),
        pytest.param("0.20.0", {"engine_unchecked": {"kv_cache_memory": 5}}, LEARN, {}, {}, id="unchecked"),
    ],
)  # fmt: skip
def test_what_is_pinned(
    version: str | None,
    said: dict[str, t.Any],
    params: dict[str, t.Any],
    engine: dict[str, str],
    env: dict[str, str],
    state: str,
) -> None:
    # Flags that this version does not have are none of this test's business.
    server = spec(version, **{"validation": "permissive", **said})
    remember(state, server)
    found = learned(state, server, **params)
    assert (found.learned_engine, found.learned_env) == (engine, env)


def test_nothing_is_pinned_before_the_first_start(state: str) -> None:
    found = learned(state, spec())
    assert (found.learned_engine, found.learned_env) == ({}, {})


def test_a_memory_that_is_broken_pins_nothing(state: str) -> None:
    remember(state, spec())
    Path(state, "vllm-a.json").write_text("{broken")
    assert learned(state, spec()).learned_engine == {}


@pytest.mark.parametrize(
    ("known", "renewed"),
    [
        pytest.param({"running": False}, True, id="stopped"),
        pytest.param({"running": True}, False, id="running"),
        pytest.param({"running": False, "is_pinned": True}, False, id="pinned already"),
        pytest.param(None, False, id="none"),
    ],
)
def test_which_server_is_recreated_for_it(known: dict[str, t.Any] | None, renewed: bool, state: str) -> None:
    remember(state, spec())
    observed = Observed(artifact_id="sha256:1") if known is None else current(**known)
    found = examined(observed=observed, server=spec(), state=state, **LEARN).preflight
    assert bool(found.renew) == renewed
    assert examined(observed=observed, server=spec(), state=state).preflight.renew == ""


# --- mounts and encodings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "said", "told"),
    [
        pytest.param([], {"volumes": ["weights:/v"]}, [], id="a volume of the engine"),
        pytest.param(["v"], {"devices": ["{0}/v:/dev/v"]}, [], id="a device"),
        pytest.param(
            [], {"devices": ["{0}/v"]}, ["{0}/v does not exist on the host, and devices names it."], id="no device"
        ),
        pytest.param(["v"], {"volumes": ["{0}/v:/v:ro"]}, [], id="a mount"),
        pytest.param(
            [],
            {"volumes": ["{0}/v:/v", "{0}/w:/w"]},
            ["{0}/v does not exist on the host, and volumes mounts it.", "{0}/w does not exist on the host, and"],
            id="mounts that are missing",
        ),
    ],
)
def test_what_has_to_be_on_the_host(files: list[str], said: dict[str, t.Any], told: list[str], tmp_path: Path) -> None:
    def here(value: t.Any) -> t.Any:
        return [here(one) for one in value] if isinstance(value, list) else value.replace("{0}", str(tmp_path))

    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = examined(server=spec(**{key: here(value) for key, value in said.items()}), fit="off").preflight.problems
    assert len(found) == len(told)
    assert all(problem.message.startswith(here(start)) for problem, start in zip(found, told))


def test_encodings_are_only_looked_for_where_they_are_wanted(tmp_path: Path) -> None:
    assert encodings_problems(spec(None)) == []
    found = encodings_problems(spec(None, encodings_dir=str(tmp_path)))
    assert {problem.reason for problem in found} == {"encodings-missing"}
    assert any(f"{tmp_path}/o200k_base.tiktoken" in problem.message for problem in found)


# --- the port --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("owner", "running", "port", "taken"),
    [
        pytest.param(PortOwner("a process of uid 0", None), True, 8000, False, id="nobody may see who, and it is its own"),
        pytest.param(PortOwner("docker-proxy (PID 9, uid 0)", 9), True, 8000, False, id="the proxy of its container"),
        pytest.param(PortOwner("nginx (PID 9, uid 0)", 9), True, 8000, True, id="a program"),
        pytest.param(PortOwner("a process of uid 0", None), False, 8000, True, id="it does not run"),
        pytest.param(PortOwner("docker-proxy (PID 9, uid 0)", 9), True, 8001, True, id="it has another port"),
    ],
)  # fmt: skip
def test_a_server_between_two_starts_has_its_port(owner: PortOwner, running: bool, port: int, taken: bool) -> None:
    server = spec()
    observed = current(running=running, intent=spec(port=port).to_dict())
    found = port_problem(server, observed, PortView((), owner, (), ("docker-proxy",)), str)
    assert bool(found) == taken
