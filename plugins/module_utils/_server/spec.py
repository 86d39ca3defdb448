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
import re
import typing as t
from dataclasses import MISSING, dataclass, field, fields

from .._errors import VllmError
from .._vllm import versions as vllm_versions
from .container_keys import NAME
from .keys import (
    DEFAULT_ULIMITS,
    PATH_KEYS,
    EngineValue,
    Gpus,
    Names,
    canonical_json,
    default_container_name,
    normalized,
    parsed,
)
from .secret_settings import refuse_secrets

# How strictly the flags are judged.
VALIDATIONS = ("normal", "strict", "permissive")


# Keys of the role's dict, and of the catalogue's specs, that do not describe the server's process.
ROLE_ONLY_KEYS = (
    *("allow_daemon_reload", "architecture", "backend", "docker_host", "fallbacks", "fit", "health"),
    *("host_reserve_gib", "load_seconds", "memory_timeout", "exclusive", "pin_kv", "pull", "replace_others"),
)

# What makes a server one that does not generate.
POOLING = {
    "runner": ("pooling",),
    "convert": ("classify", "embed", "reward"),
    "task": ("classify", "embed", "embedding", "reward", "score"),
}
HOME = re.compile(r"^(?:/root|/home/[^/]+|/var/root|/Users/[^/]+)/")
RESTART_POLICY = re.compile(r"no|unless-stopped|on-failure(:[1-9][0-9]*)?")
# What every useradd takes; a name of digits would be a number.
USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
# What the plan appends to a container's name: a server called like that would be taken for a leftover of another one.
RESERVED_SUFFIXES = ("-fetch", "-next", "-superseded", "-try")
RESERVED_LABELS = "gpufleet.vllm."


Metadata = t.Mapping[str, t.Any]


def _parameter(kind: str, recorded: bool = True, only: str = "", **more: t.Any) -> Metadata:
    """What a key is as a parameter of a module (its default is the field's), whether it is recorded, and which backend
    alone has it."""
    return {"parameter": {"type": kind, **more}, "recorded": recorded, "only": only}


TEXT, NUMBER, SWITCH = _parameter("str"), _parameter("int"), _parameter("bool")
PATH, MAPPING, TEXTS = _parameter("path"), _parameter("dict"), _parameter("list", elements="str")
# The backends, as the role names them.
CONTAINER, SERVICE = "container", "systemd"
OF_CONTAINERS = _parameter("str", only=CONTAINER)
TEXTS_OF_CONTAINERS = _parameter("list", only=CONTAINER, elements="str")
# Who has what nobody writes down: no module has a parameter for it.
NOBODY = "nobody"
# Its name alone makes Ansible hide such a path.
SECRET_PATH = _parameter("path", no_log=False)


