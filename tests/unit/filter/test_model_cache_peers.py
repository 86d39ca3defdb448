# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who fetches a model from whom: a row for each way in which the hosts of a play can have it or not."""

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.filter.model_cache_peers import model_cache_peers

Variables = dict[str, t.Any]
MODEL = {"commit": "c0ffee", "files": [{"path": "config.json", "size": 2, "digest": "d" * 40}], "left_out_bytes": 7}
WISH = {"model": "org/m"}


def host(number: int, has: bool = False, asked: bool = False, wish: Variables | None = None) -> Variables:
    item = {"__model_cache_item": wish or WISH}
    return {
        "__model_cache_here": {"address": f"10.0.0.{number}", "port": "8790"},
        "__model_cache_token": "t",
        "__model_cache_looked": {"results": [{**item, "model": MODEL} if has else {**item, "msg": "It is not whole."}]},
        **({"__model_cache_asked": {"results": [{**item, "model": MODEL}]}} if asked else {}),
    }


def fleet(count: int, has: str = "", asked: str = "") -> Variables:
    names = "abcdefgh"[:count]
    return {name: host(number, name in has, name in asked) for number, name in enumerate(names, 1)}


def ways(hosts: Variables, updates: bool = False) -> dict[str, str]:
    """For each host the names of its sources in order; '?' in front where it asks the source."""
    names = {f"http://10.0.0.{number}:8790": name for number, name in enumerate(hosts, 1)}
    found = {}
    for name in hosts:
        (answer,) = model_cache_peers(hosts, list(hosts), name, updates)
        assert answer is not None
        found[name] = "?" * answer["asks"] + "".join(names[url] for url in answer["peer"]["sources"])
    return found


@pytest.mark.parametrize(
    ("hosts", "updates", "expected"),
    [
        pytest.param(fleet(1), False, {"a": "?"}, id="one host, which has nobody"),
        pytest.param(fleet(4), False, {"a": "?", "b": "a", "c": "ba", "d": "cba"}, id="nobody has it"),
        pytest.param(
            fleet(4, has="c"), False, {"a": "c", "b": "ac", "c": "", "d": "bac"}, id="one in the middle has it"
        ),
        pytest.param(
            fleet(6, has="bd"),
            False,
            {"a": "bd", "b": "", "c": "db", "d": "", "e": "abd", "f": "cdb"},
            id="two have it: two chains",
        ),
        pytest.param(fleet(2, has="ab"), False, {"a": "", "b": ""}, id="all have it"),
        pytest.param(
            fleet(3, has="b"), True, {"a": "?", "b": "a", "c": "ba"}, id="an update asks where the branch is now"
        ),
    ],
)
def test_each_host_fetches_from_the_one_before_it(hosts: Variables, updates: bool, expected: dict[str, str]) -> None:
    assert ways(hosts, updates) == expected


@pytest.mark.parametrize(
    ("hosts", "updates", "commit"),
    [
        pytest.param(fleet(3, has="c"), False, "c0ffee", id="from the host that has it"),
        pytest.param(fleet(3, asked="a"), False, "c0ffee", id="from the host that asked"),
        pytest.param(fleet(3), False, None, id="from nobody, who asked and failed"),
        pytest.param(fleet(3, has="c"), True, None, id="an old copy does not tell what a new one has"),
    ],
)
def test_what_the_model_consists_of_is_told_to_all(hosts: Variables, updates: bool, commit: str | None) -> None:
    for name in hosts:
        (answer,) = model_cache_peers(hosts, list(hosts), name, updates)
        assert answer is not None
        told = answer["peer"]
        assert (told["commit"], bool(told["files"]), told["left_out_bytes"]) == (
            commit,
            bool(commit),
            7 if commit else 0,
        )
        assert (told["address"], told["port"], told["token"]) == (f"10.0.0.{'abc'.index(name) + 1}", 8790, "t")


def test_hosts_with_other_wishes_are_no_peers() -> None:
    hosts = {
        "a": host(1),
        "b": host(2, has=True, wish={"model": "org/m", "revision": "v2"}),
        "c": host(3, wish={"model": "org/m", "revision": "main", "include": []}),
        "d": host(4, wish={"model": "org/m", "state": "absent"}),
        "e": {"ansible_host": "10.0.0.5"},
    }
    answers = {name: model_cache_peers(hosts, list(hosts), name)[0] for name in "abcd"}
    sources = {name: answer and answer["peer"]["sources"] for name, answer in answers.items()}
    assert sources == {"a": [], "b": [], "c": ["http://10.0.0.1:8790"], "d": None}
    with pytest.raises(AnsibleFilterError, match="e is not one of the hosts"):
        model_cache_peers(hosts, list(hosts), "e")


# --- images ---------------------------------------------------------------------------------------------------------

IMAGE = "nvcr.io/nvidia/vllm:25.09"


