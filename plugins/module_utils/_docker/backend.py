# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Servers as containers: everything that reads what Docker says, and every effect on it, behind the Backend."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import time
import typing as t
from dataclasses import replace

from .._deploy.backend import SUFFIX, Action, Artifact, Effect, Life, Making, Other, Seen, both
from .._deploy.ledger import Entry, Known, Ledger, bound, entry, left, now_text
from .._deploy.record import (
    FETCH_SUFFIX,
    LABEL_SEAL,
    PROBE_INFIX,
    gone,
    named,
    not_a_download,
    other,
    recorded,
    with_warmth,
)
from .._errors import Problem, Reason, VllmError
from .._host.ports import overlaps
from .._host.printable import printable
from .._server.spec import ServerSpec
from .._vllm.versions import METADATA_PROGRAM, version_of_labels
from . import client as docker_client
from .caches import Caches
from .container import (
    NAME,
    claims_to_be_ours,
    configuration,
    docker_argv,
    fetching,
    instance,
    life_of,
    name_of,
    seal_of,
    stop_argv,
    trial,
)
from .engine import (
    NO_GPU,
    Engine,
    adapted,
    engine_doubts,
    engine_of,
    engine_problems,
    trial_for,
)
from .reader import Inspected, Reader, reader
from .reference import local_name, parsed
from .stamps import without_stamps

# What kind of failure it is that Docker speaks of.
REASONS: tuple[tuple[str, Reason], ...] = (
    (docker_client.PORT_TAKEN, "port-in-use"),
    (docker_client.DISK_FULL, "disk-full"),
)
# Seconds that an engine which was restarted may take until it answers again.
RESTART = 60.0
# What is read of a log for what a start measured: the start is at its end when the server is committed.
LOG_LINES, LOG_BYTES = 20000, 8 << 20
# The same for what one life of a server says of it: more than a start writes.
LIFE_LINES = 4000


