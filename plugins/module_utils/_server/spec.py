# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of one vLLM API server: validated, frozen, and what of them is recorded.

Pure: imports neither Ansible nor Docker. Sizes are as vLLM and Docker take them (ulimits in bytes, times in seconds).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import typing as t
from dataclasses import MISSING, dataclass, field, fields

from .._errors import VllmError
from .._vllm import versions as vllm_versions

# What clients may call the model: one name, or several, of which the first is the main one.
Names = t.Union[str, tuple[str, ...]]
# `all`, `none`, or GPU UUIDs.
Gpus = t.Union[str, tuple[str, ...]]
# How strictly the flags are judged.
VALIDATIONS = ("normal", "strict", "permissive")
# An engine value after normalization: a switch, one value, or several values.
EngineValue = t.Union[bool, str, tuple[str, ...]]

# Keys of `engine` that the spec has a key of its own for, with that key.
OWNED_OPTIONS = {
    "model": "model",
    "host": "bind",
    "port": "port",
    "served_model_name": "served_model_name",
    "api_key": "api_key_file",
    "hf_token": "hf_token_file",
}

# Variables that would show in `docker inspect`, with the key that keeps them in a file.
SECRET_ENV = {
    "HF_TOKEN": "hf_token_file",
    "HUGGING_FACE_HUB_TOKEN": "hf_token_file",
    "HUGGINGFACE_TOKEN": "hf_token_file",
    "VLLM_API_KEY": "api_key_file",
    "OPENAI_API_KEY": "env_file",
    "AWS_SECRET_ACCESS_KEY": "env_file",
}

# Keys of the role's dict, and of the catalogue's specs, that do not describe the server's process.
ROLE_ONLY_KEYS = (
    *("architecture", "backend", "docker_host", "fallbacks", "fit", "health", "host_reserve_gib", "load_seconds"),
    *("memory_timeout", "exclusive", "pin_kv", "pull", "replace_others"),
)

DEFAULT_ULIMITS = {"memlock": -1, "stack": 67108864}
RESTART_POLICY = re.compile(r"no|unless-stopped|on-failure(:[1-9][0-9]*)?")
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
# What the plan appends to a container's name: a server called like that would be taken for a leftover of another one.
RESERVED_SUFFIXES = ("-fetch", "-next", "-superseded", "-try")
RESERVED_LABELS = "gpufleet.vllm."


Metadata = t.Mapping[str, t.Any]


def _parameter(kind: str, recorded: bool = True, **more: t.Any) -> Metadata:
    """What a key is as a parameter of a module (its default is the field's), and whether it is recorded."""
    return {"parameter": {"type": kind, **more}, "recorded": recorded}


TEXT, NUMBER, SWITCH = _parameter("str"), _parameter("int"), _parameter("bool")
PATH, MAPPING, TEXTS = _parameter("path"), _parameter("dict"), _parameter("list", elements="str")
# Its name alone makes Ansible hide such a path.
SECRET_PATH = _parameter("path", no_log=False)


