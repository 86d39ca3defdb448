# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A call of the module as a whole, without Ansible: a wait and its result, and a server that is asked once."""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reader import Identity
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.source import ContainerSource
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health import session
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.logfile import FileSource
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.probe import (
    cause_sentence,
    probe,
    tokens_per_second,
    typed,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.wait import CheckResult, Report
from api_server import Handler, address, healthy, params

__all__ = ["address", "healthy"]


def report(
    failure: str, *checks: CheckResult, attempts: int = 7, exited: bool = False, timeout: float | None = None
) -> Report:
    return Report(False, checks, "", 1.0, attempts, failure, exited, timeout=timeout)


FINE = CheckResult("health", True, "HTTP 200", 0.1)
BAD = CheckResult("models", False, "the list of models is empty", 0.1)


@pytest.mark.parametrize(
    ("seen", "sentence"),
    [
        pytest.param(
            report("not healthy within 60 s", FINE, BAD, timeout=60),
            "The server at http://h did not become healthy within 60 s (7 attempts). Last check (models): the list of "
            "models is empty.",
            id="the time is up",
        ),
        pytest.param(
            report("the list of models is empty", FINE, BAD, attempts=1),
            "The server at http://h is not healthy (1 attempt). Last check (models): the list of models is empty.",
            id="given up at once",
        ),
        pytest.param(
            report("not healthy within 60 s", FINE, attempts=12, timeout=60),
            "The server at http://h did not become healthy within 60 s (12 attempts).",
            id="nothing failed in the last round",
        ),
        pytest.param(
            report("Container c exited with status 1.", BAD, exited=True),
            "Container c exited with status 1.",
            id="exited",
        ),
    ],
)
def test_the_cause_is_a_sentence(seen: Report, sentence: str) -> None:
    assert cause_sentence(seen, "http://h") == sentence


# --- the module as a whole, without Ansible -------------------------------------------------------------------------


class Docker:
    """An engine with a container that runs for some looks, then has exited."""

    def __init__(self, looks: int) -> None:
        self.looks = looks

    def identity(self) -> Identity:
        return Identity()

    def container(self, name: str) -> dict[str, t.Any] | None:
        if name != "vllm-a":
            return None
        self.looks -= 1
        state = {"StartedAt": "2026-11-21T08:00:00.123456789Z", "Running": self.looks >= 0, "ExitCode": 3}
        return {"State": state, "RestartCount": 0, "Config": {}}

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        stamp = b"2026-11-21T08:00:01.123456789Z "
        return stamp + b"first\n" + stamp + b"\n" + stamp + b"  RuntimeError: \xff out of memory \n"

    def version(self) -> str:
        return ""


def test_a_healthy_server_is_reported(address: str) -> None:
    began = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    result = session.run(params(address, served_model_name="gpt"))
    assert began <= result["healthy_at"] <= datetime.datetime.now(datetime.timezone.utc).isoformat()
    assert (result["changed"], result["healthy"], result["phase"], result["diagnosis"]) == (False, True, "ready", None)
    assert [(check["name"], check["ok"], check["detail"]) for check in result["checks"]] == [
        ("health", True, "HTTP 200"),
        ("models", True, "serves gpt"),
        ("completion", True, "We need to"),
    ]
    assert "msg" not in result


def test_a_container_that_exits_ends_the_wait_with_its_status_and_log(address: str) -> None:
    Handler.answers["/health"] = (503, None)
    began = time.monotonic()
    result = session.run(params(address, timeout=1800), ContainerSource("vllm-a", Docker(looks=3)))
    assert time.monotonic() - began < 30
    assert (result["healthy"], result["phase"]) == (False, "exited")
    told = r"Container vllm-a exited with status 3, \d s after the wait began, before it was healthy\. Container vllm-a failed"
    assert re.match(told, result["msg"])
    assert result["msg"].endswith("\n  first\n    RuntimeError: \ufffd out of memory")
    diagnosis = result["diagnosis"]
    assert (diagnosis["id"], diagnosis["retryable"], diagnosis["symptoms"]) == ("unknown", None, [])
    assert result["reason"] == "unknown"
    assert diagnosis["cause"].endswith("RuntimeError: \ufffd out of memory (exit status 3).")
    assert diagnosis["cause"] in result["msg"]
    assert diagnosis["evidence"] == "RuntimeError: \ufffd out of memory"
    assert result["log"] == ["first", "  RuntimeError: \ufffd out of memory"]


@pytest.mark.parametrize(
    ("timeout", "words"),
    [(0, "is not healthy (1 attempt)"), (0.2, "did not become healthy within 0 s (")],
    ids=["without a wait", "after a wait"],
)
def test_the_end_of_the_time_is_reported_with_the_log(timeout: float, words: str, address: str) -> None:
    Handler.answers["/health"] = (503, None)
    result = session.run(params(address, timeout=timeout), ContainerSource("vllm-a", Docker(looks=1000)))
    assert result["phase"] == "waiting for health"
    assert result["msg"].startswith(f"The server at {address} {words}")
    assert "). Last check (health): HTTP 503. Look at the server's log" in result["msg"]
    assert result["reason"] == result["diagnosis"]["id"] == "timeout"


def test_a_container_that_does_not_exist_is_told(address: str) -> None:
    with pytest.raises(
        VllmError, match="^Cannot look at container vllm-b. Docker says: No such container: vllm-b."
    ) as caught:
        session.run(params(address), ContainerSource("vllm-b", Docker(looks=1)))
    assert caught.value.reason == "server-missing"


def test_a_log_that_cannot_be_read_is_told_in_its_place(address: str) -> None:
    class Silent(Docker):
        def logs(self, name: str, lines: int, tty: bool) -> bytes:
            raise OSError("it does not support reading")

    result = session.run(params(address), ContainerSource("vllm-a", Silent(looks=0)))
    assert result["log"] == ["Cannot read the log of vllm-a. Docker says: it does not support reading."]


# --- a server that answers, and whose log says that its engine is dead ------------------------------------------------


STAMP = "2026-11-21T{}.123456789Z {}\n"
READY = STAMP.format("08:01:00", "INFO:     Application startup complete.")
DIED = STAMP.format(
    "09:00:00",
    "(EngineCore pid=1) ERROR 11-21 09:00:00 [x.py:1] Worker proc VllmWorker-1 died unexpectedly (exit code: None), "
    "shutting down executor.",
)
BEFORE = DIED.replace("T09", "T07")
STAYS_200 = STAMP.format("09:00:01", 'INFO:     127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK')


class Logging(Docker):
    """A container that runs, with this log."""

    def __init__(self, log: str) -> None:
        super().__init__(looks=1000)
        self.log = log

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        return self.log.encode()


# /health stays 200 for nine seconds after a worker died, and requests hang.
CHECKS = [pytest.param(["health"], id="health"), pytest.param(["health", "models"], id="health and models")]


@pytest.mark.parametrize("checks", CHECKS)
@pytest.mark.parametrize("timeout", [0, 60])
def test_a_server_whose_worker_died_is_not_healthy_though_it_says_so(
    timeout: int, checks: list[str], address: str
) -> None:
    result = session.run(
        params(address, checks=checks, timeout=timeout), ContainerSource("vllm-a", Logging(READY + DIED + STAYS_200))
    )
    assert (result["healthy"], result["reason"]) == (False, "worker-died")
    assert all(check["ok"] for check in result["checks"])
    assert result["msg"].startswith("The worker process VllmWorker-1 died, and the engine with it.")


def test_it_is_known_while_a_request_hangs(address: str) -> None:
    Handler.answers["/v1/chat/completions"] = (200, "hang")
    began = time.monotonic()
    result = session.run(params(address, timeout=60), ContainerSource("vllm-a", Logging(READY + DIED)))
    assert (result["healthy"], result["reason"]) == (False, "worker-died")
    assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    "log",
    [
        pytest.param("", id="nothing is written"),
        pytest.param(READY, id="it serves"),
        pytest.param(BEFORE, id="a worker died before the container was started again, and this start says nothing"),
        pytest.param(BEFORE + READY, id="a worker died before the container was started again"),
        pytest.param(READY + STAMP.format("09:00:00", "ERROR 11-21 09:00:00 [x.py:1] Bad request"), id="other errors"),
    ],
)
def test_a_server_with_another_log_is_as_healthy_as_it_says(log: str, address: str) -> None:
    result = session.run(params(address, checks=["health"]), ContainerSource("vllm-a", Logging(log)))
    assert (result["healthy"], result["diagnosis"]) == (True, None)


