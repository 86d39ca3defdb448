# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests rely on in the stand-in for vLLM. It runs here as a plain process, without a container."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.weights import find
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.container import FETCH_PROGRAM
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.check import Expected, asker, look
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.probe import probe
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.arguments import argv
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import from_params
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import of_config
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.measurements import measured

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from free_ports import free_ports  # noqa: E402

STANDIN = Path(__file__).parent / "standin"
VLLM = STANDIN / "usr/local/bin/vllm"
MODEL = "Qwen/Qwen2.5-0.5B-Instruct"
Start = t.Callable[..., "Run"]


@dataclass
class Run:
    """A stand-in that was started."""

    process: subprocess.Popen[bytes]
    port: int
    cache: Path
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text(encoding="utf-8")

    def request(self, path: str, body: t.Any = None, key: str = "", timeout: float = 5) -> tuple[int, t.Any]:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=timeout) as answer:
                status, text = answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            status, text = error.code, error.read().decode()
        return status, json.loads(text) if text.startswith("{") else text

    def chat(self, limit: int = 64, **more: t.Any) -> tuple[int, t.Any]:
        messages = [{"role": "user", "content": "Say hello"}]
        return self.request("/v1/chat/completions", {"messages": messages, "max_tokens": limit}, **more)

    def message(self, limit: int = 64) -> t.Any:
        return self.chat(limit)[1]["choices"][0]["message"]

    def wait_ready(self) -> Run:
        for _turn in range(1500):
            if "startup complete" in self.log:
                return self
            time.sleep(0.02)
        raise AssertionError(f"not ready:\n{self.log}")

    def set_fault(self, **fault: t.Any) -> None:
        self.cache.joinpath("standin.json").write_text(json.dumps(fault), encoding="utf-8")

    @property
    def engine(self) -> int:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return int(children.split()[0])


