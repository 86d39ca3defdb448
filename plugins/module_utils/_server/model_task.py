# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model on its hardware: what its files say, what is wanted, and all that is decided before memory is. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .._gpu.hardware import Hardware
from .._vllm.architecture import Architecture
from .._vllm.families import Family

Spec = dict[str, t.Any]
Engine = t.Mapping[str, t.Any]

# What a driver keeps of a card for itself, at most.
CARD_SHARE = 0.99


@dataclass(frozen=True)
class ModelFiles:
    """What the files of a model say, wherever they were read."""

    # An id of the Hub, or a directory on the host.
    model: str
    config: t.Mapping[str, t.Any]
    # Of all files of weights that vLLM loads.
    weights_bytes: int
    files: tuple[str, ...] = ()
    tokenizer: t.Mapping[str, t.Any] = field(default_factory=dict)
    # The commit that was read; empty for a directory.
    revision: str = ""
    # Where it was read, in words.
    source: str = ""
    # A checkpoint of it in 8 bits, where one is known.
    eight_bits: str = ""

    @property
    def text(self) -> t.Mapping[str, t.Any]:
        """The part of config.json that describes the language model."""
        nested = self.config.get("text_config")
        return nested if isinstance(nested, t.Mapping) and nested else self.config

    @property
    def architecture(self) -> str:
        """The name by which vLLM finds its class."""
        named = self.config.get("architectures")
        return str(named[0]) if isinstance(named, (list, tuple)) and named else ""

    @property
    def quantization(self) -> t.Mapping[str, t.Any]:
        """How the checkpoint says that it is quantized; empty when it is not."""
        places = (self.config.get("quantization_config"), self.text.get("quantization_config"))
        return next((place for place in places if isinstance(place, t.Mapping) and place), {})


@dataclass(frozen=True)
class Wish:
    """What is wanted of a server, tokens of a request and requests of that length at once; and what its host has."""

    context: int | None = None
    concurrency: int | None = None
    # How many GPUs there are, and the MiB of one for a class of which that is not written down; None where not known.
    gpus: int | None = None
    memory_mib: int | None = None


NO_WISH = Wish()


class Setting(t.NamedTuple):
    """One thing that was chosen, and why."""

    key: str
    value: t.Any
    because: str

    def __str__(self) -> str:
        said = str(self.value).lower() if isinstance(self.value, bool) else self.value
        return f"{self.key} {said}: {self.because}."


@dataclass(frozen=True)
class Task:
    """A model on its hardware, with everything that is decided before its memory is."""

    model: ModelFiles
    hardware: Hardware
    wish: Wish
    engine: Engine
    version: str
    made_from: Spec
    numbers: Spec
    architecture: Architecture
    family: Family | None
    pools: bool
    longest: int | None
    settings: tuple[Setting, ...]

    @property
    def address(self) -> str:
        return f"{self.model.model} on {self.hardware.name}"

    @property
    def memory_mib(self) -> float:
        """What vLLM has of a card of the class."""
        nominal = self.hardware.memory_mib or self.wish.memory_mib or 0
        return nominal if self.hardware.is_integrated else nominal * CARD_SHARE
