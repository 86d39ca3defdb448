# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a unit runs before it becomes its server: it waits for its turn and looks at its GPUs again.

Runs as the user of the service, from the zip file that C(program) makes of this file and what it imports: the standard
library, C(_errors), C(_gpu) and C(_host) alone.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import socket
import sys
import time
import typing as t
from dataclasses import dataclass

from .._errors import VllmError
from .._gpu.facts import host_facts
from .._gpu.probe import Host, observe
from .._gpu.selection import AT_START, PREFERENCES, RESELECT, SAME, Candidate, Wish, named, refusal, select
from .._host import lock
from .._host.processes import born, lives, printable, read_proc

Facts = t.Mapping[str, t.Any]
# A text and, unless that is INFO, its level.
Say = t.Callable[..., None]

# The unit of a server, as the kernel names its control group; what a user runs for himself is below user.slice.
UNIT = re.compile(r"^(?!.*/user\.slice/).*/system\.slice/vllm-([^/\n]+)\.service(?:/|$)", re.MULTILINE)
# All times are seconds. How long the turn of one start lasts at most, and so the wait for it.
LONGEST = 1800.0
# How long somebody who is no server of ours is waited for: anybody may lock what anybody may open.
STRANGER = 10.0
# How often a wait is told of: more often than any health wait takes silence for a stall.
EVERY = 30.0
# How long memory may take to come back that an earlier life of the server had; and how often one is looked at that
# somebody else has, for as long as he has it.
PATIENCE = 20.0
LATER = 15.0
INTERVAL = 1.0
SMI_TIMEOUT = 30.0


@dataclass(frozen=True)
class Start:
    """A start of one server: what of its GPUs is to be looked at, and what it becomes then."""

    server: str
    command: tuple[str, ...]
    # By UUID or index; none for all of the host.
    gpus: tuple[str, ...] = ()
    at_start: str = SAME
    min_free_mib: int = 0
    prefer: str = PREFERENCES[0]
    mig: bool = False
    # The share of the memory that vLLM wants to be free, on so many of the GPUs.
    share: float = 0.0
    used: int = 1
    # Whether its vLLM takes UUIDs.
    takes_uuids: bool = False
    # Where it answers once it is up (at a Unix socket it has no port), and the directory of the files that are locked
    # until then; none for a start that disturbs nobody.
    bind: str = "127.0.0.1"
    port: int = 8000
    uds: str = ""
    turns: str = ""

    def argv(self, python: str, program: str) -> tuple[str, ...]:
        """The command line of the unit. Isolated, the interpreter reads no variable and no directory of the user's."""
        options = [f"--server={self.server}"]
        options += [f"--gpu={one}" for one in self.gpus]
        options += [] if self.at_start == SAME else [f"--at-start={self.at_start}", f"--prefer={self.prefer}"]
        options += [f"--min-free-mib={self.min_free_mib}"] if self.min_free_mib else []
        options += ["--mig"] if self.mig else []
        options += [f"--share={self.share:g}", f"--used={self.used}"] if self.share else []
        options += ["--takes-uuids"] if self.takes_uuids else []
        answers = [f"--uds={self.uds}"] if self.uds else [f"--answers={self.bind}", f"--at-port={self.port}"]
        options += [f"--turns={self.turns}", *answers] if self.turns else []
        return (python, "-I", program, *options, "--", *self.command)


def parsed(argv: t.Sequence[str]) -> Start:
    """The start that a command line says; ends the program when it says none."""
    own, _separator, command = _parted(argv)
    parser = argparse.ArgumentParser(prog="start", allow_abbrev=False)
    parser.add_argument("--server", required=True)
    parser.add_argument("--gpu", action="append", default=[])
    parser.add_argument("--at-start", choices=AT_START, default=SAME)
    parser.add_argument("--prefer", choices=PREFERENCES, default=PREFERENCES[0])
    parser.add_argument("--min-free-mib", type=int, default=0)
    parser.add_argument("--mig", action="store_true")
    parser.add_argument("--share", type=float, default=0.0)
    parser.add_argument("--used", type=int, default=1)
    parser.add_argument("--takes-uuids", action="store_true")
    parser.add_argument("--turns", default="")
    parser.add_argument("--answers", default="127.0.0.1")
    parser.add_argument("--at-port", type=int, default=8000)
    parser.add_argument("--uds", default="")
    said = vars(parser.parse_args(own))
    if not command:
        parser.error("the command of the server is missing, behind --")
    gpus, bind, port = tuple(said.pop("gpu")), said.pop("answers"), said.pop("at_port")
    return Start(command=tuple(command), gpus=gpus, bind=bind, port=port, **said)


