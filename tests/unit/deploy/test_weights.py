# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Trees of model files, whole and broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.weights import (
    GIB,
    Snapshot,
    disk_problem,
    find,
    free_bytes,
    problems,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.architecture import of_config
from hypothesis import given, settings, strategies as st

COMMIT = "6cee5e81ee83917806bbde320786a8fb61efebee"
OTHER = "0123456789abcdef0123456789abcdef01234567"
CATALOGUE = Path(__file__).parents[3] / "playbooks" / "models"


def tensors(data: int = 40, header: bytes | None = None) -> bytes:
    """A safetensors file with two tensors that take so many bytes together."""
    if header is None:
        described = {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "U8", "shape": [data - 8], "data_offsets": [0, data - 8]},
            "b": {"dtype": "U8", "shape": [8], "data_offsets": [data - 8, data]},
        }
        header = json.dumps(described).encode()
    return len(header).to_bytes(8, "little") + header + bytes(data)


def index(*names: t.Any) -> bytes:
    return json.dumps(
        {"metadata": {"total_size": 80}, "weight_map": {f"w{i}": n for i, n in enumerate(names)}}
    ).encode()


WHOLE = tensors()
CONFIG = b'{"model_type": "llama"}'
ONE, TWO = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
SHARDED = {"config.json": CONFIG, "model.safetensors.index.json": index(ONE, TWO, ONE), ONE: WHOLE, TWO: WHOLE}
SINGLE = {"config.json": CONFIG, "model.safetensors": WHOLE}
Files = t.Mapping[str, t.Optional[bytes]]


def directory(path: Path, files: Files) -> Path:
    """Write the files; None is a link to nothing."""
    path.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            (path / name).symlink_to("../../blobs/gone")
        else:
            (path / name).write_bytes(content)
    return path


def cache(path: Path, files: Files, commit: str = COMMIT, refs: t.Mapping[str, str] | None = None) -> str:
    """A Hugging Face cache with the model org/name: links into blobs, as huggingface_hub makes them."""
    repository = path / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / commit
    for part in (snapshot, repository / "blobs", repository / "refs"):
        part.mkdir(parents=True, exist_ok=True)
    for number, (name, content) in enumerate(files.items()):
        blob = repository / "blobs" / f"{number:064x}"
        if content is not None:
            blob.write_bytes(content)
        (snapshot / name).symlink_to(os.path.relpath(blob, snapshot))
    for name, target in ({"main": commit} if refs is None else refs).items():
        (repository / "refs" / name).parent.mkdir(exist_ok=True)
        (repository / "refs" / name).write_text(target)
    return str(path)


# --- which files a model needs, and whether they are whole ----------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "weights_bytes"),
    [
        pytest.param(SHARDED, 2 * len(WHOLE), id="the shards that the index names"),
        pytest.param({**SHARDED, "model-old.safetensors": b"x"}, 2 * len(WHOLE), id="a file the index does not name"),
        pytest.param(SINGLE, len(WHOLE), id="one safetensors file"),
        pytest.param({**SINGLE, "model.safetensors": tensors(8, b"{}")[:10]}, 10, id="no tensors at all"),
        pytest.param({"config.json": CONFIG, ONE: WHOLE, TWO: WHOLE}, 2 * len(WHOLE), id="numbered, without an index"),
        pytest.param({"config.json": CONFIG, "pytorch_model.bin": b"xyz"}, 3, id="a PyTorch checkpoint"),
        pytest.param(
            {
                "config.json": CONFIG,
                "pytorch_model.bin.index.json": index("pytorch_model-1.bin", "pytorch_model-2.bin"),
                "pytorch_model-1.bin": b"x",
                "pytorch_model-2.bin": b"yz",
            },
            3,
            id="PyTorch checkpoints with an index",
        ),
        pytest.param({**SINGLE, "pytorch_model.bin": b""}, len(WHOLE), id="safetensors come before PyTorch"),
        pytest.param({"params.json": b"{}", "consolidated.safetensors": WHOLE}, len(WHOLE), id="Mistral's format"),
        pytest.param(
            {"config.json": CONFIG, "params.json": b"{}", "consolidated.safetensors": WHOLE},
            len(WHOLE),
            id="Mistral's format beside a config.json",
        ),
        pytest.param(
            {
                "config.json": CONFIG,
                "model.safetensors.index.json": index(ONE, TWO),
                "params.json": b"{}",
                "consolidated.safetensors": WHOLE,
            },
            len(WHOLE),
            id="Mistral's format beside the index of another one",
        ),
        pytest.param({"q4.gguf": b"GGUF...."}, 8, id="a GGUF file"),
        pytest.param(
            {**SINGLE, "original/model.safetensors": b"", "metal/model.bin": b""},
            len(WHOLE),
            id="subfolders are ignored",
        ),
    ],
)
def test_a_model_is_complete_with(tmp_path: Path, files: Files, weights_bytes: int) -> None:
    found = find(str(directory(tmp_path / "m", files)), None)
    assert (found.missing, found.damaged) == ((), ())
    assert found.present and found.complete
    assert found.weights_bytes == weights_bytes