@dataclass(frozen=True)
class ServerSpec:
    """The wanted server. A field left at its default is not recorded, so a changed default restarts nothing."""

    name: str = field(metadata=TEXT)
    model: str = field(metadata=TEXT)
    image: str = field(metadata=OF_CONTAINERS)
    container_name: str = field(metadata=OF_CONTAINERS)
    served_model_name: Names = field(metadata=_parameter("raw"))
    port: int = field(default=8000, metadata=NUMBER)
    bind: str = field(default="127.0.0.1", metadata=TEXT)
    network_mode: str = field(default="bridge", metadata=_parameter("str", only=CONTAINER, choices=["bridge", "host"]))
    network: str | None = field(default=None, metadata=OF_CONTAINERS)
    hostname: str | None = field(default=None, metadata=OF_CONTAINERS)
    extra_hosts: tuple[str, ...] = field(default=(), metadata=TEXTS_OF_CONTAINERS)
    gpus: Gpus = field(default="all", metadata=_parameter("raw"))
    devices: tuple[str, ...] = field(default=(), metadata=TEXTS_OF_CONTAINERS)
    ipc_mode: str = field(default="host", metadata=OF_CONTAINERS)
    # In bytes.
    shm_size: int | None = field(default=None, metadata=OF_CONTAINERS)
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
    # The program that the command of the server is handed to, in place of the image's.
    entrypoint: tuple[str, ...] = field(default=(), metadata=TEXTS_OF_CONTAINERS)
    privileged: bool = field(default=False, metadata=_parameter("bool", only=CONTAINER))
    cap_add: tuple[str, ...] = field(default=(), metadata=TEXTS_OF_CONTAINERS)
    group_add: tuple[str, ...] = field(default=(), metadata=TEXTS_OF_CONTAINERS)
    security_opt: tuple[str, ...] = field(default=(), metadata=TEXTS_OF_CONTAINERS)
    labels: t.Mapping[str, str] = field(default_factory=dict, metadata=_parameter("dict", only=CONTAINER))
    restart_policy: str = field(default="unless-stopped", metadata=TEXT)
    stop_timeout: int = field(default=30, metadata=NUMBER)
    keep_caches: bool = field(default=True, metadata=SWITCH)
    # The virtual environment that a service runs, and the user that it runs as.
    venv: str | None = field(default=None, metadata=_parameter("raw", only=SERVICE))
    user: str = field(default="vllm", metadata=_parameter("str", only=SERVICE))
    # What of a wish for GPUs a service looks at again whenever it starts: no key, a wish becomes GPUs and this.
    gpus_at_start: t.Mapping[str, t.Any] = field(default_factory=dict, metadata=_parameter("dict", only=NOBODY))
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
        """The directory on the host that holds the weights, when the model is not a Hugging Face id; below a named
        volume there is none that anybody could look into."""
        if not self.model.startswith("/"):
            return None
        return self.on_host(self.model) if self._mount_of(self.model) else self.model

    @property
    def model_in_volume(self) -> bool:
        """Whether the weights lie in a named volume of the engine's."""
        return is_named(self._mount_of(self.model) or "/")

    def on_host(self, path: str) -> str | None:
        """Where on the host a path lies that the server sees; None below a named volume, and within an image."""
        mounted = self._mount_of(path)
        if mounted is None:
            return path if self.venv else None
        source, target = mounted.split(":")[:2]
        return None if is_named(mounted) else source.rstrip("/") + path[len(target.rstrip("/")) :]

    def _mount_of(self, path: str) -> str | None:
        """The mount that a path lies in: the innermost one."""
        targets = {volume: volume.split(":")[1].rstrip("/") for volume in self.volumes}
        found = [one for one, target in targets.items() if f"{path}/".startswith(f"{target}/")]
        return max(found, key=lambda one: len(targets[one]), default=None)

    @property
    def url(self) -> str:
        """Where the server answers, seen from its own host."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.bind, self.bind)
        scheme = "https" if self.flag("ssl_certfile") else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    def flag(self, name: str) -> EngineValue | None:
        """The value of a flag of vLLM's, checked or not."""
        return self.engine.get(name, self.engine_unchecked.get(name))

    @property
    def uds(self) -> str | None:
        """The Unix socket that it listens on in place of a port, as the server sees it."""
        path = self.flag("uds")
        return path if isinstance(path, str) else None

    @property
    def access(self) -> dict[str, t.Any]:
        """How its own host asks it, beside URL, names and key, as parameters of vllm_health.

        A certificate is for the name that clients know, which the host does not ask by. Who listens there is looked up
        otherwise.
        """
        return {
            **({"runner": "pooling"} if pools({**self.engine, **self.engine_unchecked}) else {}),
            **({"uds": self.on_host(self.uds) or self.uds} if self.uds else {}),
            **({"validate_certs": False} if self.url.startswith("https:") else {}),
        }

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
        if not self.image:
            del given["image"]
        if "ulimits" in given:
            given["ulimits"] = {k: v for k, v in self.ulimits.items() if DEFAULT_ULIMITS.get(k) != v}
        for key in {"engine", "engine_unchecked"} & {*given}:
            given[key] = {name: _recorded_value(value) for name, value in given[key].items()}
        return t.cast("dict[str, t.Any]", json.loads(canonical_json(given)))


def _recorded_value(value: EngineValue) -> EngineValue:
    """JSON that was written as text, as a mapping would be recorded: vLLM reads the same."""
    found = parsed(value)
    return canonical_json(found) if isinstance(found, dict) else value


def _default(f: t.Any) -> t.Any:
    return f.default_factory() if callable(f.default_factory) else f.default


def _as_parameter(f: t.Any) -> dict[str, t.Any]:
    parameter = f.metadata["parameter"]
    # What a mapping or a list holds by default is merged into what the user writes, so a parameter begins empty.
    default = {"dict": {}, "list": []}.get(parameter["type"], _default(f))
    return {**parameter} if default in (None, MISSING) else {**parameter, "default": default}


def _is_of(f: t.Any, backend: str) -> bool:
    return f.metadata["only"] in ("", backend)


# The keys of a server as parameters of the module of each backend. The documentation is the fragment
# gpufleet.vllm.server; a unit test holds the two and the role's argument_specs.yml together.
SERVER_PARAMETERS: dict[str, t.Any] = {f.name: _as_parameter(f) for f in fields(ServerSpec) if _is_of(f, CONTAINER)}
SERVICE_PARAMETERS: dict[str, t.Any] = {f.name: _as_parameter(f) for f in fields(ServerSpec) if _is_of(f, SERVICE)}
ALL_KEYS = tuple(f.name for f in fields(ServerSpec) if f.metadata["only"] != NOBODY)
# Keys of the role's dict that one backend alone has.
OWN_KEYS: dict[str, frozenset[str]] = {
    backend: frozenset((*(f.name for f in fields(ServerSpec) if f.metadata["only"] == backend), further))
    for backend, further in ((CONTAINER, "pull"), (SERVICE, "allow_daemon_reload"))
}


