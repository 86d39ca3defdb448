# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plain log file as a source, and which source the parameters of a module name."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.source import ContainerSource
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.logfile import FileSource
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import ProcessState
from ansible_collections.gpufleet.vllm.plugins.module_utils._sources import open_source
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.source import UnitSource


def test_a_file_tells_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "vllm.log"
    source = FileSource(str(path))
    assert source.news() == ""
    path.write_text("one\n")
    assert source.news() == "one\n"
    assert source.news() == ""
    path.write_text("one\ntwo\n")
    assert source.news() == "two\n"
    path.write_text("new\n")
    assert source.news() == "new\n"
    assert (source.tail(), source.state(), source.root_pid()) == ("new\n", ProcessState(), None)


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(VllmError, match=rf"Cannot read the log {tmp_path}/none: No such file or directory. Check path"):
        FileSource(f"{tmp_path}/none").tail()


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path, kind in ((f"{tmp_path}/fifo", "FIFO"), ("/dev/zero", "device"), (str(tmp_path), "directory")):
        source = FileSource(path)
        with pytest.raises(VllmError, match=rf"Cannot read the log {path}: it is not a file but a {kind}"):
            source.tail()


def test_news_are_bounded_by_the_look_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vllm.log"
    path.write_text("one\n")
    source = FileSource(str(path))
    assert source.news() == "one\n"
    path.write_text("one\ntwo\nthree\n")
    # It grows while it is read.
    monkeypatch.setattr(os.path, "getsize", lambda _path: 8)
    assert source.news() == "two\n"
    monkeypatch.setattr(os.path, "getsize", lambda _path: 14)
    assert source.news() == "three\n"
    os.remove(path)
    os.mkfifo(path)
    with pytest.raises(VllmError, match="it is not a file but a FIFO"):
        source.news()


# --- which source ---------------------------------------------------------------------------------------------------


def no_command(*_words: t.Any, **_said: t.Any) -> tuple[int, str, str]:
    return 127, "", ""


@pytest.mark.parametrize(
    ("params", "kind"),
    [
        ({"path": "/x"}, FileSource),
        ({"unit": "x", "container": None}, UnitSource),
        ({"container": "x"}, ContainerSource),
        ({"container": None, "unit": None}, type(None)),
    ],
    ids=["file", "unit", "container", "none"],
)
def test_the_parameters_name_the_source(params: dict[str, t.Any], kind: type) -> None:
    assert isinstance(open_source(params, no_command), kind)


@pytest.mark.parametrize("params", [{"unit": "x"}, {"container": "x"}, {"path": "/x"}], ids=str)
def test_opening_a_source_loads_no_more_than_it(params: dict[str, str]) -> None:
    """No SDK for a container on a socket, nothing of Docker for a unit, no table of failures for any."""
    code = (
        "import sys\n"
        f"from {open_source.__module__} import open_source\n"
        f"open_source({params!r}, None)\n"
        "print(*sorted(name.rpartition('module_utils.')[2] for name in sys.modules))\n"
    )
    collections = Path(__file__).resolve().parents[3] / ".ansible" / "collections"
    environment = {**os.environ, "PYTHONPATH": str(collections)}
    environment.pop("DOCKER_HOST", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    loaded = set(done.stdout.split())
    assert not loaded & {
        "docker",
        "requests",
        "ssl",
        "_docker.backend",
        "_deploy.record",
        "_vllm.failures",
        "_vllm.diagnosis",
    }
    assert ("_docker.source" in loaded) == ("container" in params)
    assert ("_systemd.source" in loaded) == ("unit" in params)
