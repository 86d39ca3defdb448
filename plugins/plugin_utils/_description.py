# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a playbook describes a server, and which parameters of which module that makes."""

from __future__ import annotations

import difflib
import typing as t

from ansible_collections.gpufleet.vllm.plugins.filter.vllm_spec import _catalogued as catalogued
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.hardware import class_of_groups
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import (
    SPEC_KEYS,
    resolve,
)

Spec = dict[str, t.Any]

# What runs a server, and the module that does it.
BACKENDS = {"container": "gpufleet.vllm.vllm_container"}
# States that need the whole description; for the others, the name of the server is enough.
DESCRIBED = ("present", "started")
# Keys of a server that a backend's module has no parameter for.
ROLE_ONLY_KEYS = ("backend", "health", "load_seconds")
# Keys of `health`, which are parameters of vllm_health; the rest of that module's follows from the server.
HEALTH_KEYS = (
    *("timeout", "stall_timeout", "request_timeout", "stable_for"),
    *("prompt", "expected_answer", "max_tokens", "checks"),
)
FALLBACK_KEYS = ("because", "causes", "change")
ADDRESS = "vllm_server"


def described(said: t.Mapping[str, t.Any], hardware_class: t.Callable[[], str]) -> Spec:
    """The server that was asked for: a model of a catalogue, or a description of its own.

    C(hardware_class) is only asked when the catalogue has to know.

    Raises:
        VllmError: with the address of what is wrong.
    """
    if not said["model"] and said["server"]:
        return checked(said["server"], said["state"])
    group = hardware_class() if said["model"] else ""
    name = model_name(said["model"] or "", group)
    models = said["models"] or {}
    overrides = {**({"image": said["image"]} if said["image"] else {}), **(said["overrides"] or {})}
    spec = resolve(name, models[name] if name in models else catalogued(name), group, overrides)
    _refuse_unknown("health", spec.get("health") or {}, HEALTH_KEYS)
    return spec


def known_class(said: str | None, task_vars: t.Mapping[str, t.Any]) -> str:
    """The class of a host as far as the controller knows it: as it was said, by its groups, by its facts, or ""."""
    facts = (task_vars.get("ansible_facts") or {}).get("gpufleet") or {}
    by_group = class_of_groups(task_vars.get("group_names") or ())
    return str(said or by_group or facts.get("hardware_class") or "")


def model_name(model: t.Any, hardware_class: str) -> str:
    """The name of a model, which may depend on the class of the host.

    Raises:
        VllmError: when a mapping has no entry for the class.
    """
    if not isinstance(model, t.Mapping):
        return str(model)
    name = model.get(hardware_class) or model.get("default")
    if not name:
        raise VllmError(
            f"model has no entry for the hardware class {hardware_class!r} and none for 'default'; it has "
            f"{', '.join(sorted(model))}."
        )
    return str(name)


def checked(server: t.Mapping[str, t.Any], state: str) -> Spec:
    """A description as somebody wrote it, without what is null.

    Raises:
        VllmError: with the address of a key that does not exist, or of one that is missing.
    """
    _refuse_unknown(ADDRESS, server, SPEC_KEYS)
    _refuse_unknown(f"{ADDRESS}.health", server.get("health") or {}, HEALTH_KEYS)
    for number, rung in enumerate(server.get("fallbacks") or []):
        _refuse_unknown(f"{ADDRESS}.fallbacks[{number}]", rung, FALLBACK_KEYS)
    missing = [key for key in ("name", "model", "image") if not server.get(key)] if state in DESCRIBED else []
    if missing:
        raise VllmError(f"{ADDRESS}.{missing[0]} is missing; a server needs name, model and image.")
    return {key: value for key, value in server.items() if value is not None}


def module_of(spec: t.Mapping[str, t.Any]) -> str:
    """The module that runs such a server.

    Raises:
        VllmError: for a backend that this version does not have.
    """
    backend = spec.get("backend") or "container"
    if backend not in BACKENDS:
        raise VllmError(f"{ADDRESS}.backend must be {' or '.join(sorted(BACKENDS))}; got {backend!r}.")
    return BACKENDS[backend]


def parameters(spec: t.Mapping[str, t.Any], said: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The parameters of the backend's module for one step."""
    state = said["state"]
    keys = ("container_id", "failure_id", "recreate", "replace_unmanaged")
    given = {key: value for key, value in spec.items() if key not in ROLE_ONLY_KEYS}
    given.update({"state": state, **{key: said[key] for key in keys if said[key]}})
    if state not in DESCRIBED and isinstance(given.get("gpus"), t.Mapping):
        del given["gpus"]  # Which they are matters to a start only.
    if said["reset_fallbacks"] and not said["failure_id"]:
        given["reset_fallbacks"] = True
    for secret in ("hf_token", "api_key"):
        if spec.get(f"{secret}_file") and said[secret]:
            given[secret] = said[secret]
    plan = said["plan"] or {}
    if state == "started" and not plan:
        given["health"] = dict(spec.get("health") or {})
    if state in DESCRIBED and isinstance(spec.get("gpus"), t.Mapping) and plan.get("gpus"):
        given["gpus"] = plan["gpus"]  # Those that were selected first: the later steps speak of the same server.
    if state in DESCRIBED and not said["failure_id"] and spec.get("pull") != "always" and plan.get("vllm_version"):
        given.setdefault("vllm_version", plan["vllm_version"])  # Found by the look; a fallback may name another image.
    return given


def probe(spec: t.Mapping[str, t.Any], server: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The parameters of vllm_health that wait for this server."""
    given = {
        **(spec.get("health") or {}),
        "url": server.get("url"),
        "served_model_name": server.get("served_model_name"),
        "container": server.get("container_name"),
        "docker_host": spec.get("docker_host"),
        "api_key_file": spec.get("api_key_file"),
        "expected_seconds": spec.get("load_seconds"),
    }
    return {key: value for key, value in given.items() if value is not None}


def _refuse_unknown(address: str, said: t.Any, known: t.Iterable[str]) -> None:
    if not isinstance(said, t.Mapping):
        raise VllmError(f"{address} must be a mapping with the keys {', '.join(sorted(known))}; got {said!r}.")
    for key in sorted(set(said) - set(known)):
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Valid keys: {', '.join(sorted(known))}."
        raise VllmError(f"Unknown key '{address}.{key}'. {hint}")
