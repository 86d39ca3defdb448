# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A report as one page of HTML that needs nothing else: no script of others, no font, no picture. Pure."""

from __future__ import annotations

import html
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.phases import WORDS
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._report import (
    Column,
    Report,
    Result,
    columns,
    counts,
    details,
    is_bad,
    seconds,
    wave_line,
)

# Of more hosts than that, one looks for some.
FEW = 12
# Colours of the phases, in the order in which they first appear.
PHASES = 8

STYLE = """
:root { color-scheme: light dark; --ground: #fff; --raised: #f5f6f8; --line: #d9dde3; --text: #1a1f27; --quiet: #5b6675;
  --good: #1a7f4b; --bad: #b3261e; --wait: #8a5a00;
  --p0: #3b6fb6; --p1: #2a9d8f; --p2: #c98a1b; --p3: #8a5fb0; --p4: #c0574f; --p5: #6b8e23; --p6: #5f7285;
  --p7: #b0568b; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171c; --raised: #1d2128; --line: #343b46; --text: #e7eaef;
  --quiet: #9aa5b4; --good: #5cc98d; --bad: #ff8a80; --wait: #e5b567;
  --p0: #6f9fe0; --p1: #4fc3b3; --p2: #e2b04a; --p3: #b48ad8; --p4: #e58880; --p5: #9cbf57; --p6: #93a5b8;
  --p7: #d988b8; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 84rem; background: var(--ground); color: var(--text);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .6rem; }
.when, .quiet { color: var(--quiet); } .lead { max-width: 60rem; margin: .8rem 0 1.2rem; }
.counts { display: flex; flex-wrap: wrap; gap: .5rem; padding: 0; margin: 0; list-style: none; }
.counts li { background: var(--raised); border: 1px solid var(--line); border-radius: 6px; padding: .35rem .8rem; }
.counts b { font-size: 1.25rem; margin-right: .35rem; }
.status { font-weight: 600; white-space: nowrap; } .bad { color: var(--bad); } .good { color: var(--good); }
.wait { color: var(--wait); }
.card { border: 1px solid var(--line); border-left: 4px solid var(--bad); border-radius: 6px; padding: .7rem 1rem;
  margin: 0 0 .6rem; background: var(--raised); overflow-wrap: anywhere; }
.card p { margin: .3rem 0; } .card dl { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .9rem;
  margin: .4rem 0 0; }
.card dt { color: var(--quiet); } .card dd { margin: 0; } ol.waves { padding-left: 1.4rem; margin: 0; }
.table { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; }
th, td { text-align: left; padding: .35rem .6rem; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody tr:last-child td { border-bottom: 0; } th { background: var(--raised); color: var(--quiet); font-weight: 600; }
td.number, th.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.what, td.note { min-width: 9rem; overflow-wrap: anywhere; } td.note { min-width: 6.5rem; }
td.short { white-space: nowrap; }
td:first-child { font-weight: 600; }
.bar { display: flex; height: .8rem; min-width: 8rem; border-radius: 3px; overflow: hidden; margin-top: .3rem; }
.bar i { display: block; } .legend { display: flex; flex-wrap: wrap; gap: .3rem 1rem; padding: 0; margin: 0 0 .6rem;
  list-style: none; font-size: .85rem; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; margin-right: .35rem;
  vertical-align: -.08rem; }
input { font: inherit; color: inherit; background: var(--ground); border: 1px solid var(--line); border-radius: 6px;
  padding: .3rem .6rem; width: 18rem; max-width: 100%; margin: 0 0 .6rem; }
@media (max-width: 40rem) { body { padding: 1rem; } .card dl { grid-template-columns: 1fr; } }
"""
# Without it the page shows all that it shows with it.
SCRIPT = """
const find = document.getElementById('find');
find.hidden = false;
find.oninput = () => document.querySelectorAll('tbody tr').forEach(row => {
  row.hidden = !row.textContent.toLowerCase().includes(find.value.toLowerCase());
});
"""
# The class of a column's cells; the rest has none.
KINDS = {
    **dict.fromkeys(("before", "serves", "GPUs"), "what"),
    **dict.fromkeys(("fallback", "measured on", "caches of"), "note"),
    **dict.fromkeys(("start", "downtime", "tokens/s"), "number"),
    **dict.fromkeys(("host", "wave", "since"), "short"),
}
GOOD = ("changed", "unchanged", "serving")