def pools(engine: t.Mapping[str, t.Any]) -> bool:
    """Whether a server with these flags embeds, classifies or scores, and generates nothing."""
    return any(engine.get(key) in POOLING[key] for key in POOLING)


def asked(access: t.Mapping[str, t.Any], health: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Parameters of vllm_health: how a server is asked, and what somebody wishes, who may know another way to it."""
    ways = {"runner"} if health.get("url") else {*access}
    wishes = {key: value for key, value in health.items() if value is not None}
    return {**{key: value for key, value in access.items() if key in ways}, **wishes}


def is_named(volume: str) -> bool:
    """Whether a mount is of a volume that the engine keeps by its name, and not of a path on the host."""
    return not volume.startswith("/")


def merge(one: t.Mapping[str, t.Any], other: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The other over the one: mappings are merged, everything else is replaced."""
    result = dict(one)
    for key, value in other.items():
        before = result.get(key)
        result[key] = merge(before, value) if isinstance(before, t.Mapping) and isinstance(value, t.Mapping) else value
    return result


def from_params(params: t.Mapping[str, t.Any]) -> ServerSpec:
    """Build and validate a spec from the user's keys; a key that is absent or null was not set.

    Raises:
        VllmError: with the address of the key at fault (C(engine.port)) and what to write instead.
    """
    given = {key: value for key, value in params.items() if value is not None}
    known = {f.name for f in fields(ServerSpec)}
    unknown = sorted(set(given) - known)
    if unknown:
        raise VllmError(f"Unknown key {unknown[0]!r}. Valid keys: {', '.join(sorted(ALL_KEYS))}.")
    spec = ServerSpec(**normalized(given))
    _validate(spec)
    return spec


def of_another_home(before: t.Mapping[str, t.Any], after: t.Mapping[str, t.Any]) -> list[str]:
    """What to say of paths that two records have below the homes of two users: most likely both were written with ~."""
    return [
        f"{key} is {after[key]}, and was {before[key]} before. ~ is the home of the user whom Ansible connects as, and "
        "for a module without role vllm_server of the one that it runs as: deploy as before, or write an absolute path."
        for key in PATH_KEYS
        if isinstance(before.get(key), str)
        and isinstance(after.get(key), str)
        and before[key] != after[key]
        and HOME.sub("", before[key]) == HOME.sub("", after[key])
    ]


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
    for key in spec.env:
        if not key or "=" in key:
            raise VllmError(f"env: the name of a variable must not be empty or contain '='; got {key!r}.")
    for key in spec.labels:
        if key.startswith(RESERVED_LABELS):
            raise VllmError(f"labels.{key}: labels that start with {RESERVED_LABELS} are reserved for the collection.")
    _validate_secret_files(spec)
    refuse_secrets({key: getattr(spec, key) for key in ("env", "engine", "engine_unchecked", "labels", "entrypoint")})
    _validate_network(spec)
    _validate_exposure(spec)


def _validate_secret_files(spec: ServerSpec) -> None:
    """Each secret has a file of its own: what is handed over for one key would be read for the other."""
    found: dict[str, str] = {}
    for key, path in spec.secret_files.items():
        other = found.setdefault(path, key)
        if other != key:
            raise VllmError(f"{key} and {other} must be different files; got {path} for both.")


def _validate_names(spec: ServerSpec) -> None:
    for key, value in (("name", spec.name), ("container_name", spec.container_name)):
        if not NAME.fullmatch(value):
            raise VllmError(
                f"{key} must start with a letter or digit and contain only letters, digits, '_', '.' and '-'; "
                f"got {value!r}."
            )
    if not USER.fullmatch(spec.user):
        raise VllmError(
            "user must be the name of a system user (lower case letters, digits, '_' and '-', at most 31); "
            f"got {spec.user!r}."
        )
    for suffix in RESERVED_SUFFIXES:
        if spec.container_name.endswith(suffix):
            raise VllmError(
                f"container_name must not end with {suffix}, which marks what a deployment keeps of a server while it "
                f"replaces it; got {spec.container_name!r}."
            )


def _validate_network(spec: ServerSpec) -> None:
    if spec.network and spec.network_mode == "host":
        raise VllmError(
            f"network: {spec.network} and network_mode: host are mutually exclusive. Remove one of the two."
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


def secret_digest(key: str, content: bytes, salt: str) -> str:
    """A digest that shows rotation, for who has the salt: labels are readable, and a secret may be a weak word. Slow on
    purpose, should the salt get out."""
    return hashlib.pbkdf2_hmac("sha256", content.strip(), f"{salt} {key}".encode(), 60_000).hex()[:16]
