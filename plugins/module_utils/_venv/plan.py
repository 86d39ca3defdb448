# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What to do about an environment: steps from what is wanted and what was found, or a refusal with its remedy. Pure."""

from __future__ import annotations

import os
import typing as t
from dataclasses import dataclass, replace

from .._errors import Reason, VllmError
from .._server.check import check_packages
from .._vllm import wheels
from .record import Entry, without_user
from .spec import Wish
from .state import Seen

Installer = t.Literal["uv", "pip"]
GIB = 1 << 30
# What is free before anything is downloaded, in GiB: the wheels and what they unpack to lie on the disk at once. vLLM
# 0.26.0 unpacks to 7.7 GiB.
NEEDED_GIB = {"gpu": 15.0, "cpu": 6.0}
# What a wheelhouse of known size needs beside its unpacked wheels: an environment of its own, and compiled modules.
OVERHEAD = 1.3
# The Python that vLLM's own images have comes first; then what is nearest to it.
PREFERRED = ((3, 12), (3, 11), (3, 13), (3, 10), (3, 14), (3, 9))


@dataclass(frozen=True)
class Interpreter:
    """A Python of the host."""

    path: str
    version: tuple[int, int]
    # Whether it has what `python -m venv` needs; Debian packs that apart.
    makes_environments: bool = True
    # Whether every user of the host can run it, as that of a service has to: not from the home of another, say.
    is_for_all: bool = True


@dataclass(frozen=True)
class PipConfiguration:
    """A configuration of pip that says where packages come from, and so is to be followed."""

    path: str
    has_credentials: bool = False
    mode: int = 0o600


@dataclass(frozen=True)
class Facts:
    """The host, as far as building an environment depends on it."""

    pythons: tuple[Interpreter, ...] = ()
    uv: str | None = None
    driver: str | None = None
    glibc: tuple[int, int] | None = None
    free_bytes: int = 1 << 62
    # Where the directories of environments would be made, why nothing can be made there.
    root_fault: str = ""
    # What all wheels of the wheelhouse unpack to; None without one, or where it is no directory.
    wheelhouse_bytes: int | None = None
    # Whether everybody may write to it, and so to what this user is about to run.
    wheelhouse_is_open: bool = False
    pip: PipConfiguration | None = None


@dataclass(frozen=True)
class Terms:
    """How it may be built: what is no part of what was asked for."""

    installer: t.Literal["auto", "uv", "pip"] = "auto"
    managed_python: bool = False
    cuda_check: t.Literal["enforce", "warn", "off"] = "enforce"
    min_free_gib: float | None = None


@dataclass(frozen=True)
class Recipe:
    """How an environment is built."""

    path: str
    installer: Installer
    # The path of an interpreter, or the version that uv is to bring.
    python: str
    python_version: tuple[int, int]
    is_managed: bool = False
    uv: str | None = None
    # The NVIDIA driver that has to run what is installed.
    driver: str | None = None
    warnings: tuple[str, ...] = ()

    def words(self) -> str:
        """The step, for people."""
        version = wheels.dotted(self.python_version)
        source = f"a Python {version} that uv downloads" if self.is_managed else f"Python {version} ({self.python})"
        return f"build {self.path} with {self.installer} and {source}"


@dataclass(frozen=True)
class Step:
    """One thing to do with an environment of the record."""

    # To forget one is to take its entry out of the record: its directory is gone, or somebody else's by now.
    verb: t.Literal["clear", "build", "claim", "release", "remove", "forget"]
    # What it is about; for a build, what the entry will say.
    entry: Entry
    because: str = ""
    recipe: Recipe | None = None

    def words(self) -> str:
        """The step for people."""
        if self.recipe:
            text = self.recipe.words()
        elif self.verb in ("claim", "release"):
            text = (
                f"record that {self.because} {'uses' if self.verb == 'claim' else 'no longer uses'} {self.entry.path}"
            )
        else:
            text = f"{'forget' if self.verb == 'forget' else 'remove'} {self.entry.path}"
        return text if self.verb in ("claim", "release") or not self.because else f"{text} ({self.because})"


# ---------------------------------------------------------------------------------------------------------------------
# Which steps
# ---------------------------------------------------------------------------------------------------------------------


