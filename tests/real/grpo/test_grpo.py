# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From nothing to a rollout that TRL's client fetched, in order: each test stands on the one before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._grpo.setup import compose
from ansible_collections.gpufleet.vllm.plugins.module_utils._server.spec import merge
from ansible_collections.gpufleet.vllm.plugins.module_utils._venv.spec import KEYS, asked
from ansible_collections.gpufleet.vllm.plugins.plugin_utils._catalogue_files import catalogued

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/rig"))
import wheels  # noqa: E402

HERE = Path(__file__).parent
BIN, CACHE, DEMO = ROOT / ".venv/bin", ROOT / ".cache/grpo", ROOT / ".cache/demo"
PORT = int(os.environ.get("GRPO_PORT", "18080"))
URL = f"http://127.0.0.1:{PORT}"
# The newest vLLM that the newest TRL takes.
VLLM, TRL = "0.31.0", "1.16.0"
# Distributions of nothing but their names. vLLM looks itself up under "vllm", with "cpu" in its version, which the build for
# CPUs is not called; what is for images and sound nobody needs here, and few indexes have builds of it for this torch.
NAMES = {"vllm": f"{VLLM}+cpu", "torchvision": "0.28.0", "torchaudio": "2.11.0", "torchcodec": "0.17.0"}


def trainer() -> dict[str, t.Any]:
    placed = [str(wheels.wheel(CACHE / "wheels", name, version, {})) for name, version in NAMES.items()]
    venv = {"root": str(CACHE / "venvs"), "installer": "pip", "python": "3.11"}
    return {"trl_version": TRL, "packages": placed, "venv": venv, "directory": str(CACHE / "trainer")}


def overrides() -> dict[str, t.Any]:
    """The server of the catalogue, with a small model and an engine for weights that nothing can be sent to.

    Its container has the trainer's own environment, below another vLLM of its image: vLLM in that version is packed for
    CPUs once.
    """
    said = {
        "backend": "container",
        "model": str(DEMO / "model"),
        "port": PORT,
        "vllm_version": VLLM,
        "huggingface_dir": str(DEMO / "huggingface"),
        "encodings_dir": None,
        "hf_token_file": None,
        "ulimits": {"memlock": 8388608},
        "engine": {"weight_transfer_config": {"backend": "nccl"}, "dtype": "bfloat16"},
    }
    model = catalogued("gpt-oss-20b-rollout")
    spec = merge(merge({"name": "rollout", **model["server"]}, model["hardware"]["cpu"]), said)
    spec = {key: value for key, value in spec.items() if value is not None and key != "venv"}
    wish = compose(spec, {"overrides": said}, {"gpus": []}, trainer()).venv
    venv = CACHE / "venvs" / asked({key: wish[key] for key in KEYS if key in wish}).name
    # Log-probabilities are counted by a function that torch compiles, and the image has no compiler.
    env = {"PYTHONPATH": f"{venv}/lib/python3.11/site-packages", "TORCHDYNAMO_DISABLE": "1"}
    return {**said, "volumes": [f"{CACHE / 'venvs'}:{CACHE / 'venvs'}:ro"], "env": env}


@pytest.fixture(scope="session")
def inventory() -> t.Iterator[Path]:
    path = CACHE / "hosts.json"
    CACHE.mkdir(parents=True, exist_ok=True)
    variables = {
        "ansible_connection": "local",
        "ansible_python_interpreter": str(BIN / "python"),
        "grpo_trainer": trainer(),
        "vllm_overrides": overrides(),
    }
    path.write_text(json.dumps({"cpu": {"hosts": {"this-host": variables}}}))
    yield path
    play(path, "playbooks/teardown.yml")
    if os.environ.get("GRPO_CLEAN"):
        play(path, "playbooks/deploy_grpo.yml", "-e", "grpo_trainer_state=absent")


