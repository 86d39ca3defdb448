# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""No program in roles and playbooks: expressions are short, and nobody reads what is private to another file."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(
    file.relative_to(ROOT)
    for folder in ("roles", "playbooks")
    for pattern in ("*.yml", "*.j2")
    for file in (ROOT / folder).rglob(pattern)
    if "models" not in file.parts and file.name != "argument_specs.yml"
)
LONGEST = 160
IDS = [str(file) for file in FILES]


def texts(value: t.Any, key: str = "") -> t.Iterator[tuple[str, str]]:
    """Every text of a YAML document, with the key it belongs to."""
    if isinstance(value, dict):
        for name, entry in value.items():
            yield from texts(entry, str(name))
    elif isinstance(value, list):
        for entry in value:
            yield from texts(entry, key)
    elif isinstance(value, str):
        yield key, value


def expressions(file: Path) -> list[str]:
    text = (ROOT / file).read_text("utf-8")
    if file.suffix == ".j2":
        return re.findall(r"{[{%](.*?)[%}]}", text, re.DOTALL)
    found = []
    for key, value in texts(yaml.safe_load(text)):
        bare = key in ("when", "changed_when", "failed_when", "until", "that")
        found += [value] if bare else re.findall(r"{{(.*?)}}(?!})", value, re.DOTALL)
    return [" ".join(one.split()) for one in found]


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_an_expression_is_no_program(file: Path) -> None:
    assert [one for one in expressions(file) if len(one) > LONGEST] == []


def owner_of(file: Path) -> str:
    """The role or the playbook that a file is part of; tasks and templates of a playbook begin with its name."""
    if file.parts[0] == "roles":
        return file.parts[1]
    if file.suffix == ".j2":
        return "diagnose"
    return file.stem.partition("_")[0] if "tasks" in file.parts else file.stem


@pytest.mark.parametrize("file", FILES, ids=IDS)
def test_private_variables_are_those_of_the_file_s_own_role_or_playbook(file: Path) -> None:
    text = (ROOT / file).read_text("utf-8")
    owner = f"__{owner_of(file)}_"
    assert [name for name in re.findall(r"\b__\w+", text) if not name.startswith(owner)] == []
