# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which TRL trains against which vLLM: the range that each release of TRL names for its extra C(vllm). Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .._vllm.versions import Version, parse

# The first release that trains against a plain "vllm serve". Those before it bring a server of their own.
PLAIN_SERVER = "1.11.0"
CHECKS = ("enforce", "warn")


@dataclass(frozen=True)
class Trl:
    """What the releases of TRL from C(first) on accept, up to the next row: the oldest and the newest vLLM, both in."""

    first: str
    oldest: str
    newest: str

    def takes(self, vllm: str) -> bool:
        """Whether a version of vLLM is in the range."""
        # A post release or a build (0.12.0.post2, 0.26.0+cu129) is the release.
        return parse(self.oldest) <= parse(vllm)[:3] <= parse(self.newest)

    def words(self) -> str:
        """The range, for people."""
        return f"{self.oldest} to {self.newest}"


# From the metadata of the releases.
RELEASES = (
    Trl("1.11.0", "0.19.0", "0.27.1"),
    Trl("1.13.0", "0.19.1", "0.28.0"),
    Trl("1.14.0", "0.20.0", "0.30.0"),
    Trl("1.15.0", "0.21.0", "0.31.0"),
    Trl("1.16.0", "0.22.0", "0.31.0"),
)
# The newest release of a row, where that is not its first.
NEWEST_OF_ROW: t.Mapping[str, str] = {"1.11.0": "1.12.0", "1.14.0": "1.14.2"}
NEWEST = RELEASES[-1].first


@dataclass(frozen=True)
class Pair:
    """A TRL and a vLLM that go together, with what is to be said about them."""

    trl: str
    vllm: str
    warnings: tuple[str, ...] = ()


def number(text: str) -> Version:
    """A version of TRL as numbers.

    Raises:
        VllmError: when it is none.
    """
    try:
        return parse(text)
    except VllmError:
        raise VllmError(f"trl_version must be a version such as {NEWEST}; got {text!r}.") from None


def row_of(trl: str) -> Trl:
    """What a release of TRL accepts that trains against a plain server."""
    wanted = number(trl)
    return next(row for row in reversed(RELEASES) if parse(row.first) <= wanted)


def fitting(vllm: str) -> list[str]:
    """The releases of TRL, one a row, that train against a plain server of this vLLM; the newest first."""
    return [NEWEST_OF_ROW.get(row.first, row.first) for row in reversed(RELEASES) if row.takes(vllm)]


def pair(vllm: str, trl: str | None = None, check: str = "enforce") -> Pair:
    """The TRL for a server with this vLLM: the one that is asked for, else the newest that goes with it.

    Raises:
        VllmError: when they do not go together, with the version that does; with C(check) V(warn) that is a warning
            where TRL only warns, too.
    """
    if check not in CHECKS:
        raise VllmError(f"version_check must be one of {', '.join(CHECKS)}; got {check!r}.")
    fit = fitting(vllm)
    wanted = trl or (fit[0] if fit else NEWEST)
    if number(wanted) < parse(PLAIN_SERVER):
        raise VllmError(
            f"TRL {wanted} trains against its own server, 'trl vllm-serve', and gets 404 from 'vllm serve', which is "
            f"what runs here with vLLM {vllm}. {_remedy(vllm, fit)}"
        )
    if number(wanted) > parse(NEWEST):
        return Pair(wanted, vllm, (f"TRL {wanted} is not known here: whether it takes vLLM {vllm} was not checked.",))
    row = row_of(wanted)
    if row.takes(vllm):
        return Pair(wanted, vllm)
    sentence = f"TRL {wanted} takes vLLM {row.words()}, and the server runs vLLM {vllm}. {_remedy(vllm, fit)}"
    if check == "enforce":
        raise VllmError(sentence)
    return Pair(wanted, vllm, (sentence,))


def _remedy(vllm: str, fit: t.Sequence[str]) -> str:
    if fit:
        return f"Set trl_version to {fit[0]}, which supports it, or leave it out."
    newest, oldest = RELEASES[-1], RELEASES[0].oldest
    if parse(vllm) < parse(oldest):
        return f"TRL {PLAIN_SERVER} and later need vLLM {oldest} or later: serve with vLLM {newest.newest}."
    return (
        f"No TRL up to {NEWEST} takes vLLM {vllm}: serve with vLLM {newest.newest}. With version_check: warn it is "
        "tried anyway."
    )
