# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Logs with more than one life, process or error, and lines that are made to take long."""

from __future__ import annotations

import time
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import diagnose
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.log import parse_lines
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.phases import timeline
from vllm_logs import READY, START

GONE = ProcessState(running=False, exit_status=1, name="Container c")
OOM = "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79 GiB.\n"
# A banner has several lines, so lives are told apart only where they are longer than that.
LIFE = "".join(f"INFO 01-01 10:00:{second:02d} [a.py:1] at work\n" for second in range(30))


def traceback(exception: str, process: str = "") -> str:
    lines = ["Traceback (most recent call last):", '  File "a.py", line 1, in f', exception]
    return "".join(f"{process}{line}\n" for line in lines)


# --- which life, which line -------------------------------------------------------------------------------------------


def test_a_server_that_serves_again_has_no_failure() -> None:
    log = START + LIFE + OOM + START + LIFE + READY
    assert diagnose(log, ProcessState(running=True, restarts=1)).id == "none"
    again = START + LIFE + OOM + START + LIFE
    assert diagnose(again, ProcessState(running=True, restarts=1)).id == "cuda-oom"


def test_an_orderly_end_without_a_word_is_no_failure() -> None:
    assert diagnose(START + LIFE + READY, ProcessState(running=False, exit_status=143)).id == "none"


def test_a_line_of_another_process_belongs_to_no_exception() -> None:
    first, second = "(EngineCore pid=1) ", "(Worker pid=2) "
    log = START + traceback("QuuxError:", first) + f"{second}ZorkError: another process\n"
    found = diagnose(log, GONE)
    assert "QuuxError" in found.cause
    assert "ZorkError" not in f"{found.cause} {found.evidence}"


def test_of_a_chain_of_exceptions_the_last_is_the_cause() -> None:
    during = "\nDuring handling of the above exception, another exception occurred:\n\n"
    log = START + during.join(traceback(f"{name}Error: {name}") for name in ("First", "Second", "Third"))
    assert "ThirdError" in diagnose(log, GONE).cause


def test_of_many_errors_the_last_are_shown() -> None:
    log = START + "".join(f"ERROR 01-01 10:00:00 [a.py:1] trouble number {number}\n" for number in range(30))
    shown = diagnose(log, GONE).evidence.splitlines()
    assert (shown[0], shown[-1], len(shown)) == ("trouble number 18", "trouble number 29", 12)


# --- lines that are made to take long ---------------------------------------------------------------------------------

NESTED = '{"a":' * 100000
TROUBLES = {
    "objects in objects": NESTED,
    "objects in objects, closed": '{"a":' * 1000 + "1" + "}" * 1000,
    "a deep level": '{"log": "x", "level": ' + "[" * 900 + "]" * 900 + "}",
    "a deep time": '{"log": "x", "time": ' + "[" * 900 + "]" * 900 + "}",
    "a long number": '{"log": "x", "n": ' + "9" * 1000000 + "}",
    "digits after a file": "x.safetensors " + "9" * 20000,
    "digits after a number of files": "Fetching 6 files: " + "9" * 20000,
    "digits of shards": "Loading safetensors checkpoint shards: " + "9" * 20000,
    "digits of a loader": "Loading weights using loader " + "9" * 20000,
    "digits after a bar": "Fetching 6 files: 5%|" + "9" * 20000,
    "many bars": "Fetching 6 files: " + "1%|" * 20000,
    "many wide bars": "Fetching 6 files: " + ("1%|" + " " * 50 + "9" * 50) * 2000,
    "a wide banner": "\N{FULL BLOCK}" * 20000,
    "a wide banner of versions": "\N{FULL BLOCK} version " * 5000,
    "blanks": " " * 20000,
    "escapes": "\x1b]" * 20000,
    "many carriage returns": "x" + "\r" * 20000,
    "parentheses": "(a " * 20000,
    "a collector's name": "Nov 21 08:00:00 " + "a" * 20000,
    "tokens of a cache": "KV cache size: " + "9," * 20000,
}


@pytest.mark.parametrize("line", TROUBLES.values(), ids=TROUBLES.keys())
def test_no_line_takes_long_or_breaks_off(line: str) -> None:
    began = time.process_time()
    found = parse_lines(line)
    timeline(f"{START}{line}\n{READY}")
    assert found
    assert time.process_time() - began < 2


@pytest.mark.parametrize("line", [TROUBLES["objects in objects"], TROUBLES["objects in objects, closed"]])
def test_a_line_that_cannot_be_unwrapped_stays_as_it_is(line: str) -> None:
    (parsed,) = parse_lines(line)
    assert parsed.text == line
    assert diagnose(f"{START}{line}\n{OOM}", GONE).id == "cuda-oom"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("  5%|\N{FULL BLOCK}    | 3/60 [00:01<00:20, 2.0it/s]", (5, "3/60")),
        (" 50% Completed | 1/2 [00:00<00:00,  5.72it/s]", (50, "1/2")),
        (" 50%|  | 1/2", (50, "1/2")),
        (" 50%|1/2", (50, "1/2")),
        (" 50%|  | 1G/2G", (None, "")),
    ],
)
def test_a_bar_is_read(line: str, shown: tuple[t.Any, str]) -> None:
    phase = timeline(f"{START}Capturing CUDA graphs (decode, FULL): {line}\n").current
    assert (phase.percent, phase.detail) == shown
