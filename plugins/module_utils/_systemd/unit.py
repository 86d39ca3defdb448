# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A spec as a unit and the file of its environment: the server, its trial, its download; and a unit as an instance.

Pure. A unit does not say its own name (%N does), so it is the same in each place of its server.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import typing as t
from dataclasses import dataclass, replace

from .._deploy.backend import Instance, Making, Slot
from .._deploy.ledger import Entry
from .._deploy.record import known_of
from .._server.arguments import SECRET_NAMES, Places, argv, env, secrets_shell
from .._server.spec import ServerSpec
from . import options
from .options import SHELL, TURNS, Given, takes_uuids
from .words import environment_file, number

if t.TYPE_CHECKING:
    from .start import Start

NAME = "systemd"
VAR_CACHE = "/var/cache"
CREDENTIALS = '"$CREDENTIALS_DIRECTORY"'
# Without caches of its own a server has its own /tmp.
NO_CACHE = "/tmp"
SEAL = re.compile(r"^# Virtual environment: (\S*)\. Seal: ([0-9a-f]{32})$", re.MULTILINE)
CACHE = re.compile(rf"^CacheDirectory={re.escape(options.CACHES)}/(\S+)$", re.MULTILINE)
# Directories of programs that vLLM runs, behind those of its environment: compilers above all.
PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TOKEN = 'export HF_TOKEN_PATH="${HF_TOKEN_PATH:-$CREDENTIALS_DIRECTORY/hf_token}"; '
# Runs nothing but the interpreter, with everything else the same; and asks the driver for the GPUs.
TRIAL = '"$1" -c "" || exit 1; [ "$2" = none ] || nvidia-smi -L > /dev/null'
TRIAL_TIMEOUT = 120
# Subfolders of a repository hold the same weights in other forms, which vLLM does not read.
FETCH_PROGRAM = (
    "import sys; from huggingface_hub import snapshot_download; "
    "[snapshot_download(m, revision=sys.argv[2] or None if i == 0 else None, "
    "ignore_patterns=['original/*', 'metal/*', '*.pth', '*.onnx', 'onnx/*']) "
    "for i, m in enumerate([sys.argv[1], *sys.argv[3:]])]"
)


@dataclass(frozen=True)
class Files:
    """A unit that is to be made: its text, its environment, and what identifies it."""

    unit: str
    environment: str
    environment_path: str
    seal: str
    cache: str | None = None

    @property
    def identity(self) -> str:
        return identity(self.unit)


@dataclass(frozen=True)
class Host:
    """What a unit takes in of the host it is for."""

    systemd: int
    # Whether its systemd hands credentials over.
    loads: bool
    # Where the files of environments are.
    directory: str
    # The program that it runs first.
    program: str = ""
    # What the virtual environment needs to be read beside itself: the interpreter that it was made with.
    reads: tuple[str, ...] = ()
    artifact_id: str = ""


