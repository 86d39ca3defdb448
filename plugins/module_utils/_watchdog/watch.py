# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program: a thread for each server that looks, lets C(decide) decide, and does it; another one finds the servers.

Runs as root, from one file, with the standard library of Python 3.9. Its settings are one file of JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import threading
import time
import typing as t
from dataclasses import dataclass, field, fields, replace

from .._deploy.ledger import state_directory
from .._errors import VllmError
from .._gpu.facts import host_facts
from .._gpu.probe import Host, observe
from .._host import files, lock
from .._host.printable import printable
from .._host.redaction import redact
from .._server.spec import ServerSpec
from .._systemd.words import ENVIRONMENTS
from . import publish
from .ask import Asker
from .decide import Act, Canary, Clock, Decision, Finding, Life, Load, Look, Settings, State, answered, decide, undone
from .postmortem import examine
from .subject import Seen, Subject, records, subjects

CONFIG = f"{ENVIRONMENTS}/watchdog.json"
# Seconds between two looks for servers, and between two writings of what has not changed.
SCAN, WRITE = 30.0, 30.0
# How long the memory of the host may take to come back, in seconds, and what it no longer grows by when it has.
MEMORY_PATIENCE, MEMORY_STEP, GROWS = 120.0, 3.0, 0.01
# On unified memory a GPU that works draws that much (watts); one that only seems to does not.
WORKING_WATTS, BUSY_PERCENT = 45.0, 90
# Options of vLLM that only a trainer's server has.
OF_A_TRAINER = ("weight_transfer_config", "worker_extension_cls")
Say = t.Callable[[str], None]


@dataclass(frozen=True)
class Config:
    """What the program was set up with."""

    settings: Settings = Settings()
    directory: str = ""
    # Records beside those that are found; with C(alone), no other ones.
    records: tuple[str, ...] = ()
    alone: bool = False
    textfile_directory: str = ""
    hook_command: tuple[str, ...] = ()
    hook_url: str = ""

    @property
    def paused(self) -> str:
        return os.path.join(self.directory, publish.PAUSED)

    @property
    def state(self) -> str:
        return os.path.join(self.directory, publish.STATE)

    @property
    def post_mortems(self) -> str:
        return os.path.join(self.directory, publish.POST_MORTEMS)


