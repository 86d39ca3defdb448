# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a host has of a model: which files, and whether each is whole. Changes nothing.

A file is judged by its size and its header: a truncated one shows within a millisecond, and nothing is hashed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import typing as t
from dataclasses import dataclass, field

from .._vllm import encodings

GIB = 1 << 30
# Larger than the index of any model, and the limit of the safetensors library for its header.
INDEX_LIMIT = 64 << 20
HEADER_LIMIT = 100_000_000
NAMED_FILES = 3

HUGGING_FACE_ID = re.compile(r"[\w.-]+(?:/[\w.-]+)?")
# One of several files, as in model-00002-of-00015.safetensors.
NUMBERED = re.compile(r"(?P<head>.*-)(?P<number>\d{1,5})-of-(?P<total>\d{1,5})(?P<tail>\.\w+)")
NO_PERMISSION = f"it cannot be read ({os.strerror(errno.EACCES)})"


@dataclass(frozen=True)
class Snapshot:
    """The files of a model in one directory, or one GGUF file.

    C(damaged) holds texts of the form C(FILE: what was seen). A download that was cut short (C(interrupted)) only
    matters while files are missing.
    """

    path: str | None
    revision: str | None
    config: t.Mapping[str, t.Any] = field(default_factory=dict)
    weights_bytes: int = 0
    missing: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    present: bool = False
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        """Whether all that a server loads is there, undamaged as far as the headers of the files tell."""
        return self.present and not self.missing and not self.damaged


def find(model: str, huggingface_dir: str | None, revision: str | None = None) -> Snapshot:
    """Look for a model: a directory or GGUF file by its absolute path on the host, or a Hugging Face id in the cache.

    revision is what vLLM is given: a branch, a tag or a commit. That of a directory is a digest of its files' state.
    """
    if model.startswith("/"):
        return _in_directory(model)
    # vLLM writes the quantization of a GGUF repository after the id.
    name, _colon, quantization = model.partition(":")
    if not huggingface_dir or not HUGGING_FACE_ID.fullmatch(name):
        return Snapshot(None, None)
    return _in_cache(os.path.join(huggingface_dir, "hub", "models--" + name.replace("/", "--")), revision, quantization)


def _in_directory(path: str) -> Snapshot:
    if _is(path, stat.S_ISREG):
        directory, name = os.path.split(path)
        found = _examined(directory, {name}, re.compile(re.escape(name)))
    else:
        names, fault = _names(path)
        if names is None:
            return Snapshot(path, None, damaged=(f"{path}: {fault}",) if fault else ())
        directory, found = path, _examined(path, names)
    state = _state(directory, ["config.json", *found.wanted])
    return _snapshot(path, state, found)


def _in_cache(repository: str, revision: str | None, quantization: str) -> Snapshot:
    names, fault = _names(repository)
    commit = _commit(repository, revision or "main") if names else None
    path = os.path.join(repository, "snapshots", commit) if commit else None
    files, below = _names(path) if path else (None, None)
    interrupted = any(name.endswith(".incomplete") for name in _names(os.path.join(repository, "blobs"))[0] or ())
    if path is None or files is None:
        unread = tuple(f"{repository}: {reason}" for reason in (fault or below,) if reason)
        return Snapshot(None, None, damaged=unread, interrupted=interrupted)
    only = re.compile(f".*{re.escape(quantization)}.*", re.IGNORECASE) if quantization else None
    return _snapshot(path, commit, _examined(path, files, only), interrupted)


def _commit(repository: str, revision: str) -> str | None:
    """The commit that a branch or tag stands for, or the commit itself."""
    parts = revision.split("/")
    if ".." in parts:
        return None
    told, _fault = _read(os.path.join(repository, "refs", *parts), 1000)
    commit = told.decode("ascii", "replace").strip() if told is not None else revision
    return commit if re.fullmatch(r"\w[\w.-]*", commit) else None


