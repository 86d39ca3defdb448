# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the Hugging Face Hub, or a mirror of it, says of a repository: its files with their digests, its refusals."""

from __future__ import annotations

import json
import os
import re
import typing as t
import urllib.error
import urllib.parse
from dataclasses import dataclass, replace

from .._deploy.weights import is_file_name
from .._errors import Reason, VllmError
from .._host import download

DEFAULT_ENDPOINT = "https://huggingface.co"
# Bytes. A repository of ten thousand files has a list of 4 MiB.
LISTING_LIMIT = 32 << 20
SHA256, SHA1 = re.compile(r"[0-9a-f]{64}"), re.compile(r"[0-9a-f]{40}")
COMMIT = re.compile(r"\w[\w.-]{0,127}")
ELSEWHERE = "Try again later, or another endpoint: a mirror of the Hub."


@dataclass(frozen=True)
class Remote:
    """One file of a repository. A list of a mirror may lack size (None) and digest (empty)."""

    path: str
    size: int | None
    digest: str
    algorithm: download.Algorithm = "sha256"

    @property
    def bytes(self) -> int:
        """Its size; 0 where the list does not have it."""
        return self.size or 0

    @property
    def expected(self) -> download.Expected:
        """What a download of it is compared with."""
        return download.Expected(self.bytes, self.digest, self.algorithm)

    @property
    def is_described(self) -> bool:
        return self.size is not None and bool(self.digest)


@dataclass(frozen=True)
class Listing:
    """A repository at one commit."""

    commit: str
    files: tuple[Remote, ...]


# ---------------------------------------------------------------------------------------------------------------------
# How answers are read (pure)
# ---------------------------------------------------------------------------------------------------------------------


def parsed(document: bytes, url: str) -> Listing:
    """The answer of C(/api/models/MODEL/revision/REVISION?blobs=true).

    Raises:
        VllmError: when it is something else, or names a file that has no place in a directory.
    """
    try:
        answer = json.loads(document)
    except (ValueError, RecursionError):
        answer = None
    commit = answer.get("sha") if isinstance(answer, dict) else None
    listed = answer.get("siblings") if isinstance(answer, dict) else None
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit) or not isinstance(listed, list):
        raise VllmError(
            f"Cannot use the answer of {url}: it is not the list of files that the API of the Hub gives. Check "
            "endpoint, and the proxy settings on the host.",
            "download-failed",
        )
    return Listing(commit, tuple(_remote(one, url) for one in listed))


def _remote(listed: t.Any, url: str) -> Remote:
    path = listed.get("rfilename") if isinstance(listed, dict) else None
    if not is_file_name(path) or "\\" in str(path):
        raise VllmError(
            f"Cannot use the answer of {url}: it lists {str(path)[:200]!r}, which names no file below a directory. "
            "Check endpoint.",
            "download-failed",
        )
    large = listed.get("lfs") if isinstance(listed.get("lfs"), dict) else {}
    size = large.get("size", listed.get("size"))
    known = size if isinstance(size, int) and not isinstance(size, bool) and size >= 0 else None
    digest = large.get("sha256") or large.get("oid") or listed.get("blobId")
    return Remote(str(path), known, *_named(digest))


def _named(digest: t.Any) -> tuple[str, download.Algorithm]:
    """A digest with its algorithm; the empty text for what is none."""
    text = str(digest or "").strip('"')
    if SHA256.fullmatch(text):
        return text, "sha256"
    return (text if SHA1.fullmatch(text) else ""), "git-sha1"


def remote_of_blob(path: str, snapshot: str) -> Remote:
    """A file of a snapshot by the name of the blob that it leads to.

    Raises:
        VllmError: when it leads to none.
    """
    blob = os.path.realpath(os.path.join(snapshot, path))
    digest, algorithm = _named(os.path.basename(blob))
    if not digest or not os.path.isfile(blob):
        raise VllmError(
            f"Cannot verify {os.path.join(snapshot, path)}: it is not a link to a blob that has a digest as its name, "
            "so its expected content is unknown. Let the host fetch the model, or copy the cache with its links.",
            "weights-incomplete",
        )
    return Remote(path, os.path.getsize(blob), digest, algorithm)


