# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What playbooks rollout and status leave in the variables of their hosts, as values."""

from __future__ import annotations

import shlex
import typing as t

from ansible_collections.gpufleet.vllm.plugins.plugin_utils._description import known_class
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._rollout import Changed, Host, one_line

Variables = t.Mapping[str, t.Any]

# The variables of a host, by what they hold.
PLANNED, REFUSAL, DONE, FAILURE = "__rollout_planned", "__rollout_refusal", "__rollout_done", "__rollout_failure"
SOAK, NOW, COMMITTED = "__rollout_soak", "__rollout_now", "__rollout_committed"
UNDONE, UNDO_FAILURE, PACKED = "__rollout_undone", "__rollout_undo_failure", "__rollout_packed"


def value(variables: Variables, name: str) -> t.Any:
    """A variable as an ordinary value; an empty mapping where it is not set."""
    return plain(variables[name]) if name in variables else {}


def host(name: str, variables: Variables, planned: str = PLANNED, failure: str = REFUSAL) -> Host:
    """A host before the first change; C(planned) and C(failure) are the variables with what was found."""
    known = {"group_names": variables.get("group_names"), "ansible_facts": variables.get("ansible_facts")}
    return Host(
        name,
        known_class(str(variables.get("vllm_hardware_class") or ""), known),
        tuple(str(one) for one in variables.get("group_names") or ()),
        value(variables, planned),
        one_line(value(variables, failure)) if failure in variables else "",
    )


def changed(variables: Variables) -> Changed:
    """A host after its wave."""
    failure = task_failure(value(variables, FAILURE)) if FAILURE in variables else ""
    seen = (value(variables, name) for name in (SOAK, NOW, COMMITTED))
    return Changed(value(variables, DONE), failure, *seen)


def undone(variables: Variables) -> dict[str, t.Any]:
    """What putting a host back came to, with what failed before and after its role; empty where nobody did."""
    result: dict[str, t.Any] = dict(value(variables, UNDONE))
    if UNDO_FAILURE not in variables or result.get("failed"):
        return result
    failure = task_failure(value(variables, UNDO_FAILURE))
    if not result:
        return {"failed": True, "message": f"It was not restored, since the drain failed: {failure}"}
    return {**result, "failed": True, "message": f"{result.get('message')} It was not undrained: {failure}"}


def task_failure(result: t.Mapping[str, t.Any]) -> str:
    """Why a task failed, in a sentence; of a command, what it ended with and said last."""
    said = one_line(result.get("msg") or result.get("reason")) or "Its change failed."
    if "cmd" not in result or "rc" not in result:
        return said
    command = result["cmd"] if isinstance(result["cmd"], str) else shlex.join(map(str, result["cmd"]))
    if said.startswith("Error executing command"):
        return f"{command} could not be run on the controller. Check its path, and whether it may be executed."
    lines = f"{result.get('stdout') or ''}\n{result.get('stderr') or ''}".split("\n")
    last = next((one_line(line) for line in reversed(lines) if line.strip()), "")
    return f"{command} ended with exit status {result['rc']}{f': {last}' if last else '.'}"


def learned(variables: Variables) -> dict[str, t.Any]:
    """What the start of a host measured, as its commit tells."""
    return dict(value(variables, COMMITTED).get("learned") or {})


def packed(name: str, variables: Variables) -> dict[str, t.Any]:
    """The compile caches that a host has packed, or why it has not."""
    return {"host": name, **value(variables, PACKED)}
