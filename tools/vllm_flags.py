# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Teach the collection a vLLM release: read its sources, print what changed, keep it in module_utils/_vllm/flags.py.

    python tools/vllm_flags.py delta 0.34.0            what it changes against the release before it
    python tools/vllm_flags.py add 0.34.0              the same, and write it down; then run tools/docs.py, and give
                                                       a flag that went a row in module_utils/_vllm/advice.py
    python tools/vllm_flags.py add 0.15.1 --from FILE  from a source archive or a wheel on disk

The source distribution is fetched from the package index that pip is configured for. None of its code is run.
"""

from __future__ import annotations

import argparse
import html.parser
import io
import re
import subprocess
import sys
import tarfile
import textwrap
import typing as t
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "plugins")]

from module_utils._vllm import versions as vllm_versions  # noqa: E402
from vllm_source import Flag, has_inverse_pairs, load, read_environment, read_flags  # noqa: E402

CACHE = ROOT / ".cache" / "vllm-sources"
TABLE = ROOT / "plugins" / "module_utils" / "_vllm" / "flags.py"
STANDIN = ROOT / "tests" / "rig" / "hosts" / "standin" / "usr" / "local" / "share" / "vllm" / "flags.tsv"

# Where a range of versions has no end yet.
OPEN_END = re.compile(r"\.\.(?=,|$)")

# The table as this tool works on it: facts about a flag (a token of the encoding) by the versions that have them.
Facts = dict[str, set[str]]
WIDTH = 118
# The first letters of words that are no choices, in the order in which they are written.
MARKS = ":-=?!"


# ---------------------------------------------------------------------------------------------------------------------
# Fetching
# ---------------------------------------------------------------------------------------------------------------------


class _Links(html.parser.HTMLParser):
    """The files on a project's page of a package index: name to address."""

    def __init__(self, base: str) -> None:
        super().__init__()
        self.base = base
        self.files: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get("href") if tag == "a" else None
        if address:
            whole = urllib.parse.urljoin(self.base, address.partition("#")[0])
            self.files[urllib.parse.unquote(whole.rsplit("/", 1)[-1])] = whole


