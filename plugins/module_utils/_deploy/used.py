# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What servers use of a host, by their records: which paths and models, and why a model may not be deleted.

Looks, and changes nothing. Everything is compared by its real path. What lies in a directory that containers write to
is theirs to choose, so a link in there is followed only as long as it stays in there.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import typing as t

Intent = t.Mapping[str, t.Any]
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def paths_in(intent: t.Mapping[str, t.Any]) -> list[str]:
    """The paths on the host that a server with that record uses."""
    keys = ("huggingface_dir", "encodings_dir", "hf_token_file", "api_key_file", "env_file", "model", "venv")
    found = [*(str(intent.get(key) or "") for key in keys), *mounted(intent)]
    return [path for path in found if path.startswith("/")]


def mounted(intent: t.Mapping[str, t.Any]) -> list[str]:
    """What a server mounts because somebody listed it."""
    volumes = intent.get("volumes")
    listed = volumes if isinstance(volumes, (list, tuple)) else ()
    return [str(volume).split(":", maxsplit=1)[0] for volume in listed]


def why_to_keep(directory: str, model: str, others: t.Sequence[Intent]) -> str:
    """Why a model's folder in a Hugging Face cache may not be deleted; empty when it may."""
    path, root, _model = next(named_weights([{"huggingface_dir": directory, "model": model}]))
    return why_not(path, root) or Shared(others, (), (), ("weights",)).why_not_weights(os.path.realpath(path), model)


def named_weights(intents: t.Iterable[Intent]) -> t.Iterator[tuple[str, str, str]]:
    """The folders of the models in the Hugging Face cache, each with the real path of that cache and the model."""
    for intent in intents:
        directory = intent.get("huggingface_dir")
        if not isinstance(directory, str) or not os.path.isabs(directory):
            continue
        root = os.path.realpath(directory)
        for model in models_of(intent):
            yield os.path.join(root, "hub", "models--" + model.replace("/", "--")), root, model


def models_of(intent: Intent) -> list[str]:
    """The models that a server loads from the cache: its own, and the one that drafts for it."""
    engine = intent.get("engine")
    drafting = engine.get("speculative_config") if isinstance(engine, dict) else None
    if isinstance(drafting, str):
        try:
            drafting = json.loads(drafting)
        except (ValueError, RecursionError):
            drafting = None
    named = [intent.get("model"), drafting.get("model") if isinstance(drafting, dict) else None]
    return [model for model in named if isinstance(model, str) and REPOSITORY.fullmatch(model)]


def why_not(path: str, root: str) -> str:
    """Why a folder below a cache is nothing to delete, whoever uses it; empty when it is."""
    real = os.path.realpath(path)
    if not real.startswith(root.rstrip("/") + "/"):
        return f"a link leads to {real}, outside of {root}"
    if os.path.basename(real) != os.path.basename(path):
        return f"a link leads to {real}, which has another name"
    holy = {"/": "the root of the host", **dict.fromkeys(_homes(), "a home"), **dict.fromkeys(_mounts(), "a mount")}
    inside = sorted(one for one in holy if one == real or one.startswith(real + "/"))
    return f"{inside[0]} is {holy[inside[0]]}" if inside else ""


def _homes() -> set[str]:
    homes = {os.path.realpath(one.pw_dir) for one in pwd.getpwall() if os.path.isabs(one.pw_dir)}
    return homes | {os.path.realpath(os.path.expanduser("~"))}


def _mounts() -> set[str]:
    """The mount points of this host; a blank in one is written in octal."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as stream:
            fields = [line.split(" ")[4] for line in stream if line.count(" ") > 4]
    except OSError:
        return set()
    return {re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), one) for one in fields}


class Shared:
    """What others use, by real path, and what else of this server lies around."""

    def __init__(
        self,
        others: t.Sequence[Intent],
        foreign: t.Collection[str],
        mine: t.Sequence[Intent],
        what: t.Collection[str],
    ) -> None:
        self.foreign = {os.path.realpath(path) for path in foreign}
        self.caches = {_real_path(one.get("huggingface_dir")) for one in others} - {""}
        self.encodings = {_real_path(one.get("encodings_dir")) for one in others} - {""}
        # Of a cache each server uses its models; of everything else, whatever it may be, all.
        caches = ("huggingface_dir", "encodings_dir")
        self.paths = {
            os.path.realpath(path)
            for one in others
            for path in paths_in({key: value for key, value in one.items() if key not in caches})
        }
        self.texts = [json.dumps(dict(one)) for one in others]
        self.mine = {_real_path(one.get(key)) for one in mine for key in ("hf_token_file", "api_key_file", "env_file")}
        self.mine |= {_real_path(path) for one in mine for path in mounted(one)}
        self.mine |= {_real_path(one.get("encodings_dir")) for one in mine if "encodings" not in what}

    def why_not_weights(self, real: str, model: str) -> str:
        for path in sorted(self.foreign):
            if nested(real, path):
                return f"another user's container or service uses {path}"
        for path in sorted(self.paths):
            if nested(real, path):
                return f"another server uses {path}"
        for path in sorted(self.mine | self.caches | self.encodings):
            if path.startswith(real + "/") or path == real:
                return f"{path} is in it"
        for cache in sorted(self.caches):
            if real.startswith(cache.rstrip("/") + "/") and self._names(model):
                return f"another server uses {cache} with this model"
        return ""

    def why_not_encodings(self, path: str) -> str:
        for used in sorted(self.encodings):
            if os.path.dirname(path) == used:
                return f"another server uses {used}"
        for used in sorted(self.foreign | self.paths):
            if nested(path, used):
                return f"{used} is used by another server or container"
        return ""

    def _names(self, model: str) -> bool:
        """Whether another server names the model, in whatever setting."""
        word = re.compile(rf"(?<![\w.-]){re.escape(model)}(?![\w.-])")
        return any(word.search(text) for text in self.texts)


def _real_path(path: t.Any) -> str:
    """A path without links; empty for what is no absolute path."""
    return os.path.realpath(path) if isinstance(path, str) and os.path.isabs(path) else ""


def nested(one: str, other: str) -> bool:
    """Whether one path is the other, or lies below it."""
    one, other = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return one.startswith(other) or other.startswith(one)