@dataclass(frozen=True)
class ServerSpec:
    """The wanted server. A field left at its default is not recorded, so a changed default restarts nothing."""

    name: str = field(metadata=TEXT)
    model: str = field(metadata=TEXT)
    image: str = field(metadata=TEXT)
    container_name: str = field(metadata=TEXT)
    served_model_name: Names = field(metadata=_parameter("raw"))
    port: int = field(default=8000, metadata=NUMBER)
    bind: str = field(default="127.0.0.1", metadata=TEXT)
    network_mode: str = field(default="bridge", metadata=_parameter("str", choices=["bridge", "host"]))
    gpus: Gpus = field(default="all", metadata=_parameter("raw"))
    ipc_mode: str = field(default="host", metadata=TEXT)
    ulimits: t.Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_ULIMITS), metadata=MAPPING)
    huggingface_dir: str | None = field(default=None, metadata=PATH)
    encodings_dir: str | None = field(default=None, metadata=PATH)
    hf_token_file: str | None = field(default=None, metadata=SECRET_PATH)
    api_key_file: str | None = field(default=None, metadata=SECRET_PATH)
    env_file: str | None = field(default=None, metadata=PATH)
    allow_unauthenticated: bool = field(default=False, metadata=SWITCH)
    engine: t.Mapping[str, EngineValue] = field(default_factory=dict, metadata=MAPPING)
    engine_unchecked: t.Mapping[str, EngineValue] = field(default_factory=dict, metadata=MAPPING)
    env: t.Mapping[str, str] = field(default_factory=dict, metadata=MAPPING)
    volumes: tuple[str, ...] = field(default=(), metadata=TEXTS)
    labels: t.Mapping[str, str] = field(default_factory=dict, metadata=MAPPING)
    restart_policy: str = field(default="unless-stopped", metadata=TEXT)
    stop_timeout: int = field(default=30, metadata=NUMBER)
    keep_caches: bool = field(default=True, metadata=SWITCH)
    # What is known about the image, and how strictly to judge: neither is part of what was asked for.
    vllm_version: str | None = field(default=None, metadata=_parameter("str", recorded=False))
    validation: str = field(default="normal", metadata=_parameter("str", recorded=False, choices=[*VALIDATIONS]))

    @property
    def served_model_names(self) -> tuple[str, ...]:
        """The names that clients may use, the first of which is the main one."""
        names = self.served_model_name
        return (names,) if isinstance(names, str) else names

    @property
    def model_dir(self) -> str | None:
        """The directory on the host that holds the weights, when the model is not a Hugging Face id."""
        if not self.model.startswith("/"):
            return None
        for volume in self.volumes:
            source, target = volume.split(":")[:2]
            if (self.model + "/").startswith(target.rstrip("/") + "/"):
                return source.rstrip("/") + self.model[len(target.rstrip("/")) :]
        return self.model

    @property
    def url(self) -> str:
        """Where the server answers, seen from its own host."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def reads_encodings(self) -> bool:
        """Whether its vLLM reads the encodings from a directory; one of unknown version is taken to."""
        release = vllm_versions.Release(self.vllm_version) if self.vllm_version else None
        return bool(self.encodings_dir) and not (release and release.behaves("encodings_built_in"))

    @property
    def secret_files(self) -> dict[str, str]:
        """The files on the host that hold secrets, by the key that names them."""
        keys = ("hf_token_file", "api_key_file", "env_file")
        return {key: getattr(self, key) for key in keys if getattr(self, key)}

    def to_dict(self) -> dict[str, t.Any]:
        """What the user asked for, without what is at its default: the part that is recorded and compared."""
        recorded = [f for f in fields(self) if f.metadata["recorded"]]
        given = {f.name: getattr(self, f.name) for f in recorded if getattr(self, f.name) != _default(f)}
        for derived, source in (("served_model_name", "model"), ("container_name", "name")):
            plain = self.model if source == "model" else default_container_name(self.name)
            if given[derived] == plain:
                del given[derived]
        if "ulimits" in given:
            given["ulimits"] = {k: v for k, v in self.ulimits.items() if DEFAULT_ULIMITS.get(k) != v}
        return t.cast("dict[str, t.Any]", json.loads(canonical_json(given)))


def _default(f: t.Any) -> t.Any:
    return f.default_factory() if callable(f.default_factory) else f.default


def _as_parameter(f: t.Any) -> dict[str, t.Any]:
    parameter = f.metadata["parameter"]
    # What a mapping or a list holds by default is merged into what the user writes, so a parameter begins empty.
    default = {"dict": {}, "list": []}.get(parameter["type"], _default(f))
    return {**parameter} if default in (None, MISSING) else {**parameter, "default": default}


# The keys of a server as parameters of a module. The documentation is the fragment gpufleet.vllm.server; a unit test
# holds the two and the role's argument_specs.yml together.
SERVER_PARAMETERS: dict[str, t.Any] = {f.name: _as_parameter(f) for f in fields(ServerSpec)}


def canonical_json(value: t.Any) -> str:
    """One text for equal values: what is recorded, compared and digested."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def merge(one: t.Mapping[str, t.Any], other: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The other over the one: mappings are merged, everything else is replaced."""
    result = dict(one)
    for key, value in other.items():
        before = result.get(key)
        result[key] = merge(before, value) if isinstance(before, t.Mapping) and isinstance(value, t.Mapping) else value
    return result


def default_container_name(name: str) -> str:
    """What the container of a server is called that names none."""
    return f"vllm-{name}"


