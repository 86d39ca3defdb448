# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which settings of a server are secrets that others could read, and where they belong. Pure."""

from __future__ import annotations

import functools
import typing as t

from .._errors import VllmError
from .._host import redaction
from .keys import mapping, parsed

# Variables that would show in `docker inspect`, with the key that keeps them in a file. Every other one that its name
# or its value says is a secret belongs into env_file.
SECRET_ENV = {
    "HF_TOKEN": "hf_token_file",
    "HUGGING_FACE_HUB_TOKEN": "hf_token_file",
    "HUGGINGFACE_TOKEN": "hf_token_file",
    "VLLM_API_KEY": "api_key_file",
}
# Values that are no secret, whatever they are assigned to: switches.
SWITCHES = {"", "0", "1", *redaction.PLAIN}


def refuse_secrets(settings: t.Mapping[str, t.Any], where: str = "") -> None:
    """What a container is made with can be read by everybody who may ask the engine.

    Raises:
        VllmError: with the address of a secret, behind C(where), and the place for it.
    """
    try:
        _refuse_secrets(settings, where)
    except RecursionError:
        raise VllmError(f"{where}env or {where}engine is nested too deeply. Write it with fewer levels.") from None


def _refuse_secrets(settings: t.Mapping[str, t.Any], where: str) -> None:
    for key, value in mapping("env", settings).items():
        address = secret_at(f"{where}env", str(key), value)
        if address or (key in SECRET_ENV and value is not None):
            place = SECRET_ENV.get(key, "env_file")
            shown = address or f"{where}env.{key}"
            raise VllmError(f"{shown}: a secret in env shows in docker inspect; keep it in a file and set {place}.")
    for group in ("engine", "engine_unchecked"):
        found = (secret_at(f"{where}{group}", str(key), value) for key, value in mapping(group, settings).items())
        address = next(filter(None, found), "")
        if address:
            raise VllmError(
                f"{address}: a secret in {group} shows in docker inspect and in the list of processes; keep it in "
                "a file: as a variable in env_file, or as a file that volumes mounts, and name that here."
            )
    words = settings.get("entrypoint") or ()
    for word in [words] if isinstance(words, str) else words:
        if _looks_secret("", word):
            raise VllmError(
                f"{where}entrypoint: a secret in a command shows in docker inspect and in the list of processes; keep "
                "it in env_file, and read the variable."
            )
    for key, value in mapping("labels", settings).items():
        if _looks_secret("", value):
            raise VllmError(f"{where}labels.{key}: a secret in a label shows in docker inspect; keep it in env_file.")


def secret_at(where: str, key: str, value: t.Any) -> str:
    """The address of the first secret in a value, by its name or by its looks; empty when there is none."""
    address = f"{where}.{key}"
    value = parsed(value)
    if isinstance(value, t.Mapping):
        return next(filter(None, (secret_at(address, str(k), v) for k, v in value.items())), "")
    if isinstance(value, (list, tuple)):
        # The elements of a list have the name of the list.
        return next((found for v in value for found in (secret_at(where, key, v),) if found), "")
    return address if _looks_secret(key, value) else ""


def _looks_secret(name: str, value: t.Any) -> bool:
    if value is None or isinstance(value, bool):
        return False
    return _text_looks_secret(name.rpartition(".")[2], str(value))


@functools.lru_cache(maxsize=1024)
def _text_looks_secret(name: str, text: str) -> bool:
    # The servers of a host have most of their settings in common.
    if "{%" in text or "{{" in text:
        return redaction.is_secret_name(name)  # A template assigns tokens of the text.
    shown = str(redaction.redact_value(text, name=name))
    return text.lower() not in SWITCHES and redaction.HIDDEN in shown and redaction.HIDDEN not in text
