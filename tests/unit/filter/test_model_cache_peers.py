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