def described(file: Remote, headers: t.Mapping[str, str]) -> Remote:
    """The file as the headers of its address tell it.

    Raises:
        VllmError: when they tell no size, or nothing that the content could be compared with.
    """
    size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
    digest, algorithm = _named(headers.get("X-Linked-Etag") or headers.get("ETag"))
    if not re.fullmatch(r"\d{1,18}", size) or not digest:
        raise VllmError(
            f"Cannot verify {file.path}: the endpoint gives neither its sha256 nor its git digest, in its list of "
            "files or as X-Linked-Etag or ETag. Use an endpoint that passes these on.",
            "download-failed",
        )
    return replace(file, size=int(size), digest=digest, algorithm=algorithm)


# ---------------------------------------------------------------------------------------------------------------------
# What is asked
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HubSource(download.HttpSource):
    """An address of the Hub, whose refusals say more than their status."""

    model: str = ""
    revision: str = ""
    endpoint: str = ""
    # Where the token came from; empty when none is sent.
    token_file: str = ""
    elsewhere: str = ELSEWHERE

    def explain_refusal(self, error: urllib.error.HTTPError) -> tuple[str, str]:
        code = error.headers.get("X-Error-Code") or ""
        if error.code in (401, 403):
            return self._no_entry(f"the server answered {error.code}", code)
        if error.code == 404:
            return self._nothing_there(code)
        if error.code == 429 and not self.token_file:
            way = "Set hf_token_file: the Hub lets accounts ask for more."
            return f"the server answered 429 {error.reason}", way
        return super().explain_refusal(error)

    def reason_of(self, code: int) -> Reason:
        if code in (401, 403):
            return "secret-invalid" if self.token_file else "secret-missing"
        return super().reason_of(code)

    def _no_entry(self, seen: str, code: str) -> tuple[str, str]:
        page, token = f"{self.endpoint}/{self.model}", self.token_file
        if code == "GatedRepo":
            if not token:
                way = f"Accept its terms at {page}, and set hf_token_file to a file with a token of that account."
                return f"{seen}: {self.model} is gated, and no token was sent", way
            return (
                f"{seen}: the account of the token in {token} may not read {self.model}",
                f"Accept the terms at {page}.",
            )
        if not token:
            way = "Check the name; for a private model set hf_token_file."
            return f"{seen}: {self.model} does not exist, or is not public, and no token was sent", way
        way = "Check the name of the model, and write a token there that may read it."
        return f"{seen}: it does not let the token in {token} read {self.model}", way

    def _nothing_there(self, code: str) -> tuple[str, str]:
        if code == "RevisionNotFound":
            return f"{self.model} has no revision {self.revision}", "Name a branch, a tag or a commit that it has."
        if code == "EntryNotFound":
            return f"{self.model} has no such file at {self.revision}", self.elsewhere
        return f"the server answered 404: it has no model {self.model}", "Check the name of the model, and endpoint."


@dataclass(frozen=True)
class Hub:
    """A Hub, asked for one model."""

    endpoint: str
    model: str
    revision: str
    token: str = ""
    token_file: str = ""
    timeout: float = 30
    validate_certs: bool = True
    ca_path: str | None = None
    manner: download.Manner = download.Manner()

    def listing(self) -> Listing:
        """The files of the revision.

        Raises:
            VllmError: says why there is no list.
        """
        model, revision = urllib.parse.quote(self.model), urllib.parse.quote(self.revision, safe="")
        url = f"{self.endpoint}/api/models/{model}/revision/{revision}?blobs=true"
        return parsed(download.fetch(self._at(url), LISTING_LIMIT, self.manner), url)

    def completed(self, file: Remote, commit: str) -> Remote:
        """The file with its size and digest, which are asked for when the list lacks them."""
        if file.is_described:
            return file
        source = self.source(file.path, commit)
        return described(file, download.asked(source, source.head, self.manner))

    def content(self, path: str, commit: str, limit: int) -> bytes:
        """What a small file holds."""
        return download.fetch(self.source(path, commit), limit, self.manner)

    def source(self, path: str, commit: str) -> HubSource:
        """Where a file is to be had."""
        return self._at(f"{self.endpoint}/{urllib.parse.quote(self.model)}/resolve/{commit}/{urllib.parse.quote(path)}")

    def _at(self, url: str) -> HubSource:
        return HubSource(
            url=url,
            timeout=self.timeout,
            validate_certs=self.validate_certs,
            ca_path=self.ca_path,
            credentials={"Authorization": f"Bearer {self.token}"} if self.token else {},
            model=self.model,
            revision=self.revision,
            endpoint=self.endpoint,
            token_file=self.token_file if self.token else "",
        )
