# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run works on, as values: the host, the server that is meant, what is wanted of it, what was decided."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .._host import ports
from .._server.fallbacks import Fallbacks
from .._server.spec import ALL_KEYS, ServerSpec
from .backend import Backend, Seen
from .plan import MAKING_STATES, Observed, Plan, Preflight, Wanted
from .secrets import Secrets

if t.TYPE_CHECKING:
    from .._errors import Reason
    from .carried import Carried
    from .preflight import Measurement
    from .room import Question

Params = t.Mapping[str, t.Any]
Facts = t.Mapping[str, t.Any]


def look_at_gpus(samples: int = 1, docker_host: str | None = None) -> Facts:
    """The facts about the GPUs of this host, as gpu_facts gives them."""
    from .room import look

    return look(samples, docker_host)


@dataclass(frozen=True)
class Host:
    """The host as a run meets it. Tests hand in another one."""

    backends: t.Mapping[str, Backend]
    gpus: t.Callable[..., Facts] = look_at_gpus
    port_owner: t.Callable[[int, str], ports.PortOwner | None] = ports.port_owner
    # Asks a server once whether it is healthy, with the parameters of vllm_health; None where nobody can.
    probe: t.Callable[[Params], dict[str, t.Any]] | None = None
    state_directory: str | None = None
    # For warnings of the module.
    warn: t.Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Job:
    """One server on one host: what was asked for, and who runs it."""

    params: Params
    host: Host
    backend: Backend
    server: str
    # The server as it is asked for, with its fallbacks; None where the state needs no description.
    asked: Fallbacks | None = None
    # Servers that a run in check mode would have removed before this one.
    gone: tuple[str, ...] = ()
    # Whether what is decided is done: then GPUs that are chosen are this run's.
    acts: bool = False
    # Compile caches of another host, for a server that is made.
    carried: Carried | None = None

    @property
    def makes(self) -> bool:
        """Whether a server is described, and is made where it is not there."""
        return self.params["state"] in MAKING_STATES

    def limits(self) -> dict[str, t.Any]:
        """The parameters that the preflight judges by, as the fields of C(Limits)."""
        keys = ("fit", "pin_kv", "pull", "architecture", "host_reserve_gib", "replace_others", "failure_id", "learned")
        return {key: self.params[key] for key in keys}


@dataclass(frozen=True)
class Wish:
    """The server that is wanted, as this host can have it; without a spec where the state needs none."""

    wanted: Wanted
    spec: ServerSpec | None = None
    secrets: Secrets | None = None
    fallbacks: Fallbacks | None = None
    # What a wish for some GPUs became.
    gpus: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Decision:
    """What is to be done, and everything it was decided by."""

    wish: Wish
    observed: Observed
    # The look that it rests on.
    seen: Seen = field(default_factory=Seen)
    plan: Plan = field(default_factory=Plan)
    preflight: Preflight = field(default_factory=Preflight)
    question: Question | None = None
    measurement: Measurement | None = None
    # Why settings were passed over, for which there is a fallback.
    stepped: tuple[str, ...] = ()
    # What the user is to know of what is left undone.
    notes: tuple[str, ...] = ()
    # What another role provides.
    needs: tuple[str, ...] = ()
    # Where the server stands when no fallback is left for its failure.
    exhausted: Fallbacks | None = None


def settings_of(params: Params) -> dict[str, t.Any]:
    """What is said of the server: a module has no parameters for what only another backend has."""
    return {key: params[key] for key in ALL_KEYS if key in params}


def failures(host: Host) -> tuple[type[BaseException], ...]:
    """What the backends of a host may raise beside VllmError, as things are loaded now."""
    found: list[type[BaseException]] = []
    for backend in host.backends.values():
        found += backend.failures()
    return tuple(found)


def sentence(host: Host, attempt: str, error: BaseException) -> str:
    """Such a failure in the words of the backend that it is of."""
    return _backend_of(host, error).sentence(attempt, error)


def reason_of(host: Host, error: BaseException) -> Reason:
    """What kind of failure it is to that backend."""
    return _backend_of(host, error).reason(error)


def _backend_of(host: Host, error: BaseException) -> Backend:
    backends = list(host.backends.values())
    return next((one for one in backends if isinstance(error, one.failures())), backends[0])