# ---------------------------------------------------------------------------------------------------------------------
# Which files count, and whether they are whole
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Format:
    """One way to store weights; the index names the files where there is one."""

    files: re.Pattern[str]
    index: str | None = None
    config: str | None = "config.json"


TRANSFORMERS = Format(re.compile(r"(?!consolidated).+\.safetensors"), "model.safetensors.index.json")
MISTRAL = Format(re.compile(r"consolidated.*\.safetensors"), "consolidated.safetensors.index.json", "params.json")
PYTORCH = Format(re.compile(r"pytorch_model.*\.bin"), "pytorch_model.bin.index.json")
GGUF = Format(re.compile(r".+\.gguf"), config=None)
FORMATS = (TRANSFORMERS, MISTRAL, PYTORCH, GGUF)


@dataclass(frozen=True)
class Found:
    """The files that a model needs in its directory, and what is wrong with those that are there."""

    wanted: tuple[str, ...]
    config: t.Mapping[str, t.Any]
    weights_bytes: int
    missing: tuple[str, ...]
    damaged: tuple[str, ...]


def _examined(directory: str, names: set[str], only: re.Pattern[str] | None = None) -> Found:
    """Examine the format of which there are files; subfolders hold other copies (C(original/), C(metal/))."""
    named = [(form, *_wanted(directory, names, form, only)) for form in FORMATS]
    chosen = [(form, wanted, fault) for form, wanted, fault in named if names.intersection(wanted)]
    # An index without one of its files: a download that has only begun.
    chosen += [(form, wanted, fault) for form, wanted, fault in named if wanted or fault]
    form, wanted, fault = chosen[0] if chosen else (TRANSFORMERS, ("model.safetensors",), None)
    config, config_fault = _config(directory, names)
    configs = [name for name in (form.config, "config.json") if name and form.config]
    there = any(_stat(os.path.join(directory, name)) for name in configs)
    missing = [] if there else configs[:1]
    damaged, total = [text for text in (config_fault, fault) if text], 0
    for name in wanted:
        size, what = _weighed(os.path.join(directory, name))
        total += size or 0
        missing += [name] if size is None else []
        damaged += [f"{name}: {what}"] if what else []
    return Found(wanted, config, total, tuple(missing), tuple(damaged))


def _wanted(
    directory: str, names: set[str], form: Format, only: re.Pattern[str] | None
) -> tuple[tuple[str, ...], str | None]:
    """The files of a format that ought to be there, and what is wrong with its index."""
    lying = {name for name in names if form.files.fullmatch(name) and (only is None or only.fullmatch(name))}
    lying |= {sibling for name in lying for sibling in siblings(name)}
    if form.index is None or form.index not in names:
        return tuple(sorted(lying)), None
    index, fault = _json(directory, form.index, INDEX_LIMIT)
    shards = index.get("weight_map")
    if isinstance(shards, dict) and shards and all(map(is_file_name, shards.values())):
        return tuple(sorted(set(shards.values()))), None
    if fault is None and _stat(os.path.join(directory, form.index)) is None:
        return tuple(sorted({form.index, *lying})), None  # A link to a blob that is gone.
    return tuple(sorted(lying)), fault or f"{form.index}: it names no files in a weight_map"


def siblings(name: str) -> list[str]:
    """All files of a numbered series."""
    found = NUMBERED.fullmatch(name)
    if not found or not int(found["number"]) <= int(found["total"]) <= 2000:
        return []
    head, width, total = found["head"], len(found["number"]), found["total"]
    return [f"{head}{number:0{width}d}-of-{total}{found['tail']}" for number in range(1, int(total) + 1)]


def is_file_name(name: t.Any) -> bool:
    """Whether an index names a file below its own directory."""
    return isinstance(name, str) and name.isprintable() and bool(name) and not {"", ".."} & set(name.split("/"))


def _weighed(path: str) -> tuple[int | None, str | None]:
    """The size of a file of weights, None when there is none, and what is wrong with it."""
    seen = _stat(path)
    if seen is None:
        return None, None
    if not stat.S_ISREG(seen.st_mode):
        return 0, "it is not a regular file"
    if not seen.st_size:
        return 0, "it is empty"
    if path.endswith(".safetensors"):
        return seen.st_size, _safetensors_fault(path, seen.st_size)
    return seen.st_size, _gguf_fault(path) if path.endswith(".gguf") else None


