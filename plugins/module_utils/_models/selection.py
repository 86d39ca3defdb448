# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which files of a repository a server needs: one copy of the weights and what describes them. Pure."""

from __future__ import annotations

import fnmatch
import re
import typing as t
from dataclasses import dataclass

from .._deploy.weights import FORMATS, GGUF, MISTRAL, PYTORCH, TRANSFORMERS, Format, is_file_name
from .._errors import VllmError

NAMES: dict[str, Format] = {
    "safetensors": TRANSFORMERS,
    "mistral": MISTRAL,
    "pytorch": PYTORCH,
    "gguf": GGUF,
}
AUTO = "auto"
# At the root: configuration, tokenizer, chat templates, and the terms. In folders: chat templates, and the parts of a
# model for embeddings (1_Pooling). Everything else there is another copy (original/, metal/, onnx/).
DESCRIBES = re.compile(
    r"[^/]+\.(?:json|jinja|txt|model|tiktoken|spm)|(?:LICENSE|NOTICE|USE_POLICY)[^/]*"
    r"|(?:additional_)?chat_templates/[^/]+\.jinja|\d+_\w+/[^/]+\.(?:json|safetensors)"
)
CODE = re.compile(r".+\.py")
QUANTIZATION = re.compile(
    r"(?:^|[-._])(?P<name>(?:I?Q[1-8]|TQ[12]|BF16|F16|F32|MXFP4)(?:_[A-Z0-9]+)*)(?=[-.]|$)", re.IGNORECASE
)
# Beside a quantization: the part of a model that sees.
PROJECTOR = re.compile(r"mmproj", re.IGNORECASE)
NAMED = 6


@dataclass(frozen=True)
class Wish:
    """What is wanted of which model; two wishes that are equal lead to the same files of a commit."""

    model: str
    revision: str = "main"
    # Of a GGUF repository, as vLLM writes it after the model.
    quantization: str = ""
    format: str = AUTO
    custom_code: bool = False
    include: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The model as vLLM is given it."""
        return f"{self.model}:{self.quantization}" if self.quantization else self.model

    def format_of(self, names: t.Collection[str]) -> Format:
        """The way to store weights that is taken, of those that the repository has.

        Raises:
            VllmError: when it has none, or not the one that was asked for.
        """
        asked = "gguf" if self.format == AUTO and self.quantization else self.format
        wanted = FORMATS if asked == AUTO else (NAMES[asked],)
        for form in wanted:
            if form.index in names or _weights(names, form):
                return form
        kinds = " or ".join(name for name, form in NAMES.items() if form in wanted)
        raise VllmError(
            f"Cannot choose files of {self.name}: revision {self.revision} has no weights of the kind {kinds} outside "
            "of subfolders. Check model, revision and format.",
            "weights-incomplete",
        )


def choose(wish: Wish, names: t.Collection[str], index: t.Mapping[str, t.Any] | None = None) -> tuple[str, ...]:
    """The names of the files to have, in the order of the names.

    C(index) is what the index of the chosen format holds, when the repository has one.

    Raises:
        VllmError: when the repository is not whole, or it cannot be told which files are meant.
    """
    form = wish.format_of(names)
    weights = _indexed(wish, names, form, index) if form.index in names else _unindexed(wish, names, form)
    others = {other.index for other in FORMATS if other is not form}
    chosen = set(weights)
    for name in names:
        is_code = wish.custom_code and CODE.fullmatch(name)
        if (DESCRIBES.fullmatch(name) and name not in others) or is_code:
            chosen.add(name)
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in wish.include):
            chosen.add(name)
    return tuple(sorted(chosen))


def _weights(names: t.Iterable[str], form: Format) -> list[str]:
    return sorted(name for name in names if "/" not in name and form.files.fullmatch(name))


def _indexed(
    wish: Wish, names: t.Collection[str], form: Format, index: t.Mapping[str, t.Any] | None
) -> t.Collection[str]:
    shards = (index or {}).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(map(is_file_name, shards.values())):
        raise VllmError(
            f"Cannot choose files of {wish.name}: its {form.index} names no files in a weight_map. "
            "Check revision, or report it to the publisher.",
            "weights-incomplete",
        )
    lacking = sorted(set(shards.values()) - set(names))
    if lacking:
        raise VllmError(
            f"Cannot have {wish.name} whole: its {form.index} names {_listed(lacking)}, which revision "
            f"{wish.revision} does not have. Name a revision that is whole.",
            "weights-incomplete",
        )
    return set(shards.values())


def _unindexed(wish: Wish, names: t.Collection[str], form: Format) -> t.Collection[str]:
    weights = _weights(names, form)
    if form is not GGUF:
        return weights
    models = [name for name in weights if not PROJECTOR.search(name)]
    there = sorted({quantization_of(name) for name in models} - {""})
    if not wish.quantization and len(there) > 1:
        raise VllmError(
            f"Cannot choose one file of {wish.model}: it has {_listed(there)}. Name one after the model, as vLLM "
            f"does: {wish.model}:{there[0]}.",
            "invalid-parameter",
        )
    if not wish.quantization:
        return models
    wanted = wish.quantization.upper()
    found = [name for name in models if quantization_of(name) == wanted] or [
        name for name in models if wanted in name.upper()
    ]
    if not found:
        has = f"it has {_listed(there)}" if there else "its files name none"
        raise VllmError(
            f"Cannot find quantization {wish.quantization} of {wish.model}: {has}. Name one of those.",
            "invalid-parameter",
        )
    return found


def quantization_of(name: str) -> str:
    """The quantization that the name of a GGUF file tells, in capitals; empty when it tells none."""
    found = [match["name"].upper() for match in QUANTIZATION.finditer(name)]
    return found[-1] if found else ""


def _listed(names: t.Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