class DockerBackend:
    """The containers of a Docker Engine, as C(Backend) describes its methods.

    C(client) is the SDK's, made by the first effect.
    """

    name = NAME
    proxy = "docker-proxy"
    fetches_first = False
    looks_at_start = False

    def __init__(
        self, looks: Reader, client: t.Callable[[], t.Any], stop_timeout: int = 30, ledger: Ledger | None = None
    ) -> None:
        self.reader = looks
        self._client = client
        self.stop_timeout = stop_timeout
        self.ledger = ledger or Ledger()
        self._caches = Caches(looks, lambda: self.client, self.ledger)

    @functools.cached_property
    def client(self) -> t.Any:
        return self._client()

    @functools.cached_property
    def engine(self) -> Engine:
        """What the engine says of itself."""
        return engine_of(self.reader.identity())

    # --- looking ----------------------------------------------------------------------------------------------------

    def servers(self) -> t.Iterable[str]:
        return self.ledger.known().servers

    def lookalikes(self) -> t.Collection[str]:
        listed, known = self.reader.containers(), self.ledger.known()
        strangers = (one for one in listed if claims_to_be_ours(one) and _proof(known, one) is None)
        return [
            f"The container {name} has labels of gpufleet.vllm, and this user's record does not have it: it is "
            "another user's, or a copy, and is left alone. Remove it yourself if it is not needed."
            for name in sorted(name_of(one) or str(one.get("Id"))[:12] for one in strangers)
        ]

    def look(self, server: str) -> Seen:
        # In this order: an entry is written before its container is made.
        listed, known = self.reader.containers(), self.ledger.known()
        known.refuse_damaged(server)
        by_name = {name_of(one): one for one in listed}
        there = {slot: name for slot, name in ((slot, named(server, slot)) for slot in SUFFIX) if name in by_name}
        inspected = {slot: self.reader.container(name) for slot, name in there.items()}
        download = by_name.get(server + FETCH_SUFFIX)
        is_ours = download is not None and _proof(known, download, "fetch") is not None
        return Seen(
            instances={
                slot: with_warmth(instance(slot, one, _entry(known, there[slot], one)), known)
                for slot, one in inspected.items()
                if one
            },
            others=tuple(_others(known, listed, server)),
            download=server + FETCH_SUFFIX if is_ours else None,
            download_conflict=not_a_download(server + FETCH_SUFFIX) if download and not is_ours else None,
            probes=tuple(sorted(name for _one, name in _existing(known.of(server, "probe"), listed))),
            gone=tuple(gone(one, NAME) for one in _missing(known.of(server, "server", "fetch", "files"), listed)),
            elsewhere=tuple(one.intent for one in known.elsewhere),
            unknown=tuple(known.damaged.values()),
        )

    def settle(self, server: str) -> None:
        listed = self.reader.containers()
        by_name = {name_of(one): one for one in listed}
        for one in self.ledger.known().of(server):
            found = by_name.get(one.name)
            if not one.identity and found and seal_of(found) == one.seal:
                self.ledger.write(bound(one, str(found["Id"])))

    def tidy(self, server: str, gone: bool = False) -> None:
        known, listed = self.ledger.known(), self.reader.containers()
        there = {id(one) for one, _name in _existing(known.of(server), listed)}
        kept = {path for one in known.entries if id(one) in there or one.server != server for path in one.wrote}
        for one in known.of(server):
            if one.purpose in ("cache", "kernels"):
                is_over = self._caches.is_missing(one)
            elif one.purpose == "adopted":
                # Back in its place it is its owner's again.
                is_over = id(one) not in there or _is_named(listed, one.identity, server)
            else:
                is_over = id(one) not in there and (gone or not {*left(one)} - kept)
            if is_over:
                self.ledger.drop(one)
        self._caches.let_go(server, listed, gone)
        if gone:
            self.ledger.forget(server)

    def adopt(self, server: str, identity: str) -> None:
        self.ledger.write(entry(server, "adopted", identity=identity))

    def mounted(self) -> t.Collection[str]:
        listed, known = self.reader.containers(), self.ledger.known()
        return {
            str(mount.get("Source"))
            for one in listed
            if _proof(known, one) is None
            for mount in one.get("Mounts") or ()
            if mount.get("Type", "bind") == "bind" and mount.get("Source")
        }

    def artifact(self, spec: ServerSpec) -> Artifact | None:
        _name, image = self._image(spec.image)
        if image is None:
            return None
        config = image["Config"]
        return Artifact(image["Id"], version_of_labels(config.get("Labels") or {}, config.get("Env") or ()))

    def _image(self, reference: str) -> tuple[str, Inspected | None]:
        """The image of that name, and the one by which the engine knows it: what is pinned by a digest and came from
        another host has its own."""
        found, staged = self.reader.image(reference), local_name(reference)
        other = self.reader.image(staged) if staged and not found else None
        return (staged, other) if other else (reference, found)

    def version(self, artifact: Artifact, server: str) -> str | None:
        body = {
            "Image": artifact.identity,
            "Entrypoint": ["python3", "-c", METADATA_PROGRAM],
            "Cmd": [],
            "Labels": {},
            "HostConfig": {"NetworkMode": "none"},
        }
        look = entry(server, "probe")
        look = replace(look, name=f"{server}{PROBE_INFIX}{look.seal[:8]}")
        probe = self._make(look, body)
        try:
            self.client.start(probe)
            status = self.client.wait(probe, timeout=60)["StatusCode"]
            printed = str(self.client.logs(probe, stderr=False).decode("utf-8", errors="replace"))
            return printed.split()[-1] if status == 0 and printed.strip() else None
        except docker_client.failures():
            return None  # No Python in it, or it hangs: then nothing is known.
        finally:
            with contextlib.suppress(docker_client.sdk().errors.NotFound):
                self.client.remove_container(probe, force=True)
            self.ledger.drop(look)

    def lacking(self, spec: ServerSpec) -> t.Sequence[Problem]:
        return ()  # An image is pulled.

    def refusals(self, spec: ServerSpec) -> t.Sequence[Problem]:
        return engine_problems(self.engine, spec)

    def doubts(self, spec: ServerSpec) -> t.Sequence[str]:
        return engine_doubts(self.engine, spec)

    def holders(self, port: int, bind: str) -> t.Collection[str]:
        """Running containers that publish the port on that address; with iptables alone no process listens on it."""
        return {
            str(container["Id"])
            for container in self.reader.containers()
            if container.get("State") in ("running", "restarting", "paused")
            and any(_is_published(published, port, bind) for published in container.get("Ports") or ())
        }

    def called(self, identity: str) -> str:
        found = self.reader.container(identity)
        return f"the container {str(found['Name']).lstrip('/') if found else identity[:12]}"

    def caches(self, server: str, gone: t.Collection[str] = ()) -> tuple[str, ...]:
        return self._caches.of(server, gone)

    def environments(self, servers: t.Collection[str], kept: t.Collection[str]) -> tuple[str, ...]:
        return ()

    def log(self, server: str) -> str:
        return without_stamps(self._logged(server, self.reader.container(server), LOG_LINES))

    def life(self, instance: str) -> Life | None:
        with contextlib.suppress(*docker_client.failures()):
            inspected = self.reader.container(instance)
            if inspected:
                return life_of(inspected["State"], self._logged(instance, inspected, LIFE_LINES), LIFE_LINES)
        return None

    def _logged(self, name: str, inspected: Inspected | None, lines: int) -> str:
        tty = bool(inspected and inspected["Config"].get("Tty"))
        return self.reader.logs(name, lines, tty)[-LOG_BYTES:].decode("utf-8", errors="replace")

    def log_command(self, server: str) -> t.Sequence[str]:
        return [self._program, "logs", server]

    @property
    def _program(self) -> str:
        """What people type."""
        return "podman" if self._is_podman else "docker"

    @property
    def _is_podman(self) -> bool:
        return docker_client.says_podman(lambda: self.engine)

    # --- acting -----------------------------------------------------------------------------------------------------

    def provide(self, spec: ServerSpec) -> None:
        name = parsed(spec.image)
        repository, tag = name.asked if name else (spec.image, None)
        for event in self.client.pull(repository, tag=tag, stream=True, decode=True):
            if event.get("error"):
                raise docker_client.sdk().errors.APIError(str(event["error"]))

    def provide_command(self, reference: str) -> t.Sequence[str]:
        return [self._program, "pull", reference]

    def effects(self, server: str, making: t.Callable[[], Making]) -> t.Mapping[str, Effect]:
        def at(action: Action) -> str:
            return named(server, action.target)

        made: list[tuple[Making, dict[str, t.Any]]] = []

        def body() -> dict[str, t.Any]:
            """Composed once from the same: what is shown as a command is what is created."""
            wanted = making()
            if not made or made[-1][0] is not wanted:
                made.append((wanted, self._body(wanted)))
            return made[-1][1]

        def ours(action: Action) -> str:
            return self._ours(at(action), action.identity)

        trial_name, program = named(server, "trial"), self._program

        def trial_argv() -> list[str]:
            return docker_argv(trial_name, trial_for(trial(body()), self.engine))

        return {
            "pull": Effect(lambda a: self.provide(making().spec), lambda a: self.provide_command(a.target)),
            "fetch_weights": Effect(lambda a: self._fetch(server, making()), lambda a: ["hf", "download", a.target]),
            "create": Effect(
                lambda a: self._create(server, at(a), making(), body()), lambda a: docker_argv(at(a), body(), program)
            ),
            "try": Effect(
                lambda a: self._try(server, trial_name, making(), body()),
                lambda a: [program, "run", "--rm", *trial_argv()[2:]],
            ),
            **both(
                "start", Effect(lambda a: self._start_again(at(a), a.identity), lambda a: [program, "start", at(a)])
            ),
            **both(
                "stop", Effect(lambda a: self._stop(ours(a), a.at_once), lambda a: stop_argv(at(a), a.at_once, program))
            ),
            **both(
                "remove",
                Effect(lambda a: self._remove(at(a), a.identity), lambda a: [program, "rm", "-f", at(a)]),
            ),
            "rename": Effect(
                lambda a: self.client.rename(ours(a), named(server, a.to)),
                lambda a: [program, "rename", at(a), named(server, a.to)],
            ),
            "remove_cache": Effect(
                lambda a: self._caches.remove(server, a.target), lambda a: [program, "volume", "rm", a.target]
            ),
        }

    def _ours(self, name: str, seen: str = "") -> str:
        """How to call the container that has that name now, if it is ours: one that was seen by its id, and one that
        this run has made by its name.

        Raises:
            VllmError: when it is another one by now.
        """
        found = next((one for one in self.reader.containers() if name_of(one) == name), None)
        if found is None:
            raise docker_client.sdk().errors.NotFound(f"No such container: {name}")
        identity = str(found["Id"])
        if (seen and seen != identity) or not _entry(self.ledger.known(), name, found):
            raise VllmError(
                f"The container {name} is {identity[:12]} now, which this run did not make or decide about, so it is "
                "left alone. Look at who replaced it, then run it again.",
                "overtaken",
            )
        return identity if seen else name

    def _body(self, making: Making) -> dict[str, t.Any]:
        """The configuration of the wanted container; before its image is there, with a plain entrypoint assumed."""
        name, image = self._image(making.spec.image)
        entrypoint = image["Config"].get("Entrypoint") if image else None
        body = configuration(making, entrypoint, image["Id"] if image else None, os.geteuid())
        return adapted({**body, "Image": name}, self.engine)

    def _create(self, server: str, name: str, making: Making, body: t.Mapping[str, t.Any]) -> None:
        with self._caches.provided(server, body, self._make, making.carried):
            self._make(recorded(server, "server", name, making), body)

    def _make(self, made: Entry, body: t.Mapping[str, t.Any]) -> str:
        """A container that is recorded before it exists, and by its id after that."""
        self.ledger.write(made)
        labels = {**(body.get("Labels") or {}), LABEL_SEAL: made.seal}
        created = self.client.create_container_from_config({**body, "Labels": labels}, name=made.name)
        identity = str(created["Id"])
        self.ledger.write(bound(made, identity))
        return identity

    def _try(self, server: str, name: str, making: Making, body: t.Mapping[str, t.Any]) -> None:
        """Run nothing with everything else the same: shows whether the engine would start the real thing."""
        self._create(server, name, making, trial_for(trial(body), self.engine))
        try:
            self._start(name)
            status = self.client.wait(name)["StatusCode"]
            if status == NO_GPU and self.engine.is_podman:
                raise VllmError(
                    f"{self.engine} started a trial of {server} without the GPU that it was asked for. Make the CDI "
                    "specification ('nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml', with "
                    "--device-name-strategy=uuid for GPUs by UUID), and look at 'podman run --rm --device "
                    "nvidia.com/gpu=all IMAGE nvidia-smi'.",
                    "backend-failed",
                )
        except docker_client.sdk().errors.APIError as error:
            # The image need not have a `true`; everything before it was set up, and that is what was asked.
            if "executable file not found" not in str(error):
                raise
        finally:
            self._remove(name)

    def _start_again(self, name: str, seen: str) -> None:
        """Start a server, which may have been stopped before."""
        self._start(name, seen)
        found = self.reader.container(name) if self.engine.restarts_always else None
        one = _entry(self.ledger.known(), name, found) if found and _policy(found) == "no" else None
        if one and one.intent.get("restart_policy", "unless-stopped") == "unless-stopped":
            self._restarts(name, "always")

    def _restarts(self, name: str, policy: str) -> None:
        self.client.update_container(name, restart_policy={"Name": policy, "MaximumRetryCount": 0})

    def _start(self, name: str, seen: str = "") -> None:
        self._ours(name, seen)
        self.client.start(name)

    def _stop(self, identity: str, at_once: bool) -> None:
        # The time that the server was made with: whoever stops it by name alone does not know it.
        found = self.client.inspect_container(identity)
        patience = 0 if at_once else found["Config"].get("StopTimeout") or self.stop_timeout
        self._note_stop(found)
        # The client waits a little longer than the engine does before it kills.
        self.client.stop(identity, timeout=patience)
        if self.engine.restarts_always and _policy(found) == "always":
            # A reboot would start it, too.
            self._restarts(identity, "no")

    def _note_stop(self, found: Inspected) -> None:
        """Write down when it is told to stop, which the engine does not; without that, only a number is too small."""
        one = _entry(self.ledger.known(), str(found["Name"]).lstrip("/"), found)
        with contextlib.suppress(VllmError):
            if one:
                self.ledger.write(replace(one, stopping_since=now_text()))

    def _remove(self, name: str, seen: str = "") -> None:
        with contextlib.suppress(docker_client.sdk().errors.NotFound):
            self.client.remove_container(self._ours(name, seen), force=True)

    def _fetch(self, server: str, making: Making) -> None:
        """Fetch the weights of a model with the image's own Hugging Face client, with the server's mounts and token.

        Raises:
            VllmError: when that fails, with the last line of its output.
        """
        name, spec = server + FETCH_SUFFIX, making.spec
        body = fetching(self._body(making), spec.model, str(spec.engine.get("revision") or ""))
        try:
            made = self._make(recorded(server, "fetch", name, making), body)
            self._start(name)
            # The client's own limit is for answers of the engine; a download may take hours.
            while self.client.inspect_container(made)["State"].get("Running"):
                try:
                    self.client.wait(made, timeout=60)
                except docker_client.failures():
                    time.sleep(1)
            status = self.client.inspect_container(made)["State"].get("ExitCode")
            printed = self.client.logs(made, tail=20).decode("utf-8", errors="replace")
        finally:
            if self.look(server).download:
                self._remove(name)
        if status != 0:
            raise VllmError(
                f"Cannot fetch the weights of {spec.model}: the download ended with status {status}. Its last line "
                f"says: {_last_line(printed, spec)}. Check the name of the model, the "
                "token and the network of the host, or stage the weights there.",
                "download-failed",
            )

    def make_ready(self) -> None:
        docker_client.sdk()

    def wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + RESTART
        while True:
            try:
                self.reader.containers()
                return
            except docker_client.failures():
                if time.monotonic() >= deadline:
                    raise
                time.sleep(0.5)

    def failures(self) -> tuple[type[BaseException], ...]:
        return docker_client.failures()

    def sentence(self, attempt: str, error: BaseException) -> str:
        return docker_client.sentence(attempt, error, self._is_podman)

    def reason(self, error: BaseException) -> Reason:
        said = docker_client.words(error)
        return next((kind for pattern, kind in REASONS if re.search(pattern, said, re.IGNORECASE)), "backend-failed")


