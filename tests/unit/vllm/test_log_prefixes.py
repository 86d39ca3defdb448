# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lines are read whatever stands before them, whoever broke them, and where a log was cut."""

from __future__ import annotations

import functools
import re
import textwrap
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import ESCAPES
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import Diagnosis, diagnose
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.failures import GENERIC
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.log import parse_lines
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.phases import timeline
from hypothesis import given, settings, strategies as st
from vllm_logs import LOGS, START, captured

HEALTHY = ("cpu_healthy", "h200_gemma3_27b", "h200_gptoss20b_serving", "h200_llama8b")
FAILED = tuple(sorted(path.stem for path in LOGS.glob("*.log") if diagnose(captured(path.stem)).id != "none"))
# Short ones, so that every prefix meets each.
SHORT = tuple(name for name in FAILED if len(captured(name)) < 60_000)
UNKNOWN = (
    f"{START}Traceback (most recent call last):\n"
    '  File "/usr/lib/python3/site-packages/odd/flux.py", line 1, in f\n    raise ZorkError(\n'
    "odd.flux.ZorkError: the flux capacitor is missing\n"
)

# What stands before the line of the number, as who wrote it down puts it.
PREFIXES: dict[str, t.Callable[[int], str]] = {
    "journald short": lambda n: f"Nov 21 03:31:{n % 60:02d} gpu-1 vllm[921]: ",
    "journald short-precise": lambda n: f"Nov  1 03:31:{n % 60:02d}.{n:06d} gpu-1 vllm[921]: ",
    "journald short-iso": lambda n: f"2026-11-21T03:31:{n % 60:02d}+0000 gpu-1 vllm[921]: ",
    "journald short-iso-precise": lambda n: f"2026-11-21T03:31:{n % 60:02d}.{n:06d}+01:00 gpu-1 vllm[921]: ",
    "journald short-full": lambda n: f"Sat 2026-11-21 03:31:{n % 60:02d} UTC gpu-1 vllm[921]: ",
    "journald short-monotonic": lambda n: f"[{n + 90:6d}.{n:06d}] gpu-1 vllm[921]: ",
    "journald short-unix": lambda n: f"{1763000000 + n}.{n:06d} gpu-1 vllm[921]: ",
    "journald with-unit": lambda n: f"Sat 2026-11-21 03:31:{n % 60:02d} UTC gpu-1 vllm.service[921]: ",
    "docker logs -t": lambda n: f"2026-11-21T03:31:{n % 60:02d}.{n:09d}Z ",
    "compose": lambda n: "vllm-1  | ",
    "compose with times": lambda n: f"vllm-gpt-oss-1  | 2026-11-21T03:31:{n % 60:02d}.{n:09d}Z ",
    "kubectl --prefix": lambda n: "[pod/vllm-7d9f66b8c4-x2k9q/vllm] ",
    "kubectl --prefix --timestamps": lambda n: f"[pod/vllm-7d9f-x2k9q/vllm] 2026-11-21T03:31:{n % 60:02d}.{n:09d}Z ",
    "the kubelet's file": lambda n: f"2026-11-21T03:31:{n % 60:02d}.{n:09d}Z stderr F ",
    "stern": lambda n: "vllm-7d9f66b8c4-x2k9q vllm ",
    "stern with times": lambda n: f"vllm-7d9f-x2k9q vllm 2026-11-21T03:31:{n % 60:02d}.{n:09d}Z ",
    "a pane": lambda n: "\N{BOX DRAWINGS LIGHT VERTICAL} vllm ",
    "a page with a date": lambda n: f"2026-11-21 03:31:{n % 60:02d} ",
    "a page with milliseconds and a zone": lambda n: f"2026-11-21 03:31:{n % 60:02d}.{n % 1000:03d} CET ",
    "a page with the name of the month": lambda n: f"2026-Nov-21 03:31:{n % 60:02d}.{n:06d} ",
    "a page of the United States": lambda n: f"11/21/2026, 3:31:{n % 60:02d} AM ",
    "a page with brackets": lambda n: f"[21.11.2026 03:31:{n % 60:02d}] ",
    "a supervisor": lambda n: f"2026-05-16 10:15:{n % 60:02d}.{n % 1000:03d} [Info] (Process) ",
    "numbers of lines": lambda n: f"{n:6d}\t",
    "a number of a rank": lambda n: f"{n % 4}: ",
    "Docker Desktop": lambda n: f"2026-04-19 12:51:{n % 60:02d}.342 | ",
    "pm2": lambda n: "0|vllm     | ",
    "journald verbose": lambda n: "    MESSAGE=",
    "syslog": lambda n: f"<30>Nov 21 03:31:{n % 60:02d} gpu-1 vllm-gpt-oss/4f6a2b8c9d0e[1173]: ",
    "a rank": lambda n: "[rank0]: ",
    "Ray": lambda n: "(RayWorkerWrapper pid=4194, ip=10.0.0.7) ",
    "Ray, of an engine": lambda n: "(EngineCore_DP0 pid=2557) (RayWorkerWrapper pid=4194) ",
    "literal escapes": lambda n: "ESC[2mESC[36m(Worker pid=7)ESC[0m ",
    "escapes of syslog": lambda n: "#033[2m#033[36m(Worker pid=7)#033[0m ",
    "escapes that lost their first character": lambda n: "[0;36m(Worker pid=7)[0;0m ",
}


