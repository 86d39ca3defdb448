# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One look at a server from outside: what it is, how it is, what it wrote, and what that means. No secret comes out."""

from __future__ import annotations

import platform
import re
import typing as t

from .._host.printable import printable
from .._host.processes import ProcessState, look_at, with_activity
from .._host.redaction import redact
from .._version import COLLECTION_VERSION
from .._vllm.diagnosis import Diagnosis, diagnose
from .._vllm.phases import timeline
from .logfile import Source

VERSION = re.compile(
    r"vLLM (?:API )?server version v?(\d[\w.+-]*)|█.*\bversion v?(\d[\w.+-]*)|LLM engine \(v?(\d[\w.+-]*)\)"
)
LINE_WIDTH = 600


def examine(source: Source, facts: t.Mapping[str, t.Any], lines: int) -> dict[str, t.Any]:
    """What M(gpufleet.vllm.vllm_diagnose) returns."""
    state = with_activity(source.state(), look_at(source.root_pid()))
    about = source.about()
    secrets = about.pop("secrets")
    # Before anything is read from it: what is quoted or cut later holds no half of a secret.
    text = redact(source.tail(), secrets)
    found = diagnose(text, state, facts)
    seen = timeline(text)
    return {
        "diagnosis": redacted(found, secrets).to_dict(),
        "phase": seen.current.name,
        "phases": [phase.to_dict() for phase in seen.phases()],
        "state": _state_dict(state, secrets),
        "log": last_lines(text, lines, secrets),
        "versions": versions(source, text),
        "server": about,
    }


def redacted(found: Diagnosis, secrets: t.Sequence[str]) -> Diagnosis:
    """The same diagnosis without secrets."""
    hide = {key: redact(getattr(found, key), secrets) for key in ("cause", "remedy", "evidence")}
    return Diagnosis(found.id, retryable=found.retryable, symptoms=found.symptoms, final=found.final, **hide)


def _state_dict(state: ProcessState, secrets: t.Sequence[str]) -> dict[str, t.Any]:
    """The process, as the module returns it."""
    return {
        "running": state.running,
        "exit_status": state.exit_status,
        "oom_killed": state.oom_killed,
        "restarts": state.restarts,
        "error": redact(state.error, secrets),
        "stopped": list(state.stopped),
    }


def last_lines(text: str, count: int, secrets: t.Sequence[str] = ()) -> list[str]:
    """The end of a log as people read it: of each progress bar its last state, and nothing that a terminal obeys."""
    shown: list[str] = []
    for raw in redact(_end(text, count * 4 * LINE_WIDTH), secrets).split("\n")[-count - 1 :] if count > 0 else []:
        line = str(printable(raw.rstrip("\r").rpartition("\r")[2])).rstrip()
        shown += [line[:LINE_WIDTH]] if line.strip() else []
    return shown[-count:]


def _end(text: str, size: int) -> str:
    """The end of a text without the half of a word that a cut leaves: nobody would see that it is a secret."""
    if len(text) <= size:
        return text
    cut = re.compile(r"\s").search(text, len(text) - size)
    return text[cut.start() :] if cut else ""


def versions(source: Source, text: str) -> dict[str, str]:
    """The versions of all that is involved, as far as they are known."""
    named = [next(filter(None, match.groups()), "") for match in VERSION.finditer(text)]
    found = {
        "collection": COLLECTION_VERSION,
        "vllm": named[-1] if named else "",
        "kernel": platform.release(),
        "os": _os_name(),
        **source.versions(),
    }
    return {key: value for key, value in found.items() if value}


def _os_name() -> str:
    try:
        with open("/etc/os-release", encoding="utf-8") as stream:
            match = re.search(r'^PRETTY_NAME="?([^"\n]+)', stream.read(), re.MULTILINE)
    except OSError:
        return platform.system()
    return match.group(1) if match else platform.system()
