# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Resolve a server on the controller, and hand it to the module of its backend in one call.

In Python, and imported by the main process before it forks: a host where nothing differs costs the controller little.
"""

from __future__ import annotations

import contextlib
import functools
import typing as t

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import MAKING_STATES, PURGEABLE, STATES
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.printable import printable
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.redaction import hide, secrets_within
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import _carried as carried
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._chosen import Asked, asked_of
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._description import (
    Description,
    alternative,
    as_planned,
    at_home,
    described,
    known_class,
    models_to_stage,
    module_of,
    parameters,
    probe,
)
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import plain
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._home import home_of
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._outcome import is_pending, published
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._shown import shown

Result = dict[str, t.Any]

ARGUMENTS: dict[str, t.Any] = {
    "state": {"type": "str", "choices": list(STATES), "default": "started"},
    "server": {"type": "dict"},
    "model": {"type": "raw"},
    "hardware_class": {"type": "str"},
    "image": {"type": "str"},
    "backend": {"type": "str"},
    "huggingface_dir": {"type": "str"},
    "overrides": {"type": "dict", "default": {}},
    "models": {"type": "dict", "default": {}},
    "context": {"type": "int"},
    "concurrency": {"type": "int"},
    "revision": {"type": "str"},
    "hub": {"type": "dict", "default": {}},
    "hf_token": {"type": "str", "no_log": True},
    "api_key": {"type": "str", "no_log": True},
    "keep_hf_token": {"type": "bool", "default": False},
    "recreate": {"type": "bool", "default": False},
    "replace_unmanaged": {"type": "bool", "default": False},
    "reset_fallbacks": {"type": "bool", "default": False},
    "failure_id": {"type": "str"},
    "container_id": {"type": "str"},
    "learned": {"type": "dict", "default": {}},
    "caches": {"type": "dict", "default": {}},
    "purge": {"type": "list", "elements": "str", "choices": list(PURGEABLE), "default": []},
    "plan": {"type": "dict"},
    "look": {"type": "bool", "default": False},
    "show": {"type": "str", "choices": ["command"]},
}


class Failed(Exception):
    """A module that was asked on the way failed; its result says why."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.get("msg"))
        self.result = result


