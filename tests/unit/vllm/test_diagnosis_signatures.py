# Copyright (c) 2026, gpufleet contributors
# GNU General Public License v3.0 or later (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every signature: what is made of the lines of failure_lines*.py, and of those that only look like them."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import failure_lines
import failure_lines_kinds
import failure_lines_more
import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils._health.watch import ALARM
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.diagnosis import diagnose
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.failures import BY_ID, SIGNATURES
from ansible_collections.gpufleet.vllm.plugins.module_utils._vllm.signature import Found, say

INFO = "INFO 11-21 10:00:00 [x.py:1] "
SAMPLES = {**failure_lines.SAMPLES, **failure_lines_more.SAMPLES, **failure_lines_kinds.SAMPLES}
LOOK_ALIKES = {**failure_lines.LOOK_ALIKES, **failure_lines_more.LOOK_ALIKES, **failure_lines_kinds.LOOK_ALIKES}

ALL = [(id, version, line) for id, lines in SAMPLES.items() for version, line in lines]


@pytest.mark.parametrize(("id", "version", "line"), ALL, ids=[f"{id}, {version}" for id, version, line in ALL])
def test_sample_is_recognized(id: str, version: str, line: str) -> None:
    found = diagnose(line)
    if BY_ID[id].kind == "warn":
        assert (found.id, found.symptoms) == ("none", (id,))
    else:
        assert (found.id, found.symptoms) == (id, ())
        assert found.evidence
        assert found.retryable == BY_ID[id].retryable


@pytest.mark.parametrize(("id", "version", "line"), ALL, ids=[f"{id}, {version}" for id, version, line in ALL])
def test_sentences_are_whole(id: str, version: str, line: str) -> None:
    """Cause and remedy are sentences without holes: no braces, no question mark of a group that was not there."""
    found = diagnose(line)
    texts = [found.cause] if BY_ID[id].kind == "warn" else [found.cause, found.remedy]
    for text in texts:
        assert text[:1].isupper() or text[:1].isdigit() or text.startswith(("/", "--", "libcu")), text
        assert text.endswith((".", ".)")), text
        holes = r"\?|\bNone\b|  |\.\." if "{" in line else r"[{}]|\?|\bNone\b|  |\.\."
        assert not re.search(holes, text), text


@pytest.mark.parametrize("id", LOOK_ALIKES)
def test_look_alike_is_not_recognized(id: str) -> None:
    found = diagnose(LOOK_ALIKES[id])
    assert found.id != id
    assert id not in found.symptoms


def test_every_signature_has_samples_and_a_look_alike() -> None:
    ids = [signature.id for signature in SIGNATURES]
    assert len(ids) == len(set(ids))
    assert set(SAMPLES) == set(LOOK_ALIKES) == set(ids)


@pytest.mark.parametrize("signature", SIGNATURES, ids=lambda signature: signature.id)
def test_each_match_holds_a_literal(signature: t.Any) -> None:
    """The quick search for literals must not hide what the pattern would find."""
    for version, line in SAMPLES[signature.id]:
        assert any(literal in line for literal in signature.literals.split("|")), version


TROUBLE = [
    row for row in ALL if BY_ID[row[0]].kind == "root" or BY_ID[row[0]].kind == "symptom" and BY_ID[row[0]].final
]


@pytest.mark.parametrize(("id", "version", "line"), TROUBLE, ids=[f"{id}, {version}" for id, version, line in TROUBLE])
def test_the_watch_takes_notice_of_every_line_of_the_table(id: str, version: str, line: str) -> None:
    """Of what nobody takes notice, a wait learns when its patience ends."""
    assert any(ALARM.search(text) for text in line.split("\n"))


def test_notes_say_something_too() -> None:
    notes = [signature for signature in SIGNATURES if signature.kind == "warn"]
    assert all(isinstance(note.cause, str) and isinstance(note.remedy, str) for note in notes)


# --- the table in the documentation -----------------------------------------------------------------------------------

KINDS = {"root": "cause", "symptom": "symptom", "warn": "note"}
RETRY = {True: "yes", False: "no", None: "not known"}
DOCUMENT = Path(__file__).parents[3] / "docs" / "diagnosis.md"


