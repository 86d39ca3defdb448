# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the files of a model on the Hub, or on a mirror, say of it: a few small ones are read, and the list of all."""

from __future__ import annotations

import json
import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .._host.download import Manner
from .._server.model_task import ModelFiles
from .hub import DEFAULT_ENDPOINT, Hub, Listing
from .selection import Wish, choose

LIMIT = 16 << 20
WEIGHTS = (".safetensors", ".bin", ".gguf")
# Whoever waits is a person.
PATIENCE = Manner(attempts=2, longest_wait=10)


@dataclass(frozen=True)
class Endpoint:
    """A Hub as the controller asks it; the timeout is in seconds."""

    url: str = DEFAULT_ENDPOINT
    token: str = ""
    timeout: float = 30
    ca_path: str | None = None
    validate_certs: bool = True


def described_on_hub(model: str, revision: str, endpoint: Endpoint) -> ModelFiles:
    """What a revision of a model says of itself.

    Raises:
        VllmError: when the Hub does not tell, or what it tells is no model.
    """
    name = model.partition(":")[0]
    hub = Hub(
        endpoint.url,
        name,
        revision,
        endpoint.token,
        "HF_TOKEN of the controller",
        endpoint.timeout,
        endpoint.validate_certs,
        endpoint.ca_path,
        PATIENCE,
    )
    listing = hub.listing()
    names = [file.path for file in listing.files]
    config, tokenizer = (_read(hub, listing, path) for path in ("config.json", "tokenizer_config.json"))
    return ModelFiles(
        model,
        config,
        _weights_bytes(hub, listing, Wish(name, revision)),
        tuple(names),
        {"auto_map": tokenizer.get("auto_map")},
        listing.commit,
        endpoint.url,
    )


def _read(hub: Hub, listing: Listing, path: str) -> dict[str, t.Any]:
    """The mapping in a small file; an empty one where there is no such file."""
    if path not in {file.path for file in listing.files}:
        return {}
    try:
        content = json.loads(hub.content(path, listing.commit, LIMIT))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise VllmError(f"Cannot use {path} of {hub.model}: it is not a JSON mapping.", "download-failed")
    return content


def _weights_bytes(hub: Hub, listing: Listing, wish: Wish) -> int:
    """The size of the files of weights that a server loads."""
    names = {file.path: file for file in listing.files}
    index = wish.format_of(list(names)).index
    shards = _read(hub, listing, index) if index and index in names else None
    chosen = [names[path] for path in choose(wish, list(names), shards) if path.endswith(WEIGHTS) and "/" not in path]
    return sum(hub.completed(file, listing.commit).bytes for file in chosen)
