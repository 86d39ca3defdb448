# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After teardown.yml."""

from __future__ import annotations

import typing as t


def test_no_container_and_no_volume_is_left(host: t.Any) -> None:
    assert host.check_output("sudo podman ps --all --quiet") == ""
    assert host.check_output("sudo podman volume ls --quiet") == ""


def test_the_image_and_the_weights_are_kept(host: t.Any) -> None:
    assert host.check_output("sudo podman images --quiet nvcr.io/nvidia/vllm:25.09-py3") != ""
    assert host.check_output("sudo find /srv/vllm/huggingface -name model.safetensors") != ""


def test_the_secret_that_was_written_is_gone(host: t.Any) -> None:
    assert not host.file("/srv/vllm/secrets/hf_token").exists
