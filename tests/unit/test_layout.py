# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The walls of the house: which package imports which, what a module ships to a host, and how large files may grow.

Imports are followed wherever they stand, in functions and for types alone too: Ansible ships what they reach.
"""

from __future__ import annotations

import ast
import functools
import subprocess
import typing as t
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UTILS = ROOT / "plugins" / "module_utils"
MODULES = sorted((ROOT / "plugins" / "modules").glob("*.py"))
FILES = sorted(path.relative_to(UTILS).as_posix() for path in UTILS.rglob("*.py"))

# The list in plugins/module_utils/README.md, from the bottom to the top: a package imports what stands before it.
LAYERS = (
    ("_version.py",),
    ("_errors.py",),
    ("_host",),
    ("_gpu",),
    ("_provision",),
    ("_vllm",),
    ("_server",),
    ("_deploy",),
    ("_models", "_venv"),
    ("_health",),
    ("_grpo",),
    ("_docker", "_systemd"),
    ("_images",),
    ("_backends.py", "_sources.py"),
    ("_deployment.py",),
    ("_caches",),
    ("_watchdog",),
)
# KiB of module_utils that a module ships: what it was, and three percent. A third of what diagnoses is the table of
# failures; every module that deploys reads logs.
BUDGETS = {
    "gpu_facts": 74,
    # With the versions that hosts with a GB10 are known to work with, and what brings the Docker SDK.
    "gpu_host": 258,
    "grpo_check": 126,
    "grpo_environment": 129,
    # With what fetches from other hosts and passes on to them, and reads directories of the controller.
    "model_cache": 248,
    # With what talks to an engine.
    "model_cache_image": 280,
    "model_cache_info": 145,
    "model_cache_peer": 160,
    "tiktoken_encodings": 55,
    # With the other backend: a container may take the place of a unit, and that may be the last to use an environment.
    # And with what unpacks the compile caches of another host.
    "vllm_caches": 870,
    # And with how DeepSeek V4, MiMo-V2 and shared indexes keep their caches.
    "vllm_container": 955,
    # With failures of units, of ports and of tokens, and what names the settings that an unknown one speaks of.
    "vllm_diagnose": 302,
    "vllm_health": 376,
    "vllm_service": 955,
    "vllm_venv": 380,
    # With the program that it installs: it reads logs, records and GPUs of both backends.
    "vllm_watchdog": 620,
    # Runs on the controller.
    "vllm_server": 0,
}
LINES_OF_A_TEST = 900
LINES_OF_A_MODULE = 60
ENTRIES_OF_THE_ROOT = 20


# --- who imports whom -------------------------------------------------------------------------------------------------


def imports(path: Path) -> t.Iterator[str]:
    """The files of module_utils that a Python file imports, by their paths below it."""
    base = path.relative_to(UTILS).parent.parts if UTILS in path.parents else ()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom):
            continue
        words = tuple((node.module or "").split(".")) if node.module else ()
        if node.level:
            package = (*base[: len(base) - node.level + 1], *words)
        elif words[:3] == ("ansible_collections", "gpufleet", "vllm") and "module_utils" in words:
            package = words[words.index("module_utils") + 1 :]
        else:
            continue
        yield from _files("/".join(package), [alias.name for alias in node.names])


def _files(package: str, names: t.Iterable[str]) -> t.Iterator[str]:
    if f"{package}.py" in FILES:
        yield f"{package}.py"
    else:
        yield from (f"{package}/{name}.py".lstrip("/") for name in names)


@functools.lru_cache(maxsize=1)
def graph() -> dict[str, set[str]]:
    return {name: set(imports(UTILS / name)) for name in FILES}


def reached(path: Path) -> set[str]:
    found: set[str] = set()
    new = set(imports(path))
    while new:
        found |= new
        new = {other for name in new if name in FILES for other in graph()[name]} - found
    return found


def package_of(name: str) -> str:
    return name.partition("/")[0]


def layer_of(name: str) -> int:
    return next((number for number, packages in enumerate(LAYERS) if package_of(name) in packages), -1)


def test_every_import_leads_to_a_file() -> None:
    wanted = {(name, other) for name, others in graph().items() for other in others}
    assert sorted((name, other) for name, other in wanted if other not in FILES) == []


def test_every_package_has_its_place() -> None:
    assert sorted({package_of(name) for name in FILES if layer_of(name) < 0}) == []
    listed = [line for line in (UTILS / "README.md").read_text("utf-8").splitlines() if line.startswith("| `")]
    for packages, line in zip(reversed(LAYERS), listed):
        assert all(f"`{name}`" in line or f"`{name}/`" in line for name in packages), line
    assert len(listed) == len(LAYERS)


def test_a_package_imports_only_what_stands_below_it() -> None:
    arrows = {(name, other) for name, others in graph().items() for other in others if other in FILES}
    upward = [
        f"{name} imports {other}"
        for name, other in sorted(arrows)
        if package_of(name) != package_of(other) and layer_of(name) <= layer_of(other)
    ]
    assert upward == []


def test_no_file_is_reached_from_itself() -> None:
    assert [name for name in FILES if name in reached(UTILS / name)] == []


# --- what is shipped --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_ships_no_more_than_its_budget(module: Path) -> None:
    files = reached(module)
    shipped = sum((UTILS / name).stat().st_size for name in files)
    assert shipped <= BUDGETS[module.stem] * 1024, f"{shipped / 1024:.1f} KiB: {', '.join(sorted(files))}"


def test_a_server_is_deployed_without_the_table_of_failures() -> None:
    files = reached(ROOT / "plugins" / "modules" / "vllm_container.py")
    assert not files & {"_vllm/diagnosis.py", "_vllm/failures.py"}


# --- how large files are ----------------------------------------------------------------------------------------------


def code_lines(path: Path) -> int:
    """Lines of code: without documentation strings, comments and blank lines."""
    text = path.read_text("utf-8")
    skipped: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        is_documentation = isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in (
            "DOCUMENTATION",
            "EXAMPLES",
            "RETURN",
        )
        if is_text or is_documentation:
            skipped |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(1 for number, line in lines if number not in skipped and line.strip() and line.strip()[0] != "#")


@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_module_composes_and_does_nothing_itself(module: Path) -> None:
    assert code_lines(module) <= LINES_OF_A_MODULE


def test_no_test_file_is_longer_than_one_reads() -> None:
    lengths = {path.name: len(path.read_text("utf-8").splitlines()) for path in (ROOT / "tests").rglob("*.py")}
    too_long = {name: lines for name, lines in lengths.items() if lines > LINES_OF_A_TEST}
    assert too_long == {}


def test_the_root_is_seen_at_one_glance() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("This tree is no git repository.")
    entries = {name.partition("/")[0] for name in listed.stdout.split("\0") if name}
    assert len(entries) <= ENTRIES_OF_THE_ROOT, sorted(entries)
