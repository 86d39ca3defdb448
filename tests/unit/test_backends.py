# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which backends a host has: the one that makes servers first, and only those that are there."""

from __future__ import annotations

import os
import types
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils import _backends
from ansible_collections.gpufleet.vllm.plugins.module_utils._backends import (
    backends_of,
    container_backends,
    service_backends,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy import ledger
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.ledger import SYSTEMD, Ledger, entry
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, t.Any]:
    monkeypatch.setattr(ledger, "state_directory", lambda: str(tmp_path / "state"))
    return {"docker_host": f"unix://{tmp_path}/docker.sock", "stop_timeout": 30}


def test_a_host_without_an_engine_has_units_alone(params: dict[str, t.Any]) -> None:
    assert list(service_backends(params)) == ["systemd"]


def test_a_service_knows_the_containers_beside_it(params: dict[str, t.Any], tmp_path: Path) -> None:
    (tmp_path / "docker.sock").touch()
    assert list(service_backends(params)) == ["systemd", "container"]


def test_a_container_knows_units_only_where_there_are_some(params: dict[str, t.Any]) -> None:
    assert list(container_backends(params)) == ["container"]
    Ledger(place="unix:///x").write(entry("vllm-a", "server"))
    assert list(container_backends(params)) == ["container"]


@pytest.mark.skipif(os.geteuid() != 0, reason="Only root has units.")
def test_a_container_of_root_knows_his_units(params: dict[str, t.Any]) -> None:
    Ledger(place=SYSTEMD).write(entry("vllm-a", "server", name="vllm-a"))
    assert list(container_backends(params)) == ["container", "systemd"]


# --- what runs a server that nobody named a backend for ---------------------------------------------------------------

IMAGE = {"container_name": None, "image": "i:1"}
VENV: dict[str, t.Any] = {"venv": "/opt/vllm", "user": "vllm"}
REFUSAL = {"refusal": "Unknown key 'overrides.image' for a server with backend systemd."}
IS_DEFAULT = {"is_default": True}


def server(params: dict[str, t.Any], own: dict[str, t.Any], **alternative: t.Any) -> dict[str, t.Any]:
    return {**params, "state": "started", "name": "a", "port": 8000, **own, "alternative": alternative}


def recorded(backend: str, params: dict[str, t.Any], name: str = "vllm-a") -> None:
    place = SYSTEMD if backend == "systemd" else params["docker_host"]
    Ledger(place=place).write(entry(name, "server", name=name))


@pytest.fixture
def engine(params: dict[str, t.Any], tmp_path: Path) -> None:
    """A host with an engine."""
    (tmp_path / "docker.sock").touch()


@pytest.mark.skipif(os.geteuid() != 0, reason="The record belongs to who runs this, and units to root.")
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("asked", "there", "runs"),
    [
        ("systemd", None, "systemd"),
        ("systemd", "systemd", "systemd"),
        ("systemd", "container", "container"),
        ("container", None, "container"),
        ("container", "systemd", "systemd"),
        ("container", "container", "container"),
    ],
)
def test_what_runs_a_server_goes_on_to_run_it(
    asked: str, there: str | None, runs: str, params: dict[str, t.Any]
) -> None:
    if there:
        recorded(there, params)
    own, other = (VENV, IMAGE) if asked == "systemd" else (IMAGE, VENV)
    name = "container" if asked == "systemd" else "systemd"
    backends, found = backends_of(
        asked, server(params, {**own, "fallbacks": [1]}, backend=name, parameters={**other, "fallbacks": []})
    )
    assert next(iter(backends)) == runs
    assert (found.get("image"), found.get("venv")) == (("i:1", None) if runs == "container" else (None, "/opt/vllm"))
    assert (found["port"], found["fallbacks"]) == (8000, [1] if runs == asked else [])
    if runs != asked:
        # What the module that was asked has no parameter for.
        assert found["network_mode" if runs == "container" else "user"] == ("bridge" if runs == "container" else "vllm")


