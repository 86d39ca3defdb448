# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lay out the pages that `make docs` hands to Sphinx, and check every link of the site that comes out.

python tools/site.py pages SOURCE: the guides at their places of the clone, so that their links hold, and a page for
each failure with an example and its remedy, from the table of failures and the lines that its tests recognize.
SOURCE/reference holds what antsibull-docs wrote before.

python tools/site.py links HTML: exits with 1 and lists the links that lead nowhere within the site.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import textwrap
import typing as t
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "plugins"), str(ROOT / "tests" / "unit")]

import failure_lines  # noqa: E402
import failure_lines_kinds  # noqa: E402
import failure_lines_more  # noqa: E402
from module_utils._vllm.diagnosis import diagnose  # noqa: E402
from module_utils._vllm.failures import SIGNATURES  # noqa: E402
from module_utils._vllm.signature import Found, Signature, say  # noqa: E402

REPOSITORY = "https://github.com/gpufleet/vllm"
GUIDES = ("README.md", "CONTRIBUTING.md", "docs/*.md", "roles/*/README.md", "tests/**/README.md", "plugins/*/README.md")
SAMPLES = {**failure_lines.SAMPLES, **failure_lines_more.SAMPLES, **failure_lines_kinds.SAMPLES}
KINDS = {
    "root": "A cause: change something before the next start.",
    "symptom": "A symptom: it follows from another failure, and is the diagnosis only if no cause is known.",
    "warn": "A note: it never makes a start fail.",
}
RETRY = {True: "yes", False: "no", None: "unknown"}
# What the side bar lists, in this order.
TREE = {
    "Guides": ("Start here <../README>", "user_guide", "provisioning", "fleet", "operations", "grpo"),
    "When something is wrong": ("diagnosis", "../failures/index", "reliability", "memory"),
    "Reference": (
        "Modules, roles and filters <../reference/index>",
        "../roles/index",
        "catalogue",
        "flags_by_version",
        "gpu_facts",
        "security",
    ),
    "Project": ("../CONTRIBUTING", "architecture", "benchmarks", "../tests/index"),
}
# Labels of Ansible's own documentation, which antsibull-docs refers to.
ANSIBLE = "https://docs.ansible.com/ansible/latest/"
LABELS = {
    "action_plugins": "plugins/action.html",
    "common_return_values": "reference_appendices/common_return_values.html",
}
# The theme shows the contents of a page beside it.
CONTENTS = re.compile(r"^\.\. contents::\n(?: +:.*\n)+", re.MULTILINE)
LABEL = re.compile(
    r":ref:`(?P<text>[^`<]+) <(?P<label>" + "|".join(LABELS) + r"|ansible_collections\.ansible\.[a-z_.]+)>`"
)
LINK = re.compile(r"(?<=\]\()(?P<target>[^)\s]+)(?=\))")


def pages(source: Path) -> None:
    """Write all pages below SOURCE."""
    guides = sorted({path.relative_to(ROOT) for pattern in GUIDES for path in ROOT.glob(pattern)})
    for guide in guides:
        text = LINK.sub(
            lambda link, guide=guide: _target(link["target"], guide, guides), (ROOT / guide).read_text("utf-8")
        )
        _write(source / guide, re.sub(r"```console\n", "```text\n", text))
    for place, title in (("roles", "Roles, by example"), ("tests", "Tests and their rigs")):
        listed = [path.relative_to(place).with_suffix("") for path in guides if path.parts[0] == place]
        others = ["../plugins/module_utils/README"] if place == "tests" else []
        _write(source / place / "index.md", f"# {title}\n\n{_tree('', [*map(str, listed), *others], depth=1)}")
    shutil.copy(ROOT / "docs" / "overview.svg", source / "docs")
    (source / "reference" / "environment_variables.rst").unlink()  # There are none.
    static = source / "static"
    static.mkdir()
    shutil.copy(ROOT / ".config" / "sphinx" / "wide.css", static)
    shutil.copy(ROOT / ".config" / "sphinx" / "conf.py", source)
    for signature in SIGNATURES:
        _write(source / "failures" / f"{signature.id}.md", failure(signature))
    _write(source / "failures" / "index.md", failures())
    for page in (source / "reference").glob("*.rst"):
        _write(page, LABEL.sub(_of_ansible, CONTENTS.sub("", page.read_text("utf-8"))))
    _link_failures(source / "docs" / "diagnosis.md")
    index = source / "docs" / "index.md"
    trees = [_tree(caption, names) for caption, names in TREE.items()]
    _write(index, index.read_text("utf-8") + "\n" + "\n".join(trees))


