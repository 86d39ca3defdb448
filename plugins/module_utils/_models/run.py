# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way from a wanted model to its files on the host: observe, plan, refuse, apply."""

from __future__ import annotations

import json
import os
import secrets
import time
import typing as t
from dataclasses import replace

from .._deploy import weights
from .._errors import VllmError
from .._host import download, files, lock
from . import manifest as manifests, peers, plan as plans, progress, serving
from .hub import Hub, Remote, remote_of_blob
from .manifest import Manifest
from .parameters import Params, directory_of, token_in, wish_of
from .plan import Plan, Seen
from .repository import Identity, Repository, identity
from .selection import Wish, choose
from .transfer import Interrupted, Pace, Transfer

Result = dict[str, t.Any]
Looks = dict[str, Seen]
# Seconds for which slice after slice may end without a byte that came or a file that was verified.
PATIENCE = 600.0


def run(params: Params, check_mode: bool) -> Result:
    """Have a model on the host, whole, or not at all; in check mode, only say what is to be done.

    With C(slice), a transfer ends after that many seconds: C(finished) is false then, and C(resume) is for the next
    call.

    Raises:
        VllmError: when it cannot be had, written or removed.
    """
    wish = wish_of(params)
    repository = Repository(directory_of(params), wish.model)
    repository.refuse_links()
    if params["state"] == "absent":
        from .removal import remove

        if check_mode:
            return remove(repository, check_mode)
        with _alone(repository):
            return remove(repository, check_mode)
    staging = Staging(params, wish, repository)
    peer = params["peer"]
    if not peer or not peer["address"] or check_mode:
        return staging.run(check_mode)
    with serving.passing_on(peers.place_of(peer, repository.huggingface_dir), peer["token"]):
        return staging.run(check_mode)


def _alone(repository: Repository, token: str = "") -> t.ContextManager[None]:
    return lock.alone(repository.lock_name, token, doing=f"is working on {repository.folder}")


