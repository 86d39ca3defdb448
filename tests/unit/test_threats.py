# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The threats of docs/security.md: each names what holds it, and what is named exists."""

from __future__ import annotations

import ast
import re
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TABLE_ROW = re.compile(r"^\| (?!---|threat )(?P<threat>.+?) \|(?: .+ \|)? (?P<held>[^|]+) \|$", re.MULTILINE)


def rows() -> list[tuple[str, list[str]]]:
    """The threats, each with the tests, files and folders that it names."""
    text = (ROOT / "docs" / "security.md").read_text("utf-8")
    threats = text[text.index("\n## Threats") :].split("\n## ")[1]
    return [(row["threat"], re.findall(r"`([^`]+)`", row["held"])) for row in TABLE_ROW.finditer(threats)]


@pytest.fixture(scope="module")
def known() -> set[str]:
    """The names of all tests."""
    trees = (ast.parse(path.read_text("utf-8")) for path in ROOT.glob("tests/**/test_*.py"))
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize(("threat", "held"), rows(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_threat_names_tests_that_exist(threat: str, held: t.Sequence[str], known: set[str]) -> None:
    assert held
    assert [name for name in held if name not in known and not (ROOT / name).exists()] == []


def test_the_table_is_read() -> None:
    assert len(rows()) > 25
