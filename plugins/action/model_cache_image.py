# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Has an image on a host in slices, and shows how far it is in between."""

from __future__ import annotations

import typing as t

from ansible_collections.gpufleet.vllm.plugins.action import model_cache
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable


class ActionModule(model_cache.ActionModule):
    """The transfer of an image, shown as that of a model."""

    def subject(self, arguments: t.Mapping[str, t.Any]) -> str:
        return str(printable(arguments.get("image") or "image"))
