# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fallbacks: which settings come next when a server failed for a known reason. Pure.

A fallback names the diagnosis ids that lead to it and the settings it changes, over those of the fallbacks taken before
it. What was taken is recorded on the server, together with a digest of what it was taken from: as long as the user asks
for the same server with the same fallbacks, the one that worked stays, and the ones that failed are not tried again. In
results a fallback is a C(rung): number so many of C(rungs).
"""

from __future__ import annotations

import hashlib
import typing as t
from dataclasses import dataclass, field, replace

from .._errors import VllmError
from .keys import canonical_json
from .secret_settings import refuse_secrets
from .spec import ALL_KEYS, merge

RUNG_KEYS = ("because", "causes", "change")
# Who the server is and where it answers: what fails elsewhere is another server.
FIXED = ("container_name", "name", "port", "bind", "api_key_file", "served_model_name")
CHANGEABLE = frozenset(ALL_KEYS) - {*FIXED}

# What a service finds when it looks at its GPUs before it starts, and what vLLM says there where nobody looked.
GPU_TAKEN = "gpu-taken"
SAME_AS = {GPU_TAKEN: "mem-free-below-budget"}

Settings = t.Mapping[str, t.Any]


@dataclass(frozen=True)
class Fallbacks:
    """The fallbacks of one server, and which of them were taken, by their positions."""

    asked: Settings
    rungs: tuple[Settings, ...] = ()
    taken: tuple[int, ...] = ()
    # The diagnosis ids that led to each fallback that was taken.
    causes: tuple[str, ...] = ()
    digest: str = field(default="")

    @classmethod
    def of(cls, asked: Settings, rungs: t.Sequence[t.Any]) -> Fallbacks:
        """The fallbacks of a server as it is asked for, of which none was taken.

        Raises:
            VllmError: with the address of the key at fault.
        """
        for number, rung in enumerate(rungs):
            _check(f"fallbacks[{number}]", rung)
        return cls(asked, tuple(rungs), digest=_digest(asked, rungs))

    def where(self, record: t.Any) -> Fallbacks:
        """Where a record says that they stand; one of another server or of other fallbacks does not count."""
        known = record if isinstance(record, t.Mapping) and record.get("of") == self.digest else {}
        taken = tuple(n for n in _list(known, "taken") if isinstance(n, int) and 0 <= n < len(self.rungs))
        causes = tuple(map(str, _list(known, "causes")))
        return replace(self, taken=taken, causes=causes[: len(taken)])

    def after(self, cause: str, unfit: t.Collection[int] = ()) -> Fallbacks | None:
        """One further: the first after the last one taken that the cause leads to; None when there is none.

        C(unfit) are those that cannot be tried here.
        """
        start = self.taken[-1] + 1 if self.taken else 0
        leads = {cause, SAME_AS.get(cause, cause)}
        for number in range(start, len(self.rungs)):
            if leads & {*self.rungs[number]["causes"]} and number not in unfit:
                return replace(self, taken=(*self.taken, number), causes=(*self.causes, cause))
        return None

    @property
    def change(self) -> dict[str, t.Any]:
        """What the fallbacks that were taken change, as one."""
        change: dict[str, t.Any] = {}
        for number in self.taken:
            change = merge(change, self.rungs[number]["change"])
        return change

    @property
    def settings(self) -> dict[str, t.Any]:
        """What the user asked for, with what the fallbacks change; null takes a setting away."""
        return merge(self.asked, self.change)

    @property
    def record(self) -> dict[str, t.Any]:
        """What is recorded on the server; empty while none was needed."""
        return {"of": self.digest, "taken": list(self.taken), "causes": list(self.causes)} if self.taken else {}

    def to_dict(self, exhausted: bool = False) -> dict[str, t.Any] | None:
        """For people and playbooks: where the server stands; None without fallbacks."""
        if not self.rungs:
            return None
        rung = self.taken[-1] + 1 if self.taken else 0
        because = self.rungs[self.taken[-1]].get("because") if self.taken else None
        return {
            "rung": rung,
            "rungs": len(self.rungs),
            "causes": list(self.causes),
            "change": self.change,
            "because": because,
            "exhausted": exhausted,
        }


class FallbacksEnd(Exception):
    """No fallback is left for the cause that the server failed with."""

    def __init__(self, fallbacks: Fallbacks) -> None:
        super().__init__("no fallback is left")
        self.fallbacks = fallbacks


class Steps:
    """The way through the fallbacks within one run.

    Raises:
        FallbacksEnd: when the server failed, and no fallback is left for the cause.
    """

    def __init__(self, fallbacks: Fallbacks, failure_id: str | None) -> None:
        self.fallbacks = self._before = fallbacks
        self._cause = failure_id
        self._unfit: set[int] = set()
        if failure_id and not self._step(fallbacks, failure_id):
            raise FallbacksEnd(fallbacks)

    def _step(self, before: Fallbacks, cause: str) -> bool:
        further = before.after(cause, self._unfit)
        if further:
            self.fallbacks, self._before, self._cause = further, before, cause
        return further is not None

    def further(self, misfit: str | None) -> bool:
        """Take the next, because the settings in hand cannot be tried. A misfit is what their start would fail
        with; without one they are refused for another reason, and the fallback is left out."""
        if misfit:
            return self._step(self.fallbacks, misfit)
        if self._cause is None or self.fallbacks is self._before:
            return False
        self._unfit.add(self.fallbacks.taken[-1])
        return self._step(self._before, self._cause)


def _list(known: Settings, key: str) -> list[t.Any]:
    """A label can be written by anybody."""
    found = known.get(key)
    return found if isinstance(found, list) else []


# What the steps of one run may find out about a server, and hand on in place of what was asked for.
FOUND_OUT = ("vllm_version",)


def _digest(asked: Settings, rungs: t.Sequence[t.Any]) -> str:
    """Identify what was asked for, the same in each step of a run: of GPUs their number, whoever chose them."""
    wanted = {key: value for key, value in asked.items() if value is not None and key not in FOUND_OUT}
    gpus = wanted.get("gpus")
    if isinstance(gpus, t.Mapping):
        wanted["gpus"] = str(gpus.get("count", 1))
    elif isinstance(gpus, (list, tuple)):
        wanted["gpus"] = str(len(gpus))
    return hashlib.sha256(canonical_json([wanted, list(rungs)]).encode()).hexdigest()[:16]


def _check(address: str, rung: t.Any) -> None:
    if not isinstance(rung, t.Mapping):
        raise VllmError(f"{address} must be a mapping with the keys {', '.join(RUNG_KEYS)}; got {rung!r}.")
    for key in sorted({*map(str, rung)} - {*RUNG_KEYS}):
        raise VllmError(f"Unknown key '{address}.{key}'. Valid keys: {', '.join(RUNG_KEYS)}.")
    causes, change = rung.get("causes"), rung.get("change")
    if not isinstance(causes, (list, tuple)) or not causes:
        raise VllmError(f"{address}.causes must be a list of diagnosis ids (docs/diagnosis.md); got {causes!r}.")
    if not isinstance(change, t.Mapping) or not change:
        raise VllmError(f"{address}.change must be a mapping of settings; got {change!r}.")
    for key in sorted({*map(str, change)} - CHANGEABLE):
        raise VllmError(
            f"{address}.change.{key}: a fallback cannot change it. It can change {', '.join(sorted(CHANGEABLE))}."
        )
    refuse_secrets(change, f"{address}.change.")
