# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was asked for: the keys of C(venv), normalized, with a digest that names the environment. Pure."""

from __future__ import annotations

import hashlib
import json
import os
import re
import typing as t
import urllib.parse
from dataclasses import asdict, dataclass

from .._errors import VllmError
from .._host.redaction import redact
from .._vllm import wheels
from .._vllm.versions import parse

KEYS = ("packages", "python", "index_url", "extra_index_urls", "wheelhouse", "constraints")
# How it may be built, and where: what is no part of what was asked for.
TERMS = ("root", "installer", "managed_python", "cuda_check", "min_free_gib", "timeout")
DEFAULT_ROOT = "/opt/vllm/venvs"
# Another way to write the same wish down would name every environment anew.
DIGEST_VERSION = 1
# What is older than that is a build that does not know its version.
OLDEST = (0, 5)
NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
REQUIREMENT = re.compile(rf"(?P<name>{NAME})\s*(?P<extras>\[[\w\s.,-]*\])?\s*(?P<rest>.*)")
# What may follow a name: versions, a place to take it from, a marker; nothing.
REST = re.compile(r"(?:(?:\(?\s*(?:===|==|~=|!=|<=|>=|<|>)[^;]*|@\s*\S+)?\s*(?:;.*)?)")
PIN = re.compile(r"\(?\s*===?\s*v?(?P<version>[0-9][\w.!+-]*)\s*\)?\s*(?:;.*)?")
WHEEL_FILE = re.compile(r"(?P<name>[A-Za-z0-9_.]+)-(?P<version>[0-9][\w.!+]*)(?:-\d\w*)?-[\w.]+-[\w.]+-[\w.]+\.whl")
PYTHON_VERSION = re.compile(r"3\.\d{1,2}")
ENVIRONMENT_VARIABLE = re.compile(r"\$\{?\w")
WAY_FOR_CREDENTIALS = (
    "It would show in lists of processes and in the record. Put the credentials into ~/.netrc of the user on the host, "
    "or into a pip configuration of mode 0600"
)


@dataclass(frozen=True)
class Package:
    """One requirement, as an installer takes it."""

    line: str
    # Of the distribution, with dashes and in small letters.
    name: str
    # The version that is pinned, with its build ("0.26.0+cu129"); None when any will do.
    version: str | None = None


