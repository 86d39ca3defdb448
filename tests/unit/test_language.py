# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What users read is plain, active English: guides, documentation, task names, changelog, and the texts in plugins."""

from __future__ import annotations

import ast
import re
import subprocess
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# A phrase, and what to write instead.
PHRASES = {
    r"told": "reported, shown, distinguished",
    r"(?:is|are|was|be) said\b": "stated, set",
    r"but for\b": "except for",
    r"heed(?:s|ed)?\b": "respects, uses",
    r"(?:can|to) be had\b": "is available",
    r"all the same\b": "anyway",
    r"mends?\b": "fixes",
    r"the one or the other\b": "both, either",
    r"(?:(?<!and )go|goes|went|going) on\b(?! the| a\b)": "continue, resume, keep running",
    r"would do\b|will do\b": "the verb that is meant",
    r"anew": "again",
    r"sane": "correct, healthy",
    r"(?:is|are) there\b(?! (?:is|are)\b)": "exists, is on the host, is installed",
    r"(?:stand|stands|stood) still\b": "hangs, no longer changes",
    r"beside\b": "next to, in addition to",
    r"whoever(?! breaks)": "anyone who, the user who",
    r"what has\b(?! changed)": "what must",
    r"(?:is|are) none of": "must be ...; got ...",
    r"(?:some|any|no)body": "another user, no process, all users",
    r"put right": "fixed, restarted",
    r"to the letter": "exactly",
    r"by the latest": "at the latest",
    r"lets? go of": "release",
    r"held against": "compared with",
    r"(?<!there )is no (?:list|file|link|number|JSON|mapping|directory|such)\b": "is not a ...",
}
WORST = re.compile("|".join(rf"\b(?:{phrase})" for phrase in PHRASES), re.IGNORECASE)
GUIDES = ("README.md", "docs/*.md", "roles/*/README.md")
YAML = ("changelogs/fragments/*.yml", "playbooks/models/*.yml", "roles/*/meta/*.yml")
TASKS = ("playbooks/*.yml", "playbooks/tasks/*.yml", "roles/*/tasks/*.yml")


def of_guides() -> t.Iterator[tuple[str, str]]:
    for path in matching(*GUIDES):
        for line in path.read_text("utf-8").splitlines():
            # Names of tests are the code's.
            yield str(path.relative_to(ROOT)), re.sub(r"`[^`]*`", "``", line)


def of_yaml() -> t.Iterator[tuple[str, str]]:
    for path in matching(*YAML):
        for line in path.read_text("utf-8").splitlines():
            yield str(path.relative_to(ROOT)), line if not line.lstrip().startswith("#") else ""
    for path in matching(*TASKS):
        for name in re.findall(r"(?m)^ *(?:- )?name: (.*)$", path.read_text("utf-8")):
            yield str(path.relative_to(ROOT)), name


def of_plugins() -> t.Iterator[tuple[str, str]]:
    """Every string of a plugin that is a text, but for docstrings, which users never see."""
    for path in matching("plugins/**/*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                # A word is a value, such as the user nobody; what has groups is a pattern.
                for line in node.value.splitlines() if " " in node.value and "(?" not in node.value else ():
                    yield f"{path.relative_to(ROOT)}:{node.lineno}", line


def matching(*patterns: str) -> list[Path]:
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [ROOT / path for path in listed.splitlines()]


@pytest.mark.parametrize("texts", [of_guides, of_yaml, of_plugins])
def test_users_read_plain_english(texts: t.Callable[[], t.Iterator[tuple[str, str]]]) -> None:
    seen = list(texts())
    assert len(seen) > 100
    assert [f"{place}: {line.strip()}" for place, line in seen if WORST.search(line)] == []
