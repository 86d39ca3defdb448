# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role vllm_venv and its module offer the same."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import yaml
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.run import PARAMETERS
from ansible_collections.gpufleet.vllm.plugins.modules import vllm_venv

ROLE = Path(__file__).resolve().parents[3] / "roles" / "vllm_venv"
OPTIONS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text("utf-8"))["argument_specs"]["main"]["options"]
MODULE = yaml.safe_load(vllm_venv.DOCUMENTATION)["options"]


def facts(option: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    return {key: value for key, value in option.items() if key != "description"}


def words(option: t.Mapping[str, t.Any]) -> list[str]:
    """A description without the names by which role and module refer to an option."""
    plain = (re.sub(r"O\((?:vllm_venv[._])?(\w+)", r"O(\1", line) for line in option["description"])
    return [" ".join(line.split()) for line in plain]


def test_role_and_module_offer_the_same() -> None:
    role = {**OPTIONS["vllm_venv"]["options"], "state": OPTIONS["vllm_venv_state"]}
    assert {name: facts(option) for name, option in role.items()} == {
        name: facts(option) for name, option in MODULE.items()
    }
    assert {name: words(option) for name, option in role.items()} == {
        name: words(option) for name, option in MODULE.items()
    }


def test_every_key_of_the_role_reaches_the_module() -> None:
    (task,) = yaml.safe_load((ROLE / "tasks/main.yml").read_text("utf-8"))
    passed = task["gpufleet.vllm.vllm_venv"]
    assert set(passed) == set(PARAMETERS)
    for name, value in passed.items():
        source = "vllm_venv_state" if name == "state" else f"vllm_venv.{name} | default(omit)"
        assert value == f"{{{{ {source} }}}}"
    assert task["register"] == "vllm_venv_result"


def test_the_defaults_are_those_that_are_documented() -> None:
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text("utf-8"))
    assert defaults == {"vllm_venv_state": OPTIONS["vllm_venv_state"]["default"]}


def test_the_readme_has_every_key() -> None:
    readme = (ROLE / "README.md").read_text("utf-8")
    assert [name for name in OPTIONS["vllm_venv"]["options"] if f"`{name}`" not in readme] == []
