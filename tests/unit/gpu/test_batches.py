# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The batches that vLLM takes on a GPU by default."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu import batches

GIB = 1024


@pytest.mark.parametrize(
    ("name", "hardware_class", "is_small"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100", True),
        ("GRID A100D-80C", None, True),
        (None, "a100", True),
        ("NVIDIA A800 80GB PCIe", "a100", False),
        ("NVIDIA H200", "h200", False),
        (None, "h200", False),
        (None, None, False),
    ],
)
def test_cards_that_get_small_batches_for_their_name(
    name: str | None, hardware_class: str | None, is_small: bool
) -> None:
    """vLLM looks for a100 in the name; that of an A800 does not hold it."""
    assert batches.has_small_batches(name, hardware_class) is is_small


@pytest.mark.parametrize(
    ("total", "is_small", "is_unified", "behaviours", "batch"),
    [
        pytest.param(69 * GIB, False, False, set(), (2048, 256), id="little memory"),
        pytest.param(70 * GIB, False, False, set(), (8192, 1024), id="much memory"),
        pytest.param(160 * GIB, False, False, set(), (8192, 1024), id="more than an old release knows"),
        pytest.param(160 * GIB, False, False, {"batch_of_16384"}, (16384, 1024), id="very much memory"),
        pytest.param(159 * GIB, False, False, {"batch_of_16384"}, (8192, 1024), id="not quite so much"),
        pytest.param(180 * GIB, True, False, {"batch_of_16384"}, (2048, 256), id="small by name"),
        pytest.param(120 * GIB, False, True, {"unified_as_large"}, (8192, 1024), id="unified, an old release"),
        pytest.param(120 * GIB, False, True, {"batch_of_16384"}, (2048, 256), id="unified"),
    ],
)
def test_the_batches_of_a_card(
    total: int, is_small: bool, is_unified: bool, behaviours: set[str], batch: tuple[int, int]
) -> None:
    found = batches.default_batch(total, is_small, is_unified, behaviours.__contains__)
    assert (found.tokens, found.sequences) == batch


def test_a_card_that_nobody_knows_is_taken_for_a_large_one() -> None:
    assert batches.UNKNOWN_BATCH[1:3] == (8192, 1024)
