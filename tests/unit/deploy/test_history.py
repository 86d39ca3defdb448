# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is pinned for the next start, and the file that remembers what was measured."""

from __future__ import annotations

import json
import os
import stat
import tempfile
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.history import (
    GIB,
    MIB,
    NEWEST,
    Memory,
    key,
    pin,
    state_directory,
    supports_pin,
    supports_startup_plan,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import ServerSpec, from_params
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.measurements import KEYS, measured
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.versions import Release
from hypothesis import given, strategies as st
from vllm_logs import COLD, PINNED, captured

# --- for the next start ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "margin", "pinned"),
    [
        pytest.param({"kv_cache_memory_bytes": 100 * GIB}, None, 98 * GIB, id="two percent of much"),
        pytest.param({"kv_cache_memory_bytes": 4 * GIB}, None, 4 * GIB - 256 * MIB, id="256 MiB of little"),
        pytest.param({"kv_cache_memory_bytes": 4 * GIB + 5}, 3, 4 * GIB, id="whole MiB, and a margin of one's own"),
        pytest.param({"kv_cache_memory_bytes": 4 * GIB}, 0, 4 * GIB, id="no margin"),
        pytest.param({"kv_gib": 4}, None, 4 * GIB - 256 * MIB, id="what was in use, when nothing was printed"),
        pytest.param(
            {"kv_gib": 11.0, "kv_cache_memory_bytes": 7 * GIB}, 0, 7 * GIB, id="less than was in use is printed"
        ),
        pytest.param({"kv_gib": 11.0, "kv_cache_memory_bytes": GIB}, 0, 11 * GIB, id="the graphs were taken off twice"),
        pytest.param({"kv_cache_memory_bytes": 200 * MIB}, None, None, id="less than the margin"),
        pytest.param({}, None, None, id="nothing known"),
        pytest.param({"kv_gib": "4", "kv_cache_memory_bytes": True}, None, None, id="garbage"),
        pytest.param({"kv_gib": float("nan"), "kv_cache_memory_bytes": float("inf")}, None, None, id="no numbers"),
        pytest.param({"kv_gib": -3.0, "kv_cache_memory_bytes": -5}, None, None, id="less than nothing"),
        pytest.param(PINNED, None, None, id="a pinned start alone"),
    ],
)
def test_what_is_pinned(known: dict[str, t.Any], margin: int | None, pinned: int | None) -> None:
    assert pin(known, margin) == pinned


def test_what_is_pinned_fits_into_what_was_measured() -> None:
    for name in ("h200_gptoss20b_cold", "h200_llama8b", "h200_gemma3_27b"):
        known = measured(captured(name))
        pinned = pin(known)
        assert pinned is not None and pinned % MIB == 0
        assert 0.97 * known["kv_cache_memory_bytes"] < pinned < known["kv_cache_memory_bytes"]


@pytest.mark.parametrize(
    ("version", "pins", "plans"),
    [
        ("0.8.5", False, False),
        ("0.10.1.1+381074ae.nv25.09", False, False),
        ("0.10.2", True, False),
        ("0.24.0", True, False),
        ("0.26.0", True, False),
        ("0.32.0", True, True),
        ("0.33.0", True, True),
    ],
)
def test_which_versions_can_be_pinned(version: str, pins: bool, plans: bool) -> None:
    assert (supports_pin(Release(version)), supports_startup_plan(Release(version))) == (pins, plans)


def test_an_unknown_version_is_not_pinned() -> None:
    assert not supports_pin(None) and not supports_startup_plan(None)


def spec(**said: t.Any) -> ServerSpec:
    return from_params({"name": "a", "model": "org/m", "image": "vllm/vllm-openai:v0.26.0", **said})


PLAIN = spec(engine={"max_model_len": 8192}, env={"A": "1"})


