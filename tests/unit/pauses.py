# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Time that does not pass: what the code under test sleeps is written down instead."""

from __future__ import annotations

import threading
import time

import pytest


def pauses_of(monkeypatch: pytest.MonkeyPatch, longest: float = 0.0) -> list[float]:
    """The seconds that this test's code asks to sleep; it sleeps that long at most.

    There is one C(time.sleep) for all: threads that earlier tests have left sleep as they did, and are not listed.
    """
    taken: list[float] = []
    strangers, sleep = {*threading.enumerate()} - {threading.current_thread()}, time.sleep

    def pause(seconds: float) -> None:
        if threading.current_thread() in strangers:
            sleep(seconds)
            return
        taken.append(seconds)
        sleep(min(seconds, longest))

    monkeypatch.setattr(time, "sleep", pause)
    return taken