def index_url() -> str:
    """The package index that pip uses here."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "get", "global.index-url"], capture_output=True, text=True, check=False
    )
    if told.returncode == 0 and told.stdout.strip():
        return told.stdout.strip()
    from pip._internal.models.index import PyPI  # pip's own default, wherever that is

    return str(PyPI.simple_url)


def fetch(version: str) -> Path:
    """The sources of a release, from the cache or from the index."""
    target = CACHE / version
    if not target.is_dir():
        page = f"{index_url().rstrip('/')}/vllm/"
        links = _Links(page)
        links.feed(_get(page).decode("utf-8"))
        name = f"vllm-{version}.tar.gz"
        if name not in links.files:
            raise SystemExit(f"{name} is not on {page}. Give a wheel or an archive of it with --from.")
        print(f"Fetching {name} ...", file=sys.stderr)
        unpack(_get(links.files[name]), target)
    return target


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=300) as response:
        return t.cast(bytes, response.read())


def unpack(archive: bytes, target: Path) -> Path:
    """Write the Python files of the package vllm below C(target), whole or not at all."""
    partial = target.with_name(target.name + ".partial")
    for name, content in _members(archive):
        parts = Path(name).parts
        parts = parts[parts.index("vllm") :] if "vllm" in parts[:2] else ()
        if parts and name.endswith(".py") and ".." not in parts:
            path = partial.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    if not (partial / "vllm" / "envs.py").exists():
        raise SystemExit("The archive does not hold the sources of vLLM.")
    return partial.rename(target)


def _members(archive: bytes) -> Iterator[tuple[str, bytes]]:
    if zipfile.is_zipfile(io.BytesIO(archive)):
        with zipfile.ZipFile(io.BytesIO(archive)) as wheel:
            yield from ((name, wheel.read(name)) for name in wheel.namelist() if name.endswith(".py"))
        return
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        for member in source:
            stream = source.extractfile(member) if member.isfile() and member.name.endswith(".py") else None
            if stream:
                yield member.name, stream.read()


# ---------------------------------------------------------------------------------------------------------------------
# The table: facts by version, and their encoding (described in versions.py, which reads it)
# ---------------------------------------------------------------------------------------------------------------------


class Table:
    def __init__(self, versions: list[str], flags: dict[str, Facts], environment: Facts, inverse: set[str]) -> None:
        self.versions = versions
        self.flags = flags
        self.environment = environment
        self.inverse = inverse

    @classmethod
    def read(cls) -> Table:
        from module_utils._vllm import flags as data

        versions = list(data.VERSIONS)
        flags = {}
        for name, text in data.FLAGS.items():
            life, *tokens = text.split()
            facts = {"": _expand(life, versions)}
            for token in tokens:
                word, _at, ranges = token.partition("@")
                facts[word] = _expand(ranges or life, versions)
            flags[name] = facts
        environment = {name: _expand(text, versions) for name, text in data.ENVIRONMENT.items()}
        return cls(versions, flags, environment, _expand(data.INVERSE_PAIRS, versions))

    def add(self, version: str, root: Path) -> None:
        sources = load(root)
        self.forget(version)
        self.versions = sorted({*self.versions, version}, key=vllm_versions.parse)
        for name, flag in read_flags(sources).items():
            facts = self.flags.setdefault(name, {})
            for word in _tokens(flag):
                facts.setdefault(word, set()).add(version)
        for name in read_environment(sources):
            self.environment.setdefault(name, set()).add(version)
        if has_inverse_pairs(sources):
            self.inverse.add(version)

    def forget(self, version: str) -> None:
        for facts in [*self.flags.values(), self.environment]:
            for having in facts.values():
                having.discard(version)
        self.inverse.discard(version)

    def write(self) -> None:
        flags = {name: self._line(facts) for name, facts in sorted(self.flags.items()) if facts.get("")}
        environment = {name: self._ranges(having) for name, having in sorted(self.environment.items()) if having}
        TABLE.write_text(
            HEADER
            + "".join(f"{line}\n" for line in _wrapped(" ".join(self.versions)))
            + '""")\n\n# Releases in which --disable-x is the opposite of --enable-x, and the other way round.\n'
            + f'INVERSE_PAIRS = "{self._ranges(self.inverse)}"\n'
            + _block("FLAGS", flags)
            + _block("ENVIRONMENT", environment),
            encoding="utf-8",
        )
        STANDIN.write_text(self.standin(STANDIN.read_text("utf-8")), "utf-8")

    def standin(self, before: str) -> str:
        """The flags as the stand-in for vLLM reads them, from the first to the last version that has them. Its short
        ones, which the table does not have, stay as they are."""
        head, *lines = before.splitlines()
        short = [line for line in lines if not line.startswith("--")]
        newest = self.versions[-1]
        lives = {name: self._ranges(facts[""]) for name, facts in self.flags.items() if facts.get("")}
        made = [f"--{name.replace('_', '-')}\t{OPEN_END.sub(f'..{newest}', life)}" for name, life in lives.items()]
        return "\n".join([head, *sorted([*made, *short], key=lambda line: line.partition("\t")[0])]) + "\n"

    def _line(self, facts: Facts) -> str:
        life = self._ranges(facts[""])
        words = sorted((word for word in facts if word and facts[word]), key=_order)
        return " ".join([life, *(self._token(word, facts[word], life) for word in words)])

    def _token(self, word: str, having: set[str], life: str) -> str:
        ranges = self._ranges(having)
        return word if ranges == life else f"{word}@{ranges}"

    def _ranges(self, having: set[str]) -> str:
        """Versions as runs of known versions: 0.9.0..0.12.0, and 0.33.0.. up to the newest."""
        runs: list[list[str]] = []
        for before, version in zip([None, *self.versions], self.versions):
            if version in having and before in having:
                runs[-1].append(version)
            elif version in having:
                runs.append([version])
        return ",".join(self._run(run) for run in runs)

    def _run(self, run: list[str]) -> str:
        if run[-1] == self.versions[-1]:
            return f"{run[0]}.."
        return run[0] if len(run) == 1 else f"{run[0]}..{run[-1]}"