def identity(text: str) -> str:
    """What identifies a unit: every byte of its file."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogateescape")).hexdigest()


def is_installed(text: str) -> bool:
    """Whether a unit can be enabled: whether systemd then starts it at boot."""
    return "\n[Install]\n" in text


def seal_in(text: str) -> str | None:
    """The seal that a unit has, which proves nothing by itself."""
    found = SEAL.search(text)
    return found[2] if found else None


def cache_of(text: str) -> str | None:
    """The directory in which a unit keeps what it compiles."""
    found = CACHE.search(text)
    return f"{VAR_CACHE}/{options.CACHES}/{found[1]}" if found else None


def environment_path(directory: str, seal: str) -> str:
    """Where the variables of a unit are."""
    return f"{directory}/{seal}.env"


def rendered(making: Making, host: Host, seal: str) -> Files:
    """The unit of a server."""
    spec = making.spec
    served = replace(spec, engine={**spec.engine, **making.learned_engine})
    start = started(served, _command(served))
    command = start.argv(f"{spec.venv}/bin/python", host.program) if start else _command(served)
    given = replace(_given(making, host, seal, command), waits=bool(start and start.turns))
    return _files(given, making)


def started(spec: ServerSpec, command: tuple[str, ...]) -> Start | None:
    """How the server starts on its GPUs; None without any."""
    if spec.gpus == "none":
        return None
    # A run that makes no unit has no use for these.
    from .._gpu.selection import PREFERENCES, SAME
    from .._server.memory_settings import settings_of
    from .start import Start

    settings, wish = settings_of(spec), spec.gpus_at_start
    # With the size of its cache given, vLLM measures nothing that others could disturb.
    measures = settings.pinned_kv is None
    return Start(
        spec.name,
        command,
        gpus=() if spec.gpus == "all" else tuple(spec.gpus),
        at_start=wish.get("at_start", SAME),
        min_free_mib=int(wish.get("min_free_mib", 0)),
        prefer=wish.get("prefer", PREFERENCES[0]),
        mig=bool(wish.get("mig")),
        share=settings.utilization if measures else 0.0,
        used=settings.local_gpus,
        takes_uuids=takes_uuids(spec),
        bind=spec.bind,
        port=spec.port,
        uds=spec.uds or "",
        turns=TURNS if measures else "",
    )


def trial(making: Making, host: Host, seal: str) -> Files:
    """The same unit, except that it runs nothing and does so once."""
    python = f"{making.spec.venv}/bin/python"
    secrets = "".join(f"{_demanded(SECRET_NAMES[key])}; " for key in making.spec.secret_files)
    command = (SHELL, "-c", secrets + TRIAL, "vllm", python, "none" if making.spec.gpus == "none" else "gpus")
    given = replace(_given(making, host, seal, command), once=True, start_timeout=TRIAL_TIMEOUT)
    return _files(given, making)


def fetching(making: Making, host: Host, seal: str, owner: str) -> Files:
    """A unit that fetches the weights of a server's models once, as the owner of the directory that keeps them.

    It reads neither the API key nor the env file, so it gets neither.
    """
    from .._deploy.used import models_of

    spec = replace(making.spec, api_key_file=None, env_file=None, gpus="none", volumes=())
    drafting = [one for one in models_of(spec.to_dict()) if one != spec.model]
    models = [spec.model, str(spec.engine.get("revision") or ""), *drafting]
    program = (f"{spec.venv}/bin/python", "-c", FETCH_PROGRAM, *models)
    command = (SHELL, "-c", TOKEN + 'exec "$@"', "vllm", *program) if spec.hf_token_file else program
    making = replace(making, spec=spec)
    given = replace(
        _given(making, host, seal, command),
        once=True,
        user=owner,
        writes=(str(spec.huggingface_dir),),
        cache=None,
        start_timeout=None,
    )
    return _files(given, making, {"HF_HUB_OFFLINE": "0"})


def _command(spec: ServerSpec) -> tuple[str, ...]:
    """The server, in a shell only where something is looked up first."""
    # A service is on the host's network.
    serve = (f"{spec.venv}/bin/vllm", "serve", *argv(replace(spec, network_mode="host")))
    # A server whose key did not arrive would let everybody in.
    before = "".join(f"{_demanded(SECRET_NAMES[key])}; " for key in spec.secret_files)
    before += TOKEN if spec.hf_token_file else ""
    if spec.api_key_file or spec.env_file:
        return (SHELL, "-c", before + secrets_shell(CREDENTIALS), "vllm", *serve)
    return (SHELL, "-c", before + 'exec "$@"', "vllm", *serve) if before else serve


def _demanded(secret: str) -> str:
    return f'[ -r {CREDENTIALS}/{secret} ] || {{ echo "{secret} did not reach the server" >&2; exit 1; }}'


def _given(making: Making, host: Host, seal: str, command: tuple[str, ...]) -> Given:
    spec = making.spec
    # What one environment compiled may crash another: each has a directory of its own.
    cache = f"{spec.container_name}-cache-{host.artifact_id[:12]}" if spec.keep_caches else None
    file_of_environment = environment_path(host.directory, seal)
    return Given(
        spec,
        seal,
        command,
        file_of_environment,
        host.artifact_id,
        host.reads,
        cache,
        systemd=host.systemd,
        loads=host.loads,
    )


def _files(given: Given, making: Making, more: t.Mapping[str, str] | None = None) -> Files:
    variables = {**making.learned_env, **environment(given), **(more or {})}
    cache = f"{VAR_CACHE}/{options.CACHES}/{given.cache}" if given.cache else None
    return Files(options.text(given), environment_file(variables), given.environment, given.seal, cache)


def environment(given: Given) -> dict[str, str]:
    """The server's environment, what the user sets last. Secrets are no part of it."""
    spec = given.spec
    place = f"{VAR_CACHE}/{options.CACHES}/{given.cache}" if given.cache else NO_CACHE
    return {
        "HOME": place,
        "XDG_CACHE_HOME": f"{place}/xdg/cache",
        "XDG_CONFIG_HOME": f"{place}/xdg/config",
        "TORCHINDUCTOR_CACHE_DIR": f"{place}/torchinductor",
        "VIRTUAL_ENV": str(spec.venv),
        "PATH": f"{spec.venv}/bin:{PROGRAMS}",
        "HF_HOME": f"{place}/huggingface",
        **_weights(spec),
        # Which GPUs it sees, the program tells it that it is started by.
        **({"CUDA_VISIBLE_DEVICES": ""} if spec.gpus == "none" else {}),
        **env(
            replace(spec, network_mode="host", hf_token_file=None),
            Places(str(spec.encodings_dir), "", place if given.cache else None),
        ),
    }


