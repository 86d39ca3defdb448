# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What earlier starts measured: which of them a start may rely on, what it pins for it, and the file that keeps them.

Only C(Memory) touches the disk.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import typing as t

from .._host import files
from .._server.keys import canonical_json
from .._server.spec import ServerSpec
from .._vllm.measurements import KEYS, OF_A_PROFILE
from .._vllm.versions import Release
from .ledger import STATE_REMEDY, state_directory

MIB, GIB = 1 << 20, 1 << 30

# ---------------------------------------------------------------------------------------------------------------------
# For the next start
# ---------------------------------------------------------------------------------------------------------------------

STARTUP_PLAN = (0, 32)
LEAST_MARGIN = 256 * MIB
MARGIN_SHARE = 0.02


def pin(known: t.Mapping[str, t.Any], margin: int | None = None) -> int | None:
    """The bytes to pass as kv_cache_memory_bytes, in whole MiB; None when nothing was measured, or too little is left.

    margin is in bytes, by default 2 percent, and 256 MiB at least.
    """
    size = _printed(known) or _in_use(known)
    # A pinned start measures nothing and heeds no gpu_memory_utilization: if a neighbour, another driver or a longer
    # prompt takes a little more than at the start that was measured, nobody notices before a request runs out of
    # memory. The tokens that the margin costs are cheaper than that.
    margin = max(LEAST_MARGIN, math.ceil(size * MARGIN_SHARE)) if margin is None else margin
    left = (size - margin) // MIB * MIB
    return left if left > 0 else None


def _printed(known: t.Mapping[str, t.Any]) -> int:
    """What vLLM says would fit. Some versions take the CUDA graphs off twice: far less than was in use is that."""
    printed = int(_number(known.get("kv_cache_memory_bytes")) or 0)
    return printed if printed > _in_use(known) // 2 else 0


def _in_use(known: t.Mapping[str, t.Any]) -> int:
    return max(0, int((_number(known.get("kv_gib")) or 0) * GIB))


def _number(value: t.Any) -> float | None:
    """A number that was read from a file, or None for anything else."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and abs(value) < 1e18 else None


def is_better(known: t.Mapping[str, t.Any], before: t.Mapping[str, t.Any] | None) -> bool:
    """Whether a start measured what is worth more than what is remembered: a cold start compiles while it measures,
    and leaves less for the KV cache than a warm one."""
    return not before or _in_use(known) > _in_use(before)


def supports_pin(release: Release | None) -> bool:
    """Whether this vLLM takes kv_cache_memory_bytes, for certain."""
    return release is not None and release.knows("kv_cache_memory_bytes") is True


def supports_startup_plan(release: Release | None) -> bool:
    """Whether this vLLM can remember its own profile (VLLM_ENABLE_STARTUP_PLAN), for certain.

    Versions from 0.26 on know the variable; what it does is established for 0.32.
    """
    return release is not None and release.version >= STARTUP_PLAN


def key(spec: ServerSpec, image_id: str | None, revision: str | None, gpu_names: t.Sequence[str]) -> str:
    """Identify everything that a measurement depends on: one of another vLLM, model or GPU says nothing here."""
    engine = {**spec.engine, **spec.engine_unchecked}
    depends = {
        "vllm": image_id or spec.vllm_version or spec.image,
        "model": [spec.model, revision],
        "gpus": sorted(gpu_names),
        "engine": {name: value for name, value in engine.items() if not name.startswith("kv_cache_memory")},
        "env": {name: value for name, value in spec.env.items() if name != "VLLM_ENABLE_STARTUP_PLAN"},
    }
    return f"v1:{hashlib.sha256(canonical_json(depends).encode('utf-8', 'surrogatepass')).hexdigest()}"


def sound(told: t.Any) -> dict[str, t.Any] | None:
    """The numbers of a measurement that somebody hands over, a file or another host; None when it has none."""
    if not isinstance(told, dict):
        return None
    return {name: told[name] for name in KEYS if _number(told.get(name)) is not None} or None


# ---------------------------------------------------------------------------------------------------------------------
# On the host
# ---------------------------------------------------------------------------------------------------------------------

NEWEST = 20
FILE_LIMIT = 1 << 20


class Memory:
    """What was measured for one server, by C(key). A file that holds anything else counts as empty."""

    def __init__(self, container_name: str, directory: str | None = None) -> None:
        self.path = os.path.join(directory or state_directory(), f"{container_name}.json")

    def recall(self, wanted: str) -> dict[str, t.Any] | None:
        entry = self._entries().get(wanted)
        return sound(entry.get("measured") if isinstance(entry, dict) else None)

    def remember(self, wanted: str, known: t.Mapping[str, t.Any], when: str) -> None:
        """Keep a measurement, made at this time (ISO 8601). What a pinned start does not measure stays as it was.

        Raises:
            VllmError: when the file cannot be written.
        """
        profiled = any(name in known for name in OF_A_PROFILE)
        before = {} if profiled else self.recall(wanted) or {}
        others = {name: entry for name, entry in self._entries().items() if name != wanted}
        entries = {**others, wanted: {"when": when, "measured": {**before, **known}}}
        newest = dict(list(entries.items())[-NEWEST:])
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
            files.write_whole(self.path, json.dumps(newest, indent=1).encode() + b"\n", 0o644)
        except (OSError, ValueError) as error:
            raise files.failure(f"remember what vLLM measured in {self.path}", error, STATE_REMEDY) from None

    def _entries(self) -> dict[str, t.Any]:
        try:
            # Opening a pipe would wait for ever.
            if not stat.S_ISREG(os.stat(self.path).st_mode):
                return {}
            with open(self.path, "rb") as stream:
                entries = json.loads(stream.read(FILE_LIMIT))
        except (OSError, ValueError, RecursionError):
            return {}
        return entries if isinstance(entries, dict) else {}
