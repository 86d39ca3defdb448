# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spec of one vLLM API server: from the user's keys to arguments, and what of it is recorded.

Pure: imports neither Ansible nor Docker. Sizes are as vLLM and Docker take them (ulimits in bytes, times in seconds).
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import typing as t
from dataclasses import dataclass, field, fields

from .._errors import VllmError
from .._vllm import versions as vllm_versions

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
NOT_OF_THE_PROCESS = (
    *("architecture", "backend", "docker_host", "fallbacks", "fit", "health", "host_reserve_gib", "load_seconds"),
    *("memory_timeout", "exclusive", "pin_kv", "pull", "replace_others"),
)

DEFAULT_ULIMITS = {"memlock": -1, "stack": 67108864}
RESTART_POLICY = re.compile(r"no|unless-stopped|on-failure(:[1-9][0-9]*)?")
NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
# What the plan appends to a container's name: a server called like that would be taken for a leftover of another one.
RESERVED_SUFFIXES = ("-fetch", "-next", "-superseded", "-try")
RESERVED_LABELS = "gpufleet.vllm."


NOT_RECORDED = {"recorded": False}


@dataclass(frozen=True)
class ServerSpec:
    """The wanted server. A field left at its default is not recorded, so a changed default restarts nothing."""

    name: str
    model: str
    image: str
    container_name: str
    served_model_name: str
    port: int = 8000
    bind: str = "127.0.0.1"
    network_mode: str = "bridge"
    gpus: Gpus = "all"
    ipc_mode: str = "host"
    ulimits: t.Mapping[str, int] = field(default_factory=lambda: dict(DEFAULT_ULIMITS))
    huggingface_dir: str | None = None
    encodings_dir: str | None = None
    hf_token_file: str | None = None
    api_key_file: str | None = None
    env_file: str | None = None
    allow_unauthenticated: bool = False
    engine: t.Mapping[str, EngineValue] = field(default_factory=dict)
    engine_unchecked: t.Mapping[str, EngineValue] = field(default_factory=dict)
    env: t.Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    labels: t.Mapping[str, str] = field(default_factory=dict)
    restart_policy: str = "unless-stopped"
    stop_timeout: int = 30
    keep_caches: bool = True
    # What is known about the image, and how strictly to judge: neither is part of what was asked for.
    vllm_version: str | None = field(default=None, metadata=NOT_RECORDED)
    validation: str = field(default="normal", metadata=NOT_RECORDED)

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
        recorded = [f for f in fields(self) if f.metadata.get("recorded", True)]
        said = {f.name: getattr(self, f.name) for f in recorded if getattr(self, f.name) != _default(f)}
        for derived, source in (("served_model_name", "model"), ("container_name", "name")):
            plain = self.model if source == "model" else default_container_name(self.name)
            if said[derived] == plain:
                del said[derived]
        if "ulimits" in said:
            said["ulimits"] = {k: v for k, v in self.ulimits.items() if DEFAULT_ULIMITS.get(k) != v}
        return t.cast("dict[str, t.Any]", json.loads(canonical_json(said)))


def _default(f: t.Any) -> t.Any:
    return f.default_factory() if callable(f.default_factory) else f.default