def _parted(argv: t.Sequence[str]) -> tuple[list[str], str, list[str]]:
    at = [*argv, "--"].index("--")
    return [*argv[:at]], "--", [*argv[at + 1 :]]


# --- the GPUs ---------------------------------------------------------------------------------------------------------


def chosen(start: Start, facts: Facts) -> tuple[list[Candidate], str]:
    """The GPUs that the server takes now and, when these are others than before, why.

    Raises:
        VllmError: when it cannot have those it was deployed with, nor choose others.
    """
    try:
        return _same(start, facts), ""
    except VllmError as error:
        if start.at_start != RESELECT:
            way = "Put that right, or deploy the server again for other GPUs"
            offer = ", or with gpus.at_start: reselect, which chooses again at each start" if start.gpus else ""
            raise VllmError(f"{error} {way}{offer}.", "no-free-gpu") from None
        wish = Wish(len(start.gpus), start.min_free_mib, start.prefer, start.mig, share=start.share)
        return named(facts, select(facts, wish)), str(error)


def _own(start: Start, facts: Facts) -> list[Candidate]:
    """The GPUs that it was deployed with."""
    return named(facts, start.gpus or [str(gpu.get("index")) for gpu in facts.get("gpus") or ()])


def _same(start: Start, facts: Facts) -> list[Candidate]:
    found = _own(start, facts)
    reasons = []
    for number, one in enumerate(found):
        # Of all GPUs of the host, vLLM takes the first ones.
        is_used = number < start.used
        is_device = bool((one.gpu.get("mig") or {}).get("enabled"))
        if start.gpus or (is_used and not is_device):
            wish = Wish(1, start.min_free_mib, mig=is_device, share=start.share if is_used else 0.0)
            reasons.append(refusal(one, wish))
    why = [f"{reason}." for reason in reasons if reason]
    if why:
        raise VllmError(" ".join(why), "no-free-gpu")
    return found


def is_only_taken(start: Start, facts: Facts) -> bool:
    """Whether the GPUs would do if nobody else held memory there: what others take, they give back."""
    with contextlib.suppress(VllmError):
        chosen(start, {**facts, "gpus": [_freed(gpu, 0) for gpu in facts.get("gpus") or ()]})
        return True
    return False


def _is_coming_back(start: Start, facts: Facts) -> bool:
    """Whether its own GPUs will do once they have back what no process holds: memory outlives its process a little."""
    with contextlib.suppress(VllmError):
        _same(start, {**facts, "gpus": [_freed(gpu, _held(gpu)) for gpu in facts.get("gpus") or ()]})
        return True
    return False


def _held(gpu: t.Mapping[str, t.Any]) -> int:
    """The MiB that processes hold; all that is used where the driver does not tell."""
    used = gpu.get("memory_used_mib") or 0
    known = [process.get("used_memory_mib") for process in gpu.get("processes") or ()]
    return used if None in known else min(used, sum(one or 0 for one in known))


def _freed(gpu: t.Mapping[str, t.Any], held: int) -> dict[str, t.Any]:
    """The GPU with no more than that used; nobody tells of MIG devices who holds them."""
    free, used, mig = gpu.get("memory_free_mib"), gpu.get("memory_used_mib"), gpu.get("mig") or {}
    devices = [{**one, "memory_free_mib": one.get("memory_total_mib")} for one in mig.get("devices") or ()]
    known = {} if free is None or used is None else {"memory_free_mib": free + used - held, "memory_used_mib": held}
    return {**gpu, **known, "mig": {**mig, "devices": devices}}


