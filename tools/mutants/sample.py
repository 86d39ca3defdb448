"""Mutation testing by cosmic-ray, of a random sample: which of the small mistakes in the deciding code no test notices.

Writes .cache/mutants/report.md, the table of docs/benchmarks.md, and .cache/mutants/survivors.diff. One seed plants the
same mistakes in the same code, in the bodies of functions: constants elsewhere are settings.
"""

from __future__ import annotations

import argparse
import ast
import concurrent.futures
import contextlib
import datetime
import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import typing as t
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "mutants"
TREE = CACHE / "tree"
COSMIC_RAY = CACHE / "venv" / "bin" / "cosmic-ray"
UTILS = "plugins/module_utils"
# What decides, and the tests that are asked about it. All of it is pure, so its tests are quick.
PACKAGES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "plan and record of a deployment": (
        ("_deploy/plan.py", "_deploy/ledger.py", "_deploy/history.py"),
        (
            "deploy/test_deployment.py",
            "deploy/test_interruptions.py",
            "deploy/test_ownership.py",
            "deploy/test_history.py",
            "deploy/test_switch_run.py",
        ),
    ),
    "lock": (("_host/lock.py",), ("host/test_lock.py",)),
    "diagnosis": (
        ("_vllm/diagnosis.py", "_vllm/signature.py", "_vllm/log.py", "_vllm/life.py", "_vllm/exceptions.py"),
        ("vllm",),
    ),
    "memory": (
        ("_server/budget.py", "_server/fit.py", "_server/kv_cache.py", "_server/memory_settings.py"),
        ("server",),
    ),
    "settings of a server": (
        (
            "_server/check.py",
            "_server/fallbacks.py",
            "_server/keys.py",
            "_server/secret_settings.py",
            "_server/spec.py",
        ),
        ("server", "filter"),
    ),
    "choice of settings": (("_server/choice.py", "_server/offers.py"), ("server/test_choice.py",)),
    "GPUs": (("_gpu/selection.py", "_gpu/tenants.py", "_gpu/nvidia_smi.py"), ("gpu", "deploy/test_claims.py")),
    "provisioning": (("_provision/plan.py", "_provision/packages.py", "_provision/verify.py"), ("provision",)),
    "watchdog": (("_watchdog/decide.py",), ("watchdog/test_watchdog_decide.py",)),
    "health": (("_health/api.py", "_health/wait.py", "_health/watch.py"), ("health",)),
}
# Mistakes that people make: a wrong comparison, and for or, a missing not, a number off by one, plus for minus.
OPERATORS = re.compile(
    r"core/(ReplaceComparisonOperator_\w+_(Eq|NotEq|Lt|LtE|Gt|GtE|In|NotIn)|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul)"
    r"|ReplaceAndWithOr|ReplaceOrWithAnd|AddNot|ReplaceUnaryOperator_Delete_Not|ReplaceTrueWithFalse"
    r"|ReplaceFalseWithTrue|NumberReplacer|ReplaceContinueWithBreak|ReplaceBreakWithContinue|ZeroIterationForLoop)"
)
CONFIG = """\
[cosmic-ray]
module-path = {modules}
timeout = {timeout}
excluded-modules = []
test-command = {command}
[cosmic-ray.distributor]
name = "local"
"""


@dataclass(frozen=True)
class Outcome:
    """What became of the mistakes in one package."""

    package: str
    planted: int
    noticed: int
    survivors: tuple[str, ...]

    @property
    def row(self) -> str:
        share = f"{self.noticed / self.planted:.0%}" if self.planted else "-"
        return f"| {self.package} | {self.planted} | {self.noticed} | {share} |"


def code_lines(source: str) -> t.Callable[[int, int], bool]:
    """Whether a place (line, column) is in the body of a function, and in no annotation and no docstring."""
    bodies: set[int] = set()
    silent: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for statement in node.body:
                bodies.update(range(statement.lineno, (statement.end_lineno or 0) + 1))
        left = node.annotation if isinstance(node, (ast.AnnAssign, ast.arg)) else None
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            left = node.value
        for one in ast.walk(left) if left is not None else ():
            if isinstance(one, ast.expr):
                columns = range(one.col_offset, (one.end_col_offset or 0) + 1)
                silent.update((one.lineno, column) for column in columns)
    return lambda line, column: line in bodies and (line, column) not in silent