def canonical_json(value: t.Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def default_container_name(name: str) -> str:
    return f"vllm-{name}"


def from_params(params: t.Mapping[str, t.Any]) -> ServerSpec:
    """Build and validate a spec from the user's keys; a key that is absent or null was not said.

    Raises:
        VllmError: with the address of the key at fault (C(engine.port)) and what to write instead.
    """
    said = {key: value for key, value in params.items() if value is not None}
    known = {f.name for f in fields(ServerSpec)}
    unknown = sorted(set(said) - known)
    if unknown:
        raise VllmError(f"{unknown[0]} is not a key of a server; the keys are {', '.join(sorted(known))}.")
    model = _model(said)
    name = str(said.get("name") or re.sub(r"[^a-zA-Z0-9_.-]+", "-", model.rstrip("/").rsplit("/", 1)[-1]))
    spec = ServerSpec(
        **{
            **said,
            "name": name,
            "model": model,
            "image": str(said.get("image", "")),
            "container_name": str(said.get("container_name") or default_container_name(name)),
            "served_model_name": str(said.get("served_model_name") or model),
            "vllm_version": _version(said),
            **_normalized(said),
        }
    )
    _validate(spec)
    return spec


def _model(said: t.Mapping[str, t.Any]) -> str:
    model = str(said.get("model") or "")
    if not model:
        raise VllmError("model is missing: name a Hugging Face id (openai/gpt-oss-120b) or a directory on the host.")
    return os.path.expanduser(model) if model.startswith("~") else model


def _version(said: t.Mapping[str, t.Any]) -> str | None:
    told = said.get("vllm_version") or vllm_versions.version_of_image(str(said.get("image", "")))
    if told:
        vllm_versions.parse(str(told))
    return str(told) if told else None


def _normalized(said: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The keys that hold collections, in one form whatever YAML made of them."""
    normal: dict[str, t.Any] = {
        "engine": engine_options(_mapping("engine", said)),
        "engine_unchecked": engine_options(_mapping("engine_unchecked", said), "engine_unchecked"),
        "env": {str(k): _text(v) for k, v in _mapping("env", said).items() if v is not None},
        "labels": {str(k): _text(v) for k, v in _mapping("labels", said).items() if v is not None},
        "volumes": _volumes(said.get("volumes") or ()),
        "gpus": _gpus(said.get("gpus", "all")),
        "ulimits": _ulimits(_mapping("ulimits", said)),
        "bind": _address(said.get("bind", "127.0.0.1")),
        "restart_policy": _restart_policy(said.get("restart_policy", "unless-stopped")),
    }
    for key in ("huggingface_dir", "encodings_dir", "hf_token_file", "api_key_file", "env_file"):
        normal[key] = os.path.expanduser(str(said[key])) if said.get(key) else None
    for key in ("port", "stop_timeout"):
        if key in said:
            normal[key] = _integer(key, said[key])
    return normal


def _mapping(key: str, said: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    value = said.get(key) or {}
    if not isinstance(value, t.Mapping):
        raise VllmError(f"{key}: {value!r} is not a mapping; write a line of 'KEY: VALUE' for each entry.")
    return value


def _integer(key: str, value: t.Any) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or isinstance(value, bool) or (isinstance(value, float) and value != number):
        raise VllmError(f"{key}: {value!r} is not a whole number.")
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
            f"bind: {str(value)!r} is not an IP address. Write 127.0.0.1 for this host alone, 0.0.0.0 for all its "
            "networks, or one of its addresses."
        ) from None


def _restart_policy(value: t.Any) -> str:
    # YAML reads an unquoted no as false, and Ansible makes that the word "False".
    return "no" if value in (False, "False") else str(value)


def _ulimits(said: t.Mapping[str, t.Any]) -> dict[str, int]:
    return {**DEFAULT_ULIMITS, **{str(k): _integer(f"ulimits.{k}", v) for k, v in said.items() if v is not None}}


def _volumes(said: t.Any) -> tuple[str, ...]:
    if not isinstance(said, (list, tuple)):
        raise VllmError(f"volumes: {said!r} is not a list; write a line of '- SOURCE:DESTINATION[:ro]' for each mount.")
    return tuple(_volume(v) for v in said)


def _volume(text: t.Any) -> str:
    source, colon, rest = str(text).partition(":")
    if not colon or not rest.startswith("/"):
        raise VllmError(f"volumes: {text!r} is not SOURCE:DESTINATION[:ro] with absolute paths.")
    source = os.path.expanduser(source)
    if not source.startswith("/"):
        raise VllmError(f"volumes: the source of {text!r} is not an absolute path; named volumes are not supported.")
    return f"{source}:{rest}"


def _gpus(value: t.Any) -> Gpus:
    if value in ("all", "none"):
        return str(value)
    # An empty list is more likely a selection that found nothing than a wish for a server without a GPU.
    if isinstance(value, (list, tuple)) and value:
        return tuple(str(uuid) for uuid in value)
    raise VllmError(
        f"gpus: {value!r} is none of 'all', 'none' and a list of GPU UUIDs (nvidia-smi -L prints them; the filter "
        "gpufleet.vllm.select_gpus picks them)."
    )


def engine_options(said: t.Mapping[str, t.Any], where: str = "engine") -> dict[str, EngineValue]:
    """Normalize the mapping of vLLM's flags: underscores, values as vLLM reads them, null left out.

    Raises:
        VllmError: for a flag that another key of the server sets, or that is given twice.
    """
    options: dict[str, EngineValue] = {}
    for key, value in said.items():
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
        raise VllmError(f"port: {spec.port} is not between 1 and 65535.")
    if not RESTART_POLICY.fullmatch(spec.restart_policy):
        raise VllmError(
            f"restart_policy: {spec.restart_policy!r} is none of no, unless-stopped, on-failure and on-failure:N. "
            "(Docker's 'always' would also start a server that was stopped on purpose.)"
        )
    if spec.validation not in VALIDATIONS:
        raise VllmError(f"validation: {spec.validation!r} is none of {', '.join(VALIDATIONS)}.")
    for key in sorted({*spec.engine} & {*spec.engine_unchecked}):
        raise VllmError(f"engine_unchecked.{key}: it stands in engine too; keep one of the two.")
    for key, name in SECRET_ENV.items():
        if key in spec.env:
            raise VllmError(f"env.{key}: a secret in env shows in docker inspect; keep it in a file and set {name}.")
    for key in spec.env:
        if not key or "=" in key:
            raise VllmError(f"env: {key!r} cannot be the name of a variable.")
    for key in spec.labels:
        if key.startswith(RESERVED_LABELS):
            raise VllmError(f"labels.{key}: labels that start with {RESERVED_LABELS} are the collection's own.")
    _validate_exposure(spec)


def _validate_names(spec: ServerSpec) -> None:
    for key, value in (("name", spec.name), ("container_name", spec.container_name)):
        if not NAME.fullmatch(value):
            raise VllmError(
                f"{key}: {value!r} may only hold letters, digits, '_', '.' and '-', and starts with a letter or digit."
            )
    for suffix in RESERVED_SUFFIXES:
        if spec.container_name.endswith(suffix):
            raise VllmError(
                f"container_name: {spec.container_name!r} ends with {suffix}, which marks what a deployment keeps "
                "beside a server while it replaces it. Choose another name."
            )


def _validate_exposure(spec: ServerSpec) -> None:
    guarded = spec.api_key_file or spec.allow_unauthenticated
    if not ipaddress.ip_address(spec.bind).is_loopback and not guarded:
        raise VllmError(
            f"bind: {spec.bind} would offer {spec.served_model_name} on port {spec.port} to the network without a key. "
            "Set api_key_file, bind to 127.0.0.1, or set allow_unauthenticated: true if the network is trusted."
        )


def argv(spec: ServerSpec) -> list[str]:
    """The arguments after C(vllm serve): the only place where the spec becomes flags."""
    args = [spec.model, "--served-model-name", spec.served_model_name, "--port", str(spec.port)]
    if spec.network_mode == "host":
        # In its own network namespace vLLM listens everywhere, and what is published decides; here it decides itself.
        args += ["--host", spec.bind]
    engine = {**spec.engine, **spec.engine_unchecked}
    for name in sorted(engine):
        args += option_argv(name, engine[name], vllm_versions.option_kind(name, spec.vllm_version))
    return args


def option_argv(name: str, value: EngineValue, kind: str) -> list[str]:
    """One option as words. The kind, as the table of versions has it, says what the value alone does not."""
    base, dot, part = name.partition(".")
    flag = "--" + base.replace("_", "-") + dot + part
    if isinstance(value, bool):
        if kind == "truth" or dot:
            return [flag, str(value).lower()]
        return [flag] if value else [] if kind == "flag" else ["--no-" + flag[2:]]
    if isinstance(value, str):
        return [flag, value]
    if kind == "append":
        return [word for element in value for word in (flag, element)]
    return [flag, *value] if value else []


@dataclass(frozen=True)
class Places:
    """Where a backend puts what the server reads and writes, as the server sees it."""

    encodings: str
    hf_token: str
    caches: str | None = None


def env(spec: ServerSpec, places: Places) -> dict[str, str]:
    """The server's environment, what the user said last. Secrets are no part of it."""
    variables = {"NO_COLOR": "1"}
    if spec.reads_encodings:
        variables["TIKTOKEN_ENCODINGS_BASE"] = places.encodings
    if spec.hf_token_file:
        variables["HF_TOKEN_PATH"] = places.hf_token
    if places.caches:
        # What is compiled at the first start: kept, it makes later starts minutes shorter.
        variables["VLLM_CACHE_ROOT"] = f"{places.caches}/vllm"
        variables["TRITON_CACHE_DIR"] = f"{places.caches}/triton"
        variables["FLASHINFER_WORKSPACE_BASE"] = f"{places.caches}/flashinfer"
        variables["CUDA_CACHE_PATH"] = f"{places.caches}/cuda"
    if spec.network_mode == "host":
        variables["VLLM_PORT"] = str(internal_port(spec.port))
    return {**variables, **spec.env}


def internal_port(port: int) -> int:
    """Where vLLM starts to look for ports of its own: apart for servers that share a network, or starts at the same
    time race for them; below the range that Linux gives to outgoing connections."""
    return 12000 + port % 625 * 32


def fingerprint(intent: t.Mapping[str, t.Any], secrets: t.Mapping[str, str]) -> str:
    """Identify what the user asked for: intent as C(to_dict()) gives it, secrets as digests by key."""
    digest = hashlib.sha256(canonical_json({"intent": intent, "secrets": dict(secrets)}).encode("utf-8"))
    return f"v1:{digest.hexdigest()}"


def secret_digest(key: str, content: bytes) -> str:
    """A digest that shows rotation. Slow on purpose: labels are readable, and an API key may be a weak word."""
    return hashlib.pbkdf2_hmac("sha256", content.strip(), f"gpufleet.vllm {key}".encode(), 60_000).hex()[:16]


# The keys of a server as module parameters. The documentation is the fragment gpufleet.vllm.server; a unit test holds
# the two and the role's argument_specs.yml together.
SERVER_PARAMETERS: dict[str, t.Any] = {
    "name": {"type": "str"},
    "model": {"type": "str"},
    "served_model_name": {"type": "str"},
    "image": {"type": "str"},
    "container_name": {"type": "str"},
    "port": {"type": "int", "default": 8000},
    "bind": {"type": "str", "default": "127.0.0.1"},
    "network_mode": {"type": "str", "choices": ["bridge", "host"], "default": "bridge"},
    "gpus": {"type": "raw", "default": "all"},
    "ipc_mode": {"type": "str", "default": "host"},
    "ulimits": {"type": "dict", "default": {}},
    "huggingface_dir": {"type": "path"},
    "encodings_dir": {"type": "path"},
    "hf_token_file": {"type": "path", "no_log": False},
    "api_key_file": {"type": "path", "no_log": False},
    "env_file": {"type": "path"},
    "allow_unauthenticated": {"type": "bool", "default": False},
    "engine": {"type": "dict", "default": {}},
    "engine_unchecked": {"type": "dict", "default": {}},
    "env": {"type": "dict", "default": {}},
    "volumes": {"type": "list", "elements": "str", "default": []},
    "labels": {"type": "dict", "default": {}},
    "restart_policy": {"type": "str", "default": "unless-stopped"},
    "stop_timeout": {"type": "int", "default": 30},
    "keep_caches": {"type": "bool", "default": True},
    "vllm_version": {"type": "str"},
    "validation": {"type": "str", "choices": list(VALIDATIONS), "default": "normal"},
}