def _called(candidate: Candidate) -> str:
    return f"GPU {candidate.gpu.get('index')} ({candidate.uuid})"


def visible(start: Start, candidates: t.Sequence[Candidate]) -> dict[str, str]:
    """The variables by which its vLLM knows these GPUs; none for all of the host.

    Raises:
        VllmError: when it cannot be told.
    """
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    if not start.gpus:
        return order
    if start.takes_uuids:
        return {**order, "CUDA_VISIBLE_DEVICES": ",".join(one.uuid for one in candidates)}
    devices = [one.uuid for one in candidates if one.uuid != one.gpu.get("uuid")]
    if devices:
        raise VllmError(f"{', '.join(devices)} is a MIG device, which vLLM takes from 0.24 on.", "invalid-parameter")
    return {**order, "CUDA_VISIBLE_DEVICES": ",".join(str(one.gpu.get("index")) for one in candidates)}


def settled(
    start: Start,
    look: t.Callable[[], Facts],
    say: Say,
    monotonic: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
    patience: float = PATIENCE,
) -> list[Candidate]:
    """The GPUs to take. What an earlier life of the server held may take a moment to come back: no reason to move.

    Raises:
        VllmError: when it cannot have them, after some patience.
    """
    deadline, told = monotonic() + patience, False
    while True:
        is_late, facts = monotonic() >= deadline, look()
        try:
            found, why = chosen(start, facts)
        except VllmError as error:
            if is_late:
                raise
            why = str(error)
        else:
            if not why:
                return found
            if is_late or not _is_coming_back(start, facts):
                moves = f"So it moves to {', '.join(map(_called, found))}."
                say(f"{start.server} chooses its GPUs again. {why} {moves}")
                return found
        if not told:
            say(f"{start.server} waits up to {patience:.0f} s for its GPUs. {why}")
        told = True
        sleep(INTERVAL)


# --- the turn ---------------------------------------------------------------------------------------------------------


