# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role built."""

from __future__ import annotations

import json
import typing as t


def entry(host: t.Any) -> dict[str, t.Any]:
    path = host.check_output("sudo sh -c 'ls /var/lib/gpufleet.vllm/owned/environment.*.json'")
    return t.cast("dict[str, t.Any]", json.loads(host.check_output(f"sudo cat {path}")))


def test_anybody_can_run_vllm_from_it_and_nobody_can_write_to_it(host: t.Any) -> None:
    path = entry(host)["path"]
    said = host.check_output(f"{path}/bin/python -c 'import vllm, torch; print(vllm.__version__, torch.version.cuda)'")
    assert said == "0.26.0 13.0"
    assert host.check_output(f"find {path} ! -user root -o -perm /022 ! -type l") == ""
    assert host.check_output("stat -c '%U %a' /opt/vllm /opt/vllm/venvs").splitlines() == ["root 755", "root 755"]


def test_the_record_says_what_it_is(host: t.Any) -> None:
    found = entry(host)
    assert (found["state"], found["users"], found["wish"]["packages"]) == ("built", ["chat"], ["vllm==0.26.0"])
    assert found["proved"]["installer"] == "uv"
    assert (
        host.check_output("sudo find /var/lib/gpufleet.vllm ! -user root -o -perm /077 ! -path /var/lib/gpufleet.vllm")
        == ""
    )


def test_nothing_is_left_of_the_installer(host: t.Any) -> None:
    path = entry(host)["path"]
    assert host.check_output(f"ls -A {path}/.gpufleet").split() == ["lock.txt", "seal"]
    assert host.check_output("sudo ls -A /root").find("cache") < 0
