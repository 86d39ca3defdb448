# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After teardown.yml."""

from __future__ import annotations

import typing as t

# Where accounts are: one was made and removed again.
ACCOUNTS = {
    f"/etc/{name}{backup}"
    for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
    for backup in ("", "-")
}
# Directories of the system's in which something was for a while.
ENTERED = {
    *("/", "/opt", "/etc", "/etc/systemd", "/etc/systemd/system", "/etc/systemd/system/multi-user.target.wants"),
    *("/usr", "/usr/local", "/usr/local/lib", "/var", "/var/cache", "/var/lib", "/var/tmp"),
}


def test_no_unit_and_no_process_is_left(host: t.Any) -> None:
    assert host.check_output("systemctl list-units --all --plain --no-legend 'vllm-*'") == ""
    assert host.run("pgrep --full '[/]opt/vllm'").stdout == ""


def test_the_environment_is_gone(host: t.Any) -> None:
    assert not host.file("/opt/vllm").exists


def test_the_user_is_gone(host: t.Any) -> None:
    assert not host.user("vllm").exists
    assert not host.group("vllm").exists


def test_only_weights_and_encodings_are_left(written: set[str]) -> None:
    kept = {path for path in written if path.startswith(("/srv/vllm/huggingface", "/srv/vllm/encodings"))}
    assert any(path.endswith("/model.safetensors") for path in kept)
    assert any(path.endswith("/o200k_base.tiktoken") for path in kept)
    assert written - kept - ACCOUNTS - ENTERED <= {"/srv", "/srv/vllm"}