@pytest.fixture(name="start")
def _start(tmp_path: Path) -> t.Iterator[Start]:
    runs: list[Run] = []

    def start(*words: str, version: str = "0.10.1.1", load: float = 0, port: int = 0, **env: str) -> Run:
        port = port or free_ports()[0]
        options = ("--served-model-name", "m", "--port", str(port))
        log_file = tmp_path / f"log{len(runs)}"
        settings = {"VLLM_VERSION": version, "HF_HOME": str(tmp_path), "STANDIN_LOAD_SECONDS": str(load), **env}
        command = [sys.executable, str(VLLM), "serve", *(words or (MODEL,)), *options]
        with log_file.open("wb") as log:
            process = subprocess.Popen(
                command,
                env={**os.environ, "STANDIN_WATCHDOG_SECONDS": "0.2", **settings},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        runs.append(Run(process, port, tmp_path, log_file))
        return runs[-1]

    yield start
    for run in runs:
        # With its engine, which a server that is killed leaves behind for a moment, or for ever where a test stopped it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.process.pid, signal.SIGKILL)
        run.process.wait()


@pytest.mark.parametrize(
    ("engine", "task"),
    [
        pytest.param({"runner": "pooling"}, "embedding", id="a server that embeds"),
        pytest.param({"uds": "{0}/api.sock"}, "completion", id="a Unix socket"),
        pytest.param({"ssl_certfile": "{0}/c.pem", "ssl_keyfile": "{0}/k.pem"}, "completion", id="TLS"),
        pytest.param(
            {"runner": "pooling", "ssl_certfile": "{0}/c.pem", "ssl_keyfile": "{0}/k.pem"}, "embedding", id="both"
        ),
    ],
)
def test_a_server_is_asked_as_its_description_says(
    engine: dict[str, str], task: str, start: Start, tmp_path: Path
) -> None:
    engine = {key: value.format(tmp_path) for key, value in engine.items()}
    if "ssl_certfile" in engine:
        paths = ["-keyout", engine["ssl_keyfile"], "-out", engine["ssl_certfile"]]
        request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=llm.example.com", *paths]
        subprocess.run(request, check=True, capture_output=True)
    port = free_ports()[0]
    server = from_params({"model": MODEL, "served_model_name": "m", "port": port, "venv": "/v", "engine": engine})
    start(MODEL, *argv(server)[5:], version="0.26.0", port=port).wait_ready()
    found = probe({"url": server.url, "served_model_name": "m", **server.access})
    assert [(one["name"], one["ok"]) for one in found["checks"]] == [("health", True), ("models", True), (task, True)]


@pytest.mark.parametrize(
    ("version", "words", "message"),
    [
        ("0.10.1.1", ["--attn-impl", "x"], "vllm: error: unrecognized arguments: --attn-impl x"),
        (
            "0.10.1.1",
            ["--kv-cache-memory-bytes", "1"],
            "vllm: error: unrecognized arguments: --kv-cache-memory-bytes 1",
        ),
        ("0.17.0", ["--disable-log-requests"], "vllm: error: unrecognized arguments: --disable-log-requests"),
        ("0.10.1.1", ["--enforce-eager", "stray"], "vllm: error: unrecognized arguments: stray"),
        (
            "0.10.1.1",
            ["--kv-cache-dtype", "bf16"],
            "argument --kv-cache-dtype: invalid choice: 'bf16' (choose from 'auto'",
        ),
        ("0.10.1.1", ["--kv-cache-dtype", "bfloat16"], "argument --kv-cache-dtype: invalid choice: 'bfloat16'"),
        ("0.10.1.1", ["--gpu-memory-utilization", "much"], "invalid float value: 'much'"),
        ("0.10.1.1", ["--max-model-len"], "argument --max-model-len: expected one argument"),
    ],
)
def test_wrong_arguments_end_with_status_2(start: Start, version: str, words: list[str], message: str) -> None:
    run = start(MODEL, *words, version=version)
    assert run.process.wait(30) == 2
    assert message in run.log


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("0.10.2", ["--kv-cache-memory-bytes", "1"]),
        ("0.16.0", ["--disable-log-requests"]),
        ("0.11.0", ["--kv-cache-dtype", "bfloat16", "--max_model_len=32K", "-tp", "2"]),
        ("0.14.0", ["--max-model-len", "-1", "--no-enable-prefix-caching", "--gpu-memory-util", "0.5"]),
    ],
)
def test_arguments_of_the_version_are_taken(start: Start, version: str, words: list[str]) -> None:
    run = start(MODEL, *words, version=version).wait_ready()
    assert run.request("/version") == (200, {"version": version})


def test_a_connection_is_refused_until_the_model_is_loaded(start: Start) -> None:
    run = start(load=1)
    seen = set()
    while "startup complete" not in run.log:
        with socket.socket() as probe:
            seen.add(probe.connect_ex(("127.0.0.1", run.port)))
        time.sleep(0.02)
    assert 111 in seen
    assert run.request("/health") == (200, "")


def test_it_answers_as_vllm_does(start: Start, tmp_path: Path) -> None:
    run = start(MODEL, "--max-model-len", "32K").wait_ready()
    status, models = run.request("/v1/models")
    assert (status, [(m["id"], m["root"], m["max_model_len"]) for m in models["data"]]) == (200, [("m", MODEL, 32768)])
    assert run.message()["content"].startswith("Hello!")
    assert 'vllm:generation_tokens_total{engine="0",model_name="m"} 12.0' in run.request("/metrics")[1]
    assert run.request("/v1/chat/completions", {"model": "other", "messages": []})[0] == 404
    assert "(APIServer pid=" in run.log and "(EngineCore_0 pid=" in run.log
    run.process.terminate()
    assert run.process.wait(30) == 0


def test_the_key_guards_v1_only(start: Start) -> None:
    run = start(VLLM_API_KEY="s3cret").wait_ready()
    assert run.request("/v1/models") == (401, {"error": "Unauthorized"})
    assert run.request("/v1/models", key="s3cret")[0] == 200
    assert run.request("/health")[0] == 200


def test_gpt_oss_thinks_before_it_answers(start: Start, encodings: str) -> None:
    run = start("openai/gpt-oss-120b", TIKTOKEN_ENCODINGS_BASE=encodings).wait_ready()
    brief, full = run.message(3), run.message(64)
    assert (brief["content"], brief["reasoning_content"]) == (None, "The user greets.")
    assert full["content"] and full["reasoning_content"]


