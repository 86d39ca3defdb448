# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who holds the memory of a GPU, in words."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.tenants import gib, holder, holders, owner


@pytest.mark.parametrize(
    ("process", "whose", "sentence"),
    [
        ({"user": "0", "container": "vllm-a", "server": "a"}, "server a", "PID 7 (server a) holds 36.0 GiB"),
        ({"user": "ann", "container": "box"}, "container box", "PID 7 (container box) holds 36.0 GiB"),
        ({"user": "ann"}, "ann", "PID 7 (ann) holds 36.0 GiB"),
        ({"user": "1004"}, "uid 1004", "PID 7 (uid 1004) holds 36.0 GiB"),
        ({}, None, "PID 7 holds 36.0 GiB"),
        ({"user": None, "used_memory_mib": None}, None, "PID 7 holds an unknown amount"),
        ({"user": "ann", "used_memory_mib": 0}, "ann", "PID 7 (ann) holds 0.0 GiB"),
    ],
)
def test_who_holds_memory(process: dict[str, t.Any], whose: str | None, sentence: str) -> None:
    known = {"pid": 7, "used_memory_mib": 36 * 1024, **process}
    assert (owner(known), holder(known)) == (whose, sentence)


def test_the_largest_come_first_and_the_unknown_last() -> None:
    processes = [{"pid": pid, "used_memory_mib": used} for pid, used in ((1, None), (2, 1024), (3, 4096))]
    assert holders(processes) == "PID 3 holds 4.0 GiB, PID 2 holds 1.0 GiB, PID 1 holds an unknown amount"
    assert holders(processes, 1) == "PID 3 holds 4.0 GiB"
    assert holders([]) == ""


def test_memory_is_written_in_gib() -> None:
    assert (gib(81559), gib(0), gib(51.2)) == ("79.6", "0.0", "0.1")