def of(
    wanted: ServerSpec,
    image: str | None = "sha256:1",
    revision: str | None = "c",
    gpus: tuple[str, ...] = ("H100", "H100"),
) -> str:
    return key(wanted, image, revision, gpus)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(of(spec(engine={"max_model_len": 4096}, env={"A": "1"})), id="a flag"),
        pytest.param(
            of(spec(engine={"max_model_len": 8192}, engine_unchecked={"x": 1}, env={"A": "1"})), id="an unchecked flag"
        ),
        pytest.param(of(spec(engine={"max_model_len": 8192}, env={"A": "2"})), id="the environment"),
        pytest.param(of(spec(engine={"max_model_len": 8192}, env={"A": "1"}, model="org/n")), id="the model"),
        pytest.param(of(PLAIN, revision="d"), id="the revision"),
        pytest.param(of(PLAIN, image="sha256:2"), id="the image"),
        pytest.param(of(PLAIN, image=None), id="an image that is not known"),
        pytest.param(of(PLAIN, gpus=("H100",)), id="the number of GPUs"),
        pytest.param(of(PLAIN, gpus=("H100", "A100")), id="the GPUs"),
    ],
)
def test_a_measurement_of_something_else_is_not_recalled(other: str) -> None:
    assert other != of(PLAIN)


@pytest.mark.parametrize(
    ("other", "gpus"),
    [
        pytest.param(
            spec(engine={"max_model_len": "8192"}, env={"A": 1}, port=9000, name="b"), None, id="another port and name"
        ),
        pytest.param(
            spec(engine={"max_model_len": 8192, "kv_cache_memory_bytes": "60G"}, env={"A": "1"}),
            None,
            id="a pinned cache",
        ),
        pytest.param(
            spec(engine={"max_model_len": 8192}, engine_unchecked={"kv-cache-memory": 5}, env={"A": "1"}),
            None,
            id="its short name",
        ),
        pytest.param(
            spec(engine={"max_model_len": 8192}, env={"A": "1", "VLLM_ENABLE_STARTUP_PLAN": "1"}),
            None,
            id="a plan of vLLM's own",
        ),
        pytest.param(
            spec(engine_unchecked={"max_model_len": 8192}, env={"A": "1"}), None, id="a flag that is not checked"
        ),
        pytest.param(PLAIN, ("A100", "H100"), id="GPUs in another order"),
    ],
)
def test_a_measurement_of_the_same_start_is_recalled(other: ServerSpec, gpus: tuple[str, ...] | None) -> None:
    order = gpus or ("H100", "A100")
    assert of(other, gpus=order) == of(PLAIN, gpus=("H100", "A100"))
    assert of(other, gpus=order).startswith("v1:")


# --- the file -------------------------------------------------------------------------------------------------------


def test_what_was_measured_is_recalled(tmp_path: Path) -> None:
    memory = Memory("vllm-a", f"{tmp_path}/state")
    assert memory.path == f"{tmp_path}/state/vllm-a.json"
    assert memory.recall("k") is None
    memory.remember("k", COLD, "2026-11-21T04:42:06Z")
    assert Memory("vllm-a", f"{tmp_path}/state").recall("k") == COLD
    assert memory.recall("other") is None
    assert stat.S_IMODE(os.stat(memory.path).st_mode) == 0o644
    assert stat.S_IMODE(os.stat(f"{tmp_path}/state").st_mode) & 0o755 == 0o755
    assert os.listdir(f"{tmp_path}/state") == ["vllm-a.json"]


def test_a_pinned_start_leaves_what_to_pin_as_it_was(tmp_path: Path) -> None:
    memory = Memory("a", str(tmp_path))
    memory.remember("k", COLD, "1")
    for when in ("2", "3"):
        memory.remember("k", PINNED, when)
        known = memory.recall("k")
        assert known == {**COLD, **PINNED}
        assert pin(known) == pin(COLD)
    memory.remember("k", {"kv_gib": 50.0}, "4")
    assert memory.recall("k") == {"kv_gib": 50.0}


def test_the_newest_are_kept(tmp_path: Path) -> None:
    memory = Memory("a", str(tmp_path))
    for number in range(NEWEST):
        memory.remember(f"k{number}", {"kv_gib": 1.0 + number}, str(number))
    memory.remember("k0", {"kv_gib": 100.0}, "100")
    memory.remember("new", {"kv_gib": 101.0}, "101")
    assert memory.recall("k1") is None
    assert memory.recall("k0") == {"kv_gib": 100.0}
    assert memory.recall("k2") == {"kv_gib": 3.0}
    assert len(json.loads(Path(memory.path).read_text("utf-8"))) == NEWEST


