# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Compile caches on their way from a host of a run to others: where they are on the controller, and who gets them."""

from __future__ import annotations

import os
import re
import tempfile
import typing as t

from ansible import constants as C
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.carried import Carried, sha256
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import MAKING_STATES
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError

Caches = t.Mapping[str, t.Any]

NAME = "caches.tar.gz"
# The line of a plan that makes a server.
CREATES = re.compile(r"create (?!directory )")


def local_path() -> str:
    """A place for an archive in the temporary directory of this run, which goes with it and no other user reads."""
    return os.path.join(tempfile.mkdtemp(prefix="gpufleet-caches-", dir=C.DEFAULT_LOCAL_TMP), NAME)


def check(path: str, packed: Caches) -> None:
    """Compare an archive on the controller with what the host that packed it says.

    Raises:
        VllmError: when it is another one.
    """
    try:
        with open(path, "rb") as stream:
            size, found = os.fstat(stream.fileno()).st_size, sha256(stream)
    except OSError as error:
        raise VllmError(f"Cannot read {path}: {error.strerror}.", "backend-failed") from None
    if (size, found) != (packed["size"], packed["sha256"]):
        raise VllmError(
            f"The archive of {packed['host']}, {packed['size']} bytes with sha256 {packed['sha256']}, arrived on the "
            f"controller as {size} bytes with sha256 {found}. Look at the connection.",
            "download-failed",
        )


def owner_of(action: ActionBase) -> list[str]:
    """As whom an action connects to its host, and as whom it works there."""
    become = getattr(action._connection, "become", None)
    return [str(action._get_remote_user() or ""), str(become.get_option("become_user") or "root") if become else ""]


def refusal(caches: Caches, owner: t.Sequence[str]) -> str:
    """Why caches are not brought to a host at all; empty when they may be those of its server."""
    host = caches.get("host") or "another host"
    if not caches.get("archive"):
        return f"Those of {host} could not be packed: {str(caches.get('msg') or 'its task failed').rstrip('.')}."
    if list(caches.get("owner") or ()) != [*owner]:
        theirs, mine = (" as ".join(filter(None, reversed(one))) or "nobody" for one in (caches["owner"], owner))
        return f"{host} belongs to another operator: it is deployed by {theirs}, and this one by {mine}."
    return ""


def is_wanted(options: t.Mapping[str, t.Any], is_look: bool) -> bool:
    """Whether a step makes a server that could start with caches of another host."""
    creates = any(CREATES.match(str(one)) for one in (options["plan"] or {}).get("actions") or ())
    is_first = options["state"] in MAKING_STATES and not options["failure_id"] and not is_look
    return bool(options["caches"]) and is_first and (creates or not options["plan"])


def retried(options: t.Mapping[str, t.Any]) -> str:
    """Why a server is made once more, without the caches that it failed with; empty for any other step."""
    plan = options["plan"] or {}
    host = (plan.get("caches") or {}).get("from")
    is_again = options["state"] in MAKING_STATES and not (options["failure_id"] or options["look"])
    if not (host and is_again):
        return ""
    cause = ((plan.get("health") or {}).get("diagnosis") or {}).get("cause") or ""
    return f"A start with those of {host} failed, so it was started once more without them. {cause}".strip()


def sent(action: ActionBase, caches: Caches) -> dict[str, t.Any]:
    """Bring an archive to the host, into the temporary directory of the task; the parameter of the module for it."""
    shell = action._connection._shell
    path = shell.join_path(shell.tmpdir or action._make_tmp_path(), NAME)
    action._transfer_file(caches["archive"], path)
    action._fixup_perms2((shell.tmpdir, path))
    return {**{key: caches[key] for key in Carried.KEYS}, "archive": path}
