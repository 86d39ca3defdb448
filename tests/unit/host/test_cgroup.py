# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.processes import container_id
from hypothesis import given, strategies as st

INNER, OUTER = "0123456789abcdef" * 4, "fedcba9876543210" * 4


@pytest.mark.parametrize(
    ("cgroup", "init", "expected"),
    [
        pytest.param(f"0::/system.slice/docker-{INNER}.scope", "0::/init.scope", INNER, id="cgroup 2"),
        pytest.param(f"12:pids:/docker/{INNER}\n1:name=systemd:/docker/{INNER}", "", INNER, id="cgroup 1"),
        pytest.param(f"0::/machine.slice/libpod-{INNER}.scope/container", "", INNER, id="Podman"),
        pytest.param(
            f"0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{INNER}.scope", "", INNER, id="Kubernetes"
        ),
        pytest.param(f"0::/../../system.slice/docker-{INNER}.scope", "", INNER, id="seen from another namespace"),
        pytest.param(
            f"0::/docker/{OUTER}/system.slice/docker-{INNER}.scope", f"0::/docker/{OUTER}", INNER, id="nested"
        ),
        pytest.param(
            f"0::/docker/{OUTER}/system.slice/vllm-a.service", f"0::/docker/{OUTER}/init.scope", None, id="host is one"
        ),
        pytest.param("0::/user.slice/user-1000.slice/session-1.scope", "0::/init.scope", None, id="a user's"),
        pytest.param("", "", None, id="gone"),
    ],
)
def test_container_of_a_process(cgroup: str, init: str, expected: str | None) -> None:
    assert container_id(cgroup, init) == expected


@given(st.text(), st.text())
def test_no_text_raises(cgroup: str, init: str) -> None:
    assert container_id(cgroup, init) is None or len(cgroup) >= 64
