# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real vLLM serves three models of different families by their directory alone: what the collection chose, an answer
through the client of OpenAI, and a second run that changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing as t
from pathlib import Path

import openai
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tests/rig"))
from free_ports import free_ports  # noqa: E402

MODELS = ROOT / ".cache/directories/models"
# Nothing about the models: what this machine lacks (a compiler in the image, the right to lock memory), and where it writes.
OF_THE_MACHINE = {
    "engine": {"enforce_eager": True},
    "ulimits": {"memlock": 8388608},
    "huggingface_dir": str(ROOT / ".cache/directories/huggingface"),
    "hf_token_file": None,
}
ANSWERS = {"llama": "Hi there! Llama answers", "qwen3": "Good day! Qwen three speaks"}


@pytest.fixture(scope="module")
def port() -> t.Iterator[int]:
    yield free_ports()[0]
    gone = playbook("teardown")
    assert gone.returncode == 0, gone.stdout


def playbook(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [ROOT / ".venv/bin/ansible-playbook", f"playbooks/{name}.yml", "-i", "inventories/demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def deploy(model: str, port: int, *arguments: str) -> str:
    overrides = json.dumps({"vllm_overrides": {**OF_THE_MACHINE, "port": port}})
    done = playbook("deploy", "-e", f"model={MODELS / model}", "-e", overrides, *arguments)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize(
    ("model", "reasons"),
    [
        ("llama", ["max_model_len 4096: a CPU computes long requests for minutes.", "LlamaForCausalLM"]),
        ("qwen3", ["reasoning_parser qwen3: the model is one of Qwen3", "Qwen3ForCausalLM"]),
        ("bert", ["runner pooling: BertModel embeds, classifies or scores here."]),
    ],
)
def test_a_directory_is_enough(model: str, reasons: list[str], port: int) -> None:
    predicted = " ".join(deploy(model, port, "--check").split())
    assert [reason for reason in reasons if reason not in predicted] == [], predicted
    deploy(model, port)
    client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none needed")
    assert [served.id for served in client.models.list()] == [model]
    if model in ANSWERS:
        asked: t.Any = [{"role": "user", "content": "Who is there?"}]
        said = client.chat.completions.create(model=model, messages=asked, max_tokens=32).choices[0].message
        assert (said.content or getattr(said, "reasoning", "")).startswith(ANSWERS[model])
    else:
        vectors = [one.embedding for one in client.embeddings.create(model=model, input=["a cat", "a dog"]).data]
        assert [len(vector) for vector in vectors] == [128, 128]
        assert vectors[0] != vectors[1]
    assert "changed=0 " in deploy(model, port)
