# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Watches a server while it starts: its phase, whether it still gets on, and whether there is any hope.

Each look is cheap: the lines that are new, and now and then the processes. The whole log is read again only when a new
line sounds like trouble.
"""

from __future__ import annotations

import re
import time
import typing as t
from dataclasses import dataclass

from .._host.processes import Activity, ProcessState, look_at, with_activity
from .._vllm.diagnosis import Diagnosis, diagnose
from .._vllm.life import tells_death
from .._vllm.log import parse_lines
from .._vllm.phase_lines import is_progress
from .._vllm.phases import Phase, Timeline, words
from .logfile import Source

LOG_INTERVAL = 0.3
PROCESS_INTERVAL = 0.7
# A look at all processes may take at most this share of the time.
PROCESS_SHARE = 0.05
# So much of one CPU is work; less is what a waiting server spends.
BUSY = 0.1
# After a line of trouble: time for the lines that follow it, or for the process to end.
GRACE = 0.5
# A worker that is waited for may compile: more patience, and CPU time proves nothing, since who waits may spin.
PATIENCE = 3
GPU_AFTER, GPU_INTERVAL = 30.0, 15.0

# What sounds like trouble: one of these stands in a line of whatever the table of failures knows.
ALARM = re.compile(
    r"Error|ERROR|error:|Exception|[Ff]atal|died|Killed|killed|[Ss]eg(?:mentation )?fault|SIG[A-Z]+ received"
    r"|No space left|NCCL WARN|Value error|terminate called|output_handler failed|oom-kill|NVRM: "
    r"|out of resource|collective operation timeout|version mismatch|GPU is lost|[Pp]ermission denied"
    r"|not found|Not Found|driver was not |no locator available|Failed at step|gated|restricted|OfflineMode"
    r"|Main process exited|format error|^Failed: |No module|timed out|Bus error|llegal instruction|No space|no space"
    r"|Failed to load|too quickly|cannot find|failed \w+ probe|nodes are available|nvidia-container-cli"
    r"|Invalid credentials|Forbidden|bad interpreter|SMI has failed|No such file|[Mm]emory access fault"
)
WAITS_FOR_WORKER = re.compile(r"No available shared memory broadcast block")


@dataclass
class Silence:
    """Since when nothing has moved. Times are those of the clock that is passed in."""

    limit: float
    since: float
    waits_for_worker: bool = False

    def moved(self, now: float) -> None:
        self.since, self.waits_for_worker = now, False

    def too_long(self, now: float) -> bool:
        return self.limit > 0 and now - self.since > self.limit * (PATIENCE if self.waits_for_worker else 1)


class Watch:
    """One start of one server."""

    def __init__(
        self,
        source: Source,
        facts: t.Mapping[str, t.Any],
        stall_timeout: float,
        monotonic: t.Callable[[], float] = time.monotonic,
        carried: t.Mapping[str, t.Any] | None = None,
        activity: t.Callable[[int | None], Activity | None] = look_at,
        gpu_memory: t.Callable[[], str] = lambda: "",
    ) -> None:
        carried = carried or {}
        self.source, self.facts, self.monotonic = source, facts, monotonic
        self.activity, self.gpu_memory = activity, gpu_memory
        self.timeline = Timeline()
        now = monotonic()
        # A host that was rebooted in between has a younger clock.
        self.silence = Silence(stall_timeout, min(now, float(carried.get("moved", now))), bool(carried.get("waits")))
        self.cpu: tuple[float, float] | None = None
        self.gpu: str | None = None
        self.stopped_before = False
        self.next_log = self.next_process = now
        self.next_gpu = now
        self.trouble_at: float | None = None
        self.found: Diagnosis | None = None

    @property
    def phase(self) -> Phase:
        return self.timeline.current

    def carry(self) -> dict[str, t.Any]:
        return {"moved": self.silence.since, "waits": self.silence.waits_for_worker}

    def catch_up(self) -> None:
        """Read what was written since the last look, for the last word on the phase."""
        self._read(self.monotonic())

    def look(self) -> Diagnosis | None:
        """What makes waiting pointless, or None."""
        now = self.monotonic()
        if now >= self.next_log:
            self._read(now)
            self.next_log = now + LOG_INTERVAL
        if now >= self.next_process:
            self._count(now)
        self._ask_gpu(now)
        if self.found is None and self.silence.too_long(now):
            self.found = self._stalled(now)
        return self._judged(now)

    def _read(self, now: float) -> None:
        news = parse_lines(self.source.news())
        for line in news:
            self.timeline.feed(line)
            if WAITS_FOR_WORKER.search(line.text):
                self.silence.waits_for_worker = True
            elif line.text and is_progress(line.text):
                self.silence.moved(now)
        if self.trouble_at is None and any(ALARM.search(line.text) or line.is_error for line in news):
            self.trouble_at = now
        if self.phase.name == "ready" and any(map(tells_death, news)):
            # Nothing that follows tells more, and whoever asks hangs meanwhile.
            self.trouble_at = now - GRACE

    def _judged(self, now: float) -> Diagnosis | None:
        """After trouble and a moment's grace: whether it is the end. Trouble that is not is forgotten."""
        if self.trouble_at is not None and now - self.trouble_at >= GRACE:
            self.trouble_at = None
            found = diagnose(self.source.tail(), ProcessState(running=True), self.facts)
            self.found = found if found.failed and found.final else self.found
        return self.found

    def _count(self, now: float) -> None:
        began = time.monotonic()
        seen = self.activity(self.source.root_pid())
        self.next_process = now + max(PROCESS_INTERVAL, (time.monotonic() - began) / PROCESS_SHARE)
        if seen is None:
            return
        if seen.stopped and self.stopped_before and self.found is None:
            self.found = diagnose(self.source.tail(), with_activity(self.source.state(), seen), self.facts)
            self.found = self.found if self.found.failed else None
        self.stopped_before = bool(seen.stopped)
        if self.cpu and now > self.cpu[0]:
            busy = (seen.cpu_seconds - self.cpu[1]) / (now - self.cpu[0])
            if busy > BUSY and not self.silence.waits_for_worker:
                self.silence.moved(now)
        self.cpu = (now, seen.cpu_seconds)

    def _ask_gpu(self, now: float) -> None:
        """Memory of the GPUs that is still filling is progress, too. Utilization is not: a worker that waits for a
        dead one shows 100 %."""
        if now - self.silence.since < GPU_AFTER or now < self.next_gpu:
            return
        self.next_gpu = now + GPU_INTERVAL
        seen = self.gpu_memory()
        if seen and self.gpu is not None and seen != self.gpu:
            self.silence.moved(now)
        self.gpu = seen or self.gpu

    def _stalled(self, now: float) -> Diagnosis:
        state = self.source.state()
        known = diagnose(self.source.tail(), state, self.facts)
        if known.failed:
            return known
        return Diagnosis(
            "stalled",
            f"{state.name} has made no progress for {now - self.silence.since:.0f} s while "
            f"{words(self.phase.name, None)}: no new line in its log and no work of its processes.",
            "Look at dmesg for Xid lines and at the storage of the model (a network file system that hangs). If this "
            "start is only slow, raise stall_timeout.",
            retryable=True,
            final=True,
        )