class Staging:
    """One model that is to be on the host."""

    def __init__(self, params: Params, wish: Wish, repository: Repository) -> None:
        self.params, self.wish, self.repository = params, wish, repository
        self.endpoint = download.checked_url(params["endpoint"]).rstrip("/")
        self.peer: Params = params["peer"] or {}
        # Where what is missing comes from, for people.
        self.origin = next(iter(self.peer.get("sources") or ()), self.endpoint)
        self.resume: t.Mapping[str, t.Any] = params["resume"] or {}
        # The slices after the first go on with what that one began to verify.
        self.verifies_all = params["verify"] == "full" and not self.resume
        # Digests of blobs that turned out to hold something else.
        self.damaged: frozenset[str] = frozenset()
        self.began = float(self.resume.get("began") or time.time())
        # The commit that the revision stood for.
        self.before = files.read_text(repository.reference(wish.revision), 1000).strip() or None

    def run(self, check_mode: bool) -> Result:
        """Look, and do what is to be done unless this is check mode."""
        manifest = self._manifest()
        seen, plan = self._compared(manifest)
        self._refuse(manifest, plan)
        if check_mode or (plan.is_empty and manifest.since is not None):
            return self._result(manifest, seen, plan)
        token = str(self.resume.get("token") or secrets.token_hex(8))
        with _alone(self.repository, token):
            return self._carried_out(manifest, token)

    # --- what it consists of, and what of that is there -------------------------------------------------------------

    def _manifest(self) -> Manifest:
        known = manifests.remembered(self.repository, self.wish)
        told = peers.listing_of(self.peer, self.wish.model)
        if known and self._is_settled(known, told is not None):
            return known
        if told:
            new = Manifest(self.wish, told.commit, told.files, self.origin, self.peer["left_out_bytes"])
        else:
            new = on_disk(self.repository, self.wish) if self.params["offline"] else self._asked()
        if known is None:
            return new
        is_same = (known.commit, known.files) == (new.commit, new.files)
        kept = {file.digest: known.proved[file.digest] for file in new.files if file.digest in known.proved}
        return replace(new, proved=kept, since=known.since if is_same else None)

    def _is_settled(self, known: Manifest, is_told: bool) -> bool:
        """Whether what is remembered says which files to have. C(is_told): the controller says it as well."""
        if self.resume or self.params["offline"]:
            return True
        # What is missing is to be what the peers have.
        return not self.params["update"] and not (is_told and self._compared(known)[1].fetch)

    def _asked(self) -> Manifest:
        """What the Hub says that the model consists of."""
        hub = self._hub()
        listing = hub.listing()
        by_name = {file.path: file for file in listing.files}
        index_name = self.wish.format_of(by_name).index
        index = None
        if index_name in by_name:
            index = _mapping(hub.content(str(index_name), listing.commit, weights.INDEX_LIMIT))
        names = choose(self.wish, by_name, index)
        chosen = tuple(hub.completed(by_name[name], listing.commit) for name in names)
        left_out = sum(file.bytes for file in listing.files if file.path not in names)
        return Manifest(self.wish, listing.commit, chosen, self.endpoint, left_out)

    def _hub(self) -> Hub:
        params = self.params
        return Hub(
            self.endpoint,
            self.wish.model,
            self.wish.revision,
            token_in(params["hf_token_file"], self.endpoint),
            params["hf_token_file"] or "",
            params["timeout"],
            params["validate_certs"],
            params["ca_path"],
            self._manner(),
        )

    def _manner(self) -> download.Manner:
        return download.Manner(self.params["attempts"], self.params["retry_wait"])

    def _compared(self, manifest: Manifest) -> tuple[Looks, Plan]:
        seen = {file.path: self._look(manifest, file) for file in manifest.files}
        is_referred = self.repository.is_referred(self.wish.revision, manifest.commit)
        return seen, plans.plan(manifest, seen, is_referred, self.verifies_all)

    def _look(self, manifest: Manifest, file: Remote) -> Seen:
        is_linked = self.repository.is_linked(manifest.commit, file.path, file.digest)
        there = identity(self.repository.blob(file.digest))
        if there is None or there[0] != file.bytes or file.digest in self.damaged:
            partial = self.repository.partial_bytes(file.digest)
            return Seen("damaged" if there else "partial" if partial else "absent", partial, is_linked)
        return Seen("verified" if manifest.proved.get(file.digest) == there else "unverified", 0, is_linked)

    def _refuse(self, manifest: Manifest, plan: Plan) -> None:
        """Find out before anything is done what would end it halfway."""
        directory = self.repository.huggingface_dir
        if plan.fetch and self.params["offline"]:
            raise VllmError(
                f"{self.wish.name} is incomplete in {directory}: {plans.listed(plan.fetch)} missing or damaged, and "
                "offline is set. Copy what is missing there, or let the host fetch it.",
                "weights-incomplete",
            )
        if plan.fetch:
            free = weights.free_bytes(directory)
            plans.check_disk(plan, manifest, directory, free, self.params["disk_reserve"])
        if plan.changes:
            self.repository.refuse_unwritable()

    # --- doing it ---------------------------------------------------------------------------------------------------

    def _carried_out(self, manifest: Manifest, token: str) -> Result:
        if self.verifies_all:
            manifest = replace(manifest, proved={})
            self.verifies_all = False
        work = _Work(self.repository, manifest, *self._compared(manifest))
        work.remember()
        began = time.monotonic()
        transfer = self._transfer(work, began)
        try:
            self._bring(work, transfer)
        except Interrupted:
            return self._to_be_continued(work, transfer, token, time.monotonic() - began)
        lock.release(self.repository.lock_name)
        self._link(work)
        return self._since_the_first_slice(work, transfer)

    def _to_be_continued(self, work: _Work, transfer: Transfer, token: str, seconds: float) -> Result:
        """The result of a slice, with what the next one has to know."""
        if lock.reader_is_gone():
            lock.release(self.repository.lock_name)
        else:
            lock.leave(self.repository.lock_name, token)
        idle = 0.0 if transfer.came or work.proofs else self.resume.get("idle", 0.0) + seconds
        waits = bool(self.peer.get("sources"))
        if idle >= (peers.PATIENCE if waits else PATIENCE):
            seen = f"another program holds the locks in {self.repository.locks} ('fuser' names it)"
            if waits:
                seen = f"{self.origin} waits for it as well, or {seen}"
            raise VllmError(
                f"Nothing of {self.wish.name} came for {idle / 60:.0f} minutes: {seen}. Wait for it, or end it.",
                "locked",
            )
        result = self._since_the_first_slice(work, transfer)
        # Of all slices: what is left of this one's plan is left of the first one's.
        left = work.plan.fetch_bytes - sum(transfer.at.values())
        total = max(self.resume.get("total", 0), work.plan.fetch_bytes)
        state = progress.state(total - left, total, transfer.came, seconds)
        known = {key: result[key] for key in ("changed", "actions", "diff", "fetched_bytes")}
        resume = {**known, "token": token, "began": self.began, "idle": idle, "total": total}
        return {**result, "finished": False, "progress": state, "resume": resume}

    def _since_the_first_slice(self, work: _Work, transfer: Transfer) -> Result:
        """The result of all slices so far: to each its own plan was what was left."""
        result = {
            **self._result(work.manifest, work.seen, work.plan),
            "fetched_bytes": transfer.came,
            "elapsed": round(max(0.0, time.time() - self.began), 1),
        }
        earlier = self.resume
        if not earlier:
            return result
        verbs = {action.partition(" ")[0] for action in earlier["actions"]}
        more = [action for action in result["actions"] if action.partition(" ")[0] not in verbs]
        return {
            **result,
            "changed": earlier["changed"] or result["changed"],
            "actions": [*earlier["actions"], *more],
            "diff": {side: {**result["diff"][side], **earlier["diff"][side]} for side in ("before", "after")},
            "fetched_bytes": earlier["fetched_bytes"] + transfer.came,
        }

    def _transfer(self, work: _Work, began: float) -> Transfer:
        transfer = Transfer(
            self.repository,
            lambda file: self._source(file, work.manifest.commit, transfer),
            work.proved,
            self._manner(),
            self.params["connections"],
            Pace(self.params["bandwidth_limit"]),
            began + self.params["slice"] if self.params["slice"] else None,
        )
        return transfer

    def _source(self, file: Remote, commit: str, transfer: Transfer) -> download.Source:
        if self.peer.get("sources"):
            return peers.source_of(self.peer, self.repository, file, self.params["timeout"], transfer.go_on)
        return self._hub().source(file.path, commit)

    def _bring(self, work: _Work, transfer: Transfer) -> None:
        """Bring every blob, verified; what turns out to be damaged becomes a part of the plan."""
        wrong = transfer.verify(work.plan.verify)
        if wrong:
            self.damaged = frozenset(file.digest for file in wrong)
            work.seen, plan = self._compared(work.manifest)
            self._refuse(work.manifest, plan)
            work.plan = replace(plan, verify=work.plan.verify)
        transfer.at = {file.digest: self.repository.partial_bytes(file.digest) for file in work.plan.fetch}
        transfer.fetch(work.plan.fetch)

    def _link(self, work: _Work) -> None:
        """The snapshot, then the reference: whoever follows that one finds everything."""
        commit = work.manifest.commit
        for file in work.plan.links:
            self.repository.make_link(commit, file.path, file.digest)
        if work.plan.refers:
            self.repository.refer(self.wish.revision, commit)
        _check_whole(self.repository, work.manifest)
        work.manifest = replace(work.manifest, since=work.manifest.since or time.time())
        work.remember()

    # --- telling it -------------------------------------------------------------------------------------------------

    def _result(self, manifest: Manifest, seen: Looks, plan: Plan) -> Result:
        return {
            "changed": plan.changes,
            "finished": True,
            "actions": plans.actions(plan, manifest, self.origin),
            "diff": plans.diff(plan, manifest, seen, self.before),
            "model": described(self.repository, manifest),
            "fetched_bytes": 0,
        }


