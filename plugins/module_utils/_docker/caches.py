# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The volumes of what servers compile: a server's own, and the kernels of an image, which all of its servers share.

Kernels have an entry for each server that uses them, and go with the last. Between the look at these entries and what
follows from it nobody else may write one, so both happen under a lock.
"""

from __future__ import annotations

import contextlib
import functools
import typing as t
from dataclasses import replace

from .._deploy.backend import SUFFIX
from .._deploy.ledger import Entry, Known, Ledger, entry
from .._deploy.record import LABEL_CACHE, LABEL_KERNELS, PROBE_INFIX, named
from .._errors import VllmError
from .._host import lock
from .._server.arguments import COMPILED, KERNELS
from . import client as docker_client
from .container import CACHES_TARGET, KERNELS_TARGET, caches_of, kernels_of, name_of, seal_of
from .reader import Inspected, Reader

if t.TYPE_CHECKING:
    from .._deploy.carried import Archive, Carried

# Makes a container that never runs, from its entry and body; returns its id.
Makes = t.Callable[[Entry, t.Mapping[str, t.Any]], str]


class Caches:
    """The volumes on one engine. C(client) hands over the SDK's, loaded by the first effect."""

    def __init__(self, looks: Reader, client: t.Callable[[], t.Any], ledger: Ledger) -> None:
        self.reader, self._client, self.ledger = looks, client, ledger

    def of(self, server: str, gone: t.Collection[str]) -> tuple[str, ...]:
        """Those that go with a server, once the servers C(gone) are not there any more."""
        known, going = self.ledger.known(), {server, *gone}
        mine = {one.name for one in known.of(server, "cache", "kernels")} - _kernels_of_others(known, going)
        if not mine:
            return ()
        places = {named(one, slot) for one in going for slot in SUFFIX}
        places |= {one.name for owner in going for one in known.of(owner, "probe")}
        others = (one for one in self.reader.containers() if name_of(one) not in places)
        return tuple(sorted(mine & self._there(server) - {name for one in others for name in _mounted(one)}))

    @contextlib.contextmanager
    def provided(
        self, server: str, body: t.Mapping[str, t.Any], makes: Makes, carried: Carried | None = None
    ) -> t.Iterator[None]:
        """Record and make the volumes that a container of that body is to mount, new ones with the caches of another
        host; none of them goes until it is made."""
        with contextlib.ExitStack() as locks:
            for name in kernels_of(body):
                locks.enter_context(lock.alone(name))
            self._empty_unfinished(caches_of(body))
            new = {name for name in caches_of(body) if carried and not self._exists(name)}
            for name in caches_of(body):
                self._record(server, name, is_kernels=name in kernels_of(body))
                self._make(server, name, body)
            if carried and not new & {*caches_of(body)} - {*kernels_of(body)}:
                carried.refuse("It has compile caches of its own.")
            elif carried:
                carried.unpack(functools.partial(self._fill, server, body, makes, new))
            yield

    def _make(self, server: str, name: str, body: t.Mapping[str, t.Any]) -> None:
        label = {LABEL_KERNELS: str(body["Image"])} if name in kernels_of(body) else {LABEL_CACHE: server}
        self._client().create_volume(name, labels=label)

    def _exists(self, name: str) -> bool:
        with contextlib.suppress(docker_client.sdk().errors.NotFound):
            self._client().inspect_volume(name)
            return True
        return False

    def _fill(
        self, server: str, body: t.Mapping[str, t.Any], makes: Makes, new: t.Collection[str], archive: Archive
    ) -> None:
        """Unpack an archive into volumes that are new, by a container that never runs.

        As long as it is there they are not whole: who finds it empties them.
        """
        shared = kernels_of(body)
        binds = [bind for bind in body["HostConfig"]["Binds"] if bind.split(":")[0] in new]
        host = {"NetworkMode": "none", "Binds": binds}
        helper = entry(server, "probe")
        helper = replace(helper, name=f"{server}{PROBE_INFIX}{helper.seal[:8]}")
        places = {KERNELS_TARGET: KERNELS, CACHES_TARGET: [one for one in COMPILED if not shared or one not in KERNELS]}
        try:
            made = makes(
                helper, {"Image": body["Image"], "Entrypoint": ["true"], "Cmd": [], "Labels": {}, "HostConfig": host}
            )
            for bind in binds:
                target = bind.split(":")[1]
                self._client().put_archive(made, target, archive.stream(places[target]))
        except Exception:
            self._empty_unfinished(new)
            for name in new:
                self._make(server, name, body)
            raise
        self._drop(helper)
        self.ledger.fill(server, new, carried=True)

    def _empty_unfinished(self, names: t.Collection[str]) -> None:
        """Remove volumes with the caches of another host that are not whole, with what a run filled them by, and those
        that no server was healthy with."""
        known, listed = self.ledger.known(), self.reader.containers()
        mine = {one.name for one in known.entries if one.purpose in ("cache", "kernels")}
        unproven = {one.name for one in known.entries if one.carried} & {*names}
        for name in sorted(unproven - {name for container in listed for name in _mounted(container)}):
            self._remove(name)
        for container in listed:
            unfinished = _mounted(container) & mine
            helper = known.entry_of(name_of(container), str(container["Id"]), seal_of(container), ())
            if helper and helper.purpose == "probe" and unfinished & {*names}:
                self._drop(helper)
                for name in sorted(unfinished):
                    self._remove(name)

    def _drop(self, helper: Entry) -> None:
        with contextlib.suppress(docker_client.sdk().errors.NotFound):
            self._client().remove_container(helper.name, force=True)
        self.ledger.drop(helper)

    def _record(self, server: str, name: str, is_kernels: bool) -> None:
        known = self.ledger.known()
        purpose: t.Literal["cache", "kernels"] = "kernels" if is_kernels else "cache"
        mine = next((one for one in known.of(server, purpose) if one.name == name), None)
        is_there = name in self._labelled(LABEL_KERNELS if is_kernels else LABEL_CACHE)
        is_ours = is_kernels and name in {one.name for one in known.entries if one.purpose == purpose}
        if mine is None:
            # One that somebody else has made is used, and stays his.
            if is_ours or not is_there:
                self.ledger.write(entry(server, purpose, name=name))
        elif mine.filled and not is_there:
            self.ledger.write(replace(mine, filled=False, carried=False))

    def remove(self, server: str, name: str) -> None:
        """Remove a volume that goes with a server; kernels that another one has begun to use stay."""
        if not any(one.name == name for one in self.ledger.known().of(server, "kernels")):
            self._remove(name)
            return
        with lock.alone(name):
            if name not in _kernels_of_others(self.ledger.known(), {server}):
                self._remove(name)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(docker_client.sdk().errors.NotFound):
            self._client().remove_volume(name)

    def is_missing(self, one: Entry) -> bool:
        """Whether the volume of an entry is not there any more."""
        return one.name not in self._there(one.server)

    def let_go(self, server: str, listed: t.Collection[Inspected], gone: bool) -> None:
        """Forget the kernels that a server does not use any more, and remove those that nobody else uses.

        A server without a container may come back, as long as its own cache is there: another took its place.
        """
        known = self.ledger.known()
        kernels = known.of(server, "kernels")
        if not kernels or known.damaged:
            return
        containers = {name_of(one): one for one in listed if name_of(one) in {named(server, slot) for slot in SUFFIX}}
        used = {name for one in containers.values() for name in _mounted(one)}
        own = {one.name for one in known.of(server, "cache")} & self._there(server)
        returns = server not in containers and bool(own)
        for one in kernels:
            if gone or not (one.name in used or returns):
                # Somebody who is at it right now will look as well.
                with contextlib.suppress(VllmError), lock.alone(one.name):
                    self._release(one)

    def _release(self, one: Entry) -> None:
        """Let go of kernels, under their lock: of several servers that do, the last finds no other entry."""
        is_last = one.name not in _kernels_of_others(self.ledger.known(), {one.server})
        if is_last and one.name in self._labelled(LABEL_KERNELS):
            if any(one.name in _mounted(container) for container in self.reader.containers()):
                return  # Somebody else's container has it: a later teardown tries again.
            with contextlib.suppress(*docker_client.failures()):
                self._remove(one.name)
                self.ledger.drop(one)
            return
        self.ledger.drop(one)

    def _there(self, server: str) -> set[str]:
        """The volumes on the engine that may be a server's; labels prove nothing more."""
        return self._labelled(f"{LABEL_CACHE}={server}") | self._labelled(LABEL_KERNELS)

    def _labelled(self, label: str) -> set[str]:
        return {str(volume["Name"]) for volume in self.reader.volumes(label)}


def _kernels_of_others(known: Known, servers: t.Collection[str]) -> set[str]:
    """Kernels that other servers than these use; when the record of one cannot be believed, that may be all."""
    kernels = [one for one in known.entries if one.purpose == "kernels"]
    return {one.name for one in kernels if known.damaged or one.server not in servers}


def _mounted(listed: Inspected) -> set[str]:
    return {str(mount.get("Name")) for mount in listed.get("Mounts") or ()}