def from_params(params: t.Mapping[str, t.Any]) -> ServerSpec:
    """Build and validate a spec from the user's keys; a key that is absent or null was not set.

    Raises:
        VllmError: with the address of the key at fault (C(engine.port)) and what to write instead.
    """
    given = {key: value for key, value in params.items() if value is not None}
    known = {f.name for f in fields(ServerSpec)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise VllmError(f"Unknown key {unknown[0]!r}. Valid keys: {', '.join(sorted(known))}.")
    model = _model(given)
    name = str(given.get("name") or re.sub(r"[^a-zA-Z0-9_.-]+", "-", model.rstrip("/").rsplit("/", 1)[-1]))
    spec = ServerSpec(
        **{
            **given,
            "name": name,
            "model": model,
            "image": str(given.get("image", "")),
            "container_name": str(given.get("container_name") or default_container_name(name)),
            "served_model_name": _served_names(given.get("served_model_name") or model),
            "vllm_version": _version(given),
            **_normalized(given),
        }
    )
    _validate(spec)
    return spec


def _model(given: t.Mapping[str, t.Any]) -> str:
    model = str(given.get("model") or "")
    if not model:
        raise VllmError("model is missing: name a Hugging Face id (openai/gpt-oss-120b) or a directory on the host.")
    return os.path.expanduser(model) if model.startswith("~") else model


def _served_names(value: t.Any) -> Names:
    names = list(value) if isinstance(value, (list, tuple)) else [value]
    if not all(isinstance(name, (str, int, float)) and not isinstance(name, bool) and str(name) for name in names):
        raise VllmError(f"served_model_name must be a name or a list of names; got {value!r}.")
    for name in map(str, names):
        if name.startswith(("[", "-")):
            # The text of a list would be one name; an option of vLLM would be none at all.
            raise VllmError(
                f"served_model_name must be a name or a list of names, none of which starts with {name[0]!r}; "
                f"got {name!r}."
            )
    unique = tuple(dict.fromkeys(map(str, names)))
    return unique[0] if len(unique) == 1 else unique


def _version(given: t.Mapping[str, t.Any]) -> str | None:
    version = given.get("vllm_version") or vllm_versions.version_of_image(str(given.get("image", "")))
    if version:
        vllm_versions.parse(str(version))
    return str(version) if version else None


def _normalized(given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The keys that hold collections, in one form whatever YAML made of them."""
    normal: dict[str, t.Any] = {
        "engine": engine_options(_mapping("engine", given)),
        "engine_unchecked": engine_options(_mapping("engine_unchecked", given), "engine_unchecked"),
        "env": {str(k): _text(v) for k, v in _mapping("env", given).items() if v is not None},
        "labels": {str(k): _text(v) for k, v in _mapping("labels", given).items() if v is not None},
        "volumes": _volumes(given.get("volumes") or ()),
        "gpus": _gpus(given.get("gpus", "all")),
        "ulimits": _ulimits(_mapping("ulimits", given)),
        "bind": _address(given.get("bind", "127.0.0.1")),
        "restart_policy": _restart_policy(given.get("restart_policy", "unless-stopped")),
    }
    for key in ("huggingface_dir", "encodings_dir", "hf_token_file", "api_key_file", "env_file"):
        normal[key] = os.path.expanduser(str(given[key])) if given.get(key) else None
    for key in ("port", "stop_timeout"):
        if key in given:
            normal[key] = _integer(key, given[key])
    return normal


def _mapping(key: str, given: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    value = given.get(key) or {}
    if not isinstance(value, t.Mapping):
        raise VllmError(f"{key} must be a mapping, a line of 'KEY: VALUE' for each entry; got {value!r}.")
    return value


def _integer(key: str, value: t.Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, bool) or (isinstance(value, float) and value != number):
        raise VllmError(f"{key} must be a whole number; got {value!r}.")
    return number


def _text(value: t.Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return canonical_json(value) if isinstance(value, (dict, list, tuple)) else str(value)


def _address(value: t.Any) -> str:
    """An address to listen on. Docker takes any other word, a host name too, for every address of the host."""
    if value == "localhost":
        return "127.0.0.1"
    try:
        return str(ipaddress.ip_address(str(value)))
    except ValueError:
        raise VllmError(
            "bind must be an IP address: 127.0.0.1 for this host alone, 0.0.0.0 for all its networks, or one of its "
            f"addresses; got {str(value)!r}."
        ) from None


def _restart_policy(value: t.Any) -> str:
    # YAML reads an unquoted no as false, and Ansible makes that the word "False".
    return "no" if value in (False, "False") else str(value)


def _ulimits(given: t.Mapping[str, t.Any]) -> dict[str, int]:
    return {**DEFAULT_ULIMITS, **{str(k): _integer(f"ulimits.{k}", v) for k, v in given.items() if v is not None}}


def _volumes(given: t.Any) -> tuple[str, ...]:
    if not isinstance(given, (list, tuple)):
        raise VllmError(f"volumes must be a list, a line of '- SOURCE:DESTINATION[:ro]' for each mount; got {given!r}.")
    return tuple(_volume(v) for v in given)


def _volume(text: t.Any) -> str:
    source, colon, rest = str(text).partition(":")
    if not colon or not rest.startswith("/"):
        raise VllmError(f"volumes must hold SOURCE:DESTINATION[:ro] with absolute paths; got {text!r}.")
    source = os.path.expanduser(source)
    if not source.startswith("/"):
        raise VllmError(
            f"volumes must name an absolute path as source (named volumes are not supported); got {text!r}."
        )
    return f"{source}:{rest}"


def _gpus(value: t.Any) -> Gpus:
    if value in ("all", "none"):
        return str(value)
    # An empty list is more likely a selection that found nothing than a wish for a server without a GPU.
    if isinstance(value, (list, tuple)) and value:
        return tuple(str(uuid) for uuid in value)
    raise VllmError(
        "gpus must be 'all', 'none' or a list of GPU UUIDs (nvidia-smi -L prints them; the filter "
        f"gpufleet.vllm.select_gpus picks them); got {value!r}."
    )


def engine_options(given: t.Mapping[str, t.Any], where: str = "engine") -> dict[str, EngineValue]:
    """Normalize the mapping of vLLM's flags: underscores, values as vLLM reads them, null left out.

    Raises:
        VllmError: for a flag that another key of the server sets, or that is given twice.
    """
    options: dict[str, EngineValue] = {}
    for key, value in given.items():
        name = str(key).lstrip("-").replace("-", "_")
        if name in OWNED_OPTIONS:
            raise VllmError(
                f"{where}.{key}: set the server's {OWNED_OPTIONS[name]} instead; vLLM's --{key} follows it."
            )
        if value is None:
            continue
        if name in options:
            raise VllmError(f"{where}.{key}: vLLM's --{name.replace('_', '-')} is given twice, in two spellings.")
        options[name] = _engine_value(name, value)
    return options


def _engine_value(name: str, value: t.Any) -> EngineValue:
    if isinstance(value, bool):
        return value
    is_list = isinstance(value, (list, tuple))
    if isinstance(value, t.Mapping) or (is_list and vllm_versions.option_kind(name, None) == "json"):
        return canonical_json(value)
    if is_list:
        return tuple(_text(v) for v in value)
    # Quoted booleans are a YAML slip; no option of vLLM takes the word.
    return {"true": True, "false": False}.get(str(value).lower(), str(value))


def _validate(spec: ServerSpec) -> None:
    _validate_names(spec)
    if not 1 <= spec.port <= 65535:
        raise VllmError(f"port must be between 1 and 65535; got {spec.port}.")
    if not RESTART_POLICY.fullmatch(spec.restart_policy):
        raise VllmError(
            "restart_policy must be no, unless-stopped, on-failure or on-failure:N (Docker's 'always' would also start "
            f"a server that was stopped on purpose); got {spec.restart_policy!r}."
        )
    if spec.validation not in VALIDATIONS:
        raise VllmError(f"validation must be one of {', '.join(VALIDATIONS)}; got {spec.validation!r}.")
    for key in sorted({*spec.engine} & {*spec.engine_unchecked}):
        raise VllmError(f"engine_unchecked.{key}: engine sets it as well; keep one of the two.")
    for key, name in SECRET_ENV.items():
        if key in spec.env:
            raise VllmError(f"env.{key}: a secret in env shows in docker inspect; keep it in a file and set {name}.")
    for key in spec.env:
        if not key or "=" in key:
            raise VllmError(f"env: the name of a variable must not be empty or contain '='; got {key!r}.")
    for key in spec.labels:
        if key.startswith(RESERVED_LABELS):
            raise VllmError(f"labels.{key}: labels that start with {RESERVED_LABELS} are reserved for the collection.")
    _validate_exposure(spec)


def _validate_names(spec: ServerSpec) -> None:
    for key, value in (("name", spec.name), ("container_name", spec.container_name)):
        if not NAME.fullmatch(value):
            raise VllmError(
                f"{key} must start with a letter or digit and contain only letters, digits, '_', '.' and '-'; "
                f"got {value!r}."
            )
    for suffix in RESERVED_SUFFIXES:
        if spec.container_name.endswith(suffix):
            raise VllmError(
                f"container_name must not end with {suffix}, which marks what a deployment keeps of a server while it "
                f"replaces it; got {spec.container_name!r}."
            )


def _validate_exposure(spec: ServerSpec) -> None:
    guarded = spec.api_key_file or spec.allow_unauthenticated
    if not ipaddress.ip_address(spec.bind).is_loopback and not guarded:
        raise VllmError(
            f"bind: {spec.bind} would offer {spec.served_model_names[0]} on port {spec.port} to the network without a "
            "key. Set api_key_file, bind to 127.0.0.1, or set allow_unauthenticated: true if the network is trusted."
        )


def fingerprint(intent: t.Mapping[str, t.Any], secrets: t.Mapping[str, str]) -> str:
    """Identify what the user asked for: intent as C(to_dict()) gives it, secrets as digests by key."""
    digest = hashlib.sha256(canonical_json({"intent": intent, "secrets": dict(secrets)}).encode("utf-8"))
    return f"v1:{digest.hexdigest()}"


def secret_digest(key: str, content: bytes) -> str:
    """A digest that shows rotation. Slow on purpose: labels are readable, and an API key may be a weak word."""
    return hashlib.pbkdf2_hmac("sha256", content.strip(), f"gpufleet.vllm {key}".encode(), 60_000).hex()[:16]
