# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole logs, captured and composed: the diagnosis, the eras of vLLM, what ends a process, phases, large files."""

from __future__ import annotations

import json
import resource
import time
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.logfile import TAIL_BYTES, read_tail
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import (
    Diagnosis,
    diagnose,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.failures import BY_ID, GENERIC
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.log import lives, parse_lines
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.phases import timeline
from hypothesis import given, settings, strategies as st
from vllm_logs import READY, START, captured as log

HEALTHY = (
    "cpu_healthy",
    "h200_gemma3_27b",
    "h200_gptoss20b_cold",
    "h200_gptoss20b_serving",
    "h200_gptoss20b_warm_kv_pinned",
    "h200_llama8b",
)


# --- captured logs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "id", "symptoms", "evidence", "remedy"),
    [
        ("h200_bad_flag", "args-unrecognized", (), "--attn-impl", "was never a flag of vLLM"),
        ("cpu_bad_flag", "args-unrecognized", (), "--attn-impl", "was never a flag of vLLM"),
        ("h200_bad_choice", "args-invalid-choice", (), "'bf16'", "kv_cache_dtype to bfloat16 or auto"),
        ("cpu_bad_choice", "args-invalid-choice", (), "'bf16'", "kv_cache_dtype to bfloat16 or auto"),
        ("h200_memory_held", "mem-free-below-budget", ("engine-start-failed",), "(62.37/139.8 GiB)", "to 0.44"),
        (
            "h200_kv_too_small",
            "mem-kv-too-small",
            ("engine-start-failed",),
            "(0.02 GiB)",
            "max_model_len to 4096 or less",
        ),
        ("h200_worker_killed", "worker-died", ("engine-fatal", "engine-dead"), "exit code: None", "dmesg"),
        ("h200_tp4_of_2", "world-size", (), "World size (4)", "to 2 or less"),
        ("cpu_no_model", "hf-repo-not-found", (), "'/models/nothing'", "mounted into the container"),
        (
            "cpu_no_weights",
            "no-weights",
            ("worker-init-failed", "engine-start-failed"),
            "/models/tiny",
            "*.safetensors",
        ),
        ("cpu_no_encodings", "harmony-vocab-missing-file", (), "os error 2", "role tiktoken_encodings"),
        ("cpu_disk_full", "disk-full", ("worker-init-failed", "engine-start-failed"), "[Errno 28]", "df -h"),
        ("cpu_port_in_use", "port-in-use", (), "[Errno 98]", "another port"),
        ("cpu_worker_killed", "worker-died", ("engine-fatal", "engine-dead"), "VllmWorker-0", "dmesg"),
        ("cpu_engine_dies", "engine-dead", ("worker-init-failed", "engine-fatal"), "head_dim=16", "status 0"),
        ("cpu_worker_stopped", "shm-broadcast-stall", (), "60 seconds", "restart the server"),
    ],
)
def test_captured_failure(name: str, id: str, symptoms: tuple[str, ...], evidence: str, remedy: str) -> None:
    found = diagnose(log(name))
    assert (found.id, found.symptoms) == (id, symptoms)
    assert evidence in found.evidence
    assert remedy in found.remedy


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_log_has_no_cause(name: str) -> None:
    assert diagnose(log(name)).id == "none"


@pytest.mark.parametrize("name", HEALTHY)
@given(part=st.floats(0, 1))
@settings(max_examples=25)
def test_healthy_log_has_no_cause_however_far_it_is(name: str, part: float) -> None:
    text = log(name)
    assert diagnose(text[: int(len(text) * part)]).id == "none"


# --- how a log ends --------------------------------------------------------------------------------------------------

QUIET_START = "INFO 01-30 22:11:05 [__init__.py:216] Automatically detected platform cuda.\n"


