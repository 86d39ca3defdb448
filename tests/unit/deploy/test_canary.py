# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A canary in every place a secret can be, of every shape a secret can have, is looked for in everything that comes out."""

from __future__ import annotations

import json
import typing as t
import urllib.parse
from pathlib import Path

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.reader import Identity
from ansible_collections.gpufleet.vllm.plugins.module_utils._docker.source import ContainerSource
from ansible_collections.gpufleet.vllm.plugins.module_utils._errors import VllmError
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.report import examine
from docker_model import Client, FailsOnce, manage, run, warnings
from switches import SWITCH, run_b

# What a secret can look like.
SHAPES = {
    "word": "canary8451-word-of-a-key",
    "hub": "hf_canary8451abcdefghijklmn",
    "openai": "sk-canary8451-abcdefghijklmn",
    "slash": "/canary8451/abcdef+base64==",
    "home": "~canary8451~abcdefghijkl",
    "digits": "8451884518845188451",
    "punctuation": "canary8451,a;b&c)d]e}f=g:h",
    "percent": "canary8451%41?x#y@z/end",
    "web token": "eyJhbGciOiJIUzI1NiJ9.eyJjYW5hcnki8451.c2lnbmF0dXJl",
    "github": "github_pat_canary8451abcdefghijk",
    "gitlab": "glpat-canary8451abcdefgh",
    "slack": "xoxb-canary8451-abcdefgh",
}
secret_of = pytest.mark.parametrize("secret", SHAPES.values(), ids=SHAPES)


def leaked(secret: str, *sinks: t.Any) -> bool:
    """Whether the secret, or most of it, is in one of these, however that writes it."""
    texts = [str(sinks), json.dumps(sinks, default=str), json.dumps(sinks, default=str, ensure_ascii=False)]
    return any(part in text for text in texts for part in (secret, secret[:12], secret[-12:]))


def given(path: Path, secret: str) -> dict[str, t.Any]:
    """A server that is handed every secret, and reads an env file."""
    path.mkdir(exist_ok=True)
    (path / "env").write_text(f"OTHER={secret}\nWANDB_API_KEY={secret}\n")
    (path / "env").chmod(0o600)
    secrets = {"hf_token_file": str(path / "token"), "hf_token": secret, "api_key_file": str(path / "key")}
    return {**secrets, "api_key": secret, "env_file": str(path / "env"), "engine": {"max_model_len": 1}}


@secret_of
def test_a_secret_that_is_handed_over_comes_out_nowhere(secret: str, client: Client, tmp_path: Path) -> None:
    warnings.clear()
    said = given(tmp_path / "secrets", secret)
    found = [run_b(), run(True, **said), run(**said), run(**said)]
    found += [manage(True, state="committed"), manage(state="committed")]
    found += [run(**{**said, "api_key": f"{secret}-2"}), manage(state="reverted"), manage(state="absent")]
    # What came back, with diff and commands; what the engine knows; what was warned of.
    assert not leaked(secret, found, client.containers_by_name, client.volumes_by_name, client.calls, warnings)


@secret_of
@pytest.mark.parametrize("failing", SWITCH, ids=" ".join)
def test_a_run_that_fails_does_not_tell_one(
    secret: str, failing: tuple[str, str], fragile: FailsOnce, tmp_path: Path
) -> None:
    run_b()
    fragile.failing = failing
    with pytest.raises(VllmError) as caught:
        run(**given(tmp_path / "secrets", secret))
    assert not leaked(secret, str(caught.value))


REFUSED: dict[str, t.Callable[[str], dict[str, t.Any]]] = {
    "variable": lambda secret: {"env": {"WANDB_API_KEY": secret}},
    "variable with a harmless word": lambda secret: {"env": {"MINIMAX_API_KEY": secret}},
    "password of a proxy": lambda secret: {"env": {"HTTPS_PROXY": f"http://me:{secret}@proxy:3128"}},
    "proxy without a scheme": lambda secret: {"env": {"https_proxy": f"me:{secret}@proxy:3128"}},
    "mapping in a variable": lambda secret: {"env": {"CONFIG": {"password": secret}}},
    "flag": lambda secret: {"engine": {"api_key": secret}},
    "flag cut short": lambda secret: {"engine": {"api_ke": secret}},
    "nested setting": lambda secret: {"engine": {"kv_transfer_config": {"a": [{"password": secret}]}}},
    "JSON": lambda secret: {"engine": {"kv_transfer_config": json.dumps({"password": secret})}},
    "address in a setting": lambda secret: {"engine": {"kv_transfer_config": {"url": f"redis://:{secret}@host/1"}}},
    "unchecked flag": lambda secret: {"engine_unchecked": {"store_password": secret}},
    "address in a label": lambda secret: {"labels": {"proxy": f"http://me:{secret}@proxy:3128"}},
    "fallback": lambda secret: {"fallbacks": [{"causes": ["x"], "change": {"env": {"A_TOKEN": secret}}}]},
    "list for a mapping": lambda secret: {"env": [f"HF_TOKEN={secret}"]},
    "text for a mapping": lambda secret: {"env": f"HF_TOKEN={secret}"},
}


