# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Teach the collection which vLLM knows which architecture: read the registries of its releases, without running them.

    python tools/vllm_architectures.py            read every release of module_utils/_vllm/flags.py from 0.8.5 on, and
                                                  write module_utils/_vllm/architectures.py

The sources are those of tools/vllm_flags.py, from its cache or from the package index. A release without a source
distribution is left out: what it brought is then said to have come with the next one. Which types of config.json are
read without code of the model is what one release of vLLM and one of Transformers register.
"""

from __future__ import annotations

import ast
import datetime
import re
import subprocess
import sys
import textwrap
import typing as t
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "plugins")]

from module_utils._vllm import versions as vllm_versions  # noqa: E402
from module_utils._vllm.flags import VERSIONS  # noqa: E402
from vllm_flags import CACHE, WIDTH, fetch  # noqa: E402

OLDEST = "0.8.5"
REGISTRY = "vllm/model_executor/models/registry.py"
TABLE = ROOT / "plugins" / "module_utils" / "_vllm" / "architectures.py"
# The mappings of a registry that name what a server can serve by itself, and the letter of what that is.
GENERATES, POOLS = "g", "p"
KINDS = {
    "_TEXT_GENERATION_MODELS": GENERATES,
    "_MULTIMODAL_MODELS": GENERATES,
    "_EMBEDDING_MODELS": POOLS,
    "_CROSS_ENCODER_MODELS": POOLS,
    "_LATE_INTERACTION_MODELS": POOLS,
    "_REWARD_MODELS": POOLS,
    "_SEQUENCE_CLASSIFICATION_MODELS": POOLS,
    "_TOKEN_CLASSIFICATION_MODELS": POOLS,
}
# Whose registries tell which types of models they read without code that comes with the weights.
TYPES_OF_VLLM, TYPES_OF_TRANSFORMERS = "0.26.0", "5.0.0"
CONFIGS = "vllm/transformers_utils/config.py"
AUTO = "transformers/models/auto/configuration_auto.py"
HEAD = '''# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which releases of vLLM know an architecture, by the name that config.json gives it. Pure.

Written by tools/vllm_architectures.py on {date} from the registries in the sources of the releases below. A line is
a name, the releases in the ranges of C(_vllm/flags.py), and what it does: g generates, p embeds, classifies or scores,
gp both. The oldest release that was read may not be the first that knows it.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _read(text: str) -> dict[str, tuple[str, str]]:
    """One entry a line, as one string, which compiles ten times faster than a dict."""
    rows = map(str.split, text.splitlines())
    return {{name: (ranges, kinds) for name, ranges, kinds in rows}}


READ = _words("""\\
{read}
""")

# Values of C(model_type) for which vLLM {vllm} and Transformers {transformers} have a class of their own.
TYPES = _words("""\\
{types}
""")

ARCHITECTURES = _read("""\\
{rows}
""")
'''


def known(registry: str) -> dict[str, str]:
    """The architectures of one registry, and what they do."""
    found: dict[str, str] = {}
    for node in ast.parse(registry).body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        names = [target.id for target in targets if isinstance(target, ast.Name)]
        kind = next((KINDS[name] for name in names if name in KINDS), None)
        if kind and isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Dict):
            for key in node.value.keys:
                if isinstance(key, ast.Constant):
                    found[str(key.value)] = "".join(sorted({*found.get(str(key.value), ""), kind}))
    return found


def ranges_of(having: t.Collection[str], read: t.Sequence[str]) -> str:
    """The releases as ranges: of those that were read, the runs that have it."""
    runs: list[list[str]] = []
    for number, version in enumerate(read):
        if version in having:
            follows = number and runs and runs[-1][-1] == read[number - 1]
            runs = [*runs[:-1], [*runs[-1], version]] if follows else [*runs, [version]]
    return ",".join(f"{run[0]}.." + ("" if run[-1] == read[-1] else run[-1]) for run in runs)


def types() -> set[str]:
    """The types of models that are read without code of the model."""
    registry = (fetch(TYPES_OF_VLLM) / CONFIGS).read_text("utf-8")
    found = set(re.findall(r'^    (\w+)="\w+Config",', registry, re.MULTILINE))
    CACHE.mkdir(parents=True, exist_ok=True)
    wanted = [f"transformers=={TYPES_OF_TRANSFORMERS}", "--no-deps", "--dest", str(CACHE)]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *wanted], check=True)
    (wheel,) = CACHE.glob(f"transformers-{TYPES_OF_TRANSFORMERS}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        auto = archive.read(AUTO).decode("utf-8")
    return found | set(re.findall(r'^        \("([\w-]+)", "\w+Config"\),', auto, re.MULTILINE))


def _wrapped(words: t.Iterable[str]) -> str:
    return "\n".join(textwrap.wrap(" ".join(words), WIDTH, break_on_hyphens=False))


def main() -> None:
    releases: dict[str, dict[str, str]] = {}
    for version in VERSIONS:
        if vllm_versions.parse(version) < vllm_versions.parse(OLDEST):
            continue
        try:
            releases[version] = known((fetch(version) / REGISTRY).read_text("utf-8"))
        except SystemExit as error:
            print(f"{error} Left out.", file=sys.stderr)
    read = list(releases)
    names = sorted({name for found in releases.values() for name in found})
    rows = []
    for name in names:
        having = [version for version in read if name in releases[version]]
        rows.append(f"{name} {ranges_of(having, read)} {releases[having[-1]][name]}")
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    versions = {"vllm": TYPES_OF_VLLM, "transformers": TYPES_OF_TRANSFORMERS}
    text = HEAD.format(
        date=date, read=_wrapped(read), types=_wrapped(sorted(types())), rows="\n".join(rows), **versions
    )
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