def prefixed(name: str, text: str) -> str:
    lines = re.split("[\r\n]+", text.rstrip("\n"))
    return "".join(f"{PREFIXES[name](n)}{line}\n" for n, line in enumerate(lines))


@functools.cache
def said(text: str) -> Diagnosis:
    return diagnose(text)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", SHORT)
def test_a_failure_is_the_same_behind_every_prefix(name: str, prefix: str) -> None:
    plain, found = said(captured(name)), diagnose(prefixed(prefix, captured(name)))
    assert (found.id, found.symptoms, found.cause) == (plain.id, plain.symptoms, plain.cause)
    assert found.evidence.strip() == plain.evidence.strip()


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["cpu_healthy", "h200_llama8b"])
def test_a_healthy_server_is_so_behind_every_prefix(name: str, prefix: str) -> None:
    text = prefixed(prefix, captured(name))
    assert diagnose(text).id == "none"
    phases = timeline("\n".join(re.split("[\r\n]+", captured(name)))).names
    assert timeline(text).names == phases


@pytest.mark.parametrize("prefix", PREFIXES)
def test_what_is_in_no_table_has_its_words_behind_every_prefix(prefix: str) -> None:
    found = diagnose(prefixed(prefix, UNKNOWN))
    assert found.id == "unknown"
    assert "odd.flux.ZorkError: the flux capacitor is missing" in found.cause
    assert "vllm-7d9f" not in found.cause and "2026" not in found.cause


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_line_alone_is_read_behind_every_prefix(prefix: str) -> None:
    line = "(EngineCore pid=7) ERROR 11-21 03:31:23 [core.py:7] ValueError: odd"
    parsed = parse_lines(f"{PREFIXES[prefix](1)}{line}")[0]
    assert (parsed.text, parsed.level, parsed.process) == ("ValueError: odd", "ERROR", "EngineCore")


@pytest.mark.parametrize(
    "prefix", [name for name in PREFIXES if "vllm" in PREFIXES[name](0) or name.startswith(("docker", "a page"))]
)
def test_a_usage_has_no_head_and_is_read_all_the_same(prefix: str) -> None:
    text = "usage: vllm serve [-h]\n                  [--port PORT]\nvllm serve: error: unrecognized arguments: --odd\n"
    found = diagnose(prefixed(prefix, text))
    assert (found.id, found.evidence) == ("args-unrecognized", "vllm serve: error: unrecognized arguments: --odd")


def test_what_stands_before_few_lines_is_no_prefix() -> None:
    work = "INFO 11-21 03:31:23 [a.py:1] at work\n" * 30
    said = "Sent to (Worker pid=3) INFO 11-21 03:31:23 [a.py:1] x\n"
    assert "Sent to nobody" in [line.text for line in parse_lines(f"{work}{said}Sent to nobody\n")]
    few = "INFO 11-21 03:31:23 [a.py:1] at work\n" * 3
    assert "Sent to nobody" in [line.text for line in parse_lines(f"{few}{said}Sent to nobody\n")]


