# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two files of a trainer on its host: written when they differ, and removed only when we wrote them."""

from __future__ import annotations

import os
import typing as t

from .._errors import VllmError
from .._host import files
from . import environment

Params = t.Mapping[str, t.Any]
STATES = ("present", "absent")
PARAMETERS: dict[str, dict[str, t.Any]] = {
    "path": {"type": "path", "required": True},
    "environment": {"type": "dict", "default": {}},
    "venv": {"type": "path"},
    "state": {"type": "str", "choices": list(STATES), "default": "present"},
}
REQUIRED_IF = [("state", "present", ["environment", "venv"])]
MODE = 0o644


def run(params: Params, check_mode: bool) -> dict[str, t.Any]:
    """Write or remove the files, unless this is check mode.

    Raises:
        VllmError: for a path that cannot be, a file of somebody else's, or one that cannot be written.
    """
    directory = os.path.normpath(params["path"])
    if not os.path.isabs(directory) or directory == "/":
        raise VllmError(
            f"path must be an absolute path of a directory for the trainer's files; got {params['path']!r}."
        )
    wanted = _wanted(params, directory)
    before = {path: _ours(path) for path in wanted}
    changed = [path for path, text in wanted.items() if before[path] != text]
    if not check_mode:
        for path in changed:
            _apply(path, wanted[path])
    verb = "write" if params["state"] == "present" else "remove"
    return {
        "changed": bool(changed),
        "actions": [f"{verb} {path}" for path in changed],
        "environment_file": os.path.join(directory, environment.ENVIRONMENT_FILE),
        "profile": os.path.join(directory, environment.PROFILE),
        "diff": [
            {"before_header": path, "after_header": path, "before": before[path] or "", "after": wanted[path] or ""}
            for path in changed
        ],
    }


def _wanted(params: Params, directory: str) -> dict[str, str | None]:
    """What each file holds; None where it is to be gone."""
    names = (environment.ENVIRONMENT_FILE, environment.PROFILE)
    first, second = (os.path.join(directory, name) for name in names)
    if params["state"] == "absent":
        return {first: None, second: None}
    values = {str(name): str(value) for name, value in params["environment"].items()}
    return {
        first: environment.environment_text(values),
        second: environment.profile_text(values, params["venv"], second),
    }


def _ours(path: str) -> str | None:
    """What a file holds that we wrote; None where there is none."""
    if not os.path.lexists(path):
        return None
    text = files.read_text(path)
    if os.path.islink(path) or not text.startswith(environment.MARK):
        raise VllmError(
            f"{path} was not written by this collection, so it was not touched. Move it away, or choose another "
            "directory.",
            "unmanaged",
        )
    return text


def _apply(path: str, text: str | None) -> None:
    if text is None:
        files.delete_file(path)
        return
    try:
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        files.write_whole(path, text.encode(), MODE)
    except OSError as error:
        way = "Choose another directory, or run with become: true."
        raise files.failure(f"write {path}", error, way) from None
