# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every failure of the table as each generation of vLLM tells it: in a whole log, with what it writes before and after."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import diagnose
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.failures import BY_ID
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.log import HEAD
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.signature import PANE
from test_diagnosis_signatures import SAMPLES

NOW = "11-21 10:00:00"
FAILED = "RuntimeError: Engine core initialization failed. See root cause above."
TRACE = ["Traceback (most recent call last):", '  File "/x/vllm/v1/engine/core.py", line 387, in run', "    run()"]
END = [
    "Traceback (most recent call last):",
    '  File "/usr/local/bin/vllm", line 10, in <module>',
    "    sys.exit(main())",
]
WORKER = "Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause."


def behind(head: str, *lines: str) -> list[str]:
    return [f"{head}{line}" for line in lines]


def v0_8_old_engine(error: list[str]) -> list[str]:
    """0.8 with VLLM_USE_V1=0: the engine is a process of its own, and no process names itself."""
    return [
        f"INFO {NOW} [__init__.py:239] Automatically detected platform cuda.",
        f"INFO {NOW} [api_server.py:1043] vLLM API server version 0.8.5",
        f"INFO {NOW} [api_server.py:1044] args: Namespace(subparser='serve', model_tag='m', port=8000)",
        f"INFO {NOW} [llm_engine.py:240] Initializing a V0 LLM engine (v0.8.5) with config: model='m'",
        *behind(f"ERROR {NOW} [engine.py:448] ", *error, *TRACE, *error),
        "Process SpawnProcess-1:",
        *TRACE,
        *error,
        *END,
        "RuntimeError: Engine process failed to start. See stack trace for the root cause.",
    ]


def v0_8(error: list[str]) -> list[str]:
    """0.8 to 0.10.0: the errors of the engine have a head, its last words have none."""
    return [
        f"INFO {NOW} [__init__.py:239] Automatically detected platform cuda.",
        f"INFO {NOW} [api_server.py:1043] vLLM API server version 0.8.5",
        f"INFO {NOW} [api_server.py:1044] args: Namespace(subparser='serve', model_tag='m', port=8000)",
        f"INFO {NOW} [core.py:58] Initializing a V1 LLM engine (v0.8.5) with config: model='m'",
        *behind(f"ERROR {NOW} [core.py:396] ", "EngineCore failed to start.", *TRACE, *error),
        "Process EngineCore_0:",
        *TRACE,
        *error,
        *END,
        FAILED,
    ]


def v0_11(error: list[str]) -> list[str]:
    """0.10.2 to 0.17 with two workers: every line of a process has its name."""
    core, worker = "(EngineCore_DP0 pid=20) ", "(Worker_TP1 pid=31) "
    return [
        f"INFO {NOW} [__init__.py:216] Automatically detected platform cuda.",
        f"(APIServer pid=1) INFO {NOW} [api_server.py:1839] vLLM API server version 0.11.0",
        f"(APIServer pid=1) INFO {NOW} [utils.py:233] non-default args: {{'model_tag': 'm', 'tensor_parallel_size': 2}}",
        f"{core}INFO {NOW} [core.py:77] Initializing a V1 LLM engine (v0.11.0) with config: model='m'",
        *behind(f"{worker}ERROR {NOW} [multiproc_executor.py:597] ", "WorkerProc failed to start.", *TRACE, *error),
        f"{worker}INFO {NOW} [multiproc_executor.py:558] Parent process exited, terminating worker",
        *behind(f"{core}ERROR {NOW} [core.py:708] ", "EngineCore failed to start.", *TRACE, WORKER),
        *behind(core, "Process EngineCore_DP0:", *TRACE, WORKER),
        *behind("(APIServer pid=1) ", *END, f"{FAILED} Failed core proc(s): {{}}"),
    ]


