# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What building an environment depends on: interpreters, uv, the driver, the disk, the settings of pip. Only looks."""

from __future__ import annotations

import configparser
import glob
import json
import os
import stat
import sys
import typing as t
import urllib.parse
import zipfile

from .._deploy.weights import free_bytes
from .._gpu.kernel import parse_driver_version
from .._gpu.nvidia_smi import gpu_query
from .._gpu.probe import Host
from .._host import files
from .plan import Facts, Interpreter, PipConfiguration
from .spec import Wish
from .state import size_of

MINORS = range(14, 7, -1)
# Where the installers of uv put it, for a user whose PATH over SSH does not say so.
UV_PLACES = ("~/.local/bin/uv", "~/.cargo/bin/uv")
PYTHON_PLACES = ("/usr/bin", "/usr/local/bin", "/opt/python*/bin", "/opt/rh/*/root/usr/bin")
# What an interpreter says of itself; its own path, since the one that was called may be a script that looks for it.
ABOUT = (
    "import importlib.util as u, json, os, sys; b = getattr(sys, '_base_executable', '') or sys.executable; "
    "print(json.dumps([os.path.realpath(b), sys.version_info[:2], bool(u.find_spec('ensurepip') and "
    "u.find_spec('venv'))]))"
)
SECONDS = 20.0
# Settings of pip that say where packages come from, or how they are reached.
PIP_SETTINGS = (
    "index-url",
    "extra-index-url",
    "find-links",
    "no-index",
    "proxy",
    "cert",
    "client-cert",
    "trusted-host",
)


def facts(wish: Wish, root: str, host: Host | None = None, user: t.Mapping[str, str] | None = None) -> Facts:
    """The host, for building the environment below C(root)."""
    asked = host or Host()
    environment = os.environ if user is None else user
    return Facts(
        pythons=interpreters(wish.python, asked),
        uv=_find_uv(asked),
        driver=None if wish.is_for_cpu else driver(asked),
        glibc=_glibc(),
        free_bytes=free_bytes(root),
        root_fault=root_fault(root),
        wheelhouse_bytes=unpacked_bytes(wish.wheelhouse) if wish.wheelhouse else None,
        wheelhouse_is_open=bool(wish.wheelhouse) and is_open(str(wish.wheelhouse)),
        pip=None if wish.wheelhouse else pip_configuration(environment),
    )


def interpreters(python: str | None, host: Host) -> tuple[Interpreter, ...]:
    """The Pythons of the host, each once, or only the one at a path."""
    if python and os.path.isabs(python):
        paths = [python]
    else:
        paths = [host.find(f"python3.{minor}") or "" for minor in MINORS]
        paths += [path for place in PYTHON_PLACES for path in sorted(glob.glob(f"{place}/python3.[0-9]*"))]
        paths += [host.find("python3") or "", getattr(sys, "_base_executable", "") or sys.executable]
    wanted = [path for path in dict.fromkeys(paths) if path and not path.endswith("-config")]
    answers = host.start({path: (path, "-I", "-c", ABOUT) for path in wanted})(SECONDS)
    found: dict[str, Interpreter] = {}
    for path in wanted:
        told = _told(answers[path].out) if answers[path].rc == 0 else None
        if told:
            found.setdefault(told.path, told)
    return tuple(found.values())


def _told(text: str) -> Interpreter | None:
    try:
        path, (major, minor), makes_environments = json.loads(text)
    except (ValueError, TypeError):
        return None
    return Interpreter(path, (major, minor), makes_environments, is_for_all(path))


def is_for_all(path: str) -> bool:
    """Whether every user may enter the directories above a path."""
    above = os.path.dirname(os.path.realpath(path))
    while above != os.path.dirname(above):
        try:
            if not os.stat(above).st_mode & stat.S_IXOTH:
                return False
        except OSError:
            return False
        above = os.path.dirname(above)
    return True


def _find_uv(host: Host) -> str | None:
    """Where uv is, on PATH or where its installer puts it; or None."""
    there = (os.path.expanduser(path) for path in UV_PLACES)
    return host.find("uv") or next((path for path in there if os.access(path, os.X_OK)), None)