def described(repository: Repository, manifest: Manifest) -> Result:
    """A model as results have it."""
    since = manifest.since
    return {
        "model": manifest.wish.name,
        "revision": manifest.wish.revision,
        "commit": manifest.commit,
        "path": repository.snapshot(manifest.commit),
        "huggingface_dir": repository.huggingface_dir,
        "source": manifest.source,
        "files": [{"path": file.path, "size": file.bytes, "digest": file.digest} for file in manifest.files],
        "bytes": sum(file.bytes for file in manifest.files),
        "left_out_bytes": manifest.left_out,
        "whole_since": since and time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since)),
    }


class _Work:
    """The manifest while it fills, on disk after each file; and what was found and planned."""

    def __init__(self, repository: Repository, manifest: Manifest, seen: Looks, plan: Plan) -> None:
        self.repository, self.manifest, self.seen, self.plan = repository, manifest, seen, plan
        self.proofs = 0

    def remember(self) -> None:
        manifests.remember(self.repository, self.manifest)

    def proved(self, file: Remote, seen: Identity) -> None:
        self.proofs += 1
        self.manifest = self.manifest.with_proof(file.digest, seen)
        self.remember()


# --- the cache as it is ----------------------------------------------------------------------------------------------


def on_disk(repository: Repository, wish: Wish) -> Manifest:
    """What a cache that came another way says of a model: its links name blobs, and their names are digests.

    Raises:
        VllmError: when the model is not whole there.
    """
    found = weights.find(wish.name, repository.huggingface_dir, wish.revision)
    if not found.complete or not found.path or not found.revision:
        reasons = " ".join(weights.problems(found, wish.name, fetches=False))
        raise VllmError(f"Nothing is fetched, for offline is set. {reasons}", "weights-incomplete")
    names = [
        os.path.relpath(os.path.join(place, name), found.path)
        for place, _directories, there in os.walk(found.path)
        for name in there
    ]
    index_name = wish.format_of(names).index
    index = None
    if index_name in names:
        index = _mapping(files.read(os.path.join(found.path, str(index_name)), weights.INDEX_LIMIT) or b"")
    chosen = tuple(remote_of_blob(name, found.path) for name in choose(wish, names, index))
    return Manifest(wish, found.revision, chosen, "the cache as it was")


def _check_whole(repository: Repository, manifest: Manifest) -> None:
    """Refuse what was published in pieces. An adapter needs no configuration of its own."""
    if any(file.path == "adapter_config.json" for file in manifest.files):
        return
    found = weights.find(manifest.wish.name, repository.huggingface_dir, manifest.commit)
    if not found.complete:
        wrong = "; ".join([*found.damaged, *(f"{name} is missing" for name in found.missing)])
        raise VllmError(
            f"{manifest.wish.name} is on the host as it was published, and no server can load it from {found.path}: "
            f"{wrong or 'it has no weights'}. Set another revision, or report it to the publisher.",
            "weights-incomplete",
        )


def _mapping(document: bytes) -> t.Mapping[str, t.Any]:
    try:
        value = json.loads(document)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
