# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that ended, or half of it, is never well: whatever its status, its last line, or who tells of it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import diagnose
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.failures import BY_ID
from vllm_logs import READY, START

INFO = "INFO 01-01 10:00:00 [a.py:1] "
WORK = f"{INFO}Starting to load model m...\n"
ACCESS = 'INFO:     10.0.0.1:5000 - "GET /health HTTP/1.1" 200 OK\n'
SHUTDOWN = "INFO:     Shutting down\n"
GONE = {"running": False}
STOPPED = 'Traceback (most recent call last):\n  File "/x/a.py", line 1, in f\n    odd()\n'


@pytest.mark.parametrize(
    ("log", "state", "is_failed"),
    [
        pytest.param(START + WORK, {}, False, id="a start of which no more is known"),
        pytest.param(START + WORK, {"running": True}, False, id="a start that runs"),
        pytest.param(START + WORK, {**GONE, "exit_status": 0}, True, id="gone with status 0 before it listened"),
        pytest.param(START + WORK, GONE, True, id="gone before it listened, with a status nobody knows"),
        pytest.param(START + WORK + READY, GONE, False, id="gone after it listened, with a status nobody knows"),
        pytest.param(
            START + WORK + READY, {**GONE, "exit_status": 1}, True, id="gone after it listened, with status 1"
        ),
        pytest.param(ACCESS, GONE, False, id="its log begins after it listened"),
        pytest.param(START + WORK, {**GONE, "exit_status": 143}, False, id="asked to end before it listened"),
        pytest.param(START + WORK + SHUTDOWN, {**GONE, "exit_status": 0}, False, id="stopped before it listened"),
        pytest.param(START + READY + SHUTDOWN, {**GONE, "exit_status": 130}, False, id="stopped by a key"),
        pytest.param(START + READY, {**GONE, "exit_status": 130}, True, id="interrupted, and said nothing"),
        pytest.param(
            f"{START}{WORK}{STOPPED}KeyboardInterrupt: terminated\n", {}, False, id="interrupted while it started"
        ),
        pytest.param(
            f"{START}{WORK}{STOPPED}asyncio.exceptions.CancelledError\n\nDuring handling of the above exception, another "
            f"exception occurred:\n\n{STOPPED}KeyboardInterrupt\n",
            {**GONE, "exit_status": 130},
            False,
            id="interrupted while it waited",
        ),
        pytest.param(
            f"{START}{WORK}*** SIGTERM received at time=1 on cpu 8 ***\n", {}, False, id="Ray was told to end"
        ),
        pytest.param(
            f"{START}{WORK}{STOPPED}ZorkError: odd\n{STOPPED}KeyboardInterrupt\n",
            {},
            True,
            id="interrupted after it failed",
        ),
        pytest.param("", GONE, False, id="never started"),
    ],
)
def test_whether_what_ended_failed(log: str, state: dict[str, t.Any], is_failed: bool) -> None:
    assert diagnose(log, ProcessState(**state)).failed is is_failed


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/bin/bash: line 1: --model: command not found", "--model: command not found"),
        ("/usr/bin/python3: No module named vllm", "package vllm is missing"),
        (
            "docker: permission denied while trying to connect to the Docker daemon socket",
            "connect to the Docker daemon",
        ),
        ("docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", "Cannot connect to the Docker"),
    ],
)
@pytest.mark.parametrize("state", [{}, {**GONE, "exit_status": 1}])
def test_what_never_began_is_told_by_its_own_words(line: str, words: str, state: dict[str, t.Any]) -> None:
    assert words in diagnose(f"{line}\n", ProcessState(**state)).cause


def test_the_last_line_of_what_never_began_is_quoted_and_no_other() -> None:
    gone = ProcessState(running=False, exit_status=7)
    assert diagnose("the flux is missing\n", gone).cause.endswith("The last line of its log is: the flux is missing.")
    assert "last line" not in diagnose(f"{START}{WORK}the flux is missing\n", gone).cause