class ActionModule(ActionBase):
    """One call of the backend's module, and one more on hosts whose class nothing but their GPUs tells."""

    _supports_check_mode = True
    _supports_async = False
    _requires_connection = True

    def run(self, tmp: str | None = None, task_vars: dict[str, t.Any] | None = None) -> Result:
        task_vars = task_vars or {}
        super().run(tmp, task_vars)
        _validation, validated = self.validate_argument_spec(argument_spec=ARGUMENTS)
        options = plain(validated)
        if options["show"]:
            options.update(look=True, recreate=True)
        spec: Result = {}
        gathered: Result = {}
        try:
            asked, description = self._description(options, task_vars, gathered)
            spec = description.spec()
            found = self._call(description, options, task_vars, asked.first_call() if asked and asked.chooses else None)
            if asked and asked.chooses and not found.get("failed"):
                description, found = self._with_choice(asked, description, found, options, task_vars)
            spec = description.spec(found.get("backend"))
            if options["look"]:
                description.refuse_version(found)
        except VllmError as error:
            found = {"failed": True, "msg": str(error), "reason": error.reason}
        except Failed as failed:
            found = failed.result
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        host = str(task_vars.get("inventory_hostname"))
        result = {**found, **gathered, **self._published(found, spec, options, host)}
        # What the module refuses, and what it was not asked to look at, is not repeated.
        if result["failed"] or options["state"] not in MAKING_STATES:
            result = hide(result, secrets_within(spec))
        return t.cast(Result, printable(result))

    def _description(
        self, options: Result, task_vars: dict[str, t.Any], gathered: Result
    ) -> tuple[Asked | None, Description]:
        """The server: as an earlier step resolved it, else resolved now; of a model that nobody described, as far as it
        is known without its files."""
        planned = (options["plan"] or {}).get("spec")
        if planned:
            return None, as_planned(planned)
        hardware_class = functools.lru_cache(lambda: self._class(options, task_vars, gathered))
        asked = asked_of(options, hardware_class)
        return asked, at_home(described(asked.options() if asked else options, hardware_class), home_of(self))

    def _with_choice(
        self, asked: Asked, before: Description, found: Result, options: Result, task_vars: dict[str, t.Any]
    ) -> tuple[Description, Result]:
        """The server with the settings that are recorded for it, or are chosen now and asked for in a second call."""
        host, unchosen = task_vars.get("inventory_hostname"), found.get("unchosen")
        if not unchosen:
            self._tell(host, found["choice"]["reasons"] if self._task.check_mode else ())
            return asked.recorded(found), found
        record = asked.settle(unchosen, str(options["hf_token"] or ""))
        description = at_home(described(asked.options(record["entry"]), lambda: asked.hardware_class), home_of(self))
        record = asked.complete(record, before, description, options)
        self._tell(host, () if unchosen["known"] and not self._task.check_mode else record["reasons"])
        found = self._call(description, options, task_vars, {**asked.first_call(), "record": record})
        return description, found if found.get("failed") else {**found, "choice": record}

    def _class(self, options: Result, task_vars: dict[str, t.Any], gathered: Result) -> str:
        """The class of the host; where nothing else tells it, its GPUs do."""
        known = known_class(options["hardware_class"], task_vars)
        if known:
            return known
        engine = (options["overrides"] or {}).get("docker_host")
        arguments = {"docker_host": engine} if engine else {}
        seen = self._execute_module(module_name="gpufleet.vllm.gpu_facts", module_args=arguments, task_vars=task_vars)
        if seen.get("failed"):
            raise Failed(seen)
        gathered["ansible_facts"] = seen.get("ansible_facts") or {}
        return known_class(None, gathered)

    def _tell(self, host: t.Any, lines: t.Iterable[str]) -> None:
        """Show lines, while the others of a run are still at work."""
        for line in lines:
            self._display.display(str(printable(f"{host}: {line}")))

    def _call(
        self, description: Description, options: Result, task_vars: dict[str, t.Any], choice: Result | None = None
    ) -> Result:
        spec, other = description.spec(), alternative(description, options)
        module, arguments = module_of(spec), parameters(spec, options)
        if other:
            arguments["alternative"] = other
        planned = (options["plan"] or {}).get("choice")
        if planned and "arguments" in planned and options["state"] in MAKING_STATES:
            choice = {"record": planned}
        if choice:
            arguments["choice"] = choice
        with self._looking(options["look"]):
            if not carried.is_wanted(options, self._task.check_mode):
                found: Result = self._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)
                note = carried.retried(options)
                return {**found, "caches": {"from": None, "note": note}} if note else found
            arguments["caches"], note = self._caches(plain(options["caches"]))
            found = self._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)
        return {**found, "caches": found.get("caches") or {"from": None, "note": note}}

    def _caches(self, caches: Result) -> tuple[Result, str]:
        """The compile caches of another host, on this one; and why none are."""
        note = carried.refusal(caches, carried.owner_of(self))
        try:
            return ({}, note) if note else (carried.sent(self, caches), "")
        except AnsibleError as error:
            return ({}, f"Those of {caches['host']} could not be brought to this host: {error}")

    @contextlib.contextmanager
    def _looking(self, only: bool) -> t.Iterator[None]:
        """With a look, the module runs in check mode whatever the play does, and its diff is not shown."""
        before = self._task.check_mode, self._task.diff
        if only:
            self._task.check_mode, self._task.diff = True, False
        try:
            yield
        finally:
            self._task.check_mode, self._task.diff = before

    def _published(self, found: Result, spec: Result, options: Result, host: str) -> Result:
        # Later steps speak of the GPUs that the first one chose.
        gpus = found.get("gpus") or (options["plan"] or {}).get("gpus")
        result = published(
            {**found, "gpus": gpus, "choice": found.get("choice") or (options["plan"] or {}).get("choice")},
            host,
            is_plan=bool(options["look"] or self._task.check_mode),
            spec=spec,
            weights=models_to_stage(spec) if "weights" in (found.get("needs") or ()) else [],
            probe=probe(spec, found.get("server") or {}),
        )
        if options["look"]:
            # A choice that is not recorded yet has its arguments still.
            is_new = "arguments" in (result["choice"] or {})
            pending = is_new or is_pending(result, options["state"], str(spec.get("pull")))
            result.update(changed=False, pending=pending and not (result["failed"] or options["show"]))
        if options["show"] and not result["failed"]:
            result["shown"] = shown(result)
            self._display.display("\n".join(map(str, map(printable, [f"# {host}", *result["shown"]]))))
        return result
