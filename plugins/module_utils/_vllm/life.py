# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the log of one life of a server says: whether it was ever ready, and whether its engine is dead. Pure.

Not the cause, which takes the table of failures: whoever stops a server, or asks whether one answers, loads no more
than this. No pattern is compiled, nor log.py loaded, before a log is read.
"""

from __future__ import annotations

import re
import typing as t

from .phase_lines import READY, SERVING

if t.TYPE_CHECKING:
    from .log import Line

# The words of an engine, or of one of its processes, that is not coming back. /health answers 200 for seconds after.
DEAD = (
    r"^Worker (?:proc )?\S+ (?:pid \d+ )?died(?: unexpectedly|, exit code)"
    r"|^RayWorkerProc rank=.{1,80}? died unexpectedly"
    r"|^(?:RuntimeError: )?Engine core proc(?:ess)? \S+ died unexpectedly|process died before responding to readiness"
    r"|^EngineCore (?:encountered a fatal error|encountered an issue|hit an exception)|EngineCore failed to start"
    r"|[Gg]ot fatal signal from worker processes|Engine core initialization failed|Engine process failed to start"
    r"|EngineDeadError|AsyncLLM output_handler failed|Engine loop is not running"
    r"|Background loop (?:has errored|is stopped)|^RuntimeError\('Engine process \(pid \d+\) died"
)
# The same without what makes it slow, to be asked of a whole log.
HINT = (
    r"died|EngineCore (?:encountered|failed|hit)|got fatal signal|Got fatal signal|Engine (?:core init|process failed)"
    r"|EngineDeadError|output_handler failed|Engine loop|Background loop"
)
# Levels of uvicorn's log that hold the line by which a server is known to be ready.
TELLING = (None, "info", "debug", "trace")
# Settings and variables that replace the form of the log, or where it goes.
REFORMING, REFORMING_VARIABLES = ("log_config_file", "logging_config"), ("VLLM_LOGGING_CONFIG_PATH",)


def engine_is_dead(log: str) -> bool:
    """Whether the engine died in the last life that a log tells; what a request quotes is no such news."""
    if not re.search(HINT, log):
        return False
    from .log import is_banner, parse_lines, said

    ready, is_dead = re.compile(READY), False
    for line in parse_lines(log):
        begins = is_banner(line) or said(ready, line.text) is not None
        is_dead = not begins and (is_dead or tells_death(line))
    return is_dead


def tells_death(line: Line) -> bool:
    """Whether a line says that the engine is dead."""
    from .log import QUIET, said

    return line.level not in QUIET and said(re.compile(DEAD), line.text) is not None


def has_answered(log: str) -> bool:
    """Whether a server was ready, or answered anybody."""
    return re.search(f"{READY}|{SERVING}", log) is not None


def tells_when_ready(intent: t.Mapping[str, t.Any]) -> bool:
    """Whether the log of a server with that record would hold the line by which it is known to be ready."""
    settings: dict[str, t.Any] = {}
    for key in ("engine", "engine_unchecked"):
        found = intent.get(key)
        settings.update(found if isinstance(found, dict) else {})
    settings = {str(key).replace("-", "_"): value for key, value in settings.items()}
    variables = intent.get("env")
    named = variables if isinstance(variables, dict) else {}
    is_reformed = any(map(settings.get, REFORMING)) or any(map(named.get, REFORMING_VARIABLES))
    return settings.get("uvicorn_log_level") in TELLING and not is_reformed
