# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fetches a model in slices, and shows how far it is in between."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._models.progress import line, step, summary
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._home import home_of, with_home
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._progress import SlicedAction, Words


class ActionModule(SlicedAction):
    """The transfer of a model."""

    def words(self) -> Words:
        return Words(line, step, summary)

    def arguments(self, task_vars: dict[str, t.Any]) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", with_home(super().arguments(task_vars), home_of(self)))

    def subject(self, arguments: t.Mapping[str, t.Any]) -> str:
        return str(printable(arguments.get("model") or "model"))
