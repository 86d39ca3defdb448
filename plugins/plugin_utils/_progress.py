# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An action that calls its module in slices, and shows how far it is in between.

A module says nothing before it ends, so the wait is cut into slices of some seconds. Each is one call of the module,
which ends early when there is something new to show, and at once when the wait is over.
"""

from __future__ import annotations

import abc
import sys
import threading
import time
import typing as t

from ansible import constants as C, context
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable

# Seconds. A call costs a connection and the start of Python, so a line that nobody watches is worth fewer of them.
LIVE_SLICE, PLAIN_SLICE = 10.0, 30.0
# What took less is not worth a line of its own.
WORTH_A_LINE = 3.0
CLEAR = "\r\x1b[K"

# This file is first imported by the process that writes to the terminal; the workers' output goes through it.
IS_TERMINAL = sys.stdout is not None and sys.stdout.isatty()

Seen = t.Mapping[str, t.Any]


class Words(t.NamedTuple):
    """What is shown.

    C(line) takes a name, what was seen, the seconds so far and those that are expected. C(step) is what has to change
    before another line is worth reading. C(summary) is the last line, which may be empty.
    """

    line: t.Callable[[str, Seen, float, float | None], str]
    step: t.Callable[[Seen], t.Any]
    summary: t.Callable[[str, Seen], str]


class SlicedAction(ActionBase):
    """The action of a module that has the parameters C(slice) and C(resume)."""

    _supports_check_mode = True
    _supports_async = True
    _requires_connection = True

    @abc.abstractmethod
    def words(self) -> Words:
        """What is shown."""

    def arguments(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        """What the module is given."""
        return {**self._task.args}

    @abc.abstractmethod
    def subject(self, arguments: Seen) -> str:
        """What is waited for."""

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        arguments = self.arguments(task_vars)
        try:
            if self._is_quiet():
                wrap_async = bool(self._task.async_val) and not self._connection.has_native_async
                result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=wrap_async))
            else:
                result.update(self._wait(arguments, task_vars))
        finally:
            if not self._task.async_val:
                self._remove_tmp_path(self._connection._shell.tmpdir)
        return t.cast("dict[str, t.Any]", printable(result))

    def _is_quiet(self) -> bool:
        """Whether a line in between is unwanted: it would spoil the output of another callback, or nobody waits."""
        callback = str(C.config.get_config_value("DEFAULT_STDOUT_CALLBACK")).rpartition(".")[2]
        adhoc = bool(context.CLIARGS.get("module_name"))
        sliced = bool(self._task.args.get("slice"))
        return bool(self._task.check_mode or self._task.async_val) or callback != "default" or adhoc or sliced

    def _wait(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        progress = self._progress(arguments, task_vars)
        resume: dict[str, t.Any] = {}
        try:
            while True:
                given = {**arguments, "slice": progress.slice, "resume": resume}
                seen: dict[str, t.Any] = self._execute_module(module_args=given, task_vars=task_vars)
                if seen.get("finished", True):
                    progress.close(seen)
                    return {key: value for key, value in seen.items() if key != "finished"}
                resume = seen["resume"]
                progress.show(seen)
        finally:
            progress.stop()

    def _progress(self, arguments: Seen, task_vars: Seen) -> Progress:
        alone = len(task_vars.get("ansible_play_batch") or ()) == 1
        expected = arguments.get("expected_seconds")
        name = f"[{task_vars.get('inventory_hostname')}] {self.subject(arguments)}"
        seconds = float(str(expected)) if str(expected or "").isdigit() else None
        kind = LiveLine if IS_TERMINAL and alone else Progress
        return kind(name, self.words(), seconds, self._display)


class Progress:
    """A new line for each change: in a log file, and where many hosts share a terminal."""

    slice = PLAIN_SLICE

    def __init__(self, name: str, words: Words, expected: float | None, display: t.Any) -> None:
        self.name, self.words, self.expected, self.display = name, words, expected, display
        self.shown: t.Any = None

    def show(self, seen: Seen) -> None:
        step = self.words.step(seen)
        if step != self.shown:
            self.shown = step
            text = self.words.line(self.name, seen, seen.get("elapsed") or 0, self.expected)
            self.display.display(printable(text))

    def close(self, seen: Seen) -> None:
        text = self.words.summary(self.name, seen) if (seen.get("elapsed") or 0) > WORTH_A_LINE else ""
        if text:
            self.display.display(printable(text))

    def stop(self) -> None:
        pass


class LiveLine(Progress):
    """One line that is rewritten every second, also while the module is away on the host."""

    slice = LIVE_SLICE

    def __init__(self, name: str, words: Words, expected: float | None, display: t.Any) -> None:
        super().__init__(name, words, expected, display)
        self.began, self.seen = time.monotonic(), t.cast("Seen", {})
        self.over = threading.Event()
        self.ticker = threading.Thread(target=self._tick, daemon=True)
        self.ticker.start()

    def show(self, seen: Seen) -> None:
        self.seen = seen
        self._write()

    def close(self, seen: Seen) -> None:
        self.stop()
        super().close(seen)

    def stop(self) -> None:
        if not self.over.is_set():
            self.over.set()
            self.ticker.join()
            if time.monotonic() - self.began > 1:
                self.display.display(CLEAR, screen_only=True, newline=False)

    def _tick(self) -> None:
        while not self.over.wait(1):
            self._write()

    def _write(self) -> None:
        text = printable(self.words.line(self.name, self.seen, time.monotonic() - self.began, self.expected))
        self.display.display(f"{CLEAR}{text[: self.display.columns - 1]}", screen_only=True, newline=False)