def present(found: t.Sequence[Seen], server: str | None, build: t.Callable[[str], Step]) -> list[Step]:
    """The environment is there, whole, and recorded as used by that server.

    C(found) are those made for the wish, C(build) makes the step that builds one, for a reason.
    """
    leftovers = [one for one in found if one.entry.state != "built"]
    built = [one for one in found if one.entry.state == "built"]
    steps = [_gone(one, one.fault, "clear") for one in leftovers]
    whole = next((one.entry for one in built if not one.fault), None)
    if whole:
        return [*steps, *_claim(whole, server)]
    steps.append(build(built[-1].fault if built else ""))
    # What is broken and whose servers were never told of goes, once there is a whole one.
    return steps + [_gone(one, one.fault) for one in built if not set(one.entry.users) - {server}]


def _gone(one: Seen, because: str, verb: t.Literal["clear", "remove"] = "remove") -> Step:
    return Step(verb if one.is_there else "forget", one.entry, because)


def cleared(others: t.Sequence[Seen]) -> list[Step]:
    """What runs that were killed left of other wishes goes too: nobody may ever want the same again."""
    return [_gone(one, one.fault, "clear") for one in others if one.entry.state != "built"]


def _claim(entry: Entry, server: str | None) -> list[Step]:
    return [Step("claim", entry, server)] if server and server not in entry.users else []


def committed(all_of_them: t.Sequence[Seen], server: str, keep: Entry) -> list[Step]:
    """The server uses C(keep) and no other: what nobody uses any more goes."""
    return [*_claim(keep, server), *released(all_of_them, server, keep=keep.seal)]


def released(all_of_them: t.Sequence[Seen], server: str, keep: str = "") -> list[Step]:
    """The server uses none of them any more, but the one with that seal."""
    steps = []
    for one in all_of_them:
        if server in one.entry.users and one.entry.seal != keep:
            left = without_user(one.entry, server)
            unused = _gone(replace(one, entry=left), f"{server} was the last to use it")
            steps.append(Step("release", one.entry, server) if left.users else unused)
    return steps


def absent(found: t.Sequence[Seen], even_if_used: bool) -> list[Step]:
    """None of them is there.

    Raises:
        VllmError: when a server is recorded as using one, unless that does not matter.
    """
    for one in found if not even_if_used else ():
        refuse_used(one.entry)
    return [_gone(one, one.fault) for one in found]


def refuse_used(entry: Entry) -> None:
    """Refuse to remove what a server is recorded as using."""
    if entry.users:
        raise VllmError(
            f"Cannot remove {entry.path}: it is used by {', '.join(entry.users)}. Remove these servers first, or name "
            "them one by one as server.",
            "environment-in-use",
        )


# ---------------------------------------------------------------------------------------------------------------------
# How to build
# ---------------------------------------------------------------------------------------------------------------------


def recipe(wish: Wish, terms: Terms, facts: Facts, path: str) -> Recipe:
    """How the environment is built on this host.

    Raises:
        VllmError: when it would fail: with what to change, before anything is downloaded or made.
    """
    errors = [finding for finding in check_packages(_lines(wish), wish.version) if finding.severity == "error"]
    if errors:
        raise VllmError(" ".join(str(finding) for finding in errors))
    _refuse_place(wish, facts)
    installer = _installer(terms, facts)
    chosen = _python(wish, terms, facts, installer)
    warnings = [str(one) for one in check_packages(_lines(wish), wish.version) if one.severity == "warning"]
    warnings += [*_driver(wish, terms, facts), *_glibc(wish, facts)]
    _refuse_full(wish, terms, facts, path)
    told = tuple(warnings) + chosen.warnings
    return replace(chosen, path=path, uv=facts.uv, driver=facts.driver, warnings=told)


def _lines(wish: Wish) -> list[str]:
    return [one.line for one in wish.packages]