def test_two_collectors_may_write_into_one_log() -> None:
    work = "(APIServer pid=1) INFO 11-21 03:31:23 [a.py:1] at work\n"
    log = "".join(
        [f"first | {work}" * 8, f"second> {work}" * 2, "second> ValueError: odd\n", "first | ValueError: odder\n"]
    )
    assert [line.text for line in parse_lines(log)][-3:] == ["ValueError: odd", "ValueError: odder", ""]


@pytest.mark.parametrize("mark", ["\ufeff", "\ufeff\r\n"])
def test_a_mark_of_the_byte_order_and_line_ends_of_windows(mark: str) -> None:
    text = mark + captured("h200_memory_held").replace("\n", "\r\n")
    assert diagnose(text).cause == said(captured("h200_memory_held")).cause


def test_the_times_of_a_collector_are_those_of_the_lines() -> None:
    parsed = parse_lines(prefixed("docker logs -t", f"{START}x\n"))
    assert [line.time for line in parsed] == ["2026-11-21T03:31:00.000000000", "2026-11-21T03:31:01.000000001", ""]


# --- broken lines ----------------------------------------------------------------------------------------------------


def shown(name: str) -> str:
    """A captured log as a window has it: no colours, and a line for each state of a bar."""
    return "\n".join(re.split("[\r\n]+", ESCAPES.sub("", captured(name))))


def at_the_column(text: str, width: int) -> str:
    return "".join(f"{line[i : i + width]}\n" for line in text.splitlines() for i in range(0, max(len(line), 1), width))


def at_blanks(text: str, width: int) -> str:
    options: dict[str, t.Any] = {"break_on_hyphens": False, "drop_whitespace": True, "replace_whitespace": False}
    return "".join(f"{part}\n" for line in text.splitlines() for part in textwrap.wrap(line, width, **options) or [""])


@pytest.mark.parametrize("width", [79, 80, 100, 120, 132, 211])
@pytest.mark.parametrize("how", [at_the_column, at_blanks])
@pytest.mark.parametrize("name", SHORT)
def test_a_failure_is_the_same_in_a_window(name: str, how: t.Callable[[str, int], str], width: int) -> None:
    text = shown(name)
    plain, found = said(captured(name)), diagnose(how(text, width))
    assert (found.id, found.symptoms) == (plain.id, plain.symptoms)
    assert re.sub(r"\s", "", found.cause) == re.sub(r"\s", "", plain.cause)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("how", [at_the_column, at_blanks])
@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_server_is_so_in_a_window(name: str, how: t.Callable[[str, int], str], width: int) -> None:
    text = shown(name)
    assert diagnose(how(text, width)).id == "none"


@pytest.mark.parametrize("how", [at_the_column, at_blanks])
@pytest.mark.parametrize("width", [79, 80, 100, 120])
def test_one_line_is_whole_again(how: t.Callable[[str, int], str], width: int) -> None:
    line = (
        "ValueError: Free memory on device cuda:0 (62.37/139.8 GiB) on startup is less than desired GPU memory "
        "utilization "
        "(0.85, 118.83 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
    )
    found = diagnose(how(f"(Worker pid=7) ERROR 11-21 03:31:23 [w.py:7] {line}\n", width))
    assert found.id == "mem-free-below-budget"
    assert "62.37 of 139.8 GiB free, 118.83 wanted" in found.remedy


# A line that a window broke once, at a width that windows seldom have: what it tells once it is whole shows that.
ONCE = {
    "mem-free-below-budget": "62.37 of 139.8 GiB free, 118.83 wanted",
    "lora-rank": "Set max_lora_rank to 64",
    "heads-not-divisible": "one of 1, 2, 3, 4, 6",
    "max-len-exceeds-model": "131072 or less",
    "parser-unknown": "hermes, mistral, qwen3_coder",
    "weights-damaged": "Compare the sizes",
    "missing-library": "libmpi.so.40",
}
BROKEN = (
    "ValueError: Free memory on device cuda:0 (62.37/139.8 GiB) on startup is less than desired GPU memory utilization "
    "(0.85, 118.83 GiB).",
    "ValueError: LoRA rank 64 is greater than max_lora_rank 16.",
    "ValueError: Total number of attention heads (12) must be divisible by tensor parallel size (8).",
    "ValueError: User-specified max_model_len (200000) is greater than the derived max_model_len "
    "(max_position_embeddings=131072 or model_max_length=None in model's config.json).",
    "KeyError: 'invalid tool call parser: qwen25 (chose from { hermes,mistral,qwen3_coder })'",
    "safetensors_rust.SafetensorError: Error while deserializing header: incomplete metadata, file not fully covered",
    "ImportError: libmpi.so.40: cannot open shared object file: No such file or directory",
)


