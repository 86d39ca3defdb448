# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the run that finished what another one had begun."""

from __future__ import annotations

import typing as t

HUB = "/home/gpu/vllm/huggingface/hub/models--Qwen--Qwen2.5-0.5B-Instruct"
FIRST = "model-00001-of-00002.safetensors"


def test_the_model_is_whole_on_each_host(host: t.Any) -> None:
    shards = host.check_output(f"cd {HUB}/blobs && ls | grep -xE '[0-9a-f]{{64}}'").split()
    assert len(shards) == 2
    for name in shards:
        assert host.check_output(f"sha256sum < {HUB}/blobs/{name}").split()[0] == name
    commit = host.check_output(f"cat {HUB}/refs/main")
    assert len(host.check_output(f"ls -L {HUB}/snapshots/{commit}").split()) == 7
    assert host.check_output(f"find {HUB} -name '*.incomplete' -o -xtype l") == ""


IDS: set[str] = set()


def test_the_image_that_one_host_had_is_on_each_with_its_id_and_no_archive_is_left(host: t.Any) -> None:
    IDS.add(host.check_output("sudo docker image inspect --format '{{.Id}}' nvcr.io/nvidia/vllm:25.09-py3"))
    assert len(IDS) == 1, "an image has the same id on engines of one kind"
    assert not host.file("/home/gpu/vllm/huggingface/hub/.images").exists
    assert host.check_output("find /home/gpu/.local/state -name 'image-*'") == ""


def test_nothing_listens_any_more_and_no_record_of_it_is_left(host: t.Any) -> None:
    assert ":8790" not in host.check_output("ss -Hltn")
    assert host.check_output("find /home/gpu/.local/state -name 'peer*'") == ""


def test_each_byte_came_from_the_hub_once(host: t.Any) -> None:
    """The others have no way to it."""
    if host.backend.get_hostname() == "gpufleet-mol-stage-1":
        asked = host.check_output("sudo journalctl -u hub -o cat").splitlines()
        ranges = [line.rpartition(" ")[2] for line in asked if FIRST in line and line.startswith("GET store")]
        # While it stood still, it was asked again for what was missing.
        assert (ranges[0], set(ranges[1:])) == ("whole", {"bytes=100000-"}), asked