def _weights(spec: ServerSpec) -> dict[str, str]:
    """Weights that are bound read-only are all there: nothing is asked or fetched when it starts."""
    if not spec.huggingface_dir:
        return {}
    return {"HF_HUB_CACHE": f"{spec.huggingface_dir}/hub", "HF_HUB_OFFLINE": "1"}


# --- a unit as an instance --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """A unit file that is on the host, and what systemd shows of it."""

    name: str
    text: str
    shown: t.Mapping[str, str]
    is_enabled: bool = False

    @property
    def identity(self) -> str:
        return identity(self.text)

    @property
    def running(self) -> bool:
        """Whether it may hold GPUs: also between two starts, and until it has stopped."""
        return self.status in ("running", "restarting", "stopping")

    @property
    def at_boot(self) -> bool | None:
        """Whether it is started at boot; None for one that never is."""
        return self.is_enabled if is_installed(self.text) else None

    @property
    def status(self) -> str:
        """Its state in one word."""
        active, sub = self.shown.get("ActiveState"), self.shown.get("SubState")
        if sub in ("auto-restart", "auto-restart-queued"):
            return "restarting"
        words = {"active": "running", "reloading": "running", "activating": "running", "deactivating": "stopping"}
        if active in words:
            return words[active]
        # systemd forgets a unit that is stopped, and with it whether it ever ran.
        return "failed" if active == "failed" else "stopped"


def instance(slot: Slot, found: Found, proof: Entry | None, monotonic: float, now: datetime.datetime) -> Instance:
    """What a deployment needs to know of a unit: its state from what systemd shows, and everything that something is
    decided by from the entry that proves it to be ours."""
    known: dict[str, t.Any] = {
        "slot": slot,
        "owned": proof is not None,
        "running": found.running,
        "identity": found.identity,
        "backend": NAME,
        "status": found.status,
        "is_pinned": "--kv-cache-memory-bytes" in found.text,
        "can_be_adopted": False,
        "at_boot": found.at_boot,
        "started_at": _when(found.shown, "ExecMainStartTimestampMonotonic", monotonic, now) if found.running else None,
        "restarts": int(found.shown.get("NRestarts") or 0),
        "away_seconds": _away(found.shown, proof, now - datetime.timedelta(seconds=monotonic)),
        "ended_at": None if found.running else _when(found.shown, "ActiveExitTimestampMonotonic", monotonic, now),
    }
    if proof is None:
        return Instance(**known)
    cache, made_from = cache_of(found.text), SEAL.search(found.text)
    return Instance(
        **known,
        artifact=str(proof.intent.get("venv") or ""),
        artifact_id=made_from[1] if made_from else None,
        caches=(cache,) if cache else (),
        **known_of(proof),
    )


def _when(shown: t.Mapping[str, str], what: str, monotonic: float, now: datetime.datetime) -> str | None:
    """The time (ISO 8601, UTC) of a moment that systemd shows, to the second; None where it shows none."""
    moment = number(shown.get(what))
    if not moment:
        return None
    when = now - datetime.timedelta(seconds=monotonic - moment / 1e6)
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


def _away(shown: t.Mapping[str, str], proof: Entry | None, boot: datetime.datetime) -> float | None:
    """How long it served nobody before its last start, from when it was told to stop; None when it was not.

    systemd forgets a unit that is stopped and not enabled: then the record says when that was.
    """
    stopped = number(shown.get("ActiveExitTimestampMonotonic"))
    started = number(shown.get("InactiveExitTimestampMonotonic"))
    if 0 < stopped <= started:
        return round((started - stopped) / 1e6, 1)
    if proof is None or not started or not proof.started_as or proof.started_as != shown.get("InvocationID"):
        return None
    try:
        told = datetime.datetime.fromisoformat(proof.stopping_since)
        away = (boot + datetime.timedelta(microseconds=started) - told).total_seconds()
    except (ValueError, TypeError):
        return None
    return round(away, 1) if away >= 0 else None
