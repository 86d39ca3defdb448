# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report of a diagnosis: no line of a log gets out of its fence, and only its owner can read it."""

from __future__ import annotations

import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

PLAYBOOKS = Path(__file__).parents[3] / "playbooks"
RESULT: dict[str, t.Any] = {
    "diagnosis": {"id": "unknown", "cause": "c", "remedy": "r", "evidence": "e"},
    "state": {"running": False, "exit_status": 1, "oom_killed": False, "restarts": 0, "stopped": []},
    "phase": "load",
    "phases": [],
    "versions": {"vllm": "0.26.0"},
    "server": {"spec": None},
    "log": [],
    "__diagnose_server": {"container": "vllm-a"},
}


def rendered(log: list[str], **diagnosis: str) -> str:
    loader = DataLoader()
    loader.set_basedir(str(PLAYBOOKS))
    result = {**RESULT, "log": log, "diagnosis": {**RESULT["diagnosis"], **diagnosis}}
    variables = {
        "inventory_hostname": "gb10",
        "ansible_search_path": [str(PLAYBOOKS)],
        "__diagnose_gathered": {"ansible_facts": {"gpufleet": {"status": "no_driver", "gpus": []}}},
        "__diagnose_found": {"results": [result]},
        "__diagnose_servers": [{"container": "vllm-a"}],
    }
    text = "{{ lookup('ansible.builtin.template', 'diagnosis_report.md.j2') }}"
    return str(Templar(loader=loader, variables=variables).template(_trusted(text)))


def _trusted(text: str) -> t.Any:
    """ansible-core 2.19 only renders what somebody vouches for."""
    try:
        from ansible.template import trust_as_template
    except ImportError:
        return text
    return trust_as_template(text)


def outside(report: str) -> str:
    """What is in no fence."""
    shown, fence = [], ""
    for line in report.splitlines():
        ticks = line[: len(line) - len(line.lstrip("`"))]
        if fence:
            fence = "" if line.rstrip() == fence else fence
        elif len(ticks) >= 3:
            fence = ticks
        else:
            shown.append(line)
    assert not fence
    return "\n".join(shown)


@pytest.mark.parametrize("line", ["plain", "```", "````", "``````", "```` text", "~~~"])
def test_no_line_of_a_log_gets_out_of_its_fence(line: str) -> None:
    report = rendered([line, "INJECTED", line], evidence=f"{line}\nINJECTED", cause=f"INJECTED {line}")
    assert report.count("INJECTED") >= 4
    assert "INJECTED" not in outside(report)
    assert "## vllm-a" in outside(report)


def test_only_its_owner_reads_a_bundle_which_has_the_reports_of_this_run() -> None:
    (play,) = yaml.safe_load((PLAYBOOKS / "diagnose.yml").read_text("utf-8"))
    modes = [
        task[module]["mode"]
        for task in play["tasks"]
        for module in ("ansible.builtin.file", "ansible.builtin.template")
        if module in task
    ]
    assert set(modes) == {"0700", "0600"}
    assert "ansible_play_hosts" in play["vars"]["__diagnose_reports"]