def engine(number: int, has: str = "", got: str = "", archive: bool = False) -> Variables:
    item = {"__model_cache_item": IMAGE}
    described = {"id": got, **({"archive": {"size": 1}} if archive else {})}
    return {
        **host(number),
        "__model_cache_images_looked": {
            "results": [{**item, "image": {"id": has}} if has else {**item, "failed": True}]
        },
        **({"__model_cache_images_had": {"results": [{**item, "image": described}]}} if got else {}),
    }


def turns(hosts: Variables, updates: bool = False) -> dict[str, str]:
    """For each host its turn: '1' with what the others have, or the names of its sources, or nothing."""
    names = {f"http://10.0.0.{number}:8790": name for number, name in enumerate(hosts, 1)}
    found = {}
    for name in hosts:
        (answer,) = model_cache_peers(hosts, list(hosts), name, updates, images=True)
        assert answer is not None
        peer = answer["peer"]
        assert not (answer["first"] and answer["fetches"])
        sources = "".join(names[url] for url in peer["sources"])
        found[name] = f"1:{','.join(peer['others'])}" if answer["first"] else sources if answer["fetches"] else ""
        assert peer["image"].get("id", "") == ("x" if answer["fetches"] and hosts["a"].get(HAD) else ""), name
    return found


HAD = "__model_cache_images_had"


@pytest.mark.parametrize(
    ("hosts", "updates", "expected"),
    [
        pytest.param({"a": engine(1)}, False, {"a": "1:"}, id="one host"),
        pytest.param(
            {"a": engine(1), "b": engine(2), "c": engine(3)},
            False,
            {"a": "1:,", "b": "a", "c": "ba"},
            id="nobody has it",
        ),
        pytest.param(
            {"a": engine(1), "b": engine(2, "x"), "c": engine(3, "y")},
            False,
            {"a": "b", "b": "1:", "c": ""},
            id="two have it, and one of them passes it on",
        ),
        pytest.param({"a": engine(1, "x"), "b": engine(2, "x")}, False, {"a": "1:", "b": ""}, id="all have it"),
        pytest.param(
            {"a": engine(1, "y"), "b": engine(2, "y"), "c": engine(3)},
            True,
            {"a": "1:y,", "b": "a", "c": "ba"},
            id="the registry is to be asked",
        ),
        pytest.param(
            {"a": engine(1, "y", "x", True), "b": engine(2, "x"), "c": engine(3, "y")},
            True,
            {"a": "1:y", "b": "", "c": "a"},
            id="the registry had a newer one, which one host has",
        ),
        pytest.param(
            {"a": engine(1, "x", "x"), "b": engine(2, "x")},
            True,
            {"a": "1:", "b": ""},
            id="the registry had nothing new",
        ),
    ],
)
def test_one_host_has_an_image_first_and_those_that_lack_it_are_a_chain(
    hosts: Variables, updates: bool, expected: dict[str, str]
) -> None:
    assert turns(hosts, updates) == expected


# --- directories of the controller ----------------------------------------------------------------------------------

TRAINED = {"model": "org/m", "directory": "/srv/m"}
GIVEN = {**MODEL, **TRAINED, "commit": "beef"}


def given(hosts: Variables) -> Variables:
    controller = {"models": [GIVEN], "url": "http://10.0.0.9:8791"}
    return {name: {**told, "__model_cache_controller": controller} for name, told in hosts.items()}


def test_a_model_of_the_controller_goes_through_a_chain_of_those_that_lack_it_as_it_is_there() -> None:
    hosts = given({name: host(number, name in "bc", wish=TRAINED) for number, name in enumerate("abcd", 1)})
    # The second has it as it is now, the third as it was.
    hosts["b"]["__model_cache_looked"]["results"][0]["model"] = GIVEN
    controller, second = "http://10.0.0.9:8791", "http://10.0.0.2:8790"
    sources = {}
    for name in hosts:
        (answer,) = model_cache_peers(hosts, list(hosts), name, updates=True)
        assert answer is not None
        assert (answer["asks"], answer["peer"]["commit"], answer["peer"]["head"]) == (False, "beef", "the controller")
        sources[name] = answer["peer"]["sources"]
    first = "http://10.0.0.1:8790"
    assert sources["a"] == [controller]
    assert sources["b"] == [first, controller]
    assert sources["d"][-2:] == [first, controller]
    (answer,) = model_cache_peers(hosts, list(hosts), "a")
    assert answer is not None
    assert answer["peer"]["sources"] == [second, controller]


def test_a_host_that_passes_nothing_on_fetches_from_the_controller() -> None:
    hosts = given({"a": host(1, wish=TRAINED), "b": host(2, wish=TRAINED)})
    hosts["b"]["__model_cache_here"]["address"] = ""
    (answer,) = model_cache_peers(hosts, list(hosts), "b")
    assert answer is not None
    assert (answer["asks"], answer["peer"]["sources"]) == (False, ["http://10.0.0.9:8791"])
    hosts = {"a": host(1), "b": host(2)}
    hosts["b"]["__model_cache_here"]["address"] = ""
    (answer,) = model_cache_peers(hosts, list(hosts), "b")
    assert answer is not None
    assert (answer["asks"], answer["peer"]["sources"], answer["peer"]["commit"]) == (False, [], None)
