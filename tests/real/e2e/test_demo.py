# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The demo from its first command to its teardown, in order: each test stands on the one before."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import subprocess
import time
import typing as t
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
BIN = ROOT / ".venv" / "bin"
CACHE = ROOT / ".cache" / "demo"
PLAYBOOK = "playbooks/deploy_gptoss.yml"
OURS = ["docker", "ps", "--all", "--quiet", "--filter", "label=gpufleet.vllm.fingerprint"]
NAMES = [*OURS[:3], "--format", "{{.Names}}", *OURS[4:]]
CACHES = ["docker", "volume", "ls", "--quiet", "--filter", "label=gpufleet.vllm.cache"]


def run(
    *command: t.Any, env: dict[str, str] | None = None, cwd: pathlib.Path = ROOT
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1", **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def playbook(name: str, *arguments: t.Any, **options: t.Any) -> subprocess.CompletedProcess[str]:
    return run(BIN / "ansible-playbook", name, "-i", ROOT / "inventories/demo", *arguments, **options)


def overridden(change: dict[str, t.Any]) -> list[str]:
    """The demo's own settings with a change, as arguments of ansible-playbook."""
    known = json.loads(run(BIN / "ansible-inventory", "-i", "inventories/demo", "--host", "demo").stdout)
    return ["-e", json.dumps({"vllm_overrides": {**known["vllm_overrides"], **change}})]


def ours() -> list[str]:
    return run(*OURS).stdout.split()


def served() -> list[str]:
    with urllib.request.urlopen(os.environ["VLLM_BASE_URL"] + "/models", timeout=10) as reply:
        return [model["id"] for model in json.load(reply)["data"]]


def deployed() -> list[str]:
    """The names of the servers' containers, whatever their state."""
    return sorted(name for name in run(*NAMES).stdout.split() if name.startswith("vllm-"))


def says(model: str) -> str:
    """What the server answers to a client of OpenAI's."""
    import openai

    client = openai.OpenAI(base_url=os.environ["VLLM_BASE_URL"], api_key="none needed")
    asked = [{"role": "user", "content": "Who is there?"}]
    answer = client.chat.completions.create(model=model, messages=asked, max_tokens=32).choices[0].message
    return str(answer.content or getattr(answer, "reasoning", None))


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="session")
def models() -> pathlib.Path:
    """A folder with a small model of another architecture, qwen, and one whose engine dies of a completion, dying."""
    written = run("tests/real/models")
    assert written.returncode == 0, written.stdout
    return ROOT / ".cache" / "e2e" / "models"


def test_demo_deploys_and_shows_an_answer() -> None:
    shown = run("tools/demo/run")
    assert shown.returncode == 0, shown.stdout
    for line in ("Endpoint   ", "Answer     ", "curl http://", "make demo-stop"):
        assert line in shown.stdout
    answer = next(line for line in shown.stdout.splitlines() if line.strip().startswith("Answer"))
    assert answer.split(maxsplit=1)[1].startswith("Hello from vLLM!")


@pytest.mark.parametrize("streaming", [False, True])
def test_openai_client_gets_an_answer(streaming: bool) -> None:
    import openai

    client = openai.OpenAI(base_url=os.environ["VLLM_BASE_URL"], api_key="none needed")
    assert [model.id for model in client.models.list()] == ["gpt-oss-demo"]
    reply = client.chat.completions.create(
        model="gpt-oss-demo",
        messages=[{"role": "user", "content": "What are you?"}],
        max_tokens=32,
        stream=streaming,
    )
    pieces = [chunk.choices[0].delta for chunk in reply if chunk.choices] if streaming else [reply.choices[0].message]
    text = "".join((piece.content or "") + (getattr(piece, "reasoning", None) or "") for piece in pieces)
    assert text.startswith("Hello from vLLM!")


def test_check_mode_on_the_running_server_predicts_nothing() -> None:
    predicted = playbook(PLAYBOOK, "--check", "--diff")
    assert predicted.returncode == 0, predicted.stdout
    assert "changed=0 " in predicted.stdout


def test_second_demo_changes_nothing_and_says_so() -> None:
    before = ours()
    again = run("tools/demo/run")
    assert again.returncode == 0, again.stdout
    assert "changed=0 " in again.stdout
    assert "Nothing was changed" in again.stdout
    assert ours() == before


def test_installed_collection_does_the_same_by_name(tmp_path: pathlib.Path) -> None:
    built = run(BIN / "ansible-galaxy", "collection", "build", "--output-path", tmp_path)
    assert built.returncode == 0, built.stdout
    (artifact,) = tmp_path.glob("gpufleet-vllm-*.tar.gz")
    collections = tmp_path / "collections"
    # From another directory, so that neither the clone nor its ansible.cfg is seen.
    elsewhere = {"env": {"ANSIBLE_COLLECTIONS_PATH": str(collections)}, "cwd": tmp_path}
    installed = run(BIN / "ansible-galaxy", "collection", "install", artifact, "-p", collections, **elsewhere)
    assert installed.returncode == 0, installed.stdout
    deployed = playbook("gpufleet.vllm.deploy_gptoss", "-l", "cpu", **elsewhere)
    assert deployed.returncode == 0, deployed.stdout
    assert "changed=0 " in deployed.stdout


