# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the watchdog tells: its state as one small file and as metrics, what it remembers of it, and notices."""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import os
import queue
import subprocess
import threading
import typing as t
from dataclasses import asdict

from .._host import files
from .._host.http import HttpError, Server
from .decide import Event, Life, State

VERSION = 1
# Below the directory of the record of root, which reads it; what is in it is for all to read and holds no secret.
DIRECTORY = "watchdog"
STATE, PAUSED, POST_MORTEMS = "state.json", "paused", "post-mortem"
METRICS = "gpufleet_vllm_watchdog.prom"
# Seconds that a file without a number in it pauses the watchdog, from when it was written.
PAUSE = 3600.0
LONGEST_PAUSE = 30 * 86400.0
LIMIT = 1 << 20
# Notices that wait while a hook takes its time, and the seconds that it may take.
WAITING, HOOK_TIMEOUT = 100, 30.0

Json = dict[str, t.Any]


def moment(wall: float) -> str:
    """A time for people, in UTC (ISO 8601)."""
    return datetime.datetime.fromtimestamp(wall, datetime.timezone.utc).isoformat(timespec="seconds")


def paused_until(path: str) -> float:
    """Until when (seconds since the epoch) a file keeps the watchdog from acting; 0 where there is none.

    The file holds seconds, counted from when it was written, or nothing, which means an hour.
    """
    text = files.read_text(path, 64).strip()
    try:
        written = os.stat(path).st_mtime
    except OSError:
        return 0.0
    try:
        seconds = float(text) if text else PAUSE
    except ValueError:
        seconds = PAUSE
    # What is no number compares with none.
    return written + (max(0.0, min(seconds, LONGEST_PAUSE)) if seconds < math.inf else PAUSE)


# --- the state --------------------------------------------------------------------------------------------------------


def written(state: State, about: t.Mapping[str, t.Any]) -> Json:
    """What of a state outlives this program, with what else people want to know."""
    return {
        **about,
        "life": asdict(state.life) if state.life else None,
        "status": state.status,
        "since": moment(state.since),
        "proven": state.proven,
        "restarts": state.restarted,
        "acting": state.acting,
        "stood_down": state.stood_down,
        "events": [{"at": moment(one.at), "kind": one.kind, "cause": one.cause} for one in state.events],
    }


def read_back(content: t.Any) -> State:
    """The state that was written; a new one for anything else."""
    try:
        life = content["life"]
        return State(
            life=Life(str(life["identity"]), str(life["started"]), int(life["restarts"])) if life else None,
            status=str(content["status"]),
            since=_seconds(content["since"]),
            proven=content["proven"] is True,
            events=tuple(
                Event(_seconds(one["at"]), "hang" if one["kind"] == "hang" else "crash", str(one["cause"]))
                for one in content["events"]
            ),
            stood_down=str(content["stood_down"]),
            restarted=int(content["restarts"]),
            acting=content["acting"] is True,
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return State()


def _seconds(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def load(path: str) -> Json:
    """The file of the state; an empty one for anything that is none."""
    try:
        content = json.loads(files.read(path, LIMIT) or b"null")
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and content.get("version") == VERSION else {}


# --- metrics ----------------------------------------------------------------------------------------------------------

# For each server: name, type, what it is, and its value.
SERIES: tuple[tuple[str, str, str, t.Callable[[State], float]], ...] = (
    ("serving", "gauge", "Whether the server is known to answer.", lambda s: s.status in ("serving", "suspect")),
    (
        "suspect",
        "gauge",
        "Whether it has made no step for long, or requests of one token fail.",
        lambda s: s.status == "suspect",
    ),
    ("stood_down", "gauge", "Whether the watchdog does not restart it any more.", lambda s: bool(s.stood_down)),
    ("restarts_total", "counter", "How often the watchdog restarted it.", lambda s: s.restarted),
    ("recent_failures", "gauge", "Hangs and crashes that count against its budget.", lambda s: len(s.events)),
    (
        "status_since_seconds",
        "gauge",
        "Since when its status is as it is, in seconds since the epoch.",
        lambda s: s.since,
    ),
)


def exposition(states: t.Mapping[str, State], wall: float, paused: float) -> str:
    """The states as node exporter's textfile collector reads them."""
    lines = []
    for name, kind, what, value in SERIES:
        full = f"gpufleet_vllm_watchdog_{name}"
        lines += [f"# HELP {full} {what}", f"# TYPE {full} {kind}"]
        lines += [f'{full}{{server="{_escaped(key)}"}} {float(value(one)):g}' for key, one in sorted(states.items())]
    for name, what, number in (
        ("paused", "Whether the watchdog only looks on.", float(paused > wall)),
        ("updated_seconds", "When this was written, in seconds since the epoch.", wall),
    ):
        full = f"gpufleet_vllm_watchdog_{name}"
        lines += [f"# HELP {full} {what}", f"# TYPE {full} gauge", f"{full} {number:.0f}"]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


# --- notices ----------------------------------------------------------------------------------------------------------


class Hook:
    """A command or a URL that gets each notice as JSON. Nobody waits for it: what it cannot take in time is dropped."""

    def __init__(self, command: t.Sequence[str], url: str, say: t.Callable[[str], None]) -> None:
        self.command, self.url, self.say = list(command), url, say
        self.waiting: queue.Queue[Json] = queue.Queue(WAITING)
        if command or url:
            threading.Thread(target=self._run, name="hook", daemon=True).start()

    def send(self, notice: Json) -> None:
        """Hand a notice over, and return at once."""
        if self.command or self.url:
            with contextlib.suppress(queue.Full):
                self.waiting.put_nowait(notice)

    def _run(self) -> None:
        while True:
            notice = self.waiting.get()
            try:
                self._deliver(notice)
            except (OSError, subprocess.SubprocessError, HttpError) as error:
                # A URL may hold a secret, and a command may.
                self.say(f"The hook did not take a notice: {type(error).__name__}.")

    def _deliver(self, notice: Json) -> None:
        if self.command:
            content = json.dumps(notice).encode()
            subprocess.run(self.command, input=content, timeout=HOOK_TIMEOUT, check=True, capture_output=True)
        if self.url:
            base, path = _split(self.url)
            answer = Server(base).request("POST", path, notice, HOOK_TIMEOUT, limit=LIMIT)
            if answer.status >= 400:
                raise OSError(f"HTTP {answer.status}")


def _split(url: str) -> tuple[str, str]:
    scheme, _sep, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host}", slash + path or "/"
