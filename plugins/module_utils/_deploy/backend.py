# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a deployment asks of a way to run servers, and the values that both speak."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

if t.TYPE_CHECKING:
    from .._errors import Problem, Reason
    from .._server.spec import ServerSpec
    from .carried import Carried
    from .ledger import Ledger

Slot = t.Literal["current", "next", "trial", "superseded"]
# The name of an instance is that of its server with the suffix of its slot.
SUFFIX: dict[Slot, str] = {"current": "", "next": "-next", "trial": "-try", "superseded": "-superseded"}


@dataclass(frozen=True)
class Instance:
    """One server that exists on the host, in whatever state."""

    slot: Slot
    owned: bool
    running: bool
    fingerprint: str | None = None
    identity: str = ""
    # Identities of the instances and other servers that ran before it, and that it stopped or was about to stop.
    supersedes: tuple[str, ...] = ()
    # Which image or virtual environment it was made from.
    artifact_id: str | None = None
    intent: t.Mapping[str, t.Any] = field(default_factory=dict)
    # Files that were written for it (secrets), to be deleted with it.
    wrote: tuple[str, ...] = ()
    # Where it keeps what it compiled, and whether its next start has anything to compile; None where nobody knows.
    caches: tuple[str, ...] = ()
    is_cold: bool | None = None
    # Whether that is what another host has compiled, and it was not committed with it.
    is_unproven: bool = False
    vllm_version: str | None = None
    # Whether its command line says how large the KV cache is, in bytes.
    is_pinned: bool = False
    # Which fallbacks it was made with, as it was recorded.
    fallbacks: t.Any = None
    # The name of the backend that runs it.
    backend: str = ""
    # For people: how the backend calls its state, what it was made from, since when it runs.
    status: str = ""
    artifact: str | None = None
    started_at: str | None = None
    # How often its backend has started it again by itself since somebody last started it.
    restarts: int = 0
    # For how many seconds it served nobody before its last start, from the moment that it was told to stop.
    away_seconds: float | None = None
    # When it was told to stop, in UTC (ISO 8601); empty when it was not.
    stopping_since: str = ""
    # When one that does not run has ended, in UTC (ISO 8601); None where nobody can tell.
    ended_at: str | None = None
    # Files among C(wrote) whose former content is kept for their owner.
    replaced: tuple[str, ...] = ()
    # Whether it is somebody else's, and was put aside for one of ours because replace_unmanaged was set.
    adopted: bool = False
    # What its fingerprint's digests of secrets are made with; only the record has it.
    salt: str = field(default="", repr=False)
    # Whether one of somebody else can be put aside for one of ours at all.
    can_be_adopted: bool = True
    # Whether it is started at boot, where a run that is cut short may leave that undone; None where it is one with the
    # rest of its state.
    at_boot: bool | None = None


@dataclass(frozen=True)
class Other:
    """An instance of another server of this collection on the same host, by the name it has there."""

    name: str
    identity: str
    running: bool
    slot: Slot = "current"
    # Why it cannot run beside the wanted server, in words; empty when it can.
    conflict: str = ""
    supersedes: tuple[str, ...] = ()
    wrote: tuple[str, ...] = ()
    intent: t.Mapping[str, t.Any] = field(default_factory=dict)
    backend: str = ""
    replaced: tuple[str, ...] = ()
    stopping_since: str = ""
    at_boot: bool | None = None


@dataclass(frozen=True)
class Artifact:
    """What a server is made from, as it is on the host."""

    identity: str
    # The version of vLLM in it, as far as it tells that by itself.
    vllm_version: str | None = None


@dataclass(frozen=True)
class Action:
    """One effect. C(target) is a path, an image, a slot or the name of another server; C(because) is for people."""

    verb: str
    target: str
    because: str = ""
    to: str = ""
    # Who does it; empty for what needs no backend.
    backend: str = ""
    # The instance that was seen there; empty for one that is made by the same plan. Nothing is done to another one.
    identity: str = field(default="", compare=False)
    # A stop: whether nothing is lost when it does not get the time that its server has for that.
    at_once: bool = False

    @property
    def spoken(self) -> str:
        """The verb as people read it: what is done to another server is done by the same means."""
        return (self.verb[: -len("_other")] if self.verb.endswith("_other") else self.verb).replace("_", " ")


@dataclass(frozen=True)
class Making:
    """All that a new instance is made from."""

    spec: ServerSpec
    fingerprint: str
    salt: str
    # What it records: the secret files that were written for it, what it stops, the fallbacks in use.
    wrote: t.Collection[str] = ()
    replaced: t.Collection[str] = ()
    supersedes: t.Sequence[str] = ()
    fallbacks: t.Mapping[str, t.Any] | None = None
    # Flags and environment that measurements of an earlier start led to; none of it was asked for.
    learned_engine: t.Mapping[str, str] = field(default_factory=dict)
    learned_env: t.Mapping[str, str] = field(default_factory=dict)
    # Seconds that a start of it may take: so long whoever deploys it waits. 0 where he does not say.
    start_seconds: float = 0
    # Compile caches of another host that fit, where what it compiles has a new place.
    carried: Carried | None = None


@dataclass(frozen=True)
class Life:
    """What an instance has logged since its last start.

    Unless it C(is_whole), lines of its beginning may be missing.
    """

    log: str
    is_whole: bool = True


