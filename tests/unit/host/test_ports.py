# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host import ports
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.ports import (
    Listener,
    overlaps,
    parse_listeners,
    port_owner,
)

HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
V4 = (
    "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 100 0 0 10 0\n"
)
V6 = (
    "   0: {}:1F40 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1"
    " 0 100 0 0 10 0\n"
)


@pytest.mark.parametrize(
    ("text", "listeners"),
    [
        pytest.param("", [], id="nothing to read"),
        pytest.param(HEADER, [], id="nobody listens"),
        pytest.param(HEADER + V4, [Listener("127.0.0.1", 8000, "4711", 1000)], id="loopback"),
        pytest.param(HEADER + V4.replace("0100007F", "00000000"), [Listener("0.0.0.0", 8000, "4711", 1000)], id="any"),
        pytest.param(
            HEADER + V4.replace("0100007F", "0407A8C0"), [Listener("192.168.7.4", 8000, "4711", 1000)], id="one"
        ),
        pytest.param(HEADER + V4.replace(" 0A ", " 01 "), [], id="an established connection"),
        pytest.param(HEADER + V4 + V4.replace("1F40", "0016"), ["8000", "22"], id="two"),
        pytest.param(HEADER + V6.format("0" * 32), [Listener("::", 8000, "12", 0)], id="any, IPv6"),
        pytest.param(HEADER + V6.format("0" * 24 + "01000000"), [Listener("::1", 8000, "12", 0)], id="loopback, IPv6"),
        pytest.param(
            HEADER + V6.format("0000000000000000FFFF00000100007F"),
            [Listener("127.0.0.1", 8000, "12", 0)],
            id="v4-mapped",
        ),
        pytest.param(
            HEADER + V6.format("000080FE00000000FF005450B0A2ECFE"),
            [Listener("fe80::5054:ff:feec:a2b0", 8000, "12", 0)],
            id="link-local",
        ),
        pytest.param(
            HEADER + "nonsense\n\n   1: XX:YY\n" + V4, [Listener("127.0.0.1", 8000, "4711", 1000)], id="nonsense"
        ),
        pytest.param(HEADER + V4[:40] + "\n", [], id="a line cut short"),
    ],
)
def test_listening_sockets_are_read(text: str, listeners: list[object]) -> None:
    found = parse_listeners(text)
    assert found == listeners or [str(one.port) for one in found] == listeners


@pytest.mark.parametrize(
    ("bind", "other", "overlap"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "192.168.7.4", False),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "192.168.7.4", True),
        ("127.0.0.1", "::", True),
        ("127.0.0.1", "::1", False),
        ("0.0.0.0", "::1", False),
        ("::", "127.0.0.1", True),
        ("::", "::1", True),
        ("::1", "0.0.0.0", False),
        ("fe80::1", "fe80:0:0:0:0:0:0:1", True),
    ],
)
def test_which_addresses_are_in_each_others_way(bind: str, other: str, overlap: bool) -> None:
    assert overlaps(bind, other) is overlap


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
def test_a_listener_is_found_with_its_process(address: str) -> None:
    with socket.create_server((address, 0)) as server:
        port = server.getsockname()[1]
        owner = port_owner(port, "127.0.0.1")
        assert owner is not None and owner.pid == os.getpid()
        name = Path("/proc/self/comm").read_text().strip()
        assert owner.description == f"{name} (PID {os.getpid()}, uid {os.getuid()}) listening on {address}:{port}"
    assert port_owner(port, "127.0.0.1") is None


def test_a_listener_on_another_address_is_no_owner() -> None:
    with socket.create_server(("127.0.0.2", 0)) as server:
        assert port_owner(server.getsockname()[1], "127.0.0.1") is None


def test_a_process_of_another_user_is_told_by_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_pid_of", lambda inode: None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        owner = port_owner(server.getsockname()[1], "127.0.0.1")
    assert owner is not None and owner.pid is None
    assert owner.description.startswith(f"a process of uid {os.getuid()} listening on 127.0.0.1:")
    assert owner.description.endswith("(its name is only visible to root)")


def test_the_name_of_a_process_is_not_obeyed_by_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    read = ports.read_proc
    monkeypatch.setattr(ports, "read_proc", lambda path: "\x1b]0;x\x07vllm\n" if path.endswith("comm") else read(path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        owner = port_owner(server.getsockname()[1], "127.0.0.1")
    assert owner is not None and owner.description.startswith("?]0;x?vllm (PID ")