def documented() -> list[str]:
    """The rows of the table, each with what is said of the first sample."""
    rows = []
    for signature in SIGNATURES:
        line = SAMPLES[signature.id][0][1]
        cause = (
            diagnose(line).cause if signature.kind != "warn" else say(signature.cause, Found({"env": "VLLM_USE_V1"}))
        )
        cells = [f"`{signature.id}`", KINDS[signature.kind], cause.replace("|", "\\|"), RETRY[signature.retryable]]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def test_the_documentation_lists_every_id_and_what_is_said() -> None:
    lines = DOCUMENT.read_text("utf-8").splitlines()
    first = lines.index("|---|---|---|---|") + 1
    assert lines[first : first + len(SIGNATURES)] == documented()
    assert not lines[first + len(SIGNATURES)].startswith("|")


# --- numbers in the remedy -------------------------------------------------------------------------------------------

A100S: dict[str, t.Any] = {
    "memory_kind": "dedicated",
    "gpus": [
        {
            "index": 0,
            "uuid": "GPU-aaaa",
            "memory_free_mib": 62.4 * 1024,
            "processes": [
                {"pid": 4711, "user": "1004", "used_memory_mib": 60 * 1024, "container": None, "managed": False},
                {"pid": 12, "user": "eve", "used_memory_mib": 2048, "container": "jupyter", "managed": False},
                {"pid": 13, "user": None, "used_memory_mib": None, "container": None, "managed": None},
            ],
        },
        {"index": 1, "uuid": "GPU-bbbb", "memory_free_mib": 139.0 * 1024, "processes": []},
    ],
}
HELD = (
    "ValueError: Free memory on device cuda:0 (62.37/139.8 GiB) on startup is less than desired GPU memory utilization "
    "(0.85, 118.83 GiB)."
)
ARGS = "(APIServer pid=1) INFO 11-21 10:00:00 [u.py:1] non-default args: {'port': 8105, 'max_model_len': 32768, "
SETTINGS = ARGS + "'gpu_memory_utilization': 0.9, 'max_num_batched_tokens': 8192}\n"