def _gguf_fault(path: str) -> str | None:
    head, fault = _read(path, 4)
    return fault or (None if head == b"GGUF" else "it does not begin as a GGUF file does")


def _safetensors_fault(path: str, size: int) -> str | None:
    """Compare the size of a file with what its header tells: the header's length, the header, then all tensors."""
    head, fault = _read(path, 8)
    if head is None:
        return fault
    length = int.from_bytes(head, "little")
    if len(head) < 8 or length > min(size - 8, HEADER_LIMIT):
        return f"it has {size} bytes and an incomplete safetensors header"
    header, fault = _read(path, 8 + length)
    ends = _tensor_ends(header[8:] if header else b"")
    if fault or ends is None:
        return fault or f"it has {size} bytes and no safetensors header"
    expected = 8 + length + max(ends, default=0)
    return None if size == expected else f"it has {size} of {expected} bytes"


def _tensor_ends(header: bytes) -> list[int] | None:
    """Where each tensor ends, counted from the end of the header; None for what is no header."""
    tensors = _mapping(header)
    if tensors is None:
        return None
    ends = []
    for name, tensor in tensors.items():
        if name != "__metadata__":
            offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
            if not isinstance(offsets, list) or len(offsets) != 2 or not isinstance(offsets[1], int):
                return None
            ends.append(offsets[1])
    return ends


def _config(directory: str, names: set[str]) -> tuple[t.Mapping[str, t.Any], str | None]:
    return _json(directory, "config.json", INDEX_LIMIT) if "config.json" in names else ({}, None)


def _json(directory: str, name: str, limit: int) -> tuple[dict[str, t.Any], str | None]:
    """The mapping in a JSON file, and what is wrong with the file."""
    path = os.path.join(directory, name)
    content, fault = _read(path, limit)
    if content is None:
        return {}, f"{name}: {fault}" if fault else None
    mapping = _mapping(content)
    return (
        mapping or {},
        None if mapping is not None else f"{name}: it has {len(content)} bytes and is not a JSON mapping",
    )


