# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A purge deletes the recorded models and the two vocabulary files, and nothing that is shared."""

from __future__ import annotations

import os
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import used
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import Purge
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.purge import purgeable
from docker_model import Client, manage, run, warnings

BOTH = ("weights", "encodings")
MODEL = "hub/models--org--m"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A cache as it is after a year: two models, a token, a data set, and encodings beside."""
    for name in (MODEL, "hub/models--org--other", "hub/datasets--org--d", "enc"):
        (tmp_path / "hf" / name).mkdir(parents=True)
        (tmp_path / "hf" / name / "blob").write_text("x")
    (tmp_path / "hf" / "token").write_text("hf_mine")
    for name in ("o200k_base", "cl100k_base"):
        (tmp_path / "hf" / "enc" / f"{name}.tiktoken").write_text("x")
    return tmp_path


def found(root: Path, mine: t.Any = None, others: t.Any = (), foreign: t.Any = (), what: t.Any = ("weights",)) -> Purge:
    mine = mine or {"huggingface_dir": "{0}/hf", "model": "org/m"}
    return purgeable(
        what, [placed(mine, root)], [placed(one, root) for one in others], [one.format(root) for one in foreign]
    )


def placed(intent: t.Any, root: Path) -> t.Any:
    def at(value: t.Any) -> t.Any:
        if isinstance(value, list):
            return [at(one) for one in value]
        return value.replace("{0}", str(root)) if isinstance(value, str) else value

    return {key: at(value) for key, value in intent.items()}


def test_the_folder_of_the_model_goes_and_nothing_else(root: Path) -> None:
    assert found(root) == Purge((f"{root}/hf/{MODEL}",))


def test_the_two_vocabularies_go_and_nothing_else(root: Path) -> None:
    files = tuple(sorted(f"{root}/hf/enc/{name}.tiktoken" for name in ("o200k_base", "cl100k_base")))
    assert found(root, {"encodings_dir": "{0}/hf/enc", "model": "org/m"}, what=BOTH) == Purge(files=files)


def test_encodings_above_the_weights_take_none_with_them(root: Path) -> None:
    mine = {"encodings_dir": "{0}", "huggingface_dir": "{0}/hf", "model": "org/m"}
    assert found(root, mine, what=("encodings",)) == Purge()


@pytest.mark.parametrize(
    "mine",
    [
        pytest.param({"model": "org/m"}, id="no cache"),
        pytest.param({"huggingface_dir": "hf", "model": "org/m"}, id="a relative path"),
        pytest.param({"huggingface_dir": ["{0}/hf"], "model": "org/m"}, id="a list"),
        pytest.param({"huggingface_dir": "{0}/hf", "model": "/srv/m"}, id="a directory for a model"),
        pytest.param({"huggingface_dir": "{0}/hf", "model": "../../token"}, id="dots"),
        pytest.param({"huggingface_dir": "{0}/hf", "model": "org/m/../.."}, id="dots behind"),
        pytest.param({"huggingface_dir": "{0}/hf", "model": ""}, id="no model"),
        pytest.param({"huggingface_dir": "{0}/hf", "model": 5}, id="a number"),
        pytest.param({"huggingface_dir": "{0}/nowhere", "model": "org/m"}, id="nothing there"),
        pytest.param({"huggingface_dir": "/", "model": "org/m"}, id="the root"),
    ],
)
def test_what_names_no_folder_deletes_none(mine: dict[str, t.Any], root: Path) -> None:
    assert found(root, mine).directories == ()


@pytest.mark.parametrize(
    ("other", "why"),
    [
        pytest.param({"huggingface_dir": "{0}/hf", "model": "org/m"}, "uses", id="the same model"),
        pytest.param({"huggingface_dir": "{0}/link", "model": "org/m"}, "uses", id="behind a link"),
        pytest.param({"huggingface_dir": "{0}/hf/../hf/", "model": "org/m"}, "uses", id="spelled otherwise"),
        pytest.param(
            {"huggingface_dir": "{0}/hf", "model": "x", "engine": {"speculative_config": '{"model":"org/m"}'}},
            "uses",
            id="as its draft",
        ),
        pytest.param({"model": "{0}/hf/hub/models--org--m/snapshots/1"}, "uses", id="as a directory"),
        pytest.param({"model": "{0}/link/hub/models--org--m/snapshots/1"}, "uses", id="as a directory, linked"),
        pytest.param({"model": "x", "volumes": ["{0}/hf:/data:ro"]}, "uses", id="as a volume"),
        pytest.param({"huggingface_dir": "{0}/hf/hub/models--org--m/x", "model": "x"}, "is in it", id="a cache in it"),
        pytest.param({"encodings_dir": "{0}/hf/hub/models--org--m", "model": "x"}, "is in it", id="encodings in it"),
        pytest.param({"api_key_file": "{0}/hf/hub/models--org--m/key", "model": "x"}, "uses", id="a key in it"),
        pytest.param({"huggingface_dir": "{0}/hf", "model": "org/other"}, "", id="another model in the same cache"),
        pytest.param({"huggingface_dir": "{0}/hf2", "model": "org/m"}, "", id="another cache"),
        pytest.param({"huggingface_dir": "{0}/hf", "model": "org/m-fp8"}, "", id="a longer name in the same cache"),
        pytest.param(
            {"huggingface_dir": "{0}/hf", "model": "x", "engine": {"lora_modules": ["a=org/m"]}},
            "uses",
            id="as an adapter",
        ),
    ],
)
def test_what_another_server_uses_is_kept_and_told(other: dict[str, t.Any], why: str, root: Path) -> None:
    (root / "link").symlink_to(root / "hf")
    purge = found(root, others=[other])
    assert bool(purge.directories) == (not why)
    assert not why or (why in purge.kept[0] and "is kept although purge was requested" in purge.kept[0])


@pytest.mark.parametrize("mount", ["{0}/hf", "{0}", "{0}/link", "{0}/hf/hub/models--org--m/snapshots"])
def test_what_a_container_of_somebody_else_mounts_is_kept(mount: str, root: Path) -> None:
    (root / "link").symlink_to(root / "hf")
    purge = found(root, foreign=[mount])
    assert purge.directories == () and "another user's container or service uses" in purge.kept[0]


def test_what_else_of_the_server_lies_in_it_is_kept(root: Path) -> None:
    mine = {"huggingface_dir": "{0}/hf", "model": "org/m", "volumes": [f"{{0}}/hf/{MODEL}/adapters:/a"]}
    assert found(root, mine).directories == ()


def test_a_cache_behind_a_link_is_followed(root: Path) -> None:
    (root / "link").symlink_to(root / "hf")
    assert found(root, {"huggingface_dir": "{0}/link", "model": "org/m"}) == Purge((f"{root}/hf/{MODEL}",))


@pytest.mark.parametrize("place", [MODEL, "hub"])
@pytest.mark.parametrize("target", ["theirs", "theirs/models--org--m"])
def test_a_link_in_a_cache_that_leads_out_of_it_is_not_followed(place: str, target: str, root: Path) -> None:
    """What a container writes into the cache is its own choice."""
    (root / "theirs" / "models--org--m" / "models--org--m").mkdir(parents=True)
    (root / "hf" / place).rename(root / "aside")
    (root / "hf" / place).symlink_to(root / target)
    purge = found(root)
    assert purge.directories == () and "outside of" in purge.kept[0]


def test_a_link_in_a_cache_to_another_model_of_it_is_not_followed(root: Path) -> None:
    (root / "hf" / MODEL).rename(root / "aside")
    (root / "hf" / MODEL).symlink_to(root / "hf" / "hub" / "models--org--other")
    assert found(root).directories == ()


@pytest.mark.parametrize("holy", [MODEL, f"{MODEL}/blobs"])
@pytest.mark.parametrize("kind", ["_homes", "_mounts"])
def test_no_home_and_no_mount_is_deleted(kind: str, holy: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(used, kind, lambda: {f"{root}/hf/{holy}"})
    assert found(root).directories == ()


def test_the_mounts_and_homes_of_this_host_are_known() -> None:
    assert "/" in used._mounts() and "/root" in used._homes()


@pytest.mark.parametrize(
    ("other", "foreign"),
    [
        ({"encodings_dir": "{0}/hf/enc", "model": "x"}, ()),
        ({"encodings_dir": "{0}/link/enc", "model": "x"}, ()),
        ({"volumes": ["{0}/hf:/x"], "model": "x"}, ()),
        ({"model": "x"}, ("{0}/hf/enc",)),
    ],
)
def test_vocabularies_that_others_use_are_kept(other: dict[str, t.Any], foreign: t.Any, root: Path) -> None:
    (root / "link").symlink_to(root / "hf")
    mine = {"encodings_dir": "{0}/hf/enc", "model": "org/m"}
    purge = found(root, mine, [other], foreign, BOTH)
    assert purge.files == () and len(purge.kept) == 2


# --- as a run does it -----------------------------------------------------------------------------------------------


def test_a_purge_of_a_linked_cache_ends(client: Client, root: Path) -> None:
    (root / "link").symlink_to(root / "hf")
    run(model="org/m", huggingface_dir=f"{root}/link", engine={"load_format": "dummy"})
    result = manage(state="absent", purge=["weights"])
    verbs = [line.split(" ")[0] for line in result["actions"]]
    assert verbs.index("remove") < verbs.index("delete")
    assert not (root / "hf" / MODEL).exists()
    assert (root / "hf" / "token").exists() and (root / "hf" / "hub" / "models--org--other" / "blob").exists()
    assert manage(state="absent", purge=["weights"])["changed"] is False


def test_what_is_kept_is_told(client: Client, root: Path) -> None:
    client.put("ann", {"HostConfig": {"Binds": [f"{root}/hf:/data"]}}, running=True)
    run(model="org/m", huggingface_dir=f"{root}/hf", engine={"load_format": "dummy"})
    warnings.clear()
    manage(state="absent", purge=["weights"])
    assert (root / "hf" / MODEL / "blob").exists() and os.listdir(root / "hf")
    assert len(warnings) == 1 and warnings[0].startswith(f"{root}/hf/{MODEL} is kept")
