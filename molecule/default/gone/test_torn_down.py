# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After teardown.yml."""

from __future__ import annotations

import typing as t

VLLM = "/home/gpu/vllm"


def test_no_container_is_left(host: t.Any) -> None:
    assert host.check_output("docker ps --all --quiet") == ""


def test_only_what_is_the_users_is_left(written: set[str]) -> None:
    encodings = {f"{VLLM}/encodings/{name}_base.tiktoken" for name in ("o200k", "cl100k")}
    weights = {path for path in written if path.startswith(f"{VLLM}/huggingface/hub")}
    assert any(path.endswith("/model.safetensors") for path in weights)
    # Where the measurements of starts were: they are gone, and its directories are everybody's.
    state = {"/home/gpu/.local", "/home/gpu/.local/state"}
    assert written == {"/home/gpu", VLLM, f"{VLLM}/encodings", f"{VLLM}/huggingface", *encodings, *weights, *state}


def test_the_image_is_kept(host: t.Any) -> None:
    assert host.check_output("docker images --quiet nvcr.io/nvidia/vllm:25.09-py3") != ""
