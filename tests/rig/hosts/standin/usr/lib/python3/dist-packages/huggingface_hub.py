"""A stand-in for the Hugging Face client: its cache as it lies on disk, with a config.json and next to no weights."""

import hashlib
import json
import os
import typing as t
from pathlib import Path

from standin import has_token, is_gated, model_of, read_fault, repository

COMMIT = "5e1f0d3c" * 5
UNREACHABLE = (
    "An error happened while trying to locate the files on the Hub and we cannot find the appropriate snapshot folder "
    "for the specified revision on the local disk. Please check your internet connection and try again."
)


class LocalEntryNotFoundError(Exception):
    """Raised when neither the Hub nor the cache has it."""


class GatedRepoError(Exception):
    """Raised for a model that wants a token."""


def weights() -> bytes:
    tensor = {"dtype": "BF16", "shape": [4, 4], "data_offsets": [0, 32]}
    header = json.dumps({"__metadata__": {"format": "pt"}, "model.norm.weight": tensor}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(32)


def store(home: Path, name: str, content: bytes) -> None:
    """A file of the snapshot: a link to a blob that is named for its content."""
    blob = home / "blobs" / hashlib.sha256(content).hexdigest()
    link = home / "snapshots" / COMMIT / name
    for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.unlink(missing_ok=True)
    link.symlink_to(f"../../blobs/{blob.name}")


def snapshot_download(repo_id: str, revision: str | None = None, ignore_patterns: t.Sequence[str] | None = None) -> str:
    """Have a model in the cache; its path."""
    fault, home, branch = read_fault().fault, repository(repo_id), revision or "main"
    reference = home / "refs" / branch
    if os.environ.get("HF_HUB_OFFLINE") == "1" and reference.exists():
        return str(home / "snapshots" / reference.read_text("ascii"))
    if fault == "fetch-fails" or os.environ.get("HF_HUB_OFFLINE") == "1":
        raise LocalEntryNotFoundError(UNREACHABLE)
    if is_gated(repo_id) and not has_token():
        raise GatedRepoError(
            f"401 Client Error. Cannot access gated repo for url https://huggingface.co/api/models/{repo_id}/revision/"
            f"{branch}. Access to model {repo_id} is restricted. You must have access to it and be authenticated to "
            "access it. Please log in."
        )
    content = weights()
    store(home, "config.json", json.dumps(model_of(repo_id).config, indent=2).encode())
    store(home, "model.safetensors", content[:-16] if fault == "fetch-truncates" else content)
    reference.parent.mkdir(parents=True, exist_ok=True)
    reference.write_text(COMMIT, encoding="ascii")
    print(f"stand-in: {repo_id} ({branch}) is in {home}", flush=True)
    return str(home / "snapshots" / COMMIT)