@pytest.mark.parametrize("frame", ["{}", "\u2502 vllm {}    \u2502"], ids=["plain", "in a pane"])
@pytest.mark.parametrize(
    ("lines", "cause"),
    [
        (
            ["usage: vllm serve [-h] [--port PORT]", "vllm serve: error: argument --port: invalid int value: 'x'"],
            "--port",
        ),
        (["usage: launch.py [-h] MODEL", "launch.py: error: too few of them"], "too few of them"),
        (["usage: launcher [-h] MODEL", "launcher: error: MODEL is odd", "   (see the manual)"], "MODEL is odd"),
        (["ModuleNotFoundError: No module named 'vllm'"], "No module named 'vllm'"),
        (["vllm.odd.PlatformFault: no platform", "   look elsewhere", ""], "no platform"),
        (["ERROR 01-30 22:11:06 [launcher.py:3] Nothing to serve"], "Nothing to serve"),
        (["Error: cannot open the model"], "cannot open the model"),
        (
            [
                "Error: cannot open the model",
                "[rank0]:[W1121 10:00:00.1 x.cpp:1] Warning: destroy_process_group() was not called",
            ],
            "cannot open the model",
        ),
        (["Traceback (most recent call last):", '  File "x.py", line 1, in <module>'], "Traceback"),
        (["Fatal Python error: Segmentation fault", "Thread 0x1:", "  <no Python frame>"], "Segmentation fault"),
        (["/entrypoint.sh: line 3:    17 Killed", "   by somebody"], "17 Killed"),
        (["terminate called after throwing an instance of 'c10::Error'"], "c10::Error"),
        (["docker: Error response from daemon: no such image"], "no such image"),
    ],
)
@pytest.mark.parametrize("state", [{}, {"running": False, "exit_status": 0}, {"running": False, "exit_status": 143}])
def test_a_log_that_ends_in_a_failure_is_not_well(
    lines: list[str], cause: str, state: dict[str, t.Any], frame: str
) -> None:
    text = QUIET_START + "".join(f"{frame.format(line)}\n" for line in lines)
    found = diagnose(text, ProcessState(**state))
    assert found.failed
    assert cause in f"{found.cause} {found.evidence}"


def test_a_value_of_another_type_is_told_from_a_pane() -> None:
    lines = (
        "INFO 01-30 22:11:05 [__init__.py:216] Automatically detected platform cuda.",
        "usage: api_server.py [-h] [--headless] [--config CONFIG]",
        "api_server.py: error: argument --compilation-config/-O: 1 validation error for CompilationConfig",
        "  Input should be an object [type=dataclass_type, input_value=3, input_type=int]",
        "    For further information visit https://errors.pydantic.dev/2.11/v/dataclass_type",
    )
    text = "".join(f"\u2502 vllm {line:<140} \u2502\n" for line in lines) + "Stream closed EOF for default/a (vllm)\n"
    found = diagnose(text)
    assert (found.id, found.retryable) == ("args-invalid", False)
    assert "--compilation-config" in found.cause and '{"mode": 3}' in found.remedy


USAGE = "usage: vllm serve [-h]\nvllm serve: error: unrecognized arguments: --x\n"


@pytest.mark.parametrize(
    ("text", "id"),
    [
        (f"{START}{READY}INFO:     Shutting down\n{QUIET_START}{USAGE}", "args-unrecognized"),
        (f"{START}{READY}{QUIET_START}{USAGE}", "args-unrecognized"),
        (f"{START}{READY}{USAGE}{START}{READY}", "none"),
        (f"{START}{READY}{USAGE}INFO 01-30 22:11:05 [x.py:1] It went on.\n", "none"),
    ],
)
def test_a_start_over_wrong_arguments_is_one_of_its_own(text: str, id: str) -> None:
    assert diagnose(text).id == id