def _refuse_place(wish: Wish, facts: Facts) -> None:
    if facts.root_fault:
        raise VllmError(facts.root_fault, "permission-denied")
    if wish.wheelhouse and facts.wheelhouse_bytes is None:
        raise VllmError(
            f"The wheelhouse {wish.wheelhouse} is not a directory on this host. Copy the wheels there, or set "
            "another one.",
            "path-missing",
        )
    if facts.wheelhouse_is_open:
        raise VllmError(
            f"Everybody may write to the wheelhouse {wish.wheelhouse}, and what is in it is run as this user. Run: "
            f"chmod o-w {wish.wheelhouse}, once you have looked at what is in it.",
            "permission-denied",
        )
    pip = facts.pip
    if pip and pip.has_credentials and pip.mode & 0o077:
        raise VllmError(
            f"{pip.path} holds the credentials of a package index, and its mode is {pip.mode:04o}: others can read "
            f"them. Run: chmod 600 {pip.path}",
            "secret-invalid",
        )


def _installer(terms: Terms, facts: Facts) -> Installer:
    """uv does not read the configuration of pip, so where that says where packages come from, pip installs them."""
    if terms.installer == "uv" and not facts.uv:
        raise VllmError(
            "installer is uv, and uv is not installed on this host. Install it, or set installer: auto, which falls "
            "back to pip.",
            "path-missing",
        )
    if terms.installer != "auto":
        return terms.installer
    return "uv" if facts.uv and not facts.pip else "pip"


def _python(wish: Wish, terms: Terms, facts: Facts, installer: Installer) -> Recipe:
    row = wheels.wheel_of(wish.version)
    fits = _is_named(wish) or (row.takes_python if row else (lambda _version: True))
    able = [one for one in facts.pythons if installer == "uv" or one.makes_environments]
    fitting = sorted(
        (one for one in able if fits(one.version)), key=lambda one: (not one.is_for_all, _rank(one.version))
    )
    if fitting:
        best = fitting[0]
        warnings = _python_warning(wish, best.version, row)
        return Recipe("", installer, best.path, best.version, warnings=warnings)
    if terms.managed_python and installer == "uv" and not os.path.isabs(wish.python or ""):
        version = _numbers(wish.python) if wish.python else _managed(row)
        return Recipe("", "uv", wheels.dotted(version), version, is_managed=True)
    raise VllmError(_no_python(wish, facts, row, installer), "python-missing")


def _is_named(wish: Wish) -> t.Callable[[tuple[int, int]], bool] | None:
    """Whoever names a Python by its path gets that one, and whoever names a version gets none of another."""
    if not wish.python:
        return None
    wanted = None if os.path.isabs(wish.python) else _numbers(wish.python)
    row = wheels.wheel_of(wish.version)
    is_strict = row is not None and wheels.is_known(wish.version)
    return lambda version: wanted in (None, version) and (not is_strict or row is None or row.takes_python(version))


def _numbers(version: str) -> tuple[int, int]:
    major, minor = version.split(".")
    return int(major), int(minor)


def _managed(row: wheels.Wheel | None) -> tuple[int, int]:
    return next(version for version in PREFERRED if row is None or row.takes_python(version))


def _rank(version: tuple[int, int]) -> int:
    return PREFERRED.index(version) if version in PREFERRED else len(PREFERRED)


def _python_warning(wish: Wish, version: tuple[int, int], row: wheels.Wheel | None) -> tuple[str, ...]:
    if row is None or row.takes_python(version):
        return ()
    return (f"vLLM {wish.version} is not known here; vLLM {row.first} takes Python {row.python_words()}.",)


def _no_python(wish: Wish, facts: Facts, row: wheels.Wheel | None, installer: Installer) -> str:
    takes = f" vLLM {wish.version} takes Python {row.python_words()}." if row else ""
    if wish.python and os.path.isabs(wish.python):
        seen = [f"it is Python {wheels.dotted(one.version)}" for one in facts.pythons]
        return f"{wish.python} cannot be used: {(seen or ['no Python answers there'])[0]}.{takes} Name another python."
    lacking = [
        one for one in facts.pythons if not one.makes_environments and (not row or row.takes_python(one.version))
    ]
    if installer == "pip" and lacking:
        return (
            f"Cannot make an environment with {lacking[0].path}: it lacks the module ensurepip. Install it (Debian and "
            f"Ubuntu: apt install python{wheels.dotted(lacking[0].version)}-venv), or install uv, which does without."
        )
    there = ", ".join(f"{wheels.dotted(one.version)} ({one.path})" for one in facts.pythons) or "none"
    what = wish.python or f"that vLLM {wish.version} runs on"
    managed = "" if wish.wheelhouse else ", or allow managed_python where the host has uv"
    return (
        f"This host has no Python {what}.{takes} Found: {there}. Install one, name the path of one as python{managed}."
    )


