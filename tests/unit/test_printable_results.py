# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every module and action plugin passes what it returns through the one place that makes texts printable."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PLUGINS = Path(__file__).parents[2] / "plugins"
LEAVES = ("exit_json", "fail_json", "leave_with")


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Call)]


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_printable(value: ast.expr) -> bool:
    """Whether a value is a constant, or holds a call of printable."""
    names = [name_of(node) for node in ast.walk(value) if isinstance(node, ast.Call)]
    is_plain = isinstance(value, (ast.Constant, ast.JoinedStr)) or "isinstance" in names
    return is_plain or "printable" in names or ast.unparse(value) == "error.reason"


@pytest.mark.parametrize("path", sorted((PLUGINS / "modules").glob("*.py")), ids=lambda path: path.stem)
def test_a_module_exits_with_printable_texts(path: Path) -> None:
    bare = [
        ast.unparse(call)
        for call in calls(path)
        if name_of(call) in (*LEAVES, "warn")
        for value in (*call.args, *(keyword.value for keyword in call.keywords))
        if not is_printable(value)
    ]
    assert bare == []


def acts(path: Path) -> bool:
    """Whether an action does anything by itself: one that has nothing but its name is as its parent."""
    return any(isinstance(node, ast.FunctionDef) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


ACTIONS = [path for path in sorted((PLUGINS / "action").glob("*.py")) if acts(path)]


@pytest.mark.parametrize("path", ACTIONS, ids=lambda path: path.stem)
def test_an_action_shows_printable_texts(path: Path) -> None:
    assert any(name_of(call) == "printable" for call in calls(path))