@pytest.fixture(name="encodings")
def _encodings() -> str:
    directory = Path(__file__).parents[3] / ".cache/demo/encodings-source"
    if not (directory / "o200k_base.tiktoken").exists():
        pytest.fail(f"there is no o200k_base.tiktoken in {directory}; run tests/rig/encodings first")
    return str(directory)


@pytest.mark.parametrize(
    ("version", "prepared", "message"),
    [
        ("0.10.1.1", None, "HarmonyError: error downloading or loading vocab file"),
        ("0.10.1.1", {}, "HarmonyError: invalid tiktoken vocab file: No such file or directory (os error 2)"),
        (
            "0.10.1.1",
            {"o200k_base.tiktoken": "short"},
            "HarmonyError: invalid tiktoken vocab file: hash mismatch: computed=f9b",
        ),
        ("0.31.0", {}, "HarmonyError: invalid tiktoken vocab file: No such file or directory (os error 2)"),
    ],
)
def test_gpt_oss_without_its_vocabulary(
    start: Start, tmp_path: Path, version: str, prepared: dict[str, str] | None, message: str
) -> None:
    env = {} if prepared is None else {"TIKTOKEN_ENCODINGS_BASE": str(tmp_path)}
    for name, text in (prepared or {}).items():
        tmp_path.joinpath(name).write_text(text, encoding="ascii")
    run = start("openai/gpt-oss-120b", version=version, **env)
    assert run.process.wait(30) == 1
    assert message in run.log


def test_a_new_version_needs_no_vocabulary(start: Start) -> None:
    assert start("openai/gpt-oss-120b", version="0.31.0").wait_ready().message()["reasoning"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("google/gemma-3-27b-it",), "OSError: You are trying to access a gated repo."),
        (("/no/model",), "OSError: /no/model is not a local folder"),
    ],
)
def test_a_model_out_of_reach(start: Start, words: tuple[str, ...], message: str) -> None:
    run = start(*words)
    assert run.process.wait(30) == 1
    assert message in run.log


def test_gemma_has_no_mxfp4_then(start: Start) -> None:
    run = start("google/gemma-3-27b-it", "--quantization", "mxfp4", HF_TOKEN="hf_x")
    assert run.process.wait(30) == 1
    assert "NotImplementedError: Mxfp4 linear layer is not implemented" in run.log


# Weights and memory


def fetch(cache: Path, model: str = MODEL, **fault: t.Any) -> subprocess.CompletedProcess[str]:
    """Run what the collection runs to fetch weights."""
    cache.joinpath("standin.json").write_text(json.dumps(fault), encoding="utf-8")
    environment = {**os.environ, "HF_HOME": str(cache), "PYTHONPATH": str(STANDIN / "usr/lib/python3/dist-packages")}
    command = [sys.executable, "-c", FETCH_PROGRAM, model, ""]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("openai/gpt-oss-120b", {"layers_full": 18, "layers_sliding": 18, "sliding_window": 128, "head_dim": 64}),
        ("openai/gpt-oss-20b", {"layers_full": 12, "layers_sliding": 12, "num_key_value_heads": 8}),
        ("Qwen/Qwen2.5-0.5B-Instruct", {"layers_full": 24, "layers_sliding": 0, "num_key_value_heads": 2}),
    ],
)
def test_fetched_weights_are_whole_and_have_the_numbers_of_the_model(
    tmp_path: Path, model: str, expected: dict[str, int]
) -> None:
    assert fetch(tmp_path, model).stdout.startswith(f"stand-in: {model} (main) is in ")
    found = find(model, str(tmp_path))
    assert found.complete
    told = of_config(found.config, found.weights_bytes)
    assert told and expected.items() <= told.items()


def test_a_fetch_can_fail(tmp_path: Path) -> None:
    done = fetch(tmp_path, fault="fetch-fails")
    assert done.returncode == 1
    assert "Please check your internet connection and try again." in done.stderr.splitlines()[-1]
    assert not find(MODEL, str(tmp_path)).present