@pytest.mark.parametrize(
    ("files", "missing"),
    [
        pytest.param({}, ["config.json", "model.safetensors"], id="an empty directory"),
        pytest.param({"config.json": CONFIG, "README.md": b"x"}, ["model.safetensors"], id="no weights"),
        pytest.param({"model.safetensors": WHOLE}, ["config.json"], id="no configuration"),
        pytest.param({**SINGLE, "config.json": None}, ["config.json"], id="a link to a configuration that is gone"),
        pytest.param({"consolidated.safetensors": WHOLE}, ["params.json"], id="no configuration of Mistral's"),
        pytest.param({**SHARDED, TWO: None}, [TWO], id="a link to a shard that is gone"),
        pytest.param({k: v for k, v in SHARDED.items() if k != ONE}, [ONE], id="a shard that was never there"),
        pytest.param(
            {"config.json": CONFIG, "model.safetensors.index.json": index(ONE, TWO)}, [ONE, TWO], id="an index alone"
        ),
        pytest.param({"config.json": CONFIG, TWO: WHOLE}, [ONE], id="a numbered file without an index"),
        pytest.param(
            {**SHARDED, "model.safetensors.index.json": None},
            ["model.safetensors.index.json"],
            id="an index that is gone",
        ),
        pytest.param({"q4-00002-of-00002.gguf": b"GGUF"}, ["q4-00001-of-00002.gguf"], id="half of a GGUF model"),
        pytest.param(
            {"config.json": CONFIG, "original/model.safetensors": WHOLE}, ["model.safetensors"], id="a subfolder"
        ),
        pytest.param(
            {"config.json": CONFIG, "model.safetensors.index.json": index("m/" + "x" * 300 + ".safetensors")},
            ["m/" + "x" * 300 + ".safetensors"],
            id="a name that is too long for a file",
        ),
    ],
)
def test_what_a_model_lacks_is_named(tmp_path: Path, files: Files, missing: list[str]) -> None:
    found = find(str(directory(tmp_path / "m", files)), None)
    assert found.present and not found.complete
    assert (list(found.missing), found.damaged) == (missing, ())


FULL = len(WHOLE)


