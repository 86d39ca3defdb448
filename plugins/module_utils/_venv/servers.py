# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The environments of servers: which one is meant by C(venv), who uses it, and what goes once nobody does.

A server is known here by the name of its instance (vllm-NAME), so that what somebody recorded by hand stays his.
"""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .._vllm.wheels import GPU_NAME, NAMELESS
from . import spec, state
from .record import Entry, Record, with_user, without_user
from .removal import is_abandoned, locked, take_away

# Keys of a server's C(venv): what names an environment, and how it may be built.
KEYS = (*spec.KEYS, *spec.TERMS)


@dataclass(frozen=True)
class Meant:
    """The environment that a mapping means: where it is, or would be built, and with which vLLM."""

    path: str
    version: str
    is_whole: bool


def wish_of(venv: t.Mapping[str, t.Any], address: str = "venv") -> spec.Wish:
    """What a server's mapping wishes for.

    Raises:
        VllmError: when something in it cannot be used, with its address.
    """
    unknown = sorted({*map(str, venv)} - {*KEYS})
    if unknown:
        raise VllmError(f"Unknown key '{address}.{unknown[0]}'. Valid keys: {', '.join(sorted(KEYS))}.")
    wish = spec.asked({key: venv.get(key) for key in spec.KEYS}, address)
    if GPU_NAME not in {one.name for one in wish.packages}:
        raise VllmError(f"{address}.packages: {NAMELESS}")
    return wish


def meant(venv: t.Mapping[str, t.Any], record: Record) -> Meant:
    """The environment of a server: a look at the record, and at one directory."""
    wish = wish_of(venv)
    root = os.path.normpath(os.path.expanduser(str(venv.get("root") or spec.DEFAULT_ROOT)))
    found = [state.seen(one) for one in record.of(wish.digest, root)]
    whole = next((one.entry.path for one in found if not one.fault), None)
    return Meant(whole or state.target(root, wish, found), wish.version.partition("+")[0], whole is not None)


def unused(record: Record, servers: t.Collection[str], kept: t.Collection[str]) -> tuple[str, ...]:
    """The environments that nobody but these servers is recorded for, without those to be kept."""
    mine = (one for one in record.entries() if one.users and {*one.users} <= {*servers})
    return tuple(one.path for one in mine if one.path not in kept and (one.state == "built" or is_abandoned(one)))


def claim(record: Record, path: str, server: str) -> None:
    """Record that a server uses the environment at a path, if it is one of the record."""
    for one in _at(record, path):
        if server not in one.users:
            _change(record, one, lambda now: with_user(now, server))


def let_go(record: Record, server: str, kept: t.Collection[str]) -> None:
    """Forget that a server uses what others use as well, but for what is kept: what it alone uses stays its own."""
    for one in record.entries():
        if server in one.users and len(one.users) > 1 and one.path not in kept:
            _change(record, one, lambda now: without_user(now, server))


def remove(record: Record, path: str, live: t.Collection[str]) -> None:
    """Remove the environment at a path, unless one of the servers C(live) has begun to use it since that was decided.

    Raises:
        VllmError: when a process runs from it, or when it cannot be deleted.
    """
    for one in _at(record, path):
        with locked(one.digest):
            now = record.current(one)
            if now and not {*now.users} & {*live}:
                take_away(now, record)


def _at(record: Record, path: str) -> list[Entry]:
    return [one for one in record.entries() if one.path == path]


def _change(record: Record, one: Entry, change: t.Callable[[Entry], Entry]) -> None:
    with locked(one.digest):
        now = record.current(one)
        if now:
            record.write(change(now))