def test_a_fetch_can_be_cut_short(tmp_path: Path) -> None:
    assert fetch(tmp_path, fault="fetch-truncates").returncode == 0
    assert "model.safetensors" in find(MODEL, str(tmp_path)).damaged[0]


def test_a_gated_model_is_not_fetched_without_a_token(tmp_path: Path) -> None:
    done = fetch(tmp_path, "google/gemma-3-27b-it")
    assert (done.returncode, "Access to model google/gemma-3-27b-it is restricted" in done.stderr) == (1, True)


def test_a_server_fetches_what_the_cache_lacks(start: Start, tmp_path: Path) -> None:
    start().wait_ready()
    assert find(MODEL, str(tmp_path)).complete
    failed = start("openai/gpt-oss-20b", STANDIN_FAULT="fetch-fails")
    assert failed.process.wait(30) == 1
    assert "LocalEntryNotFoundError" in failed.log


@pytest.mark.parametrize(
    ("version", "words", "kv_gib", "more"),
    [
        ("0.10.1.1", [], 62.38, {"graphs_gib": 0.5}),
        (
            "0.10.2",
            [],
            62.38,
            {"activation_gib": 0.46, "non_torch_gib": 0.21, "kv_cache_memory_bytes": int(61.77 * 2**30)},
        ),
        (
            "0.26.0",
            [],
            61.88,
            {"activation_gib": 0.46, "non_torch_gib": 0.21, "kv_cache_memory_bytes": int(61.27 * 2**30)},
        ),
        ("0.26.0", ["--enforce-eager"], 62.38, {"graphs_gib": 0.0}),
        ("0.26.0", ["--tensor-parallel-size", "2"], 62.35, {"weights_gib": 0.47}),
    ],
)
def test_memory_is_logged_so_that_it_can_be_learned(
    start: Start, version: str, words: list[str], kv_gib: float, more: dict[str, float]
) -> None:
    run = start(MODEL, "--gpu-memory-utilization", "0.8", *words, version=version).wait_ready()
    told = measured(run.log)
    assert told["kv_gib"] == kv_gib
    assert told["kv_tokens"] == pytest.approx(kv_gib * 2**30 / (12288 / (2 if "2" in words else 1)), rel=1e-3)
    assert more.items() <= told.items()


# Ports


def test_a_port_can_be_shared_before_0_25(start: Start) -> None:
    first = start(version="0.24.0").wait_ready()
    assert start(version="0.24.0", port=first.port).wait_ready().process.poll() is None


def test_a_port_is_taken_since_0_25(start: Start) -> None:
    first = start(version="0.25.0").wait_ready()
    second = start(version="0.25.0", port=first.port)
    assert second.process.wait(30) == 1
    assert "OSError: [Errno 98] Address already in use" in second.log


# Faults


def test_exit_at_once(start: Start) -> None:
    run = start(STANDIN_FAULT="exit-at-once")
    assert run.process.wait(30) == 1
    root, symptom = (
        run.log.index("ValueError: Free memory on device"),
        run.log.index("Engine core initialization failed"),
    )
    assert root < symptom


def test_exit_at_once_with_a_cause_and_a_status(start: Start, tmp_path: Path) -> None:
    fault = {"fault": "exit-at-once", "message": "RuntimeError: the cause", "status": 7}
    tmp_path.joinpath("standin.json").write_text(json.dumps(fault), encoding="utf-8")
    run = start()
    assert run.process.wait(30) == 7
    assert "RuntimeError: the cause" in run.log


def test_exit_after(start: Start) -> None:
    run = start(STANDIN_FAULT="exit-after:0.5").wait_ready()
    assert run.chat()[0] == 200
    # As with vLLM, an engine that dies is not an error of the API server.
    assert run.process.wait(30) == 0
    assert "EngineDeadError" in run.log


def test_hang_in_load(start: Start) -> None:
    run = start(STANDIN_FAULT="hang-in-load")
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(1.5)
    assert "Starting to load model" in run.log and "Model loading took" not in run.log
    run.process.terminate()
    assert run.process.wait(30) == 0


