# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the module; with controller_dir, send it the files that the host lacks and run it again."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import Reason, VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm import encodings
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._home import home_of, with_home

MODULE = "gpufleet.vllm.tiktoken_encodings"


def failure(message: str, reason: Reason) -> AnsibleActionFail:
    """A failure as the module itself returns one."""
    return AnsibleActionFail(printable(message), result={"reason": reason})


class ActionModule(ActionBase):
    """A host that has everything costs one run of the module."""

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        super().run(tmp, task_vars)
        arguments = with_home(dict(self._task.args), home_of(self))
        directory = arguments.get("controller_dir")
        if directory and arguments.get("src"):
            raise failure("controller_dir and src are mutually exclusive: name one source.", "invalid-parameter")
        if directory:
            # Of the controller, which has homes of its own.
            arguments["controller_dir"] = directory = self._loader.path_dwim(self._task.args["controller_dir"])
        result = self._module(arguments, task_vars)
        if not directory or result.get("failed") or not result.get("needed"):
            return result
        self._verify(directory, result["needed"])
        if self._task.check_mode:
            return result
        sent = self._send(directory, result["needed"])
        return self._module({**arguments, "src": sent}, task_vars)

    def _module(self, arguments: dict[str, t.Any], task_vars: dict[str, t.Any] | None) -> dict[str, t.Any]:
        result: dict[str, t.Any] = self._execute_module(module_name=MODULE, module_args=arguments, task_vars=task_vars)
        return t.cast("dict[str, t.Any]", printable(result))

    def _verify(self, directory: str, names: list[str]) -> None:
        try:
            encodings.check_source(directory, encodings.named(names))
        except VllmError as error:
            raise failure(f"On the controller: {error}", error.reason) from error

    def _send(self, directory: str, names: list[str]) -> str:
        """Transfer the files into the task's temporary directory, which goes with the task."""
        target: str = self._connection._shell.tmpdir or self._make_tmp_path()
        paths = []
        for encoding in encodings.named(names):
            path = self._connection._shell.join_path(target, encoding.file_name)
            try:
                self._transfer_file(encoding.path(directory), path)
            except AnsibleError as error:
                raise failure(
                    f"Cannot transfer {encoding.path(directory)} to {path} on the host: {error} "
                    "Check the free space there, or name another directory with ansible_remote_tmp.",
                    "download-failed",
                ) from error
            paths.append(path)
        self._fixup_perms2((target, *paths))
        return target
