# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is recorded of every instance that is made, what it is labelled with, and how instances are named."""

from __future__ import annotations

import typing as t
from dataclasses import replace

from .._errors import VllmError
from .._host.labels import LABEL_FINGERPRINT, LABEL_SPEC
from .._server.keys import canonical_json
from .._server.spec import ServerSpec, from_params
from .._version import COLLECTION_VERSION
from .backend import SUFFIX, Instance, Making, Other, Slot
from .ledger import Entry, Known, Purpose, entry

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
# On what keeps kernels: the image that they were compiled with, for all of its servers.
LABEL_KERNELS = "gpufleet.vllm.kernels"
# On a download: the model that it fetches.
LABEL_FETCH = "gpufleet.vllm.fetch"
FETCH_SUFFIX = "-fetch"
PROBE_INFIX = "-probe-"
# What nobody can know before the container is made: shows the one that was made, until its id is written down.
LABEL_SEAL = "gpufleet.vllm.seal"


def written(making: Making) -> dict[str, str]:
    """What an instance is labelled with, for people and for those who only show it.

    Nothing is decided by these labels: an image has its own, and a commit copies them. All are written, empty ones too,
    so that none of the image shows through.
    """
    return {
        LABEL_SPEC: canonical_json(making.spec.to_dict()),
        LABEL_FINGERPRINT: making.fingerprint,
        LABEL_VERSION: COLLECTION_VERSION,
        LABEL_VLLM_VERSION: making.spec.vllm_version or UNKNOWN_VERSION,
        LABEL_WROTE: _json(sorted(making.wrote)),
        LABEL_SUPERSEDES: _json(list(making.supersedes)),
        LABEL_FALLBACKS: _json(making.fallbacks),
        LABEL_CACHE: "",
        LABEL_FETCH: "",
    }


def _json(value: t.Any) -> str:
    return canonical_json(value) if value else ""


def recorded(server: str, purpose: Purpose, name: str, making: Making) -> Entry:
    """The entry of an instance that is about to be made."""
    return entry(
        server,
        purpose,
        name=name,
        fingerprint=making.fingerprint,
        salt=making.salt,
        intent=making.spec.to_dict(),
        supersedes=tuple(making.supersedes),
        wrote=tuple(sorted(making.wrote)),
        replaced=tuple(sorted(making.replaced)),
        vllm_version=making.spec.vllm_version or UNKNOWN_VERSION,
        fallbacks=making.fallbacks,
        start_seconds=making.start_seconds,
    )


def known_of(one: Entry) -> dict[str, t.Any]:
    """What is known of an instance by its entry alone."""
    keys = ("fingerprint", "salt", "supersedes", "intent", "wrote", "replaced", "vllm_version", "fallbacks")
    return {key: getattr(one, key) for key in (*keys, "stopping_since")}


def gone(one: Entry, backend: str) -> Instance:
    """A recorded instance that does not exist any more."""
    return Instance("current", True, False, backend=backend, **known_of(one))


def other(one: Entry, name: str, identity: str, running: bool, backend: str) -> Other:
    """An instance of another server, by what it is called now and the entry that proves it to be ours."""
    return Other(
        name,
        identity,
        running,
        slot_of(name),
        supersedes=one.supersedes,
        wrote=one.wrote,
        replaced=one.replaced,
        intent=one.intent,
        backend=backend,
        stopping_since=one.stopping_since,
    )


def with_warmth(one: Instance, known: Known) -> Instance:
    """An instance of ours with whether its next start has anything to compile, or what another host has compiled."""
    if not one.owned:
        return one
    return replace(one, is_cold=known.is_cold(one.caches), is_unproven=known.is_unproven(one.caches))


def not_a_download(instance: str) -> str:
    """Why what has the name of a download is left alone."""
    return (
        f"{instance} exists and is no download that this user's gpufleet.vllm has recorded, so it is left alone. "
        "Remove or rename it yourself."
    )


def recorded_spec(intent: t.Mapping[str, t.Any]) -> ServerSpec | None:
    """The spec that an instance was made from; None for a record that this version cannot read."""
    try:
        return from_params(intent)
    except (VllmError, TypeError, ValueError, AttributeError, RecursionError):
        return None


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