@dataclass(frozen=True)
class Wish:
    """The environment that is wanted. Two wishes that differ in nothing here are one environment."""

    packages: tuple[Package, ...]
    python: str | None = None
    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    wheelhouse: str | None = None
    constraints: tuple[str, ...] = ()

    @property
    def vllm(self) -> Package:
        """The requirement that holds vLLM."""
        return next(one for one in self.packages if one.name in (wheels.GPU_NAME, wheels.CPU_NAME))

    @property
    def version(self) -> str:
        """The version of vLLM that is pinned, with its build."""
        return self.vllm.version or ""

    @property
    def is_for_cpu(self) -> bool:
        """Whether it is a build without CUDA."""
        return self.vllm.name == wheels.CPU_NAME or self.version.partition("+")[2].startswith("cpu")

    @property
    def cuda(self) -> tuple[int, int] | None:
        """The CUDA of what would be installed: that of the build, else that of an index, else the release's own."""
        if self.is_for_cpu:
            return None
        tags = [self.version.partition("+")[2], *map(_last_part, (*self.extra_index_urls, self.index_url or ""))]
        told = next(filter(None, map(wheels.cuda_of_tag, tags)), None)
        row = wheels.wheel_of(self.version)
        return told or (row.cuda if row else None)

    def to_dict(self) -> dict[str, t.Any]:
        """As it is recorded and compared."""
        lines = [one.line for one in self.packages]
        lists = {key: list(getattr(self, key)) for key in ("extra_index_urls", "constraints")}
        return {**{key: value for key, value in asdict(self).items() if key in KEYS}, "packages": lines, **lists}

    @property
    def digest(self) -> str:
        """Twelve characters that name it."""
        text = json.dumps({"version": DIGEST_VERSION, **self.to_dict()}, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def name(self) -> str:
        """What its directory is called: vllm-0.26.0-0123456789ab"""
        return f"{self.vllm.name}-{self.version}-{self.digest}"


def asked(params: t.Mapping[str, t.Any], address: str = "") -> Wish:
    """The wish that a mapping with the keys C(KEYS) describes; what is not said may be missing or None.

    Raises:
        VllmError: when something in it cannot be used; C(address) is where the mapping stands ("venv").
    """
    prefix = f"{address}." if address else ""
    unknown = sorted(set(params) - set(KEYS))
    if unknown:
        raise VllmError(f"Unknown key '{prefix}{unknown[0]}'. Valid keys: {', '.join(KEYS)}.")
    packages = {package(line, where) for where, line in _texts(params.get("packages"), f"{prefix}packages")}
    constraints = {
        _constraint(line, where) for where, line in _texts(params.get("constraints"), f"{prefix}constraints")
    }
    extra = [_url(text, where) for where, text in _texts(params.get("extra_index_urls"), f"{prefix}extra_index_urls")]
    wish = Wish(
        packages=tuple(sorted(packages, key=lambda one: (one.name, one.line))),
        python=_python(params.get("python"), f"{prefix}python"),
        index_url=_url(params["index_url"], f"{prefix}index_url") if params.get("index_url") else None,
        extra_index_urls=tuple(extra),
        wheelhouse=_wheelhouse(params.get("wheelhouse"), f"{prefix}wheelhouse"),
        constraints=tuple(sorted(constraints)),
    )
    _refuse_contradictions(wish, prefix)
    return wish


def _refuse_contradictions(wish: Wish, prefix: str) -> None:
    names = [one.name for one in wish.packages]
    holders = [one for one in wish.packages if one.name in (wheels.GPU_NAME, wheels.CPU_NAME)]
    if not holders:
        raise VllmError(
            f"{prefix}packages must name vLLM, as in vllm==0.26.0; got {', '.join(names) or 'no packages'}. An "
            "environment without it serves nothing."
        )
    # A distribution that only carries the name vllm may stand beside the build for CPUs.
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise VllmError(f"{prefix}packages names {twice[0]} more than once: name it once.")
    if wish.vllm.version is None:
        raise VllmError(
            f"{prefix}packages must pin vLLM to one version, as in {wish.vllm.name}==0.26.0; got {wish.vllm.line!r}. "
            "Flags, Python and driver are checked against that version before anything is downloaded, and two hosts "
            "get the same one."
        )
    if parse(wish.version) < OLDEST:
        raise VllmError(f"{prefix}packages: {wish.vllm.line!r} names no version of vLLM that this collection knows.")
    if wish.wheelhouse and (wish.index_url or wish.extra_index_urls):
        raise VllmError(
            f"{prefix}wheelhouse and {prefix}index_url or extra_index_urls are mutually exclusive: with a wheelhouse "
            "no index is used."
        )


def _texts(value: t.Any, address: str) -> list[tuple[str, str]]:
    """The texts of a list, each with its address."""
    if value is None:
        return []
    if not isinstance(value, (list, tuple)) or not all(isinstance(one, str) for one in value):
        raise VllmError(f"{address} must be a list of texts; got {value!r}.")
    return [(f"{address}[{number}]", one.strip()) for number, one in enumerate(value)]


def package(line: str, address: str) -> Package:
    """One line of C(packages).

    Raises:
        VllmError: when it is no requirement.
    """
    _refuse_line(line, address)
    if line.startswith("/") or "://" in line.partition(" ")[0].partition("@")[0]:
        return _file(line, line, address)
    found = REQUIREMENT.fullmatch(line)
    if not found or not REST.fullmatch(found["rest"]):
        raise VllmError(
            f"{address} must be a requirement such as vllm==0.26.0, or the absolute path or URL of a wheel; got "
            f"{line!r}."
        )
    name, rest = normalized(found["name"]), found["rest"].strip()
    if rest.startswith("@"):
        place = rest[1:].partition(";")[0].strip()
        return Package(f"{name}{found['extras'] or ''} @ {rest[1:].strip()}", name, _version_of_file(place))
    pin = PIN.fullmatch(rest)
    return Package(_tidy(name, found["extras"], rest), name, pin["version"] if pin else None)


def _tidy(name: str, extras: str | None, rest: str) -> str:
    """The same requirement however it was written, so that a blank more is no other environment."""
    versions, semicolon, marker = rest.partition(";")
    plain = re.sub(r"[\s()]+", "", versions)
    kept = ",".join(sorted(re.sub(r"\s+", "", extras or "").strip("[]").split(",")))
    return f"{name}{f'[{kept}]' if kept else ''}{plain}{'; ' if semicolon else ''}{marker.strip()}"


def _file(place: str, line: str, address: str) -> Package:
    found = WHEEL_FILE.fullmatch(_file_name(place))
    if not found:
        raise VllmError(f"{address} must name a wheel (NAME-VERSION-...whl) when it is a path or URL; got {line!r}.")
    return Package(line, normalized(found["name"]), found["version"])


def _file_name(place: str) -> str:
    return urllib.parse.unquote(os.path.basename(urllib.parse.urlsplit(place).path))


def _version_of_file(place: str) -> str | None:
    found = WHEEL_FILE.fullmatch(_file_name(place))
    return found["version"] if found else None


def normalized(name: str) -> str:
    """The name of a distribution as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _constraint(line: str, address: str) -> str:
    _refuse_line(line, address)
    found = REQUIREMENT.fullmatch(line)
    if not found or not found["rest"].strip() or not REST.fullmatch(found["rest"]) or found["extras"]:
        raise VllmError(f"{address} must be a name with versions, such as numpy<2.3; got {line!r}.")
    return _tidy(normalized(found["name"]), None, found["rest"].strip())


def _refuse_line(line: str, address: str) -> None:
    """What would be more than one requirement to an installer, or show a secret."""
    if not line or not line.isprintable():
        raise VllmError(f"{address} must be one line of text; got {line!r}.")
    if re.search(r"(?:^|\s)-", line):
        raise VllmError(
            f"{address} must be a requirement; got the option {redact(line)!r}. Use the keys {', '.join(KEYS[2:])} for "
            "where packages come from."
        )
    if ENVIRONMENT_VARIABLE.search(line) or re.search(r"\s#|^#", line):
        raise VllmError(f"{address} must be a requirement without variables and comments; got {line!r}.")
    _refuse_secret(line, address)


def _refuse_secret(text: str, address: str) -> None:
    # Whom SSH logs in as is no secret.
    text = re.sub(r"(ssh://)[\w.-]+@", r"\1", text)
    for url in re.findall(r"[\w+.-]+://\S+", text):
        parts = urllib.parse.urlsplit(url)
        if "@" in parts.netloc:
            shown = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()
            raise VllmError(
                f"{address} must not hold credentials; got some in the URL of {shown}. {WAY_FOR_CREDENTIALS}."
            )
    if redact(text) != text:
        raise VllmError(f"{address} must not hold a secret; got {redact(text)!r}. {WAY_FOR_CREDENTIALS}.")


def _url(text: t.Any, address: str) -> str:
    """The address of an index."""
    if not isinstance(text, str) or not text.isprintable():
        raise VllmError(f"{address} must be the URL of a package index; got {text!r}.")
    _refuse_secret(text, address)
    parts = urllib.parse.urlsplit(text.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or " " in text:
        raise VllmError(f"{address} must be an http:// or https:// URL without a query; got {redact(text)!r}.")
    return text.strip().rstrip("/")


def _last_part(url: str) -> str:
    return url.rpartition("/")[2]


def _wheelhouse(path: t.Any, address: str) -> str | None:
    if path is None or path == "":
        return None
    expanded = os.path.expanduser(str(path))
    if not os.path.isabs(expanded):
        raise VllmError(f"{address} must be an absolute path of a directory on the host; got {path!r}.")
    return os.path.normpath(expanded)


def _python(text: t.Any, address: str) -> str | None:
    if text is None or text == "":
        return None
    if isinstance(text, str) and (PYTHON_VERSION.fullmatch(text) or os.path.isabs(os.path.expanduser(text))):
        return os.path.expanduser(text)
    hint = " (in quotes: YAML reads 3.10 as 3.1)" if isinstance(text, float) else ""
    raise VllmError(f"{address} must be a version such as '3.12'{hint}, or an absolute path; got {text!r}.")