def test_slow_load(start: Start) -> None:
    began = time.monotonic()
    start(STANDIN_FAULT="slow-load:1").wait_ready()
    assert time.monotonic() - began > 1


def test_health_500(start: Start) -> None:
    run = start(STANDIN_FAULT="health-500").wait_ready()
    assert run.request("/health")[0] == 500
    assert run.chat()[0] == 200


def test_hang_completion(start: Start) -> None:
    run = start(STANDIN_FAULT="hang-completion").wait_ready()
    with pytest.raises(TimeoutError):
        run.chat(timeout=0.5)
    assert run.request("/health")[0] == 200
    assert 'vllm:num_requests_running{engine="0",model_name="m"} 1.0' in run.request("/metrics")[1]


@pytest.mark.parametrize(("fault", "content"), [("repeated-token", "!!!!!!!!"), ("null-content", None)])
def test_answers_that_are_none(start: Start, fault: str, content: str | None) -> None:
    message = start(STANDIN_FAULT=fault).wait_ready().message(8)
    assert (message["content"], message["reasoning_content"]) == (content, None)


def test_wrong_model_name(start: Start) -> None:
    run = start(STANDIN_FAULT="wrong-model-name").wait_ready()
    assert run.request("/v1/models")[1]["data"][0]["id"] == "some-other-model"


def test_die_on_first_completion(start: Start) -> None:
    run = start(STANDIN_FAULT="die-on-first-completion").wait_ready()
    assert run.request("/health")[0] == 200
    assert run.chat()[0] == 500
    assert run.process.wait(30) == 0
    assert "CUDA error: an illegal memory access" in run.log


def test_ignore_sigterm(start: Start) -> None:
    run = start(STANDIN_FAULT="ignore-sigterm").wait_ready()
    run.process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        run.process.wait(0.5)


def test_a_fault_comes_and_goes_with_the_file(start: Start) -> None:
    run = start().wait_ready()
    run.set_fault(fault="health-500")
    assert run.request("/health")[0] == 500
    run.set_fault(fault="health-500", only_with="--served-model-name another")
    assert run.request("/health")[0] == 200


def test_a_misspelt_fault_is_refused(start: Start) -> None:
    run = start(STANDIN_FAULT="explode")
    assert run.process.wait(30) == 1
    assert "explode is unknown; the faults are exit-at-once" in run.log


@pytest.mark.parametrize(("version", "status"), [("0.10.1.1", 500), ("0.11.0", 503)])
def test_a_killed_engine(start: Start, version: str, status: int) -> None:
    run = start(version=version, STANDIN_WATCHDOG_SECONDS="1").wait_ready()
    os.kill(run.engine, signal.SIGKILL)
    time.sleep(0.2)
    assert run.request("/health")[0] == status
    assert run.process.wait(30) == 0


def test_a_stopped_engine_hangs_behind_a_healthy_server(start: Start) -> None:
    run = start().wait_ready()
    os.kill(run.engine, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        run.chat(timeout=0.5)
    assert run.request("/health")[0] == 200
    os.kill(run.engine, signal.SIGKILL)


@pytest.mark.parametrize(
    ("words", "env", "missing"),
    [
        pytest.param(["--weight-transfer-config", '{"backend":"nccl"}'], {"VLLM_SERVER_DEV_MODE": "1"}, "", id="ready"),
        pytest.param([], {"VLLM_SERVER_DEV_MODE": "1"}, "it has no weight-transfer engine", id="no engine for weights"),
        pytest.param([], {}, "/server_info answers HTTP 404", id="no development endpoints"),
    ],
)
def test_a_server_for_a_trainer(start: Start, words: list[str], env: dict[str, str], missing: str) -> None:
    flags = ["--logprobs-mode", "processed_logprobs", "--max-logprobs", "-1", *words]
    run = start(MODEL, *flags, version="0.26.0", **env).wait_ready()
    seen = look(asker(f"http://127.0.0.1:{run.port}", 5), Expected("m", "0.26.0"))
    assert [sentence.startswith(missing) for sentence in seen.missing] == ([True] if missing else [])