@pytest.mark.parametrize(
    ("files", "damaged"),
    [
        pytest.param({**SHARDED, TWO: WHOLE[:-1]}, f"{TWO}: it has {FULL - 1} of {FULL} bytes", id="a truncated shard"),
        pytest.param(
            {**SHARDED, TWO: WHOLE + b"x"}, f"{TWO}: it has {FULL + 1} of {FULL} bytes", id="a shard too long"
        ),
        pytest.param({**SHARDED, TWO: b""}, f"{TWO}: it is empty", id="an empty shard"),
        pytest.param(
            {**SHARDED, TWO: WHOLE[:50]},
            f"{TWO}: it has 50 bytes and an incomplete safetensors header",
            id="half a header",
        ),
        pytest.param(
            {**SINGLE, "model.safetensors": b"<html>"},
            "model.safetensors: it has 6 bytes and an incomplete safetensors header",
            id="shorter than any header",
        ),
        pytest.param(
            {**SINGLE, "model.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:00"},
            "model.safetensors: it has 56 bytes and an incomplete safetensors header",
            id="a Git LFS pointer",
        ),
        *(
            pytest.param(
                {**SINGLE, "model.safetensors": tensors(0, header)},
                f"model.safetensors: it has {8 + len(header)} bytes and no safetensors header",
                id=id,
            )
            for id, header in (
                ("a header that is no JSON", b"{garbage"),
                ("a header that is no mapping", b"[1, 2]"),
                ("a header nested without end", b"[" * 50_000),
                ("a header in no encoding", b'{"\xff": 1}'),
                ("a tensor without a place", b'{"a": {"dtype": "U8"}}'),
                ("a tensor that is no mapping", b'{"a": 1}'),
                ("a tensor at a word", b'{"a": {"data_offsets": [0, "x"]}}'),
                ("a tensor at one number", b'{"a": {"data_offsets": [0]}}'),
            )
        ),
        pytest.param(
            {**SINGLE, "config.json": b"{"}, "config.json: it has 1 bytes and is not a JSON mapping", id="config"
        ),
        pytest.param(
            {**SINGLE, "config.json": b""}, "config.json: it has 0 bytes and is not a JSON mapping", id="no config"
        ),
        *(
            pytest.param(
                {**SHARDED, "model.safetensors.index.json": content}, f"model.safetensors.index.json: {what}", id=id
            )
            for id, content, what in (
                ("an index that is no JSON", b"\0\0\0", "it has 3 bytes and is not a JSON mapping"),
                ("an index of nothing", b"{}", "it names no files in a weight_map"),
                ("an index of no files", index(), "it names no files in a weight_map"),
                ("an index of numbers", index(1, None), "it names no files in a weight_map"),
                ("an index of a file elsewhere", index("../other.safetensors"), "it names no files in a weight_map"),
                ("an index of an absolute path", index("/etc/passwd"), "it names no files in a weight_map"),
                ("an index of no possible name", index("a\0b"), "it names no files in a weight_map"),
            )
        ),
        pytest.param({"config.json": CONFIG, "pytorch_model.bin": b""}, "pytorch_model.bin: it is empty", id="PyTorch"),
        pytest.param({"q4.gguf": b"<html>"}, "q4.gguf: it does not begin as a GGUF file does", id="no GGUF file"),
    ],
)
def test_what_is_damaged_is_told_with_what_was_seen(tmp_path: Path, files: Files, damaged: str) -> None:
    found = find(str(directory(tmp_path / "m", files)), None)
    assert found.present and not found.complete
    assert found.damaged == (damaged,)
    assert found.missing == ()


def test_files_of_other_kinds_are_damage_and_nothing_waits_for_them(tmp_path: Path) -> None:
    model = directory(tmp_path / "m", {"config.json": CONFIG})
    os.mkfifo(model / "model.safetensors")
    assert find(str(model), None).damaged == ("model.safetensors: it is not a regular file",)
    (model / "config.json").unlink()
    os.mkfifo(model / "config.json")
    assert find(str(model), None).damaged[0] == "config.json: it is not a regular file"


def test_a_gguf_file_is_a_model_by_itself(tmp_path: Path) -> None:
    directory(tmp_path, {"a.gguf": b"GGUF1234", "b.gguf": b"no", "a-00001-of-00002.gguf": b"GGUF"})
    found = find(f"{tmp_path}/a.gguf", None)
    assert found.complete and found.weights_bytes == 8 and found.path == f"{tmp_path}/a.gguf"
    assert find(f"{tmp_path}/b.gguf", None).damaged
    assert find(f"{tmp_path}/a-00001-of-00002.gguf", None).missing == ("a-00002-of-00002.gguf",)


