# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What must not leave a host in a bug report, and what must stay readable in it."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._host.redaction import (
    HIDDEN,
    is_secret_name,
    redact,
    redact_value,
    secrets_in,
)
from hypothesis import given, strategies as st
from vllm_logs import LOGS, captured

CANARY = "canary8451abc"


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
    ],
)
def test_what_looks_like_a_secret_is_hidden(text: str) -> None:
    shown = redact(text)
    assert CANARY not in shown
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
    ],
)
def test_what_only_sounds_like_one_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("name", sorted(path.stem for path in LOGS.glob("*.log")))
def test_captured_logs_hold_no_secret_and_stay_as_they_are(name: str) -> None:
    text = captured(name)
    assert redact(text) == text


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
     ("tokenizer", False), ("api_key_file", False), ("port", False), ("num_tokens", False)],
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
