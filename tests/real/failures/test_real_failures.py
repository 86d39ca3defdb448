# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures of a real vLLM, made on purpose: each is named by its id, soon after vLLM said or did what tells.

Soon is so many looks at its log, which are two seconds of an idle machine: a busy one looks less often, not later."""

from __future__ import annotations

import pathlib
import signal
import subprocess
import threading
import time
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.watch import LOG_INTERVAL
from conftest import EAGER, SERVE, Server, Start, Waiting, docker, is_free
from hub import serve

SOON = round(2.0 / LOG_INTERVAL)


@pytest.fixture
def lag(record_property: t.Callable[[str, t.Any], None], capsys: pytest.CaptureFixture[str]) -> t.Callable[..., None]:
    """lag(server, event, told): it was told within few looks after the event. The figures are shown."""

    def check(server: Server, event: float, told: float) -> None:
        looks = len([look for look in server.looks if event < look <= told])
        record_property("lag", round(told - event, 2))
        with capsys.disabled():
            print(f"told {told - event:.2f} s and {looks} looks after the event ", end="")
        assert looks <= SOON

    return check


Lag = t.Callable[[Server, float, float], None]

AT_ONCE = [
    ("flag", [*SERVE, "--attn-impl", "x"], "/models/tiny", "args-unrecognized", "leave it out", 2),
    ("choice", [*SERVE, "--kv-cache-dtype", "bf16"], "/models/tiny", "args-invalid-choice", "bfloat16 or auto", 2),
    ("nomodel", SERVE, "/models/nothing", "hf-repo-not-found", "mounted into the container", 1),
]


@pytest.mark.parametrize(
    ("name", "arguments", "model", "id", "remedy", "status"), AT_ONCE, ids=[case[0] for case in AT_ONCE]
)
def test_a_start_that_cannot_be(
    name: str, arguments: list[str], model: str, id: str, remedy: str, status: int, start: Start, lag: Lag
) -> None:
    server = start(name, *arguments, model=model)
    result = server.wait()
    # The cause is often told before the process has ended.
    returned = time.time()
    lag(server, server.ended_at(result["diagnosis"]["evidence"][:40]), returned)
    assert (result["healthy"], result["diagnosis"]["id"]) == (False, id)
    assert remedy in result["diagnosis"]["remedy"]
    assert result["diagnosis"]["evidence"] in result["msg"]
    docker("wait", server.name)
    assert server.diagnose()["state"]["exit_status"] == status


def test_a_disk_that_fills_up_while_weights_are_downloaded(material: pathlib.Path, start: Start, lag: Lag) -> None:
    port = next(port for port in range(18300, 18400) if is_free(port))
    hub = serve(port, str(material / "model"), rate=30e6)
    threading.Thread(target=hub.serve_forever, daemon=True).start()
    environment = {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HUB_DISABLE_XET": "1", "HF_HOME": "/hf"}
    options = [word for key, value in environment.items() for word in ("--env", f"{key}={value}")]
    server = start(
        "disk", *EAGER, "--port", "18399", model="demo/model",
        options=[*options, "--network", "host", "--tmpfs", "/hf:size=60m"],
    )  # fmt: skip
    result = server.wait(url="http://127.0.0.1:18399")
    hub.shutdown()
    hub.server_close()
    assert result["diagnosis"]["id"] == "disk-full"
    assert "download" in [phase["name"] for phase in result["phases"]]
    lag(server, server.wrote_at("No space left on device"), time.time())


def test_a_worker_that_is_killed_while_it_loads(start: Start, lag: Lag) -> None:
    server = start("early", *EAGER)
    waiting = Waiting(server)
    until = time.time() + 120
    while not server.processes("VLLM::Worker") and time.time() < until:
        time.sleep(0.2)
    server.signal("VLLM::Worker", signal.SIGKILL)
    result = waiting.end()
    assert result["healthy"] is False
    # From when its engine noticed: how long that takes is vLLM's own affair.
    lag(server, server.wrote_at(result["diagnosis"]["evidence"].split("\n")[0][:40]), waiting.returned)
    assert result["diagnosis"]["id"] in ("worker-died", "worker-init-failed", "engine-start-failed"), result["msg"]
    docker("wait", server.name)
    assert server.diagnose()["state"]["exit_status"] == 1


# --- one server that serves, and what can happen to it ----------------------------------------------------------------


@pytest.fixture(scope="module")
def serving(start: Start) -> Server:
    server = start("serving", *EAGER)
    result = server.wait()
    assert result["healthy"], result["msg"]
    assert [phase["name"] for phase in result["phases"]][:2] == ["init", "load"]
    return server


def test_a_healthy_server_has_no_diagnosis(serving: Server) -> None:
    found = serving.diagnose()
    assert (found["diagnosis"]["id"], found["phase"], found["state"]["running"]) == ("none", "ready", True)
    assert found["versions"]["vllm"] == "0.32.0"


def test_a_port_that_is_taken(serving: Server) -> None:
    """A second server beside the first. Versions 0.7.3 to 0.24 would start, and share the port."""
    command = ["docker", "exec", serving.name, "vllm", "serve", "/models/tiny", "--port", "8000"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
    from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import diagnose

    found = diagnose(done.stdout.decode(), ProcessState(False, done.returncode))
    assert (found.id, done.returncode) == ("port-in-use", 1)
    assert "sport = :8000" in found.remedy


def test_a_worker_that_is_stopped(serving: Server, lag: Lag) -> None:
    """It stays healthy as far as /health knows, and answers nothing."""
    waiting_from = serving.signal("VLLM::Worker", signal.SIGSTOP)
    try:
        result = serving.wait()
        lag(serving, waiting_from, time.time())
        assert (result["healthy"], result["diagnosis"]["id"]) == (False, "shm-broadcast-stall")
        assert [check["ok"] for check in result["checks"]][:2] == [True, True]
        assert "VLLM::Worker" in result["diagnosis"]["evidence"]
        assert serving.diagnose()["diagnosis"]["id"] == "shm-broadcast-stall"
    finally:
        serving.signal("VLLM::Worker", signal.SIGCONT)
    assert serving.wait()["healthy"]


def test_a_worker_that_is_killed_while_it_serves(serving: Server, lag: Lag) -> None:
    killed = serving.signal("VLLM::Worker", signal.SIGKILL)
    found = serving.diagnose()
    while found["diagnosis"]["id"] == "none" and time.time() < killed + 20:
        time.sleep(0.1)
        found = serving.diagnose()
    told = time.time()
    assert found["diagnosis"]["id"] == "worker-died"
    lag(serving, serving.wrote_at("died unexpectedly"), told)
    docker("wait", serving.name)
    # vLLM leaves with status 0 when its engine died.
    after = serving.diagnose()
    assert (after["diagnosis"]["id"], after["state"]["exit_status"]) == ("worker-died", 0)


# --- servers that start, are healthy by /health, and fail the first completion ----------------------------------------


def test_an_engine_that_dies_of_the_first_completion(start: Start, lag: Lag) -> None:
    server = start("dying", *EAGER, model="/models/dying")
    result = server.wait()
    lag(server, server.wrote_at("Unsupported CPU attention configuration"), time.time())
    assert [check["name"] for check in result["checks"]] == ["health", "models", "completion"]
    assert (result["healthy"], result["diagnosis"]["id"]) == (False, "engine-dead")
    assert "head_dim=16" in result["diagnosis"]["cause"]


def test_a_vocabulary_that_is_missing(start: Start, lag: Lag) -> None:
    """vLLM 0.32 reads it with the first request; 0.10.1 to 0.30 did so at the start."""
    server = start("vocabulary", *EAGER, options=["--env", "TIKTOKEN_ENCODINGS_BASE=/etc/empty"])
    result = server.wait()
    lag(server, server.wrote_at("HarmonyError"), time.time())
    assert (result["healthy"], result["diagnosis"]["id"]) == (False, "harmony-vocab-missing-file")
    assert "role tiktoken_encodings" in result["diagnosis"]["remedy"]
