# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Bring a file of known size and digest to a path: all of it or nothing, whatever happens on the way."""

from __future__ import annotations

import contextlib
import email.utils
import errno
import fcntl
import hashlib
import http.client
import io
import os
import re
import socket
import ssl
import stat
import time
import typing as t
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass, field, replace

from ansible.module_utils.urls import ConnectionError as UrlsError, SSLValidationError, open_url

from .._errors import Reason, VllmError
from . import files

_CHUNK_BYTES = 1 << 16
_HASH_BYTES = 1 << 20
# Seconds between two attempts, unless the server asks for more.
_LONGEST_PAUSE = 10
# The share of a file that has to come for an attempt to count as progress.
_PROGRESS = 0.01
_LOCK_WAIT_SECONDS = 600
_TRANSIENT_STATUS = frozenset({408, 416, 425, 429, 500, 502, 503, 504})
_REDIRECTS = 10
_REDIRECTED = frozenset({301, 302, 303, 307, 308})
NO_LOCKS_HERE = frozenset({errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK})
_MIRROR = "Try another source: a mirror, or files on the controller."


Algorithm = t.Literal["sha256", "git-sha1"]


class Hasher(t.Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class TransientError(VllmError):
    """The same thing may work when it is tried again, in C(after) seconds at the earliest."""

    def __init__(self, message: str, after: float = 0) -> None:
        super().__init__(message, "download-failed")
        self.after = after


@dataclass(frozen=True)
class Expected:
    """What the bytes have to be."""

    size: int
    digest: str
    algorithm: Algorithm = "sha256"

    def hasher(self) -> Hasher:
        """What makes the digest of such bytes; git puts their number in front of them."""
        if self.algorithm == "sha256":
            return hashlib.sha256()
        # A name for content, nothing that anybody has to trust more than the server that told it.
        return hashlib.new("sha1", b"blob %d\0" % self.size, usedforsecurity=False)

    def digest_of(self, stream: t.BinaryIO) -> str:
        """The digest of what is left to read."""
        hasher = self.hasher()
        for chunk in iter(lambda: stream.read(_HASH_BYTES), b""):
            hasher.update(chunk)
        return hasher.hexdigest()


def _ignored(_position: int, _count: int) -> None:
    pass


@dataclass(frozen=True)
class Manner:
    """How a transfer goes about it.

    C(attempts) without progress are made; a server that asks to wait for more than C(longest_wait) seconds ends them.
    C(passing) is told the position and the number of bytes after each piece that was written: it may wait, or end the
    transfer by raising. With C(keeps_partial), what came so far stays for a later run, however this one ends.
    """

    attempts: int = 3
    longest_wait: float = 60
    keeps_partial: bool = False
    passing: t.Callable[[int, int], None] = _ignored


# --- what to say -----------------------------------------------------------------------------------------------------


def _explain_status(code: int, reason: str, elsewhere: str) -> tuple[str, str]:
    """What a refusing server answered, and the way out."""
    seen = f"the server answered {code} {reason}".rstrip()
    if code in (401, 403):
        return seen, "Put the credentials into ~/.netrc of the user on the host, or use another source."
    if code == 404:
        return seen, "Check the URL: it names the directory that holds the file."
    if code == 407:
        return seen, "Put the proxy's credentials into https_proxy of the task's environment."
    return seen, elsewhere


def _explain_connection(error: BaseException, host: str, timeout: float, elsewhere: str) -> tuple[str, str]:
    """Why no connection came about, and the way out."""
    if isinstance(error, socket.gaierror):
        return f"the name {host} cannot be resolved", f"Check DNS and the proxy settings on the host. {elsewhere}"
    if isinstance(error, ConnectionRefusedError):
        return f"nothing listens at {host}", f"Check the address and the proxy settings. {elsewhere}"
    if isinstance(error, (socket.timeout, TimeoutError)):
        return f"no answer within {timeout:g} s", f"Check firewall and proxy, or raise timeout. {elsewhere}"
    if isinstance(error, (ssl.SSLError, SSLValidationError)):
        return (
            f"the TLS connection failed ({one_line(error)})",
            "A proxy that inspects TLS needs its CA installed on the host.",
        )
    return one_line(error) or type(error).__name__, elsewhere


def one_line(error: BaseException) -> str:
    """What an error says, on one line and without a full stop."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()).rstrip(".")


def _explain_disk(error: OSError, doing: str) -> VllmError:
    """Say why the file system of the host refused."""
    remedies = {
        errno.ENOSPC: "The file system is full: free some space, or choose another directory.",
        errno.EDQUOT: "The quota is used up: free some space, or choose another directory.",
        errno.EFBIG: "The file is larger than this process may write: raise its limit (ulimit -f).",
        errno.EROFS: "The file system is read-only: choose another directory.",
        errno.EACCES: "Run with become: true, or choose another directory.",
        errno.EPERM: "Run with become: true, or choose another directory.",
        errno.ELOOP: "A symbolic link stands where the file is to be written: remove it.",
    }
    remedy = remedies.get(error.errno or 0, "Choose another directory.")
    return VllmError(f"Cannot {doing}: {one_line(error)}. {remedy}", files.reason(error))


@contextlib.contextmanager
def on_disk(doing: str) -> t.Iterator[None]:
    """Explain what the disk refuses meanwhile; C(doing) is what was attempted.

    Raises:
        VllmError: when it refuses.
    """
    try:
        yield
    except OSError as error:
        raise _explain_disk(error, doing) from error


def _looks_like_html(head: bytes) -> bool:
    """Whether a file begins as a web page does, such as that of a proxy."""
    return head.lstrip()[:64].lower().startswith((b"<!doctype html", b"<html", b"<head"))


# --- sources ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class FileSource:
    """A file on the same host, under the name by which the user knows it."""

    path: str
    known_as: str = ""
    elsewhere: str = _MIRROR

    @property
    def name(self) -> str:
        return self.known_as or self.path

    def open_at(self, offset: int) -> tuple[int, io.BufferedIOBase]:
        """Begin reading at this offset."""
        file = open(self.path, "rb")  # noqa: SIM115 - the caller closes it
        file.seek(offset)
        return offset, file

    def explain(self, error: Exception, got: int, size: int) -> VllmError:
        """Say what went wrong while reading."""
        return VllmError(
            f"Cannot read {self.name}: {one_line(error)}. Check the path and its permissions.", "path-missing"
        )


@dataclass(frozen=True)
class HttpSource:
    """A file behind an URL. Proxy settings are those of the environment, unless C(proxy) names one or C(use_proxy) is
    false.

    C(credentials) are headers for the server at that URL, and for no other that it redirects to.
    """

    url: str
    timeout: float = 30
    validate_certs: bool = True
    ca_path: str | None = None
    credentials: t.Mapping[str, str] = field(default_factory=dict, repr=False)
    elsewhere: str = _MIRROR
    proxy: str = ""
    use_proxy: bool = True
    # Of the last answer: the version of the file (ETag), and the server that gave it (Host), which a redirect may name.
    seen: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    @property
    def name(self) -> str:
        return self.url

    def open_at(self, offset: int) -> tuple[int, io.BufferedIOBase]:
        """Begin reading at this offset, or at the start where the server cannot do that: the first value says which.

        A file that is another one than at the last call is read from its start.
        """
        version = self.seen.get("ETag", "")
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        if offset and version:
            headers["If-Range"] = version
        response = self._followed(headers)
        found = response.headers.get("ETag") or ""
        self.seen["ETag"] = "" if found.startswith("W/") else found
        start = _range_start(response.status, response.headers.get("Content-Range"))
        if start and version and self.seen["ETag"] and self.seen["ETag"] != version:
            response.close()
            return self.open_at(0)
        return start, response

    def head(self) -> t.Mapping[str, str]:
        """The headers of the file, of the server that was asked as far as it has any that describe what it links to."""
        with contextlib.closing(self._followed({"Accept-Encoding": "identity"}, "HEAD")) as response:
            return t.cast("t.Mapping[str, str]", response.headers)

    def _followed(self, headers: t.Mapping[str, str], method: str = "GET") -> t.Any:
        """The answer, wherever it comes from. Credentials are for the server that was asked: a redirect may lead to
        anybody, and a store refuses an address that was signed together with them."""
        url = self.url
        for _hop in range(_REDIRECTS):
            is_origin = _origin(url) == _origin(self.url)
            self.seen["Host"] = urllib.parse.urlsplit(url).netloc
            try:
                with _through(self.proxy):
                    return open_url(
                        url,
                        method=method,
                        headers={**headers, **(self.credentials if is_origin else {})},
                        use_proxy=self.use_proxy,
                        timeout=self.timeout,
                        validate_certs=self.validate_certs,
                        ca_path=self.ca_path,
                        http_agent="gpufleet.vllm",
                        follow_redirects="none",
                        use_netrc=is_origin and not self.credentials,
                    )
            except urllib.error.HTTPError as error:
                target = error.headers.get("Location") if error.code in _REDIRECTED else None
                if method == "HEAD" and target and "X-Linked-Etag" in error.headers:
                    return error
                if not target:
                    raise
                error.close()
                url = self._allowed(url, target)
        raise VllmError(
            f"Cannot download {self.url}: more than {_REDIRECTS} redirects. {self.elsewhere}", "download-failed"
        )

    def _allowed(self, url: str, target: str) -> str:
        """Where a redirect leads, when it may be followed."""
        there = urllib.parse.urljoin(url, target.strip())
        before, after = urllib.parse.urlsplit(url), urllib.parse.urlsplit(there)
        if after.scheme not in ("http", "https") or (before.scheme == "https" and after.scheme == "http"):
            raise VllmError(
                f"Cannot download {self.url}: it redirects to {after.scheme}://{after.hostname or ''}, which is not "
                f"encrypted or no web server. {self.elsewhere}",
                "download-failed",
            )
        # Credentials in an address would be sent, and shown in messages.
        return after._replace(netloc=after.netloc.rpartition("@")[2]).geturl()

    def explain(self, error: Exception, got: int, size: int) -> VllmError:
        """Say what went wrong while reading."""
        if isinstance(error, urllib.error.HTTPError):
            return self._refusal(error)
        seen, remedy, transient = self._seen(error, got, size)
        sentence = f"Cannot download {self.url}{self._by_way_of()}: {seen}. {remedy}"
        return TransientError(sentence) if transient else VllmError(sentence, "download-failed")

    def _refusal(self, error: urllib.error.HTTPError) -> VllmError:
        seen, remedy = self.explain_refusal(error)
        sentence = f"Cannot download {self.url}{self._by_way_of()}: {seen}. {remedy}"
        if error.code in _TRANSIENT_STATUS:
            return TransientError(sentence, retry_after(error.headers.get, time.time()))
        return VllmError(sentence, self.reason_of(error.code))

    def explain_refusal(self, error: urllib.error.HTTPError) -> tuple[str, str]:
        """What the server answered, and the way out."""
        return _explain_status(error.code, error.reason, self.elsewhere)

    def reason_of(self, code: int) -> Reason:
        """The reason of a refusal."""
        return "download-failed"

    def _seen(self, error: Exception, got: int, size: int) -> tuple[str, str, bool]:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if got and isinstance(cause, (socket.timeout, TimeoutError)):
            return f"the server sent nothing for {self.timeout:g} s after {got} of {size} bytes", self.elsewhere, True
        if got and isinstance(cause, (ConnectionResetError, BrokenPipeError, http.client.HTTPException)):
            return f"the connection broke after {got} of {size} bytes", self.elsewhere, True
        host = self.seen.get("Host") or urllib.parse.urlsplit(self.url).netloc
        known = cause if isinstance(cause, BaseException) else OSError(str(cause))
        transient = not isinstance(known, (ssl.SSLError, SSLValidationError))
        return (*_explain_connection(known, host, self.timeout, self.elsewhere), transient)

    def _by_way_of(self) -> str:
        parts = urllib.parse.urlsplit(self.url)
        proxy = self.proxy or urllib.request.getproxies().get(parts.scheme)
        if not proxy or not self.use_proxy or urllib.request.proxy_bypass(parts.hostname or ""):
            return ""
        # Never the credentials that a proxy's address may hold, with a scheme or without.
        return f" through the proxy {proxy.rpartition('@')[2].rpartition('://')[2].rstrip('/')}"


@contextlib.contextmanager
def _through(proxy: str) -> t.Iterator[None]:
    """What asks takes its proxy from the environment alone."""
    said = dict.fromkeys(("http_proxy", "https_proxy"), proxy) if proxy else {}
    before = {name: os.environ[name] for name in said if name in os.environ}
    os.environ.update(said)
    try:
        yield
    finally:
        for name in said:
            del os.environ[name]
        os.environ.update(before)


def _origin(url: str) -> tuple[str, str]:
    parts = urllib.parse.urlsplit(url)
    return parts.scheme, parts.netloc


def checked_url(url: str) -> str:
    """An http(s) URL without what would show up in messages and must not."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        shown = url.rpartition("@")[2].partition("?")[0]
        raise VllmError(f"Cannot download from {shown}: it is not an http:// or https:// URL.")
    if "@" in parts.netloc or parts.query or parts.fragment:
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
        raise VllmError(
            f"Cannot download from {shown}: it holds credentials or a query, which would show up in logs. "
            "Put credentials into ~/.netrc of the user on the host."
        )
    return url


def retry_after(header: t.Callable[[str], str | None], now: float) -> float:
    """The seconds that a server asks to wait, in either form of Retry-After or in that of RateLimit; 0 for none."""
    text = (header("Retry-After") or "").strip()
    limit = re.search(r"(?:^|[;,\s])t=(\d{1,9})(?:$|[;,\s])", header("RateLimit") or "")
    if re.fullmatch(r"\d{1,9}", text):
        return float(text)
    if text:
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    return float(limit.group(1)) if limit else 0.0


class Source(t.Protocol):
    """Where to get a file."""

    @property
    def name(self) -> str: ...

    # What to try instead, as a sentence.
    @property
    def elsewhere(self) -> str: ...

    def open_at(self, offset: int) -> tuple[int, io.BufferedIOBase]:
        """Begin reading there, or before it: the first value says where."""

    def explain(self, error: Exception, got: int, size: int) -> VllmError:
        """Say what went wrong."""


def _range_start(status: int, content_range: str | None) -> int:
    """The offset of the first byte of an answer's body."""
    found = re.match(r"bytes (\d+)-", content_range or "")
    return int(found.group(1)) if status == 206 and found else 0


# --- bringing it -----------------------------------------------------------------------------------------------------


def install(
    source: Source,
    expected: Expected,
    path: str,
    partial: str,
    finish: t.Callable[[str], object] = lambda _partial: None,
    manner: Manner = Manner(),
) -> None:
    """Bring the bytes to `partial`, check them, give them owner and mode with `finish`, and only then to `path`.

    A partial file of a killed run is continued, or thrown away when it turns out wrong.
    """
    with held(partial, manner.keeps_partial) as file:
        _Transfer(source, expected, partial, file, manner).run()
        finish(partial)
        with on_disk(f"write {path}"):
            os.fsync(file.fileno())
            os.replace(partial, path)
            _sync_directory(os.path.dirname(path))


def fetch(source: HttpSource, limit: int, manner: Manner = Manner()) -> bytes:
    """A small document, into memory.

    Raises:
        VllmError: when it cannot be had, or is larger than C(limit) bytes.
    """

    def read() -> bytes:
        with contextlib.closing(source.open_at(0)[1]) as stream:
            content = stream.read(limit + 1)
            if len(content) <= limit and getattr(stream, "length", None):
                raise http.client.IncompleteRead(content)
            return content

    document = asked(source, read, manner)
    if len(document) > limit:
        raise VllmError(
            f"Cannot use {source.name}: it is larger than {limit} bytes. {source.elsewhere}", "download-failed"
        )
    return document


Result = t.TypeVar("Result")


def asked(source: HttpSource, question: t.Callable[[], Result], manner: Manner = Manner()) -> Result:
    """The answer to a question to a source.

    Raises:
        VllmError: says why there is none.
    """

    def attempt() -> Result:
        try:
            return question()
        except (OSError, http.client.HTTPException, UrlsError) as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise source.explain(error, 0, 0) from error

    return _persist(attempt, manner)


def _persist(attempt: t.Callable[[], Result], manner: Manner, progress: t.Callable[[], float] = lambda: 0.0) -> Result:
    """Try until it works, or has failed too often without progress, which is a share between 0 and 1.

    Raises:
        VllmError: the last failure, or that the server asks to wait for longer than allowed.
    """
    failed, total, best = 0, 0, progress()
    while True:
        try:
            return attempt()
        except TransientError as fault:
            failed, total = failed + 1, total + 1
            # A network that breaks every few minutes still brings a large file; nothing new is no progress.
            if progress() >= best + _PROGRESS:
                failed, best = 1, progress()
            if failed >= manner.attempts:
                tried = f" Tried {total} times." if total > 1 else ""
                raise VllmError(f"{fault}{tried}", fault.reason) from None
            if fault.after > manner.longest_wait:
                asks = f"It asks to wait {fault.after:.0f} s, longer than {manner.longest_wait:g} s."
                raise VllmError(f"{fault} {asks}", fault.reason) from None
            time.sleep(max(fault.after, min(2 ** (total - 1), _LONGEST_PAUSE)))


def remove_leftover(partial: str) -> None:
    """Remove what a killed run left, unless a running one is at work on it."""
    with on_disk(f"remove {partial}"):
        if os.path.islink(partial):
            os.unlink(partial)
            return
        with contextlib.suppress(FileNotFoundError), _opened(partial, os.O_RDONLY | os.O_NONBLOCK) as file:
            if _lock(file.fileno()):
                os.unlink(partial)


@contextlib.contextmanager
def held(partial: str, is_kept: bool = False) -> t.Iterator[t.BinaryIO]:
    """Open the partial file, for this process alone; it is gone in the end, one way or the other, unless it is kept."""
    with contextlib.ExitStack() as stack:
        file = _open_alone(partial, stack)
        try:
            yield file
        finally:
            with contextlib.suppress(OSError):
                if _is_at(partial, file.fileno()) and not (is_kept and os.fstat(file.fileno()).st_size):
                    os.unlink(partial)


def _open_alone(partial: str, stack: contextlib.ExitStack) -> t.BinaryIO:
    deadline = time.monotonic() + _LOCK_WAIT_SECONDS
    while time.monotonic() < deadline:
        with on_disk(f"write {partial}"):
            file = stack.enter_context(_opened(partial, os.O_RDWR | os.O_CREAT))
            locked = _lock(file.fileno())
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise VllmError(
                f"Cannot write {partial}: it exists and is not a regular file. Remove it.", "download-failed"
            )
        # Whoever held it before may have renamed or removed it meanwhile.
        if locked and _is_at(partial, file.fileno()):
            return file
        stack.close()
        time.sleep(0 if locked else 0.2)
    raise VllmError(
        f"Another run has been writing {partial} for {_LOCK_WAIT_SECONDS // 60} minutes: wait for it, or end it.",
        "locked",
    )


def _opened(path: str, flags: int) -> t.BinaryIO:
    """Unbuffered, so that a full file system is told where it happens; never through a symbolic link."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    return t.cast(t.BinaryIO, os.fdopen(descriptor, "r+b" if flags & os.O_RDWR else "rb", 0))


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        # Without locks two runs disturb each other, but neither installs what is not verified.
        if error.errno not in NO_LOCKS_HERE:
            raise
    return True


def _is_at(path: str, descriptor: int) -> bool:
    try:
        there, opened = os.lstat(path), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(there.st_mode) and (there.st_dev, there.st_ino) == (opened.st_dev, opened.st_ino)


def _sync_directory(directory: str) -> None:
    """Have the rename outlive a power cut, where the file system lets itself be told."""
    with contextlib.suppress(OSError):
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@dataclass(frozen=True)
class _Transfer:
    """The attempts to fill one partial file."""

    source: Source
    expected: Expected
    path: str
    file: t.BinaryIO
    manner: Manner

    def run(self) -> None:
        # What an earlier run left may be wrong; that is no fault of this one's source.
        more = 1 if self.file.seek(0, os.SEEK_END) > 0 else 0
        manner = replace(self.manner, attempts=self.manner.attempts + more)
        _persist(self._attempt, manner, self._share)

    def _attempt(self) -> None:
        self._fill()
        self._check()

    def _share(self) -> float:
        return self.file.seek(0, os.SEEK_END) / max(self.expected.size, 1)

    def _fill(self) -> None:
        """Continue where the file ends."""
        offset = self.file.seek(0, os.SEEK_END)
        if offset == self.expected.size:
            return
        if offset > self.expected.size:
            offset = self._forget()
        with self._reading():
            start, stream = self.source.open_at(offset)
        with contextlib.closing(stream):
            if start > offset:
                raise self.source.explain(http.client.IncompleteRead(b""), offset, self.expected.size)
            self.file.seek(start)
            self.file.truncate()
            self._copy(stream)

    def _copy(self, stream: io.BufferedIOBase) -> None:
        """Read to one byte past the expected end, which betrays a file that is too long."""
        start = got = self.file.tell()
        # None: a web server that does not say. A file on this host has no such thing, and ends where it ends.
        promised: int | None = getattr(stream, "length", 0)
        while got <= self.expected.size and (not promised or got - start < promised):
            with self._reading():
                # What is there, however little: a stall must not cost what came before it.
                chunk = stream.read1(min(_CHUNK_BYTES, self.expected.size + 1 - got))
            if not chunk:
                break
            self._write(chunk)
            got += len(chunk)
            self.manner.passing(got, len(chunk))
        is_cut = got < self.expected.size and (promised is None or got - start < promised)
        if is_cut and not _looks_like_html(self._head()):
            raise self.source.explain(http.client.IncompleteRead(b""), got, self.expected.size)

    def _write(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        with on_disk(f"write {self.path}"):
            while view:
                view = view[self.file.write(view) :]

    def _head(self) -> bytes:
        self.file.seek(0)
        return self.file.read(_CHUNK_BYTES)

    def _forget(self) -> int:
        """Throw away what is there, so that the next attempt begins anew."""
        self.file.seek(0)
        return self.file.truncate()

    @contextlib.contextmanager
    def _reading(self) -> t.Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException, UrlsError) as error:
            got = self.file.tell()
            if isinstance(error, urllib.error.HTTPError):
                error.close()
                # 416: what is here already does not fit what the server has.
                got = self._forget() if error.code == 416 else got
            raise self.source.explain(error, got, self.expected.size) from error

    def _check(self) -> None:
        """Read back what was written."""
        head = self._head()
        self.file.seek(0)
        digest = self.expected.digest_of(self.file)
        size = self.file.tell()
        if digest != self.expected.digest:
            self._forget()
            raise _explain_content(self.source, self.expected, head, size, digest)


def _explain_content(source: Source, expected: Expected, head: bytes, size: int, digest: str) -> VllmError:
    """Say what came instead of the file."""
    name, elsewhere = source.name, source.elsewhere
    what = "sha256" if expected.algorithm == "sha256" else "git's sha1"
    if _looks_like_html(head):
        return VllmError(
            f"What {name} gave is an HTML page, probably of a proxy or a login portal: {what} {digest}, expected "
            f"{expected.digest}. Check the URL and the proxy settings. {elsewhere}",
            "download-failed",
        )
    if size < expected.size:
        return VllmError(f"{name} is truncated: it has {size} of {expected.size} bytes. {elsewhere}", "download-failed")
    return TransientError(
        f"What {name} gave is not what was published: {what} {digest}, expected {expected.digest}. "
        f"A proxy or the mirror changed it. {elsewhere}"
    )
