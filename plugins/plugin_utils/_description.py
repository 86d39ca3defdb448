# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a playbook describes a server, and which parameters of which module that makes."""

from __future__ import annotations

import difflib
import typing as t

from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import MAKING_STATES
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.hardware import class_of_groups
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import (
    SPEC_KEYS,
    backend_of,
    of_another_backend,
    resolve,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import CONTAINER, SERVICE
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import catalogued

Spec = dict[str, t.Any]

# What runs a server, and the module that does it.
BACKENDS = {CONTAINER: "gpufleet.vllm.vllm_container", SERVICE: "gpufleet.vllm.vllm_service"}
# What a server of it is made from.
MADE_FROM = {CONTAINER: "image", SERVICE: "venv"}
# Keys of a server that a backend's module has no parameter for.
WITHOUT_PARAMETER = ("backend", "health", "load_seconds")
# Keys of `health`, which are parameters of vllm_health; the rest of that module's follows from the server.
HEALTH_KEYS = (
    *("timeout", "stall_timeout", "request_timeout", "stable_for"),
    *("prompt", "expected_answer", "max_tokens", "checks"),
)
FALLBACK_KEYS = ("because", "causes", "change")
ADDRESS = "vllm_server"


def described(options: t.Mapping[str, t.Any], hardware_class: t.Callable[[], str]) -> Spec:
    """The server that was asked for: a model of a catalogue, or a description of its own.

    C(hardware_class) is only asked when the catalogue has to know.

    Raises:
        VllmError: with the address of what is wrong.
    """
    if not options["model"] and options["server"]:
        return checked(options["server"], options["state"])
    group = hardware_class() if options["model"] else ""
    name = model_name(options["model"] or "", group)
    models = options["models"] or {}
    overrides = {**({"image": options["image"]} if options["image"] else {}), **(options["overrides"] or {})}
    spec = resolve(name, models[name] if name in models else catalogued(name), group, overrides)
    _refuse_unknown("health", spec.get("health") or {}, HEALTH_KEYS)
    if options["state"] in MAKING_STATES and backend_of(spec) == SERVICE:
        _refuse_incomplete("overrides.", spec)
    return spec


def known_class(given: str | None, task_vars: t.Mapping[str, t.Any]) -> str:
    """The class of a host as far as the controller knows it: as it was given, by its groups, by its facts, or ""."""
    facts = (task_vars.get("ansible_facts") or {}).get("gpufleet") or {}
    by_group = class_of_groups(task_vars.get("group_names") or ())
    return str(given or by_group or facts.get("hardware_class") or "")


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
    misplaced = of_another_backend(ADDRESS, server, backend_of(server))
    if misplaced:
        raise VllmError(" ".join(misplaced))
    if state in MAKING_STATES:
        _refuse_incomplete(f"{ADDRESS}.", server)
    return {key: value for key, value in server.items() if value is not None}


def _refuse_incomplete(address: str, spec: t.Mapping[str, t.Any]) -> None:
    backend = backend_of(spec)
    source = MADE_FROM.get(backend, "image")
    missing = next((key for key in ("name", "model", source) if not spec.get(key)), None)
    if missing == "venv":
        raise VllmError(
            f"{address}venv is missing; a server with backend {backend} needs name, model and venv, the directory of a "
            "virtual environment on the host. Role vllm_venv provides one."
        )
    if missing:
        raise VllmError(f"{address}{missing} is missing; a server needs name, model and {source}.")


def module_of(spec: t.Mapping[str, t.Any]) -> str:
    """The module that runs such a server.

    Raises:
        VllmError: for a backend that this version does not have.
    """
    backend = backend_of(spec)
    if backend not in BACKENDS:
        raise VllmError(f"{ADDRESS}.backend must be {' or '.join(sorted(BACKENDS))}; got {backend!r}.")
    return BACKENDS[backend]


def parameters(spec: t.Mapping[str, t.Any], options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The parameters of the backend's module for one step.

    Raises:
        VllmError: for an option that this backend does not have.
    """
    state, plan = options["state"], options["plan"] or {}
    if options["replace_unmanaged"] and backend_of(spec) == SERVICE:
        raise VllmError(
            "replace_unmanaged is for containers: a unit that this collection did not create is never replaced. Leave "
            "it out, and remove the unit yourself or choose another name."
        )
    passed = ("container_id", "failure_id", "recreate", "replace_unmanaged")
    secrets = [key for key in ("hf_token", "api_key") if spec.get(f"{key}_file")]
    arguments = {
        **{key: value for key, value in spec.items() if key not in WITHOUT_PARAMETER},
        **{key: options[key] for key in (*passed, *secrets) if options[key]},
        "state": state,
    }
    if state not in MAKING_STATES and isinstance(spec.get("gpus"), t.Mapping):
        del arguments["gpus"]  # Which they are matters to a start only.
    if "hf_token" in arguments and options.get("keep_hf_token"):
        arguments["keep_hf_token"] = True
    if options["reset_fallbacks"] and not options["failure_id"]:
        arguments["reset_fallbacks"] = True
    if state == "started" and not plan:
        arguments["health"] = dict(spec.get("health") or {})
    if (
        state in MAKING_STATES
        and not options["failure_id"]
        and spec.get("pull") != "always"
        and plan.get("vllm_version")
    ):
        arguments.setdefault("vllm_version", plan["vllm_version"])  # A fallback or a newer image may have another one.
    return arguments


def probe(spec: t.Mapping[str, t.Any], server: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The parameters of vllm_health that wait for this server."""
    arguments = {
        **(spec.get("health") or {}),
        "url": server.get("url"),
        "served_model_name": _names(server),
        "unit" if backend_of(spec) == SERVICE else "container": server.get("container_name"),
        "docker_host": spec.get("docker_host"),
        "api_key_file": spec.get("api_key_file"),
        "expected_seconds": spec.get("load_seconds"),
        "cold_start": True if server.get("cold_start") else None,
    }
    return {key: value for key, value in arguments.items() if value is not None}


def _names(server: t.Mapping[str, t.Any]) -> t.Any:
    """Every name that has to be listed; one alone as it is."""
    names = server.get("served_model_names") or []
    return names if len(names) > 1 else server.get("served_model_name")


def _refuse_unknown(address: str, value: t.Any, known: t.Iterable[str]) -> None:
    if not isinstance(value, t.Mapping):
        raise VllmError(f"{address} must be a mapping with the keys {', '.join(sorted(known))}; got {value!r}.")
    for key in sorted(set(value) - set(known)):
        near = difflib.get_close_matches(key, known, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Valid keys: {', '.join(sorted(known))}."
        raise VllmError(f"Unknown key '{address}.{key}'. {hint}")