IGNORED = "[Errno 13] Permission denied: '/root/.cache/x'"
PAST = [
    f"Ignored error while writing commit hash to /root/.cache/x: {IGNORED}.",
    f"Could not cache non-existence of file. Will ignore error and continue. Error: {IGNORED}",
    f"{INFO}2026-05-19 02:40:27,870 - WARNING - autotuner.py:497 - Skipping tactic 17: CUDA out of memory. Tried to allocate 2 GiB",
    "2026-05-19 02:40:27,870 - WARNING - x.py:497 - flashinfer.jit: Skipping tactic: CUDA out of memory. Tried to allocate 2 GiB",
    "ERROR 01-01 10:00:00 [config.py:131] Error retrieving safetensors: LocalEntryNotFoundError(...), retrying 1 of 2",
]


@pytest.mark.parametrize("line", PAST)
def test_what_a_line_says_came_to_nothing_is_no_failure(line: str) -> None:
    error = "Traceback (most recent call last):\nZorkError: the flux is missing\n"
    gone = ProcessState(running=False, exit_status=1)
    assert not diagnose(f"{START}{WORK}{line}\n").failed
    assert not diagnose(f"{START}{line}\n{WORK}").failed
    for log in (f"{START}{line}\n{WORK}{error}", f"{START}{WORK}{line}\n{error}"):
        assert "the flux is missing" in diagnose(log, gone).cause


def test_an_attempt_that_a_start_went_past_is_not_what_it_failed_of() -> None:
    attempt = "OSError: [Errno 13] Permission denied: '/root/.cache/x'\n"
    error = "Traceback (most recent call last):\nZorkError: the flux is missing\n"
    gone = ProcessState(running=False, exit_status=1)
    assert diagnose(f"{START}{attempt}{WORK}{error}", gone).id == "unknown"
    assert diagnose(f"{START}{attempt}{WORK}", gone).id == "permission-denied"
    assert diagnose(f"{START}{WORK}{attempt}{error}", gone).id == "permission-denied"


SYSTEMD = "Aug 19 18:34:31 gpu systemd[1]: vllm.service: "


@pytest.mark.parametrize(
    ("line", "status", "is_failed"),
    [
        (f"{SYSTEMD}Main process exited, code=exited, status=1/FAILURE", "1", True),
        (f"{SYSTEMD}Main process exited, code=killed, status=9/KILL", "137", True),
        (f"{SYSTEMD}Main process exited, code=dumped, status=11/SEGV", "139", True),
        (f"{SYSTEMD}Main process exited, code=killed, status=15/TERM", "", False),
        ("vllm-1 exited with code 3", "3", True),
        ("vllm-1 exited with code 0", "", False),
        ("      Reason:       OOMKilled", "memory of the host", True),
    ],
)
def test_the_end_of_a_process_is_read_from_the_log(line: str, status: str, is_failed: bool) -> None:
    log = f"{START}{WORK}{READY}{line}\n"
    found = diagnose(log)
    assert found.failed is is_failed
    assert status in found.cause
    # Who looks at the process itself knows better, and what was written afterwards is another life's.
    assert not diagnose(log, ProcessState(running=True)).failed
    assert not diagnose(f"{log}{ACCESS}").failed


@pytest.mark.parametrize(
    ("lines", "id"),
    [
        (
            "CRITICAL 04-20 10:00:00 [core_client.py:361] Got fatal signal from worker processes, shutting down.",
            "engine-dead",
        ),
        (
            "ERROR 04-20 10:00:00 [core.py:387] EngineCore hit an exception: Traceback (most recent call last):",
            "engine-dead",
        ),
        (
            "Exception in thread Thread-2 (process_input_sockets):\nTraceback (most recent call last):\nKeyError: 'x'",
            "thread-died",
        ),
        ("ERROR 04-20 10:00:00 [async_llm.py:411] AsyncLLM output_handler failed.", "engine-dead"),
        ("AsyncEngineDeadError: Background loop has errored already.", "engine-dead"),
        ("Fatal Python error: Segmentation fault", "process-crashed"),
        (
            "Exception in thread Thread-1 (_report_usage_worker):\nTraceback (most recent call last):\nOSError: x",
            "none",
        ),
    ],
)
def test_half_a_server_is_not_up(lines: str, id: str) -> None:
    found = diagnose(f"{START}{READY}{ACCESS}{lines}\n{ACCESS}", ProcessState(running=True))
    assert found.id == id
    assert id == "none" or found.final


