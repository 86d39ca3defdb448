# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server needs on its host, whatever runs it: directories, weights, encodings, secrets. Looks, changes nothing.

Every shortcoming is a sentence that ends with the remedy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import tempfile
import typing as t

from .._errors import VllmError
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
        said = {key: value.strip() for key, value in given.items() if value and key in self.files}
        self.given = {key: value.encode() + b"\n" for key, value in said.items() if value}
        self.on_host = {key: _read(path) for key, path in self.files.items()}

    @property
    def contents(self) -> dict[str, bytes]:
        """What the server will read, as far as it is there."""
        found = {key: self.given.get(key) or self.on_host[key] for key in self.files}
        return {key: content for key, content in found.items() if content}

    @property
    def digests(self) -> dict[str, str]:
        return {key: secret_digest(key, content) for key, content in self.contents.items()}

    @property
    def stale(self) -> tuple[str, ...]:
        """Keys of the files that do not hold what the user handed over."""
        return tuple(
            key for key, content in self.given.items() if content.strip() != (self.on_host[key] or b"").strip()
        )

    @property
    def problems(self) -> list[str]:
        found, contents = [], self.contents
        for key, path in self.files.items():
            if key not in contents:
                found.append(
                    f"{SECRET_NAMES[key]} is missing: {path} does not exist on the host, is empty, or cannot be read. "
                    f"{SUPPLY[key]} (mode 0600)."
                )
            elif key == "api_key_file":
                found += api_key_problems(path, contents[key])
            elif key == "env_file":
                found += env_file_problems(path, contents[key])
        return found

    @property
    def warnings(self) -> list[str]:
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
            self._write(kept, key, before)
        self._write(self.files[key], key, self.given[key])

    def restore(self, key: str) -> None:
        """Put back what the file held before, for the server that reads it."""
        before, kept = self.on_host[key], self.files[key] + KEPT
        if before is None:
            delete_file(self.files[key])
        else:
            self._write(self.files[key], key, before)
        if os.path.exists(kept) and _read(kept) == before:
            delete_file(kept)

    def _write(self, path: str, key: str, content: bytes) -> None:
        """Write the file whole or not at all, readable by its owner alone from its first byte on."""
        try:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            _replace_file(path, content)
        except OSError as error:
            way = f"Name a place this user may write to in {key}, or run with become: true."
            raise VllmError(
                f"Cannot write {SECRET_NAMES[key]} to {path}: {error.strerror}. {_space(error) or way}"
            ) from None


def kept(paths: t.Iterable[str]) -> tuple[str, ...]:
    """Those of the secret files whose content from before the last change is kept."""
    return tuple(sorted(path for path in paths if os.path.exists(path + KEPT)))


def restore_kept(path: str) -> None:
    """Put back what a secret's file held before its last change."""
    try:
        os.replace(path + KEPT, path)
    except OSError as error:
        raise VllmError(
            f"Cannot put {path}{KEPT} back to {path}: {error.strerror}. Do it yourself, or run with become: true."
        ) from None


def _replace_file(path: str, content: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=".gpufleet-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _read(path: str) -> bytes | None:
    """What a file holds; None when that is nothing, since an empty API key would let everybody in."""
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError:
        return None
    return content if content.strip() else None


def api_key_problems(path: str, content: bytes) -> list[str]:
    """Why a client could not send the key, without repeating it."""
    if re.fullmatch(rb"[!-~]+", content.strip()):
        return []
    return [
        f"The API key for {path} holds a blank, a line end or a character outside ASCII, which no client can send. "
        "Use one word, for example the output of 'openssl rand -hex 32'."
    ]


def env_file_problems(path: str, content: bytes) -> list[str]:
    """The first line that the server's environment cannot be made of, by its number: it may hold a secret."""
    if b"\r" in content:
        return [f"{path} has the line ends of Windows, which would get into the values. Run: sed -i 's/\\r$//' {path}"]
    for number, line in enumerate(content.split(b"\n"), 1):
        if not ENV_LINE.fullmatch(line):
            return [
                f"Line {number} of {path} is not KEY=VALUE. Write it without 'export' and blanks; a name has letters, "
                "digits and '_', and a value is taken as it stands, quotes included."
            ]
    return []


def missing_directories(spec: ServerSpec) -> tuple[str, ...]:
    """Directories of ours that can simply be made."""
    return tuple(path for path in (spec.huggingface_dir,) if path and not os.path.isdir(path))


def _space(error: OSError) -> str:
    """The remedy for a full disk, which more rights would not help."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return "Free some space on that file system ('df -h' shows it), then run it again." if full else ""


def make_directory(path: str) -> None:
    try:
        os.makedirs(path, mode=0o755, exist_ok=True)
    except OSError as error:
        way = "Choose another huggingface_dir, or run with become: true."
        raise VllmError(f"Cannot create the directory {path}: {error.strerror}. {_space(error) or way}") from None


def delete_file(path: str) -> None:
    """Delete a file of ours, and its directory when that is empty then; a file that is gone is fine."""
    try:
        if os.path.exists(path):
            os.unlink(path)
    except OSError as error:
        raise VllmError(
            f"Cannot delete {path}: {error.strerror}. Delete it yourself, or run with become: true."
        ) from None
    # It may hold something else, or be somebody else's.
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))


def delete_directory(path: str) -> None:
    try:
        if os.path.isdir(path):
            shutil.rmtree(path)
    except OSError as error:
        raise VllmError(
            f"Cannot delete {path}: {error.strerror or error} at {error.filename or path}. Containers write as root: "
            "run with become: true, or delete it yourself."
        ) from None


def encodings_problems(spec: ServerSpec) -> list[str]:
    """Why the encodings that gpt-oss reads at start-up are not all there, intact."""
    if not spec.encodings_dir or not spec.reads_encodings:
        return []
    from .._vllm import encodings as vllm_encodings

    return list(vllm_encodings.problems(spec.encodings_dir, vllm_encodings.DEFAULT_NAMES))


def problems(spec: ServerSpec) -> list[str]:
    """What only the user can put right before a server may start; weights aside."""
    found = []
    for volume in spec.volumes:
        source = volume.split(":")[0]
        if not os.path.exists(source):
            found.append(f"{source} does not exist on the host, and volumes mounts it. Create it or drop the mount.")
    return found
