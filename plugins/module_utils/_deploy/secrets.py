# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The secrets of a server: compared by digest, written, kept until the commit, put back."""

from __future__ import annotations

import os
import re
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
# What the shell in the container can export; blank lines and comments aside.
ENV_LINE = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*=.*|#.*|\s*")


class Secrets:
    """The secrets of one server: what the user hands over now, else what the files on the host hold."""

    def __init__(self, spec: ServerSpec, given: t.Mapping[str, str | None]) -> None:
        self.files = spec.secret_files
        stripped = {key: value.strip() for key, value in given.items() if value and key in self.files}
        self.given = {key: value.encode() + b"\n" for key, value in stripped.items() if value}
        self.on_host = {key: _read(path) for key, path in self.files.items()}

    @property
    def contents(self) -> dict[str, bytes]:
        """What the server will read, as far as it is there."""
        found = {key: self.given.get(key) or self.on_host[key] for key in self.files}
        return {key: content for key, content in found.items() if content}

    @property
    def digests(self) -> dict[str, str]:
        """What shows a rotation, by key."""
        return {key: secret_digest(key, content) for key, content in self.contents.items()}

    @property
    def stale(self) -> tuple[str, ...]:
        """Keys of the files that do not hold what the user handed over."""
        return tuple(
            key for key, content in self.given.items() if content.strip() != (self.on_host[key] or b"").strip()
        )

    @property
    def problems(self) -> list[Problem]:
        """What is missing, and what no client or shell could use."""
        found, contents = [], self.contents
        for key, path in self.files.items():
            if key not in contents:
                sentence = (
                    f"{SECRET_NAMES[key]} is missing: {path} does not exist on the host, is empty, or cannot be read. "
                    f"{SUPPLY[key]} (mode 0600)."
                )
                found.append(Problem("secret-missing", sentence))
            elif key == "api_key_file":
                found += api_key_problems(path, contents[key])
            elif key == "env_file":
                found += env_file_problems(path, contents[key])
        return found

    @property
    def warnings(self) -> list[str]:
        """Files that other users may read."""
        return [
            f"{path} can be read by other users of the host; run 'chmod 600 {path}'."
            for path in self.files.values()
            if os.path.exists(path) and stat.S_IMODE(os.stat(path).st_mode) & 0o077
        ]

    def write(self, key: str) -> None:
        """Put the secret that was handed over into its file; what that held is kept beside it until the server that
        reads the new one is committed."""
        before, kept = self.on_host[key], self.files[key] + KEPT
        if before is not None and not os.path.exists(kept):
            _write(kept, key, before)
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


def _write(path: str, key: str, content: bytes) -> None:
    """Write the file whole or not at all, readable by its owner alone from its first byte on."""
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        files.write_whole(path, content)
    except OSError as error:
        way = f"Name a place this user may write to in {key}, or run with become: true."
        raise VllmError(
            f"Cannot write {SECRET_NAMES[key]} to {path}: {error.strerror}. {files.remedy(error, way)}",
            files.reason(error),
        ) from None


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


def api_key_problems(path: str, content: bytes) -> list[Problem]:
    """Why a client could not send the key, without repeating it."""
    if re.fullmatch(rb"[!-~]+", content.strip()):
        return []
    sentence = (
        f"The API key for {path} contains a space, a newline or a non-ASCII character, which no client can send. "
        "Use one word, for example the output of 'openssl rand -hex 32'."
    )
    return [Problem("secret-invalid", sentence)]


def env_file_problems(path: str, content: bytes) -> list[Problem]:
    """The first line that the server's environment cannot be made of, by its number: it may hold a secret."""
    if b"\r" in content:
        sentence = f"{path} has Windows line ends, which would get into the values. Run: sed -i 's/\\r$//' {path}"
        return [Problem("secret-invalid", sentence)]
    for number, line in enumerate(content.split(b"\n"), 1):
        if not ENV_LINE.fullmatch(line):
            sentence = (
                f"Line {number} of {path} is not KEY=VALUE. Write it without 'export' and blanks; a name has letters, "
                "digits and '_', and a value is taken as it stands, quotes included."
            )
            return [Problem("secret-invalid", sentence)]
    return []
