# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whose home a path begins with."""

from __future__ import annotations


class ModuleDocFragment:
    """Documentation of modules that have paths on the host."""

    DOCUMENTATION = r"""
options: {}
notes:
  - A C(~/) at the start of a path is the home of the user whom Ansible connects as, also with C(become), as it is for
    the servers of this collection.
"""
