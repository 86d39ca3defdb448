# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What only matters because a server starts: its weights, the room for it, and what its earlier starts measured."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import (
    history,
    room as deploy_room,
    weights as deploy_weights,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.history import Memory
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import Instance, Observed, Other
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.preflight import (
    Neighbour,
    Start,
    gpus_told,
    learned_file,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ServerSpec, from_params

TOTAL = 80000
COMMIT = "0" * 40
PARAMS = {"fit": "enforce", "pin_kv": "never", "architecture": None, "host_reserve_gib": 8.0, "failure_id": None}


def spec(version: str | None = "0.20.0", **said: t.Any) -> ServerSpec:
    return from_params({"name": "a", "model": "m", "image": "vllm:1", "vllm_version": version, **said})


def facts(number: int = 1, **held: int) -> dict[str, t.Any]:
    """GPUs of which the containers of these names hold so many MiB each."""
    processes = [{"pid": 1, "used_memory_mib": size, "container": f"vllm-{name}"} for name, size in held.items()]
    used = sum(held.values())
    known = {"memory_total_mib": TOTAL, "memory_used_mib": used, "memory_free_mib": TOTAL - used}
    gpus = [{"index": n, "uuid": f"GPU-{n}", "name": "NVIDIA H100", **known} for n in range(number)]
    return {"status": "ok", "gpus": [{**gpu, "memory_kind": "dedicated", "processes": processes} for gpu in gpus]}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A host with one free GPU, and a place to remember things."""
    monkeypatch.setattr(deploy_room, "look", facts)
    monkeypatch.setattr(history, "state_directory", lambda: str(tmp_path / "state"))


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
    start = Start()
    assert start.weigh(spec(**{"huggingface_dir": str(tmp_path / "hf"), **said}), None) == []
    assert start.missing_weights == missing


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_a_server_that_may_not_fetch_needs_its_weights(variable: str, value: str, tmp_path: Path) -> None:
    start = Start()
    (problem,) = start.weigh(spec(huggingface_dir=str(tmp_path), env={variable: value}), None)
    assert problem.startswith("The Hugging Face cache of the host does not hold m, and env has HF_HUB_OFFLINE")
    assert start.missing_weights == ""


def test_a_variable_that_is_off_forbids_nothing(tmp_path: Path) -> None:
    start = Start()
    assert start.weigh(spec(huggingface_dir=str(tmp_path), env={"HF_HUB_OFFLINE": "0"}), None) == []
    assert start.missing_weights == "m"


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
    problems = Start().weigh(spec(huggingface_dir=str(tmp_path)), architecture)
    assert len(problems) == (told is not None)
    assert not told or problems[0].startswith(told.replace("{0}", str(tmp_path)))


def test_weights_that_are_there_need_no_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stage(tmp_path)
    monkeypatch.setattr(deploy_weights, "free_bytes", lambda path: 0)
    assert Start().weigh(spec(huggingface_dir=str(tmp_path)), {"weights_gib": 13.5}) == []


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
    start = Start()
    problems = start.weigh(spec(model=str(model), huggingface_dir=str(tmp_path / "hf")), None)
    assert len(problems) == (told is not None)
    assert not told or told.replace("{0}", str(model)) in problems[0]
    # A directory is never fetched.
    assert start.missing_weights == ""


def test_what_was_fetched_is_looked_at(tmp_path: Path) -> None:
    server, start = spec(huggingface_dir=str(tmp_path)), Start()
    start.weigh(server, None)
    with pytest.raises(VllmError, match=rf"fetched into {tmp_path}, and they are not whole there \(missing: e"):
        start.fetched(server)
    snapshot = stage(tmp_path)
    start.fetched(server)
    (snapshot / "model.safetensors").write_bytes(safetensors()[:-1])
    with pytest.raises(VllmError, match="model.safetensors: it has"):
        start.fetched(server)


# --- room -----------------------------------------------------------------------------------------------------------

HALF, MOST = {"gpu_memory_utilization": 0.5}, {"gpu_memory_utilization": 0.7}


def current(**known: t.Any) -> Observed:
    return Observed({"current": Instance(**{"slot": "current", "owned": True, "running": True, **known})}, "sha256:1")


def neighbour(name: str, **said: t.Any) -> Neighbour:
    return Neighbour(f"vllm-{name}", spec(**{"name": name, "container_name": f"vllm-{name}", **said}))


def examined(
    held: dict[str, int] | None = None,
    others: t.Sequence[Other] = (),
    neighbours: t.Sequence[Neighbour] = (),
    observed: Observed | None = None,
    params: dict[str, t.Any] | None = None,
    engine: t.Any = None,
    gpus: t.Any = "all",
) -> tuple[Start, Observed]:
    start, found = Start(), observed or Observed(others=tuple(others), image_id="sha256:1")
    said, server = {**PARAMS, **(params or {})}, spec(engine=engine or MOST, gpus=gpus)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(deploy_room, "look", lambda: facts(**(held or {})))
        return start, start.examine(said, server, found, neighbours)


def test_a_server_with_room_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    start, observed = examined()
    assert (observed.problems, observed.memory_of, start.misfit, start.doubts) == ((), "of all GPUs", None, [])
    assert start.fit is not None and start.fit["verdict"] == "ok"


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
    other = Other("vllm-b", "b", running)
    _start, observed = examined({"b": 40000}, [other], [neighbour("b", gpus=gpus)], gpus=["GPU-0"])
    assert observed.others[0].conflict == ("the GPUs have no room for both" if gives else "")
    assert bool(observed.problems) == (not gives)


def test_a_neighbour_that_stops_anyway_is_counted_and_keeps_its_reason() -> None:
    other = Other("vllm-b", "b", True, conflict="it has port 8000")
    start, observed = examined({"b": 40000}, [other], [neighbour("b")])
    assert observed.others == (other,) and observed.problems == ()
    assert start.fit is not None and start.fit["free_mib"] == TOTAL


def test_a_neighbour_whose_record_cannot_be_read_is_not_stopped() -> None:
    other = Other("vllm-b", "b", True)
    _start, observed = examined({"b": 40000}, [other], [Neighbour("vllm-b", None)])
    assert observed.others == (other,) and observed.problems


def test_the_old_version_of_the_server_gives_back_what_it_holds() -> None:
    start, observed = examined({"a": 56000}, observed=current())
    assert observed.problems == () and start.fit is not None and start.fit["verdict"] == "ok"


def test_a_refusal_says_what_would_fail_and_how_to_start_all_the_same() -> None:
    start, observed = examined({"x": 40000})
    (problem,) = observed.problems
    assert problem.startswith("GPU 0 has 39.1 of 78.1 GiB free, and gpu_memory_utilization 0.7 asks for 54.7")
    assert problem.endswith("Set fit: warn to start it all the same.")
    assert start.misfit == "mem-free-below-budget"


def test_a_refusal_that_no_rung_can_help_leads_to_none() -> None:
    start, observed = examined(engine={"tensor_parallel_size": 2})
    assert observed.problems and start.misfit is None


def test_a_cache_that_is_too_small_leads_to_its_own_rungs() -> None:
    known = {"layers_full": 32, "layers_sliding": 0, "sliding_window": 0, "num_key_value_heads": 8, "head_dim": 128}
    start, _observed = examined(params={"architecture": {**known, "weights_gib": 15}}, engine={"max_model_len": 10**6})
    assert start.misfit == "mem-kv-too-small"


def test_the_model_tells_its_architecture_itself(tmp_path: Path) -> None:
    stage(tmp_path)
    start, server = Start(), spec(huggingface_dir=str(tmp_path), engine={"max_model_len": 1024})
    start.weigh(server, None)
    start.examine(PARAMS, server, Observed(image_id="sha256:1"), ())
    assert start.fit is not None and start.fit["kv_tokens_min"] > 1024


@pytest.mark.parametrize(
    ("fit", "verdict", "doubts", "waits"),
    [("enforce", "refuse", 0, False), ("warn", "refuse", 1, False), ("off", None, 0, False)],
)
def test_what_is_done_with_a_refusal(fit: str, verdict: str | None, doubts: int, waits: bool) -> None:
    start, observed = examined({"x": 40000}, params={"fit": fit})
    assert (start.fit or {}).get("verdict") == verdict
    assert bool(start.doubts) == bool(doubts) and bool(observed.memory_of) == waits
    assert bool(observed.problems) == (fit == "enforce")


def test_a_server_without_a_gpu_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    def look() -> t.NoReturn:
        raise AssertionError("nvidia-smi was asked")

    monkeypatch.setattr(deploy_room, "look", look)
    start, found = Start(), Observed(image_id="sha256:1", others=(Other("vllm-b", "b", True),))
    assert start.examine({**PARAMS, "pin_kv": "learned"}, spec(gpus="none"), found, [neighbour("b")]) == found
    assert start.fit is None
    start.wait(0, ["vllm-b"])
    # Nor does one whose memory nobody wants to judge.
    assert Start().examine({**PARAMS, "fit": "off"}, spec(), found, ()) == found


def test_memory_is_waited_for_with_the_same_question(monkeypatch: pytest.MonkeyPatch) -> None:
    start, _observed = examined()
    monkeypatch.setattr(deploy_room, "look", lambda: facts(x=40000))
    with pytest.raises(VllmError, match=r"^The memory of what was stopped \(vllm-b\) is not back after 0 s."):
        start.wait(0, ["vllm-b"])


@pytest.mark.parametrize(
    ("gpus", "told"), [("none", ""), ("all", "of all GPUs"), (["GPU-1", "GPU-0"], "of GPU-1, GPU-0")], ids=str
)
def test_the_gpus_in_words(gpus: t.Any, told: str) -> None:
    assert gpus_told(spec(gpus=gpus)) == told


# --- what earlier starts measured -----------------------------------------------------------------------------------

LOG = "Available KV cache memory: 10.00 GiB\nGPU KV cache size: 80,000 tokens\n"
PIN = {"kv_cache_memory_bytes": str((10 * 1024 - 256) << 20)}
LEARN = {**PARAMS, "pin_kv": "learned"}


def remember(server: ServerSpec, image_id: str = "sha256:1", log: str = LOG) -> None:
    start = Start()
    assert start.to_remember(server, image_id, log) == learned_file("vllm-a")
    start.remember()


def learned(server: ServerSpec, params: t.Mapping[str, t.Any] | None = None, image_id: str = "sha256:1") -> Start:
    start = Start()
    start.weigh(server, None)
    start.examine(params or LEARN, server, Observed(image_id=image_id), ())
    return start


def test_a_good_start_is_remembered_once_with_its_time(tmp_path: Path) -> None:
    remember(spec())
    (entry,) = json.loads((tmp_path / "state" / "vllm-a.json").read_text()).values()
    assert entry["measured"] == {"kv_gib": 10.0, "kv_tokens": 80000}
    assert entry["when"].endswith("+00:00")
    assert Start().to_remember(spec(), "sha256:1", LOG) is None


@pytest.mark.parametrize("log", ["", "INFO: hello\n", "memory for KV Cache as specified by kv_cache_memory_bytes\n"])
def test_a_log_that_measured_nothing_is_not_remembered(log: str, tmp_path: Path) -> None:
    start = Start()
    assert start.to_remember(spec(), "sha256:1", log) is None
    start.remember()
    assert not (tmp_path / "state").exists()


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
def test_only_the_same_start_is_pinned(said: dict[str, t.Any], image_id: str, same: bool) -> None:
    remember(spec())
    assert learned(spec(**said), image_id=image_id).engine == (PIN if same else {})


def test_other_gpus_measure_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    remember(spec())
    several = facts(2)
    monkeypatch.setattr(deploy_room, "look", lambda: several)
    assert learned(spec()).engine == {}
    assert learned(spec(gpus=["GPU-1"])).engine == PIN
    several["gpus"][1]["name"] = "NVIDIA A100"
    assert learned(spec(gpus=["GPU-1"])).engine == {}


def test_other_weights_measure_otherwise(tmp_path: Path) -> None:
    server = spec(huggingface_dir=str(tmp_path / "hf"))
    stage(tmp_path / "hf")
    remember(server)
    assert learned(server).engine == PIN
    stage(tmp_path / "hf", commit="1" * 40)
    assert learned(server).engine == {}


@pytest.mark.parametrize(
    ("version", "said", "params", "engine", "env"),
    [
        pytest.param("0.20.0", {}, LEARN, PIN, {}, id="a version that can be told"),
        pytest.param("0.20.0", {}, PARAMS, {}, {}, id="not asked for"),
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
) -> None:
    server = spec(version, **said)
    remember(server)
    start = learned(server, params)
    assert (start.engine, start.env) == (engine, env)


def test_nothing_is_pinned_before_the_first_start() -> None:
    start = learned(spec())
    assert (start.engine, start.env) == ({}, {})


def test_a_memory_that_is_broken_pins_nothing(tmp_path: Path) -> None:
    remember(spec())
    (tmp_path / "state" / "vllm-a.json").write_text("{broken")
    assert learned(spec()).engine == {}
    assert Memory("vllm-a").path == learned_file("vllm-a")


@pytest.mark.parametrize(
    ("known", "renewed"),
    [
        pytest.param({"running": False}, True, id="stopped"),
        pytest.param({"running": True}, False, id="running"),
        pytest.param({"running": False, "is_pinned": True}, False, id="pinned already"),
        pytest.param(None, False, id="none"),
    ],
)
def test_which_server_is_made_anew_for_it(known: dict[str, t.Any] | None, renewed: bool) -> None:
    remember(spec())
    observed = Observed(image_id="sha256:1") if known is None else current(**known)
    found = Start().examine(LEARN, spec(), observed, ())
    assert bool(found.renew) == renewed
    assert Start().examine(PARAMS, spec(), observed, ()).renew == ""