def play(inventory: Path, *arguments: str, program: str = "ansible-playbook") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / program), "-i", str(inventory), *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def deploy(inventory: Path, *arguments: str) -> str:
    done = play(inventory, "playbooks/deploy_grpo.yml", *arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_both_are_set_up_and_the_server_is_found_fit(inventory: Path) -> None:
    said = deploy(inventory)
    assert f"TRL {TRL} and vLLM {VLLM}, server on the CPU, trainer on the CPU." in said
    assert "Check that TRL can train against the server" in said


def test_again_nothing_changes(inventory: Path) -> None:
    assert "changed=0" in deploy(inventory)


def test_the_environment_is_what_the_catalogue_and_the_host_come_to(inventory: Path) -> None:
    lines = (CACHE / "trainer/environment").read_text("utf-8").splitlines()[1:]
    assert lines == [
        "VLLM_SERVER_HOST=127.0.0.1",
        f"VLLM_SERVER_PORT={PORT}",
        "ATTN_IMPLEMENTATION=eager",
        "VLLM_HOST_IP=127.0.0.1",
    ]


def test_trls_client_finds_the_server_and_fetches_rollouts(inventory: Path) -> None:
    script = f". {CACHE}/trainer/profile.sh; exec python -W ignore {HERE}/client.py"
    plain = {"PATH": "/usr/bin:/bin", "HOME": str(CACHE), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(["sh", "-c", script], cwd=CACHE, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps(found, indent=1))
    assert {key: found[key] for key in ("trl", "vllm", "model", "world_size", "logprobs_mode")} == {
        "trl": TRL,
        "vllm": VLLM,
        "model": "gpt-oss-20b",
        "world_size": 1,
        "logprobs_mode": "processed_logprobs",
    }
    assert found["weight_transfer"] == {"backend": "nccl"}
    assert (found["prompts"], len(found["completions"]), found["chat"]) == (2, 4, 8)
    assert found["logprobs"] == found["completions"] and all(found["completions"])
    # As far as it goes without NCCL: TRL refuses to open the group, and an update without weights changes nothing.
    assert "needs a CUDA device" in found["init_communicator"]
    assert found["same_after_update"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(
            {"vllm_version": "0.30.0"}, f"it runs vLLM {VLLM}, and the trainer's environment holds 0.30.0", id="vLLM"
        ),
        pytest.param({"served_model_name": "other"}, "it serves gpt-oss-20b, not other: another server", id="model"),
        pytest.param({"url": "http://127.0.0.1:9"}, "/health does not answer 200 (connection refused", id="nobody"),
    ],
)
def test_the_check_says_what_is_missing(inventory: Path, arguments: dict[str, str], sentence: str) -> None:
    said = json.dumps({"url": URL, **arguments})
    done = play(inventory, "all", "-m", "gpufleet.vllm.grpo_check", "-a", said, program="ansible")
    assert done.returncode == 2
    assert sentence in done.stdout


def test_a_server_without_an_engine_for_weights_is_no_server_to_train_against(inventory: Path) -> None:
    """A real one: the role's own settings for a CPU have none, and only say so when weights are wanted."""
    changed = {**overrides(), "engine": {"dtype": "bfloat16"}}
    deploy(inventory, "-e", json.dumps({"vllm_overrides": changed}))
    done = play(inventory, "all", "-m", "gpufleet.vllm.grpo_check", "-a", json.dumps({"url": URL}), program="ansible")
    assert f"TRL cannot train against {URL}: it has no weight-transfer engine: set engine.weight_tr" in done.stdout


def test_a_server_whose_development_endpoints_are_closed(inventory: Path) -> None:
    """Deployed without the role, which refuses it."""
    said = overrides()
    closed = {**said, "env": {**said["env"], "VLLM_SERVER_DEV_MODE": None}}
    done = play(
        inventory,
        "playbooks/deploy.yml",
        "-e",
        "model=gpt-oss-20b-rollout",
        "-e",
        json.dumps({"vllm_overrides": closed}),
    )
    assert done.returncode == 0, done.stdout
    done = play(inventory, "all", "-m", "gpufleet.vllm.grpo_check", "-a", json.dumps({"url": URL}), program="ansible")
    assert "/server_info answers HTTP 404: its development endpoints are closed" in done.stdout
