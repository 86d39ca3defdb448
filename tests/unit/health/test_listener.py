# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An API key is sent to the server itself: who else listens in its place gets none."""

from __future__ import annotations

import os
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.source import ContainerSource
from ansible_collections.gpufleet.vllm.plugins.module_utils._health import session
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.listener import stranger
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.logfile import FileSource, Source, port_among
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.ports import PortOwner
from ansible_collections.gpufleet.vllm.plugins.module_utils._systemd.source import UnitSource
from api_server import Handler, address, healthy, params

__all__ = ["address", "healthy"]

KEY = "canary8451abcdefgh"


class Server(FileSource):
    """A server whose first process is this one, and which opens port 8000 itself."""

    def __init__(self, root: int | None = os.getpid(), port: int | None = 8000) -> None:
        super().__init__("vllm-a")
        self.root, self.port = root, port

    def root_pid(self) -> int | None:
        return self.root

    def host_port(self) -> int | None:
        return self.port

    def tail(self) -> str:
        return ""

    def news(self) -> str:
        return ""


OURS = PortOwner("vllm (PID 1, uid 1) listening on 127.0.0.1:8000", os.getpid(), uid=os.geteuid())
THEIRS = PortOwner("python3 (PID 1, uid 1001) listening on 127.0.0.1:8000", 1, uid=os.geteuid())
HIDDEN = PortOwner("a process of uid 1001 listening on 127.0.0.1:8000", uid=os.geteuid() + 1001)
HIDDEN_OURS = PortOwner("a process of uid 0 listening on 127.0.0.1:8000", uid=os.geteuid())


@pytest.mark.parametrize(
    ("source", "url", "owner", "is_told"),
    [
        pytest.param(Server(), "http://127.0.0.1:8000", THEIRS, True, id="another process"),
        pytest.param(Server(), "http://localhost:8000", THEIRS, True, id="by the name of loopback"),
        pytest.param(Server(), "http://[::1]:8000", THEIRS, True, id="IPv6"),
        pytest.param(Server(port=443), "https://127.0.0.1", THEIRS, True, id="a port that is not in the address"),
        pytest.param(Server(), "http://127.0.0.1:8000", HIDDEN, True, id="a process of another user that is hidden"),
        pytest.param(Server(), "http://127.0.0.1:8000", HIDDEN_OURS, False, id="a hidden one of the same user"),
        pytest.param(Server(), "http://127.0.0.1:8000", OURS, False, id="the server"),
        pytest.param(Server(), "http://127.0.0.1:8000", None, False, id="nobody yet"),
        pytest.param(Server(), "http://127.0.0.1:8443", THEIRS, False, id="a proxy in front of it"),
        pytest.param(Server(), "http://llm.example.com:8000", THEIRS, False, id="another host"),
        pytest.param(Server(port=None), "http://127.0.0.1:8000", THEIRS, False, id="a port that an engine publishes"),
        pytest.param(Server(root=None), "http://127.0.0.1:8000", THEIRS, False, id="a process that nobody knows"),
        pytest.param(Server(root=2**30), "http://127.0.0.1:8000", THEIRS, False, id="a process that is gone"),
    ],
)
def test_who_listens_instead_of_the_server(source: Source, url: str, owner: PortOwner | None, is_told: bool) -> None:
    told = stranger(source, url, lambda port, bind: owner)
    assert bool(told) is is_told
    assert not is_told or owner and owner.description in told and "so the API key is not sent there" in told


def test_a_child_of_the_server_is_the_server() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert stranger(Server(), "http://127.0.0.1:8000", lambda *_: PortOwner("vllm", child.pid)) == ""
        child.communicate(b"\n")


@pytest.mark.parametrize("has_key", [True, False], ids=["with a key", "without one"])
def test_a_key_is_not_sent_to_a_stranger(has_key: bool, address: str) -> None:
    """The server is a process that does not listen; this test's own server has the port."""
    port = int(address.rpartition(":")[2])
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as server:
        source = Server(server.pid, port)
        result = session.run(params(address, timeout=30, api_key=KEY if has_key else None), source)
        server.communicate(b"\n")
    assert result["healthy"] is not has_key
    assert bool(Handler.asked) is not has_key
    if has_key:
        assert result["reason"] == "port-in-use"
        assert f"PID {os.getpid()}" in result["msg"] and "so the API key is not sent there" in result["msg"]


def test_a_key_is_sent_to_the_server_itself(address: str) -> None:
    source = Server(os.getpid(), int(address.rpartition(":")[2]))
    assert session.run(params(address, api_key=KEY), source)["healthy"]
    assert set(Handler.headers_seen) == {f"Bearer {KEY}"}


# --- which port it is -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "port"),
    [
        (["vllm", "serve", "m", "--port", "8001"], 8001),
        (["vllm", "serve", "m", "--port=8001"], 8001),
        (["--port", "1", "--port", "2"], 2),
        (["vllm", "serve", "m"], None),
        (["--port"], None),
        (["--port", "$PORT"], None),
        ([], None),
    ],
)
def test_the_port_in_a_command_line(words: list[str], port: int | None) -> None:
    assert port_among(words) == port


@pytest.mark.parametrize(("mode", "port"), [("host", 8001), ("bridge", None), (None, None)])
def test_the_port_that_a_container_opens_on_the_host(mode: str | None, port: int | None) -> None:
    class Docker:
        def container(self, name: str) -> dict[str, t.Any]:
            host = {"NetworkMode": mode} if mode else None
            return {"State": {}, "HostConfig": host, "Config": {"Cmd": ["vllm", "serve", "m", "--port", "8001"]}}

    assert ContainerSource("c", t.cast(t.Any, Docker())).host_port() == port


@pytest.mark.parametrize(
    ("unit", "port"), [("ExecStart=/opt/v/bin/vllm serve m --port 8001\n", 8001), ("ExecStart=/opt/start\n", None)]
)
def test_the_port_that_a_unit_opens(unit: str, port: int | None) -> None:
    def run(command: list[str], **_said: t.Any) -> tuple[int, str, str]:
        return 0, f"[Service]\n{unit}" if "cat" in command else "LoadState=loaded\nFragmentPath=/etc/u\n", ""

    assert UnitSource("u", run).host_port() == port


def test_a_log_file_opens_no_port() -> None:
    assert FileSource("/log").host_port() is None