def sampled(session: Path, tree: Path, count: int, chance: random.Random) -> int:
    """Leave so many of the mistakes in the session, no two at one place, and say how many are left."""
    with contextlib.closing(sqlite3.connect(session)) as database:
        rows = database.execute(
            "SELECT job_id, module_path, operator_name, start_pos_row, start_pos_col FROM mutation_specs ORDER BY "
            "module_path, start_pos_row, start_pos_col, operator_name, occurrence, operator_args"
        ).fetchall()
        is_code = {path: code_lines((tree / path).read_text("utf-8")) for path in {row[1] for row in rows}}
        places: dict[tuple[str, int, int], list[str]] = {}
        for job, path, operator, line, column in rows:
            if OPERATORS.fullmatch(operator) and is_code[path](line, column):
                places.setdefault((path, line, column), []).append(job)
        taken = {chance.choice(places[place]) for place in chance.sample(sorted(places), min(count, len(places)))}
        for (job,) in database.execute("SELECT job_id FROM work_items").fetchall():
            if job not in taken:
                for table in ("mutation_specs", "work_items"):
                    database.execute(f"DELETE FROM {table} WHERE job_id = ?", (job,))
        database.commit()
    return len(taken)


def measured(package: str, count: int, seed: int, timeout: float) -> Outcome:
    """Plant the mistakes of one package in a tree of its own."""
    modules, tests = PACKAGES[package]
    name = re.sub(r"\W+", "-", package)
    tree = CACHE / f"tree-{name}"
    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(TREE, tree, symlinks=True)
    config, session = tree / "cosmic-ray.toml", tree / "session.sqlite"
    asked = " ".join(f"tests/unit/{test}" for test in tests)
    python = ROOT / ".venv/bin/python"
    command = f"{python} -m pytest -c .config/pytest.ini --rootdir . -x -q -p no:randomly {asked}"
    paths = json.dumps([f"{UTILS}/{module}" for module in modules])
    config.write_text(CONFIG.format(modules=paths, timeout=timeout, command=json.dumps(command)), encoding="utf-8")
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere", "PYTHONDONTWRITEBYTECODE": "1"}

    def ray(*arguments: object) -> str:
        done = subprocess.run(
            [str(COSMIC_RAY), *map(str, arguments)],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"mutants: cosmic-ray {arguments[0]} failed on {package}: {done.stdout}{done.stderr}")
        return done.stdout

    ray("baseline", config)
    ray("init", config, session)
    planted = sampled(session, tree, count, random.Random(f"{seed} {package}"))
    ray("exec", config, session)
    results = [json.loads(line)[1] for line in ray("dump", session).splitlines()]
    survivors = tuple(str(one["diff"]) for one in results if one and one["test_outcome"] == "survived")
    shutil.rmtree(tree)
    return Outcome(package, planted, planted - len(survivors), survivors)


def report(outcomes: t.Sequence[Outcome]) -> str:
    """The table, with a row of them all."""
    planted, noticed = sum(one.planted for one in outcomes), sum(one.noticed for one in outcomes)
    lines = ["| what decides | mistakes planted | noticed | score |", "| --- | --- | --- | --- |"]
    return "\n".join([*lines, *(one.row for one in (*outcomes, Outcome("**all**", planted, noticed, ())))])


def main(argv: t.Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="Plant small mistakes, and count those that tests notice.")
    parser.add_argument("packages", nargs="*", choices=[*PACKAGES, []], help="all, when none is named")
    parser.add_argument("--count", type=int, default=12, help="mistakes for each package (12)")
    parser.add_argument("--seed", type=int, default=1, help="which ones (1)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds for the tests of one mistake (300)")
    parser.add_argument("--jobs", type=int, default=2, help="packages at once (2)")
    said = parser.parse_args(argv)
    packages = said.packages or [*PACKAGES]
    outcomes: list[Outcome] = []
    with concurrent.futures.ThreadPoolExecutor(said.jobs) as pool:
        # Written after each, so that one that is interrupted leaves what it knows.
        for outcome in pool.map(lambda one: measured(one, said.count, said.seed, said.timeout), packages):
            outcomes.append(outcome)
            text = report(outcomes)
            today = datetime.datetime.now(datetime.timezone.utc).date()
            (CACHE / "report.md").write_text(f"{text}\n\nSeed {said.seed}, {today}.\n", encoding="utf-8")
            diffs = "\n".join(f"# {one.package}\n{diff}" for one in outcomes for diff in one.survivors)
            (CACHE / "survivors.diff").write_text(diffs + "\n", encoding="utf-8")
    print(f"{text}\n\nThe mistakes that no test noticed: {CACHE / 'survivors.diff'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