def _tokens(flag: Flag) -> Iterator[str]:
    yield ""
    yield f":{flag.kind}"
    yield from (f"-{alias}" for alias in flag.aliases)
    if flag.default is not None:
        yield f"={flag.default}"
    if flag.is_open and flag.choices:
        yield "?"
    if flag.is_deprecated:
        yield "!"
    for choice in flag.choices:
        if not choice or choice[0] in MARKS or set(choice) & set(" @"):
            raise SystemExit(f"The choice {choice!r} needs another encoding.")
        yield choice


def _order(word: str) -> tuple[int, str]:
    return (MARKS.index(word[0]) if word[0] in MARKS else len(MARKS), word)


def _expand(text: str, versions: list[str]) -> set[str]:
    return {version for version in versions if vllm_versions.within(vllm_versions.parse(version), text)}


HEADER = '''# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What `vllm serve` accepts, by version. Written by tools/vllm_flags.py; versions.py says how to read it."""

from __future__ import annotations


def _read(text: str) -> dict[str, str]:
    """One entry a line, its name first; an indented line goes on. One string compiles ten times faster than a dict."""
    return dict(entry.split(" ", 1) for entry in text.strip().replace("\\n  ", " ").splitlines())


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Releases that were read.
VERSIONS = _words("""\\
'''


def _block(name: str, entries: dict[str, str]) -> str:
    lines = [line for key, text in entries.items() for line in _wrapped(f"{key} {text}")]
    body = "\n".join(lines)
    return f'\n{name} = _read("""\\\n{body}\n""")\n'


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


# ---------------------------------------------------------------------------------------------------------------------
# What changed
# ---------------------------------------------------------------------------------------------------------------------


def delta(table: Table, version: str) -> list[str]:
    """What a release of the table changes against the one before it, a line each."""
    earlier = [v for v in table.versions if vllm_versions.parse(v) < vllm_versions.parse(version)]
    if not earlier:
        return [f"vLLM {version} is the oldest release of the table."]
    before = earlier[-1]
    lines = [f"vLLM {version} against {before}"]
    for name, facts in sorted(table.flags.items()):
        lines += _flag_delta(f"--{name.replace('_', '-')}", facts, before, version)
    for name, having in sorted(table.environment.items()):
        if (before in having) != (version in having):
            lines.append(f"{'added  ' if version in having else 'removed'}  {name}")
    return lines


def _flag_delta(flag: str, facts: Facts, before: str, version: str) -> list[str]:
    had, has = before in facts.get("", ()), version in facts.get("", ())
    if had != has:
        kind = next((word[1:] for word in facts if word[:1] == ":" and version in facts[word]), "")
        return [f"added    {flag} ({kind})" if has else f"removed  {flag}"]
    gone = [word for word, having in facts.items() if before in having and version not in having]
    new = [word for word, having in facts.items() if version in having and before not in having]
    said = [*(f"+{_told(w)}" for w in sorted(new, key=_order)), *(f"-{_told(w)}" for w in sorted(gone, key=_order))]
    return [f"changed  {flag}: {' '.join(said)}"] if said else []


def _told(word: str) -> str:
    names = {":": "kind ", "-": "alias -", "=": "default ", "?": "open", "!": "deprecated"}
    return f"[{names[word[0]]}{word[1:]}]" if word[0] in names else word


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["delta", "add"])
    parser.add_argument("versions", nargs="+", metavar="VERSION")
    parser.add_argument("--from", dest="archive", type=Path, help="an archive, wheel or folder of its sources")
    arguments = parser.parse_args()
    table = Table.read()
    for version in arguments.versions:
        root = arguments.archive
        if root is None:
            root = fetch(version)
        elif root.is_file():
            root = CACHE / version if (CACHE / version).is_dir() else unpack(root.read_bytes(), CACHE / version)
        table.add(version, root)
        print("\n".join(delta(table, version)))
    if arguments.command == "add":
        table.write()


if __name__ == "__main__":
    main()
