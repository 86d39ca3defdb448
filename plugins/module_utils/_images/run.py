# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way from a wanted image to an engine that knows it by that name: observe, plan, refuse, apply."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import typing as t
from dataclasses import dataclass

from .._deploy.weights import free_bytes
from .._docker import client as docker_client
from .._docker.images import Images
from .._docker.reader import Inspected
from .._errors import VllmError
from .._host import download
from .._models import peers, progress, serving
from .._models.hub import Remote
from .._models.parameters import Params, directory_of
from .._models.repository import Repository
from .._models.transfer import Pace
from . import plan as plans
from .archive import identities
from .plan import Plan, Room, Seen, Told, Wish
from .work import Report, Result, Work

PARAMETERS: dict[str, dict[str, t.Any]] = {
    "image": {"type": "str", "required": True},
    "huggingface_dir": {"type": "path", "required": True},
    "mirror": {"type": "str"},
    "docker_host": {"type": "str"},
    "offline": {"type": "bool", "default": False},
    "update": {"type": "bool", "default": False},
    "bandwidth_limit": {"type": "bytes"},
    "disk_reserve": {"type": "bytes", "default": "10G"},
    "timeout": {"type": "int", "default": 30},
    "attempts": {"type": "int", "default": 5},
    "peer": {
        "type": "dict",
        "options": {
            "address": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "token": {"type": "str", "required": True, "no_log": True},
            "sources": {"type": "list", "elements": "str", "default": []},
            "head": {"type": "str"},
            "image": {"type": "dict", "default": {}},
            "others": {"type": "list", "elements": "str", "default": []},
        },
    },
    "slice": {"type": "float", "default": 0},
    "resume": {"type": "dict", "default": {}},
}


@dataclass(frozen=True)
class Spool(Repository):
    """Archives of images on their way from host to host, beside the models: gone when that is over."""

    @property
    def name(self) -> str:
        return serving.IMAGES


def run(params: Params, check_mode: bool, images: Images | None = None) -> Result:
    """Have an image on the host under its name; in check mode, only say what is to be done.

    With C(slice), a call ends after that many seconds: C(finished) is false then, and C(resume) is for the next call.

    Raises:
        VllmError: when it cannot be had.
    """
    staging = Staging(params, plans.wish_of(params), images or Images(params["docker_host"]))
    if params["resume"]:
        return staging.looked_after(params["resume"])
    return staging.run(check_mode)