@pytest.mark.parametrize(
    ("why", "text", "facts", "said"),
    [
        (
            "free, wanted, lowered to",
            HELD,
            {},
            ["62.37 of 139.8 GiB free, 118.83 wanted", "gpu_memory_utilization to 0.44"],
        ),
        ("the holder by number and user", HELD, A100S, ["PID 4711 (uid 1004) holds 60.0 GiB"]),
        ("a holder in a container", HELD, A100S, ["PID 12 (container jupyter) holds 2.0 GiB"]),
        ("a GPU that would do", HELD, A100S, ["GPU 1 (GPU-bbbb) has 139.0 GiB free"]),
        ("nothing to lower to", HELD.replace("62.37", "3.10"), {}, ["wanted: free the GPU"]),
        ("unified memory", HELD.replace("139.8", "121.7"), {}, ["page cache"]),
        ("unified memory by facts", HELD, {"memory_kind": "unified", "gpus": []}, ["page cache"]),
        ("facts of another shape", HELD, {"gpus": None}, ["to 0.44"]),
        ("vLLM's estimate", SAMPLES["mem-kv-too-small"][0][1], {}, ["max_model_len to 5632 or less"]),
        ("no estimate", SAMPLES["mem-kv-too-small"][2][1], {}, ["max_model_len to about 8192"]),
        ("the setting it had", SETTINGS + SAMPLES["mem-kv-too-small"][0][1], {}, ["gpu_memory_utilization from 0.9"]),
        (
            "what is missing",
            f"{SETTINGS}{INFO}Available KV cache memory: -2.14 GiB\n{SAMPLES['mem-no-cache-blocks'][0][1]}",
            {},
            ["2.14 GiB are missing", "max_num_batched_tokens from 8192"],
        ),
        ("tokens of the cache", SAMPLES["mem-kv-too-small-v0"][0][1], {}, ["max_model_len to 23648"]),
        ("GPUs there are", SAMPLES["world-size"][0][1], {}, ["to 2 or less"]),
        ("GPUs there are, worker", SAMPLES["local-world-size"][0][1], {}, ["to 8 or less"]),
        ("divisors", SAMPLES["heads-not-divisible"][0][1], {}, ["one of 1, 2, 3, 4, 6"]),
        ("the port of uvicorn", SAMPLES["port-in-use"][1][1], {}, ["sport = :8000"]),
        ("the port of the settings", SETTINGS + SAMPLES["port-in-use"][0][1], {}, ["sport = :8105"]),
        ("the path that is full", SAMPLES["disk-full"][1][1], {}, ["/root/.cache/huggingface/x.incomplete is on it"]),
        (
            "two old flags",
            SAMPLES["args-unrecognized"][1][1],
            {},
            [
                "--swap-space: leave it out; the V1 engine",
                "--attn-impl: it is a setting of transformers and was never a flag",
            ],
        ),
        ("a flag nobody knows", SAMPLES["args-unrecognized"][2][1], {}, ["Remove --foo"]),
        (
            "marks of a shell",
            "api_server.py: error: unrecognized arguments: --limit-mm-per-prompt '{\"image\": 1}'",
            {},
            ["give --limit-mm-per-prompt and its value as two arguments"],
        ),
        ("what a shell says of a kill", "Killed", {}, ["dmesg", "gpu_memory_utilization"]),
        ("of a bus error", "Bus error (core dumped)", {}, ["/dev/shm"]),
        ("a step of systemd", SAMPLES["unit-not-set-up"][0][1], {}, ["Correct WorkingDirectory"]),
        ("the file of a unit's variables", SAMPLES["unit-not-set-up"][2][1], {}, ["Correct EnvironmentFile"]),
        ("bf16 of old", SAMPLES["args-invalid-choice"][0][1], {}, ["bfloat16 or auto"]),
        ("the choices", SAMPLES["args-invalid-choice"][-1][1], {}, ["Set dtype to one of: auto, half"]),
        (
            "the kind of a value",
            "api_server.py: error: argument --compilation-config/-O: 1 validation error for CompilationConfig\n"
            "  Input should be an object [type=dataclass_type, input_value=3, input_type=int]",
            {},
            ['compilation_config to a mapping, such as {"mode": 3}'],
        ),
        (
            "whose value is wrong",
            SAMPLES["args-invalid"][0][1],
            {},
            ["Set max_num_seqs in engine to a value of the type int; 'many' is none"],
        ),
        ("the longest spelling", SAMPLES["args-invalid"][4][1], {}, ["Correct compilation_config in engine"]),
        (
            "a key that a version does not know",
            SAMPLES["config-invalid"][2][1],
            {},
            ["Remove backendd from the setting"],
        ),
        ("no JSON", SAMPLES["config-invalid"][3][1], {}, ["Write kv_transfer_config as a mapping"]),
        ("what the model allows", SAMPLES["max-len-exceeds-model"][0][1], {}, ["131072 or less"]),
    ],
)
def test_remedy_names_numbers(why: str, text: str, facts: dict[str, t.Any], said: list[str]) -> None:
    remedy = diagnose(text, facts=facts).remedy
    assert [words for words in said if words not in remedy] == [], f"{why}: {remedy}"


@pytest.mark.parametrize(
    ("id", "sample", "said"),
    [
        ("mem-profiling-drift", 2, "released 7.23 GiB"),
        ("driver-too-old", 0, "it supports CUDA 12.8"),
        ("worker-died", 1, "SIGKILL"),
        ("cuda-oom", 0, "713.69 MiB of 79.18 GiB are free on GPU 0"),
        ("hf-repo-not-found", 3, "(/models/nothing)"),
        ("world-size", 1, "use 4 GPUs and sees 2"),
    ],
)
def test_cause_names_numbers(id: str, sample: int, said: str) -> None:
    assert said in diagnose(SAMPLES[id][sample][1]).cause


def test_a_remedy_that_is_used_can_be_said_of_nothing() -> None:
    for signature in SIGNATURES:
        assert say(signature.cause, Found())
        assert say(signature.remedy, Found())