@pytest.mark.parametrize(
    ("error", "id", "cause", "remedy"),
    [
        ("argument --port: invalid int value: 'x'", "args-invalid", "--port", "of the type int; 'x' is none"),
        ("argument --tokenizer: expected one argument", "args-invalid", "--tokenizer", "Give tokenizer a value"),
        ("argument --lora-modules: expected at least one argument", "args-invalid", "--lora-modules", "a value"),
        ("the following arguments are required: model_tag, --x", "args-invalid", "model_tag", "(model_tag, --x)"),
        ("ambiguous option: --max could match --max-a, --max-b", "args-invalid", "--max", "one of --max-a, --max-b"),
        (
            "argument -sc/--spec-x: Value {a: 1} cannot be converted to <function loads at 0x1>.",
            "args-invalid",
            "{a: 1}",
            "Set spec_x to a mapping",
        ),
        ("argument --hf-x: invalid json.loads value: '{a'", "args-invalid", "'{a'", "Set hf_x to a mapping"),
        ("argument --seed: Value 1.5 cannot be converted to <class 'int'>.", "args-invalid", "--seed", "1.5 is none"),
        ("argument --eager: ignored explicit argument 'true'", "args-invalid", "'true'", "true or false"),
        ("argument --a: not allowed with argument --b", "args-invalid", "--a", "either a or --b"),
        (
            "argument --dtype: invalid choice: 'hafl', maybe you meant 'half'? (choose from auto, half)",
            "args-invalid-choice",
            "hafl",
            "Set dtype to half",
        ),
        (
            "argument --dtype: invalid choice: 'hafl', maybe you meant 'hal'? (choose from auto, half)",
            "args-invalid-choice",
            "hafl",
            "Set dtype to one of: auto, half.",
        ),
        (
            "argument subparser: invalid choice: 'server' (choose from 'chat', 'serve')",
            "args-invalid-choice",
            "server",
            "chat, serve",
        ),
        ("unrecognized arguments: --x 1", "args-unrecognized", "--x 1", "Remove --x 1"),
    ],
)
@pytest.mark.parametrize("program", ["vllm", "vllm serve", "api_server.py", "python3 -m vllm.entrypoints.x", "launch"])
def test_what_argparse_says(program: str, error: str, id: str, cause: str, remedy: str) -> None:
    found = diagnose(f"usage: {program} [-h]\n            [--port PORT]\n{program}: error: {error}\n")
    assert (found.id, found.retryable) == (id, False)
    assert cause in found.cause
    assert remedy in found.remedy


@pytest.mark.parametrize(
    ("ready", "end", "id"),
    [
        pytest.param("", "", "engine-fatal", id="before it listened"),
        pytest.param(READY, "", "engine-dead", id="the engine alone has said so"),
        pytest.param(READY, "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.\n", "engine-dead",
                     id="and the API server too"),
    ],
)  # fmt: skip
def test_an_engine_that_dies_while_it_serves_is_so_however_early_one_looks(ready: str, end: str, id: str) -> None:
    fatal = "ERROR 04-20 10:00:00 [core.py:387] EngineCore encountered a fatal error.\n"
    found = diagnose(START + ready + fatal + end, ProcessState(running=True))
    assert (found.id, found.final) == (id, True)


KILLED = (
    "(EngineCore pid=2) ERROR 04-20 10:00:00 [core.py:1433] EngineCore failed to start.\n"
    "(EngineCore pid=2) ERROR 04-20 10:00:00 [core.py:1433] Traceback (most recent call last):\n"
    "(EngineCore pid=2) ERROR 04-20 10:00:00 [core.py:1433] Exception: {}\n"
)


