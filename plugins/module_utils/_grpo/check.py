# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a server is one that TRL can train against: what it is asked, and what each answer that is missing means.

Nothing is changed by it: an endpoint that takes weights is asked with GET, which it refuses if it is there.
"""

from __future__ import annotations

import typing as t
from dataclasses import dataclass, field

from .._errors import VllmError
from .._health.api import why
from .._health.wait import Response, model_ids
from .._host.http import HttpError, Server
from .._vllm.versions import parse

# Bytes of an answer: /server_info holds the whole configuration.
LIMIT = 4 * 1024 * 1024
CONNECT_TIMEOUT = 5.0
# Endpoints that TRL posts to, and the vLLM that brought each.
ENDPOINTS: t.Mapping[str, str] = {
    "/init_weight_transfer_engine": "0.19.0",
    "/start_weight_update": "0.21.0",
    "/update_weights": "0.19.0",
    "/finish_weight_update": "0.21.0",
    "/reset_prefix_cache": "0.19.0",
}
OPTIONS: dict[str, dict[str, t.Any]] = {
    "url": {"type": "str", "default": "http://127.0.0.1:8000"},
    "served_model_name": {"type": "str"},
    "vllm_version": {"type": "str"},
    "weights": {"type": "bool", "default": True},
    "request_timeout": {"type": "int", "default": 120},
}
# A text of one token and more in any vocabulary.
PROMPT = "Hello"
TOKENS = 4


@dataclass(frozen=True)
class Expected:
    """What the trainer was set up for."""

    served_model_name: str | None = None
    vllm_version: str | None = None
    # Whether weights are to get there; without GPUs they cannot.
    weights: bool = True


@dataclass
class Seen:
    """What the server says of itself, and what it lacks, each in one sentence; the first one matters most."""

    missing: list[str] = field(default_factory=list)
    vllm_version: str | None = None
    served_model_name: str | None = None
    world_size: int | None = None
    weight_transfer: str | None = None
    completion: str | None = None

    def to_dict(self) -> dict[str, t.Any]:
        """The keys of the result of M(gpufleet.vllm.grpo_check), without what is missing."""
        return {key: value for key, value in vars(self).items() if key != "missing"}


class Ask(t.Protocol):
    """One question to the server."""

    def __call__(self, method: str, path: str, body: t.Any = None) -> Response: ...


def asker(url: str, timeout: float) -> Ask:
    """Questions to a server at that address, each within so many seconds."""
    server = Server(url.rstrip("/"))

    def ask(method: str, path: str, body: t.Any = None) -> Response:
        try:
            answer = server.request(method, path, body, timeout, CONNECT_TIMEOUT, LIMIT)
        except HttpError as error:
            return Response(error=why(error))
        try:
            return Response(answer.status, answer.json())
        except HttpError:
            return Response(answer.status, None)

    return ask


def run(params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """Ask the server that the options of M(gpufleet.vllm.grpo_check) name; the result of that module.

    Raises:
        VllmError: for an option that cannot be used.
    """
    url = str(params["url"]).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise VllmError(f"url must be an address such as http://127.0.0.1:8000; got {url!r}.")
    expected = Expected(params["served_model_name"], params["vllm_version"], params["weights"])
    seen = look(asker(url, params["request_timeout"]), expected)
    result = {"changed": False, "missing": seen.missing, "server": seen.to_dict()}
    return {**result, "msg": f"TRL cannot train against {url}: {seen.missing[0]}."} if seen.missing else result


def look(ask: Ask, expected: Expected) -> Seen:
    """Ask everything that TRL's client will ask, and stop where nothing more can be learnt."""
    seen = Seen()
    health = ask("GET", "/health")
    if health.status != 200:
        said = health.error or f"HTTP {health.status}"
        seen.missing.append(
            f"/health does not answer 200 ({said}): the server is not started, still loads, or has failed; "
            "vllm_diagnose reports which"
        )
        return seen
    _identify(ask, expected, seen)
    if not seen.missing:
        _configured(ask, expected, seen)
        _endpoints(ask, seen)
        _generates(ask, seen)
    return seen


