# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way from wanted encodings to intact files on the host: observe, plan, refuse, apply."""

from __future__ import annotations

import contextlib
import os
import typing as t

from .._host import download
from .._vllm import encodings

Params = t.Mapping[str, t.Any]


class Give(t.Protocol):
    """Sets owner, group, mode and security context of a path, at the place where it is now; tells whether it had to."""

    def __call__(self, path: str, now_at: str, diff: dict[str, t.Any] | None, **changes: str) -> bool: ...


def run(params: Params, check_mode: bool, give: Give) -> dict[str, t.Any]:
    """Observe, plan, and apply unless this is check mode or the files are yet to come from the controller.

    Raises:
        VllmError: when the files cannot be had or written.
    """
    wanted = encodings.named(params["encodings"])
    findings = encodings.observe(params["directory"], wanted)
    plan = encodings.plan(params["directory"], wanted, findings)
    _refuse(params, plan)
    sources = {encoding.name: _source_of(params, encoding) for encoding in plan.install}
    names = {name: source.name for name, source in sources.items()}
    result = encodings.described(params["directory"], wanted, findings, plan, names)
    if not check_mode:
        if plan.install and params["controller_dir"] and not params["src"]:
            return result
        _apply(params, plan, sources, give)
    _correct((entry["path"] for entry in result["encodings"] if entry["source"] == "present"), result, give)
    return {**result, "changed": bool(result["actions"])}


def _source_of(params: Params, encoding: encodings.Encoding) -> download.Source:
    """Where the file of an encoding comes from."""
    if params["src"]:
        path = encoding.path(params["src"])
        # What the controller sent is known to the user by its place there.
        return download.FileSource(path, encoding.path(params["controller_dir"]) if params["controller_dir"] else path)
    if params["controller_dir"]:
        return download.FileSource(encoding.path(params["controller_dir"]))
    url = f"{params['url'].rstrip('/')}/{encoding.file_name}"
    return download.HttpSource(download.checked_url(url), params["timeout"], params["validate_certs"])


def _refuse(params: Params, plan: encodings.Plan) -> None:
    """Find out before anything is done what would end it halfway."""
    encodings.check_room(params["directory"], plan.install)
    encodings.check_owner(params["owner"], params["group"])
    if params["src"]:
        encodings.check_source(params["src"], plan.install)


def _apply(params: Params, plan: encodings.Plan, sources: t.Mapping[str, download.Source], give: Give) -> None:
    """Do what the plan says."""
    for directory in plan.directories:
        with download.on_disk(f"create the directory {directory}"), contextlib.suppress(FileExistsError):
            os.mkdir(directory)
        give(directory, "", None, mode="0755")
    for encoding in plan.install:
        path = encoding.path(params["directory"])
        download.install(
            sources[encoding.name],
            download.Expected(encoding.size, encoding.sha256),
            path,
            encodings.partial_path(path),
            finish=_giver(give, path),
            manner=download.Manner(attempts=params["attempts"]),
        )
    for leftover in plan.leftovers:
        download.remove_leftover(leftover)


def _correct(paths: t.Iterable[str], result: dict[str, t.Any], give: Give) -> None:
    """Set owner and mode of what was intact already; in check mode, this only looks."""
    for path in paths:
        diff: dict[str, t.Any] = {"before": {}, "after": {}}
        if give(path, "", diff):
            result["actions"].append(f"set owner, group and mode of {path}")
            for side in ("before", "after"):
                result["diff"][side][path] = {name: diff[side][name] for name in diff[side] if name != "path"}


def _giver(give: Give, path: str) -> t.Callable[[str], object]:
    """Give the file its owner and mode before it appears at its path."""
    return lambda partial: give(path, partial, None)