class Effect(t.NamedTuple):
    """What a verb does, and the command line that does the same, for people; with the files that it writes, by path."""

    do: t.Callable[[Action], None]
    command: t.Callable[[Action], t.Sequence[str]]
    files: t.Callable[[Action], t.Mapping[str, str]] = lambda action: {}


EffectOf = t.Callable[[Action], Effect]


def both(verb: str, effect: Effect) -> dict[str, Effect]:
    """The same effect on an instance of the server, and on that of another one."""
    return {verb: effect, f"{verb}_other": effect}


@dataclass(frozen=True)
class Seen:
    """One look at a host: what there is of a server, and the instances of all others of this user."""

    instances: t.Mapping[Slot, Instance] = field(default_factory=dict)
    others: tuple[Other, ...] = ()
    # What a download that was cut short left behind.
    download: str | None = None
    # A sentence when something of somebody else is where a download would be.
    download_conflict: str | None = None
    # Looks into an image that were cut short.
    probes: tuple[str, ...] = ()
    # Recorded instances that somebody removed: the files that were written for them are left.
    gone: tuple[Instance, ...] = ()
    # What is recorded of servers on other engines: they use files too.
    elsewhere: tuple[t.Mapping[str, t.Any], ...] = ()
    # Why the record of other servers cannot be believed: nobody knows then which files they use.
    unknown: tuple[str, ...] = ()


class Backend(t.Protocol):
    """One way to run servers on a host. C(server) is the name of a server there.

    What it raises is a VllmError, or one of C(failures()) that C(sentence()) turns into words.
    """

    name: str
    # Whether its servers cannot fetch weights by themselves, so that those are there before a start.
    fetches_first: bool
    # Whether its servers look at their GPUs again whenever they start by themselves.
    looks_at_start: bool
    # What this user's servers own.
    ledger: Ledger
    # What the program is called that listens on a port in place of an instance; empty when instances listen themselves.
    proxy: str

    def servers(self) -> t.Iterable[str]:
        """The names of all servers of this user of which something is on the host."""

    def lookalikes(self) -> t.Collection[str]:
        """A sentence for each instance that claims to be of this collection, and that this user's record lacks."""

    def look(self, server: str) -> Seen:
        """What is there, now."""

    def settle(self, server: str) -> None:
        """Write down what a run that was cut short could not."""

    def tidy(self, server: str, gone: bool = False) -> None:
        """Forget what does not exist any more, and with C(gone) the server."""

    def adopt(self, server: str, identity: str) -> None:
        """Remember that an instance of somebody else may be put aside for one of ours."""

    def mounted(self) -> t.Collection[str]:
        """The paths on the host that instances of others mount."""

    def artifact(self, spec: ServerSpec) -> Artifact | None:
        """What the server would be made from; None when it is not on the host."""

    def version(self, artifact: Artifact, server: str) -> str | None:
        """The version of vLLM in an artifact that does not tell it: found by a look inside, which takes seconds."""

    def lacking(self, spec: ServerSpec) -> t.Sequence[Problem]:
        """What is not on the host and another role provides: in check mode that is no problem."""

    def environments(self, servers: t.Collection[str], kept: t.Collection[str]) -> tuple[str, ...]:
        """Virtual environments that these servers alone are recorded for, by path, without those to be kept."""

    def refusals(self, spec: ServerSpec) -> t.Sequence[Problem]:
        """Why what runs servers here cannot run this one."""

    def doubts(self, spec: ServerSpec) -> t.Sequence[str]:
        """What nobody would expect of what runs servers here."""

    def holders(self, port: int, bind: str) -> t.Collection[str]:
        """Identities of the instances, of this collection or not, that hold the port though no process listens."""

    def called(self, identity: str) -> str:
        """An instance, of this collection or not, as people call it."""

    def caches(self, server: str, gone: t.Collection[str] = ()) -> tuple[str, ...]:
        """Where the server's instances, past ones too, keep what they compiled, as far as it goes with the server: what
        is kept for an artifact goes with the last of its servers. Those C(gone) are not there any more."""

    def log(self, server: str) -> str:
        """The end of what the server has logged."""

    def log_command(self, server: str) -> t.Sequence[str]:
        """The command line that shows it, for people."""

    def life(self, instance: str) -> Life | None:
        """What an instance, by the name that it has now, has logged in this life; None when nobody can read that."""

    def provide(self, spec: ServerSpec) -> None:
        """Bring the artifact, or a newer one, to the host."""

    def provide_command(self, reference: str) -> t.Sequence[str]:
        """The command line that does the same, for people."""

    def effects(self, server: str, making: t.Callable[[], Making]) -> t.Mapping[str, Effect]:
        """Its verbs. C(making) is asked when an instance is made: what is recorded may change until then."""

    def make_ready(self) -> None:
        """Load what acting takes, before anything is done.

        Raises:
            VllmError: when the host lacks it.
        """

    def wait_until_it_answers(self) -> None:
        """Return once the backend works; one that was restarted takes some seconds."""

    def failures(self) -> tuple[type[BaseException], ...]:
        """What it may raise beside VllmError."""

    def sentence(self, attempt: str, error: BaseException) -> str:
        """Such a failure as what was attempted, what was seen and what to change."""

    def reason(self, error: BaseException) -> Reason:
        """What kind of failure it is, for playbooks."""