def test_a_model_that_is_not_there_is_not_present(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for path in (f"{tmp_path}/none", f"{tmp_path}/file/m", f"{tmp_path}/a\0b"):
        assert find(path, None) == Snapshot(path, None)


def test_the_revision_of_a_directory_changes_with_its_files(tmp_path: Path) -> None:
    model = directory(tmp_path / "m", SHARDED)
    before = find(str(model), None).revision
    (model / "README.md").write_text("x")
    assert find(str(model), None).revision == before
    os.utime(model / TWO, ns=(1, 1))
    touched = find(str(model), None).revision
    (model / "config.json").write_bytes(b'{"a": 1}')
    assert len({before, touched, find(str(model), None).revision}) == 3


def test_the_configuration_comes_along(tmp_path: Path) -> None:
    assert find(str(directory(tmp_path / "m", SINGLE)), None).config == {"model_type": "llama"}


# --- the Hugging Face cache -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refs", "revision", "found"),
    [
        pytest.param({"main": COMMIT}, None, True, id="the main branch"),
        pytest.param({"main": f"{COMMIT}\n"}, None, True, id="with a line end"),
        pytest.param({"main": COMMIT}, COMMIT, True, id="the commit"),
        pytest.param({"v1": COMMIT}, "v1", True, id="a tag"),
        pytest.param({"refs/pr": COMMIT}, "refs/pr", True, id="a ref in a folder"),
        pytest.param({"v1": COMMIT}, None, False, id="another branch alone"),
        pytest.param({"main": OTHER}, None, False, id="a commit that was not fetched"),
        pytest.param({"main": COMMIT}, OTHER, False, id="another commit"),
        pytest.param({"main": COMMIT}, "../refs/main", False, id="no branch's name"),
        pytest.param({"main": COMMIT}, "a\0b", False, id="no file's name"),
        pytest.param({"main": "../../elsewhere"}, None, False, id="a ref that leads elsewhere"),
        pytest.param({"main": ""}, None, False, id="an empty ref"),
        pytest.param({"main": "\u00e9" * 40}, None, False, id="a ref of garbage"),
        pytest.param({}, None, False, id="no ref"),
    ],
)
def test_a_revision_is_found_in_the_cache(
    tmp_path: Path, refs: t.Mapping[str, str], revision: str | None, found: bool
) -> None:
    seen = find("org/name", cache(tmp_path, SHARDED, refs=refs), revision)
    assert (seen.present, seen.complete, seen.revision) == (found, found, COMMIT if found else None)


@pytest.mark.parametrize(
    "model", ["org/other", "name", "s3://bucket/model", "../x", "a/b/c", "", "org/na me", "models--org--name"]
)
def test_other_ids_are_not_in_the_cache(tmp_path: Path, model: str) -> None:
    assert find(model, cache(tmp_path, SINGLE)) == Snapshot(None, None)
    assert find("org/name", None) == find("org/name", f"{tmp_path}/none") == Snapshot(None, None)


def test_a_download_that_was_cut_short_is_incomplete(tmp_path: Path) -> None:
    where = cache(tmp_path, {**SHARDED, TWO: None})
    (tmp_path / "hub/models--org--name/blobs/abc.incomplete").write_bytes(b"x")
    found = find("org/name", where)
    assert found.present and found.interrupted and found.missing == (TWO,)
    assert find("org/name", where, OTHER) == Snapshot(None, None, interrupted=True)


def test_what_an_older_download_left_does_not_matter_to_a_complete_model(tmp_path: Path) -> None:
    where = cache(tmp_path, SHARDED)
    (tmp_path / "hub/models--org--name/blobs/abc.incomplete").write_bytes(b"x")
    assert find("org/name", where).complete


def test_one_quantization_of_a_gguf_repository_is_asked_for(tmp_path: Path) -> None:
    where = cache(tmp_path, {"m-Q4_K_M.gguf": b"GGUF", "m-Q8_0.gguf": b"GGUF1234"})
    assert find("org/name:q4_k_m", where).weights_bytes == 4
    assert not find("org/name:Q2_K", where).complete


# --- what is told ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "told"),
    [
        pytest.param(SHARDED, [], id="complete"),
        pytest.param(
            None,
            ["The model directory {0} does not exist on the host. Stage the weights there, or name a"],
            id="absent",
        ),
        pytest.param({"a": b""}, ["The model directory {0} holds no config.json. Stage the weights there"], id="empty"),
        pytest.param(
            {**SHARDED, TWO: None},
            [f"The model directory {{0}} lacks {TWO}. Copy what is missing there."],
            id="a shard",
        ),
        pytest.param(
            {"config.json": CONFIG, "model-00005-of-00005.safetensors": WHOLE},
            [
                "The model directory {0} lacks model-00001-of-00005.safetensors, model-00002-of-00005.safetensors, "
                "model-00003-of-00005.safetensors and 1 more. Copy"
            ],
            id="many shards",
        ),
        pytest.param(
            {**SHARDED, ONE: b"", TWO: WHOLE[:-4]},
            [
                f"The model cannot be loaded from {{0}}/{ONE}: it is empty. Copy it there again from a complete copy.",
                f"The model cannot be loaded from {{0}}/{TWO}: it has {FULL - 4} of {FULL} bytes. Copy it there again",
            ],
            id="damaged",
        ),
    ],
)
def test_a_directory_that_cannot_be_loaded_is_told(tmp_path: Path, files: Files | None, told: list[str]) -> None:
    path = str(tmp_path / "m") if files is None else str(directory(tmp_path / "m", files))
    found = problems(find(path, None), path, fetches=False)
    assert len(found) == len(told)
    for sentence, start in zip(found, told):
        assert sentence.startswith(start.format(path))