def test_of_a_log_that_cannot_be_read_nothing_is_known_against_the_server(address: str, tmp_path: Path) -> None:
    assert session.run(params(address), FileSource(str(tmp_path / "none.log")))["healthy"]


# --- asking once ----------------------------------------------------------------------------------------------------


def test_a_server_is_asked_once(address: str) -> None:
    result = probe({"url": address, "served_model_name": "gpt", "api_key_file": None})
    assert (result["healthy"], result["phase"], result["reason" if "reason" in result else "diagnosis"]) == (
        True,
        "ready",
        None,
    )
    assert [path for _method, path, _body in Handler.asked] == ["/health", "/v1/models", "/v1/chat/completions"]
    waited = session.run(params(address, served_model_name="gpt"))
    assert result.keys() == waited.keys()


@pytest.mark.parametrize(
    ("path", "answer", "said", "reason", "words"),
    [
        ("/health", (503, None), {}, "timeout", "is not healthy (1 attempt). Last check (health): HTTP 503."),
        ("/v1/models", (401, {"error": "x CANARY99"}), {"api_key": "CANARY99"}, "api-key-refused", "Give api_key_file"),
        ("/v1/models", (200, {"data": [{"id": "x"}]}), {}, "port-in-use", "another server answers on this port"),
        ("/v1/chat/completions", (200, {"choices": [{"message": {"content": "!!!!!!!!"}}]}), {}, "bad-answer", "weights"),
    ],
    ids=["not up", "another key", "another model", "nonsense"],
)  # fmt: skip
def test_a_server_that_is_asked_once_and_is_not_healthy(
    path: str, answer: tuple[int, t.Any], said: dict[str, t.Any], reason: str, words: str, address: str
) -> None:
    Handler.answers[path] = answer
    began = time.monotonic()
    result = probe({"url": address, "served_model_name": "gpt", **said})
    assert (result["healthy"], result["finished"], result["reason"]) == (False, True, reason)
    assert (result["diagnosis"]["id"], result["healthy_at"]) == (reason, None)
    assert words in result["msg"]
    assert time.monotonic() - began < 30
    waited = session.run(params(address, served_model_name="gpt", **said))
    assert result.keys() == waited.keys()
    assert {**result, "elapsed": 0, "checks": 0} == {**waited, "elapsed": 0, "checks": 0}
    assert "CANARY" not in json.dumps(result)


