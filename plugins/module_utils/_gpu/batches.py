# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The batches that vLLM takes on a GPU by default: decided by its memory, its name and the release. Pure."""

from __future__ import annotations

import typing as t

from .hardware import HARDWARE

GIB_MIB = 1024


class Batch(t.NamedTuple):
    """What vLLM's API server takes for max_num_batched_tokens and max_num_seqs from that much memory on."""

    from_gib: int
    tokens: int
    sequences: int
    # The behaviour of a release (_vllm.versions) that has to be there for it.
    needs: str | None = None


BATCHES = (Batch(160, 16384, 1024, "batch_of_16384"), Batch(70, 8192, 1024), Batch(0, 2048, 256))
# When the GPU is not known, it is taken for a large one.
UNKNOWN_BATCH, SMALL_BATCH = BATCHES[1:]


def has_small_batches(name: str | None, hardware_class: str | None) -> bool:
    """Whether vLLM takes the card for a small GPU by its name; where that is not known, its class decides."""
    marks = [kind.small_batches for kind in HARDWARE if kind.small_batches and (name or kind.name == hardware_class)]
    return any(mark in name.lower() for mark in marks) if name else bool(marks)


def default_batch(total_mib: float, is_small: bool, is_unified: bool, behaves: t.Callable[[str], bool]) -> Batch:
    """The batches of a GPU on a release of vLLM, whose behaviours C(behaves) knows."""
    if is_small or (is_unified and not behaves("unified_as_large")):
        return SMALL_BATCH
    fits = (row for row in BATCHES if total_mib >= row.from_gib * GIB_MIB and (not row.needs or behaves(row.needs)))
    return next(fits, SMALL_BATCH)
