# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Takes out of every text that people will see what a terminal would obey."""

from __future__ import annotations

import re
import typing as t
import unicodedata

# Whole sequences: CSI, the strings (OSC, DCS, SOS, PM, APC) up to their end, and what is one character long.
ESCAPES = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ "
    "-/]*[@-~]|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?|\x1b[ -/]*[0-~]"
)


def printable(value: t.Any) -> t.Any:
    """The value, or a structure of values, with nothing in its texts but what can be printed, line ends and tabs."""
    try:
        return _printable_any(value)
    except RecursionError:
        return "(nested too deeply)"


def _printable_any(value: t.Any) -> t.Any:
    if isinstance(value, str):
        return value if value.isprintable() else _printable(value)
    if isinstance(value, t.Mapping):
        return {_printable_any(key): _printable_any(element) for key, element in value.items()}
    if isinstance(value, (list, tuple)):
        return [_printable_any(element) for element in value]
    return value


def _printable(text: str) -> str:
    plain = ESCAPES.sub("", text).replace("\r\n", "\n")
    return plain if plain.isprintable() else "".join(map(_shown, plain))


def _shown(character: str) -> str:
    if character.isprintable() or character in "\n\t":
        return character
    # Blanks of other widths are blanks; what has no width (a joiner, a mark of direction) shows nothing.
    kind = unicodedata.category(character)
    return " " if kind == "Zs" else "" if kind == "Cf" else character.encode("unicode_escape").decode("ascii")