@pytest.mark.parametrize(
    "mistake, told",
    [
        ({"engine": {"no_such_flag": 1}}, "no_such_flag"),
        ({"modle": "x"}, "modle"),
        ({"model": "/nowhere"}, "/nowhere does not exist on the host"),
        ({"image": "gpufleet/no-such-image:1", "pull": "never"}, "is not on the host"),
        ({"bind": "0.0.0.0"}, "without a key"),
    ],
    ids=["unknown flag", "misspelt key", "no model", "no image", "exposed without a key"],
)
def test_a_mistake_is_told_at_once_and_the_server_goes_on(mistake: dict[str, t.Any], told: str) -> None:
    before = ours()
    failed = playbook(PLAYBOOK, *overridden(mistake))
    assert failed.returncode != 0
    assert told in failed.stdout
    assert "Traceback" not in failed.stdout
    assert ours() == before
    assert served() == ["gpt-oss-demo"]


def test_a_wrong_flag_is_told_within_seconds_by_the_version_that_runs() -> None:
    """vLLM itself would tell it after the old server was stopped, and some twenty seconds of imports."""
    before, start = ours(), time.monotonic()
    failed = playbook(PLAYBOOK, *overridden({"engine": {"attn_impl": "flash", "kv_cache_dtype": "bf16"}}))
    assert time.monotonic() - start < 5
    assert failed.returncode != 0
    assert "engine.attn_impl: vLLM 0.32.0 has no --attn-impl (it never had)" in failed.stdout
    assert "engine.kv_cache_dtype: 'bf16' is not a valid value; write bfloat16." in failed.stdout
    assert ours() == before
    assert served() == ["gpt-oss-demo"]


def test_a_switch_that_fails_ends_with_the_old_server_answering() -> None:
    # vLLM itself refuses this, after its imports: the old server is stopped by then.
    failed = playbook(PLAYBOOK, *overridden({"engine": {"max_model_len": 10_000_000, "enforce_eager": True}}))
    assert failed.returncode != 0
    assert "The previous server gpt-oss-demo is serving again at http://127.0.0.1:" in failed.stdout
    assert "max_model_len" in failed.stdout
    assert served() == ["gpt-oss-demo"]
    assert len(ours()) == 1
    again = playbook(PLAYBOOK)
    assert "changed=0 " in again.stdout, again.stdout


def test_a_switch_to_another_model_leaves_that_one_alone_on_the_port(models: pathlib.Path) -> None:
    qwen = {"model": str(models / "qwen"), "served_model_name": "qwen-demo", "encodings_dir": None}
    switched = playbook("playbooks/deploy.yml", "-e", "model=qwen2.5-0.5b-instruct", *overridden(qwen))
    assert switched.returncode == 0, switched.stdout
    assert "qwen-demo answers at http://127.0.0.1:" in switched.stdout
    assert says("qwen-demo").startswith("Greetings! You reached Qwen")
    assert served() == ["qwen-demo"]
    assert deployed() == ["vllm-qwen"]


def test_the_switch_back_brings_the_first_model_again() -> None:
    switched = playbook(PLAYBOOK)
    assert switched.returncode == 0, switched.stdout
    assert says("gpt-oss-demo").startswith("Hello from vLLM!")
    assert served() == ["gpt-oss-demo"]
    assert deployed() == ["vllm-gpt-oss"]


def test_a_switch_to_a_model_that_dies_names_the_cause_and_ends_with_the_first_one(models: pathlib.Path) -> None:
    """vLLM starts it and calls it healthy: only the completion shows that its engine cannot compute."""
    dying = {
        "name": "dying",
        "container_name": "vllm-dying",
        "model": str(models / "dying"),
        "served_model_name": "dying",
    }
    failed = playbook(PLAYBOOK, *overridden(dying))
    assert failed.returncode != 0
    assert "vllm-dying is not healthy. The previous server gpt-oss-demo is serving again at http://" in failed.stdout
    assert "The engine died while it served" in failed.stdout
    assert "Unsupported CPU attention configuration: head_dim=16" in failed.stdout
    assert says("gpt-oss-demo").startswith("Hello from vLLM!")
    assert served() == ["gpt-oss-demo"]
    assert deployed() == ["vllm-gpt-oss"]


def test_teardown_leaves_nothing_but_the_users_files() -> None:
    # This vLLM has its encodings built in, so the host got none; the source they would come from is the user's too.
    kept = [*(CACHE / "encodings-source").glob("*.tiktoken"), CACHE / "model" / "config.json"]
    assert len(kept) == 3
    before = [digest(path) for path in kept]
    stopped = run("tools/demo/stop")
    assert stopped.returncode == 0, stopped.stdout
    assert ours() == []
    assert run(*CACHES).stdout.split() == []
    assert [digest(path) for path in kept] == before
    again = run("tools/demo/stop")
    assert again.returncode == 0
    assert "changed=0 " in again.stdout