def test_a_server_that_repeats_the_key_is_not_quoted(address: str) -> None:
    Handler.answers["/v1/chat/completions"] = (200, {"choices": [{"message": {"content": "your key is CANARY99"}}]})
    said = {"served_model_name": "gpt", "api_key": "CANARY99"}
    for result in (probe({"url": address, **said}), session.run(params(address, **said))):
        assert result["healthy"]
        assert "your key is ********" in json.dumps(result)
        assert "CANARY99" not in json.dumps(result)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("max_tokens", "16", 16),
        ("request_timeout", 7, 7),
        ("validate_certs", "no", False),
        ("validate_certs", True, True),
        ("checks", "health, models", ["health", "models"]),
        ("checks", ["completion"], ["completion"]),
        ("prompt", "Hello?", "Hello?"),
        ("stall_timeout", "300", "300"),
    ],
)
def test_parameters_that_come_as_text(name: str, value: t.Any, expected: t.Any) -> None:
    assert typed(name, value) == expected


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("max_tokens", "many", "max_tokens must be a whole number; got 'many'."),
        ("request_timeout", [1], "request_timeout must be a whole number; got [1]."),
        ("checks", ["health", "sanity"], "checks must be of health, models, completion, embedding, score; got sanity."),
    ],
)
def test_parameters_that_cannot_be(name: str, value: t.Any, said: str) -> None:
    with pytest.raises(VllmError) as caught:
        probe({name: value})
    assert (str(caught.value), caught.value.reason) == (said, "invalid-parameter")


def test_asking_once_loads_nothing_that_reads_a_log(address: str) -> None:
    code = (
        "import json, sys\n"
        f"from {probe.__module__} import probe\n"
        f"healthy = probe({{'url': {address!r}}})['healthy']\n"
        "print(healthy, *sorted(name.rpartition('module_utils.')[2] for name in sys.modules))\n"
    )
    collections = Path(__file__).resolve().parents[3] / ".ansible" / "collections"
    environment = {**os.environ, "PYTHONPATH": str(collections)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("True ")
    loaded = {name for name in done.stdout.split() if name.startswith("_") and "." in name}
    ours = {"_health.api", "_health.probe", "_health.wait", "_host.cgroup", "_host.http", "_host.processes"}
    assert {
        name for name in loaded if name.split(".")[0] in ("_health", "_host", "_vllm", "_docker", "_deploy")
    } == ours


def test_vllm_container_asks_the_same_way(address: str) -> None:
    from ansible_collections.gpufleet.vllm.plugins.module_utils import _deployment

    result = _deployment.probe({"url": address, "served_model_name": "gpt"})
    assert (result["healthy"], len(Handler.asked)) == (True, 3)


@pytest.mark.parametrize(
    ("checks", "rate"),
    [
        pytest.param([FINE, CheckResult("completion", True, "Hi.", 0.5, 16)], 32.0, id="tokens of the completion"),
        pytest.param([FINE, CheckResult("completion", True, "Hi.", 0.5)], None, id="the server counts none"),
        pytest.param([FINE, CheckResult("completion", False, "!!!!", 0.5, 16)], None, id="a bad answer has no rate"),
        pytest.param([FINE], None, id="none was asked for"),
    ],
)
def test_the_rate_is_that_of_a_good_completion(checks: list[CheckResult], rate: float | None) -> None:
    assert tokens_per_second(Report(True, tuple(checks), "ready", 1.0, 1)) == rate
