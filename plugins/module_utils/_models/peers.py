# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model from other hosts of the same run: the controller says which files it has, their bytes come from peers."""

from __future__ import annotations

import io
import os
import time
import typing as t
import urllib.error
from dataclasses import dataclass, field

from ansible.module_utils.urls import ConnectionError as UrlsError

from .._deploy.weights import is_file_name
from .._errors import VllmError
from .._host import download, files
from . import directory, serving
from .hub import COMMIT, SHA1, SHA256, Listing, Remote
from .parameters import directory_of
from .repository import Repository
from .serving import Place

# Seconds between two questions for a file that a peer does not have yet; and for how long it may have nothing, which it
# says itself when its own run has ended. Verifying a large cache takes a while.
INTERVAL, PATIENCE = 0.5, 3600.0
# The cache of who has none.
NOWHERE = "/dev/null"
EVERYWHERE = ("0.0.0.0", "::", "")
AGAIN = "Run it again: what came is kept."

Params = t.Mapping[str, t.Any]

# Of the module that starts and ends the process that passes files on.
PARAMETERS: dict[str, dict[str, t.Any]] = {
    "state": {"type": "str", "choices": ["started", "stopped"], "default": "started"},
    "huggingface_dir": {"type": "path"},
    "directories": {"type": "list", "elements": "dict", "default": []},
    "address": {"type": "str", "required": True},
    "port": {"type": "int", "required": True},
    "token": {"type": "str", "no_log": True},
}


def run(params: Params, check_mode: bool) -> dict[str, t.Any]:
    """Pass files on, or not any more; in check mode, only say where. Archives of images are gone in the end.

    Nothing changes for who looks at the host afterwards, so this is no change.

    Raises:
        VllmError: when nothing can listen there, or the process does not end.
    """
    place = place_of(params, directory_of(params) if params["huggingface_dir"] else NOWHERE)
    is_started = params["state"] == "started"
    found = [directory.described(one, not check_mode) for one in params.get("directories") or () if is_started]
    if not check_mode and is_started:
        outside = {digest: path for _manifest, paths in found for digest, path in paths.items()}
        serving.start(place, params["token"], outside=outside)
    elif not check_mode:
        serving.stop(place)
        archives = os.path.join(place.huggingface_dir, "hub", serving.IMAGES)
        if os.path.isdir(archives):
            files.delete_directory(archives)
    models = [manifest.told() for manifest, _paths in found]
    return {"changed": False, "url": place.url, "models": models}


# ---------------------------------------------------------------------------------------------------------------------
# What the controller says (pure)
# ---------------------------------------------------------------------------------------------------------------------


def place_of(peer: Params, huggingface_dir: str) -> Place:
    """Where this host passes on what it has.

    Raises:
        VllmError: when that is no address of one host, or no port.
    """
    address, port = str(peer["address"]).strip("[]"), int(peer["port"])
    if address in EVERYWHERE or not address.isprintable() or set(address) & set("/@?# "):
        raise VllmError(
            f"peer_address must be the address of this host on a network that the other hosts are on; got {address!r}."
        )
    if not 0 < port < 1 << 16:
        raise VllmError(f"peer_port must be between 1 and 65535; got {port}.")
    return Place(huggingface_dir, address, port)


def listing_of(peer: Params, model: str) -> Listing | None:
    """The files of the model, when the controller told them.

    It had them from another host, so a path that leads out of a directory is refused, as one of the Hub would be.

    Raises:
        VllmError: when that is no list of files.
    """
    if not peer.get("commit"):
        if peer.get("sources"):
            raise VllmError(
                f"Cannot fetch {model} from other hosts: {peer.get('head') or 'the first of them'} was asked for its "
                "list of files, and failed. See what failed there, and run it again.",
                "download-failed",
            )
        return None
    commit, listed = str(peer["commit"]), peer.get("files") or ()
    found = [_remote(one) for one in listed if isinstance(one, t.Mapping)]
    remotes = tuple(one for one in found if one)
    if not COMMIT.fullmatch(commit) or not remotes or len(remotes) != len(listed):
        raise VllmError(
            f"Cannot use the file list of {model} from another host: it is not a list of files below a directory, "
            "each with its size and digest. Do not trust that host, and look at its cache.",
            "download-failed",
        )
    return Listing(commit, remotes)


def _remote(listed: Params) -> Remote | None:
    path, size, digest = listed.get("path"), listed.get("size"), str(listed.get("digest"))
    is_sha256 = bool(SHA256.fullmatch(digest))
    if not is_file_name(path) or "\\" in str(path) or not isinstance(size, int) or isinstance(size, bool) or size < 0:
        return None
    if not is_sha256 and not SHA1.fullmatch(digest):
        return None
    return Remote(str(path), size, digest, "sha256" if is_sha256 else "git-sha1")


# ---------------------------------------------------------------------------------------------------------------------
# Where the bytes come from
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PeerHost(download.HttpSource):
    """A blob of one peer."""

    def explain_refusal(self, error: urllib.error.HTTPError) -> tuple[str, str]:
        if error.code == 401:
            return "that host serves another run", "Let one run end before the next one begins."
        if error.code in (404, 410):
            return "that host does not have the file, and fetches it no longer", f"See what failed there. {AGAIN}"
        return super().explain_refusal(error)


@dataclass(frozen=True)
class PeerSource:
    """A blob that some peer has, or is going to have: the first that can give it does.

    C(going_on) is called while none has it yet, and may raise.
    """

    hosts: tuple[PeerHost, ...]
    going_on: t.Callable[[], None]
    elsewhere: str = AGAIN
    # The peer that was asked last.
    asked: list[PeerHost] = field(default_factory=list, repr=False, compare=False)

    @property
    def last(self) -> PeerHost:
        return self.asked[-1] if self.asked else self.hosts[0]

    @property
    def name(self) -> str:
        return self.last.name

    def open_at(self, offset: int) -> tuple[int, io.BufferedIOBase]:
        """Begin reading at this offset, at a peer that has the byte there."""
        deadline = time.monotonic() + PATIENCE
        while True:
            failure: Exception = OSError("there is no peer")
            is_coming = False
            for host in self.hosts:
                self.asked[:] = [host]
                try:
                    return host.open_at(offset)
                except urllib.error.HTTPError as error:
                    error.close()
                    failure, is_coming = error, error.code == 503 and time.monotonic() < deadline
                except (OSError, UrlsError) as error:
                    failure = error
                if is_coming:
                    # The others would have it from that one.
                    break
            if not is_coming:
                raise failure
            self.going_on()
            time.sleep(INTERVAL)

    def explain(self, error: Exception, got: int, size: int) -> VllmError:
        """Say what went wrong while reading."""
        return self.last.explain(error, got, size)


def source_of(
    peer: Params, repository: Repository, file: Remote, timeout: float, going_on: t.Callable[[], None]
) -> PeerSource:
    """Where a file of a model is to be had among the peers."""
    credentials = {"Authorization": f"Bearer {peer['token']}"}
    where = f"/{repository.name}/blobs/{file.digest}?size={file.bytes}"
    hosts = tuple(
        PeerHost(f"{url}{where}", timeout, credentials=credentials, use_proxy=False, elsewhere=AGAIN)
        for url in peer["sources"]
    )
    return PeerSource(hosts, going_on)
