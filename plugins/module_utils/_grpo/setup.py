# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a trainer and its server on one host come to: GPUs, versions, packages, variables, settings. Pure."""

from __future__ import annotations

import re
import typing as t
from dataclasses import asdict, dataclass

from .._errors import VllmError
from .._server.catalogue import Model, Spec, merged, process, resolve
from .._server.spec import ServerSpec, merge
from .._venv.spec import package
from .._vllm.versions import parse
from .._vllm.wheels import CPU_NAME, GPU_NAME, dotted
from . import environment, versions
from .split import Facts, Split, Wanted, split, wanted_gpus

Settings = t.Mapping[str, t.Any]

KEYS = (
    *("name", "trl_version", "version_check", "vllm_version", "packages", "venv", "gpus", "server_gpus"),
    *("attention", "env", "directory"),
)
DEFAULT_NAME, DEFAULT_DIRECTORY = "grpo", "/opt/vllm/grpo"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
LOOPBACK = re.compile(r"127(?:\.\d+){3}|localhost|::1")
# What TRL installs anyway, named so that the record says it, and what its client takes besides.
PACKAGES = ("accelerate", "aiohttp", "datasets", "peft", "requests", "transformers")
# The flags that TRL's documentation asks of a server, by key of engine, with the value that is needed; None: any.
NEEDED: t.Mapping[str, t.Any] = {
    "weight_transfer_config": None,
    "logprobs_mode": "processed_logprobs",
    "max_logprobs": -1,
}
REMEDY = {"weight_transfer_config": "{backend: nccl}"}
PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")
SCALE_OUT = (0, 30, 0)


@dataclass(frozen=True)
class Setup:
    """Everything that follows from a host, a server and a wish."""

    # The server of the catalogue, for role vllm_server, with the GPUs it gets.
    catalogue: Settings
    # The environment of the trainer, for role vllm_venv.
    venv: Settings
    # The variables of the trainer, and the directory of the files that hold them.
    environment: Settings
    directory: str
    gpus: Settings
    # Where the server answers, under which name, and whether weights can get there.
    server: Settings
    trl_version: str
    vllm_version: str
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, t.Any]:
        """What filter P(gpufleet.vllm.grpo_setup#filter) returns."""
        return {**asdict(self), "warnings": list(self.warnings)}


def described(name: str, model: Model, hardware_class: str, overrides: Spec) -> Spec:
    """The spec of the server of a trainer, as C(resolve()) makes it.

    Raises:
        VllmError: when the description cannot be used, or others than this host could reach the server.
    """
    # First, since what is said to any other server, to set a key, would be wrong here.
    wanted = dict(overrides)
    _refuse_the_open(str(merged(model, hardware_class, wanted, name).get("bind", "127.0.0.1")))
    return resolve(name, model, hardware_class, wanted)


def compose(spec: Settings, catalogue: Settings, facts: Facts, trainer: Settings, kept: str = "") -> Setup:
    """Put a trainer beside a server.

    C(spec) is the server as C(catalogue) (model, hardware_class, image, overrides, models) describes it, C(kept) the
    text of the environment file that is on the host.

    Raises:
        VllmError: when the two do not go together, with what to change.
    """
    name = _name(trainer)
    server = process(spec)
    on_cpu = server.gpus == "none"
    _refuse_other_servers(spec, server, on_cpu)
    version = _version(spec, server, trainer)
    pair = versions.pair(version, trainer.get("trl_version"), trainer.get("version_check") or versions.CHECKS[0])
    overrides = catalogue.get("overrides") or {}
    parts = Split((), ()) if on_cpu else split(facts, _wanted(overrides, trainer, server, kept))
    capabilities = {
        gpu.get("compute_capability") for gpu in facts.get("gpus") or () if gpu.get("uuid") in parts.trainer
    }
    capability = capabilities.pop() if len(capabilities) == 1 else None
    # A directory may tell less than the name that its model is served by.
    names = " ".join((server.model, *server.served_model_names))
    attention = trainer.get("attention") or environment.attention(names, capability)
    return Setup(
        catalogue={**catalogue, "overrides": merge(overrides, _settings(overrides, parts, version))},
        venv={
            **{key: value for key, value in (trainer.get("venv") or {}).items() if value is not None},
            "packages": _packages(trainer.get("packages") or (), pair, attention, on_cpu),
            "server": f"{name}-trainer",
        },
        environment=environment.variables(server.bind, server.port, attention, parts.trainer, trainer.get("env")),
        directory=str(trainer.get("directory") or DEFAULT_DIRECTORY),
        gpus={"server": list(parts.server), "trainer": list(parts.trainer)},
        server={
            "name": server.name,
            "url": server.url,
            "served_model_name": server.served_model_names[0],
            "weights": server.engine.get("weight_transfer_config") is not None,
        },
        trl_version=pair.trl,
        vllm_version=pair.vllm,
        warnings=pair.warnings,
    )


def _name(trainer: Settings) -> str:
    unknown = sorted(set(trainer) - set(KEYS))
    if unknown:
        raise VllmError(f"Unknown key 'grpo_trainer.{unknown[0]}'. Valid keys: {', '.join(sorted(KEYS))}.")
    name = str(trainer.get("name") or DEFAULT_NAME)
    if not NAME.fullmatch(name):
        raise VllmError(f"grpo_trainer.name must consist of letters, digits, '_', '.' and '-'; got {name!r}.")
    return name


# --- the server ------------------------------------------------------------------------------------------------------


