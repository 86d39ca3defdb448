# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the cases above showed is what docs/reliability.md says."""

from __future__ import annotations

import typing as t

from simulated import HERE, ROOT
from switch import ACROSS, BY_CONTAINER, BY_SERVICE, Case, Line, Playable, Ways
from test_a_switch import ROWS, ROWS_ACROSS
from test_other_faults import PROMISES

HEAD = HERE / "reliability.head.md"
WRITTEN = ROOT / ".cache/faults/reliability.md"
# Of a case that no run has reached since the last one of all.
UNSEEN = "(not run yet)"
ACROSS_HEAD = """
## Where one replaces the other

The same server, which a service is to run instead of a container, or the other way round.

"""
# What comes after it is written by tests/fleet.
ROLLOUTS = "\n## A rollout over twelve hosts\n"


def table(rows: t.Iterable[Playable], ways: tuple[Ways, Ways], report: dict[str, Line]) -> str:
    lines = [f"| step | fault | {ways[0]} | {ways[1]} |", "|---|---|---|---|"]
    for row in rows:
        step, _colon, fault = row.name.rpartition(": ")
        fault = fault.replace(" - and back", "")
        cells = [str(report.get(Case(row, one).name, UNSEEN)) if one in row.on else "-" for one in ways]
        lines.append(f"| {step} | {fault} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def test_the_documentation_is_what_was_seen(report: dict[str, Line]) -> None:
    WRITTEN.parent.mkdir(parents=True, exist_ok=True)
    both = table([*ROWS, *PROMISES], (BY_CONTAINER, BY_SERVICE), report)
    across = table(ROWS_ACROSS, ACROSS, report)
    documented = (ROOT / "docs/reliability.md").read_text("utf-8")
    rollouts = documented[documented.index(ROLLOUTS) :]
    WRITTEN.write_text(HEAD.read_text("utf-8") + both + ACROSS_HEAD + across + rollouts, "utf-8")
    same = documented == WRITTEN.read_text("utf-8")
    assert same, "it differs: look at the change, then cp .cache/faults/reliability.md docs/reliability.md"