def test_a_file_of_garbage_counts_as_empty_and_is_replaced(tmp_path: Path) -> None:
    memory = Memory("a", str(tmp_path))
    for garbage in (
        b"",
        b"\xff\xfe",
        b"[1]",
        b"[" * 100_000,
        b'{"k": 1}',
        b'{"k": {"measured": []}}',
        b'{"k": {"measured": {"x": 1}}}',
    ):
        Path(memory.path).write_bytes(garbage)
        assert memory.recall("k") is None
        memory.remember("k", COLD, "1")
        assert memory.recall("k") == COLD


def test_only_numbers_are_recalled(tmp_path: Path) -> None:
    memory = Memory("a", str(tmp_path))
    told = (
        '{"kv_gib": "1", "weights_gib": true, "kv_tokens": NaN, "init_seconds": 1e999, "load_seconds": 2, "other": 3}'
    )
    Path(memory.path).write_text(f'{{"k": {{"when": "1", "measured": {told}}}}}')
    assert memory.recall("k") == {"load_seconds": 2}


def test_what_is_no_file_is_neither_waited_for_nor_read(tmp_path: Path) -> None:
    memory = Memory("a", str(tmp_path))
    os.mkfifo(memory.path)
    assert memory.recall("k") is None
    assert Memory("a\0b", str(tmp_path)).recall("k") is None


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    memory = Memory("a", f"{tmp_path}/file/state")
    assert memory.recall("k") is None
    with pytest.raises(VllmError) as told:
        memory.remember("k", COLD, "1")
    assert str(told.value) == (
        f"Cannot remember what vLLM measured in {tmp_path}/file/state/a.json: Not a directory. Run with become: true, or let "
        "XDG_STATE_HOME name a directory this user may write to."
    )


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    memory = Memory("a", str(tmp_path))
    memory.remember("k", COLD, "1")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(VllmError, match="a.json: No space left on device. Free some space"):
        memory.remember("k", {"kv_gib": 1.0}, "2")
    assert memory.recall("k") == COLD
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("uid", "writable", "environment", "directory"),
    [
        pytest.param(0, True, {}, "/var/lib/gpufleet.vllm", id="root"),
        pytest.param(
            0, True, {"XDG_STATE_HOME": "/state"}, "/var/lib/gpufleet.vllm", id="root, whatever its environment"
        ),
        pytest.param(0, False, {"HOME": "/root"}, "/root/.local/state/gpufleet.vllm", id="root on a read-only system"),
        pytest.param(1000, True, {"HOME": "/home/u"}, "/home/u/.local/state/gpufleet.vllm", id="a user"),
        pytest.param(
            1000, True, {"HOME": "/home/u", "XDG_STATE_HOME": "/state"}, "/state/gpufleet.vllm", id="a user's choice"
        ),
        pytest.param(
            1000, True, {"HOME": "/home/u", "XDG_STATE_HOME": "x"}, "/home/u/.local/state/gpufleet.vllm", id="no path"
        ),
        pytest.param(1000, True, {"HOME": "~"}, "/.local/state/gpufleet.vllm", id="no home"),
    ],
)
def test_where_it_is_remembered(
    uid: int, writable: bool, environment: dict[str, str], directory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setattr(os, "access", lambda path, mode: writable)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert state_directory() == directory
    assert Memory("vllm-a").path == f"{directory}/vllm-a.json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["k", "measured", "when", *KEYS]), inner, max_size=4)
    ),
    max_leaves=10,
)


@given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_no_file_raises(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        memory = Memory("a", directory)
        Path(memory.path).write_bytes(content)
        known = memory.recall("k")
        assert known is None or pin(known) is None or pin(known, 0) is not None
        memory.remember("k", COLD, "1")
        assert memory.recall("k") == COLD