@secret_of
@pytest.mark.parametrize("place", REFUSED)
def test_a_secret_where_the_engine_would_show_it_is_refused_and_not_told(
    secret: str, place: str, client: Client
) -> None:
    with pytest.raises(VllmError) as caught:
        run(**REFUSED[place](secret))
    assert not leaked(secret, str(caught.value))
    assert client.containers_by_name == {}


LINES: dict[str, t.Callable[[str], str]] = {
    "bare": lambda secret: f"loading with {secret} now",
    "coloured": lambda secret: f"\x1b[32m{secret}\x1b[0m",
    "coloured within": lambda secret: f"{secret[:9]}\x1b[1m{secret[9:]}\x1b[0m",
    "arguments": lambda secret: f"non-default args: {{'api_key': ['first', '{secret}'], 'port': 1}}",
    "header": lambda secret: f"authorization: Token {secret}",
    "address": lambda secret: f"GET https://me:{secret}@host/x",
    "signed": lambda secret: f"403 for https://host/x?sig={secret}",
    "error": lambda secret: f"ERROR 11-21 00:00:00 x.py:1] ValueError: cannot use {secret}",
    "long": lambda secret: f"{'x' * 590} {secret} {'y' * 590}",
    "progress": lambda secret: f"10%\r{secret}\rdone",
}


class Engine:
    """A container that was started by hand, with its secrets where they do not belong."""

    is_local = False

    def __init__(self, secret: str, line: str) -> None:
        self.line = line
        self.inspected: dict[str, t.Any] = {
            "State": {"Running": False, "ExitCode": 1, "Status": "exited", "Error": f"cannot set HF_TOKEN={secret}"},
            "Image": "sha256:1",
            "Config": {
                "Image": "vllm:1",
                "Env": [f"MINIMAX_API_KEY={secret}", f"https_proxy=me:{secret}@proxy:3128", "NCCL_DEBUG=INFO"],
                "Entrypoint": ["sh", "-c", f"export HF_TOKEN='{secret}'; exec \"$@\""],
                "Cmd": ["vllm", "serve", "m", "--api-key", "first", secret, "--port", "1", f"--db-password={secret}"],
                "Labels": {"gpufleet.vllm.spec": json.dumps({"env": {"A_TOKEN": secret}, "port": 8000})},
            },
            "HostConfig": {},
        }

    def identity(self) -> Identity:
        return Identity()

    def container(self, name: str) -> dict[str, t.Any]:
        return self.inspected

    def logs(self, name: str, lines: int, tty: bool) -> bytes:
        return f"2026-11-21T08:00:00.0Z {self.line}\n".encode()

    def version(self) -> str:
        return "27.0"


@secret_of
@pytest.mark.parametrize("form", LINES)
def test_a_diagnosis_tells_none_of_a_container_that_was_started_by_hand(secret: str, form: str) -> None:
    engine = Engine(secret, LINES[form](secret))
    found = examine(ContainerSource("c", t.cast(t.Any, engine)), {}, 60)
    assert not leaked(secret, found)
    assert found["server"]["environment"]["NCCL_DEBUG"] == "INFO"
    assert found["server"]["spec"]["port"] == 8000
    assert "--port" in found["server"]["command"]


@secret_of
@pytest.mark.parametrize("line", ["Cannot read https://me:{0}@host/x", "403 Client Error for https://host/x?sig={1}"])
def test_a_download_that_fails_tells_none(secret: str, line: str, client: Client, tmp_path: Path) -> None:
    run_b()
    client.fetch_status = 1
    client.log = f"\x1b[31mFetching\n{line.format(secret, urllib.parse.quote(secret, safe=''))}\n"
    with pytest.raises(VllmError) as caught:
        run(huggingface_dir=str(tmp_path / "hf"))
    assert not leaked(secret, str(caught.value))


@pytest.mark.parametrize("place", ["variable", "password of a proxy", "nested setting", "JSON", "fallback"])
@pytest.mark.parametrize(
    ("module", "made_from"), [("vllm_container", {"image": "i:1"}), ("vllm_service", {"venv": "/venv"})]
)
def test_a_module_that_refuses_a_secret_does_not_repeat_its_parameters(
    module: str, made_from: dict[str, str], place: str, run_module: t.Any
) -> None:
    """Ansible prints what a module was called with at -vvv."""
    secret = SHAPES["word"]
    done = run_module(module, {"name": "a", "model": "m", **made_from, **REFUSED[place](secret)})
    assert done.status == 1 and "a secret in " in done.result["msg"]
    assert "invocation" in done.result
    assert not leaked(secret, done.result)