@pytest.mark.parametrize(
    "lines",
    [
        ["ModuleNotFoundError: No module named 'triton'", "INFO 01-30 22:11:06 [a.py:1] Using the other backend."],
        ["WARNING 01-30 22:11:06 [a.py:1] ImportError: cannot import name 'x', falling back"],
        ["INFO 01-30 22:11:06 [a.py:1] 0 errors: Error: none", ""],
        ["  warnings.warn('an error may follow')"],
        ["Loading safetensors checkpoint shards:  50% Completed | 1/2 [00:01<00:01,  1.0s/it]"],
        ["Capturing CUDA graphs: 100%|##########| 3/3 [00:01<00:00]", "Errors so far: 0"],
        ["SystemExit: 0"],
    ],
)
def test_a_log_that_ends_in_what_only_sounds_bad_is_well(lines: list[str]) -> None:
    assert diagnose(QUIET_START + "".join(f"{line}\n" for line in lines)).id == "none"


@pytest.mark.parametrize("lines", [["ERROR 01-30 22:11:06 [a.py:1] A request failed"], ["ValueError: a request"]])
def test_a_server_that_serves_is_not_judged_by_its_last_line(lines: list[str]) -> None:
    text = START + READY + "".join(f"{line}\n" for line in lines)
    assert diagnose(text).id == diagnose(text, ProcessState(running=True)).id == "none"
    assert diagnose(text, ProcessState(running=False, exit_status=143)).id == "none"
    stopped = f"{text}INFO:     Shutting down\n"
    assert diagnose(stopped, ProcessState(running=False, exit_status=0)).id == "none"
    # With status 0 a server leaves whose engine died, too.
    assert diagnose(text, ProcessState(running=False, exit_status=0)).id == "unknown"


# --- the eras of vLLM's log, and what collectors make of it ----------------------------------------------------------


def without_process(text: str) -> str:
    """As up to 0.10.0: the API server and the engine write no prefix."""
    return text.replace("(APIServer pid=921) ", "").replace("(EngineCore pid=2181) ", "")


def coloured(text: str) -> str:
    reset = "\x1b[0;0m"
    for name in ("(APIServer pid=921)", "(EngineCore pid=2181)"):
        text = text.replace(name, f"\x1b[0;36m{name}{reset}")
    return text.replace(" ERROR ", f" \x1b[31mERROR{reset} ")


def prefixed(prefix: str) -> t.Callable[[str], str]:
    return lambda text: "".join(f"{prefix}{line}\n" for line in text.splitlines())


def as_json_file(text: str) -> str:
    lines = [
        json.dumps({"log": line + "\n", "stream": "stderr", "time": "2026-11-21T03:31:23Z"})
        for line in text.splitlines()
    ]
    return "\n".join(lines)


def as_json_logging(text: str) -> str:
    """vLLM 0.31 and later with --logging-config: each record is an object, the traceback one string in it."""
    traceback = "\n".join(line.split("[core.py:1330] ")[1] for line in text.splitlines() if "ERROR 11-21" in line)
    return json.dumps({"level": "error", "message": "EngineCore failed to start.", "exc_info": traceback})


ERAS: dict[str, t.Callable[[str], str]] = {
    "plain": lambda text: text,
    "no process prefix": without_process,
    "EngineCore_0": lambda text: text.replace("(EngineCore pid", "(EngineCore_0 pid"),
    "EngineCore_DP0": lambda text: text.replace("(EngineCore pid", "(EngineCore_DP0 pid"),
    "rank and address": lambda text: text.replace("(EngineCore pid=2181)", "(VllmWorker rank=0 pid=2181, ip=10.0.0.7)"),
    "path as source": lambda text: text.replace("[core.py:1330]", "[v1/engine/core.py:1330]"),
    "colours": coloured,
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "docker timestamps": prefixed("2026-11-21T03:31:23.123456789Z "),
    "journal": prefixed("Nov 21 03:31:23 gpu-1 vllm[921]: "),
    "journal with iso time": prefixed("2026-11-21T03:31:23+0000 gpu-1 vllm[921]: "),
    "compose": prefixed("vllm-1  | "),
    "kubernetes": prefixed("2026-11-21T03:31:23.123456789Z stderr F "),
    "json-file": as_json_file,
    "json logging": as_json_logging,
}