class Staging:
    """One image that is to be on the host."""

    def __init__(self, params: Params, wish: Wish, images: Images) -> None:
        self.params, self.wish, self.images = params, wish, images
        self.spool = Spool(directory_of(params), wish.name)
        self.peer: Params = params["peer"] or {}
        self.sources = list(self.peer.get("sources") or ())
        self.told = plans.told_of(self.peer, wish.name)
        self.origin = self.sources[0] if self.sources else wish.origin
        self.until = time.monotonic() + params["slice"] if params["slice"] else None

    def run(self, check_mode: bool) -> Result:
        """Look, and do what is to be done unless this is check mode."""
        seen = self._seen()
        plan = plans.plan(self.wish, self.told, bool(self.sources), seen)
        plans.check(self.wish, plan)
        passes_on = [one for one in self.peer.get("others") or () if plan.pull or one != seen.named]
        result: Result = {
            "changed": not plan.is_empty,
            "finished": True,
            "actions": plans.actions(self.wish, plan, self.told, self.origin, seen),
            "diff": plans.diff(self.wish, plan, self.told, seen),
            "image": self._described(seen.named),
            "fetched_bytes": 0,
        }
        if check_mode or (plan.is_empty and not passes_on):
            return result
        if self.sources and not self.told:
            head = self.peer.get("head") or "the first of them"
            raise VllmError(
                f"Cannot fetch {self.wish.name} from other hosts: {head} was to get it first, and failed. See "
                "what failed there, and run it again.",
                "download-failed",
            )
        self._refuse(plan, seen, bool(passes_on))
        # What the process needs is loaded before the files of this module are gone.
        docker_client.sdk()
        self._work().begin(lambda report: self._done(plan, seen, report))
        return self.looked_after({**result, "began": time.time()})

    def looked_after(self, known: Params) -> Result:
        """How far it is when the slice is over, or what it came to. C(known) is what an earlier call knew."""
        done, at = self._work().wait(self.until)
        elapsed = round(max(0.0, time.time() - known["began"]), 1)
        result = {key: value for key, value in known.items() if key not in ("began", "at")}
        if done is None:
            state = self._progress(at, known.get("at") or {})
            return {
                **result,
                "finished": False,
                "elapsed": elapsed,
                "progress": state,
                "resume": {**known, "at": {**at, "time": time.time()}},
            }
        result = {**result, "finished": True, "elapsed": elapsed, **done}
        before = result["diff"]["before"].get(self.wish.name)
        if result["diff"]["after"]:
            result["diff"] = {**result["diff"], "after": {self.wish.name: done["image"]["id"]}}
        if before == done["image"]["id"]:
            # The registry had nothing newer.
            result.update(changed=False, actions=[], diff={"before": {}, "after": {}})
        return result

    # --- looking ----------------------------------------------------------------------------------------------------

    def _seen(self) -> Seen:
        named = self._found()
        told = self.told
        there = next((one for one in told.identities if self.images.look(one)), "") if told else ""
        archived = 0
        if told:
            path = self.spool.blob(told.digest)
            archived = os.path.getsize(path) if os.path.isfile(path) else self.spool.partial_bytes(told.digest)
        return Seen(str(named["Id"]) if named else "", there, archived)

    def _found(self) -> Inspected | None:
        """What the name stands for; an image that is pinned by a digest may have come from another host."""
        return self.images.look(self.wish.name) or (
            self.images.look(":".join(self.wish.reference.local)) if self.wish.reference.digest else None
        )

    def _described(self, identity: str) -> Result | None:
        found = self.images.look(identity) if identity else None
        if not found:
            return None
        return {"image": self.wish.name, "id": str(found["Id"]), "size": int(found.get("Size") or 0)}

    def _refuse(self, plan: Plan, seen: Seen, passes_on: bool) -> None:
        """Find out before anything is done what would end it halfway."""
        rooms = []
        roots = self.images.roots()
        if plan.fetch and self.told:
            # An engine unpacks the archive beside the layers that it makes of it.
            rooms = [_room(self.spool.huggingface_dir, max(0, self.told.archive_size - seen.archived))]
            rooms += [_room(roots[-1], 2 * self.told.size)]
        elif plan.pull:
            rooms = [_room(root, 0) for root in roots]
        if passes_on and not plan.pull:
            size = int((self._described(seen.named) or {}).get("size") or 0)
            rooms += [_room(self.spool.huggingface_dir, size), _room(roots[0], size)]
        plans.check_disk(rooms, self.wish.name, self.params["disk_reserve"])
        if plan.fetch or passes_on:
            self.spool.refuse_links()
            self.spool.refuse_unwritable()

    # --- doing it ---------------------------------------------------------------------------------------------------

    def _work(self) -> Work:
        token = self.peer.get("token") if self.sources or self.peer.get("others") else ""
        wanted = [self.wish.name, self.wish.mirror, self.wish.updates, token, self.sources, self.peer.get("image")]
        return Work(f"{self.wish.name} at {self.params['docker_host'] or ''}", json.dumps(wanted))

    def _done(self, plan: Plan, seen: Seen, report: Report) -> Result:
        if not self.peer:
            return self._carried_out(plan, seen, report)
        place = peers.place_of(self.peer, self.spool.huggingface_dir)

        def reporting(doing: str, done: int, total: int) -> None:
            serving.keep(place)
            report(doing, done, total)

        with serving.passing_on(place, self.peer["token"]):
            result = self._carried_out(plan, seen, reporting)
        # An engine may have been silent for longer than what passes files on waits for.
        serving.start(place, self.peer["token"], is_new=False)
        return result

    def _carried_out(self, plan: Plan, seen: Seen, report: Report) -> Result:
        fetched = 0
        if plan.pull:
            fetched = self._pull(report)
        if plan.fetch and self.told:
            fetched = self._fetch(self.told, report)
        if plan.name and self.told:
            self._name(self.told, seen)
        found = self._found()
        described = self._described(str(found["Id"])) if found else None
        if described is None:
            raise VllmError(
                f"The image {self.wish.name} is not on the host though it was provided: it was removed meanwhile. "
                "Run it again.",
                "image-missing",
            )
        if [one for one in self.peer.get("others") or () if one != described["id"]]:
            described = {**described, **self._save(described["id"], described["size"], report)}
        return {"image": described, "fetched_bytes": fetched}

    def _pull(self, report: Report) -> int:
        asked, total = self.wish.asked, [0]

        def passing(done: int, size: int) -> None:
            total[0] = size
            report("pulled", done, size)

        had = self.images.look(str(asked))
        self.images.pull(asked, passing)
        pulled = self.images.look(str(asked))
        if self.wish.mirror and pulled:
            self.images.name(str(pulled["Id"]), *self.wish.reference.local)
            if not had:
                self.images.forget(str(asked))
        return total[0]

    def _save(self, identity: str, size: int, report: Report) -> Result:
        """Write the archive that other hosts fetch; its name is the digest that it turns out to have."""
        self.spool.make_directory(os.path.dirname(self.spool.blob("")))
        path = self.spool.partial(f"{identity[-64:]}.saved")
        hasher, written = hashlib.sha256(), 0
        with download.held(path) as stream:
            stream.truncate(0)

            def write(piece: bytes) -> None:
                nonlocal written
                view = memoryview(piece)
                with download.on_disk(f"write {path}"):
                    while view:
                        view = view[stream.write(view) :]
                hasher.update(piece)
                written += len(piece)
                report("saved", written, max(size, written))

            self.images.save(identity, write)
            known = identities(path, self.wish.name)
            if identity not in known:
                raise VllmError(
                    f"Cannot pass on {self.wish.name}: the engine wrote an archive of {known[0]}, and the image is "
                    f"{identity}. Have each host pull it, without peer_address.",
                    "backend-failed",
                )
            # Only who runs this may read it: what a registry gave after a login is not for every user of the host.
            with download.on_disk(f"write {self.spool.blob(hasher.hexdigest())}"):
                os.replace(path, self.spool.blob(hasher.hexdigest()))
        return {"ids": list(known), "archive": {"size": written, "digest": hasher.hexdigest()}}

    def _fetch(self, told: Told, report: Report) -> int:
        """Bring the archive, look into it, and have the engine read it. It stays for the hosts that wait for it."""
        file = Remote("the image", told.archive_size, told.digest)
        path, partial = self.spool.blob(told.digest), self.spool.partial(told.digest)
        pace, came = Pace(self.params["bandwidth_limit"]), 0

        def passing(position: int, count: int) -> None:
            nonlocal came
            came += count
            pace.pass_on(count)
            report("fetched", position, told.archive_size)

        def going_on() -> None:
            report("fetched", self.spool.partial_bytes(told.digest), told.archive_size)

        self.spool.make_directory(os.path.dirname(path))
        if not os.path.isfile(path):
            manner = download.Manner(self.params["attempts"], keeps_partial=True, passing=passing)
            source = peers.source_of(self.peer, self.spool, file, self.params["timeout"], going_on)
            download.install(source, file.expected, path, partial, manner=manner)
        known = identities(path, self.wish.name)
        if told.identity not in known:
            raise VllmError(
                f"Cannot use the archive of {self.wish.name} from {self.origin}: it holds {known[0]}, and that host "
                f"has {told.identity}. Do not trust that host, and look at what its engine has under that name.",
                "download-failed",
            )
        with open(path, "rb") as stream:
            self.images.load(
                t.cast(t.BinaryIO, _Read(stream, lambda done: report("loaded", done, told.archive_size))),
                f"load {self.wish.name} from {path}",
            )
        return came

    def _name(self, told: Told, seen: Seen) -> None:
        """Give the image its name, only now that it is there and the right one."""
        there = seen.there or next((one for one in told.identities if self.images.look(one)), "")
        if not there:
            raise VllmError(
                f"The engine read the archive of {self.wish.name}, and does not have {told.identity} afterwards. Look "
                "at 'docker images', and have this host pull the image, without peer_address.",
                "backend-failed",
            )
        self.images.name(there, *self.wish.reference.local)

    @staticmethod
    def _progress(at: Params, before: Params) -> Result:
        """How far it is, with the rate since the call before."""
        if not at:
            return {}
        is_same = at.get("doing") == before.get("doing")
        came = max(0, at["done"] - before["done"]) if is_same else 0
        seconds = time.time() - before["time"] if is_same else 0.0
        return {**progress.state(at["done"], at["total"], came, seconds), "doing": at["doing"]}


class _Read:
    """A file that tells how much of it was read."""

    def __init__(self, stream: t.BinaryIO, passing: t.Callable[[int], None]) -> None:
        self.stream, self.passing = stream, passing

    def read(self, count: int = -1) -> bytes:
        piece = self.stream.read(count)
        self.passing(self.stream.tell())
        return piece

    def fileno(self) -> int:
        """By which its size is known."""
        return self.stream.fileno()

    def __iter__(self) -> t.Iterator[bytes]:
        return iter(lambda: self.read(1 << 20), b"")


def _room(path: str, needed: int) -> Room:
    place = path
    with contextlib.suppress(OSError):
        while not os.path.isdir(place) and place != os.path.dirname(place):
            place = os.path.dirname(place)
    return Room(path, needed, free_bytes(place), os.stat(place).st_dev)
