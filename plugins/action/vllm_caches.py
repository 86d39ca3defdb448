# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Have a host pack the compile caches of its server, and bring the archive to the controller."""

from __future__ import annotations

import os
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._carried import NAME, check, local_path, owner_of


class ActionModule(ActionBase):
    """One call of the module, and one transfer."""

    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        task_vars = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, task_vars)
        # Also of a failure, so that others can say whose caches they lack.
        known = {"host": str(task_vars.get("inventory_hostname")), "owner": owner_of(self)}
        shell = self._connection._shell
        try:
            path = shell.join_path(shell.tmpdir or self._make_tmp_path(), NAME)
            self._fixup_perms2((shell.tmpdir,))
            result.update(self._execute_module(module_args={**self._task.args, "archive": path}, task_vars=task_vars))
            if not result.get("failed"):
                result["archive"] = self._fetched(path, {**result, **known})
        except VllmError as error:
            result.update(failed=True, msg=str(error), reason=error.reason)
        except AnsibleError as error:
            result.update(
                failed=True, msg=f"Cannot bring the compile caches to the controller: {error}", reason="download-failed"
            )
        finally:
            self._remove_tmp_path(shell.tmpdir)
        return t.cast("dict[str, t.Any]", printable({**result, **known}))

    def _fetched(self, path: str, packed: dict[str, t.Any]) -> str:
        local = local_path()
        self._connection.fetch_file(path, local)
        os.chmod(local, 0o600)
        check(local, packed)
        return local
