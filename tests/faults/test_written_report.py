# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the rows above showed is what docs/reliability.md says."""

from __future__ import annotations

from simulated import HERE, ROOT
from switch import Line

HEAD = HERE / "reliability.head.md"
WRITTEN = ROOT / ".cache/faults/reliability.md"
COLUMNS = Line("step", "fault", "what the user sees", "what serves afterwards", "the next run")


def test_the_documentation_is_what_was_seen(report: dict[str, Line]) -> None:
    WRITTEN.parent.mkdir(parents=True, exist_ok=True)
    table = [str(COLUMNS), "|---|---|---|---|---|", *map(str, report.values())]
    WRITTEN.write_text(HEAD.read_text("utf-8") + "\n".join(table) + "\n", "utf-8")
    documented = ROOT / "docs/reliability.md"
    same = documented.exists() and documented.read_text("utf-8") == WRITTEN.read_text("utf-8")
    assert same, "it differs: look at the change, then cp .cache/faults/reliability.md docs/reliability.md"
