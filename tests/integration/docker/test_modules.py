# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules as Ansible runs them, with a real Docker Engine: what is shown, and what is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import typing as t
from pathlib import Path

import pytest
import yaml
from engine_host import Host

# A module leaves its connection to the engine to the end of its process.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

ROOT = Path(__file__).parents[3]
PLAYBOOK = "ansible-playbook"
CANARY = "CANARY-7f3a9c"


def play(host: Host, directory: Path, *tasks: t.Any, options: t.Sequence[str] = (), **environment: str) -> str:
    """Run the tasks against this machine and return all that was shown."""
    (directory / "ansible.cfg").touch()
    playbook = directory / "play.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "localhost", "gather_facts": False, "tasks": list(tasks)}]))
    command = [
        str(Path(sys.executable).with_name(PLAYBOOK)),
        "-i",
        "localhost,",
        "-c",
        "local",
        *options,
        str(playbook),
    ]
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".ansible" / "collections"),
        "ANSIBLE_CONFIG": str(directory / "ansible.cfg"),
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_NOCOWS": "1",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
        **environment,
    }
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **settings})
    return f"{done.stdout}{done.stderr}rc={done.returncode}"


def deploy(host: Host, **said: t.Any) -> dict[str, t.Any]:
    return {"name": "Deploy", "gpufleet.vllm.vllm_container": {**host.said, **said}}


@pytest.fixture
def secrets(host: Host, tmp_path: Path) -> dict[str, t.Any]:
    (tmp_path / "env").write_text(f"THIRD={CANARY}-env\n")
    (tmp_path / "env").chmod(0o600)
    return {
        "hf_token_file": f"{tmp_path}/token",
        "hf_token": "{{ lookup('ansible.builtin.env', 'UNIT_TOKEN') }}",
        "api_key_file": f"{tmp_path}/key",
        "api_key": "{{ lookup('ansible.builtin.env', 'UNIT_KEY') }}",
        "env_file": f"{tmp_path}/env",
    }


def test_no_secret_is_shown_anywhere(host: Host, secrets: dict[str, t.Any], tmp_path: Path) -> None:
    loud = ("-vvvv", "--diff")
    first = {"UNIT_TOKEN": f"{CANARY}-token", "UNIT_KEY": f"{CANARY}-long-api-key"}
    rotated = {"UNIT_TOKEN": f"{CANARY}-other-token", "UNIT_KEY": f"{CANARY}-other-long-api-key"}
    for options in ((*loud, "--check"), loud):
        for environment in (first, rotated):
            shown = play(host, tmp_path, deploy(host, **secrets), options=options, **environment)
            assert shown.endswith("rc=0") and "changed=1" in shown
            assert CANARY not in shown
    # The server itself was told.
    assert (tmp_path / "key").read_text() == f"{CANARY}-other-long-api-key\n"
    pid = host.inspect()["State"]["Pid"]
    environ = Path(f"/proc/{pid}/environ").read_bytes() if os.geteuid() == 0 else b"key env"
    assert b"key" in environ and b"env" in environ
    for name in host.containers():
        assert CANARY not in json.dumps(host.engine.inspect_container(name))
        assert CANARY not in host.engine.logs(name).decode()
    assert CANARY not in subprocess.run(["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    shown = play(host, tmp_path, deploy(host, state="absent"), options=loud)
    assert shown.endswith("rc=0") and CANARY not in shown
    assert {path.name for path in tmp_path.iterdir()} >= {"env", "play.yml"}
    assert not (tmp_path / "key").exists() and not (tmp_path / "token").exists()


def test_a_failure_shows_no_secret_and_no_traceback(host: Host, secrets: dict[str, t.Any], tmp_path: Path) -> None:
    environment = {"UNIT_TOKEN": f"{CANARY}-token", "UNIT_KEY": f"{CANARY}-long-api-key"}
    said = {**secrets, "gpus": ["GPU-00000000-0000-0000-0000-000000000000"], "fit": "off"}
    shown = play(host, tmp_path, deploy(host, **said), options=("-vvvv", "--diff"), **environment)
    assert shown.endswith("rc=2") and "Docker says: " in shown
    assert CANARY not in shown
    assert "Traceback" not in shown


def test_the_difference_is_shown(host: Host, tmp_path: Path) -> None:
    shown = play(host, tmp_path, deploy(host), options=("--check", "--diff"))
    assert '+    "state": "started"' in shown and '-    "state": "absent"' in shown
    play(host, tmp_path, deploy(host))
    shown = play(host, tmp_path, deploy(host, env={"A": "b"}), options=("--check", "--diff"))
    assert '+        "A": "b"' in shown and "state" not in shown.split("+++")[1].split("changed:")[0].replace(
        '"state": "started"', ""
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"state": "absent", "container_name": None, "name": None}, "name is missing: say which server by name or"),
        ({"modle": "m"}, "module: modle. Supported parameters include: all, allow_unauthenticated,"),
        ({"model": None}, "state is started but all of the following are missing: model"),
        ({"network_mode": "none"}, "value of network_mode must be one of: bridge, host, got: none"),
        ({"hf_token": "x"}, "missing parameter(s) required by 'hf_token': hf_token_file"),
        ({"port": "eight"}, "argument 'port' is of type"),
        ({"engine": {"model": "m"}}, "engine.model: set the server's model instead"),
    ],
)
def test_bad_input_is_a_sentence(
    said: dict[str, t.Any], message: str, host: Host, run_module: t.Callable[..., t.Any]
) -> None:
    arguments = {key: value for key, value in {**host.said, **said}.items() if value is not None}
    result, status = run_module("vllm_container", arguments)
    assert (status, result["failed"]) == (1, True)
    assert message in result["msg"]


# --- an engine that cannot be used ----------------------------------------------------------------------------------


def test_an_engine_that_is_not_there_is_told(host: Host, run_module: t.Callable[..., t.Any], tmp_path: Path) -> None:
    address = f"unix://{tmp_path}/none.sock"
    result, status = run_module("vllm_container", {**host.said, "docker_host": address})
    assert status == 1
    assert result["msg"].startswith(f"Cannot talk to the Docker Engine at {address}: it is not ")


def test_a_container_that_exits_at_once_is_told_with_its_log(
    host: Host, run_module: t.Callable[..., t.Any], tmp_path: Path
) -> None:
    host.run(env={"first": "echo RuntimeError: no luck; exit 3"}, restart_policy="no")
    began = time.monotonic()
    said = {"url": f"http://127.0.0.1:{host.said['port']}", "container": host.name, "timeout": 600}
    result, status = run_module("vllm_health", said)
    assert time.monotonic() - began < 60
    assert (status, result["failed"], result["healthy"], result["phase"]) == (1, True, False, "exited")
    assert f"Container {host.name} had exited with status 3 before the wait began." in result["msg"]
    assert "RuntimeError: no luck" in result["msg"]
