# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a row of the table of failures is made: what finds it in a log, and the words for it. Pure.

A row is found by its pattern in the log without prefixes (see diagnosis.py). Cause and remedy are texts with the
pattern's groups in braces, or functions of what was found where a number has to be worked out.
"""

from __future__ import annotations

import re
import typing as t
from dataclasses import dataclass, field

# root     what has to be changed
# symptom  what follows from a root cause, or the most that can be known without one
# warn     no failure at all, worth a note
Kind = t.Literal["root", "symptom", "warn"]


@dataclass(frozen=True)
class Found:
    """A signature in a log: the groups of its pattern, the settings the server printed, and what the GPUs are."""

    groups: t.Mapping[str, str] = field(default_factory=dict)
    settings: t.Callable[[str], str | None] = lambda name: None
    facts: t.Mapping[str, t.Any] = field(default_factory=dict)
    text: str = ""

    def number(self, name: str) -> float | None:
        """A group as a number, where it is one."""
        try:
            return float(self.groups[name].replace(",", ""))
        except (KeyError, ValueError):
            return None

    def __getitem__(self, name: str) -> str:
        return self.groups.get(name, "?")

    def __contains__(self, name: str) -> bool:
        return name in self.groups


Text = t.Union[str, t.Callable[[Found], str]]


@dataclass(frozen=True)
class Signature:
    """A row: how a failure is recognized, and what it means."""

    id: str
    # Literals between bars, of which each text that matches holds one: to look for them first makes a large log quick.
    literals: str
    # Groups whose names differ in a number at the end are spellings of one: what and what2 are both found as what.
    pattern: str
    cause: Text
    remedy: Text
    # Whether the same start may succeed another time without a change; None when that is not known.
    retryable: bool | None = False
    kind: Kind = "root"
    # For a root: a server that still runs will not get over it. For a symptom: the server is going down.
    final: bool = True
    # Matters while the server lives and serves, too: what a request runs into otherwise is that request's business.
    serving: bool = False
    # Ids that this one tells more exactly, when both are found.
    narrows: tuple[str, ...] = ()
    # Says of what kind a failure is and no more: any other cause is nearer to the root.
    general: bool = False
    # Told in a warning, too: then a cause where the server failed of nothing that another row knows.
    warned: bool = False

    def regex(self) -> re.Pattern[str]:
        """The pattern, compiled; at its first use, since a start that goes well needs none."""
        return re.compile(self.pattern, re.MULTILINE)


def say(text: Text, found: Found) -> str:
    """A cause or remedy for what was found."""
    return text(found) if callable(text) else text.format_map(_Groups(found))


class _Groups(dict[str, str]):
    def __init__(self, found: Found) -> None:
        super().__init__(found.groups)

    def __missing__(self, key: str) -> str:
        return "?"


# ---------------------------------------------------------------------------------------------------------------------


def of(found: Found, name: str) -> str:
    """A group in parentheses, where there is one."""
    return f" ({found[name]})" if name in found else ""


def from_setting(found: Found, setting: str) -> str:
    """The value that the server printed for a setting at its start, where it did."""
    value = found.settings(setting)
    return f" from {value}" if value else ""


def gpus_of(facts: t.Mapping[str, t.Any]) -> list[t.Mapping[str, t.Any]]:
    """The GPUs that C(gpu_facts) saw."""
    gpus = facts.get("gpus")
    return [gpu for gpu in gpus if isinstance(gpu, dict)] if isinstance(gpus, list) else []


# What a pane of a terminal leaves at both ends of a line.
PANE = " \t\u2502\u2503|"
HIGHER_ABOVE = "The first error above it in the log is the cause."