def ready(
    start: Start,
    look: t.Callable[[], Facts],
    say: Say,
    monotonic: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> tuple[list[Candidate], list[int]]:
    """The GPUs to take, looked at while nobody else starts there, and the locked files that keep it so.

    For those that somebody else holds it waits as long as he does: a start that fails would count for systemd, which
    gives up a server after some.

    Raises:
        VllmError: when it cannot have them, whoever holds them.
    """
    indices, waits = set[int](), False
    if start.turns:
        with contextlib.suppress(VllmError):
            indices = _used(start, _own(start, look()))
    while True:
        held = turns(start.turns, indices, start.server, say, monotonic, sleep)
        try:
            found = settled(start, look, say, monotonic, sleep, 0.0 if waits else PATIENCE)
        except VllmError as error:
            _release(held)
            if not is_only_taken(start, look()):
                raise
            if not waits:
                say(f"{start.server} does not start: {error} Until then it waits.", "ERROR")
            waits = True
            sleep(LATER)
            continue
        if not start.turns or _used(start, found) <= indices:
            if waits:
                say(f"{start.server} has its GPUs now.")
            return found, held
        # It moves: the turn is that of other GPUs, and when it has come these may be taken.
        _release(held)
        indices = _used(start, found)


def _used(start: Start, candidates: t.Sequence[Candidate]) -> set[int]:
    """The indices of those that its vLLM uses."""
    return {int(one.gpu.get("index") or 0) for one in candidates[: start.used]}


def turns(
    directory: str,
    indices: t.Collection[int],
    server: str,
    say: Say,
    monotonic: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> list[int]:
    """The locked files of the GPUs with these indices, once no other server starts on one of them.

    Without those that are not waited for any longer. GPUs share a file where there are more than files.
    """
    if not directory or not indices:
        return []
    files: list[str] = []
    with contextlib.suppress(OSError):
        files = sorted((one for one in os.listdir(directory) if one.isdigit()), key=int)
    if not files:
        say(f"{server} starts without waiting for other servers: no lock files exist in {directory}.")
        return []
    numbers = {index % len(files) for index in indices}
    # In the same order for all, so that no two wait for each other.
    found = (turn(os.path.join(directory, files[one]), server, say, monotonic, sleep) for one in sorted(numbers))
    return [descriptor for descriptor in found if descriptor is not None]


def _release(descriptors: t.Iterable[int]) -> None:
    for one in descriptors:
        os.close(one)


def turn(
    path: str,
    server: str,
    say: Say,
    monotonic: t.Callable[[], float] = time.monotonic,
    sleep: t.Callable[[float], None] = time.sleep,
) -> int | None:
    """The locked file, once no other server starts there; None when that is not waited for any longer."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        say(f"{server} starts without waiting for other servers: cannot open {path}: {error.strerror}.")
        return None
    began, told = monotonic(), -EVERY
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        who, is_ours = _before(os.fstat(descriptor))
        waited = monotonic() - began
        if waited >= (LONGEST if is_ours else STRANGER):
            say(f"{server} starts without its turn: {who} has held {path} for {waited:.0f} s.")
            os.close(descriptor)
            return None
        if waited - told >= EVERY:
            why = "two that start on one GPU at once disturb each other"
            say(f"{server} waits for {who}, since {why} ({waited:.0f} s so far).")
            told = waited
        sleep(INTERVAL)


def _before(status: os.stat_result, locks: str | None = None) -> tuple[str, bool]:
    """Who has the turn, and whether that is a server of this collection."""
    pids = [*lock.pids(status, lock.listed() if locks is None else locks)]
    for pid in pids:
        unit = UNIT.search(read_proc(f"/proc/{pid}/cgroup"))
        if unit:
            return f"server {unit[1]}, which is starting", True
    return (
        f"PID {pids[0]}, which is not a server of gpufleet.vllm" if pids else "a process that is gone or hidden"
    ), False


def hold(descriptors: t.Sequence[int], start: Start, deadline: float = LONGEST) -> None:
    """Keep the turn until the server is up, without a child that it would not know: a process of its own has it."""
    main = born(os.getpid())
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        if not os.fork():
            _keep(descriptors, main, start, deadline)
    finally:
        os._exit(0)


def _keep(descriptors: t.Sequence[int], main: str, start: Start, deadline: float) -> None:
    """Let go when the server answers, when it is gone, or when it has had its time."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    until = time.monotonic() + deadline
    while time.monotonic() < until and lives(main) and not _answers(start):
        time.sleep(INTERVAL / 2)
    _release(descriptors)


def _answers(start: Start) -> bool:
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(start.bind, start.bind)
    family = socket.AF_UNIX if start.uds else socket.AF_INET6 if ":" in address else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family) as asking:
        asking.settimeout(INTERVAL)
        asking.connect(start.uds or (address, start.port))
        return True
    return False


# --- the program ------------------------------------------------------------------------------------------------------


def tell(text: str, level: str = "INFO") -> None:
    """Write a line into the journal of the unit, at a level of vLLM's log."""
    sys.stderr.write(f"{level} gpufleet.vllm: {printable(text)}\n")
    sys.stderr.flush()


def look() -> Facts:
    """The facts of the GPUs as they are now."""
    return host_facts(observe(Host(), timeout=SMI_TIMEOUT))


def main(argv: t.Sequence[str]) -> int:
    """Become the server; the exit status when that is not to be."""
    start = parsed(argv)
    try:
        candidates, held = ready(start, look, tell)
        found = visible(start, candidates)
    except VllmError as error:
        tell(f"{start.server} does not start: {error}", "ERROR")
        return 1
    if held:
        hold(held, start)
    try:
        os.execvpe(start.command[0], start.command, {**found, **os.environ})
    except OSError as error:
        tell(f"{start.server} does not start: cannot run {start.command[0]}: {error.strerror}.", "ERROR")
        return 127
