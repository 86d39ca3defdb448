# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which TRL goes with which vLLM: each pair a row, each refusal with the version that works."""

from __future__ import annotations

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.versions import RELEASES, fitting, pair


@pytest.mark.parametrize(
    ("vllm", "trl"),
    [
        ("0.19.0", "1.12.0"),
        ("0.19.1", "1.13.0"),
        ("0.20.1", "1.14.2"),
        ("0.20.1+abc.nv26.05", "1.14.2"),
        ("0.21.0", "1.15.0"),
        ("0.22.0", "1.16.0"),
        ("0.26.0", "1.16.0"),
        ("0.26.0+cu129", "1.16.0"),
        ("0.31.0", "1.16.0"),
    ],
)
def test_a_server_gets_the_newest_trl_that_goes_with_it(vllm: str, trl: str) -> None:
    assert pair(vllm).trl == trl
    assert pair(vllm).warnings == ()


@pytest.mark.parametrize(
    ("vllm", "trl"),
    [
        ("0.19.0", "1.11.0"),
        ("0.27.1", "1.11.0"),
        ("0.26.0", "1.12.0"),
        ("0.28.0", "1.13.0"),
        ("0.30.0", "1.14.0"),
        ("0.20.0", "1.14.2"),
        ("0.31.0", "1.15.0"),
    ],
)
def test_a_pair_that_goes_together(vllm: str, trl: str) -> None:
    assert pair(vllm, trl).trl == trl


@pytest.mark.parametrize(
    ("vllm", "trl", "sentence"),
    [
        (
            "0.28.0",
            "1.11.0",
            "TRL 1.11.0 takes vLLM 0.19.0 to 0.27.1, and the server runs vLLM 0.28.0. Set trl_version to 1.16.0, which "
            "supports it, or leave it out.",
        ),
        (
            "0.21.0",
            "1.16.0",
            "TRL 1.16.0 takes vLLM 0.22.0 to 0.31.0, and the server runs vLLM 0.21.0. Set trl_version to 1.15.0, which "
            "supports it, or leave it out.",
        ),
        (
            "0.19.0",
            "1.13.0",
            "TRL 1.13.0 takes vLLM 0.19.1 to 0.28.0, and the server runs vLLM 0.19.0. Set trl_version to 1.12.0, which "
            "supports it, or leave it out.",
        ),
        (
            "0.32.0",
            None,
            "TRL 1.16.0 takes vLLM 0.22.0 to 0.31.0, and the server runs vLLM 0.32.0. No TRL up to 1.16.0 takes vLLM "
            "0.32.0: serve with vLLM 0.31.0. With version_check: warn it is tried anyway.",
        ),
        (
            "0.33.0",
            "1.16.0",
            "TRL 1.16.0 takes vLLM 0.22.0 to 0.31.0, and the server runs vLLM 0.33.0. No TRL up to 1.16.0 takes vLLM "
            "0.33.0: serve with vLLM 0.31.0. With version_check: warn it is tried anyway.",
        ),
        (
            "0.10.1.1",
            None,
            "TRL 1.16.0 takes vLLM 0.22.0 to 0.31.0, and the server runs vLLM 0.10.1.1. TRL 1.11.0 and later need vLLM "
            "0.19.0 or later: serve with vLLM 0.31.0.",
        ),
        (
            "0.26.0",
            "1.10.0",
            "TRL 1.10.0 trains against its own server, 'trl vllm-serve', and gets 404 from 'vllm serve', which is what "
            "runs here with vLLM 0.26.0. Set trl_version to 1.16.0, which supports it, or leave it out.",
        ),
        (
            "0.12.0",
            "0.27.2",
            "TRL 0.27.2 trains against its own server, 'trl vllm-serve', and gets 404 from 'vllm serve', which is what "
            "runs here with vLLM 0.12.0. TRL 1.11.0 and later need vLLM 0.19.0 or later: serve with vLLM 0.31.0.",
        ),
        ("0.26.0", "newest", "trl_version must be a version such as 1.16.0; got 'newest'."),
    ],
)
def test_a_refusal_says_which_version_works(vllm: str, trl: str | None, sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        pair(vllm, trl)
    assert str(caught.value) == sentence


def test_a_warning_is_what_trl_itself_gives() -> None:
    found = pair("0.32.0", check="warn")
    assert (found.trl, len(found.warnings)) == ("1.16.0", 1)


@pytest.mark.parametrize("trl", ["1.10.0", "0.29.1"])
def test_no_warning_makes_up_for_the_wrong_server(trl: str) -> None:
    with pytest.raises(VllmError, match="trl vllm-serve"):
        pair("0.26.0", trl, "warn")


def test_a_trl_that_came_later_is_tried_with_a_warning() -> None:
    assert pair("0.33.0", "1.17.0").warnings == (
        "TRL 1.17.0 is not known here: whether it takes vLLM 0.33.0 was not checked.",
    )


def test_another_check_is_refused() -> None:
    with pytest.raises(VllmError, match="version_check must be one of enforce, warn; got 'off'"):
        pair("0.26.0", check="off")


def test_every_row_is_the_newest_for_some_vllm_or_reaches_further_back() -> None:
    """A row that no version of vLLM leads to would only be read."""
    assert {name for row in RELEASES for vllm in (row.oldest, row.newest) for name in fitting(vllm)} == {
        "1.12.0",
        "1.13.0",
        "1.14.2",
        "1.15.0",
        "1.16.0",
    }
