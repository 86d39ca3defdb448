# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What plugins are handed, as ordinary values: Ansible's lazy ones unwrapped, mappings, keys and sizes checked."""

from __future__ import annotations

import difflib
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError


def plain(value: t.Any) -> t.Any:
    """Ansible's lazy and tagged values as ordinary ones."""
    if isinstance(value, t.Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)


def require_mapping(name: str, value: t.Any, optional: bool = False) -> None:
    """Refuse what is no mapping; the name tells which value of which filter it is.

    Raises:
        AnsibleFilterError: for anything else, None too unless it is optional.
    """
    if not isinstance(value, t.Mapping) and not (optional and value is None):
        raise AnsibleFilterError(f"{name} must be a mapping; got {type(plain(value)).__name__}.")


def refuse_unknown(address: str, value: t.Any, known: t.Iterable[str]) -> None:
    """Refuse what is no mapping with these keys alone.

    Raises:
        VllmError: with the address of the first key that does not exist, and the one that was probably meant.
    """
    keys = sorted(known)
    if not isinstance(value, t.Mapping):
        raise VllmError(f"{address} must be a mapping with the keys {', '.join(keys)}; got {value!r}.")
    for key in sorted(map(str, {*value} - {*keys})):
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"Did you mean {near[0]}?" if near else f"Valid keys: {', '.join(keys)}."
        raise VllmError(f"Unknown key '{address}.{key}'. {hint}")


def mebibytes(name: str, value: t.Any) -> float:
    """A size in MiB, from a template, where it may be text."""
    return _size(name, value, "MiB")


def gibibytes(name: str, value: t.Any) -> float:
    """A size in GiB, from a template, where it may be text."""
    return _size(name, value, "GiB")


def _size(name: str, value: t.Any, unit: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not 0 <= number < float("inf") or isinstance(value, bool):
        raise VllmError(f"{name} must be a number of {unit}; got {value!r}.")
    return number
