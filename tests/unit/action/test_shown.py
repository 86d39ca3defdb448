# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A server that is only shown: as a command, a compose file or a unit that need nothing of the collection."""

from __future__ import annotations

import re
import shlex
import typing as t

import pytest
import yaml
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._shown import shown
from docker_model import Client, installed, run
from systemd_model import UNITS, host_of
from test_vllm_server import CONTAINER, FOUND, SERVER, Plugin

Result = dict[str, t.Any]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: t.Any) -> Client:
    return installed(Client(), monkeypatch, tmp_path)


def planned(**said: t.Any) -> Result:
    return run(check=True, recreate=True, **said)


MORE: Result = {
    "env": {"A": "b$c"},
    "volumes": ["/tmp:/srv/models:ro", "weights:/w"],
    "engine": {"max_model_len": 4096},
    "network_mode": "bridge",
    "stop_timeout": 60,
    "labels": {"team": "a"},
    "gpus": ["GPU-00000000-0000-0000-0000-000000000000"],
    "fit": "off",
}


@pytest.mark.usefixtures("client")
def test_a_container_is_shown_as_a_command_that_docker_takes() -> None:
    lines = shown(planned(**MORE))
    words = shlex.split(lines[0])
    assert words[:5] == ["docker", "run", "--detach", "--name", "vllm-a"]
    assert "A=b$c" in words and "team=a" in words
    assert not re.search(r"gpufleet\.vllm\.", lines[0])
    assert words[words.index("--max-model-len") + 1] == "4096"


@pytest.mark.usefixtures("client")
def test_the_compose_file_says_the_same() -> None:
    lines = shown(planned(**MORE))
    words = shlex.split(lines[0])
    made = yaml.safe_load("\n".join(lines[3:]))
    service = made["services"]["vllm"]
    assert [word.replace("$$", "$") for word in service["command"]] == words[words.index(service["image"]) + 1 :]
    assert service["environment"] == [word.replace("$", "$$") for word in _each(words, "--env")]
    assert service["volumes"] == _each(words, "--volume")
    assert made["volumes"]["weights"] == {"name": "weights"}
    assert service["ports"] == _each(words, "--publish")
    assert service["stop_grace_period"] == "60s"
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["device_ids"] == MORE["gpus"]
    assert service["restart"] == "unless-stopped"
    assert service["ulimits"]["memlock"] == -1


def _each(words: list[str], flag: str) -> list[str]:
    return [words[at + 1] for at, word in enumerate(words) if word == flag]


def test_a_server_that_runs_is_shown_as_a_new_one_would_be(client: Client) -> None:
    run()
    before = client.now
    first = shown(planned())[0]
    assert "--name vllm-a " in first
    assert client.now == before


def test_a_service_is_shown_as_its_unit(monkeypatch: pytest.MonkeyPatch, tmp_path: t.Any) -> None:
    host_of(UNITS, monkeypatch, tmp_path)
    lines = shown(planned())
    assert lines[0].endswith("/vllm-a.service")
    assert any(line.startswith("ExecStart=") for line in lines)
    assert any(re.match(r"# .*0{32}\.env$", line) for line in lines)


def test_the_action_looks_and_leaves_nothing_to_do() -> None:
    found = {**FOUND, "commands": ["docker create --name vllm-a --privileged --network x i:1 --port 1"], "files": {}}
    plugin = Plugin(found, server=SERVER, show="command")
    result = plugin.over()
    ((module, arguments),) = plugin.calls
    assert (module, arguments["recreate"], plugin.modes) == (CONTAINER, True, [(True, False)])
    assert (result["pending"], result["changed"]) == (False, False)
    assert result["shown"][0] == "docker run --detach --name vllm-a --privileged --network x i:1 --port 1"
    service = yaml.safe_load("\n".join(result["shown"][3:]))
    assert service["services"]["vllm"]["privileged"] is True
    assert service["networks"] == {"x": {"external": True}}


def test_what_is_refused_shows_its_reason() -> None:
    result = Plugin({"failed": True, "msg": "no"}, server=SERVER, show="command").over()
    assert (result["failed"], result["shown"]) == (True, [])