def _target(target: str, guide: Path, guides: t.Sequence[Path]) -> str:
    """A link of a guide, within the site where its page is there, else to the repository."""
    if target.startswith("#"):
        return target
    address, _hash, anchor = target.partition("#")
    kept = f"#{anchor}" if anchor else ""
    ours = re.match(rf"{REPOSITORY}/(?:blob|tree)/main/(.*)", address)
    if not ours and urlsplit(address).scheme:
        return target
    path = Path(ours[1]) if ours else Path(_plain(guide.parent / address))
    page = next((one for one in (path, path / "README.md") if one in guides), None)
    if page:
        return "/" + page.as_posix() + kept
    if path.suffix == ".svg":
        return target
    if not (ROOT / path).exists():
        raise SystemExit(f"{guide} links to {target}, which does not exist.")
    return f"{REPOSITORY}/{'tree' if (ROOT / path).is_dir() else 'blob'}/main/{path.as_posix()}{kept}"


def _of_ansible(link: re.Match[str]) -> str:
    place = (
        LABELS.get(link["label"])
        or link["label"].replace("ansible_collections", "collections").replace(".", "/") + ".html"
    )
    return f"`{link['text']} <{ANSIBLE}{place}>`__"


def _plain(path: Path) -> str:
    return str((ROOT / path).resolve().relative_to(ROOT))


def _tree(caption: str, names: t.Sequence[str], depth: int = 0) -> str:
    options = f":caption: {caption}\n:hidden:\n" if caption else ""
    options += f":maxdepth: {depth}\n" if depth else ""
    return f"```{{toctree}}\n{options}\n" + "\n".join(names) + "\n```\n"


def failure(signature: Signature) -> str:
    """The page of a failure."""
    version, line = SAMPLES[signature.id][0]
    found = Found({"env": "VLLM_USE_V1"})
    if signature.kind == "warn":
        cause, remedy, evidence = say(signature.cause, found), say(signature.remedy, found), line
    else:
        seen = diagnose(line)
        cause, remedy, evidence = seen.cause, seen.remedy, seen.evidence or line
    shown = "\n".join(part for row in evidence.splitlines() for part in textwrap.wrap(row, 110) or [""])
    others = sorted({version for version, _line in SAMPLES[signature.id]})
    entry = json.dumps({"causes": [signature.id], "change": {"engine": {}}})
    after = f"""
## Use it in a playbook

`vllm_health` and `vllm_diagnose` return this id as `diagnosis.id`, `vllm_server_result` as `reason`. To try other
settings after this failure, add a [fallback](/docs/user_guide.md#fallbacks): `{entry}`.
"""
    return f"""# {signature.id}

{KINDS[signature.kind]}

## Cause

{_escaped(cause)}

## Remedy

{_escaped(remedy)}

Numbers and names are those of the example; the message that you get has those of your server.

## In the log

```text
{shown}
```

Known spellings: {_escaped(", ".join(others))}. The same start may succeed another time: {RETRY[signature.retryable]}.
{after if signature.kind != "warn" else ""}"""


def failures() -> str:
    """The list of all failures, by kind."""
    lines = ["# Failures", "", "Each failure that a log shows has an id. [How a cause is found](/docs/diagnosis.md)."]
    for kind, heading in (("root", "Causes"), ("symptom", "Symptoms"), ("warn", "Notes")):
        of_kind = [one for one in SIGNATURES if one.kind == kind]
        lines += ["", f"## {heading}", "", *_rows(of_kind)]
    names = sorted(one.id for one in SIGNATURES)
    return "\n".join(lines) + "\n\n" + _tree("", names).replace("```{toctree}\n", "```{toctree}\n:hidden:\n")


def _rows(signatures: t.Iterable[Signature]) -> t.Iterator[str]:
    for one in signatures:
        line = SAMPLES[one.id][0][1]
        cause = diagnose(line).cause if one.kind != "warn" else say(one.cause, Found({"env": "VLLM_USE_V1"}))
        yield f"* [{one.id}]({one.id}.md): {_escaped(cause)}"


def _link_failures(page: Path) -> None:
    text = re.sub(
        r"(?m)^\| `([a-z0-9-]+)` (?=\| (?:cause|symptom|note) \|)", r"| [\1](/failures/\1.md) ", page.read_text("utf-8")
    )
    _write(page, text)


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>|$~])", r"\\\1", text)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------


class _Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.add(value)


def broken(html: Path) -> list[str]:
    """The links within the site that lead nowhere, each with its page."""
    read = {path.resolve(): _Page(path) for path in html.rglob("*.html")}
    bad = []
    for path, page in read.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in read and anchor not in read[target].anchors):
                bad.append(f"{path.relative_to(html.resolve())}: {link}")
    return bad


def main() -> None:
    action, place = sys.argv[1:]
    if action == "pages":
        pages(Path(place))
        return
    bad = broken(Path(place))
    print("\n".join(bad) or "Every link within the site leads somewhere.")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