def test_a_damaged_gguf_file_is_told_by_its_path(tmp_path: Path) -> None:
    path = f"{directory(tmp_path, {'a.gguf': b''})}/a.gguf"
    assert problems(find(path, None), path, fetches=False)[0].startswith(
        f"The model cannot be loaded from {path}: it is empty."
    )


@pytest.mark.parametrize(
    ("files", "said", "told"),
    [
        pytest.param(SHARDED, {}, [], id="complete"),
        pytest.param(SHARDED, {"offline": True}, [], id="complete and offline"),
        pytest.param(None, {}, [], id="vLLM fetches what is absent"),
        pytest.param({**SHARDED, TWO: None}, {}, [], id="vLLM fetches what is missing"),
        pytest.param(
            None,
            {"offline": True},
            [
                "The Hugging Face cache of the host does not hold org/name, and env has HF_HUB_OFFLINE or "
                "TRANSFORMERS_OFFLINE. Stage the model there first, or drop the variable."
            ],
            id="absent and offline",
        ),
        pytest.param(
            {**SHARDED, TWO: None},
            {"fetches": False},
            [
                f"The Hugging Face cache of the host lacks {TWO} of org/name, and nothing is fetched at the start. Stage "
                "the model there first."
            ],
            id="incomplete, and nothing is fetched",
        ),
        pytest.param(
            {**SHARDED, TWO: b"12345678"},
            {},
            [
                f"org/name cannot be loaded from {{0}}/{TWO}: it has 8 bytes and an incomplete safetensors header. vLLM takes "
                'what is in the cache as it is. Delete the file and what it links to (rm -f "$(readlink -f '
                f"'{{0}}/{TWO}')\" '{{0}}/{TWO}'), and the next start fetches it again."
            ],
            id="damaged",
        ),
    ],
)
def test_a_cache_that_cannot_be_loaded_from_is_told(
    tmp_path: Path, files: Files | None, said: dict[str, bool], told: list[str]
) -> None:
    found = find("org/name", str(tmp_path) if files is None else cache(tmp_path, files))
    snapshot = f"{tmp_path}/hub/models--org--name/snapshots/{COMMIT}"
    assert problems(found, "org/name", **said) == [sentence.replace("{0}", snapshot) for sentence in told]


def test_a_command_to_copy_removes_the_file_whatever_that_is_called(tmp_path: Path) -> None:
    name = "a'; touch pwned; '$(touch pwned)`touch pwned`.safetensors"
    found = find("org/name", cache(tmp_path, {"config.json": CONFIG, name: b""}))
    (told,) = problems(found, "org/name")
    command = told[told.index("rm -f") : told.rindex("), and")]
    path = tmp_path / "hub" / "models--org--name" / "snapshots" / COMMIT / name
    assert os.path.lexists(path)
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=True)
    assert not os.path.lexists(path)
    assert not (tmp_path / "pwned").exists()


def test_a_damaged_cache_without_the_network_is_staged_again(tmp_path: Path) -> None:
    found = find("org/name", cache(tmp_path, {**SHARDED, ONE: b"", TWO: None}))
    damage, lack = problems(found, "org/name", offline=True)
    assert damage.endswith(", and stage org/name again.")
    assert lack.startswith(f"The Hugging Face cache of the host lacks {TWO} of org/name, and env has HF_HUB_OFFLINE")