def _mapping(value: t.Any) -> t.Mapping[str, t.Any]:
    return value if isinstance(value, dict) else {}


def _identify(ask: Ask, expected: Expected, seen: Seen) -> None:
    models = ask("GET", "/v1/models")
    if models.status in (401, 403):
        seen.missing.append("it asks for an API key, and TRL's client sends none: leave api_key_file out")
        return
    names = model_ids(models.body)
    # TRL takes the first one.
    seen.served_model_name = next(iter(names), None)
    if expected.served_model_name and seen.served_model_name != expected.served_model_name:
        seen.missing.append(
            f"it serves {seen.served_model_name or 'no model'}, not {expected.served_model_name}: another server "
            "answers on this port"
        )
    version = _mapping(ask("GET", "/version").body).get("version")
    seen.vllm_version = str(version) if version else None
    wanted = expected.vllm_version
    if wanted and seen.vllm_version and parse(seen.vllm_version)[:3] != parse(wanted)[:3]:
        seen.missing.append(
            f"it runs vLLM {seen.vllm_version}, and the trainer's environment holds {wanted}: weights travel between "
            "equal versions only, so deploy both again"
        )


def _configured(ask: Ask, expected: Expected, seen: Seen) -> None:
    info = ask("GET", "/server_info?config_format=json")
    if info.status != 200:
        seen.missing.append(
            f"/server_info answers {info.error or f'HTTP {info.status}'}: its development endpoints are closed, so set "
            "env.VLLM_SERVER_DEV_MODE of the server to 1"
        )
        return
    config = _mapping(_mapping(info.body).get("vllm_config"))
    transfer = config.get("weight_transfer_config")
    seen.weight_transfer = str(_mapping(transfer).get("backend") or "") or None
    if expected.weights and transfer is None:
        seen.missing.append(
            "it has no weight-transfer engine: set engine.weight_transfer_config of the server to {backend: nccl}"
        )
    model = _mapping(config.get("model_config"))
    for key, value in (("logprobs_mode", "processed_logprobs"), ("max_logprobs", -1)):
        if model.get(key, value) != value:
            seen.missing.append(f"its {key} is {model[key]}: set engine.{key} of the server to {value}")
    size = _mapping(ask("GET", "/get_world_size").body).get("world_size")
    seen.world_size = size if isinstance(size, int) else None
    if seen.world_size is None:
        seen.missing.append("/get_world_size names no number of workers: vLLM 0.19.0 or later is needed")


def _endpoints(ask: Ask, seen: Seen) -> None:
    version = parse(seen.vllm_version) if seen.vllm_version else None
    wanted = [path for path, first in ENDPOINTS.items() if version is None or version >= parse(first)]
    absent = [path for path in wanted if ask("GET", path).status == 404]
    # Without the mode there are none, which is said by then.
    if absent and not seen.missing:
        seen.missing.append(
            f"it has no {', '.join(absent)}: vLLM 0.19.0 or later is needed, with VLLM_SERVER_DEV_MODE 1"
        )


def _generates(ask: Ask, seen: Seen) -> None:
    """A completion as TRL asks for one: with the ids and the log-probabilities of its tokens."""
    body = {
        "model": seen.served_model_name,
        "prompt": [PROMPT],
        "max_tokens": TOKENS,
        "logprobs": 0,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    answer = ask("POST", "/v1/completions", body)
    choices = _mapping(answer.body).get("choices")
    choice = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    seen.completion = str(choice.get("text")) if choice.get("text") is not None else None
    if answer.status != 200 or not choice:
        error = _mapping(_mapping(answer.body).get("error")).get("message")
        said = answer.error or f"HTTP {answer.status}{f': {error}' if error else ''}"
        seen.missing.append(f"it generates nothing: /v1/completions answers {said}")
    elif not choice.get("token_ids") or not _mapping(choice.get("logprobs")).get("token_logprobs"):
        seen.missing.append("its completions lack token ids or log-probabilities: vLLM 0.19.0 or later is needed")
