# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Waits for a server in slices, and shows how far it is in between."""

from __future__ import annotations

import functools
import typing as t

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.phases import line, step, summary
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._progress import SlicedAction, Words


class ActionModule(SlicedAction):
    """The wait for a server."""

    def words(self) -> Words:
        is_cold = boolean(self._task.args.get("cold_start") or False, strict=False)
        told = functools.partial(line, is_cold=is_cold)
        return Words(told, step, lambda name, seen: summary(name, seen) if seen.get("healthy") else "")

    def arguments(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        arguments = super().arguments(task_vars)
        facts = (task_vars.get("ansible_facts") or {}).get("gpufleet")
        if facts and "gpu_facts" not in arguments:
            arguments["gpu_facts"] = facts
        return arguments

    def subject(self, arguments: t.Mapping[str, t.Any]) -> str:
        names = arguments.get("served_model_name")
        model = names[0] if isinstance(names, list) and names else names
        served = arguments.get("container") or arguments.get("unit") or model or "server"
        return str(printable(served))