@pytest.mark.parametrize("ahead", ["", "Nov 21 03:31:23 gpu-1 vllm[921]: ", "2026-11-21T03:31:23.000000001Z "])
@pytest.mark.parametrize("how", [at_the_column, at_blanks])
@pytest.mark.parametrize(("id", "said", "line"), [(*row, line) for row, line in zip(ONCE.items(), BROKEN)])
def test_a_line_that_a_window_of_an_odd_width_broke_once_is_whole_again(
    id: str, said: str, line: str, how: t.Callable[[str, int], str], ahead: str
) -> None:
    head = f"{ahead}(EngineCore pid=7) {{}} 11-21 03:31:23 [core.py:7] "
    start = "".join(f"{head.format('INFO')}{text}\n" for text in ("vLLM API server version 0.11.0", "at work"))
    for width in range(len(start.splitlines()[0]) + 1, len(head) + len(line) - 3):
        text = how(f"{start}{head.format('ERROR')}{line}\n", width)
        if width not in (79, 80, 99, 100, 119, 120, 131, 132, 159, 160, 199, 200) and text.count("\n") == 4:
            found = diagnose(text)
            assert found.id == id, text
            assert said in f"{found.cause} {found.remedy}", text


USAGE = (
    "usage: vllm serve [-h] [--headless] [--api-server-count API_SERVER_COUNT]\n"
    "                  [--config CONFIG] [--host HOST] [--port PORT]\n"
    "vllm serve: error: argument --kv-cache-dtype: invalid choice: 'bf16' (choose from 'auto', 'fp8', 'fp8_e4m3', 'fp8_inc')\n"
)


@pytest.mark.parametrize("width", [100, 110, 117, 120, 132, 140])
@pytest.mark.parametrize("how", [at_the_column, at_blanks])
@pytest.mark.parametrize("prefix", [name for name in PREFIXES if "escapes" not in name])
def test_a_usage_behind_a_prefix_is_whole_again(prefix: str, how: t.Callable[[str, int], str], width: int) -> None:
    found = diagnose(how(prefixed(prefix, USAGE), width))
    assert (found.id, found.retryable) == ("args-invalid-choice", False)
    assert "bf16 for --kv-cache-dtype" in found.cause


def test_what_stands_below_a_long_line_is_none_of_it() -> None:
    """Only what a process would not begin a line with goes on with the line above."""
    error = "FileNotFoundError: [Errno 2] No such file or directory: '/models/x/model.bin'"
    for below in ("Process EngineCore:", "Traceback (most recent call last):", "gpu-1:1:2 [0] NCCL WARN odd"):
        found = diagnose(f"{START}Traceback (most recent call last):\n{error}\n{below}\n")
        assert found.evidence == error, below


# --- several processes, cut anywhere ----------------------------------------------------------------------------------


@given(st.data())
@settings(max_examples=60)
def test_lines_of_several_processes_may_come_in_any_order(data: st.DataObject) -> None:
    """Each process writes its lines in order, and theirs come between each other's."""
    error = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', "ZorkError: the flux is missing"]
    streams = [[f"(Worker_TP{n} pid={n}) ERROR 11-21 03:31:23 [w.py:7] {line}" for line in error] for n in range(3)]
    streams.append([f"(APIServer pid=9) INFO 11-21 03:31:23 [a.py:1] at work {n}" for n in range(4)])
    lines: list[str] = []
    while any(streams):
        stream = data.draw(st.sampled_from([stream for stream in streams if stream]))
        lines.append(stream.pop(0))
    found = diagnose(START + "\n".join(lines) + "\n", ProcessState(running=False, exit_status=1))
    assert found.id == "unknown"
    assert "ZorkError: the flux is missing" in found.cause
    assert found.evidence.splitlines()[0] == "ZorkError: the flux is missing"


