# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a server was ever ready, and whether its engine is dead, by its log alone."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.life import (
    engine_is_dead,
    has_answered,
    tells_when_ready,
)
from test_diagnosis_signatures import LOOK_ALIKES, SAMPLES
from vllm_logs import READY, START, captured

ERROR = "(EngineCore pid=1) ERROR 11-21 10:00:00 [x.py:1] "
WORKER = f"{ERROR}Worker proc VllmWorker-1 died unexpectedly (exit code: None), shutting down executor.\n"
QUOTED = "INFO 11-21 10:00:00 [logger.py:41] Received request r: prompt: 'Worker proc X died unexpectedly, EngineDeadError'\n"
HEALTHY = 'INFO:     127.0.0.1:4000 - "GET /health HTTP/1.1" 200 OK\n'


@pytest.mark.parametrize(
    ("log", "dead"),
    [
        pytest.param("", False, id="an empty log"),
        pytest.param(START + READY, False, id="it serves"),
        pytest.param(START + READY + WORKER, True, id="a worker died"),
        pytest.param(START + READY + WORKER + HEALTHY, True, id="a worker died, and /health still says 200"),
        pytest.param(START + WORKER, True, id="a worker died before it was ready"),
        pytest.param(START + READY + f"{ERROR}EngineCore encountered a fatal error.\n", True, id="the engine failed"),
        pytest.param(START + READY + WORKER + START, False, id="the next start writes its banner"),
        pytest.param(START + READY + WORKER + READY, False, id="the next start is ready"),
        pytest.param(START + READY + QUOTED, False, id="a request quotes it"),
        pytest.param(START + READY + WORKER + QUOTED, True, id="a request after that quotes it"),
        pytest.param(
            START + READY + WORKER.replace(" ERROR ", " INFO "), False, id="it is told of calmly: of another engine"
        ),
        pytest.param(
            START + READY + WORKER.replace(" ERROR ", " WARNING "), False, id="it is warned of: another one takes over"
        ),
        pytest.param(START + READY + HEALTHY, False, id="it answers"),
    ],
)
def test_whether_an_engine_is_dead(log: str, dead: bool) -> None:
    assert engine_is_dead(log) is dead


DEATHS = ("worker-died", "engine-proc-died", "engine-fatal", "engine-start-failed", "engine-dead")


@pytest.mark.parametrize(
    ("id", "line"), [(id, line) for id in DEATHS for _version, line in SAMPLES[id]], ids=lambda value: str(value)[:40]
)
def test_what_the_table_of_failures_calls_the_death_of_an_engine_is_one(id: str, line: str) -> None:
    assert engine_is_dead(line)


@pytest.mark.parametrize("id", DEATHS)
def test_what_only_looks_like_it_is_none(id: str) -> None:
    assert not engine_is_dead(LOOK_ALIKES[id])


@pytest.mark.parametrize(
    ("log", "answered"),
    [
        pytest.param("", False, id="nothing"),
        pytest.param(START, False, id="it starts"),
        pytest.param(START + READY, True, id="it was ready"),
        pytest.param(HEALTHY, True, id="the end of a long log: it answered somebody"),
        pytest.param(HEALTHY.replace("200 OK", "503 Service Unavailable"), True, id="it answered that it is not well"),
        pytest.param(
            "INFO [loggers.py:1] Engine 000: Avg generation throughput: 38.9 tokens/s", True, id="it generated"
        ),
    ],
)
def test_whether_a_server_has_answered(log: str, answered: bool) -> None:
    assert has_answered(log) is answered


@pytest.mark.parametrize(
    ("name", "answered"),
    [("cpu_healthy", True), ("h200_gptoss20b_cold", True), ("h200_memory_held", False), ("cpu_disk_full", False)],
)
def test_real_logs_tell_whether_the_server_was_ready(name: str, answered: bool) -> None:
    assert has_answered(captured(name)) is answered


@pytest.mark.parametrize(
    ("intent", "tells"),
    [
        pytest.param({}, True, id="nothing is set"),
        pytest.param({"engine": {"uvicorn_log_level": "info"}}, True, id="the default, said"),
        pytest.param({"engine": {"uvicorn_log_level": "warning"}}, False, id="uvicorn keeps it back"),
        pytest.param({"engine_unchecked": {"uvicorn-log-level": "error"}}, False, id="unchecked, with hyphens"),
        pytest.param({"engine": {"log_config_file": "/l.json"}}, False, id="a form of its own"),
        pytest.param({"engine": {"logging_config": "/l.json"}}, False, id="the same, from 0.31 on"),
        pytest.param({"env": {"VLLM_LOGGING_CONFIG_PATH": "/l.json"}}, False, id="the same, by a variable"),
        pytest.param({"engine": "x", "env": None}, True, id="a record of another shape"),
    ],
)
def test_whether_the_log_would_tell(intent: dict[str, t.Any], tells: bool) -> None:
    assert tells_when_ready(intent) is tells