def page(found: Report) -> str:
    """The report as a page."""
    rows = found["rows"]
    bad = [row for row in rows if is_bad(row)]
    colours, shown = _colours(rows), columns(rows)
    longest = max((sum(phase["seconds"] for phase in row["phases"]) for row in rows), default=0) or 1
    title = _text(found["title"])
    body = [
        f'<h1>{title}</h1><div class="when">{_text(found["when"])}</div>',
        f'<p class="lead">{_text(found["message"])}</p>',
        f'<ul class="counts">{"".join(_count(*one) for one in counts(found).items())}</ul>',
        *(["<h2>Needs attention</h2>", *map(_card, bad)] if bad else []),
        *(["<h2>Waves</h2>", _waves(found["waves"])] if found["waves"] else []),
        f"<h2>Hosts</h2>{_find(rows)}{_legend(colours)}",
        '<div class="table"><table><thead><tr>',
        "".join(f'<th class="{KINDS.get(name, "")}">{_text(name)}</th>' for name, _of in shown),
        "</tr></thead><tbody>",
        *(_row(row, shown, colours, longest) for row in rows),
        "</tbody></table></div>",
    ]
    script = f"<script>{SCRIPT}</script>" if len(rows) > FEW else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{STYLE}</style></head>\n<body>{chr(10).join(body)}\n{script}</body></html>\n"
    )


def _text(value: t.Any) -> str:
    return html.escape(str(value if value is not None else ""))


def _tone(status: str, needs_attention: bool) -> str:
    return "bad" if needs_attention else "good" if status in GOOD else "wait"


def _count(status: str, number: int) -> str:
    tone = _tone(status, is_bad({"status": status}))
    return f'<li><b class="{tone}">{number}</b>{_text(status)}</li>'


def _card(row: Result) -> str:
    where = f' <span class="quiet">{_text(row["hardware_class"])} {_text(row["wave"])}</span>'
    facts = "".join(f"<dt>{_text(name)}</dt><dd>{_text(text)}</dd>" for name, text in details(row))
    return (
        f'<div class="card"><b>{_text(row["host"])}</b> <span class="status bad">{_text(row["status"])}</span>{where}'
        f"<p>{_text(row['message'])}</p>{f'<dl>{facts}</dl>' if facts else ''}</div>"
    )


def _waves(waves: t.Sequence[Result]) -> str:
    return f'<ol class="waves">{"".join(f"<li>{_text(wave_line(wave))}</li>" for wave in waves)}</ol>'


def _find(rows: t.Sequence[Result]) -> str:
    return '<input id="find" placeholder="Find a host, a class, a status" hidden>' if len(rows) > FEW else ""


def _colours(rows: t.Sequence[Result]) -> dict[str, str]:
    names = dict.fromkeys(phase["name"] for row in rows for phase in row["phases"])
    return {name: f"var(--p{number % PHASES})" for number, name in enumerate(names)}


def _phase(name: str) -> str:
    """A phase as the wait for a server calls it."""
    return _text(WORDS.get(name, name))


def _legend(colours: t.Mapping[str, str]) -> str:
    entries = "".join(f'<li><i style="background:{colour}"></i>{_phase(name)}</li>' for name, colour in colours.items())
    return f'<ul class="legend">{entries}</ul>' if entries else ""


def _row(row: Result, shown: t.Sequence[Column], colours: t.Mapping[str, str], longest: float) -> str:
    special = {
        "status": f'<span class="status {_tone(row["status"], is_bad(row))}">{_text(row["status"])}</span>',
        "start": _text(seconds(row["start_seconds"])) + _bar(row["phases"], colours, longest),
    }
    cells = (f'<td class="{KINDS.get(name, "")}">{special.get(name) or _text(text(row))}</td>' for name, text in shown)
    return f"<tr>{''.join(cells)}</tr>"


def _bar(phases: t.Sequence[Result], colours: t.Mapping[str, str], longest: float) -> str:
    """The phases of a start, all bars of the page at one scale."""
    parts = "".join(
        f'<i style="background:{colours[one["name"]]};width:{100 * one["seconds"] / longest:.1f}%" '
        f'title="{_phase(one["name"])}: {one["seconds"]:.0f} s"></i>'
        for one in phases
    )
    return f'<div class="bar">{parts}</div>' if parts else ""
