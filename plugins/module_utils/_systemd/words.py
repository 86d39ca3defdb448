# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How systemd reads words: in commands, in paths, in files of variables. Pure."""

from __future__ import annotations

import re
import typing as t

# For root alone: the environments of servers, a file a unit.
ENVIRONMENTS = "/etc/gpufleet.vllm"
# Each look at a journal begins like this.
JOURNALCTL = ("journalctl", "--no-pager", "--all", "--output=cat")
PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
NAME_OF_A_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ESCAPED = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def _quoted(word: str) -> str:
    if PLAIN.fullmatch(word):
        return word
    inner = "".join(ESCAPED.get(one, one if one.isprintable() else _bytes(one)) for one in word)
    return f'"{inner}"'


def _bytes(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", errors="surrogateescape"))


def exec_line(command: t.Sequence[str], raw: str = "") -> str:
    """Words as a command in a unit, each taken as it stands; C(raw) follows with what systemd is to expand."""
    return " ".join(_quoted(word).replace("%", "%%").replace("$", "$$") for word in command) + raw


def words(entries: t.Iterable[str]) -> str:
    """Words of any other directive."""
    return " ".join(_quoted(entry).replace("%", "%%") for entry in entries)


def path(text: str) -> str:
    """A path, or a text that is the rest of its line."""
    return text.replace("%", "%%")


def environment_file(variables: t.Mapping[str, str]) -> str:
    """Variables as C(EnvironmentFile) reads them."""
    return "".join(f"{key}={_assigned(value)}\n" for key, value in sorted(variables.items()))


def entries(printed: str) -> str:
    """What journalctl printed; nothing where it says that there is nothing."""
    return "" if printed.startswith("-- No entries --") else printed


def number(shown: str | None) -> int:
    """A number as systemctl shows it; 0 for anything else."""
    return int(shown) if shown and shown.isdigit() else 0


def read_environment(text: str) -> dict[str, str]:
    """The variables of such a file."""
    pairs = re.findall(r'^(\w+)="((?:[^"\\]|\\.)*)"$', text, re.MULTILINE)
    return {key: re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for key, value in pairs}


def _assigned(value: str) -> str:
    return '"' + re.sub(r'([\\"`$])', r"\\\1", value) + '"'
