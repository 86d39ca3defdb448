# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keys of a server that say how its container is made, each in the one spelling that is recorded. Pure."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from .._errors import VllmError

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
HOSTNAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9.-]{0,62}")
CAPABILITY = re.compile(r"ALL|[A-Z]+(_[A-Z]+)*")
SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([bkmgt]?)(?:i?b)?", re.IGNORECASE)
UNITS = "bkmgt"
PERMISSIONS = re.compile(r"r?w?m?")
# What Docker and Podman take in place of the name of a network.
NETWORK_MODES = ("bridge", "host", "none", "default", "private", "pasta", "slirp4netns")
HOST_GATEWAY = "host-gateway"


def normalized(given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """These keys, as far as they are given.

    Raises:
        VllmError: for a value that no engine takes, with its key and what to write.
    """
    return {key: READERS[key](key, given[key]) if given[key] != "" else None for key in READERS if key in given}


def _size(key: str, value: t.Any) -> int:
    """A size in bytes, of a number or of a text with a unit: 1024 of each make the next."""
    match = SIZE.fullmatch(str(value)) if not isinstance(value, bool) else None
    size = int(float(match[1]) * 1024 ** max(0, UNITS.find((match[2] or "b").lower()))) if match else 0
    if not size:
        raise VllmError(f"{key} must be a size such as 16g, 512m or a number of bytes; got {value!r}.")
    return size


def _listed(key: str, value: t.Any) -> list[str]:
    if not isinstance(value, (list, tuple)):
        raise VllmError(f"{key} must be a list; got {value!r}.")
    return [str(one) for one in value]


def _each(read: t.Callable[[str, str], str]) -> t.Callable[[str, t.Any], tuple[str, ...]]:
    """Of a list whose order means nothing."""
    return lambda key, value: tuple(sorted({read(key, one) for one in _listed(key, value)}))


def _device(key: str, text: str) -> str:
    source, *rest = text.split(":")
    permissions = rest.pop() if rest and PERMISSIONS.fullmatch(rest[-1]) and rest[-1] else "rwm"
    target = rest.pop() if rest else source
    if rest or not (source.startswith("/") and target.startswith("/") and text.isprintable()):
        raise VllmError(
            f"{key} must hold devices of the host, each HOST[:CONTAINER][:rwm] with absolute paths (gpus hands over "
            f"GPUs); got {text!r}."
        )
    return f"{source}:{target}:{permissions}"


def _capability(key: str, text: str) -> str:
    name = text.upper()
    name = name.removeprefix("CAP_")
    if not CAPABILITY.fullmatch(name):
        raise VllmError(f"{key} must hold names of capabilities, such as SYS_PTRACE; got {text!r}.")
    return name


def _group(key: str, text: str) -> str:
    if not NAME.fullmatch(text):
        raise VllmError(f"{key} must hold names or numbers of groups; got {text!r}.")
    return text


def _extra_host(key: str, text: str) -> str:
    name, address = (text.split("=", 1) if "=" in text else text.split(":", 1) + [""])[:2]
    address = address.strip("[]")
    if not HOSTNAME.fullmatch(name) or not (address == HOST_GATEWAY or _is_address(address)):
        raise VllmError(
            f"{key} must hold NAME:ADDRESS with an IP address, or with {HOST_GATEWAY} for the host; got {text!r}."
        )
    return f"{name}:{address}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _security_option(key: str, text: str) -> str:
    # The older spelling has a colon.
    name, separator, value = text.partition("=") if "=" in text else text.partition(":")
    if not name or not text.isprintable() or (separator and not value):
        raise VllmError(f"{key} must hold options such as label=disable or seccomp=unconfined; got {text!r}.")
    if name == "seccomp" and value not in ("unconfined", "builtin"):
        raise VllmError(
            f"{key}: seccomp must be unconfined or builtin, since the engine takes the contents of a profile instead "
            f"of its path; got {text!r}."
        )
    return f"{name}={value}" if separator else name


def _hostname(key: str, value: t.Any) -> str:
    if not HOSTNAME.fullmatch(str(value)):
        raise VllmError(f"{key} must be the name of a host: letters, digits, '-' and '.'; got {value!r}.")
    return str(value)


def _network(key: str, value: t.Any) -> str:
    if str(value) in NETWORK_MODES or not NAME.fullmatch(str(value)):
        raise VllmError(
            f"{key} must be the name of a network that exists on the engine ('docker network ls' shows them); the "
            f"host's own is network_mode: host. Got {value!r}."
        )
    return str(value)


def _words(key: str, value: t.Any) -> tuple[str, ...]:
    words = tuple(_listed(key, value))
    if words and not words[0]:
        raise VllmError(f"{key} must begin with a program; got {value!r}.")
    return words


READERS: dict[str, t.Callable[[str, t.Any], t.Any]] = {
    "shm_size": _size,
    "devices": _each(_device),
    "cap_add": _each(_capability),
    "group_add": _each(_group),
    "extra_hosts": _each(_extra_host),
    "security_opt": _each(_security_option),
    "hostname": _hostname,
    "network": _network,
    "entrypoint": _words,
}
