# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the catalogue's models lie on the controller, and how they are read."""

from __future__ import annotations

import difflib
import functools
import json
import typing as t
from pathlib import Path

import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.model_task import ModelFiles
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import Architecture

CATALOGUE = Path(__file__).resolve().parents[2] / "playbooks" / "models"
# What public models say of themselves, written by tools/published_models.py.
PUBLISHED = CATALOGUE / "published.json"
# Reads the files in a fifth of the time where PyYAML was built with it.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@functools.lru_cache(maxsize=64)
def catalogued(name: str) -> t.Any:
    """A model of the catalogue, as its file has it.

    Raises:
        VllmError: when there is none of that name.
    """
    files = {file.stem: file for file in CATALOGUE.glob("*.yml")}
    if not name:
        raise VllmError(f"No model is given. Pass -e model=NAME; the catalogue holds {', '.join(sorted(files))}.")
    if name not in files:
        near = difflib.get_close_matches(name, files, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"The catalogue holds {', '.join(sorted(files))}."
        raise VllmError(
            f"{name!r} is neither in the catalogue nor among the models that were given (vllm_models). {hint} Name "
            "any other model by its id on the Hugging Face Hub, such as Qwen/Qwen3-32B, or by a directory of the host."
        )
    with files[name].open(encoding="utf-8") as stream:
        return yaml.load(stream, Loader=LOADER)  # noqa: S506  # A safe loader, see above.


def architecture_of(
    spec: t.Mapping[str, t.Any], given: t.Any = None, hardware_class: str | None = None
) -> Architecture | None:
    """The numbers of a spec's model: those given, the spec's own, the catalogue's; None when nobody knows them.

    Raises:
        VllmError: when they have the wrong form.
    """
    numbers = given or spec.get("architecture") or _numbers_of(str(spec.get("model")), hardware_class)
    return Architecture.from_mapping(numbers) if numbers else None


@functools.lru_cache(maxsize=64)
def _numbers_of(model_id: str, hardware_class: str | None) -> t.Any:
    for file in sorted(CATALOGUE.glob("*.yml")):
        model = catalogued(file.stem)
        if model["server"]["model"] == model_id and "architecture" in model:
            settings = model["hardware"].get(hardware_class) or {}
            return {**model["architecture"], **settings.get("architecture", {})}
    return None


@functools.lru_cache(maxsize=1)
def published() -> dict[str, t.Any]:
    """Public models by their ids: C(config) (what of config.json matters), C(weights_bytes), C(source), C(date)."""
    return t.cast("dict[str, t.Any]", json.loads(PUBLISHED.read_text("utf-8"))) if PUBLISHED.exists() else {}


def published_files(model: str) -> ModelFiles | None:
    """What is published of a model; None for one that is not in the list."""
    known = published().get(model)
    if known is None:
        return None
    source = f"the catalogue of this collection ({known['source']}, {known['date']})"
    files = tuple(known.get("files") or ())
    return ModelFiles(
        model, known["config"], known["weights_bytes"], files, source=source, eight_bits=known.get("fp8", "")
    )
