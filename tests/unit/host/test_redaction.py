# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must not leave a host in a bug report, and what must stay readable in it."""

from __future__ import annotations

import json
import time
import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.redaction import (
    HIDDEN,
    hide,
    is_secret_name,
    redact,
    redact_value,
    secrets_among,
    secrets_in,
    secrets_within,
)
from hypothesis import given, strategies as st
from vllm_logs import LOGS, captured

CANARY = "canary8451abc"
CANARY_NUMBER = "84518451"


@pytest.mark.parametrize(
    "text",
    [
        f"HF_TOKEN={CANARY}",
        f"export HF_TOKEN='{CANARY}'",
        f'"AWS_SECRET_ACCESS_KEY": "{CANARY}"',
        f"WANDB_API_KEY: {CANARY}",
        f"db_password={CANARY} next",
        f"vllm serve m --api-key {CANARY} --port 1",
        f"vllm serve m --api-key={CANARY}",
        f"--hf-token '{CANARY}'",
        f"non-default args: {{'api_key': ['{CANARY}'], 'port': 1}}",
        f"non-default args: {{'api_key': '{CANARY}'}}",
        f"Namespace(api_key='{CANARY}', port=1)",
        f"Authorization: Bearer {CANARY}",
        f"https://user:{CANARY}@proxy:3128/",
        "token hf_abcdefghijklmnopqrstuvwx",
        "key sk-abcdefghijklmnopqrstuvwx",
        # Names that hold a harmless word as well, and other words for a secret.
        f"MINIMAX_API_KEY={CANARY}",
        f"NUM_SECRET={CANARY}",
        f"ENCODER_API_KEY={CANARY}",
        f"DB_PASSWORD_NUM={CANARY}",
        f"MAX_BOT_TOKEN={CANARY}",
        f"TOKENIZER_SECRET: {CANARY}",
        f"pwd={CANARY}",
        f"DB_PWD={CANARY}",
        f"PGPASS={CANARY}",
        f"SSH_PASSPHRASE={CANARY}",
        f"AWS_SESSION_TOKEN={CANARY}",
        f"AZURE_STORAGE_KEY={CANARY}",
        f"authToken: {CANARY}",
        f"x.y.token={CANARY}",
        f"{'long_' * 30}TOKEN={CANARY}",
        # Values that look like a path, a number, several words, or end in punctuation.
        f"AWS_SECRET_ACCESS_KEY=/{CANARY}",
        *(f"{name}={CANARY_NUMBER} next" for name in ("HF_TOKEN", "api_token", "password", "DB_PIN_PASSWORD")),
        f"HF_TOKEN=~{CANARY}",
        f"password='two words {CANARY}' next",
        f'Environment="DB_PASSWORD=two words {CANARY}"',
        f"Environment=DB_PASSWORD={CANARY}",
        f"a=b=HF_TOKEN={CANARY}",
        f"DB_PASSWORD=a,b&c;{CANARY}",
        f"Namespace(db_password=x){CANARY}, port=1)",
        f'{{"a": "{{\\"password\\": \\"x {CANARY}\\"}}"}}',
        f"'api_key': ['a', '{CANARY}']",
        f"token => {CANARY}",
        f"password = 'it\\'s {CANARY}'",
        f"password='never closed {CANARY}",
        # Flags.
        f"--api_key {CANARY}",
        f"--hf_token {CANARY}",
        f"--hf_token={CANARY}",
        f"--api-key first {CANARY} --port 1",
        f"'--api-key', 'first', '{CANARY}', '--port'",
        f"--db-password {CANARY}",
        f"--ssl-keyfile-password '{CANARY}'",
        # Headers.
        f"authorization: bearer {CANARY}",
        f"Authorization: Token {CANARY}",
        f"Authorization: {CANARY}",
        f"Proxy-Authorization: Basic {CANARY}",
        f"{{'authorization': 'Digest username=x, response={CANARY}'}}",
        f"(b'authorization', b'Token {CANARY}')",
        f"X-Auth: {CANARY}",
        f"X-Api-Key: {CANARY}",
        f"Cookie: a=b; session={CANARY}",
        f"set-cookie: id={CANARY}; Path=/",
        # Addresses.
        f"https://{CANARY}@host/x",
        f"https://user:pa/ss{CANARY}@host/x",
        f"https://user:p@{CANARY}@host/x",
        f"https_proxy=user:{CANARY}@proxy:3128",
        f"HTTPS_PROXY: 'user:{CANARY}@proxy:3128'",
        f"https://b.blob/x?sv=1&sig={CANARY}",
        f"https://b.s3/x?X-Amz-Signature={CANARY}&y=1",
        f"https://b/x?Signature={CANARY}",
        f"postgresql://u:{CANARY}@db/x",
        # Shapes.
        "github_pat_abcdefghijklmnopqrstuvwx",
        "glpat-abcdefghijklmnopqrstuvwx",
        "xoxb-abcdefghijklmnopqrstuvwx",
        "eyJhbGciOiJIUzI1NiJ9.abcdefghijklmnopqrstuvwx.c2ln",
        f"-----BEGIN RSA PRIVATE KEY-----\nMIIE{CANARY}\n{CANARY}\n-----END RSA PRIVATE KEY-----",
        f"-----BEGIN PRIVATE KEY-----\nMIIE{CANARY}\n",
        f"-----BEGIN OPENSSH PRIVATE KEY-----\\n{CANARY}\\n-----END OPENSSH PRIVATE KEY-----",
        f"MIIE{CANARY}\nabc=\n-----END PRIVATE KEY-----",
        f"default login mirror password {CANARY}",
        f"curl -u me:{CANARY} https://host",
        # Hidden by what a terminal obeys.
        "\x1b[32mhf_abcdefghijklmnopqrstuvwx\x1b[0m",
        "a\x1b[1msk-abcdefghijklmnopqrstuvwx",
        "sk-abcdefgh\x1b[0mijklmnopqrstuvwx",
        "hf_abcdefgh\x1b]0;title\x07ijklmnopqrstuvwx",
        f"HF_TO\x1b[0mKEN={CANARY}",
        f"HF_TOKEN\x1b[36m=\x1b[0m{CANARY}",
        f"HF_\x00TOKEN={CANARY}",
        # Behind what is spelled out of that, as in the repr of a text.
        r"'first\nhf_abcdefghijklmnopqrstuvwx'",
        r"'\x1b[32mhf_abcdefghijklmnopqrstuvwx\x1b[0m'",
        r'"\u001b[1;31msk-abcdefghijklmnopqrstuvwx"',
        r"printf '\033[0m\tglpat-abcdefghijklmnopqrstuvwx'",
        r"'a\neyJhbGciOiJIUzI1NiJ9.abcdefghijklmnopqrstuvwx.c2ln'",
        # What users asked.
        f"Received request c-1: prompt: 'who is {CANARY}?', params: x",
        f"prompt: \"it's {CANARY}",
        f"Generated response c-1 (streaming complete): output: 'I am {CANARY}', finish_reason: stop",
        f"response_body={{streaming_complete: content='I am {CANARY}', chunks=2}}",
        f'response_body={{{{"text": "{CANARY}"}}}}',
        f'Request c-1 JSON body: {{"prompt": "{CANARY}',
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    shown = redact(text)
    assert CANARY not in shown
    assert CANARY_NUMBER not in shown
    assert "abcdefghijklmnopqrstuvwx" not in shown
    assert HIDDEN in shown


@pytest.mark.parametrize(
    "text",
    [
        "'max_num_batched_tokens': 8192",
        "GPU KV cache size: 2,965,722 tokens",
        "tokenizer='/models/gpt-oss-20b', skip_tokenizer_init=False, tokenizer_mode=auto",
        "HF_TOKEN_PATH=/run/secrets/hf_token",
        "'api_key': None",
        "hf_token_file: /root/vllm/secrets/hf_token",
        "Avg generation throughput: 68.3 tokens/s",
        "prompt_token_ids=None, bos_token_id=199998",
        "TIKTOKEN_ENCODINGS_BASE=/etc/encodings",
        "http://127.0.0.1:8000/v1",
        "tokenizer_revision=None, trust_remote_code=False",
        "Process EngineCore:",
        "PWD=/workspace",
        "image_token_index=10, num_tokens: 5, time per token: 5 ms, eos_token='</s>'",
        "http://127.0.0.1:8000/v1 and mail@example.org, http_proxy=http://proxy:3128",
        "git+https://github.com/org/name@main, https://host/a@b",
        "nvcr.io/nvidia/vllm@sha256:0123",
        "--port 8000 --max-num-batched-tokens 8192 --tokenizer x",
        "_hf_hub_download_to_cache_dir( risk-free-and-very-long-word",
        "'hf_token': None, 'api_key': [], password: null",
        "turn_token='<turn>', sep_token: [SEP], a_token='<|user|>'",
        "basic configuration of the bearer",
    ],
)
def test_what_only_sounds_like_one_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("name", sorted(path.stem for path in LOGS.glob("*.log")))
def test_captured_logs_hold_no_secret_and_stay_as_they_are(name: str) -> None:
    text = captured(name)
    assert redact(text) == text


KIB = 1024
WORDS = ("a", "a.", "token", "TOKEN", "a-", "_", "api_key", "--a", "--api-key ", "'", '"TOKEN=', "TOKEN='", "=", "a=",
         "://", "://a@", "eyJ-", "SG.", "sk-", "?sig", "prompt: '", "\\", " ", "-----BEGIN PRIVATE KEY-----", "\x1b",
         "\x1b]", "\x1b[", "abcdefgh12345678\n", "[", "x: ", "bearer ", "Cookie:", "AAAA", "proxy=", "\x9d")  # fmt: skip


@pytest.mark.parametrize("word", WORDS)
def test_the_time_it_takes_grows_with_the_length(word: str) -> None:
    """A log may hold a line of any length; a server is down while it is read."""

    def seconds(size: int) -> float:
        text = (word * size)[:size]
        began = time.process_time()
        redact(text, ["canary"])
        return time.process_time() - began

    assert seconds(128 * KIB) < 0.6
    assert seconds(64 * KIB) < 0.6


@pytest.mark.parametrize(
    "argv",
    [
        ["--api-key", CANARY],
        ["vllm", "serve", "--api-key", "first", CANARY, "--port", "1"],
        ["--api_key", CANARY],
        ["--hf-token", CANARY],
        [f"--hf-token={CANARY}"],
        ["-e", f"DB_PASSWORD=two words {CANARY}"],
        ["sh", "-c", f"exec vllm serve m --api-key first {CANARY}"],
        ["--kv-transfer-config", json.dumps({"a": {"password": CANARY}})],
        ["--password", f"/{CANARY}"],
        ["--password", f"-{CANARY}"],
    ],
    ids=" ".join,
)
def test_the_words_of_a_command_are_read_as_pairs(argv: list[str]) -> None:
    shown = redact_value(argv)
    assert CANARY not in str(shown)
    assert [word for word in shown if word in argv] == [word for word in argv if CANARY not in word and word != "first"]
    found = secrets_among({}, argv)
    assert all(CANARY in word for word in found if word != "first")


def test_a_secret_of_the_environment_is_known_by_value() -> None:
    environment = {"MY_API_KEY": CANARY, "NCCL_DEBUG": "VERSION", "A_TOKEN": "none", "B_TOKEN": "abc"}
    environment["HTTPS_PROXY"] = "http://me:p-of-proxy@proxy:3128"
    words = ["--api-key", "other-key", "sh", "-c", "export HF_TOKEN='third-key'"]
    assert secrets_among(environment, words) == [CANARY, "p-of-proxy", "other-key", "third-key"]


@pytest.mark.parametrize(
    "value",
    [
        {"password": f"/{CANARY}"},
        {"pin_password": f"12 {CANARY}"},
        {"a": [{"name": "HF_TOKEN", "value": CANARY}]},
        {"config": {"secret": [CANARY, CANARY]}},
        {"https_proxy": f"u:{CANARY}@proxy:3128"},
        {"text": f'{{"password": "x {CANARY}"}}'},
    ],
    ids=str,
)
def test_no_secret_stays_in_a_structure(value: t.Any) -> None:
    assert CANARY not in json.dumps(redact_value(value))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"A_TOKEN": CANARY, "B": "x"}, [CANARY]),
        ({"HTTPS_PROXY": f"http://me:{CANARY}@proxy:3128"}, [CANARY]),
        ({"a": {"b": [{"password": CANARY}]}}, [CANARY]),
        ({"a": f'{{"password": "{CANARY}"}}'}, [CANARY]),
        ({"a": f"x --api-key {CANARY} --hf-token {CANARY}2"}, [CANARY, f"{CANARY}2"]),
        ({"port": 8000, "none": None, "A_TOKEN": "abc", "tokens": ["a-long-word"]}, []),
        ({"pin_password": 12345678}, ["12345678"]),
    ],
    ids=str,
)
def test_the_secrets_of_a_structure_are_found(value: t.Any, found: list[str]) -> None:
    assert secrets_within(value) == found
    assert CANARY not in str(hide({"msg": [f"a {CANARY} b", str(value)]}, [CANARY]))


