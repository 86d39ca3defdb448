# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builds one environment, proves it by importing vLLM, writes its lock file; removes one. Nothing here decides."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
import typing as t
from dataclasses import dataclass, replace

from .._errors import ProgramError, VllmError
from .._host import files
from . import installer, plan, state
from .plan import Recipe, Terms
from .record import Entry, Record, make, unmake
from .spec import Wish

# Seconds for what downloads nothing.
SHORT = 300.0
# An import of vLLM from a cold disk takes a minute and more.
IMPORT = 900.0
PR_SET_PDEATHSIG = 1
OUTPUT_BYTES = 1 << 20


@dataclass(frozen=True)
class Done:
    """How a program ended: its status, and what it printed. The status is None when it took too long."""

    status: int | None
    output: str


def run(argv: t.Sequence[str], environment: t.Mapping[str, str], directory: str, seconds: float) -> Done:
    """Run a program to its end. It ends with this process, and with all that it started when it takes too long."""
    path = os.path.join(directory, "output")
    with open(path, "w+b") as output:
        try:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                cwd=directory,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        except OSError as error:
            return Done(127, f"{argv[0]}: {error.strerror}")
        try:
            status: int | None = child.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            status = None
        size = output.seek(0, os.SEEK_END)
        output.seek(max(size - OUTPUT_BYTES, 0))
        return Done(status, output.read().decode("utf-8", "replace"))


def _end_with_parent() -> None:
    """In the child: an installer that outlives a run would write into what the next one builds."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@dataclass(frozen=True)
class Builder:
    """One build: what is wanted, by which recipe, on which host, and how long the installation may take."""

    wish: Wish
    recipe: Recipe
    terms: Terms
    entry: Entry
    seconds: float
    user: t.Mapping[str, str]

    @property
    def environment(self) -> dict[str, str]:
        return installer.environment_of(self.user, self.entry.seal, self.entry.own)

    @property
    def temporary(self) -> str:
        return state.own_path(self.entry.path, "tmp")

    def build(self, record: Record) -> Entry:
        """Make the environment, from its entry in the record to the proof; what fails leaves nothing behind.

        Raises:
            ProgramError: says which program failed and why.
            VllmError: when it cannot be recorded or written.
        """
        record.write(self.entry)
        # The service's user has to read what is installed, whatever the umask of this user is.
        mask = os.umask(0o022)
        try:
            return record.write(self._built())
        except OSError as error:
            self._undo(record)
            way = "Choose another root, or run with become: true."
            raise files.failure(f"build {self.entry.path}", error, way) from None
        except VllmError:
            self._undo(record)
            raise
        finally:
            os.umask(mask)

    def _built(self) -> Entry:
        os.makedirs(os.path.dirname(self.entry.path), exist_ok=True)
        make(self.entry)
        os.mkdir(self.temporary, 0o700)
        self._run(installer.make(self.recipe), SHORT, f"make an environment with {self.recipe.python}")
        self._install()
        return self._locked(self._prove())

    def _undo(self, record: Record) -> None:
        # What cannot be deleted now, the next run deletes: its entry says that it is unfinished.
        with contextlib.suppress(OSError):
            unmake(self.entry)
            record.drop(self.entry)

    def _install(self) -> None:
        constraints = None
        if self.wish.constraints:
            constraints = state.own_path(self.entry.path, "constraints.txt")
            text = "".join(f"{line}\n" for line in self.wish.constraints)
            files.write_whole(constraints, text.encode(), mode=0o644)
        argv = installer.install(self.wish, self.recipe, constraints)
        lines = ", ".join(one.line for one in self.wish.packages)
        self._run(argv, self.seconds, f"install {lines} {_source(self.wish)}")

    def _run(self, argv: t.Sequence[str], seconds: float, doing: str) -> str:
        done = run(argv, self.environment, self.temporary, seconds)
        if done.status == 0:
            return done.output
        what = f"Cannot {doing} (with {self.recipe.installer}, into {self.entry.path})"
        log = installer.tail(done.output)
        if done.status is None:
            raise ProgramError(
                f"{what}: it was not done after {seconds:.0f} s, and was stopped. Raise timeout, or name an index "
                "nearer to the host.",
                "download-failed",
                log,
            )
        reason, why = installer.explained(done.output)
        raise ProgramError(f"{what}: {why}", reason, log)

    def _prove(self) -> dict[str, t.Any]:
        """Import vLLM, and judge what it says of itself."""
        environment = installer.environment_of_vllm(self.environment, self.entry.own)
        serves = self.wish.is_for_cpu or self.recipe.driver is not None
        done = run(installer.prove(self.entry.path, serves), environment, self.temporary, IMPORT)
        log = installer.tail(done.output)
        if done.status != 0:
            why = "it took too long" if done.status is None else installer.import_fault(done.output)
            raise ProgramError(
                f"vLLM {self.wish.version} was installed, and cannot be imported: {why}. The packages do not fit each "
                "other or this host: change packages or constraints.",
                "environment-broken",
                log,
            )
        proved = _last_json(done.output)
        problem = plan.proved_problem(self.wish, proved, self.recipe.driver, self.terms)
        if problem:
            reason, why = problem
            raise ProgramError(
                f"The environment that was built cannot be used: {why}. Change packages or indexes.", reason, log
            )
        return proved

    def _locked(self, proved: t.Mapping[str, t.Any]) -> Entry:
        """Write down what was installed, and how the environment looks with it."""
        frozen = self._run(installer.freeze(self.recipe), SHORT, "list the packages")
        head = [f"# vLLM {proved.get('vllm')}, Python {proved.get('python')}, asked for as {self.entry.digest}"]
        lock = "\n".join([*head, *_requirements(frozen)]) + "\n"
        shutil.rmtree(self.temporary)
        # uv's own lock, which everybody may write to.
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(self.entry.path, ".lock"))
        files.write_whole(state.own_path(self.entry.path, state.LOCK), lock.encode(), mode=0o644, durable=True)
        return replace(
            self.entry,
            state="built",
            proved={**proved, "installer": self.recipe.installer},
            lock=state.digest(lock.encode()),
            contents=state.contents(self.entry.path),
        )


def _requirements(frozen: str) -> list[str]:
    """What a list of packages says, without what the installer says about itself."""
    return sorted(line for line in frozen.splitlines() if "==" in line or " @ " in line)


def _source(wish: Wish) -> str:
    if wish.wheelhouse:
        return f"from {wish.wheelhouse}"
    return f"from {wish.index_url or 'the default index'}"


def _last_json(output: str) -> dict[str, t.Any]:
    for line in reversed(output.splitlines()):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict):
                return found
    return {}