@pytest.mark.skipif(os.geteuid() != 0, reason="The record belongs to who runs this, and units to root.")
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize(
    ("there", "alternative", "told"),
    [
        (None, {**REFUSAL}, None),
        ("container", {**REFUSAL}, None),
        ("systemd", {**REFUSAL}, "backend systemd. That backend runs the server already."),
        (None, {**REFUSAL, **IS_DEFAULT}, "backend systemd."),
        ("container", {**REFUSAL, **IS_DEFAULT}, None),
        ("systemd", {**REFUSAL, **IS_DEFAULT}, "backend systemd. That backend runs the server already."),
    ],
)
def test_a_server_that_is_not_described_for_what_runs_it_is_refused(
    there: str | None, alternative: dict[str, t.Any], told: str | None, params: dict[str, t.Any]
) -> None:
    if there:
        recorded(there, params)
    asked = server(params, IMAGE, backend="systemd", **alternative)
    if told is None:
        assert next(iter(backends_of("container", asked)[0])) == "container"
        return
    with pytest.raises(VllmError) as caught:
        backends_of("container", asked)
    assert str(caught.value).endswith(told)


@pytest.mark.skipif(os.geteuid() != 0, reason="The record belongs to who runs this, and units to root.")
@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("runs", ["systemd", "container"])
@pytest.mark.parametrize("asked", ["systemd", "container"])
def test_the_record_is_read_once_whatever_runs_a_server(
    asked: str, runs: str, params: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(runs, params)
    recorded(runs, params, "vllm-b")
    own, other = (VENV, IMAGE) if asked == "systemd" else (IMAGE, VENV)
    reads, load = [], ledger.load
    monkeypatch.setattr(ledger, "load", lambda path: reads.append(path) or load(path))
    name = "container" if asked == "systemd" else "systemd"
    backends, _params = backends_of(asked, server(params, own, backend=name, parameters=other))
    assert next(iter(backends)) == runs
    assert {one.server for backend in backends.values() for one in backend.ledger.known().entries} == {
        "vllm-a",
        "vllm-b",
    }
    assert len(reads) == 2
    # What another run writes meanwhile is seen.
    recorded(runs, params, "vllm-c")
    assert "vllm-c" in backends[runs].ledger.known().servers


@pytest.mark.skipif(os.geteuid() != 0, reason="The record belongs to who runs this, and units to root.")
@pytest.mark.usefixtures("engine")
def test_a_container_is_known_by_its_own_name(params: dict[str, t.Any]) -> None:
    recorded("container", params, "chat")
    told = {"backend": "container", "parameters": {**IMAGE, "container_name": "chat"}}
    assert next(iter(backends_of("systemd", server(params, VENV, **told))[0])) == "container"
    del told["parameters"]["container_name"]  # type: ignore[attr-defined]
    assert next(iter(backends_of("systemd", server(params, VENV, **told))[0])) == "systemd"


def test_an_environment_is_a_path_from_then_on(params: dict[str, t.Any], tmp_path: Path) -> None:
    venv = {"packages": ["vllm==0.26.0"], "root": str(tmp_path / "venvs")}
    backends, found = backends_of("systemd", {**params, "state": "started", "name": "a", "venv": venv})
    assert found["venv"].startswith(f"{tmp_path}/venvs/vllm-0.26.0-") and found["vllm_version"] == "0.26.0"
    assert getattr(backends["systemd"], "provided") == found["venv"]  # noqa: B009
    _backends, later = backends_of("systemd", {**params, "state": "absent", "name": "a", "venv": venv})
    assert later["venv"] is None


@pytest.mark.parametrize("current", ["systemd", "container"])
def test_in_a_switch_that_was_cut_short_the_newer_one_counts(
    current: str, params: dict[str, t.Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both are in the record; the one that was replaced is not in its place any more."""

    def backend(name: str) -> t.Any:
        ledger = Ledger(str(tmp_path / "state"), name)
        ledger.write(entry("vllm-a", "server", name="vllm-a"))
        slots = {"current" if name == current else "superseded": None}
        return types.SimpleNamespace(
            name=name, ledger=ledger, look=lambda _server: types.SimpleNamespace(instances=slots)
        )

    both = {name: backend(name) for name in ("systemd", "container")}
    monkeypatch.setattr(_backends, "service_backends", lambda *_said: both)
    monkeypatch.setattr(_backends, "container_backends", lambda *_said: dict(reversed(both.items())))
    told = {"backend": "container", "parameters": {**IMAGE, "fallbacks": []}}
    assert next(iter(backends_of("systemd", server(params, VENV, **told))[0])) == current
