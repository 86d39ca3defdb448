# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What of a server's weights and encodings may be deleted: only what its record names, and nothing that is shared.

Looks, and changes nothing.
"""

from __future__ import annotations

import os
import typing as t

from .plan import Purge
from .used import Intent, Shared, named_weights, why_not


def purgeable(
    what: t.Collection[str], mine: t.Sequence[Intent], others: t.Sequence[Intent], foreign: t.Collection[str] = ()
) -> Purge:
    """What C(what) (C(weights), C(encodings)) means for a server with these records.

    C(others) are the records of other servers, C(foreign) what containers of others mount.
    """
    directories, files, kept = set(), set(), set()
    shared = Shared(others, foreign, mine, what)
    for path, root, model in named_weights(mine) if "weights" in what else ():
        if not os.path.isdir(path):
            continue
        why = why_not(path, root) or shared.why_not_weights(os.path.realpath(path), model)
        kept.add(_kept(path, why)) if why else directories.add(os.path.realpath(path))
    for path in _named_encodings(mine) if "encodings" in what else ():
        if not os.path.isfile(path):
            continue
        why = shared.why_not_encodings(path)
        kept.add(_kept(path, why)) if why else files.add(path)
    return Purge(tuple(sorted(directories)), tuple(sorted(files)), tuple(sorted(kept)))


def _kept(path: str, why: str) -> str:
    return f"{path} is kept although purge was requested: {why}. Delete it yourself if it is not needed."


def _named_encodings(intents: t.Iterable[Intent]) -> t.Iterator[str]:
    from .._vllm.encodings import DEFAULT_NAMES

    for intent in intents:
        directory = intent.get("encodings_dir")
        if isinstance(directory, str) and os.path.isabs(directory):
            yield from (os.path.join(os.path.realpath(directory), f"{name}.tiktoken") for name in DEFAULT_NAMES)
