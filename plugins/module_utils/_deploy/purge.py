# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a server's weights and encodings may be deleted: only what its record names, and nothing that is shared.

Looks, and changes nothing. Everything is compared by its real path. What lies in a directory that containers write to
is theirs to choose, so a link in there is followed only as long as it stays in there.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import typing as t

from .plan import Purge
from .record import mounted, paths_in

Intent = t.Mapping[str, t.Any]
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?", re.ASCII)


def purgeable(
    what: t.Collection[str], mine: t.Sequence[Intent], others: t.Sequence[Intent], foreign: t.Collection[str] = ()
) -> Purge:
    """What C(what) (C(weights), C(encodings)) means for a server with these records.

    C(others) are the records of other servers, C(foreign) what containers of others mount.
    """
    directories, files, kept = set(), set(), set()
    shared = _Shared(others, foreign, mine, what)
    for path, root, model in _named_weights(mine) if "weights" in what else ():
        if not os.path.isdir(path):
            continue
        why = _why_not(path, root) or shared.why_not_weights(os.path.realpath(path), model)
        kept.add(_kept(path, why)) if why else directories.add(os.path.realpath(path))
    for path in _named_encodings(mine) if "encodings" in what else ():
        if not os.path.isfile(path):
            continue
        why = shared.why_not_encodings(path)
        kept.add(_kept(path, why)) if why else files.add(path)
    return Purge(tuple(sorted(directories)), tuple(sorted(files)), tuple(sorted(kept)))


def why_to_keep(
    directory: str, model: str, others: t.Sequence[Intent], foreign: t.Collection[str] = ()
) -> tuple[str, str]:
    """The real path of a model's folder in a Hugging Face cache, and why it may not be deleted; empty when it may."""
    path, root, _model = next(_named_weights([{"huggingface_dir": directory, "model": model}]))
    real = os.path.realpath(path)
    return real, _why_not(path, root) or _Shared(others, foreign, (), ("weights",)).why_not_weights(real, model)


def _kept(path: str, why: str) -> str:
    return f"{path} is kept, though purge was asked for: {why}. Delete it yourself if nobody needs it."


def _named_weights(intents: t.Iterable[Intent]) -> t.Iterator[tuple[str, str, str]]:
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


def _named_encodings(intents: t.Iterable[Intent]) -> t.Iterator[str]:
    from .._vllm.encodings import DEFAULT_NAMES

    for intent in intents:
        directory = intent.get("encodings_dir")
        if isinstance(directory, str) and os.path.isabs(directory):
            yield from (os.path.join(os.path.realpath(directory), f"{name}.tiktoken") for name in DEFAULT_NAMES)


def _why_not(path: str, root: str) -> str:
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


class _Shared:
    """What others use, by real path, and what else of this server lies around."""

    def __init__(
        self,
        others: t.Sequence[Intent],
        foreign: t.Collection[str],
        mine: t.Sequence[Intent],
        what: t.Collection[str],
    ) -> None:
        self.foreign = {os.path.realpath(path) for path in foreign}
        self.caches = {_real(one.get("huggingface_dir")) for one in others} - {""}
        self.encodings = {_real(one.get("encodings_dir")) for one in others} - {""}
        # Of a cache each server uses its models; of everything else, whatever it may be, all.
        caches = ("huggingface_dir", "encodings_dir")
        self.paths = {
            os.path.realpath(path)
            for one in others
            for path in paths_in({key: value for key, value in one.items() if key not in caches})
        }
        self.texts = [json.dumps(dict(one)) for one in others]
        self.mine = {_real(one.get(key)) for one in mine for key in ("hf_token_file", "api_key_file", "env_file")}
        self.mine |= {_real(path) for one in mine for path in mounted(one)}
        self.mine |= {_real(one.get("encodings_dir")) for one in mine if "encodings" not in what}

    def why_not_weights(self, real: str, model: str) -> str:
        for path in sorted(self.foreign):
            if _nested(real, path):
                return f"somebody else's container or service uses {path}"
        for path in sorted(self.paths):
            if _nested(real, path):
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
            if _nested(path, used):
                return f"{used} is used by another server or container"
        return ""

    def _names(self, model: str) -> bool:
        """Whether another server names the model, in whatever setting."""
        word = re.compile(rf"(?<![\w.-]){re.escape(model)}(?![\w.-])")
        return any(word.search(text) for text in self.texts)


def _real(path: t.Any) -> str:
    return os.path.realpath(path) if isinstance(path, str) and os.path.isabs(path) else ""


def _nested(one: str, other: str) -> bool:
    """Whether one path is the other, or lies below it."""
    one, other = one.rstrip("/") + "/", other.rstrip("/") + "/"
    return one.startswith(other) or other.startswith(one)
