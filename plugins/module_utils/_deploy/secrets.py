# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The secrets of a server: compared by digest, written, kept until the commit, put back."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
import typing as t

from .._errors import Problem, VllmError
from .._host import files
from .._server.spec import ServerSpec, secret_digest

SECRET_NAMES = {"hf_token_file": "HF_TOKEN", "api_key_file": "the API key", "env_file": "the env file"}
SUPPLY = {
    "hf_token_file": "Export HF_TOKEN where ansible-playbook runs, set vllm_server_hf_token, or write the token there",
    "api_key_file": "Set vllm_server_api_key (from a vault), or write the key there",
    "env_file": "Write lines of KEY=VALUE there",
}
# What a secret's file held before, until the server that reads the new content is committed.
KEPT = ".superseded"
# Random characters of a key that nobody guesses.
SHORTEST_KEY = 16
# What the shell in the container can export; blank lines and comments aside.
ENV_LINE = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*=.*|#.*|\s*")


class Secrets:
    """The secrets of one server: what the user hands over now, else what the files on the host hold.

    Those in C(keeps) are only handed over to a file that holds nothing. C(salt) is what the server's secrets are
    compared with.
    """

    def __init__(
        self, spec: ServerSpec, given: t.Mapping[str, str | None], keeps: t.Collection[str] = (), salt: str = ""
    ) -> None:
        self.files, self.salt = spec.secret_files, salt
        self.on_host = {key: _read(path) for key, path in self.files.items()}
        stripped = {key: value.strip() for key, value in given.items() if value and key in self.files}
        self.given = {
            key: value.encode() + b"\n"
            for key, value in stripped.items()
            if value and not (key in keeps and _holds(self.files[key]))
        }

    @property
    def contents(self) -> dict[str, bytes]:
        """What the server will read, as far as it is there."""
        found = {key: self.given.get(key) or self.on_host[key] for key in self.files}
        return {key: content for key, content in found.items() if content}

    @property
    def digests(self) -> dict[str, str]:
        """What shows a rotation, by key. A server reads the Hub token to download, so another one restarts nothing."""
        told = {key: content for key, content in self.contents.items() if key != "hf_token_file"}
        return {key: secret_digest(key, content, self.salt) for key, content in told.items()}

    @property
    def stale(self) -> tuple[str, ...]:
        """Keys of the files to write: they do not hold what the user handed over, or others may read it there."""
        return tuple(
            key for key, path in self.files.items() if key in self.differing or (key in self.given and _is_open(path))
        )

    @property
    def differing(self) -> tuple[str, ...]:
        """Keys of the files that do not hold what the user handed over."""
        return tuple(
            key for key, content in self.given.items() if content.strip() != (self.on_host[key] or b"").strip()
        )

    @property
    def problems(self) -> list[Problem]:
        """What is missing, and what no client or shell could use."""
        found, contents = [*self._shared(), *self._links()], self.contents
        for key, path in self.files.items():
            if key not in contents:
                sentence = (
                    f"{SECRET_NAMES[key]} is missing: {path} does not exist on the host, is empty, or cannot be read. "
                    f"{SUPPLY[key]} (mode 0600)."
                )
                found.append(Problem("secret-missing", sentence))
            elif key == "api_key_file":
                found += _api_key_problems(path, contents[key], is_given=key in self.given)
            elif key == "env_file":
                found += env_file_problems(path, contents[key])
        return found

    def _shared(self) -> list[Problem]:
        """Files that are one and the same by another path: what is handed over for one would be read for the other."""
        found: list[Problem] = []
        by_place: dict[str, str] = {}
        for key, path in self.files.items():
            for place in (os.path.realpath(path), os.path.realpath(path + KEPT)):
                other = by_place.setdefault(place, key)
                if other != key:
                    sentence = f"{key} and {other} must be different files; both lead to {place}."
                    found.append(Problem("secret-invalid", sentence))
        return found

    def _links(self) -> list[Problem]:
        """Files to write that are links: whoever made them looks after what they lead to."""
        return [
            Problem(
                "secret-invalid",
                f"{SECRET_NAMES[key]} cannot be written to {path}: it is a link to {os.path.realpath(path)}. Name that "
                f"file in {key}, or change the secret there and pass none in.",
            )
            for key, path in self.files.items()
            if key in self.differing and os.path.islink(path)
        ]

    @property
    def warnings(self) -> list[str]:
        """Files that other users may read, and directories where they may put another one."""
        # Those that were handed over are written again.
        open_files = [path for key, path in self.files.items() if key not in self.stale and _is_open(path, os.stat)]
        found = [
            f"{path} can be read by other users of the host; run 'chmod 600 {shlex.quote(path)}'."
            for path in open_files
        ]
        directories = sorted({os.path.dirname(path) for path in self.files.values()})
        return found + [
            f"Other users of the host may replace the files in {path}; run 'chmod go-w {shlex.quote(path)}'."
            for path in directories
            if _is_writable_by_others(path)
        ]

    def write(self, key: str) -> None:
        """Put the secret that was handed over into its file; what that held is kept beside it until the server that
        reads the new one is committed. A file that others may read, and that holds it already, is closed to them."""
        before, kept = self.on_host[key], self.files[key] + KEPT
        if key not in self.differing:
            _close(self.files[key], key)
            return
        if before is not None and not os.path.exists(kept):
            _write(kept, key, before, like=self.files[key])
        _write(self.files[key], key, self.given[key])

    def restore(self, key: str) -> None:
        """Put back what the file held before, for the server that reads it."""
        before, kept = self.on_host[key], self.files[key] + KEPT
        if before is None:
            files.delete_file(self.files[key])
        else:
            _write(self.files[key], key, before)
        if os.path.exists(kept) and _read(kept) == before:
            files.delete_file(kept)


