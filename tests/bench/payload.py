# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures what each module carries to a host, and prints Markdown.

Ansible sends a module with all module_utils that it may import, now or inside a function, as source in a zip file: these
are the shipped files. Those that it imports at once are compiled at each run, because nothing keeps their bytecode: their
time is that of a fresh interpreter which has imported everything else (Ansible's own, the Docker SDK) before.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import typing as t
import zipfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGE = "ansible_collections.gpufleet.vllm."
# Imports a module and prints how long that took, of the processor, and what came with it: [seconds, files, other modules].
IMPORT = """
import importlib, json, sys, time
name, package, before = json.loads(sys.argv[1])
for other in before:
    try:
        importlib.import_module(other)
    except Exception:
        pass
there = set(sys.modules)
began = time.process_time()
importlib.import_module(name)
spent = time.process_time() - began
came = {key: getattr(value, "__file__", None) for key, value in list(sys.modules.items())}
print(json.dumps([
    spent,
    sorted(path for key, path in came.items() if key.startswith(package) and path and key not in there),
    [key for key in came if not key.startswith("ansible_collections") and key != "__main__"],
]))
"""


def imported(path: pathlib.Path, name: str) -> set[str]:
    """The names that a file of the collection may import from it, as modules or as what is in them."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".")[: -node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            found.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
    return {one for one in found if one.startswith(PACKAGE)}


def shipped(tree: pathlib.Path, path: pathlib.Path) -> list[pathlib.Path]:
    """A module and all module_utils of the collection that it reaches."""
    found, left = {path}, [path]
    while left:
        current = left.pop()
        name = PACKAGE + ".".join(current.relative_to(tree).with_suffix("").parts)
        for one in imported(current, name):
            target = tree.joinpath(*one[len(PACKAGE) :].split(".")).with_suffix(".py")
            if target.is_file() and target not in found:
                found.add(target)
                left.append(target)
    return sorted(found)


def import_once(place: pathlib.Path, name: str, before: t.Sequence[str]) -> tuple[float, list[str], list[str]]:
    words = [sys.executable, "-B", "-c", IMPORT, json.dumps([name, PACKAGE, before])]
    done = subprocess.run(words, env={"PYTHONPATH": str(place)}, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"bench: importing {name} failed:\n{done.stderr}")
    return t.cast("tuple[float, list[str], list[str]]", tuple(json.loads(done.stdout)))


def size(paths: t.Iterable[pathlib.Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def zipped(paths: t.Iterable[pathlib.Path]) -> int:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for path in paths:
            archive.write(path)
    return len(stream.getvalue())


def row(tree: pathlib.Path, place: pathlib.Path, path: pathlib.Path, rounds: int) -> str:
    """The figures of one module. The tree at C(place) is imported: it has no bytecode, and gets none."""
    name = f"{PACKAGE}plugins.modules.{path.stem}"
    carried = shipped(tree, path)
    _spent, eager, others = import_once(place, name, [])
    seconds = [import_once(place, name, others)[0] for _round in range(rounds)]
    cells = [
        f"{len(carried)} files, {size(carried) / 1024:.0f} KiB",
        f"{zipped(carried) / 1024:.0f} KiB",
        f"{len(eager)} files, {size(map(pathlib.Path, eager)) / 1024:.0f} KiB",
        f"{statistics.median(seconds) * 1000:.0f} ms ({min(seconds) * 1000:.0f} - {max(seconds) * 1000:.0f})",
    ]
    return f"| `{path.stem}` | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--tree", type=pathlib.Path, default=ROOT, help="the working tree that is measured")
    chosen = parser.parse_args()
    tree = chosen.tree.resolve()
    print(
        "| module | shipped | zipped | compiled at the start | compiled and imported in |\n| --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory(prefix="gpufleet-bench-") as place:
        collection = pathlib.Path(place, *PACKAGE.split("."))
        shutil.copytree(tree / "plugins", collection / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
        for path in sorted((tree / "plugins" / "modules").glob("*.py")):
            print(row(tree, pathlib.Path(place), path, chosen.rounds), flush=True)


if __name__ == "__main__":
    main()