def docker_backend(docker_host: str | None = None, stop_timeout: int = 30) -> DockerBackend:
    """The engine of this host, or of that address."""
    address = docker_host or os.environ.get("DOCKER_HOST") or f"unix://{docker_client.SOCKET}"
    scheme, slashes, path = address.partition("://")
    place = f"{scheme}{slashes}{os.path.realpath(path)}" if scheme == "unix" else address
    connect = functools.partial(docker_client.connect, docker_host)
    return DockerBackend(reader(docker_host), connect, stop_timeout, Ledger(place=place))


def _policy(found: Inspected) -> str:
    return str(((found.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name"))


def _entry(known: Known, name: str, container: Inspected) -> Entry | None:
    return known.entry_of(name, str(container.get("Id") or ""), seal_of(container), SUFFIX.values())


def _proof(known: Known, listed: Inspected, purpose: str = "") -> Entry | None:
    """The entry that proves a listed container to be ours."""
    found = _entry(known, name_of(listed), listed)
    return found if found and purpose in ("", found.purpose) else None


def _others(known: Known, listed: t.Iterable[Inspected], server: str) -> t.Iterator[Other]:
    """The containers of the other servers of this user, whatever their state and slot."""
    for one in sorted(listed, key=name_of):
        found = _proof(known, one, "server")
        if found and found.server != server:
            running = one.get("State") in ("running", "restarting")
            yield other(found, name_of(one), str(one["Id"]), running, NAME)


def _existing(entries: t.Iterable[Entry], listed: t.Iterable[Inspected]) -> list[tuple[Entry, str]]:
    """The entries of containers that exist, under whatever name, with that name."""
    listed = list(listed)
    found = []
    for one in entries:
        for container in listed:
            by_seal = not one.identity and one.name == name_of(container) and seal_of(container) == one.seal
            if by_seal or (one.identity and one.identity == container.get("Id")):
                found.append((one, name_of(container)))
    return found


def _missing(entries: t.Iterable[Entry], listed: t.Iterable[Inspected]) -> list[Entry]:
    entries = list(entries)
    there = {id(one) for one, _name in _existing(entries, listed)}
    return [one for one in entries if id(one) not in there]


def _is_named(listed: t.Iterable[Inspected], identity: str, name: str) -> bool:
    return any(one.get("Id") == identity and name_of(one) == name for one in listed)


def _last_line(printed: str, spec: ServerSpec) -> str:
    """The last line of a download as it may be shown: addresses of files are signed, and a terminal obeys a log."""
    from .._host.redaction import read_secrets, redact

    secrets = [secret for path in spec.secret_files.values() for secret in read_secrets(path)]
    lines = redact(printed, secrets).strip().splitlines() or ["nothing"]
    plain = " ".join(printable(lines[-1][:2000]).split())
    return re.sub(r"\?\S+", "?...", plain)[:500].rstrip(".")


def _is_published(published: t.Mapping[str, t.Any], port: int, bind: str) -> bool:
    if published.get("PublicPort") != port or published.get("Type") != "tcp":
        return False
    return overlaps(bind, str(published.get("IP") or "0.0.0.0"))