@pytest.mark.parametrize("era", ERAS)
def test_diagnosis_is_the_same_in_every_era(era: str) -> None:
    found = diagnose(ERAS[era](log("h200_memory_held")))
    assert found.id == "mem-free-below-budget"
    assert found.evidence.startswith("ValueError: Free memory on device cuda:0 (62.37/139.8 GiB)")


# --- first root cause, symptoms, look-alikes --------------------------------------------------------------------------

FREE = (
    "ValueError: Free memory on device (1.53/22.05 GiB) on startup is less than desired GPU memory utilization "
    "(0.9, 19.84 GiB)."
)
OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.18 GiB. GPU 0 has a total capacity of 79.18 GiB "
    "of which 713.69 MiB is free."
)
SAMPLER = "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests."
DEAD = (
    "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the "
    "root cause.\n"
)
TRACE = "Traceback (most recent call last):\n"
RETRY = "ERROR 01-01 10:00:01 [x.py:1] Error retrieving file list: LocalEntryNotFoundError(...), retrying 1 of 2\n"


@pytest.mark.parametrize(
    ("why", "text", "id", "symptoms"),
    [
        ("the first of two roots", f"{FREE}\n{SAMPLER}\n", "mem-free-below-budget", ()),
        ("the exact one of a pair", f"{OOM}\n{SAMPLER}\n", "mem-sampler-warmup-oom", ()),
        ("an attempt that is made again is none", f"{RETRY}{FREE}\n", "mem-free-below-budget", ()),
        ("the only one, even when it is an attempt", RETRY.replace(", retrying 1 of 2", ""), "hf-offline", ()),
        ("an attempt that is being made again", RETRY, "none", ()),
        (
            "an attempt that the start went past",
            f"{RETRY}INFO 01-01 10:00:09 [x.py:1] Starting to load model m...\n",
            "none",
            (),
        ),
        ("a root in an INFO line", f"INFO 01-01 10:00:00 [x.py:1] {FREE}\n", "none", ()),
        ("a root before the server was ready", f"{START}{OOM}\n{READY}", "none", ()),
        ("a request that failed while it serves", f"{START}{READY}{TRACE}{OOM}\n", "none", ()),
        ("a server that died of it", f"{START}{READY}{TRACE}{OOM}\n{DEAD}", "cuda-oom", ("engine-dead",)),
        (
            "an engine that died of something unknown",
            f"{START}{READY}{TRACE}RuntimeError: odd\n{DEAD}",
            "engine-dead",
            (),
        ),
        (
            "a symptom alone",
            f"{START}RuntimeError: Engine core initialization failed. See root cause above.\n",
            "engine-start-failed",
            (),
        ),
        (
            "a wait that is over",
            f"{START}{READY}No available shared memory broadcast block found in 60 seconds.\nEngine 000: Avg prompt "
            "throughput: 1.0 tokens/s, Avg generation throughput: 9.9 tokens/s, Running: 1 reqs\n",
            "none",
            (),
        ),
        (
            "workers that die in an orderly stop",
            f"{START}{READY}(APIServer pid=1) INFO 01-01 10:00:00 [launcher.py:1] [shutdown] API server: shutdown "
            "triggered\nWorker proc VllmWorker-0 died unexpectedly, shutting down executor.\n",
            "none",
            (),
        ),
        (
            "the memory summary of a good start",
            "INFO 01-01 10:00:00 [w.py:1] Free memory on device (78.76/79.25 GiB) on startup. Desired GPU memory "
            "utilization is (0.9, 71.33 GiB). Actual usage is 34.38 GiB for weight\n",
            "none",
            (),
        ),
        (
            "an internal port that is tried again",
            "WARNING [parallel.py:750] Address already in use. Retrying with a new port.\n",
            "none",
            (),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 60 and "\n" not in value else "",
)
def test_which_cause(why: str, text: str, id: str, symptoms: tuple[str, ...]) -> None:
    found = diagnose(text)
    assert (found.id, found.symptoms) == (id, symptoms), why


# --- which life, which line, which end -------------------------------------------------------------------------------

ERROR = "ERROR 01-01 10:00:00 [x.py:1] "
# Two banners that are closer are those of one start.
LONG = "INFO 01-01 10:00:00 [a.py:1] something\n" * 25


def chain(*errors: str) -> str:
    between = "\nDuring handling of the above exception, another exception occurred:\n\n"
    return between.join(f"{TRACE}{error}\n" for error in errors)


@pytest.mark.parametrize(
    ("text", "state", "id", "words"),
    [
        pytest.param(
            f"{START}{LONG}{TRACE}{OOM}\n{START}{READY}",
            ProcessState(running=True, restarts=1),
            "none",
            "The server is up.",
            id="a life that failed, and one that serves",
        ),
        pytest.param(
            f"{START}{LONG}{TRACE}{OOM}\n{START}",
            ProcessState(running=True, restarts=1),
            "cuda-oom",
            "",
            id="a life that failed, and one that is starting",
        ),
        pytest.param(
            f"{START}", ProcessState(running=False, exit_status=143), "none", "", id="ended before it could say so"
        ),
        pytest.param(
            f"{START}{TRACE}{OOM}\n{ERROR}Starting to load model m\n",
            ProcessState(running=True),
            "cuda-oom",
            "",
            id="an error that sounds like a phase is none",
        ),
        pytest.param(
            f"{START}{TRACE}{OOM}\nINFO 01-01 10:00:00 [x.py:1] Starting to load model m\n",
            ProcessState(running=True),
            "none",
            "",
            id="the start that went on",
        ),
        pytest.param(
            f"{START}{TRACE}{FREE}\nINFO 01-01 10:00:00 [x.py:1] Starting to load model m\n",
            ProcessState(running=True),
            "mem-free-below-budget",
            "",
            id="one worker that failed for good, and another that goes on",
        ),
        pytest.param(
            f"{START}{chain('AError: first', 'BError: second', 'CError: third')}",
            ProcessState(running=False, exit_status=1),
            "unknown",
            "CError: third",
            id="the last of a chain of three",
        ),
    ],
)
def test_what_counts_in_a_log(text: str, state: ProcessState, id: str, words: str) -> None:
    found = diagnose(text, state)
    assert found.id == id
    assert words in found.cause


def test_a_line_of_another_process_is_no_part_of_an_exception() -> None:
    text = (
        f"{START}(EngineCore pid=2) Traceback (most recent call last):\n"
        "(EngineCore pid=2) ZorkError:\n(APIServer pid=1) a line of another process\n"
    )
    found = diagnose(text, ProcessState(running=False, exit_status=1))
    assert (found.id, found.evidence) == ("unknown", "ZorkError:")
    assert "another process" not in found.cause


def test_a_failure_without_an_exception_shows_the_last_errors() -> None:
    text = START + "".join(f"{ERROR}number {n}\n" for n in range(1, 21))
    found = diagnose(text, ProcessState(running=False, exit_status=1))
    assert found.evidence.splitlines() == [f"number {n}" for n in range(9, 21)]
    assert diagnose(text).evidence.splitlines() == [f"number {n}" for n in range(9, 21)]
    # Of those at the end the first is the cause: the others follow from it.
    assert diagnose(text).cause.endswith(": number 1.")
    # A line of information at the end leaves only the errors above it.
    gone = diagnose(f"{text}INFO 01-01 10:00:00 [x.py:1] bye\n", ProcessState(running=False, exit_status=1))
    assert gone.evidence.splitlines() == [f"number {n}" for n in range(9, 21)]


BANNER = (
    "INFO 01-01 10:00:00 [a.py:1] vLLM API server version 0.26.0\n",
    "INFO 01-01 10:00:00 [a.py:1]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version 0.28.0\n",
    "INFO 01-01 10:00:00 [a.py:1] non-default args: {'model': 'm'}\n",
    "Started vllm.service - a server.\n",
)


@pytest.mark.parametrize("line", BANNER)
def test_a_start_writes_each_line_of_its_banner_once(line: str) -> None:
    assert len(lives(parse_lines("".join(BANNER)))) == 1
    assert len(lives(parse_lines(line + "ERROR 01-01 10:00:00 [a.py:1] x\n" + line))) == 2
    # A start whose own beginning was cut off, and another one.
    other = next(other for other in BANNER if other != line)
    assert len(lives(parse_lines(line + LONG + other))) == 2
    assert len(lives(parse_lines(line + "INFO 01-01 10:00:00 [a.py:1] x\n" * 15 + other))) == 1
    # However long the whole of it is.
    between = "INFO 01-01 10:00:00 [a.py:1] x\n" * 15
    assert len(lives(parse_lines(between.join(BANNER)))) == 1


def test_what_a_start_writes_before_its_banner_is_its_own() -> None:
    prelude = "INFO 01-01 10:00:00 [a.py:1] Automatically detected platform cuda.\n"
    first, second = lives(parse_lines(START + "ValueError: x\n" + prelude + START))
    assert first.lines[-1].text == "ValueError: x"
    assert second.lines[0].text.startswith("Automatically")


def test_eight_workers_that_say_the_same_are_one_cause() -> None:
    worker = "".join(f"(Worker_TP{n} pid={n}) ERROR 01-01 10:00:00 [w.py:1] {FREE}\n" for n in range(8))
    found = diagnose(
        f"{START}{worker}Exception: WorkerProc initialization failed due to an exception in a background process.\n"
    )
    assert (found.id, found.symptoms) == ("mem-free-below-budget", ("worker-init-failed",))


# --- several lives in one log -----------------------------------------------------------------------------------------


def test_the_last_start_counts() -> None:
    both = log("h200_memory_held") + log("h200_llama8b")
    assert len(lives(parse_lines(both))) == 2
    assert diagnose(both).id == "none"
    assert diagnose(log("h200_llama8b") + log("h200_memory_held")).id == "mem-free-below-budget"


@pytest.mark.parametrize(
    ("log", "id"),
    [
        pytest.param([FREE, OOM], "cuda-oom", id="the newest of two short ones"),
        pytest.param([FREE, OOM, ""], "cuda-oom", id="two that failed, and one that has begun"),
        pytest.param([FREE, OOM, READY], "none", id="two that failed, and one that listens"),
        pytest.param([FREE, READY, ""], "none", id="one that failed, one that listened, and one that has begun"),
        pytest.param([FREE, ""], "none", id="one that failed, and one that has begun"),
    ],
)
def test_of_short_lives_the_newest_counts(log: list[str], id: str) -> None:
    assert diagnose("".join(f"{START}{end}\n" for end in log)).id == id


def test_of_many_restarts_the_last_failure_counts() -> None:
    text = "".join(f"{START}{end}\n" for end in (FREE, FREE, OOM, SAMPLER, ""))
    assert diagnose(text, ProcessState(running=True, restarts=4)).id == "mem-sampler-warmup-oom"


def test_a_restart_loop_is_told_by_the_start_before() -> None:
    both = log("h200_memory_held") + START
    assert diagnose(both, ProcessState(running=True)).id == "none"
    assert diagnose(both, ProcessState(running=True, restarts=3)).id == "mem-free-below-budget"


# --- how the process ended --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "text", "state", "id", "said"),
    [
        (
            "killed by the kernel",
            START,
            ProcessState(False, 137, oom_killed=True),
            "xid-unified-oom",
            "memory of the host",
        ),
        ("the log knows better", FREE, ProcessState(False, 1), "mem-free-below-budget", "19.84 GiB"),
        (
            "no GPU runtime",
            "",
            ProcessState(False, 128, error='could not select device driver "" with capabilities: [[gpu]]'),
            "no-gpu",
            "no GPU",
        ),
        (
            "Docker refused",
            "",
            ProcessState(False, 128, error="error setting rlimit type 8", error_remedy="Set ulimits."),
            "unknown",
            "rlimit type 8",
        ),
        ("no such command", "", ProcessState(False, 127), "unknown", "no such command"),
        (
            "another architecture",
            "exec /usr/bin/vllm: exec format error",
            ProcessState(False, 126),
            "image-platform",
            "CPU architecture",
        ),
        ("shared memory", START, ProcessState(False, 135), "unknown", "/dev/shm is too small"),
        ("killed by somebody", START, ProcessState(False, 137), "unknown", "SIGKILL"),
        ("a segmentation fault", START, ProcessState(False, 139), "unknown", "segmentation fault"),
        ("a status of its own", "Something went wrong", ProcessState(False, 7), "unknown", "status 7"),
        ("stopped in order", log("h200_llama8b"), ProcessState(False, 0), "none", "stopped"),
        ("stopped by SIGTERM", log("h200_llama8b"), ProcessState(False, 143), "none", "stopped"),
        ("created, never started", "", ProcessState(False), "none", "no failure"),
        (
            "a worker in state T",
            log("h200_gptoss20b_serving"),
            ProcessState(True, stopped=("VLLM::Worker (PID 31)",)),
            "shm-broadcast-stall",
            "PID 31",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 30 else "",
)
def test_how_it_ended(why: str, text: str, state: ProcessState, id: str, said: str) -> None:
    found = diagnose(text, state)
    assert found.id == id, why
    assert said in found.cause


def test_what_docker_refused_keeps_its_remedy() -> None:
    assert diagnose("", ProcessState(False, 128, error="x", error_remedy="Set ulimits.memlock.")).remedy == (
        "Set ulimits.memlock."
    )


# --- what nobody has seen yet -----------------------------------------------------------------------------------------

CHAINED = f"""{TRACE}  File "a.py", line 1, in f
KeyError: 'x'

During handling of the above exception, another exception occurred:

{TRACE}  File "a.py", line 2, in f
RuntimeError: flux capacitor is missing
"""


@pytest.mark.parametrize(
    ("why", "text", "summary"),
    [
        ("the last of a handled chain", CHAINED, "RuntimeError: flux capacitor is missing"),
        (
            "the first of a direct chain",
            f"{TRACE}ValueError: deep\n\nThe above exception was the direct cause of the following "
            f"exception:\n\n{TRACE}OSError: shallow\n",
            "ValueError: deep",
        ),
        (
            "what an EngineCore failed with",
            "(EngineCore pid=2) ERROR 01-01 10:00:00 [core.py:1] EngineCore failed to start.\n"
            f"(EngineCore pid=2) ERROR 01-01 10:00:00 [core.py:1] {TRACE}"
            '(EngineCore pid=2) ERROR 01-01 10:00:00 [core.py:1]   File "a.py", line 1\n'
            "(APIServer pid=1) INFO 01-01 10:00:00 [x.py:1] between\n"
            "(EngineCore pid=2) ERROR 01-01 10:00:00 [core.py:1] weird.pkg.OddError: it is odd\n"
            f"(APIServer pid=1) {TRACE}"
            "(APIServer pid=1) RuntimeError: Engine core initialization failed. See root cause above. Failed core "
            "proc(s): {}\n",
            "weird.pkg.OddError: it is odd",
        ),
        (
            "a message that begins on the next line",
            f"{TRACE}RuntimeError: \n\n        An attempt was made\n        to start\n",
            "An attempt was made",
        ),
        ("an error without a message", f"{TRACE}AssertionError\n", "AssertionError"),
    ],
)
def test_an_unknown_failure_is_told_in_its_own_words(why: str, text: str, summary: str) -> None:
    found = diagnose(START + text, ProcessState(running=False, exit_status=1))
    assert found.id == "unknown", why
    assert summary in found.cause
    assert summary.split(":")[-1].strip() in found.evidence
    assert found.retryable is (False if "AssertionError" in summary else None)


def test_an_unknown_failure_without_an_exception_shows_its_last_errors() -> None:
    text = f"{START}ERROR 01-01 10:00:00 [x.py:1] the disk sang\nINFO 01-01 10:00:00 [x.py:1] bye\n"
    assert diagnose(text, ProcessState(False, 3)).evidence == "the disk sang"


def test_a_handled_exception_of_a_start_that_goes_on_is_no_failure() -> None:
    text = f"{START}{TRACE}ImportError: no flash\nINFO 01-01 10:00:09 [x.py:1] Starting to load model m...\n"
    assert diagnose(text).id == "none"
    assert diagnose(text, ProcessState(running=True)).id == "none"
    # Nor while it runs and has said no more.
    assert diagnose(f"{START}{TRACE}ZorkError: odd\n", ProcessState(running=True)).id == "none"


@given(
    st.text(max_size=3000),
    st.sampled_from([ProcessState(), ProcessState(True), ProcessState(False, 1), ProcessState(False, 0, restarts=2)]),
)
@settings(max_examples=300)
def test_no_text_raises(text: str, state: ProcessState) -> None:
    found = diagnose(text, state)
    assert isinstance(found, Diagnosis)
    timeline(text)


PIECES = [
    START,
    READY,
    DEAD,
    TRACE,
    FREE,
    OOM,
    SAMPLER,
    RETRY,
    "\r",
    "\n",
    "\x1b[31m",
    "(E pid=1) ",
    "{",
    '{"log":',
    "100%|",
    "  ",
]


@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=20)), max_size=40), st.booleans())
@settings(max_examples=300)
def test_no_mixture_of_known_pieces_raises(pieces: list[str], running: bool) -> None:
    found = diagnose("".join(pieces), ProcessState(running, None if running else 1))
    assert found.id in {*BY_ID, "none", "unknown"}
    assert found.id == "none" or found.cause
    timeline("".join(pieces))