@pytest.mark.parametrize(
    ("words", "id"),
    [
        pytest.param("WorkerProc initialization failed due to an exception in a background process.",
                     "engine-start-failed", id="a worker was killed without a word"),
        pytest.param("the flux is odd", "unknown", id="an error that is not known"),
    ],
)  # fmt: skip
def test_a_start_whose_engine_failed_is_over_before_its_process_ends(words: str, id: str) -> None:
    """It takes seconds, on a busy host a quarter of a minute, until the API server has left."""
    found = diagnose(START + WORK + KILLED.format(words), ProcessState(running=True))
    assert (found.id, found.final) == (id, True)
    assert words in found.cause


def test_a_compiler_that_says_error_is_no_argument_parser() -> None:
    found = diagnose(f"{START}kernel.cu:12:3: error: argument 1 is odd\n", ProcessState(running=False, exit_status=1))
    assert found.id == "unknown"


def test_what_only_names_a_kind_gives_way() -> None:
    kind = "ValidationError: 1 validation error for X\n  Value error, odd [type=value_error, input_value=1]\n"
    heads = "ValueError: Total number of attention heads (12) must be divisible by tensor parallel size (8).\n"
    assert BY_ID["config-invalid"].general
    assert diagnose(START + kind + heads).id == diagnose(START + heads + kind).id == "heads-not-divisible"
    assert diagnose(START + kind).id == "config-invalid"
    # Said once on the way, and once at the end.
    assert diagnose(f"{START}{kind}{WORK}{kind}").id == "config-invalid"


def test_what_is_more_exact_counts_wherever_it_stands() -> None:
    general = "RuntimeError: Failed to infer device type\n"
    exact = "RuntimeError: The NVIDIA driver on your system is too old (found version 12040).\n"
    assert diagnose(START + general + exact).id == diagnose(START + exact + general).id == "driver-too-old"


def test_a_cause_that_may_heal_is_final_once_the_engine_is_dead() -> None:
    oom = "Traceback (most recent call last):\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1 GiB.\n"
    dead = "ERROR 04-20 10:00:00 [core.py:387] EngineCore encountered a fatal error.\n"
    assert not diagnose(START + oom, ProcessState(running=True)).final
    assert diagnose(START + oom + dead, ProcessState(running=True)).final


def test_a_start_that_waits_for_a_worker_hangs_only_after_minutes_without_progress() -> None:
    """A kernel that compiled for 281 seconds, in a start that went well, left four such lines in a row."""
    wait = "INFO 04-20 10:00:00 [s.py:1] No available shared memory broadcast block found in 60 seconds.\n"
    for state in (ProcessState(), ProcessState(running=True)):
        assert not diagnose(START + 4 * wait, state).failed
        assert not diagnose(START + 4 * wait + WORK + 4 * wait, state).failed
        assert diagnose(START + 5 * wait, state).id == "shm-broadcast-stall"
        assert diagnose(wait, state).id == "shm-broadcast-stall"


def test_a_compiler_that_ends_the_engine_while_it_serves_is_named() -> None:
    log = (
        START
        + READY
        + (
            "LLVM ERROR: Failed to compute parent layout for slice layout.\n"
            "ERROR 05-31 09:09:48 [client.py:305] RuntimeError('Engine process (pid 65) died.')\n"
        )
    )
    found = diagnose(log)
    assert found.id == "engine-dead"
    assert "Failed to compute parent layout" in found.cause


def test_what_killed_an_engine_that_serves_says_where_and_of_which_setting() -> None:
    place = "vllm/distributed/kv_transfer/kv_connector/v1/offloading/scheduler.py"
    error = (
        "ERROR 04-20 10:00:00 [core.py:9] EngineCore encountered a fatal error.\n"
        "ERROR 04-20 10:00:00 [core.py:9] Traceback (most recent call last):\n"
        f'ERROR 04-20 10:00:00 [core.py:9]   File "/opt/v/lib/python3.12/site-packages/{place}", line 734, in update\n'
        "ERROR 04-20 10:00:00 [core.py:9]     assert blocks >= computed\n"
        "ERROR 04-20 10:00:00 [core.py:9] AssertionError\n"
    )
    found = diagnose(START + READY + error)
    assert found.id == "engine-dead"
    assert f"It has to do with kv_transfer_config. It was raised in {place}, line 734, in update." in found.remedy
