# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The settings that the controller chose for a server, kept with its record: the next run asks nobody for them.

The controller sends what it knows without them, with a digest of what was asked for. Where the record answers to that
digest, the rest comes from the record, and the run goes on as if it had been sent. Where it does not, the controller is
told what is on the host, and sends everything in a second call.
"""

from __future__ import annotations

import json
import os
import typing as t

from .ledger import Ledger

Params = t.Mapping[str, t.Any]
Result = dict[str, t.Any]
Facts = t.Mapping[str, t.Any]

# The kind of the entry in the record.
KIND = "choice"
# How much of the tokenizer's file is read, which alone names code that it brings along.
LIMIT = 4 << 20


def recalled(server: str, params: Params, look: t.Callable[[], Facts]) -> tuple[Params, Result | None]:
    """The parameters, completed by the record, with the choice that is in it; or what the controller has to know first.

    Without a choice to recall, the parameters are as they came. C(look) gives the facts about the GPUs.

    Raises:
        VllmError: when the record cannot be read.
    """
    asked = params.get("choice") or {}
    if not asked.get("request") or "record" in asked:
        return params, None
    known = Ledger().others(KIND)[0].get(server) or {}
    same = known if known.get("key") == asked.get("key") and not asked.get("anew") else {}
    if same and same.get("request") == asked["request"]:
        return {**params, **same["arguments"], "choice": None}, {"choice": _without_arguments(same)}
    found = {"known": _without_arguments(same) if same else None, "files": None, **_gpus(look)}
    if not same:
        found["files"] = read(str(params["model"]), params.get("huggingface_dir"), asked.get("revision"))
    return {}, {"changed": False, "unchosen": found}


def _without_arguments(record: Params) -> Result:
    """What the controller is told of a record."""
    return {key: value for key, value in record.items() if key not in ("arguments", "kind", "version")}


def read(model: str, huggingface_dir: str | None, revision: str | None = None) -> Result | None:
    """What the files of a model on this host say, where they are whole; None where they are not there.

    The keys: config, tokenizer (mappings), files (names), weights_bytes, revision, source.
    """
    # A choice that is recorded needs no look at weights.
    from . import weights

    found = weights.find(model, huggingface_dir, revision)
    if not found.complete or not found.path or not os.path.isdir(found.path):
        return None
    return {
        "config": dict(found.config),
        "tokenizer": {"auto_map": _json(os.path.join(found.path, "tokenizer_config.json")).get("auto_map")},
        "files": sorted(os.listdir(found.path)),
        "weights_bytes": found.weights_bytes,
        "revision": "" if model.startswith("/") else found.revision or "",
        "source": found.path,
    }


def _json(path: str) -> Result:
    try:
        with open(path, encoding="utf-8") as stream:
            content = json.loads(stream.read(LIMIT))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _gpus(look: t.Callable[[], Facts]) -> Result:
    """How many GPUs there are, and the memory of the smallest; None where nothing tells."""
    facts = look()
    cards = facts.get("gpus") or []
    sizes = [gpu.get("memory_total_mib") for gpu in cards]
    known = [size for size in sizes if isinstance(size, (int, float))]
    return {"gpus": len(cards) or None, "memory_mib": min(known) if len(known) == len(sizes) and known else None}


def keep(ledger: Ledger, server: str, params: Params) -> None:
    """Write down what was chosen for a server that this run has brought to its state.

    Raises:
        VllmError: when it cannot be written.
    """
    record = (params.get("choice") or {}).get("record")
    if record:
        ledger.write_other(KIND, server, record)