def v0_20(error: list[str]) -> list[str]:
    """0.18 to 0.30: the logo, one engine, paths as sources in its debugging."""
    core = "(EngineCore pid=20) "
    return [
        f"(APIServer pid=1) INFO {NOW} [utils.py:299]  \u2588     \u2588     \u2588\u2584   \u2584\u2588",
        f"(APIServer pid=1) INFO {NOW} [utils.py:299]  \u2584\u2584 \u2584\u2588 \u2588     \u2588     \u2588 \u2580\u2584\u2580 \u2588  version 0.20.0",
        f"(APIServer pid=1) INFO {NOW} [utils.py:233] non-default args: {{'model_tag': 'm', 'host': '0.0.0.0'}}",
        f"{core}INFO {NOW} [v1/engine/core.py:105] Initializing a V1 LLM engine (v0.20.0) with config: model='m'",
        *behind(f"{core}ERROR {NOW} [v1/engine/core.py:1136] ", "EngineCore failed to start.", *TRACE, *error),
        *behind(core, "Process EngineCore:", *TRACE, *error),
        "[rank0]:[W1121 10:00:00.1 ProcessGroupNCCL.cpp:1524] Warning: WARNING: destroy_process_group() was not called",
        *behind("(APIServer pid=1) ", *END, f"{FAILED} Failed core proc(s): {{'EngineCore': 1}}"),
    ]


def v0_33(error: list[str]) -> list[str]:
    """From 0.31: only what is logged has the name of its process."""
    return [
        f"(APIServer pid=1) INFO {NOW} [banner.py:31] vLLM server version 0.33.0, serving model m",
        f"(APIServer pid=1) INFO {NOW} [banner.py:40] non-default args: {{'model_tag': 'm'}}",
        f"(EngineCore pid=20) INFO {NOW} [core.py:120] Initializing a V1 LLM engine (v0.33.0) with config: model='m'",
        *behind(f"(EngineCore pid=20) ERROR {NOW} [core.py:1584] ", "EngineCore failed to start.", *TRACE, *error),
        "Process EngineCore:",
        *TRACE,
        *error,
        *END,
        f"{FAILED} Failed core proc(s): {{'EngineCore': 1}}",
    ]


def v0_33_json(error: list[str]) -> list[str]:
    """From 0.31 with --logging-config: each record is an object."""
    start = {"asctime": "2026-11-21 10:00:00,000", "levelname": "INFO", "name": "vllm", "processName": "APIServer"}
    dead = {**start, "levelname": "ERROR", "message": "EngineCore failed to start."}
    return [
        json.dumps({**start, "message": "vLLM server version 0.33.0, serving model m"}),
        json.dumps({**start, "message": "non-default args: {'model_tag': 'm'}"}),
        json.dumps({**dead, "exc_info": "\n".join([*TRACE, *error])}),
        *END,
        f"{FAILED} Failed core proc(s): {{}}",
    ]


VERSIONS: dict[str, t.Callable[[list[str]], list[str]]] = {
    "0.8, the old engine": v0_8_old_engine,
    "0.8": v0_8,
    "0.11, two workers": v0_11,
    "0.20": v0_20,
    "0.33": v0_33,
    "0.33, JSON": v0_33_json,
}
GONE = ProcessState(running=False, exit_status=1)
ROOTS = [(id, said, line) for id, lines in SAMPLES.items() if BY_ID[id].kind == "root" for said, line in lines]


def rendered(version: str, line: str) -> str:
    """A whole log that fails of what a line of the table says: in the exception, or, where the line has a head of its own,
    before it."""
    own = [part for part in line.split("\n") if HEAD.match(part) or " NCCL WARN " in part]
    error = [part for part in line.split("\n") if part not in own]
    lines = VERSIONS[version](error or ["RuntimeError: odd"])
    begin = next(i for i, text in enumerate(lines) if "Traceback" in text or "failed to start" in text)
    return "\n".join([*lines[:begin], *own, *lines[begin:]]) + "\n"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("id", [id for id in SAMPLES if BY_ID[id].kind == "root"])
def test_every_cause_is_found_in_the_words_of_every_generation(id: str, version: str) -> None:
    for said, line in SAMPLES[id]:
        alone, found = diagnose(line), diagnose(rendered(version, line), GONE)
        assert found.id == id, (said, found)
        assert found.retryable == alone.retryable
        # A line alone is taken for one that a window broke, and may have a pane around it.
        words = found.evidence.strip(PANE)
        assert words and alone.evidence.strip(PANE).startswith(words), said
        # While it still runs, the cause is told as well, unless it may go on.
        if BY_ID[id].final:
            assert diagnose(rendered(version, line), ProcessState(running=True)).id == id, said


@pytest.mark.parametrize("version", VERSIONS)
def test_what_no_table_knows_has_its_words_in_every_generation(version: str) -> None:
    found = diagnose(rendered(version, "ZorkError: the flux is missing"), GONE)
    assert (found.id, found.retryable) == ("unknown", None)
    assert "ZorkError: the flux is missing" in found.cause
    assert found.symptoms[-1] == "engine-start-failed"