def driver(host: Host) -> str | None:
    """The version of the NVIDIA driver that is loaded, or None."""
    loaded = parse_driver_version(host.read("/proc/driver/nvidia/version"))
    program = host.find("nvidia-smi")
    if loaded or program is None:
        return loaded
    answer = host.start({"": (program, *gpu_query(("driver_version",)))})(SECONDS)[""]
    lines = answer.out.splitlines() if answer.rc == 0 else []
    told = [line.strip() for line in lines if line.strip()[:1].isdigit()]
    return told[0].partition(",")[0] if told else None


def _glibc() -> tuple[int, int] | None:
    try:
        major, minor = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")[2].split(".")[:2]
        return int(major), int(minor)
    except (ValueError, OSError):
        return None


def root_fault(root: str) -> str:
    """Why nothing can be made in a directory, or nothing in it be trusted; empty when all is well."""
    place = root
    while not os.path.lexists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    try:
        status = os.stat(place)
    except OSError as error:
        return f"Cannot make environments in {root}: {error.strerror} at {place}. Choose another root."
    if not stat.S_ISDIR(status.st_mode):
        return f"Cannot make environments in {root}: {place} is not a directory. Choose another root."
    if not os.access(place, os.W_OK | os.X_OK):
        return (
            f"Cannot make environments in {root}: no permission to write to {place}. Run with become: true, or choose "
            "another root, such as ~/vllm/venvs."
        )
    is_safe = status.st_uid in (0, os.geteuid()) and not status.st_mode & 0o022
    if place == root and not is_safe:
        return (
            f"Cannot make environments in {root}: others may write to it, and so to what the servers run. Give it to "
            f"this user and run: chmod 755 {root}"
        )
    return ""


def unpacked_bytes(wheelhouse: str) -> int | None:
    """What all wheels of a directory unpack to; one that cannot be read counts as it is. None where it is none."""
    if not os.path.isdir(wheelhouse):
        return None
    total = 0
    for path in glob.glob(os.path.join(glob.escape(wheelhouse), "*")):
        try:
            with zipfile.ZipFile(path) as wheel:
                total += sum(info.file_size for info in wheel.infolist())
        except (OSError, zipfile.BadZipFile, ValueError):
            total += max(size_of(path), 0)
    return total


def is_open(path: str) -> bool:
    """Whether everybody may write to a directory."""
    try:
        return bool(os.stat(path).st_mode & stat.S_IWOTH)
    except OSError:
        return False


def pip_configuration(user: t.Mapping[str, str]) -> PipConfiguration | None:
    """The configuration of pip that says where packages come from, if one does; the last one that is read decides."""
    told = next((name for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS") if user.get(name)), None)
    if told:
        return PipConfiguration(told)
    named = user.get("PIP_CONFIG_FILE")
    if named == os.devnull:
        return None
    home = user.get("HOME", os.path.expanduser("~"))
    settings = user.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    paths = ["/etc/xdg/pip/pip.conf", "/etc/pip.conf", f"{home}/.pip/pip.conf", f"{settings}/pip/pip.conf"]
    found = None
    for path in [*paths, *([named] if named else [])]:
        values = _settings_of_pip(path)
        if values:
            found = PipConfiguration(path, any(map(_has_credentials, values)), stat.S_IMODE(os.stat(path).st_mode))
    return found


def _settings_of_pip(path: str) -> list[str]:
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read_string(files.read_text(path))
    except configparser.Error:
        return []
    sections = [parser[name] for name in ("global", "install") if parser.has_section(name)]
    return [section[key] for section in sections for key in section if key.replace("_", "-") in PIP_SETTINGS]


def _has_credentials(value: str) -> bool:
    return any("@" in urllib.parse.urlsplit(word).netloc for word in value.split() if "://" in word)


def in_the_way(path: str) -> str | None:
    """What stands at a path, for a sentence; None when nothing does."""
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return None
    return "a directory" if stat.S_ISDIR(mode) else "a link" if stat.S_ISLNK(mode) else "a file"
