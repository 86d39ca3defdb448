# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server answers, and what it lacks to be trained against. The answers are those of a real vLLM 0.31.0."""

from __future__ import annotations

import copy
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.check import ENDPOINTS, Expected, look, run
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.wait import Response
from api_server import Handler, address

__all__ = ["address"]

INFO = "/server_info?config_format=json"
CHOICE = {
    "index": 0,
    "text": " there",
    "logprobs": {"token_logprobs": [-0.2], "tokens": ["token_id:1354"]},
    "token_ids": [1354],
    "prompt_token_ids": [13225],
}
READY: dict[str, tuple[int, t.Any]] = {
    "/health": (200, None),
    "/v1/models": (200, {"data": [{"id": "gpt-oss-20b"}]}),
    "/version": (200, {"version": "0.31.0"}),
    INFO: (
        200,
        {
            "vllm_config": {
                "weight_transfer_config": {"backend": "nccl"},
                "model_config": {"logprobs_mode": "processed_logprobs", "max_logprobs": -1},
            }
        },
    ),
    "/get_world_size": (200, {"world_size": 2}),
    **{path: (405, {"detail": "Method Not Allowed"}) for path in ENDPOINTS},
    "/v1/completions": (200, {"choices": [CHOICE]}),
}
EXPECTED = Expected("gpt-oss-20b", "0.31.0")


def answering(**changes: tuple[int, t.Any]) -> dict[str, tuple[int, t.Any]]:
    """READY with other answers; C(health) stands for /health."""
    answers = copy.deepcopy(READY)
    names = {path.strip("/").partition("?")[0].replace("/", "_"): path for path in READY}
    answers.update({names[name]: answer for name, answer in changes.items()})
    return answers


def missing(answers: dict[str, tuple[int, t.Any]], expected: Expected = EXPECTED) -> list[str]:
    def ask(method: str, path: str, body: t.Any = None) -> Response:
        return Response(*answers.get(path, (404, {"detail": "Not Found"})))

    return look(ask, expected).missing


def config(**said: t.Any) -> tuple[int, t.Any]:
    whole = copy.deepcopy(READY[INFO][1])
    for key, value in said.items():
        place = whole["vllm_config"] if key == "weight_transfer_config" else whole["vllm_config"]["model_config"]
        place[key] = value
    return 200, whole


GONE = (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    ("answers", "sentences"),
    [
        pytest.param(answering(), [], id="ready"),
        pytest.param(
            answering(health=(503, None)),
            [
                "/health does not answer 200 (HTTP 503): the server is not started, still loads, or has failed; "
                "vllm_diagnose reports which"
            ],
            id="it loads",
        ),
        pytest.param(
            answering(v1_models=(401, {"error": "Unauthorized"})),
            ["it asks for an API key, and TRL's client sends none: leave api_key_file out"],
            id="a key",
        ),
        pytest.param(
            answering(v1_models=(200, {"data": [{"id": "qwen"}]})),
            ["it serves qwen, not gpt-oss-20b: another server answers on this port"],
            id="another server",
        ),
        pytest.param(
            answering(version=(200, {"version": "0.30.0"})),
            [
                "it runs vLLM 0.30.0, and the trainer's environment holds 0.31.0: weights travel between equal versions "
                "only, so deploy both again"
            ],
            id="another version",
        ),
        pytest.param(answering(version=(200, {"version": "0.31.0+cu129"})), [], id="another build"),
        pytest.param(
            answering(server_info=GONE, get_world_size=GONE, **{path.strip("/"): GONE for path in ENDPOINTS}),
            [
                "/server_info answers HTTP 404: its development endpoints are closed, so set env.VLLM_SERVER_DEV_MODE of "
                "the server to 1"
            ],
            id="dev mode",
        ),
        pytest.param(
            answering(server_info=config(weight_transfer_config=None)),
            ["it has no weight-transfer engine: set engine.weight_transfer_config of the server to {backend: nccl}"],
            id="no engine for weights",
        ),
        pytest.param(
            answering(server_info=config(logprobs_mode="raw_logprobs", max_logprobs=20)),
            [
                "its logprobs_mode is raw_logprobs: set engine.logprobs_mode of the server to processed_logprobs",
                "its max_logprobs is 20: set engine.max_logprobs of the server to -1",
            ],
            id="log-probabilities",
        ),
        pytest.param(
            answering(get_world_size=GONE),
            ["/get_world_size names no number of workers: vLLM 0.19.0 or later is needed"],
            id="no world",
        ),
        pytest.param(
            answering(update_weights=GONE),
            ["it has no /update_weights: vLLM 0.19.0 or later is needed, with VLLM_SERVER_DEV_MODE 1"],
            id="no endpoint",
        ),
        pytest.param(
            answering(v1_completions=(500, {"error": {"message": "EngineCore encountered an issue."}})),
            ["it generates nothing: /v1/completions answers HTTP 500: EngineCore encountered an issue."],
            id="a dead engine",
        ),
        pytest.param(
            answering(v1_completions=(200, {"choices": [{"text": " there", "logprobs": None}]})),
            ["its completions lack token ids or log-probabilities: vLLM 0.19.0 or later is needed"],
            id="no ids",
        ),
    ],
)
def test_what_is_missing(answers: dict[str, tuple[int, t.Any]], sentences: list[str]) -> None:
    assert missing(answers) == sentences


def test_without_gpus_no_engine_for_weights_is_expected() -> None:
    assert missing(answering(server_info=config(weight_transfer_config=None)), Expected(weights=False)) == []


def test_a_release_is_asked_for_what_it_has() -> None:
    older = answering(version=(200, {"version": "0.20.0"}), start_weight_update=GONE, finish_weight_update=GONE)
    assert missing(older, Expected("gpt-oss-20b", "0.20.0")) == []


PARAMS = {"served_model_name": "gpt-oss-20b", "vllm_version": "0.31.0", "weights": True, "request_timeout": 5}


def test_over_http(address: str) -> None:
    Handler.answers, Handler.asked[:] = answering(), []
    assert run({"url": f"{address}/", **PARAMS}) == {
        "changed": False,
        "missing": [],
        "server": {
            "vllm_version": "0.31.0",
            "served_model_name": "gpt-oss-20b",
            "world_size": 2,
            "weight_transfer": "nccl",
            "completion": " there",
        },
    }
    assert {path for method, path, _body in Handler.asked if method == "POST"} == {"/v1/completions"}


def test_the_message_is_one_sentence(address: str) -> None:
    Handler.answers = answering(server_info=config(weight_transfer_config=None))
    found = run({"url": address, **PARAMS})
    assert found["msg"] == f"TRL cannot train against {address}: {found['missing'][0]}."


def test_nothing_listens() -> None:
    found = run({"url": "http://127.0.0.1:9", **PARAMS})
    assert "connection refused: nothing listens there yet" in found["msg"]


def test_no_address() -> None:
    with pytest.raises(VllmError, match="url must be an address"):
        run({"url": "localhost:8000", **PARAMS})
