# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A trainer and its server on two GPUs: who has which, and how the trainer finds the server."""

from __future__ import annotations

import json
import typing as t

import pytest

SERVERS, TRAINERS = (f"GPU-0000000{index}-0000-4000-8000-00000000000{index}" for index in (0, 1))
WRITTEN = f"""# Written by gpufleet.vllm (role grpo_trainer): changes are overwritten.
VLLM_SERVER_HOST=127.0.0.1
VLLM_SERVER_PORT=8000
ATTN_IMPLEMENTATION=kernels-community/vllm-flash-attn3
VLLM_HOST_IP=127.0.0.1
CUDA_DEVICE_ORDER=PCI_BUS_ID
CUDA_VISIBLE_DEVICES={TRAINERS}
NCCL_SOCKET_IFNAME=lo
"""


@pytest.fixture(scope="module")
def inspected(host: t.Any) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", json.loads(host.check_output("docker inspect vllm-rollout"))[0])


def test_the_environment_file(host: t.Any) -> None:
    file = host.file("/home/gpu/vllm/grpo/environment")
    assert (file.content_string, file.user, file.mode) == (WRITTEN, "gpu", 0o644)


def test_the_server_has_the_other_gpu_and_no_more_workers_than_gpus(inspected: dict[str, t.Any]) -> None:
    assert inspected["HostConfig"]["DeviceRequests"][0]["DeviceIDs"] == [SERVERS]
    arguments = inspected["Config"]["Cmd"]
    assert arguments[arguments.index("--tensor-parallel-size") + 1] == "1"
    assert "NCCL_SOCKET_IFNAME=lo" in inspected["Config"]["Env"]


def test_the_driver_sees_it_there_alone(host: t.Any) -> None:
    shown = host.check_output("nvidia-smi --query-compute-apps=gpu_uuid --format=csv,noheader,nounits")
    assert set(shown.splitlines()) == {SERVERS}


def test_whoever_is_not_on_this_host_reaches_nothing(host: t.Any) -> None:
    listening = [line.split()[3] for line in host.check_output("ss --tcp --listening --numeric").splitlines()[1:]]
    assert [place for place in listening if place.endswith(":8000")] == ["127.0.0.1:8000"]


def test_a_script_finds_the_server_and_what_it_imports(host: t.Any) -> None:
    script = "\n".join(
        [
            "import json, os, urllib.request, vllm, importlib.metadata as m",
            "url = 'http://%s:%s' % (os.environ['VLLM_SERVER_HOST'], os.environ['VLLM_SERVER_PORT'])",
            "names = [m.version(one) for one in ('trl', 'transformers', 'peft', 'datasets', 'accelerate')]",
            "print(json.load(urllib.request.urlopen(url + '/get_world_size')), vllm.__version__, *names)",
        ]
    )
    said = host.check_output("sh -c '. ~/vllm/grpo/profile.sh; exec python -c \"$0\"' %s", script)
    assert said == "{'world_size': 1} 0.26.0 1.16.0 5.17.0 0.21.2 5.2.0 1.15.0"


def test_the_run_said_how_to_train(log: str) -> None:
    assert f"TRL 1.16.0 and vLLM 0.26.0, server on {SERVERS}, trainer on {TRAINERS}." in log
    assert "To train: . /home/gpu/vllm/grpo/profile.sh && python train_grpo_vllm.py" in log


def test_the_check_found_a_server_to_train_against(log: str) -> None:
    assert "Check that TRL can train against the server" in log
    assert "hf_canary4711" not in log