def test_generic_symptoms_are_symptoms() -> None:
    assert all(BY_ID[name].kind == "symptom" for name in GENERIC)


# --- large files ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 MB of access log, and then the end of a failed start."""
    path = tmp_path_factory.mktemp("logs") / "large.log"
    line = b'(APIServer pid=1) INFO:     127.0.0.1:33394 - "GET /health HTTP/1.1" 200 OK\n'
    with path.open("wb") as stream:
        for _turn in range(100):
            stream.write(line * (1024 * 1024 // len(line)))
        stream.write(log("cpu_worker_killed").split("INFO:     Application startup complete.")[1].encode())
    return path


def test_a_large_log_takes_little_time_and_memory(large_log: Path) -> None:
    assert large_log.stat().st_size > 99 * 1024 * 1024
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    text = read_tail(str(large_log))
    found = diagnose(text)
    seconds, grown = time.process_time() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(text) <= TAIL_BYTES
    assert found.id == "worker-died"
    # Of the processor; it takes half a second, and what grows with the square of the lines takes minutes.
    assert seconds < 20
    assert grown < 100 * 1024


def test_the_tail_begins_with_a_whole_line(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("a" * 50 + "\nwhole\n")
    assert read_tail(str(path), 20) == "whole\n"
    assert read_tail(str(path)).startswith("aaa")


def test_bytes_that_are_no_text_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_bytes(b"\xff\xfe\n" + FREE.encode())
    assert diagnose(read_tail(str(path))).id == "mem-free-below-budget"
