# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(~) is the home of the user whom Ansible connects as, also where a task becomes another."""

from __future__ import annotations

import typing as t

from ansible.plugins.action import ActionBase


def home_of(action: ActionBase) -> str:
    """The home of that user as the host itself looks it up; empty where the module runs as him anyway.

    Only a name that nobody said costs a call.
    """
    if not getattr(action._connection, "become", None):
        return ""
    user = action._get_remote_user()
    return f"~{user}" if user else str(action._remote_expand_user("~", sudoable=False))


def with_home(value: t.Any, home: str) -> t.Any:
    """The value with that home for each C(~) at the start of a text in it."""
    if isinstance(value, t.Mapping):
        return {key: with_home(one, home) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [with_home(one, home) for one in value]
    return home + value[1:] if home and isinstance(value, str) and value.startswith("~/") else value