def _driver(wish: Wish, terms: Terms, facts: Facts) -> list[str]:
    """Whether the driver runs what would be downloaded."""
    cuda = wish.cuda
    if cuda is None or terms.cuda_check == "off":
        return []
    if facts.driver is None:
        return [
            "There is no NVIDIA driver on this host yet, so it is unknown whether it runs CUDA "
            f"{wheels.dotted(cuda)}, which vLLM {wish.version} is built with."
        ]
    problem = wheels.driver_problem(cuda, facts.driver)
    if problem is None:
        warning = wheels.driver_warning(cuda, facts.driver)
        return [warning] if warning else []
    sentence = f"vLLM {wish.version} is built with CUDA {wheels.dotted(cuda)}. {problem}. {_driver_remedy(cuda)}"
    if terms.cuda_check == "warn" or not wheels.is_known(wish.version):
        return [sentence]
    raise VllmError(f"{sentence} Nothing was downloaded.", "driver-too-old")


def _driver_remedy(cuda: tuple[int, int]) -> str:
    if cuda[0] < 13:
        return "Upgrade the driver."
    return (
        f"Upgrade the driver, or pin vllm=={wheels.newest_with_cuda(12)} or older, or name indexes that have this "
        "version for CUDA 12.9 as extra_index_urls (their URLs end in cu129). With NVIDIA's forward-compatibility "
        "libraries on a data-centre GPU, set cuda_check: warn."
    )


def _glibc(wish: Wish, facts: Facts) -> list[str]:
    row = wheels.wheel_of(wish.version)
    if row is None or facts.glibc is None or facts.glibc >= row.glibc or wish.vllm.name != wheels.GPU_NAME:
        return []
    sentence = (
        f"The wheel of vLLM {wish.version} needs glibc {wheels.dotted(row.glibc)} or newer, and this host has "
        f"{wheels.dotted(facts.glibc)}. Use another release, or a container."
    )
    if not wheels.is_known(wish.version):
        return [sentence]
    raise VllmError(f"{sentence} Nothing was downloaded.", "install-failed")


def _needed_gib(wish: Wish, terms: Terms, facts: Facts) -> float:
    """What has to be free before it begins."""
    if terms.min_free_gib is not None:
        return terms.min_free_gib
    usual = NEEDED_GIB["cpu" if wish.is_for_cpu else "gpu"]
    if facts.wheelhouse_bytes is None:
        return usual
    return min(usual, facts.wheelhouse_bytes * OVERHEAD / GIB + 0.1)


def _refuse_full(wish: Wish, terms: Terms, facts: Facts, path: str) -> None:
    needed = _needed_gib(wish, terms, facts)
    if facts.free_bytes < needed * GIB:
        raise VllmError(
            f"An environment with vLLM {wish.version} needs {needed:.1f} GiB in {os.path.dirname(path)}, and "
            f"{facts.free_bytes / GIB:.1f} GiB are free there. Free some space, or choose a root on another file "
            "system (min_free_gib says how much has to be free). Nothing was downloaded.",
            "disk-full",
        )


def proved_problem(
    wish: Wish, proved: t.Mapping[str, t.Any], driver: str | None, terms: Terms
) -> tuple[Reason, str] | None:
    """What is wrong with an environment that imports: another version, or a CUDA that the driver cannot run."""
    version = str(proved.get("vllm") or "")
    if _public(version) != _public(wish.version) and not version.startswith("0.1.dev"):
        return "environment-broken", f"it holds vLLM {version or 'without a version'}, not {wish.version}"
    cuda = str(proved.get("cuda") or "")
    if not cuda or wish.is_for_cpu or driver is None or terms.cuda_check != "enforce":
        return None
    numbers = tuple(int(part) for part in cuda.split(".")[:2] if part.isdigit())
    problem = wheels.driver_problem((numbers[0], numbers[1]), driver) if len(numbers) == 2 else None
    return ("driver-too-old", f"torch {proved.get('torch')} was installed. {problem}") if problem else None


def _public(version: str) -> str:
    """A version without its build: packages of vendors add their own to it."""
    return version.partition("+")[0].removeprefix("v")