def configured(text: str) -> Config:
    """The configuration in a text; what it does not say is at its default.

    Raises:
        VllmError: when it is none.
    """
    try:
        said = json.loads(text or "{}")
        numbers = {one.name for one in fields(Settings)}
        settings = Settings(**{key: type(getattr(Settings, key))(said[key]) for key in numbers & {*said}})
        return Config(
            settings,
            str(said.get("directory") or os.path.join(state_directory(), publish.DIRECTORY)),
            tuple(map(str, said.get("records") or ())),
            said.get("alone") is True,
            str(said.get("textfile_directory") or ""),
            tuple(map(str, said.get("hook_command") or ())),
            str(said.get("hook_url") or ""),
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise VllmError(f"The configuration of the watchdog cannot be read: {error}. Deploy it again.") from None


@dataclass
class Watcher:
    """One server that is watched."""

    subject: Subject
    config: Config
    tell: t.Callable[[Watcher, str, str], None]
    state: State = State()
    # What it came to in the end, and where more is written.
    cause: str = ""
    post_mortem: str = ""
    canary_seen: str = ""
    wake: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    canary: Canary | None = None
    unified: bool | None = None

    @property
    def key(self) -> str:
        return f"{self.subject.backend}:{self.subject.name}"

    def run(self) -> None:
        """Watch until it is told that this server is none any more."""
        told = ""
        while not self.ended.is_set():
            problem = ""
            try:
                self.turn()
            except VllmError as error:
                problem = str(error)
            except Exception as error:  # One server that cannot be watched keeps no other from being watched.
                problem = f"The watchdog failed on it: {type(error).__name__}: {error}"
            if problem and problem != told:
                self.tell(self, "problem", problem)
            told = problem
            self.wake.wait(self.config.settings.interval)
            self.wake.clear()

    def turn(self) -> None:
        """One look, and what it leads to."""
        clock = Clock(time.monotonic(), time.time())
        canary, self.canary = self.canary, None
        look = self.look(canary)
        if look is None:
            self.state = replace(self.state, status="absent", since=clock.wall, looked=clock.now)
            return
        decision = decide(self.state, look, clock, self.config.settings)
        self.state = decision.state
        for sentence in decision.sentences:
            self.tell(self, decision.state.status, sentence)
        if decision.verb == "canary":
            self.send(decision.engine, clock)
        elif decision.verb == "resume":
            self.resume(decision.why)
        elif decision.verb:
            self.put_right(decision)

    # --- looking ------------------------------------------------------------------------------------------------------

    def look(self, canary: Canary | None) -> Look | None:
        paused = publish.paused_until(self.config.paused)
        try:
            seen = self.subject.seen()
        except VllmError:
            known = self.state.life or Life("", "")
            return Look(known, running=None, paused_until=paused, canary=canary)
        if seen is None:
            return None
        look = Look(seen.life, seen.running, seen.returns, seen.died, seen.age, paused_until=paused, canary=canary)
        look = replace(look, busy=self.is_busy(), start=self.subject.starts.get(seen.life.identity, 0.0))
        return self.asked(look, seen) if seen.running else look

    def asked(self, look: Look, seen: Seen) -> Look:
        """With what its API says."""
        spec = self.spec_of(seen)
        answers, reading = Asker(spec).metrics()
        engines: dict[str, Load] = {}
        if reading is not None:
            engines = {one: Load(steps, reading.requests.get(one, 0.0)) for one, steps in reading.steps.items()}
        return replace(
            look,
            answers=answers,
            engines=engines,
            asleep=reading is not None and reading.asleep,
            steps_only=any(spec.flag(name) is not None for name in OF_A_TRAINER),
            gpu_works=self.gpu_works() if self.state.status == "suspect" else None,
        )

    def spec_of(self, seen: Seen) -> ServerSpec:
        return self.subject.identities[seen.life.identity]

    def is_busy(self) -> bool:
        """Whether a run has the server's lock, or will be back for it."""
        try:
            with lock.alone(self.subject.name, patience=0.0, docker_host=self._engine()):
                return False
        except lock.Busy:
            return True
        except VllmError:
            return False

    def _engine(self) -> str | None:
        return self.subject.place if self.subject.place.startswith("unix://") else None

    def gpu_works(self) -> bool | None:
        """The second opinion on unified memory: what is busy and draws no power does not work."""
        if self.unified is False:
            return None
        gpus = host_facts(observe(Host(), timeout=self.config.settings.interval)).get("gpus") or []
        self.unified = any(gpu.get("memory_kind") == "unified" for gpu in gpus)
        draws = [(gpu.get("utilization_percent"), gpu.get("power_draw_w")) for gpu in gpus]
        known = [(percent, watts) for percent, watts in draws if percent is not None and watts is not None]
        if not self.unified or not known:
            return None
        return any(percent >= BUSY_PERCENT and watts >= WORKING_WATTS for percent, watts in known)

    def send(self, engine: str, clock: Clock) -> None:
        """Ask for one token, beside the looks."""
        life = self.state.life
        spec = self.subject.identities.get(life.identity) if life else None
        if spec is None:
            return
        rank = engine if len(self.state.engines) > 1 else ""

        def ask() -> None:
            source = self.subject.source()
            try:
                outcome, self.canary_seen = Asker(spec, self.subject.owner).canary(
                    rank, self.config.settings.canary_timeout, source
                )
            except VllmError as error:
                outcome, self.canary_seen = "failed", str(error)
            self.canary = Canary(engine, clock.now, outcome, self.canary_seen)
            self.wake.set()

        threading.Thread(target=ask, name=f"canary of {self.subject.name}", daemon=True).start()

    # --- acting -------------------------------------------------------------------------------------------------------

    def put_right(self, decision: Decision) -> None:
        """Write down what is to be seen, then act on what it means; with its lock, which whoever deploys has first."""
        self.post_mortem = ""
        words = {"hang": "It hangs", "crash": "It ended and is started again", "down": "It is down"}[decision.verb]
        self.tell(self, "hung" if decision.verb == "hang" else decision.verb, f"{words}: {decision.why}.")
        spec = self.subject.identities[self.state.life.identity] if self.state.life else None
        finding, ended = Finding(), decision.verb == "crash"
        if spec is not None:
            finding, self.post_mortem, self.unified = examine(
                self.subject.source(), spec, decision.why, self.config.post_mortems, time.time(), ended
            )
        doing = f"puts {self.subject.name} right, which the watchdog of this host found to be needed"
        try:
            with lock.alone(self.subject.name, patience=0.0, docker_host=self._engine(), doing=doing):
                if self.is_as_it_was(decision):
                    self.answer(decision, finding)
                else:
                    self.tell(self, "recovered", "It recovered by itself while it was examined, so nothing was done.")
        except lock.Busy:
            # A run has come meanwhile; it decides.
            return

    def is_as_it_was(self, decision: Decision) -> bool:
        """Whether what was decided about is still so: a look at a host that hangs takes its time."""
        seen, known = self.subject.seen(), self.state.life
        if seen is None or known is None or seen.life.identity != known.identity:
            return False
        if decision.verb != "hang":
            return True
        _answers, reading = Asker(self.spec_of(seen)).metrics() if seen.running else (False, None)
        before = self.state.engines.get(decision.engine)
        steps = reading.steps.get(decision.engine) if reading else None
        has_moved = before is not None and None not in (before.steps, steps) and steps != before.steps
        return seen.life == known and seen.running and not has_moved

    def answer(self, decision: Decision, finding: Finding) -> None:
        """What the decision and the finding come to."""
        clock, was_down = Clock(time.monotonic(), time.time()), self.state.stood_down
        self.state, act, self.cause = answered(
            self.state, decision.verb, decision.why, finding, clock, self.config.settings, decision.lives
        )
        if self.cause != decision.why:
            self.tell(self, "cause", f"What it comes from: {self.cause}")
        if not was_down:
            self.tell_of_stand_down()
        if act:
            self.act(act, decision.why)

    def tell_of_stand_down(self) -> None:
        if self.state.stood_down:
            self.tell(self, "stood_down", f"The watchdog stands down: {self.state.stood_down}")

    def resume(self, why: str) -> None:
        """Start what was stopped to be restarted."""
        with contextlib.suppress(lock.Busy), lock.alone(self.subject.name, patience=0.0, docker_host=self._engine()):
            self.act("restart", why)

    def act(self, act: Act, why: str) -> None:
        """Restart it, or stop it for good."""
        began = time.monotonic()
        try:
            self.subject.stop()
            if act == "restart":
                self.await_memory()
                self.subject.start()
        except VllmError as error:
            self.tell(self, "problem", f"Could not {act} it: {error}")
            if act == "restart":
                clock = Clock(time.monotonic(), time.time())
                self.state = undone(self.state, str(error), clock, self.config.settings)
                self.tell_of_stand_down()
            return
        took = time.monotonic() - began
        done = f"restarted in {took:.0f} s; it answers again once it has loaded" if act == "restart" else "stopped"
        self.tell(self, "restarted" if act == "restart" else "stopped", f"It was {done} ({why}).")

    def await_memory(self) -> None:
        """Where the GPU shares the memory of the host, wait until what was stopped has given it back."""
        deadline, before = time.monotonic() + MEMORY_PATIENCE, -1
        while self.unified and time.monotonic() < deadline:
            free = _available_kib(files.read_text("/proc/meminfo"))
            if 0 <= free <= before * (1 + GROWS):
                return
            before = free
            time.sleep(MEMORY_STEP)


def _available_kib(meminfo: str) -> int:
    line = next((line for line in meminfo.splitlines() if line.startswith("MemAvailable:")), "")
    return int(line.split()[1]) if len(line.split()) > 1 else -1


# --- all of a host ----------------------------------------------------------------------------------------------------


class Watchdog:
    """All servers of this host."""

    def __init__(self, config: Config, say: Say) -> None:
        self.config, self.say = config, say
        self.watchers: dict[str, Watcher] = {}
        self.remembered = publish.load(config.state).get("servers") or {}
        self.hook = publish.Hook(config.hook_command, config.hook_url, say)
        self.lock = threading.Lock()
        self.wrote: tuple[str, float] = ("", 0.0)
        self.problems: set[str] = set()

    def run(self) -> t.NoReturn:
        scanned = -SCAN
        while True:
            if time.monotonic() - scanned >= SCAN:
                scanned = time.monotonic()
                self.scan()
            self.publish()
            time.sleep(1.0)

    def scan(self) -> None:
        """Begin to watch who is new, and leave who is gone."""
        directories = records(self.config.records, self.config.alone)
        found = {f"{one.backend}:{one.name}": one for one in subjects(directories, self.problem)}
        for key, subject in found.items():
            if key in self.watchers:
                # Its record may be another one now.
                self.watchers[key].subject = subject
                continue
            known = self.remembered.get(key)
            watcher = self.watchers[key] = Watcher(subject, self.config, self.tell, publish.read_back(known))
            if isinstance(known, dict):
                watcher.cause, watcher.post_mortem = (str(known.get(one) or "") for one in ("cause", "post_mortem"))
            threading.Thread(target=watcher.run, name=key, daemon=True).start()
        for key in [key for key in self.watchers if key not in found]:
            self.watchers.pop(key).ended.set()

    def problem(self, sentence: str) -> None:
        """Say what stands in the way, once."""
        if sentence not in self.problems:
            self.problems.add(sentence)
            self.say(sentence)

    def tell(self, watcher: Watcher, event: str, sentence: str) -> None:
        """Write a notice to the log, and hand it to the hook."""
        sentence = redact(str(printable(sentence)))
        self.say(f"{watcher.subject.name}: {sentence}")
        notice = {"event": event, "server": watcher.subject.name, "backend": watcher.subject.backend}
        times = {"at": publish.moment(time.time()), "host": os.uname().nodename}
        self.hook.send({**notice, **times, "message": sentence, "post_mortem": watcher.post_mortem or None})
        self.publish()

    def publish(self) -> None:
        """Write the state and the metrics, when they changed and now and then."""
        with self.lock:
            wall, paused = time.time(), publish.paused_until(self.config.paused)
            watchers = dict(sorted(self.watchers.items()))
            servers = {key: publish.written(one.state, _about(one)) for key, one in watchers.items()}
            until = publish.moment(paused) if paused > wall else None
            text = json.dumps({"servers": servers, "paused_until": until}, sort_keys=True)
            if text == self.wrote[0] and time.monotonic() - self.wrote[1] < WRITE:
                return
            self.wrote = (text, time.monotonic())
            content = {"version": publish.VERSION, "updated": publish.moment(wall), **json.loads(text)}
            self._write(self.config.state, json.dumps(content, indent=1) + "\n")
            if self.config.textfile_directory:
                path = os.path.join(self.config.textfile_directory, publish.METRICS)
                names = {one.subject.name: one.state for one in watchers.values()}
                self._write(path, publish.exposition(names, wall, paused))

    def _write(self, path: str, text: str) -> None:
        try:
            files.write_whole(path, text.encode("utf-8", errors="replace"), mode=0o644)
        except OSError as error:
            self.problem(f"Cannot write {path}: {error.strerror}.")


def _about(watcher: Watcher) -> dict[str, t.Any]:
    known = {"name": watcher.subject.name, "backend": watcher.subject.backend}
    more = {"cause": redact(str(printable(watcher.cause))), "post_mortem": watcher.post_mortem or None}
    return {**known, **more, "canary": watcher.canary_seen or None}


def say(sentence: str) -> None:
    """Write a line into the journal of the watchdog."""
    sys.stderr.write(f"{printable(sentence)}\n")
    sys.stderr.flush()


def main(argv: t.Sequence[str]) -> int:
    """Watch until the end of the host; the exit status when that cannot be."""
    parser = argparse.ArgumentParser(prog="watchdog", allow_abbrev=False)
    parser.add_argument("--config", default=CONFIG)
    said = parser.parse_args(argv)
    try:
        config = configured(files.read_text(said.config))
        os.makedirs(config.directory, exist_ok=True)
        # For all to read, whatever the umask is.
        os.chmod(config.directory, 0o755)
    except (VllmError, OSError) as error:
        say(f"The watchdog does not start: {error}")
        return 1
    with contextlib.suppress(KeyboardInterrupt):
        Watchdog(config, say).run()
    return 0
