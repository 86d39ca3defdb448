# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a release asks of a host: Python, CUDA, driver, C library."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm import wheels
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.flags import VERSIONS
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.versions import parse


@pytest.mark.parametrize(
    ("version", "python", "torch", "cuda", "glibc"),
    [
        ("0.8.5", "3.9 to 3.12", "2.6.0", (12, 4), (2, 17)),
        ("0.10.1.1", "3.9 to 3.12", "2.7.1", (12, 8), (2, 17)),
        ("0.11.0", "3.9 to 3.13", "2.8.0", (12, 8), (2, 17)),
        ("0.11.1", "3.10 to 3.13", "2.9.0", (12, 9), (2, 17)),
        ("0.19.1", "3.10 to 3.13", "2.10.0", (12, 9), (2, 31)),
        ("0.20.2", "3.10 to 3.14", "2.11.0", (13, 0), (2, 35)),
        ("0.26.0+cu129", "3.10 to 3.14", "2.11.0", (13, 0), (2, 28)),
        ("0.32.0", "3.11 to 3.14", "2.13.0", (13, 0), (2, 28)),
        ("0.99.0", "3.11 to 3.14", "2.14.0", (13, 0), (2, 28)),
    ],
)
def test_what_a_release_asks_for(
    version: str, python: str, torch: str, cuda: tuple[int, int], glibc: tuple[int, int]
) -> None:
    row = wheels.wheel_of(version)
    assert row is not None
    assert (row.python_words(), row.torch, row.cuda, row.glibc) == (python, torch, cuda, glibc)


def test_the_rows_are_in_order_and_cover_every_release_that_was_read() -> None:
    firsts = [parse(row.first) for row in wheels.WHEELS]
    assert firsts == sorted(set(firsts))
    assert [version for version in VERSIONS if wheels.wheel_of(version) is None] == []
    assert wheels.wheel_of("0.5.4") is None


def test_what_is_newer_than_the_table_is_not_known() -> None:
    assert wheels.is_known(VERSIONS[-1]) and not wheels.is_known("0.99.0") and not wheels.is_known("0.4.0")


@pytest.mark.parametrize(
    ("cuda", "driver", "problem"),
    [
        ((13, 0), "580.159.04", None),
        ((13, 0), "570.195.03", "CUDA 13.0 needs NVIDIA driver 580 or newer, and this host runs 570.195.03"),
        ((12, 9), "535.288.01", None),
        ((12, 9), "525.60.13", None),
        ((12, 9), "470.256.02", "CUDA 12.9 needs NVIDIA driver 525.60 or newer, and this host runs 470.256.02"),
        ((14, 0), "580.159.04", None),
    ],
)
def test_a_driver_runs_a_cuda_of_its_major_number(cuda: tuple[int, int], driver: str, problem: str | None) -> None:
    assert wheels.driver_problem(cuda, driver) == problem


def test_an_older_driver_of_the_same_major_number_gets_a_warning() -> None:
    assert "Driver 575 or newer has no such limit." in (wheels.driver_warning((12, 9), "535.288.01") or "")
    assert wheels.driver_warning((12, 9), "580.159.04") is None
    assert wheels.driver_warning((12, 1), "535.288.01") is None


@pytest.mark.parametrize(
    ("tag", "cuda"), [("cu129", (12, 9)), ("cu130", (13, 0)), ("cpu", None), ("cu", None), ("cux", None), ("", None)]
)
def test_a_tag_of_a_build_names_its_cuda(tag: str, cuda: tuple[int, int] | None) -> None:
    assert wheels.cuda_of_tag(tag) == cuda


def test_the_newest_release_for_an_older_driver() -> None:
    assert wheels.newest_with_cuda(12) == "0.19.1"
