# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""furnish.py CACHE: make a simulated host a GB10 that has the weights of both models: they are files without content."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import sys
from pathlib import Path

WEIGHTS_GIB = {"openai/gpt-oss-120b": 65.97, "google/gemma-3-27b-it": 51.79}
# As much as on an idle one with its page cache dropped; it does not change while servers come and go.
MEMORY_KIB = {"MemTotal": 127535124, "MemFree": 124304832, "MemAvailable": 125304832, "Cached": 1000000}
REVISION = "0" * 40


def make_weights(cache: Path, model: str, size: int) -> None:
    repository = cache / "hub" / f"models--{model.replace('/', '--')}"
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True, exist_ok=True)
    (repository / "refs").mkdir(exist_ok=True)
    (repository / "refs/main").write_text(REVISION)
    (snapshot / "config.json").write_text("{}")
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    with (snapshot / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(header)) + header)
        stream.truncate(8 + len(header) + size)


def tell_memory() -> None:
    """Unified memory is the host's, so /proc/meminfo says how much there is."""
    text = Path("/proc/meminfo").read_text()
    for key, kib in MEMORY_KIB.items():
        text = re.sub(rf"(?m)^{key}:.*$", f"{key}: {kib} kB", text)
    Path("/run/meminfo").write_text(text)
    subprocess.run(["mount", "--bind", "/run/meminfo", "/proc/meminfo"], check=True)


if __name__ == "__main__":
    for name, gib in WEIGHTS_GIB.items():
        make_weights(Path(sys.argv[1]), name, int(gib * 2**30))
    tell_memory()
