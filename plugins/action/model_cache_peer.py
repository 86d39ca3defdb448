# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the module of the same name, for which C(~) is the home of the user whom Ansible connects as."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.action import vllm_venv


class ActionModule(vllm_venv.ActionModule):
    """One call."""
