# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role gpu_host and its module offer the same, and a wish holds all of it."""

from __future__ import annotations

import re
import typing as t
from dataclasses import fields
from pathlib import Path

import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.facts import Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils._provision.run import PARAMETERS, wish_of
from ansible_collections.gpufleet.vllm.plugins.modules import gpu_host

ROLE = Path(__file__).resolve().parents[3] / "roles" / "gpu_host"
OPTIONS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text("utf-8"))["argument_specs"]["main"]["options"]
MODULE = yaml.safe_load(gpu_host.DOCUMENTATION)["options"]


def plain(options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Options without line breaks, and without the names by which role and module refer to each other."""
    shown = {}
    for name, option in options.items():
        words = [" ".join(re.sub(r"O\((?:gpu_host\.)?", "O(", line).split()) for line in option["description"]]
        inner = option.get("options") or option.get("suboptions")
        rest = {key: value for key, value in option.items() if key not in ("description", "options", "suboptions")}
        shown[name] = {**rest, "description": words, **({"options": plain(inner)} if inner else {})}
    return shown


def test_role_and_module_offer_the_same() -> None:
    assert plain(OPTIONS["gpu_host"]["options"]) == plain(MODULE)


def test_every_key_of_the_role_reaches_the_module() -> None:
    (task,) = yaml.safe_load((ROLE / "tasks/provision.yml").read_text("utf-8"))
    passed = task["gpufleet.vllm.gpu_host"]
    assert set(passed) == set(PARAMETERS) == set(MODULE)
    assert set(passed.values()) == {
        f"{{{{ (gpu_host | default({{}})).{name} | default(omit) }}}}" for name in PARAMETERS
    }


def test_a_wish_holds_every_parameter_and_the_same_defaults() -> None:
    assert {one.name for one in fields(Wish)} == set(PARAMETERS) - {"timeout"}
    assert wish_of({name: spec.get("default") for name, spec in PARAMETERS.items()}) == Wish()
    documented = {name: option["default"] for name, option in MODULE.items() if "default" in option}
    assert documented == {name: spec["default"] for name, spec in PARAMETERS.items() if "default" in spec}


def test_the_defaults_are_those_that_are_documented() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text("utf-8"))
    assert defaults == {name: option["default"] for name, option in OPTIONS.items() if name != "gpu_host"}


def test_the_readme_has_every_key() -> None:
    readme = (ROLE / "README.md").read_text("utf-8")
    assert [name for name in (*OPTIONS, *OPTIONS["gpu_host"]["options"]) if f"`{name}`" not in readme] == []
