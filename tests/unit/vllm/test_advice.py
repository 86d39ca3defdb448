# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rows of advice hold to what the releases of vLLM have."""

from __future__ import annotations

import re

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm import advice
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.flags import ENVIRONMENT, FLAGS, VERSIONS
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.versions import life, parse, within


def test_a_row_belongs_to_a_flag_that_some_release_lacks_or_deprecates() -> None:
    everywhere = {name for name, text in FLAGS.items() if text.split()[0] == f"{VERSIONS[0]}.." and "!" not in text}
    assert not set(advice.FLAGS) & everywhere
    assert set(advice.FLAGS) - set(FLAGS) == {"attn_impl", "mxfp4_backend", "mxfp4_layers"}


def test_a_name_that_people_mean_leads_to_a_flag() -> None:
    assert not set(advice.MEANT) & set(FLAGS)
    assert all(meant in FLAGS or meant in advice.FLAGS for meant in advice.MEANT.values())


def test_a_row_belongs_to_a_variable_that_the_newest_release_does_not_read() -> None:
    read = {name for name, ranges in ENVIRONMENT.items() if within(parse(VERSIONS[-1]), ranges)}
    assert not set(advice.VARIABLES) & read


def ends(flag: str) -> tuple[str, str]:
    """The first release that has a flag, and the last."""
    ranges = life(flag)
    return ranges.partition("..")[0], ranges.rpartition("..")[2]


@pytest.mark.parametrize("flag", [flag for flag, text in advice.FLAGS.items() if re.search(r"\d\.\d", text)])
def test_the_releases_in_a_row_are_those_of_the_flags_in_it(flag: str) -> None:
    text = advice.FLAGS[flag]
    named = [word for word in re.findall(r"[a-z0-9_]+", text) if word in FLAGS]
    for release in re.findall(r"from (\d[\d.]*\d)", text):
        assert release in {ends(name)[0] for name in named}
    for release in re.findall(r"up to (\d[\d.]*\d)", text):
        assert release in {ends(name)[1] for name in named}
    for release in re.findall(r"before (\d[\d.]*\d)", text):
        assert release == ends(flag)[0]


@pytest.mark.parametrize("variable", [name for name, text in advice.VARIABLES.items() if "from " in text])
def test_the_releases_in_the_row_of_a_variable_are_those_of_the_flag_in_it(variable: str) -> None:
    text = advice.VARIABLES[variable]
    named = [word for word in re.findall(r"\w+", text) if word in FLAGS]
    firsts = {ends(name)[0] for name in named} | {
        ranges.partition("..")[0] for name, ranges in ENVIRONMENT.items() if name in text
    }
    assert {*re.findall(r"from (\d[\d.]*\d)", text)} <= firsts


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("--swap-space", "leave it out; the V1 engine recomputes what does not fit"),
        ("--rope-scaling.type", "hf_overrides: {rope_scaling: ...} replaces it"),
        ("swap_space", "leave it out; the V1 engine recomputes what does not fit"),
        ("--tp-size", "tensor_parallel_size is meant"),
        ("--attn-implementation", advice.FLAGS["attn_impl"]),
        ("--port", ""),
        ("--nonsense", ""),
    ],
)
def test_what_to_write_instead(flag: str, text: str) -> None:
    assert advice.instead_of(flag) == text