def _mapping(content: bytes) -> dict[str, t.Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# ---------------------------------------------------------------------------------------------------------------------
# The disk, which may hold anything: names that no file can have are files that are not there
# ---------------------------------------------------------------------------------------------------------------------


def _stat(path: str) -> os.stat_result | None:
    """The state of a file, following links; None when it is not there, or not to be seen."""
    try:
        return os.stat(path)
    except (OSError, ValueError):
        return None


def _is(path: str, kind: t.Callable[[int], bool]) -> bool:
    seen = _stat(path)
    return seen is not None and kind(seen.st_mode)


def _names(directory: str) -> tuple[set[str] | None, str | None]:
    """What lies in a directory, or why it cannot be said; None twice when there is no such directory."""
    try:
        return set(os.listdir(directory)), None
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None, None
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"


def _read(path: str, limit: int) -> tuple[bytes | None, str | None]:
    """The beginning of a file, or why it cannot be read; None twice when there is no such file."""
    seen = _stat(path)
    if seen is None:
        return None, None
    if not stat.S_ISREG(seen.st_mode):
        return None, "it is not a regular file"  # Opening a pipe would wait for ever.
    try:
        with open(path, "rb") as stream:
            return stream.read(limit), None
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"


def _state(directory: str, names: t.Iterable[str]) -> str:
    """A short digest that changes when a file is replaced."""
    seen = ((name, _stat(os.path.join(directory, name))) for name in names)
    lines = [f"{name} {state.st_size} {state.st_mtime_ns}" for name, state in seen if state]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _snapshot(path: str, revision: str | None, found: Found, interrupted: bool = False) -> Snapshot:
    return Snapshot(
        path=path,
        revision=revision,
        config=found.config,
        weights_bytes=found.weights_bytes,
        missing=found.missing,
        damaged=found.damaged,
        present=True,
        interrupted=interrupted,
    )


# ---------------------------------------------------------------------------------------------------------------------
# What to tell
# ---------------------------------------------------------------------------------------------------------------------


def problems(snapshot: Snapshot, model: str, fetches: bool = True, offline: bool = False) -> list[str]:
    """Why a server could not load the model, each with its remedy.

    fetches tells whether vLLM may fetch what the Hugging Face cache lacks, offline that the server's environment
    forbids it (HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE). Neither matters for a directory.
    """
    if model.startswith("/"):
        return _directory_problems(snapshot, model)
    return _cache_problems(snapshot, model, fetches and not offline, offline)


def _directory_problems(snapshot: Snapshot, model: str) -> list[str]:
    path = snapshot.path or model
    stage = "Stage the weights there, or name a Hugging Face id in model."
    if not snapshot.present and not snapshot.damaged:
        return [f"The model directory {path} does not exist on the host. {stage}"]
    found = []
    config = [name for name in snapshot.missing if name in ("config.json", "params.json")]
    weights = [name for name in snapshot.missing if name not in config]
    if config:
        found.append(f"The model directory {path} holds no {config[0]}. {stage}")
    elif weights:
        found.append(f"The model directory {path} lacks {_listed(weights)}. Copy what is missing there.")
    for text in snapshot.damaged:
        file, what = _located(snapshot, text)
        remedy = "Run with become: true" if what == NO_PERMISSION else "Copy it there again from a complete copy"
        found.append(f"The model cannot be loaded from {file}: {what}. {remedy}.")
    return found


def _cache_problems(snapshot: Snapshot, model: str, fetches: bool, offline: bool) -> list[str]:
    found = []
    for text in snapshot.damaged:
        file, what = _located(snapshot, text)
        # What this user may not read, the server may.
        if what != NO_PERMISSION and snapshot.present:
            quoted = "'" + file.replace("'", "'\\''") + "'"
            then = "the next start fetches it again" if fetches else f"stage {model} again"
            found.append(
                f"{model} cannot be loaded from {file}: {what}. vLLM takes what is in the cache as it is. Delete the "
                f'file and what it links to (rm -f "$(readlink -f {quoted})" {quoted}), and {then}.'
            )
    if fetches or (not snapshot.missing and (snapshot.present or snapshot.damaged)):
        return found
    lacks = f"lacks {_listed(snapshot.missing)} of {model}" if snapshot.present else f"does not hold {model}"
    cut = " (a download was cut short)" if snapshot.interrupted else ""
    why = "env has HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE" if offline else "nothing is fetched at the start"
    drop = ", or drop the variable" if offline else ""
    return [
        *found,
        f"The Hugging Face cache of the host {lacks}{cut}, and {why}. Stage the model there first{drop}.",
    ]


def _located(snapshot: Snapshot, text: str) -> tuple[str, str]:
    """The path of a damaged file, and what is wrong with it."""
    name, _colon, what = text.rpartition(": ")
    directory = snapshot.path or ""
    return directory if os.path.basename(directory) == name else os.path.join(directory, name), what


def _listed(names: t.Sequence[str]) -> str:
    more = len(names) - NAMED_FILES
    return ", ".join(names[:NAMED_FILES]) + (f" and {more} more" if more > 0 else "")


def free_bytes(path: str) -> int:
    """What a user without privileges may still write there, or where the directory would be made."""
    place = os.path.abspath(path)
    while not _is(place, stat.S_ISDIR) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    return encodings.free_bytes(place)


def disk_problem(path: str, needed_bytes: int, what: str) -> str | None:
    """Say that there is too little space for something, named as the subject of a sentence."""
    free = free_bytes(path)
    if free >= needed_bytes:
        return None
    return (
        f"{what} needs {needed_bytes / GIB:.2f} GiB in {path}, and {free / GIB:.2f} GiB are free there. Free some "
        "space, or choose a directory on another file system."
    )
