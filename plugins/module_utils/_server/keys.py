# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of a server as users write them, each read into the one spelling that is recorded. Pure."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import typing as t

from .._errors import VllmError
from .._host import redaction
from .._vllm import versions as vllm_versions
from .container_keys import NAME, normalized as of_containers

# What clients may call the model: one name, or several, of which the first is the main one.
Names = t.Union[str, tuple[str, ...]]
# `all`, `none`, or GPU UUIDs.
Gpus = t.Union[str, tuple[str, ...]]
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
PATH_KEYS = ("huggingface_dir", "encodings_dir", "hf_token_file", "api_key_file", "env_file", "venv")
DEFAULT_ULIMITS = {"memlock": -1, "stack": 67108864}
NUMBER_TEXT = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def normalized(given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The keys of a server, of which C(given) are those that were set, in one form whatever YAML made of them.

    Raises:
        VllmError: with the address of the key at fault (C(engine.port)) and what to write instead.
    """
    model = _model(given)
    name = str(given.get("name") or re.sub(r"[^a-zA-Z0-9_.-]+", "-", model.rstrip("/").rsplit("/", 1)[-1]))
    normal: dict[str, t.Any] = {
        "name": name,
        "model": model,
        "image": str(given.get("image", "")),
        "container_name": str(given.get("container_name") or default_container_name(name)),
        "served_model_name": _served_names(given.get("served_model_name") or model),
        "vllm_version": _version(given),
        "engine": _engine_options(mapping("engine", given)),
        "engine_unchecked": _engine_options(mapping("engine_unchecked", given), "engine_unchecked"),
        "env": {str(k): _text(v) for k, v in mapping("env", given).items() if v is not None},
        "labels": {str(k): _text(v) for k, v in mapping("labels", given).items() if v is not None},
        "volumes": _volumes(given.get("volumes") or ()),
        "gpus": _gpus(given.get("gpus", "all")),
        "gpus_at_start": dict(mapping("gpus_at_start", given)),
        "ulimits": _ulimits(mapping("ulimits", given)),
        "bind": _address(given.get("bind", "127.0.0.1")),
        "restart_policy": _restart_policy(given.get("restart_policy", "unless-stopped")),
    }
    for key in PATH_KEYS:
        normal[key] = _absolute_path(key, given[key]) if given.get(key) else None
    for key in ("port", "stop_timeout"):
        if key in given:
            normal[key] = _integer(key, given[key])
    return {**given, **normal, **of_containers(given)}


def canonical_json(value: t.Any) -> str:
    """One text for equal values: what is recorded, compared and digested."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def parsed(value: t.Any) -> t.Any:
    """What a text of JSON holds; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def default_container_name(name: str) -> str:
    """What the container of a server is called that names none."""
    return f"vllm-{name}"


def _model(given: t.Mapping[str, t.Any]) -> str:
    model = str(given.get("model") or "")
    if not model:
        raise VllmError("model is missing: name a Hugging Face id (openai/gpt-oss-120b) or a directory on the host.")
    if model.startswith(("~", "./", "../")):
        # The form of a directory; without a home or a working directory that means nothing on a host.
        return _absolute_path("model", model, keep=True)
    return model


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


def mapping(key: str, given: t.Mapping[str, t.Any]) -> t.Mapping[str, t.Any]:
    """The value of a key that holds a mapping; empty where it is not given.

    Raises:
        VllmError: for anything but a mapping.
    """
    value = given.get(key) or {}
    if not isinstance(value, t.Mapping):
        raise VllmError(f"{key} must be a mapping, a line of 'KEY: VALUE' for each entry; got {_quoted(value)}.")
    return value


def _quoted(value: t.Any) -> str:
    """A value in a message, which may be an environment that was written in another way."""
    return repr(redaction.redact_value(value))


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


def _absolute_path(key: str, value: t.Any, keep: bool = False) -> str:
    """A path on the host in one spelling, with C(~) as the home of the user that runs this.

    Docker takes a source that does not begin with a slash for the name of a volume, and a colon for its end.

    Raises:
        VllmError: for a path that is not absolute, or that Docker would read as something else.
    """
    path = os.path.expanduser(str(value))
    if not path.startswith("/"):
        raise VllmError(f"{key} must be an absolute path on the host (~ is the home there); got {str(value)!r}.")
    if ":" in path or not path.isprintable():
        raise VllmError(
            f"{key} must be a path without a colon and without control characters, which a mount cannot have; "
            f"got {str(value)!r}."
        )
    return path if keep else _spelled(path)


def _spelled(path: str) -> str:
    """A path without the slashes and dots that mean nothing."""
    return "/" + "/".join(part for part in path.split("/") if part not in ("", "."))


def _volumes(given: t.Any) -> tuple[str, ...]:
    if not isinstance(given, (list, tuple)):
        raise VllmError(f"volumes must be a list, a line of '- SOURCE:DESTINATION[:ro]' for each mount; got {given!r}.")
    # Their order means nothing: an engine mounts the outer directories first.
    return tuple(sorted(_volume(v) for v in given))


def _volume(text: t.Any) -> str:
    source, colon, rest = str(text).partition(":")
    if not colon or not rest.startswith("/"):
        raise VllmError(f"volumes must hold SOURCE:DESTINATION[:ro] with an absolute destination; got {text!r}.")
    source = os.path.expanduser(source)
    target, colon, options = rest.partition(":")
    if not NAME.fullmatch(source):
        if not source.startswith("/"):
            raise VllmError(
                "volumes must have an absolute path or the name of a volume (letters, digits, '_', '.' and '-') as "
                f"source; got {text!r}."
            )
        source = _absolute_path("volumes", source)
    return f"{source}:{_absolute_path('volumes', target)}{colon}{options}"


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


def _engine_options(given: t.Mapping[str, t.Any], where: str = "engine") -> dict[str, EngineValue]:
    """Normalize the mapping of vLLM's flags: underscores, values as vLLM reads them, null left out.

    Raises:
        VllmError: for a flag that another key of the server sets, or that is given twice.
    """
    options: dict[str, EngineValue] = {}
    for key, value in given.items():
        name = str(key).lstrip("-").replace("-", "_")
        owned = _owned(name)
        if owned:
            short = "" if owned == name else f" (it is short for --{owned.replace('_', '-')})"
            raise VllmError(
                f"{where}.{key}: set the server's {OWNED_OPTIONS[owned]} instead; vLLM's --{key} follows it{short}."
            )
        if value is None:
            continue
        if name in options:
            raise VllmError(f"{where}.{key}: vLLM's --{name.replace('_', '-')} is given twice, in two spellings.")
        options[name] = _engine_value(name, value)
    return options


def _owned(name: str) -> str:
    """The option that another key of the server sets and that vLLM takes the name for: it may be cut short."""
    base = name.partition(".")[0]
    if base in OWNED_OPTIONS:
        return base
    meant = [owned for owned in OWNED_OPTIONS if owned.startswith(base)] if len(base) > 1 else []
    return meant[0] if meant and vllm_versions.option_kind(base, None) == "any" else ""


def _engine_value(name: str, value: t.Any) -> EngineValue:
    if isinstance(value, bool):
        return value
    kind = vllm_versions.option_kind(name, None)
    is_list = isinstance(value, (list, tuple))
    if isinstance(value, t.Mapping) or (is_list and kind == "json"):
        return canonical_json(value)
    if is_list:
        return tuple(_text(v) for v in value)
    # Quoted booleans are a YAML slip; no option of vLLM takes the word.
    return {"true": True, "false": False}.get(str(value).lower(), _one_spelling(kind, str(value)))


def _one_spelling(kind: str, text: str) -> str:
    """A number as it is written without quotes."""
    if kind == "float" and NUMBER_TEXT.fullmatch(text):
        return repr(float(text)).removesuffix(".0")
    return text