@given(st.sampled_from(SHORT), st.integers(60, 250), st.sampled_from([at_the_column, at_blanks]), st.floats(0, 1))
@settings(max_examples=60)
def test_no_window_makes_up_a_cause(name: str, width: int, how: t.Callable[[str, int], str], part: float) -> None:
    """Whatever the width, wherever it begins: a failure is known by its own name, by what follows from it, or not."""
    lines = how(shown(name), width).splitlines(keepends=True)
    plain = said(captured(name))
    found = diagnose("".join(lines[int(len(lines) * part) :]), ProcessState(running=False, exit_status=1))
    assert found.failed
    kinds = {plain.id, *plain.symptoms, *GENERIC, "unknown", "args-invalid", "hf-offline", "config-invalid"}
    assert found.id in kinds


@given(st.sampled_from(HEALTHY), st.integers(60, 250), st.sampled_from([at_the_column, at_blanks]))
@settings(max_examples=40)
def test_no_window_makes_a_healthy_server_sick(name: str, width: int, how: t.Callable[[str, int], str]) -> None:
    assert diagnose(how(shown(name), width)).id == "none"


@pytest.mark.parametrize(
    ("how", "width"), [(at_the_column, 97), (at_the_column, 194), (at_blanks, 98), (at_blanks, 100)]
)
def test_how_full_a_cache_is_is_no_usage_of_a_program(how: t.Callable[[str, int], str], width: int) -> None:
    """Broken before "usage: 0.0%"."""
    assert diagnose(how(shown("h200_gptoss20b_serving"), width)).id == "none"


@given(st.data())
@settings(max_examples=40)
def test_users_and_workers_may_speak_at_once(data: st.DataObject) -> None:
    """What dies is told whatever users say at that time, and nothing of what they say is told."""
    words = data.draw(
        st.sampled_from(["CUDA out of memory. Tried to allocate 2 GiB", "EngineDeadError", "NVRM: Xid (x): 79"])
    )
    asked = [f"(APIServer pid=9) INFO 11-21 03:31:23 [logger.py:1] Received request {n}: prompt: {words!r}, params: x, "
             "lora_request: None." for n in range(4)]  # fmt: skip
    dies = [
        "EngineCore encountered a fatal error.",
        "Traceback (most recent call last):",
        '  File "a.py", line 1, in f',
        "ZorkError: odd",
    ]
    streams = [asked, [f"(EngineCore pid=7) ERROR 11-21 03:31:23 [core.py:7] {line}" for line in dies]]
    lines: list[str] = []
    while any(streams):
        lines.append(data.draw(st.sampled_from([stream for stream in streams if stream])).pop(0))
    found = diagnose(START + "INFO:     Application startup complete.\n" + "\n".join(lines) + "\n")
    assert (found.id, found.symptoms) == ("engine-dead", ("engine-fatal",))
    assert "ZorkError: odd" in found.cause and words not in f"{found.cause} {found.evidence}"


@given(st.sampled_from(SHORT), st.floats(0, 1), st.sampled_from(sorted(PREFIXES)))
@settings(max_examples=60)
def test_a_failed_server_is_never_well_wherever_its_log_begins(name: str, part: float, prefix: str) -> None:
    """Whatever of its end is left: the process is gone, and no cause is made up."""
    lines = prefixed(prefix, captured(name)).splitlines(keepends=True)
    found = diagnose("".join(lines[int(len(lines) * part) :]), ProcessState(running=False, exit_status=1))
    assert found.failed
    assert found.cause


@given(st.sampled_from(HEALTHY), st.floats(0, 1), st.sampled_from(sorted(PREFIXES)))
@settings(max_examples=60)
def test_a_healthy_log_has_no_cause_wherever_it_is_cut(name: str, part: float, prefix: str) -> None:
    text = prefixed(prefix, captured(name))
    assert diagnose(text[: int(len(text) * part)]).id == "none"
    assert diagnose(text[int(len(text) * part) :], ProcessState(running=True)).id == "none"


def test_a_bar_that_ends_no_line_hides_no_error() -> None:
    progress = "Capturing CUDA graphs: 100%|##########| 3/3 [00:01<00:00, 2.0it/s]"
    found = diagnose(f"{START}{progress}(EngineCore pid=7) ERROR 11-21 03:31:23 [core.py:7] ZorkError: odd\n")
    assert "ZorkError: odd" in found.cause
    assert "Capturing" not in f"{found.cause} {found.evidence}"