def _refuse_the_open(bind: str) -> None:
    if not LOOPBACK.fullmatch(bind):
        raise VllmError(
            f"bind must be 127.0.0.1 for the server of a trainer; got {bind!r}. Anyone who reaches it can replace its "
            "weights, and no API key prevents that."
        )


def _refuse_other_servers(spec: Settings, server: ServerSpec, on_cpu: bool) -> None:
    """A server that no trainer can use."""
    if server.api_key_file:
        raise VllmError("api_key_file must be left out for the server of a trainer: TRL's client sends no key.")
    if server.network_mode != "host":
        raise VllmError(
            "network_mode must be host for the server of a trainer: it connects to the trainer's port 51216, and to "
            "the ports that NCCL opens."
        )
    if (spec.get("health") or {}).get("expected_answer"):
        raise VllmError(
            "health.expected_answer must be left out for the server of a trainer: once it has taken weights, its "
            "answers are others."
        )
    if str(server.env.get("VLLM_SERVER_DEV_MODE")) != "1":
        raise VllmError(f"{server.model} cannot take weights: set env.VLLM_SERVER_DEV_MODE of the server to 1.")
    for key, value in NEEDED.items():
        seen = server.engine.get(key)
        if on_cpu and key == "weight_transfer_config":
            continue
        if seen is None or (value is not None and str(seen) != str(value)):
            wanted = REMEDY.get(key, value)
            raise VllmError(f"A trainer cannot use this server: set engine.{key} to {wanted}; it is {seen!r}.")


def _version(spec: Settings, server: ServerSpec, trainer: Settings) -> str:
    """The release of vLLM that the server runs, as far as its description tells."""
    venv = spec.get("venv")
    lines = venv.get("packages") or () if isinstance(venv, t.Mapping) else ()
    pinned = [
        one.version for one in (package(line, "venv.packages") for line in lines) if one.name in (GPU_NAME, CPU_NAME)
    ]
    known = trainer.get("vllm_version") or server.vllm_version or next(filter(None, pinned), None)
    if not known:
        raise VllmError(
            f"Cannot find out which vLLM {server.image or venv or 'the server'} holds, and the trainer needs the same "
            "one: set grpo_trainer.vllm_version."
        )
    return dotted(parse(str(known)))


def _wanted(overrides: Settings, trainer: Settings, server: ServerSpec, kept: str) -> Wanted:
    """What was said about GPUs, at the trainer and at the server."""
    gpus, least = overrides.get("gpus"), 0
    if isinstance(gpus, t.Mapping):
        # How many it gets follows from the split; a server without a trainer may have more.
        least = int(gpus.get("min_free_mib") or gpus.get("min_free") or 0)
        gpus = None
    asked = wanted_gpus("server_gpus", trainer.get("server_gpus"))
    if asked is None and isinstance(gpus, (list, tuple)):
        asked = wanted_gpus("gpus of the server", gpus)
    parallel = _parallel(overrides)
    if asked is None and parallel:
        asked = parallel
    return Wanted(
        server=asked,
        trainer=wanted_gpus("gpus", trainer.get("gpus")),
        min_free_mib=least,
        name=server.name,
        kept=environment.gpus_of(kept),
    )


def _parallel(overrides: Settings) -> int | None:
    """The GPUs that the user's own parallel sizes take; None when he says none."""
    engine = overrides.get("engine") or {}
    sizes = [int(engine[key]) for key in PARALLEL if engine.get(key) is not None]
    product = 1
    for size in sizes:
        product *= size
    return product if sizes else None


def _settings(overrides: Settings, parts: Split, version: str) -> dict[str, t.Any]:
    """What the split and the version ask of the server, over what the user says of it."""
    engine: dict[str, t.Any] = {"enable_scale_out": True} if parse(version) >= SCALE_OUT else {}
    if not parts.server:
        return {"engine": engine} if engine else {}
    parallel = _parallel(overrides)
    if parallel is None:
        engine["tensor_parallel_size"] = len(parts.server)
    elif parallel != len(parts.server):
        raise VllmError(
            f"The parallel sizes in engine take {parallel} GPUs, and the server gets {len(parts.server)}: leave "
            f"{' and '.join(PARALLEL)} out, or name as many in server_gpus."
        )
    env = {} if "NCCL_SOCKET_IFNAME" in (overrides.get("env") or {}) else {"NCCL_SOCKET_IFNAME": "lo"}
    return {"gpus": list(parts.server), "engine": engine, "env": env}


# --- the environment -------------------------------------------------------------------------------------------------


def _packages(own: t.Sequence[str], pair: versions.Pair, attention: str, on_cpu: bool) -> list[str]:
    """What is installed: what the user names comes in the place of ours."""
    vllm = CPU_NAME if on_cpu else GPU_NAME
    extra = "[kernels]" if "/" in attention else ""
    lines = {"vllm": f"{vllm}=={pair.vllm}", "trl": f"trl{extra}=={pair.trl}", **{name: name for name in PACKAGES}}
    more = []
    for number, line in enumerate(own):
        address = f"packages[{number}]"
        one = package(str(line), address)
        if one.name == "trl":
            raise VllmError(f"{address}: set trl_version instead of {line!r}; it is checked against the server.")
        if one.name in (GPU_NAME, CPU_NAME) and parse(one.version or "0.0")[:3] != parse(pair.vllm)[:3]:
            raise VllmError(
                f"{address}: the server runs vLLM {pair.vllm}, and weights travel between equal versions only; got "
                f"{line!r}. Leave it out."
            )
        key = "vllm" if one.name == vllm else one.name
        if key in lines and not (on_cpu and one.name == GPU_NAME):
            lines[key] = str(line)
        else:
            more.append(str(line))
    return [*lines.values(), *more]