def _write(path: str, key: str, content: bytes, like: str | None = None) -> None:
    """Write the file whole or not at all, readable by its owner alone from its first byte on.

    An owner that the file has, it keeps; one that takes its place later has the owner of C(like).
    """
    with _explained(path, key):
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        files.sweep(path)
        files.write_whole(path, content, owner=_owner(like or path))


def _close(path: str, key: str) -> None:
    """Let nobody but its owner read a file from now on."""
    with _explained(path, key):
        os.chmod(path, 0o600)


@contextlib.contextmanager
def _explained(path: str, key: str) -> t.Iterator[None]:
    try:
        yield
    except OSError as error:
        way = f"Name a place this user may write to in {key}, or run with become: true."
        raise files.failure(f"write {SECRET_NAMES[key]} to {path}", error, way) from None


def _owner(path: str) -> tuple[int, int] | None:
    """Owner and group of a file that exists."""
    try:
        state = os.lstat(path)
    except OSError:
        return None
    return (state.st_uid, state.st_gid) if stat.S_ISREG(state.st_mode) else None


def _holds(path: str) -> bool:
    """Whether there is something in a file, or it cannot be seen."""
    try:
        with open(path, "rb") as stream:
            return bool(stream.read(files.READ_LIMIT).strip())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _is_open(path: str, look: t.Callable[[str], os.stat_result] = os.lstat) -> bool:
    """Whether other users of the host may read a file; of a link, nobody knows without following it."""
    try:
        mode = look(path).st_mode
    except OSError:
        return False
    return stat.S_ISREG(mode) and bool(stat.S_IMODE(mode) & 0o077)


def _is_writable_by_others(directory: str) -> bool:
    """Whether other users may replace files there; with the sticky bit (as in /tmp) only their own."""
    try:
        state = os.stat(directory)
    except OSError:
        return False
    # Many a user has a group of its own.
    theirs = 0o002 if state.st_gid == state.st_uid else 0o022
    return bool(state.st_mode & theirs) and not state.st_mode & stat.S_ISVTX


def secret_paths(intents: t.Iterable[t.Mapping[str, t.Any]]) -> set[str]:
    """The secret files that servers with these records read."""
    return {str(intent[key]) for intent in intents for key in SECRET_NAMES if intent.get(key)}


def kept(paths: t.Iterable[str]) -> tuple[str, ...]:
    """Those of the secret files whose content from before the last change is kept."""
    return tuple(sorted(path for path in paths if os.path.exists(path + KEPT)))


def restore_kept(path: str) -> None:
    """Put back what a secret's file held before its last change."""
    try:
        os.replace(path + KEPT, path)
    except OSError as error:
        raise VllmError(
            f"Cannot put {path}{KEPT} back to {path}: {error.strerror}. Do it yourself, or run with become: true.",
            "permission-denied",
        ) from None


def _read(path: str) -> bytes | None:
    """What a file holds; None when that is nothing, since an empty API key would let everybody in."""
    content = files.read(path)
    return content if content and content.strip() else None


def _api_key_problems(path: str, content: bytes, is_given: bool) -> list[Problem]:
    """Why a client could not send the key, or anybody could guess it, without repeating it.

    The shell in the container takes everything but the last line ends, and clients nothing around the word.
    """
    key = content.rstrip(b"\n")
    sentence = ""
    if not re.fullmatch(rb"[!-~]+", key.strip()):
        sentence = (
            f"The API key for {path} contains a space, a newline or a non-ASCII character, which no client can send. "
            "Use one word, for example the output of 'openssl rand -hex 32'."
        )
    elif key != key.strip() or len(content) - len(key) > 1:
        sentence = (
            f"The API key in {path} has spaces, blank lines or a Windows line end around it, which the server would "
            "read as part of the key. Write the key alone, with at most one newline after it."
        )
    elif is_given and len(key) < SHORTEST_KEY:
        sentence = (
            f"The API key for {path} has {len(key)} characters, and must have {SHORTEST_KEY} or more: a short one "
            "can be guessed. Use the output of 'openssl rand -hex 32'."
        )
    return [Problem("secret-invalid", sentence)] if sentence else []


def env_file_problems(path: str, content: bytes) -> list[Problem]:
    """The first line that the server's environment cannot be made of, by its number: it may hold a secret."""
    if b"\r" in content:
        command = shlex.join(["sed", "-i", "s/\\r$//", path])
        sentence = f"{path} has Windows line ends, which would get into the values. Run: {command}"
        return [Problem("secret-invalid", sentence)]
    for number, line in enumerate(content.split(b"\n"), 1):
        if not ENV_LINE.fullmatch(line):
            sentence = (
                f"Line {number} of {path} is not KEY=VALUE. Write it without 'export' and spaces; a name has letters, "
                "digits and '_', and a value is used literally, quotes included."
            )
            return [Problem("secret-invalid", sentence)]
    return []
