# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Teach the collection which vLLM knows which architecture: read the registries of its releases, without running them.

    python tools/vllm_architectures.py            read every release of module_utils/_vllm/flags.py from 0.8.5 on, and
                                                  write module_utils/_vllm/architectures.py

The sources are those of tools/vllm_flags.py, from its cache or from the package index. A release without a source
distribution is left out: what it brought is then said to have come with the next one.
"""

from __future__ import annotations

import ast
import datetime
import sys
import textwrap
import typing as t
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "plugins")]

from module_utils._vllm import versions as vllm_versions  # noqa: E402
from module_utils._vllm.flags import VERSIONS  # noqa: E402
from vllm_flags import WIDTH, fetch  # noqa: E402

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
HEAD = '''# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which releases of vLLM know an architecture, by the name that config.json gives it. Pure.

Written by tools/vllm_architectures.py on {date} from the registries in the sources of the releases below; do not edit.
A line is a name, the releases in the ranges of C(_vllm/flags.py), and what it does: g generates, p embeds, classifies
or scores, gp both. The oldest release that was read may not be the first that knows it.
"""

from __future__ import annotations

READ = """\\
{read}
""".split()

ARCHITECTURES = {{
    name: (ranges, kinds)
    for name, ranges, kinds in map(
        str.split,
        """\\
{rows}
""".splitlines(),
    )
}}
'''


def known(registry: str) -> dict[str, str]:
    """The architectures of one registry, and what they do."""
    found: dict[str, str] = {}
    for node in ast.parse(registry).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
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
    text = HEAD.format(date=date, read="\n".join(textwrap.wrap(" ".join(read), WIDTH)), rows="\n".join(rows))
    TABLE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