def test_a_download_that_was_cut_short_is_told(tmp_path: Path) -> None:
    where = cache(tmp_path, {**SHARDED, TWO: None})
    (tmp_path / "hub/models--org--name/blobs/abc.incomplete").write_bytes(b"x")
    (told,) = problems(find("org/name", where), "org/name", offline=True)
    assert f"lacks {TWO} of org/name (a download was cut short), and" in told


DENIED = "it cannot be read (Permission denied)"


def test_what_this_user_may_not_read_needs_another_user() -> None:
    found = Snapshot("/m", "x", damaged=(f"{ONE}: {DENIED}",), present=True)
    assert problems(found, "/m", fetches=False) == [
        f"The model cannot be loaded from /m/{ONE}: {DENIED}. Run with become: true."
    ]
    closed = Snapshot("/m", None, damaged=(f"/m: {DENIED}",))
    assert problems(closed, "/m", fetches=False) == [
        f"The model cannot be loaded from /m: {DENIED}. Run with become: true."
    ]


def test_a_cache_that_only_the_server_may_read_is_no_problem() -> None:
    for present in (True, False):
        assert problems(Snapshot("/c", "x", damaged=(f"a: {DENIED}",), present=present), "org/name", offline=True) == []


def test_a_user_without_rights_learns_why_nothing_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    where, model = cache(tmp_path / "c", SINGLE), str(directory(tmp_path / "m", SINGLE))
    monkeypatch.setattr(os, "listdir", refused)
    assert find(model, None) == Snapshot(model, None, damaged=(f"{model}: {DENIED}",))
    assert find("org/name", where).damaged == (f"{where}/hub/models--org--name: {DENIED}",)


# --- space ----------------------------------------------------------------------------------------------------------


def test_free_space_is_that_of_the_nearest_directory(tmp_path: Path) -> None:
    seen = os.statvfs(tmp_path)
    assert free_bytes(f"{tmp_path}/not/yet/there") == pytest.approx(seen.f_bavail * seen.f_frsize, rel=0.05)
    (tmp_path / "file").touch()
    assert free_bytes(f"{tmp_path}/file/x") > 0


def test_too_little_space_is_told_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result((4096, 4096, 0, 0, 1 << 20, 0, 0, 0, 0, 255)))
    assert disk_problem(str(tmp_path), 4 * GIB, "The image") is None
    assert disk_problem(f"{tmp_path}/x", 65 * GIB, "openai/gpt-oss-120b") == (
        f"openai/gpt-oss-120b needs 65.00 GiB in {tmp_path}/x, and 4.00 GiB are free there. Free some space, or choose a "
        "directory on another file system."
    )


# --- any tree and any text ------------------------------------------------------------------------------------------

NAMES = st.sampled_from(
    ["config.json", "params.json", "model.safetensors.index.json", "model.safetensors", ONE, TWO, "a.gguf"]
    + ["pytorch_model.bin", "consolidated.safetensors", "pytorch_model.bin.index.json", "x\udcff.safetensors"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | NAMES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["weight_map", "data_offsets", "a", "text_config"]), inner, max_size=4)
    ),
    max_leaves=12,
)
CONTENTS = st.one_of(
    st.none(),
    st.binary(max_size=40),
    JSON.map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass")),
    JSON.map(lambda value: tensors(16, json.dumps(value).encode("utf-8", "surrogatepass"))),
    st.integers(0, FULL).map(lambda length: WHOLE[:length]),
)
TREES = st.dictionaries(NAMES, CONTENTS, max_size=6)


@settings(max_examples=150)
@given(files=TREES, ref=st.binary(max_size=50) | st.just(COMMIT.encode()), revision=st.none() | st.text(max_size=10))
def test_no_tree_raises_and_a_complete_model_has_no_problem(files: Files, ref: bytes, revision: str | None) -> None:
    place = Path(tempfile.mkdtemp())
    try:
        where = cache(place / "c", files)
        (place / "c/hub/models--org--name/refs/main").write_bytes(ref)
        model = str(directory(place / "m", files))
        for name in (model, "org/name", "org/name:q4", f"{model}/a.gguf"):
            found = find(name, where, revision)
            told = problems(found, name, fetches=False)
            assert all(sentence.endswith(".") for sentence in told)
            assert bool(told) != found.complete
            of_config(found.config, found.weights_bytes)
    finally:
        shutil.rmtree(place)
