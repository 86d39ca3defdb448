# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is written on every instance that is made, how it is read back, and how instances are named."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass, field

from .._errors import VllmError
from .._host.labels import LABEL_FINGERPRINT, LABEL_SPEC
from .._server.spec import ServerSpec, canonical_json, from_params
from .._version import COLLECTION_VERSION
from .backend import SUFFIX, Making, Slot

LABEL_VERSION = "gpufleet.vllm.version"
# JSON list of the secret files that were written for the server, so that they go when it goes.
LABEL_WROTE = "gpufleet.vllm.wrote"
# The version of vLLM that it runs, so that it is looked up once.
LABEL_VLLM_VERSION = "gpufleet.vllm.vllm_version"
UNKNOWN_VERSION = "unknown"
# JSON list of the identities of what ran before the server, and was stopped for it.
LABEL_SUPERSEDES = "gpufleet.vllm.supersedes"
# JSON of the fallbacks that are in use, and of what they were taken from.
LABEL_FALLBACKS = "gpufleet.vllm.fallbacks"
# On what keeps caches: the server they belong to.
LABEL_CACHE = "gpufleet.vllm.cache"
# On a download: the model that it fetches.
LABEL_FETCH = "gpufleet.vllm.fetch"
FETCH_SUFFIX = "-fetch"


@dataclass(frozen=True)
class Record:
    """What an instance tells of itself; anybody may have written it, so it may hold anything."""

    owned: bool = False
    fingerprint: str | None = None
    intent: t.Mapping[str, t.Any] = field(default_factory=dict)
    supersedes: tuple[str, ...] = ()
    wrote: tuple[str, ...] = ()
    vllm_version: str | None = None
    fallbacks: t.Any = None


def written(making: Making) -> dict[str, str]:
    """The record of an instance, as labels."""
    return {
        LABEL_SPEC: canonical_json(making.spec.to_dict()),
        LABEL_FINGERPRINT: making.fingerprint,
        LABEL_VERSION: COLLECTION_VERSION,
        LABEL_VLLM_VERSION: making.spec.vllm_version or UNKNOWN_VERSION,
        **_unless_empty(LABEL_WROTE, sorted(making.wrote)),
        **_unless_empty(LABEL_SUPERSEDES, list(making.supersedes)),
        **_unless_empty(LABEL_FALLBACKS, making.fallbacks),
    }


def _unless_empty(label: str, value: t.Any) -> dict[str, str]:
    return {label: canonical_json(value)} if value else {}


def read_back(labels: t.Mapping[str, str] | None) -> Record:
    """The record of an instance from its labels."""
    labels = labels or {}
    intent = loaded(labels.get(LABEL_SPEC))
    return Record(
        owned=LABEL_FINGERPRINT in labels,
        fingerprint=labels.get(LABEL_FINGERPRINT),
        intent=intent if isinstance(intent, dict) else {},
        supersedes=_texts(labels.get(LABEL_SUPERSEDES)),
        wrote=_texts(labels.get(LABEL_WROTE)),
        vllm_version=labels.get(LABEL_VLLM_VERSION),
        fallbacks=loaded(labels.get(LABEL_FALLBACKS)),
    )


def loaded(label: str | None) -> t.Any:
    """A label's JSON; None for what is none."""
    try:
        return json.loads(label or "null")
    except ValueError:
        return None


def _texts(label: str | None) -> tuple[str, ...]:
    found = loaded(label)
    return tuple(map(str, found)) if isinstance(found, list) else ()


def recorded_spec(intent: t.Mapping[str, t.Any]) -> ServerSpec | None:
    """The spec that an instance was made from; None for a record that this version cannot read."""
    try:
        return from_params(intent)
    except VllmError:
        return None


def paths_in(intent: t.Mapping[str, t.Any]) -> list[str]:
    """The paths on the host that a server with that record uses."""
    keys = ("huggingface_dir", "encodings_dir", "hf_token_file", "api_key_file", "env_file", "model")
    volumes = [str(volume).split(":", maxsplit=1)[0] for volume in intent.get("volumes") or ()]
    return [path for path in [*(str(intent.get(key) or "") for key in keys), *volumes] if path.startswith("/")]


def server_name(instance_name: str) -> str:
    """The server that an instance belongs to: its name without the suffix of the slot."""
    for suffix in filter(None, SUFFIX.values()):
        if instance_name.endswith(suffix):
            return instance_name[: -len(suffix)]
    return instance_name


def slot_of(instance_name: str) -> Slot:
    """The slot of an instance within its server."""
    return next(slot for slot, suffix in reversed(tuple(SUFFIX.items())) if instance_name.endswith(suffix))


def named(server: str, target: str) -> str:
    """The name of a slot's instance; anything else is the name of another server already."""
    return server + SUFFIX[target] if target in SUFFIX else target
