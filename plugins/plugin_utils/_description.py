# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a playbook describes a server, and which parameters of which module that makes."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.plan import MAKING_STATES
from ansible_collections.gpufleet.vllm.plugins.module_utils._deploy.used import models_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._gpu.hardware import class_of_groups
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.catalogue import (
    MADE_FROM,
    SPEC_KEYS,
    backend_of,
    default_backend,
    of_another_backend,
    resolve,
    with_ray,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.keys import PATH_KEYS
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import CONTAINER, OWN_KEYS, SERVICE, asked
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.servers import wish_of
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.versions import parse
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import catalogued
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._filter_values import refuse_unknown
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._home import with_home

Spec = dict[str, t.Any]

# What runs a server, and the module that does it.
BACKENDS = {CONTAINER: "gpufleet.vllm.vllm_container", SERVICE: "gpufleet.vllm.vllm_service"}
# Keys of a server that a backend's module has no parameter for.
WITHOUT_PARAMETER = ("backend", "health", "load_seconds")
# Keys of `health`, which are parameters of vllm_health; the rest of that module's follows from the server.
HEALTH_KEYS = (
    *("timeout", "stall_timeout", "request_timeout", "stable_for"),
    *("prompt", "expected_answer", "max_tokens", "checks", "url", "ca_path", "validate_certs"),
)
FALLBACK_KEYS = ("because", "causes", "change")
ADDRESS = "vllm_server"


@dataclass(frozen=True)
class Description:
    """A server as each backend would run it, by its name; of one that the user named alone.

    What runs the server already is known on its host alone, and goes on unless the user named another one.
    """

    # What runs it where it is new.
    default: str
    specs: t.Mapping[str, Spec]
    # Why a backend cannot run it.
    refusals: t.Mapping[str, str] = field(default_factory=dict)
    # The oldest vLLM that the model runs on.
    needs_vllm: str | None = None

    @property
    def backend(self) -> str:
        """Whose module is asked."""
        return self.default if self.default in self.specs else next(iter(self.specs))

    def spec(self, backend: t.Any = None) -> Spec:
        """The server as a backend runs it; one that nobody named is that of the module which is asked."""
        return self.specs.get(backend) or self.specs[self.backend]

    def refuse_version(self, found: t.Mapping[str, t.Any]) -> None:
        """Refuse a vLLM, as a look found it, that is too old for the model.

        Raises:
            VllmError: says what it is.
        """
        spec, version = self.spec(found.get("backend")), found.get("vllm_version")
        if not (self.needs_vllm and version) or spec.get("validation") == "permissive":
            return
        if parse(str(version)) < parse(self.needs_vllm):
            source = MADE_FROM[backend_of(spec)]
            raise VllmError(
                f"{spec['name']} needs vLLM {self.needs_vllm} or later, and its {source} has vLLM {version}. Name a "
                f"newer {source}. Nothing was stopped or changed.",
                "invalid-flag",
            )


# Keys of a server, and of what a fallback changes, that hold paths of the host; and what may hold one.
WITH_PATHS = (*PATH_KEYS, "model", "volumes")


def at_home(description: Description, home: str) -> Description:
    """The description with C(~) as a home: that of the user whom Ansible connects as, also where it becomes another.

    The same for every backend, and for all later steps: these have the description of the first.
    """
    return replace(description, specs={name: _at_home(spec, home) for name, spec in description.specs.items()})


def _at_home(spec: t.Mapping[str, t.Any], home: str) -> Spec:
    found = {key: with_home(value, home) if key in WITH_PATHS else value for key, value in spec.items()}
    rungs = spec.get("fallbacks")
    if rungs:
        found["fallbacks"] = [{**rung, "change": _at_home(rung["change"], home)} for rung in rungs]
    return found


def as_planned(spec: Spec) -> Description:
    """A server as an earlier step resolved it."""
    return Description(backend_of(spec), {backend_of(spec): spec})


def described(options: t.Mapping[str, t.Any], hardware_class: t.Callable[[], str]) -> Description:
    """The server that was asked for: a model of a catalogue, or a description of its own.

    C(hardware_class) is only asked when the catalogue has to know.

    Raises:
        VllmError: with the address of what is wrong.
    """
    server, state = options["server"], options["state"]
    if not options["model"] and server:
        return _description(options, server, backend_of(server), lambda backend: checked(server, state, backend))
    group = hardware_class() if options["model"] else ""
    name = model_name(options["model"] or "", group)
    models = options["models"] or {}
    model = models[name] if name in models else catalogued(name)
    said = {key: options[key] for key in ("image", "backend", "huggingface_dir") if options.get(key)}
    overrides = {**said, **(options["overrides"] or {})}

    def resolved(backend: str) -> Spec:
        spec = resolve(name, model, group, overrides, backend)
        refuse_unknown("health", spec.get("health") or {}, HEALTH_KEYS)
        if state in MAKING_STATES and backend_of(spec) == SERVICE:
            _refuse_incomplete("overrides.", spec)
        return spec

    default = default_backend(name, model, group, overrides)
    return _description(options, overrides, default, resolved, (model.get("needs") or {}).get("vllm"))


def _description(
    options: t.Mapping[str, t.Any],
    said: t.Mapping[str, t.Any],
    default: str,
    make: t.Callable[[str], Spec],
    needs_vllm: str | None = None,
) -> Description:
    """The server for the backend that the user named, or for all; C(make) makes it for one.

    Raises:
        VllmError: when none can run it.
    """
    specs: dict[str, Spec] = {}
    errors: dict[str, VllmError] = {}
    for backend in dict.fromkeys((default, *(() if said.get("backend") else BACKENDS))):
        try:
            specs[backend] = make(backend)
            _refuse_replacing(specs[backend], options)
        except VllmError as error:
            specs.pop(backend, None)
            errors[backend] = error
    if not specs:
        raise errors[default]
    return Description(default, specs, {backend: str(error) for backend, error in errors.items()}, needs_vllm)


def _refuse_replacing(spec: Spec, options: t.Mapping[str, t.Any]) -> None:
    if options["replace_unmanaged"] and backend_of(spec) == SERVICE:
        raise VllmError(
            "replace_unmanaged is for containers: a unit that this collection did not create is never replaced. Leave "
            "it out, and remove the unit yourself or choose another name."
        )


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


def checked(server: t.Mapping[str, t.Any], state: str, backend: str | None = None) -> Spec:
    """A description as somebody wrote it, without what is null, for the backend that runs it.

    Raises:
        VllmError: with the address of a key that does not exist, or of one that is missing.
    """
    refuse_unknown(ADDRESS, server, SPEC_KEYS)
    refuse_unknown(f"{ADDRESS}.health", server.get("health") or {}, HEALTH_KEYS)
    for number, rung in enumerate(server.get("fallbacks") or []):
        refuse_unknown(f"{ADDRESS}.fallbacks[{number}]", rung, FALLBACK_KEYS)
    spec = {key: value for key, value in server.items() if value is not None}
    spec["backend"] = spec.get("backend") or backend or backend_of(server)
    misplaced = of_another_backend(ADDRESS, spec, spec["backend"])
    if misplaced:
        raise VllmError(" ".join(misplaced))
    if state in MAKING_STATES:
        _refuse_incomplete(f"{ADDRESS}.", spec)
    return with_ray(spec)


def _refuse_incomplete(address: str, spec: t.Mapping[str, t.Any]) -> None:
    backend = backend_of(spec)
    source = MADE_FROM.get(backend, "image")
    missing = next((key for key in ("name", "model", source) if not spec.get(key)), None)
    if missing == "venv":
        raise VllmError(
            f"{address}venv is missing; a server with backend {backend} needs name, model and venv: what its virtual "
            'environment holds, as in {packages: ["vllm==0.26.0"]}, or the directory of one that is on the host.'
        )
    if missing:
        raise VllmError(f"{address}{missing} is missing; a server needs name, model and {source}.")
    if isinstance(spec.get("venv"), t.Mapping):
        wish_of(spec["venv"], f"{address}venv")


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
    """The parameters of the backend's module for one step."""
    state, plan = options["state"], options["plan"] or {}
    passed = ("container_id", "failure_id", "recreate", "replace_unmanaged", "purge")
    secrets = [key for key in ("hf_token", "api_key") if spec.get(f"{key}_file")]
    arguments = {
        **{key: value for key, value in spec.items() if key not in WITHOUT_PARAMETER},
        **{key: options[key] for key in (*passed, *secrets) if options.get(key)},
        "state": state,
    }
    if state not in MAKING_STATES and isinstance(spec.get("gpus"), t.Mapping):
        del arguments["gpus"]  # Which they are matters to a start only.
    if "hf_token" in arguments and options.get("keep_hf_token"):
        arguments["keep_hf_token"] = True
    if state in MAKING_STATES and options.get("learned"):
        arguments["learned"] = options["learned"]
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


def alternative(description: Description, options: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What the module that is asked has to know of the other backend, which may run the server already: what differs
    in its parameters, or why it cannot go on. Empty when the user named one."""
    other = next((name for name in (*description.specs, *description.refusals) if name != description.backend), "")
    told: dict[str, t.Any] = {"backend": other, **({"is_default": True} if other == description.default else {})}
    if other in description.refusals:
        return {**told, "refusal": description.refusals[other]}
    if not other:
        return {}
    there = parameters(description.specs[other], options)
    own = {key: value for key, value in there.items() if key in (*OWN_KEYS[other], "replace_unmanaged")}
    rungs = there.get("fallbacks", [])
    if not own and rungs == description.spec().get("fallbacks", []):
        return {}  # Either module does the same, whatever runs the server.
    return {**told, "parameters": {**own, "fallbacks": rungs}}


def probe(spec: t.Mapping[str, t.Any], server: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The parameters of vllm_health that wait for this server."""
    arguments = {
        "url": server.get("url"),
        **asked(server.get("access") or {}, spec.get("health") or {}),
        "served_model_name": _names(server),
        "unit" if backend_of(spec) == SERVICE else "container": server.get("container_name"),
        "docker_host": spec.get("docker_host"),
        "api_key_file": spec.get("api_key_file"),
        "expected_seconds": spec.get("load_seconds"),
        "cold_start": True if server.get("cold_start") else None,
    }
    return {key: value for key, value in arguments.items() if value is not None}


def models_to_stage(spec: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """What a server loads from the Hugging Face cache, as entries of C(model_cache.models)."""
    engine = spec.get("engine") or {}
    revisions = {spec.get("model"): engine.get("revision")}
    return [
        {
            "model": model,
            "revision": str(revisions.get(model) or "main"),
            "custom_code": engine.get("trust_remote_code") in (True, "true", "True"),
        }
        for model in models_of(spec)
    ]


def _names(server: t.Mapping[str, t.Any]) -> t.Any:
    """Every name that has to be listed; one alone as it is."""
    names = server.get("served_model_names") or []
    return names if len(names) > 1 else server.get("served_model_name")