def test_what_is_nested_too_deeply_is_hidden() -> None:
    value: t.Any = CANARY
    for _level in range(5000):
        value = {"password": [value]}
    assert redact_value(value) == HIDDEN
    assert secrets_within(value) == []


def test_a_secret_is_found_in_other_spellings() -> None:
    assert "s/e+cret" not in redact("x?k=s%2Fe%2Bcret-1", ["s/e+cret-1"])
    assert "cret-1" not in redact("x?k=s%2Fe%2Bcret-1", ["s/e+cret-1"])


def test_known_secrets_are_hidden_wherever_they_are() -> None:
    assert redact(f"x{CANARY}y and {CANARY[:4]}", [CANARY]) == f"x{HIDDEN}y and {CANARY[:4]}"


def test_a_short_secret_does_not_hide_half_of_the_log() -> None:
    assert redact("a log of all words", ["a", "all"]) == "a log of all words"


def test_a_longer_secret_is_hidden_before_its_part() -> None:
    assert redact("secretsecret2", ["secret", "secretsecret2"]) == HIDDEN


def test_a_structure_is_hidden_by_the_names_of_its_keys() -> None:
    spec: dict[str, t.Any] = {
        "env": {"MY_API_KEY": CANARY, "NCCL_DEBUG": "INFO", "LIST": [f"Bearer {CANARY}"]},
        "hf_token_file": "/root/hf_token",
        "engine": {"max_num_batched_tokens": "8192"},
        "port": 8000,
        "nothing": None,
    }
    assert redact_value(spec) == {
        "env": {"MY_API_KEY": HIDDEN, "NCCL_DEBUG": "INFO", "LIST": [f"Bearer {HIDDEN}"]},
        "hf_token_file": "/root/hf_token",
        "engine": {"max_num_batched_tokens": "8192"},
        "port": 8000,
        "nothing": None,
    }


@pytest.mark.parametrize(
    ("name", "secret"),
    [("HF_TOKEN", True), ("api_key", True), ("X-Api-Key", True), ("password", True), ("max_tokens", False),
     ("tokenizer", False), ("api_key_file", False), ("port", False), ("num_tokens", False),
     ("PASSWORD_FILE", False), ("TIKTOKEN_ENCODINGS_BASE", False), ("PWD", False), ("GOOGLE_APPLICATION_CREDENTIALS", False), ("AWS_SESSION_TOKEN", True),
     ("tokens_only", False), ("eos_token_id", False), ("password_file_secret", True), ("OPENAI_KEY", True)],
)  # fmt: skip
def test_secret_names(name: str, secret: bool) -> None:
    assert is_secret_name(name) is secret


def test_secret_files() -> None:
    assert secrets_in(f"{CANARY}\n") == [CANARY]
    assert secrets_in(f"# comment\nWANDB_API_KEY='{CANARY}'\nA=b\n") == [f"WANDB_API_KEY='{CANARY}'", CANARY]
    assert secrets_in("") == []


@given(st.text(max_size=500))
def test_no_text_raises(text: str) -> None:
    assert isinstance(redact(text, ["abcdef"]), str)
